//! One immutable message on one Topic.
//!
//! A Publication is made by the publisher, travels through the Bus, and is never changed again. A
//! payload of no bytes is a tombstone: its Topic has no value any more.

use std::sync::Arc;

use bytes::Bytes;

use crate::topic::Topic;

/// One message on one Topic, as every node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Where it was sent.
    pub topic: Topic,
    /// The publisher's id, or one made for it.
    pub id: Box<str>,
    /// When it was taken.
    pub time: Timestamp,
    /// The subject of the Token that published it; none for API keys and anonymous clients.
    pub user: Option<Arc<str>>,
    /// What was sent, any bytes.
    pub payload: Bytes,
}

impl Publication {
    /// Whether it takes its Topic's value away.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.payload.is_empty()
    }
}

/// What a client wants published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Where to.
    pub topic: Topic,
    /// What; empty for a tombstone.
    pub payload: Bytes,
    /// The idempotency key.
    pub key: Option<Box<str>>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Where it went.
    pub topic: Topic,
    /// The Publication's id.
    pub id: Box<str>,
    /// Whether history keeps it.
    pub stored: bool,
    /// Whether it was there already.
    pub duplicate: bool,
}

/// A moment on the wall clock, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);
