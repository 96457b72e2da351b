//! What all nodes do together: users are sent away everywhere and stay away, and Topics are listed.

use std::fs;
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegate::auth::Algorithm;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::Message;

use crate::harness::gateway::SECRET;
use crate::harness::proxy::Weather;
use crate::harness::{
    Browser, Events, Gateway, Nats, Proxy, SOON, Settings, pass, run, soon, until,
};
use crate::tokens::{hs, now};

/// Access ends everywhere within this.
const EVERYWHERE: Duration = Duration::from_secs(2);
/// A node that was not there knows who was revoked within this of its start.
const KNOWN: Duration = Duration::from_secs(6);
/// What may be kept on NATS.
const KEPT: &str = "namespaces: {kept: {history: {messages: 10, max_bytes: 2MiB}}}";

/// Keys for backends, as files of a gateway name them.
struct Keys {
    folder: TempDir,
    /// May disconnect, and read what there is.
    admin: String,
    /// May only read.
    reader: String,
}

impl Keys {
    fn make() -> Self {
        let (admin, admins) = tidegate::auth::make_api_key("admin").expect("a key");
        let (reader, readers) = tidegate::auth::make_api_key("reader").expect("a key");
        let admins = admins.replace("disconnect: false", "disconnect: true");
        let entries = format!("{admins}\n{readers}\n")
            .replace("history: []", "history: ['open.>', open, 'kept.>']");
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("keys.yaml"), entries).expect("they are written");
        Self { folder, admin, reader }
    }

    /// A gateway that knows them, on this NATS or alone.
    fn settings(&self, nats: Option<&Nats>) -> Settings {
        let file = self.folder.path().join("keys.yaml");
        let settings = Settings {
            auth: Some(vec![
                "issuers: [{algorithm: HS256, key_file: \"$FOLDER/secret\"}]".to_owned(),
                format!("api_keys_file: {file:?}"),
            ]),
            ..Settings::open()
        };
        match nats {
            Some(nats) => settings.on(&nats.url()),
            None => settings,
        }
    }
}

/// A Token that was issued at this second, or does not say when; with an id, or without.
fn token(sub: &str, iat: Option<u64>, jti: Option<&str>) -> String {
    let patterns = ["open.>", "kept.>"];
    let mut claims = json!({
        "sub": sub,
        "exp": now() + 3_600,
        "permissions": {"subscribe": patterns, "publish": patterns, "history": patterns},
    });
    if let Some(iat) = iat {
        claims["iat"] = iat.into();
    }
    if let Some(jti) = jti {
        claims["jti"] = jti.into();
    }
    hs(Algorithm::HS256, SECRET, &claims.to_string())
}

