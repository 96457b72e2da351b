//! Feeds as a library: a directory on a Bus that can be watched, held up and taken away, and the
//! inboxes of Shards whose other end is this test.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tidegate::bus::{Arrival, Bus, Link, Live, PublishError, Receipt, SubscribeError, memory};
use tidegate::feed::{AttachError, Config, Directory, Event, Feeds, ShardId, Ticket};
use tidegate::protocol::replay::Begin;
use tidegate::protocol::{Envelope, From};
use tidegate::publication::{Publication, Timestamp};
use tidegate::topic::Pattern;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

use crate::harness::{SOON, run, soon, until};

/// An inbox is quiet if nothing comes for this long.
const QUIET: Duration = Duration::from_millis(100);
/// Room that no test fills.
const ROOMY: usize = 100_000;

// The Bus.

/// What a subscribe meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Willing,
    /// It waits until the mood is another.
    Held,
    /// It is refused.
    Away,
}

/// What befalls all subscriptions that there are.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// Something did not come.
    Lost,
    /// They end.
    End,
}

/// The Bus in memory, which says how many subscriptions it has, and fails if told so.
#[derive(Clone)]
struct Watched {
    bus: memory::Memory,
    mood: Arc<watch::Sender<Mood>>,
    faults: Arc<watch::Sender<Fault>>,
    /// Subscriptions ever, and now.
    opened: Arc<AtomicUsize>,
    alive: Arc<AtomicUsize>,
}

struct WatchedLive {
    live: memory::Subscription,
    faults: watch::Receiver<Fault>,
    alive: Arc<AtomicUsize>,
}

impl Watched {
    fn new() -> Self {
        Self {
            bus: memory::Memory::new([], || Timestamp(0)),
            mood: Arc::new(watch::Sender::new(Mood::Willing)),
            faults: Arc::new(watch::Sender::new(Fault::Lost)),
            opened: Arc::default(),
            alive: Arc::default(),
        }
    }

    fn opened(&self) -> usize {
        self.opened.load(Ordering::SeqCst)
    }

    fn alive(&self) -> usize {
        self.alive.load(Ordering::SeqCst)
    }

    fn is(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    fn suffers(&self, fault: Fault) {
        self.faults.send_replace(fault);
    }

    async fn send(&self, topic: &str, n: usize) {
        let publication = Publication {
            topic: topic.parse().expect("a legal Topic"),
            id: n.to_string().into(),
            time: Timestamp(0),
            user: None,
            payload: Bytes::from(n.to_string()),
            trace: None,
        };
        self.publish(publication).await.expect("it is taken");
    }
}

impl Bus for Watched {
    type Live = WatchedLive;

    async fn publish(&self, publication: Publication) -> Result<Receipt, PublishError> {
        self.bus.publish(publication).await
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<WatchedLive, SubscribeError> {
        let mut moods = self.mood.subscribe();
        let mood = moods.wait_for(|mood| *mood != Mood::Held).await;
        if mood.map_or(Mood::Away, |mood| *mood) == Mood::Away {
            return Err(SubscribeError::Unavailable);
        }
        let live = self.bus.subscribe(pattern).await?;
        self.opened.fetch_add(1, Ordering::SeqCst);
        self.alive.fetch_add(1, Ordering::SeqCst);
        Ok(WatchedLive { live, faults: self.faults.subscribe(), alive: Arc::clone(&self.alive) })
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.bus.link()
    }
}

impl Live for WatchedLive {
    async fn next(&mut self) -> Option<Arrival> {
        tokio::select! {
            arrival = self.live.next() => arrival,
            _ = self.faults.changed() => match *self.faults.borrow_and_update() {
                Fault::Lost => Some(Arrival::Lost),
                Fault::End => None,
            },
        }
    }
}

impl Drop for WatchedLive {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::SeqCst);
    }
}

// The Shards.

/// A directory at work, and the inboxes of its Shards.
struct Desk {
    bus: Watched,
    feeds: Feeds,
    inboxes: Vec<mpsc::Receiver<Event>>,
    /// Ends with the test.
    _directory: JoinSet<()>,
}

impl Desk {
    /// Shards with so much room in their inboxes.
    fn new(config: Config, rooms: &[usize]) -> Self {
        let bus = Watched::new();
        let (feeds, asks) = Feeds::channel();
        let (senders, inboxes) = rooms.iter().map(|room| mpsc::channel(*room)).unzip();
        let mut directory = JoinSet::new();
        directory.spawn(Directory::new(config, bus.clone(), asks, senders).run());
        Self { bus, feeds, inboxes, _directory: directory }
    }

