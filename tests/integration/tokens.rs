//! Who shows which Token, and by which way: the verdict is the same on all of them.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::EncodingKey;
use reqwest::Method;
use serde_json::{Value, json};
use tidegate::auth::Algorithm;
use tidegate::node::wall_clock;
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::{Error, http};

use crate::harness::browser::Closed;
use crate::harness::gateway::SECRET;
use crate::harness::raw::{HANDSHAKE, Raw};
use crate::harness::{Browser, Gateway, Grants, SOON, Settings, run, until};

const ONE: &[u8] = b"the first secret of issuer one, of 48 bytes or so";
const ONE_NEXT: &[u8] = b"the next secret of issuer one, of 48 bytes or so";
const TWO: &[u8] = b"the secret of issuer two, who has an audience";
const OTHER: &[u8] = b"a secret that no gateway has ever heard of";
/// The node looks at its files every 5 s.
const RELOADED: Duration = Duration::from_secs(12);
/// Within this, a Connection ends behind its Token.
const END_MS: u64 = 5_000;

/// The time, in seconds.
pub(crate) fn now() -> u64 {
    wall_clock().0 / 1_000
}

/// Signs any two texts, JSON or not.
pub(crate) fn signed(
    algorithm: Algorithm,
    key: &EncodingKey,
    header: &str,
    claims: &str,
) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let message = format!("{}.{}", part(header), part(claims));
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), key, algorithm).unwrap();
    format!("{message}.{signature}")
}

