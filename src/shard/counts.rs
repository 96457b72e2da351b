//! Counters that one Shard writes and everybody may read.
//!
//! They are the only part of a Shard that another thread sees. Each has one writer, so a write is a
//! plain store and never a locked instruction; a reader may be a moment behind.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Serialize, Serializer};

use crate::protocol::stream::Format;
use crate::protocol::{Ask, Close, GapReason, Limit, Reply};
use crate::session::Input;

/// One counter with one writer.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds. For the Shard's own thread alone.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Takes away. For the Shard's own thread alone.
    pub fn sub(&self, n: u64) {
        self.add(n.wrapping_neg());
    }

    /// Says how many there are now. For the Shard's own thread alone.
    pub fn set(&self, n: usize) {
        self.0.store(n as u64, Ordering::Relaxed);
    }

    /// Reads.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a client is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// A socket that was taken over.
    WebSocket,
    /// An HTTP answer of Server-Sent Events.
    Events,
    /// One of lines.
    Lines,
}

impl Transport {
    /// Each at its own place, with the word for it.
    pub const ALL: [(Self, &str); 3] =
        [(Self::WebSocket, "websocket"), (Self::Events, "sse"), (Self::Lines, "ndjson")];

    /// That of a stream.
    #[must_use]
    pub const fn of(format: Format) -> Self {
        match format {
            Format::Events => Self::Events,
            Format::Lines => Self::Lines,
        }
    }
}

/// What a Reply answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the Command of the same name")]
pub enum Asked {
    Connect,
    Subscribe,
    Unsubscribe,
    Publish,
    History,
    Token,
    Ping,
    /// It could not be read, or is not known.
    Unreadable,
}

impl Asked {
    /// Each at its own place, with the word for it.
    pub const ALL: [(Self, &str); 8] = [
        (Self::Connect, "connect"),
        (Self::Subscribe, "subscribe"),
        (Self::Unsubscribe, "unsubscribe"),
        (Self::Publish, "publish"),
        (Self::History, "history"),
        (Self::Token, "token"),
        (Self::Ping, "ping"),
        (Self::Unreadable, "unreadable"),
    ];

    /// What an `error` that this brings about would answer.
    #[must_use]
    pub fn by(input: &Input) -> Self {
        match input {
            Input::Command(Ok(command)) => match &command.ask {
                Ask::Connect { .. } => Self::Connect,
                Ask::Subscribe(_) => Self::Subscribe,
                Ask::Unsubscribe { .. } => Self::Unsubscribe,
                Ask::Publish { .. } => Self::Publish,
                Ask::History { .. } => Self::History,
                Ask::Token { .. } => Self::Token,
                Ask::Ping | Ask::Pong => Self::Ping,
                Ask::Presence => Self::Unreadable,
            },
            Input::Command(Err(_)) => Self::Unreadable,
            Input::Published(_) => Self::Publish,
            Input::Read(_) => Self::History,
            Input::Verified(_) => Self::Token,
            // What else a client did not ask for by a Command of its own is a Subscription's.
            _ => Self::Subscribe,
        }
    }

    const fn of(reply: &Reply) -> Option<Self> {
        Some(match reply {
            Reply::Connected { .. } => Self::Connect,
            Reply::Subscribed { .. } => Self::Subscribe,
            Reply::Unsubscribed { .. } => Self::Unsubscribe,
            Reply::Published { .. } => Self::Publish,
            Reply::History { .. } => Self::History,
            Reply::Token { .. } => Self::Token,
            Reply::Pong { .. } => Self::Ping,
            Reply::Error { .. } => return None,
        })
    }
}

/// Of one kind of [`Transport`].
#[derive(Debug, Default)]
pub struct Reached {
    /// Connections open now, those saying goodbye among them.
    pub connections: Count,
    /// Connections ever begun.
    pub opened: Count,
    /// Bytes that sockets, or HTTP, have taken.
    pub bytes: Count,
}

/// Of the Topics under one label, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Space {
    /// Publications put into an Outbox, by [`Transport`].
    pub deliveries: [Count; Transport::ALL.len()],
    /// Losses that clients were told of, by [`GapReason`].
    pub gaps: [Count; GapReason::ALL.len()],
}

/// Of one kind of Command.
#[derive(Debug, Default)]
pub struct Answers {
    /// With what was asked for.
    pub ok: Count,
    /// With an `error`.
    pub error: Count,
}

/// Counters in a row.
#[derive(Debug)]
pub struct Row<const N: usize>([Count; N]);

impl<const N: usize> Default for Row<N> {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Count::default()))
    }
}

impl<const N: usize> Row<N> {
    /// Reads the one at this place.
    pub fn get(&self, place: usize) -> u64 {
        self.0.get(place).map_or(0, Count::get)
    }
}

