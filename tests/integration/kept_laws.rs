//! What every Bus promises of a kept Namespace, as one suite: a Bus joins by a test at the end.
//!
//! Each law is told in `bus/mod.rs` and `bus/history.rs`. As in `laws.rs`, every law is also a law
//! between two nodes of one Bus. The Namespace is `k`, and of each Topic it keeps [`MESSAGES`].

use std::cell::Cell;
use std::time::SystemTime;

use bytes::Bytes;
use tidegate::bus::history::{Newest, Page, ReadError, Stored, Want};
use tidegate::bus::{Arrival, Bus, Live, memory, nats};
use tidegate::namespace::{Config, History, Namespaces};
use tidegate::publication::{Cursor, Publication, Timestamp, Trace};
use tidegate::topic::Pattern;

use crate::harness::{Nats, SOON, run, soon, until};

const MESSAGES: u32 = 5;
const NAMESPACE: &str = "k";

#[expect(clippy::disallowed_methods, reason = "here the clock is read, to be handed in")]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    Timestamp(u64::try_from(since.as_millis()).expect("before long"))
}

fn rules() -> History {
    History { messages: MESSAGES, ..History::default() }
}

fn publication(on: &str, id: &str) -> Publication {
    Publication {
        topic: on.parse().expect("a legal Topic"),
        id: id.into(),
        time: now(),
        user: Some("ana".into()),
        payload: Bytes::copy_from_slice(format!("{{\"id\":\"{id}\"}}").as_bytes()),
        trace: Trace::read("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
    }
}

/// Publishes, and says where it was stored.
async fn publish(bus: &impl Bus, on: &str, id: &str) -> Cursor {
    let receipt = soon("a publish", bus.publish(publication(on, id))).await.expect("it is taken");
    assert!(!receipt.duplicate);
    receipt.cursor.expect("it is stored")
}

async fn follow<B: Bus>(bus: &B) -> B::Live {
    soon("a follow", bus.follow(NAMESPACE)).await.expect("the Bus listens")
}

/// The next that is stored. A suspicion is no law of these.
async fn next(live: &mut impl Live) -> Stored {
    loop {
        match soon("an arrival", live.next()).await {
            Some(Arrival::Stored(stored)) => return stored,
            Some(Arrival::Lost) => {}
            other => panic!("something stored should come, not {other:?}"),
        }
    }
}

async fn last(bus: &impl Bus) -> u64 {
    soon("a head", bus.head(NAMESPACE)).await.expect("it says").last
}

fn parsed(patterns: &[&str]) -> Vec<Pattern> {
    patterns.iter().map(|text| text.parse().expect("a legal Pattern")).collect()
}

/// Reads page by page, up to where history stands.
async fn read(bus: &impl Bus, from: u64, patterns: &[&str], items: usize) -> Vec<Stored> {
    let (until, patterns) = (last(bus).await, parsed(patterns));
    let (mut from, mut all) = (from, Vec::new());
    while from <= until {
        let want = Want { from, until, patterns: &patterns, items, bytes: 1 << 20 };
        let page: Page = soon("a page", bus.read(NAMESPACE, want)).await.expect("it is read");
        assert!(page.end > from || page.end == until, "{from} to {until}, and {}", page.end);
        assert!(page.entries.iter().all(|one| (from..=page.end).contains(&one.offset)));
        all.extend(page.entries);
        from = page.end + 1;
    }
    assert!(all.is_sorted_by(|one, other| one.offset < other.offset), "Offsets rise");
    all
}

async fn newest(bus: &impl Bus, patterns: &[&str], most: usize) -> Result<Newest, ReadError> {
    soon("a snapshot", bus.newest(NAMESPACE, &parsed(patterns), most)).await
}

fn offsets(stored: &[Stored]) -> Vec<u64> {
    stored.iter().map(|one| one.offset).collect()
}

/// All laws, between two nodes of one Bus whose history is new.
async fn holds_every_law<B: Bus>(make: impl AsyncFn() -> B) {
    let (one, other) = (make().await, make().await);
    a_new_history_stands_at_nothing(&one).await;
    what_is_stored_is_heard_and_read_alike(&one, &other).await;
    the_same_id_is_stored_once(&one, &other).await;
    each_topic_keeps_its_newest(&one, &other).await;
    a_read_brings_what_was_wanted(&one, &other).await;
    the_newest_are_those_of_now(&one, &other).await;
    a_time_is_found(&one, &other).await;
    other_namespaces_have_no_history(&one).await;
}

/// Before the first, there is none.
async fn a_new_history_stands_at_nothing(bus: &impl Bus) {
    let head = bus.head(NAMESPACE).await.expect("it says");
    assert_eq!((head.first, head.last, head.messages), (1, 0, MESSAGES.into()));
    assert_eq!(newest(bus, &["k.>"], 9).await.expect("it is read").entries, []);
    assert_eq!(bus.since(NAMESPACE, Timestamp(0)).await, Ok(None));
}

/// Offsets have no holes and are those of the receipts; what comes live on either node is, to the
/// letter, what a read brings.
async fn what_is_stored_is_heard_and_read_alike<B: Bus>(one: &B, other: &B) {
    let (mut near, mut far) = (follow(one).await, follow(other).await);
    let epoch = one.head(NAMESPACE).await.expect("it says").epoch;
    for n in 1..=9 {
        let at = publish(one, &format!("k.a.{}", n % 3), &format!("alike-{n}")).await;
        assert_eq!((at.epoch, at.offset), (epoch, n));
    }
    let mut heard = Vec::new();
    for _ in 1..=9 {
        heard.push(next(&mut near).await);
        assert_eq!(heard.last(), Some(&next(&mut far).await));
    }
    assert_eq!(offsets(&heard), (1..=9).collect::<Vec<_>>());
    let first = heard[0].publication.as_deref().expect("a Publication");
    let sent = publication("k.a.1", "alike-1");
    assert_eq!(*first, Publication { time: heard[0].time, ..sent });
    for items in [1, 2, 100] {
        assert_eq!(read(other, 1, &[], items).await, heard);
    }
    let head = other.head(NAMESPACE).await.expect("it says");
    assert_eq!((head.first, head.last, head.epoch), (1, 9, epoch));
    assert_eq!((head.first_time, head.last_time), (heard[0].time, heard[8].time));
}

/// A second time under the same id is told, and takes no Offset.
async fn the_same_id_is_stored_once<B: Bus>(one: &B, other: &B) {
    let at = publish(one, "k.b", "twice").await;
    let again = other.publish(publication("k.b", "twice")).await.expect("it is taken");
    assert!(again.duplicate);
    assert_eq!(again.cursor.map(|again| again.offset), Some(at.offset));
    assert_eq!(last(one).await, at.offset);
}

/// One more than promised is there, so that who is one behind has missed none.
async fn each_topic_keeps_its_newest<B: Bus>(one: &B, other: &B) {
    let mut all = Vec::new();
    for n in 0..20 {
        all.push(publish(one, "k.c", &format!("keeps-{n}")).await.offset);
        publish(other, "k.c.d", &format!("beside-{n}")).await;
    }
    let kept = read(other, 1, &["k.c"], 100).await;
    assert_eq!(offsets(&kept), all[20 - MESSAGES as usize - 1..]);
}

/// Names and Patterns, together too, from any Offset, however small the pages are.
async fn a_read_brings_what_was_wanted<B: Bus>(one: &B, other: &B) {
    let from = last(one).await;
    let topics = ["k.d.a", "k.d.b", "k.d.a.x", "k.e"];
    for n in 0..20 {
        publish(one, topics[n % 4], &format!("wanted-{n}")).await;
    }
    let everything = read(one, from, &[], 1_000).await;
    for patterns in [
        &["k.d.a"][..],
        &["k.d.*"],
        &["k.d.>"],
        &["k.d.a", "k.e"],
        &["k.d.*", "k.d.a", "k.d.>"],
        &["k.none"],
    ] {
        let wanted = parsed(patterns);
        for skipped in [0, 1, 7, 20] {
            let matching = everything.iter().filter(|stored| {
                let topic = stored.publication.as_ref().map(|one| &one.topic);
                stored.offset >= from + skipped
                    && topic.is_some_and(|topic| wanted.iter().any(|one| one.matches(topic)))
            });
            let matching: Vec<Stored> = matching.cloned().collect();
            for items in [1, 3, 1_000] {
                assert_eq!(read(other, from + skipped, patterns, items).await, matching);
            }
        }
    }
}

/// Of each Topic one, tombstones among them; too many Topics are refused, and not cut.
async fn the_newest_are_those_of_now<B: Bus>(one: &B, other: &B) {
    for n in 0..12 {
        publish(one, &format!("k.n.{}", n % 4), &format!("newest-{n}")).await;
    }
    let gone = Publication { payload: Bytes::new(), ..publication("k.n.0", "gone") };
    let at = one.publish(gone).await.expect("it is taken").cursor.expect("it is stored");
    let all = newest(other, &["k.n.*"], 4).await.expect("it is read");
    let (o, was) = (at.offset, |n: u64| at.offset - n);
    assert_eq!((offsets(&all.entries), all.as_of), (vec![was(3), was(2), was(1), o], o));
    let tombstone = all.entries[3].publication.as_ref().expect("a Publication");
    assert!(tombstone.is_tombstone());
    let two = newest(other, &["k.n.1", "k.n.2", "k.none"], 4).await.expect("it is read");
    assert_eq!(offsets(&two.entries), [was(3), was(2)]);
    assert_eq!(newest(other, &["k.n.*"], 3).await, Err(ReadError::TooManyTopics));
}

/// The first at a time or later.
async fn a_time_is_found<B: Bus>(one: &B, other: &B) {
    let mut times = Vec::new();
    for n in 0..3 {
        // Times are in milliseconds; two must not share one.
        let before = now();
        until("the clock goes on", SOON, async || now().0 > before.0 + 1).await;
        let at = publish(one, "k.s", &format!("since-{n}")).await;
        times.push((at.offset, read(one, at.offset, &[], 9).await[0].time));
    }
    for (offset, time) in &times {
        assert_eq!(other.since(NAMESPACE, *time).await, Ok(Some(*offset)));
    }
    let after = Timestamp(times[2].1.0 + 1);
    assert_eq!(other.since(NAMESPACE, after).await, Ok(None));
}

/// Nothing is kept of who is not.
async fn other_namespaces_have_no_history(bus: &impl Bus) {
    assert_eq!(bus.head("none").await, Err(ReadError::Unavailable));
    assert!(bus.follow("none").await.is_err());
    let receipt = bus.publish(publication("none.a", "none")).await.expect("it is taken");
    assert_eq!(receipt.cursor, None);
}

/// The Bus in memory.
#[test]
fn the_memory_bus_holds_every_law_of_history() {
    run(async {
        let rules = rules();
        let bus = memory::Memory::new([(NAMESPACE, &rules)], now);
        holds_every_law(async || bus.clone()).await;
    });
}

/// A node of its own on this server, connected.
async fn node(server: &Nats, history: History) -> nats::Nats {
    let config = nats::Config { url: server.url(), ..nats::Config::default() };
    let rules = Config { history: Some(history), ..Config::default() };
    let namespaces = Namespaces::new([(NAMESPACE.to_owned(), rules)].into(), false);
    let bus = nats::Nats::connect(&config, "test", namespaces.into(), now)
        .await
        .expect("a legal configuration");
    until("the node is connected", SOON, async || bus.link().borrow().connected).await;
    bus
}

/// Two nodes on one server with `JetStream`.
#[test]
fn jetstream_holds_every_law_of_history() {
    run(async {
        let server = Nats::with_streams().await;
        holds_every_law(async || node(&server, rules()).await).await;
    });
}

/// Two nodes on a cluster of three, with a copy on each.
#[test]
fn jetstream_of_three_holds_every_law_of_history() {
    run(async {
        let servers = Nats::cluster_with_streams().await;
        let replicated = History { replicas: 3, ..rules() };
        let made = Cell::new(0);
        holds_every_law(async || {
            made.set(made.get() + 1);
            node(&servers[made.get() % servers.len()], replicated.clone()).await
        })
        .await;
    });
}
