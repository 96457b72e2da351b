//! The only way in for a Publication: Grant, rate, the Namespace's rules, id.
//!
//! HTTP routes and Shards call it with what a client wants published and with that client's Claims;
//! it hands what passes to the Bus and says what became of it. It knows no socket and no request.

mod meters;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};
use opentelemetry::metrics::Meter;
use tokio::sync::Semaphore;
use tokio::time::Instant;
use uuid::Uuid;

use crate::auth::{Claims, Denied, Verb, Who};
use crate::bus::{self, Bus as _};
use crate::namespace::{Namespaces, NoTopic};
use crate::protocol::{Code, Error, Limit};
use crate::publication::{Draft, Publication, Published, Timestamp};
use crate::span::Spans;
use crate::topic::{Pattern, Topic};
use meters::{Entry, Meters};

/// Who published lately, at most: those idle long enough to be at full quota again are forgotten.
const PUBLISHERS_REMEMBERED: usize = 16_384;
/// Characters of a hash in the id that is made from an idempotency key.
const KEYED_ID_CHARACTERS: usize = 22;

/// How fast one publisher may be over HTTP. On a Connection its Session counts.
#[derive(Debug, Clone)]
pub struct Config {
    /// Publications a second of one Token's subject.
    pub per_user: NonZeroU32,
    /// How many of them at once.
    pub per_user_burst: NonZeroU32,
    /// Publications a second of one API key, and of all anonymous clients together.
    pub per_key: NonZeroU32,
    /// Publications of the node that wait for the Bus.
    pub in_flight: usize,
}

