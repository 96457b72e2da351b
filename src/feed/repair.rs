//! How a kept Feed finds and mends its holes.
//!
//! The live road loses, repeats and reorders. Offsets are contiguous, so the next Publication shows
//! any hole; a *check* (where does history stand?) finds the hole that nothing follows, and the
//! history that is no longer the same. What is missing is read from history and handed on in its
//! place; what is gone for good is told before anybody is brought past it.
//!
//! A history may lose its end and use Offsets again. By the time of a check it may stand where we do,
//! or further, so a check also reads the last few that were handed on: each that is still there must
//! be what it was. A time says nothing beside that of another Offset: those who write in turn have
//! clocks of their own.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::kept::Open;
use super::meters::Repaired;
use super::opening::{Spread, Work};
use super::read::{PAGE_BYTES, PAGE_ITEMS};
use crate::bus::Bus;
use crate::bus::history::{Head, Page, ReadError, Stored, Want};
use crate::protocol::GapReason;
use crate::publication::Timestamp;

/// Live copies that may wait behind a hole; beyond it the newest is dropped, and shows again.
const ASIDE_ITEMS: usize = 65_536;
/// Checks follow each other no faster.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// A suspect Feed is checked twice: soon, and once more.
const SUSPECT_SPREAD: Duration = Duration::from_millis(500);
const OPENED: Duration = Duration::from_millis(250);
const SECOND_CHECK: Duration = Duration::from_secs(1);
/// Of what was handed on, so many are compared with what is stored.
const WITNESSES: usize = 16;
/// So many wait for that at most, if history does not answer.
const WITNESSES_MAX: usize = 256;
/// When nothing comes, it is checked after this, and then now and then.
const SILENCE: Duration = Duration::from_secs(1);
const SILENCE_LEAST: Duration = Duration::from_secs(24);
const SILENCE_MOST: Duration = Duration::from_secs(36);
/// What history has is given this long to come by the live road.
const LIVE_ROAD: Duration = Duration::from_millis(150);
/// A history that has stood below what it once had for so long has lost its end; a new leader lags for
/// less.
const BELOW_MAX: Duration = Duration::from_secs(7);
const CHECK_AGAIN: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(900));
const READ_AGAIN: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(300));
/// A hole that could not be mended for so long is told.
const UNMENDED: Duration = Duration::from_secs(10);
/// A hole larger than this is not read; Shards attach again.
const HOLE_ITEMS_MAX: u64 = 100_000;

/// What history answered to a check.
pub(super) struct Checked {
    /// Which check, counted from 1.
    number: u64,
    /// What was known to have been stored when it was asked.
    given: u64,
    answer: Result<Head, ReadError>,
    /// Of what had been handed on: when it was stored.
    witnesses: BTreeMap<u64, Timestamp>,
    /// What is stored there now; none, if nothing was asked.
    page: Option<Result<Page, ReadError>>,
}

/// The state of checks and repairs.
pub(super) struct Repair {
    pub(super) checking: Work<Checked>,
    /// Checks that have been asked for.
    asked: u64,
    pub(super) reading: Work<Result<Page, ReadError>>,
    /// When checks are due, in no order.
    checks: Vec<Instant>,
    earliest_check: Instant,
    /// When silence is looked at, and whether something came since.
    silence_at: Instant,
    arrived: bool,
    /// What was handed on before something happened, for the next check.
    witnesses: BTreeMap<u64, Timestamp>,
    /// Since when history stands below what is known to have been stored.
    below_since: Option<Instant>,
    /// Everything up to here is known to have been stored.
    target: u64,
    /// Where history last stood above our head, and when that was stored.
    stood: Option<(u64, Timestamp)>,
    /// What is stored is not what was handed on; where history stands is being asked.
    distrusted: bool,
    /// When the next read may begin.
    read_at: Option<Instant>,
    failing_since: Option<Instant>,
    told: bool,
}

impl Repair {
    /// Of a Feed that has just been opened: what its listening missed at that moment shows soon.
    pub(super) fn opened(now: Instant, spread: &mut Spread) -> Self {
        let soon = spread.between(Duration::ZERO, OPENED);
        Self {
            checking: None,
            asked: 0,
            reading: None,
            checks: vec![now + soon, now + soon + SECOND_CHECK],
            earliest_check: now,
            silence_at: now + SILENCE,
            arrived: false,
            witnesses: BTreeMap::new(),
            below_since: None,
            target: 0,
            stood: None,
            distrusted: false,
            read_at: None,
            failing_since: None,
            told: false,
        }
    }

