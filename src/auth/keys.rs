//! The keys that Tokens and API keys are held against, and their files.
//!
//! Keys are read when the node starts and whenever their file changes; readers never wait for that,
//! since a whole new ring is put in place of the old one. A file that has become faulty changes
//! nothing: what was read before goes on counting.
//!
//! LAW: one key, one algorithm. A Token's `alg` picks among the entries that name exactly this one,
//! so a public key is never taken for a secret.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use aws_lc_rs::signature::{self, ParsedPublicKey, RsaParameters, VerificationAlgorithm};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use secrecy::{ExposeSecret, SecretSlice};

use super::api_key::ApiKeys;
use super::claims::Claims;
use super::file::File;
use super::token::{AuthError, Mismatch, Token, Unverified};
use super::{Config, Fault, IssuerConfig};
use crate::publication::Timestamp;

/// Shortest secret, in bytes, for every `HS…`.
pub(super) const SECRET_BYTES_MIN: usize = 32;
/// Most entries of `auth.issuers`: a Token may have to be held against each.
const ISSUERS_MAX: usize = 64;
/// The sizes of RSA keys that the crypto library verifies with.
const RSA_BITS: RangeInclusive<u32> = 2_048..=8_192;
const KEY_FILE_BYTES_MAX: u64 = 64 * 1_024;
const API_KEYS_FILE_BYTES_MAX: u64 = 4 * 1_024 * 1_024;

/// All keys, and the files that they came from.
#[derive(Debug)]
pub(super) struct Keys {
    ring: ArcSwap<Ring>,
    /// Held only while files are read, by whoever reloads.
    sources: Mutex<Vec<Source>>,
}

/// What verifications look at: replaced as a whole, never changed.
#[derive(Debug, Clone, Default)]
struct Ring {
    issuers: Vec<Arc<Issuer>>,
    api_keys: Arc<ApiKeys>,
}

