//! One seed: nodes on one model Bus, clients that come and go, and everything that can go wrong.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tidegate::auth::{Claims, Grants, Token, Who};
use tidegate::feed::{self, Directory, Feeds, ShardId};
use tidegate::namespace::{self, History, Namespaces};
use tidegate::protocol::frame::{Ask, Limits, Secret, Wanted};
use tidegate::protocol::{Close, Command, From};
use tidegate::publication::Timestamp;
use tidegate::session::{self, Handshake, Input, Moment, Now, limits::Rate};
use tidegate::topic::{Pattern, Topic};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::bus::{Road, World, lock, pass};
use crate::client::{Client, Line, Subscription};
use crate::faults::{Blind, Fault, Faults};
use crate::judge;
use crate::rng::Rng;
use crate::shard::{Frame, Rules, Shard};

/// Steps of a whole seed.
pub(crate) const STEPS: u32 = 220;
/// Clients look at what they have got this often, at least.
const SLICE: Duration = Duration::from_millis(50);
/// After all faults have healed.
const CALM: Duration = Duration::from_secs(60);
const CLEAN: Duration = Duration::from_secs(60);
/// Subscriptions of one client.
const SUBSCRIPTIONS: usize = 4;

const TOPICS: [&str; 8] = ["k.a", "k.b", "k.c.x", "k.c.y", "q.a", "q.b", "b.a", "b.c.x"];
const PATTERNS: [&str; 11] =
    ["k.>", "k.*", "k.a", "k.b", "k.c.>", "k.c.x", "q.>", "q.a", "b.>", "b.a", "b.c.>"];
const GRANTS: [&[&str]; 4] = [
    &["k.>", "q.>", "b.>"],
    &["k.>", "q.>", "b.>"],
    &["k.a", "k.c.>", "b.>", "q.a"],
    &["k.*", "k.c.x", "q.>"],
];

/// What is run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Case {
    pub(crate) seed: u64,
    /// Faults begin and clients act so often.
    pub(crate) steps: u32,
    /// Faults that may be.
    pub(crate) allowed: Faults,
    /// Faults that are, whatever the seed says.
    pub(crate) forced: Option<Faults>,
    pub(crate) blind: Option<Blind>,
}

/// How it went.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) faults: Faults,
    /// A number that is the same if everything that clients saw was the same.
    pub(crate) trace: u64,
    pub(crate) frames: u64,
}

struct Node {
    shards: Vec<Shard>,
    /// Until when each of them does nothing.
    busy: Vec<Instant>,
}

struct Simulation {
    case: Case,
    faults: Faults,
    rng: Rng,
    /// When nodes drain, and how long they take.
    drains: Rng,
    begun: Instant,
    world: Arc<Mutex<World>>,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    directories: JoinSet<()>,
    trace: u64,
    frames: u64,
    events: usize,
    /// Events that a Shard takes at a time.
    batch: usize,
}

/// Runs one case to its end. The error is what should never be.
pub(crate) async fn run(case: Case) -> Result<Outcome, String> {
    let mut simulation = Simulation::new(case);
    simulation.live().await?;
    simulation.heal().await?;
    simulation.judge()?;
    simulation.leave().await?;
    let Simulation { faults, trace, frames, .. } = simulation;
    Ok(Outcome { faults, trace, frames })
}

