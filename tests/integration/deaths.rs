//! Whoever is gone is gone: from the table, from the counts, with its descriptor. Who is only quiet
//! stays.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use socket2::SockRef;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;

use crate::harness::browser::Closed;
use crate::harness::gateway::free_address;
use crate::harness::process::signal;
use crate::harness::proxy::Weather;
use crate::harness::raw::{HANDSHAKE, Raw, frame};
use crate::harness::{Browser, Gateway, Process, Proxy, SOON, Settings, pass, run, soon, until};

/// What the heartbeat promises: 25 s, 8 s for the answer, and a little to notice.
const GONE: Duration = Duration::from_secs(34);

fn short() -> Settings {
    Settings::open().limit("ping_after: 2s").limit("pong_timeout: 1s")
}

/// Reads until `time` is over, and answers `ping` Frames if told to: how the Connection ended, or
/// how many pings came.
async fn listen(mut browser: Browser, time: Duration, answers: bool) -> Result<u32, Closed> {
    let since = Instant::now();
    let mut pings = 0;
    let mut passing = std::pin::pin!(pass(time));
    loop {
        let frame = tokio::select! {
            () = &mut passing => return Ok(pings),
            frame = browser.next_or_close(time * 2) => frame?,
        };
        if frame == json!({"type": "ping"}) {
            pings += 1;
            if answers {
                browser.send(json!({"type": "pong"})).await;
            }
        }
        assert!(since.elapsed() < time * 2, "it never ends");
    }
}

/// A frozen process and one behind a black hole are gone within 34 s, with everything they had; a
/// healthy one beside them, as idle as they, stays. With the times that a gateway starts with.
#[test]
fn the_frozen_and_the_unreachable_are_gone_within_34_seconds() {
    run(async {
        let gateway = Gateway::start(Settings::open()).await;
        let base = gateway.descriptors();
        let proxy = Proxy::start(gateway.client).await;
        let _unreachable = Browser::connect(proxy.address, "topic=open.b").await;
        let url = format!("http://{}", gateway.client);
        let frozen = Process::start(["subscribe", "--url", &url, "open.a"]);
        let healthy = gateway.browser("topic=open.c").await;
        gateway.until_count("subscriptions", 3, SOON).await;
        signal(frozen.id(), "STOP");
        proxy.set(Weather::BlackHole);
        let since = Instant::now();
        let gone = async {
            gateway.until_count("connections", 1, GONE).await;
            println!("gone after {:?}", since.elapsed());
            gateway.until_count("subscriptions", 1, GONE).await;
            until("their descriptors are closed", SOON, || async {
                gateway.descriptors() <= base + 1
            })
            .await;
            assert!(since.elapsed() <= GONE, "it took {:?}", since.elapsed());
        };
        let (listened, ()) = tokio::join!(listen(healthy, GONE, false), gone);
        assert_eq!(listened, Ok(0), "the healthy one stays");
        assert_eq!(gateway.count("no_pongs").await, 2);
        gateway.until_empty(base, SOON).await;
    });
}

/// Over four rounds of the heartbeat nobody who answers is evicted, whether by protocol pings or in
/// mode `message`, where a `ping` comes each round; who does not answer that one is, and is told.
#[test]
fn who_answers_stays_and_who_does_not_is_told() {
    run(async {
        let gateway = Gateway::start(short()).await;
        let base = gateway.descriptors();
        let rounds = Duration::from_secs(13);
        let mut others = JoinSet::new();
        for (query, answers) in [
            ("topic=open.a", false),
            ("topic=open.b&heartbeat=message", true),
            ("topic=open.c&heartbeat=message", false),
        ] {
            let browser = gateway.browser(query).await;
            others.spawn(async move { (query, listen(browser, rounds, answers).await) });
        }
        while let Some(ended) = others.join_next().await {
            match ended.expect("no panic") {
                ("topic=open.a", listened) => assert_eq!(listened, Ok(0)),
                (_, Ok(pings)) => assert!((3..=9).contains(&pings), "{pings} pings"),
                (query, Err(closed)) => {
                    assert_eq!(query, "topic=open.c&heartbeat=message");
                    assert_eq!((closed.status, &*closed.code()), (Some(4408), "no_pong"));
                }
            }
        }
        assert_eq!(gateway.count("no_pongs").await, 1);
        gateway.until_empty(base, SOON).await;
    });
}

