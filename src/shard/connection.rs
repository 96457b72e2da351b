//! One open socket with its Session and its Outbox.
//!
//! It writes straight to the socket, as much as the kernel takes; what is left waits until the socket
//! is writable again, and then the Connection's own task goes on. It is kept small: a quiet one holds
//! no buffer. That of a stream has a queue in place of both: HTTP has the socket, and takes from there.

use std::io::{self, IoSlice};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;
use socket2::SockRef;
use tokio::net::TcpStream;

use super::counts::Transport;
use super::millis;
use super::outbox::{Full, Outbox, Piece};
use super::socket::{self, Reader};
use super::stream::{ALIVE_AFTER, Queue};
use super::wheel::{SLOT_MS, Slot};
use crate::admission::Pass;
use crate::protocol::frame::Heartbeat;
use crate::protocol::stream::Item;
use crate::protocol::{Close, Envelope, Push, json};
use crate::session::{Moment, Session};
use crate::span::Begun;

/// Most pieces of one `writev`; the kernel takes 1,024.
const PIECES_MAX: usize = 512;
/// So many need no allocation.
const PIECES_INLINE: usize = 64;

/// One open socket.
pub(super) struct Connection {
    pub(super) serial: u32,
    pub(super) wire: Wire,
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
    /// Whether it is on the list of those who wait for room to ask for the next part of a replay.
    pub(super) hungry: bool,
    /// Something did not fit into the Outbox: nothing more goes in, and it ends at the next flush.
    pub(super) overflowed: bool,
    /// When it is to have gone elsewhere.
    pub(super) leaves: Option<Moment>,
    /// The right to be here.
    pub(super) pass: Pass,
    /// It has ended, and says so until then.
    pub(super) goodbye: Option<Goodbye>,
    /// What the Shard has counted as waiting for it.
    pub(super) weighed: u32,
    /// Something in its Outbox is followed.
    pub(super) followed: bool,
    /// The span of the request that it began with.
    pub(super) begun: Option<Begun>,
}

/// What was written to a socket.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Writes {
    pub(super) calls: u64,
    pub(super) bytes: u64,
}

/// What leads to the client.
pub(super) enum Wire {
    /// A socket that is ours.
    Socket(TcpStream),
    /// The body of an HTTP answer.
    Stream(Box<Queue>),
}

/// What goes to a client, as each kind of wire takes it.
pub(super) struct Frame {
    piece: Piece,
    /// None: no stream shows it.
    item: Option<Item>,
}

impl Frame {
    /// A Publication.
    pub(super) fn publication(envelope: &Arc<Envelope>) -> Self {
        let piece = Rc::new(envelope.framed(socket::text).clone());
        Self { piece, item: Some(Item::Publication(Arc::clone(envelope))) }
    }

    /// What the node says unasked.
    pub(super) fn push(push: Push) -> Self {
        let piece = Rc::new(socket::text(&json::push(&push)));
        Self { piece, item: Some(Item::Push(push)) }
    }

    /// What only a socket takes.
    pub(super) fn encoded(bytes: Bytes) -> Self {
        Self { piece: Rc::new(bytes), item: None }
    }

