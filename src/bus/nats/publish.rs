//! How a Publication reaches NATS, and what proves that it has.
//!
//! A kept Topic's stream answers once it has stored; until then the same message is sent again, under
//! the same id, and the stream knows it. On any other Topic a round trip behind the message proves
//! that the server has taken it.

use std::sync::Arc;
use std::time::Duration;

use async_nats::PublishErrorKind;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::history::Kept;
use super::request::{AskError, Asked};
use super::stream::{ApiError, NO_ROOM};
use super::{Connection, HAND_OVER, headers, random_ms};
use crate::bus::{PublishError, Receipt};
use crate::publication::Publication;

/// One try to have it stored.
const TRY: Duration = Duration::from_secs(2);
/// All tries together: a stream whose leader died takes nothing for some seconds.
const TRIES: Duration = Duration::from_secs(15);
/// Between tries, and as much again at most; the last for all that follow.
const PAUSES_MS: [u64; 3] = [50, 125, 250];
/// Answers to all tries that may wait.
const ANSWERS_MAX: usize = 16;
/// JetStream's code for a message that is larger than its stream takes.
const TOO_LARGE: u64 = 10_054;

/// What a stream answers.
#[derive(Deserialize)]
struct Ack {
    #[serde(default)]
    stream: String,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    #[serde(default)]
    error: Option<ApiError>,
}

/// Why a try has stored nothing that is known of.
enum Failed {
    /// The next may.
    Try(AskError),
    /// None will.
    Refused(PublishError),
}

impl Connection {
    /// Hands over a Publication that no history keeps.
    pub(super) async fn publish_once(
        &self,
        publication: Publication,
    ) -> Result<Receipt, PublishError> {
        let generation = self.whole().await.ok_or(PublishError::Unavailable)?;
        let subject = self.subjects.topic(&publication.topic);
        let headers = headers::of(&publication);
        let sent_to = subject.clone();
        let handing = self.client.publish_with_headers(subject, headers, publication.payload);
        match timeout(HAND_OVER, handing).await {
            Ok(Ok(())) => {}
            Ok(Err(fault)) if fault.kind() == PublishErrorKind::MaxPayloadExceeded => {
                return Err(PublishError::TooBig { max: self.client.max_payload() });
            }
            // Not even the client has taken it.
            Ok(Err(_)) | Err(_) => return Err(PublishError::Unavailable),
        }
        match self.echo.round().await {
            Some(_) if self.denied.publishing(&sent_to) => Err(PublishError::Unavailable),
            Some(proven) if proven == generation => Ok(Receipt { cursor: None, duplicate: false }),
            Some(_) | None => Err(PublishError::OutcomeUnknown),
        }
    }

    /// Has a Publication stored.
    pub(super) async fn publish_kept(
        &self,
        kept: &Arc<Kept>,
        publication: Publication,
    ) -> Result<Receipt, PublishError> {
        let subject = self.subjects.topic(&publication.topic);
        let headers = headers::of(&publication);
        let until = Instant::now() + TRIES;
        // Held over all tries: a late answer to the first is an answer to the last.
        let mut asked = kept.live.place(ANSWERS_MAX);
        let given = kept.given();
        let mut may_be_stored = false;
        let mut pauses = PAUSES_MS.into_iter();
        let mut pause = 0;
        loop {
            let (headers, payload) = (headers.clone(), publication.payload.clone());
            let sent = kept.live.send(&asked, &subject, Some(headers), payload).await;
            let trying = (Instant::now() + TRY).min(until);
            let outcome = match sent {
                Ok(()) => stored(kept, &mut asked, &subject, given, trying).await,
                Err(why) => Err(Failed::Try(why)),
            };
            let refused = match outcome {
                Ok(receipt) => return Ok(receipt),
                Err(Failed::Refused(why)) => Some(why),
                Err(Failed::Try(AskError::TooBig)) => {
                    Some(PublishError::TooBig { max: self.client.max_payload() })
                }
                // Nobody may have it, on whatever server.
                Err(Failed::Try(AskError::Refused)) => Some(PublishError::Unavailable),
                Err(Failed::Try(AskError::Silent)) => {
                    may_be_stored = true;
                    None
                }
                Err(Failed::Try(AskError::Nobody)) => {
                    // The stream may be gone, and nobody here may be listening to notice.
                    let _ = timeout_at(trying, kept.provision()).await;
                    None
                }
                Err(Failed::Try(AskError::Down)) => None,
            };
            pause = pauses.next().unwrap_or(pause);
            let next = Instant::now() + Duration::from_millis(pause) + random_ms(pause);
            match refused {
                None if next < until => sleep_until(next).await,
                _ if may_be_stored => return Err(PublishError::OutcomeUnknown),
                refused => return Err(refused.unwrap_or(PublishError::Unavailable)),
            }
        }
    }
}

/// Waits until the stream says that it has it.
async fn stored(
    kept: &Kept,
    asked: &mut Asked,
    subject: &str,
    given: u64,
    until: Instant,
) -> Result<Receipt, Failed> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let answer = kept.live.answer(asked, subject, left).await.map_err(Failed::Try)?;
        match serde_json::from_slice::<Ack>(&answer.payload) {
            Ok(Ack { error: Some(why), .. }) => return Err(refusal(kept, &why)),
            Ok(ack) if ack.stream == kept.wanted.names.stream => {
                // Of a duplicate it is the first one's Offset.
                let given = if ack.duplicate { 0 } else { given };
                // It is stored, whether or not anybody can say in which history.
                let cursor = timeout_at(until, kept.cursor(ack.seq, given)).await.ok().flatten();
                return Ok(Receipt { cursor, duplicate: ack.duplicate });
            }
            // Somebody else answers on this subject.
            Ok(_) | Err(_) => {}
        }
    }
}

/// What a stream has against it. If that may pass, it may also have been stored.
fn refusal(kept: &Kept, why: &ApiError) -> Failed {
    match why.err_code {
        code if NO_ROOM.contains(&code) => Failed::Refused(PublishError::StorageFull),
        TOO_LARGE => Failed::Refused(PublishError::TooBig { max: kept.wanted.message_bytes }),
        _ => Failed::Try(AskError::Silent),
    }
}
