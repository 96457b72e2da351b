//! Servers of NATS that are too old for a node: refused in words, at the start and later.

use std::time::Duration;

use serde_json::json;

use crate::commands::{configured, tidegate};
use crate::harness::gateway::free_address;
use crate::harness::old::OldNats;
use crate::harness::{Gateway, Nats, SOON, Settings, run, until};

const OLD: &str = "2.8.4";

/// Whether these words name the server, its version and the version that is needed.
fn tells(words: &str) -> bool {
    ["\"old\"", OLD, "2.9.0"].iter().all(|part| words.contains(part))
}

/// Why a gateway is not ready; nothing while it is.
async fn why(gateway: &Gateway) -> Option<String> {
    let health = gateway.health("ready").await?;
    (health["ok"] == false).then(|| health["why"][0].as_str().unwrap_or_default().to_owned())
}

/// `serve` does not start on it, and `check` fails.
#[test]
fn an_old_server_is_refused_at_the_start() {
    run(async {
        let address = free_address();
        let _old = OldNats::start(address, OLD).await;
        let (_folder, file) = configured(&format!(
            "listen: {}\nmanagement: {}\nnats: {{url: \"nats://{address}\"}}\n\
             auth: {{anonymous: {{subscribe: [open.>]}}}}\n",
            free_address(),
            free_address()
        ));
        for (command, exit) in [("serve", 64), ("check", 1)] {
            let ended = tidegate(&[command, "--config", &file]).await;
            assert_eq!(ended.code, Some(exit), "{ended:?}");
            assert!(tells(ended.stderr.lines().last().unwrap_or_default()), "{ended:?}");
        }
    });
}

/// A node that finds itself on an old server later is not ready and says why, tells its clients, and
/// publishes nothing. With a new server all is well again.
#[test]
fn an_old_server_is_no_link() {
    run(async {
        let mut nats = Nats::start().await;
        let gateway = Gateway::start(Settings::open().on(&nats.url())).await;
        let mut browser = gateway.browser("").await;
        browser.subscribe("open.a").await;
        nats.kill();
        let old = OldNats::start(nats.client, OLD).await;
        until("the node says why it is not ready", 2 * SOON, || async {
            why(&gateway).await.is_some_and(|words| tells(&words))
        })
        .await;
        // A `gap` may come before or behind it.
        let mut pushes = [browser.next().await, browser.next().await];
        pushes.sort_by_key(|push| push["type"].to_string());
        assert_eq!(pushes[0], json!({"type": "bus", "connected": false}));
        assert_eq!(pushes[1]["type"], "gap");
        assert_eq!(gateway.publish("open.a", "1").await.status(), 503);
        drop(old);
        nats.run().await;
        until("publishing works", 2 * SOON, || async {
            gateway.publish("open.a", "2").await.status() == 200
        })
        .await;
        assert_eq!(why(&gateway).await, None);
    });
}

/// A node that starts while no NATS is there waits for none, and says so of an old one that comes.
#[test]
fn a_start_waits_for_no_server() {
    run(async {
        let address = free_address();
        let gateway = Gateway::launch(&Settings::open().on(&format!("nats://{address}")));
        until("the node answers", 2 * SOON, || async {
            gateway.health("live").await.is_some_and(|health| health["ok"] == true)
        })
        .await;
        let words = why(&gateway).await.expect("it is not ready");
        assert!(words.contains("not been reached"), "{words}");
        let _old = OldNats::start(address, OLD).await;
        until("the node says why it is not ready", Duration::from_secs(20), || async {
            why(&gateway).await.is_some_and(|words| tells(&words))
        })
        .await;
    });
}
