//! A real `nats-server`, or three of them, on free ports of this machine, that end with the test.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;

use super::gateway::free_address;
use super::until;

/// Streams on disk, or what the tests have for one.
const STREAMS: &str = "jetstream { store_dir: \"STORE\", max_file: 2GiB, max_mem: 256MiB }\n";
/// Of so many messages one asks whether it is stored.
const FILL_ASKED: usize = 1_000;

/// One server.
pub(crate) struct Nats {
    process: Option<Child>,
    /// Where clients connect.
    pub(crate) client: SocketAddr,
    monitor: SocketAddr,
    arguments: Vec<String>,
    folder: TempDir,
}

impl Nats {
    /// Starts one.
    pub(crate) async fn start() -> Self {
        Self::configured("").await
    }

    /// Starts one with these lines of configuration.
    pub(crate) async fn configured(lines: &str) -> Self {
        let mut nats = Self::prepared(lines);
        nats.run().await;
        nats
    }

    /// Starts one that keeps streams, in a folder that goes with it.
    pub(crate) async fn with_streams() -> Self {
        let nats = Self::configured(STREAMS).await;
        until("JetStream answers", Duration::from_secs(20), || nats.has_streams(1)).await;
        nats
    }

    /// Starts three that keep streams together.
    pub(crate) async fn cluster_with_streams() -> Vec<Self> {
        Self::that_keep_streams(Self::cluster_of(STREAMS, "").await).await
    }

    /// The same; nobody learns their addresses but from us, and with these lines of configuration.
    pub(crate) async fn hidden_cluster_with_streams(lines: &str) -> Vec<Self> {
        let more = format!("{STREAMS}{lines}");
        Self::that_keep_streams(Self::cluster_of(&more, "no_advertise: true").await).await
    }

    async fn that_keep_streams(servers: Vec<Self>) -> Vec<Self> {
        for nats in &servers {
            until("the three keep streams", Duration::from_secs(40), || nats.has_streams(3)).await;
        }
        servers
    }

    /// Whether so many servers, by what this one knows, keep streams together.
    pub(crate) async fn has_streams(&self, servers: u64) -> bool {
        let known = self.try_varz("/jsz").await.unwrap_or_default();
        match servers {
            1 => known["config"].is_object(),
            _ => {
                known["meta_cluster"]["cluster_size"] == servers
                    && known["meta_cluster"]["leader"].as_str().is_some_and(|one| !one.is_empty())
            }
        }
    }

    /// Starts three as a cluster.
    pub(crate) async fn cluster() -> Vec<Self> {
        Self::cluster_of("", "").await
    }

    async fn cluster_of(more: &str, of_cluster: &str) -> Vec<Self> {
        let routes: Vec<SocketAddr> = (0..3).map(|_| free_address()).collect();
        let urls: Vec<String> = routes.iter().map(|one| format!("\"nats://{one}\"")).collect();
        let mut servers = Vec::new();
        for route in &routes {
            let lines = format!(
                "server_name: n{}\ncluster {{ name: test, listen: \"{route}\", routes: [{}]\n\
                 {of_cluster} }}\n{more}",
                route.port(),
                urls.join(", ")
            );
            let mut nats = Self::prepared(&lines);
            nats.run().await;
            servers.push(nats);
        }
        for nats in &servers {
            // Two others, over a pool of routes each.
            until("the cluster is whole", Duration::from_secs(20), || async {
                nats.varz().await["routes"].as_u64().unwrap_or(0) >= 2
            })
            .await;
        }
        servers
    }

    fn prepared(lines: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (client, monitor) = (free_address(), free_address());
        let file = folder.path().join("nats.conf");
        let lines = lines.replace("STORE", &folder.path().display().to_string());
        let text = format!("listen: \"{client}\"\nhttp: \"{monitor}\"\n{lines}");
        fs::write(&file, text).expect("it is written");
        let arguments = vec!["-c".to_owned(), file.display().to_string()];
        Self { process: None, client, monitor, arguments, folder }
    }

    /// Starts it, again after [`kill`](Self::kill), on the same ports.
    pub(crate) async fn run(&mut self) {
        self.launch();
        until("nats-server answers", Duration::from_secs(20), || async {
            // With streams, it answers here before clients may come.
            self.try_varz("/healthz").await.is_some()
                && TcpStream::connect(self.client).await.is_ok()
        })
        .await;
    }

