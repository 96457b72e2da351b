//! Bodies, headers and rates of HTTP publishes: what is too much, too fast, or not what it should be.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate::auth::make_api_key;

use crate::harness::raw::Raw;
use crate::harness::{Browser, Gateway, Grants, Settings, run, until};
use crate::unharmed::Unharmed;

const ONE: &str = "/v1/topics/open.a/messages";
const BATCH: &str = "/v1/publish";

fn settings() -> Settings {
    let mut settings = Settings::open();
    settings.anonymous = Grants::all(&["open.>", "honest.>", "small.>"]);
    settings
}

/// An answer, in parts.
struct Got {
    status: StatusCode,
    headers: reqwest::header::HeaderMap,
    body: Value,
}

impl Got {
    async fn from(request: RequestBuilder) -> Self {
        let answer = request.send().await.expect("an answer");
        let (status, headers) = (answer.status(), answer.headers().clone());
        let body = answer.text().await.expect("a body");
        Self { status, headers, body: serde_json::from_str(&body).unwrap_or(Value::String(body)) }
    }

    fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The code of each result of a batch; `ok` for those that were taken.
    fn codes(&self) -> Vec<&str> {
        let results = self.body["results"].as_array().map_or(&[][..], Vec::as_slice);
        results.iter().map(|one| one["code"].as_str().unwrap_or("ok")).collect()
    }
}

async fn post(gateway: &Gateway, path: &str, body: impl Into<reqwest::Body>) -> Got {
    Got::from(gateway.request(Method::POST, path).body(body)).await
}

/// A browser that is subscribed to everything below `open.`.
async fn reader(gateway: &Gateway) -> Browser {
    let mut browser = gateway.browser("").await;
    browser.subscribe("open.>").await;
    browser
}

/// A JSON text of exactly so many bytes.
fn text(bytes: usize) -> String {
    format!("\"{}\"", "x".repeat(bytes - 2))
}

/// A payload at the limit arrives, and one byte more is `too_big`, by each way to publish, each
/// Namespace by its own limit.
#[test]
fn payloads_are_taken_up_to_the_limit_of_their_namespace() {
    run(async {
        // Above the default, so that what HTTP reads is not the limit by accident.
        let settings = settings()
            .line("namespaces: {small: {max_message_bytes: 100}, open: {max_message_bytes: 80000}}")
            .limit("outbox_bytes: 1MiB");
        let gateway = Gateway::start(settings).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        let mut browser = reader(&gateway).await;
        browser.subscribe("small.>").await;
        for (topic, limit) in [("open.a", 80_000), ("small.a", 100), ("honest.a", 65_536)] {
            let path = format!("/v1/topics/{topic}/messages");
            for (bytes, status, code) in [(limit, 200, ""), (limit + 1, 413, "too_big")] {
                let payload = text(bytes);
                let got = post(&gateway, &path, payload.clone()).await;
                assert_eq!((got.status.as_u16(), got.code()), (status, code), "{topic}: {bytes}");
                let batch =
                    format!("{{\"messages\":[{{\"topic\":\"{topic}\",\"data\":{payload}}}]}}");
                let got = post(&gateway, BATCH, batch).await;
                let expected = if code.is_empty() { "ok" } else { code };
                assert_eq!(got.codes(), [expected], "{topic}: {bytes}");
                let data: Value = serde_json::from_str(&payload).expect("JSON");
                let publish = json!({"type": "publish", "topic": topic, "data": data});
                let reply =
                    browser_reply(&mut browser, publish, expected == "ok" && topic != "honest.a")
                        .await;
                assert_eq!(reply["code"].as_str().unwrap_or("ok"), expected, "{topic}: {bytes}");
            }
        }
        let reply = browser.ask(json!({"type": "ping"})).await;
        assert_eq!(reply["type"], "pong");
        drop(browser);
        unharmed.after(&gateway).await;
    });
}

