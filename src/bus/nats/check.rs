//! What stands between a node and this NATS, found by trying.
//!
//! The command `check` asks, before a node runs. Rights cannot be asked for: each is tried, and a
//! refusal names its subject. Nothing that is tried reaches a client. A node finds the same out as it
//! goes, by [`Denied`]; what it needs is said once, in [`Subjects`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectErrorKind, Event, ServerAddr};
use bytes::Bytes;
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::denied::Denied;
use super::request::Requests;
use super::stream::{self, Info, Wanted};
use super::subject::{Right, Subjects};
use super::version::{Version, unfit};
use super::{Config, ConnectError, addresses, asking, options, random, too_small, wanted};
use crate::namespace::Namespaces;

/// All rights together are tried within this, and all streams looked at.
const TRYING: Duration = Duration::from_secs(10);
const ASK: Duration = Duration::from_secs(2);
/// What the account may have.
const ACCOUNT_INFO: &str = "$JS.API.INFO";

/// A server, and what it refuses.
#[derive(Debug)]
pub struct Report {
    /// The server's name.
    pub server: String,
    /// Its version.
    pub version: String,
    /// Most bytes of a message and its headers.
    pub max_payload: usize,
    /// What a node must publish to, and may not.
    pub may_not_publish: Vec<String>,
    /// What a node must subscribe to, and may not.
    pub may_not_subscribe: Vec<String>,
    /// What a node publishes to if its clients may, and what could not be tried.
    pub publish_untried: Vec<String>,
    /// The streams of kept Namespaces.
    pub streams: Vec<StreamReport>,
    /// What they need of the account; none if nothing is kept, or it may not be asked for.
    pub account: Option<Account>,
    /// What works and should be otherwise, in words.
    pub warnings: Vec<String>,
    /// What will not work, besides rights, in words.
    pub faults: Vec<String>,
}

/// The stream of a kept Namespace, as it is, or as a node will make it.
#[derive(Debug, Serialize)]
pub struct StreamReport {
    /// The Namespace.
    pub namespace: Box<str>,
    /// Its stream.
    pub stream: String,
    /// Whether it is there already.
    pub exists: bool,
    /// `file` or `memory`.
    pub storage: String,
    /// On how many servers.
    pub replicas: u64,
    /// Most bytes of one copy; none: no bound.
    pub max_bytes: Option<u64>,
    /// Publications of one Topic; none: no bound.
    pub messages: Option<u64>,
}

/// Bytes of all copies of these streams, and what the account may have, where that is bounded.
#[derive(Debug, Default, Serialize)]
pub struct Account {
    /// On disk.
    pub wanted_storage: u64,
    /// Of the account.
    pub max_storage: Option<u64>,
    /// In memory.
    pub wanted_memory: u64,
    /// Of the account.
    pub max_memory: Option<u64>,
}

/// Why nothing can be said about rights.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// The configuration.
    #[error(transparent)]
    Configured(#[from] ConnectError),
    /// Nobody answers.
    #[error("NATS cannot be reached at {0}: {1}")]
    Unreachable(String, String),
    /// It lets us in nowhere.
    #[error("NATS at {0} does not let this node in: {1}")]
    Refused(String, String),
    /// The server will not do.
    #[error("{0}")]
    Unfit(String),
}

