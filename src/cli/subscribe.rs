//! `tidegate subscribe`: one socket, whose Publications are printed until somebody has enough.
//!
//! A lost socket is dialled again, with full jitter or when the gateway said, and each Subscription
//! goes on from its Cursor; what is lost for good is printed as the gap that it is. A gateway that was
//! never there ends the command at once: whoever mistyped an address should not wait.

use std::hash::{BuildHasher as _, RandomState};
use std::pin::{Pin, pin};
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::http::header::{
    AUTHORIZATION, RETRY_AFTER, SEC_WEBSOCKET_PROTOCOL,
};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::frame::Frame;
use super::gateway::{Gateway, refusal};
use super::output::{Output, Tone, note};
use super::places::Places;
use super::{Exit, Failure, From, Pattern};

const SUBPROTOCOL: HeaderValue = HeaderValue::from_static("tidegate.v1.json");
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);
/// The gateway pings every 25 s; 10 s later there is nobody.
const SILENCE_MAX: Duration = Duration::from_secs(35);
/// A socket that lived so long was a good one: the next wait is a short one again.
const STABLE_AFTER: Duration = Duration::from_secs(5);
const BACKOFF_MIN_MS: u64 = 500;
const BACKOFF_MAX_MS: u64 = 30_000;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// How one dial or one socket ended, when the command goes on.
enum Lost {
    /// Nobody was there.
    Unreachable(Failure),
    /// It was there, and will be again: after this time, if it said one.
    Later(String, Option<Duration>),
}

/// What stands in a close frame.
#[derive(Debug, Deserialize)]
struct Reason {
    code: String,
    retry: bool,
    ms: Option<u64>,
}

pub(super) async fn run(
    gateway: &Gateway,
    patterns: Vec<Pattern>,
    from: &From,
    count: Option<u64>,
    out: &Output,
) -> Result<(), Failure> {
    let mut reader = Reader { out, left: count, places: Places::new(patterns, from) };
    let mut stop = pin!(async {
        // Without a handler for signals, Ctrl-C ends the process as it always does.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    let (mut known, mut attempt) = (false, 0);
    loop {
        let dialled = tokio::select! {
            () = &mut stop => return Ok(()),
            dialled = dial(gateway) => dialled?,
        };
        let since = Instant::now();
        let lost = match dialled {
            Ok(socket) => {
                known = true;
                match reader.read(socket, stop.as_mut()).await? {
                    None => return Ok(()),
                    Some(lost) => lost,
                }
            }
            Err(lost) => lost,
        };
        if since.elapsed() >= STABLE_AFTER {
            attempt = 0;
        }
        let (words, told) = match lost {
            Lost::Unreachable(failure) if !known => return Err(failure),
            Lost::Unreachable(failure) => (failure.words, None),
            Lost::Later(words, told) => (words, told),
        };
        let pause = told.unwrap_or_else(|| backoff(attempt));
        attempt += 1;
        note(format_args!("{words}; connecting again in {:.1} s", pause.as_secs_f64()));
        tokio::select! {
            () = &mut stop => return Ok(()),
            () = sleep(pause) => {}
        }
    }
}

/// Opens a socket. What no further try can mend is a failure.
async fn dial(gateway: &Gateway) -> Result<Result<Socket, Lost>, Failure> {
    let mut request = gateway
        .socket(&["v1", "connect"])
        .as_str()
        .into_client_request()
        .map_err(Failure::usage)?;
    request.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL);
    if let Some(value) = gateway.authorization()? {
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    let Ok(dialled) = timeout(DIAL_TIMEOUT, connect_async(request)).await else {
        let why = std::io::Error::from(std::io::ErrorKind::TimedOut);
        return Ok(Err(Lost::Unreachable(gateway.unreachable(&why))));
    };
    match dialled {
        Ok((socket, _)) => Ok(Ok(socket)),
        Err(tungstenite::Error::Http(answer)) => {
            let status = answer.status().as_u16();
            let refusal = refusal(status, answer.body().as_deref().unwrap_or_default());
            if !matches!(status, 429 | 502..=504) {
                return Err(refusal);
            }
            let after = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
            let told = after.and_then(|text| text.parse().ok()).map(Duration::from_secs);
            Ok(Err(Lost::Later(refusal.words, told)))
        }
        Err(why) => Ok(Err(Lost::Unreachable(gateway.unreachable(&why)))),
    }
}

/// Prints what comes, until it has printed enough.
struct Reader<'a> {
    out: &'a Output,
    left: Option<u64>,
    places: Places,
}

impl Reader<'_> {
    /// Reads one socket; nothing is left to do if it does not say how that was lost.
    async fn read(
        &mut self,
        mut socket: Socket,
        mut stop: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<Option<Lost>, Failure> {
        if let Err(why) = socket.send(Message::text(self.places.subscribe())).await {
            return Ok(Some(Lost::Later(why.to_string(), None)));
        }
        loop {
            let next = tokio::select! {
                () = &mut stop => {
                    leave(socket).await;
                    return Ok(None);
                }
                next = timeout(SILENCE_MAX, socket.next()) => next,
            };
            match next {
                Err(_) => return Ok(Some(Lost::Later("no sign of life".to_owned(), None))),
                Ok(None) => return Ok(Some(Lost::Later("connection lost".to_owned(), None))),
                Ok(Some(Err(why))) => return Ok(Some(Lost::Later(why.to_string(), None))),
                Ok(Some(Ok(Message::Close(close)))) => return closed(close).map(Some),
                Ok(Some(Ok(Message::Text(text)))) => match self.frame(&text) {
                    Ok(None) if self.left == Some(0) => {
                        leave(socket).await;
                        return Ok(None);
                    }
                    Ok(None) => {}
                    end => {
                        leave(socket).await;
                        return end;
                    }
                },
                Ok(Some(Ok(_))) => {}
            }
        }
    }

    /// Prints a frame, if it is one for people.
    fn frame(&mut self, text: &str) -> Result<Option<Lost>, Failure> {
        let Ok(frame) = serde_json::from_str::<Frame<'_>>(text) else {
            return Ok(None);
        };
        if !self.places.take(&frame) {
            return Ok(None);
        }
        let topic = frame.topic.as_deref().unwrap_or_default();
        let reason = frame.reason.as_deref().unwrap_or("unknown");
        let line = match frame.kind.as_str() {
            "message" => {
                self.left = self.left.map(|left| left.saturating_sub(1));
                frame.message(self.out)
            }
            "subscribed" if frame.recovered == Some(false) => {
                let words = format!("not recovered: {reason}");
                format!("{topic} {}", self.out.tone(Tone::Warning, &words))
            }
            "gap" => {
                let missed = frame.missed.map(|missed| format!(" ({missed} missed)"));
                let words = format!("gap: {reason}{}", missed.unwrap_or_default());
                format!("{topic} {}", self.out.tone(Tone::Warning, &words))
            }
            "bus" => {
                let whole = frame.connected == Some(true);
                let words = if whole { "bus: connected" } else { "bus: not connected" };
                self.out.tone(Tone::Warning, words)
            }
            "error" | "unsubscribed" => return refused(&frame, topic).map(Some),
            _ => return Ok(None),
        };
        if self.out.json { self.out.line(text) } else { self.out.line(line) }.map(|()| None)
    }
}

