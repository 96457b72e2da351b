//! Who is measured, and how each is found, started and awaited. A server listens on 127.0.0.1
//! alone, with ports of its own. Knows nothing of scenarios.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::json;

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
    Centrifugo,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Floor, Self::Tidegate, Self::Bun, Self::Centrifugo];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Tidegate => "Tidegate",
            Self::Bun => "Bun",
            Self::Centrifugo => "Centrifugo",
        }
    }
}

/// What Centrifugo wants in `X-API-Key` of who publishes.
pub(crate) const CENTRIFUGO_KEY: &str = "bench";

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
        Kind::Centrifugo => {
            let program = std::env::var_os("CENTRIFUGO");
            (program.map_or_else(|| "centrifugo".into(), PathBuf::from), &["version"])
        }
    };
    // It is started in a folder of its own.
    let program = if program.components().count() > 1 {
        fs::canonicalize(&program).unwrap_or(program)
    } else {
        program
    };
    match measure::first_line(&program, arguments) {
        Some(line) => {
            let version = match kind {
                Kind::Centrifugo => centrifugo_version(&program, &line),
                Kind::Floor | Kind::Tidegate | Kind::Bun => {
                    line.trim_start_matches("tidegate ").to_owned()
                }
            };
            Ok(Contender { kind, version, program })
        }
        None => Err(format!("{}: {} does not run", kind.name(), program.display())),
    }
}

/// A release says its version; one built by `go install` calls itself 0.0.0, but the version of the
/// module stands in the file.
fn centrifugo_version(program: &Path, line: &str) -> String {
    const MODULE: &[u8] = b"github.com/centrifugal/centrifugo/v6\tv";
    let said = line.trim_start_matches("Centrifugo v").split(' ').next().unwrap_or(line);
    let built = || {
        let bytes = fs::read(program).ok()?;
        let at = bytes.windows(MODULE.len()).position(|window| window == MODULE)? + MODULE.len();
        let version = bytes[at..].split(|byte| byte.is_ascii_whitespace()).next()?;
        Some(String::from_utf8_lossy(version).into_owned())
    };
    if said == "0.0.0" { built().unwrap_or_else(|| said.to_owned()) } else { said.to_owned() }
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

/// Where a server stands.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    Alone,
    /// Alone, and what is published is kept.
    Keeping,
    /// The same, in a stream of this broker.
    Stream(&'a str),
    /// One node of several, with this broker between them.
    Beside(&'a str),
}

impl<'a> Place<'a> {
    fn broker(self) -> Option<&'a str> {
        match self {
            Self::Beside(url) => Some(url),
            Self::Alone | Self::Keeping | Self::Stream(_) => None,
        }
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
    pub(crate) fn start(contender: &Contender, place: Place<'_>) -> Fallible<Self> {
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
                fs::write(&file, tidegate_config(listen, other, place))?;
                command.arg("serve").arg("--config").arg(file);
                command.env("TIDEGATE_LOG__LEVEL", "warn");
            }
            Kind::Bun => {
                let file = folder.path().join("bun.js");
                fs::write(&file, include_str!("bun.js"))?;
                command.arg("run").arg(file).env("PORT", listen.port().to_string());
            }
            Kind::Centrifugo => {
                let file = folder.path().join("centrifugo.json");
                fs::write(&file, centrifugo_config(listen, place.broker()))?;
                command.arg("--config").arg(file);
            }
        }
        let started = clock::elapsed();
        let kind = contender.kind;
        let mut process = Process::start(kind.name(), command, folder)?;
        process.await_ready(|| match kind {
            Kind::Tidegate => is_healthy(other),
            Kind::Floor | Kind::Bun | Kind::Centrifugo => TcpStream::connect(publish).is_ok(),
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

/// Alone it has one Shard; beside other nodes as many as it would have anywhere.
fn tidegate_config(listen: SocketAddr, management: SocketAddr, place: Place<'_>) -> String {
    let connections = connections_at_most(CONNECTIONS_MAX);
    let kept = "namespaces:\n  bench:\n    history:\n      messages: 1000\n";
    let place = match place {
        Place::Alone => "node: bench\nshards: 1\n".to_owned(),
        Place::Keeping => format!("node: bench\nshards: 1\n{kept}"),
        Place::Stream(url) => {
            let nats = format!("nats:\n  url: {url}\n");
            format!("node: bench\nshards: 1\n{nats}{kept}      storage: memory\n")
        }
        Place::Beside(url) => format!("node: bench-{}\nnats:\n  url: {url}\n", listen.port()),
    };
    format!(
        "listen: {listen}\nmanagement: {management}\n{place}\
         auth:\n  anonymous:\n    subscribe: [\"bench.>\"]\n    publish: [\"bench.>\"]\n\
         limits:\n  max_connections: {connections}\n  key_publishes_per_second: 1000000\n  commands_per_second: 100000\n  \
         commands_burst: 100000\n  handshakes_per_second: 100000\n  handshakes_burst: 100000\n  \
         unauthenticated: 100000\n\
         log:\n  format: json\n  level: warn\n"
    )
}

/// Everybody may connect and subscribe, as with the others; all else is as it comes.
fn centrifugo_config(listen: SocketAddr, broker: Option<&str>) -> String {
    let mut config = json!({
        "http_server": {"address": listen.ip(), "port": listen.port()},
        "http_api": {"key": CENTRIFUGO_KEY},
        "client": {"allow_anonymous_connect_without_token": true},
        "channel": {"without_namespace": {
            "allow_subscribe_for_client": true,
            "allow_subscribe_for_anonymous": true,
        }},
        "log": {"level": "warn"},
    });
    if let Some(url) = broker {
        config["broker"] = json!({"enabled": true, "type": "nats", "nats": {"url": url}});
    }
    config.to_string()
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
