//! The driver's end of the load client: starts it as a child, sends it lines, reads its reports.
//! It ends with this handle, whatever happened. Knows neither contenders nor scenarios.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use crate::Fallible;
use crate::client::{Plan, Report};

/// Longer than any wait of the client's own.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(150);

/// A running load client.
pub(crate) struct Fleet {
    child: Child,
    lines: ChildStdin,
    reports: Receiver<String>,
}

impl Fleet {
    /// Starts the client and returns when all its connections are open.
    pub(crate) fn open(plan: &Plan) -> Fallible<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("client")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(lines), Some(out)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("the client has no pipes".into());
        };
        let (sender, reports) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(out).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut fleet = Self { child, lines, reports };
        fleet.ask(&serde_json::to_string(plan)?)?;
        Ok(fleet)
    }

    /// Latencies and the client's own CPU time count from now on.
    pub(crate) fn mark(&mut self) -> Fallible<Report> {
        self.ask("mark")
    }

    pub(crate) fn report(&mut self) -> Fallible<Report> {
        self.ask("report")
    }

    /// Returns when `deliveries` have come since the start, or the time is over.
    pub(crate) fn wait(&mut self, deliveries: u64, timeout: Duration) -> Fallible<Report> {
        self.ask(&format!("wait {deliveries} {}", timeout.as_millis()))
    }

    /// Every open connection sends this text, but for the first `spared`.
    pub(crate) fn say(&mut self, spared: usize, text: &str) -> Fallible<Report> {
        self.ask(&format!("say {spared} {text}"))
    }

    fn ask(&mut self, line: &str) -> Fallible<Report> {
        writeln!(self.lines, "{line}")?;
        self.lines.flush()?;
        let report = self
            .reports
            .recv_timeout(ANSWER_TIMEOUT)
            .map_err(|_| "the load client ended or does not answer")?;
        Ok(serde_json::from_str(&report)?)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
