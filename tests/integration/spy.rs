//! Nothing that a client writes becomes a subject of its own choice: a spy on `>` sees it.

use std::collections::HashSet;

use futures_util::StreamExt as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tidegate::topic::Topic;

use crate::harness::{Browser, Gateway, Nats, Settings, run, soon};
use crate::topics::{illegal_topics, legal_topics, published, raw, settings};

/// What the spy is told at the end.
const END: &str = "tidegate.in.open.the-end";

/// Every bad name of `topics.rs`, and one for every byte of ASCII that no name may hold, alone, inside
/// and at the end.
fn bad_topics() -> Vec<String> {
    let mut topics = illegal_topics();
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_=:@~,!.".contains(c);
    for c in (0..=0x7f_u8).map(char::from).filter(|c| !legal(*c)) {
        topics.extend([format!("{c}"), format!("open.b{c}b"), format!("open.{c}{c}.x")]);
    }
    for injected in ["PUB x 1\r\n1", "UNSUB 1", "SUB > 9", "+OK", "-ERR 'x'"] {
        topics.push(format!("open.a\r\n{injected}\r\n"));
        topics.push(format!("open.a 1\r\n1\r\n{injected}\r\n"));
    }
    topics
}

/// Names that no encoding has made harmless, in the path of a POST.
const RAW_PATHS: [&str; 14] = [
    "open.>",
    "open.*",
    "*",
    ">",
    "open.%0d%0aPUB%20x%201%0d%0a1%0d%0a",
    "open.%252ea",
    "open.%2F..",
    "..%2f..%2fhealth",
    "open.%c0%ae",
    "open.%00",
    "%24SYS.REQ.SERVER.PING",
    "$JS.API.INFO",
    "_INBOX.a",
    "tidegate.node.*.echo ",
];

/// The answers to one Command about these names, one each; all are refused.
async fn refused(browser: &mut Browser, command: &str, names: &[String]) {
    for name in names {
        let reply = browser.ask(json!({"type": command, "topic": name, "data": 1})).await;
        assert_eq!(reply["code"], "invalid_topic", "{command} {name:?}");
    }
}

/// A backend that listens on `>` sees, of all bad input by every way, nothing but legal Topics below
/// the prefix and the nodes' own echoes and beats, and no more Publications than were taken; and NATS has no
/// reason to throw a node out.
#[test]
fn a_spy_sees_only_legal_subjects() {
    run(async {
        let nats = Nats::start().await;
        let backend = nats.backend().await;
        let mut spy = backend.subscribe(">").await.unwrap();
        backend.flush().await.unwrap();
        let on = |settings: Settings| settings.on(&nats.url());
        let nodes = [Gateway::start(on(settings())).await, Gateway::start(on(settings())).await];
        let links = async || {
            let mut links: Vec<u64> = Vec::new();
            for one in nats.gateways().await {
                links.push(one["cid"].as_u64().unwrap());
            }
            links.sort_unstable();
            links
        };
        let before = links().await;
        assert_eq!(before.len(), nodes.len());

        let mut taken = HashSet::new();
        let topics = bad_topics();
        assert!(topics.len() >= 200, "{} are too few", topics.len());
        let mut publisher = nodes[0].browser("").await;
        for topic in &topics {
            let codes = published(&nodes[0], &mut publisher, topic).await;
            assert_eq!(codes, ["invalid_topic"; 4], "{topic:?}");
        }
        let mut reader = nodes[1].browser("").await;
        let no_patterns: Vec<String> = topics
            .iter()
            // Wildcards are what makes a Pattern of a name.
            .filter(|topic| !topic.contains(['*', '>']))
            .cloned()
            .collect();
        refused(&mut reader, "subscribe", &no_patterns).await;
        for topic in [">", "*", "**", "*.>", "_INBOX.>", "$SYS.>", "open.>.a"] {
            refused(&mut reader, "subscribe", &[topic.to_owned()]).await;
        }
        for path in RAW_PATHS {
            let path = format!("/v1/topics/{path}");
            for (method, path) in [("POST", format!("{path}/messages")), ("DELETE", path)] {
                let (status, _) = raw(&nodes[0], method, &path, "1").await;
                assert!((400..500).contains(&status), "{path:?}: {status}");
            }
        }
        // Good and bad ones in one batch: each is judged alone.
        for chunk in topics.chunks(50) {
            let mut messages: Vec<Value> =
                chunk.iter().map(|topic| json!({"topic": topic, "data": 1})).collect();
            messages.push(json!({"topic": "open.batch", "data": "\r\nPUB x 1\r\n1\r\n"}));
            let body = json!({ "messages": messages }).to_string();
            let answer = nodes[1].request(Method::POST, "/v1/publish").body(body);
            let answer: Value = answer.send().await.unwrap().json().await.unwrap();
            let results = answer["results"].as_array().unwrap();
            let (good, bad) = results.split_last().unwrap();
            assert!(bad.iter().all(|one| one["code"] == "invalid_topic"));
            taken.insert(good["id"].as_str().unwrap().to_owned());
        }
        for topic in legal_topics() {
            let answer = nodes[1].publish(&topic, "\"a\r\nPUB x 1\r\n1\r\n\"").await;
            assert!(
                answer.status() == StatusCode::OK || answer.status() == StatusCode::BAD_REQUEST
            );
            let answer = nodes[1].publish(&topic, "1").await;
            assert_eq!(answer.status(), StatusCode::OK, "{topic}");
            let answer: Value = answer.json().await.unwrap();
            taken.insert(answer["id"].as_str().unwrap().to_owned());
        }

        backend.publish(END, "1".into()).await.unwrap();
        let mut seen = HashSet::new();
        loop {
            let message = soon("what the spy sees", spy.next()).await.unwrap();
            let subject = message.subject.as_str();
            if subject == END {
                break;
            }
            if subject.starts_with("tidegate.in._node.") || subject == "tidegate.node.beat" {
                continue;
            }
            let Some(topic) = subject.strip_prefix("tidegate.in.") else {
                let echo = subject.strip_prefix("tidegate.node.");
                let id = echo.and_then(|rest| rest.strip_suffix(".echo"));
                let legal = |id: &str| Topic::parse(id).is_ok() && !id.contains('.');
                assert!(id.is_some_and(legal), "{subject:?}");
                continue;
            };
            assert!(Topic::parse(topic).is_ok(), "{subject:?}");
            let headers = message.headers.unwrap();
            seen.insert(headers.get("Nats-Msg-Id").unwrap().to_string());
        }
        let lost: Vec<_> = taken.difference(&seen).collect();
        assert!(lost.is_empty(), "taken and never seen: {lost:?}");
        // Of legal names every second try may have been no JSON; nothing else was taken.
        assert!(seen.len() <= taken.len() + legal_topics().len());
        assert_eq!(links().await, before, "a node was thrown out");
        assert_eq!(nats.varz().await["slow_consumers"], 0);
        for node in &nodes {
            let log = node.log();
            assert!(!log.contains("NATS refuses") && !log.contains("panicked"));
        }
    });
}
