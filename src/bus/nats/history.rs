//! The history of a kept Namespace, read from its stream with proof.
//!
//! Any server that has the stream answers reads, and it may lag behind, or its answer may lose parts
//! on the way. So a page counts only if each of its messages names the one before it; what is not
//! there up to its *last* message is gone for good, since a replica takes messages in their order.
//! Beyond that, who leads the stream is asked.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::StatusCode;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};
use tracing::{debug, error, warn};

use super::headers::Headers;
use super::random_ms;
use super::request::{AskError, Requests};
use super::stored::{Place, Told};
use super::stream::{self, Info, StreamError, Wanted};
use super::subject::Subjects;
use crate::bus::ReadError;
use crate::bus::history::{Head, Newest, Page, Stored, Want};
use crate::protocol::json::rfc3339;
use crate::publication::{Cursor, Epoch, Timestamp};
use crate::topic::Pattern;

/// Messages of one page.
pub(super) const PAGE_ITEMS: usize = 4_096;
/// Bytes of one page: whoever reads keeps the stream from writing.
const PAGE_BYTES: usize = 2 << 20;
/// A read that brings nothing for so long has failed.
const SILENCE: Duration = Duration::from_secs(3);
/// A question to who leads the stream.
const ASK: Duration = Duration::from_secs(1);
/// Whatever is tried again is given up after this.
const PATIENCE: Duration = Duration::from_secs(10);
const AGAIN_FIRST_MS: u64 = 5;
const AGAIN_MOST_MS: u64 = 320;
/// From this try on, who leads the stream is asked what is missing.
const ASKED_FROM: u32 = 4;
const TRIES_MAX: u32 = 30;
/// Reads that a lost connection has ended, before messages are read one by one.
const CUTS_MAX: u32 = 2;
/// So many of them, before they are again read by the page.
const TOLD_ITEMS: usize = 64;
const HEAD_AGAIN_LEAST: Duration = Duration::from_millis(50);
const HEAD_AGAIN_SPREAD_MS: u64 = 150;
/// A stream that is gone is made again no faster than this.
const PROVISION_EVERY: Duration = Duration::from_secs(1);
/// Topics of one snapshot are more than the server gives.
const TOO_MANY: u16 = 413;
const PAGE_END: u16 = 204;

/// One kept Namespace.
pub(super) struct Kept {
    pub(super) wanted: Wanted,
    subjects: Subjects,
    /// Questions to who leads the stream.
    pub(super) live: Requests,
    /// Reads, on a connection of their own: the server answers them in the loop that reads it.
    reads: Requests,
    /// What was seen last, one more than its number; 0 before.
    epoch: AtomicU64,
    /// An Offset that is known to have been given there; whatever is stored later has a higher one.
    given: AtomicU64,
    /// When the stream was made sure of.
    provisioned: Mutex<Option<Instant>>,
}

/// How who leads the stream tells one message.
#[derive(Deserialize)]
struct Answer<M> {
    message: M,
}

/// What a read has brought.
enum Pulled {
    /// Messages, the bytes that brought them, the Offset of the last, and how far history was looked at.
    Page(Vec<Stored>, usize, u64, Option<u64>),
    Nothing,
    TooMany,
}

impl Kept {
    pub(super) fn new(wanted: Wanted, subjects: Subjects, live: Requests, reads: Requests) -> Self {
        let (epoch, given, provisioned) = Default::default();
        Self { wanted, subjects, live, reads, epoch, given, provisioned }
    }

    /// The Epoch as it was when the stream was last asked; none before.
    pub(super) fn epoch(&self) -> Option<Epoch> {
        let bits = self.epoch.load(Ordering::Relaxed).checked_sub(1)?;
        Some(Epoch::new(u32::try_from(bits).ok()?))
    }

    fn noted(&self, info: &Info) -> Option<Head> {
        let head = info.head()?;
        self.epoch.store(u64::from(head.epoch.bits()) + 1, Ordering::Relaxed);
        self.given.store(head.last, Ordering::Relaxed);
        Some(head)
    }

    /// An Offset that is known to have been given by now.
    pub(super) fn given(&self) -> u64 {
        self.given.load(Ordering::Relaxed)
    }

    /// Where something was stored that was sent when `given` had been given. An Offset that is not
    /// higher is of another history than the one that was seen last.
    pub(super) async fn cursor(&self, offset: u64, given: u64) -> Option<Cursor> {
        let epoch = match self.epoch().filter(|_| offset > given) {
            Some(epoch) => {
                self.given.fetch_max(offset, Ordering::Relaxed);
                epoch
            }
            None => self.head().await.ok()?.epoch,
        };
        Some(Cursor { epoch, offset, check: None })
    }

