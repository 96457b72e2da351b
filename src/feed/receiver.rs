//! One Shard, as a kept Feed sees it: what it wants, and how far it has come.
//!
//! A Shard's inbox is bounded. While it is full, its Shard gets nothing, and then goes on from its own
//! place out of the ring; only if the ring no longer reaches back to it is it told so.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use tokio::sync::mpsc::{self, error::TrySendError};

use super::attach::Attach;
use super::meters::Fanout;
use super::ring::{Entry, Next, Ring};
use super::{Event, Source};
use crate::protocol::GapReason;
use crate::publication::Epoch;
use crate::topic::{Pattern, Topic};

/// What the Feed knows of one Shard.
pub(super) struct Receiver {
    pub(super) inbox: mpsc::Sender<Event>,
    names: HashSet<Pattern>,
    wild: Vec<Pattern>,
    /// Everything up to here that it wants has been put into its inbox.
    pub(super) at: u64,
    /// Answers that found the inbox full. Nothing overtakes them.
    pub(super) waiting: VecDeque<Event>,
    /// Losses that it has not been told of, each reason once.
    pub(super) losses: Vec<GapReason>,
    /// Attaches that wait until it has caught up.
    pub(super) attaches: VecDeque<Attach>,
}

impl Receiver {
    pub(super) fn new(inbox: mpsc::Sender<Event>, at: u64) -> Self {
        Self {
            inbox,
            names: HashSet::new(),
            wild: Vec::new(),
            at,
            waiting: VecDeque::new(),
            losses: Vec::new(),
            attaches: VecDeque::new(),
        }
    }

    pub(super) fn is_behind(&self, head: u64) -> bool {
        self.at < head || !self.waiting.is_empty() || !self.losses.is_empty()
    }

    pub(super) fn is_interested(&self) -> bool {
        !self.names.is_empty() || !self.wild.is_empty()
    }

    pub(super) fn wants(&self, topic: &Topic) -> bool {
        self.names.contains(topic.as_str()) || self.wild.iter().any(|one| one.matches(topic))
    }

    pub(super) fn want(&mut self, pattern: &Pattern) {
        if !pattern.is_wild() {
            self.names.insert(pattern.clone());
        } else if !self.wild.contains(pattern) {
            self.wild.push(pattern.clone());
        }
    }

    pub(super) fn forget(&mut self, pattern: &Pattern) {
        self.names.remove(pattern);
        self.wild.retain(|other| other != pattern);
    }

    /// Puts an answer into the inbox, behind those that wait.
    pub(super) fn post(&mut self, answer: Event) {
        if !self.waiting.is_empty() {
            self.waiting.push_back(answer);
        } else if let Err(TrySendError::Full(answer)) = self.inbox.try_send(answer) {
            self.waiting.push_back(answer);
        }
    }

    /// Puts a Publication that it wants into the inbox. Whether there was room.
    pub(super) fn hand(
        &self,
        source: &Source,
        entry: &Entry,
        epoch: Epoch,
        fanout: Option<Arc<Fanout>>,
    ) -> bool {
        let Some(envelope) = entry.envelope(epoch) else {
            return true;
        };
        let live = Event::Live(source.clone(), Arc::clone(envelope), fanout);
        self.inbox.try_send(live).is_ok()
    }

    /// Goes on from its own place as far as the inbox has room. Whether it has caught up.
    pub(super) fn catch_up(&mut self, ring: &Ring, source: &Source) -> bool {
        while let Some(answer) = self.waiting.pop_front() {
            if let Err(TrySendError::Full(answer)) = self.inbox.try_send(answer) {
                self.waiting.push_front(answer);
                return false;
            }
        }
        while let Some(why) = self.losses.first() {
            if self.inbox.try_send(Event::Gap(source.clone(), *why)).is_err() {
                return false;
            }
            self.losses.remove(0);
        }
        if self.at < ring.floor() {
            if self.is_interested() {
                let overrun = Event::Overrun(source.clone(), Some(ring.cursor_at(self.at)));
                if self.inbox.try_send(overrun).is_err() {
                    return false;
                }
                self.names.clear();
                self.wild.clear();
            }
            self.at = ring.head();
        }
        while let Some(next) = ring.next(self.at) {
            self.at = match next {
                Next::Lost(until) => {
                    let gap = Event::Gap(source.clone(), GapReason::HistoryTrimmed);
                    if self.is_interested() && self.inbox.try_send(gap).is_err() {
                        return false;
                    }
                    until
                }
                Next::Entry(entry) => {
                    if entry.topic().is_some_and(|topic| self.wants(topic))
                        && !self.hand(source, entry, ring.epoch(), None)
                    {
                        return false;
                    }
                    entry.offset()
                }
            };
        }
        true
    }
}
