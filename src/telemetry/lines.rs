//! Log lines as they are written: JSON for machines, prose for people. One that belongs to a request
//! ends with that request's trace and span, where traces are on.

use std::fmt;
use std::io::{self, IsTerminal as _};

use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::{DefaultFields, JsonFields, Writer};
use tracing_subscriber::fmt::{self as lines, FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use crate::config::Format;
use crate::span;

/// Writes them where `writer` leads.
pub(super) fn layer<S, W>(format: Format, writer: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let lines = lines::layer().with_writer(writer);
    match format {
        Format::Json => {
            let format = lines::format().json().flatten_event(true).with_current_span(false);
            let format = Traced { format, tail: json };
            lines.fmt_fields(JsonFields::new()).event_format(format).boxed()
        }
        Format::Pretty => {
            let ansi = io::stderr().is_terminal();
            let format = lines::format().with_target(false).with_ansi(ansi);
            let format = Traced { format, tail: prose };
            lines.fmt_fields(DefaultFields::new()).event_format(format).boxed()
        }
    }
}

/// Writes as `format` does, and behind that the trace.
struct Traced<F> {
    format: F,
    tail: fn(&str, &str, &str) -> String,
}

/// The line is one object.
fn json(line: &str, trace: &str, span: &str) -> String {
    let fields = line.strip_suffix('}').unwrap_or(line);
    format!(r#"{fields},"trace_id":"{trace}","span_id":"{span}"}}"#)
}

fn prose(line: &str, trace: &str, span: &str) -> String {
    format!("{line} trace_id={trace} span_id={span}")
}

impl<S, N, F> FormatEvent<S, N> for Traced<F>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some((trace, span)) = span::current() else {
            return self.format.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.format.format_event(context, Writer::new(&mut line), event)?;
        let line = (self.tail)(line.trim_end(), &trace.to_string(), &span.to_string());
        writeln!(writer, "{line}")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use opentelemetry::Context;
    use opentelemetry::trace::{
        SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    };
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// What was written.
    #[derive(Clone, Default)]
    struct Paper(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Paper {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The lines of something that is said outside of any span, and then within one.
    fn said(format: Format) -> Vec<String> {
        let paper = Paper::default();
        let writer = paper.clone();
        let lines = tracing_subscriber::registry().with(layer(format, move || writer.clone()));
        tracing::subscriber::with_default(lines, || {
            let say = || tracing::info!(close.code = "draining", "It \"ended\"");
            say();
            let (trace, span) = (TraceId::from(0xabc), SpanId::from(0xde));
            let (flags, state) = (TraceFlags::SAMPLED, TraceState::default());
            let span = SpanContext::new(trace, span, flags, true, state);
            let _within = Context::new().with_remote_span_context(span).attach();
            say();
        });
        let text = String::from_utf8(paper.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    /// A line of a span is a line as any other, and says which; one of none does not.
    #[test]
    fn a_line_says_its_trace() {
        let (trace, span) = ("00000000000000000000000000000abc", "00000000000000de");
        let lines: Vec<serde_json::Value> =
            said(Format::Json).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        for line in &lines {
            assert_eq!(
                (&line["message"], &line["level"]),
                (&"It \"ended\"".into(), &"INFO".into())
            );
            assert_eq!(line["close.code"], "draining");
            assert!(line["timestamp"].is_string() && line["target"].is_string(), "{line}");
        }
        assert!(lines[0].get("trace_id").is_none() && lines[0].get("span_id").is_none());
        assert_eq!((&lines[1]["trace_id"], &lines[1]["span_id"]), (&trace.into(), &span.into()));
        let prose = said(Format::Pretty);
        assert!(prose[0].ends_with("It \"ended\" close.code=\"draining\""), "{prose:?}");
        assert!(prose[1].ends_with(&format!(" trace_id={trace} span_id={span}")), "{prose:?}");
    }
}
