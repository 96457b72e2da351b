//! The task of one Connection: reads what its client sends, and goes on writing when the socket takes
//! bytes again.
//!
//! A panic in here is the Connection's own and ends it alone.

use std::cell::RefCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::BytesMut;

use super::connection::{Frame, Wire};
use super::socket::{self, Incoming};
use super::{Key, Shard};
use crate::protocol::{Close, Code, Limit, json};
use crate::session::Input;

/// Reads from one socket before others get a turn.
pub(super) const READS_PER_TURN: usize = 16;
/// Room for one read. Shared by all Connections of the Shard.
const READ_BYTES: usize = 16 * 1_024;

/// The task of one Connection: reads, and goes on writing when the socket takes bytes again.
pub(super) struct Drive {
    pub(super) shard: Rc<RefCell<Shard>>,
    pub(super) key: Key,
}

impl Future for Drive {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let key = self.key;
        let polled = catch_unwind(AssertUnwindSafe(|| self.shard.borrow_mut().poll(key, cx)));
        polled.unwrap_or_else(|_| {
            self.shard.borrow_mut().panicked(key);
            cx.waker().wake_by_ref();
            Poll::Pending
        })
    }
}

impl Shard {
    pub(super) fn poll(&mut self, key: Key, cx: &mut Context<'_>) -> Poll<()> {
        let Some(connection) = self.get(key) else {
            return Poll::Ready(());
        };
        connection.woken_by(cx);
        if connection.goodbye.is_none() {
            self.poll_read(key, cx);
        }
        self.flush(key, self.now().moment);
        let polled = self.poll_goodbye(key, cx);
        self.settle();
        polled
    }

    pub(super) fn poll_read(&mut self, key: Key, cx: &mut Context<'_>) {
        let mut bytes = std::mem::take(&mut self.scratch);
        let more = (0..READS_PER_TURN).all(|_| self.read_once(key, cx, &mut bytes));
        self.scratch = bytes;
        if more {
            cx.waker().wake_by_ref();
        }
    }

    /// Reads what one call gives. Whether there may be more.
    pub(super) fn read_once(
        &mut self,
        key: Key,
        cx: &mut Context<'_>,
        bytes: &mut BytesMut,
    ) -> bool {
        let Some(connection) = self.get(key).filter(|one| one.goodbye.is_none()) else {
            return false;
        };
        let Wire::Socket(socket) = &connection.wire else {
            return false;
        };
        bytes.clear();
        bytes.reserve(READ_BYTES);
        let read = match socket.poll_read_ready(cx) {
            Poll::Ready(ready) => ready.and_then(|()| socket.try_read_buf(bytes)),
            Poll::Pending => return false,
        };
        match read {
            Ok(1..) => self.read(key, bytes),
            Err(fault) if fault.kind() == std::io::ErrorKind::WouldBlock => {}
            Ok(0) | Err(_) => self.end(key, Close::Lost),
        }
        true
    }

    /// Takes every frame that is there in full, one by one: each may be the last. What is left of
    /// `bytes` is copied, so that half a frame costs no more than that.
    pub(super) fn read(&mut self, key: Key, bytes: &mut BytesMut) {
        let now = self.now().moment;
        let limits = self.world.config.socket;
        let Some(connection) = self.get(key) else {
            return;
        };
        let mut unread = connection.unread.take();
        let waited = unread.is_some();
        let bytes = match &mut unread {
            Some(unread) => {
                unread.extend_from_slice(bytes);
                &mut **unread
            }
            None => bytes,
        };
        let all = bytes.len();
        while let Some(connection) = self.get(key).filter(|one| one.goodbye.is_none()) {
            let incoming = match connection.reader.next(&limits, now, bytes) {
                Ok(Some(incoming)) => incoming,
                Ok(None) if waited && bytes.len() == all => {
                    connection.unread = unread;
                    return;
                }
                Ok(None) => {
                    let half = (!bytes.is_empty()).then(|| Box::new(BytesMut::from(&bytes[..])));
                    connection.unread = half;
                    return;
                }
                Err(close) => {
                    if let Close::Later(Code::RateLimited, _) = close {
                        self.counts.hit(Limit::ControlFrames);
                    }
                    return self.end(key, close);
                }
            };
            connection.heard = now;
            connection.pinged = None;
            match incoming {
                Incoming::Text(text) => self.handle(key, Input::Command(json::decode(&text))),
                Incoming::Ping(payload) => self.send(key, &Frame::encoded(socket::pong(&payload))),
                Incoming::Pong | Incoming::Fragment => {}
                Incoming::Close(status) => self.end(key, Close::ByPeer(status)),
            }
        }
    }
}