/// Connects as a node of this name would, once, and tries what it would need.
///
/// # Errors
/// No server has let us in, or it went away, or it will not do.
pub async fn check(
    config: &Config,
    node: &str,
    namespaces: &Arc<Namespaces>,
) -> Result<Report, CheckError> {
    let subjects = Subjects::new(&config.prefix, node, &random(), Arc::clone(namespaces));
    let denied = Arc::new(Denied::default());
    let all_heard = Arc::new(Notify::new());
    let (noting, notifying) = (Arc::clone(&denied), Arc::clone(&all_heard));
    let options = options(config, subjects.id()).await?.event_callback(move |event| {
        match event {
            Event::ServerError(fault) => noting.note(&fault.to_string()),
            Event::Draining => notifying.notify_one(),
            _ => {}
        }
        std::future::ready(())
    });
    let places = places(config);
    let client = options.connect(addresses(config)).await.map_err(|fault| match fault.kind() {
        ConnectErrorKind::ServerParse => ConnectError::Client(fault.to_string()).into(),
        ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
            CheckError::Refused(places.clone(), fault.to_string())
        }
        _ => CheckError::Unreachable(places.clone(), fault.to_string()),
    })?;
    if let Some(unfit) =
        unfit(&client.server_info(), namespaces.kept().next().map(|(name, _)| name))
    {
        return Err(CheckError::Unfit(unfit));
    }
    let mut faults = Vec::new();
    let mut streams = Vec::new();
    let mut account = None;
    let trying = async {
        attempt(&client, &subjects, &denied).await?;
        if namespaces.kept().next().is_some() {
            let (inbox, mut tasks) = (subjects.inbox("check"), JoinSet::new());
            let (client, denied) = (client.clone(), Arc::clone(&denied));
            let requests = asking(client, &inbox, Arc::default(), denied, &mut tasks).await?;
            for wanted in wanted(config, &subjects, namespaces) {
                match wanted.look(&requests).await {
                    Ok(found) => streams.push(stream_report(&wanted, found.as_ref())),
                    Err(why) => faults.push(wanted.fault(&why)),
                }
            }
            account = account_of(&requests, &streams).await;
        }
        // Refusals wait in the client's queue of events, and this goes behind them.
        client.drain().await?;
        all_heard.notified().await;
        Ok::<_, async_nats::Error>(())
    };
    let tried = timeout(TRYING, trying).await.map_err(Into::into).flatten();
    tried.map_err(|fault| CheckError::Unreachable(places, fault.to_string()))?;

    let server = client.server_info();
    let mut warnings = warnings(config, &server.version);
    warnings.extend(too_small(server.max_payload, namespaces));
    warnings.extend(account.iter().flat_map(too_large));
    let refused = |rights: Vec<Right>, is_refused: &dyn Fn(&str) -> bool| {
        let refused = rights.into_iter().filter(|right| is_refused(&right.tried));
        refused.map(|right| right.needed).collect()
    };
    Ok(Report {
        may_not_publish: refused(subjects.publishes(), &|subject| denied.publishing(subject)),
        may_not_subscribe: refused(subjects.subscribes(), &|subject| denied.subscribing(subject)),
        publish_untried: subjects.sources(),
        streams,
        account,
        warnings,
        faults,
        server: server.server_name,
        version: server.version,
        max_payload: server.max_payload,
    })
}

/// Tries every right, and waits until the server has said what it has against any.
async fn attempt(
    client: &Client,
    subjects: &Subjects,
    denied: &Denied,
) -> Result<(), async_nats::Error> {
    for right in subjects.publishes() {
        client.publish(right.tried, Bytes::new()).await?;
    }
    for right in subjects.subscribes() {
        // What it is about to bring is not wanted.
        client.subscribe(right.tried).await?.unsubscribe().await?;
    }
    // The server takes one after the other, so with this mark, or a refusal of it, all is said.
    let mark = subjects.mark();
    let mut refusals = denied.watch();
    let mut marks = client.subscribe(mark.clone()).await?;
    client.publish(mark.clone(), Bytes::new()).await?;
    while !denied.subscribing(&mark) && !denied.publishing(&mark) {
        tokio::select! {
            _ = marks.next() => break,
            changed = refusals.changed() => changed?,
        }
    }
    Ok(())
}

fn stream_report(wanted: &Wanted, found: Option<&Info>) -> StreamReport {
    let declared = wanted.declaration();
    let config = found.map_or(&declared, |info| &info.config);
    let number = |key: &str| config.get(key).and_then(Value::as_u64);
    StreamReport {
        namespace: wanted.namespace.clone(),
        stream: wanted.names.stream.clone(),
        exists: found.is_some(),
        storage: config.get("storage").and_then(Value::as_str).unwrap_or_default().to_owned(),
        replicas: number("num_replicas").unwrap_or(1),
        max_bytes: number("max_bytes"),
        messages: number("max_msgs_per_subject").map(|most| most.saturating_sub(1)),
    }
}

