//! Tests of the Session: what it is told, and what it then wants, in one line a piece.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;
use crate::auth::Grants;
use crate::namespace::{self, History};
use crate::protocol::frame::Heartbeat;
use crate::protocol::json;
use crate::protocol::replay::Rest;
use crate::publication::Epoch;
use crate::topic::Topic;

/// A Session, and the clocks it is told.
struct Client {
    config: Config,
    session: Session,
    now: Now,
    bus_connected: bool,
}

/// A node's Config; what strangers may subscribe to and publish, if anything.
fn config(anonymous: Option<&[&str]>) -> Config {
    let number = |n| NonZeroU32::new(n).unwrap();
    Config {
        node: "node".into(),
        commands: Rate { per_second: number(50), burst: number(1_000) },
        subscriptions: 3,
        bad_messages: 10,
        auth_timeout: Duration::from_secs(10),
        heartbeat: Duration::from_secs(25),
        limits: TellLimits {
            message_bytes: 65_536,
            subscriptions: 3,
            commands_per_second: 50,
            outbox_bytes: 262_144,
            snapshot_topics: 1_024,
        },
        namespaces: Arc::new(Namespaces::new(BTreeMap::new(), false)),
        anonymous: anonymous.map(|grants| claims(None, grants, None)),
    }
}

fn claims(sub: Option<&str>, grants: &[&str], expires_at: Option<u64>) -> Arc<Claims> {
    let grants: Vec<Pattern> = grants.iter().map(|text| text.parse().unwrap()).collect();
    Arc::new(Claims {
        who: sub.map_or(Who::Anonymous, |sub| Who::User(sub.into())),
        grants: Grants { subscribe: grants.clone(), publish: grants, history: Vec::new() },
        disconnect: false,
        expires_at: expires_at.map(Timestamp),
        issued_at: None,
        token_id: None,
    })
}

fn wanted(topic: &str) -> Wanted {
    Wanted { topic: topic.into(), from: Ok(From::Live), max_hz: false }
}

fn token() -> Option<Token> {
    Some(Token::new("secret".to_owned()))
}

/// Nothing was missed.
fn attached(number: u32) -> Input {
    Input::Attached(number, Box::new(Replay::live([].into(), Ok(()))))
}

fn published(id: &str) -> Input {
    Input::Published(Ok(Published {
        topic: Topic::parse("a.x").unwrap(),
        id: id.into(),
        cursor: None,
        stored: false,
        duplicate: false,
    }))
}

impl Client {
    fn new(config: Config) -> Self {
        let now = Now { moment: Moment(1_000), wall: Timestamp(500_000) };
        let session = Session::new(&config, now);
        Self { config, session, now, bus_connected: true }
    }

    /// One that is connected under these Grants, without limit of time.
    fn connected(grants: &[&str]) -> Self {
        let mut client = Self::new(config(None));
        client.opens(token(), &[]);
        client.verdict(Ok(claims(Some("ana"), grants, None)));
        client
    }

    fn wants(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        let context = Context {
            config: &self.config,
            connection: &|| "connection".into(),
            now: self.now,
            bus_connected: self.bus_connected,
        };
        self.session.handle(&context, input, &mut out);
        out
    }

    fn hears(&mut self, input: Input) -> Vec<String> {
        let begins = |output: &&Output| matches!(output, Output::Begin(..));
        self.wants(input).iter().filter(|output| !begins(output)).map(line).collect()
    }

    fn opens(&mut self, token: Option<Token>, topics: &[&str]) -> Vec<String> {
        self.hears(Input::Open(Handshake {
            token,
            topics: topics.iter().map(|topic| wanted(topic)).collect(),
            heartbeat: Heartbeat::Frame,
            refused: None,
        }))
    }

    fn says(&mut self, text: &str) -> Vec<String> {
        self.hears(Input::Command(json::decode(text)))
    }

