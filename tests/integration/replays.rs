//! Replays under load: while a publisher hammers, for a client that reads slowly, for a crowd.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::harness::raw::{Raw, frame};
use crate::harness::{Browser, Gateway, Nats, Settings, run, size};

/// Topics of a snapshot.
const TOPICS: usize = 1_000;

fn settings(history: &str) -> Settings {
    let line = format!("namespaces: {{open: {{history: {history}}}}}");
    Settings::open().line(&line).limit("key_publishes_per_second: 1000000")
}

async fn keeps(history: &str) -> Gateway {
    Gateway::start(settings(history)).await
}

async fn keeps_on(nats: &Nats, history: &str) -> Gateway {
    Gateway::start(settings(history).on(&nats.url())).await
}

/// Publishes these as one batch; `[topic, n]` each.
async fn publish(gateway: &Gateway, items: impl Iterator<Item = (String, u64)>) {
    let items: Vec<Value> =
        items.map(|(topic, n)| json!({"topic": topic, "data": {"n": n}})).collect();
    let body = json!({ "messages": items }).to_string();
    let request = gateway.request(reqwest::Method::POST, "/v1/publish").body(body);
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let answer: Value = answer.json().await.expect("JSON");
    let results = answer["results"].as_array().expect("results");
    assert!(results.iter().all(|one| one["stored"] == true), "{answer}");
}

/// Reads a snapshot in all its parts: the newest value of each Topic, and if it changes meanwhile a
/// newer one.
async fn reads_snapshot(browser: &mut Browser, topics: usize) -> BTreeMap<String, u64> {
    let mut seen = BTreeMap::new();
    loop {
        let part = browser.next().await;
        assert!(part["type"] == "subscribed" || part["type"] == "replay", "{part}");
        for _ in 0..part["replayed"].as_u64().expect("a number") {
            let (topic, n) = read(&browser.next().await);
            assert!(seen.insert(topic, n).is_none_or(|before| before < n));
        }
        if part["more"] == false {
            assert_eq!(seen.len(), topics);
            return seen;
        }
    }
}

/// Reads on until every Topic has shown its n-th: each comes once, and none is left out.
async fn reads_on(browser: &mut Browser, seen: &mut BTreeMap<String, u64>, until: u64) {
    while seen.values().any(|n| *n < until) {
        let frame = browser.next().await;
        if frame["type"] == "position" {
            continue;
        }
        let (topic, n) = read(&frame);
        let before = seen.insert(topic.clone(), n);
        assert_eq!(before.map(|before| before + 1), Some(n), "{topic}");
    }
}

fn read(message: &Value) -> (String, u64) {
    assert_eq!(message["type"], "message", "{message}");
    let topic = message["topic"].as_str().expect("a topic").to_owned();
    (topic, message["data"]["n"].as_u64().expect("a number"))
}

/// A snapshot of a thousand Topics, then live, while a publisher goes round all of them: the newest
/// value of each, and from there every one, once.
#[test]
fn a_snapshot_joins_live_without_a_seam() {
    run(async {
        let gateway = Arc::new(keeps("{messages: 3}").await);
        snapshots_while_hammered(&gateway, Arc::clone(&gateway)).await;
    });
}

/// The same on a node of NATS, while the publisher is on another.
#[test]
fn a_snapshot_joins_live_on_the_other_node() {
    run(async {
        let nats = Nats::with_streams().await;
        let other = Arc::new(keeps_on(&nats, "{messages: 3}").await);
        snapshots_while_hammered(&keeps_on(&nats, "{messages: 3}").await, other).await;
    });
}

async fn snapshots_while_hammered(gateway: &Gateway, hammered: Arc<Gateway>) {
    let topic = |n: usize| format!("open.t{n}");
    publish(&hammered, (0..TOPICS).map(|one| (topic(one), 0))).await;
    let (ends, round) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut hammer = JoinSet::new();
    hammer.spawn({
        let (ends, round) = (ends.clone(), round.clone());
        async move {
            while !ends.load(Ordering::Relaxed) {
                let n = round.fetch_add(1, Ordering::Relaxed) + 1;
                // In pieces, so that a snapshot falls into the middle of a round.
                for piece in 0..10 {
                    let part = (0..TOPICS).skip(piece).step_by(10);
                    publish(&hammered, part.map(|one| (format!("open.t{one}"), n))).await;
                }
            }
        }
    });
    for _ in 0..size(5, 200) {
        let mut browser = gateway.browser("topic=open.*&from=last").await;
        assert_eq!(browser.next().await["type"], "connected");
        let mut seen = reads_snapshot(&mut browser, TOPICS).await;
        let until = round.load(Ordering::Relaxed) + 2;
        reads_on(&mut browser, &mut seen, until).await;
    }
    ends.store(true, Ordering::Relaxed);
    hammer.join_all().await;
}

/// As many Topics as a snapshot may have, of more bytes than NATS gives at once, come whole. With one
/// Topic more it is refused, and never cut.
#[test]
fn a_snapshot_is_whole_or_refused() {
    const MOST: usize = 1_024;
    run(async {
        let nats = Nats::with_streams().await;
        let gateway = keeps_on(&nats, "{}").await;
        let payload = json!({"n": 1, "much": "x".repeat(2_200)}).to_string();
        nats.fill((0..MOST).map(|n| (format!("tidegate.in.open.t{n}"), payload.clone()))).await;
        let mut browser = gateway.browser("topic=open.*&from=last").await;
        assert_eq!(browser.next().await["type"], "connected");
        let seen = reads_snapshot(&mut browser, MOST).await;
        assert!((0..MOST).all(|n| seen.contains_key(&format!("open.t{n}"))));

        assert_eq!(gateway.publish("open.more", "{}").await.status(), 200);
        let fresh = keeps_on(&nats, "{}").await;
        let mut late = fresh.browser("").await;
        let ask = json!({"type": "subscribe", "topic": "open.*", "from": "last"});
        assert_eq!(late.ask(ask).await["code"], "too_many_topics");
        let state = gateway.request(reqwest::Method::GET, "/v1/topics/open.*/state");
        assert_eq!(state.send().await.expect("an answer").status(), 422);
    });
}

