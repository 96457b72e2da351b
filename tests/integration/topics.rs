//! Names: what is a Topic arrives under exactly that name, whichever way it was published, and what is
//! none is refused whichever way it comes.

use std::fmt::Write as _;

use reqwest::Method;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::Message;

use crate::harness::raw::Raw;
use crate::harness::{Browser, Gateway, Grants, Settings, run, soon};
use crate::unharmed::Unharmed;

pub(crate) fn settings() -> Settings {
    let mut settings = Settings::open()
        .limit("commands_per_second: 10000")
        .limit("commands_burst: 10000")
        .limit("subscriptions: 1000")
        .limit("url_bytes: 64KiB");
    settings.anonymous = Grants::all(&[">"]);
    settings
}

/// So many segments.
fn segments(number: usize) -> String {
    vec!["open"; number].join(".")
}

/// A Topic of exactly so many bytes, in segments of at most 64.
fn long(bytes: usize) -> String {
    let mut text = "open".to_owned();
    while text.len() < bytes {
        let segment = (bytes - text.len() - 1).min(60);
        // Never leave room for a dot alone.
        let segment = if bytes - text.len() - 1 - segment == 1 { segment - 1 } else { segment };
        text = format!("{text}.{}", "x".repeat(segment));
    }
    text
}

pub(crate) fn legal_topics() -> Vec<String> {
    let mut topics: Vec<String> = [
        "open.a",
        "open.A",
        "open.0",
        "open.a.b.c",
        "open.a-b",
        "open.a_b",
        "open._x",
        "open.a.__",
        "open.a=b",
        "open.a:b",
        "open.a@b",
        "open.~a",
        "open.a,b",
        "open.a!",
        "open.-",
        "open.=",
        "open.:",
        "open.@",
        "open.~",
        "open.,",
        "open.!",
        "open.~.~",
        "open.true",
        "open.null",
        "open.0x0",
        "open.-1",
        "open.1e9",
        "open.messages",
        "open.state",
        "open.__proto__",
        "open.constructor",
        "open.CON",
        "open._INBOX",
        "open.JS.API",
        "a",
        "Z",
        "9",
        "-",
        "=",
        ":",
        "~a.b",
        "@a",
        "!",
        ",",
        "open.a@b.c:d=e,f!g~h",
        "messages",
        "publish",
        "connect",
    ]
    .map(str::to_owned)
    .into();
    topics.extend([
        format!("open.{}", "x".repeat(63)),
        format!("open.{}", "x".repeat(64)),
        "x".repeat(64),
        segments(15),
        segments(16),
        vec!["o"; 16].join("."),
        long(199),
        long(200),
    ]);
    topics
}