impl Simulation {
    fn new(case: Case) -> Self {
        let mut rng = Rng::new(case.seed, 1);
        let drawn = Faults::drawn(&mut rng);
        let faults = case.forced.unwrap_or(drawn.with(Fault::Drain)).and(case.allowed);
        let tight = faults.has(Fault::Tight);
        let mut some = |tight_ones: &[usize], wide: usize| {
            let drawn = rng.pick(tight_ones);
            if tight { drawn } else { wide }
        };
        let messages = some(&[1, 3, 10, 100, 100], 200);
        let age = some(&[2, 10, 600, 600, 600], 600);
        let outbox_bytes = some(&[3_000, 6_000, 20_000], 100_000);
        let rules = History {
            messages: u32::try_from(messages).unwrap(),
            age: Duration::from_secs(age as u64),
            max_bytes: 1 << 30,
            ..History::default()
        };
        let config = feed::Config {
            linger: Duration::from_secs(some(&[1, 5, 30], 10) as u64),
            ring_items: some(&[1, 4, 16, 200], 1_000),
            part_items: some(&[1, 3, 10, 50], 1_000),
            part_bytes: outbox_bytes * 3 / 8,
            read_bytes: some(&[1, 10_000, 64 << 20], 64 << 20),
            snapshot_topics: some(&[2, 100], 1_024),
            attaches_waiting: some(&[1, 5, 1_000], 20_000),
            position: Duration::from_secs(some(&[1, 5, 25], 25) as u64),
            feeds: some(&[3, 100, 100], 1_000),
            seed: case.seed,
            ..feed::Config::default()
        };
        let shard_attaches = some(&[1, 3, 100], 20_000);
        let kept = ["k", "q"];
        let named = kept.map(|name| {
            let rules = namespace::Config { history: Some(rules.clone()), ..Default::default() };
            (name.to_owned(), rules)
        });
        let namespaces = Arc::new(Namespaces::new(BTreeMap::from(named), false));
        let config = feed::Config { namespaces: Arc::clone(&namespaces), ..config };
        let (nodes, shards) = (rng.between(1, 3), rng.between(1, 2));
        let (clients, inbox) = (rng.between(2, 6), rng.pick(&[1, 2, 4, 16, 64]));
        let inbox = if faults.has(Fault::SlowShard) { inbox } else { 4_096 };
        let batch = rng.index(inbox.min(64)) + 1;
        let nodes_count = usize::try_from(nodes).unwrap();
        let world = World::new(
            case.seed,
            faults,
            case.blind,
            kept.map(|name| (name, rules.clone())),
            nodes_count,
        );
        crate::seeds::tell(|| format!("{config:?} {rules:?} {faults:?} inbox {inbox}"));
        let begun = Instant::now();
        let mut simulation = Self {
            case,
            faults,
            rng,
            drains: Rng::new(case.seed, 3),
            begun,
            world: Arc::new(Mutex::new(world)),
            nodes: Vec::new(),
            clients: Vec::new(),
            directories: JoinSet::new(),
            trace: 0,
            frames: 0,
            events: 0,
            batch: if faults.has(Fault::SlowShard) { batch } else { 4_096 },
        };
        let rules = Rc::new(Rules {
            session: session_config(namespaces),
            outbox_bytes,
            attaches_waiting: shard_attaches,
            blind: case.blind,
        });
        for node in 0..nodes_count {
            simulation.open_node(node, shards, inbox, &config, &rules);
        }
        for _ in 0..clients {
            let claims = claims(0);
            let forgetful = case.blind == Some(Blind::Duplicates);
            simulation.clients.push(Client::new(claims, forgetful));
        }
        simulation
    }

    fn open_node(
        &mut self,
        node: usize,
        shards: u64,
        inbox: usize,
        config: &feed::Config,
        rules: &Rc<Rules>,
    ) {
        let now = self.now();
        let (feeds, asks) = Feeds::channel();
        let (mut inboxes, mut all) = (Vec::new(), Vec::new());
        for id in 0..u16::try_from(shards).unwrap() {
            let (sender, receiver) = mpsc::channel(inbox);
            inboxes.push(sender);
            all.push(Shard::new(ShardId(id), Rc::clone(rules), feeds.clone(), receiver, now));
        }
        let road = Road { node, world: Arc::clone(&self.world) };
        let seed = config.seed.wrapping_add(node as u64);
        let config = feed::Config { seed, ..config.clone() };
        self.directories.spawn(Directory::new(config, road, asks, inboxes).run());
        let busy = vec![Instant::now(); all.len()];
        self.nodes.push(Node { shards: all, busy });
    }