    /// Makes sure of the stream, however many ask for it at once.
    pub(super) async fn provision(&self) -> Result<(), StreamError> {
        let mut provisioned = self.provisioned.lock().await;
        if provisioned.is_some_and(|at| at.elapsed() < PROVISION_EVERY) {
            return Ok(());
        }
        let info = self.wanted.provision(&self.live).await?;
        *provisioned = Some(Instant::now());
        self.noted(&info);
        Ok(())
    }

    /// Where it stands, as told by who leads the stream.
    pub(super) async fn head(&self) -> Result<Head, ReadError> {
        let until = Instant::now() + PATIENCE;
        loop {
            match stream::info(&self.live, &self.wanted.names).await {
                Ok(info) => {
                    if let Some(head) = self.noted(&info) {
                        return Ok(head);
                    }
                }
                Err(StreamError::Missing) => {
                    warn!(nats.stream = %self.wanted.names.stream, "The stream is gone");
                    if let Err(why) = self.provision().await {
                        error!(error = %why, "The stream cannot be made again");
                    }
                }
                Err(why) => debug!(error = %why, "The stream does not say where it stands"),
            }
            if Instant::now() >= until {
                return Err(ReadError::Unavailable);
            }
            sleep(HEAD_AGAIN_LEAST + random_ms(HEAD_AGAIN_SPREAD_MS)).await;
        }
    }

    /// The front of what is wanted.
    pub(super) async fn read(&self, want: Want<'_>) -> Result<Page, ReadError> {
        let from = want.from.max(1);
        if want.patterns.is_empty() {
            return self.read_one(None, Want { from, ..want }).await;
        }
        let (mut entries, mut end) = (Vec::new(), want.until);
        for pattern in want.patterns {
            let filter = self.subjects.pattern(pattern);
            let page = self.read_one(Some(&filter), Want { from, ..want }).await?;
            entries.extend(page.entries);
            end = end.min(page.end);
        }
        entries.sort_unstable_by_key(|stored: &Stored| stored.offset);
        entries.dedup_by_key(|stored| stored.offset);
        entries.retain(|stored| stored.offset <= end);
        // Who is brought only to where he stood would ask for the same again.
        let stands = entries.first().is_some_and(|first| first.offset == from);
        let most = want.items.max(1 + usize::from(stands));
        if entries.len() > most {
            entries.truncate(most);
            end = entries.last().map_or(end, |last| last.offset);
        }
        Ok(Page { entries, end })
    }

    /// Of one filter, or of all.
    async fn read_one(&self, filter: Option<&str>, want: Want<'_>) -> Result<Page, ReadError> {
        let Want { from, until, items, bytes, .. } = want;
        let (items, bytes) = (items.clamp(1, PAGE_ITEMS), bytes.min(PAGE_BYTES));
        let mut page = Page { entries: Vec::new(), end: from - 1 };
        let (mut again, mut cuts) = (Again::new(), 0);
        while page.end < until {
            let next = page.end + 1;
            let mut question = json!({ "seq": next, "batch": items, "max_bytes": bytes });
            match filter {
                Some(filter) => question["next_by_subj"] = filter.into(),
                // Of all there are no more than places.
                None => question["batch"] = (until - page.end).min(items as u64).into(),
            }
            let Some(epoch) = self.epoch() else {
                again.pause().await?;
                continue;
            };
            match self.pull(&question, epoch).await {
                Ok(Pulled::Page(entries, ..)) => {
                    let short = entries.len() < items;
                    take(entries, until, &mut page);
                    if page.end >= next && (filter.is_none() || !short) {
                        if page.end > from {
                            break;
                        }
                        continue;
                    }
                }
                Ok(Pulled::Nothing) => {}
                Ok(Pulled::TooMany) => {
                    again.pause().await?;
                    continue;
                }
                Err(why) => {
                    again.pause().await?;
                    cuts += u32::from(why == AskError::Down);
                    if cuts >= CUTS_MAX {
                        // One that cannot be read ends the connection that brings it.
                        self.take_told(filter, until, &mut page).await;
                        if page.end > from {
                            break;
                        }
                    }
                    continue;
                }
            }
            // What there is may be all there is; a filter cannot show it.
            if (filter.is_some() || again.tries >= ASKED_FROM)
                && self.is_all(page.end + 1, until, filter).await
            {
                page.end = until;
            } else if page.end > from {
                break;
            } else {
                again.pause().await?;
            }
        }
        Ok(page)
    }