pub(crate) fn illegal_topics() -> Vec<String> {
    let mut topics: Vec<String> = [
        // Wildcards.
        "*",
        ">",
        "**",
        "open.*",
        "open.>",
        "open.**",
        "*.open",
        ">.open",
        "open.*.a",
        "open.>.a",
        "open.**.a",
        "open.a*",
        "open.*a",
        "open.a>",
        "open.>a",
        "open.***",
        "open.*>",
        "open.+",
        "open.#",
        "+",
        "#",
        "open.+.a",
        "open.?",
        "open.[a]",
        "open.{a}",
        // Dots.
        ".",
        "..",
        "...",
        ".open",
        "open.",
        "open..a",
        ".open.a",
        "open.a.",
        "open.a..",
        "..open",
        // Reserved.
        "_x",
        "_",
        "__",
        "_INBOX.>",
        "_INBOX.a",
        "_tidegate.a",
        "$SYS",
        "$SYS.>",
        "$SYS.ACCOUNT.a",
        "$JS.API.STREAM.LIST",
        "$KV.a",
        "$G",
        "open.$a",
        // White space and controls.
        " ",
        "open. ",
        " open.a",
        "open.a ",
        "open.a b",
        "open.\ta",
        "open.a\t",
        "open.a\n",
        "open.a\r\n",
        "open.a\r\nPUB x 1\r\n",
        "open.\0",
        "\0",
        "open.a\0b",
        "open.\u{1}",
        "open.\u{1b}[31m",
        "open.\u{7f}",
        "open.\u{b}",
        "open.\u{c}",
        "open.\u{85}",
        // Separators of others.
        "open/a",
        "/",
        "open.a/b",
        "../open",
        "open.a/../b",
        "open\\a",
        "open.a;b",
        "open.a&b",
        "open.a|b",
        "open.a'b",
        "open.a\"b",
        "open.a`b",
        "open.(a)",
        "open.a^b",
        "open.a%b",
        "open%2ea",
        "open.<a",
        "open.a%00",
        // Unicode.
        "open.ä",
        "open.a\u{308}",
        "open.\u{430}",
        "open.\u{ff41}",
        "open\u{ff0e}a",
        "open\u{3002}a",
        "open.\u{2024}a",
        "open.\u{200b}a",
        "open.\u{feff}a",
        "\u{feff}open.a",
        "open.\u{202e}a",
        "open.\u{a0}",
        "open.\u{2028}a",
        "open.\u{2029}",
        "open.\u{ad}a",
        "open.\u{fb01}",
        "open.\u{212a}",
        "open.\u{17f}",
        "open.\u{2217}",
        "open.\u{ff1e}",
        "open.日本",
        "open.𝄞",
        "open.👍",
        "\u{fffd}",
        "open.\u{10ffff}",
    ]
    .map(str::to_owned)
    .into();
    topics.extend([
        format!("open.{}", "x".repeat(65)),
        "x".repeat(65),
        "x".repeat(200),
        segments(17),
        vec!["o"; 17].join("."),
        vec!["o"; 100].join("."),
        long(201),
        long(4_096),
        ".".repeat(200),
        ".".repeat(201),
        "ä".repeat(100),
        format!("open.{}", "é".repeat(33)),
    ]);
    topics
}

/// Every byte that is not a letter or digit, percent-encoded.
pub(crate) fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

/// One request on a connection of its own, as it stands: status and body.
pub(crate) async fn raw(gateway: &Gateway, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut raw = Raw::connect(gateway.client).await;
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: g\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    raw.send(format!("{head}{body}").as_bytes()).await;
    let rest = soon("an answer", raw.rest(crate::harness::SOON)).await;
    let text = String::from_utf8(rest).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let status = head.get(9..12).and_then(|text| text.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or_default())
}

/// The codes that a text gets by each of the ways to publish, `ok` if it is taken.
pub(crate) async fn published(
    gateway: &Gateway,
    publisher: &mut Browser,
    text: &str,
) -> [String; 4] {
    let word = |answer: &Value| answer["code"].as_str().unwrap_or("ok").to_owned();
    let path = format!("/v1/topics/{}", encoded(text));
    let (status, posted) = raw(gateway, "POST", &format!("{path}/messages"), "1").await;
    assert!(matches!(status, 200 | 400), "{text:?}: {status}");
    let (status, deleted) = raw(gateway, "DELETE", &path, "").await;
    assert!(matches!(status, 200 | 400), "{text:?}: {status}");
    let batch = json!({"messages": [{"topic": text, "data": 3}]}).to_string();
    let batch = gateway.request(Method::POST, "/v1/publish").body(batch).send().await;
    let batch: Value = batch.expect("an answer").json().await.expect("JSON");
    assert_eq!(batch["results"][0]["topic"], text);
    let reply = publisher.ask(json!({"type": "publish", "topic": text, "data": 4})).await;
    for answer in [&posted, &deleted, &reply] {
        if word(answer) == "ok" {
            assert_eq!(answer["topic"], text, "{answer}");
        }
    }
    [&posted, &deleted, &batch["results"][0], &reply].map(word)
}

/// Each legal name arrives four times under itself, at an exact Subscription and at wildcards.
#[test]
pub(crate) fn legal_topics_arrive_under_their_name() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        let (mut publisher, mut exact) = (gateway.browser("").await, gateway.browser("").await);
        let mut wild = gateway.browser("").await;
        wild.subscribe("open.>").await;
        wild.subscribe("open.*").await;
        for topic in legal_topics() {
            exact.subscribe(&topic).await;
            let codes = published(&gateway, &mut publisher, &topic).await;
            assert_eq!(codes, ["ok"; 4], "{topic}");
            let is_wild = topic.starts_with("open.");
            for browser in [&mut exact, &mut wild].into_iter().take(1 + usize::from(is_wild)) {
                for payload in [json!(1), Value::Null, json!(3), json!(4)] {
                    let message = browser.message().await;
                    assert_eq!(message["topic"], topic);
                    assert_eq!(message["data"], payload);
                    assert_eq!(
                        message["deleted"],
                        if payload.is_null() { json!(true) } else { Value::Null }
                    );
                }
            }
        }
        exact.is_quiet().await;
        wild.is_quiet().await;
        drop((publisher, exact, wild));
        unharmed.after(&gateway).await;
    });
}

