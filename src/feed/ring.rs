//! The recent part of a kept Namespace: all of it, from `floor` up to `head`, in memory.
//!
//! A client that comes back finds here what it missed, and a Shard that fell behind goes on from
//! here; only who comes from further back makes anybody read history. Offsets that were gone when a
//! hole was repaired are remembered as *lost*, so that nobody is told that nothing is missing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use crate::bus::history::{Head, Stored};
use crate::protocol::Envelope;
use crate::publication::{Cursor, Epoch, Timestamp};
use crate::topic::{Pattern, Topic};

/// What an entry costs besides its payload, in bytes.
const ENTRY_BYTES: usize = 256;
/// Of so many that have left it is remembered when they were stored.
const LEFT: usize = 64;

/// One stored Publication, with its Envelope once somebody has wanted it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) stored: Stored,
    envelope: OnceLock<Arc<Envelope>>,
}

impl Entry {
    pub(super) const fn new(stored: Stored) -> Self {
        Self { stored, envelope: OnceLock::new() }
    }

    pub(super) const fn offset(&self) -> u64 {
        self.stored.offset
    }

    pub(super) fn topic(&self) -> Option<&Topic> {
        self.stored.publication.as_ref().map(|publication| &publication.topic)
    }

    pub(super) const fn cursor(&self, epoch: Epoch) -> Cursor {
        Cursor::at(epoch, self.stored.offset, self.stored.time)
    }

    /// None for what is nothing to clients.
    pub(super) fn envelope(&self, epoch: Epoch) -> Option<&Arc<Envelope>> {
        let publication = self.stored.publication.as_ref()?;
        let make = || Arc::new(Envelope::new(publication, Some(self.cursor(epoch))));
        Some(self.envelope.get_or_init(make))
    }

    fn bytes(&self) -> usize {
        ENTRY_BYTES + self.stored.publication.as_ref().map_or(0, |one| one.payload.len())
    }
}

/// What one ring may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) items: usize,
    pub(super) bytes: usize,
}

/// The ring. LAW: everything in (floor, head] is an entry, or lies within a lost mark.
pub(super) struct Ring {
    bounds: Bounds,
    epoch: Epoch,
    head: u64,
    /// When the Publication at `head` was stored; unknown if it was lost.
    head_time: Option<Timestamp>,
    floor: u64,
    floor_time: Option<Timestamp>,
    entries: VecDeque<Entry>,
    topics: HashMap<Topic, VecDeque<u64>>,
    bytes: usize,
    /// (lo, hi], rising.
    lost: VecDeque<(u64, u64)>,
    /// The last that have left: where they were, and when they were stored.
    left: VecDeque<(u64, Timestamp)>,
}

impl Ring {
    /// An empty one that begins where a history stands.
    pub(super) fn at(head: &Head, bounds: Bounds) -> Self {
        Self::behind(head.epoch, head.last, Some(head.last_time), bounds)
    }

    fn behind(epoch: Epoch, offset: u64, time: Option<Timestamp>, bounds: Bounds) -> Self {
        Self {
            bounds,
            epoch,
            head: offset,
            head_time: time,
            floor: offset,
            floor_time: time,
            entries: VecDeque::new(),
            topics: HashMap::new(),
            bytes: 0,
            lost: VecDeque::new(),
            left: VecDeque::new(),
        }
    }

    /// Another history, or a part too far ahead to be read: begins again behind `offset`.
    pub(super) fn begin_again(&mut self, epoch: Epoch, offset: u64, time: Option<Timestamp>) {
        *self = Self::behind(epoch, offset, time, self.bounds);
    }

