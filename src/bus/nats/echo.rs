//! Proof that the server has taken what was sent: a round trip on the same connection.
//!
//! A publish without an answer proves nothing: it may wait in a buffer of ours while the link is down,
//! and a flush is no better. So the node sends itself a number behind it. When that comes back, on the
//! same link, everything sent before it has arrived. One round is under way at a time; whoever comes
//! meanwhile shares the next.

use std::time::Duration;

use async_nats::{Client, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};
use tracing::warn;

use super::link;
use crate::bus::Link;

/// Who may wait for the next round.
const WAITING_MAX: usize = 16_384;
/// Turns given to whoever hears of refusals, before an echo counts.
const REFUSAL_YIELDS: usize = 4;
/// A round that takes longer has failed.
const ROUND: Duration = Duration::from_secs(2);
/// From one pulse to the next.
const PULSE: Duration = Duration::from_secs(2);
/// So many in a row without an echo end the link.
const PULSES_MAX: u32 = 3;

/// Asks for rounds; clones share them.
#[derive(Debug, Clone)]
pub(super) struct Echo {
    waiting: mpsc::Sender<oneshot::Sender<Option<u64>>>,
}

/// Runs the rounds of one connection.
pub(super) struct Rounds {
    client: Client,
    subject: String,
    echoes: Subscriber,
    waiting: mpsc::Receiver<oneshot::Sender<Option<u64>>>,
    number: u64,
}

impl Echo {
    /// Waits until all that this connection was given before has arrived at the server. Gives the
    /// generation of the link on which that was so; nothing if it cannot be said.
    pub(super) async fn round(&self) -> Option<u64> {
        let (answer, answered) = oneshot::channel();
        self.waiting.try_send(answer).ok()?;
        answered.await.ok()?
    }
}

/// Asks for a round now and then, and ends a link on which nothing arrives any more. The client library
/// asks for a sign of life only while it hears nothing, so it does not notice a server that speaks and
/// is deaf.
pub(super) async fn pulse(client: Client, link: watch::Receiver<Link>, echo: Echo) {
    let mut failed = 0;
    loop {
        sleep(PULSE).await;
        let generation = link::generation(&client);
        let lives = !link.borrow().connected
            || echo.round().await.is_some()
            || link::generation(&client) != generation;
        failed = if lives { 0 } else { failed + 1 };
        if failed == PULSES_MAX {
            failed = 0;
            warn!("Nothing arrives at the NATS server any more; connecting anew");
            if let Err(fault) = client.force_reconnect().await {
                warn!(error = %fault, "NATS client");
            }
        }
    }
}

impl Rounds {
    /// The two ends. `echoes` is the subscription on `subject`.
    pub(super) fn new(client: Client, subject: String, echoes: Subscriber) -> (Echo, Self) {
        let (sender, waiting) = mpsc::channel(WAITING_MAX);
        (Echo { waiting: sender }, Self { client, subject, echoes, waiting, number: 0 })
    }

    /// Runs until nobody can ask any more.
    pub(super) async fn run(mut self) {
        let mut sharing = Vec::new();
        while self.waiting.recv_many(&mut sharing, WAITING_MAX).await > 0 {
            let generation = link::generation(&self.client);
            let client = self.client.clone();
            let came_back = tokio::select! {
                came_back = timeout(ROUND, self.round()) => came_back.unwrap_or(false),
                // What was sent on the last link is not answered on this one.
                () = link::left(&client, generation) => false,
            };
            for _ in 0..REFUSAL_YIELDS {
                // A refusal was read from the socket before the echo; let it be heard before, too.
                yield_now().await;
            }
            let proven = came_back && link::generation(&self.client) == generation;
            for answer in sharing.drain(..) {
                // Who has given up waiting needs no answer.
                let _ = answer.send(proven.then_some(generation));
            }
        }
    }

    async fn round(&mut self) -> bool {
        self.number += 1;
        let number = Bytes::from(self.number.to_string());
        if self.client.publish(self.subject.clone(), number.clone()).await.is_err() {
            return false;
        }
        // A number of an earlier round may come late.
        while let Some(echo) = self.echoes.next().await {
            if echo.payload == number {
                return true;
            }
        }
        false
    }
}
