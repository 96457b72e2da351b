//! A gateway needs few lines of rights on NATS, and no more; with one of them missing it says so.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};

use crate::harness::{Gateway, Nats, SOON, Settings, run, until};

/// Nothing that cannot be done takes longer to say.
const ANSWER: Duration = Duration::from_secs(6);
const PASSWORD: &str = "nobody-logs-this";
const IN: &str = "tidegate.in.>";
const NODE: &str = "tidegate.node.>";
const CTL: &str = "tidegate.ctl.>";
const INBOX: &str = "_INBOX.tidegate.>";

/// A server whose user `gateway` may do this, and no more.
async fn server(publish: &[&str], subscribe: &[&str]) -> Nats {
    let user = |name: &str, publish: &[&str], subscribe: &[&str]| {
        format!(
            "{{user: {name}, password: {PASSWORD:?}, \
             permissions: {{publish: {publish:?}, subscribe: {subscribe:?}}}}}"
        )
    };
    let users = [user("gateway", publish, subscribe), user("all", &[IN, NODE], &[IN, NODE])];
    Nats::configured(&format!("authorization {{ users: [{}] }}\n", users.join(", "))).await
}

fn settings(nats: &Nats, user: &str) -> Settings {
    Settings::open().on(&nats.url_as(user, PASSWORD))
}

/// A gateway whose log names this subject as refused in time.
async fn names(gateway: &Gateway, verb: &str, subject: &str) {
    let refusal =
        |line: &str| line.contains("NATS refuses") && line.contains(verb) && line.contains(subject);
    until(&format!("the log names {subject}"), SOON, || async {
        gateway.log().lines().any(refusal)
    })
    .await;
}

/// A publish over HTTP is answered in time and honestly that it was not taken, or perhaps.
async fn is_refused_honestly(gateway: &Gateway, method: Method, path: &str) {
    let asked = Instant::now();
    let answer = gateway.request(method, path).body("1").send();
    let answer = answer.await.expect("an answer");
    let status = answer.status();
    let problem: Value = answer.json().await.expect("JSON");
    assert!(
        matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT),
        "{status}: {problem}"
    );
    let code = problem["code"].as_str().unwrap_or_default();
    assert!(matches!(code, "bus_unavailable" | "outcome_unknown"), "{problem}");
    assert!(asked.elapsed() < ANSWER, "{:?}", asked.elapsed());
}

/// With exactly these lines everything works: over HTTP and from a client, to exact and wildcard
/// Subscriptions, on two nodes, which know each other; and nothing is refused, and no password is logged.
#[test]
fn four_lines_each_way_are_enough() {
    run(async {
        let all = [IN, NODE, CTL, INBOX];
        let nats = server(&all, &all).await;
        let mut nodes = Vec::new();
        for _ in 0..2 {
            nodes.push(Gateway::start(settings(&nats, "gateway")).await);
        }
        let mut readers = Vec::new();
        for node in &nodes {
            for pattern in ["open.a", "open.>"] {
                let mut reader = node.browser("").await;
                reader.subscribe(pattern).await;
                readers.push(reader);
            }
        }
        assert_eq!(nodes[0].publish("open.a", "1").await.status(), 200);
        let mut publisher = nodes[1].browser("").await;
        publisher.publish("open.a", json!(2)).await;
        let path = "/v1/topics/open.a";
        let deleted = nodes[0].request(Method::DELETE, path).send().await;
        assert_eq!(deleted.expect("an answer").status(), 200);
        for reader in &mut readers {
            for data in [json!(1), json!(2), Value::Null] {
                assert_eq!(reader.message().await["data"], data);
            }
            reader.is_quiet().await;
        }
        for node in &nodes {
            until("they know each other", SOON, || async {
                node.status().await["nodes"].as_array().is_some_and(|all| all.len() == 2)
            })
            .await;
            let path = "/v1/topics?prefix=open";
            let listed = node.request(Method::GET, path).send().await.expect("an answer");
            let listed: Value = listed.json().await.expect("JSON");
            assert_eq!(listed["topics"], json!(["open.a"]), "{listed}");
            let log = node.log();
            assert!(!log.contains("NATS refuses"), "{log}");
            assert!(!log.contains(PASSWORD), "a password is logged");
        }
    });
}

