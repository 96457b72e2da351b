//! The chart's dashboard, asked of a real Prometheus that reads a real node: no panel stays empty.

use std::fs;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::Url;
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::gateway::free_address;
use crate::harness::{Events, Gateway, Grants, Settings, run, until};

/// A Prometheus that reads one node every second, as a pod of that name.
struct Prometheus {
    process: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Prometheus {
    /// Finds one, or says that there is none.
    fn start(node: SocketAddr) -> Option<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut programs = std::env::split_paths(&path).map(|folder| folder.join("prometheus"));
        let Some(program) = programs.find(|program| program.is_file()) else {
            // Past what a test's output is caught by.
            let _ = writeln!(io::stderr(), "SKIPPED: prometheus is not here (Debian: prometheus)");
            return None;
        };
        Some(Self::run(program, node))
    }

    fn run(program: PathBuf, node: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("prometheus.yml");
        let labels = "{namespace: live, pod: a, container: tidegate}";
        let config = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n  - job_name: tidegate\n    \
             static_configs: [{{targets: [{node:?}], labels: {labels}}}]\n",
            node = node.to_string()
        );
        fs::write(&file, config).expect("it is written");
        let address = free_address();
        let process = Command::new(program)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        Self { process, address, _folder: folder }
    }

    /// Whether this query brings anything that is a number.
    async fn answers(&self, query: &str) -> bool {
        let url = format!("http://{}/api/v1/query", self.address);
        let url = Url::parse_with_params(&url, [("query", query)]).expect("a URL");
        let Ok(answer) = reqwest::get(url).await else { return false };
        let answer: Value = answer.json().await.unwrap_or_default();
        assert_ne!(answer["status"], "error", "{query}: {answer}");
        let Some(series) = answer["data"]["result"].as_array() else { return false };
        series.iter().any(|one| one["value"][1] != "NaN")
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The queries of all panels, as Grafana sends them when all pods are chosen.
fn queries() -> Vec<String> {
    let text = include_str!("../../helm/tidegate/files/dashboard.json");
    let dashboard: Value = serde_json::from_str(text).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    let queries = targets.map(|target| target["expr"].as_str().expect("a query").to_owned());
    let chosen = |query: String| {
        let query = query.replace("$__rate_interval", "1m").replace("$__range", "1m");
        query.replace("$namespace", ".+").replace("$pod", ".+")
    };
    queries.map(chosen).collect()
}

/// A node with a reader, publications and one limit that is met has something to show in every panel.
#[test]
fn no_panel_of_the_dashboard_stays_empty() {
    run(async {
        let anonymous = Grants::all(&["kept.>"]);
        let settings = Settings { anonymous, ..Settings::default() }
            .line("namespaces: {kept: {max_message_bytes: 8, history: {messages: 10}}}");
        let gateway = Gateway::start(settings).await;
        let Some(prometheus) = Prometheus::start(gateway.management) else { return };
        let _reader = Events::open(gateway.client, "topic=kept.**", &[]).await;
        let queries = queries();
        assert!(queries.len() > 30, "{queries:?}");
        for query in queries {
            assert!(!query.contains('$'), "{query}: a variable that this test does not know");
            let what = format!("there is data for {query}");
            until(&what, Duration::from_secs(30), || async {
                assert_eq!(gateway.publish("kept.panels", "1").await.status(), 200);
                assert_eq!(gateway.publish("kept.panels", "\"too big\"").await.status(), 413);
                prometheus.answers(&query).await
            })
            .await;
        }
    });
}
