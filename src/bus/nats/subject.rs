//! Topics and Patterns as NATS spells them.
//!
//! This is the only file that makes subjects, and it makes them from what has been checked, by putting
//! something in front. So no client's text can become a subject of its own choice. In a Namespace with
//! a source the Namespace is taken away instead, and only from a Topic that the source has.

use std::sync::Arc;

use crate::bus::call::Call;
use crate::namespace::{History, Namespaces, REVOKED};
use crate::topic::{Pattern, Topic};

/// Longest prefix, in bytes.
const PREFIX_BYTES_MAX: usize = 32;
/// Most segments of a prefix.
const PREFIX_SEGMENTS_MAX: usize = 3;
/// A node's name is cut to this in its id.
const NAME_BYTES: usize = 56;

/// Makes the subjects of one node.
#[derive(Debug, Clone)]
pub(super) struct Subjects {
    prefix: Arc<str>,
    id: Arc<str>,
    namespaces: Arc<Namespaces>,
}

/// A kept Namespace on NATS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// Its stream.
    pub(super) stream: String,
    /// What the stream takes, if a node made it.
    pub(super) taken: String,
    /// Where the stream says again what it has stored.
    pub(super) said: String,
    /// Where a node hears that.
    pub(super) heard: String,
    /// Whether its subjects are those of a source.
    sourced: bool,
}

impl Names {
    /// Where a stream must say again what it takes at these subjects; none if it must not.
    pub(super) fn said_of(&self, subjects: &str) -> Option<String> {
        if subjects == self.taken {
            return Some(self.said.clone());
        }
        let all = self.heard.strip_suffix('>').filter(|_| self.sourced)?;
        Some(format!("{all}{}", numbered(subjects)))
    }

    /// Asks how the stream stands.
    pub(super) fn info(&self) -> String {
        format!("$JS.API.STREAM.INFO.{}", self.stream)
    }

    /// Makes it.
    pub(super) fn create(&self) -> String {
        format!("$JS.API.STREAM.CREATE.{}", self.stream)
    }

    /// Changes it.
    pub(super) fn update(&self) -> String {
        format!("$JS.API.STREAM.UPDATE.{}", self.stream)
    }

    /// Reads one message from who leads it.
    pub(super) fn get(&self) -> String {
        format!("$JS.API.STREAM.MSG.GET.{}", self.stream)
    }

    /// Reads many, from any that has it.
    pub(super) fn get_many(&self) -> String {
        format!("$JS.API.DIRECT.GET.{}", self.stream)
    }

    /// Says when another leads it.
    pub(super) fn elected(&self) -> String {
        format!("$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.{}", self.stream)
    }
}

/// What NATS must allow a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Right {
    /// As permissions name it.
    pub(super) needed: String,
    /// What shows whether it is there, and reaches nobody.
    pub(super) tried: String,
}

impl Right {
    fn itself(subject: String) -> Self {
        Self { needed: subject.clone(), tried: subject }
    }
}

impl Subjects {
    /// Subjects below a prefix that [`prefix_fault`] has nothing against; `random` sets nodes of one
    /// name apart.
    pub(super) fn new(prefix: &str, node: &str, random: &str, namespaces: Arc<Namespaces>) -> Self {
        let name: String = node.chars().take(NAME_BYTES).map(legal_or_underscore).collect();
        Self { prefix: prefix.into(), id: format!("{name}-{random}").into(), namespaces }
    }

    /// The node's name on NATS.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Where Publications on a Topic are sent. A Topic that a source does not have stays below the
    /// prefix, where nobody listens for it.
    pub(super) fn topic(&self, topic: &Topic) -> String {
        match self.namespaces.source(topic.namespace()) {
            Some(all) if all.matches(topic) => tail(topic.as_str()).to_owned(),
            Some(_) | None => format!("{}.in.{topic}", self.prefix),
        }
    }

    /// Where Publications on all Topics of a Pattern come from: of a source, what both have in common.
    pub(super) fn pattern(&self, pattern: &Pattern) -> String {
        let source = self.namespaces.source(pattern.namespace());
        match source.and_then(|all| all.intersection(pattern)) {
            Some(both) => tail(both.as_str()).to_owned(),
            None => format!("{}.in.{pattern}", self.prefix),
        }
    }

