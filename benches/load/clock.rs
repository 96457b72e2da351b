//! Time, for every part of this bench: it runs outside Tidegate, so the clocks that the lints keep
//! out of the node are read here, and only here.

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "another process than the node: it owns its clock and may sleep"
)]

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

static START: OnceLock<Instant> = OnceLock::new();

/// Time since the first call in this process; never goes back.
pub(crate) fn elapsed() -> Duration {
    START.get_or_init(Instant::now).elapsed()
}

/// Microseconds since 1970: the publisher and the client are two processes and compare these.
pub(crate) fn unix_micros() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// Blocks this thread.
pub(crate) fn sleep(time: Duration) {
    std::thread::sleep(time);
}

/// Blocks until `elapsed()` is `at`; returns how late it was when it came.
pub(crate) fn sleep_until(at: Duration) -> Duration {
    let now = elapsed();
    if at > now {
        sleep(at - now);
    }
    now.saturating_sub(at)
}

/// A point after which a wait is given up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Duration);

impl Deadline {
    pub(crate) fn after(time: Duration) -> Self {
        Self(elapsed() + time)
    }

    pub(crate) fn passed(self) -> bool {
        elapsed() >= self.0
    }

    pub(crate) fn left(self) -> Duration {
        self.0.saturating_sub(elapsed())
    }
}
