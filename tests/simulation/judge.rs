//! What is judged when all is over: that nothing is missing, or that its Subscription was told.

use std::time::Duration;

use crate::bus::World;
use crate::client::{Client, Got, Subscription};
use crate::truth::Entry;

/// What an opening missed is found within this.
const OPENING_SHOWS: Duration = Duration::from_secs(3);
/// A node that has seen something strange has looked within this.
const LOOKS: Duration = Duration::from_secs(3);
/// That a history was rewritten is found within this, also by a client that comes back late.
const REWRITING_SHOWS: Duration = Duration::from_secs(60);

/// I1: every stored Publication reached every Subscription that it was owed to, or that one was told.
pub(crate) fn complete(clients: &[Client], world: &World) -> Result<(), String> {
    for (at, client) in clients.iter().enumerate() {
        for (index, one) in client.subscriptions.iter().enumerate() {
            let here = client.lines.last().is_some_and(|line| line.is_live(index));
            subscription(one, here, world).map_err(|why| format!("client {at}: {why}"))?;
        }
    }
    Ok(())
}

fn subscription(one: &Subscription, here: bool, world: &World) -> Result<(), String> {
    let log = &world.truth.log;
    let Some(from) = one.owed_from else {
        return Ok(());
    };
    let last = crate::client::last_had(&one.log).map_or(0, |(number, _)| number);
    let until = if here { log.len() } else { last.min(log.len()) };
    let ended = one.stays.last().and_then(|(_, _, until)| *until).filter(|_| !here);
    for number in from..until {
        let entry = world.truth.get(number);
        // No node can see that a place was used again if its copy does not come and the next one does,
        // or if nothing is there any more when it looks.
        let left = entry.left_at.is_some_and(|at| at < entry.at + LOOKS);
        let reused_unseen = entry.used_again && (left || one.was_where_it_missed(entry));
        let unseen = entry.lost || entry.left_unseen || reused_unseen;
        // Nobody tells one that has ended what is found a moment later.
        let hidden = entry.life > 0 && ended.is_some_and(|at| at < entry.at + REWRITING_SHOWS);
        let owed = !unseen && !hidden && entry.epoch.is_some() && one.pattern.matches(&entry.topic);
        let told = || covered(&one.log, number) || rewritten(&one.log, entry);
        if owed && !one.has(number) && !told() {
            return Err(format!(
                "I1: {} never got number {number} ({} at {:?}-{:x}), and was not told",
                one.pattern, entry.topic, entry.epoch, entry.offset
            ));
        }
    }
    if one.pattern.namespace() == "b" && here {
        best_effort_is_told(one, world)?;
    }
    for number in &one.values {
        let topic = &world.truth.get(*number).topic;
        let newer = |other: &usize| world.truth.get(*other).topic == *topic && one.has(*other);
        let told = one.log.iter().any(|got| matches!(got, Got::Told { .. }));
        // To one that has ended, the value may have been on its way, as a newer one.
        let is_late = !here && log.iter().skip(last).any(|entry| entry.topic == *topic);
        if !told && !is_late && !(*number..log.len()).any(|other| newer(&other)) {
            return Err(format!("I1: {} wanted the last of {topic}, number {number}", one.pattern));
        }
    }
    Ok(())
}

/// Whether the Subscription was told of a hole behind the last that came before it, and before
/// anything live came behind it.
fn covered(log: &[Got], number: usize) -> bool {
    let behind = |got: &Got, live_only: bool| matches!(got, Got::Had { number: had, live, .. } if *had > number && (*live || !live_only));
    let first = log.iter().position(|got| behind(got, false)).unwrap_or(log.len());
    let before = |got: &Got| matches!(got, Got::Had { number: had, .. } if *had < number);
    let from = log[..first].iter().rposition(before).map_or(0, |at| at + 1);
    let live = log[first..].iter().position(|got| behind(got, true));
    let until = live.map_or(log.len(), |at| first + at);
    // What a replay was told at its beginning holds up to its end.
    let replay = log[..from].iter().rposition(|got| matches!(got, Got::Begun | Got::Joined));
    let earlier = &log[replay.unwrap_or(0)..from];
    log[from..until].iter().any(|got| matches!(got, Got::Told { .. } | Got::Unseen))
        || earlier.iter().any(|got| matches!(got, Got::Told { replaying: true }))
}

/// Whether it was told that a history was rewritten, soon after this was published: the first of a new
/// history may come in the place of an old one before anybody can see it.
fn rewritten(log: &[Got], entry: &Entry) -> bool {
    log.iter().any(|got| {
        matches!(got, Got::Rewritten { at } if *at >= entry.at && *at <= entry.at + REWRITING_SHOWS)
    })
}

/// What was published since it joined for the last time came, or it was told afterwards.
fn best_effort_is_told(one: &Subscription, world: &World) -> Result<(), String> {
    let Some(joined) = one.log.iter().rposition(|got| matches!(got, Got::Joined)) else {
        return Ok(());
    };
    for number in one.joined_at..world.truth.log.len() {
        let entry = world.truth.get(number);
        if one.pattern.matches(&entry.topic) && !one.has(number) {
            // Two Feeds may bring two Topics out of order.
            let alike = |had: usize| world.truth.get(had).topic == entry.topic;
            let before = |got: &Got| matches!(got, Got::Had { number: had, .. } if *had < number && alike(*had));
            let from = one.log.iter().rposition(before).map_or(joined, |at| at.max(joined));
            let told = |got: &Got| matches!(got, Got::Told { .. } | Got::Unseen);
            if !one.log[from..].iter().any(told) {
                return Err(format!("{} lost number {number}, and was not told", one.pattern));
            }
        }
    }
    Ok(())
}

/// What a Feed missed while it was opened reached whoever was live there, soon.
pub(crate) fn prompt(clients: &[Client], world: &World) -> Result<(), String> {
    for missed in &world.truth.missed_at_openings {
        let entry = world.truth.get(missed.number);
        let due = missed.at + OPENING_SHOWS;
        for one in clients.iter().flat_map(|client| &client.subscriptions) {
            let here = one.stays.iter().any(|(node, since, until)| {
                *node == missed.node && *since < missed.at && until.is_none_or(|until| until > due)
            });
            let came = |got: &Got| matches!(got, Got::Had { number, at, .. } if *number == missed.number && *at <= due);
            if here && one.pattern.matches(&entry.topic) && !one.log.iter().any(came) {
                return Err(format!(
                    "{} waited too long for number {}, which its feed missed when it was opened",
                    one.pattern, missed.number
                ));
            }
        }
    }
    Ok(())
}
