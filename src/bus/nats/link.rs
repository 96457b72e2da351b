//! The node's link to NATS: whether it is whole, and whenever something may have been lost on it.
//!
//! The client library reconnects by itself and says so in events that it may drop; the count of its
//! connects is the only sure sign. So it is read several times a second, and events only make that
//! faster. Everybody who must tell of a loss watches [`Link`]: a risen `suspicions` means that
//! something may be missing since.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, Event, Subscriber, connection};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tracing::{error, info, warn};
use uuid::Uuid;

use super::denied::Denied;
use super::echo::Echo;
use super::history::Kept;
use super::stream::StreamError;
use super::version::unfit;
use super::{random_ms, too_small};
use crate::bus::Link;
use crate::namespace::Namespaces;

/// Events that may wait; more are dropped, and the next look finds what they said.
pub(super) const EVENTS_MAX: usize = 128;
const LOOK: Duration = Duration::from_millis(250);
const LEFT_LOOK: Duration = Duration::from_millis(20);
/// Overflow of a subscription is told at most this often: one burst gives thousands of events.
const OVERFLOW_TOLD: Duration = Duration::from_secs(1);
/// A server that cannot be reached is told at most this often.
const CLIENT_TOLD: Duration = Duration::from_secs(10);
/// A stream that will not do is told at most this often, unless it is for another reason.
const STREAM_TOLD: Duration = Duration::from_secs(60);
/// A probe that takes longer has failed.
const PROBE: Duration = Duration::from_secs(1);
const PROVISION_AGAIN: Duration = Duration::from_secs(1);
const LAME_DUCK_SPREAD_MS: u64 = 1_000;

/// How often this client has connected.
pub(super) fn generation(client: &Client) -> u64 {
    client.statistics().connects.load(std::sync::atomic::Ordering::Relaxed)
}

/// Whether it is connected right now.
pub(super) fn is_connected(client: &Client) -> bool {
    client.connection_state() == connection::State::Connected
}

/// Waits until the client has connected again.
pub(super) async fn left(client: &Client, last: u64) {
    let mut looks = interval(LEFT_LOOK);
    while generation(client) == last {
        looks.tick().await;
    }
}

/// A kept Namespace, and whether its stream is as it should be.
pub(super) type Provisioned = (Arc<Kept>, Result<(), StreamError>);

/// Which stream will not do, why, and when that was said.
#[derive(Debug, Default)]
pub(super) struct Complaints(HashMap<Box<str>, (String, Instant)>);

/// Watches one link.
pub(super) struct Watcher {
    pub(super) client: Client,
    pub(super) echo: Echo,
    pub(super) denied: Arc<Denied>,
    pub(super) namespaces: Arc<Namespaces>,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) link: watch::Sender<Link>,
    pub(super) probe: String,
    pub(super) probes: Subscriber,
    pub(super) kept: Vec<Arc<Kept>>,
    /// Streams that are being made sure of.
    pub(super) provisioning: JoinSet<Provisioned>,
    /// What was said of those that will not do.
    pub(super) complaints: Complaints,
    /// Hears what became of the first try: why the server will not do, if one was reached and will not.
    pub(super) tried: Option<oneshot::Sender<Option<Arc<str>>>>,
}

impl Complaints {
    /// Whether this is to be said, and not what was said a moment ago.
    fn is_news(&mut self, namespace: &str, words: &str) -> bool {
        let told = self.0.get(namespace);
        if told.is_some_and(|(last, at)| last == words && at.elapsed() < STREAM_TOLD) {
            return false;
        }
        self.0.insert(namespace.into(), (words.to_owned(), Instant::now()));
        true
    }
}