/// Publishes, and gives the Reply; if they `arrive`, after the two before it and this one.
async fn browser_reply(browser: &mut Browser, publish: Value, arrive: bool) -> Value {
    let data = publish["data"].clone();
    let id = browser.command(publish).await;
    let (mut reply, mut messages) = (None, 0);
    while reply.is_none() || arrive && messages < 3 {
        let frame = browser.next().await;
        if frame["id"] == json!(id) {
            reply = Some(frame);
        } else {
            assert_eq!(frame["data"], data);
            messages += 1;
        }
    }
    reply.unwrap_or_default()
}

/// A body is refused while it is read: of 100 MiB only the first part is sent, in one length or in
/// chunks.
#[test]
fn huge_bodies_are_refused_while_they_are_read() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        let (before, megabytes) = (gateway.resident_bytes(), vec![b'x'; 2 << 20]);
        let chunk = format!("{:x}\r\n", 100 << 20);
        let mut raws = Vec::new();
        for path in [ONE, BATCH] {
            for (length, head) in [
                (format!("Content-Length: {}", 100 << 20), ""),
                ("Transfer-Encoding: chunked".to_owned(), chunk.as_str()),
            ] {
                let mut raw = Raw::connect(gateway.client).await;
                let request = format!("POST {path} HTTP/1.1\r\nHost: g\r\n{length}\r\n\r\n{head}");
                raw.send(request.as_bytes()).await;
                let first = if path == ONE { 70_000 } else { (1 << 20) + 70_000 };
                raw.send(&megabytes[..first]).await;
                raws.push((path, length, raw));
            }
        }
        for (path, length, mut raw) in raws {
            let head = raw.head().await;
            assert!(head.starts_with("HTTP/1.1 413"), "{path}, {length}: {head}");
            // What is left of a body in chunks is waited for a while longer.
            if length.starts_with("Content") {
                let rest = String::from_utf8(raw.rest(Duration::from_secs(8)).await);
                assert!(rest.expect("text").contains("\"too_big\""), "{path}");
            }
        }
        let grown = gateway.resident_bytes().saturating_sub(before);
        assert!(grown < 16 << 20, "{grown} bytes");
        unharmed.after(&gateway).await;
    });
}

/// A batch holds 1,000 items and 1 MiB, and neither one more.
#[test]
fn batches_are_taken_up_to_their_limits() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        let item = "{\"topic\":\"open.a\",\"data\":1}";
        let items = |number: usize| format!("{{\"messages\":[{}]}}", vec![item; number].join(","));
        let lines = |number: usize| format!("{item}\n").repeat(number);
        let many = |number: usize| {
            json!({"messages": [{"topics": vec!["open.a"; number], "data": 1}]}).to_string()
        };
        let padded = |bytes: usize| items(1) + &" ".repeat(bytes - items(1).len());
        for (name, body, results) in [
            ("1,000 items", items(1_000), Some(1_000)),
            ("1,001 items", items(1_001), None),
            ("1,001 lines", lines(1_001), None),
            ("1,000 topics", many(1_000), Some(1_000)),
            ("1,001 topics", many(1_001), None),
            ("1 MiB", padded(1 << 20), Some(1)),
            ("1 MiB and a byte", padded((1 << 20) + 1), None),
        ] {
            let got = post(&gateway, BATCH, body).await;
            match results {
                Some(number) => {
                    assert_eq!(got.status, 200, "{name}");
                    assert_eq!(got.codes(), vec!["ok"; number], "{name}");
                }
                None => assert_eq!((got.status.as_u16(), got.code()), (413, "too_big"), "{name}"),
            }
        }
        let got = post(&gateway, BATCH, lines(1_000)).await;
        let answers = got.body.as_str().expect("lines").lines().count();
        assert_eq!((got.status.as_u16(), answers), (200, 1_000));
        unharmed.after(&gateway).await;
    });
}

