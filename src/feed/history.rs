//! What a kept Feed reads from history for those who begin below its ring.
//!
//! One read at a time, whoever it is for: a stream takes no writes while it is read. Attaches that
//! begin not too far below the ring gather for a moment and share the next read; exact Topics further
//! down, snapshots and pages have a *job* each, in line. What a read brings, the Feed puts in its place.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::attach::Attach;
use super::kept::Open;
use super::opening::Work;
use super::read::{Dealt, PAGE_ITEMS, Reader, values};
use super::waiting::Doubt;
use super::{AttachError, Page, PageError, Wanted, ring};
use crate::bus::Bus;
use crate::bus::history::{Head, Newest, ReadError, Stored};
use crate::protocol::GapReason;
use crate::publication::{Epoch, Timestamp};
use crate::topic::Pattern;

/// Who has to read history waits until for so long nobody else came who has to,
const GATHER: Duration = Duration::from_millis(10);
/// but no longer than this for each thousand Publications to read: a crowd is worth one read.
const GATHER_MOST: Duration = Duration::from_millis(5);
/// Further below the ring nobody reads a whole Namespace.
const READ_ITEMS_MAX: u64 = 100_000;
/// Reads of one attach, each of which the ring has outrun.
const ROUNDS_MAX: u8 = 8;
/// One snapshot answers everybody who asks for the same within this time.
const SNAPSHOT_SHARED: Duration = Duration::from_secs(1);

/// The state of reads.
#[derive(Default)]
pub(super) struct Reads {
    /// Those that begin below the ring, for the next read.
    pub(super) below: Vec<Attach>,
    /// The last read was for those alone that begin a page below the ring.
    was_near: bool,
    /// When that read begins.
    pub(super) gathered_at: Option<Instant>,
    /// It begins no later, whoever comes.
    pub(super) gathered_by: Option<Instant>,
    pub(super) jobs: VecDeque<Job>,
    pub(super) reading: Work<Answer>,
    /// What is being read is of a history that is not followed any more.
    pub(super) reads_old: bool,
    pub(super) snapshot: Option<Snapshot>,
}

impl Reads {
    fn gather(&mut self, attach: Attach, distance: u64) {
        let now = Instant::now();
        let thousands = u32::try_from(distance / 1_000).unwrap_or(u32::MAX);
        let most = now + GATHER.max(GATHER_MOST * thousands);
        let by = *self.gathered_by.get_or_insert(most);
        self.gathered_at = Some(by.min(now + GATHER));
        self.below.push(attach);
    }

    /// Those whom the next read is for. Who is nearly there and read together with who is far from it
    /// would be outrun by the ring, again and again: they take turns.
    fn next(&mut self, floor: u64, most: usize) -> Vec<Attach> {
        let below = std::mem::take(&mut self.below);
        let near = |attach: &Attach| floor.saturating_sub(attach.after) <= PAGE_ITEMS as u64;
        let (near, far): (Vec<Attach>, Vec<Attach>) = below.into_iter().partition(near);
        self.was_near = far.is_empty() || !near.is_empty() && !self.was_near;
        let (mut attaches, mut rest) = if self.was_near { (near, far) } else { (far, near) };
        rest.extend(attaches.drain(most.min(attaches.len())..));
        self.below = rest;
        attaches
    }
}

pub(super) enum Job {
    Topics(Attach),
    Newest { attach: Attach, above: u64 },
    Since(Attach, Timestamp),
    LastN(Attach, u16),
    Page(Wanted, oneshot::Sender<Result<Page, PageError>>),
}

pub(super) enum Answer {
    Dealt(Dealt),
    Newest {
        attach: Attach,
        above: u64,
        epoch: Epoch,
        newest: Result<Newest, ReadError>,
    },
    /// Where to begin; whether something before it is known to be missing, if that counts.
    Begin {
        attach: Attach,
        after: Result<(u64, Option<(bool, Head)>), ReadError>,
    },
    Page,
}

pub(super) struct Snapshot {
    patterns: Arc<[Pattern]>,
    until: Instant,
    newest: Newest,
}

