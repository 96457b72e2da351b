//! Nodes are replaced one after another, and nobody notices.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::Client;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};

use crate::harness::browser::Closed;
use crate::harness::{Balancer, Browser, Gateway, Nats, SOON, Settings, pass, run, size, until};

const TOPIC: &str = "open.news";
/// What the last message says.
const END: &str = "end";
/// How long a client reads on from its old socket once the new one is live.
const LINGER: Duration = Duration::from_secs(1);
/// Nobody hears nothing for longer.
const SILENCE: Duration = Duration::from_secs(15);

fn crowd() -> usize {
    size(150, 2_000)
}

/// What a client has seen, over all its sockets.
#[derive(Default)]
struct Seen {
    ids: HashSet<String>,
    numbers: HashSet<u64>,
    moves: usize,
    ended: bool,
}

impl Seen {
    /// Gives the slot, if this is the word to go.
    fn note(&mut self, frame: &Value) -> Option<Duration> {
        match frame["type"].as_str() {
            Some("message") if self.ids.insert(text(&frame["id"])) => {
                if let Some(number) = frame["data"].as_u64() {
                    assert!(self.numbers.insert(number), "{number} twice");
                }
                self.ended |= frame["data"] == END;
                None
            }
            Some("message" | "ping" | "pong") => None,
            Some("going_away") => {
                let wait = frame["reconnect_in_ms"].as_u64().expect("a time");
                Some(Duration::from_millis(wait))
            }
            _ => panic!("{frame}"),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

/// A socket through the balancer that is subscribed; a node that takes nobody new is passed over.
async fn subscribed(balancer: SocketAddr) -> Browser {
    let browser = Mutex::new(None);
    until("somebody takes a socket", SOON, || async {
        match Browser::dial(balancer, "", &[]).await {
            Ok(dialled) => browser.lock().await.replace(dialled).is_none(),
            Err(Error::Http(answer)) => {
                assert_eq!(answer.status(), 503);
                false
            }
            Err(fault) => panic!("{fault}"),
        }
    })
    .await;
    let mut browser = browser.into_inner().expect("a socket");
    browser.subscribe(TOPIC).await;
    browser
}

/// A client that does as it is told until the last message: at its slot it opens another socket, and
/// leaves the old one only when the new one is live. Until then it reads on.
async fn client(balancer: SocketAddr, live: Arc<AtomicUsize>) -> Seen {
    let mut seen = Seen::default();
    let mut browser = subscribed(balancer).await;
    live.fetch_add(1, Ordering::Relaxed);
    while !seen.ended {
        let frame = browser.next_or_close(SILENCE).await;
        let frame = frame.unwrap_or_else(|closed| panic!("never told: {closed:?}"));
        if let Some(slot) = seen.note(&frame) {
            seen.moves += 1;
            browser = moved(browser, balancer, slot, &mut seen).await;
        }
    }
    leave(browser, &mut seen).await;
    seen
}

async fn moved(mut old: Browser, balancer: SocketAddr, slot: Duration, seen: &mut Seen) -> Browser {
    let moving = async {
        pass(slot).await;
        subscribed(balancer).await
    };
    tokio::pin!(moving);
    let new = loop {
        tokio::select! {
            new = &mut moving => break new,
            frame = old.next_or_close(SILENCE) => {
                let frame = frame.unwrap_or_else(|closed| panic!("before it could move: {closed:?}"));
                assert_eq!(seen.note(&frame), None, "told twice");
            }
        }
    };
    // What reached the new node before this Subscription may still be on its way through the old one.
    let lingers = Instant::now() + LINGER;
    while let Ok(frame) = timeout_at(lingers, old.next_or_close(SILENCE)).await {
        let frame = frame.unwrap_or_else(|closed| panic!("it ends too early: {closed:?}"));
        assert_eq!(seen.note(&frame), None, "told twice");
    }
    leave(old, seen).await;
    new
}

/// Closes with 1000, and reads on until the node has closed, too.
async fn leave(mut browser: Browser, seen: &mut Seen) {
    let goodbye = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    browser.send_raw(Message::Close(Some(goodbye))).await;
    loop {
        match browser.next_or_close(SOON).await {
            Ok(frame) => assert_eq!(seen.note(&frame), None, "told twice"),
            Err(Closed { status, reason }) => {
                assert_eq!(status, Some(1000), "an abnormal close: {reason}");
                return;
            }
        }
    }
}

/// Publishes a dense counter until it is told to stop, then the end; gives how many it were.
async fn publish(balancer: SocketAddr, stop: Arc<AtomicBool>) -> u64 {
    let http = Client::builder().pool_max_idle_per_host(0).timeout(SOON).build().expect("a client");
    let publish = async |data: Value| {
        let url = format!("http://{balancer}/v1/topics/{TOPIC}/messages");
        let answer = http.post(url).body(data.to_string()).send().await;
        let status = answer.expect("an answer").status();
        assert_eq!(status, 200, "{data}");
    };
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        publish(json!(number)).await;
        number += 1;
        pass(Duration::from_millis(size(5, 100))).await;
    }
    publish(json!(END)).await;
    number
}

/// Three gateways on one NATS behind a balancer are replaced in turn, while 150 clients read and
/// somebody publishes: each client on a node that goes is told, none sees an abnormal close, none
/// misses a message, publishing never fails, a node that is about to go still takes whoever comes, and
/// each ends with 0.
#[test]
fn rolling_over_three_nodes_loses_nothing() {
    run(async {
        let nats = Nats::start().await;
        let drain = size("{lame_duck: 1s, window: 4s}", "{lame_duck: 5s, window: 45s}");
        let settings = || Settings::open().on(&nats.url()).line(&format!("drain: {drain}"));
        let mut nodes = Vec::new();
        for _ in 0..3 {
            nodes.push(Gateway::start(settings()).await);
        }
        let balancer = Balancer::start(nodes.iter().map(|node| node.client).collect()).await;
        let live = Arc::new(AtomicUsize::new(0));
        let mut clients = JoinSet::new();
        for _ in 0..crowd() {
            clients.spawn(client(balancer.address, Arc::clone(&live)));
        }
        until("all clients are live", Duration::from_secs(30), || async {
            live.load(Ordering::Relaxed) == crowd()
        })
        .await;
        let stop = Arc::new(AtomicBool::new(false));
        let mut publisher = JoinSet::new();
        publisher.spawn(publish(balancer.address, Arc::clone(&stop)));

        let mut told = 0;
        for _ in 0..3 {
            let mut old = nodes.remove(0);
            let here = old.count("connections").await;
            assert!(here > 0, "nobody is on this node");
            old.signal("TERM");
            until("it is not ready", Duration::from_secs(2), || async {
                let health = old.health("ready").await;
                health.is_some_and(|health| health["ok"] == false)
            })
            .await;
            // Whoever comes before the balancer has noticed is taken.
            let mut late = old.browser("").await;
            late.subscribe(TOPIC).await;
            balancer.remove(old.client);
            let mut left = JoinSet::new();
            left.spawn(late_leaves(late));
            let new = Gateway::start(settings()).await;
            balancer.add(new.client);
            nodes.push(new);
            let ended = old.ended(Duration::from_secs(size(15, 60))).await;
            assert_eq!(ended, Some(0), "{}", old.log());
            let left = left.join_next().await.expect("somebody came late");
            left.expect("it is told, too");
            told += usize::try_from(here).expect("a few");
        }
        stop.store(true, Ordering::Relaxed);
        let published = publisher.join_next().await.expect("a publisher");
        let published = published.expect("every publish is taken");
        let (mut moves, mut count) = (0, 0);
        while let Some(seen) = clients.join_next().await {
            let seen = seen.expect("a client that was served");
            let lost: Vec<u64> =
                (0..published).filter(|number| !seen.numbers.contains(number)).collect();
            assert!(lost.is_empty(), "of {published}: {lost:?} are missing");
            moves += seen.moves;
            count += 1;
        }
        assert_eq!(count, crowd());
        println!("{published} messages, {moves} moves of {told} who were there");
        assert!(moves >= told, "{moves} of {told} were told");
    });
}

/// One that came during the lame duck is told, and leaves by itself.
async fn late_leaves(mut late: Browser) {
    let mut seen = Seen::default();
    let mut goes = None::<Instant>;
    while goes.is_none_or(|at| at > Instant::now()) {
        let frame = late.next_or_close(SILENCE).await.expect("it is told");
        if let Some(slot) = seen.note(&frame) {
            goes = Some(Instant::now() + slot);
        }
    }
    leave(late, &mut seen).await;
}

/// One server of a NATS cluster goes away politely: its gateway moves to another before it is gone;
/// clients see `gap` and `bus` at most, no error and no close, and delivery goes on.
#[test]
fn a_lame_duck_of_nats_is_no_trouble() {
    run(async {
        let cluster = Nats::cluster().await;
        let urls: Vec<String> = cluster.iter().map(Nats::url).collect();
        let mut nodes = Vec::new();
        for turn in 0..3 {
            let mut urls = urls.clone();
            urls.rotate_left(turn);
            nodes.push(Gateway::start(Settings::open().on(&urls.join(","))).await);
        }
        let mut readers = Vec::new();
        for node in &nodes {
            for pattern in [TOPIC, "open.>"] {
                let mut reader = node.browser("").await;
                reader.subscribe(pattern).await;
                readers.push(reader);
            }
        }
        let mut busy = Vec::new();
        for server in &cluster {
            busy.push(server.gateways().await.len());
        }
        let leaves = busy.iter().position(|count| *count > 0).expect("a link");
        cluster[leaves].signal("USR2");
        until("nobody is on it", Duration::from_secs(8), || async {
            cluster[leaves].gateways().await.is_empty()
        })
        .await;
        for node in &nodes {
            until("publishing works", Duration::from_secs(5), || async {
                node.publish(TOPIC, "0").await.status() == 200
            })
            .await;
            until("the node is ready", SOON, || async {
                let health = node.health("ready").await;
                health.is_some_and(|health| health["ok"] == true)
            })
            .await;
        }
        assert_eq!(nodes[0].publish(TOPIC, json!(END).to_string()).await.status(), 200);
        for reader in &mut readers {
            let to_the_end = async {
                loop {
                    let frame = reader.next_or_close(SILENCE).await.expect("it stays");
                    match frame["type"].as_str().expect("a type") {
                        "message" if frame["data"] == END => return,
                        "message" | "gap" | "bus" => {}
                        _ => panic!("{frame}"),
                    }
                }
            };
            timeout(SILENCE, to_the_end).await.expect("the end arrives");
        }
    });
}
