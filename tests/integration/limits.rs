//! Every bound: at n all is well, at n+1 its documented code, and it is counted under its name.
//!
//! First those on coming in and on what the node holds; then what one client meets, as a table; then
//! those on time, and what waits for others. The Outbox is for the tests of slow clients.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tidegate::auth::make_api_key;
use tidegate::protocol::Code;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Error;

use crate::harness::raw::{HANDSHAKE, Raw, frame};
use crate::harness::{Browser, Gateway, Grants, Nats, SOON, Settings, pass, run, until};

/// The status and code of a handshake that is refused before the 101.
async fn refused(gateway: &Gateway, query: &str) -> (u16, String) {
    match Browser::dial(gateway.client, query, &[]).await {
        Err(Error::Http(answer)) => {
            assert!(answer.headers().contains_key("retry-after"));
            let body = answer.body().clone().unwrap_or_default();
            let problem: serde_json::Value = serde_json::from_slice(&body).expect("a problem");
            (answer.status().as_u16(), problem["code"].as_str().expect("a code").to_owned())
        }
        Err(fault) => panic!("{fault}"),
        Ok(_) => panic!("it was let in"),
    }
}

/// `max_connections` over all Shards: the last place is taken, the next handshake is told 503, and a
/// place given back is a place again.
#[test]
fn connections_of_the_node() {
    run(async {
        let gateway = Gateway::start(Settings::open().limit("max_connections: 5")).await;
        let mut browsers = Vec::new();
        for _ in 0..5 {
            browsers.push(gateway.browser("topic=open.a").await);
        }
        gateway.until_hit("max_connections", 0).await;
        assert_eq!(refused(&gateway, "").await, (503, "overloaded".to_owned()));
        gateway.until_hit("max_connections", 1).await;
        drop(browsers.pop());
        gateway.until_count("connections", 4, Duration::from_secs(5)).await;
        let mut again = gateway.browser("topic=open.a").await;
        assert_eq!(again.next().await["type"], "connected");
    });
}

/// `unauthenticated`: those who have shown no Token yet; whoever does makes room.
#[test]
fn connections_that_are_not_connected_yet() {
    run(async {
        let gateway = Gateway::start(Settings::default().limit("unauthenticated: 2")).await;
        let token = Gateway::token("ana", &Grants::all(&["open.>"]));
        let mut first = gateway.browser("").await;
        let _second = gateway.browser("").await;
        assert_eq!(refused(&gateway, "").await, (503, "overloaded".to_owned()));
        gateway.until_hit("unauthenticated", 1).await;
        let reply = first.ask(json!({"type": "connect", "token": token})).await;
        assert_eq!(reply["type"], "connected");
        let _third = gateway.browser("").await;
    });
}

/// `user_connections`: the next one of the same user is closed with 4429 and a time, behind the 101;
/// another user and those without a name are not touched.
#[test]
fn connections_of_one_user() {
    run(async {
        let gateway = Gateway::start(Settings::open().limit("user_connections: 2")).await;
        let query = |user| format!("token={}", Gateway::token(user, &Grants::all(&["open.>"])));
        let mut first = gateway.browser(&query("ana")).await;
        assert_eq!(first.next().await["type"], "connected");
        let mut second = gateway.browser(&query("ana")).await;
        assert_eq!(second.next().await["type"], "connected");
        let mut third = gateway.browser(&query("ana")).await;
        let closed = third.closed(Duration::from_secs(5)).await;
        assert_eq!((closed.status, closed.code().as_str()), (Some(4429), "connection_limit"));
        assert!(closed.reason.contains("\"ms\":"));
        gateway.until_hit("user_connections", 1).await;
        for query in [query("bob"), "topic=open.a".to_owned()] {
            let mut other = gateway.browser(&query).await;
            assert_eq!(other.next().await["type"], "connected");
        }
        // A new Token for the same Connection is not one more.
        let token = Gateway::token("ana", &Grants::all(&["open.>"]));
        let reply = first.ask(json!({"type": "token", "token": token})).await;
        assert_eq!(reply["type"], "token");
        drop(second);
        gateway.until_count("connections", 1, Duration::from_secs(5)).await;
        let mut again = gateway.browser(&query("ana")).await;
        assert_eq!(again.next().await["type"], "connected");
    });
}