/// One entry of `auth.issuers`, with its key ready for use.
#[derive(Debug)]
struct Issuer {
    issuer: Option<String>,
    audience: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

/// A file, and what it is for.
#[derive(Debug)]
struct Source {
    file: File,
    setting: String,
    of: Of,
}

#[derive(Debug)]
enum Of {
    Issuer(usize, IssuerConfig),
    ApiKeys,
}

impl Keys {
    pub(super) fn open(config: &Config) -> Result<Self, Vec<Fault>> {
        let mut faults = settings(config);
        let (mut ring, mut sources) = (Ring::default(), sources(config));
        for source in &mut sources {
            match source.file.changed() {
                Some(Ok(content)) => {
                    if let Err(these) = ring.take(source, &content) {
                        faults.extend(these);
                    }
                }
                Some(Err(what)) => faults.push(Fault::new(&source.setting, what)),
                None => {}
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self { ring: ArcSwap::from_pointee(ring), sources: Mutex::new(sources) })
    }

    pub(super) fn with_secret(secret: &[u8]) -> Result<Self, String> {
        let algorithm = Algorithm::HS256;
        let key = DecodingKey::from_secret(long_enough(secret)?);
        let issuer = Issuer { issuer: None, audience: None, algorithm, key };
        let ring = Ring { issuers: vec![Arc::new(issuer)], ..Ring::default() };
        Ok(Self { ring: ArcSwap::from_pointee(ring), sources: Mutex::default() })
    }

    pub(super) fn is_empty(&self) -> bool {
        let ring = self.ring.load();
        ring.issuers.is_empty() && ring.api_keys.is_empty()
    }

    pub(super) fn verify(&self, token: &Token, now: Timestamp) -> Result<Claims, AuthError> {
        let unverified = Unverified::read(token)?;
        let (issuer, audience) = (unverified.issuer()?, unverified.audience()?);
        let ring = self.ring.load();
        let mut furthest = Mismatch::NoIssuers;
        for entry in &ring.issuers {
            match entry.vouches(&unverified, issuer, audience.as_deref()) {
                Ok(()) => return Claims::read(&unverified.said, now),
                Err(why) => furthest = furthest.max(why),
            }
        }
        Err(furthest.into())
    }

    pub(super) fn api_key(&self, key: &str) -> Option<Arc<Claims>> {
        self.ring.load().api_keys.find(key)
    }

    pub(super) fn reload(&self) -> Vec<Result<String, Fault>> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let mut ring = Ring::clone(&self.ring.load());
        let mut told = Vec::new();
        for source in sources.iter_mut() {
            match source.file.changed() {
                None => {}
                Some(Err(what)) => told.push(Err(Fault::new(&source.setting, what))),
                Some(Ok(content)) => match ring.take(source, &content) {
                    Ok(()) => told.push(Ok(source.file.path().display().to_string())),
                    Err(faults) => told.extend(faults.into_iter().map(Err)),
                },
            }
        }
        if told.iter().any(Result::is_ok) {
            self.ring.store(Arc::new(ring));
        }
        told
    }
}

/// What is wrong in the section itself, before any file is looked at.
fn settings(config: &Config) -> Vec<Fault> {
    let mut faults = Vec::new();
    if config.issuers.len() > ISSUERS_MAX {
        let what = format!("has more than {ISSUERS_MAX} entries");
        faults.push(Fault::new("auth.issuers", what));
    }
    for (index, entry) in config.issuers.iter().enumerate() {
        // An empty text is a template with a hole. As "none" it would let every issuer in.
        for (key, value) in [("issuer", &entry.issuer), ("audience", &entry.audience)] {
            if value.as_deref() == Some("") {
                let path = format!("auth.issuers[{index}].{key}");
                faults.push(Fault::new(path, "is empty; leave it out if it shall not count"));
            }
        }
    }
    faults
}

fn sources(config: &Config) -> Vec<Source> {
    let issuers = config.issuers.iter().take(ISSUERS_MAX).enumerate();
    let mut sources: Vec<_> = issuers
        .map(|(index, entry)| Source {
            file: File::new(&entry.key_file, KEY_FILE_BYTES_MAX),
            setting: format!("auth.issuers[{index}].key_file"),
            of: Of::Issuer(index, entry.clone()),
        })
        .collect();
    match &config.api_keys_file {
        Some(path) if !path.as_os_str().is_empty() => sources.push(Source {
            file: File::new(path, API_KEYS_FILE_BYTES_MAX),
            setting: "auth.api_keys_file".into(),
            of: Of::ApiKeys,
        }),
        _ => {}
    }
    sources
}

impl Ring {
    /// Puts what a file holds in its place.
    fn take(&mut self, source: &Source, content: &SecretSlice<u8>) -> Result<(), Vec<Fault>> {
        let content = content.expose_secret();
        match &source.of {
            Of::ApiKeys => self.api_keys = Arc::new(ApiKeys::read(content, &source.setting)?),
            Of::Issuer(index, config) => {
                let issuer = Issuer::read(config, content)
                    .map_err(|what| vec![Fault::new(&source.setting, what)])?;
                match self.issuers.get_mut(*index) {
                    Some(place) => *place = Arc::new(issuer),
                    None => self.issuers.push(Arc::new(issuer)),
                }
            }
        }
        Ok(())
    }
}

impl Issuer {
    fn read(config: &IssuerConfig, content: &[u8]) -> Result<Self, String> {
        let algorithm = config.algorithm;
        let key = match algorithm.family() {
            AlgorithmFamily::Hmac => DecodingKey::from_secret(secret(algorithm, content)?),
            _ => public_key(algorithm, content)?,
        };
        let (issuer, audience) = (config.issuer.clone(), config.audience.clone());
        Ok(Self { issuer, audience, algorithm, key })
    }

