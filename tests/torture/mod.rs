//! Torture: real gateways, a real cluster of NATS, a proxy on every edge, and faults while hundreds of
//! clients listen and somebody publishes on every Topic.
//!
//! Everybody writes down what they did and got (`log`); when all is healed and read once more, the
//! judge (`judge`) compares. A small run with five faults in a row is part of every `make test`; `make
//! torture` is the full size: every scenario, `SEEDS` of each. `README.md` beside this file has the
//! commands and the results.

mod client;
mod fleet;
mod judge;
mod log;
mod publisher;
mod report;
#[path = "../simulation/rng.rs"]
pub(crate) mod rng;
mod scenario;
mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::Method;
use serde_json::Value;
use tidegate::topic::{Pattern, Topic as Name};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::harness::{Gateway, Grants, run, until};
use client::{Client, Plan, Want};
use fleet::{Fleet, Left, Shape, at};
use judge::Limits;
use log::{Ms, Run, Stored, Topic};
use publisher::Publisher;
use report::Artifact;
use rng::Rng;
use scenario::{SCENARIOS, Storm};
use world::World;

/// A publish is given up after this: later than any answer may come.
const ANSWER: Duration = Duration::from_secs(20);
/// All clients are live within this.
const LIVE: Duration = Duration::from_secs(60);
/// After the last heal everybody has the last of everything within this, and it is said so often.
const FINALS: u32 = 6;
const FINAL_EVERY: Duration = Duration::from_secs(5);
/// Whoever says the last has said it, or has lost its patience.
const SAID: Duration = Duration::from_secs(90);
/// No run takes longer beyond what it lasts.
const DEADLINE: Duration = Duration::from_secs(400);
/// As a node has them if nobody says anything, and smaller.
const DRAIN: &str = "{lame_duck: 5s, window: 45s}";
const DRAIN_SMALL: &str = "{lame_duck: 1s, window: 3s}";
const RING: usize = 16_384;
const RING_SMALL: usize = 256;
/// When a fault begins, in full size, and how long a run goes on after its last heal.
const FAULT: Ms = 15_000;
const AFTERWARDS: Ms = 20_000;
const AFTERWARDS_SMALL: Ms = 8_000;

/// One run, and how large it is.
struct Torture {
    name: &'static str,
    seed: u64,
    shape: Shape,
    clients: usize,
    kept: usize,
    best_effort: usize,
    per_second: u64,
    slow_readers: usize,
    limits: Limits,
    /// What is done, from when, until when, in ms of publishing.
    plays: Vec<(&'static str, Ms, Ms)>,
    /// How long is published, at least, and after the last heal.
    lasts: Ms,
    afterwards: Ms,
    /// Nothing is left of anybody after this.
    left: Left,
    command: String,
}

impl Torture {
    fn topics(&self) -> Vec<Topic> {
        let of = |namespace: &str, count: usize, kept: bool| {
            let one = |at: usize| {
                let group = if at.is_multiple_of(2) { 'a' } else { 'b' };
                Topic { name: format!("{namespace}.{group}.t{:02}", at / 2), kept, group }
            };
            (0..count).map(one).collect::<Vec<_>>()
        };
        [of("dash", self.kept, true), of("live", self.best_effort, false)].concat()
    }

    /// Runs it; gives the line to print, and what was not as promised.
    async fn run(self) -> (String, Vec<String>) {
        let words = format!("{} with seed {} is over in time", self.name, self.seed);
        let limit = DEADLINE + Duration::from_millis(self.lasts);
        timeout(limit, Box::pin(self.run_on())).await.unwrap_or_else(|_| panic!("{words}"))
    }

