//! The model Bus: histories that keep what the trait promises, and roads that keep nothing.
//!
//! All nodes of a seed share one [`World`]; each has its own [`Road`] to it. A road loses, repeats,
//! delays and reorders live copies, and it fails; a history is trimmed, goes back or begins anew.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tidegate::bus::history::{Head, Newest, Page, ReadError, Stored, Want};
use tidegate::bus::{Arrival, Bus, Link, Live, PublishError, Receipt, SubscribeError};
use tidegate::namespace::History as Rules;
use tidegate::publication::{Epoch, Publication, Timestamp};
use tidegate::topic::{Pattern, Topic};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, timeout, timeout_at};

use crate::faults::{Blind, Fault, Faults};
use crate::rng::Rng;
use crate::truth::{Entry, Missed, Truth};

/// When the clocks of a simulation begin.
const BEGIN_MS: u64 = 1_790_000_000_000;
/// Calls within one moment, beyond which somebody runs in a circle.
const CALLS_MAX: u32 = 20_000;
/// What a short queue of a live road holds.
const SHORT_QUEUE: usize = 8;
/// A Feed that listens for less than this has just begun to.
const OPENING: Duration = Duration::from_millis(400);
/// How long a blinded history tells nothing new.
const BLIND: Duration = Duration::from_secs(3);

pub(crate) struct World {
    rng: Rng,
    pub(crate) faults: Faults,
    pub(crate) blind: Option<Blind>,
    begun: Instant,
    pub(crate) truth: Truth,
    histories: BTreeMap<Box<str>, History>,
    listeners: BTreeMap<u64, Listener>,
    next: u64,
    /// Until when each node reaches nothing.
    outages: Vec<Instant>,
    calls: (Instant, u32),
    link: watch::Sender<Link>,
}

/// By Offset.
type Numbers = BTreeMap<u64, (usize, Timestamp)>;

struct History {
    rules: Rules,
    life: u32,
    epoch: Epoch,
    last: u64,
    last_time: Timestamp,
    entries: BTreeMap<u64, (Timestamp, Arc<Publication>)>,
    /// What was stored where, also what has left.
    numbers: Numbers,
    /// The numbers of those that a newer one has just pushed out.
    pushed_out: Vec<usize>,
    /// Up to where it uses Offsets again.
    used: u64,
    /// More has passed at once than a ring holds, so that nobody would see what is used again.
    burst: bool,
    /// What hides that it began anew: where the old one ended, and its times.
    mask: Option<(u64, Timestamp, Numbers)>,
}

struct Listener {
    node: usize,
    wants: Wants,
    /// What comes, by the moment at which it does.
    queue: BTreeMap<(Instant, u64), Arrival>,
    /// Nothing comes before this: on best effort nothing overtakes, nor does anything overtake what
    /// has an Offset that is used again.
    latest: Instant,
    lost: bool,
    ended: bool,
    made: Instant,
    /// Where history stood then.
    head: Option<Head>,
    woken: Arc<Notify>,
}

enum Wants {
    Pattern(Pattern),
    Namespace(Box<str>),
}

/// One node's road to the World.
#[derive(Clone)]
pub(crate) struct Road {
    pub(crate) node: usize,
    pub(crate) world: Arc<Mutex<World>>,
}

/// A live road; dropped, it ends.
pub(crate) struct Subscription {
    road: Road,
    number: u64,
    woken: Arc<Notify>,
}

/// What a copy on its way is of: its number, and where it is stored.
fn copy(arrival: &Arrival) -> Option<(usize, u64)> {
    match arrival {
        Arrival::Stored(Stored { offset, publication: Some(one), .. }) => {
            Some((one.id.parse().unwrap(), *offset))
        }
        _ => None,
    }
}

pub(crate) fn lock(world: &Mutex<World>) -> MutexGuard<'_, World> {
    world.lock().unwrap()
}

/// Lets the paused clock go on.
pub(crate) async fn pass(span: Duration) {
    let _ = timeout(span, std::future::pending::<()>()).await;
}

