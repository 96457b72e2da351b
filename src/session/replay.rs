//! What a Subscription missed, on its way to the client.
//!
//! The Feed brings it in parts, and the Session asks for the next part only when its Shard says that
//! there is room: so nobody is closed for what he missed, and nobody's memory holds it. One part of
//! one Subscription is under way at a time; the others of the Connection wait in line.

use std::collections::VecDeque;
use std::sync::Arc;

use super::subscription::State;
use super::{Output, Page, Scene, Session};
use crate::protocol::replay::{Begin, Replay, Rest};
use crate::protocol::{Close, Code, Error, From, Push, Reply};
use crate::publication::Cursor;
use crate::topic::Pattern;

/// The Subscriptions of a Session that have not got all that they missed.
#[derive(Default)]
pub(super) struct Replays {
    /// The one whose Feed was asked.
    under_way: Option<u32>,
    waiting: VecDeque<(u32, Begin)>,
}

impl Session {
    /// Whether [`Input::Room`](super::Input::Room) would make it ask for something.
    #[must_use]
    pub fn is_hungry(&self) -> bool {
        self.replays.as_ref().is_some_and(|all| all.under_way.is_none() && !all.waiting.is_empty())
    }

    /// Asks for what it missed: at once if that is nothing.
    pub(super) fn begin(&mut self, scene: &mut Scene<'_>, number: u32, from: From) {
        if from != From::Live {
            return self.ask_later(number, Begin::From(from));
        }
        let patterns = self.patterns(number);
        scene.out.push(Output::Attach(number, patterns, Begin::From(from)));
    }

    fn patterns(&mut self, number: u32) -> Arc<[Pattern]> {
        self.subscriptions.numbered(number).map(|one| one.pattern.clone()).collect()
    }

    /// Asks for what a Subscription missed as soon as there is room for it.
    pub(super) fn ask_later(&mut self, number: u32, begin: Begin) {
        self.replays.get_or_insert_default().waiting.push_back((number, begin));
    }

    /// Asks for the next part.
    pub(super) fn next_replay(&mut self, scene: &mut Scene<'_>) {
        let Some(replays) = self.replays.as_mut().filter(|all| all.under_way.is_none()) else {
            return;
        };
        while let Some((number, begin)) = replays.waiting.pop_front() {
            // It may have ended since.
            let patterns: Arc<[Pattern]> =
                self.subscriptions.numbered(number).map(|one| one.pattern.clone()).collect();
            if !patterns.is_empty() {
                replays.under_way = Some(number);
                return scene.out.push(Output::Attach(number, patterns, begin));
            }
        }
        self.replays = None;
    }

    fn answered(&mut self, number: u32) {
        if let Some(replays) = &mut self.replays
            && replays.under_way == Some(number)
        {
            replays.under_way = None;
            if replays.waiting.is_empty() {
                self.replays = None;
            }
        }
    }

    pub(super) fn attached(&mut self, scene: &mut Scene<'_>, number: u32, replay: Replay) {
        self.answered(number);
        if self.is_stranger(scene, number, &replay) {
            return;
        }
        let replayed = u32::try_from(replay.envelopes.len()).unwrap_or(u32::MAX);
        let more = replay.rest.is_some();
        let is_stream = self.stream.is_some();
        let mut first = None;
        for subscription in self.subscriptions.numbered(number) {
            let next = match subscription.state {
                State::Live => continue,
                State::Attaching(_) | State::Replaying if more => State::Replaying,
                State::Attaching(_) | State::Replaying => State::Live,
            };
            let topic = subscription.pattern.clone();
            first.get_or_insert_with(|| topic.clone());
            match std::mem::replace(&mut subscription.state, next) {
                State::Attaching(id) if !is_stream => scene.reply(Reply::Subscribed {
                    id: id.map(|id| *id),
                    topic,
                    cursor: replay.cursor,
                    recovered: replay.recovered.is_ok(),
                    reason: replay.recovered.err(),
                    replayed,
                    more,
                }),
                State::Attaching(_) | State::Replaying | State::Live => {
                    if let Err(reason) = replay.recovered {
                        let (topic, missed) = (topic.clone(), replay.missed);
                        scene.out.push(Output::Push(Push::Gap { topic, reason, missed }));
                    }
                    scene.out.push(Output::Push(Push::Replay { topic, replayed, more }));
                }
            }
        }
        let Some(first) = first else {
            return;
        };
        if !replay.envelopes.is_empty() {
            scene.out.push(Output::Deliver(replay.envelopes));
        }
        if let Some(rest) = replay.rest {
            return self.ask_later(number, Begin::Rest(rest));
        }
        for subscription in self.subscriptions.numbered(number) {
            scene.out.push(Output::Join(subscription.pattern.clone()));
        }
        if let (true, Some(cursor)) = (is_stream, replay.cursor) {
            // It has no `subscribed` to learn its place from.
            let namespace = first.namespace().into();
            scene.out.push(Output::Push(Push::Position { namespace, cursor }));
        }
    }

    pub(super) fn attach_failed(&mut self, scene: &mut Scene<'_>, number: u32, error: Error) {
        self.answered(number);
        if self.stream.is_some() {
            scene.out.extend(error.limit.map(Output::Met));
            return self.close(scene, Close::Refused(error.code));
        }
        let Some(failed) = self.subscriptions.remove_if(|one| one.number == number) else {
            return;
        };
        scene.out.push(failed.leave());
        match failed.state {
            State::Attaching(id) => {
                scene.refuse(id.map(|id| *id), Some(failed.pattern.as_str()), error);
            }
            State::Replaying | State::Live => {
                let (topic, code) = (failed.pattern, error.code);
                scene.out.push(Output::Push(Push::Unsubscribed { topic, code }));
            }
        }
    }

    pub(super) fn position(&mut self, scene: &mut Scene<'_>, namespace: &str, cursor: Cursor) {
        if self.subscriptions.live().any(|pattern| pattern.namespace() == namespace) {
            let namespace = namespace.into();
            scene.out.push(Output::Push(Push::Position { namespace, cursor }));
        }
    }

    /// What is live there goes on from a place behind which it has got nothing. The client hears that
    /// it is replayed again: what comes live meanwhile is for others.
    pub(super) fn overrun(&mut self, scene: &mut Scene<'_>, namespace: &str, cursor: Cursor) {
        let mut asked = None;
        for (number, pattern) in self.subscriptions.pause(namespace) {
            scene.out.push(Output::Pause(pattern.clone()));
            if self.stream.is_none() {
                let again = Push::Replay { topic: pattern, replayed: 0, more: true };
                scene.out.push(Output::Push(again));
            }
            // Those that share a number stand behind one another.
            if asked.replace(number) != Some(number) {
                let rest = Rest::Missed { after: cursor, promised: [].into() };
                self.ask_later(number, Begin::Rest(rest));
            }
        }
    }

    pub(super) fn page(&mut self, scene: &mut Scene<'_>, page: Page) {
        self.reads = self.reads.saturating_sub(1);
        let Page { id, topic, outcome } = page;
        match outcome {
            Ok((items, next)) => scene.reply(Reply::History { id, topic, items, next }),
            Err(error) => scene.refuse(id, Some(topic.as_str()), error),
        }
    }
}

/// The error of an ask for what no history keeps.
pub(super) fn not_kept(namespace: &str) -> Error {
    Error::new(Code::NotSupported, format!("the namespace {namespace:?} keeps no history"))
}
