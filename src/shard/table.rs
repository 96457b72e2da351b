//! Who gets what: from Feed and Topic to Connections.
//!
//! Each distinct Pattern that somebody on this Shard wants has one `Interest` here. On best effort a
//! Publication comes once for every Pattern that matches its Topic, of a kept Namespace it comes once;
//! a Connection must get it once: it counts under the first of its Subscriptions that match. Who that
//! is depends on source and Topic alone, so the answer is kept until a Subscription with that Pattern
//! comes or goes.
//!
//! LAW: on best effort a Topic comes to a Connection by one and the same Feed for as long as that
//! wants it. Nothing orders two Feeds: what is on its way while one takes over from another would come
//! by both, or by neither. So whoever joins stands behind those that are there, and one that ends
//! stays, unseen, while a later one overlaps with it.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;

use super::Key;
use crate::control::Listing;
use crate::namespace::Namespaces;
use crate::topic::{Pattern, Topic};

/// Topics of one Pattern, and of all kept Namespaces, whose receivers are remembered; beyond it all
/// are forgotten.
const TOPICS_REMEMBERED: usize = 1_024;
/// Subscriptions of one Connection that have ended and stay. Beyond it the Law is broken, and that is
/// told.
const STAYING_MAX: usize = 32;

/// The Subscriptions of one Shard.
#[derive(Debug, Default)]
pub struct Table {
    namespaces: Arc<Namespaces>,
    patterns: HashMap<Pattern, Interest>,
    /// Of each Namespace the Patterns with a wildcard.
    wild: HashMap<Box<str>, Vec<Pattern>>,
    /// The receivers of Topics of kept Namespaces.
    kept: HashMap<Topic, Kept>,
    /// Of Connections with more than one of them: their live Subscriptions and those that stay, in the
    /// order in which they joined.
    overlapping: HashMap<Key, Vec<Joined>>,
    subscriptions: usize,
}

#[derive(Debug)]
struct Joined {
    pattern: Pattern,
    /// It stays for those behind it.
    ended: bool,
}