/// A Token under a secret, with this claims text.
pub(crate) fn hs(algorithm: Algorithm, secret: &[u8], claims: &str) -> String {
    let key = EncodingKey::from_secret(secret);
    signed(algorithm, &key, &format!(r#"{{"alg":"{algorithm:?}"}}"#), claims)
}

/// A Token of the tests' own issuer that ends at this second.
fn until_second(sub: &str, exp: u64, patterns: &[&str]) -> String {
    let patterns = json!({"subscribe": patterns, "publish": patterns});
    let claims = json!({"sub": sub, "exp": exp, "permissions": patterns});
    hs(Algorithm::HS256, SECRET, &claims.to_string())
}

/// The text, so that a query brings it back.
pub(crate) fn quoted(text: &str) -> String {
    let legal = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let quote = |byte: u8| match byte {
        byte if legal(byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(quote).collect()
}

/// A key pair: what signs, and what its issuer publishes.
struct Pair {
    private: EncodingKey,
    public_pem: String,
}

impl Pair {
    fn new(
        private: &[u8],
        public: &[u8],
        read: fn(&[u8]) -> jsonwebtoken::errors::Result<EncodingKey>,
    ) -> Self {
        let private = read(pem("PRIVATE KEY", private).as_bytes()).unwrap();
        let public_pem = pem("PUBLIC KEY", public);
        Self { private, public_pem }
    }

    fn ec(algorithm: &'static EcdsaSigningAlgorithm) -> Self {
        let key = EcdsaKeyPair::generate(algorithm).unwrap();
        let public: PublicKeyX509Der = key.public_key().as_der().unwrap();
        let private = key.to_pkcs8v1().unwrap();
        Self::new(private.as_ref(), public.as_ref(), EncodingKey::from_ec_pem)
    }

    fn rsa() -> Self {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let private: Pkcs8V1Der = key.as_der().unwrap();
        let public: PublicKeyX509Der = key.public_key().as_der().unwrap();
        Self::new(private.as_ref(), public.as_ref(), EncodingKey::from_rsa_pem)
    }

    fn ed() -> Self {
        let key = Ed25519KeyPair::generate().unwrap();
        let public: PublicKeyX509Der = key.public_key().as_der().unwrap();
        let private = key.to_pkcs8v1().unwrap();
        Self::new(private.as_ref(), public.as_ref(), EncodingKey::from_ed_pem)
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<_> = body.as_bytes().chunks(64).map(str::from_utf8).collect();
    let lines: Vec<_> = lines.into_iter().map(Result::unwrap).collect();
    let body = lines.join("\n");
    format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n")
}

/// All key pairs of a gateway that has one of each family.
struct Pairs {
    rsa: Pair,
    p256: Pair,
    p384: Pair,
    ed: Pair,
}

/// A gateway with every family of keys, two keys of one issuer, and one issuer with an audience.
async fn of_all_families(folder: &Path) -> (Gateway, Pairs) {
    let pairs = Pairs {
        rsa: Pair::rsa(),
        p256: Pair::ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
        p384: Pair::ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
        ed: Pair::ed(),
    };
    let mut auth = vec!["issuers:".to_owned()];
    let mut entry = |name: &str, fields: &str, key: &[u8]| {
        let file = folder.join(name);
        fs::write(&file, key).unwrap();
        auth.push(format!("  - {{{fields}, key_file: {file:?}}}"));
    };
    entry("plain", "algorithm: HS256", SECRET);
    entry("one", "issuer: one, algorithm: HS384", ONE);
    entry("one-next", "issuer: one, algorithm: HS384", ONE_NEXT);
    let two = "issuer: two, audience: tidegate, algorithm: HS384";
    entry("two", two, TWO);
    for (algorithm, pair) in [
        ("RS256", &pairs.rsa),
        ("PS256", &pairs.rsa),
        ("ES256", &pairs.p256),
        ("ES384", &pairs.p384),
        ("EdDSA", &pairs.ed),
    ] {
        let fields = format!("algorithm: {algorithm}");
        entry(algorithm, &fields, pair.public_pem.as_bytes());
    }
    let settings = Settings { auth: Some(auth), ..Settings::default() };
    (Gateway::start(settings).await, pairs)
}

/// One trick: its name, the Token, and what a publish with it is met with.
struct Case(&'static str, String, &'static str);

const OK: &str = "ok";
const BAD: &str = "unauthenticated";
const LATE: &str = "token_expired";
/// A good Token without a Grant.
const BARE: &str = "forbidden";

/// Good claims, and what is added to them.
fn good(more: &str) -> String {
    let exp = now() + 3_600;
    format!(r#"{{"sub":"ana","exp":{exp},"permissions":{{"publish":["t.>"]}}{more}}}"#)
}

fn plain(claims: &str) -> String {
    hs(Algorithm::HS256, SECRET, claims)
}

#[rustfmt::skip] // one row, one trick
fn header_cases(listener: SocketAddr) -> Vec<Case> {
    let key = EncodingKey::from_secret(SECRET);
    let with = |header: &str| signed(Algorithm::HS256, &key, header, &good(""));
    let url = format!("http://{listener}/keys");
    let away = |name: &str| with(&format!(r#"{{"alg":"HS256","{name}":"{url}"}}"#));
    let secret = URL_SAFE_NO_PAD.encode(OTHER);
    let jwk = format!(r#"{{"alg":"HS256","jwk":{{"kty":"oct","k":"{secret}"}}}}"#);
    let brought = signed(Algorithm::HS256, &EncodingKey::from_secret(OTHER), &jwk, &good(""));
    vec![
        Case("plain", with(r#"{"alg":"HS256"}"#), OK),
        Case("typ JWT", with(r#"{"alg":"HS256","typ":"JWT"}"#), OK),
        Case("typ at+jwt", with(r#"{"typ":"AT+jwt","alg":"HS256"}"#), OK),
        Case("typ of another use", with(r#"{"alg":"HS256","typ":"dpop+jwt"}"#), BAD),
        Case("typ null", with(r#"{"alg":"HS256","typ":null}"#), BAD),
        Case("crit", with(r#"{"alg":"HS256","crit":["exp"],"exp":1}"#), BAD),
        Case("crit b64", with(r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#), BAD),
        Case("crit empty", with(r#"{"alg":"HS256","crit":[]}"#), BAD),
        Case("kid a path", with(r#"{"alg":"HS256","kid":"../../dev/null"}"#), OK),
        Case("kid an address", away("kid"), OK),
        Case("jku", away("jku"), OK),
        Case("x5u", away("x5u"), OK),
        Case("jwk", brought, BAD),
        Case("no alg", with("{}"), BAD),
        Case("alg in small letters", with(r#"{"alg":"hs256"}"#), BAD),
        Case("alg of another key", with(r#"{"alg":"RS256"}"#), BAD),
        Case("alg of no key", with(r#"{"alg":"HS512"}"#), BAD),
        Case("alg twice", with(r#"{"alg":"none","alg":"HS256"}"#), BAD),
        Case("alg twice, escaped", with(r#"{"alg":"none","\u0061lg":"HS256"}"#), BAD),
        Case("header a list", with(r#"["HS256"]"#), BAD),
        Case("header with a BOM", with("\u{feff}{\"alg\":\"HS256\"}"), BAD),
        Case("header with white space inside", with(" { \"alg\" : \"HS256\" } "), OK),
    ]
}

#[rustfmt::skip] // one row, one trick
fn algorithm_cases(pairs: &Pairs) -> Vec<Case> {
    use Algorithm::{ES256, ES384, EdDSA, HS256, HS384, HS512, PS256, RS256, RS512};
    let none = |name: &str, signature: &str| {
        let header = URL_SAFE_NO_PAD.encode(format!(r#"{{"alg":"{name}"}}"#));
        format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(good("")))
    };
    let cross = |by, says: Algorithm, pair: &Pair| {
        signed(by, &pair.private, &format!(r#"{{"alg":"{says:?}"}}"#), &good(""))
    };
    let by = |algorithm, pair: &Pair| cross(algorithm, algorithm, pair);
    let rsa_pem = pairs.rsa.public_pem.as_bytes();
    let disguised = |says: &str| {
        let header = format!(r#"{{"alg":"{says}"}}"#);
        signed(HS256, &EncodingKey::from_secret(rsa_pem), &header, &good(""))
    };
    let foreign = Pair::ec(&ECDSA_P256_SHA256_FIXED_SIGNING);
    let es256 = by(ES256, &pairs.p256);
    let (message, _) = es256.rsplit_once('.').unwrap();
    let zeros = format!("{message}.{}", URL_SAFE_NO_PAD.encode([0; 64]));
    vec![
        Case("none, unsigned", none("none", ""), BAD),
        Case("none, with a signature", none("none", "AAAA"), BAD),
        Case("NONE", none("NONE", "AAAA"), BAD),
        Case("HS256, unsigned", none("HS256", ""), BAD),
        Case("HS256, one byte as signature", none("HS256", "AA"), BAD),
        Case("HS256 by an empty secret", hs(HS256, b"", &good("")), BAD),
        Case("HS256 by another secret", hs(HS256, OTHER, &good("")), BAD),
        Case("HS384 by the secret of HS256", hs(HS384, SECRET, &good(r#","iss":"one""#)), BAD),
        Case("HS512 by the secret of HS256", hs(HS512, SECRET, &good("")), BAD),
        Case("HS256 by the RSA key's PEM", disguised("HS256"), BAD),
        Case("RS256 said, signed by its PEM", disguised("RS256"), BAD),
        Case("RS256", by(RS256, &pairs.rsa), OK),
        Case("RS512", by(RS512, &pairs.rsa), BAD),
        Case("PS256", by(PS256, &pairs.rsa), OK),
        Case("ES256", es256.clone(), OK),
        Case("ES384", by(ES384, &pairs.p384), OK),
        Case("EdDSA", by(EdDSA, &pairs.ed), OK),
        Case("RS256 taken for PS256", cross(RS256, PS256, &pairs.rsa), BAD),
        Case("ES256 taken for EdDSA", cross(ES256, EdDSA, &pairs.p256), BAD),
        Case("ES256 of a foreign key", by(ES256, &foreign), BAD),
        Case("ES256, a signature of zeros", zeros, BAD),
    ]
}

#[rustfmt::skip] // one row, one trick
fn form_cases() -> Vec<Case> {
    let token = plain(&good(""));
    let parts: Vec<&str> = token.split('.').collect();
    let (header, claims, signature) = (parts[0], parts[1], parts[2]);
    let more = URL_SAFE_NO_PAD.encode(good(r#","x":1"#));
    vec![
        Case("empty", String::new(), BAD),
        Case("one word", "canary".to_owned(), BAD),
        Case("dots alone", "..".to_owned(), BAD),
        Case("two parts", format!("{header}.{claims}"), BAD),
        Case("four parts", format!("{token}.{signature}"), BAD),
        Case("no signature", format!("{header}.{claims}."), BAD),
        Case("a space in front", format!(" {token}"), BAD),
        Case("a line end behind", format!("{token}\n"), BAD),
        Case("a tab inside", format!("{header}.\t{claims}.{signature}"), BAD),
        Case("NUL behind", format!("{token}\0"), BAD),
        Case("Bearer in front", format!("Bearer {token}"), BAD),
        Case("quotes around", format!("\"{token}\""), BAD),
        Case("padded header", format!("{header}=.{claims}.{signature}"), BAD),
        Case("padded signature", format!("{token}="), BAD),
        Case("percent-encoded", token.replace('.', "%2E"), BAD),
        Case("beyond ASCII", format!("{header}.{claims}é.{signature}"), BAD),
        Case("claims changed", format!("{header}.{more}.{signature}"), BAD),
        Case("claims a list", plain("[]"), BAD),
        Case("claims and more", plain(&(good("") + "x")), BAD),
        Case("a key twice, deep inside", plain(&good(r#","x":[{"y":1,"y":1}]"#)), BAD),
        Case("an API key that is none", format!("tgk_orders_{}", "A".repeat(43)), BAD),
    ]
}

#[rustfmt::skip] // one row, one trick
fn claim_cases() -> Vec<Case> {
    let now = now();
    let exp = |exp: &str| plain(&format!(r#"{{"sub":"ana","exp":{exp}}}"#));
    let sub = |sub: &str| plain(&format!(r#"{{"exp":{},"sub":{sub}}}"#, now + 3_600));
    let one = |key: &[u8], more: &str| hs(Algorithm::HS384, key, &good(more));
    vec![
        Case("no exp", plain(r#"{"sub":"ana"}"#), BAD),
        Case("exp 10 s ago", exp(&(now - 10).to_string()), BARE),
        Case("exp 40 s ago", exp(&(now - 40).to_string()), LATE),
        Case("exp 0", exp("0"), LATE),
        Case("exp -1", exp("-1"), BAD),
        Case("exp beyond all time", exp("18446744073709551616"), BARE),
        Case("exp 1e300", exp("1e300"), BARE),
        Case("exp a text", exp(&format!("\"{}\"", now + 60)), BAD),
        Case("exp null", exp("null"), BAD),
        Case("exp twice", exp(&format!("1,\"exp\":{}", now + 60)), BAD),
        Case("expired, and signed by nobody", hs(Algorithm::HS256, OTHER, r#"{"sub":"a","exp":1}"#), BAD),
        Case("nbf past", plain(&good(r#","nbf":0"#)), OK),
        Case("nbf in 10 s", plain(&good(&format!(r#","nbf":{}"#, now + 10))), OK),
        Case("nbf in 10 minutes", plain(&good(&format!(r#","nbf":{}"#, now + 600))), BAD),
        Case("nbf a text", plain(&good(r#","nbf":"0""#)), BAD),
        Case("no sub", plain(&format!(r#"{{"exp":{}}}"#, now + 60)), BAD),
        Case("sub empty", sub("\"\""), BAD),
        Case("sub a number", sub("7"), BAD),
        Case("sub of 128 bytes", sub(&format!("\"{}\"", "s".repeat(128))), BARE),
        Case("sub of 129 bytes", sub(&format!("\"{}\"", "s".repeat(129))), BAD),
        Case("sub with a line end", sub(r#""ana\r\nx: y""#), BAD),
        Case("sub beyond ASCII", sub("\"é\""), BAD),
        Case("sub with a space behind", sub("\"ana \""), BAD),
        Case("iss of nobody, where any will do", plain(&good(r#","iss":"x""#)), OK),
        Case("aud where none is set", plain(&good(r#","aud":"tidegate""#)), BAD),
        Case("iss", one(ONE, r#","iss":"one""#), OK),
        Case("iss, its next key", one(ONE_NEXT, r#","iss":"one""#), OK),
        Case("iss of another key", one(TWO, r#","iss":"one""#), BAD),
        Case("iss missing", one(ONE, ""), BAD),
        Case("iss of another case", one(ONE, r#","iss":"One""#), BAD),
        Case("iss a list", one(ONE, r#","iss":["one"]"#), BAD),
        Case("aud", one(TWO, r#","iss":"two","aud":"tidegate""#), OK),
        Case("aud among others", one(TWO, r#","iss":"two","aud":["x","tidegate"]"#), OK),
        Case("aud missing", one(TWO, r#","iss":"two""#), BAD),
        Case("aud a prefix", one(TWO, r#","iss":"two","aud":"tide""#), BAD),
        Case("permissions null", sub(r#""ana","permissions":null"#), BAD),
        Case("permissions a list", sub(r#""ana","permissions":["publish"]"#), BAD),
        Case("a verb with one text", sub(r#""ana","permissions":{"publish":"t.>"}"#), BAD),
        Case("a verb twice", sub(r#""ana","permissions":{"publish":[],"publish":["t.>"]}"#), BAD),
        Case("a bad Pattern", sub(r#""ana","permissions":{"publish":["t.>.x"]}"#), BAD),
        Case("a bad Pattern of another verb", sub(r#""ana","permissions":{"publish":["t.>"],"history":["a b"]}"#), BAD),
        Case("{sub} where it is no segment", sub(r#""a.b","permissions":{"publish":["t.{sub}"]}"#), BAD),
        Case("{sub} as a wildcard", sub(r#"">","permissions":{"publish":["{sub}"]}"#), BAD),
        Case("the wildcards of a backend", sub(r#""ana","permissions":{"publish":["**"]}"#), OK),
    ]
}

/// A publish with this in `Authorization`: `ok`, or the code of the refusal.
async fn over_http(gateway: &Gateway, authorization: &str) -> String {
    let answer = gateway
        .request(Method::POST, "/v1/topics/t.x/messages")
        .header("Authorization", authorization)
        .body("x")
        .send()
        .await
        .unwrap();
    let status = answer.status();
    let asks = answer.headers().contains_key("www-authenticate");
    let kind = answer.headers().get("content-type").cloned();
    let body: Value = answer.json().await.unwrap();
    let code = body["code"].as_str().unwrap_or(OK);
    assert_eq!(asks, status == 401);
    match code {
        OK => assert_eq!(status, 200),
        BAD | LATE => assert_eq!(status, 401, "{body}"),
        _ => assert_eq!(status, 403, "{body}"),
    }
    if code != OK {
        assert_eq!(kind.unwrap(), "application/problem+json");
        assert_eq!(body["retryable"], false);
    }
    code.to_owned()
}

/// The code of a refusal, which must be a close with 4401, or `connected`.
fn verdict(first: Result<Value, Closed>) -> String {
    match first {
        Ok(frame) => frame["type"].as_str().unwrap().to_owned(),
        Err(closed) => {
            let code = closed.code();
            assert_eq!(closed.status, Some(4401), "{closed:?}");
            assert_eq!(closed.reason, format!(r#"{{"code":"{code}","retry":false}}"#));
            code
        }
    }
}

async fn over_query(gateway: &Gateway, token: &str) -> String {
    let mut browser = gateway.browser(&format!("token={}", quoted(token))).await;
    verdict(browser.next_or_close(SOON).await)
}

async fn over_command(gateway: &Gateway, token: &str) -> String {
    let mut browser = gateway.browser("").await;
    browser.command(json!({"type": "connect", "token": token})).await;
    verdict(browser.next_or_close(SOON).await)
}

/// Over a hundred Tokens, handed in by `Authorization`, `?token=` and `connect`: each meets its
/// verdict on all of them, and no address in one of them is ever dialled.
#[test]
fn each_token_meets_its_verdict_on_every_way_in() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let (gateway, pairs) = of_all_families(folder.path()).await;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut cases = header_cases(listener.local_addr().unwrap());
        cases.extend(algorithm_cases(&pairs));
        cases.extend(form_cases());
        cases.extend(claim_cases());
        assert!(cases.len() >= 100, "{}", cases.len());
        let mut wrong = Vec::new();
        for Case(name, token, expect) in &cases {
            let on_socket = match *expect {
                OK | BARE => "connected",
                code => code,
            };
            let mut met = vec![
                ("?token=", over_query(&gateway, token).await, on_socket),
                ("connect", over_command(&gateway, token).await, on_socket),
            ];
            let is_header = token.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            if is_header && token.trim() == token {
                let http = over_http(&gateway, &format!("Bearer {token}")).await;
                met.push(("http", http, *expect));
            }
            for (way, met, expect) in met {
                if met != expect {
                    wrong.push(format!("{name}, by {way}: {met}, not {expect}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert!(listener.accept().is_err(), "somebody followed a Token");
    });
}

/// A Token of 8 KiB is one, a larger one is not; and what is too large for its way never gets as far
/// as being a Token: a URL ends at 8 KiB, a message at 68.
#[test]
fn tokens_have_a_largest_size() {
    run(async {
        let gateway = Gateway::start(Settings::default()).await;
        let long = |bytes: usize| plain(&good(&format!(r#","x":"{}""#, "a".repeat(bytes))));
        let (most, over, huge) = (long(5_950), long(6_100), long(75_000));
        assert!((8_000..=8_192).contains(&most.len()), "{}", most.len());
        assert!((8_193..9_000).contains(&over.len()), "{}", over.len());
        assert!(huge.len() > 100_000);
        for (token, http, command) in [(&most, OK, "connected"), (&over, BAD, BAD)] {
            assert_eq!(over_http(&gateway, &format!("Bearer {token}")).await, http);
            assert_eq!(over_command(&gateway, token).await, command);
        }
        assert_eq!(over_http(&gateway, &format!("Bearer {huge}")).await, BAD);
        let protocols = format!("tidegate.v1.json, bearer.{over}");
        let mut browser = offering(&gateway, "", &protocols).await;
        assert_eq!(verdict(browser.next_or_close(SOON).await), BAD);
        assert_eq!(over_query(&gateway, &most).await, "connected");
        for (token, statuses) in [(&over, &["414"][..]), (&huge, &["400", "414"][..])] {
            let mut raw = Raw::connect(gateway.client).await;
            let line = format!("GET /v1/connect?token={token} HTTP/1.1");
            raw.send(HANDSHAKE.replace("GET /v1/connect HTTP/1.1", &line).as_bytes()).await;
            let head = raw.head().await;
            let status = head.split(' ').nth(1).unwrap();
            assert!(statuses.contains(&status), "{head}");
        }
        let mut browser = gateway.browser("").await;
        browser.command(json!({"type": "connect", "token": huge})).await;
        let closed = browser.closed(SOON).await;
        assert_eq!((closed.status, &*closed.code()), (Some(1009), "too_big"));
    });
}

/// What may stand around a Token in `Authorization`: the scheme in any case and spaces, and nothing
/// else; a header that is not read is never taken for none.
#[test]
fn authorization_is_bearer_and_nothing_else() {
    run(async {
        let gateway =
            Gateway::start(Settings { anonymous: Grants::all(&["t.>"]), ..Settings::default() })
                .await;
        let token = plain(&good(""));
        for (header, expect) in [
            (format!("Bearer {token}"), OK),
            (format!("bearer {token}"), OK),
            (format!("BEARER   {token}"), OK),
            (format!("Bearer {token}   "), OK),
            (token.clone(), BAD),
            (format!("Token {token}"), BAD),
            (format!("Basic {}", STANDARD.encode("ana:secret")), BAD),
            (format!("Bearer={token}"), BAD),
            (format!("Bearer\t{token}"), BAD),
            (format!("Bearer {token}, Bearer {token}"), BAD),
            (format!("Bearer token={token}"), BAD),
            ("Bearer".to_owned(), BAD),
            (String::new(), BAD),
        ] {
            assert_eq!(over_http(&gateway, &header).await, expect, "{header:?}");
        }
        let twice = gateway
            .request(Method::POST, "/v1/topics/t.x/messages")
            .header("Authorization", format!("Bearer {token}"))
            .header("Authorization", format!("Bearer {token}"))
            .send();
        assert_eq!(twice.await.unwrap().status(), 401);
    });
}

/// A browser's socket that offers these subprotocols.
async fn offering(gateway: &Gateway, query: &str, protocols: &str) -> Browser {
    let headers = [("Sec-WebSocket-Protocol", protocols)];
    Browser::dial(gateway.client, query, &headers).await.expect("a socket")
}

/// The four ways to hand in a Token, and which counts if several are used: seen by the `user` of what
/// the Connection publishes. A bad Token on a way that counts is not helped by a good one behind it.
#[test]
fn the_first_token_found_counts() {
    run(async {
        let gateway = Gateway::start(Settings::open()).await;
        let mut reader = gateway.browser("topic=open.**").await;
        let token = |sub: &str| Gateway::token(sub, &Grants::all(&["open.>"]));
        let (header, protocol, command) = (token("h"), token("p"), token("c"));
        let bearer = |token: &str| format!("Bearer {token}");
        let known = |rest: &str| format!("tidegate.v1.json{rest}");
        let query = |token: &str| format!("token={token}");
        let protocols = known(&format!(", bearer.{protocol}"));
        let both = known(&format!(",bearer.{protocol} , bearer.{}", token("p2")));
        let q = token("q");
        let cases = [
            (Some(bearer(&header)), Some(&*protocols), query(&q), "h"),
            (Some(bearer(&header)), None, query("bad"), "h"),
            (None, Some(&*protocols), query(&q), "p"),
            (None, Some(&*both), query("bad"), "p"),
            (None, Some("tidegate.v1.json"), query(&q), "q"),
            (None, None, format!("token={q}&token=bad"), "q"),
            (None, Some("tidegate.v1.json"), String::new(), "c"),
        ];
        for (authorization, protocols, query, user) in &cases {
            let mut headers = Vec::new();
            headers.extend(authorization.as_deref().map(|one| ("Authorization", one)));
            headers.extend(protocols.map(|one| ("Sec-WebSocket-Protocol", one)));
            let mut browser = Browser::dial(gateway.client, query, &headers).await.unwrap();
            let answered = browser.handshake.headers().get("sec-websocket-protocol");
            assert_eq!(
                answered.map(|one| one.to_str().unwrap()),
                protocols.map(|_| "tidegate.v1.json")
            );
            if *user == "c" {
                let reply = browser.ask(json!({"type": "connect", "token": command})).await;
                assert_eq!(reply["type"], "connected");
            } else {
                let connected = browser.next().await;
                assert_eq!(connected["type"], "connected");
                assert!(connected.get("id").is_none());
            }
            browser.publish("open.x", json!(user)).await;
            let message = reader.message().await;
            assert_eq!((&message["user"], &message["data"]), (&json!(user), &json!(user)));
        }
        let bad_first = [
            (Some(bearer("bad")), Some(&*protocols), query(&q)),
            (None, Some("tidegate.v1.json, bearer.bad"), query(&q)),
            (None, Some("tidegate.v1.json, bearer."), query(&q)),
            (None, None, format!("token=bad&token={q}")),
            (None, None, "token=&topic=open.x".to_owned()),
        ];
        for (authorization, protocols, query) in &bad_first {
            let mut headers = Vec::new();
            headers.extend(authorization.as_deref().map(|one| ("Authorization", one)));
            headers.extend(protocols.map(|one| ("Sec-WebSocket-Protocol", one)));
            let mut browser = Browser::dial(gateway.client, query, &headers).await.unwrap();
            assert_eq!(verdict(browser.next_or_close(SOON).await), BAD);
        }
        let headers = [("Sec-WebSocket-Protocol", &*format!("bearer.{protocol}"))];
        match Browser::dial(gateway.client, "", &headers).await.err() {
            Some(Error::Http(answer)) => {
                assert_eq!(answer.status(), http::StatusCode::BAD_REQUEST);
                let body = answer.into_body().unwrap_or_default();
                let text = String::from_utf8(body).unwrap();
                assert!(text.contains("subprotocol_required"), "{text}");
                assert!(!text.contains(&protocol));
            }
            other => panic!("{other:?}"),
        }
    });
}

/// `connected` is the first Frame and comes once, by each way there is: unasked behind a Token or a
/// topic, as the Reply to `connect`, in front of any other Reply; a second `connect` is refused.
#[test]
fn connected_comes_first_and_once() {
    run(async {
        let gateway = Gateway::start(Settings::open()).await;
        let token = Gateway::token("ana", &Grants::all(&["open.>"]));
        let connect = json!({"type": "connect"});
        let renewed = json!({"type": "connect", "token": token});
        let subscribe = json!({"type": "subscribe", "topic": "open.a"});
        let firsts = [
            // The query, the first Command, whether `connected` answers it, and what follows it.
            (format!("token={token}"), None, false, vec![]),
            (format!("token={token}&topic=open.a"), None, false, vec!["subscribed"]),
            ("topic=open.a&topic=open.b".to_owned(), None, false, vec!["subscribed"; 2]),
            ("topic=open.a&topic=no.such".to_owned(), None, false, vec!["error", "subscribed"]),
            (String::new(), Some(&connect), true, vec![]),
            (String::new(), Some(&renewed), true, vec![]),
            (String::new(), Some(&subscribe), false, vec!["subscribed"]),
            (String::new(), Some(&json!({"type": "ping"})), false, vec!["pong"]),
            (String::new(), Some(&json!({"type": "history"})), false, vec!["error"]),
            (String::new(), Some(&json!({"type": "token", "token": "x"})), false, vec!["error"]),
        ];
        for (query, first, answers, then) in &firsts {
            let mut browser = gateway.browser(query).await;
            let id = match first {
                Some(first) => Some(browser.command((*first).clone()).await),
                None => None,
            };
            let connected = browser.next().await;
            assert_eq!(connected["type"], "connected", "{query} {first:?}");
            let expected = id.filter(|_| *answers).map(Value::from);
            assert_eq!(connected.get("id"), expected.as_ref(), "{query} {first:?}");
            let with_token = query.contains("token=") || *first == Some(&renewed);
            assert_eq!(connected.get("expires_at").is_some(), with_token);
            let mut seen = Vec::new();
            for _ in then {
                seen.push(browser.next().await["type"].as_str().unwrap().to_owned());
            }
            seen.sort();
            assert_eq!(&seen, then, "{query} {first:?}");
            let again = browser.ask(json!({"type": "connect", "token": token})).await;
            assert_eq!(again["code"], "bad_message");
            browser.is_quiet().await;
        }
        // Commands that hurry ahead wait for it.
        let mut browser = gateway.browser(&format!("token={token}")).await;
        let id = browser.command(json!({"type": "ping"})).await;
        assert_eq!(browser.next().await["type"], "connected");
        assert_eq!(browser.next().await, json!({"type": "pong", "id": id}));
    });
}

/// Where anonymous clients may come in, even an unreadable first Command has `connected` in front of
/// its `error`.
#[test]
fn connected_comes_before_the_error_of_a_first_command() {
    run(async {
        let gateway = Gateway::start(Settings::open()).await;
        for first in ["no JSON", "[]", r#"{"type":"shout"}"#, r#"{"type":"connect","token":7}"#] {
            let mut browser = gateway.browser("").await;
            browser.send_raw(Message::text(first)).await;
            assert_eq!(browser.next().await["type"], "connected", "{first}");
            assert_eq!(browser.next().await["code"], "bad_message", "{first}");
            browser.is_quiet().await;
        }
    });
}

/// Where a Token is needed, whatever first Command has none ends the Connection with 4401, and a
/// request over HTTP gets a 401.
#[test]
fn without_a_token_nobody_comes_in() {
    run(async {
        let gateway = Gateway::start(Settings::default()).await;
        for first in [
            json!({"type": "connect"}),
            json!({"type": "connect", "client": "x", "heartbeat": "message"}),
            json!({"type": "ping"}),
            json!({"type": "pong"}),
            json!({"type": "subscribe", "topic": "t.x"}),
            json!({"type": "publish", "topic": "t.x", "data": 1}),
            json!({"type": "token", "token": plain(&good(""))}),
        ] {
            let mut browser = gateway.browser("topic=t.x").await;
            browser.send(first).await;
            assert_eq!(verdict(browser.next_or_close(SOON).await), BAD);
        }
        for (method, path) in [
            (Method::POST, "/v1/topics/t.x/messages"),
            (Method::POST, "/v1/publish"),
            (Method::DELETE, "/v1/topics/t.x"),
        ] {
            let answer = gateway.request(method, path).body("{}").send().await.unwrap();
            assert_eq!(answer.status(), 401, "{path}");
            let body: Value = answer.json().await.unwrap();
            assert_eq!(body["code"], BAD, "{path}");
        }
    });
}

/// Who says nothing is sent away after `auth_timeout`, topics in the query or not; who is connected
/// stays.
#[test]
fn who_does_not_connect_in_time_is_sent_away() {
    run(async {
        let settings = Settings::default().limit("auth_timeout: 1s");
        let gateway = Gateway::start(settings).await;
        let mut connected = gateway.browser(&format!("token={}", plain(&good("")))).await;
        assert_eq!(connected.next().await["type"], "connected");
        let mut silent = [gateway.browser("").await, gateway.browser("topic=t.x").await];
        for browser in &mut silent {
            browser.send_raw(Message::Ping("a sign of life".into())).await;
            let closed = browser.next_or_close(Duration::from_secs(6)).await.unwrap_err();
            assert_eq!(closed.status, Some(4408));
            assert_eq!(closed.reason, r#"{"code":"auth_timeout","retry":false}"#);
        }
        connected.is_quiet().await;
    });
}

/// A Connection ends within 5 s behind its Token; one that is renewed in time goes on. A Token in its
/// leeway is good for a request, and ends its Connection at once.
#[test]
fn a_connection_ends_with_its_token_unless_renewed() {
    run(async {
        let gateway = Gateway::start(Settings::default()).await;
        let end = now() + 5;
        let short = until_second("ana", end, &["t.>"]);
        let mut left = gateway.browser(&format!("token={short}")).await;
        let mut renewed = gateway.browser(&format!("token={short}")).await;
        assert_eq!(left.next().await["expires_at"], renewed.next().await["expires_at"]);
        let longer = until_second("ana", now() + 3_600, &["t.>"]);
        let reply = renewed.ask(json!({"type": "token", "token": longer})).await;
        assert_eq!(reply["type"], "token");
        assert!(reply["expires_at"].as_str().unwrap().ends_with('Z'));
        left.publish("t.x", json!("still good")).await;
        let closed = left.next_or_close(SOON).await.unwrap_err();
        let at = wall_clock().0;
        assert_eq!(closed.status, Some(4401));
        assert_eq!(closed.reason, r#"{"code":"token_expired","retry":false}"#);
        assert!((end * 1_000..=end * 1_000 + END_MS).contains(&at), "{at}, not {end}");
        renewed.publish("t.x", json!("renewed")).await;

        let late = until_second("ana", now() - 10, &["t.>"]);
        assert_eq!(over_http(&gateway, &format!("Bearer {late}")).await, OK);
        let mut browser = gateway.browser(&format!("token={late}")).await;
        assert_eq!(browser.next().await["type"], "connected");
        assert_eq!(browser.closed(Duration::from_millis(END_MS)).await.code(), LATE);
    });
}

/// Nobody is let in for longer than a day, and `connected` says so.
#[test]
fn a_life_under_one_token_is_a_day_at_most() {
    run(async {
        let gateway = Gateway::start(Settings::default()).await;
        let mut ends = Vec::new();
        for exp in [now() + 86_400, now() + 86_400 * 365, u64::MAX] {
            let token = until_second("ana", exp, &["t.>"]);
            let mut browser = gateway.browser(&format!("token={token}")).await;
            let connected = browser.next().await;
            // The same minute will do, or the next.
            ends.push(connected["expires_at"].as_str().unwrap()[..13].to_owned());
        }
        ends.dedup();
        assert!(ends.len() <= 2, "{ends:?}");
    });
}

/// A new Token that is bad, late, or somebody else's is refused in words, and the old one stays: its
/// Subscriptions, its Grants and its end.
#[test]
fn a_refused_renewal_changes_nothing() {
    run(async {
        let gateway = Gateway::start(Settings::open()).await;
        let token = Gateway::token("ana", &Grants::all(&["t.>"]));
        let mut browser = gateway.browser(&format!("token={token}&topic=t.**")).await;
        browser.next().await;
        browser.next().await;
        for (new, code) in [
            (until_second("ben", now() + 60, &["t.>"]), "forbidden"),
            (until_second("Ana", now() + 60, &[]), "forbidden"),
            (until_second("ana", now() - 60, &[]), LATE),
            (hs(Algorithm::HS256, OTHER, &good("")), BAD),
            ("no Token".to_owned(), BAD),
            (String::new(), BAD),
            (format!("tgk_ana_{}", "A".repeat(43)), BAD),
        ] {
            let reply = browser.ask(json!({"type": "token", "token": new})).await;
            assert_eq!((&reply["type"], &reply["code"]), (&json!("error"), &json!(code)));
            assert_eq!(reply["retryable"], false);
            browser.publish("t.x", json!(code)).await;
            assert_eq!(browser.message().await["data"], json!(code));
        }
        for bad in [json!({"type": "token"}), json!({"type": "token", "token": null})] {
            assert_eq!(browser.ask(bad).await["code"], "bad_message");
        }
        // Who came without a Token has no subject that a new one could have.
        let mut stranger = gateway.browser("topic=open.x").await;
        stranger.next().await;
        stranger.next().await;
        let reply = stranger.ask(json!({"type": "token", "token": token})).await;
        assert_eq!(reply["code"], "forbidden");
        let reply = stranger.ask(json!({"type": "subscribe", "topic": "t.x"})).await;
        assert_eq!(reply["code"], BAD);
    });
}

/// A new Token with fewer Grants ends exactly the Subscriptions that it does not cover, each with a
/// push; nothing arrives for them afterwards, and one with more brings them back.
#[test]
fn a_renewal_with_fewer_grants_ends_what_it_does_not_cover() {
    run(async {
        let gateway = Gateway::start(Settings::default()).await;
        let all = Grants::all(&["a.>", "b.>"]);
        let token = Gateway::token("ana", &all);
        let mut browser = gateway.browser(&format!("token={token}")).await;
        browser.next().await;
        for pattern in ["a.x", "a.**", "b.x", "b.*"] {
            browser.subscribe(pattern).await;
        }
        let mut other = gateway.browser(&format!("token={token}")).await;
        other.next().await;
        other.publish("b.x", json!(1)).await;
        assert_eq!(browser.message().await["data"], 1);

        let fewer = Gateway::token("ana", &Grants::all(&["a.*", "b.y"]));
        let reply = browser.ask(json!({"type": "token", "token": fewer})).await;
        assert_eq!(reply["type"], "token");
        let mut ended = Vec::new();
        for _ in 0..3 {
            let push = browser.next().await;
            assert_eq!(push["type"], "unsubscribed");
            assert_eq!(push["code"], "forbidden");
            assert!(push.get("id").is_none());
            ended.push(push["topic"].as_str().unwrap().to_owned());
        }
        ended.sort();
        assert_eq!(ended, ["a.>", "b.*", "b.x"]);
        for topic in ["b.x", "b.y", "a.y", "a.x.y"] {
            other.publish(topic, json!("not for ana any more")).await;
        }
        other.publish("a.x", json!(2)).await;
        assert_eq!(browser.message().await["data"], 2);
        browser.is_quiet().await;
        let publish = json!({"type": "publish", "topic": "b.x", "data": 1});
        assert_eq!(browser.ask(publish).await["code"], "forbidden");
        let gone = json!({"type": "unsubscribe", "topic": "b.x"});
        assert_eq!(browser.ask(gone).await["code"], "not_subscribed");

        let token = Gateway::token("ana", &all);
        let reply = browser.ask(json!({"type": "token", "token": token})).await;
        assert_eq!(reply["type"], "token");
        browser.subscribe("b.x").await;
        other.publish("b.x", json!(3)).await;
        assert_eq!(browser.message().await["data"], 3);
    });
}

/// A Grant with `{sub}` is the subject's own; what no Grant covers is refused by verb and Pattern, to
/// a Token as `forbidden`, to a stranger as `unauthenticated`.
#[test]
fn a_refusal_names_verb_and_pattern() {
    run(async {
        let gateway = Gateway::start(Settings::open()).await;
        let token = Gateway::token("ana", &Grants::all(&["user.{sub}.>", "team-{sub}", "chat.*"]));
        let mut ana = gateway.browser(&format!("token={token}")).await;
        let mut stranger = gateway.browser("topic=open.x").await;
        ana.next().await;
        stranger.next().await;
        stranger.next().await;
        for own in ["user.ana.x", "user.ana.**", "team-ana", "chat.*"] {
            ana.subscribe(own).await;
        }
        for foreign in [
            "user.ben.x",
            "user.*.x",
            "user.**",
            "user.ana",
            "team-ben",
            "chat.**",
            "chat.a.b",
            "open.x",
            "*.x",
        ] {
            let shown = foreign.replace("**", ">");
            let ask = json!({"type": "subscribe", "topic": foreign});
            for (browser, code, words) in [
                (&mut ana, "forbidden", format!("no Grant to subscribe covers {shown}")),
                (
                    &mut stranger,
                    BAD,
                    format!("no Grant to subscribe covers {shown}, and no Token was sent"),
                ),
            ] {
                let reply = browser.ask(ask.clone()).await;
                if foreign == "*.x" {
                    assert_eq!(reply["code"], "invalid_topic");
                } else if foreign != "open.x" || code == "forbidden" {
                    assert_eq!((&reply["code"], &reply["message"]), (&json!(code), &json!(words)));
                    assert_eq!(reply["topic"], foreign);
                }
            }
        }
        let publish = json!({"type": "publish", "topic": "user.ben.x", "data": 1});
        let reply = ana.ask(publish.clone()).await;
        assert_eq!(reply["code"], "forbidden");
        assert_eq!(reply["message"], "no Grant to publish covers user.ben.x");
        let reply = stranger.ask(publish).await;
        assert_eq!(reply["code"], BAD);

        for (token, status, code) in [(Some(&token), 403, "forbidden"), (None, 401, BAD)] {
            let mut asks = [
                gateway.request(Method::POST, "/v1/topics/user.ben.x/messages"),
                gateway.request(Method::DELETE, "/v1/topics/user.ben.x"),
                gateway
                    .request(Method::POST, "/v1/publish")
                    .body(r#"{"topic":"user.ben.x","data":1}"#),
            ];
            if let Some(token) = token {
                asks = asks.map(|ask| ask.bearer_auth(token));
            }
            for (at, ask) in asks.into_iter().enumerate() {
                let answer = ask.send().await.unwrap();
                let of_all = answer.status().as_u16();
                let body: Value = answer.json().await.unwrap();
                let words = [&body["detail"], &body["message"]][usize::from(at == 2)];
                let words = words.as_str().unwrap();
                assert_eq!(body["code"], code, "{body}");
                assert!(words.starts_with("no Grant to publish covers user.ben.x"));
                assert_eq!(of_all, if at == 2 { 200 } else { status });
            }
        }
    });
}

/// A key file that changes is read again, and a Token of the new key comes in where it was refused;
/// a file that becomes faulty, or goes away, leaves what was read before; Connections live on.
#[test]
fn key_files_are_read_again() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let [faulty, changing] = ["faulty", "changing"].map(|name| folder.path().join(name));
        let pair = Pair::ed();
        fs::write(&faulty, &pair.public_pem).unwrap();
        fs::write(&changing, ONE).unwrap();
        let gateway = Gateway::start(Settings {
            auth: Some(vec![
                "issuers:".to_owned(),
                format!("  - {{issuer: kept, algorithm: EdDSA, key_file: {faulty:?}}}"),
                format!("  - {{issuer: one, algorithm: HS256, key_file: {changing:?}}}"),
            ]),
            ..Settings::default()
        })
        .await;
        let kept = signed(
            Algorithm::EdDSA,
            &pair.private,
            r#"{"alg":"EdDSA"}"#,
            &good(r#","iss":"kept""#),
        );
        let of = |key: &[u8]| hs(Algorithm::HS256, key, &good(r#","iss":"one""#));
        let mut early = gateway.browser(&format!("token={}", of(ONE))).await;
        early.next().await;
        assert_eq!(over_query(&gateway, &of(ONE_NEXT)).await, BAD);
        // Files are looked at in the order of the list: once the second counts, the first was seen.
        let faults: [&dyn Fn(); 4] = [
            &|| fs::write(&faulty, "-----BEGIN PUBLIC KEY-----\n!\n").unwrap(),
            &|| fs::write(&faulty, "").unwrap(),
            &|| fs::remove_file(&faulty).unwrap(),
            &|| fs::write(&faulty, Pair::rsa().public_pem).unwrap(),
        ];
        let mut keys = [ONE_NEXT, ONE].into_iter().cycle();
        for fault in faults {
            let key = keys.next().unwrap();
            fault();
            // As Kubernetes does: a new file over the old one.
            let beside = folder.path().join("beside");
            fs::write(&beside, key).unwrap();
            fs::rename(&beside, &changing).unwrap();
            let token = of(key);
            until("the new key counts", RELOADED, || async {
                over_http(&gateway, &format!("Bearer {token}")).await == OK
            })
            .await;
            assert_eq!(over_query(&gateway, &token).await, "connected");
            assert_eq!(over_query(&gateway, &kept).await, "connected");
            let old = if key == ONE { ONE_NEXT } else { ONE };
            assert_eq!(over_http(&gateway, &format!("Bearer {}", of(old))).await, BAD);
        }
        early.publish("t.x", json!("still here")).await;
    });
}