    fn now(&self) -> Now {
        let since = u64::try_from(self.begun.elapsed().as_millis()).unwrap();
        Now { moment: Moment(since), wall: Timestamp(1_790_000_000_000 + since) }
    }

    // The time in which things go wrong.

    async fn live(&mut self) -> Result<(), String> {
        for _ in 0..self.case.steps {
            let span = match self.rng.below(100) {
                0..55 => self.rng.below(5),
                55..85 => self.rng.between(5, 100),
                85..97 => self.rng.between(100, 1_500),
                97..99 => self.rng.between(1_500, 6_000),
                _ => self.rng.between(6_000, 14_000),
            };
            self.go_on(Duration::from_millis(span)).await?;
            self.act();
            if self.faults.has(Fault::Drain) && self.drains.percent(3) {
                self.drain();
            }
            self.work()?;
        }
        Ok(())
    }

    /// A node sends its clients elsewhere, and stays: whoever comes meanwhile is taken.
    fn drain(&mut self) {
        let node = self.drains.index(self.nodes.len());
        let window = Duration::from_millis(self.drains.between(500, 8_000));
        crate::seeds::tell(|| format!("{:?} {node} drains for {window:?}", self.begun.elapsed()));
        let now = self.now();
        for shard in &mut self.nodes[node].shards {
            shard.tell_time(now);
            shard.drain(window);
        }
    }

