//! The model Shard: what the real one does with Sessions, Table, Outboxes and Feeds, without sockets.
//!
//! Table, Outbox and Session are the real ones. A client takes Frames off its Outbox as it likes.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidegate::auth::{Claims, Verb};
use tidegate::feed::{AttachError, Event, Feeds, ShardId, Source, Ticket};
use tidegate::protocol::{Close, Code, Envelope, GapReason, Limit, Push, Reply};
use tidegate::session::{self, Input, Moment, Now, Output, Session};
use tidegate::shard::goodbye::slot;
use tidegate::shard::outbox::Outbox;
use tidegate::shard::table::Table;
use tidegate::shard::{Key, SLOT_GRACE};
use tidegate::topic::Pattern;
use tokio::sync::mpsc;

use crate::faults::Blind;

/// What a Reply or a Push takes in an Outbox.
const FRAME: &[u8] = &[b' '; 120];

/// What a client reads.
#[derive(Debug)]
pub(crate) enum Frame {
    Reply(Reply),
    Push(Push),
    Publication(Arc<Envelope>),
}

impl Frame {
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Reply(reply) => format!("{reply:?}"),
            Self::Push(push) => format!("{push:?}"),
            Self::Publication(envelope) => String::from_utf8_lossy(envelope.text()).into_owned(),
        }
    }
}

/// What the Shards of a seed share.
pub(crate) struct Rules {
    pub(crate) session: session::Config,
    pub(crate) outbox_bytes: usize,
    pub(crate) attaches_waiting: usize,
    pub(crate) blind: Option<Blind>,
}

pub(crate) struct Connection {
    pub(crate) session: Session,
    outbox: Outbox,
    frames: VecDeque<Frame>,
    /// What its Token says.
    claims: Option<Arc<Claims>>,
    /// What the next Token that it shows will say.
    pub(crate) shows: Arc<Claims>,
    /// The Subscriptions that have not ended.
    numbers: BTreeMap<u32, Pattern>,
    overflowed: bool,
    /// When it is to have gone elsewhere.
    leaves: Option<Moment>,
    pub(crate) closed: Option<Close>,
}

pub(crate) struct Shard {
    id: ShardId,
    rules: Rc<Rules>,
    feeds: Feeds,
    pub(crate) inbox: mpsc::Receiver<Event>,
    pub(crate) table: Table,
    pub(crate) connections: BTreeMap<u64, Connection>,
    pub(crate) attaching: usize,
    unreleased: Vec<Pattern>,
    hungry: Vec<u64>,
    serial: u64,
    now: Now,
    /// In how many milliseconds clients are to leave, as the drain under way tells them.
    told: Vec<u64>,
    /// What should never be.
    pub(crate) violation: Option<String>,
}

impl Shard {
    pub(crate) fn new(
        id: ShardId,
        rules: Rc<Rules>,
        feeds: Feeds,
        inbox: mpsc::Receiver<Event>,
        now: Now,
    ) -> Self {
        Self {
            id,
            table: Table::new(Arc::clone(&rules.session.namespaces)),
            rules,
            feeds,
            inbox,
            connections: BTreeMap::new(),
            attaching: 0,
            unreleased: Vec::new(),
            hungry: Vec::new(),
            serial: 0,
            now,
            told: Vec::new(),
            violation: None,
        }
    }

    pub(crate) const fn tell_time(&mut self, now: Now) {
        self.now = now;
    }

    pub(crate) fn connect(&mut self, shows: Arc<Claims>, handshake: session::Handshake) -> u64 {
        self.serial += 1;
        let connection = Connection {
            session: Session::new(&self.rules.session, self.now),
            outbox: Outbox::default(),
            frames: VecDeque::new(),
            claims: None,
            shows,
            numbers: BTreeMap::new(),
            overflowed: false,
            leaves: None,
            closed: None,
        };
        self.connections.insert(self.serial, connection);
        self.handle(self.serial, Input::Open(handshake));
        self.serial
    }

