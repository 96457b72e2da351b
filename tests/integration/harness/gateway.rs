//! A gateway as a real process, on free ports of this machine, that ends with the test.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use reqwest::{Client, Method, RequestBuilder, Response};
use serde_json::Value;
use tempfile::TempDir;
use tidegate::auth::{Algorithm, NewToken};
use tidegate::node::wall_clock;

use super::{Browser, Metrics, SOON, until};

/// What the tests' Tokens are signed with.
pub(crate) const SECRET: &[u8] = b"a secret of the tests, 32 bytes or more";

/// The parts of a configuration that tests change; YAML.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// Below `auth.anonymous`.
    pub(crate) anonymous: Grants,
    /// Lines below `limits:`, such as `ping_after: 1s`.
    pub(crate) limits: Vec<String>,
    /// Lines below `auth:`, in place of the tests' issuer.
    pub(crate) auth: Option<Vec<String>>,
    /// Lines at the top.
    pub(crate) top: Vec<String>,
    /// How many Shards.
    pub(crate) shards: usize,
    /// Variables of its environment.
    pub(crate) environment: Vec<(String, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            anonymous: Grants::default(),
            limits: Vec::new(),
            auth: None,
            top: Vec::new(),
            shards: 2,
            environment: Vec::new(),
        }
    }
}

impl Settings {
    /// Everything below `open.` is open to everybody.
    pub(crate) fn open() -> Self {
        Self { anonymous: Grants::all(&["open.>"]), ..Self::default() }
    }

    /// The same on this NATS.
    pub(crate) fn on(self, url: &str) -> Self {
        self.line(&format!("nats: {{url: {url:?}}}"))
    }

    /// One more line below `limits:`.
    pub(crate) fn limit(mut self, line: &str) -> Self {
        self.limits.push(line.to_owned());
        self
    }

    /// One more variable of its environment.
    pub(crate) fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// One more line at the top.
    pub(crate) fn line(mut self, line: &str) -> Self {
        self.top.push(line.to_owned());
        self
    }
}

/// What somebody may do.
#[derive(Debug, Clone, Default)]
pub(crate) struct Grants {
    /// Patterns.
    pub(crate) subscribe: Vec<String>,
    /// Patterns.
    pub(crate) publish: Vec<String>,
    /// Patterns.
    pub(crate) history: Vec<String>,
}

impl Grants {
    /// Every verb on these Patterns.
    pub(crate) fn all(patterns: &[&str]) -> Self {
        let patterns: Vec<String> = patterns.iter().map(|one| (*one).to_owned()).collect();
        Self { subscribe: patterns.clone(), publish: patterns.clone(), history: patterns }
    }
}

/// A running gateway.
pub(crate) struct Gateway {
    process: Child,
    /// Where clients connect.
    pub(crate) client: SocketAddr,
    /// Where health is asked for.
    pub(crate) management: SocketAddr,
    /// The folder of its files.
    pub(crate) folder: TempDir,
    http: Client,
}

impl Gateway {
    /// Starts one, and waits until it is ready.
    pub(crate) async fn start(settings: Settings) -> Self {
        let gateway = Self::launch(&settings);
        until("the gateway is ready", Duration::from_secs(20), || async {
            gateway.health("ready").await.is_some_and(|health| health["ok"] == true)
        })
        .await;
        gateway
    }

    /// Starts one that may never be ready.
    pub(crate) fn launch(settings: &Settings) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (client, management) = (free_address(), free_address());
        let file = folder.path().join("tidegate.yaml");
        fs::write(folder.path().join("secret"), SECRET).expect("the secret is written");
        fs::write(&file, yaml(settings, &folder, client, management)).expect("it is written");
        let log = fs::File::create(folder.path().join("log")).expect("a log");
        let process = Command::new(env!("CARGO_BIN_EXE_tidegate"))
            .arg("serve")
            .arg("--config")
            .arg(&file)
            .env_remove("TIDEGATE_CONFIG")
            .envs(settings.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the gateway starts");
        // Connections are not kept: tests count the gateway's descriptors.
        let http = Client::builder()
            .pool_max_idle_per_host(0)
            .timeout(Duration::from_secs(20))
            .build()
            .expect("a client");
        Self { process, client, management, folder, http }
    }

    /// A Token for this user, good for an hour.
    pub(crate) fn token(sub: &str, grants: &Grants) -> String {
        Self::token_for(sub, grants, Duration::from_secs(3_600))
    }

    /// The same, good for so long.
    pub(crate) fn token_for(sub: &str, grants: &Grants, life: Duration) -> String {
        let token = NewToken {
            subject: sub.to_owned(),
            subscribe: grants.subscribe.clone(),
            publish: grants.publish.clone(),
            history: grants.history.clone(),
            life,
            issuer: None,
            audience: None,
            algorithm: Algorithm::HS256,
        };
        token.sign(SECRET, wall_clock()).expect("a Token")
    }

    /// A browser's socket, connected; `query` is what stands behind the `?`.
    pub(crate) async fn browser(&self, query: &str) -> Browser {
        Browser::connect(self.client, query).await
    }

