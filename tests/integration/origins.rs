//! From which pages the gateway can be used: one verdict for sockets, publishes and preflights.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;

use crate::harness::raw::Raw;
use crate::harness::{Gateway, Grants, SOON, Settings, run};

/// The Origins of the pages that may come.
const LISTED: &str = r#"origins: ["https://app.example.com", "HTTPS://Other.Example.com:8443", "http://localhost:5173", "http://[::1]:3000", "https://xn--bcher-kva.example", "capacitor://localhost"]"#;
/// The node's own host, as its clients see it.
const HOST: &str = "gateway.example";

#[rustfmt::skip] // one row, one trick
const ORIGINS: [(&str, bool); 54] = [
    ("https://app.example.com", true),
    ("https://app.example.com:443", true),
    ("HTTPS://APP.Example.COM", true),
    ("https://other.example.com:8443", true),
    ("http://localhost:5173", true),
    ("http://[::1]:3000", true),
    ("http://[0:0::1]:3000", true),
    ("https://xn--bcher-kva.example", true),
    ("capacitor://localhost", true),
    // White space around a header's value is no part of it.
    ("  https://app.example.com\t", true),
    // The own host, once there is a list.
    ("https://gateway.example", false),
    ("http://gateway.example", false),
    // Another scheme, port or host.
    ("http://app.example.com", false),
    ("http://app.example.com:443", false),
    ("https://app.example.com:8443", false),
    ("https://other.example.com", false),
    ("http://localhost", false),
    ("http://127.0.0.1:5173", false),
    ("http://[::1]", false),
    ("wss://app.example.com", false),
    // No Origin at all.
    ("", false),
    ("null", false),
    ("NULL", false),
    ("*", false),
    ("file://", false),
    ("file:///etc/passwd", false),
    ("app.example.com", false),
    ("//app.example.com", false),
    ("https://", false),
    ("javascript://app.example.com", false),
    ("blob:https://app.example.com", false),
    // Prefixes and suffixes.
    ("https://app.example.com.evil.net", false),
    ("https://evil-app.example.com", false),
    ("https://evil.net/app.example.com", false),
    ("https://x.app.example.com", false),
    ("https://example.com", false),
    ("https://app.example.co", false),
    ("https://appxexample.com", false),
    ("xhttps://app.example.com", false),
    // What browsers never write.
    ("https://app.example.com/", false),
    ("https://app.example.com?x", false),
    ("https://app.example.com#x", false),
    ("https://app.example.com:", false),
    ("https://app.example.com:0443", false),
    ("https://app.example.com:65979", false),
    ("https://app.example.com.", false),
    ("https://user@app.example.com", false),
    ("https://app.example.com@evil.net", false),
    ("https://app.example.com\\@evil.net", false),
    ("https://app%2eexample.com", false),
    ("https://app.example.com https://evil.net", false),
    ("https://app.example.com,https://evil.net", false),
    ("https://bücher.example", false),
    ("https://аpp.example.com", false),
];

/// An answer, taken apart. Names are in small letters; a name that came twice is joined by commas.
struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn new(head: &str, body: Vec<u8>) -> Self {
        let mut lines = head.lines();
        let first = lines.next().expect("a status line");
        let status = first.split(' ').nth(1).and_then(|text| text.parse().ok());
        let mut headers = BTreeMap::<String, String>::new();
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            let known = headers.entry(name.to_ascii_lowercase()).or_default();
            if !known.is_empty() {
                known.push_str(", ");
            }
            known.push_str(value);
        }
        let status = status.unwrap_or_else(|| panic!("no status in {head:?}"));
        Self { status, headers, body }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The names in a header that is a list.
    fn list(&self, name: &str) -> Vec<&str> {
        let text = self.header(name).unwrap_or_default();
        let mut names: Vec<_> =
            text.split(',').map(str::trim).filter(|one| !one.is_empty()).collect();
        names.sort_unstable();
        names
    }

    fn code(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["code"].as_str().unwrap_or_default().to_owned()
    }

    /// That a page of this Origin can read the answer, or that no page can.
    fn is_readable_by(&self, origin: Option<&str>) {
        assert_eq!(self.header("access-control-allow-origin"), origin);
        assert_eq!(self.header("access-control-allow-credentials"), None);
        assert_eq!(self.header("vary"), Some("Origin"));
        if origin.is_some() {
            let exposed = self.list("access-control-expose-headers");
            assert_eq!(exposed, ["ETag", "Retry-After", "traceresponse"]);
        }
    }
}

