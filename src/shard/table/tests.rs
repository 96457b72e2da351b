//! The table beside a naive one, which remembers nothing and searches everything.

use proptest::prelude::*;

use super::*;

const PATTERNS: [&str; 8] = ["a", "a.b", "a.c", "a.*", "a.>", "a.*.d", "a.b.>", "b.>"];
const TOPICS: [&str; 7] = ["a", "a.b", "a.c", "a.b.d", "a.c.d", "b.a", "c"];

/// Of each Connection its Subscriptions in the order of their asks, and whether each is live.
type Naive = Vec<Vec<(Pattern, bool)>>;

fn pattern(text: &str) -> Pattern {
    text.parse().unwrap()
}

fn key(connection: usize) -> Key {
    Key { index: u32::try_from(connection).unwrap(), serial: 7 }
}

/// Gives a table and its naive image the next thing to do: an ask, its answer, or an end.
fn turn(table: &mut Table, naive: &mut Naive, connection: usize, text: &str, answered: bool) {
    let (wanted, key, own) = (pattern(text), key(connection), &mut naive[connection]);
    let Some(at) = own.iter().position(|(one, _)| *one == wanted) else {
        assert_eq!(table.begin(&wanted), wanted);
        own.push((wanted, false));
        return;
    };
    if answered && !own[at].1 {
        own[at].1 = true;
        table.join(&wanted, key, &live(own));
        return;
    }
    let (_, was_live) = own.remove(at);
    let empty = table.leave(&wanted, key, was_live, &live(own));
    let wants = |own: &Vec<(Pattern, bool)>| own.iter().any(|(one, _)| *one == wanted);
    assert_eq!(empty, !naive.iter().any(wants));
}

fn live(own: &[(Pattern, bool)]) -> Vec<Pattern> {
    let live = own.iter().filter(|(_, live)| *live);
    live.map(|(pattern, _)| pattern.clone()).collect()
}

/// Compares every answer that the table can give. It remembers them all, so the next comparison
/// finds what it should have forgotten.
fn agree(table: &mut Table, naive: &Naive) {
    let all: Vec<&(Pattern, bool)> = naive.iter().flatten().collect();
    assert_eq!(table.subscriptions(), all.len());
    for text in PATTERNS {
        let feed = pattern(text);
        let topics = TOPICS.map(|text| Topic::parse(text).unwrap());
        // A Feed brings nothing else.
        for topic in topics.into_iter().filter(|topic| feed.matches(topic)) {
            let mut got = table.receivers(&feed, &topic).to_vec();
            got.sort_unstable_by_key(|key| key.index);
            let counts = |own: &Vec<(Pattern, bool)>| {
                let mut live = own.iter().filter(|(_, live)| *live);
                live.find(|(one, _)| one.matches(&topic)).is_some_and(|(first, _)| *first == feed)
            };
            let connections = (0..naive.len()).filter(|at| counts(&naive[*at]));
            let expected: Vec<Key> = connections.map(key).collect();
            assert_eq!(got, expected, "{feed} on {topic}");
        }
        let mut got = table.subscribers(&feed);
        got.sort_unstable_by_key(|key| key.index);
        let has = |own: &Vec<(Pattern, bool)>| own.contains(&(feed.clone(), true));
        let with = (0..naive.len()).filter(|at| has(&naive[*at]));
        assert_eq!(got, with.map(key).collect::<Vec<_>>());
    }
    let wanted = PATTERNS.map(pattern);
    let wanted = wanted.iter().filter(|one| all.iter().any(|(other, _)| other == *one));
    assert_eq!(table.patterns(), wanted.count());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    /// After whatever asks, answers and ends: a Connection with a live Subscription that matches is
    /// among the receivers of exactly one Feed, that of its first such Subscription, and nobody else
    /// is. Asked after each step, so that nothing remembered outlives its truth.
    #[test]
    fn each_receives_under_the_first_of_its_subscriptions(
        steps in prop::collection::vec(
            (0..4_usize, prop::sample::select(PATTERNS.to_vec()), prop::bool::weighted(0.7)),
            1..40,
        ),
    ) {
        let (mut table, mut naive) = (Table::default(), vec![Vec::new(); 4]);
        for (connection, text, answered) in steps {
            turn(&mut table, &mut naive, connection, text, answered);
            agree(&mut table, &naive);
        }
        for connection in 0..naive.len() {
            // As a Session ends: all are gone from it before the table hears of the first.
            for (pattern, live) in std::mem::take(&mut naive[connection]) {
                table.leave(&pattern, key(connection), live, &[]);
            }
            agree(&mut table, &naive);
        }
        prop_assert!(table.overlapping.is_empty());
    }
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
