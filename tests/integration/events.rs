//! Streams over HTTP: what an EventSource and a reader of lines get, and what they are told.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::harness::proxy::Weather;
use crate::harness::raw::Raw;
use crate::harness::{Event, Events, Gateway, Grants, Nats, Proxy, SOON, Settings, run, until};

/// A gateway that keeps `open` and `more`, and not `loose`; all of it is open to everybody.
async fn keeps() -> Gateway {
    Gateway::start(keeping(Settings::default())).await
}

fn keeping(settings: Settings) -> Settings {
    let line = "namespaces: {open: {history: {messages: 1000}}, more: {history: {messages: 1000}}}";
    let anonymous = Grants::all(&["open.>", "more.>", "loose.>"]);
    Settings { anonymous, ..settings.line(line) }
}

async fn publish(gateway: &Gateway, topic: &str, n: usize) {
    assert_eq!(gateway.publish(topic, n.to_string()).await.status(), 200);
}

/// A stream's request, without reading what comes.
async fn asks(gateway: &Gateway, query: &str, headers: &[(&str, &str)]) -> reqwest::Response {
    let mut request = gateway.request(Method::GET, &format!("/v1/events?{query}"));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.send().await.expect("an answer")
}

fn message(event: &Event) -> &Value {
    assert_eq!(event.kind, "message", "{event:?}");
    &event.data["data"]
}

/// The head says what proxies and caches need; `retry:` comes first, then the place of what is kept;
/// each Publication with it, in the JSON that a socket gets.
#[test]
fn a_stream_brings_what_is_published() {
    run(async {
        let gateway = keeps().await;
        let mut events =
            Events::open(gateway.client, "topic=open.**&topic=loose.a&topic=loose.a", &[]).await;
        for line in [
            "content-type: text/event-stream\r\n",
            "cache-control: no-store\r\n",
            "x-accel-buffering: no\r\n",
            "vary: origin\r\n",
        ] {
            assert!(events.head.contains(line), "{}", events.head);
        }
        let position = events.next().await;
        assert!((1_000..=5_000).contains(&events.retry.expect("it comes first")));
        assert_eq!(position.kind, "position");
        assert_eq!(position.data["namespace"], "open");
        assert_eq!(position.data["cursor"], *events.last_event_id);
        let mut browser = gateway.browser("").await;
        browser.subscribe("open.**").await;
        publish(&gateway, "open.a", 1).await;
        let event = events.next().await;
        assert_eq!(event.data, browser.message().await);
        assert_eq!(event.data["cursor"], *events.last_event_id);
        // Best effort has no place; the one that the stream has goes with it.
        let before = events.last_event_id.clone();
        publish(&gateway, "loose.a", 2).await;
        let event = events.next().await;
        assert_eq!((message(&event), event.data.get("cursor")), (&json!(2), None));
        assert_eq!(events.last_event_id, before);
    });
}

/// The same as lines, for who asks for them.
#[test]
fn lines_for_who_wants_them() {
    run(async {
        let gateway = keeps().await;
        let lines = [("Accept", "text/html, application/x-ndjson;q=0.9")];
        let mut events = Events::open(gateway.client, "topic=open.*&topic=loose.*", &lines).await;
        assert!(events.head.contains("content-type: application/x-ndjson\r\n"), "{}", events.head);
        assert_eq!(events.line().await.kind, "position");
        publish(&gateway, "open.a", 1).await;
        publish(&gateway, "loose.a", 2).await;
        for n in 1..=2 {
            assert_eq!(*message(&events.line().await), n);
        }
    });
}