/// What these streams need and the account may have.
async fn account_of(requests: &Requests, streams: &[StreamReport]) -> Option<Account> {
    #[derive(Deserialize)]
    struct Answer {
        limits: Limits,
    }
    #[derive(Deserialize)]
    struct Limits {
        max_memory: i64,
        max_storage: i64,
    }
    let asked = stream::call(requests, ACCOUNT_INFO, Bytes::new(), ASK);
    let Answer { limits } = asked.await.ok()?;
    let wanted = |storage: &str| {
        let of_it = streams.iter().filter(|one| one.storage == storage);
        of_it.map(|one| one.max_bytes.unwrap_or(0).saturating_mul(one.replicas)).sum()
    };
    Some(Account {
        wanted_storage: wanted("file"),
        max_storage: u64::try_from(limits.max_storage).ok(),
        wanted_memory: wanted("memory"),
        max_memory: u64::try_from(limits.max_memory).ok(),
    })
}

/// In words, what the account has too little of.
fn too_large(account: &Account) -> Vec<String> {
    let over = |what: &str, wanted: u64, most: Option<u64>| {
        let most = most.filter(|most| *most < wanted)?;
        Some(format!(
            "the streams of kept namespaces may need {wanted} bytes {what}, and the account on NATS has {most}"
        ))
    };
    let disk = over("on disk", account.wanted_storage, account.max_storage);
    let memory = over("in memory", account.wanted_memory, account.max_memory);
    disk.into_iter().chain(memory).collect()
}

/// What works and should be otherwise.
fn warnings(config: &Config, version: &str) -> Vec<String> {
    let mut warnings = Vec::new();
    let encrypted = config.tls.ca_file.is_some() || config.tls.cert_file.is_some();
    for server in servers(config) {
        if !encrypted && !server.tls_required() && !is_loopback(server.host()) {
            warnings.push(format!(
                "nats.url: nothing makes sure that the way to {} is encrypted; tls:// does",
                place(&server)
            ));
        }
    }
    if Version::parse(version).is_some_and(Version::lacks_fixes) {
        warnings.push(format!(
            "nats-server {version} has known security holes; \
             2.11.16, 2.12.7 and 2.14 are the first without"
        ));
    }
    warnings
}

fn servers(config: &Config) -> impl Iterator<Item = ServerAddr> {
    addresses(config).into_iter().filter_map(|address| address.parse().ok())
}

/// The configured servers, without who we are there.
fn places(config: &Config) -> String {
    servers(config).map(|server| place(&server)).collect::<Vec<_>>().join(", ")
}

fn place(server: &ServerAddr) -> String {
    format!("{}:{}", server.host(), server.port())
}

fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_open_way_to_other_machines_is_warned_of() {
        let open = |url: &str, ca_file: Option<&str>| {
            let mut config = Config { url: url.to_owned(), ..Config::default() };
            config.tls.ca_file = ca_file.map(Into::into);
            warnings(&config, "2.14.0").len()
        };
        for home in ["nats://localhost:4222", "127.0.0.9", "nats://[::1]:4222", "tls://far"] {
            assert_eq!(open(home, None), 0, "{home}");
        }
        assert_eq!(open("nats://far, nats://u:p@10.0.0.1:4222,tls://far", None), 2);
        assert_eq!(open("nats://far", Some("ca.pem")), 0);
    }

    #[test]
    fn no_words_hold_a_password() {
        let config = Config { url: "nats://u:secret@far".to_owned(), ..Config::default() };
        let words = format!("{} {:?}", places(&config), warnings(&config, "2.10.0"));
        assert!(words.contains("far:4222") && !words.contains("secret"), "{words}");
    }
}
