//! The table beside what its clients see: it remembers nothing and searches everything.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::namespace;

const PATTERNS: [&str; 11] =
    ["a", "a.b", "a.c", "a.*", "a.>", "a.*.d", "a.b.>", "b.>", "k.>", "k.a", "k.*"];
const TOPICS: [&str; 9] = ["a", "a.b", "a.c", "a.b.d", "a.c.d", "b.a", "c", "k.a", "k.b"];

/// A table, its Connections, and what is remembered of them only to compare.
struct Scene {
    table: Table,
    /// Of each Connection its Subscriptions, and whether each is live.
    clients: Vec<Vec<(Pattern, bool)>>,
    /// By which Feed a Topic of best effort came to whom.
    by: BTreeMap<(usize, &'static str), Pattern>,
    /// Those that the Shard has begun, and has not let go of.
    open: BTreeSet<Pattern>,
}

fn pattern(text: &str) -> Pattern {
    text.parse().unwrap()
}

fn topic(text: &str) -> Topic {
    Topic::parse(text).unwrap()
}

fn key(connection: usize) -> Key {
    Key { index: u32::try_from(connection).unwrap(), serial: 7 }
}

fn live(own: &[(Pattern, bool)]) -> Vec<Pattern> {
    let live = own.iter().filter(|(_, live)| *live);
    live.map(|(pattern, _)| pattern.clone()).collect()
}

/// A table that keeps the Namespace `k`.
fn table() -> Table {
    let history = Some(namespace::History::default());
    let kept = [("k".to_owned(), namespace::Config { history, ..Default::default() })];
    Table::new(Arc::new(Namespaces::new(kept.into(), false)))
}

impl Scene {
    fn new(connections: usize) -> Self {
        let (by, open) = (BTreeMap::new(), BTreeSet::new());
        Self { table: table(), clients: vec![Vec::new(); connections], by, open }
    }

    /// The next thing that one does: an ask, its answer, or an end.
    fn turn(&mut self, connection: usize, text: &str, answered: bool) {
        let (wanted, key, own) = (pattern(text), key(connection), &mut self.clients[connection]);
        let Some(at) = own.iter().position(|(one, _)| *one == wanted) else {
            assert_eq!(self.table.begin(&wanted), wanted);
            self.open.insert(wanted.clone());
            return own.push((wanted, false));
        };
        if answered && !own[at].1 {
            own[at].1 = true;
            return self.table.join(&wanted, key, &live(own));
        }
        if wanted.namespace() == "k" && answered {
            own[at].1 = false;
            return self.table.pause(&wanted, key);
        }
        let (_, was_live) = own.remove(at);
        let all = live(own);
        self.leave(connection, &wanted, was_live, &all);
    }

    fn leave(&mut self, connection: usize, gone: &Pattern, was_live: bool, all: &[Pattern]) {
        let left = self.table.leave(gone, key(connection), was_live, all);
        assert!(!left.torn);
        for unwanted in left.unwanted {
            assert!(self.open.remove(&unwanted), "{unwanted}");
        }
    }

    /// Compares every answer that the table can give. It remembers them all, so the next comparison
    /// finds what it should have forgotten.
    fn agree(&mut self) {
        let asked = self.clients.iter().flatten();
        assert_eq!(self.table.subscriptions(), asked.clone().count());
        assert_eq!(self.table.patterns(), self.open.len());
        for (one, _) in asked {
            assert!(self.open.contains(one), "{one}");
        }
        for text in TOPICS {
            for connection in 0..self.clients.len() {
                self.agree_on(connection, text);
            }
        }
    }

