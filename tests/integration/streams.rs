//! The streams of kept Namespaces on a real NATS: who makes them, what is wrong with one, and what a
//! client hears when one is lost.

use std::sync::Arc;

use serde_json::{Value, json};
use tidegate::bus::nats::{self, ConnectError};
use tidegate::namespace::{Config, History, Namespaces, Storage};
use tidegate::publication::Timestamp;
use tidegate::topic::Pattern;
use tokio::task::JoinSet;

use crate::commands::{configured, tidegate};
use crate::harness::gateway::free_address;
use crate::harness::old::OldNats;
use crate::harness::{Browser, Gateway, Nats, SOON, Settings, run, until};

/// A gateway on this NATS that keeps `open`.
async fn keeps(nats: &Nats, history: &str) -> Gateway {
    let line = format!("namespaces: {{open: {{history: {history}}}}}");
    Gateway::start(Settings::open().on(&nats.url()).line(&line)).await
}

/// Starts a node as far as NATS, with this one Namespace.
async fn node(
    nats: &Nats,
    history: History,
    source: Option<&str>,
) -> Result<nats::Nats, ConnectError> {
    let config = nats::Config { url: nats.url(), ..nats::Config::default() };
    let source = source.map(|text| text.parse::<Pattern>().expect("a legal Pattern"));
    let rules = Config { history: Some(history), source, ..Config::default() };
    let namespaces = Namespaces::new([("k".to_owned(), rules)].into(), false);
    nats::Nats::connect(&config, "test", Arc::new(namespaces), || Timestamp(0)).await
}

/// Why it does not start.
async fn fault(nats: &Nats, history: History, source: Option<&str>) -> String {
    match node(nats, history, source).await {
        Ok(_) => panic!("it should not start"),
        Err(why) => why.to_string(),
    }
}

async fn reopened(browser: &mut Browser, cursor: &Value) -> Value {
    browser.ask(json!({"type": "subscribe", "topic": "open.>", "from": {"cursor": cursor}})).await
}

/// Whatever was published while a client was away, over HTTP, by a client or straight into NATS, comes
/// on any node, in order and once, and then what is live.
#[test]
fn what_was_missed_comes_on_any_node() {
    run(async {
        let nats = Nats::with_streams().await;
        let backend = nats.backend().await;
        let (one, other) = (keeps(&nats, "{}").await, keeps(&nats, "{}").await);
        let mut first = one.browser("").await;
        first.subscribe("open.>").await;
        assert_eq!(other.publish("open.a", "0").await.status(), 200);
        let cursor = first.message().await["cursor"].clone();
        drop(first);
        let mut publisher = one.browser("").await;
        for n in 1..=30 {
            match n % 3 {
                0 => drop(one.publish("open.a", n.to_string()).await),
                1 => drop(publisher.publish("open.b", json!(n)).await),
                _ => {
                    let subject = "tidegate.in.open.c";
                    backend.request(subject, n.to_string().into()).await.expect("an ack");
                }
            }
        }
        for (more, gateway) in [&one, &other, &keeps(&nats, "{}").await].into_iter().enumerate() {
            let mut again = gateway.browser("").await;
            let missed = 30 + more;
            let reply = reopened(&mut again, &cursor).await;
            assert_eq!((&reply["recovered"], &reply["replayed"]), (&json!(true), &json!(missed)));
            for n in 1..=missed {
                assert_eq!(again.message().await["data"], n);
            }
            other.publish("open.a", (missed + 1).to_string()).await;
            assert_eq!(again.message().await["data"], missed + 1);
            again.is_quiet().await;
        }
    });
}

/// Eight nodes that start at once make one stream; it is what the rules say, and does not shrink when
/// they do.
#[test]
fn a_stream_is_made_together_and_only_grows() {
    run(async {
        let nats = Nats::with_streams().await;
        let rules = |messages| History { messages, max_bytes: 2 << 20, ..History::default() };
        let mut starting = JoinSet::new();
        let nats = Arc::new(nats);
        for _ in 0..8 {
            let nats = Arc::clone(&nats);
            starting.spawn(async move { node(&nats, rules(10), None).await.map(drop) });
        }
        for started in starting.join_all().await {
            started.expect("it starts");
        }
        let stream = nats.stream("TIDEGATE_k").await;
        assert_eq!(stream["config"]["max_msgs_per_subject"], 11);
        assert_eq!(stream["config"]["max_bytes"], 2 << 20);
        assert_eq!(stream["config"]["storage"], "file");
        drop(node(&nats, rules(20), None).await.expect("it starts"));
        let smaller = History { storage: Storage::Memory, max_bytes: 1 << 20, ..rules(5) };
        drop(node(&nats, smaller, None).await.expect("it starts"));
        let grown = nats.stream("TIDEGATE_k").await;
        assert_eq!(grown["config"]["max_msgs_per_subject"], 21);
        assert_eq!(grown["config"]["max_bytes"], 2 << 20);
        assert_eq!(
            (&grown["config"]["storage"], &grown["created"]),
            (&json!("file"), &stream["created"])
        );
    });
}

