//! How far each Subscription of a socket has come, so that the next socket goes on from there.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::frame::Frame;
use super::{From, Pattern, Topic, from};
use crate::protocol::cursor;
use crate::publication::Cursor;

/// Of all Subscriptions.
pub(super) struct Places {
    all: Vec<Place>,
    /// Whose the next Publications are alone, how many, and where it is then.
    replaying: Option<(usize, u64, Option<Cursor>)>,
    /// What more than one of them wants and has come for one, until none of them is within its replay:
    /// it comes again for each.
    had: HashSet<Cursor>,
}

struct Place {
    pattern: Pattern,
    from: Value,
    /// Everything up to here has come; none where nothing is kept.
    cursor: Option<Cursor>,
    live: bool,
}

impl Places {
    /// What another of these covers would only come twice.
    pub(super) fn new(patterns: Vec<Pattern>, from: &From) -> Self {
        let mut all: Vec<Place> = Vec::new();
        for pattern in patterns {
            if !all.iter().any(|one| one.pattern.covers(&pattern)) {
                all.retain(|one| !pattern.covers(&one.pattern));
                let from = from::value(from);
                all.push(Place { pattern, from, cursor: None, live: false });
            }
        }
        Self { all, replaying: None, had: HashSet::new() }
    }

    /// The Command for a new socket.
    pub(super) fn subscribe(&mut self) -> String {
        self.replaying = None;
        let entry = |place: &mut Place| {
            place.live = false;
            let from = match place.cursor {
                Some(cursor) => json!({ "cursor": cursor }),
                None => place.from.clone(),
            };
            json!({ "topic": place.pattern, "from": from })
        };
        let topics: Vec<_> = self.all.iter_mut().map(entry).collect();
        json!({ "type": "subscribe", "id": 1, "topics": topics }).to_string()
    }

    /// Reads a frame of this socket. Whether it says something new.
    pub(super) fn take(&mut self, frame: &Frame<'_>) -> bool {
        let is_new = self.is_new(frame);
        self.follow(frame);
        if self.are_live() {
            self.had.clear();
        }
        is_new
    }

    /// A Publication that came within the replay of another Subscription, or live while one of them
    /// still had to get it, is none.
    fn is_new(&mut self, frame: &Frame<'_>) -> bool {
        let cursor = frame.cursor.as_deref().and_then(cursor::parse);
        let topic = frame.topic.as_deref().and_then(|text| Topic::parse(text).ok());
        match (frame.kind.as_str(), cursor, topic) {
            ("message", Some(at), Some(topic)) if !self.are_live() => {
                let wanted = self.all.iter().filter(|one| one.pattern.matches(&topic)).count();
                wanted < 2 || self.had.insert(at)
            }
            _ => true,
        }
    }

    fn are_live(&self) -> bool {
        self.replaying.is_none() && self.all.iter().all(|one| one.live)
    }

    fn follow(&mut self, frame: &Frame<'_>) {
        let at = frame.cursor.as_deref().and_then(cursor::parse);
        let topic = frame.topic.as_deref().unwrap_or_default();
        match frame.kind.as_str() {
            "subscribed" | "replay" => {
                let Some(number) = self.all.iter().position(|one| one.pattern.as_str() == topic)
                else {
                    return;
                };
                self.replaying = Some((number, frame.replayed, at));
                if let Some(place) = self.all.get_mut(number) {
                    place.live = !frame.more;
                }
                self.replayed();
            }
            "message" => match &mut self.replaying {
                Some((number, left, _)) => {
                    *left -= 1;
                    if let Some(place) = self.all.get_mut(*number) {
                        place.cursor = at;
                    }
                    self.replayed();
                }
                None => {
                    let Ok(topic) = Topic::parse(topic) else {
                        return;
                    };
                    self.reach(at, |pattern| pattern.matches(&topic));
                }
            },
            "gap" if frame.reason.as_deref() == Some("epoch_changed") => {
                // It goes on from there until something comes, and compares that with nothing.
                for place in self.all.iter_mut().filter(|one| one.pattern.as_str() == topic) {
                    if let Some(old) = place.cursor.take() {
                        place.from = json!({ "cursor": old });
                    }
                }
            }
            "position" => {
                self.reach(at, |pattern| frame.namespace.as_deref() == Some(pattern.namespace()));
            }
            _ => {}
        }
    }

