//! One open socket with its Session and its Outbox.
//!
//! It writes straight to the socket, as much as the kernel takes; what is left waits until the socket
//! is writable again, and then the Connection's own task goes on. It is kept small: a quiet one holds
//! no buffer.

use std::io::{self, IoSlice};
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use smallvec::SmallVec;
use socket2::SockRef;
use tokio::net::TcpStream;

use super::outbox::{Full, Outbox, Piece};
use super::socket::Reader;
use super::wheel::Slot;
use crate::admission::Pass;
use crate::protocol::frame::Heartbeat;
use crate::session::{Moment, Session};

/// Most pieces of one `writev`; the kernel takes 1,024.
const PIECES_MAX: usize = 512;
/// So many need no allocation.
const PIECES_INLINE: usize = 64;

/// One open socket.
pub(super) struct Connection {
    pub(super) serial: u32,
    pub(super) socket: TcpStream,
    pub(super) session: Session,
    pub(super) outbox: Outbox,
    pub(super) reader: Reader,
    /// Bytes of a frame that is not there in full: hardly ever any.
    pub(super) unread: Option<Box<BytesMut>>,
    /// The Connection's task, once it has run.
    pub(super) waker: Option<Waker>,
    pub(super) opened: Moment,
    /// When the last frame came.
    pub(super) heard: Moment,
    /// When the last bytes were taken by the socket.
    pub(super) said: Moment,
    /// Since when the socket has taken nothing of what waits.
    pub(super) blocked: Option<Moment>,
    /// When a ping went out that nothing has answered.
    pub(super) pinged: Option<Moment>,
    /// Where the wheel has it.
    pub(super) slot: Slot,
    pub(super) heartbeat: Heartbeat,
    /// Whether it is on the Shard's list of those to flush.
    pub(super) dirty: bool,
    /// Something did not fit into the Outbox: nothing more goes in, and it ends at the next flush.
    pub(super) overflowed: bool,
    /// When it is to have gone elsewhere.
    pub(super) leaves: Option<Moment>,
    /// The right to be here.
    pub(super) pass: Pass,
    /// It has ended, and says so until then.
    pub(super) goodbye: Option<Goodbye>,
}

/// The last moments of a Connection whose peer may still hear.
#[derive(Debug, Clone, Copy)]
pub(super) struct Goodbye {
    pub(super) until: Moment,
    /// Our side of the socket is shut; what comes is thrown away until the peer's is, too.
    pub(super) shut: bool,
}

/// The socket is broken.
#[derive(Debug)]
pub(super) struct Broken;

impl Connection {
    /// Queues a Frame. A full Outbox is flushed there and then, and has overflowed only if that gave
    /// no room.
    pub(super) fn push(
        &mut self,
        piece: &Piece,
        bytes_max: usize,
        now: Moment,
        writes: &mut u64,
    ) -> Result<(), Full> {
        if self.outbox.push(piece, bytes_max).is_ok() {
            return Ok(());
        }
        // A broken socket shows again to the Connection's task, which ends it.
        let _ = self.flush(now, writes);
        self.outbox.push(piece, bytes_max)
    }

    /// Writes what waits, up to what the socket takes. Once it takes no more, its task is woken when
    /// it does again; until then this does nothing.
    pub(super) fn flush(&mut self, now: Moment, writes: &mut u64) -> Result<(), Broken> {
        while !self.outbox.is_empty() {
            if self.blocked.is_some() && !self.writable()? {
                return Ok(());
            }
            *writes += 1;
            match self.write() {
                Ok(taken) => {
                    self.outbox.advance(taken);
                    self.said = now;
                    self.blocked = None;
                }
                Err(fault) if fault.kind() == io::ErrorKind::WouldBlock => {
                    if !self.writable()? {
                        self.blocked = self.blocked.or(Some(now));
                        return Ok(());
                    }
                }
                Err(_) => return Err(Broken),
            }
        }
        Ok(())
    }

    fn write(&self) -> io::Result<usize> {
        let slices: SmallVec<[IoSlice<'_>; PIECES_INLINE]> =
            self.outbox.slices().take(PIECES_MAX).collect();
        match slices.as_slice() {
            [one] => self.socket.try_write(one),
            many => self.socket.try_write_vectored(many),
        }
    }

    /// Whether the socket takes bytes; if not, its task is woken when it does. Before its task has
    /// run there is nobody to wake, and that first run flushes.
    fn writable(&self) -> Result<bool, Broken> {
        let Some(waker) = &self.waker else {
            return Ok(false);
        };
        match self.socket.poll_write_ready(&mut Context::from_waker(waker)) {
            Poll::Ready(Ok(())) => Ok(true),
            Poll::Ready(Err(_)) => Err(Broken),
            Poll::Pending => Ok(false),
        }
    }

    /// Since when its heartbeat counts silence: the peer's, or in mode `message` also ours.
    pub(super) fn quiet_since(&self) -> Moment {
        match self.heartbeat {
            Heartbeat::Frame => self.heard,
            Heartbeat::Message => self.heard.min(self.said),
        }
    }

    /// Remembers whom to wake.
    pub(super) fn woken_by(&mut self, cx: &Context<'_>) {
        if self.waker.as_ref().is_none_or(|known| !known.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
    }

    /// Shuts the socket, both ways or only ours. The peer may have been faster.
    pub(super) fn shut(&self, how: std::net::Shutdown) {
        let _ = SockRef::from(&self.socket).shutdown(how);
    }
}
