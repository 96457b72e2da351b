//! A node that goes away sends everybody elsewhere, each at a time of its own.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Error;

use crate::harness::gateway::free_address;
use crate::harness::{Browser, Gateway, Process, SOON, Settings, run, soon, until};

/// How one client was sent away.
struct Departure {
    /// Its slot, from the beginning of the drain.
    slot: Duration,
    /// When the socket was closed, from there.
    closed: Duration,
}

/// Waits to be told, stays all the same, and is closed.
async fn stays(mut browser: Browser, began: Instant, limit: Duration) -> Departure {
    loop {
        let frame = browser.next_or_close(limit).await.expect("it is told first");
        if frame["type"] == "going_away" {
            let wait = frame["reconnect_in_ms"].as_u64().expect("a time");
            let slot = began.elapsed() + Duration::from_millis(wait);
            let closed = browser.closed(limit).await;
            assert_eq!((closed.status, closed.code().as_str()), (Some(1012), "draining"));
            let reason: Value = serde_json::from_str(&closed.reason).expect("JSON");
            assert_eq!(reason["retry"], true);
            assert!(reason["ms"].is_u64());
            return Departure { slot, closed: began.elapsed() };
        }
    }
}

/// SIGTERM, and `POST /drain` alike: ready turns false and clients are taken all the same; then nobody
/// new comes in, each client is told a slot of its own, evenly over the window, is closed with 1012
/// three seconds after it, and the process ends with 0.
#[test]
fn everybody_is_told_and_leaves_evenly() {
    run(async {
        for by_signal in [true, false] {
            let (lame_duck, window) = (Duration::from_secs(1), Duration::from_secs(6));
            let settings = Settings::open().line("drain: {lame_duck: 1s, window: 6s}");
            let mut gateway = Gateway::start(settings).await;
            let opening = (0..300).map(|_| gateway.browser("topic=open.a"));
            let browsers = join_all(opening).await;
            tell(&gateway, by_signal).await;
            until("it is not ready", Duration::from_secs(2), || async {
                gateway.health("ready").await.is_some_and(|health| health["ok"] == false)
            })
            .await;
            let late = gateway.browser("topic=open.a").await;
            let began = Instant::now();
            let limit = lame_duck + window + Duration::from_secs(8);
            let mut leaving: Vec<_> =
                browsers.into_iter().map(|browser| stays(browser, began, limit)).collect();
            leaving.push(stays(late, began, limit));
            let refused = async {
                until("nobody new comes in", Duration::from_secs(5), || async {
                    match Browser::dial(gateway.client, "", &[]).await {
                        Err(Error::Http(answer)) => {
                            assert_eq!(answer.status(), 503);
                            assert!(answer.headers().contains_key("retry-after"));
                            let body = answer.body().clone().unwrap_or_default();
                            let problem: Value = serde_json::from_slice(&body).expect("a problem");
                            assert_eq!(problem["code"], "draining");
                            true
                        }
                        _ => false,
                    }
                })
                .await;
            };
            let (departures, ()) = tokio::join!(join_all(leaving), refused);

            let mut slots: Vec<Duration> = departures.iter().map(|one| one.slot).collect();
            slots.sort();
            let (first, last) = (slots[0], slots[slots.len() - 1]);
            assert!(last - first <= window, "{:?}", last - first);
            assert!(last - first >= window * 9 / 10, "{:?}", last - first);
            // In no second twice as many as an even spread has.
            let even = departures.len() / 6;
            for second in 0..8_u64 {
                let part = Duration::from_secs(second)..Duration::from_secs(second + 1);
                let slots = slots.iter().filter(|slot| part.contains(&(**slot - first))).count();
                assert!(slots <= 2 * even, "{slots} in second {second}");
            }
            for one in &departures {
                let stayed = one.closed.saturating_sub(one.slot);
                let grace = Duration::from_millis(2_800)..Duration::from_millis(4_500);
                assert!(grace.contains(&stayed), "{stayed:?}");
            }
            assert_eq!(gateway.ended(Duration::from_secs(10)).await, Some(0));
        }
    });
}

