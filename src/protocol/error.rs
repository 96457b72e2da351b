//! What can go wrong, in the words that the outside hears.
//!
//! One table for HTTP, sockets and clients: each [`Code`] has its text, its HTTP status, the status
//! that closes a socket, and whether trying again can help. The texts are a public contract: they
//! only grow. The rooms have errors of their own that carry data; here these become words.

use std::borrow::Cow;

use super::limit::Limit;
use crate::topic::TopicError;

/// What an error repeats of a text that could not be read.
const SHOWN_CHARACTERS: usize = 64;

/// A stable name for one thing that went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// Not readable as what it should be.
    BadMessage,
    /// No Topic, or no Pattern, or one that may not stand there.
    InvalidTopic,
    /// A start that is not in the list, or not for this ask.
    InvalidFrom,
    /// A Cursor that cannot be read.
    InvalidCursor,
    /// Subprotocols were offered, and none is known.
    SubprotocolRequired,
    /// That Pattern is subscribed on this Connection.
    AlreadySubscribed,
    /// That Pattern is not, or no longer.
    NotSubscribed,
    /// A Token or key is needed, or this one is not good.
    Unauthenticated,
    /// The Token was good once.
    TokenExpired,
    /// No Grant covers it.
    Forbidden,
    /// The page's Origin is not among those allowed.
    Origin,
    /// The Token, or its user, was turned away.
    Revoked,
    /// No such route, or not with this method.
    NotFound,
    /// A payload, batch or frame over its bound.
    TooBig,
    /// More Topics than one answer may hold.
    TooManyTopics,
    /// More Subscriptions than one Connection may have.
    TooManySubscriptions,
    /// Faster than allowed.
    RateLimited,
    /// More Connections than one user may have.
    ConnectionLimit,
    /// Not connected in time.
    AuthTimeout,
    /// The client takes its Frames too slowly.
    SlowConsumer,
    /// The client has not answered.
    NoPong,
    /// Known, but not built, or not for this Namespace.
    NotSupported,
    /// The node is at one of its bounds.
    Overloaded,
    /// The node is going away.
    Draining,
    /// The Bus is not there; nothing was taken.
    BusUnavailable,
    /// The Bus did not say whether it took it.
    OutcomeUnknown,
    /// History has no room.
    StorageFull,
    /// A fault of the node's own.
    Internal,
}

/// Whether the same ask can succeed later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// Never as it stands.
    No,
    /// Later.
    Yes,
    /// With another Token.
    FreshToken,
    /// If it carries an idempotency key.
    WithKey,
}

/// One row of the table.
#[derive(Debug)]
pub struct Row {
    /// The stable text.
    pub text: &'static str,
    /// The HTTP status of an answer, where one can be.
    pub status: Option<u16>,
    /// The status with which a socket closes for it, where it does.
    pub close: Option<u16>,
    /// Whether trying again can help.
    pub retry: Retry,
}

impl Code {
    /// Every code there is, in the order of the table.
    pub const ALL: [Self; 28] = [
        Self::BadMessage,
        Self::InvalidTopic,
        Self::InvalidFrom,
        Self::InvalidCursor,
        Self::SubprotocolRequired,
        Self::AlreadySubscribed,
        Self::NotSubscribed,
        Self::Unauthenticated,
        Self::TokenExpired,
        Self::Forbidden,
        Self::Origin,
        Self::Revoked,
        Self::NotFound,
        Self::TooBig,
        Self::TooManyTopics,
        Self::TooManySubscriptions,
        Self::RateLimited,
        Self::ConnectionLimit,
        Self::AuthTimeout,
        Self::SlowConsumer,
        Self::NoPong,
        Self::NotSupported,
        Self::Overloaded,
        Self::Draining,
        Self::BusUnavailable,
        Self::OutcomeUnknown,
        Self::StorageFull,
        Self::Internal,
    ];

