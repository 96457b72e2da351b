//! A best-effort Feed: what the Bus brings for one Pattern, handed to the Shards that want it.
//!
//! There is nothing to repair from, so whatever is lost on the way, upstream or at a Shard whose inbox
//! is full, is told: a `Gap` to every Subscription of this Feed there, at most once a second. No Shard
//! can hold up another.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use super::meters::{Fanout, Meters, Recovery};
use super::{Ask, AttachError, Config, Event, PageError, ShardId, Source, Ticket};
use crate::bus::{Arrival, Bus, Link, Live, SubscribeError};
use crate::protocol::replay::{Begin, Replay};
use crate::protocol::{Envelope, From, GapReason};
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
    source: Source,
    asks: mpsc::Receiver<Ask>,
    /// Shards bound their attaches under way, and so this.
    attaching: Vec<Attach>,
    shards: Vec<Shard>,
    meters: Arc<Meters>,
    /// Under which label its Namespace is counted, and where.
    label: Box<str>,
    place: usize,
}

/// A Subscription that waits to join.
struct Attach {
    shard: ShardId,
    patterns: Arc<[Pattern]>,
    begin: Begin,
    ticket: Ticket,
}

/// What the Feed knows of one Shard.
struct Shard {
    inbox: mpsc::Sender<Event>,
    interested: bool,
    /// Something is lost and has not been told.
    lost: bool,
    /// Some of that did not fit.
    overrun: bool,
    told_at: Option<Instant>,
    /// Answers that found the inbox full. Shards bound their attaches under way, and so this.
    waiting: VecDeque<Event>,
}

impl Feed {
    pub(super) fn new(
        config: &Config,
        pattern: Pattern,
        asks: mpsc::Receiver<Ask>,
        shards: Vec<mpsc::Sender<Event>>,
    ) -> Self {
        let shards = shards.into_iter().map(Shard::new).collect();
        let namespace = pattern.namespace();
        Self {
            label: config.namespaces.label(namespace).into(),
            place: config.namespaces.place(namespace),
            source: Source::Pattern(pattern.clone()),
            meters: Arc::clone(&config.meters),
            pattern,
            asks,
            attaching: Vec::new(),
            shards,
        }
    }

