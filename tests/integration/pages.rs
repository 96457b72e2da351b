//! What is kept is read over HTTP: pages of history, and the newest values.

use std::collections::BTreeMap;

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::harness::{Browser, Gateway, Grants, Settings, run};

/// A gateway whose Namespace `open` is kept, and pages of it hold so many items.
async fn keeps(items: usize) -> Gateway {
    let settings = Settings::open()
        .line("namespaces: {open: {history: {messages: 100}}}")
        .limit(&format!("replay_part_items: {items}"));
    Gateway::start(settings).await
}

async fn get(gateway: &Gateway, path: &str) -> Response {
    gateway.request(Method::GET, path).send().await.expect("an answer")
}

async fn page(gateway: &Gateway, path: &str) -> Value {
    let answer = get(gateway, path).await;
    assert_eq!(answer.status(), 200, "{path}");
    answer.json().await.expect("an answer is JSON")
}

async fn publish(gateway: &Gateway, topic: &str, payload: &str) -> Value {
    let answer = gateway.publish(topic, payload.to_owned()).await;
    assert_eq!(answer.status(), 200);
    answer.json().await.expect("an answer is JSON")
}

fn items(page: &Value) -> &Vec<Value> {
    page["items"].as_array().expect("items")
}

/// Pages of a Topic, one behind the other, are what was pushed, byte for byte; each place to begin
/// brings what the Command of that name does.
#[test]
fn history_is_read_in_pages_of_what_was_pushed() {
    run(async {
        let gateway = keeps(1_000).await;
        let mut browser = gateway.browser("").await;
        browser.subscribe("open.a").await;
        let odd = r#"{"n": 1.0,  "big":123456789012345678901234567890}"#;
        publish(&gateway, "open.a", odd).await;
        for n in 1..25 {
            publish(&gateway, "open.b", "0").await;
            publish(&gateway, "open.a", &n.to_string()).await;
        }
        let mut pushed = Vec::new();
        while pushed.len() < 25 {
            pushed.push(browser.message().await);
        }

        let path = "/v1/topics/open.a/messages";
        let answer = get(&gateway, &format!("{path}?limit=10")).await;
        assert_eq!(answer.headers()["content-type"], "application/json");
        let text = answer.text().await.expect("a text");
        assert!(text.starts_with(r#"{"topic":"open.a","items":[{"type":"message","#), "{text}");
        assert!(text.contains(&format!(r#""data":{odd}}},{{"type""#)), "{text}");

        let mut first: Value = serde_json::from_str(&text).expect("JSON");
        let mut all = items(&first).clone();
        while let Some(next) = first["next"].as_str() {
            assert_eq!(items(&first).len(), 10);
            first = page(&gateway, &format!("{path}?cursor={next}&limit=10")).await;
            all.extend(items(&first).clone());
        }
        assert_eq!(all, pushed);

        let last = page(&gateway, &format!("{path}?last=3")).await;
        assert_eq!(*items(&last), pushed[22..]);
        assert_eq!(last.get("next"), None);
        let time = pushed[20]["time"].as_str().expect("a time");
        let since = page(&gateway, &format!("{path}?since={time}")).await;
        assert!(items(&since).ends_with(&pushed[20..]));
        // The same as the Command's, from the same place.
        let from = json!({"cursor": pushed[5]["cursor"]});
        let reply = browser
            .ask(json!({"type": "history", "topic": "open.a", "from": from, "limit": 7}))
            .await;
        let cursor = pushed[5]["cursor"].as_str().expect("a Cursor");
        let same = page(&gateway, &format!("{path}?limit=7&cursor={cursor}")).await;
        assert_eq!((&same["items"], &same["next"]), (&reply["items"], &reply["next"]));
        let nothing = page(&gateway, "/v1/topics/open.never/messages").await;
        assert_eq!(nothing, json!({"topic": "open.never", "items": []}));
    });
}

/// The newest values of a Pattern, without those that are gone; the tag tells whether they changed.
#[test]
fn the_state_of_a_pattern_is_read_and_known_again() {
    run(async {
        let gateway = keeps(4).await;
        for n in 0..6 {
            publish(&gateway, &format!("open.t{}", n % 3), &n.to_string()).await;
        }
        publish(&gateway, "open.t1", "").await;
        let path = "/v1/topics/open.**/state";
        let answer = get(&gateway, path).await;
        let tag = answer.headers()["etag"].to_str().expect("a text").to_owned();
        let state: Value = answer.json().await.expect("JSON");
        let values: Vec<_> = items(&state).iter().map(|one| one["data"].clone()).collect();
        assert_eq!(values, [3, 5]);
        let cursor = state["cursor"].as_str().expect("a Cursor").to_owned();
        let (epoch, _) = cursor.split_once('-').expect("an Epoch");
        assert_eq!(tag, format!("\"{epoch}-6-2\""));
        assert!(cursor.starts_with(&format!("{epoch}-7-")));

        let asked = async |path: &str, tag: &str| {
            let request = gateway.request(Method::GET, path).header("if-none-match", tag);
            request.send().await.expect("an answer")
        };
        for known in [&tag, "*", &format!("W/{tag}"), &format!("\"x\", {tag}")] {
            let answer = asked(path, known).await;
            assert_eq!(answer.status(), 304, "{known}");
            assert_eq!(answer.headers()["etag"], tag.as_str());
            assert_eq!(answer.text().await.expect("no text"), "");
        }
        for foreign in ["\"x\"", "x", "", "\"aaaaaa-6-2\""] {
            assert_eq!(asked(path, foreign).await.status(), 200, "{foreign}");
        }
        let origin = format!("http://{}", gateway.client);
        let request = gateway.request(Method::GET, path).header("origin", &origin);
        let answer = request.send().await.expect("an answer");
        assert_eq!(answer.headers()["access-control-allow-origin"], origin.as_str());
        let exposed = answer.headers()["access-control-expose-headers"].to_str().expect("a text");
        assert!(exposed.contains("ETag"), "{exposed}");
        // Of another Pattern nothing changed.
        publish(&gateway, "open.u.x", "1").await;
        assert_eq!(asked("/v1/topics/open.*/state", &tag).await.status(), 304);
        assert_eq!(asked(path, &tag).await.status(), 200);
        publish(&gateway, "open.u.x", "").await;
        assert_eq!(asked(path, &tag).await.status(), 304);
        publish(&gateway, "open.t0", "").await;
        assert_eq!(asked(path, &tag).await.status(), 200);

        // The items of a full page are the same; that there are more now is not.
        for n in 0..3 {
            publish(&gateway, &format!("open.v{n}"), "1").await;
        }
        let full = get(&gateway, path).await.headers()["etag"].to_str().expect("text").to_owned();
        assert_eq!(asked(path, &full).await.status(), 304);
        publish(&gateway, "open.v3", "1").await;
        let answer = asked(path, &full).await;
        assert_eq!(answer.status(), 200);
        let state: Value = answer.json().await.expect("JSON");
        assert_eq!(items(&state).len(), 4);
        assert!(state["next"].is_string(), "{state}");
    });
}

/// Values change, come and go between the pages of a snapshot: whoever has read the last page and
/// subscribes from its Cursor has them all, and none that is gone.
#[test]
fn a_snapshot_in_pages_has_no_hole() {
    run(async {
        let gateway = keeps(10).await;
        let mut truth = BTreeMap::new();
        for n in 0..60 {
            let topic = format!("open.t{n:02}");
            publish(&gateway, &topic, &n.to_string()).await;
            truth.insert(topic, json!(n));
        }
        let (mut seen, mut pages, mut n) = (BTreeMap::new(), 0, 100);
        let mut state = page(&gateway, "/v1/topics/open.*/state").await;
        loop {
            pages += 1;
            apply(&mut seen, items(&state));
            // One that was brought, one that comes next, and one that is new: changed or gone.
            for topic in [pages, 13 * pages, 60 + pages, 40 - pages] {
                let topic = format!("open.t{topic:02}");
                n += 1;
                if n % 3 == 0 {
                    publish(&gateway, &topic, "").await;
                    truth.remove(&topic);
                } else {
                    publish(&gateway, &topic, &n.to_string()).await;
                    truth.insert(topic, json!(n));
                }
            }
            let Some(next) = state["next"].as_str() else { break };
            state = page(&gateway, &format!("/v1/topics/open.*/state?cursor={next}")).await;
        }
        assert!(pages >= 6, "{pages}");
        assert_ne!(seen, truth);
        let mut browser = gateway.browser("").await;
        let from = json!({"cursor": state["cursor"]});
        let missed = subscribe(&mut browser, "open.*", from).await;
        assert_eq!(missed.len(), 4);
        apply(&mut seen, &missed);
        assert_eq!(seen, truth);
    });
}

/// What a client makes of Publications: the newest value of each Topic.
fn apply(seen: &mut BTreeMap<String, Value>, messages: &[Value]) {
    for message in messages {
        let topic = message["topic"].as_str().expect("a Topic").to_owned();
        match message["deleted"] == true {
            true => drop(seen.remove(&topic)),
            false => drop(seen.insert(topic, message["data"].clone())),
        }
    }
}

/// Subscribes to what fits one part, and gives what that replays.
async fn subscribe(browser: &mut Browser, topic: &str, from: Value) -> Vec<Value> {
    let reply = browser.ask(json!({"type": "subscribe", "topic": topic, "from": from})).await;
    assert_eq!((&reply["recovered"], &reply["more"]), (&json!(true), &json!(false)), "{reply}");
    let mut messages = Vec::new();
    for _ in 0..reply["replayed"].as_u64().expect("a number") {
        messages.push(browser.message().await);
    }
    messages
}

/// What cannot be read is refused, with the code that says why.
#[test]
fn what_cannot_be_read_is_refused() {
    run(async {
        let settings =
            Settings { anonymous: Grants::all(&["open.>", "kept", "kept.>"]), ..Settings::open() }
                .line("namespaces: {kept: {history: {messages: 10}}}")
                .limit("snapshot_topics: 5");
        let gateway = Gateway::start(settings).await;
        let cursor = publish(&gateway, "kept.a", "1").await["cursor"].clone();
        for n in 0..6 {
            publish(&gateway, &format!("kept.many.{n}"), "1").await;
        }
        let cursor = cursor.as_str().expect("a Cursor");
        let all = [
            ("open.a/messages".to_owned(), 501, "not_supported"),
            ("open.**/state".to_owned(), 501, "not_supported"),
            ("kept.*/messages".to_owned(), 400, "invalid_topic"),
            ("*.a/state".to_owned(), 400, "invalid_topic"),
            ("**/state".to_owned(), 400, "invalid_topic"),
            ("kept..a/messages".to_owned(), 400, "invalid_topic"),
            ("kept/messages".to_owned(), 400, "invalid_topic"),
            ("kept/state".to_owned(), 400, "invalid_topic"),
            ("secret.a/messages".to_owned(), 401, "unauthenticated"),
            ("secret.a/state".to_owned(), 401, "unauthenticated"),
            ("kept.**/state".to_owned(), 422, "too_many_topics"),
            ("kept.a/messages?cursor=aaaaaa-1".to_owned(), 400, "invalid_cursor"),
            ("kept.a/state?cursor=aaaaaa-1".to_owned(), 400, "invalid_cursor"),
            ("kept.a/messages?cursor=x".to_owned(), 400, "invalid_cursor"),
            ("kept.a/state?cursor=".to_owned(), 400, "invalid_cursor"),
            (format!("kept.a/state?cursor={cursor},{cursor}"), 400, "invalid_cursor"),
            (format!("kept.a/state?cursor={cursor}&cursor={cursor}"), 400, "invalid_cursor"),
            (format!("kept.a/messages?cursor={cursor}&last=1"), 400, "invalid_from"),
            ("kept.a/messages?last=1&last=1".to_owned(), 400, "invalid_from"),
            ("kept.a/messages?last=0".to_owned(), 400, "invalid_from"),
            ("kept.a/messages?last=1001".to_owned(), 400, "invalid_from"),
            ("kept.a/messages?since=yesterday".to_owned(), 400, "invalid_from"),
            ("kept.a/messages?from=last".to_owned(), 400, "invalid_from"),
            ("kept.a/messages?limit=0".to_owned(), 400, "bad_message"),
            ("kept.a/messages?limit=1001".to_owned(), 400, "bad_message"),
            ("kept.a/messages?limit=many".to_owned(), 400, "bad_message"),
            ("kept.a/messages?limit=1&limit=1".to_owned(), 400, "bad_message"),
        ];
        for (path, status, code) in &all {
            let answer = get(&gateway, &format!("/v1/topics/{path}")).await;
            assert_eq!(answer.headers()["content-type"], "application/problem+json", "{path}");
            let got = answer.status().as_u16();
            let problem: Value = answer.json().await.expect("JSON");
            assert_eq!((got, &problem["code"]), (*status, &json!(code)), "{path}");
        }
        // As many as may be, and whoever lists Cursors of several histories, are served.
        assert_eq!(items(&page(&gateway, "/v1/topics/kept.*/state").await).len(), 1);
        let listed = format!("/v1/topics/kept.a/messages?cursor=aaaaaa-1,{cursor}");
        assert_eq!(items(&page(&gateway, &listed).await).len(), 0);

        let token = Gateway::token(
            "ana",
            &Grants { subscribe: vec!["kept.>".into()], ..Grants::default() },
        );
        for path in ["/v1/topics/kept.a/messages", "/v1/topics/kept.a/state"] {
            let request = gateway.request(Method::GET, path).bearer_auth(&token);
            let answer = request.send().await.expect("an answer");
            assert_eq!(answer.status(), 403);
            let problem: Value = answer.json().await.expect("JSON");
            assert_eq!(problem["detail"], "no Grant to read history covers kept.a");
        }
    });
}
