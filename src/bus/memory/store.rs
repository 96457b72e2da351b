//! The history of one kept Namespace, in memory.
//!
//! It promises what a stream on a server would: contiguous Offsets, limits by Topic, age and bytes,
//! a window in which an id is stored once, and an Epoch that a new history does not share.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use uuid::Uuid;

use crate::bus::history::{Head, Newest, Page, ReadError, Stored, Want};
use crate::namespace::History;
use crate::publication::{Cursor, Epoch, Publication, Timestamp};
use crate::topic::{Pattern, Topic};

/// What a stored Publication costs besides its payload, in bytes, as `max_bytes` counts it.
const ENTRY_BYTES: usize = 64;

/// A history.
pub(super) struct Store {
    rules: History,
    epoch: Epoch,
    last: u64,
    last_time: Timestamp,
    entries: BTreeMap<u64, (Timestamp, Arc<Publication>)>,
    topics: HashMap<Topic, VecDeque<u64>>,
    bytes: usize,
    /// The ids of the window, oldest first.
    window: VecDeque<(Timestamp, Box<str>)>,
    ids: HashMap<Box<str>, (u64, Timestamp)>,
}

/// What became of a Publication.
pub(super) enum Outcome {
    /// It has this place now.
    New(Stored),
    /// It has had this place before.
    Known,
}

impl Store {
    pub(super) fn new(rules: History) -> Self {
        // The last bytes of a version 7 UUID are random.
        let [.., a, b, c, d] = Uuid::now_v7().into_bytes();
        Self {
            rules,
            epoch: Epoch::new(u32::from_be_bytes([a, b, c, d])),
            last: 0,
            last_time: Timestamp(0),
            entries: BTreeMap::new(),
            topics: HashMap::new(),
            bytes: 0,
            window: VecDeque::new(),
            ids: HashMap::new(),
        }
    }

    /// Stores a Publication, unless its id is within the window.
    pub(super) fn append(&mut self, mut publication: Publication) -> (Cursor, Outcome) {
        // What was stored later is never older.
        let time = publication.time.max(self.last_time);
        self.forget_ids(time);
        if let Some((offset, time)) = self.ids.get(&publication.id) {
            return (Cursor::at(self.epoch, *offset, *time), Outcome::Known);
        }
        publication.time = time;
        self.last += 1;
        self.last_time = time;
        let (offset, id) = (self.last, publication.id.clone());
        self.window.push_back((time, id.clone()));
        self.ids.insert(id, (offset, time));
        self.bytes += cost(&publication);
        self.topics.entry(publication.topic.clone()).or_default().push_back(offset);
        let publication = Arc::new(publication);
        self.entries.insert(offset, (time, Arc::clone(&publication)));
        self.trim(time, &publication.topic);
        let stored = Stored { offset, time, publication: Some(publication) };
        (Cursor::at(self.epoch, offset, time), Outcome::New(stored))
    }

    pub(super) fn head(&mut self, now: Timestamp) -> Head {
        self.trim_old(now);
        let first = self.entries.first_key_value().map(|(offset, (time, _))| (*offset, *time));
        let (first, first_time) = first.unwrap_or((self.last + 1, self.last_time));
        Head {
            epoch: self.epoch,
            first,
            first_time,
            last: self.last,
            last_time: self.last_time,
            messages: self.rules.messages.into(),
        }
    }

    pub(super) fn read(&mut self, now: Timestamp, want: Want<'_>) -> Page {
        self.trim_old(now);
        let mut page = Page { entries: Vec::new(), end: want.until };
        let mut bytes = 0;
        for offset in self.offsets(&want) {
            let Some((time, publication)) = self.entries.get(&offset) else {
                continue;
            };
            bytes += publication.payload.len();
            let full = page.entries.len() >= want.items || bytes > want.bytes;
            // One behind the first Offset comes in any case: a reader that begins where it stands, to
            // see that it is still the same, would else never come further.
            let further = |last: &&Stored| last.offset > want.from;
            if let Some(last) = page.entries.last().filter(further).filter(|_| full) {
                page.end = last.offset;
                break;
            }
            page.entries.push(stored(offset, *time, publication));
        }
        page
    }

