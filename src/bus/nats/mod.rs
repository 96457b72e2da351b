//! The Bus of many nodes, on NATS.
//!
//! A Topic is a subject below a prefix, or one that exists beside us and is in the source of its
//! Namespace; what anybody publishes there, a backend or a node, reaches every node that has a Feed
//! for it, and no other. What is lost on the way is told, by [`Link`].
//!
//! A kept Namespace has a stream. It stores what is published and says it again, each with its Offset,
//! where nodes hear it; that road loses messages, and their Offsets show it. Whoever misses one reads
//! it from the stream, over a connection of its own.

mod call;
mod check;
mod denied;
mod echo;
mod files;
mod headers;
mod history;
mod link;
mod live;
mod publish;
mod request;
mod stored;
mod stream;
mod subject;
mod version;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, ServerAddr, Statistics, Subscriber};
use bytes::Bytes;
use serde::{Deserialize, Serialize, Serializer};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use uuid::Uuid;

use super::call::{Answers, Call, Calls};
use super::history::{Head, Newest, Page, ReadError, Want};
use super::{Bus, CallError, Link, MOMENT, PublishError, Receipt, SubscribeError};
use crate::namespace::{self, Namespaces};
use crate::publication::{Publication, Timestamp};
use crate::topic::Pattern;
pub use check::{Account, CheckError, Report, StreamReport, check};
use denied::Denied;
use echo::{Echo, Rounds};
use history::Kept;
use link::Watcher;
pub use live::Subscription;
use request::{Requests, Waiting};
use stream::{HEADERS_BYTES, Wanted};
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
/// It waits so much longer for the streams of kept Namespaces.
const STREAMS: Duration = Duration::from_secs(10);
/// On the connection that history is read by: messages of sixteen pages, and questions.
const READ_ITEMS: usize = 16 * history::PAGE_ITEMS;
const READ_QUESTIONS: usize = 256;
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

impl ConnectError {
    fn client(fault: impl std::error::Error) -> Self {
        Self::Client(fault.to_string())
    }
}

/// All kept Namespaces by name.
type Archive = BTreeMap<Box<str>, Arc<Kept>>;

/// What is counted of the connection that Publications come by.
#[derive(Debug, Clone)]
pub struct Counted {
    statistics: Arc<Statistics>,
    dropped: Arc<AtomicU64>,
}

impl Counted {
    /// How often it was made again.
    #[must_use]
    pub fn reconnects(&self) -> u64 {
        self.statistics.connects.load(Ordering::Relaxed).saturating_sub(1)
    }

    /// Messages for which there was no room.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// The Bus; clones are the same one.
#[derive(Clone)]
pub struct Nats(Arc<Connection>);

struct Connection {
    client: Client,
    subjects: Subjects,
    echo: Echo,
    /// Questions over it.
    requests: Requests,
    kept: Archive,
    link: watch::Receiver<Link>,
    denied: Arc<Denied>,
    now: fn() -> Timestamp,
    counted: Counted,
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
        let dropped = Arc::<AtomicU64>::default();
        let dropping = Arc::clone(&dropped);
        let options = options(config, subjects.id()).await?.retry_on_initial_connect();
        let options = options.event_callback(move |event| {
            if let Event::ServerError(fault) = &event {
                noting.note(&fault.to_string());
            } else if let Event::SlowConsumer(_) = &event {
                dropping.fetch_add(1, Ordering::Relaxed);
            }
            let events = events.clone();
            async move {
                // What does not fit shows at the next look.
                let _ = events.try_send(event);
            }
        });
        let client = options.connect(addresses(config)).await.map_err(ConnectError::client)?;
        let echoes = client.subscribe(subjects.echo()).await.map_err(ConnectError::client)?;
        let probes = client.subscribe(subjects.probe()).await.map_err(ConnectError::client)?;
        let (echo, rounds) = Rounds::new(client.clone(), subjects.echo(), echoes);
        let mut tasks = JoinSet::new();
        let inbox = subjects.inbox("live");
        let (asker, refusing) = (client.clone(), Arc::clone(&denied));
        let requests = asking(asker, &inbox, Arc::default(), refusing, &mut tasks).await?;
        let kept = archive(config, &subjects, &namespaces, &requests, &mut tasks).await?;
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
            kept: kept.values().cloned().collect(),
            provisioning: JoinSet::new(),
            complaints: link::Complaints::default(),
            tried: Some(tried),
        };
        tasks.spawn(rounds.run());
        tasks.spawn(watcher.run());
        tasks.spawn(echo::pulse(client.clone(), link_end.clone(), echo.clone()));
        let streams = if kept.is_empty() { Duration::ZERO } else { STREAMS };
        if let Ok(Ok(Some(unfit))) = timeout(FIRST_TRY + streams, first_try).await {
            return Err(ConnectError::Unfit(unfit));
        }
        let link = link_end;
        let counted = Counted { statistics: client.statistics(), dropped };
        Ok(Self(Arc::new(Connection {
            client,
            subjects,
            echo,
            requests,
            kept,
            link,
            denied,
            now,
            counted,
            _tasks: tasks,
        })))
    }

    /// The node's name on NATS, which no other has.
    #[must_use]
    pub fn id(&self) -> &str {
        self.0.subjects.id()
    }

    /// What is counted of its connection, for whoever outlives it.
    #[must_use]
    pub fn counted(&self) -> Counted {
        self.0.counted.clone()
    }

    /// Writes out what is still to be sent, as far as that can be done within `limit`.
    pub async fn flush(&self, limit: Duration) {
        let _ = timeout(limit, self.0.client.flush()).await;
    }
}

