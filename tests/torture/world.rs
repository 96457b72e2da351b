//! What everybody in a run shares: the clock, the Topics, the nodes that take clients, and the orders.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::AtomicUsize;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;

use super::log::{Ms, Topic};
use super::rng::Rng;

/// Shared by publishers, clients and scenarios.
pub(crate) struct World {
    began: Instant,
    pub(crate) topics: Vec<Topic>,
    names: HashMap<String, usize>,
    pub(crate) door: Door,
    pub(crate) orders: watch::Sender<Orders>,
    /// Clients of which every Subscription is live.
    pub(crate) live: AtomicUsize,
    /// Clients that have got the last of every Topic.
    pub(crate) done: AtomicUsize,
    /// How often a publisher has said the last.
    pub(crate) said: AtomicUsize,
    pub(crate) http: reqwest::Client,
    pub(crate) seed: u64,
}

/// What everybody is to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Orders {
    /// Publishers publish.
    pub(crate) publish: bool,
    /// Restless clients leave now and then.
    pub(crate) restless: bool,
    /// Every third client is away.
    pub(crate) away: bool,
    /// Every fifth publisher publishes as fast as it may.
    pub(crate) hasty: bool,
    /// How often each publisher shall have said the last.
    pub(crate) finals: u32,
    /// Everybody leaves for good.
    pub(crate) over: bool,
}

impl World {
    pub(crate) fn new(topics: Vec<Topic>, seed: u64, answer_within: std::time::Duration) -> Self {
        let names = topics.iter().enumerate().map(|(at, topic)| (topic.name.clone(), at)).collect();
        let http = reqwest::Client::builder().timeout(answer_within).build().expect("a client");
        Self {
            began: Instant::now(),
            topics,
            names,
            door: Door::default(),
            orders: watch::Sender::new(Orders::default()),
            live: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            said: AtomicUsize::new(0),
            http,
            seed,
        }
    }

    /// Since the run began.
    pub(crate) fn now(&self) -> Ms {
        u64::try_from(self.began.elapsed().as_millis()).expect("a short run")
    }

    pub(crate) fn topic(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    /// Changes the orders.
    pub(crate) fn order(&self, change: impl FnOnce(&mut Orders)) {
        self.orders.send_modify(change);
    }
}

/// The nodes as a balancer sees them: it sends whoever comes to one that says that it is ready.
#[derive(Default)]
pub(crate) struct Door(Mutex<Vec<Seat>>);

#[derive(Debug, Clone, Copy)]
struct Seat {
    address: SocketAddr,
    is_ready: bool,
}

impl Door {
    /// A new node; gives its number.
    pub(crate) fn add(&self, address: SocketAddr) -> usize {
        self.edit(|seats| {
            seats.push(Seat { address, is_ready: false });
            seats.len() - 1
        })
    }

    pub(crate) fn set(&self, node: usize, is_ready: bool) {
        self.edit(|seats| seats[node].is_ready = is_ready);
    }

    /// All that are ready, in turn from a random one; all there are, if none is.
    pub(crate) fn ready(&self, rng: &mut Rng) -> Vec<(usize, SocketAddr)> {
        let all = self.edit(|seats| seats.clone());
        let all: Vec<_> = all.into_iter().enumerate().collect();
        let ready: Vec<_> = all.iter().filter(|(_, seat)| seat.is_ready).collect();
        let some = if ready.is_empty() { all.iter().collect() } else { ready };
        let mut seats: Vec<_> = some.into_iter().map(|(at, seat)| (*at, seat.address)).collect();
        let turn = rng.index(seats.len());
        seats.rotate_left(turn);
        seats
    }

    fn edit<T>(&self, edit: impl FnOnce(&mut Vec<Seat>) -> T) -> T {
        edit(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
