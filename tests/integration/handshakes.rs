//! Requests that are no handshake, or no HTTP: each is refused by its documented status, says why
//! where the gateway and not its HTTP library refuses, and ends its connection where it should.

use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, timeout};

use crate::harness::raw::{HANDSHAKE, Raw, frame};
use crate::harness::{Gateway, Grants, SOON, Settings, run, size, soon, until};
use crate::unharmed::Unharmed;

/// Refused connections end within this: a second for the reader, and some for a slow machine.
const ENDS: Duration = Duration::from_secs(4);
/// What stays half done ends within this: the head's and the body's second, twenty for the answer,
/// and some for a slow machine.
const LEFT_ALONE: Duration = Duration::from_secs(35);
const KEY: &str = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
const VERSION: &str = "Sec-WebSocket-Version: 13\r\n";
const UPGRADE: &str = "Upgrade: websocket\r\n";
const CONNECTION: &str = "Connection: Upgrade\r\n";

/// What answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// A WebSocket.
    Socket,
    /// A problem with this status and code, on a connection that ends with it.
    Refused(u16, &'static str),
    /// The same, on a connection that may go on.
    Problem(u16, &'static str),
    /// The bare status of the HTTP library, and the end.
    Bare(u16),
    /// A bare status of ours, on a connection that may go on.
    Status(u16),
}
use Answer::{Bare, Problem, Refused, Socket, Status};

fn settings() -> Settings {
    let mut settings = Settings::open().limit("head_timeout: 1s").limit("body_timeout: 1s");
    settings.anonymous = Grants::all(&["open.>", "honest.>"]);
    settings
}

/// An answer as it came.
struct Got {
    status: u16,
    head: String,
    body: String,
    /// Whether the connection ended with it.
    ended: bool,
}

impl Got {
    /// Reads an answer; `ends` says whether to wait for the end of the connection.
    async fn read(raw: &mut Raw, ends: bool) -> Self {
        let head = raw.head().await;
        let status = head.get(9..12).and_then(|text| text.parse().ok());
        let head = head.to_ascii_lowercase();
        let mut bytes = Vec::new();
        if ends {
            bytes = raw.rest(ENDS).await;
        } else if let Some(length) = value(&head, "content-length") {
            bytes.resize(length.parse().expect("a length"), 0);
            soon("a body", raw.stream.read_exact(&mut bytes)).await.expect("a body");
        }
        Self {
            status: status.unwrap_or_default(),
            head,
            body: String::from_utf8(bytes).expect("text"),
            ended: ends,
        }
    }

    fn assert(&self, name: &str, answer: Answer) {
        let Self { status, head, body, .. } = self;
        let about = format!("{name}: {head}{body}");
        let problem: Value = serde_json::from_str(body).unwrap_or_default();
        match answer {
            Socket => assert_eq!(*status, 101, "{about}"),
            Refused(expected, code) | Problem(expected, code) => {
                assert_eq!(*status, expected, "{about}");
                assert_eq!(problem["code"], code, "{about}");
                assert_eq!(problem["status"], expected, "{about}");
                assert_eq!(
                    value(head, "content-type"),
                    Some("application/problem+json"),
                    "{about}"
                );
            }
            Bare(expected) | Status(expected) => {
                assert_eq!(*status, expected, "{about}");
                assert_eq!(body, "", "{about}");
            }
        }
        if answer != Socket {
            assert_eq!(
                value(head, "content-length"),
                Some(body.len().to_string().as_str()),
                "{about}"
            );
        }
        // Under HTTP/1.0 a connection ends unless somebody says otherwise.
        if self.ended && answer != Socket && !head.starts_with("http/1.0") {
            assert_eq!(value(head, "connection"), Some("close"), "{about}");
        }
    }
}

/// The value of a header, from a head in lower case.
fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

/// `GET /v1/connect` with these lines.
fn get(lines: &[&str]) -> String {
    request("GET /v1/connect HTTP/1.1", lines)
}

fn request(first: &str, lines: &[&str]) -> String {
    format!("{first}\r\nHost: gateway\r\n{}\r\n", lines.concat())
}

/// The lines of a handshake that is in order, and these.
fn with(lines: &[&str]) -> String {
    get(&[&[UPGRADE, CONNECTION, VERSION, KEY], lines].concat())
}

fn handshakes() -> Vec<(&'static str, String, Answer)> {
    let all = [UPGRADE, CONNECTION, VERSION, KEY];
    let upgraded = |first: &str| request(first, &all);
    let bad = |status| Refused(status, "bad_message");
    let many = format!("GET /v1/connect?{} HTTP/1.1", "topic=open.a&".repeat(129));
    let long = format!("GET /v1/connect?client={} HTTP/1.1", "x".repeat(129));
    let empty_client = "GET /v1/connect?client= HTTP/1.1";
    vec![
        ("in order", HANDSHAKE.to_owned(), Socket),
        (
            "headers in any case",
            with(&[]).replace("Upgrade", "uPGRADE").replace("websocket", "WebSocket"),
            Socket,
        ),
        (
            "keep-alive beside upgrade",
            get(&[UPGRADE, "Connection: keep-alive, Upgrade\r\n", VERSION, KEY]),
            Socket,
        ),
        // Versions.
        ("no version", get(&[UPGRADE, CONNECTION, KEY]), bad(426)),
        ("version 8", get(&[UPGRADE, CONNECTION, "Sec-WebSocket-Version: 8\r\n", KEY]), bad(426)),
        ("version 14", get(&[UPGRADE, CONNECTION, "Sec-WebSocket-Version: 14\r\n", KEY]), bad(426)),
        (
            "version 013",
            get(&[UPGRADE, CONNECTION, "Sec-WebSocket-Version: 013\r\n", KEY]),
            bad(426),
        ),
        (
            "an empty version",
            get(&[UPGRADE, CONNECTION, "Sec-WebSocket-Version:\r\n", KEY]),
            bad(426),
        ),
        (
            "version 13, 8",
            get(&[UPGRADE, CONNECTION, "Sec-WebSocket-Version: 13, 8\r\n", KEY]),
            bad(426),
        ),
        // Keys.
        ("no key", get(&[UPGRADE, CONNECTION, VERSION]), bad(400)),
        ("an empty key", get(&[UPGRADE, CONNECTION, VERSION, "Sec-WebSocket-Key:\r\n"]), bad(400)),
        (
            "a key of 15 bytes",
            get(&[UPGRADE, CONNECTION, VERSION, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA\r\n"]),
            bad(400),
        ),
        (
            "a key of 17 bytes",
            get(&[UPGRADE, CONNECTION, VERSION, "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA=\r\n"]),
            bad(400),
        ),
        (
            "a key that is no base64",
            get(&[UPGRADE, CONNECTION, VERSION, "Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==\r\n"]),
            bad(400),
        ),
        (
            "a key with a space",
            get(&[
                UPGRADE,
                CONNECTION,
                VERSION,
                "Sec-WebSocket-Key: dGhlIHNhbXBs ZSBub25jZQ==\r\n",
            ]),
            bad(400),
        ),
        // Upgrades.
        ("no Connection", get(&[UPGRADE, VERSION, KEY]), bad(400)),
        ("Connection: close", get(&[UPGRADE, "Connection: close\r\n", VERSION, KEY]), bad(400)),
        (
            "Connection: close, upgrade",
            get(&[UPGRADE, "Connection: close, Upgrade\r\n", VERSION, KEY]),
            bad(400),
        ),
        ("no Upgrade", get(&[CONNECTION, VERSION, KEY]), Problem(426, "bad_message")),
        (
            "Upgrade: websocket, foo",
            get(&["Upgrade: websocket, foo\r\n", CONNECTION, VERSION, KEY]),
            Problem(426, "bad_message"),
        ),
        (
            "Upgrade: h2c",
            get(&["Upgrade: h2c\r\n", CONNECTION, VERSION, KEY]),
            Problem(426, "bad_message"),
        ),
        (
            "Upgrade: websocket13",
            get(&["Upgrade: websocket13\r\n", CONNECTION, VERSION, KEY]),
            Problem(426, "bad_message"),
        ),
        ("a plain GET", get(&[]), Problem(426, "bad_message")),
        (
            "a body in chunks",
            with(&["Transfer-Encoding: chunked\r\n"]) + "0\r\n\r\n",
            Problem(426, "bad_message"),
        ),
        // Methods, versions, places.
        ("a POST upgrade", upgraded("POST /v1/connect HTTP/1.1"), bad(400)),
        ("a PUT upgrade", upgraded("PUT /v1/connect HTTP/1.1"), bad(400)),
        ("an OPTIONS upgrade", upgraded("OPTIONS /v1/connect HTTP/1.1"), bad(400)),
        ("CONNECT", request("CONNECT gateway:443 HTTP/1.1", &[]), bad(400)),
        ("CONNECT to the route", upgraded("CONNECT /v1/connect HTTP/1.1"), bad(400)),
        ("HTTP/1.0", upgraded("GET /v1/connect HTTP/1.0"), bad(400)),
        ("another route", upgraded("GET /v1/publish HTTP/1.1"), bad(400)),
        ("no route", upgraded("GET /v2/connect HTTP/1.1"), bad(400)),
        ("the root", upgraded("GET / HTTP/1.1"), bad(400)),
        ("a topic's route", upgraded("GET /v1/topics/open.a/messages HTTP/1.1"), bad(400)),
        ("a slash behind", upgraded("GET /v1/connect/ HTTP/1.1"), bad(400)),
        ("an absolute form", upgraded("GET http://gateway/v1/connect HTTP/1.1"), Socket),
        // Subprotocols.
        (
            "an unknown subprotocol",
            with(&["Sec-WebSocket-Protocol: mqtt\r\n"]),
            Refused(400, "subprotocol_required"),
        ),
        (
            "a Token alone",
            with(&["Sec-WebSocket-Protocol: bearer.abc\r\n"]),
            Refused(400, "subprotocol_required"),
        ),
        (
            "a subprotocol in capitals",
            with(&["Sec-WebSocket-Protocol: TIDEGATE.V1.JSON\r\n"]),
            Refused(400, "subprotocol_required"),
        ),
        (
            "a reserved one alone",
            with(&["Sec-WebSocket-Protocol: tidegate.v1.protobuf\r\n"]),
            Refused(400, "subprotocol_required"),
        ),
        (
            "a longer one",
            with(&["Sec-WebSocket-Protocol: tidegate.v1.json2\r\n"]),
            Refused(400, "subprotocol_required"),
        ),
        ("no subprotocol in the header", with(&["Sec-WebSocket-Protocol: ,\r\n"]), Socket),
        // Queries.
        ("an unknown heartbeat", upgraded("GET /v1/connect?heartbeat=drum HTTP/1.1"), bad(400)),
        ("an empty client", upgraded(empty_client), bad(400)),
        ("a long client", upgraded(&long), bad(400)),
        (
            "an unknown from",
            upgraded("GET /v1/connect?from=monday HTTP/1.1"),
            Refused(400, "invalid_from"),
        ),
        ("129 topics", upgraded(&many), Refused(422, "too_many_subscriptions")),
        ("unknown parameters", upgraded("GET /v1/connect?x=1&y HTTP/1.1"), Socket),
        (
            "two Authorizations",
            with(&["Authorization: Bearer a\r\n", "Authorization: Bearer b\r\n"]),
            Refused(401, "unauthenticated"),
        ),
        ("Basic", with(&["Authorization: Basic YTpi\r\n"]), Refused(401, "unauthenticated")),
    ]
}

/// Each handshake is taken or refused as documented; a refused upgrade says why, how long its answer
/// is and that it is the last, and its connection ends.
#[test]
fn handshakes_are_taken_or_refused_as_documented() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        let cases = handshakes();
        assert!(cases.len() >= 40, "{} cases", cases.len());
        for slowly in [false, true] {
            for (name, bytes, answer) in &cases {
                let mut raw = Raw::connect(gateway.client).await;
                if slowly {
                    raw.send_slowly(bytes.as_bytes()).await;
                } else {
                    raw.send(bytes.as_bytes()).await;
                }
                let got = Got::read(&mut raw, matches!(answer, Refused(..))).await;
                got.assert(name, *answer);
                if let (426, "no version" | "version 8") = (got.status, *name) {
                    assert_eq!(value(&got.head, "sec-websocket-version"), Some("13"), "{name}");
                }
            }
            unharmed.after(&gateway).await;
        }
    });
}