    fn attach(&self, shard: u16, pattern: &str, number: u32) {
        let ticket = Ticket { connection: u64::from(shard), number };
        let pattern: Pattern = pattern.parse().expect("a legal Pattern");
        let begin = Begin::From(From::Live);
        let asked = self.feeds.attach(ShardId(shard), [pattern].into(), begin, ticket);
        asked.expect("the directory has room");
    }

    fn detach(&self, shard: u16, pattern: &str) {
        let pattern = pattern.parse().expect("a legal Pattern");
        let asked = self.feeds.detach(ShardId(shard), pattern);
        asked.expect("the directory has room");
    }

    /// What comes next for a Shard, in a few words.
    async fn next(&mut self, shard: usize) -> String {
        words(&soon("an event", self.inboxes[shard].recv()).await)
    }

    async fn is_quiet(&mut self, shard: usize) {
        let event = timeout(QUIET, self.inboxes[shard].recv()).await;
        assert!(event.is_err(), "nothing should come, not {event:?}");
    }

    /// Attaches, and waits until that is done.
    async fn joins(&mut self, shard: u16, pattern: &str, number: u32) {
        self.attach(shard, pattern, number);
        let answer = self.next(usize::from(shard)).await;
        assert_eq!(answer, format!("attached {number}"));
    }
}

fn words(event: &Option<Event>) -> String {
    match event {
        Some(Event::Attached(ticket, _)) => format!("attached {}", ticket.number),
        Some(Event::Refused(ticket, why)) => {
            let why = match why {
                AttachError::BusUnavailable => "bus away",
                AttachError::Overloaded(_) => "overloaded",
                AttachError::TooManyTopics => "too many topics",
            };
            format!("refused {} {why}", ticket.number)
        }
        Some(Event::Live(source, envelope, _)) => format!("{source} {}", number(envelope)),
        Some(Event::Gap(source, _)) => format!("gap {source}"),
        Some(Event::Overrun(source, _)) => format!("overrun {source}"),
        Some(Event::Position(namespace, _)) => format!("position {namespace}"),
        None => "the end".to_owned(),
    }
}

fn number(envelope: &Envelope) -> usize {
    let frame: Value = serde_json::from_slice(envelope.text()).expect("JSON");
    let number = frame["data"].as_u64().expect("a number");
    usize::try_from(number).expect("a small one")
}

fn lingering(linger: Duration) -> Config {
    Config { linger, ..Config::default() }
}

// Opening and sharing.

/// The first attach opens a Feed, later ones share it, on another Shard as well, and each Shard
/// gets the same Envelope once, however many of its Connections want it.
#[test]
fn the_first_attach_opens_and_all_share() {
    run(async {
        let mut desk = Desk::new(Config::default(), &[ROOMY, ROOMY, ROOMY]);
        desk.joins(0, "a.*", 1).await;
        desk.joins(1, "a.*", 1).await;
        desk.joins(1, "a.*", 2).await;
        assert_eq!((desk.bus.opened(), desk.bus.alive()), (1, 1));
        desk.bus.send("a.x", 7).await;
        let mut envelopes = Vec::new();
        for shard in 0..2 {
            match soon("a Publication", desk.inboxes[shard].recv()).await {
                Some(Event::Live(source, envelope, _)) => {
                    assert_eq!(source.to_string(), "a.*");
                    envelopes.push(envelope);
                }
                other => panic!("a Publication should come, not {other:?}"),
            }
        }
        assert!(Arc::ptr_eq(&envelopes[0], &envelopes[1]), "encoded once");
        for shard in 0..3 {
            desk.is_quiet(shard).await;
        }
        desk.joins(2, "a.x", 1).await;
        assert_eq!(desk.bus.opened(), 2, "another Pattern has its own Feed");
    });
}

