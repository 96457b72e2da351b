//! Publishing: one payload, a tombstone, or a batch.

use std::sync::Arc;

use actix_web::web::{Data, Path, Payload};
use actix_web::{HttpRequest, HttpResponse};
use bytes::Bytes;
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, forward_to_deserialize_any};
use serde_json::value::RawValue;

use super::State;
use super::problem::Problem;
use super::{body, credentials, trace};
use crate::auth::Claims;
use crate::protocol::error::{Code, Error};
use crate::protocol::{Limit, json};
use crate::publication::{Cursor, Draft, Published, Trace};
use crate::shard;
use crate::topic::Topic;

const IDEMPOTENCY_KEY: &str = "idempotency-key";
const NDJSON: &str = "application/x-ndjson";

/// What became of one Publication.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
enum Outcome {
    Published(Receipt),
    Refused(Refused),
}

/// A Publication was taken.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Receipt {
    /// Of the publication, as in its `message`.
    id: Box<str>,
    topic: Topic,
    /// Its place, where history keeps it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<Cursor>,
    /// Whether history keeps it.
    stored: bool,
    /// Whether it was there already, under the same key.
    duplicate: bool,
}

/// One of a batch was not.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct Refused {
    /// As it was written.
    topic: String,
    #[cfg_attr(test, schemars(with = "Code"))]
    code: &'static str,
    /// For developers.
    message: String,
    /// Whether the same can succeed later.
    retryable: bool,
    /// When, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
}

/// `POST /v1/topics/{topic}/messages`: the body is the payload.
pub(super) async fn one(
    request: HttpRequest,
    topic: Path<String>,
    payload: Payload,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    let claims = credentials::claims(&request, &state)?;
    let topic = read_topic(&topic)?;
    let rules = state.namespaces.rules(topic.namespace());
    let bytes_max = rules.map_or(0, |rules| rules.max_message_bytes);
    let bound = (Limit::MaxMessageBytes, bytes_max);
    let payload = body::read(payload, bound, state.config.body_timeout).await?;
    publish(&request, &state, &claims, topic, payload).await
}

/// `DELETE /v1/topics/{topic}`: takes the Topic's value away.
pub(super) async fn tombstone(
    request: HttpRequest,
    topic: Path<String>,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    let claims = credentials::claims(&request, &state)?;
    let topic = read_topic(&topic)?;
    publish(&request, &state, &claims, topic, Bytes::new()).await
}

async fn publish(
    request: &HttpRequest,
    state: &State,
    claims: &Arc<Claims>,
    topic: Topic,
    payload: Bytes,
) -> Result<HttpResponse, Problem> {
    let key = read_key(request)?;
    state.publisher.admit(claims)?;
    let trace = trace::read(request);
    let draft = Draft { topic, payload, key, trace };
    let published = state.publisher.publish(claims, None, draft).await?;
    Ok(HttpResponse::Ok().json(Receipt::from(published)))
}

/// `POST /v1/publish`: many at once, in order, as `{"messages": […]}` or one a line.
pub(super) async fn batch(
    request: HttpRequest,
    payload: Payload,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    let claims = credentials::claims(&request, &state)?;
    let config = &state.config;
    let bound = (Limit::BatchBytes, config.batch_bytes);
    let bytes = body::read(payload, bound, config.body_timeout).await?;
    let batch = Batch::read(&bytes, config.batch_items)?;
    let trace = trace::read(&request);
    let mut outcomes = Vec::with_capacity(batch.items.len());
    for item in &batch.items {
        for topic in &item.topics {
            outcomes.push(item.publish(topic, &claims, trace.clone(), &state).await);
        }
    }
    if batch.by_line {
        let lines = outcomes.iter().filter_map(|outcome| serde_json::to_string(outcome).ok());
        let text: String = lines.flat_map(|line| [line, "\n".to_owned()]).collect();
        return Ok(HttpResponse::Ok().content_type(NDJSON).body(text));
    }
    Ok(HttpResponse::Ok().json(Results { results: outcomes }))
}

/// What became of a batch.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub(super) struct Results {
    /// For each item and topic, in order.
    results: Vec<Outcome>,
}

/// Many Publications in one body.
struct Batch<'a> {
    items: Vec<Item<'a>>,
    by_line: bool,
}

/// One of them, for one or many Topics.
struct Item<'a> {
    topics: Vec<String>,
    data: Option<&'a RawValue>,
    data_base64: Option<String>,
    deleted: Option<bool>,
    key: Option<String>,
}

impl<'a> Batch<'a> {
    fn read(bytes: &'a [u8], items_max: usize) -> Result<Self, Problem> {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| Problem::new(Code::BadMessage, "the batch is not UTF-8"))?;
        let batch = match serde_json::from_str::<Messages<'_>>(text) {
            Ok(messages) => Self { items: messages.messages, by_line: false },
            Err(whole) => {
                Self::read_lines(text).map_err(|(line, fault)| unreadable(&whole, line, &fault))?
            }
        };
        let publications: usize = batch.items.iter().map(|item| item.topics.len()).sum();
        if publications > items_max {
            let words =
                format!("the batch has {publications} publications, at most {items_max} are taken");
            return Err(Problem::new(Code::TooBig, words).at(Limit::BatchItems));
        }
        Ok(batch)
    }

    fn read_lines(text: &'a str) -> Result<Self, (usize, serde_json::Error)> {
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let items: Result<Vec<_>, _> = lines
            .map(|(at, line)| serde_json::from_str(line).map_err(|fault| (at + 1, fault)))
            .collect();
        match items {
            Ok(items) if items.is_empty() => Err((1, serde::de::Error::custom("it is empty"))),
            items => items.map(|items| Self { items, by_line: true }),
        }
    }
}

