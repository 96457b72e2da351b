//! The node's Feeds: one upstream subscription for each distinct Pattern, shared by all Shards.
//!
//! Clients come and go by the thousand; the Bus should notice little of it. The first attach opens a
//! Feed. When the last Shard has let go of it, it lingers, so that a page reload costs nothing
//! upstream. This file is the directory, one actor that knows which Feeds are open and who is
//! interested; [`live`] is a Feed itself. Both know the Bus, Publications and Envelopes; they know no
//! Connection and no socket. Shards speak to them through [`Feeds`] and hear from them through their
//! own inbox, where the order of [`Event`]s is the order of their world.
//!
//! ```text
//!     first attach         subscribed         last detach          `linger` over
//!          ─────▶ opening ───────────▶ open ──────────▶ lingering ───────────▶ closed
//!                                       ▲                   │
//!                                       └───── attach ──────┘
//! ```

pub mod live;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::bus::Bus;
use crate::protocol::{Envelope, GapReason};
use crate::topic::Pattern;

/// Asks that may wait for the directory. Shards keep their own bound on attaches below this.
pub const INBOX_ITEMS: usize = 65_536;
/// Asks that may wait for one Feed; it reads them at once, so the directory hardly ever waits here.
const FEED_INBOX_ITEMS: usize = 1_024;

/// How Feeds behave.
#[derive(Debug, Clone)]
pub struct Config {
    /// How long a Feed stays open without anybody who wants it.
    pub linger: Duration,
    /// Most Feeds open at once.
    pub feeds: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { linger: Duration::from_secs(30), feeds: 20_000 }
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
    /// A Subscription has joined: everything behind this in the inbox is for it.
    Attached(Ticket),
    /// It has not, and will not.
    Refused(Ticket, AttachError),
    /// A Publication came.
    Live(Pattern, Arc<Envelope>),
    /// Every Subscription of this Feed on this Shard lost something.
    Gap(Pattern, GapReason),
}

/// Why an attach failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AttachError {
    /// The Bus is not there.
    #[error("the bus is not reachable")]
    BusUnavailable,
    /// A bound of the node is reached.
    #[error("this node has too many topics and patterns open")]
    Overloaded,
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
    Attach { shard: ShardId, pattern: Pattern, ticket: Ticket },
    Detach { shard: ShardId, pattern: Pattern },
}

impl Feeds {
    /// The two ends of the directory's inbox.
    #[must_use]
    pub fn channel() -> (Self, Asks) {
        let (sender, receiver) = mpsc::channel(INBOX_ITEMS);
        (Self { inbox: sender }, Asks(receiver))
    }

    /// Wants a Subscription joined. The answer comes through the Shard's inbox.
    pub fn attach(&self, shard: ShardId, pattern: Pattern, ticket: Ticket) -> Result<(), Full> {
        self.inbox.try_send(Ask::Attach { shard, pattern, ticket }).map_err(|_| Full)
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
    open: HashMap<Pattern, Open>,
    /// Whose last Shard let go, oldest first; an entry counts only if the Feed still says so.
    lingering: VecDeque<(Instant, Pattern)>,
    feeds: JoinSet<()>,
}

struct Open {
    asks: mpsc::Sender<Ask>,
    interested: Vec<ShardId>,
    lingers_until: Option<Instant>,
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
            lingering: VecDeque::new(),
            feeds: JoinSet::new(),
        }
    }

    /// Runs until every Shard is gone. A panic in a Feed goes on from here.
    pub async fn run(mut self) {
        loop {
            let linger_ends = self.lingering.front().map(|(at, _)| *at);
            tokio::select! {
                ask = self.asks.recv() => match ask {
                    Some(Ask::Attach { shard, pattern, ticket }) => {
                        self.attach(shard, pattern, ticket).await;
                    }
                    Some(Ask::Detach { shard, pattern }) => self.detach(shard, pattern).await,
                    None => break,
                },
                () = sleep_until(linger_ends.unwrap_or_else(Instant::now)), if linger_ends.is_some() => {
                    self.close_lingering();
                }
                Some(ended) = self.feeds.join_next() => {
                    if let Err(fault) = ended && fault.is_panic() {
                        std::panic::resume_unwind(fault.into_panic());
                    }
                }
            }
        }
        self.open.clear();
        while self.feeds.join_next().await.is_some() {}
    }

    async fn attach(&mut self, shard: ShardId, pattern: Pattern, ticket: Ticket) {
        loop {
            if !self.open.contains_key(&pattern)
                && let Err(why) = self.open_feed(&pattern)
            {
                if let Some(inbox) = self.shards.get(usize::from(shard.0)) {
                    // The Shard waits for this answer, and reads its inbox without waiting for us.
                    let _ = inbox.send(Event::Refused(ticket, why)).await;
                }
                return;
            }
            let Some(feed) = self.open.get_mut(&pattern) else {
                return;
            };
            feed.lingers_until = None;
            if !feed.interested.contains(&shard) {
                feed.interested.push(shard);
            }
            let ask = Ask::Attach { shard, pattern: pattern.clone(), ticket };
            if feed.asks.send(ask).await.is_ok() {
                return;
            }
            // It could not subscribe, and has ended.
            self.open.remove(&pattern);
        }
    }

    async fn detach(&mut self, shard: ShardId, pattern: Pattern) {
        let Some(feed) = self.open.get_mut(&pattern) else {
            return;
        };
        feed.interested.retain(|other| *other != shard);
        if feed.interested.is_empty() {
            let until = Instant::now() + self.config.linger;
            feed.lingers_until = Some(until);
            self.lingering.push_back((until, pattern.clone()));
        }
        let _ = feed.asks.send(Ask::Detach { shard, pattern }).await;
    }

    fn open_feed(&mut self, pattern: &Pattern) -> Result<(), AttachError> {
        if self.open.len() >= self.config.feeds {
            // A Feed that could not subscribe has ended; it takes nobody's place.
            self.open.retain(|_, feed| !feed.asks.is_closed());
        }
        if self.open.len() >= self.config.feeds {
            return Err(AttachError::Overloaded);
        }
        let (sender, asks) = mpsc::channel(FEED_INBOX_ITEMS);
        let feed = live::Feed::new(pattern.clone(), asks, self.shards.clone());
        self.feeds.spawn(feed.run(self.bus.clone()));
        let open = Open { asks: sender, interested: Vec::new(), lingers_until: None };
        self.open.insert(pattern.clone(), open);
        Ok(())
    }

    fn close_lingering(&mut self) {
        let now = Instant::now();
        while let Some((until, pattern)) = self.lingering.pop_front_if(|(until, _)| *until <= now) {
            if self.open.get(&pattern).is_some_and(|feed| feed.lingers_until == Some(until)) {
                self.open.remove(&pattern);
            }
        }
    }
}
