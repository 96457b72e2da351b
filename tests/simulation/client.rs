//! A client as our SDK would be: its Subscriptions outlive its Connections.
//!
//! It keeps a log of all that each Subscription got, and says at once what no client should ever see:
//! something twice, something out of order, something that nobody asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidegate::auth::{Claims, Verb};
use tidegate::protocol::{Code, Envelope, From, GapReason, Limit, Push, Reply};
use tidegate::publication::{Cursor, Epoch};
use tidegate::topic::{Pattern, Topic};
use tokio::time::Instant;

use crate::bus::World;
use crate::shard::Frame;
use crate::truth::Entry;

/// What a Subscription got.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Got {
    /// A Publication, by its number; whether it was live, and when.
    Had { number: usize, live: bool, at: Instant },
    /// It was told that something is missing: here, or in all of the replay that is under way.
    Told { replaying: bool },
    /// It was told that the history is another one, just now.
    Rewritten { at: Instant },
    /// It was answered: a replay begins.
    Begun,
    /// Something may be missing here that nobody can see.
    Unseen,
    /// It was live on another Connection from here on.
    Joined,
}

/// One Subscription, over all Connections.
pub(crate) struct Subscription {
    pub(crate) pattern: Pattern,
    pub(crate) from: From,
    pub(crate) log: Vec<Got>,
    had: BTreeSet<(u32, u64, Option<u16>)>,
    /// Of that, what came on the newest Connection that has it.
    had_here: BTreeSet<(u32, u64, Option<u16>)>,
    numbers: BTreeSet<usize>,
    pub(crate) cursor: Option<Cursor>,
    last: Option<(Epoch, u64)>,
    /// The number of the first Publication that it is owed.
    pub(crate) owed_from: Option<usize>,
    /// Of `last`: the newest value of each Topic when it was asked for.
    pub(crate) values: Vec<usize>,
    /// How often histories had been rewritten then.
    pub(crate) asked_in: u32,
    /// How much had been published when it joined last.
    pub(crate) joined_at: usize,
    pub(crate) asked_at: Option<Instant>,
    /// It is not wanted any more, or not allowed.
    pub(crate) ended: bool,
    /// The node has as many Feeds as it may have.
    pub(crate) found_no_room: bool,
    /// It was told that its history is another one, and has got nothing since.
    outdated: bool,
    /// It has said that it does not want it any more.
    pub(crate) leaves: bool,
    /// When to ask again after an error.
    pub(crate) retry_at: Option<Instant>,
    /// On which nodes it was live, and since when; until when, if it is not any more.
    pub(crate) stays: Vec<(usize, Instant, Option<Instant>)>,
}

/// How a Subscription stands on one Connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    Asked,
    Replaying,
    Live,
    /// A newer Connection has it.
    Over,
}

/// One Connection, from its client's side.
pub(crate) struct Line {
    pub(crate) node: usize,
    pub(crate) shard: usize,
    pub(crate) key: u64,
    views: BTreeMap<usize, View>,
    block: Option<Block>,
    last_live: BTreeMap<Box<str>, (Epoch, u64)>,
    connected: bool,
    /// When its node wants it elsewhere.
    pub(crate) leaves: Option<Instant>,
    /// Those that came over from an older Connection, which may have brought the same.
    moved: BTreeSet<usize>,
    /// What came on best effort. On another Connection it may come again.
    had: BTreeSet<(usize, usize)>,
    /// There the order is that of a Topic.
    latest: BTreeMap<(usize, Topic), usize>,
}

/// The next Publications are those of one Subscription alone.
struct Block {
    subscription: usize,
    left: u32,
    more: bool,
    cursor: Option<Cursor>,
}

pub(crate) struct Client {
    pub(crate) subscriptions: Vec<Subscription>,
    /// Of two the newer one comes last.
    pub(crate) lines: Vec<Line>,
    pub(crate) claims: Arc<Claims>,
    /// When it comes back; none: it is here.
    pub(crate) away_until: Option<Instant>,
    pub(crate) stalled_until: Option<Instant>,
    /// Whether it forgets what it has had.
    pub(crate) forgetful: bool,
    /// What its next Token says.
    pub(crate) renews: Option<Arc<Claims>>,
    /// Its histories were rewritten while it moved; it begins again.
    pub(crate) lost_its_way: bool,
}

type Verdict = Result<(), String>;