impl World {
    pub(crate) fn new(
        seed: u64,
        faults: Faults,
        blind: Option<Blind>,
        kept: impl IntoIterator<Item = (&'static str, Rules)>,
        nodes: usize,
    ) -> Self {
        let now = Instant::now();
        let mut world = Self {
            rng: Rng::new(seed, 2),
            faults,
            blind,
            begun: now,
            truth: Truth::default(),
            histories: BTreeMap::new(),
            listeners: BTreeMap::new(),
            next: 0,
            outages: vec![now; nodes],
            calls: (now, 0),
            link: watch::Sender::new(Link::new(true)),
        };
        for (name, rules) in kept {
            let history = History::new(rules, 0, &mut world.rng, &mut world.truth);
            world.histories.insert(name.into(), history);
        }
        world
    }

    pub(crate) fn now(&self) -> Timestamp {
        let since = u64::try_from(self.begun.elapsed().as_millis()).unwrap();
        Timestamp(BEGIN_MS + since)
    }

    pub(crate) fn listeners(&self) -> usize {
        self.listeners.len()
    }

    /// Everything works from now on.
    pub(crate) fn heal(&mut self) {
        let now = Instant::now();
        self.faults = Faults::NONE;
        self.outages.iter_mut().for_each(|until| *until = now);
    }

    pub(crate) fn publish(&mut self, topic: &Topic, payload: Bytes) {
        let now = self.now();
        let number = self.truth.log.len();
        let publication = Publication {
            topic: topic.clone(),
            id: number.to_string().into(),
            time: now,
            user: None,
            payload,
            trace: None,
        };
        let mut entry = Entry {
            topic: topic.clone(),
            epoch: None,
            offset: 0,
            life: 0,
            tombstone: publication.is_tombstone(),
            at: Instant::now(),
            lost: false,
            used_again: false,
            left_unseen: false,
            left_at: None,
            came_to: 0,
            late_at: 0,
        };
        let Some(history) = self.histories.get_mut(topic.namespace()) else {
            self.truth.store(entry, now);
            let publication = Arc::new(publication);
            return self.carry(topic, &Arrival::Publication(publication), number);
        };
        (entry.epoch, entry.life) = (Some(history.epoch), history.life);
        entry.offset = history.last + 1;
        entry.used_again = entry.offset <= history.used;
        if self.blind == Some(Blind::Contiguity) && self.rng.percent(20) {
            return self.truth.store(entry, now);
        }
        let stored = history.append(publication, number);
        for gone in history.pushed_out.drain(..) {
            self.truth.log[gone].left_at = Some(Instant::now());
        }
        let (offset, time) = (stored.offset, self.begun.elapsed());
        crate::seeds::tell(|| {
            format!("{time:?} number {number} on {topic} is stored at {offset:x}")
        });
        self.truth.store(entry, stored.time);
        self.carry(topic, &Arrival::Stored(stored), number);
    }

    /// Sends copies along every road that leads there.
    fn carry(&mut self, topic: &Topic, arrival: &Arrival, number: usize) {
        let now = Instant::now();
        for listener in self.listeners.values_mut() {
            let wants = match &listener.wants {
                Wants::Pattern(pattern) => pattern.matches(topic),
                Wants::Namespace(name) => **name == *topic.namespace(),
            };
            if !wants || listener.ended {
                continue;
            }
            let opening = now.duration_since(listener.made) < OPENING
                && self.faults.has(Fault::OpeningDrop)
                && self.rng.percent(50);
            if opening && matches!(arrival, Arrival::Stored(_)) {
                let node = listener.node;
                self.truth.missed_at_openings.push(Missed { node, number, at: now });
                continue;
            }
            let out = self.outages[listener.node] > now;
            let dropped = out || self.faults.has(Fault::Drop) && self.rng.percent(8);
            let full = self.faults.has(Fault::Overflow) && listener.queue.len() >= SHORT_QUEUE;
            let in_order = match arrival {
                Arrival::Stored(_) => self.truth.log[number].used_again,
                Arrival::Publication(_) | Arrival::Lost => true,
            };
            let lost = (dropped, full);
            listener.send(arrival, lost, in_order, self.faults, &mut self.rng, &mut self.next);
        }
    }

    /// A copy has come to a node.
    fn come(&mut self, node: usize, arrival: &Arrival) {
        if let Some((number, _)) = copy(arrival) {
            let entry = &mut self.truth.log[number];
            entry.came_to |= 1 << node & !entry.late_at;
        }
    }

    // Faults of a history.

    pub(crate) fn wipe(&mut self, namespace: &str) {
        let Self { histories, rng, truth, blind, .. } = self;
        let Some(history) = histories.get_mut(namespace) else {
            return;
        };
        let mut new = History::new(history.rules.clone(), history.life + 1, rng, truth);
        if *blind == Some(Blind::Epoch) {
            let numbers = std::mem::take(&mut history.numbers);
            new.mask = Some((history.last, history.last_time, numbers));
            new.epoch = history.epoch;
        } else {
            truth.rewrites += 1;
        }
        *history = new;
        self.forget_copies(namespace);
    }

    /// It loses the last few, as a store does whose disk had not taken them.
    pub(crate) fn go_back(&mut self, namespace: &str) {
        let Some(history) = self.histories.get_mut(namespace).filter(|one| !one.burst) else {
            return;
        };
        let many = self.rng.pick(&[1, 2, 5, 20]);
        let last = history.last.saturating_sub(1 + self.rng.below(many));
        self.truth.rewrites += 1;
        history.entries.split_off(&(last + 1));
        let mut topics = BTreeSet::new();
        for (number, _) in history.numbers.split_off(&(last + 1)).into_values() {
            let entry = &mut self.truth.log[number];
            entry.lost = true;
            topics.insert(entry.topic.clone());
        }
        // That something has left a Topic is seen by how many came after it. These came, and are lost.
        for (offset, (number, _)) in &history.numbers {
            let entry = &mut self.truth.log[*number];
            entry.left_unseen |=
                !history.entries.contains_key(offset) && topics.contains(&entry.topic);
        }
        history.used = history.used.max(history.last);
        history.last = last;
        history.last_time = history.numbers.get(&last).map_or(Timestamp(0), |(_, time)| *time);
        self.forget_copies(namespace);
    }

    /// Copies on their way do not come any more.
    fn forget_copies(&mut self, namespace: &str) {
        for listener in self.listeners.values_mut() {
            if listener.follows(namespace) {
                listener.queue.clear();
            }
        }
    }

    /// A node has read a page of all Topics: copies of what has left before come too late.
    fn overtake(&mut self, node: usize, namespace: &str, from: u64, page: &Page) {
        let here = |one: &&Listener| one.node == node && one.follows(namespace);
        for arrival in self.listeners.values().filter(here).flat_map(|one| one.queue.values()) {
            if let Some((number, offset)) = copy(arrival)
                && (from..=page.end).contains(&offset)
                && page.entries.binary_search_by_key(&offset, |one| one.offset).is_err()
            {
                self.truth.log[number].late_at |= 1 << node;
            }
        }
    }

    /// Very many pass that nobody here wants, and leave at once.
    pub(crate) fn burst(&mut self, namespace: &str) {
        let now = self.now();
        if let Some(history) = self.histories.get_mut(namespace).filter(|one| one.used == 0) {
            history.burst = true;
            history.last += self.rng.between(99_990, 120_000);
            history.last_time = now.max(history.last_time);
        }
    }

    pub(crate) fn end_roads(&mut self, node: usize) {
        for listener in self.listeners.values_mut().filter(|one| one.node == node) {
            listener.ended = true;
            listener.woken.notify_one();
        }
    }

    pub(crate) fn cut_off(&mut self, node: usize, span: Duration) {
        let ends = self.rng.percent(50);
        self.outages[node] = Instant::now() + span;
        if ends {
            self.end_roads(node);
        }
    }

    /// What is kept of a Topic at its newest: its number.
    pub(crate) fn newest(&mut self, topic: &Topic) -> Option<usize> {
        let now = self.now();
        let history = self.histories.get_mut(topic.namespace())?;
        history.trim_old(now);
        let of_topic = |(offset, (_, one)): (&u64, &(Timestamp, Arc<Publication>))| {
            (one.topic == *topic).then_some(*offset)
        };
        let offset = history.entries.iter().rev().find_map(of_topic)?;
        history.numbers.get(&offset).map(|(number, _)| *number)
    }

    /// The first that was stored at this time or later and has not been lost since.
    pub(crate) fn since(&self, namespace: &str, time: Timestamp) -> usize {
        let all = self.histories.get(namespace).map(|history| &history.numbers);
        let found = all.and_then(|all| all.values().find(|(_, stored)| *stored >= time));
        found.map_or(self.truth.log.len(), |(number, _)| *number)
    }

    /// Whether it can be seen that what once stood at this place is not what stands there.
    pub(crate) fn shows(&self, namespace: &str, offset: u64) -> bool {
        self.histories.get(namespace).is_some_and(|one| {
            one.last < offset || one.entries.contains_key(&offset) || one.last == offset
        })
    }

    fn listen(&mut self, node: usize, wants: Wants) -> (u64, Arc<Notify>) {
        self.next += 1;
        let now = Instant::now();
        let head = match &wants {
            Wants::Namespace(name) => Some(self.head_of(name)),
            Wants::Pattern(_) => None,
        };
        let woken = Arc::new(Notify::new());
        let listener = Listener {
            node,
            wants,
            queue: BTreeMap::new(),
            latest: now,
            lost: false,
            ended: false,
            made: now,
            head,
            woken: Arc::clone(&woken),
        };
        self.listeners.insert(self.next, listener);
        (self.next, woken)
    }

    fn head_of(&mut self, namespace: &str) -> Head {
        let now = self.now();
        self.histories.get_mut(namespace).unwrap().head(now)
    }

    /// What a node is told, which may be blinded.
    fn told_head(&mut self, node: usize, namespace: &str) -> Head {
        let head = self.head_of(namespace);
        if self.blind == Some(Blind::Opening) {
            let fresh = |one: &&Listener| {
                one.node == node && one.head.is_some() && one.made.elapsed() < BLIND
            };
            if let Some(then) = self.listeners.values().find(fresh).and_then(|one| one.head) {
                return then;
            }
        }
        head
    }
}

impl Listener {
    fn follows(&self, namespace: &str) -> bool {
        matches!(&self.wants, Wants::Namespace(name) if **name == *namespace)
    }

