//! Logs, metrics and traces: how they leave the process.
//!
//! Logs are JSON lines in `serve`, prose in `dev`. A message reads well alone; values are dotted fields.
//! No query string, header or Token is ever logged. Metrics are read at `/metrics`. All three are sent to
//! a collector if the environment names one, and a log line of a request says which trace it belongs to.
//! What there is to say, each room knows by itself: it registers its own instruments on the [`Meter`]
//! that it is handed, and its spans on the [`Spans`].
//!
//! LAW: [`start`] comes before any runtime and [`Telemetry::flush`] after the last: the SDK has threads
//! of its own, whose end must not be awaited by a runtime that they wait for.

mod environment;
mod lines;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry::global::BoxedTracer;
use opentelemetry::metrics::{Meter, MeterProvider as _};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_appender_tracing::layer::OpenTelemetryTracingBridge;
use opentelemetry_otlp::{LogExporter, MetricExporter, SpanExporter};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::logs::SdkLoggerProvider;
use opentelemetry_sdk::metrics::{
    Instrument, InstrumentKind, PeriodicReader, SdkMeterProvider, Stream,
};
use opentelemetry_sdk::trace::SdkTracerProvider;
use prometheus::process_collector::ProcessCollector;
use prometheus::{Registry, TextEncoder};
use tracing::warn;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use crate::config::Log;
use crate::span::Spans;
use environment::Environment;

/// Who measures.
const SCOPE: &str = "tidegate";
/// Series of one metric. What they are is known from the start, so this bounds nothing but mistakes.
const SERIES_MAX: usize = 100_000;
/// A collector that is not there holds up the end of the process for so long.
const FLUSH: Duration = Duration::from_secs(2);

/// What the process says of itself.
pub struct Telemetry {
    registry: Registry,
    meters: SdkMeterProvider,
    tracers: Option<SdkTracerProvider>,
    loggers: Option<SdkLoggerProvider>,
    propagates: bool,
}

/// Starts it; logs go to standard error.
///
/// # Errors
/// The environment asks for what there is not, in words.
pub fn start(log: &Log) -> Result<Telemetry, String> {
    let environment = Environment::read(|name| std::env::var(name).ok())?;
    let resource = resource();
    let loggers = match environment.logs {
        true => {
            let exporter = LogExporter::builder().with_http().build();
            let exporter = exporter.map_err(|why| format!("logs cannot be sent: {why}"))?;
            let loggers = SdkLoggerProvider::builder().with_resource(resource.clone());
            Some(loggers.with_batch_exporter(exporter).build())
        }
        false => None,
    };
    start_logs(log, loggers.as_ref());
    for words in &environment.ignored {
        warn!("{words}");
    }
    let registry = Registry::new();
    let process = registry.register(Box::new(ProcessCollector::for_self()));
    process.map_err(|why| why.to_string())?;
    let reader = opentelemetry_prometheus::exporter()
        .with_registry(registry.clone())
        .scope_info_enabled(false)
        .without_target_info()
        // The names are whole as they are: they stand in dashboards and alerts.
        .without_units()
        .without_counter_suffixes()
        .build()
        .map_err(|why| why.to_string())?;
    let mut meters = SdkMeterProvider::builder()
        .with_resource(resource.clone())
        .with_view(all_series)
        .with_reader(reader);
    if environment.metrics {
        let exporter = MetricExporter::builder().with_http().build();
        let exporter = exporter.map_err(|why| format!("metrics cannot be sent: {why}"))?;
        meters = meters.with_reader(PeriodicReader::builder(exporter).build());
    }
    let tracers = match environment.traces {
        true => {
            let exporter = SpanExporter::builder().with_http().build();
            let exporter = exporter.map_err(|why| format!("traces cannot be sent: {why}"))?;
            let tracers = SdkTracerProvider::builder().with_resource(resource);
            Some(tracers.with_batch_exporter(exporter).build())
        }
        false => None,
    };
    let propagates = environment.propagates;
    Ok(Telemetry { registry, meters: meters.build(), tracers, loggers, propagates })
}

impl Telemetry {
    /// What rooms register their instruments on.
    #[must_use]
    pub fn meter(&self) -> Meter {
        self.meters.meter(SCOPE)
    }

    /// What rooms begin their spans by; none while traces are off.
    #[must_use]
    pub fn spans(&self) -> Option<Arc<Spans>> {
        let tracer = BoxedTracer::new(Box::new(self.tracers.as_ref()?.tracer(SCOPE)));
        Some(Arc::new(Spans::new(tracer, self.propagates)))
    }

    /// Reads all metrics, as Prometheus takes them. It takes some milliseconds.
    pub fn scrape(&self) -> impl Fn() -> String + Send + Sync + 'static {
        let registry = self.registry.clone();
        move || TextEncoder::new().encode_to_string(&registry.gather()).unwrap_or_default()
    }

    /// Sends what is still to be sent.
    pub fn flush(self) {
        if let Some(Err(why)) = self.tracers.map(|all| all.shutdown_with_timeout(FLUSH)) {
            warn!(error = %why, "The last spans were not sent");
        }
        if let Err(why) = self.meters.shutdown_with_timeout(FLUSH) {
            warn!(error = %why, "The last metrics were not sent");
        }
        // Last of all, so that it sends what the others have said.
        if let Some(Err(why)) = self.loggers.map(|all| all.shutdown_with_timeout(FLUSH)) {
            warn!(error = %why, "The last log lines were not sent");
        }
    }
}

/// Who sends: the environment may say so, too.
fn resource() -> Resource {
    let detected = Resource::builder().build();
    let name = detected.get(&"service.name".into()).map(|name| name.to_string());
    let named = name.is_some_and(|name| !name.starts_with("unknown_service"));
    let builder = Resource::builder()
        .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if named { builder.build() } else { builder.with_service_name(SCOPE).build() }
}

/// The SDK would put what is over 2,000 series into one.
fn all_series(instrument: &Instrument) -> Option<Stream> {
    match instrument.kind() {
        InstrumentKind::Histogram => None,
        _ => Stream::builder().with_cardinality_limit(SERIES_MAX).build().ok(),
    }
}

/// A second call changes nothing.
fn start_logs(log: &Log, loggers: Option<&SdkLoggerProvider>) {
    // The libraries below us are heard from `warn` on; the configuration has checked the level.
    let level = &log.level;
    let filter = EnvFilter::new(format!("warn,tidegate={level}"));
    let lines = lines::layer(log.format, io::stderr).with_filter(filter);
    let sent = loggers.map(|loggers| {
        // What sends them has words, too, and they would be sent, and so on.
        let filter = EnvFilter::new(format!("off,tidegate={level},async_nats=warn"));
        OpenTelemetryTracingBridge::new(loggers).with_filter(filter)
    });
    // If it fails, somebody has started it: a test with several nodes.
    drop(tracing_subscriber::registry().with(lines).with(sent).try_init());
}
