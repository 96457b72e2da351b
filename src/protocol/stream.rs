//! A stream as its reader gets it: Server-Sent Events, or lines of JSON.
//!
//! The JSON text of a Publication was made once for everybody; a stream's own is the `id:` line in
//! front of it. An [`Encoder`] belongs to one stream. It is asked when something leaves, not when it
//! begins to wait, so an `id:` is never ahead of what was sent.
//!
//! LAW: no field holds what a client wrote, but for `data:`, and that is JSON on one line. So nothing
//! that is published breaks out of its field.

use std::fmt::Write as _;
use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::cursor::LISTED_MAX;
use super::{Close, Envelope, Push, json};
use crate::publication::Cursor;

/// What may stand before a text: an `id:` line with all the Cursors that there can be, and some.
pub const HEAD_BYTES_MAX: usize = 1_024;

/// How a stream is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `text/event-stream`
    #[default]
    Events,
    /// `application/x-ndjson`
    Lines,
}

/// What a stream can carry.
#[derive(Debug, Clone)]
pub enum Item {
    /// A Publication.
    Publication(Arc<Envelope>),
    /// What the node says unasked.
    Push(Push),
    /// When a reader that is cut off should come back, in milliseconds.
    Retry(u64),
    /// A sign of life.
    Alive,
    /// The end, and why.
    Close(Close),
}

/// Writes one stream.
#[derive(Debug)]
pub struct Encoder {
    format: Format,
    /// Of how many kept Namespaces it will write.
    namespaces: usize,
    /// How far each of them has come of which anything was sent.
    places: Vec<(Box<str>, Cursor)>,
    /// Where the client had come to, of those of which nothing was sent yet: cut off now, it goes on
    /// from there.
    brought: Vec<Cursor>,
}

impl Encoder {
    /// One that is to write of so many kept Namespaces, to a client that brought these Cursors.
    #[must_use]
    pub fn new(format: Format, namespaces: usize, brought: Vec<Cursor>) -> Self {
        let brought = if namespaces == 0 { Vec::new() } else { brought };
        Self { format, namespaces, places: Vec::new(), brought }
    }

