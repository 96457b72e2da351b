//! The publisher: one TCP connection to a contender, one message or one batch at a time, each
//! awaited. It speaks each contender's own way to publish, the leanest it has; payloads are the
//! same for all.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::contender::{CENTRIFUGO_KEY, Kind, Server};
use crate::{Fallible, clock};

const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What is published.
pub(crate) struct Item<'a> {
    pub(crate) topic: &'a str,
    pub(crate) data: String,
}

/// A connection that publishes.
pub(crate) struct Publisher {
    kind: Kind,
    host: String,
    stream: TcpStream,
    answer: Vec<u8>,
}

/// A payload of exactly `size` bytes: its Topic's dense number, the Topic's place in the receivers'
/// list, and when it was made.
pub(crate) fn payload(n: u64, topic: usize, size: usize) -> String {
    let mut data = format!(r#"{{"n":{n},"k":{topic},"t":{},"pad":""#, clock::unix_micros());
    let pad = size.saturating_sub(data.len() + 2);
    data.extend(std::iter::repeat_n('x', pad));
    data.push_str("\"}");
    data
}

impl Publisher {
    pub(crate) fn connect(server: &Server) -> Fallible<Self> {
        let stream = TcpStream::connect(server.publish)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        let host = server.publish.to_string();
        Ok(Self { kind: server.kind, host, stream, answer: Vec::new() })
    }

    /// Publishes one message and awaits the answer.
    pub(crate) fn publish(&mut self, message: &Item<'_>) -> Fallible<()> {
        match self.kind {
            Kind::Floor => self.publish_to_floor(std::slice::from_ref(message)),
            Kind::Tidegate => {
                self.post(&format!("/v1/topics/{}/messages", message.topic), &message.data)
            }
            Kind::Bun => self.post(&format!("/publish?topic={}", message.topic), &message.data),
            Kind::Centrifugo => {
                let body = format!(r#"{{"channel":"{}","data":{}}}"#, message.topic, message.data);
                self.post("/api/publish", &body)?;
                if contains(&self.answer, br#""error":"#) {
                    let answer = shorten(&self.answer);
                    return Err(format!("a publish was answered by {answer}").into());
                }
                Ok(())
            }
        }
    }

    /// Publishes a batch as one request and awaits the answer.
    pub(crate) fn publish_batch(&mut self, messages: &[Item<'_>]) -> Fallible<()> {
        match self.kind {
            Kind::Floor => self.publish_to_floor(messages),
            Kind::Tidegate => {
                let mut body = String::from(r#"{"messages":["#);
                for (index, message) in messages.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(
                        body,
                        r#"{comma}{{"topic":"{}","data":{}}}"#,
                        message.topic, message.data
                    )?;
                }
                body.push_str("]}");
                self.post("/v1/publish", &body)?;
                if contains(&self.answer, br#""code":"#) {
                    return Err(format!(
                        "not all of the batch was published: {}",
                        shorten(&self.answer)
                    )
                    .into());
                }
                Ok(())
            }
            Kind::Bun => {
                let mut body = String::new();
                for message in messages {
                    writeln!(body, "{} {}", message.topic, message.data)?;
                }
                self.post("/batch", &body)
            }
            Kind::Centrifugo => Err("no batch of Centrifugo's is written here".into()),
        }
    }

    /// The last Cursor in the last answer: the place of what was published last.
    pub(crate) fn cursor(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.answer);
        let (_, rest) = text.rsplit_once(r#""cursor":""#)?;
        Some(rest.split_once('"')?.0.to_owned())
    }

    fn publish_to_floor(&mut self, messages: &[Item<'_>]) -> Fallible<()> {
        let mut bytes = u32::try_from(messages.len())?.to_be_bytes().to_vec();
        for message in messages {
            bytes.extend_from_slice(&u16::try_from(message.topic.len())?.to_be_bytes());
            bytes.extend_from_slice(message.topic.as_bytes());
            bytes.extend_from_slice(&u32::try_from(message.data.len())?.to_be_bytes());
            bytes.extend_from_slice(message.data.as_bytes());
        }
        self.stream.write_all(&bytes)?;
        self.stream.read_exact(&mut [0])?;
        Ok(())
    }

    fn post(&mut self, url: &str, body: &str) -> Fallible<()> {
        let key = match self.kind {
            Kind::Centrifugo => format!("X-API-Key: {CENTRIFUGO_KEY}\r\n"),
            Kind::Floor | Kind::Tidegate | Kind::Bun => String::new(),
        };
        let request = format!(
            "POST {url} HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\n{key}\
             Content-Length: {}\r\n\r\n{body}",
            self.host,
            body.len()
        );
        self.stream.write_all(request.as_bytes())?;
        self.read_answer()
    }

    /// Reads one answer whole, head and body, into `answer`.
    fn read_answer(&mut self) -> Fallible<()> {
        self.answer.clear();
        let mut scratch = [0; 16 << 10];
        while !is_whole(&self.answer) {
            let count = self.stream.read(&mut scratch)?;
            if count == 0 {
                return Err("the publisher's connection was closed".into());
            }
            self.answer.extend_from_slice(&scratch[..count]);
        }
        if self.answer.starts_with(b"HTTP/1.1 2") {
            return Ok(());
        }
        Err(format!("a publish was answered by {}", shorten(&self.answer)).into())
    }
}

/// Whether an HTTP answer is here to its end, by `Content-Length` or chunks.
fn is_whole(answer: &[u8]) -> bool {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let field = |name: &str| {
        head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        })
    };
    if let Some(length) = field("content-length") {
        return length.parse().is_ok_and(|length: usize| body.len() >= length);
    }
    field("transfer-encoding").is_none() || body.ends_with("0\r\n\r\n")
}

fn contains(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

fn shorten(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..600).unwrap_or(bytes)).into_owned()
}
