//! The command line: what can be asked for, and with which number each command ends.
//!
//! `main` calls [`run`]. A command is one file; it returns nothing or a `Failure`, and the words
//! of that, and its number, are given out here alone. `serve` and `dev` start a node and stay; the
//! others are clients or read files.

mod check;
mod dev;
mod disconnect;
mod frame;
mod from;
mod gateway;
mod history;
mod output;
mod places;
mod publish;
mod serve;
mod subscribe;
mod token;

use std::ffi::OsString;
use std::fmt;
use std::future::Future;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use time::OffsetDateTime;

use self::gateway::Gateway;
use self::output::Output;
use crate::config::{self, Config, Overrides};
use crate::protocol::From;
use crate::publication::Timestamp;
use crate::topic::{Pattern, Topic};

/// Threads for everything that no client waits on directly.
const CORE_THREADS: usize = 2;

/// A pub/sub gateway between browsers and NATS.
#[derive(Debug, Parser)]
#[command(name = "tidegate", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Try it out: a node on this machine alone, with a throwaway key and a page to look at
    Dev {
        /// Where clients connect [default: 127.0.0.1:8080]
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<SocketAddr>,
        /// Start inside Kubernetes, too
        #[arg(long)]
        force: bool,
    },
    /// Run a node
    Serve {
        #[command(flatten)]
        file: File,
        /// Where clients connect
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<SocketAddr>,
        /// Where health is asked for; never public
        #[arg(long, value_name = "ADDRESS")]
        management: Option<SocketAddr>,
    },
    /// Read the configuration as `serve` would, and show what would be in force
    Check {
        #[command(flatten)]
        file: File,
        /// Show what this Token or API key may do, and why no more; with --live: come as its holder
        #[arg(long)]
        token: Option<String>,
        /// The same, read from a file
        #[arg(long, value_name = "FILE", conflicts_with = "token")]
        token_file: Option<PathBuf>,
        /// Instead: take one Publication through the gateway that runs at this URL
        #[arg(long, value_name = "URL", value_parser = gateway::url)]
        live: Option<reqwest::Url>,
        /// The Topic of that Publication
        #[arg(long, default_value = "demo.check", requires = "live", value_parser = Topic::parse)]
        topic: Topic,
        /// With --live: come with a Token of a minute, signed with the first HMAC issuer of --config
        #[arg(long, requires = "live", conflicts_with_all = ["token", "token_file"])]
        sign: bool,
        /// With --live: see that whoever brings no Token is refused
        #[arg(long, requires = "live", conflicts_with_all = ["token", "token_file", "sign"])]
        closed: bool,
        /// Print JSON, as is done where the output is no terminal
        #[arg(long)]
        json: bool,
    },
    /// Print what is published, as it comes
    Subscribe {
        /// What to listen to, such as dash.eu or dash.**
        #[arg(required = true, value_name = "PATTERN", value_parser = Pattern::parse_subscription)]
        patterns: Vec<Pattern>,
        /// Where to begin, where history is kept: with the newest values, behind a Cursor, with the
        /// last N of a Topic, or at a time
        #[arg(long, value_name = "live|last|CURSOR|N|TIME", default_value = "live")]
        #[arg(value_parser = from::subscribing)]
        from: From,
        /// End after so many Publications
        #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
        #[command(flatten)]
        remote: Remote,
    },
    /// Print what is kept of one Topic
    History(history::Arguments),
    /// Publish to one Topic
    Publish(publish::Arguments),
    /// Send a user, a Token or a Connection away, from every node
    Disconnect(disconnect::Arguments),
    /// Make a Token, signed with the first HMAC issuer, or an API key
    Token(token::Arguments),
}

/// Where the configuration is.
#[derive(Debug, Args)]
struct File {
    /// The configuration file
    #[arg(long = "config", env = "TIDEGATE_CONFIG", value_name = "FILE")]
    path: Option<PathBuf>,
}

impl File {
    fn load(&self, flags: &Overrides) -> Result<Config, Failure> {
        // A variable that is no text cannot be one of ours: those are all ASCII.
        let environment = std::env::vars_os()
            .filter_map(|(name, text)| Some((name.into_string().ok()?, text.into_string().ok()?)));
        config::load(self.path.as_deref(), environment, flags).map_err(Failure::usage)
    }
}

/// What every client command takes.
#[derive(Debug, Args)]
struct Remote {
    /// The gateway
    #[arg(long, env = "TIDEGATE_URL", default_value = "http://localhost:8080")]
    #[arg(value_parser = gateway::url)]
    url: reqwest::Url,
    /// A Token or API key
    #[arg(long, env = "TIDEGATE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Print JSON, as is done where the output is no terminal
    #[arg(long)]
    json: bool,
}

