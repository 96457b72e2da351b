//! One worker thread's Connections, and who of them wants what.
//!
//! A Shard is reached from its own thread alone: no locks, no atomics. Others put [`Event`]s into its
//! inbox, [`Order`]s beside it, and new sockets come through [`adopt`]. Its loop takes what has come
//! in batches, queues Frames into Outboxes, and flushes each Connection that got something once.
//!
//! It knows sockets, Sessions, Feeds and the publisher. It knows no NATS and no JSON.
//!
//! LAWS:
//! * The order of the inbox is the order of the world: what stands behind `Attached` is for that
//!   Subscription, what stands before it is not.
//! * There is one exit, `Shard::end`, whatever the reason.
//! * The `RefCell` around a Shard is borrowed for one call at a time, and never over an await.

mod connection;
pub mod counts;
mod drive;
mod errand;
mod follow;
pub mod goodbye;
mod heartbeat;
pub mod meters;
pub mod outbox;
pub mod socket;
mod stall;
pub mod stream;
pub mod table;
mod upstream;
pub mod wheel;

use std::cell::{OnceCell, RefCell};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use slab::Slab;
use smallvec::{SmallVec, smallvec};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::TaskTracker;
use tracing::debug;

use crate::admission::Pass;
use crate::auth::{Auth, Claims};
use crate::control::Errand;
use crate::feed::{Event, Feeds, ShardId};
use crate::protocol::error::{Code, Error};
use crate::protocol::frame::Heartbeat;
use crate::protocol::{Close, Envelope, Limit, Push, Reply, json};
use crate::publication::Draft;
use crate::publisher::Publisher;
use crate::session::{self, Handshake, Input, Moment, Now, Output, Session};
use crate::span::Begun;
use crate::topic::Pattern;
use connection::{Connection, Frame, Wire, Writes};
use counts::{Asked, Counts, Transport};
use drive::Drive;
use errand::Sweep;
use follow::Followed;
pub use follow::Meters;
use outbox::Outbox;
use socket::Reader;
use table::Table;
use wheel::Wheel;

/// Orders that may wait for one Shard.
pub const ORDERS_ITEMS: usize = 64;
/// Events taken at once.
const BATCH_ITEMS: usize = 1_024;
/// Frames queued, and Connections flushed or looked at, before others get a turn.
const QUEUED_PER_TURN: usize = 32_768;
const FLUSHES_PER_TURN: usize = 512;
/// Those whom a node that goes away sends elsewhere arrive there over this time.
const RETURN_SPREAD_MS: u64 = 2_000;
/// A client that has not moved this long after its slot is closed.
pub const SLOT_GRACE: Duration = Duration::from_secs(3);

/// How a Shard treats its Connections.
#[derive(Debug, Clone)]
pub struct Config {
    /// What clients may send.
    pub socket: socket::Limits,
    /// What may wait for one client, in bytes.
    pub outbox_bytes: usize,
    /// Silence before a ping.
    pub ping_after: Duration,
    /// Silence after a ping, before the Connection is given up.
    pub pong_timeout: Duration,
    /// How long a socket may take nothing of what waits.
    pub write_timeout: Duration,
    /// Sets this node's Connections apart from all others', in their ids.
    pub connection_prefix: Arc<str>,
    /// A Connection is sent elsewhere at this age, give or take a tenth.
    pub max_age: Option<Duration>,
    /// Subscriptions of this Shard that may wait for their Feed.
    pub attaches_waiting: usize,
    /// What Sessions share.
    pub session: session::Config,
}

/// Reads both clocks.
pub type Clock = Arc<dyn Fn() -> Now + Send + Sync>;

/// What a Shard works with.
#[derive(Clone)]
pub struct World {
    /// How it behaves.
    pub config: Arc<Config>,
    /// Who may do what.
    pub auth: Arc<Auth>,
    /// Where Publications come from.
    pub feeds: Feeds,
    /// Where they go.
    pub publisher: Arc<Publisher>,
    /// Both clocks.
    pub clock: Clock,
    /// What it measures.
    pub meters: Arc<Meters>,
}

