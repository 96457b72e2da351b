//! Forged logs, each with one promise broken once: the judge finds that, and nothing else.

use super::{Limits, judge};
use crate::torture::log::{
    Connection, End, Fault, Got, Ms, Note, Outcome, Place, Reason, Run, Sent, Stored, Subscription,
    Topic, What,
};

/// Of every Topic.
const PUBLISHED: u32 = 40;
/// From one to the next.
const EVERY: Ms = 1_000;
/// Two kept Topics and one that is not.
const KEPT_A: usize = 0;
const KEPT_B: usize = 1;
const LIVE: usize = 2;
/// The Subscriptions of the one client, which is in group a.
const EXACT: usize = 0;
const BEST_EFFORT: usize = 1;

fn topic(name: &str, kept: bool, group: char) -> Topic {
    Topic { name: name.to_owned(), kept, group }
}

fn place(epoch: u32, offset: u64) -> Place {
    Place { epoch, offset }
}

/// Where the n-th of a kept Topic is stored.
fn stored_at(topic: usize, n: u32) -> Option<Place> {
    (topic != LIVE).then(|| place(1, u64::from(n) * 2 + topic as u64 + 10))
}

fn got(topic: usize, n: u32) -> Got {
    let frame = n * 3 + u32::try_from(topic).unwrap();
    Got { topic, n, place: stored_at(topic, n), replayed: false, frame, fresh: true }
}

fn connection(opened: Ms) -> Connection {
    Connection {
        client: 0,
        node: 0,
        opened,
        ended: None,
        buses: Vec::new(),
        told_to_go: None,
        errors: Vec::new(),
        wrongs: Vec::new(),
    }
}

/// A run in which every promise is kept: one client, live from the first to the last.
fn good() -> Run {
    let topics = vec![
        topic("dash.a.1", true, 'a'),
        topic("dash.b.1", true, 'b'),
        topic("live.a.1", false, 'a'),
    ];
    let mut sent = Vec::new();
    let mut stored = Vec::new();
    for n in 0..PUBLISHED {
        for topic in [KEPT_A, KEPT_B, LIVE] {
            let began = 100 + EVERY * Ms::from(n);
            sent.push(Sent {
                topic,
                n,
                began,
                ended: began + 5,
                outcome: Outcome::Ok,
                place: stored_at(topic, n),
                answer: 5,
                wrong: None,
            });
            if let Some(place) = stored_at(topic, n) {
                stored.push(Stored { topic, n, place });
            }
        }
    }
    let notes = |topic: usize, kept: bool| {
        let note = |at: Ms, what: What| Note { at, connection: 0, what };
        let place = kept.then(|| place(1, 9));
        let mut notes = vec![
            note(10, What::Asked(None)),
            note(20, What::Begun { place, reason: None }),
            note(20, What::Live),
        ];
        notes.extend(
            (0..PUBLISHED).map(|n| note(108 + EVERY * Ms::from(n), What::Got(got(topic, n)))),
        );
        notes
    };
    let subscription = |topic: usize, pattern: &str, kept: bool| Subscription {
        client: 0,
        pattern: pattern.to_owned(),
        kept,
        topics: vec![topic],
        notes: notes(topic, kept),
    };
    Run {
        topics,
        groups: vec!["a".to_owned()],
        sent,
        subscriptions: vec![
            subscription(KEPT_A, "dash.a.1", true),
            subscription(LIVE, "live.a.1", false),
        ],
        connections: vec![connection(5)],
        faults: Vec::new(),
        stored,
        seen: Vec::new(),
        published: (0, EVERY * Ms::from(PUBLISHED)),
    }
}

/// Breaks a good run; exactly this invariant is found broken.
fn breaks(invariant: &str, forge: impl FnOnce(&mut Run)) {
    let mut run = good();
    forge(&mut run);
    let verdict = judge(&run, &Limits::PROMISED);
    let broken: Vec<_> = verdict.broken.keys().copied().collect();
    assert_eq!(broken, [invariant], "{:?}", verdict.words);
}

