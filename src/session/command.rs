//! What each Command does.

use std::sync::Arc;

use super::limits::{Limits, STRIKES_MAX};
use super::replay::not_kept;
use super::subscription::State;
use super::{Output, PageOf, Phase, Scene, Session};
use crate::auth::{Claims, Denied, Token, Verb};
use crate::namespace::{Namespaces, NoTopic};
use crate::protocol::error::Code;
use crate::protocol::frame::{Ask, Wanted};
use crate::protocol::json::BadMessage;
use crate::protocol::{Close, Command, Error, From, Id, Limit, Reply};
use crate::publication::{Draft, Published};
use crate::topic::{Pattern, Topic};

/// Publishes of one Connection that may wait for the one under way.
const PUBLISHES_WAITING: usize = 256;
/// Pages of history that one Connection may have read at a time.
const READS_MAX: u8 = 4;

/// Whether these Claims cover a Subscription, in the words that its client hears.
pub(super) fn may_subscribe(claims: &Claims, pattern: &Pattern) -> Result<(), Error> {
    claims.allows(Verb::Subscribe, pattern).map_err(|denied| refusal(&denied))
}

fn refusal(denied: &Denied) -> Error {
    let code = if denied.anonymous { Code::Unauthenticated } else { Code::Forbidden };
    Error::new(code, denied.to_string())
}

impl Session {
    pub(super) fn command(&mut self, scene: &mut Scene<'_>, command: Result<Command, BadMessage>) {
        let limits = self
            .limits
            .get_or_insert_with(|| Box::new(Limits::new(scene.config.commands, scene.now.moment)));
        let counts = !matches!(&command, Ok(Command { ask: Ask::Pong, .. }));
        if counts && let Err(after_ms) = limits.command(scene.now.moment) {
            let id = match command {
                Ok(command) => command.id,
                Err(bad) => bad.id,
            };
            return self.too_fast(scene, id, after_ms);
        }
        match command {
            Err(bad) => {
                let anonymous = scene.config.anonymous.clone();
                if let (Phase::Opening { .. }, Some(anonymous)) = (&self.phase, anonymous) {
                    self.connect(scene, anonymous, None);
                }
                self.bad_message(scene, bad.id, bad.what, bad.limit);
            }
            Ok(Command { id, ask }) => match &self.phase {
                Phase::Opening(_) => self.first(scene, id, ask),
                Phase::Open { .. } => self.ask(scene, id, ask),
                Phase::Closed => {}
            },
        }
    }

    /// The first Command of a Connection that is not `connected` yet: it brings that about.
    fn first(&mut self, scene: &mut Scene<'_>, id: Option<Id>, ask: Ask) {
        let anonymous = scene.config.anonymous.clone();
        match (ask, anonymous) {
            (Ask::Connect { token, heartbeat, .. }, anonymous) => {
                if let Some(heartbeat) = heartbeat {
                    scene.out.push(Output::Heartbeat(heartbeat));
                }
                match (token, anonymous) {
                    (Some(token), _) => self.verify(scene, Token::new(token.0.into()), id),
                    (None, Some(anonymous)) => self.connect(scene, anonymous, id),
                    (None, None) => self.close(scene, Close::Refused(Code::Unauthenticated)),
                }
            }
            (ask, Some(anonymous)) => {
                self.connect(scene, anonymous, None);
                self.ask(scene, id, ask);
            }
            (_, None) => self.close(scene, Close::Refused(Code::Unauthenticated)),
        }
    }

    fn ask(&mut self, scene: &mut Scene<'_>, id: Option<Id>, ask: Ask) {
        match ask {
            Ask::Connect { .. } => {
                self.bad_message(
                    scene,
                    id,
                    "this connection is connected already".to_owned(),
                    None,
                );
            }
            Ask::Subscribe(wanted) => self.subscribe(scene, id, wanted),
            Ask::Unsubscribe { topic } => self.unsubscribe(scene, id, &topic),
            Ask::Publish { topic, payload, key } => match Topic::parse(&topic) {
                Ok(topic) => self.publish(scene, id, Draft { topic, payload, key, trace: None }),
                Err(why) => scene.refuse(id, Some(&topic), Error::invalid_topic(&topic, &why)),
            },
            Ask::Token { token } => self.verify(scene, Token::new(token.0.into()), id),
            Ask::Ping => scene.reply(Reply::Pong { id }),
            Ask::Pong => {}
            Ask::History { topic, from, limit } => self.history(scene, id, &topic, from, limit),
            Ask::Presence => {
                let error = Error::new(Code::NotSupported, "this gateway does not have it yet");
                scene.refuse(id, None, error);
            }
        }
    }

