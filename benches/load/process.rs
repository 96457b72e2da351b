//! A program that the driver has started: with a folder and a log of its own, ended with its handle
//! and, if the driver itself is killed, by a guard. Knows nothing of what it runs.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::Fallible;
use crate::clock::{self, Deadline};

const READY_TIMEOUT: Duration = Duration::from_secs(20);

/// A running program.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    /// Ends the program when this process is gone.
    guard: Option<Child>,
    folder: TempDir,
}

impl Process {
    /// Starts `command` in `folder`.
    pub(crate) fn start(
        name: &'static str,
        mut command: Command,
        folder: TempDir,
    ) -> Fallible<Self> {
        let log = File::create(folder.path().join("log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.current_dir(folder.path()).spawn()?;
        let mut process = Self { name, child, guard: None, folder };
        process.guard = Some(process.start_guard()?);
        Ok(process)
    }

    /// A shell that waits for the end of this process and then kills the program.
    fn start_guard(&self) -> Fallible<Child> {
        let script = format!("read line; kill -9 {} 2>/dev/null", self.pid());
        let mut command = Command::new("sh");
        command.arg("-c").arg(script).stdin(Stdio::piped()).stderr(Stdio::null());
        Ok(command.spawn()?)
    }

    /// Returns when `ready` says so.
    pub(crate) fn await_ready(&mut self, ready: impl Fn() -> bool) -> Fallible<()> {
        let deadline = Deadline::after(READY_TIMEOUT);
        while !ready() {
            let name = self.name;
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("{name} ended with {status}: {}", self.log_tail()).into());
            }
            if deadline.passed() {
                return Err(format!("{name} is not ready: {}", self.log_tail()).into());
            }
            clock::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where this program's files are: gone with it.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The end of what the program has printed.
    pub(crate) fn log_tail(&self) -> String {
        let text = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(8)..].join(" | ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        for child in self.guard.iter_mut().chain([&mut self.child]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A new folder that ends with what runs in it.
pub(crate) fn folder() -> Fallible<TempDir> {
    Ok(tempfile::Builder::new().prefix("tidegate-load-").tempdir()?)
}

/// Two ports of 127.0.0.1 that nobody had a moment ago.
pub(crate) fn free_addresses() -> Fallible<[SocketAddr; 2]> {
    let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let second = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    Ok([first.local_addr()?, second.local_addr()?])
}
