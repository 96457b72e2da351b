//! I2, I3 and I4: what comes comes once, in order, and was not refused.

use std::collections::{HashMap, HashSet};

use super::{Truth, Verdict};
use crate::torture::log::{Got, Outcome, Place, Subscription, What};

pub(super) fn judge(truth: &Truth<'_>, verdict: &mut Verdict) {
    publishers(truth, verdict);
    wire(truth, verdict);
    for one in &truth.run.subscriptions {
        subscription(truth, one, verdict);
    }
    let stored = truth.run.stored.iter();
    let mut places = HashMap::new();
    for one in stored {
        if truth.outcome(one.topic, one.n) == Some(Outcome::Fail) {
            let name = truth.name(one.topic, one.n);
            verdict.breaks("I4", || format!("{name} was refused, and is stored"));
        }
        if places.insert((one.topic, one.n), one.place).is_some() {
            verdict.breaks("I4", || format!("{} is stored twice", truth.name(one.topic, one.n)));
        }
    }
}

/// A publisher waits for its answers: what it says later is stored later.
fn publishers(truth: &Truth<'_>, verdict: &mut Verdict) {
    for sent in &truth.by_topic {
        let mut last: Option<(Place, u32)> = None;
        for one in sent.iter().filter(|one| one.outcome == Outcome::Ok) {
            let Some(place) = one.place else { continue };
            if let Some((before, n)) = last.replace((place, one.n))
                && before.epoch == place.epoch
                && before.offset >= place.offset
            {
                let name = truth.name(one.topic, one.n);
                verdict.breaks("I3", || format!("{name} is stored before {n}"));
            }
        }
    }
}

/// On one Connection nothing comes live twice, whichever Subscriptions it is for.
fn wire(truth: &Truth<'_>, verdict: &mut Verdict) {
    let mut frames: HashMap<(usize, usize, u32, Option<Place>), u32> = HashMap::new();
    for one in &truth.run.subscriptions {
        for note in &one.notes {
            let What::Got(got) = note.what else { continue };
            if got.replayed {
                continue;
            }
            let key = (note.connection, got.topic, got.n, got.place);
            let frame = *frames.entry(key).or_insert(got.frame);
            if frame != got.frame {
                let name = truth.name(got.topic, got.n);
                verdict.breaks("I2", || format!("{} got {name} live twice", one.name()));
            }
        }
    }
}

fn subscription(truth: &Truth<'_>, one: &Subscription, verdict: &mut Verdict) {
    let mut had: HashSet<(usize, u32, Option<Place>)> = HashSet::new();
    // Of one Epoch a publisher's Publication is there once.
    let mut stored: HashMap<(usize, u32, u32), u64> = HashMap::new();
    let mut asked: HashMap<usize, Place> = HashMap::new();
    let mut on_connection: HashMap<usize, Place> = HashMap::new();
    let mut counters: HashMap<(usize, Option<usize>, Option<u32>), u32> = HashMap::new();
    for note in &one.notes {
        let got = match note.what {
            What::Asked(Some(place)) => {
                asked.insert(note.connection, place);
                continue;
            }
            What::Got(got) => got,
            _ => continue,
        };
        let say =
            |words: &str| format!("{} got {}{words}", one.name(), truth.name(got.topic, got.n));
        verdict.figures.deliveries += usize::from(got.fresh);
        verdict.figures.replayed += usize::from(got.fresh && got.replayed);
        match truth.outcome(got.topic, got.n) {
            None => verdict.breaks("I4", || say(", which nobody published")),
            Some(Outcome::Fail) => verdict.breaks("I4", || say(", which was refused")),
            Some(_) => {}
        }
        if let Some(place) = got.place {
            let last = on_connection.insert(note.connection, place);
            if last.is_some_and(|last| last.epoch == place.epoch && last.offset >= place.offset) {
                verdict.breaks("I3", || say(&format!(" at {place:?} behind {last:?}")));
            }
            let from = asked.get(&note.connection).filter(|_| got.replayed);
            if from.is_some_and(|from| from.epoch == place.epoch && from.offset >= place.offset) {
                verdict.breaks("I2", || say(&format!(" at {place:?}, asked behind {from:?}")));
            }
            let key = (got.topic, got.n, place.epoch);
            if *stored.entry(key).or_insert(place.offset) != place.offset {
                verdict.breaks("I4", || say(" at two places"));
            }
        }
        if !got.fresh {
            continue;
        }
        if !had.insert((got.topic, got.n, got.place)) {
            verdict.breaks("I2", || say(" twice"));
        }
        if truth.outcome(got.topic, got.n) == Some(Outcome::Ok) {
            let key = counter(one, note.connection, &got);
            let last = counters.insert(key, got.n);
            if last.is_some_and(|last| last >= got.n) {
                verdict.breaks("I3", || say(&format!(" behind {last:?}")));
            }
        }
    }
}

/// Within what the counters rise: a history, or a Connection.
fn counter(
    one: &Subscription,
    connection: usize,
    got: &Got,
) -> (usize, Option<usize>, Option<u32>) {
    let connection = (!one.kept).then_some(connection);
    (got.topic, connection, got.place.map(|place| place.epoch))
}
