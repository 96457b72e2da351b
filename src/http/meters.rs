//! What HTTP measures by itself: who was not let in. What comes in is counted by its Shard.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Meter};

use crate::protocol::{Code, Limit};

/// Why somebody was not let in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Refusal {
    Draining,
    /// It is not known whom to turn away.
    Unread,
    At(Limit),
}

impl Refusal {
    const ALL: [Self; 6] = [
        Self::Draining,
        Self::Unread,
        Self::At(Limit::MaxConnections),
        Self::At(Limit::Unauthenticated),
        Self::At(Limit::UserConnections),
        Self::At(Limit::HandshakesPerSecond),
    ];

    fn label(self) -> KeyValue {
        KeyValue::new(
            "reason",
            match self {
                Self::Draining => Code::Draining.text(),
                Self::Unread => "revocations_unread",
                Self::At(limit) => limit.key(),
            },
        )
    }
}

/// The instruments.
pub struct Meters {
    refused: Counter<u64>,
}

impl Meters {
    /// Registers them.
    #[must_use]
    pub fn new(meter: &Meter) -> Self {
        let refused = meter
            .u64_counter("tidegate_connections_refused_total")
            .with_description(
                "Connections that were refused for load or in a drain, before they began",
            )
            .build();
        // Each series is there from the start.
        Refusal::ALL.iter().for_each(|why| refused.add(0, &[why.label()]));
        Self { refused }
    }

    pub(super) fn refused(&self, why: Refusal) {
        self.refused.add(1, &[why.label()]);
    }
}
