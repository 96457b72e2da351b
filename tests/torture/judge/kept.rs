//! I1 and I6: on kept Topics nothing is missing without a word, and there is no word without a reason.

use std::collections::HashSet;

use super::{Limits, Truth, Verdict, tells};
use crate::torture::log::{Note, Outcome, Place, Subscription, What};

pub(super) fn judge(truth: &Truth<'_>, limits: &Limits, verdict: &mut Verdict) {
    stored(truth, verdict);
    for one in truth.run.subscriptions.iter().filter(|one| one.kept) {
        let words = missing(truth, one, verdict);
        alarms(truth, one, &words, verdict);
    }
    let figures = &verdict.figures;
    let (false_alarms, resumes) = (figures.false_alarms, figures.resumes);
    #[expect(clippy::cast_precision_loss, reason = "some thousands")]
    let per_mille = 1_000.0 * false_alarms as f64 / resumes.max(1) as f64;
    // One alone says nothing of a rate.
    if false_alarms > 1 && per_mille > limits.false_alarms_per_mille {
        verdict.breaks("I6", || {
            format!("{false_alarms} of {resumes} resumes were told of a hole that is none")
        });
    }
}

/// What was taken is in the history at the end, as far back as that goes.
fn stored(truth: &Truth<'_>, verdict: &mut Verdict) {
    for (topic, sent) in truth.by_topic.iter().enumerate() {
        let stored: Vec<_> = truth.run.stored.iter().filter(|one| one.topic == topic).collect();
        let Some(oldest) = stored.iter().map(|one| one.place.offset).min() else {
            continue;
        };
        let epoch = stored[0].place.epoch;
        let numbers: HashSet<u32> = stored.iter().map(|one| one.n).collect();
        for one in sent.iter().filter(|one| one.outcome == Outcome::Ok) {
            let Some(place) = one.place else { continue };
            let is_due = place.epoch == epoch && place.offset >= oldest;
            let is_gone = place.epoch != epoch && truth.faults(|one| one.destroys).count() == 0;
            if is_gone || is_due && !numbers.contains(&one.n) {
                let name = truth.name(topic, one.n);
                verdict.breaks("I1", || format!("{name} was taken, and is not stored: {place:?}"));
            }
        }
    }
}

/// Judges I1; gives the indices of the notes that told of something that is missing indeed.
fn missing(truth: &Truth<'_>, one: &Subscription, verdict: &mut Verdict) -> HashSet<usize> {
    let mut told = HashSet::new();
    let begun = one.notes.iter().find_map(|note| match note.what {
        What::Begun { place, .. } => Some((note.at, place)),
        _ => None,
    });
    let Some((began_at, began)) = begun else {
        verdict.breaks("I10", || format!("{} never began", one.name()));
        return told;
    };
    let had: HashSet<(usize, u32)> = one
        .notes
        .iter()
        .filter_map(|note| match note.what {
            What::Got(got) if got.fresh => Some((got.topic, got.n)),
            _ => None,
        })
        .collect();
    for sent in one.topics.iter().flat_map(|topic| &truth.by_topic[*topic]) {
        let number = (sent.topic, sent.n);
        // What somebody got was stored, whatever its publisher was told.
        let Some(place) = truth.places.get(&number).copied() else {
            if sent.outcome == Outcome::Ok {
                let name = truth.name(sent.topic, sent.n);
                verdict.breaks("I1", || format!("{name} was taken, and is nowhere"));
            }
            continue;
        };
        let behind = |began: Place| truth.position(place) > truth.position(began);
        let owed = sent.began > began_at || began.is_some_and(behind);
        if !owed || had.contains(&number) {
            continue;
        }
        let words = covering(truth, &one.notes, place);
        if words.is_empty() {
            let name = truth.name(sent.topic, sent.n);
            verdict.breaks("I1", || {
                let (at, outcome) = (sent.ended, sent.outcome);
                format!("{} never got {name} ({place:?}, {outcome:?} at {at})", one.name())
            });
        }
        told.extend(words);
    }
    told
}

/// Which notes told that this may be missing: what came behind the last that lay before it, and before
/// anything live that lies behind it; and what a replay was told at its beginning, up to its end.
fn covering(truth: &Truth<'_>, notes: &[Note], place: Place) -> Vec<usize> {
    let place = truth.position(place);
    let position = |note: &Note| match note.what {
        What::Got(got) if got.fresh => got.place.map(|place| (truth.position(place), got.replayed)),
        _ => None,
    };
    let behind = |note: &Note| position(note).is_some_and(|(other, _)| other > place);
    let behind_live =
        |note: &Note| position(note).is_some_and(|(other, replayed)| other > place && !replayed);
    let before = |note: &Note| position(note).is_some_and(|(other, _)| other < place);
    let first = notes.iter().position(behind).unwrap_or(notes.len());
    let from = notes[..first].iter().rposition(before).map_or(0, |at| at + 1);
    let until = notes[first..].iter().position(behind_live).map_or(notes.len(), |at| first + at);
    let mut words: Vec<usize> =
        (from..until).filter(|at| tells(&notes[*at].what).is_some()).collect();
    let begins = |note: &Note| matches!(note.what, What::Begun { .. } | What::Again);
    if let Some(replay) = notes[..from].iter().rposition(begins) {
        let replaying = notes[replay..from].iter();
        let replaying = replaying.take_while(|note| note.what != What::Live).count();
        let told = |at: &usize| tells(&notes[*at].what).is_some();
        words.extend((replay..replay + replaying).filter(told));
    }
    words
}

/// Counts resumes, and what was told for nothing.
fn alarms(truth: &Truth<'_>, one: &Subscription, right: &HashSet<usize>, verdict: &mut Verdict) {
    let mut asked: Option<Place> = None;
    let mut last_begun = None;
    for (at, note) in one.notes.iter().enumerate() {
        match note.what {
            What::Asked(from) => asked = from,
            What::Begun { place, reason } => {
                let since = last_begun.replace(note.at).unwrap_or(note.at);
                let Some(from) = asked.take() else { continue };
                verdict.figures.resumes += 1;
                let Some(reason) = reason else { continue };
                verdict.figures.not_recovered += 1;
                // Where retention did not take it, the first who come back can prove nothing.
                let destroyed =
                    truth.faults(|fault| fault.destroys && fault.until >= since).count() > 0;
                let other = place.is_some_and(|place| place.epoch != from.epoch);
                if !right.contains(&at) && !other && !destroyed {
                    verdict.figures.false_alarms += 1;
                    *verdict.figures.false_alarms_by_reason.entry(reason).or_default() += 1;
                }
            }
            What::Gap(_) => {
                verdict.figures.kept_gaps += 1;
                verdict.figures.kept_gaps_for_nothing += usize::from(!right.contains(&at));
            }
            _ => {}
        }
    }
}
