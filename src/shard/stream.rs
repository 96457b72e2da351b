//! A Connection whose client only listens: the body of an HTTP answer.
//!
//! HTTP keeps the socket. It holds a [`Stream`] and takes from it, on the Shard's own thread, what the
//! socket has room for; the Connection ends when HTTP lets go of it. What waits is kept as it is and
//! written only when it is taken, so an `id:` says what was sent and not what was queued.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};

use super::connection::Wire;
use super::counts::Transport;
use super::outbox::{FRAME_OVERHEAD_BYTES, Full, Outbox};
use super::{Key, SHARD, Shard};
use crate::admission::Pass;
use crate::protocol::stream::{Encoder, Format, HEAD_BYTES_MAX, Item};
use crate::protocol::{Close, Code};
use crate::session::Input;
use crate::session::stream::Streaming;

/// Most bytes taken at once. HTTP writes when it has 8 KiB: with one more chunk its buffer, which it keeps,
/// has not grown beyond 16.
const CHUNK_BYTES: usize = 7 * 1_024;
/// Silence before a sign of life, of which clients are told that it comes after 12 s. A socket that does not
/// take it is given up by the kernel 20 s after its first retry: that must all be over after 32 s.
pub(super) const ALIVE_AFTER: Duration = Duration::from_secs(11);
/// What any other item than a Publication counts for, besides its overhead: a Pattern, and some.
const PUSH_BYTES: usize = 256;

/// A stream that HTTP wants.
pub struct Opening {
    /// How it is written.
    pub format: Format,
    /// When its reader should come back, if it is cut off without another word.
    pub retry_ms: u64,
    /// The right to be here.
    pub pass: Pass,
    /// What it is to bring.
    pub streaming: Streaming,
}

/// HTTP's end of a stream. The Connection ends when it is dropped.
pub struct Stream {
    shard: Weak<RefCell<Shard>>,
    key: Key,
}

/// Opens a stream on this thread's Shard, if there is one.
#[must_use]
pub fn open(opening: Opening) -> Option<Stream> {
    SHARD.with(|shard| Stream::new(shard.get()?, opening))
}

impl Stream {
    pub(super) fn new(shard: &Rc<RefCell<Shard>>, opening: Opening) -> Option<Self> {
        let key = shard.borrow_mut().open(opening)?;
        Some(Self { shard: Rc::downgrade(shard), key })
    }

    /// Waits until all that it is to bring has begun, or as much as there is room for.
    ///
    /// # Errors
    /// It has ended before that.
    pub async fn begun(&self) -> Result<(), Close> {
        poll_fn(|cx| match self.shard.upgrade() {
            Some(shard) => shard.borrow_mut().poll_begun(self.key, cx),
            None => Poll::Ready(Err(Close::NodeEnds)),
        })
        .await
    }

    /// The next bytes; none: it has ended.
    pub fn poll_next(&self, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        match self.shard.upgrade() {
            Some(shard) => shard.borrow_mut().poll_next(self.key, cx),
            None => Poll::Ready(None),
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // Whoever holds the Shard now has panicked, and the process ends.
        if let Some(shard) = self.shard.upgrade()
            && let Ok(mut shard) = shard.try_borrow_mut()
        {
            shard.hang_up(self.key);
        }
    }
}

/// What waits for the reader, and how it is written.
pub(super) struct Queue {
    encoder: Encoder,
    items: VecDeque<Item>,
    /// What waits, overhead and all of the first item included.
    bytes: usize,
    /// The rest of the first item's text, once that has begun to leave.
    text: Option<Bytes>,
    /// HTTP has taken everything, and comes back when it is woken.
    awaited: bool,
    /// How many items have left; it may begin again at 0.
    gone: u32,
}

impl Queue {
    fn new(encoder: Encoder) -> Self {
        Self { encoder, items: VecDeque::new(), bytes: 0, text: None, awaited: false, gone: 0 }
    }

    pub(super) const fn transport(&self) -> Transport {
        Transport::of(self.encoder.format())
    }

