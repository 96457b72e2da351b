//! Attaches that wait in a kept Feed: until its head is as far as they need it, or until a check has
//! said which history is followed.
//!
//! Their Feed bounds how many there are, and lets them go on: nothing here knows the ring, or answers.

use std::time::Duration;

use tokio::time::Instant;

use super::attach::Attach;
use super::opening::PATIENCE;
use crate::publication::Cursor;

/// A Cursor that history has not reached for so long is of another one. A new leader lags for less.
const FOREIGN_AFTER: Duration = Duration::from_millis(900);

/// Who waits, and for what.
#[derive(Default)]
pub(super) struct Waiting {
    held: Vec<Held>,
    doubted: Vec<Doubted>,
}

/// One for which the head must come further.
struct Held {
    attach: Attach,
    head: u64,
    until: Instant,
    /// When history was first seen to stand below its Cursor.
    foreign_since: Option<Instant>,
}

/// One of which a check must say whether it is of the history that is followed.
struct Doubted {
    attach: Attach,
    why: Doubt,
    /// The number of the check that judges it.
    check: u64,
    until: Instant,
}

pub(super) enum Doubt {
    /// Its Cursors are of no history that is known here. It may be an older one, or a newer one.
    Strange(Box<[Cursor]>),
    /// What it misses could not be read. What is stored may be another history.
    Unread,
}

/// One that has waited too long.
pub(super) enum Late {
    /// It goes on without what could not be read.
    Unread(Attach),
    /// Where it begins is still unknown.
    Nowhere(Attach),
}

impl Waiting {
    pub(super) const fn len(&self) -> usize {
        self.held.len() + self.doubted.len()
    }

    /// Lets it wait until the head has come this far.
    pub(super) fn hold(&mut self, attach: Attach, head: u64) {
        let until = Instant::now() + PATIENCE;
        self.held.push(Held { attach, head, until, foreign_since: None });
    }

    /// Lets it wait for this check.
    pub(super) fn doubt(&mut self, attach: Attach, why: Doubt, check: u64) {
        let until = Instant::now() + PATIENCE;
        self.doubted.push(Doubted { attach, why, check, until });
    }

    /// Those that a head at `head` is far enough for.
    pub(super) fn reached(&mut self, head: u64) -> Vec<Attach> {
        self.held.extract_if(.., |held| held.head <= head).map(|held| held.attach).collect()
    }

    /// Those whose Cursor lies above `last`, where history stands, and has for a while.
    pub(super) fn foreign(&mut self, last: u64) -> Vec<Attach> {
        let now = Instant::now();
        let foreign = |held: &mut Held| {
            held.attach.after > last
                && now - *held.foreign_since.get_or_insert(now) >= FOREIGN_AFTER
        };
        self.held.extract_if(.., foreign).map(|held| held.attach).collect()
    }

    /// Those of strange Cursors that this check, or one before it, judges.
    pub(super) fn strangers(&mut self, check: u64) -> Vec<(Attach, Box<[Cursor]>)> {
        let strange =
            |one: &mut Doubted| one.check <= check && matches!(one.why, Doubt::Strange(_));
        let strangers = self.doubted.extract_if(.., strange);
        strangers
            .filter_map(|one| match one.why {
                Doubt::Strange(cursors) => Some((one.attach, cursors)),
                Doubt::Unread => None,
            })
            .collect()
    }

    /// Those of failed reads that this check, or one before it, judges.
    pub(super) fn unread(&mut self, check: u64) -> Vec<Attach> {
        let unread = |one: &mut Doubted| one.check <= check && matches!(one.why, Doubt::Unread);
        self.doubted.extract_if(.., unread).map(|one| one.attach).collect()
    }

    /// When the first has waited too long.
    pub(super) fn until(&self) -> Option<Instant> {
        let doubted = self.doubted.iter().map(|one| one.until);
        self.held.iter().map(|held| held.until).chain(doubted).min()
    }

    pub(super) fn late(&mut self, now: Instant) -> Vec<Late> {
        let held = self.held.extract_if(.., |held| held.until <= now).map(|mut held| {
            match held.attach.proven.take() {
                Some(_) => Late::Unread(held.attach),
                None => Late::Nowhere(held.attach),
            }
        });
        let doubted = self.doubted.extract_if(.., |one| one.until <= now);
        let doubted = doubted.map(|one| match one.why {
            Doubt::Strange(_) => Late::Nowhere(one.attach),
            Doubt::Unread => Late::Unread(one.attach),
        });
        held.chain(doubted).collect()
    }

    /// All.
    pub(super) fn end(&mut self) -> impl Iterator<Item = Attach> {
        let held = std::mem::take(&mut self.held).into_iter().map(|held| held.attach);
        held.chain(std::mem::take(&mut self.doubted).into_iter().map(|one| one.attach))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::history::Head;
    use crate::feed::{ShardId, Ticket};
    use crate::publication::{Epoch, Timestamp};

    fn attach(connection: u64) -> Attach {
        let ticket = Ticket { connection, number: 1 };
        Attach::new(ShardId(0), ticket, ["k.a".parse().unwrap()].into(), 5)
    }

    /// Who has got something, or lacks only what cannot be read, goes on with a hole that it is told of;
    /// of whom nothing is known, nothing is promised.
    #[tokio::test(start_paused = true)]
    async fn patience_ends_by_what_was_waited_for() {
        let head = Head {
            epoch: Epoch::new(1),
            first: 1,
            first_time: Timestamp(10),
            last: 9,
            last_time: Timestamp(90),
            messages: 9,
        };
        let mut waiting = Waiting::default();
        let mut proven = attach(2);
        proven.proven = Some(head);
        waiting.hold(attach(1), 9);
        waiting.hold(proven, 9);
        waiting.doubt(attach(3), Doubt::Strange(Box::default()), 1);
        waiting.doubt(attach(4), Doubt::Unread, 1);
        assert!(waiting.late(Instant::now()).is_empty());
        tokio::time::advance(PATIENCE).await;
        let late = waiting.late(Instant::now()).into_iter().map(|late| match late {
            Late::Nowhere(attach) => (attach.ticket.connection, "refused"),
            Late::Unread(attach) => (attach.ticket.connection, "goes on"),
        });
        let expected = [(1, "refused"), (2, "goes on"), (3, "refused"), (4, "goes on")];
        assert_eq!(late.collect::<Vec<_>>(), expected);
        assert_eq!((waiting.len(), waiting.until()), (0, None));
    }
}
