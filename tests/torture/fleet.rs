//! The processes of a run: servers of NATS, gateways, and a proxy on every edge between them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, timeout};

use super::world::World;
use crate::harness::proxy::Weather;
use crate::harness::{Gateway, Grants, Nats, Proxy, Settings, until};

/// A balancer asks so often whether a node is ready, and waits so long for the answer.
const PROBE_EVERY: Duration = Duration::from_millis(500);
const PROBE: Duration = Duration::from_secs(1);
/// So many probes without an answer, and nobody is sent there any more.
const PROBES_FAILED_MAX: u32 = 2;
/// A server of NATS that comes back is whole again within this.
const WHOLE: Duration = Duration::from_secs(30);
/// Nothing is left of anybody after this.
const GONE: Duration = Duration::from_secs(60);
/// What everybody may listen to, who reads it or not.
pub(crate) const HOT: &str = "live.hot";
/// The stream of the kept Namespace.
pub(crate) const STREAM: &str = "TIDEGATE_dash";
/// Lame ducks go as fast as they may.
const SERVER: &str = "lame_duck_duration: \"30s\"
lame_duck_grace_period: \"1s\"
";

/// How large a run is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Servers of NATS: 3, or none, where the Bus is in memory.
    pub(crate) servers: usize,
    pub(crate) nodes: usize,
    pub(crate) drain: &'static str,
    /// What a gateway keeps in memory of a kept Namespace; what is older it reads from history.
    pub(crate) ring_items: usize,
}

/// What may be left of who was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// Feeds, which linger for 30 s. That is waited for in full size alone.
    Feeds,
    Nothing,
}

/// One gateway, which may be gone.
pub(crate) struct Node {
    pub(crate) gateway: Option<Gateway>,
    /// Between it and each server of NATS.
    links: Vec<Proxy>,
    /// Descriptors, subscriptions on NATS, and resident bytes, before anybody came.
    base: (usize, u64, u64),
    /// What it had logged when it was killed.
    last_words: String,
    _edge: Proxy,
}

/// All processes.
pub(crate) struct Fleet {
    pub(crate) shape: Shape,
    pub(crate) world: Arc<World>,
    pub(crate) servers: Vec<Nats>,
    names: Vec<String>,
    pub(crate) nodes: Vec<Node>,
    probes: JoinSet<()>,
}

impl Fleet {
    pub(crate) async fn start(shape: Shape, world: Arc<World>) -> Self {
        let servers = match shape.servers {
            0 => Vec::new(),
            _ => Nats::hidden_cluster_with_streams(SERVER).await,
        };
        let mut names = Vec::new();
        for server in &servers {
            let name = server.varz().await["server_name"].as_str().expect("a name").to_owned();
            names.push(name);
        }
        let nodes = Vec::new();
        let mut fleet = Self { shape, world, servers, names, nodes, probes: JoinSet::new() };
        for _ in 0..shape.nodes {
            fleet.add().await;
        }
        fleet
    }

    fn settings(&self, links: &[Proxy]) -> Settings {
        let anonymous = Grants { subscribe: vec![HOT.to_owned()], ..Grants::default() };
        let settings = Settings { anonymous, ..Settings::default() };
        let settings = settings
            .line(&format!("node: n{}", self.nodes.len()))
            .line(&format!("drain: {}", self.shape.drain))
            .limit(&format!("ring_items: {}", self.shape.ring_items));
        let kept =
            |more: &str| format!("namespaces: {{dash: {{history: {{messages: 100{more}}}}}}}");
        if links.is_empty() {
            return settings.line(&kept(""));
        }
        let urls: Vec<String> =
            links.iter().map(|link| format!("nats://{}", link.address)).collect();
        settings.line(&kept(", replicas: 3")).on(&urls.join(","))
    }

    /// Starts one more gateway; gives its number.
    pub(crate) async fn add(&mut self) -> usize {
        let mut links = Vec::new();
        for server in &self.servers {
            links.push(Proxy::start(server.client).await);
        }
        // Each has another server in front.
        let turn = self.nodes.len() % links.len().max(1);
        links.rotate_left(turn);
        let gateway = Gateway::start(self.settings(&links)).await;
        let edge = Proxy::start(gateway.client).await;
        // Nobody comes until it is probed.
        let node = self.world.door.add(edge.address);
        let interest = self.settled_interest(node).await;
        let base = (gateway.descriptors(), interest, gateway.resident_bytes());
        self.probes.spawn(probe(Arc::clone(&self.world), node, gateway.management));
        let last_words = String::new();
        self.nodes.push(Node { gateway: Some(gateway), links, base, last_words, _edge: edge });
        node
    }

    /// Subscriptions that a new node has on NATS, once there are no more to come.
    async fn settled_interest(&self, node: usize) -> u64 {
        let mut last = self.interest(node).await;
        loop {
            drop(timeout(2 * PROBE_EVERY, std::future::pending::<()>()).await);
            let now = self.interest(node).await;
            if now == last {
                return now;
            }
            last = now;
        }
    }

    /// Subscriptions that a node has on NATS.
    async fn interest(&self, node: usize) -> u64 {
        let mut sum = 0;
        for server in &self.servers {
            for one in server.gateways().await {
                let name = one["name"].as_str().unwrap_or_default();
                if name.split(' ').any(|word| word.starts_with(&format!("n{node}-"))) {
                    sum += one["subscriptions"].as_u64().unwrap_or(0);
                }
            }
        }
        sum
    }

    /// Numbers of the gateways that run.
    pub(crate) fn running(&self) -> Vec<usize> {
        let all = self.nodes.iter().enumerate();
        all.filter(|(_, node)| node.gateway.is_some()).map(|(at, _)| at).collect()
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        if let Some(gateway) = node.gateway.take() {
            gateway.signal("KILL");
            node.last_words = gateway.log();
        }
    }

