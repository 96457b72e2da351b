//! Bytes to WebSocket messages and back, for a server's side of a taken-over socket.
//!
//! The framing itself is actix-http's parser. In front of it stands a guard that reads nothing but the
//! frame's header: the parser tests its bound only after the whole frame has been buffered, takes any
//! number of fragments and checks no UTF-8. Behind the guard it is asked only for frames that are
//! there in full and within bounds.
//!
//! LAW: after the first error nothing of this socket is parsed again.
#![deny(clippy::indexing_slicing)]

use actix_http::ws::{CloseCode, CloseReason, OpCode, Parser};
use bytes::{Bytes, BytesMut};

use crate::protocol::close::{Close, Framing};
use crate::protocol::error::Code;
use crate::protocol::limit::Limit;
use crate::session::Moment;

/// Control frames are counted over this time.
const CONTROL_WINDOW_MS: u64 = 10_000;
/// Largest payload of a control frame.
const CONTROL_BYTES_MAX: u64 = 125;

/// What a client may send.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Largest frame, and largest message over all its fragments, in bytes.
    pub frame_bytes: usize,
    /// Most fragments of a message.
    pub fragments: usize,
    /// Most control frames in ten seconds.
    pub control_frames: u32,
}

/// What a client has sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A whole text message.
    Text(String),
    /// A ping, to be answered with its payload.
    Ping(Bytes),
    /// A pong.
    Pong,
    /// A part of a message whose rest is to come.
    Fragment,
    /// A goodbye, and its status.
    Close(Option<u16>),
}

/// Reads the frames of one Connection. Empty while it is quiet.
#[derive(Debug, Default)]
pub struct Reader {
    assembly: Option<Box<Assembly>>,
    /// The second in which the control frames began to be counted.
    window: Moment32,
    controls: u32,
}

/// Seconds are enough here, and every idle Connection has one.
type Moment32 = u32;

/// A message of which fragments have come.
#[derive(Debug, Default)]
struct Assembly {
    bytes: Vec<u8>,
    /// Up to where `bytes` is known to be UTF-8.
    valid: usize,
    fragments: usize,
}

/// What the guard read from a frame's header.
struct Header {
    fin: bool,
    opcode: u8,
    /// Of header and payload.
    frame_bytes: usize,
}

impl Reader {
    /// Takes the next frame off `bytes`; none if it is not there in full.
    pub fn next(
        &mut self,
        limits: &Limits,
        now: Moment,
        bytes: &mut BytesMut,
    ) -> Result<Option<Incoming>, Close> {
        let Some(header) = self.guard(limits, bytes)? else {
            return Ok(None);
        };
        if bytes.len() < header.frame_bytes {
            return Ok(None);
        }
        let parsed = Parser::parse(bytes, true, limits.frame_bytes);
        let Ok(Some((_, _, payload))) = parsed else {
            return Err(broken());
        };
        let payload = payload.unwrap_or_default();
        match header.opcode {
            0 | 1 => self.text(header.fin, &payload).map(Some),
            8 => match Parser::try_parse_close_payload(&payload) {
                Ok(reason) => Ok(Some(Incoming::Close(reason.map(|why| why.code.into())))),
                Err(_) => Err(bad_close(&payload)),
            },
            9 | 10 => {
                self.count_control(limits, now)?;
                let ping = header.opcode == 9;
                Ok(Some(if ping { Incoming::Ping(payload.freeze()) } else { Incoming::Pong }))
            }
            _ => Err(broken()),
        }
    }

    /// Judges a frame by its header alone.
    fn guard(&self, limits: &Limits, bytes: &[u8]) -> Result<Option<Header>, Close> {
        let &[first, ref rest @ ..] = bytes else {
            return Ok(None);
        };
        let (fin, opcode) = (first & 0x80 != 0, first & 0x0f);
        let in_message = self.assembly.is_some();
        match opcode {
            _ if first & 0x70 != 0 => return Err(broken()),
            0 if in_message => {}
            1 if !in_message => {}
            2 if !in_message => return Err(Close::Framing(Framing::Kind)),
            8..=10 if fin => {}
            _ => return Err(broken()),
        }
        let &[second, ref rest @ ..] = rest else {
            return Ok(None);
        };
        if second & 0x80 == 0 {
            return Err(broken());
        }
        let (length, header_bytes) = match (second & 0x7f, rest) {
            // A control frame says its length in one byte.
            (126 | 127, _) if opcode >= 8 => return Err(broken()),
            (126, &[a, b, ..]) => (u64::from(u16::from_be_bytes([a, b])), 8),
            (127, &[a, b, c, d, e, f, g, h, ..]) => {
                (u64::from_be_bytes([a, b, c, d, e, f, g, h]), 14)
            }
            (126 | 127, _) => return Ok(None),
            (short, _) => (u64::from(short), 6),
        };
        if opcode >= 8 && length > CONTROL_BYTES_MAX {
            return Err(broken());
        }
        if opcode < 8 {
            let (so_far, fragments) =
                self.assembly.as_ref().map_or((0, 0), |some| (some.bytes.len(), some.fragments));
            let room = limits.frame_bytes.saturating_sub(so_far) as u64;
            if fragments >= limits.fragments {
                return Err(Close::TooBig(Limit::Fragments));
            }
            if length > room {
                return Err(Close::TooBig(Limit::FrameBytes));
            }
        }
        let length = usize::try_from(length).map_err(|_| Close::TooBig(Limit::FrameBytes))?;
        Ok(Some(Header { fin, opcode, frame_bytes: header_bytes + length }))
    }