    pub(super) const fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) const fn head(&self) -> u64 {
        self.head
    }

    pub(super) const fn head_time(&self) -> Option<Timestamp> {
        self.head_time
    }

    /// An Offset that the floor takes a while to reach: a quarter of the way to the head.
    pub(super) const fn above_floor(&self) -> u64 {
        self.floor + (self.head - self.floor) / 4
    }

    pub(super) const fn floor(&self) -> u64 {
        self.floor
    }

    /// The place of all that has been seen.
    pub(super) fn cursor(&self) -> Cursor {
        self.cursor_at(self.head)
    }

    /// The place behind an Offset, with its check where that is known.
    pub(super) fn cursor_at(&self, offset: u64) -> Cursor {
        match self.handed_on_at(offset) {
            Some(time) => Cursor::at(self.epoch, offset, time),
            None => Cursor { epoch: self.epoch, offset, check: None },
        }
    }

    /// When what stands at this Offset was stored, if that is known here.
    pub(super) fn time_at(&self, offset: u64) -> Option<Timestamp> {
        if offset == self.head {
            return self.head_time;
        }
        if offset == self.floor {
            return self.floor_time;
        }
        self.get(offset).map(|entry| entry.stored.time)
    }

    /// When what was handed on with this Offset was stored, also if it has just left. A ring may hold
    /// very few; that an Offset is used again must be seen all the same.
    pub(super) fn handed_on_at(&self, offset: u64) -> Option<Timestamp> {
        let left = || {
            let at = self.left.binary_search_by_key(&offset, |(left, _)| *left).ok()?;
            self.left.get(at).map(|(_, time)| *time)
        };
        self.time_at(offset).or_else(left)
    }

    /// The last few that were handed on, or passed, and when they were stored.
    pub(super) fn newest(&self, items: usize) -> impl Iterator<Item = (u64, Timestamp)> {
        let last = self.entries.back().map(Entry::offset);
        let passed = self.head_time.map(|time| (self.head, time));
        let passed = passed.filter(|(offset, _)| last != Some(*offset));
        let entries = self.entries.iter().rev().map(|entry| (entry.offset(), entry.stored.time));
        let floor = self.floor_time.map(|time| (self.floor, time));
        let left = self.left.iter().rev().copied().filter(|(offset, _)| *offset < self.floor);
        passed.into_iter().chain(entries).chain(floor).chain(left).take(items)
    }

    fn get(&self, offset: u64) -> Option<&Entry> {
        let is_it = |entry: &&Entry| entry.offset() == offset;
        let oldest = self.entries.front()?.offset();
        // Where nothing is lost, no Offset is left out.
        let place = usize::try_from(offset.checked_sub(oldest)?).ok()?;
        self.entries.get(place).filter(is_it).or_else(|| {
            let place = self.entries.partition_point(|entry| entry.offset() < offset);
            self.entries.get(place).filter(is_it)
        })
    }

    /// Takes the next Publication. The oldest leave for it.
    pub(super) fn push(&mut self, entry: Entry) {
        assert!(entry.offset() == self.head + 1, "nothing is handed on before what came before it");
        self.head = entry.offset();
        self.head_time = Some(entry.stored.time);
        self.bytes += entry.bytes();
        if let Some(topic) = entry.topic() {
            match self.topics.get_mut(topic) {
                Some(offsets) => offsets.push_back(entry.offset()),
                None => drop(self.topics.insert(topic.clone(), [entry.offset()].into())),
            }
        }
        self.entries.push_back(entry);
        while self.entries.len() > self.bounds.items || self.bytes > self.bounds.bytes {
            self.evict();
        }
    }

    /// Passes Offsets that are gone. It may be known when the last of them was stored.
    pub(super) fn lose(&mut self, until: u64, time: Option<Timestamp>) {
        self.lost.push_back((self.head, until));
        self.head = until;
        self.head_time = time;
        // They leave with the ring; with few entries in it there are few of them, too.
        while self.lost.len() > self.bounds.items {
            self.evict();
        }
    }

    fn evict(&mut self) {
        let Some(oldest) = self.entries.pop_front() else {
            (self.floor, self.floor_time) = (self.head, self.head_time);
            self.lost.clear();
            return;
        };
        self.bytes -= oldest.bytes();
        (self.floor, self.floor_time) = (oldest.offset(), Some(oldest.stored.time));
        if self.left.len() >= LEFT {
            self.left.pop_front();
        }
        self.left.push_back((oldest.offset(), oldest.stored.time));
        if let Some(topic) = oldest.topic()
            && let Some(offsets) = self.topics.get_mut(topic)
        {
            offsets.pop_front();
            if offsets.is_empty() {
                self.topics.remove(topic);
            }
        }
        while self.lost.pop_front_if(|(_, hi)| *hi <= self.floor).is_some() {}
    }

    /// Whether an Offset above this one is lost.
    pub(super) fn lost_above(&self, offset: u64) -> bool {
        self.lost.back().is_some_and(|(_, hi)| *hi > offset)
    }

    /// What comes next behind an Offset that is not below the floor.
    pub(super) fn next(&self, offset: u64) -> Option<Next<'_>> {
        let at = self.entries.partition_point(|entry| entry.offset() <= offset);
        let lost = self.lost.iter().find(|(_, hi)| *hi > offset);
        match (self.entries.get(at), lost) {
            (Some(entry), Some((lo, hi))) if *lo < entry.offset() => Some(Next::Lost(*hi)),
            (Some(entry), _) => Some(Next::Entry(entry)),
            (None, Some((_, hi))) => Some(Next::Lost(*hi)),
            (None, None) => None,
        }
    }

    /// What these Patterns match behind an Offset that is not below the floor, by rising Offset.
    pub(super) fn missed(&self, patterns: &[Pattern], after: u64) -> Vec<u64> {
        let mut offsets = Vec::new();
        let mut add = |all: &VecDeque<u64>| {
            let at = all.partition_point(|offset| *offset <= after);
            offsets.extend(all.range(at..));
        };
        match patterns {
            [one] if !one.is_wild() => self.topics.get(one.as_str()).map_or((), add),
            _ => {
                for (topic, all) in &self.topics {
                    if all.back().is_some_and(|newest| *newest > after)
                        && patterns.iter().any(|pattern| pattern.matches(topic))
                    {
                        add(all);
                    }
                }
            }
        }
        offsets.sort_unstable();
        offsets
    }

    /// The entry at an Offset that [`missed`](Self::missed) named.
    pub(super) fn entry(&self, offset: u64) -> Option<&Entry> {
        self.get(offset)
    }

    /// The Offset below the n-th newest of a Topic, if that many are here.
    pub(super) fn below_newest(&self, topic: &str, n: usize) -> Option<u64> {
        let offsets = self.topics.get(topic)?;
        let at = offsets.len().checked_sub(n)?;
        offsets.get(at).map(|offset| offset - 1)
    }

    /// The Offset of the last that was stored before this time, if all that came later are here. What
    /// is lost behind it may have come later, too.
    pub(super) fn below_time(&self, time: Timestamp) -> Option<u64> {
        if self.floor_time.is_none_or(|floor| floor >= time) {
            return None;
        }
        let at = self.entries.partition_point(|entry| entry.stored.time < time);
        let before = at.checked_sub(1).and_then(|at| self.entries.get(at));
        Some(before.map_or(self.floor, Entry::offset))
    }
}