/// `handshakes_per_second` and `handshakes_burst`: 503 with a time to come back.
#[test]
fn new_connections_a_second() {
    run(async {
        let settings =
            Settings::open().limit("handshakes_per_second: 1").limit("handshakes_burst: 3");
        let gateway = Gateway::start(settings).await;
        let mut browsers = Vec::new();
        for _ in 0..3 {
            browsers.push(gateway.browser("topic=open.a").await);
        }
        assert_eq!(refused(&gateway, "").await, (503, "overloaded".to_owned()));
        gateway.until_hit("handshakes_per_second", 1).await;
    });
}

/// `feeds`: distinct Topics and Patterns of all clients; who shares one takes no room.
#[test]
fn distinct_patterns_of_the_node() {
    run(async {
        let gateway = Gateway::start(Settings::open().limit("feeds: 3")).await;
        let mut browser = gateway.browser("").await;
        for topic in ["open.a", "open.b", "open.*"] {
            browser.subscribe(topic).await;
        }
        let reply = browser.ask(json!({"type": "subscribe", "topic": "open.c"})).await;
        assert_eq!((&reply["code"], &reply["retryable"]), (&json!("overloaded"), &json!(true)));
        gateway.until_hit("feeds", 1).await;
        let mut other = gateway.browser("").await;
        other.subscribe("open.a").await;
    });
}

/// A start that cannot hold what it promises is refused: more Connections than files, an Outbox under
/// four of the largest payloads.
#[test]
fn a_start_that_cannot_hold_is_refused() {
    run(async {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tidegate.yaml");
        let text = "auth: {anonymous: {subscribe: ['open.>']}}\n\
                    limits: {max_connections: 9000000, outbox_bytes: 64KiB}\n";
        std::fs::write(&file, text).expect("it is written");
        let ended = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .arg("serve")
            .arg("--config")
            .arg(&file)
            .output()
            .expect("it runs");
        assert_eq!(ended.status.code(), Some(64));
        let words = String::from_utf8_lossy(&ended.stderr);
        for key in ["limits.max_connections", "limits.outbox_bytes"] {
            assert!(words.contains(key), "{words}");
        }
    });
}

// What one client meets.