/// While a publisher hammers: from its `Attached` on a Shard misses nothing that was published
/// later, and everything comes in order. Shards come one after another, and leave again.
#[test]
fn nothing_behind_attached_is_missing() {
    run(async {
        let mut desk = Desk::new(Config::default(), &[ROOMY, ROOMY, ROOMY]);
        let (bus, begun) = (desk.bus.clone(), Arc::new(AtomicUsize::new(0)));
        let count = Arc::clone(&begun);
        let mut hammer = JoinSet::new();
        hammer.spawn(async move {
            // No faster than a busy machine takes them out of the Bus's queue.
            let mut ticks = interval(Duration::from_millis(1));
            loop {
                ticks.tick().await;
                for _ in 0..5 {
                    bus.send("a.x", count.fetch_add(1, Ordering::SeqCst)).await;
                }
            }
        });
        for round in 0..30_u32 {
            let shard = u16::try_from(round % 3).expect("small");
            desk.attach(shard, "a.*", round);
            let inbox = &mut desk.inboxes[usize::from(shard)];
            let answer = format!("attached {round}");
            while words(&soon("the answer", inbox.recv()).await) != answer {}
            // Whatever is published from here on must come.
            let later = begun.load(Ordering::SeqCst);
            let mut last = None;
            for _ in 0..200 {
                let Some(Event::Live(_, envelope, _)) = soon("live", inbox.recv()).await else {
                    panic!("a Publication should come");
                };
                let n = number(&envelope);
                assert!(last.map_or(n <= later, |last| n == last + 1), "{last:?}, {n}");
                last = Some(n);
            }
            desk.detach(shard, "a.*");
        }
        assert_eq!(desk.bus.opened(), 1);
    });
}

/// Those who attach while the Bus is slow are answered together once it has begun, in order. Who
/// has left meanwhile is answered, too: a Shard counts the answers that it waits for.
#[test]
fn every_attach_is_answered_also_if_it_ended_meanwhile() {
    run(async {
        let mut desk = Desk::new(Config::default(), &[ROOMY, ROOMY]);
        desk.bus.is(Mood::Held);
        desk.attach(0, "a.x", 1);
        desk.attach(1, "a.x", 1);
        desk.detach(0, "a.x");
        desk.attach(0, "a.x", 2);
        desk.attach(0, "a.x", 3);
        desk.detach(1, "a.x");
        assert_eq!(desk.next(0).await, "refused 1 bus away");
        assert_eq!(desk.next(1).await, "refused 1 bus away");
        desk.is_quiet(0).await;
        desk.bus.is(Mood::Willing);
        assert_eq!(desk.next(0).await, "attached 2");
        assert_eq!(desk.next(0).await, "attached 3");
        desk.bus.send("a.x", 3).await;
        assert_eq!(desk.next(0).await, "a.x 3");
        desk.is_quiet(1).await;
        assert_eq!(desk.bus.opened(), 1);
    });
}

/// Detach and attach in a row, over and over while it is published: the last word counts, the Feed
/// stays open, and what comes behind each answer is whole and comes once.
#[test]
fn detach_and_attach_in_a_row_keep_the_interest() {
    run(async {
        let mut desk = Desk::new(Config::default(), &[ROOMY]);
        desk.joins(0, "a.x", 0).await;
        for round in 1..200_u32 {
            desk.detach(0, "a.x");
            desk.attach(0, "a.x", round);
            assert_eq!(desk.next(0).await, format!("attached {round}"));
            desk.bus.send("a.x", round as usize).await;
            assert_eq!(desk.next(0).await, format!("a.x {round}"));
        }
        assert_eq!((desk.bus.opened(), desk.bus.alive()), (1, 1));
    });
}

// Closing.

/// A Feed closes `linger` after the last Shard let go, not before, and not while another wants it.
#[test]
fn a_feed_lingers_after_the_last_detach() {
    run(async {
        let linger = Duration::from_millis(400);
        let mut desk = Desk::new(lingering(linger), &[ROOMY, ROOMY]);
        desk.joins(0, "a.x", 1).await;
        desk.joins(1, "a.x", 1).await;
        let first = Instant::now();
        desk.detach(0, "a.x");
        let over = async || first.elapsed() > linger * 2;
        until("the first detach is long ago", SOON, over).await;
        assert_eq!(desk.bus.alive(), 1);
        let last = Instant::now();
        desk.detach(1, "a.x");
        let bus = desk.bus.clone();
        until("the Feed has closed", SOON, async || bus.alive() == 0).await;
        assert!(last.elapsed() >= linger, "after {:?}", last.elapsed());
        desk.joins(0, "a.x", 2).await;
        assert_eq!((bus.opened(), bus.alive()), (2, 1));
    });
}