    fn send(
        &mut self,
        arrival: &Arrival,
        (dropped, full): (bool, bool),
        in_order: bool,
        faults: Faults,
        rng: &mut Rng,
        next: &mut u64,
    ) {
        let now = Instant::now();
        let best_effort = matches!(arrival, Arrival::Publication(_));
        let mut arrival = arrival.clone();
        if dropped || full {
            if full || best_effort {
                // It is told in its place, or in front of all that waits.
                match best_effort {
                    true => arrival = Arrival::Lost,
                    false => self.lost = true,
                }
            }
            if !best_effort {
                return self.woken.notify_one();
            }
        }
        let late = faults.has(Fault::Delay) && rng.percent(15);
        let delay = if late { rng.between(1, 1_500) } else { rng.below(4) };
        let at = self.latest.max(now + Duration::from_millis(delay));
        if in_order {
            // Copies overtake each other where two servers send them. A history that has gone back is
            // one server's, which has just been started.
            self.latest = at;
        }
        *next += 1;
        self.queue.insert((at, *next), arrival.clone());
        if !best_effort && faults.has(Fault::Repeat) && rng.percent(15) {
            *next += 1;
            let again = at + Duration::from_millis(rng.below(2_000));
            self.queue.insert((again, *next), arrival);
        }
        self.woken.notify_one();
    }
}

impl History {
    fn new(rules: Rules, life: u32, rng: &mut Rng, truth: &mut Truth) -> Self {
        let epoch = Epoch::new(u32::try_from(rng.below(1 << 30)).unwrap());
        truth.begin(epoch);
        Self {
            rules,
            life,
            epoch,
            last: 0,
            last_time: Timestamp(0),
            entries: BTreeMap::new(),
            numbers: BTreeMap::new(),
            pushed_out: Vec::new(),
            used: 0,
            burst: false,
            mask: None,
        }
    }