/// A batch that cannot be read as a whole is a `bad_message`, and nothing of it is published.
#[test]
fn unreadable_batches_are_refused_whole() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        let mut browser = reader(&gateway).await;
        let good = "{\"topic\":\"open.a\",\"data\":1}";
        let items = [
            "null",
            "1",
            "\"open.a\"",
            "[]",
            "{}",
            "{\"data\":1}",
            "{\"topic\":1,\"data\":1}",
            "{\"topic\":null,\"data\":1}",
            "{\"topic\":[\"open.a\"],\"data\":1}",
            "{\"topics\":\"open.a\",\"data\":1}",
            "{\"topics\":[],\"data\":1}",
            "{\"topics\":[1],\"data\":1}",
            "{\"topics\":null,\"data\":1}",
            "{\"topic\":\"open.a\",\"topics\":[\"open.b\"],\"data\":1}",
            "{\"topic\":\"open.a\",\"topics\":null,\"data\":1}",
            "{\"topic\":null,\"topics\":[\"open.a\"],\"data\":1}",
            "{\"topic\":\"open.a\",\"topic\":\"open.a\",\"data\":1}",
            "{\"topic\":\"open.a\",\"data\":1,\"data\":1}",
            "{\"topic\":\"open.a\",\"data_base64\":1}",
            "{\"topic\":\"open.a\",\"data_base64\":null}",
            "{\"topic\":\"open.a\",\"data\":1,\"data_base64\":null}",
            "{\"topic\":\"open.a\",\"deleted\":1}",
            "{\"topic\":\"open.a\",\"deleted\":\"true\"}",
            "{\"topic\":\"open.a\",\"data\":1,\"deleted\":null}",
            "{\"topic\":\"open.a\",\"data\":1,\"key\":1}",
            "{\"topic\":\"open.a\",\"data\":1,\"key\":null}",
            "{\"topic\":\"open.a\",\"data\":1,}",
            "{\"topic\":\"open.a\",\"data\":01}",
            "{\"topic\":\"open.a\",\"data\":NaN}",
            "{\"topic\":\"open.a\",\"data\":'x'}",
            "{\"topic\":\"open.a\",\"data\":1} {}",
            "{\"topic\":\"open.a\",\"data\":\"a\nb\"}",
            "[\"open.a\",null,1,null,null,null]",
            "{\"topic\":\"open.\\ud800\",\"data\":1}",
        ];
        let mut bodies: Vec<Vec<u8>> = Vec::new();
        for item in items {
            bodies.push(format!("{{\"messages\":[{good},{item},{good}]}}").into());
            if !matches!(item, "{\"topic\":\"open.a\",\"data\":1} {}") {
                bodies.push(format!("{good}\n{item}\n{good}\n").into());
            }
        }
        for body in [
            "",
            " ",
            "\n\n",
            "null",
            "1",
            "[]",
            "{}",
            "{\"messages\":",
            "{\"messages\":null}",
            "{\"messages\":1}",
            "{\"messages\":{}}",
            "{\"messages\":[]",
            "{\"messages\":[],\"messages\":[]}",
            "[[]]",
            "\u{feff}{\"messages\":[]}",
            "{\"message\":[]}",
            "hello",
            "topic=open.a&data=1",
            "{\"messages\":[]}{\"messages\":[]}",
            "{\"messages\":[]}x",
        ] {
            bodies.push(body.into());
        }
        let whole = format!("{{\"messages\":[{good}]}}");
        // One more byte would be a batch.
        bodies.extend(
            (1..whole.len())
                .filter(|end| *end != good.len() || !whole.starts_with(good))
                .map(|end| whole.as_bytes()[..end].into()),
        );
        bodies.push([good.as_bytes(), b"\n\xff"].concat());
        bodies.push(
            [b"{\"messages\":[{\"topic\":\"open.a\",\"data\":\"", &b"\xff\"}]}"[..]].concat(),
        );
        bodies.push([b"\xff\xfe", good.as_bytes()].concat());
        bodies.push([good.as_bytes(), b"\0"].concat());
        assert!(bodies.len() > 100);
        for body in bodies {
            let shown = String::from_utf8_lossy(&body).into_owned();
            let got = post(&gateway, BATCH, body).await;
            assert_eq!(
                (got.status.as_u16(), got.code()),
                (400, "bad_message"),
                "{shown}: {}",
                got.body
            );
        }
        browser.is_quiet().await;
        drop(browser);
        unharmed.after(&gateway).await;
    });
}