/// Forges a run in which nothing is broken.
fn passes(forge: impl FnOnce(&mut Run)) {
    let mut run = good();
    forge(&mut run);
    let verdict = judge(&run, &Limits::PROMISED);
    assert!(verdict.is_clean(), "{:?}", verdict.words);
}

impl Run {
    /// The index of the note of the n-th Publication of a Subscription.
    fn note_of(&self, subscription: usize, n: u32) -> usize {
        let is = |note: &Note| matches!(note.what, What::Got(got) if got.n == n);
        self.subscriptions[subscription].notes.iter().position(is).unwrap()
    }

    /// As if it had never come; gives where that would be.
    fn forget(&mut self, subscription: usize, n: u32) -> usize {
        let at = self.note_of(subscription, n);
        self.subscriptions[subscription].notes.remove(at);
        at
    }

    fn insert(&mut self, subscription: usize, at: usize, what: What) {
        let notes = &mut self.subscriptions[subscription].notes;
        let near = notes[at.min(notes.len() - 1)];
        notes.insert(at, Note { what, ..near });
    }

    fn sent(&mut self, topic: usize, n: u32) -> &mut Sent {
        let is = |sent: &&mut Sent| sent.topic == topic && sent.n == n;
        self.sent.iter_mut().find(is).unwrap()
    }

    /// Its client loses the Connection before the n-th, and comes back behind it: on another one,
    /// replayed what it missed.
    fn come_back(&mut self, n: u32, reason: Option<Reason>) {
        let at = 108 + EVERY * Ms::from(n);
        self.connections[0].ended = Some((at - 600, End::Own));
        self.connections.push(connection(at + 600));
        for subscription in 0..self.subscriptions.len() {
            let kept = self.subscriptions[subscription].kept;
            let from = self.note_of(subscription, n);
            let notes = &mut self.subscriptions[subscription].notes;
            for note in &mut notes[from..] {
                note.connection = 1;
                note.at += 610;
            }
            let note = |at: Ms, connection: usize, what: What| Note { at, connection, what };
            let topic = if kept { KEPT_A } else { LIVE };
            let begun = What::Begun { place: stored_at(topic, n), reason };
            if kept {
                if let What::Got(got) = &mut notes[from].what {
                    got.replayed = true;
                }
                notes.insert(from + 1, note(at + 611, 1, What::Live));
                notes.insert(from, note(at + 610, 1, begun));
                let asked = What::Asked(stored_at(topic, n - 1));
                notes.insert(from, note(at + 600, 1, asked));
            } else {
                notes[from] = note(at + 610, 1, What::Live);
                notes.insert(from, note(at + 610, 1, begun));
                notes.insert(from, note(at + 600, 1, What::Asked(None)));
            }
            notes.insert(from, note(at - 600, 0, What::Over));
        }
    }
}

/// What is as promised is found so: a good run, one with a return, one with a loss that was told, on
/// kept Topics and on best effort, and one with refusals that stayed refusals.
#[test]
fn what_is_good_passes() {
    passes(|_| {});
    passes(|run| run.come_back(20, None));
    passes(|run| {
        let at = run.forget(EXACT, 20);
        run.insert(EXACT, at, What::Gap(Reason::HistoryTrimmed));
    });
    passes(|run| {
        let at = run.forget(BEST_EFFORT, 20);
        run.insert(BEST_EFFORT, at + 3, What::Gap(Reason::BusInterrupted));
    });
    passes(|run| {
        run.come_back(20, Some(Reason::HistoryTrimmed));
        run.forget(EXACT, 20);
    });
    passes(|run| {
        for subscription in [EXACT, BEST_EFFORT] {
            run.forget(subscription, 20);
        }
        run.stored.retain(|one| one.n != 20);
        for topic in [KEPT_A, KEPT_B, LIVE] {
            run.sent(topic, 20).outcome = Outcome::Fail;
            run.sent(topic, 20).place = None;
        }
    });
}