/// Asks for an end, and gives status and answer.
async fn disconnect(gateway: &Gateway, key: &str, body: impl ToString) -> (u16, Value) {
    let request = gateway.request(Method::POST, "/v1/disconnect").bearer_auth(key);
    let answer = request.body(body.to_string()).send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

/// The same, and it is done; so many are closed, unless somebody was too busy to say so in time.
async fn is_done(gateway: &Gateway, key: &str, body: Value, closed: u64) {
    let (status, answer) = disconnect(gateway, key, &body).await;
    assert_eq!(status, 200, "{body}: {answer}");
    if answer["silent_nodes"] == 0 {
        assert_eq!(answer["closed"], closed, "{body}: {answer}");
    }
}

/// A user's open socket, subscribed.
async fn socket(gateway: &Gateway, token: &str) -> Browser {
    let mut browser = gateway.browser(&format!("token={token}")).await;
    assert_eq!(browser.next().await["type"], "connected");
    browser.subscribe("open.a").await;
    browser
}

/// A user's open stream.
async fn stream(gateway: &Gateway, token: &str) -> Events {
    Events::open(gateway.client, &format!("topic=open.a&token={token}"), &[]).await
}

async fn is_closed(browser: &mut Browser, since: Instant) {
    let closed = browser.closed(SOON).await;
    assert_eq!((closed.status, closed.code().as_str()), (Some(4403), "revoked"), "{closed:?}");
    assert!(closed.reason.contains(r#""retry":false"#), "{closed:?}");
    assert!(since.elapsed() < EVERYWHERE, "{:?}", since.elapsed());
}

async fn has_ended(events: &mut Events, since: Instant) {
    let ended = events.ended(SOON).await;
    let last = ended.last().expect("a word at the end");
    assert_eq!((last.kind.as_str(), &last.data["code"]), ("close", &json!("revoked")));
    assert!(since.elapsed() < EVERYWHERE, "{:?}", since.elapsed());
}

/// Whether a Token opens a socket here; how it is refused, if not.
async fn refusal(gateway: &Gateway, token: &str) -> Option<(u16, String)> {
    let mut browser = gateway.browser(&format!("token={token}")).await;
    match browser.next_or_close(Duration::from_secs(20)).await {
        Ok(frame) => {
            assert_eq!(frame["type"], "connected");
            None
        }
        Err(closed) => Some((closed.status.expect("a close frame"), closed.code())),
    }
}

/// What a socket hears first, however long that takes: a Frame, or the status and reason of its end.
async fn first_word(gateway: &Gateway, token: &str) -> String {
    let url = format!("ws://{}/v1/connect?token={token}", gateway.client);
    let request = url.into_client_request().expect("a request");
    let stream = TcpStream::connect(gateway.client).await.expect("a TCP connection");
    let (mut socket, _) = client_async(request, stream).await.expect("a handshake");
    match socket.next().await {
        Some(Ok(Message::Text(text))) => text.to_string(),
        Some(Ok(Message::Close(Some(end)))) => format!("{} {}", u16::from(end.code), end.reason),
        other => panic!("neither a Frame nor a close: {other:?}"),
    }
}

/// A Token that counts no more is refused on every way in.
async fn is_refused(gateway: &Gateway, token: &str) {
    assert_eq!(refusal(gateway, token).await, Some((4403, "revoked".to_owned())));
    for (method, path) in [
        (Method::POST, "/v1/topics/open.a/messages"),
        (Method::DELETE, "/v1/topics/open.a"),
        (Method::POST, "/v1/publish"),
        (Method::GET, "/v1/topics/open.a/messages"),
        (Method::GET, "/v1/topics/open.*/state"),
        (Method::GET, "/v1/topics?prefix=open"),
        (Method::POST, "/v1/disconnect"),
        (Method::GET, "/v1/events?topic=open.a"),
    ] {
        let request = gateway.request(method, path).bearer_auth(token).body("{}");
        let answer = request.send().await.expect("an answer");
        let status = answer.status().as_u16();
        let problem: Value = answer.json().await.expect("JSON");
        assert_eq!((status, &problem["code"]), (403, &json!("revoked")), "{path}: {problem}");
    }
}

/// Stops a node, and waits until each of its threads stands still: the signal is taken by one of them.
async fn freeze(gateway: &Gateway) {
    gateway.signal("STOP");
    until("all threads stand still", SOON, || async {
        let threads = fs::read_dir(format!("/proc/{}/task", gateway.id())).expect("/proc");
        let stands = |thread: std::io::Result<fs::DirEntry>| {
            let stat = fs::read_to_string(thread.expect("a thread").path().join("stat"));
            stat.is_ok_and(|stat| stat.contains(") T "))
        };
        threads.into_iter().all(stands)
    })
    .await;
}

/// Waits until each of these nodes hears so many.
async fn hear(gateways: &[&Gateway], count: usize) {
    for gateway in gateways {
        until("all nodes are heard", SOON, || async {
            gateway.status().await["nodes"].as_array().is_some_and(|all| all.len() == count)
        })
        .await;
    }
}

/// A user who is disconnected on one node is gone from all three within 2 s, by socket and by stream,
/// and by older Tokens stays away by every way in, a renewal too; another user stays, and a later Token
/// is welcome. On a NATS that keeps streams, and on one that keeps none.
#[test]
fn a_user_is_sent_away_everywhere() {
    run(async {
        for (nats, keeps) in [(Nats::with_streams().await, true), (Nats::start().await, false)] {
            let keys = Keys::make();
            let mut nodes = Vec::new();
            for _ in 0..3 {
                let settings = keys.settings(Some(&nats));
                let settings = if keeps { settings.line(KEPT) } else { settings };
                nodes.push(Gateway::start(settings).await);
            }
            let told = |node: &Gateway| node.log().contains("not kept for those that start later");
            assert!(nodes.iter().all(|node| told(node) != keeps), "the start says what is kept");
            hear(&nodes.iter().collect::<Vec<_>>(), 3).await;
            let (ana, undated) = (token("ana", Some(now() - 10), None), token("ana", None, None));
            let ben = token("ben", Some(now() - 10), None);
            let (mut sockets, mut streams, mut others) = (vec![], vec![], vec![]);
            for node in &nodes {
                sockets.push(socket(node, &ana).await);
                sockets.push(socket(node, &undated).await);
                streams.push(stream(node, &ana).await);
                others.push(socket(node, &ben).await);
            }
            let since = Instant::now();
            is_done(&nodes[0], &keys.admin, json!({"user": "ana"}), 9).await;
            for socket in &mut sockets {
                is_closed(socket, since).await;
            }
            for stream in &mut streams {
                has_ended(stream, since).await;
            }
            for node in &nodes {
                is_refused(node, &ana).await;
                is_refused(node, &undated).await;
                node.until_count("connections", 1, SOON).await;
            }
            for other in &mut others {
                // Ben's Token is renewed, but not by one of Ana's.
                other.is_quiet().await;
                let renewed = other.ask(json!({"type": "token", "token": ben})).await;
                assert_eq!(renewed["type"], "token", "{renewed}");
                let refused = other.ask(json!({"type": "token", "token": ana})).await;
                assert_eq!(refused["code"], "revoked", "{refused}");
            }
            let later = token("ana", Some(now() + 2), None);
            for node in &nodes {
                let mut back = socket(node, &later).await;
                let refused = back.ask(json!({"type": "token", "token": ana})).await;
                assert_eq!(refused["code"], "revoked", "{refused}");
                back.is_quiet().await;
            }
            let metrics = nodes[1].metrics().await;
            let failures =
                |reason| metrics.sum("tidegate_auth_failures_total", &[("reason", reason)]);
            assert!(failures("revoked") >= 18.0 && failures("signature") == 0.0);
            let closed = [("close", "revoked")];
            assert!(metrics.sum("tidegate_connections_closed_total", &closed) >= 5.0);
            assert_eq!(metrics.sum("tidegate_revocations", &[]), 1.0);
            assert_eq!(metrics.sum("tidegate_nodes", &[]), 3.0);
        }
    });
}

/// A Token is sent away by its id, and its holder's other ones stay; a Connection by its name, and it
/// may come back. Again, it is nobody's any more.
#[test]
fn a_token_and_a_connection_are_sent_away_alone() {
    run(async {
        let nats = Nats::with_streams().await;
        let keys = Keys::make();
        let settings = || keys.settings(Some(&nats)).line(KEPT);
        let (one, other) = (Gateway::start(settings()).await, Gateway::start(settings()).await);
        hear(&[&one, &other], 2).await;
        let (bad, good) =
            (token("ana", Some(now()), Some("t-1")), token("ana", Some(now()), Some("t-2")));
        let mut leaving = socket(&other, &bad).await;
        let mut streaming = stream(&one, &bad).await;
        let mut staying = socket(&other, &good).await;
        let since = Instant::now();
        is_done(&one, &keys.admin, json!({"token_id": "t-1"}), 2).await;
        is_closed(&mut leaving, since).await;
        has_ended(&mut streaming, since).await;
        staying.is_quiet().await;
        for node in [&one, &other] {
            is_refused(node, &bad).await;
            assert_eq!(refusal(node, &good).await, None);
        }

        let mut named = other.browser(&format!("token={good}")).await;
        let name = named.next().await["connection"].clone();
        let since = Instant::now();
        is_done(&one, &keys.admin, json!({ "connection": name }), 1).await;
        is_closed(&mut named, since).await;
        staying.is_quiet().await;
        assert_eq!(refusal(&other, &good).await, None);
        is_done(&one, &keys.admin, json!({ "connection": name }), 0).await;
        for strange in ["", "-", "x-0-0", "x-0-zz", "-1"] {
            let name = format!("{}{strange}", name.as_str().expect("a text"));
            is_done(&other, &keys.admin, json!({ "connection": name }), 0).await;
        }
    });
}

/// A node that was down when somebody was revoked refuses him within 6 s of its start, and lets him in at
/// no time; and so does one that was frozen, and then misses nobody: who was connected there is sent
/// away, within 6 s.
#[test]
fn nodes_that_were_away_know_who_was_revoked() {
    run(async {
        let nats = Nats::with_streams().await;
        let keys = Keys::make();
        let settings = || keys.settings(Some(&nats)).line(KEPT);
        let one = Gateway::start(settings()).await;
        let frozen = Gateway::start(settings()).await;
        hear(&[&one, &frozen], 2).await;
        let ana = token("ana", Some(now() - 10), None);
        let mut held = socket(&frozen, &ana).await;
        freeze(&frozen).await;
        let (status, answer) = disconnect(&one, &keys.admin, json!({"user": "ana"})).await;
        // Who is asked may be too busy to answer in time, too.
        assert_eq!((status, &answer["closed"]), (200, &json!(0)), "{answer}");
        assert!(answer["silent_nodes"].as_u64() >= Some(1), "{answer}");
        // It beats no more, and is not waited for.
        hear(&[&one], 1).await;
        is_done(&one, &keys.admin, json!({"token_id": "t"}), 0).await;
        frozen.signal("CONT");
        let thawed = Instant::now();
        let closed = held.closed(KNOWN).await;
        assert_eq!((closed.status, closed.code().as_str()), (Some(4403), "revoked"));
        assert!(thawed.elapsed() < KNOWN);
        is_refused(&frozen, &ana).await;

        let started = Instant::now();
        let late = Gateway::launch(&settings());
        until("it answers", SOON, || async { late.health("live").await.is_some() }).await;
        // Whenever it takes a client, it knows.
        assert_eq!(refusal(&late, &ana).await, Some((4403, "revoked".to_owned())));
        assert!(started.elapsed() < KNOWN, "{:?}", started.elapsed());
        is_refused(&late, &ana).await;
        until("it is ready", SOON, || async {
            late.health("ready").await.is_some_and(|health| health["ok"] == true)
        })
        .await;
        assert_eq!(late.metrics().await.sum("tidegate_revocations", &[]), 2.0);
    });
}

/// A node that is cut off from NATS when somebody is revoked misses the call, and knows when it is back:
/// it sends him away, and refuses him.
#[test]
fn a_node_that_was_cut_off_makes_up_for_it() {
    run(async {
        let nats = Nats::with_streams().await;
        let keys = Keys::make();
        let one = Gateway::start(keys.settings(Some(&nats)).line(KEPT)).await;
        let proxy = Proxy::start(nats.client).await;
        let far = keys.settings(None).on(&format!("nats://{}", proxy.address)).line(KEPT);
        let far = Gateway::start(far).await;
        hear(&[&one, &far], 2).await;
        let ana = token("ana", Some(now() - 10), None);
        let (mut browser, mut events) = (socket(&far, &ana).await, stream(&far, &ana).await);
        proxy.set(Weather::Cut);
        until("the link is lost", SOON, || async {
            far.metrics().await.sum("tidegate_bus_connected", &[]) == 0.0
        })
        .await;
        let (status, answer) = disconnect(&one, &keys.admin, json!({"user": "ana"})).await;
        assert_eq!((status, &answer["closed"]), (200, &json!(0)), "{answer}");
        // Nobody can be sent away from a node that reaches nobody.
        let (status, problem) = disconnect(&far, &keys.admin, json!({"connection": "x"})).await;
        assert_eq!((status, &problem["code"]), (503, &json!("bus_unavailable")), "{problem}");
        proxy.set(Weather::Pass);
        let closed = browser.closed(SOON).await;
        assert_eq!((closed.status, closed.code().as_str()), (Some(4403), "revoked"));
        let ended = events.ended(SOON).await;
        assert_eq!(ended.last().expect("a word").data["code"], "revoked");
        is_refused(&far, &ana).await;
    });
}

/// While a node cannot read what was revoked, new Connections wait and then are told to come back; who
/// is connected stays. When it can, they come in.
#[test]
fn who_comes_while_nobody_knows_waits() {
    run(async {
        let mut nats = Nats::with_streams().await;
        let keys = Keys::make();
        let gateway = Gateway::start(keys.settings(Some(&nats)).line(KEPT)).await;
        let ana = token("ana", Some(now() - 10), None);
        let mut staying = socket(&gateway, &ana).await;
        nats.kill();
        // What it knows is fresh for a while.
        pass(Duration::from_secs(7)).await;
        let since = Instant::now();
        let path = format!("/v1/events?topic=open.a&token={ana}");
        let (first, stream) =
            tokio::join!(first_word(&gateway, &ana), gateway.request(Method::GET, &path).send());
        assert!(first.starts_with("1013 ") && first.contains("overloaded"), "{first}");
        assert!(since.elapsed() >= Duration::from_secs(9), "{:?}", since.elapsed());
        let stream = stream.expect("an answer").text().await.expect("text");
        assert!(
            stream.starts_with("retry: ") && stream.contains(r#""code":"overloaded""#),
            "{stream}"
        );
        let refused = [("reason", "revocations_unread")];
        let metrics = gateway.metrics().await;
        assert_eq!(metrics.sum("tidegate_connections_refused_total", &refused), 2.0);
        let (first, ()) = tokio::join!(first_word(&gateway, &ana), nats.run());
        assert!(first.contains(r#""type":"connected""#), "{first}");
        let publish = json!({"type": "publish", "topic": "open.b", "data": 1});
        soon("the link is whole", async {
            while staying.ask(publish.clone()).await["type"] != "published" {}
        })
        .await;
    });
}

/// The stream in which revocations are kept is removed: nodes put back what they know, so that one that
/// starts after that refuses whom they refuse; and they say so.
#[test]
fn what_was_lost_is_put_back() {
    run(async {
        const STREAM: &str = "TIDEGATE__revoked";
        let nats = Nats::with_streams().await;
        let keys = Keys::make();
        let settings = || keys.settings(Some(&nats)).line(KEPT);
        let one = Gateway::start(settings()).await;
        let other = Gateway::start(settings()).await;
        hear(&[&one, &other], 2).await;
        let ana = token("ana", Some(now() - 10), None);
        for n in 0..20 {
            is_done(&one, &keys.admin, json!({"token_id": format!("t-{n}")}), 0).await;
        }
        // The later of two is the one that counts.
        is_done(&one, &keys.admin, json!({"user": "ana"}), 0).await;
        is_done(&other, &keys.admin, json!({"user": "ana"}), 0).await;
        let stream = nats.stream(STREAM).await;
        assert_eq!(stream["state"]["num_subjects"], 21, "{stream}");
        assert_eq!(stream["config"]["storage"], "file");
        assert_eq!(stream["config"]["max_age"], 86_430_000_000_000_u64);
        assert_eq!(stream["config"]["max_msgs_per_subject"], 2);
        nats.remove_stream(STREAM).await;
        until("all of it is put back", Duration::from_secs(20), || async {
            let backend = nats.backend().await;
            let asked = backend.request(format!("$JS.API.STREAM.INFO.{STREAM}"), "".into()).await;
            let stream: Value = serde_json::from_slice(&asked.expect("an answer").payload).unwrap();
            stream["state"]["num_subjects"] == 21 && stream["state"]["messages"] == 21
        })
        .await;
        assert!([&one, &other].iter().any(|node| node.log().contains("it is put back")));
        let late = Gateway::start(settings()).await;
        is_refused(&late, &ana).await;
        assert_eq!(late.metrics().await.sum("tidegate_revocations", &[]), 21.0);
    });
}

/// One node on the Bus in memory does all of it alone.
#[test]
fn a_node_alone_does_the_same() {
    run(async {
        let keys = Keys::make();
        for settings in [keys.settings(None), keys.settings(None).line(KEPT)] {
            let gateway = Gateway::start(settings).await;
            let ana = token("ana", Some(now() - 10), Some("t-1"));
            let (mut browser, mut events) =
                (socket(&gateway, &ana).await, stream(&gateway, &ana).await);
            let since = Instant::now();
            is_done(&gateway, &keys.admin, json!({"user": "ana"}), 2).await;
            is_closed(&mut browser, since).await;
            has_ended(&mut events, since).await;
            is_refused(&gateway, &ana).await;
            let later = token("ana", Some(now() + 2), Some("t-2"));
            let mut back = socket(&gateway, &later).await;
            let listed = all_topics(&gateway, &keys.reader, "prefix=open").await;
            assert_eq!(listed, json!({"topics": ["open.a"], "silent_nodes": 0}));
            is_done(&gateway, &keys.admin, json!({"token_id": "t-2"}), 1).await;
            is_closed(&mut back, Instant::now()).await;
        }
    });
}

/// Who may not is told so, and what cannot be read is told what it should be; each has its code, and
/// ends nobody.
#[test]
fn what_is_asked_wrongly_ends_nobody() {
    run(async {
        let keys = Keys::make();
        let gateway = Gateway::start(keys.settings(None).limit("revocations: 2")).await;
        let ana = token("ana", Some(now() - 10), None);
        let mut browser = socket(&gateway, &ana).await;
        let long = "x".repeat(300);
        for body in [
            String::new(),
            "ana".to_owned(),
            "[]".to_owned(),
            "{}".to_owned(),
            r#"{"user":"ana","connection":"x"}"#.to_owned(),
            r#"{"user":"ana","token_id":"x"}"#.to_owned(),
            r#"{"user":"ana","user":"ana"}"#.to_owned(),
            r#"{"user":""}"#.to_owned(),
            r#"{"user":7}"#.to_owned(),
            r#"{"user":["ana"]}"#.to_owned(),
            r#"{"user":null}"#.to_owned(),
            r#"{"users":"ana"}"#.to_owned(),
            format!(r#"{{"user":"{long}"}}"#),
            format!(r#"{{"token_id":"{long}"}}"#),
            format!(r#"{{"connection":"{long}"}}"#),
        ] {
            let (status, problem) = disconnect(&gateway, &keys.admin, &body).await;
            assert_eq!(
                (status, &problem["code"]),
                (400, &json!("bad_message")),
                "{body}: {problem}"
            );
            assert!(problem["detail"].as_str().is_some_and(|words| !words.is_empty()));
        }
        let user = json!({"user": "ana"});
        for (key, status, code) in [
            (keys.reader.as_str(), 403, "forbidden"),
            (&ana, 403, "forbidden"),
            ("tgk_nobody_0", 401, "unauthenticated"),
        ] {
            let (got, problem) = disconnect(&gateway, key, &user).await;
            assert_eq!((got, &problem["code"]), (status, &json!(code)), "{problem}");
        }
        let anonymous = gateway.request(Method::POST, "/v1/disconnect").body(user.to_string());
        assert_eq!(anonymous.send().await.expect("an answer").status(), 401);
        let wrong = gateway.request(Method::GET, "/v1/disconnect").send().await.expect("an answer");
        assert_eq!(
            (wrong.status().as_u16(), &wrong.headers()["allow"]),
            (405, &"POST".parse().unwrap())
        );
        browser.is_quiet().await;
        // What is revoked has its bound; what is revoked already needs no more room.
        for _ in 0..2 {
            is_done(&gateway, &keys.admin, json!({"token_id": "t-1"}), 0).await;
            is_done(&gateway, &keys.admin, json!({"token_id": "t-2"}), 0).await;
        }
        let (status, problem) = disconnect(&gateway, &keys.admin, &user).await;
        assert_eq!((status, &problem["code"]), (503, &json!("overloaded")), "{problem}");
        gateway.until_hit("revocations", 1).await;
        browser.is_quiet().await;
    });
}

/// Where nodes keep what was revoked, no client can look or write, whatever its Grants.
#[test]
fn the_nodes_own_namespace_is_nobodys() {
    run(async {
        let keys = Keys::make();
        let gateway = Gateway::start(keys.settings(None).line(KEPT)).await;
        is_done(&gateway, &keys.admin, json!({"user": "ana"}), 0).await;
        let all = json!({"subscribe": [">"], "publish": [">"], "history": [">"]});
        let claims = json!({"sub": "root", "exp": now() + 60, "permissions": all}).to_string();
        let token = hs(Algorithm::HS256, SECRET, &claims);
        let mut browser = gateway.browser(&format!("token={token}")).await;
        assert_eq!(browser.next().await["type"], "connected");
        for topic in ["_revoked.>", "_revoked.**", "_revoked.*", "_revoked", "_revoked.a"] {
            for command in [
                json!({"type": "subscribe", "topic": topic}),
                json!({"type": "subscribe", "topic": topic, "from": "last"}),
                json!({"type": "publish", "topic": topic, "data": 1}),
                json!({"type": "history", "topic": topic}),
            ] {
                let reply = browser.ask(command).await;
                assert_eq!(reply["code"], "invalid_topic", "{reply}");
            }
            for (method, path) in [
                (Method::POST, format!("/v1/topics/{topic}/messages")),
                (Method::DELETE, format!("/v1/topics/{topic}")),
                (Method::GET, format!("/v1/topics/{topic}/messages")),
                (Method::GET, format!("/v1/topics/{topic}/state")),
                (Method::GET, format!("/v1/events?topic={topic}")),
                (Method::GET, format!("/v1/topics?prefix={topic}")),
            ] {
                let path = path.replace('>', "%3E");
                let request = gateway.request(method, &path).bearer_auth(&token).body("1");
                let answer = request.send().await.expect("an answer");
                let status = answer.status();
                let problem: Value = answer.json().await.expect("JSON");
                assert_eq!(
                    (status.as_u16(), &problem["code"]),
                    (400, &json!("invalid_topic")),
                    "{path}"
                );
            }
        }
    });
}

/// Lists Topics: status and answer.
async fn topics(gateway: &Gateway, key: &str, query: &str) -> (u16, Value) {
    let request = gateway.request(Method::GET, &format!("/v1/topics?{query}")).bearer_auth(key);
    let answer = request.send().await.expect("an answer");
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

/// The same, once every node has answered in time.
async fn all_topics(gateway: &Gateway, key: &str, query: &str) -> Value {
    soon("all nodes answer", async {
        loop {
            let (status, page) = topics(gateway, key, query).await;
            assert_eq!(status, 200, "{page}");
            if page["silent_nodes"] == 0 {
                return page;
            }
        }
    })
    .await
}

/// Topics that are subscribed to by name on two nodes are listed once and in order, in pages of any
/// size; Patterns are none of them, nor what nobody wants any more. A frozen node is told as silent.
#[test]
fn occupied_topics_are_listed_over_all_nodes() {
    run(async {
        let nats = Nats::start().await;
        let keys = Keys::make();
        let nodes = [
            Gateway::start(keys.settings(Some(&nats))).await,
            Gateway::start(keys.settings(Some(&nats))).await,
        ];
        hear(&[&nodes[0], &nodes[1]], 2).await;
        let mut readers = Vec::new();
        let mut expected = Vec::new();
        for n in 0..30 {
            let mut reader = nodes[n % 2].browser("").await;
            reader.subscribe(&format!("open.eu.t{n:02}")).await;
            reader.subscribe("open.eu.t00.>").await;
            reader.subscribe("open.both").await;
            expected.push(format!("open.eu.t{n:02}"));
            readers.push(reader);
        }
        for name in ["open.eu", "open.euro"] {
            readers[0].subscribe(name).await;
        }
        expected.insert(0, "open.eu".to_owned());
        for limit in [1, 2, 7, 31, 32, 1_000] {
            let (mut all, mut after) = (Vec::new(), String::new());
            loop {
                let query = format!("prefix=open.eu&limit={limit}{after}");
                let page = all_topics(&nodes[0], &keys.reader, &query).await;
                let listed = page["topics"].as_array().expect("a list");
                assert!(listed.len() <= limit);
                all.extend(listed.iter().map(|one| one.as_str().expect("a text").to_owned()));
                let Some(next) = page["next"].as_str() else { break };
                after = format!("&after={next}");
            }
            assert_eq!(all, expected, "{limit}");
        }
        let all = all_topics(&nodes[1], &keys.reader, "prefix=open").await;
        assert_eq!(all["topics"].as_array().map(Vec::len), Some(33), "{all}");
        // One that leaves is listed no more, unless another is there.
        for _ in 0..15 {
            readers.remove(0);
        }
        until("they are listed no more", SOON, || async {
            let page = all_topics(&nodes[0], &keys.reader, "prefix=open").await;
            page["topics"].as_array().is_some_and(|all| all.len() == 16)
        })
        .await;
        for (key, query, status, code) in [
            (&keys.reader, "", 403, "forbidden"),
            (&keys.reader, "prefix=other", 403, "forbidden"),
            (&keys.reader, "prefix=open.*", 400, "invalid_topic"),
            (&keys.reader, "prefix=open..a", 400, "invalid_topic"),
            (&keys.reader, "prefix=open&after=**", 400, "invalid_topic"),
            (&keys.reader, "prefix=open&limit=0", 400, "bad_message"),
            (&keys.reader, "prefix=open&limit=1001", 400, "bad_message"),
            (&keys.reader, "prefix=open&prefix=open", 400, "bad_message"),
        ] {
            let (got, problem) = topics(&nodes[0], key, query).await;
            assert_eq!((got, &problem["code"]), (status, &json!(code)), "{query}: {problem}");
        }
        freeze(&nodes[1]).await;
        let (status, page) = topics(&nodes[0], &keys.reader, "prefix=open").await;
        assert_eq!((status, &page["silent_nodes"]), (200, &json!(1)), "{page}");
        nodes[1].signal("CONT");
        until("it answers again", SOON, || async {
            topics(&nodes[0], &keys.reader, "prefix=open").await.1["silent_nodes"] == 0
        })
        .await;
    });
}

/// Every node beats once a second, and says who it is; one that has ended is forgotten.
#[test]
fn nodes_beat() {
    run(async {
        let nats = Nats::start().await;
        let backend = nats.backend().await;
        let mut beats = backend.subscribe("tidegate.node.beat").await.expect("a subscription");
        backend.flush().await.expect("it is flushed");
        let keys = Keys::make();
        let one = Gateway::start(keys.settings(Some(&nats)).line("node: one")).await;
        let _reader = one.browser("topic=open.a").await;
        soon("it says how many it has", async {
            loop {
                let beat = beats.next().await.expect("a beat").payload;
                let beat: Value = serde_json::from_slice(&beat).expect("JSON");
                assert!(
                    beat["node"].as_str().is_some_and(|name| name.starts_with("one-")),
                    "{beat}"
                );
                assert_eq!(beat["version"], env!("CARGO_PKG_VERSION"));
                assert!(beat["incarnation"].as_u64().is_some_and(|at| at / 1_000 + 60 > now()));
                if beat["connections"] == 1 {
                    break;
                }
            }
        })
        .await;
        let since = Instant::now();
        for _ in 0..5 {
            beats.next().await;
        }
        let took = since.elapsed();
        assert!((4_000..15_000).contains(&took.as_millis()), "{took:?}");
        let other = Gateway::start(keys.settings(Some(&nats))).await;
        hear(&[&one, &other], 2).await;
        drop(other);
        until("it is gone", SOON, || async {
            one.status().await["nodes"].as_array().is_some_and(|all| all.len() == 1)
        })
        .await;
    });
}
