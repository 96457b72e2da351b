//! Whether all is there that a client missed, on JetStream: it is told when something is gone, and it
//! is not told when nothing is.

use serde_json::{Value, json};
use tokio::time::timeout;

use crate::harness::{Browser, Gateway, Nats, SOON, Settings, run, size, soon, until};

const STREAM: &str = "TIDEGATE_open";

/// A gateway that keeps `open`; one that has just been started has it from history alone.
async fn keeps(nats: &Nats, history: &str) -> Gateway {
    let line = format!("namespaces: {{open: {{history: {history}}}}}");
    let settings = Settings::open().on(&nats.url()).line(&line);
    Gateway::start(settings.limit("ping_after: 1s")).await
}

/// Publishes, and gives the Cursor.
async fn publish(gateway: &Gateway, topic: &str, n: u64) -> Value {
    let answer = gateway.publish(topic, n.to_string()).await;
    assert_eq!(answer.status(), 200);
    answer.json::<Value>().await.expect("JSON")["cursor"].clone()
}

/// What somebody hears who comes back.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// All that he missed.
    All(Vec<u64>),
    /// That something is gone, why, and what is left.
    Less(String, Vec<u64>),
}

fn less(why: &str, left: &[u64]) -> Heard {
    Heard::Less(why.to_owned(), left.to_vec())
}

async fn comes_back(gateway: &Gateway, topic: &str, cursor: &Value) -> Heard {
    let mut browser = gateway.browser("").await;
    let heard = reads_on(&mut browser, topic, cursor).await;
    browser.is_quiet().await;
    heard
}

/// Subscribes from a Cursor, and reads all parts of what that brings.
async fn reads_on(browser: &mut Browser, topic: &str, cursor: &Value) -> Heard {
    let from = json!({"cursor": cursor});
    let mut part = browser.ask(json!({"type": "subscribe", "topic": topic, "from": from})).await;
    let (mut data, mut why) = (Vec::new(), None);
    loop {
        if part["recovered"] == false {
            why = part["reason"].as_str().map(ToOwned::to_owned);
        }
        for _ in 0..part["replayed"].as_u64().unwrap_or_else(|| panic!("{part}")) {
            let message = browser.next().await;
            data.push(message["data"].as_u64().unwrap_or_else(|| panic!("{message}")));
        }
        if part["more"] == false {
            return match why {
                None => Heard::All(data),
                Some(why) => Heard::Less(why, data),
            };
        }
        part = browser.next().await;
    }
}

/// An operator empties the stream: whoever was away is told. Without one Topic the rest is all there
/// is. What is published afterwards comes as ever.
#[test]
fn a_purge_is_told() {
    run(async {
        let nats = Nats::with_streams().await;
        let node = keeps(&nats, "{}").await;
        let cursor = publish(&node, "open.b", 0).await;
        for n in 1..=4 {
            publish(&node, if n % 2 == 0 { "open.a" } else { "open.b" }, n).await;
        }
        nats.streams("PURGE", STREAM, json!({"filter": "tidegate.in.open.a"})).await;
        let fresh = keeps(&nats, "{}").await;
        assert_eq!(comes_back(&fresh, "open.*", &cursor).await, Heard::All(vec![1, 3]));
        nats.streams("PURGE", STREAM, json!({})).await;
        let fresh = keeps(&nats, "{}").await;
        for topic in ["open.a", "open.**"] {
            assert_eq!(comes_back(&fresh, topic, &cursor).await, less("history_trimmed", &[]));
        }
        let after = publish(&node, "open.a", 5).await;
        assert_eq!(comes_back(&fresh, "open.*", &cursor).await, less("history_trimmed", &[5]));
        publish(&node, "open.a", 6).await;
        assert_eq!(comes_back(&fresh, "open.*", &after).await, Heard::All(vec![6]));
    });
}

/// As many as are kept of a Topic may be missed; one more, and it is told, and the others are brought.
#[test]
fn one_more_than_is_kept_is_told() {
    run(async {
        let nats = Nats::with_streams().await;
        let node = keeps(&nats, "{messages: 5}").await;
        for missed in [4, 5, 6, 7] {
            let topic = format!("open.t{missed}");
            let cursor = publish(&node, &topic, 0).await;
            for n in 1..=missed {
                publish(&node, &topic, n).await;
            }
            let fresh = keeps(&nats, "{messages: 5}").await;
            let all: Vec<u64> = (1..=missed).collect();
            let expected = match missed {
                ..=5 => Heard::All(all),
                // The stream has one more than it promises.
                _ => less("history_trimmed", &all[all.len() - 6..]),
            };
            for pattern in [topic.as_str(), "open.*"] {
                assert_eq!(comes_back(&fresh, pattern, &cursor).await, expected, "{pattern}");
            }
        }
    });
}

/// What is too old is gone, and told. Who heard nothing all that time, for nothing was for it, has been
/// told how far it is, and misses nothing.
#[test]
fn age_is_told_and_a_quiet_topic_is_whole() {
    run(async {
        let nats = Nats::with_streams().await;
        let node = keeps(&nats, "{age: 2s}").await;
        let mut quiet = node.browser("").await;
        let early = quiet.ask(json!({"type": "subscribe", "topic": "open.quiet"})).await;
        let early = early["cursor"].clone();
        let mut last = json!(null);
        for n in 1..=5 {
            last = publish(&node, "open.busy", n).await;
        }
        let offset = |cursor: &Value| -> Option<String> {
            cursor.as_str()?.split('-').nth(1).map(ToOwned::to_owned)
        };
        let position = soon("its position", async {
            loop {
                let cursor = quiet.next().await["cursor"].clone();
                if offset(&cursor) == offset(&last) {
                    return cursor;
                }
            }
        })
        .await;
        drop(quiet);
        until("all is too old", 2 * SOON, async || {
            nats.stream(STREAM).await["state"]["messages"] == 0
        })
        .await;
        let fresh = keeps(&nats, "{age: 2s}").await;
        for topic in ["open.quiet", "open.busy", "open.**"] {
            assert_eq!(comes_back(&fresh, topic, &early).await, less("history_trimmed", &[]));
            assert_eq!(comes_back(&fresh, topic, &position).await, Heard::All(vec![]));
        }
    });
}

