//! The schemas of Kubernetes, and of those who define objects of their own.

use std::collections::BTreeSet;

use serde_json::json;

use crate::helm::{cases, place, rendered, run, said, skipped, tool};

/// The oldest version that the chart is for, the one in between, and the newest.
const VERSIONS: [&str; 3] = ["1.30", "1.34", "1.37"];
/// Kinds that Kubernetes does not know itself.
const CUSTOM: [&str; 5] =
    ["HTTPRoute", "PodMonitor", "PrometheusRule", "ScaledObject", "ServiceMonitor"];

/// Each object is one of Kubernetes, without a key that it does not know.
#[test]
fn kubernetes_knows_every_key() {
    let (Some(helm), Some(validate)) = (tool("helm"), tool("kubernetes-validate")) else { return };
    // Most cases have most objects in common.
    let mut known = BTreeSet::new();
    for case in cases() {
        let rendered = rendered(&helm, &case);
        known.extend(rendered.yaml.split("---\n").map(str::to_owned));
    }
    let all = Vec::from_iter(known).join("---\n");
    for version in VERSIONS {
        let words = ["--kubernetes-version", version, "--strict", "--quiet", "-"];
        let output = run(&validate, &words, &all);
        let told = said(&output);
        assert!(output.status.success(), "{version}: {told}");
        for line in told.lines().filter(|line| !line.trim().is_empty()) {
            let custom = CUSTOM.iter().any(|kind| line.contains(&format!("for kind {kind} ")));
            assert!(line.contains("Couldn't find schema") && custom, "{version}: {line}");
        }
    }
    // A key that nobody knows would have been seen.
    let bad = rendered(&helm, &cases()[0]).yaml.replacen("minReadySeconds", "minReadySecs", 1);
    let words = ["--kubernetes-version", VERSIONS[0], "--strict", "--quiet", "-"];
    assert!(!run(&validate, &words, &bad).status.success());
}

/// The objects of the Gateway API, of Prometheus' operator and of KEDA are what those define.
#[test]
fn custom_objects_are_what_others_define() {
    let (Some(helm), Some(node)) = (tool("helm"), tool("node")) else { return };
    if !place("tests/chart/node_modules").exists() {
        return skipped("the schemas in tests/chart/node_modules are not here");
    }
    let mut objects = vec![];
    for case in cases() {
        let rendered = rendered(&helm, &case);
        let custom = |kind: &str| CUSTOM.contains(&kind);
        let all = rendered.objects.into_iter();
        objects.extend(all.filter(|object| object["kind"].as_str().is_some_and(custom)));
    }
    for kind in CUSTOM {
        assert!(objects.iter().any(|object| object["kind"] == kind), "no case has a {kind}");
    }
    let output = run(&node, &["tests/chart/custom.mjs"], &json!(objects).to_string());
    assert!(output.status.success(), "{}", said(&output));
}