    /// What a kept Namespace is called.
    pub(super) fn names(&self, namespace: &str, stream: Option<&str>) -> Names {
        let upper = self.prefix.to_ascii_uppercase().replace('.', "_");
        let source = self.namespaces.source(namespace).map(|all| tail(all.as_str()));
        let own = format!("{namespace}.>");
        let said = source
            .map_or_else(|| own.clone(), |source| format!("{namespace}.{}", numbered(source)));
        Names {
            stream: stream.map_or_else(|| format!("{upper}_{namespace}"), ToOwned::to_owned),
            taken: source.map_or_else(|| format!("{}.in.{own}", self.prefix), ToOwned::to_owned),
            said: format!("{}.out.{said}", self.prefix),
            heard: format!("{}.out.{own}", self.prefix),
            sourced: source.is_some(),
        }
    }

    /// Where answers to this node come, on one of its connections.
    pub(super) fn inbox(&self, connection: &str) -> String {
        format!("_INBOX.{}.{}.{connection}", self.prefix, self.id)
    }

    /// Whether answers to a node of this deployment come there, and nothing else does.
    pub(super) fn is_inbox(&self, subject: &str) -> bool {
        let rest =
            subject.strip_prefix("_INBOX.").and_then(|rest| rest.strip_prefix(&*self.prefix));
        rest.is_some_and(|rest| rest.starts_with('.'))
    }

    /// Where nodes say something to all nodes.
    pub(super) fn call(&self, call: Call) -> String {
        match call {
            Call::Beat => format!("{}.node.beat", self.prefix),
            Call::Disconnect | Call::Topics => format!("{}.ctl.{}", self.prefix, call.text()),
        }
    }

    /// The same, where nobody listens.
    fn no_call(&self) -> String {
        format!("{}.ctl.{}.nobody", self.prefix, self.id)
    }

    /// Where this node hears itself.
    pub(super) fn echo(&self) -> String {
        format!("{}.node.{}.echo", self.prefix, self.id)
    }

    /// Where this node sees whether it may publish and subscribe among Topics; no client can name it.
    pub(super) fn probe(&self) -> String {
        format!("{}.in._node.{}", self.prefix, self.id)
    }

    /// The last word of who tries rights.
    pub(super) fn mark(&self) -> String {
        format!("{}.node.{}.mark", self.prefix, self.id)
    }

    /// Where a node must be allowed to publish.
    pub(super) fn publishes(&self) -> Vec<Right> {
        let mut rights = vec![
            Right { needed: format!("{}.in.>", self.prefix), tried: self.probe() },
            Right { needed: format!("{}.node.>", self.prefix), tried: self.echo() },
            Right { needed: format!("{}.ctl.>", self.prefix), tried: self.no_call() },
            Right { needed: format!("_INBOX.{}.>", self.prefix), tried: self.inbox("nobody") },
        ];
        for (names, history) in self.kept() {
            let mut asked = vec![names.info(), names.get(), names.get_many()];
            if history.manage {
                asked.extend([names.create(), names.update()]);
            }
            // A question that says nothing, and whose answer goes nowhere.
            rights.extend(asked.into_iter().map(Right::itself));
        }
        rights
    }

    fn kept(&self) -> impl Iterator<Item = (Names, &History)> {
        let names = |name, history: &History| self.names(name, history.stream.as_deref());
        self.namespaces.stored().map(move |(name, history)| (names(name, history), history))
    }

    /// What a node must be allowed to subscribe to.
    pub(super) fn subscribes(&self) -> Vec<Right> {
        let mut rights = vec![
            Right::itself(format!("{}.in.>", self.prefix)),
            Right { needed: format!("{}.node.>", self.prefix), tried: self.echo() },
            Right { needed: format!("{}.ctl.>", self.prefix), tried: self.no_call() },
            Right { needed: format!("_INBOX.{}.>", self.prefix), tried: self.inbox("live") },
        ];
        rights.extend(self.sources().into_iter().map(Right::itself));
        for (names, _) in self.kept() {
            let elected = names.elected();
            let needed = format!("{}.out.>", self.prefix);
            rights.extend([Right { needed, tried: names.heard }, Right::itself(elected)]);
        }
        rights
    }

    /// Subjects that exist beside ours. That a node may publish there cannot be tried: it would reach
    /// those who listen.
    pub(super) fn sources(&self) -> Vec<String> {
        let sources = self.namespaces.all().filter_map(|(_, rules)| rules.source.as_ref());
        sources.map(ToString::to_string).collect()
    }

