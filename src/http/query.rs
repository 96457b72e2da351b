//! What a request's query says: of one that subscribes, Topics, where to begin, how to show life; of
//! one that reads, which page.

use actix_web::HttpRequest;
use actix_web::web::Query;

use super::problem::Problem;
use crate::auth::Token;
use crate::control::Listing;
use crate::protocol::error::{Code, Error};
use crate::protocol::frame::{Heartbeat, Wanted};
use crate::protocol::{From, Limit, cursor, json};
use crate::publication::Cursor;
use crate::topic::Topic;

/// The query of `/v1/connect`.
#[derive(Default)]
pub(super) struct Subscribing {
    pub(super) token: Option<Token>,
    pub(super) topics: Vec<Wanted>,
    pub(super) heartbeat: Heartbeat,
}

/// Reads it. Unknown fields are nothing to us; `subscriptions_max` bounds the Topics.
pub(super) fn subscribing(
    request: &HttpRequest,
    subscriptions_max: usize,
) -> Result<Subscribing, Problem> {
    let mut read = Subscribing::default();
    let mut topics = Vec::new();
    let mut from = None;
    for (name, value) in fields(request)? {
        match name.as_str() {
            "token" if read.token.is_none() => read.token = Some(Token::new(value)),
            "topic" => topics.push(value),
            "heartbeat" => read.heartbeat = json::heartbeat(&value).map_err(bad)?,
            "client" => drop(json::client(value).map_err(bad)?),
            "from" | "cursor" | "last" | "since" if from.is_some() => {
                let words = "only one of from, cursor, last and since can be said";
                return Err(Problem::new(Code::InvalidFrom, words));
            }
            "from" | "cursor" | "last" | "since" => from = Some(begin(&name, &value)?),
            _ => {}
        }
    }
    if topics.len() > subscriptions_max {
        let words = format!("at most {subscriptions_max} topics can be asked for");
        return Err(Problem::new(Code::TooManySubscriptions, words).at(Limit::Subscriptions));
    }
    let from = from.unwrap_or_default();
    read.topics = topics
        .into_iter()
        .map(|topic| Wanted { topic, from: Ok(from.clone()), max_hz: false })
        .collect();
    Ok(read)
}

/// The query of a page of history.
pub(super) struct PageOf {
    /// None: it begins with the oldest.
    pub(super) from: Option<From>,
    pub(super) limit: u16,
}

/// Reads it.
pub(super) fn page(request: &HttpRequest) -> Result<PageOf, Problem> {
    let (mut from, mut limit) = (None, None);
    for (name, value) in fields(request)? {
        match name.as_str() {
            "from" | "cursor" | "last" | "since" if from.is_some() => {
                let words = "only one of cursor, last and since can be said";
                return Err(Problem::new(Code::InvalidFrom, words));
            }
            "from" => {
                let words = "history begins at cursor, last or since";
                return Err(Problem::new(Code::InvalidFrom, words));
            }
            "cursor" | "last" | "since" => from = Some(begin(&name, &value)?),
            "limit" if limit.is_some() => return Err(bad("there are two limits".to_owned())),
            "limit" => limit = Some(value.parse().unwrap_or(0)),
            _ => {}
        }
    }
    Ok(PageOf { from, limit: json::limit(limit).map_err(bad)? })
}

/// The query of a snapshot: where the page before ended, if this is not the first.
pub(super) fn above(request: &HttpRequest) -> Result<Option<Cursor>, Problem> {
    let mut above = None;
    for (name, value) in fields(request)? {
        if name == "cursor" {
            let cursor = cursor::parse(&value).filter(|_| above.is_none());
            let words = "the cursor is not the next of a page";
            above = Some(cursor.ok_or_else(|| Problem::new(Code::InvalidCursor, words))?);
        }
    }
    Ok(above)
}

/// The query of a list of Topics.
pub(super) fn listing(request: &HttpRequest) -> Result<Listing, Problem> {
    let (mut prefix, mut after, mut limit) = (None, None, None);
    let topic = |text: &str| Topic::parse(text).map_err(|why| Error::invalid_topic(text, &why));
    for (name, value) in fields(request)? {
        match name.as_str() {
            "prefix" if prefix.is_some() => return Err(bad("there are two prefixes".to_owned())),
            "prefix" => prefix = Some(topic(&value)?),
            "after" if after.is_some() => return Err(bad("there are two afters".to_owned())),
            "after" => after = Some(topic(&value)?),
            "limit" if limit.is_some() => return Err(bad("there are two limits".to_owned())),
            "limit" => limit = Some(value.parse().unwrap_or(0)),
            _ => {}
        }
    }
    Ok(Listing { prefix, after, limit: json::limit(limit).map_err(bad)?.into() })
}

fn fields(request: &HttpRequest) -> Result<Vec<(String, String)>, Problem> {
    Query::from_query(request.query_string())
        .map(Query::into_inner)
        .map_err(|_| Problem::new(Code::BadMessage, "the query could not be read"))
}

fn begin(name: &str, value: &str) -> Result<From, Problem> {
    match (name, value) {
        ("from", "live") => Ok(From::Live),
        ("from", "last") => Ok(From::Last),
        ("cursor", text) => json::cursors(text)
            .map_err(|code| Problem::new(code, "the cursor is not written as a node writes one")),
        ("since", text) => json::since(text)
            .map_err(|code| Problem::new(code, "since is a time such as 2026-01-31T12:00:00Z")),
        ("last", text) => json::last(text.parse().unwrap_or(0))
            .map_err(|code| Problem::new(code, "last is a number from 1 to 1000")),
        _ => Err(Problem::new(Code::InvalidFrom, "from is live or last")),
    }
}

fn bad(words: String) -> Problem {
    Problem::new(Code::BadMessage, words)
}
