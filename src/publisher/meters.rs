//! What a publisher measures: what was published, what became of it, and how long that took.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Histogram, Meter};

use super::PublishError;
use crate::namespace::Namespaces;
use crate::protocol::Code;
use crate::publication::Published;

/// Upper bounds, in seconds: an answer comes within 15.
const PUBLISH_SECONDS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 15.0];
/// It is done.
const OK: &str = "ok";
/// It was done before.
const DUPLICATE: &str = "duplicate";
/// What a [`PublishError`] may come to.
const CODES: [Code; 9] = [
    Code::Unauthenticated,
    Code::Forbidden,
    Code::InvalidTopic,
    Code::TooBig,
    Code::BadMessage,
    Code::Overloaded,
    Code::BusUnavailable,
    Code::OutcomeUnknown,
    Code::StorageFull,
];

/// Where it came in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Entry {
    Http,
    WebSocket,
}

impl Entry {
    const ALL: [Self; 2] = [Self::Http, Self::WebSocket];

    fn label(self) -> KeyValue {
        KeyValue::new(
            "entry",
            match self {
                Self::Http => "http",
                Self::WebSocket => "websocket",
            },
        )
    }
}

/// The instruments.
pub(super) struct Meters {
    publications: Counter<u64>,
    seconds: Histogram<f64>,
    /// By place.
    labels: Vec<KeyValue>,
}

impl Meters {
    /// Registers them.
    pub(super) fn new(meter: &Meter, namespaces: &Namespaces) -> Self {
        let labels =
            namespaces.labels().map(|name| KeyValue::new("topic_namespace", name.to_owned()));
        let meters = Self {
            publications: meter
                .u64_counter("tidegate_publications_total")
                .with_description("Publications that clients sent, by what became of them")
                .build(),
            seconds: meter
                .f64_histogram("tidegate_publish_seconds")
                .with_description("From a Publication to its answer")
                .with_boundaries(PUBLISH_SECONDS.into())
                .build(),
            labels: labels.collect(),
        };
        // Each series is there from the start.
        for outcome in [OK, DUPLICATE].into_iter().chain(CODES.map(Code::text)) {
            for (entry, namespace) in Entry::ALL
                .into_iter()
                .flat_map(|entry| meters.labels.iter().map(move |label| (entry, label)))
            {
                let outcome = KeyValue::new("outcome", outcome);
                meters.publications.add(0, &[entry.label(), outcome, namespace.clone()]);
            }
        }
        meters
    }

    pub(super) fn published(
        &self,
        entry: Entry,
        place: usize,
        outcome: &Result<Published, PublishError>,
        took: Duration,
    ) {
        let outcome = KeyValue::new(
            "outcome",
            match outcome {
                Ok(Published { duplicate: false, .. }) => OK,
                Ok(_) => DUPLICATE,
                Err(why) => why.wire().code.text(),
            },
        );
        self.seconds.record(took.as_secs_f64(), &[entry.label(), outcome.clone()]);
        if let Some(namespace) = self.labels.get(place) {
            self.publications.add(1, &[entry.label(), outcome, namespace.clone()]);
        }
    }
}
