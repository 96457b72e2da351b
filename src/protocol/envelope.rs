//! A Publication with its wire encodings, each made at most once.
//!
//! A Feed makes one Envelope per Publication that somebody on this node wants, and every Shard and
//! Connection shares it. So nothing of one Connection may stand in it.

use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Serialize;

use super::json;
use crate::publication::{Cursor, Publication, Timestamp};
use crate::topic::Topic;

/// The `message` Push of one Publication, for everybody on this node.
#[derive(Debug)]
pub struct Envelope {
    topic: Topic,
    time: Timestamp,
    cursor: Option<Cursor>,
    text: Bytes,
    framed: OnceLock<Bytes>,
}

impl Envelope {
    /// Encodes a Publication, with its place where history keeps it.
    #[must_use]
    pub fn new(publication: &Publication, cursor: Option<Cursor>) -> Self {
        Self {
            topic: publication.topic.clone(),
            time: publication.time,
            cursor,
            text: message(publication, cursor).into(),
            framed: OnceLock::new(),
        }
    }

    /// Where it goes.
    #[must_use]
    pub const fn topic(&self) -> &Topic {
        &self.topic
    }

    /// When it was taken.
    #[must_use]
    pub const fn time(&self) -> Timestamp {
        self.time
    }

    /// Its place, where history keeps it.
    #[must_use]
    pub const fn cursor(&self) -> Option<Cursor> {
        self.cursor
    }

    /// The JSON text, on one line.
    #[must_use]
    pub const fn text(&self) -> &Bytes {
        &self.text
    }

    /// The text as a socket takes it; the first that asks puts it into a frame.
    pub fn framed(&self, frame: impl FnOnce(&Bytes) -> Bytes) -> &Bytes {
        self.framed.get_or_init(|| frame(&self.text))
    }
}

/// All of the `message` Push but its payload.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Head<'a> {
    r#type: &'static str,
    /// Where it was published, never a pattern.
    topic: &'a Topic,
    /// Names it. Not to be taken apart.
    id: &'a str,
    /// Its place, where history keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<Cursor>,
    /// When it was stored; on best effort, when a node took it.
    #[cfg_attr(test, schemars(with = "Timestamp"))]
    time: String,
    /// The `sub` of the token it was published with, as the node wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
}

/// Writes the `message` Push.
fn message(publication: &Publication, cursor: Option<Cursor>) -> Vec<u8> {
    let head = Head {
        r#type: "message",
        topic: &publication.topic,
        id: &publication.id,
        cursor,
        time: json::rfc3339(publication.time),
        user: publication.user.as_deref(),
    };
    let mut out = serde_json::to_vec(&head).unwrap_or_default();
    out.pop();
    out.reserve(publication.payload.len() + 16);
    write_payload(&publication.payload, &mut out);
    out.push(b'}');
    out
}

/// Writes `data`, `data_base64` or `deleted`: what the publisher sent decides.
fn write_payload(payload: &[u8], out: &mut Vec<u8>) {
    if payload.is_empty() {
        out.extend_from_slice(br#","deleted":true"#);
        return;
    }
    match std::str::from_utf8(payload) {
        Ok(text) if json::is_valid(text) => {
            out.extend_from_slice(br#","data":"#);
            // Outside of strings these are white space, inside of them JSON has none: a Frame is one
            // line.
            out.extend(
                text.trim().bytes().map(|b| if matches!(b, b'\r' | b'\n') { b' ' } else { b }),
            );
        }
        Ok(text) => {
            out.extend_from_slice(br#","data":"#);
            out.extend(serde_json::to_vec(text).unwrap_or_default());
        }
        Err(_) => {
            out.extend_from_slice(br#","data_base64":""#);
            out.extend_from_slice(STANDARD.encode(payload).as_bytes());
            out.push(b'"');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(payload: &[u8]) -> String {
        let publication = Publication {
            topic: Topic::parse("dash.eu").unwrap(),
            id: "0193a0".into(),
            time: Timestamp(0),
            user: Some("ana".into()),
            payload: Bytes::copy_from_slice(payload),
            trace: None,
        };
        String::from_utf8(Envelope::new(&publication, None).text().to_vec()).unwrap()
    }

    #[test]
    fn the_payload_decides_its_field() {
        let head = r#"{"type":"message","topic":"dash.eu","id":"0193a0","time":"1970-01-01T00:00:00.000Z","user":"ana","#;
        for (payload, tail) in [
            (&b"{\"v\" : 1}"[..], r#""data":{"v" : 1}}"#),
            (b" [1,\r\n2]\n", r#""data":[1,  2]}"#),
            (b"up", r#""data":"up"}"#),
            (b"a\nb", r#""data":"a\nb"}"#),
            (b"\xff\xfe", r#""data_base64":"//4="}"#),
            (b"", r#""deleted":true}"#),
            (b"null", r#""data":null}"#),
        ] {
            assert_eq!(text(payload), format!("{head}{tail}"));
        }
    }

    proptest! {
        #[test]
        fn whatever_is_sent_is_one_line_of_json(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let text = text(&payload);
            prop_assert!(!text.contains(['\r', '\n']));
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok());
        }
    }
}
