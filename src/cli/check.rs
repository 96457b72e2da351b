//! `tidegate check`: what would be in force, on the NATS that is configured, and what a Token may do
//! with it; or, with `--live`, whether a gateway that runs lets a Publication through.
//!
//! That the configuration is whole, its files included, was seen when it was loaded; a fault never
//! reaches this command.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::gateway::{ANSWER_TIMEOUT, Gateway, refusal};
use super::output::{Output, Tone, note};
use super::token::{self, May};
use super::{Exit, Failure, Topic, now};
use crate::auth::{API_KEY_PREFIX, Auth, Claims, Grants, REVOKED_FOR, Token, Verb, Who};
use crate::bus::nats::{self, CheckError, Report};
use crate::config::{Config, nofile};
use crate::namespace::Namespaces;
use crate::protocol::json::rfc3339;

/// What comes by socket comes within this.
const FRAME_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a Token is good that is made for one check.
const TICKET_LIFE: Duration = Duration::from_secs(60);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

pub(super) async fn run(
    config: &Config,
    token: Option<String>,
    out: &Output,
) -> Result<(), Failure> {
    if let Some(text) = token {
        return print(&claims(config, text)?, out);
    }
    let mut answer = in_force(config);
    if config.nats.url.is_empty() {
        return print(&answer, out);
    }
    let namespaces = Namespaces::new(config.namespaces.clone(), config.strict);
    let namespaces = Arc::new(namespaces.revoking(REVOKED_FOR));
    let report = match nats::check(&config.nats, &config.node, &namespaces).await {
        Ok(report) => report,
        Err(why) => {
            print(&answer, out)?;
            let exit = match why {
                CheckError::Configured(_) => Exit::Usage,
                CheckError::Unreachable(..) => Exit::Unreachable,
                CheckError::Refused(..) => Exit::Refused,
                CheckError::Unfit(_) => Exit::Failed,
            };
            return Err(Failure::new(exit, why));
        }
    };
    answer["nats_server"] = json!({
        "name": report.server,
        "version": report.version,
        "max_payload": report.max_payload,
        "may_not_publish": report.may_not_publish,
        "may_not_subscribe": report.may_not_subscribe,
        "publish_untried": report.publish_untried,
    });
    if namespaces.kept().next().is_some() {
        answer["nats_server"]["streams"] = json!(report.streams);
        answer["nats_server"]["account"] = json!(report.account);
    }
    print(&answer, out)?;
    for warning in &report.warnings {
        note(format!("warning: {warning}"));
    }
    missing(&report)
}

/// A failure that names each subject that NATS refuses, and what else will not work.
fn missing(report: &Report) -> Result<(), Failure> {
    let line =
        |verb: &str, subject: &String| format!("NATS does not let this node {verb} {subject}");
    let publish = report.may_not_publish.iter().map(|subject| line("publish to", subject));
    let subscribe = report.may_not_subscribe.iter().map(|subject| line("subscribe to", subject));
    let lines: Vec<String> =
        publish.chain(subscribe).chain(report.faults.iter().cloned()).collect();
    if lines.is_empty() { Ok(()) } else { Err(Failure::failed(lines.join("\n"))) }
}

/// One JSON object, or a row for each value.
fn print(answer: &Value, out: &Output) -> Result<(), Failure> {
    if out.json {
        return out.line(answer);
    }
    let mut rows = Vec::new();
    flatten("", answer, &mut rows);
    let width = rows.iter().map(|(key, _)| key.len()).max().unwrap_or(0);
    for (key, value) in rows {
        let pad = " ".repeat(width - key.len());
        let key = out.tone(Tone::Name, &key);
        out.line(format!("{key}{pad}  {value}"))?;
    }
    Ok(())
}

/// Every setting with its value.
fn in_force(config: &Config) -> Value {
    let auth = &config.auth;
    let issuers: Vec<Value> = auth
        .issuers
        .iter()
        .map(|issuer| {
            json!({
                "issuer": issuer.issuer,
                "audience": issuer.audience,
                "algorithm": issuer.algorithm,
                "key_file": issuer.key_file,
            })
        })
        .collect();
    let namespaces: Map<String, Value> =
        config.namespaces.iter().map(|(name, rules)| (name.clone(), json!(rules))).collect();
    json!({
        "listen": config.listen,
        "management": config.management,
        "shards": config.shards,
        "node": config.node,
        "nats": config.nats,
        "auth": {
            "issuers": issuers,
            "api_keys_file": auth.api_keys_file,
            "anonymous": grants(&auth.anonymous),
            "origins": auth.origins,
        },
        "namespaces": namespaces,
        "strict": config.strict,
        "limits": config.limits,
        "drain": config.drain,
        "log": config.log,
        "nofile": nofile(),
    })
}

