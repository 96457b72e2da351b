//! Which pages may use the gateway: one list for Origin checks and for CORS.
//!
//! A page of a foreign Origin gets nothing from `/v1`, not even the effect of a blind `POST`. The one
//! exception is a WebSocket's handshake: a browser shows its user no status, so there the refusal is a
//! close after the 101.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{self, HeaderMap, HeaderValue};
use actix_web::http::{Method, StatusCode};
use actix_web::middleware::Next;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage as _, HttpResponse};

use super::State;
use super::listener::Upgrading;
use super::problem::Problem;
use crate::protocol::Limit;
use crate::protocol::error::Code;
use crate::shard;

const METHODS: &str = "GET, POST, DELETE";
const HEADERS: &str = "Authorization, Content-Type, Idempotency-Key, If-None-Match, Last-Event-ID, \
                       traceparent, tracestate";
const EXPOSED: &str = "ETag, Retry-After, traceresponse";
/// A browser asks again after this.
const MAX_AGE_SECONDS: &str = "600";

/// Stands in front of every route.
pub(super) async fn guard(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let Some(state) = request.app_data::<Data<State>>().cloned() else {
        return Ok(next.call(request).await?.map_into_boxed_body());
    };
    // The path as the routes read it: a `%76` is a `v` to them, too.
    let guarded = guarded(request.match_info().as_str());
    let origin = request.headers().get(header::ORIGIN).cloned();
    let admitted = !guarded || admitted(&request, &state);
    let upgrading = request.extensions().contains::<Upgrading>();
    let mut response = if request.uri().to_string().len() > state.config.url_bytes {
        shard::count(Limit::UrlBytes);
        request.into_response(HttpResponse::new(StatusCode::URI_TOO_LONG))
    } else if !admitted && !upgrading {
        let problem = Problem::new(Code::Origin, "this page's Origin is not allowed here");
        request.into_response(HttpResponse::from_error(problem))
    } else if guarded && is_preflight(&request) {
        request.into_response(preflight())
    } else {
        next.call(request).await?.map_into_boxed_body()
    };
    if guarded {
        let headers = response.headers_mut();
        if let Some(origin) = origin.filter(|_| admitted) {
            allow(headers, origin);
        }
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
    Ok(response)
}

fn guarded(path: &str) -> bool {
    path.starts_with("/v1/") || path.starts_with("/dev/")
}

/// Whether this request's Origin may use the gateway.
pub(super) fn admitted(request: &ServiceRequest, state: &State) -> bool {
    admits(request.headers(), state)
}

/// The same, from headers. More than one Origin, or one that is no text, is none that we allow.
pub(super) fn admits(headers: &HeaderMap, state: &State) -> bool {
    let mut origins = headers.get_all(header::ORIGIN);
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    match (origins.next(), origins.next()) {
        (None, _) => true,
        (Some(origin), None) => {
            origin.to_str().is_ok_and(|origin| state.auth.origins().admits(Some(origin), host))
        }
        (Some(_), Some(_)) => false,
    }
}

fn is_preflight(request: &ServiceRequest) -> bool {
    request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn preflight() -> HttpResponse {
    HttpResponse::NoContent()
        .insert_header((header::ACCESS_CONTROL_ALLOW_METHODS, METHODS))
        .insert_header((header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS))
        .insert_header((header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS))
        .finish()
}

fn allow(headers: &mut HeaderMap, origin: HeaderValue) {
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
}