/// A batch that can be read answers for each item by itself, and goes on behind one that fails.
#[test]
fn readable_batches_are_answered_item_by_item() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        let mut browser = reader(&gateway).await;
        for (item, code) in [
            (json!({"data": 1}), "ok"),
            (json!({"data": null}), "ok"),
            (json!({"data": "", "x": null, "y": [[[]]]}), "ok"),
            (json!({"data_base64": "eA=="}), "ok"),
            (json!({"deleted": true}), "ok"),
            (json!({"deleted": false}), "bad_message"),
            (json!({}), "bad_message"),
            (json!({"data": 1, "deleted": true}), "bad_message"),
            (json!({"data": 1, "deleted": false}), "bad_message"),
            (json!({"data": 1, "data_base64": "eA=="}), "bad_message"),
            (json!({"data_base64": "eA==", "deleted": true}), "bad_message"),
            (json!({"data_base64": ""}), "bad_message"),
            (json!({"data_base64": "eA"}), "bad_message"),
            (json!({"data_base64": "e A=="}), "bad_message"),
            (json!({"data_base64": "_-8="}), "bad_message"),
            (json!({"data_base64": "eB=="}), "bad_message"),
            (json!({"data_base64": "====",}), "bad_message"),
            (json!({"data": 1, "key": ""}), "bad_message"),
            (json!({"data": 1, "key": "x".repeat(129)}), "bad_message"),
            (json!({"data": 1, "key": "ä"}), "bad_message"),
            (json!({"data": 1, "key": "a\n"}), "bad_message"),
            // Whoever is anonymous has no name that a key could belong to.
            (json!({"data": 1, "key": "k"}), "bad_message"),
        ] {
            let mut item = item;
            item["topic"] = json!("open.a");
            let last = json!({"topic": "open.a", "data": "last"});
            let batch = json!({"messages": [item, last]});
            let got = post(&gateway, BATCH, batch.to_string()).await;
            assert_eq!(got.status, 200, "{item}");
            assert_eq!(got.codes(), [code, "ok"], "{item}");
            if code == "ok" {
                assert_ne!(browser.message().await["data"], "last", "{item}");
            }
            assert_eq!(browser.message().await["data"], "last", "{item}");
            let lines = got_lines(&gateway, &format!("{item}\r\n\r\n{last}")).await;
            assert_eq!(lines, [code, "ok"], "{item}");
            for _ in 0..1 + usize::from(code == "ok") {
                browser.message().await;
            }
        }
        let got = post(&gateway, BATCH, " {\"messages\" : [ ] , \"x\" : 1 } ").await;
        assert_eq!((got.status.as_u16(), &got.body), (200, &json!({"results": []})));
        browser.is_quiet().await;
        drop(browser);
        unharmed.after(&gateway).await;
    });
}

/// The codes of an NDJSON batch.
async fn got_lines(gateway: &Gateway, body: &str) -> Vec<String> {
    let request = gateway.request(Method::POST, BATCH).body(body.to_owned());
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.headers()["content-type"], "application/x-ndjson");
    let text = answer.text().await.expect("text");
    text.lines()
        .map(|line| {
            let line: Value = serde_json::from_str(line).expect("JSON");
            line["code"].as_str().unwrap_or("ok").to_owned()
        })
        .collect()
}