/// What this Token or API key says; refused, if it is not good here.
fn claims(config: &Config, text: String) -> Result<Value, Failure> {
    let auth = Auth::open(&config.auth).map_err(|faults| {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Failure::usage(lines.join("\n"))
    })?;
    let read = if text.starts_with(API_KEY_PREFIX) {
        auth.api_key(&text)
    } else {
        auth.verify(&Token::new(text), now())
    };
    let claims = read.map_err(|why| Failure::new(Exit::Refused, why))?;
    Ok(said(&claims))
}

fn said(claims: &Claims) -> Value {
    let (kind, name) = match &claims.who {
        Who::User(subject) => ("user", subject.as_ref()),
        Who::Key(name) => ("key", name.as_ref()),
        Who::Anonymous => ("anonymous", ""),
    };
    let mut out = json!({ kind: name, "may": grants(&claims.grants) });
    if let Some(at) = claims.expires_at {
        out["expires_at"] = rfc3339(at).into();
    }
    if let Some(id) = &claims.token_id {
        out["token_id"] = id.as_ref().into();
    }
    if claims.disconnect {
        out["disconnect"] = true.into();
    }
    out
}

fn grants(grants: &Grants) -> Value {
    Verb::ALL.iter().map(|&verb| (verb.as_str().to_owned(), json!(grants.of(verb)))).collect()
}