    /// The Topic of a subject that a stream has said again.
    pub(super) fn read_said(&self, namespace: &str, subject: &str) -> Option<Topic> {
        let topic = subject.strip_prefix(&*self.prefix)?.strip_prefix(".out.")?;
        let topic = topic_in(namespace, topic)?;
        let source = self.namespaces.source(namespace);
        source.is_none_or(|all| all.matches(&topic)).then_some(topic)
    }

    /// The Topic of a subject in this Namespace; none if nobody who keeps to our grammar sent it.
    pub(super) fn read(&self, namespace: &str, subject: &str) -> Option<Topic> {
        match self.namespaces.source(namespace) {
            Some(all) => {
                let topic = Topic::parse(&format!("{namespace}.{subject}")).ok();
                topic.filter(|topic| all.matches(topic))
            }
            None => {
                let topic = subject.strip_prefix(&*self.prefix)?.strip_prefix(".in.")?;
                topic_in(namespace, topic)
            }
        }
    }
}

/// A Topic that comes by the road of this Namespace: of the nodes' own there are no others than that.
fn topic_in(namespace: &str, text: &str) -> Option<Topic> {
    match namespace {
        REVOKED => Topic::reserved(text).filter(|topic| topic.namespace() == REVOKED),
        _ => Topic::parse(text).ok(),
    }
}

/// What stands behind the Namespace.
fn tail(text: &str) -> &str {
    text.split_once('.').map_or("", |(_, tail)| tail)
}

/// Each `*` as a target of what was matched by it.
fn numbered(source: &str) -> String {
    let mut stars = 0;
    let mut token = |token: &str| match token {
        "*" => {
            stars += 1;
            format!("{{{{wildcard({stars})}}}}")
        }
        other => other.to_owned(),
    };
    source.split('.').map(&mut token).collect::<Vec<_>>().join(".")
}

/// What is wrong with a prefix, in words.
pub(super) fn prefix_fault(prefix: &str) -> Option<String> {
    let legal = Topic::parse(prefix).is_ok()
        && prefix.len() <= PREFIX_BYTES_MAX
        && prefix.split('.').count() <= PREFIX_SEGMENTS_MAX;
    (!legal).then(|| {
        format!(
            "must be 1 to {PREFIX_SEGMENTS_MAX} legal segments and at most {PREFIX_BYTES_MAX} bytes"
        )
    })
}

