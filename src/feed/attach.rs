//! One Subscription on its way into a kept Feed, or the many of a stream that begin together.
//!
//! It collects what was missed by rising Offset: as much as one part of a replay may hold, and of the
//! rest only the number. When everything up to the head has been looked at, it is *judged* (whether
//! that was all there ever was), and becomes a [`Replay`].

use std::collections::HashMap;
use std::sync::Arc;

use super::ring::Entry;
use super::{ShardId, Ticket};
use crate::bus::history::Head;
use crate::protocol::replay::{Replay, Rest};
use crate::protocol::{Envelope, GapReason};
use crate::publication::{Cursor, Epoch};
use crate::topic::{Pattern, Topic};

/// What each Publication of a part costs besides its text, as an Outbox counts it.
const FRAME_OVERHEAD_BYTES: usize = 80;

/// What one part may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) items: usize,
    pub(super) bytes: usize,
}

/// An attach under way.
pub(super) struct Attach {
    pub(super) shard: ShardId,
    pub(super) ticket: Ticket,
    pub(super) patterns: Arc<[Pattern]>,
    /// Everything up to here has been looked at.
    pub(super) after: u64,
    /// What must fit what is stored at its Offset, once that is seen.
    pub(super) check: Option<Cursor>,
    /// Of a later part: so many were there up to an Offset.
    promised: Option<Promise>,
    /// What is missing behind this Offset counts; none: nothing does.
    judged_from: Option<u64>,
    /// It wants what is left, and so only what is known to be lost counts.
    what_is_left: bool,
    verdict: Result<(), GapReason>,
    missed: Option<u64>,
    /// How history stood after it was read for this attach.
    pub(super) proven: Option<Head>,
    /// How often history was read.
    pub(super) rounds: u8,
    part: Part,
    /// Publications behind `judged_from`, by Topic.
    topics: HashMap<Topic, u64>,
}

#[derive(Clone, Copy)]
struct Promise {
    until: u64,
    left: u64,
}

#[derive(Default)]
struct Part {
    envelopes: Vec<Arc<Envelope>>,
    bytes: usize,
    last: Option<Cursor>,
    /// Something did not fit; only the number of what comes is kept.
    full: bool,
    beyond: u64,
}

impl Attach {
    /// One that wants everything behind an Offset.
    pub(super) fn new(
        shard: ShardId,
        ticket: Ticket,
        patterns: Arc<[Pattern]>,
        after: u64,
    ) -> Self {
        Self {
            shard,
            ticket,
            patterns,
            after,
            check: None,
            promised: None,
            judged_from: None,
            what_is_left: false,
            verdict: Ok(()),
            missed: None,
            proven: None,
            rounds: 0,
            part: Part::default(),
            topics: HashMap::new(),
        }
    }

    /// Whatever is missing behind `after` counts.
    pub(super) fn judged(mut self) -> Self {
        self.judged_from = Some(self.after);
        self
    }

    /// Whatever is known to be lost behind `after` counts; what its history has let go does not.
    pub(super) fn judged_by_losses(self) -> Self {
        Self { what_is_left: true, ..self.judged() }
    }

    /// The part before said how many there are.
    pub(super) fn promised(mut self, until: u64, left: u64) -> Self {
        self.promised = Some(Promise { until, left });
        self
    }

