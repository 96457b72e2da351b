//! The Feed of a kept Namespace: all of it, in order, with what was missed before it.
//!
//! It listens to the whole Namespace on the live road, which may lose, repeat and reorder, and hands
//! on to each Shard what somebody there wants. An attach is located in the [`Ring`], or further back in
//! history, and answered part by part; the answer with its last part goes through the Shard's inbox,
//! and that place in the inbox is where live begins.
//!
//! LAW: a Publication is handed on only after every Offset before it was, or after the hole between
//! has been mended or told. The sentence is kept in `repair.rs`; everything else stands on it.
//!
//! ```text
//!     follow, head        1st check          hole seen         mended, or told
//!          ─────▶ suspect ─────────▶ whole ─────────▶ repairing ─────────▶ whole
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};

use super::attach::{self, Answer, Attach};
use super::history::{Job, Reads};
use super::meters::{Following, Repaired};
use super::opening::{CATCH_UP, Feed, OPEN_AGAIN, Spread, Work, finished};
use super::receiver::Receiver;
use super::ring::{self, Ring};
use super::waiting::{Doubt, Late, Waiting};
use super::{Ask, AttachError, Config, Event, PageError, Source, refuse};
use crate::bus::history::{Head, Stored};
use crate::bus::{Arrival, Bus, Live};
use crate::protocol::replay::{Begin, Rest};
use crate::protocol::{From, GapReason, Limit};
use crate::publication::Cursor;

/// What comes next by the live road, while there is one.
async fn next(live: &mut Option<impl Live>) -> Option<Arrival> {
    match live {
        Some(live) => live.next().await,
        None => pending().await,
    }
}

/// An open Feed.
pub(super) struct Open<B: Bus> {
    pub(super) config: Config,
    pub(super) namespace: Arc<str>,
    pub(super) bus: B,
    source: Source,
    /// Where its Namespace is counted.
    place: usize,
    pub(super) part: attach::Bounds,
    asks: mpsc::Receiver<Ask>,
    shards: Vec<Receiver>,
    pub(super) ring: Ring,
    /// Live copies behind a hole.
    pub(super) aside: BTreeMap<u64, Stored>,
    /// What lay at or below this when the Feed was opened is not missed by anybody here.
    pub(super) opened_at: Option<u64>,
    pub(super) repair: super::repair::Repair,
    waiting: Waiting,
    pub(super) reads: Reads,
    following: Work<Option<B::Live>>,
    position_at: Instant,
    catch_up_at: Option<Instant>,
    spread: Spread,
}

impl<B: Bus> Open<B> {
    pub(super) fn new(feed: Feed<B>, head: &Head) -> Self {
        let (config, namespace) = (feed.config, feed.namespace);
        let kept = config.namespaces.kept().count().max(1);
        let bounds = ring::Bounds {
            items: config.ring_items,
            bytes: config.ring_bytes.min(config.rings_bytes / kept),
        };
        let now = Instant::now();
        let mut spread = Spread(config.seed);
        Self {
            source: Source::Namespace(Arc::clone(&namespace)),
            place: config.namespaces.place(&namespace),
            part: attach::Bounds { items: config.part_items, bytes: config.part_bytes },
            namespace,
            bus: feed.bus,
            asks: feed.asks,
            shards: feed.shards.into_iter().map(|inbox| Receiver::new(inbox, head.last)).collect(),
            ring: Ring::at(head, bounds),
            aside: BTreeMap::new(),
            opened_at: Some(head.last),
            repair: super::repair::Repair::opened(now, &mut spread),
            waiting: Waiting::default(),
            reads: Reads::default(),
            following: None,
            position_at: now + config.position,
            catch_up_at: None,
            spread,
            config,
        }
    }

    /// Runs until the directory lets go of it.
    pub(super) async fn run(mut self, live: B::Live) {
        let mut live = Some(live);
        // One timer for all, and set only when what it waits for changes: not for each Publication.
        let timer = sleep_until(self.wakes_at());
        tokio::pin!(timer);
        loop {
            let wake = self.wakes_at();
            if timer.deadline() != wake {
                timer.as_mut().reset(wake);
            }
            tokio::select! {
                biased;
                () = &mut timer => self.tick(Instant::now()),
                answer = finished(&mut self.repair.checking) => self.checked(answer),
                page = finished(&mut self.repair.reading) => self.repaired(page),
                answer = finished(&mut self.reads.reading) => self.read(answer),
                ask = self.asks.recv() => match ask {
                    Some(ask) => self.take(ask),
                    None => return self.end().await,
                },
                followed = finished(&mut self.following) => live = self.followed(followed),
                arrival = next(&mut live) => match arrival {
                    Some(Arrival::Stored(stored)) => self.arrived(stored),
                    Some(Arrival::Lost) => self.suspect(),
                    // Nothing on this road is without a place.
                    Some(Arrival::Publication(_)) => self.suspect(),
                    None => {
                        live = None;
                        self.call_witnesses();
                        self.follow(Duration::ZERO);
                    }
                },
            }
            self.release();
            self.start_read();
        }
    }

