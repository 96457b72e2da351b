//! Reading history for those who come from further back than the ring reaches.
//!
//! A Feed reads one thing at a time. Whoever waits meanwhile shares the next read: a herd that
//! returns costs one pass over what it missed, dealt out by Topic, and not one pass each. A read that
//! fails says so; nothing here decides what that means.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;

use futures_util::{future::maybe_done, poll};

use super::attach::{Attach, Bounds};
use super::ring::Entry;
use super::{Page, PageError, Wanted};
use crate::bus::Bus;
use crate::bus::history::{self, Head, Newest, ReadError, Stored, Want};
use crate::protocol::{Envelope, From};
use crate::publication::{Cursor, Epoch, Timestamp};
use crate::topic::{Pattern, Topic};

/// What one page of history may bring.
pub(super) const PAGE_ITEMS: usize = 4_096;
pub(super) const PAGE_BYTES: usize = 2 << 20;
/// Snapshots that are read for one page, as long as whoever answers lags behind.
const SNAPSHOT_TRIES: usize = 4;

/// A Bus, and the history on it that is read.
#[derive(Clone)]
pub(super) struct Reader<B> {
    pub(super) bus: B,
    pub(super) namespace: Arc<str>,
    pub(super) epoch: Epoch,
    pub(super) bounds: Bounds,
    pub(super) topics_max: usize,
}

/// What attaches got from a read.
pub(super) struct Dealt {
    pub(super) epoch: Epoch,
    /// Those that have all up to the end of what was read.
    pub(super) done: Vec<Attach>,
    /// Those whose part was full before.
    pub(super) stopped: Vec<Attach>,
    /// Those whose Cursor does not fit what is stored in its place.
    pub(super) foreign: Vec<Attach>,
    /// How history stood afterwards, if all could be read.
    pub(super) proven: Result<Head, ReadError>,
}

impl<B: Bus> Reader<B> {
    /// Reads everything up to `until` that these attaches miss. With `topics` it reads theirs alone.
    pub(super) async fn deal(self, attaches: Vec<Attach>, until: u64, topics: &[Pattern]) -> Dealt {
        let mut hands = Hands::new(attaches, self.epoch, self.bounds);
        let read = self.read_all(&mut hands, until, topics).await;
        let proven = match read {
            Ok(()) => self.bus.head(&self.namespace).await,
            Err(why) => Err(why),
        };
        hands.lay_down(until, proven)
    }

    async fn read_all(
        &self,
        hands: &mut Hands,
        until: u64,
        topics: &[Pattern],
    ) -> Result<(), ReadError> {
        // What stands at a Cursor's own Offset is read as well: it must be what was seen there.
        let mut from = hands.lowest().unwrap_or(until).max(1);
        let mut coming = pin!(maybe_done(self.some_of(from, until, topics)));
        let mut is_long = false;
        while from <= until && hands.want_more() {
            coming.as_mut().await;
            let page = coming.as_mut().take_output().unwrap_or(Err(ReadError::Unavailable))?;
            from = page.end.max(from) + 1;
            coming.set(maybe_done(self.some_of(from, until, topics)));
            if is_long && from <= until {
                // The next page is on its way while this one is dealt out.
                let _ = poll!(coming.as_mut());
            }
            for stored in page.entries {
                hands.deal(&Entry::new(stored));
            }
            is_long = true;
        }
        Ok(())
    }

    /// The first page of a part.
    async fn some_of(
        &self,
        from: u64,
        until: u64,
        patterns: &[Pattern],
    ) -> Result<history::Page, ReadError> {
        let want = Want { from, until, patterns, items: PAGE_ITEMS, bytes: PAGE_BYTES };
        self.bus.read(&self.namespace, want).await
    }

    /// The newest of each Topic.
    pub(super) async fn newest(&self, patterns: &[Pattern]) -> Result<Newest, ReadError> {
        self.bus.newest(&self.namespace, patterns, self.topics_max).await
    }

