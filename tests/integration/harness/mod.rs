//! What the tests are told with: a [`Gateway`] that is a real process, a [`Browser`] that is a real
//! WebSocket, a [`Proxy`] between them that can fail, and [`until`], the one place that waits.

pub(crate) mod authority;
pub(crate) mod balancer;
pub(crate) mod browser;
pub(crate) mod chromium;
pub(crate) mod collector;
pub(crate) mod events;
pub(crate) mod gateway;
pub(crate) mod metrics;
pub(crate) mod nats;
pub(crate) mod old;
pub(crate) mod operator;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod raw;
pub(crate) mod tool;

pub(crate) use balancer::Balancer;
pub(crate) use browser::Browser;
pub(crate) use collector::Collector;
pub(crate) use events::{Event, Events};
pub(crate) use gateway::{Gateway, Grants, Settings};
pub(crate) use metrics::Metrics;
pub(crate) use nats::Nats;
pub(crate) use process::Process;
pub(crate) use proxy::Proxy;

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

/// How long a test waits for something that should come at once.
pub(crate) const SOON: Duration = Duration::from_secs(10);

/// The size of a test: what fits into every run, or with `FULL_SIZE=1` what is promised.
pub(crate) fn size<T>(every_run: T, full: T) -> T {
    if std::env::var_os("FULL_SIZE").is_some() { full } else { every_run }
}

/// Waits until a condition holds; fails the test in words if it does not within `limit`.
pub(crate) async fn until<F, Fut>(what: &str, limit: Duration, mut holds: F)
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

/// Lets time pass while something goes on that must not end.
pub(crate) async fn pass(time: Duration) {
    let since = Instant::now();
    until("time passes", time * 2, || async { since.elapsed() >= time }).await;
}

/// Waits for something, at most [`SOON`].
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(SOON, future).await.unwrap_or_else(|_| panic!("not within {SOON:?}: {what}"))
}

/// Runs an async test body on a runtime of its own.
pub(crate) fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(test);
}