    fn subscribes(&mut self, id: u64, topic: &str) -> Vec<String> {
        let text = format!(r#"{{"type":"subscribe","id":{id},"topic":"{topic}"}}"#);
        self.says(&text)
    }

    fn publishes(&mut self, id: u64) -> Vec<String> {
        let text = format!(r#"{{"type":"publish","id":{id},"topic":"a.x","data":{id}}}"#);
        self.says(&text)
    }

    fn verdict(&mut self, verdict: Result<Arc<Claims>, Code>) -> Vec<String> {
        self.hears(Input::Verified(verdict))
    }

    fn waits(&mut self, ms: u64) -> Vec<String> {
        self.now.moment.0 += ms;
        self.now.wall.0 += ms;
        self.hears(Input::Clock)
    }

    fn ends(&mut self) -> Vec<String> {
        let mut out = Vec::new();
        self.session.end(&mut out);
        out.iter().map(line).collect()
    }
}

/// An Output in a few words: what, the `id` if it has one, and what else tells it apart.
fn line(output: &Output) -> String {
    match output {
        Output::Reply(reply) => reply_line(reply),
        Output::Push(Push::Gap { topic, .. }) => format!("gap {topic}"),
        Output::Push(Push::Unsubscribed { topic, code }) => {
            format!("push unsubscribed {topic} {}", code.text())
        }
        Output::Push(Push::Bus { connected }) => format!("bus {connected}"),
        Output::Push(Push::GoingAway { reconnect_in_ms }) => format!("go in {reconnect_in_ms} ms"),
        Output::Push(Push::Ping) => "ping".to_owned(),
        Output::Verify(_) => "verify".to_owned(),
        Output::Begin(number, pattern) => format!("begin {number} {pattern}"),
        Output::Attach(number, patterns, Begin::From(From::Live)) => {
            format!("attach {number} {}", list(patterns))
        }
        Output::Attach(number, patterns, _) => format!("attach {number} {} behind", list(patterns)),
        Output::Deliver(envelopes) => format!("deliver {}", envelopes.len()),
        Output::Pause(pattern) => format!("pause {pattern}"),
        Output::Read(page) => format!("read {}", page.topic),
        Output::Push(Push::Replay { topic, replayed, more }) => {
            format!("replay {topic} {replayed} {more}")
        }
        Output::Push(Push::Position { namespace, .. }) => format!("position {namespace}"),
        Output::Join(pattern) => format!("join {pattern}"),
        Output::Leave(pattern, true) => format!("leave live {pattern}"),
        Output::Leave(pattern, false) => format!("leave {pattern}"),
        Output::Publish(_, draft) => {
            format!("publish {}", String::from_utf8_lossy(&draft.payload))
        }
        Output::Met(limit) => format!("met {}", limit.key()),
        Output::Heartbeat(heartbeat) => format!("heartbeat {heartbeat:?}"),
        Output::Close(close) => {
            let ms = match close {
                Close::Later(_, ms) => format!(" {ms} ms"),
                _ => String::new(),
            };
            format!("close {} {}{ms}", close.status().unwrap(), close.text())
        }
    }
}

fn list(patterns: &[Pattern]) -> String {
    patterns.iter().map(Pattern::as_str).collect::<Vec<_>>().join(",")
}

fn reply_line(reply: &Reply) -> String {
    let (words, id, rest) = match reply {
        Reply::Connected { id, .. } => ("connected", id, String::new()),
        Reply::Subscribed { id, topic, .. } => ("subscribed", id, format!(" {topic}")),
        Reply::Unsubscribed { id, topic } => ("unsubscribed", id, format!(" {topic}")),
        Reply::Published { id, message_id, .. } => ("published", id, format!(" {message_id}")),
        Reply::History { id, items, .. } => ("history", id, format!(" {}", items.len())),
        Reply::Token { id, .. } => ("token", id, String::new()),
        Reply::Pong { id } => ("pong", id, String::new()),
        Reply::Error { id, topic, error } => {
            let topic = topic.as_ref().map(|topic| format!(" {topic}"));
            let ms = error.retry_after_ms.map(|ms| format!(" {ms} ms"));
            let (topic, ms) = (topic.unwrap_or_default(), ms.unwrap_or_default());
            ("error", id, format!("{topic} {}{ms}", error.code.text()))
        }
    };
    let id = match id {
        Some(Id::Number(n)) => format!(" {n}"),
        Some(Id::Text(text)) => format!(" {text}"),
        None => String::new(),
    };
    format!("{words}{id}{rest}")
}

// Becoming connected.

/// A Token of the handshake connects unasked, and then its Topics are subscribed to without `id`.
#[test]
fn a_token_in_the_handshake_connects_unasked() {
    let mut client = Client::new(config(None));
    let asked = client.opens(token(), &["a.**", "b.x"]);
    assert_eq!(asked, ["heartbeat Frame", "verify"]);
    let began = client.verdict(Ok(claims(Some("ana"), &["a.>"], None)));
    assert_eq!(began, ["connected", "attach 1 a.>", "error b.x forbidden"]);
    assert_eq!(client.session.user(), Some("ana"));
    let live = client.hears(attached(1));
    assert_eq!(live, ["subscribed a.>", "join a.>"]);
}

/// A bad Token ends it, also where strangers are let in: who shows one wants to be somebody.
#[test]
fn a_bad_token_closes() {
    for (verdict, close) in [
        (Code::Unauthenticated, "close 4401 unauthenticated"),
        (Code::TokenExpired, "close 4401 token_expired"),
    ] {
        let mut client = Client::new(config(Some(&["a.>"])));
        client.opens(token(), &["a.x"]);
        assert_eq!(client.verdict(Err(verdict)), [close]);
        assert!(client.says(r#"{"type":"ping"}"#).is_empty());
    }
}

/// With anonymous Grants a Topic of the handshake connects unasked; without a Topic the first
/// Command does, whichever it is.
#[test]
fn strangers_are_connected_by_topic_or_first_command() {
    let mut client = Client::new(config(Some(&["a.>"])));
    let began = client.opens(None, &["a.x"]);
    assert_eq!(began, ["heartbeat Frame", "connected", "attach 1 a.x"]);
    assert_eq!(client.session.user(), None);
    for (first, answers) in [
        (r#"{"type":"ping","id":"p"}"#, &["connected", "pong p"][..]),
        (
            r#"{"type":"connect","id":1,"heartbeat":"message"}"#,
            &["heartbeat Message", "connected 1"],
        ),
        (r#"{"type":"pong"}"#, &["connected"]),
        (r#"{"type":"what","id":1}"#, &["connected", "error 1 bad_message"]),
    ] {
        let mut client = Client::new(config(Some(&["a.>"])));
        assert_eq!(client.opens(None, &[]), ["heartbeat Frame"]);
        assert_eq!(client.says(first), answers, "{first}");
    }
}

/// The Token may come in the `connect`, whose `id` the `connected` then carries.
#[test]
fn a_connect_brings_the_token() {
    for anonymous in [None, Some(&["a.>"][..])] {
        let mut client = Client::new(config(anonymous));
        client.opens(None, &[]);
        let asked = client.says(r#"{"type":"connect","id":7,"token":"t"}"#);
        assert_eq!(asked, ["verify"]);
        let began = client.verdict(Ok(claims(Some("ana"), &["a.>"], None)));
        assert_eq!(began, ["connected 7"]);
        let again = client.says(r#"{"type":"connect","id":8}"#);
        assert_eq!(again, ["error 8 bad_message"]);
    }
    let mut client = Client::new(config(None));
    client.opens(None, &[]);
    client.says(r#"{"type":"connect","id":7,"token":"t"}"#);
    let refused = client.verdict(Err(Code::Unauthenticated));
    assert_eq!(refused, ["close 4401 unauthenticated"]);
}

/// Where a Token is needed and none comes, no Command is done; a Topic alone waits for `connect`.
#[test]
fn without_a_token_where_one_is_needed_it_closes() {
    for first in [
        r#"{"type":"connect"}"#,
        r#"{"type":"ping","id":1}"#,
        r#"{"type":"pong"}"#,
        r#"{"type":"token","token":"t"}"#,
        r#"{"type":"subscribe","topic":"a.x"}"#,
        r#"{"type":"publish","topic":"a.x","data":1}"#,
    ] {
        let mut client = Client::new(config(None));
        assert_eq!(client.opens(None, &["a.x"]), ["heartbeat Frame"]);
        let closed = client.says(first);
        assert_eq!(closed, ["close 4401 unauthenticated"], "{first}");
    }
    let mut client = Client::new(config(None));
    client.opens(None, &["a.x"]);
    client.says(r#"{"type":"connect","id":1,"token":"t"}"#);
    let began = client.verdict(Ok(claims(Some("ana"), &["a.>"], None)));
    assert_eq!(began, ["connected 1", "attach 1 a.x"]);
}

/// What the handshake was refused for closes before any Frame.
#[test]
fn a_refused_handshake_says_nothing_but_why() {
    let mut client = Client::new(config(Some(&["a.>"])));
    let refused = client.hears(Input::Open(Handshake {
        token: token(),
        topics: vec![wanted("a.x")],
        heartbeat: Heartbeat::Frame,
        refused: Some(Code::Origin),
    }));
    assert_eq!(refused, ["close 4403 origin"]);
}

// Commands.

/// Each Command of an open Session is answered, with its `id`, in either type.
#[test]
fn every_command_is_answered_with_its_id() {
    let mut client = Client::connected(&["a.>"]);
    for (text, answer) in [
        (r#""ping","id":1"#, &["pong 1"][..]),
        (r#""ping""#, &["pong"]),
        (r#""pong","id":2"#, &[]),
        (r#""history","id":3,"topic":"a.x""#, &["error 3 a.x forbidden"]),
        (r#""presence","id":4"#, &["error 4 not_supported"]),
        (r#""what","id":"x""#, &["error x bad_message"]),
        (r#""ping","id":7,"id":8"#, &["error bad_message"]),
        (r#""publish","id":5,"topic":"a.*","data":1"#, &["error 5 a.* invalid_topic"]),
        (r#""subscribe","id":6,"topic":"*.x""#, &["error 6 *.x invalid_topic"]),
        (r#""subscribe","id":6,"topic":"b.x""#, &["error 6 b.x forbidden"]),
        (r#""subscribe","id":6,"topic":"a.*","from":{"last":1}"#, &["error 6 a.* invalid_from"]),
        (
            r#""subscribe","id":6,"topic":"a.x","from":{"cursor":"x"}"#,
            &["error 6 a.x invalid_cursor"],
        ),
        (r#""subscribe","id":6,"topic":"a.x","from":7"#, &["error 6 a.x invalid_from"]),
        (r#""subscribe","id":6,"topic":"a.x","max_hz":7"#, &["error 6 a.x not_supported"]),
        (r#""unsubscribe","id":7,"topic":"a.x""#, &["error 7 a.x not_subscribed"]),
        (r#""unsubscribe","id":7,"topic":"a..x""#, &["error 7 a..x invalid_topic"]),
        (
            r#""subscribe","id":8,"topics":[{"topic":"a.1"},{"topic":"b"},{"topic":"a.1"},{"topic":"a.**"}]"#,
            &[
                "attach 1 a.1",
                "error 8 b forbidden",
                "error 8 a.1 already_subscribed",
                "attach 2 a.>",
            ],
        ),
    ] {
        let text = format!(r#"{{"type":{text}}}"#);
        assert_eq!(client.says(&text), answer, "{text}");
    }
    let live = client.hears(attached(2));
    assert_eq!(live, ["subscribed 8 a.>", "join a.>"]);
    let gone = client.says(r#"{"type":"unsubscribe","id":9,"topic":"a.**"}"#);
    assert_eq!(gone, ["leave live a.>", "unsubscribed 9 a.>"]);
}

/// A stranger whom no Grant covers hears `unauthenticated`; a Token renews nothing, since it would
/// make somebody else of him.
#[test]
fn strangers_hear_unauthenticated_and_stay_strangers() {
    let mut client = Client::new(config(Some(&["a.>"])));
    client.opens(None, &["b.x"]);
    let refused = client.subscribes(1, "b.y");
    assert_eq!(refused, ["error 1 b.y unauthenticated"]);
    let renewed = client.says(r#"{"type":"token","id":2,"token":"t"}"#);
    assert_eq!(renewed, ["verify"]);
    let verdict = client.verdict(Ok(claims(Some("ana"), &["b.>"], None)));
    assert_eq!(verdict, ["error 2 forbidden"]);
}

/// A Namespace that strict configuration does not name is no Topic.
#[test]
fn a_strict_node_knows_no_other_namespace() {
    let mut client = Client::connected(&[">"]);
    client.config.namespaces = Arc::new(Namespaces::new(BTreeMap::new(), true));
    let refused = client.subscribes(1, "a.x");
    assert_eq!(refused, ["error 1 a.x invalid_topic"]);
}

// Limits.

/// Nine unreadable messages are forgiven within a minute, the tenth closes; slower ones never do.
#[test]
fn the_tenth_bad_message_closes() {
    let mut client = Client::connected(&["a.>"]);
    client.subscribes(1, "a.x");
    for _ in 0..9 {
        assert_eq!(client.says("{"), ["error bad_message"]);
    }
    let closed = ["error bad_message", "leave a.x", "close 4400 bad_message"];
    assert_eq!(client.says("{"), closed);

    let mut client = Client::connected(&["a.>"]);
    for _ in 0..40 {
        assert_eq!(client.says("{"), ["error bad_message"]);
        client.waits(6_700);
    }
}

/// Over the rate a Command is refused with its `id` and the time to wait, and works after that; the
/// tenth refusal in a minute closes. A `pong` is never counted.
#[test]
fn too_fast_is_told_and_then_closed() {
    let mut client = Client::new(config(None));
    client.config.commands.burst = NonZeroU32::new(5).unwrap();
    client.opens(token(), &[]);
    client.verdict(Ok(claims(Some("ana"), &["a.>"], None)));
    for _ in 0..5 {
        assert_eq!(client.says(r#"{"type":"ping"}"#), ["pong"]);
    }
    let refused = client.subscribes(9, "a.x");
    assert_eq!(refused, ["error 9 rate_limited 20 ms"]);
    assert!(client.says(r#"{"type":"pong"}"#).is_empty());
    client.waits(20);
    assert_eq!(client.says(r#"{"type":"ping","id":1}"#), ["pong 1"]);
    for _ in 0..8 {
        assert_eq!(client.says("{"), ["error rate_limited 20 ms"]);
    }
    let closed = ["error 3 rate_limited 20 ms", "close 4429 rate_limited 20 ms"];
    assert_eq!(client.says(r#"{"type":"ping","id":3}"#), closed);
}

/// n Subscriptions are let in and n + 1 not, those attaching among them; one that ends makes room.
/// The tenth refusal in a minute closes, in the middle of a list, too.
#[test]
fn too_many_subscriptions_are_refused_and_then_closed() {
    let mut client = Client::connected(&["a.>"]);
    for n in 1..=3 {
        let asked = client.subscribes(n, &format!("a.{n}"));
        assert_eq!(asked, [format!("attach {n} a.{n}")]);
    }
    client.hears(attached(1));
    let over = client.subscribes(4, "a.4");
    assert_eq!(over, ["error 4 a.4 too_many_subscriptions"]);
    client.says(r#"{"type":"unsubscribe","topic":"a.1"}"#);
    assert_eq!(client.subscribes(5, "a.5"), ["attach 4 a.5"]);
    for n in 0..8 {
        let over = client.subscribes(n, "a.4");
        assert_eq!(over, [format!("error {n} a.4 too_many_subscriptions")]);
    }
    let text = r#"{"type":"subscribe","id":6,"topics":[{"topic":"a.6"},{"topic":"a.7"}]}"#;
    let closed = [
        "error 6 a.6 too_many_subscriptions",
        "leave a.2",
        "leave a.3",
        "leave a.5",
        "close 4413 too_many_subscriptions",
    ];
    assert_eq!(client.says(text), closed);
}

// A Subscription's life.

/// Who unsubscribes before `subscribed` came gets an error in its place, then `unsubscribed`. The
/// Feed's answer comes too late for it, and is not for the next Subscription of that Pattern.
#[test]
fn unsubscribing_while_attaching_answers_both_and_drops_the_late_answer() {
    let mut client = Client::connected(&["a.>"]);
    assert_eq!(client.subscribes(1, "a.x"), ["attach 1 a.x"]);
    let gone = client.says(r#"{"type":"unsubscribe","id":2,"topic":"a.x"}"#);
    let both = ["leave a.x", "error 1 a.x not_subscribed", "unsubscribed 2 a.x"];
    assert_eq!(gone, both);
    assert_eq!(client.subscribes(3, "a.x"), ["attach 2 a.x"]);
    assert!(client.hears(attached(1)).is_empty());
    let refused = Error::new(Code::Overloaded, "full");
    assert!(client.hears(Input::AttachFailed(1, refused)).is_empty());
    let live = client.hears(attached(2));
    assert_eq!(live, ["subscribed 3 a.x", "join a.x"]);
    assert!(client.hears(attached(2)).is_empty());
}

/// An attach that failed is told with the `id` of its `subscribe`, and may be asked for again.
#[test]
fn a_failed_attach_is_told_and_can_be_repeated() {
    let mut client = Client::connected(&["a.>"]);
    client.subscribes(1, "a.x");
    let refused = Error::new(Code::BusUnavailable, "away");
    let failed = client.hears(Input::AttachFailed(1, refused));
    assert_eq!(failed, ["leave a.x", "error 1 a.x bus_unavailable"]);
    assert_eq!(client.subscribes(2, "a.x"), ["attach 2 a.x"]);
}

/// What a Feed lost is told under the Pattern, in one Push.
#[test]
fn a_loss_is_told() {
    let mut client = Client::connected(&["a.>"]);
    client.subscribes(1, "a.x");
    client.hears(attached(1));
    let gap = Input::Gap("a.x".parse().unwrap(), GapReason::BusInterrupted);
    assert_eq!(client.hears(gap), ["gap a.x"]);
}

/// How the link of the node stands and when to leave it is told to who is connected; who is not yet
/// hears of a lost link behind `connected`.
#[test]
fn the_link_and_a_drain_are_told_to_who_is_connected() {
    let mut client = Client::new(config(None));
    client.bus_connected = false;
    client.opens(token(), &["a.x"]);
    assert!(client.hears(Input::Bus(false)).is_empty());
    assert!(client.hears(Input::GoingAway(7)).is_empty());
    let began = client.verdict(Ok(claims(Some("ana"), &["a.>"], None)));
    assert_eq!(began, ["connected", "bus false", "attach 1 a.x"]);
    assert_eq!(client.hears(Input::Bus(true)), ["bus true"]);
    assert_eq!(client.hears(Input::GoingAway(8)), ["go in 8 ms"]);
    client.ends();
    assert!(client.hears(Input::Bus(false)).is_empty());
    assert!(client.hears(Input::GoingAway(9)).is_empty());
}

/// A Connection that opens just after the link was lost, while its Shard is still telling everybody,
/// hears of it once; and a loss that was over before its turn came is nothing to it.
#[test]
fn each_change_of_the_link_is_told_once() {
    let mut client = Client::new(config(None));
    client.bus_connected = false;
    client.opens(token(), &[]);
    let began = client.verdict(Ok(claims(Some("ana"), &["a.>"], None)));
    assert_eq!(began, ["connected", "bus false"]);
    assert!(client.hears(Input::Bus(false)).is_empty());
    assert_eq!(client.hears(Input::Bus(true)), ["bus true"]);
    assert!(client.hears(Input::Bus(true)).is_empty());
    assert_eq!(client.hears(Input::Bus(false)), ["bus false"]);
}

// Tokens and time.

/// A Token with fewer Grants ends what it does not cover: by a Push what is live, in the place of
/// `subscribed` what is not. What it covers goes on.
#[test]
fn a_renewal_with_fewer_grants_ends_what_it_does_not_cover() {
    let mut client = Client::connected(&["a.>", "b.>"]);
    client.subscribes(1, "b.x");
    client.subscribes(2, "a.x");
    client.subscribes(3, "b.y");
    client.hears(attached(1));
    client.hears(attached(2));
    let asked = client.says(r#"{"type":"token","id":4,"token":"t"}"#);
    assert_eq!(asked, ["verify"]);
    let renewed = client.verdict(Ok(claims(Some("ana"), &["a.>"], None)));
    let ended = [
        "token 4",
        "leave live b.x",
        "push unsubscribed b.x forbidden",
        "leave b.y",
        "error 3 b.y forbidden",
    ];
    assert_eq!(renewed, ended);
    assert!(client.hears(attached(3)).is_empty());
    assert_eq!(client.subscribes(5, "b.x"), ["error 5 b.x forbidden"]);
    assert_eq!(client.ends(), ["leave live a.x"]);
}

/// Another subject's Token and a bad one are refused, and the old one stays, with its end.
#[test]
fn a_renewal_that_is_refused_changes_nothing() {
    let mut client = Client::new(config(None));
    client.opens(token(), &["b.x"]);
    let until = client.now.wall.0 + 60_000;
    client.verdict(Ok(claims(Some("ana"), &["b.>"], Some(until))));
    for (verdict, answer) in [
        (Ok(claims(Some("bob"), &["a.>"], None)), "error 1 forbidden"),
        (Err(Code::Unauthenticated), "error 1 unauthenticated"),
        (Err(Code::TokenExpired), "error 1 token_expired"),
    ] {
        client.says(r#"{"type":"token","id":1,"token":"t"}"#);
        assert_eq!(client.verdict(verdict), [answer]);
        assert_eq!(client.session.user(), Some("ana"));
    }
    assert!(client.waits(59_999).is_empty());
    assert_eq!(client.waits(1), ["leave b.x", "close 4401 token_expired"]);
}

/// A renewed Token moves the end; the Clock ends it then, and asks for nothing before.
#[test]
fn a_renewal_moves_the_end() {
    let mut client = Client::new(config(None));
    client.opens(token(), &[]);
    let until = client.now.wall.0 + 60_000;
    client.verdict(Ok(claims(Some("ana"), &["a.>"], Some(until))));
    assert_eq!(client.session.deadline(), Some(Moment(61_000)));
    client.says(r#"{"type":"token","token":"t"}"#);
    client.verdict(Ok(claims(Some("ana"), &["a.>"], Some(until + 60_000))));
    assert!(client.waits(60_000).is_empty());
    assert_eq!(client.waits(60_000), ["close 4401 token_expired"]);
    assert_eq!(client.session.deadline(), None);
}

/// Who is not connected in time is closed; who is, has no end if its Claims have none.
#[test]
fn the_time_to_connect_is_bounded() {
    for anonymous in [None, Some(&["a.>"][..])] {
        let mut client = Client::new(config(anonymous));
        client.opens(None, &[]);
        assert!(client.waits(9_999).is_empty());
        assert_eq!(client.waits(1), ["close 4408 auth_timeout"]);
    }
    let mut client = Client::connected(&["a.>"]);
    assert_eq!(client.session.deadline(), None);
    assert!(client.waits(1_000_000).is_empty());
}

// Publishing.

/// Publishes leave one at a time and in the order of their Commands, whatever becomes of each.
#[test]
fn publishes_leave_one_at_a_time_and_in_order() {
    let mut client = Client::connected(&["a.>"]);
    assert_eq!(client.publishes(1), ["publish 1"]);
    assert!(client.publishes(2).is_empty());
    assert!(client.publishes(3).is_empty());
    let next = client.hears(published("m1"));
    assert_eq!(next, ["published 1 m1", "publish 2"]);
    let failed = Input::Published(Err(Error::new(Code::BusUnavailable, "away")));
    let next = client.hears(failed);
    assert_eq!(next, ["error 2 bus_unavailable", "publish 3"]);
    assert_eq!(client.hears(published("m3")), ["published 3 m3"]);
    assert_eq!(client.publishes(4), ["publish 4"]);
}

/// 256 may wait for the one under way; the next is refused by name, and the others go on.
#[test]
fn publishes_that_wait_are_bounded() {
    let mut client = Client::connected(&["a.>"]);
    assert_eq!(client.publishes(0), ["publish 0"]);
    for n in 1..=256 {
        assert!(client.publishes(n).is_empty(), "{n}");
    }
    assert_eq!(client.publishes(257), ["error 257 a.x overloaded"]);
    for n in 0..256 {
        let next = [format!("published {n} m"), format!("publish {}", n + 1)];
        assert_eq!(client.hears(published("m")), next);
    }
    assert_eq!(client.hears(published("m")), ["published 256 m"]);
    assert!(client.hears(published("m")).is_empty());
}

/// Each leaves under the Claims of its moment: a renewal counts for what still waits.
#[test]
fn waiting_publishes_leave_under_the_new_claims() {
    let mut client = Client::connected(&["a.>"]);
    client.publishes(1);
    client.publishes(2);
    client.says(r#"{"type":"token","token":"t"}"#);
    let fewer = claims(Some("ana"), &["b.>"], None);
    client.verdict(Ok(Arc::clone(&fewer)));
    let next = client.wants(published("m"));
    assert!(matches!(&next[1], Output::Publish(claims, _) if *claims == fewer));
}

/// Ended from outside, it lets go of all it holds, once, and is deaf from then on.
#[test]
fn an_end_lets_go_of_everything_once() {
    let mut client = Client::connected(&["a.>"]);
    client.subscribes(1, "a.x");
    client.subscribes(2, "a.y");
    client.publishes(3);
    client.hears(attached(2));
    assert_eq!(client.ends(), ["leave a.x", "leave live a.y"]);
    assert!(client.ends().is_empty());
    assert_eq!(client.session.deadline(), None);
    assert!(client.hears(attached(1)).is_empty());
    assert!(client.hears(published("m")).is_empty());
    assert!(client.says("{").is_empty());
}

// Who only listens.

/// A place in the history with this Epoch.
fn place(epoch: u32, offset: u64) -> Cursor {
    Cursor { epoch: Epoch::new(epoch), offset, check: None }
}

/// A Session that streams these Topics to a client that brought these Cursors; `k` and `l` are kept. What
/// it wants first.
fn streams(topics: &[&str], from: From, brought: &[Cursor]) -> (Client, Vec<String>) {
    let kept = namespace::Config { history: Some(History::default()), ..Default::default() };
    let kept = ["k", "l"].map(|name| (name.to_owned(), kept.clone()));
    let mut client = Client::new(config(None));
    client.config.namespaces = Arc::new(Namespaces::new(kept.into(), false));
    let wanted = |topic: &&str| Wanted { from: Ok(from.clone()), ..wanted(topic) };
    let wanted: Vec<Wanted> = topics.iter().map(wanted).collect();
    let brought = (!brought.is_empty()).then(|| brought.into());
    let claims = claims(Some("ana"), &[">"], None);
    let read = Streaming::read(&client.config.namespaces, claims, &wanted, brought).unwrap();
    let first = client.hears(Input::Stream(Box::new(read)));
    (client, first)
}

/// An answer: what is missing, the place behind it, and whether more is to come.
fn answered(number: u32, recovered: Result<(), GapReason>, cursor: Cursor, more: bool) -> Input {
    let rest = more.then_some(Rest::Values { above: cursor });
    let replay = Replay { cursor: Some(cursor), rest, ..Replay::live([].into(), recovered) };
    Input::Attached(number, Box::new(replay))
}

#[test]
fn patterns_of_a_kept_namespace_replay_together() {
    let topics = ["k.a", "x.a", "k.*", "k.a", "l.a"];
    let (mut client, first) = streams(&topics, From::Last, &[]);
    assert!(first.is_empty() && client.session.is_hungry());
    assert_eq!(client.hears(Input::Room), ["attach 2 x.a behind"]);
    let why = Err(GapReason::HistoryTrimmed);
    let replay = Replay::live([].into(), why);
    let heard = client.hears(Input::Attached(2, Box::new(replay)));
    assert_eq!(heard, ["gap x.a", "replay x.a 0 false", "join x.a"]);
    assert_eq!(client.hears(Input::Room), ["attach 1 k.a,k.* behind"]);
    let heard = client.hears(answered(1, Ok(()), place(7, 1), true));
    assert_eq!(heard, ["replay k.a 0 true", "replay k.* 0 true"]);
    assert!(client.session.subscriptions().is_attaching());
    assert_eq!(client.hears(Input::Room), ["attach 3 l.a behind"]);
    client.hears(answered(3, Ok(()), place(8, 1), false));
    assert_eq!(client.hears(Input::Room), ["attach 1 k.a,k.* behind"]);
    let heard = client.hears(answered(1, Ok(()), place(7, 2), false));
    let joined = ["replay k.a 0 false", "replay k.* 0 false", "join k.a", "join k.*", "position k"];
    assert_eq!(heard, joined);
    let heard = client.hears(Input::Overrun("k".into(), place(7, 3)));
    assert_eq!(heard, ["pause k.a", "pause k.*"]);
    assert_eq!(client.hears(Input::Room), ["attach 1 k.a,k.* behind"]);
}

#[test]
fn a_namespace_without_a_cursor_is_new_if_none_is_left_over() {
    let (mut client, _) = streams(&["k.a", "l.a"], From::Live, &[place(7, 5)]);
    assert_eq!(client.hears(Input::Room), ["attach 1 k.a behind"]);
    // It knows none of them: whether it is new, only the other can say.
    assert!(client.hears(answered(1, Err(GapReason::EpochChanged), place(6, 9), false)).is_empty());
    assert_eq!(client.hears(Input::Room), ["attach 2 l.a behind"]);
    let heard = client.hears(answered(2, Ok(()), place(7, 6), false));
    assert_eq!(heard, ["replay l.a 0 false", "join l.a", "position l"]);
    assert_eq!(client.hears(Input::Room), ["attach 1 k.a"]);
}

#[test]
fn a_cursor_that_is_left_over_is_told_to_who_has_none() {
    let brought = [place(7, 5), place(9, 5)];
    let (mut client, _) = streams(&["k.a", "k.b", "l.a"], From::Live, &brought);
    client.hears(Input::Room);
    client.hears(answered(1, Err(GapReason::EpochChanged), place(6, 9), false));
    client.hears(Input::Room);
    let heard = client.hears(answered(2, Ok(()), place(7, 6), false));
    assert_eq!(heard, ["gap k.a", "gap k.b", "replay l.a 0 false", "join l.a", "position l"]);
    // From where it was when it said so.
    assert_eq!(client.hears(Input::Room), ["attach 1 k.a,k.b behind"]);
    client.hears(answered(1, Ok(()), place(6, 10), false));
    assert_eq!(client.session.subscriptions().live().count(), 3);
}

#[test]
fn a_stream_ends_with_the_first_attach_that_fails() {
    let (mut client, _) = streams(&["k.a", "x.a"], From::Live, &[]);
    client.hears(attached(2));
    let error = Error::new(Code::TooManyTopics, "words").at(Limit::SnapshotTopics);
    let heard = client.hears(Input::AttachFailed(1, error));
    let ended =
        ["met snapshot_topics", "leave k.a", "leave live x.a", "close 1011 too_many_topics"];
    assert_eq!(heard, ended);
}

// Any sequence of inputs.

/// One thing that happens to a Session.
#[derive(Debug, Clone)]
enum Step {
    Connect(bool),
    Subscribe(Vec<usize>),
    Unsubscribe(usize),
    Publish,
    Token,
    Plain(&'static str),
    /// A Feed answers one of its asks, early or late; whether with success.
    Answer(usize, bool),
    Published(bool),
    Gap(usize),
    Bus(bool),
    GoingAway,
    Wait(u64),
    End,
}

/// What verification will say, drawn in turn.
#[derive(Debug, Clone, Copy)]
enum Verdict {
    Bad,
    Other,
    Few(bool),
    All(bool),
}

const TOPICS: [&str; 7] = ["a.x", "a.**", "a.>", "b.x", "b.*", "c.x", "a..x"];

fn step() -> impl Strategy<Value = Step> {
    let topic = || 0..TOPICS.len();
    let plain = prop::sample::select(vec!["ping", "pong", "history", "presence", "what"]);
    prop_oneof![
        2 => any::<bool>().prop_map(Step::Connect),
        12 => prop::collection::vec(topic(), 1..4).prop_map(Step::Subscribe),
        8 => topic().prop_map(Step::Unsubscribe),
        8 => Just(Step::Publish),
        3 => Just(Step::Token),
        4 => plain.prop_map(Step::Plain),
        16 => (any::<usize>(), prop::bool::weighted(0.8)).prop_map(|(at, ok)| Step::Answer(at, ok)),
        8 => prop::bool::weighted(0.8).prop_map(Step::Published),
        1 => topic().prop_map(Step::Gap),
        1 => any::<bool>().prop_map(Step::Bus),
        1 => Just(Step::GoingAway),
        6 => (0..3_000_u64).prop_map(Step::Wait),
        1 => Just(Step::End),
    ]
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        1 => Just(Verdict::Bad),
        1 => Just(Verdict::Other),
        3 => any::<bool>().prop_map(Verdict::Few),
        6 => any::<bool>().prop_map(Verdict::All),
    ]
}

/// What surrounds a Session: it carries out what that wants, and holds it to its promises.
struct Outside {
    client: Client,
    verdicts: Vec<Verdict>,
    asked: u64,
    /// How many Replies each `id` still has to get.
    owed: BTreeMap<u64, usize>,
    /// Asks that their Feed has not answered.
    feeds: Vec<u32>,
    /// What the table holds, and whether it is live.
    table: BTreeMap<Pattern, bool>,
    numbers: BTreeSet<u32>,
    publishing: bool,
    last_published: u64,
    connected: bool,
    ended: bool,
}

impl Outside {
    fn new(anonymous: bool, verdicts: Vec<Verdict>) -> Self {
        let mut config = config(anonymous.then_some(&["a.>", "b.x"]));
        config.commands.burst = NonZeroU32::new(12).unwrap();
        Self {
            client: Client::new(config),
            verdicts,
            asked: 0,
            owed: BTreeMap::new(),
            feeds: Vec::new(),
            table: BTreeMap::new(),
            numbers: BTreeSet::new(),
            publishing: false,
            last_published: 0,
            connected: false,
            ended: false,
        }
    }

    fn open(&mut self, with_token: bool, topics: &[usize]) {
        let handshake = Handshake {
            token: token().filter(|_| with_token),
            topics: topics.iter().map(|topic| wanted(TOPICS[*topic])).collect(),
            ..Handshake::default()
        };
        self.tell(Input::Open(handshake));
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Connect(true) => self.ask(r#""connect","token":"t""#, 1),
            Step::Connect(false) => self.ask(r#""connect""#, 1),
            Step::Subscribe(topics) => {
                let entry = |topic: &usize| format!(r#"{{"topic":"{}"}}"#, TOPICS[*topic]);
                let entries: Vec<String> = topics.iter().map(entry).collect();
                let body = format!(r#""subscribe","topics":[{}]"#, entries.join(","));
                self.ask(&body, topics.len());
            }
            Step::Unsubscribe(topic) => {
                self.ask(&format!(r#""unsubscribe","topic":"{}""#, TOPICS[*topic]), 1);
            }
            Step::Publish => {
                let n = self.asked + 1;
                self.ask(&format!(r#""publish","topic":"a.x","data":{n}"#), 1);
            }
            Step::Token => self.ask(r#""token","token":"t""#, 1),
            Step::Plain("pong") => self.ask(r#""pong""#, 0),
            Step::Plain(kind) => self.ask(&format!(r#""{kind}""#), 1),
            Step::Answer(at, ok) if !self.feeds.is_empty() => {
                let number = self.feeds.swap_remove(at % self.feeds.len());
                let failed = || Input::AttachFailed(number, Error::new(Code::Overloaded, "full"));
                self.tell(ok.then(|| attached(number)).unwrap_or_else(failed));
            }
            Step::Published(ok) if self.publishing => {
                self.publishing = false;
                let failed = || Input::Published(Err(Error::new(Code::BusUnavailable, "away")));
                self.tell(ok.then(|| published("m")).unwrap_or_else(failed));
            }
            Step::Gap(topic) => {
                let pattern = TOPICS[*topic].parse().ok();
                if let Some(pattern) = pattern.filter(|one| self.table.get(one) == Some(&true)) {
                    self.tell(Input::Gap(pattern, GapReason::BusInterrupted));
                }
            }
            Step::Bus(connected) => {
                self.client.bus_connected = *connected;
                self.tell(Input::Bus(*connected));
            }
            Step::GoingAway => self.tell(Input::GoingAway(1)),
            Step::Wait(ms) => {
                self.client.now.moment.0 += ms;
                self.client.now.wall.0 += ms;
                self.tell(Input::Clock);
            }
            Step::End => {
                let mut out = Vec::new();
                self.client.session.end(&mut out);
                for output in out {
                    assert!(matches!(output, Output::Leave(..)), "{output:?}");
                    self.carry_out(output);
                }
                self.let_go();
            }
            Step::Answer(..) | Step::Published(_) => {}
        }
    }

    fn ask(&mut self, body: &str, replies: usize) {
        self.asked += 1;
        if !self.ended {
            self.owed.insert(self.asked, replies);
        }
        let text = format!(r#"{{"id":{},"type":{body}}}"#, self.asked);
        self.tell(Input::Command(json::decode(&text)));
    }

    fn tell(&mut self, input: Input) {
        for output in self.client.wants(input) {
            assert!(!self.ended, "after the end: {output:?}");
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Reply(reply) => self.heard(&reply),
            Output::Push(Push::Unsubscribed { topic, .. }) => {
                assert!(!self.table.contains_key(&topic));
            }
            Output::Push(_) => assert!(self.connected, "before connected"),
            Output::Heartbeat(_) => {}
            Output::Verify(_) => {
                let until = |short: bool| short.then_some(self.client.now.wall.0 + 5_000);
                let verdict = match self.verdicts.pop().unwrap_or(Verdict::Bad) {
                    Verdict::Bad => Err(Code::Unauthenticated),
                    Verdict::Other => Ok(claims(Some("bob"), &[">"], None)),
                    Verdict::Few(short) => Ok(claims(Some("ana"), &["a.x"], until(short))),
                    Verdict::All(short) => Ok(claims(Some("ana"), &[">"], until(short))),
                };
                self.tell(Input::Verified(verdict));
            }
            Output::Begin(number, pattern) => {
                assert!(self.numbers.insert(number), "{number} is used again");
                assert_eq!(self.table.insert(pattern, false), None);
            }
            Output::Attach(number, ..) => self.feeds.push(number),
            Output::Pause(pattern) => assert_eq!(self.table.insert(pattern, false), Some(true)),
            Output::Deliver(_) | Output::Read(_) | Output::Met(_) => {}
            Output::Join(pattern) => assert_eq!(self.table.insert(pattern, true), Some(false)),
            Output::Leave(pattern, live) => assert_eq!(self.table.remove(&pattern), Some(live)),
            Output::Publish(_, draft) => {
                assert!(!std::mem::replace(&mut self.publishing, true), "two at once");
                let n = String::from_utf8(draft.payload.to_vec()).unwrap();
                let n: u64 = n.parse().unwrap();
                assert!(n > self.last_published, "{n} is out of order");
                self.last_published = n;
            }
            Output::Close(_) => self.let_go(),
        }
    }

    fn heard(&mut self, reply: &Reply) {
        let (id, whole) = match reply {
            Reply::Connected { id, .. } => {
                assert!(!std::mem::replace(&mut self.connected, true), "twice");
                (id, false)
            }
            Reply::Subscribed { id, .. }
            | Reply::Unsubscribed { id, .. }
            | Reply::Published { id, .. }
            | Reply::Token { id, .. }
            | Reply::History { id, .. }
            | Reply::Pong { id } => (id, false),
            // Refused as a whole, a Command gets one answer, however many Topics it names.
            Reply::Error { id, error, .. } => (id, error.code == Code::RateLimited),
        };
        let anonymous = self.client.config.anonymous.is_some();
        assert!(self.connected || !anonymous, "before connected: {reply:?}");
        if let Some(Id::Number(id)) = id {
            let owed = self.owed.get_mut(id).unwrap();
            assert!(*owed > 0, "one too many: {reply:?}");
            *owed = if whole { 0 } else { *owed - 1 };
        }
    }

    /// It has ended: it holds nothing any more, and owes no answer but the Close.
    fn let_go(&mut self) {
        assert!(self.table.is_empty(), "left behind: {:?}", self.table);
        assert_eq!(self.client.session.subscriptions().len(), 0);
        self.ended = true;
        self.owed.clear();
    }

    /// Lets everything under way come to its end.
    fn come_to_rest(&mut self) {
        while let Some(number) = self.feeds.pop() {
            self.tell(attached(number));
        }
        while std::mem::take(&mut self.publishing) {
            self.tell(published("m"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    /// After any sequence of inputs: each Subscription that was attached has joined at most once and
    /// left once, nothing comes after the end, publishes leave one by one and in order, and each
    /// Command has had its Reply, one for each of its Topics, or the Session has ended.
    #[test]
    fn every_ask_is_answered_and_everything_let_go(
        anonymous in any::<bool>(),
        with_token in prop::bool::weighted(0.7),
        topics in prop::collection::vec(0..TOPICS.len(), 0..3),
        steps in prop::collection::vec(step(), 1..30),
        verdicts in prop::collection::vec(verdict(), 0..6),
    ) {
        let mut outside = Outside::new(anonymous, verdicts);
        outside.open(with_token, &topics);
        for step in &steps {
            outside.take(step);
        }
        outside.come_to_rest();
        prop_assert!(outside.owed.values().all(|owed| *owed == 0), "{:?}", outside.owed);
        let live = outside.client.session.subscriptions().live().count();
        prop_assert_eq!(outside.table.values().filter(|live| **live).count(), live);
        outside.take(&Step::End);
    }
}
