//! What is asked of all nodes: to send somebody away, and which Topics have subscribers.

use std::sync::Arc;

use actix_web::http::header::CACHE_CONTROL;
use actix_web::web::{Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use serde::{Deserialize, Serialize};
use tracing::info;

use super::history::FRESH;
use super::problem::Problem;
use super::{State, body, credentials, query};
use crate::auth::{Claims, SUBJECT_BYTES_MAX, TOKEN_ID_BYTES_MAX, Verb, Who};
use crate::control::{Disconnected, Target, Topics};
use crate::protocol::Limit;
use crate::protocol::error::Code;
use crate::topic::{Pattern, Topic};

/// Longest name of a Connection, in bytes; those that nodes give are much shorter.
pub(super) const CONNECTION_BYTES_MAX: usize = 128;

/// The body of `POST /v1/disconnect`. Unknown fields are nothing to us.
#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    connection: Option<String>,
    #[serde(default)]
    token_id: Option<String>,
}

/// What became of it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Disconnected"))]
pub(super) struct Ended {
    /// Connections and streams that have ended, as far as nodes have answered.
    closed: usize,
    /// Nodes that have not.
    silent_nodes: usize,
}

/// A page of `GET /v1/topics`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "TopicPage"))]
pub(super) struct Page {
    topics: Vec<Topic>,
    /// Where the next page begins; absent from the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<Topic>,
    /// Nodes that have not answered.
    silent_nodes: usize,
}

/// `POST /v1/disconnect`: sends a user, a Token or a Connection away, from every node.
pub(super) async fn disconnect(
    request: HttpRequest,
    payload: Payload,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    let claims = credentials::claims(&request, &state)?;
    let name = may_disconnect(&claims)?;
    let bound = (Limit::BatchBytes, state.config.batch_bytes);
    let bytes = body::read(payload, bound, state.config.body_timeout).await?;
    let target = target(&bytes)?;
    state.publisher.admit(&claims)?;
    let outcome = state.control.disconnect(&target).await;
    let Disconnected { closed, silent_nodes } = outcome.map_err(|why| Problem::from(why.wire()))?;
    info!(
        api_key = name,
        disconnect.by = target.kind(),
        disconnect.closed = closed,
        disconnect.silent_nodes = silent_nodes,
        "Connections were ended by request"
    );
    Ok(HttpResponse::Ok().json(Ended { closed, silent_nodes }))
}

/// The name of a key that may; only a key can.
fn may_disconnect(claims: &Claims) -> Result<&str, Problem> {
    match &claims.who {
        Who::Key(name) if claims.disconnect => Ok(name),
        Who::Anonymous => {
            let words = "an API key that may disconnect is needed";
            Err(Problem::new(Code::Unauthenticated, words))
        }
        Who::Key(_) | Who::User(_) => {
            let words = "only an API key with disconnect: true may disconnect";
            Err(Problem::new(Code::Forbidden, words))
        }
    }
}

fn target(bytes: &[u8]) -> Result<Target, Problem> {
    let asked: Asked = serde_json::from_slice(bytes).map_err(|fault| {
        bad(format!("the body is no object with a text user, connection or token_id: {fault}"))
    })?;
    let text = |field: &str, text: String, bytes_max: usize| match text.len() {
        0 => Err(bad(format!("{field} is empty"))),
        length if length > bytes_max => {
            Err(bad(format!("{field} is longer than {bytes_max} bytes")))
        }
        _ => Ok(Arc::from(text)),
    };
    match (asked.user, asked.connection, asked.token_id) {
        (Some(user), None, None) => Ok(Target::User(text("user", user, SUBJECT_BYTES_MAX)?)),
        (None, Some(name), None) => {
            Ok(Target::Connection(text("connection", name, CONNECTION_BYTES_MAX)?))
        }
        (None, None, Some(id)) => Ok(Target::Token(text("token_id", id, TOKEN_ID_BYTES_MAX)?)),
        _ => Err(bad("exactly one of user, connection and token_id must be said".to_owned())),
    }
}

/// `GET /v1/topics`: Topics that somebody is subscribed to by name, on whichever node.
pub(super) async fn topics(
    request: HttpRequest,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    let claims = credentials::claims(&request, &state)?;
    let listing = query::listing(&request)?;
    let below = listing.prefix.as_ref().map_or_else(|| ">".to_owned(), |one| format!("{one}.>"));
    let below =
        Pattern::parse(&below).map_err(|why| Problem::new(Code::InvalidTopic, why.to_string()))?;
    if let Some(prefix) = &listing.prefix
        && state.namespaces.rules(prefix.namespace()).is_none()
    {
        let words = format!("the namespace {:?} is not configured", prefix.namespace());
        return Err(Problem::new(Code::InvalidTopic, words));
    }
    claims.allows(Verb::History, &below)?;
    state.publisher.admit(&claims)?;
    let outcome = state.control.topics(&listing).await;
    let listed = outcome.map_err(|why| Problem::from(why.wire()))?;
    let Topics { mut topics, more, silent_nodes } = listed;
    let next = topics.last().filter(|_| more).cloned();
    // The Topic that is the prefix may be covered, or only what is below it.
    topics.retain(|topic| claims.allows(Verb::History, &Pattern::from(topic)).is_ok());
    let page = Page { topics, next, silent_nodes };
    Ok(HttpResponse::Ok().insert_header((CACHE_CONTROL, FRESH)).json(page))
}

fn bad(words: String) -> Problem {
    Problem::new(Code::BadMessage, words)
}
