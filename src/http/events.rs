//! `GET /v1/events`: what a client subscribes to, as Server-Sent Events or as lines of JSON.
//!
//! It answers once it is known that the stream can be: until then a fault of the request has its status.
//! An EventSource gives up for good on any status but 200, so what is 503 elsewhere is to it a stream
//! that ends at once and says when to come back.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::http::Version;
use actix_web::http::header::{self, HeaderName};
use actix_web::web::Data;
use actix_web::{HttpRequest, HttpResponse};
use bytes::{Bytes, BytesMut};
use uuid::Uuid;

use super::State;
use super::meters::Refusal;
use super::patience::HungUp;
use super::problem::Problem;
use super::{credentials, query, websocket};
use crate::protocol::stream::{Encoder, Format, Item};
use crate::protocol::{Close, Code, Error, Limit, cursor};
use crate::publication::Cursor;
use crate::session::CONNECTION_LIMIT_MS;
use crate::session::stream::Streaming;
use crate::shard;
use crate::shard::stream::{Opening, Stream};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");
/// Who is cut off comes back after this at least, and after that at most: not all at once.
const RETRY_MS: u64 = 1_000;
const RETRY_MS_MAX: u64 = 5_000;

/// The route.
pub(super) async fn events(
    request: HttpRequest,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    let format = format(&request);
    let asked = query::subscribing(&request, state.subscriptions_max)?;
    if asked.topics.is_empty() {
        return Err(Problem::new(Code::BadMessage, "at least one topic must be asked for"));
    }
    let cursors = last_event_id(&request)?;
    let bearer = credentials::bearer(&request)?;
    if state.is_draining() {
        state.meters.refused(Refusal::Draining);
        let error = Error::new(Code::Draining, "this node is going away");
        return later(&request, format, error);
    }
    let mut pass = match state.admission.enter() {
        Ok(pass) => pass,
        Err(why) => return later(&request, format, websocket::overloaded(why, &state)),
    };
    if !state.control.is_whole_soon().await {
        state.meters.refused(Refusal::Unread);
        let words = "this node does not know yet what was revoked";
        return later(&request, format, Error::new(Code::Overloaded, words));
    }
    let claims = credentials::claims_of(bearer, asked.token, &state)?;
    if claims.expires_at.is_some_and(|at| at <= (state.wall)()) {
        // Within the leeway it is good for a request, but not for what would end at once, and again.
        return Err(Problem::new(Code::TokenExpired, "the Token has expired"));
    }
    let user = claims.who.user().cloned();
    let streaming = Streaming::read(&state.namespaces, claims, &asked.topics, cursors)?;
    if !pass.is_for(user.as_ref()) {
        state.meters.refused(Refusal::At(Limit::UserConnections));
        let words = "this user has all the connections that one may have";
        let error = Error::new(Code::ConnectionLimit, words).after_ms(CONNECTION_LIMIT_MS);
        return Err(error.at(Limit::UserConnections).into());
    }
    let opening = Opening { format, retry_ms: retry_ms(), pass, streaming };
    let stream = shard::stream::open(opening)
        .ok_or_else(|| Problem::new(Code::Internal, "this thread has no Shard"))?;
    match stream.begun().await {
        Ok(()) => {
            let hung_up = request.conn_data::<HungUp>().cloned();
            Ok(answer(&request, format, BoxBody::new(Body { stream, hung_up })))
        }
        Err(close) => refuse(&request, format, &close),
    }
}

/// What the client can read.
fn format(request: &HttpRequest) -> Format {
    let accepted = request.headers().get_all(header::ACCEPT);
    let mut kinds = accepted.filter_map(|value| value.to_str().ok()).flat_map(|all| all.split(','));
    let lines = kinds.any(|kind| {
        let kind = kind.split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("application/x-ndjson")
    });
    if lines { Format::Lines } else { Format::Events }
}

/// Where a client that comes back has come to.
fn last_event_id(request: &HttpRequest) -> Result<Option<Box<[Cursor]>>, Problem> {
    let Some(value) = request.headers().get(LAST_EVENT_ID).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let cursors = value.to_str().ok().and_then(cursor::parse_list);
    match cursors {
        Some(cursors) => Ok(Some(cursors.into())),
        None => {
            let words = "the Last-Event-ID is not one that a node gave";
            Err(Problem::new(Code::InvalidCursor, words))
        }
    }
}

fn retry_ms() -> u64 {
    // The last half of a version 7 UUID is random.
    RETRY_MS + Uuid::now_v7().as_u64_pair().1 % (RETRY_MS_MAX - RETRY_MS + 1)
}

fn answer(request: &HttpRequest, format: Format, body: BoxBody) -> HttpResponse {
    let kind = match format {
        Format::Events => "text/event-stream",
        Format::Lines => "application/x-ndjson",
    };
    let mut response = HttpResponse::Ok();
    response
        .content_type(kind)
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((X_ACCEL_BUFFERING, "no"))
        // Who comes back after a stream's end is to reach another node, if there is one.
        .force_close();
    let mut response = response.body(body);
    if request.version() < Version::HTTP_11 {
        response.head_mut().no_chunking(true);
    }
    response
}

/// It is not to be now, but later.
fn later(request: &HttpRequest, format: Format, error: Error) -> Result<HttpResponse, Problem> {
    let mut out = BytesMut::new();
    let mut encoder = Encoder::new(format, 0, Vec::new());
    let ms = error.retry_after_ms.unwrap_or_default().max(retry_ms());
    let end = match format {
        Format::Events => encoder.begin(&Item::Close(Close::Later(error.code, ms)), &mut out),
        Format::Lines => return Err(error.into()),
    };
    if let Some(limit) = error.limit {
        shard::count(limit);
    }
    out.extend_from_slice(&end.unwrap_or_default());
    out.extend_from_slice(encoder.tail());
    Ok(answer(request, format, BoxBody::new(out.freeze())))
}

/// It has ended before it began.
fn refuse(request: &HttpRequest, format: Format, close: &Close) -> Result<HttpResponse, Problem> {
    let code = match close {
        Close::Refused(code) | Close::Later(code, _) => *code,
        _ => Code::Draining,
    };
    let words = match code {
        Code::TooManyTopics => "more topics match than one snapshot may hold",
        Code::BusUnavailable => "the bus is not reachable",
        _ => "the stream could not begin",
    };
    let error = Error::new(code, words);
    match code.row().status {
        Some(status) if status < 500 => Err(error.into()),
        _ => later(request, format, error),
    }
}

/// The body of the answer.
struct Body {
    stream: Stream,
    hung_up: Option<HungUp>,
}

impl MessageBody for Body {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        // Nobody who reads a stream shuts his side of it and goes on reading.
        if self.hung_up.as_ref().is_some_and(HungUp::is_so) {
            return Poll::Ready(None);
        }
        self.stream.poll_next(cx).map(|chunk| chunk.map(Ok))
    }
}
