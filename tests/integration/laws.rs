//! What every Bus promises, as one suite: a Bus joins by a test at the end.
//!
//! Each law is told in `bus/mod.rs`. A Bus that is many nodes gives one of them at each `make`, all
//! of the same Bus, so that every law is also a law between nodes.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate::bus::{Arrival, Bus, Live, memory, nats};
use tidegate::publication::{Publication, Timestamp, Trace};
use tidegate::topic::{Pattern, Topic};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::harness::{Nats, SOON, run, soon, until};

/// A Bus is quiet if nothing comes for this long.
const QUIET: Duration = Duration::from_millis(100);

fn topic(text: &str) -> Topic {
    text.parse().expect("a legal Topic")
}

/// The n-th Publication of one publisher; every Publication of a test has its own id.
fn publication(on: &str, publisher: &str, n: usize) -> Publication {
    Publication {
        topic: topic(on),
        id: format!("{publisher}-{n}").into(),
        time: Timestamp(1_795_000_000_000),
        user: None,
        payload: Bytes::from(n.to_string()),
        trace: None,
    }
}

async fn publish(bus: &impl Bus, on: &str, publisher: &str, n: usize) {
    let published = soon("a publish", bus.publish(publication(on, publisher, n))).await;
    published.expect("the Bus takes it");
}

async fn subscribe<B: Bus>(bus: &B, pattern: &str) -> B::Live {
    let pattern: Pattern = pattern.parse().expect("a legal Pattern");
    let subscribed = soon("a subscribe", bus.subscribe(&pattern)).await;
    subscribed.expect("the Bus listens")
}

/// The next Publication; a loss fails the test.
async fn next(live: &mut impl Live) -> Arc<Publication> {
    match soon("an arrival", live.next()).await {
        Some(Arrival::Publication(publication)) => publication,
        other => panic!("a Publication should come, not {other:?}"),
    }
}

async fn ids(live: &mut impl Live, count: usize) -> Vec<String> {
    let mut ids = Vec::with_capacity(count);
    for _ in 0..count {
        ids.push(next(live).await.id.to_string());
    }
    ids
}

async fn is_quiet(live: &mut impl Live) {
    let arrival = timeout(QUIET, live.next()).await;
    assert!(arrival.is_err(), "nothing should come, not {arrival:?}");
}

/// All laws, between two nodes of one Bus.
async fn holds_every_law<B: Bus>(make: impl AsyncFn() -> B) {
    let (one, other) = (make().await, make().await);
    each_subscriber_gets_it_once_and_whole(&one, &other).await;
    what_comes_is_what_the_pattern_matches(&one, &other).await;
    overlapping_subscriptions_each_get_one(&one, &other).await;
    nothing_before_subscribe_and_nothing_after_drop(&one, &other).await;
    a_publisher_that_waits_is_heard_in_its_order(&one, &other).await;
    many_publishers_at_once_lose_nothing(&one, &other).await;
    waiting_for_the_next_can_be_given_up(&one, &other).await;
}

/// A Publication arrives once at each subscriber, on either node, with all its parts.
async fn each_subscriber_gets_it_once_and_whole<B: Bus>(one: &B, other: &B) {
    let mut lives = [
        subscribe(one, "laws.once").await,
        subscribe(one, "laws.once").await,
        subscribe(other, "laws.once").await,
    ];
    for payload in [&b"{\"v\":1}"[..], b"\xff\x00 raw", b""] {
        let sent = Publication {
            user: Some("ana".into()),
            trace: Trace::read("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", None),
            payload: Bytes::from_static(payload),
            ..publication("laws.once", "whole", payload.len())
        };
        let receipt = one.publish(sent.clone()).await.expect("it is taken");
        assert!(!receipt.duplicate);
        for live in &mut lives {
            assert_eq!(*next(live).await, sent);
        }
    }
    for live in &mut lives {
        is_quiet(live).await;
    }
}

/// A name gets its own Topic alone, `*` one segment, `>` one or more.
async fn what_comes_is_what_the_pattern_matches<B: Bus>(one: &B, other: &B) {
    let topics = ["m", "m.a", "m.a.b", "m.a.b.c", "m.b", "n.a", "m.A"];
    let mut lives = Vec::new();
    for pattern in ["m", "m.a", "m.*", "m.>", "m.*.b", "m.a.>", "m.*.*.c"] {
        let live = subscribe(other, pattern).await;
        lives.push((pattern.parse::<Pattern>().expect("legal"), live));
    }
    for (n, on) in topics.into_iter().enumerate() {
        publish(one, on, "match", n).await;
    }
    for (pattern, live) in &mut lives {
        for on in topics.map(topic).iter().filter(|on| pattern.matches(on)) {
            assert_eq!(next(live).await.topic, *on, "{pattern}");
        }
        is_quiet(live).await;
    }
}