/// What follows a refused handshake is thrown away: it is neither a frame nor a request.
#[test]
fn nothing_behind_a_refused_handshake_counts() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        let publish = "POST /v1/topics/honest.news/messages HTTP/1.1\r\nHost: g\r\nContent-Length: 1\r\n\r\n7";
        for behind in [publish.as_bytes(), &frame(0x81, b"{}"), &[0xff; 3_000]] {
            let mut raw = Raw::connect(gateway.client).await;
            let refused = get(&[UPGRADE, CONNECTION, VERSION]);
            raw.send(&[refused.as_bytes(), behind].concat()).await;
            let got = Got::read(&mut raw, true).await;
            got.assert("behind a refusal", Refused(400, "bad_message"));
        }
        unharmed.after(&gateway).await;
    });
}

/// A peer that goes on sending to its refused handshake, and never ends, is ended.
#[test]
fn a_refused_peer_that_stays_is_ended() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        let mut raws = Vec::new();
        for _ in 0..20 {
            let mut raw = Raw::connect(gateway.client).await;
            raw.send(get(&[UPGRADE, CONNECTION, VERSION]).as_bytes()).await;
            raws.push(raw);
        }
        unharmed.after(&gateway).await;
        for raw in &mut raws {
            Got::read(raw, true).await.assert("stays", Refused(400, "bad_message"));
        }
    });
}

