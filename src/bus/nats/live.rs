//! What comes from NATS for one Pattern, as Publications.

use std::sync::Arc;

use async_nats::{HeaderMap, Message, Subscriber};
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tracing::debug;
use uuid::Uuid;

use super::denied::Refusals;
use super::subject::Subjects;
use crate::bus::{Arrival, Link, Live};
use crate::publication::{Publication, Timestamp, Trace};

/// The Publication's id.
pub(super) const ID: &str = "Nats-Msg-Id";
/// When it was taken, in milliseconds since 1970.
pub(super) const TIME: &str = "Tidegate-Time";
/// The subject of the Token that published it.
pub(super) const USER: &str = "Tidegate-User";

/// The trace that it belongs to.
pub(super) const TRACE_PARENT: &str = "traceparent";
/// What else its tracers say.
pub(super) const TRACE_STATE: &str = "tracestate";

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
    pub(super) now: fn() -> Timestamp,
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
                message = self.messages.next() => {
                    if let Some(publication) = self.read(&message?) {
                        return Some(Arrival::Publication(Arc::new(publication)));
                    }
                }
            }
        }
    }
}

impl Subscription {
    /// None for a subject that is no legal Topic: somebody else's message.
    fn read(&mut self, message: &Message) -> Option<Publication> {
        let Some(topic) = self.subjects.read(&self.namespace, &message.subject) else {
            self.skipped += 1;
            debug!(nats.subject = %message.subject, skipped = self.skipped, "It is no legal topic");
            return None;
        };
        let header = |name| message.headers.as_ref().and_then(|headers| last(headers, name));
        let time = header(TIME).and_then(|text| text.parse().ok()).map(Timestamp);
        Some(Publication {
            topic,
            id: header(ID).map_or_else(|| Uuid::now_v7().to_string().into(), Into::into),
            time: time.unwrap_or_else(self.now),
            user: header(USER).map(Into::into),
            payload: message.payload.clone(),
            trace: header(TRACE_PARENT).and_then(|parent| Trace::read(parent, header(TRACE_STATE))),
        })
    }
}

/// The last header of a name: what a node wrote stands behind what came from elsewhere.
fn last<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get_last(name).map(async_nats::HeaderValue::as_str).filter(|text| !text.is_empty())
}
