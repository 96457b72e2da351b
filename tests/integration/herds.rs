//! A crowd that lost its node comes back to another one at once, each to a Topic of its own, and
//! whoever publishes meanwhile hardly notices.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::harness::raw::{Raw, frame};
use crate::harness::{Gateway, Nats, SOON, Settings, run, size};

/// What each has missed.
const MISSED: usize = 100;

fn crowd() -> usize {
    size(30, 1_000)
}

async fn node(nats: &Nats) -> Gateway {
    let settings = Settings::open()
        .on(&nats.url())
        .line("namespaces: {open: {history: {messages: 1000}}}")
        .limit("key_publishes_per_second: 1000000")
        .limit("ring_items: 200000")
        .limit("ring_bytes: 128MiB");
    Gateway::start(settings).await
}

/// Publishes what each will have missed, and gives the Cursor before all of it.
async fn fill(nats: &Nats, node: &Gateway) -> String {
    let first = node.publish("open.first", "0").await;
    let first: Value = first.json().await.expect("JSON");
    let payload = format!("\"{}\"", "x".repeat(126));
    let rounds = (0..MISSED).flat_map(|_| 0..crowd());
    nats.fill(rounds.map(|one| (format!("tidegate.in.open.t{one}"), payload.clone()))).await;
    first["cursor"].as_str().expect("a Cursor").to_owned()
}

/// All come at once, each with the Cursor and to its Topic. How long until each has all.
async fn comes_back(crowd: Vec<Raw>, cursor: &str) -> Duration {
    let since = Instant::now();
    let mut clients = JoinSet::new();
    for (one, mut client) in crowd.into_iter().enumerate() {
        let topic = format!("open.t{one}");
        let ask = json!({"type": "subscribe", "topic": topic, "from": {"cursor": cursor}});
        clients.spawn(async move {
            client.send(&frame(0x81, ask.to_string().as_bytes())).await;
            let reply: Value = serde_json::from_str(&client.text().await).expect("JSON");
            let told = (&reply["recovered"], &reply["replayed"], &reply["more"]);
            assert_eq!(told, (&json!(true), &json!(MISSED), &json!(false)), "{reply}");
            let its = format!(r#""topic":"{topic}""#);
            for _ in 0..MISSED {
                let text = client.text().await;
                assert!(text.contains(&its), "{text}");
            }
        });
    }
    clients.join_all().await;
    since.elapsed()
}

/// Publishes one after the other, 200 a second at the most; how long each takes, until it is dropped.
async fn publishes(node: &Gateway, took: &mut Vec<Duration>) {
    let mut turns = interval(Duration::from_millis(5));
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        let since = Instant::now();
        assert_eq!(node.publish("open.other", "1").await.status(), 200);
        took.push(since.elapsed());
    }
}

/// The same while somebody publishes on the other node.
async fn comes_back_meanwhile(
    node: &Gateway,
    crowd: Vec<Raw>,
    cursor: &str,
) -> (Duration, Duration) {
    let mut took = Vec::new();
    let resumed = tokio::select! {
        resumed = comes_back(crowd, cursor) => resumed,
        () = publishes(node, &mut took) => Duration::MAX,
    };
    took.sort_unstable();
    (resumed, took.get(took.len() * 99 / 100).copied().unwrap_or_default())
}

/// Each has missed a hundred, on a Topic of its own: first on a node that has just started and has all
/// of it to read, then on one that has it in memory.
#[test]
fn each_on_a_topic_of_its_own() {
    run(async {
        let nats = Nats::with_streams().await;
        let other = node(&nats).await;
        let cursor = fill(&nats, &other).await;
        let fresh = node(&nats).await;
        let clients = Raw::crowd(fresh.client, "open.none", crowd()).await;
        let before = reads(&nats).await;
        let (read, meanwhile) = comes_back_meanwhile(&other, clients, &cursor).await;
        let brought = reads(&nats).await - before;

        // What comes now, the node has heard.
        let mut holder = fresh.browser("").await;
        holder.subscribe("open.holder").await;
        let clients = Raw::crowd(fresh.client, "open.none", crowd()).await;
        let cursor = fill(&nats, &other).await;
        other.publish("open.holder", "1").await;
        assert_eq!(holder.message().await["data"], 1);
        let before = reads(&nats).await;
        let (heard, with_ring) = comes_back_meanwhile(&other, clients, &cursor).await;
        // A hole may have been mended meanwhile.
        let missed = (crowd() * MISSED) as u64;
        assert!(reads(&nats).await - before < missed, "it was read from history");
        println!(
            "{} clients, {MISSED} missed each: {read:?} from history (publish p99 {meanwhile:?}, \
             {brought} messages read), {heard:?} from the ring (publish p99 {with_ring:?})",
            crowd()
        );
        // As it is said of a built release on a machine of its own.
        assert!(read <= size(SOON, Duration::from_secs(3)), "{read:?}");
        assert!(heard <= size(SOON, Duration::from_millis(500)), "{heard:?}");
        assert!(meanwhile < size(SOON, Duration::from_millis(300)), "{meanwhile:?}");
    });
}

/// What NATS has sent on the connections that nodes read history over.
async fn reads(nats: &Nats) -> u64 {
    let all = nats.gateways().await;
    let history =
        all.iter().filter(|one| one["name"].as_str().is_some_and(|name| name.ends_with("history")));
    history.map(|one| one["out_msgs"].as_u64().expect("a count")).sum()
}
