//! One client's conversation, as a pure state machine.
//!
//! All rules of the protocol are here: who may ask what and when, and what the answer is. A Shard
//! hands in what happened as an [`Input`], with the time, and carries out the [`Output`]s. There is no
//! socket here, no clock, no task and no log, so thousands of Sessions run in one simulation.
//!
//! LAW: every ask gets one Reply, or the Connection ends with a Close that says why.

mod command;
pub mod limits;
mod replay;
pub mod stream;
pub mod subscription;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::auth::{Claims, Token, Who};
use crate::namespace::Namespaces;
use crate::protocol::error::Code;
use crate::protocol::frame::{Heartbeat, Limits as TellLimits, Wanted};
use crate::protocol::json::BadMessage;
use crate::protocol::replay::{Begin, Replay};
use crate::protocol::{Close, Command, Envelope, Error, From, GapReason, Id, Limit, Push, Reply};
use crate::publication::{Cursor, Draft, Published, Timestamp};
use crate::topic::{BYTES_MAX, Pattern, Topic};
use limits::{Limits, Rate};
use replay::Replays;
use stream::{Stream, Streaming};
use subscription::{State, Subscriptions};

/// A user with all the Connections that one may have is told to come back after this.
pub const CONNECTION_LIMIT_MS: u64 = 10_000;

/// A reading of the monotonic clock, in milliseconds since the node began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(pub u64);

impl Moment {
    /// The moment so much later.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(millis(wait)))
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Both clocks, read together.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// For timers.
    pub moment: Moment,
    /// For what Tokens say.
    pub wall: Timestamp,
}

/// What all Sessions of a node share.
#[derive(Debug, Clone)]
pub struct Config {
    /// The node's name.
    pub node: Arc<str>,
    /// Commands of one Connection.
    pub commands: Rate,
    /// Most Subscriptions of one Connection.
    pub subscriptions: usize,
    /// Unreadable Commands within a minute; this one closes.
    pub bad_messages: usize,
    /// Time until `connected`.
    pub auth_timeout: Duration,
    /// Silence before a ping.
    pub heartbeat: Duration,
    /// What clients are told of the bounds.
    pub limits: TellLimits,
    /// The rules of Topics.
    pub namespaces: Arc<Namespaces>,
    /// What those without a Token may do, if anything.
    pub anonymous: Option<Arc<Claims>>,
}

/// What the handshake brought.
#[derive(Debug, Default)]
pub struct Handshake {
    /// The first Token that was found.
    pub token: Option<Token>,
    /// The `topic`s of the query.
    pub topics: Vec<Wanted>,
    /// How the node shows life.
    pub heartbeat: Heartbeat,
    /// A reason that only shows after the 101.
    pub refused: Option<Code>,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// The socket is there.
    Open(Handshake),
    /// The same, of a client that only listens.
    Stream(Box<Streaming>),
    /// A text frame came.
    Command(Result<Command, BadMessage>),
    /// The answer to [`Output::Verify`].
    Verified(Result<Arc<Claims>, Code>),
    /// A Subscription got what it missed, or a part of it.
    Attached(u32, Box<Replay>),
    /// It did not, and will not.
    AttachFailed(u32, Error),
    /// There is room for the next part of a replay.
    Room,
    /// The answer to [`Output::Read`].
    Read(Page),
    /// The answer to [`Output::Publish`].
    Published(Result<Published, Error>),
    /// The Subscription with this Pattern lost something.
    Gap(Pattern, GapReason),
    /// The live Subscriptions to this Namespace have all up to here.
    Position(Arc<str>, Cursor),
    /// The same, and they get nothing more before they have attached again.
    Overrun(Arc<str>, Cursor),
    /// The node's link to the others is lost, or whole again.
    Bus(bool),
    /// The node goes away; this client is to leave after so many milliseconds.
    GoingAway(u64),
    /// Time has passed.
    Clock,
}