    fn append(&mut self, publication: Publication, number: usize) -> Stored {
        self.last += 1;
        let mut time = publication.time.max(Timestamp(self.last_time.0));
        self.last_time = time;
        if let Some((_, _, old)) = &self.mask
            && let Some((_, masked)) = old.get(&self.last)
        {
            time = *masked;
        }
        let publication = Arc::new(publication);
        self.entries.insert(self.last, (time, Arc::clone(&publication)));
        self.numbers.insert(self.last, (number, time));
        let kept = self.rules.messages as usize + 1;
        if self.entries.len() > kept {
            let of_topic = |(offset, (_, one)): (&u64, &(Timestamp, Arc<Publication>))| {
                (one.topic == publication.topic).then_some(*offset)
            };
            let all: Vec<u64> = self.entries.iter().rev().filter_map(of_topic).collect();
            for oldest in all.iter().skip(kept) {
                self.entries.remove(oldest);
                self.pushed_out.extend(self.numbers.get(oldest).map(|(number, _)| number));
            }
        }
        Stored { offset: self.last, time, publication: Some(publication) }
    }

    fn trim_old(&mut self, now: Timestamp) {
        let age = u64::try_from(self.rules.age.as_millis()).unwrap();
        let old = |time: &Timestamp| now.0.saturating_sub(time.0) >= age;
        while self.mask.is_none()
            && self.entries.first_key_value().is_some_and(|(_, (time, _))| old(time))
        {
            self.entries.pop_first();
        }
    }

