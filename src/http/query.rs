//! What a subscribing request's query says: Topics, where to begin, how to show life.

use actix_web::HttpRequest;
use actix_web::web::Query;

use super::problem::Problem;
use crate::auth::Token;
use crate::protocol::error::Code;
use crate::protocol::frame::{Heartbeat, Wanted};
use crate::protocol::{From, Limit, json};

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
    let fields = Query::<Vec<(String, String)>>::from_query(request.query_string())
        .map_err(|_| Problem::new(Code::BadMessage, "the query could not be read"))?
        .into_inner();
    let mut read = Subscribing::default();
    let mut topics = Vec::new();
    let mut from = None;
    for (name, value) in fields {
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
