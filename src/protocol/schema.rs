//! What clients and nodes say to each other, as JSON Schema.
//!
//! Both documents that a node serves of itself stand on these. What serde writes has its schema from
//! its type; what is read or written by hand has one here, and golden Frames are held against each.
//! Nothing of this is in the program: a test makes the documents, and they are committed.
//!
//! LAW: a schema keeps to what drafts 7 and 2020-12 of JSON Schema both know, as OpenAPI reads it by
//! the one and AsyncAPI by the other.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::envelope::Head;
use super::json::{CLIENT_BYTES_MAX, HISTORY_ITEMS_MAX, KEY_BYTES_MAX, LAST_MAX, TOPICS_MAX};
use super::{Close, Code, Command, Envelope, Error, From, GapReason, Push, Reply};
use crate::publication::{Cursor, Timestamp};
use crate::topic::{Pattern, Topic};

/// Where both documents have them.
pub(crate) const PLACE: &str = "/components/schemas";
/// One segment of a Topic; the first one begins with no `_`.
const SEGMENT: &str = "[A-Za-z0-9_=:@~,!-]{1,64}";
const FIRST: &str = "[A-Za-z0-9=:@~,!-][A-Za-z0-9_=:@~,!-]{0,63}";
/// Whole groups, padding, and no bits behind the last byte.
const BASE64: &str =
    "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/][AQgw]==|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=)?$";

/// What collects schemas by their names.
pub(crate) fn generator() -> SchemaGenerator {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
        settings.definitions_path = PLACE.into();
        settings.meta_schema = None;
    });
    settings.with_transform(RecursiveTransform(never_null)).into_generator()
}

/// All that were asked for, and all that these need, by their names; an enum of Frames is a choice
/// between schemas of their own.
pub(crate) fn collected(mut generator: SchemaGenerator) -> Map<String, Value> {
    let mut all = generator.take_definitions(true);
    for frames in ["Command", "Reply", "Push"] {
        split(&mut all, frames);
    }
    all
}

/// The schemas of all Frames.
pub(crate) fn frames() -> Map<String, Value> {
    let mut generator = generator();
    generator.subschema_for::<Command>();
    generator.subschema_for::<Reply>();
    generator.subschema_for::<Push>();
    generator.subschema_for::<Envelope>();
    generator.subschema_for::<Close>();
    generator.subschema_for::<LastLine>();
    collected(generator)
}

/// Where a schema is.
pub(crate) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#{PLACE}/{name}")})
}

/// An absent field is left out, and is never `null`.
fn never_null(schema: &mut Schema) {
    let required = schema.get("required").cloned().unwrap_or_default();
    let required = |name: &String| {
        required.as_array().is_some_and(|all| all.iter().any(|one| *one == name.as_str()))
    };
    let Some(Value::Object(properties)) = schema.get_mut("properties") else {
        return;
    };
    for (_, property) in properties.iter_mut().filter(|(name, _)| !required(name)) {
        let Some(property) = property.as_object_mut() else {
            continue;
        };
        if let Some(Value::Array(kinds)) = property.get_mut("type") {
            kinds.retain(|kind| kind != "null");
            if let [only] = kinds.as_slice() {
                let only = only.clone();
                property.insert("type".to_owned(), only);
            }
        }
        if let Some(Value::Array(choice)) = property.get_mut("anyOf") {
            choice.retain(|one| one["type"] != "null");
            if let [only] = choice.as_slice() {
                let only = only.as_object().cloned().unwrap_or_default();
                property.remove("anyOf");
                property.extend(only);
            }
        }
    }
}

/// Gives each Frame of an enum its own name, such as `GapPush`.
fn split(all: &mut Map<String, Value>, frames: &str) {
    let Some(Value::Array(each)) = all.get_mut(frames).map(|choice| choice["oneOf"].take()) else {
        return;
    };
    let mut choice = Vec::new();
    for frame in each {
        let kind = frame["properties"]["type"]["const"].as_str().expect("a type").to_owned();
        let name: String = kind.split('_').map(capital).collect();
        choice.push(reference(&format!("{name}{frames}")));
        all.insert(format!("{name}{frames}"), frame);
    }
    all[frames]["oneOf"] = choice.into();
}

fn capital(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_uppercase() + rest
}

/// A text of which more may come: who reads it must survive what it does not know.
fn open(words: impl Iterator<Item = &'static str>, what: &str) -> Schema {
    let known: Vec<_> = words.collect();
    json_schema!({
        "description": what,
        "anyOf": [{"enum": known}, {"type": "string", "pattern": "^[a-z][a-z0-9_]*$"}],
    })
}