    /// Appends an item if it fits under the bound. An empty queue takes any.
    pub(super) fn push(&mut self, item: Item, bytes_max: usize) -> Result<(), Full> {
        let size = size(&item);
        if self.bytes + size > bytes_max && !self.items.is_empty() {
            return Err(Full);
        }
        self.bytes += size;
        self.items.push_back(item);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many items have left, and how many wait.
    pub(super) fn passed(&self) -> (u32, usize) {
        (self.gone, self.items.len())
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether its reader would take more at once, and only waits for its turn.
    pub(super) const fn is_awaited(&self) -> bool {
        self.awaited
    }

    /// Its last words. What waits still leaves, unless the reader is too slow for it or has lost the
    /// right to it.
    pub(super) fn say_goodbye(&mut self, close: &Close) {
        if !matches!(close, Close::Later(Code::Draining, _) | Close::NodeEnds) {
            self.items.truncate(usize::from(self.text.is_some()));
            self.bytes = self.items.iter().map(size).sum();
        }
        let _ = self.push(Item::Close(close.clone()), usize::MAX);
    }

    /// Why it ends, if nothing of what it was to bring was taken before.
    fn closed(&self) -> Option<Close> {
        match self.items.back()? {
            Item::Close(close) => Some(close.clone()),
            _ => None,
        }
    }

    /// Takes the next bytes.
    fn take(&mut self) -> Bytes {
        let mut out = BytesMut::new();
        while let Some(item) = self.items.front() {
            if out.capacity() == 0 {
                out.reserve(CHUNK_BYTES);
            }
            let mut text = match self.text.take() {
                Some(text) => text,
                None if out.len() + HEAD_BYTES_MAX > CHUNK_BYTES => break,
                None => match self.encoder.begin(item, &mut out) {
                    Some(text) => text,
                    None => {
                        self.drop_first();
                        continue;
                    }
                },
            };
            let part = text.len().min(CHUNK_BYTES.saturating_sub(out.len()));
            out.extend_from_slice(text.get(..part).unwrap_or_default());
            text.advance(part);
            if !text.is_empty() {
                self.text = Some(text);
                break;
            }
            out.extend_from_slice(self.encoder.tail());
            self.drop_first();
        }
        if self.items.is_empty() {
            // A burst leaves nothing behind.
            self.items = VecDeque::new();
        }
        out.freeze()
    }

    fn drop_first(&mut self) {
        if let Some(item) = self.items.pop_front() {
            self.bytes -= size(&item);
            self.gone = self.gone.wrapping_add(1);
        }
    }
}

/// What an item counts for.
fn size(item: &Item) -> usize {
    FRAME_OVERHEAD_BYTES
        + match item {
            Item::Publication(envelope) => envelope.text().len(),
            _ => PUSH_BYTES,
        }
}

impl Shard {
    fn open(&mut self, opening: Opening) -> Option<Key> {
        let (kept, brought) = (opening.streaming.kept(), opening.streaming.cursors().to_vec());
        let mut queue = Queue::new(Encoder::new(opening.format, kept, brought));
        let _ = queue.push(Item::Retry(opening.retry_ms), usize::MAX);
        let wire = Wire::Stream(Box::new(queue));
        let key = self.insert(wire, Outbox::default(), opening.pass)?;
        self.handle(key, Input::Stream(Box::new(opening.streaming)));
        self.settle();
        Some(key)
    }

    fn poll_begun(&mut self, key: Key, cx: &Context<'_>) -> Poll<Result<(), Close>> {
        let half = self.world.config.outbox_bytes / 2;
        let Some(connection) = self.get(key) else {
            return Poll::Ready(Err(Close::Lost));
        };
        connection.woken_by(cx);
        let waits =
            connection.session.subscriptions().is_attaching() && connection.waiting_bytes() < half;
        let Wire::Stream(queue) = &connection.wire else {
            return Poll::Ready(Err(Close::Lost));
        };
        match queue.closed() {
            Some(close) => Poll::Ready(Err(close)),
            None if waits => Poll::Pending,
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_next(&mut self, key: Key, cx: &Context<'_>) -> Poll<Option<Bytes>> {
        let now = self.now().moment;
        let Some(connection) = self.get(key) else {
            return Poll::Ready(None);
        };
        connection.woken_by(cx);
        let Wire::Stream(queue) = &mut connection.wire else {
            return Poll::Ready(None);
        };
        let chunk = queue.take();
        queue.awaited = chunk.is_empty();
        if chunk.is_empty() {
            connection.blocked = None;
            if connection.goodbye.is_some() {
                self.remove(key);
                self.settle();
                return Poll::Ready(None);
            }
        } else {
            connection.blocked = (!queue.is_empty()).then_some(now);
            connection.said = now;
            let (transport, change) = (connection.transport(), connection.weigh());
            self.counts.writes.add(1);
            self.counts.reached[transport as usize].bytes.add(chunk.len() as u64);
            self.counts.outbox_bytes.add(change);
            self.arrived(key);
        }
        self.feed(key);
        if chunk.is_empty() { Poll::Pending } else { Poll::Ready(Some(chunk)) }
    }

    /// HTTP has let go of it.
    fn hang_up(&mut self, key: Key) {
        if std::thread::panicking() {
            self.panicked(key);
        }
        self.lose(key);
        self.settle();
    }
}
