//! Traces: one from the publisher to every node that hands a Publication on, taken by a real collector;
//! and silence where they are off.

use std::process::Command;
use std::time::Duration;

use async_nats::HeaderMap;
use futures_util::StreamExt as _;
use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Attribute;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use reqwest::Method;
use serde_json::Value;

use crate::harness::{Browser, Collector, Gateway, Grants, Nats, SOON, Settings, run, soon, until};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn parent(flags: &str) -> String {
    format!("00-{TRACE}-{PARENT}-{flags}")
}

fn settings(nats: &Nats, collector: &Collector) -> Settings {
    let anonymous = Grants::all(&["kept.>", "open.>"]);
    Settings { anonymous, ..Settings::default() }
        .line("namespaces: {kept: {history: {messages: 100}}, open: {}}")
        .on(&nats.url())
        .environment("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.url())
        .environment("OTEL_BSP_SCHEDULE_DELAY", "50")
        .environment("OTEL_METRICS_EXPORTER", "none")
        .environment("OTEL_LOGS_EXPORTER", "none")
}

/// So many clients of a Topic, all live.
async fn readers(gateway: &Gateway, topic: &str, count: usize) -> Vec<Browser> {
    let mut readers = Vec::new();
    for _ in 0..count {
        let mut reader = gateway.browser("").await;
        reader.subscribe(topic).await;
        readers.push(reader);
    }
    readers
}

/// Publishes with a `traceparent`; gives the `traceresponse`.
async fn post(gateway: &Gateway, topic: &str, traceparent: &str) -> Option<String> {
    let path = format!("/v1/topics/{topic}/messages");
    let request = gateway.request(Method::POST, &path).header("traceparent", traceparent).body("1");
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let told = answer.headers().get("traceresponse");
    told.map(|value| value.to_str().expect("text").to_owned())
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The spans of a trace, once there are so many; those of handshakes and probes are of others.
async fn spans(collector: &Collector, trace: &str, count: usize) -> Vec<Span> {
    let of_trace = || {
        let mut spans = collector.spans();
        spans.retain(|span| hex(&span.trace_id) == trace);
        spans
    };
    until("the spans have come", SOON, || async { of_trace().len() >= count }).await;
    let spans = of_trace();
    assert_eq!(spans.len(), count, "{spans:?}");
    spans
}

fn of_kind(spans: &[Span], kind: SpanKind) -> Vec<&Span> {
    spans.iter().filter(|span| span.kind == kind as i32).collect()
}

fn number(span: &Span, name: &str) -> i64 {
    let found = span.attributes.iter().find(|one| one.key == name);
    match found.and_then(|one| one.value.clone()).and_then(|value| value.value) {
        Some(Attribute::IntValue(number)) => number,
        other => panic!("{name} of {span:?} is {other:?}"),
    }
}

/// Over two nodes: the request, the publish inside it, and one delivery for each node, however many
/// clients and Shards it has, all in the trace of who asked; on best effort and where it is kept.
#[test]
fn one_trace_holds_publish_and_deliveries_of_both_nodes() {
    run(async {
        let (nats, collector) = (Nats::with_streams().await, Collector::start().await);
        let one = Gateway::start(settings(&nats, &collector)).await;
        let other = Gateway::start(settings(&nats, &collector)).await;
        for (topic, label) in [("open.a", "open"), ("kept.a", "kept")] {
            let mut all = readers(&one, topic, 2).await;
            all.extend(readers(&other, topic, 5).await);
            let trace = TRACE.replace('0', if label == "open" { "1" } else { "2" });
            let came = format!("00-{trace}-{PARENT}-01");
            let told = post(&one, topic, &came).await.expect("a traceresponse");
            for reader in &mut all {
                reader.message().await;
            }
            let spans = spans(&collector, &trace, 4).await;
            let server = of_kind(&spans, SpanKind::Server)[0];
            assert_eq!(hex(&server.parent_span_id), PARENT);
            assert_eq!(server.name, "POST /v1/topics/{topic}/messages");
            assert_eq!(told, format!("00-{trace}-{}-01", hex(&server.span_id)));
            let producer = of_kind(&spans, SpanKind::Producer)[0];
            assert_eq!(producer.parent_span_id, server.span_id);
            assert_eq!(producer.name, format!("publish {label}"));
            let mut fanouts = Vec::new();
            for consumer in of_kind(&spans, SpanKind::Consumer) {
                assert_eq!(consumer.parent_span_id, producer.span_id);
                assert_eq!(consumer.links[0].span_id, producer.span_id);
                assert_eq!(consumer.name, format!("deliver {label}"));
                assert_eq!(number(consumer, "tidegate.fanout.dropped"), 0);
                let matched = number(consumer, "tidegate.fanout.matched");
                assert_eq!(number(consumer, "tidegate.fanout.queued"), matched);
                fanouts.push(matched);
            }
            fanouts.sort_unstable();
            assert_eq!(fanouts, [2, 5]);
        }
    });
}

/// Whoever publishes straight into NATS with a `traceparent` finds the deliveries in that trace.
#[test]
fn a_publisher_on_nats_begins_the_trace() {
    run(async {
        let (nats, collector) = (Nats::with_streams().await, Collector::start().await);
        let gateway = Gateway::start(settings(&nats, &collector)).await;
        let mut all = readers(&gateway, "open.a", 1).await;
        all.extend(readers(&gateway, "kept.a", 1).await);
        let backend = nats.backend().await;
        for topic in ["open.a", "kept.a"] {
            let mut headers = HeaderMap::new();
            headers.insert("traceparent", parent("01").as_str());
            let subject = format!("tidegate.in.{topic}");
            backend.publish_with_headers(subject, headers, "1".into()).await.expect("it is sent");
        }
        for reader in &mut all {
            reader.message().await;
        }
        let spans = spans(&collector, TRACE, 2).await;
        assert_eq!(of_kind(&spans, SpanKind::Consumer).len(), 2);
        assert!(spans.iter().all(|span| hex(&span.parent_span_id) == PARENT));
    });
}

/// The header that a Publication has on NATS.
async fn on_nats(nats: &Nats, gateway: &Gateway, traceparent: &str) -> String {
    let backend = nats.backend().await;
    let mut heard = backend.subscribe("tidegate.in.open.spied").await.expect("a subscription");
    backend.flush().await.expect("it has arrived");
    post(gateway, "open.spied", traceparent).await;
    let message = soon("a message", heard.next()).await.expect("a message");
    message.headers.expect("headers").get("traceparent").expect("a trace").to_string()
}

/// What is not sampled is not sent, and the nodes behind are told so: who asks decides, unless the
/// environment does.
#[test]
fn the_sampler_decides() {
    run(async {
        let (nats, collector) = (Nats::with_streams().await, Collector::start().await);
        let gateway = Gateway::start(settings(&nats, &collector)).await;
        let header = on_nats(&nats, &gateway, &parent("00")).await;
        assert!(header.starts_with(&format!("00-{TRACE}-")) && header.ends_with("-00"), "{header}");
        let always = settings(&nats, &collector).environment("OTEL_TRACES_SAMPLER", "always_off");
        let never = Gateway::start(always).await;
        let header = on_nats(&nats, &never, &parent("01")).await;
        assert!(header.starts_with(&format!("00-{TRACE}-")) && header.ends_with("-00"), "{header}");
        // Behind these comes one that is sampled: until it is there, the others would have come.
        let second = TRACE.replace('0', "3");
        on_nats(&nats, &gateway, &format!("00-{second}-{PARENT}-01")).await;
        spans(&collector, &second, 2).await;
        spans(&collector, TRACE, 0).await;
    });
}

/// Turned off by any of the three variables that say so, a node sends nothing to anybody, and hands a
/// trace on as it came; without propagation its spans are of traces of their own.
#[test]
fn what_is_off_is_silent() {
    run(async {
        let (nats, collector) = (Nats::with_streams().await, Collector::start().await);
        let off = [("OTEL_SDK_DISABLED", "true"), ("OTEL_TRACES_EXPORTER", "none")];
        for (name, value) in off {
            let settings = settings(&nats, &collector).environment(name, value);
            let mut gateway = Gateway::start(settings).await;
            let mut readers = readers(&gateway, "open.spied", 1).await;
            assert_eq!(on_nats(&nats, &gateway, &parent("01")).await, parent("01"));
            readers[0].message().await;
            gateway.signal("TERM");
            assert_eq!(gateway.ended(Duration::from_secs(20)).await, Some(0));
            assert_eq!(collector.connections(), 0, "{name}");
        }
        let alone = settings(&nats, &collector).environment("OTEL_PROPAGATORS", "none");
        let gateway = Gateway::start(alone).await;
        let mut readers = readers(&gateway, "open.spied", 1).await;
        assert_eq!(on_nats(&nats, &gateway, &parent("01")).await, parent("01"));
        readers[0].message().await;
        until("a span has come", SOON, || async {
            collector.spans().iter().any(|span| span.name == "publish open")
        })
        .await;
        assert!(collector.spans().iter().all(|span| hex(&span.trace_id) != TRACE));
    });
}

/// What is still to be sent when a node ends is sent.
#[test]
fn the_last_spans_are_sent() {
    run(async {
        let (nats, collector) = (Nats::with_streams().await, Collector::start().await);
        let settings = settings(&nats, &collector).environment("OTEL_BSP_SCHEDULE_DELAY", "60000");
        let mut gateway = Gateway::start(settings).await;
        post(&gateway, "open.a", &parent("01")).await;
        assert_eq!(collector.spans().len(), 0);
        gateway.signal("TERM");
        assert_eq!(gateway.ended(Duration::from_secs(20)).await, Some(0));
        spans(&collector, TRACE, 2).await;
    });
}

/// A collector that is asked for metrics gets those of `/metrics`.
#[test]
fn metrics_are_sent_when_asked_for() {
    run(async {
        let (nats, collector) = (Nats::with_streams().await, Collector::start().await);
        let settings = settings(&nats, &collector)
            .environment("OTEL_METRICS_EXPORTER", "otlp")
            .environment("OTEL_METRIC_EXPORT_INTERVAL", "200");
        let gateway = Gateway::start(settings).await;
        let here = gateway.metrics().await;
        until("all metrics have come", SOON, || async {
            let came = collector.metrics();
            let missing = |name: &&String| !came.iter().any(|one| one.name == **name);
            let ours = here.kinds.keys().filter(|name| name.starts_with("tidegate_"));
            ours.filter(missing).count() == 0
        })
        .await;
    });
}

/// What a log line says, and its attribute of this name.
fn told(line: &LogRecord, name: &str) -> (String, String) {
    let text = |value: &Option<AnyValue>| match value.clone().and_then(|value| value.value) {
        Some(Attribute::StringValue(text)) => text,
        _ => String::new(),
    };
    let found = line.attributes.iter().find(|one| one.key == name);
    (text(&line.body), found.map(|one| text(&one.value)).unwrap_or_default())
}

/// A refused request says its trace in the problem and in its log line, a Connection in the line at its
/// end: whoever is shown the one finds the others. Only a node that has traces says any.
#[test]
fn a_problem_and_its_log_line_say_the_trace() {
    run(async {
        let (nats, collector) = (Nats::with_streams().await, Collector::start().await);
        let settings = settings(&nats, &collector)
            .environment("OTEL_LOGS_EXPORTER", "otlp")
            .environment("OTEL_BLRP_SCHEDULE_DELAY", "50");
        let gateway = Gateway::start(settings).await;
        for (path, code) in [
            ("/v1/topics/elsewhere.a/messages", "unauthenticated"),
            ("/v1/topics/open.a/nothing", "not_found"),
            ("/v1/connect", "bad_message"),
        ] {
            let request = gateway.request(Method::GET, path).header("traceparent", parent("01"));
            let answer = request.send().await.expect("an answer");
            let told_as = answer.headers()["traceresponse"].to_str().expect("text").to_owned();
            let length = answer.content_length().expect("a length");
            let body = answer.bytes().await.expect("a body");
            assert_eq!(body.len() as u64, length, "{path}");
            let problem: Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!((&problem["code"], &problem["trace_id"]), (&code.into(), &TRACE.into()));
            let refused = (String::from("A request was refused"), code.to_owned());
            let is_its = |line: &LogRecord| {
                let span = told_as.contains(&hex(&line.span_id));
                told(line, "error.code") == refused && hex(&line.trace_id) == TRACE && span
            };
            until("its log line has come", SOON, || async {
                collector.logs().iter().any(|(_, line)| is_its(line))
            })
            .await;
        }
        drop(gateway.browser("").await);
        until("the Connection's line has come", SOON, || async {
            collector.logs().iter().any(|(_, line)| {
                let (words, id) = told(line, "connection.id");
                words == "Connection ended" && !id.is_empty() && line.trace_id.len() == 16
            })
        })
        .await;

        let alone = Gateway::start(Settings::open()).await;
        let request = alone.request(Method::GET, "/v1/connect").header("traceparent", parent("01"));
        let problem = request.send().await.expect("an answer").json::<Value>().await.expect("JSON");
        assert_eq!(problem.get("trace_id"), None);
    });
}

/// Log lines are sent if they are asked for, the last ones when the node ends. What sends them logs,
/// too, at the level of these tests, and none of that is sent: each line would make another.
#[test]
fn log_lines_are_sent_and_nothing_about_it() {
    run(async {
        let (nats, collector) = (Nats::with_streams().await, Collector::start().await);
        let settings = settings(&nats, &collector)
            .environment("OTEL_LOGS_EXPORTER", "otlp")
            .environment("OTEL_BLRP_SCHEDULE_DELAY", "20");
        let mut gateway = Gateway::start(settings).await;
        until("lines have come", SOON, || async { !collector.logs().is_empty() }).await;
        for _ in 0..20 {
            post(&gateway, "open.a", &parent("01")).await;
        }
        gateway.signal("TERM");
        assert_eq!(gateway.ended(Duration::from_secs(20)).await, Some(0));
        let logs = collector.logs();
        assert!(logs.iter().any(|(_, line)| told(line, "").0 == "Node ended"), "{logs:?}");
        for (said, _) in &logs {
            assert!(said.starts_with("tidegate") || said.starts_with("async_nats"), "{said}");
        }
    });
}

/// A protocol that is not spoken is refused in words, at once.
#[test]
fn grpc_is_refused_in_words() {
    let ended = Command::new(env!("CARGO_BIN_EXE_tidegate"))
        .args(["dev", "--listen", "127.0.0.1:0"])
        .env_remove("KUBERNETES_SERVICE_HOST")
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
        .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
        .output()
        .expect("it ends");
    let words = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(64), "{words}");
    assert!(words.contains("grpc") && words.contains("http/protobuf"), "{words}");
}
