//! The door between nodes.
//!
//! Every Publication goes through the Bus, also when its publisher and its subscribers share a node:
//! one road, one order, one thing to test. A [`Bus`] has few calls, and each says what the caller
//! may count on; `laws` (in `tests/integration`) is the suite that every Bus must pass.
//!
//! The Bus knows Topics, Patterns and Publications. It knows no client, no Grant and no wire format.

pub mod call;
pub mod history;
pub mod memory;
pub mod nats;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use opentelemetry::metrics::Meter;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::publication::{Cursor, Publication, Timestamp};
use crate::topic::Pattern;
use call::{Answers, Call, Calls};
use history::{Head, Newest, Page, ReadError, Stored, Want};

/// The Bus that a node is assembled with.
#[derive(Clone)]
pub enum Door {
    /// One node alone.
    Memory(memory::Memory),
    /// Many nodes.
    Nats(nats::Nats),
}

/// A subscription of [`Door`].
pub enum Subscription {
    /// In memory.
    Memory(memory::Subscription),
    /// On NATS.
    Nats(nats::Subscription),
}

/// Carries Publications between nodes. One that keeps nothing leaves the calls about history as they
/// are here, and one for Publications alone those about what nodes say to each other.
pub trait Bus: Clone + Send + Sync + 'static {
    /// What [`subscribe`](Bus::subscribe) gives.
    type Live: Live;

    /// Hands a Publication over.
    ///
    /// `Ok` means that it is done: everyone whose `subscribe` had returned before gets it, or gets
    /// [`Arrival::Lost`] in its place. A caller that waits for each answer has its Publications
    /// delivered in that order. With [`PublishError::Unavailable`] or [`PublishError::TooBig`] nothing
    /// was handed over.
    fn publish(
        &self,
        publication: Publication,
    ) -> impl Future<Output = Result<Receipt, PublishError>> + Send;

    /// Listens to all Topics that a Pattern matches, from the moment it returns until the
    /// [`Live`] is dropped.
    fn subscribe(
        &self,
        pattern: &Pattern,
    ) -> impl Future<Output = Result<Self::Live, SubscribeError>> + Send;

    /// Listens to the whole of a kept Namespace, from the moment it returns: each stored Publication
    /// comes as [`Arrival::Stored`]. This road may lose, repeat and reorder; Offsets show it, and
    /// [`head`](Bus::head) shows what no later one does.
    fn follow(
        &self,
        namespace: &str,
    ) -> impl Future<Output = Result<Self::Live, SubscribeError>> + Send {
        let _ = namespace;
        async { Err(SubscribeError::Unavailable) }
    }

    /// Where the history of a kept Namespace stands. What had been stored before the call is counted.
    fn head(&self, namespace: &str) -> impl Future<Output = Result<Head, ReadError>> + Send {
        let _ = namespace;
        async { Err(ReadError::Unavailable) }
    }

    /// Reads from the front of what is wanted. Proven up to [`Page::end`], which lies above
    /// `want.from` or is `want.until`.
    fn read(
        &self,
        namespace: &str,
        want: Want<'_>,
    ) -> impl Future<Output = Result<Page, ReadError>> + Send {
        let _ = (namespace, want);
        async { Err(ReadError::Unavailable) }
    }

    /// The newest of each Topic that one of these Patterns matches; at most `topics_max` Topics.
    fn newest(
        &self,
        namespace: &str,
        patterns: &[Pattern],
        topics_max: usize,
    ) -> impl Future<Output = Result<Newest, ReadError>> + Send {
        let _ = (namespace, patterns, topics_max);
        async { Err(ReadError::Unavailable) }
    }

    /// The first Offset that was stored at this time or later and is still there.
    fn since(
        &self,
        namespace: &str,
        time: Timestamp,
    ) -> impl Future<Output = Result<Option<u64>, ReadError>> + Send {
        let _ = (namespace, time);
        async { Err(ReadError::Unavailable) }
    }

    /// Says something to every node, this one among them. Who does not hear it has missed it.
    fn tell(
        &self,
        call: Call,
        payload: Bytes,
    ) -> impl Future<Output = Result<(), CallError>> + Send {
        let _ = (call, payload);
        async { Err(CallError::Unavailable) }
    }

    /// The same, and up to so many answers. How long to wait for them is the caller's business.
    fn ask(
        &self,
        call: Call,
        payload: Bytes,
        answers_max: usize,
    ) -> impl Future<Output = Result<Answers, CallError>> + Send {
        let _ = (call, payload, answers_max);
        async { Err(CallError::Unavailable) }
    }

    /// Hears what any node says, from the moment it returns.
    fn hear(&self, call: Call) -> impl Future<Output = Result<Calls, CallError>> + Send {
        let _ = call;
        async { Err(CallError::Unavailable) }
    }

    /// The state of this node's link to all others.
    fn link(&self) -> watch::Receiver<Link>;
}

