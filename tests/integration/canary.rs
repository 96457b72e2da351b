//! What is secret is never repeated: not in a log line, not in an answer, not in a Frame.

use std::fs;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tidegate::auth::{Algorithm, make_api_key};
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::Message;

use crate::harness::gateway::SECRET;
use crate::harness::{Browser, Gateway, Grants, Settings, run, until};
use crate::tokens::{hs, now, quoted};

/// Stands in a claim of each Token.
const CANARY: &str = "canary-7f3a";
/// Any stretch this long, out of a Token's claims or signature, is a leak.
const STRETCH: usize = 12;
/// The node looks at its files every 5 s.
const RELOADED: Duration = Duration::from_secs(12);

/// Texts that must not show up, and what was heard.
struct Cage {
    needles: Vec<String>,
    heard: Vec<(String, String)>,
}

impl Cage {
    /// For these Tokens and other secrets.
    fn of(tokens: &[&str], secrets: &[&str]) -> Self {
        let mut needles = vec![CANARY.to_owned()];
        for token in tokens {
            // The header is that of each Token in the world.
            let rest = token.split_once('.').map_or(*token, |(_, rest)| rest);
            for part in rest.split('.') {
                needles.extend(stretches(part));
            }
        }
        for secret in secrets {
            needles.extend(stretches(secret));
        }
        Self { needles, heard: Vec::new() }
    }

    fn hear(&mut self, where_from: &str, text: impl Into<String>) {
        self.heard.push((where_from.to_owned(), text.into()));
    }

    /// Fails with each place that repeats one of the texts.
    fn is_silent(&self) {
        let mut leaks = Vec::new();
        for (where_from, text) in &self.heard {
            for needle in self.needles.iter().filter(|needle| text.contains(*needle)) {
                leaks.push(format!("{where_from}: {needle} in {text}"));
            }
        }
        assert!(leaks.is_empty(), "{}", leaks.join("\n"));
    }
}

fn stretches(text: &str) -> Vec<String> {
    let whole = text.as_bytes().chunks(STRETCH);
    whole
        .filter(|chunk| chunk.len() == STRETCH)
        .map(|chunk| String::from_utf8_lossy(chunk).into_owned())
        .collect()
}

/// A Token with the canary in it, under this secret.
fn token(secret: &[u8], exp: u64, patterns: &[&str]) -> String {
    let patterns = json!({"publish": patterns, "subscribe": patterns});
    let claims = json!({
        "sub": "ana", "exp": exp, "jti": CANARY, "note": CANARY, "permissions": patterns,
    });
    hs(Algorithm::HS256, secret, &claims.to_string())
}

/// Hears the answer to a request, head and body.
async fn ask(cage: &mut Cage, what: &str, ask: reqwest::RequestBuilder) {
    // A text that is no header never leaves this machine.
    let Ok(answer) = ask.send().await else {
        return;
    };
    let head = format!("{:?} {:?}", answer.status(), answer.headers());
    let body = answer.text().await.unwrap_or_default();
    cage.hear(what, format!("{head} {body}"));
}