    pub(super) fn wants(&self, topic: &Topic) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(topic))
    }

    /// Whether each of its Patterns is a single Topic.
    pub(super) fn is_exact(&self) -> bool {
        self.patterns.iter().all(|pattern| !pattern.is_wild())
    }

    /// So many are about to be looked at: what they need is allocated once.
    pub(super) fn expect(&mut self, count: usize, bounds: Bounds) {
        self.part.envelopes.reserve(count.min(bounds.items));
    }

    /// Takes what matches, by rising Offset. Whether it wants more.
    pub(super) fn take(&mut self, entry: &Entry, epoch: Epoch, bounds: Bounds) -> bool {
        let offset = entry.offset();
        if let Some(promise) = &mut self.promised
            && offset <= promise.until
        {
            // What does not fit has been counted before.
            if !self.part.take(entry, epoch, bounds) {
                return false;
            }
            promise.left = promise.left.saturating_sub(1);
            self.after = offset;
            return true;
        }
        self.settle(offset);
        self.after = offset;
        if self.judged_from.is_some_and(|from| offset > from)
            && let Some(topic) = entry.topic()
        {
            match self.topics.get_mut(topic) {
                Some(count) => *count += 1,
                None => drop(self.topics.insert(topic.clone(), 1)),
            }
        }
        if self.part.full || !self.part.take(entry, epoch, bounds) {
            self.part.beyond += 1;
        }
        true
    }

    /// Takes the value of a Topic. Whether it fitted.
    pub(super) fn take_value(&mut self, entry: &Entry, epoch: Epoch, bounds: Bounds) -> bool {
        self.part.take(entry, epoch, bounds)
    }

    /// Everything below `offset` has been looked at: what was promised up to there should have come.
    fn settle(&mut self, offset: u64) {
        let Some(promise) = self.promised.take_if(|promise| promise.until < offset) else {
            return;
        };
        if promise.left > 0 {
            self.verdict = Err(GapReason::HistoryTrimmed);
            self.missed = Some(promise.left);
        }
        self.judged_from = Some(promise.until);
    }

    /// Nothing is brought for this reason; it begins at `head`.
    pub(super) fn skip_to(&mut self, head: u64, why: GapReason) {
        self.after = head;
        self.check = None;
        self.promised = None;
        self.judged_from = None;
        self.verdict = Err(why);
        self.missed = None;
    }

    /// History could not be read: whatever lies between is missing.
    pub(super) fn jump_to(&mut self, floor: u64) {
        self.skip_to(self.after.max(floor), GapReason::BusInterrupted);
    }

    /// Everything up to `head` has been looked at. `lost_above` says whether something above an
    /// Offset is known to be lost.
    pub(super) fn judge(&mut self, head: u64, lost_above: impl Fn(u64) -> bool) {
        self.settle(head + 1);
        let Some(from) = self.judged_from.filter(|_| self.verdict.is_ok()) else {
            return;
        };
        let trimmed = self.proven.filter(|_| !self.what_is_left).is_some_and(|proven| {
            let over = |count: &u64| *count > proven.messages;
            proven.first > from + 1 || self.topics.values().any(over)
        });
        if trimmed || lost_above(from) {
            self.verdict = Err(GapReason::HistoryTrimmed);
        }
    }

    /// Marks as incomplete what begins before the oldest that is kept.
    pub(super) fn trimmed(&mut self) {
        self.verdict = Err(GapReason::HistoryTrimmed);
    }

    /// The part, of an attach that has looked at everything up to the head, whose place is `head`.
    pub(super) fn replay(self, head: Cursor) -> (ShardId, Ticket, Replay) {
        let rest = match self.part.last {
            Some(after) if self.part.beyond > 0 => {
                Some(Rest::Missed { after, until: head.offset, left: self.part.beyond })
            }
            _ => None,
        };
        self.finish(rest, head)
    }

    /// The part, of an attach whose part was full before everything promised had been looked at.
    pub(super) fn replay_promised(self, head: Cursor) -> (ShardId, Ticket, Replay) {
        let rest = match (self.part.last, self.promised) {
            (Some(after), Some(Promise { until, left })) => {
                Some(Rest::Missed { after, until, left })
            }
            _ => None,
        };
        self.finish(rest, head)
    }

    /// The part, of a snapshot of which more is to come.
    pub(super) fn replay_values(self, head: Cursor) -> (ShardId, Ticket, Replay) {
        let rest = self.part.last.map(|above| Rest::Values { above });
        self.finish(rest, head)
    }

    fn finish(self, rest: Option<Rest>, head: Cursor) -> (ShardId, Ticket, Replay) {
        let place = match rest {
            Some(Rest::Missed { after, .. }) => after,
            Some(Rest::Values { above }) => above,
            None => head,
        };
        let replay = Replay {
            patterns: self.patterns,
            recovered: self.verdict,
            missed: self.missed,
            cursor: Some(place),
            envelopes: self.part.envelopes,
            rest,
        };
        (self.shard, self.ticket, replay)
    }
}

impl Part {
    /// Whether it fitted. The first always does; after one that did not, none does.
    fn take(&mut self, entry: &Entry, epoch: Epoch, bounds: Bounds) -> bool {
        let Some(envelope) = entry.envelope(epoch).filter(|_| !self.full) else {
            return !self.full;
        };
        let bytes = self.bytes + envelope.text().len() + FRAME_OVERHEAD_BYTES;
        let first = self.envelopes.is_empty();
        if !first && (bytes > bounds.bytes || self.envelopes.len() >= bounds.items) {
            self.full = true;
            return false;
        }
        self.bytes = bytes;
        self.last = Some(entry.cursor(epoch));
        self.envelopes.push(Arc::clone(envelope));
        true
    }
}
