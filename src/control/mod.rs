//! What nodes do together beside handing on Publications: they know each other, send users away, and
//! find out what is subscribed to anywhere.
//!
//! HTTP asks [`Control`] for it; Control calls all nodes over the Bus, its own among them, and each
//! does its part: it gives an [`Errand`] to its Shards and answers with what they say. Who beats
//! (`nodes`) is expected to answer; who does not in time is counted as silent, and said so. What was
//! revoked outlives its call in a kept Namespace of the nodes' own (`revocations`).
//!
//! It knows the Bus and who may do what. It knows no socket, no Shard and no request.

mod call;
mod meters;
pub mod nodes;
mod revocations;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::metrics::Meter;
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, Semaphore, SemaphorePermit, mpsc};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::debug;

use crate::auth::{Auth, Mark, Revocation};
use crate::bus::call::{Call, Heard};
use crate::bus::{Bus, CallError, PublishError};
use crate::protocol::{Code, Error, Limit};
use crate::publication::Timestamp;
use crate::topic::Topic;
use call::{Answer, Command, Ended, Listed};
use meters::Meters;
use nodes::{NODES_MAX, Nodes};
use revocations::Kept;

/// Who beats and has not answered by then is silent.
const ANSWERED_WITHIN: Duration = Duration::from_millis(200);
/// All Shards have done an errand by then, or this node does not answer.
const ERRAND: Duration = Duration::from_secs(1);
/// Between two tries to hear calls, or to give an errand that must be done.
const AGAIN: Duration = Duration::from_secs(1);

/// How a node takes part.
pub struct Config {
    /// Its name, which no other node has.
    pub node: Arc<str>,
    /// How many Shards it has.
    pub shards: usize,
    /// Users and Tokens that stay revoked.
    pub revocations: usize,
    /// Calls of its own at once.
    pub calls_in_flight: usize,
    /// Whether the Bus keeps what is revoked.
    pub keeps: bool,
    /// Reads the wall clock.
    pub now: fn() -> Timestamp,
    /// How many Connections it has.
    pub connections: Box<dyn Fn() -> usize + Send + Sync>,
    /// Gives an errand to every Shard; false if one of them has no room for it.
    pub give: Box<dyn Fn(&Errand) -> bool + Send + Sync>,
}

/// What a Shard is to do for a call.
#[derive(Debug, Clone)]
pub enum Errand {
    /// End the Connections of these, and say how many there were.
    End(Whom, mpsc::Sender<usize>),
    /// List Topics that are subscribed to by name.
    List(Arc<Listing>, mpsc::Sender<Vec<Topic>>),
}

/// Whose Connections end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whom {
    /// Of this user, those whose Token was not issued later.
    User(Arc<str>, Timestamp),
    /// Of the Token with this `jti`.
    Token(Arc<str>),
    /// The one of this name.
    Connection(Arc<str>),
    /// Of every Token that is revoked by now.
    Revoked,
}

/// Who is to go, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A user: all that was issued for him up to now counts no more.
    User(Arc<str>),
    /// The Token with this `jti`, which counts no more.
    Token(Arc<str>),
    /// One Connection. It may come back.
    Connection(Arc<str>),
}

/// Which Topics are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// This one and those below it; none: all.
    pub prefix: Option<Topic>,
    /// Behind this one, in the order of the alphabet.
    pub after: Option<Topic>,
    /// So many at most.
    pub limit: usize,
}

/// What became of a [`Target`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disconnected {
    /// Connections that have ended, as far as nodes have answered.
    pub closed: usize,
    /// Nodes that have not.
    pub silent_nodes: usize,
}

/// Topics that are subscribed to by name, on all nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// In the order of the alphabet.
    pub topics: Vec<Topic>,
    /// Whether there are more behind them.
    pub more: bool,
    /// Nodes that have not answered.
    pub silent_nodes: usize,
}

/// Why it was not done, or not all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// A bound of the node is reached.
    #[error("{}", overloaded(.0))]
    Overloaded(Limit),
    /// Nobody was told.
    #[error("the other nodes cannot be reached")]
    Unavailable,
    /// Whoever was there is told, but it is not kept for those who come later.
    #[error("connections were closed, but it is not sure to last: {0}; ask again")]
    NotKept(PublishError),
}

const fn overloaded(limit: &Limit) -> &'static str {
    match limit {
        Limit::Revocations => "as much is revoked as this node keeps in mind",
        _ => "this node is asking all nodes too much at once",
    }
}

impl Refused {
    /// The same, as clients hear it.
    #[must_use]
    pub fn wire(self) -> Error {
        let words = self.to_string();
        match self {
            Self::Overloaded(limit) => Error::new(Code::Overloaded, words).at(limit),
            Self::NotKept(PublishError::StorageFull) => Error::new(Code::StorageFull, words),
            Self::NotKept(PublishError::OutcomeUnknown) => {
                let mut error = Error::new(Code::OutcomeUnknown, words);
                // Whatever is revoked twice is revoked once.
                error.keyed = true;
                error
            }
            Self::Unavailable | Self::NotKept(_) => Error::new(Code::BusUnavailable, words),
        }
    }
}

