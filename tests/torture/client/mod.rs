//! A client as `proto/README.md` wants one: its Subscriptions outlive its Connections.
//!
//! It comes back to whichever node with the Cursor of each Subscription, waits before that with full
//! jitter, moves at its moment when it is told to go, and never hands on twice. It writes down all that
//! it gets, also what it does not hand on. One task each, however many Connections it has.

mod frame;
mod line;
mod subscription;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Error, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::log::{Connection, End};
use super::rng::Rng;
use super::world::{Orders, World};
use frame::Frame;
use line::{Line, View};
pub(crate) use subscription::Want;
use subscription::{Resume, Wanted};

/// Who hears nothing for so long takes its Connection for lost: 25 s and 10 s, as the protocol says.
const SILENCE: Duration = Duration::from_secs(35);
/// A handshake that takes longer is given up.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// What is sent is small, and taken at once.
const SEND: Duration = Duration::from_secs(5);
/// How long it reads on from its old Connection when it moves: other servers know of the new one later.
const LINGER: Duration = Duration::from_secs(1);
/// The first bound of a random wait, and the last.
const BACK_OFF_FIRST: Duration = Duration::from_millis(500);
const BACK_OFF_MAX: Duration = Duration::from_secs(30);
/// Who has been well for so long begins anew.
const WELL: Duration = Duration::from_secs(5);
/// After its own close it waits so long for the node's.
const GOODBYE: Duration = Duration::from_secs(5);
/// Bytes that a socket reads at a time: there are hundreds of them.
const READ_BYTES: usize = 8 * 1_024;

type Socket = WebSocketStream<TcpStream>;
/// An open socket and its node; or how long to wait at least, if a node said so.
type Dialled = Result<(usize, Socket), Option<Duration>>;
type Dialling = Pin<Box<dyn Future<Output = Dialled> + Send>>;

/// Who a client is, and what it wants.
pub(crate) struct Plan {
    pub(crate) number: usize,
    pub(crate) token: String,
    pub(crate) wants: Vec<Want>,
    /// What it asks for though it may not have it.
    pub(crate) spies_on: Option<String>,
    /// Whether it leaves now and then.
    pub(crate) is_restless: bool,
}

/// What it has written down.
pub(crate) struct Log {
    pub(crate) subscriptions: Vec<super::log::Subscription>,
    /// The notes speak of these by their index.
    pub(crate) connections: Vec<Connection>,
}

/// A client.
pub(crate) struct Client {
    world: Arc<World>,
    plan: Plan,
    rng: Rng,
    orders: watch::Receiver<Orders>,
    subscriptions: Vec<Wanted>,
    connections: Vec<Connection>,
    /// Of two the newer one comes last.
    lines: Vec<Line>,
    dialling: Option<Dialling>,
    /// When to dial next.
    dial_at: Option<Instant>,
    tries: u32,
    /// When it leaves of its own will.
    leaves_at: Option<Instant>,
    counted: (bool, bool),
}

enum Happened {
    Ordered,
    Dialled(Box<Dialled>),
    Came(usize, Option<Result<Message, Error>>),
    Due,
}

impl Client {
    pub(crate) fn new(world: Arc<World>, plan: Plan) -> Self {
        let rng = Rng::new(world.seed, 1_000 + plan.number as u64);
        let orders = world.orders.subscribe();
        let subscriptions = plan.wants.iter().cloned().map(Wanted::new).collect();
        Self {
            world,
            plan,
            rng,
            orders,
            subscriptions,
            connections: Vec::new(),
            lines: Vec::new(),
            dialling: None,
            dial_at: Some(Instant::now()),
            tries: 0,
            leaves_at: None,
            counted: (false, false),
        }
    }

    /// Runs until it is told that all is over; gives what it has written down.
    pub(crate) async fn run(mut self) -> Log {
        self.obey();
        loop {
            self.count();
            let orders = *self.orders.borrow();
            if orders.over {
                self.obey();
                self.count();
                break;
            }
            let due = self.due();
            let happened = tokio::select! {
                changed = self.orders.changed() => {
                    changed.expect("the world is there");
                    Happened::Ordered
                }
                dialled = dialled(&mut self.dialling) => Happened::Dialled(Box::new(dialled)),
                (at, came) = came(&mut self.lines) => Happened::Came(at, came),
                () = until(due) => Happened::Due,
            };
            match happened {
                Happened::Ordered => self.obey(),
                Happened::Dialled(dialled) => self.open(*dialled),
                Happened::Came(at, came) => self.read(at, came).await,
                Happened::Due => {}
            }
            self.do_what_is_due().await;
        }
        let number = self.plan.number;
        let subscriptions = self.subscriptions.into_iter().map(|one| one.log(number)).collect();
        Log { subscriptions, connections: self.connections }
    }

