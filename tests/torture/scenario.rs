//! What is done to the world, by name. Each does its fault at a moment, heals it at another, and writes
//! down what it did.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, interval, timeout};

use super::fleet::{Fleet, HOT, STREAM, at};
use super::log::{Fault, Ms};
use super::rng::Rng;
use crate::harness::proxy::Weather;
use crate::harness::raw::Raw;
use crate::harness::{Gateway, Grants, until};

/// All of them, with what they do, and for how long where that is up to them.
pub(crate) const SCENARIOS: [(&str, &str, Ms); 16] = [
    ("calm", "nothing, for comparison", 15_000),
    ("gateway-killed", "F1: kill -9 of a gateway", 15_000),
    ("leader-killed", "F3: kill -9 of the stream's leader", 15_000),
    ("two-killed", "F4: kill -9 of two of three servers of NATS, the leader among them", 15_000),
    ("all-killed", "F5: kill -9 of all servers of NATS, with file storage", 15_000),
    ("lame-duck", "F6: a rolling lame duck of NATS", 15_000),
    ("black-hole", "F7: 20 s of black hole between a gateway and NATS", 20_000),
    ("deaf", "F7: 20 s in which a gateway hears nothing of NATS", 20_000),
    ("mute", "F7: 20 s in which NATS hears nothing of a gateway", 20_000),
    ("slow-readers", "F9: clients of a hot Topic that read nothing", 15_000),
    ("gateway-stopped", "F10: SIGSTOP of a gateway for 12 s", 12_000),
    ("stream-recreated", "F13: the stream is deleted and made anew", 15_000),
    ("stream-purged", "F13: the stream is purged, a third of the clients being away", 15_000),
    ("overrun", "F13: retention overruns a third of the clients, being away", 15_000),
    ("overflow", "a queue from NATS overflows on every gateway", 15_000),
    ("rolling", "F14: SIGTERM of each gateway in turn, with another in its place", 15_000),
];

/// What every gateway's queue shall overflow with: more than three times what it holds.
const FLOOD: u32 = 60_000;
const FLOOD_TOPICS: u32 = 1_000;
/// Times that it is tried.
const FLOODS: u32 = 4;
/// After so many, one is acknowledged.
const FLOOD_BATCH: u32 = 500;
/// Of a hot Topic.
const HOT_BYTES: usize = 16 * 1_024;
const HOT_EVERY: Duration = Duration::from_millis(25);
/// Who reads nothing is gone within this.
const SLOW_ARE_GONE: Duration = Duration::from_secs(25);
/// A node that leaves is gone within this.
const LEFT: Duration = Duration::from_secs(65);
/// A server of NATS in its lame duck is gone within this.
const DUCK_IS_GONE: Duration = Duration::from_secs(40);

/// A run's faults, while they are done.
pub(crate) struct Storm<'a> {
    pub(crate) fleet: &'a mut Fleet,
    pub(crate) faults: Vec<Fault>,
    pub(crate) rng: Rng,
    /// What was seen to be wrong.
    pub(crate) seen: Vec<(&'static str, String)>,
    /// Clients that read nothing, where some are wanted.
    pub(crate) slow_readers: usize,
}

