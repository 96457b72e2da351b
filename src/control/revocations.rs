//! What is revoked, kept for nodes that start later or were cut off.
//!
//! Each revocation is a Publication in a kept Namespace that no client can name, one Topic for each
//! [`Mark`]. A node hears them live, which is fast and may lose some; and every few seconds it asks
//! how far that history has come and reads what it has not read, which is slow and sure. While that
//! does not succeed, it does not know whom to turn away, and new Connections wait.
//!
//! Every node has all of it in memory. So if that history is lost, those who are there put it back.

use std::collections::{HashSet, VecDeque};
use std::future::pending;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};
use tracing::{debug, error, warn};

use super::{AGAIN, Control, call};
use crate::auth::{Mark, Revocation};
use crate::bus::history::{Head, ReadError, Stored, Want};
use crate::bus::{Arrival, Bus, Live, PublishError};
use crate::namespace::REVOKED;
use crate::publication::{Publication, Timestamp};
use crate::topic::Topic;

/// From one check to the next; sooner if something may have been lost, and if one has failed.
const CHECK: Duration = Duration::from_secs(5);
const CHECK_AGAIN: Duration = Duration::from_millis(500);
/// Checks that others ask for come no faster.
const CHECK_LEAST: Duration = Duration::from_millis(200);
/// What was known so long ago is no more for sure: a check, and what it may take.
const STALE: Duration = Duration::from_secs(6);
/// A new Connection waits so long for this node to know.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of one page.
const PAGE_ITEMS: usize = 1_000;
const PAGE_BYTES: usize = 1 << 20;

/// How far this node knows what is kept.
#[derive(Debug)]
pub(super) struct Kept {
    /// When a check was begun that has succeeded. None before the first.
    whole_at: watch::Sender<Option<Instant>>,
    /// Whether anything is kept at all.
    keeps: bool,
    /// Somebody thinks that something was lost.
    suspected: Notify,
}

/// What a stored revocation says beside its Topic.
#[derive(Serialize, Deserialize)]
struct Said {
    /// In milliseconds since 1970.
    at: u64,
}

/// How far it was read, and what that history lacks.
#[derive(Default)]
struct Reader {
    head: Option<Head>,
    owed: VecDeque<Revocation>,
}

impl Kept {
    pub(super) fn new(keeps: bool) -> Self {
        Self { whole_at: watch::Sender::new(None), keeps, suspected: Notify::new() }
    }

    pub(super) fn is_read(&self) -> bool {
        !self.keeps || self.whole_at.borrow().is_some()
    }

    pub(super) async fn is_whole_soon(&self) -> bool {
        if !self.keeps {
            return true;
        }
        let mut whole_at = self.whole_at.subscribe();
        let is_fresh = |at: &Option<Instant>| at.is_some_and(|at| at.elapsed() < STALE);
        timeout(PATIENCE, whole_at.wait_for(is_fresh)).await.is_ok_and(|known| known.is_ok())
    }
}

impl Reader {
    /// Where it stands in this history. None if it is another one than it has read, or lost its end.
    fn place(&self, now: &Head) -> Option<u64> {
        let then = self.head.as_ref().filter(|then| then.epoch == now.epoch)?;
        let is_longer = then.last < now.last;
        let is_same = then.last == now.last && then.last_time == now.last_time;
        (is_longer || is_same).then_some(then.last)
    }

    /// Whether something else stands where it has read to.
    fn is_other(&self, place: Option<u64>, stored: &Stored) -> bool {
        let then = self.head.as_ref().filter(|then| place == Some(then.last));
        then.is_some_and(|then| stored.offset == then.last && stored.time != then.last_time)
    }
}

impl<B: Bus> Control<B> {
    /// Has a revocation kept. Twice the same is kept once.
    pub(super) async fn keep(
        &self,
        Revocation { mark, at }: Revocation,
    ) -> Result<(), PublishError> {
        let topic =
            Topic::reserved(&format!("{REVOKED}.{mark}")).ok_or(PublishError::Unavailable)?;
        let publication = Publication {
            topic,
            id: format!("{mark}-{}", at.0).into(),
            time: (self.config.now)(),
            user: None,
            payload: call::write(&Said { at: at.0 }),
            trace: None,
        };
        self.bus.publish(publication).await.map(drop)
    }