    /// All of a part has come.
    fn replayed(&mut self) {
        if let Some((number, _, at)) = self.replaying.take_if(|(_, left, _)| *left == 0)
            && let Some(place) = self.all.get_mut(number)
        {
            place.cursor = at.or(place.cursor);
        }
    }

    /// Live ones have come so far, unless they were further.
    fn reach(&mut self, at: Option<Cursor>, whose: impl Fn(&Pattern) -> bool) {
        for place in self.all.iter_mut().filter(|one| one.live && whose(&one.pattern)) {
            let further =
                |old: Cursor, new: Cursor| old.epoch == new.epoch && old.offset > new.offset;
            if !place.cursor.zip(at).is_some_and(|(old, new)| further(old, new)) {
                place.cursor = at;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(places: &mut Places, frame: Value) -> bool {
        places.take(&serde_json::from_str(&frame.to_string()).unwrap())
    }

    fn message(places: &mut Places, topic: &str, offset: u32) -> bool {
        let cursor = format!("k3f7qa-{offset:x}");
        take(places, json!({"type": "message", "topic": topic, "cursor": cursor}))
    }

    /// Two Patterns neither of which covers the other: what both want is new once, whether it came within
    /// a replay or live, also where a socket is lost within the second replay.
    #[test]
    fn what_overlapping_replays_bring_is_new_once() {
        let patterns = ["k.*.x", "k.a.*"].map(|text| text.parse().unwrap());
        let mut places = Places::new(patterns.into(), &From::Live);
        let head = |kind: &str, topic: &str, replayed: u32, more: bool| {
            json!({"type": kind, "topic": topic, "replayed": replayed, "more": more,
                "cursor": (kind == "subscribed").then_some("k3f7qa-9")})
        };
        take(&mut places, head("subscribed", "k.*.x", 2, false));
        assert!(message(&mut places, "k.a.x", 1));
        assert!(message(&mut places, "k.b.x", 2));
        take(&mut places, head("subscribed", "k.a.*", 2, true));
        assert!(!message(&mut places, "k.a.x", 1));
        assert!(message(&mut places, "k.a.y", 3));
        assert!(message(&mut places, "k.a.x", 10), "live for the other");
        places.subscribe();
        take(&mut places, head("subscribed", "k.a.*", 2, true));
        assert!(!message(&mut places, "k.a.x", 10));
        assert!(message(&mut places, "k.a.x", 11));
        take(&mut places, head("subscribed", "k.*.x", 1, false));
        assert!(!message(&mut places, "k.a.x", 11));
        take(&mut places, head("replay", "k.a.*", 1, false));
        assert!(message(&mut places, "k.a.y", 12));
        assert!(places.had.is_empty(), "nothing comes twice from here on");
        assert!(message(&mut places, "k.a.x", 13));
        assert!(places.had.is_empty());
    }

    fn place(places: &mut Places) -> Value {
        let command: Value = serde_json::from_str(&places.subscribe()).unwrap();
        command["topics"][0]["from"]["cursor"].clone()
    }

    /// A history that lost its end uses Offsets again: what comes then is the place, though its Offset
    /// is lower. Until something comes, the old place is asked for.
    #[test]
    fn a_history_that_lost_its_end_leaves_no_place_behind() {
        let mut places = Places::new(vec!["k.>".parse().unwrap()], &From::Live);
        let subscribed = json!({"type": "subscribed", "topic": "k.>", "cursor": "k3f7qa-8-77d0"});
        take(&mut places, subscribed.clone());
        take(&mut places, json!({"type": "gap", "topic": "k.>", "reason": "epoch_changed"}));
        assert_eq!(place(&mut places), "k3f7qa-8-77d0");
        take(&mut places, subscribed);
        take(&mut places, json!({"type": "gap", "topic": "k.>", "reason": "epoch_changed"}));
        assert!(message(&mut places, "k.a", 3));
        assert_eq!(place(&mut places), "k3f7qa-3");
    }

    /// What has another check is another Publication, also where two replays may bring one twice.
    #[test]
    fn an_offset_that_is_used_again_is_new() {
        let patterns = ["k.*.x", "k.a.*"].map(|text| text.parse().unwrap());
        let mut places = Places::new(patterns.into(), &From::Live);
        let mut stored = |cursor: &str| {
            take(&mut places, json!({"type": "message", "topic": "k.a.x", "cursor": cursor}))
        };
        assert!(stored("k3f7qa-3-77d0"));
        assert!(!stored("k3f7qa-3-77d0"));
        assert!(stored("k3f7qa-3-81a0"));
    }
}
