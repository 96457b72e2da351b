//! One Subscription on its way into a kept Feed, or the many of a stream that begin together.
//!
//! It collects what was missed by rising Offset: as much as one part of a replay may hold, and of the
//! rest only how many each part that follows will hold. When everything up to the head has been looked
//! at, it is *judged* (whether that was all there ever was), and becomes a [`Replay`]. A later part is
//! judged by what was promised for it: a client may leave after any of them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::meters::Recovery;
use super::ring::Entry;
use super::{ShardId, Ticket};
use crate::bus::history::Head;
use crate::protocol::replay::{Promise, Replay, Rest};
use crate::protocol::{Envelope, GapReason};
use crate::publication::{Cursor, Epoch};
use crate::topic::{Pattern, Topic};

/// What each Publication of a part costs besides its text, as an Outbox counts it.
const FRAME_OVERHEAD_BYTES: usize = 80;
/// Parts that are promised at a time. What lies behind them is looked at again when they have come.
const PROMISES: usize = 64;

/// What one part may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) items: usize,
    pub(super) bytes: usize,
}

/// To whom goes what, and how it went if the client came back.
pub(super) type Answer = (ShardId, Ticket, Replay, Option<Recovery>);

/// An attach under way.
pub(super) struct Attach {
    pub(super) shard: ShardId,
    pub(super) ticket: Ticket,
    pub(super) patterns: Arc<[Pattern]>,
    /// Everything up to here has been looked at.
    pub(super) after: u64,
    /// What must fit what is stored at its Offset, once that is seen.
    pub(super) check: Option<Cursor>,
    /// Of a later part: what was there for it, and for those behind it.
    promised: VecDeque<Promise>,
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
    /// Its client has been here before.
    pub(super) resumes: bool,
    part: Part,
    /// Publications behind `judged_from`, by Topic.
    topics: BTreeMap<Topic, u64>,
}

#[derive(Default)]
struct Part {
    envelopes: Vec<Arc<Envelope>>,
    bytes: usize,
    last: Option<Cursor>,
    /// Something did not fit; only the numbers of what comes are kept.
    full: bool,
    beyond: Beyond,
}

/// What does not fit into a part any more.
#[derive(Default)]
struct Beyond {
    promised: VecDeque<Promise>,
    /// What the last of them holds.
    bytes: usize,
    /// There is more than is promised.
    more: bool,
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
            promised: VecDeque::new(),
            judged_from: None,
            what_is_left: false,
            verdict: Ok(()),
            missed: None,
            proven: None,
            rounds: 0,
            resumes: false,
            part: Part::default(),
            topics: BTreeMap::new(),
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
    pub(super) fn promised(self, promised: VecDeque<Promise>) -> Self {
        Self { promised, ..self }
    }