/// The first known subprotocol is answered; a Token among them never is.
#[test]
fn a_known_subprotocol_is_answered_and_a_token_never() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let json = Some("tidegate.v1.json");
        for (offer, expected) in [
            (None, None),
            (Some("tidegate.v1.json"), json),
            (Some("mqtt, tidegate.v1.json"), json),
            (Some("tidegate.v1.protobuf, tidegate.v1.json"), json),
            (Some("bearer.abc, tidegate.v1.json"), json),
            (Some("tidegate.v1.json, bearer.abc"), json),
            (Some("tidegate.v1.json\r\nSec-WebSocket-Protocol: bearer.abc"), json),
            (Some("bearer.abc\r\nSec-WebSocket-Protocol: tidegate.v1.json"), json),
            (Some("tidegate.v1.json,tidegate.v1.json"), json),
        ] {
            let line =
                offer.map_or(String::new(), |offer| format!("Sec-WebSocket-Protocol: {offer}\r\n"));
            let mut raw = Raw::connect(gateway.client).await;
            raw.send(with(&[&line]).as_bytes()).await;
            let head = raw.head().await.to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 101"), "{offer:?}: {head}");
            assert_eq!(value(&head, "sec-websocket-protocol"), expected, "{offer:?}: {head}");
            assert!(!head.contains("bearer"), "{head}");
            assert_eq!(value(&head, "sec-websocket-accept"), Some("s3pplmbitxaq9kygzzhzrbk+xoo="));
        }
    });
}

