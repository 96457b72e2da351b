//! What a gateway measures: complete from the start, as Prometheus wants it, and true to the unit.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::harness::raw::Raw;
use crate::harness::{Browser, Events, Gateway, Grants, Metrics, Nats, SOON, Settings, run, until};

/// A kept Namespace and a named one on best effort; everybody may do everything there.
fn settings() -> Settings {
    let anonymous = Grants::all(&["kept.>", "open.>", "invented.>"]);
    Settings { anonymous, ..Settings::default() }
        .line("namespaces: {kept: {history: {messages: 1000}}, open: {}}")
        .limit("key_publishes_per_second: 100000")
        .limit("commands_per_second: 100000")
        .limit("commands_burst: 100000")
}

/// Publishes so many on a Topic, in one batch.
async fn burst(gateway: &Gateway, topic: &str, count: usize) {
    let messages: Vec<Value> = (0..count).map(|n| json!({"topic": topic, "data": n})).collect();
    let body = json!({ "messages": messages }).to_string();
    let request = gateway.request(Method::POST, "/v1/publish").body(body);
    assert_eq!(request.send().await.expect("an answer").status(), 200);
}

/// The sum of a metric over several nodes.
fn total(nodes: &[Metrics], name: &str, labels: &[(&str, &str)]) -> f64 {
    nodes.iter().map(|one| one.sum(name, labels)).sum()
}

async fn all(nodes: &[Gateway]) -> Vec<Metrics> {
    let mut all = Vec::new();
    for node in nodes {
        all.push(node.metrics().await);
    }
    all
}

/// Before anybody has come each metric whose labels are a closed set is there, in full and at 0, so
/// that a rate or an alert has something to begin with; what stands in the README is there.
#[test]
fn all_of_it_is_there_from_the_start() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let metrics = gateway.metrics().await;
        for (name, series) in [
            ("tidegate_connections", 3),
            ("tidegate_connections_opened_total", 3),
            ("tidegate_connections_closed_total", 32),
            ("tidegate_connections_refused_total", 6),
            ("tidegate_auth_failures_total", 11),
            ("tidegate_revocations", 1),
            ("tidegate_subscriptions", 1),
            ("tidegate_commands_total", 16),
            ("tidegate_publications_total", 2 * 11 * 3),
            ("tidegate_bus_publications_total", 3),
            ("tidegate_deliveries_total", 3 * 3),
            ("tidegate_delivery_bytes_total", 3),
            ("tidegate_gaps_total", 4 * 3),
            ("tidegate_recoveries_total", 3),
            ("tidegate_repairs_total", 5),
            ("tidegate_duplicates_total", 1),
            ("tidegate_limit_hits_total", 30),
            ("tidegate_outbox_bytes", 1),
            ("tidegate_outbox_full_total", 1),
            ("tidegate_panics_total", 1),
            ("tidegate_shard_connections", 2),
            ("tidegate_shard_inbox_items", 2),
            ("tidegate_shard_stall_seconds", 2),
            ("tidegate_feeds", 2),
            ("tidegate_bus_connected", 1),
            ("tidegate_bus_reconnects_total", 1),
            ("tidegate_bus_dropped_total", 1),
            ("tidegate_nodes", 1),
            ("tidegate_calls_total", 2),
            ("tidegate_calls_silent_total", 2),
            ("tidegate_drain_remaining", 1),
            ("tidegate_build_info", 1),
            ("process_resident_memory_bytes", 1),
        ] {
            assert_eq!(metrics.series(name), series, "{name}");
        }
        let mut moved = metrics.moved();
        moved.retain(|name| name.starts_with("tidegate_"));
        moved.remove("tidegate_shard_stall_seconds");
        let there = ["tidegate_build_info", "tidegate_bus_connected", "tidegate_nodes"];
        assert_eq!(Vec::from_iter(moved), there);
        // These begin with the first that is measured.
        let measured =
            ["tidegate_delivery_seconds", "tidegate_fanout_seconds", "tidegate_publish_seconds"];
        let reader = {
            let mut reader = gateway.browser("").await;
            reader.subscribe("open.a").await;
            reader
        };
        gateway.publish("open.a", "1").await;
        until("all is measured", SOON, || async {
            let metrics = gateway.metrics().await;
            measured.iter().all(|name| metrics.kinds.contains_key(*name))
        })
        .await;
        drop(reader);
        let readme = std::fs::read_to_string("README.md").expect("the README");
        let metrics = gateway.metrics().await;
        for (name, kind) in metrics.kinds.iter().filter(|(name, _)| name.starts_with("tidegate_")) {
            let row = format!("| `{}` | {kind} |", name.trim_start_matches("tidegate_"));
            assert!(readme.contains(&row), "the README has no row {row}");
        }
    });
}

fn number(count: u64) -> f64 {
    f64::from(u32::try_from(count).expect("a small number"))
}

/// A client that counts what it is told.
struct Counting {
    browser: Browser,
    topic: String,
    messages: u64,
    gaps: u64,
    recovered: Option<bool>,
}