    pub(super) fn subscribe(&mut self, scene: &mut Scene<'_>, id: Option<Id>, wanted: Vec<Wanted>) {
        for one in wanted {
            match self.subscribable(scene, &one) {
                Ok((pattern, from)) => {
                    let number = self.subscriptions.next_number();
                    self.subscriptions.add(number, pattern.clone(), id.clone());
                    scene.out.push(Output::Begin(number, pattern));
                    self.begin(scene, number, from);
                }
                Err(error) => {
                    let too_many = error.code == Code::TooManySubscriptions;
                    scene.refuse(id.clone(), Some(&one.topic), error);
                    if too_many
                        && self.strike(
                            |limits, now| limits.subscriptions.strike(now, STRIKES_MAX),
                            scene,
                        )
                    {
                        return self.close(scene, Close::Refused(Code::TooManySubscriptions));
                    }
                }
            }
        }
    }

    fn subscribable(&self, scene: &Scene<'_>, wanted: &Wanted) -> Result<(Pattern, From), Error> {
        let (pattern, from) = readable(&scene.config.namespaces, self.claims.as_deref(), wanted)?;
        if self.subscriptions.contains(&pattern) {
            let words = format!("{pattern} is subscribed on this connection");
            return Err(Error::new(Code::AlreadySubscribed, words));
        }
        if self.subscriptions.len() >= scene.config.subscriptions {
            let words =
                format!("at most {} subscriptions a connection", scene.config.subscriptions);
            return Err(Error::new(Code::TooManySubscriptions, words).at(Limit::Subscriptions));
        }
        Ok((pattern, from))
    }

    fn history(
        &mut self,
        scene: &mut Scene<'_>,
        id: Option<Id>,
        text: &str,
        from: Option<Result<From, Code>>,
        limit: u16,
    ) {
        match self.page_of(scene, text, from.as_ref()) {
            Ok((topic, from)) => {
                self.reads += 1;
                scene.out.push(Output::Read(PageOf { id, topic, from, limit }));
            }
            Err(error) => scene.refuse(id, Some(text), error),
        }
    }

    fn page_of(
        &self,
        scene: &Scene<'_>,
        text: &str,
        from: Option<&Result<From, Code>>,
    ) -> Result<(Topic, Option<From>), Error> {
        let topic = Topic::parse(text).map_err(|why| Error::invalid_topic(text, &why))?;
        let from = from.map(begin).transpose()?;
        if matches!(from, Some(From::Live | From::Last)) {
            let words = "history begins at {cursor}, {last: 1-1000} or {since}";
            return Err(Error::new(Code::InvalidFrom, words));
        }
        if let Some(claims) = &self.claims {
            let allowed = claims.allows(Verb::History, &Pattern::from(&topic));
            allowed.map_err(|denied| refusal(&denied))?;
        }
        let rules = scene.config.namespaces.admits(&Pattern::from(&topic)).map_err(no_topic)?;
        if rules.history.is_none() {
            return Err(not_kept(topic.namespace()));
        }
        if self.reads >= READS_MAX {
            let words = "too many reads of this connection are under way";
            return Err(Error::new(Code::Overloaded, words));
        }
        Ok((topic, from))
    }

    fn unsubscribe(&mut self, scene: &mut Scene<'_>, id: Option<Id>, topic: &str) {
        let pattern = match Pattern::parse_subscription(topic) {
            Ok(pattern) => pattern,
            Err(why) => return scene.refuse(id, Some(topic), Error::invalid_topic(topic, &why)),
        };
        let Some(gone) = self.subscriptions.remove(&pattern) else {
            let words = format!("{pattern} is not subscribed on this connection");
            return scene.refuse(id, Some(topic), Error::new(Code::NotSubscribed, words));
        };
        scene.out.push(gone.leave());
        if let State::Attaching(asked) = gone.state {
            let error = Error::new(Code::NotSubscribed, "it was unsubscribed before it began");
            scene.refuse(asked.map(|id| *id), Some(pattern.as_str()), error);
        }
        scene.reply(Reply::Unsubscribed { id, topic: pattern });
    }