/// What an `error` to our one Command, or the end of a Subscription, means.
fn refused(frame: &Frame<'_>, topic: &str) -> Result<Lost, Failure> {
    let code = frame.code.as_deref().unwrap_or("error");
    let message = frame.message.as_deref().unwrap_or("the gateway has ended this subscription");
    let words = if topic.is_empty() {
        format!("{code}: {message}")
    } else {
        format!("{topic}: {code}: {message}")
    };
    if frame.retryable {
        return Ok(Lost::Later(words, frame.retry_after_ms.map(Duration::from_millis)));
    }
    Err(Failure::new(exit(code), words))
}

/// What a close frame decides, by its reason, else by its number.
fn closed(close: Option<CloseFrame>) -> Result<Lost, Failure> {
    let Some(close) = close else {
        return Ok(Lost::Later("closed without a reason".to_owned(), None));
    };
    let status = u16::from(close.code);
    if let Ok(reason) = serde_json::from_str::<Reason>(&close.reason) {
        let words = format!("closed by the gateway: {} ({status})", reason.code);
        return if reason.retry {
            Ok(Lost::Later(words, reason.ms.map(Duration::from_millis)))
        } else {
            Err(Failure::new(exit(&reason.code), words))
        };
    }
    let words = format!("closed by the gateway ({status}) {}", close.reason);
    match status {
        4401 | 4403 => Err(Failure::new(Exit::Refused, words)),
        1000 | 1002 | 1003 | 1007 | 1009 | 4400 | 4413 => Err(Failure::failed(words)),
        _ => Ok(Lost::Later(words, None)),
    }
}

fn exit(code: &str) -> Exit {
    match code {
        "unauthenticated" | "token_expired" | "forbidden" | "origin" | "revoked" => Exit::Refused,
        _ => Exit::Failed,
    }
}

/// Says goodbye, and reads on until the gateway has, too: what is left unread would reset the
/// connection, and the goodbye with it.
async fn leave(mut socket: Socket) {
    let goodbye = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let parting = async {
        if socket.close(Some(goodbye)).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    // A gateway that does not answer is left all the same.
    let _ = timeout(LEAVE_TIMEOUT, parting).await;
}

/// Anything up to a bound that doubles: a crowd that lost its gateway at once comes back spread out.
fn backoff(attempt: u32) -> Duration {
    let most = BACKOFF_MIN_MS.saturating_mul(1 << attempt.min(16)).min(BACKOFF_MAX_MS);
    // The standard library's only random numbers are the keys of its hash maps.
    Duration::from_millis(RandomState::new().hash_one(attempt) % (most + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(status: u16, reason: &'static str) -> Result<Lost, Failure> {
        closed(Some(CloseFrame { code: status.into(), reason: reason.into() }))
    }

    #[test]
    fn the_reason_of_a_close_decides() {
        let told = close(1012, r#"{"code":"draining","retry":true,"ms":400}"#);
        assert!(matches!(told, Ok(Lost::Later(_, Some(ms))) if ms.as_millis() == 400));
        let stay = close(4403, r#"{"code":"origin","retry":false}"#).err().unwrap();
        assert_eq!(stay.exit, Exit::Refused);
        let stay = close(1009, r#"{"code":"too_big","retry":false}"#).err().unwrap();
        assert_eq!(stay.exit, Exit::Failed);
    }

    #[test]
    fn without_a_reason_its_number_decides() {
        assert_eq!(close(4401, "").err().unwrap().exit, Exit::Refused);
        assert_eq!(close(1000, "bye").err().unwrap().exit, Exit::Failed);
        for status in [1001, 1006, 1012, 4408, 4429, 4999] {
            assert!(matches!(close(status, ""), Ok(Lost::Later(_, None))), "{status}");
        }
    }

    #[test]
    fn waits_are_spread_and_bounded() {
        for attempt in [0, 1, 5, 6, 40, u32::MAX] {
            let most = BACKOFF_MAX_MS.min(BACKOFF_MIN_MS << attempt.min(16));
            for _ in 0..50 {
                assert!(backoff(attempt).as_millis() <= most.into());
            }
        }
    }
}
