//! The scenarios, each a function that starts a fresh server (or two, with a broker between them) and
//! a fresh load client and returns what it measured. It also says what went wrong: a fast server that
//! drops is not fast. Knows nothing of goals and tables.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::client::{Group, Plan, Report};
use crate::clock::{self, Deadline};
use crate::contender::{self, Contender, Kind, Place, Server};
use crate::fleet::Fleet;
use crate::measure::{self, Cpu};
use crate::nats::{Backend, Nats};
use crate::publisher::{Item, Publisher, payload};
use crate::{Fallible, table::Metric};

/// Above this share of a core the load client is what is measured, and the run is void.
const CLIENT_SHARE_MAX: f64 = 0.6;
/// Without a delivery for so long, what is missing is lost.
const QUIET_TIMEOUT: Duration = Duration::from_secs(5);
const PAYLOAD_BYTES: usize = 128;
const TOPIC: &str = "bench.x";
/// What each client missed that resumes.
const MISSED: u64 = 100;

#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Scenario {
    Memory,
    Broadcast,
    Burst,
    Tick,
    Sparse,
    Stalled,
    Heartbeats,
    Nodes,
    Resume,
    Feed,
    Writes,
}

/// How large: the real thing, or small enough to try a change.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    Full,
    Quick,
}

/// A measured value; `apart` is its user and system part where it has them.
pub(crate) struct Sample {
    pub(crate) metric: Metric,
    pub(crate) value: f64,
    pub(crate) apart: Option<(f64, f64)>,
}

/// What one scenario gave for one contender in one round.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) samples: Vec<Sample>,
    /// Lost, twice, out of order, closed, void: in words.
    pub(crate) faults: Vec<String>,
    /// Something was lost, came twice or out of order, or a reader was closed.
    pub(crate) broken: bool,
    /// The load client's share of a core, where a pace was set.
    pub(crate) share: Option<f64>,
}

impl Scenario {
    pub(crate) const ALL: [Self; 11] = [
        Self::Memory,
        Self::Broadcast,
        Self::Burst,
        Self::Tick,
        Self::Sparse,
        Self::Stalled,
        Self::Heartbeats,
        Self::Nodes,
        Self::Resume,
        Self::Feed,
        Self::Writes,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Broadcast => "broadcast",
            Self::Burst => "burst",
            Self::Tick => "tick",
            Self::Sparse => "sparse",
            Self::Stalled => "stalled",
            Self::Heartbeats => "heartbeats",
            Self::Nodes => "nodes",
            Self::Resume => "resume",
            Self::Feed => "feed",
            Self::Writes => "writes",
        }
    }

    /// Whether a broker is needed.
    pub(crate) fn wants_broker(self) -> bool {
        matches!(self, Self::Nodes | Self::Feed)
    }

    /// Whether `kind` can play it: two nodes take what speaks to a broker, a resume what keeps a
    /// history; so far Centrifugo plays nothing but the nodes.
    pub(crate) fn suits(self, kind: Kind) -> bool {
        match kind {
            Kind::Floor | Kind::Bun => !matches!(self, Self::Nodes | Self::Resume | Self::Feed),
            Kind::Centrifugo => self == Self::Nodes,
            Kind::Tidegate => true,
        }
    }

    /// Plays it once; `broker` stands between nodes.
    pub(crate) fn run(
        self,
        contender: &Contender,
        scale: Scale,
        broker: Option<&Nats>,
    ) -> Fallible<Outcome> {
        match self {
            Self::Memory => memory(contender, scale),
            Self::Broadcast => broadcast(contender, scale),
            Self::Burst => burst(contender, scale),
            Self::Tick => tick(contender, scale),
            Self::Sparse => sparse(contender, scale),
            Self::Stalled => stalled(contender, scale),
            Self::Heartbeats => heartbeats(contender, scale),
            Self::Nodes => nodes(contender, scale, broker.ok_or("there is no broker")?),
            Self::Resume => resume(contender, scale),
            Self::Feed => feed(contender, scale, broker.ok_or("there is no broker")?),
            Self::Writes => writes(contender),
        }
    }
}

impl Scale {
    fn pick<T>(self, full: T, quick: T) -> T {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }
}

impl Outcome {
    fn add(&mut self, metric: Metric, value: f64) {
        self.samples.push(Sample { metric, value, apart: None });
    }