/// Keys are 1 to 128 printable characters of ASCII, in quotes or not, once, and of somebody.
#[test]
fn idempotency_keys_are_read_strictly() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        let token = Gateway::token("ana", &Grants::all(&["open.>"]));
        let (long, longer) = ("x".repeat(128), "x".repeat(129));
        let cases: Vec<(Vec<&[u8]>, bool)> = vec![
            (vec![b"k"], true),
            (vec![b"\"k\""], true),
            (vec![b"a b"], true),
            (vec![b"\"\"\""], true),
            (vec![b"\"k"], true),
            (vec![b"~!@#$%^&*()"], true),
            (vec![long.as_bytes()], true),
            (vec![longer.as_bytes()], false),
            (vec![b""], false),
            (vec![b"\"\""], false),
            (vec![b"a\tb"], false),
            (vec![b"\xc3\xa4"], false),
            (vec![b"\xff"], false),
            (vec![b"k", b"k"], false),
            (vec![b"k", b""], false),
        ];
        for (keys, legal) in cases {
            for method in [Method::POST, Method::DELETE] {
                let path = if method == Method::POST { ONE } else { "/v1/topics/open.a" };
                let mut request = gateway.request(method, path).bearer_auth(&token);
                for key in &keys {
                    let value = reqwest::header::HeaderValue::from_bytes(key).expect("a value");
                    request = request.header("Idempotency-Key", value);
                }
                let got = Got::from(request).await;
                let expected = if legal { (200, "") } else { (400, "bad_message") };
                assert_eq!((got.status.as_u16(), got.code()), expected, "{keys:?}");
            }
        }
        let request = gateway.request(Method::POST, ONE).header("Idempotency-Key", "k");
        let got = Got::from(request.body("1")).await;
        assert_eq!((got.status.as_u16(), got.code()), (400, "bad_message"), "anonymous");
        unharmed.after(&gateway).await;
    });
}

/// `Authorization` is one Bearer, or the request is refused before its body is looked at.
#[test]
fn authorization_is_one_bearer() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        let token = Gateway::token("ana", &Grants::all(&["open.>"]));
        let key = format!("tgk_nobody_{}", "A".repeat(43));
        for (lines, status) in [
            (vec![format!("Bearer {token}")], 200),
            (vec![format!("bearer {token}")], 200),
            (vec![format!("BEARER   {token}")], 200),
            (vec![], 200),
            (vec![String::new()], 401),
            (vec!["Bearer".to_owned()], 401),
            (vec!["Bearer x".to_owned()], 401),
            (vec![token.clone()], 401),
            (vec![format!("Bearer: {token}")], 401),
            (vec![format!("Bearer\t{token}")], 401),
            (vec![format!("Token {token}")], 401),
            (vec![format!("Basic {token}")], 401),
            (vec![format!("Bearer {token} x")], 401),
            (vec![format!("Bearer {token},")], 401),
            (vec![format!("Bearer \"{token}\"")], 401),
            (vec![format!("Bearer {token}"), format!("Bearer {token}")], 401),
            (vec![format!("Bearer {token}"), String::new()], 401),
            (vec![format!("Bearer {key}")], 401),
            (vec![format!("Bearer {}", "x".repeat(9_000))], 401),
        ] {
            for (method, path) in
                [(Method::POST, ONE), (Method::POST, BATCH), (Method::DELETE, "/v1/topics/open.a")]
            {
                let batch = "{\"messages\":[]}";
                let mut request =
                    gateway.request(method, path).body(if path == BATCH { batch } else { "1" });
                for line in &lines {
                    request = request.header("Authorization", line);
                }
                let got = Got::from(request).await;
                assert_eq!(got.status, status, "{path}, {lines:?}: {}", got.body);
                if status == 401 {
                    assert_eq!(got.code(), "unauthenticated", "{lines:?}");
                    assert_eq!(got.header("www-authenticate"), Some("Bearer"));
                    assert!(!got.body.to_string().contains(&token), "{}", got.body);
                }
            }
        }
        // A Token in the query is for WebSockets.
        let got = post(&gateway, &format!("/v1/topics/secret.a/messages?token={token}"), "1").await;
        assert_eq!((got.status.as_u16(), got.code()), (401, "unauthenticated"));
        let request = gateway.request(Method::POST, "/v1/topics/secret.a/messages");
        let got = Got::from(request.bearer_auth(&token).body("1")).await;
        assert_eq!((got.status.as_u16(), got.code()), (403, "forbidden"));
        unharmed.after(&gateway).await;
    });
}