/// Each illegal name is `invalid_topic` by all four ways, and nobody hears of it.
#[test]
pub(crate) fn illegal_topics_are_refused_by_every_way() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        let (mut publisher, mut spy) = (gateway.browser("").await, gateway.browser("").await);
        for pattern in ["open.>", "x.>", "o.>", "open", "x"] {
            spy.subscribe(pattern).await;
        }
        let topics = illegal_topics();
        assert!(topics.len() + legal_topics().len() >= 120, "too few");
        for topic in topics {
            let codes = published(&gateway, &mut publisher, &topic).await;
            assert_eq!(codes, ["invalid_topic"; 4], "{topic:?}");
        }
        // No segment at all is no route.
        assert_eq!(raw(&gateway, "POST", "/v1/topics//messages", "1").await.0, 404);
        assert_eq!(raw(&gateway, "DELETE", "/v1/topics/", "").await.0, 404);
        let reply = publisher.ask(json!({"type": "publish", "topic": "", "data": 1})).await;
        assert_eq!(reply["code"], "invalid_topic");
        // Longer than any other way can carry it.
        let (status, problem) =
            raw(&gateway, "DELETE", &format!("/v1/topics/{}", long(60_000)), "").await;
        assert_eq!((status, &problem["code"]), (400, &json!("invalid_topic")));
        let reply =
            publisher.ask(json!({"type": "publish", "topic": long(60_000), "data": 1})).await;
        assert_eq!(reply["code"], "invalid_topic");
        spy.is_quiet().await;
        drop((publisher, spy));
        unharmed.after(&gateway).await;
    });
}

/// In a URL, a Topic is percent-decoded once and then checked; what is no URL is a bare 400.
#[test]
fn urls_are_decoded_once() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        let mut reader = gateway.browser("").await;
        reader.subscribe("open.>").await;
        for (written, topic) in [
            ("open.a", "open.a"),
            ("open%2ea", "open.a"),
            ("open%2Ea", "open.a"),
            ("%6f%70%65%6e%2e%61", "open.a"),
            ("open.a%40b", "open.a@b"),
            ("open.a@b:c=d,e!f~g", "open.a@b:c=d,e!f~g"),
            ("open.%7E", "open.~"),
        ] {
            for (method, tail) in [
                ("POST", "/messages"),
                ("DELETE", ""),
                ("POST", "/messages?x=open.b&y"),
                ("DELETE", "?"),
            ] {
                let (status, answer) =
                    raw(&gateway, method, &format!("/v1/topics/{written}{tail}"), "").await;
                assert_eq!((status, &answer["topic"]), (200, &json!(topic)), "{written}");
                assert_eq!(reader.message().await["topic"], topic, "{written}");
            }
        }
        let invalid = Some("invalid_topic");
        for (written, status, code) in [
            ("open%252ea", 400, invalid),
            ("open%252Ea", 400, invalid),
            ("open%25252ea", 400, invalid),
            ("open%2Fa", 400, invalid),
            ("open%2fa", 400, invalid),
            ("%2e%2e", 400, invalid),
            ("..", 400, invalid),
            (".", 400, invalid),
            ("open.%2A", 400, invalid),
            ("open.**", 400, invalid),
            ("open.%3E", 400, invalid),
            ("open.%2B", 400, invalid),
            ("open.+", 400, invalid),
            ("open.%00", 400, invalid),
            ("open.%0d%0aX:%20y", 400, invalid),
            ("open.%0A", 400, invalid),
            ("open.%ff", 400, invalid),
            ("open.%c0%ae", 400, invalid),
            ("open.%ed%a0%80", 400, invalid),
            ("open.%C3%A4", 400, invalid),
            ("open.%EF%BC%8E", 400, invalid),
            ("open.%", 400, invalid),
            ("open.%zz", 400, invalid),
            ("open.%4", 400, invalid),
            ("open.%u0041", 400, invalid),
            ("open.a;v=1", 400, invalid),
            ("open.a%3Fx", 400, invalid),
            ("open.a%23x", 400, invalid),
            ("open.$a", 400, invalid),
            ("open.a&b", 400, invalid),
            ("%24SYS", 400, invalid),
            ("_INBOX.a", 400, invalid),
            ("%5FINBOX.a", 400, invalid),
            ("open.>", 400, None),
            ("open.<", 400, None),
            ("open.\"", 400, invalid),
            ("open.{a}", 400, invalid),
            ("open.\\", 400, invalid),
            ("open.^", 400, invalid),
            ("open.`", 400, None),
            ("open.|", 400, invalid),
            ("open.ä", 400, None),
            ("open.a b", 400, None),
            ("open.\u{7f}", 400, None),
            ("open.\t", 400, None),
            ("open/a", 404, Some("not_found")),
            ("", 404, Some("not_found")),
        ] {
            let path = format!("/v1/topics/{written}/messages");
            let (got, problem) = raw(&gateway, "POST", &path, "1").await;
            assert_eq!((got, problem["code"].as_str()), (status, code), "{written}: {problem}");
        }
        reader.is_quiet().await;
        drop(reader);
        unharmed.after(&gateway).await;
    });
}