    /// CPU microseconds per delivery.
    fn add_cpu(&mut self, metric: Metric, cpu: Cpu, deliveries: u64) {
        let each = 1e6 / (deliveries.max(1) as f64);
        let apart = Some((cpu.user * each, cpu.system * each));
        self.samples.push(Sample { metric, value: cpu.sum() * each, apart });
    }

    /// What the client saw go wrong. `expected`: deliveries since its start.
    fn check(&mut self, report: &Report, expected: u64) {
        let missing = expected.saturating_sub(report.deliveries);
        let surplus = report.deliveries.saturating_sub(expected);
        for (count, what) in [
            (missing, "lost"),
            (surplus, "too many"),
            (report.lost, "skipped"),
            (report.twice, "twice"),
            (report.backwards, "out of order"),
            (report.closed, "connections closed"),
        ] {
            if count > 0 {
                self.broken = true;
                let trouble = report.trouble.as_deref().unwrap_or("nothing was said");
                self.faults.push(format!("{count} {what} ({trouble})"));
            }
        }
    }

    /// Whether each client was told, each time, that nothing is missing.
    fn check_promised(&mut self, report: &Report, expected: u64) {
        if report.promised != expected {
            self.broken = true;
            let trouble = report.trouble.as_deref().unwrap_or("nothing was said");
            let promised = report.promised;
            self.faults.push(format!("{promised} of {expected} were told of all ({trouble})"));
        }
    }

    /// A fast server that drops is not fast.
    fn void_if_broken(&mut self) {
        if self.broken {
            self.samples.clear();
            self.faults.push("void: not everything came once and in order".to_owned());
        }
    }

    /// Void if the load client had too much to do at the pace it was set.
    fn check_share(&mut self, report: &Report) {
        let share = report.share();
        self.share = Some(self.share.unwrap_or_default().max(share));
        if share > CLIENT_SHARE_MAX {
            self.samples.clear();
            self.faults.push(format!("void: the load client used {:.0} % of a core", share * 1e2));
        }
    }

    /// Whether the pace was kept.
    fn check_rate(&mut self, rate: f64, wanted: f64) {
        if rate < 0.95 * wanted {
            self.faults.push(format!("only {rate:.0} of {wanted} messages per second went out"));
        }
    }
}

/// A server, its load client, and a publisher.
struct Stage {
    publisher: Publisher,
    fleet: Fleet,
    /// Where the clients are.
    server: Server,
    /// Where is published, if that is another node.
    door: Option<Server>,
    /// Published so far, and so the next number.
    n: u64,
    expected: u64,
    receivers: u64,
}

impl Stage {
    /// One Topic, `connections` that all have it.
    fn one_topic(
        contender: &Contender,
        connections: usize,
        stalled_every: usize,
    ) -> Fallible<Self> {
        let group = Group { url: url(&[TOPIC.to_owned()]), hello: None, topics: 1, connections };
        let healthy = connections - connections.checked_div(stalled_every).unwrap_or_default();
        Self::open(contender, vec![group], stalled_every, healthy)
    }

