//! The gateway that a client command talks to: its addresses, and its refusals.
//!
//! Paths are made by the URL library, so a Topic cannot become another path. The Token goes into a
//! header, never into a URL, and into no error.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Client, RequestBuilder, Url, redirect};
use serde::Deserialize;

use super::{Exit, Failure};

/// A gateway answers within 15 s, also if only to say that it does not know.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// One gateway, and who we are there.
#[derive(Debug)]
pub(super) struct Gateway {
    url: Url,
    token: Option<String>,
}

impl Gateway {
    pub(super) fn new(url: Url, token: Option<String>) -> Self {
        Self { url, token: token.filter(|token| !token.is_empty()) }
    }

    /// What requests are sent with.
    pub(super) fn client() -> Result<Client, Failure> {
        let client = Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(ANSWER_TIMEOUT);
        client.build().map_err(|why| Failure::failed(root(&why)))
    }

    /// The address of a route, given as its segments.
    pub(super) fn route(&self, segments: &[&str]) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// The same for a socket.
    pub(super) fn socket(&self, segments: &[&str]) -> Url {
        let mut url = self.route(segments);
        // Both are schemes of the web, so the URL library has no objection.
        let _ = url.set_scheme("ws");
        url
    }

    /// `Authorization`, if there is a Token.
    pub(super) fn authorization(&self) -> Result<Option<HeaderValue>, Failure> {
        let Some(token) = &self.token else {
            return Ok(None);
        };
        let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
            .map_err(|_| Failure::usage("--token: holds characters that no Token has"))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// Adds it to a request's headers.
    pub(super) const fn header() -> reqwest::header::HeaderName {
        AUTHORIZATION
    }

    /// The body of the answer to a request; a refusal is a failure.
    pub(super) async fn answer(&self, mut request: RequestBuilder) -> Result<Bytes, Failure> {
        if let Some(value) = self.authorization()? {
            request = request.header(Self::header(), value);
        }
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(why) if why.is_connect() => return Err(self.unreachable(&why)),
            Err(why) => return Err(Failure::failed(root(&why))),
        };
        let status = answer.status();
        let body = answer.bytes().await.map_err(|why| Failure::failed(root(&why)))?;
        if status.is_success() { Ok(body) } else { Err(refusal(status.as_u16(), &body)) }
    }

    /// There is nobody at the address.
    pub(super) fn unreachable(&self, why: &dyn Error) -> Failure {
        Failure::new(Exit::Unreachable, format!("{} cannot be reached: {}", self.url, root(why)))
    }
}

/// Reads `--url`.
pub(super) fn url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|why| why.to_string())?;
    match url.scheme() {
        "http" if url.has_host() => Ok(url),
        "https" => Err("https:// is not supported yet".to_owned()),
        _ => Err("must begin with http://".to_owned()),
    }
}

/// A problem body, as far as it is told on.
#[derive(Debug, Deserialize)]
struct Problem {
    code: String,
    detail: Option<String>,
}

/// What an answer that is no success means for the command.
pub(super) fn refusal(status: u16, body: &[u8]) -> Failure {
    let words = match serde_json::from_slice::<Problem>(body) {
        Ok(Problem { code, detail: Some(detail) }) => format!("{code}: {detail}"),
        Ok(Problem { code, detail: None }) => code,
        Err(_) => format!("the gateway answers with HTTP status {status}"),
    };
    let exit = if matches!(status, 401 | 403) { Exit::Refused } else { Exit::Failed };
    Failure::new(exit, words)
}

/// The innermost reason, which is the one that says something.
pub(super) fn root(why: &dyn Error) -> String {
    let mut at = why;
    while let Some(inner) = at.source() {
        at = inner;
    }
    at.to_string()
}