    /// Its row in the table.
    #[must_use]
    #[rustfmt::skip]
    pub const fn row(self) -> Row {
        use Retry::{FreshToken, No, WithKey, Yes};
        let (text, status, close, retry) = match self {
            Self::BadMessage => ("bad_message", Some(400), Some(4400), No),
            Self::InvalidTopic => ("invalid_topic", Some(400), None, No),
            Self::InvalidFrom => ("invalid_from", Some(400), None, No),
            Self::InvalidCursor => ("invalid_cursor", Some(400), None, No),
            Self::SubprotocolRequired => ("subprotocol_required", Some(400), None, No),
            Self::AlreadySubscribed => ("already_subscribed", None, None, No),
            Self::NotSubscribed => ("not_subscribed", None, None, No),
            Self::Unauthenticated => ("unauthenticated", Some(401), Some(4401), FreshToken),
            Self::TokenExpired => ("token_expired", Some(401), Some(4401), FreshToken),
            Self::Forbidden => ("forbidden", Some(403), Some(4403), No),
            Self::Origin => ("origin", Some(403), Some(4403), No),
            Self::Revoked => ("revoked", Some(403), Some(4403), No),
            Self::NotFound => ("not_found", Some(404), None, No),
            Self::TooBig => ("too_big", Some(413), Some(1009), No),
            Self::TooManyTopics => ("too_many_topics", Some(422), None, No),
            Self::TooManySubscriptions => ("too_many_subscriptions", Some(422), Some(4413), No),
            Self::RateLimited => ("rate_limited", Some(429), Some(4429), Yes),
            Self::ConnectionLimit => ("connection_limit", Some(429), Some(4429), Yes),
            Self::AuthTimeout => ("auth_timeout", None, Some(4408), No),
            Self::SlowConsumer => ("slow_consumer", None, Some(4408), Yes),
            Self::NoPong => ("no_pong", None, Some(4408), Yes),
            Self::NotSupported => ("not_supported", Some(501), None, No),
            Self::Overloaded => ("overloaded", Some(503), Some(1013), Yes),
            Self::Draining => ("draining", Some(503), Some(1012), Yes),
            Self::BusUnavailable => ("bus_unavailable", Some(503), None, Yes),
            Self::OutcomeUnknown => ("outcome_unknown", Some(504), None, WithKey),
            Self::StorageFull => ("storage_full", Some(507), None, Yes),
            Self::Internal => ("internal", Some(500), Some(1011), Yes),
        };
        Row { text, status, close, retry }
    }

    /// The stable text.
    #[must_use]
    pub const fn text(self) -> &'static str {
        self.row().text
    }
}

/// An answer that is not what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Which kind.
    pub code: Code,
    /// What a developer needs to know to mend it. Never a Token or key.
    pub message: Cow<'static, str>,
    /// When to come back, if that is known.
    pub retry_after_ms: Option<u64>,
    /// Whether the ask carried an idempotency key, which makes some errors safe to retry.
    pub keyed: bool,
    /// The bound that was met, if one was. Clients do not hear it.
    pub limit: Option<Limit>,
}

impl Error {
    /// An error of this kind, in these words.
    pub fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), retry_after_ms: None, keyed: false, limit: None }
    }

    /// The error of a text that is no Topic or Pattern.
    #[must_use]
    pub fn invalid_topic(text: &str, why: &TopicError) -> Self {
        let shown: String = text.chars().take(SHOWN_CHARACTERS).collect();
        Self::new(Code::InvalidTopic, format!("{shown:?} is no topic or pattern: {why}"))
    }

    /// The same, with a time to come back.
    #[must_use]
    pub const fn after_ms(mut self, ms: u64) -> Self {
        self.retry_after_ms = Some(ms);
        self
    }

    /// The same, for meeting this bound.
    #[must_use]
    pub const fn at(mut self, limit: Limit) -> Self {
        self.limit = Some(limit);
        self
    }

    /// Whether sending the same again can help.
    #[must_use]
    pub const fn retryable(&self) -> bool {
        match self.code.row().retry {
            Retry::Yes => true,
            Retry::No | Retry::FreshToken => false,
            Retry::WithKey => self.keyed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_code_stands_once_and_under_its_own_text() {
        let texts: BTreeSet<_> = Code::ALL.iter().map(|code| code.text()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
    }
}
