//! What comes from NATS, as Publications: for one Pattern what anybody sent, for a kept Namespace what
//! its stream has stored and says again.

use std::future::pending;
use std::sync::Arc;

use async_nats::{Message, Subscriber};
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tracing::debug;
use uuid::Uuid;

use super::denied::Refusals;
use super::headers::Headers;
use super::history::Kept;
use super::stored::Place;
use super::subject::Subjects;
use crate::bus::{Arrival, Link, Live};
use crate::publication::{Publication, Timestamp};

/// A live subscription; dropping it ends it.
pub struct Subscription {
    pub(super) messages: Subscriber,
    /// What it listens to.
    pub(super) subject: String,
    /// Whose Topics it brings.
    pub(super) namespace: Box<str>,
    pub(super) subjects: Subjects,
    /// Messages that were nobody's.
    pub(super) skipped: u64,
    pub(super) link: watch::Receiver<Link>,
    pub(super) denied: watch::Receiver<Refusals>,
    pub(super) from: From,
}

/// Who is listened to.
pub(super) enum From {
    /// Whoever sends, and the clock for those who say no time.
    Anybody { now: fn() -> Timestamp },
    /// A stream. When another server comes to lead it, some of what it says may be lost.
    Stream { kept: Arc<Kept>, elections: Subscriber },
}

impl From {
    /// Waits until who says it is another.
    async fn changes(&mut self) {
        match self {
            Self::Anybody { .. } => pending().await,
            Self::Stream { elections, .. } => match elections.next().await {
                Some(_) => {}
                None => pending().await,
            },
        }
    }
}

impl Live for Subscription {
    async fn next(&mut self) -> Option<Arrival> {
        loop {
            tokio::select! {
                // Whatever changed, something may be missing since.
                changed = self.link.changed() => return changed.ok().map(|()| Arrival::Lost),
                refused = self.denied.changed() => {
                    if refused.is_err() || self.denied.borrow_and_update().subscribing(&self.subject) {
                        return None;
                    }
                }
                () = self.from.changes() => return Some(Arrival::Lost),
                message = self.messages.next() => {
                    let message = message?;
                    if let Some(arrival) = self.read(&message) {
                        return Some(arrival);
                    }
                    self.skipped += 1;
                    debug!(nats.subject = %message.subject, skipped = self.skipped, "It is nobody's");
                }
            }
        }
    }
}

impl Subscription {
    /// None for somebody else's message.
    fn read(&self, message: &Message) -> Option<Arrival> {
        let headers = Headers::read(message.headers.as_ref());
        let now = match &self.from {
            From::Anybody { now } => *now,
            From::Stream { kept, .. } => {
                let place = Place::of(headers, &kept.wanted.names.stream)?;
                let topic = self.subjects.read_said(&self.namespace, &message.subject);
                return Some(Arrival::Stored(place.stored(topic, &message.payload, kept.epoch()?)));
            }
        };
        let topic = self.subjects.read(&self.namespace, &message.subject)?;
        let time = headers.time.and_then(|text| text.parse().ok()).map(Timestamp);
        Some(Arrival::Publication(Arc::new(Publication {
            topic,
            id: headers.id.map_or_else(|| Uuid::now_v7().to_string().into(), Into::into),
            time: time.unwrap_or_else(now),
            user: headers.user.map(Into::into),
            payload: message.payload.clone(),
            trace: headers.trace(),
        })))
    }
}