    /// The Offset below the first that was stored at this time or later, whether something older than
    /// the oldest that is left may have been stored since then, and how history stood afterwards.
    pub(super) async fn below_time(&self, time: Timestamp) -> Result<(u64, bool, Head), ReadError> {
        let head = self.bus.head(&self.namespace).await?;
        let first = self.bus.since(&self.namespace, time).await?;
        let after = first.map_or(head.last, |offset| offset - 1);
        let head = self.bus.head(&self.namespace).await?;
        Ok((after, head.first > 1 && head.first_time > time, head))
    }

    /// The Offset below the n-th newest of a Topic; the head, if it has none.
    pub(super) async fn below_newest(&self, pattern: &Pattern, n: usize) -> Result<u64, ReadError> {
        let (until, newest) = self.last(pattern, n).await?;
        Ok(newest.front().map_or(until, |oldest| oldest.offset - 1))
    }

    /// The last n of a Topic, up to an Offset.
    async fn last(
        &self,
        pattern: &Pattern,
        n: usize,
    ) -> Result<(u64, VecDeque<Stored>), ReadError> {
        let until = self.bus.head(&self.namespace).await?.last;
        let patterns = std::slice::from_ref(pattern);
        let (mut from, mut last) = (1, VecDeque::new());
        while from <= until {
            let want = Want { from, until, patterns, items: PAGE_ITEMS, bytes: PAGE_BYTES };
            let page = self.bus.read(&self.namespace, want).await?;
            for stored in page.entries {
                last.push_back(stored);
                if last.len() > n {
                    last.pop_front();
                }
            }
            from = page.end.max(from) + 1;
        }
        Ok((until, last))
    }

    /// One page, for whoever asks without subscribing.
    pub(super) async fn page(&self, wanted: &Wanted) -> Result<Page, PageError> {
        match wanted {
            Wanted::History { topic, from, limit } => {
                self.history(&Pattern::from(topic), from.as_ref(), *limit).await
            }
            Wanted::Snapshot { pattern, above } => self.snapshot(pattern, *above).await,
        }
    }

    async fn history(
        &self,
        pattern: &Pattern,
        from: Option<&From>,
        limit: usize,
    ) -> Result<Page, PageError> {
        let head = self.own_head().await?;
        let after = match from {
            None | Some(From::Live | From::Last) => 0,
            Some(From::Cursor(cursors)) => self.own(cursors)?.offset,
            Some(From::LastN(n)) => self.below_newest(pattern, usize::from(*n)).await?,
            Some(From::Since(time)) => self.below_time(*time).await?.0,
        };
        let (mut from, until) = (after + 1, head.last);
        let mut page = Filling::new(self, limit);
        while from <= until && !page.full {
            let patterns = std::slice::from_ref(pattern);
            let want = Want { from, until, patterns, items: limit + 1, bytes: PAGE_BYTES };
            let read = self.bus.read(&self.namespace, want).await?;
            page.fill(read.entries);
            from = read.end.max(from) + 1;
        }
        Ok(page.finish(Cursor::at(self.epoch, until, head.last_time)))
    }

    async fn snapshot(&self, pattern: &Pattern, above: Option<Cursor>) -> Result<Page, PageError> {
        let above = match above {
            Some(cursor) => self.own(&[cursor])?.offset,
            None => 0,
        };
        for _ in 0..SNAPSHOT_TRIES {
            let head = self.own_head().await?;
            let newest = self.newest(std::slice::from_ref(pattern)).await?;
            if newest.as_of < head.last {
                // Whoever answered lags behind: what changed since is on no page.
                continue;
            }
            let mut page = Filling::new(self, self.bounds.items);
            page.fill(values(newest.entries, above).collect());
            let cursor = match newest.as_of == head.last {
                true => Cursor::at(self.epoch, head.last, head.last_time),
                false => Cursor { epoch: self.epoch, offset: newest.as_of, check: None },
            };
            return Ok(page.finish(cursor));
        }
        Err(PageError::BusUnavailable)
    }

