//! The stream of a kept Namespace: made, changed when the rules change, or only checked.
//!
//! All nodes do it at once when they start, so every step can be done twice. A stream is never made
//! smaller, and one that no node made is never touched. What counts in the end is the configuration
//! that the server *echoes*: older servers take fields that they do not know, and ignore them.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::digest;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::sleep;
use tracing::{info, warn};

use super::request::{AskError, Requests};
use super::subject::Names;
use crate::bus::history::Head;
use crate::namespace::{self, History, REVOKED, Storage};
use crate::publication::{Epoch, Timestamp};
use crate::topic::Pattern;

/// Headers of a message beside its payload, in bytes.
pub(super) const HEADERS_BYTES: usize = 4 << 10;
const ASK: Duration = Duration::from_secs(1);
/// Making a stream needs the agreement of servers.
const MAKE: Duration = Duration::from_secs(5);
/// Nodes that start together make and change the same stream at once.
const ROUNDS_MAX: u32 = 8;
const ROUND_PAUSE: Duration = Duration::from_millis(100);
/// What a node writes on a stream that it made.
const MARK: &str = "tidegate-managed";
const MARK_PREFIX: &str = "tidegate-prefix";

/// Error codes of JetStream.
const NO_STREAM: u64 = 10_059;
const NO_MESSAGE: u64 = 10_037;
const NAME_TAKEN: u64 = 10_058;
const OVERLAPS: u64 = 10_065;
/// With these it is only not ready yet.
const NOT_READY: [u64; 3] = [10_008, 10_004, 10_009];
/// No room, which no waiting gives.
pub(super) const NO_ROOM: [u64; 2] = [10_023, 10_047];

/// What a stream should be.
#[derive(Debug, Clone)]
pub(super) struct Wanted {
    pub(super) namespace: Box<str>,
    pub(super) names: Names,
    pub(super) prefix: Box<str>,
    pub(super) rules: History,
    /// Largest payload.
    pub(super) message_bytes: usize,
}

/// Why there is no such stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum StreamError {
    /// Nobody has said anything about it; asked again, somebody may.
    #[error("JetStream does not answer: {0}")]
    Unavailable(String),
    /// It is not what this Namespace needs, and no waiting helps.
    #[error("{0}")]
    Wrong(String),
    /// There is none such.
    #[error("it does not exist")]
    Missing,
}

/// How a stream stands.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Info {
    /// As the server echoes it.
    pub(super) config: Map<String, Value>,
    created: String,
    state: State,
    #[serde(default)]
    cluster: Option<Cluster>,
}