/// A faulty request has its status and its words, and no stream.
#[test]
fn faults_of_a_request_keep_their_status() {
    run(async {
        let names: Vec<String> = (0..17).map(|n| format!("k{n}")).collect();
        let kept: Vec<String> =
            names.iter().map(|name| format!("{name}: {{history: {{}}}}")).collect();
        let line = format!("namespaces: {{{}}}", kept.join(", "));
        let anonymous = Grants::all(&["open.>", "k0.>", "k1.>"]);
        let settings = Settings { anonymous, ..Settings::default() };
        let settings = settings.line(&line).limit("user_connections: 1");
        let gateway = Gateway::start(settings).await;
        let all = Gateway::token("ana", &Grants::all(&[">"]));
        let few = Gateway::token("bob", &Grants::all(&["open.a"]));
        let many: Vec<String> = (0..129).map(|n| format!("topic=open.t{n}")).collect();
        let kept: Vec<String> = names.iter().map(|name| format!("topic={name}.a")).collect();
        for (query, status, code) in [
            ("from=live".to_owned(), 400, "bad_message"),
            ("topic=open..a".to_owned(), 400, "invalid_topic"),
            ("topic=open.a&topic=*.a".to_owned(), 400, "invalid_topic"),
            ("topic=open.a&from=first".to_owned(), 400, "invalid_from"),
            ("topic=open.a&from=last&last=2".to_owned(), 400, "invalid_from"),
            ("topic=open.**&last=2".to_owned(), 400, "invalid_from"),
            ("topic=open.a&cursor=nonsense".to_owned(), 400, "invalid_cursor"),
            ("topic=open.a&token=nonsense".to_owned(), 401, "unauthenticated"),
            ("topic=open.a&topic=secret.a".to_owned(), 401, "unauthenticated"),
            (format!("topic=open.a&topic=open.b&token={few}"), 403, "forbidden"),
            (many.join("&"), 422, "too_many_subscriptions"),
            (format!("{}&token={all}", kept.join("&")), 422, "too_many_topics"),
        ] {
            for accept in ["text/event-stream", "application/x-ndjson"] {
                let answer = asks(&gateway, &query, &[("Accept", accept)]).await;
                assert_eq!(answer.status(), status, "{query}");
                let kind = answer.headers()["content-type"].to_str().expect("text").to_owned();
                assert_eq!(kind, "application/problem+json");
                let problem: Value = answer.json().await.expect("a problem");
                assert_eq!(problem["code"], code, "{query}: {problem}");
            }
        }
        for (name, value, status) in [
            ("Last-Event-ID", "nonsense", 400),
            ("Authorization", "Bearer nonsense", 401),
            ("Authorization", "Basic eA==", 401),
            ("Origin", "https://elsewhere.example", 403),
        ] {
            let answer = asks(&gateway, "topic=open.a", &[(name, value)]).await;
            assert_eq!(answer.status(), status, "{name}");
        }
        let answer = gateway.request(Method::POST, "/v1/events?topic=open.a").send().await;
        assert_eq!(answer.expect("an answer").status(), StatusCode::METHOD_NOT_ALLOWED);
        // As many Namespaces as there may be, by either way of a Token; then that user has enough.
        let sixteen = kept[..16].join("&");
        let bearer = format!("Bearer {all}");
        let mut events =
            Events::open(gateway.client, &sixteen, &[("Authorization", &bearer)]).await;
        for _ in 0..16 {
            assert_eq!(events.next().await.kind, "position");
        }
        assert_eq!(events.last_event_id.split(',').count(), 16);
        let answer = asks(&gateway, &format!("{sixteen}&token={all}"), &[]).await;
        assert_eq!(answer.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(answer.headers().contains_key("retry-after"));
        assert_eq!(gateway.limit_hits().await["user_connections"], 1);
        drop(events);
        gateway.until_count("connections", 0, SOON).await;
        let again = format!("{sixteen}&token={all}");
        let mut events = Events::open(gateway.client, &again, &[]).await;
        assert_eq!(events.next().await.kind, "position");
    });
}

/// More values than a snapshot may hold are known before the answer: 422, not a stream that ends.
#[test]
fn too_many_values_are_refused_before_the_stream() {
    run(async {
        let gateway =
            Gateway::start(keeping(Settings::default().limit("snapshot_topics: 3"))).await;
        for n in 0..4 {
            publish(&gateway, &format!("open.t{n}"), n).await;
        }
        let answer = asks(&gateway, "topic=more.a&topic=open.*&from=last", &[]).await;
        assert_eq!(answer.status(), 422);
        let problem: Value = answer.json().await.expect("a problem");
        assert_eq!(problem["code"], "too_many_topics");
        gateway.until_count("connections", 0, SOON).await;
    });
}

/// Two kept Namespaces and best effort, on connections that end anywhere: whoever comes back with the
/// last id gets each kept Publication once and in order, and nothing that he had.
#[test]
fn who_comes_back_misses_nothing() {
    run(async {
        let gateway = keeps().await;
        let query = "topic=open.a&topic=open.b.*&topic=more.**&topic=loose.a";
        let mut last_event_id = String::new();
        let mut got: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        let topics = ["open.a", "open.b.x", "more.a", "more.b.c", "open.c", "loose.a"];
        let mut published = 0;
        for round in 0..12 {
            let id = last_event_id.clone();
            let headers: &[(&str, &str)] =
                if id.is_empty() { &[] } else { &[("Last-Event-ID", &id)] };
            let mut events = Events::open(gateway.client, query, headers).await;
            // Both Namespaces have their place before anything new is published, the first time.
            while round == 0 && events.last_event_id.split(',').count() < 2 {
                assert_eq!(events.next().await.kind, "position");
            }
            for _ in 0..20 {
                published += 1;
                publish(&gateway, topics[published % topics.len()], published).await;
            }
            // Some of it is read, and then the reader is gone.
            for _ in 0..round * 2 {
                let event = events.next().await;
                if event.kind == "position" {
                    continue;
                }
                let n = message(&event).as_u64().expect("a number");
                let topic = event.data["topic"].as_str().expect("text").to_owned();
                if topic != "loose.a" {
                    got.entry(topic).or_default().push(n);
                }
            }
            last_event_id = events.last_event_id.clone();
            assert!(!last_event_id.is_empty());
        }
        let headers = [("Last-Event-ID", last_event_id.as_str())];
        let mut events = Events::open(gateway.client, query, &headers).await;
        for topic in ["open.a", "more.a", "loose.a"] {
            publish(&gateway, topic, 9_999).await;
        }
        let mut ends = 0;
        while ends < 3 {
            let event = events.next().await;
            if event.kind == "position" {
                continue;
            }
            let n = message(&event).as_u64().expect("a number");
            let topic = event.data["topic"].as_str().expect("text").to_owned();
            if n == 9_999 {
                ends += 1;
            } else if topic != "loose.a" {
                got.entry(topic).or_default().push(n);
            }
        }
        for (at, topic) in topics.iter().enumerate().take(4) {
            let expected: Vec<u64> =
                (1..=published).filter(|n| n % topics.len() == at).map(|n| n as u64).collect();
            assert_eq!(got[*topic], expected, "{topic}");
        }
        assert_eq!(got.len(), 4, "{:?}", got.keys());
    });
}

/// A Namespace that is new to a client that comes back begins by `from`; if one of his Cursors is left
/// over, its history is another one, and that is told.
#[test]
fn a_namespace_without_a_cursor_is_new_or_another_one() {
    run(async {
        let gateway = keeps().await;
        for n in 1..=3 {
            publish(&gateway, "open.a", n).await;
            publish(&gateway, "more.a", 10 + n).await;
        }
        let mut events = Events::open(gateway.client, "topic=open.a&from=last", &[]).await;
        assert_eq!(events.data().await, 3);
        let id = events.last_event_id.clone();
        drop(events);
        publish(&gateway, "open.a", 4).await;
        // `more` is new: its newest value, and of `open` what was missed.
        let headers = [("Last-Event-ID", id.as_str())];
        let query = "topic=open.a&topic=more.a&from=last";
        let mut events = Events::open(gateway.client, query, &headers).await;
        let mut both = [events.data().await, events.data().await].map(|n| n.as_u64());
        both.sort_unstable();
        assert_eq!(both, [Some(4), Some(13)]);
        drop(events);
        // A Cursor of no history that is there: one of the two was made anew, nobody can say which.
        let stale = format!("{id},aaaaaa-7");
        let headers = [("Last-Event-ID", stale.as_str())];
        let mut events = Events::open(gateway.client, query, &headers).await;
        let (mut gaps, mut places) = (Vec::new(), 0);
        while places < 2 {
            let event = events.next().await;
            match event.kind.as_str() {
                "gap" => gaps.push((event.data["topic"].clone(), event.data["reason"].clone())),
                "position" => places += 1,
                _ => assert_eq!(*message(&event), 4),
            }
        }
        assert_eq!(gaps, [(json!("more.a"), json!("epoch_changed"))]);
        assert_eq!(events.last_event_id.split(',').count(), 2);
        publish(&gateway, "more.a", 14).await;
        assert_eq!(events.data().await, 14);
        drop(events);
        // None of them fits.
        let headers = [("Last-Event-ID", "aaaaaa-7")];
        let mut events = Events::open(gateway.client, query, &headers).await;
        for _ in 0..2 {
            let event = events.next().await;
            assert_eq!(
                (event.kind.as_str(), &event.data["reason"]),
                ("gap", &json!("epoch_changed"))
            );
        }
    });
}

/// What was asked for and is not kept, or no longer, is told by a `gap` in front.
#[test]
fn what_is_not_kept_is_told_in_front() {
    run(async {
        let line = "namespaces: {open: {history: {messages: 3}}}";
        let gateway = Gateway::start(Settings::open().line(line).limit("ring_items: 1")).await;
        publish(&gateway, "open.a", 0).await;
        let mut events = Events::open(gateway.client, "topic=open.a", &[]).await;
        assert_eq!(events.next().await.kind, "position");
        let id = events.last_event_id.clone();
        drop(events);
        for n in 1..=9 {
            publish(&gateway, "open.a", n).await;
        }
        let headers = [("Last-Event-ID", id.as_str())];
        let mut events = Events::open(gateway.client, "topic=open.a&topic=open.b", &headers).await;
        for topic in ["open.a", "open.b"] {
            let gap = events.next().await;
            assert_eq!(gap.kind, "gap", "{gap:?}");
            assert_eq!(gap.data["topic"], topic);
            assert_eq!(gap.data["reason"], "history_trimmed");
        }
        let anonymous = Grants::all(&["loose.>"]);
        let gateway = Gateway::start(Settings { anonymous, ..Settings::default() }).await;
        let mut events = Events::open(gateway.client, "topic=loose.a&from=last", &[]).await;
        let gap = events.next().await;
        assert_eq!((gap.kind.as_str(), &gap.data["reason"]), ("gap", &json!("history_trimmed")));
        publish(&gateway, "loose.a", 1).await;
        assert_eq!(*message(&events.next().await), 1);
    });
}

/// A long replay comes in parts, in one order over all Patterns of its Namespace, to a reader who takes
/// it at his own pace.
#[test]
fn a_long_replay_fits() {
    run(async {
        let gateway = keeps().await;
        let filler = "x".repeat(2_000);
        for part in 0..9 {
            let numbers = part * 100..part * 100 + 100;
            let messages: Vec<Value> = numbers
                .map(|n| {
                    let topic = if n % 3 == 0 { "open.a" } else { "open.b" };
                    json!({"topic": topic, "data": {"n": n, "filler": filler}})
                })
                .collect();
            let body = json!({ "messages": messages }).to_string();
            let answer = gateway.request(Method::POST, "/v1/publish").body(body).send().await;
            assert_eq!(answer.expect("an answer").status(), 200);
        }
        let query = "topic=open.a&topic=open.b&topic=more.a&since=2020-01-01T00:00:00Z";
        let mut events = Events::open(gateway.client, query, &[]).await;
        for n in 0..900 {
            assert_eq!(events.data().await["n"], n);
        }
        publish(&gateway, "open.b", 1).await;
        assert_eq!(events.data().await, 1);
        assert_eq!(gateway.count("slow_consumers").await, 0);
    });
}

/// Whatever is published, pretty printed or any bytes, is read back as it was, and nothing of it becomes
/// a field of the stream.
#[test]
fn nothing_that_is_published_breaks_out() {
    run(async {
        let gateway = Gateway::start(keeping(fast())).await;
        let mut events = Events::open(gateway.client, "topic=open.**", &[]).await;
        let lines = [("Accept", "application/x-ndjson")];
        let mut ndjson = Events::open(gateway.client, "topic=open.**", &lines).await;
        assert_eq!(events.next().await.kind, "position");
        assert_eq!(ndjson.line().await.kind, "position");
        let mut random = Random(0x5eed);
        for n in 0..400 {
            let payload = random.payload(n);
            assert_eq!(gateway.publish("open.a", payload.clone()).await.status(), 200, "{n}");
            let expected = match std::str::from_utf8(&payload) {
                _ if payload.is_empty() => None,
                Ok(text) => {
                    Some(serde_json::from_str::<Value>(text).unwrap_or_else(|_| json!(text)))
                }
                Err(_) => None,
            };
            for event in [events.next().await, ndjson.line().await] {
                assert_eq!(event.kind, "message", "{n}: {event:?}");
                match (&expected, payload.is_empty()) {
                    (Some(expected), _) => assert_eq!(event.data["data"], *expected, "{n}"),
                    (None, true) => assert_eq!(event.data["deleted"], true),
                    (None, false) => {
                        assert_eq!(event.data["data_base64"], STANDARD.encode(&payload))
                    }
                }
            }
        }
    });
}

/// Numbers that come again with their seed.
struct Random(u64);

impl Random {
    fn next(&mut self, below: usize) -> usize {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("it fits") % below
    }

    /// What somebody might try.
    fn payload(&mut self, n: usize) -> Vec<u8> {
        const PARTS: [&[u8]; 16] = [
            b"\n",
            b"\r",
            b"\r\n",
            b"\n\n",
            b"\0",
            b"data: x",
            b"event: close\n",
            b"id: aaaaaa-1\n",
            b"retry: 0\n\n",
            b":",
            b"\xe2\x80\xa8",
            b"\xff",
            b"{\"a\": [1,\n 2]}",
            b"\xef\xbb\xbf",
            b"\\n",
            b"\x1b[31m",
        ];
        let mut text = Vec::new();
        for _ in 0..self.next(8) {
            text.extend_from_slice(PARTS[self.next(PARTS.len())]);
        }
        match (n % 3, String::from_utf8(text.clone())) {
            (0, Ok(inner)) => {
                let value = json!({"text": inner, "list": [n, {"deep": inner}]});
                let pretty = serde_json::to_string_pretty(&value).expect("JSON");
                if n.is_multiple_of(2) { pretty.replace('\n', "\r\n") } else { pretty }.into_bytes()
            }
            _ => text,
        }
    }
}

/// A quiet stream shows life every 12 s, and ends with its Token.
#[test]
fn a_quiet_stream_shows_life_and_ends_with_its_token() {
    run(async {
        let gateway = keeps().await;
        let grants = Grants::all(&["loose.>"]);
        let short = Gateway::token_for("ana", &grants, Duration::from_secs(4));
        let query = format!("topic=loose.a&token={short}");
        let mut ends = Events::open(gateway.client, &query, &[]).await;
        let mut quiet = Events::open(gateway.client, "topic=loose.a", &[]).await;
        let lines = [("Accept", "application/x-ndjson")];
        let mut ndjson = Events::open(gateway.client, "topic=loose.a", &lines).await;
        let began = Instant::now();
        let last = ends.ended(Duration::from_secs(12)).await;
        assert_eq!(last.len(), 1);
        assert_eq!(
            (last[0].kind.as_str(), &last[0].data["code"]),
            ("close", &json!("token_expired"))
        );
        assert_eq!(last[0].data["retry"], false);
        assert!(began.elapsed() < Duration::from_secs(9), "{:?}", began.elapsed());
        let answer = asks(&gateway, &query, &[]).await;
        assert_eq!(answer.status(), 401);
        let life = async {
            // Nothing but a comment comes before this.
            let publishing = async {
                crate::harness::pass(Duration::from_secs(14).saturating_sub(began.elapsed())).await;
                publish(&gateway, "loose.a", 1).await;
            };
            let (event, ()) = tokio::join!(quiet.next_within(Duration::from_secs(20)), publishing);
            assert_eq!(*message(&event.expect("it comes")), 1);
            assert!(quiet.comments >= 1);
            assert_eq!(ndjson.line().await.kind, "ping");
            assert_eq!(*message(&ndjson.line().await), 1);
        };
        life.await;
    });
}

/// In a drain each stream ends at its slot, with `retry:` in front; whoever comes then is told by 200
/// when to come back, or by 503 where lines are read; and the process ends.
#[test]
fn a_drain_ends_each_stream_at_its_slot() {
    run(async {
        let settings = keeping(Settings::default()).line("drain: {lame_duck: 1s, window: 4s}");
        let mut gateway = Gateway::start(settings).await;
        let mut streams = Vec::new();
        for _ in 0..8 {
            streams.push(Events::open(gateway.client, "topic=open.a", &[]).await);
        }
        let lines = [("Accept", "application/x-ndjson")];
        let mut ndjson = Events::open(gateway.client, "topic=open.a", &lines).await;
        gateway.signal("TERM");
        let began = Instant::now();
        let mut ends = Vec::new();
        let mut leaving = tokio::task::JoinSet::new();
        for mut stream in streams {
            leaving.spawn(async move {
                let events = stream.ended(SOON).await;
                let close = events.last().expect("it says why");
                assert_eq!(
                    (close.kind.as_str(), &close.data["code"]),
                    ("close", &json!("draining"))
                );
                assert_eq!(close.data["ms"].as_u64(), stream.retry);
                assert!(stream.retry.expect("it says when") <= 2_000);
                began.elapsed()
            });
        }
        let refused = async {
            crate::harness::until("nobody new comes in", SOON, || async {
                let mut late = Events::open(gateway.client, "topic=open.a", &[]).await;
                let first = late.next().await;
                let refused = first.kind == "close";
                if refused {
                    assert!((1_000..=5_000).contains(&late.retry.expect("it says when")));
                    assert_eq!(first.data["code"], "draining");
                    assert!(late.ended(SOON).await.is_empty());
                    let answer = asks(&gateway, "topic=open.a", &lines).await;
                    assert_eq!(answer.status(), 503);
                    assert!(answer.headers().contains_key("retry-after"));
                    let answer = asks(&gateway, "topic=open.a&token=bad..", &[]).await;
                    assert_eq!(answer.status(), 200, "a node that leaves checks nobody");
                }
                refused
            })
            .await;
        };
        let last = async {
            loop {
                let line = ndjson.line().await;
                if line.kind == "close" {
                    return line.data;
                }
            }
        };
        let (_, last) = tokio::join!(refused, last);
        assert_eq!(last["code"], "draining");
        while let Some(end) = leaving.join_next().await {
            ends.push(end.expect("it ends"));
        }
        ends.sort();
        let spread = ends[7] - ends[0];
        assert!(spread > Duration::from_millis(1_500), "{ends:?}");
        assert!(ends[7] < Duration::from_secs(8), "{ends:?}");
        assert_eq!(gateway.ended(Duration::from_secs(10)).await, Some(0));
    });
}

/// What is 503 elsewhere is 200 to an EventSource: it says when to come back, and ends. Who reads lines
/// gets the 503.
#[test]
fn a_full_node_says_when_to_come_back() {
    run(async {
        let settings = keeping(Settings::default().limit("max_connections: 2"));
        let gateway = Gateway::start(settings).await;
        let browser = gateway.browser("topic=open.a").await;
        let stream = Events::open(gateway.client, "topic=open.a", &[]).await;
        let mut late = Events::open(gateway.client, "topic=open.a", &[]).await;
        let close = late.next().await;
        assert_eq!((close.kind.as_str(), &close.data["code"]), ("close", &json!("overloaded")));
        assert_eq!(close.data["retry"], true);
        assert!((1_000..=5_000).contains(&late.retry.expect("it says when")));
        assert!(late.ended(SOON).await.is_empty());
        let lines = [("Accept", "application/x-ndjson")];
        let answer = asks(&gateway, "topic=open.a", &lines).await;
        assert_eq!(answer.status(), 503);
        assert!(answer.headers().contains_key("retry-after"));
        gateway.until_hit("max_connections", 2).await;
        drop((browser, stream));
        gateway.until_count("connections", 0, SOON).await;
        let mut events = Events::open(gateway.client, "topic=open.a", &[]).await;
        assert_eq!(events.next().await.kind, "position");
    });
}

/// The link to NATS: what is there hears of it; best effort is told its loss; a stream that cannot begin
/// is told when to come back; and all of it is whole again.
#[test]
fn the_link_is_told() {
    run(async {
        let nats = Nats::start().await;
        let proxy = Proxy::start(nats.client).await;
        let url = format!("nats://{}", proxy.address);
        let gateway = Gateway::start(Settings::open().on(&url)).await;
        let mut events = Events::open(gateway.client, "topic=open.a", &[]).await;
        publish(&gateway, "open.a", 1).await;
        assert_eq!(*message(&events.next().await), 1);
        proxy.set(Weather::BlackHole);
        let lost = events.next_within(Duration::from_secs(20)).await.expect("it stays");
        let both = [lost, events.next().await];
        let kinds: Vec<&str> = both.iter().map(|event| event.kind.as_str()).collect();
        assert!(kinds.contains(&"bus") && kinds.contains(&"gap"), "{both:?}");
        let mut late = Events::open(gateway.client, "topic=open.b", &[]).await;
        let close = late.ended(Duration::from_secs(30)).await.pop().expect("it says why");
        assert_eq!(
            (close.kind.as_str(), &close.data["code"]),
            ("close", &json!("bus_unavailable"))
        );
        assert!(late.retry.is_some());
        proxy.set(Weather::Pass);
        loop {
            let event = events.next_within(Duration::from_secs(30)).await.expect("it stays");
            if event.kind == "bus" && event.data["connected"] == true {
                break;
            }
        }
    });
}

fn fast() -> Settings {
    let limits = ["commands_per_second: 100000", "key_publishes_per_second: 100000"];
    limits.iter().fold(Settings::open(), |all, line| all.limit(line))
}

/// Publishes numbers in one batch, each in a payload of about this size.
async fn burst(gateway: &Gateway, numbers: std::ops::Range<usize>, bytes: usize) {
    let filler = "x".repeat(bytes);
    let messages: Vec<Value> =
        numbers.map(|n| json!({"topic": "open.a", "data": {"n": n, "filler": filler}})).collect();
    let body = json!({ "messages": messages }).to_string();
    let answer = gateway.request(Method::POST, "/v1/publish").body(body).send().await;
    assert_eq!(answer.expect("an answer").status(), 200);
}

/// A burst of more than a queue holds closes nobody who reads: HTTP has its turn before it counts as
/// full.
#[test]
fn a_burst_closes_nobody_who_reads() {
    run(async {
        let gateway = Gateway::start(fast()).await;
        let mut reading = tokio::task::JoinSet::new();
        for _ in 0..30 {
            let mut events = Events::open(gateway.client, "topic=open.a", &[]).await;
            reading.spawn(async move {
                for n in 0..1_000 {
                    assert_eq!(events.data().await["n"], n);
                }
                events
            });
        }
        burst(&gateway, 0..1_000, 90).await;
        let mut readers = Vec::new();
        while let Some(read) = reading.join_next().await {
            readers.push(read.expect("it reads all"));
        }
        assert_eq!(gateway.count("slow_consumers").await, 0);
        assert_eq!(gateway.count("deliveries").await, 30_000);
    });
}

/// A reader that takes nothing holds no more than its queue and HTTP's buffers, and is gone; one beside
/// it that reads gets everything.
#[test]
fn a_slow_reader_harms_only_itself() {
    run(async {
        let gateway = Gateway::start(fast()).await;
        let base = gateway.descriptors();
        let mut healthy = Events::open(gateway.client, "topic=open.a", &[]).await;
        let mut mute = Vec::new();
        for _ in 0..20 {
            let raw = Raw::small(gateway.client);
            mute.push(Events::over(raw.stream, "topic=open.a", &[]).await);
        }
        let before = gateway.resident_bytes();
        let publishing = async {
            for part in 0..100 {
                burst(&gateway, part * 10..part * 10 + 10, 1_024).await;
            }
        };
        let reading = async {
            for n in 0..1_000 {
                assert_eq!(healthy.data().await["n"], n);
            }
        };
        tokio::join!(publishing, reading);
        gateway.until_count("slow_consumers", 20, SOON).await;
        gateway.until_count("connections", 1, SOON).await;
        let grown = gateway.resident_bytes().saturating_sub(before);
        assert!(grown < 20 << 20, "{grown} bytes more");
        // They hear why, if they read after all; then nothing is left of them.
        drop((mute, healthy));
        gateway.until_empty(base, Duration::from_secs(30)).await;
    });
}

/// A reader that hangs up is gone at once, not when something is next written to it.
#[test]
fn who_hangs_up_is_gone_at_once() {
    run(async {
        let gateway = Gateway::start(Settings::open()).await;
        let base = gateway.descriptors();
        let events = Events::open(gateway.client, "topic=open.a", &[]).await;
        gateway.until_count("connections", 1, SOON).await;
        drop(events);
        gateway.until_empty(base, Duration::from_secs(5)).await;
    });
}

/// Who takes no byte of what waits for `write_timeout` is gone, though there is room for more.
#[test]
fn who_takes_nothing_is_gone() {
    run(async {
        let gateway = Gateway::start(fast().limit("write_timeout: 2s")).await;
        let raw = Raw::small(gateway.client);
        let _mute = Events::over(raw.stream, "topic=open.a", &[]).await;
        // More than the kernel and HTTP take.
        burst(&gateway, 0..200, 1_024).await;
        gateway.until_count("connections", 0, SOON).await;
        gateway.until_hit("write_timeout", 1).await;
    });
}

/// Whoever cannot be reached is gone within 32 s, with everything that it had: an idle reader whose packets
/// are lost, and one behind a black hole that takes nothing of what waits for it. A healthy one beside them,
/// as idle as the first, stays. With the times that a gateway starts with.
#[test]
fn the_unreachable_are_gone_within_32_seconds() {
    // And a little for a busy machine to see it.
    const GONE: Duration = Duration::from_secs(33);
    run(async {
        let gateway = Gateway::start(fast()).await;
        let base = gateway.descriptors();
        let proxy = Proxy::start(gateway.client).await;
        let lost = Events::open(gateway.client, "topic=open.b", &[]).await;
        let _behind = Events::open(proxy.address, "topic=open.a", &[]).await;
        let mut healthy = Events::open(gateway.client, "topic=open.c", &[]).await;
        gateway.until_count("subscriptions", 3, SOON).await;
        lost.lose_packets();
        proxy.set(Weather::BlackHole);
        let since = Instant::now();
        // More than the kernel and HTTP take, if not more than may wait.
        burst(&gateway, 0..400, 1_024).await;
        for left in [2, 1] {
            gateway.until_count("connections", left, GONE).await;
            println!("{left} left after {:?}", since.elapsed());
        }
        gateway.until_count("subscriptions", 1, GONE).await;
        gateway.until_count("patterns", 1, GONE).await;
        until("their descriptors are closed", SOON, || async { gateway.descriptors() <= base + 1 })
            .await;
        println!("all of it after {:?}", since.elapsed());
        assert!(since.elapsed() <= GONE, "it took {:?}", since.elapsed());
        publish(&gateway, "open.c", 1).await;
        assert_eq!(healthy.data().await, 1);
        drop(healthy);
        gateway.until_empty(base, SOON).await;
    });
}

/// An idle stream holds HTTP's two buffers and little more, also after it was busy.
#[test]
fn an_idle_stream_is_small() {
    const STREAMS: usize = 400;
    run(async {
        let gateway = Gateway::start(fast()).await;
        let before = gateway.resident_bytes();
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            streams.push(Events::open(gateway.client, "topic=open.a", &[]).await);
        }
        let idle = gateway.resident_bytes().saturating_sub(before) / STREAMS as u64;
        burst(&gateway, 0..100, 256).await;
        for events in &mut streams {
            for n in 0..100 {
                assert_eq!(events.data().await["n"], n);
            }
        }
        let busy = gateway.resident_bytes().saturating_sub(before) / STREAMS as u64;
        assert!(idle < 28 << 10, "{idle} bytes each");
        assert!(busy < 40 << 10, "{busy} bytes each after a burst");
    });
}