    /// Where this history stands. If another one is in its place, the Feed will notice soon.
    async fn own_head(&self) -> Result<Head, PageError> {
        let head = self.bus.head(&self.namespace).await?;
        if head.epoch == self.epoch { Ok(head) } else { Err(PageError::BusUnavailable) }
    }

    /// The Cursor that is of this history.
    fn own(&self, cursors: &[Cursor]) -> Result<Cursor, PageError> {
        let own = cursors.iter().find(|cursor| cursor.epoch == self.epoch);
        own.copied().ok_or(PageError::ForeignCursor)
    }
}

/// What a part of a snapshot shows above an Offset: in the first part only what is there; in later
/// ones also what has gone since.
pub(super) fn values(newest: Vec<Stored>, above: u64) -> impl Iterator<Item = Stored> {
    newest.into_iter().filter(move |stored| {
        let gone = stored.publication.as_ref().is_none_or(|one| one.is_tombstone());
        stored.offset > above && (above > 0 || !gone)
    })
}

impl std::convert::From<ReadError> for PageError {
    fn from(why: ReadError) -> Self {
        match why {
            ReadError::Unavailable => Self::BusUnavailable,
            ReadError::TooManyTopics => Self::TooManyTopics,
        }
    }
}

/// A page that fills up.
struct Filling {
    epoch: Epoch,
    limit: usize,
    bytes_left: usize,
    envelopes: Vec<Arc<Envelope>>,
    last: Option<Cursor>,
    full: bool,
}

impl Filling {
    fn new<B>(reader: &Reader<B>, limit: usize) -> Self {
        Self {
            epoch: reader.epoch,
            limit,
            bytes_left: reader.bounds.bytes,
            envelopes: Vec::new(),
            last: None,
            full: false,
        }
    }

    fn fill(&mut self, entries: Vec<Stored>) {
        for entry in entries.into_iter().map(Entry::new) {
            let Some(envelope) = entry.envelope(self.epoch) else {
                continue;
            };
            let left = self.bytes_left.checked_sub(envelope.text().len());
            if !self.envelopes.is_empty() && (left.is_none() || self.envelopes.len() >= self.limit)
            {
                self.full = true;
                return;
            }
            self.bytes_left = left.unwrap_or(0);
            self.last = Some(entry.cursor(self.epoch));
            self.envelopes.push(Arc::clone(envelope));
        }
    }

    fn finish(self, cursor: Cursor) -> Page {
        let next = self.last.filter(|_| self.full);
        Page { envelopes: self.envelopes, cursor, next }
    }
}

/// Attaches that a read is dealt out to.
struct Hands {
    epoch: Epoch,
    bounds: Bounds,
    attaches: Vec<Hand>,
    /// Who wants a Topic.
    wanted: HashMap<Topic, Vec<usize>>,
    /// Whose Cursor stands at an Offset.
    checks: HashMap<u64, Vec<usize>>,
}

struct Hand {
    attach: Attach,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    Open,
    Stopped,
    Foreign,
}

impl Hands {
    fn new(attaches: Vec<Attach>, epoch: Epoch, bounds: Bounds) -> Self {
        let mut checks: HashMap<u64, Vec<usize>> = HashMap::new();
        for (at, attach) in attaches.iter().enumerate() {
            if let Some(check) = attach.check {
                checks.entry(check.offset).or_default().push(at);
            }
        }
        let open = |attach| Hand { attach, state: State::Open };
        let attaches = attaches.into_iter().map(open).collect();
        Self { epoch, bounds, attaches, wanted: HashMap::new(), checks }
    }

    fn lowest(&self) -> Option<u64> {
        self.attaches.iter().map(|hand| hand.attach.after).min()
    }

    fn want_more(&self) -> bool {
        self.attaches.iter().any(|hand| hand.state == State::Open)
    }