/// Told twice, by whichever way each time, a node waits for nobody: 1001 to all, and the end within
/// two seconds.
#[test]
fn who_is_told_twice_ends_at_once() {
    run(async {
        for by_signal in [[true, true], [false, false], [false, true], [true, false]] {
            let settings = Settings::open().line("drain: {lame_duck: 30s, window: 45s}");
            let mut gateway = Gateway::start(settings).await;
            let mut browser = gateway.browser("topic=open.a").await;
            tell(&gateway, by_signal[0]).await;
            until("it is not ready", SOON, || async {
                gateway.health("ready").await.is_some_and(|health| health["ok"] == false)
            })
            .await;
            tell(&gateway, by_signal[1]).await;
            let told = Instant::now();
            assert_eq!(browser.closed(Duration::from_secs(2)).await.status, Some(1001));
            let limit = Duration::from_secs(2).saturating_sub(told.elapsed());
            assert_eq!(gateway.ended(limit).await, Some(0), "{by_signal:?}");
        }
    });
}

/// Tells a node to go, by SIGTERM or by `POST /drain`.
async fn tell(gateway: &Gateway, by_signal: bool) {
    if by_signal {
        return gateway.signal("TERM");
    }
    let url = format!("http://{}/drain", gateway.management);
    let answer = reqwest::Client::new().post(url).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
}

/// A publish that is under way when the node goes is answered.
#[test]
fn publishes_are_answered_during_the_drain() {
    run(async {
        // Longer than this publishes: with nobody to send away, the node has gone right behind it.
        let settings = Settings::open().line("drain: {lame_duck: 5s, window: 1s}");
        let gateway = Gateway::start(settings).await;
        gateway.signal("TERM");
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(2) {
            let path = "/v1/topics/open.a/messages";
            let answer = gateway.request(Method::POST, path).body("1").send().await;
            assert_eq!(answer.expect("an answer").status(), 200);
        }
    });
}

/// With `max_connection_age` a Connection is sent elsewhere at that age, give or take a tenth.
#[test]
fn old_connections_are_sent_elsewhere() {
    run(async {
        let gateway = Gateway::start(Settings::open().limit("max_connection_age: 3s")).await;
        let began = Instant::now();
        let opening = (0..20).map(|_| gateway.browser("topic=open.a"));
        let browsers = join_all(opening).await;
        let limit = Duration::from_secs(15);
        let departures = join_all(browsers.into_iter().map(|one| stays(one, began, limit))).await;
        for one in departures {
            assert!(one.slot >= Duration::from_millis(2_700), "{:?}", one.slot);
            assert!(one.slot <= Duration::from_millis(6_500), "{:?}", one.slot);
        }
    });
}

/// `POST /dev/drain` is a rehearsal with the one Connection that it names: it is told its slot, and is
/// closed behind it as in a drain. The others and the node stay, and take it again.
#[test]
fn dev_rehearses_a_drain_with_one() {
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
        let drain = async |connection: &Value| {
            let asked = http.post(format!("http://{address}/dev/drain"));
            let answer = asked.json(&json!({ "connection": connection })).send().await;
            assert_eq!(answer.expect("an answer").status(), StatusCode::ACCEPTED);
        };
        let mut browsers = Vec::new();
        for _ in 0..3 {
            let mut browser = Browser::connect(address, "topic=demo.hello").await;
            let connected = browser.next().await;
            browser.next().await;
            browsers.push((browser, connected["connection"].clone()));
        }
        drain(&json!("nobody")).await;
        let (second, name) = browsers.remove(1);
        let began = Instant::now();
        drain(&name).await;
        let departure = stays(second, began, SOON).await;
        assert!(departure.slot >= Duration::from_millis(1_900), "{:?}", departure.slot);
        let stayed = departure.closed.saturating_sub(departure.slot);
        assert!(stayed >= Duration::from_millis(2_800), "{stayed:?}");
        for (browser, _) in &mut browsers {
            soon("the others are quiet", browser.is_quiet()).await;
        }
        let mut again = Browser::connect(address, "topic=demo.hello").await;
        assert_eq!(again.next().await["type"], "connected");
    });
}