    /// A request to the client port.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("http://{}{path}", self.client))
    }

    /// Publishes as an anonymous client.
    pub(crate) async fn publish(&self, topic: &str, payload: impl Into<reqwest::Body>) -> Response {
        let path = format!("/v1/topics/{topic}/messages");
        self.request(Method::POST, &path).body(payload).send().await.expect("an answer")
    }

    /// What `/health/…` says; nothing if nobody answers.
    pub(crate) async fn health(&self, kind: &str) -> Option<Value> {
        let url = format!("http://{}/health/{kind}", self.management);
        self.http.get(url).send().await.ok()?.json().await.ok()
    }

    /// What the Shards count.
    pub(crate) async fn status(&self) -> Value {
        let url = format!("http://{}/status", self.management);
        let answer = self.http.get(url).send().await.expect("an answer");
        answer.json().await.expect("JSON")
    }

    /// What it measures.
    pub(crate) async fn metrics(&self) -> Metrics {
        let url = format!("http://{}/metrics", self.management);
        let answer = self.http.get(url).send().await.expect("an answer");
        assert_eq!(answer.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
        Metrics::read(&answer.text().await.expect("text"))
    }

    /// One count of [`status`](Self::status).
    pub(crate) async fn count(&self, name: &str) -> u64 {
        self.status().await[name].as_u64().expect("a count")
    }

    /// How often each bound was met, by its key.
    pub(crate) async fn limit_hits(&self) -> BTreeMap<String, u64> {
        serde_json::from_value(self.status().await["limit_hits"].take()).expect("counts")
    }

    /// Waits until this bound, and no other, was met so often.
    pub(crate) async fn until_hit(&self, key: &str, times: u64) {
        let what = format!("{key} is met {times} times, and no other");
        until(&what, SOON, || async {
            let hits = self.limit_hits().await;
            hits.iter().all(|(other, hits)| *hits == if other == key { times } else { 0 })
        })
        .await;
    }

    /// Waits until nobody is there, and as many descriptors are open as before somebody was.
    pub(crate) async fn until_empty(&self, descriptors: usize, limit: Duration) {
        let status = async || {
            let status = self.status().await;
            let counts = ["connections", "subscriptions", "patterns"];
            counts.map(|name| status[name].as_u64().expect("a count"))
        };
        until("everybody is gone", limit, || async { status().await == [0; 3] }).await;
        until("descriptors are closed", limit, || async { self.descriptors() <= descriptors })
            .await;
    }

    /// Waits until a count has this value.
    pub(crate) async fn until_count(&self, name: &str, value: u64, limit: Duration) {
        until(&format!("{name} is {value}"), limit, || async { self.count(name).await == value })
            .await;
    }

    /// Open descriptors of the process.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.id())).expect("/proc").count()
    }

    /// Resident memory of its own, in bytes: pages of the program are not counted.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).expect("/proc");
        let line = status.lines().find(|line| line.starts_with("RssAnon:")).expect("RssAnon");
        let kib: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
        kib * 1_024
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Sends a signal by name, such as `TERM`.
    pub(crate) fn signal(&self, name: &str) {
        super::process::signal(self.id(), name);
    }

    /// Waits for its end, and gives the number that it ended with.
    pub(crate) async fn ended(&mut self, limit: Duration) -> Option<i32> {
        let mut status = None;
        until("the gateway ends", limit, || {
            status = self.process.try_wait().expect("a process");
            let ended = status.is_some();
            async move { ended }
        })
        .await;
        status.and_then(|status| status.code())
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nobody to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("the gateway's log:\n{}", self.log());
        }
    }
}

/// An address that was free a moment ago, and that nobody else here was given: the kernel may name one
/// twice in a row.
pub(crate) fn free_address() -> SocketAddr {
    static GIVEN: Mutex<BTreeSet<SocketAddr>> = Mutex::new(BTreeSet::new());
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        if GIVEN.lock().expect("nobody panics here").insert(address) {
            return address;
        }
    }
}

fn yaml(
    settings: &Settings,
    folder: &TempDir,
    client: SocketAddr,
    management: SocketAddr,
) -> String {
    let mut out =
        format!("listen: {client}\nmanagement: {management}\nshards: {}\n", settings.shards);
    let default = vec![format!(
        "issuers: [{{algorithm: HS256, key_file: {:?}}}]",
        folder.path().join("secret")
    )];
    if !settings.top.iter().any(|line| line.starts_with("drain:")) {
        let _ = writeln!(out, "drain: {{lame_duck: 0s, window: 0s}}");
    }
    for line in &settings.top {
        let _ = writeln!(out, "{line}");
    }
    let _ = writeln!(out, "auth:");
    for line in settings.auth.as_ref().unwrap_or(&default) {
        let _ =
            writeln!(out, "  {}", line.replace("$FOLDER", &folder.path().display().to_string()));
    }
    let Grants { subscribe, publish, history } = &settings.anonymous;
    let _ = writeln!(
        out,
        "  anonymous: {{subscribe: {subscribe:?}, publish: {publish:?}, history: {history:?}}}"
    );
    let _ = writeln!(out, "limits:");
    for line in &settings.limits {
        let _ = writeln!(out, "  {line}");
    }
    // Tests open thousands at once; who tests these bounds says so.
    for key in ["handshakes_per_second", "handshakes_burst", "unauthenticated"] {
        if !settings.limits.iter().any(|line| line.starts_with(key)) {
            let _ = writeln!(out, "  {key}: 100000");
        }
    }
    let _ = writeln!(out, "log: {{format: json, level: debug}}");
    out
}
