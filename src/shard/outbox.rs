//! The bounded queue of encoded Frames to one Connection.
//!
//! It holds shared bytes, so a Frame that waits for a thousand clients exists once. It knows no socket:
//! whoever flushes it asks for pieces and says how many bytes were taken.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::rc::Rc;

use bytes::Bytes;

/// What each waiting Frame costs besides its bytes.
pub const FRAME_OVERHEAD_BYTES: usize = 64;
/// Storage for so many Frames is kept when it has drained: a Frame now and then allocates nothing.
const KEEP_FRAMES: usize = 4;

/// One encoded Frame, shared within the Shard.
pub type Piece = Rc<Bytes>;

/// The queue.
#[derive(Debug, Default)]
pub struct Outbox {
    pieces: VecDeque<Piece>,
    /// Of the first piece, what has been written.
    written: usize,
    /// What waits, overhead and what is written of the first piece included.
    bytes: usize,
    /// The first piece is the handshake's answer: without it nothing else can be understood.
    head: bool,
    /// How many Frames have left; it may begin again at 0.
    gone: u32,
}

impl Outbox {
    /// One that begins with the handshake's answer.
    pub fn behind(head: Bytes) -> Self {
        Self {
            written: 0,
            bytes: head.len() + FRAME_OVERHEAD_BYTES,
            pieces: [Rc::new(head)].into(),
            head: true,
            gone: 0,
        }
    }

    /// How many Frames have left.
    #[must_use]
    pub const fn gone(&self) -> u32 {
        self.gone
    }

    /// Makes room for so many more Frames at once.
    pub fn reserve(&mut self, frames: usize) {
        self.pieces.reserve(frames);
    }

    /// Appends a Frame if it fits under the bound. An empty Outbox takes any.
    pub fn push(&mut self, piece: &Piece, bytes_max: usize) -> Result<(), Full> {
        let size = piece.len() + FRAME_OVERHEAD_BYTES;
        if self.bytes + size > bytes_max && !self.pieces.is_empty() {
            return Err(Full);
        }
        self.bytes += size;
        self.pieces.push_back(Rc::clone(piece));
        Ok(())
    }

    /// Whether nothing waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// What waits, counted as the bound counts it.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The next bytes to write, piece by piece.
    pub fn slices(&self) -> impl Iterator<Item = IoSlice<'_>> {
        let mut skip = self.written;
        self.pieces.iter().map(move |piece| {
            IoSlice::new(piece.get(std::mem::take(&mut skip)..).unwrap_or_default())
        })
    }

    /// How many pieces wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.pieces.len()
    }

    /// Takes off what was written.
    pub fn advance(&mut self, mut bytes: usize) {
        while let Some(first) = self.pieces.front() {
            let left = first.len() - self.written;
            if bytes < left {
                self.written += bytes;
                return;
            }
            bytes -= left;
            self.written = 0;
            self.bytes -= first.len() + FRAME_OVERHEAD_BYTES;
            self.pieces.pop_front();
            self.head = false;
            self.gone = self.gone.wrapping_add(1);
        }
        assert!(bytes == 0, "no socket takes more than it was given");
        if self.pieces.capacity() > KEEP_FRAMES {
            self.pieces = VecDeque::new();
        }
    }

    /// Drops all that has not begun to leave, but for the handshake's answer: what follows is a
    /// goodbye.
    pub fn drop_unsent(&mut self) {
        let begun = if self.written > 0 || self.head { self.pieces.pop_front() } else { None };
        self.pieces.clear();
        self.bytes = begun.as_ref().map_or(0, |piece| piece.len() + FRAME_OVERHEAD_BYTES);
        self.pieces.extend(begun);
    }
}

/// The Frame does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A goodbye before anything has left still comes behind the handshake's answer, and behind that
    /// alone.
    #[test]
    fn a_goodbye_never_overtakes_the_handshakes_answer() {
        let mut outbox = Outbox::behind(Bytes::from_static(b"head"));
        let piece = |text: &'static [u8]| Rc::new(Bytes::from_static(text));
        outbox.push(&piece(b"unsent"), usize::MAX).unwrap();
        outbox.drop_unsent();
        outbox.push(&piece(b"goodbye"), usize::MAX).unwrap();
        let left: Vec<u8> = outbox.slices().flat_map(|part| part.to_vec()).collect();
        assert_eq!(left, b"headgoodbye");
        outbox.advance(5);
        outbox.drop_unsent();
        outbox.advance(6);
        assert!(outbox.is_empty());
        outbox.push(&piece(b"unsent"), usize::MAX).unwrap();
        outbox.drop_unsent();
        assert!(outbox.is_empty());
        assert_eq!(outbox.bytes(), 0);
    }

    proptest! {
        /// Whatever is pushed and written in whatever steps: the bytes leave in order, the bound
        /// holds, and an empty Outbox counts nothing.
        #[test]
        fn bytes_leave_in_order_and_under_the_bound(
            sizes in prop::collection::vec(1..400_usize, 1..60),
            takes in prop::collection::vec(0..900_usize, 1..120),
        ) {
            const BOUND: usize = 2_000;
            let (mut outbox, mut expected, mut got) = (Outbox::default(), Vec::new(), Vec::new());
            let mut sizes = sizes.into_iter().enumerate();
            for take in takes {
                for (n, size) in sizes.by_ref().take(2) {
                    let fill = u8::try_from(n).unwrap();
                    let piece = Rc::new(Bytes::from(vec![fill; size]));
                    if outbox.push(&piece, BOUND).is_ok() {
                        expected.extend(vec![fill; size]);
                    }
                    prop_assert!(outbox.bytes() <= BOUND);
                }
                let all: Vec<u8> = outbox.slices().take(4).flat_map(|part| part.to_vec()).collect();
                let taken = take.min(all.len());
                got.extend_from_slice(&all[..taken]);
                outbox.advance(taken);
            }
            while !outbox.is_empty() {
                let all: Vec<u8> = outbox.slices().take(4).flat_map(|part| part.to_vec()).collect();
                got.extend_from_slice(&all);
                outbox.advance(all.len());
            }
            prop_assert_eq!(got, expected);
            prop_assert_eq!(outbox.bytes(), 0);
        }
    }
}