    pub(super) fn wakes_at(&self) -> Instant {
        let check = self.checks.iter().min().map(|due| (*due).max(self.earliest_check));
        let check = check.filter(|_| self.checking.is_none());
        let read = self.read_at.filter(|_| self.reading.is_none());
        let first = check.into_iter().chain(read).min();
        first.map_or(self.silence_at, |first| first.min(self.silence_at))
    }

    /// Whether what is stored may be another history than the ring.
    pub(super) const fn is_distrusted(&self) -> bool {
        self.distrusted
    }

    /// When this was stored, if history has stood there.
    pub(super) fn time_of(&self, offset: u64) -> Option<Timestamp> {
        self.stood.filter(|(stood, _)| *stood == offset).map(|(_, time)| time)
    }

    /// The number of the check that is asked for next.
    pub(super) const fn next_check(&self) -> u64 {
        self.asked + 1
    }

    /// Wants a check at once; one that is due already will do.
    pub(super) fn check_now(&mut self) {
        let now = Instant::now();
        if !self.checks.iter().any(|due| *due <= now) {
            self.check_at(now);
        }
    }

    /// Wants a check at this time. Two that wait are enough for everything.
    fn check_at(&mut self, due: Instant) {
        if self.checks.len() < 4 {
            self.checks.push(due);
        } else if let Some(latest) = self.checks.iter_mut().max() {
            *latest = due;
        }
    }
}

impl Checked {
    /// Asks where history stands, and for those witnesses that it must still have.
    async fn ask<B: Bus>(&mut self, bus: &B, namespace: &str) {
        self.answer = bus.head(namespace).await;
        let Ok(head) = self.answer else {
            return;
        };
        let mut within = self.witnesses.range(..=head.last).map(|(offset, _)| *offset);
        let Some(from) = within.next() else {
            return;
        };
        let until = within.next_back().unwrap_or(from);
        let want = Want { from, until, patterns: &[], items: PAGE_ITEMS, bytes: PAGE_BYTES };
        self.page = Some(bus.read(namespace, want).await);
    }

    /// Whether something else is stored in the place of what was handed on. What is not there any
    /// more says nothing; what was not read is kept.
    fn is_contradicted(&mut self) -> bool {
        let Some(Ok(page)) = &self.page else {
            return false;
        };
        let other = |stored: &Stored| {
            self.witnesses.get(&stored.offset).is_some_and(|time| *time != stored.time)
        };
        let contradicted = page.entries.iter().any(other);
        self.witnesses = self.witnesses.split_off(&(page.end + 1));
        contradicted
    }
}

impl<B: Bus> Open<B> {
    /// Something may be missing, and nothing may follow that would show it.
    pub(super) fn suspect(&mut self) {
        self.call_witnesses();
        let now = Instant::now();
        let soon = now + self.spread(Duration::ZERO, SUSPECT_SPREAD);
        self.repair.check_at(soon);
        self.repair.check_at(soon + SECOND_CHECK);
    }

    /// Wants to know at once, and once more, where history stands.
    pub(super) fn check_twice(&mut self) {
        let now = Instant::now();
        self.repair.check_at(now);
        self.repair.check_at(now + SECOND_CHECK);
    }

    /// Remembers what was handed on last: what comes from now on may be of a history written anew.
    pub(super) fn call_witnesses(&mut self) {
        for (offset, time) in self.ring.newest(WITNESSES) {
            if self.repair.witnesses.len() < WITNESSES_MAX {
                self.repair.witnesses.entry(offset).or_insert(time);
            }
        }
    }

