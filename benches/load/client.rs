//! The load client: one process, one thread, one epoll loop, as lean as a client can be that still
//! checks every frame. The driver (`fleet.rs`) starts it, gives it a `Plan` as its first line and
//! steers it by lines: `mark`, `report`, `say <spared> <text>`, `wait <deliveries> <ms>`; each is
//! answered by one `Report`. It ends when its input does. It knows no contender, only what the plan says of the
//! frames that are no deliveries.

use std::collections::VecDeque;
use std::io::{BufRead, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::Duration;

use hdrhistogram::Histogram;
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use serde::{Deserialize, Serialize};

use crate::clock::{self, Deadline};
use crate::{Fallible, frame, measure};

/// The token of the thread that reads the driver's lines.
const LINES: Token = Token(usize::MAX);
/// Handshakes under way at once.
const OPENING_MAX: usize = 128;
const OPEN_TIMEOUT: Duration = Duration::from_secs(120);
/// After a 503 or a refused connection.
const RETRY_AFTER: Duration = Duration::from_millis(250);
const LATENCY_MICROS_MAX: u64 = 120_000_000;

/// What the client is to open.
#[derive(Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Taken in turn: each has source ports of its own, 28,000 here.
    pub(crate) targets: Vec<SocketAddr>,
    pub(crate) groups: Vec<Group>,
    /// What a text says that acknowledges one Topic; a connection is open when each of its Topics
    /// was. None: it is open with the handshake.
    pub(crate) acknowledgement: Option<String>,
    /// What a text says that promises all that was missed; such are counted.
    pub(crate) promise: String,
    /// Whether a frame holds several texts, a line each, and `{}` is a ping that wants the same.
    pub(crate) lines: bool,
    /// Every so-manieth connection stops reading once it is open; 0: none.
    pub(crate) stalled_every: usize,
    /// Healthy receivers of each message, to time the last of them; 0: not timed.
    pub(crate) receivers: u32,
    pub(crate) handshakes_per_second: f64,
}

/// Connections that are alike.
#[derive(Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) url: String,
    /// The frame that asks for the Topics, where the URL does not.
    pub(crate) hello: Option<String>,
    pub(crate) topics: usize,
    pub(crate) connections: usize,
}

/// What the client has seen. Counts are from the start, latencies and times since the last `mark`.
#[derive(Default, Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    /// Open now, stalled ones included.
    pub(crate) open: usize,
    pub(crate) stalled: usize,
    /// Handshakes that were refused and tried again.
    pub(crate) refused: u64,
    /// Ends that the client did not ask for.
    pub(crate) closed: u64,
    pub(crate) deliveries: u64,
    /// Text frames that were no delivery.
    pub(crate) others: u64,
    /// Those of them that promised all that was missed.
    pub(crate) promised: u64,
    pub(crate) bytes: u64,
    pub(crate) reads: u64,
    pub(crate) pings: u64,
    /// Numbers that were skipped, came again at once, or came after a later one.
    pub(crate) lost: u64,
    pub(crate) twice: u64,
    pub(crate) backwards: u64,
    pub(crate) p50_micros: u64,
    pub(crate) p99_micros: u64,
    /// Until the last receiver of a message had it.
    pub(crate) last_p50_micros: u64,
    pub(crate) last_p99_micros: u64,
    /// Of this process, since `mark`.
    pub(crate) cpu_micros: u64,
    pub(crate) elapsed_micros: u64,
    /// The first thing that was not as it should be.
    pub(crate) trouble: Option<String>,
}

impl Report {
    /// This process's share of a core since `mark`.
    pub(crate) fn share(&self) -> f64 {
        self.cpu_micros as f64 / self.elapsed_micros.max(1) as f64
    }
}

enum Stage {
    Waiting,
    Connecting,
    Upgrading,
    /// So many `subscribed` are still to come.
    Subscribing(usize),
    Open,
    /// Open, and never read again.
    Stalled,
    Closed,
}

struct Connection {
    stage: Stage,
    group: u32,
    stream: Option<TcpStream>,
    /// The start of a frame whose end has not come.
    carry: Vec<u8>,
    /// The number that must come next, for each of the Topics.
    next: Box<[u64]>,
}