/// Wrong methods are 405 and say which is right; what is no route is 404, reserved ones too.
#[test]
fn wrong_methods_and_routes_are_told_apart() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        let methods =
            ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY", "post"];
        for (path, right) in [
            (ONE, "GET, POST"),
            (BATCH, "POST"),
            ("/v1/topics/open.a", "DELETE"),
            ("/v1/topics/open.a/state", "GET"),
            ("/v1/connect", "GET"),
            ("/v1/events", "GET"),
            ("/v1/topics", "GET"),
            ("/v1/disconnect", "POST"),
        ] {
            let wrong = |method: &&str| !right.split(", ").any(|one| one == *method);
            for method in methods.into_iter().filter(wrong) {
                let method = Method::from_bytes(method.as_bytes()).expect("a method");
                let got = Got::from(gateway.request(method.clone(), path)).await;
                assert_eq!(
                    (got.status.as_u16(), got.code()),
                    (405, "not_found"),
                    "{method} {path}"
                );
                assert_eq!(got.header("allow"), Some(right), "{method} {path}");
            }
        }
        for path in [
            "/",
            "/v1",
            "/v1/",
            "/v2/publish",
            "/V1/publish",
            "/v1/publish/",
            "/v1/Publish",
            "/v1/topics/",
            "/v1/topics/open.a/",
            "/v1/topics/open.a/messages/",
            "/v1/topics/open.a/message",
            "/v1/topics/open.a/messages/x",
            "/v1/topics/open.a/state/",
            "/status",
            "/health/live",
            "/health/ready",
            "/page.js",
            "/dev/info",
            "/dev/cut",
            "/dev/drain",
            "/metrics",
            "/.env",
            "/favicon.ico",
        ] {
            for method in [Method::GET, Method::POST, Method::DELETE] {
                let got = Got::from(gateway.request(method.clone(), path)).await;
                assert_eq!(
                    (got.status.as_u16(), got.code()),
                    (404, "not_found"),
                    "{method} {path}"
                );
                assert_eq!(got.header("content-type"), Some("application/problem+json"));
            }
        }
        unharmed.after(&gateway).await;
    });
}

