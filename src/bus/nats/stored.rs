//! One message of a stream, as it comes: said again by the stream, or read from it.

use std::sync::Arc;

use async_nats::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;

use super::headers::Headers;
use super::stream::millis;
use crate::bus::history::Stored;
use crate::publication::{Cursor, Epoch, Publication, Timestamp};
use crate::topic::Topic;

/// What the server says of a message.
pub(super) struct Place<'a> {
    headers: Headers<'a>,
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
        let headers = Headers::read(Some(&headers));
        let place = Place { headers, offset: self.seq, time: millis(&self.time) };
        Some(place.stored(topic, &payload, epoch))
    }
}

impl<'a> Place<'a> {
    /// Where it is; none if this is no message of that stream.
    pub(super) fn of(headers: Headers<'a>, stream: &str) -> Option<Self> {
        if headers.stream? != stream {
            return None;
        }
        let (offset, time) = (headers.sequence?.parse().ok()?, millis(headers.stored_at?));
        Some(Self { headers, offset, time })
    }

    /// Where it was sent.
    pub(super) fn subject(&self) -> &'a str {
        self.headers.subject.unwrap_or_default()
    }

    /// The whole of it. Without a Topic, or written by the server itself, it is nothing that clients
    /// could have subscribed to.
    pub(super) fn stored(self, topic: Option<Topic>, payload: &Bytes, epoch: Epoch) -> Stored {
        let Self { headers, offset, time } = self;
        let topic = topic.filter(|_| headers.marker.is_none());
        let publication = topic.map(|topic| {
            let id = headers.id.map(Into::into);
            Arc::new(Publication {
                topic,
                // Every node and every reading must name it alike.
                id: id.unwrap_or_else(|| Cursor { epoch, offset, check: None }.to_string().into()),
                time,
                user: headers.user.map(Into::into),
                // What stays in a ring must not hold the buffer that it was read into.
                payload: Bytes::copy_from_slice(payload),
                trace: headers.trace(),
            })
        });
        Stored { offset, time, publication }
    }
}