/// A stream that no node made is left as it is. If it will not do, the start names what is wrong.
#[test]
fn a_stream_of_others_is_only_checked() {
    run(async {
        let nats = Nats::with_streams().await;
        let good = json!({
            "subjects": ["orders.>", "more"], "allow_direct": true, "max_msgs_per_subject": 7,
            "republish": {"src": ">", "dest": "tidegate.out.k.>"},
        });
        let history =
            || History { stream: Some("ORDERS".into()), manage: false, ..History::default() };
        let words = fault(&nats, history(), Some("orders.>")).await;
        assert!(words.contains("nats stream add ORDERS"), "{words}");
        for (key, bad, said) in [
            ("republish", json!(null), "must republish orders.> to tidegate.out.k.orders.>"),
            (
                "republish",
                json!({"src": "orders.>", "dest": "tidegate.out.k.orders.>"}),
                "not more",
            ),
            ("republish", json!({"src": ">", "dest": "else.>"}), "must go to tidegate.out.k.>"),
            (
                "republish",
                json!({"src": ">", "dest": "tidegate.out.k.>", "headers_only": true}),
                "headers",
            ),
            ("allow_direct", json!(false), "allow_direct"),
            ("retention", json!("workqueue"), "retention"),
            ("subjects", json!(["orders.eu", "more"]), "must take orders.>"),
        ] {
            let mut config = good.clone();
            config[key] = bad;
            nats.make_stream("ORDERS", config).await;
            let words = fault(&nats, history(), Some("orders.>")).await;
            assert!(words.contains("namespaces.k.history") && words.contains(said), "{words}");
            nats.remove_stream("ORDERS").await;
        }
        nats.make_stream("ORDERS", good).await;
        let before = nats.stream("ORDERS").await["config"].clone();
        drop(node(&nats, history(), Some("orders.>")).await.expect("it starts"));
        assert_eq!(nats.stream("ORDERS").await["config"], before);
        // Without its name, the subjects are taken.
        let words = fault(&nats, History::default(), Some("orders.>")).await;
        assert!(words.contains("history.stream"), "{words}");
    });
}

/// A Namespace over a stream that others fill: each message is a Publication, and is there for who
/// comes back; so is what clients publish.
#[test]
fn a_source_with_a_stream_is_kept() {
    run(async {
        let nats = Nats::with_streams().await;
        let backend = nats.backend().await;
        nats.make_stream(
            "ORDERS",
            json!({
                "subjects": ["orders.>", "other"], "allow_direct": true,
                "republish": {"src": ">", "dest": "tidegate.out.open.>"},
            }),
        )
        .await;
        let line =
            "namespaces: {open: {source: orders.>, history: {stream: ORDERS, manage: false}}}";
        let settings = || Settings::open().on(&nats.url()).line(line);
        let gateway = Gateway::start(settings()).await;
        let mut browser = gateway.browser("").await;
        browser.subscribe("open.>").await;
        for (subject, payload) in [("orders.eu", "1"), ("other", "2"), ("orders.us.x", "3")] {
            backend.request(subject, payload.into()).await.expect("an ack");
        }
        let first = browser.message().await;
        assert_eq!((&first["topic"], &first["data"]), (&json!("open.orders.eu"), &json!(1)));
        assert_eq!(browser.message().await["topic"], "open.orders.us.x");
        assert_eq!(gateway.publish("open.orders.eu", "4").await.status(), 200);
        assert_eq!(browser.message().await["data"], 4);
        let other = Gateway::start(settings()).await;
        let mut again = other.browser("").await;
        let reply = reopened(&mut again, &first["cursor"]).await;
        assert_eq!((&reply["recovered"], &reply["replayed"]), (&json!(true), &json!(2)));
        assert_eq!(again.message().await["data"], 3);
    });
}

/// A server that keeps no streams, or is too old to, is named at the start.
#[test]
fn a_server_without_what_history_needs_is_refused() {
    run(async {
        let plain = Nats::start().await;
        let words = fault(&plain, History::default(), None).await;
        assert!(words.contains("namespaces.k.history") && words.contains("JetStream"), "{words}");
        let address = free_address();
        let _old = OldNats::start(address, "2.10.29").await;
        let (_folder, file) = configured(&format!(
            "listen: {}\nmanagement: {}\nnats: {{url: \"nats://{address}\"}}\n\
             namespaces: {{open: {{history: {{}}}}}}\nauth: {{anonymous: {{subscribe: [open.>]}}}}\n",
            free_address(),
            free_address()
        ));
        let ended = tidegate(&["serve", "--config", &file]).await;
        assert_eq!(ended.code, Some(64), "{ended:?}");
        let words = ended.stderr.lines().last().unwrap_or_default();
        for part in ["\"old\"", "2.10.29", "namespace open", "2.11.0"] {
            assert!(words.contains(part), "{words}");
        }
    });
}