/// What may be subscribed to, by Command and in the handshake's query, is answered in the spelling
/// with `>`; all else is `invalid_topic` and the Connection goes on.
#[test]
fn patterns_are_taken_in_both_spellings_or_refused() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        let wild = |text: &str, number: usize| format!("{}.{text}", segments(number));
        let mut cases: Vec<(String, Option<String>)> = [
            ("open", Some("open")),
            ("open.a", Some("open.a")),
            ("open.>", Some("open.>")),
            ("open.**", Some("open.>")),
            ("open.*", Some("open.*")),
            ("open.*.*", Some("open.*.*")),
            ("open.*.>", Some("open.*.>")),
            ("open.*.**", Some("open.*.>")),
            ("open.*.a", Some("open.*.a")),
            ("open.a.*", Some("open.a.*")),
            ("open._x.>", Some("open._x.>")),
            ("a", Some("a")),
            (">", None),
            ("**", None),
            ("*", None),
            ("*.a", None),
            ("*.>", None),
            (">.a", None),
            ("**.a", None),
            ("open.>.a", None),
            ("open.**.a", None),
            ("open.>.>", None),
            ("open.**.**", None),
            ("open.a*", None),
            ("open.*a", None),
            ("open.a>", None),
            ("open.>a", None),
            ("open.***", None),
            ("open.*>", None),
            ("open.a**", None),
            ("open.+", None),
            ("open.#", None),
            ("open.", None),
            (".open", None),
            ("open..>", None),
            ("", None),
            (".", None),
            (".>", None),
            ("open. >", None),
            ("open.> ", None),
            ("_x.>", None),
            ("_INBOX.>", None),
            ("$SYS.>", None),
            ("$JS.API.>", None),
            ("open.$a", None),
            ("open.\0", None),
            ("open.a\r\n", None),
            ("open.ä", None),
            ("open.\u{ff1e}", None),
            ("open.\u{2217}", None),
            ("open.%3E", None),
            ("open/>", None),
            ("open.a,b", Some("open.a,b")),
        ]
        .map(|(text, is)| (text.to_owned(), is.map(str::to_owned)))
        .into();
        cases.extend([
            (wild("**", 15), Some(wild(">", 15))),
            (wild("*", 15), Some(wild("*", 15))),
            (wild("**", 16), None),
            (wild("*", 16), None),
            // The 200 bytes are counted as written.
            (long(198) + ".>", Some(long(198) + ".>")),
            (long(197) + ".**", Some(long(197) + ".>")),
            (long(198) + ".**", None),
            (long(199) + ".>", None),
            (long(4_096), None),
            (format!("open.{}", "x".repeat(65)), None),
        ]);
        let mut one = gateway.browser("").await;
        for (text, canonical) in &cases {
            let reply = one.ask(json!({"type": "subscribe", "topic": text})).await;
            let query = gateway.browser(&format!("topic={}", encoded(text))).await;
            let by_query = async |mut browser: Browser| {
                assert_eq!(browser.next().await["type"], "connected");
                browser.next().await
            };
            for reply in [reply, by_query(query).await] {
                match canonical {
                    Some(canonical) => {
                        assert_eq!(reply["type"], "subscribed", "{text:?}: {reply}");
                        assert_eq!(reply["topic"], *canonical, "{reply}");
                    }
                    None => {
                        assert_eq!(reply["code"], "invalid_topic", "{text:?}: {reply}");
                        // As it was written, cut to the length of a legal one.
                        let cut: String = text.chars().take(200).collect();
                        assert_eq!(reply["topic"], cut, "{reply}");
                    }
                }
            }
            let gone = one.ask(json!({"type": "unsubscribe", "topic": text})).await;
            let expected = if canonical.is_some() { "unsubscribed" } else { "error" };
            assert_eq!(gone["type"], expected, "{text:?}: {gone}");
        }
        // The same all at once: each entry refuses itself alone.
        let topics: Vec<Value> = cases.iter().map(|(text, _)| json!({"topic": text})).collect();
        let id = one.command(json!({"type": "subscribe", "topics": topics})).await;
        let mut refused = 0;
        let mut taken = 0;
        for _ in &cases {
            let reply = one.next().await;
            assert_eq!(reply["id"], json!(id));
            match reply["code"].as_str() {
                Some("invalid_topic") => refused += 1,
                // Two cases are the two spellings of one Pattern.
                Some("already_subscribed") | None => taken += 1,
                Some(_) => panic!("{reply}"),
            }
        }
        let legal = cases.iter().filter(|(_, canonical)| canonical.is_some()).count();
        assert_eq!((taken, refused), (legal, cases.len() - legal));
        drop(one);
        unharmed.after(&gateway).await;
    });
}

