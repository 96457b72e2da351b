//! What nodes say to each other beside Publications.
//!
//! A [`Call`] goes to every node, the one that calls among them, at most once to each; nothing is
//! kept of it. Some are answered, by each node that hears them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

/// What a call is about; each has a road of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// A node lives. Not answered.
    Beat,
    /// Somebody is to go, and perhaps not to come back.
    Disconnect,
    /// Which Topics are there subscribers of?
    Topics,
}

impl Call {
    /// Those that are answered.
    pub const ANSWERED: [Self; 2] = [Self::Disconnect, Self::Topics];

    /// Its name on the Bus and in metrics.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Beat => "beat",
            Self::Disconnect => "disconnect",
            Self::Topics => "topics",
        }
    }
}

/// A call that has come.
pub struct Heard {
    /// What it says.
    pub payload: Bytes,
    /// How to answer it, if an answer is wanted.
    pub reply: Option<Reply>,
}

/// Sends the one answer; whoever called may wait no more.
pub type Reply = Box<dyn FnOnce(Bytes) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

impl fmt::Debug for Heard {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Heard").field("payload", &self.payload).finish_non_exhaustive()
    }
}

/// Calls as they come; dropping it ends that.
pub struct Calls(Pin<Box<dyn Stream<Item = Heard> + Send>>);

/// Answers as they come; dropping it ends that.
pub struct Answers(Pin<Box<dyn Stream<Item = Bytes> + Send>>);

impl Calls {
    /// All that this brings.
    pub fn new(calls: impl Stream<Item = Heard> + Send + 'static) -> Self {
        Self(Box::pin(calls))
    }

    /// The next; none when the Bus has ended it. Cancel-safe.
    pub async fn next(&mut self) -> Option<Heard> {
        self.0.next().await
    }
}

impl Answers {
    /// All that this brings.
    pub fn new(answers: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self(Box::pin(answers))
    }

    /// The next; none if no more will come. Cancel-safe.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.0.next().await
    }
}
