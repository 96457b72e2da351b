//! `GET /v1/connect`: a WebSocket's handshake.
//!
//! It answers 101 and leaves the [`Handshake`] in the response, where the listener finds it and gives
//! it with the bare socket to this thread's Shard. actix-ws is here for the rules of the handshake
//! alone; its own session and stream are dropped at once.
//!
//! What is refused before the 101 is what only an operator or a developer can mend: load, drain, form.
//! What the user of a browser can act on (Token, Origin) is refused by a close after it, since a
//! browser shows nothing else.

use actix_http::ws::HandshakeError;
use actix_web::http::StatusCode;
use actix_web::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use actix_web::web::{Data, Payload};
use actix_web::{Error, HttpMessage as _, HttpRequest, HttpResponse};

use uuid::Uuid;

use super::State;
use super::listener::Upgrading;
use super::meters::Refusal;
use super::problem::Problem;
use super::{cors, credentials, query};
use crate::admission;
use crate::auth::Token;
use crate::protocol::error::Code;
use crate::protocol::{self, Limit};
use crate::session::Handshake;

/// The subprotocol spoken here.
const JSON: &str = "tidegate.v1.json";
/// A subprotocol that is a Token.
const BEARER: &str = "bearer.";
/// Told times are spread over this.
const RETURN_SPREAD_MS: u64 = 1_000;

/// The route.
pub(super) async fn connect(
    request: HttpRequest,
    body: Payload,
    state: Data<State>,
) -> Result<HttpResponse, Error> {
    if !request.extensions().contains::<Upgrading>() {
        return Err(Problem::new(Code::BadMessage, "this route takes a WebSocket upgrade")
            .status(StatusCode::UPGRADE_REQUIRED)
            .header(header::UPGRADE, HeaderValue::from_static("websocket"))
            .into());
    }
    let protocols = Protocols::read(request.headers())?;
    let asked = query::subscribing(&request, state.subscriptions_max)?;
    let bearer = credentials::bearer(&request)?.map(|text| Token::new(text.to_owned()));
    if state.is_draining() {
        state.meters.refused(Refusal::Draining);
        return Err(Problem::new(Code::Draining, "this node is going away").into());
    }
    let mut handshake = Handshake {
        token: bearer.or(protocols.token).or(asked.token),
        topics: asked.topics,
        heartbeat: asked.heartbeat,
        refused: (!cors::admits(request.headers(), &state)).then_some(Code::Origin),
    };
    let pass = state.admission.enter().map_err(|why| Problem::from(overloaded(why, &state)))?;
    if handshake.refused.is_none() && !state.control.is_whole_soon().await {
        state.meters.refused(Refusal::Unread);
        handshake.refused = Some(Code::Overloaded);
    }
    let (mut response, _, _) =
        actix_ws::handle_with_protocols(&request, body, &[JSON]).map_err(refused)?;
    response.extensions_mut().insert(handshake);
    response.extensions_mut().insert(pass);
    Ok(response)
}

/// Why nobody comes in, as clients hear it.
pub(super) fn overloaded(why: admission::Refused, state: &State) -> protocol::Error {
    let limit = match why {
        admission::Refused::Full => Limit::MaxConnections,
        admission::Refused::Unauthenticated => Limit::Unauthenticated,
        admission::Refused::TooFast(_) => Limit::HandshakesPerSecond,
    };
    state.meters.refused(Refusal::At(limit));
    let mut error = protocol::Error::new(Code::Overloaded, why.to_string()).at(limit);
    if let admission::Refused::TooFast(wait) = why {
        // Whoever is told the same time comes back at the same time.
        let spread = Uuid::now_v7().as_u64_pair().1 % RETURN_SPREAD_MS;
        let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        error = error.after_ms(wait.saturating_add(spread));
    }
    error
}

/// What stands in `Sec-WebSocket-Protocol`.
struct Protocols {
    token: Option<Token>,
}

impl Protocols {
    fn read(headers: &HeaderMap) -> Result<Self, Problem> {
        let (mut token, mut known, mut offered) = (None, false, false);
        for value in headers.get_all(header::SEC_WEBSOCKET_PROTOCOL) {
            let text = value.to_str().unwrap_or_default();
            for protocol in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
                offered = true;
                known |= protocol == JSON;
                if let (Some(text), None) = (protocol.strip_prefix(BEARER), &token) {
                    token = Some(Token::new(text.to_owned()));
                }
            }
        }
        if offered && !known {
            let words = "none of the subprotocols is known here; offer tidegate.v1.json";
            return Err(Problem::new(Code::SubprotocolRequired, words));
        }
        Ok(Self { token })
    }
}

/// A handshake that is none.
fn refused(error: Error) -> Problem {
    const VERSION: HeaderName = header::SEC_WEBSOCKET_VERSION;
    let Some(fault) = error.as_error::<HandshakeError>() else {
        return Problem::new(Code::Internal, "the handshake failed");
    };
    let problem = Problem::new(Code::BadMessage, format!("no WebSocket handshake: {fault}"));
    match fault {
        HandshakeError::UnsupportedVersion | HandshakeError::NoVersionHeader => problem
            .status(StatusCode::UPGRADE_REQUIRED)
            .header(VERSION, HeaderValue::from_static("13")),
        _ => problem,
    }
}