/// Nodes that may not call each other do all else, and say so once, not with every beat.
#[test]
fn without_calls_the_rest_works() {
    run(async {
        let nats = server(&[IN, NODE], &[IN, NODE]).await;
        let node = Gateway::start(settings(&nats, "gateway")).await;
        let mut reader = node.browser("").await;
        reader.subscribe("open.a").await;
        assert_eq!(node.publish("open.a", "1").await.status(), 200);
        assert_eq!(reader.message().await["data"], 1);
        names(&node, "Subscription", "tidegate.ctl.").await;
        let path = "/v1/topics?prefix=open";
        for _ in 0..10 {
            let listed = node.request(Method::GET, path).send().await.expect("an answer");
            let listed: Value = listed.json().await.expect("JSON");
            assert!(listed["silent_nodes"] == 1 || listed["code"] == "bus_unavailable", "{listed}");
        }
        let refusals = node.log().lines().filter(|line| line.contains("NATS refuses")).count();
        assert!(refusals <= 10, "{}", node.log());
        reader.is_quiet().await;
    });
}

/// With exactly the lines that history needs besides, everything of history works, on two nodes, and
/// nothing is refused.
#[test]
fn history_needs_few_lines_more() {
    run(async {
        let api = |stream: &str| {
            ["STREAM.INFO", "STREAM.MSG.GET", "DIRECT.GET", "STREAM.CREATE", "STREAM.UPDATE"]
                .map(|verb| format!("$JS.API.{verb}.TIDEGATE_{stream}"))
        };
        let own = [IN, NODE, CTL, INBOX].map(str::to_owned);
        let publish = [&own[..], &api("open"), &api("_revoked")].concat();
        let elected = "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED.>";
        let subscribe = [IN, NODE, CTL, INBOX, "tidegate.out.>", elected];
        let nats = Nats::configured(&format!(
            "jetstream {{ store_dir: \"STORE\", max_file: 2GiB }}\n\
             authorization {{ users: [{{user: gateway, password: {PASSWORD:?}, \
             permissions: {{publish: {publish:?}, subscribe: {subscribe:?}}}}}] }}\n"
        ))
        .await;
        let line =
            |messages| format!("namespaces: {{open: {{history: {{messages: {messages}}}}}}}");
        let one = Gateway::start(settings(&nats, "gateway").line(&line(10))).await;
        // The stream grows.
        let other = Gateway::start(settings(&nats, "gateway").line(&line(20))).await;
        let mut live = one.browser("").await;
        live.subscribe("open.>").await;
        for n in 0..5 {
            assert_eq!(other.publish("open.a", n.to_string()).await.status(), 200);
        }
        let cursor = live.message().await["cursor"].clone();
        for (topic, from, replayed) in [
            ("open.a", json!({"cursor": cursor}), 4),
            ("open.>", json!("last"), 1),
            ("open.a", json!({"last": 3}), 3),
            ("open.*", json!({"since": "2026-01-01T00:00:00Z"}), 5),
        ] {
            // Its ring is empty: it reads all of it.
            let mut back = other.browser("").await;
            let ask = json!({"type": "subscribe", "topic": topic, "from": from});
            let reply = back.ask(ask).await;
            assert_eq!((&reply["recovered"], &reply["replayed"]), (&json!(true), &json!(replayed)));
        }
        for gateway in [&one, &other] {
            let log = gateway.log();
            assert!(!log.contains("NATS refuses") && !log.contains("WARN"), "{log}");
        }
    });
}

