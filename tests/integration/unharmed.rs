//! Whether a node is as well as it was before somebody sent it rubbish.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Browser, Gateway, until};

/// Where the honest browser listens.
const TOPIC: &str = "honest.news";
/// How long a node may take to let go of what is over.
const LIMIT: Duration = Duration::from_secs(10);

/// An honest browser that is connected all the while, and what the node held with it alone.
pub(crate) struct Unharmed {
    browser: Browser,
    descriptors: usize,
    told: u64,
}

impl Unharmed {
    /// Connects. The node's anonymous clients must be allowed `honest.>`.
    pub(crate) async fn before(gateway: &Gateway) -> Self {
        let mut browser = gateway.browser("").await;
        browser.subscribe(TOPIC).await;
        gateway.until_count("connections", 1, LIMIT).await;
        Self { browser, descriptors: gateway.descriptors(), told: 0 }
    }

    /// Asserts that the honest browser is served, that the node holds what it held before, and that
    /// nothing panicked.
    pub(crate) async fn after(&mut self, gateway: &Gateway) {
        self.told += 1;
        let answer = gateway.publish(TOPIC, self.told.to_string()).await;
        assert_eq!(answer.status(), 200);
        drop(answer);
        let message = self.browser.message().await;
        assert_eq!(message["data"], json!(self.told));
        self.browser.is_quiet().await;
        for name in ["connections", "subscriptions", "patterns"] {
            gateway.until_count(name, 1, LIMIT).await;
        }
        let what = format!("at most {} descriptors are open", self.descriptors);
        until(&what, LIMIT, || async { gateway.descriptors() <= self.descriptors }).await;
        let log = gateway.log();
        assert!(!log.contains("panicked"), "{log}");
    }
}
