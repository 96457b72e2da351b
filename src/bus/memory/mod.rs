//! The Bus of a single node, in memory.
//!
//! It keeps what every Bus promises and has no other node to speak to: `dev` runs on it, and so does
//! a `serve` without NATS. One lock makes the order; it is held while a Publication is handed to the
//! queues of those who listen, and never across an await. The kept Namespaces are stores.

mod store;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use futures_util::stream;
use tokio::sync::{mpsc, watch};

use super::call::{Answers, Call, Calls, Heard, Reply};
use super::history::{Head, Newest, Page, ReadError, Want};
use super::{Arrival, Bus, CallError, Link, Live, PublishError, Receipt, SubscribeError};
use crate::namespace::History;
use crate::publication::{Publication, Timestamp};
use crate::topic::{Pattern, Topic};
use store::{Outcome, Store};

/// Publications that may wait for one slow listener; beyond it the newest is lost, and told.
pub const QUEUE_ITEMS: usize = 16_384;
/// Calls that may wait for one who hears them; beyond it the newest is lost.
const CALL_ITEMS: usize = 256;

/// The Bus; clones are the same one.
#[derive(Clone)]
pub struct Memory {
    routes: Arc<Mutex<Routes>>,
    now: fn() -> Timestamp,
    /// Always whole.
    link: Arc<watch::Sender<Link>>,
}

#[derive(Default)]
struct Routes {
    exact: HashMap<Topic, Vec<Listener>>,
    wild: Vec<(Pattern, Listener)>,
    kept: BTreeMap<Box<str>, Kept>,
    calls: BTreeMap<Call, Vec<mpsc::Sender<Heard>>>,
    next: u64,
}

struct Kept {
    store: Store,
    followers: Vec<Listener>,
}

struct Listener {
    number: u64,
    queue: mpsc::Sender<Arrival>,
    lost: Arc<AtomicBool>,
}

/// A subscription of [`Memory`]; dropping it ends it.
pub struct Subscription {
    bus: Memory,
    wants: Wants,
    number: u64,
    queue: mpsc::Receiver<Arrival>,
    lost: Arc<AtomicBool>,
}

enum Wants {
    Pattern(Pattern),
    Namespace(Box<str>),
}