/// A request with these lines in its head.
async fn ask(address: SocketAddr, line: &str, headers: &[String], body: &str) -> Answer {
    let mut raw = Raw::connect(address).await;
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: {HOST}\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    raw.send(request.as_bytes()).await;
    let head = raw.head().await;
    Answer::new(&head, raw.rest(SOON).await)
}

/// A handshake with these lines in its head; the answer, and the first frame behind it or what was
/// left of the connection.
async fn shake(address: SocketAddr, host: &str, headers: &[String], admitted: bool) -> Answer {
    let mut raw = Raw::connect(address).await;
    let headers: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let request = format!(
        "GET /v1/connect?topic=open.x HTTP/1.1\r\nHost: {host}\r\n{headers}Upgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    raw.send(request.as_bytes()).await;
    let head = raw.head().await;
    if admitted {
        // A close with 1000, so that the rest has an end.
        raw.send(&[0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8]).await;
    }
    Answer::new(&head, raw.rest(SOON).await)
}

/// Asserts what a socket of that page is met with: a first text frame, or 4403 before any.
fn judge_socket(answer: &Answer, admitted: bool, what: &str) {
    assert_eq!(answer.status, 101, "{what}");
    if admitted {
        assert_eq!(answer.body[0], 0x81, "{what}");
        let text = String::from_utf8_lossy(&answer.body);
        assert!(text.contains(r#"{"type":"connected""#), "{what}: {text}");
    } else {
        let reason = br#"{"code":"origin","retry":false}"#;
        assert_eq!(answer.body[..2], [0x88, 33], "{what}");
        assert_eq!(answer.body[2..4], 4403_u16.to_be_bytes(), "{what}");
        assert_eq!(&answer.body[4..], reason, "{what}");
    }
}

fn preflight(origin: &[String]) -> Vec<String> {
    let mut headers = origin.to_vec();
    headers.push("Access-Control-Request-Method: POST".to_owned());
    headers.push("Access-Control-Request-Headers: authorization, content-type".to_owned());
    headers
}

async fn start(origins: &str) -> Gateway {
    let secret = "issuers: [{algorithm: HS256, key_file: \"$FOLDER/secret\"}]".to_owned();
    Gateway::start(Settings {
        anonymous: Grants::all(&["open.>"]),
        auth: Some(vec![secret, origins.to_owned()]),
        ..Settings::default()
    })
    .await
}

/// Each Origin, and several and none, on a WebSocket, on a `POST` and in a preflight. A refused socket
/// is closed before any Frame, a refused publish reaches nobody, and no refusal can be read by its
/// page.
#[test]
fn an_origin_is_on_the_list_or_refused_everywhere() {
    run(async {
        let gateway = start(LISTED).await;
        let mut spy = gateway.browser("topic=open.**").await;
        spy.next().await;
        spy.next().await;
        let line = |origin: &str| vec![format!("Origin: {origin}")];
        let mut cases: Vec<_> =
            ORIGINS.iter().map(|(origin, admitted)| (line(origin), *admitted)).collect();
        let twice =
            |one: &str, other: &str| vec![format!("Origin: {one}"), format!("origin: {other}")];
        cases.push((twice("https://app.example.com", "https://evil.net"), false));
        cases.push((twice("https://evil.net", "https://app.example.com"), false));
        cases.push((twice("https://app.example.com", "https://app.example.com"), false));
        for (at, (origin, admitted)) in cases.iter().enumerate() {
            let what = origin.join(" and ");
            let shown = admitted.then(|| origin[0].split_once(':').unwrap().1.trim());
            let socket = shake(gateway.client, HOST, origin, *admitted).await;
            judge_socket(&socket, *admitted, &what);
            socket.is_readable_by(shown);

            let path = "POST /v1/topics/open.x/messages";
            let posted = ask(gateway.client, path, origin, &at.to_string()).await;
            posted.is_readable_by(shown);
            let allowed = ask(gateway.client, "OPTIONS /v1/publish", &preflight(origin), "").await;
            allowed.is_readable_by(shown);
            if *admitted {
                assert_eq!((posted.status, allowed.status), (200, 204), "{what}");
                assert_eq!(spy.message().await["data"], at, "{what}");
            } else {
                assert_eq!((posted.status, allowed.status), (403, 403), "{what}");
                assert_eq!(posted.code(), "origin", "{what}");
                assert_eq!(allowed.header("access-control-allow-methods"), None);
            }
        }
        spy.is_quiet().await;
        // No Origin, no page.
        let none = ask(gateway.client, "POST /v1/topics/open.x/messages", &[], "1").await;
        assert_eq!(none.status, 200);
        none.is_readable_by(None);
        let socket = shake(gateway.client, HOST, &[], true).await;
        judge_socket(&socket, true, "no Origin");
    });
}

/// A preflight of a page that may come is a 204 with exactly what the protocol lists, on every route;
/// an `OPTIONS` that is none is a 405.
#[test]
fn a_preflight_lists_methods_and_headers() {
    run(async {
        let gateway = start(LISTED).await;
        let origin = ["Origin: https://app.example.com".to_owned()];
        for path in
            ["/v1/connect", "/v1/publish", "/v1/topics/open.x/messages", "/v1/topics/open.x"]
        {
            let line = format!("OPTIONS {path}");
            let answer = ask(gateway.client, &line, &preflight(&origin), "").await;
            assert_eq!(answer.status, 204);
            assert!(answer.body.is_empty());
            answer.is_readable_by(Some("https://app.example.com"));
            let methods = answer.list("access-control-allow-methods");
            assert_eq!(methods, ["DELETE", "GET", "POST"]);
            assert_eq!(
                answer.list("access-control-allow-headers"),
                [
                    "Authorization",
                    "Content-Type",
                    "Idempotency-Key",
                    "If-None-Match",
                    "Last-Event-ID",
                    "traceparent",
                    "tracestate"
                ]
            );
            let answer = ask(gateway.client, &line, &origin, "").await;
            assert_eq!((answer.status, &*answer.code()), (405, "not_found"));
            assert!(answer.header("allow").is_some());
            answer.is_readable_by(Some("https://app.example.com"));
        }
    });
}

/// A page that may come can read why it is refused, whatever the fault.
#[test]
fn a_page_can_read_its_errors() {
    run(async {
        let gateway = start(LISTED).await;
        let origin = "Origin: https://app.example.com".to_owned();
        let bearer = "Authorization: Bearer no.such.token".to_owned();
        let long = format!("POST /v1/publish?{}", "x".repeat(9_000));
        let large = "x".repeat(70_000);
        let cases = [
            ("POST /v1/topics/open.x/messages", Some(&bearer), "x", 401, "unauthenticated"),
            ("POST /v1/topics/secret.x/messages", None, "x", 401, "unauthenticated"),
            ("POST /v1/topics/open.*/messages", None, "x", 400, "invalid_topic"),
            ("POST /v1/topics/open.x/messages", None, &large, 413, "too_big"),
            ("POST /v1/publish", None, "{", 400, "bad_message"),
            ("POST /v1/publish", None, "", 400, "bad_message"),
            ("PUT /v1/publish", None, "x", 405, "not_found"),
            ("GET /v1/no/such/route", None, "", 404, "not_found"),
            ("GET /v1/connect", None, "", 426, "bad_message"),
            (&long, None, "x", 414, ""),
        ];
        for (line, more, body, status, code) in cases {
            let mut headers = vec![origin.clone()];
            headers.extend(more.cloned());
            let answer = ask(gateway.client, line, &headers, body).await;
            let line = &line[..line.len().min(60)];
            assert_eq!((answer.status, &*answer.code()), (status, code), "{line}");
            answer.is_readable_by(Some("https://app.example.com"));
        }
        // The same for an upgrade that fails before its 101, and for nobody else's page.
        for (origin, shown) in [
            ("https://app.example.com", Some("https://app.example.com")),
            ("https://evil.net", None),
        ] {
            let headers = [format!("Origin: {origin}"), "Sec-WebSocket-Protocol: chat".to_owned()];
            let answer = shake(gateway.client, HOST, &headers, false).await;
            assert_eq!((answer.status, &*answer.code()), (400, "subprotocol_required"));
            answer.is_readable_by(shown);
        }
    });
}

/// However a page spells the path of a route, its Origin is looked at: the routes read `%76` as `v`.
#[test]
fn no_spelling_of_a_path_gets_around_the_list() {
    run(async {
        let gateway = start(LISTED).await;
        let mut spy = gateway.browser("topic=open.**").await;
        spy.next().await;
        spy.next().await;
        let origin = ["Origin: https://evil.net".to_owned()];
        let item = r#"{"topic":"open.x","data":1}"#;
        for path in [
            "/v1/publish",
            "/%761/publish",
            "/v%31/publish",
            "/%76%31/%70ublish",
            "/v1/%70ublish",
            "/v1%2Fpublish",
            "/%2576%31/publish",
            "//v1/publish",
            "/./v1/publish",
            "/x/../v1/publish",
            "/V1/publish",
            "/v1/publish/",
            "http://gateway.example/v1/publish",
            "http://evil.net/%761/publish",
        ] {
            let answer = ask(gateway.client, &format!("POST {path}"), &origin, item).await;
            assert!([403, 404].contains(&answer.status), "{path}: {}", answer.status);
            assert_eq!(answer.header("access-control-allow-origin"), None, "{path}");
        }
        for path in ["/%761/topics/open.x/messages", "/v%31/topics/open.x"] {
            let method = if path.ends_with('s') { "POST" } else { "DELETE" };
            let answer = ask(gateway.client, &format!("{method} {path}"), &origin, item).await;
            assert_eq!(answer.status, 403, "{path}");
        }
        spy.is_quiet().await;
    });
}

/// Without a list, the pages of the node's own host may come, by either scheme, and no others.
#[test]
fn without_a_list_the_own_host_is_the_list() {
    run(async {
        let gateway = start("origins: []").await;
        for (origin, host, admitted) in [
            ("https://gateway.example", "gateway.example", true),
            ("http://gateway.example", "gateway.example", true),
            ("https://gateway.example", "Gateway.Example:443", true),
            ("http://gateway.example:8080", "gateway.example:8080", true),
            ("http://127.0.0.1:8080", "127.0.0.1:8080", true),
            ("http://[::1]:8080", "[::1]:8080", true),
            ("https://gateway.example", "gateway.example:80", false),
            ("http://gateway.example", "gateway.example:8080", false),
            ("http://gateway.example:8080", "gateway.example", false),
            ("https://evil.net", "gateway.example", false),
            ("https://gateway.example.evil.net", "gateway.example", false),
            ("https://gateway.example.", "gateway.example", false),
            ("http://localhost:8080", "127.0.0.1:8080", false),
            ("capacitor://gateway.example", "gateway.example", false),
            ("file://", "gateway.example", false),
            ("null", "null", false),
        ] {
            let headers = [format!("Origin: {origin}")];
            let answer = shake(gateway.client, host, &headers, admitted).await;
            judge_socket(&answer, admitted, &format!("{origin} at {host}"));
            answer.is_readable_by(admitted.then_some(origin));
        }
    });
}

/// Cookies are never read, and a socket's Token does not help a page that may not come.
#[test]
fn neither_a_cookie_nor_a_token_admits_a_page() {
    run(async {
        let gateway = start(LISTED).await;
        let token = Gateway::token("ana", &Grants::all(&["open.>"]));
        for more in [
            format!("Cookie: token={token}; Authorization=Bearer {token}"),
            format!("Authorization: Bearer {token}"),
            format!("Sec-WebSocket-Protocol: tidegate.v1.json, bearer.{token}"),
        ] {
            let headers = ["Origin: https://evil.net".to_owned(), more];
            let answer = shake(gateway.client, HOST, &headers, false).await;
            judge_socket(&answer, false, &headers[1]);
            let path = "POST /v1/topics/open.x/messages";
            let answer = ask(gateway.client, path, &headers, "x").await;
            assert_eq!((answer.status, &*answer.code()), (403, "origin"));
        }
        let headers = [format!("Cookie: token={token}")];
        let path = "POST /v1/topics/secret.x/messages";
        let answer = ask(gateway.client, path, &headers, "x").await;
        assert_eq!((answer.status, &*answer.code()), (401, "unauthenticated"));
    });
}