impl Counting {
    async fn subscribed(gateway: &Gateway, topic: &str, from: Value) -> Self {
        let mut browser = gateway.browser("").await;
        let subscribe = json!({"type": "subscribe", "topic": topic, "from": from});
        browser.command(subscribe).await;
        let mut counting =
            Self { browser, topic: topic.to_owned(), messages: 0, gaps: 0, recovered: None };
        while counting.recovered.is_none() {
            counting.read().await;
        }
        counting
    }

    /// Takes one Frame; gives its type.
    async fn read(&mut self) -> String {
        let frame = self.browser.next().await;
        match frame["type"].as_str().expect("a type") {
            "message" => self.messages += 1,
            "gap" => self.gaps += 1,
            "subscribed" => self.recovered = frame["recovered"].as_bool(),
            _ => {}
        }
        frame["type"].as_str().expect("a type").to_owned()
    }

    /// Takes all that was sent before now.
    async fn read_all(&mut self) {
        self.browser.command(json!({"type": "ping"})).await;
        while self.read().await != "pong" {}
    }
}

/// Under load, over two nodes and every kind of client, kept and best effort: what the metrics say is
/// what clients counted, to the unit; so are losses, returns and closes. A Namespace that clients made
/// up has no label of its own.
#[test]
fn what_is_counted_is_what_clients_got() {
    run(async {
        let mut nats = Nats::with_streams().await;
        let nodes = [
            Gateway::start(settings().on(&nats.url())).await,
            Gateway::start(settings().on(&nats.url())).await,
        ];
        let mut clients = Vec::new();
        for node in &nodes {
            for topic in ["kept.a", "kept.>", "open.>", "open.*", "invented.a"] {
                for _ in 0..4 {
                    clients.push(Counting::subscribed(node, topic, json!("live")).await);
                }
            }
        }
        let query = "topic=open.**&topic=kept.**";
        let mut events = Events::open(nodes[0].client, query, &[]).await;
        let lines = [("Accept", "application/x-ndjson")];
        let mut ndjson = Events::open(nodes[1].client, query, &lines).await;
        for _ in 0..5 {
            burst(&nodes[0], "kept.a", 40).await;
            burst(&nodes[1], "open.a", 60).await;
        }
        burst(&nodes[0], "invented.a", 7).await;
        let refused = nodes[0].publish("elsewhere.a", "1").await;
        assert_eq!(refused.status(), 401);
        let mut per_topic = BTreeMap::new();
        for (at, client) in clients.iter_mut().enumerate() {
            let (label, expected) =
                [("kept", 200), ("kept", 200), ("open", 300), ("open", 300), ("*", 7)][at / 4 % 5];
            while client.messages < expected {
                client.read().await;
            }
            client.read_all().await;
            assert_eq!(client.messages, expected);
            *per_topic.entry(label).or_insert(0.0) += number(client.messages);
        }
        for _ in 0..500 {
            events.data().await;
            while ndjson.line().await.kind != "message" {}
        }
        let metrics = all(&nodes).await;
        for (label, counted) in &per_topic {
            let labels = [("topic_namespace", *label), ("transport", "websocket")];
            assert_eq!(total(&metrics, "tidegate_deliveries_total", &labels), *counted, "{label}");
        }
        for (transport, node) in [("sse", 0), ("ndjson", 1)] {
            let labels = [("transport", transport)];
            assert_eq!(total(&metrics, "tidegate_deliveries_total", &labels), 500.0, "{transport}");
            assert_eq!(metrics[node].sum("tidegate_connections", &labels), 1.0);
        }
        let published = |label, outcome| {
            let labels = [("topic_namespace", label), ("outcome", outcome), ("entry", "http")];
            total(&metrics, "tidegate_publications_total", &labels)
        };
        assert_eq!([published("kept", "ok"), published("open", "ok")], [200.0, 300.0]);
        assert_eq!([published("*", "ok"), published("*", "unauthenticated")], [7.0, 1.0]);
        // Each node has each of them from the bus once, however many want it; best effort once for each
        // of the three Patterns that its clients have.
        let came = |label| {
            total(&metrics, "tidegate_bus_publications_total", &[("topic_namespace", label)])
        };
        assert_eq!([came("kept"), came("*")], [400.0, 14.0]);
        assert!(total(&metrics, "tidegate_delivery_seconds_count", &[]) >= 2.0);
        assert!(total(&metrics, "tidegate_fanout_seconds_count", &[]) >= 2.0);
        assert_eq!(total(&metrics, "tidegate_gaps_total", &[]), 0.0);
        let answers = [("type", "subscribe"), ("outcome", "ok")];
        assert_eq!(total(&metrics, "tidegate_commands_total", &answers), 40.0);
        assert_eq!(total(&metrics, "tidegate_outbox_bytes", &[]), 0.0);

        // NATS goes and comes back: whoever lost something is told.
        nats.kill();
        for node in &nodes {
            until("the link is lost", SOON, || async {
                node.metrics().await.sum("tidegate_bus_connected", &[]) == 0.0
            })
            .await;
        }
        nats.run().await;
        for node in &nodes {
            until("the link is whole", Duration::from_secs(30), || async {
                let metrics = node.metrics().await;
                metrics.sum("tidegate_bus_connected", &[]) == 1.0
                    && metrics.sum("tidegate_bus_reconnects_total", &[]) >= 1.0
            })
            .await;
        }
        // The second of two gaps comes a second after the first at the earliest.
        timeout(Duration::from_secs(30), async {
            loop {
                let mut counted = 0;
                for client in &mut clients {
                    client.read_all().await;
                    counted += client.gaps;
                }
                // Each of the two streams is told as often as who has the same Pattern on its node.
                assert_eq!([&*clients[8].topic, &*clients[28].topic], ["open.>"; 2]);
                let counted = counted + clients[8].gaps + clients[28].gaps;
                let metrics = all(&nodes).await;
                if counted >= 26 && total(&metrics, "tidegate_gaps_total", &[]) == number(counted) {
                    return;
                }
            }
        })
        .await
        .expect("as many gaps are counted as clients were told of");

        // One comes back with its place, one from a history that is none.
        let place = clients[0].browser.ask(json!({"type": "history", "topic": "kept.a"})).await;
        let cursor = place["items"][50]["cursor"].as_str().unwrap().to_owned();
        let back = Counting::subscribed(&nodes[0], "kept.a", json!({ "cursor": cursor })).await;
        assert_eq!(back.recovered, Some(true));
        let foreign = json!({"cursor": "aaaaaa-1"});
        let lost = Counting::subscribed(&nodes[1], "kept.a", foreign).await;
        assert_eq!(lost.recovered, Some(false));
        let metrics = all(&nodes).await;
        let recovered =
            |outcome| total(&metrics, "tidegate_recoveries_total", &[("outcome", outcome)]);
        assert_eq!(recovered("gap"), 1.0);
        assert_eq!(recovered("ring") + recovered("history"), 1.0);
    });
}