/// Reads on until a `gap` for this reason has come.
async fn gap(browser: &mut Browser, reason: &str) {
    loop {
        let frame = browser.next_or_close(4 * SOON).await.expect("the connection stays");
        if frame["type"] == "gap" && frame["reason"] == reason {
            return;
        }
    }
}

/// A stream in memory goes with its server, and one that is deleted is made again. Whoever is there is
/// told, and whoever comes back with a Cursor of the old one.
#[test]
fn a_history_that_is_lost_is_told() {
    run(async {
        let mut nats = Nats::with_streams().await;
        let gateway = keeps(&nats, "{storage: memory, max_bytes: 8MiB}").await;
        let mut browser = gateway.browser("").await;
        browser.subscribe("open.>").await;
        for lost in ["restart", "delete"] {
            assert_eq!(gateway.publish("open.a", "1").await.status(), 200);
            let cursor = loop {
                let frame = browser.next().await;
                if frame["type"] == "message" {
                    break frame["cursor"].clone();
                }
            };
            if lost == "restart" {
                nats.kill();
                nats.run().await;
            } else {
                nats.remove_stream("TIDEGATE_open").await;
            }
            until("it is published again", 4 * SOON, async || {
                gateway.publish("open.a", "2").await.status() == 200
            })
            .await;
            gap(&mut browser, "epoch_changed").await;
            let mut again = gateway.browser("").await;
            let reply = reopened(&mut again, &cursor).await;
            assert_eq!(reply["recovered"], false, "{reply}");
            assert_eq!(reply["reason"], "epoch_changed");
        }
    });
}

/// Where a publish was stored is said by the history that took it, also by a node that nobody listens
/// on, and that has not seen yet that it is another one.
#[test]
fn a_receipt_names_the_history_that_took_it() {
    run(async {
        let nats = Nats::with_streams().await;
        let gateway = keeps(&nats, "{messages: 100}").await;
        let publish =
            async || -> Value { gateway.publish("open.a", "1").await.json().await.expect("JSON") };
        for _ in 0..3 {
            publish().await;
        }
        let old = publish().await["cursor"].as_str().expect("a Cursor").to_owned();
        let backend = nats.backend().await;
        let ask = async |what: &str, question: Value| -> Value {
            let subject = format!("$JS.API.STREAM.{what}.TIDEGATE_open");
            let answer = backend.request(subject, question.to_string().into()).await;
            serde_json::from_slice(&answer.expect("an answer").payload).expect("JSON")
        };
        let config = ask("INFO", json!({})).await["config"].clone();
        nats.remove_stream("TIDEGATE_open").await;
        let made = ask("CREATE", config).await;
        assert!(made.get("error").is_none(), "{made}");

        let new = publish().await["cursor"].clone();
        let text = new.as_str().expect("a Cursor");
        assert_ne!(text[..6], old[..6]);
        assert_eq!(&text[6..], "-1");
        publish().await;
        let mut reader = gateway.browser("").await;
        let reply = reopened(&mut reader, &new).await;
        assert_eq!((&reply["recovered"], &reply["replayed"]), (&json!(true), &json!(1)), "{reply}");
    });
}

/// With no room for it, a publish is 507, and no more is told to have been stored than was. With room
/// again, all is well.
#[test]
fn no_room_is_told() {
    run(async {
        let nats = Nats::configured(
            "jetstream { store_dir: \"STORE\", max_mem: 4MiB, max_file: 64MiB }\n",
        )
        .await;
        let gateway = keeps(&nats, "{storage: memory, max_bytes: 2MiB}").await;
        assert_eq!(gateway.publish("open.a", "1").await.status(), 200);
        nats.make_stream("HOG", json!({"subjects": ["hog"], "storage": "memory"})).await;
        let backend = nats.backend().await;
        let large = vec![b'x'; 500_000];
        until("the store is full", SOON, async || {
            let ack = backend.request("hog", large.clone().into()).await.expect("an ack");
            ack.payload.starts_with(b"{\"error\"")
        })
        .await;
        let answer = gateway.publish("open.a", vec![b'1'; 60_000]).await;
        assert_eq!(answer.status(), 507);
        let problem: Value = answer.json().await.expect("JSON");
        assert_eq!(problem["code"], "storage_full");
        nats.remove_stream("HOG").await;
        assert_eq!(gateway.publish("open.a", "3").await.status(), 200);
        let mut browser = gateway.browser("").await;
        let reply =
            browser.ask(json!({"type": "subscribe", "topic": "open.a", "from": {"last": 9}})).await;
        assert_eq!(reply["replayed"], 2);
    });
}
