//! I10, and what a fault costs: how long nobody can publish, how long until everybody has everything.

use std::collections::HashMap;

use super::{Limits, Truth, Verdict, percentile};
use crate::torture::log::{End, Ms, Outcome, Subscription, What};

/// What comes later than this after its answer was late.
const LATE: Ms = 2_000;
/// A kill is seen by a client whose node it was within this.
const KILL_IS_SEEN: Ms = 3_000;
/// Who can publish only since a heal is given this until errors count again.
const CALMS_DOWN: Ms = 5_000;

pub(super) fn judge(truth: &Truth<'_>, limits: &Limits, verdict: &mut Verdict) {
    stall(truth, limits, verdict);
    answers(truth, limits, verdict);
    moves(truth, limits, verdict);
    for one in &truth.run.subscriptions {
        again(truth, limits, one, verdict);
    }
    let took = verdict.figures.caught_up_ms;
    if took > limits.caught_up {
        verdict.breaks("I10", || format!("the last had caught up {took} ms after the heal"));
    }
}

/// Nobody could publish for so long, though NATS was whole.
fn stall(truth: &Truth<'_>, limits: &Limits, verdict: &mut Verdict) {
    let kept = truth.run.topics.iter().any(|topic| topic.kept);
    let counts = |topic: usize| !kept || truth.run.topics[topic].kept;
    let oks = truth.run.sent.iter().filter(|sent| sent.outcome == Outcome::Ok);
    let mut taken: Vec<Ms> = oks.filter(|sent| counts(sent.topic)).map(|sent| sent.ended).collect();
    let (began, ended) = truth.run.published;
    taken.extend([began, ended]);
    taken.sort_unstable();
    let mut longest = (0, 0);
    for pair in taken.windows(2) {
        let (mut from, until) = (pair[0], pair[1]);
        for halt in truth.faults(|fault| fault.halts) {
            if from < halt.until && until > halt.from {
                from = halt.until.min(until);
            }
        }
        longest = longest.max((until - from, from));
    }
    verdict.figures.stall_ms = longest.0;
    if longest.0 > limits.stall {
        verdict.breaks("P", || {
            format!("nobody could publish for {} ms from {}", longest.0, longest.1)
        });
    }
}

/// Who publishes is answered in time, and not refused where nothing may be noticed.
fn answers(truth: &Truth<'_>, limits: &Limits, verdict: &mut Verdict) {
    for sent in &truth.run.sent {
        let frozen = truth.faults(|fault| {
            !fault.freezes.is_empty() && sent.began < fault.until && sent.ended > fault.from
        });
        if frozen.count() > 0 {
            continue;
        }
        let kept = truth.run.topics[sent.topic].kept;
        let (figure, limit) = if kept {
            (&mut verdict.figures.answer_kept_ms, limits.answer_kept)
        } else {
            (&mut verdict.figures.answer_ms, limits.answer)
        };
        *figure = (*figure).max(sent.answer);
        let name = truth.name(sent.topic, sent.n);
        if sent.answer > limit {
            verdict.breaks("P", || format!("{name} was answered after {} ms", sent.answer));
        }
        let unseen = truth.faults(|fault| {
            fault.unseen && sent.began < fault.until + CALMS_DOWN && sent.ended > fault.from
        });
        if sent.outcome != Outcome::Ok && unseen.count() > 0 {
            verdict.breaks("P", || format!("{name} was answered by {:?}", sent.outcome));
        }
    }
}

/// Clients of a killed node are live elsewhere.
fn moves(truth: &Truth<'_>, limits: &Limits, verdict: &mut Verdict) {
    let mut took = Vec::new();
    let mut by_client: HashMap<usize, Vec<&Subscription>> = HashMap::new();
    for one in &truth.run.subscriptions {
        by_client.entry(one.client).or_default().push(one);
    }
    for fault in truth.faults(|fault| !fault.cuts.is_empty()) {
        let lost = truth.run.connections.iter().filter(|connection| {
            let seen = fault.from..fault.from + KILL_IS_SEEN;
            fault.cuts.contains(&connection.node)
                && matches!(&connection.ended, Some((at, End::Cut)) if seen.contains(at))
        });
        for connection in lost {
            let subscriptions = by_client.get(&connection.client);
            let live = subscriptions.into_iter().flatten().map(|one| {
                let live = |note: &&crate::torture::log::Note| {
                    note.what == What::Live && note.at > fault.from
                };
                one.notes.iter().find(live).map_or(Ms::MAX, |note| note.at)
            });
            let live = live.max().unwrap_or(Ms::MAX);
            took.push(live.saturating_sub(fault.from));
        }
    }
    took.sort_unstable();
    let p99 = percentile(&took, 99);
    let figures = &mut verdict.figures;
    (figures.moved, figures.moved_p50_ms) = (took.len(), percentile(&took, 50));
    figures.moved_p99_ms = p99;
    if p99 > limits.moved {
        verdict.breaks("P", || {
            format!("of {} clients 1 % lived elsewhere after {p99} ms", took.len())
        });
    }
}

/// After the last heal each Subscription gets something of each of its Topics, soon; and what came late
/// came soon, too.
fn again(truth: &Truth<'_>, limits: &Limits, one: &Subscription, verdict: &mut Verdict) {
    let healed = truth.healed();
    let mut first: HashMap<usize, Ms> = HashMap::new();
    for note in &one.notes {
        let What::Got(got) = note.what else { continue };
        let Some(sent) = truth.sent.get(&(got.topic, got.n)) else { continue };
        if sent.began >= healed {
            first.entry(got.topic).or_insert(note.at);
        }
        if got.fresh && note.at > healed && note.at > sent.ended + LATE {
            let late = note.at - healed;
            // Who has been away by its own will comes back when it likes.
            if sent.began < healed {
                verdict.figures.caught_up_ms = verdict.figures.caught_up_ms.max(late);
            }
        }
    }
    for topic in &one.topics {
        let name = &truth.run.topics[*topic].name;
        match first.get(topic).map(|at| at - healed) {
            Some(took) if took <= limits.caught_up => {
                verdict.figures.works_again_ms = verdict.figures.works_again_ms.max(took);
            }
            Some(took) => verdict.breaks("I10", || {
                format!("{} got nothing of {name} for {took} ms after the heal", one.name())
            }),
            None => verdict
                .breaks("I10", || format!("{} got nothing of {name} after the heal", one.name())),
        }
    }
}