    /// The same without waiting for it.
    pub(crate) fn launch(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.log_path());
        let log = log.expect("a log");
        let process = Command::new(binary())
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("nats-server starts");
        self.process = Some(process);
    }

    /// Whether it was not killed.
    pub(crate) const fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Whether it answers, and has all that it stores.
    pub(crate) async fn is_well(&self) -> bool {
        self.try_varz("/healthz").await.is_some_and(|health| health["status"] == "ok")
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn gone(&mut self, limit: Duration) {
        let process = self.process.as_mut().expect("it runs");
        until("nats-server ends", limit, || {
            let ended = process.try_wait().expect("a process").is_some();
            async move { ended }
        })
        .await;
        self.process = None;
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Sends a signal by name, such as `STOP`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.process.as_ref().expect("it runs").id().to_string();
        let status = Command::new("kill").args([&format!("-{name}"), &id]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Copies what it has stored. It must not run.
    pub(crate) fn set_store_aside(&self) {
        self.copy("jetstream", "aside");
    }

    /// Puts that copy in place of what it has stored since. It must not run.
    pub(crate) fn put_store_back(&self) {
        fs::remove_dir_all(self.folder.path().join("jetstream")).expect("it had a store");
        self.copy("aside", "jetstream");
    }

    fn copy(&self, from: &str, to: &str) {
        assert!(self.process.is_none(), "it runs");
        let path = |name| self.folder.path().join(name);
        let status = Command::new("cp").arg("-a").args([path(from), path(to)]).status();
        assert!(status.expect("cp runs").success());
    }

    /// Where gateways connect.
    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.client)
    }

    /// The same as somebody with a password.
    pub(crate) fn url_as(&self, user: &str, password: &str) -> String {
        format!("nats://{user}:{password}@{}", self.client)
    }

    /// A client of its own, as a backend has one.
    pub(crate) async fn backend(&self) -> async_nats::Client {
        async_nats::connect(self.url()).await.expect("NATS takes a client")
    }

    /// How a stream stands.
    pub(crate) async fn stream(&self, name: &str) -> Value {
        self.streams("INFO", name, json!({})).await
    }

    /// Makes a stream.
    pub(crate) async fn make_stream(&self, name: &str, mut config: Value) {
        config["name"] = name.into();
        self.streams("CREATE", name, config).await;
    }

    /// Removes one, with all that it has.
    pub(crate) async fn remove_stream(&self, name: &str) {
        self.streams("DELETE", name, json!({})).await;
    }

    /// Publishes these straight into streams, as a backend does: quickly, and each is stored.
    pub(crate) async fn fill(&self, messages: impl Iterator<Item = (String, String)>) {
        let client = self.backend().await;
        let mut messages = messages.enumerate().peekable();
        while let Some((at, (subject, payload))) = messages.next() {
            if at % FILL_ASKED != 0 && messages.peek().is_some() {
                client.publish(subject, payload.into()).await.expect("it is sent");
            } else {
                // The server drops what comes faster than it stores.
                let ack = client.request(subject, payload.into()).await.expect("an ack");
                assert!(!ack.payload.starts_with(b"{\"error\""), "{:?}", ack.payload);
            }
        }
    }

    /// Asks JetStream something about a stream, which must go well.
    pub(crate) async fn streams(&self, verb: &str, name: &str, question: Value) -> Value {
        let client = self.backend().await;
        let subject = format!("$JS.API.STREAM.{verb}.{name}");
        let answer = client.request(subject, question.to_string().into()).await;
        let answer = answer.expect("JetStream answers").payload;
        let answer: Value = serde_json::from_slice(&answer).expect("JSON");
        assert!(answer.get("error").is_none(), "{verb} {name}: {answer}");
        answer
    }

    /// What the server says of itself.
    pub(crate) async fn varz(&self) -> Value {
        self.try_varz("/varz").await.expect("the server answers")
    }

    /// What it says of its clients whose name begins with `tidegate `.
    pub(crate) async fn gateways(&self) -> Vec<Value> {
        let all = self.try_varz("/connz?subs=1").await.expect("the server answers");
        let all = all["connections"].as_array().cloned().unwrap_or_default();
        let ours =
            |one: &Value| one["name"].as_str().is_some_and(|name| name.starts_with("tidegate "));
        all.into_iter().filter(ours).collect()
    }

    async fn try_varz(&self, path: &str) -> Option<Value> {
        let url = format!("http://{}{path}", self.monitor);
        reqwest::get(url).await.ok()?.json().await.ok()
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The server that is asked for, or the one that `make tools` has put in place, or one in the path.
fn binary() -> PathBuf {
    if let Some(asked) = std::env::var_os("NATS_SERVER") {
        return asked.into();
    }
    let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/target/tools/python/bin/nats-server");
    let tools = PathBuf::from(tools);
    if tools.exists() { tools } else { "nats-server".into() }
}
