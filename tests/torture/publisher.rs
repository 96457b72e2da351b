//! One publisher for each Topic: one publish in flight, a counter without holes, a key for each.
//!
//! On a kept Topic most of what was not taken for sure is tried again, on whichever node, with the same
//! key, until it is; the rest stays as it is, so that the judge sees what a refusal is worth. On best
//! effort nothing is tried again, as it would be delivered again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::json;
use tidegate::protocol::cursor;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::log::{Ms, Outcome, Place, Sent};
use super::rng::Rng;
use super::world::{Orders, World};

/// Of those that were not taken for sure, so many of a hundred are tried again.
const PATIENT_PERCENT: u64 = 80;
/// For no longer than this: well within the time for which a key is known.
const PATIENCE: Duration = Duration::from_secs(60);
/// The publisher of every tenth Topic waits for an answer no longer than this, if its Topic is kept, and
/// then asks another node with the same key: what one node is waiting for keeps nobody else.
const IMPATIENT_EVERY: usize = 10;
const IMPATIENCE: Duration = Duration::from_secs(2);
/// Which Topics those are that retention shall overrun, and how fast: as a publisher's limit allows.
const HASTY_EVERY: usize = 5;
const HASTE: Duration = Duration::from_millis(25);
const PAUSE: Duration = Duration::from_millis(300);

/// Who publishes where.
pub(crate) struct Publisher {
    pub(crate) world: Arc<World>,
    pub(crate) topic: usize,
    pub(crate) token: String,
    /// From one to the next.
    pub(crate) every: Duration,
    pub(crate) rng: Rng,
}

/// What one try came to.
struct Answer {
    outcome: Outcome,
    place: Option<Place>,
    took: Option<Ms>,
    wrong: Option<String>,
}

#[derive(Deserialize)]
struct Words {
    #[serde(default)]
    code: String,
    cursor: Option<String>,
}

impl Publisher {
    /// Publishes until it is told to stop, and then the last, as often as it is told to; gives its log.
    pub(crate) async fn run(mut self) -> Vec<Sent> {
        let mut log: Vec<Sent> = Vec::new();
        let mut orders = self.world.orders.subscribe();
        let phase = Duration::from_millis(self.rng.below(self.every_ms() + 1));
        let mut turns = interval_at(Instant::now() + phase, self.every);
        // Who was held up does not make up for it.
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut finals = 0;
        loop {
            let now: Orders = *orders.borrow_and_update();
            if now.over {
                return log;
            }
            let number = u32::try_from(log.len()).expect("a short run");
            if now.finals > finals {
                finals = now.finals;
                log.push(self.say(number, true).await);
                self.world.said.fetch_add(1, Ordering::Relaxed);
            } else if now.publish {
                log.push(self.say(number, false).await);
                if now.hasty && self.topic.is_multiple_of(HASTY_EVERY) {
                    pause(HASTE).await;
                } else {
                    turns.tick().await;
                }
            } else if orders.changed().await.is_err() {
                return log;
            }
        }
    }

    fn every_ms(&self) -> u64 {
        u64::try_from(self.every.as_millis()).expect("a short time")
    }

    /// Whether it asks again before it is answered. Who does so has to go on until it is.
    fn is_impatient(&self) -> bool {
        self.world.topics[self.topic].kept && self.topic.is_multiple_of(IMPATIENT_EVERY)
    }

    /// Publishes one, until it knows what became of it or has no patience left.
    async fn say(&mut self, n: u32, is_last: bool) -> Sent {
        let world = Arc::clone(&self.world);
        let kept = world.topics[self.topic].kept;
        let patient = kept && (is_last || self.is_impatient() || self.rng.percent(PATIENT_PERCENT));
        let began = world.now();
        let deadline = Instant::now() + PATIENCE;
        let mut sent = Sent {
            topic: self.topic,
            n,
            began,
            ended: began,
            outcome: Outcome::Fail,
            place: None,
            answer: 0,
            wrong: None,
        };
        loop {
            let answer = self.try_once(n, is_last).await;
            sent.ended = world.now();
            sent.answer = sent.answer.max(answer.took.unwrap_or(0));
            sent.place = answer.place;
            sent.wrong = sent.wrong.or(answer.wrong);
            match answer.outcome {
                Outcome::Ok => sent.outcome = Outcome::Ok,
                Outcome::Unknown => sent.outcome = Outcome::Unknown,
                // Of an earlier try nobody knows.
                Outcome::Fail => {}
            }
            let over = world.orders.borrow().over || Instant::now() > deadline;
            if sent.outcome == Outcome::Ok || !patient || over || sent.wrong.is_some() {
                return sent;
            }
            let ms = u64::try_from(PAUSE.as_millis()).expect("a short pause");
            pause(Duration::from_millis(self.rng.between(ms / 2, ms * 3 / 2))).await;
        }
    }

    async fn try_once(&mut self, n: u32, is_last: bool) -> Answer {
        let world = Arc::clone(&self.world);
        let topic = &world.topics[self.topic];
        let (_, address) = world.door.ready(&mut self.rng)[0];
        let body = json!({"n": n, "g": topic.group, "end": is_last}).to_string();
        let request = world
            .http
            .post(format!("http://{address}/v1/topics/{}/messages", topic.name))
            .bearer_auth(&self.token)
            .header("idempotency-key", format!("{}-{n}", world.seed))
            .body(body);
        let began = world.now();
        let mut answer = Answer { outcome: Outcome::Unknown, place: None, took: None, wrong: None };
        let limit = if self.is_impatient() { IMPATIENCE } else { PATIENCE };
        let Ok(Ok(response)) = timeout(limit, request.send()).await else {
            return answer;
        };
        let status = response.status();
        let Ok(text) = response.text().await else {
            return answer;
        };
        answer.took = Some(world.now() - began);
        let words: Option<Words> = serde_json::from_str(&text).ok();
        let code = words.as_ref().map_or("", |words| words.code.as_str()).to_owned();
        match (status, code.as_str()) {
            (StatusCode::OK, _) => {
                answer.outcome = Outcome::Ok;
                let cursor = words.and_then(|words| words.cursor);
                answer.place = cursor.as_deref().and_then(place);
                if answer.place.is_none() && topic.kept {
                    answer.wrong = Some(format!("200 without a cursor: {text}"));
                }
            }
            // A connection that was opened, and had to wait for its first request.
            (StatusCode::REQUEST_TIMEOUT, _)
            | (StatusCode::SERVICE_UNAVAILABLE, "bus_unavailable" | "overloaded" | "draining")
            | (StatusCode::TOO_MANY_REQUESTS, "rate_limited") => answer.outcome = Outcome::Fail,
            (StatusCode::GATEWAY_TIMEOUT, "outcome_unknown") => {}
            _ => {
                answer.outcome = Outcome::Fail;
                answer.wrong = Some(format!("{status} {text}"));
            }
        }
        answer
    }
}

/// What passes when nothing comes.
async fn pause(time: Duration) {
    drop(timeout(time, std::future::pending::<()>()).await);
}

/// Reads a Cursor as far as clients may.
pub(crate) fn place(text: &str) -> Option<Place> {
    let cursor = cursor::parse(text)?;
    Some(Place { epoch: cursor.epoch.bits(), offset: cursor.offset })
}