/// Without the right to hear itself, or to speak to itself, a node proves nothing, and so it is not
/// ready, confirms nothing and subscribes nobody; its log names the subject.
#[test]
fn without_its_echo_a_node_is_not_ready() {
    run(async {
        for (publish, subscribe, verb) in
            [(&[IN, NODE][..], &[IN][..], "Subscription"), (&[IN][..], &[IN, NODE][..], "Publish")]
        {
            let nats = server(publish, subscribe).await;
            let gateway = Gateway::launch(&settings(&nats, "gateway"));
            until("health is answered", SOON, || async { gateway.health("ready").await.is_some() })
                .await;
            names(&gateway, verb, "tidegate.node.").await;
            is_refused_honestly(&gateway, Method::POST, "/v1/topics/open.a/messages").await;
            is_refused_honestly(&gateway, Method::DELETE, "/v1/topics/open.a").await;
            let mut browser = gateway.browser("").await;
            for command in ["subscribe", "publish"] {
                let command = json!({"type": command, "topic": "open.a", "data": 1});
                let reply = timeout(ANSWER, browser.ask(command)).await;
                let reply = reply.expect("an answer in time");
                let code = reply["code"].as_str().unwrap_or_default();
                assert!(matches!(code, "bus_unavailable" | "outcome_unknown"), "{reply}");
            }
            let health = gateway.health("ready").await.expect("health");
            assert_eq!(health["ok"], false, "{health}");
        }
    });
}

/// Whether the log has named a subject below `in` as refused.
fn names_in(gateway: &Gateway, verb: &str) -> bool {
    gateway.log().lines().any(|line| {
        line.contains("NATS refuses") && line.contains(verb) && line.contains("tidegate.in.")
    })
}

/// Without the right to publish below `in`, no publish is confirmed, from the first on; the log names
/// the subject.
#[test]
fn without_the_right_to_publish_nothing_is_confirmed() {
    run(async {
        let nats = server(&[NODE], &[IN, NODE]).await;
        let gateway = Gateway::launch(&settings(&nats, "gateway"));
        until("health is answered", SOON, || async { gateway.health("ready").await.is_some() })
            .await;
        // At first the link may not be there, which is as good a reason.
        until("the log names the subject", SOON, || async {
            is_refused_honestly(&gateway, Method::POST, "/v1/topics/open.a/messages").await;
            is_refused_honestly(&gateway, Method::DELETE, "/v1/topics/open.b").await;
            names_in(&gateway, "Publish")
        })
        .await;
        let mut browser = gateway.browser("").await;
        for n in 0..50 {
            let topic = format!("open.t{n}");
            for _ in 0..2 {
                let command = json!({"type": "publish", "topic": topic, "data": 1});
                let reply = browser.ask(command).await;
                let code = reply["code"].as_str().unwrap_or_default();
                assert!(matches!(code, "bus_unavailable" | "outcome_unknown"), "{n}: {reply}");
            }
        }
    });
}

/// Without the right to subscribe below `in`, nobody is `subscribed` and deaf, from the first on; the
/// log names the subject.
#[test]
fn without_the_right_to_subscribe_nobody_is_deaf() {
    run(async {
        let nats = server(&[IN, NODE], &[NODE]).await;
        let gateway = Gateway::launch(&settings(&nats, "gateway"));
        until("health is answered", SOON, || async { gateway.health("ready").await.is_some() })
            .await;
        let is_refused = async |topic: &str| {
            let mut browser = gateway.browser("").await;
            let command = json!({"type": "subscribe", "topic": topic});
            let reply = browser.ask(command).await;
            assert_eq!(reply["code"], "bus_unavailable", "{topic}: {reply}");
        };
        // At first the link may not be there, which is as good a reason.
        until("the log names the subject", SOON, || async {
            is_refused("open.a").await;
            names_in(&gateway, "Subscription")
        })
        .await;
        for topic in ["open.a", "open.>", "open.*"] {
            is_refused(topic).await;
        }
        for n in 0..50 {
            is_refused(&format!("open.t{n}")).await;
        }
    });
}
