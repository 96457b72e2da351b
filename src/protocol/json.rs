//! `tidegate.v1.json`: Frames as text, one JSON object each.
//!
//! Reading is strict about what is known (a field twice, of the wrong type or length) and deaf to
//! what is not, since a client may be newer than the node. An error never repeats what it read: a
//! Token may stand there.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{self, Deserializer, IgnoredAny, Visitor};
use serde::ser::{SerializeStruct, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use time::OffsetDateTime;
use time::format_description::FormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

use super::cursor;
use super::error::{Code, Error};
use super::frame::{Ask, Command, From, Heartbeat, Id, Push, Reply, Secret, Wanted};
use super::limit::Limit;
use crate::publication::Timestamp;

/// Deepest nesting of a Command, not counting what stands in `data`.
pub const DEPTH_MAX: usize = 32;
/// Longest `client` text, in bytes.
pub const CLIENT_BYTES_MAX: usize = 128;
/// Most entries of one `subscribe`.
pub const TOPICS_MAX: usize = 128;
/// Longest idempotency key, in bytes.
pub const KEY_BYTES_MAX: usize = 128;
/// Publications of a page of history, unless its `limit` says otherwise.
const HISTORY_ITEMS: u16 = 100;
/// Most that a `limit` may say.
pub const HISTORY_ITEMS_MAX: u16 = 1_000;
/// Most of the last Publications that a `from` may say.
pub const LAST_MAX: u16 = 1_000;
const NUMBER_MAX: u64 = (1 << 53) - 1;
const ID_BYTES_MAX: usize = 64;

/// Why a text is no Command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadMessage {
    /// The `id`, if that much could be read.
    pub id: Option<Id>,
    /// In words.
    pub what: String,
    /// The bound that it is over, if that is why.
    pub limit: Option<Limit>,
}

/// Reads a Command.
pub fn decode(text: &str) -> Result<Command, BadMessage> {
    read(text).map_err(|Fault { what, limit }| BadMessage { id: read_id(text), what, limit })
}

/// The same without the `id`.
struct Fault {
    what: String,
    limit: Option<Limit>,
}

impl std::convert::From<String> for Fault {
    fn from(what: String) -> Self {
        Self { what, limit: None }
    }
}

fn read(text: &str) -> Result<Command, Fault> {
    // serde reads a list as the fields of a struct in their order; the protocol does not.
    if !is_object(text) {
        return Err("it is not a JSON object".to_owned().into());
    }
    let fields: Fields<'_> = serde_json::from_str(text).map_err(|fault| words(&fault))?;
    fields.command(text)
}

/// The `id` of a Command that cannot be read otherwise, so that whoever waits for it hears of it.
fn read_id(text: &str) -> Option<Id> {
    #[derive(Deserialize)]
    struct Only {
        #[serde(default)]
        id: Option<Id>,
    }
    is_object(text).then(|| serde_json::from_str::<Only>(text).ok()?.id)?
}

fn is_object(text: &str) -> bool {
    text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{')
}

/// Writes a Reply.
#[must_use]
pub fn reply(reply: &Reply) -> Bytes {
    encode(reply)
}

/// Writes a Push.
#[must_use]
pub fn push(push: &Push) -> Bytes {
    encode(push)
}

fn encode(frame: &impl Serialize) -> Bytes {
    // Our own types have neither maps with odd keys nor failing parts, so this cannot fail; if it
    // ever does, an empty frame is a bug that every client sees, not a panic of the node.
    serde_json::to_vec(frame).unwrap_or_default().into()
}

/// Every field that any Command knows. serde refuses one that comes twice.
#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct Fields<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, deserialize_with = "present")]
    id: Option<Id>,
    #[serde(default, deserialize_with = "present")]
    token: Option<String>,
    #[serde(default, deserialize_with = "present")]
    client: Option<String>,
    #[serde(default, deserialize_with = "present")]
    heartbeat: Option<String>,
    #[serde(default, deserialize_with = "present")]
    topic: Option<String>,
    #[serde(default, deserialize_with = "present")]
    #[serde(borrow)]
    topics: Option<Vec<&'a RawValue>>,
    #[serde(default, borrow, deserialize_with = "present")]
    from: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "present")]
    max_hz: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(default, deserialize_with = "present")]
    data_base64: Option<String>,
    #[serde(default, deserialize_with = "present")]
    deleted: Option<bool>,
    #[serde(default, deserialize_with = "present")]
    key: Option<String>,
    #[serde(default, deserialize_with = "present")]
    limit: Option<u64>,
}

