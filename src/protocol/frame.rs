//! Commands, Replies and Pushes as values, in no encoding yet.
//!
//! A client asks by a [`Command`], each ask is answered by one [`Reply`], and what the node sends
//! unasked is a [`Push`]. The `message` Push is not here: it goes to many, so it is an
//! [`Envelope`](super::Envelope) and its bytes are made once.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

use super::error::{Code, Error};
use crate::publication::{Cursor, Timestamp};
use crate::topic::{Pattern, Topic};

/// What a client puts on a Command to know its Reply: 1-64 bytes of text, or an integer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Id {
    /// Text, 1-64 bytes.
    Text(#[cfg_attr(test, schemars(length(min = 1, max = 64)))] Box<str>),
    /// 0 to 2^53-1, so that JavaScript can hold it.
    Number(#[cfg_attr(test, schemars(range(max = 9_007_199_254_740_991_u64)))] u64),
}

/// One ask of a client.
#[derive(Debug, Clone, PartialEq)]
pub struct Command {
    /// Comes back in the Reply.
    pub id: Option<Id>,
    /// What is asked.
    pub ask: Ask,
}

/// The asks there are. Topics are still text here: a bad one among many refuses only itself.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// Introduces the client.
    Connect {
        /// The Token, if the handshake had none.
        token: Option<Secret>,
        /// `name/version` of the client library.
        client: Option<Box<str>>,
        /// How the node shows life.
        heartbeat: Option<Heartbeat>,
    },
    /// Wants one or many Patterns.
    Subscribe(Vec<Wanted>),
    /// Ends a Subscription.
    Unsubscribe {
        /// Its Pattern.
        topic: String,
    },
    /// Sends a Publication.
    Publish {
        /// The Topic.
        topic: String,
        /// What to send; empty for a tombstone.
        payload: Bytes,
        /// The idempotency key.
        key: Option<Box<str>>,
    },
    /// Reads a page of history.
    History {
        /// The Topic.
        topic: String,
        /// Where to begin, or which error it is; none: with the oldest.
        from: Option<Result<From, Code>>,
        /// Most Publications.
        limit: u16,
    },
    /// Renews the Token.
    Token {
        /// The new one.
        token: Secret,
    },
    /// Asks for a sign of life.
    Ping,
    /// Answers one.
    Pong,
    /// Asks who is there.
    Presence,
}

/// One Pattern of a `subscribe`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The Pattern, unread.
    pub topic: String,
    /// Where to begin, or which error it is.
    pub from: Result<From, Code>,
    /// Whether a rate was asked for, which is not built.
    pub max_hz: bool,
}

/// Where a Subscription begins.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum From {
    /// With what comes.
    #[default]
    Live,
    /// With the newest value of each Topic.
    Last,
    /// After a Cursor: the one among these that belongs to the history.
    Cursor(Box<[Cursor]>),
    /// With the last n.
    LastN(u16),
    /// With what came since then.
    Since(Timestamp),
}

/// A Token in a Command: it cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Box<str>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("Secret(…)")
    }
}

/// How the node shows life on a quiet socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Heartbeat {
    /// Protocol pings, which a browser answers itself.
    #[default]
    Frame,
    /// Frames `ping`, so that the client's code sees life, too.
    Message,
}

/// The limits that a client should know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Limits {
    /// Largest payload of a Publication, in bytes.
    pub message_bytes: usize,
    /// Most Subscriptions of a Connection.
    pub subscriptions: usize,
    /// Commands a second, in the long run.
    pub commands_per_second: u32,
    /// Frames that may wait for a slow client, in bytes.
    pub outbox_bytes: usize,
    /// Most Topics of one snapshot.
    pub snapshot_topics: usize,
}