/// A Token or a page that is not good is refused behind the 101, which comes first.
#[test]
fn what_a_user_can_mend_is_refused_behind_the_101() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        for (lines, status, code) in [
            ("Authorization: Bearer bad\r\n", 4_401, "unauthenticated"),
            ("Sec-WebSocket-Protocol: tidegate.v1.json, bearer.bad\r\n", 4_401, "unauthenticated"),
            ("Origin: https://evil.example\r\n", 4_403, "origin"),
            ("Origin: null\r\n", 4_403, "origin"),
            ("Origin: http://gateway\r\nOrigin: http://gateway\r\n", 4_403, "origin"),
        ] {
            let mut raw = Raw::connect(gateway.client).await;
            raw.send(with(&[lines]).as_bytes()).await;
            let head = raw.head().await;
            assert!(head.starts_with("HTTP/1.1 101"), "{lines}: {head}");
            let (got, reason) = raw.close(ENDS).await.expect("a close");
            assert_eq!((got, reason.contains(code)), (status, true), "{lines}: {reason}");
        }
        unharmed.after(&gateway).await;
    });
}

fn requests() -> Vec<(&'static str, Vec<u8>, Answer)> {
    let post = "POST /v1/topics/open.a/messages HTTP/1.1";
    let with_length = |lines: &[&str], body: &str| (request(post, lines) + body).into_bytes();
    let url = |bytes: usize| {
        let path = format!("/v1/topics/{}/messages", "x".repeat(bytes));
        request(&format!("POST {path} HTTP/1.1"), &["Content-Length: 1\r\n"]) + "1"
    };
    let long_header = format!("X-Long: {}\r\n", "x".repeat(200_000));
    let many_headers = "X-Many: x\r\n".repeat(200);
    let query = format!("GET /v1/connect?token={} HTTP/1.1", "x".repeat(9_000));
    let upgrade_query = request(&query, &[UPGRADE, CONNECTION, VERSION, KEY]);
    vec![
        (
            "two Content-Lengths",
            with_length(&["Content-Length: 1\r\n", "Content-Length: 1\r\n"], "1"),
            Bare(400),
        ),
        (
            "two other Content-Lengths",
            with_length(&["Content-Length: 1\r\n", "Content-Length: 2\r\n"], "11"),
            Bare(400),
        ),
        (
            "Content-Length and chunks",
            with_length(&["Content-Length: 6\r\n", "Transfer-Encoding: chunked\r\n"], "0\r\n\r\n1"),
            Bare(400),
        ),
        (
            "chunks and Content-Length",
            with_length(&["Transfer-Encoding: chunked\r\n", "Content-Length: 6\r\n"], "0\r\n\r\n1"),
            Bare(400),
        ),
        (
            "chunked twice",
            with_length(
                &["Transfer-Encoding: chunked\r\n", "Transfer-Encoding: chunked\r\n"],
                "0\r\n\r\n",
            ),
            Bare(400),
        ),
        (
            "an unknown Transfer-Encoding",
            with_length(&["Transfer-Encoding: gzip, chunked\r\n"], "0\r\n\r\n"),
            Bare(400),
        ),
        (
            "a hidden Transfer-Encoding",
            with_length(&["Transfer-Encoding: xchunked\r\n"], "0\r\n\r\n"),
            Bare(400),
        ),
        ("a space before the colon", with_length(&["Content-Length : 1\r\n"], "1"), Bare(400)),
        ("a signed Content-Length", with_length(&["Content-Length: +1\r\n"], "1"), Bare(400)),
        ("a negative Content-Length", with_length(&["Content-Length: -1\r\n"], "1"), Bare(400)),
        (
            "a Content-Length of 2^64",
            with_length(&["Content-Length: 18446744073709551616\r\n"], "1"),
            Bare(400),
        ),
        ("a Content-Length in words", with_length(&["Content-Length: one\r\n"], "1"), Bare(400)),
        ("two Hosts", with_length(&["Host: other\r\n", "Content-Length: 1\r\n"], "1"), Bare(400)),
        ("no Host", b"GET /v1/connect HTTP/1.1\r\n\r\n".into(), Bare(400)),
        ("HTTP/0.9", b"GET /v1/connect\r\n\r\n".into(), Bare(400)),
        ("HTTP/2.0", b"GET /v1/connect HTTP/2.0\r\nHost: g\r\n\r\n".into(), Bare(400)),
        ("the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), Bare(400)),
        ("HTTP/9.9", b"GET /v1/connect HTTP/9.9\r\nHost: g\r\n\r\n".into(), Bare(400)),
        ("no HTTP", b"hello\r\n\r\n".into(), Bare(400)),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".into(), Bare(400)),
        ("NULs", vec![0; 100], Bare(400)),
        (
            "a NUL in a header",
            with_length(&["X: a\0b\r\n", "Content-Length: 1\r\n"], "1"),
            Bare(400),
        ),
        (
            "a bare CR in a header",
            with_length(&["X: a\rb\r\n", "Content-Length: 1\r\n"], "1"),
            Bare(400),
        ),
        (
            "a folded header",
            with_length(&["X: a\r\n b\r\n", "Content-Length: 1\r\n"], "1"),
            Bare(400),
        ),
        (
            "a header without name",
            with_length(&[": a\r\n", "Content-Length: 1\r\n"], "1"),
            Bare(400),
        ),
        (
            "a method with a bracket",
            request("GE<T /v1/connect HTTP/1.1", &[]).into_bytes(),
            Bare(400),
        ),
        ("a space in the URL", request("GET /v1/con nect HTTP/1.1", &[]).into_bytes(), Bare(400)),
        (
            "a raw > in the URL",
            request("DELETE /v1/topics/open.> HTTP/1.1", &[]).into_bytes(),
            Bare(400),
        ),
        (
            "200 headers",
            request("GET /v1/connect HTTP/1.1", &[&many_headers]).into_bytes(),
            Bare(431),
        ),
        (
            "a head of 200,000 bytes",
            request("GET /v1/connect HTTP/1.1", &[&long_header]).into_bytes(),
            Bare(431),
        ),
        ("half a head", b"GET /v1/connect HTTP/1.1\r\nHost: g\r\nUpg".into(), Bare(408)),
        ("half a line", b"GE".into(), Bare(408)),
        ("a URL of 70,000 bytes", url(70_000).into_bytes(), Bare(400)),
        ("a URL of 60,000 bytes", url(60_000).into_bytes(), Status(414)),
        ("a URL over 8 KiB", url(8_192).into_bytes(), Status(414)),
        ("a long Token in a handshake", upgrade_query.into_bytes(), Bare(414)),
        (
            "half a body",
            with_length(&["Content-Length: 10\r\n"], "12345"),
            Problem(408, "bad_message"),
        ),
        (
            "half a chunk",
            with_length(&["Transfer-Encoding: chunked\r\n"], "a\r\n12345"),
            Problem(408, "bad_message"),
        ),
        (
            "a chunk that is none",
            with_length(&["Transfer-Encoding: chunked\r\n"], "zz\r\n1\r\n0\r\n\r\n"),
            Problem(400, "bad_message"),
        ),
        (
            "a chunk of 2^64 bytes",
            with_length(&["Transfer-Encoding: chunked\r\n"], "10000000000000000\r\n1"),
            Problem(400, "bad_message"),
        ),
        (
            "an absurd method",
            request("FROBNICATE /v1/publish HTTP/1.1", &[]).into_bytes(),
            Problem(405, "not_found"),
        ),
        (
            "TRACE",
            request("TRACE /v1/connect HTTP/1.1", &[]).into_bytes(),
            Problem(405, "not_found"),
        ),
        (
            "an absolute form",
            request("PUT http://other/v1/publish HTTP/1.1", &[]).into_bytes(),
            Problem(405, "not_found"),
        ),
        ("an asterisk", request("OPTIONS * HTTP/1.1", &[]).into_bytes(), Problem(404, "not_found")),
        (
            "dots",
            request("GET /v1/../v1/publish HTTP/1.1", &[]).into_bytes(),
            Problem(404, "not_found"),
        ),
        (
            "two slashes",
            request("GET //v1/publish HTTP/1.1", &[]).into_bytes(),
            Problem(404, "not_found"),
        ),
        (
            "the management port's routes",
            request("GET /status HTTP/1.1", &[]).into_bytes(),
            Problem(404, "not_found"),
        ),
    ]
}

/// Each broken request gets its documented status, and the end of its connection where what comes
/// next could not be told from it; the gateway goes on.
#[test]
fn broken_requests_are_refused_as_documented() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        let cases = requests();
        assert!(cases.len() >= 40, "{} cases", cases.len());
        for (name, bytes, answer) in cases {
            let mut raw = Raw::connect(gateway.client).await;
            raw.send(&bytes).await;
            Got::read(&mut raw, matches!(answer, Bare(_))).await.assert(name, answer);
        }
        unharmed.after(&gateway).await;
    });
}

