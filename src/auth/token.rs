//! The Token: a text that proves what it says, if a key of ours fits it.
//!
//! Here it is taken apart and put together; which key fits is the business of `keys`, and what its
//! claims mean that of `claims`. The signature arithmetic is jsonwebtoken's. Its `decode` is not
//! used: it takes the system's clock and lets pass what the gateway must refuse (a second `exp`, a
//! `crit`, a foreign `typ`), and its errors quote the Token.
//!
//! Never looked at: `kid`, `jku`, `jwk`, `x5u` and `x5c`. A Token does not choose its key.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, AlgorithmFamily, EncodingKey, Header};
use secrecy::{ExposeSecret, SecretString};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value, json};

use super::claims::Claims;
use super::grant::{GRANTS_MAX, Verb};
use crate::protocol::Code;
use crate::publication::Timestamp;
use crate::topic::TopicError;

/// Longest Token, in bytes.
pub const TOKEN_BYTES_MAX: usize = 8 * 1_024;

/// An unread Token. It cannot be printed, and its memory is wiped at the end.
#[derive(Clone)]
pub struct Token(SecretString);

impl Token {
    /// Whatever a client sent as its Token.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Token(…)")
    }
}

/// Why a Token or an API key is not good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// Not the form of a Token.
    #[error("the Token cannot be read: {0}")]
    Unreadable(&'static str),
    /// Well-formed, but none of our keys vouches for it.
    #[error("{0}")]
    Mismatch(#[from] Mismatch),
    /// A claim that is missing, or is not what it must be.
    #[error("the Token's {claim} {why}")]
    Claim {
        /// Its name.
        claim: &'static str,
        /// What is wrong, as the end of a sentence.
        why: &'static str,
    },
    /// A permission that is no list of Patterns.
    #[error("the Token's permissions.{0} is not an array of strings")]
    NoPatterns(Verb),
    /// A permission with too many Patterns.
    #[error("the Token's permissions.{0} has more than {GRANTS_MAX} patterns")]
    TooManyPatterns(Verb),
    /// A permission with a text that is no Pattern.
    #[error("the Token's permissions.{verb}[{index}] is no pattern: {why}")]
    Pattern {
        /// Of this verb.
        verb: Verb,
        /// Counted from 0.
        index: usize,
        /// Why not.
        why: TopicError,
    },
    /// A permission with `{sub}`, where the subject is no segment.
    #[error("the Token's permissions.{verb}[{index}] holds {{sub}}, but its sub is no segment")]
    Subject {
        /// Of this verb.
        verb: Verb,
        /// Counted from 0.
        index: usize,
    },
    /// Good once.
    #[error("the Token has expired")]
    Expired,
    /// Good later.
    #[error("the Token is not good yet: its nbf is in the future")]
    NotYet,
    /// Good, and turned away.
    #[error("the Token was revoked, alone or with all of its user that are as old")]
    Revoked,
    /// Not one of ours.
    #[error("the API key is none of those in auth.api_keys_file")]
    ApiKey,
}

impl AuthError {
    /// Every word of [`reason`](Self::reason).
    pub(super) const REASONS: [&str; 11] = [
        "unreadable",
        "algorithm",
        "issuer",
        "signature",
        "audience",
        "claim",
        "permissions",
        "expired",
        "not_yet",
        "revoked",
        "api_key",
    ];

    /// What it is counted under.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "unreadable",
            Self::Mismatch(Mismatch::NoIssuers | Mismatch::Algorithm) => "algorithm",
            Self::Mismatch(Mismatch::Issuer) => "issuer",
            Self::Mismatch(Mismatch::Signature) => "signature",
            Self::Mismatch(
                Mismatch::AudienceNotSet | Mismatch::AudienceMissing | Mismatch::Audience,
            ) => "audience",
            Self::Claim { .. } => "claim",
            Self::NoPatterns(_)
            | Self::TooManyPatterns(_)
            | Self::Pattern { .. }
            | Self::Subject { .. } => "permissions",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::Revoked => "revoked",
            Self::ApiKey => "api_key",
        }
    }

    /// The same, as clients hear it.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Expired => Code::TokenExpired,
            Self::Revoked => Code::Revoked,
            _ => Code::Unauthenticated,
        }
    }
}

/// How far a Token came with the entries of `auth.issuers`: of several, the furthest is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum Mismatch {
    /// There are no entries.
    #[error("no Token is good here: auth.issuers is empty")]
    NoIssuers,
    /// None has its `alg`.
    #[error("the Token's alg is that of no entry in auth.issuers")]
    Algorithm,
    /// None of these has its `iss`.
    #[error("the Token's iss is that of no entry in auth.issuers with its alg")]
    Issuer,
    /// None of these has its key.
    #[error("the Token's signature fits no configured key")]
    Signature,
    /// That one has no audience.
    #[error("the Token has an audience, but auth.issuers[].audience is not set")]
    AudienceNotSet,
    /// That one has an audience.
    #[error("the Token has no aud, but auth.issuers[].audience is set")]
    AudienceMissing,
    /// That one has another audience.
    #[error("the Token's aud does not name auth.issuers[].audience")]
    Audience,
}

/// A Token taken apart: nothing in it is proven.
pub(super) struct Unverified<'a> {
    /// Header and claims as they were signed.
    pub(super) message: &'a str,
    /// The signature, still in base64.
    pub(super) signature: &'a str,
    /// What it asks to be verified with.
    pub(super) algorithm: Algorithm,
    /// What it says.
    pub(super) said: Map<String, Value>,
}

