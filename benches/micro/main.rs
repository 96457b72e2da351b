//! What the steps of a delivery cost, each alone: `cargo bench --bench micro`, half a minute.
//!
//! Criterion measures; nothing here judges. A figure that moves is a reason to run `make bench`, where
//! a whole gateway stands beside others.

use std::hint::black_box;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry_sdk::metrics::{ManualReader, SdkMeterProvider};
use tidegate::namespace::Namespaces;
use tidegate::protocol::{Envelope, json};
use tidegate::publication::{Publication, Timestamp};
use tidegate::session::Moment;
use tidegate::shard::Key;
use tidegate::shard::counts::{Counts, Transport};
use tidegate::shard::outbox::{Outbox, Piece};
use tidegate::shard::socket::{self, Limits, Reader};
use tidegate::shard::table::Table;
use tidegate::topic::{Pattern, Topic};

/// Subscribers of the one Topic that fans out.
const SUBSCRIBERS: u32 = 1_000;
/// The bound of an Outbox, in bytes.
const OUTBOX_BYTES: usize = 256 << 10;

fn topic(text: &str) -> Topic {
    Topic::parse(text).unwrap_or_else(|why| unreachable!("{text}: {why}"))
}

fn pattern(text: &str) -> Pattern {
    Pattern::parse(text).unwrap_or_else(|why| unreachable!("{text}: {why}"))
}