    pub(super) fn wants(&self, topic: &Topic) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(topic))
    }

    /// Whether each of its Patterns is a single Topic.
    pub(super) fn is_exact(&self) -> bool {
        self.patterns.iter().all(|pattern| !pattern.is_wild())
    }

    /// Whether it has got nothing yet, and has a Cursor of this name that has not been compared.
    pub(super) fn is_new_to(&self, epoch: Epoch) -> bool {
        self.proven.is_none() && self.check.is_some_and(|check| check.epoch == epoch)
    }

    /// So many are about to be looked at: what they need is allocated once.
    pub(super) fn expect(&mut self, count: usize, bounds: Bounds) {
        self.part.envelopes.reserve(count.min(bounds.items));
    }

    /// Takes what matches, by rising Offset. Whether it wants more.
    pub(super) fn take(&mut self, entry: &Entry, epoch: Epoch, bounds: Bounds) -> bool {
        let offset = entry.offset();
        let settled = self.settle(offset);
        if let Some(promise) = self.promised.front_mut() {
            // A part ends where it was promised to, unless nothing of it is left.
            let over = settled && !self.part.envelopes.is_empty();
            if over || !self.part.take(entry, epoch, bounds) {
                return false;
            }
            promise.count = promise.count.saturating_sub(1);
            self.after = offset;
            return true;
        }
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
            self.part.beyond.count(entry, epoch, bounds);
        }
        true
    }

    /// Takes the value of a Topic. Whether it fitted.
    pub(super) fn take_value(&mut self, entry: &Entry, epoch: Epoch, bounds: Bounds) -> bool {
        self.part.take(entry, epoch, bounds)
    }

    /// Everything below `offset` has been looked at: what was promised up to there should have come.
    /// Whether something was.
    fn settle(&mut self, offset: u64) -> bool {
        let mut settled = false;
        while let Some(promise) = self.promised.pop_front_if(|promise| promise.until < offset) {
            settled = true;
            self.judged_from = Some(promise.until);
            if promise.count > 0 {
                self.verdict = Err(GapReason::HistoryTrimmed);
                self.missed = Some(self.missed.unwrap_or(0) + promise.count);
            }
        }
        settled
    }

    /// Nothing more is brought for this reason; it begins at `head`. Of another history nothing at all:
    /// what that one has lost would stand before what has its Offsets now.
    pub(super) fn skip_to(&mut self, head: u64, why: GapReason) {
        if why == GapReason::EpochChanged {
            self.part = Part::default();
        }
        self.after = head;
        self.check = None;
        self.promised.clear();
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
    pub(super) fn replay(mut self, head: Cursor) -> Answer {
        let Beyond { mut promised, more, .. } = std::mem::take(&mut self.part.beyond);
        if let Some(last) = promised.back_mut().filter(|_| !more) {
            // There is nothing else up to there.
            last.until = head.offset;
        }
        let after = self.part.last.filter(|_| !promised.is_empty());
        self.finish(after.map(|after| Rest::Missed { after, promised }), head)
    }

    /// The part, of an attach for which more parts have been promised.
    pub(super) fn replay_promised(mut self, head: Cursor) -> Answer {
        let promised = std::mem::take(&mut self.promised);
        let rest = self.part.last.map(|after| Rest::Missed { after, promised });
        self.finish(rest, head)
    }

    /// The part, of a snapshot of which more is to come.
    pub(super) fn replay_values(self, head: Cursor) -> Answer {
        let rest = self.part.last.map(|above| Rest::Values { above });
        self.finish(rest, head)
    }

    fn finish(self, rest: Option<Rest>, head: Cursor) -> Answer {
        let recovery = match (self.verdict, self.rounds) {
            (Err(_), _) => Recovery::Gap,
            (Ok(()), 0) => Recovery::Ring,
            (Ok(()), _) => Recovery::History,
        };
        let place = match &rest {
            Some(Rest::Missed { after, .. }) => *after,
            Some(Rest::Values { above }) => *above,
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
        (self.shard, self.ticket, replay, self.resumes.then_some(recovery))
    }
}

impl Part {
    /// Whether it fitted. The first always does; after one that did not, none does.
    fn take(&mut self, entry: &Entry, epoch: Epoch, bounds: Bounds) -> bool {
        let Some(envelope) = entry.envelope(epoch).filter(|_| !self.full) else {
            return !self.full;
        };
        let bytes = self.bytes + size(envelope);
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

impl Beyond {
    /// Counts one more for the parts to come.
    fn count(&mut self, entry: &Entry, epoch: Epoch, bounds: Bounds) {
        let Some(envelope) = entry.envelope(epoch).filter(|_| !self.more) else {
            return;
        };
        let (until, bytes) = (entry.offset(), size(envelope));
        let fits = |last: &&mut Promise| {
            let items = usize::try_from(last.count).unwrap_or(usize::MAX);
            items < bounds.items && self.bytes + bytes <= bounds.bytes
        };
        if let Some(last) = self.promised.back_mut().filter(fits) {
            (last.until, last.count) = (until, last.count + 1);
            self.bytes += bytes;
        } else if self.promised.len() < PROMISES {
            self.promised.push_back(Promise { until, count: 1 });
            self.bytes = bytes;
        } else {
            self.more = true;
        }
    }
}

/// What one Publication takes of a part.
fn size(envelope: &Envelope) -> usize {
    envelope.text().len() + FRAME_OVERHEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::history::Stored;
    use crate::publication::{Publication, Timestamp};

    const BOUNDS: Bounds = Bounds { items: 2, bytes: 9_999 };

    fn attach(after: u64) -> Attach {
        let patterns = Arc::new(["k.a".parse().unwrap()]);
        Attach::new(ShardId(0), Ticket { connection: 1, number: 1 }, patterns, after).judged()
    }

    fn entry(offset: u64) -> Entry {
        let publication = Publication {
            topic: Topic::parse("k.a").unwrap(),
            id: offset.to_string().into(),
            time: Timestamp(offset),
            user: None,
            payload: "1".into(),
            trace: None,
        };
        let (time, publication) = (Timestamp(offset), Some(Arc::new(publication)));
        Entry::new(Stored { offset, time, publication })
    }

    /// Takes these, of a history whose head is at `head`, as long as it wants more.
    fn replay(mut attach: Attach, offsets: impl IntoIterator<Item = u64>, head: u64) -> Replay {
        let epoch = Epoch::new(1);
        let cursor = Cursor::at(epoch, head, Timestamp(head));
        for offset in offsets {
            if !attach.take(&entry(offset), epoch, BOUNDS) {
                return attach.replay_promised(cursor).2;
            }
        }
        attach.judge(head, |_| false);
        attach.replay(cursor).2
    }

    /// The part behind this one, if from then on these are there.
    fn next(before: Replay, offsets: impl IntoIterator<Item = u64>, head: u64) -> Replay {
        let Some(Rest::Missed { after, promised }) = before.rest else {
            panic!("{before:?} is the last");
        };
        let behind = offsets.into_iter().filter(|offset| *offset > after.offset);
        replay(attach(after.offset).promised(promised), behind, head)
    }

    fn brings(part: &Replay) -> Vec<u64> {
        part.envelopes.iter().filter_map(|one| Some(one.cursor()?.offset)).collect()
    }

    /// What retention takes between two parts is told with the part in which it would have come: a
    /// client that leaves behind it never hears of the end.
    #[test]
    fn what_leaves_during_a_replay_is_told_with_its_part() {
        let first = replay(attach(0), 1..=9, 9);
        assert_eq!((brings(&first), first.recovered), (vec![1, 2], Ok(())));
        let second = next(first, 4..=9, 9);
        assert_eq!(brings(&second), [4]);
        assert_eq!((second.recovered, second.missed), (Err(GapReason::HistoryTrimmed), Some(1)));
        let third = next(second, 4..=9, 9);
        assert_eq!((brings(&third), third.recovered), (vec![5, 6], Ok(())));
        // A part of which nothing is left is no part; what is new is behind all that was promised.
        let last = next(third, [9, 10], 10);
        assert_eq!((brings(&last), last.rest.is_none()), (vec![9, 10], true));
        assert_eq!((last.recovered, last.missed), (Err(GapReason::HistoryTrimmed), Some(2)));
    }

    /// However long a replay is, so many parts of it are promised at a time, and all of it comes.
    #[test]
    fn a_long_replay_is_promised_bit_by_bit() {
        let all = 1..=7 * PROMISES as u64;
        let mut part = replay(attach(0), all.clone(), *all.end());
        let mut had = brings(&part);
        while let Some(Rest::Missed { promised, .. }) = &part.rest {
            assert!(promised.len() <= PROMISES);
            part = next(part, all.clone(), *all.end());
            assert_eq!(part.recovered, Ok(()));
            had.append(&mut brings(&part));
        }
        assert!(had.into_iter().eq(all));
    }

    /// What was read of a history that is another one by now is not brought: what comes live has the
    /// same Offsets, and whoever got the old would take the new for what he has had.
    #[test]
    fn nothing_is_brought_of_a_history_that_is_lost() {
        let mut attach = attach(0);
        assert!(attach.take(&entry(5), Epoch::new(1), BOUNDS));
        attach.skip_to(3, GapReason::EpochChanged);
        let part = replay(attach, [], 3);
        assert_eq!((brings(&part), part.recovered), (vec![], Err(GapReason::EpochChanged)));
    }
}
