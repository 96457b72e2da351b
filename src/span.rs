//! Spans: where a Publication was and for how long, in one trace from its publisher to every node that
//! hands it on.
//!
//! Between rooms and nodes a trace travels as a [`Trace`], the W3C header that it is; here it becomes
//! the parent of a span, and a span becomes one again. While traces are off nothing here is called but
//! [`current`], which then says that there is none.
//! The names are those of OpenTelemetry's conventions, which are not final: they stand in this file
//! alone.

use std::fmt;
use std::str::FromStr as _;

use opentelemetry::global::{BoxedSpan, BoxedTracer};
use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _,
    TraceFlags, TraceId, TraceState, Tracer as _,
};
use opentelemetry::{Context, ContextGuard, KeyValue};

use crate::publication::{Publication, Trace};

/// Begins spans.
#[derive(Debug)]
pub struct Spans {
    tracer: BoxedTracer,
    /// Whether a trace comes in and goes on.
    propagates: bool,
}

/// A span that has begun. It ends when it is dropped.
pub struct Open(BoxedSpan);

impl Spans {
    /// Begins them by this tracer; if it `propagates`, those of a trace belong together.
    #[must_use]
    pub const fn new(tracer: BoxedTracer, propagates: bool) -> Self {
        Self { tracer, propagates }
    }

    /// A request that came in.
    #[must_use]
    pub fn request(&self, method: &str, parent: Option<&Trace>) -> Open {
        let method = KeyValue::new("http.request.method", method.to_owned());
        let span = SpanBuilder::from_name("request").with_kind(SpanKind::Server);
        self.begin(span.with_attributes([method]), self.parent(parent))
    }

    /// A Publication on its way to the bus, under the label of its Namespace.
    #[must_use]
    pub fn publish(&self, label: &str, parent: Option<&Trace>) -> Open {
        let span = SpanBuilder::from_name(format!("publish {label}")).with_kind(SpanKind::Producer);
        let attributes = [
            KeyValue::new("messaging.system", "nats"),
            KeyValue::new("messaging.operation.name", "publish"),
            KeyValue::new("messaging.operation.type", "send"),
            KeyValue::new("messaging.destination.template", format!("{label}.>")),
        ];
        self.begin(span.with_attributes(attributes), self.parent(parent))
    }

    /// A Publication on its way into the Outboxes of this node, if its trace is one that is recorded.
    #[must_use]
    pub fn deliver(&self, label: &str, publication: &Publication) -> Option<Open> {
        let parent = self.parent(publication.trace.as_ref())?;
        let span = SpanBuilder::from_name(format!("deliver {label}")).with_kind(SpanKind::Consumer);
        let attributes = [
            KeyValue::new("messaging.system", "nats"),
            KeyValue::new("messaging.operation.name", "deliver"),
            KeyValue::new("messaging.operation.type", "process"),
            KeyValue::new("messaging.destination.template", format!("{label}.>")),
            KeyValue::new("messaging.message.id", publication.id.to_string()),
        ];
        let span = span.with_links(vec![Link::with_context(parent.clone())]);
        let span = self.begin(span.with_attributes(attributes), Some(parent));
        span.0.is_recording().then_some(span)
    }

    fn begin(&self, span: SpanBuilder, parent: Option<SpanContext>) -> Open {
        let context = match parent {
            Some(parent) => Context::new().with_remote_span_context(parent),
            None => Context::new(),
        };
        Open(self.tracer.build_with_context(span, &context))
    }

    fn parent(&self, trace: Option<&Trace>) -> Option<SpanContext> {
        let trace = trace.filter(|_| self.propagates)?;
        let parts: Vec<&str> = trace.parent.split('-').collect();
        let &[_, id, span, flags] = parts.as_slice() else {
            return None;
        };
        let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?);
        let state = trace.state.as_deref().and_then(|text| TraceState::from_str(text).ok());
        let (id, span) = (TraceId::from_hex(id).ok()?, SpanId::from_hex(span).ok()?);
        let parent = SpanContext::new(id, span, flags, true, state.unwrap_or_default());
        Some(parent).filter(SpanContext::is_valid)
    }

    /// What goes on from a span; what came goes on as it is if traces do not.
    #[must_use]
    pub fn trace(&self, span: &Open, came: Option<Trace>) -> Option<Trace> {
        if self.propagates { Some(span.trace()) } else { came }
    }
}

impl Open {
    /// As it travels.
    #[must_use]
    pub fn trace(&self) -> Trace {
        let context = self.0.span_context();
        let (id, span) = (context.trace_id(), context.span_id());
        let parent = format!("00-{id}-{span}-{:02x}", context.trace_flags().to_u8() & 1);
        let state = Some(context.trace_state().header()).filter(|text| !text.is_empty());
        Trace { parent: parent.into(), state: state.map(Into::into) }
    }

    /// In it, what is logged is known to belong to this span.
    #[must_use]
    pub fn context(&self) -> Context {
        Context::new().with_remote_span_context(self.0.span_context().clone())
    }

    /// The trace that it is part of.
    #[must_use]
    pub fn trace_id(&self) -> String {
        self.0.span_context().trace_id().to_string()
    }

    /// A request was answered, by this route.
    pub fn answered(&mut self, method: &str, route: Option<String>, status: u16) {
        if let Some(route) = route {
            self.0.update_name(format!("{method} {route}"));
            self.0.set_attribute(KeyValue::new("http.route", route));
        }
        self.0.set_attribute(KeyValue::new("http.response.status_code", i64::from(status)));
        if status >= 500 {
            self.0.set_attribute(KeyValue::new("error.type", status.to_string()));
            self.0.set_status(Status::error(""));
        }
    }

    /// A Publication was taken, under this id.
    pub fn published(&mut self, id: &str) {
        self.0.set_attribute(KeyValue::new("messaging.message.id", id.to_owned()));
    }

    /// It was not, for this reason.
    pub fn failed(&mut self, code: &'static str) {
        self.0.set_attribute(KeyValue::new("error.type", code));
        self.0.set_status(Status::error(""));
    }

    /// A Publication is in Outboxes: of so many that matched, so many took it.
    pub fn delivered(&mut self, matched: u64, queued: u64) {
        let count = |name, count| KeyValue::new(name, i64::try_from(count).unwrap_or(i64::MAX));
        self.0.set_attributes([
            count("tidegate.fanout.matched", matched),
            count("tidegate.fanout.queued", queued),
            count("tidegate.fanout.dropped", matched.saturating_sub(queued)),
        ]);
    }
}

/// The span in which something long began: what is logged of it later belongs there, too.
#[derive(Debug)]
pub struct Begun(Box<Context>);

impl Begun {
    /// The one that is current, if there is one.
    #[must_use]
    pub fn here() -> Option<Self> {
        current().map(|_| Self(Box::new(Context::current())))
    }

    /// It is current again until the guard is dropped.
    #[must_use]
    pub fn enter(&self) -> ContextGuard {
        (*self.0).clone().attach()
    }
}

/// The trace and the span of whatever this thread is doing, if it is for one.
#[must_use]
pub fn current() -> Option<(TraceId, SpanId)> {
    Context::map_current(|context| {
        let span = context.span();
        let span = span.span_context();
        span.is_valid().then(|| (span.trace_id(), span.span_id()))
    })
}

impl fmt::Debug for Open {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.trace().parent)
    }
}