    /// Takes some of what Feeds brought, and looks after who waits.
    pub(crate) fn work(&mut self, events: usize) -> usize {
        let mut taken = 0;
        while taken < events
            && let Ok(event) = self.inbox.try_recv()
        {
            self.take(event);
            taken += 1;
        }
        let full: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, one)| one.overflowed)
            .map(|(key, _)| *key)
            .collect();
        for key in full {
            self.end(key, Close::Refused(Code::SlowConsumer));
        }
        let stays = |at: Moment| at.after(SLOT_GRACE) <= self.now.moment;
        let stay: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, one)| one.leaves.is_some_and(stays))
            .map(|(key, _)| *key)
            .collect();
        for key in stay {
            self.end(key, Close::Later(Code::Draining, 0));
        }
        while self.has_room_to_attach()
            && let Some(key) = self.hungry.pop()
        {
            self.feed(key);
        }
        self.release();
        taken
    }

    /// Sends everybody elsewhere, each at a slot of its own.
    pub(crate) fn drain(&mut self, window: Duration) {
        let window = u64::try_from(window.as_millis()).unwrap();
        let here = |one: &Connection| one.leaves.is_none() && one.closed.is_none();
        let keys = self.connections.iter().filter(|(_, one)| here(one));
        let keys: Vec<u64> = keys.map(|(key, _)| *key).collect();
        let all = keys.len() as u64;
        self.told.clear();
        for (key, place) in keys.into_iter().zip(0..) {
            let even = self.rules.blind != Some(Blind::EvenDrain);
            let wait = if even { slot(window, place, all) } else { 0 };
            if let Some(connection) = self.connections.get_mut(&key) {
                connection.leaves = Some(Moment(self.now.moment.0 + wait));
            }
            self.handle(key, Input::GoingAway(wait));
        }
        let mut parts: Vec<u64> = self.told.iter().map(|wait| wait * all / window).collect();
        parts.sort_unstable();
        if parts.windows(2).any(|two| two[0] == two[1]) {
            self.violation = Some("two clients leave in the same part of a drain".to_owned());
        }
    }

    /// The client reads the next Frame.
    pub(crate) fn read(&mut self, key: u64) -> Option<Frame> {
        let connection = self.connections.get_mut(&key).filter(|one| !one.overflowed)?;
        let frame = connection.frames.pop_front()?;
        let bytes = connection.outbox.slices().next().map_or(0, |first| first.len());
        connection.outbox.advance(bytes);
        if connection.frames.is_empty() != connection.outbox.is_empty() {
            self.violation = Some("the outbox holds other Frames than were put in".to_owned());
        }
        self.feed(key);
        Some(frame)
    }

    /// The one exit.
    pub(crate) fn end(&mut self, key: u64, close: Close) {
        let Some(connection) = self.connections.get_mut(&key).filter(|one| one.closed.is_none())
        else {
            return;
        };
        let mut outputs = Vec::new();
        connection.session.end(&mut outputs);
        connection.closed = Some(close);
        connection.overflowed = false;
        connection.frames.clear();
        connection.outbox.drop_unsent();
        for output in outputs {
            self.carry_out(key, output);
        }
    }

    pub(crate) fn handle(&mut self, key: u64, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut outputs = Vec::new();
            let rules = Rc::clone(&self.rules);
            if let Some(connection) = self.connections.get_mut(&key) {
                let context = session::Context {
                    config: &rules.session,
                    connection: &|| "connection".into(),
                    now: self.now,
                    bus_connected: true,
                };
                connection.session.handle(&context, input, &mut outputs);
            }
            for output in outputs {
                inputs.extend(self.carry_out(key, output));
            }
        }
        self.feed(key);
    }

    fn carry_out(&mut self, key: u64, output: Output) -> Option<Input> {
        match output {
            Output::Reply(reply) => self.queue(key, Frame::Reply(reply)),
            Output::Push(push) => self.queue(key, Frame::Push(push)),
            Output::Verify(_) => {
                let connection = self.connections.get_mut(&key)?;
                let claims = Arc::clone(&connection.shows);
                connection.claims = Some(Arc::clone(&claims));
                return Some(Input::Verified(Ok(claims)));
            }
            Output::Begin(number, pattern) => {
                let shared = self.table.begin(&pattern);
                let connection = self.connections.get_mut(&key)?;
                connection.session.share(number, shared);
                connection.numbers.insert(number, pattern);
            }
            Output::Attach(number, patterns, begin) => {
                self.release();
                let ticket = Ticket { connection: key, number };
                crate::seeds::tell(|| {
                    format!(
                        "{:?} {:?} attaches {ticket:?} {patterns:?} {begin:?}",
                        self.now.moment, self.id
                    )
                });
                let asked = self.has_room_to_attach()
                    && self.feeds.attach(self.id, patterns, begin, ticket).is_ok();
                if !asked {
                    let full = AttachError::Overloaded(Limit::AttachesWaiting);
                    return Some(Input::AttachFailed(number, full.wire()));
                }
                self.attaching += 1;
            }
            Output::Deliver(envelopes) => {
                for envelope in envelopes {
                    self.queue(key, Frame::Publication(envelope));
                }
            }
            Output::Join(pattern) => {
                let all = self.live(key);
                self.table.join(&pattern, Key::unpack(key), &all);
            }
            Output::Pause(pattern) => {
                self.table.pause(&pattern, Key::unpack(key));
            }
            Output::Leave(pattern, live) => {
                let all = self.live(key);
                if let Some(connection) = self.connections.get_mut(&key) {
                    connection.numbers.retain(|_, other| *other != pattern);
                }
                let left = self.table.leave(&pattern, Key::unpack(key), live, &all);
                self.unreleased.extend(left.unwanted);
                self.release();
                if left.torn {
                    for one in all.into_iter().filter(|one| one.intersection(&pattern).is_some()) {
                        self.handle(key, Input::Gap(one, GapReason::BusInterrupted));
                    }
                }
            }
            Output::Close(close) => self.end(key, close),
            Output::Publish(..) | Output::Read(_) | Output::Heartbeat(_) | Output::Met(_) => {}
        }
        None
    }

    fn live(&self, key: u64) -> Vec<Pattern> {
        let connection = self.connections.get(&key);
        connection
            .map_or_else(Vec::new, |one| one.session.subscriptions().live().cloned().collect())
    }

    fn has_room_to_attach(&self) -> bool {
        self.unreleased.is_empty() && self.attaching < self.rules.attaches_waiting
    }

    fn feed(&mut self, key: u64) {
        let half = self.rules.outbox_bytes / 2;
        let hungry = |one: &&Connection| {
            one.session.is_hungry() && one.closed.is_none() && one.outbox.bytes() < half
        };
        if self.connections.get(&key).filter(hungry).is_none() {
            return;
        }
        self.release();
        if self.has_room_to_attach() {
            self.handle(key, Input::Room);
        } else {
            self.hungry.push(key);
        }
    }

    fn release(&mut self) {
        while let Some(pattern) = self.unreleased.last() {
            if self.feeds.detach(self.id, pattern.clone()).is_err() {
                return;
            }
            self.unreleased.pop();
        }
    }

    fn take(&mut self, event: Event) {
        crate::seeds::tell(|| format!("{:?} {:?} takes {event:?}", self.now.moment, self.id));
        match event {
            Event::Live(source, envelope, _) => {
                let receivers = match &source {
                    Source::Pattern(pattern) => self.table.receivers(pattern, envelope.topic()),
                    Source::Namespace(_) => self.table.receivers_kept(envelope.topic()),
                };
                for key in &*receivers {
                    self.queue(key.pack(), Frame::Publication(Arc::clone(&envelope)));
                }
            }
            Event::Attached(ticket, replay) => {
                self.attaching -= 1;
                let patterns = Arc::clone(&replay.patterns);
                let key = ticket.connection;
                if self.rules.blind == Some(Blind::EndedAnswers)
                    && let Some(connection) = self.connections.get(&key)
                    && !connection.numbers.contains_key(&ticket.number)
                {
                    for envelope in &replay.envelopes {
                        self.queue(key, Frame::Publication(Arc::clone(envelope)));
                    }
                }
                self.handle(key, Input::Attached(ticket.number, replay));
                for pattern in &*patterns {
                    if !self.table.wants(pattern) {
                        self.unreleased.push(pattern.clone());
                    }
                }
                self.release();
            }
            Event::Refused(ticket, why) => {
                self.attaching -= 1;
                self.handle(ticket.connection, Input::AttachFailed(ticket.number, why.wire()));
            }
            Event::Overrun(Source::Namespace(namespace), Some(cursor)) => {
                let mut keys: Vec<u64> =
                    self.subscribers(&namespace).into_iter().map(|(_, key)| key).collect();
                keys.sort_unstable();
                keys.dedup();
                for key in keys {
                    self.handle(key, Input::Overrun(Arc::clone(&namespace), cursor));
                }
            }
            Event::Overrun(source, _) => self.tell_gap(&source, GapReason::BusInterrupted),
            Event::Gap(source, reason) => self.tell_gap(&source, reason),
            Event::Position(namespace, cursor) => {
                let mut keys = self.table.quiet(&namespace);
                keys.sort_unstable_by_key(|key| key.pack());
                for key in keys {
                    self.handle(key.pack(), Input::Position(Arc::clone(&namespace), cursor));
                }
            }
        }
    }

    fn tell_gap(&mut self, source: &Source, reason: GapReason) {
        let subscribers = match source {
            Source::Pattern(pattern) => {
                let keys = self.table.subscribers(pattern).into_iter().map(Key::pack);
                let lost = |other: &Pattern| other.intersection(pattern).is_some();
                let of = |key| self.live(key).into_iter().filter(lost).map(move |one| (one, key));
                keys.flat_map(of).collect()
            }
            Source::Namespace(namespace) => self.subscribers(namespace),
        };
        for (pattern, key) in subscribers {
            self.handle(key, Input::Gap(pattern, reason));
        }
    }

    /// In an order that is the same in every run.
    fn subscribers(&self, namespace: &str) -> Vec<(Pattern, u64)> {
        let all = self.table.subscribers_of(namespace).into_iter();
        let mut all: Vec<(Pattern, u64)> =
            all.map(|(pattern, key)| (pattern, key.pack())).collect();
        all.sort_unstable();
        all
    }

    fn queue(&mut self, key: u64, frame: Frame) {
        let open = |one: &&mut Connection| one.closed.is_none() && !one.overflowed;
        let Some(connection) = self.connections.get_mut(&key).filter(open) else {
            return;
        };
        if let Frame::Push(Push::GoingAway { reconnect_in_ms }) = &frame {
            self.told.push(*reconnect_in_ms);
        }
        let bytes = match &frame {
            Frame::Publication(envelope) => envelope.text().clone(),
            Frame::Reply(_) | Frame::Push(_) => Bytes::from_static(FRAME),
        };
        if let Frame::Publication(envelope) = &frame {
            let topic = Pattern::from(envelope.topic());
            let claims = connection.claims.as_ref();
            if claims.is_none_or(|claims| !claims.grants.covers(Verb::Subscribe, &topic)) {
                self.violation = Some(format!("I5: {topic} goes to who may not read it"));
            }
        }
        let max = self.rules.outbox_bytes;
        let bound = if self.rules.blind == Some(Blind::OutboxBound) { usize::MAX } else { max };
        match connection.outbox.push(&Rc::new(bytes), bound) {
            Ok(()) => connection.frames.push_back(frame),
            Err(_) => connection.overflowed = true,
        }
        if connection.outbox.bytes() > max && connection.outbox.len() > 1 {
            self.violation = Some(format!("an outbox holds {} bytes", connection.outbox.bytes()));
        }
    }

    /// What is left of those who were here.
    pub(crate) fn leftovers(&self) -> Option<String> {
        let (subscriptions, patterns) = (self.table.subscriptions(), self.table.patterns());
        let left = subscriptions + patterns + self.attaching + self.unreleased.len();
        (left > 0).then(|| {
            format!(
                "I8: {subscriptions} subscriptions, {patterns} patterns, {} attaches and {} \
                 releases are left",
                self.attaching,
                self.unreleased.len()
            )
        })
    }
}
