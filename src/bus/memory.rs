//! The Bus of a single node, in memory.
//!
//! It keeps what every Bus promises and has no other node to speak to: `dev` runs on it, and so does
//! a `serve` without NATS. One lock makes the order; it is held while a Publication is handed to the
//! queues of those who listen, and never across an await.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};

use super::{Arrival, Bus, Link, Live, PublishError, Receipt, SubscribeError};
use crate::publication::Publication;
use crate::topic::{Pattern, Topic};

/// Publications that may wait for one slow listener; beyond it the newest is lost, and told.
pub const QUEUE_ITEMS: usize = 16_384;

/// The Bus; clones are the same one.
#[derive(Clone)]
pub struct Memory {
    routes: Arc<Mutex<Routes>>,
    /// Always whole.
    link: Arc<watch::Sender<Link>>,
}

impl Default for Memory {
    fn default() -> Self {
        let link = Arc::new(watch::Sender::new(Link::new(true)));
        Self { routes: Arc::default(), link }
    }
}

#[derive(Default)]
struct Routes {
    exact: HashMap<Topic, Vec<Listener>>,
    wild: Vec<(Pattern, Listener)>,
    next: u64,
}

struct Listener {
    number: u64,
    queue: mpsc::Sender<Arc<Publication>>,
    lost: Arc<AtomicBool>,
}

/// A subscription of [`Memory`]; dropping it ends it.
pub struct Subscription {
    bus: Memory,
    pattern: Pattern,
    number: u64,
    queue: mpsc::Receiver<Arc<Publication>>,
    lost: Arc<AtomicBool>,
}

impl Memory {
    fn routes(&self) -> MutexGuard<'_, Routes> {
        // Nothing that holds this lock can leave the routes half changed.
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bus for Memory {
    type Live = Subscription;

    async fn publish(&self, publication: Publication) -> Result<Receipt, PublishError> {
        let publication = Arc::new(publication);
        let routes = self.routes();
        for listener in routes.exact.get(&publication.topic).into_iter().flatten() {
            listener.hand(&publication);
        }
        for (pattern, listener) in &routes.wild {
            if pattern.matches(&publication.topic) {
                listener.hand(&publication);
            }
        }
        Ok(Receipt { stored: false, duplicate: false })
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription, SubscribeError> {
        let (sender, queue) = mpsc::channel(QUEUE_ITEMS);
        let lost = Arc::new(AtomicBool::new(false));
        let mut routes = self.routes();
        routes.next += 1;
        let number = routes.next;
        let listener = Listener { number, queue: sender, lost: Arc::clone(&lost) };
        match Topic::parse(pattern.as_str()) {
            Ok(topic) => routes.exact.entry(topic).or_default().push(listener),
            Err(_) => routes.wild.push((pattern.clone(), listener)),
        }
        Ok(Subscription { bus: self.clone(), pattern: pattern.clone(), number, queue, lost })
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.link.subscribe()
    }
}

impl Listener {
    fn hand(&self, publication: &Arc<Publication>) {
        if self.queue.try_send(Arc::clone(publication)).is_err() {
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
        self.queue.recv().await.map(Arrival::Publication)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut routes = self.bus.routes();
        routes.wild.retain(|(_, listener)| listener.number != self.number);
        if let Some(listeners) = routes.exact.get_mut(self.pattern.as_str()) {
            listeners.retain(|listener| listener.number != self.number);
            if listeners.is_empty() {
                routes.exact.remove(self.pattern.as_str());
            }
        }
    }
}
