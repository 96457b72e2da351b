//! The floor: what no gateway can be below. One thread that keeps lists of sockets and, for each
//! publish, walks a list and calls one `send` of a prepared frame; for a batch still one per
//! client. No limits, no checks, no HTTP but the upgrade. It may not grow features: it is a lower
//! bound, not a gateway.
//!
//! A publish is `count: u32` and then `count` times `topic length: u16, topic, data length: u32,
//! data` (big endian) on the second port; one byte is answered when everything was handed to
//! `send`.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::{Fallible, clock, frame};

const CLIENTS: Token = Token(0);
const PUBLISHERS: Token = Token(1);
/// Tokens below are the listeners'.
const FIRST: usize = 2;
/// What a client may have waiting before it is dropped.
const BACKLOG_BYTES_MAX: usize = 16 << 20;
/// As in Tidegate: a ping every 25 s.
const PING_EVERY: u64 = 25;

struct Client {
    stream: TcpStream,
    /// Bytes the socket did not take.
    backlog: Vec<u8>,
}

struct Publisher {
    stream: TcpStream,
    bytes: Vec<u8>,
}

enum Peer {
    Handshaking(TcpStream, Vec<u8>),
    Client(Client),
    Publisher(Publisher),
    Gone,
}

/// Topics and payloads that were published together.
type Batch = Vec<(String, Vec<u8>)>;

/// Clients that came with the same URL, so with the same Topics.
struct Group {
    topics: Vec<String>,
    members: Vec<usize>,
}

/// The whole program.
#[derive(Default)]
struct Floor {
    peers: Vec<Peer>,
    groups: Vec<Group>,
    group_of_url: HashMap<String, usize>,
    groups_of_topic: HashMap<String, Vec<usize>>,
}

/// Runs until it is killed.
pub(crate) fn run(listen: SocketAddr, publish: SocketAddr) -> Fallible<()> {
    let mut poll = Poll::new()?;
    let mut clients = listener(listen)?;
    let mut publishers = listener(publish)?;
    poll.registry().register(&mut clients, CLIENTS, Interest::READABLE)?;
    poll.registry().register(&mut publishers, PUBLISHERS, Interest::READABLE)?;
    let mut floor = Floor::default();
    let mut events = Events::with_capacity(1024);
    let mut scratch = vec![0; 256 << 10];
    let mut second = clock::elapsed().as_secs();
    loop {
        poll.poll(&mut events, Some(Duration::from_millis(500)))
            .or_else(|error| if interrupted(&error) { Ok(()) } else { Err(error) })?;
        for event in &events {
            match event.token() {
                CLIENTS => {
                    floor.accept(&poll, &clients, |stream| Peer::Handshaking(stream, Vec::new()))?
                }
                PUBLISHERS => floor.accept(&poll, &publishers, |stream| {
                    Peer::Publisher(Publisher { stream, bytes: Vec::new() })
                })?,
                Token(token) => floor.turn(token - FIRST, &mut scratch),
            }
        }
        let now = clock::elapsed().as_secs();
        if now != second {
            second = now;
            floor.ping(now % PING_EVERY);
        }
    }
}

fn listener(address: SocketAddr) -> Fallible<TcpListener> {
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM.nonblocking(), None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(4096)?;
    Ok(TcpListener::from_std(socket.into()))
}

fn interrupted(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::Interrupted
}