/// Neither one document nor one a line. The library's own words may quote what they read.
fn unreadable(whole: &serde_json::Error, line: usize, fault: &serde_json::Error) -> Problem {
    let words = format!(
        "the batch is neither {{\"messages\": […]}} (line {}, column {}) nor one message a line \
         (line {line}, column {})",
        whole.line(),
        whole.column(),
        fault.column(),
    );
    Problem::new(Code::BadMessage, words)
}

impl Item<'_> {
    async fn publish(
        &self,
        topic: &str,
        claims: &Arc<Claims>,
        trace: Option<Trace>,
        state: &State,
    ) -> Outcome {
        let outcome = match self.draft(topic, trace) {
            Ok(draft) => match state.publisher.admit(claims) {
                Ok(()) => state.publisher.publish(claims, None, draft).await.map_err(|e| e.wire()),
                Err(refused) => Err(refused.wire()),
            },
            Err(error) => Err(error),
        };
        match outcome {
            Ok(published) => Outcome::Published(published.into()),
            Err(error) => {
                if let Some(limit) = error.limit {
                    shard::count(limit);
                }
                Outcome::Refused(Refused {
                    topic: topic.to_owned(),
                    code: error.code.text(),
                    retryable: error.retryable(),
                    retry_after_ms: error.retry_after_ms,
                    message: error.message.into_owned(),
                })
            }
        }
    }

    fn draft(&self, topic: &str, trace: Option<Trace>) -> Result<Draft, Error> {
        let bad = |words| Error::new(Code::BadMessage, words);
        let key = self.key.clone().map(json::key).transpose().map_err(bad)?;
        let payload =
            json::payload(self.data, self.data_base64.as_deref(), self.deleted).map_err(bad)?;
        let topic = Topic::parse(topic).map_err(|why| Error::invalid_topic(topic, &why))?;
        Ok(Draft { topic, payload, key, trace })
    }
}

/// `{"messages": […]}`.
struct Messages<'a> {
    messages: Vec<Item<'a>>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Messages<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(bound(deserialize = "'de: 'a"))]
        struct Fields<'a> {
            messages: Vec<Item<'a>>,
        }
        let Fields { messages } = Fields::deserialize(Object(from))?;
        Ok(Self { messages })
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Item<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(bound(deserialize = "'de: 'a"))]
        struct Fields<'a> {
            #[serde(default, deserialize_with = "present")]
            topic: Option<String>,
            #[serde(default, deserialize_with = "present")]
            topics: Option<Vec<String>>,
            #[serde(default, borrow, deserialize_with = "present")]
            data: Option<&'a RawValue>,
            #[serde(default, deserialize_with = "present")]
            data_base64: Option<String>,
            #[serde(default, deserialize_with = "present")]
            deleted: Option<bool>,
            #[serde(default, deserialize_with = "present")]
            key: Option<String>,
        }
        let fields = Fields::deserialize(Object(from))?;
        let topics = match (fields.topic, fields.topics) {
            (Some(topic), None) => vec![topic],
            (None, Some(topics)) if !topics.is_empty() => topics,
            _ => return Err(serde::de::Error::custom("it needs either topic or topics")),
        };
        let (data, data_base64) = (fields.data, fields.data_base64);
        Ok(Self { topics, data, data_base64, deleted: fields.deleted, key: fields.key })
    }
}

/// A field that, if it is there, must hold a value of its type: `null` is none, but data.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Reads an object as one: serde would take a list for the fields of a struct in their order.
struct Object<D>(D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Object<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option
        unit unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier
        ignored_any
    }
}

impl From<Published> for Receipt {
    fn from(done: Published) -> Self {
        Self {
            id: done.id,
            topic: done.topic,
            cursor: done.cursor,
            stored: done.stored,
            duplicate: done.duplicate,
        }
    }
}

fn read_topic(text: &str) -> Result<Topic, Problem> {
    Topic::parse(text).map_err(|why| Error::invalid_topic(text, &why).into())
}

/// The header `Idempotency-Key`, with quotes or without.
fn read_key(request: &HttpRequest) -> Result<Option<Box<str>>, Problem> {
    let mut values = request.headers().get_all(IDEMPOTENCY_KEY);
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().unwrap_or_default(),
        (Some(_), Some(_)) => {
            return Err(Problem::new(Code::BadMessage, "there are two Idempotency-Key headers"));
        }
    };
    let bare = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(value);
    let key = json::key(bare.to_owned()).map_err(|words| Problem::new(Code::BadMessage, words))?;
    Ok(Some(key))
}