/// The counters of one Shard, on cache lines of their own.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counts {
    /// By [`Transport`].
    pub reached: [Reached; Transport::ALL.len()],
    /// By the place of the Namespace's label.
    pub spaces: Box<[Space]>,
    /// Subscriptions now.
    pub subscriptions: Count,
    /// Distinct Patterns in the table now.
    pub patterns: Count,
    /// Publications that came through the inbox.
    pub publications: Count,
    /// Writes to sockets.
    pub writes: Count,
    /// What waits for clients now, in bytes, as their Outboxes count it.
    pub outbox_bytes: Count,
    /// Connections closed because their Outbox was full.
    pub slow_consumers: Count,
    /// Connections evicted because no pong came.
    pub no_pongs: Count,
    /// Panics that ended a Connection.
    pub panics: Count,
    /// How late the thread has come back to its own timer at most, within the last while, in
    /// microseconds.
    pub stall_us: Count,
    /// Replies, by what was [`Asked`].
    pub answers: [Answers; Asked::ALL.len()],
    /// Connections that have ended, by the place of the Close.
    pub closed: Row<{ Close::COUNT }>,
    /// Bounds met, by HTTP on the Shard's thread as well.
    pub limit_hits: Row<{ Limit::COUNT }>,
}

impl Default for Counts {
    fn default() -> Self {
        Self::new(1)
    }
}

impl Counts {
    /// Counters at 0, for so many labels of Namespaces.
    #[must_use]
    pub fn new(labels: usize) -> Self {
        Self {
            reached: Default::default(),
            spaces: (0..labels).map(|_| Space::default()).collect(),
            subscriptions: Count::default(),
            patterns: Count::default(),
            publications: Count::default(),
            writes: Count::default(),
            outbox_bytes: Count::default(),
            slow_consumers: Count::default(),
            no_pongs: Count::default(),
            panics: Count::default(),
            stall_us: Count::default(),
            answers: Default::default(),
            closed: Row::default(),
            limit_hits: Row::default(),
        }
    }

    /// Counts a bound that was met. For the Shard's own thread alone.
    pub fn hit(&self, limit: Limit) {
        self.limit_hits.0[limit as usize].add(1);
    }

    /// Counts a Connection that has ended. For the Shard's own thread alone.
    pub fn close(&self, close: &Close) {
        self.closed.0[close.place()].add(1);
    }

    /// Counts Publications put into Outboxes, by [`Transport`]. For the Shard's own thread alone.
    pub fn deliver(&self, place: usize, queued: [u64; Transport::ALL.len()]) {
        if let Some(space) = self.spaces.get(place) {
            for (count, queued) in space.deliveries.iter().zip(queued) {
                count.add(queued);
            }
        }
    }

    /// Counts a Reply to what was asked. For the Shard's own thread alone.
    pub fn answer(&self, asked: Asked, reply: &Reply) {
        match Asked::of(reply) {
            Some(asked) => self.answers[asked as usize].ok.add(1),
            None => self.answers[asked as usize].error.add(1),
        }
    }

    /// Counts a loss that a client was told of. For the Shard's own thread alone.
    pub fn gap(&self, place: usize, reason: GapReason) {
        if let Some(space) = self.spaces.get(place) {
            space.gaps[reason as usize].add(1);
        }
    }

    fn all(&self, read: impl Fn(&Reached) -> &Count) -> u64 {
        self.reached.iter().map(|one| read(one).get()).sum()
    }
}

/// The counters at one moment, summed over Shards or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "each field is the counter of the same name")]
pub struct Snapshot {
    pub connections: u64,
    pub subscriptions: u64,
    pub patterns: u64,
    pub opened: u64,
    pub publications: u64,
    pub deliveries: u64,
    pub writes: u64,
    pub slow_consumers: u64,
    pub no_pongs: u64,
    pub limit_hits: LimitHits,
}

/// How often each bound was met, at one moment; written as one field for each, by its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitHits([u64; Limit::COUNT]);

impl Default for LimitHits {
    fn default() -> Self {
        Self([0; Limit::COUNT])
    }
}

impl LimitHits {
    /// Of this bound.
    #[must_use]
    pub const fn get(&self, limit: Limit) -> u64 {
        self.0[limit as usize]
    }

    fn plus(self, hits: &Row<{ Limit::COUNT }>) -> Self {
        Self(std::array::from_fn(|at| self.0[at] + hits.get(at)))
    }
}

impl Serialize for LimitHits {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_map(Limit::ALL.map(|limit| (limit.key(), self.get(limit))))
    }
}

impl Snapshot {
    /// Adds up the counters of these Shards.
    #[must_use]
    pub fn sum<'a>(shards: impl IntoIterator<Item = &'a Counts>) -> Self {
        shards.into_iter().fold(Self::default(), |sum, one| Self {
            connections: sum.connections + one.all(|reached| &reached.connections),
            subscriptions: sum.subscriptions + one.subscriptions.get(),
            patterns: sum.patterns + one.patterns.get(),
            opened: sum.opened + one.all(|reached| &reached.opened),
            publications: sum.publications + one.publications.get(),
            deliveries: sum.deliveries
                + one.spaces.iter().flat_map(|one| &one.deliveries).map(Count::get).sum::<u64>(),
            writes: sum.writes + one.writes.get(),
            slow_consumers: sum.slow_consumers + one.slow_consumers.get(),
            no_pongs: sum.no_pongs + one.no_pongs.get(),
            limit_hits: sum.limit_hits.plus(&one.limit_hits),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_stands_at_its_own_place() {
        assert!(Transport::ALL.iter().zip(0..).all(|((one, _), at)| *one as usize == at));
        assert!(Asked::ALL.iter().zip(0..).all(|((one, _), at)| *one as usize == at));
        assert!(GapReason::ALL.iter().zip(0..).all(|((one, _), at)| *one as usize == at));
    }
}
