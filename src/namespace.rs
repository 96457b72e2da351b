//! The rules that Topics with the same first segment share.
//!
//! Operators name Namespaces in the configuration; `"*"` holds the rules for those not named. With
//! `strict` there are no others. One with `history` is *kept*: its Publications are stored, and a
//! client that comes back gets what it missed. All others are *best effort*.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::measure::{read_size, read_span, write_size, write_span};
use crate::topic::{Pattern, TopicError, is_segment};

/// The key that stands for every Namespace not named.
pub const OTHERS: &str = "*";
/// Where nodes keep what was revoked; no client can name it.
pub const REVOKED: &str = "_revoked";
/// Most that a revocation says, in bytes.
const REVOCATION_BYTES: usize = 1 << 10;

/// The rules of one Namespace, as configured.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Config {
    /// Largest payload of a Publication, in bytes.
    pub max_message_bytes: usize,
    /// What is stored of it; none: best effort.
    pub history: Option<History>,
    /// Subjects that exist on NATS: each is the Topic with this Namespace in front, and there are no
    /// other Topics.
    pub source: Option<Pattern>,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_message_bytes: 65_536, history: None, source: None }
    }
}

/// What is stored of a kept Namespace. Whatever is over one of these bounds leaves, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct History {
    /// Publications of one Topic.
    pub messages: u32,
    /// How old a Publication may be.
    #[serde(deserialize_with = "read_span", serialize_with = "write_span")]
    pub age: Duration,
    /// Bytes of the whole Namespace.
    #[serde(deserialize_with = "read_size", serialize_with = "write_size")]
    pub max_bytes: usize,
    /// Where NATS keeps it.
    pub storage: Storage,
    /// On how many servers of NATS.
    pub replicas: u8,
    /// Whether nodes make its stream, and change it when these rules change. If not, they check it.
    pub manage: bool,
    /// The stream, if it is one that others made.
    pub stream: Option<String>,
}

/// Where NATS keeps a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// On disk: a killed server has it when it comes back.
    File,
    /// It goes with its servers.
    Memory,
}

impl Default for History {
    fn default() -> Self {
        Self {
            messages: 100,
            age: Duration::from_secs(600),
            max_bytes: 1 << 30,
            storage: Storage::File,
            replicas: 1,
            manage: true,
            stream: None,
        }
    }
}

impl History {
    /// An id that comes again within this time is the same Publication.
    #[must_use]
    pub fn duplicate_window(&self) -> Duration {
        self.age.min(DUPLICATE_WINDOW_MAX)
    }

    fn faults(&self) -> Vec<(&'static str, &'static str)> {
        let mut faults = Vec::new();
        if !(1..=1_000_000).contains(&self.messages) {
            faults.push(("messages", "must be 1 to 1000000 of each topic"));
        }
        if !(Duration::from_secs(1)..=AGE_MAX).contains(&self.age) {
            faults.push(("age", "must be 1s to 8760h"));
        }
        if !(1 << 20..=1 << 40).contains(&self.max_bytes) {
            faults.push(("max_bytes", "must be 1MiB to 1024GiB"));
        }
        if !(1..=5).contains(&self.replicas) {
            faults.push(("replicas", "must be 1 to 5"));
        }
        if let Some(stream) = &self.stream {
            if self.manage {
                faults.push(("manage", "must be false: the stream belongs to who made it"));
            }
            if !is_stream_name(stream) {
                faults.push(("stream", "is no legal name of a stream"));
            }
        }
        faults
    }
}

fn is_stream_name(text: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (1..=STREAM_NAME_BYTES_MAX).contains(&text.len()) && text.chars().all(legal)
}

/// Of a stream that others made.
const STREAM_NAME_BYTES_MAX: usize = 128;
/// A year.
const AGE_MAX: Duration = Duration::from_secs(8_760 * 3_600);
const DUPLICATE_WINDOW_MAX: Duration = Duration::from_secs(120);

/// Why there can be no such Topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTopic {
    /// Strict Namespaces, and this is none of them.
    #[error("the namespace {0:?} is not configured")]
    Unknown(Box<str>),
    /// Its Namespace has Topics of another shape.
    #[error("{0} is not among the topics that its namespace can have")]
    Outside(Pattern),
}

/// All Namespaces that this node knows.
#[derive(Debug, Clone, Default)]
pub struct Namespaces {
    named: BTreeMap<String, Config>,
    others: Option<Config>,
    /// The Topics of each Namespace that has a source.
    sources: BTreeMap<String, Pattern>,
    /// Where metrics count each that is named.
    places: BTreeMap<String, usize>,
    /// The rules of [`REVOKED`], where that is kept.
    revoked: Option<Box<Config>>,
}

