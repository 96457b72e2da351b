//! Holds the library against `proto`: the golden vectors, and the tables of the specification.
//!
//! Each file in `proto/vectors` is an array of cases with a `name`; the SDK reads the same files. A
//! test runs every case of its file and then fails once, with the name of each case that differs and
//! with what was expected and what came.

#![expect(clippy::unwrap_used, clippy::panic, reason = "an unreadable vector fails its test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tidegate::protocol::close::Framing;
use tidegate::protocol::cursor::parse;
use tidegate::protocol::frame::{GapReason, Limits, Wanted};
use tidegate::protocol::json::{BadMessage, decode, push, reply, rfc3339};
use tidegate::protocol::{Ask, Close, Code, Command, Envelope, Error, From, Limit, Push, Reply};
use tidegate::publication::{Cursor, Publication, Timestamp};
use tidegate::topic::{Pattern, Topic};

/// Takes fields from a case by their names, and sets those behind the semicolon as given.
macro_rules! build {
    ($($kind:ident)::+ from $case:ident: $($taken:ident),* $(; $($set:ident $(: $to:expr)?),*)?) => {
        $($kind)::+ {
            $($taken: get($case, stringify!($taken)),)*
            $($($set $(: $to)?,)*)?
        }
    };
}

#[test]
fn commands() {
    // Every text is read as the Command that its case names, or refused with the id that it names.
    compare("commands.json", |case| match decode(text(case, "text")) {
        Ok(command) => json!({"command": describe(&command)}),
        Err(BadMessage { id: None, .. }) => json!({"bad_message": {}}),
        Err(BadMessage { id, .. }) => json!({"bad_message": {"id": id}}),
    });
}

#[test]
fn replies() {
    // Every Reply is written in exactly these bytes, and each kind stands here with and without id.
    let mut seen = BTreeSet::new();
    compare("replies.json", |case| {
        let built = build_reply(&case["reply"]);
        seen.insert((reply_type(&built), case["reply"].get("id").is_some()));
        written(&reply(&built))
    });
    for kind in REPLIES.split(' ') {
        let both = [(kind, false), (kind, true)];
        assert!(both.iter().all(|one| seen.contains(one)), "{kind}");
    }
}

#[test]
fn pushes() {
    // Every Push is written in exactly these bytes, and each kind stands here; `message` has a file
    // of its own.
    let mut seen = BTreeSet::new();
    compare("pushes.json", |case| {
        let built = build_push(&case["push"]);
        seen.insert(push_type(&built));
        written(&push(&built))
    });
    assert_eq!(seen, PUSHES.split(' ').collect());
}

#[test]
fn messages() {
    // Every Publication becomes exactly these bytes.
    compare("messages.json", |case| {
        let value = &case["publication"];
        let payload = match value["payload_base64"].as_str() {
            Some(encoded) => STANDARD.decode(encoded).unwrap().into(),
            None => get::<String>(value, "payload").into(),
        };
        let time = Timestamp(get(value, "time_ms"));
        let publication =
            build!(Publication from value: topic, id, user; time, payload, trace: None);
        written(Envelope::new(&publication, cursor(&value["cursor"])).text())
    });
}

#[test]
fn topics() {
    // Every text is a Topic, or is refused for the reason that its case names.
    compare("topics.json", |case| match Topic::parse(text(case, "text")) {
        Ok(topic) if topic.as_str() == text(case, "text") => "legal".into(),
        Ok(topic) => format!("changed into {topic}").into(),
        Err(fault) => name_of(fault),
    });
}

#[test]
fn patterns() {
    // Every Pattern is read and spelled, selects and covers as its case says.
    compare("patterns.json", |case| {
        let pattern = match Pattern::parse(text(case, "pattern")) {
            Ok(pattern) => pattern,
            Err(fault) => return name_of(fault),
        };
        match text(case, "check") {
            "matches" => pattern.matches(&get(case, "topic")).into(),
            "covers" => pattern.covers(&get(case, "other")).into(),
            _ => json!({
                "canonical": pattern.as_str(),
                "wild": pattern.is_wild(),
                "subscribe": Pattern::parse_subscription(text(case, "pattern")).is_ok(),
            }),
        }
    });
}