impl Watcher {
    /// Runs as long as the node.
    pub(super) async fn run(mut self) {
        let mut generation = 0;
        let (mut overflowed, mut overflow_told) = (false, None::<Instant>);
        let mut client_told: Option<Instant> = None;
        let mut looks = interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            let event = tokio::select! {
                biased;
                // A look may take seconds; what has happened is told before.
                event = self.events.recv() => event,
                Some(outcome) = self.provisioning.join_next() => {
                    self.provisioned(outcome);
                    continue;
                }
                _ = looks.tick() => None,
            };
            match event {
                Some(Event::SlowConsumer(_)) => overflowed = true,
                Some(Event::LameDuckMode) => self.leave_lame_duck().await,
                Some(Event::ServerError(fault)) => error!(error = %fault, "NATS refuses"),
                Some(Event::ClientError(fault)) => {
                    self.tell_first(None);
                    if client_told.is_none_or(|at| at.elapsed() >= CLIENT_TOLD) {
                        warn!(error = %fault, "NATS cannot be reached");
                        client_told = Some(Instant::now());
                    }
                }
                Some(_) | None => {}
            }
            if !self.events.is_empty() {
                continue;
            }
            // What overflows again meanwhile is told when its time comes, never forgotten.
            if overflowed && overflow_told.is_none_or(|at| at.elapsed() >= OVERFLOW_TOLD) {
                warn!("A queue from NATS was full, and something was lost");
                (overflowed, overflow_told) = (false, Some(Instant::now()));
                self.suspect();
            }
            if !is_connected(&self.client) {
                self.lost();
            } else if self.look_is_needed(generation) && self.fits() {
                let now = self::generation(&self.client);
                // What is known of the server may be of the last one, until something has come back.
                if self.echo.round().await == Some(now) && self.probed().await && self.fits() {
                    generation = now;
                    self.whole();
                    self.provision();
                }
            }
        }
    }

    /// Whether the server will do; if not, that is told, and nothing goes over the link.
    fn fits(&mut self) -> bool {
        let Some(server) = self.client.try_server_info() else {
            return false;
        };
        let kept = self.namespaces.kept().next().map(|(name, _)| name);
        let Some(unfit) = unfit(&server, kept).map(Arc::from) else {
            return true;
        };
        self.tell_first(Some(Arc::clone(&unfit)));
        self.link.send_if_modified(|link| {
            if link.unfit.as_ref() == Some(&unfit) {
                return false;
            }
            error!(why = %unfit, "NATS cannot be used");
            if std::mem::replace(&mut link.connected, false) {
                link.suspicions += 1;
                link.since = Instant::now();
            }
            link.unfit = Some(unfit);
            true
        });
        false
    }

    /// Makes sure of the streams, also after a reconnect: one in memory goes with its server.
    fn provision(&mut self) {
        self.provisioning.abort_all();
        self.complaints = Complaints::default();
        for kept in self.kept.clone() {
            self.provisioning.spawn(async move { (Arc::clone(&kept), kept.provision().await) });
        }
        if self.kept.is_empty() {
            self.tell_first(None);
        }
    }

    fn provisioned(&mut self, outcome: Result<Provisioned, JoinError>) {
        // One that was cut short has begun anew.
        if let Ok((kept, Err(why))) = outcome {
            let words = kept.wanted.fault(&why);
            if self.complaints.is_news(&kept.wanted.namespace, &words) {
                error!("{words}");
            }
            if matches!(why, StreamError::Wrong(_)) {
                self.tell_first(Some(words.into()));
            }
            self.provisioning.spawn(async move {
                sleep(PROVISION_AGAIN).await;
                (Arc::clone(&kept), kept.provision().await)
            });
        }
        if self.provisioning.is_empty() {
            self.tell_first(None);
        }
    }

    fn tell_first(&mut self, unfit: Option<Arc<str>>) {
        if let Some(tried) = self.tried.take() {
            // Who started us has waited long enough.
            let _ = tried.send(unfit);
        }
    }

    /// Whether what is published among Topics arrives: a refusal of either right is silent there.
    async fn probed(&mut self) -> bool {
        let number = Bytes::from(Uuid::now_v7().to_string());
        if self.client.publish(self.probe.clone(), number.clone()).await.is_err() {
            return false;
        }
        let coming = async {
            while let Some(probe) = self.probes.next().await {
                if probe.payload == number {
                    return true;
                }
            }
            false
        };
        timeout(PROBE, coming).await.unwrap_or(false)
    }

    fn look_is_needed(&self, generation: u64) -> bool {
        !self.link.borrow().connected || self::generation(&self.client) != generation
    }

    fn suspect(&self) {
        self.link.send_modify(|link| link.suspicions += 1);
    }

    fn lost(&self) {
        let lost = self.link.send_if_modified(|link| {
            let was = std::mem::replace(&mut link.connected, false);
            if was {
                link.suspicions += 1;
                link.since = Instant::now();
                warn!("The link to NATS is lost");
            }
            was || link.unfit.take().is_some()
        });
        if lost {
            self.denied.forget();
        }
    }

    /// Connected, and an echo has come back: what was subscribed before is subscribed again.
    fn whole(&self) {
        let server = self.client.server_info();
        info!(nats.server = %server.server_name, nats.version = %server.version, "The link to NATS is whole");
        if let Some(words) = too_small(server.max_payload, &self.namespaces) {
            warn!(nats.max_payload = server.max_payload, "{words}");
        }
        self.link.send_modify(|link| {
            link.connected = true;
            link.unfit = None;
            link.suspicions += 1;
            link.since = Instant::now();
        });
    }

    /// The server is about to go: leave it before it does, but not all nodes at once.
    async fn leave_lame_duck(&self) {
        info!("The NATS server is going away; looking for another");
        sleep(random_ms(LAME_DUCK_SPREAD_MS)).await;
        // Nothing new is handed over; what was, is proven by two rounds: some may just miss the first.
        self.lost();
        for _ in 0..2 {
            self.echo.round().await;
        }
        if let Err(fault) = self.client.force_reconnect().await {
            warn!(error = %fault, "NATS client");
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    /// What is wrong with a stream is said at once, and again when it is something else or a minute has
    /// passed; each stream counts for itself.
    #[tokio::test(start_paused = true)]
    async fn the_same_is_told_once_a_minute() {
        let mut told = Complaints::default();
        assert!(told.is_news("a", "full") && told.is_news("b", "full"));
        advance(STREAM_TOLD / 2).await;
        assert!(!told.is_news("a", "full") && told.is_news("b", "missing"));
        advance(STREAM_TOLD / 2).await;
        assert!(told.is_news("a", "full") && !told.is_news("b", "missing"));
    }
}