impl<'a> Unverified<'a> {
    pub(super) fn read(token: &'a Token) -> Result<Self, AuthError> {
        let text = token.0.expose_secret();
        if text.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::Unreadable("it is longer than 8 KiB"));
        }
        let (message, signature) = text.rsplit_once('.').ok_or(NOT_THREE)?;
        let (header, claims) = message.split_once('.').ok_or(NOT_THREE)?;
        if [header, claims, signature].iter().any(|part| part.is_empty() || part.contains('.')) {
            return Err(NOT_THREE);
        }
        let algorithm = algorithm(&object(header)?)?;
        let said = object(claims)?;
        Ok(Self { message, signature, algorithm, said })
    }

    /// Its `iss`.
    pub(super) fn issuer(&self) -> Result<Option<&str>, AuthError> {
        match self.said.get("iss") {
            None => Ok(None),
            Some(Value::String(issuer)) => Ok(Some(issuer)),
            Some(_) => Err(AuthError::Claim { claim: "iss", why: "is not a string" }),
        }
    }

    /// All that its `aud` names.
    pub(super) fn audience(&self) -> Result<Option<Vec<&str>>, AuthError> {
        const WRONG: AuthError =
            AuthError::Claim { claim: "aud", why: "is not a string or an array of strings" };
        match self.said.get("aud") {
            None => Ok(None),
            Some(Value::String(audience)) => Ok(Some(vec![audience])),
            Some(Value::Array(several)) => several
                .iter()
                .map(|one| one.as_str().ok_or(WRONG))
                .collect::<Result<_, _>>()
                .map(Some),
            Some(_) => Err(WRONG),
        }
    }
}

const NOT_THREE: AuthError = AuthError::Unreadable("it is not three parts joined by dots");

/// One part of a Token. The words say what is wrong and not where: a JSON error would quote it.
fn object(part: &str) -> Result<Map<String, Value>, AuthError> {
    let bytes = URL_SAFE_NO_PAD
        .decode(part)
        .map_err(|_| AuthError::Unreadable("a part is not base64url without padding"))?;
    match serde_json::from_slice(&bytes) {
        Ok(Unique(Value::Object(object))) => Ok(object),
        Err(why) if why.is_data() => Err(AuthError::Unreadable("a part has a key twice")),
        Ok(_) | Err(_) => Err(AuthError::Unreadable("a part is no JSON object")),
    }
}

/// Checks a header, and reads its `alg`.
fn algorithm(header: &Map<String, Value>) -> Result<Algorithm, AuthError> {
    if header.contains_key("crit") {
        return Err(AuthError::Unreadable("its header has crit"));
    }
    match header.get("typ") {
        None => {}
        Some(Value::String(kind))
            if kind.eq_ignore_ascii_case("JWT") || kind.eq_ignore_ascii_case("at+jwt") => {}
        Some(_) => {
            return Err(AuthError::Unreadable("its header's typ is neither JWT nor at+jwt"));
        }
    }
    header
        .get("alg")
        .and_then(Value::as_str)
        .and_then(|name| name.parse().ok())
        .ok_or(AuthError::Unreadable("its header's alg is none that this gateway knows"))
}

/// Any JSON in which no object has a key twice, at any depth: two readers of one Token could take
/// one of them each.
struct Unique(Value);

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(UniqueVisitor).map(Self)
    }
}

struct UniqueVisitor;

impl<'de> Visitor<'de> for UniqueVisitor {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Unique(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut pairs: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((key, Unique(value))) = pairs.next_entry::<String, Unique>()? {
            if object.insert(key, value).is_some() {
                return Err(A::Error::custom("a key stands twice"));
            }
        }
        Ok(Value::Object(object))
    }
}

/// What a new Token shall say: for the command `token`, which signs with an issuer's secret.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Its subject.
    pub subject: String,
    /// Patterns as text; `{sub}` becomes the subject when the Token is read.
    pub subscribe: Vec<String>,
    /// The same, for publishing.
    pub publish: Vec<String>,
    /// The same, for history.
    pub history: Vec<String>,
    /// How long it is good; beyond 24 hours a gateway cuts it.
    pub life: Duration,
    /// Its `iss`.
    pub issuer: Option<String>,
    /// Its `aud`.
    pub audience: Option<String>,
    /// `HS256`, `HS384` or `HS512`.
    pub algorithm: Algorithm,
}

impl NewToken {
    /// Signs it. Its claims are read back first, so that no Token is made that is refused.
    ///
    /// # Errors
    /// The algorithm takes no secret, or the claims are not what they must be.
    pub fn sign(&self, secret: &[u8], now: Timestamp) -> Result<String, AuthError> {
        const UNSIGNED: AuthError =
            AuthError::Unreadable("only HS256, HS384 and HS512 sign with a secret");
        if self.algorithm.family() != AlgorithmFamily::Hmac {
            return Err(UNSIGNED);
        }
        let issued = now.0 / 1_000;
        let mut said = Map::new();
        said.insert("sub".into(), json!(self.subject));
        said.insert("iat".into(), json!(issued));
        said.insert("exp".into(), json!(issued.saturating_add(self.life.as_secs())));
        for (claim, value) in [("iss", &self.issuer), ("aud", &self.audience)] {
            if let Some(value) = value {
                said.insert(claim.into(), json!(value));
            }
        }
        said.insert(
            "permissions".into(),
            json!({"subscribe": self.subscribe, "publish": self.publish, "history": self.history}),
        );
        Claims::read(&said, now)?;
        let key = EncodingKey::from_secret(secret);
        let text = jsonwebtoken::encode(&Header::new(self.algorithm), &said, &key)
            .map_err(|_| UNSIGNED)?;
        if text.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::Unreadable("it is longer than 8 KiB"));
        }
        Ok(text)
    }
}