/// Whoever needs a link that has just been lost waits this long for it: who is moved from server to
/// server should not notice.
pub const MOMENT: Duration = Duration::from_millis(2_500);

/// Whether a node reaches the others.
#[derive(Debug, Clone)]
pub struct Link {
    /// Whether it does now.
    pub connected: bool,
    /// Since when.
    pub since: Instant,
    /// Rises whenever something may have been lost. Live subscriptions have said so by themselves.
    pub suspicions: u64,
    /// Why who can be reached will not do, in words.
    pub unfit: Option<Arc<str>>,
}

impl Link {
    /// A link of which nothing is known yet.
    #[must_use]
    pub fn new(connected: bool) -> Self {
        Self { connected, since: Instant::now(), suspicions: 0, unfit: None }
    }

    /// Whether it is whole, or is so within a moment since it was lost. Cancel-safe.
    pub async fn is_whole_soon(link: &watch::Receiver<Self>) -> bool {
        let mut link = link.clone();
        let since = link.borrow().since;
        let whole = timeout_at(since + MOMENT, link.wait_for(|now| now.connected)).await;
        whole.is_ok_and(|whole| whole.is_ok())
    }
}

/// One live subscription.
pub trait Live: Send + 'static {
    /// What comes next; none when the Bus has ended it. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Option<Arrival>> + Send;
}

/// What a live subscription brings.
#[derive(Debug, Clone)]
pub enum Arrival {
    /// A Publication that no history keeps.
    Publication(Arc<Publication>),
    /// One that is stored, with its place.
    Stored(Stored),
    /// Something that should have come here was lost since the last arrival.
    Lost,
}

/// What became of a Publication that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Its place, where history keeps it.
    pub cursor: Option<Cursor>,
    /// Whether it was there already, under the same id.
    pub duplicate: bool,
}

/// Why a Publication was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The Bus is not there, and nothing was handed over.
    #[error("the bus is not reachable; nothing was published")]
    Unavailable,
    /// The Bus takes none that large, and nothing was handed over.
    #[error("the payload and its headers have more than {max} bytes, the most that the bus takes")]
    TooBig {
        /// Of payload and headers, in bytes.
        max: usize,
    },
    /// History has no room for it.
    #[error("history has no room for more; nothing was stored")]
    StorageFull,
    /// It may have been handed over, and nothing says whether it was.
    #[error("the bus did not confirm it; it may have been published")]
    OutcomeUnknown,
}

/// Why a subscription could not begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubscribeError {
    /// The Bus is not there.
    #[error("the bus is not reachable")]
    Unavailable,
}

/// Why nothing was said or heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The Bus is not there, or does not let this node speak.
    #[error("the bus is not reachable")]
    Unavailable,
}