/// However many subscriptions match, each gets it once: which of them counts is not for a Bus to say.
async fn overlapping_subscriptions_each_get_one<B: Bus>(one: &B, other: &B) {
    let mut lives = Vec::new();
    for pattern in ["laws.over.x", "laws.over.x", "laws.over.*", "laws.>"] {
        lives.push(subscribe(one, pattern).await);
        lives.push(subscribe(other, pattern).await);
    }
    publish(other, "laws.over.x", "over", 0).await;
    for live in &mut lives {
        assert_eq!(ids(live, 1).await, ["over-0"]);
        is_quiet(live).await;
    }
}

/// A subscription begins when `subscribe` returns and ends when it is dropped; that of others is
/// not touched by it.
async fn nothing_before_subscribe_and_nothing_after_drop<B: Bus>(one: &B, other: &B) {
    let mut stays = subscribe(one, "laws.span").await;
    publish(other, "laws.span", "span", 0).await;
    let mut comes = subscribe(one, "laws.span").await;
    let mut wild = subscribe(one, "laws.*").await;
    publish(other, "laws.span", "span", 1).await;
    assert_eq!(ids(&mut comes, 1).await, ["span-1"]);
    assert_eq!(ids(&mut wild, 1).await, ["span-1"]);
    drop((comes, wild));
    publish(other, "laws.span", "span", 2).await;
    let mut again = subscribe(one, "laws.span").await;
    publish(other, "laws.span", "span", 3).await;
    assert_eq!(ids(&mut again, 1).await, ["span-3"]);
    let all = ["span-0", "span-1", "span-2", "span-3"];
    assert_eq!(ids(&mut stays, 4).await, all);
}

/// Who waits for each answer has its Publications delivered in that order, across Topics, too.
async fn a_publisher_that_waits_is_heard_in_its_order<B: Bus>(one: &B, other: &B) {
    let mut near = subscribe(one, "laws.order.*").await;
    let mut far = subscribe(other, "laws.order.>").await;
    for n in 0..500 {
        publish(one, &format!("laws.order.{}", n % 7), "order", n).await;
    }
    let expected: Vec<String> = (0..500).map(|n| format!("order-{n}")).collect();
    assert_eq!(ids(&mut near, 500).await, expected);
    assert_eq!(ids(&mut far, 500).await, expected);
}

/// Eight publishers at once: everything comes once, and each one's own in its order.
async fn many_publishers_at_once_lose_nothing<B: Bus>(one: &B, other: &B) {
    let mut lives = [subscribe(one, "laws.many").await, subscribe(other, "laws.>").await];
    let mut publishers = JoinSet::new();
    for publisher in 0..8 {
        let bus = if publisher % 2 == 0 { one } else { other }.clone();
        publishers.spawn(async move {
            for n in 0..250 {
                publish(&bus, "laws.many", &publisher.to_string(), n).await;
            }
        });
    }
    for live in &mut lives {
        let came = ids(live, 8 * 250).await;
        for publisher in 0..8 {
            let own = format!("{publisher}-");
            let own: Vec<_> = came.iter().filter(|id| id.starts_with(&own)).collect();
            let expected: Vec<_> = (0..250).map(|n| format!("{publisher}-{n}")).collect();
            assert_eq!(own, expected.iter().collect::<Vec<_>>());
        }
        is_quiet(live).await;
    }
    while let Some(ended) = publishers.join_next().await {
        ended.expect("a publisher ends well");
    }
}

/// `next` is cancel-safe: a wait that is given up takes nothing with it.
async fn waiting_for_the_next_can_be_given_up<B: Bus>(one: &B, other: &B) {
    let mut live = subscribe(one, "laws.cancel").await;
    let (mut came, mut n) = (Vec::new(), 0);
    while came.len() < 200 {
        tokio::select! {
            biased;
            () = tokio::task::yield_now() => {}
            arrival = live.next() => match arrival {
                Some(Arrival::Publication(one)) => came.push(one.id.to_string()),
                other => panic!("a Publication should come, not {other:?}"),
            },
        }
        if n < 200 {
            publish(other, "laws.cancel", "cancel", n).await;
            n += 1;
        }
    }
    let expected: Vec<String> = (0..200).map(|n| format!("cancel-{n}")).collect();
    assert_eq!(came, expected);
}

/// A subscription that is not read loses what its queue (of `bound`) cannot hold, is told of it
/// once for all of that, and goes on; one beside it that is read gets everything.
async fn a_slow_subscriber_is_told_and_loses_only_its_own<B: Bus>(bus: &B, bound: usize) {
    let mut slow = subscribe(bus, "laws.slow").await;
    let mut brisk = subscribe(bus, "laws.*").await;
    let all = bound + 100;
    for n in 0..all {
        publish(bus, "laws.slow", "slow", n).await;
        assert_eq!(*next(&mut brisk).await.id, *format!("slow-{n}"));
    }
    let (mut came, mut losses) = (Vec::new(), 0);
    while came.len() < bound {
        match soon("an arrival", slow.next()).await {
            Some(Arrival::Publication(one)) => came.push(one.id.to_string()),
            Some(Arrival::Lost) => losses += 1,
            other => panic!("it should go on, not with {other:?}"),
        }
    }
    assert_eq!(losses, 1, "a loss is told");
    let kept: Vec<String> = (0..bound).map(|n| format!("slow-{n}")).collect();
    assert_eq!(came, kept);
    publish(bus, "laws.slow", "slow", all).await;
    for live in [&mut slow, &mut brisk] {
        assert_eq!(ids(live, 1).await, [format!("slow-{all}")]);
        is_quiet(live).await;
    }
}