impl<B: Bus> Open<B> {
    /// It begins further back than the ring reaches.
    pub(super) fn go_below(&mut self, mut attach: Attach) {
        let (head, floor) = (self.ring.head(), self.ring.floor());
        if attach.rounds >= ROUNDS_MAX {
            return self.skip_unread(attach);
        }
        attach.rounds += 1;
        let distance = floor - attach.after;
        if distance <= READ_ITEMS_MAX {
            self.reads.gather(attach, distance);
        } else if attach.is_exact() {
            self.reads.jobs.push_back(Job::Topics(attach));
        } else {
            attach.skip_to(head, GapReason::ReplayLimit);
            self.locate(attach);
        }
    }

    fn reader(&self) -> Reader<B> {
        Reader {
            bus: self.bus.clone(),
            namespace: Arc::clone(&self.namespace),
            epoch: self.ring.epoch(),
            bounds: self.part,
            topics_max: self.config.snapshot_topics,
        }
    }

    /// Whether none is under way, and what is stored is the history that is followed.
    pub(super) fn may_read(&self) -> bool {
        self.reads.reading.is_none() && !self.repair.is_distrusted()
    }

    /// Begins the next read, if it may.
    pub(super) fn start_read(&mut self) {
        while self.may_read() {
            // Beyond the floor: it rises while this is read, and nobody would ever reach it.
            let until = self.ring.above_floor();
            if self.reads.gathered_at.is_some_and(|at| at <= Instant::now()) {
                let most = (self.config.read_bytes / self.part.bytes).max(1);
                let attaches = self.reads.next(self.ring.floor(), most);
                self.reads.gathered_by = (!self.reads.below.is_empty()).then(Instant::now);
                self.reads.gathered_at = self.reads.gathered_by;
                let reader = self.reader();
                self.reads.reading = Some(Box::pin(async move {
                    Answer::Dealt(reader.deal(attaches, until, &[]).await)
                }));
                return;
            }
            let Some(job) = self.reads.jobs.pop_front() else {
                return;
            };
            let reader = self.reader();
            self.reads.reading = match job {
                Job::Topics(attach) => Some(Box::pin(async move {
                    let topics = Arc::clone(&attach.patterns);
                    Answer::Dealt(reader.deal(vec![attach], until, &topics).await)
                })),
                Job::Newest { attach, above } => match self.known_snapshot(&attach, above) {
                    Some(newest) => {
                        self.snapshot_came(attach, above, newest);
                        continue;
                    }
                    None => Some(Box::pin(async move {
                        let newest = reader.newest(&attach.patterns).await;
                        Answer::Newest { attach, above, epoch: reader.epoch, newest }
                    })),
                },
                Job::Since(attach, time) => Some(Box::pin(async move {
                    let after = reader.below_time(time).await;
                    let after = after.map(|(after, trimmed, head)| (after, Some((trimmed, head))));
                    Answer::Begin { attach, after }
                })),
                Job::LastN(attach, n) => Some(Box::pin(async move {
                    let mut lowest = Ok((u64::MAX, None));
                    for pattern in attach.patterns.iter() {
                        let below = reader.below_newest(pattern, usize::from(n)).await;
                        lowest = lowest.and_then(|(low, _)| Ok((low.min(below?), None)));
                    }
                    Answer::Begin { attach, after: lowest }
                })),
                Job::Page(_, answer) if answer.is_closed() => continue,
                Job::Page(wanted, answer) => Some(Box::pin(async move {
                    // Whoever asked may have given up.
                    let _ = answer.send(reader.page(&wanted).await);
                    Answer::Page
                })),
            };
        }
    }

    pub(super) fn read(&mut self, answer: Answer) {
        if std::mem::take(&mut self.reads.reads_old) || self.repair.is_distrusted() {
            return self.read_in_vain(answer);
        }
        match answer {
            Answer::Page => {}
            Answer::Dealt(dealt) => self.dealt(dealt),
            Answer::Newest { attach, above, epoch, newest } => match newest {
                Ok(newest) if epoch == self.ring.epoch() => {
                    if above == 0 {
                        let until = Instant::now() + SNAPSHOT_SHARED;
                        let patterns = Arc::clone(&attach.patterns);
                        self.reads.snapshot =
                            Some(Snapshot { patterns, until, newest: newest.clone() });
                    }
                    self.snapshot_came(attach, above, newest);
                }
                Ok(_) => self.skip(attach, GapReason::EpochChanged),
                Err(ReadError::TooManyTopics) => self.refuse(&attach, AttachError::TooManyTopics),
                Err(ReadError::Unavailable) => self.refuse(&attach, AttachError::BusUnavailable),
            },
            Answer::Begin { mut attach, after } => match after {
                Ok((after, trimmed)) => {
                    attach.after = after;
                    let Some((trimmed, head)) = trimmed else {
                        // Of the last n none may be lost before it is brought.
                        return self.locate(attach.judged_by_losses());
                    };
                    attach = attach.judged();
                    // What has left between the time and the first shows by its Topic's number.
                    attach.proven = Some(head);
                    if trimmed {
                        attach.trimmed();
                    }
                    self.locate(attach);
                }
                Err(_) => self.refuse(&attach, AttachError::BusUnavailable),
            },
        }
    }