    /// Listens again, unless the last try failed a moment ago.
    fn follow(&mut self, after: Duration) {
        let (bus, namespace) = (self.bus.clone(), Arc::clone(&self.namespace));
        self.following = Some(Box::pin(async move {
            sleep(after).await;
            bus.follow(&namespace).await.ok()
        }));
    }

    /// The Bus has ended the live road, or there is one again. What came meanwhile is found by checks.
    fn followed(&mut self, live: Option<B::Live>) -> Option<B::Live> {
        match live {
            Some(_) => self.suspect(),
            None => self.follow(OPEN_AGAIN),
        }
        live
    }

    /// Whoever still waits is answered.
    async fn end(mut self) {
        if self.reads.reading.is_some() {
            // It holds attaches, too; the Bus bounds it.
            let answer = finished(&mut self.reads.reading).await;
            self.read(answer);
        }
        let waiting: Vec<Attach> = self.waiting.end().collect();
        let queued: Vec<Attach> =
            self.shards.iter_mut().flat_map(|shard| std::mem::take(&mut shard.attaches)).collect();
        for attach in waiting.into_iter().chain(queued) {
            self.refuse(&attach, AttachError::BusUnavailable);
        }
        self.refuse_reads();
        for shard in self.shards {
            for answer in shard.waiting {
                // A Shard that is gone waits for nothing.
                let _ = shard.inbox.send(answer).await;
            }
        }
    }

    // What is asked.

    pub(super) fn take(&mut self, ask: Ask) {
        match ask {
            Ask::Attach { shard, patterns, begin, ticket } => {
                if self.is_full() {
                    let attach = Attach::new(shard, ticket, patterns, 0);
                    return self.refuse(&attach, AttachError::Overloaded(Limit::AttachesWaiting));
                }
                self.begin(Attach::new(shard, ticket, patterns, self.ring.head()), begin);
            }
            Ask::Detach { shard, pattern } => {
                if let Some(shard) = self.shards.get_mut(usize::from(shard.0)) {
                    shard.forget(&pattern);
                }
            }
            read @ Ask::Read { .. } if self.is_full() => refuse(read, PageError::Overloaded),
            Ask::Read { wanted, answer } => self.reads.jobs.push_back(Job::Page(wanted, answer)),
        }
        self.start_read();
    }

    fn is_full(&self) -> bool {
        let queued: usize = self.shards.iter().map(|shard| shard.attaches.len()).sum();
        let reads = self.reads.below.len() + self.reads.jobs.len();
        self.waiting.len() + reads + queued >= self.config.attaches_waiting
    }

    /// Finds the place behind which this attach wants all.
    fn begin(&mut self, mut attach: Attach, begin: Begin) {
        let epoch = self.ring.epoch();
        attach.resumes = matches!(begin, Begin::From(From::Cursor(_) | From::Since(_)));
        let place = match begin {
            // It may wait for its Shard; what is lost meanwhile would have come.
            Begin::From(From::Live) => return self.locate(attach.judged()),
            Begin::From(From::Last) => {
                return self.reads.jobs.push_back(Job::Newest { attach, above: 0 });
            }
            Begin::From(From::LastN(n)) => {
                let below = match &*attach.patterns {
                    [one] => self.ring.below_newest(one.as_str(), usize::from(n)),
                    _ => None,
                };
                // One that is lost may be among the last n.
                let Some(below) = below.filter(|below| !self.ring.lost_above(*below)) else {
                    return self.reads.jobs.push_back(Job::LastN(attach, n));
                };
                attach.after = below;
                return self.locate(attach);
            }
            Begin::From(From::Since(time)) => {
                let Some(below) = self.ring.below_time(time) else {
                    return self.reads.jobs.push_back(Job::Since(attach, time));
                };
                attach.after = below;
                return self.locate(attach.judged());
            }
            Begin::From(From::Cursor(cursors)) => match self.own(&cursors) {
                Some(own) => Some(own),
                None => return self.doubt(attach, Doubt::Strange(cursors)),
            },
            Begin::Rest(Rest::Missed { after, promised }) => {
                attach = attach.promised(promised);
                Some(after).filter(|after| after.epoch == epoch)
            }
            Begin::Rest(Rest::Values { above }) => match above.epoch == epoch {
                true => {
                    let above = above.offset;
                    return self.reads.jobs.push_back(Job::Newest { attach, above });
                }
                false => None,
            },
        };
        self.begin_at(attach, place);
    }

