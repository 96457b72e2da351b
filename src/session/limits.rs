//! What one Session may do how often.
//!
//! Most clients subscribe once and listen, so nothing of this exists before the first Command.

use std::cell::Cell;
use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::time::Duration;

use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::Moment;

/// Offences are forgotten after this.
const STRIKE_WINDOW_MS: u64 = 60_000;
/// So many within the window end the Connection.
pub const STRIKES_MAX: usize = 10;

/// How fast Commands may come.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// In the long run, a second.
    pub per_second: NonZeroU32,
    /// At once.
    pub burst: NonZeroU32,
}

/// The running counts of one Session.
pub(super) struct Limits {
    now: Reading,
    commands: RateLimiter<NotKeyed, InMemoryState, Reading, NoOpMiddleware<Tick>>,
    pub(super) bad_messages: Strikes,
    pub(super) rate_limited: Strikes,
    pub(super) subscriptions: Strikes,
}

impl Limits {
    pub(super) fn new(rate: Rate, now: Moment) -> Self {
        let reading = Reading(Rc::new(Cell::new(now)));
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        Self {
            commands: RateLimiter::direct_with_clock(quota, reading.clone()),
            now: reading,
            bad_messages: Strikes::default(),
            rate_limited: Strikes::default(),
            subscriptions: Strikes::default(),
        }
    }

    /// Counts a Command; refused, it says how many milliseconds to wait.
    pub(super) fn command(&self, now: Moment) -> Result<(), u64> {
        self.now.0.set(now);
        self.commands.check().map_err(|refused| {
            let wait = refused.wait_time_from(self.now.now());
            u64::try_from(wait.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
        })
    }
}

/// Offences of one kind within the window.
#[derive(Debug, Default)]
pub(super) struct Strikes(VecDeque<Moment>);

impl Strikes {
    /// One more. Whether it was one too many.
    pub(super) fn strike(&mut self, now: Moment, max: usize) -> bool {
        self.0.retain(|at| now.0.saturating_sub(at.0) < STRIKE_WINDOW_MS);
        self.0.push_back(now);
        self.0.len() >= max
    }
}

/// The clock that governor asks: what the Session was told last.
#[derive(Debug, Clone)]
struct Reading(Rc<Cell<Moment>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Tick(Duration);

impl Clock for Reading {
    type Instant = Tick;
    fn now(&self) -> Tick {
        Tick(Duration::from_millis(self.0.get().0))
    }
}

impl std::ops::Add<Nanos> for Tick {
    type Output = Self;
    fn add(self, nanos: Nanos) -> Self {
        Self(self.0 + Duration::from(nanos))
    }
}

impl Reference for Tick {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_sub(earlier.0).into()
    }
    fn saturating_sub(&self, nanos: Nanos) -> Self {
        Self(self.0.saturating_sub(nanos.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate {
            per_second: NonZeroU32::new(per_second).unwrap(),
            burst: NonZeroU32::new(burst).unwrap(),
        }
    }

    #[test]
    fn a_burst_then_the_rate_and_the_wait_is_told() {
        let limits = Limits::new(rate(50, 200), Moment(0));
        for n in 0..200 {
            assert_eq!(limits.command(Moment(0)), Ok(()), "{n}");
        }
        assert_eq!(limits.command(Moment(0)), Err(20));
        assert_eq!(limits.command(Moment(20)), Ok(()));
    }

    #[test]
    fn the_tenth_offence_within_the_window_is_one_too_many() {
        let mut strikes = Strikes::default();
        assert!((0..9).all(|n| !strikes.strike(Moment(n * 6_000), STRIKES_MAX)));
        assert!(!strikes.strike(Moment(61_000), STRIKES_MAX), "the first is forgotten");
        assert!(strikes.strike(Moment(61_001), STRIKES_MAX));
    }
}
