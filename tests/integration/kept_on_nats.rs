//! Kept Namespaces where plain NATS is in the path: what others write changes nothing, and history can
//! begin while clients are there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::HeaderMap;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use crate::harness::{Browser, Gateway, Nats, SOON, Settings, pass, run, soon, until};

async fn keeps(nats: &Nats) -> Gateway {
    let line = "namespaces: {open: {history: {messages: 100000}}}";
    Gateway::start(Settings::open().on(&nats.url()).line(line)).await
}

/// What a Cursor brings, in all its parts.
async fn missed(gateway: &Gateway, cursor: &Value) -> Vec<Value> {
    let mut browser = gateway.browser("").await;
    let from = json!({"cursor": cursor});
    let mut part =
        browser.ask(json!({"type": "subscribe", "topic": "open.**", "from": from})).await;
    let mut messages = Vec::new();
    loop {
        assert_eq!(part["recovered"], true, "{part}");
        for _ in 0..part["replayed"].as_u64().expect("a number") {
            let message = browser.next().await;
            assert_eq!(message["type"], "message", "{message}");
            messages.push(message);
        }
        if part["more"] == false {
            return messages;
        }
        part = browser.next().await;
    }
}

/// Publishes with headers that no client library would send.
async fn publish_raw(nats: &Nats, subject: &str, headers: &[u8], payload: &str) {
    let mut stream = BufReader::new(TcpStream::connect(nats.client).await.expect("it connects"));
    let (head, all) = (headers.len(), headers.len() + payload.len());
    let before = format!(
        "CONNECT {{\"headers\":true,\"verbose\":false}}\r\nHPUB {subject} {head} {all}\r\n"
    );
    let behind = format!("{payload}\r\nPING\r\n");
    let bytes = [before.as_bytes(), headers, behind.as_bytes()].concat();
    stream.write_all(&bytes).await.expect("it is sent");
    let mut line = String::new();
    while line != "PONG\r\n" {
        line.clear();
        let read = soon("an answer", stream.read_line(&mut line)).await.expect("an answer");
        assert!(read > 0 && !line.starts_with("-ERR"), "{line}");
    }
}

/// Headers that only the server should write, answers in place of messages, subjects that are no Topic
/// or no subject at all, and what is said where only streams speak: a client hears what was published,
/// once and in order, and whoever comes back reads the same, byte for byte.
#[test]
fn what_is_forged_changes_nothing() {
    run(async {
        let nats = Nats::with_streams().await;
        let backend = nats.backend().await;
        let node = keeps(&nats).await;
        let first: Value = node.publish("open.f", "0").await.json().await.expect("JSON");
        let mut reader = node.browser("").await;
        reader.subscribe("open.**").await;
        let mut expected = Vec::new();
        let mut n = 0;
        for forged in [
            &[("Nats-Sequence", "1")][..],
            &[("Nats-Sequence", "999999"), ("Nats-Stream", "TIDEGATE_open")],
            &[("Nats-Stream", "OTHER")],
            &[("Nats-Subject", "tidegate.in.open.other")],
            &[("Nats-Time-Stamp", "1999-01-01T00:00:00Z"), ("Tidegate-Time", "1")],
            &[("Nats-Last-Sequence", "77"), ("Nats-Num-Pending", "7")],
            &[("Nats-UpTo-Sequence", "1"), ("Status", "404"), ("Description", "none")],
            &[("Nats-Marker-Reason", "Purge")],
            &[("Nats-Rollup", "all")],
            &[("Nats-TTL", "1s")],
            &[("Nats-Expected-Last-Sequence", "1")],
            &[("traceparent", "00-zz"), ("Nats-Msg-Id", "an-id")],
        ] {
            n += 1;
            let mut headers = HeaderMap::new();
            for (name, value) in forged {
                headers.append(*name, *value);
            }
            let subject = "tidegate.in.open.f";
            let ack = backend.request_with_headers(subject, headers, n.to_string().into()).await;
            let ack: Value =
                serde_json::from_slice(&ack.expect("an ack").payload).expect("an ack is JSON");
            // What the server refuses is nobody's, nor is what says that the server wrote it.
            if ack.get("error").is_none() && forged[0].0 != "Nats-Marker-Reason" {
                expected.push(json!(n));
            }
            // A hole, for it is stored and not said again; and what is stored and is no Topic.
            for nobodys in ["*", ">", "$x", "a.*.b"] {
                let subject = format!("tidegate.in.open.{nobodys}");
                backend.request(subject, "no".into()).await.expect("an ack");
            }
            backend.publish("tidegate.out.open.f", "no".into()).await.expect("it is sent");
        }
        for status in ["404 No Messages", "408", "204 EOB", "413", "503", "100 Idle", "200"] {
            for payload in ["1000", ""] {
                let headers = format!("NATS/1.0 {status}\r\nX: y\r\n\r\n");
                publish_raw(&nats, "tidegate.in.open.f", headers.as_bytes(), payload).await;
                expected.push(serde_json::from_str(payload).unwrap_or_default());
            }
        }
        assert_eq!(node.publish("open.f", "\"end\"").await.status(), 200);
        expected.push(json!("end"));

        let mut live = Vec::new();
        while live.last().is_none_or(|last: &Value| last["data"] != "end") {
            let frame = reader.next_or_close(SOON).await.expect("it stays");
            assert_eq!(frame["type"], "message", "{frame}");
            assert_eq!(frame["topic"], "open.f");
            live.push(frame);
        }
        let heard: Vec<&Value> =
            live.iter().map(|one| one.get("data").unwrap_or(&Value::Null)).collect();
        assert_eq!(heard, expected.iter().collect::<Vec<_>>());
        reader.is_quiet().await;
        for node in [&node, &keeps(&nats).await] {
            assert_eq!(missed(node, &first["cursor"]).await, live);
            let cursor = first["cursor"].as_str().expect("a Cursor");
            let path = format!("/v1/topics/open.f/messages?cursor={cursor}");
            let page = node.request(Method::GET, &path).send().await.expect("an answer");
            let page: Value = page.json().await.expect("JSON");
            assert_eq!(page["items"], json!(live));
        }
    });
}

