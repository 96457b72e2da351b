//! Every bound on coming in and on what the node holds: at n all is well, at n+1 its documented code,
//! and it is counted under its name.

use std::time::Duration;

use serde_json::json;
use tokio_tungstenite::tungstenite::Error;

use crate::harness::{Browser, Gateway, Grants, Settings, run};

/// The status and code of a handshake that is refused before the 101.
async fn refused(gateway: &Gateway, query: &str) -> (u16, String) {
    match Browser::dial(gateway.client, query, &[]).await {
        Err(Error::Http(answer)) => {
            assert!(answer.headers().contains_key("retry-after"));
            let body = answer.body().clone().unwrap_or_default();
            let problem: serde_json::Value = serde_json::from_slice(&body).expect("a problem");
            (answer.status().as_u16(), problem["code"].as_str().expect("a code").to_owned())
        }
        Err(fault) => panic!("{fault}"),
        Ok(_) => panic!("it was let in"),
    }
}

/// `max_connections` over all Shards: the last place is taken, the next handshake is told 503, and a
/// place given back is a place again.
#[test]
fn connections_of_the_node() {
    run(async {
        let gateway = Gateway::start(Settings::open().limit("max_connections: 5")).await;
        let mut browsers = Vec::new();
        for _ in 0..5 {
            browsers.push(gateway.browser("topic=open.a").await);
        }
        gateway.until_hit("max_connections", 0).await;
        assert_eq!(refused(&gateway, "").await, (503, "overloaded".to_owned()));
        gateway.until_hit("max_connections", 1).await;
        drop(browsers.pop());
        gateway.until_count("connections", 4, Duration::from_secs(5)).await;
        let mut again = gateway.browser("topic=open.a").await;
        assert_eq!(again.next().await["type"], "connected");
    });
}

/// `unauthenticated`: those who have shown no Token yet; whoever does makes room.
#[test]
fn connections_that_are_not_connected_yet() {
    run(async {
        let gateway = Gateway::start(Settings::default().limit("unauthenticated: 2")).await;
        let token = Gateway::token("ana", &Grants::all(&["open.>"]));
        let mut first = gateway.browser("").await;
        let _second = gateway.browser("").await;
        assert_eq!(refused(&gateway, "").await, (503, "overloaded".to_owned()));
        gateway.until_hit("unauthenticated", 1).await;
        let reply = first.ask(json!({"type": "connect", "token": token})).await;
        assert_eq!(reply["type"], "connected");
        let _third = gateway.browser("").await;
    });
}

/// `user_connections`: the next one of the same user is closed with 4429 and a time, behind the 101;
/// another user and those without a name are not touched.
#[test]
fn connections_of_one_user() {
    run(async {
        let gateway = Gateway::start(Settings::open().limit("user_connections: 2")).await;
        let query = |user| format!("token={}", Gateway::token(user, &Grants::all(&["open.>"])));
        let mut first = gateway.browser(&query("ana")).await;
        assert_eq!(first.next().await["type"], "connected");
        let mut second = gateway.browser(&query("ana")).await;
        assert_eq!(second.next().await["type"], "connected");
        let mut third = gateway.browser(&query("ana")).await;
        let closed = third.closed(Duration::from_secs(5)).await;
        assert_eq!((closed.status, closed.code().as_str()), (Some(4429), "connection_limit"));
        assert!(closed.reason.contains("\"ms\":"));
        gateway.until_hit("user_connections", 1).await;
        for query in [query("bob"), "topic=open.a".to_owned()] {
            let mut other = gateway.browser(&query).await;
            assert_eq!(other.next().await["type"], "connected");
        }
        // A new Token for the same Connection is not one more.
        let token = Gateway::token("ana", &Grants::all(&["open.>"]));
        let reply = first.ask(json!({"type": "token", "token": token})).await;
        assert_eq!(reply["type"], "token");
        drop(second);
        gateway.until_count("connections", 1, Duration::from_secs(5)).await;
        let mut again = gateway.browser(&query("ana")).await;
        assert_eq!(again.next().await["type"], "connected");
    });
}

/// `handshakes_per_second` and `handshakes_burst`: 503 with a time to come back.
#[test]
fn new_connections_a_second() {
    run(async {
        let settings =
            Settings::open().limit("handshakes_per_second: 1").limit("handshakes_burst: 3");
        let gateway = Gateway::start(settings).await;
        let mut browsers = Vec::new();
        for _ in 0..3 {
            browsers.push(gateway.browser("topic=open.a").await);
        }
        assert_eq!(refused(&gateway, "").await, (503, "overloaded".to_owned()));
        gateway.until_hit("handshakes_per_second", 1).await;
    });
}

/// `feeds`: distinct Topics and Patterns of all clients; who shares one takes no room.
#[test]
fn distinct_patterns_of_the_node() {
    run(async {
        let gateway = Gateway::start(Settings::open().limit("feeds: 3")).await;
        let mut browser = gateway.browser("").await;
        for topic in ["open.a", "open.b", "open.*"] {
            browser.subscribe(topic).await;
        }
        let reply = browser.ask(json!({"type": "subscribe", "topic": "open.c"})).await;
        assert_eq!((&reply["code"], &reply["retryable"]), (&json!("overloaded"), &json!(true)));
        gateway.until_hit("feeds", 1).await;
        let mut other = gateway.browser("").await;
        other.subscribe("open.a").await;
    });
}

/// A start that cannot hold what it promises is refused: more Connections than files, an Outbox under
/// four of the largest payloads.
#[test]
fn a_start_that_cannot_hold_is_refused() {
    run(async {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("tidegate.yaml");
        let text = "auth: {anonymous: {subscribe: ['open.>']}}\n\
                    limits: {max_connections: 9000000, outbox_bytes: 64KiB}\n";
        std::fs::write(&file, text).expect("it is written");
        let ended = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .arg("serve")
            .arg("--config")
            .arg(&file)
            .output()
            .expect("it runs");
        assert_eq!(ended.status.code(), Some(64));
        let words = String::from_utf8_lossy(&ended.stderr);
        for key in ["limits.max_connections", "limits.outbox_bytes"] {
            assert!(words.contains(key), "{words}");
        }
    });
}
