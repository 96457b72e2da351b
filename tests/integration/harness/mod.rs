//! What the tests are told with: a [`Gateway`] that is a real process, a [`Browser`] that is a real
//! WebSocket, a [`Proxy`] between them that can fail, and [`until`], the one place that waits.

pub mod browser;
pub mod gateway;
pub mod proxy;
pub mod raw;

pub use browser::Browser;
pub use gateway::{Gateway, Grants, Settings};
pub use proxy::Proxy;

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How long a test waits for something that should come at once.
pub const SOON: Duration = Duration::from_secs(10);

/// Waits until a condition holds; fails the test in words if it does not within `limit`.
pub async fn until<F, Fut>(what: &str, limit: Duration, mut holds: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let deadline = Instant::now() + limit;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(20)).await;
    }
}

/// Waits for something, at most [`SOON`].
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(SOON, future)
        .await
        .unwrap_or_else(|_| panic!("not within {SOON:?}: {what}"))
}

/// Runs an async test body on a runtime of its own.
pub fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(test);
}