/// What is to be done.
#[derive(Debug)]
pub enum Output {
    /// Send this answer.
    Reply(Reply),
    /// Send this.
    Push(Push),
    /// Check a Token, and hand in `Verified` before anything else.
    Verify(Token),
    /// There is a Subscription to this Pattern now. Others may share it.
    Begin(u32, Pattern),
    /// Ask the Feed of these Patterns for what the Subscriptions missed, and to let them join.
    Attach(u32, Arc<[Pattern]>, Begin),
    /// Send these Publications.
    Deliver(Vec<Arc<Envelope>>),
    /// The Subscription is live: from now on it gets what comes.
    Join(Pattern),
    /// It is not any more, until it has joined again.
    Pause(Pattern),
    /// It has ended; whether it was live.
    Leave(Pattern, bool),
    /// Publish for these Claims, and hand in `Published`; the next comes only after that.
    Publish(Arc<Claims>, Draft),
    /// Read a page of history, and hand in `Read`.
    Read(PageOf),
    /// Show life like this.
    Heartbeat(Heartbeat),
    /// Count this bound: it was met, and no `error` says so.
    Met(Limit),
    /// End the Connection.
    Close(Close),
}

/// Which page of history is wanted, and by which Command.
#[derive(Debug)]
pub struct PageOf {
    /// Of the Command.
    pub id: Option<Id>,
    /// The Topic.
    pub topic: Topic,
    /// Where to begin; none: with the oldest.
    pub from: Option<From>,
    /// Most Publications.
    pub limit: u16,
}

/// A page of history: its items as they were pushed, and where the next one begins.
#[derive(Debug)]
pub struct Page {
    /// Of the Command.
    pub id: Option<Id>,
    /// The Topic.
    pub topic: Topic,
    /// The page, or why there is none.
    pub outcome: Result<(Vec<Bytes>, Option<Cursor>), Error>,
}

/// One client's conversation.
pub struct Session {
    phase: Phase,
    claims: Option<Arc<Claims>>,
    subscriptions: Subscriptions,
    /// When the Connection ends by itself: no `connected`, or the Token's end.
    deadline: Option<Moment>,
    limits: Option<Box<Limits>>,
    publishing: Option<Box<Publishing>>,
    replays: Option<Box<Replays>>,
    /// Its client only listens.
    stream: Option<Box<Stream>>,
    /// Pages that are being read.
    reads: u8,
    /// How the node's link stands, as far as the client knows: whole, unless it was told otherwise.
    bus_connected: bool,
}

enum Phase {
    /// Not `connected` yet. In a box: an open Session is small.
    Opening(Box<Opening>),
    Open {
        renewing: Option<Box<Option<Id>>>,
    },
    Closed,
}

/// What waits for `connected`.
#[derive(Default)]
struct Opening {
    /// Of the handshake.
    topics: Vec<Wanted>,
    /// Whether a Token is being checked, and for which Command.
    verifying: Option<Option<Id>>,
}

/// Publishes leave one at a time, so that a retry overtakes nothing.
#[derive(Default)]
struct Publishing {
    under_way: Option<Option<Id>>,
    waiting: VecDeque<(Option<Id>, Draft)>,
}

/// What is so while an Input is handled.
pub struct Context<'a> {
    /// What all Sessions share.
    pub config: &'a Config,
    /// Makes this Connection's id, which few Frames need.
    pub connection: &'a dyn Fn() -> Box<str>,
    /// Both clocks.
    pub now: Now,
    /// Whether the node reaches the others.
    pub bus_connected: bool,
}

/// Everything a rule needs besides the Session itself.
struct Scene<'a> {
    context: &'a Context<'a>,
    config: &'a Config,
    now: Now,
    out: &'a mut Vec<Output>,
}

impl Scene<'_> {
    fn reply(&mut self, reply: Reply) {
        self.out.push(Output::Reply(reply));
    }

    fn refuse(&mut self, id: Option<Id>, topic: Option<&str>, error: Error) {
        let topic = topic.map(|text| text.chars().take(BYTES_MAX).collect());
        self.reply(Reply::Error { id, topic, error });
    }
}

impl Session {
    /// A Session before its handshake.
    #[must_use]
    pub fn new(config: &Config, now: Now) -> Self {
        Self {
            phase: Phase::Opening(Box::default()),
            claims: None,
            subscriptions: Subscriptions::default(),
            deadline: Some(now.moment.after(config.auth_timeout)),
            limits: None,
            publishing: None,
            replays: None,
            stream: None,
            reads: 0,
            bus_connected: true,
        }
    }