    /// Runs until the directory lets go of it, or nobody is attached and the Bus cannot be reached.
    pub(super) async fn run<B: Bus>(mut self, bus: B) {
        while let Some(live) = self.open(&bus).await {
            if !self.serve(live, &bus.link()).await {
                break;
            }
        }
        // Whoever asked meanwhile is answered; whoever asks from now on makes the directory open
        // another.
        self.asks.close();
        self.answer_all(Some(SubscribeError::Unavailable));
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

    /// Hands on what comes. Whether it is to be opened again: the Bus has ended it. While the link is
    /// lost nothing can come, so whoever asks waits a moment for it and is refused, as by a Feed that is
    /// still to be opened; whoever is attached has been told.
    async fn serve(&mut self, mut live: impl Live, link: &watch::Receiver<Link>) -> bool {
        let mut retry = retries();
        loop {
            let behind = self.is_behind();
            tokio::select! {
                biased;
                _ = retry.tick(), if behind => self.catch_up(),
                whole = Link::is_whole_soon(link), if !self.attaching.is_empty() => {
                    self.answer_all((!whole).then_some(SubscribeError::Unavailable));
                }
                ask = self.asks.recv() => match ask {
                    Some(ask) if link.borrow().connected => self.take(ask),
                    Some(ask) => self.hold(ask),
                    None => return false,
                },
                arrival = live.next() => match arrival {
                    Some(Arrival::Publication(publication)) => self.deliver(&publication),
                    // On this road nothing comes with a place.
                    Some(Arrival::Lost | Arrival::Stored(_)) => self.lose(),
                    None => {
                        self.lose();
                        return true;
                    }
                },
            }
        }
    }

    /// Subscribes, while asks go on being taken: those who attach meanwhile are answered together.
    /// As long as somebody is attached from before, it goes on trying; what came meanwhile is lost,
    /// and told.
    async fn open<B: Bus>(&mut self, bus: &B) -> Option<B::Live> {
        let mut retry = retries();
        loop {
            let pattern = self.pattern.clone();
            let subscribing = bus.subscribe(&pattern);
            tokio::pin!(subscribing);
            let outcome = loop {
                let behind = self.is_behind();
                tokio::select! {
                    biased;
                    outcome = &mut subscribing => break outcome,
                    _ = retry.tick(), if behind => self.catch_up(),
                    ask = self.asks.recv() => self.hold(ask?),
                }
            };
            self.lose();
            self.answer_all(outcome.as_ref().err().copied());
            match outcome {
                Ok(live) => return Some(live),
                Err(_) if !self.shards.iter().any(|shard| shard.interested) => return None,
                Err(_) => self.pause().await?,
            }
        }
    }

    /// Takes an ask, but lets whoever attaches wait.
    fn hold(&mut self, ask: Ask) {
        match ask {
            Ask::Attach { shard, patterns, begin, ticket } => {
                self.attaching.push(Attach { shard, patterns, begin, ticket });
            }
            Ask::Detach { shard, pattern } => {
                // Their Subscriptions have ended, but the Shard counts its answers.
                let theirs = |other: &mut Attach| other.shard == shard;
                for one in self.attaching.extract_if(.., theirs).collect::<Vec<_>>() {
                    self.answer(one, Some(SubscribeError::Unavailable));
                }
                self.take(Ask::Detach { shard, pattern });
            }
            read @ Ask::Read { .. } => self.take(read),
        }
    }

    fn answer_all(&mut self, fault: Option<SubscribeError>) {
        for attach in std::mem::take(&mut self.attaching) {
            self.answer(attach, fault);
        }
    }

    /// Waits before the next try. Whoever asks is refused.
    async fn pause(&mut self) -> Option<()> {
        let until = Instant::now() + REOPEN;
        let mut retry = retries();
        loop {
            let behind = self.is_behind();
            tokio::select! {
                biased;
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
            Ask::Attach { shard, patterns, begin, ticket } => {
                let attach = Attach { shard, patterns, begin, ticket };
                self.answer(attach, Some(SubscribeError::Unavailable));
            }
            other => self.take(other),
        }
    }

    fn take(&mut self, ask: Ask) {
        match ask {
            Ask::Attach { shard, patterns, begin, ticket } => {
                self.answer(Attach { shard, patterns, begin, ticket }, None);
            }
            read @ Ask::Read { .. } => super::refuse(read, PageError::NotKept),
            Ask::Detach { shard, .. } => {
                if let Some(shard) = self.shards.get_mut(usize::from(shard.0)) {
                    shard.interested = false;
                    shard.lost = false;
                    shard.overrun = false;
                }
            }
        }
    }

    fn answer(&mut self, attach: Attach, fault: Option<SubscribeError>) {
        let Some(shard) = self.shards.get_mut(usize::from(attach.shard.0)) else {
            return;
        };
        match fault {
            None => {
                shard.interested = true;
                let recovered = match attach.begin {
                    Begin::From(From::Live) => Ok(()),
                    // Nothing is kept that could be brought back.
                    Begin::From(_) | Begin::Rest(_) => Err(GapReason::HistoryTrimmed),
                };
                if let Begin::From(From::Cursor(_) | From::Since(_)) = attach.begin {
                    self.meters.recovered(Recovery::Gap);
                }
                let replay = Replay::live(attach.patterns, recovered);
                shard.post(Event::Attached(attach.ticket, Box::new(replay)));
            }
            Some(SubscribeError::Unavailable) => {
                shard.post(Event::Refused(attach.ticket, AttachError::BusUnavailable));
            }
        }
    }

    fn deliver(&mut self, publication: &Publication) {
        let label = (&*self.label, self.place);
        let mut following = self.meters.came(label, publication);
        let mut envelope: Option<Arc<Envelope>> = None;
        for shard in self.shards.iter_mut().filter(|shard| shard.interested) {
            let envelope =
                envelope.get_or_insert_with(|| Arc::new(Envelope::new(publication, None)));
            shard.deliver(&self.source, envelope, following.fanout());
        }
    }

    fn lose(&mut self) {
        for shard in self.shards.iter_mut().filter(|shard| shard.interested) {
            shard.lost = true;
        }
    }

    fn catch_up(&mut self) {
        for shard in &mut self.shards {
            shard.catch_up(&self.source);
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
        Self {
            inbox,
            interested: false,
            lost: false,
            overrun: false,
            told_at: None,
            waiting: VecDeque::new(),
        }
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

    fn deliver(&mut self, source: &Source, envelope: &Arc<Envelope>, fanout: Option<Arc<Fanout>>) {
        let live = || Event::Live(source.clone(), Arc::clone(envelope), fanout);
        // Behind an answer that waits, it would overtake a Subscription that is about to join.
        let fits = self.waiting.is_empty() && self.inbox.try_send(live()).is_ok();
        self.lost |= !fits;
        self.overrun |= !fits;
    }

    fn catch_up(&mut self, source: &Source) {
        let due = self.told_at.is_none_or(|at| at.elapsed() >= GAP_INTERVAL);
        if self.lost && due {
            let source = source.clone();
            let told = match self.overrun {
                true => Event::Overrun(source, None),
                false => Event::Gap(source, GapReason::BusInterrupted),
            };
            if self.inbox.try_send(told).is_err() {
                return;
            }
            (self.lost, self.overrun) = (false, false);
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

    use crate::bus::{PublishError, Receipt};

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
        let feed = Feed::new(&Config::default(), pattern.clone(), asks, vec![inbox]);
        let mut feeds = tokio::task::JoinSet::new();
        feeds.spawn(feed.run(Silent));
        let shard = ShardId(0);
        let ticket = Ticket { connection: 1, number: 2 };
        let begin = Begin::From(From::Live);
        let attach = Ask::Attach { shard, patterns: [pattern.clone()].into(), begin, ticket };
        directory.send(attach).await.unwrap();
        directory.send(Ask::Detach { shard, pattern }).await.unwrap();
        let event = tokio::time::timeout(Duration::from_secs(5), events.recv()).await;
        assert!(matches!(event, Ok(Some(Event::Refused(to, _))) if to == ticket));
    }
}
