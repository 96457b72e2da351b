//! Three nodes behind a balancer are replaced in turn, told to go or killed, while everybody follows a
//! kept Topic by its Cursor: nothing is lost, and nothing comes twice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::{Client as Http, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout, timeout_at};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};

use crate::harness::{Balancer, Browser, Gateway, Grants, Nats, SOON, Settings};
use crate::harness::{pass, run, size, until};
use crate::torture::rng::Rng;

/// What the last message of a Topic says.
const END: &str = "end";
/// Nobody hears nothing for longer.
const SILENCE: Duration = Duration::from_secs(30);
/// All are live again within this.
const LIVE: Duration = Duration::from_secs(60);
/// No publish is answered later than this.
const ANSWER: Duration = Duration::from_secs(20);
/// A balancer takes so long to see that a node is dead.
const NOTICE: Duration = Duration::from_secs(1);
/// The first bound of a random wait, and the last.
const BACK_OFF_FIRST: Duration = Duration::from_millis(500);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// So many come at a time, at first.
const BATCH: usize = 500;

/// Each follows one Topic: at 200 messages a second that are 20,000 deliveries a second in full size.
fn crowd() -> usize {
    size(60, 5_000)
}

fn topics() -> usize {
    size(10, 50)
}

/// From one message on a Topic to the next.
fn every() -> Duration {
    let per_second = size(50, 200);
    Duration::from_secs(1) * u32::try_from(topics()).expect("a few") / per_second
}

/// The times of a drain, in seconds.
fn drain() -> (u32, u32) {
    size((1, 3), (5, 45))
}

#[derive(Clone, Copy, PartialEq)]
enum Way {
    /// SIGTERM.
    Told,
    /// `kill -9`.
    Killed,
}

/// What everybody shares.
struct Stage {
    balancer: SocketAddr,
    /// Clients that have all there is, on a node that lives.
    live: AtomicUsize,
    /// When somebody dialled.
    dials: Mutex<Vec<Instant>>,
    /// From the end of a Connection to its client's being live elsewhere.
    away: Mutex<Vec<Duration>>,
    over: AtomicBool,
}

impl Stage {
    async fn until_all_are_live(&self, count: usize) {
        until("all are live", LIVE, || async { self.live.load(Ordering::Relaxed) == count }).await;
    }
}

/// What a client has seen, over all its Connections.
#[derive(Default)]
struct Seen {
    /// The next message of its Topic.
    next: u64,
    lost: u64,
    twice: u64,
    /// How often it was told that something is missing.
    gaps: u64,
    /// How its Connections ended; one without a close frame by 1006, as browsers say.
    closes: BTreeMap<u16, u64>,
    ended: bool,
}

/// A client that comes back by itself.
struct Client {
    stage: Arc<Stage>,
    topic: usize,
    rng: Rng,
    seen: Seen,
    cursor: Option<String>,
    /// Messages of a replay that are to come, and whether there is another part behind them.
    replay: Option<(u64, bool)>,
}

impl Client {
    fn new(stage: &Arc<Stage>, number: usize) -> Self {
        Self {
            stage: Arc::clone(stage),
            topic: number % topics(),
            rng: Rng::new(1, number as u64),
            seen: Seen::default(),
            cursor: None,
            replay: None,
        }
    }

    /// Listens to the end; gives its Topic, and what it has seen.
    async fn run(mut self) -> (usize, Seen) {
        let mut browser = self.comes().await;
        self.stage.live.fetch_add(1, Ordering::Relaxed);
        let mut goes = None::<Instant>;
        while !self.seen.ended {
            let next = browser.next_or_close(SILENCE);
            let came = match goes {
                Some(moment) => timeout_at(moment, next).await.ok(),
                None => Some(next.await),
            };
            match came {
                Some(Ok(frame)) => goes = self.note(&frame).or(goes),
                Some(Err(closed)) => {
                    self.closed(closed.status);
                    self.stage.live.fetch_sub(1, Ordering::Relaxed);
                    let since = Instant::now();
                    (browser, goes) = (self.comes().await, None);
                    self.stage.away.lock().expect("nobody panics here").push(since.elapsed());
                    self.stage.live.fetch_add(1, Ordering::Relaxed);
                }
                // Its moment. What comes on the old one from here on, comes on the new one, too.
                None => {
                    let new = self.comes().await;
                    self.leave(browser).await;
                    (browser, goes) = (new, None);
                }
            }
        }
        self.leave(browser).await;
        (self.topic, self.seen)
    }

