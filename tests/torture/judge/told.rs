//! Best effort may lose, and says so; and when a node loses NATS, everybody there hears it.

use std::collections::HashSet;

use super::{Limits, Truth, Verdict};
use crate::torture::log::{Ms, Outcome, Subscription, What};

/// A loss on best effort is told within this.
const TOLD_OF_LOSS: Ms = 20_000;
/// Lame duck is over by then, and everybody has been told.
const TOLD_TO_GO: Ms = 8_000;

pub(super) fn judge(truth: &Truth<'_>, limits: &Limits, verdict: &mut Verdict) {
    for one in truth.run.subscriptions.iter().filter(|one| !one.kept) {
        for stay in stays(one) {
            losses(truth, one, &stay, verdict);
        }
    }
    outages(truth, limits, verdict);
    drains(truth, verdict);
}

/// Who is on a node that leaves is told to go, and has gone before its socket ends.
fn drains(truth: &Truth<'_>, verdict: &mut Verdict) {
    for fault in truth.faults(|fault| !fault.drains.is_empty()) {
        for connection in &truth.run.connections {
            let due = fault.from + TOLD_TO_GO;
            let stays = connection.ended.as_ref().is_none_or(|(end, _)| *end > due);
            let here = fault.drains.contains(&connection.node) && connection.opened < fault.from;
            if here && stays && connection.told_to_go.is_none() {
                let (client, node) = (connection.client, connection.node);
                verdict.breaks("F14", || format!("client {client} on {node} was not told to go"));
            }
        }
    }
}

/// A Subscription's time on one Connection, from where it is live.
struct Stay {
    connection: usize,
    from: Ms,
    until: Ms,
}

fn stays(one: &Subscription) -> Vec<Stay> {
    let mut stays: Vec<Stay> = Vec::new();
    for note in &one.notes {
        match note.what {
            What::Live => {
                stays.push(Stay { connection: note.connection, from: note.at, until: Ms::MAX })
            }
            What::Over => {
                let over = |stay: &&mut Stay| stay.connection == note.connection;
                if let Some(stay) = stays.iter_mut().rfind(over) {
                    stay.until = note.at;
                }
            }
            _ => {}
        }
    }
    stays
}

/// What was taken while it was live came on that Connection, or it was told there, or that ended soon.
fn losses(truth: &Truth<'_>, one: &Subscription, stay: &Stay, verdict: &mut Verdict) {
    let here = one.notes.iter().filter(|note| note.connection == stay.connection);
    let (mut had, mut gaps) = (HashSet::new(), Vec::new());
    for note in here {
        match note.what {
            What::Got(got) => drop(had.insert((got.topic, got.n))),
            What::Gap(_) => gaps.push(note.at),
            _ => {}
        }
    }
    for sent in one.topics.iter().flat_map(|topic| &truth.by_topic[*topic]) {
        let owed = sent.outcome == Outcome::Ok && sent.began > stay.from;
        let due = sent.ended + TOLD_OF_LOSS;
        if !owed || stay.until < due || had.contains(&(sent.topic, sent.n)) {
            continue;
        }
        if !gaps.iter().any(|gap| (sent.began..=due).contains(gap)) {
            let name = truth.name(sent.topic, sent.n);
            verdict.breaks("B", || {
                format!("{} lost {name} of {}, and was not told", one.name(), sent.began)
            });
        }
    }
}

/// Who is on a node that loses NATS is told: every client, and every Subscription on best effort.
fn outages(truth: &Truth<'_>, limits: &Limits, verdict: &mut Verdict) {
    for fault in &truth.run.faults {
        for (at, connection) in truth.run.connections.iter().enumerate() {
            let due = fault.from + limits.told;
            let stays = connection.ended.as_ref().is_none_or(|(end, _)| *end > due);
            let here = fault.blinds.contains(&connection.node);
            if !here || connection.opened + 1_000 > fault.from || !stays {
                continue;
            }
            let told = connection.buses.iter().find(|(told, is)| *told >= fault.from && !is);
            match told {
                Some((told, _)) if *told <= due => {
                    let took = told - fault.from;
                    verdict.figures.told_max_ms = verdict.figures.told_max_ms.max(took);
                }
                _ => verdict.breaks("B", || {
                    let (client, node) = (connection.client, connection.node);
                    format!("client {client} on node {node} was not told that NATS is away")
                }),
            }
            let best_effort = truth.run.subscriptions.iter().filter(|one| !one.kept);
            for one in best_effort.filter(|one| one.client == connection.client) {
                let live = stays_over(one, at, fault.from, due);
                let told = one.notes.iter().any(|note| {
                    let gap = matches!(note.what, What::Gap(_)) && note.connection == at;
                    gap && (fault.from..=due).contains(&note.at)
                });
                if live && !told {
                    verdict.breaks("B", || format!("{} was not told of a gap", one.name()));
                }
            }
        }
    }
}

fn stays_over(one: &Subscription, connection: usize, from: Ms, until: Ms) -> bool {
    let over =
        |stay: &Stay| stay.connection == connection && stay.from < from && stay.until > until;
    stays(one).iter().any(over)
}
