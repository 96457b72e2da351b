//! Who is measured, and how each is found, started and awaited. A server listens on 127.0.0.1
//! alone, with ports of its own. Knows nothing of scenarios.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::process::{self, Process};
use crate::{Fallible, clock, measure};

/// Connections that one process here may have: `nofile` is 20,000.
const CONNECTIONS_MAX: usize = 19_500;
/// What a client process and its driver open besides.
const FILES_SPARE: usize = 300;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Floor,
    Tidegate,
    Bun,
}

impl Kind {
    pub(crate) const ALL: [Self; 3] = [Self::Floor, Self::Tidegate, Self::Bun];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Tidegate => "Tidegate",
            Self::Bun => "Bun",
        }
    }
}

/// A program that can be started.
pub(crate) struct Contender {
    pub(crate) kind: Kind,
    pub(crate) version: String,
    program: PathBuf,
}

/// Finds `kind` on this machine, or says why it is absent.
pub(crate) fn find(kind: Kind, tidegate: Option<&Path>) -> Result<Contender, String> {
    let (program, arguments): (PathBuf, &[&str]) = match kind {
        Kind::Floor => {
            let program = std::env::current_exe().map_err(|error| error.to_string())?;
            return Ok(Contender { kind, version: "of this bench".to_owned(), program });
        }
        Kind::Tidegate => (tidegate.map_or_else(default_tidegate, Path::to_owned), &["--version"]),
        Kind::Bun => {
            (std::env::var_os("BUN").map_or_else(|| "bun".into(), PathBuf::from), &["--version"])
        }
    };
    // It is started in a folder of its own.
    let program = if program.components().count() > 1 {
        fs::canonicalize(&program).unwrap_or(program)
    } else {
        program
    };
    match measure::first_line(&program, arguments) {
        Some(version) => {
            let version = version.trim_start_matches("tidegate ").to_owned();
            Ok(Contender { kind, version, program })
        }
        None => Err(format!("{}: {} does not run", kind.name(), program.display())),
    }
}

/// nginx with nchan is a contender by name; nobody has written its start yet.
pub(crate) fn absent_nchan() -> String {
    let nginx = if measure::first_line(Path::new("nginx"), &["-h"]).is_some() {
        "nginx is installed, but this driver cannot start it with nchan yet"
    } else {
        "nginx is not installed"
    };
    format!("nchan: {nginx}")
}

/// Cargo builds the binary beside a bench of its package.
fn default_tidegate() -> PathBuf {
    option_env!("CARGO_BIN_EXE_tidegate").map_or_else(|| "target/dist/tidegate".into(), Into::into)
}

impl Contender {
    /// The size of the program, in MB.
    pub(crate) fn megabytes(&self) -> Option<f64> {
        Some(fs::metadata(&self.program).ok()?.len() as f64 / 1e6)
    }
}

/// A contender that runs and answers.
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) listen: SocketAddr,
    pub(crate) publish: SocketAddr,
    /// From start to the first "ready".
    pub(crate) ready_after: Duration,
    process: Process,
}

impl Server {
    /// Starts the contender and returns when it is ready.
    pub(crate) fn start(contender: &Contender) -> Fallible<Self> {
        let folder = process::folder()?;
        let [listen, other] = process::free_addresses()?;
        let mut command = Command::new(&contender.program);
        let mut publish = listen;
        match contender.kind {
            Kind::Floor => {
                publish = other;
                command.arg("floor").arg(listen.to_string()).arg(publish.to_string());
            }
            Kind::Tidegate => {
                let file = folder.path().join("tidegate.yaml");
                fs::write(&file, tidegate_config(listen, other))?;
                command.arg("serve").arg("--config").arg(file);
                command.env("TIDEGATE_LOG__LEVEL", "warn");
            }
            Kind::Bun => {
                let file = folder.path().join("bun.js");
                fs::write(&file, include_str!("bun.js"))?;
                command.arg("run").arg(file).env("PORT", listen.port().to_string());
            }
        }
        let started = clock::elapsed();
        let kind = contender.kind;
        let mut process = Process::start(kind.name(), command, folder)?;
        process.await_ready(|| match kind {
            Kind::Tidegate => is_healthy(other),
            Kind::Floor | Kind::Bun => TcpStream::connect(publish).is_ok(),
        })?;
        let ready_after = clock::elapsed() - started;
        Ok(Self { kind, listen, publish, ready_after, process })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where this server's files are: gone with it.
    pub(crate) fn folder(&self) -> &Path {
        self.process.folder()
    }

    /// The end of what the server has printed.
    pub(crate) fn log_tail(&self) -> String {
        self.process.log_tail()
    }
}

/// As many connections as asked for, or as one process can hold here.
pub(crate) fn connections_at_most(wanted: usize) -> usize {
    let files = fs::read_to_string("/proc/self/limits").ok().and_then(|limits| {
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
        line.split_whitespace().next()?.parse::<usize>().ok()
    });
    let possible = files.unwrap_or(1024).saturating_sub(FILES_SPARE);
    wanted.min(possible).min(CONNECTIONS_MAX)
}

fn tidegate_config(listen: SocketAddr, management: SocketAddr) -> String {
    let connections = connections_at_most(CONNECTIONS_MAX);
    format!(
        "listen: {listen}\nmanagement: {management}\nshards: 1\nnode: bench\n\
         auth:\n  anonymous:\n    subscribe: [\"bench.>\"]\n    publish: [\"bench.>\"]\n\
         limits:\n  max_connections: {connections}\n  key_publishes_per_second: 1000000\n  commands_per_second: 100000\n  \
         commands_burst: 100000\n  handshakes_per_second: 100000\n  handshakes_burst: 100000\n  \
         unauthenticated: 100000\n\
         log:\n  format: json\n  level: warn\n"
    )
}

fn is_healthy(management: SocketAddr) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(management)?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(
            stream,
            "GET /health/ready HTTP/1.1\r\nHost: {management}\r\nConnection: close\r\n\r\n"
        )?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(&answer == b"HTTP/1.1 200")
    };
    ask().unwrap_or(false)
}