fn legal_or_underscore(c: char) -> char {
    if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::Config;
    use proptest::prelude::*;

    fn subjects(source: Option<&str>) -> Subjects {
        let source = source.map(|text| Pattern::parse(text).unwrap());
        let rules = Config { source, ..Config::default() };
        let namespaces = Namespaces::new([("n".to_owned(), rules)].into(), false);
        Subjects::new("tidegate", "node.a b", "abc123", Arc::new(namespaces))
    }

    /// The naive reference: whether NATS sends this subject to who subscribes like this.
    fn naive(subscribed: &[&str], subject: &[&str]) -> bool {
        match (subscribed, subject) {
            ([], []) | ([">"], [_, ..]) => true,
            (["*", subscribed @ ..], [_, subject @ ..]) => naive(subscribed, subject),
            ([one, subscribed @ ..], [other, subject @ ..]) => {
                one == other && naive(subscribed, subject)
            }
            _ => false,
        }
    }

    fn tokens(text: &str) -> Vec<&str> {
        text.split('.').collect()
    }

    /// Every subject of at most four tokens over three letters.
    fn universe() -> Vec<String> {
        let letters = || ["a", "b", "c"].into_iter().map(str::to_owned);
        let mut all: Vec<String> = letters().collect();
        let mut longest = all.clone();
        for _ in 1..4 {
            let longer =
                longest.iter().flat_map(|head| letters().map(move |l| format!("{head}.{l}")));
            longest = longer.collect();
            all.extend(longest.iter().cloned());
        }
        all
    }

    fn pattern(first: &'static [&'static str]) -> impl Strategy<Value = String> {
        let token = |among: &'static [&'static str]| prop::sample::select(among);
        let middle = prop::collection::vec(token(&["a", "b", "*"]), 0..3);
        let last = prop::option::of(token(&["a", "b", "*", ">"]));
        (token(first), middle, last).prop_map(|(first, middle, last)| {
            [vec![first], middle, last.into_iter().collect()].concat().join(".")
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]
        #[test]
        fn a_source_and_its_topics_agree_with_the_naive_reference(
            source in pattern(&["a", "b"]), wanted in pattern(&["a", "b", "*", ">"])
        ) {
            // Nothing may stand behind it.
            let wanted = wanted.split_inclusive('>').next().unwrap();
            let subjects = subjects(Some(&source));
            let subscribed = subjects.pattern(&Pattern::parse(&format!("n.{wanted}")).unwrap());
            for subject in universe() {
                let topic = Topic::parse(&format!("n.{subject}")).unwrap();
                let is_of_it = naive(&tokens(&source), &tokens(&subject));
                let comes = naive(&tokens(&subscribed), &tokens(&subject));
                prop_assert_eq!(comes, is_of_it && naive(&tokens(wanted), &tokens(&subject)));
                if is_of_it {
                    prop_assert_eq!(subjects.topic(&topic), subject.as_str());
                    prop_assert_eq!(subjects.read("n", &subject), Some(topic));
                } else {
                    prop_assert_eq!(subjects.topic(&topic), format!("tidegate.in.n.{subject}"));
                    prop_assert_eq!(subjects.read("n", &subject), None);
                }
            }
        }
    }

    #[test]
    fn what_a_source_has_beyond_our_grammar_is_nobody_s() {
        let subjects = subjects(Some("a.>"));
        let long = format!("a{}", ".b".repeat(16));
        for illegal in ["a.$x", "a.b c", "a.*", "a", "b.a", "tidegate.in.n.a.b", &long] {
            assert_eq!(subjects.read("n", illegal), None, "{illegal}");
        }
        // Who is no Topic of the source reaches nothing of NATS.
        let outside = Topic::parse("n._INBOX.x").unwrap();
        assert_eq!(subjects.topic(&outside), "tidegate.in.n._INBOX.x");
    }

    #[test]
    fn a_subject_is_read_back_as_its_topic() {
        let subjects = subjects(None);
        let topic = Topic::parse("dash.orders.eu").unwrap();
        let subject = subjects.topic(&topic);
        assert_eq!(subject, "tidegate.in.dash.orders.eu");
        assert_eq!(subjects.read("dash", &subject), Some(topic));
        assert_eq!(subjects.echo(), "tidegate.node.node_a_b-abc123.echo");
        for foreign in
            ["tidegate.in", "tidegate.in.", "tidegate.in._x.y", "other.in.a", "tidegate.in.a.*"]
        {
            assert_eq!(subjects.read("a", foreign), None, "{foreign}");
        }
    }

    #[test]
    fn what_a_stream_says_again_is_read_back_as_its_topic() {
        let own = subjects(None).names("n", None);
        assert_eq!((&*own.stream, &*own.taken), ("TIDEGATE_n", "tidegate.in.n.>"));
        assert_eq!((&*own.said, &*own.heard), ("tidegate.out.n.>", "tidegate.out.n.>"));
        let sourced = subjects(Some("a.*.b.*.>"));
        let names = sourced.names("n", Some("OTHER"));
        assert_eq!((&*names.stream, &*names.taken), ("OTHER", "a.*.b.*.>"));
        assert_eq!(names.said, "tidegate.out.n.a.{{wildcard(1)}}.b.{{wildcard(2)}}.>");
        assert_eq!(names.said_of(">").as_deref(), Some("tidegate.out.n.>"));
        assert_eq!(own.said_of(">"), None);
        let topic = Topic::parse("n.a.1.b.2.c").unwrap();
        assert_eq!(sourced.read_said("n", "tidegate.out.n.a.1.b.2.c"), Some(topic));
        for other in ["tidegate.out.n.x", "tidegate.in.n.a.1.b.2.c", "a.1.b.2.c"] {
            assert_eq!(sourced.read_said("n", other), None, "{other}");
        }
    }

    #[test]
    fn a_prefix_keeps_to_its_bounds() {
        assert_eq!(prefix_fault("tidegate"), None);
        assert_eq!(prefix_fault("a.b.c"), None);
        for bad in ["", "a.b.c.d", "a..b", "a.*", "_x", ">", &"a".repeat(33)] {
            assert!(prefix_fault(bad).is_some(), "{bad}");
        }
    }
}