    /// The Cursor that is of this history, as far as the ring can tell.
    fn own(&self, cursors: &[Cursor]) -> Option<Cursor> {
        let own = cursors.iter().find(|cursor| cursor.epoch == self.ring.epoch());
        let fits = |own: &&Cursor| self.ring.time_at(own.offset).is_none_or(|time| own.fits(time));
        own.filter(fits).copied()
    }

    /// Begins behind this place; if there is none in this history, at its head.
    fn begin_at(&mut self, mut attach: Attach, place: Option<Cursor>) {
        match place {
            Some(cursor) => {
                attach.after = cursor.offset;
                attach.check = Some(cursor);
                self.locate(attach.judged());
            }
            None => self.skip(attach, GapReason::EpochChanged),
        }
    }

    /// Waits until history has been asked, after it came, which one it is. All who wait share a check.
    pub(super) fn doubt(&mut self, attach: Attach, why: Doubt) {
        self.waiting.doubt(attach, why, self.repair.next_check());
        self.repair.check_now();
    }

    /// This check has been answered, and what it found has been done.
    pub(super) fn judge_strangers(&mut self, check: u64) {
        for (attach, cursors) in self.waiting.strangers(check) {
            let place = self.own(&cursors);
            self.begin_at(attach, place);
        }
    }

    /// This check has found the same history: what could not be read is missing.
    pub(super) fn judge_unread(&mut self, check: u64) {
        for attach in self.waiting.unread(check) {
            self.skip_unread(attach);
        }
    }

    /// History could not be read: whatever lies below the ring is missing.
    pub(super) fn skip_unread(&mut self, mut attach: Attach) {
        attach.jump_to(self.ring.floor());
        self.locate(attach);
    }

    /// Brings an attach further: up to the head, where it is answered, or to what it must wait for.
    pub(super) fn locate(&mut self, mut attach: Attach) {
        let (head, floor) = (self.ring.head(), self.ring.floor());
        let needed = attach.proven.map_or(attach.after, |proven| proven.last.max(attach.after));
        if needed > head {
            return self.hold(attach, needed);
        }
        if let Some(shard) = self.shards.get_mut(usize::from(attach.shard.0))
            && shard.is_behind(head)
        {
            return shard.attaches.push_back(attach);
        }
        if let Some(check) = attach.check
            && let Some(time) = self.ring.time_at(check.offset)
        {
            attach.check = None;
            if !check.fits(time) {
                attach.skip_to(head, GapReason::EpochChanged);
            }
        }
        if attach.after < floor {
            return self.go_below(attach);
        }
        let missed = self.ring.missed(&attach.patterns, attach.after);
        attach.expect(missed.len(), self.part);
        for offset in missed {
            if let Some(entry) = self.ring.entry(offset)
                && !attach.take(entry, self.ring.epoch(), self.part)
            {
                return self.answer(attach.replay_promised(self.ring.cursor()));
            }
        }
        let ring = &self.ring;
        attach.judge(head, |offset| ring.lost_above(offset));
        self.answer(attach.replay(self.ring.cursor()));
    }

    /// Waits until the head has come this far.
    fn hold(&mut self, attach: Attach, head: u64) {
        self.waiting.hold(attach, head);
        self.check_twice();
    }

    /// Attaches that the head has reached go on.
    fn release(&mut self) {
        for attach in self.waiting.reached(self.ring.head()) {
            self.locate(attach);
        }
    }

    /// History stands at `last`. A Cursor above it is of another one, if that is so for a while.
    pub(super) fn release_foreign(&mut self, last: u64) {
        for attach in self.waiting.foreign(last) {
            self.skip(attach, GapReason::EpochChanged);
        }
    }

    /// Another history is followed: whoever waits and has got something has it of the old one. A Cursor
    /// that has been compared with nothing may be of either, if it has the same name.
    pub(super) fn unsettle(&mut self) {
        self.reads.snapshot = None;
        (self.reads.gathered_at, self.reads.gathered_by) = (None, None);
        self.reads.reads_old = self.reads.reading.is_some();
        let mut old = self.waiting.reached(u64::MAX);
        old.append(&mut self.reads.below);
        old.append(&mut self.waiting.unread(u64::MAX));
        old.extend(self.shards.iter_mut().flat_map(|shard| std::mem::take(&mut shard.attaches)));
        for job in std::mem::take(&mut self.reads.jobs) {
            match job {
                Job::Topics(attach) | Job::Newest { attach, above: 1.. } => old.push(attach),
                // It has no place yet.
                job => self.reads.jobs.push_back(job),
            }
        }
        for attach in old {
            match attach.is_new_to(self.ring.epoch()) {
                true => self.locate(attach),
                false => self.skip(attach, GapReason::EpochChanged),
            }
        }
    }

    pub(super) fn skip(&mut self, mut attach: Attach, why: GapReason) {
        attach.skip_to(self.ring.head(), why);
        self.locate(attach);
    }

