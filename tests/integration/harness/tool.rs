//! Programs that `make tools` brings: who lacks one leaves out what needs it, and says so.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// A file or folder of the project.
pub(crate) fn place(path: &str) -> PathBuf {
    Path::new(ROOT).join(path)
}

/// One of these programs. Without it the rest of a test is left out; where `ALL_TESTS` is set that is
/// a failure.
pub(crate) fn tool(name: &str) -> Option<Command> {
    let program = place("target/tools/python/bin").join(name);
    if !program.exists() {
        return skipped(&format!("{name} is not here"));
    }
    let mut command = Command::new(program);
    command.current_dir(ROOT).stdin(Stdio::null());
    Some(command)
}

/// Says what is left out.
pub(crate) fn skipped<T>(what: &str) -> Option<T> {
    let _ = writeln!(io::stderr(), "SKIPPED: {what} (make tools)");
    assert!(std::env::var_os("ALL_TESTS").is_none(), "{what}, and nothing may be left out");
    None
}

/// Runs one to its end, with this text to read.
pub(crate) fn fed(mut command: Command, text: &str) -> Output {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), text).expect("the text is written");
    let input = file.reopen().expect("the text");
    command.stdin(Stdio::from(input)).output().expect("it starts")
}

/// What a program said, both ways.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}