#[test]
fn errors() {
    // Every code has the numbers of the file, and those of the table in the README: none is missing
    // anywhere, none is one too many.
    let row = |code: Code| {
        let row = code.row();
        let retryable = name_of(row.retry);
        json!({"status": row.status, "close": row.close, "retryable": retryable})
    };
    let library: BTreeMap<_, _> = Code::ALL.map(|code| (code.text().to_owned(), row(code))).into();
    let mut listed = BTreeSet::new();
    compare("errors.json", |case| {
        listed.insert(get(case, "name"));
        library.get(text(case, "name")).cloned().unwrap_or_default()
    });
    assert_eq!(listed, library.keys().cloned().collect());
    let specified = table_of_errors(&read("README.md"));
    for code in library.keys().chain(specified.keys()) {
        assert_eq!(specified.get(code), library.get(code), "{code} in README.md");
    }
}

#[test]
fn closes() {
    // Every Close has this status and exactly this reason; each code that closes a socket is here.
    let mut seen = BTreeSet::new();
    compare("closes.json", |case| {
        let close = build_close(&case["close"]);
        seen.insert(close.text());
        json!({"status": close.status(), "reason": close.reason()})
    });
    let closing = Code::ALL.iter().filter(|code| code.row().close.is_some());
    let own = ["node_ends", "by_peer", "lost", "cut"];
    for text in closing.map(|code| code.text()).chain(own) {
        assert!(seen.contains(text), "{text} is missing in closes.json");
    }
}

#[test]
fn replays() {
    // Subscriptions that overlap get the Offsets of their case, none of them twice, and would go on
    // from its Cursors.
    compare("replays.json", |case| {
        let patterns: Vec<Pattern> = get(case, "subscriptions");
        let mut client = Client::new(patterns);
        for frame in case["frames"].as_array().unwrap() {
            client.take(frame);
        }
        let had = client.subscriptions.iter().map(|one| {
            let had =
                json!({"offsets": one.offsets, "cursor": one.cursor.map(|at| at.to_string())});
            (one.pattern.to_string(), had)
        });
        Value::Object(had.collect())
    });
}

/// A client that tells apart what comes on its sockets.
struct Client {
    subscriptions: Vec<Subscription>,
    /// Of each socket: whose its next Publications are alone, how many, and the place behind them.
    parts: BTreeMap<u64, (usize, u64, Option<Cursor>)>,
}

struct Subscription {
    pattern: Pattern,
    /// The sockets on which it is live.
    live: BTreeSet<u64>,
    /// It has had everything up to here.
    cursor: Option<Cursor>,
    /// That is in a history that is no more: it compares with nothing.
    outdated: bool,
    offsets: Vec<u64>,
}

impl Client {
    fn new(patterns: Vec<Pattern>) -> Self {
        let begin = |pattern| {
            let (live, cursor, offsets) = (BTreeSet::new(), None, Vec::new());
            Subscription { pattern, live, cursor, outdated: false, offsets }
        };
        Self { subscriptions: patterns.into_iter().map(begin).collect(), parts: BTreeMap::new() }
    }

