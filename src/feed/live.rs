//! A best-effort Feed: what the Bus brings for one Pattern, handed to the Shards that want it.
//!
//! There is nothing to repair from, so whatever is lost on the way, upstream or at a Shard whose inbox
//! is full, is told: a `Gap` to every Subscription of this Feed there, at most once a second. No Shard
//! can hold up another.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use super::{Ask, AttachError, Event, ShardId, Ticket};
use crate::bus::{Arrival, Bus, Live, SubscribeError};
use crate::protocol::{Envelope, GapReason};
use crate::publication::Publication;
use crate::topic::Pattern;

/// A Shard is told of losses at most this often.
const GAP_INTERVAL: Duration = Duration::from_secs(1);
/// A Shard whose inbox was full is tried again after this.
const RETRY: Duration = Duration::from_millis(10);

/// A Feed that was ended with Shards attached is opened again after this.
const REOPEN: Duration = Duration::from_secs(1);

/// One Feed.
pub(super) struct Feed {
    pattern: Pattern,
    asks: mpsc::Receiver<Ask>,
    shards: Vec<Shard>,
}

/// What the Feed knows of one Shard.
struct Shard {
    inbox: mpsc::Sender<Event>,
    interested: bool,
    /// Something did not fit and has not been told.
    lost: bool,
    told_at: Option<Instant>,
    /// Answers that found the inbox full. Shards bound their attaches under way, and so this.
    waiting: VecDeque<Event>,
}

impl Feed {
    pub(super) fn new(
        pattern: Pattern,
        asks: mpsc::Receiver<Ask>,
        shards: Vec<mpsc::Sender<Event>>,
    ) -> Self {
        let shards = shards.into_iter().map(Shard::new).collect();
        Self { pattern, asks, shards }
    }

    /// Runs until the directory lets go of it, or nobody is attached and the Bus cannot be reached.
    pub(super) async fn run<B: Bus>(mut self, bus: B) {
        while let Some(live) = self.open(&bus).await {
            if !self.serve(live).await {
                break;
            }
        }
        // Whoever asked meanwhile is answered; whoever asks from now on makes the directory open
        // another.
        self.asks.close();
        while let Some(ask) = self.asks.recv().await {
            self.refuse(ask);
        }
        for shard in self.shards {
            for answer in shard.waiting {
                // A Shard that is gone waits for nothing.
                let _ = shard.inbox.send(answer).await;
            }
        }
    }

    /// Hands on what comes. Whether it is to be opened again: the Bus has ended it.
    async fn serve(&mut self, mut live: impl Live) -> bool {
        let mut retry = retries();
        loop {
            let behind = self.is_behind();
            tokio::select! {
                ask = self.asks.recv() => match ask {
                    Some(ask) => self.take(ask),
                    None => return false,
                },
                arrival = live.next() => match arrival {
                    Some(Arrival::Publication(publication)) => self.deliver(&publication),
                    Some(Arrival::Lost) => self.lose(),
                    None => {
                        self.lose();
                        return true;
                    }
                },
                _ = retry.tick(), if behind => self.catch_up(),
            }
        }
    }

    /// Subscribes, while asks go on being taken: those who attach meanwhile are answered together.
    /// As long as somebody is attached from before, it goes on trying; what came meanwhile is lost,
    /// and told.
    async fn open<B: Bus>(&mut self, bus: &B) -> Option<B::Live> {
        let mut retry = retries();
        loop {
            let mut attaching: Vec<(ShardId, Ticket)> = Vec::new();
            let pattern = self.pattern.clone();
            let subscribing = bus.subscribe(&pattern);
            tokio::pin!(subscribing);
            let outcome = loop {
                let behind = self.is_behind();
                tokio::select! {
                    outcome = &mut subscribing => break outcome,
                    _ = retry.tick(), if behind => self.catch_up(),
                    ask = self.asks.recv() => match ask? {
                        Ask::Attach { shard, ticket, .. } => attaching.push((shard, ticket)),
                        Ask::Detach { shard, .. } => {
                            // Their Subscriptions have ended, but the Shard counts its answers.
                            for (_, ticket) in attaching.extract_if(.., |(other, _)| *other == shard) {
                                self.answer(shard, ticket, Some(SubscribeError::Unavailable));
                            }
                            self.take(Ask::Detach { shard, pattern: pattern.clone() });
                        }
                    },
                }
            };
            self.lose();
            for (shard, ticket) in attaching {
                self.answer(shard, ticket, outcome.as_ref().err().copied());
            }
            match outcome {
                Ok(live) => return Some(live),
                Err(_) if !self.shards.iter().any(|shard| shard.interested) => return None,
                Err(_) => self.pause().await?,
            }
        }
    }

    /// Waits before the next try. Whoever asks is refused.
    async fn pause(&mut self) -> Option<()> {
        let until = Instant::now() + REOPEN;
        let mut retry = retries();
        loop {
            let behind = self.is_behind();
            tokio::select! {
                () = sleep_until(until) => return Some(()),
                _ = retry.tick(), if behind => self.catch_up(),
                ask = self.asks.recv() => self.refuse(ask?),
            }
        }
    }

    fn is_behind(&self) -> bool {
        self.shards.iter().any(Shard::is_behind)
    }

