//! What Feeds measure, and a Publication that is followed from the Bus to the last Outbox of this node.
//!
//! Each Publication is counted once, however many want it; one in many is followed. Whoever hands it to
//! a Shard hands its [`Fanout`] on with it, and when the last Shard lets go of that, it has arrived.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::metrics::{Counter, Histogram, Meter};
use opentelemetry::{KeyValue, global};
use tokio::time::Instant;

use crate::namespace::Namespaces;
use crate::publication::Publication;
use crate::span::{Open, Spans};

/// One Publication of so many is followed.
const FOLLOWED: u64 = 16;
/// Upper bounds, in seconds.
const FANOUT_SECONDS: [f64; 13] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0];

/// How it went for a client that came back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recovery {
    /// What it missed was in memory.
    Ring,
    /// It was read.
    History,
    /// Something of it is gone, or may be.
    Gap,
}

impl Recovery {
    const ALL: [(Self, &str); 3] =
        [(Self::Ring, "ring"), (Self::History, "history"), (Self::Gap, "gap")];
}

/// What became of something that a kept Feed was missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Repaired {
    /// It was read.
    Mended,
    /// It is gone for good.
    Lost,
    /// It could not be read for so long that clients were told.
    Failed,
    /// It was too much to be read: Subscriptions attached again.
    Skipped,
    /// Another history stands in its place.
    Replaced,
}

impl Repaired {
    const ALL: [(Self, &str); 5] = [
        (Self::Mended, "mended"),
        (Self::Lost, "lost"),
        (Self::Failed, "failed"),
        (Self::Skipped, "skipped"),
        (Self::Replaced, "replaced"),
    ];
}

/// The instruments of all Feeds of a node.
#[derive(Debug)]
pub struct Meters {
    /// By the place of the Namespace's label.
    arrived: Arc<[AtomicU64]>,
    /// Feeds that somebody wants, and those that linger.
    feeds: Arc<[AtomicU64; 2]>,
    fanout: Histogram<f64>,
    recoveries: Counter<u64>,
    repairs: Counter<u64>,
    duplicates: Counter<u64>,
    spans: Option<Arc<Spans>>,
}

impl Default for Meters {
    /// Nobody reads it.
    fn default() -> Self {
        Self::new(&global::meter("nobody"), &Namespaces::default(), None)
    }
}

impl Meters {
    /// Registers them; a Publication's trace goes on in `spans`, unless traces are off.
    #[must_use]
    pub fn new(meter: &Meter, namespaces: &Namespaces, spans: Option<Arc<Spans>>) -> Self {
        let labels =
            namespaces.labels().map(|name| KeyValue::new("topic_namespace", name.to_owned()));
        let labels: Vec<KeyValue> = labels.collect();
        let arrived: Arc<[AtomicU64]> = labels.iter().map(|_| AtomicU64::new(0)).collect();
        let feeds = Arc::new([const { AtomicU64::new(0) }; 2]);
        let (all, states) = (Arc::clone(&arrived), Arc::clone(&feeds));
        meter
            .u64_observable_counter("tidegate_bus_publications_total")
            .with_description("Publications that came from the bus")
            .with_callback(move |observer| {
                for (count, label) in all.iter().zip(&labels) {
                    observer.observe(count.load(Ordering::Relaxed), std::slice::from_ref(label));
                }
            })
            .build();
        meter
            .u64_observable_gauge("tidegate_feeds")
            .with_description("Subscriptions of this node on the bus")
            .with_callback(move |observer| {
                for (count, state) in states.iter().zip(["open", "lingering"]) {
                    let count = count.load(Ordering::Relaxed);
                    observer.observe(count, &[KeyValue::new("state", state)]);
                }
            })
            .build();
        let fanout = meter
            .f64_histogram("tidegate_fanout_seconds")
            .with_description("From the bus into the last Outbox of this node")
            .with_boundaries(FANOUT_SECONDS.into())
            .build();
        let counter =
            |name, help: &'static str| meter.u64_counter(name).with_description(help).build();
        let meters = Self {
            arrived,
            feeds,
            fanout,
            spans,
            recoveries: counter(
                "tidegate_recoveries_total",
                "Subscriptions of clients that came back, by where what they missed was found",
            ),
            repairs: counter(
                "tidegate_repairs_total",
                "Holes in what the bus brought of kept namespaces",
            ),
            duplicates: counter(
                "tidegate_duplicates_total",
                "Copies that the bus brought of what was there",
            ),
        };
        // Each series is there from the start.
        for (_, outcome) in Recovery::ALL {
            meters.recoveries.add(0, &[KeyValue::new("outcome", outcome)]);
        }
        for (_, outcome) in Repaired::ALL {
            meters.repairs.add(0, &[KeyValue::new("outcome", outcome)]);
        }
        meters.duplicates.add(0, &[]);
        meters
    }

