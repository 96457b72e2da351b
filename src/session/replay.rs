//! What a Subscription missed, on its way to the client.
//!
//! The Feed brings it in parts, and the Session asks for the next part only when its Shard says that
//! there is room: so nobody is closed for what he missed, and nobody's memory holds it. One part of
//! one Subscription is under way at a time; the others of the Connection wait in line.

use std::collections::VecDeque;

use super::subscription::State;
use super::{Output, Page, Scene, Session};
use crate::protocol::replay::{Begin, Replay, Rest};
use crate::protocol::{Code, Error, Push, Reply};
use crate::publication::Cursor;

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
            if let Some(subscription) = self.subscriptions.numbered(number) {
                replays.under_way = Some(number);
                let pattern = subscription.pattern.clone();
                return scene.out.push(Output::Attach(number, pattern, begin));
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
        let Some(subscription) =
            self.subscriptions.numbered(number).filter(|one| one.state != State::Live)
        else {
            return;
        };
        let topic = subscription.pattern.clone();
        let next = if replay.rest.is_some() { State::Replaying } else { State::Live };
        let replayed = u32::try_from(replay.envelopes.len()).unwrap_or(u32::MAX);
        let more = replay.rest.is_some();
        match std::mem::replace(&mut subscription.state, next) {
            State::Attaching(id) => scene.reply(Reply::Subscribed {
                id: id.map(|id| *id),
                topic: topic.clone(),
                cursor: replay.cursor,
                recovered: replay.recovered.is_ok(),
                reason: replay.recovered.err(),
                replayed,
                more,
            }),
            State::Replaying | State::Live => {
                if let Err(reason) = replay.recovered {
                    let (topic, missed) = (topic.clone(), replay.missed);
                    scene.out.push(Output::Push(Push::Gap { topic, reason, missed }));
                }
                let topic = topic.clone();
                scene.out.push(Output::Push(Push::Replay { topic, replayed, more }));
            }
        }
        if !replay.envelopes.is_empty() {
            scene.out.push(Output::Deliver(replay.envelopes));
        }
        match replay.rest {
            Some(rest) => self.ask_later(number, Begin::Rest(rest)),
            None => scene.out.push(Output::Join(topic)),
        }
    }

    pub(super) fn attach_failed(&mut self, scene: &mut Scene<'_>, number: u32, error: Error) {
        self.answered(number);
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

    /// What is live there goes on from a place behind which it has got nothing.
    pub(super) fn overrun(&mut self, scene: &mut Scene<'_>, namespace: &str, cursor: Cursor) {
        let rest = Rest::Missed { after: cursor, until: cursor.offset, left: 0 };
        for (number, pattern) in self.subscriptions.pause(namespace) {
            scene.out.push(Output::Pause(pattern));
            self.ask_later(number, Begin::Rest(rest));
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