    fn text(&mut self, fin: bool, payload: &[u8]) -> Result<Incoming, Close> {
        if fin && self.assembly.is_none() {
            let text = std::str::from_utf8(payload).map_err(|_| Close::Framing(Framing::Utf8))?;
            return Ok(Incoming::Text(text.to_owned()));
        }
        let assembly = self.assembly.get_or_insert_default();
        assembly.bytes.extend_from_slice(payload);
        assembly.fragments += 1;
        assembly.check(fin)?;
        if !fin {
            return Ok(Incoming::Fragment);
        }
        let whole = self.assembly.take().map(|assembly| assembly.bytes).unwrap_or_default();
        String::from_utf8(whole).map(Incoming::Text).map_err(|_| Close::Framing(Framing::Utf8))
    }

    fn count_control(&mut self, limits: &Limits, now: Moment) -> Result<(), Close> {
        // The window begins with its first frame: a clock's would let twice as many pass around its
        // stroke.
        let second = u32::try_from(now.0 / 1_000).unwrap_or(u32::MAX);
        let over = u64::from(second.saturating_sub(self.window)) * 1_000 >= CONTROL_WINDOW_MS;
        if over || self.controls == 0 {
            (self.window, self.controls) = (second, 0);
        }
        self.controls += 1;
        if self.controls > limits.control_frames {
            return Err(Close::Later(Code::RateLimited, CONTROL_WINDOW_MS));
        }
        Ok(())
    }
}

impl Assembly {
    /// Whether what has come so far can be the beginning of UTF-8, or all of it.
    fn check(&mut self, fin: bool) -> Result<(), Close> {
        let fresh = self.bytes.get(self.valid..).unwrap_or_default();
        match std::str::from_utf8(fresh) {
            Ok(text) => self.valid += text.len(),
            Err(fault) if fault.error_len().is_none() && !fin => self.valid += fault.valid_up_to(),
            Err(_) => return Err(Close::Framing(Framing::Utf8)),
        }
        Ok(())
    }
}

const fn broken() -> Close {
    Close::Framing(Framing::Protocol)
}

/// A goodbye that is none: bad UTF-8 in its reason has a status of its own.
fn bad_close(payload: &[u8]) -> Close {
    let legal = matches!(payload, &[a, b, _, ..]
        if matches!(u16::from_be_bytes([a, b]), 1000..=1003 | 1007..=1014 | 3000..=4999));
    if legal { Close::Framing(Framing::Utf8) } else { broken() }
}

/// A text message in one frame.
#[must_use]
pub fn text(payload: &Bytes) -> Bytes {
    message(payload, OpCode::Text)
}

/// A ping.
#[must_use]
pub fn ping() -> Bytes {
    message(&[], OpCode::Ping)
}

/// The answer to a ping.
#[must_use]
pub fn pong(payload: &[u8]) -> Bytes {
    message(payload, OpCode::Pong)
}

fn message(payload: &[u8], opcode: OpCode) -> Bytes {
    let mut out = BytesMut::with_capacity(payload.len() + 10);
    Parser::write_message(&mut out, payload, opcode, true, false);
    out.freeze()
}