impl Namespaces {
    /// Takes the configured rules. Not `strict`: whoever is not named follows `"*"`, or the defaults.
    #[must_use]
    pub fn new(mut configured: BTreeMap<String, Config>, strict: bool) -> Self {
        let others = configured.remove(OTHERS);
        let others = if strict { None } else { Some(others.unwrap_or_default()) };
        let topics = |(name, rules): (&String, &Config)| {
            Some((name.clone(), below(name, rules.source.as_ref()?).ok()?))
        };
        let sources = configured.iter().filter_map(topics).collect();
        let places = configured.keys().cloned().zip(0..).collect();
        Self { named: configured, others, sources, places, revoked: None }
    }

    /// The same with a place for revocations, each kept so long, as safe as the safest of what is kept.
    /// Where nothing is kept, nothing is asked of who would keep it.
    #[must_use]
    pub fn revoking(mut self, age: Duration) -> Self {
        let replicas = self.kept().map(|(_, history)| history.replicas).max();
        // Who has made the streams of others has not made this one.
        let is_ours = |history: &History| history.manage || history.stream.is_some();
        let manage = self.kept().any(|(_, history)| is_ours(history));
        self.revoked = replicas.map(|replicas| {
            // Bounded by who writes it: room in bytes is set aside at once, and where all of it is given
            // to other streams no node would start any more.
            let max_bytes = usize::MAX;
            let rules =
                History { messages: 1, age, max_bytes, replicas, manage, ..History::default() };
            Box::new(Config {
                max_message_bytes: REVOCATION_BYTES,
                history: Some(rules),
                source: None,
            })
        });
        self
    }

    /// The Topics of this Namespace, where they are those of a source alone.
    #[must_use]
    pub fn source(&self, namespace: &str) -> Option<&Pattern> {
        self.sources.get(namespace)
    }

    /// The rules of a Pattern, or why no Topic that it matches can be: its Namespace is not known, or
    /// has others. Where there is a source, they are below it; where it is kept, they have a second
    /// segment.
    pub fn admits(&self, pattern: &Pattern) -> Result<&Config, NoTopic> {
        let namespace = pattern.namespace();
        let rules = self.rules(namespace).ok_or_else(|| NoTopic::Unknown(namespace.into()))?;
        let alone = pattern.as_str() == namespace && rules.history.is_some();
        let source = self.source(namespace);
        if alone || source.is_some_and(|topics| topics.intersection(pattern).is_none()) {
            return Err(NoTopic::Outside(pattern.clone()));
        }
        Ok(rules)
    }

    /// The rules for this first segment; none if the configuration does not know it.
    #[must_use]
    pub fn rules(&self, namespace: &str) -> Option<&Config> {
        if namespace == REVOKED {
            return self.revoked.as_deref();
        }
        self.named.get(namespace).or(self.others.as_ref())
    }

    /// What is stored of this Namespace, if anything is.
    #[must_use]
    pub fn history(&self, namespace: &str) -> Option<&History> {
        self.rules(namespace)?.history.as_ref()
    }

    /// All kept Namespaces.
    pub fn kept(&self) -> impl Iterator<Item = (&str, &History)> {
        self.named.iter().filter_map(|(name, rules)| Some((&**name, rules.history.as_ref()?)))
    }

    /// The same, and the nodes' own.
    pub fn stored(&self) -> impl Iterator<Item = (&str, &History)> {
        let revoked = self.history(REVOKED).map(|history| (REVOKED, history));
        self.kept().chain(revoked)
    }

    /// The names under which metrics count, by place: clients invent first segments, and what they
    /// invent is counted under the last.
    pub fn labels(&self) -> impl Iterator<Item = &str> {
        self.places.keys().map(String::as_str).chain([OTHERS])
    }

    /// The label under which it is counted.
    #[must_use]
    pub fn label(&self, namespace: &str) -> &str {
        self.places.get_key_value(namespace).map_or(OTHERS, |(name, _)| name)
    }

    /// The place of its label.
    #[must_use]
    pub fn place(&self, namespace: &str) -> usize {
        self.places.get(namespace).copied().unwrap_or(self.places.len())
    }

    /// All rules, each with its name; those for others last.
    pub fn all(&self) -> impl Iterator<Item = (&str, &Config)> {
        let named = self.named.iter().map(|(name, rules)| (name.as_str(), rules));
        named.chain(self.others.iter().map(|rules| (OTHERS, rules)))
    }

    /// The largest payload that any Namespace takes.
    #[must_use]
    pub fn message_bytes_max(&self) -> usize {
        self.all().map(|(_, rules)| rules.max_message_bytes).max().unwrap_or(0)
    }
}

/// The Topics that subjects become.
fn below(namespace: &str, source: &Pattern) -> Result<Pattern, TopicError> {
    Pattern::parse(&format!("{namespace}.{source}"))
}

/// What is wrong with a source, in words.
fn source_fault(name: &str, source: &Pattern) -> Option<String> {
    if name == OTHERS {
        return Some("belongs to one namespace, by name".to_owned());
    }
    let named = Pattern::parse_subscription(source.as_str()).map(drop);
    let why = named.and_then(|()| below(name, source).map(drop)).err()?;
    Some(format!("cannot be a source: {why}"))
}