/// What a publisher writes is what a reader gets, byte for byte but for line ends, and in one line.
#[test]
fn payloads_arrive_as_they_were_written() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        let mut raw = Raw::upgraded(gateway.client).await;
        let subscribe = br#"{"type":"subscribe","topic":"open.>"}"#;
        raw.send(&crate::harness::raw::frame(0x81, subscribe)).await;
        until("it is subscribed", Duration::from_secs(5), || async {
            gateway.count("subscriptions").await == 2
        })
        .await;
        let deep = "[".repeat(30_000) + &"]".repeat(30_000);
        let big = "9".repeat(5_000);
        let data = |text: &str| format!("\"data\":{text}}}");
        let cases: Vec<(&[u8], String)> = vec![
            (
                b"{\r\n  \"a\": 1,\r\n  \"b\": [\n\t2\r]\n}\n",
                data("{    \"a\": 1,    \"b\": [ \t2 ] }"),
            ),
            (b" \t\r\n1.0\n", data("1.0")),
            (b"1e400", data("1e400")),
            (b"-0", data("-0")),
            (b"123456789012345678901234567890.000", data("123456789012345678901234567890.000")),
            (big.as_bytes(), data(&big)),
            (b"\"\\ud800\"", data("\"\\ud800\"")),
            (b"\"\\udc00\\ud800\"", data("\"\\udc00\\ud800\"")),
            (b"\"\\u0000\"", data("\"\\u0000\"")),
            (b"{\"a\":1,\"a\":2}", data("{\"a\":1,\"a\":2}")),
            (deep.as_bytes(), data(&deep)),
            (b"4 2", data("\"4 2\"")),
            (b"01", data("\"01\"")),
            (b"NaN", data("\"NaN\"")),
            (b"\"open", data("\"\\\"open\"")),
            (b"{\"a\":1", data("\"{\\\"a\\\":1\"")),
            (b"a\r\nb", data("\"a\\r\\nb\"")),
            (b" ", data("\" \"")),
            (b"\n", data("\"\\n\"")),
            (b"\0", data("\"\\u0000\"")),
            (b"\"a\nb\"", data("\"\\\"a\\nb\\\"\"")),
            ("\u{feff}1".as_bytes(), data("\"\u{feff}1\"")),
            ("\u{2028}".as_bytes(), data("\"\u{2028}\"")),
            ("{\"ä\":\"𝄞\"}".as_bytes(), data("{\"ä\":\"𝄞\"}")),
            (b"}\r\n{\"type\":\"ping\"}", data("\"}\\r\\n{\\\"type\\\":\\\"ping\\\"}\"")),
            (b"\",\"user\":\"root", data("\"\\\",\\\"user\\\":\\\"root\"")),
            (b"\xff", "\"data_base64\":\"/w==\"}".to_owned()),
            (b"1\xff", "\"data_base64\":\"Mf8=\"}".to_owned()),
            (b"\xed\xa0\x80", "\"data_base64\":\"7aCA\"}".to_owned()),
            (b"", "\"deleted\":true}".to_owned()),
        ];
        let before = gateway.count("deliveries").await;
        let all = before + cases.len() as u64;
        let mut expected = Vec::new();
        for (payload, tail) in cases {
            let got = post(&gateway, ONE, payload.to_vec()).await;
            assert_eq!(got.status, 200);
            expected.push(tail);
        }
        // A goodbye may overtake what comes by the Bus.
        until("all is on its way", Duration::from_secs(10), || async {
            gateway.count("deliveries").await >= all
        })
        .await;
        raw.send(&crate::harness::raw::frame(0x88, &1_000_u16.to_be_bytes())).await;
        let rest = raw.rest(Duration::from_secs(10)).await;
        assert!(!rest.contains(&b'\r') && !rest.windows(2).any(|two| two == b"\n "));
        let mut rest = rest.as_slice();
        for tail in expected {
            let at = rest
                .windows(16)
                .position(|part| part == b"{\"type\":\"message")
                .expect("a message");
            let whole = &rest[at..];
            let end = whole.windows(tail.len()).position(|part| part == tail.as_bytes());
            let end = end.unwrap_or_else(|| panic!("no {}", tail.get(..60).unwrap_or(&tail)));
            let head = String::from_utf8(whole[..end].to_vec()).expect("text");
            assert_eq!(head.matches("\"type\"").count(), 1, "{head}");
            assert!(!head.contains("user"), "{head}");
            rest = &whole[end + tail.len()..];
        }
        drop(raw);
        unharmed.after(&gateway).await;
    });
}

