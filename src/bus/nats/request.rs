//! Questions over NATS, and the places where their answers come.
//!
//! One subscription of a connection takes all answers, and a table knows who waits for which. A place
//! is given up with [`Asked`], so one that nobody answers leaves nothing behind; and as long as it is
//! held, a late answer to the first try answers the second.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, PublishErrorKind, StatusCode, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::denied::Denied;
use super::{HAND_OVER, link};

/// Who waits for what, by the last token of the subject that answers come to.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<HashMap<u64, mpsc::Sender<Message>>>);

/// Asks on one connection; clones are the same.
#[derive(Debug, Clone)]
pub(super) struct Requests {
    pub(super) client: Client,
    inbox: Arc<str>,
    waiting: Arc<Waiting>,
    denied: Arc<Denied>,
    next: Arc<AtomicU64>,
}

/// A place for the answers to one question.
pub(super) struct Asked {
    token: u64,
    answers: mpsc::Receiver<Message>,
    waiting: Arc<Waiting>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum AskError {
    /// The link is down, and nothing was handed over.
    #[error("the link to NATS is down")]
    Down,
    /// It is more than the server takes; nothing was handed over.
    #[error("it is larger than the server's max_payload")]
    TooBig,
    /// Nobody listens there.
    #[error("nobody answers there")]
    Nobody,
    /// This user may not ask.
    #[error("NATS does not allow this user to ask")]
    Refused,
    /// Nothing came in time.
    #[error("no answer came in time")]
    Silent,
}

impl Waiting {
    fn table(&self) -> std::sync::MutexGuard<'_, HashMap<u64, mpsc::Sender<Message>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing more will come to those who wait now.
    pub(super) fn give_up(&self) {
        self.table().clear();
    }

    /// Gives each answer to who waits for it, until the connection ends.
    pub(super) async fn deal(self: Arc<Self>, mut answers: Subscriber) {
        while let Some(answer) = answers.next().await {
            let token = answer.subject.rsplit_once('.').and_then(|(_, token)| token.parse().ok());
            let table = self.table();
            if let Some(place) = token.and_then(|token: u64| table.get(&token)) {
                // More than was asked for; whoever counts what came sees that something is missing.
                let _ = place.try_send(answer);
            }
        }
    }
}

impl Requests {
    /// Asks over `client`; what comes below `inbox` is dealt out by [`Waiting::deal`].
    pub(super) fn new(
        client: Client,
        inbox: &str,
        waiting: Arc<Waiting>,
        denied: Arc<Denied>,
    ) -> Self {
        Self { client, inbox: inbox.into(), waiting, denied, next: Arc::default() }
    }

    /// A place for at most so many answers.
    pub(super) fn place(&self, answers_max: usize) -> Asked {
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        let (place, answers) = mpsc::channel(answers_max);
        self.waiting.table().insert(token, place);
        Asked { token, answers, waiting: Arc::clone(&self.waiting) }
    }

    /// Sends a question whose answers come to `asked`.
    pub(super) async fn send(
        &self,
        asked: &Asked,
        subject: &str,
        headers: Option<HeaderMap>,
        payload: Bytes,
    ) -> Result<(), AskError> {
        if !link::is_connected(&self.client) {
            return Err(AskError::Down);
        }
        let (subject, reply) = (subject.to_owned(), format!("{}.{}", self.inbox, asked.token));
        let sending = async {
            match headers {
                Some(headers) => {
                    self.client
                        .publish_with_reply_and_headers(subject, reply, headers, payload)
                        .await
                }
                None => self.client.publish_with_reply(subject, reply, payload).await,
            }
        };
        match timeout(HAND_OVER, sending).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(fault)) if fault.kind() == PublishErrorKind::MaxPayloadExceeded => {
                Err(AskError::TooBig)
            }
            // Not even the client has taken it.
            Ok(Err(_)) | Err(_) => Err(AskError::Down),
        }
    }

    /// The next answer. A refusal to ask at all is heard beside it.
    pub(super) async fn answer(
        &self,
        asked: &mut Asked,
        subject: &str,
        within: Duration,
    ) -> Result<Message, AskError> {
        // Of a page most are there already.
        if let Ok(answer) = asked.answers.try_recv() {
            return told(answer);
        }
        let mut refusals = self.denied.watch();
        let waiting = async {
            loop {
                if self.denied.publishing(subject) {
                    return Err(AskError::Refused);
                }
                tokio::select! {
                    answer = asked.answers.recv() => {
                        return answer.map_or(Err(AskError::Down), told);
                    }
                    changed = refusals.changed() => if changed.is_err() {
                        return Err(AskError::Down);
                    },
                }
            }
        };
        timeout(within, waiting).await.unwrap_or(Err(AskError::Silent))
    }

    /// Asks once, for one answer.
    pub(super) async fn ask(
        &self,
        subject: &str,
        payload: Bytes,
        within: Duration,
    ) -> Result<Message, AskError> {
        let mut asked = self.place(1);
        self.send(&asked, subject, None, payload).await?;
        self.answer(&mut asked, subject, within).await
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.waiting.table().remove(&self.token);
    }
}

/// An answer, if it is not the server's own word that nobody listens there.
fn told(answer: Message) -> Result<Message, AskError> {
    match answer.status {
        Some(StatusCode::NO_RESPONDERS) if answer.payload.is_empty() => Err(AskError::Nobody),
        _ => Ok(answer),
    }
}
