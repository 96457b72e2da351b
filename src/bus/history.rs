//! What a Bus tells of the history of a kept Namespace.
//!
//! Every stored Publication has an Offset, and Offsets are contiguous: the next one shows whether
//! something is missing. Limits take Publications out of the middle as well as off the front, so an
//! Offset that is not there any more is normal; [`Page::end`] says up to where an answer is proven to
//! hold all that there is.

use std::sync::Arc;

use crate::publication::{Epoch, Publication, Timestamp};
use crate::topic::Pattern;

/// One stored Publication, in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its Offset.
    pub offset: u64,
    /// When it was stored.
    pub time: Timestamp,
    /// What it is; none if it is nothing that clients could have subscribed to.
    pub publication: Option<Arc<Publication>>,
}

/// Where the history of a Namespace stands, as told by who writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Which history it is.
    pub epoch: Epoch,
    /// The first Offset that is still there; one above `last` if there is none.
    pub first: u64,
    /// When that one was stored; of no meaning if there is none.
    pub first_time: Timestamp,
    /// The last Offset that was given; 0 before the first.
    pub last: u64,
    /// When that one was stored. It may have left since.
    pub last_time: Timestamp,
    /// So many of each Topic are kept, if nothing else takes them.
    pub messages: u64,
}

/// Which part of a history is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Want<'a> {
    /// The first Offset.
    pub from: u64,
    /// The last one; it is known to have been given.
    pub until: u64,
    /// Only Topics that one of these matches; empty: all.
    pub patterns: &'a [Pattern],
    /// At most so many.
    pub items: usize,
    /// At most so many bytes of payload, but one Publication at least.
    pub bytes: usize,
}

/// A proven part of a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// By rising Offset.
    pub entries: Vec<Stored>,
    /// Whatever was wanted up to here and is not among the entries is gone for good.
    pub end: u64,
}

/// The newest Publication of each Topic, tombstones among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Newest {
    /// By rising Offset.
    pub entries: Vec<Stored>,
    /// They are the newest as of this Offset.
    pub as_of: u64,
}

/// Why history was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The Bus is not there, or does not keep this Namespace.
    #[error("the history is not reachable")]
    Unavailable,
    /// More Topics than one snapshot may have.
    #[error("more topics match than one snapshot may hold")]
    TooManyTopics,
}