impl Subscription {
    pub(crate) const fn new(pattern: Pattern, from: From) -> Self {
        Self {
            pattern,
            from,
            log: Vec::new(),
            had: BTreeSet::new(),
            had_here: BTreeSet::new(),
            numbers: BTreeSet::new(),
            cursor: None,
            last: None,
            owed_from: None,
            values: Vec::new(),
            asked_in: 0,
            joined_at: 0,
            asked_at: None,
            ended: false,
            found_no_room: false,
            leaves: false,
            outdated: false,
            retry_at: None,
            stays: Vec::new(),
        }
    }

    /// Where it goes on.
    pub(crate) fn begins(&mut self) -> From {
        match self.cursor {
            Some(cursor) => From::Cursor([cursor].into()),
            None => self.from.clone(),
        }
    }

    pub(crate) fn has(&self, number: usize) -> bool {
        self.numbers.contains(&number)
    }

    fn has_had(&self, cursor: Cursor) -> bool {
        self.last.is_some_and(|(epoch, offset)| epoch == cursor.epoch && cursor.offset <= offset)
    }

    /// Drops what it has had on another Connection. If that was something else, of a history written
    /// anew meanwhile, it cannot know.
    fn drop_had(&mut self, cursor: Cursor) {
        if !self.had.contains(&(cursor.epoch.bits(), cursor.offset, cursor.check)) {
            self.log.push(Got::Unseen);
        }
    }

    /// Whether something else stands now where it stands: its history has lost its end, and nobody
    /// said so.
    fn hears(&mut self, cursor: Cursor) -> bool {
        let here = |had: &Cursor| (had.epoch, had.offset) == (cursor.epoch, cursor.offset);
        let had = self.cursor.filter(|_| !self.outdated).filter(here);
        let checks = (had.and_then(|had| had.check), cursor.check);
        let other = matches!(checks, (Some(had), Some(check)) if had != check);
        if other {
            self.told(GapReason::EpochChanged, false);
        }
        other
    }

    fn take(&mut self, number: usize, envelope: &Envelope, live: bool) -> Verdict {
        let cursor = envelope.cursor();
        let at = Instant::now();
        if let Some(cursor) = cursor {
            if self.has_had(cursor) {
                let why = format!("I3: {} got {cursor} behind {:?}", self.pattern, self.last);
                return Err(why);
            }
            if !self.had.insert((cursor.epoch.bits(), cursor.offset, cursor.check)) {
                return Err(format!("I2: {} got {cursor} twice", self.pattern));
            }
            self.had_here.insert((cursor.epoch.bits(), cursor.offset, cursor.check));
            self.go_to(cursor);
        } else {
            if self.numbers.contains(&number) {
                return Err(format!("I2: {} got number {number} twice", self.pattern));
            }
        }
        self.numbers.insert(number);
        self.log.push(Got::Had { number, live, at });
        Ok(())
    }

    fn told(&mut self, why: GapReason, replaying: bool) {
        self.log.push(Got::Told { replaying });
        if why == GapReason::EpochChanged {
            self.log.push(Got::Rewritten { at: Instant::now() });
            self.last = None;
            self.outdated = true;
            // Another node has had it from this history's beginning, too.
            self.had.clone_from(&self.had_here);
        }
    }

    /// It has all up to here.
    fn reach(&mut self, cursor: Cursor) {
        if !self.has_had(cursor) {
            self.go_to(cursor);
        }
    }

    fn go_to(&mut self, cursor: Cursor) {
        self.last = Some((cursor.epoch, cursor.offset));
        self.cursor = Some(cursor);
        self.outdated = false;
    }

    /// Whether it was live, when this was published or later, on a node to which no copy of it came.
    pub(crate) fn was_where_it_missed(&self, entry: &Entry) -> bool {
        self.stays.iter().any(|(node, _, until)| {
            entry.came_to & 1 << node == 0 && until.is_none_or(|until| until >= entry.at)
        })
    }

    /// It is not live on this node any more.
    fn leave(&mut self, node: usize) {
        if let Some(stay) = self.stays.iter_mut().rfind(|stay| stay.0 == node && stay.2.is_none()) {
            stay.2 = Some(Instant::now());
        }
    }

    /// A Connection has it no more. A newer one may have it on the same node.
    fn leave_by(&mut self, node: usize, view: View) {
        if view != View::Over {
            self.leave(node);
        }
    }
}

impl Line {
    pub(crate) const fn new(node: usize, shard: usize, key: u64) -> Self {
        Self {
            node,
            shard,
            key,
            views: BTreeMap::new(),
            block: None,
            last_live: BTreeMap::new(),
            connected: false,
            leaves: None,
            moved: BTreeSet::new(),
            had: BTreeSet::new(),
            latest: BTreeMap::new(),
        }
    }

