//! Who gets what: from Feed and Topic to Connections.
//!
//! Each distinct Pattern that somebody on this Shard wants has one `Interest` here. On best effort a
//! Publication comes once for every Pattern that matches its Topic, of a kept Namespace it comes once;
//! a Connection must get it once: it counts under the first of its Subscriptions that match. Who that
//! is depends on source and Topic alone, so the answer is kept until a Subscription of one of its
//! Connections comes or goes.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use super::Key;
use crate::topic::{Pattern, Topic};

/// Topics of one Pattern, and of all kept Namespaces, whose receivers are remembered; beyond it all
/// are forgotten.
const TOPICS_REMEMBERED: usize = 1_024;

/// The Subscriptions of one Shard.
#[derive(Debug, Default)]
pub struct Table {
    patterns: HashMap<Pattern, Interest>,
    /// Of each Namespace the Patterns with a wildcard.
    wild: HashMap<Box<str>, Vec<Pattern>>,
    /// The receivers of Topics of kept Namespaces.
    kept: HashMap<Topic, Kept>,
    /// Of Connections with more than one live Subscription, all of them, oldest first.
    overlapping: HashMap<Key, Vec<Pattern>>,
    subscriptions: usize,
}

#[derive(Debug)]
struct Kept {
    receivers: Rc<[Key]>,
    /// Whether something came since positions were told.
    heard: bool,
}

#[derive(Debug, Default)]
struct Interest {
    /// Subscriptions that have not joined yet.
    attaching: usize,
    live: Vec<Key>,
    receivers: HashMap<Topic, Rc<[Key]>>,
}

impl Table {
    /// A Subscription has begun to attach. Gives the one copy of its Pattern that all share.
    pub fn begin(&mut self, pattern: &Pattern) -> Pattern {
        self.subscriptions += 1;
        if let Some((shared, _)) = self.patterns.get_key_value(pattern) {
            let shared = shared.clone();
            self.patterns.entry(shared.clone()).or_default().attaching += 1;
            return shared;
        }
        if pattern.is_wild() {
            self.wild.entry(pattern.namespace().into()).or_default().push(pattern.clone());
        }
        self.patterns.insert(pattern.clone(), Interest { attaching: 1, ..Interest::default() });
        pattern.clone()
    }

    /// It is live.
    pub fn join(&mut self, pattern: &Pattern, key: Key, all: &[Pattern]) {
        let Some(interest) = self.patterns.get_mut(pattern) else {
            return;
        };
        interest.attaching -= 1;
        interest.live.push(key);
        self.changed(key, pattern, all);
    }

    /// It is not live any more, and is to join again.
    pub fn pause(&mut self, pattern: &Pattern, key: Key, all: &[Pattern]) {
        let Some(interest) = self.patterns.get_mut(pattern) else {
            return;
        };
        interest.attaching += 1;
        interest.remove(key);
        self.changed(key, pattern, all);
    }

    /// It has ended; `live` says whether it had joined. Whether the Shard wants its Feed no more.
    pub fn leave(&mut self, pattern: &Pattern, key: Key, live: bool, all: &[Pattern]) -> bool {
        let Some(interest) = self.patterns.get_mut(pattern) else {
            return false;
        };
        self.subscriptions -= 1;
        if live {
            interest.remove(key);
        } else {
            interest.attaching -= 1;
        }
        let empty = interest.attaching == 0 && interest.live.is_empty();
        if live {
            self.changed(key, pattern, all);
        }
        if empty {
            self.patterns.remove(pattern);
            self.forget_wild(pattern);
        }
        empty
    }

    fn forget_wild(&mut self, pattern: &Pattern) {
        if let Some(wild) = self.wild.get_mut(pattern.namespace()) {
            wild.retain(|other| other != pattern);
            if wild.is_empty() {
                self.wild.remove(pattern.namespace());
            }
        }
    }

    /// Whose Publications on this Topic the best-effort Feed of this Pattern brings.
    pub fn receivers(&mut self, pattern: &Pattern, topic: &Topic) -> Rc<[Key]> {
        let Some(interest) = self.patterns.get_mut(pattern) else {
            return Rc::new([]);
        };
        if let Some(known) = interest.receivers.get(topic) {
            return Rc::clone(known);
        }
        let receivers: Rc<[Key]> = firsts(&self.overlapping, interest, pattern, topic).collect();
        if interest.receivers.len() >= TOPICS_REMEMBERED {
            interest.receivers.clear();
        }
        interest.receivers.insert(topic.clone(), Rc::clone(&receivers));
        receivers
    }

