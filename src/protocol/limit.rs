//! The bounds that a client, or all of them together, can meet, by the names that operators know.
//!
//! Whoever refuses, closes or loses something because of a bound says which it was, beside the code
//! that the client hears: one code stands for many bounds, and an operator wants to know the one to
//! change. How high each is, and what lies beyond it, is known to its room.

/// One bound.
///
/// What may come at once (`commands_burst`, `handshakes_burst`) is met where its rate is, and
/// `ping_after` only begins `pong_timeout`: these three are none of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the bound of the same name, which the README explains")]
pub enum Limit {
    FrameBytes,
    MaxMessageBytes,
    BatchItems,
    BatchBytes,
    Fragments,
    ControlFrames,
    BadMessages,
    JsonDepth,
    CommandsPerSecond,
    KeyPublishesPerSecond,
    Subscriptions,
    Feeds,
    MaxConnections,
    Unauthenticated,
    UserConnections,
    HandshakesPerSecond,
    AuthTimeout,
    HeadTimeout,
    UrlBytes,
    BodyTimeout,
    PongTimeout,
    OutboxBytes,
    WriteTimeout,
    PublishesInFlight,
    AttachesWaiting,
    SnapshotTopics,
    ShardInbox,
    MaxConnectionAge,
    Revocations,
    CallsInFlight,
}

impl Limit {
    /// How many there are.
    pub const COUNT: usize = 30;

    /// Every bound there is, each at its own place.
    pub const ALL: [Self; Self::COUNT] = [
        Self::FrameBytes,
        Self::MaxMessageBytes,
        Self::BatchItems,
        Self::BatchBytes,
        Self::Fragments,
        Self::ControlFrames,
        Self::BadMessages,
        Self::JsonDepth,
        Self::CommandsPerSecond,
        Self::KeyPublishesPerSecond,
        Self::Subscriptions,
        Self::Feeds,
        Self::MaxConnections,
        Self::Unauthenticated,
        Self::UserConnections,
        Self::HandshakesPerSecond,
        Self::AuthTimeout,
        Self::HeadTimeout,
        Self::UrlBytes,
        Self::BodyTimeout,
        Self::PongTimeout,
        Self::OutboxBytes,
        Self::WriteTimeout,
        Self::PublishesInFlight,
        Self::AttachesWaiting,
        Self::SnapshotTopics,
        Self::ShardInbox,
        Self::MaxConnectionAge,
        Self::Revocations,
        Self::CallsInFlight,
    ];

    /// Its key in the configuration.
    #[must_use]
    pub const fn key(self) -> &'static str {
        match self {
            Self::FrameBytes => "frame_bytes",
            Self::MaxMessageBytes => "max_message_bytes",
            Self::BatchItems => "batch_items",
            Self::BatchBytes => "batch_bytes",
            Self::Fragments => "fragments",
            Self::ControlFrames => "control_frames",
            Self::BadMessages => "bad_messages",
            Self::JsonDepth => "json_depth",
            Self::CommandsPerSecond => "commands_per_second",
            Self::KeyPublishesPerSecond => "key_publishes_per_second",
            Self::Subscriptions => "subscriptions",
            Self::Feeds => "feeds",
            Self::MaxConnections => "max_connections",
            Self::Unauthenticated => "unauthenticated",
            Self::UserConnections => "user_connections",
            Self::HandshakesPerSecond => "handshakes_per_second",
            Self::AuthTimeout => "auth_timeout",
            Self::HeadTimeout => "head_timeout",
            Self::UrlBytes => "url_bytes",
            Self::BodyTimeout => "body_timeout",
            Self::PongTimeout => "pong_timeout",
            Self::OutboxBytes => "outbox_bytes",
            Self::WriteTimeout => "write_timeout",
            Self::PublishesInFlight => "publishes_in_flight",
            Self::AttachesWaiting => "attaches_waiting",
            Self::SnapshotTopics => "snapshot_topics",
            Self::ShardInbox => "shard_inbox",
            Self::MaxConnectionAge => "max_connection_age",
            Self::Revocations => "revocations",
            Self::CallsInFlight => "calls_in_flight",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_bound_stands_once_at_its_own_place() {
        for (place, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, place, "{limit:?}");
        }
        let keys: BTreeSet<_> = Limit::ALL.map(Limit::key).into();
        assert_eq!(keys.len(), Limit::COUNT);
    }
}
