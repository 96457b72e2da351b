//! The bounds that an operator can set, with their units.
//!
//! Law 5 in one list: each bound has a name, a value to start with, and a range beyond which a value
//! is a slip of the pen. Sizes and durations are written as text with a unit (`64KiB`, `10s`). What a
//! bound means to its room is not known here.

use std::ops::RangeInclusive;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::measure::{read_size, read_span, size_text, span_text, write_size, write_span};
use crate::protocol;

/// Most Connections that one node may be told to hold.
pub(super) const CONNECTIONS_MAX: usize = 10_000_000;

/// Every bound that can be set. What happens beyond each: `proto/README.md`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Limits {
    /// A frame, and a message over all its fragments; 0 in the file: the largest
    /// `max_message_bytes` and 4 KiB.
    #[serde(deserialize_with = "read_size", serialize_with = "write_size")]
    pub frame_bytes: usize,
    /// Publications of one HTTP batch.
    pub batch_items: usize,
    /// Bytes of one HTTP batch.
    #[serde(deserialize_with = "read_size", serialize_with = "write_size")]
    pub batch_bytes: usize,
    /// Fragments of one message.
    pub fragments: u32,
    /// Control frames of a Connection in 10 s.
    pub control_frames: u32,
    /// Unreadable Commands of a Connection in 60 s; this one closes it.
    pub bad_messages: u32,
    /// Commands of a Connection, or of one user over HTTP, in a second.
    pub commands_per_second: u32,
    /// How many of those may come at once.
    pub commands_burst: u32,
    /// Publications of one API key in a second.
    pub key_publishes_per_second: u32,
    /// Subscriptions of one Connection.
    pub subscriptions: usize,
    /// Connections of the node; 0 in the file: what the number of open files leaves.
    pub max_connections: usize,
    /// Of these, those that are not `connected` yet.
    pub unauthenticated: usize,
    /// Connections of one Token's subject, on this node.
    pub user_connections: usize,
    /// New Connections in a second.
    pub handshakes_per_second: u32,
    /// How many of those may come at once.
    pub handshakes_burst: u32,
    /// A Connection is sent elsewhere at this age, give or take a tenth; 0: never.
    #[serde(deserialize_with = "read_span", serialize_with = "write_span")]
    pub max_connection_age: Duration,
    /// Best-effort Feeds of the node: distinct Topics and Patterns that its clients want.
    pub feeds: usize,
    /// Publications in memory of one kept Namespace: what clients missed is found there first.
    pub ring_items: usize,
    /// Their bytes.
    #[serde(deserialize_with = "read_size", serialize_with = "write_size")]
    pub ring_bytes: usize,
    /// The bytes of all kept Namespaces together.
    #[serde(deserialize_with = "read_size", serialize_with = "write_size")]
    pub rings_bytes: usize,
    /// Publications of one part of a replay, or of one page.
    pub replay_part_items: usize,
    /// Its bytes.
    #[serde(deserialize_with = "read_size", serialize_with = "write_size")]
    pub replay_part_bytes: usize,
    /// Bytes that one read of history keeps for those who wait for it.
    #[serde(deserialize_with = "read_size", serialize_with = "write_size")]
    pub read_bytes: usize,
    /// Topics of one snapshot.
    pub snapshot_topics: usize,
    /// Publishes of the node that wait for the Bus.
    pub publishes_in_flight: usize,
    /// Subscriptions of the node that wait for their Feed.
    pub attaches_waiting: usize,
    /// Events that wait for one Shard.
    pub shard_inbox: usize,
    /// Users and Tokens that stay revoked, of all nodes together.
    pub revocations: usize,
    /// What this node asks of all nodes at once.
    pub calls_in_flight: usize,
    /// From the handshake to `connected`.
    #[serde(deserialize_with = "read_span", serialize_with = "write_span")]
    pub auth_timeout: Duration,
    /// From the first byte of a request to the end of its head.
    #[serde(deserialize_with = "read_span", serialize_with = "write_span")]
    pub head_timeout: Duration,
    /// From there to the end of its body.
    #[serde(deserialize_with = "read_span", serialize_with = "write_span")]
    pub body_timeout: Duration,
    /// A request's URL.
    #[serde(deserialize_with = "read_size", serialize_with = "write_size")]
    pub url_bytes: usize,
    /// Silence of a peer before it is pinged.
    #[serde(deserialize_with = "read_span", serialize_with = "write_span")]
    pub ping_after: Duration,
    /// Silence after that ping before it is evicted.
    #[serde(deserialize_with = "read_span", serialize_with = "write_span")]
    pub pong_timeout: Duration,
    /// Frames that wait for one Connection.
    #[serde(deserialize_with = "read_size", serialize_with = "write_size")]
    pub outbox_bytes: usize,
    /// How long a socket may take no byte of a filled Outbox.
    #[serde(deserialize_with = "read_span", serialize_with = "write_span")]
    pub write_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: 0,
            batch_items: 1000,
            batch_bytes: 1 << 20,
            fragments: 64,
            control_frames: 100,
            bad_messages: 10,
            commands_per_second: 50,
            commands_burst: 200,
            key_publishes_per_second: 5000,
            subscriptions: protocol::json::TOPICS_MAX,
            max_connections: 0,
            unauthenticated: 1000,
            user_connections: 32,
            handshakes_per_second: 500,
            handshakes_burst: 1000,
            max_connection_age: Duration::ZERO,
            feeds: 20_000,
            ring_items: 16_384,
            ring_bytes: 16 << 20,
            rings_bytes: 256 << 20,
            replay_part_items: 1000,
            replay_part_bytes: 96 << 10,
            read_bytes: 96 << 20,
            snapshot_topics: 1024,
            publishes_in_flight: 4096,
            attaches_waiting: 20_000,
            shard_inbox: 8192,
            revocations: 50_000,
            calls_in_flight: 16,
            auth_timeout: Duration::from_secs(10),
            head_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(10),
            url_bytes: 8 << 10,
            ping_after: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(8),
            outbox_bytes: 256 << 10,
            write_timeout: Duration::from_secs(20),
        }
    }
}

