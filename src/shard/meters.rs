//! What Shards count, as metrics.
//!
//! Nothing here is called while Shards work: the counters are read when somebody asks for them, and
//! added up over all Shards. Each series is there from the start.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use tokio::sync::mpsc::Sender;

use super::counts::{Asked, Counts, Transport};
use crate::feed::Event;
use crate::namespace::Namespaces;
use crate::protocol::{Close, GapReason, Limit};

/// The one encoding that is spoken.
const CODEC: &str = "json";

/// Labels, and what is read of each Shard.
type Series = (Vec<KeyValue>, Box<dyn Fn(&Counts) -> u64 + Send + Sync>);

/// Registers what these Shards count, and what waits in their inboxes.
pub fn observe(
    meter: &Meter,
    namespaces: &Namespaces,
    shards: &[Arc<Counts>],
    inboxes: &[Sender<Event>],
) {
    let all = Shards { meter, counts: shards.into() };
    all.connections();
    all.publications(namespaces);
    all.bounds();
    all.each();
    // A Shard ends when nobody can reach it any more, so they are not held here.
    let inboxes: Vec<_> = inboxes.iter().map(Sender::downgrade).collect();
    meter
        .u64_observable_gauge("tidegate_shard_inbox_items")
        .with_description("What waits in the inbox of each Shard")
        .with_callback(move |observer| {
            for (shard, inbox) in (0_i64..).zip(&inboxes) {
                let items = inbox.upgrade().map_or(0, |one| one.max_capacity() - one.capacity());
                observer.observe(items as u64, &[KeyValue::new("shard", shard)]);
            }
        })
        .build();
}

struct Shards<'a> {
    meter: &'a Meter,
    counts: Arc<[Arc<Counts>]>,
}