/// Rows of key and value; what is empty says so.
fn flatten(key: &str, value: &Value, rows: &mut Vec<(String, String)>) {
    let under = |part: &str| {
        if key.is_empty() { part.to_owned() } else { format!("{key}.{part}") }
    };
    match value {
        Value::Object(entries) if !entries.is_empty() => {
            for (part, value) in entries {
                flatten(&under(part), value, rows);
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (index, value) in items.iter().enumerate() {
                flatten(&under(&index.to_string()), value, rows);
            }
        }
        Value::Array(items) if !items.is_empty() => {
            let texts: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            rows.push((key.to_owned(), texts.join(" ")));
        }
        Value::Null | Value::Array(_) | Value::Object(_) => {
            rows.push((key.to_owned(), "-".to_owned()));
        }
        Value::String(text) => rows.push((key.to_owned(), text.clone())),
        other => rows.push((key.to_owned(), other.to_string())),
    }
}

/// A Token for one such Publication.
pub(super) fn ticket(config: &Config, topic: &Topic) -> Result<String, Failure> {
    let one = || vec![topic.to_string()];
    let may = May { subscribe: one(), publish: one(), history: Vec::new() };
    token::sign(config, "tidegate-check".to_owned(), may, TICKET_LIFE)
}

/// Takes one Publication through a gateway that runs, step by step; each is printed with its time.
pub(super) async fn live(gateway: &Gateway, topic: &Topic, out: &Output) -> Result<(), Failure> {
    let client = Gateway::client()?;
    answers(gateway, &client, out).await?;

    let since = Instant::now();
    let mut socket = dial(gateway).await?;
    step(out, "connect", since)?;

    let since = Instant::now();
    let subscribe = json!({ "type": "subscribe", "id": 1, "topic": topic }).to_string();
    let sent = socket.send(Message::text(subscribe)).await;
    sent.map_err(Failure::failed)?;
    wait_for(&mut socket, "subscribed", |_| true).await?;
    step(out, "subscribe", since)?;

    let since = Instant::now();
    let mut request = publish(gateway, &client, topic);
    if let Some(value) = gateway.authorization()? {
        request = request.header(Gateway::header(), value);
    }
    let (status, body) = ask(gateway, request).await?;
    if !status.is_success() {
        return Err(refusal(status.as_u16(), &body));
    }
    step(out, "publish", since)?;

    // From the answer on; it may have come before that.
    let since = Instant::now();
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    wait_for(&mut socket, "message", |frame| frame["id"] == answer["id"]).await?;
    step(out, "receive", since)?;
    // All is done; a gateway that does not say goodbye is no fault.
    let _ = timeout(FRAME_TIMEOUT, socket.close(None)).await;
    Ok(())
}

/// Sees that the gateway answers, and that it refuses who brings no Token.
pub(super) async fn closed(gateway: &Gateway, topic: &Topic, out: &Output) -> Result<(), Failure> {
    let client = Gateway::client()?;
    answers(gateway, &client, out).await?;
    let since = Instant::now();
    let (status, body) = ask(gateway, publish(gateway, &client, topic)).await?;
    match status {
        StatusCode::UNAUTHORIZED => step(out, "refused", since),
        _ if status.is_success() => {
            Err(Failure::failed(format!("{topic} takes what anybody publishes")))
        }
        _ => Err(refusal(status.as_u16(), &body)),
    }
}

/// One route takes nothing but POST, and a gateway says so whoever asks.
async fn answers(gateway: &Gateway, client: &Client, out: &Output) -> Result<(), Failure> {
    let since = Instant::now();
    let (status, body) = ask(gateway, client.get(gateway.route(&["v1", "publish"]))).await?;
    if status != StatusCode::METHOD_NOT_ALLOWED {
        return Err(refusal(status.as_u16(), &body));
    }
    step(out, "answer", since)
}

fn publish(gateway: &Gateway, client: &Client, topic: &Topic) -> RequestBuilder {
    let route = gateway.route(&["v1", "topics", topic.as_str(), "messages"]);
    client.post(route).body("\"tidegate check\"")
}

fn step(out: &Output, name: &str, since: Instant) -> Result<(), Failure> {
    let ms = (since.elapsed().as_secs_f64() * 10_000.0).round() / 10.0;
    if out.json {
        return out.line(json!({ "step": name, "ms": ms }));
    }
    let pad = " ".repeat(9_usize.saturating_sub(name.len()));
    out.line(format!("{}{pad}  {ms} ms", out.tone(Tone::Name, name)))
}

async fn ask(gateway: &Gateway, request: RequestBuilder) -> Result<(StatusCode, Vec<u8>), Failure> {
    let unreachable = |why| gateway.unreachable(&why);
    let answer = request.send().await.map_err(unreachable)?;
    let status = answer.status();
    let body = answer.bytes().await.map_err(unreachable)?;
    Ok((status, body.to_vec()))
}

async fn dial(gateway: &Gateway) -> Result<Socket, Failure> {
    let address = gateway.socket(&["v1", "connect"]);
    let mut request = address.as_str().into_client_request();
    let headers = request.as_mut().map(|request| request.headers_mut());
    if let (Ok(headers), Some(value)) = (headers, gateway.authorization()?) {
        headers.insert(Gateway::header(), value);
    }
    let request = request.map_err(Failure::usage)?;
    match timeout(ANSWER_TIMEOUT, connect_async(request)).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(tungstenite::Error::Http(answer))) => {
            let body = answer.body().as_deref().unwrap_or_default();
            Err(refusal(answer.status().as_u16(), body))
        }
        Ok(Err(why)) => Err(gateway.unreachable(&why)),
        Err(why) => Err(gateway.unreachable(&why)),
    }
}

/// Reads until a frame of this type comes that is the right one.
async fn wait_for(
    socket: &mut Socket,
    kind: &str,
    right: impl Fn(&Value) -> bool,
) -> Result<(), Failure> {
    let reading = async {
        while let Some(Ok(next)) = socket.next().await {
            let (text, closes) = match &next {
                Message::Text(text) => (text, false),
                Message::Close(Some(close)) => (&close.reason, true),
                _ => continue,
            };
            let frame: Value = serde_json::from_str(text).unwrap_or_default();
            if closes || frame["type"] == "error" {
                let code = frame["code"].as_str().unwrap_or("closed");
                let words = frame["message"].as_str().unwrap_or("the gateway closes");
                let exit = match code {
                    "unauthenticated" | "token_expired" | "forbidden" => Exit::Refused,
                    _ => Exit::Failed,
                };
                return Err(Failure::new(exit, format!("{code}: {words}")));
            }
            if frame["type"] == kind && right(&frame) {
                return Ok(());
            }
        }
        Err(Failure::failed("the connection was lost"))
    };
    let late = |_| Failure::failed(format!("no {kind:?} came within 5 s"));
    timeout(FRAME_TIMEOUT, reading).await.map_err(late)?
}