    pub(crate) fn ask(&mut self, subscription: usize, moves: bool) {
        self.views.insert(subscription, View::Asked);
        if moves {
            self.moved.insert(subscription);
        }
    }

    pub(crate) fn knows(&self, subscription: usize) -> bool {
        self.views.get(&subscription).is_some_and(|view| *view != View::Over)
    }

    pub(crate) fn is_live(&self, subscription: usize) -> bool {
        self.views.get(&subscription) == Some(&View::Live)
    }

    /// Whether everything asked for is live.
    pub(crate) fn is_calm(&self) -> bool {
        self.connected && self.views.values().all(|view| *view == View::Live)
    }

    /// Whether its time to leave has come, and it can.
    pub(crate) fn has_to_leave(&self, now: Instant) -> bool {
        self.leaves.is_some_and(|at| at <= now) && self.has_settled()
    }

    /// Whether everything asked for has been answered.
    pub(crate) fn has_settled(&self) -> bool {
        self.connected && self.views.values().all(|view| *view != View::Asked)
    }
}

/// The number of a Publication.
fn number(envelope: &Envelope) -> usize {
    let text = std::str::from_utf8(envelope.text()).unwrap();
    let (_, id) = text.split_once(r#""id":""#).unwrap();
    id.split_once('"').unwrap().0.parse().unwrap()
}

impl Client {
    pub(crate) fn new(claims: Arc<Claims>, forgetful: bool) -> Self {
        Self {
            subscriptions: Vec::new(),
            lines: Vec::new(),
            claims,
            away_until: None,
            stalled_until: None,
            forgetful,
            renews: None,
            lost_its_way: false,
        }
    }

    /// A Connection is gone.
    pub(crate) fn lose(&mut self, at: usize) {
        let line = self.lines.remove(at);
        for (index, view) in line.views {
            self.subscriptions[index].leave_by(line.node, view);
        }
    }

    /// Reads one Frame of one of its Connections.
    pub(crate) fn read(&mut self, at: usize, frame: Frame, world: &mut World) -> Verdict {
        let number = match &frame {
            Frame::Publication(envelope) => number(envelope),
            Frame::Reply(_) | Frame::Push(_) => 0,
        };
        if let Frame::Publication(envelope) = &frame {
            let (topic, entry) = (envelope.topic(), world.truth.get(number));
            if entry.topic != *topic {
                return Err(format!("{topic} came with what was published on {}", entry.topic));
            }
        }
        if let Some(mut block) = self.lines[at].block.take() {
            let Frame::Publication(envelope) = frame else {
                return Err(format!("{frame:?} came within a replay"));
            };
            let index = block.subscription;
            if !self.subscriptions[index].pattern.matches(envelope.topic()) {
                let pattern = &self.subscriptions[index].pattern;
                return Err(format!("{} came within the replay of {pattern}", envelope.topic()));
            }
            self.replayed(at, index, number, &envelope)?;
            block.left -= 1;
            self.go_on(at, block, world);
            return Ok(());
        }
        match frame {
            Frame::Publication(envelope) => self.live(at, number, &envelope),
            Frame::Reply(reply) => self.reply(at, reply, world),
            Frame::Push(push) => self.push(at, push, world),
        }
    }

    fn replayed(&mut self, at: usize, index: usize, number: usize, envelope: &Envelope) -> Verdict {
        if self.lines[at].views.get(&index).is_none_or(|view| *view == View::Over) {
            return Ok(());
        }
        let moved = self.lines[at].moved.contains(&index);
        let subscription = &mut self.subscriptions[index];
        let Some(cursor) = envelope.cursor() else {
            return Err("best effort replays nothing".to_owned());
        };
        self.lost_its_way |= subscription.hears(cursor) && self.lines.len() > 1;
        if moved && !self.forgetful && subscription.has_had(cursor) {
            subscription.drop_had(cursor);
            return Ok(());
        }
        subscription.take(number, envelope, false)
    }

    /// Behind a Publication of a replay, or its head.
    fn go_on(&mut self, at: usize, block: Block, world: &mut World) {
        let line = &mut self.lines[at];
        if block.left > 0 {
            line.block = Some(block);
            return;
        }
        let (index, node) = (block.subscription, line.node);
        if line.views.get(&index).is_none_or(|view| *view == View::Over) {
            return;
        }
        let subscription = &mut self.subscriptions[index];
        if let Some(cursor) = block.cursor {
            subscription.reach(cursor);
        }
        if block.more {
            return;
        }
        line.views.insert(index, View::Live);
        subscription.stays.push((node, Instant::now(), None));
        subscription.log.push(Got::Joined);
        subscription.joined_at = world.truth.log.len();
        if subscription.owed_from.is_none() {
            // Of `last` and the last n nothing is sure but what came after they were there: retention
            // takes from them meanwhile.
            subscription.owed_from = Some(world.truth.log.len());
            let rewritten = subscription.asked_in != world.truth.rewrites;
            let values = std::mem::take(&mut subscription.values);
            subscription.values = values
                .into_iter()
                .filter(|_| !rewritten)
                .filter(|number| {
                    let topic = world.truth.get(*number).topic.clone();
                    let newest = world.newest(&topic).filter(|newest| newest >= number);
                    newest.is_some_and(|newest| !world.truth.get(newest).tombstone)
                })
                .collect();
        }
    }

    fn live(&mut self, at: usize, number: usize, envelope: &Envelope) -> Verdict {
        let (cursor, topic) = (envelope.cursor(), envelope.topic());
        if !self.claims.grants.covers(Verb::Subscribe, &Pattern::from(topic)) {
            return Err(format!("I5: {topic} came to who may not read it"));
        }
        let line = &mut self.lines[at];
        if let Some(cursor) = cursor {
            let new = (cursor.epoch, cursor.offset);
            let last = line.last_live.insert(topic.namespace().into(), new);
            if last.is_some_and(|last| last.0 == new.0 && last.1 >= new.1) {
                return Err(format!("I3: {cursor} came live behind {last:?}"));
            }
        }
        let (mut wanted, mut heard) = (false, false);
        for (index, view) in &line.views {
            let subscription = &mut self.subscriptions[*index];
            if *view != View::Live || !subscription.pattern.matches(topic) {
                continue;
            }
            wanted = true;
            let had = match cursor {
                Some(cursor) => {
                    heard |= subscription.hears(cursor);
                    subscription.has_had(cursor)
                }
                None => {
                    let last = line.latest.insert((*index, topic.clone()), number);
                    if let Some(last) = last.filter(|last| *last > number) {
                        return Err(format!("I3: {topic} brought number {number} behind {last}"));
                    }
                    let here = !line.had.insert((*index, number));
                    !here && subscription.numbers.contains(&number)
                }
            };
            if !had || self.forgetful {
                subscription.take(number, envelope, true)?;
            } else if let Some(cursor) = cursor.filter(|_| line.moved.contains(index)) {
                subscription.drop_had(cursor);
            }
        }
        self.lost_its_way |= heard && self.lines.len() > 1;
        if wanted || self.lines.len() > 1 {
            return Ok(());
        }
        Err(format!("{topic} came live, and nobody wants it"))
    }

    fn find(&self, at: usize, topic: &Pattern) -> Result<usize, String> {
        let mut known = self.lines[at].views.keys().copied();
        let found = known.find(|index| self.subscriptions[*index].pattern == *topic);
        found.ok_or_else(|| format!("{topic} is answered, and nobody asked"))
    }

    fn reply(&mut self, at: usize, reply: Reply, world: &mut World) -> Verdict {
        match reply {
            Reply::Connected { .. } => self.lines[at].connected = true,
            Reply::Subscribed { topic, cursor, reason, replayed, more, .. } => {
                let index = self.find(at, &topic)?;
                if self.lines[at].views.insert(index, View::Replaying) != Some(View::Asked) {
                    return Err(format!("{topic} is answered twice"));
                }
                // From here on it is this Connection's.
                for older in 0..at {
                    let node = self.lines[older].node;
                    self.subscriptions[index].leave(node);
                    if let Some(view) = self.lines[older].views.get_mut(&index) {
                        *view = View::Over;
                    }
                }
                let namespace = topic.namespace();
                let others = self.lines[at].views.iter().any(|(other, view)| {
                    *view == View::Live
                        && self.subscriptions[*other].pattern.namespace() == namespace
                });
                if !others {
                    self.lines[at].last_live.remove(namespace);
                }
                if reason == Some(GapReason::EpochChanged) && world.truth.rewrites == 0 {
                    return Err(format!("I6: {topic} is told of another history than its own"));
                }
                let subscription = &mut self.subscriptions[index];
                let asked_at = subscription.asked_at.take();
                subscription.log.push(Got::Begun);
                subscription.had_here.clear();
                if let Some(reason) = reason {
                    subscription.told(reason, true);
                } else if let Some(resumed) = subscription.cursor
                    && world.truth.has_lost(resumed)
                    && !world.shows(topic.namespace(), resumed.offset)
                {
                    subscription.log.push(Got::Unseen);
                }
                if subscription.owed_from.is_none() {
                    subscription.owed_from = match (&subscription.from, cursor) {
                        (From::Live, Some(cursor)) => Some(world.truth.live(cursor, asked_at)),
                        (From::Live, None) => Some(world.truth.log.len()),
                        (From::Since(time), _) if subscription.asked_in == world.truth.rewrites => {
                            Some(world.since(topic.namespace(), *time))
                        }
                        _ => subscription.owed_from,
                    };
                }
                let block = Block { subscription: index, left: replayed, more, cursor };
                self.go_on(at, block, world);
            }
            Reply::Unsubscribed { topic, .. } => {
                if let Ok(index) = self.find(at, &topic) {
                    self.close(at, index);
                }
            }
            // It was unsubscribed before this came.
            Reply::Error { topic: Some(topic), error, .. }
                if error.code == Code::NotSubscribed
                    && self.find(at, &Pattern::parse(&topic).unwrap()).is_err() => {}
            Reply::Error { topic: Some(topic), error, .. } => {
                let pattern = Pattern::parse(&topic).unwrap();
                let index = self.find(at, &pattern)?;
                self.drop_view(at, index);
                let subscription = &mut self.subscriptions[index];
                subscription.asked_at = None;
                subscription.found_no_room |= error.limit == Some(Limit::Feeds);
                match error.code {
                    Code::BusUnavailable | Code::Overloaded => subscription.retry(),
                    Code::Forbidden | Code::NotSubscribed | Code::TooManyTopics => {
                        subscription.ended = true;
                    }
                    code => return Err(format!("{pattern} is refused as {code:?}")),
                }
            }
            Reply::Token { .. } => {
                if let Some(claims) = self.renews.take() {
                    self.claims = claims;
                }
            }
            other => return Err(format!("nobody asked for {other:?}")),
        }
        Ok(())
    }

    fn push(&mut self, at: usize, push: Push, world: &mut World) -> Verdict {
        match push {
            Push::Replay { topic, replayed, more } => {
                let index = self.find(at, &topic)?;
                let node = self.lines[at].node;
                if self.lines[at].views[&index] != View::Over {
                    self.subscriptions[index].leave(node);
                    self.lines[at].views.insert(index, View::Replaying);
                }
                let block = Block { subscription: index, left: replayed, more, cursor: None };
                self.go_on(at, block, world);
            }
            Push::Gap { topic, reason, .. } => {
                if reason == GapReason::EpochChanged && world.truth.rewrites == 0 {
                    return Err(format!("I6: {topic} is told of another history than its own"));
                }
                if reason == GapReason::EpochChanged {
                    self.lines[at].last_live.remove(topic.namespace());
                    self.lost_its_way |= self.lines.len() > 1;
                }
                let index = self.find(at, &topic)?;
                let view = self.lines[at].views[&index];
                if view != View::Over {
                    self.subscriptions[index].told(reason, view == View::Replaying);
                }
            }
            Push::Position { namespace, cursor } => {
                let line = &self.lines[at];
                for (index, view) in &line.views {
                    let subscription = &mut self.subscriptions[*index];
                    if *view == View::Live && subscription.pattern.namespace() == &*namespace {
                        subscription.reach(cursor);
                    }
                }
            }
            Push::Unsubscribed { topic, code } => {
                let index = self.find(at, &topic)?;
                match code {
                    Code::Forbidden => self.close(at, index),
                    _ => {
                        self.drop_view(at, index);
                        self.subscriptions[index].retry();
                    }
                }
            }
            Push::GoingAway { reconnect_in_ms } => {
                let wait = std::time::Duration::from_millis(reconnect_in_ms);
                if self.lines[at].leaves.replace(Instant::now() + wait).is_some() {
                    return Err("it is told to leave twice".to_owned());
                }
            }
            other => return Err(format!("nobody asked for {other:?}")),
        }
        Ok(())
    }

    fn close(&mut self, at: usize, index: usize) {
        self.drop_view(at, index);
        self.subscriptions[index].ended = true;
    }

    fn drop_view(&mut self, at: usize, index: usize) {
        let line = &mut self.lines[at];
        if let Some(view) = line.views.remove(&index) {
            self.subscriptions[index].leave_by(line.node, view);
        }
    }
}

impl Subscription {
    fn retry(&mut self) {
        self.retry_at = Some(Instant::now() + std::time::Duration::from_secs(1));
    }
}

/// The last Publication that came, and its place in the log.
pub(crate) fn last_had(log: &[Got]) -> Option<(usize, usize)> {
    log.iter().enumerate().rev().find_map(|(at, got)| match got {
        Got::Had { number, .. } => Some((*number, at)),
        _ => None,
    })
}
