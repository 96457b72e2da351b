//! What a Shard asks of Feeds, and what they bring.
//!
//! A Subscription attaches by a Ticket; the answer, and everything that is live, comes through the
//! Shard's inbox, whose order is the order of its world. What a client missed is asked for part by
//! part, as its Outbox empties. Nothing here knows where Feeds have it from.

use std::sync::Arc;

use super::connection::{Connection, Frame};
use super::counts::Transport;
use super::{FLUSHES_PER_TURN, Key, QUEUED_PER_TURN, Shard, Waiting};
use crate::feed::{self, AttachError, Event, Fanout, Source, Ticket};
use crate::protocol::replay::Begin;
use crate::protocol::{Envelope, Error, GapReason, Limit};
use crate::session::{self, Input, PageOf};
use crate::topic::Pattern;

/// A replay of so many Frames is written there and then, before the next one is queued; so a turn that
/// queues its most flushes its most.
const REPLAY_WRITTEN: usize = QUEUED_PER_TURN / FLUSHES_PER_TURN;

impl Shard {
    pub(super) fn attach(
        &mut self,
        key: Key,
        number: u32,
        patterns: Arc<[Pattern]>,
        begin: Begin,
    ) -> Option<Input> {
        self.release();
        let ticket = Ticket { connection: key.pack(), number };
        // Behind a release that waits, this attach would be undone by it.
        let asked = self.has_room_to_attach()
            && self.world.feeds.attach(self.id, patterns, begin, ticket).is_ok();
        if !asked {
            // Whatever holds it up, it is attaches that wait.
            return Some(Input::AttachFailed(number, overloaded(Limit::AttachesWaiting)));
        }
        self.attaching += 1;
        None
    }

    pub(super) fn has_room_to_attach(&self) -> bool {
        self.unreleased.is_empty() && self.attaching < self.world.config.attaches_waiting
    }

    /// Lets a Session ask for the next part of a replay, if its client has taken enough of the last.
    pub(super) fn feed(&mut self, key: Key) {
        let half = self.world.config.outbox_bytes / 2;
        let hungry = |one: &&mut Connection| {
            one.session.is_hungry() && one.goodbye.is_none() && one.waiting_bytes() < half
        };
        if self.get(key).filter(hungry).is_none() {
            return;
        }
        self.release();
        if self.has_room_to_attach() {
            self.handle(key, Input::Room);
        } else if let Some(connection) = self.get(key)
            && !std::mem::replace(&mut connection.hungry, true)
        {
            self.hungry.push(key);
        }
    }

    /// Tells Feeds that nobody here wants them, as far as the directory has room to hear it.
    pub(super) fn release(&mut self) {
        while let Some(pattern) = self.unreleased.last() {
            if self.world.feeds.detach(self.id, pattern.clone()).is_err() {
                return;
            }
            self.unreleased.pop();
        }
    }

    /// Reads a page of history; a task waits for it.
    pub(super) fn read_history(&mut self, key: Key, wanted: PageOf) {
        let (feeds, waiting) = (self.world.feeds.clone(), Waiting { shard: self.me.clone(), key });
        self.tasks.spawn_local(async move {
            let PageOf { id, topic, from, limit } = wanted;
            let limit = usize::from(limit);
            let page = feeds.read(feed::Wanted::History { topic: topic.clone(), from, limit });
            let outcome = match page.await {
                Ok(page) => {
                    Ok((page.envelopes.iter().map(|one| one.text().clone()).collect(), page.next))
                }
                Err(why) => Err(why.wire()),
            };
            if let Some(shard) = waiting.shard.upgrade() {
                shard.borrow_mut().answer(key, Input::Read(session::Page { id, topic, outcome }));
            }
        });
    }

    /// Takes one Event. Says how much work it was.
    pub(super) fn take(&mut self, event: Event) -> usize {
        match event {
            Event::Live(source, envelope, fanout) => {
                return self.deliver(&source, &envelope, fanout.as_deref());
            }
            Event::Attached(ticket, replay) => {
                self.attaching -= 1;
                let brought = replay.envelopes.len();
                let patterns = Arc::clone(&replay.patterns);
                let input = Input::Attached(ticket.number, replay);
                let key = Key::unpack(ticket.connection);
                self.handle(key, input);
                self.let_go(&patterns);
                if brought >= REPLAY_WRITTEN {
                    self.flush(key, self.now().moment);
                }
                return 1 + brought;
            }
            Event::Refused(ticket, why) => {
                self.attaching -= 1;
                let input = Input::AttachFailed(ticket.number, why.wire());
                self.handle(Key::unpack(ticket.connection), input);
            }
            Event::Overrun(Source::Namespace(namespace), Some(cursor)) => {
                self.counts.hit(Limit::ShardInbox);
                let mut keys: Vec<Key> =
                    self.table.subscribers_of(&namespace).into_iter().map(|(_, key)| key).collect();
                keys.sort_unstable_by_key(|key| key.index);
                keys.dedup();
                for key in keys {
                    self.handle(key, Input::Overrun(Arc::clone(&namespace), cursor));
                }
            }
            Event::Overrun(source, _) => {
                self.counts.hit(Limit::ShardInbox);
                self.tell_gap(&source, GapReason::BusInterrupted);
            }
            Event::Gap(source, reason) => self.tell_gap(&source, reason),
            Event::Position(namespace, cursor) => {
                for key in self.table.quiet(&namespace) {
                    self.handle(key, Input::Position(Arc::clone(&namespace), cursor));
                }
            }
        }
        1
    }

