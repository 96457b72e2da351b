//! Topics and Patterns as NATS spells them.
//!
//! This is the only file that makes subjects, and it makes them from what has been checked, by putting
//! something in front. So no client's text can become a subject of its own choice.

use std::sync::Arc;

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
    pub(super) fn new(prefix: &str, node: &str, random: &str) -> Self {
        let name: String = node.chars().take(NAME_BYTES).map(legal_or_underscore).collect();
        Self { prefix: prefix.into(), id: format!("{name}-{random}").into() }
    }

    /// The node's name on NATS.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Where Publications on a Topic are sent.
    pub(super) fn topic(&self, topic: &Topic) -> String {
        format!("{}.in.{topic}", self.prefix)
    }

    /// Where Publications on all Topics of a Pattern come from.
    pub(super) fn pattern(&self, pattern: &Pattern) -> String {
        format!("{}.in.{pattern}", self.prefix)
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
        let topics = format!("{}.in.>", self.prefix);
        vec![
            Right { needed: topics.clone(), tried: topics },
            Right { needed: format!("{}.node.>", self.prefix), tried: self.echo() },
        ]
    }

    /// The Topic of a subject; none if nobody who keeps to our grammar sent it.
    pub(super) fn read(&self, subject: &str) -> Option<Topic> {
        let topic = subject.strip_prefix(&*self.prefix)?.strip_prefix(".in.")?;
        Topic::parse(topic).ok()
    }
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

    #[test]
    fn a_subject_is_read_back_as_its_topic() {
        let subjects = Subjects::new("tidegate", "node.a b", "abc123");
        let topic = Topic::parse("dash.orders.eu").unwrap();
        let subject = subjects.topic(&topic);
        assert_eq!(subject, "tidegate.in.dash.orders.eu");
        assert_eq!(subjects.read(&subject), Some(topic));
        assert_eq!(subjects.echo(), "tidegate.node.node_a_b-abc123.echo");
        for foreign in
            ["tidegate.in", "tidegate.in.", "tidegate.in._x.y", "other.in.a", "tidegate.in.a.*"]
        {
            assert_eq!(subjects.read(foreign), None, "{foreign}");
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