/// I1: one that never came, without a word; with a word that came too late; and one that was taken and
/// is not stored.
#[test]
fn a_hole_without_a_word_is_found() {
    breaks("I1", |run| {
        run.forget(EXACT, 20);
    });
    breaks("I1", |run| {
        let at = run.forget(EXACT, 20);
        run.insert(EXACT, at + 2, What::Gap(Reason::HistoryTrimmed));
    });
    breaks("I1", |run| {
        run.come_back(20, None);
        run.forget(EXACT, 20);
    });
    breaks("I1", |run| {
        run.forget(EXACT, 20);
        // Nobody knows whether it was taken; somebody got it.
        run.sent(KEPT_A, 20).outcome = Outcome::Unknown;
    });
    breaks("I1", |run| run.stored.retain(|one| one.topic != KEPT_B || one.n != 20));
}

/// I2: once more, live; handed on twice; and a replay that begins before its Cursor.
#[test]
fn what_comes_twice_is_found() {
    breaks("I2", |run| {
        let at = run.note_of(BEST_EFFORT, 20);
        let again = Got { frame: 999, fresh: false, ..got(LIVE, 20) };
        run.insert(BEST_EFFORT, at + 1, What::Got(again));
    });
    breaks("I2", |run| {
        run.come_back(20, None);
        let at = run.note_of(BEST_EFFORT, 21);
        run.insert(BEST_EFFORT, at, What::Got(Got { frame: 999, ..got(LIVE, 19) }));
    });
    breaks("I2", |run| {
        run.come_back(20, None);
        // Replayed from further back than was asked for.
        let asked = What::Asked(stored_at(KEPT_A, 20));
        let is = |note: &Note| note.connection == 1 && matches!(note.what, What::Asked(_));
        let at = run.subscriptions[EXACT].notes.iter().position(is).unwrap();
        run.subscriptions[EXACT].notes[at].what = asked;
    });
}

/// I3: Offsets that fall, counters that fall, and a publisher whose second is stored before its first.
#[test]
fn what_is_out_of_order_is_found() {
    breaks("I3", |run| {
        let at = run.note_of(EXACT, 20);
        let notes = &mut run.subscriptions[EXACT].notes;
        let (one, other) = (notes[at].what, notes[at + 1].what);
        (notes[at].what, notes[at + 1].what) = (other, one);
    });
    breaks("I3", |run| {
        let at = run.note_of(BEST_EFFORT, 20);
        let notes = &mut run.subscriptions[BEST_EFFORT].notes;
        let (one, other) = (notes[at].what, notes[at + 1].what);
        (notes[at].what, notes[at + 1].what) = (other, one);
    });
    breaks("I3", |run| {
        let (one, other) = (stored_at(KEPT_B, 20), stored_at(KEPT_B, 21));
        run.sent(KEPT_B, 20).place = other;
        run.sent(KEPT_B, 21).place = one;
    });
}

/// I4: what was refused comes, is stored, or comes though nobody published it; and an unknown one is
/// stored twice.
#[test]
fn what_was_refused_is_found() {
    breaks("I4", |run| run.sent(LIVE, 20).outcome = Outcome::Fail);
    breaks("I4", |run| run.sent(KEPT_B, 20).outcome = Outcome::Fail);
    breaks("I4", |run| run.sent.retain(|sent| sent.topic != LIVE || sent.n != 39));
    breaks("I4", |run| {
        run.sent(KEPT_B, 20).outcome = Outcome::Unknown;
        run.stored.push(Stored { topic: KEPT_B, n: 20, place: place(1, 500) });
    });
    breaks("I4", |run| {
        run.sent(KEPT_A, 39).outcome = Outcome::Unknown;
        let at = run.note_of(EXACT, 39);
        let again = Got { place: Some(place(1, 500)), frame: 999, ..got(KEPT_A, 39) };
        run.insert(EXACT, at + 1, What::Got(again));
    });
}

/// I5: something of another group comes; and what is forbidden is given.
#[test]
fn what_is_not_for_it_is_found() {
    breaks("I5", |run| run.groups = vec!["b".to_owned()]);
    breaks("I5", |run| {
        run.connections[0].wrongs.push("what is forbidden was given".to_owned());
    });
}

