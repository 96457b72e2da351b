//! What the `OTEL_` variables ask for that the SDK does not read by itself: whether anything is sent at
//! all, and how a trace travels.
//!
//! Something is sent only to an endpoint that is named: the SDK's own default is this machine. What asks
//! for an exporter that there is not stops the start, since otherwise what is wanted would go nowhere in
//! silence.

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
/// The one protocol that is spoken.
const HTTP_PROTOBUF: &str = "http/protobuf";

/// What is asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Environment {
    /// Metrics are sent, besides being there at `/metrics`.
    pub(super) metrics: bool,
    /// Traces are sent.
    pub(super) traces: bool,
    /// Logs are sent, besides going to standard error.
    pub(super) logs: bool,
    /// `traceparent` is read and written.
    pub(super) propagates: bool,
    /// What is asked for and not done, in words.
    pub(super) ignored: Vec<String>,
}

impl Environment {
    /// Reads it; `variable` gives the value of a name.
    pub(super) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, String> {
        // An empty one counts as not set.
        let variable = |name: &str| {
            variable(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        let mut ignored = Vec::new();
        let propagators = variable("OTEL_PROPAGATORS").unwrap_or("tracecontext,baggage".to_owned());
        let propagators: Vec<&str> = propagators.split(',').map(str::trim).collect();
        for other in &propagators {
            if !matches!(*other, "tracecontext" | "baggage" | "none" | "") {
                ignored.push(format!(
                    "OTEL_PROPAGATORS: {other:?} is not known here; a trace travels in traceparent"
                ));
            }
        }
        let propagates = propagators.contains(&"tracecontext");
        if variable("OTEL_SDK_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true")) {
            return Ok(Self { propagates, ignored, ..Self::default() });
        }
        Ok(Self {
            metrics: sends("METRICS", &["prometheus"], &variable)?,
            traces: sends("TRACES", &[], &variable)?,
            logs: sends("LOGS", &["console"], &variable)?,
            propagates,
            ignored,
        })
    }
}

/// Whether a signal is sent. `others` are exporters that are there anyway.
fn sends(
    signal: &str,
    others: &[&str],
    variable: &impl Fn(&str) -> Option<String>,
) -> Result<bool, String> {
    let name = format!("OTEL_{signal}_EXPORTER");
    let exporters = variable(&name).unwrap_or("otlp".to_owned());
    let mut otlp = false;
    for exporter in exporters.split(',').map(str::trim) {
        match exporter {
            "otlp" => otlp = true,
            "none" | "" => {}
            other if others.contains(&other) => {}
            other => {
                return Err(format!("{name}: there is no exporter {other:?}, but otlp and none"));
            }
        }
    }
    let own = |rest: &str| format!("OTEL_EXPORTER_OTLP_{signal}_{rest}");
    let endpoint = variable(&own("ENDPOINT")).or_else(|| variable(ENDPOINT));
    if !otlp || endpoint.is_none() {
        return Ok(false);
    }
    for name in [own("PROTOCOL"), PROTOCOL.to_owned()] {
        match variable(&name) {
            Some(protocol) if protocol == HTTP_PROTOBUF => return Ok(true),
            Some(protocol) => {
                return Err(format!(
                    "{name}: {protocol:?} is not spoken here; set {HTTP_PROTOBUF}, which collectors \
                     take on port 4318"
                ));
            }
            None => {}
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Environment, String> {
        Environment::read(|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    /// Nothing is sent to an address that nobody has named.
    #[test]
    fn an_endpoint_turns_it_on() {
        let quiet = Environment { propagates: true, ..Environment::default() };
        assert_eq!(read(&[]).unwrap(), quiet);
        assert_eq!(read(&[("OTEL_TRACES_EXPORTER", "otlp"), (ENDPOINT, " ")]).unwrap(), quiet);
        let all = read(&[(ENDPOINT, "http://c:4318")]).unwrap();
        assert_eq!(all, Environment { metrics: true, traces: true, logs: true, ..quiet });
        let one = read(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:4318/v1/traces")]);
        assert_eq!(
            one.unwrap(),
            Environment { traces: true, propagates: true, ..read(&[]).unwrap() }
        );
    }

    /// The variables that the SDK ignores do what users of other SDKs expect.
    #[test]
    fn what_is_turned_off_is_off() {
        let on = (ENDPOINT, "http://c:4318");
        for (name, value, signals) in [
            ("OTEL_SDK_DISABLED", "TRUE", [false, false, false]),
            ("OTEL_SDK_DISABLED", "false", [true, true, true]),
            ("OTEL_TRACES_EXPORTER", "none", [true, false, true]),
            ("OTEL_METRICS_EXPORTER", "none", [false, true, true]),
            ("OTEL_METRICS_EXPORTER", "prometheus", [false, true, true]),
            ("OTEL_METRICS_EXPORTER", "otlp,prometheus", [true, true, true]),
            ("OTEL_LOGS_EXPORTER", "none", [true, true, false]),
            ("OTEL_LOGS_EXPORTER", "console", [true, true, false]),
            ("OTEL_LOGS_EXPORTER", "otlp,console", [true, true, true]),
            (PROTOCOL, HTTP_PROTOBUF, [true, true, true]),
        ] {
            let read = read(&[on, (name, value)]).unwrap();
            assert_eq!([read.metrics, read.traces, read.logs], signals, "{name}={value}");
        }
        assert!(!read(&[("OTEL_PROPAGATORS", "none")]).unwrap().propagates);
        assert!(!read(&[("OTEL_PROPAGATORS", "b3")]).unwrap().ignored.is_empty());
        assert!(read(&[("OTEL_PROPAGATORS", "b3, tracecontext")]).unwrap().propagates);
    }

    /// What would go nowhere in silence is refused in words.
    #[test]
    fn what_there_is_not_is_refused() {
        let on = (ENDPOINT, "http://c:4317");
        for (name, value) in [
            (PROTOCOL, "grpc"),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json"),
            ("OTEL_TRACES_EXPORTER", "zipkin"),
            ("OTEL_METRICS_EXPORTER", "console"),
            ("OTEL_LOGS_EXPORTER", "otlp_json"),
        ] {
            let words = read(&[on, (name, value)]).unwrap_err();
            assert!(words.starts_with(name) && words.contains(value), "{words}");
        }
        assert!(read(&[(PROTOCOL, "grpc")]).is_ok(), "nothing is sent");
    }
}
