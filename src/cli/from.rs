//! `--from`: where to begin, as it is typed and as a gateway is asked for it.

use serde_json::{Value, json};

use crate::protocol::json::{last, rfc3339, since};
use crate::protocol::{From, cursor};

/// Reads what `subscribe` takes.
pub(super) fn subscribing(text: &str) -> Result<From, String> {
    match text {
        "live" => Ok(From::Live),
        "last" => Ok(From::Last),
        text => read(text).ok_or_else(|| format!("it is neither live nor last nor {KNOWN}")),
    }
}

/// Reads what `history` takes.
pub(super) fn reading(text: &str) -> Result<From, String> {
    read(text).ok_or_else(|| format!("it is not {KNOWN}"))
}

const KNOWN: &str = "a cursor, a number from 1 to 1000 or a time such as 2026-01-31T12:00:00Z";

fn read(text: &str) -> Option<From> {
    if text.bytes().all(|b| b.is_ascii_digit()) {
        return last(text.parse().ok()?).ok();
    }
    match cursor::parse(text) {
        Some(cursor) => Some(From::Cursor([cursor].into())),
        None => since(text).ok(),
    }
}

/// The same in a Command.
pub(super) fn value(from: &From) -> Value {
    match from {
        From::Live => json!("live"),
        From::Last => json!("last"),
        From::Cursor(_) => json!({ "cursor": query(from).1 }),
        From::LastN(n) => json!({ "last": n }),
        From::Since(_) => json!({ "since": query(from).1 }),
    }
}

/// The same in a query.
pub(super) fn query(from: &From) -> (&'static str, String) {
    match from {
        From::Live => ("from", "live".to_owned()),
        From::Last => ("from", "last".to_owned()),
        From::Cursor(cursors) => {
            let texts: Vec<String> = cursors.iter().map(ToString::to_string).collect();
            ("cursor", texts.join(","))
        }
        From::LastN(n) => ("last", n.to_string()),
        From::Since(time) => ("since", rfc3339(*time)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_is_what_is_asked_for() {
        for (text, expected) in [
            ("live", json!("live")),
            ("last", json!("last")),
            ("20", json!({"last": 20})),
            ("k3f7qa-1e7-77d0", json!({"cursor": "k3f7qa-1e7-77d0"})),
            ("2026-01-31T12:00:00Z", json!({"since": "2026-01-31T12:00:00.000Z"})),
            ("2026-01-31T13:00:00.5+01:00", json!({"since": "2026-01-31T12:00:00.500Z"})),
        ] {
            assert_eq!(value(&subscribing(text).unwrap()), expected, "{text}");
            assert_eq!(reading(text).is_ok(), !["live", "last"].contains(&text), "{text}");
        }
        for bad in ["", "0", "1001", "-1", "now", "k3f7qa", "K3F7QA-1", "2026-01-31", "5m"] {
            assert!(subscribing(bad).is_err(), "{bad}");
            assert!(reading(bad).is_err(), "{bad}");
        }
    }
}
