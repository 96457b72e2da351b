//! One running process, assembled.
//!
//! Read [`start`] from top to bottom: sockets are bound first, so that a taken port is told before
//! anything runs; then Bus, publisher, Feeds and Shards; traffic is let in last. [`Node::run`] waits for
//! a signal and goes away politely.
//!
//! Two kinds of threads: the workers of the server, each with its Shard, and this runtime, for
//! everything that no client waits on directly.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_server::ServerHandle;
use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::admission::{self, Admission};
use crate::auth::{Auth, REVOKED_FOR};
use crate::bus::{self, Bus as _};
use crate::config::{self, Config};
use crate::control::{self, Control};
use crate::feed::{self, Feeds, ShardId};
use crate::http::{self, Data, State, dev, listener};
use crate::namespace::{Namespaces, REVOKED};
use crate::protocol::frame;
use crate::publication::Timestamp;
use crate::publisher::{self, Publisher};
use crate::session::limits::Rate;
use crate::session::{self, Moment, Now};
use crate::shard::counts::{Counts, Snapshot};
use crate::shard::{self, Order, Seat, World, socket};
use crate::telemetry::Telemetry;

/// Secret files are looked at this often.
const RELOAD: Duration = Duration::from_secs(5);
/// What is left at the end of a drain gets this long to hear it.
const GOODBYES: Duration = Duration::from_millis(1_500);
/// What was published is written out to NATS within this.
const FLUSH: Duration = Duration::from_secs(2);
/// What this was built from, if the build says so.
const REVISION: &str = match option_env!("TIDEGATE_REVISION") {
    Some(revision) => revision,
    None => "unknown",
};
/// The number that a process ends with after a panic in its heart.
const EXIT_PANIC: i32 = 70;

/// A node that runs.
pub struct Node {
    /// Where clients connect.
    pub client: SocketAddr,
    /// Where health is asked for.
    pub management: SocketAddr,
    state: Data<State>,
    server: ServerHandle,
    bus: bus::Door,
    drain: config::Drain,
    tasks: JoinSet<()>,
}

/// Starts a node, whose rooms measure by `telemetry`. `dev` is what only the command of that name has.
///
/// # Errors
/// A port could not be bound; the words name the setting.
pub async fn start(
    config: Config,
    auth: Arc<Auth>,
    telemetry: &Telemetry,
    dev: Option<dev::Info>,
) -> io::Result<Node> {
    let (meter, spans) = (telemetry.meter(), telemetry.spans());
    let client = bind("listen", config.listen)?;
    let management = bind("management", config.management)?;
    let (client_address, management_address) = (client.local_addr()?, management.local_addr()?);

    let namespaces = Namespaces::new(config.namespaces.clone(), config.strict);
    let namespaces = Arc::new(namespaces.revoking(REVOKED_FOR));
    let bus = connect(&config, &namespaces).await?;
    bus.observe(&meter);
    auth.observe(&meter);
    let publisher = Arc::new(Publisher::new(
        &publishers(&config.limits),
        bus.clone(),
        Arc::clone(&namespaces),
        wall_clock,
        &meter,
        spans.clone(),
    ));

    let admission = Admission::new(doors(&config.limits));
    let (feeds, asks) = Feeds::channel();
    let started = Instant::now();
    let world = World {
        config: Arc::new(shards(&config, &auth, &namespaces)),
        auth: Arc::clone(&auth),
        feeds: feeds.clone(),
        publisher: Arc::clone(&publisher),
        clock: Arc::new(move || now(started)),
        meters: Arc::new(shard::Meters::new(&meter, &namespaces)),
    };
    let seats = Seats::new(config.shards, config.limits.shard_inbox, &world);
    shard::meters::observe(&meter, &namespaces, &seats.counts, &seats.inboxes);
    let control = Control::new(
        controls(&config, &bus, &namespaces, &admission, &seats.orders),
        bus.clone(),
        Arc::clone(&auth),
        &meter,
    );
    let state = Data::new(State {
        config: requests(&config.limits),
        auth: Arc::clone(&auth),
        publisher,
        feeds,
        control: Arc::clone(&control),
        namespaces: Arc::clone(&namespaces),
        subscriptions_max: config.limits.subscriptions,
        counts: seats.counts.clone(),
        orders: seats.orders.clone(),
        leaving: false.into(),
        draining: false.into(),
        drain_asked: Notify::new(),
        link: bus.link(),
        admission,
        wall: wall_clock,
        meters: http::Meters::new(&meter),
        metrics: Box::new(telemetry.scrape()),
        spans: spans.clone(),
        dev,
    });
    observe(&meter, &state);

    let mut tasks = JoinSet::new();
    tasks.spawn(tell_link(bus.link(), seats.orders.clone()));
    let feeding = feed::Config {
        meters: Arc::new(feed::Meters::new(&meter, &namespaces, spans)),
        ..feeding(&config.limits, &namespaces)
    };
    let directory = feed::Directory::new(feeding, bus.clone(), asks, seats.inboxes.clone());
    tasks.spawn(directory.run());
    tasks.spawn(control.run());
    tasks.spawn(reload(auth));

    let seats = Arc::new(Mutex::new(seats.free));
    let seat = move || seats.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let (server, handle) = listener::serve(client, management, config.shards, state.clone(), seat)?;
    tasks.spawn(async move {
        if let Err(fault) = server.await {
            error!(error = %fault, "The server ended");
        }
    });
    info!(
        node = %config.node,
        client.address = %client_address,
        management.address = %management_address,
        shards = config.shards,
        connections.max = config.limits.max_connections,
        nofile = config::nofile(),
        bus = if config.nats.url.is_empty() { "memory" } else { "nats" },
        "Node started{}",
        if config.nats.url.is_empty() { "; the bus is in memory, so this is the only node" } else { "" }
    );
    if !config.nats.url.is_empty() && namespaces.history(REVOKED).is_none() {
        info!(
            "What is revoked is told to the nodes that run, and not kept for those that start later: no \
             namespace has history"
        );
    }
    Ok(Node {
        client: client_address,
        management: management_address,
        state,
        server: handle,
        bus,
        drain: config.drain,
        tasks,
    })
}