    fn agree_on(&mut self, connection: usize, text: &'static str) {
        let (on, key) = (topic(text), key(connection));
        let wants = live(&self.clients[connection]).iter().any(|one| one.matches(&on));
        if on.namespace() == "k" {
            let got = self.table.receivers_kept(&on);
            assert_eq!(got.iter().filter(|one| **one == key).count(), usize::from(wants), "{on}");
            return;
        }
        // A Feed brings nothing else.
        let mut by = self.open.iter().filter(|feed| feed.matches(&on)).filter(|feed| {
            let got = self.table.receivers(feed, &on);
            got.iter().filter(|one| **one == key).count() == 1
        });
        let found = by.next().cloned();
        assert_eq!(by.next(), None, "{on} comes once");
        assert_eq!(found.is_some(), wants, "{on} comes to who wants it");
        let before = self.by.remove(&(connection, text));
        if let Some(now) = found {
            assert_eq!(before.as_ref().unwrap_or(&now), &now, "{on} comes by the same Feed");
            let subscribers = self.table.subscribers(&now);
            assert!(subscribers.contains(&key), "who gets something by it hears of its losses");
            self.by.insert((connection, text), now);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// After whatever asks, answers and ends: to a Connection with a live Subscription that matches a
    /// Topic comes by exactly one Feed, and as long as that is so, by the same one; to nobody else.
    /// Asked after each step, so that nothing remembered outlives its truth.
    #[test]
    fn each_topic_comes_by_one_feed_and_the_same(
        steps in prop::collection::vec(
            (0..3_usize, prop::sample::select(PATTERNS.to_vec()), prop::bool::weighted(0.7)),
            1..60,
        ),
    ) {
        let mut scene = Scene::new(3);
        for (connection, text, answered) in steps {
            scene.turn(connection, text, answered);
            scene.agree();
        }
        for connection in 0..scene.clients.len() {
            // As a Session ends: all are gone from it before the table hears of the first.
            for (pattern, live) in std::mem::take(&mut scene.clients[connection]) {
                scene.leave(connection, &pattern, live, &[]);
            }
            scene.agree();
        }
        prop_assert!(scene.table.overlapping.is_empty());
        prop_assert!(scene.open.is_empty());
    }
}

/// A Pattern whose Subscription has ended stays for a later one that overlaps, and goes with it.
#[test]
fn what_has_ended_stays_for_who_joined_later() {
    let (mut table, narrow, wide) = (table(), pattern("a.b"), pattern("a.*"));
    for (at, one) in [&narrow, &wide].into_iter().enumerate() {
        table.begin(one);
        table.join(one, key(1), &[narrow.clone(), wide.clone()][..=at]);
    }
    let left = table.leave(&narrow, key(1), true, std::slice::from_ref(&wide));
    assert_eq!(left, Left::default());
    assert_eq!(*table.receivers(&narrow, &topic("a.b")), [key(1)]);
    assert_eq!(*table.receivers(&wide, &topic("a.b")), []);
    let left = table.leave(&wide, key(1), true, &[]);
    assert_eq!((left.unwanted.len(), left.torn), (2, false));
    assert_eq!(table.patterns(), 0);
}

/// So many stay and no more. Of the next one it is told, and what overlaps comes by the later Feed.
#[test]
fn those_that_stay_are_bounded() {
    let (mut table, wide) = (table(), pattern("a.>"));
    let narrow: Vec<Pattern> = (0..=STAYING_MAX).map(|n| pattern(&format!("a.{n}"))).collect();
    let mut all = Vec::new();
    for one in narrow.iter().chain([&wide]) {
        table.begin(one);
        all.push(one.clone());
        table.join(one, key(1), &all);
    }
    for (n, one) in narrow.iter().enumerate() {
        all.remove(0);
        let left = table.leave(one, key(1), true, &all);
        assert_eq!(left.torn, n == STAYING_MAX, "{n}");
        let on = topic(one.as_str());
        let (by, not) = if left.torn { (&wide, one) } else { (one, &wide) };
        assert_eq!(*table.receivers(by, &on), [key(1)], "{n}");
        assert_eq!(*table.receivers(not, &on), [], "{n}");
    }
    assert_eq!(table.leave(&wide, key(1), true, &[]).unwanted.len(), 1 + STAYING_MAX);
    assert_eq!(table.patterns(), 0);
}

/// What is remembered of one Feed is bounded, however many Topics there are, and stays right.
#[test]
fn what_is_remembered_is_bounded() {
    let mut table = Table::default();
    let all = pattern("a.>");
    table.begin(&all);
    table.join(&all, key(1), std::slice::from_ref(&all));
    for n in 0..3 * TOPICS_REMEMBERED {
        let topic = Topic::parse(&format!("a.{n}")).unwrap();
        assert_eq!(*table.receivers(&all, &topic), [key(1)]);
        assert!(table.patterns[&all].receivers.len() <= TOPICS_REMEMBERED);
    }
}