    /// What is next, one by one, as told by who leads the stream: slow, and it reads every message.
    async fn take_told(&self, filter: Option<&str>, until: u64, page: &mut Page) {
        let (subject, filter) = (self.wanted.names.get(), filter.unwrap_or(">"));
        let (items, mut bytes) = (page.entries.len() + TOLD_ITEMS, 0);
        while page.end < until && page.entries.len() < items && bytes < PAGE_BYTES {
            let question = json!({ "seq": page.end + 1, "next_by_subj": filter });
            let told = stream::call(&self.live, &subject, text(&question), ASK).await;
            let (Ok(Answer::<Told> { message }), Some(epoch)) = (told, self.epoch()) else {
                return;
            };
            bytes += message.bytes();
            if message.seq > until {
                page.end = until;
                return;
            }
            let topic = self.subjects.read(&self.wanted.namespace, &message.subject);
            let Some(stored) = message.stored(topic, epoch) else {
                return;
            };
            page.end = stored.offset;
            page.entries.push(stored);
        }
    }

    /// Whether who leads the stream has nothing from one Offset to another, of one filter or at all.
    async fn is_all(&self, from: u64, until: u64, filter: Option<&str>) -> bool {
        let names = &self.wanted.names;
        let Ok(before) = stream::info(&self.live, names).await else {
            return false;
        };
        if before.last() < until {
            return false;
        }
        let question = json!({ "seq": from, "next_by_subj": filter.unwrap_or(">") });
        match self.first(&question).await {
            Ok(first) => first > until,
            Err(StreamError::Missing) => {
                let after = stream::info(&self.live, names).await;
                after.is_ok_and(|after| after.is_of_the_same(&before))
            }
            Err(_) => false,
        }
    }

    /// The Offset of the one message that is asked for, as told by who leads the stream.
    async fn first(&self, question: &Value) -> Result<u64, StreamError> {
        #[derive(Deserialize)]
        struct Found {
            seq: u64,
        }
        let subject = self.wanted.names.get();
        let got: Answer<Found> = stream::call(&self.live, &subject, text(question), ASK).await?;
        Ok(got.message.seq)
    }

    /// The newest of each Topic.
    pub(super) async fn newest(
        &self,
        patterns: &[Pattern],
        topics_max: usize,
    ) -> Result<Newest, ReadError> {
        let filters: Vec<String> =
            patterns.iter().map(|pattern| self.subjects.pattern(pattern)).collect();
        let (mut again, mut cuts) = (Again::new(), 0);
        loop {
            let tried = match cuts < CUTS_MAX {
                true => self.try_newest(&filters, topics_max, &mut cuts).await,
                // One that cannot be read ends the connection that brings it.
                false => self.newest_told(&filters, topics_max).await,
            };
            match tried {
                Ok(Some(newest)) => return Ok(newest),
                Err(ReadError::TooManyTopics) => return Err(ReadError::TooManyTopics),
                Ok(None) | Err(ReadError::Unavailable) => again.pause().await?,
            }
        }
    }

    /// None if it must be asked again.
    async fn try_newest(
        &self,
        filters: &[String],
        topics_max: usize,
        cuts: &mut u32,
    ) -> Result<Option<Newest>, ReadError> {
        let head = self.head().await?;
        let mut newest = Newest { entries: Vec::new(), as_of: 0 };
        let mut question = json!({ "multi_last": filters, "max_bytes": PAGE_BYTES });
        loop {
            let pulled = self.pull(&question, head.epoch).await.map_err(|why| {
                *cuts += u32::from(why == AskError::Down);
                ReadError::Unavailable
            })?;
            match pulled {
                Pulled::Page(entries, bytes, sent, up_to) => {
                    let Some(as_of) = up_to else {
                        return Ok(None);
                    };
                    newest.as_of = as_of;
                    newest.entries.extend(entries);
                    if newest.entries.len() > topics_max {
                        return Err(ReadError::TooManyTopics);
                    }
                    if bytes < PAGE_BYTES {
                        break;
                    }
                    question["seq"] = (sent + 1).into();
                    question["up_to_seq"] = as_of.into();
                }
                // Behind a page that was just full.
                Pulled::Nothing if newest.as_of > 0 => break,
                Pulled::Nothing => {
                    newest.as_of = head.last;
                    return Ok(self.has_none(filters).await.then_some(newest));
                }
                Pulled::TooMany => return Err(ReadError::TooManyTopics),
            }
        }
        newest.entries.sort_unstable_by_key(|stored| stored.offset);
        newest.entries.dedup_by_key(|stored| stored.offset);
        Ok(Some(newest))
    }