    fn tell_gap(&mut self, source: &Source, reason: GapReason) {
        let subscribers = match source {
            // A Publication comes under one of those that match: what that one lost, all of them lost.
            Source::Pattern(pattern) => {
                let lost = |other: &Pattern| other.intersection(pattern).is_some();
                let keys = self.table.subscribers(pattern).into_iter();
                let live = keys.map(|key| (key, self.live(key)));
                live.flat_map(|(key, live)| {
                    live.into_iter().filter(lost).map(move |one| (one, key))
                })
                .collect()
            }
            Source::Namespace(namespace) => self.table.subscribers_of(namespace),
        };
        for (pattern, key) in subscribers {
            self.handle(key, Input::Gap(pattern, reason));
        }
    }

    /// What overlaps with a Subscription that has ended comes by another Feed from here on.
    pub(super) fn tell_torn(&mut self, key: Key, ended: &Pattern, live: Vec<Pattern>) {
        for pattern in live.into_iter().filter(|one| one.intersection(ended).is_some()) {
            self.handle(key, Input::Gap(pattern, GapReason::BusInterrupted));
        }
    }

    /// A Subscription may have ended while it was answered. Its Feed learns that nobody wants it.
    fn let_go(&mut self, patterns: &[Pattern]) {
        for pattern in patterns {
            if !self.table.wants(pattern) {
                self.unreleased.push(pattern.clone());
            }
        }
        self.release();
    }

    fn deliver(
        &mut self,
        source: &Source,
        envelope: &Arc<Envelope>,
        fanout: Option<&Fanout>,
    ) -> usize {
        self.counts.publications.add(1);
        let receivers = match source {
            Source::Pattern(pattern) => self.table.receivers(pattern, envelope.topic()),
            Source::Namespace(_) => self.table.receivers_kept(envelope.topic()),
        };
        if receivers.is_empty() {
            return 1;
        }
        let frame = Frame::publication(envelope);
        let now = self.now().moment;
        let mut queued = [0; Transport::ALL.len()];
        for key in &*receivers {
            if let Some(transport) = self.queue(*key, &frame, now) {
                queued[transport as usize] += 1;
            }
        }
        let place = self.place(envelope.topic().namespace());
        self.counts.deliver(place, queued);
        if let Some(fanout) = fanout {
            fanout.reached(receivers.len() as u64, queued.iter().sum());
        }
        self.follow(&receivers, envelope, place, now);
        if std::mem::take(&mut self.turn_owed) { QUEUED_PER_TURN } else { receivers.len() }
    }

    /// Queues what one Connection missed. When many come back at once, most of them to the same place,
    /// the Frames of the one before are theirs, too.
    pub(super) fn replay(&mut self, key: Key, envelopes: &[Arc<Envelope>]) {
        let now = self.now().moment;
        let mut frames = std::mem::take(&mut self.replayed);
        let pairs = frames.iter().zip(envelopes);
        let same = pairs.take_while(|((known, _), envelope)| Arc::ptr_eq(known, envelope)).count();
        frames.truncate(same);
        let new = envelopes.iter().skip(same);
        frames.extend(new.map(|envelope| (Arc::clone(envelope), Frame::publication(envelope))));
        if let Some(connection) = self.get(key).filter(|one| !one.is_stream()) {
            connection.outbox.reserve(frames.len());
        }
        let mut queued = [0; Transport::ALL.len()];
        for (_, frame) in &frames {
            if let Some(transport) = self.queue(key, frame, now) {
                queued[transport as usize] += 1;
            }
        }
        if let Some(first) = envelopes.first() {
            // All of them are of one Namespace.
            self.counts.deliver(self.place(first.topic().namespace()), queued);
        }
        self.replayed = frames;
    }
}

fn overloaded(limit: Limit) -> Error {
    AttachError::Overloaded(limit).wire()
}