    /// A Connection on which it has all there is, after as many tries as it takes.
    async fn comes(&mut self) -> Browser {
        let mut bound = BACK_OFF_FIRST;
        loop {
            if let Some(browser) = self.tries().await {
                return browser;
            }
            let ms = u64::try_from(bound.as_millis()).expect("a short time");
            pass(Duration::from_millis(self.rng.below(ms))).await;
            bound = (bound * 2).min(BACK_OFF_MAX);
        }
    }

    async fn tries(&mut self) -> Option<Browser> {
        self.stage.dials.lock().expect("nobody panics here").push(Instant::now());
        let from = self.cursor.as_ref().map(|cursor| format!("&cursor={cursor}"));
        let query = format!("topic=open.t{}{}", self.topic, from.unwrap_or_default());
        let mut browser = Browser::dial(self.stage.balancer, &query, &[]).await.ok()?;
        self.replay = Some((0, true));
        while self.replay != Some((0, false)) {
            match browser.next_or_close(SILENCE).await {
                Ok(frame) => self.note(&frame),
                Err(closed) => {
                    self.closed(closed.status);
                    return None;
                }
            };
        }
        Some(browser)
    }

    /// Gives its moment, if this is the word to go.
    fn note(&mut self, frame: &Value) -> Option<Instant> {
        match frame["type"].as_str() {
            Some("message") => self.got(frame),
            Some("subscribed" | "replay") => {
                let count = frame["replayed"].as_u64().expect("a number");
                self.replay = Some((count, frame["more"] == true));
                self.seen.gaps += u64::from(frame["recovered"] == false);
                if count == 0 {
                    self.reach(frame);
                }
            }
            Some("gap") => self.seen.gaps += 1,
            Some("position") => self.reach(frame),
            Some("connected" | "bus") => {}
            Some("going_away") => {
                let wait = frame["reconnect_in_ms"].as_u64().expect("a time");
                return Some(Instant::now() + Duration::from_millis(wait));
            }
            _ => panic!("{frame}"),
        }
        None
    }

    fn got(&mut self, frame: &Value) {
        self.reach(frame);
        if let Some((left @ 1.., _)) = &mut self.replay {
            *left -= 1;
        }
        let Some(number) = frame["data"].as_u64() else {
            assert_eq!(frame["data"], END);
            self.seen.ended = true;
            return;
        };
        match number.checked_sub(self.seen.next) {
            Some(missing) => {
                self.seen.lost += missing;
                self.seen.next = number + 1;
            }
            None => self.seen.twice += 1,
        }
    }

    fn reach(&mut self, frame: &Value) {
        if let Some(cursor) = frame["cursor"].as_str() {
            self.cursor = Some(cursor.to_owned());
        }
    }

    fn closed(&mut self, status: Option<u16>) {
        *self.seen.closes.entry(status.unwrap_or(1006)).or_default() += 1;
    }

    /// Closes with 1000, and reads on until the node has closed, too.
    async fn leave(&mut self, mut browser: Browser) {
        // Who took too long to move was closed by the node.
        while let Ok(came) = timeout(Duration::ZERO, browser.next_or_close(SILENCE)).await {
            if let Err(closed) = came {
                return self.closed(closed.status);
            }
        }
        let goodbye = CloseFrame { code: CloseCode::Normal, reason: "".into() };
        browser.send_raw(Message::Close(Some(goodbye))).await;
        let closed = browser.closed(SOON).await;
        self.closed(closed.status);
    }
}