impl Memory {
    /// A Bus that keeps these Namespaces; `now` reads the wall clock.
    pub fn new<'a>(
        kept: impl IntoIterator<Item = (&'a str, &'a History)>,
        now: fn() -> Timestamp,
    ) -> Self {
        let keep = |(name, rules): (&str, &History)| {
            let store = Store::new(rules.clone());
            (name.into(), Kept { store, followers: Vec::new() })
        };
        let routes = Routes { kept: kept.into_iter().map(keep).collect(), ..Routes::default() };
        let link = Arc::new(watch::Sender::new(Link::new(true)));
        Self { routes: Arc::new(Mutex::new(routes)), now, link }
    }

    /// Asks the history of a Namespace something.
    fn ask<T>(
        &self,
        namespace: &str,
        ask: impl FnOnce(&mut Store, Timestamp) -> T,
    ) -> Result<T, ReadError> {
        let now = (self.now)();
        let mut routes = self.routes();
        let kept = routes.kept.get_mut(namespace).ok_or(ReadError::Unavailable)?;
        Ok(ask(&mut kept.store, now))
    }

    /// Hands a call to everybody who hears such.
    fn call(&self, call: Call, payload: &Bytes, answer: Option<&mpsc::Sender<Bytes>>) {
        let mut routes = self.routes();
        let hearing = routes.calls.entry(call).or_default();
        hearing.retain(|one| !one.is_closed());
        for one in hearing {
            let reply = answer.cloned().map(|answer| -> Reply {
                Box::new(move |payload| {
                    Box::pin(async move {
                        // More than was asked for, or too late.
                        let _ = answer.try_send(payload);
                    })
                })
            });
            let _ = one.try_send(Heard { payload: payload.clone(), reply });
        }
    }

    fn listen(&self, wants: Wants) -> (Listener, Subscription) {
        let (sender, queue) = mpsc::channel(QUEUE_ITEMS);
        let lost = Arc::new(AtomicBool::new(false));
        let mut routes = self.routes();
        routes.next += 1;
        let number = routes.next;
        let listener = Listener { number, queue: sender, lost: Arc::clone(&lost) };
        (listener, Subscription { bus: self.clone(), wants, number, queue, lost })
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        // Nothing that holds this lock can leave the routes half changed.
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bus for Memory {
    type Live = Subscription;

    async fn publish(&self, publication: Publication) -> Result<Receipt, PublishError> {
        let mut routes = self.routes();
        if let Some(kept) = routes.kept.get_mut(publication.topic.namespace()) {
            let (cursor, outcome) = kept.store.append(publication);
            let duplicate = match outcome {
                Outcome::New(stored) => {
                    for follower in &kept.followers {
                        follower.hand(&Arrival::Stored(stored.clone()));
                    }
                    false
                }
                Outcome::Known => true,
            };
            return Ok(Receipt { cursor: Some(cursor), duplicate });
        }
        let publication = Arc::new(publication);
        let arrival = Arrival::Publication(Arc::clone(&publication));
        for listener in routes.exact.get(&publication.topic).into_iter().flatten() {
            listener.hand(&arrival);
        }
        for (pattern, listener) in &routes.wild {
            if pattern.matches(&publication.topic) {
                listener.hand(&arrival);
            }
        }
        Ok(Receipt { cursor: None, duplicate: false })
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription, SubscribeError> {
        let (listener, subscription) = self.listen(Wants::Pattern(pattern.clone()));
        let mut routes = self.routes();
        match Topic::parse(pattern.as_str()) {
            Ok(topic) => routes.exact.entry(topic).or_default().push(listener),
            Err(_) => routes.wild.push((pattern.clone(), listener)),
        }
        Ok(subscription)
    }

    async fn follow(&self, namespace: &str) -> Result<Subscription, SubscribeError> {
        let (listener, subscription) = self.listen(Wants::Namespace(namespace.into()));
        let mut routes = self.routes();
        let kept = routes.kept.get_mut(namespace).ok_or(SubscribeError::Unavailable)?;
        kept.followers.push(listener);
        Ok(subscription)
    }

    async fn head(&self, namespace: &str) -> Result<Head, ReadError> {
        self.ask(namespace, Store::head)
    }

    async fn read(&self, namespace: &str, want: Want<'_>) -> Result<Page, ReadError> {
        self.ask(namespace, |store, now| store.read(now, want))
    }

    async fn newest(
        &self,
        namespace: &str,
        patterns: &[Pattern],
        topics_max: usize,
    ) -> Result<Newest, ReadError> {
        self.ask(namespace, |store, now| store.newest(now, patterns, topics_max))?
    }

    async fn since(&self, namespace: &str, time: Timestamp) -> Result<Option<u64>, ReadError> {
        self.ask(namespace, |store, now| store.since(now, time))
    }

    async fn tell(&self, call: Call, payload: Bytes) -> Result<(), CallError> {
        self.call(call, &payload, None);
        Ok(())
    }

    async fn ask(
        &self,
        call: Call,
        payload: Bytes,
        answers_max: usize,
    ) -> Result<Answers, CallError> {
        let (answer, answers) = mpsc::channel(answers_max);
        self.call(call, &payload, Some(&answer));
        Ok(Answers::new(queue(answers)))
    }

    async fn hear(&self, call: Call) -> Result<Calls, CallError> {
        let (sender, calls) = mpsc::channel(CALL_ITEMS);
        self.routes().calls.entry(call).or_default().push(sender);
        Ok(Calls::new(queue(calls)))
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }
}

/// What comes through a queue, until its other ends are gone.
fn queue<T: Send>(queue: mpsc::Receiver<T>) -> impl stream::Stream<Item = T> + Send {
    stream::unfold(queue, |mut queue| async move { Some((queue.recv().await?, queue)) })
}

impl Listener {
    fn hand(&self, arrival: &Arrival) {
        if self.queue.try_send(arrival.clone()).is_err() {
            self.lost.store(true, Ordering::Release);
        }
    }
}

impl Live for Subscription {
    async fn next(&mut self) -> Option<Arrival> {
        // A queue that overflowed was full, so somebody comes by here after the loss.
        if self.lost.swap(false, Ordering::Acquire) {
            return Some(Arrival::Lost);
        }
        self.queue.recv().await
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut routes = self.bus.routes();
        let others = |listener: &Listener| listener.number != self.number;
        match &self.wants {
            Wants::Namespace(name) => {
                if let Some(kept) = routes.kept.get_mut(name) {
                    kept.followers.retain(others);
                }
            }
            Wants::Pattern(pattern) => {
                routes.wild.retain(|(_, listener)| others(listener));
                if let Some(listeners) = routes.exact.get_mut(pattern.as_str()) {
                    listeners.retain(others);
                    if listeners.is_empty() {
                        routes.exact.remove(pattern.as_str());
                    }
                }
            }
        }
    }
}