/// Why it was not published.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// No Grant covers it.
    #[error("{0}")]
    Denied(#[from] Denied),
    /// There can be no such Topic.
    #[error("{0}")]
    NoTopic(#[from] NoTopic),
    /// Over the Namespace's bound.
    #[error("the payload has {size} bytes, {topic} takes at most {max}")]
    TooBig {
        /// Of the payload, in bytes.
        size: usize,
        /// Of the Namespace.
        max: usize,
        /// Where it should have gone.
        topic: Topic,
    },
    /// Anonymous clients without a Connection have no name that a key could belong to.
    #[error("an idempotency key needs a Token, an API key or a connection")]
    KeyWithoutName,
    /// Faster than allowed.
    #[error("more publications a second than this publisher may send")]
    RateLimited {
        /// By this bound.
        limit: Limit,
        /// Come back after this.
        after: Duration,
    },
    /// Too many of this node wait for the Bus.
    #[error("too many publications of this node wait for the bus")]
    Overloaded,
    /// The Bus did not take it, or does not say whether it did.
    #[error("{why}")]
    Bus {
        /// What it says.
        why: bus::PublishError,
        /// Whether an idempotency key makes it safe to try again.
        keyed: bool,
    },
}

impl PublishError {
    /// The same, as clients hear it.
    #[must_use]
    pub fn wire(&self) -> Error {
        let code = match self {
            Self::Denied(denied) if denied.anonymous => Code::Unauthenticated,
            Self::Denied(_) => Code::Forbidden,
            Self::NoTopic(_) => Code::InvalidTopic,
            Self::TooBig { .. } | Self::Bus { why: bus::PublishError::TooBig { .. }, .. } => {
                Code::TooBig
            }
            Self::KeyWithoutName => Code::BadMessage,
            Self::RateLimited { .. } => Code::RateLimited,
            Self::Overloaded => Code::Overloaded,
            Self::Bus { why: bus::PublishError::Unavailable, .. } => Code::BusUnavailable,
            Self::Bus { why: bus::PublishError::StorageFull, .. } => Code::StorageFull,
            Self::Bus { why: bus::PublishError::OutcomeUnknown, .. } => Code::OutcomeUnknown,
        };
        let mut error = Error::new(code, self.to_string());
        match self {
            Self::RateLimited { limit, after } => error.after_ms(millis_up(*after)).at(*limit),
            Self::TooBig { .. } => error.at(Limit::MaxMessageBytes),
            Self::Overloaded => error.at(Limit::PublishesInFlight),
            Self::Bus { keyed, .. } => {
                error.keyed = *keyed;
                error
            }
            _ => error,
        }
    }
}

/// Takes Publications in.
pub struct Publisher {
    bus: bus::Door,
    namespaces: Arc<Namespaces>,
    now: fn() -> Timestamp,
    users: Limiter,
    keys: Limiter,
    in_flight: Semaphore,
    meters: Meters,
    /// None while traces are off.
    spans: Option<Arc<Spans>>,
}

type Limiter = RateLimiter<Who, HashMapStateStore<Who>, DefaultClock>;

impl Publisher {
    /// A publisher in front of this Bus; `now` reads the wall clock.
    #[must_use]
    pub fn new(
        config: &Config,
        bus: bus::Door,
        namespaces: Arc<Namespaces>,
        now: fn() -> Timestamp,
        meter: &Meter,
        spans: Option<Arc<Spans>>,
    ) -> Self {
        let meters = Meters::new(meter, &namespaces);
        let users = Quota::per_second(config.per_user).allow_burst(config.per_user_burst);
        Self {
            bus,
            namespaces,
            now,
            users: RateLimiter::hashmap(users),
            keys: RateLimiter::hashmap(Quota::per_second(config.per_key)),
            in_flight: Semaphore::new(config.in_flight),
            meters,
            spans,
        }
    }

    /// Counts one Publication over HTTP against its publisher's rate.
    pub fn admit(&self, claims: &Claims) -> Result<(), PublishError> {
        let (limiter, limit) = match claims.who {
            Who::User(_) => (&self.users, Limit::CommandsPerSecond),
            Who::Key(_) | Who::Anonymous => (&self.keys, Limit::KeyPublishesPerSecond),
        };
        if limiter.len() > PUBLISHERS_REMEMBERED {
            limiter.retain_recent();
        }
        limiter.check_key(&claims.who).map_err(|refused| PublishError::RateLimited {
            limit,
            after: refused.wait_time_from(DefaultClock::default().now()),
        })
    }

    /// Publishes. `Ok` means what [`Bus::publish`](bus::Bus::publish) promises; `connection` is the
    /// id of the Connection that asks, if one does.
    pub async fn publish(
        &self,
        claims: &Claims,
        connection: Option<&str>,
        draft: Draft,
    ) -> Result<Published, PublishError> {
        let (place, began) = (self.namespaces.place(draft.topic.namespace()), Instant::now());
        let outcome = match &self.spans {
            Some(spans) => self.hand_over_traced(spans, claims, connection, draft).await,
            None => self.hand_over(claims, connection, draft).await,
        };
        let entry = if connection.is_some() { Entry::WebSocket } else { Entry::Http };
        self.meters.published(entry, place, &outcome, began.elapsed());
        outcome
    }

    async fn hand_over_traced(
        &self,
        spans: &Spans,
        claims: &Claims,
        connection: Option<&str>,
        mut draft: Draft,
    ) -> Result<Published, PublishError> {
        let label = self.namespaces.label(draft.topic.namespace());
        let mut span = spans.publish(label, draft.trace.as_ref());
        draft.trace = spans.trace(&span, draft.trace);
        let outcome = self.hand_over(claims, connection, draft).await;
        match &outcome {
            Ok(published) => span.published(&published.id),
            Err(why) => span.failed(why.wire().code.text()),
        }
        outcome
    }

    async fn hand_over(
        &self,
        claims: &Claims,
        connection: Option<&str>,
        draft: Draft,
    ) -> Result<Published, PublishError> {
        claims.allows(Verb::Publish, &Pattern::from(&draft.topic))?;
        self.check(&draft)?;
        let keyed = draft.key.is_some();
        let id = match draft.key {
            Some(key) => keyed_id(&claims.who, connection, &draft.topic, &key)?,
            None => Uuid::now_v7().to_string().into(),
        };
        let publication = Publication {
            topic: draft.topic.clone(),
            id: id.clone(),
            time: (self.now)(),
            user: match &claims.who {
                Who::User(sub) => Some(Arc::clone(sub)),
                Who::Key(_) | Who::Anonymous => None,
            },
            payload: draft.payload,
            trace: draft.trace,
        };
        let _place = self.in_flight.try_acquire().map_err(|_| PublishError::Overloaded)?;
        let receipt = self.bus.publish(publication).await;
        let receipt = receipt.map_err(|why| PublishError::Bus { why, keyed })?;
        let (cursor, duplicate) = (receipt.cursor, receipt.duplicate);
        let stored = self.namespaces.history(draft.topic.namespace()).is_some();
        Ok(Published { topic: draft.topic, id, cursor, stored, duplicate })
    }

    fn check(&self, draft: &Draft) -> Result<(), PublishError> {
        let rules = self.namespaces.admits(&Pattern::from(&draft.topic))?;
        let (size, max) = (draft.payload.len(), rules.max_message_bytes);
        if size > max {
            return Err(PublishError::TooBig { size, max, topic: draft.topic.clone() });
        }
        Ok(())
    }
}

/// The id that the same publisher, Topic and key always give.
fn keyed_id(
    who: &Who,
    connection: Option<&str>,
    topic: &Topic,
    key: &str,
) -> Result<Box<str>, PublishError> {
    let name = match (who, connection) {
        (Who::User(sub), _) => format!("user:{sub}"),
        (Who::Key(name), _) => format!("key:{name}"),
        (Who::Anonymous, Some(connection)) => format!("anonymous:{connection}"),
        (Who::Anonymous, None) => return Err(PublishError::KeyWithoutName),
    };
    let parts = [name.as_str(), topic.as_str(), key].join("\0");
    let hash = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, parts.as_bytes()));
    Ok(format!("k{}", hash.get(..KEYED_ID_CHARACTERS).unwrap_or(&hash)).into())
}

/// Whole milliseconds, rounded up: who waits that long is not early.
fn millis_up(wait: Duration) -> u64 {
    u64::try_from(wait.as_micros().div_ceil(1_000)).unwrap_or(u64::MAX)
}
