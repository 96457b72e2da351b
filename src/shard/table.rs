//! Who gets what: from Feed and Topic to Connections.
//!
//! Each distinct Pattern that somebody on this Shard wants has one `Feed` here. A Publication comes
//! once for every Feed that matches its Topic, and a Connection must get it once: it counts under the
//! first of its Subscriptions that match. Who that is depends on Feed and Topic alone, so the answer is
//! kept until a Subscription of one of its Connections comes or goes.

use std::collections::HashMap;
use std::rc::Rc;

use super::Key;
use crate::topic::{Pattern, Topic};

/// Topics of one Feed whose receivers are remembered; beyond it all are forgotten.
const TOPICS_REMEMBERED: usize = 1_024;

/// The Subscriptions of one Shard.
#[derive(Debug, Default)]
pub struct Table {
    feeds: HashMap<Pattern, Feed>,
    /// Of Connections with more than one live Subscription, all of them, oldest first.
    overlapping: HashMap<Key, Vec<Pattern>>,
    subscriptions: usize,
}

#[derive(Debug, Default)]
struct Feed {
    /// Subscriptions that were asked for and have not been answered.
    attaching: usize,
    live: Vec<Key>,
    receivers: HashMap<Topic, Rc<[Key]>>,
}

impl Table {
    /// A Subscription has begun to attach. Gives the one copy of its Pattern that all share.
    pub fn begin(&mut self, pattern: &Pattern) -> Pattern {
        self.subscriptions += 1;
        let known = self.feeds.get_key_value(pattern).map(|(shared, _)| shared);
        let shared = known.unwrap_or(pattern).clone();
        self.feeds.entry(shared.clone()).or_default().attaching += 1;
        shared
    }

    /// It is live.
    pub fn join(&mut self, pattern: &Pattern, key: Key, all: &[Pattern]) {
        let Some(feed) = self.feeds.get_mut(pattern) else {
            return;
        };
        feed.attaching -= 1;
        feed.live.push(key);
        self.changed(key, pattern, all);
    }

    /// It has ended; `live` says whether it had joined. Whether the Shard wants its Feed no more.
    pub fn leave(&mut self, pattern: &Pattern, key: Key, live: bool, all: &[Pattern]) -> bool {
        let Some(feed) = self.feeds.get_mut(pattern) else {
            return false;
        };
        self.subscriptions -= 1;
        if !live {
            feed.attaching -= 1;
        } else if let Some(at) = feed.live.iter().position(|other| *other == key) {
            feed.live.swap_remove(at);
        }
        let empty = feed.attaching == 0 && feed.live.is_empty();
        if live {
            self.changed(key, pattern, all);
        }
        if empty {
            self.feeds.remove(pattern);
        }
        empty
    }

    /// Whose Publications on this Topic this Feed brings.
    pub fn receivers(&mut self, pattern: &Pattern, topic: &Topic) -> Rc<[Key]> {
        let Some(feed) = self.feeds.get_mut(pattern) else {
            return Rc::new([]);
        };
        if let Some(known) = feed.receivers.get(topic) {
            return Rc::clone(known);
        }
        let overlapping = &self.overlapping;
        let first = |key: &Key| match overlapping.get(key) {
            None => true,
            Some(all) => all.iter().find(|one| one.matches(topic)) == Some(pattern),
        };
        let receivers: Rc<[Key]> = feed.live.iter().filter(|key| first(key)).copied().collect();
        if feed.receivers.len() >= TOPICS_REMEMBERED {
            feed.receivers.clear();
        }
        feed.receivers.insert(topic.clone(), Rc::clone(&receivers));
        receivers
    }

    /// Everybody with this very Pattern.
    #[must_use]
    pub fn subscribers(&self, pattern: &Pattern) -> Vec<Key> {
        self.feeds.get(pattern).map_or_else(Vec::new, |feed| feed.live.clone())
    }

    /// How many Subscriptions there are, those attaching among them.
    #[must_use]
    pub const fn subscriptions(&self) -> usize {
        self.subscriptions
    }

    /// How many distinct Patterns.
    #[must_use]
    pub fn patterns(&self) -> usize {
        self.feeds.len()
    }

    /// Forgets what the change of one Connection's live Subscriptions (now `all`) makes untrue.
    fn changed(&mut self, key: Key, pattern: &Pattern, all: &[Pattern]) {
        if all.len() > 1 {
            self.overlapping.insert(key, all.to_vec());
        } else {
            self.overlapping.remove(&key);
        }
        for touched in all.iter().chain([pattern]) {
            if let Some(feed) = self.feeds.get_mut(touched) {
                feed.receivers = HashMap::new();
            }
        }
    }
}

#[cfg(test)]
mod tests;
