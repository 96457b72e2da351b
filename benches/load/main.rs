//! The whole-system benchmark behind `make bench`: starts each gateway, loads it, measures it from
//! outside and prints one table. It speaks the wire protocol and uses nothing of the `tidegate`
//! library. Run without a subcommand it is the driver; `client` and `floor` are the processes that
//! the driver starts.
//!
//! ```text
//!  driver (main, scenario) -- publishes --> contender (floor | Tidegate | Bun), a process
//!     | lines ^ reports                        | frames
//!     v       |                                v
//!  load client (client.rs), a process  <-------+
//!
//!  with two nodes:            driver -- publishes --> node A --> nats-server --> node B -- frames -->
//! ```

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the command line")]

use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::contender::{Contender, Kind};
use crate::nats::Nats;
use crate::scenario::{Scale, Scenario};
use crate::table::Table;

mod client;
mod clock;
mod contender;
mod fleet;
mod floor;
mod frame;
mod measure;
mod nats;
mod process;
mod publisher;
mod scenario;
mod table;

/// A result whose errors are only ever shown.
pub(crate) type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

const BEGIN: &str = "<!-- table: written by `make bench` -->";
const END: &str = "<!-- end of table -->";

/// Measures Tidegate beside what is installed of its peers.
#[derive(Parser)]
struct Options {
    #[command(subcommand)]
    role: Option<Role>,
    /// Interleaved rounds of everything; the table has their medians.
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// One round, smaller sizes: to try a change, not to judge it.
    #[arg(long)]
    quick: bool,
    /// Only these scenarios (repeatable).
    #[arg(long, value_enum)]
    only: Vec<Scenario>,
    /// Only these contenders: floor, tidegate, bun, centrifugo (repeatable).
    #[arg(long)]
    contender: Vec<String>,
    /// The Tidegate binary; else the one Cargo built beside this bench.
    #[arg(long)]
    tidegate: Option<PathBuf>,
    /// Also writes the table between the markers of this file.
    #[arg(long)]
    markdown: Option<PathBuf>,
    /// Cargo passes it to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Subcommand)]
enum Role {
    /// The load client; its input and output belong to the driver.
    Client,
    /// The floor: clients on one port, publishers on the other.
    Floor { listen: SocketAddr, publish: SocketAddr },
}

fn main() -> ExitCode {
    let options = Options::parse();
    let done = match options.role {
        Some(Role::Client) => client::run().map(|()| true),
        Some(Role::Floor { listen, publish }) => floor::run(listen, publish).map(|()| true),
        None => drive(&options),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs everything and prints the table; false if a bar was missed or Tidegate failed.
fn drive(options: &Options) -> Fallible<bool> {
    if let Some(file) = &options.markdown {
        // Not after an hour.
        split_at_markers(file)?;
    }
    let mut scenarios =
        if options.only.is_empty() { Scenario::ALL.to_vec() } else { options.only.clone() };
    let (contenders, mut table) = assemble(options, &scenarios)?;
    let broker = start_broker(&mut scenarios, &mut table)?;
    let scale = if options.quick { Scale::Quick } else { Scale::Full };
    let rounds = if options.quick { 1 } else { options.rounds };
    let load = measure::load();
    let mut failed = false;
    for round in 1..=rounds {
        for scenario in &scenarios {
            if *scenario == Scenario::Writes && (round > 1 || !scenario::can_trace()) {
                continue;
            }
            for contender in contenders.iter().filter(|one| scenario.suits(one.kind)) {
                let progress = format!("{round}/{rounds}");
                let broker = broker.as_ref();
                let ran = play(*scenario, contender, scale, broker, &progress, &mut table);
                failed |= !ran && contender.kind == Kind::Tidegate;
            }
        }
    }
    table.head.push(format!("* Load of the machine: {load} before, {} after", measure::load()));
    let text = table.render();
    println!("\n{text}");
    if let Some(file) = &options.markdown {
        let (before, after) = split_at_markers(file)?;
        fs::write(file, format!("{before}{BEGIN}\n\n{text}\n{END}{after}"))?;
    }
    let missed = table.missed();
    if !missed.is_empty() {
        println!("{} bars MISSED: {}", missed.len(), missed.join("; "));
    }
    let wanted = is_wanted(options, Kind::Tidegate);
    Ok(missed.is_empty() && !failed && (!wanted || table.present.contains(&Kind::Tidegate)))
}

/// One scenario of one contender; false if it could not be played to its end, or lost something.
fn play(
    scenario: Scenario,
    contender: &Contender,
    scale: Scale,
    broker: Option<&Nats>,
    round: &str,
    table: &mut Table,
) -> bool {
    let (kind, name) = (contender.kind, scenario.name());
    print!("round {round} {name:<10} {:<10}", kind.name());
    let _ = std::io::stdout().flush();
    let started = clock::elapsed();
    let outcome = scenario.run(contender, scale, broker);
    let took = (clock::elapsed() - started).as_secs();
    let place = format!("{}, {name}, round {round}", kind.name());
    match outcome {
        Ok(outcome) => {
            println!(" {took:>4} s, {} faults", outcome.faults.len());
            let faults = outcome.faults.into_iter().map(|fault| format!("{place}: {fault}"));
            table.faults.extend(faults);
            table.shares.extend(outcome.share.map(|share| (kind, name, share)));
            table.samples.extend(outcome.samples.into_iter().map(|sample| (kind, sample)));
            !outcome.broken
        }
        Err(error) => {
            println!(" {took:>4} s, FAILED: {error}");
            table.faults.push(format!("{place}: failed: {error}"));
            false
        }
    }
}

/// Starts the broker if a scenario wants one; without it that scenario is not played.
fn start_broker(scenarios: &mut Vec<Scenario>, table: &mut Table) -> Fallible<Option<Nats>> {
    if !scenarios.iter().any(|scenario| scenario.wants_broker()) {
        return Ok(None);
    }
    match Nats::start() {
        Ok(broker) => {
            let line = format!("* Broker: one nats-server {} for all", broker.version);
            table.head.push(line);
            Ok(Some(broker))
        }
        Err(error) => {
            scenarios.retain(|scenario| !scenario.wants_broker());
            if scenarios.is_empty() {
                return Err(format!("nats-server: {error}").into());
            }
            table.absent.push(format!("nats-server: {error}, so nothing with NATS was measured"));
            Ok(None)
        }
    }
}

fn is_wanted(options: &Options, kind: Kind) -> bool {
    options.contender.is_empty()
        || options.contender.iter().any(|name| name.eq_ignore_ascii_case(kind.name()))
}

/// Finds the contenders, and begins the table with what is known before the first round.
fn assemble(options: &Options, scenarios: &[Scenario]) -> Fallible<(Vec<Contender>, Table)> {
    if let Some(unknown) = options
        .contender
        .iter()
        .find(|name| !Kind::ALL.iter().any(|kind| name.eq_ignore_ascii_case(kind.name())))
    {
        return Err(format!("no contender is called {unknown}").into());
    }
    let tidegate = options.tidegate.as_deref().map(fs::canonicalize).transpose()?;
    let mut contenders = Vec::new();
    let mut table = Table::default();
    for kind in Kind::ALL {
        if !is_wanted(options, kind) {
            table.absent.push(format!("{}: not asked for", kind.name()));
            continue;
        }
        let (played, missed): (Vec<Scenario>, Vec<Scenario>) =
            scenarios.iter().partition(|scenario| scenario.suits(kind));
        if played.is_empty() {
            table.absent.push(format!("{}: plays nothing of what was asked for", kind.name()));
            continue;
        }
        match contender::find(kind, tidegate.as_deref()) {
            Ok(contender) => contenders.push(contender),
            Err(why) => {
                table.absent.push(why);
                continue;
            }
        }
        if !missed.is_empty() {
            let names: Vec<&str> = missed.into_iter().map(Scenario::name).collect();
            table.absent.push(format!("{}, in: {}", kind.name(), names.join(", ")));
        }
    }
    table.absent.push(contender::absent_nchan());
    if !scenario::can_trace() {
        table.absent.push("strace: not installed, so writes were not counted".to_owned());
    }
    table.present = contenders.iter().map(|contender| contender.kind).collect();
    let versions: Vec<String> = contenders
        .iter()
        .map(|contender| format!("{} {}", contender.kind.name(), contender.version))
        .collect();
    let rounds = if options.quick {
        "1, quick: smaller sizes".to_owned()
    } else {
        options.rounds.to_string()
    };
    table.head = vec![
        format!("* Machine: {}", measure::machine()),
        format!("* Commit: {}", commit()),
        format!("* Contenders: {}", versions.join(", ")),
        format!("* Rounds: {rounds}; medians ± half the distance between the ends"),
    ];
    table.command = command();
    Ok((contenders, table))
}

fn commit() -> String {
    let git = |arguments: &[&str]| measure::first_line(Path::new("git"), arguments);
    let commit = git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "none".to_owned());
    match git(&["status", "--porcelain", "--untracked-files=no"]) {
        Some(changes) if !changes.is_empty() => format!("{commit}, with changes"),
        _ => commit,
    }
}

/// The command that repeats this run.
fn command() -> String {
    let mut words = vec!["cargo bench --bench load --profile dist --".to_owned()];
    words.extend(std::env::args().skip(1).filter(|argument| argument != "--bench"));
    words.join(" ")
}

/// What stands before and behind the table in a file.
fn split_at_markers(file: &Path) -> Fallible<(String, String)> {
    let text = fs::read_to_string(file)?;
    let split = text.split_once(BEGIN).and_then(|(before, rest)| {
        rest.split_once(END).map(|(_, after)| (before.to_owned(), after.to_owned()))
    });
    split.ok_or_else(|| format!("{} has no markers for the table", file.display()).into())
}
