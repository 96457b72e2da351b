//! The node's Feeds, shared by all Shards: one upstream subscription for each kept Namespace, and for
//! best effort one for each distinct Pattern.
//!
//! Clients come and go by the thousand; the Bus should notice little of it. The first attach opens a
//! Feed. When the last Shard has let go of it, it lingers, so that a page reload costs nothing
//! upstream. This file is the directory, one actor that knows which Feeds are open and who is
//! interested. A Feed itself is `live` (best effort) or `kept`, which also brings what was missed:
//! from its `ring`, else from history (`attach`, `history`, `read`), and mends its holes (`repair`).
//! They know the Bus, Publications and Envelopes; they know no Connection and no socket. Shards speak
//! to them through [`Feeds`] and hear from them through their own inbox, where the order of [`Event`]s
//! is the order of their world.
//!
//! ```text
//!     first attach         subscribed         last detach          `linger` over
//!          ─────▶ opening ───────────▶ open ──────────▶ lingering ───────────▶ closed
//!                                       ▲                   │
//!                                       └───── attach ──────┘
//! ```

mod attach;
mod history;
mod kept;
#[cfg(test)]
mod lagging;
mod live;
mod meters;
mod opening;
mod read;
mod receiver;
mod repair;
mod ring;
mod waiting;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::time::{DelayQueue, delay_queue};

use crate::bus::Bus;
use crate::namespace::Namespaces;
use crate::protocol::replay::{Begin, Replay};
use crate::protocol::{Code, Envelope, Error, From, GapReason, Limit};
use crate::publication::Cursor;
use crate::topic::{Pattern, Topic};
pub use meters::{Fanout, Meters};

/// Asks that may wait for the directory. Shards keep their own bound on attaches below this.
pub const INBOX_ITEMS: usize = 65_536;
/// Asks that may wait for one Feed; it reads them at once, so the directory hardly ever waits here.
const FEED_INBOX_ITEMS: usize = 1_024;

/// How Feeds behave.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long a Feed stays open without anybody who wants it.
    pub linger: Duration,
    /// Most best-effort Feeds open at once.
    pub feeds: usize,
    /// Which Namespaces are kept.
    pub namespaces: Arc<Namespaces>,
    /// Publications of a kept Feed's ring.
    pub ring_items: usize,
    /// Their bytes.
    pub ring_bytes: usize,
    /// Bytes of all rings of the node.
    pub rings_bytes: usize,
    /// Publications of one part of a replay, or of one page.
    pub part_items: usize,
    /// Its bytes, as an Outbox counts them; one Publication always fits.
    pub part_bytes: usize,
    /// Bytes that one read of history keeps for those who wait for it.
    pub read_bytes: usize,
    /// Topics of one snapshot.
    pub snapshot_topics: usize,
    /// Attaches of one kept Feed that may wait.
    pub attaches_waiting: usize,
    /// Quiet Subscriptions hear their place this often.
    pub position: Duration,
    /// Spreads what nodes would else do in step.
    pub seed: u64,
    /// What they count.
    pub meters: Arc<Meters>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            linger: Duration::from_secs(30),
            feeds: 20_000,
            namespaces: Arc::default(),
            ring_items: 16_384,
            ring_bytes: 16 << 20,
            rings_bytes: 256 << 20,
            part_items: 1_000,
            part_bytes: 96 << 10,
            read_bytes: 96 << 20,
            snapshot_topics: 1_024,
            attaches_waiting: 20_000,
            position: Duration::from_secs(25),
            seed: 1,
            meters: Arc::default(),
        }
    }
}

/// What a Feed brings: the Topics of one Pattern, or a whole kept Namespace.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// Best effort.
    Pattern(Pattern),
    /// Kept.
    Namespace(Arc<str>),
}

impl fmt::Display for Source {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern(pattern) => pattern.fmt(out),
            Self::Namespace(name) => name.fmt(out),
        }
    }
}

/// Which Shard, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ShardId(pub u16);

/// A Subscription, as its Shard names it to a Feed and knows it again in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// The Connection.
    pub connection: u64,
    /// The Subscription's number on it.
    pub number: u32,
}

