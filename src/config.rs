//! The configuration: one shape, composed of what each room asks for, and how it is read.
//!
//! File, then environment, then flags: each is laid over the one before as a tree of values that
//! remember where they stand. Only the finished tree becomes a [`Config`]. The commands call
//! [`load`]; the rooms get their part of the result and know nothing of this file.
//!
//! LAW: an operator sees every fault at once, each with its place. So a value that cannot be read is
//! noted, cut out of the tree, and the tree is read again, until nothing is left to complain about.
//! What nobody reads (an unknown key) is a fault like any other.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use self::limits::{CONNECTIONS_MAX, within};
use self::tree::Tree;
use crate::auth;
use crate::bus::nats;
use crate::measure::{read_span, size_text, write_span};
use crate::namespace::{self, Namespaces};
use crate::topic::Pattern;

pub use self::limits::Limits;

mod limits;
#[cfg(test)]
mod tests;
mod tree;

/// What every environment variable of ours begins with.
const PREFIX: &str = "TIDEGATE_";
/// Variables that are read by the command line, and are no keys.
const NO_KEYS: [&str; 3] = ["TIDEGATE_CONFIG", "TIDEGATE_TOKEN", "TIDEGATE_URL"];
/// What a Frame needs beside its payload, in bytes.
const FRAME_HEAD_BYTES: usize = 4 << 10;
/// Descriptors kept for everything that is no Connection.
const SPARE_FILES: u64 = 256;
/// Outboxes hold at least this many of the largest payloads.
const OUTBOX_PAYLOADS_MIN: usize = 4;
/// The fault of a node that no client could use.
const NOBODY: &str =
    "nobody could come in: it needs issuers, api_keys_file or a Grant in anonymous";
/// Largest `shards`.
const SHARDS_MAX: usize = 1024;

/// Everything that one node is told. As [`load`] returns it, nothing is left open: where the file
/// says nothing (or 0), the value in force stands here.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where health is asked for; never public.
    pub management: SocketAddr,
    /// How many Shards; 0 in the file: one per core.
    pub shards: usize,
    /// The name of this node; empty in the file: the hostname.
    pub node: String,
    /// How NATS is reached.
    pub nats: nats::Config,
    /// Who may come in.
    pub auth: auth::Config,
    /// The rules of Topics, by first segment.
    pub namespaces: BTreeMap<String, namespace::Config>,
    /// Whether there are no Namespaces but those named.
    pub strict: bool,
    /// The bounds.
    pub limits: Limits,
    /// How the node goes away.
    pub drain: Drain,
    /// How the log is written.
    pub log: Log,
}

impl Default for Config {
    fn default() -> Self {
        let any = |port| SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        Self {
            listen: any(8080),
            management: any(9090),
            shards: 0,
            node: String::new(),
            nats: nats::Config::default(),
            auth: auth::Config::default(),
            namespaces: BTreeMap::new(),
            strict: false,
            limits: Limits::default(),
            drain: Drain::default(),
            log: Log::default(),
        }
    }
}

/// How the node goes away.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Drain {
    /// It goes on as before for this long, until nobody sends it new clients.
    #[serde(deserialize_with = "read_span", serialize_with = "write_span")]
    pub lame_duck: Duration,
    /// Clients leave one by one over this time.
    #[serde(deserialize_with = "read_span", serialize_with = "write_span")]
    pub window: Duration,
}

impl Default for Drain {
    fn default() -> Self {
        Self { lame_duck: Duration::from_secs(5), window: Duration::from_secs(45) }
    }
}

/// How the log is written.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Log {
    /// For machines or for people.
    pub format: Format,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: Format::Json, level: "info".to_owned() }
    }
}

/// The two ways to write a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", rename_all = "lowercase")]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// Prose.
    Pretty,
}

impl TryFrom<String> for Format {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        match text.as_str() {
            "json" => Ok(Self::Json),
            "pretty" => Ok(Self::Pretty),
            _ => Err(format!("{text:?} is not json or pretty")),
        }
    }
}