    /// Two nodes: one has all clients, at the other is published.
    fn two_nodes(contender: &Contender, connections: usize, broker: &Nats) -> Fallible<Self> {
        let url_of_broker = broker.url();
        let door = Server::start(contender, Place::Beside(&url_of_broker))?;
        let server = Server::start(contender, Place::Beside(&url_of_broker))?;
        let (url, hello) = match contender.kind {
            Kind::Centrifugo => {
                let (connect, subscribe) = (r#"{"id":1,"connect":{}}"#, r#"{"id":2,"subscribe":"#);
                let hello = format!("{connect}\n{subscribe}{{\"channel\":\"{TOPIC}\"}}}}");
                ("/connection/websocket".to_owned(), Some(hello))
            }
            Kind::Floor | Kind::Tidegate | Kind::Bun => (url(&[TOPIC.to_owned()]), None),
        };
        let group = Group { url, hello, topics: 1, connections };
        Self::fill(server, Some(door), vec![group], 0, connections)
    }

    fn open(
        contender: &Contender,
        groups: Vec<Group>,
        stalled_every: usize,
        receivers: usize,
    ) -> Fallible<Self> {
        let server = Server::start(contender, Place::Alone)?;
        Self::fill(server, None, groups, stalled_every, receivers)
    }

    fn fill(
        server: Server,
        door: Option<Server>,
        groups: Vec<Group>,
        stalled_every: usize,
        receivers: usize,
    ) -> Fallible<Self> {
        let acknowledgement = match server.kind {
            Kind::Tidegate => Some(r#""type":"subscribed""#.to_owned()),
            Kind::Centrifugo => Some(r#""subscribe":{"#.to_owned()),
            Kind::Floor | Kind::Bun => None,
        };
        let plan = Plan {
            targets: vec![server.listen],
            groups,
            acknowledgement,
            promise: format!(r#""recovered":true,"replayed":{MISSED},"more":false"#),
            lines: server.kind == Kind::Centrifugo,
            stalled_every,
            receivers: u32::try_from(receivers)?,
            handshakes_per_second: 4_000.0,
        };
        let fleet = Fleet::open(&plan)
            .map_err(|error| format!("{error}; server: {}", server.log_tail()))?;
        let publisher = Publisher::connect(door.as_ref().unwrap_or(&server))?;
        let receivers = u64::try_from(receivers)?;
        Ok(Self { publisher, fleet, server, door, n: 0, expected: 0, receivers })
    }

    /// Of all its nodes.
    fn cpu(&self) -> Fallible<Cpu> {
        let mut cpu = measure::cpu(self.server.pid())?;
        if let Some(door) = &self.door {
            cpu = cpu.and(measure::cpu(door.pid())?);
        }
        Ok(cpu)
    }

    fn rss_kib(&self) -> Fallible<f64> {
        measure::rss_kib(self.server.pid())
    }

    /// Publishes `count` messages to the one Topic as one request.
    fn publish_batch(&mut self, count: u64, bytes: usize) -> Fallible<()> {
        let messages: Vec<Item<'_>> = (self.n..self.n + count)
            .map(|n| Item { topic: TOPIC, data: payload(n, 0, bytes) })
            .collect();
        self.n += count;
        self.expected += count * self.receivers;
        self.publisher.publish_batch(&messages)
    }

    /// Publishes `count` messages to the one Topic, one request each, evenly spaced.
    fn publish_paced(&mut self, count: u64, every: Duration, bytes: usize) -> Fallible<()> {
        let mut at = clock::elapsed();
        for _ in 0..count {
            clock::sleep_until(at);
            at += every;
            let data = payload(self.n, 0, bytes);
            self.n += 1;
            self.expected += self.receivers;
            self.publisher.publish(&Item { topic: TOPIC, data })?;
        }
        clock::sleep_until(at);
        Ok(())
    }

    /// Returns when everything has been delivered, or nothing has come for a while.
    fn wait(&mut self) -> Fallible<Report> {
        let mut seen = None;
        loop {
            let report = self.fleet.wait(self.expected, QUIET_TIMEOUT)?;
            if report.deliveries >= self.expected || seen == Some(report.deliveries) {
                return Ok(report);
            }
            seen = Some(report.deliveries);
        }
    }
}

fn url(topics: &[String]) -> String {
    let query: Vec<String> = topics.iter().map(|topic| format!("topic={topic}")).collect();
    format!("/v1/connect?{}", query.join("&"))
}

/// Resident memory over several sizes: idle, and after a burst of 20 x 1 KiB and 5 s of quiet.
fn memory(contender: &Contender, scale: Scale) -> Fallible<Outcome> {
    let sizes = scale.pick([2_000, 8_000, 16_000], [1_000, 2_000, 4_000]);
    let mut outcome = Outcome::default();
    let (mut idle, mut after, mut kernel) = (Vec::new(), Vec::new(), Vec::new());
    for size in sizes.map(contender::connections_at_most) {
        let kernel_before = measure::tcp_memory_kib()?;
        let mut stage = Stage::one_topic(contender, size, 0)?;
        outcome.add(Metric::Start, stage.server.ready_after.as_secs_f64() * 1e3);
        clock::sleep(Duration::from_secs(2));
        idle.push((size as f64, stage.rss_kib()?));
        stage.publish_batch(20, 1024)?;
        let report = stage.wait()?;
        clock::sleep(Duration::from_secs(5));
        after.push((size as f64, stage.rss_kib()?));
        kernel.push((size as f64, measure::tcp_memory_kib()? - kernel_before));
        outcome.check(&report, stage.expected);
    }
    outcome.add(Metric::Idle, measure::slope(&idle));
    outcome.add(Metric::AfterBurst, measure::slope(&after));
    outcome.add(Metric::Kernel, measure::slope(&kernel));
    if let Some(megabytes) = contender.megabytes() {
        outcome.add(Metric::Binary, megabytes);
    }
    Ok(outcome)
}

/// One Topic, 1,000 subscribers, 20 messages per second.
fn broadcast(contender: &Contender, scale: Scale) -> Fallible<Outcome> {
    let mut outcome = Outcome::default();
    let mut stage = Stage::one_topic(contender, 1_000, 0)?;
    let every = Duration::from_millis(50);
    stage.publish_paced(20, every, PAYLOAD_BYTES)?;
    let before = stage.wait()?.deliveries;
    stage.fleet.mark()?;
    let cpu = stage.cpu()?;
    stage.publish_paced(scale.pick(200, 100), every, PAYLOAD_BYTES)?;
    let report = stage.wait()?;
    let cpu = stage.cpu()?.since(cpu);
    outcome.add_cpu(Metric::Broadcast, cpu, report.deliveries - before);
    outcome.add(Metric::BroadcastP50, report.p50_micros as f64 / 1e3);
    outcome.add(Metric::BroadcastP99, report.p99_micros as f64 / 1e3);
    outcome.add(Metric::BroadcastLast, report.last_p99_micros as f64 / 1e3);
    outcome.check(&report, stage.expected);
    outcome.check_share(&report);
    Ok(outcome)
}

/// 1,000 messages to 1,000 in one batch; then 2,000 in batches of 100.
fn burst(contender: &Contender, scale: Scale) -> Fallible<Outcome> {
    let mut outcome = Outcome::default();
    let mut stage = Stage::one_topic(contender, 1_000, 0)?;
    stage.publish_batch(20, PAYLOAD_BYTES)?;
    stage.wait()?;
    for (metric, repeats, batches, count) in
        [(Metric::Burst, scale.pick(4, 2), 1, 1_000), (Metric::Batches, scale.pick(2, 1), 20, 100)]
    {
        stage.fleet.mark()?;
        let before = stage.expected;
        let cpu = stage.cpu()?;
        for _ in 0..repeats {
            for _ in 0..batches {
                stage.publish_batch(count, PAYLOAD_BYTES)?;
            }
            stage.wait()?;
        }
        let spent = stage.cpu()?.since(cpu);
        let delivered = stage.fleet.report()?.deliveries;
        outcome.add_cpu(metric, spent, delivered.saturating_sub(before));
    }
    let report = stage.fleet.report()?;
    outcome.add(Metric::BurstClosed, report.closed as f64);
    outcome.check(&report, stage.expected);
    Ok(outcome)
}

/// 20 Topics that each of 1,000 clients has, all published in one batch.
struct Dashboard {
    stage: Stage,
    topics: Vec<String>,
}

impl Dashboard {
    fn open(contender: &Contender) -> Fallible<Self> {
        let topics: Vec<String> = (0..20).map(|topic| format!("bench.tick.{topic}")).collect();
        let group =
            Group { url: url(&topics), hello: None, topics: topics.len(), connections: 1_000 };
        Ok(Self { stage: Stage::open(contender, vec![group], 0, 0)?, topics })
    }

    fn tick(&mut self, ticks: u64, every: Duration) -> Fallible<Report> {
        let mut at = clock::elapsed();
        for _ in 0..ticks {
            clock::sleep_until(at);
            at += every;
            let messages: Vec<Item<'_>> = self
                .topics
                .iter()
                .enumerate()
                .map(|(k, topic)| Item { topic, data: payload(self.stage.n, k, PAYLOAD_BYTES) })
                .collect();
            self.stage.n += 1;
            self.stage.expected += 20 * 1_000;
            self.stage.publisher.publish_batch(&messages)?;
        }
        clock::sleep_until(at);
        self.stage.wait()
    }
}

/// The dashboard ticks ten times a second.
fn tick(contender: &Contender, scale: Scale) -> Fallible<Outcome> {
    let mut outcome = Outcome::default();
    let mut board = Dashboard::open(contender)?;
    let every = Duration::from_millis(100);
    let before = board.tick(10, every)?.deliveries;
    board.stage.fleet.mark()?;
    let cpu = board.stage.cpu()?;
    let report = board.tick(scale.pick(100, 30), every)?;
    let cpu = board.stage.cpu()?.since(cpu);
    outcome.add_cpu(Metric::Tick, cpu, report.deliveries - before);
    outcome.check(&report, board.stage.expected);
    outcome.check_share(&report);
    Ok(outcome)
}

/// Many Topics with ten subscribers each, 2,000 messages per second over four connections.
fn sparse(contender: &Contender, scale: Scale) -> Fallible<Outcome> {
    const PUBLISHERS: usize = 4;
    const PER_SECOND: u32 = 2_000;
    let mut outcome = Outcome::default();
    let count = scale.pick(1_000, 400);
    let topics: Vec<String> = (0..count).map(|topic| format!("bench.sparse.{topic}")).collect();
    let groups = topics
        .iter()
        .map(|topic| Group {
            url: url(std::slice::from_ref(topic)),
            hello: None,
            topics: 1,
            connections: 10,
        })
        .collect();
    let mut stage = Stage::open(contender, groups, 0, 0)?;
    let publishers = (0..PUBLISHERS)
        .map(|_| Publisher::connect(&stage.server))
        .collect::<Fallible<Vec<Publisher>>>()?;
    let seconds = scale.pick(10, 4);
    let every = Duration::from_secs(1) * u32::try_from(PUBLISHERS)? / PER_SECOND;
    let each = seconds * PER_SECOND / u32::try_from(PUBLISHERS)?;
    stage.fleet.mark()?;
    let cpu = stage.cpu()?;
    let started = clock::elapsed();
    // Each has Topics of its own, so that every Topic's numbers come from one hand, in order.
    std::thread::scope(|scope| {
        let mut threads = Vec::new();
        for (mut publisher, own) in publishers.into_iter().zip(topics.chunks(count / PUBLISHERS)) {
            threads.push(scope.spawn(move || -> Fallible<()> {
                let mut at = started;
                for (message, topic) in (0..each).zip(own.iter().cycle()) {
                    clock::sleep_until(at);
                    at += every;
                    let n = u64::from(message) / own.len() as u64;
                    let data = payload(n, 0, PAYLOAD_BYTES);
                    publisher.publish(&Item { topic, data })?;
                }
                Ok(())
            }));
        }
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| "a publisher's thread panicked")?)
    })?;
    let took = clock::elapsed() - started;
    let published = u64::from(each) * PUBLISHERS as u64;
    stage.expected = published * 10;
    let report = stage.wait()?;
    let cpu = stage.cpu()?.since(cpu);
    outcome.add_cpu(Metric::Sparse, cpu, report.deliveries);
    outcome.add(Metric::SparseP99, report.p99_micros as f64 / 1e3);
    outcome.check(&report, stage.expected);
    outcome.check_share(&report);
    let rate = published as f64 / took.as_secs_f64();
    outcome.check_rate(rate, f64::from(PER_SECOND));
    Ok(outcome)
}

/// The p99 of the healthy, with nobody and with one in twenty stalled. Each message is 4 KiB, so
/// that the stalled ones' sockets are full after seconds. The median over windows of a second: one
/// hiccup of a neighbour is more than 1 % of a whole run.
fn stalled(contender: &Contender, scale: Scale) -> Fallible<Outcome> {
    let mut outcome = Outcome::default();
    let without = healthy(contender, scale, 0, &mut outcome)?;
    let with = healthy(contender, scale, 20, &mut outcome)?;
    outcome.add(Metric::HealthyP99, without.p99_millis);
    outcome.add(Metric::StalledP99, with.p99_millis);
    outcome.add(Metric::StalledRatio, with.p99_millis / without.p99_millis.max(0.001));
    outcome.add(Metric::StalledGrowth, with.growth_mib - without.growth_mib);
    outcome.add(Metric::StalledKernel, with.kernel_growth_mib - without.kernel_growth_mib);
    let busier = if with.last.share() > without.last.share() { with } else { without };
    outcome.check_share(&busier.last);
    Ok(outcome)
}

/// What the healthy had of it.
struct Healthy {
    p99_millis: f64,
    growth_mib: f64,
    kernel_growth_mib: f64,
    /// Of the last window.
    last: Report,
}

fn healthy(
    contender: &Contender,
    scale: Scale,
    stalled_every: usize,
    outcome: &mut Outcome,
) -> Fallible<Healthy> {
    const BYTES: usize = 4096;
    let every = Duration::from_millis(50);
    let mut stage = Stage::one_topic(contender, 1_000, stalled_every)?;
    stage.publish_paced(20, every, BYTES)?;
    let mut last = stage.wait()?;
    let (user, kernel) = (stage.rss_kib()?, measure::tcp_memory_kib()?);
    let mut windows = Vec::new();
    for _ in 0..scale.pick(15, 6) {
        stage.fleet.mark()?;
        stage.publish_paced(20, every, BYTES)?;
        last = stage.wait()?;
        windows.push(last.p99_micros as f64 / 1e3);
    }
    outcome.check(&last, stage.expected);
    Ok(Healthy {
        p99_millis: measure::median(&windows).unwrap_or_default().0,
        growth_mib: (stage.rss_kib()? - user) / 1024.0,
        kernel_growth_mib: (measure::tcp_memory_kib()? - kernel) / 1024.0,
        last,
    })
}

/// CPU of a server that only keeps idle connections alive. Two whole periods of 25 s: any other
/// window holds more pings of one contender than of the next.
fn heartbeats(contender: &Contender, scale: Scale) -> Fallible<Outcome> {
    let mut outcome = Outcome::default();
    let connections = contender::connections_at_most(scale.pick(18_000, 4_000));
    let mut stage = Stage::one_topic(contender, connections, 0)?;
    clock::sleep(Duration::from_secs(3));
    let window = Duration::from_secs(scale.pick(50, 25));
    let pings = stage.fleet.mark()?.pings;
    let cpu = stage.cpu()?;
    clock::sleep(window);
    let report = stage.fleet.report()?;
    let cpu = stage.cpu()?.since(cpu);
    let share = 100.0 / window.as_secs_f64();
    outcome.samples.push(Sample {
        metric: Metric::Heartbeats,
        value: cpu.sum() * share,
        apart: Some((cpu.user * share, cpu.system * share)),
    });
    let pings = (report.pings - pings) as f64 / connections as f64;
    outcome.add(Metric::Pings, pings * 25.0 / window.as_secs_f64());
    outcome.check(&report, 0);
    outcome.check_share(&report);
    Ok(outcome)
}

/// Messages per second between two nodes, and what is measured at each pace: CPU, p50, p99, and p50
/// and p99 to the last subscriber.
const PACES: [(u32, [Metric; 5]); 2] = [
    (
        20,
        [
            Metric::Nodes,
            Metric::NodesP50,
            Metric::NodesP99,
            Metric::NodesLastP50,
            Metric::NodesLastP99,
        ],
    ),
    (
        50,
        [
            Metric::Nodes50,
            Metric::Nodes50P50,
            Metric::Nodes50P99,
            Metric::Nodes50LastP50,
            Metric::Nodes50LastP99,
        ],
    ),
];

/// One Topic, 1,000 subscribers on one node, published on another, with a broker between them.
fn nodes(contender: &Contender, scale: Scale, broker: &Nats) -> Fallible<Outcome> {
    let mut outcome = Outcome::default();
    let mut stage = Stage::two_nodes(contender, 1_000, broker)?;
    stage.publish_paced(20, Duration::from_millis(50), PAYLOAD_BYTES)?;
    let mut report = stage.wait()?;
    for (per_second, [cpu_each, p50, p99, last_p50, last_p99]) in PACES {
        let seconds = scale.pick(10, 3);
        let (count, every) = (per_second * seconds, Duration::from_secs(1) / per_second);
        let before = report.deliveries;
        stage.fleet.mark()?;
        let (cpu, started) = (stage.cpu()?, clock::elapsed());
        stage.publish_paced(u64::from(count), every, PAYLOAD_BYTES)?;
        let rate = f64::from(count) / (clock::elapsed() - started).as_secs_f64();
        report = stage.wait()?;
        let cpu = stage.cpu()?.since(cpu);
        outcome.add_cpu(cpu_each, cpu, report.deliveries - before);
        for (metric, micros) in [
            (p50, report.p50_micros),
            (p99, report.p99_micros),
            (last_p50, report.last_p50_micros),
            (last_p99, report.last_p99_micros),
        ] {
            outcome.add(metric, micros as f64 / 1e3);
        }
        outcome.check_share(&report);
        outcome.check_rate(rate, f64::from(per_second));
    }
    outcome.check(&report, stage.expected);
    outcome.void_if_broken();
    Ok(outcome)
}

/// 1,000 clients that all missed the same 100 messages of a kept Namespace, and ask for them at once.
/// Again and again, with a Topic of its own each time; a client's numbers go on from one to the next.
/// One who holds all Topics has everything live, before the others ask.
fn resume(contender: &Contender, scale: Scale) -> Fallible<Outcome> {
    const CLIENTS: usize = 1_000;
    let repeats = scale.pick(20, 5);
    let holder =
        Group { url: url(&["bench.resume.**".to_owned()]), hello: None, topics: 1, connections: 1 };
    let quiet = [TOPIC.to_owned()];
    let clients = Group { url: url(&quiet), hello: None, topics: 1, connections: CLIENTS };
    let server = Server::start(contender, Place::Keeping)?;
    let mut stage = Stage::fill(server, None, vec![holder, clients], 0, 0)?;
    let mut outcome = Outcome::default();
    let (mut spent, mut deliveries) = (Cpu::default(), 0);
    // Of a Topic that nobody has.
    stage.publisher.publish(&Item { topic: "bench.before", data: "0".to_owned() })?;
    for repeat in 0..repeats {
        let cursor = stage.publisher.cursor().ok_or("no Cursor was answered")?;
        let topic = format!("bench.resume.{repeat}");
        let messages: Vec<Item<'_>> = (stage.n..stage.n + MISSED)
            .map(|n| Item { topic: &topic, data: payload(n, 0, PAYLOAD_BYTES) })
            .collect();
        stage.n += MISSED;
        stage.expected += MISSED;
        stage.publisher.publish_batch(&messages)?;
        let before = stage.wait()?.deliveries;
        let ask =
            format!(r#"{{"type":"subscribe","topic":"{topic}","from":{{"cursor":"{cursor}"}}}}"#);
        stage.expected += MISSED * CLIENTS as u64;
        stage.fleet.mark()?;
        let (cpu, started) = (stage.cpu()?, clock::elapsed());
        stage.fleet.say(1, &ask)?;
        let report = stage.wait()?;
        let took = clock::elapsed() - started;
        spent = spent.and(stage.cpu()?.since(cpu));
        deliveries += report.deliveries - before;
        outcome.add(Metric::Resume, took.as_secs_f64());
    }
    outcome.add_cpu(Metric::ResumeCpu, spent, deliveries);
    let report = stage.fleet.report()?;
    outcome.check(&report, stage.expected);
    outcome.check_promised(&report, repeats * CLIENTS as u64);
    outcome.void_if_broken();
    Ok(outcome)
}

/// What a node pays for each message of a kept Namespace that nobody there wants: a backend publishes
/// into the stream, and one client waits for another Topic. What that one gets last stands behind all.
fn feed(contender: &Contender, scale: Scale, broker: &Nats) -> Fallible<Outcome> {
    const EVERY: Duration = Duration::from_millis(10);
    const AT_ONCE: usize = 400;
    const TOPICS: usize = 100;
    let rounds: u64 = scale.pick(1_000, 200);
    let waits = [TOPIC.to_owned()];
    let waits = Group { url: url(&waits), hello: None, topics: 1, connections: 1 };
    let server = Server::start(contender, Place::Stream(&broker.url()))?;
    let mut stage = Stage::fill(server, None, vec![waits], 0, 1)?;
    let mut backend = Backend::connect(broker)?;
    let mut outcome = Outcome::default();
    stage.publish_batch(1, PAYLOAD_BYTES)?;
    stage.wait()?;
    let (cpu, mut at) = (stage.cpu()?, clock::elapsed());
    for round in 0..rounds {
        for n in 0..AT_ONCE {
            let topic = n % TOPICS;
            let number = round * AT_ONCE as u64 + n as u64;
            let subject = format!("tidegate.in.bench.loud.{topic}");
            backend.add(&subject, &payload(number, topic, PAYLOAD_BYTES))?;
        }
        backend.send()?;
        at += EVERY;
        clock::sleep_until(at);
    }
    backend.finish()?;
    // The node has closed a connection that was idle for so long.
    stage.publisher = Publisher::connect(&stage.server)?;
    stage.publish_batch(1, PAYLOAD_BYTES)?;
    let report = stage.wait()?;
    let cpu = stage.cpu()?.since(cpu);
    outcome.add_cpu(Metric::Feed, cpu, rounds * AT_ONCE as u64);
    outcome.check(&report, stage.expected);
    outcome.void_if_broken();
    Ok(outcome)
}

/// Writes per delivery, counted by strace, in runs of their own: it slows a server tenfold.
fn writes(contender: &Contender) -> Fallible<Outcome> {
    let mut outcome = Outcome::default();
    let mut stage = Stage::one_topic(contender, 1_000, 0)?;
    stage.publish_batch(20, PAYLOAD_BYTES)?;
    let before = stage.wait()?.deliveries;
    let trace = Trace::start(&stage.server)?;
    for _ in 0..20 {
        stage.publish_batch(100, PAYLOAD_BYTES)?;
    }
    let report = stage.wait()?;
    let written = trace.end()?;
    outcome.add(Metric::BurstWrites, written / (report.deliveries - before).max(1) as f64);
    outcome.check(&report, stage.expected);
    drop(stage);

    let mut board = Dashboard::open(contender)?;
    // Slower than in the scenario: under strace ten a second would melt into each other.
    let every = Duration::from_millis(500);
    let before = board.tick(2, every)?.deliveries;
    let trace = Trace::start(&board.stage.server)?;
    let report = board.tick(10, every)?;
    let written = trace.end()?;
    outcome.add(Metric::TickWrites, written / (report.deliveries - before).max(1) as f64);
    outcome.check(&report, board.stage.expected);
    Ok(outcome)
}

/// Whether writes can be counted here.
pub(crate) fn can_trace() -> bool {
    measure::first_line("strace".as_ref(), &["-V"]).is_some()
}

/// A running `strace -c`.
struct Trace {
    child: Child,
    summary: std::path::PathBuf,
}

impl Trace {
    /// Attaches to all threads of the server.
    fn start(server: &Server) -> Fallible<Self> {
        let summary = server.folder().join("strace");
        let said = server.folder().join("strace.err");
        let child = Command::new("strace")
            .args(["-c", "-f", "-p", &server.pid().to_string(), "-o"])
            .arg(&summary)
            .stdin(Stdio::null())
            .stderr(File::create(&said)?)
            .spawn()?;
        let mut trace = Self { child, summary };
        let deadline = Deadline::after(Duration::from_secs(5));
        while !std::fs::read_to_string(&said)?.contains("attached") {
            if deadline.passed() || trace.child.try_wait()?.is_some() {
                return Err(format!("strace: {}", std::fs::read_to_string(&said)?).into());
            }
            clock::sleep(Duration::from_millis(20));
        }
        clock::sleep(Duration::from_millis(200));
        Ok(trace)
    }

    /// Detaches; returns the calls that can carry frames to a socket.
    fn end(mut self) -> Fallible<f64> {
        let interrupt = format!("kill -INT {}", self.child.id());
        Command::new("sh").arg("-c").arg(interrupt).status()?;
        let deadline = Deadline::after(Duration::from_secs(10));
        while self.child.try_wait()?.is_none() {
            if deadline.passed() {
                return Err("strace does not end".into());
            }
            clock::sleep(Duration::from_millis(20));
        }
        Ok(count_writes(&std::fs::read_to_string(&self.summary)?))
    }
}

impl Drop for Trace {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sums the calls of the lines `% time, seconds, usecs/call, calls, errors?, syscall`.
fn count_writes(summary: &str) -> f64 {
    const WRITES: [&str; 7] =
        ["write", "writev", "send", "sendto", "sendmsg", "sendmmsg", "io_uring_enter"];
    summary
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .filter(|words| words.last().is_some_and(|name| WRITES.contains(name)))
        .filter_map(|words| words.get(3)?.parse::<f64>().ok())
        .sum()
}
