//! The broker between two nodes of a contender: one real `nats-server` for a whole run, without
//! JetStream. Knows nothing of who connects to it.

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
        let mut command = Command::new(&program);
        command.args(["-a", &address.ip().to_string(), "-p", &address.port().to_string()]);
        let mut process = Process::start("nats-server", command, process::folder()?)?;
        process.await_ready(|| TcpStream::connect(address).is_ok())?;
        Ok(Self { version, address, _process: process })
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
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
