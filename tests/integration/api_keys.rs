//! API keys: made by the command line, listed in a file, shown in one header.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate::auth::Algorithm;

use crate::harness::{Browser, Gateway, Grants, SOON, Settings, run, until};
use crate::tokens::{hs, now};

/// The node looks at its files every 5 s.
const RELOADED: Duration = Duration::from_secs(12);

/// A key, and its entry for the file.
struct Made {
    key: String,
    entry: String,
}

/// Makes a key as an operator does.
fn make(name: &str, verb: &str, patterns: &[&str]) -> Made {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(["token", "--json", "--api-key", name]);
    for pattern in patterns {
        command.args([verb, pattern]);
    }
    let output = command.env_remove("TIDEGATE_CONFIG").output().expect("it runs");
    assert!(output.status.success(), "{output:?}");
    let made: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let field = |name: &str| made[name].as_str().expect("a text").to_owned();
    Made { key: field("key"), entry: field("entry") }
}

/// A gateway with a file of API keys, and a stranger who sees all of `orders.` and `open.`.
struct Shop {
    gateway: Gateway,
    file: PathBuf,
    spy: Browser,
    _folder: TempDir,
}

impl Shop {
    async fn open(entries: &[&Made]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.yaml");
        write(&file, entries);
        let gateway = Gateway::start(Settings {
            anonymous: Grants {
                subscribe: vec!["orders.>".to_owned(), "open.>".to_owned()],
                publish: vec!["open.>".to_owned()],
                ..Grants::default()
            },
            auth: Some(vec![
                "issuers: [{algorithm: HS256, key_file: \"$FOLDER/secret\"}]".to_owned(),
                format!("api_keys_file: {file:?}"),
            ]),
            ..Settings::default()
        })
        .await;
        let mut spy = gateway.browser("topic=orders.**&topic=open.**").await;
        for _ in 0..3 {
            spy.next().await;
        }
        Self { gateway, file, spy, _folder: folder }
    }

    /// Publishes with this in `Authorization`; the status, and the code of a refusal.
    async fn publish(&self, bearer: &str, topic: &str) -> (u16, String) {
        let path = format!("/v1/topics/{topic}/messages");
        let ask = self.gateway.request(Method::POST, &path);
        let answer = ask.bearer_auth(bearer).body("1").send().await.unwrap();
        let status = answer.status().as_u16();
        let body: Value = answer.json().await.unwrap();
        (status, body["code"].as_str().unwrap_or("ok").to_owned())
    }

    async fn until_good(&self, key: &str) {
        until("the key counts", RELOADED, || async { self.publish(key, "open.x").await.0 != 401 })
            .await;
    }
}

fn write(file: &PathBuf, entries: &[&Made]) {
    let lines: Vec<_> = entries.iter().map(|made| made.entry.as_str()).collect();
    let text = if lines.is_empty() { "[]".to_owned() } else { lines.join("\n") };
    fs::write(file, text + "\n").unwrap();
}

fn refused() -> (u16, String) {
    (401, "unauthenticated".to_owned())
}

/// A key as `tidegate token` makes it publishes where its entry allows, by every route, and nowhere
/// else; what it publishes has no `user`.
#[test]
fn a_key_publishes_what_its_entry_allows() {
    run(async {
        let made = make("orders", "--publish", &["orders.>"]);
        assert!(made.key.starts_with("tgk_orders_"));
        assert!(!made.entry.contains(&made.key));
        let mut shop = Shop::open(&[&made]).await;
        let ask = |method, path| shop.gateway.request(method, path).bearer_auth(&made.key);
        let items = r#"{"messages":[{"topic":"orders.a","data":1},{"topic":"open.a","data":2},{"topic":"orders","data":3}]}"#;
        let batch = ask(Method::POST, "/v1/publish").body(items).send();
        let batch: Value = batch.await.unwrap().json().await.unwrap();
        let codes: Vec<_> =
            batch["results"].as_array().unwrap().iter().map(|one| &one["code"]).collect();
        assert_eq!(codes, [&json!(null), &json!("forbidden"), &json!("forbidden")]);
        assert_eq!(batch["results"][1]["message"], "no Grant to publish covers open.a");
        let one = ask(Method::POST, "/v1/topics/orders.b/messages").body("4").send();
        assert_eq!(one.await.unwrap().status(), 200);
        let gone = ask(Method::DELETE, "/v1/topics/orders.c").send();
        assert_eq!(gone.await.unwrap().status(), 200);
        let lower = shop
            .gateway
            .request(Method::DELETE, "/v1/topics/orders.d")
            .header("Authorization", format!("bearer  {} ", made.key))
            .send();
        assert_eq!(lower.await.unwrap().status(), 200);
        for topic in ["orders.a", "orders.b", "orders.c", "orders.d"] {
            let message = shop.spy.message().await;
            assert_eq!(message["topic"], topic);
            assert!(message.get("user").is_none(), "{message}");
        }
        assert_eq!(shop.publish(&made.key, "open.x").await, (403, "forbidden".to_owned()));
        shop.spy.is_quiet().await;
    });
}

