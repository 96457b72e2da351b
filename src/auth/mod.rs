//! Who may do what.
//!
//! Whoever asks shows a Token, an API key or nothing; [`Auth`] turns that into [`Claims`], and
//! these say what is allowed. There is no callback: authorisation is what the Token says. The HTTP
//! routes and the Session's doors call this room on their own threads: a verification waits for
//! nothing and takes 2 to 60 µs (ES384: 170). It knows Topics and Patterns, and neither a socket, a
//! clock nor the Bus: the time is handed in, and somebody else calls [`Auth::reload`] now and then.
//!
//! LAW: no part of a Token, key or secret is in any error, `Debug` text or fault that leaves here.

mod api_key;
mod claims;
mod file;
mod grant;
mod keys;
mod origin;
mod revoked;
#[cfg(test)]
mod tests;
mod token;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;
use serde::Deserialize;

pub use api_key::{API_KEY_PREFIX, make_api_key};
pub use claims::{Claims, SUBJECT_BYTES_MAX, TOKEN_ID_BYTES_MAX, Who};
pub use grant::{Denied, GRANTS_MAX, Grants, Verb};
pub use jsonwebtoken::Algorithm;
pub use origin::Origins;
pub use revoked::{Mark, REVOKED_FOR, Revocation};
#[expect(
    clippy::module_name_repetitions,
    reason = "a bare Error would be taken for protocol's"
)]
pub use token::AuthError;
pub use token::{Mismatch, NewToken, TOKEN_BYTES_MAX, Token};

use crate::publication::Timestamp;

/// The section `auth` of the configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Whose Tokens are good. Two entries of one issuer: rotation.
    pub issuers: Vec<IssuerConfig>,
    /// The YAML list of API keys; none, or an empty path, for no such keys.
    pub api_keys_file: Option<PathBuf>,
    /// What clients without Token and key may do.
    pub anonymous: Grants,
    /// The Origins whose pages may connect; empty: those of the node's own host.
    pub origins: Vec<String>,
}

/// One key that Tokens may be signed with.
#[derive(Debug, Clone, Deserialize)]
pub struct IssuerConfig {
    /// The `iss` that Tokens under this key carry; none: any, or no `iss` at all.
    #[serde(default)]
    pub issuer: Option<String>,
    /// The `aud` that Tokens must name; none: Tokens must not have one.
    #[serde(default)]
    pub audience: Option<String>,
    /// The one algorithm for which this key counts.
    pub algorithm: Algorithm,
    /// Secret bytes (`HS…`), or one public key in PEM.
    pub key_file: PathBuf,
}

impl IssuerConfig {
    /// The secret in its file, by the rules that the gateway reads it with: for whoever signs.
    ///
    /// # Errors
    /// The file cannot be read, or holds no secret for an `HS…` algorithm.
    pub fn secret(&self) -> Result<secrecy::SecretSlice<u8>, Fault> {
        keys::read_secret(self).map_err(|what| Fault::new("key_file", what))
    }
}

/// One thing that is wrong with the configuration or a file it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where, such as `auth.issuers[0].key_file`.
    pub path: String,
    /// What is wrong there, in words.
    pub what: String,
}

impl Fault {
    fn new(path: impl Into<String>, what: impl Into<String>) -> Self {
        Self { path: path.into(), what: what.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.path, self.what)
    }
}

/// All that decides who may do what; one per node, shared by its threads.
#[derive(Debug)]
pub struct Auth {
    keys: keys::Keys,
    anonymous: Option<Arc<Claims>>,
    origins: Origins,
    revoked: revoked::Revoked,
    /// Tokens and keys that were refused, by [`AuthError::REASONS`].
    refused: [AtomicU64; AuthError::REASONS.len()],
}

impl Auth {
    /// Reads every file that the configuration names.
    ///
    /// # Errors
    /// All faults there are, not only the first.
    pub fn open(config: &Config) -> Result<Self, Vec<Fault>> {
        let mut faults = config.anonymous.faults("auth.anonymous");
        let origins = Origins::read(&config.origins).unwrap_or_else(|these| {
            faults.extend(these);
            Origins::default()
        });
        match keys::Keys::open(config) {
            Ok(keys) if faults.is_empty() => Ok(Self::new(keys, &config.anonymous, origins)),
            Ok(_) => Err(faults),
            Err(these) => {
                faults.extend(these);
                Err(faults)
            }
        }
    }

    /// One HS256 key in memory, and no file: for `dev` and for tests.
    ///
    /// # Errors
    /// The secret is shorter than 32 bytes.
    pub fn with_secret(secret: &[u8], anonymous: Grants) -> Result<Self, Fault> {
        let keys = keys::Keys::with_secret(secret).map_err(|what| Fault::new("secret", what))?;
        Ok(Self::new(keys, &anonymous, Origins::default()))
    }