    fn take(&mut self, frame: &Value) {
        let (socket, at) = (frame["socket"].as_u64().unwrap_or(1), cursor(&frame["cursor"]));
        let number =
            |topic| self.subscriptions.iter().position(|one| one.pattern.as_str() == topic);
        let is_another = frame["reason"] == "epoch_changed";
        match text(frame, "type") {
            "subscribed" | "replay" => {
                let number = number(text(frame, "topic")).unwrap();
                let one = &mut self.subscriptions[number];
                one.outdated |= is_another;
                if frame["more"] == false {
                    one.live.insert(socket);
                }
                self.parts.insert(socket, (number, get(frame, "replayed"), at));
            }
            "gap" => {
                let number = number(text(frame, "topic")).unwrap();
                self.subscriptions[number].outdated |= is_another;
            }
            "unsubscribed" => {
                let number = number(text(frame, "topic")).unwrap();
                self.subscriptions[number].live.remove(&socket);
            }
            "message" => match self.parts.get_mut(&socket) {
                Some((number, left, _)) => {
                    *left -= 1;
                    self.subscriptions[*number].hand(at.unwrap());
                }
                None => {
                    let topic: Topic = get(frame, "topic");
                    let matches = |one: &&mut Subscription| one.pattern.matches(&topic);
                    self.live(socket).filter(matches).for_each(|one| one.hand(at.unwrap()));
                }
            },
            "position" => {
                let namespace = text(frame, "namespace");
                let within = |one: &&mut Subscription| one.pattern.namespace() == namespace;
                for one in self.live(socket).filter(within) {
                    one.reach(at.unwrap());
                }
            }
            _ => {}
        }
        // The last of a part has come, if it had any.
        if let Some((number, 0, at)) = self.parts.get(&socket).copied() {
            self.parts.remove(&socket);
            if let Some(at) = at {
                self.subscriptions[number].reach(at);
            }
        }
    }

    fn live(&mut self, socket: u64) -> impl Iterator<Item = &mut Subscription> {
        self.subscriptions.iter_mut().filter(move |one| one.live.contains(&socket))
    }
}

impl Subscription {
    /// Hands over what it has not had.
    fn hand(&mut self, at: Cursor) {
        if self.reach(at) {
            self.offsets.push(at.offset);
        }
    }

    /// It has had everything up to here. Whether that is news.
    fn reach(&mut self, at: Cursor) -> bool {
        let is_news = self.outdated || !self.has_had(at);
        if is_news {
            self.cursor = Some(at);
            self.outdated = false;
        }
        is_news
    }

    /// Offsets of different Epochs have nothing to say about each other; and what has another check
    /// was written anew.
    fn has_had(&self, at: Cursor) -> bool {
        self.cursor.is_some_and(|had| {
            let is_same = had.check.zip(at.check).is_none_or(|(had, at)| had == at);
            let is_before = at.offset < had.offset || at.offset == had.offset && is_same;
            at.epoch == had.epoch && is_before
        })
    }
}

#[test]
fn every_word_on_the_wire_is_specified() {
    // The README names each Command, Reply, Push, code and gap reason between backticks.
    let specification = read("README.md");
    let others = "message history_trimmed bus_interrupted node_ends";
    let lists = [COMMANDS, REPLIES, PUSHES, others].into_iter();
    let words = lists.flat_map(|list| list.split(' '));
    for word in words.chain(Code::ALL.iter().map(|code| code.text())) {
        let marked = format!("`{word}`");
        assert!(specification.contains(&marked), "{marked} is missing");
    }
}

const COMMANDS: &str = "connect subscribe unsubscribe publish history token ping pong presence";
const REPLIES: &str = "connected subscribed unsubscribed published history token pong error";
const PUSHES: &str = "replay gap position unsubscribed bus going_away ping";

/// Whoever adds a Reply adds it to the list above, too.
const fn reply_type(reply: &Reply) -> &'static str {
    match reply {
        Reply::Connected { .. } => "connected",
        Reply::Subscribed { .. } => "subscribed",
        Reply::Unsubscribed { .. } => "unsubscribed",
        Reply::Published { .. } => "published",
        Reply::History { .. } => "history",
        Reply::Token { .. } => "token",
        Reply::Pong { .. } => "pong",
        Reply::Error { .. } => "error",
    }
}

/// Whoever adds a Push adds it to the list above, too.
const fn push_type(push: &Push) -> &'static str {
    match push {
        Push::Replay { .. } => "replay",
        Push::Gap { .. } => "gap",
        Push::Position { .. } => "position",
        Push::Unsubscribed { .. } => "unsubscribed",
        Push::Bus { .. } => "bus",
        Push::GoingAway { .. } => "going_away",
        Push::Ping => "ping",
    }
}