/// Headers that are none, or no text: whoever sent them harms nobody else. What comes before and behind
/// is heard, and read by whoever comes back.
#[test]
fn broken_headers_stop_nobody() {
    run(async {
        let nats = Nats::with_streams().await;
        let node = keeps(&nats).await;
        let mut reader = node.browser("").await;
        reader.subscribe("open.**").await;
        let first: Value = node.publish("open.f", "1").await.json().await.expect("JSON");
        for broken in [&b"NATS/1.0\r\nX: \xff\r\n\r\n"[..], b"NATS/1.0\r\nno colon\r\n\r\n"] {
            publish_raw(&nats, "tidegate.in.open.broken", broken, "2").await;
        }
        until("it is published", 2 * SOON, async || {
            node.publish("open.f", "3").await.status() == 200
        })
        .await;
        for node in [&node, &keeps(&nats).await] {
            let mut late = node.browser("").await;
            let from = json!({"cursor": first["cursor"]});
            let ask = json!({"type": "subscribe", "topic": "open.f", "from": from});
            let part = late.ask(ask).await;
            assert_eq!(part["recovered"], true, "{part}");
            assert_eq!(late.message().await["data"], 3);
        }
        while reader.message().await["data"] != 3 {}
    });
}

/// A snapshot holds such a message as well, and all others; a page of state does.
#[test]
fn a_snapshot_holds_what_has_broken_headers() {
    run(async {
        let nats = Nats::with_streams().await;
        let node = keeps(&nats).await;
        node.publish("open.a", "1").await;
        publish_raw(&nats, "tidegate.in.open.broken", b"NATS/1.0\r\nX: \xff\r\n\r\n", "2").await;
        until("it is published", 2 * SOON, async || {
            node.publish("open.b", "3").await.status() == 200
        })
        .await;
        for node in [&node, &keeps(&nats).await] {
            let mut late = node.browser("").await;
            let ask = json!({"type": "subscribe", "topic": "open.**", "from": "last"});
            let part = late.ask(ask).await;
            assert_eq!(
                (&part["recovered"], &part["replayed"]),
                (&json!(true), &json!(3)),
                "{part}"
            );
            for expected in [1, 2, 3] {
                assert_eq!(late.message().await["data"], expected);
            }
            let page = node.request(Method::GET, "/v1/topics/open.**/state").send().await;
            let page: Value = page.expect("an answer").json().await.expect("JSON");
            let values = page["items"].as_array().expect("items").iter().map(|one| &one["data"]);
            assert_eq!(values.collect::<Vec<_>>(), [1, 2, 3], "{page}");
        }
    });
}

