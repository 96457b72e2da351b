//! How long Publications take to their clients: one delivery in many is followed to its socket.
//!
//! What is followed is noted beside the Connections, not in their Outboxes, so the others pay nothing
//! for it.

use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Histogram, Meter};

use super::{Key, Shard};
use crate::namespace::Namespaces;
use crate::protocol::Envelope;
use crate::publication::Timestamp;
use crate::session::Moment;

/// One delivery of so many is followed.
const FOLLOWED: usize = 256;
/// One is followed at least this often, if there are any.
const AT_LEAST_MS: u64 = 1_000;
/// So many at once.
const FOLLOWED_MAX: usize = 64;
/// Upper bounds, in seconds. Publications carry milliseconds.
const DELIVERY_SECONDS: [f64; 12] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// What all Shards of a node measure.
pub struct Meters {
    delivery: Histogram<f64>,
    /// By place.
    labels: Vec<KeyValue>,
}

impl Meters {
    /// Registers it.
    #[must_use]
    pub fn new(meter: &Meter, namespaces: &Namespaces) -> Self {
        let labels =
            namespaces.labels().map(|name| KeyValue::new("topic_namespace", name.to_owned()));
        let delivery = meter
            .f64_histogram("tidegate_delivery_seconds")
            .with_description("From the time of a Publication to its last byte in a socket")
            .with_boundaries(DELIVERY_SECONDS.into())
            .build();
        Self { delivery, labels: labels.collect() }
    }
}

/// Deliveries that are followed.
#[derive(Default)]
pub(super) struct Followed {
    /// Deliveries before the next one.
    skip: usize,
    last: Moment,
    list: Vec<Delivery>,
}

struct Delivery {
    key: Key,
    place: usize,
    time: Timestamp,
    /// It has left when so many Frames have.
    at: u32,
}

impl Followed {
    /// Which of the next so many deliveries are followed: the first of them; [`FOLLOWED`] lie between.
    fn first(&mut self, count: usize, now: Moment) -> usize {
        if now.0 >= self.last.0 + AT_LEAST_MS {
            self.skip = 0;
        }
        let first = self.skip;
        if first < count {
            self.last = now;
            self.skip = FOLLOWED - 1 - (count - 1 - first) % FOLLOWED;
        } else {
            self.skip -= count;
        }
        first
    }
}

impl Shard {
    /// This Publication is in these Outboxes now, or has left them.
    pub(super) fn follow(
        &mut self,
        receivers: &[Key],
        envelope: &Envelope,
        place: usize,
        now: Moment,
    ) {
        let first = self.followed.first(receivers.len(), now);
        for key in receivers.iter().skip(first).step_by(FOLLOWED) {
            let room = self.followed.list.len() < FOLLOWED_MAX;
            if let Some(one) = self.get(*key).filter(|one| room && !one.overflowed)
                && one.goodbye.is_none()
            {
                let (gone, waiting) = one.passed();
                one.followed = true;
                let at = gone.wrapping_add(u32::try_from(waiting).unwrap_or(u32::MAX));
                let time = envelope.time();
                self.followed.list.push(Delivery { key: *key, place, time, at });
            }
        }
    }

    /// Measures what has left an Outbox, if something in it is followed.
    pub(super) fn arrived(&mut self, key: Key) {
        let Some(one) = self.get(key).filter(|one| one.followed) else {
            return;
        };
        let (gone, waiting) = one.passed();
        one.followed = waiting > 0;
        let (wall, meters) = (self.now().wall, &self.world.meters);
        self.followed.list.retain(|one| {
            // Numbers begin again at 0, but never lie half of all apart.
            if one.key != key || one.at.wrapping_sub(gone).wrapping_sub(1) < u32::MAX / 2 {
                return true;
            }
            let took_ms = wall.0.saturating_sub(one.time.0);
            let seconds = Duration::from_millis(took_ms).as_secs_f64();
            meters
                .delivery
                .record(seconds, meters.labels.get(one.place).map_or(&[], std::slice::from_ref));
            false
        });
    }

    /// It will not arrive.
    pub(super) fn lose_followed(&mut self, key: Key) {
        if self.get(key).is_some_and(|one| std::mem::take(&mut one.followed)) {
            self.followed.list.retain(|one| one.key != key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many there are at a time, one of each so many is followed.
    #[test]
    fn one_of_so_many_is_followed() {
        for counts in [vec![1; 10_240], vec![1_000; 10], vec![255, 257, 3, 2_000, 1]] {
            let mut followed = Followed { last: Moment(5), ..Followed::default() };
            let (mut before, mut got) = (0, Vec::new());
            for count in &counts {
                let first = followed.first(*count, Moment(5));
                got.extend((0..*count).skip(first).step_by(FOLLOWED).map(|at| before + at));
                before += count;
            }
            assert_eq!(got, Vec::from_iter((0..before).step_by(FOLLOWED)));
        }
        let mut followed = Followed::default();
        assert_eq!(followed.first(1, Moment(0)), 0);
        assert_eq!(followed.first(1, Moment(AT_LEAST_MS - 1)), FOLLOWED - 1);
        assert_eq!(followed.first(1, Moment(AT_LEAST_MS)), 0, "a second has passed");
    }
}