/// Heads that come a byte at a time, or never, end at `head_timeout`, all at once; meanwhile an honest
/// browser is served.
#[test]
fn slow_heads_end_in_time_and_disturb_nobody() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        let mut raws = Vec::new();
        for at in 0..200 {
            let mut raw = Raw::connect(gateway.client).await;
            raw.send(HANDSHAKE.get(..at % 60).unwrap_or_default().as_bytes()).await;
            raws.push(raw);
        }
        for (at, raw) in raws.iter_mut().enumerate() {
            let rest = String::from_utf8(raw.rest(SOON).await).expect("text");
            // Who has sent nothing has asked nothing.
            assert!(rest.starts_with("HTTP/1.1 408") || at % 60 == 0, "{at}: {rest}");
        }
        unharmed.after(&gateway).await;
    });
}

/// Half a head from each of many, and not a byte from as many more: an honest client that publishes
/// and listens meanwhile waits no longer than usual.
#[test]
fn the_silent_do_not_hurt_the_honest() {
    run(async {
        let many = size(200, 2_000);
        let gateway = Gateway::start(Settings::open()).await;
        let mut honest = gateway.browser("").await;
        honest.subscribe("open.honest").await;
        let half = HANDSHAKE.get(..HANDSHAKE.len() / 2).expect("ASCII").as_bytes();
        let (mut silent, mut took) = (Vec::new(), Vec::new());
        for at in 0..2 * many {
            let mut raw = Raw::connect(gateway.client).await;
            if at % 2 == 0 {
                raw.send(half).await;
            }
            silent.push(raw);
            if at % 20 == 0 {
                let since = Instant::now();
                assert_eq!(gateway.publish("open.honest", at.to_string()).await.status(), 200);
                assert_eq!(honest.message().await["data"], at);
                took.push(since.elapsed());
            }
        }
        took.sort_unstable();
        let p99 = took[took.len() * 99 / 100];
        println!("{} sockets; an honest publish takes {p99:?} (p99)", silent.len());
        assert!(p99 < Duration::from_millis(500), "{p99:?}");
    });
}