    /// A Publication came by the live road.
    pub(super) fn arrived(&mut self, stored: Stored) {
        self.repair.arrived = true;
        if self.repair.distrusted {
            // It is of the history that is about to be begun, or shows as a hole in it.
            return;
        }
        let head = self.ring.head();
        let known = match stored.offset <= head {
            true => self.ring.handed_on_at(stored.offset),
            false => self.aside.get(&stored.offset).map(|other| other.time),
        };
        if known == Some(stored.time) {
            self.config.meters.came_again();
        }
        if known.is_some_and(|time| time != stored.time) {
            // Its place is used again. By the time of a check the new history may stand where we do,
            // and look like ours.
            return self.distrust();
        }
        if let Some(opened_at) = self.opened_at {
            if stored.offset <= opened_at {
                if self.ring.head_time().is_some_and(|time| time < stored.time) {
                    // No late copy, it seems: the history may have gone back.
                    self.check_twice();
                }
                return;
            }
            self.opened_at = None;
        }
        if stored.offset == head + 1 {
            self.accept(stored);
            self.accept_aside();
        } else if stored.offset > head {
            self.repair.target = self.repair.target.max(stored.offset);
            if self.aside.len() < ASIDE_ITEMS {
                self.aside.insert(stored.offset, stored);
            }
            self.repair.read_at.get_or_insert_with(Instant::now);
            self.mend();
        } else if known.is_none() {
            self.repair.check_now();
        }
    }

    /// What waited behind a hole that is mended.
    fn accept_aside(&mut self) {
        while let Some((offset, stored)) = self.aside.pop_first() {
            if offset > self.ring.head() + 1 {
                self.aside.insert(offset, stored);
                return;
            }
            if offset == self.ring.head() + 1 {
                if self.is_older(&stored) {
                    self.repair.read_at.get_or_insert_with(Instant::now);
                    return;
                }
                self.accept(stored);
            }
        }
    }

    /// Whether what waited is older than what has come before it: the history may have gone back, and
    /// that may have been written anew. Then it is read, as if no copy had come.
    fn is_older(&self, waited: &Stored) -> bool {
        self.ring.head_time().is_some_and(|time| waited.time < time)
    }

    pub(super) fn tick_repair(&mut self, now: Instant) {
        if self.repair.silence_at <= now {
            let arrived = std::mem::take(&mut self.repair.arrived);
            self.repair.silence_at = match arrived {
                true => now + SILENCE,
                false => now + self.spread(SILENCE_LEAST, SILENCE_MOST),
            };
            if !arrived {
                self.repair.check_at(now);
            }
        }
        let due = self.repair.checks.iter().any(|due| *due <= now);
        if due && self.repair.earliest_check <= now && self.repair.checking.is_none() {
            self.repair.checks.retain(|due| *due > now);
            self.repair.earliest_check = now + CHECK_INTERVAL;
            let (bus, namespace) = (self.bus.clone(), self.namespace.clone());
            self.call_witnesses();
            self.repair.asked += 1;
            let mut checked = Checked {
                number: self.repair.asked,
                given: self.ring.head().max(self.repair.target),
                answer: Err(ReadError::Unavailable),
                witnesses: std::mem::take(&mut self.repair.witnesses),
                page: None,
            };
            self.repair.checking = Some(Box::pin(async move {
                checked.ask(&bus, &namespace).await;
                checked
            }));
        }
        self.mend();
    }

    /// History has said where it stands, or has not answered.
    pub(super) fn checked(&mut self, mut checked: Checked) {
        let contradicted = checked.is_contradicted();
        self.repair.witnesses.append(&mut checked.witnesses);
        if checked.answer.is_err() || matches!(checked.page, Some(Err(_))) {
            let again = Instant::now() + self.spread(CHECK_AGAIN.0, CHECK_AGAIN.1);
            self.repair.check_at(again);
        }
        let Ok(head) = checked.answer else {
            if self.repair.distrusted {
                self.refuse_reads();
            }
            return;
        };
        if head.epoch != self.ring.epoch() || self.repair.distrusted {
            self.lose_epoch(&head);
        } else if contradicted {
            self.distrust();
        } else {
            self.compare(checked.given, &head);
        }
        if self.repair.distrusted {
            return;
        }
        self.judge_strangers(checked.number);
        if self.repair.below_since.is_none() {
            self.judge_unread(checked.number);
        }
    }