/// One entry of `topics`.
#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct Entry<'a> {
    topic: String,
    #[serde(default, borrow, deserialize_with = "present")]
    from: Option<&'a RawValue>,
    #[serde(default, borrow, deserialize_with = "present")]
    max_hz: Option<&'a RawValue>,
}

impl Entry<'_> {
    fn wanted(self) -> Wanted {
        Wanted {
            topic: self.topic,
            from: self.from.map_or(Ok(From::Live), read_from),
            max_hz: self.max_hz.is_some(),
        }
    }
}

impl Fields<'_> {
    fn command(self, text: &str) -> Result<Command, Fault> {
        if depth(text, self.data.map(RawValue::get)) > DEPTH_MAX {
            let what = format!("it is nested deeper than {DEPTH_MAX} levels");
            return Err(Fault { what, limit: Some(Limit::JsonDepth) });
        }
        let ask = match self.kind.as_str() {
            "connect" => Ask::Connect {
                token: self.token.map(|token| Secret(token.into())),
                client: self.client.map(client).transpose()?,
                heartbeat: self.heartbeat.as_deref().map(heartbeat).transpose()?,
            },
            "subscribe" => Ask::Subscribe(wanted(self.topic, self.from, self.max_hz, self.topics)?),
            "unsubscribe" => Ask::Unsubscribe { topic: needed(self.topic, "topic")? },
            "publish" => Ask::Publish {
                payload: payload(self.data, self.data_base64.as_deref(), self.deleted)?,
                topic: needed(self.topic, "topic")?,
                key: self.key.map(key).transpose()?,
            },
            "token" => Ask::Token { token: Secret(needed(self.token, "token")?.into()) },
            "history" => Ask::History {
                topic: needed(self.topic, "topic")?,
                from: self.from.map(read_from),
                limit: limit(self.limit)?,
            },
            "presence" => Ask::Presence,
            "ping" => Ask::Ping,
            "pong" => Ask::Pong,
            _ => return Err("its type is not known".to_owned().into()),
        };
        Ok(Command { id: self.id, ask })
    }
}

fn wanted(
    topic: Option<String>,
    from: Option<&RawValue>,
    max_hz: Option<&RawValue>,
    topics: Option<Vec<&RawValue>>,
) -> Result<Vec<Wanted>, String> {
    match (topic, topics) {
        (Some(topic), None) => Ok(vec![Entry { topic, from, max_hz }.wanted()]),
        (None, Some(_)) if from.is_some() || max_hz.is_some() => {
            Err("beside topics, from and max_hz stand in its entries".to_owned())
        }
        (None, Some(topics)) if topics.is_empty() || topics.len() > TOPICS_MAX => {
            Err(format!("topics holds {} entries, 1 to {TOPICS_MAX} are allowed", topics.len()))
        }
        (None, Some(topics)) => topics.into_iter().map(entry).collect(),
        _ => Err("it needs either topic or topics".to_owned()),
    }
}