impl Storm<'_> {
    /// Does one scenario, from one moment of the run to another if that is up to it.
    pub(crate) async fn play(&mut self, name: &str, from: Ms, until: Ms) {
        at(&self.fleet.world, from).await;
        // What came before it may have taken longer.
        let until = until + self.fleet.world.now().saturating_sub(from);
        match name {
            "calm" => {}
            "gateway-killed" => self.gateway_killed(until).await,
            "leader-killed" => self.servers_killed(1, until).await,
            "two-killed" => self.servers_killed(2, until).await,
            "all-killed" => self.servers_killed(3, until).await,
            "lame-duck" => self.lame_duck().await,
            "black-hole" => self.weather(Weather::BlackHole, until).await,
            "deaf" => self.weather(Weather::Half, until).await,
            "mute" => self.weather(Weather::Unheard, until).await,
            "slow-readers" => self.slow_readers().await,
            "gateway-stopped" => self.gateway_stopped(until).await,
            "stream-recreated" => self.stream_recreated().await,
            "stream-purged" => self.stream_purged(until).await,
            "overrun" => self.overrun(until).await,
            "overflow" => self.overflow().await,
            "rolling" => self.rolling().await,
            _ => panic!("no such scenario: {name}"),
        }
    }

    /// Begins to write down a fault.
    fn begins(&self, what: impl Into<String>) -> Fault {
        let now = self.fleet.world.now();
        Fault { what: what.into(), from: now, until: now, ..Fault::default() }
    }

    fn heals(&mut self, mut fault: Fault) {
        fault.until = self.fleet.world.now();
        self.faults.push(fault);
    }

    fn any_node(&mut self) -> usize {
        let running = self.fleet.running();
        self.rng.pick(&running)
    }

    async fn gateway_killed(&mut self, until: Ms) {
        let node = self.any_node();
        let fault = Fault { cuts: vec![node], ..self.begins(format!("kill -9 of n{node}")) };
        // The history of a Bus in memory goes with its node.
        let destroys = self.fleet.servers.is_empty();
        let fault = Fault { destroys, halts: destroys, ..fault };
        self.fleet.kill(node);
        at(&self.fleet.world, until).await;
        self.fleet.add().await;
        self.heals(fault);
    }

    async fn servers_killed(&mut self, count: usize, until: Ms) {
        let leader = self.fleet.leader().await;
        let all = self.fleet.servers.len();
        let turn = 1 + self.rng.index(2);
        let which: Vec<usize> = (0..count).map(|at| (leader + at * turn) % all).collect();
        let mut fault = self.begins(format!("kill -9 of NATS {which:?}, leader {leader}"));
        fault.halts = count > 1;
        if count == all {
            fault.blinds = self.fleet.running();
        }
        for server in &which {
            self.fleet.servers[*server].kill();
        }
        at(&self.fleet.world, until).await;
        for server in &which {
            self.fleet.servers[*server].launch();
        }
        self.fleet.until_whole().await;
        self.heals(fault);
    }

    async fn lame_duck(&mut self) {
        let fault = Fault { unseen: true, ..self.begins("lame duck of each server of NATS") };
        for server in 0..self.fleet.servers.len() {
            self.fleet.servers[server].signal("USR2");
            self.fleet.servers[server].gone(DUCK_IS_GONE).await;
            self.fleet.servers[server].launch();
            self.fleet.until_whole().await;
        }
        self.heals(fault);
    }

    async fn weather(&mut self, weather: Weather, until: Ms) {
        let node = self.any_node();
        let what = format!("{weather:?} between n{node} and NATS");
        let fault = Fault { blinds: vec![node], ..self.begins(what) };
        self.fleet.weather(node, weather);
        at(&self.fleet.world, until).await;
        self.fleet.weather(node, Weather::Pass);
        self.heals(fault);
    }

    async fn gateway_stopped(&mut self, until: Ms) {
        let node = self.any_node();
        let fault = Fault { freezes: vec![node], ..self.begins(format!("SIGSTOP of n{node}")) };
        self.signal(node, "STOP");
        at(&self.fleet.world, until).await;
        self.signal(node, "CONT");
        self.heals(fault);
    }

    fn signal(&self, node: usize, name: &str) {
        self.fleet.nodes[node].gateway.as_ref().expect("it runs").signal(name);
    }

    /// Deleted, and made anew by an operator or by whoever misses it.
    async fn stream_recreated(&mut self) {
        let by_operator = self.rng.percent(50);
        let info = self.fleet.api(&format!("STREAM.INFO.{STREAM}"), Value::Null).await;
        let what = format!("the stream is deleted; made anew by an operator: {by_operator}");
        let fault = Fault { destroys: true, halts: true, ..self.begins(what) };
        let answer = self.fleet.api(&format!("STREAM.DELETE.{STREAM}"), Value::Null).await;
        assert_eq!(answer["success"], true, "{answer}");
        if by_operator {
            let moment = self.fleet.world.now() + self.rng.between(0, 2_000);
            at(&self.fleet.world, moment).await;
            self.fleet.api(&format!("STREAM.CREATE.{STREAM}"), info["config"].clone()).await;
        }
        let fleet = &*self.fleet;
        until("the stream is there again", Duration::from_secs(60), || async {
            let info = fleet.api(&format!("STREAM.INFO.{STREAM}"), Value::Null).await;
            info["config"]["name"] == STREAM
        })
        .await;
        self.heals(fault);
    }

    async fn stream_purged(&mut self, until: Ms) {
        let now = self.fleet.world.now();
        self.fleet.world.order(|orders| orders.away = true);
        at(&self.fleet.world, (now + until) / 2).await;
        let fault = Fault { destroys: true, ..self.begins("the stream is purged") };
        let answer = self.fleet.api(&format!("STREAM.PURGE.{STREAM}"), Value::Null).await;
        assert_eq!(answer["success"], true, "{answer}");
        at(&self.fleet.world, until).await;
        self.fleet.world.order(|orders| orders.away = false);
        self.heals(fault);
    }

    async fn overrun(&mut self, until: Ms) {
        let fault = self.begins("retention overruns a third of the clients");
        self.fleet.world.order(|orders| (orders.away, orders.hasty) = (true, true));
        at(&self.fleet.world, until).await;
        self.fleet.world.order(|orders| (orders.away, orders.hasty) = (false, false));
        self.heals(fault);
    }

    /// Every gateway stands still while more is published than its queue holds, until each has lost some:
    /// one that takes up what came as fast as it comes loses nothing.
    async fn overflow(&mut self) {
        let running = self.fleet.running();
        let mut full = 0;
        for _ in 0..FLOODS {
            self.flood(&running).await;
            let moment = self.fleet.world.now() + 5_000;
            at(&self.fleet.world, moment).await;
            let logs = self.fleet.logs();
            let is_full =
                |node: &&usize| logs[&format!("n{node}")].contains("A queue from NATS was full");
            full = running.iter().filter(is_full).count();
            if full == running.len() {
                return;
            }
        }
        self.seen.push(("overflow", format!("it overflowed on {full} gateways alone")));
    }

    async fn flood(&mut self, nodes: &[usize]) {
        let what = format!("{FLOOD} messages while all gateways stand still");
        let fault = Fault { freezes: nodes.to_vec(), halts: true, ..self.begins(what) };
        for node in nodes {
            self.signal(*node, "STOP");
        }
        let url = self.fleet.servers[0].url();
        let client = async_nats::connect(url).await.expect("NATS takes a client");
        for number in 0..FLOOD {
            let subject = format!("tidegate.in.dash.flood.of.t{}", number % FLOOD_TOPICS);
            let payload = json!({"n": number, "g": "-", "end": false}).to_string();
            if number % FLOOD_BATCH == 0 {
                // Who is behind catches up; whether it is stored matters to nobody.
                drop(client.request(subject, payload.into()).await);
            } else {
                client.publish(subject, payload.into()).await.expect("it is sent");
            }
        }
        client.flush().await.expect("it is sent");
        for node in nodes {
            self.signal(*node, "CONT");
        }
        self.heals(fault);
    }

    /// Another one comes before each that goes.
    async fn rolling(&mut self) {
        for node in self.fleet.running() {
            self.fleet.add().await;
            let what = format!("SIGTERM of n{node}");
            let fault = Fault { drains: vec![node], ..self.begins(what) };
            let ended = self.fleet.leave(node, LEFT).await;
            if ended != Some(0) {
                self.seen.push(("F14", format!("n{node} ended with {ended:?}")));
            }
            self.heals(fault);
        }
    }

    /// They fill up, are closed, and leave nothing behind; nobody else notices.
    async fn slow_readers(&mut self) {
        let fault = self.begins(format!("{} slow readers", self.slow_readers));
        let mut slow = Vec::new();
        let mut before = 0;
        for node in self.fleet.running() {
            let edge = self.gateway(node).client;
            before += self.gateway(node).count("slow_consumers").await;
            for _ in 0..self.slow_readers / self.fleet.running().len() {
                slow.push(Raw::small(edge).subscribe(HOT).await);
            }
        }
        let token = Gateway::token("hot", &Grants::all(&[HOT]));
        let payload = format!("\"{}\"", "x".repeat(HOT_BYTES));
        let mut turns = interval(HOT_EVERY);
        let deadline = Instant::now() + SLOW_ARE_GONE;
        let due = before + slow.len() as u64;
        let mut gone = before;
        while gone < due && Instant::now() < deadline {
            turns.tick().await;
            let (_, address) = self.fleet.world.door.ready(&mut self.rng)[0];
            let url = format!("http://{address}/v1/topics/{HOT}/messages");
            let request = self.fleet.world.http.post(url).bearer_auth(&token);
            // Whether it is taken shows by who is gone.
            drop(timeout(SLOW_ARE_GONE, request.body(payload.clone()).send()).await);
            gone = 0;
            for node in self.fleet.running() {
                gone += self.gateway(node).count("slow_consumers").await;
            }
        }
        if gone < due {
            self.seen.push(("F9", format!("{} of {} slow readers stay", due - gone, slow.len())));
        }
        self.heals(fault);
    }

    fn gateway(&self, node: usize) -> &Gateway {
        self.fleet.nodes[node].gateway.as_ref().expect("it runs")
    }
}