    /// The same Topic by Topic, as told by who leads the stream: slow. None if it must be asked again.
    async fn newest_told(
        &self,
        filters: &[String],
        topics_max: usize,
    ) -> Result<Option<Newest>, ReadError> {
        let head = self.head().await?;
        let names = &self.wanted.names;
        let mut subjects = BTreeSet::new();
        for filter in filters {
            let Ok(found) = stream::subjects(&self.live, names, filter).await else {
                return Ok(None);
            };
            subjects.extend(found);
        }
        if subjects.len() > topics_max {
            return Err(ReadError::TooManyTopics);
        }
        let mut newest = Newest { entries: Vec::new(), as_of: head.last };
        for subject in subjects {
            let question = text(&json!({ "last_by_subj": subject }));
            match stream::call(&self.live, &names.get(), question, ASK).await {
                Ok(Answer::<Told> { message }) if message.seq <= head.last => {
                    let topic = self.subjects.read(&self.wanted.namespace, &message.subject);
                    let Some(stored) = message.stored(topic, head.epoch) else {
                        return Ok(None);
                    };
                    newest.entries.push(stored);
                }
                // A newer one comes behind the snapshot.
                Ok(_) | Err(StreamError::Missing) => {}
                Err(_) => return Ok(None),
            }
        }
        newest.entries.sort_unstable_by_key(|stored| stored.offset);
        Ok(Some(newest))
    }

    /// Whether who leads the stream has no message of any of these.
    async fn has_none(&self, filters: &[String]) -> bool {
        for filter in filters {
            let newest = self.first(&json!({ "last_by_subj": filter })).await;
            if !matches!(newest, Err(StreamError::Missing)) {
                return false;
            }
        }
        true
    }

    /// The first that was stored at this time or later.
    pub(super) async fn since(&self, time: Timestamp) -> Result<Option<u64>, ReadError> {
        let question = json!({ "start_time": rfc3339(time), "next_by_subj": ">" });
        let mut again = Again::new();
        loop {
            match self.first(&question).await {
                Ok(first) => return Ok(Some(first)),
                Err(StreamError::Missing) => return Ok(None),
                Err(_) => again.pause().await?,
            }
        }
    }

    /// One read. What has come is whole, or it has failed.
    async fn pull(&self, question: &Value, epoch: Epoch) -> Result<Pulled, AskError> {
        let subject = self.wanted.names.get_many();
        let mut asked = self.reads.place(PAGE_ITEMS + 2);
        self.reads.send(&asked, &subject, None, text(question)).await?;
        let (mut entries, mut bytes) = (Vec::new(), 0);
        // Of the message that came last; 0 before the first.
        let mut sent = 0;
        loop {
            let message = self.reads.answer(&mut asked, &subject, SILENCE).await?;
            let headers = Headers::read(message.headers.as_ref());
            let named = headers.before.and_then(|text| text.parse().ok());
            match message.status.map(|status| status.as_u16()) {
                None => {
                    let place = Place::of(headers, &self.wanted.names.stream);
                    let Some(place) = place.filter(|_| named == Some(sent)) else {
                        return Err(AskError::Silent);
                    };
                    (sent, bytes) = (place.offset, bytes + message.length);
                    let topic = self.subjects.read(&self.wanted.namespace, place.subject());
                    entries.push(place.stored(topic, &message.payload, epoch));
                }
                Some(PAGE_END) if named == Some(sent) => {
                    let up_to = headers.up_to.and_then(|text| text.parse().ok());
                    return Ok(Pulled::Page(entries, bytes, sent, up_to));
                }
                Some(TOO_MANY) => return Ok(Pulled::TooMany),
                _ if message.status == Some(StatusCode::NOT_FOUND) => return Ok(Pulled::Nothing),
                Some(status) => {
                    debug!(status, question = %question, "A read of history failed");
                    return Err(AskError::Silent);
                }
            }
        }
    }
}

/// Something that is tried again, each time after a longer pause.
struct Again {
    until: Instant,
    tries: u32,
}

impl Again {
    fn new() -> Self {
        Self { until: Instant::now() + PATIENCE, tries: 0 }
    }

    async fn pause(&mut self) -> Result<(), ReadError> {
        self.tries += 1;
        if self.tries >= TRIES_MAX || Instant::now() >= self.until {
            return Err(ReadError::Unavailable);
        }
        let most = (AGAIN_FIRST_MS << self.tries.min(16)).min(AGAIN_MOST_MS);
        sleep(Duration::from_millis(most / 2) + random_ms(most / 2 + 1)).await;
        Ok(())
    }
}

/// Takes what was read into a page, up to an Offset.
fn take(entries: Vec<Stored>, until: u64, page: &mut Page) {
    for stored in entries {
        if stored.offset > until {
            page.end = until;
            return;
        }
        page.end = stored.offset;
        page.entries.push(stored);
    }
}

fn text(question: &Value) -> Bytes {
    question.to_string().into()
}