impl Door {
    /// Registers what it counts.
    pub fn observe(&self, meter: &Meter) {
        let link = self.link();
        meter
            .u64_observable_gauge("tidegate_bus_connected")
            .with_description("Whether this node reaches the others")
            .with_callback(move |observer| observer.observe(link.borrow().connected.into(), &[]))
            .build();
        let counted = match self {
            Self::Memory(_) => None,
            Self::Nats(nats) => Some(nats.counted()),
        };
        let reconnects = counted.clone();
        meter
            .u64_observable_counter("tidegate_bus_reconnects_total")
            .with_description("How often the link to NATS was made again")
            .with_callback(move |observer| {
                observer.observe(reconnects.as_ref().map_or(0, nats::Counted::reconnects), &[]);
            })
            .build();
        meter
            .u64_observable_counter("tidegate_bus_dropped_total")
            .with_description("Messages from NATS for which a queue of this node had no room")
            .with_callback(move |observer| {
                observer.observe(counted.as_ref().map_or(0, nats::Counted::dropped), &[]);
            })
            .build();
    }
}

impl Bus for Door {
    type Live = Subscription;

    async fn publish(&self, publication: Publication) -> Result<Receipt, PublishError> {
        match self {
            Self::Memory(bus) => bus.publish(publication).await,
            Self::Nats(bus) => bus.publish(publication).await,
        }
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription, SubscribeError> {
        match self {
            Self::Memory(bus) => bus.subscribe(pattern).await.map(Subscription::Memory),
            Self::Nats(bus) => bus.subscribe(pattern).await.map(Subscription::Nats),
        }
    }

    async fn follow(&self, namespace: &str) -> Result<Subscription, SubscribeError> {
        match self {
            Self::Memory(bus) => bus.follow(namespace).await.map(Subscription::Memory),
            Self::Nats(bus) => bus.follow(namespace).await.map(Subscription::Nats),
        }
    }

    async fn head(&self, namespace: &str) -> Result<Head, ReadError> {
        match self {
            Self::Memory(bus) => bus.head(namespace).await,
            Self::Nats(bus) => bus.head(namespace).await,
        }
    }

    async fn read(&self, namespace: &str, want: Want<'_>) -> Result<Page, ReadError> {
        match self {
            Self::Memory(bus) => bus.read(namespace, want).await,
            Self::Nats(bus) => bus.read(namespace, want).await,
        }
    }

    async fn newest(
        &self,
        namespace: &str,
        patterns: &[Pattern],
        topics_max: usize,
    ) -> Result<Newest, ReadError> {
        match self {
            Self::Memory(bus) => bus.newest(namespace, patterns, topics_max).await,
            Self::Nats(bus) => bus.newest(namespace, patterns, topics_max).await,
        }
    }

    async fn since(&self, namespace: &str, time: Timestamp) -> Result<Option<u64>, ReadError> {
        match self {
            Self::Memory(bus) => bus.since(namespace, time).await,
            Self::Nats(bus) => bus.since(namespace, time).await,
        }
    }

    async fn tell(&self, call: Call, payload: Bytes) -> Result<(), CallError> {
        match self {
            Self::Memory(bus) => bus.tell(call, payload).await,
            Self::Nats(bus) => bus.tell(call, payload).await,
        }
    }

    async fn ask(
        &self,
        call: Call,
        payload: Bytes,
        answers_max: usize,
    ) -> Result<Answers, CallError> {
        match self {
            Self::Memory(bus) => bus.ask(call, payload, answers_max).await,
            Self::Nats(bus) => bus.ask(call, payload, answers_max).await,
        }
    }

    async fn hear(&self, call: Call) -> Result<Calls, CallError> {
        match self {
            Self::Memory(bus) => bus.hear(call).await,
            Self::Nats(bus) => bus.hear(call).await,
        }
    }

    fn link(&self) -> watch::Receiver<Link> {
        match self {
            Self::Memory(bus) => bus.link(),
            Self::Nats(bus) => bus.link(),
        }
    }
}

impl Live for Subscription {
    async fn next(&mut self) -> Option<Arrival> {
        match self {
            Self::Memory(live) => live.next().await,
            Self::Nats(live) => live.next().await,
        }
    }
}