/// What flags say over file and environment.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--listen`
    pub listen: Option<SocketAddr>,
    /// `--management`
    pub management: Option<SocketAddr>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// `tidegate.yaml:12`, the name of an environment variable, or nothing: a default.
    pub place: String,
    /// The key, such as `limits.outbox_bytes`; empty if it is about the whole.
    pub key: String,
    /// In words.
    pub what: String,
}

impl Fault {
    /// By line of the file; what does not stand there comes last.
    fn order(&self) -> (u64, String) {
        let line = self.place.rsplit_once(':').and_then(|(_, line)| line.parse().ok());
        (line.unwrap_or(u64::MAX), self.key.clone())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.place, &self.key] {
            if !part.is_empty() {
                write!(out, "{part}: ")?;
            }
        }
        out.write_str(&self.what)
    }
}

/// Everything that is wrong, one fault a line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(out, "{separator}{fault}")?;
        }
        Ok(())
    }
}

/// Reads the configuration: the file, the environment over it, flags over both.
///
/// `TIDEGATE_LIMITS__OUTBOX_BYTES` is `limits.outbox_bytes`. Names are read in lower case, so no
/// variable reaches a Namespace with capitals.
///
/// # Errors
/// All that is wrong, in the order of the file. A file that is no YAML, or has a key twice, is one
/// fault.
pub fn load(
    file: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
    flags: &Overrides,
) -> Result<Config, Faults> {
    // A variable may be laid over the part of another: in order, so that the outcome is the same
    // each time.
    let environment: BTreeMap<String, String> = environment.collect();
    let mut tree = match file {
        Some(path) => Tree::read(path).map_err(|fault| Faults(vec![fault]))?,
        None => Tree::empty(),
    };
    for (name, text) in &environment {
        let Some(key) = name.strip_prefix(PREFIX) else {
            continue;
        };
        // An empty variable is how shells and manifests say "not set".
        if !NO_KEYS.contains(&name.as_str()) && !text.is_empty() {
            tree.lay(&key.to_lowercase(), text, name.clone());
        }
    }
    for (key, address) in [("listen", flags.listen), ("management", flags.management)] {
        if let Some(address) = address {
            tree.lay(key, &address.to_string(), format!("--{key}"));
        }
    }

    let (mut config, mut faults) = tree.shape::<Config>();
    let nofile = nofile();
    let mut wrong = wrong(&config, nofile);
    if !faults.iter().any(|fault| fault.key.starts_with("auth")) {
        wrong.extend(locked(&config.auth));
    }
    faults.extend(wrong.into_iter().map(|(key, what)| tree.fault(&key, what)));
    if !faults.is_empty() {
        faults.sort_by_key(Fault::order);
        return Err(Faults(faults));
    }
    settle(&mut config, nofile, environment.get("HOSTNAME"));
    Ok(config)
}

/// What `dev` runs with: every default, and nobody let in yet.
#[must_use]
pub fn unconfigured() -> Config {
    let mut config = Config::default();
    settle(&mut config, nofile(), None);
    config
}

/// What is wrong with keys and their files, so that it is told with the rest. The node opens them
/// again, and keeps them.
fn locked(config: &auth::Config) -> Vec<(String, String)> {
    match auth::Auth::open(config) {
        Ok(auth) if auth.is_empty() => vec![("auth".to_owned(), NOBODY.to_owned())],
        Ok(_) => Vec::new(),
        Err(faults) => faults.into_iter().map(|fault| (fault.path, fault.what)).collect(),
    }
}

/// Puts what is in force where the file says nothing.
fn settle(config: &mut Config, nofile: u64, hostname: Option<&String>) {
    let limits = &mut config.limits;
    if limits.frame_bytes == 0 {
        limits.frame_bytes = largest_payload(&config.namespaces, config.strict) + FRAME_HEAD_BYTES;
    }
    if limits.max_connections == 0 {
        limits.max_connections = connections(nofile);
    }
    if config.shards == 0 {
        config.shards = std::thread::available_parallelism().map_or(1, usize::from);
    }
    if config.node.is_empty() {
        config.node = std::fs::read_to_string("/proc/sys/kernel/hostname")
            .ok()
            .or_else(|| hostname.cloned())
            .map(|name| name.trim().to_owned())
            .filter(|name| is_name(name))
            .unwrap_or_else(|| "tidegate".to_owned());
    }
}

