//! A kept Feed before it is open, and what any of its states needs: work under way, and spreading.
//!
//! It listens first and asks second where history stands, so that nothing falls between the two. Who
//! asks meanwhile waits, but not for ever.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, sleep_until};

use super::kept::Open;
use super::{Ask, AttachError, Config, Event, PageError, refuse};
use crate::bus::Bus;
use crate::bus::history::Head;

/// Whoever waits longer for the Bus is refused.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// A Bus that could not be opened is tried again after this.
pub(super) const OPEN_AGAIN: Duration = Duration::from_millis(200);
/// A Shard whose inbox was full is tried again after this.
pub(super) const CATCH_UP: Duration = Duration::from_millis(10);

/// Something under way that the actor waits for.
pub(super) type Work<T> = Option<Pin<Box<dyn Future<Output = T> + Send>>>;

/// Its end; never, if there is none. Cancel-safe.
pub(super) async fn finished<T>(work: &mut Work<T>) -> T {
    match work {
        Some(under_way) => {
            let done = under_way.as_mut().await;
            *work = None;
            done
        }
        None => pending().await,
    }
}

/// A Feed that is to be opened.
pub(super) struct Feed<B: Bus> {
    pub(super) config: Config,
    pub(super) namespace: Arc<str>,
    pub(super) bus: B,
    pub(super) asks: mpsc::Receiver<Ask>,
    pub(super) shards: Vec<mpsc::Sender<Event>>,
    waiting: VecDeque<(Instant, Ask)>,
}

impl<B: Bus> Feed<B> {
    pub(super) fn new(
        config: &Config,
        namespace: Arc<str>,
        bus: B,
        asks: mpsc::Receiver<Ask>,
        shards: Vec<mpsc::Sender<Event>>,
    ) -> Self {
        Self { config: config.clone(), namespace, bus, asks, shards, waiting: VecDeque::new() }
    }

    /// Runs until the directory lets go of it.
    pub(super) async fn run(mut self) {
        let Some((live, head)) = self.open().await else {
            return self.end().await;
        };
        let waiting = std::mem::take(&mut self.waiting);
        let mut open = Open::new(self, &head);
        for (_, ask) in waiting {
            open.take(ask);
        }
        open.run(live).await;
    }

    /// Listens, and then asks where history stands, as often as it takes.
    async fn open(&mut self) -> Option<(B::Live, Head)> {
        loop {
            let (bus, namespace) = (self.bus.clone(), Arc::clone(&self.namespace));
            let mut opening: Work<_> = Some(Box::pin(async move {
                let live = bus.follow(&namespace).await.ok()?;
                let head = bus.head(&namespace).await.ok()?;
                Some((live, head))
            }));
            let mut again = None;
            loop {
                let wake = again.unwrap_or_else(|| Instant::now() + OPEN_AGAIN);
                tokio::select! {
                    biased;
                    opened = finished(&mut opening) => match opened {
                        Some(opened) => return Some(opened),
                        None => again = Some(Instant::now() + OPEN_AGAIN),
                    },
                    () = sleep_until(wake) => {
                        self.lose_patience();
                        if again.is_some() {
                            break;
                        }
                    }
                    ask = self.asks.recv() => {
                        self.waiting.push_back((Instant::now() + PATIENCE, ask?));
                    }
                }
            }
        }
    }

    /// Whoever still waits is answered: a Shard counts its attaches under way by their answers.
    async fn end(self) {
        for (_, ask) in self.waiting {
            match ask {
                Ask::Attach { shard, ticket, .. } => {
                    let refused = Event::Refused(ticket, AttachError::BusUnavailable);
                    if let Some(inbox) = self.shards.get(usize::from(shard.0)) {
                        // A Shard that is gone waits for nothing.
                        let _ = inbox.send(refused).await;
                    }
                }
                ask => refuse(ask, PageError::BusUnavailable),
            }
        }
    }

    fn lose_patience(&mut self) {
        let now = Instant::now();
        while let Some((_, ask)) = self.waiting.pop_front_if(|(until, _)| *until <= now) {
            match ask {
                Ask::Attach { shard, ticket, .. } => {
                    let refused = Event::Refused(ticket, AttachError::BusUnavailable);
                    if let Some(inbox) = self.shards.get(usize::from(shard.0))
                        && let Err(TrySendError::Full(_)) = inbox.try_send(refused)
                    {
                        // It has more to do than to hear of this; later, then.
                        self.waiting.push_back((now + CATCH_UP, ask));
                    }
                }
                ask => refuse(ask, PageError::BusUnavailable),
            }
        }
    }
}

/// Numbers that spread what many nodes would else do at the same moment.
pub(super) struct Spread(pub(super) u64);

impl Spread {
    /// A span between these two.
    pub(super) fn between(&mut self, least: Duration, most: Duration) -> Duration {
        // xorshift64; a state of 0 would stay there.
        self.0 = self.0.max(1);
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let range = most.saturating_sub(least).as_micros().max(1);
        let part = u64::try_from(u128::from(self.0) % range).unwrap_or(0);
        least + Duration::from_micros(part)
    }
}
