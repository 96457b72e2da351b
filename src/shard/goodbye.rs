//! The one exit: how a Connection ends, whatever the reason.
//!
//! Out of the table, a close frame if the peer can hear it, our side of the socket shut, a moment for
//! the peer to shut its own, and everything freed.

use std::net::Shutdown;
use std::task::{Context, Poll};

use tracing::info;

use super::connection::{Goodbye, Wire, Writes};
use super::drive::READS_PER_TURN;
use super::{Key, Shard};
use crate::protocol::Close;
use crate::protocol::error::Code;
use crate::session::Moment;
use crate::span::Begun;

/// How long a goodbye may take: to leave, and for the peer to shut its side.
const GOODBYE_MS: u64 = 1_000;

/// When the client at this place of so many, counted from 0, is to leave a node that goes away: in the
/// middle of its part of the window.
#[must_use]
pub const fn slot(window_ms: u64, place: u64, all: u64) -> u64 {
    window_ms * (2 * place + 1) / (2 * all)
}

impl Shard {
    /// The one exit: out of the table, a goodbye if the peer can hear it, one line, one count.
    pub(super) fn end(&mut self, key: Key, close: Close) {
        let now = self.now().moment;
        let Some(connection) = self.get(key).filter(|one| one.goodbye.is_none()) else {
            return;
        };
        let mut outputs = Vec::new();
        let user: Option<Box<str>> = connection.session.user().map(Into::into);
        let lasted_ms = now.0 - connection.opened.0;
        connection.session.end(&mut outputs);
        connection.unread = None;
        let (followed, begun) = (connection.followed, connection.begun.take());
        connection.goodbye = Some(Goodbye { until: Moment(now.0 + GOODBYE_MS), shut: false });
        let mut writes = Writes::default();
        connection.say_goodbye(&close, now, &mut writes);
        self.count_writes(writes);
        self.counts.close(&close);
        if followed {
            self.lose_followed(key);
        }
        if let Some(limit) = close.limit() {
            self.counts.hit(limit);
        }
        for output in outputs {
            self.carry_out(key, output);
        }
        let _begun = begun.as_ref().map(Begun::enter);
        info!(
            connection.id = %self.name(key),
            connection.user = user.as_deref().map(cut),
            connection.lasted_ms = lasted_ms,
            close.code = close.text(),
            close.status = close.status(),
            "Connection ended"
        );
        if close.status().is_none() {
            return self.remove(key);
        }
        self.flush(key, now);
        self.schedule(key);
        // Its task shuts our side once the goodbye is out.
        if let Some(connection) = self.get(key) {
            connection.wake();
        }
    }

    /// The socket broke while writing.
    pub(super) fn lose(&mut self, key: Key) {
        self.end(key, Close::Lost);
        self.remove(key);
    }

    /// Something in the Connection's own code panicked; if it does so again, there is no goodbye.
    pub(super) fn panicked(&mut self, key: Key) {
        self.counts.panics.add(1);
        if self.get(key).is_some_and(|one| one.goodbye.is_none()) {
            self.end(key, Close::Refused(Code::Internal));
        } else {
            self.remove(key);
        }
        self.settle();
    }

    /// After the goodbye: shuts our side, and throws away what comes until the peer shuts its own.
    pub(super) fn poll_goodbye(&mut self, key: Key, cx: &mut Context<'_>) -> Poll<()> {
        let Some(connection) = self.get(key) else {
            return Poll::Ready(());
        };
        let Some(goodbye) = &mut connection.goodbye else {
            return Poll::Pending;
        };
        if !connection.outbox.is_empty() {
            return Poll::Pending;
        }
        if !std::mem::replace(&mut goodbye.shut, true) {
            connection.shut(Shutdown::Write);
        }
        let Wire::Socket(socket) = &connection.wire else {
            return Poll::Pending;
        };
        let mut thrown_away = [0; 1_024];
        for _ in 0..READS_PER_TURN {
            match socket.poll_read_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(_)) => break,
                Poll::Ready(Ok(())) => {}
            }
            match socket.try_read(&mut thrown_away) {
                Ok(1..) => {}
                Err(fault) if fault.kind() == std::io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => break,
            }
        }
        self.remove(key);
        Poll::Ready(())
    }

    /// Frees what a Connection that has ended still holds.
    pub(super) fn remove(&mut self, key: Key) {
        if self.get(key).is_none() {
            return;
        }
        let connection = self.connections.remove(key.index as usize);
        self.counts.outbox_bytes.sub(connection.weighed.into());
        self.counts.reached[connection.transport() as usize].connections.sub(1);
        connection.shut(Shutdown::Both);
        if let Some(waker) = connection.waker {
            // Its task finds it gone, and ends.
            waker.wake();
        }
    }
}

/// A client's string, as long as a log should hold it.
fn cut(text: &str) -> &str {
    text.char_indices().nth(128).map_or(text, |(at, _)| text.get(..at).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::slot;
    use proptest::prelude::*;

    proptest! {
        /// Each of them has a part of the window for itself.
        #[test]
        fn slots_are_evenly_spread(window in 1_000..90_000_u64, all in 1..500_u64) {
            for place in 0..all {
                let (begins, ends) = (window * place / all, window * (place + 1) / all);
                prop_assert!((begins..ends).contains(&slot(window, place, all)));
            }
        }
    }
}