    /// Whoever waits for a read is answered.
    pub(super) fn refuse_reads(&mut self) {
        (self.reads.gathered_at, self.reads.gathered_by) = (None, None);
        for attach in std::mem::take(&mut self.reads.below) {
            self.refuse(&attach, AttachError::BusUnavailable);
        }
        for job in std::mem::take(&mut self.reads.jobs) {
            match job {
                Job::Topics(attach)
                | Job::Newest { attach, .. }
                | Job::Since(attach, _)
                | Job::LastN(attach, _) => self.refuse(&attach, AttachError::BusUnavailable),
                Job::Page(_, answer) => drop(answer.send(Err(PageError::BusUnavailable))),
            }
        }
    }

    /// It was read from another history than the one that is followed, or that is about to be.
    fn read_in_vain(&mut self, answer: Answer) {
        match answer {
            Answer::Page => {}
            Answer::Newest { attach, above: 0, .. } => {
                self.reads.jobs.push_back(Job::Newest { attach, above: 0 });
            }
            Answer::Newest { attach, .. } | Answer::Begin { attach, .. } => {
                self.skip(attach, GapReason::EpochChanged);
            }
            Answer::Dealt(Dealt { done, stopped, foreign, .. }) => {
                for attach in done.into_iter().chain(stopped).chain(foreign) {
                    self.skip(attach, GapReason::EpochChanged);
                }
            }
        }
    }

    fn dealt(&mut self, dealt: Dealt) {
        let epoch = self.ring.epoch();
        for attach in dealt.foreign {
            self.skip(attach, GapReason::EpochChanged);
        }
        for attach in dealt.stopped {
            self.answer(attach.replay_promised(self.ring.cursor()));
        }
        for mut attach in dealt.done {
            match dealt.proven {
                Ok(proven) if dealt.epoch == epoch && proven.epoch == epoch => {
                    attach.proven = Some(proven);
                    self.locate(attach);
                }
                Ok(_) => self.skip(attach, GapReason::EpochChanged),
                Err(_) => self.doubt(attach, Doubt::Unread),
            }
        }
    }

    /// A snapshot that was read a moment ago, for those who want the same.
    fn known_snapshot(&self, attach: &Attach, above: u64) -> Option<Newest> {
        let known = self.reads.snapshot.as_ref()?;
        let good = above == 0
            && known.until > Instant::now()
            && known.newest.as_of >= self.ring.floor()
            && known.patterns == attach.patterns;
        good.then(|| known.newest.clone())
    }