/// The parts of one Shard that its thread takes: each can be had once.
pub struct Seat {
    /// Its number.
    pub id: ShardId,
    /// From Feeds.
    pub inbox: mpsc::Receiver<Event>,
    /// From the node.
    pub orders: mpsc::Receiver<Order>,
    /// What others may read.
    pub counts: Arc<Counts>,
    /// What it works with.
    pub world: World,
}

/// What the node tells a Shard.
#[derive(Debug, Clone)]
pub enum Order {
    /// Drop the socket of this Connection, if it is here, as a broken network would.
    Cut(String),
    /// Send this Connection elsewhere, if it is here, as a drain would that has it alone.
    SendAway {
        /// Its name.
        connection: String,
        /// Its slot lies within it.
        window: Duration,
    },
    /// Send every Connection elsewhere, one by one over this time; none of it: close them all now.
    Drain {
        /// The slots lie within it.
        window: Duration,
    },
    /// End every Connection: the process ends.
    CloseAll,
    /// The node's link to the others is lost, or whole again.
    Link(bool),
    /// All nodes were asked for something, and this is a Shard's part of it.
    Errand(Errand),
}

/// A socket taken over from HTTP.
pub struct Takeover {
    /// The bare socket.
    pub socket: TcpStream,
    /// The head of the 101, to be written first.
    pub head: Bytes,
    /// What was read behind the request.
    pub read: BytesMut,
    /// The right to be here.
    pub pass: Pass,
    /// What the request said.
    pub handshake: Handshake,
}

/// Where a Connection is: its place, and which of those that had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    index: u32,
    serial: u32,
}

impl Key {
    /// Both halves in one number, as a [`Ticket`](crate::feed::Ticket) carries them.
    #[must_use]
    pub const fn pack(self) -> u64 {
        (self.index as u64) << 32 | self.serial as u64
    }

    /// What [`pack`](Self::pack) made of it, again.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of what `pack` made")]
    pub const fn unpack(packed: u64) -> Self {
        Self { index: (packed >> 32) as u32, serial: packed as u32 }
    }
}

/// One thread's Connections.
pub struct Shard {
    id: ShardId,
    world: World,
    counts: Arc<Counts>,
    me: Weak<RefCell<Self>>,
    connections: Slab<Box<Connection>>,
    table: Table,
    wheel: Wheel,
    serial: u32,
    /// Those with something new in their Outbox.
    dirty: Vec<Key>,
    /// Those whose time in the wheel has come.
    due: Vec<Key>,
    /// Patterns that nobody here wants, whose Feeds could not be told yet.
    unreleased: Vec<Pattern>,
    attaching: usize,
    /// Those who wait for room to ask for the next part of a replay.
    hungry: Vec<Key>,
    /// The last replay of this turn.
    replayed: Vec<(Arc<Envelope>, Frame)>,
    /// Those who are to be told to leave, and when.
    departing: Vec<(Key, Moment)>,
    /// Those who are to be told how the link stands.
    told: Vec<Key>,
    /// Those of whom it is not known yet whether they are to go.
    sweep: Option<Sweep>,
    /// Whether the node reaches the others.
    bus_connected: bool,
    /// A stream's queue fills while HTTP has not had its turn to take from it.
    turn_owed: bool,
    outputs: Vec<Output>,
    /// What a Reply would answer that is sent now.
    asked: Asked,
    followed: Followed,
    scratch: BytesMut,
    tasks: TaskTracker,
}

thread_local! {
    static SHARD: OnceCell<Rc<RefCell<Shard>>> = const { OnceCell::new() };
}

/// Makes this thread's Shard and starts its loop, unless there is one.
pub fn start(seat: impl FnOnce() -> Option<Seat>) {
    SHARD.with(|shard| {
        if shard.get().is_some() {
            return;
        }
        let Some(seat) = seat() else { return };
        let (inbox, orders) = (seat.inbox, seat.orders);
        let counts = Arc::clone(&seat.counts);
        let made = Shard::new(seat.id, seat.world, seat.counts);
        let tasks = made.borrow().tasks.clone();
        tasks.spawn_local(stall::watch(counts));
        tasks.spawn_local(run(Rc::clone(&made), inbox, orders));
        let _ = shard.set(made);
    });
}