/// An attach within `linger` finds the Feed open and keeps it so.
#[test]
fn an_attach_within_linger_keeps_the_feed() {
    run(async {
        let linger = Duration::from_millis(400);
        let mut desk = Desk::new(lingering(linger), &[ROOMY]);
        desk.joins(0, "a.x", 1).await;
        desk.detach(0, "a.x");
        desk.joins(0, "a.x", 2).await;
        let attached = Instant::now();
        let over = async || attached.elapsed() > linger * 2;
        until("the detach is long ago", SOON, over).await;
        assert_eq!((desk.bus.opened(), desk.bus.alive()), (1, 1));
        desk.bus.send("a.x", 1).await;
        assert_eq!(desk.next(0).await, "a.x 1");
    });
}

/// Only so many Feeds are open at once; one more is refused, until one has closed.
#[test]
fn feeds_are_bounded() {
    run(async {
        let config = Config { linger: Duration::from_millis(50), feeds: 2, ..Config::default() };
        let mut desk = Desk::new(config, &[ROOMY]);
        desk.joins(0, "a.1", 1).await;
        desk.joins(0, "a.2", 2).await;
        desk.attach(0, "a.3", 3);
        assert_eq!(desk.next(0).await, "refused 3 overloaded");
        desk.joins(0, "a.2", 4).await;
        desk.detach(0, "a.1");
        let bus = desk.bus.clone();
        until("one has closed", SOON, async || bus.alive() == 1).await;
        desk.joins(0, "a.3", 5).await;
    });
}

/// A Feed that the Bus refused takes no place from those that are opened after it, of the same Pattern
/// or of another. It may be on its way out still: then whoever asks is refused once more.
#[test]
fn a_refused_feed_holds_no_place_at_the_bound() {
    run(async {
        for later in ["a.x", "a.y"] {
            let config = Config { feeds: 1, ..Config::default() };
            let mut desk = Desk::new(config, &[ROOMY]);
            desk.bus.is(Mood::Away);
            desk.attach(0, "a.x", 1);
            assert_eq!(desk.next(0).await, "refused 1 bus away");
            desk.bus.is(Mood::Willing);
            let mut answer = String::new();
            for number in 2..100 {
                desk.attach(0, later, number);
                answer = desk.next(0).await;
                if answer.starts_with("attached") {
                    break;
                }
            }
            assert!(answer.starts_with("attached"), "{later}: {answer}");
        }
    });
}

// Losing.

/// A Shard whose inbox is full loses Publications, and is told: before those who attach behind the
/// loss are answered, in their order. The Shard beside it misses nothing.
#[test]
fn a_full_inbox_is_told_of_its_loss_and_answered_in_order() {
    run(async {
        let mut desk = Desk::new(Config::default(), &[4, ROOMY]);
        desk.joins(0, "a.x", 0).await;
        desk.joins(1, "a.x", 0).await;
        for n in 0..100 {
            desk.bus.send("a.x", n).await;
        }
        for n in 0..100 {
            assert_eq!(desk.next(1).await, format!("a.x {n}"));
        }
        for number in 1..=3 {
            desk.attach(0, "a.x", number);
        }
        desk.joins(1, "a.x", 1).await;
        for n in 0..4 {
            assert_eq!(desk.next(0).await, format!("a.x {n}"));
        }
        for answer in ["overrun a.x", "attached 1", "attached 2", "attached 3"] {
            assert_eq!(desk.next(0).await, answer);
        }
        desk.bus.send("a.x", 100).await;
        assert_eq!(desk.next(0).await, "a.x 100");
        desk.is_quiet(0).await;
    });
}

/// However often a Shard loses, it is told at most once a second, and at last.
#[test]
fn losses_are_told_at_most_once_a_second() {
    run(async {
        let mut desk = Desk::new(Config::default(), &[4]);
        desk.joins(0, "a.x", 0).await;
        let (begun, mut gaps, mut n) = (Instant::now(), 0, 0);
        while gaps < 3 {
            assert!(begun.elapsed() < SOON, "told only {gaps} times");
            for _ in 0..20 {
                desk.bus.send("a.x", n).await;
                n += 1;
            }
            let pause = Duration::from_millis(20);
            while let Ok(event) = timeout(pause, desk.inboxes[0].recv()).await {
                gaps += usize::from(words(&event) == "overrun a.x");
            }
        }
        let told = begun.elapsed();
        assert!(told >= Duration::from_secs(2), "three within {told:?}");
    });
}