/// What a client hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// Nothing but good.
    Taken,
    /// Replies or results with this code, the last of them; it goes on.
    Error(&'static str),
    /// A close.
    Closed(u16, &'static str),
    /// A status that is no success; its code is empty where the answer has no body.
    Status(u16, &'static str),
}

use Heard::{Closed, Error as Refused, Status, Taken};

/// What a client hears, and the bound that is counted; none if it is empty.
type End = (Heard, &'static str);

const FINE: End = (Taken, "");
const TOO_BIG: End = (Closed(1009, "too_big"), "frame_bytes");
const TOO_FAST: Heard = Refused("rate_limited");
const TOO_MANY: Heard = Refused("too_many_subscriptions");
const BAD: End = (Refused("bad_message"), "");
const NO_TOPIC: End = (Refused("invalid_topic"), "");

/// A bound: what it is of, how high it is, what so much of it is, and what comes of that and of one
/// more.
struct Row {
    of: &'static str,
    n: usize,
    bytes: Box<dyn Fn(usize) -> Vec<u8>>,
    ends: [End; 2],
}

fn row(
    of: &'static str,
    n: usize,
    at: End,
    beyond: End,
    bytes: impl Fn(usize) -> Vec<u8> + 'static,
) -> Row {
    Row { of, n, bytes: Box::new(bytes), ends: [at, beyond] }
}

/// A handshake, and these Commands.
fn says(commands: impl IntoIterator<Item = Value>) -> Vec<u8> {
    let frames = commands.into_iter().flat_map(|one| text(&one.to_string()));
    HANDSHAKE.bytes().chain(frames).collect()
}

/// The same with one that stands as it is.
fn says_text(command: &str) -> Vec<u8> {
    [HANDSHAKE.as_bytes(), &text(command)].concat()
}

fn text(command: &str) -> Vec<u8> {
    frame(0x81, command.as_bytes())
}

fn subscribe(topic: &str) -> Value {
    json!({"type": "subscribe", "topic": topic})
}

fn publish(data: &Value) -> Value {
    json!({"type": "publish", "topic": "open.a", "data": data})
}

/// So many Topics.
fn topics(number: usize) -> impl Iterator<Item = String> {
    (0..number).map(|n| format!("open.{n}"))
}

/// A Topic of so many bytes, in segments of 19 and the dots between.
fn long_topic(bytes: usize) -> String {
    let text = format!("open.{}", vec!["x".repeat(19); 20].join("."));
    text[..bytes].to_owned()
}

/// A Command of exactly so many bytes.
fn padded(bytes: usize) -> String {
    format!("{:<bytes$}", r#"{"type":"ping"}"#)
}

/// A Command so deep, by a field that nobody knows.
fn deep(levels: usize) -> String {
    let (open, close) = ("[".repeat(levels - 1), "]".repeat(levels - 1));
    format!(r#"{{"type":"ping","new":{open}{close}}}"#)
}

/// A `POST` that is the last on its connection.
fn post(path: &str, header: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: g\r\nConnection: close\r\n{header}\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

fn post_batch(header: &str, messages: &[Value]) -> Vec<u8> {
    post("/v1/publish", header, &json!({ "messages": messages }).to_string())
}

fn bearer(text: &str) -> String {
    format!("Authorization: Bearer {text}\r\n")
}

/// Somebody whom the gateway has not seen.
fn somebody() -> String {
    static SEEN: AtomicUsize = AtomicUsize::new(0);
    let name = format!("user-{}", SEEN.fetch_add(1, Ordering::Relaxed));
    bearer(&Gateway::token(&name, &Grants::all(&["open.>"])))
}

/// What one Connection may send, with small bounds where operators can set them.
fn of_a_connection() -> Vec<Row> {
    vec![
        row("frame_bytes, one frame", 4_096, FINE, TOO_BIG, |n| says_text(&padded(n))),
        row("frame_bytes, two fragments", 4_096, FINE, TOO_BIG, |n| {
            let command = padded(n);
            let (one, two) = command.as_bytes().split_at(2_000);
            [HANDSHAKE.as_bytes(), &frame(0x01, one), &frame(0x80, two)].concat()
        }),
        row("fragments", 4, FINE, (Closed(1009, "too_big"), "fragments"), |n| {
            let command = padded(100);
            let (first, rest) = command.split_at(101 - n);
            let mut bytes = [HANDSHAKE.as_bytes(), &frame(0x01, first.as_bytes())].concat();
            for (at, byte) in rest.bytes().enumerate() {
                bytes.extend(frame(if at + 2 == n { 0x80 } else { 0x00 }, &[byte]));
            }
            bytes
        }),
        // The ping that ends each test is one more.
        row("control_frames", 9, FINE, (Closed(4429, "rate_limited"), "control_frames"), |n| {
            [HANDSHAKE.as_bytes(), &frame(0x89, b"").repeat(n)].concat()
        }),
        row("a control frame's payload", 125, FINE, (Closed(1002, "bad_message"), ""), |n| {
            [HANDSHAKE.as_bytes(), &frame(0x8a, &vec![b'x'; n])].concat()
        }),
        row("bad_messages", 9, BAD, (Closed(4400, "bad_message"), "bad_messages"), |n| {
            says(vec![json!([]); n])
        }),
        row("json_depth", 32, FINE, (Refused("bad_message"), "json_depth"), |n| {
            says_text(&deep(n))
        }),
        row("json_depth inside data", 100, FINE, FINE, |n| {
            let data = ["[".repeat(n), "]".repeat(n)].concat();
            says_text(&format!(r#"{{"type":"publish","topic":"open.a","data":{data}}}"#))
        }),
        row("commands_burst", 20, FINE, (TOO_FAST, "commands_per_second"), |n| {
            says(vec![json!({"type": "ping"}); n])
        }),
        row(
            "commands_per_second, once too often",
            29,
            (TOO_FAST, "commands_per_second"),
            (Closed(4429, "rate_limited"), "commands_per_second"),
            |n| says(vec![json!({"type": "ping"}); n]),
        ),
        row("subscriptions", 5, FINE, (TOO_MANY, "subscriptions"), |n| {
            says(topics(n).map(|topic| subscribe(&topic)))
        }),
        row("subscriptions in one Command", 5, FINE, (TOO_MANY, "subscriptions"), |n| {
            let topics: Vec<Value> = topics(n).map(|topic| json!({ "topic": topic })).collect();
            says([json!({"type": "subscribe", "topics": topics})])
        }),
        row(
            "subscriptions, once too often",
            14,
            (TOO_MANY, "subscriptions"),
            (Closed(4413, "too_many_subscriptions"), "subscriptions"),
            |n| says(topics(n).map(|topic| subscribe(&topic))),
        ),
        row(
            "subscriptions in the handshake",
            5,
            FINE,
            (Status(422, "too_many_subscriptions"), "subscriptions"),
            |n| {
                let query: String = topics(n).map(|topic| format!("topic={topic}&")).collect();
                HANDSHAKE.replace("/v1/connect ", &format!("/v1/connect?{query} ")).into()
            },
        ),
        row("entries of one subscribe", 128, (Refused("already_subscribed"), ""), BAD, |n| {
            says([json!({"type": "subscribe", "topics": vec![json!({"topic": "open.a"}); n]})])
        }),
        row("bytes of a Topic", 200, FINE, NO_TOPIC, |n| says([subscribe(&long_topic(n))])),
        row("segments of a Topic", 16, FINE, NO_TOPIC, |n| {
            says([subscribe(&format!("open{}", ".x".repeat(n - 1)))])
        }),
        row("bytes of a segment", 64, FINE, NO_TOPIC, |n| {
            says([subscribe(&format!("open.{}", "x".repeat(n)))])
        }),
        row("bytes of an id", 64, FINE, BAD, |n| {
            says([json!({"type": "ping", "id": "x".repeat(n)})])
        }),
        row("an id as a number", (1 << 53) - 1, FINE, BAD, |n| {
            says([json!({"type": "ping", "id": n})])
        }),
        row("bytes of a key", 128, FINE, BAD, |n| {
            let key = "x".repeat(n);
            says([json!({"type": "publish", "topic": "open.a", "data": 1, "key": key})])
        }),
        row("bytes of client", 128, FINE, BAD, |n| {
            says([json!({"type": "connect", "client": "x".repeat(n)})])
        }),
        row("max_message_bytes", 1_000, FINE, (Refused("too_big"), "max_message_bytes"), |n| {
            says([publish(&json!("x".repeat(n - 2)))])
        }),
        row(
            "max_message_bytes in base64",
            1_000,
            FINE,
            (Refused("too_big"), "max_message_bytes"),
            |n| {
                let data = STANDARD.encode(vec![0xff; n]);
                says([json!({"type": "publish", "topic": "open.a", "data_base64": data})])
            },
        ),
    ]
}

/// What one request may hold.
fn of_a_request() -> Vec<Row> {
    const MESSAGES: &str = "/v1/topics/open.a/messages";
    let too_big = |limit| (Status(413, "too_big"), limit);
    let item = || json!({"topic": "open.a", "data": 1});
    vec![
        row("max_message_bytes, one", 1_000, FINE, too_big("max_message_bytes"), |n| {
            post(MESSAGES, "", &"x".repeat(n))
        }),
        row(
            "max_message_bytes, in a batch",
            1_000,
            FINE,
            (Refused("too_big"), "max_message_bytes"),
            |n| post_batch("", &[json!({"topic": "open.a", "data": "x".repeat(n - 2)})]),
        ),
        row("batch_items", 30, FINE, too_big("batch_items"), move |n| {
            post_batch("", &vec![item(); n])
        }),
        row("batch_items, by their topics", 30, FINE, too_big("batch_items"), |n| {
            post_batch("", &[json!({"topics": vec!["open.a"; n], "data": 1})])
        }),
        row("batch_items, as lines", 30, FINE, too_big("batch_items"), move |n| {
            post("/v1/publish", "", &format!("{}\n", item()).repeat(n))
        }),
        row("batch_bytes", 4_096, FINE, too_big("batch_bytes"), move |n| {
            post("/v1/publish", "", &format!("{:<n$}", json!({ "messages": [item()] }).to_string()))
        }),
        row("url_bytes", 1_024, FINE, (Status(414, ""), "url_bytes"), |n| {
            post(&format!("{MESSAGES}?{}", "x".repeat(n - MESSAGES.len() - 1)), "", "1")
        }),
        row("url_bytes of a handshake", 1_024, FINE, (Status(414, ""), "url_bytes"), |n| {
            let path = format!("/v1/connect?{} ", "x".repeat(n - "/v1/connect?".len()));
            HANDSHAKE.replace("/v1/connect ", &path).into()
        }),
        row("bytes of an Idempotency-Key", 128, FINE, (Status(400, "bad_message"), ""), |n| {
            let key = format!("Idempotency-Key: {}\r\n", "x".repeat(n));
            post(MESSAGES, &(somebody() + &key), "1")
        }),
        row("bytes of a key in a batch", 128, FINE, BAD, |n| {
            let item = json!({"topic": "open.a", "data": 1, "key": "x".repeat(n)});
            post_batch(&somebody(), &[item])
        }),
        row("bytes of a Topic", 200, FINE, (Status(400, "invalid_topic"), ""), |n| {
            post(&format!("/v1/topics/{}/messages", long_topic(n)), "", "1")
        }),
        row("commands_burst of a user", 20, FINE, (TOO_FAST, "commands_per_second"), move |n| {
            post_batch(&somebody(), &vec![item(); n])
        }),
    ]
}

/// What one key may publish, and all of those who have no name together.
fn of_a_key(key: String) -> Vec<Row> {
    let item = || json!({"topic": "open.a", "data": 1});
    let beyond = (TOO_FAST, "key_publishes_per_second");
    vec![
        row("key_publishes_per_second", 1, FINE, beyond, move |n| {
            post_batch(&bearer(&key), &vec![item(); n])
        }),
        row("key_publishes_per_second, nobody in particular", 1, FINE, beyond, move |n| {
            post_batch("", &vec![item(); n])
        }),
    ]
}

/// Sends these bytes on a connection of their own, and hears what comes of them. Behind a handshake
/// goes a ping, whose answer is the last.
async fn hear(gateway: &Gateway, bytes: &[u8]) -> Heard {
    let mut raw = Raw::connect(gateway.client).await;
    raw.send(bytes).await;
    let head = raw.head().await;
    let status: u16 = head.get(9..12).and_then(|code| code.parse().ok()).expect("a status");
    if status != 101 {
        let rest = raw.rest(SOON).await;
        let body: Value = serde_json::from_slice(&rest).unwrap_or_default();
        let results = body["results"].as_array().into_iter().flatten();
        return match results.filter_map(|result| result["code"].as_str()).next_back() {
            Some(code) => Refused(known(code)),
            None if status == 200 => Taken,
            None => Status(status, known(body["code"].as_str().unwrap_or_default())),
        };
    }
    raw.send(&frame(0x89, b"the last")).await;
    let mut heard = Taken;
    loop {
        let (first, payload) = raw.frame().await.expect("a close frame comes before the end");
        let reply: Value = match first {
            0x81 => serde_json::from_slice(&payload).expect("JSON"),
            0x88 => {
                let (status, reason) = payload.split_at_checked(2).expect("a status");
                let reason: Value = serde_json::from_slice(reason).unwrap_or_default();
                let code = reason["code"].as_str().unwrap_or_default();
                return Closed(u16::from_be_bytes([status[0], status[1]]), known(code));
            }
            0x8a if *payload == *b"the last" => return heard,
            _ => continue,
        };
        if reply["type"] == "error" {
            heard = Refused(known(reply["code"].as_str().unwrap_or_default()));
        }
    }
}

/// The same code as a constant.
fn known(code: &str) -> &'static str {
    let codes = Code::ALL.map(Code::text);
    codes.into_iter().find(|known| *known == code).unwrap_or_default()
}

/// The bounds that were met in between.
fn met(before: &BTreeMap<String, u64>, after: &BTreeMap<String, u64>) -> String {
    let risen = after.iter().filter(|(key, hits)| before.get(*key) != Some(hits));
    risen.map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(", ")
}

/// Meets each bound from below and from above: what is heard, and what is counted.
async fn meets(gateway: &Gateway, rows: Vec<Row>) {
    for row in rows {
        for (n, (expected, counted)) in [row.n, row.n + 1].into_iter().zip(row.ends) {
            let before = gateway.limit_hits().await;
            let heard = hear(gateway, &(row.bytes)(n)).await;
            assert_eq!(heard, expected, "{}: {n}", row.of);
            assert_eq!(met(&before, &gateway.limit_hits().await), counted, "{}: {n}", row.of);
        }
    }
}

fn small() -> Settings {
    let settings =
        Settings::open().line("namespaces: {open: {max_message_bytes: 1000}}").line("strict: true");
    [
        "frame_bytes: 4KiB",
        "fragments: 4",
        "control_frames: 10",
        "commands_per_second: 1",
        "commands_burst: 20",
        "subscriptions: 5",
        "batch_items: 30",
        "batch_bytes: 4KiB",
        "url_bytes: 1KiB",
    ]
    .into_iter()
    .fold(settings, Settings::limit)
}

/// Frames and Commands of a Connection, and what the handshake asks for.
#[test]
fn what_a_connection_may_send() {
    run(async { meets(&Gateway::start(small()).await, of_a_connection()).await });
}

/// Payloads, batches, URLs and names in a request, and how many a user may send at once.
#[test]
fn what_a_request_may_hold() {
    run(async { meets(&Gateway::start(small()).await, of_a_request()).await });
}

/// An API key has a rate of its own, and those without a name share one.
#[test]
fn what_a_key_may_publish() {
    run(async {
        let folder = tempfile::tempdir().expect("a folder");
        let (key, entry) = make_api_key("orders").expect("a key");
        let entry = entry.replace("publish: []", "publish: [\"open.>\"]");
        let file = folder.path().join("keys");
        std::fs::write(&file, entry).expect("it is written");
        let mut settings = small().limit("key_publishes_per_second: 1");
        settings.auth = Some(vec![format!("api_keys_file: {file:?}")]);
        meets(&Gateway::start(settings).await, of_a_key(key)).await;
    });
}

// Time.

/// A bound on time: what is sent, what is sent half a second later by who is in time, and what the
/// other hears.
struct Clock {
    key: &'static str,
    first: Vec<u8>,
    later: Vec<u8>,
    late: Heard,
}

const TIME: Duration = Duration::from_secs(3);

/// How long it takes until the other side has ended it, and the last that was heard.
async fn ended(gateway: &Gateway, first: &[u8]) -> (Duration, Heard) {
    let begun = Instant::now();
    let mut raw = Raw::connect(gateway.client).await;
    raw.send(first).await;
    let rest = raw.rest(Duration::from_secs(20)).await;
    let ended = begun.elapsed();
    let text = String::from_utf8_lossy(&rest);
    let status: u16 = text.get(9..12).and_then(|code| code.parse().ok()).expect("a status");
    let said = |code: &&str| text.contains(&format!("\"code\":\"{code}\""));
    let code = Code::ALL.map(Code::text).into_iter().find(said).unwrap_or_default();
    let close = rest.windows(4).find_map(|four| match *four {
        [0x88, _, a, b] => Some(u16::from_be_bytes([a, b])),
        _ => None,
    });
    (ended, close.map_or(Status(status, code), |close| Closed(close, code)))
}

/// Who is late hears so, not before its time is over and soon after; who is in time is served.
#[test]
fn what_must_come_in_time() {
    run(async {
        let settings = Settings::open()
            .limit("auth_timeout: 3s")
            .limit("head_timeout: 3s")
            .limit("body_timeout: 3s")
            .limit("ping_after: 3s")
            .limit("pong_timeout: 1s");
        let gateway = Gateway::start(settings).await;
        let whole = String::from_utf8(post("/v1/topics/open.a/messages", "", "123")).expect("text");
        let asking = HANDSHAKE.replace("/v1/connect ", "/v1/connect?topic=open.a ");
        let halves = |at: usize| (whole.as_bytes()[..at].to_vec(), whole.as_bytes()[at..].to_vec());
        let (head, tail) = halves(30);
        let (begun, rest) = halves(whole.len() - 2);
        let clock = |key, first, later, late| Clock { key, first, later, late };
        let clocks = [
            clock("auth_timeout", HANDSHAKE.into(), vec![], Closed(4408, "auth_timeout")),
            clock("head_timeout", head, tail, Status(408, "")),
            clock("body_timeout", begun, rest, Status(408, "bad_message")),
            // A second more than the others have; the ping may come that much early.
            clock("pong_timeout", asking.into(), vec![], Closed(4408, "no_pong")),
        ];
        join_all(clocks.into_iter().map(|clock| on_time(&gateway, clock))).await;
        let hits = gateway.limit_hits().await;
        let met = met(&BTreeMap::new(), &hits.into_iter().filter(|(_, n)| *n > 0).collect());
        assert_eq!(met, "auth_timeout, body_timeout, head_timeout, pong_timeout");
    });
}

async fn on_time(gateway: &Gateway, clock: Clock) {
    let Clock { key, first, later, late: expected } = clock;
    let late = async {
        let (ended, heard) = ended(gateway, &first).await;
        assert_eq!(heard, expected, "{key}");
        // The HTTP library reads its clock every half second.
        assert!(ended + Duration::from_millis(600) >= TIME, "{key}: {ended:?}");
        assert!(ended <= TIME + Duration::from_secs(5), "{key}: {ended:?}");
        until(key, SOON, || async { gateway.limit_hits().await[key] == 1 }).await;
    };
    let in_time = async {
        let mut raw = Raw::connect(gateway.client).await;
        raw.send(&first).await;
        pass(Duration::from_millis(500)).await;
        raw.send(&later).await;
        let head = raw.head().await;
        let upgraded = head.starts_with("HTTP/1.1 101");
        assert!(upgraded || head.starts_with("HTTP/1.1 200"), "{key}: {head}");
        if upgraded {
            raw.send(&text(r#"{"type":"ping","id":"me"}"#)).await;
            while !raw.text().await.contains("\"id\":\"me\"") {}
        }
    };
    tokio::join!(late, in_time);
}

/// `max_connection_age`: who has been there for so long is sent elsewhere, and counted.
#[test]
fn a_connection_grows_old() {
    run(async {
        let gateway = Gateway::start(Settings::open().limit("max_connection_age: 2s")).await;
        let mut browser = gateway.browser("topic=open.a").await;
        for kind in ["connected", "subscribed", "going_away"] {
            assert_eq!(browser.next().await["type"], kind);
        }
        gateway.until_hit("max_connection_age", 1).await;
        let closed = browser.closed(SOON).await;
        assert_eq!((closed.status, closed.code().as_str()), (Some(1012), "draining"));
        gateway.until_hit("max_connection_age", 1).await;
    });
}

// What waits for others.

/// `attaches_waiting` and `publishes_in_flight`: while NATS is frozen, two of each wait, and a third
/// is told at once that the node has enough of them.
#[test]
fn what_waits_for_the_bus() {
    run(async {
        let nats = Nats::start().await;
        let mut settings = Settings::open()
            .on(&nats.url())
            .limit("attaches_waiting: 2")
            .limit("publishes_in_flight: 2");
        settings.shards = 1;
        let gateway = Gateway::start(settings).await;
        let mut browser = gateway.browser("").await;
        browser.ask(json!({"type": "ping"})).await;
        for topics in [["open.a", "open.b"], ["open.c", "open.d"]] {
            let topics = topics.map(|topic| json!({ "topic": topic }));
            browser.send(json!({"type": "subscribe", "topics": topics})).await;
            for _ in 0..2 {
                assert_eq!(browser.next().await["type"], "subscribed");
            }
        }
        let both = tokio::join!(gateway.publish("open.x", "1"), gateway.publish("open.x", "2"));
        assert_eq!((both.0.status(), both.1.status()), (StatusCode::OK, StatusCode::OK));
        gateway.until_hit("attaches_waiting", 0).await;

        nats.signal("STOP");
        let topics = ["open.e", "open.f", "open.g"].map(|topic| json!({ "topic": topic }));
        browser.send(json!({"type": "subscribe", "topics": topics})).await;
        let reply = browser.next().await;
        assert_eq!((&reply["topic"], &reply["code"]), (&json!("open.g"), &json!("overloaded")));
        gateway.until_hit("attaches_waiting", 1).await;

        let publishing = (0..3).map(|_| gateway.publish("open.x", "3"));
        let mut codes = Vec::new();
        for answer in join_all(publishing).await {
            let problem: Value = answer.json().await.expect("a problem");
            codes.push(problem["code"].as_str().expect("a code").to_owned());
        }
        assert_eq!(codes.iter().filter(|code| *code == "overloaded").count(), 1, "{codes:?}");
        assert_eq!(gateway.limit_hits().await["publishes_in_flight"], 1);
        nats.signal("CONT");
    });
}

/// `shard_inbox`: as many Publications as it holds arrive, whoever is busy; of far more some are lost,
/// and that is told.
#[test]
fn deliveries_that_wait_for_a_shard() {
    run(async {
        let mut settings = Settings::open().limit("shard_inbox: 16").limit("outbox_bytes: 16MiB");
        // The thread that publishes is the one that should take them.
        settings.shards = 1;
        let gateway = Gateway::start(settings).await;
        let mut browser = gateway.browser("").await;
        browser.subscribe("open.a").await;
        let batch = async |number: usize| {
            let messages = vec![json!({"topic": "open.a", "data": 1}); number];
            let body = json!({ "messages": messages }).to_string();
            let answer = gateway.request(Method::POST, "/v1/publish").body(body).send().await;
            assert_eq!(answer.expect("an answer").status(), 200);
        };
        batch(16).await;
        for _ in 0..16 {
            assert_eq!(browser.next().await["type"], "message");
        }
        gateway.until_hit("shard_inbox", 0).await;
        until("some are lost", 2 * SOON, async || {
            batch(1_000).await;
            gateway.limit_hits().await["shard_inbox"] > 0
        })
        .await;
        let gap = loop {
            let frame = browser.next().await;
            if frame["type"] == "gap" {
                break frame;
            }
        };
        assert_eq!(gap, json!({"type": "gap", "topic": "open.a", "reason": "bus_interrupted"}));
    });
}
