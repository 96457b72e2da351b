//! The EventSource of a real Chromium, where there is one: it comes back by itself, and nothing is lost
//! that is kept, or the page is told.

use std::time::Duration;

use crate::harness::chromium::Chromium;
use crate::harness::proxy::Weather;
use crate::harness::{Balancer, Gateway, Grants, Nats, Proxy, Settings, pass, run};

/// A gateway that keeps `open`, for pages of this Origin.
fn keeps(chromium: &Chromium) -> Settings {
    let auth = vec![
        "issuers: [{algorithm: HS256, key_file: $FOLDER/secret}]".to_owned(),
        format!("origins: [{:?}]", chromium.origin),
    ];
    let settings = Settings { auth: Some(auth), ..Settings::open() };
    settings.line("namespaces: {open: {history: {messages: 1000}}}")
}

async fn publish(gateway: &Gateway, n: u64) {
    assert_eq!(gateway.publish("open.a", n.to_string()).await.status(), 200);
}

/// Cut twice, and sent away by age again and again as in a drain, while somebody publishes: the page
/// hears everything once and in order.
#[test]
fn it_comes_back_and_misses_nothing() {
    run(async {
        let Some(mut chromium) = Chromium::find().await else { return };
        let gateway = Gateway::start(keeps(&chromium).limit("max_connection_age: 3s")).await;
        let proxy = Proxy::start(gateway.client).await;
        chromium.open(proxy.address, "topic=open.**");
        chromium.until_told("position").await;
        let publishing = async {
            for n in 1..=240 {
                if n % 80 == 40 {
                    proxy.set(Weather::Cut);
                }
                publish(&gateway, n).await;
                if n % 80 == 50 {
                    proxy.set(Weather::Pass);
                }
                pass(Duration::from_millis(60)).await;
            }
        };
        let hearing = async {
            let (mut heard, mut opened, mut sent_away) = (Vec::new(), 0, 0);
            while heard.last() != Some(&240) {
                let told = chromium.told().await;
                match told["kind"].as_str().expect("a kind") {
                    "open" => opened += 1,
                    "close" => {
                        assert_eq!(told["data"]["code"], "draining");
                        sent_away += 1;
                    }
                    "message" => {
                        assert_eq!(told["id"], told["data"]["cursor"]);
                        heard.push(told["data"]["data"].as_u64().expect("a number"));
                    }
                    "gap" | "stopped" => panic!("{told}"),
                    _ => {}
                }
            }
            assert_eq!(heard, (1..=240).collect::<Vec<_>>());
            assert!(opened >= 3, "{opened} times open");
            sent_away
        };
        let ((), sent_away) = tokio::join!(publishing, hearing);
        if sent_away == 0 {
            // The cuts were always faster than its age; now none comes.
            chromium.until_told("close").await;
        }
        publish(&gateway, 241).await;
        assert_eq!(chromium.until_told("message").await["data"]["data"], 241);
    });
}

/// Its node leaves while somebody publishes: it comes back by itself, to another node behind the
/// balancer, and the page hears everything once and in order.
#[test]
fn it_goes_on_at_another_node() {
    run(async {
        let Some(mut chromium) = Chromium::find().await else { return };
        let nats = Nats::with_streams().await;
        let settings = keeps(&chromium).on(&nats.url());
        let settings = settings.line("drain: {lame_duck: 0s, window: 1s}");
        let mut first = Gateway::start(settings.clone()).await;
        let second = Gateway::start(settings).await;
        let balancer = Balancer::start(vec![first.client]).await;
        chromium.open(balancer.address, "topic=open.**");
        chromium.until_told("position").await;
        let publishing = async {
            for n in 1..=120 {
                if n == 30 {
                    balancer.add(second.client);
                    balancer.remove(first.client);
                    first.signal("TERM");
                }
                publish(&second, n).await;
                pass(Duration::from_millis(40)).await;
            }
            assert_eq!(first.ended(Duration::from_secs(20)).await, Some(0));
        };
        let hearing = async {
            let (mut heard, mut opened, mut sent_away) = (Vec::new(), 0, 0);
            while heard.last() != Some(&120) {
                let told = chromium.told().await;
                match told["kind"].as_str().expect("a kind") {
                    "open" => opened += 1,
                    "close" => {
                        assert_eq!(told["data"]["code"], "draining");
                        sent_away += 1;
                    }
                    "message" => heard.push(told["data"]["data"].as_u64().expect("a number")),
                    "gap" | "stopped" => panic!("{told}"),
                    _ => {}
                }
            }
            assert_eq!(heard, (1..=120).collect::<Vec<_>>());
            assert_eq!((opened, sent_away), (1, 1), "once open again, and once sent away");
        };
        tokio::join!(publishing, hearing);
        assert_eq!(second.count("connections").await, 1);
    });
}

/// A node that leaves sends it away, and tells it to come back later as long as it is there; another node
/// with another history tells the page what that means. With its Token it stops.
#[test]
fn it_is_told_what_it_misses_and_when_to_stop() {
    run(async {
        let Some(mut chromium) = Chromium::find().await else { return };
        let settings = keeps(&chromium).line("drain: {lame_duck: 0s, window: 1s}");
        let mut first = Gateway::start(settings.clone()).await;
        let balancer = Balancer::start(vec![first.client]).await;
        let short = Gateway::token_for("ana", &Grants::all(&["open.>"]), Duration::from_secs(40));
        chromium.open(balancer.address, &format!("topic=open.**&token={short}"));
        chromium.until_told("position").await;
        publish(&first, 1).await;
        assert_eq!(chromium.until_told("message").await["data"]["data"], 1);
        first.signal("TERM");
        assert_eq!(chromium.until_told("close").await["data"]["code"], "draining");
        first.ended(Duration::from_secs(20)).await;
        balancer.remove(first.client);
        let second = Gateway::start(settings).await;
        balancer.add(second.client);
        let gap = chromium.until_told("gap").await;
        assert_eq!(gap["data"]["reason"], "epoch_changed");
        chromium.until_told("position").await;
        publish(&second, 2).await;
        assert_eq!(chromium.until_told("message").await["data"]["data"], 2);
        assert_eq!(chromium.until_told("close").await["data"]["code"], "token_expired");
        chromium.until_told("stopped").await;
    });
}
