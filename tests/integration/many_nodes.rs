//! Several gateways on a real NATS: one world for their browsers, and honesty when it breaks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::harness::proxy::Weather;
use crate::harness::{
    Browser, Gateway, Grants, Nats, Proxy, SOON, Settings, pass, run, soon, until,
};

async fn gateways(urls: &[String]) -> Vec<Gateway> {
    let mut gateways = Vec::new();
    for url in urls {
        gateways.push(Gateway::start(Settings::open().on(url)).await);
    }
    gateways
}

/// A browser of each gateway for each of these Patterns, all live.
async fn browsers(gateways: &[Gateway], patterns: &[&str]) -> Vec<Browser> {
    let mut browsers = Vec::new();
    for gateway in gateways {
        for pattern in patterns {
            let mut browser = gateway.browser("").await;
            browser.subscribe(pattern).await;
            browsers.push(browser);
        }
    }
    browsers
}

/// Reads on until each of these Pushes has come, in whatever order; gives the `bus` among them.
async fn pushes(browser: &mut Browser, kinds: &[&str], limit: Duration) -> Value {
    let (mut missing, mut bus) = (kinds.to_vec(), Value::Null);
    timeout(limit, async {
        while !missing.is_empty() {
            let frame = browser.next_or_close(limit).await.expect("the connection stays");
            missing.retain(|kind| frame["type"] != *kind);
            if frame["type"] == "bus" {
                bus = frame["connected"].clone();
            }
            assert!(frame["type"] != "gap" || frame["reason"] == "bus_interrupted");
        }
    })
    .await
    .unwrap_or_else(|_| panic!("no {missing:?} within {limit:?}"));
    bus
}

/// What is published over HTTP on one node, by a client on another, and straight into NATS reaches
/// exact and wildcard Subscriptions on all three nodes, once and in order; on one server, and with
/// each node on another server of a cluster.
#[test]
fn three_nodes_are_one_world() {
    run(async {
        let single = Nats::start().await;
        let cluster = Nats::cluster().await;
        let urls = vec![single.url(); 3];
        let cluster_urls: Vec<String> = cluster.iter().map(Nats::url).collect();
        for (urls, backend) in
            [(urls, single.backend().await), (cluster_urls, cluster[0].backend().await)]
        {
            let nodes = gateways(&urls).await;
            let mut readers = browsers(&nodes, &["open.a", "open.>", "open.*"]).await;
            let mut publisher = nodes[1].browser("").await;
            for n in 0..50 {
                let answer =
                    nodes[0].publish("open.a", json!({"from": "http", "n": n}).to_string());
                assert_eq!(answer.await.status(), 200);
                publisher.publish("open.a", json!({"from": "client", "n": n})).await;
                let payload = json!({"from": "nats", "n": n}).to_string();
                backend.publish("tidegate.in.open.a", payload.into()).await.unwrap();
            }
            backend.flush().await.unwrap();
            for reader in &mut readers {
                let mut next = std::collections::HashMap::new();
                for _ in 0..150 {
                    let message = reader.message().await;
                    let from = message["data"]["from"].as_str().unwrap().to_owned();
                    let expected = next.entry(from).or_insert(0);
                    assert_eq!(message["data"]["n"], json!(*expected));
                    *expected += 1;
                }
                reader.is_quiet().await;
            }
        }
    });
}

/// A node gets nothing from NATS that no client of it wants: the server counts what it sends.
#[test]
fn a_node_receives_only_what_its_clients_want() {
    run(async {
        let nats = Nats::start().await;
        let nodes = gateways(&[nats.url(), nats.url()]).await;
        let mut reader = nodes[0].browser("").await;
        reader.subscribe("open.wanted").await;
        let sent = || async {
            let mut sent: Vec<u64> = Vec::new();
            for one in nats.gateways().await {
                sent.push(one["out_bytes"].as_u64().unwrap());
            }
            sent.iter().sum::<u64>()
        };
        let before = sent().await;
        let backend = nats.backend().await;
        for n in 0..1_000 {
            let payload = format!("{n}{}", " ".repeat(1_000));
            backend.publish("tidegate.in.open.unwanted", payload.into()).await.unwrap();
        }
        backend.publish("tidegate.in.open.wanted", "1".into()).await.unwrap();
        backend.flush().await.unwrap();
        assert_eq!(reader.message().await["data"], 1);
        let grown = sent().await - before;
        assert!(grown < 20_000, "{grown} bytes were sent to nodes");
    });
}

