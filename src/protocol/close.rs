//! Why a Connection ends: the single reason, and whether and when to come back.
//!
//! Each death of a Connection is one [`Close`]. Where the peer can still hear, it becomes a close
//! frame whose reason is a small JSON object that decides for the client; where it cannot, it is
//! only counted and logged.

use std::fmt::Write as _;

use super::error::{Code, Retry};
use super::limit::Limit;

/// Longest reason of a close frame, in bytes: a control frame holds 125, two are the status.
pub const REASON_BYTES_MAX: usize = 123;

/// The single reason why a Connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Close {
    /// One of ours, with the status of the table.
    Refused(Code),
    /// The same, and the time to come back.
    Later(Code, u64),
    /// The peer broke the framing or sent the wrong kind of frame.
    Framing(Framing),
    /// A frame or message over this bound.
    TooBig(Limit),
    /// The process ends.
    NodeEnds,
    /// The peer said goodbye, with this status if it gave one.
    ByPeer(Option<u16>),
    /// The socket ended without a goodbye.
    Lost,
    /// Cut on purpose without a goodbye, as a broken network would.
    Cut,
}

/// How the framing was broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Reserved bits, no mask, bad order, opcode or length: 1002.
    Protocol,
    /// A binary frame where text is spoken: 1003.
    Kind,
    /// Text that is not UTF-8: 1007.
    Utf8,
}

impl Close {
    /// How many texts there are.
    pub const COUNT: usize = Code::ALL.len() + 4;

    /// Every text there is, by place.
    pub fn texts() -> impl Iterator<Item = &'static str> {
        let own = [Self::NodeEnds, Self::ByPeer(None), Self::Lost, Self::Cut];
        Code::ALL.into_iter().map(Code::text).chain(own.map(|close| close.text()))
    }

    /// The place of its text.
    #[must_use]
    pub const fn place(&self) -> usize {
        match self {
            Self::Refused(code) | Self::Later(code, _) => *code as usize,
            Self::Framing(_) => Code::BadMessage as usize,
            Self::TooBig(_) => Code::TooBig as usize,
            Self::NodeEnds => Code::ALL.len(),
            Self::ByPeer(_) => Code::ALL.len() + 1,
            Self::Lost => Code::ALL.len() + 2,
            Self::Cut => Code::ALL.len() + 3,
        }
    }

    /// The status of the close frame; none where the peer gets none.
    #[must_use]
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(code) | Self::Later(code, _) => match code.row().close {
                Some(status) => Some(status),
                None => Some(1011),
            },
            Self::Framing(Framing::Protocol) => Some(1002),
            Self::Framing(Framing::Kind) => Some(1003),
            Self::Framing(Framing::Utf8) => Some(1007),
            Self::TooBig(_) => Some(1009),
            Self::NodeEnds => Some(1001),
            Self::ByPeer(Some(status)) => Some(*status),
            Self::ByPeer(None) => Some(1000),
            Self::Lost | Self::Cut => None,
        }
    }

    /// The stable text, for the reason, the log and the counter.
    #[must_use]
    pub const fn text(&self) -> &'static str {
        match self {
            Self::Refused(code) | Self::Later(code, _) => code.text(),
            Self::Framing(_) => Code::BadMessage.text(),
            Self::TooBig(_) => Code::TooBig.text(),
            Self::NodeEnds => "node_ends",
            Self::ByPeer(_) => "by_peer",
            Self::Lost => "lost",
            Self::Cut => "cut",
        }
    }

    /// The bound that it stands for, where that is one alone and nothing else has told it: an `error`
    /// says its bound itself, and so does whoever closes for one of several.
    #[must_use]
    pub const fn limit(&self) -> Option<Limit> {
        match self {
            Self::TooBig(limit) => Some(*limit),
            Self::Refused(Code::AuthTimeout) => Some(Limit::AuthTimeout),
            Self::Refused(Code::BadMessage) => Some(Limit::BadMessages),
            Self::Refused(Code::NoPong) => Some(Limit::PongTimeout),
            Self::Later(Code::ConnectionLimit, _) => Some(Limit::UserConnections),
            _ => None,
        }
    }

    /// The reason of the close frame, at most [`REASON_BYTES_MAX`]; empty where there is nothing to
    /// decide.
    #[must_use]
    pub fn reason(&self) -> String {
        let mut out = String::new();
        let (retry, ms) = match self {
            Self::Refused(code) => (matches!(code.row().retry, Retry::Yes), None),
            Self::Later(code, ms) => (matches!(code.row().retry, Retry::Yes), Some(ms)),
            Self::Framing(_) | Self::TooBig(_) => (false, None),
            Self::NodeEnds => (true, None),
            Self::ByPeer(_) | Self::Lost | Self::Cut => return out,
        };
        // Writing into a String cannot fail.
        let _ = write!(out, r#"{{"code":"{}","retry":{retry}"#, self.text());
        if let Some(ms) = ms {
            let _ = write!(out, r#","ms":{ms}"#);
        }
        out.push('}');
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_fits_a_control_frame() {
        for code in Code::ALL {
            let reason = Close::Later(code, u64::MAX).reason();
            assert!(reason.len() <= REASON_BYTES_MAX, "{reason}");
        }
    }

    #[test]
    fn each_close_has_the_place_of_its_text() {
        let texts: Vec<_> = Close::texts().collect();
        assert_eq!(texts.len(), Close::COUNT);
        let framing = [Framing::Protocol, Framing::Kind, Framing::Utf8].map(Close::Framing);
        let own = [Close::NodeEnds, Close::ByPeer(Some(1000)), Close::Lost, Close::Cut];
        let codes = Code::ALL.map(Close::Refused);
        for close in codes.iter().chain(&framing).chain(&own).chain(&[Close::TooBig(Limit::Feeds)])
        {
            assert_eq!(texts[close.place()], close.text(), "{close:?}");
        }
    }

    #[test]
    fn a_reason_decides() {
        assert_eq!(
            Close::Later(Code::SlowConsumer, 1200).reason(),
            r#"{"code":"slow_consumer","retry":true,"ms":1200}"#
        );
        assert_eq!(
            Close::Framing(Framing::Utf8).reason(),
            r#"{"code":"bad_message","retry":false}"#
        );
    }
}