    /// It is the history that is followed: where it stands, and what had been stored when it was asked.
    fn compare(&mut self, given: u64, head: &Head) {
        let now = Instant::now();
        self.release_foreign(head.last);
        if head.last < given {
            let since = *self.repair.below_since.get_or_insert(now);
            if now - since >= BELOW_MAX {
                // Something may have come since it was asked.
                return self.distrust();
            }
            return self.repair.check_at(now + SECOND_CHECK);
        }
        self.repair.below_since = None;
        let known = (head.last == self.ring.head()).then(|| self.ring.head_time()).flatten();
        if known.is_some_and(|time| time != head.last_time) {
            return self.lose_epoch(head);
        }
        if head.last > self.ring.head() {
            self.repair.stood = Some((head.last, head.last_time));
            self.repair.target = self.repair.target.max(head.last);
            self.repair.read_at.get_or_insert(now + LIVE_ROAD);
        }
    }

    /// Another history has taken the place of the one that was followed: what it has is news. If it is
    /// the same one that lost its end, most of what it has is not, so it is followed from where it stands.
    fn lose_epoch(&mut self, head: &Head) {
        warn!(namespace = %self.namespace, "The history is another one");
        self.config.meters.repaired(Repaired::Replaced);
        self.aside.clear();
        self.opened_at = None;
        self.repair.witnesses.clear();
        match head.epoch == self.ring.epoch() {
            true => self.ring.begin_again(head.epoch, head.last, Some(head.last_time)),
            false => self.ring.begin_again(head.epoch, head.first - 1, None),
        }
        self.move_shards();
        self.tell(GapReason::EpochChanged);
        self.unsettle();
        self.repair.below_since = None;
        self.repair.distrusted = false;
        self.repair.reading = None;
        self.repair.stood = Some((head.last, head.last_time));
        self.repair.target = head.last;
        self.repair.read_at = (head.last > self.ring.head()).then(Instant::now);
        self.repair.check_at(Instant::now() + SECOND_CHECK);
    }

    /// Reads what is missing, if it is time to.
    fn mend(&mut self) {
        let now = Instant::now();
        let (head, target) = (self.ring.head(), self.repair.target);
        if head >= target {
            self.repair.read_at = None;
            self.repair.failing_since = None;
            self.repair.told = false;
            return;
        }
        if self.repair.reading.is_some() || self.repair.read_at.is_none_or(|at| at > now) {
            return;
        }
        let first = self.aside.first_key_value().map_or(target, |(first, _)| first - 1);
        if first.saturating_sub(head) > HOLE_ITEMS_MAX {
            return self.jump();
        }
        let until = self.last_missing();
        let (bus, namespace) = (self.bus.clone(), self.namespace.clone());
        self.repair.read_at = None;
        self.repair.reading = Some(Box::pin(async move {
            // What stands at the head is read as well: it must still be what was handed on.
            let want = Want {
                from: head.max(1),
                until,
                patterns: &[],
                items: PAGE_ITEMS,
                bytes: PAGE_BYTES,
            };
            bus.read(&namespace, want).await
        }));
    }

    /// The last that is missing within a page. A road that loses every other one leaves a hole at each,
    /// and a read for each would take for ever.
    fn last_missing(&self) -> u64 {
        let first = self.ring.head() + 1;
        let mut until = self.repair.target.min(self.ring.head() + PAGE_ITEMS as u64);
        while until > first && self.aside.contains_key(&until) {
            until -= 1;
        }
        until
    }

    /// A part of what is missing was read.
    pub(super) fn repaired(&mut self, page: Result<Page, ReadError>) {
        let now = Instant::now();
        let Ok(page) = page else {
            let since = *self.repair.failing_since.get_or_insert(now);
            if since.elapsed() >= UNMENDED && !self.repair.told {
                self.repair.told = true;
                self.config.meters.repaired(Repaired::Failed);
                self.tell(GapReason::BusInterrupted);
            }
            self.repair.read_at = Some(now + self.spread(READ_AGAIN.0, READ_AGAIN.1));
            return;
        };
        self.repair.failing_since = None;
        let head = self.ring.head();
        for stored in page.entries {
            if stored.offset == head
                && self.ring.head() == head
                && self.ring.head_time().is_some_and(|time| time != stored.time)
            {
                // It went back and has been written on: where it stands is asked again.
                return self.distrust();
            }
            self.accept_aside_below(stored.offset);
            if stored.offset > self.ring.head() {
                self.pass_hole(stored.offset - 1);
                self.accept(stored);
            }
        }
        self.accept_aside_below(page.end + 1);
        self.pass_hole(page.end);
        self.accept_aside();
        if self.ring.head() >= self.repair.target {
            self.config.meters.repaired(Repaired::Mended);
        }
        self.repair.read_at = Some(now);
        self.mend();
    }