    /// Lets time pass, in which Shards and clients do what they do.
    async fn go_on(&mut self, span: Duration) -> Result<(), String> {
        let until = Instant::now() + span;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let slice = if span > SLICE * 20 { SLICE * 4 } else { SLICE };
            pass(left.min(slice)).await;
            self.work()?;
            if Instant::now() >= until {
                return Ok(());
            }
        }
    }

    fn act(&mut self) {
        let client = self.rng.index(self.clients.len());
        match self.rng.below(100) {
            0..52 => self.publish(),
            52..62 => self.come(client),
            62..74 => self.subscribe(client),
            74..78 => self.unsubscribe(client),
            78..82 => self.part(client),
            82..84 => self.dial_elsewhere(client),
            84..86 => self.stall(client),
            86..88 => self.renew(client),
            _ => self.fault(),
        }
    }

    fn publish(&mut self) {
        let many = if self.rng.percent(8) { self.rng.between(5, 40) } else { 1 };
        let (hot, size) = (self.rng.pick(&TOPICS), self.rng.pick(&[0, 1, 1, 1, 10, 300]));
        for _ in 0..many {
            let topic = if self.rng.percent(60) { hot } else { self.rng.pick(&TOPICS) };
            let payload = match size {
                0 => Bytes::new(),
                size => Bytes::from(format!("\"{}\"", "x".repeat(size))),
            };
            lock(&self.world).publish(&Topic::parse(topic).unwrap(), payload);
        }
    }

    fn fault(&mut self) {
        let (node, kind) = (self.rng.index(self.nodes.len()), self.rng.pick(Fault::DRAWN));
        let namespace = self.rng.pick(&["k", "k", "q"]);
        let (short, long) = (self.rng.between(1, 1_000), self.rng.between(200, 15_000));
        let shard = self.rng.index(self.nodes[node].shards.len());
        if !self.faults.has(kind) {
            return;
        }
        crate::seeds::tell(|| {
            format!("{:?} {kind:?} at {node}, {namespace}", self.begun.elapsed())
        });
        let mut world = lock(&self.world);
        match kind {
            Fault::RoadEnds => world.end_roads(node),
            Fault::Outage => world.cut_off(node, Duration::from_millis(long)),
            Fault::Wipe => world.wipe(namespace),
            Fault::GoBack => world.go_back(namespace),
            Fault::Burst => world.burst(namespace),
            Fault::SlowShard => {
                self.nodes[node].busy[shard] = Instant::now() + Duration::from_millis(short);
            }
            _ => {}
        }
    }

    // What clients do.

    fn come(&mut self, client: usize) {
        let (node, shard) = self.somewhere();
        if self.clients[client].lines.is_empty() && self.clients[client].away_until.is_none() {
            self.connect(client, node, shard);
        }
    }

    fn somewhere(&mut self) -> (usize, usize) {
        let node = self.rng.index(self.nodes.len());
        (node, self.rng.index(self.nodes[node].shards.len()))
    }

    fn connect(&mut self, client: usize, node: usize, shard: usize) {
        let one = &mut self.clients[client];
        if let Some(claims) = one.renews.take() {
            one.claims = claims;
        }
        let handshake =
            Handshake { token: Some(Token::new("token".to_owned())), ..Handshake::default() };
        let key = self.nodes[node].shards[shard].connect(Arc::clone(&one.claims), handshake);
        one.lines.push(Line::new(node, shard, key));
        let moves = one.lines.len() > 1;
        let wanted: Vec<usize> = (0..one.subscriptions.len()).collect();
        for index in wanted {
            self.ask(client, index, moves);
        }
    }

    /// Asks for a Subscription on the newest Connection, from where it is.
    fn ask(&mut self, client: usize, index: usize, moves: bool) {
        let now = Instant::now();
        let one = &mut self.clients[client];
        let Some(line) = one.lines.last_mut() else {
            return;
        };
        let subscription = &mut one.subscriptions[index];
        if subscription.ended || subscription.leaves || line.knows(index) {
            return;
        }
        let begins = subscription.begins();
        line.ask(index, moves);
        subscription.asked_at = Some(now);
        subscription.retry_at = None;
        {
            let mut world = lock(&self.world);
            subscription.asked_in = world.truth.rewrites;
            subscription.values = match begins {
                From::Last => newest(&mut world, &subscription.pattern),
                _ => std::mem::take(&mut subscription.values),
            };
        }
        let wanted = Wanted {
            topic: subscription.pattern.as_str().to_owned(),
            from: Ok(begins),
            max_hz: false,
        };
        let (node, shard, key) = (line.node, line.shard, line.key);
        crate::seeds::tell(|| {
            format!(
                "{:?} client {client} at {node}/{shard} asks for {wanted:?}",
                self.begun.elapsed()
            )
        });
        self.command(node, shard, key, Ask::Subscribe(vec![wanted]));
    }

    fn command(&mut self, node: usize, shard: usize, key: u64, ask: Ask) {
        let shard = &mut self.nodes[node].shards[shard];
        shard.handle(key, Input::Command(Ok(Command { id: None, ask })));
    }

    fn subscribe(&mut self, client: usize) {
        let pattern: Pattern = self.rng.pick(&PATTERNS).parse().unwrap();
        let now = lock(&self.world).now();
        let from = match self.rng.below(10) {
            0..5 => From::Live,
            5..7 => From::Last,
            7 if !pattern.is_wild() => From::LastN(u16::try_from(self.rng.between(1, 12)).unwrap()),
            _ => From::Since(Timestamp(now.0 - self.rng.below(20_000))),
        };
        // What keeps nothing begins live.
        let from = if pattern.namespace() == "b" { From::Live } else { from };
        let one = &mut self.clients[client];
        let wanted = one.subscriptions.iter().filter(|one| !one.ended);
        let known = wanted.clone().any(|one| one.pattern == pattern);
        let allowed = one.claims.grants.covers(tidegate::auth::Verb::Subscribe, &pattern);
        if known || !allowed || wanted.count() >= SUBSCRIPTIONS || one.lines.len() > 1 {
            return;
        }
        one.subscriptions.push(Subscription::new(pattern, from));
        let index = one.subscriptions.len() - 1;
        self.ask(client, index, false);
    }

    fn unsubscribe(&mut self, client: usize) {
        let one = &self.clients[client];
        let wanted: Vec<usize> = (0..one.subscriptions.len())
            .filter(|index| one.lines.last().is_some_and(|line| line.knows(*index)))
            .filter(|index| !one.subscriptions[*index].leaves)
            .collect();
        if !self.faults.has(Fault::Unsubscribe) || wanted.is_empty() || one.lines.len() != 1 {
            return;
        }
        let index = self.rng.pick(&wanted);
        let one = &mut self.clients[client];
        one.subscriptions[index].leaves = true;
        let topic = one.subscriptions[index].pattern.as_str().to_owned();
        let line = &one.lines[0];
        let (node, shard, key) = (line.node, line.shard, line.key);
        self.command(node, shard, key, Ask::Unsubscribe { topic });
    }

    /// Its Connections break.
    fn part(&mut self, client: usize) {
        let away = self.rng.pick(&[1, 100, 2_000, 20_000]);
        let away = Duration::from_millis(self.rng.between(1, away));
        if self.faults.has(Fault::Leave) && !self.clients[client].lines.is_empty() {
            self.hang_up(client);
            self.clients[client].away_until = Some(Instant::now() + away);
        }
    }

    fn hang_up(&mut self, client: usize) {
        crate::seeds::tell(|| format!("{:?} client {client} hangs up", self.begun.elapsed()));
        while let Some(line) = self.clients[client].lines.first() {
            let (node, shard, key) = (line.node, line.shard, line.key);
            self.nodes[node].shards[shard].end(key, Close::Lost);
            self.nodes[node].shards[shard].connections.remove(&key);
            self.clients[client].lose(0);
        }
    }

    /// It dials elsewhere, and leaves when all of its Subscriptions have moved.
    fn dial_elsewhere(&mut self, client: usize) {
        let (node, shard) = self.somewhere();
        let settled = self.clients[client].lines.first().is_some_and(Line::has_settled);
        let one = &self.clients[client];
        if self.faults.has(Fault::Move) && one.lines.len() == 1 && settled && one.renews.is_none() {
            self.connect(client, node, shard);
        }
    }

    fn stall(&mut self, client: usize) {
        let span = Duration::from_millis(self.rng.between(10, 8_000));
        if self.faults.has(Fault::Stall) {
            self.clients[client].stalled_until = Some(Instant::now() + span);
        }
    }

    fn renew(&mut self, client: usize) {
        let claims = claims(self.rng.index(GRANTS.len()));
        let one = &mut self.clients[client];
        if !self.faults.has(Fault::Renew) || one.lines.len() != 1 || one.renews.is_some() {
            return;
        }
        one.renews = Some(Arc::clone(&claims));
        let line = &one.lines[0];
        let (node, shard, key) = (line.node, line.shard, line.key);
        if let Some(connection) = self.nodes[node].shards[shard].connections.get_mut(&key) {
            connection.shows = claims;
        }
        self.command(node, shard, key, Ask::Token { token: Secret("token".into()) });
    }

    // What happens all the time.

    fn work(&mut self) -> Result<(), String> {
        let (now, instant) = (self.now(), Instant::now());
        for node in &mut self.nodes {
            for (shard, busy) in node.shards.iter_mut().zip(&node.busy) {
                shard.tell_time(now);
                if *busy <= instant {
                    self.events += shard.work(self.batch);
                }
                if let Some(why) = shard.violation.take() {
                    return Err(self.at(why));
                }
            }
        }
        for client in 0..self.clients.len() {
            self.look_after(client)?;
        }
        if let Some(ended) = self.directories.try_join_next() {
            let why = ended.err().map(|fault| match fault.try_into_panic() {
                Ok(panic) => crate::seeds::words(&*panic),
                Err(fault) => fault.to_string(),
            });
            return Err(self.at(format!("a directory ended: {why:?}")));
        }
        Ok(())
    }

    fn at(&self, why: String) -> String {
        format!("{why} (after {:?})", self.begun.elapsed())
    }

    fn look_after(&mut self, client: usize) -> Result<(), String> {
        let now = Instant::now();
        let one = &mut self.clients[client];
        if one.away_until.is_some_and(|until| until <= now) {
            one.away_until = None;
            let (node, shard) = self.somewhere();
            self.connect(client, node, shard);
        }
        let one = &mut self.clients[client];
        if one.stalled_until.is_none_or(|until| until <= now) {
            one.stalled_until = None;
            for at in 0..one.lines.len() {
                self.read(client, at).map_err(|why| self.at(format!("client {client}: {why}")))?;
            }
        }
        let one = &self.clients[client];
        let closed = |line: &Line| {
            let connections = &self.nodes[line.node].shards[line.shard].connections;
            connections.get(&line.key).is_none_or(|one| one.closed.is_some())
        };
        if one.lost_its_way || one.lines.iter().any(closed) {
            self.hang_up(client);
            let away = self.rng.between(1, 1_000);
            let one = &mut self.clients[client];
            (one.lost_its_way, one.away_until) = (false, Some(now + Duration::from_millis(away)));
        } else if one.lines.first().is_some_and(|line| line.has_to_leave(now))
            && one.lines.len() == 1
            && one.renews.is_none()
        {
            let line = &mut self.clients[client].lines[0];
            line.leaves = None;
            let node = (line.node + 1) % self.nodes.len();
            self.connect(client, node, 0);
        } else if one.lines.len() == 2 && one.lines[1].has_settled() {
            let line = &one.lines[0];
            let (node, shard, key) = (line.node, line.shard, line.key);
            self.nodes[node].shards[shard].end(key, Close::ByPeer(Some(1_000)));
            self.nodes[node].shards[shard].connections.remove(&key);
            self.clients[client].lose(0);
        }
        for index in 0..self.clients[client].subscriptions.len() {
            let again = self.clients[client].subscriptions[index].retry_at;
            let again = again.is_some_and(|at| at <= now) && self.rng.percent(50);
            if again && self.clients[client].lines.len() == 1 {
                self.ask(client, index, false);
            }
        }
        Ok(())
    }

    fn read(&mut self, client: usize, at: usize) -> Result<(), String> {
        let line = &self.clients[client].lines[at];
        let (node, shard, key) = (line.node, line.shard, line.key);
        while !self.clients[client].lost_its_way
            && let Some(frame) = self.nodes[node].shards[shard].read(key)
        {
            self.note(client, &frame);
            let mut world = lock(&self.world);
            self.clients[client].read(at, frame, &mut world)?;
        }
        Ok(())
    }

    /// Two runs of a seed have the same trace.
    fn note(&mut self, client: usize, frame: &Frame) {
        crate::seeds::tell(|| {
            format!("{:?} client {client} reads {}", self.begun.elapsed(), frame.line())
        });
        let what = match frame {
            Frame::Publication(envelope) => {
                envelope.cursor().map_or(7, |cursor| cursor.offset << 8 | 3)
            }
            Frame::Reply(_) => 1,
            Frame::Push(_) => 2,
        };
        let when = u64::try_from(self.begun.elapsed().as_micros()).unwrap();
        for part in [client as u64, what, when] {
            self.trace = (self.trace ^ part).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17);
        }
        self.frames += 1;
    }

    // The end.

    async fn heal(&mut self) -> Result<(), String> {
        lock(&self.world).heal();
        self.batch = 4_096;
        let now = Instant::now();
        for node in &mut self.nodes {
            node.busy.iter_mut().for_each(|busy| *busy = now);
        }
        for client in 0..self.clients.len() {
            let one = &mut self.clients[client];
            one.stalled_until = None;
            one.away_until = Some(now).filter(|_| one.lines.is_empty());
        }
        let calm = now + CALM;
        while Instant::now() < calm {
            let (frames, events) = (self.frames, self.events);
            pass(SLICE / 5).await;
            self.work()?;
            let quiet = self.is_quiet() && (frames, events) == (self.frames, self.events);
            // While nothing waits for this test, time may jump.
            pass(if quiet { SLICE * 20 } else { SLICE / 5 }).await;
            self.work()?;
        }
        Ok(())
    }

    fn is_quiet(&self) -> bool {
        let shards = self.nodes.iter().flat_map(|node| &node.shards);
        let mut settled = self.clients.iter().filter_map(|one| one.lines.last());
        shards.into_iter().all(|shard| shard.inbox.is_empty()) && settled.all(Line::is_calm)
    }

    fn judge(&self) -> Result<(), String> {
        for (at, client) in self.clients.iter().enumerate() {
            let Some(line) = client.lines.last() else {
                return Err(format!("client {at} did not come back"));
            };
            for (index, one) in client.subscriptions.iter().enumerate() {
                if !one.ended && !one.leaves && !one.found_no_room && !line.is_live(index) {
                    return Err(format!("client {at}: {} never became live", one.pattern));
                }
            }
        }
        let world = lock(&self.world);
        judge::complete(&self.clients, &world)?;
        let benign = Faults::of(&[
            Fault::OpeningDrop,
            Fault::Repeat,
            Fault::ShortPages,
            Fault::Leave,
            Fault::Move,
            Fault::Renew,
            Fault::Unsubscribe,
        ]);
        if self.faults.and(benign) == self.faults {
            judge::prompt(&self.clients, &world)?;
        }
        Ok(())
    }

    /// I8: nothing is left of those who were here.
    async fn leave(&mut self) -> Result<(), String> {
        for client in 0..self.clients.len() {
            self.hang_up(client);
        }
        let until = Instant::now() + CLEAN;
        let clean = |simulation: &Self| {
            let mut shards = simulation.nodes.iter().flat_map(|node| &node.shards);
            shards.all(|shard| shard.leftovers().is_none())
                && lock(&simulation.world).listeners() == 0
        };
        while Instant::now() < until && !clean(self) {
            pass(SLICE * 20).await;
            self.work()?;
        }
        let shards = self.nodes.iter().flat_map(|node| &node.shards);
        if let Some(left) = shards.filter_map(Shard::leftovers).next() {
            return Err(left);
        }
        let listeners = lock(&self.world).listeners();
        if listeners > 0 {
            return Err(format!("I8: {listeners} live roads are left"));
        }
        self.nodes.clear();
        let ended = async { while self.directories.join_next().await.is_some() {} };
        match tokio::time::timeout(CLEAN, ended).await {
            Ok(()) => Ok(()),
            Err(_) => Err("I8: a directory does not end".to_owned()),
        }
    }
}