    /// Whose Publications on this Topic the Feed of its kept Namespace brings.
    pub fn receivers_kept(&mut self, topic: &Topic) -> Rc<[Key]> {
        if let Some(known) = self.kept.get_mut(topic) {
            known.heard = true;
            return Rc::clone(&known.receivers);
        }
        let named = self.patterns.get_key_value(topic.as_str());
        let wild = self.wild.get(topic.namespace()).into_iter().flatten();
        let wild = wild
            .filter(|pattern| pattern.matches(topic))
            .filter_map(|pattern| self.patterns.get_key_value(pattern));
        let receivers: Rc<[Key]> = named
            .into_iter()
            .chain(wild)
            .flat_map(|(pattern, one)| firsts(&self.overlapping, one, pattern, topic))
            .collect();
        if self.kept.len() >= TOPICS_REMEMBERED {
            self.kept.clear();
        }
        let kept = Kept { receivers: Rc::clone(&receivers), heard: true };
        self.kept.insert(topic.clone(), kept);
        receivers
    }

    /// Who has a live Subscription to this kept Namespace, and got nothing of it since this was asked
    /// last. Who cannot be told apart any more is among them.
    pub fn quiet(&mut self, namespace: &str) -> Vec<Key> {
        let mut known = HashSet::new();
        for (_, one) in self.kept.iter_mut().filter(|(topic, _)| topic.namespace() == namespace) {
            if std::mem::take(&mut one.heard) {
                known.extend(one.receivers.iter().copied());
            }
        }
        // Each of them once.
        self.subscribers_of(namespace)
            .into_iter()
            .map(|(_, key)| key)
            .filter(|key| known.insert(*key))
            .collect()
    }

    /// Everybody with this very Pattern.
    #[must_use]
    pub fn subscribers(&self, pattern: &Pattern) -> Vec<Key> {
        self.patterns.get(pattern).map_or_else(Vec::new, |interest| interest.live.clone())
    }

    /// Every live Subscription to a Namespace.
    #[must_use]
    pub fn subscribers_of(&self, namespace: &str) -> Vec<(Pattern, Key)> {
        let within = self.patterns.iter().filter(|(pattern, _)| pattern.namespace() == namespace);
        within
            .flat_map(|(pattern, one)| one.live.iter().map(|key| (pattern.clone(), *key)))
            .collect()
    }

    /// Whether somebody here wants this very Pattern.
    #[must_use]
    pub fn wants(&self, pattern: &Pattern) -> bool {
        self.patterns.contains_key(pattern)
    }

    /// How many Subscriptions there are, those attaching among them.
    #[must_use]
    pub const fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    /// How many distinct Patterns.
    #[must_use]
    pub fn patterns(&self) -> usize {
        self.patterns.len()
    }

    /// Forgets what the change of one Connection's live Subscriptions (now `all`) makes untrue.
    fn changed(&mut self, key: Key, pattern: &Pattern, all: &[Pattern]) {
        if all.len() > 1 {
            self.overlapping.insert(key, all.to_vec());
        } else {
            self.overlapping.remove(&key);
        }
        for touched in all.iter().chain([pattern]) {
            if let Some(interest) = self.patterns.get_mut(touched) {
                interest.receivers = HashMap::new();
            }
            if touched.is_wild() {
                self.kept.retain(|topic, _| !touched.matches(topic));
            } else {
                self.kept.remove(touched.as_str());
            }
        }
    }
}

impl Interest {
    fn remove(&mut self, key: Key) {
        if let Some(at) = self.live.iter().position(|other| *other == key) {
            self.live.swap_remove(at);
        }
    }
}

/// Those who get a Publication on this Topic under this Pattern: it is the first of theirs that match.
fn firsts<'a>(
    overlapping: &'a HashMap<Key, Vec<Pattern>>,
    interest: &'a Interest,
    pattern: &'a Pattern,
    topic: &'a Topic,
) -> impl Iterator<Item = Key> + 'a {
    let first = move |key: &&Key| match overlapping.get(*key) {
        None => true,
        Some(all) => all.iter().find(|one| one.matches(topic)) == Some(pattern),
    };
    interest.live.iter().filter(first).copied()
}

#[cfg(test)]
mod tests;