struct Client {
    poll: Poll,
    plan: Plan,
    connections: Vec<Connection>,
    /// Not yet tried, then those to try again.
    waiting: VecDeque<usize>,
    opening: usize,
    seen: Report,
    latency: Histogram<u64>,
    last: Histogram<u64>,
    /// Receivers so far, by number.
    receivers: Vec<u32>,
    /// Where the last delivery had its number: the next has it there too.
    hint: usize,
    scratch: Vec<u8>,
    mark: (Duration, Duration),
}

/// Runs until the driver closes the input.
pub(crate) fn run() -> Fallible<()> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), LINES)?;
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() || waker.wake().is_err() {
                return;
            }
        }
        drop(sender);
        let _ = waker.wake();
    });
    let plan = serde_json::from_str(&lines.recv()?)?;
    let mut client = Client::new(poll, plan)?;
    client.open()?;
    client.answer()?;
    client.serve(&lines)
}

impl Client {
    fn new(poll: Poll, plan: Plan) -> Fallible<Self> {
        let mut connections = Vec::new();
        for (index, group) in plan.groups.iter().enumerate() {
            for _ in 0..group.connections {
                connections.push(Connection {
                    stage: Stage::Waiting,
                    group: u32::try_from(index)?,
                    stream: None,
                    carry: Vec::new(),
                    next: vec![0; group.topics].into_boxed_slice(),
                });
            }
        }
        Ok(Self {
            poll,
            waiting: (0..connections.len()).collect(),
            connections,
            plan,
            opening: 0,
            seen: Report::default(),
            latency: Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 3)?,
            last: Histogram::new_with_bounds(1, LATENCY_MICROS_MAX, 3)?,
            receivers: Vec::new(),
            hint: 0,
            scratch: vec![0; 1 << 20],
            mark: (clock::elapsed(), Duration::ZERO),
        })
    }

    /// Opens all connections, at the rate of the plan.
    fn open(&mut self) -> Fallible<()> {
        let deadline = Deadline::after(OPEN_TIMEOUT);
        let mut events = Events::with_capacity(1024);
        let (mut started, mut allowance) = (clock::elapsed(), 0.0);
        let mut retry_at = Duration::ZERO;
        while self.opening > 0 || !self.waiting.is_empty() {
            if deadline.passed() {
                let missing = self.waiting.len() + self.opening;
                let trouble = self.seen.trouble.take().unwrap_or_default();
                return Err(format!("{missing} connections did not open: {trouble}").into());
            }
            let now = clock::elapsed();
            let earned = (now - started).as_secs_f64() * self.plan.handshakes_per_second;
            allowance = (allowance + earned).min(100.0);
            started = now;
            let refused = self.seen.refused;
            while allowance >= 1.0 && self.opening < OPENING_MAX && now >= retry_at {
                let Some(index) = self.waiting.pop_front() else {
                    break;
                };
                allowance -= 1.0;
                self.connect(index)?;
            }
            self.turn(&mut events, Some(Duration::from_millis(2)))?;
            if self.seen.refused > refused {
                retry_at = clock::elapsed() + RETRY_AFTER;
            }
        }
        // A refused handshake explains nothing that comes after.
        self.seen.trouble = None;
        Ok(())
    }

    /// Answers the driver's lines until they end.
    fn serve(&mut self, lines: &Receiver<String>) -> Fallible<()> {
        let mut events = Events::with_capacity(1024);
        let mut wait: Option<(u64, Deadline)> = None;
        loop {
            let timeout = wait.map_or(Duration::from_secs(1), |(_, deadline)| deadline.left());
            self.turn(&mut events, Some(timeout))?;
            if let Some((count, deadline)) = wait
                && (self.seen.deliveries >= count || deadline.passed())
            {
                wait = None;
                self.answer()?;
            }
            match lines.try_recv() {
                Ok(line) => {
                    let mut words = line.splitn(3, ' ');
                    match (words.next(), words.next(), words.next()) {
                        (Some("mark"), None, None) => {
                            self.latency.reset();
                            self.last.reset();
                            self.mark = (clock::elapsed(), measure::own_cpu()?);
                            self.answer()?;
                        }
                        (Some("report"), None, None) => self.answer()?,
                        (Some("say"), Some(spared), Some(text)) => {
                            for index in spared.parse()?..self.connections.len() {
                                if matches!(self.connections[index].stage, Stage::Open) {
                                    self.say(index, frame::TEXT, text.as_bytes());
                                }
                            }
                            self.answer()?;
                        }
                        (Some("wait"), Some(count), Some(millis)) => {
                            let deadline = Deadline::after(Duration::from_millis(millis.parse()?));
                            wait = Some((count.parse()?, deadline));
                            // All may be here already.
                            self.poll_again()?;
                        }
                        _ => return Err(format!("not understood: {line}").into()),
                    }
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Ok(()),
            }
            if let Some((count, _)) = wait
                && self.seen.deliveries >= count
            {
                wait = None;
                self.answer()?;
            }
        }
    }

    /// One turn without waiting.
    fn poll_again(&mut self) -> Fallible<()> {
        self.turn(&mut Events::with_capacity(1024), Some(Duration::ZERO))
    }

    /// Writes the report as one line.
    fn answer(&mut self) -> Fallible<()> {
        self.seen.p50_micros = self.latency.value_at_quantile(0.5);
        self.seen.p99_micros = self.latency.value_at_quantile(0.99);
        self.seen.last_p50_micros = self.last.value_at_quantile(0.5);
        self.seen.last_p99_micros = self.last.value_at_quantile(0.99);
        let (at, cpu) = self.mark;
        let cpu = measure::own_cpu()?.saturating_sub(cpu);
        self.seen.cpu_micros = u64::try_from(cpu.as_micros())?;
        self.seen.elapsed_micros = u64::try_from((clock::elapsed() - at).as_micros())?;
        let mut line = serde_json::to_vec(&self.seen)?;
        line.push(b'\n');
        let mut out = std::io::stdout().lock();
        out.write_all(&line)?;
        out.flush()?;
        Ok(())
    }

    fn turn(&mut self, events: &mut Events, timeout: Option<Duration>) -> Fallible<()> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        for event in &*events {
            if event.token() != LINES {
                self.ready(event);
            }
        }
        Ok(())
    }

    fn connect(&mut self, index: usize) -> Fallible<()> {
        let target = self.plan.targets[index % self.plan.targets.len()];
        let kind = socket2::Type::STREAM.nonblocking();
        let socket = socket2::Socket::new(socket2::Domain::for_address(target), kind, None)?;
        socket.set_tcp_nodelay(true)?;
        // Not there on every kernel; what this end sends hardly counts.
        let _ = socket.set_tcp_congestion(b"cubic");
        match socket.connect(&target.into()) {
            Err(error) if !in_progress(&error) => {
                self.trouble(|| format!("connect: {error}"));
                self.seen.refused += 1;
                self.waiting.push_back(index);
                return Ok(());
            }
            _ => {}
        }
        let mut stream = TcpStream::from_std(socket.into());
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(&mut stream, Token(index), interest)?;
        let connection = &mut self.connections[index];
        connection.stream = Some(stream);
        connection.stage = Stage::Connecting;
        connection.carry = Vec::new();
        self.opening += 1;
        Ok(())
    }

    fn ready(&mut self, event: &Event) {
        let Token(index) = event.token();
        if matches!(self.connections[index].stage, Stage::Connecting) && event.is_writable() {
            self.ask(index);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.read(index, event.is_read_closed() || event.is_error());
        }
    }

    /// Sends the upgrade request.
    fn ask(&mut self, index: usize) {
        let connection = &mut self.connections[index];
        let target = self.plan.targets[index % self.plan.targets.len()];
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {target}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {}\r\nSec-WebSocket-Version: 13\r\n\r\n",
            self.plan.groups[connection.group as usize].url,
            frame::KEY
        );
        connection.stage = Stage::Upgrading;
        let sent = connection.stream.as_mut().map(|stream| stream.write(request.as_bytes()));
        if !matches!(sent, Some(Ok(count)) if count == request.len()) {
            self.end(index, || "the upgrade request was not taken".to_owned());
        }
    }

    /// Reads until the socket is empty. A short read says so without another call, except behind an
    /// end, whose edge has already been given.
    fn read(&mut self, index: usize, ended: bool) {
        let mut scratch = std::mem::take(&mut self.scratch);
        loop {
            let connection = &mut self.connections[index];
            if matches!(connection.stage, Stage::Stalled | Stage::Closed | Stage::Waiting) {
                break;
            }
            let Some(stream) = &mut connection.stream else {
                break;
            };
            let carried = connection.carry.len();
            scratch[..carried].copy_from_slice(&connection.carry);
            match stream.read(&mut scratch[carried..]) {
                Ok(0) => {
                    self.end(index, || "closed without a Close".to_owned());
                    break;
                }
                Ok(count) => {
                    self.seen.reads += 1;
                    self.seen.bytes += count as u64;
                    let whole = carried + count;
                    let used = self.take(index, &scratch[..whole]);
                    let connection = &mut self.connections[index];
                    connection.carry.clear();
                    connection.carry.extend_from_slice(&scratch[used..whole]);
                    if connection.carry.is_empty() && connection.carry.capacity() > 4096 {
                        connection.carry = Vec::new();
                    }
                    if whole < scratch.len() && !ended {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    self.end(index, || error.to_string());
                    break;
                }
            }
        }
        self.scratch = scratch;
    }

    /// Takes what is whole in `bytes`; returns how much of them that was.
    fn take(&mut self, index: usize, bytes: &[u8]) -> usize {
        let mut used = 0;
        if matches!(self.connections[index].stage, Stage::Upgrading) {
            let Some(end) = find(bytes, b"\r\n\r\n") else {
                return 0;
            };
            used = end + 4;
            if !self.upgraded(index, &bytes[..used]) {
                return bytes.len();
            }
        }
        let now = clock::unix_micros();
        while let Some((frame, length)) = frame::read(&bytes[used..]) {
            match frame.opcode {
                frame::TEXT if self.plan.lines => self.lines(index, frame.payload, now),
                frame::TEXT => self.text(index, frame.payload, now),
                frame::PING => self.pong(index, frame.payload),
                frame::CLOSE => {
                    let code = frame.payload.first_chunk().map_or(1005, |c| u16::from_be_bytes(*c));
                    let reason = frame.payload.get(2..).unwrap_or_default();
                    self.end(index, || {
                        format!("closed with {code} {}", String::from_utf8_lossy(reason))
                    });
                    return bytes.len();
                }
                _ => {}
            }
            used += length;
        }
        used
    }

    /// The answer to the upgrade; false if it was refused.
    fn upgraded(&mut self, index: usize, head: &[u8]) -> bool {
        if !head.starts_with(b"HTTP/1.1 101 ") || find(head, frame::ACCEPT.as_bytes()).is_none() {
            let status =
                String::from_utf8_lossy(head.split(|b| *b == b'\r').next().unwrap_or(head))
                    .into_owned();
            self.end(index, || format!("upgrade answered by {status}"));
            return false;
        }
        let connection = &self.connections[index];
        let topics = connection.next.len();
        if let Some(hello) = self.plan.groups[connection.group as usize].hello.clone() {
            self.say(index, frame::TEXT, hello.as_bytes());
        }
        if self.plan.acknowledgement.is_some() && topics > 0 {
            self.connections[index].stage = Stage::Subscribing(topics);
        } else {
            self.opened(index);
        }
        true
    }

    fn opened(&mut self, index: usize) {
        self.opening -= 1;
        self.seen.open += 1;
        let every = self.plan.stalled_every;
        let connection = &mut self.connections[index];
        connection.stage = Stage::Open;
        if every > 0
            && index.is_multiple_of(every)
            && let Some(stream) = &mut connection.stream
            && self.poll.registry().deregister(stream).is_ok()
        {
            connection.stage = Stage::Stalled;
            self.seen.stalled += 1;
        }
    }

    fn lines(&mut self, index: usize, payload: &[u8], now: u64) {
        for line in payload.split(|byte| *byte == b'\n') {
            match line {
                b"" => {}
                b"{}" => {
                    self.seen.pings += 1;
                    self.say(index, frame::TEXT, line);
                }
                line => self.text(index, line, now),
            }
        }
    }

    fn text(&mut self, index: usize, payload: &[u8], now: u64) {
        let Some((n, topic, sent)) = self.numbers(payload) else {
            self.seen.others += 1;
            if find(payload, self.plan.promise.as_bytes()).is_some() {
                self.seen.promised += 1;
            }
            let acknowledgement = self.plan.acknowledgement.as_deref();
            if acknowledgement.is_some_and(|text| find(payload, text.as_bytes()).is_some()) {
                if let Stage::Subscribing(left) = &mut self.connections[index].stage {
                    *left -= 1;
                    if *left == 0 {
                        self.opened(index);
                    }
                }
            } else if find(payload, br#""type":"error""#).is_some()
                || find(payload, br#""error":"#).is_some()
                || find(payload, br#""type":"gap""#).is_some()
            {
                self.trouble(|| String::from_utf8_lossy(payload).into_owned());
            }
            return;
        };
        self.seen.deliveries += 1;
        let late = now.saturating_sub(sent);
        self.latency.saturating_record(late);
        let connection = &mut self.connections[index];
        let Some(next) = connection.next.get_mut(topic) else {
            self.trouble(|| format!("a delivery of Topic {topic}, which was not asked for"));
            return;
        };
        match n.cmp(next) {
            std::cmp::Ordering::Equal => *next += 1,
            std::cmp::Ordering::Greater => {
                self.seen.lost += n - *next;
                *next = n + 1;
            }
            std::cmp::Ordering::Less if n + 1 == *next => self.seen.twice += 1,
            std::cmp::Ordering::Less => self.seen.backwards += 1,
        }
        if self.plan.receivers > 0 {
            self.count_receiver(n, late);
        }
    }

    fn count_receiver(&mut self, n: u64, late: u64) {
        let Ok(n) = usize::try_from(n) else { return };
        if n >= self.receivers.len() {
            self.receivers.resize(n + 1, 0);
        }
        self.receivers[n] += 1;
        if self.receivers[n] == self.plan.receivers {
            self.last.saturating_record(late);
        }
    }

    /// The three numbers every published payload begins with: `{"n":1,"k":0,"t":1700…,`.
    fn numbers(&mut self, payload: &[u8]) -> Option<(u64, usize, u64)> {
        const MARK: &[u8] = br#"{"n":"#;
        let at = match payload.get(self.hint..) {
            Some(rest) if rest.starts_with(MARK) => self.hint,
            _ => find(payload, MARK)?,
        };
        self.hint = at;
        let (n, rest) = number(&payload[at + MARK.len()..])?;
        let (topic, rest) = number(rest.strip_prefix(br#","k":"#)?)?;
        let (sent, _) = number(rest.strip_prefix(br#","t":"#)?)?;
        Some((n, usize::try_from(topic).ok()?, sent))
    }

    fn pong(&mut self, index: usize, payload: &[u8]) {
        self.seen.pings += 1;
        self.say(index, frame::PONG, payload);
    }

    fn say(&mut self, index: usize, opcode: u8, payload: &[u8]) {
        let mut bytes = Vec::with_capacity(6 + payload.len());
        frame::write_masked(opcode, payload, &mut bytes);
        let stream = self.connections[index].stream.as_mut();
        let sent = stream.map(|stream| stream.write(&bytes));
        if !matches!(sent, Some(Ok(count)) if count == bytes.len()) {
            self.trouble(|| format!("a frame of kind {opcode} was not taken"));
        }
    }

    /// The connection is gone: tried again if it never opened, else counted.
    fn end(&mut self, index: usize, why: impl Fn() -> String) {
        self.trouble(&why);
        let connection = &mut self.connections[index];
        connection.stream = None;
        match connection.stage {
            Stage::Connecting | Stage::Upgrading | Stage::Subscribing(_) => {
                connection.stage = Stage::Waiting;
                self.opening -= 1;
                self.seen.refused += 1;
                self.waiting.push_back(index);
            }
            Stage::Open => {
                connection.stage = Stage::Closed;
                self.seen.open -= 1;
                self.seen.closed += 1;
            }
            Stage::Waiting | Stage::Stalled | Stage::Closed => {}
        }
    }

    fn trouble(&mut self, what: impl Fn() -> String) {
        if self.seen.trouble.is_none() {
            self.seen.trouble = Some(what());
        }
    }
}

/// A connect that goes on in the background; the error has no stable kind.
fn in_progress(error: &std::io::Error) -> bool {
    const EINPROGRESS: i32 = 115;
    error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(EINPROGRESS)
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

/// The decimal number at the start of `bytes`, and what follows it.
fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = bytes.split_at_checked(digits)?;
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    Some((digits.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0')), rest))
}