/// Publishes a dense counter on one Topic, each message again until it is taken, and then the end;
/// gives how many there were, and how many tries were for nothing.
async fn publish(stage: Arc<Stage>, topic: usize) -> (u64, u64) {
    let http = Http::builder().pool_max_idle_per_host(0).timeout(ANSWER).build().expect("a client");
    let name = format!("open.t{topic}");
    let token = Gateway::token(&format!("publisher-{topic}"), &Grants::all(&[&name]));
    let url = format!("http://{}/v1/topics/{name}/messages", stage.balancer);
    let phase = every().mul_f64(topic as f64 / topics() as f64);
    let mut turns = interval_at(Instant::now() + phase, every());
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut number, mut for_nothing) = (0, 0);
    loop {
        let over = stage.over.load(Ordering::Relaxed);
        let data = if over { json!(END) } else { json!(number) };
        loop {
            let request = http.post(&url).bearer_auth(&token).body(data.to_string());
            let answer = request.header("idempotency-key", format!("{name}-{data}")).send().await;
            if answer.is_ok_and(|answer| answer.status() == StatusCode::OK) {
                break;
            }
            for_nothing += 1;
            turns.tick().await;
        }
        if over {
            return (number, for_nothing);
        }
        number += 1;
        turns.tick().await;
    }
}

/// SIGTERM to each of three nodes in turn, one more before each: nothing on a kept Topic is lost, nothing
/// comes twice, no Connection ends without a goodbye, and those that move dial evenly over the window.
#[test]
fn told_to_go_in_turn() {
    run(Box::pin(replaced(Way::Told)));
}

/// The same with `kill -9`, and another node after each: nothing is lost, and nothing comes twice.
#[test]
fn killed_in_turn() {
    run(Box::pin(replaced(Way::Killed)));
}

async fn replaced(way: Way) {
    let nats = Nats::with_streams().await;
    let (lame_duck, window) = drain();
    let settings = || {
        Settings::open()
            .on(&nats.url())
            .line(&format!("drain: {{lame_duck: {lame_duck}s, window: {window}s}}"))
            .line("namespaces: {open: {history: {messages: 1000}}}")
    };
    let mut nodes = Vec::new();
    for _ in 0..3 {
        nodes.push(Gateway::start(settings()).await);
    }
    let balancer = Balancer::start(nodes.iter().map(|node| node.client).collect()).await;
    let stage = Arc::new(Stage {
        balancer: balancer.address,
        live: AtomicUsize::new(0),
        dials: Mutex::default(),
        away: Mutex::default(),
        over: AtomicBool::new(false),
    });
    let mut clients = JoinSet::new();
    while clients.len() < crowd() {
        for number in clients.len()..crowd().min(clients.len() + BATCH) {
            clients.spawn(Client::new(&stage, number).run());
        }
        stage.until_all_are_live(clients.len()).await;
    }
    let mut publishers = JoinSet::new();
    for topic in 0..topics() {
        let stage = Arc::clone(&stage);
        publishers.spawn(async move { (topic, publish(stage, topic).await) });
    }
    let began = Instant::now();

    for _ in 0..3 {
        let old = nodes.remove(0);
        let here = old.count("connections").await;
        stage.dials.lock().expect("nobody panics here").clear();
        stage.away.lock().expect("nobody panics here").clear();
        if way == Way::Told {
            nodes.push(Gateway::start(settings()).await);
            balancer.add(nodes[2].client);
            told(old, &balancer, here, &stage).await;
        } else {
            killed(old, &balancer, here, &stage).await;
            nodes.push(Gateway::start(settings()).await);
            balancer.add(nodes[2].client);
        }
    }

    stage.over.store(true, Ordering::Relaxed);
    let all = seen(clients, publishers).await;
    println!("{} clients on {} topics, {:?}", crowd(), topics(), began.elapsed());
    assert_eq!((all.lost, all.twice, all.gaps), (0, 0, 0));
    if way == Way::Told {
        assert_eq!(all.closes.get(&1006), None, "{:?}", all.closes);
    }
}

