//! This program as a process of its own, in whatever role, that ends with the test.

use std::ffi::OsStr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::NamedTempFile;

use super::until;

/// A running `tidegate`.
pub(crate) struct Process {
    child: Child,
    errors: NamedTempFile,
}

impl Process {
    /// Starts it with these arguments.
    pub(crate) fn start<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Self {
        let errors = NamedTempFile::new().expect("a file");
        let child = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .args(arguments)
            .env_remove("TIDEGATE_CONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors.reopen().expect("a file"))
            .spawn()
            .expect("it starts");
        Self { child, errors }
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said on standard error.
    pub(crate) fn errors(&self) -> String {
        std::fs::read_to_string(self.errors.path()).expect("its words")
    }

    /// Waits for its end, and gives the number that it ended with.
    pub(crate) async fn ended(&mut self, limit: Duration) -> Option<i32> {
        let mut status = None;
        until("the process ends", limit, || {
            status = self.child.try_wait().expect("a process");
            let ended = status.is_some();
            async move { ended }
        })
        .await;
        status.and_then(|status| status.code())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nobody to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal by name, such as `STOP`.
pub(crate) fn signal(id: u32, name: &str) {
    let status = Command::new("kill").args([format!("-{name}"), id.to_string()]).status();
    assert!(status.expect("kill runs").success());
}
