//! What is published arrives: once, in order, at everybody who wants it and nobody else.

use std::sync::Arc;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::{Gateway, Grants, Nats, Settings, run};

/// A publish over HTTP reaches an exact and a wildcard Subscription, on both Shards, once each.
#[test]
fn http_publishes_reach_exact_and_wildcard_subscribers() {
    run(async {
        let gateway = Gateway::start(Settings::open()).await;
        let mut browsers = Vec::new();
        for pattern in ["open.a.b", "open.*.b", "open.**", "open.a.*"] {
            for _ in 0..2 {
                browsers.push(gateway.browser(&format!("topic={pattern}")).await);
            }
        }
        let mut other = gateway.browser("topic=open.b.b").await;
        for browser in browsers.iter_mut().chain([&mut other]) {
            assert_eq!(browser.next().await["type"], "connected");
            assert_eq!(browser.next().await["type"], "subscribed");
        }
        let answer = gateway.publish("open.a.b", r#"{"v": 42}"#).await;
        assert_eq!(answer.status(), 200);
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["stored"], false);
        for browser in &mut browsers {
            let message = browser.next().await;
            assert_eq!(message["type"], "message");
            assert_eq!(message["topic"], "open.a.b");
            assert_eq!(message["id"], answer["id"]);
            assert_eq!(message["data"], json!({"v": 42}));
            browser.is_quiet().await;
        }
        other.is_quiet().await;
    });
}

/// A thousand publishes of one client arrive in its order, and it gets its own back with the id of
/// the Reply.
#[test]
fn client_publishes_arrive_in_order_and_come_back() {
    run(async {
        let settings =
            Settings::open().limit("commands_per_second: 10000").limit("commands_burst: 10000");
        let gateway = Gateway::start(settings).await;
        let mut publisher = gateway.browser("").await;
        let mut reader = gateway.browser("topic=open.**").await;
        publisher.subscribe("open.x").await;
        reader.next().await;
        reader.next().await;
        for n in 0..1_000 {
            publisher.command(json!({"type": "publish", "topic": "open.x", "data": n})).await;
        }
        let (mut ids, mut own) = (Vec::new(), Vec::new());
        while ids.len() < 1_000 || own.len() < 1_000 {
            let frame = publisher.next().await;
            match frame["type"].as_str() {
                Some("published") => ids.push(frame["message_id"].clone()),
                Some("message") => {
                    assert_eq!(frame["data"], json!(own.len()));
                    own.push(frame["id"].clone());
                }
                _ => panic!("{frame}"),
            }
        }
        assert_eq!(ids, own);
        for n in 0..1_000 {
            assert_eq!(reader.message().await["data"], json!(n));
        }
    });
}

/// A Connection with overlapping Subscriptions gets each Publication once, also when one of them
/// ends and another takes its place.
#[test]
fn overlapping_subscriptions_bring_one_copy() {
    run(async {
        let gateway = Gateway::start(Settings::open()).await;
        let mut browser = gateway.browser("").await;
        for pattern in ["open.a", "open.>", "open.*"] {
            browser.subscribe(pattern).await;
        }
        for n in 0..50 {
            gateway.publish("open.a", n.to_string()).await;
            gateway.publish("open.a.b", n.to_string()).await;
        }
        // Two Feeds: each Topic is in order, the two are not.
        let mut seen = [0, 0];
        for _ in 0..100 {
            let message = browser.message().await;
            let at = usize::from(message["topic"] == "open.a.b");
            assert_eq!(message["data"], json!(seen[at]));
            seen[at] += 1;
        }
        browser.is_quiet().await;
        let reply = browser.ask(json!({"type": "unsubscribe", "topic": "open.a"})).await;
        assert_eq!(reply["type"], "unsubscribed");
        gateway.publish("open.a", "after").await;
        assert_eq!(browser.message().await["data"], "after");
        browser.is_quiet().await;
        for pattern in ["open.**", "open.*"] {
            browser.ask(json!({"type": "unsubscribe", "topic": pattern})).await;
        }
        gateway.publish("open.a", "nobody").await;
        browser.is_quiet().await;
    });
}