fn entry(raw: &RawValue) -> Result<Wanted, String> {
    let entry = is_object(raw.get()).then(|| serde_json::from_str::<Entry<'_>>(raw.get()).ok());
    let entry = entry.flatten().ok_or("an entry of topics is no {topic, from?}")?;
    Ok(entry.wanted())
}

/// Reads the payload of a publish: exactly one of the three fields.
pub fn payload(
    data: Option<&RawValue>,
    data_base64: Option<&str>,
    deleted: Option<bool>,
) -> Result<Bytes, String> {
    match (data, data_base64, deleted) {
        (Some(data), None, None) => Ok(Bytes::copy_from_slice(data.get().as_bytes())),
        (None, Some(text), None) => match STANDARD.decode(text) {
            Ok(bytes) if bytes.is_empty() => {
                Err("data_base64 is empty: to delete, say deleted".to_owned())
            }
            Ok(bytes) => Ok(bytes.into()),
            Err(_) => Err("data_base64 is not standard base64 with padding".to_owned()),
        },
        (None, None, Some(true)) => Ok(Bytes::new()),
        _ => Err("it needs exactly one of data, data_base64 and deleted: true".to_owned()),
    }
}

/// Reads an idempotency key.
pub fn key(text: String) -> Result<Box<str>, String> {
    if (1..=KEY_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| (0x20..0x7f).contains(&b))
    {
        Ok(text.into())
    } else {
        Err(format!("a key is 1 to {KEY_BYTES_MAX} printable ASCII characters"))
    }
}

/// Reads `client`, in a Command or in the handshake's query.
pub fn client(text: String) -> Result<Box<str>, String> {
    if text.is_empty() || text.len() > CLIENT_BYTES_MAX {
        return Err(format!("client is 1 to {CLIENT_BYTES_MAX} bytes"));
    }
    Ok(text.into())
}

/// Reads `heartbeat`, in a Command or in the handshake's query.
pub fn heartbeat(text: &str) -> Result<Heartbeat, String> {
    match text {
        "frame" => Ok(Heartbeat::Frame),
        "message" => Ok(Heartbeat::Message),
        _ => Err("heartbeat is \"frame\" or \"message\"".to_owned()),
    }
}

fn needed(field: Option<String>, name: &str) -> Result<String, String> {
    field.ok_or_else(|| format!("it needs {name}"))
}

/// Reads the `limit` of a page of history.
pub fn limit(limit: Option<u64>) -> Result<u16, String> {
    match limit.map_or(Ok(HISTORY_ITEMS), u16::try_from) {
        Ok(limit @ 1..=HISTORY_ITEMS_MAX) => Ok(limit),
        Ok(_) | Err(_) => Err(format!("limit is 1 to {HISTORY_ITEMS_MAX}")),
    }
}

/// Reads the one Cursor of a Command, or those that a request lists.
pub fn cursors(text: &str) -> Result<From, Code> {
    cursor::parse_list(text).map(|all| From::Cursor(all.into())).ok_or(Code::InvalidCursor)
}

/// Reads a time as clients write it.
pub fn since(text: &str) -> Result<From, Code> {
    let moment = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| Code::InvalidFrom)?;
    let ms = moment.unix_timestamp_nanos().div_euclid(1_000_000);
    // Whatever was before 1970 is everything.
    Ok(From::Since(Timestamp(u64::try_from(ms.max(0)).unwrap_or(u64::MAX))))
}

/// Reads how many of the last Publications are wanted.
pub const fn last(n: u16) -> Result<From, Code> {
    match n {
        1..=LAST_MAX => Ok(From::LastN(n)),
        _ => Err(Code::InvalidFrom),
    }
}

fn read_from(raw: &RawValue) -> Result<From, Code> {
    from(raw).unwrap_or(Err(Code::InvalidFrom))
}

/// None for what has not the shape of a `from`.
fn from(raw: &RawValue) -> Option<Result<From, Code>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Shape {
        #[serde(default, deserialize_with = "present")]
        cursor: Option<Box<str>>,
        #[serde(default, deserialize_with = "present")]
        last: Option<u16>,
        #[serde(default, deserialize_with = "present")]
        since: Option<Box<str>>,
    }
    if !is_object(raw.get()) {
        return match serde_json::from_str::<String>(raw.get()).ok()?.as_str() {
            "live" => Some(Ok(From::Live)),
            "last" => Some(Ok(From::Last)),
            _ => None,
        };
    }
    let shape: Shape = serde_json::from_str(raw.get()).ok()?;
    match (shape.cursor, shape.last, shape.since) {
        (Some(text), None, None) => {
            let cursor = cursor::parse(&text).ok_or(Code::InvalidCursor);
            Some(cursor.map(|cursor| From::Cursor([cursor].into())))
        }
        (None, Some(n), None) => Some(last(n)),
        (None, None, Some(since)) => Some(self::since(&since)),
        _ => None,
    }
}

/// How deep a JSON text nests, with one span of it left out.
fn depth(text: &str, without: Option<&str>) -> usize {
    let skip = without.map_or(0..0, |part| {
        let start = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
        start..start + part.len()
    });
    let (mut depth, mut deepest) = (0_usize, 0);
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if skip.contains(&at) => {}
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !quoted => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// What is wrong, in our own words: serde's may quote what it read.
fn words(fault: &serde_json::Error) -> String {
    use serde_json::error::Category;
    let kind = match fault.classify() {
        Category::Syntax => "it is not valid JSON",
        Category::Eof => "the JSON ends too early",
        Category::Data => "a known field is missing, doubled or of the wrong type",
        Category::Io => "it could not be read",
    };
    format!("{kind} (line {}, column {})", fault.line(), fault.column())
}

/// A field that, if it is there, must hold a value of its type: `null` is none.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Id;
            fn expecting(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                out.write_str("1-64 bytes of text, or an integer from 0 to 2^53-1")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Id, E> {
                if (1..=ID_BYTES_MAX).contains(&text.len()) {
                    Ok(Id::Text(text.into()))
                } else {
                    Err(E::invalid_length(text.len(), &self))
                }
            }
            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Id, E> {
                if number <= NUMBER_MAX {
                    Ok(Id::Number(number))
                } else {
                    Err(E::custom("too large"))
                }
            }
        }
        from.deserialize_any(Reader)
    }
}