fn newest(world: &mut World, pattern: &Pattern) -> Vec<usize> {
    let topics = TOPICS.iter().map(|text| Topic::parse(text).unwrap());
    let matching: Vec<Topic> = topics.filter(|topic| pattern.matches(topic)).collect();
    let newest = matching.iter().filter_map(|topic| world.newest(topic));
    let newest: Vec<usize> = newest.collect();
    newest.into_iter().filter(|number| !world.truth.get(*number).tombstone).collect()
}

fn claims(grants: usize) -> Arc<Claims> {
    let subscribe = GRANTS[grants].iter().map(|text| text.parse().unwrap()).collect();
    Arc::new(Claims {
        who: Who::User("ana".into()),
        grants: Grants { subscribe, publish: Vec::new(), history: Vec::new() },
        disconnect: false,
        expires_at: None,
        issued_at: None,
        token_id: None,
    })
}

fn session_config(namespaces: Arc<Namespaces>) -> session::Config {
    let number = |n| NonZeroU32::new(n).unwrap();
    session::Config {
        node: "node".into(),
        commands: Rate { per_second: number(1_000), burst: number(1_000) },
        subscriptions: 2 * SUBSCRIPTIONS,
        bad_messages: 10,
        auth_timeout: Duration::from_secs(10),
        heartbeat: Duration::from_secs(25),
        limits: Limits {
            message_bytes: 65_536,
            subscriptions: 2 * SUBSCRIPTIONS,
            commands_per_second: 1_000,
            outbox_bytes: 262_144,
            snapshot_topics: 1_024,
        },
        namespaces,
        anonymous: None,
    }
}
