//! The log of all that was published, and where it was stored.

use std::collections::{BTreeMap, HashMap};

use tidegate::publication::{Cursor, Epoch, Timestamp};
use tidegate::topic::Topic;
use tokio::time::Instant;

/// One Publication. Its place in the log is its number, and its id.
pub(crate) struct Entry {
    pub(crate) topic: Topic,
    /// Where its history put it; none on best effort.
    pub(crate) epoch: Option<Epoch>,
    pub(crate) offset: u64,
    /// Which history of its Namespace it was, from 0.
    pub(crate) life: u32,
    pub(crate) tombstone: bool,
    /// When it was published.
    pub(crate) at: Instant,
    /// Its history has lost it, not by retention.
    pub(crate) lost: bool,
    /// Its place had been another's, whom its history has lost.
    pub(crate) used_again: bool,
    /// Retention took it for others, which its history has lost since.
    pub(crate) left_unseen: bool,
    /// When newer ones pushed it out.
    pub(crate) left_at: Option<Instant>,
    /// The nodes to which a live copy of it came in time, a bit each.
    pub(crate) came_to: u32,
    /// Those that had read history beyond it before, when it had left.
    pub(crate) late_at: u32,
}

/// A copy that was dropped since its Feed had just begun to listen.
pub(crate) struct Missed {
    pub(crate) node: usize,
    pub(crate) number: usize,
    pub(crate) at: Instant,
}

#[derive(Default)]
pub(crate) struct Truth {
    pub(crate) log: Vec<Entry>,
    /// What was ever stored at a place.
    places: HashMap<Epoch, BTreeMap<u64, Vec<(usize, Timestamp)>>>,
    /// How long the log was when a history began.
    begins: HashMap<Epoch, usize>,
    pub(crate) missed_at_openings: Vec<Missed>,
    /// How often a history was lost, whole or in part.
    pub(crate) rewrites: u32,
}

impl Truth {
    pub(crate) fn store(&mut self, entry: Entry, time: Timestamp) {
        if let Some(epoch) = entry.epoch {
            let places = self.places.entry(epoch).or_default();
            places.entry(entry.offset).or_default().push((self.log.len(), time));
        }
        self.log.push(entry);
    }

    pub(crate) fn begin(&mut self, epoch: Epoch) {
        self.begins.insert(epoch, self.log.len());
    }

    /// The number of the first that may stand behind this place.
    pub(crate) fn after(&self, cursor: Cursor) -> usize {
        let places = self.places.get(&cursor.epoch);
        let below = places.and_then(|places| places.range(..=cursor.offset).next_back());
        let Some((offset, stored)) = below else {
            return self.begins.get(&cursor.epoch).copied().unwrap_or(0);
        };
        let there = *offset == cursor.offset;
        let fits = |(_, time): &&(usize, Timestamp)| there && cursor.fits(*time);
        let found = stored.iter().rfind(fits).or(stored.last());
        found.map_or(0, |(number, _)| number + 1)
    }

    /// The first that is owed to one who asked for what is live, and was given this place. If what
    /// stood there has been lost, what had taken the places before it by then is not.
    pub(crate) fn live(&self, cursor: Cursor, asked_at: Option<Instant>) -> usize {
        let first = self.after(cursor);
        let before = |entry: &&Entry| {
            let there = entry.epoch != Some(cursor.epoch) || entry.offset <= cursor.offset;
            there && asked_at.is_some_and(|at| entry.at <= at)
        };
        first + self.log[first..].iter().take_while(before).count()
    }

    /// Whether what stood at this place was lost by its history.
    pub(crate) fn has_lost(&self, cursor: Cursor) -> bool {
        let places = self.places.get(&cursor.epoch);
        let stored = places.and_then(|places| places.get(&cursor.offset));
        let mut fits = stored.into_iter().flatten().filter(|(_, time)| cursor.fits(*time));
        fits.any(|(number, _)| self.log[*number].lost)
    }

    pub(crate) fn get(&self, number: usize) -> &Entry {
        &self.log[number]
    }
}
