//! The Bus of many nodes, on NATS.
//!
//! A Topic is a subject below a prefix, or one that exists beside us and is in the source of its
//! Namespace; what anybody publishes there, a backend or a node, reaches every node that has a Feed
//! for it, and no other. There is nothing here to repair from: what is lost is told, by [`Link`].

mod check;
mod denied;
mod echo;
mod files;
mod link;
mod live;
mod subject;
mod version;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::{
    Client, ConnectOptions, Event, HeaderMap, HeaderValue, PublishErrorKind, ServerAddr,
};
use serde::{Deserialize, Serialize, Serializer};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use uuid::Uuid;

use super::{Bus, Link, PublishError, Receipt, SubscribeError};
use crate::namespace::{self, Namespaces};
use crate::publication::{Publication, Timestamp};
use crate::topic::Pattern;
pub use check::{CheckError, Report, check};
use denied::Denied;
use echo::{Echo, Rounds};
use link::Watcher;
pub use live::Subscription;
use subject::Subjects;

/// Messages that may wait for one subscription; beyond it the newest is lost, and told.
const SUBSCRIPTION_ITEMS: usize = 16_384;
/// Commands to the server that may wait while the link is down.
const CLIENT_ITEMS: usize = 2_048;
/// A dead link shows within two or three of these.
const PING: Duration = Duration::from_secs(4);
/// Handing a message to the client takes no longer, or it is refused.
const HAND_OVER: Duration = Duration::from_secs(1);
/// A node that starts waits this long for a first answer; then it starts without.
const FIRST_TRY: Duration = Duration::from_secs(3);
/// What the headers of a Publication may need.
const HEADERS_BYTES: usize = 4 << 10;
const RECONNECT_FIRST_MS: u64 = 50;
const RECONNECT_MAX_MS: u64 = 500;
const RECONNECT_SPREAD_MS: u64 = 250;

/// How NATS is reached.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct Config {
    /// `nats://host:4222`, several with commas; empty: the Bus is in memory.
    #[serde(serialize_with = "write_url")]
    pub url: String,
    /// What every subject of this deployment begins with.
    pub prefix: String,
    /// The file of NATS credentials (`.creds`).
    pub credentials_file: Option<PathBuf>,
    /// TLS.
    pub tls: Tls,
}

/// TLS to NATS.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct Tls {
    /// Roots to trust in place of those of the system, in PEM.
    pub ca_file: Option<PathBuf>,
    /// This node's certificate, in PEM.
    pub cert_file: Option<PathBuf>,
    /// Its key.
    pub key_file: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            url: String::new(),
            prefix: "tidegate".to_owned(),
            credentials_file: None,
            tls: Tls::default(),
        }
    }
}

/// What is wrong with the configuration and the files that it names, each with its key; all of it at
/// once. The URL is looked at when it is used.
#[must_use]
pub fn faults(config: &Config) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let mut say = |key: &str, what: Option<String>| {
        faults.extend(what.map(|what| (key.to_owned(), what)));
    };
    say("prefix", subject::prefix_fault(&config.prefix));
    say("credentials_file", config.credentials_file.as_deref().and_then(files::credentials_fault));
    let Tls { ca_file, cert_file, key_file } = &config.tls;
    say("tls.ca_file", ca_file.as_deref().and_then(files::certificates_fault));
    let cert_fault = cert_file.as_deref().and_then(files::certificates_fault);
    let key_fault = key_file.as_deref().and_then(files::key_fault);
    let sound = cert_fault.is_none() && key_fault.is_none();
    say("tls.cert_file", cert_fault);
    say("tls.key_file", key_fault);
    match (cert_file, key_file) {
        (Some(cert), Some(key)) if sound => say("tls.key_file", files::pair_fault(cert, key)),
        (Some(_), None) | (None, Some(_)) => {
            say("tls", Some("cert_file and key_file go together".to_owned()));
        }
        (Some(_), Some(_)) | (None, None) => {}
    }
    faults
}

/// NATS cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The credentials file.
    #[error("nats.credentials_file: {0}")]
    Credentials(std::io::Error),
    /// The URL, or something that the client library has against the rest.
    #[error("nats.url: {0}")]
    Client(String),
    /// The server that was found.
    #[error("{0}")]
    Unfit(Arc<str>),
}

/// The Bus; clones are the same one.
#[derive(Clone)]
pub struct Nats(Arc<Connection>);