    fn publish(&mut self, scene: &mut Scene<'_>, id: Option<Id>, draft: Draft) {
        let publishing = self.publishing.get_or_insert_default();
        if publishing.under_way.is_none() {
            if let Some(claims) = &self.claims {
                publishing.under_way = Some(id);
                scene.out.push(Output::Publish(Arc::clone(claims), draft));
            }
        } else if publishing.waiting.len() < PUBLISHES_WAITING {
            publishing.waiting.push_back((id, draft));
        } else {
            let words = "too many publishes of this connection wait for the bus";
            scene.refuse(id, Some(draft.topic.as_str()), Error::new(Code::Overloaded, words));
        }
    }

    pub(super) fn published(&mut self, scene: &mut Scene<'_>, outcome: Result<Published, Error>) {
        let Some(publishing) = &mut self.publishing else {
            return;
        };
        let Some(id) = publishing.under_way.take() else {
            return;
        };
        match outcome {
            Ok(done) => scene.reply(Reply::Published {
                id,
                topic: done.topic,
                message_id: done.id,
                cursor: done.cursor,
                stored: done.stored,
                duplicate: done.duplicate,
            }),
            Err(error) => scene.refuse(id, None, error),
        }
        match publishing.waiting.pop_front() {
            Some((id, draft)) => self.publish(scene, id, draft),
            None => self.publishing = None,
        }
    }

    fn bad_message(
        &mut self,
        scene: &mut Scene<'_>,
        id: Option<Id>,
        what: String,
        limit: Option<Limit>,
    ) {
        let error = Error { limit, ..Error::new(Code::BadMessage, what) };
        scene.refuse(id, None, error);
        let max = scene.config.bad_messages;
        if self.strike(|limits, now| limits.bad_messages.strike(now, max), scene) {
            self.close(scene, Close::Refused(Code::BadMessage));
        }
    }

    fn too_fast(&mut self, scene: &mut Scene<'_>, id: Option<Id>, after_ms: u64) {
        let words = "more commands a second than this connection may send";
        let error = Error::new(Code::RateLimited, words).after_ms(after_ms);
        scene.refuse(id, None, error.at(Limit::CommandsPerSecond));
        if self.strike(|limits, now| limits.rate_limited.strike(now, STRIKES_MAX), scene) {
            self.close(scene, Close::Later(Code::RateLimited, after_ms));
        }
    }

    fn strike(
        &mut self,
        strike: impl Fn(&mut Limits, super::Moment) -> bool,
        scene: &Scene<'_>,
    ) -> bool {
        let now = scene.now.moment;
        let limits =
            self.limits.get_or_insert_with(|| Box::new(Limits::new(scene.config.commands, now)));
        strike(limits, now)
    }
}

/// Reads what a Subscription is to be: of what there is, and covered by these Claims.
pub(super) fn readable(
    namespaces: &Namespaces,
    claims: Option<&Claims>,
    wanted: &Wanted,
) -> Result<(Pattern, From), Error> {
    let pattern = Pattern::parse_subscription(&wanted.topic)
        .map_err(|why| Error::invalid_topic(&wanted.topic, &why))?;
    namespaces.admits(&pattern).map_err(no_topic)?;
    let from = begin(&wanted.from)?;
    if matches!(from, From::LastN(_)) && pattern.is_wild() {
        let words = "the last n are those of one topic, not of a pattern";
        return Err(Error::new(Code::InvalidFrom, words));
    }
    if wanted.max_hz {
        return Err(Error::new(Code::NotSupported, "max_hz is not there yet"));
    }
    if let Some(claims) = claims {
        may_subscribe(claims, &pattern)?;
    }
    Ok((pattern, from))
}

fn no_topic(why: NoTopic) -> Error {
    Error::new(Code::InvalidTopic, why.to_string())
}

/// Where to begin, or the words for why that could not be read.
fn begin(from: &Result<From, Code>) -> Result<From, Error> {
    from.clone().map_err(|code| match code {
        Code::InvalidCursor => Error::new(code, "the cursor is not written as a node writes one"),
        code => {
            let words = "from is \"live\", \"last\", {cursor}, {last: 1-1000} or {since}";
            Error::new(code, words)
        }
    })
}