/// What is wrong with configured Namespaces, each with its key; all of it at once.
#[must_use]
pub fn faults(configured: &BTreeMap<String, Config>) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    let mut kept = BTreeMap::new();
    for (name, rules) in configured {
        if name != OTHERS && (!is_segment(name) || name.starts_with('_')) {
            faults.push((name.clone(), "is not a legal first segment of a topic".to_owned()));
        }
        if !(1..=8 << 20).contains(&rules.max_message_bytes) {
            faults.push((
                format!("{name}.max_message_bytes"),
                "must be between 1 byte and 8 MiB".to_owned(),
            ));
        }
        if let Some(history) = &rules.history {
            if name == OTHERS {
                let what = "clients would make a history by inventing a name: name the namespace";
                faults.push((format!("{name}.history"), what.to_owned()));
            }
            if let Some(other) = kept.insert(name.to_ascii_lowercase(), name) {
                let what = format!("differs from {other} in case alone, and some disks do not");
                faults.push((format!("{name}.history"), what));
            }
            for (key, what) in history.faults() {
                faults.push((format!("{name}.history.{key}"), what.to_owned()));
            }
        }
        if let Some(what) = rules.source.as_ref().and_then(|source| source_fault(name, source)) {
            faults.push((format!("{name}.source"), what));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named() -> BTreeMap<String, Config> {
        [("dash".to_owned(), Config { max_message_bytes: 10, ..Config::default() })].into()
    }

    #[test]
    fn strict_knows_only_what_is_named() {
        assert!(Namespaces::new(named(), true).rules("chat").is_none());
        assert!(Namespaces::new(named(), false).rules("chat").is_some());
        assert_eq!(Namespaces::new(named(), true).rules("dash").unwrap().max_message_bytes, 10);
    }

    #[test]
    fn revocations_are_kept_where_something_is() {
        let age = Duration::from_secs(60);
        let namespaces = |history: &[History]| {
            let rules =
                |history: &History| Config { history: Some(history.clone()), ..Config::default() };
            let named = (0..).zip(history).map(|(n, history)| (format!("n{n}"), rules(history)));
            Namespaces::new(named.collect(), false).revoking(age)
        };
        assert!(
            namespaces(&[]).history(REVOKED).is_none() && namespaces(&[]).stored().next().is_none()
        );
        let by_hand = History { manage: false, replicas: 3, ..History::default() };
        let kept = namespaces(&[History::default(), by_hand.clone()]);
        let revoked = kept.history(REVOKED).unwrap();
        assert_eq!(
            (revoked.replicas, revoked.manage, revoked.messages, revoked.age),
            (3, true, 1, age)
        );
        assert!(!namespaces(std::slice::from_ref(&by_hand)).history(REVOKED).unwrap().manage);
        let of_others = History { stream: Some("ORDERS".to_owned()), ..by_hand };
        assert!(namespaces(&[of_others]).history(REVOKED).unwrap().manage);
        assert_eq!((kept.stored().count(), kept.kept().count(), kept.labels().count()), (3, 2, 3));
    }

    #[test]
    fn a_source_says_which_topics_there_are() {
        let source = |text| Config { source: Some(text), ..Config::default() };
        let orders = source(Pattern::parse("orders.*.>").unwrap());
        let namespaces = Namespaces::new([("dash".to_owned(), orders)].into(), false);
        for (text, can) in [
            ("dash.orders.eu.1", true),
            ("dash.>", true),
            ("dash.*.eu.>", true),
            ("dash.orders.eu", false),
            ("dash.*", false),
            ("dash", false),
            ("dash.stock.>", false),
            ("chat.stock", true),
        ] {
            assert_eq!(namespaces.admits(&Pattern::parse(text).unwrap()).is_ok(), can, "{text}");
        }
    }

    #[test]
    fn a_source_is_named() {
        for (name, source, words) in [
            ("dash", "orders.>", None),
            ("dash", "orders", None),
            ("dash", "*.eu", Some("must be named")),
            ("dash", ">", Some("must be named")),
            ("*", "orders.>", Some("by name")),
            ("dash", "a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a", Some("segments")),
        ] {
            let source = Some(Pattern::parse(source).unwrap());
            let rules = Config { source, ..Config::default() };
            let found = faults(&[(name.to_owned(), rules)].into());
            assert_eq!(found.len(), words.iter().count(), "{found:?}");
            assert!(found.iter().all(|(_, what)| what.contains(words.unwrap())), "{found:?}");
        }
    }

    #[test]
    fn a_label_is_never_what_a_client_made_up() {
        let namespaces = Namespaces::new(named(), false);
        assert_eq!(namespaces.labels().nth(namespaces.place("dash")), Some("dash"));
        assert_eq!(namespaces.labels().nth(namespaces.place("invented")), Some("*"));
        assert_eq!(namespaces.labels().nth(namespaces.place("*")), Some("*"));
    }
}