    /// A Publication came, of the Namespace with this label and its place.
    pub(super) fn came<'a>(
        self: &'a Arc<Self>,
        (label, place): (&'a str, usize),
        publication: &'a Publication,
    ) -> Following<'a> {
        let before = self.arrived.get(place).map(|count| count.fetch_add(1, Ordering::Relaxed));
        let is_followed = before.is_some_and(|before| before.is_multiple_of(FOLLOWED));
        let is_traced = self.spans.is_some() && publication.trace.is_some();
        let state = if is_followed || is_traced { State::Open(is_followed) } else { State::Not };
        Following { meters: self, label, publication, state }
    }

    pub(super) fn set_feeds(&self, open: usize, lingering: usize) {
        let [wanted, rest] = &*self.feeds;
        wanted.store(open.saturating_sub(lingering) as u64, Ordering::Relaxed);
        rest.store(lingering as u64, Ordering::Relaxed);
    }

    pub(super) fn recovered(&self, recovery: Recovery) {
        let (_, outcome) = Recovery::ALL[recovery as usize];
        self.recoveries.add(1, &[KeyValue::new("outcome", outcome)]);
    }

    pub(super) fn repaired(&self, repaired: Repaired) {
        let (_, outcome) = Repaired::ALL[repaired as usize];
        self.repairs.add(1, &[KeyValue::new("outcome", outcome)]);
    }

    pub(super) fn came_again(&self) {
        self.duplicates.add(1, &[]);
    }
}

/// A Publication that has come, and may be followed if somebody wants it.
pub(super) struct Following<'a> {
    meters: &'a Arc<Meters>,
    label: &'a str,
    publication: &'a Publication,
    state: State,
}

enum State {
    /// It is not followed.
    Not,
    /// Nobody has wanted it yet; whether it is measured in any case, and not for its trace alone.
    Open(bool),
    Followed(Arc<Fanout>),
}

impl Following<'_> {
    /// What goes on to a Shard that wants it.
    pub(super) fn fanout(&mut self) -> Option<Arc<Fanout>> {
        if let State::Open(is_followed) = self.state {
            let spans = self.meters.spans.as_ref();
            let span = spans.and_then(|spans| spans.deliver(self.label, self.publication));
            self.state = match is_followed || span.is_some() {
                true => State::Followed(Arc::new(Fanout {
                    meters: Arc::clone(self.meters),
                    began: Instant::now(),
                    matched: AtomicU64::new(0),
                    queued: AtomicU64::new(0),
                    span,
                })),
                false => State::Not,
            };
        }
        match &self.state {
            State::Followed(fanout) => Some(Arc::clone(fanout)),
            State::Not | State::Open(_) => None,
        }
    }
}

/// One Publication that is followed, on its way into the Outboxes of this node.
#[derive(Debug)]
pub struct Fanout {
    meters: Arc<Meters>,
    began: Instant,
    matched: AtomicU64,
    queued: AtomicU64,
    span: Option<Open>,
}

impl Fanout {
    /// On one Shard so many wanted it, and so many Outboxes took it.
    pub fn reached(&self, matched: u64, queued: u64) {
        self.matched.fetch_add(matched, Ordering::Relaxed);
        self.queued.fetch_add(queued, Ordering::Relaxed);
    }
}

impl Drop for Fanout {
    fn drop(&mut self) {
        self.meters.fanout.record(self.began.elapsed().as_secs_f64(), &[]);
        if let Some(span) = &mut self.span {
            span.delivered(*self.matched.get_mut(), *self.queued.get_mut());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_stands_at_its_own_place() {
        assert!(Recovery::ALL.iter().zip(0..).all(|((one, _), at)| *one as usize == at));
        assert!(Repaired::ALL.iter().zip(0..).all(|((one, _), at)| *one as usize == at));
    }
}