    fn head(&mut self, now: Timestamp) -> Head {
        self.trim_old(now);
        let (mut last, mut last_time) = (self.last, self.last_time);
        if let Some((old, time, _)) = &self.mask
            && *old >= last
        {
            (last, last_time) = (*old, *time);
        }
        let first = self.entries.first_key_value().map(|(offset, (time, _))| (*offset, *time));
        let (first, first_time) = first.unwrap_or((last + 1, last_time));
        let messages = self.rules.messages.into();
        Head { epoch: self.epoch, first, first_time, last, last_time, messages }
    }

    fn read(&mut self, now: Timestamp, want: &Want<'_>, items: usize) -> Option<Page> {
        let last = self.head(now).last;
        if want.until > last {
            return None;
        }
        let mut page = Page { entries: Vec::new(), end: want.until };
        for (offset, (time, one)) in self.entries.range(want.from..=want.until) {
            if !matches(want.patterns, &one.topic) {
                continue;
            }
            if page.entries.len() >= items
                && let Some(last) = page.entries.last().filter(|one| one.offset > want.from)
            {
                page.end = last.offset;
                break;
            }
            let publication = Some(Arc::clone(one));
            page.entries.push(Stored { offset: *offset, time: *time, publication });
        }
        Some(page)
    }

    fn snapshot(&mut self, now: Timestamp, patterns: &[Pattern]) -> Newest {
        self.trim_old(now);
        let mut newest: BTreeMap<&Topic, Stored> = BTreeMap::new();
        for (offset, (time, one)) in &self.entries {
            if matches(patterns, &one.topic) {
                let publication = Some(Arc::clone(one));
                let stored = Stored { offset: *offset, time: *time, publication };
                newest.insert(&one.topic, stored);
            }
        }
        let mut entries: Vec<Stored> = newest.into_values().collect();
        entries.sort_unstable_by_key(|one| one.offset);
        Newest { entries, as_of: self.last }
    }
}

fn matches(patterns: &[Pattern], topic: &Topic) -> bool {
    patterns.is_empty() || patterns.iter().any(|one| one.matches(topic))
}

impl Road {
    /// Asks the World something: at once and hears of it late, or late.
    async fn ask<T>(&self, mut ask: impl FnMut(&mut World) -> Option<T>) -> Option<T> {
        let (mut early, fails, wait) = {
            let mut world = lock(&self.world);
            let now = Instant::now();
            let calls = if world.calls.0 == now { world.calls.1 + 1 } else { 0 };
            world.calls = (now, calls);
            assert!(calls < CALLS_MAX, "somebody asks the bus in a circle");
            let faults = world.faults;
            let mut fails = faults.has(Fault::Fails) && world.rng.percent(25);
            fails |= world.outages[self.node] > now;
            let slow = faults.has(Fault::Slow) && world.rng.percent(20);
            let wait = if slow { world.rng.between(1, 4_000) } else { world.rng.below(4) };
            let early = if world.rng.percent(50) { Some(ask(&mut world)) } else { None };
            (early, fails, wait)
        };
        if wait > 0 {
            pass(Duration::from_millis(wait)).await;
        }
        if fails {
            return None;
        }
        let mut world = lock(&self.world);
        if world.outages[self.node] > Instant::now() {
            return None;
        }
        early.take().unwrap_or_else(|| ask(&mut world))
    }