/// Who publishes faster than allowed over HTTP is told when to come back, as a number and as a header,
/// each publisher by its own count.
#[test]
fn rates_over_http_are_per_publisher_and_told() {
    run(async {
        let files = tempfile::tempdir().expect("a folder");
        let key = api_key(&files);
        let mut settings = settings()
            .limit("commands_per_second: 1")
            .limit("commands_burst: 3")
            .limit("key_publishes_per_second: 2");
        settings.auth = Some(vec![
            "issuers: [{algorithm: HS256, key_file: $FOLDER/secret}]".to_owned(),
            format!("api_keys_file: {:?}", files.path().join("keys")),
        ]);
        let gateway = Gateway::start(settings).await;
        let grants = Grants::all(&["open.>"]);
        let tokens = ["ana", "ben"].map(|sub| Gateway::token(sub, &grants));
        for (who, bearer, at_once) in [
            ("ana", Some(&tokens[0]), 3),
            ("ben", Some(&tokens[1]), 3),
            ("a key", Some(&key), 2),
            ("anonymous", None, 2),
        ] {
            let request = |path: &str| {
                let request = gateway.request(Method::POST, path);
                match bearer {
                    Some(bearer) => request.bearer_auth(bearer),
                    None => request,
                }
            };
            let mut refused = None;
            // Some quota comes back meanwhile, but not as much as this.
            for n in 0..200 {
                let got = Got::from(request(ONE).body("1")).await;
                if got.status == 200 {
                    continue;
                }
                assert!(n >= at_once, "{who}: {n}");
                refused = Some(got);
                break;
            }
            let got = refused.expect("a refusal");
            assert_eq!((got.status.as_u16(), got.code()), (429, "rate_limited"), "{who}");
            assert_eq!(got.body["retryable"], true, "{who}");
            let ms = got.body["retry_after_ms"].as_u64().expect("a time");
            assert!((1..=1_000).contains(&ms), "{who}: {ms}");
            assert_eq!(got.header("retry-after"), Some("1"), "{who}");
            // In a batch each Publication counts, and is refused by itself.
            let messages: Vec<Value> =
                (0..200).map(|n| json!({"topic": "open.a", "data": n})).collect();
            let batch = json!({"messages": messages}).to_string();
            let got = Got::from(request(BATCH).body(batch)).await;
            assert_eq!(got.status, 200, "{who}");
            let last = &got.body["results"][199];
            assert_eq!(last["code"], "rate_limited", "{who}: {last}");
            assert!(last["retry_after_ms"].is_u64() && last["retryable"] == true, "{last}");
        }
    });
}

/// A file with one API key, which may publish below `open.`.
fn api_key(folder: &TempDir) -> String {
    let (key, entry) = make_api_key("orders").expect("a key");
    let entry = entry.replace("publish: []", "publish: [\"open.>\"]");
    std::fs::write(folder.path().join("keys"), entry).expect("it is written");
    key
}

/// A Connection that sends too fast is told when to go on; the tenth time within 60 s it is closed,
/// and told when to come back.
#[test]
fn the_tenth_rate_limited_closes_a_connection() {
    run(async {
        let settings = settings().limit("commands_per_second: 1").limit("commands_burst: 5");
        let gateway = Gateway::start(settings).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        for command in [
            json!({"type": "ping"}),
            json!({"type": "subscribe", "topic": "open.a"}),
            json!({"type": "publish", "topic": "open.a", "data": 1}),
            json!({"type": "shout"}),
        ] {
            let mut browser = gateway.browser("").await;
            for _ in 0..40 {
                browser.command(command.clone()).await;
            }
            let mut limited = 0;
            let closed = loop {
                match browser.next_or_close(Duration::from_secs(5)).await {
                    Ok(frame) if frame["code"] == "rate_limited" => {
                        assert!(frame["id"].is_u64() && frame["retryable"] == true, "{frame}");
                        let ms = frame["retry_after_ms"].as_u64().expect("a time");
                        assert!((1..=1_000).contains(&ms), "{frame}");
                        limited += 1;
                    }
                    Ok(_) => {}
                    Err(closed) => break closed,
                }
            };
            assert_eq!(
                (closed.status, closed.code().as_str()),
                (Some(4_429), "rate_limited"),
                "{command}"
            );
            assert!(closed.reason.contains("\"retry\":true") && closed.reason.contains("\"ms\":"));
            assert_eq!(limited, 10, "{command}");
        }
        drop(gateway.status().await);
        unharmed.after(&gateway).await;
    });
}