/// What a Feed puts into a Shard's inbox.
#[derive(Debug)]
pub enum Event {
    /// What a Subscription missed, or the next part of it. With the last part it has joined:
    /// everything behind this in the inbox is for it.
    Attached(Ticket, Box<Replay>),
    /// It has not joined, and will not.
    Refused(Ticket, AttachError),
    /// A Publication came; some are followed.
    Live(Source, Arc<Envelope>, Option<Arc<Fanout>>),
    /// Every Subscription of this Feed on this Shard lost something.
    Gap(Source, GapReason),
    /// The same, because the Shard's inbox was full. Of a kept Namespace its Subscriptions have had all
    /// up to this place, get nothing more, and are to attach again from there.
    Overrun(Source, Option<Cursor>),
    /// The Subscriptions to this kept Namespace have had all up to here.
    Position(Arc<str>, Cursor),
}

/// A page of history, or of a snapshot.
#[derive(Debug)]
pub struct Page {
    /// By rising Offset.
    pub envelopes: Vec<Arc<Envelope>>,
    /// Of a snapshot: the place from which to subscribe for what comes after it.
    pub cursor: Cursor,
    /// Where the next page begins, if there is more.
    pub next: Option<Cursor>,
}

/// Which page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// The history of a Topic.
    History {
        /// The Topic.
        topic: Topic,
        /// Where to begin; none: with the oldest.
        from: Option<From>,
        /// Most Publications.
        limit: usize,
    },
    /// The newest value of each Topic.
    Snapshot {
        /// Which Topics.
        pattern: Pattern,
        /// Where the page before ended.
        above: Option<Cursor>,
    },
}

/// Why an attach failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// The Bus is not there.
    #[error("the bus is not reachable")]
    BusUnavailable,
    /// A bound of the node is reached.
    #[error("this node has too many topics and patterns open")]
    Overloaded(Limit),
    /// More Topics than one snapshot may have.
    #[error("more topics match than one snapshot may hold")]
    TooManyTopics,
}

impl AttachError {
    /// The same, as clients hear it.
    #[must_use]
    pub fn wire(self) -> Error {
        let words = self.to_string();
        match self {
            Self::BusUnavailable => Error::new(Code::BusUnavailable, words),
            Self::Overloaded(limit) => Error::new(Code::Overloaded, words).at(limit),
            Self::TooManyTopics => Error::new(Code::TooManyTopics, words).at(Limit::SnapshotTopics),
        }
    }
}

/// Why there is no page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// The Bus is not there.
    #[error("the bus is not reachable")]
    BusUnavailable,
    /// A bound of the node is reached.
    #[error("this node has too many reads under way")]
    Overloaded,
    /// More Topics than one snapshot may have.
    #[error("more topics match than one snapshot may hold")]
    TooManyTopics,
    /// The Cursor is of another history.
    #[error("the cursor belongs to another history than the one that is there")]
    ForeignCursor,
    /// Nothing is kept there.
    #[error("this namespace keeps no history")]
    NotKept,
}

impl PageError {
    /// The same, as clients hear it.
    #[must_use]
    pub fn wire(self) -> Error {
        let words = self.to_string();
        match self {
            Self::BusUnavailable => Error::new(Code::BusUnavailable, words),
            Self::Overloaded => Error::new(Code::Overloaded, words).at(Limit::AttachesWaiting),
            Self::TooManyTopics => Error::new(Code::TooManyTopics, words).at(Limit::SnapshotTopics),
            Self::ForeignCursor => Error::new(Code::InvalidCursor, words),
            Self::NotKept => Error::new(Code::NotSupported, words),
        }
    }
}

/// The Shards' side: asks without waiting.
#[derive(Debug, Clone)]
pub struct Feeds {
    inbox: mpsc::Sender<Ask>,
}

/// The directory is full of asks; the caller keeps what it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

#[derive(Debug)]
pub(crate) enum Ask {
    /// Patterns of one Namespace; of best effort a single one.
    Attach {
        shard: ShardId,
        patterns: Arc<[Pattern]>,
        begin: Begin,
        ticket: Ticket,
    },
    Detach {
        shard: ShardId,
        pattern: Pattern,
    },
    Read {
        wanted: Wanted,
        answer: oneshot::Sender<Result<Page, PageError>>,
    },
}

impl Feeds {
    /// The two ends of the directory's inbox.
    #[must_use]
    pub fn channel() -> (Self, Asks) {
        let (sender, receiver) = mpsc::channel(INBOX_ITEMS);
        (Self { inbox: sender }, Asks(receiver))
    }

    /// Wants a Subscription joined, to Patterns of one Namespace. The answer comes through the
    /// Shard's inbox.
    pub fn attach(
        &self,
        shard: ShardId,
        patterns: Arc<[Pattern]>,
        begin: Begin,
        ticket: Ticket,
    ) -> Result<(), Full> {
        self.inbox.try_send(Ask::Attach { shard, patterns, begin, ticket }).map_err(|_| Full)
    }