/// Gives a socket to this thread's Shard.
pub fn adopt(takeover: Takeover) {
    SHARD.with(|shard| {
        if let Some(shard) = shard.get() {
            shard.borrow_mut().adopt(takeover);
        }
    });
}

/// Counts a bound that HTTP, which runs on the Shards' threads, has met on this one.
pub fn count(limit: Limit) {
    SHARD.with(|shard| {
        if let Some(shard) = shard.get() {
            shard.borrow().counts.hit(limit);
        }
    });
}

/// The loop of a Shard. A panic in here ends the process: the node would live on with a mute core.
async fn run(
    shard: Rc<RefCell<Shard>>,
    mut inbox: mpsc::Receiver<Event>,
    mut orders: mpsc::Receiver<Order>,
) {
    let _fatal = Fatal;
    let mut batch = Vec::with_capacity(BATCH_ITEMS);
    let mut ticks = interval(Duration::from_millis(wheel::SLOT_MS));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            taken = inbox.recv_many(&mut batch, BATCH_ITEMS) => if taken == 0 { break },
            Some(order) = orders.recv() => shard.borrow_mut().obey(order),
            _ = ticks.tick() => shard.borrow_mut().turn_wheel(),
        }
        let mut queued = 0;
        for event in batch.drain(..) {
            queued += shard.borrow_mut().take(event);
            if queued >= QUEUED_PER_TURN {
                queued = 0;
                yield_now().await;
            }
        }
        while shard.borrow_mut().work() {
            yield_now().await;
        }
    }
}

/// Ends the process if it is dropped by a panic.
struct Fatal;

impl Drop for Fatal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::exit(70);
        }
    }
}

/// A publish that waits for the Bus. If it panics, nobody would answer its Connection any more.
struct Waiting {
    shard: Weak<RefCell<Shard>>,
    key: Key,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(shard) = self.shard.upgrade()
            && let Ok(mut shard) = shard.try_borrow_mut()
        {
            shard.panicked(self.key);
        }
    }
}

impl Shard {
    fn new(id: ShardId, world: World, counts: Arc<Counts>) -> Rc<RefCell<Self>> {
        let now = (world.clock)().moment;
        let namespaces = Arc::clone(&world.config.session.namespaces);
        Rc::new_cyclic(|me| {
            RefCell::new(Self {
                id,
                world,
                counts,
                me: Weak::clone(me),
                connections: Slab::new(),
                table: Table::new(namespaces),
                wheel: Wheel::new(now),
                serial: 0,
                dirty: Vec::new(),
                due: Vec::new(),
                unreleased: Vec::new(),
                attaching: 0,
                hungry: Vec::new(),
                replayed: Vec::new(),
                departing: Vec::new(),
                told: Vec::new(),
                sweep: None,
                bus_connected: true,
                turn_owed: false,
                outputs: Vec::new(),
                asked: Asked::Unreadable,
                followed: Followed::default(),
                scratch: BytesMut::new(),
                tasks: TaskTracker::new(),
            })
        })
    }

    fn now(&self) -> Now {
        (self.world.clock)()
    }

    fn get(&mut self, key: Key) -> Option<&mut Connection> {
        let connection = self.connections.get_mut(key.index as usize)?;
        (connection.serial == key.serial).then_some(&mut **connection)
    }

    // Coming.

    /// Gives a Connection its place; none if there is no more.
    fn insert(&mut self, wire: Wire, outbox: Outbox, pass: Pass) -> Option<Key> {
        let now = self.now();
        self.serial = self.serial.wrapping_add(1);
        let connection = Connection {
            serial: self.serial,
            wire,
            session: Session::new(&self.world.config.session, now),
            outbox,
            reader: Reader::default(),
            unread: None,
            waker: None,
            opened: now.moment,
            heard: now.moment,
            said: now.moment,
            blocked: None,
            pinged: None,
            slot: 0,
            heartbeat: Heartbeat::default(),
            dirty: false,
            hungry: false,
            overflowed: false,
            leaves: None,
            pass,
            goodbye: None,
            weighed: 0,
            followed: false,
            begun: Begun::here(),
        };
        let reached = &self.counts.reached[connection.transport() as usize];
        reached.connections.add(1);
        reached.opened.add(1);
        let index = u32::try_from(self.connections.insert(Box::new(connection))).ok()?;
        Some(Key { index, serial: self.serial })
    }