    /// Takes in what happened, and appends what is to be done.
    pub fn handle(&mut self, context: &Context<'_>, input: Input, out: &mut Vec<Output>) {
        let (config, now) = (context.config, context.now);
        let scene = &mut Scene { context, config, now, out };
        if matches!(self.phase, Phase::Closed) {
            return;
        }
        match input {
            Input::Open(handshake) => self.open(scene, handshake),
            Input::Stream(streaming) => self.stream(scene, *streaming),
            Input::Command(command) => self.command(scene, command),
            Input::Verified(verdict) => self.verified(scene, verdict),
            Input::Attached(number, replay) => self.attached(scene, number, *replay),
            Input::Room => self.next_replay(scene),
            Input::Read(page) => self.page(scene, page),
            Input::AttachFailed(number, error) => self.attach_failed(scene, number, error),
            Input::Published(outcome) => self.published(scene, outcome),
            Input::Gap(topic, reason) => {
                scene.out.push(Output::Push(Push::Gap { topic, reason, missed: None }));
            }
            Input::Position(namespace, cursor) => self.position(scene, &namespace, cursor),
            Input::Overrun(namespace, cursor) => self.overrun(scene, &namespace, cursor),
            // Who is not `connected` yet hears it then.
            Input::Bus(connected) => {
                if matches!(self.phase, Phase::Open { .. }) {
                    self.tell_bus(scene, connected);
                }
            }
            // Who only listens leaves when it is time.
            Input::GoingAway(reconnect_in_ms) => {
                if matches!(self.phase, Phase::Open { .. }) && self.stream.is_none() {
                    scene.out.push(Output::Push(Push::GoingAway { reconnect_in_ms }));
                }
            }
            Input::Clock => self.clock(scene),
        }
    }

    /// When [`Input::Clock`] has something to do, if ever.
    #[must_use]
    pub const fn deadline(&self) -> Option<Moment> {
        self.deadline
    }

    /// What its client is and may do, once that is known.
    #[must_use]
    pub fn claims(&self) -> Option<&Claims> {
        self.claims.as_deref()
    }