    /// Counts itself among those that are live, and among those that have got the last of everything.
    fn count(&mut self) {
        let live = self.lines.iter().any(|line| line.is_live(&self.subscriptions));
        let done = live && self.subscriptions.iter().all(Wanted::has_the_last);
        let count = |counter: &std::sync::atomic::AtomicUsize, was: bool, is: bool| {
            match (was, is) {
                (false, true) => counter.fetch_add(1, Ordering::Relaxed),
                (true, false) => counter.fetch_sub(1, Ordering::Relaxed),
                _ => 0,
            };
        };
        count(&self.world.live, self.counted.0, live);
        count(&self.world.done, self.counted.1, done);
        self.counted = (live, done);
    }

    /// Looks at its orders.
    fn obey(&mut self) {
        let orders = *self.orders.borrow_and_update();
        let away = orders.away && self.plan.number.is_multiple_of(3);
        if away || orders.over {
            for at in (0..self.lines.len()).rev() {
                self.end(at, End::Own);
            }
            (self.dialling, self.dial_at, self.leaves_at) = (None, None, None);
            return;
        }
        if self.lines.is_empty() && self.dialling.is_none() && self.dial_at.is_none() {
            self.dial_at = Some(Instant::now() + self.random(BACK_OFF_FIRST));
        }
        if !orders.restless || !self.plan.is_restless {
            self.leaves_at = None;
        } else if self.leaves_at.is_none() {
            self.leaves_at = Some(Instant::now() + self.random(Duration::from_secs(20)));
        }
    }

    fn random(&mut self, bound: Duration) -> Duration {
        let ms = u64::try_from(bound.as_millis()).expect("a short time");
        Duration::from_millis(self.rng.below(ms + 1))
    }

    /// The next moment at which something is to be done.
    fn due(&self) -> Option<Instant> {
        let of_lines = self.lines.iter().flat_map(|line| {
            let again = self.subscriptions.iter().filter_map(|one| one.ask_again_at);
            let ends = line.leaves_at.or(line.goes_at);
            [Some(line.heard_at + SILENCE), ends].into_iter().flatten().chain(again)
        });
        of_lines.chain(self.dial_at).chain(self.leaves_at).min()
    }

    async fn do_what_is_due(&mut self) {
        let now = Instant::now();
        let is_due = |at: &Option<Instant>| at.is_some_and(|at| at <= now);
        for at in (0..self.lines.len()).rev() {
            let line = &mut self.lines[at];
            if line.heard_at + SILENCE <= now {
                self.end(at, End::Own);
            } else if is_due(&line.leaves_at) {
                if line.says_goodbye {
                    self.end(at, End::Own);
                } else {
                    line.says_goodbye = true;
                    line.leaves_at = Some(now + GOODBYE);
                    self.say_goodbye(at).await;
                }
            } else if is_due(&line.goes_at) {
                line.goes_at = None;
                self.dial_at = Some(now);
            }
        }
        if is_due(&self.leaves_at) {
            self.leaves_at =
                Some(now + Duration::from_secs(5) + self.random(Duration::from_secs(20)));
            if self.lines.len() == 1 && self.dialling.is_none() {
                if self.rng.percent(50) {
                    self.say_goodbye(0).await;
                }
                self.end(0, End::Own);
                let away = self.random(Duration::from_secs(4));
                self.dial_at = Some(now + away);
            }
        }
        if is_due(&self.dial_at) && self.dialling.is_none() {
            self.dial_at = None;
            let nodes = self.world.door.ready(&mut self.rng);
            let path = format!("/v1/connect?heartbeat=message&client=torture/{}", self.plan.number);
            self.dialling = Some(Box::pin(dial(nodes, path, self.plan.token.clone())));
        }
        let again: Vec<usize> = (0..self.subscriptions.len())
            .filter(|at| is_due(&self.subscriptions[*at].ask_again_at))
            .collect();
        if !again.is_empty() {
            for at in &again {
                self.subscriptions[*at].ask_again_at = None;
            }
            // A newer Connection asks for all of them by itself.
            if let Some(at) = self.lines.len().checked_sub(1).filter(|at| self.lines[*at].asked) {
                let missing = |index: &usize| self.lines[at].views[*index] == View::None;
                let again: Vec<usize> = again.into_iter().filter(missing).collect();
                self.subscribe(at, &again, false).await;
            }
        }
    }

