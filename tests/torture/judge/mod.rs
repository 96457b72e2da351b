//! The judge: reads what everybody wrote down, and says which promise was broken, and by whom.
//!
//! Pure: it knows no process, no socket and no clock. `tests.rs` hands it forged logs, in each of which
//! one promise is broken once. Each room judges some of the invariants:
//!
//! | | invariant | room |
//! | --- | --- | --- |
//! | I1 | on kept Topics what was taken reached everybody it was owed to, or they were told | `kept` |
//! | I2 | nothing twice, but by a replay, and that only behind its Cursor | `order` |
//! | I3 | Offsets rise; the counter of a publisher that waits rises | `order` |
//! | I4 | what was refused never comes; what is unknown comes once at most | `order` |
//! | I5 | nobody receives what they may not read | `conduct` |
//! | I6 | nobody is told of a hole where there is none, but for one in 1,000 | `kept` |
//! | I7 | memory holds | seen from outside |
//! | I8 | nothing stays behind when everybody has left | seen from outside |
//! | I9 | no end without a word, no undocumented answer | `conduct` |
//! | I10 | after the last heal everything works again, soon | `heal` |
//! | B | best effort is told of what it lost | `told` |
//! | P | publishing goes on, and is answered in time | `heal` |

mod conduct;
mod heal;
mod kept;
mod order;
#[cfg(test)]
mod tests;
mod told;

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::log::{Fault, Ms, Outcome, Place, Reason, Run, Sent, Subscription, What};

/// Words of one invariant that are kept; the rest is counted.
const WORDS_MAX: usize = 5;

/// How much is allowed. A small run shares its machine with other tests, so its times are wider.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Nobody can publish for longer.
    pub(crate) stall: Ms,
    /// A publish on a kept Topic is answered within this.
    pub(crate) answer_kept: Ms,
    /// One on another Topic.
    pub(crate) answer: Ms,
    /// Ninety-nine of a hundred clients of a killed node are live elsewhere.
    pub(crate) moved: Ms,
    /// After the heal everybody has everything.
    pub(crate) caught_up: Ms,
    /// That a node has lost NATS is told.
    pub(crate) told: Ms,
    /// Of 1,000 resumes so many may be told of a hole that is none.
    pub(crate) false_alarms_per_mille: f64,
}

impl Limits {
    /// What is promised.
    pub(crate) const PROMISED: Self = Self {
        stall: 10_000,
        answer_kept: 16_500,
        answer: 6_500,
        moved: 5_000,
        caught_up: 30_000,
        told: 15_000,
        false_alarms_per_mille: 1.0,
    };
    /// Of a run beside other tests.
    pub(crate) const BESIDE_OTHERS: Self = Self {
        stall: 20_000,
        answer_kept: 19_000,
        answer: 12_000,
        moved: 15_000,
        caught_up: 40_000,
        told: 20_000,
        false_alarms_per_mille: 10.0,
    };
}

/// What the judge says.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Verdict {
    /// How often each invariant was broken.
    pub(crate) broken: BTreeMap<&'static str, usize>,
    /// The first of each, in words.
    pub(crate) words: Vec<String>,
    pub(crate) figures: Figures,
}

/// What was measured.
#[derive(Debug, Default, Clone, Serialize)]
pub(crate) struct Figures {
    pub(crate) ok: usize,
    pub(crate) fail: usize,
    pub(crate) unknown: usize,
    pub(crate) deliveries: usize,
    pub(crate) replayed: usize,
    pub(crate) resumes: usize,
    /// Of these, told that something may be missing.
    pub(crate) not_recovered: usize,
    /// Of these, where nothing was missing.
    pub(crate) false_alarms: usize,
    /// What these were told.
    pub(crate) false_alarms_by_reason: BTreeMap<Reason, usize>,
    /// A `gap` on a kept Subscription.
    pub(crate) kept_gaps: usize,
    /// Of these, where nothing was missing.
    pub(crate) kept_gaps_for_nothing: usize,
    /// Longest time in which nobody's publish was taken, though it could have been.
    pub(crate) stall_ms: Ms,
    /// Slowest answer to a publish.
    pub(crate) answer_kept_ms: Ms,
    pub(crate) answer_ms: Ms,
    /// Until the last delivery that was late, since the heal.
    pub(crate) caught_up_ms: Ms,
    /// Until the first delivery after the heal, everywhere.
    pub(crate) works_again_ms: Ms,
    /// Clients of killed nodes, and how long until they were live elsewhere.
    pub(crate) moved: usize,
    pub(crate) moved_p50_ms: Ms,
    pub(crate) moved_p99_ms: Ms,
    /// How long until clients were told that their node had lost NATS.
    pub(crate) told_max_ms: Ms,
    /// Codes that publishers and clients were refused with.
    pub(crate) errors: usize,
}