impl Listing {
    /// Whether this Topic is wanted.
    #[must_use]
    pub fn wants(&self, topic: &str) -> bool {
        let below = |prefix: &Topic| {
            let rest = topic.strip_prefix(prefix.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.prefix.as_ref().is_none_or(below)
            && self.after.as_ref().is_none_or(|after| topic > after.as_str())
    }

    /// The first of these, in order, each once.
    #[must_use]
    pub fn first<T: Ord>(&self, all: impl IntoIterator<Item = T>) -> BTreeSet<T> {
        let mut first = BTreeSet::new();
        for topic in all {
            first.insert(topic);
            if first.len() > self.limit {
                first.pop_last();
            }
        }
        first
    }
}

/// One node's part in all of this.
pub struct Control<B> {
    config: Config,
    bus: B,
    auth: Arc<Auth>,
    nodes: Nodes,
    kept: Kept,
    /// Somebody is revoked who may be connected.
    sweep_owed: Notify,
    calls: Semaphore,
    meters: Meters,
}

impl<B: Bus> Control<B> {
    /// A part that is played once it [`run`](Self::run)s.
    #[must_use]
    pub fn new(config: Config, bus: B, auth: Arc<Auth>, meter: &Meter) -> Arc<Self> {
        let incarnation = (config.now)().0;
        let nodes = Nodes::new(&config.node, incarnation);
        Arc::new(Self {
            calls: Semaphore::new(config.calls_in_flight),
            kept: Kept::new(config.keeps),
            sweep_owed: Notify::new(),
            meters: Meters::new(meter, &nodes),
            config,
            bus,
            auth,
            nodes,
        })
    }

    /// Takes part for as long as the node runs.
    pub async fn run(self: Arc<Self>) {
        tokio::join!(
            self.hear(Call::Beat),
            self.hear(Call::Disconnect),
            self.hear(Call::Topics),
            self.beat(),
            self.follow_revoked(),
            self.check_revoked(),
            self.sweep(),
        );
    }

    /// Those who beat, this node among them.
    pub const fn nodes(&self) -> &Nodes {
        &self.nodes
    }

    /// Whether all that is revoked has been read once, if any of it is kept.
    pub fn is_read(&self) -> bool {
        self.kept.is_read()
    }

    /// Whether this node knows all that is revoked, or does so soon.
    pub async fn is_whole_soon(&self) -> bool {
        self.kept.is_whole_soon().await
    }

    // What HTTP asks.

    /// Sends somebody away, on every node.
    ///
    /// # Errors
    /// It is not done, or not for long.
    pub async fn disconnect(&self, target: &Target) -> Result<Disconnected, Refused> {
        let _place = self.place()?;
        let at = (self.config.now)();
        let mark = match target {
            Target::User(subject) => Some(Mark::of_user(subject)),
            Target::Token(id) => Some(Mark::of_token(id)),
            Target::Connection(_) => None,
        };
        if let Some(mark) = mark
            && !self.auth.knows_revoked(mark)
            && self.auth.revocations() >= self.config.revocations
        {
            return Err(Refused::Overloaded(Limit::Revocations));
        }
        // First who is there, so that each is counted by the call, and then who will come.
        let told = self.ask_all::<Ended>(Call::Disconnect, &Command::disconnect(target, at)).await;
        let revocation = mark.map(|mark| Revocation { mark, at }).filter(|_| self.config.keeps);
        match revocation {
            Some(revocation) => self.keep(revocation).await.map_err(Refused::NotKept)?,
            // Nobody else tells them.
            None if told.is_err() => return Err(Refused::Unavailable),
            None => {}
        }
        let (ended, silent_nodes) = told.unwrap_or_else(|_| (Vec::new(), self.nodes.count()));
        Ok(Disconnected { closed: ended.iter().map(|one| one.closed).sum(), silent_nodes })
    }

    /// Lists Topics that somebody is subscribed to by name.
    ///
    /// # Errors
    /// Nobody could be asked.
    pub async fn topics(&self, listing: &Listing) -> Result<Topics, Refused> {
        let _place = self.place()?;
        // One more, to see whether there is more.
        let wider = Listing { limit: listing.limit + 1, ..listing.clone() };
        let told = self.ask_all::<Listed>(Call::Topics, &Command::topics(&wider)).await;
        let (listed, silent_nodes) = told.map_err(|_| Refused::Unavailable)?;
        let all = listed.into_iter().flat_map(|one| one.topics);
        let mut topics = Vec::from_iter(wider.first(all.filter(|one| wider.wants(one.as_str()))));
        let more = topics.len() > listing.limit;
        topics.truncate(listing.limit);
        Ok(Topics { topics, more, silent_nodes })
    }

    fn place(&self) -> Result<SemaphorePermit<'_>, Refused> {
        self.calls.try_acquire().map_err(|_| Refused::Overloaded(Limit::CallsInFlight))
    }

    /// Asks every node. Done when all who beat have answered, or when it is time: what came, and how
    /// many said nothing.
    async fn ask_all<A: DeserializeOwned>(
        &self,
        call: Call,
        command: &Command,
    ) -> Result<(Vec<A>, usize), CallError> {
        let mut silent = self.nodes.names();
        let (mut heard, mut told) = (HashSet::new(), Vec::new());
        let until = Instant::now() + ANSWERED_WITHIN;
        let mut answers = self.bus.ask(call, call::write(command), NODES_MAX).await?;
        while !silent.is_empty()
            && let Ok(Some(answer)) = timeout_at(until, answers.next()).await
        {
            let Some(Answer { node, said }) = call::read::<Answer<A>>(&answer) else {
                continue;
            };
            silent.remove(&node);
            if heard.insert(node) {
                told.push(said);
            }
        }
        self.meters.asked(call, silent.len());
        Ok((told, silent.len()))
    }

    // What nodes ask.

    /// Does what is asked, as long as the node runs.
    async fn hear(&self, call: Call) {
        loop {
            if let Ok(mut calls) = self.bus.hear(call).await {
                while let Some(heard) = calls.next().await {
                    self.heard(call, heard).await;
                }
            }
            sleep(AGAIN).await;
        }
    }

    async fn heard(&self, call: Call, Heard { payload, reply }: Heard) {
        if call == Call::Beat {
            return self.nodes.heard(&payload);
        }
        let Some(command) = call::read::<Command>(&payload) else {
            return debug!(call = call.text(), "A call cannot be read");
        };
        let answer = match command {
            Command::Disconnect { whom, at } => self.end(whom.into(), at).await,
            Command::Topics { prefix, after, limit } => {
                self.list(Listing { prefix, after, limit: limit.min(LIST_MAX) }).await
            }
        };
        if let (Some(answer), Some(reply)) = (answer, reply) {
            reply(answer).await;
        }
    }

    async fn end(&self, target: Target, at: Timestamp) -> Option<bytes::Bytes> {
        let whom = match target {
            Target::User(subject) => {
                self.auth.revoke(Revocation { mark: Mark::of_user(&subject), at });
                Whom::User(subject, at)
            }
            Target::Token(id) => {
                self.auth.revoke(Revocation { mark: Mark::of_token(&id), at });
                Whom::Token(id)
            }
            Target::Connection(name) => Whom::Connection(name),
        };
        let is_kept_out = !matches!(whom, Whom::Connection(_));
        let ended = self.errand(|answer| Errand::End(whom, answer)).await;
        if ended.is_none() && is_kept_out {
            // Too late to be counted, but not to be done.
            self.sweep_owed.notify_one();
        }
        let ended = ended?;
        let said = Ended { closed: ended.into_iter().sum() };
        Some(call::write(&Answer { node: self.config.node.as_ref().into(), said }))
    }

    async fn list(&self, listing: Listing) -> Option<bytes::Bytes> {
        let listing = Arc::new(listing);
        let listed = self.errand(|answer| Errand::List(Arc::clone(&listing), answer)).await?;
        let topics = listing.first(listed.into_iter().flatten());
        let said = Listed { topics: topics.into_iter().collect() };
        Some(call::write(&Answer { node: self.config.node.as_ref().into(), said }))
    }

    /// Has every Shard do something. None if not all have said in time that it is done.
    async fn errand<T>(&self, make: impl FnOnce(mpsc::Sender<T>) -> Errand) -> Option<Vec<T>> {
        let (answer, mut answers) = mpsc::channel(self.config.shards);
        let errand = make(answer);
        let given = (self.config.give)(&errand);
        drop(errand);
        let mut all = Vec::new();
        let collecting = async {
            while let Some(one) = answers.recv().await {
                all.push(one);
            }
        };
        timeout(ERRAND, collecting).await.ok()?;
        (given && all.len() == self.config.shards).then_some(all)
    }

    /// Ends everybody who is revoked, whenever somebody may be there. It must be done, however long
    /// that takes: a Shard may be stuck, and whoever finds out what is revoked does not wait for it.
    async fn sweep(&self) {
        loop {
            self.sweep_owed.notified().await;
            while self.errand(|answer| Errand::End(Whom::Revoked, answer)).await.is_none() {
                sleep(AGAIN).await;
            }
        }
    }
}

/// More Topics nobody is told at once.
const LIST_MAX: usize = 1_001;

impl Target {
    /// How it was named.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::User(_) => "user",
            Self::Token(_) => "token_id",
            Self::Connection(_) => "connection",
        }
    }
}
