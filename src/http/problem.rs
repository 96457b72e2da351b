//! What went wrong, as RFC 9457 `application/problem+json`.

use std::borrow::Cow;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use serde::Serialize;
use tracing::{debug, error};

use crate::auth::Denied;
use crate::feed::PageError;
use crate::protocol::Limit;
use crate::protocol::error::{Code, Error};
use crate::publisher::PublishError;
use crate::shard;

/// Who is refused for load and is told no time comes back after this.
const RETRY_AFTER_MS: u64 = 1_000;

/// An answer that is not what was asked for.
#[derive(Debug)]
pub(super) struct Problem(Box<Parts>);

#[derive(Debug)]
struct Parts {
    error: Error,
    status: StatusCode,
    header: Option<(HeaderName, HeaderValue)>,
}

/// An answer that is an error, as RFC 9457 has it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[cfg_attr(test, schemars(rename = "Problem"))]
pub(super) struct Body<'a> {
    /// Names the kind of error, as `code` does.
    r#type: String,
    /// What the status says, in words.
    title: &'a str,
    status: u16,
    /// For developers.
    detail: &'a str,
    #[cfg_attr(test, schemars(with = "Code"))]
    code: &'static str,
    /// Whether the same can succeed later.
    retryable: bool,
    /// When, if that is known; there with each 429 and 503.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_ms: Option<u64>,
    /// The trace that the request belongs to, where traces are on.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<&'a str>,
}

impl Problem {
    pub(super) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Error::new(code, detail).into()
    }

    /// The same under another status than that of the table.
    pub(super) fn status(mut self, status: StatusCode) -> Self {
        self.0.status = status;
        self
    }

    /// The same for meeting this bound.
    pub(super) fn at(mut self, limit: Limit) -> Self {
        self.0.error.limit = Some(limit);
        self
    }

    /// The body of its answer, to a request of this trace.
    pub(super) fn text(&self, trace_id: Option<&str>) -> String {
        let Parts { error, status, .. } = &*self.0;
        let code = error.code.text();
        let body = Body {
            r#type: format!("urn:tidegate:error:{code}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: &error.message,
            code,
            retryable: error.retryable(),
            retry_after_ms: self.retry_after_ms(),
            trace_id,
        };
        serde_json::to_string(&body).unwrap_or_default()
    }

    fn retry_after_ms(&self) -> Option<u64> {
        let told = matches!(self.0.status.as_u16(), 429 | 503).then_some(RETRY_AFTER_MS);
        self.0.error.retry_after_ms.or(told)
    }

    /// The same with one more header.
    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.header = Some((name, value));
        self
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = error.code.row().status.and_then(|status| StatusCode::from_u16(status).ok());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self(Box::new(Parts { error, status, header: None }))
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        error.wire().into()
    }
}

impl From<PageError> for Problem {
    fn from(error: PageError) -> Self {
        error.wire().into()
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        let code = if denied.anonymous { Code::Unauthenticated } else { Code::Forbidden };
        Self::new(code, denied.to_string())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0.error.message)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.0.status
    }

    /// Its answer; here the bound that was met is counted, and the refusal logged.
    fn error_response(&self) -> HttpResponse {
        let Parts { error, status, header } = &*self.0;
        if let Some(limit) = error.limit {
            shard::count(limit);
        }
        match error.code {
            Code::Internal => {
                error!(error.code = "internal", why = %error.message, "A request failed")
            }
            code => debug!(
                error.code = code.text(),
                http.status = status.as_u16(),
                "A request was refused"
            ),
        }
        let mut response = HttpResponse::build(*status);
        if let Some(ms) = self.retry_after_ms() {
            response.insert_header((header::RETRY_AFTER, ms.div_ceil(1_000).max(1).to_string()));
        }
        if *status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        if let Some((name, value)) = header {
            response.insert_header((name.clone(), value.clone()));
        }
        response.content_type("application/problem+json").body(self.text(None))
    }
}

/// No such route.
pub(super) async fn not_found(request: HttpRequest) -> Problem {
    let path: String = request.path().chars().take(128).collect();
    Problem::new(Code::NotFound, format!("there is nothing at {path}"))
}

/// There is, but not with this method.
pub(super) fn method_not_allowed(allowed: &'static str) -> Problem {
    Problem::new(Code::NotFound, format!("this route takes {allowed}"))
        .status(StatusCode::METHOD_NOT_ALLOWED)
        .header(header::ALLOW, HeaderValue::from_static(allowed))
}

impl actix_web::Responder for Problem {
    type Body = actix_web::body::BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::from_error(self)
    }
}