/// What all have seen together, when everybody has the end of its Topic.
async fn seen(
    mut clients: JoinSet<(usize, Seen)>,
    mut publishers: JoinSet<(usize, (u64, u64))>,
) -> Seen {
    let (mut published, mut for_nothing) = (vec![0; topics()], 0);
    while let Some(ended) = publishers.join_next().await {
        let (topic, (count, tries)) = ended.expect("a publisher");
        published[topic] = count;
        for_nothing += tries;
    }
    let (mut all, mut delivered) = (Seen::default(), 0);
    while let Some(client) = clients.join_next().await {
        let (topic, seen) = client.expect("a client that was served");
        all.lost += seen.lost + published[topic].saturating_sub(seen.next);
        all.twice += seen.twice;
        all.gaps += seen.gaps;
        delivered += seen.next;
        for (status, count) in seen.closes {
            *all.closes.entry(status).or_default() += count;
        }
    }
    println!(
        "{} published, {for_nothing} tries for nothing, {delivered} delivered; lost {}, twice {}, \
         gaps {}, closes {:?}",
        published.iter().sum::<u64>(),
        all.lost,
        all.twice,
        all.gaps,
        all.closes
    );
    all
}

/// A node is told to go; those who are there go elsewhere, in no second more than twice as many as if
/// they went evenly.
async fn told(mut old: Gateway, balancer: &Balancer, here: u64, stage: &Stage) {
    let began = Instant::now();
    old.signal("TERM");
    until("it is not ready", SOON, || async {
        old.health("ready").await.is_some_and(|health| health["ok"] == false)
    })
    .await;
    balancer.remove(old.client);
    let (lame_duck, window) = drain();
    let limit = Duration::from_secs(u64::from(lame_duck + window)) + SOON;
    assert_eq!(old.ended(limit).await, Some(0), "{}", old.log());
    let mut seconds = BTreeMap::<u64, u32>::new();
    for dial in stage.dials.lock().expect("nobody panics here").iter() {
        *seconds.entry(dial.duration_since(began).as_secs()).or_default() += 1;
    }
    let dials: u32 = seconds.values().sum();
    let even = here as f64 / f64::from(window);
    let most = f64::from(seconds.values().max().copied().unwrap_or(0));
    println!(
        "{here} were told; dials: {dials}, {most} in a second at the most, {even:.1} if even, {:.2} x; \
         each second: {:?}",
        most / even,
        seconds.values().collect::<Vec<_>>()
    );
    assert!(u64::from(dials) >= here, "{dials} of {here} went elsewhere");
    // As it is said of a machine of its own.
    assert!(most <= even * size(20.0, 2.0), "{most} in a second");
}

/// A node is killed; those who were there come back elsewhere.
async fn killed(old: Gateway, balancer: &Balancer, here: u64, stage: &Stage) {
    old.signal("KILL");
    pass(NOTICE).await;
    balancer.remove(old.client);
    let back = || stage.away.lock().expect("nobody panics here").len() as u64 >= here;
    until("who was there is live elsewhere", LIVE, || async { back() }).await;
    stage.until_all_are_live(crowd()).await;
    let mut away = stage.away.lock().expect("nobody panics here").clone();
    away.sort_unstable();
    let part = |percent: usize| away[(away.len() - 1) * percent / 100];
    println!(
        "{here} lost their node; live elsewhere: 50 % after {:?}, 99 % after {:?}, all after {:?}; \
         {} dials",
        part(50),
        part(99),
        part(100),
        stage.dials.lock().expect("nobody panics here").len()
    );
    assert!(part(99) <= size(LIVE, Duration::from_secs(5)), "{:?}", part(99));
}