/// The answer to one ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    /// The Connection is open.
    Connected {
        /// Of the `connect`.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        /// Unique over nodes and restarts.
        connection: Box<str>,
        /// The node's name.
        node: Arc<str>,
        /// When the Token ends.
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "super::json::time")]
        expires_at: Option<Timestamp>,
        /// The node pings after this silence.
        heartbeat_ms: u64,
        /// What the client must keep to.
        limits: Limits,
    },
    /// A Subscription has begun.
    Subscribed {
        /// Of the `subscribe`.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        /// Its Pattern.
        topic: Pattern,
        /// The place after what is replayed now, where history keeps it.
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<Cursor>,
        /// Whether nothing after `from` is missing.
        recovered: bool,
        /// Why not.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<GapReason>,
        /// How many of the next `message` Pushes are this Subscription's alone.
        replayed: u32,
        /// Whether further parts follow.
        more: bool,
    },
    /// A Subscription has ended, as asked.
    Unsubscribed {
        /// Of the `unsubscribe`.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        /// Its Pattern.
        topic: Pattern,
    },
    /// A Publication was taken.
    Published {
        /// Of the `publish`.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        /// Where it went.
        topic: Topic,
        /// The Publication's own id.
        message_id: Box<str>,
        /// Its place, where history keeps it.
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<Cursor>,
        /// Whether history keeps it.
        stored: bool,
        /// Whether it was there already.
        duplicate: bool,
    },
    /// The Token was renewed.
    Token {
        /// Of the `token`.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        /// When the new one ends.
        #[serde(skip_serializing_if = "Option::is_none", serialize_with = "super::json::time")]
        expires_at: Option<Timestamp>,
    },
    /// A page of history.
    History {
        /// Of the `history`.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
        /// The Topic.
        topic: Topic,
        /// As they were pushed, oldest first.
        #[serde(serialize_with = "super::json::items")]
        #[cfg_attr(test, schemars(with = "Vec<super::Envelope>"))]
        items: Vec<Bytes>,
        /// Where the next page begins, if there is more.
        #[serde(skip_serializing_if = "Option::is_none")]
        next: Option<Cursor>,
    },
    /// A sign of life.
    Pong {
        /// Of the `ping`.
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<Id>,
    },
    /// The ask was refused.
    #[serde(serialize_with = "super::json::error")]
    #[cfg_attr(test, schemars(with = "super::schema::Refused"))]
    Error {
        /// Of the refused Command.
        id: Option<Id>,
        /// Which of its Topics, where that matters: as the client wrote it, cut to the length of a
        /// legal one, or as the node spells it once it is read.
        topic: Option<Box<str>>,
        /// What is wrong.
        error: Error,
    },
}

/// What the node sends unasked, besides Publications.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Push {
    /// A further part of what a Subscription missed.
    Replay {
        /// Its Pattern.
        topic: Pattern,
        /// How many of the next `message` Pushes are this Subscription's alone.
        replayed: u32,
        /// Whether further parts follow.
        more: bool,
    },
    /// A Subscription lost something.
    Gap {
        /// Its Pattern.
        topic: Pattern,
        /// Why.
        reason: GapReason,
        /// How many Publications, where that is known.
        #[serde(skip_serializing_if = "Option::is_none")]
        missed: Option<u64>,
    },
    /// The live Subscriptions to a Namespace have all up to here.
    Position {
        /// The Namespace.
        namespace: Box<str>,
        /// Its place.
        cursor: Cursor,
    },
    /// The node ended a Subscription.
    Unsubscribed {
        /// Its Pattern.
        topic: Pattern,
        /// Why.
        #[serde(serialize_with = "super::json::code")]
        code: super::Code,
    },
    /// The node's link to the others is lost, or whole again.
    Bus {
        /// Whether it is whole.
        connected: bool,
    },
    /// The node goes away: connect elsewhere at this time.
    GoingAway {
        /// From now.
        reconnect_in_ms: u64,
    },
    /// Asks for a sign of life.
    Ping,
}

/// How something came to be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// Retention was faster.
    HistoryTrimmed,
    /// The history is another one than the Cursor's.
    EpochChanged,
    /// Further behind than one read may go.
    ReplayLimit,
    /// The road between nodes was broken or overflowed.
    BusInterrupted,
}

impl GapReason {
    /// Every reason there is, each at its own place, with its word on the wire.
    pub const ALL: [(Self, &str); 4] = [
        (Self::HistoryTrimmed, "history_trimmed"),
        (Self::EpochChanged, "epoch_changed"),
        (Self::ReplayLimit, "replay_limit"),
        (Self::BusInterrupted, "bus_interrupted"),
    ];
}