    async fn listen(&self, wants: impl Fn() -> Wants) -> Result<Subscription, SubscribeError> {
        let (number, woken) = self
            .ask(|_| Some(()))
            .await
            .map(|()| lock(&self.world).listen(self.node, wants()))
            .ok_or(SubscribeError::Unavailable)?;
        Ok(Subscription { road: self.clone(), number, woken })
    }
}

impl Bus for Road {
    type Live = Subscription;

    async fn publish(&self, _: Publication) -> Result<Receipt, PublishError> {
        Err(PublishError::Unavailable)
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription, SubscribeError> {
        self.listen(|| Wants::Pattern(pattern.clone())).await
    }

    async fn follow(&self, namespace: &str) -> Result<Subscription, SubscribeError> {
        self.listen(|| Wants::Namespace(namespace.into())).await
    }

    async fn head(&self, namespace: &str) -> Result<Head, ReadError> {
        let told = self.ask(|world| Some(world.told_head(self.node, namespace))).await;
        told.ok_or(ReadError::Unavailable)
    }

    async fn read(&self, namespace: &str, want: Want<'_>) -> Result<Page, ReadError> {
        let read = |world: &mut World| {
            let short = world.faults.has(Fault::ShortPages) && world.rng.percent(50);
            let most = if short { world.rng.between(1, 5) } else { want.items as u64 };
            let now = world.now();
            let history = world.histories.get_mut(namespace)?;
            let page = history.read(now, &want, usize::try_from(most).unwrap())?;
            if want.patterns.is_empty() {
                world.overtake(self.node, namespace, want.from, &page);
            }
            Some(page)
        };
        self.ask(read).await.ok_or(ReadError::Unavailable)
    }

    async fn newest(
        &self,
        namespace: &str,
        patterns: &[Pattern],
        topics_max: usize,
    ) -> Result<Newest, ReadError> {
        let read = |world: &mut World| {
            let now = world.now();
            Some(world.histories.get_mut(namespace)?.snapshot(now, patterns))
        };
        let newest = self.ask(read).await.ok_or(ReadError::Unavailable)?;
        match newest.entries.len() > topics_max {
            true => Err(ReadError::TooManyTopics),
            false => Ok(newest),
        }
    }

    async fn since(&self, namespace: &str, time: Timestamp) -> Result<Option<u64>, ReadError> {
        let read = |world: &mut World| {
            let now = world.now();
            let history = world.histories.get_mut(namespace)?;
            history.trim_old(now);
            let found = history.entries.iter().find(|(_, (stored, _))| *stored >= time);
            Some(found.map(|(offset, _)| *offset))
        };
        self.ask(read).await.ok_or(ReadError::Unavailable)
    }

    fn link(&self) -> watch::Receiver<Link> {
        lock(&self.world).link.subscribe()
    }
}

impl Live for Subscription {
    async fn next(&mut self) -> Option<Arrival> {
        loop {
            let first = {
                let mut world = lock(&self.road.world);
                let listener = world.listeners.get_mut(&self.number)?;
                if std::mem::take(&mut listener.lost) {
                    return Some(Arrival::Lost);
                }
                if listener.ended {
                    return None;
                }
                let first = listener.queue.first_entry();
                match first {
                    Some(first) if first.key().0 <= Instant::now() => {
                        let arrival = first.remove();
                        world.come(self.road.node, &arrival);
                        return Some(arrival);
                    }
                    first => first.map(|first| first.key().0),
                }
            };
            match first {
                Some(at) => drop(timeout_at(at, self.woken.notified()).await),
                None => self.woken.notified().await,
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // A test that has failed holds the lock as it unwinds.
        if let Ok(mut world) = self.road.world.lock() {
            world.listeners.remove(&self.number);
        }
    }
}