    fn adopt(&mut self, mut takeover: Takeover) {
        let (wire, outbox) = (Wire::Socket(takeover.socket), Outbox::behind(takeover.head));
        let Some(key) = self.insert(wire, outbox, takeover.pass) else {
            return;
        };
        let begun = catch_unwind(AssertUnwindSafe(|| {
            self.handle(key, Input::Open(takeover.handshake));
            if !takeover.read.is_empty() {
                self.read(key, &mut takeover.read);
            }
        }));
        if begun.is_err() {
            self.panicked(key);
        }
        self.schedule(key);
        self.settle();
        if let Some(shard) = self.me.upgrade() {
            self.tasks.spawn_local(Drive { shard, key });
        }
    }

    // What the Session says.

    /// Hands something to a Session and carries out what it wants.
    fn handle(&mut self, key: Key, input: Input) {
        // One Input may ask for several things that are answered at once.
        let mut inputs: SmallVec<[Input; 1]> = smallvec![input];
        while !inputs.is_empty() {
            let input = inputs.remove(0);
            self.asked = Asked::by(&input);
            let now = self.now();
            let mut outputs = std::mem::take(&mut self.outputs);
            let (config, shard) = (Arc::clone(&self.world.config), self.id);
            let bus_connected = self.bus_connected;
            if let Some(connection) = self.get(key) {
                let name = || connection_name(&config.connection_prefix, shard, key);
                let context = session::Context {
                    config: &config.session,
                    connection: &name,
                    now,
                    bus_connected,
                };
                connection.session.handle(&context, input, &mut outputs);
            }
            for output in outputs.drain(..) {
                inputs.extend(self.carry_out(key, output));
            }
            self.outputs = outputs;
        }
        self.schedule(key);
        self.feed(key);
    }

    /// Does one thing that a Session wants. What can be answered at once is.
    fn carry_out(&mut self, key: Key, output: Output) -> Option<Input> {
        match output {
            Output::Reply(reply) => {
                if let Reply::Connected { .. } = reply {
                    // Whoever has shown no Token is nobody in particular from here on.
                    let _ = self.admit(key, None);
                }
                if let Reply::Error { error: Error { limit: Some(limit), .. }, .. } = &reply {
                    self.counts.hit(*limit);
                }
                self.counts.answer(self.asked, &reply);
                self.send(key, &Frame::encoded(socket::text(&json::reply(&reply))));
            }
            Output::Push(Push::Gap { topic, reason, missed }) => {
                let place = self.place(topic.namespace());
                let frame = Frame::push(Push::Gap { topic, reason, missed });
                if self.queue(key, &frame, self.now().moment).is_some() {
                    self.counts.gap(place, reason);
                }
            }
            Output::Push(push) => self.send(key, &Frame::push(push)),
            Output::Verify(token) => {
                let verdict = self.world.auth.verify(&token, self.now().wall).map_err(|why| {
                    debug!(connection.id = %self.name(key), auth.reason = %why, "Token refused");
                    why.code()
                });
                let verdict = verdict.and_then(|claims| match self.admit(key, claims.who.user()) {
                    true => Ok(claims),
                    false => Err(Code::ConnectionLimit),
                });
                return Some(Input::Verified(verdict));
            }
            Output::Begin(number, pattern) => {
                let shared = self.table.begin(&pattern);
                if let Some(connection) = self.get(key) {
                    connection.session.share(number, shared);
                }
            }
            Output::Attach(number, patterns, begin) => {
                return self.attach(key, number, patterns, begin);
            }
            Output::Deliver(envelopes) => {
                self.replay(key, &envelopes);
            }
            Output::Join(pattern) => {
                let all = self.live(key);
                self.table.join(&pattern, key, &all);
                if let Some(stream) = self.get(key).filter(|one| one.is_stream()) {
                    // HTTP may wait for this before it answers at all.
                    stream.wake();
                }
            }
            Output::Pause(pattern) => {
                self.table.pause(&pattern, key);
            }
            Output::Leave(pattern, live) => {
                let all = self.live(key);
                let left = self.table.leave(&pattern, key, live, &all);
                self.unreleased.extend(left.unwanted);
                self.release();
                if left.torn {
                    self.tell_torn(key, &pattern, all);
                }
            }
            Output::Publish(claims, draft) => return self.publish(key, claims, draft),
            Output::Read(wanted) => self.read_history(key, wanted),
            Output::Heartbeat(heartbeat) => {
                if let Some(connection) = self.get(key) {
                    connection.heartbeat = heartbeat;
                }
            }
            Output::Met(limit) => self.counts.hit(limit),
            Output::Close(close) => self.end(key, close),
        }
        None
    }

