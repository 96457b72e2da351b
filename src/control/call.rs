//! What stands in calls and their answers: JSON, as the nodes of two releases may read each other's.

use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{Listing, Target};
use crate::publication::Timestamp;
use crate::topic::Topic;

/// What every node is to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "snake_case")]
pub(super) enum Command {
    Disconnect {
        whom: Named,
        /// When it was asked for, in milliseconds since 1970.
        #[serde(with = "millis")]
        at: Timestamp,
    },
    Topics {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prefix: Option<Topic>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Topic>,
        limit: usize,
    },
}

/// Who is to go.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Named {
    User(Box<str>),
    TokenId(Box<str>),
    Connection(Box<str>),
}

/// What one node answers.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Answer<T> {
    pub(super) node: Box<str>,
    #[serde(flatten)]
    pub(super) said: T,
}

/// Connections that have ended there.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ended {
    pub(super) closed: usize,
}

/// Topics that are subscribed to there.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Listed {
    pub(super) topics: Vec<Topic>,
}

impl Command {
    pub(super) fn disconnect(target: &Target, at: Timestamp) -> Self {
        let whom = match target {
            Target::User(subject) => Named::User((**subject).into()),
            Target::Token(id) => Named::TokenId((**id).into()),
            Target::Connection(name) => Named::Connection((**name).into()),
        };
        Self::Disconnect { whom, at }
    }

    pub(super) fn topics(Listing { prefix, after, limit }: &Listing) -> Self {
        Self::Topics { prefix: prefix.clone(), after: after.clone(), limit: *limit }
    }
}

impl From<Named> for Target {
    fn from(named: Named) -> Self {
        match named {
            Named::User(subject) => Self::User(Arc::from(subject)),
            Named::TokenId(id) => Self::Token(Arc::from(id)),
            Named::Connection(name) => Self::Connection(Arc::from(name)),
        }
    }
}

pub(super) fn write(said: &impl Serialize) -> Bytes {
    // Texts and numbers are always JSON.
    serde_json::to_vec(said).unwrap_or_default().into()
}

pub(super) fn read<T: DeserializeOwned>(payload: &[u8]) -> Option<T> {
    serde_json::from_slice(payload).ok()
}

mod millis {
    use serde::{Deserialize as _, Deserializer, Serializer};

    use crate::publication::Timestamp;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
    pub(super) fn serialize<S: Serializer>(time: &Timestamp, out: S) -> Result<S::Ok, S::Error> {
        out.serialize_u64(time.0)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        u64::deserialize(from).map(Timestamp)
    }
}