/// A Publication whose payload is a JSON object of so many bytes.
fn publication(bytes: usize) -> Publication {
    let payload = format!(r#"{{"text":"{}"}}"#, "x".repeat(bytes - 11));
    Publication {
        topic: topic("dash.orders.eu"),
        id: "0193a0c2-7d1e-7c4f-9d35-5b0f6f8b9a11".into(),
        time: Timestamp(1_795_000_000_120),
        user: Some("ana".into()),
        payload: payload.into(),
        trace: None,
    }
}

fn patterns(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("pattern");
    let name = topic("dash.orders.eu.totals");
    for text in ["dash.orders.eu.totals", "dash.*.eu.*", "dash.>"] {
        let pattern = pattern(text);
        group.bench_function(format!("matches {text}"), |bench| {
            bench.iter(|| black_box(&pattern).matches(black_box(&name)));
        });
    }
    let (grant, asked) = (pattern("dash.*.>"), pattern("dash.orders.*.totals"));
    group.bench_function("covers", |bench| {
        bench.iter(|| black_box(&grant).covers(black_box(&asked)));
    });
    group.finish();
}

fn json_text(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("json");
    for bytes in [128, 1_024] {
        let publication = publication(bytes);
        group.bench_function(format!("Envelope of {bytes} B"), |bench| {
            bench.iter(|| Envelope::new(black_box(&publication), None));
        });
    }
    for (name, text) in [
        ("ping", r#"{"type":"ping","id":1}"#),
        ("subscribe", r#"{"type":"subscribe","id":2,"topic":"dash.orders.**","from":"live"}"#),
        (
            "publish",
            r#"{"type":"publish","id":"7f3a","topic":"dash.orders.eu","data":{"total":42,"who":"ana"}}"#,
        ),
    ] {
        group.bench_function(format!("decode {name}"), |bench| {
            bench.iter(|| json::decode(black_box(text)));
        });
    }
    group.finish();
}

fn table(bench: &mut Criterion) {
    let (feed, name) = (pattern("dash.>"), topic("dash.orders.eu"));
    let own = [feed.clone()];
    let mut table = Table::default();
    for n in 0..SUBSCRIBERS {
        table.begin(&feed);
        table.join(&feed, Key::unpack(n.into()), &own);
    }
    let mut group = bench.benchmark_group("table, 1,000 subscribers");
    group.bench_function("receivers, remembered", |bench| {
        bench.iter(|| table.receivers(black_box(&feed), black_box(&name)).len());
    });
    group.bench_function("one comes and goes, receivers", |bench| {
        let key = Key::unpack(SUBSCRIBERS.into());
        bench.iter(|| {
            table.begin(&feed);
            table.join(&feed, key, &own);
            table.leave(&feed, key, true, &[]);
            table.receivers(&feed, &name).len()
        });
    });
    group.finish();
}

fn outbox(bench: &mut Criterion) {
    let mut group = bench.benchmark_group("outbox");
    group.throughput(Throughput::Elements(SUBSCRIBERS.into()));
    let envelope = Envelope::new(&publication(128), None);
    let mut outboxes: Vec<Outbox> = (0..SUBSCRIBERS).map(|_| Outbox::default()).collect();
    group.bench_function("one piece to 1,000", |bench| {
        bench.iter(|| {
            let piece: Piece = Rc::new(envelope.framed(socket::text).clone());
            for outbox in &mut outboxes {
                // An empty Outbox takes any piece.
                let _ = outbox.push(&piece, OUTBOX_BYTES);
            }
            for outbox in &mut outboxes {
                let bytes: usize = outbox.slices().map(|slice| slice.len()).sum();
                outbox.advance(black_box(bytes));
            }
        });
    });
    let (namespaces, counts) = (Namespaces::default(), Counts::new(1));
    let provider = SdkMeterProvider::builder().with_reader(ManualReader::builder().build()).build();
    let seconds = provider.meter("micro").f64_histogram("seconds").build();
    let label = [KeyValue::new("topic_namespace", "*")];
    let (mut deliveries, mut publications) = (0_u64, 0_u64);
    // What is done besides for metrics, on the way of one Publication to a thousand clients.
    group.bench_function("one piece to 1,000, counted", |bench| {
        bench.iter(|| {
            let piece: Piece = Rc::new(envelope.framed(socket::text).clone());
            let mut queued = [0_u64; 3];
            for outbox in &mut outboxes {
                if outbox.push(&piece, OUTBOX_BYTES).is_ok() {
                    queued[black_box(0_usize)] += 1;
                }
            }
            counts.deliver(namespaces.place(black_box("dash")), queued);
            publications += 1;
            if publications.is_multiple_of(16) {
                seconds.record(black_box(0.001), &[]);
            }
            for outbox in &mut outboxes {
                let bytes: usize = outbox.slices().map(|slice| slice.len()).sum();
                outbox.advance(black_box(bytes));
                let left = outbox.bytes() as u64;
                counts.outbox_bytes.add(black_box(left));
                counts.writes.add(1);
                counts.reached[Transport::WebSocket as usize].bytes.add(bytes as u64);
                deliveries += 1;
                if deliveries.is_multiple_of(256) {
                    seconds.record(black_box(0.001), &label);
                }
            }
        });
    });
    group.finish();
}

/// A text frame as a client sends it.
fn masked(text: &str) -> Bytes {
    let mask = [0x37, 0xfa, 0x21, 0x3d];
    let length = u8::try_from(text.len()).unwrap_or_else(|_| unreachable!("a small text"));
    let mut frame = vec![0x81, 0x80 | length];
    frame.extend(mask);
    frame.extend(text.bytes().zip(mask.iter().cycle()).map(|(b, m)| b ^ m));
    frame.into()
}

fn frames(bench: &mut Criterion) {
    let limits = Limits { frame_bytes: 68 << 10, fragments: 64, control_frames: 100 };
    let frame = masked(r#"{"type":"subscribe","id":2,"topic":"dash.orders.**"}"#);
    let mut reader = Reader::default();
    bench.bench_function("frame, guard and parse", |bench| {
        bench.iter_batched_ref(
            || BytesMut::from(&frame[..]),
            |bytes| reader.next(&limits, Moment(0), bytes),
            BatchSize::SmallInput,
        );
    });
}

fn quick() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(700))
        .without_plots()
}

criterion_group! {
    name = micro;
    config = quick();
    targets = patterns, json_text, table, outbox, frames
}
criterion_main!(micro);