impl Floor {
    fn accept(
        &mut self,
        poll: &Poll,
        listener: &TcpListener,
        peer: impl Fn(TcpStream) -> Peer,
    ) -> Fallible<()> {
        loop {
            match listener.accept() {
                Ok((mut stream, _)) => {
                    stream.set_nodelay(true)?;
                    let token = Token(FIRST + self.peers.len());
                    poll.registry().register(
                        &mut stream,
                        token,
                        Interest::READABLE | Interest::WRITABLE,
                    )?;
                    self.peers.push(peer(stream));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if interrupted(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// One readiness event of one peer.
    fn turn(&mut self, index: usize, scratch: &mut [u8]) {
        let Some(place) = self.peers.get_mut(index) else {
            return;
        };
        let next = match std::mem::replace(place, Peer::Gone) {
            Peer::Handshaking(stream, head) => self.handshake(index, stream, head, scratch),
            Peer::Client(client) => client.turn(scratch),
            Peer::Publisher(publisher) => self.publish(publisher, scratch),
            Peer::Gone => Peer::Gone,
        };
        self.peers[index] = next;
    }

    fn handshake(
        &mut self,
        index: usize,
        mut stream: TcpStream,
        mut head: Vec<u8>,
        scratch: &mut [u8],
    ) -> Peer {
        match stream.read(scratch) {
            Ok(0) => return Peer::Gone,
            Ok(count) => head.extend_from_slice(&scratch[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return Peer::Handshaking(stream, head);
            }
            Err(_) => return Peer::Gone,
        }
        if !head.ends_with(b"\r\n\r\n") {
            return Peer::Handshaking(stream, head);
        }
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {}\r\n\r\n",
            frame::ACCEPT
        );
        if stream.write_all(answer.as_bytes()).is_err() {
            return Peer::Gone;
        }
        let head = String::from_utf8_lossy(&head);
        self.join(head.split(' ').nth(1).unwrap_or_default(), index);
        Peer::Client(Client { stream, backlog: Vec::new() })
    }

    fn join(&mut self, url: &str, index: usize) {
        let group = match self.group_of_url.get(url) {
            Some(&group) => group,
            None => self.found_group(url),
        };
        self.groups[group].members.push(index);
    }

    fn found_group(&mut self, url: &str) -> usize {
        let group = self.groups.len();
        let query = url.split_once('?').map_or("", |(_, query)| query);
        let topics: Vec<String> = query
            .split('&')
            .filter_map(|pair| pair.strip_prefix("topic="))
            .map(str::to_owned)
            .collect();
        for topic in &topics {
            self.groups_of_topic.entry(topic.clone()).or_default().push(group);
        }
        self.groups.push(Group { topics, members: Vec::new() });
        self.group_of_url.insert(url.to_owned(), group);
        group
    }

    fn publish(&mut self, mut publisher: Publisher, scratch: &mut [u8]) -> Peer {
        loop {
            match publisher.stream.read(scratch) {
                Ok(0) => return Peer::Gone,
                Ok(count) => publisher.bytes.extend_from_slice(&scratch[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if interrupted(&error) => {}
                Err(_) => return Peer::Gone,
            }
        }
        while let Some((batch, length)) = read_batch(&publisher.bytes) {
            self.deliver(&batch);
            publisher.bytes.drain(..length);
            if publisher.stream.write_all(&[1]).is_err() {
                return Peer::Gone;
            }
        }
        Peer::Publisher(publisher)
    }

    /// Prepares the bytes once per group, walks its list, calls `send` once per client.
    fn deliver(&mut self, batch: &[(String, Vec<u8>)]) {
        let mut dirty: Vec<usize> = Vec::new();
        for (topic, _) in batch {
            for group in self.groups_of_topic.get(topic).into_iter().flatten() {
                if !dirty.contains(group) {
                    dirty.push(*group);
                }
            }
        }
        let mut bytes = Vec::new();
        for group in dirty {
            let group = &self.groups[group];
            bytes.clear();
            for (topic, data) in batch {
                if group.topics.contains(topic) {
                    frame::write(frame::TEXT, data, &mut bytes);
                }
            }
            for &member in &group.members {
                let place = &mut self.peers[member];
                if let Peer::Client(client) = place
                    && !client.send(&bytes)
                {
                    *place = Peer::Gone;
                }
            }
        }
    }

    fn ping(&mut self, slot: u64) {
        let mut bytes = Vec::new();
        frame::write(frame::PING, b"", &mut bytes);
        let slot = usize::try_from(slot).unwrap_or_default();
        for place in self.peers.iter_mut().skip(slot).step_by(25) {
            if let Peer::Client(client) = place
                && !client.send(&bytes)
            {
                *place = Peer::Gone;
            }
        }
    }
}

impl Client {
    /// False when the client is to be dropped.
    fn send(&mut self, bytes: &[u8]) -> bool {
        if !self.backlog.is_empty() {
            self.backlog.extend_from_slice(bytes);
            return self.backlog.len() <= BACKLOG_BYTES_MAX;
        }
        match self.stream.write(bytes) {
            Ok(count) => {
                self.backlog.extend_from_slice(&bytes[count..]);
                count == bytes.len() || self.flush()
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.backlog.extend_from_slice(bytes);
                true
            }
            Err(_) => false,
        }
    }

    fn flush(&mut self) -> bool {
        let mut done = 0;
        while done < self.backlog.len() {
            match self.stream.write(&self.backlog[done..]) {
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if interrupted(&error) => {}
                Err(_) => return false,
            }
        }
        self.backlog.drain(..done);
        if self.backlog.is_empty() {
            self.backlog = Vec::new();
        }
        true
    }

    /// Reads pongs away and sends what waits.
    fn turn(mut self, scratch: &mut [u8]) -> Peer {
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return Peer::Gone,
                Ok(count) if count < scratch.len() => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if interrupted(&error) => {}
                Err(_) => return Peer::Gone,
            }
        }
        if self.backlog.is_empty() || self.flush() { Peer::Client(self) } else { Peer::Gone }
    }
}

/// One whole batch at the start of `bytes`, and its length.
fn read_batch(bytes: &[u8]) -> Option<(Batch, usize)> {
    let mut rest = bytes;
    let count = u32::from_be_bytes(*take(&mut rest, 4)?.first_chunk()?);
    let mut batch = Vec::new();
    for _ in 0..count {
        let length = u16::from_be_bytes(*take(&mut rest, 2)?.first_chunk()?);
        let topic = String::from_utf8_lossy(take(&mut rest, usize::from(length))?).into_owned();
        let length = u32::from_be_bytes(*take(&mut rest, 4)?.first_chunk()?);
        batch.push((topic, take(&mut rest, usize::try_from(length).ok()?)?.to_vec()));
    }
    Some((batch, bytes.len() - rest.len()))
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}