impl Bus for Nats {
    type Live = Subscription;

    async fn publish(&self, publication: Publication) -> Result<Receipt, PublishError> {
        match self.0.kept.get(publication.topic.namespace()) {
            Some(kept) => self.0.publish_kept(kept, publication).await,
            None => self.0.publish_once(publication).await,
        }
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Subscription, SubscribeError> {
        let subject = self.0.subjects.pattern(pattern);
        self.0.listen(subject, pattern.namespace(), None).await
    }

    async fn follow(&self, namespace: &str) -> Result<Subscription, SubscribeError> {
        let kept = self.0.kept.get(namespace).ok_or(SubscribeError::Unavailable)?;
        let heard = kept.wanted.names.heard.clone();
        self.0.listen(heard, namespace, Some(Arc::clone(kept))).await
    }

    async fn head(&self, namespace: &str) -> Result<Head, ReadError> {
        self.0.kept(namespace)?.head().await
    }

    async fn read(&self, namespace: &str, want: Want<'_>) -> Result<Page, ReadError> {
        self.0.kept(namespace)?.read(want).await
    }

    async fn newest(
        &self,
        namespace: &str,
        patterns: &[Pattern],
        topics_max: usize,
    ) -> Result<Newest, ReadError> {
        self.0.kept(namespace)?.newest(patterns, topics_max).await
    }

    async fn since(&self, namespace: &str, time: Timestamp) -> Result<Option<u64>, ReadError> {
        self.0.kept(namespace)?.since(time).await
    }

    async fn tell(&self, call: Call, payload: Bytes) -> Result<(), CallError> {
        self.0.tell(call, payload).await
    }

    async fn ask(
        &self,
        call: Call,
        payload: Bytes,
        answers_max: usize,
    ) -> Result<Answers, CallError> {
        self.0.ask(call, payload, answers_max).await
    }

    async fn hear(&self, call: Call) -> Result<Calls, CallError> {
        self.0.hear(call).await
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.0.link.clone()
    }
}

impl Connection {
    fn kept(&self, namespace: &str) -> Result<&Arc<Kept>, ReadError> {
        self.kept.get(namespace).ok_or(ReadError::Unavailable)
    }

    /// Subscribes, and waits until that has arrived.
    async fn listen(
        &self,
        subject: String,
        namespace: &str,
        kept: Option<Arc<Kept>>,
    ) -> Result<Subscription, SubscribeError> {
        self.whole().await.ok_or(SubscribeError::Unavailable)?;
        let (mut link, denied) = (self.link.clone(), self.denied.watch());
        link.mark_unchanged();
        if self.denied.subscribing(&subject) {
            return Err(SubscribeError::Unavailable);
        }
        let elections = match &kept {
            Some(kept) => Some(self.hand_over(kept.wanted.names.elected()).await?),
            None => None,
        };
        let messages = self.hand_over(subject.clone()).await?;
        let mut proven = self.echo.round().await;
        if proven.is_none() {
            // On a new link the client library subscribes again by itself.
            self.whole().await.ok_or(SubscribeError::Unavailable)?;
            proven = self.echo.round().await;
        }
        proven.ok_or(SubscribeError::Unavailable)?;
        if self.denied.subscribing(&subject) {
            return Err(SubscribeError::Unavailable);
        }
        let from = match (kept, elections) {
            (Some(kept), Some(elections)) => live::From::Stream { kept, elections },
            _ => live::From::Anybody { now: self.now },
        };
        let (subjects, namespace) = (self.subjects.clone(), namespace.into());
        Ok(Subscription { messages, subject, namespace, subjects, skipped: 0, link, denied, from })
    }

