//! `tidegate dev`: a node to try out, and live data to look at.
//!
//! It is the same node as `serve` runs, with a throwaway key, on this machine alone. What it shows is
//! this machine's own load, published like anybody's Publications.
#![expect(clippy::print_stdout, reason = "the lines to copy are what this command is for")]

use std::io::{self, IsTerminal as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sysinfo::{NetworkData, Networks, System};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::{Exit, Failure, core};
use crate::auth::{Algorithm, Auth, Claims, Grants, NewToken, fresh_secret};
use crate::config::{self, Config, Format};
use crate::http::dev::Info;
use crate::namespace::{self, History};
use crate::node::{self, Node};
use crate::publication::Draft;
use crate::publisher::Publisher;
use crate::shard::counts::Snapshot;
use crate::telemetry::{self, Telemetry};
use crate::topic::{Pattern, Topic};

/// Open to anonymous clients, so that the printed lines can be typed.
const DEMO: &str = "demo.>";
/// The life of the printed Token.
const TOKEN_LIFE: Duration = Duration::from_hours(24);
/// What is kept of each Topic there: more than a minute of the counter.
const DEMO_MESSAGES: u32 = 1_000;
/// Between two values of the counter.
const COUNT_EVERY: Duration = Duration::from_millis(100);
/// Counts between two looks at the machine's load.
const COUNTS_PER_LOAD: u64 = 6;

pub(super) fn run(listen: Option<SocketAddr>, force: bool) -> Result<ExitCode, Failure> {
    if std::env::var_os("KUBERNETES_SERVICE_HOST").is_some() && !force {
        let words = "dev has a throwaway key and is not for Kubernetes; --force if you mean it";
        return Err(Failure::usage(words));
    }
    let config = settings(listen);
    let telemetry = telemetry::start(&config.log).map_err(Failure::usage)?;
    let secret = fresh_secret().map_err(Failure::failed)?;
    let demo = vec![Pattern::parse(DEMO).map_err(Failure::failed)?];
    let anonymous = Grants { subscribe: demo.clone(), publish: demo.clone(), history: demo };
    let auth = Auth::with_secret(secret.expose_secret(), anonymous).map_err(Failure::failed)?;
    let token =
        token().sign(secret.expose_secret(), node::wall_clock()).map_err(Failure::failed)?;
    let info = Info {
        version: env!("CARGO_PKG_VERSION"),
        token,
        command: command(),
        reach: if config.listen.ip().is_loopback() {
            "this machine only"
        } else {
            "OPEN TO THE NETWORK"
        },
    };

    core()?.block_on(async {
        let auth = Arc::new(auth);
        let node = start(config, &auth, &telemetry, &info).await?;
        welcome(&node, &info);
        let mut tasks = tokio::task::JoinSet::new();
        if let Some(claims) = auth.anonymous() {
            tasks.spawn(demonstrate(node.publisher(), claims, node.counted()));
        }
        node.run().await.map_err(Failure::failed)
    })?;
    telemetry.flush();
    Ok(ExitCode::SUCCESS)
}

/// Loopback only, logs for people; what is below `demo` is kept.
fn settings(listen: Option<SocketAddr>) -> Config {
    let mut config = config::unconfigured();
    config.listen = listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)));
    config.management = SocketAddr::from((Ipv4Addr::LOCALHOST, 9090));
    config.log.format = Format::Pretty;
    config.log.level = "warn".to_owned();
    let history = History { messages: DEMO_MESSAGES, ..History::default() };
    let demo = namespace::Config { history: Some(history), ..namespace::Config::default() };
    config.namespaces.insert("demo".to_owned(), demo);
    config.drain = config::Drain { lame_duck: Duration::ZERO, window: Duration::ZERO };
    config
}

/// A taken management port gives way to a free one; the clients' port was asked for, and a second try
/// says so if it is that one.
async fn start(
    config: Config,
    auth: &Arc<Auth>,
    telemetry: &Telemetry,
    info: &Info,
) -> Result<Node, Failure> {
    let mut elsewhere = config.clone();
    elsewhere.management.set_port(0);
    let with = |config| node::start(config, Arc::clone(auth), telemetry, Some(info.clone()));
    let node = match with(config).await {
        Err(fault) if fault.kind() == io::ErrorKind::AddrInUse => with(elsewhere).await,
        started => started,
    };
    node.map_err(|fault| Failure::new(Exit::Usage, fault))
}

fn token() -> NewToken {
    let all = vec![">".to_owned()];
    NewToken {
        subject: "dev".to_owned(),
        subscribe: all.clone(),
        publish: all.clone(),
        history: all,
        life: TOKEN_LIFE,
        issuer: None,
        audience: None,
        algorithm: Algorithm::HS256,
    }
}

