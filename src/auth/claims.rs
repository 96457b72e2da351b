//! What a verified Token says, or an API key's entry, or the configuration about strangers.
//!
//! Once made, Claims are all that the rest of the gateway knows of a client. Those of a Token are
//! read here from JSON whose signature was found good; an issuer we trust can still be wrong, so
//! each claim is checked for its type and its bound, and the first that is not as it must be
//! refuses the whole Token.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::grant::{Denied, GRANTS_MAX, Grants, Verb};
use super::token::AuthError;
use crate::publication::Timestamp;
use crate::topic::{Pattern, is_segment};

/// Longest subject, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 128;
/// Longest `jti`, in bytes.
pub const TOKEN_ID_BYTES_MAX: usize = 256;
/// How far the clocks of issuer and node may differ.
pub(super) const LEEWAY_MS: u64 = 30_000;
/// The longest life of Claims, whatever their Token says.
pub(super) const LIFE_MS_MAX: u64 = 24 * 60 * 60 * 1_000;
/// What in a Grant stands for the subject.
const PLACEHOLDER: &str = "{sub}";

/// What one client is, and what it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Who it is.
    pub who: Who,
    /// What it may do.
    pub grants: Grants,
    /// Whether it may end other clients' Connections; only an API key can.
    pub disconnect: bool,
    /// When that ends, without leeway, at most 24 hours from the verification; for a Token alone.
    pub expires_at: Option<Timestamp>,
    /// When the Token was issued, if it says so.
    pub issued_at: Option<Timestamp>,
    /// The Token's `jti`, if it has one.
    pub token_id: Option<Arc<str>>,
}

/// Whom the Claims speak of.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Who {
    /// The subject of a Token.
    User(Arc<str>),
    /// The name of an API key.
    Key(Arc<str>),
    /// A client that showed nothing.
    Anonymous,
}

impl Who {
    /// The subject of a Token; none for keys and strangers.
    #[must_use]
    pub const fn user(&self) -> Option<&Arc<str>> {
        match self {
            Self::User(subject) => Some(subject),
            Self::Key(_) | Self::Anonymous => None,
        }
    }
}

impl Claims {
    /// Whether it may do this with every Topic that the Pattern can mean.
    ///
    /// # Errors
    /// No Grant covers it.
    pub fn allows(&self, verb: Verb, pattern: &Pattern) -> Result<(), Denied> {
        if self.grants.covers(verb, pattern) {
            return Ok(());
        }
        let anonymous = self.who == Who::Anonymous;
        Err(Denied { verb, pattern: pattern.clone(), anonymous })
    }

    pub(super) fn anonymous(grants: &Grants) -> Self {
        Self {
            who: Who::Anonymous,
            grants: grants.clone(),
            disconnect: false,
            expires_at: None,
            issued_at: None,
            token_id: None,
        }
    }

    pub(super) fn of_key(name: &str, grants: Grants, disconnect: bool) -> Self {
        Self {
            who: Who::Key(name.into()),
            grants,
            disconnect,
            ..Self::anonymous(&Grants::default())
        }
    }

    /// Reads what a Token says. The signature, `iss` and `aud` are the caller's to judge.
    pub(super) fn read(said: &Map<String, Value>, now: Timestamp) -> Result<Self, AuthError> {
        let expires_at = date(said, "exp")?.ok_or(missing("exp"))?;
        if now.0 >= expires_at.0.saturating_add(LEEWAY_MS) {
            return Err(AuthError::Expired);
        }
        if date(said, "nbf")?.is_some_and(|from| now.0.saturating_add(LEEWAY_MS) < from.0) {
            return Err(AuthError::NotYet);
        }
        let subject = text(said, "sub", SUBJECT_BYTES_MAX)?.ok_or(missing("sub"))?;
        Ok(Self {
            who: Who::User(subject.into()),
            grants: grants(said, subject)?,
            disconnect: false,
            expires_at: Some(expires_at.min(Timestamp(now.0.saturating_add(LIFE_MS_MAX)))),
            issued_at: date(said, "iat")?,
            token_id: text(said, "jti", TOKEN_ID_BYTES_MAX)?.map(Into::into),
        })
    }
}

const fn missing(claim: &'static str) -> AuthError {
    AuthError::Claim { claim, why: "is missing" }
}

/// A moment in seconds since 1970, whole or not. What no calendar holds is the end of all time.
fn date(said: &Map<String, Value>, claim: &'static str) -> Result<Option<Timestamp>, AuthError> {
    let number = match said.get(claim) {
        None => return Ok(None),
        Some(Value::Number(number)) => number,
        Some(_) => {
            return Err(AuthError::Claim { claim, why: "is not a number of seconds" });
        }
    };
    let ms = match (number.as_u64(), number.as_f64()) {
        (Some(seconds), _) => seconds.saturating_mul(1_000),
        (None, Some(seconds)) if seconds >= 0.0 => Duration::try_from_secs_f64(seconds)
            .map_or(u64::MAX, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
        _ => {
            return Err(AuthError::Claim { claim, why: "is before 1970" });
        }
    };
    Ok(Some(Timestamp(ms)))
}

/// A text that can stand in a header, a log line and a roster: printable ASCII, no space at an end.
fn text<'a>(
    said: &'a Map<String, Value>,
    claim: &'static str,
    bytes_max: usize,
) -> Result<Option<&'a str>, AuthError> {
    let why = match said.get(claim) {
        None => return Ok(None),
        Some(Value::String(text)) if text.is_empty() => "is empty",
        Some(Value::String(text)) if text.len() > bytes_max => "is too long",
        Some(Value::String(text)) if !text.bytes().all(|b| (b' '..=b'~').contains(&b)) => {
            "holds other characters than printable ASCII"
        }
        Some(Value::String(text)) if text.trim() != text => "begins or ends with a space",
        Some(Value::String(text)) => return Ok(Some(text)),
        Some(_) => "is not a string",
    };
    Err(AuthError::Claim { claim, why })
}

fn grants(said: &Map<String, Value>, subject: &str) -> Result<Grants, AuthError> {
    let mut grants = Grants::default();
    let permissions = match said.get("permissions") {
        None => return Ok(grants),
        Some(Value::Object(permissions)) => permissions,
        Some(_) => {
            return Err(AuthError::Claim { claim: "permissions", why: "is not an object" });
        }
    };
    for verb in Verb::ALL {
        match permissions.get(verb.as_str()) {
            None => {}
            Some(Value::Array(list)) if list.len() <= GRANTS_MAX => {
                for (index, entry) in list.iter().enumerate() {
                    grants.of_mut(verb).push(grant(entry, subject, verb, index)?);
                }
            }
            Some(Value::Array(_)) => return Err(AuthError::TooManyPatterns(verb)),
            Some(_) => return Err(AuthError::NoPatterns(verb)),
        }
    }
    Ok(grants)
}

fn grant(entry: &Value, subject: &str, verb: Verb, index: usize) -> Result<Pattern, AuthError> {
    let Value::String(text) = entry else {
        return Err(AuthError::NoPatterns(verb));
    };
    let pattern = if !text.contains(PLACEHOLDER) {
        Pattern::parse(text)
    } else if is_segment(subject) {
        // A Token of 8 KiB cannot make more than 200 KiB of this.
        Pattern::parse(&text.replace(PLACEHOLDER, subject))
    } else {
        return Err(AuthError::Subject { verb, index });
    };
    pattern.map_err(|why| AuthError::Pattern { verb, index, why })
}