    fn refuse(&mut self, ask: Ask) {
        match ask {
            Ask::Attach { shard, ticket, .. } => {
                self.answer(shard, ticket, Some(SubscribeError::Unavailable));
            }
            detach @ Ask::Detach { .. } => self.take(detach),
        }
    }

    fn take(&mut self, ask: Ask) {
        match ask {
            Ask::Attach { shard, ticket, .. } => self.answer(shard, ticket, None),
            Ask::Detach { shard, .. } => {
                if let Some(shard) = self.shards.get_mut(usize::from(shard.0)) {
                    shard.interested = false;
                    shard.lost = false;
                }
            }
        }
    }

    fn answer(&mut self, shard: ShardId, ticket: Ticket, fault: Option<SubscribeError>) {
        let Some(shard) = self.shards.get_mut(usize::from(shard.0)) else {
            return;
        };
        match fault {
            None => {
                shard.interested = true;
                shard.post(Event::Attached(ticket));
            }
            Some(SubscribeError::Unavailable) => {
                shard.post(Event::Refused(ticket, AttachError::BusUnavailable));
            }
        }
    }

    fn deliver(&mut self, publication: &Publication) {
        let mut envelope: Option<Arc<Envelope>> = None;
        for shard in self.shards.iter_mut().filter(|shard| shard.interested) {
            let envelope = envelope.get_or_insert_with(|| Arc::new(Envelope::new(publication)));
            shard.deliver(&self.pattern, envelope);
        }
    }

    fn lose(&mut self) {
        for shard in self.shards.iter_mut().filter(|shard| shard.interested) {
            shard.lost = true;
        }
    }

    fn catch_up(&mut self) {
        for shard in &mut self.shards {
            shard.catch_up(&self.pattern);
        }
    }
}

fn retries() -> Interval {
    let mut retries = interval(RETRY);
    retries.set_missed_tick_behavior(MissedTickBehavior::Delay);
    retries
}

impl Shard {
    const fn new(inbox: mpsc::Sender<Event>) -> Self {
        Self { inbox, interested: false, lost: false, told_at: None, waiting: VecDeque::new() }
    }

    fn is_behind(&self) -> bool {
        self.lost || !self.waiting.is_empty()
    }

    fn post(&mut self, answer: Event) {
        if !self.waiting.is_empty() {
            self.waiting.push_back(answer);
        } else if let Err(TrySendError::Full(answer)) = self.inbox.try_send(answer) {
            self.waiting.push_back(answer);
        }
    }

    fn deliver(&mut self, pattern: &Pattern, envelope: &Arc<Envelope>) {
        // Behind an answer that waits, it would overtake a Subscription that is about to join.
        let fits = self.waiting.is_empty()
            && self.inbox.try_send(Event::Live(pattern.clone(), Arc::clone(envelope))).is_ok();
        self.lost |= !fits;
    }

    fn catch_up(&mut self, pattern: &Pattern) {
        let due = self.told_at.is_none_or(|at| at.elapsed() >= GAP_INTERVAL);
        if self.lost && due {
            let gap = Event::Gap(pattern.clone(), GapReason::BusInterrupted);
            if self.inbox.try_send(gap).is_err() {
                return;
            }
            self.lost = false;
            self.told_at = Some(Instant::now());
        }
        while let Some(answer) = self.waiting.pop_front() {
            if let Err(TrySendError::Full(answer)) = self.inbox.try_send(answer) {
                self.waiting.push_front(answer);
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::watch;

    use crate::bus::{Link, PublishError, Receipt};

    /// A Bus that never answers.
    #[derive(Clone)]
    struct Silent;

    impl Bus for Silent {
        type Live = Nothing;

        async fn publish(&self, _: Publication) -> Result<Receipt, PublishError> {
            Err(PublishError::Unavailable)
        }

        async fn subscribe(&self, _: &Pattern) -> Result<Nothing, SubscribeError> {
            std::future::pending().await
        }

        fn link(&self) -> watch::Receiver<Link> {
            watch::channel(Link::new(true)).1
        }
    }

    struct Nothing;

    impl Live for Nothing {
        async fn next(&mut self) -> Option<Arrival> {
            None
        }
    }

    /// A Shard counts its attaches under way by their answers, so also those that it gives up while
    /// the Feed opens are answered.
    #[tokio::test]
    async fn an_attach_that_is_given_up_is_answered() {
        let (inbox, mut events) = mpsc::channel(8);
        let (directory, asks) = mpsc::channel(8);
        let pattern = Pattern::parse("a").unwrap();
        let feed = Feed::new(pattern.clone(), asks, vec![inbox]);
        let mut feeds = tokio::task::JoinSet::new();
        feeds.spawn(feed.run(Silent));
        let shard = ShardId(0);
        let ticket = Ticket { connection: 1, number: 2 };
        let attach = Ask::Attach { shard, pattern: pattern.clone(), ticket };
        directory.send(attach).await.unwrap();
        directory.send(Ask::Detach { shard, pattern }).await.unwrap();
        let event = tokio::time::timeout(Duration::from_secs(5), events.recv()).await;
        assert!(matches!(event, Ok(Some(Event::Refused(to, _))) if to == ticket));
    }
}
