//! Sizes and durations as an operator writes them: `64KiB`, `10s`.
//!
//! A number and a unit, nothing between but blanks, no fractions and no sums: what stands in a file
//! is what is in force, and [`size_text`] and [`span_text`] write it back the same way.

use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error as _};
use serde::ser::Serializer;

const SIZES: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("", 1)];
const SPANS_MS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];

/// Reads a size such as `65536`, `64KiB` or `1GiB`.
#[must_use]
pub fn size(text: &str) -> Option<usize> {
    measure(text, &SIZES).and_then(|bytes| usize::try_from(bytes).ok())
}

/// Reads a duration such as `10s`, `500ms`, `5m` or `1h`.
#[must_use]
pub fn span(text: &str) -> Option<Duration> {
    measure(text, &SPANS_MS).map(Duration::from_millis)
}

/// Writes a size in the largest unit that holds it whole.
#[must_use]
pub fn size_text(bytes: usize) -> String {
    measured(bytes as u64, &SIZES)
}

/// Writes a duration in the largest unit that holds it whole.
#[must_use]
pub fn span_text(span: Duration) -> String {
    measured(u64::try_from(span.as_millis()).unwrap_or(u64::MAX), &SPANS_MS)
}

fn measure(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim_start())?;
    number.parse::<u64>().ok()?.checked_mul(*factor)
}

fn measured(number: u64, units: &[(&str, u64)]) -> String {
    let fits = units.iter().find(|(_, factor)| number >= *factor && number.is_multiple_of(*factor));
    let (unit, factor) = fits.or(units.last()).unwrap_or(&("", 1));
    format!("{}{unit}", number / factor)
}

/// Reads a size for serde.
pub fn read_size<'de, D: Deserializer<'de>>(from: D) -> Result<usize, D::Error> {
    let text = String::deserialize(from)?;
    size(&text)
        .ok_or_else(|| D::Error::custom(format!("{text:?} is no size such as 65536 or 64KiB")))
}

/// Reads a duration for serde.
pub fn read_span<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    span(&text)
        .ok_or_else(|| D::Error::custom(format!("{text:?} is no duration such as 10s or 500ms")))
}

/// Writes a size for serde.
pub fn write_size<S: Serializer>(bytes: &usize, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&size_text(*bytes))
}

/// Writes a duration for serde.
pub fn write_span<S: Serializer>(span: &Duration, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(&span_text(*span))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_spans_are_read_as_they_are_written() {
        for (text, bytes) in [("0", 0), ("65537", 65_537), ("64KiB", 65_536), ("3 MiB", 3 << 20)] {
            assert_eq!(size(text), Some(bytes), "{text}");
            assert_eq!(size(&size_text(bytes)), Some(bytes), "{text}");
        }
        for (text, ms) in
            [("0ms", 0), ("500ms", 500), ("10s", 10_000), ("5m", 300_000), ("1h", 3_600_000)]
        {
            assert_eq!(span(text), Some(Duration::from_millis(ms)), "{text}");
            assert_eq!(span_text(Duration::from_millis(ms)), text);
        }
        for bad in ["", "KiB", "1kb", "-1", "1.5MiB", "99999999999GiB", "10s"] {
            assert_eq!(size(bad), None, "{bad}");
        }
        for bad in ["", "10", "s", "1d"] {
            assert_eq!(span(bad), None, "{bad}");
        }
    }
}
