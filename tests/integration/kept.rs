//! Publishing where it is kept: tombstones.

use std::slice::from_ref;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Gateway, Settings, run};

async fn keeps(history: &str) -> Gateway {
    let line = format!("namespaces: {{open: {{history: {history}}}}}");
    Gateway::start(Settings::open().line(&line)).await
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// What a Subscription replays, in one part.
async fn replayed(gateway: &Gateway, topic: &str, from: Value) -> Vec<Value> {
    let mut browser = gateway.browser("").await;
    let reply = browser.ask(json!({"type": "subscribe", "topic": topic, "from": from})).await;
    assert_eq!((&reply["recovered"], &reply["more"]), (&json!(true), &json!(false)), "{reply}");
    let mut messages = Vec::new();
    for _ in 0..reply["replayed"].as_u64().expect("a number") {
        messages.push(browser.message().await);
    }
    messages
}

/// A tombstone is a Publication like others, live and for who comes back; of the values, its Topic
/// has none, until somebody gives it one.
#[test]
fn a_tombstone_is_kept_and_is_no_value() {
    run(async {
        let gateway = keeps("{messages: 10}").await;
        let mut reader = gateway.browser("").await;
        reader.subscribe("open.**").await;
        let value = parsed(&gateway.publish("open.a", "1").await.text().await.expect("a text"));
        gateway.publish("open.b", "2").await;
        let request = gateway.request(Method::DELETE, "/v1/topics/open.a");
        let answer = request.send().await.expect("an answer").text().await.expect("a text");
        let gone = parsed(&answer);
        assert_eq!((&gone["stored"], &gone["duplicate"]), (&json!(true), &json!(false)));
        let (_, _) = (reader.message().await, reader.message().await);
        let tombstone = reader.message().await;
        assert_eq!((&tombstone["deleted"], tombstone.get("data")), (&json!(true), None));
        assert_eq!((&tombstone["topic"], &tombstone["id"]), (&json!("open.a"), &gone["id"]));
        assert_eq!(tombstone["cursor"], gone["cursor"]);

        let from = json!({"cursor": value["cursor"]});
        assert_eq!(replayed(&gateway, "open.a", from.clone()).await, from_ref(&tombstone));
        assert_eq!(replayed(&gateway, "open.*", from).await[1], tombstone);
        assert_eq!(replayed(&gateway, "open.a", json!({"last": 1})).await, from_ref(&tombstone));
        let page = async |path: &str| {
            let request = gateway.request(Method::GET, &format!("/v1/topics/{path}"));
            parsed(&request.send().await.expect("an answer").text().await.expect("a text"))
        };
        assert_eq!(page("open.a/messages").await["items"][1], tombstone);

        // Twice: what was read a moment ago is shared.
        for _ in 0..2 {
            assert_eq!(replayed(&gateway, "open.a", json!("last")).await.len(), 0);
            let values = replayed(&gateway, "open.**", json!("last")).await;
            assert_eq!(values.len(), 1);
            assert_eq!(values[0]["topic"], "open.b");
        }
        assert_eq!(page("open.a/state").await["items"], json!([]));
        assert_eq!(page("open.**/state").await["items"].as_array().map(Vec::len), Some(1));

        gateway.publish("open.a", "3").await;
        assert_eq!(reader.message().await["data"], 3);
        assert_eq!(page("open.a/state").await["items"][0]["data"], 3);
        reader.is_quiet().await;
    });
}