/// NATS is killed and comes back: everybody affected is told at once and again, the node says that it
/// is not ready, publishes are refused honestly, and delivery goes on by itself.
#[test]
fn nats_dies_and_returns() {
    run(async {
        let mut nats = Nats::start().await;
        let nodes = gateways(&[nats.url(), nats.url()]).await;
        let mut readers = browsers(&nodes, &["open.a", "open.>"]).await;
        nats.kill();
        for reader in &mut readers {
            let bus = pushes(reader, &["bus", "gap"], Duration::from_secs(15)).await;
            assert_eq!(bus, false);
        }
        let answer = nodes[0].publish("open.a", "1").await;
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["code"], "bus_unavailable");
        // Who comes meanwhile is told how things stand, and that it cannot be subscribed now.
        let mut late = nodes[0].browser("topic=open.b").await;
        assert_eq!(late.next().await["type"], "connected");
        assert_eq!(late.next().await, json!({"type": "bus", "connected": false}));
        assert_eq!(late.next().await["code"], "bus_unavailable");
        until("the node is not ready", Duration::from_secs(15), || async {
            nodes[0].health("ready").await.is_some_and(|health| health["ok"] == false)
        })
        .await;
        nats.run().await;
        let back = Instant::now();
        for reader in &mut readers {
            assert_eq!(pushes(reader, &["bus", "gap"], SOON).await, true);
        }
        assert!(back.elapsed() < Duration::from_secs(5), "{:?}", back.elapsed());
        assert_eq!(nodes[0].publish("open.a", "2").await.status(), 200);
        for reader in &mut readers {
            assert_eq!(reader.message().await["data"], 2);
        }
        until("the node is ready", SOON, || async {
            nodes[0].health("ready").await.is_some_and(|health| health["ok"] == true)
        })
        .await;
    });
}

/// While the link is lost nobody is told that he is subscribed, whether the node has no Feed for it,
/// one that others hear, or one that lingers: nothing could come. Who asks again when it is whole gets
/// what comes.
#[test]
fn nobody_subscribes_while_the_link_is_lost() {
    run(async {
        let mut nats = Nats::start().await;
        let nodes = gateways(&[nats.url()]).await;
        let mut reader = nodes[0].browser("topic=open.heard").await;
        let mut late = nodes[0].browser("topic=open.left").await;
        for browser in [&mut reader, &mut late] {
            for kind in ["connected", "subscribed"] {
                assert_eq!(browser.next().await["type"], kind);
            }
        }
        let left = late.ask(json!({"type": "unsubscribe", "topic": "open.left"})).await;
        assert_eq!(left["type"], "unsubscribed");
        nats.kill();
        assert_eq!(pushes(&mut late, &["bus"], Duration::from_secs(15)).await, false);
        let topics = ["open.heard", "open.left", "open.new"];
        for topic in topics {
            let reply = late.ask(json!({"type": "subscribe", "topic": topic})).await;
            assert_eq!((&reply["type"], &reply["topic"]), (&json!("error"), &json!(topic)));
            assert_eq!(reply["code"], "bus_unavailable", "{reply}");
            assert_eq!(reply["retryable"], true, "{reply}");
        }
        nats.run().await;
        assert_eq!(pushes(&mut late, &["bus"], SOON).await, true);
        for topic in topics {
            late.subscribe(topic).await;
            nodes[0].publish(topic, "1").await;
            assert_eq!(late.message().await["topic"], topic);
        }
        assert_eq!(reader.message().await["topic"], "open.heard", "it was never let go");
    });
}

/// Publishes go on through a black hole of 20 s between node and NATS. What was answered 2xx had
/// reached NATS: a spy behind the trouble has seen it.
#[test]
fn no_publish_is_confirmed_falsely_in_a_black_hole() {
    run(publish_through(Trouble::BlackHole));
}

/// The same where only the answers are swallowed.
#[test]
fn no_publish_is_confirmed_falsely_without_answers() {
    run(publish_through(Trouble::Half));
}

/// The same with a server that is frozen, and then killed.
#[test]
fn no_publish_is_confirmed_falsely_by_a_frozen_server() {
    run(publish_through(Trouble::FrozenThenKilled));
}