    /// Reads a page of what is kept.
    pub async fn read(&self, wanted: Wanted) -> Result<Page, PageError> {
        let (answer, answered) = oneshot::channel();
        let ask = Ask::Read { wanted, answer };
        self.inbox.try_send(ask).map_err(|_| PageError::Overloaded)?;
        answered.await.unwrap_or(Err(PageError::BusUnavailable))
    }

    /// Says that nothing on this Shard wants a Pattern any more, not even attaches under way.
    pub fn detach(&self, shard: ShardId, pattern: Pattern) -> Result<(), Full> {
        self.inbox.try_send(Ask::Detach { shard, pattern }).map_err(|_| Full)
    }
}

/// The directory's end of its inbox.
#[derive(Debug)]
pub struct Asks(mpsc::Receiver<Ask>);

/// The actor that opens, shares and closes Feeds.
pub struct Directory<B: Bus> {
    config: Config,
    bus: B,
    asks: mpsc::Receiver<Ask>,
    shards: Vec<mpsc::Sender<Event>>,
    open: HashMap<Source, Open>,
    /// Those that nobody wants any more, each once, until they are closed.
    lingering: DelayQueue<Source>,
    feeds: JoinSet<()>,
}

struct Open {
    asks: mpsc::Sender<Ask>,
    interested: HashSet<(ShardId, Pattern)>,
    /// Its place among those that linger.
    lingers: Option<delay_queue::Key>,
}

impl<B: Bus> Directory<B> {
    /// A directory for these Shards' inboxes, by number.
    pub fn new(config: Config, bus: B, asks: Asks, shards: Vec<mpsc::Sender<Event>>) -> Self {
        Self {
            config,
            bus,
            asks: asks.0,
            shards,
            open: HashMap::new(),
            lingering: DelayQueue::new(),
            feeds: JoinSet::new(),
        }
    }

    /// Runs until every Shard is gone. A panic in a Feed goes on from here.
    pub async fn run(mut self) {
        loop {
            tokio::select! {
                biased;
                Some(ended) = self.feeds.join_next() => {
                    if let Err(fault) = ended && fault.is_panic() {
                        std::panic::resume_unwind(fault.into_panic());
                    }
                }
                Some(over) = self.lingering.next() => {
                    self.open.remove(over.get_ref());
                }
                ask = self.asks.recv() => match ask {
                    Some(ask) => self.route(ask).await,
                    None => break,
                },
            }
            self.config.meters.set_feeds(self.open.len(), self.lingering.len());
        }
        self.open.clear();
        while self.feeds.join_next().await.is_some() {}
    }

    async fn route(&mut self, mut ask: Ask) {
        let Some(source) = self.source(&ask) else {
            return refuse(ask, PageError::NotKept);
        };
        loop {
            if !self.open.contains_key(&source) && !self.open_feed(&source, &ask) {
                return self.refuse(ask).await;
            }
            let Some(feed) = self.open.get_mut(&source) else {
                return;
            };
            match (feed.note(&ask), feed.lingers) {
                (true, Some(key)) => self.lingering.reset(&key, self.config.linger),
                (true, None) => {
                    feed.lingers = Some(self.lingering.insert(source.clone(), self.config.linger));
                }
                (false, Some(key)) => {
                    self.lingering.remove(&key);
                    feed.lingers = None;
                }
                (false, None) => {}
            }
            match feed.asks.send(ask).await {
                Ok(()) => return,
                Err(back) => ask = back.0,
            }
            // It could not subscribe, and has ended.
            self.forget(&source);
            if let Ask::Detach { .. } = ask {
                return;
            }
        }
    }

    /// Whose ask it is; none for a read of what nobody keeps.
    fn source(&self, ask: &Ask) -> Option<Source> {
        let kept = |namespace: &str| {
            let kept = self.config.namespaces.history(namespace).is_some();
            kept.then(|| Source::Namespace(namespace.into()))
        };
        match ask {
            Ask::Attach { patterns, .. } => {
                let first = patterns.first()?;
                Some(kept(first.namespace()).unwrap_or_else(|| Source::Pattern(first.clone())))
            }
            Ask::Detach { pattern, .. } => {
                Some(kept(pattern.namespace()).unwrap_or_else(|| Source::Pattern(pattern.clone())))
            }
            Ask::Read { wanted: Wanted::History { topic, .. }, .. } => kept(topic.namespace()),
            Ask::Read { wanted: Wanted::Snapshot { pattern, .. }, .. } => kept(pattern.namespace()),
        }
    }