/// Under a publisher that never rests, one Subscription takes over from another again and again: nothing
/// is lost to who wants it all the time, and nothing comes twice.
#[test]
fn overlapping_subscriptions_come_and_go_without_a_seam() {
    run(async {
        let nats = Nats::start().await;
        let settings = Settings::open().limit("key_publishes_per_second: 1000000");
        let gateway = Arc::new(Gateway::start(settings.on(&nats.url())).await);
        let mut browser = gateway.browser("topic=open.a").await;
        assert_eq!(browser.next().await["type"], "connected");
        assert_eq!(browser.next().await["type"], "subscribed");
        let mut hammer = JoinSet::new();
        hammer.spawn({
            let gateway = Arc::clone(&gateway);
            async move {
                for batch in 0_u64.. {
                    let numbers = batch * 50..batch * 50 + 50;
                    let items: Vec<Value> =
                        numbers.map(|n| json!({"topic": "open.a", "data": n})).collect();
                    let body = json!({ "messages": items }).to_string();
                    let request = gateway.request(Method::POST, "/v1/publish").body(body);
                    assert_eq!(request.send().await.expect("an answer").status(), 200);
                }
            }
        });
        let patterns = ["open.a", "open.*", "open.>"];
        let mut seen = 0;
        for step in 0..40 {
            let (comes, goes) = (patterns[(step + 1) % 3], patterns[step % 3]);
            for (kind, topic) in [("subscribe", comes), ("unsubscribe", goes)] {
                let id = browser.command(json!({"type": kind, "topic": topic})).await;
                // Some more behind the answer, too: what was under way comes then.
                let (mut answered, mut more) = (false, 60);
                while !answered || more > 0 {
                    let frame = browser.next().await;
                    if frame["type"] == "message" {
                        assert_eq!(frame["data"], json!(seen), "at step {step}, {kind} {topic}");
                        seen += 1;
                        more -= usize::from(answered && more > 0);
                    } else {
                        assert_eq!(frame["id"], json!(id), "{frame}");
                        answered = true;
                    }
                }
            }
        }
        hammer.abort_all();
    });
}

/// A batch is published in its order and answered item by item; a bad one refuses only itself.
#[test]
fn a_batch_keeps_its_order_and_refuses_item_by_item() {
    run(async {
        let gateway = Gateway::start(Settings::open()).await;
        let mut browser = gateway.browser("topic=open.**").await;
        browser.next().await;
        browser.next().await;
        let batch = json!({"messages": [
            {"topic": "open.a", "data": 1},
            {"topic": "open.*", "data": 2},
            {"topics": ["open.b", "secret.c"], "data_base64": "//4="},
            {"topic": "open.a", "deleted": true},
            {"topic": "open.a", "data": null, "deleted": true},
        ]});
        let answer = gateway.request(Method::POST, "/v1/publish").body(batch.to_string());
        let answer: Value = answer.send().await.unwrap().json().await.unwrap();
        let codes: Vec<&str> = answer["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["code"].as_str().unwrap_or("ok"))
            .collect();
        assert_eq!(codes, ["ok", "invalid_topic", "ok", "unauthenticated", "ok", "bad_message"]);
        assert_eq!(browser.message().await["data"], 1);
        assert_eq!(browser.message().await["data_base64"], "//4=");
        assert_eq!(browser.message().await["deleted"], true);
        browser.is_quiet().await;

        let lines = "{\"topic\":\"open.a\",\"data\":1}\n\n{\"topic\":\"open.b\",\"data\":2}\r\n";
        let answer = gateway.request(Method::POST, "/v1/publish").body(lines).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
        assert_eq!(answer.text().await.unwrap().lines().count(), 2);
        assert_eq!(browser.message().await["topic"], "open.a");
        assert_eq!(browser.message().await["topic"], "open.b");
    });
}

/// The user of a Token stands in what it publishes; an empty body and DELETE are tombstones; the same
/// key gives the same id.
#[test]
fn users_tombstones_and_keys() {
    run(async {
        let gateway = Gateway::start(Settings::open()).await;
        let mut browser = gateway.browser("topic=open.**").await;
        browser.next().await;
        browser.next().await;
        let token = Gateway::token("ana", &Grants::all(&["open.>"]));
        let mut ids = Vec::new();
        for key in ["\"order-1\"", "order-1", "order-2"] {
            let answer = gateway
                .request(Method::POST, "/v1/topics/open.a/messages")
                .bearer_auth(&token)
                .header("Idempotency-Key", key)
                .body("up")
                .send()
                .await
                .unwrap();
            let answer: Value = answer.json().await.unwrap();
            let message = browser.message().await;
            assert_eq!((&message["user"], &message["data"]), (&json!("ana"), &json!("up")));
            assert_eq!(message["id"], answer["id"]);
            ids.push(answer["id"].as_str().unwrap().to_owned());
        }
        assert_eq!(ids[0], ids[1]);
        assert_ne!(ids[0], ids[2]);
        assert_eq!(ids[0].len(), 23);
        gateway.publish("open.a", "").await;
        gateway.request(Method::DELETE, "/v1/topics/open.a").send().await.unwrap();
        for _ in 0..2 {
            let message = browser.message().await;
            assert_eq!(message["deleted"], true);
            assert!(message.get("data").is_none() && message.get("user").is_none());
        }
    });
}
