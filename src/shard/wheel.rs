//! When to look at which Connection again: one timer wheel per Shard.
//!
//! A timer of its own would cost every idle socket more than everything else it has. Here an entry is
//! eight bytes in the slot of its time. A Connection knows the slot it waits in; an entry that fires
//! for another one is stale and means nothing, so entries are never searched for.

use super::Key;
use crate::session::Moment;

/// Width of a slot. What is due fires within one of these after its time.
pub const SLOT_MS: u64 = 250;
/// Slots of one turn: nothing waits longer than this to be looked at.
pub const SLOTS: u64 = 256;

/// A slot, counted from the start of the node.
pub type Slot = u64;

/// The wheel.
#[derive(Debug)]
pub struct Wheel {
    slots: Vec<Vec<Key>>,
    /// The last slot that has fired.
    turned_to: Slot,
}

impl Wheel {
    /// A wheel that stands at this moment.
    #[must_use]
    pub fn new(now: Moment) -> Self {
        Self { slots: (0..SLOTS).map(|_| Vec::new()).collect(), turned_to: now.0 / SLOT_MS }
    }

    /// The slot that fires first at or after a moment, or the farthest there is.
    #[must_use]
    pub fn slot(&self, at: Moment) -> Slot {
        at.0.div_ceil(SLOT_MS).clamp(self.turned_to + 1, self.turned_to + SLOTS - 1)
    }

    /// Whether a slot has fired.
    #[must_use]
    pub const fn has_passed(&self, slot: Slot) -> bool {
        slot <= self.turned_to
    }

    /// Puts a Connection into a slot that [`slot`](Self::slot) gave.
    pub fn put(&mut self, slot: Slot, key: Key) {
        if let Some(entries) =
            usize::try_from(slot % SLOTS).ok().and_then(|at| self.slots.get_mut(at))
        {
            entries.push(key);
        }
    }

    /// Turns up to a moment and moves everything that was due into `due`. Says how many slots at
    /// once it was behind.
    pub fn turn(&mut self, now: Moment, due: &mut Vec<Key>) -> u64 {
        let target = now.0 / SLOT_MS;
        let behind = target.saturating_sub(self.turned_to);
        for slot in self.turned_to + 1..=target.min(self.turned_to + SLOTS) {
            if let Some(entries) =
                usize::try_from(slot % SLOTS).ok().and_then(|at| self.slots.get_mut(at))
            {
                due.append(entries);
                if entries.capacity() > 1_024 {
                    *entries = Vec::new();
                }
            }
        }
        self.turned_to = target.max(self.turned_to);
        behind
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Beside a sorted list: everything fires once, in the first turn at or after its time.
        #[test]
        fn it_agrees_with_a_sorted_list(
            times in prop::collection::vec(0..60_000_u64, 1..80),
            steps in prop::collection::vec(1..3_000_u64, 1..80),
        ) {
            let mut wheel = Wheel::new(Moment(0));
            let mut sorted: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
            for (serial, at) in (0_u32..).zip(&times) {
                let slot = wheel.slot(Moment(*at));
                wheel.put(slot, Key { index: 0, serial });
                sorted.entry(slot).or_default().push(serial);
            }
            let mut now = 0;
            for step in steps {
                now += step;
                let mut due = Vec::new();
                wheel.turn(Moment(now), &mut due);
                let later = sorted.split_off(&(now / SLOT_MS + 1));
                let expected: Vec<u32> = std::mem::replace(&mut sorted, later).into_values().flatten().collect();
                let got: Vec<u32> = due.iter().map(|key| key.serial).collect();
                prop_assert_eq!(got, expected);
            }
        }
    }
}