    /// Hears what others revoke, as long as the node runs.
    pub(super) async fn follow_revoked(&self) {
        if !self.config.keeps {
            pending::<()>().await;
        }
        loop {
            if let Ok(mut live) = self.bus.follow(REVOKED).await {
                // What came before is read.
                self.kept.suspected.notify_one();
                while let Some(arrival) = live.next().await {
                    match arrival {
                        Arrival::Stored(stored) => {
                            if self.take(&stored).is_some_and(|(_, is_news)| is_news) {
                                self.sweep_owed.notify_one();
                            }
                        }
                        Arrival::Lost | Arrival::Publication(_) => self.kept.suspected.notify_one(),
                    }
                }
            }
            sleep(AGAIN).await;
        }
    }

    /// Makes sure again and again that nothing is missing.
    pub(super) async fn check_revoked(&self) {
        if !self.config.keeps {
            pending::<()>().await;
        }
        let mut reader = Reader::default();
        loop {
            let began = Instant::now();
            let pause = match self.check(&mut reader, began).await {
                Ok(()) => CHECK,
                Err(why) => {
                    debug!(error = %why, "What is revoked cannot be read");
                    CHECK_AGAIN
                }
            };
            self.auth.forget_revoked((self.config.now)());
            self.put_back(&mut reader.owed).await;
            sleep(CHECK_LEAST).await;
            // From one beginning to the next, so that nothing is stale when the next has succeeded.
            let left = pause.saturating_sub(began.elapsed());
            let _ = timeout(left, self.kept.suspected.notified()).await;
        }
    }

    async fn check(&self, reader: &mut Reader, began: Instant) -> Result<(), ReadError> {
        let head = self.bus.head(REVOKED).await?;
        let mut place = reader.place(&head);
        let (mut there, mut is_news) = (HashSet::new(), false);
        // Again with what was read last, to see that it is still the same.
        let mut from = place.unwrap_or(1).max(head.first);
        while from <= head.last && place != Some(head.last) {
            let (items, bytes) = (PAGE_ITEMS, PAGE_BYTES);
            let want = Want { from, until: head.last, patterns: &[], items, bytes };
            let page = self.bus.read(REVOKED, want).await?;
            if page.entries.iter().any(|stored| reader.is_other(place, stored)) {
                (place, from) = (None, head.first);
                continue;
            }
            for (mark, news) in page.entries.iter().filter_map(|stored| self.take(stored)) {
                there.insert(mark);
                is_news |= news;
            }
            from = page.end.saturating_add(1);
        }
        let is_another = place.is_none() && reader.head.is_some();
        reader.head = Some(head);
        if is_another {
            let lacking = |one: &Revocation| !there.contains(&one.mark);
            reader.owed = self.auth.revoked().into_iter().filter(lacking).collect();
            let lacks = reader.owed.len();
            warn!(revocations = lacks, "What is revoked was lost where it is kept; it is put back");
        }
        self.kept.whole_at.send_replace(Some(began));
        if is_news {
            self.sweep_owed.notify_one();
        }
        Ok(())
    }

    /// Has kept again what this node knows and history has lost. Other nodes do the same.
    async fn put_back(&self, owed: &mut VecDeque<Revocation>) {
        while let Some(revocation) = owed.front() {
            if let Err(why) = self.keep(*revocation).await {
                return error!(error = %why, revocations = owed.len(), "What is revoked cannot be put back");
            }
            owed.pop_front();
        }
    }

    /// Takes in what is stored: whom it is about, and whether that is news. None for what nobody here
    /// wrote.
    fn take(&self, stored: &Stored) -> Option<(Mark, bool)> {
        let publication = stored.publication.as_ref()?;
        let (_, mark) = publication.topic.as_str().split_once('.')?;
        let (mark, said) = (Mark::parse(mark)?, call::read::<Said>(&publication.payload)?);
        Some((mark, self.auth.revoke(Revocation { mark, at: Timestamp(said.at) })))
    }
}