/// What the Bus itself lost is told to every Shard that wants it, and to no other.
#[test]
fn a_loss_of_the_bus_is_told_to_all_who_listen() {
    run(async {
        let mut desk = Desk::new(Config::default(), &[ROOMY, ROOMY, ROOMY]);
        for shard in 0..3 {
            desk.joins(shard, "a.x", 0).await;
        }
        desk.detach(2, "a.x");
        desk.joins(2, "a.y", 1).await;
        desk.bus.suffers(Fault::Lost);
        assert_eq!(desk.next(0).await, "gap a.x");
        assert_eq!(desk.next(1).await, "gap a.x");
        assert_eq!(desk.next(2).await, "gap a.y");
        desk.is_quiet(2).await;
        assert_eq!(desk.bus.opened(), 2, "both go on");
    });
}

/// A subscription that the Bus ended begins again for those who still listen, without their doing,
/// also if the Bus is away for a time; attaches are refused meanwhile.
#[test]
fn a_feed_that_the_bus_ended_begins_again() {
    run(async {
        let mut desk = Desk::new(Config::default(), &[ROOMY, ROOMY]);
        desk.joins(0, "a.x", 0).await;
        desk.bus.is(Mood::Away);
        desk.bus.suffers(Fault::End);
        assert_eq!(desk.next(0).await, "gap a.x");
        desk.attach(1, "a.x", 1);
        assert_eq!(desk.next(1).await, "refused 1 bus away");
        desk.detach(1, "a.x");
        desk.bus.is(Mood::Willing);
        let again = desk.next(0).await;
        assert_eq!(again, "gap a.x", "what came meanwhile is lost");
        let bus = desk.bus.clone();
        until("it has begun again", SOON, async || bus.alive() == 1).await;
        desk.bus.send("a.x", 1).await;
        assert_eq!(desk.next(0).await, "a.x 1");
        desk.is_quiet(1).await;
    });
}

/// The loss is told while the Bus takes its time with the new subscription, not only behind it.
#[test]
fn an_ended_feed_tells_its_loss_at_once() {
    run(async {
        let mut desk = Desk::new(Config::default(), &[ROOMY]);
        desk.joins(0, "a.x", 0).await;
        desk.bus.is(Mood::Held);
        desk.bus.suffers(Fault::End);
        assert_eq!(desk.next(0).await, "gap a.x");
        desk.bus.is(Mood::Willing);
        assert_eq!(desk.next(0).await, "gap a.x");
    });
}

/// A Feed that closes while an answer of it still waits for room in an inbox brings it first: the
/// Subscription has ended, but its Shard counts the answer.
#[test]
fn an_answer_that_waits_outlives_its_feed() {
    run(async {
        let mut desk = Desk::new(lingering(Duration::ZERO), &[1]);
        desk.joins(0, "a.x", 0).await;
        for number in 1..=3 {
            desk.attach(0, "a.x", number);
        }
        desk.detach(0, "a.x");
        let bus = desk.bus.clone();
        let closed = async || bus.opened() == 1 && bus.alive() == 0;
        until("the Feed has closed", SOON, closed).await;
        for number in 1..=3 {
            assert_eq!(desk.next(0).await, format!("attached {number}"));
        }
    });
}

/// While the Bus is away each attach is refused and none is forgotten, whoever asks how often, even
/// at a Shard whose inbox has no room; when it is back the next one works.
#[test]
fn a_bus_that_is_away_refuses_and_forgets_nobody() {
    run(async {
        let mut desk = Desk::new(Config::default(), &[1, ROOMY]);
        desk.bus.is(Mood::Away);
        for number in 0..5_000 {
            desk.attach(1, "a.x", number);
            if number % 100 == 0 {
                desk.attach(0, "a.x", number);
            }
        }
        let mut refused = Vec::new();
        for _ in 0..5_000 {
            refused.push(desk.next(1).await);
        }
        for _ in 0..50 {
            let answer = desk.next(0).await;
            assert!(answer.ends_with("bus away"), "{answer}");
        }
        refused.sort_unstable();
        let mut expected: Vec<_> = (0..5_000).map(|n| format!("refused {n} bus away")).collect();
        expected.sort_unstable();
        assert_eq!(refused, expected);
        desk.is_quiet(0).await;
        desk.bus.is(Mood::Willing);
        desk.joins(0, "a.x", 5_000).await;
    });
}
