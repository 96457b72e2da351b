//! What is measured of it: who is there, what all were asked, and who said nothing.

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Meter};

use super::nodes::Nodes;
use crate::bus::call::Call;

/// The instruments.
pub(super) struct Meters {
    calls: Counter<u64>,
    silent: Counter<u64>,
}

impl Meters {
    /// Registers them.
    pub(super) fn new(meter: &Meter, nodes: &Nodes) -> Self {
        let nodes = nodes.clone();
        meter
            .u64_observable_gauge("tidegate_nodes")
            .with_description("Nodes that this one hears, itself among them")
            .with_callback(move |observer| observer.observe(nodes.count() as u64, &[]))
            .build();
        let meters = Self {
            calls: meter
                .u64_counter("tidegate_calls_total")
                .with_description("What this node has asked all nodes")
                .build(),
            silent: meter
                .u64_counter("tidegate_calls_silent_total")
                .with_description("Nodes that have not answered such a question in time")
                .build(),
        };
        // Each series is there from the start.
        for call in Call::ANSWERED {
            meters.calls.add(0, &[label(call)]);
            meters.silent.add(0, &[label(call)]);
        }
        meters
    }

    pub(super) fn asked(&self, call: Call, silent: usize) {
        self.calls.add(1, &[label(call)]);
        self.silent.add(silent as u64, &[label(call)]);
    }
}

fn label(call: Call) -> KeyValue {
    KeyValue::new("call", call.text())
}