/// Requests in one packet are answered one by one, and a WebSocket may follow them.
#[test]
fn a_handshake_may_follow_other_requests() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        let publish =
            request("POST /v1/topics/open.a/messages HTTP/1.1", &["Content-Length: 1\r\n"]) + "1";
        let close = frame(0x88, &1_000_u16.to_be_bytes());
        let all = [publish.as_bytes(), publish.as_bytes(), HANDSHAKE.as_bytes(), &close].concat();
        let mut raw = Raw::connect(gateway.client).await;
        raw.send(&all).await;
        for _ in 0..2 {
            assert_eq!(Got::read(&mut raw, false).await.status, 200);
        }
        let head = raw.head().await;
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert_eq!(raw.close(ENDS).await, Some((1_000, String::new())));
        unharmed.after(&gateway).await;
    });
}

/// Nobody keeps a connection by leaving something half done: a later head, or a body in chunks that
/// was answered before its end. It ends, at the latest, when a request and its answer could have.
#[test]
fn what_is_left_half_done_ends() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        let get = request("GET /nope HTTP/1.1", &[]);
        let chunks = "Transfer-Encoding: chunked\r\n";
        let post = request("POST /v1/topics/open.a/messages HTTP/1.1", &[chunks]);
        let mut raws = Vec::new();
        for (first, status, later) in [
            (get.clone(), 404, "GET /v1/conn"),
            (get.clone(), 404, "\r\n"),
            (get.clone(), 404, "POST /v1/publish HTTP/1.1\r\nHost: g\r\nX: "),
            (request("POST /nope HTTP/1.1", &[chunks]), 404, ""),
            (request("POST /nope HTTP/1.1", &[chunks, "Connection: close\r\n"]), 404, ""),
            (request("PUT /v1/publish HTTP/1.1", &[chunks]) + "a\r\n12345", 405, "678"),
            (with(&[chunks]), 426, "5\r\n1"),
            (post.clone() + "a\r\n12345", 408, ""),
            (post + "100000\r\n" + &"x".repeat(70_000), 413, "x"),
        ] {
            let mut raw = Raw::connect(gateway.client).await;
            raw.send(first.as_bytes()).await;
            let got = Got::read(&mut raw, false).await;
            assert_eq!(got.status, status, "{first:.60}");
            raw.send(later.as_bytes()).await;
            raws.push((first, raw));
        }
        // One goes on, a byte at a time.
        let mut slow = Raw::connect(gateway.client).await;
        slow.send(get.as_bytes()).await;
        assert_eq!(Got::read(&mut slow, false).await.status, 404);
        until("the slow one ends", LEFT_ALONE, || async {
            let _ = slow.stream.try_write(b"G");
            let read = slow.stream.try_read(&mut [0; 64]);
            !read.is_err_and(|fault| fault.kind() == std::io::ErrorKind::WouldBlock)
        })
        .await;
        for (first, mut raw) in raws {
            let rest = timeout(LEFT_ALONE, raw.rest(LEFT_ALONE * 2)).await;
            assert!(rest.is_ok(), "{first:.60}");
        }
        unharmed.after(&gateway).await;
    });
}
