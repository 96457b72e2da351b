//! One Subscription over all Connections: its Cursor, what it has had, and its log.

use std::collections::HashSet;

use tidegate::topic::Pattern;
use tokio::time::Instant;

use super::frame::Frame;
use crate::torture::log::{Got, Ms, Note, Place, Reason, Subscription, What};
use crate::torture::publisher::place;

/// What is wanted.
#[derive(Clone)]
pub(crate) struct Want {
    pub(crate) pattern: Pattern,
    pub(crate) kept: bool,
    /// Those that match.
    pub(crate) topics: Vec<usize>,
}

/// Where it begins on a Connection.
pub(super) enum Resume {
    Live,
    Cursor(String),
}

/// A Subscription and what it knows.
pub(super) struct Wanted {
    pub(super) want: Want,
    /// When to ask again after an error.
    pub(super) ask_again_at: Option<Instant>,
    cursor: Option<String>,
    last: Option<Place>,
    /// Histories that are over.
    gone: HashSet<u32>,
    /// What came without a place.
    had: HashSet<(usize, u32)>,
    /// Of which Topics the last has come.
    ended: HashSet<usize>,
    notes: Vec<Note>,
}

impl Wanted {
    pub(super) fn new(want: Want) -> Self {
        Self {
            want,
            ask_again_at: None,
            cursor: None,
            last: None,
            gone: HashSet::new(),
            had: HashSet::new(),
            ended: HashSet::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn log(self, client: usize) -> Subscription {
        Subscription {
            client,
            pattern: self.want.pattern.to_string(),
            kept: self.want.kept,
            topics: self.want.topics,
            notes: self.notes,
        }
    }

    pub(super) fn has_the_last(&self) -> bool {
        self.ended.len() == self.want.topics.len()
    }

    fn note(&mut self, at: Ms, connection: usize, what: What) {
        self.notes.push(Note { at, connection, what });
    }

    pub(super) fn ask(&mut self, at: Ms, connection: usize) -> Resume {
        let from = self.cursor.clone();
        self.note(at, connection, What::Asked(from.as_deref().and_then(place)));
        from.map_or(Resume::Live, Resume::Cursor)
    }

    pub(super) fn begun(&mut self, at: Ms, connection: usize, frame: &Frame<'_>) {
        let reason = match frame.recovered {
            Some(true) => None,
            _ => Some(Reason::read(frame.reason.unwrap_or_default())),
        };
        if reason == Some(Reason::EpochChanged) {
            self.forget();
        }
        let place = frame.cursor.and_then(place);
        self.note(at, connection, What::Begun { place, reason });
    }

    pub(super) fn again(&mut self, at: Ms, connection: usize) {
        self.note(at, connection, What::Again);
    }

    pub(super) fn live(&mut self, at: Ms, connection: usize) {
        self.note(at, connection, What::Live);
    }

    pub(super) fn over(&mut self, at: Ms, connection: usize) {
        self.note(at, connection, What::Over);
    }

    pub(super) fn gap(&mut self, at: Ms, connection: usize, reason: Option<&str>) {
        let reason = Reason::read(reason.unwrap_or_default());
        if reason == Reason::EpochChanged {
            self.forget();
        }
        self.note(at, connection, What::Gap(reason));
    }

    /// What came before is of a history that is over.
    fn forget(&mut self) {
        if let Some(last) = self.last.take() {
            self.gone.insert(last.epoch);
        }
        self.cursor = None;
    }

    /// It has all up to here.
    pub(super) fn reach(&mut self, cursor: &str) {
        if let Some(place) = place(cursor)
            && self.is_new(place)
        {
            self.move_to(place, cursor);
        }
    }

    fn is_new(&self, place: Place) -> bool {
        match self.last {
            Some(last) if last.epoch == place.epoch => place.offset > last.offset,
            _ => !self.gone.contains(&place.epoch),
        }
    }

    fn move_to(&mut self, place: Place, cursor: &str) {
        if let Some(last) = self.last.filter(|last| last.epoch != place.epoch) {
            self.gone.insert(last.epoch);
        }
        self.last = Some(place);
        self.cursor = Some(cursor.to_owned());
    }

    /// A Publication that is for it.
    pub(super) fn got(
        &mut self,
        at: Ms,
        connection: usize,
        number: u32,
        topic: usize,
        frame: &Frame<'_>,
        replayed: bool,
    ) -> Result<(), String> {
        let data = frame.data.as_ref().ok_or("it has no data")?;
        if !self.want.topics.contains(&topic) {
            return Err("it comes within the replay of others".into());
        }
        let place = frame.cursor.and_then(place);
        if place.is_some() != self.want.kept {
            return Err("a cursor too many, or none".into());
        }
        let fresh = match (place, frame.cursor) {
            (Some(place), Some(cursor)) => {
                let is_new = self.is_new(place);
                if is_new {
                    self.move_to(place, cursor);
                }
                is_new
            }
            _ => self.had.insert((topic, data.n)),
        };
        if data.end {
            self.ended.insert(topic);
        }
        let got = Got { topic, n: data.n, place, replayed, frame: number, fresh };
        self.note(at, connection, What::Got(got));
        Ok(())
    }
}
