//! Bytes on a TCP connection, for what no well-behaved client would send.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval_at, timeout};

use super::soon;

/// A handshake that is in order.
pub(crate) const HANDSHAKE: &str = "GET /v1/connect HTTP/1.1\r\nHost: gateway\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// Clients that a crowd connects at a time.
const CROWD_AT_ONCE: usize = 50;
/// What a client takes at a time.
const READ_BYTES: usize = 4_096;
/// Bytes that the kernel keeps for a client with a small buffer.
const SMALL_BUFFER_BYTES: usize = 16 * 1_024;

/// A bare connection.
pub(crate) struct Raw {
    /// The socket.
    pub(crate) stream: TcpStream,
    /// What has been read beyond the last frame.
    unread: BytesMut,
}

impl Raw {
    /// Connects.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = soon("a TCP connection", TcpStream::connect(address)).await.expect("connects");
        stream.set_nodelay(true).expect("an option");
        Self::over(stream)
    }

    /// Connects; the kernel keeps little of what this one does not read.
    pub(crate) fn small(address: SocketAddr) -> Self {
        Self::buffered(address, SMALL_BUFFER_BYTES)
    }

    /// Connects; the kernel keeps this much of what this one does not read.
    pub(crate) fn buffered(address: SocketAddr, bytes: usize) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(bytes).expect("an option");
        socket.connect(&address.into()).expect("connects");
        socket.set_nonblocking(true).expect("an option");
        Self::over(TcpStream::from_std(socket.into()).expect("a stream"))
    }

    fn over(stream: TcpStream) -> Self {
        Self { stream, unread: BytesMut::new() }
    }

    /// Speaks a handshake that asks for this Topic, and waits until it is subscribed. Nothing else is
    /// sent.
    pub(crate) async fn subscribe(mut self, topic: &str) -> Self {
        let path = format!("/v1/connect?topic={topic} ");
        let handshake = HANDSHAKE.replace("/v1/connect ", &path);
        self.send(handshake.as_bytes()).await;
        let head = self.head().await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        for _ in ["connected", "subscribed"] {
            self.frame().await.expect("a frame");
        }
        self
    }

    /// Connects many to one Topic, quickly.
    pub(crate) async fn crowd(address: SocketAddr, topic: &str, count: usize) -> Vec<Self> {
        let mut dialling = JoinSet::new();
        let (mut crowd, mut left) = (Vec::with_capacity(count), count);
        while crowd.len() < count {
            while left > 0 && dialling.len() < CROWD_AT_ONCE {
                left -= 1;
                let topic = topic.to_owned();
                dialling.spawn(async move { Self::connect(address).await.subscribe(&topic).await });
            }
            let dialled = dialling.join_next().await.expect("somebody dials");
            crowd.push(dialled.expect("connects"));
        }
        crowd
    }

    /// The next frame, as its first byte and its payload; none at the end of the connection.
    pub(crate) async fn frame(&mut self) -> Option<(u8, Bytes)> {
        loop {
            if let Some(frame) = self.take_frame() {
                return Some(frame);
            }
            self.unread.reserve(READ_BYTES);
            let read = soon("a frame", self.stream.read_buf(&mut self.unread)).await;
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The next text frame, as text. Others are passed over.
    pub(crate) async fn text(&mut self) -> String {
        loop {
            let (first, payload) = self.frame().await.expect("a frame");
            if first == 0x81 {
                return String::from_utf8(payload.into()).expect("UTF-8");
            }
        }
    }

    fn take_frame(&mut self) -> Option<(u8, Bytes)> {
        let (head, length) = match *self.unread.get(..2)? {
            [_, 126] => {
                let long = self.unread.get(2..4)?;
                (4, usize::from(u16::from_be_bytes([long[0], long[1]])))
            }
            [_, short] => (2, usize::from(short)),
            _ => return None,
        };
        self.unread.get(..head + length)?;
        let first = self.unread[0];
        self.unread.advance(head);
        Some((first, self.unread.split_to(length).freeze()))
    }

    /// Reads at this rate until so many text frames have come, and answers pings.
    pub(crate) async fn read_slowly(
        &mut self,
        bytes_per_second: usize,
        frames: usize,
    ) -> Vec<String> {
        const TURNS: usize = 20;
        let turn = Duration::from_secs(1) / 20;
        let mut turns = interval_at(Instant::now() + turn, turn);
        let mut bytes = vec![0; bytes_per_second / TURNS];
        let mut texts = Vec::new();
        while texts.len() < frames {
            turns.tick().await;
            let read = soon("bytes", self.stream.read(&mut bytes)).await;
            let read = read.expect("the connection is there");
            assert_ne!(read, 0, "the connection ended after {} frames", texts.len());
            self.unread.extend_from_slice(&bytes[..read]);
            while let Some((first, payload)) = self.take_frame() {
                match first {
                    0x81 => texts.push(String::from_utf8(payload.into()).expect("UTF-8")),
                    0x89 => self.send(&frame(0x8a, &payload)).await,
                    _ => {}
                }
            }
        }
        texts
    }

    /// Connects, and speaks the handshake of a WebSocket.
    pub(crate) async fn upgraded(address: SocketAddr) -> Self {
        let mut raw = Self::connect(address).await;
        raw.send(HANDSHAKE.as_bytes()).await;
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        raw
    }

    /// Sends bytes. A peer that has closed meanwhile shows when reading.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = soon("a send", self.stream.write_all(bytes)).await;
    }

    /// Sends bytes one by one, each in a packet of its own as far as the kernel lets us.
    pub(crate) async fn send_slowly(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.send(&[*byte]).await;
            tokio::task::yield_now().await;
        }
    }

    /// The head of an answer, up to the empty line.
    pub(crate) async fn head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            let read = soon("a head", self.stream.read(&mut byte)).await.unwrap_or(0);
            if read == 0 {
                break;
            }
            head.push(byte[0]);
        }
        String::from_utf8_lossy(&head).into_owned()
    }

    /// Everything up to the end of the connection, which must come within `limit`.
    pub(crate) async fn rest(&mut self, limit: Duration) -> Vec<u8> {
        let mut rest = Vec::from(std::mem::take(&mut self.unread));
        // A reset is an end, too.
        let _ = timeout(limit, self.stream.read_to_end(&mut rest))
            .await
            .unwrap_or_else(|_| panic!("the connection is open after {limit:?}"));
        rest
    }

    /// The status and the reason of the close frame, which must be the last thing to come. Text frames
    /// before it are passed over.
    pub(crate) async fn close(&mut self, limit: Duration) -> Option<(u16, String)> {
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
pub(crate) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
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
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}