impl Node {
    /// The way in for what the process itself publishes.
    #[must_use]
    pub fn publisher(&self) -> Arc<Publisher> {
        Arc::clone(&self.state.publisher)
    }

    /// What the Shards count, now and whenever it is called.
    pub fn counted(&self) -> impl Fn() -> Snapshot + Send + 'static {
        let state = self.state.clone();
        move || state.counted()
    }

    /// Runs until it is told to go, and then until everybody has left. Told twice, it does not wait
    /// for them.
    ///
    /// # Errors
    /// Signals cannot be heard here.
    pub async fn run(mut self) -> io::Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            () = self.state.drain_asked.notified() => {}
            ended = self.tasks.join_next() => {
                // These run as long as the node; without them it would be mute.
                error!(panicked = ended.is_some_and(|end| end.is_err()), "A task of the node ended");
                std::process::exit(EXIT_PANIC);
            }
        }
        tokio::select! {
            () = self.drain() => {}
            _ = terminate.recv() => warn!("Told again: the node ends at once"),
            _ = interrupt.recv() => warn!("Told again: the node ends at once"),
            () = self.state.drain_asked.notified() => warn!("Told again: the node ends at once"),
        }
        self.end().await;
        Ok(())
    }

    /// Sends everybody elsewhere, each at a time of its own.
    async fn drain(&self) {
        info!(connections = self.connections(), "Node drains");
        self.state.leaving.store(true, Ordering::Relaxed);
        sleep(self.drain.lame_duck).await;
        self.state.draining.store(true, Ordering::Relaxed);
        self.order(&Order::Drain { window: self.drain.window });
        let _ = timeout(self.drain.window + shard::SLOT_GRACE + GOODBYES, self.empty()).await;
    }

    /// Closes what is left, and ends.
    async fn end(mut self) {
        self.state.leaving.store(true, Ordering::Relaxed);
        self.state.draining.store(true, Ordering::Relaxed);
        self.order(&Order::CloseAll);
        if timeout(GOODBYES, self.empty()).await.is_err() {
            warn!(connections = self.connections(), "Not everybody heard the goodbye");
        }
        self.server.stop(true).await;
        if let bus::Door::Nats(nats) = &self.bus {
            nats.flush(FLUSH).await;
        }
        self.tasks.shutdown().await;
        info!("Node ended");
    }

    fn order(&self, order: &Order) {
        for shard in &self.state.orders {
            // A Shard whose orders are full has a node that is ending anyway.
            let _ = shard.try_send(order.clone());
        }
    }

    fn connections(&self) -> usize {
        self.state.admission.connections()
    }

    async fn empty(&self) {
        while self.connections() > 0 {
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Registers what the node itself measures.
fn observe(meter: &Meter, state: &Data<State>) {
    let version = KeyValue::new("version", env!("CARGO_PKG_VERSION"));
    let build = [version, KeyValue::new("revision", REVISION)];
    meter
        .u64_observable_gauge("tidegate_build_info")
        .with_description("What runs")
        .with_callback(move |observer| observer.observe(1, &build))
        .build();
    // Who reads the metrics is held by it, and must not hold it.
    let state = Arc::downgrade(&state.clone().into_inner());
    meter
        .u64_observable_gauge("tidegate_drain_remaining")
        .with_description("Connections that a node which goes away still has")
        .with_callback(move |observer| {
            let leaving = state.upgrade().filter(|one| one.leaving.load(Ordering::Relaxed));
            let left = leaving.map_or(0, |state| state.admission.connections());
            observer.observe(left as u64, &[]);
        })
        .build();
}

/// The Bus that the configuration asks for.
async fn connect(config: &Config, namespaces: &Arc<Namespaces>) -> io::Result<bus::Door> {
    if config.nats.url.is_empty() {
        let memory = bus::memory::Memory::new(namespaces.stored(), wall_clock);
        return Ok(bus::Door::Memory(memory));
    }
    let namespaces = Arc::clone(namespaces);
    let nats = bus::nats::Nats::connect(&config.nats, &config.node, namespaces, wall_clock).await;
    nats.map(bus::Door::Nats).map_err(io::Error::other)
}

/// Tells every Shard when the link to the other nodes is lost or whole again.
async fn tell_link(mut link: watch::Receiver<bus::Link>, orders: Vec<mpsc::Sender<Order>>) {
    let mut told = true;
    loop {
        let connected = link.borrow_and_update().connected;
        if connected != told {
            told = connected;
            for shard in &orders {
                if shard.send(Order::Link(connected)).await.is_err() {
                    return;
                }
            }
        }
        if link.changed().await.is_err() {
            return;
        }
    }
}

fn bind(key: &str, address: SocketAddr) -> io::Result<std::net::TcpListener> {
    listener::bind(address).map_err(|fault| {
        io::Error::new(fault.kind(), format!("{address} cannot be bound ({fault}): set --{key}"))
    })
}

/// The two ends of what each Shard is reached by: what its thread takes, and what others keep.
struct Seats {
    free: Vec<Seat>,
    inboxes: Vec<mpsc::Sender<feed::Event>>,
    orders: Vec<mpsc::Sender<Order>>,
    counts: Vec<Arc<Counts>>,
}

impl Seats {
    fn new(shards: usize, inbox_items: usize, world: &World) -> Self {
        let mut seats =
            Self { free: Vec::new(), inboxes: Vec::new(), orders: Vec::new(), counts: Vec::new() };
        for number in 0..u16::try_from(shards).unwrap_or(u16::MAX) {
            let (inbox, inbox_end) = mpsc::channel(inbox_items);
            let (orders, orders_end) = mpsc::channel(shard::ORDERS_ITEMS);
            let counts = Arc::new(Counts::new(world.config.session.namespaces.labels().count()));
            seats.free.push(Seat {
                id: ShardId(number),
                inbox: inbox_end,
                orders: orders_end,
                counts: Arc::clone(&counts),
                world: world.clone(),
            });
            seats.inboxes.push(inbox);
            seats.orders.push(orders);
            seats.counts.push(counts);
        }
        seats
    }
}

fn publishers(limits: &config::Limits) -> publisher::Config {
    publisher::Config {
        per_user: at_least_one(limits.commands_per_second),
        per_user_burst: at_least_one(limits.commands_burst),
        per_key: at_least_one(limits.key_publishes_per_second),
        in_flight: limits.publishes_in_flight,
    }
}

fn feeding(limits: &config::Limits, namespaces: &Arc<Namespaces>) -> feed::Config {
    feed::Config {
        feeds: limits.feeds,
        namespaces: Arc::clone(namespaces),
        ring_items: limits.ring_items,
        ring_bytes: limits.ring_bytes,
        rings_bytes: limits.rings_bytes,
        part_items: limits.replay_part_items,
        part_bytes: limits.replay_part_bytes,
        read_bytes: limits.read_bytes,
        snapshot_topics: limits.snapshot_topics,
        attaches_waiting: limits.attaches_waiting,
        position: limits.ping_after,
        // The last half of a version 7 UUID is random.
        seed: Uuid::now_v7().as_u64_pair().1,
        ..feed::Config::default()
    }
}

fn doors(limits: &config::Limits) -> admission::Config {
    admission::Config {
        max_connections: limits.max_connections,
        unauthenticated: limits.unauthenticated,
        user_connections: limits.user_connections,
        handshakes_per_second: at_least_one(limits.handshakes_per_second),
        handshakes_burst: at_least_one(limits.handshakes_burst),
    }
}

/// What this node has to do with the others.
fn controls(
    config: &Config,
    bus: &bus::Door,
    namespaces: &Namespaces,
    admission: &Arc<Admission>,
    orders: &[mpsc::Sender<Order>],
) -> control::Config {
    let (admission, orders) = (Arc::clone(admission), orders.to_vec());
    control::Config {
        node: match bus {
            bus::Door::Memory(_) => config.node.as_str().into(),
            bus::Door::Nats(nats) => nats.id().into(),
        },
        shards: orders.len(),
        revocations: config.limits.revocations,
        calls_in_flight: config.limits.calls_in_flight,
        keeps: namespaces.history(REVOKED).is_some(),
        now: wall_clock,
        connections: Box::new(move || admission.connections()),
        give: Box::new(move |errand| {
            let given = |shard: &&mpsc::Sender<Order>| {
                shard.try_send(Order::Errand(errand.clone())).is_ok()
            };
            orders.iter().filter(given).count() == orders.len()
        }),
    }
}

fn requests(limits: &config::Limits) -> http::Config {
    http::Config {
        batch_items: limits.batch_items,
        batch_bytes: limits.batch_bytes,
        url_bytes: limits.url_bytes,
        head_timeout: limits.head_timeout,
        body_timeout: limits.body_timeout,
    }
}

fn shards(config: &Config, auth: &Auth, namespaces: &Arc<Namespaces>) -> shard::Config {
    let limits = &config.limits;
    // The last group of a version 7 UUID is random.
    let random = Uuid::now_v7().simple().to_string().split_off(24);
    shard::Config {
        socket: socket::Limits {
            frame_bytes: limits.frame_bytes,
            fragments: limits.fragments as usize,
            control_frames: limits.control_frames,
        },
        outbox_bytes: limits.outbox_bytes,
        ping_after: limits.ping_after,
        pong_timeout: limits.pong_timeout,
        write_timeout: limits.write_timeout,
        connection_prefix: random.into(),
        max_age: Some(limits.max_connection_age).filter(|age| !age.is_zero()),
        attaches_waiting: (limits.attaches_waiting / config.shards).max(1),
        session: session::Config {
            node: config.node.as_str().into(),
            commands: Rate {
                per_second: at_least_one(limits.commands_per_second),
                burst: at_least_one(limits.commands_burst),
            },
            bad_messages: limits.bad_messages as usize,
            subscriptions: limits.subscriptions,
            auth_timeout: limits.auth_timeout,
            heartbeat: limits.ping_after,
            limits: frame::Limits {
                message_bytes: namespaces.message_bytes_max(),
                subscriptions: limits.subscriptions,
                commands_per_second: limits.commands_per_second,
                outbox_bytes: limits.outbox_bytes,
                snapshot_topics: limits.snapshot_topics,
            },
            namespaces: Arc::clone(namespaces),
            anonymous: auth.anonymous(),
        },
    }
}

fn at_least_one(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN)
}

/// Reads secret files again when they change.
async fn reload(auth: Arc<Auth>) {
    let mut ticks = interval(RELOAD);
    loop {
        ticks.tick().await;
        for outcome in auth.reload() {
            match outcome {
                Ok(path) => info!(file.path = %path, "Keys were read again"),
                Err(fault) => error!(error = %fault, "Keys could not be read; the old ones stay"),
            }
        }
    }
}

fn now(started: Instant) -> Now {
    let since = started.elapsed().as_millis();
    Now { moment: Moment(u64::try_from(since).unwrap_or(u64::MAX)), wall: wall_clock() }
}

/// The wall clock: for what Tokens say and when something was published, never for timers.
#[expect(clippy::disallowed_methods, reason = "here clocks are read, to be handed in elsewhere")]
#[must_use]
pub fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