    /// What became of dialling.
    fn open(&mut self, dialled: Dialled) {
        self.dialling = None;
        let now = Instant::now();
        match dialled {
            Ok((node, socket)) => {
                self.connections.push(Connection {
                    client: self.plan.number,
                    node,
                    opened: self.world.now(),
                    ended: None,
                    buses: Vec::new(),
                    told_to_go: None,
                    errors: Vec::new(),
                    wrongs: Vec::new(),
                });
                let connection = self.connections.len() - 1;
                self.lines.push(Line::new(socket, connection, self.subscriptions.len()));
            }
            Err(after) => {
                let wait = self.back_off().max(after.unwrap_or_default());
                self.dial_at = Some(now + wait);
            }
        }
    }

    /// A random time up to a bound that doubles.
    fn back_off(&mut self) -> Duration {
        let bound = BACK_OFF_FIRST.saturating_mul(1 << self.tries.min(10)).min(BACK_OFF_MAX);
        self.tries += 1;
        self.random(bound)
    }

    async fn read(&mut self, at: usize, came: Option<Result<Message, Error>>) {
        self.lines[at].heard_at = Instant::now();
        match came {
            Some(Ok(Message::Text(text))) => self.frame(at, &text).await,
            Some(Ok(Message::Close(Some(close)))) => self.closed(at, &close),
            Some(Ok(Message::Close(None))) | Some(Err(_)) | None => {
                let own = self.lines[at].says_goodbye;
                self.ended(at, if own { End::Own } else { End::Cut }, None);
            }
            Some(Ok(_)) => {}
        }
    }

    fn closed(&mut self, at: usize, close: &CloseFrame) {
        let status = u16::from(close.code);
        if status == 1000 && self.lines[at].says_goodbye {
            self.ended(at, End::Own, None);
            return;
        }
        let words: serde_json::Value = serde_json::from_str(&close.reason).unwrap_or_default();
        let code = words["code"].as_str().unwrap_or_default().to_owned();
        if words["retry"] != true {
            self.wrong(at, format!("sent away for good by {status} {code}"));
        }
        let after = words["ms"].as_u64().map(Duration::from_millis);
        self.ended(at, End::Closed { status, code }, after);
    }

    /// A Connection is over, and it comes back when it may.
    fn ended(&mut self, at: usize, end: End, after: Option<Duration>) {
        if self.lines[at].live_since.is_some_and(|since| since.elapsed() >= WELL) {
            self.tries = 0;
        }
        self.end(at, end);
        if self.lines.is_empty() && self.dialling.is_none() && self.dial_at.is_none() {
            let wait = match after {
                Some(after) => after,
                None => self.back_off(),
            };
            self.dial_at = Some(Instant::now() + wait);
        }
    }

    fn end(&mut self, at: usize, end: End) {
        let line = self.lines.remove(at);
        let now = self.world.now();
        self.connections[line.connection].ended = Some((now, end));
        for (index, view) in line.views.iter().enumerate() {
            if !matches!(view, View::None | View::Over) {
                self.subscriptions[index].over(now, line.connection);
            }
        }
    }

