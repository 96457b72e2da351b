//! The trace that a request belongs to: what came with it, or what begins here.
//!
//! A problem says which it is, and so does each log line of the request, so that whoever is shown the
//! one finds the other. While traces are off this reads two headers of a request that publishes, and
//! nothing else.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage as _, HttpRequest};
use opentelemetry::context::FutureExt as _;

use super::State;
use super::problem::Problem;
use crate::publication::Trace;

const PARENT: &str = "traceparent";
const STATE: &str = "tracestate";
const RESPONSE: HeaderName = HeaderName::from_static("traceresponse");
/// Methods by which spans are told apart; clients may invent others.
const METHODS: [Method; 6] =
    [Method::GET, Method::POST, Method::DELETE, Method::OPTIONS, Method::HEAD, Method::PUT];

/// Stands in a request: what goes on from its span.
struct Traced(Trace);

/// Puts a span around every request. It ends with the head of the answer: that of a handshake with the
/// 101, that of a stream when it has begun.
pub(super) async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let spans = request.app_data::<Data<State>>().and_then(|state| state.spans.clone());
    let Some(spans) = spans else {
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    let known = METHODS.into_iter().find(|one| one == request.method());
    let method = known.as_ref().map_or("_OTHER", Method::as_str);
    let came = read_headers(request.headers());
    let mut span = spans.request(method, came.as_ref());
    if let Some(trace) = spans.trace(&span, came) {
        request.extensions_mut().insert(Traced(trace));
    }
    let mut response = next.call(request).with_context(span.context()).await?;
    span.answered(method, response.request().match_pattern(), response.status().as_u16());
    if let Ok(parent) = HeaderValue::from_str(&span.trace().parent) {
        response.headers_mut().insert(RESPONSE, parent);
    }
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        response.response_mut().extensions_mut().insert(span.context());
    }
    let problem = response.response().error().and_then(|error| error.as_error::<Problem>());
    Ok(match problem.map(|problem| problem.text(Some(&span.trace_id()))) {
        Some(text) => response.map_body(|_, _| BoxBody::new(text)),
        None => response.map_into_boxed_body(),
    })
}

/// What a Publication of this request belongs to.
pub(super) fn read(request: &HttpRequest) -> Option<Trace> {
    let traced = request.extensions().get::<Traced>().map(|traced| traced.0.clone());
    traced.or_else(|| read_headers(request.headers()))
}

/// What is no trace context belongs to no trace.
fn read_headers(headers: &HeaderMap) -> Option<Trace> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    Trace::read(text(PARENT)?, text(STATE))
}
