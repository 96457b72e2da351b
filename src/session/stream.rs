//! A conversation in which the client only listens.
//!
//! All that it wants stands in its request, so all of it is checked before there is a Session:
//! [`Streaming::read`]. Its Patterns of one kept Namespace attach under one number and replay together,
//! in one order: a single Cursor says how far all of them have come.
//!
//! Who comes back brings the Cursors of the Namespaces that he had, in one list. Whose each of them is
//! only the Feeds know, by its Epoch. So each Namespace attaches with the whole list, and what a
//! Namespace without a Cursor of its own gets is decided when all have answered: it is new to this
//! client and begins by `from`, or one Cursor is left over, and then its history is not the one that
//! the client knew.

use std::sync::Arc;

use super::command::readable;
use super::{Output, Phase, Scene, Session};
use crate::auth::Claims;
use crate::namespace::Namespaces;
use crate::protocol::frame::Wanted;
use crate::protocol::replay::{Begin, Replay, Rest};
use crate::protocol::{Code, Error, From, GapReason, Push};
use crate::publication::Cursor;
use crate::topic::Pattern;

/// Most kept Namespaces of one stream: each has its Cursor in every `id:`.
const KEPT_MAX: usize = 16;

/// What a stream is to bring, and to whom.
#[derive(Debug)]
pub struct Streaming {
    claims: Arc<Claims>,
    /// Each once; those of one kept Namespace begin together.
    patterns: Vec<Pattern>,
    /// How many kept Namespaces they are of.
    kept: usize,
    from: From,
    cursors: Option<Box<[Cursor]>>,
}

/// Of a Session that is a stream's, what it needs besides.
#[derive(Debug, Default)]
pub(super) struct Stream {
    resuming: Option<Box<Resuming>>,
}

/// A client has come back, and not every kept Namespace has answered yet.
#[derive(Debug)]
struct Resuming {
    from: From,
    /// What the client brought and no Namespace knew so far.
    cursors: Vec<Cursor>,
    /// Attaches without an answer.
    awaited: Vec<u32>,
    /// Those that knew none of the Cursors, and their places.
    strangers: Vec<(u32, Cursor)>,
}

impl Streaming {
    /// Checks what a request wants; `cursors` is where its client has come to.
    ///
    /// # Errors
    /// One bad or forbidden Topic refuses all.
    pub fn read(
        namespaces: &Namespaces,
        claims: Arc<Claims>,
        wanted: &[Wanted],
        cursors: Option<Box<[Cursor]>>,
    ) -> Result<Self, Error> {
        let (mut patterns, mut begin) = (Vec::new(), From::Live);
        for one in wanted {
            let (pattern, from) = readable(namespaces, Some(&claims), one)?;
            if !patterns.contains(&pattern) {
                patterns.push(pattern);
            }
            // A query has one for all.
            begin = from;
        }
        let mut kept: Vec<&str> = Vec::new();
        for namespace in patterns.iter().map(Pattern::namespace) {
            if namespaces.history(namespace).is_some() && !kept.contains(&namespace) {
                kept.push(namespace);
            }
        }
        let kept = kept.len();
        if kept > KEPT_MAX {
            let words = format!("a stream has at most {KEPT_MAX} namespaces that keep history");
            return Err(Error::new(Code::TooManyTopics, words));
        }
        Ok(Self { claims, patterns, kept, from: begin, cursors })
    }

    /// How many kept Namespaces it is of.
    #[must_use]
    pub const fn kept(&self) -> usize {
        self.kept
    }

    /// Where its client has come to.
    #[must_use]
    pub fn cursors(&self) -> &[Cursor] {
        self.cursors.as_deref().unwrap_or_default()
    }
}

impl Session {
    /// Begins all that a stream wants.
    pub(super) fn stream(&mut self, scene: &mut Scene<'_>, streaming: Streaming) {
        let Streaming { claims, patterns, from, cursors, .. } = streaming;
        self.phase = Phase::Open { renewing: None };
        self.take_claims(scene, claims);
        if !scene.context.bus_connected {
            scene.out.push(Output::Push(Push::Bus { connected: false }));
        }
        let (mut kept, mut fleeting) = (Vec::<(Box<str>, u32)>::new(), Vec::new());
        for pattern in patterns {
            let namespace = pattern.namespace();
            let known = kept.iter().find(|(name, _)| **name == *namespace);
            let number = match known {
                Some((_, number)) => *number,
                None => self.subscriptions.next_number(),
            };
            match scene.config.namespaces.history(namespace) {
                Some(_) if known.is_none() => kept.push((namespace.into(), number)),
                Some(_) => {}
                None => fleeting.push(number),
            }
            self.subscriptions.add(number, pattern.clone(), None);
            scene.out.push(Output::Begin(number, pattern));
        }
        let kept: Vec<u32> = kept.into_iter().map(|(_, number)| number).collect();
        for number in fleeting {
            self.begin(scene, number, from.clone());
        }
        let resumed = cursors.filter(|_| !kept.is_empty());
        for number in &kept {
            match &resumed {
                Some(cursors) => self.begin(scene, *number, From::Cursor(cursors.clone())),
                None => self.begin(scene, *number, from.clone()),
            }
        }
        let resuming = resumed.map(|cursors| {
            let (cursors, strangers) = (cursors.into_vec(), Vec::new());
            Box::new(Resuming { from, cursors, awaited: kept, strangers })
        });
        self.stream = Some(Box::new(Stream { resuming }));
    }

    /// Whether this answer says only that the Namespace knows none of the Cursors that its client
    /// brought: what that means is decided when all have answered.
    pub(super) fn is_stranger(&mut self, scene: &mut Scene<'_>, number: u32, to: &Replay) -> bool {
        let Some(stream) = &mut self.stream else {
            return false;
        };
        let Some(resuming) = stream.resuming.as_mut() else {
            return false;
        };
        let Some(at) = resuming.awaited.iter().position(|awaited| *awaited == number) else {
            return false;
        };
        resuming.awaited.swap_remove(at);
        let before = resuming.cursors.len();
        let stranger = to.cursor.filter(|place| {
            resuming.cursors.retain(|cursor| cursor.epoch != place.epoch);
            resuming.cursors.len() == before
        });
        resuming.strangers.extend(stranger.map(|place| (number, place)));
        if resuming.awaited.is_empty()
            && let Some(resuming) = stream.resuming.take()
        {
            self.meet_strangers(scene, *resuming);
        }
        stranger.is_some()
    }

    fn meet_strangers(&mut self, scene: &mut Scene<'_>, resuming: Resuming) {
        let Resuming { from, cursors, strangers, .. } = resuming;
        for (number, place) in strangers {
            if cursors.is_empty() {
                self.ask_later(number, Begin::From(from.clone()));
                continue;
            }
            for subscription in self.subscriptions.numbered(number) {
                let (topic, reason) = (subscription.pattern.clone(), GapReason::EpochChanged);
                scene.out.push(Output::Push(Push::Gap { topic, reason, missed: None }));
            }
            let rest = Rest::Missed { after: place, promised: [].into() };
            self.ask_later(number, Begin::Rest(rest));
        }
    }
}