/// Runs every case of a file: what `judge` makes of it must be what it expects.
fn compare(file: &str, mut judge: impl FnMut(&Value) -> Value) {
    let cases: Vec<Value> = serde_json::from_str(&read(&format!("vectors/{file}"))).unwrap();
    let (mut names, mut faults) = (BTreeSet::new(), String::new());
    for case in &cases {
        let (name, expected, got) = (text(case, "name"), &case["expect"], judge(case));
        assert!(names.insert(name), "{file}: {name:?} stands twice");
        if got != *expected {
            faults += &format!("\n  {name}\n    expected {expected}\n    got      {got}");
        }
    }
    assert!(faults.is_empty() && !cases.is_empty(), "{file}:{faults}");
}

fn read(path: &str) -> String {
    let path = format!("{}/proto/{path}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|fault| panic!("{path}: {fault}"))
}

/// A field of a case, as whatever type the place wants.
fn get<T: DeserializeOwned>(of: &Value, field: &str) -> T {
    serde_json::from_value(of[field].clone())
        .unwrap_or_else(|fault| panic!("{field} of {of}: {fault}"))
}

fn text<'a>(of: &'a Value, field: &str) -> &'a str {
    of[field].as_str().unwrap_or_else(|| panic!("{field} of {of}"))
}

fn written(frame: &[u8]) -> Value {
    std::str::from_utf8(frame).unwrap().into()
}

/// A Command in the words of `commands.json`: what the client left out is left out here, too.
fn describe(command: &Command) -> Value {
    let mut fields = match &command.ask {
        Ask::Connect { token, client, heartbeat } => {
            let token = token.as_ref().map(|secret| &secret.0);
            json!({"type": "connect", "token": token, "client": client, "heartbeat": heartbeat})
        }
        Ask::Subscribe(wanted) => {
            json!({"type": "subscribe", "topics": wanted.iter().map(entry).collect::<Value>()})
        }
        Ask::Unsubscribe { topic } => json!({"type": "unsubscribe", "topic": topic}),
        Ask::Publish { topic, payload, key } => {
            let (field, payload) = match std::str::from_utf8(payload) {
                Ok(text) => ("payload", text.to_owned()),
                Err(_) => ("payload_base64", STANDARD.encode(payload)),
            };
            json!({"type": "publish", "topic": topic, field: payload, "key": key})
        }
        Ask::Token { token } => json!({"type": "token", "token": token.0}),
        Ask::History { topic, from, limit } => {
            let from = from.as_ref().map(begin);
            json!({"type": "history", "topic": topic, "from": from, "limit": limit})
        }
        bare @ (Ask::Presence | Ask::Ping | Ask::Pong) => {
            json!({"type": name_of(bare)})
        }
    };
    fields["id"] = json!(command.id);
    let known = fields.as_object_mut().unwrap();
    known.retain(|_, value| !value.is_null());
    fields
}

/// Where to begin, or the error that its Command is answered with.
fn begin(from: &Result<From, Code>) -> Value {
    match from {
        Ok(From::Live) => json!("live"),
        Ok(From::Last) => json!("last"),
        Ok(From::Cursor(cursors)) => {
            let texts: Vec<String> = cursors.iter().map(ToString::to_string).collect();
            json!({"cursor": texts.join(",")})
        }
        Ok(From::LastN(n)) => json!({"last": n}),
        Ok(From::Since(time)) => json!({"since": rfc3339(*time)}),
        Err(code) => json!({"error": code.text()}),
    }
}

/// One Pattern of a `subscribe`.
fn entry(wanted: &Wanted) -> Value {
    let mut entry = json!({"topic": wanted.topic, "from": begin(&wanted.from)});
    if wanted.max_hz {
        entry["max_hz"] = true.into();
    }
    entry
}