/// Publishes numbers over this node, whichever is in this place, until told to stop; then the end.
async fn hammer(node: Arc<Mutex<Gateway>>, from: &'static str, stop: Arc<AtomicBool>) {
    for n in 0.. {
        let ends = stop.load(Ordering::Relaxed);
        let payload = json!({"from": from, "n": n, "end": ends}).to_string();
        assert_eq!(node.lock().await.publish("open.a", payload).await.status(), 200);
        if ends {
            return;
        }
        pass(Duration::from_millis(5)).await;
    }
}

/// The same, straight into NATS.
async fn hammer_nats(backend: async_nats::Client, stop: Arc<AtomicBool>) {
    for n in 0.. {
        let ends = stop.load(Ordering::Relaxed);
        let payload = json!({"from": "nats", "n": n, "end": ends}).to_string();
        backend.publish("tidegate.in.open.a", payload.into()).await.expect("it is sent");
        if ends {
            return backend.flush().await.expect("it is sent");
        }
        pass(Duration::from_millis(5)).await;
    }
}

/// Reads until all three have ended, or the node goes: from each source every number once.
async fn reads(mut reader: Browser) -> Vec<Value> {
    let (mut messages, mut next, mut ended) = (Vec::new(), BTreeMap::new(), 0);
    while ended < 3 {
        let Ok(frame) = reader.next_or_close(2 * SOON).await else { break };
        match frame["type"].as_str().expect("a type") {
            "message" => {}
            "ping" | "going_away" => continue,
            _ => panic!("{frame}"),
        }
        let (from, n) = (frame["data"]["from"].to_string(), frame["data"]["n"].as_u64());
        if let Some(before) = next.insert(from, n) {
            assert_eq!(before.map(|before| before + 1), n, "{frame}");
        }
        ended += usize::from(frame["data"]["end"] == true);
        messages.push(frame);
    }
    messages
}

/// A Namespace becomes kept while it is in use: two nodes are restarted one after the other, with
/// history, while all roads bring Publications. Whoever is live hears each once; then Cursors are good
/// on both nodes.
#[test]
fn history_begins_while_clients_are_there() {
    run(async {
        let nats = Nats::with_streams().await;
        let best_effort = || Settings::open().on(&nats.url());
        let mut nodes = Vec::new();
        for _ in 0..2 {
            nodes.push(Arc::new(Mutex::new(Gateway::start(best_effort()).await)));
        }
        let mut readers = JoinSet::new();
        for node in &nodes {
            let mut reader = node.lock().await.browser("").await;
            reader.subscribe("open.a").await;
            readers.spawn(reads(reader));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let mut publishers = JoinSet::new();
        publishers.spawn(hammer_nats(nats.backend().await, Arc::clone(&stop)));
        for (node, from) in nodes.iter().zip(["one", "other"]) {
            publishers.spawn(hammer(Arc::clone(node), from, Arc::clone(&stop)));
        }
        for node in &nodes {
            pass(Duration::from_millis(500)).await;
            let mut node = node.lock().await;
            node.signal("TERM");
            assert_eq!(node.ended(2 * SOON).await, Some(0));
            *node = keeps(&nats).await;
            for topic in ["open.a", "open.>"] {
                let mut reader = node.browser("").await;
                reader.subscribe(topic).await;
                readers.spawn(reads(reader));
            }
        }
        pass(Duration::from_millis(500)).await;
        stop.store(true, Ordering::Relaxed);
        publishers.join_all().await;
        let mut kept = readers.join_all().await;
        assert!(kept.iter().all(|messages| messages.len() > 20));
        // Who was there before has no Cursors.
        kept.retain(|messages| messages[0].get("cursor").is_some());
        assert_eq!(kept.len(), 4);
        for messages in kept {
            for node in &nodes {
                let missed = missed(&*node.lock().await, &messages[0]["cursor"]).await;
                assert_eq!(missed, messages[1..]);
            }
        }
    });
}
