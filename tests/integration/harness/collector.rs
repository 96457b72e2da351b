//! A collector of OpenTelemetry, as far as a gateway speaks to it: it takes OTLP over HTTP, and keeps
//! what came.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A running one.
pub(crate) struct Collector {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    state: Arc<State>,
    _accepting: JoinSet<()>,
}

#[derive(Default)]
struct State {
    connections: AtomicUsize,
    spans: Mutex<Vec<Span>>,
    metrics: Mutex<Vec<Metric>>,
    logs: Mutex<Vec<(String, LogRecord)>>,
}

impl Collector {
    /// Starts one.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let state = Arc::<State>::default();
        let taking = Arc::clone(&state);
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                taking.connections.fetch_add(1, Ordering::Relaxed);
                open.spawn(serve(stream, Arc::clone(&taking)));
            }
        });
        Self { address, state, _accepting: accepting }
    }

    /// What a gateway's environment names it by.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How often somebody has connected.
    pub(crate) fn connections(&self) -> usize {
        self.state.connections.load(Ordering::Relaxed)
    }

    /// The spans that have come.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.state.spans.lock().expect("nobody panics with it").clone()
    }

    /// The names of metrics that have come.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        self.state.metrics.lock().expect("nobody panics with it").clone()
    }

    /// The log lines that have come, with where each was said.
    pub(crate) fn logs(&self) -> Vec<(String, LogRecord)> {
        self.state.logs.lock().expect("nobody panics with it").clone()
    }
}

/// Takes requests of one connection until it ends.
async fn serve(stream: TcpStream, state: Arc<State>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let head = String::from_utf8(head).expect("text").to_lowercase();
        let length =
            head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let length: usize = length.expect("a length").parse().expect("a number");
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.expect("the body");
        assert!(head.contains("content-type: application/x-protobuf"), "{head}");
        match head.split(' ').nth(1) {
            Some("/v1/traces") => {
                let request = ExportTraceServiceRequest::decode(&*body).expect("spans");
                let scopes = request.resource_spans.into_iter().flat_map(|one| one.scope_spans);
                let spans = scopes.flat_map(|scope| scope.spans);
                state.spans.lock().expect("nobody panics with it").extend(spans);
            }
            Some("/v1/metrics") => {
                let request = ExportMetricsServiceRequest::decode(&*body).expect("metrics");
                let scopes = request.resource_metrics.into_iter().flat_map(|one| one.scope_metrics);
                let metrics = scopes.flat_map(|scope| scope.metrics);
                state.metrics.lock().expect("nobody panics with it").extend(metrics);
            }
            Some("/v1/logs") => {
                let request = ExportLogsServiceRequest::decode(&*body).expect("log lines");
                let scopes = request.resource_logs.into_iter().flat_map(|one| one.scope_logs);
                let lines = scopes.flat_map(|scope| {
                    let said = scope.scope.map(|scope| scope.name).unwrap_or_default();
                    scope.log_records.into_iter().map(move |line| (said.clone(), line))
                });
                state.logs.lock().expect("nobody panics with it").extend(lines);
            }
            other => panic!("nothing goes to {other:?}"),
        }
        let answer =
            b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(answer).await.expect("it is answered");
    }
}