/// I6: many are told of a hole where there is none.
#[test]
fn false_alarms_are_found() {
    breaks("I6", |run| {
        run.come_back(20, Some(Reason::BusInterrupted));
        let again = run.subscriptions[EXACT].clone();
        run.subscriptions.push(again);
    });
}

/// I9: a socket that ends without a word, though nothing was done to it; a close; a refusal that is no
/// passing one; an answer to a publish that there should not be.
#[test]
fn bad_conduct_is_found() {
    let end = |run: &mut Run, end: End| {
        run.come_back(20, None);
        let at = run.connections[0].ended.take().unwrap().0;
        run.connections[0].ended = Some((at, end));
    };
    breaks("I9", |run| end(run, End::Cut));
    breaks("I9", |run| end(run, End::Closed { status: 4408, code: "no_pong".to_owned() }));
    breaks("I9", |run| run.connections[0].errors.push((500, "internal".to_owned())));
    breaks("I9", |run| run.sent(LIVE, 20).wrong = Some("500".to_owned()));
    passes(|run| {
        end(run, End::Cut);
        let at = 108 + EVERY * 20 - 600;
        run.faults.push(Fault { from: at, until: at + 1, cuts: vec![0], ..Fault::default() });
    });
}

/// I10: after the heal nothing comes, or late.
#[test]
fn what_does_not_heal_is_found() {
    breaks("I10", |run| {
        run.faults.push(Fault { from: 1_000, until: 39_500, ..Fault::default() });
    });
    breaks("I10", |run| {
        run.faults.push(Fault { from: 1_000, until: 2_000, ..Fault::default() });
        let at = run.note_of(EXACT, 1);
        for note in &mut run.subscriptions[EXACT].notes[at..] {
            note.at = note.at.max(33_000);
        }
    });
}

/// Best effort: a loss without a word; an outage that is not told; a node that leaves without telling.
#[test]
fn silence_is_found() {
    breaks("B", |run| {
        run.forget(BEST_EFFORT, 10);
    });
    let outage = |run: &mut Run| {
        let blinds = vec![0];
        run.faults.push(Fault { from: 5_000, until: 9_000, blinds, ..Fault::default() });
    };
    breaks("B", outage);
    breaks("B", |run| {
        outage(run);
        run.connections[0].buses.push((6_000, false));
    });
    passes(|run| {
        outage(run);
        run.connections[0].buses.push((6_000, false));
        run.insert(BEST_EFFORT, 9, What::Gap(Reason::BusInterrupted));
    });
    breaks("F14", |run| {
        run.faults.push(Fault { from: 5_000, until: 9_000, drains: vec![0], ..Fault::default() });
    });
}

/// Publishing: nobody can for too long; an answer that is late; clients of a killed node that stay away;
/// an error where nobody may notice anything.
#[test]
fn what_takes_too_long_is_found() {
    breaks("P", |run| {
        for sent in &mut run.sent {
            let is = sent.topic != LIVE && (10..25).contains(&sent.n);
            sent.outcome = if is { Outcome::Unknown } else { sent.outcome };
        }
    });
    breaks("P", |run| run.sent(LIVE, 20).answer = 7_000);
    breaks("P", |run| {
        run.come_back(20, None);
        let at = 108 + EVERY * 20 - 600;
        run.connections[0].ended = Some((at, End::Cut));
        run.faults.push(Fault { from: at - 10, until: at, cuts: vec![0], ..Fault::default() });
        for subscription in &mut run.subscriptions {
            for note in subscription.notes.iter_mut().filter(|note| note.connection == 1) {
                note.at += 5_000;
            }
        }
    });
    breaks("P", |run| {
        run.faults.push(Fault { from: 5_000, until: 9_000, unseen: true, ..Fault::default() });
        run.sent(KEPT_B, 6).outcome = Outcome::Unknown;
    });
}

/// What was seen from outside counts as it is.
#[test]
fn what_was_seen_counts() {
    breaks("I7", |run| run.seen.push(("I7", "too much".to_owned())));
    breaks("I8", |run| run.seen.push(("I8", "something stays".to_owned())));
}