/// Every end is counted under the code that the client was told, and so is what lies before it: bounds,
/// refusals, Tokens that are none.
#[test]
fn closes_are_counted_by_their_codes() {
    run(async {
        let settings = settings().limit("user_connections: 1").limit("max_connections: 8");
        let gateway = Gateway::start(settings).await;
        let grants = Grants::all(&["open.>"]);
        let token = Gateway::token("ana", &grants);
        let ana = gateway.browser(&format!("token={token}&topic=open.a")).await;
        let mut told = Vec::new();
        for query in [format!("token={token}"), "token=no".to_owned()] {
            told.push(gateway.browser(&query).await.closed(SOON).await.code());
        }
        let mut unreadable = gateway.browser("").await;
        for _ in 0..10 {
            unreadable.send(json!({"type": "nonsense"})).await;
        }
        told.push(unreadable.closed(SOON).await.code());
        assert_eq!(told, ["connection_limit", "unauthenticated", "bad_message"]);
        let mut mute = Raw::small(gateway.client).subscribe("open.hot").await;
        let filler = "x".repeat(1_024);
        let messages: Vec<Value> =
            (0..500).map(|_| json!({"topic": "open.hot", "data": filler})).collect();
        let body = json!({ "messages": messages }).to_string();
        until("the mute one is closed", SOON, || async {
            let request = gateway.request(Method::POST, "/v1/publish").body(body.clone());
            assert_eq!(request.send().await.expect("an answer").status(), 200);
            gateway.count("slow_consumers").await == 1
        })
        .await;
        assert_eq!(mute.close(SOON).await.expect("a close frame").0, 4408);
        drop((ana, mute));
        until("all have ended", SOON, || async { gateway.count("connections").await == 0 }).await;
        let metrics = gateway.metrics().await;
        let closed = |close| metrics.sum("tidegate_connections_closed_total", &[("close", close)]);
        for code in ["connection_limit", "unauthenticated", "bad_message", "slow_consumer"] {
            assert_eq!(closed(code), 1.0, "{code}");
        }
        assert_eq!(closed("lost") + closed("by_peer"), 1.0);
        assert_eq!(metrics.sum("tidegate_connections_closed_total", &[]), 5.0);
        assert_eq!(metrics.sum("tidegate_connections_opened_total", &[]), 5.0);
        assert_eq!(metrics.sum("tidegate_outbox_full_total", &[("step", "close")]), 1.0);
        assert_eq!(metrics.sum("tidegate_limit_hits_total", &[("limit", "outbox_bytes")]), 1.0);
        assert_eq!(metrics.sum("tidegate_auth_failures_total", &[]), 1.0);
        assert_eq!(metrics.sum("tidegate_outbox_bytes", &[]), 0.0);
        let answers = [("type", "unreadable"), ("outcome", "error")];
        assert!(metrics.sum("tidegate_commands_total", &answers) >= 9.0);
        let mut crowd = Vec::new();
        for _ in 0..8 {
            crowd.push(gateway.browser("").await);
        }
        assert!(Browser::dial(gateway.client, "", &[]).await.is_err());
        let refused = [("reason", "max_connections")];
        let metrics = gateway.metrics().await;
        assert_eq!(metrics.sum("tidegate_connections_refused_total", &refused), 1.0);
    });
}