/// How this program can be started again, for lines to copy.
fn command() -> String {
    let called = std::env::args_os().next().unwrap_or_default();
    match called.to_str() {
        Some(path) if path.contains('/') => quoted(path),
        _ => "tidegate".to_owned(),
    }
}

/// A path as a shell takes it.
fn quoted(path: &str) -> String {
    let plain = |sign: char| sign.is_ascii_alphanumeric() || "/._-+".contains(sign);
    if path.chars().all(plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', r"'\''"))
    }
}

fn welcome(node: &Node, info: &Info) {
    let (bold, loud, plain) =
        if io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
            ("\x1b[1m", "\x1b[1;33m", "\x1b[0m")
        } else {
            ("", "", "")
        };
    let host = match node.client {
        SocketAddr::V4(address) if address.ip().is_loopback() || address.ip().is_unspecified() => {
            format!("localhost:{}", address.port())
        }
        address => address.to_string(),
    };
    let Info { version, token, command, reach } = info;
    let management = node.management;
    let url =
        if host == "localhost:8080" { String::new() } else { format!(" --url http://{host}") };
    println!(
        r#"
  {bold}Tidegate {version}{plain}    {loud}DEVELOPMENT MODE{plain}: throwaway key, {reach}, no TLS

  page       {bold}http://{host}/{plain}
  publish    curl -d '{{"v":42}}' {host}/v1/topics/demo.hello/messages
  watch      {command} subscribe{url} 'demo.**' --from last
  history    {command} history{url} demo.counter --from 5
  values     curl '{host}/v1/topics/demo.**/state'
  browser    new WebSocket("ws://{host}/v1/connect?topic=demo.**")
  token      {token}
             (every topic, 24 h, dies with this process)
  health     curl http://{management}/health/ready
  bus        in memory
"#
    );
}

/// Publishes this machine's load and the node's own rate, and a counter without holes.
async fn demonstrate(
    publisher: Arc<Publisher>,
    claims: Arc<Claims>,
    counted: impl Fn() -> Snapshot + Send + 'static,
) {
    let mut load = Load::new()
        .inspect_err(|fault| tracing::warn!(error = %fault, "This machine's load cannot be read"))
        .ok();
    let mut ticks = interval(COUNT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for n in 1_u64.. {
        ticks.tick().await;
        let mut values = vec![("demo.counter", json!({ "n": n }))];
        if n % COUNTS_PER_LOAD == 1
            && let Some(load) = &mut load
        {
            values.extend(load.read(&counted()));
        }
        for (topic, value) in values {
            let Ok(topic) = Topic::parse(topic) else {
                continue;
            };
            let draft = Draft { topic, payload: value.to_string().into(), key: None, trace: None };
            if let Err(fault) = publisher.publish(&claims, None, draft).await {
                tracing::warn!(error = %fault, "The demo's data was not published");
            }
        }
    }
}

/// The machine's load, and what the node did since the last look.
struct Load {
    system: System,
    networks: Networks,
    seen: (Instant, Snapshot),
}

impl Load {
    fn new() -> Result<Self, sysinfo::Error> {
        let (system, networks) = (System::new()?, Networks::new_with_refreshed_list()?);
        Ok(Self { system, networks, seen: (Instant::now(), Snapshot::default()) })
    }

    fn read(&mut self, counted: &Snapshot) -> Vec<(&'static str, Value)> {
        self.system.refresh_cpu_usage();
        self.system.refresh_memory();
        self.networks.refresh(true);
        let (then, before) = std::mem::replace(&mut self.seen, (Instant::now(), *counted));
        let seconds = then.elapsed().as_secs_f64().max(0.001);
        let rate = |now: u64, before: u64| per_second(now.saturating_sub(before), seconds);
        let network =
            |side: fn(&NetworkData) -> u64| rate(self.networks.values().map(side).sum(), 0);
        let cores: Vec<f64> =
            self.system.cpus().iter().map(|core| tenths(f64::from(core.usage()))).collect();
        vec![
            ("demo.cpu", json!({ "cores": cores })),
            (
                "demo.memory",
                json!({ "used": self.system.used_memory(), "total": self.system.total_memory() }),
            ),
            (
                "demo.network",
                json!({
                    "received": network(NetworkData::received),
                    "sent": network(NetworkData::transmitted),
                }),
            ),
            (
                "demo.gateway",
                json!({
                    "connections": counted.connections,
                    "subscriptions": counted.subscriptions,
                    "publications": rate(counted.publications, before.publications),
                    "deliveries": rate(counted.deliveries, before.deliveries),
                }),
            ),
        ]
    }
}

#[expect(clippy::cast_precision_loss, reason = "a rate to look at")]
fn per_second(count: u64, seconds: f64) -> f64 {
    tenths(count as f64 / seconds)
}

fn tenths(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}