/// A Cursor that history has not reached, and one of a stream that was made anew, are of another
/// history.
#[test]
fn another_history_is_told() {
    run(async {
        let nats = Nats::with_streams().await;
        let node = keeps(&nats, "{}").await;
        let cursor = publish(&node, "open.a", 1).await;
        let (epoch, _) = cursor.as_str().expect("a Cursor").split_once('-').expect("an Epoch");
        let future = json!(format!("{epoch}-ffff"));
        let fresh = keeps(&nats, "{}").await;
        for node in [&node, &fresh] {
            assert_eq!(comes_back(node, "open.a", &future).await, less("epoch_changed", &[]));
        }
        publish(&node, "open.a", 2).await;
        assert_eq!(comes_back(&fresh, "open.a", &cursor).await, Heard::All(vec![2]));
        nats.remove_stream(STREAM).await;
        let fresh = keeps(&nats, "{}").await;
        publish(&fresh, "open.a", 3).await;
        assert_eq!(comes_back(&fresh, "open.a", &cursor).await, less("epoch_changed", &[]));
    });
}

/// Reads on until a `gap` for this reason has come.
async fn gap(browser: &mut Browser, reason: &str) {
    let told = async {
        loop {
            let frame = browser.next_or_close(4 * SOON).await.expect("the connection stays");
            if frame["type"] == "gap" && frame["reason"] == reason {
                return;
            }
        }
    };
    timeout(4 * SOON, told).await.expect("it is told");
}

/// NATS comes back with an older copy of what it had stored, and uses Offsets again: whoever is live is
/// told, and so is whoever has a Cursor of what is no more, whether its Offset is used again by then or
/// not. An older Cursor is good.
#[test]
fn an_older_store_put_back_is_told() {
    run(async {
        for hurry in [false, true] {
            let mut nats = Nats::with_streams().await;
            let node = keeps(&nats, "{}").await;
            let mut reader = node.browser("").await;
            reader.subscribe("open.**").await;
            let mut message = async |n: u64| {
                publish(&node, "open.a", n).await;
                loop {
                    let message = reader.message().await;
                    if message["data"] == n {
                        return message["cursor"].clone();
                    }
                }
            };
            for n in 0..4 {
                message(n).await;
            }
            let older = message(4).await;
            nats.kill();
            nats.set_store_aside();
            nats.run().await;
            until("it is published again", 4 * SOON, async || {
                node.publish("open.a", "5").await.status() == 200
            })
            .await;
            message(6).await;
            let gone = message(7).await;
            nats.kill();
            nats.put_store_back();
            nats.run().await;
            until("JetStream answers", 2 * SOON, || nats.has_streams(1)).await;
            let fresh = keeps(&nats, "{}").await;
            if !hurry {
                assert_eq!(nats.stream(STREAM).await["state"]["last_seq"], 5);
                gap(&mut reader, "epoch_changed").await;
                for node in [&node, &fresh] {
                    let heard = comes_back(node, "open.*", &gone).await;
                    assert_eq!(heard, less("epoch_changed", &[]));
                }
            }
            for n in 10..16 {
                publish(&fresh, "open.a", n).await;
            }
            if hurry {
                gap(&mut reader, "epoch_changed").await;
            }
            for (n, node) in [(20, &node), (21, &fresh)] {
                // It may not have come so far: what is behind it all shows that it has.
                let mut there = node.browser("").await;
                there.subscribe("open.b.c").await;
                publish(&fresh, "open.b.c", n).await;
                assert_eq!(there.message().await["data"], n);
                assert_eq!(comes_back(node, "open.*", &gone).await, less("epoch_changed", &[]));
                let all = Heard::All((10..16).collect());
                assert_eq!(comes_back(node, "open.*", &older).await, all);
            }
            publish(&fresh, "open.a", 16).await;
            while reader.message().await["data"] != 16 {}
            reader.is_quiet().await;
        }
    });
}

/// Tens of thousands are missed and come in parts, in order, whole, while more is published; then what
/// is live.
#[test]
fn very_much_comes_in_parts() {
    run(async {
        let count = size(10_000, 50_000);
        let nats = Nats::with_streams().await;
        let history = "{messages: 100000}";
        let node = keeps(&nats, history).await;
        let cursor = publish(&node, "open.a", 0).await;
        nats.fill((1..=count).map(|n| ("tidegate.in.open.a".to_owned(), n.to_string()))).await;
        let fresh = keeps(&nats, history).await;
        let mut all: Vec<u64> = (1..=count).collect();
        for (topic, next) in [("open.a", count + 1), ("open.*", count + 2)] {
            let mut browser = fresh.browser("").await;
            let publishing = async {
                for _ in 0..20 {
                    publish(&node, "open.none.of.it", 0).await;
                }
            };
            let (heard, ()) = tokio::join!(reads_on(&mut browser, topic, &cursor), publishing);
            assert_eq!(heard, Heard::All(all.clone()));
            publish(&node, "open.a", next).await;
            assert_eq!(browser.message().await["data"], next);
            all.push(next);
        }
    });
}
