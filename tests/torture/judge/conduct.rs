//! I5 and I9: nobody gets what is not theirs, and nothing ends or is refused but as documented.

use super::{Truth, Verdict};
use crate::torture::log::{End, Ms, What};

/// Words that a client in good standing may be refused with, for a while.
const PASSING: [&str; 2] = ["bus_unavailable", "overloaded"];
/// What who asks for more than they may is told.
const SPIES_ARE_TOLD: &str = "forbidden";
/// A socket that a fault has cut is found dead within this after it is healed.
const FOUND_DEAD: Ms = 40_000;

pub(super) fn judge(truth: &Truth<'_>, verdict: &mut Verdict) {
    for one in &truth.run.subscriptions {
        let groups = &truth.run.groups[one.client];
        for note in &one.notes {
            if let What::Got(got) = note.what
                && !groups.contains(truth.run.topics[got.topic].group)
            {
                let name = truth.name(got.topic, got.n);
                verdict.breaks("I5", || format!("{} got {name}", one.name()));
            }
        }
    }
    for connection in &truth.run.connections {
        let (client, node) = (connection.client, connection.node);
        for wrong in &connection.wrongs {
            let spied = wrong.contains(SPIES_ARE_TOLD);
            verdict.breaks(if spied { "I5" } else { "I9" }, || format!("client {client}: {wrong}"));
        }
        for (at, code) in &connection.errors {
            if code == SPIES_ARE_TOLD {
                continue;
            }
            verdict.figures.errors += 1;
            let unseen =
                truth.faults(|fault| fault.unseen && (fault.from..fault.until).contains(at));
            if !PASSING.contains(&code.as_str()) || unseen.count() > 0 {
                verdict.breaks("I9", || format!("client {client} was refused with {code} at {at}"));
            }
        }
        match &connection.ended {
            Some((at, End::Cut)) => {
                let cut = truth.faults(|fault| {
                    let while_it_lasts = fault.from..fault.until + FOUND_DEAD;
                    fault.cuts.contains(&node) && while_it_lasts.contains(at)
                });
                if cut.count() == 0 {
                    verdict.breaks("I9", || {
                        format!("client {client}'s connection to node {node} ended at {at} without a word")
                    });
                }
            }
            Some((at, End::Closed { status, code })) => {
                verdict.breaks("I9", || {
                    format!(
                        "client {client} was closed with {status} {code} by node {node} at {at}"
                    )
                });
            }
            Some((_, End::Own)) | None => {}
        }
    }
    for sent in &truth.run.sent {
        if let Some(wrong) = &sent.wrong {
            let name = truth.name(sent.topic, sent.n);
            verdict.breaks("I9", || format!("{name} was answered by {wrong}"));
        }
    }
}