/// A gateway that was stopped itself, for much longer than any silence it allows, evicts nobody.
#[test]
fn a_node_that_stood_still_blames_nobody() {
    run(async {
        let settings = Settings::open().limit("ping_after: 1s").limit("pong_timeout: 1s");
        let gateway = Gateway::start(settings).await;
        let mut listening = JoinSet::new();
        let time = Duration::from_secs(9);
        for query in ["topic=open.a", "topic=open.a&heartbeat=message"] {
            for _ in 0..20 {
                let browser = gateway.browser(query).await;
                listening.spawn(listen(browser, time, true));
            }
        }
        gateway.until_count("subscriptions", 40, SOON).await;
        gateway.signal("STOP");
        pass(Duration::from_secs(5)).await;
        gateway.signal("CONT");
        while let Some(listened) = listening.join_next().await {
            listened.expect("no panic").expect("nobody is evicted");
        }
        assert_eq!(gateway.count("no_pongs").await, 0);
    });
}

/// However a client dies (by FIN, by RST, by half a close, within a frame, within the handshake)
/// nothing of it is left.
#[test]
fn every_death_leaves_nothing() {
    run(async {
        let gateway = Gateway::start(Settings::open()).await;
        let base = gateway.descriptors();
        let dead = |raw: &Raw| {
            // It ends by RST, whatever is still under way.
            let linger = Some(Duration::ZERO);
            SockRef::from(&raw.stream).set_linger(linger).expect("so");
        };
        let part = &frame(0x81, br#"{"type":"ping"}"#)[..9];
        for bytes in [&[][..], part] {
            let fin = subscribed(&gateway, bytes).await;
            gateway.until_count("subscriptions", 1, SOON).await;
            drop(fin);
            gateway.until_empty(base, SOON).await;

            let rst = subscribed(&gateway, bytes).await;
            dead(&rst);
            drop(rst);
            gateway.until_empty(base, SOON).await;

            let mut half = subscribed(&gateway, bytes).await;
            half.stream.shutdown().await.expect("it is shut");
            assert_eq!(half.rest(SOON).await, b"", "no goodbye to who has gone");
            gateway.until_empty(base, SOON).await;
        }
        for length in [1, 20, HANDSHAKE.len() - 1, HANDSHAKE.len()] {
            for by_reset in [false, true] {
                let mut raw = Raw::connect(gateway.client).await;
                raw.send(&HANDSHAKE.as_bytes()[..length]).await;
                if by_reset {
                    dead(&raw);
                }
                drop(raw);
            }
        }
        gateway.until_empty(base, SOON).await;
        assert_eq!(gateway.status().await["no_pongs"], 0);
    });
}

async fn subscribed(gateway: &Gateway, and: &[u8]) -> Raw {
    let raw = Raw::connect(gateway.client).await;
    let mut raw = raw.subscribe("open.*").await;
    raw.send(and).await;
    raw
}

/// A goodbye is echoed with its own status, and then nothing is left; also if its sender never
/// closes the socket.
#[test]
fn a_goodbye_is_echoed() {
    run(async {
        let gateway = Gateway::start(Settings::open()).await;
        let base = gateway.descriptors();
        for status in [1000, 1001, 3000] {
            let mut browser = gateway.browser("topic=open.a").await;
            let close = CloseFrame { code: status.into(), reason: "bye".into() };
            browser.send_raw(Message::Close(Some(close))).await;
            let closed = browser.closed(SOON).await;
            assert_eq!(closed.status, Some(status));
            gateway.until_empty(base, SOON).await;

            let mut raw = subscribed(&gateway, &frame(0x88, &status.to_be_bytes())).await;
            assert_eq!(raw.close(SOON).await, Some((status, String::new())));
            gateway.until_empty(base, SOON).await;
        }
        let mut raw = subscribed(&gateway, &frame(0x88, b"")).await;
        assert_eq!(raw.close(SOON).await, Some((1000, String::new())));
        gateway.until_empty(base, SOON).await;
    });
}

/// SIGTERM: 200 clients are all told to come back, and when; the process ends with 0 within 2 s, also
/// if some of them do not react at all.
#[test]
fn a_node_that_ends_tells_everybody() {
    run(async {
        let mut gateway = Gateway::start(Settings::open()).await;
        let mut listening = JoinSet::new();
        for _ in 0..200 {
            let browser = gateway.browser("topic=open.a").await;
            listening.spawn(listen(browser, Duration::from_secs(30), false));
        }
        let _mute = Raw::crowd(gateway.client, "open.a", 3).await;
        gateway.until_count("subscriptions", 203, SOON).await;
        gateway.signal("TERM");
        let since = Instant::now();
        assert_eq!(gateway.ended(SOON).await, Some(0));
        let lasted = since.elapsed();
        assert!(lasted < Duration::from_secs(2), "it took {lasted:?}");
        let mut times = Vec::new();
        while let Some(listened) = listening.join_next().await {
            let closed = listened.expect("no panic").expect_err("all are told");
            let reason: Value = serde_json::from_str(&closed.reason).expect("JSON");
            assert_eq!(closed.status, Some(1012), "{closed:?}");
            assert_eq!((&reason["code"], &reason["retry"]), (&json!("draining"), &json!(true)));
            times.push(reason["ms"].as_u64().expect("a time"));
        }
        times.sort_unstable();
        times.dedup();
        assert!(times.len() >= 50, "they come back at different times");
    });
}

/// A taken port is told before anything runs: 64, and the words name the key.
#[test]
fn a_taken_port_is_told_by_its_key() {
    run(async {
        let gateway = Gateway::start(Settings::open()).await;
        let file = gateway.folder.path().join("tidegate.yaml");
        let file = file.to_str().expect("UTF-8");
        let free = free_address().to_string();
        for (arguments, key) in [
            (vec!["serve", "--config", file], "--listen"),
            (vec!["serve", "--config", file, "--listen", &free], "--management"),
            (vec!["dev", "--listen", &gateway.client.to_string()], "--listen"),
        ] {
            let mut second = Process::start(arguments);
            assert_eq!(second.ended(SOON).await, Some(64));
            let words = second.errors();
            assert!(words.contains(key) && words.contains("in use"), "{words}");
        }
    });
}

/// `POST /dev/cut` drops the one Connection that it names, without a close frame; a wrong name drops
/// nobody.
#[test]
fn dev_cuts_exactly_one() {
    run(async {
        // What `dev` binds for itself must not be in the way of other tests.
        let _held = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 9_090)));
        let address = free_address();
        let _dev = Process::start(["dev", "--listen", &address.to_string()]);
        let http = reqwest::Client::new();
        until("it is there", SOON, || async {
            http.get(format!("http://{address}/dev/info")).send().await.is_ok()
        })
        .await;
        let cut = async |connection: &Value| {
            let answer = http
                .request(Method::POST, format!("http://{address}/dev/cut"))
                .json(&json!({ "connection": connection }))
                .send();
            assert_eq!(answer.await.expect("an answer").status(), 202);
        };
        let mut browsers = Vec::new();
        for _ in 0..3 {
            let mut browser = Browser::connect(address, "topic=demo.hello").await;
            let connected = browser.next().await;
            browser.next().await;
            browsers.push((browser, connected["connection"].clone()));
        }
        cut(&json!("nobody")).await;
        let (mut second, name) = browsers.remove(1);
        cut(&name).await;
        let closed = second.next_or_close(SOON).await.expect_err("it is cut");
        assert_eq!(closed.status, None, "{closed:?}");
        for (browser, _) in &mut browsers {
            soon("the others are quiet", browser.is_quiet()).await;
        }
    });
}

