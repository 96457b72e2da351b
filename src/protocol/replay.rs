//! What a Subscription missed, as it is asked for and brought: in parts.
//!
//! A part is small enough for the Outbox of a client that reads slowly. Between two parts nobody keeps
//! anything for that client but the place where the next one begins, and that is the client's own.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Envelope, From, GapReason};
use crate::publication::Cursor;
use crate::topic::Pattern;

/// One part of what an attach brings.
#[derive(Debug)]
pub struct Replay {
    /// What was asked for.
    pub patterns: Arc<[Pattern]>,
    /// Whether nothing is missing before or within it.
    pub recovered: Result<(), GapReason>,
    /// How many Publications are missing, where that is known.
    pub missed: Option<u64>,
    /// The place behind it; none on best effort.
    pub cursor: Option<Cursor>,
    /// The Publications, by rising Offset.
    pub envelopes: Vec<Arc<Envelope>>,
    /// What is still to be asked for; none: it is live.
    pub rest: Option<Rest>,
}

impl Replay {
    /// Nothing was missed, or nothing can be brought back.
    #[must_use]
    pub fn live(patterns: Arc<[Pattern]>, recovered: Result<(), GapReason>) -> Self {
        let (missed, cursor, envelopes, rest) = (None, None, Vec::new(), None);
        Self { patterns, recovered, missed, cursor, envelopes, rest }
    }
}

/// Where the next part of a replay begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rest {
    /// Behind this place. What comes behind all that is promised is new.
    Missed {
        /// The last Publication that was brought.
        after: Cursor,
        /// The next parts.
        promised: VecDeque<Promise>,
    },
    /// The newest values above this place.
    Values {
        /// The last Publication that was brought.
        above: Cursor,
    },
}

/// What was there for one part of a replay when the replay began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    /// It reaches up to this Offset.
    pub until: u64,
    /// Publications. If fewer are found, retention was faster.
    pub count: u64,
}

/// Where an attach begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// Where the client says.
    From(From),
    /// Where the part before ended.
    Rest(Rest),
}
