//! The broker between two nodes of a contender: one real `nats-server` for a whole run. Knows nothing
//! of who connects to it. A backend publishes there without asking a gateway.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{self, Process};
use crate::{Fallible, measure};

/// A running server.
pub(crate) struct Nats {
    pub(crate) version: String,
    address: SocketAddr,
    _process: Process,
}

impl Nats {
    /// Starts the server and returns when it takes connections.
    pub(crate) fn start() -> Fallible<Self> {
        let program = program();
        let version = measure::first_line(&program, &["--version"])
            .ok_or_else(|| format!("{} does not run", program.display()))?;
        let version = version.trim_start_matches("nats-server: v").to_owned();
        let [address, _] = process::free_addresses()?;
        let folder = process::folder()?;
        let mut command = Command::new(&program);
        command.arg("-js").arg("-sd").arg(folder.path());
        command.args(["-a", &address.ip().to_string(), "-p", &address.port().to_string()]);
        let mut process = Process::start("nats-server", command, folder)?;
        process.await_ready(|| TcpStream::connect(address).is_ok())?;
        Ok(Self { version, address, _process: process })
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }
}

/// A backend that speaks to the broker itself.
pub(crate) struct Backend {
    stream: TcpStream,
    lines: BufReader<TcpStream>,
    ready: String,
}

impl Backend {
    pub(crate) fn connect(nats: &Nats) -> Fallible<Self> {
        let stream = TcpStream::connect(nats.address)?;
        stream.set_nodelay(true)?;
        let mut lines = BufReader::new(stream.try_clone()?);
        lines.read_line(&mut String::new())?;
        let ready = "CONNECT {\"verbose\":false}\r\n".to_owned();
        Ok(Self { stream, lines, ready })
    }

    /// Adds a message to what is sent next.
    pub(crate) fn add(&mut self, subject: &str, payload: &str) -> Fallible<()> {
        write!(self.ready, "PUB {subject} {}\r\n{payload}\r\n", payload.len())?;
        Ok(())
    }

    /// Sends what was added.
    pub(crate) fn send(&mut self) -> Fallible<()> {
        self.stream.write_all(self.ready.as_bytes())?;
        self.ready.clear();
        Ok(())
    }

    /// Returns when the broker has taken everything.
    pub(crate) fn finish(&mut self) -> Fallible<()> {
        self.ready.push_str("PING\r\n");
        self.send()?;
        let mut line = String::new();
        while !line.starts_with("PONG") {
            line.clear();
            if self.lines.read_line(&mut line)? == 0 {
                return Err("the broker has closed".into());
            }
            if line.starts_with("PING") {
                self.stream.write_all(b"PONG\r\n")?;
            }
        }
        Ok(())
    }
}

/// `$NATS_SERVER`, or what `make tools` has put in place, or one in the path.
fn program() -> PathBuf {
    if let Some(program) = std::env::var_os("NATS_SERVER") {
        return program.into();
    }
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/python/bin/nats-server");
    if tools.exists() { tools } else { "nats-server".into() }
}
