//! Counters that one Shard writes and everybody may read.
//!
//! They are the only part of a Shard that another thread sees. Each has one writer, so a write is a
//! plain store and never a locked instruction; a reader may be a moment behind.

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Serialize, Serializer};

use crate::protocol::Limit;

/// One counter with one writer.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds. For the Shard's own thread alone.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
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

/// How often each bound was met.
#[derive(Debug)]
pub struct Hits([Count; Limit::COUNT]);

impl Default for Hits {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Count::default()))
    }
}

/// The counters of one Shard, on cache lines of their own.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counts {
    /// Connections open now, those saying goodbye among them.
    pub connections: Count,
    /// Subscriptions now.
    pub subscriptions: Count,
    /// Distinct Patterns in the table now.
    pub patterns: Count,
    /// Connections ever taken over.
    pub opened: Count,
    /// Publications that came through the inbox.
    pub publications: Count,
    /// Publications put into an Outbox.
    pub deliveries: Count,
    /// Writes to sockets.
    pub writes: Count,
    /// Connections closed because their Outbox was full.
    pub slow_consumers: Count,
    /// Connections evicted because no pong came.
    pub no_pongs: Count,
    /// Bounds met, by HTTP on the Shard's thread as well.
    pub limit_hits: Hits,
}

impl Counts {
    /// Counts a bound that was met. For the Shard's own thread alone.
    pub fn hit(&self, limit: Limit) {
        self.limit_hits.0[limit as usize].add(1);
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

    fn plus(self, hits: &Hits) -> Self {
        Self(std::array::from_fn(|at| self.0[at] + hits.0[at].get()))
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
            connections: sum.connections + one.connections.get(),
            subscriptions: sum.subscriptions + one.subscriptions.get(),
            patterns: sum.patterns + one.patterns.get(),
            opened: sum.opened + one.opened.get(),
            publications: sum.publications + one.publications.get(),
            deliveries: sum.deliveries + one.deliveries.get(),
            writes: sum.writes + one.writes.get(),
            slow_consumers: sum.slow_consumers + one.slow_consumers.get(),
            no_pongs: sum.no_pongs + one.no_pongs.get(),
            limit_hits: sum.limit_hits.plus(&one.limit_hits),
        })
    }
}