    /// Lets it go on its own; gives the number that it ends with.
    pub(crate) async fn leave(&mut self, node: usize, limit: Duration) -> Option<i32> {
        let node = &mut self.nodes[node];
        let mut gateway = node.gateway.take()?;
        gateway.signal("TERM");
        let ended = gateway.ended(limit).await;
        node.last_words = gateway.log();
        ended
    }

    /// What the weather is between a gateway and all servers of NATS.
    pub(crate) fn weather(&self, node: usize, weather: Weather) {
        for link in &self.nodes[node].links {
            link.set(weather);
        }
    }

    /// What all have logged.
    pub(crate) fn logs(&self) -> BTreeMap<String, String> {
        let log = |node: &Node| {
            node.gateway.as_ref().map_or_else(|| node.last_words.clone(), Gateway::log)
        };
        let nodes = self.nodes.iter().enumerate();
        let nodes = nodes.map(|(at, node)| (format!("n{at}"), log(node)));
        let servers = self.servers.iter().enumerate();
        nodes.chain(servers.map(|(at, one)| (format!("nats{at}"), one.log()))).collect()
    }

    /// Asks a server of NATS that runs.
    pub(crate) async fn api(&self, subject: &str, body: Value) -> Value {
        let deadline = Instant::now() + WHOLE;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        while Instant::now() < deadline {
            for server in self.servers.iter().filter(|server| server.runs()) {
                let asked = async {
                    let client = async_nats::connect(server.url()).await.ok()?;
                    let subject = format!("$JS.API.{subject}");
                    let answer = client.request(subject, body.clone().into()).await.ok()?;
                    serde_json::from_slice(&answer.payload).ok()
                };
                if let Ok(Some(answer)) = timeout(Duration::from_secs(3), asked).await {
                    return answer;
                }
            }
        }
        panic!("no server answers {subject}");
    }

    /// The server that leads the stream.
    pub(crate) async fn leader(&self) -> usize {
        let deadline = Instant::now() + WHOLE;
        while Instant::now() < deadline {
            let info = self.api(&format!("STREAM.INFO.{STREAM}"), Value::Null).await;
            let name = info["cluster"]["leader"].as_str().unwrap_or_default();
            if let Some(leader) = self.names.iter().position(|other| other == name) {
                return leader;
            }
        }
        panic!("the stream has no leader");
    }

    /// Waits until every server is whole, with all that it stores.
    pub(crate) async fn until_whole(&self) {
        for server in &self.servers {
            until("the server of NATS is whole", WHOLE, || server.is_well()).await;
        }
    }

    /// I7: what a gateway takes of memory, and what it may take.
    pub(crate) async fn memory(&self) -> Vec<(usize, u64, u64)> {
        let mut all = Vec::new();
        for at in self.running() {
            let node = &self.nodes[at];
            let gateway = node.gateway.as_ref().expect("it runs");
            let connections = gateway.count("connections").await;
            // Base, the rings of one kept Namespace, Connections, and what was queued in the storm.
            let may = node.base.2 + (16 << 20) + connections * 2_560 + (32 << 20);
            all.push((at, gateway.resident_bytes(), may));
        }
        all
    }

    /// I8: what is left of who was there, in words; nothing, if nothing is.
    pub(crate) async fn left_behind(&self, may: Left) -> Vec<String> {
        let mut left = Vec::new();
        let deadline = Instant::now() + GONE;
        for at in self.running() {
            let node = &self.nodes[at];
            let gateway = node.gateway.as_ref().expect("it runs");
            loop {
                let words = self.remains(at, node, gateway, may).await;
                if words.is_empty() {
                    break;
                }
                if Instant::now() > deadline {
                    left.extend(words);
                    break;
                }
                drop(timeout(PROBE_EVERY, std::future::pending::<()>()).await);
            }
        }
        left
    }

    async fn remains(&self, at: usize, node: &Node, gateway: &Gateway, may: Left) -> Vec<String> {
        let mut words = Vec::new();
        let status = gateway.status().await;
        for gauge in ["connections", "subscriptions", "patterns"] {
            if status[gauge] != 0 {
                words.push(format!("n{at}: {gauge} is {}", status[gauge]));
            }
        }
        let (descriptors, interest, _) = node.base;
        let now = gateway.descriptors();
        if now > descriptors + 5 {
            words.push(format!("n{at}: {now} descriptors, {descriptors} before"));
        }
        let now = self.interest(at).await;
        if may == Left::Nothing && now != interest {
            words.push(format!("n{at}: {now} subscriptions on NATS, {interest} before"));
        }
        words
    }
}

/// Asks a node again and again whether it wants clients.
async fn probe(world: Arc<World>, node: usize, management: SocketAddr) {
    let mut turns = interval(PROBE_EVERY);
    let mut failed = 0;
    let http = reqwest::Client::builder().timeout(PROBE).build().expect("a client");
    loop {
        turns.tick().await;
        let answer = http.get(format!("http://{management}/health/ready")).send().await;
        match answer {
            Ok(answer) => {
                failed = 0;
                world.door.set(node, answer.status().is_success());
            }
            // Nobody is there.
            Err(fault) if fault.is_connect() => world.door.set(node, false),
            Err(_) => {
                failed += 1;
                if failed >= PROBES_FAILED_MAX {
                    world.door.set(node, false);
                }
            }
        }
    }
}

/// Waits for a moment of the run.
pub(crate) async fn at(world: &World, moment: u64) {
    let left = moment.saturating_sub(world.now());
    drop(timeout(Duration::from_millis(left), std::future::pending::<()>()).await);
}
