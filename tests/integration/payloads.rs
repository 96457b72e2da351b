//! Payloads that a Namespace takes and NATS does not.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::commands::tidegate;
use crate::harness::{Gateway, Nats, Settings, run};

/// A payload between both bounds is `too_big` for a client and over HTTP, as is one that fits only
/// without its headers; the link stays, and what fits goes on. `check` and the log say beforehand
/// whose payloads that may be.
#[test]
fn what_nats_does_not_take_is_too_big() {
    run(async {
        let max = 100 << 10;
        let nats = Nats::configured(&format!("max_payload: {max}\n")).await;
        let settings = Settings::open()
            .on(&nats.url())
            .line("namespaces: {open: {max_message_bytes: 200000}, small: {max_message_bytes: 90000}}")
            .limit("outbox_bytes: 1MiB");
        let gateway = Gateway::start(settings).await;
        let mut browser = gateway.browser("").await;
        browser.subscribe("open.a").await;
        for bytes in [max + 1, max] {
            let answer = gateway.publish("open.a", vec![b'1'; bytes]).await;
            assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
            let problem: Value = answer.json().await.expect("JSON");
            assert_eq!(
                (&problem["code"], &problem["retryable"]),
                (&json!("too_big"), &json!(false))
            );
            let data = "1".repeat(bytes);
            let reply =
                browser.ask(json!({"type": "publish", "topic": "open.a", "data": data})).await;
            assert_eq!(reply["code"], "too_big", "{reply}");
        }
        assert_eq!(gateway.publish("open.a", "1").await.status(), 200);
        assert_eq!(browser.message().await["data"], 1);

        let told = |words: &str| {
            words.contains("max_payload") && words.contains("in these namespaces: open")
        };
        assert!(told(&gateway.log()), "{}", gateway.log());
        let file = gateway.folder.path().join("tidegate.yaml").display().to_string();
        let ended = tidegate(&["check", "--config", &file]).await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(told(&ended.stderr) && !ended.stderr.contains("small"), "{ended:?}");
    });
}