/// A schema that stands under a name.
macro_rules! named {
    ($($kind:ty, $name:literal: |$generator:pat_param| $schema:expr;)*) => {$(
        impl JsonSchema for $kind {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema($generator: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )*};
}

named! {
    Topic, "Topic": |_| json_schema!({
        "description": "A dotted name that is published to: 1-16 segments of 1-64 characters.",
        "type": "string",
        "maxLength": 200,
        "pattern": format!("^{FIRST}(\\.{SEGMENT}){{0,15}}$"),
        "examples": ["dash.orders.eu"],
    });
    Pattern, "Pattern": |_| json_schema!({
        "description": "A topic in which a segment may be `*`, and the last one `>` (in a URL `**`): \
                        any one, and any one or more. Answers always say `>`.",
        "type": "string",
        "maxLength": 200,
        "pattern": format!(
            "^({FIRST}|\\*)(\\.({SEGMENT}|\\*)){{0,14}}(\\.({SEGMENT}|\\*|>|\\*\\*))?$|^(>|\\*\\*)$"
        ),
        "examples": ["dash.>"],
    });
    Cursor, "Cursor": |_| json_schema!({
        "description": "Epoch and offset: everything up to here has come. Send it back as it came.",
        "type": "string",
        "maxLength": 28,
        "pattern": "^[a-z2-7]{6}-(0|[1-9a-f][0-9a-f]{0,15})(-[0-9a-f]{4})?$",
        "examples": ["k3f7qa-1e7-77d0"],
    });
    Timestamp, "Time": |_| json_schema!({
        "description": "RFC 3339, in UTC, with milliseconds.",
        "type": "string",
        "format": "date-time",
        "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}Z$",
        "examples": ["2026-11-22T10:00:00.123Z"],
    });
    Code, "Code": |_| open(
        Self::ALL.into_iter().map(Self::text),
        "What went wrong. More may come: go by `retryable` or `retry` for one that you do not know.",
    );
    GapReason, "GapReason": |_| open(
        Self::ALL.into_iter().map(|(_, word)| word),
        "How something came to be missing. More may come.",
    );
    Envelope, "Message": |generator| {
        let mut schema = Head::json_schema(generator);
        schema.insert(
            "description".to_owned(),
            "A publication; the same bytes for everybody who gets it.".into(),
        );
        schema.insert("oneOf".to_owned(), one_payload());
        let properties = schema.get_mut("properties").and_then(Value::as_object_mut);
        let properties = properties.expect("fields");
        properties.insert("type".to_owned(), json!({"type": "string", "const": "message"}));
        properties.extend(payload());
        schema
    };
    From, "From": |generator| json_schema!({
        "description": "Where to begin.",
        "oneOf": [
            {"const": "live", "description": "With what is published from now on."},
            {"const": "last", "description": "With the newest value of each topic."},
            only("cursor", "After this place.", &generator.subschema_for::<Cursor>().into()),
            only("last", "With the last so many of a topic.", &last()),
            only("since", "With what was stored at that time or later.", &since()),
        ],
    });
    Close, "CloseReason": |generator| json_schema!({
        "description": "The reason of a close, which decides.",
        "type": "object",
        "required": ["code", "retry"],
        "properties": {
            "code": generator.subschema_for::<Code>(),
            "retry": {"description": "Whether coming back can help.", "type": "boolean"},
            "ms": {
                "description": "Come back after so many milliseconds.",
                "type": "integer",
                "minimum": 0,
            },
        },
    });
    LastLine, "CloseLine": |generator| {
        let mut schema = Value::from(Close::json_schema(generator));
        schema["description"] = "The last line of a stream that the node ends.".into();
        schema["required"] = json!(["type", "code", "retry"]);
        schema["properties"]["type"] = json!({"type": "string", "const": "close"});
        Schema::try_from(schema).expect("a schema")
    };
    Command, "Command": |generator| json_schema!({
        "description": "What a client asks. Fields that are not known are ignored; those that are must \
                        be right, also where a command has no use for them.",
        "type": "object",
        "oneOf": commands(generator),
        "properties": {
            "topic": {"type": "string"},
            "topics": {"type": "array"},
            "token": {"type": "string"},
            "client": {"type": "string"},
            "heartbeat": {"type": "string"},
            "data_base64": {"type": "string"},
            "deleted": {"type": "boolean"},
            "key": {"type": "string"},
            "limit": {"type": "integer", "minimum": 0},
        },
    });
}

/// How a stream of lines ends, as `protocol::stream` writes it.
pub(crate) struct LastLine;

/// An error as `json::error` writes it.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it stands for the fields of a Reply")]
pub(super) struct Refused {
    /// Of the refused Command.
    #[schemars(skip_serializing_if = "Option::is_none")]
    id: Option<super::Id>,
    /// Which of its patterns, as the client wrote it, or with `>`.
    #[schemars(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    code: Code,
    /// For developers.
    message: String,
    /// Whether the same can succeed later.
    retryable: bool,
    /// When, if that is known.
    #[schemars(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

/// The three fields of a payload.
pub(crate) fn payload() -> Map<String, Value> {
    let fields = json!({
        "data": {"description": "Any JSON value."},
        "data_base64": {
            "description": "Bytes that are no text: standard base64 with padding.",
            "type": "string",
            "contentEncoding": "base64",
            "minLength": 1,
            "pattern": BASE64,
        },
        "deleted": {"description": "The topic has no value any more.", "const": true},
    });
    fields.as_object().cloned().unwrap_or_default()
}

/// Exactly one of them.
pub(crate) fn one_payload() -> Value {
    json!([{"required": ["data"]}, {"required": ["data_base64"]}, {"required": ["deleted"]}])
}

/// An idempotency key.
pub(crate) fn key() -> Value {
    json!({
        "description": "An idempotency key: repeating with the same one is recognised.",
        "type": "string",
        "minLength": 1,
        "maxLength": KEY_BYTES_MAX,
        "pattern": "^[ -~]*$",
    })
}

/// How many of the last.
pub(crate) fn last() -> Value {
    json!({"type": "integer", "minimum": 1, "maximum": LAST_MAX})
}

/// A time as clients may write it.
pub(crate) fn since() -> Value {
    json!({"type": "string", "format": "date-time"})
}

/// Most items of a page.
pub(crate) fn limit() -> Value {
    json!({"type": "integer", "minimum": 1, "maximum": HISTORY_ITEMS_MAX, "default": 100})
}

/// Who speaks.
pub(crate) fn client() -> Value {
    json!({
        "description": "Name and version of the client library.",
        "type": "string",
        "minLength": 1,
        "maxLength": CLIENT_BYTES_MAX,
        "examples": ["tidegate-js/0.1.0"],
    })
}

/// How the node shows life.
pub(crate) fn heartbeat() -> Value {
    json!({"type": "string", "enum": ["frame", "message"], "default": "frame"})
}

/// An object with one field and no other.
fn only(field: &str, what: &str, schema: &Value) -> Value {
    json!({
        "type": "object",
        "description": what,
        "required": [field],
        "properties": {field: schema},
        "additionalProperties": false,
    })
}

/// The Commands, as `json::decode` reads them.
fn commands(generator: &mut SchemaGenerator) -> Vec<Value> {
    let id = Value::from(generator.subschema_for::<super::Id>());
    let topic = Value::from(generator.subschema_for::<Topic>());
    let pattern = Value::from(generator.subschema_for::<Pattern>());
    let from = Value::from(generator.subschema_for::<From>());
    let token = json!({"description": "A token (JWT).", "type": "string"});
    let command = |kind: &str, what: &str, required: &[&str], fields: Value| {
        let mut properties = fields.as_object().cloned().unwrap_or_default();
        properties.insert("type".to_owned(), json!({"type": "string", "const": kind}));
        properties.insert("id".to_owned(), id.clone());
        let required = [&["type"][..], required].concat();
        json!({
            "type": "object",
            "description": what,
            "required": required,
            "properties": properties,
        })
    };
    let mut subscribe = command(
        "subscribe",
        "Wants one pattern, or many.",
        &[],
        json!({
            "topic": pattern,
            "from": from,
            "topics": {
                "type": "array",
                "minItems": 1,
                "maxItems": TOPICS_MAX,
                "items": {
                    "type": "object",
                    "required": ["topic"],
                    "properties": {"topic": pattern, "from": from},
                },
            },
        }),
    );
    subscribe["oneOf"] = json!([
        {"required": ["topic"]},
        {"required": ["topics"], "properties": {"from": false, "max_hz": false}},
    ]);
    let mut fields = payload();
    fields.insert("topic".to_owned(), topic.clone());
    fields.insert("key".to_owned(), key());
    let mut publish = command("publish", "Sends a publication.", &["topic"], fields.into());
    publish["oneOf"] = one_payload();
    let history = json!({"topic": topic, "from": from, "limit": limit()});
    vec![
        command(
            "connect",
            "Introduces the client; the first command, if the handshake brought no token.",
            &[],
            json!({"token": token, "client": client(), "heartbeat": heartbeat()}),
        ),
        subscribe,
        command("unsubscribe", "Ends a subscription.", &["topic"], json!({"topic": pattern})),
        publish,
        command("history", "Reads a page of a topic's history.", &["topic"], history),
        command("token", "Renews the token.", &["token"], json!({"token": token})),
        command("ping", "Asks for a sign of life.", &[], json!({})),
        command("pong", "Answers the push `ping`.", &[], json!({})),
    ]
}

/// The schema of a refusal knows each field that an Error has.
#[test]
fn a_refusal_has_the_fields_of_an_error() {
    let error = Error::new(Code::Overloaded, "full").after_ms(1);
    let (id, topic) = (Some(super::Id::Number(1)), Some("a".into()));
    let text = super::json::reply(&Reply::Error { id, topic, error });
    let written: Map<String, Value> = serde_json::from_slice(&text).expect("JSON");
    let known = &frames()["ErrorReply"]["properties"];
    let known: Vec<_> = known.as_object().expect("fields").keys().collect();
    let mut written: Vec<_> = written.keys().collect();
    written.sort();
    assert_eq!(written, known);
}
