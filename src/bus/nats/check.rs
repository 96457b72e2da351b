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
use tokio::sync::Notify;
use tokio::time::timeout;

use super::denied::Denied;
use super::subject::{Right, Subjects};
use super::version::{Version, unfit};
use super::{Config, ConnectError, addresses, options, random, too_small};
use crate::namespace::Namespaces;

/// All rights together are tried within this.
const TRYING: Duration = Duration::from_secs(10);

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
    /// What works and should be otherwise, in words.
    pub warnings: Vec<String>,
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
    let trying = async {
        attempt(&client, &subjects, &denied).await?;
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
    let refused = |rights: Vec<Right>, is_refused: &dyn Fn(&str) -> bool| {
        let refused = rights.into_iter().filter(|right| is_refused(&right.tried));
        refused.map(|right| right.needed).collect()
    };
    Ok(Report {
        may_not_publish: refused(subjects.publishes(), &|subject| denied.publishing(subject)),
        may_not_subscribe: refused(subjects.subscribes(), &|subject| denied.subscribing(subject)),
        publish_untried: subjects.sources(),
        warnings,
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