/// What is wrong with values that could be read, each with its key.
fn wrong(config: &Config, nofile: u64) -> Vec<(String, String)> {
    let under = |part: &str, (key, what): (String, String)| (format!("{part}.{key}"), what);
    let namespaces = namespace::faults(&config.namespaces).into_iter();
    let limits = config.limits.faults().into_iter();
    let mut faults: Vec<_> = namespaces
        .map(|fault| under("namespaces", fault))
        .chain(limits.map(|fault| under("limits", fault)))
        .chain(nats::faults(&config.nats).into_iter().map(|fault| under("nats", fault)))
        .chain(within("shards", &config.shards, 0..=SHARDS_MAX, usize::to_string))
        .collect();
    let mut say = |key: &str, what: String| faults.push((key.to_owned(), what));

    if !config.node.is_empty() && !is_name(&config.node) {
        say("node", "must be 1 to 200 printable characters without spaces".to_owned());
    }
    for (key, span, max_seconds) in [
        ("drain.lame_duck", config.drain.lame_duck, 300),
        ("drain.window", config.drain.window, 3600),
    ] {
        if span > Duration::from_secs(max_seconds) {
            say(key, format!("must be at most {max_seconds}s"));
        }
    }
    for (name, rules) in &config.namespaces {
        let key = format!("namespaces.{name}.source");
        let own = Pattern::parse(&format!("{}.>", config.nats.prefix)).ok();
        match &rules.source {
            Some(_) if config.nats.url.is_empty() => {
                say(&key, "its subjects are on NATS, and nats.url is not set".to_owned());
            }
            Some(source) if own.is_some_and(|own| own.intersection(source).is_some()) => {
                say(&key, "must have nothing in common with nats.prefix".to_owned());
            }
            Some(_) | None => {}
        }
    }
    if config.log.level.parse::<tracing::Level>().is_err() {
        say("log.level", "must be error, warn, info, debug or trace".to_owned());
    }
    if config.listen == config.management && config.listen.port() != 0 {
        say("management", "must not be the address of listen".to_owned());
    }
    let largest = largest_payload(&config.namespaces, config.strict);
    let needed = largest.saturating_mul(OUTBOX_PAYLOADS_MIN);
    if config.limits.outbox_bytes < needed {
        let (n, needed) = (OUTBOX_PAYLOADS_MIN, size_text(needed));
        let what = format!("must be at least {needed}, {n} of the largest max_message_bytes");
        say("limits.outbox_bytes", what);
    }
    // A part is asked for when the Outbox is under half.
    let half = config.limits.outbox_bytes / 2;
    if config.limits.replay_part_bytes > half {
        let what = format!("must be at most {}, half of outbox_bytes", size_text(half));
        say("limits.replay_part_bytes", what);
    }
    let wanted = match config.limits.max_connections {
        0 => connections(nofile),
        configured => configured,
    };
    if (wanted as u64).saturating_add(SPARE_FILES) > nofile {
        let what = format!("{wanted} and {SPARE_FILES} more files, but nofile is {nofile}");
        say("limits.max_connections", what);
    }
    faults
}

fn largest_payload(namespaces: &BTreeMap<String, namespace::Config>, strict: bool) -> usize {
    Namespaces::new(namespaces.clone(), strict).message_bytes_max()
}

/// How many Connections this many open files allow.
fn connections(nofile: u64) -> usize {
    let allowed = nofile.saturating_sub(1000).max(nofile / 2);
    usize::try_from(allowed).unwrap_or(usize::MAX).min(CONNECTIONS_MAX)
}

/// How many files this process may open.
#[must_use]
pub fn nofile() -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    match line.and_then(|line| line.split_whitespace().next()) {
        Some("unlimited") => u64::MAX,
        Some(number) => number.parse().unwrap_or(1024),
        None => 1024,
    }
}

fn is_name(text: &str) -> bool {
    (1..=200).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}
