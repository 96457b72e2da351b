//! Clients come and go all day long, and nothing goes wrong.

use std::time::Duration;

use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::protocol::Message;

use crate::harness::{Browser, Gateway, Nats, SOON, Settings, pass, run, size, until};

const A_SECOND: u64 = 200;
const TOPICS: u64 = 50;
/// Feeds stay this long without anybody; and then some.
const LINGER: Duration = Duration::from_secs(45);
const STEADY: &str = "open.steady";

/// How long they come and go.
fn time() -> Duration {
    Duration::from_secs(size(15, 600))
}

/// Comes, subscribes, and leaves in one of the ways that clients have.
async fn visit(address: std::net::SocketAddr, number: u64) {
    let topic = format!("open.t{}", number % TOPICS);
    let in_query = number.is_multiple_of(3);
    let query = if in_query { format!("topic={topic}") } else { String::new() };
    let mut browser = Browser::connect(address, &query).await;
    if in_query {
        for kind in ["connected", "subscribed"] {
            assert_eq!(browser.next().await["type"], kind);
        }
    } else {
        browser.subscribe(&topic).await;
    }
    match number % 4 {
        0 => {
            let unsubscribe = json!({"type": "unsubscribe", "topic": topic});
            assert_eq!(browser.ask(unsubscribe).await["type"], "unsubscribed");
        }
        1 => {
            browser.send_raw(Message::Close(None)).await;
            browser.closed(SOON).await;
        }
        // Just gone.
        _ => {}
    }
}

/// The Subscriptions of both nodes on NATS.
async fn upstream(nats: &Nats) -> Vec<u64> {
    let mut counts = Vec::new();
    for one in nats.gateways().await {
        counts.push(one["subscriptions"].as_u64().expect("a count"));
    }
    counts
}

/// Two hundred a second come, subscribe and leave over two nodes, while one reader gets everything of
/// a steady publisher; afterwards each node holds what it held before, and NATS holds for it what it
/// held before.
#[test]
fn who_comes_and_goes_leaves_nothing_behind() {
    run(async {
        let nats = Nats::start().await;
        let mut nodes = Vec::new();
        for _ in 0..2 {
            nodes.push(Gateway::start(Settings::open().on(&nats.url())).await);
        }
        let base = upstream(&nats).await;
        let descriptors: Vec<usize> = nodes.iter().map(Gateway::descriptors).collect();
        let mut reader = nodes[0].browser("").await;
        reader.subscribe(STEADY).await;

        let (mut visits, mut number) = (JoinSet::new(), 0_u64);
        let (mut published, mut read, began) = (0_u64, 0_u64, Instant::now());
        while began.elapsed() < time() {
            let due = began.elapsed().as_millis() * u128::from(A_SECOND) / 1_000;
            while u128::from(number) < due {
                // Every Topic on either node.
                let node = &nodes[usize::from((number / TOPICS).is_multiple_of(2))];
                visits.spawn(visit(node.client, number));
                number += 1;
            }
            while let Some(ended) = visits.try_join_next() {
                ended.expect("a visit is served");
            }
            let answer = nodes[1].publish(STEADY, published.to_string()).await;
            assert_eq!(answer.status(), 200);
            published += 1;
            // At once: a ping that waits behind many messages is answered too late.
            while read < published {
                assert_eq!(reader.next().await["data"], json!(read));
                read += 1;
            }
            pass(Duration::from_millis(10)).await;
        }
        let late = visits.len();
        while let Some(ended) = visits.join_next().await {
            ended.expect("a visit is served");
        }
        let took = began.elapsed();
        println!("{number} visits in {took:?}, {late} under way at the end; {published} messages");
        assert!(took < time() + SOON, "{took:?}");
        for expected in read..published {
            assert_eq!(reader.next().await["data"], json!(expected));
        }
        reader.is_quiet().await;
        let peak: u64 = upstream(&nats).await.iter().sum();
        assert!(peak >= 2 * TOPICS, "only {peak} were open on NATS");

        drop(reader);
        for (node, descriptors) in nodes.iter().zip(descriptors) {
            node.until_empty(descriptors, SOON).await;
        }
        until("NATS holds what it held before", LINGER, || async { upstream(&nats).await == base })
            .await;
        for node in &nodes {
            let log = node.log();
            for word in ["\"WARN\"", "\"ERROR\"", "panicked"] {
                let line = log.lines().find(|line| line.contains(word));
                assert_eq!(line, None, "{word}");
            }
        }
    });
}
