//! Namespaces whose Topics are subjects that exist on NATS, and their publishers with them.

use async_nats::{Client, Subscriber};
use futures_util::StreamExt as _;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::commands::{configured, tidegate};
use crate::harness::{Browser, Gateway, Nats, Settings, run, soon};

/// A gateway whose Namespace `open` is made of `orders.>`.
async fn gateway(nats: &Nats) -> Gateway {
    let settings = Settings::open().on(&nats.url());
    Gateway::start(settings.line("namespaces: {open: {source: \"orders.>\"}}")).await
}

async fn subscribed(gateway: &Gateway, pattern: &str) -> Browser {
    let mut browser = gateway.browser("").await;
    browser.subscribe(pattern).await;
    browser
}

async fn listening(backend: &Client, subject: &'static str) -> Subscriber {
    let messages = backend.subscribe(subject).await.expect("NATS takes it");
    backend.flush().await.expect("NATS takes it");
    messages
}

async fn send(backend: &Client, subject: &'static str, payload: &'static str) {
    backend.publish(subject, payload.into()).await.expect("NATS takes it");
    backend.flush().await.expect("NATS takes it");
}

/// What a plain publisher sends to `orders.eu` comes as Topic `open.orders.eu` to every Pattern that
/// has it, on two nodes; what it sends beside the source, or on a subject that is no legal Topic, to
/// nobody.
#[test]
fn existing_subjects_become_topics() {
    run(async {
        let nats = Nats::start().await;
        let (backend, nodes) = (nats.backend().await, [gateway(&nats).await, gateway(&nats).await]);
        let mut readers = Vec::new();
        for node in &nodes {
            for pattern in ["open.orders.eu", "open.orders.*", "open.*.eu", "open.**"] {
                readers.push(subscribed(node, pattern).await);
            }
        }
        let mut other = subscribed(&nodes[0], "open.orders.us").await;
        for beside in ["orders.$x", "orders.a/b", "orders", "tidegate.in.open.orders.eu", "eu"] {
            send(&backend, beside, "\"beside\"").await;
        }
        send(&backend, "orders.eu", "{\"total\": 1}").await;
        send(&backend, "orders.eu", "").await;
        for reader in &mut readers {
            let message = reader.message().await;
            assert_eq!(message["topic"], "open.orders.eu");
            assert_eq!(message["data"], json!({"total": 1}));
            assert_eq!(reader.message().await["deleted"], true);
        }
        for reader in readers.iter_mut().chain([&mut other]) {
            reader.is_quiet().await;
        }
    });
}

/// What is published over HTTP or by a client arrives at the subject, with its headers, and at
/// subscribers.
#[test]
fn publishing_goes_to_the_subject() {
    run(async {
        let nats = Nats::start().await;
        let (backend, node) = (nats.backend().await, gateway(&nats).await);
        let mut plain = listening(&backend, "orders.eu").await;
        let mut inside = listening(&backend, "tidegate.in.open.>").await;
        let mut reader = subscribed(&node, "open.**").await;
        let answer = node.publish("open.orders.eu", "42").await;
        assert_eq!(answer.status(), 200);
        let answer: Value = answer.json().await.expect("JSON");
        let message = soon("it arrives", plain.next()).await.expect("a message");
        assert_eq!(&message.payload[..], b"42");
        let id = message.headers.expect("headers").get("Nats-Msg-Id").map(ToString::to_string);
        assert_eq!(id.as_deref(), answer["id"].as_str());
        let received = reader.message().await;
        assert_eq!((&received["data"], &received["id"]), (&json!(42), &answer["id"]));

        reader.publish("open.orders.eu", json!("x")).await;
        let message = soon("it arrives", plain.next()).await.expect("a message");
        assert_eq!(&message.payload[..], b"\"x\"");
        // Nothing went below the prefix: this is the first that is heard there.
        send(&backend, "tidegate.in.open.end", "").await;
        let first = soon("the end", inside.next()).await.expect("a message");
        assert_eq!(first.subject.as_str(), "tidegate.in.open.end");
    });
}

/// What the source cannot have is no Topic of the Namespace: neither published nor subscribed to. No
/// subject of anybody else can be named.
#[test]
fn what_is_outside_of_the_source_is_no_topic() {
    run(async {
        let nats = Nats::start().await;
        let (backend, node) = (nats.backend().await, gateway(&nats).await);
        let mut spy = listening(&backend, "_INBOX.>").await;
        let mut browser = node.browser("").await;
        for topic in ["open.stock.eu", "open.orders", "open._INBOX.a", "open.tidegate.in.open.a"] {
            for method in [Method::POST, Method::DELETE] {
                let path = match method {
                    Method::POST => format!("/v1/topics/{topic}/messages"),
                    _ => format!("/v1/topics/{topic}"),
                };
                let answer = node.request(method, &path).body("1").send().await.expect("an answer");
                assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{topic}");
                let problem: Value = answer.json().await.expect("JSON");
                assert_eq!(problem["code"], "invalid_topic", "{problem}");
            }
            for command in ["publish", "subscribe"] {
                let reply = browser.ask(json!({"type": command, "topic": topic, "data": 1})).await;
                assert_eq!(reply["code"], "invalid_topic", "{topic}: {reply}");
            }
        }
        for pattern in ["open.*", "open.stock.>", "open._INBOX.**"] {
            let reply = browser.ask(json!({"type": "subscribe", "topic": pattern})).await;
            assert_eq!(reply["code"], "invalid_topic", "{pattern}: {reply}");
        }
        send(&backend, "_INBOX.end", "").await;
        let first = soon("the end", spy.next()).await.expect("a message");
        assert_eq!(first.subject.as_str(), "_INBOX.end");
    });
}

/// A user that may not listen to the source is told by `check`, which says, too, what it cannot try.
#[test]
fn check_names_a_source_that_may_not_be_heard() {
    run(async {
        let own = ["tidegate.in.>", "tidegate.node.>", "tidegate.ctl.>", "_INBOX.tidegate.>"];
        let nats = Nats::configured(&format!(
            "authorization {{ users: [{{user: gateway, password: pw, \
             permissions: {{publish: {own:?}, subscribe: {own:?}}}}}] }}\n"
        ))
        .await;
        let (_folder, file) = configured(&format!(
            "nats: {{url: {:?}}}\nauth: {{anonymous: {{subscribe: [open.>]}}}}\n\
             namespaces: {{open: {{source: \"orders.>\"}}}}\n",
            nats.url_as("gateway", "pw")
        ));
        let ended = tidegate(&["check", "--config", &file]).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert_eq!(ended.stderr, "NATS does not let this node subscribe to orders.>\n");
        let shown: Value = serde_json::from_str(&ended.stdout).expect("JSON");
        assert_eq!(shown["nats_server"]["publish_untried"], json!(["orders.>"]));
        assert_eq!(shown["namespaces"]["open"]["source"], "orders.>");
    });
}