    fn new(keys: keys::Keys, anonymous: &Grants, origins: Origins) -> Self {
        let anonymous = (!anonymous.is_empty()).then(|| Arc::new(Claims::anonymous(anonymous)));
        Self { keys, anonymous, origins, revoked: Default::default(), refused: Default::default() }
    }

    /// Registers what it counts.
    pub fn observe(self: &Arc<Self>, meter: &Meter) {
        let auth = Arc::clone(self);
        meter
            .u64_observable_counter("tidegate_auth_failures_total")
            .with_description("Tokens and API keys that were refused")
            .with_callback(move |observer| {
                for (count, reason) in auth.refused.iter().zip(AuthError::REASONS) {
                    let count = count.load(Ordering::Relaxed);
                    observer.observe(count, &[KeyValue::new("reason", reason)]);
                }
            })
            .build();
        let auth = Arc::clone(self);
        meter
            .u64_observable_gauge("tidegate_revocations")
            .with_description("Users and Tokens that are revoked, as far as this node knows")
            .with_callback(move |observer| observer.observe(auth.revoked.len() as u64, &[]))
            .build();
    }

    fn refuse(&self, why: &AuthError) {
        let mut counts = self.refused.iter().zip(AuthError::REASONS);
        if let Some((count, _)) = counts.find(|(_, reason)| *reason == why.reason()) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What this Token says, if its signature and its times are good and nobody has revoked it.
    ///
    /// # Errors
    /// Words that a developer can act on, without any part of the Token.
    pub fn verify(&self, token: &Token, now: Timestamp) -> Result<Arc<Claims>, AuthError> {
        let claims =
            self.keys.verify(token, now).and_then(|claims| match self.is_revoked(&claims) {
                true => Err(AuthError::Revoked),
                false => Ok(Arc::new(claims)),
            });
        claims.inspect_err(|why| self.refuse(why))
    }

    /// Takes in what was revoked; whether that was news. Who is connected stays so: whoever is told of
    /// news looks after them.
    pub fn revoke(&self, revocation: Revocation) -> bool {
        self.revoked.add(revocation)
    }

    /// Whether these Claims, good as they are, count no more.
    #[must_use]
    pub fn is_revoked(&self, claims: &Claims) -> bool {
        self.revoked.holds(claims)
    }

    /// Whether something is revoked under this mark.
    #[must_use]
    pub fn knows_revoked(&self, mark: Mark) -> bool {
        self.revoked.knows(mark)
    }

    /// How much is revoked.
    #[must_use]
    pub fn revocations(&self) -> usize {
        self.revoked.len()
    }

    /// All that is revoked.
    #[must_use]
    pub fn revoked(&self) -> Vec<Revocation> {
        self.revoked.all()
    }

    /// Lets go of what every Token that it is about has outlived.
    pub fn forget_revoked(&self, now: Timestamp) {
        self.revoked.forget(now);
    }

    /// What the API key with this text (`tgk_…`) may do.
    ///
    /// # Errors
    /// It is none of those in the file.
    pub fn api_key(&self, key: &str) -> Result<Arc<Claims>, AuthError> {
        self.keys.api_key(key).ok_or(AuthError::ApiKey).inspect_err(|why| self.refuse(why))
    }

    /// What clients without Token and key may do; none if nothing.
    #[must_use]
    pub fn anonymous(&self) -> Option<Arc<Claims>> {
        self.anonymous.clone()
    }

    /// Whether nobody can be let in: no key, and no anonymous Grant.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.anonymous.is_none() && self.keys.is_empty()
    }

    /// Looks whether a file has changed, and reads it again if so. Blocks on the disk, so a Shard
    /// does not call it; costs two system calls a file while nothing changes.
    ///
    /// Each change is told once: with the path of a file that now counts, or with the fault for
    /// which what was read before goes on counting.
    pub fn reload(&self) -> Vec<Result<String, Fault>> {
        self.keys.reload()
    }

    /// From which pages browsers may connect.
    #[must_use]
    pub const fn origins(&self) -> &Origins {
        &self.origins
    }
}

/// A new secret for HS256, from the system's random numbers.
///
/// # Errors
/// The system has none.
pub fn fresh_secret() -> Result<secrecy::SecretSlice<u8>, Fault> {
    let mut bytes = vec![0; keys::SECRET_BYTES_MIN];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Fault::new("secret", api_key::NO_RANDOM))?;
    Ok(bytes.into())
}