impl Limits {
    /// Each bound that lies outside of what makes sense, with its key.
    #[rustfmt::skip]
    pub(super) fn faults(&self) -> Vec<(String, String)> {
        let count = |key, value: u32, range| within(key, &value, range, u32::to_string);
        let items = |key, value: usize, range| within(key, &value, range, usize::to_string);
        let size = |key, value: usize, range| within(key, &value, range, |bytes| size_text(*bytes));
        let span = |key, value: Duration, seconds: RangeInclusive<u64>| {
            let [min, max] = [*seconds.start(), *seconds.end()].map(Duration::from_secs);
            within(key, &value, min..=max, |span| span_text(*span))
        };
        [
            // 0: what the payloads ask for.
            size("frame_bytes", if self.frame_bytes == 0 { 1 << 10 } else { self.frame_bytes }, 1 << 10..=16 << 20),
            items("batch_items", self.batch_items, 1..=10_000),
            size("batch_bytes", self.batch_bytes, 1 << 10..=64 << 20),
            count("fragments", self.fragments, 1..=4096),
            count("control_frames", self.control_frames, 10..=10_000),
            count("bad_messages", self.bad_messages, 1..=1000),
            count("commands_per_second", self.commands_per_second, 1..=100_000),
            count("commands_burst", self.commands_burst, 1..=100_000),
            count("key_publishes_per_second", self.key_publishes_per_second, 1..=1_000_000),
            items("subscriptions", self.subscriptions, 1..=10_000),
            items("max_connections", self.max_connections, 0..=CONNECTIONS_MAX),
            items("unauthenticated", self.unauthenticated, 1..=CONNECTIONS_MAX),
            items("user_connections", self.user_connections, 1..=CONNECTIONS_MAX),
            count("handshakes_per_second", self.handshakes_per_second, 1..=1_000_000),
            count("handshakes_burst", self.handshakes_burst, 1..=1_000_000),
            span("max_connection_age", self.max_connection_age, 0..=30 * 86_400),
            items("feeds", self.feeds, 1..=1_000_000),
            items("ring_items", self.ring_items, 1..=10_000_000),
            size("ring_bytes", self.ring_bytes, 64 << 10..=16 << 30),
            size("rings_bytes", self.rings_bytes, 64 << 10..=256 << 30),
            items("replay_part_items", self.replay_part_items, 1..=10_000),
            size("replay_part_bytes", self.replay_part_bytes, 1 << 10..=16 << 20),
            size("read_bytes", self.read_bytes, 1 << 20..=16 << 30),
            items("snapshot_topics", self.snapshot_topics, 1..=100_000),
            items("publishes_in_flight", self.publishes_in_flight, 1..=1_000_000),
            items("attaches_waiting", self.attaches_waiting, 1..=1_000_000),
            items("shard_inbox", self.shard_inbox, 16..=1_000_000),
            items("revocations", self.revocations, 1..=10_000_000),
            items("calls_in_flight", self.calls_in_flight, 1..=1_000),
            span("auth_timeout", self.auth_timeout, 1..=300),
            span("head_timeout", self.head_timeout, 1..=300),
            span("body_timeout", self.body_timeout, 1..=300),
            size("url_bytes", self.url_bytes, 256..=64 << 10),
            span("ping_after", self.ping_after, 1..=3600),
            span("pong_timeout", self.pong_timeout, 1..=300),
            size("outbox_bytes", self.outbox_bytes, 4 << 10..=64 << 20),
            span("write_timeout", self.write_timeout, 1..=300),
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// A fault if the value lies outside of the range.
pub(super) fn within<T: PartialOrd>(
    key: &str,
    value: &T,
    range: RangeInclusive<T>,
    text: impl Fn(&T) -> String,
) -> Option<(String, String)> {
    let (value_text, min, max) = (text(value), text(range.start()), text(range.end()));
    (!range.contains(value))
        .then(|| (key.to_owned(), format!("is {value_text}, must be {min} to {max}")))
}