impl Verdict {
    fn breaks(&mut self, invariant: &'static str, words: impl FnOnce() -> String) {
        let broken = self.broken.entry(invariant).or_default();
        *broken += 1;
        if *broken <= WORDS_MAX {
            self.words.push(format!("{invariant}: {}", words()));
        }
    }

    /// Whether every promise was kept.
    pub(crate) fn is_clean(&self) -> bool {
        self.broken.is_empty()
    }
}

/// Judges a run.
pub(crate) fn judge(run: &Run, limits: &Limits) -> Verdict {
    let truth = Truth::of(run);
    let mut verdict = Verdict::default();
    for (invariant, words) in &run.seen {
        verdict.breaks(invariant, || words.clone());
    }
    for sent in &run.sent {
        *match sent.outcome {
            Outcome::Ok => &mut verdict.figures.ok,
            Outcome::Fail => &mut verdict.figures.fail,
            Outcome::Unknown => &mut verdict.figures.unknown,
        } += 1;
    }
    kept::judge(&truth, limits, &mut verdict);
    order::judge(&truth, &mut verdict);
    conduct::judge(&truth, &mut verdict);
    told::judge(&truth, limits, &mut verdict);
    heal::judge(&truth, limits, &mut verdict);
    verdict
}

/// The run, with what is looked up often.
struct Truth<'a> {
    run: &'a Run,
    /// Of a Topic and its counter.
    sent: HashMap<(usize, u32), &'a Sent>,
    /// By Topic, in order.
    by_topic: Vec<Vec<&'a Sent>>,
    /// Where each was first seen stored, by whoever saw it.
    places: HashMap<(usize, u32), Place>,
    /// Epochs in the order in which they came.
    epochs: HashMap<u32, usize>,
}

impl<'a> Truth<'a> {
    fn of(run: &'a Run) -> Self {
        let mut by_topic = vec![Vec::new(); run.topics.len()];
        let (mut sent, mut places) = (HashMap::new(), HashMap::new());
        let mut seen: Vec<(Ms, u32)> = Vec::new();
        for one in &run.sent {
            by_topic[one.topic].push(one);
            sent.insert((one.topic, one.n), one);
            if let Some(place) = one.place {
                places.insert((one.topic, one.n), place);
                seen.push((one.ended, place.epoch));
            }
        }
        for note in run.subscriptions.iter().flat_map(|one| &one.notes) {
            if let What::Got(got) = note.what
                && let Some(place) = got.place
            {
                places.entry((got.topic, got.n)).or_insert(place);
                seen.push((note.at, place.epoch));
            }
        }
        seen.sort_unstable();
        let mut epochs = HashMap::new();
        for (_, epoch) in seen {
            let next = epochs.len();
            epochs.entry(epoch).or_insert(next);
        }
        Self { run, sent, by_topic, places, epochs }
    }

    /// Comparable over Epochs: a later one comes behind.
    fn position(&self, place: Place) -> (usize, u64) {
        let epoch = self.epochs.get(&place.epoch).copied();
        (epoch.unwrap_or(usize::MAX), place.offset)
    }

    fn outcome(&self, topic: usize, n: u32) -> Option<Outcome> {
        self.sent.get(&(topic, n)).map(|sent| sent.outcome)
    }

    fn name(&self, topic: usize, n: u32) -> String {
        format!("{} {n}", self.run.topics[topic].name)
    }

    /// When the last fault was healed; if there was none, when publishing began.
    fn healed(&self) -> Ms {
        let healed = self.run.faults.iter().map(|fault| fault.until).max();
        healed.unwrap_or(self.run.published.0)
    }

    fn faults(&self, which: impl Fn(&Fault) -> bool) -> impl Iterator<Item = &'a Fault> {
        self.run.faults.iter().filter(move |fault| which(fault))
    }
}

impl Subscription {
    /// Who it is, for people.
    fn name(&self) -> String {
        format!("client {}'s {}", self.client, self.pattern)
    }
}

/// Whether it says that something may be missing.
fn tells(what: &What) -> Option<Reason> {
    match what {
        What::Begun { reason, .. } => *reason,
        What::Gap(reason) => Some(*reason),
        _ => None,
    }
}

/// The value that so many of a hundred do not exceed.
fn percentile(sorted: &[Ms], percent: usize) -> Ms {
    let at = (sorted.len() * percent).div_ceil(100);
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(0)
}
