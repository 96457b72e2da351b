//! How far each Subscription of a socket has come, so that the next socket goes on from there.

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
        Self { all, replaying: None }
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

    /// Reads a frame of this socket.
    pub(super) fn take(&mut self, frame: &Frame<'_>) {
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
