//! One message of a stream, as it comes: said again by the stream, or read from it.
//!
//! The server writes its own headers behind those that came with the message, so of each name the
//! *last* counts: whoever publishes can write the others.

use std::sync::Arc;

use async_nats::{HeaderMap, HeaderName, HeaderValue, Message};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;

use super::live;
use super::stream::millis;
use crate::bus::history::Stored;
use crate::publication::{Cursor, Epoch, Publication, Timestamp, Trace};
use crate::topic::Topic;

/// The stream that has it.
const STREAM: &str = "Nats-Stream";
/// Its Offset.
const SEQUENCE: &str = "Nats-Sequence";
/// When it was stored.
const TIME: &str = "Nats-Time-Stamp";
/// Where it was sent.
const SUBJECT: &str = "Nats-Subject";
/// In a page, the Offset of the message before it.
pub(super) const LAST_SEQUENCE: &str = "Nats-Last-Sequence";
/// The server's own message in place of what it took out.
const MARKER: &str = "Nats-Marker-Reason";

/// What the server says of a message.
pub(super) struct Place<'a> {
    headers: &'a HeaderMap,
    /// Its Offset.
    pub(super) offset: u64,
    /// When it was stored.
    pub(super) time: Timestamp,
}

/// A message as who leads the stream tells it: whatever its headers are, here they are only text.
#[derive(Deserialize)]
pub(super) struct Told {
    pub(super) seq: u64,
    pub(super) subject: String,
    time: String,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

impl Told {
    /// What it is told with.
    pub(super) fn bytes(&self) -> usize {
        self.subject.len() + self.hdrs.len() + self.data.len()
    }

    /// The whole of it, without those headers that cannot be read. None if it was told badly.
    pub(super) fn stored(&self, topic: Option<Topic>, epoch: Epoch) -> Option<Stored> {
        let payload = STANDARD.decode(&self.data).ok()?.into();
        let mut headers = HeaderMap::new();
        for line in STANDARD.decode(&self.hdrs).ok()?.split(|byte| *byte == b'\n').skip(1) {
            let line = std::str::from_utf8(line).ok().and_then(|line| line.split_once(':'));
            if let Some((name, value)) = line
                && let Ok(name) = name.parse::<HeaderName>()
                && let Ok(value) = value.trim().parse::<HeaderValue>()
            {
                headers.append(name, value);
            }
        }
        let place = Place { headers: &headers, offset: self.seq, time: millis(&self.time) };
        Some(place.stored(topic, &payload, epoch))
    }
}

impl<'a> Place<'a> {
    /// Reads it; none if this is no message of that stream.
    pub(super) fn read(message: &'a Message, stream: &str) -> Option<Self> {
        let headers = message.headers.as_ref()?;
        if last(headers, STREAM)? != stream {
            return None;
        }
        let offset = last(headers, SEQUENCE)?.parse().ok()?;
        Some(Self { headers, offset, time: millis(last(headers, TIME)?) })
    }

    /// Where it was sent.
    pub(super) fn subject(&self) -> &'a str {
        last(self.headers, SUBJECT).unwrap_or_default()
    }

    /// The whole of it. Without a Topic, or written by the server itself, it is nothing that clients
    /// could have subscribed to.
    pub(super) fn stored(self, topic: Option<Topic>, payload: &Bytes, epoch: Epoch) -> Stored {
        let Self { headers, offset, time } = self;
        let topic = topic.filter(|_| last(headers, MARKER).is_none());
        let publication = topic.map(|topic| {
            let id = last(headers, live::ID).map(Into::into);
            Arc::new(Publication {
                topic,
                // Every node and every reading must name it alike.
                id: id.unwrap_or_else(|| Cursor { epoch, offset, check: None }.to_string().into()),
                time,
                user: last(headers, live::USER).map(Into::into),
                // What stays in a ring must not hold the buffer that it was read into.
                payload: Bytes::copy_from_slice(payload),
                trace: last(headers, live::TRACE_PARENT)
                    .and_then(|parent| Trace::read(parent, last(headers, live::TRACE_STATE))),
            })
        });
        Stored { offset, time, publication }
    }
}

/// The last header of a name: what a node or a server wrote stands behind what came from elsewhere.
pub(super) fn last<'a>(headers: &'a HeaderMap, name: &'static str) -> Option<&'a str> {
    // A name that is known to be one costs nothing to look up.
    let value = headers.get_last(HeaderName::from_static(name));
    value.map(HeaderValue::as_str).filter(|text| !text.is_empty())
}