    async fn say_goodbye(&mut self, at: usize) {
        let close = CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::from_static("") };
        let socket = &mut self.lines[at].socket;
        // If it cannot be said, the end of the socket says it.
        let _ = timeout(SEND, socket.send(Message::Close(Some(close)))).await;
    }

    fn wrong(&mut self, at: usize, words: String) {
        self.connections[self.lines[at].connection].wrongs.push(words);
    }

    async fn send(&mut self, at: usize, command: serde_json::Value) {
        let message = Message::text(command.to_string());
        // What was not sent is not answered, and then silence says so.
        let _ = timeout(SEND, self.lines[at].socket.send(message)).await;
    }

    /// Asks for these, each from its Cursor.
    async fn subscribe(&mut self, at: usize, which: &[usize], spy: bool) {
        let now = self.world.now();
        let connection = self.lines[at].connection;
        let mut topics = Vec::new();
        for index in which {
            self.lines[at].views[*index] = View::Asked;
            let one = &mut self.subscriptions[*index];
            match one.ask(now, connection) {
                Resume::Live => topics.push(json!({"topic": one.want.pattern.as_str()})),
                Resume::Cursor(cursor) => topics
                    .push(json!({"topic": one.want.pattern.as_str(), "from": {"cursor": cursor}})),
            }
        }
        if let Some(pattern) = self.plan.spies_on.as_ref().filter(|_| spy) {
            topics.push(json!({"topic": pattern}));
        }
        if topics.is_empty() {
            return;
        }
        self.send(at, json!({"type": "subscribe", "id": 1, "topics": topics})).await;
    }

    async fn frame(&mut self, at: usize, text: &str) {
        let frame: Frame<'_> = match serde_json::from_str(text) {
            Ok(frame) => frame,
            Err(fault) => return self.wrong(at, format!("not readable, {fault}: {text}")),
        };
        if let Err(wrong) = self.understand(at, &frame).await {
            self.wrong(at, format!("{wrong}: {text}"));
        }
    }

    async fn understand(&mut self, at: usize, frame: &Frame<'_>) -> Result<(), String> {
        let now = self.world.now();
        let connection = self.lines[at].connection;
        match frame.kind {
            "message" => self.publication(at, frame)?,
            _ if self.lines[at].block.is_some() => return Err("it comes within a replay".into()),
            "connected" => {
                let all: Vec<usize> = (0..self.subscriptions.len()).collect();
                self.lines[at].asked = true;
                self.subscribe(at, &all, true).await;
            }
            "subscribed" => self.subscribed(at, frame)?,
            "replay" => {
                let index = self.find(frame)?;
                let line = &mut self.lines[at];
                if line.views[index] == View::Live {
                    self.subscriptions[index].again(now, connection);
                }
                if line.views[index] != View::Over {
                    line.views[index] = View::Replaying;
                }
                line.begin_block(index, frame, None)?;
                self.go_on(at);
            }
            "gap" => {
                let index = self.find(frame)?;
                if self.lines[at].views[index] != View::Over {
                    self.subscriptions[index].gap(now, connection, frame.reason);
                }
            }
            "position" => {
                let cursor = frame.cursor.ok_or("it has no cursor")?;
                let line = &self.lines[at];
                for (one, view) in self.subscriptions.iter_mut().zip(&line.views) {
                    let here = Some(one.want.pattern.namespace()) == frame.namespace;
                    if *view == View::Live && here {
                        one.reach(cursor);
                    }
                }
            }
            "bus" => {
                let is = frame.connected.ok_or("it does not say how it is")?;
                self.connections[connection].buses.push((now, is));
            }
            "going_away" => {
                let slot = frame.reconnect_in_ms.ok_or("it does not say when")?;
                let before = self.connections[connection].told_to_go.replace((now, slot));
                self.lines[at].goes_at = Some(Instant::now() + Duration::from_millis(slot));
                if before.is_some() {
                    return Err("told to go twice".into());
                }
            }
            "ping" => self.send(at, json!({"type": "pong"})).await,
            "error" => self.refused(at, frame)?,
            _ => return Err("nobody asked for it".into()),
        }
        Ok(())
    }

    fn find(&self, frame: &Frame<'_>) -> Result<usize, String> {
        let topic = frame.topic.ok_or("it has no topic")?;
        let mut all = self.subscriptions.iter();
        let found = all.position(|one| one.want.pattern.as_str() == topic);
        found.ok_or_else(|| match &self.plan.spies_on {
            Some(spied) if spied == topic => "what is forbidden was given".to_owned(),
            _ => "nobody asked for this topic".to_owned(),
        })
    }

    fn subscribed(&mut self, at: usize, frame: &Frame<'_>) -> Result<(), String> {
        let index = self.find(frame)?;
        if self.lines[at].views[index] != View::Asked {
            return Err("answered twice".into());
        }
        let (now, connection) = (self.world.now(), self.lines[at].connection);
        // A kept one is this Connection's from here on. A best-effort one still comes on both.
        if self.subscriptions[index].want.kept {
            for older in &mut self.lines[..at] {
                if !matches!(older.views[index], View::None | View::Over) {
                    self.subscriptions[index].over(now, older.connection);
                    older.views[index] = View::Over;
                }
            }
        }
        self.subscriptions[index].begun(now, connection, frame);
        let line = &mut self.lines[at];
        line.views[index] = View::Replaying;
        line.begin_block(index, frame, frame.cursor.map(str::to_owned))?;
        self.go_on(at);
        Ok(())
    }

    /// Behind the last Publication of a part, or its head.
    fn go_on(&mut self, at: usize) {
        let (now, line) = (self.world.now(), &mut self.lines[at]);
        let Some(block) = line.block.take_if(|block| block.left == 0) else {
            return;
        };
        if line.views[block.index] == View::Over {
            return;
        }
        let one = &mut self.subscriptions[block.index];
        if let Some(cursor) = &block.cursor {
            one.reach(cursor);
        }
        if block.more {
            return;
        }
        line.views[block.index] = View::Live;
        one.live(now, line.connection);
        if line.is_live(&self.subscriptions) {
            self.settled(at);
        }
    }

    /// Everything is live on this Connection: an older one is left.
    fn settled(&mut self, at: usize) {
        let now = Instant::now();
        self.lines[at].live_since = Some(now);
        let lingers = self.subscriptions.iter().any(|one| !one.want.kept);
        let linger = if lingers { LINGER } else { Duration::ZERO };
        for older in &mut self.lines[..at] {
            older.goes_at = None;
            older.leaves_at.get_or_insert(now + linger);
        }
    }

    fn publication(&mut self, at: usize, frame: &Frame<'_>) -> Result<(), String> {
        let name = frame.topic.ok_or("it has no topic")?;
        let topic = self.world.topic(name).ok_or("nobody publishes there")?;
        let data = frame.data.as_ref().ok_or("it has no data")?;
        if data.g != self.world.topics[topic].group {
            return Err("it says that it is for others".into());
        }
        let now = self.world.now();
        let line = &mut self.lines[at];
        line.frames += 1;
        let (number, connection) = (line.frames, line.connection);
        if let Some(block) = &mut line.block {
            block.left -= 1;
            let index = block.index;
            if line.views[index] != View::Over {
                self.subscriptions[index].got(now, connection, number, topic, frame, true)?;
            }
            self.go_on(at);
            return Ok(());
        }
        let mut wanted = false;
        for (one, view) in self.subscriptions.iter_mut().zip(&line.views) {
            if one.want.topics.contains(&topic) {
                wanted = true;
                if *view == View::Live {
                    one.got(now, connection, number, topic, frame, false)?;
                }
            }
        }
        if wanted { Ok(()) } else { Err("nobody wants it".into()) }
    }

    fn refused(&mut self, at: usize, frame: &Frame<'_>) -> Result<(), String> {
        let code = frame.code.ok_or("it has no code")?;
        let (now, connection) = (self.world.now(), self.lines[at].connection);
        self.connections[connection].errors.push((now, code.to_owned()));
        if frame.topic.is_some() && frame.topic == self.plan.spies_on.as_deref() {
            return if code == "forbidden" { Ok(()) } else { Err("another word for spies".into()) };
        }
        let index = self.find(frame)?;
        self.lines[at].views[index] = View::None;
        self.subscriptions[index].over(now, connection);
        if frame.retryable != Some(true) {
            return Err("refused for good".into());
        }
        let wait = BACK_OFF_FIRST + self.random(Duration::from_secs(2));
        self.subscriptions[index].ask_again_at = Some(Instant::now() + wait);
        Ok(())
    }
}