/// What is not exactly a key of the file is refused, even where a stranger could publish.
#[test]
fn what_is_nearly_a_key_is_none() {
    run(async {
        let made = make("orders", "--publish", &["**"]);
        let stranger = make("orders", "--publish", &["**"]);
        let mut shop = Shop::open(&[&made]).await;
        let key = &made.key;
        let (head, tail) = key.split_at("tgk_orders_".len());
        let sha = made.entry.split("sha256: ").nth(1).unwrap()[..64].to_owned();
        for wrong in [
            stranger.key.clone(),
            format!("{head}{}", tail.to_ascii_lowercase()),
            format!("{key}A"),
            key[..key.len() - 1].to_owned(),
            key.replace("orders", "order"),
            key.replace("tgk", "TGK"),
            format!("{key}="),
            format!("{key},{key}"),
            format!("tgk_orders_{}", "A".repeat(43)),
            "tgk_".to_owned(),
            sha.clone(),
            format!("tgk_orders_{sha}"),
            format!("{head}{}", "A".repeat(100_000)),
        ] {
            let shown = &wrong[..wrong.len().min(80)];
            assert_eq!(shop.publish(&wrong, "open.x").await, refused(), "{shown}");
        }
        shop.spy.is_quiet().await;
        assert_eq!(shop.publish(key, "open.x").await.0, 200);
    });
}

/// A key goes into `Authorization` and nowhere else: elsewhere it is not looked at, so that whoever
/// shows it there is a stranger.
#[test]
fn a_key_counts_in_its_header_alone() {
    run(async {
        let made = make("orders", "--publish", &["orders.>"]);
        let shop = Shop::open(&[&made]).await;
        let key = &made.key;
        let path = "/v1/topics/orders.x/messages";
        for query in ["token", "key", "api_key", "authorization", "access_token"] {
            let ask = shop.gateway.request(Method::POST, &format!("{path}?{query}={key}"));
            assert_eq!(ask.body("1").send().await.unwrap().status(), 401, "{query}");
        }
        for (name, value) in [
            ("X-API-Key", key.clone()),
            ("Cookie", format!("token={key}")),
            ("Proxy-Authorization", format!("Bearer {key}")),
            ("Authorization", format!("ApiKey {key}")),
            ("Authorization", key.clone()),
        ] {
            let ask = shop.gateway.request(Method::POST, path).header(name, value);
            assert_eq!(ask.body("1").send().await.unwrap().status(), 401, "{name}");
        }
    });
}

/// A key is no Token: on a socket it is refused as one that is not good, by each of the four ways and
/// as a renewal.
#[test]
fn a_key_opens_no_socket() {
    run(async {
        let made = make("orders", "--subscribe", &["orders.>"]);
        let shop = Shop::open(&[&made]).await;
        let key = &made.key;
        let bearer = format!("Bearer {key}");
        let protocols = format!("tidegate.v1.json, bearer.{key}");
        let query = format!("token={key}");
        let cases: [(&str, Vec<(&str, &str)>); 3] = [
            ("topic=orders.x", vec![("Authorization", &bearer)]),
            ("", vec![("Sec-WebSocket-Protocol", &protocols)]),
            (&query, vec![]),
        ];
        let reason = r#"{"code":"unauthenticated","retry":false}"#;
        for (query, headers) in cases {
            let dialled = Browser::dial(shop.gateway.client, query, &headers).await;
            let closed = dialled.unwrap().next_or_close(SOON).await.unwrap_err();
            assert_eq!((closed.status, &*closed.reason), (Some(4401), reason));
        }
        let mut browser = shop.gateway.browser("").await;
        browser.command(json!({"type": "connect", "token": key})).await;
        let closed = browser.next_or_close(SOON).await.unwrap_err();
        assert_eq!((closed.status, &*closed.reason), (Some(4401), reason));
        let token = Gateway::token("orders", &Grants::default());
        let mut browser = shop.gateway.browser(&format!("token={token}")).await;
        browser.next().await;
        let reply = browser.ask(json!({"type": "token", "token": key})).await;
        assert_eq!(reply["code"], "unauthenticated");
        browser.is_quiet().await;
    });
}

/// Two keys of one name are good at once, and are one publisher: the same idempotency key gives the
/// same id. Then the file changes: the old key goes, and a faulty file, or none, takes nothing away.
#[test]
fn a_key_is_replaced_while_the_node_runs() {
    run(async {
        let [old, new, third] =
            [(); 3].map(|()| make("orders", "--publish", &["orders.>", "open.>"]));
        let shop = Shop::open(&[&old, &new]).await;
        let mut ids = Vec::new();
        for key in [&old.key, &new.key] {
            let ask = shop.gateway.request(Method::POST, "/v1/topics/orders.x/messages");
            let ask = ask.bearer_auth(key).header("Idempotency-Key", "order-1").body("1");
            let answer: Value = ask.send().await.unwrap().json().await.unwrap();
            ids.push(answer["id"].clone());
        }
        assert!(ids[0].is_string());
        assert_eq!(ids[0], ids[1]);

        write(&shop.file, &[&new]);
        until("the old key is gone", RELOADED, || async {
            shop.publish(&old.key, "open.x").await == refused()
        })
        .await;
        assert_eq!(shop.publish(&new.key, "open.x").await.0, 200);

        // The key where its hash belongs: the classic slip. All files are looked at together, so once
        // the issuer's next secret counts, the slip was seen.
        let slip = format!("- {{name: orders, sha256: {}, publish: [\"**\"]}}\n", third.key);
        fs::write(&shop.file, slip).unwrap();
        let next = b"the next secret of the tests, of 32 bytes or more";
        fs::write(shop.gateway.folder.path().join("secret"), next).unwrap();
        let claims = json!({"sub": "ana", "exp": now() + 3_600}).to_string();
        shop.until_good(&hs(Algorithm::HS256, next, &claims)).await;
        assert_eq!(shop.publish(&new.key, "open.x").await.0, 200);
        assert_eq!(shop.publish(&third.key, "open.x").await, refused());
        assert!(!shop.gateway.log().contains(&third.key));

        write(&shop.file, &[&third]);
        shop.until_good(&third.key).await;
        assert_eq!(shop.publish(&new.key, "open.x").await, refused());
    });
}
