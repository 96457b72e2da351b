//! A reader of `/v1/events`, as a browser's EventSource is one, but stricter: it takes nothing that the
//! protocol does not name, and nothing that HTTP does not allow.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use socket2::{SockFilter, SockRef};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::raw::Raw;
use super::{SOON, soon};

/// What a stream says: an event of Server-Sent Events, or a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Event {
    /// `message`, if it does not say.
    pub(crate) kind: String,
    /// What it carries.
    pub(crate) data: Value,
}

/// An open stream.
pub(crate) struct Events {
    stream: TcpStream,
    /// The head of the answer, in lower case.
    pub(crate) head: String,
    /// Of the body, what has not been decoded.
    raw: Vec<u8>,
    /// What has been decoded and not been read.
    text: Vec<u8>,
    /// All that was left to decode has come.
    complete: bool,
    /// As an EventSource would send it back.
    pub(crate) last_event_id: String,
    /// The last `retry:`.
    pub(crate) retry: Option<u64>,
    /// Comments so far.
    pub(crate) comments: usize,
}

impl Events {
    /// Opens one, and waits for the head of the answer, which must be a stream.
    pub(crate) async fn open(address: SocketAddr, query: &str, headers: &[(&str, &str)]) -> Self {
        let events = Self::over(Raw::connect(address).await.stream, query, headers).await;
        assert!(events.head.starts_with("http/1.1 200 "), "{}", events.head);
        events
    }

    /// The same on a connection that is there, whatever the answer is.
    pub(crate) async fn over(mut stream: TcpStream, query: &str, headers: &[(&str, &str)]) -> Self {
        let mut request = format!("GET /v1/events?{query} HTTP/1.1\r\nHost: gateway\r\n");
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await.expect("it is sent");
        let mut raw = Vec::new();
        let end = loop {
            let found = raw.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(at) = found {
                break at + 4;
            }
            let read = soon("a head", stream.read_buf(&mut raw)).await.expect("a head");
            assert_ne!(read, 0, "no head, but {:?}", String::from_utf8_lossy(&raw));
        };
        let head = String::from_utf8(raw.drain(..end).collect()).expect("text").to_lowercase();
        Self {
            stream,
            head,
            raw,
            text: Vec::new(),
            complete: false,
            last_event_id: String::new(),
            retry: None,
            comments: 0,
        }
    }

    /// From here on nothing that is sent to it arrives: its kernel throws each packet away unseen.
    pub(crate) fn lose_packets(&self) {
        // In the language of such filters: of each packet, keep 0 bytes.
        const RETURN: u16 = 0x06;
        let nothing = [SockFilter::new(RETURN, 0, 0, 0)];
        SockRef::from(&self.stream).attach_filter(&nothing).expect("a filter");
    }

    /// The next event.
    pub(crate) async fn next(&mut self) -> Event {
        self.next_within(SOON).await.expect("the stream has ended")
    }

    /// The next event that is a Publication; its payload. Positions are passed over.
    pub(crate) async fn data(&mut self) -> Value {
        loop {
            let event = self.next().await;
            match event.kind.as_str() {
                "message" => return event.data["data"].clone(),
                "position" => {}
                other => panic!("{other}: {}", event.data),
            }
        }
    }

    /// The next event; none if the stream ends before.
    pub(crate) async fn next_within(&mut self, limit: Duration) -> Option<Event> {
        let deadline = Instant::now() + limit;
        loop {
            let block = self.block(b"\n\n", deadline).await?;
            if let Some(event) = self.read_block(&block) {
                return Some(event);
            }
        }
    }

    /// The next line of a stream that has lines.
    pub(crate) async fn line(&mut self) -> Event {
        let line = self.block(b"\n", Instant::now() + SOON).await.expect("the stream has ended");
        let data: Value = serde_json::from_str(&line).expect("each line is JSON");
        let kind = data["type"].as_str().expect("each has a type").to_owned();
        Event { kind, data }
    }

    /// Waits until the stream has ended as it should. What came before is given.
    pub(crate) async fn ended(&mut self, limit: Duration) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next_within(limit).await {
            events.push(event);
        }
        events
    }

    /// The next block of text, without what ends it.
    async fn block(&mut self, end: &[u8], deadline: Instant) -> Option<String> {
        loop {
            self.decode();
            if let Some(at) = self.text.windows(end.len()).position(|part| part == end) {
                let block = self.text.drain(..at + end.len()).collect::<Vec<u8>>();
                return Some(String::from_utf8(block[..at].to_vec()).expect("UTF-8"));
            }
            if self.complete {
                let left = String::from_utf8_lossy(&self.text);
                assert!(self.text.is_empty(), "half of something: {left:?}");
                return None;
            }
            let read = timeout_at(deadline, self.stream.read_buf(&mut self.raw)).await;
            let read = read.expect("nothing came in time").unwrap_or(0);
            assert_ne!(read, 0, "the connection ended within the body");
        }
    }

    /// Takes chunks that are there in full.
    fn decode(&mut self) {
        let chunked = self.head.contains("transfer-encoding: chunked");
        if !chunked {
            let length = self.head.split("content-length: ").nth(1).expect("a length");
            let length: usize = length.split("\r\n").next().expect("it").parse().expect("a number");
            if !self.complete && self.raw.len() >= length {
                self.text.extend(self.raw.drain(..length));
                self.complete = true;
            }
            return;
        }
        while let Some(at) = self.raw.windows(2).position(|two| two == b"\r\n") {
            let size = std::str::from_utf8(&self.raw[..at]).expect("a size");
            let size = usize::from_str_radix(size, 16).expect("a size");
            let end = at + 2 + size + 2;
            if self.raw.len() < end {
                return;
            }
            assert_eq!(&self.raw[end - 2..end], b"\r\n");
            self.text.extend_from_slice(&self.raw[at + 2..end - 2]);
            self.raw.drain(..end);
            self.complete = size == 0;
        }
    }

    /// Reads a block of fields as the standard says, and refuses what a node never writes.
    fn read_block(&mut self, block: &str) -> Option<Event> {
        let (mut kind, mut data) = (None, None);
        for line in block.split(['\n', '\r']) {
            if line.starts_with(':') {
                self.comments += 1;
                continue;
            }
            let (field, value) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?}"));
            assert!(!value.contains('\0'), "{line:?}");
            match field {
                "event" => assert_eq!(kind.replace(value.to_owned()), None, "{block:?}"),
                "data" => assert_eq!(data.replace(value.to_owned()), None, "{block:?}"),
                "id" => value.clone_into(&mut self.last_event_id),
                "retry" => self.retry = Some(value.parse().expect("a number")),
                _ => panic!("a field that no node writes: {line:?}"),
            }
        }
        let kind = kind.unwrap_or_else(|| "message".to_owned());
        let data = serde_json::from_str(&data?).expect("data is JSON on one line");
        Some(Event { kind, data })
    }
}
