//! Who asks: what stands in `Authorization`, as Claims.

use std::sync::Arc;

use actix_web::HttpRequest;
use actix_web::http::header;

use super::State;
use super::problem::Problem;
use crate::auth::{API_KEY_PREFIX, AuthError, Claims, Token};
use crate::protocol::error::Code;

/// The text behind `Bearer`; none if there is no such header. Two headers, or another scheme, are
/// refused: whoever sends that means something that we do not do.
pub(super) fn bearer(request: &HttpRequest) -> Result<Option<&str>, Problem> {
    let mut headers = request.headers().get_all(header::AUTHORIZATION);
    let value = match (headers.next(), headers.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value,
        (Some(_), Some(_)) => return Err(unreadable("there are two Authorization headers")),
    };
    let text = value.to_str().map_err(|_| unreadable("the Authorization header is not text"))?;
    match text.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(rest.trim())),
        _ => Err(unreadable("the Authorization header is not Bearer")),
    }
}

fn unreadable(words: &'static str) -> Problem {
    Problem::new(Code::Unauthenticated, words)
}

/// Whose request it is: a Token's, an API key's, or an anonymous client's where there may be any.
pub(super) fn claims(request: &HttpRequest, state: &State) -> Result<Arc<Claims>, Problem> {
    claims_of(bearer(request)?, None, state)
}

/// The same, of what stands in the header, or else of a Token in the query.
pub(super) fn claims_of(
    bearer: Option<&str>,
    query: Option<Token>,
    state: &State,
) -> Result<Arc<Claims>, Problem> {
    let verify = |token: &Token| state.auth.verify(token, (state.wall)()).map_err(refused);
    match bearer {
        Some(key) if key.starts_with(API_KEY_PREFIX) => state.auth.api_key(key).map_err(refused),
        Some(token) => verify(&Token::new(token.to_owned())),
        None => match query {
            Some(token) => verify(&token),
            None => {
                let needed =
                    || Problem::new(Code::Unauthenticated, "a Token or an API key is needed");
                state.auth.anonymous().ok_or_else(needed)
            }
        },
    }
}

fn refused(why: AuthError) -> Problem {
    Problem::new(why.code(), why.to_string())
}
