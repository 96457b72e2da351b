//! WebSocket bytes as both ends of this bench need them: an unmasked server frame written and read,
//! and a client's control frame. The handshake key is fixed (the one of RFC 6455, 1.3), so that
//! neither end needs SHA-1. Knows nothing of sockets.

/// What every client of the bench sends as `Sec-WebSocket-Key` …
pub(crate) const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
/// … and what every server must answer as `Sec-WebSocket-Accept`.
pub(crate) const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub(crate) const TEXT: u8 = 1;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// A frame as a server sends it.
pub(crate) struct Frame<'a> {
    pub(crate) opcode: u8,
    pub(crate) payload: &'a [u8],
}

/// Reads one unmasked frame at the start of `bytes`: the frame and its length on the wire, or
/// `None` while it is not whole. Fragments are not joined: no contender sends any.
pub(crate) fn read(bytes: &[u8]) -> Option<(Frame<'_>, usize)> {
    let (&first, rest) = bytes.split_first()?;
    let (&second, rest) = rest.split_first()?;
    let (length, head): (usize, usize) = match second & 0x7f {
        126 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
        127 => (usize::try_from(u64::from_be_bytes(*rest.first_chunk()?)).ok()?, 10),
        short => (usize::from(short), 2),
    };
    let payload = bytes.get(head..head.checked_add(length)?)?;
    Some((Frame { opcode: first & 0x0f, payload }, head + length))
}

/// Appends an unmasked, whole frame.
pub(crate) fn write(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ 0..=125), _) => out.push(length),
        (_, Ok(length)) => {
            out.push(126);
            out.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// A client's frame of at most 125 bytes, as all of its are. The mask is zero: legal, and the payload
/// stays as it is.
pub(crate) fn write_masked(opcode: u8, payload: &[u8], out: &mut Vec<u8>) {
    let payload = payload.get(..125).unwrap_or(payload);
    let length = u8::try_from(payload.len()).unwrap_or(125);
    out.extend_from_slice(&[0x80 | opcode, 0x80 | length, 0, 0, 0, 0]);
    out.extend_from_slice(payload);
}
