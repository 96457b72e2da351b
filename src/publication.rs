//! One immutable message on one Topic.
//!
//! A Publication is made by the publisher, travels through the Bus, and is never changed again. A
//! payload of no bytes is a tombstone: its Topic has no value any more.

use std::sync::Arc;

use bytes::Bytes;

use crate::topic::Topic;

/// One message on one Topic, as every node sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Where it was sent.
    pub topic: Topic,
    /// The publisher's id, or one made for it.
    pub id: Box<str>,
    /// When it was taken.
    pub time: Timestamp,
    /// The subject of the Token that published it; none for API keys and anonymous clients.
    pub user: Option<Arc<str>>,
    /// What was sent, any bytes.
    pub payload: Bytes,
    /// The trace that it belongs to.
    pub trace: Option<Trace>,
}

/// A W3C trace context, as it came and as it travels on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// `traceparent`
    pub parent: Box<str>,
    /// `tracestate`
    pub state: Option<Box<str>>,
}

/// Longest `tracestate` that travels on, in bytes.
const TRACE_STATE_BYTES_MAX: usize = 512;

impl Trace {
    /// Reads both headers; none if the first is no trace context.
    #[must_use]
    pub fn read(parent: &str, state: Option<&str>) -> Option<Self> {
        let lower_hex = |part: &str, length| {
            part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let parts: Vec<&str> = parent.split('-').collect();
        let &[version, trace, span, flags] = parts.as_slice() else {
            return None;
        };
        let sound = lower_hex(version, 2)
            && version != "ff"
            && lower_hex(trace, 32)
            && lower_hex(span, 16)
            && lower_hex(flags, 2);
        let printable = |text: &&str| {
            (1..=TRACE_STATE_BYTES_MAX).contains(&text.len())
                && text.bytes().all(|b| (0x20..0x7f).contains(&b))
        };
        sound
            .then(|| Self { parent: parent.into(), state: state.filter(printable).map(Into::into) })
    }
}

impl Publication {
    /// Whether it takes its Topic's value away.
    #[must_use]
    pub fn is_tombstone(&self) -> bool {
        self.payload.is_empty()
    }
}

/// What a client wants published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Where to.
    pub topic: Topic,
    /// What; empty for a tombstone.
    pub payload: Bytes,
    /// The idempotency key.
    pub key: Option<Box<str>>,
    /// The trace that it belongs to.
    pub trace: Option<Trace>,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Where it went.
    pub topic: Topic,
    /// The Publication's id.
    pub id: Box<str>,
    /// Its place, where history keeps it.
    pub cursor: Option<Cursor>,
    /// Whether history keeps it.
    pub stored: bool,
    /// Whether it was there already.
    pub duplicate: bool,
}

/// The identity of the history of a Namespace: one that was wiped or made anew has another. 30 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Epoch(u32);

impl Epoch {
    /// The lowest 30 bits of a number.
    #[must_use]
    pub const fn new(bits: u32) -> Self {
        Self(bits & 0x3fff_ffff)
    }

    /// The 30 bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

/// A place in the history of a Namespace: everything up to here has been seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cursor {
    /// Whose history.
    pub epoch: Epoch,
    /// The Offset of the last Publication seen; 0 before the first.
    pub offset: u64,
    /// The low bits of the time at which that one was stored, where it is known: a history that lost
    /// its end uses Offsets again.
    pub check: Option<u16>,
}

impl Cursor {
    /// The place of a Publication stored at this time.
    #[must_use]
    pub const fn at(epoch: Epoch, offset: u64, time: Timestamp) -> Self {
        Self { epoch, offset, check: Some(check(time)) }
    }

    /// Whether what is stored at this Offset, at this time, is what the Cursor stood at.
    #[must_use]
    pub fn fits(&self, time: Timestamp) -> bool {
        self.check.is_none_or(|check| check == self::check(time))
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the low 16 bits are what is wanted")]
const fn check(time: Timestamp) -> u16 {
    time.0 as u16
}

/// A moment on the wall clock, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub u64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_context_is_taken_whole_or_not_at_all() {
        let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert_eq!(&*Trace::read(parent, Some("a=b")).unwrap().parent, parent);
        assert_eq!(Trace::read(parent, Some("a\r\nb")).unwrap().state, None);
        let upper = parent.to_uppercase();
        for bad in ["", "00", &parent[1..], &upper, &parent.replacen("00", "ff", 1)] {
            assert_eq!(Trace::read(bad, None), None, "{bad}");
        }
    }
}