    async fn run_on(self) -> (String, Vec<String>) {
        let world = Arc::new(World::new(self.topics(), self.seed, ANSWER));
        let mut fleet = Fleet::start(self.shape, Arc::clone(&world)).await;
        let mut rng = Rng::new(self.seed, 1);
        let mut run = Run { topics: world.topics.clone(), ..Run::default() };

        let mut clients = JoinSet::new();
        for number in 0..self.clients {
            let (plan, groups) = plan(number, &world, &mut rng);
            run.groups.push(groups);
            clients.spawn(Client::new(Arc::clone(&world), plan).run());
        }
        let live = |count: usize| world.live.load(Ordering::Relaxed) == count;
        until("all clients are live", LIVE, || async { live(self.clients) }).await;

        let mut publishers = JoinSet::new();
        let every = Duration::from_millis(1_000 * world.topics.len() as u64 / self.per_second);
        for topic in 0..world.topics.len() {
            let grants = Grants::all(&[&world.topics[topic].name]);
            let publisher = Publisher {
                world: Arc::clone(&world),
                topic,
                token: Gateway::token(&format!("publisher-{topic}"), &grants),
                every,
                rng: Rng::new(self.seed, 100_000 + topic as u64),
            };
            publishers.spawn(publisher.run());
        }
        world.order(|orders| (orders.publish, orders.restless) = (true, true));
        let began = world.now();

        let mut storm = Storm {
            fleet: &mut fleet,
            faults: Vec::new(),
            rng: Rng::new(self.seed, 2),
            seen: Vec::new(),
            slow_readers: self.slow_readers,
        };
        for (name, from, until) in &self.plays {
            storm.play(name, began + from, began + until).await;
        }
        (run.faults, run.seen) = (storm.faults, storm.seen);
        let healed = run.faults.iter().map(|fault| fault.until).max().unwrap_or(began);
        at(&world, (healed + self.afterwards).max(began + self.lasts)).await;

        // Everything is healed, and everything is said and read once more.
        world.order(|orders| (orders.publish, orders.restless) = (false, false));
        run.published = (began, world.now());
        let mut finals = 0;
        for _ in 0..FINALS {
            finals += world.topics.len();
            world.order(|orders| orders.finals += 1);
            let done = async || world.done.load(Ordering::Relaxed) == self.clients;
            let all = until("everybody has the last", FINAL_EVERY * 2, done);
            let all = timeout(FINAL_EVERY, all).await;
            // Nobody speaks while it is read.
            let said = async || world.said.load(Ordering::Relaxed) == finals;
            until("every publisher has said the last", SAID, said).await;
            if all.is_ok() {
                break;
            }
        }
        run.stored = read_once_more(&fleet, &mut run.seen).await;
        for (node, takes, may) in fleet.memory().await {
            if takes > may {
                run.seen.push(("I7", format!("n{node} takes {takes} bytes of {may}")));
            }
        }
        world.order(|orders| orders.over = true);
        while let Some(log) = publishers.join_next().await {
            run.sent.extend(log.expect("a publisher that has written"));
        }
        while let Some(log) = clients.join_next().await {
            add(&mut run, log.expect("a client that has written"));
        }
        let left = fleet.left_behind(self.left).await;
        run.seen.extend(left.into_iter().map(|words| ("I8", words)));
        let logs = fleet.logs();
        let panicked = logs.iter().filter(|(_, log)| log.contains("panicked"));
        run.seen.extend(panicked.map(|(name, _)| ("I9", format!("{name} panicked"))));

        let verdict = judge::judge(&run, &self.limits);
        let artifact = Artifact {
            scenario: self.name,
            seed: self.seed,
            tidegate: env!("CARGO_PKG_VERSION"),
            nats: version(&fleet).await,
            clients: self.clients,
            command: self.command,
            faults: &run.faults,
            verdict: &verdict,
        };
        (artifact.write(&logs), verdict.words)
    }
}

/// Joins what a client has written to the rest.
fn add(run: &mut Run, log: client::Log) {
    let first = run.connections.len();
    run.connections.extend(log.connections);
    for mut subscription in log.subscriptions {
        for note in &mut subscription.notes {
            note.connection += first;
        }
        run.subscriptions.push(subscription);
    }
}

/// Reads every history on every node; they say the same.
async fn read_once_more(fleet: &Fleet, seen: &mut Vec<(&'static str, String)>) -> Vec<Stored> {
    let token = Gateway::token("reader", &Grants::all(&["dash.>"]));
    let mut all: Vec<Vec<Stored>> = Vec::new();
    for node in fleet.running() {
        let gateway = fleet.nodes[node].gateway.as_ref().expect("it runs");
        let mut stored = Vec::new();
        for (topic, one) in fleet.world.topics.iter().enumerate().filter(|(_, one)| one.kept) {
            let path = format!("/v1/topics/{}/messages?limit=1000", one.name);
            let answer = gateway.request(Method::GET, &path).bearer_auth(&token).send().await;
            let answer: Value = answer.expect("an answer").json().await.expect("JSON");
            let Some(items) = answer["items"].as_array() else {
                seen.push(("I10", format!("n{node} does not read {}: {answer}", one.name)));
                continue;
            };
            for item in items {
                let place = item["cursor"].as_str().and_then(publisher::place);
                let n = item["data"]["n"].as_u64().and_then(|n| u32::try_from(n).ok());
                let (Some(place), Some(n)) = (place, n) else {
                    seen.push(("I4", format!("n{node} has {item}, which nobody published")));
                    continue;
                };
                stored.push(Stored { topic, n, place });
            }
        }
        all.push(stored);
    }
    let words = |stored: &[Stored]| {
        stored.iter().map(|one| (one.topic, one.n, one.place)).collect::<Vec<_>>()
    };
    if all.iter().any(|stored| words(stored) != words(&all[0])) {
        let lengths: Vec<usize> = all.iter().map(Vec::len).collect();
        seen.push(("I1", format!("nodes read different histories: {lengths:?}")));
    }
    all.into_iter().next().unwrap_or_default()
}

async fn version(fleet: &Fleet) -> String {
    match fleet.servers.first() {
        Some(server) => server.varz().await["version"].as_str().unwrap_or_default().to_owned(),
        None => "none".to_owned(),
    }
}

/// What a client wants, and the groups that it is in.
fn plan(number: usize, world: &World, rng: &mut Rng) -> (Plan, String) {
    let groups = ["a", "b", "a", "b", "ab"][number % 5];
    let grants: Vec<String> = groups
        .chars()
        .flat_map(|group| [format!("dash.{group}.>"), format!("live.{group}.>")])
        .chain((groups.len() > 1).then(|| "*.*.*".to_owned()))
        .collect();
    let mut patterns = Vec::new();
    let group = rng.pick(&groups.chars().collect::<Vec<char>>());
    if number % 10 < 2 {
        // Some that overlap, too.
        patterns.push(format!("dash.{group}.>"));
    } else if number % 10 == 4 {
        patterns.push("dash.*.*".to_owned());
    }
    if number % 20 == 7 {
        patterns.push(format!("live.{group}.*"));
    }
    for (kept, count) in [(true, 2), (false, 1)] {
        let mine: Vec<&Topic> = world
            .topics
            .iter()
            .filter(|topic| topic.kept == kept && groups.contains(topic.group))
            .collect();
        if !kept && number % 20 == 7 || mine.is_empty() {
            continue;
        }
        for _ in 0..count {
            let one = &mine[rng.index(mine.len())].name;
            if !patterns.contains(one) {
                patterns.push(one.clone());
            }
        }
    }
    let wants = patterns.iter().map(|pattern| want(pattern, world)).collect();
    let spies_on = (groups.len() == 1 && number.is_multiple_of(7)).then(|| {
        let others = if groups == "a" { 'b' } else { 'a' };
        format!("dash.{others}.>")
    });
    let grants = Grants { subscribe: grants, ..Grants::default() };
    let token = Gateway::token(&format!("client-{number}"), &grants);
    let is_restless = rng.percent(20);
    (Plan { number, token, wants, spies_on, is_restless }, groups.to_owned())
}

fn want(pattern: &str, world: &World) -> Want {
    let pattern = Pattern::parse(pattern).expect("a Pattern");
    let matches = |topic: &Topic| pattern.matches(&Name::parse(&topic.name).expect("a Topic"));
    let topics = world.topics.iter().enumerate().filter(|(_, topic)| matches(topic));
    let topics = topics.map(|(at, _)| at).collect();
    Want { kept: pattern.namespace() == "dash", topics, pattern }
}

/// A number out of the environment.
fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// Runs one, in which no promise may be broken.
fn holds(torture: Torture) {
    run(async {
        let (line, words) = torture.run().await;
        println!("{line}");
        assert!(words.is_empty(), "{}", words.join("\n"));
    });
}

/// In every run five faults in a row, small: a reader that is slow, a gateway and a leader that are
/// killed, a black hole before NATS, and gateways that are replaced. Nothing is lost without a word,
/// nothing comes twice, out of order, or to whom it is not for. In full size that is
/// [`the_torture`].
#[test]
fn a_small_torture() {
    let small = Torture {
        name: "small",
        seed: number("SEED").unwrap_or(1),
        shape: Shape { servers: 3, nodes: 2, drain: DRAIN_SMALL, ring_items: RING },
        clients: 60,
        kept: 10,
        best_effort: 10,
        per_second: 40,
        slow_readers: 10,
        limits: Limits::BESIDE_OTHERS,
        plays: vec![
            ("slow-readers", 1_000, 1_000),
            ("gateway-killed", 2_000, 6_000),
            ("leader-killed", 9_000, 13_000),
            ("rolling", 16_000, 16_000),
            ("black-hole", 26_000, 42_000),
        ],
        lasts: 10_000,
        afterwards: AFTERWARDS_SMALL,
        left: Left::Feeds,
        command: "cargo test --test integration a_small_torture".to_owned(),
    };
    holds(small);
}

/// The same on one node and a Bus in memory: with the node its history goes, and everybody is told.
#[test]
fn a_small_torture_in_memory() {
    let small = Torture {
        name: "small-in-memory",
        seed: number("SEED").unwrap_or(1),
        shape: Shape { servers: 0, nodes: 1, drain: DRAIN_SMALL, ring_items: RING_SMALL },
        clients: 40,
        kept: 10,
        best_effort: 10,
        per_second: 40,
        slow_readers: 10,
        limits: Limits::BESIDE_OTHERS,
        plays: vec![
            ("slow-readers", 1_000, 1_000),
            ("gateway-killed", 6_000, 8_000),
            ("overrun", 12_000, 18_000),
        ],
        lasts: 10_000,
        afterwards: AFTERWARDS_SMALL,
        left: Left::Feeds,
        command: "cargo test --test integration a_small_torture_in_memory".to_owned(),
    };
    holds(small);
}

/// Every scenario in full size, or those that `SCENARIO` names, with seeds 1 to `SEEDS`, or `SEED`.
#[test]
#[ignore = "it takes hours: make torture"]
fn the_torture() {
    let wanted = std::env::var("SCENARIO").unwrap_or_default();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.split(',').any(|one| one == name);
    let seeds = match number("SEED") {
        Some(seed) => seed..=seed,
        None => 1..=number("SEEDS").unwrap_or(5),
    };
    let mut broken = Vec::new();
    for (name, what, lasts) in SCENARIOS.into_iter().filter(|(name, ..)| is_wanted(name)) {
        println!("{name}: {what}");
        for seed in seeds.clone() {
            let torture = Torture {
                name,
                seed,
                // From a small one who comes back has to read history.
                shape: Shape {
                    servers: 3,
                    nodes: 2,
                    drain: DRAIN,
                    ring_items: if seed.is_multiple_of(2) { RING } else { RING_SMALL },
                },
                clients: usize::try_from(number("CLIENTS").unwrap_or(500)).expect("a few"),
                kept: 50,
                best_effort: 50,
                per_second: 200,
                slow_readers: 200,
                limits: Limits::PROMISED,
                plays: vec![(name, FAULT, FAULT + lasts)],
                lasts: 60_000,
                afterwards: AFTERWARDS,
                left: Left::Nothing,
                command: format!("make torture SCENARIO={name} SEED={seed}"),
            };
            run(async {
                let (line, words) = torture.run().await;
                println!("  {line}");
                for words in &words {
                    println!("    {words}");
                }
                if !words.is_empty() {
                    broken.push(format!("{name} {seed}"));
                }
            });
        }
    }
    assert!(broken.is_empty(), "broken: {broken:?}");
}