    // What Shards get.

    pub(super) fn answer(&mut self, (shard, ticket, replay, recovery): Answer) {
        if let Some(recovery) = recovery {
            self.config.meters.recovered(recovery);
        }
        let Some(shard) = self.shards.get_mut(usize::from(shard.0)) else {
            return;
        };
        if replay.rest.is_none() {
            replay.patterns.iter().for_each(|pattern| shard.want(pattern));
        }
        shard.post(Event::Attached(ticket, Box::new(replay)));
        self.look_after_shards();
    }

    pub(super) fn refuse(&mut self, attach: &Attach, why: AttachError) {
        if let Some(shard) = self.shards.get_mut(usize::from(attach.shard.0)) {
            shard.post(Event::Refused(attach.ticket, why));
        }
        self.look_after_shards();
    }

    /// Takes the next Publication into the ring and hands it to whoever wants it.
    pub(super) fn accept(&mut self, stored: Stored) {
        let before = self.ring.head();
        self.ring.push(ring::Entry::new(stored));
        let (head, epoch) = (self.ring.head(), self.ring.epoch());
        let Some(entry) = self.ring.entry(head) else {
            // It was larger than the whole ring; Shards are told that they missed it.
            return self.look_after_shards();
        };
        let mut behind = false;
        let mut following =
            entry.stored.publication.as_deref().map(|publication| {
                self.config.meters.came((&self.namespace, self.place), publication)
            });
        for shard in &mut self.shards {
            let wanted = entry.topic().is_some_and(|topic| shard.wants(topic));
            let mut hand = || {
                let fanout = following.as_mut().and_then(Following::fanout);
                shard.hand(&self.source, entry, epoch, fanout)
            };
            if !shard.is_behind(before) && (!wanted || hand()) {
                shard.at = head;
            } else {
                behind = true;
            }
        }
        if behind {
            self.look_after_shards();
        }
    }

    /// Passes Offsets that are gone for good, and says so.
    pub(super) fn lose(&mut self, until: u64) {
        self.config.meters.repaired(Repaired::Lost);
        let time = self.repair.time_of(until);
        self.ring.lose(until, time);
        self.catch_up();
    }

    /// Tells everybody of a loss that has no place.
    pub(super) fn tell(&mut self, why: GapReason) {
        for shard in &mut self.shards {
            if shard.is_interested() && !shard.losses.contains(&why) {
                shard.losses.push(why);
            }
        }
        self.catch_up();
    }

    pub(super) fn spread(&mut self, least: Duration, most: Duration) -> Duration {
        self.spread.between(least, most)
    }

    /// The ring begins again at its head: whoever had not come so far goes on from there.
    pub(super) fn move_shards(&mut self) {
        for shard in &mut self.shards {
            shard.at = self.ring.head();
        }
    }

    fn look_after_shards(&mut self) {
        let head = self.ring.head();
        if self.catch_up_at.is_none() && self.shards.iter().any(|shard| shard.is_behind(head)) {
            self.catch_up_at = Some(Instant::now() + CATCH_UP);
        }
    }

    /// Those whose inbox was full go on from where they are.
    pub(super) fn catch_up(&mut self) {
        self.catch_up_at = None;
        let mut ready = VecDeque::new();
        for shard in &mut self.shards {
            if shard.catch_up(&self.ring, &self.source) {
                ready.append(&mut shard.attaches);
            }
        }
        for attach in ready {
            self.locate(attach);
        }
        self.look_after_shards();
    }

    // Time.

    fn wakes_at(&self) -> Instant {
        let gathered_at = self.reads.gathered_at.filter(|_| self.may_read());
        let times = [self.catch_up_at, gathered_at, self.waiting.until()];
        let first = times.into_iter().flatten().min();
        let first = first.map_or(self.position_at, |first| first.min(self.position_at));
        first.min(self.repair.wakes_at())
    }

    fn tick(&mut self, now: Instant) {
        if self.catch_up_at.is_some_and(|at| at <= now) {
            self.catch_up();
        }
        if self.position_at <= now {
            self.position_at = now + self.config.position;
            self.tell_positions();
        }
        for late in self.waiting.late(now) {
            match late {
                Late::Unread(attach) => self.skip_unread(attach),
                Late::Nowhere(attach) => self.refuse(&attach, AttachError::BusUnavailable),
            }
        }
        self.tick_repair(now);
    }

    fn tell_positions(&mut self) {
        let (head, cursor) = (self.ring.head(), self.ring.cursor());
        for shard in &mut self.shards {
            if shard.is_interested() && !shard.is_behind(head) {
                // Who has no room for it is not quiet.
                let position = Event::Position(Arc::clone(&self.namespace), cursor);
                let _ = shard.inbox.try_send(position);
            }
        }
    }
}
