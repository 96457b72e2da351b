//! Alerts and dashboard: that they are legal, speak of metrics that there are, and are explained.

use std::collections::BTreeSet;
use std::io::{self, Write as _};

use serde_json::{Value, json};

use crate::helm::{find, render_values, run, said, text, tool, yaml};

/// Those of the process, which every library names so.
const PROCESS: [&str; 2] = ["process_resident_memory_bytes", "process_cpu_seconds_total"];

/// The metrics that a node has, by the table that promises them; histograms by their name alone.
fn known() -> BTreeSet<String> {
    let readme = text("README.md");
    let (_, after) = readme.split_once("### Metrics\n").expect("the metrics");
    let (table, _) = after.split_once("\n### ").expect("an end");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    let names = rows.filter_map(|row| row.split('`').next());
    names.map(|name| format!("tidegate_{name}")).chain(PROCESS.map(str::to_owned)).collect()
}

/// The names of metrics in a text: what the chart looks at.
fn names(text: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c| !word(c));
    let metrics =
        words.filter(|name| name.starts_with("tidegate_") || name.starts_with("process_"));
    metrics.map(|name| name.trim_end_matches("_bucket").to_owned()).collect()
}

fn expressions() -> Vec<String> {
    let alerts = yaml(&text("helm/tidegate/files/alerts.yaml"));
    let dashboard: Value =
        serde_json::from_str(&text("helm/tidegate/files/dashboard.json")).expect("JSON");
    let rules = alerts["groups"][0]["rules"].as_array().expect("rules").clone();
    let panels = dashboard["panels"].as_array().expect("panels").clone();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().cloned());
    let all = rules.into_iter().chain(targets.flatten());
    all.map(|one| one["expr"].as_str().expect("an expression").to_owned()).collect()
}

/// No alert and no panel waits for a metric that never comes.
#[test]
fn only_metrics_that_there_are() {
    let known = known();
    assert!(known.len() > 30, "{known:?}");
    let used: BTreeSet<String> = expressions().iter().flat_map(|text| names(text)).collect();
    assert_eq!(used.difference(&known).collect::<Vec<_>>(), Vec::<&String>::new());
    // And the dashboard leaves none out.
    assert_eq!(known.difference(&used).collect::<Vec<_>>(), Vec::<&String>::new());
}

/// The rules are what Prometheus reads, each says how bad it is, and the operators' page says what to
/// do about it.
#[test]
fn alerts_are_legal_and_explained() {
    let alerts = yaml(&text("helm/tidegate/files/alerts.yaml"));
    let page = text("helm/tidegate/OPERATIONS.md");
    for rule in alerts["groups"][0]["rules"].as_array().expect("rules") {
        let name = rule["alert"].as_str().expect("a name");
        assert!(page.contains(&format!("### {name}\n")), "OPERATIONS.md has no {name}");
        let severity = rule["labels"]["severity"].as_str().expect("a severity");
        assert!(["critical", "warning"].contains(&severity), "{name}");
        let link = rule["annotations"]["runbook_url"].as_str().expect("a link");
        assert!(link.ends_with(&format!("OPERATIONS.md#{}", name.to_lowercase())), "{name}");
    }
    promtool(&["check", "rules", "helm/tidegate/files/alerts.yaml"]);
}

/// Each fires when it should, and neither a little below nor too soon: the stories of `alerts.yaml`.
#[test]
fn alerts_fire() {
    promtool(&["test", "rules", "tests/chart/alerts.yaml"]);
}

/// Runs it, if it is here.
fn promtool(words: &[&str]) {
    let Some(promtool) = find("promtool") else {
        let _ = writeln!(io::stderr(), "SKIPPED: promtool is not here (Debian: prometheus)");
        return;
    };
    let output = run(&promtool, words, "");
    assert!(output.status.success(), "{}", said(&output));
}

/// The rendered rules speak of the limit and the drain of their own release.
#[test]
fn alerts_follow_the_values() {
    let Some(helm) = tool("helm") else { return };
    let values = json!({
        "metrics": {"rules": {"enabled": true}},
        "config": {"limits": {"max_connections": 1_234_567}},
        "drain": {"lameDuckSeconds": 10, "windowSeconds": 100},
        "terminationGracePeriodSeconds": 130,
    });
    let rendered = render_values(&helm, &values).expect("it renders");
    let rules = rendered.object("PrometheusRule", "").expect("rules");
    let rules = rules["spec"]["groups"][0]["rules"].as_array().expect("rules");
    let rule = |name: &str| rules.iter().find(|rule| rule["alert"] == name).expect("the alert");
    let high = rule("TidegateConnectionsHigh")["expr"].as_str().expect("an expression");
    assert!(high.ends_with("> 0.8 * 1234567"), "{high}");
    assert_eq!(rule("TidegateDrainLate")["for"], "120s");
}