impl Shards<'_> {
    fn connections(&self) {
        let by_transport = |read: fn(&Counts, usize) -> u64| {
            let one = move |(transport, word): (Transport, &'static str)| {
                series([("transport", word)], move |counts| read(counts, transport as usize))
            };
            Transport::ALL.map(one).into()
        };
        let codecs = Transport::ALL.map(|(transport, word)| {
            series([("transport", word), ("codec", CODEC)], move |counts| {
                counts.reached[transport as usize].connections.get()
            })
        });
        self.gauge("tidegate_connections", "Connections that are open", codecs.into());
        self.counter(
            "tidegate_connections_opened_total",
            "Connections that have begun",
            by_transport(|counts, at| counts.reached[at].opened.get()),
        );
        let closes = Close::texts()
            .enumerate()
            .map(|(place, text)| series([("close", text)], move |counts| counts.closed.get(place)));
        self.counter(
            "tidegate_connections_closed_total",
            "Connections that have ended, by the reason that the client was given",
            closes.collect(),
        );
        self.gauge(
            "tidegate_subscriptions",
            "Subscriptions that there are",
            vec![series([], |counts| counts.subscriptions.get())],
        );
        let answers = Asked::ALL.into_iter().flat_map(|(asked, word)| {
            let answers = move |counts: &Counts| {
                let one = &counts.answers[asked as usize];
                [one.ok.get(), one.error.get()]
            };
            [("ok", 0), ("error", 1)].map(|(outcome, at)| {
                series([("type", word), ("outcome", outcome)], move |counts| answers(counts)[at])
            })
        });
        self.counter(
            "tidegate_commands_total",
            "Commands of clients, one for each answer",
            answers.collect(),
        );
        self.counter(
            "tidegate_delivery_bytes_total",
            "Bytes that were written to clients",
            by_transport(|counts, at| counts.reached[at].bytes.get()),
        );
    }

    fn publications(&self, namespaces: &Namespaces) {
        let labels: Vec<Arc<str>> = namespaces.labels().map(Into::into).collect();
        let (mut deliveries, mut gaps) = (Vec::new(), Vec::new());
        for (place, label) in labels.into_iter().enumerate() {
            let namespace = KeyValue::new("topic_namespace", label);
            for (transport, word) in Transport::ALL {
                let labels = vec![KeyValue::new("transport", word), namespace.clone()];
                let read = move |counts: &Counts| {
                    let space = counts.spaces.get(place);
                    space.map_or(0, |space| space.deliveries[transport as usize].get())
                };
                deliveries.push((labels, Box::new(read) as _));
            }
            for (reason, word) in GapReason::ALL {
                let labels = vec![KeyValue::new("reason", word), namespace.clone()];
                let read = move |counts: &Counts| {
                    let space = counts.spaces.get(place);
                    space.map_or(0, |space| space.gaps[reason as usize].get())
                };
                gaps.push((labels, Box::new(read) as _));
            }
        }
        self.counter(
            "tidegate_deliveries_total",
            "Publications put into the Outbox of a client",
            deliveries,
        );
        self.counter("tidegate_gaps_total", "Losses that clients were told of", gaps);
    }

    fn bounds(&self) {
        let limits = Limit::ALL.map(|limit| {
            series([("limit", limit.key())], move |counts| counts.limit_hits.get(limit as usize))
        });
        self.counter("tidegate_limit_hits_total", "How often each bound was met", limits.into());
        self.gauge(
            "tidegate_outbox_bytes",
            "What waits for clients that take no more",
            vec![series([], |counts| counts.outbox_bytes.get())],
        );
        self.counter(
            "tidegate_outbox_full_total",
            "Outboxes that were full, by what was done about it",
            vec![series([("step", "close")], |counts| {
                counts.limit_hits.get(Limit::OutboxBytes as usize)
            })],
        );
        self.counter(
            "tidegate_panics_total",
            "Panics that ended a Connection",
            vec![series([], |counts| counts.panics.get())],
        );
    }

    /// What says more of each Shard than of all.
    fn each(&self) {
        let counts = Arc::clone(&self.counts);
        let connections = move || -> Vec<u64> {
            let all = |one: &Counts| one.reached.iter().map(|one| one.connections.get()).sum();
            counts.iter().map(|one| all(one)).collect()
        };
        self.meter
            .u64_observable_gauge("tidegate_shard_connections")
            .with_description("Connections of each Shard")
            .with_callback(move |observer| {
                for (shard, count) in (0_i64..).zip(connections()) {
                    observer.observe(count, &[KeyValue::new("shard", shard)]);
                }
            })
            .build();
        let counts = Arc::clone(&self.counts);
        self.meter
            .f64_observable_gauge("tidegate_shard_stall_seconds")
            .with_description(
                "The longest that each Shard kept everybody waiting in the last minute",
            )
            .with_callback(move |observer| {
                for (shard, one) in (0_i64..).zip(&*counts) {
                    let stall = Duration::from_micros(one.stall_us.get());
                    observer.observe(stall.as_secs_f64(), &[KeyValue::new("shard", shard)]);
                }
            })
            .build();
    }

    fn counter(&self, name: &'static str, help: &'static str, series: Vec<Series>) {
        let counts = Arc::clone(&self.counts);
        self.meter
            .u64_observable_counter(name)
            .with_description(help)
            .with_callback(move |observer| {
                for (labels, read) in &series {
                    observer.observe(counts.iter().map(|one| read(one)).sum(), labels);
                }
            })
            .build();
    }

    fn gauge(&self, name: &'static str, help: &'static str, series: Vec<Series>) {
        let counts = Arc::clone(&self.counts);
        self.meter
            .u64_observable_gauge(name)
            .with_description(help)
            .with_callback(move |observer| {
                for (labels, read) in &series {
                    observer.observe(counts.iter().map(|one| read(one)).sum(), labels);
                }
            })
            .build();
    }
}

fn series<const N: usize>(
    labels: [(&'static str, &'static str); N],
    read: impl Fn(&Counts) -> u64 + Send + Sync + 'static,
) -> Series {
    (labels.map(|(name, value)| KeyValue::new(name, value)).into(), Box::new(read))
}
