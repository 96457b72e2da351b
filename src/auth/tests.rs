//! A verdict for each trick with Tokens, and what no error may ever hold.

use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair,
};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::EncodingKey;

use super::*;
use crate::topic::Pattern;

pub(super) const SECRET: &[u8] = b"canary-secret-of-thirty-two-bytes";
pub(super) const OTHER: &[u8] = b"canary-other-secret-of-thirty-two";
const TWO: &[u8] = b"canary-secret-of-the-second-issuer";
/// The test's present, in seconds.
pub(super) const NOW: u64 = 1_790_000_000;
const CLOCK: Timestamp = Timestamp(NOW * 1_000);

/// A key pair: what signs, and what an issuer publishes.
pub(super) struct Pair {
    private: EncodingKey,
    pub(super) private_pem: String,
    pub(super) public_pem: String,
}

pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<_> = body.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn pair(
    private: &[u8],
    public: &[u8],
    read: fn(&[u8]) -> jsonwebtoken::errors::Result<EncodingKey>,
) -> Pair {
    let (private_pem, public_pem) = (pem("PRIVATE KEY", private), pem("PUBLIC KEY", public));
    Pair { private: read(private_pem.as_bytes()).unwrap(), private_pem, public_pem }
}

fn ec(algorithm: &'static EcdsaSigningAlgorithm) -> Pair {
    let key = EcdsaKeyPair::generate(algorithm).unwrap();
    let public: PublicKeyX509Der = key.public_key().as_der().unwrap();
    pair(key.to_pkcs8v1().unwrap().as_ref(), public.as_ref(), EncodingKey::from_ec_pem)
}

pub(super) static RSA: LazyLock<Pair> = LazyLock::new(|| {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let private: Pkcs8V1Der = key.as_der().unwrap();
    let public: PublicKeyX509Der = key.public_key().as_der().unwrap();
    pair(private.as_ref(), public.as_ref(), EncodingKey::from_rsa_pem)
});
pub(super) static P256: LazyLock<Pair> = LazyLock::new(|| ec(&ECDSA_P256_SHA256_FIXED_SIGNING));
pub(super) static P384: LazyLock<Pair> = LazyLock::new(|| ec(&ECDSA_P384_SHA384_FIXED_SIGNING));
pub(super) static ED: LazyLock<Pair> = LazyLock::new(|| {
    let key = Ed25519KeyPair::generate().unwrap();
    let public: PublicKeyX509Der = key.public_key().as_der().unwrap();
    pair(key.to_pkcs8v1().unwrap().as_ref(), public.as_ref(), EncodingKey::from_ed_pem)
});

/// An entry of `auth.issuers`, with its key in a file of that folder.
pub(super) fn issuer(folder: &Path, name: &str, algorithm: Algorithm, key: &[u8]) -> IssuerConfig {
    let key_file = folder.join(name);
    std::fs::write(&key_file, key).unwrap();
    IssuerConfig { issuer: None, audience: None, algorithm, key_file }
}

/// Signs any two texts, JSON or not.
fn signed(algorithm: Algorithm, key: &EncodingKey, header: &str, claims: &str) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