fn build_reply(value: &Value) -> Reply {
    let expires_at = get::<Option<u64>>(value, "expires_at").map(Timestamp);
    match text(value, "type") {
        "connected" => {
            let limits = &value["limits"];
            let limits = build!(Limits from limits: message_bytes, subscriptions,
                commands_per_second, outbox_bytes, snapshot_topics);
            build!(Reply::Connected from value: id, connection, node, heartbeat_ms;
                expires_at, limits)
        }
        "subscribed" => build!(Reply::Subscribed from value: id, topic, recovered, replayed, more;
            cursor: cursor(&value["cursor"]), reason: value.get("reason").map(gap_reason)),
        "history" => {
            let items: Vec<String> = get(value, "items");
            build!(Reply::History from value: id, topic; next: cursor(&value["next"]),
                items: items.into_iter().map(Into::into).collect())
        }
        "unsubscribed" => build!(Reply::Unsubscribed from value: id, topic),
        "published" => build!(Reply::Published from value: id, topic, message_id, stored,
            duplicate; cursor: cursor(&value["cursor"])),
        "token" => build!(Reply::Token from value: id; expires_at),
        "pong" => build!(Reply::Pong from value: id),
        "error" => {
            let message = get::<String>(value, "message").into();
            let error = build!(Error from value: retry_after_ms;
                code: code(value), message, keyed: value["keyed"] == true, limit: None);
            build!(Reply::Error from value: id, topic; error)
        }
        other => panic!("{other} is no Reply"),
    }
}

fn build_push(value: &Value) -> Push {
    match text(value, "type") {
        "gap" => {
            build!(Push::Gap from value: topic, missed; reason: gap_reason(&value["reason"]))
        }
        "replay" => build!(Push::Replay from value: topic, replayed, more),
        "position" => {
            let cursor = cursor(&value["cursor"]).unwrap();
            build!(Push::Position from value: namespace; cursor)
        }
        "unsubscribed" => build!(Push::Unsubscribed from value: topic; code: code(value)),
        "bus" => build!(Push::Bus from value: connected),
        "going_away" => build!(Push::GoingAway from value: reconnect_in_ms),
        "ping" => Push::Ping,
        other => panic!("{other} is no Push"),
    }
}

fn build_close(value: &Value) -> Close {
    match (text(value, "kind"), value["what"].as_str()) {
        ("refused", _) => Close::Refused(code(value)),
        ("later", _) => Close::Later(code(value), get(value, "ms")),
        ("framing", Some("protocol")) => Close::Framing(Framing::Protocol),
        ("framing", Some("kind")) => Close::Framing(Framing::Kind),
        ("framing", Some("utf8")) => Close::Framing(Framing::Utf8),
        ("too_big", _) => Close::TooBig(Limit::FrameBytes),
        ("node_ends", _) => Close::NodeEnds,
        ("by_peer", _) => Close::ByPeer(get(value, "peer_status")),
        ("lost", _) => Close::Lost,
        ("cut", _) => Close::Cut,
        other => panic!("{other:?} is no Close"),
    }
}

/// A Cursor, if there is one.
fn cursor(text: &Value) -> Option<Cursor> {
    text.as_str().map(|text| parse(text).unwrap())
}

fn code(of: &Value) -> Code {
    let found = Code::ALL.into_iter().find(|code| of["code"] == code.text());
    found.unwrap_or_else(|| panic!("no code in {of}"))
}

fn gap_reason(name: &Value) -> GapReason {
    use GapReason::{BusInterrupted, EpochChanged, HistoryTrimmed, ReplayLimit};
    let mut all = [HistoryTrimmed, EpochChanged, ReplayLimit, BusInterrupted].into_iter();
    let found = all.find(|reason| json!(reason) == *name);
    found.unwrap_or_else(|| panic!("{name} is no reason"))
}

/// How the vectors spell an enum's variant: `TooLong(201)` is `too_long`.
fn name_of(variant: impl Debug) -> Value {
    let (debug, mut name) = (format!("{variant:?}"), String::new());
    for c in debug.chars().take_while(char::is_ascii_alphabetic) {
        if c.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_lowercase());
    }
    name.into()
}

/// Reads the rows below `| code | HTTP | close | retryable |`: a code between backticks, a number or
/// `-` twice, then a word.
fn table_of_errors(markdown: &str) -> BTreeMap<String, Value> {
    let rows = markdown
        .lines()
        .skip_while(|line| !line.starts_with("| code | HTTP | close | retryable |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let number =
            |cell: usize| (cells[cell] != "-").then(|| cells[cell].parse::<u16>().unwrap());
        let code = cells[1].trim_matches('`').to_owned();
        (code, json!({"status": number(2), "close": number(3), "retryable": cells[4]}))
    })
    .collect()
}