/// A goodbye.
#[must_use]
pub fn close(status: u16, reason: String) -> Bytes {
    let mut out = BytesMut::new();
    let description = Some(reason).filter(|text| !text.is_empty());
    let reason = CloseReason { code: CloseCode::from(status), description };
    Parser::write_close(&mut out, Some(reason), false);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { frame_bytes: 1_000, fragments: 4, control_frames: 3 };

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = vec![first];
        match payload.len() {
            short @ 0..126 => out.push(0x80 | u8::try_from(short).unwrap()),
            long => {
                out.push(0x80 | 126);
                out.extend(u16::try_from(long).unwrap().to_be_bytes());
            }
        }
        out.extend([1, 2, 3, 4]);
        out.extend(payload.iter().zip([1, 2, 3, 4].iter().cycle()).map(|(b, mask)| b ^ mask));
        out
    }

    /// Everything that these bytes bring, fed in pieces of this size, up to the first error.
    fn read(bytes: &[u8], piece: usize) -> (Vec<Incoming>, Option<Close>) {
        let (mut reader, mut buffer, mut got) = (Reader::default(), BytesMut::new(), Vec::new());
        for part in bytes.chunks(piece) {
            buffer.extend_from_slice(part);
            loop {
                match reader.next(&LIMITS, Moment(0), &mut buffer) {
                    Ok(Some(incoming)) => got.push(incoming),
                    Ok(None) => break,
                    Err(close) => return (got, Some(close)),
                }
            }
        }
        (got, None)
    }

    #[test]
    fn a_declared_length_over_the_limit_is_refused_from_the_header_alone() {
        for length in [1_001_u64, 1 << 30, 1 << 62, (1 << 63) - 1, 1 << 63] {
            let mut header = vec![0x81, 0xff];
            header.extend(length.to_be_bytes());
            assert_eq!(read(&header, 1).1, Some(Close::TooBig(Limit::FrameBytes)), "{length}");
        }
    }

    #[test]
    fn fragments_are_bounded_in_number_and_together_in_size() {
        let mut bytes = frame(0x01, b"a");
        bytes.extend(frame(0x00, b"b").repeat(2));
        let whole = [bytes.clone(), frame(0x80, b"c")].concat();
        assert_eq!(read(&whole, 7).0.last(), Some(&Incoming::Text("abbc".to_owned())));
        let over = [bytes, frame(0x00, b"b").repeat(2)].concat();
        assert_eq!(read(&over, 7).1, Some(Close::TooBig(Limit::Fragments)));
        let big = [frame(0x01, &[b'x'; 600]), frame(0x80, &[b'x'; 401])].concat();
        assert_eq!(read(&big, 50).1, Some(Close::TooBig(Limit::FrameBytes)));
    }

    #[test]
    fn what_breaks_the_framing_has_its_own_status() {
        for (bytes, framing) in [
            (frame(0xc1, b"x"), Framing::Protocol),
            (vec![0x81, 0x01, b'x'], Framing::Protocol),
            (frame(0x83, b"x"), Framing::Protocol),
            (frame(0x09, b""), Framing::Protocol),
            (frame(0x89, &[0; 126]), Framing::Protocol),
            (vec![0x8a, 0xfe, 0, 1], Framing::Protocol),
            (frame(0x80, b"x"), Framing::Protocol),
            (frame(0x82, b"x"), Framing::Kind),
            (frame(0x81, b"\xff"), Framing::Utf8),
            (frame(0x01, b"\xc3\x28"), Framing::Utf8),
            (frame(0x88, b"\x03\xe8\xff"), Framing::Utf8),
            (frame(0x88, b"\x03"), Framing::Protocol),
            (frame(0x88, b"\x03\xed"), Framing::Protocol),
        ] {
            assert_eq!(read(&bytes, 100).1, Some(Close::Framing(framing)), "{bytes:x?}");
            assert_eq!(read(&bytes, 1).1, Some(Close::Framing(framing)), "{bytes:x?} in pieces");
        }
    }

    #[test]
    fn a_character_may_be_cut_by_a_fragment() {
        let euro = "€".as_bytes();
        let bytes = [frame(0x01, &euro[..1]), frame(0x80, &euro[1..])].concat();
        assert_eq!(read(&bytes, 100).0.last(), Some(&Incoming::Text("€".to_owned())));
    }

    #[test]
    fn control_frames_are_counted() {
        assert_eq!(read(&frame(0x89, b"").repeat(3), 100).1, None);
        let close = read(&frame(0x89, b"").repeat(4), 100).1;
        assert_eq!(close.and_then(|close| close.status()), Some(4429));
    }

    #[test]
    fn the_ten_seconds_of_control_frames_begin_with_the_first() {
        let (mut reader, mut bytes) = (Reader::default(), BytesMut::new());
        let mut ping = |ms| {
            bytes.extend_from_slice(&frame(0x89, b""));
            reader.next(&LIMITS, Moment(ms), &mut bytes)
        };
        for ms in [9_000, 9_500, 9_900] {
            assert!(ping(ms).is_ok(), "{ms}");
        }
        assert!(ping(20_000).is_ok(), "these are others");
        for ms in [28_000, 29_000] {
            assert!(ping(ms).is_ok(), "{ms}");
        }
        assert!(ping(29_999).is_err(), "a stroke of the clock is no beginning");
    }

    proptest! {
        /// Any chunking gives the same verdict as one piece.
        #[test]
        fn chunks_change_nothing(
            frames in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..150)), 1..6),
            tail in prop::collection::vec(any::<u8>(), 0..20),
            piece in 1..40_usize,
        ) {
            let legal = |first: u8| [0x81, 0x01, 0x80, 0x00, 0x89, 0x8a, first][usize::from(first % 7)];
            let mut bytes: Vec<u8> =
                frames.iter().flat_map(|(first, payload)| frame(legal(*first), payload)).collect();
            bytes.extend(tail);
            prop_assert_eq!(read(&bytes, piece), read(&bytes, usize::MAX));
        }
    }
}