    fn snapshot_came(&mut self, mut attach: Attach, above: u64, newest: Newest) {
        if newest.as_of < self.ring.floor() {
            // Whoever answered lags behind.
            attach.rounds += 1;
            if attach.rounds > ROUNDS_MAX {
                return self.refuse(&attach, AttachError::BusUnavailable);
            }
            return self.reads.jobs.push_back(Job::Newest { attach, above });
        }
        let other = |stored: &Stored| {
            self.ring.time_at(stored.offset).is_some_and(|time| time != stored.time)
        };
        if newest.entries.iter().any(other) {
            self.reads.jobs.push_back(Job::Newest { attach, above });
            return self.distrust();
        }
        let as_of = newest.as_of;
        for stored in values(newest.entries, above) {
            let entry = ring::Entry::new(stored);
            if !attach.take_value(&entry, self.ring.epoch(), self.part) {
                return self.answer(attach.replay_values(self.ring.cursor()));
            }
        }
        attach.after = as_of;
        self.locate(attach.judged());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::mpsc;
    use tokio::task::JoinSet;
    use tokio::time::{Instant, sleep};

    use crate::bus::Bus;
    use crate::bus::memory::Memory;
    use crate::feed::lagging::Lagging;
    use crate::feed::{Config, Directory, Event, Feeds, ShardId, Ticket};
    use crate::namespace::{self, History, Namespaces};
    use crate::protocol::replay::{Begin, Replay};
    use crate::protocol::{From, GapReason};
    use crate::publication::{Publication, Timestamp};
    use crate::topic::Topic;

    fn publication(n: u64) -> Publication {
        Publication {
            topic: Topic::parse("k.a").unwrap(),
            id: n.to_string().into(),
            time: Timestamp(n),
            user: None,
            payload: "1".into(),
            trace: None,
        }
    }

    fn rules(messages: u32) -> History {
        History { messages, ..History::default() }
    }

    fn memory(messages: u32) -> Memory {
        Memory::new([("k", &rules(messages))], || Timestamp(1))
    }

    /// The Feed of `k`, and a Shard that has it. They end with the test.
    struct Stage {
        feeds: Feeds,
        events: mpsc::Receiver<Event>,
        tasks: JoinSet<()>,
    }

    impl Stage {
        fn new(bus: impl Bus, messages: u32, config: Config) -> Self {
            let kept = namespace::Config { history: Some(rules(messages)), ..Default::default() };
            let namespaces = Arc::new(Namespaces::new([("k".to_owned(), kept)].into(), false));
            let ((feeds, asks), (inbox, events)) = (Feeds::channel(), mpsc::channel(99_999));
            let mut tasks = JoinSet::new();
            let config = Config { namespaces, ..config };
            tasks.spawn(Directory::new(config, bus, asks, vec![inbox]).run());
            Self { feeds, events, tasks }
        }

        fn attach(&self, connection: u64, begin: Begin) {
            let ticket = Ticket { connection, number: 1 };
            self.feeds.attach(ShardId(0), ["k.a".parse().unwrap()].into(), begin, ticket).unwrap();
        }

        /// The next answer to an attach, and whose it is. What is live meanwhile does not matter.
        async fn replay(&mut self) -> (u64, Replay) {
            loop {
                match self.events.recv().await {
                    Some(Event::Attached(ticket, replay)) => return (ticket.connection, *replay),
                    Some(Event::Live(..)) => {}
                    other => panic!("{other:?} is no replay"),
                }
            }
        }
    }

    /// Publishes from this one on, without end.
    async fn goes_on(bus: impl Bus, first: u64) {
        for n in first.. {
            bus.publish(publication(n)).await.unwrap();
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// A replay from history in parts of two, while retention takes two that were to come: the part
    /// in which they would have come says so, as its client may leave behind it.
    #[tokio::test(start_paused = true)]
    async fn what_leaves_between_two_parts_is_told_with_the_second() {
        let bus = memory(9);
        let config = Config { part_items: 2, ring_items: 1, ..Config::default() };
        let mut stage = Stage::new(bus.clone(), 9, config);
        let publish = async |numbers: std::ops::RangeInclusive<u64>| {
            for n in numbers {
                bus.publish(publication(n)).await.unwrap();
            }
        };
        let mut next = async |begin| {
            stage.attach(1, begin);
            stage.replay().await.1
        };
        let brings = |part: &Replay| -> Vec<u64> {
            part.envelopes.iter().filter_map(|one| Some(one.cursor()?.offset)).collect()
        };

        publish(1..=9).await;
        let first = next(Begin::From(From::Since(Timestamp(1)))).await;
        assert_eq!((brings(&first), first.recovered), (vec![1, 2], Ok(())));
        publish(10..=13).await;
        let second = next(Begin::Rest(first.rest.unwrap())).await;
        assert_eq!((brings(&second)[0], second.recovered), (4, Err(GapReason::HistoryTrimmed)));
        let third = next(Begin::Rest(second.rest.unwrap())).await;
        assert_eq!(third.recovered, Ok(()));
    }

    /// Who begins below the ring reaches it, although the ring goes on all the time while history is
    /// read: a read takes as long as some Publications.
    #[tokio::test(start_paused = true)]
    async fn a_ring_that_goes_on_is_reached() {
        let bus = Lagging::read_slowly(memory(100_000), Duration::from_millis(20));
        let config = Config { ring_items: 40, ..Config::default() };
        let mut stage = Stage::new(bus.clone(), 100_000, config);
        let publish = async |n| bus.publish(publication(n)).await.unwrap().cursor.unwrap();
        stage.attach(1, Begin::From(From::Live));
        stage.replay().await;
        let first = publish(1).await;
        for n in 2..100 {
            publish(n).await;
        }
        let hundredth = publish(100).await;
        while !matches!(stage.events.recv().await, Some(Event::Live(_, last, _)) if last.cursor() == Some(hundredth))
        {
        }
        stage.tasks.spawn(goes_on(bus.clone(), 101));
        stage.attach(1, Begin::From(From::Cursor([first].into())));
        let (_, replay) = stage.replay().await;
        assert_eq!(replay.recovered, Ok(()));
        assert!(replay.envelopes.len() >= 99);
    }

    /// Who is nearly there is not read together with who has far to go: the ring would outrun it.
    #[tokio::test(start_paused = true)]
    async fn who_is_near_does_not_wait_for_who_is_far() {
        let bus = Lagging::read_slowly(memory(100_000), Duration::from_millis(20));
        let config = Config { ring_items: 40, ..Config::default() };
        let mut stage = Stage::new(bus.clone(), 100_000, config);
        let publish = async |n| bus.publish(publication(n)).await.unwrap().cursor.unwrap();
        let (near, far) = (1, 2);
        let first = publish(1).await;
        let mut last = first;
        for n in 2..=30_000 {
            last = publish(n).await;
        }
        stage.attach(far, Begin::From(From::Cursor([first].into())));
        stage.tasks.spawn(goes_on(bus.clone(), 30_001));
        let mut parts = 0;
        let recovered = loop {
            let (whose, replay) = stage.replay().await;
            if whose == near {
                break replay.recovered;
            }
            parts += 1;
            stage.attach(far, Begin::Rest(replay.rest.expect("there is more")));
            if parts == 3 {
                stage.attach(near, Begin::From(From::Cursor([last].into())));
            }
        };
        assert_eq!(recovered, Ok(()));
    }

    /// A road that loses every other message leaves as many holes; they are mended by the page.
    #[tokio::test(start_paused = true)]
    async fn many_small_holes_are_mended_together() {
        let bus = Lagging::loses(memory(100_000), Duration::from_millis(20));
        let mut stage = Stage::new(bus.clone(), 100_000, Config::default());
        stage.attach(1, Begin::From(From::Live));
        stage.replay().await;
        let began = Instant::now();
        for n in 1..=10_000 {
            bus.publish(publication(n)).await.unwrap();
        }
        for next in 1..=10_000 {
            let Some(Event::Live(_, envelope, _)) = stage.events.recv().await else {
                panic!("{next} is missing");
            };
            assert_eq!(envelope.cursor().map(|cursor| cursor.offset), Some(next));
        }
        assert!(began.elapsed() < Duration::from_secs(2), "after {:?}", began.elapsed());
    }

    /// A crowd that comes back below the ring within some milliseconds costs one read of history, as does
    /// a single one of it.
    #[tokio::test(start_paused = true)]
    async fn a_crowd_shares_one_read() {
        let bus = Lagging::read_slowly(memory(9_999), Duration::from_millis(1));
        let mut stage = Stage::new(bus.clone(), 9_999, Config::default());
        let publish = async |n| bus.publish(publication(n)).await.unwrap().cursor.unwrap();
        let first = publish(1).await;
        for n in 2..=300 {
            publish(n).await;
        }
        stage.attach(0, Begin::From(From::Live));
        stage.replay().await;
        let mut reads = Vec::new();
        for crowd in [1, 200] {
            for connection in 1..=crowd {
                stage.attach(connection, Begin::From(From::Cursor([first].into())));
                if connection % 50 == 0 {
                    sleep(Duration::from_millis(2)).await;
                }
            }
            for _ in 0..crowd {
                let (_, replay) = stage.replay().await;
                assert_eq!((replay.envelopes.len(), replay.recovered), (299, Ok(())));
            }
            reads.push(bus.pages_from(first.offset));
        }
        assert_eq!(reads, [1, 2]);
    }
}