/// A Topic of another type, or twice, is a `bad_message`, and never half a Topic.
#[test]
fn a_topic_is_one_text() {
    run(async {
        let gateway = Gateway::start(settings().limit("bad_messages: 1000")).await;
        let mut unharmed = Unharmed::before(&gateway).await;
        let mut browser = gateway.browser("").await;
        for topic in [
            "null",
            "1",
            "true",
            "[]",
            "{}",
            "[\"open.a\"]",
            "{\"topic\":\"open.a\"}",
            "\"open.a\",\"topic\":\"open.b\"",
            "\"open.\\ud800\"",
            "open.a",
            "'open.a'",
            "\"open.a",
        ] {
            for kind in ["publish", "subscribe", "unsubscribe"] {
                let text = format!("{{\"type\":\"{kind}\",\"data\":1,\"topic\":{topic}}}");
                browser.send_raw(Message::text(text)).await;
                let mut reply = browser.next().await;
                if reply["type"] == "connected" {
                    reply = browser.next().await;
                }
                assert_eq!(reply["code"], "bad_message", "{topic}: {reply}");
            }
        }
        drop(browser);
        unharmed.after(&gateway).await;
    });
}

/// A page cannot forge what others hear: escapes in a Topic's JSON are read, then checked.
#[test]
fn escapes_are_read_before_the_check() {
    run(async {
        let gateway = Gateway::start(settings()).await;
        let mut browser = gateway.browser("").await;
        browser.subscribe("open.>").await;
        for (topic, legal) in [
            ("open\\u002ea", true),
            ("\\u006fpen.a", true),
            ("open.\\u003e", false),
            ("open.\\u0000", false),
            ("open.\\r\\n", false),
            ("open\\/a", false),
        ] {
            let text = format!("{{\"type\":\"publish\",\"data\":1,\"topic\":\"{topic}\"}}");
            browser.send_raw(Message::text(text)).await;
            let frames =
                [browser.next().await, if legal { browser.next().await } else { Value::Null }];
            if legal {
                assert!(frames.iter().all(|frame| frame["topic"] == "open.a"), "{frames:?}");
            } else {
                assert_eq!(frames[0]["code"], "invalid_topic", "{frames:?}");
            }
        }
        browser.is_quiet().await;
    });
}
