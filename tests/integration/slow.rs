//! Slow clients: whoever does not read is closed, whoever reads is not, and nobody waits for either.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::harness::raw::{Raw, frame};
use crate::harness::{Gateway, SOON, Settings, run};

fn fast() -> Settings {
    Settings::open().limit("commands_per_second: 100000").limit("commands_burst: 100000")
}

/// Publishes numbers in one batch, each in a payload of about this size.
async fn burst(gateway: &Gateway, numbers: std::ops::Range<usize>, bytes: usize) {
    let filler = "x".repeat(bytes);
    let messages: Vec<Value> =
        numbers.map(|n| json!({"topic": "open.hot", "data": {"n": n, "filler": filler}})).collect();
    let answer = gateway
        .request(Method::POST, "/v1/publish")
        .body(json!({ "messages": messages }).to_string())
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 200, "{:?}", answer.text().await);
}

/// The number in a `message`.
fn number(text: &str) -> usize {
    let message: Value = serde_json::from_str(text).expect("JSON");
    let n = message["data"]["n"].as_u64().expect("a number");
    usize::try_from(n).expect("a small one")
}

/// One who never reads is closed with 4408 as soon as its Outbox is full; one who reads beside it gets
/// everything, in order.
#[test]
fn who_never_reads_is_closed_and_holds_up_nobody() {
    run(async {
        let gateway = Gateway::start(fast()).await;
        let base = gateway.descriptors();
        let mut healthy = Raw::connect(gateway.client).await.subscribe("open.hot").await;
        let mut mute = Raw::small(gateway.client).subscribe("open.hot").await;
        let publishing = async {
            for part in 0..100 {
                burst(&gateway, part * 10..part * 10 + 10, 1_024).await;
            }
        };
        let reading = async {
            for n in 0..1_000 {
                assert_eq!(number(&healthy.text().await), n);
            }
        };
        let told = async {
            gateway.until_count("slow_consumers", 1, SOON).await;
            let (status, reason) = mute.close(SOON).await.expect("a close frame");
            assert_eq!(status, 4408);
            assert!(reason.contains("slow_consumer"), "{reason}");
        };
        tokio::join!(publishing, reading, told);
        gateway.until_hit("outbox_bytes", 1).await;
        drop((healthy, mute));
        gateway.until_empty(base, SOON).await;
    });
}

/// A burst of more than an Outbox holds closes nobody who reads: it is flushed before it counts as
/// full.
#[test]
fn a_burst_closes_nobody_who_reads() {
    run(async {
        let gateway = Gateway::start(fast()).await;
        let mut reading = JoinSet::new();
        for mut raw in Raw::crowd(gateway.client, "open.hot", 100).await {
            reading.spawn(async move {
                for n in 0..1_000 {
                    assert_eq!(number(&raw.text().await), n);
                }
                raw
            });
        }
        burst(&gateway, 0..1_000, 90).await;
        let mut readers = Vec::new();
        while let Some(read) = reading.join_next().await {
            readers.push(read.expect("it reads all"));
        }
        let status = gateway.status().await;
        assert_eq!(status["slow_consumers"], 0);
        assert_eq!(status["connections"], 100);
        assert_eq!(status["deliveries"], 100_000);
    });
}

/// A client that reads 100 KB a second gets all of a burst that fits its Outbox.
#[test]
fn a_slow_reader_keeps_what_fits() {
    run(async {
        let gateway = Gateway::start(fast()).await;
        let mut slow = Raw::small(gateway.client).subscribe("open.hot").await;
        burst(&gateway, 0..220, 1_024).await;
        let texts = slow.read_slowly(100_000, 220).await;
        let numbers: Vec<usize> = texts.iter().map(|text| number(text)).collect();
        assert_eq!(numbers, Vec::from_iter(0..220));
        assert_eq!(gateway.count("slow_consumers").await, 0);
    });
}

/// Who takes no byte of what waits for `write_timeout` is closed, though its Outbox has room: both
/// where it has never been full and where it was flushed because it was.
#[test]
fn who_takes_nothing_for_write_timeout_is_closed() {
    run(async {
        let mut settings = fast().limit("write_timeout: 1s");
        // The one thread publishes all of a burst before it looks at its inbox.
        settings.shards = 1;
        let gateway = Gateway::start(settings).await;
        let base = gateway.descriptors();
        for (closed, messages) in [(0, 200), (1, 300)] {
            let mute = Raw::small(gateway.client).subscribe("open.hot").await;
            burst(&gateway, 0..messages, 1_024).await;
            assert_eq!(gateway.count("slow_consumers").await, closed, "it fits");
            let limit = Duration::from_secs(4);
            gateway.until_count("slow_consumers", closed + 1, limit).await;
            gateway.until_hit("write_timeout", closed + 1).await;
            gateway.until_empty(base, SOON).await;
            drop(mute);
        }
    });
}

/// Replies count like everything else: who asks and never reads is closed.
#[test]
fn who_asks_and_never_reads_is_closed() {
    run(async {
        let gateway = Gateway::start(fast()).await;
        let base = gateway.descriptors();
        let mut mute = Raw::small(gateway.client).subscribe("open.hot").await;
        let asks = frame(0x81, br#"{"type":"ping"}"#).repeat(1_000);
        let asking = async {
            for _ in 0..30 {
                mute.send(&asks).await;
            }
        };
        tokio::join!(asking, gateway.until_count("slow_consumers", 1, SOON));
        gateway.until_empty(base, SOON).await;
    });
}

/// Memory is back when the slow ones are gone: the third round of 200 needs no more than the first.
#[test]
fn slow_readers_leave_no_memory_behind() {
    run(async {
        let gateway = Gateway::start(fast()).await;
        let base = gateway.descriptors();
        let mut resident = Vec::new();
        for round in 1..=3 {
            let mut mute = Vec::new();
            for _ in 0..200 {
                mute.push(Raw::small(gateway.client).subscribe("open.hot").await);
            }
            while gateway.count("slow_consumers").await < round * 200 {
                burst(&gateway, 0..100, 1_024).await;
            }
            gateway.until_empty(base, SOON).await;
            resident.push(gateway.resident_bytes());
        }
        println!("resident after each round: {resident:?}");
        assert!(resident[2] < resident[0] + (2 << 20), "{resident:?}");
    });
}