    /// Whether this user may have one more Connection. Asked again for the same one, it counts once.
    fn admit(&mut self, key: Key, user: Option<&Arc<str>>) -> bool {
        self.get(key).is_none_or(|connection| connection.pass.is_for(user))
    }

    fn live(&mut self, key: Key) -> Vec<Pattern> {
        self.get(key)
            .map_or_else(Vec::new, |one| one.session.subscriptions().live().cloned().collect())
    }

    /// Publishes. What the Bus answers at once is answered at once; else a task waits for it.
    fn publish(&mut self, key: Key, claims: Arc<Claims>, draft: Draft) -> Option<Input> {
        let (publisher, name) = (Arc::clone(&self.world.publisher), self.name(key));
        let mut publishing = Box::pin(async move {
            let outcome = publisher.publish(&claims, Some(&name), draft).await;
            Input::Published(outcome.map_err(|fault| fault.wire()))
        });
        let at_once = publishing.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        if let Poll::Ready(answer) = at_once {
            return Some(answer);
        }
        let waiting = Waiting { shard: self.me.clone(), key };
        self.tasks.spawn_local(async move {
            let answer = publishing.await;
            if let Some(shard) = waiting.shard.upgrade() {
                shard.borrow_mut().answer(key, answer);
            }
        });
        None
    }

    fn answer(&mut self, key: Key, input: Input) {
        self.handle(key, input);
        self.flush(key, self.now().moment);
        self.settle();
    }

    fn name(&self, key: Key) -> Box<str> {
        connection_name(&self.world.config.connection_prefix, self.id, key)
    }

    // What goes to the client.

    fn send(&mut self, key: Key, frame: &Frame) {
        let now = self.now().moment;
        self.queue(key, frame, now);
    }

    /// Puts a Frame into an Outbox; none if it is not in there. Here the ladder for slow clients
    /// begins; so far it has one step.
    fn queue(&mut self, key: Key, frame: &Frame, now: Moment) -> Option<Transport> {
        let bytes_max = self.world.config.outbox_bytes;
        let mut writes = Writes::default();
        let connection = self.get(key).filter(|one| one.goodbye.is_none() && !one.overflowed)?;
        let was_blocked = connection.blocked.is_some();
        // It ends when it is flushed: here its Session may be in the middle of what it wants.
        connection.overflowed = connection.push(frame, bytes_max, now, &mut writes).is_err();
        let is_blocked = connection.blocked.is_some();
        let due = connection.is_due(bytes_max / 2);
        if due {
            connection.wake();
        }
        let queued = (!connection.overflowed).then(|| connection.transport());
        let clean = !std::mem::replace(&mut connection.dirty, true);
        if clean {
            self.dirty.push(key);
        }
        self.count_writes(writes);
        self.turn_owed |= due;
        if is_blocked && !was_blocked {
            self.schedule(key);
        }
        queued
    }

    fn count_writes(&self, writes: Writes) {
        if writes.calls > 0 {
            self.counts.writes.add(writes.calls);
            self.counts.reached[Transport::WebSocket as usize].bytes.add(writes.bytes);
        }
    }