/// Does what the arguments say; the answer is the number that the process ends with.
#[must_use]
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let task = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments.task,
        Err(words) => {
            // Help and version are no failure. Nobody is left to tell if this cannot be printed.
            let _ = words.print();
            return if words.use_stderr() { Exit::Usage.into() } else { ExitCode::SUCCESS };
        }
    };
    match perform(task) {
        Ok(code) => code,
        Err(Failure { exit, words }) => {
            if !words.is_empty() {
                let _ = writeln!(io::stderr(), "{words}");
            }
            exit.into()
        }
    }
}

fn perform(task: Task) -> Result<ExitCode, Failure> {
    match task {
        Task::Dev { listen, force } => return dev::run(listen, force),
        Task::Serve { file, listen, management } => {
            return serve::run(file.load(&Overrides { listen, management })?);
        }
        Task::Check { live: Some(url), topic, closed: true, json, .. } => {
            wait(check::closed(&Gateway::new(url, None), &topic, &Output::new(json)))?;
        }
        Task::Check { file, token, token_file, live: Some(url), topic, sign, json, .. } => {
            let token = if sign {
                Some(check::ticket(&file.load(&Overrides::default())?, &topic)?)
            } else {
                shown(token, token_file)?
            };
            let gateway = Gateway::new(url, token);
            wait(check::live(&gateway, &topic, &Output::new(json)))?;
        }
        Task::Check { file, token, token_file, json, .. } => {
            let config = file.load(&Overrides::default())?;
            wait(check::run(&config, shown(token, token_file)?, &Output::new(json)))?;
        }
        Task::Subscribe { patterns, from, count, remote } => {
            let out = Output::new(remote.json);
            let gateway = Gateway::new(remote.url, remote.token);
            wait(subscribe::run(&gateway, patterns, &from, count, &out))?;
        }
        Task::History(arguments) => history::run(arguments)?,
        Task::Publish(arguments) => publish::run(arguments)?,
        Task::Disconnect(arguments) => disconnect::run(arguments)?,
        Task::Token(arguments) => token::run(arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The Token that was given, or that stands in the file that was named.
fn shown(token: Option<String>, file: Option<PathBuf>) -> Result<Option<String>, Failure> {
    let Some(path) = file else {
        return Ok(token);
    };
    let text = std::fs::read_to_string(&path).map_err(|why| {
        Failure::usage(format!("--token-file: {} cannot be read: {why}", path.display()))
    })?;
    Ok(Some(text.trim().to_owned()))
}

/// Runs a client to its end.
fn wait(client: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(Failure::failed)?.block_on(client)
}

/// The runtime of a node, beside its Shards.
fn core() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(CORE_THREADS)
        .enable_all()
        .build();
    runtime.map_err(Failure::failed)
}

fn now() -> Timestamp {
    let ms = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
    Timestamp(u64::try_from(ms).unwrap_or(0))
}

/// Why a command did not do what it should.
#[derive(Debug)]
struct Failure {
    exit: Exit,
    words: String,
}

impl Failure {
    fn new(exit: Exit, words: impl fmt::Display) -> Self {
        Self { exit, words: words.to_string() }
    }

    fn failed(words: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, words)
    }

    fn usage(words: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, words)
    }
}

/// The numbers that a process ends with: `sysexits.h`, where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exit {
    /// Whoever read our output has seen enough.
    Unread,
    /// It did not work.
    Failed,
    /// Arguments or configuration are wrong.
    Usage,
    /// There is no gateway.
    Unreachable,
    /// The gateway does not let us.
    Refused,
}

impl std::convert::From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Unread => 0,
            Exit::Failed => 1,
            Exit::Usage => 64,
            Exit::Unreachable => 69,
            Exit::Refused => 77,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory as _;
        Arguments::command().debug_assert();
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in [
            "",
            "subscribe",
            "subscribe *.x",
            "subscribe dash.** --count 0",
            "subscribe a --url ftp://x",
            "subscribe a --from yesterday",
            "history",
            "history a.*",
            "history a --from last",
            "history a --limit 0",
            "publish a.* 1",
            "publish a",
            "publish a 1 --delete",
            "disconnect",
            "disconnect --user a --token-id b",
            "token",
            "token --sub a --api-key b",
            "token --sub a --disconnect",
            "token --sub a --ttl 25h",
            "check --topic a",
            "check --live ftp://x",
            "check --closed",
            "check --live http://x --closed --token t",
            "check --token t --token-file f",
        ] {
            let words = std::iter::once("tidegate").chain(line.split_whitespace());
            assert!(Arguments::try_parse_from(words).is_err(), "{line}");
        }
    }
}