    /// The generation of the link, once it is whole. One that was lost a moment ago may be back in
    /// another: who is moved from server to server should not notice. None if it is not.
    async fn whole(&self) -> Option<u64> {
        let mut link = self.link.clone();
        loop {
            let (connected, since) = {
                let now = link.borrow_and_update();
                (now.connected, now.since)
            };
            if connected && link::is_connected(&self.client) {
                return Some(link::generation(&self.client));
            }
            // That it is lost is noticed soon.
            let until = if connected { Instant::now() } else { since } + MOMENT;
            timeout_at(until, link.changed()).await.ok()?.ok()?;
        }
    }

    async fn hand_over(&self, subject: String) -> Result<Subscriber, SubscribeError> {
        match timeout(HAND_OVER, self.client.subscribe(subject)).await {
            Ok(Ok(messages)) => Ok(messages),
            Ok(Err(_)) | Err(_) => Err(SubscribeError::Unavailable),
        }
    }
}

/// The kept Namespaces, and the connection that their history is read by, if there are any.
async fn archive(
    config: &Config,
    subjects: &Subjects,
    namespaces: &Namespaces,
    live: &Requests,
    tasks: &mut JoinSet<()>,
) -> Result<Archive, ConnectError> {
    if namespaces.stored().next().is_none() {
        return Ok(Archive::new());
    }
    let (waiting, denied) = (Arc::<Waiting>::default(), Arc::<Denied>::default());
    let (giving_up, noting) = (Arc::clone(&waiting), Arc::clone(&denied));
    let options = options(config, &format!("{} history", subjects.id()))
        .await?
        .retry_on_initial_connect()
        .subscription_capacity(READ_ITEMS)
        .client_capacity(READ_QUESTIONS)
        .event_callback(move |event| {
            match event {
                // What was asked is not answered any more.
                Event::Disconnected => giving_up.give_up(),
                Event::Connected => noting.forget(),
                Event::ServerError(fault) => noting.note(&fault.to_string()),
                _ => {}
            }
            std::future::ready(())
        });
    let client = options.connect(addresses(config)).await.map_err(ConnectError::client)?;
    let reads = asking(client, &subjects.inbox("history"), waiting, denied, tasks).await?;
    let kept = wanted(config, subjects, namespaces).map(|wanted| {
        let name = wanted.namespace.clone();
        (name, Arc::new(Kept::new(wanted, subjects.clone(), live.clone(), reads.clone())))
    });
    Ok(kept.collect())
}

/// The streams that kept Namespaces need.
fn wanted(
    config: &Config,
    subjects: &Subjects,
    namespaces: &Namespaces,
) -> impl Iterator<Item = Wanted> {
    namespaces.stored().filter_map(|(name, history)| {
        let names = subjects.names(name, history.stream.as_deref());
        Some(Wanted::new(name, namespaces.rules(name)?, history, names, &config.prefix))
    })
}

/// Listens for answers on a connection.
async fn asking(
    client: Client,
    inbox: &str,
    waiting: Arc<Waiting>,
    denied: Arc<Denied>,
    tasks: &mut JoinSet<()>,
) -> Result<Requests, ConnectError> {
    let answers = client.subscribe(format!("{inbox}.*")).await.map_err(ConnectError::client)?;
    tasks.spawn(Arc::clone(&waiting).deal(answers));
    Ok(Requests::new(client, inbox, waiting, denied))
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
    Duration::from_millis(doubled.min(RECONNECT_MAX_MS)) + random_ms(RECONNECT_SPREAD_MS)
}

/// Something from nothing up to so many milliseconds: nodes must not do things in step.
fn random_ms(below: u64) -> Duration {
    // The last half of a version 7 UUID is random.
    Duration::from_millis(Uuid::now_v7().as_u64_pair().1.checked_rem(below).unwrap_or(0))
}
