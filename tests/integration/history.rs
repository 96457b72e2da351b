//! What is kept comes back: missed Publications, newest values, pages; and what is gone is told.

use serde_json::{Value, json};

use crate::harness::{Browser, Gateway, Settings, run};

/// A gateway whose Namespace `open` is kept, a hundred of each Topic.
async fn keeps() -> Gateway {
    keeps_with("{messages: 100}").await
}

async fn keeps_with(history: &str) -> Gateway {
    let line = format!("namespaces: {{open: {{history: {history}}}}}");
    Gateway::start(Settings::open().line(&line)).await
}

/// Publishes `n` as its own payload; the answer.
async fn publish(gateway: &Gateway, topic: &str, n: usize) -> Value {
    let answer = gateway.publish(topic, n.to_string()).await;
    assert_eq!(answer.status(), 200);
    answer.json().await.expect("an answer is JSON")
}

/// Subscribes; the Reply and what it says is replayed, all its parts.
async fn subscribe(browser: &mut Browser, topic: &str, from: Value) -> (Value, Vec<Value>) {
    let reply = browser.ask(json!({"type": "subscribe", "topic": topic, "from": from})).await;
    assert_eq!(reply["type"], "subscribed", "{reply}");
    let (mut part, mut messages) = (reply.clone(), Vec::new());
    loop {
        for _ in 0..part["replayed"].as_u64().expect("a number") {
            messages.push(browser.message().await);
        }
        if part["more"] == false {
            return (reply, messages);
        }
        part = browser.next().await;
        assert_eq!(part["type"], "replay", "{part}");
        assert_eq!(part["topic"], reply["topic"]);
    }
}

fn numbers(messages: &[Value]) -> Vec<u64> {
    messages.iter().map(|one| one["data"].as_u64().expect("a number")).collect()
}

/// A client that comes back with its Cursor gets what came while it was away, and then what comes.
#[test]
fn a_cursor_brings_what_was_missed() {
    run(async {
        let gateway = keeps().await;
        let mut browser = gateway.browser("").await;
        let (reply, _) = subscribe(&mut browser, "open.a", json!("live")).await;
        assert_eq!(reply["recovered"], true);
        let first = publish(&gateway, "open.a", 1).await;
        assert_eq!((&first["stored"], &first["duplicate"]), (&json!(true), &json!(false)));
        let message = browser.message().await;
        assert_eq!(message["cursor"], first["cursor"]);
        drop(browser);
        for n in 2..=30 {
            publish(&gateway, if n % 3 == 0 { "open.b" } else { "open.a" }, n).await;
        }
        let mut browser = gateway.browser("").await;
        let from = json!({"cursor": message["cursor"]});
        let (reply, missed) = subscribe(&mut browser, "open.a", from.clone()).await;
        assert_eq!((&reply["recovered"], &reply["more"]), (&json!(true), &json!(false)));
        let expected: Vec<u64> = (2..=30).filter(|n| n % 3 != 0).collect();
        assert_eq!(numbers(&missed), expected);
        let (reply, missed) = subscribe(&mut browser, "open.>", from).await;
        assert_eq!(reply["recovered"], true);
        assert_eq!(numbers(&missed), (2..=30).collect::<Vec<_>>());
        // Once, though two of its Subscriptions match.
        publish(&gateway, "open.a", 31).await;
        assert_eq!(numbers(&[browser.message().await]), [31]);
        browser.is_quiet().await;
    });
}

/// The newest value of each Topic, by rising Offset, without those that have none any more; then live.
#[test]
fn a_snapshot_then_live() {
    run(async {
        let gateway = keeps().await;
        for n in 0..50 {
            publish(&gateway, &format!("open.t{}", n % 10), n).await;
        }
        let gone = gateway.publish("open.t3", "").await;
        assert_eq!(gone.status(), 200);
        let mut browser = gateway.browser("").await;
        let (reply, values) = subscribe(&mut browser, "open.*", json!("last")).await;
        assert_eq!(reply["recovered"], true);
        assert_eq!(numbers(&values), [40, 41, 42, 44, 45, 46, 47, 48, 49]);
        publish(&gateway, "open.t3", 50).await;
        assert_eq!(numbers(&[browser.message().await]), [50]);
    });
}

