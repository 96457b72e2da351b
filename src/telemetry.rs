//! Logs: JSON lines in `serve`, prose in `dev`.
//!
//! A message reads well alone; values are dotted fields. No query string, header or Token is ever
//! logged.

use std::io;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::{Format, Log};

/// Starts logging, to standard error. A second call changes nothing.
pub fn start(log: &Log) {
    // The libraries below us are heard from `warn` on; the configuration has checked the level.
    let level = &log.level;
    let filter = EnvFilter::new(format!("warn,tidegate={level}"));
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_span_events(FmtSpan::NONE)
        .with_writer(io::stderr);
    let started = match log.format {
        Format::Json => lines.json().flatten_event(true).with_current_span(false).try_init(),
        Format::Pretty => lines
            .with_target(false)
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()))
            .try_init(),
    };
    // Somebody has started it: a test with several nodes.
    drop(started);
}