    /// Where metrics count this Namespace.
    fn place(&self, namespace: &str) -> usize {
        self.world.config.session.namespaces.place(namespace)
    }

    fn flush(&mut self, key: Key, now: Moment) {
        let mut writes = Writes::default();
        let Some(connection) = self.get(key) else {
            return;
        };
        connection.dirty = false;
        if connection.overflowed && connection.goodbye.is_none() {
            self.counts.slow_consumers.add(1);
            self.counts.hit(Limit::OutboxBytes);
            return self.end(key, Close::Refused(Code::SlowConsumer));
        }
        let was_blocked = connection.blocked.is_some();
        let flushed = connection.flush(now, &mut writes);
        let is_blocked = connection.blocked.is_some();
        let (change, followed) = (connection.weigh(), connection.followed);
        self.counts.outbox_bytes.add(change);
        self.count_writes(writes);
        if followed {
            self.arrived(key);
        }
        if flushed.is_err() {
            self.lose(key);
        } else if is_blocked && !was_blocked {
            self.schedule(key);
        }
        self.feed(key);
    }

    /// Flushes and looks after Connections, some at a time. Whether there is more to do.
    fn work(&mut self) -> bool {
        let now = self.now().moment;
        for _ in 0..FLUSHES_PER_TURN {
            if let Some(key) = self.dirty.pop() {
                self.flush(key, now);
            } else if let Some(key) = self.due.pop() {
                self.look(key);
            } else if let Some(key) = self.told.pop() {
                self.handle(key, Input::Bus(self.bus_connected));
            } else if self.has_room_to_attach()
                && let Some(key) = self.hungry.pop()
            {
                if let Some(connection) = self.get(key) {
                    connection.hungry = false;
                }
                self.feed(key);
            } else if let Some((key, at)) = self.departing.pop() {
                self.send_away(key, at);
            } else if self.sweep.is_some() {
                self.sweep_one();
            } else {
                self.settle();
                return false;
            }
        }
        true
    }

    // What the node says.

    fn obey(&mut self, order: Order) {
        let keys: Vec<Key> = self
            .connections
            .iter()
            .filter_map(|(index, one)| {
                Some(Key { index: u32::try_from(index).ok()?, serial: one.serial })
            })
            .collect();
        match order {
            Order::Cut(name) => {
                for key in keys {
                    if *self.name(key) == *name {
                        self.end(key, Close::Cut);
                    }
                }
            }
            Order::SendAway { connection, window } => {
                let at = Moment(self.now().moment.0 + goodbye::slot(millis(window), 0, 1));
                for key in keys {
                    if *self.name(key) == *connection {
                        self.departing.push((key, at));
                    }
                }
            }
            Order::Drain { window } if window.is_zero() => {
                for key in keys {
                    self.end(key, Close::Later(Code::Draining, spread(key)));
                }
            }
            Order::Drain { window } => {
                let (now, window, all) = (self.now().moment, millis(window), keys.len() as u64);
                for (key, place) in keys.into_iter().zip(0..) {
                    self.departing.push((key, Moment(now.0 + goodbye::slot(window, place, all))));
                }
            }
            Order::CloseAll => keys.into_iter().for_each(|key| self.end(key, Close::NodeEnds)),
            Order::Link(connected) => {
                self.bus_connected = connected;
                self.told = keys;
            }
            Order::Errand(errand) => self.take_errand(errand, keys),
        }
    }

    /// Writes the gauges.
    fn settle(&mut self) {
        self.replayed = Vec::new();
        self.counts.subscriptions.set(self.table.subscriptions());
        self.counts.patterns.set(self.table.patterns());
    }
}

/// Told times are spread, so that not all come back at once.
fn spread(key: Key) -> u64 {
    u64::from(key.serial.wrapping_mul(0x9e37_79b1)) % RETURN_SPREAD_MS
}

/// Unique over nodes and restarts, by the prefix, and on the node, by the rest.
fn connection_name(prefix: &str, shard: ShardId, key: Key) -> Box<str> {
    format!("{prefix}-{:x}-{:x}", shard.0, key.pack()).into()
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