    /// What is wanted, by rising Offset. Names are looked up, so that a Topic of a few among a million
    /// costs those few.
    fn offsets<'a>(&'a self, want: &'a Want<'_>) -> Box<dyn Iterator<Item = u64> + 'a> {
        let within = want.from..=want.until;
        if within.is_empty() {
            return Box::new(std::iter::empty());
        }
        if want.patterns.is_empty() || want.patterns.iter().any(Pattern::is_wild) {
            let range = self.entries.range(within.clone());
            let wanted = range.filter(|(_, (_, one))| matches(want.patterns, &one.topic));
            return Box::new(wanted.map(|(offset, _)| *offset));
        }
        let mut offsets: Vec<u64> = want
            .patterns
            .iter()
            .filter_map(|name| self.topics.get(name.as_str()))
            .flat_map(|all| all.range(all.partition_point(|offset| *offset < want.from)..))
            .copied()
            .filter(|offset| within.contains(offset))
            .collect();
        offsets.sort_unstable();
        Box::new(offsets.into_iter())
    }

    pub(super) fn newest(
        &mut self,
        now: Timestamp,
        patterns: &[Pattern],
        topics_max: usize,
    ) -> Result<Newest, ReadError> {
        self.trim_old(now);
        let mut offsets: Vec<u64> = match patterns {
            // A name is looked up, also among a million.
            names if names.iter().all(|one| !one.is_wild()) => names
                .iter()
                .filter_map(|name| self.topics.get(name.as_str())?.back().copied())
                .collect(),
            _ => self
                .topics
                .iter()
                .filter(|(topic, _)| matches(patterns, topic))
                .filter_map(|(_, offsets)| offsets.back().copied())
                .take(topics_max + 1)
                .collect(),
        };
        offsets.sort_unstable();
        offsets.dedup();
        if offsets.len() > topics_max {
            return Err(ReadError::TooManyTopics);
        }
        let entry = |offset| {
            let (time, publication) = self.entries.get(&offset)?;
            Some(stored(offset, *time, publication))
        };
        Ok(Newest { entries: offsets.into_iter().filter_map(entry).collect(), as_of: self.last })
    }

    pub(super) fn since(&mut self, now: Timestamp, time: Timestamp) -> Option<u64> {
        self.trim_old(now);
        self.entries.iter().find(|(_, (stored, _))| *stored >= time).map(|(offset, _)| *offset)
    }

    fn forget_ids(&mut self, now: Timestamp) {
        let window = self.rules.duplicate_window().as_millis();
        while let Some((_, id)) = self
            .window
            .pop_front_if(|(stored, _)| u128::from(now.0.saturating_sub(stored.0)) >= window)
        {
            self.ids.remove(&id);
        }
    }

    /// Takes out what is over a bound after this Topic got one more.
    fn trim(&mut self, now: Timestamp, topic: &Topic) {
        // One more than promised, so that a client one Publication behind the bound has missed none.
        let most = self.rules.messages as usize + 1;
        while let Some(oldest) = self
            .topics
            .get(topic)
            .filter(|offsets| offsets.len() > most)
            .and_then(|offsets| offsets.front().copied())
        {
            self.remove(oldest);
        }
        while self.bytes > self.rules.max_bytes && self.entries.len() > 1 {
            let Some(oldest) = self.entries.keys().next().copied() else {
                break;
            };
            self.remove(oldest);
        }
        self.trim_old(now);
    }

    fn trim_old(&mut self, now: Timestamp) {
        let age = self.rules.age.as_millis();
        while let Some((oldest, (stored, _))) = self.entries.first_key_value()
            && u128::from(now.0.saturating_sub(stored.0)) >= age
        {
            let oldest = *oldest;
            self.remove(oldest);
        }
    }

    fn remove(&mut self, offset: u64) {
        let Some((_, publication)) = self.entries.remove(&offset) else {
            return;
        };
        self.bytes -= cost(&publication);
        if let Some(offsets) = self.topics.get_mut(&publication.topic) {
            // Whatever takes one out takes the oldest of its Topic.
            let oldest = offsets.pop_front();
            assert!(oldest == Some(offset), "what leaves is the oldest of its Topic");
            if offsets.is_empty() {
                self.topics.remove(&publication.topic);
            }
        }
    }
}

fn stored(offset: u64, time: Timestamp, publication: &Arc<Publication>) -> Stored {
    Stored { offset, time, publication: Some(Arc::clone(publication)) }
}

fn matches(patterns: &[Pattern], topic: &Topic) -> bool {
    patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(topic))
}

fn cost(publication: &Publication) -> usize {
    ENTRY_BYTES + publication.topic.as_str().len() + publication.payload.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(topic: &str, n: u64) -> Publication {
        Publication {
            topic: Topic::parse(topic).unwrap(),
            id: n.to_string().into(),
            time: Timestamp(n),
            user: None,
            payload: vec![b'x'; 1_000].into(),
            trace: None,
        }
    }

    /// Names that are looked up bring what a search of everything brings.
    #[test]
    fn names_are_read_as_patterns_are() {
        let mut store = Store::new(History { messages: 3, ..History::default() });
        for (n, topic) in (0..40).zip(["a.b", "a.c", "a.d"].into_iter().cycle()) {
            store.append(publication(topic, n));
        }
        let parse = |texts: &[&str]| -> Vec<Pattern> {
            texts.iter().map(|text| Pattern::parse(text).unwrap()).collect()
        };
        // One with a wildcard that matches nothing else makes it search everything.
        let (names, all) = (parse(&["a.b", "a.d"]), parse(&["a.b", "a.d", "a.x.*"]));
        for from in 1..42 {
            let mut read = |patterns: &[Pattern]| {
                let want = Want { from, until: 38, patterns, items: 4, bytes: 1 << 20 };
                store.read(Timestamp(40), want)
            };
            assert_eq!(read(&names), read(&all), "{from}");
        }
    }

    /// However little a page may hold, each brings a reader further, to the end.
    #[test]
    fn every_page_brings_its_reader_further() {
        let mut store = Store::new(History::default());
        for n in 0..5 {
            store.append(publication("a.b", n));
        }
        let (mut from, mut seen) = (1, Vec::new());
        while from < 5 {
            let want = Want { from, until: 5, patterns: &[], items: 1, bytes: 1 };
            let page = store.read(Timestamp(5), want);
            assert!(page.end > from);
            seen.extend(page.entries.iter().map(|stored| stored.offset));
            from = page.end;
        }
        seen.dedup();
        assert_eq!(seen, [1, 2, 3, 4, 5]);
    }
}
