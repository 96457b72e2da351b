//! What went wrong, as RFC 9457 `application/problem+json`.

use std::borrow::Cow;
use std::fmt;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderName, HeaderValue};
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use serde::Serialize;

use crate::protocol::error::{Code, Error};
use crate::publisher::PublishError;

/// Who is refused for load and is told no time comes back after this.
const RETRY_AFTER_MS: u64 = 1_000;

/// An answer that is not what was asked for.
#[derive(Debug)]
pub(crate) struct Problem {
    error: Error,
    status: StatusCode,
    header: Option<(HeaderName, HeaderValue)>,
}

impl Problem {
    pub(crate) fn new(code: Code, detail: impl Into<Cow<'static, str>>) -> Self {
        Error::new(code, detail).into()
    }

    /// The same under another status than that of the table.
    pub(crate) fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same with one more header.
    pub(crate) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = error
            .code
            .row()
            .status
            .and_then(|status| StatusCode::from_u16(status).ok());
        Self {
            error,
            status: status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
            header: None,
        }
    }
}

impl From<PublishError> for Problem {
    fn from(error: PublishError) -> Self {
        error.wire().into()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.error.message)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        #[derive(Serialize)]
        struct Body<'a> {
            r#type: String,
            title: &'a str,
            status: u16,
            detail: &'a str,
            code: &'a str,
            retryable: bool,
            #[serde(skip_serializing_if = "Option::is_none")]
            retry_after_ms: Option<u64>,
        }
        let told = matches!(self.status.as_u16(), 429 | 503).then_some(RETRY_AFTER_MS);
        let retry_after_ms = self.error.retry_after_ms.or(told);
        let mut response = HttpResponse::build(self.status);
        if let Some(ms) = retry_after_ms {
            response.insert_header((header::RETRY_AFTER, ms.div_ceil(1_000).max(1).to_string()));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "Bearer"));
        }
        if let Some((name, value)) = &self.header {
            response.insert_header((name.clone(), value.clone()));
        }
        let code = self.error.code.text();
        let body = Body {
            r#type: format!("urn:tidegate:error:{code}"),
            title: self.status.canonical_reason().unwrap_or("Error"),
            status: self.status.as_u16(),
            detail: &self.error.message,
            code,
            retryable: self.error.retryable(),
            retry_after_ms,
        };
        let body = serde_json::to_string(&body).unwrap_or_default();
        response.content_type("application/problem+json").body(body)
    }
}

/// No such route.
pub(super) async fn not_found(request: HttpRequest) -> Problem {
    let path: String = request.path().chars().take(128).collect();
    Problem::new(Code::NotFound, format!("there is nothing at {path}"))
}

/// There is, but not with this method.
pub(super) async fn method_not_allowed(allowed: &'static str) -> Problem {
    Problem::new(Code::NotFound, format!("this route takes {allowed}"))
        .status(StatusCode::METHOD_NOT_ALLOWED)
        .header(header::ALLOW, HeaderValue::from_static(allowed))
}

impl actix_web::Responder for Problem {
    type Body = actix_web::body::BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        self.error_response()
    }
}