    /// Whether this entry stands for the Token: algorithm, issuer, signature, audience, in this
    /// order, so that the answer to a forged Token does not depend on what it says of itself.
    fn vouches(
        &self,
        token: &Unverified<'_>,
        issuer: Option<&str>,
        audience: Option<&[&str]>,
    ) -> Result<(), Mismatch> {
        if self.algorithm != token.algorithm {
            return Err(Mismatch::Algorithm);
        }
        if self.issuer.is_some() && self.issuer.as_deref() != issuer {
            return Err(Mismatch::Issuer);
        }
        let (message, key) = (token.message.as_bytes(), &self.key);
        match jsonwebtoken::crypto::verify(token.signature, message, key, self.algorithm) {
            Ok(true) => {}
            Ok(false) | Err(_) => return Err(Mismatch::Signature),
        }
        match (self.audience.as_deref(), audience) {
            (None, None) => Ok(()),
            (None, Some(_)) => Err(Mismatch::AudienceNotSet),
            (Some(_), None) => Err(Mismatch::AudienceMissing),
            (Some(ours), Some(named)) if named.contains(&ours) => Ok(()),
            (Some(_), Some(_)) => Err(Mismatch::Audience),
        }
    }
}

/// The secret in an issuer's file.
pub(super) fn read_secret(config: &IssuerConfig) -> Result<SecretSlice<u8>, String> {
    let algorithm = config.algorithm;
    if algorithm.family() != AlgorithmFamily::Hmac {
        return Err(format!("{algorithm:?} has no secret to sign with"));
    }
    let content = File::new(&config.key_file, KEY_FILE_BYTES_MAX).changed();
    let content = content.unwrap_or_else(|| Err("it cannot be read".into()))?;
    Ok(secret(algorithm, content.expose_secret())?.to_vec().into())
}

/// The secret bytes of a file: all of them, but for the line end that an editor puts after a text.
fn secret(algorithm: Algorithm, content: &[u8]) -> Result<&[u8], String> {
    let line = content.strip_suffix(b"\n").unwrap_or(content);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let is_text = line.iter().all(|&byte| (b' '..=b'~').contains(&byte));
    let secret = if is_text { line } else { content };
    if secret.starts_with(b"-----BEGIN") {
        return Err(format!("holds PEM, but {algorithm:?} takes secret bytes"));
    }
    long_enough(secret)
}

fn long_enough(secret: &[u8]) -> Result<&[u8], String> {
    match secret.len() {
        SECRET_BYTES_MIN.. => Ok(secret),
        bytes => Err(format!("holds {bytes} bytes, and a secret has {SECRET_BYTES_MIN} or more")),
    }
}

/// Reads the one public key of a PEM file, and makes sure that it can be used at all.
fn public_key(algorithm: Algorithm, content: &[u8]) -> Result<DecodingKey, String> {
    let text = str::from_utf8(content).unwrap_or_default();
    let mut labels =
        text.split("-----BEGIN ").skip(1).filter_map(|rest| rest.split("-----").next());
    let label = labels.next();
    if labels.next().is_some() {
        return Err("holds more than one PEM block; each key has an entry of its own".into());
    }
    match label {
        Some("PUBLIC KEY" | "RSA PUBLIC KEY") => {}
        Some("CERTIFICATE") => {
            return Err("holds a certificate; take its key: openssl x509 -pubkey -noout".into());
        }
        Some(label) if label.ends_with("PRIVATE KEY") => {
            return Err("holds a private key; a gateway needs only the public one".into());
        }
        _ => {
            return Err(format!("holds no public key in PEM, which {algorithm:?} takes"));
        }
    }
    let key = match algorithm.family() {
        AlgorithmFamily::Rsa => DecodingKey::from_rsa_pem(content),
        AlgorithmFamily::Ec => DecodingKey::from_ec_pem(content),
        _ => DecodingKey::from_ed_pem(content),
    };
    let key = key.map_err(|_| format!("holds no key of the family that {algorithm:?} takes"))?;
    if key.try_get_as_bytes().is_ok_and(|bytes| fits(algorithm, bytes)) {
        Ok(key)
    } else {
        Err(format!("holds a key that {algorithm:?} cannot use: wrong curve or size"))
    }
}

/// Whether verifications by this algorithm can ever succeed with this key.
fn fits(algorithm: Algorithm, key: &[u8]) -> bool {
    let reads = |by: &'static dyn VerificationAlgorithm| ParsedPublicKey::new(by, key).is_ok();
    match algorithm.family() {
        AlgorithmFamily::Hmac => false,
        AlgorithmFamily::Rsa => {
            RsaParameters::public_modulus_len(key).is_ok_and(|bits| RSA_BITS.contains(&bits))
        }
        AlgorithmFamily::Ec if algorithm == Algorithm::ES384 => {
            reads(&signature::ECDSA_P384_SHA384_FIXED)
        }
        AlgorithmFamily::Ec => reads(&signature::ECDSA_P256_SHA256_FIXED),
        AlgorithmFamily::Ed => reads(&signature::ED25519),
    }
}

#[cfg(test)]
mod tests;
