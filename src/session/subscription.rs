//! One Connection's interest in one Pattern.

use super::Output;
use crate::protocol::Id;
use crate::topic::Pattern;

/// A Subscription, from the ask to its end.
#[derive(Debug)]
pub struct Subscription {
    /// The number of its attach on this Connection; never used again. Those of a stream that begin
    /// together share one.
    pub number: u32,
    /// What it wants.
    pub pattern: Pattern,
    /// How far it has come.
    pub state: State,
}

impl Subscription {
    /// What its end means for the Shard.
    #[must_use]
    pub fn leave(&self) -> Output {
        Output::Leave(self.pattern.clone(), self.state == State::Live)
    }
}

/// How far a Subscription has come.
#[derive(Debug, PartialEq, Eq)]
pub enum State {
    /// Its Feed is asked; this is the `id` that the Reply carries.
    Attaching(Option<Box<Id>>),
    /// It has been answered, and has not got all that it missed.
    Replaying,
    /// It gets what comes.
    Live,
}

/// The Subscriptions of one Session, in the order of their asks.
#[derive(Debug, Default)]
pub struct Subscriptions {
    list: Vec<Subscription>,
    next: u32,
}

impl Subscriptions {
    /// How many there are, those attaching among them.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// A number that was never used.
    pub const fn next_number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    /// Adds one that begins to attach under this number.
    pub fn add(&mut self, number: u32, pattern: Pattern, id: Option<Id>) {
        let state = State::Attaching(id.map(Box::new));
        // Most Connections have a single one for life.
        self.list.reserve_exact(1);
        self.list.push(Subscription { number, pattern, state });
    }

    /// Whether one has not been answered yet.
    #[must_use]
    pub fn is_attaching(&self) -> bool {
        self.list.iter().any(|one| matches!(one.state, State::Attaching(_)))
    }

    /// The Patterns of those that are live, oldest first.
    pub fn live(&self) -> impl Iterator<Item = &Pattern> {
        self.list.iter().filter(|one| one.state == State::Live).map(|one| &one.pattern)
    }

    /// Makes those that are live in a Namespace replay again.
    pub fn pause(&mut self, namespace: &str) -> Vec<(u32, Pattern)> {
        let live = |one: &&mut Subscription| {
            one.state == State::Live && one.pattern.namespace() == namespace
        };
        let pause = |one: &mut Subscription| {
            one.state = State::Replaying;
            (one.number, one.pattern.clone())
        };
        self.list.iter_mut().filter(live).map(pause).collect()
    }

    /// Whether this very Pattern is there.
    #[must_use]
    pub fn contains(&self, pattern: &Pattern) -> bool {
        self.list.iter().any(|subscription| subscription.pattern == *pattern)
    }

    /// Those with this number: one, or those of a stream that began together.
    pub fn numbered(&mut self, number: u32) -> impl Iterator<Item = &mut Subscription> {
        self.list.iter_mut().filter(move |subscription| subscription.number == number)
    }

    /// Takes out the one with this Pattern.
    pub fn remove(&mut self, pattern: &Pattern) -> Option<Subscription> {
        self.remove_if(|subscription| subscription.pattern == *pattern)
    }

    /// Takes out the first that fits.
    pub fn remove_if(&mut self, fits: impl Fn(&Subscription) -> bool) -> Option<Subscription> {
        let at = self.list.iter().position(fits)?;
        Some(self.list.remove(at))
    }

    /// Takes out all.
    pub fn drain(&mut self) -> Vec<Subscription> {
        std::mem::take(&mut self.list)
    }
}
