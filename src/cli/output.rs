//! What a command prints: prose for people, a JSON object a line for programs.
//!
//! Where standard output is no terminal, a program is assumed. Nothing is printed by `println!`,
//! which panics when the reader has gone (`… | head -1`): that is an end like any other.

use std::env;
use std::fmt;
use std::io::{self, IsTerminal as _, Stdout, Write as _};

use super::{Exit, Failure};

/// Standard output, and how to write to it.
#[derive(Debug)]
pub(super) struct Output {
    /// Whether a program reads it.
    pub(super) json: bool,
    colour: bool,
    stdout: Stdout,
}

/// How a piece of text is set off.
#[derive(Debug, Clone, Copy)]
pub(super) enum Tone {
    /// Less than the rest.
    Faint,
    /// A name.
    Name,
    /// Worth a look.
    Warning,
}

impl Output {
    /// Prose on a terminal, unless JSON is asked for.
    pub(super) fn new(json: bool) -> Self {
        let stdout = io::stdout();
        let terminal = stdout.is_terminal();
        let plain = env::var_os("NO_COLOR").is_some_and(|text| !text.is_empty());
        Self { json: json || !terminal, colour: terminal && !plain, stdout }
    }

    /// Text that a program takes as it is, even from a pipe: no JSON unless asked for.
    pub(super) fn bare(json: bool) -> Self {
        Self { json, ..Self::new(json) }
    }

    /// Writes one line.
    pub(super) fn line(&self, text: impl fmt::Display) -> Result<(), Failure> {
        let mut out = self.stdout.lock();
        writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|why| match why.kind() {
            io::ErrorKind::BrokenPipe => Failure::new(Exit::Unread, ""),
            _ => Failure::failed(format!("standard output: {why}")),
        })
    }

    /// The text in this tone, where colours are shown.
    pub(super) fn tone(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Faint => "2",
            Tone::Name => "36",
            Tone::Warning => "33",
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Tells people what happens beside the output.
pub(super) fn note(text: impl fmt::Display) {
    // Whoever closed standard error does not want to know.
    let _ = writeln!(io::stderr(), "{text}");
}
