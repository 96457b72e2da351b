//! Cursors as text: what clients keep and send back as it came.
//!
//! `<epoch>-<offset>[-<check>]`: six characters of `a-z2-7`, a number in lower hexadecimal without a
//! leading zero, and four hexadecimal digits. A client may compare Offsets within one Epoch, and checks
//! at one Offset; nothing else in it is for clients. There is one way to write a Cursor, and nothing
//! else is read.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::publication::{Cursor, Epoch};

/// Characters of an Epoch, five bits each.
const EPOCH_CHARACTERS: u32 = 6;
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
/// Digits of the largest Offset.
const OFFSET_DIGITS_MAX: usize = 16;
const CHECK_DIGITS: usize = 4;
/// Most Cursors that one text may list: one for each Namespace of a stream, and as many again of
/// histories that are no more, until their client has been told.
pub const LISTED_MAX: usize = 32;

impl fmt::Display for Epoch {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in (0..EPOCH_CHARACTERS).rev() {
            let five = (self.bits() >> (5 * place)) & 31;
            let letter = ALPHABET.get(five as usize).copied().unwrap_or(b'a');
            write!(out, "{}", char::from(letter))?;
        }
        Ok(())
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{:x}", self.epoch, self.offset)?;
        match self.check {
            Some(check) => write!(out, "-{check:04x}"),
            None => Ok(()),
        }
    }
}

impl Serialize for Cursor {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

/// Reads a Cursor; none for anything that is not written exactly as one.
#[must_use]
pub fn parse(text: &str) -> Option<Cursor> {
    let mut parts = text.split('-');
    let epoch = epoch(parts.next()?)?;
    let offset = parts.next()?;
    if !(1..=OFFSET_DIGITS_MAX).contains(&offset.len())
        || (offset.len() > 1 && offset.starts_with('0'))
    {
        return None;
    }
    let offset = hex(offset)?;
    let check = match parts.next() {
        Some(text) if text.len() == CHECK_DIGITS => Some(u16::try_from(hex(text)?).ok()?),
        Some(_) => return None,
        None => None,
    };
    parts.next().is_none().then_some(Cursor { epoch, offset, check })
}

/// Reads Cursors joined by commas, as a request may say them for several Namespaces at once.
#[must_use]
pub fn parse_list(text: &str) -> Option<Vec<Cursor>> {
    let cursors: Option<Vec<Cursor>> = text.split(',').take(LISTED_MAX + 1).map(parse).collect();
    cursors.filter(|cursors| cursors.len() <= LISTED_MAX)
}

fn epoch(text: &str) -> Option<Epoch> {
    if text.len() != EPOCH_CHARACTERS as usize {
        return None;
    }
    let mut bits = 0;
    for letter in text.bytes() {
        let five = ALPHABET.iter().position(|known| *known == letter)?;
        bits = bits << 5 | u32::try_from(five).ok()?;
    }
    Some(Epoch::new(bits))
}

/// Lower case alone: there is one way to write a Cursor.
fn hex(digits: &str) -> Option<u64> {
    let legal = digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    legal.then(|| u64::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_one_spelling_is_read() {
        let text = "k3f7qa-1e7-77d0";
        let cursor = parse(text).unwrap();
        assert_eq!(cursor.to_string(), text);
        assert_eq!((cursor.offset, cursor.check), (0x1e7, Some(0x77d0)));
        for bad in [
            "",
            "k3f7qa",
            "k3f7qa-",
            "k3f7qa-01",
            "k3f7qa-1E7",
            "k3f7qa-1e7-",
            "k3f7qa-1e7-77d",
            "k3f7qa-1e7-77d00",
            "k3f7qa-1e7-77d0-",
            "k3f7q1-1e7",
            "K3F7QA-1e7",
            "k3f7qaa-1e7",
            "k3f7qa-+1e7",
            "k3f7qa-11112222333344445",
            " k3f7qa-1",
            "k3f7qa-1 ",
            "k3f7qa-1,k3f7qa-2",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse_list("k3f7qa-1,aaaaaa-0").unwrap().len(), 2);
        assert_eq!(parse_list(&["k3f7qa-1"; LISTED_MAX + 1].join(",")), None);
        assert_eq!(parse_list("k3f7qa-1,"), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_the_same(
            bits in any::<u32>(),
            offset in any::<u64>(),
            check in any::<Option<u16>>(),
        ) {
            let cursor = Cursor { epoch: Epoch::new(bits), offset, check };
            let text = cursor.to_string();
            prop_assert!(text.len() <= 28);
            prop_assert_eq!(parse(&text), Some(cursor));
        }

        #[test]
        fn no_text_is_read_twice(text in "[a-z2-7]{5,7}-[0-9a-f]{0,17}(-[0-9a-f]{3,5})?") {
            if let Some(cursor) = parse(&text) {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }
}
