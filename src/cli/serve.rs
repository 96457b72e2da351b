//! `tidegate serve`: a node, by its configuration.

use std::process::ExitCode;
use std::sync::Arc;

use super::{Exit, Failure, core};
use crate::auth::Auth;
use crate::config::Config;
use crate::{node, telemetry};

pub(super) fn run(config: Config) -> Result<ExitCode, Failure> {
    let telemetry = telemetry::start(&config.log).map_err(Failure::usage)?;
    let auth = Auth::open(&config.auth).map_err(|faults| {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Failure::usage(lines.join("\n"))
    })?;
    core()?.block_on(async {
        let node = node::start(config, Arc::new(auth), &telemetry, None).await;
        node.map_err(|fault| Failure::new(Exit::Usage, fault))?.run().await.map_err(Failure::failed)
    })?;
    telemetry.flush();
    Ok(ExitCode::SUCCESS)
}