/// Whether a text is one JSON value.
#[must_use]
pub fn is_valid(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

const RFC3339_MS: &[FormatItem<'static>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// A time as the protocol writes it: RFC 3339, UTC, milliseconds.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0) * 1_000_000)
        .ok()
        .and_then(|moment| moment.format(RFC3339_MS).ok())
        // Past the year 9999: no clock of ours shows that.
        .unwrap_or_else(|| "9999-12-31T23:59:59.999Z".to_owned())
}

pub(super) fn time<S: Serializer>(at: &Option<Timestamp>, out: S) -> Result<S::Ok, S::Error> {
    match at {
        Some(at) => out.serialize_str(&rfc3339(*at)),
        None => out.serialize_none(),
    }
}

/// Texts that are JSON already.
pub(super) fn items<S: Serializer>(items: &[Bytes], out: S) -> Result<S::Ok, S::Error> {
    let raw = |item: &Bytes| RawValue::from_string(String::from_utf8_lossy(item).into_owned()).ok();
    out.collect_seq(items.iter().filter_map(raw))
}

pub(super) fn code<S: Serializer>(code: &Code, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(code.text())
}

pub(super) fn error<S: Serializer>(
    id: &Option<Id>,
    topic: &Option<Box<str>>,
    error: &Error,
    out: S,
) -> Result<S::Ok, S::Error> {
    let fields = 3
        + usize::from(id.is_some())
        + usize::from(topic.is_some())
        + usize::from(error.retry_after_ms.is_some());
    let mut frame = out.serialize_struct("error", fields)?;
    if let Some(id) = id {
        frame.serialize_field("id", id)?;
    }
    if let Some(topic) = topic {
        frame.serialize_field("topic", topic)?;
    }
    frame.serialize_field("code", error.code.text())?;
    frame.serialize_field("message", &error.message)?;
    frame.serialize_field("retryable", &error.retryable())?;
    if let Some(ms) = error.retry_after_ms {
        frame.serialize_field("retry_after_ms", &ms)?;
    }
    frame.end()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        decode(text).unwrap_err().what
    }

    #[test]
    fn null_is_a_payload_and_no_other_value() {
        let command = decode(r#"{"type":"publish","topic":"a","data":null}"#).unwrap();
        assert!(matches!(command.ask, Ask::Publish { payload, .. } if payload == "null"));
        assert!(fault(r#"{"type":"ping","id":null}"#).contains("wrong type"));
    }

    #[test]
    fn depth_is_counted_outside_data() {
        let deep = "[".repeat(100) + &"]".repeat(100);
        assert!(decode(&format!(r#"{{"type":"publish","topic":"a","data":{deep}}}"#)).is_ok());
        assert!(fault(&format!(r#"{{"type":"ping","x":{deep}}}"#)).contains("deeper"));
        let brackets = format!(r#"{{"type":"ping","x":"{}"}}"#, "[".repeat(100));
        assert!(decode(&brackets).is_ok());
    }

    #[test]
    fn ids_hold_at_their_bounds() {
        assert!(decode(r#"{"type":"ping","id":9007199254740991}"#).is_ok());
        for bad in ["9007199254740992", "-1", "1.0", "\"\"", "true", "[1]"] {
            let text = format!(r#"{{"type":"ping","id":{bad}}}"#);
            assert!(decode(&text).is_err(), "{bad}");
        }
        assert!(decode(&format!(r#"{{"type":"ping","id":"{}"}}"#, "x".repeat(64))).is_ok());
        assert!(decode(&format!(r#"{{"type":"ping","id":"{}"}}"#, "x".repeat(65))).is_err());
    }

    #[test]
    fn a_fault_repeats_nothing_that_it_read() {
        for text in [r#"{"type":"ping","deleted":"canary"}"#, r#"{"type":"canary"}"#, "canary"] {
            assert!(!fault(text).contains("canary"), "{text}");
        }
    }

    #[test]
    fn times_have_three_digits_of_a_second() {
        assert_eq!(rfc3339(Timestamp(1_795_000_000_120)), "2026-11-18T11:06:40.120Z");
    }
}