/// The last n of a Topic, and what was stored since a time.
#[test]
fn the_last_ones_and_since_a_time() {
    run(async {
        let gateway = keeps().await;
        let mut cursors = Vec::new();
        for n in 0..20 {
            cursors.push(publish(&gateway, "open.a", n).await["cursor"].clone());
            publish(&gateway, "open.b", 100 + n).await;
        }
        let mut browser = gateway.browser("").await;
        let (_, last) = subscribe(&mut browser, "open.a", json!({"last": 3})).await;
        assert_eq!(numbers(&last), [17, 18, 19]);
        let since = json!({"since": last[0]["time"]});
        let (reply, since) = subscribe(&mut browser, "open.*", since).await;
        assert_eq!(reply["recovered"], true);
        assert!(numbers(&since).ends_with(&[18, 118, 19, 119]), "{since:?}");
    });
}

/// More than an Outbox holds comes in parts, each of which says whose it is, and then live.
#[test]
fn a_long_replay_comes_in_parts() {
    run(async {
        let gateway = keeps_with("{messages: 5000}").await;
        for n in 0..2_500 {
            publish(&gateway, "open.a", n).await;
        }
        let mut browser = gateway.browser("").await;
        let (reply, replayed) = subscribe(&mut browser, "open.a", json!({"last": 1000})).await;
        assert_eq!(numbers(&replayed), (1_500..2_500).collect::<Vec<_>>());
        assert_eq!((&reply["recovered"], &reply["more"]), (&json!(true), &json!(true)));
        drop(browser);
        let mut browser = gateway.browser("").await;
        let cursor = reply["cursor"].as_str().expect("a Cursor").split_once('-').unwrap().0;
        let from = json!({"cursor": format!("{cursor}-0")});
        let (reply, replayed) = subscribe(&mut browser, "open.a", from).await;
        assert_eq!(reply["recovered"], true);
        assert_eq!(numbers(&replayed), (0..2_500).collect::<Vec<_>>());
        publish(&gateway, "open.a", 2_500).await;
        assert_eq!(numbers(&[browser.message().await]), [2_500]);
    });
}

/// What retention has taken is told, and what is left is brought.
#[test]
fn what_is_gone_is_told() {
    run(async {
        let gateway = keeps_with("{messages: 10}").await;
        let first = publish(&gateway, "open.a", 0).await;
        for n in 1..=30 {
            publish(&gateway, "open.a", n).await;
        }
        let mut browser = gateway.browser("").await;
        let epoch = first["cursor"].as_str().unwrap().split_once('-').unwrap().0;
        for (cursor, reason) in [
            ("aaaaaa-1".to_owned(), "epoch_changed"),
            (format!("{epoch}-19-ffff"), "epoch_changed"),
            (format!("{epoch}-ffff"), "epoch_changed"),
            (format!("{epoch}-1"), "history_trimmed"),
        ] {
            let from = json!({"cursor": cursor});
            let (reply, missed) = subscribe(&mut browser, "open.a", from).await;
            assert_eq!((&reply["recovered"], &reply["reason"]), (&json!(false), &json!(reason)));
            let left = if reason == "history_trimmed" { 11 } else { 0 };
            assert_eq!(missed.len(), left, "{cursor}");
            browser.ask(json!({"type": "unsubscribe", "topic": "open.a"})).await;
        }
    });
}

/// Pages of history, one behind the other, are the history.
#[test]
fn history_is_read_in_pages() {
    run(async {
        let gateway = keeps().await;
        for n in 0..25 {
            publish(&gateway, "open.a", n).await;
            publish(&gateway, "open.b", n).await;
        }
        let mut browser = gateway.browser("").await;
        let (mut from, mut all) = (json!(null), Vec::new());
        loop {
            let mut ask = json!({"type": "history", "topic": "open.a", "limit": 10});
            if !from.is_null() {
                ask["from"] = json!({"cursor": from});
            }
            let page = browser.ask(ask).await;
            assert_eq!(page["type"], "history", "{page}");
            all.extend(page["items"].as_array().expect("items").clone());
            from = page["next"].clone();
            if from.is_null() {
                break;
            }
        }
        assert_eq!(numbers(&all), (0..25).collect::<Vec<_>>());
        let page = browser.ask(json!({"type": "history", "topic": "other.a"})).await;
        assert_eq!(page["code"], "unauthenticated");
    });
}
