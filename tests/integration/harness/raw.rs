//! Bytes on a TCP connection, for what no well-behaved client would send.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::soon;

/// A handshake that is in order.
pub const HANDSHAKE: &str = "GET /v1/connect HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A bare connection.
pub struct Raw {
    /// The socket.
    pub stream: TcpStream,
}

impl Raw {
    /// Connects.
    pub async fn connect(address: SocketAddr) -> Self {
        let stream = soon("a TCP connection", TcpStream::connect(address))
            .await
            .expect("connects");
        stream.set_nodelay(true).expect("an option");
        Self { stream }
    }

    /// Connects, and speaks the handshake of a WebSocket.
    pub async fn upgraded(address: SocketAddr) -> Self {
        let mut raw = Self::connect(address).await;
        raw.send(HANDSHAKE.as_bytes()).await;
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        raw
    }

    /// Sends bytes. A peer that has closed meanwhile shows when reading.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = soon("a send", self.stream.write_all(bytes)).await;
    }

    /// Sends bytes one by one, each in a packet of its own as far as the kernel lets us.
    pub async fn send_slowly(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.send(&[*byte]).await;
            tokio::task::yield_now().await;
        }
    }

    /// The head of an answer, up to the empty line.
    pub async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            let read = soon("a head", self.stream.read(&mut byte))
                .await
                .unwrap_or(0);
            if read == 0 {
                break;
            }
            head.push(byte[0]);
        }
        String::from_utf8_lossy(&head).into_owned()
    }

    /// Everything up to the end of the connection, which must come within `limit`.
    pub async fn rest(&mut self, limit: Duration) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end, too.
        let _ = timeout(limit, self.stream.read_to_end(&mut rest))
            .await
            .unwrap_or_else(|_| panic!("the connection is open after {limit:?}"));
        rest
    }

    /// The status and the reason of the close frame, which must be the last thing to come. Text frames
    /// before it are passed over.
    pub async fn close(&mut self, limit: Duration) -> Option<(u16, String)> {
        let rest = self.rest(limit).await;
        let mut bytes = rest.as_slice();
        while let &[first, second, ref tail @ ..] = bytes {
            let (length, tail) = match (second, tail) {
                (126, &[a, b, ref tail @ ..]) => (usize::from(u16::from_be_bytes([a, b])), tail),
                (short, tail) => (usize::from(short), tail),
            };
            let (payload, tail) = tail.split_at_checked(length)?;
            if first == 0x88 {
                assert!(tail.is_empty(), "something came behind the close frame");
                let (status, reason) = payload.split_at_checked(2)?;
                let reason = String::from_utf8(reason.to_vec()).expect("a reason is UTF-8");
                return Some((u16::from_be_bytes([status[0], status[1]]), reason));
            }
            bytes = tail;
        }
        None
    }
}

/// A masked frame with this first byte.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const MASK: [u8; 4] = [0x11, 0x22, 0x33, 0x44];
    let mut out = vec![first];
    match payload.len() {
        short @ 0..126 => out.push(0x80 | u8::try_from(short).expect("short")),
        middle @ 126..65_536 => {
            out.push(0x80 | 126);
            out.extend(u16::try_from(middle).expect("middle").to_be_bytes());
        }
        long => {
            out.push(0x80 | 127);
            out.extend((long as u64).to_be_bytes());
        }
    }
    out.extend(MASK);
    out.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    out
}