    fn deal(&mut self, entry: &Entry) {
        for at in self.checks.remove(&entry.offset()).into_iter().flatten() {
            if let Some(hand) = self.attaches.get_mut(at) {
                let fits = hand.attach.check.take().is_none_or(|one| one.fits(entry.stored.time));
                if !fits {
                    hand.state = State::Foreign;
                }
            }
        }
        let Some(topic) = entry.topic() else {
            return;
        };
        if !self.wanted.contains_key(topic) {
            let wants = |(_, hand): &(usize, &Hand)| hand.attach.wants(topic);
            let who = self.attaches.iter().enumerate().filter(wants).map(|(at, _)| at).collect();
            self.wanted.insert(topic.clone(), who);
        }
        for at in self.wanted.get(topic).into_iter().flatten() {
            if let Some(hand) = self.attaches.get_mut(*at)
                && hand.state == State::Open
                && hand.attach.after < entry.offset()
                && !hand.attach.take(entry, self.epoch, self.bounds)
            {
                hand.state = State::Stopped;
            }
        }
    }

    fn lay_down(self, until: u64, proven: Result<Head, ReadError>) -> Dealt {
        let (mut done, mut stopped, mut foreign) = (Vec::new(), Vec::new(), Vec::new());
        for Hand { mut attach, state } in self.attaches {
            match state {
                State::Open if proven.is_ok() => {
                    attach.after = attach.after.max(until);
                    done.push(attach);
                }
                State::Open => done.push(attach),
                State::Stopped => stopped.push(attach),
                State::Foreign => foreign.push(attach),
            }
        }
        Dealt { epoch: self.epoch, done, stopped, foreign, proven }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::memory::Memory;
    use crate::feed::lagging::Lagging;
    use crate::namespace::History;
    use crate::publication::Publication;

    /// What has a 2xx stands in a snapshot that is asked for afterwards, also if whoever answers does
    /// not know of it at first; and a Reader of another history than the one that is there has none.
    #[tokio::test]
    async fn a_snapshot_is_no_older_than_its_question() {
        let rules = History::default();
        let bus = Memory::new([("dash", &rules)], || Timestamp(7));
        let topic = Topic::parse("dash.a").unwrap();
        let draft = |id: &str| Publication {
            topic: topic.clone(),
            id: id.into(),
            time: Timestamp(7),
            user: None,
            payload: "1".into(),
            trace: None,
        };
        let patterns = [Pattern::from(&topic)];
        bus.publish(draft("1")).await.unwrap();
        let old = bus.newest("dash", &patterns, 9).await.unwrap();
        bus.publish(draft("2")).await.unwrap();
        let epoch = bus.head("dash").await.unwrap().epoch;
        let reader = |epoch, tries| Reader {
            bus: Lagging::told_of_old(bus.clone(), vec![old.clone(); tries]),
            namespace: "dash".into(),
            epoch,
            bounds: Bounds { items: 9, bytes: 9_999 },
            topics_max: 9,
        };
        let wanted = Wanted::Snapshot { pattern: patterns[0].clone(), above: None };
        let page = reader(epoch, SNAPSHOT_TRIES - 1).page(&wanted).await.unwrap();
        assert_eq!(page.envelopes[0].cursor(), Some(Cursor::at(epoch, 2, Timestamp(7))));
        assert_eq!(page.cursor, Cursor::at(epoch, 2, Timestamp(7)));
        let lags = reader(epoch, SNAPSHOT_TRIES).page(&wanted).await;
        assert_eq!(lags.unwrap_err(), PageError::BusUnavailable);
        let other = reader(Epoch::new(epoch.bits() ^ 1), 0);
        assert_eq!(other.page(&wanted).await.unwrap_err(), PageError::BusUnavailable);
        let wanted = Wanted::History { topic, from: None, limit: 9 };
        assert_eq!(other.page(&wanted).await.unwrap_err(), PageError::BusUnavailable);
    }
}
