//! How late a Shard's thread comes back to a timer: what everybody on it waits for.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::counts::Counts;

/// Between two looks: no stall that is longer goes unseen.
const LOOK: Duration = Duration::from_millis(50);
/// The longest stall counts for so long.
const REMEMBERED: Duration = Duration::from_secs(60);

/// Looks as long as the Shard lives.
pub(super) async fn watch(counts: Arc<Counts>) {
    let mut longest = (Duration::ZERO, Instant::now());
    loop {
        let begun = Instant::now();
        sleep(LOOK).await;
        let late = begun.elapsed().saturating_sub(LOOK);
        if late >= longest.0 || longest.1.elapsed() > REMEMBERED {
            longest = (late, Instant::now());
            counts.stall_us.set(usize::try_from(late.as_micros()).unwrap_or(usize::MAX));
        }
    }
}
