//! What nodes do together, on one Bus in memory, with Shards that only say something.

use std::collections::BTreeMap;
use std::sync::Mutex;

use opentelemetry::global;
use tokio::task::JoinSet;

use super::*;
use crate::auth::{Grants, REVOKED_FOR};
use crate::bus::memory::Memory;
use crate::namespace::{self, History, Namespaces, REVOKED};

/// What the Shards of one node answer.
#[derive(Clone, Copy)]
enum Shards {
    /// So many ended each, and these Topics.
    Say(usize, &'static [&'static str]),
    /// They have no room.
    Full,
    /// They never get to it.
    Stuck,
}

struct Node {
    control: Arc<Control<Memory>>,
    auth: Arc<Auth>,
    _tasks: JoinSet<()>,
}

fn now() -> Timestamp {
    Timestamp(1_790_000_000_000)
}

fn bus(keeps: bool) -> Memory {
    let history = keeps.then(History::default);
    let rules = namespace::Config { history, ..namespace::Config::default() };
    let named = BTreeMap::from([("kept".to_owned(), rules)]);
    Memory::new(Namespaces::new(named, false).revoking(REVOKED_FOR).stored(), now)
}

fn node(name: &str, bus: &Memory, keeps: bool, shards: Shards) -> Node {
    let auth = Arc::new(Auth::with_secret(&[7; 32], Grants::default()).unwrap());
    let stuck = Mutex::new(Vec::new());
    let give = move |errand: &Errand| {
        match (shards, errand) {
            (Shards::Full, _) => return false,
            (Shards::Stuck, errand) => stuck.lock().unwrap().push(errand.clone()),
            (Shards::Say(ended, _), Errand::End(_, answer)) => {
                (0..2).for_each(|_| answer.try_send(ended).unwrap());
            }
            (Shards::Say(_, topics), Errand::List(listing, answer)) => {
                let topics = topics.iter().filter(|topic| listing.wants(topic));
                let topics = listing.first(topics.map(|one| Topic::parse(one).unwrap()));
                (0..2).for_each(|_| answer.try_send(topics.iter().cloned().collect()).unwrap());
            }
        }
        true
    };
    let config = Config {
        node: name.into(),
        shards: 2,
        revocations: 3,
        calls_in_flight: 1,
        keeps,
        now,
        connections: Box::new(|| 5),
        give: Box::new(give),
    };
    let control = Control::new(config, bus.clone(), Arc::clone(&auth), &global::meter("nobody"));
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(&control).run());
    Node { control, auth, _tasks: tasks }
}

/// Waits until each hears so many.
async fn heard(nodes: &[&Node], count: usize) {
    for node in nodes {
        while node.control.nodes().beats().len() < count {
            sleep(Duration::from_millis(10)).await;
        }
    }
}

fn listing(prefix: &str, after: &str, limit: usize) -> Listing {
    Listing { prefix: Topic::parse(prefix).ok(), after: Topic::parse(after).ok(), limit }
}

/// What each node has done is summed; who has not, or cannot say, is counted, and not waited for.
#[tokio::test(start_paused = true)]
async fn all_nodes_do_their_part_and_who_does_not_is_counted() {
    let bus = bus(true);
    let one = node("one", &bus, true, Shards::Say(2, &["a.b", "a.d", "b"]));
    let other = node("other", &bus, true, Shards::Say(5, &["a.b", "a", "ab", "a.c"]));
    heard(&[&one, &other], 2).await;
    let ana = Target::User("ana".into());
    let done = one.control.disconnect(&ana).await.unwrap();
    assert_eq!(done, Disconnected { closed: 14, silent_nodes: 0 });
    for node in [&one, &other] {
        assert!(node.auth.knows_revoked(Mark::of_user("ana")));
    }
    let topics = one.control.topics(&listing("a", "", 3)).await.unwrap();
    let texts: Vec<&str> = topics.topics.iter().map(Topic::as_str).collect();
    assert_eq!((texts, topics.more, topics.silent_nodes), (vec!["a", "a.b", "a.c"], true, 0));
    let topics = other.control.topics(&listing("a", "a.c", 3)).await.unwrap();
    assert_eq!((topics.topics, topics.more), (vec![Topic::parse("a.d").unwrap()], false));

    let full = node("full", &bus, true, Shards::Full);
    let stuck = node("stuck", &bus, true, Shards::Stuck);
    heard(&[&one, &full, &stuck], 4).await;
    let began = Instant::now();
    let done = one.control.disconnect(&Target::Connection("x".into())).await.unwrap();
    assert_eq!(done, Disconnected { closed: 14, silent_nodes: 2 });
    assert!(began.elapsed() < Duration::from_millis(300));
    drop((full, stuck));
    sleep(Duration::from_secs(4)).await;
    assert_eq!(one.control.nodes().count(), 2);
    let beats = one.control.nodes().beats();
    assert_eq!(beats.iter().map(|beat| beat.connections).collect::<Vec<_>>(), [5, 5]);
}