/// A server that goes on speaking and hears nothing of its node is as good as none: who is on that node
/// is told, though others' Publications still arrive there.
#[test]
fn a_node_that_nobody_hears_notices() {
    run(async {
        let nats = Nats::start().await;
        let proxy = Proxy::start(nats.client).await;
        let nodes = gateways(&[format!("nats://{}", proxy.address), nats.url()]).await;
        let mut reader = nodes[0].browser("").await;
        reader.subscribe("open.>").await;
        proxy.set(Weather::Unheard);
        let began = Instant::now();
        let (mut n, mut told) = (0, false);
        while !told && began.elapsed() < Duration::from_secs(20) {
            assert_eq!(nodes[1].publish("open.a", n.to_string()).await.status(), 200);
            // The loss is told before the link.
            let frame = reader.next().await;
            match frame["type"].as_str() {
                Some("message") => n += 1,
                Some("ping") => {}
                Some("bus") => told = frame["connected"] == false,
                Some("gap") => assert_eq!(frame["reason"], "bus_interrupted"),
                _ => panic!("{frame}"),
            }
        }
        assert!(told && n > 10, "told: {told}, after {n} messages");
        assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
        proxy.set(Weather::Pass);
        assert_eq!(pushes(&mut reader, &["bus"], Duration::from_secs(15)).await, true);
    });
}

