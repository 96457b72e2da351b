//! `tidegate publish`: one Publication, over HTTP.

use std::io::{self, IsTerminal as _, Read as _};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::Args;
use reqwest::Method;
use reqwest::header::{HeaderName, HeaderValue};
use serde::Deserialize;

use super::gateway::{Gateway, refusal, root};
use super::output::{Output, Tone, note};
use super::{Failure, Remote, Topic, wait};
use crate::protocol::json;

/// Most that is read from standard input; more than any Namespace takes.
const INPUT_BYTES_MAX: u64 = 16 << 20;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Where to, such as dash.eu
    #[arg(value_parser = Topic::parse)]
    topic: Topic,
    /// What: JSON, or text that becomes a JSON string; - reads standard input
    #[arg(allow_negative_numbers = true, required_unless_present = "delete")]
    data: Option<String>,
    /// Makes it safe to send again: the same key is the same Publication
    #[arg(long)]
    key: Option<String>,
    /// DATA is base64 of the bytes to send
    #[arg(long)]
    base64: bool,
    /// Say that the Topic has no value any more
    #[arg(long, conflicts_with_all = ["data", "base64"])]
    delete: bool,
    #[command(flatten)]
    remote: Remote,
}

/// What the gateway answers.
#[derive(Debug, Deserialize)]
struct Published {
    id: String,
    #[serde(default)]
    duplicate: bool,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let Arguments { topic, data, key, base64, delete: _, remote } = arguments;
    let key = key.map(json::key).transpose();
    let key = key.map_err(|why| Failure::usage(format!("--key: {why}")))?;
    let payload = data.map(|data| payload(data, base64)).transpose()?;
    let out = Output::new(remote.json);
    let gateway = Gateway::new(remote.url, remote.token);
    wait(send(&gateway, &topic, payload, key.as_deref(), &out))
}

/// The bytes to send. None at all would be a tombstone, which nobody sends by mistake.
fn payload(data: String, base64: bool) -> Result<Vec<u8>, Failure> {
    let mut bytes = data.into_bytes();
    if bytes == b"-" {
        bytes.clear();
        if io::stdin().is_terminal() {
            note("reading from the terminal; Ctrl-D ends it");
        }
        let read = io::stdin().lock().take(INPUT_BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|why| Failure::failed(format!("standard input: {why}")))?;
        if bytes.len() as u64 > INPUT_BYTES_MAX {
            return Err(Failure::usage("standard input: is longer than 16 MiB"));
        }
    }
    if base64 {
        bytes = STANDARD
            .decode(bytes.trim_ascii())
            .map_err(|_| Failure::usage("DATA is not standard base64 with padding"))?;
    }
    if bytes.is_empty() {
        return Err(Failure::usage("DATA is empty; to say that a topic has no value: --delete"));
    }
    Ok(bytes)
}

async fn send(
    gateway: &Gateway,
    topic: &Topic,
    payload: Option<Vec<u8>>,
    key: Option<&str>,
    out: &Output,
) -> Result<(), Failure> {
    let client = Gateway::client()?;
    let mut request = match payload {
        Some(payload) => {
            let route = gateway.route(&["v1", "topics", topic.as_str(), "messages"]);
            client.request(Method::POST, route).body(payload)
        }
        None => client.request(Method::DELETE, gateway.route(&["v1", "topics", topic.as_str()])),
    };
    if let Some(value) = gateway.authorization()? {
        request = request.header(Gateway::header(), value);
    }
    if let Some(key) = key {
        let value = HeaderValue::from_str(key).map_err(Failure::usage)?;
        request = request.header(HeaderName::from_static("idempotency-key"), value);
    }
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(why) if why.is_connect() => return Err(gateway.unreachable(&why)),
        Err(why) => return Err(Failure::failed(unknown(&why))),
    };
    let status = answer.status();
    let body = answer.bytes().await.map_err(|why| Failure::failed(unknown(&why)))?;
    if !status.is_success() {
        return Err(refusal(status.as_u16(), &body));
    }
    if out.json {
        return out.line(String::from_utf8_lossy(&body).trim_end());
    }
    let published: Published = serde_json::from_slice(&body)
        .map_err(|_| Failure::failed("the answer is not that of a Tidegate gateway"))?;
    let more =
        if published.duplicate { out.tone(Tone::Faint, " duplicate") } else { String::new() };
    out.line(format!("{}{more}", published.id))
}

/// The request went out, and no answer came back.
fn unknown(why: &reqwest::Error) -> String {
    let why = if why.is_timeout() { "no answer in time".to_owned() } else { root(why) };
    format!("outcome_unknown: {why}; it may have been published")
}