    /// Whose it is, once that is known.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        match &self.claims.as_ref()?.who {
            Who::User(name) | Who::Key(name) => Some(name),
            Who::Anonymous => None,
        }
    }

    /// Its Subscriptions.
    #[must_use]
    pub const fn subscriptions(&self) -> &Subscriptions {
        &self.subscriptions
    }

    /// Lets a Subscription share the one copy of its Pattern.
    pub fn share(&mut self, number: u32, pattern: Pattern) {
        if let Some(one) = self.subscriptions.numbered(number).find(|one| one.pattern == pattern) {
            one.pattern = pattern;
        }
    }

    /// Ends it from outside. What it still held is let go.
    pub fn end(&mut self, out: &mut Vec<Output>) {
        self.phase = Phase::Closed;
        for gone in self.subscriptions.drain() {
            out.push(gone.leave());
        }
        self.deadline = None;
        self.publishing = None;
        self.replays = None;
    }

    fn open(&mut self, scene: &mut Scene<'_>, handshake: Handshake) {
        if let Some(code) = handshake.refused {
            return self.close(scene, Close::Refused(code));
        }
        scene.out.push(Output::Heartbeat(handshake.heartbeat));
        let unasked = !handshake.topics.is_empty();
        self.phase =
            Phase::Opening(Box::new(Opening { topics: handshake.topics, verifying: None }));
        match (handshake.token, &scene.config.anonymous) {
            (Some(token), _) => self.verify(scene, token, None),
            (None, Some(anonymous)) if unasked => {
                let anonymous = Arc::clone(anonymous);
                self.connect(scene, anonymous, None);
            }
            (None, _) => {}
        }
    }

    /// Asks for a verdict on a Token, for the `connect` or `token` with this `id`.
    fn verify(&mut self, scene: &mut Scene<'_>, token: Token, id: Option<Id>) {
        match &mut self.phase {
            Phase::Opening(opening) => opening.verifying = Some(id),
            Phase::Open { renewing } => *renewing = Some(Box::new(id)),
            Phase::Closed => return,
        }
        scene.out.push(Output::Verify(token));
    }

    fn verified(&mut self, scene: &mut Scene<'_>, verdict: Result<Arc<Claims>, Code>) {
        let renewed = match &mut self.phase {
            Phase::Opening(opening) => match (opening.verifying.take(), verdict) {
                (Some(id), Ok(claims)) => return self.connect(scene, claims, id),
                (_, Err(code @ Code::ConnectionLimit)) => {
                    return self.close(scene, Close::Later(code, CONNECTION_LIMIT_MS));
                }
                (_, Err(code)) => return self.close(scene, Close::Refused(code)),
                (None, Ok(_)) => return,
            },
            Phase::Open { renewing } => renewing.take(),
            Phase::Closed => return,
        };
        let Some(id) = renewed else { return };
        match verdict {
            Ok(claims) => self.renew(scene, claims, *id),
            Err(code) => {
                let error = Error::new(code, "the new Token is refused; the old one stays");
                scene.refuse(*id, None, error);
            }
        }
    }

    /// The Connection is open: says so, and begins what the handshake asked for.
    fn connect(&mut self, scene: &mut Scene<'_>, claims: Arc<Claims>, id: Option<Id>) {
        let open = Phase::Open { renewing: None };
        let Phase::Opening(opening) = std::mem::replace(&mut self.phase, open) else {
            return;
        };
        let topics = opening.topics;
        let expires_at = claims.expires_at;
        self.take_claims(scene, claims);
        let connected = Reply::Connected {
            id,
            connection: (scene.context.connection)(),
            node: Arc::clone(&scene.config.node),
            expires_at,
            heartbeat_ms: millis(scene.config.heartbeat),
            limits: scene.config.limits,
        };
        scene.reply(connected);
        self.tell_bus(scene, scene.context.bus_connected);
        if !topics.is_empty() {
            self.subscribe(scene, None, topics);
        }
    }

    /// Each change is told once, whether `connected` or the change itself came first.
    fn tell_bus(&mut self, scene: &mut Scene<'_>, connected: bool) {
        if std::mem::replace(&mut self.bus_connected, connected) != connected {
            scene.out.push(Output::Push(Push::Bus { connected }));
        }
    }

    fn take_claims(&mut self, scene: &Scene<'_>, claims: Arc<Claims>) {
        self.deadline = claims
            .expires_at
            .map(|at| Moment(scene.now.moment.0 + at.0.saturating_sub(scene.now.wall.0)));
        self.claims = Some(claims);
    }

    /// Takes over the Grants of a new Token, and ends what it does not cover.
    fn renew(&mut self, scene: &mut Scene<'_>, claims: Arc<Claims>, id: Option<Id>) {
        if self.claims.as_ref().is_none_or(|old| old.who != claims.who) {
            let words = "the new Token must have the subject of the old one";
            return scene.refuse(id, None, Error::new(Code::Forbidden, words));
        }
        scene.reply(Reply::Token { id, expires_at: claims.expires_at });
        while let Some(ended) = self
            .subscriptions
            .remove_if(|one| command::may_subscribe(&claims, &one.pattern).is_err())
        {
            let topic = ended.pattern.clone();
            scene.out.push(ended.leave());
            match ended.state {
                State::Live | State::Replaying => {
                    let code = Code::Forbidden;
                    scene.out.push(Output::Push(Push::Unsubscribed { topic, code }));
                }
                State::Attaching(asked) => {
                    let error = Error::new(Code::Forbidden, "the new Token does not cover it");
                    scene.refuse(asked.map(|id| *id), Some(topic.as_str()), error);
                }
            }
        }
        self.take_claims(scene, claims);
    }

    fn clock(&mut self, scene: &mut Scene<'_>) {
        if self.deadline.is_none_or(|at| scene.now.moment < at) {
            return;
        }
        match self.phase {
            Phase::Opening(_) => self.close(scene, Close::Refused(Code::AuthTimeout)),
            Phase::Open { .. } => self.close(scene, Close::Refused(Code::TokenExpired)),
            Phase::Closed => {}
        }
    }

    fn close(&mut self, scene: &mut Scene<'_>, close: Close) {
        self.end(scene.out);
        scene.out.push(Output::Close(close));
    }
}

#[cfg(test)]
mod tests;