async fn publish_through(trouble: Trouble) {
    let mut nats = Nats::start().await;
    let proxy = Proxy::start(nats.client).await;
    let node = gateways(&[format!("nats://{}", proxy.address)]).await.remove(0);
    let mut reader = node.browser("").await;
    reader.subscribe("open.>").await;
    let backend = nats.backend().await;
    let mut spy = backend.subscribe("tidegate.in.open.>").await.unwrap();
    backend.flush().await.unwrap();

    let (mut confirmed, mut refused) = (Vec::new(), 0);
    let began = Instant::now();
    let mut n = 0;
    while began.elapsed() < Duration::from_secs(24) {
        match (trouble, n) {
            (Trouble::BlackHole, 50) => proxy.set(Weather::BlackHole),
            (Trouble::Half, 50) => proxy.set(Weather::Half),
            (Trouble::FrozenThenKilled, 50) => nats.signal("STOP"),
            _ => {}
        }
        let asked = Instant::now();
        let answer = node.publish("open.a", n.to_string()).await;
        assert!(asked.elapsed() < Duration::from_secs(6), "{:?}", asked.elapsed());
        match answer.status().as_u16() {
            200 => confirmed.push(n),
            503 | 504 => refused += 1,
            other => panic!("{other}"),
        }
        n += 1;
        if n > 60 && trouble == Trouble::FrozenThenKilled {
            break;
        }
    }
    assert!(refused > 0, "{trouble:?} was not felt");
    let mut seen = Vec::new();
    if trouble == Trouble::FrozenThenKilled {
        // What the frozen server had taken in before it was killed, the spy has.
        nats.kill();
    } else {
        proxy.set(Weather::Pass);
    }
    let quiet = Duration::from_secs(2);
    while let Ok(Some(message)) = timeout(quiet, futures_util::StreamExt::next(&mut spy)).await {
        seen.push(std::str::from_utf8(&message.payload).unwrap().parse::<i32>().unwrap());
    }
    let lost: Vec<_> = confirmed.iter().filter(|n| !seen.contains(n)).collect();
    assert!(lost.is_empty(), "{trouble:?}: confirmed and never arrived: {lost:?}");
    pushes(&mut reader, &["gap", "bus"], Duration::from_secs(15)).await;
    if trouble != Trouble::FrozenThenKilled {
        until("publishing works again", Duration::from_secs(5), || async {
            node.publish("open.a", "again").await.status() == 200
        })
        .await;
        soon("the rest arrives", async { while reader.message().await["data"] != "again" {} })
            .await;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    BlackHole,
    Half,
    FrozenThenKilled,
}

/// What a client sends in headers, and what somebody puts into NATS, forges nothing: `user` and `id`
/// are the gateway's, and a subject that is no legal Topic is nobody's message.
#[test]
fn forged_headers_and_subjects_change_nothing() {
    run(async {
        let nats = Nats::start().await;
        let node = gateways(&[nats.url()]).await.remove(0);
        let mut reader = node.browser("").await;
        reader.subscribe("open.>").await;
        let answer = node
            .request(Method::POST, "/v1/topics/open.a/messages")
            .header("Tidegate-User", "root")
            .header("Nats-Msg-Id", "forged")
            .header("Tidegate-Time", "1")
            .body("1")
            .send()
            .await
            .unwrap();
        let answer: Value = answer.json().await.unwrap();
        let message = reader.message().await;
        assert_eq!(message["id"], answer["id"]);
        assert_eq!(message.get("user"), None);
        assert_ne!(message["time"], "1970-01-01T00:00:00.001Z");
        let backend = nats.backend().await;
        // A trace context travels on, one that is none does not.
        let mut spy = backend.subscribe("tidegate.in.open.traced").await.unwrap();
        backend.flush().await.unwrap();
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        for (sent, arrives) in [(parent, Some(parent)), ("00-zz", None)] {
            let path = "/v1/topics/open.traced/messages";
            let request = node.request(Method::POST, path).header("traceparent", sent).body("1");
            assert_eq!(request.send().await.unwrap().status(), 200);
            let message = soon("it arrives", futures_util::StreamExt::next(&mut spy)).await;
            let headers = message.unwrap().headers.unwrap();
            assert_eq!(headers.get("traceparent").map(|value| value.as_str()), arrives);
            reader.message().await;
        }
        for illegal in ["tidegate.in.open.a b", "tidegate.in.open.$x", "tidegate.in.open.*"] {
            let _ = backend.publish(illegal, "no".into()).await;
        }
        backend.publish("tidegate.in.open.b", "".into()).await.unwrap();
        backend.flush().await.unwrap();
        let message = reader.message().await;
        assert_eq!((&message["topic"], &message["deleted"]), (&json!("open.b"), &json!(true)));
        reader.is_quiet().await;
    });
}

/// A server of NATS that leaves politely is noticed by nobody: whatever is published or asked for while
/// gateways move to another server goes well, and who listens misses nothing untold.
#[test]
fn a_server_that_leaves_is_noticed_by_nobody() {
    run(async {
        let cluster = Nats::cluster_with_streams().await;
        let history = "namespaces: {open: {history: {replicas: 3}}}\nstrict: false";
        let mut gateways = Vec::new();
        for nats in &cluster[..2] {
            let anonymous = Grants::all(&["open.>", "other.>"]);
            let settings = Settings { anonymous, ..Settings::open() }.on(&nats.url()).line(history);
            gateways.push(Gateway::start(settings).await);
        }
        let mut readers = browsers(&gateways, &["open.>"]).await;
        // What others hear already is as good to ask for as what is new.
        let _holders = browsers(&gateways, &["other.held"]).await;
        let over = Arc::new(AtomicBool::new(false));
        let mut restless = JoinSet::new();
        for gateway in &gateways {
            let (address, over) = (gateway.client, Arc::clone(&over));
            restless.spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    Browser::connect(address, "").await.subscribe("other.held").await;
                    pass(Duration::from_millis(20)).await;
                }
            });
        }
        cluster[0].signal("USR2");
        let (mut n, mut moved) = (0, 0);
        let links = async |nats: &Nats| nats.gateways().await.len();
        let ends = Instant::now() + SOON;
        // On for a while after it has moved: two links, and whatever that brings.
        while moved < 100 && Instant::now() < ends {
            for gateway in &gateways {
                n += 1;
                for topic in ["open.a", "other.a"] {
                    let answer = gateway.publish(topic, n.to_string()).await;
                    assert_eq!(answer.status(), 200, "{topic}");
                }
                let mut browser = gateway.browser("").await;
                browser.subscribe(&format!("other.{n}")).await;
            }
            if moved > 0 || links(&cluster[0]).await < 2 {
                moved += 1;
            }
        }
        assert!(moved > 0, "it has moved");
        over.store(true, Ordering::Relaxed);
        restless.join_all().await;
        for reader in &mut readers {
            let mut next = 1;
            while next <= n {
                let frame = reader.next().await;
                match frame["type"].as_str() {
                    Some("message") => {
                        assert_eq!(frame["data"], next);
                        next += 1;
                    }
                    // Of what is not kept something may be missing.
                    Some("bus" | "gap") => {}
                    _ => panic!("{frame}"),
                }
            }
        }
    });
}