#[derive(Debug, Clone, Deserialize)]
struct State {
    first_seq: u64,
    #[serde(default)]
    first_ts: String,
    last_seq: u64,
    #[serde(default)]
    last_ts: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Cluster {
    #[serde(default)]
    leader: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ApiError {
    pub(super) code: u16,
    #[serde(default)]
    pub(super) err_code: u64,
    #[serde(default)]
    pub(super) description: String,
}

#[derive(Deserialize)]
struct Failure {
    error: ApiError,
}

impl Info {
    /// Whether who leads the stream has said this.
    fn is_led(&self) -> bool {
        self.cluster
            .as_ref()
            .is_none_or(|one| one.leader.as_deref().is_some_and(|it| !it.is_empty()))
    }

    /// Whether the same server leads the same stream as in this other word of it.
    pub(super) fn is_of_the_same(&self, other: &Self) -> bool {
        let leader = |info: &Self| info.cluster.as_ref().and_then(|one| one.leader.clone());
        self.created == other.created && leader(self) == leader(other)
    }

    /// The last Offset that was given.
    pub(super) const fn last(&self) -> u64 {
        self.state.last_seq
    }

    /// Where its history stands; none if the server writes times in an unknown way.
    pub(super) fn head(&self) -> Option<Head> {
        let State { first_seq, first_ts, last_seq, last_ts } = &self.state;
        Some(Head {
            epoch: self.epoch()?,
            first: (*first_seq).max(1),
            first_time: millis(first_ts),
            last: *last_seq,
            last_time: millis(last_ts),
            messages: self.messages(),
        })
    }

    /// A stream that is made anew has another one.
    fn epoch(&self) -> Option<Epoch> {
        let name = self.config.get("name")?.as_str()?;
        let created = OffsetDateTime::parse(&self.created, &Rfc3339).ok()?;
        let text = format!("{name}\0{}", created.unix_timestamp_nanos());
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        let bits: [u8; 4] = hash.as_ref().get(..4)?.try_into().ok()?;
        Some(Epoch::new(u32::from_be_bytes(bits) >> 2))
    }

    /// Publications of one Topic that are certainly there; the stream keeps one more.
    fn messages(&self) -> u64 {
        let most = self.config.get("max_msgs_per_subject").and_then(Value::as_i64).unwrap_or(-1);
        u64::try_from(most).map_or(u64::MAX, |most| most.saturating_sub(1))
    }

    pub(super) fn is_marked(&self, prefix: &str) -> bool {
        let mark = |key| self.config.get("metadata").and_then(|all| all.get(key)?.as_str());
        mark(MARK) == Some("1") && mark(MARK_PREFIX) == Some(prefix)
    }
}

/// RFC 3339 as milliseconds since 1970; what lies before, or cannot be read, as 0.
pub(super) fn millis(text: &str) -> Timestamp {
    let time = OffsetDateTime::parse(text, &Rfc3339).ok();
    let millis = time.map_or(0, |time| time.unix_timestamp_nanos() / 1_000_000);
    Timestamp(u64::try_from(millis).unwrap_or(0))
}

/// Asks how a stream stands, once, and takes the word of who leads it alone.
pub(super) async fn info(requests: &Requests, names: &Names) -> Result<Info, StreamError> {
    let info: Info = call(requests, &names.info(), Bytes::new(), ASK).await?;
    match info.is_led() {
        true => Ok(info),
        false => Err(StreamError::Unavailable("nobody leads the stream".to_owned())),
    }
}

/// Every subject of a filter that the stream has a message of, as told by who leads it; of very many
/// only the first.
pub(super) async fn subjects(
    requests: &Requests,
    names: &Names,
    filter: &str,
) -> Result<Vec<String>, StreamError> {
    #[derive(Deserialize)]
    struct Told {
        state: Found,
    }
    #[derive(Deserialize)]
    struct Found {
        #[serde(default)]
        subjects: HashMap<String, u64>,
    }
    let question = json!({ "subjects_filter": filter }).to_string();
    let told: Told = call(requests, &names.info(), question.into(), ASK).await?;
    Ok(told.state.subjects.into_keys().collect())
}

/// Asks JetStream something, and reads the answer.
pub(super) async fn call<T: for<'a> Deserialize<'a>>(
    requests: &Requests,
    subject: &str,
    question: Bytes,
    within: Duration,
) -> Result<T, StreamError> {
    let answer = requests.ask(subject, question, within).await.map_err(|why| match why {
        AskError::Refused => {
            StreamError::Wrong(format!("NATS does not allow this user to publish to {subject}"))
        }
        AskError::Nobody => {
            StreamError::Wrong("no server in reach has JetStream, and history needs it".to_owned())
        }
        why => StreamError::Unavailable(format!("{subject}: {why}")),
    })?;
    if let Ok(Failure { error }) = serde_json::from_slice(&answer.payload) {
        return Err(match error.err_code {
            NO_STREAM | NO_MESSAGE => StreamError::Missing,
            code if NOT_READY.contains(&code) => StreamError::Unavailable(error.description),
            code if error.code == 503 && !NO_ROOM.contains(&code) => {
                StreamError::Unavailable(error.description)
            }
            code => StreamError::Wrong(format!("{} ({code})", error.description)),
        });
    }
    serde_json::from_slice(&answer.payload)
        .map_err(|fault| StreamError::Unavailable(format!("{subject}: {fault}")))
}

impl Wanted {
    /// What a Namespace needs, by its rules.
    pub(super) fn new(
        namespace: &str,
        rules: &namespace::Config,
        history: &History,
        names: Names,
        prefix: &str,
    ) -> Self {
        Self {
            namespace: namespace.into(),
            names,
            prefix: prefix.into(),
            rules: history.clone(),
            message_bytes: rules.max_message_bytes,
        }
    }

    /// What is wrong with it, in words that name the setting.
    pub(super) fn fault(&self, why: &StreamError) -> String {
        match &*self.namespace {
            REVOKED => format!("revocations, which any history brings with it: {why}"),
            namespace => format!("namespaces.{namespace}.history: {why}"),
        }
    }

    /// Makes sure that the stream is there and is what the Namespace needs.
    pub(super) async fn provision(&self, requests: &Requests) -> Result<Info, StreamError> {
        for round in 0..ROUNDS_MAX {
            let outcome = match info(requests, &self.names).await {
                Ok(known) => self.bring_up(requests, known).await,
                Err(StreamError::Missing) if self.rules.manage => {
                    self.put(requests, &self.names.create(), Value::Object(self.declaration()))
                        .await
                }
                Err(StreamError::Missing) => Err(self.missing()),
                Err(why) => Err(why),
            };
            match outcome? {
                Some(made) => return self.verify(made),
                // Another node was faster: what it made is looked at.
                None => sleep(ROUND_PAUSE * round).await,
            }
        }
        Err(StreamError::Unavailable("others change the stream all the time".to_owned()))
    }

    /// How it stands, and what is wrong with it; nothing is made or changed.
    pub(super) async fn look(&self, requests: &Requests) -> Result<Option<Info>, StreamError> {
        match info(requests, &self.names).await {
            Ok(known) if self.rules.manage && known.is_marked(&self.prefix) => Ok(Some(known)),
            Ok(known) => self.verify(known).map(Some),
            Err(StreamError::Missing) if self.rules.manage => Ok(None),
            Err(StreamError::Missing) => Err(self.missing()),
            Err(why) => Err(why),
        }
    }

    /// Nobody has made it, and a node must not.
    fn missing(&self) -> StreamError {
        StreamError::Wrong(format!(
            "there is no stream {}, and history.manage is false. Make it so: {}",
            self.names.stream,
            self.command()
        ))
    }

    /// The stream is there. If a node made it, it gets what it lacks.
    async fn bring_up(
        &self,
        requests: &Requests,
        known: Info,
    ) -> Result<Option<Info>, StreamError> {
        if !self.rules.manage || !known.is_marked(&self.prefix) {
            return Ok(Some(known));
        }
        let mut config = known.config.clone();
        for (key, value) in self.declaration() {
            match key.as_str() {
                "storage" | "num_replicas" if known.config.get(&key) != Some(&value) => warn!(
                    nats.stream = %self.names.stream,
                    "The stream stays as it is in {key}, although {value} is configured; change it by \
                     hand: nats stream edit {} --help", self.names.stream
                ),
                "storage" | "num_replicas" => {}
                "max_msgs_per_subject" | "max_age" | "max_bytes" | "max_msg_size"
                    if is_larger(known.config.get(&key), &value) =>
                {
                    info!(
                        nats.stream = %self.names.stream,
                        "The stream keeps more than is configured, and stays so: {key}"
                    );
                }
                _ => drop(config.insert(key, value)),
            }
        }
        if config == known.config {
            return Ok(Some(known));
        }
        self.put(requests, &self.names.update(), Value::Object(config)).await
    }

    /// Makes or changes it; none if another node did meanwhile.
    async fn put(
        &self,
        requests: &Requests,
        subject: &str,
        config: Value,
    ) -> Result<Option<Info>, StreamError> {
        match call(requests, subject, config.to_string().into(), MAKE).await {
            Ok(info) => {
                info!(nats.stream = %self.names.stream, "The stream is as configured");
                Ok(Some(info))
            }
            Err(StreamError::Missing) => Ok(None),
            Err(StreamError::Wrong(why)) if why.contains(&format!("({NAME_TAKEN})")) => Ok(None),
            Err(StreamError::Wrong(why)) if why.contains(&format!("({OVERLAPS})")) => {
                Err(StreamError::Wrong(format!(
                    "{why}: another stream takes {}. Name it in history.stream, with manage: false",
                    self.names.taken
                )))
            }
            Err(why) => Err(why),
        }
    }

    /// What a node makes.
    pub(super) fn declaration(&self) -> Map<String, Value> {
        let History { messages, age, max_bytes, storage, replicas, .. } = &self.rules;
        let nanos = |span: Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let storage = match storage {
            Storage::File => "file",
            Storage::Memory => "memory",
        };
        let declared = json!({
            "name": self.names.stream,
            "subjects": [self.names.taken],
            "retention": "limits",
            "discard": "old",
            "storage": storage,
            "num_replicas": replicas,
            // One more than promised, so that who is one Publication behind the bound has missed none.
            "max_msgs_per_subject": u64::from(*messages) + 1,
            "max_age": nanos(*age),
            "max_bytes": bounded(*max_bytes),
            "max_msg_size": self.message_bytes + HEADERS_BYTES,
            "duplicate_window": nanos(self.rules.duplicate_window()),
            "allow_direct": true,
            "republish": { "src": self.names.taken, "dest": self.names.said },
            "metadata": { MARK: "1", MARK_PREFIX: self.prefix },
        });
        match declared {
            Value::Object(declared) => declared,
            _ => Map::new(),
        }
    }

    /// How an operator makes it.
    fn command(&self) -> String {
        let History { messages, age, max_bytes, replicas, storage, .. } = &self.rules;
        let storage = if *storage == Storage::File { "file" } else { "memory" };
        format!(
            "nats stream add {} --subjects '{}' --republish-source '{}' --republish-destination '{}' \
             --retention limits --discard old --storage {storage} --replicas {replicas} \
             --max-msgs-per-subject {} --max-age {}s --max-bytes {} --max-msg-size {} \
             --dupe-window {}s --allow-direct --defaults",
            self.names.stream,
            self.names.taken,
            self.names.taken,
            self.names.said,
            u64::from(*messages) + 1,
            age.as_secs(),
            bounded(*max_bytes),
            self.message_bytes + HEADERS_BYTES,
            self.rules.duplicate_window().as_secs(),
        )
    }

    /// Checks what the server echoes.
    fn verify(&self, info: Info) -> Result<Info, StreamError> {
        let faults = if self.rules.manage && info.is_marked(&self.prefix) {
            self.ignored(&info.config)
        } else {
            self.unfit(&info.config)
        };
        match faults.as_slice() {
            [] => Ok(info),
            faults => Err(StreamError::Wrong(format!(
                "the stream {} will not do: {}",
                self.names.stream,
                faults.join("; ")
            ))),
        }
    }

    /// What was asked of the server and is not so.
    fn ignored(&self, config: &Map<String, Value>) -> Vec<String> {
        let declared = self.declaration();
        let wrong = declared.iter().filter(|(key, value)| match key.as_str() {
            "storage" | "num_replicas" => false,
            "max_msgs_per_subject" | "max_age" | "max_bytes" | "max_msg_size" => {
                config.get(*key) != Some(value) && !is_larger(config.get(*key), value)
            }
            // Servers add marks of their own.
            "metadata" => false,
            // It is bound to an age that may be larger than ours.
            "duplicate_window" => config.get(*key).is_none(),
            _ => config.get(*key) != Some(value),
        });
        wrong
            .map(|(key, value)| {
                format!("{key} should be {value}, the server says {:?}", config.get(key))
            })
            .collect()
    }

    /// What is wrong with a stream that no node made.
    fn unfit(&self, config: &Map<String, Value>) -> Vec<String> {
        let text = |key: &str| config.get(key).and_then(Value::as_str);
        let mut faults = Vec::new();
        let mut say = |what: &str| faults.push(what.to_owned());
        if text("retention") != Some("limits") {
            say("retention must be limits");
        }
        if config.get("allow_direct") != Some(&Value::Bool(true)) {
            say("allow_direct must be on");
        }
        if config.contains_key("mirror") {
            say("it must be no mirror");
        }
        let subjects: Vec<&str> = match config.get("subjects").and_then(Value::as_array) {
            Some(all) => all.iter().filter_map(Value::as_str).collect(),
            None => Vec::new(),
        };
        let covers = |wide: &str, narrow: &str| match (Pattern::parse(wide), Pattern::parse(narrow))
        {
            (Ok(wide), Ok(narrow)) => wide.covers(&narrow),
            _ => wide == ">" || wide == narrow,
        };
        if !subjects.iter().any(|all| covers(all, &self.names.taken)) {
            say(&format!("its subjects must take {}", self.names.taken));
        }
        let Some(republish) = config.get("republish") else {
            let (from, to) = (&self.names.taken, &self.names.said);
            say(&format!("it must republish {from} to {to}"));
            return faults;
        };
        let part = |key: &str| republish.get(key).and_then(Value::as_str).unwrap_or_default();
        // Servers write "all of it" as nothing.
        let source = Some(part("src")).filter(|src| !src.is_empty()).unwrap_or(">");
        // What is stored and not said again would be a hole in every Feed.
        if let Some(beyond) = subjects.iter().find(|subject| !covers(source, subject)) {
            say(&format!("it republishes {source} alone, and not {beyond}"));
        }
        match self.names.said_of(source) {
            Some(said) if said == part("dest") => {}
            Some(said) => say(&format!("what it republishes must go to {said}")),
            None => say(&format!("it must republish {}", self.names.taken)),
        }
        if republish.get("headers_only") == Some(&Value::Bool(true)) {
            say("it must republish more than headers");
        }
        faults
    }
}

/// A bound as JetStream writes it; -1 is none.
fn bounded(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(-1)
}

/// Whether a bound that is there is wider than the one that is wanted; -1 is none at all.
fn is_larger(there: Option<&Value>, wanted: &Value) -> bool {
    match (there.and_then(Value::as_i64), wanted.as_i64()) {
        (Some(there), Some(wanted)) => wanted > 0 && (there <= 0 || there > wanted),
        _ => false,
    }
}
