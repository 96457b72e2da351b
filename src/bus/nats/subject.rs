//! Topics and Patterns as NATS spells them.
//!
//! This is the only file that makes subjects, and it makes them from what has been checked, by putting
//! something in front. So no client's text can become a subject of its own choice. In a Namespace with
//! a source the Namespace is taken away instead, and only from a Topic that the source has.

use std::sync::Arc;

use crate::namespace::Namespaces;
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

/// What NATS must allow a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Right {
    /// As permissions name it.
    pub(super) needed: String,
    /// What shows whether it is there, and reaches nobody.
    pub(super) tried: String,
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
        vec![
            Right { needed: format!("{}.in.>", self.prefix), tried: self.probe() },
            Right { needed: format!("{}.node.>", self.prefix), tried: self.echo() },
        ]
    }

    /// What a node must be allowed to subscribe to.
    pub(super) fn subscribes(&self) -> Vec<Right> {
        let itself = |subject: String| Right { needed: subject.clone(), tried: subject };
        let mut rights = vec![
            itself(format!("{}.in.>", self.prefix)),
            Right { needed: format!("{}.node.>", self.prefix), tried: self.echo() },
        ];
        rights.extend(self.sources().into_iter().map(itself));
        rights
    }

    /// Subjects that exist beside ours. That a node may publish there cannot be tried: it would reach
    /// those who listen.
    pub(super) fn sources(&self) -> Vec<String> {
        let sources = self.namespaces.all().filter_map(|(_, rules)| rules.source.as_ref());
        sources.map(ToString::to_string).collect()
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
                Topic::parse(topic).ok()
            }
        }
    }
}

/// What stands behind the Namespace.
fn tail(text: &str) -> &str {
    text.split_once('.').map_or("", |(_, tail)| tail)
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
    fn a_prefix_keeps_to_its_bounds() {
        assert_eq!(prefix_fault("tidegate"), None);
        assert_eq!(prefix_fault("a.b.c"), None);
        for bad in ["", "a.b.c.d", "a..b", "a.*", "_x", ">", &"a".repeat(33)] {
            assert!(prefix_fault(bad).is_some(), "{bad}");
        }
    }
}