/// What stands next in a ring.
pub(super) enum Next<'a> {
    /// A Publication.
    Entry(&'a Entry),
    /// Nothing up to this Offset, and something had been there.
    Lost(u64),
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A ring of one still knows when those were stored that it has let go of, so that an Offset that
    /// is used again is seen; of another history it knows nothing.
    #[test]
    fn what_has_left_is_known_by_its_time() {
        let head = Head {
            epoch: Epoch::new(1),
            first: 1,
            first_time: Timestamp(0),
            last: 0,
            last_time: Timestamp(0),
            messages: 9,
        };
        let mut ring = Ring::at(&head, Bounds { items: 1, bytes: 9_999 });
        let last = 3 + u64::try_from(LEFT).unwrap();
        for offset in 1..=last {
            let time = Timestamp(100 + offset);
            ring.push(Entry::new(Stored { offset, time, publication: None }));
        }
        assert_eq!((ring.time_at(last - 2), ring.floor()), (None, last - 1));
        assert_eq!(ring.handed_on_at(last - 2), Some(Timestamp(98 + last)));
        // A Shard that fell behind comes back with it.
        assert!(ring.cursor_at(last - 2).check.is_some());
        assert_eq!((ring.handed_on_at(3), ring.handed_on_at(2)), (Some(Timestamp(103)), None));
        let newest: Vec<u64> = ring.newest(4).map(|(offset, _)| offset).collect();
        assert_eq!(newest, [last, last - 1, last - 2, last - 3]);
        ring.lose(last + 5, Some(Timestamp(999)));
        assert_eq!(
            ring.newest(2).collect::<Vec<_>>(),
            [(last + 5, Timestamp(999)), (last, Timestamp(100 + last))]
        );
        ring.begin_again(Epoch::new(2), last, None);
        assert_eq!(ring.handed_on_at(last - 2), None);
    }
}