/// Hears all that a socket says until it has answered a ping or ends.
async fn listen(cage: &mut Cage, what: &str, browser: &mut Browser) {
    browser.send_raw(Message::text(r#"{"type":"ping","id":"last"}"#)).await;
    loop {
        match browser.next_or_close(crate::harness::SOON).await {
            Ok(mut frame) => {
                // The `id` is the client's own, and comes back by law.
                let id = frame["id"].take();
                cage.hear(what, frame.to_string());
                if id == "last" {
                    return;
                }
            }
            Err(closed) => return cage.hear(what, format!("{closed:?}")),
        }
    }
}

/// Hears a handshake, refused or not, and what comes behind it.
async fn dial(cage: &mut Cage, gateway: &Gateway, query: &str, headers: &[(&str, &str)]) {
    let what = format!("a handshake with {query:.30} {:?}", headers.first().map(|one| one.0));
    match Browser::dial(gateway.client, query, headers).await {
        Ok(mut browser) => {
            cage.hear(&what, format!("{:?}", browser.handshake.headers()));
            listen(cage, &what, &mut browser).await;
        }
        Err(Error::Http(answer)) => {
            let body = String::from_utf8_lossy(answer.body().as_deref().unwrap_or_default());
            cage.hear(&what, format!("{:?} {body}", answer.headers()));
        }
        Err(fault) => panic!("{what}: {fault}"),
    }
}

/// Each way in over HTTP, the right ones and the wrong ones.
async fn over_http(cage: &mut Cage, gateway: &Gateway, token: &str) {
    let routes = [
        (Method::POST, "/v1/topics/t.x/messages"),
        (Method::DELETE, "/v1/topics/t.x"),
        (Method::POST, "/v1/publish"),
        (Method::GET, "/v1/connect"),
        (Method::GET, "/v1/events"),
        (Method::PUT, "/v1/publish"),
        (Method::OPTIONS, "/v1/publish"),
    ];
    for (method, path) in routes {
        let request = || gateway.request(method.clone(), path).body("{}");
        for value in [
            format!("Bearer {token}"),
            format!("bearer  {token} x"),
            format!("Basic {token}"),
            token.to_owned(),
        ] {
            ask(cage, path, request().header("Authorization", value)).await;
        }
        let twice = request().bearer_auth(token).bearer_auth(token);
        ask(cage, path, twice).await;
        for name in [
            "Idempotency-Key",
            "Origin",
            "User-Agent",
            "Cookie",
            "traceparent",
            "Content-Type",
            "Last-Event-ID",
            "Access-Control-Request-Headers",
            "X-API-Key",
            "Upgrade",
        ] {
            ask(cage, path, request().header(name, token)).await;
            let beside = request().bearer_auth(token).header(name, format!("\"{token}\""));
            ask(cage, path, beside).await;
        }
        for query in ["token", "from", "client", "heartbeat", "x"] {
            let path = format!("{path}?{query}={}", quoted(token));
            ask(cage, &path[..30.min(path.len())], gateway.request(method.clone(), &path)).await;
        }
    }
    for body in [
        token.to_owned(),
        json!(token).to_string(),
        json!({ token: token }).to_string(),
        json!({"messages": token}).to_string(),
        json!({"messages": [token]}).to_string(),
        json!({"messages": [{"topic": "t.x", "data_base64": token}]}).to_string(),
        json!({"messages": [{"topic": "t.x", "data": 1, "key": token}]}).to_string(),
        json!({"messages": [{"topic": "t.x", "deleted": token}]}).to_string(),
        json!({"topic": 7, "data": token}).to_string(),
        json!({"topic": "t.x", "data": token}).to_string(),
    ] {
        for bearer in ["", token] {
            let request = gateway.request(Method::POST, "/v1/publish").bearer_auth(bearer);
            ask(cage, "a batch", request.body(body.clone())).await;
        }
    }
}

/// Each way in on a socket, and each field of each Command where a Token does not belong.
async fn over_sockets(cage: &mut Cage, gateway: &Gateway, token: &str) {
    let bearer = format!("Bearer {token}");
    let basic = format!("Basic {token}");
    let protocols = format!("tidegate.v1.json, bearer.{token}");
    let alone = format!("bearer.{token}");
    for name in ["token", "topic", "from", "client", "heartbeat", "cursor", "last", "since", "x"] {
        if name != "topic" {
            dial(cage, gateway, &format!("{name}={}", quoted(token)), &[]).await;
        }
    }
    for header in [
        ("Authorization", bearer.as_str()),
        ("Authorization", &basic),
        ("Authorization", token),
        ("Sec-WebSocket-Protocol", &protocols),
        ("Sec-WebSocket-Protocol", &alone),
        ("Sec-WebSocket-Protocol", token),
        ("Sec-WebSocket-Extensions", token),
        ("Origin", token),
        ("User-Agent", token),
        ("Cookie", &bearer),
    ] {
        dial(cage, gateway, "topic=open.x", &[header]).await;
    }
    let mut commands: Vec<Value> = vec![
        json!({"type": "connect", "token": token}),
        json!({"type": "connect", "token": [token]}),
        json!({"type": "connect", "token": {"token": token}}),
        json!({"type": "token", "token": token}),
        json!({"type": token}),
        json!({"type": token, "token": token}),
        json!({ token: token }),
        json!([token]),
        json!(token),
    ];
    for field in [
        "id",
        "client",
        "heartbeat",
        "from",
        "topics",
        "max_hz",
        "data_base64",
        "deleted",
        "key",
        "x",
    ] {
        for kind in ["connect", "subscribe", "publish", "token", "ping"] {
            let mut command = json!({"type": kind, "topic": "open.x"});
            command[field] = json!(token);
            commands.push(command);
            let entry = json!({"type": "subscribe", "topics": [{"topic": "open.x", field: token}]});
            commands.push(entry);
        }
    }
    for command in commands {
        let what = command.to_string().chars().take(60).collect::<String>();
        for query in ["", "topic=open.y"] {
            let mut browser = gateway.browser(query).await;
            browser.send(command.clone()).await;
            listen(cage, &what, &mut browser).await;
        }
    }
    for text in [format!("{token}}}"), format!("{{\"type\":\"connect\",\"token\":\"{token}")] {
        let mut browser = gateway.browser("").await;
        browser.send_raw(Message::text(text)).await;
        listen(cage, "no JSON", &mut browser).await;
    }
    // Its own Topic a client may hear again; the log may not.
    let mut browser = gateway.browser(&format!("topic={}", quoted(token))).await;
    for kind in ["subscribe", "unsubscribe", "publish"] {
        let command = json!({"type": kind, "topic": token, "data": 1});
        browser.ask(command).await;
    }
    let path = format!("/v1/topics/{}/messages", quoted(token));
    for query in ["", "?token=x"] {
        let request = gateway.request(Method::POST, &format!("{path}{query}"));
        request.send().await.unwrap();
    }
    drop(browser);
}

/// A Token, good, late, forged or cut, handed in by every right and wrong way: nothing of it but the
/// client's own Topics comes back, and nothing at all is logged, at level `debug`. Neither are the
/// secret and the API keys, whatever stands in the files when they are read again.
#[test]
fn no_secret_is_ever_repeated() {
    run(async {
        let folder = tempfile::tempdir().unwrap();
        let [first, second] = ["first", "second"].map(|name| folder.path().join(name));
        let keys = folder.path().join("keys.yaml");
        let forger = b"a secret that no gateway has ever heard of";
        let next = b"another secret of the tests, of 32 bytes or more";
        fs::write(&first, SECRET).unwrap();
        fs::write(&second, SECRET).unwrap();
        let (key, entry) = make_api_key("orders").unwrap();
        let (pasted, _) = make_api_key("orders").unwrap();
        fs::write(&keys, entry.replace("publish: []", "publish: [\"t.>\"]")).unwrap();
        let gateway = Gateway::start(Settings {
            anonymous: Grants::all(&["open.>"]),
            auth: Some(vec![
                "issuers:".to_owned(),
                format!("  - {{algorithm: HS256, key_file: {first:?}}}"),
                format!("  - {{issuer: two, algorithm: HS256, key_file: {second:?}}}"),
                format!("api_keys_file: {keys:?}"),
            ]),
            ..Settings::default()
        })
        .await;
        let good = token(SECRET, now() + 3_600, &["t.>", "open.>"]);
        let late = token(SECRET, now() - 3_600, &["t.>"]);
        let forged = token(forger, now() + 3_600, &["t.>"]);
        let wrong = token(SECRET, now() + 3_600, &["t.>.x"]);
        let cut = &good[..good.len() - 20];
        let secrets = [SECRET, next].map(|one| str::from_utf8(one).unwrap());
        let [secret, next] = secrets;
        let mut cage =
            Cage::of(&[&good, &late, &forged, &wrong], &[secret, next, &key[11..], &pasted[11..]]);
        for token in [&good, &late, &forged, &wrong, cut, &key, CANARY] {
            over_http(&mut cage, &gateway, token).await;
            over_sockets(&mut cage, &gateway, token).await;
        }

        // Files that hold what they should not: a key for its hash, a secret without its end.
        let slip =
            format!("- {{name: orders, sha256: {pasted}, publish: [{pasted}]}}\n{pasted}: [");
        fs::write(&keys, slip).unwrap();
        fs::write(&second, &secret[..24]).unwrap();
        fs::write(&first, next).unwrap();
        let claims = json!({"sub": "ana", "exp": now() + 3_600}).to_string();
        let renewed = hs(Algorithm::HS256, next.as_bytes(), &claims);
        until("the files were read again", RELOADED, || async {
            let mut browser = gateway.browser(&format!("token={renewed}")).await;
            browser.next_or_close(crate::harness::SOON).await.is_ok()
        })
        .await;
        assert!(cage.heard.len() > 2_000, "{}", cage.heard.len());
        let log = gateway.log();
        assert!(log.lines().count() > 1_000, "{}", log.lines().count());
        for line in log.lines() {
            cage.hear("the log", line);
        }
        cage.is_silent();
    });
}