    /// How it writes.
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// Writes what stands before the text of this item, at most [`HEAD_BYTES_MAX`], and gives the
    /// text, behind which [`tail`](Self::tail) is to stand. None: there is no more to it.
    pub fn begin(&mut self, item: &Item, out: &mut BytesMut) -> Option<Bytes> {
        match (item, self.format) {
            (Item::Publication(envelope), format) => {
                if let Some(cursor) = envelope.cursor() {
                    self.reach(envelope.topic().namespace(), cursor);
                }
                if format == Format::Events {
                    self.write_id(out);
                    out.put_slice(b"data: ");
                }
                Some(envelope.text().clone())
            }
            (Item::Push(push), format) => {
                let event = match push {
                    Push::Gap { .. } => "gap",
                    Push::Bus { .. } => "bus",
                    Push::Position { namespace, cursor } => {
                        self.reach(namespace, *cursor);
                        "position"
                    }
                    // A stream answers nothing, and is told to leave when it is time.
                    Push::Replay { .. }
                    | Push::Unsubscribed { .. }
                    | Push::GoingAway { .. }
                    | Push::Ping => return None,
                };
                if format == Format::Events {
                    self.write_event(event, out);
                }
                Some(json::push(push))
            }
            (Item::Retry(ms), Format::Events) => {
                let _ = write!(out, "retry: {ms}\n\n");
                None
            }
            (Item::Retry(_), Format::Lines) => None,
            (Item::Alive, Format::Events) => {
                out.put_slice(b":\n\n");
                None
            }
            (Item::Alive, Format::Lines) => Some(json::push(&Push::Ping)),
            (Item::Close(close), format) => {
                let reason = close.reason();
                let fields = reason.strip_prefix('{')?;
                if format == Format::Lines {
                    return Some(format!(r#"{{"type":"close",{fields}"#).into());
                }
                if let Close::Later(_, ms) = close {
                    let _ = writeln!(out, "retry: {ms}");
                }
                self.write_event("close", out);
                Some(reason.into())
            }
        }
    }

    /// What stands behind each text.
    #[must_use]
    pub const fn tail(&self) -> &'static [u8] {
        match self.format {
            Format::Events => b"\n\n",
            Format::Lines => b"\n",
        }
    }

    /// Everything up to here was sent, of all that the stream wants of this Namespace.
    fn reach(&mut self, namespace: &str, cursor: Cursor) {
        match self.places.iter_mut().find(|(known, _)| **known == *namespace) {
            Some((_, place)) => *place = cursor,
            None => self.places.push((namespace.into(), cursor)),
        }
        self.brought.retain(|brought| brought.epoch != cursor.epoch);
        if self.places.len() >= self.namespaces {
            // Whatever is left belongs to no history that is there, and that was told.
            self.brought = Vec::new();
        }
    }

    /// Writing into a buffer cannot fail.
    fn write_id(&self, out: &mut BytesMut) {
        let places = self.places.iter().map(|(_, cursor)| cursor).chain(&self.brought);
        for (at, cursor) in places.take(LISTED_MAX).enumerate() {
            let _ = write!(out, "{}{cursor}", if at == 0 { "id: " } else { "," });
        }
        if !self.places.is_empty() || !self.brought.is_empty() {
            out.put_u8(b'\n');
        }
    }

    /// With an `id:` only where the event is about a place: it is news to nobody else.
    fn write_event(&self, event: &str, out: &mut BytesMut) {
        let _ = writeln!(out, "event: {event}");
        if event == "position" {
            self.write_id(out);
        }
        out.put_slice(b"data: ");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::cursor::{self, LISTED_MAX};
    use crate::protocol::{Code, GapReason};
    use crate::publication::{Epoch, Publication, Timestamp};
    use crate::topic::{Pattern, Topic};
    use proptest::prelude::*;

    fn written(encoder: &mut Encoder, item: &Item) -> String {
        let mut out = BytesMut::new();
        if let Some(text) = encoder.begin(item, &mut out) {
            assert!(out.len() <= HEAD_BYTES_MAX);
            out.put_slice(&text);
            out.put_slice(encoder.tail());
        }
        String::from_utf8(out.to_vec()).unwrap()
    }

    fn publication(topic: &str, payload: &[u8], offset: Option<u64>) -> Item {
        let publication = Publication {
            topic: Topic::parse(topic).unwrap(),
            id: "1".into(),
            time: Timestamp(0),
            user: None,
            payload: Bytes::copy_from_slice(payload),
            trace: None,
        };
        let namespace = u32::try_from(topic.len()).unwrap();
        let at = |offset| Cursor::at(Epoch::new(namespace), offset, Timestamp(0));
        Item::Publication(Arc::new(Envelope::new(&publication, offset.map(at))))
    }

    /// Each kind, in both formats.
    #[test]
    fn each_item_is_written_as_the_protocol_says() {
        let mut events = Encoder::new(Format::Events, 1, Vec::new());
        let mut lines = Encoder::new(Format::Lines, 1, Vec::new());
        let text =
            r#"{"type":"message","topic":"a","id":"1","time":"1970-01-01T00:00:00.000Z","data":1}"#;
        let gap = Push::Gap {
            topic: Pattern::parse("a.>").unwrap(),
            reason: GapReason::EpochChanged,
            missed: None,
        };
        let position = Push::Position {
            namespace: "kept".into(),
            cursor: cursor::parse("aaaaae-1f").unwrap(),
        };
        for (item, event, line) in [
            (Item::Retry(2_000), "retry: 2000\n\n".to_owned(), String::new()),
            (Item::Alive, ":\n\n".to_owned(), "{\"type\":\"ping\"}\n".to_owned()),
            (publication("a", b"1", None), format!("data: {text}\n\n"), format!("{text}\n")),
            (
                Item::Push(gap),
                "event: gap\ndata: {\"type\":\"gap\",\"topic\":\"a.>\",\"reason\":\"epoch_changed\"}\n\n"
                    .to_owned(),
                "{\"type\":\"gap\",\"topic\":\"a.>\",\"reason\":\"epoch_changed\"}\n".to_owned(),
            ),
            (
                Item::Push(position),
                "event: position\nid: aaaaae-1f\ndata: {\"type\":\"position\",\"namespace\":\"kept\",\"cursor\":\"aaaaae-1f\"}\n\n"
                    .to_owned(),
                "{\"type\":\"position\",\"namespace\":\"kept\",\"cursor\":\"aaaaae-1f\"}\n".to_owned(),
            ),
            // From here on the place of `kept` goes with each Publication.
            (
                publication("a", b"1", None),
                format!("id: aaaaae-1f\ndata: {text}\n\n"),
                format!("{text}\n"),
            ),
            (Item::Push(Push::GoingAway { reconnect_in_ms: 1 }), String::new(), String::new()),
            (
                Item::Close(Close::Later(Code::Draining, 40)),
                "retry: 40\nevent: close\ndata: {\"code\":\"draining\",\"retry\":true,\"ms\":40}\n\n"
                    .to_owned(),
                "{\"type\":\"close\",\"code\":\"draining\",\"retry\":true,\"ms\":40}\n".to_owned(),
            ),
            (
                Item::Close(Close::Refused(Code::TokenExpired)),
                "event: close\ndata: {\"code\":\"token_expired\",\"retry\":false}\n\n".to_owned(),
                "{\"type\":\"close\",\"code\":\"token_expired\",\"retry\":false}\n".to_owned(),
            ),
        ] {
            assert_eq!(written(&mut events, &item), event);
            assert_eq!(written(&mut lines, &item), line);
        }
    }

    /// As many Namespaces as a stream may have, at their longest: the `id:` can be sent back.
    #[test]
    fn an_id_of_all_namespaces_is_read_again() {
        let mut encoder = Encoder::new(Format::Events, usize::MAX, Vec::new());
        let mut last = String::new();
        for length in 1..=LISTED_MAX {
            let topic = format!("{}.a", "n".repeat(length));
            last = written(&mut encoder, &publication(&topic, b"1", Some(u64::MAX)));
        }
        let id = last.strip_prefix("id: ").and_then(|rest| rest.split_once('\n')).unwrap().0;
        assert_eq!(cursor::parse_list(id).unwrap().len(), LISTED_MAX);
    }

    /// A client that is cut off before anything of a Namespace came keeps the Cursor that it brought;
    /// one of no history that is there goes when all have come.
    #[test]
    fn a_cursor_stays_until_its_namespace_has_come() {
        let brought = cursor::parse_list("aaaaad-1,aaaaae-2,zzzzzz-3").unwrap();
        let mut encoder = Encoder::new(Format::Events, 2, brought);
        let id = |text: String| text.split_once('\n').unwrap().0.to_owned();
        let mut next = |item: Item| id(written(&mut encoder, &item));
        assert_eq!(next(publication("x", b"1", None)), "id: aaaaad-1,aaaaae-2,zzzzzz-3");
        assert_eq!(next(publication("k.a", b"1", Some(9))), "id: aaaaad-9-0000,aaaaae-2,zzzzzz-3");
        assert_eq!(next(publication("ka.a", b"1", Some(8))), "id: aaaaad-9-0000,aaaaae-8-0000");
    }

    proptest! {
        /// Whatever is published, in an event there are an `id:`, a `data:` and the blank line.
        #[test]
        fn nothing_breaks_out(payload in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut encoder = Encoder::new(Format::Events, 1, Vec::new());
            let text = written(&mut encoder, &publication("a.b", &payload, Some(7)));
            let lines: Vec<&str> = text.split(['\n', '\r']).collect();
            prop_assert_eq!(lines.len(), 4);
            prop_assert_eq!((&lines[0][..4], &lines[1][..7]), ("id: ", "data: {"));
            prop_assert!(!text.contains('\0'));
        }
    }
}