/// A Shard that never answers holds up nobody else: its node takes in all who are revoked after that,
/// and knows that it knows them.
#[tokio::test(start_paused = true)]
async fn a_stuck_shard_holds_up_no_revocation() {
    for keeps in [true, false] {
        let bus = bus(keeps);
        let one = node("one", &bus, keeps, Shards::Say(0, &[]));
        let stuck = node("stuck", &bus, keeps, Shards::Stuck);
        heard(&[&one, &stuck], 2).await;
        let users = ["ana", "ben", "cleo"];
        for user in users {
            let done = one.control.disconnect(&Target::User(user.into())).await.unwrap();
            assert_eq!(done.silent_nodes, 1);
        }
        sleep(Duration::from_secs(20)).await;
        assert!(users.iter().all(|user| stuck.auth.knows_revoked(Mark::of_user(user))));
        let since = Instant::now();
        assert!(stuck.control.is_whole_soon().await && since.elapsed() < Duration::from_secs(1));
    }
}

/// A node that starts later reads what was revoked before it says that it knows; where nothing is kept
/// it knows at once, and nothing.
#[tokio::test(start_paused = true)]
async fn who_comes_later_reads_what_is_kept() {
    for keeps in [true, false] {
        let bus = bus(keeps);
        let one = node("one", &bus, keeps, Shards::Say(0, &[]));
        for target in [Target::User("ana".into()), Target::Token("t-1".into())] {
            one.control.disconnect(&target).await.unwrap();
        }
        one.control.disconnect(&Target::Connection("x".into())).await.unwrap();
        let late = node("late", &bus, keeps, Shards::Say(0, &[]));
        assert_eq!(late.control.is_read(), !keeps);
        assert!(late.control.is_whole_soon().await && late.control.is_read());
        assert_eq!(late.auth.revocations(), if keeps { 2 } else { 0 });
        assert_eq!(late.auth.knows_revoked(Mark::of_token("t-1")), keeps);
    }
}

/// What is revoked has its bound; what is revoked already is not over it.
#[tokio::test(start_paused = true)]
async fn more_than_the_bound_is_not_revoked() {
    let bus = bus(true);
    let one = node("one", &bus, true, Shards::Say(0, &[]));
    heard(&[&one], 1).await;
    for _ in 0..2 {
        for id in ["1", "2", "3"] {
            one.control.disconnect(&Target::Token(id.into())).await.unwrap();
        }
    }
    let over = one.control.disconnect(&Target::User("ana".into())).await;
    assert_eq!(over, Err(Refused::Overloaded(Limit::Revocations)));
    assert_eq!(bus.head(REVOKED).await.unwrap().last, 3);
    // One call at a time.
    let (ana, bob) = (Target::Connection("a".into()), Target::Connection("b".into()));
    let (first, second) = tokio::join!(one.control.disconnect(&ana), one.control.disconnect(&bob));
    assert!(first.is_ok());
    assert_eq!(second, Err(Refused::Overloaded(Limit::CallsInFlight)));
}

#[test]
fn a_listing_wants_the_prefix_and_what_is_below() {
    let wanted = listing("a.b", "a.b.c", 10);
    for (topic, wants) in [
        ("a.b", false),
        ("a.b.c", false),
        ("a.b.d", true),
        ("a.bc", false),
        ("a", false),
        ("b", false),
    ] {
        assert_eq!(wanted.wants(topic), wants, "{topic}");
    }
    assert!(listing("a.b", "", 1).wants("a.b") && listing("", "", 1).wants("z"));
    assert_eq!(Vec::from_iter(listing("", "", 2).first(["c", "a", "b", "a"])), ["a", "b"]);
}

#[test]
fn a_beat_of_nonsense_is_not_heard() {
    let nodes = Nodes::new(&"own".into(), 1);
    let long = "x".repeat(200);
    for beat in [
        "",
        "{}",
        r#"{"node":7}"#,
        &format!(r#"{{"node":"{long}","incarnation":1,"version":"1","connections":0}}"#),
    ] {
        nodes.heard(beat.as_bytes());
        assert_eq!(nodes.count(), 1, "{beat}");
    }
    for n in 0..NODES_MAX + 10 {
        let beat = format!(r#"{{"node":"n{n}","incarnation":1,"version":"1","connections":0}}"#);
        nodes.heard(beat.as_bytes());
    }
    assert_eq!(nodes.count(), NODES_MAX + 1);
}