struct Connection {
    client: Client,
    subjects: Subjects,
    echo: Echo,
    link: watch::Receiver<Link>,
    denied: Arc<Denied>,
    now: fn() -> Timestamp,
    /// End with the last clone.
    _tasks: JoinSet<()>,
}

impl Nats {
    /// Sets out to connect, and goes on trying; [`link`](Bus::link) says when it has.
    ///
    /// # Errors
    /// What no retry would mend. A server that will not do is told so only if it is found at once; one
    /// that is found later is told by the link.
    pub async fn connect(
        config: &Config,
        node: &str,
        namespaces: Arc<Namespaces>,
        now: fn() -> Timestamp,
    ) -> Result<Self, ConnectError> {
        let subjects = Subjects::new(&config.prefix, node, &random(), Arc::clone(&namespaces));
        let (events, events_end) = mpsc::channel(link::EVENTS_MAX);
        let denied = Arc::new(Denied::default());
        let noting = Arc::clone(&denied);
        let options = options(config, subjects.id()).await?.retry_on_initial_connect();
        let options = options.event_callback(move |event| {
            if let Event::ServerError(fault) = &event {
                noting.note(&fault.to_string());
            }
            let events = events.clone();
            async move {
                // What does not fit shows at the next look.
                let _ = events.try_send(event);
            }
        });
        let client = options
            .connect(addresses(config))
            .await
            .map_err(|fault| ConnectError::Client(fault.to_string()))?;
        let echoes = client
            .subscribe(subjects.echo())
            .await
            .map_err(|fault| ConnectError::Client(fault.to_string()))?;
        let probes = client
            .subscribe(subjects.probe())
            .await
            .map_err(|fault| ConnectError::Client(fault.to_string()))?;
        let (echo, rounds) = Rounds::new(client.clone(), subjects.echo(), echoes);
        let (link, link_end) = watch::channel(Link::new(false));
        let (tried, first_try) = oneshot::channel();
        let watcher = Watcher {
            denied: Arc::clone(&denied),
            namespaces,
            client: client.clone(),
            echo: echo.clone(),
            events: events_end,
            link,
            probe: subjects.probe(),
            probes,
            tried: Some(tried),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(rounds.run());
        tasks.spawn(watcher.run());
        if let Ok(Ok(Some(unfit))) = timeout(FIRST_TRY, first_try).await {
            return Err(ConnectError::Unfit(unfit));
        }
        let link = link_end;
        Ok(Self(Arc::new(Connection { client, subjects, echo, link, denied, now, _tasks: tasks })))
    }

    /// Writes out what is still to be sent, as far as that can be done within `limit`.
    pub async fn flush(&self, limit: Duration) {
        let _ = timeout(limit, self.0.client.flush()).await;
    }
}

impl Bus for Nats {
    type Live = Subscription;

    async fn publish(&self, publication: Publication) -> Result<Receipt, PublishError> {
        if !link::is_connected(&self.0.client) || !self.0.link.borrow().connected {
            return Err(PublishError::Unavailable);
        }
        let generation = link::generation(&self.0.client);
        let subject = self.0.subjects.topic(&publication.topic);
        let headers = headers(&publication);
        let sent_to = subject.clone();
        let handing = self.0.client.publish_with_headers(subject, headers, publication.payload);
        match timeout(HAND_OVER, handing).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) if fault.kind() == PublishErrorKind::MaxPayloadExceeded => {
                return Err(PublishError::TooBig { max: self.0.client.max_payload() });
            }
            // Not even the client has taken it.
            Ok(Err(_)) | Err(_) => return Err(PublishError::Unavailable),
        }
        match self.0.echo.round().await {
            Some(_) if self.0.denied.publishing(&sent_to) => Err(PublishError::Unavailable),
            Some(proven) if proven == generation => Ok(Receipt { cursor: None, duplicate: false }),
            Some(_) | None => Err(PublishError::OutcomeUnknown),
        }
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription, SubscribeError> {
        if !link::is_connected(&self.0.client) || !self.0.link.borrow().connected {
            return Err(SubscribeError::Unavailable);
        }
        let (mut link, denied) = (self.0.link.clone(), self.0.denied.watch());
        link.mark_unchanged();
        let subject = self.0.subjects.pattern(pattern);
        if self.0.denied.subscribing(&subject) {
            return Err(SubscribeError::Unavailable);
        }
        let subscribing = self.0.client.subscribe(subject.clone());
        let messages = match timeout(HAND_OVER, subscribing).await {
            Ok(Ok(messages)) => messages,
            Ok(Err(_)) | Err(_) => return Err(SubscribeError::Unavailable),
        };
        self.0.echo.round().await.ok_or(SubscribeError::Unavailable)?;
        if self.0.denied.subscribing(&subject) {
            return Err(SubscribeError::Unavailable);
        }
        let (subjects, now) = (self.0.subjects.clone(), self.0.now);
        let namespace = pattern.namespace().into();
        Ok(Subscription { messages, subject, namespace, subjects, skipped: 0, link, denied, now })
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.0.link.clone()
    }
}

