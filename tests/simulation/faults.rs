//! What can go wrong in a seed, each kind by a name that can be switched off.

use crate::rng::Rng;

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Live copies do not come.
    Drop,
    /// What is published while a Feed begins to listen does not reach it.
    OpeningDrop,
    /// Live copies come late, and past each other.
    Delay,
    /// They come again.
    Repeat,
    /// The queue of a live road is short.
    Overflow,
    /// The live road ends.
    RoadEnds,
    /// History does not answer now and then.
    Fails,
    /// It answers late.
    Slow,
    /// It answers with short pages.
    ShortPages,
    /// A node reaches nothing for a while.
    Outage,
    /// A history is lost, and begins anew.
    Wipe,
    /// A history loses its end, and uses Offsets again.
    GoBack,
    /// More Offsets than anybody reads pass at once.
    Burst,
    /// A Shard's inbox is small, and it takes its time.
    SlowShard,
    /// Clients stop to read.
    Stall,
    /// Connections break, and clients return elsewhere.
    Leave,
    /// Clients are sent elsewhere, and dial there before they leave.
    Move,
    /// Tokens are renewed with other Grants.
    Renew,
    /// Subscriptions end and begin.
    Unsubscribe,
    /// Bounds are tight: the ring, the parts of a replay, retention, the attaches that wait.
    Tight,
    /// A node sends its clients elsewhere, each at a slot of its own. No seed draws it: it is there
    /// where it is allowed.
    Drain,
}

impl Fault {
    pub(crate) const ALL: [Self; 21] = [
        Self::Drop,
        Self::OpeningDrop,
        Self::Delay,
        Self::Repeat,
        Self::Overflow,
        Self::RoadEnds,
        Self::Fails,
        Self::Slow,
        Self::ShortPages,
        Self::Outage,
        Self::Wipe,
        Self::GoBack,
        Self::Burst,
        Self::SlowShard,
        Self::Stall,
        Self::Leave,
        Self::Move,
        Self::Renew,
        Self::Unsubscribe,
        Self::Tight,
        Self::Drain,
    ];
    /// Those that a seed draws.
    pub(crate) const DRAWN: &[Self] = Self::ALL.split_at(Self::Drain as usize).0;
}

/// Some kinds of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Faults(u32);

impl Faults {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) const fn of(kinds: &[Fault]) -> Self {
        let (mut all, mut at) = (0, 0);
        while at < kinds.len() {
            all |= 1 << kinds[at] as u32;
            at += 1;
        }
        Self(all)
    }

    /// Those of a seed: a quarter of them have few, the rest any.
    pub(crate) fn drawn(rng: &mut Rng) -> Self {
        let chance = rng.pick(&[10, 35, 50, 70]);
        Self(
            Fault::DRAWN
                .iter()
                .filter(|_| rng.percent(chance))
                .fold(0, |all, one| all | 1 << *one as u32),
        )
    }

    pub(crate) const fn has(self, kind: Fault) -> bool {
        self.0 & 1 << kind as u32 != 0
    }

    pub(crate) const fn without(self, kind: Fault) -> Self {
        Self(self.0 & !(1 << kind as u32))
    }

    pub(crate) const fn with(self, kind: Fault) -> Self {
        Self(self.0 | 1 << kind as u32)
    }

    pub(crate) const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) fn list(self) -> Vec<Fault> {
        Fault::ALL.into_iter().filter(|kind| self.has(*kind)).collect()
    }
}

/// A check that is blinded, or a rule that is left out, to see that somebody notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blind {
    /// The client takes what it has had.
    Duplicates,
    /// A new history looks like the old one.
    Epoch,
    /// Offsets show no hole.
    Contiguity,
    /// History tells nothing new for a while after somebody began to listen.
    Opening,
    /// A Subscription that has ended is still answered.
    EndedAnswers,
    /// An Outbox takes everything.
    OutboxBound,
    /// All clients of a node that drains are sent away at once.
    EvenDrain,
}