/// A client that reads slowly gets all it missed, in parts, and is never closed for it; meanwhile the
/// node holds a part for it, and not the whole. At full size: 20 MB at 64 KB a second.
#[test]
fn a_slow_reader_gets_all_it_missed() {
    const BYTES: usize = 20 << 10;
    let (count, bytes_per_second) = size((200, 1 << 20), (1_000, 64 << 10));
    run(async {
        let gateway = keeps("{messages: 100000}").await;
        let payload = format!("\"{}\"", "x".repeat(BYTES));
        for _ in 0..count {
            assert_eq!(gateway.publish("open.a", payload.clone()).await.status(), 200);
        }
        let before = gateway.resident_bytes();
        let since = Instant::now();
        let query = format!("open.a&last={count}");
        // A much smaller buffer says most of the time that it has no room, and the node's kernel gives such
        // a reader up after 20 s, though it takes bytes.
        let mut slow = Raw::buffered(gateway.client, 64 << 10).subscribe(&query).await;
        let (mut messages, mut most) = (0, before);
        while messages < count {
            for text in slow.read_slowly(bytes_per_second, 1).await {
                messages += usize::from(text.contains(r#""type":"message""#));
            }
            most = most.max(gateway.resident_bytes());
        }
        let (took, grown) = (since.elapsed(), most - before);
        println!("{count} of {BYTES} bytes in {took:?}, {grown} bytes of memory more");
        assert!(took > Duration::from_secs((count * BYTES / bytes_per_second) as u64 * 9 / 10));
        assert!(grown < 3 << 20, "{grown} bytes");
    });
}

/// A crowd that comes back at once, each with a hundred missed, is served from memory.
#[test]
fn a_crowd_comes_back_at_once() {
    run(async {
        let count = size(300, 1_000);
        let gateway = keeps("{messages: 1000}").await;
        let first = gateway.publish("open.a", "0").await;
        let first: Value = first.json().await.expect("JSON");
        let cursor = first["cursor"].as_str().expect("a Cursor").to_owned();
        // Somebody holds the ring, as on a node that is at work.
        let mut holder = gateway.browser("topic=open.a").await;
        holder.next().await;
        holder.next().await;
        publish(&gateway, (1..=100).map(|n| ("open.a".to_owned(), n))).await;
        let mut crowd = Raw::crowd(gateway.client, "open.none", count).await;
        let subscribe = json!({"type": "subscribe", "topic": "open.a", "from": {"cursor": cursor}});
        let subscribe = masked(subscribe.to_string().as_bytes());
        let since = Instant::now();
        for one in &mut crowd {
            one.send(&subscribe).await;
        }
        for one in &mut crowd {
            let reply: Value = serde_json::from_str(&one.text().await).expect("JSON");
            assert_eq!((&reply["recovered"], &reply["replayed"]), (&json!(true), &json!(100)));
            for n in 1..=100 {
                let message: Value = serde_json::from_str(&one.text().await).expect("JSON");
                assert_eq!(message["data"]["n"], n);
            }
        }
        assert!(since.elapsed() < Duration::from_secs(10), "{:?}", since.elapsed());
    });
}

fn masked(text: &[u8]) -> Vec<u8> {
    frame(0x81, text)
}

/// Cursors of every odd kind: a clear error, or told that something may be missing.
#[test]
fn odd_cursors_are_refused_or_told() {
    run(async {
        let gateway = keeps("{messages: 100}").await;
        let mut last = json!(null);
        for n in 0..5 {
            let answer = gateway.publish("open.a", n.to_string()).await;
            last = answer.json::<Value>().await.expect("JSON")["cursor"].clone();
        }
        let last = last.as_str().expect("a Cursor");
        let mut browser = gateway.browser("").await;
        let truncated = &last[..last.len() - 1];
        let long = "a".repeat(60_000);
        for bad in ["", "x", "k3f7qa", "-1", truncated, "k3f7qa-1-", &format!("{last}-0"), &long] {
            let from = json!({"cursor": bad});
            let ask = json!({"type": "subscribe", "topic": "open.a", "from": from});
            let reply = browser.ask(ask).await;
            assert_eq!(reply["code"], "invalid_cursor", "{reply}");
        }
        let (epoch, _) = last.split_once('-').expect("an Epoch");
        for foreign in ["k3f7qa-1", &format!("{epoch}-ffff"), &format!("{epoch}-3-0000")] {
            let from = json!({"cursor": foreign});
            let ask = json!({"type": "subscribe", "topic": "open.a", "from": from});
            let reply = browser.ask(ask).await;
            assert_eq!(
                (&reply["recovered"], &reply["reason"], &reply["replayed"]),
                (&json!(false), &json!("epoch_changed"), &json!(0)),
                "{foreign}"
            );
            browser.ask(json!({"type": "unsubscribe", "topic": "open.a"})).await;
        }
    });
}
