//! A Bus for tests: one in memory that answers late, or with what was true before, or whose live road
//! loses. It knows no Feed.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;

use crate::bus::history::{Head, Newest, Page, ReadError, Want};
use crate::bus::memory::{Memory, Subscription};
use crate::bus::{Arrival, Bus, Link, Live, PublishError, Receipt, SubscribeError};
use crate::publication::{Publication, Timestamp};
use crate::topic::Pattern;

#[derive(Clone)]
pub(super) struct Lagging {
    memory: Memory,
    /// The first answers about newest values, the last of them first.
    newest: Arc<Mutex<Vec<Newest>>>,
    read_takes: Duration,
    /// Where pages began that were read.
    read: Arc<Mutex<Vec<u64>>>,
    loses: bool,
}

/// A live road that may lose each second of what is stored.
pub(super) struct Road {
    whole: Subscription,
    loses: bool,
}

impl Live for Road {
    async fn next(&mut self) -> Option<Arrival> {
        loop {
            match self.whole.next().await {
                Some(Arrival::Stored(stored)) if self.loses && stored.offset % 2 == 1 => {}
                arrival => return arrival,
            }
        }
    }
}

impl Lagging {
    /// Whose newest values are at first these.
    pub(super) fn told_of_old(memory: Memory, newest: Vec<Newest>) -> Self {
        let newest = Arc::new(Mutex::new(newest));
        Self { newest, ..Self::read_slowly(memory, Duration::ZERO) }
    }

    /// Each page of which takes so long.
    pub(super) fn read_slowly(memory: Memory, read_takes: Duration) -> Self {
        let (newest, read) = Default::default();
        Self { memory, newest, read_takes, read, loses: false }
    }

    /// The same, and its live road loses each second one.
    pub(super) fn loses(memory: Memory, read_takes: Duration) -> Self {
        Self { loses: true, ..Self::read_slowly(memory, read_takes) }
    }

    /// How many pages were read that begin with this Offset.
    pub(super) fn pages_from(&self, offset: u64) -> usize {
        self.read.lock().unwrap().iter().filter(|from| **from == offset).count()
    }
}

impl Bus for Lagging {
    type Live = Road;

    async fn publish(&self, publication: Publication) -> Result<Receipt, PublishError> {
        self.memory.publish(publication).await
    }

    async fn subscribe(&self, pattern: &Pattern) -> Result<Road, SubscribeError> {
        Ok(Road { whole: self.memory.subscribe(pattern).await?, loses: self.loses })
    }

    async fn follow(&self, namespace: &str) -> Result<Road, SubscribeError> {
        Ok(Road { whole: self.memory.follow(namespace).await?, loses: self.loses })
    }

    async fn head(&self, namespace: &str) -> Result<Head, ReadError> {
        self.memory.head(namespace).await
    }

    async fn read(&self, namespace: &str, want: Want<'_>) -> Result<Page, ReadError> {
        self.read.lock().unwrap().push(want.from);
        sleep(self.read_takes).await;
        self.memory.read(namespace, want).await
    }

    async fn newest(
        &self,
        namespace: &str,
        patterns: &[Pattern],
        topics_max: usize,
    ) -> Result<Newest, ReadError> {
        let old = self.newest.lock().unwrap().pop();
        match old {
            Some(old) => Ok(old),
            None => self.memory.newest(namespace, patterns, topics_max).await,
        }
    }

    async fn since(&self, _: &str, _: Timestamp) -> Result<Option<u64>, ReadError> {
        Err(ReadError::Unavailable)
    }

    fn link(&self) -> watch::Receiver<Link> {
        self.memory.link()
    }
}