    /// Live copies come before stored ones: limits may have taken those already.
    fn accept_aside_below(&mut self, offset: u64) {
        while let Some((at, stored)) = self.aside.pop_first() {
            if at >= offset {
                self.aside.insert(at, stored);
                return;
            }
            if at > self.ring.head() && !self.is_older(&stored) {
                self.pass_hole(at - 1);
                self.accept(stored);
            }
        }
    }

    /// Everything up to here that did not come is gone.
    fn pass_hole(&mut self, until: u64) {
        if until > self.ring.head() {
            self.lose(until);
        }
    }

    /// The history is not what was handed on from it. Where it stands is asked at once.
    pub(super) fn distrust(&mut self) {
        let offset = self.ring.head();
        warn!(namespace = %self.namespace, offset, "The history was written anew");
        self.repair.distrusted = true;
        // What is under way was asked before.
        self.repair.checking = None;
        self.repair.reading = None;
        self.repair.target = offset;
        self.repair.check_now();
    }

    /// Too much is missing to be read: whoever wants it attaches again.
    fn jump(&mut self) {
        self.config.meters.repaired(Repaired::Skipped);
        let target = self.repair.target;
        info!(namespace = %self.namespace, offset = target, "Too far behind; Shards attach again");
        self.aside.retain(|offset, _| *offset > target);
        self.ring.begin_again(self.ring.epoch(), target, None);
        self.catch_up();
        self.accept_aside();
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;
    use crate::bus::memory::Memory;
    use crate::feed::Config;
    use crate::feed::opening::Feed;
    use crate::namespace::{self, History, Namespaces};
    use crate::publication::Epoch;

    /// A Feed that was opened where its history stood at 2, stored at 20.
    fn opened() -> Open<Memory> {
        let rules = History::default();
        let bus = Memory::new([("k", &rules)], || Timestamp(1));
        let kept = namespace::Config { history: Some(rules), ..Default::default() };
        let namespaces = Namespaces::new([("k".to_owned(), kept)].into(), false);
        let config = Config { namespaces: namespaces.into(), ..Config::default() };
        let (_, asks) = mpsc::channel(1);
        let head = Head {
            epoch: Epoch::new(1),
            first: 1,
            first_time: Timestamp(10),
            last: 2,
            last_time: Timestamp(20),
            messages: 9,
        };
        Open::new(Feed::new(&config, "k".into(), bus, asks, Vec::new()), &head)
    }

    fn stored(offset: u64, time: u64) -> Stored {
        Stored { offset, time: Timestamp(time), publication: None }
    }

    /// What waits behind a hole is not handed on behind what is newer: that is of a history written
    /// anew, and what waits may be of the one before. It is read, as the first was to be.
    #[tokio::test(start_paused = true)]
    async fn what_waited_is_no_older_than_what_came() {
        let mut feed = opened();
        feed.arrived(stored(4, 40));
        feed.arrived(stored(5, 50));
        feed.arrived(stored(3, 60));
        assert_eq!(feed.ring.head(), 3);
        assert!(feed.repair.read_at.is_some() || feed.repair.reading.is_some());
        feed.arrived(stored(4, 70));
        assert_eq!(feed.ring.head(), 4);
        feed.arrived(stored(5, 80));
        assert_eq!(feed.ring.head(), 5);

        let mut feed = opened();
        feed.arrived(stored(4, 40));
        feed.arrived(stored(3, 30));
        assert_eq!(feed.ring.head(), 4);
    }

    /// A late copy of what lay there when a Feed was opened is nothing to it. One that is newer than all
    /// of it cannot be one: where history stands is asked at once.
    #[tokio::test(start_paused = true)]
    async fn what_is_newer_than_all_and_lies_below_is_looked_at() {
        let mut feed = opened();
        feed.arrived(stored(1, 10));
        assert!(feed.repair.wakes_at() > Instant::now());
        feed.arrived(stored(1, 30));
        assert!(feed.repair.wakes_at() <= Instant::now());
        assert_eq!(feed.ring.head(), 2);
    }
}