/// A Connection that ends as soon as it begins still begins: the 101 comes first, then the close
/// frame, whether its Token is bad or what came right behind the handshake.
#[test]
fn who_is_closed_at_once_hears_the_101_first() {
    run(async {
        let gateway = Gateway::start(Settings::open()).await;
        let mut browser = gateway.browser("token=bad").await;
        let closed = browser.closed(SOON).await;
        assert_eq!((closed.status, &*closed.code()), (Some(4401), "unauthenticated"));
        for (bytes, status) in
            [(&b"\x81\x01x"[..], 1002), (&frame(0x88, &3000_u16.to_be_bytes()), 3000)]
        {
            let mut raw = Raw::connect(gateway.client).await;
            raw.send(&[HANDSHAKE.as_bytes(), bytes].concat()).await;
            let head = raw.head().await;
            assert!(head.starts_with("HTTP/1.1 101"), "{head}");
            let close = raw.close(SOON).await;
            assert_eq!(close.map(|(status, _)| status), Some(status));
        }
    });
}

/// What was answered before a close is not lost to it: ten unreadable Commands in one packet get ten
/// answers, and then 4400.
#[test]
fn answers_come_before_the_close() {
    run(async {
        let gateway = Gateway::start(Settings::open()).await;
        let raw = Raw::connect(gateway.client).await;
        let mut raw = raw.subscribe("open.a").await;
        raw.send(&frame(0x81, b"?").repeat(10)).await;
        for n in 0..10 {
            let (first, payload) = raw.frame().await.expect("a frame");
            let text = String::from_utf8_lossy(&payload);
            assert!(first == 0x81 && text.contains("bad_message"), "{n}: {text}");
        }
        assert_eq!(raw.close(SOON).await.map(|(status, _)| status), Some(4400));
    });
}
