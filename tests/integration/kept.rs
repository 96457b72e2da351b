//! Publishing where it is kept: tombstones, and keys that make it safe to say something twice.

use std::slice::from_ref;

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Browser, Gateway, Grants, SOON, Settings, run, until};

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

/// Sends this over HTTP; the answer, which is a 200.
async fn send(gateway: &Gateway, token: &str, path: &str, key: &str, body: &str) -> String {
    let mut request = gateway.request(Method::POST, path).bearer_auth(token);
    if !key.is_empty() {
        request = request.header("idempotency-key", key);
    }
    let answer = request.body(body.to_owned()).send().await.expect("an answer");
    assert_eq!(answer.status(), 200, "{path}");
    answer.text().await.expect("a text")
}

/// The same as a Command, with this key.
async fn command(browser: &mut Browser, topic: &str, key: &str) -> Value {
    let ask = json!({"type": "publish", "topic": topic, "data": 5, "key": key});
    let reply = browser.ask(ask).await;
    assert_eq!(reply["type"], "published", "{reply}");
    reply
}

/// The same publisher, Topic and key are stored and delivered once, on whichever road they come:
/// each later answer says `duplicate`, with the id and the Cursor of the first.
#[test]
fn a_key_is_stored_once_on_every_road() {
    run(async {
        let gateway = keeps("{messages: 100}").await;
        let token = Gateway::token("ana", &Grants::all(&["open.>"]));
        let mut reader = gateway.browser("").await;
        reader.subscribe("open.**").await;
        let mut writer = gateway.browser(&format!("token={token}")).await;
        assert_eq!(writer.next().await["type"], "connected");

        let one = "/v1/topics/open.a/messages";
        let mut outcomes = vec![
            parsed(&send(&gateway, &token, one, "k-1", "1").await),
            parsed(&send(&gateway, &token, one, "\"k-1\"", "other").await),
        ];
        let item = r#"{"topic":"open.a","data":2,"key":"k-1"}"#;
        let batch = format!(r#"{{"messages":[{item},{item}]}}"#);
        let results = parsed(&send(&gateway, &token, "/v1/publish", "", &batch).await);
        outcomes.extend(results["results"].as_array().expect("results").clone());
        let lines = send(&gateway, &token, "/v1/publish", "", &format!("{item}\n{item}\n")).await;
        outcomes.extend(lines.lines().map(parsed));
        for _ in 0..2 {
            outcomes.push(command(&mut writer, "open.a", "k-1").await);
        }
        assert_eq!(outcomes.len(), 8);
        for (at, outcome) in outcomes.iter().enumerate() {
            assert_eq!(outcome["duplicate"], json!(at > 0), "{at}: {outcome}");
            assert_eq!((&outcome["stored"], &outcome["topic"]), (&json!(true), &json!("open.a")));
            let id = if at < 6 { &outcome["id"] } else { &outcome["message_id"] };
            assert_eq!((id, &outcome["cursor"]), (&outcomes[0]["id"], &outcomes[0]["cursor"]));
        }
        let message = reader.message().await;
        assert_eq!((&message["data"], &message["id"]), (&json!(1), &outcomes[0]["id"]));
        assert_eq!(message["cursor"], outcomes[0]["cursor"]);

        // Another key, Topic or publisher is another Publication.
        let topics = r#"{"messages":[{"topics":["open.a","open.b"],"data":3,"key":"k-2"}]}"#;
        let results = parsed(&send(&gateway, &token, "/v1/publish", "", topics).await);
        let results = results["results"].as_array().expect("results").clone();
        let ben = Gateway::token("ben", &Grants::all(&["open.>"]));
        let third = parsed(&send(&gateway, &ben, one, "k-1", "4").await);
        let mut anonymous = gateway.browser("").await;
        let fourth = command(&mut anonymous, "open.a", "k-1").await;
        assert_eq!(command(&mut anonymous, "open.a", "k-1").await["duplicate"], true);
        for outcome in results.iter().chain([&third, &fourth]) {
            assert_eq!(outcome["duplicate"], false, "{outcome}");
            assert_eq!(reader.message().await["cursor"], outcome["cursor"]);
        }
        reader.is_quiet().await;
        assert_eq!(replayed(&gateway, "open.a", json!({"last": 100})).await.len(), 4);
    });
}

/// A key is known no longer than history is kept: after that the same is stored again.
#[test]
fn a_key_is_forgotten_with_its_age() {
    run(async {
        let gateway = keeps("{messages: 10, age: 1s}").await;
        let token = Gateway::token("ana", &Grants::all(&["open.>"]));
        let path = "/v1/topics/open.a/messages";
        let first = parsed(&send(&gateway, &token, path, "k", "1").await);
        until("the key is forgotten", SOON, || async {
            let again = parsed(&send(&gateway, &token, path, "k", "2").await);
            assert_eq!(again["id"], first["id"]);
            again["duplicate"] == false && again["cursor"] != first["cursor"]
        })
        .await;
    });
}