async fn options(config: &Config, id: &str) -> Result<ConnectOptions, ConnectError> {
    let mut options = ConnectOptions::new()
        .name(format!("tidegate {id}"))
        .ping_interval(PING)
        .subscription_capacity(SUBSCRIPTION_ITEMS)
        .client_capacity(CLIENT_ITEMS)
        .reconnect_delay_callback(reconnect_delay);
    // The client library reads no user out of a URL.
    if let Some((user, password)) = userinfo(&config.url) {
        options = options.user_and_password(user, password);
    }
    if let Some(file) = &config.credentials_file {
        options = options.credentials_file(file).await.map_err(ConnectError::Credentials)?;
    }
    if let Some(file) = &config.tls.ca_file {
        options = options.add_root_certificates(file.clone()).require_tls(true);
    }
    if let (Some(cert), Some(key)) = (&config.tls.cert_file, &config.tls.key_file) {
        options = options.add_client_certificate(cert.clone(), key.clone()).require_tls(true);
    }
    Ok(options)
}

/// Writes the addresses, but not who we are there.
fn write_url<S: Serializer>(url: &str, out: S) -> Result<S::Ok, S::Error> {
    let without_user = |address: &str| match address.rsplit_once('@') {
        Some((user, host)) => {
            let scheme = user.split_once("://").map_or("nats", |(scheme, _)| scheme);
            format!("{}://***@{host}", scheme.trim())
        }
        None => address.to_owned(),
    };
    out.serialize_str(&url.split(',').map(without_user).collect::<Vec<_>>().join(","))
}

/// In words, which Namespaces take payloads that this server may not.
fn too_small(max_payload: usize, namespaces: &Namespaces) -> Option<String> {
    let over = |rules: &namespace::Config| rules.max_message_bytes + HEADERS_BYTES > max_payload;
    let names = namespaces.all().filter(|(_, rules)| over(rules)).map(|(name, _)| name);
    let names: Vec<&str> = names.collect();
    (!names.is_empty()).then(|| {
        let names = names.join(", ");
        format!(
            "max_payload of the NATS server is {max_payload} bytes, and less than max_message_bytes \
             and {HEADERS_BYTES} bytes of headers in these namespaces: {names}"
        )
    })
}

fn addresses(config: &Config) -> Vec<&str> {
    config.url.split(',').map(str::trim).collect()
}

/// Sets nodes of one name apart: the last group of a version 7 UUID is random.
fn random() -> String {
    Uuid::now_v7().simple().to_string().split_off(26)
}

/// The first user and password that the addresses name; all servers take the same.
fn userinfo(addresses: &str) -> Option<(String, String)> {
    addresses.split(',').find_map(|address| {
        let address: ServerAddr = address.trim().parse().ok()?;
        Some((address.username()?.to_owned(), address.password()?.to_owned()))
    })
}

/// Fast at first, and not all nodes in step.
fn reconnect_delay(attempts: usize) -> Duration {
    let doubled = RECONNECT_FIRST_MS << attempts.min(8);
    let spread = Uuid::now_v7().as_u64_pair().1 % RECONNECT_SPREAD_MS;
    Duration::from_millis(doubled.min(RECONNECT_MAX_MS) + spread)
}

fn headers(publication: &Publication) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let time = publication.time.0.to_string();
    let trace = publication.trace.as_ref();
    for (name, text) in [
        (live::ID, Some(&*publication.id)),
        (live::TIME, Some(&*time)),
        (live::USER, publication.user.as_deref()),
        (live::TRACE_PARENT, trace.map(|trace| &*trace.parent)),
        (live::TRACE_STATE, trace.and_then(|trace| trace.state.as_deref())),
    ] {
        // What NATS cannot carry in a header is no id or name of ours.
        if let Some(Ok(value)) = text.map(str::parse::<HeaderValue>) {
            headers.insert(name, value);
        }
    }
    headers
}