/// Connects to the first of these nodes that takes it.
async fn dial(nodes: Vec<(usize, SocketAddr)>, path: String, token: String) -> Dialled {
    for (node, address) in nodes {
        let handshake = async {
            let stream = TcpStream::connect(address).await.map_err(Error::Io)?;
            stream.set_nodelay(true).map_err(Error::Io)?;
            let mut request = format!("ws://{address}{path}").into_client_request()?;
            let bearer = HeaderValue::from_str(&format!("Bearer {token}")).expect("a header");
            request.headers_mut().insert("authorization", bearer);
            let config = WebSocketConfig::default().read_buffer_size(READ_BYTES);
            client_async_with_config(request, stream, Some(config)).await
        };
        match timeout(HANDSHAKE, handshake).await {
            Ok(Ok((socket, _))) => return Ok((node, socket)),
            Ok(Err(Error::Http(answer))) => {
                let after = answer.headers().get("retry-after");
                let after = after.and_then(|after| after.to_str().ok()?.parse().ok());
                return Err(Some(Duration::from_secs(after.unwrap_or(1))));
            }
            // As a balancer would, it goes on to the next.
            Ok(Err(_)) | Err(_) => {}
        }
    }
    Err(None)
}

async fn dialled(dialling: &mut Option<Dialling>) -> Dialled {
    match dialling {
        Some(dialling) => dialling.await,
        None => std::future::pending().await,
    }
}

/// The next message, of whichever Connection.
async fn came(lines: &mut [Line]) -> (usize, Option<Result<Message, Error>>) {
    poll_fn(|context| {
        for (at, line) in lines.iter_mut().enumerate() {
            if let Poll::Ready(message) = line.socket.poll_next_unpin(context) {
                return Poll::Ready((at, message));
            }
        }
        Poll::Pending
    })
    .await
}

/// Waits for a moment; for ever, if there is none.
async fn until(moment: Option<Instant>) {
    let never = std::future::pending::<()>();
    match moment {
        // That it is over is what is waited for.
        Some(moment) => drop(tokio::time::timeout_at(moment, never).await),
        None => never.await,
    }
}