    /// Opens the Feed that an ask is for, if that ask opens one and there is room.
    fn open_feed(&mut self, source: &Source, ask: &Ask) -> bool {
        if let Ask::Detach { .. } = ask {
            return false;
        }
        let (sender, asks) = mpsc::channel(FEED_INBOX_ITEMS);
        match source {
            Source::Pattern(pattern) => {
                if self.open.len() >= self.config.feeds {
                    // A Feed that could not subscribe has ended; it takes nobody's place.
                    let ended = self.open.iter().filter(|(_, feed)| feed.asks.is_closed());
                    let ended: Vec<Source> = ended.map(|(source, _)| source.clone()).collect();
                    ended.iter().for_each(|source| self.forget(source));
                }
                if self.open.len() >= self.config.feeds {
                    return false;
                }
                let feed =
                    live::Feed::new(&self.config, pattern.clone(), asks, self.shards.clone());
                self.feeds.spawn(feed.run(self.bus.clone()));
            }
            Source::Namespace(name) => {
                let (bus, shards) = (self.bus.clone(), self.shards.clone());
                let feed = opening::Feed::new(&self.config, Arc::clone(name), bus, asks, shards);
                self.feeds.spawn(feed.run());
            }
        }
        let open = Open { asks: sender, interested: HashSet::new(), lingers: None };
        self.open.insert(source.clone(), open);
        true
    }

    async fn refuse(&self, ask: Ask) {
        match ask {
            Ask::Attach { shard, ticket, .. } => {
                if let Some(inbox) = self.shards.get(usize::from(shard.0)) {
                    let refused = Event::Refused(ticket, AttachError::Overloaded(Limit::Feeds));
                    // The Shard waits for this answer, and reads its inbox without waiting for us.
                    let _ = inbox.send(refused).await;
                }
            }
            ask @ Ask::Read { .. } => refuse(ask, PageError::Overloaded),
            Ask::Detach { .. } => {}
        }
    }

    /// Lets go of a Feed that has ended by itself.
    fn forget(&mut self, source: &Source) {
        if let Some(key) = self.open.remove(source).and_then(|ended| ended.lingers) {
            self.lingering.remove(&key);
        }
    }
}

impl Open {
    /// Notes who wants the Feed. Whether nobody does.
    fn note(&mut self, ask: &Ask) -> bool {
        match ask {
            Ask::Attach { shard, patterns, .. } => {
                self.interested.extend(patterns.iter().map(|pattern| (*shard, pattern.clone())));
            }
            Ask::Detach { shard, pattern } => {
                self.interested.remove(&(*shard, pattern.clone()));
            }
            Ask::Read { .. } => {}
        }
        self.interested.is_empty()
    }
}

fn refuse(ask: Ask, why: PageError) {
    if let Ask::Read { answer, .. } = ask {
        // Whoever asked may have given up.
        let _ = answer.send(Err(why));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::memory::Memory;
    use crate::namespace;
    use crate::publication::Timestamp;

    /// However often a Feed is read and let go of, it waits for its end once, and not while somebody
    /// wants it.
    #[tokio::test(start_paused = true)]
    async fn a_feed_lingers_once() {
        let history = Some(namespace::History::default());
        let kept = [("k".to_owned(), namespace::Config { history, ..Default::default() })];
        let namespaces = Arc::new(Namespaces::new(kept.into(), false));
        let bus = Memory::new(namespaces.kept(), || Timestamp(0));
        let config = Config { namespaces, ..Config::default() };
        let (_, asks) = Feeds::channel();
        let (inbox, _events) = mpsc::channel(1_000);
        let mut directory = Directory::new(config, bus, asks, vec![inbox]);
        let pattern = Pattern::parse("k.a").unwrap();
        for number in 0..100 {
            let (answer, _) = oneshot::channel();
            let wanted = Wanted::Snapshot { pattern: pattern.clone(), above: None };
            directory.route(Ask::Read { wanted, answer }).await;
            assert_eq!(directory.lingering.len(), 1);
            let (shard, ticket) = (ShardId(0), Ticket { connection: 1, number });
            let (patterns, begin) = ([pattern.clone()].into(), Begin::From(From::Live));
            directory.route(Ask::Attach { shard, patterns, begin, ticket }).await;
            assert_eq!(directory.lingering.len(), 0);
            directory.route(Ask::Detach { shard, pattern: pattern.clone() }).await;
            assert_eq!(directory.lingering.len(), 1);
        }
        let over = directory.lingering.next().await.unwrap();
        assert_eq!(*over.get_ref(), Source::Namespace("k".into()));
    }
}