/// A Token under an HS256 secret, with this claims text.
pub(super) fn hs256(secret: &[u8], claims: &str) -> String {
    let key = EncodingKey::from_secret(secret);
    signed(Algorithm::HS256, &key, r#"{"alg":"HS256"}"#, claims)
}

/// Good claims, and what is added to them.
pub(super) fn good(more: &str) -> String {
    format!(r#"{{"sub":"canary-ana","exp":{}{more}}}"#, NOW + 60)
}

/// One trick: its name, the gateway it is tried on, the Token, and the words it must be met with.
struct Case(&'static str, Which, String, &'static str);

#[derive(Clone, Copy, PartialEq)]
enum Which {
    /// One secret, no issuer, no audience.
    Plain,
    /// Every algorithm, two issuers, one of them with an audience.
    Full,
}
use Which::{Full, Plain};

const OK: &str = "ok";
const SIGNATURE: &str = "the Token's signature fits no configured key";
const ALGORITHM: &str = "the Token's alg is that of no entry in auth.issuers";
const ISSUER: &str = "the Token's iss is that of no entry in auth.issuers with its alg";
const UNKNOWN: &str = "the Token cannot be read: its header's alg is none that this gateway knows";
const CRIT: &str = "the Token cannot be read: its header has crit";
const TYP: &str = "the Token cannot be read: its header's typ is neither JWT nor at+jwt";
const PARTS: &str = "the Token cannot be read: it is not three parts joined by dots";
const BASE64: &str = "the Token cannot be read: a part is not base64url without padding";
const JSON: &str = "the Token cannot be read: a part is no JSON object";
const TWICE: &str = "the Token cannot be read: a part has a key twice";
const EXPIRED: &str = "the Token has expired";
const NOT_YET: &str = "the Token is not good yet: its nbf is in the future";
const NOT_SET: &str = "the Token has an audience, but auth.issuers[].audience is not set";
const RESERVED: &str = "the Token's permissions.publish[0] is no pattern: \
    first segments that begin with '_' are reserved";
const NOT_LAST: &str = "the Token's permissions.history[1] is no pattern: \
    '>' (or '**') must be the last segment";

#[rustfmt::skip] // one row, one trick
fn header_cases() -> Vec<Case> {
    let key = EncodingKey::from_secret(SECRET);
    let with = |header: &str| signed(Algorithm::HS256, &key, header, &good(""));
    vec![
        Case("plain", Plain, with(r#"{"alg":"HS256"}"#), OK),
        Case("typ JWT", Plain, with(r#"{"alg":"HS256","typ":"JWT"}"#), OK),
        Case("typ jwt", Plain, with(r#"{"alg":"HS256","typ":"jwt"}"#), OK),
        Case("typ at+jwt", Plain, with(r#"{"typ":"AT+jwt","alg":"HS256"}"#), OK),
        Case("typ of another use", Plain, with(r#"{"alg":"HS256","typ":"dpop+jwt"}"#), TYP),
        Case("typ empty", Plain, with(r#"{"alg":"HS256","typ":""}"#), TYP),
        Case("typ null", Plain, with(r#"{"alg":"HS256","typ":null}"#), TYP),
        Case("typ a list", Plain, with(r#"{"alg":"HS256","typ":["JWT"]}"#), TYP),
        Case("crit", Plain, with(r#"{"alg":"HS256","crit":["exp"],"exp":1}"#), CRIT),
        Case("crit empty", Plain, with(r#"{"alg":"HS256","crit":[]}"#), CRIT),
        Case("crit null", Plain, with(r#"{"alg":"HS256","crit":null}"#), CRIT),
        Case("crit b64", Plain, with(r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#), CRIT),
        Case("kid is not followed", Plain, with(r#"{"alg":"HS256","kid":"../../dev/null"}"#), OK),
        Case("kid of a wrong type", Plain, with(r#"{"alg":"HS256","kid":[1]}"#), OK),
        Case("jku is not followed", Plain, with(r#"{"alg":"HS256","jku":"http://[::1]/"}"#), OK),
        Case("x5u is not followed", Plain, with(r#"{"alg":"HS256","x5u":"file:///etc"}"#), OK),
        Case("no alg", Plain, with("{}"), UNKNOWN),
        Case("alg null", Plain, with(r#"{"alg":null}"#), UNKNOWN),
        Case("alg a list", Plain, with(r#"{"alg":["HS256"]}"#), UNKNOWN),
        Case("alg in small letters", Plain, with(r#"{"alg":"hs256"}"#), UNKNOWN),
        Case("alg with a space", Plain, with(r#"{"alg":"HS256 "}"#), UNKNOWN),
        Case("alg of another key", Plain, with(r#"{"alg":"RS256"}"#), ALGORITHM),
        Case("alg twice", Plain, with(r#"{"alg":"none","alg":"HS256"}"#), TWICE),
        Case("alg twice, escaped", Plain, with(r#"{"alg":"none","\u0061lg":"HS256"}"#), TWICE),
        Case("unknown key twice", Plain, with(r#"{"alg":"HS256","x":1,"x":1}"#), TWICE),
        Case("header a list", Plain, with(r#"["HS256"]"#), JSON),
        Case("header no JSON", Plain, with("alg=HS256"), JSON),
        Case("header with a BOM", Plain, with("\u{feff}{\"alg\":\"HS256\"}"), JSON),
        Case("header and more", Plain, with(r#"{"alg":"HS256"}{}"#), JSON),
        Case("header with white space inside", Plain, with(" { \"alg\" : \"HS256\" } "), OK),
    ]
}

#[rustfmt::skip] // one row, one trick
fn algorithm_cases() -> Vec<Case> {
    let none = |name: &str| {
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{name}"}}"#));
        format!("{header}.{}.", URL_SAFE_NO_PAD.encode(good("")))
    };
    let by = |algorithm, key| {
        signed(algorithm, key, &format!(r#"{{"alg":"{algorithm:?}"}}"#), &good(""))
    };
    let under = |header: &str, key: &[u8]| {
        let key = EncodingKey::from_secret(key);
        signed(Algorithm::HS256, &key, header, &good(""))
    };
    let (hs, rsa_pem) = (r#"{"alg":"HS256"}"#, RSA.public_pem.as_bytes());
    let cross = |algorithm, says: &str, pair: &Pair| {
        signed(algorithm, &pair.private, &format!(r#"{{"alg":"{says}"}}"#), &good(""))
    };
    let jwk = format!(
        r#"{{"alg":"HS256","jwk":{{"kty":"oct","k":"{}"}}}}"#,
        URL_SAFE_NO_PAD.encode(OTHER)
    );
    let foreign = ec(&ECDSA_P256_SHA256_FIXED_SIGNING);
    let rs256 = by(Algorithm::RS256, &RSA.private);
    let es256 = by(Algorithm::ES256, &P256.private);
    let eddsa = by(Algorithm::EdDSA, &ED.private);
    vec![
        Case("none, unsigned", Plain, none("none"), PARTS),
        Case("none, with a signature", Plain, none("none") + "AAAA", UNKNOWN),
        Case("None", Plain, none("None") + "AAAA", UNKNOWN),
        Case("HS256, unsigned", Plain, none("HS256"), PARTS),
        Case("HS256, one byte as signature", Plain, none("HS256") + "AA", SIGNATURE),
        Case("RS256", Full, rs256.clone(), OK),
        Case("RS512", Full, by(Algorithm::RS512, &RSA.private), ALGORITHM),
        Case("PS256", Full, by(Algorithm::PS256, &RSA.private), OK),
        Case("ES256", Full, es256.clone(), OK),
        Case("ES384", Full, by(Algorithm::ES384, &P384.private), OK),
        Case("EdDSA", Full, eddsa.clone(), OK),
        Case("ES256 of a foreign key", Full, by(Algorithm::ES256, &foreign.private), SIGNATURE),
        Case("RS256 taken for PS256", Full, cross(Algorithm::RS256, "PS256", &RSA), SIGNATURE),
        Case("PS256 taken for RS256", Full, cross(Algorithm::PS256, "RS256", &RSA), SIGNATURE),
        Case("ES256 taken for EdDSA", Full, cross(Algorithm::ES256, "EdDSA", &P256), SIGNATURE),
        Case("ES256 taken for ES384", Full, cross(Algorithm::ES256, "ES384", &P256), SIGNATURE),
        Case("HS256 by the RSA key's PEM", Full, under(hs, rsa_pem), ISSUER),
        Case("HS384 by the RSA key's PEM", Full, under(r#"{"alg":"HS384"}"#, rsa_pem), SIGNATURE),
        Case("RS256 said, signed by its PEM", Full, under(r#"{"alg":"RS256"}"#, rsa_pem),
            SIGNATURE),
        Case("HS256 by an empty secret", Plain, under(hs, b""), SIGNATURE),
        Case("HS256 by another secret", Plain, under(hs, OTHER), SIGNATURE),
        Case("HS256 by the key it brings", Plain, under(&jwk, OTHER), SIGNATURE),
        Case("HS256, signature cut to half", Plain, cut(&hs256(SECRET, &good(""))), SIGNATURE),
        Case("ES256, a signature of zeros", Full, zeros(&es256, 64), SIGNATURE),
        Case("EdDSA, a signature of zeros", Full, zeros(&eddsa, 64), SIGNATURE),
        Case("RS256, one letter changed", Full, bent(&rs256), SIGNATURE),
    ]
}

/// The same Token with another, still legal, first letter of its signature.
fn bent(token: &str) -> String {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let first = if signature.starts_with('A') { 'B' } else { 'A' };
    format!("{message}.{first}{}", &signature[1..])
}

fn cut(token: &str) -> String {
    let (message, signature) = token.rsplit_once('.').unwrap();
    let bytes = URL_SAFE_NO_PAD.decode(signature).unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(&bytes[..bytes.len() / 2]))
}

fn zeros(token: &str, bytes: usize) -> String {
    let (message, _) = token.rsplit_once('.').unwrap();
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(vec![0; bytes]))
}

#[rustfmt::skip] // one row, one trick
fn form_cases() -> Vec<Case> {
    let token = hs256(SECRET, &good(""));
    let parts: Vec<&str> = token.split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    let long = |bytes: usize| hs256(SECRET, &good(&format!(r#","x":"{}""#, "a".repeat(bytes))));
    // The last letter of 32 bytes holds two bits that count for nothing.
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let last = letters.find(signature.chars().last().unwrap()).unwrap();
    let loose = letters.chars().nth(last | 1).unwrap();
    let loose = format!(
        "{header}.{claims}.{}{loose}",
        &signature[..signature.len() - 1]
    );
    let deep = format!(r#","x":{}{}"#, "[".repeat(200), "]".repeat(200));
    let standard = STANDARD
        .encode(r#"{"alg":"HS256","x":"???>>>"}"#)
        .replace('=', "");
    vec![
        Case("empty", Plain, String::new(), PARTS),
        Case("one word", Plain, "canary".into(), PARTS),
        Case("dots alone", Plain, "..".into(), PARTS),
        Case("two parts", Plain, format!("{header}.{claims}"), PARTS),
        Case("four parts", Plain, format!("{token}.{signature}"), PARTS),
        Case("five parts, as JWE", Plain, format!("{header}..{claims}.{signature}.AA"), PARTS),
        Case("no header", Plain, format!(".{claims}.{signature}"), PARTS),
        Case("no claims", Plain, format!("{header}..{signature}"), PARTS),
        Case("no signature", Plain, format!("{header}.{claims}."), PARTS),
        Case("a space in front", Plain, format!(" {token}"), BASE64),
        Case("a space behind", Plain, format!("{token} "), SIGNATURE),
        Case("a line end behind", Plain, format!("{token}\n"), SIGNATURE),
        Case("a tab inside", Plain, format!("{header}.\t{claims}.{signature}"), BASE64),
        Case("a line end inside", Plain, format!("{header}.{claims}\r\n.{signature}"), BASE64),
        Case("NUL behind", Plain, format!("{token}\0"), SIGNATURE),
        Case("Bearer in front", Plain, format!("Bearer {token}"), BASE64),
        Case("quotes around", Plain, format!("\"{token}\""), BASE64),
        Case("padded header", Plain, format!("{header}=.{claims}.{signature}"), BASE64),
        Case("padded signature", Plain, format!("{token}="), SIGNATURE),
        Case("standard alphabet", Plain, format!("{standard}.{claims}.{signature}"), BASE64),
        Case("loose last bits", Plain, loose, SIGNATURE),
        Case("percent-encoded", Plain, token.replace('.', "%2E"), PARTS),
        Case("not ASCII", Plain, format!("{header}.{claims}é.{signature}"), BASE64),
        Case("claims cut", Plain, format!("{header}.{}.{signature}", &claims[4..]), JSON),
        Case("claims changed", Plain, format!("{header}.{}.{signature}", bent_claims()), SIGNATURE),
        Case("claims a list", Plain, hs256(SECRET, "[]"), JSON),
        Case("claims a text", Plain, hs256(SECRET, "\"canary\""), JSON),
        Case("claims and more", Plain, hs256(SECRET, &(good("") + "x")), JSON),
        Case("claims not UTF-8", Plain, raw_claims(b"{\"sub\":\"\xff\"}"), JSON),
        Case("claims with a lone surrogate", Plain, hs256(SECRET, &good(r#","x":"\ud800""#)),
            JSON),
        Case("claims too deep", Plain, hs256(SECRET, &good(&deep)), JSON),
        Case("a key twice, deep inside", Plain, hs256(SECRET, &good(r#","x":[{"y":1,"y":1}]"#)),
            TWICE),
        Case("7 KiB", Plain, long(5_000), OK),
        Case("9 KiB", Plain, long(7_000), "the Token cannot be read: it is longer than 8 KiB"),
        Case("100 KiB", Plain, long(75_000), "the Token cannot be read: it is longer than 8 KiB"),
        Case("100 KiB of dots", Plain, ".".repeat(102_400),
            "the Token cannot be read: it is longer than 8 KiB"),
    ]
}

fn bent_claims() -> String {
    URL_SAFE_NO_PAD.encode(good(r#","permissions":{"publish":[">"]}"#))
}

fn raw_claims(bytes: &[u8]) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256"}"#);
    format!("{header}.{}.AAAA", URL_SAFE_NO_PAD.encode(bytes))
}

#[rustfmt::skip] // one row, one trick
fn time_cases() -> Vec<Case> {
    let exp = |exp: &str| hs256(SECRET, &format!(r#"{{"sub":"canary-ana","exp":{exp}}}"#));
    let nbf = |nbf: &str| hs256(SECRET, &good(&format!(r#","nbf":{nbf}"#)));
    let at = |seconds: i64| {
        i64::try_from(NOW)
            .map(|now| (now + seconds).to_string())
            .unwrap()
    };
    let number = "the Token's exp is not a number of seconds";
    vec![
        Case("no exp", Plain, hs256(SECRET, r#"{"sub":"canary-ana"}"#),
            "the Token's exp is missing"),
        Case("exp now", Plain, exp(&at(0)), OK),
        Case("exp 29 s ago", Plain, exp(&at(-29)), OK),
        Case("exp 30 s ago", Plain, exp(&at(-30)), EXPIRED),
        Case("exp 29.5 s ago", Plain, exp(&format!("{}.5", at(-30))), OK),
        Case("exp 0", Plain, exp("0"), EXPIRED),
        Case("exp -0.0", Plain, exp("-0.0"), EXPIRED),
        Case("exp -1", Plain, exp("-1"), "the Token's exp is before 1970"),
        Case("exp -1e300", Plain, exp("-1e300"), "the Token's exp is before 1970"),
        Case("exp u64::MAX", Plain, exp("18446744073709551615"), OK),
        Case("exp i64::MAX + 1", Plain, exp("9223372036854775808"), OK),
        Case("exp over u64::MAX", Plain, exp("18446744073709551616"), OK),
        Case("exp 1e300", Plain, exp("1e300"), OK),
        Case("exp 1e999", Plain, exp("1e999"), JSON),
        Case("exp in milliseconds", Plain, exp(&format!("{NOW}000")), OK),
        Case("exp a text", Plain, exp(&format!("\"{}\"", at(60))), number),
        Case("exp null", Plain, exp("null"), number),
        Case("exp true", Plain, exp("true"), number),
        Case("exp a list", Plain, exp("[1790000060]"), number),
        Case("exp NaN", Plain, exp("NaN"), JSON),
        Case("exp twice", Plain, exp("1,\"exp\":1790000060"), TWICE),
        Case("exp of another case", Plain, hs256(SECRET, r#"{"sub":"canary","Exp":1790000060}"#),
            "the Token's exp is missing"),
        Case("nbf past", Plain, nbf("0"), OK),
        Case("nbf in 30 s", Plain, nbf(&at(30)), OK),
        Case("nbf in 31 s", Plain, nbf(&at(31)), NOT_YET),
        Case("nbf u64::MAX", Plain, nbf("18446744073709551615"), NOT_YET),
        Case("nbf a text", Plain, nbf("\"0\""), "the Token's nbf is not a number of seconds"),
        Case("nbf null", Plain, nbf("null"), "the Token's nbf is not a number of seconds"),
        Case("nbf -1", Plain, nbf("-1"), "the Token's nbf is before 1970"),
        Case("iat a text", Plain, hs256(SECRET, &good(r#","iat":"x""#)),
            "the Token's iat is not a number of seconds"),
        Case("iat in the future", Plain, hs256(SECRET, &good(r#","iat":1890000000"#)), OK),
    ]
}

#[rustfmt::skip] // one row, one trick
fn issuer_and_audience_cases() -> Vec<Case> {
    let one = |more: &str| hs256(SECRET, &good(&format!(r#","iss":"canary-one"{more}"#)));
    let two = |more: &str| hs256(TWO, &good(&format!(r#","iss":"canary-two"{more}"#)));
    let es = |more: &str| {
        signed(
            Algorithm::ES256,
            &P256.private,
            r#"{"alg":"ES256"}"#,
            &good(more),
        )
    };
    let missing = "the Token has no aud, but auth.issuers[].audience is set";
    let wrong = "the Token's aud does not name auth.issuers[].audience";
    let untyped = "the Token's aud is not a string or an array of strings";
    let plain = |more: &str| hs256(SECRET, &good(more));
    vec![
        Case("issuer", Full, one(""), OK),
        Case("issuer, the second key", Full, hs256(OTHER, &good(r#","iss":"canary-one""#)), OK),
        Case("issuer, key of another", Full, hs256(TWO, &good(r#","iss":"canary-one""#)),
            SIGNATURE),
        Case("no iss where each has one", Full, hs256(SECRET, &good("")), ISSUER),
        Case("unknown iss", Full, hs256(SECRET, &good(r#","iss":"canary-three""#)), ISSUER),
        Case("iss of another case", Full, hs256(SECRET, &good(r#","iss":"Canary-one""#)), ISSUER),
        Case("iss with a slash behind", Full, hs256(SECRET, &good(r#","iss":"canary-one/""#)),
            ISSUER),
        Case("iss empty", Full, hs256(SECRET, &good(r#","iss":"""#)), ISSUER),
        Case("iss null", Full, hs256(SECRET, &good(r#","iss":null"#)),
            "the Token's iss is not a string"),
        Case("iss a list", Full, hs256(SECRET, &good(r#","iss":["canary-one"]"#)),
            "the Token's iss is not a string"),
        Case("iss twice", Full, one(r#","iss":"canary-two""#), TWICE),
        Case("any iss where none is set", Full, es(r#","iss":"canary-x""#), OK),
        Case("any iss where none is set, plain", Plain, plain(r#","iss":"canary-x""#), OK),
        Case("aud where none is set", Plain, plain(r#","aud":"canary""#), NOT_SET),
        Case("aud list where none is set", Plain, plain(r#","aud":["canary"]"#), NOT_SET),
        Case("aud empty list where none is set", Plain, plain(r#","aud":[]"#), NOT_SET),
        Case("aud where that issuer has none", Full, one(r#","aud":"tidegate""#), NOT_SET),
        Case("aud a number", Plain, plain(r#","aud":7"#), untyped),
        Case("aud null", Plain, plain(r#","aud":null"#), untyped),
        Case("aud an object", Plain, plain(r#","aud":{}"#), untyped),
        Case("aud", Full, two(r#","aud":"tidegate""#), OK),
        Case("aud in a list", Full, two(r#","aud":["canary","tidegate"]"#), OK),
        Case("aud missing", Full, two(""), missing),
        Case("aud of another", Full, two(r#","aud":"canary""#), wrong),
        Case("aud empty", Full, two(r#","aud":"""#), wrong),
        Case("aud empty list", Full, two(r#","aud":[]"#), wrong),
        Case("aud a prefix", Full, two(r#","aud":"tide""#), wrong),
        Case("aud of another case", Full, two(r#","aud":"Tidegate""#), wrong),
        Case("aud list with a number", Full, two(r#","aud":["tidegate",7]"#), untyped),
        Case("aud a number, issuer with one", Full, two(r#","aud":7"#), untyped),
    ]
}

#[rustfmt::skip] // one row, one trick
fn subject_cases() -> Vec<Case> {
    let sub = |sub: &str| hs256(SECRET, &format!(r#"{{"exp":{},"sub":{sub}}}"#, NOW + 60));
    let ascii = "the Token's sub holds other characters than printable ASCII";
    let jti = |jti: &str| hs256(SECRET, &good(&format!(r#","jti":{jti}"#)));
    vec![
        Case("no sub", Plain, hs256(SECRET, &format!(r#"{{"exp":{NOW}}}"#)),
            "the Token's sub is missing"),
        Case("sub empty", Plain, sub("\"\""), "the Token's sub is empty"),
        Case("sub a number", Plain, sub("7"), "the Token's sub is not a string"),
        Case("sub null", Plain, sub("null"), "the Token's sub is not a string"),
        Case("sub of 128 bytes", Plain, sub(&format!("\"{}\"", "s".repeat(128))), OK),
        Case("sub of 129 bytes", Plain, sub(&format!("\"{}\"", "s".repeat(129))),
            "the Token's sub is too long"),
        Case("sub with a pipe", Plain, sub(r#""auth0|canary""#), OK),
        Case("sub with a space", Plain, sub(r#""canary ana""#), OK),
        Case("sub with a space in front", Plain, sub(r#"" canary""#),
            "the Token's sub begins or ends with a space"),
        Case("sub with a line end", Plain, sub(r#""canary\r\nx: y""#), ascii),
        Case("sub with NUL", Plain, sub(r#""canary\u0000""#), ascii),
        Case("sub with an escape", Plain, sub(r#""canary\u001b[31m""#), ascii),
        Case("sub with U+2028", Plain, sub(r#""canary\u2028x""#), ascii),
        Case("sub beyond ASCII", Plain, sub("\"canary-é\""), ascii),
        Case("sub twice", Plain, sub(r#""canary","sub":"root""#), TWICE),
        Case("jti", Plain, jti(r#""canary-1""#), OK),
        Case("jti a number", Plain, jti("1"), "the Token's jti is not a string"),
        Case("jti with a line end", Plain, jti(r#""canary\n""#),
            "the Token's jti holds other characters than printable ASCII"),
        Case("jti of 257 bytes", Plain, jti(&format!("\"{}\"", "j".repeat(257))),
            "the Token's jti is too long"),
    ]
}

#[rustfmt::skip] // one row, one trick
fn permission_cases() -> Vec<Case> {
    let with = |sub: &str, permissions: &str| {
        let exp = NOW + 60;
        hs256(
            SECRET,
            &format!(r#"{{"sub":"{sub}","exp":{exp},"permissions":{permissions}}}"#),
        )
    };
    let may = |permissions: &str| with("canary-ana", permissions);
    let list = |n: usize| format!(r#"{{"publish":[{}]}}"#, vec!["\"a\""; n].join(","));
    let array = "the Token's permissions.subscribe is not an array of strings";
    let object = "the Token's permissions is not an object";
    vec![
        Case("no Grant", Plain, may("{}"), OK),
        Case("all", Plain, may(r#"{"subscribe":["**"],"publish":["a.*"],"history":[">"]}"#), OK),
        Case("a verb of later", Plain, may(r#"{"presence":["a"]}"#), OK),
        Case("permissions null", Plain, may("null"), object),
        Case("permissions a list, as Auth0's", Plain, may(r#"["read:canary"]"#), object),
        Case("permissions twice", Plain, may(r#"{},"permissions":{"publish":[">"]}"#), TWICE),
        Case("a verb twice", Plain, may(r#"{"publish":[],"publish":[">"]}"#), TWICE),
        Case("a verb with one text", Plain, may(r#"{"subscribe":"dash.>"}"#), array),
        Case("a verb with null", Plain, may(r#"{"subscribe":null}"#), array),
        Case("a verb with numbers", Plain, may(r#"{"subscribe":["a",7]}"#), array),
        Case("128 Patterns", Plain, may(&list(128)), OK),
        Case("129 Patterns", Plain, may(&list(129)),
            "the Token's permissions.publish has more than 128 patterns"),
        Case("a bad Pattern", Plain, may(r#"{"history":["a","canary.>.b"]}"#),
            NOT_LAST),
        Case("an empty Pattern", Plain, may(r#"{"publish":[""]}"#),
            "the Token's permissions.publish[0] is no pattern: it is empty"),
        Case("a reserved Pattern", Plain, may(r#"{"publish":["_revoked.x"]}"#),
            RESERVED),
        Case("another placeholder", Plain, may(r#"{"publish":["user.{jti}"]}"#),
            "the Token's permissions.publish[0] is no pattern: '{' is not allowed in a topic"),
        Case("{sub}", Plain, may(r#"{"subscribe":["user.{sub}.>","team-{sub}"]}"#), OK),
        Case("{sub} with dots", Plain, with("canary.x", r#"{"subscribe":["a","user.{sub}"]}"#),
            "the Token's permissions.subscribe[1] holds {sub}, but its sub is no segment"),
        Case("{sub} as a wildcard", Plain, with("*", r#"{"subscribe":["user.{sub}"]}"#),
            "the Token's permissions.subscribe[0] holds {sub}, but its sub is no segment"),
        Case("{sub} as the rest", Plain, with(">", r#"{"subscribe":["user.{sub}"]}"#),
            "the Token's permissions.subscribe[0] holds {sub}, but its sub is no segment"),
        Case("{sub} within {sub}", Plain, with("{sub}", r#"{"subscribe":["user.{sub}"]}"#),
            "the Token's permissions.subscribe[0] holds {sub}, but its sub is no segment"),
        Case("{sub} of 65 bytes", Plain, with(&"s".repeat(65), r#"{"publish":["{sub}"]}"#),
            "the Token's permissions.publish[0] holds {sub}, but its sub is no segment"),
        Case("{sub} that is reserved", Plain, with("_canary", r#"{"publish":["{sub}.x"]}"#),
            RESERVED),
        Case("a sub with dots, not used", Plain, with("canary.x", r#"{"publish":["a"]}"#), OK),
    ]
}

fn corpus() -> Vec<Case> {
    [
        header_cases(),
        algorithm_cases(),
        form_cases(),
        time_cases(),
        issuer_and_audience_cases(),
        subject_cases(),
        permission_cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn plain() -> Auth {
    Auth::with_secret(SECRET, Grants::default()).unwrap()
}

fn full(folder: &Path) -> Auth {
    let hs = |name: &str, secret: &[u8], of: &str| IssuerConfig {
        issuer: Some(of.to_owned()),
        ..issuer(folder, name, Algorithm::HS256, secret)
    };
    let pem = |name: &str, algorithm, pair: &Pair| {
        issuer(folder, name, algorithm, pair.public_pem.as_bytes())
    };
    let issuers = vec![
        hs("one", SECRET, "canary-one"),
        hs("one-next", OTHER, "canary-one"),
        IssuerConfig { audience: Some("tidegate".to_owned()), ..hs("two", TWO, "canary-two") },
        issuer(folder, "hs384", Algorithm::HS384, SECRET),
        pem("rs256", Algorithm::RS256, &RSA),
        pem("ps256", Algorithm::PS256, &RSA),
        pem("es256", Algorithm::ES256, &P256),
        pem("es384", Algorithm::ES384, &P384),
        pem("eddsa", Algorithm::EdDSA, &ED),
    ];
    Auth::open(&Config { issuers, ..Config::default() }).unwrap()
}

#[test]
fn each_trick_meets_its_verdict_and_no_error_repeats_what_was_sent() {
    let folder = tempfile::tempdir().unwrap();
    let (plain, full, corpus) = (plain(), full(folder.path()), corpus());
    assert!(corpus.len() >= 80);
    let mut wrong = Vec::new();
    for Case(name, which, token, verdict) in &corpus {
        let auth = if *which == Plain { &plain } else { &full };
        let answer = auth.verify(&Token::new(token.clone()), CLOCK);
        let words = answer.as_ref().map_or_else(ToString::to_string, |_| OK.to_owned());
        if words != *verdict {
            wrong.push(format!("{name}: {words}, not {verdict}"));
        }
        if let Err(why) = answer {
            let told = format!("{why} {why:?}");
            for part in token.split('.').filter(|part| part.len() > 7).chain(["canary"]) {
                assert!(!told.contains(part), "{name}: {told}");
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A good Token with any one letter replaced is none.
#[test]
fn no_letter_of_a_token_can_be_changed() {
    let folder = tempfile::tempdir().unwrap();
    let auth = full(folder.path());
    let good = good(r#","permissions":{"publish":["a.b"]}"#);
    let token = signed(Algorithm::ES256, &P256.private, r#"{"alg":"ES256"}"#, &good);
    assert!(auth.verify(&Token::new(token.clone()), CLOCK).is_ok());
    for index in 0..token.len() {
        for letter in ["A", "B", "Q", "_", ".", "=", " ", ""] {
            let changed = format!("{}{letter}{}", &token[..index], &token[index + 1..]);
            if changed != token {
                let answer = auth.verify(&Token::new(changed), CLOCK);
                assert!(answer.is_err(), "{index} {letter:?}");
            }
        }
    }
}

/// Neither the Token, a secret nor a key shows in what can be printed of them.
#[test]
fn nothing_secret_can_be_printed() {
    let folder = tempfile::tempdir().unwrap();
    let token = Token::new(hs256(SECRET, &good("")));
    let told = format!("{token:?} {:?} {:?}", plain(), full(folder.path()));
    let bytes = format!("{SECRET:?}");
    let der = RSA.public_pem.lines().nth(2).unwrap();
    for secret in ["eyJ", "canary-secret", "canary-other", bytes.trim_matches(['[', ']']), der] {
        assert!(!told.contains(secret), "{secret}");
    }
}

#[test]
fn claims_hold_what_the_token_says_and_end_within_a_day() {
    let auth = plain();
    let said = good(
        r#","iat":1789999000.25,"jti":"canary-1","permissions":{"subscribe":["user.{sub}.**"]}"#,
    );
    let claims = auth.verify(&Token::new(hs256(SECRET, &said)), CLOCK).unwrap();
    assert_eq!(claims.who.user().map(|who| &**who), Some("canary-ana"));
    assert_eq!(claims.grants.subscribe, [Pattern::parse("user.canary-ana.>").unwrap()]);
    assert_eq!(claims.expires_at, Some(Timestamp((NOW + 60) * 1_000)));
    assert_eq!(claims.issued_at, Some(Timestamp(1_789_999_000_250)));
    assert_eq!(claims.token_id.as_deref(), Some("canary-1"));
    assert!(!claims.disconnect);

    let endless = r#"{"sub":"ana","exp":18446744073709551615}"#;
    let claims = auth.verify(&Token::new(hs256(SECRET, endless)), CLOCK).unwrap();
    assert_eq!(claims.expires_at, Some(Timestamp((NOW + 86_400) * 1_000)));
    let end = Timestamp(u64::MAX);
    let claims = auth.verify(&Token::new(hs256(SECRET, endless)), end);
    assert!(claims.is_err_and(|why| why.code() == crate::protocol::Code::TokenExpired));
}

#[test]
fn a_draft_signs_what_verifies_and_nothing_that_would_be_refused() {
    let draft = NewToken {
        subject: "ana".to_owned(),
        subscribe: vec!["user.{sub}.>".to_owned()],
        publish: vec![],
        history: vec![],
        life: Duration::from_secs(3_600),
        issuer: None,
        audience: None,
        algorithm: Algorithm::HS256,
    };
    let token = Token::new(draft.sign(SECRET, CLOCK).unwrap());
    let claims = plain().verify(&token, CLOCK).unwrap();
    assert!(claims.allows(Verb::Subscribe, &Pattern::parse("user.ana.x").unwrap()).is_ok());
    assert!(claims.allows(Verb::Publish, &Pattern::parse("user.ana.x").unwrap()).is_err());
    assert_eq!(claims.expires_at, Some(Timestamp((NOW + 3_600) * 1_000)));

    let bad = NewToken { publish: vec!["a..b".to_owned()], ..draft.clone() };
    let why = bad.sign(SECRET, CLOCK).unwrap_err().to_string();
    assert_eq!(why, "the Token's permissions.publish[0] is no pattern: segment 2 is empty");
    assert!(NewToken { subject: String::new(), ..draft.clone() }.sign(SECRET, CLOCK).is_err());
    assert!(NewToken { algorithm: Algorithm::RS256, ..draft.clone() }.sign(SECRET, CLOCK).is_err());
    let endless = NewToken { life: Duration::MAX, ..draft }.sign(SECRET, CLOCK).unwrap();
    assert!(plain().verify(&Token::new(endless), CLOCK).is_ok());
}

#[test]
fn strangers_get_what_is_configured_and_are_told_that_they_are_strangers() {
    assert!(plain().anonymous().is_none());
    assert!(!plain().is_empty());
    assert!(Auth::open(&Config::default()).unwrap().is_empty());
    let anonymous: Grants = serde_json::from_str(r#"{"subscribe":["demo.**"]}"#).unwrap();
    let auth = Auth::open(&Config { anonymous, ..Config::default() }).unwrap();
    assert!(!auth.is_empty());
    let claims = auth.anonymous().unwrap();
    assert_eq!(claims.who, Who::Anonymous);
    assert!(claims.allows(Verb::Subscribe, &Pattern::parse("demo.load.*").unwrap()).is_ok());
    let denied = claims.allows(Verb::History, &Pattern::parse("demo.x").unwrap()).unwrap_err();
    let words = "no Grant to read history covers demo.x, and no Token was sent";
    assert_eq!(denied.to_string(), words);
    let denied = Denied { verb: Verb::Subscribe, anonymous: false, ..denied };
    assert_eq!(denied.to_string(), "no Grant to subscribe covers demo.x");
    let why = auth.verify(&Token::new(hs256(SECRET, &good(""))), CLOCK).unwrap_err();
    assert_eq!(why.to_string(), "no Token is good here: auth.issuers is empty");
}

#[test]
fn the_section_reads_as_the_documents_write_it() {
    let text = "issuers:\n\
        - {issuer: one, algorithm: EdDSA, key_file: /a}\n\
        - {algorithm: HS256, key_file: /b}\n\
        api_keys_file: \"\"\n\
        anonymous: {subscribe: [demo.**], publish: []}\n";
    let config: Config = serde_saphyr::from_str(text).unwrap();
    assert_eq!(config.issuers[0].issuer.as_deref(), Some("one"));
    assert_eq!(config.issuers[0].algorithm, Algorithm::EdDSA);
    assert_eq!(config.issuers[1].issuer, None);
    assert_eq!(config.anonymous.of(Verb::Subscribe), [Pattern::parse("demo.>").unwrap()]);
    assert!(config.origins.is_empty());
    assert!(Auth::open(&Config { issuers: vec![], ..config }).is_ok());
    for bad in ["issuers: [{algorithm: none, key_file: /a}]", "anonymous: {publish: [a..b]}"] {
        assert!(serde_saphyr::from_str::<Config>(bad).is_err());
    }
}

#[test]
fn a_fresh_secret_is_one() {
    use secrecy::ExposeSecret;
    let (one, other) = (fresh_secret().unwrap(), fresh_secret().unwrap());
    assert_ne!(one.expose_secret(), other.expose_secret());
    assert!(Auth::with_secret(one.expose_secret(), Grants::default()).is_ok());
    assert!(Auth::with_secret(&one.expose_secret()[1..], Grants::default()).is_err());
}
