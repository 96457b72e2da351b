//! What nodes say to each other, on NATS.
//!
//! A call is a plain message, and every node listens to it without a queue group. Its answers come to
//! the inbox of who called; an answer goes nowhere else, whatever a call says.

use std::time::Duration;

use async_nats::Message;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::time::timeout;

use super::request::AskError;
use super::{Connection, HAND_OVER, link};
use crate::bus::CallError;
use crate::bus::call::{Answers, Call, Calls, Heard, Reply};

/// No answer comes later than that.
const SILENCE: Duration = Duration::from_secs(5);

impl Connection {
    /// Sends a call, if it can go out at once: one that waits for a link would be told late.
    pub(super) async fn tell(&self, call: Call, payload: Bytes) -> Result<(), CallError> {
        let subject = self.subjects.call(call);
        if !link::is_connected(&self.client) || self.denied.publishing(&subject) {
            return Err(CallError::Unavailable);
        }
        match timeout(HAND_OVER, self.client.publish(subject, payload)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(CallError::Unavailable),
        }
    }

    pub(super) async fn ask(
        &self,
        call: Call,
        payload: Bytes,
        answers_max: usize,
    ) -> Result<Answers, CallError> {
        let subject = self.subjects.call(call);
        if self.denied.publishing(&subject) {
            return Err(CallError::Unavailable);
        }
        let requests = self.requests.clone();
        let asked = requests.place(answers_max);
        let sent = requests.send(&asked, &subject, None, payload).await;
        sent.map_err(|_: AskError| CallError::Unavailable)?;
        let waiting = (requests, asked, subject);
        Ok(Answers::new(stream::unfold(waiting, |(requests, mut asked, subject)| async move {
            let answer = requests.answer(&mut asked, &subject, SILENCE).await.ok()?;
            Some((answer.payload, (requests, asked, subject)))
        })))
    }

    pub(super) async fn hear(&self, call: Call) -> Result<Calls, CallError> {
        self.whole().await.ok_or(CallError::Unavailable)?;
        let subject = self.subjects.call(call);
        if self.denied.subscribing(&subject) {
            return Err(CallError::Unavailable);
        }
        let calls = self.hand_over(subject.clone()).await.map_err(|_| CallError::Unavailable)?;
        self.echo.round().await.ok_or(CallError::Unavailable)?;
        if self.denied.subscribing(&subject) {
            return Err(CallError::Unavailable);
        }
        let (client, subjects) = (self.client.clone(), self.subjects.clone());
        Ok(Calls::new(calls.map(move |Message { payload, reply, .. }| {
            let reply = reply.filter(|inbox| subjects.is_inbox(inbox)).map(|inbox| -> Reply {
                let client = client.clone();
                Box::new(move |payload| {
                    Box::pin(async move {
                        // Who does not hear it counts this node as silent.
                        let _ = timeout(HAND_OVER, client.publish(inbox, payload)).await;
                    })
                })
            });
            Heard { payload, reply }
        })))
    }
}