    /// A stream's sign of life.
    pub(super) fn alive() -> Self {
        Self { item: Some(Item::Alive), ..Self::encoded(Bytes::new()) }
    }
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
        frame: &Frame,
        bytes_max: usize,
        now: Moment,
        writes: &mut Writes,
    ) -> Result<(), Full> {
        if let Wire::Stream(queue) = &mut self.wire {
            let Some(item) = &frame.item else { return Ok(()) };
            if queue.is_empty() {
                self.blocked = Some(now);
            }
            return queue.push(item.clone(), bytes_max);
        }
        if self.outbox.push(&frame.piece, bytes_max).is_ok() {
            return Ok(());
        }
        // A broken socket shows again to the Connection's task, which ends it.
        let _ = self.flush(now, writes);
        self.outbox.push(&frame.piece, bytes_max)
    }

    /// What waits for the client.
    pub(super) fn waiting_bytes(&self) -> usize {
        match &self.wire {
            Wire::Socket(_) => self.outbox.bytes(),
            Wire::Stream(queue) => queue.bytes(),
        }
    }

    /// What waits now, in place of what was counted: by how much it is more.
    pub(super) fn weigh(&mut self) -> u64 {
        let waits = u32::try_from(self.waiting_bytes()).unwrap_or(u32::MAX);
        let counted = std::mem::replace(&mut self.weighed, waits);
        u64::from(waits).wrapping_sub(u64::from(counted))
    }

    /// How many Frames have left, and how many wait.
    pub(super) fn passed(&self) -> (u32, usize) {
        match &self.wire {
            Wire::Socket(_) => (self.outbox.gone(), self.outbox.len()),
            Wire::Stream(queue) => queue.passed(),
        }
    }

    /// How its client is reached.
    pub(super) const fn transport(&self) -> Transport {
        match &self.wire {
            Wire::Socket(_) => Transport::WebSocket,
            Wire::Stream(queue) => queue.transport(),
        }
    }

    /// Whether it is a stream that would have room if it only had its turn.
    pub(super) fn is_due(&self, bytes: usize) -> bool {
        match &self.wire {
            Wire::Socket(_) => false,
            Wire::Stream(queue) => queue.is_awaited() && queue.bytes() > bytes,
        }
    }

    /// Whether its client only listens.
    pub(super) const fn is_stream(&self) -> bool {
        matches!(self.wire, Wire::Stream(_))
    }

    /// Writes what waits, up to what the socket takes. Once it takes no more, its task is woken when
    /// it does again; until then this does nothing.
    pub(super) fn flush(&mut self, now: Moment, writes: &mut Writes) -> Result<(), Broken> {
        let Wire::Socket(_) = self.wire else {
            self.wake();
            return Ok(());
        };
        while !self.outbox.is_empty() {
            if self.blocked.is_some() && !self.writable()? {
                return Ok(());
            }
            writes.calls += 1;
            match self.write() {
                Ok(taken) => {
                    writes.bytes += taken as u64;
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
        let Wire::Socket(socket) = &self.wire else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let slices: SmallVec<[IoSlice<'_>; PIECES_INLINE]> =
            self.outbox.slices().take(PIECES_MAX).collect();
        match slices.as_slice() {
            [one] => socket.try_write(one),
            many => socket.try_write_vectored(many),
        }
    }

    /// Whether the socket takes bytes; if not, its task is woken when it does. Before its task has
    /// run there is nobody to wake, and that first run flushes.
    fn writable(&self) -> Result<bool, Broken> {
        let (Some(waker), Wire::Socket(socket)) = (&self.waker, &self.wire) else {
            return Ok(false);
        };
        match socket.poll_write_ready(&mut Context::from_waker(waker)) {
            Poll::Ready(Ok(())) => Ok(true),
            Poll::Ready(Err(_)) => Err(Broken),
            Poll::Pending => Ok(false),
        }
    }

    /// What is still to be said, when it has ended: what the socket takes at once still leaves, and
    /// behind that the reason.
    pub(super) fn say_goodbye(&mut self, close: &Close, now: Moment, writes: &mut Writes) {
        let Some(status) = close.status() else {
            return;
        };
        if let Wire::Stream(queue) = &mut self.wire {
            return queue.say_goodbye(close);
        }
        // If the socket is broken, so it is for the goodbye.
        let _ = self.flush(now, writes);
        self.outbox.drop_unsent();
        let goodbye = Rc::new(socket::close(status, close.reason()));
        let _ = self.outbox.push(&goodbye, usize::MAX);
    }

    /// Since when its heartbeat counts silence: the peer's, or in mode `message` also ours; of a
    /// stream ours alone, and while something waits it is not silence.
    pub(super) fn quiet_since(&self) -> Moment {
        match (&self.wire, self.heartbeat) {
            (Wire::Stream(_), _) => self.blocked.unwrap_or(self.said).max(self.said),
            (Wire::Socket(_), Heartbeat::Frame) => self.heard,
            (Wire::Socket(_), Heartbeat::Message) => self.heard.min(self.said),
        }
    }

    /// How long that silence may be, if it may be so long for sockets. The wheel looks up to two
    /// slots late.
    pub(super) fn silence_ms(&self, sockets: u64) -> u64 {
        match &self.wire {
            Wire::Socket(_) => sockets,
            Wire::Stream(_) => millis(ALIVE_AFTER) - 2 * SLOT_MS,
        }
    }

    /// Lets its task, or HTTP, look again.
    pub(super) fn wake(&self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
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
        if let Wire::Socket(socket) = &self.wire {
            let _ = SockRef::from(socket).shutdown(how);
        }
    }
}