/// What the end of a Subscription comes to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// Patterns that nobody here wants any more.
    pub unwanted: Vec<Pattern>,
    /// What overlaps comes by another Feed from here on: something may be lost to it, or come twice.
    pub torn: bool,
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
    /// A table for these Namespaces: in those that are kept, one Feed brings everything.
    #[must_use]
    pub fn new(namespaces: Arc<Namespaces>) -> Self {
        Self { namespaces, ..Self::default() }
    }

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

    /// It is live, as are all of these of its Connection.
    pub fn join(&mut self, pattern: &Pattern, key: Key, all: &[Pattern]) {
        let Some(interest) = self.patterns.get_mut(pattern) else {
            return;
        };
        interest.attaching -= 1;
        match self.overlapping.get_mut(&key) {
            Some(joined) => match joined.iter_mut().find(|one| one.pattern == *pattern) {
                Some(one) if one.ended => one.ended = false,
                Some(_) => interest.live.push(key),
                None => {
                    joined.push(Joined::new(pattern));
                    interest.live.push(key);
                }
            },
            None => {
                interest.live.push(key);
                if all.len() > 1 {
                    let others = all.iter().filter(|one| *one != pattern);
                    let joined = others.chain([pattern]).map(Joined::new).collect();
                    self.overlapping.insert(key, joined);
                }
            }
        }
        self.forget(pattern);
        self.forget_staying(key);
    }

    /// It is not live any more, and is to join again.
    pub fn pause(&mut self, pattern: &Pattern, key: Key) {
        if let Some(interest) = self.patterns.get_mut(pattern) {
            interest.attaching += 1;
            self.part(pattern, key);
        }
    }

    /// It has ended; `live` says whether it had joined, and `all` what is live of its Connection now.
    pub fn leave(&mut self, pattern: &Pattern, key: Key, live: bool, all: &[Pattern]) -> Left {
        let mut left = Left::default();
        let Some(interest) = self.patterns.get_mut(pattern) else {
            return left;
        };
        self.subscriptions -= 1;
        if !live {
            interest.attaching -= 1;
            self.close(pattern, &mut left);
            return left;
        }
        let is_kept = self.namespaces.history(pattern.namespace()).is_some();
        let mut gone = vec![pattern.clone()];
        match self.overlapping.get_mut(&key) {
            Some(joined) if all.is_empty() => {
                let stay = joined.iter().filter(|one| one.ended);
                gone.extend(stay.map(|one| one.pattern.clone()));
            }
            Some(joined) if !is_kept => {
                let ending = joined.iter_mut().filter(|one| one.pattern == *pattern);
                ending.for_each(|one| one.ended = true);
                gone = idle(joined);
                if joined.iter().filter(|one| one.ended).count() - gone.len() > STAYING_MAX {
                    gone.push(pattern.clone());
                    left.torn = true;
                }
            }
            _ => {}
        }
        for pattern in gone {
            self.part(&pattern, key);
            self.close(&pattern, &mut left);
        }
        if left.torn {
            all.iter().for_each(|one| self.forget(one));
        }
        self.forget_staying(key);
        left
    }

    /// Topics that somebody here is subscribed to by name.
    #[must_use]
    pub fn topics(&self, listing: &Listing) -> Vec<Topic> {
        let live = self.patterns.iter().filter(|(_, interest)| !interest.live.is_empty());
        let names = live.map(|(pattern, _)| pattern.as_str()).filter(|name| listing.wants(name));
        // A Pattern with a wildcard is no Topic.
        let topics = names.filter_map(|name| Topic::parse(name).ok());
        listing.first(topics).into_iter().collect()
    }

    /// By this Pattern a Connection gets nothing any more.
    fn part(&mut self, pattern: &Pattern, key: Key) {
        if let Some(interest) = self.patterns.get_mut(pattern)
            && let Some(at) = interest.live.iter().position(|other| *other == key)
        {
            interest.live.swap_remove(at);
        }
        if let Some(joined) = self.overlapping.get_mut(&key) {
            joined.retain(|one| one.pattern != *pattern);
            if joined.len() < 2 {
                self.overlapping.remove(&key);
            }
        }
        self.forget(pattern);
    }

    /// Takes a Pattern out if nobody wants it.
    fn close(&mut self, pattern: &Pattern, left: &mut Left) {
        let unwanted = |one: &Interest| one.attaching == 0 && one.live.is_empty();
        if self.patterns.get(pattern).is_some_and(unwanted) {
            self.patterns.remove(pattern);
            self.forget_wild(pattern);
            left.unwanted.push(pattern.clone());
        }
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

    /// Forgets who receives under those that stay: what a Connection gets by them is what it wants else.
    fn forget_staying(&mut self, key: Key) {
        for one in self.overlapping.get(&key).into_iter().flatten().filter(|one| one.ended) {
            if let Some(interest) = self.patterns.get_mut(&one.pattern) {
                interest.receivers = HashMap::new();
            }
        }
    }

    /// Forgets who receives under this Pattern.
    fn forget(&mut self, pattern: &Pattern) {
        if let Some(interest) = self.patterns.get_mut(pattern) {
            interest.receivers = HashMap::new();
        }
        if pattern.is_wild() {
            self.kept.retain(|topic, _| !pattern.matches(topic));
        } else {
            self.kept.remove(pattern.as_str());
        }
    }
}

impl Joined {
    fn new(pattern: &Pattern) -> Self {
        Self { pattern: pattern.clone(), ended: false }
    }
}

/// Those that have ended, and for which nobody behind them has any use.
fn idle(joined: &[Joined]) -> Vec<Pattern> {
    let needs = |one: &Joined, other: &Joined| {
        !other.ended && other.pattern.intersection(&one.pattern).is_some()
    };
    let ended = joined.iter().enumerate().filter(|(_, one)| one.ended);
    let idle = ended.filter(|(at, one)| !joined.iter().skip(*at).any(|other| needs(one, other)));
    idle.map(|(_, one)| one.pattern.clone()).collect()
}

/// Those who get a Publication on this Topic under this Pattern: it is the first of theirs that match,
/// and one that matches has not ended.
fn firsts<'a>(
    overlapping: &'a HashMap<Key, Vec<Joined>>,
    interest: &'a Interest,
    pattern: &'a Pattern,
    topic: &'a Topic,
) -> impl Iterator<Item = Key> + 'a {
    let first = move |key: &&Key| match overlapping.get(*key) {
        None => true,
        Some(joined) => {
            let mut matching = joined.iter().filter(|one| one.pattern.matches(topic));
            matching.next().is_some_and(|first| {
                first.pattern == *pattern && (!first.ended || matching.any(|one| !one.ended))
            })
        }
    };
    interest.live.iter().filter(first).copied()
}

#[cfg(test)]
mod tests;