/// The Bus in memory holds every law; its queues hold so many.
#[test]
fn the_memory_bus_holds_every_law() {
    run(async {
        let bus = memory::Memory::new([], || Timestamp(0));
        holds_every_law(async || bus.clone()).await;
        a_slow_subscriber_is_told_and_loses_only_its_own(&bus, memory::QUEUE_ITEMS).await;
    });
}

/// A node of its own on this server, connected.
async fn node(server: &Nats) -> nats::Nats {
    let config = nats::Config { url: server.url(), ..nats::Config::default() };
    let now = || Timestamp(0);
    let bus = nats::Nats::connect(&config, "test", Arc::default(), now)
        .await
        .expect("a legal configuration");
    until("the node is connected", SOON, async || bus.link().borrow().connected).await;
    bus
}

/// Two nodes on a real server hold every law between them, and each for itself.
#[test]
fn the_nats_bus_holds_every_law() {
    run(async {
        let server = Nats::start().await;
        holds_every_law(async || node(&server).await).await;
        let bus = node(&server).await;
        holds_every_law(async || bus.clone()).await;
    });
}

/// On NATS one link is suspected for all subscriptions of a node: one that is not read is told that
/// it lost, and one beside it may be, but misses nothing.
#[test]
fn a_slow_subscriber_on_nats_is_told_and_loses_only_its_own() {
    run(async {
        let server = Nats::start().await;
        let (bus, publisher) = (node(&server).await, node(&server).await);
        let mut slow = subscribe(&bus, "laws.slow").await;
        let mut brisk = subscribe(&bus, "laws.*").await;
        let all = memory::QUEUE_ITEMS + 100;
        for n in 0..all {
            publish(&publisher, "laws.slow", "slow", n).await;
            let (came, _) = next_past_losses(&mut brisk).await;
            assert_eq!(*came.id, *format!("slow-{n}"));
        }
        let mut told = 0;
        for n in 0..memory::QUEUE_ITEMS {
            let (came, losses) = next_past_losses(&mut slow).await;
            assert_eq!(*came.id, *format!("slow-{n}"));
            told += losses;
        }
        publish(&publisher, "laws.slow", "slow", all).await;
        let (came, losses) = next_past_losses(&mut slow).await;
        assert_eq!(*came.id, *format!("slow-{all}"));
        assert!(told + losses > 0, "the loss is told before what comes behind it");
        let (came, _) = next_past_losses(&mut brisk).await;
        assert_eq!(*came.id, *format!("slow-{all}"));
    });
}

/// The next Publication, and how often a loss was told before it.
async fn next_past_losses(live: &mut impl Live) -> (Arc<Publication>, usize) {
    let mut losses = 0;
    loop {
        match soon("an arrival", live.next()).await {
            Some(Arrival::Publication(publication)) => return (publication, losses),
            Some(Arrival::Lost) => losses += 1,
            other => panic!("it should go on, not with {other:?}"),
        }
    }
}

/// A queue that overflows again right after that was told is told again: no loss is forgotten.
#[test]
fn a_second_overflow_on_nats_is_told_as_well() {
    run(async {
        let server = Nats::start().await;
        let (bus, backend) = (node(&server).await, server.backend().await);
        let mut slow = subscribe(&bus, "laws.twice").await;
        let flood = async |count: usize| {
            for _ in 0..count {
                backend.publish("tidegate.in.laws.twice", "1".into()).await.unwrap();
            }
            backend.flush().await.unwrap();
        };
        flood(memory::QUEUE_ITEMS + 50).await;
        let link = bus.link();
        until("the first overflow is told", SOON, async || link.borrow().suspicions > 1).await;
        let (mut came, mut losses) = (0, 0);
        while came < 1_000 || losses == 0 {
            match soon("an arrival", slow.next()).await {
                Some(Arrival::Publication(_)) => came += 1,
                Some(Arrival::Lost) => losses += 1,
                other => panic!("it should go on, not with {other:?}"),
            }
        }
        // Nobody reads until the queue has overflowed again, so it surely has.
        let told_before = link.borrow().suspicions;
        flood(1_000 + 500).await;
        until("the second overflow is seen", SOON, async || link.borrow().suspicions > told_before)
            .await;
        let told = async { while !matches!(slow.next().await, Some(Arrival::Lost)) {} };
        soon("the second loss is told", told).await;
    });
}
