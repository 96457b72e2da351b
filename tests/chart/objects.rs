//! What a cluster is asked for, whatever the values: safe pods, drains that fit, no way to the
//! management port.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::helm::{ROOT, Rendered, cases, place, rendered, run, said, text, tool, yaml};

/// Helm finds nothing to complain of, and each file of values renders to objects of one release.
#[test]
fn every_case_is_clean() {
    let Some(helm) = tool("helm") else { return };
    for case in cases() {
        let lint = run(&helm, &["lint", "--strict", "helm/tidegate", "--values", &case], "");
        assert!(lint.status.success(), "{case}: {}", said(&lint));
        let rendered = rendered(&helm, &case);
        let mut names = BTreeSet::new();
        for object in &rendered.objects {
            let (kind, head) = (&object["kind"], &object["metadata"]);
            assert!(names.insert(format!("{kind} {}", head["name"])), "{case}: {object} twice");
            if head["name"].as_str().is_some_and(|name| name.ends_with("-extra")) {
                continue;
            }
            assert_eq!(head["namespace"], "web", "{case}: {object}");
            assert_eq!(head["labels"]["app.kubernetes.io/instance"], "live", "{case}: {object}");
        }
    }
}

/// What an operator gets who says nothing. A change is one that the commit explains:
/// `GOLDEN=write cargo test --test chart` writes it anew.
#[test]
fn the_default_deployment_is_the_known_one() {
    let Some(helm) = tool("helm") else { return };
    let rendered = rendered(&helm, "helm/tidegate/ci/default-values.yaml");
    let golden = "tests/chart/deployment.json";
    let found = rendered.object("Deployment", "").expect("a Deployment");
    let found = serde_json::to_string_pretty(found).expect("JSON") + "\n";
    if std::env::var_os("GOLDEN").is_some() {
        std::fs::write(place(golden), &found).expect("it is written");
    }
    assert_eq!(found, text(golden), "{golden} in {ROOT}");
}

/// Every pod meets what Pod Security calls "restricted", and holds no key to the cluster.
#[test]
fn pods_are_restricted() {
    let Some(helm) = tool("helm") else { return };
    for case in cases() {
        let rendered = rendered(&helm, &case);
        let node = &rendered.pod()["spec"];
        let pods = rendered.of("Pod").map(|pod| &pod["spec"]);
        for pod in pods.chain([node]) {
            let security = &pod["securityContext"];
            assert_eq!(security["runAsNonRoot"], true, "{case}");
            assert_ne!(security["runAsUser"], 0, "{case}");
            assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault", "{case}");
            assert_eq!(pod["automountServiceAccountToken"], false, "{case}");
            // A Service called tidegate would set TIDEGATE_PORT, and that is no key of ours.
            assert_eq!(pod["enableServiceLinks"], false, "{case}");
            for host in ["hostNetwork", "hostPID", "hostIPC"] {
                assert_eq!(pod[host], Value::Null, "{case}");
            }
            for volume in pod["volumes"].as_array().into_iter().flatten() {
                let legal = ["configMap", "secret", "emptyDir", "projected"];
                assert!(legal.iter().any(|kind| volume.get(kind).is_some()), "{case}: {volume}");
            }
            for container in pod["containers"].as_array().expect("containers") {
                let security = &container["securityContext"];
                assert_eq!(security["allowPrivilegeEscalation"], false, "{case}");
                assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}), "{case}");
                assert_eq!(security["readOnlyRootFilesystem"], true, "{case}");
                assert_eq!(security["privileged"], Value::Null, "{case}");
                assert!(container["resources"]["limits"]["memory"].is_string(), "{case}");
                assert_eq!(container["resources"]["limits"]["cpu"], Value::Null, "{case}");
            }
        }
    }
}

/// A pod has the time that its drain takes, and 20 s more; nothing stands before the drain, and what
/// the configuration says of it is what the pod was given time for.
#[test]
fn the_drain_fits_into_the_grace() {
    let Some(helm) = tool("helm") else { return };
    for case in cases() {
        let rendered = rendered(&helm, &case);
        let pod = &rendered.pod()["spec"];
        let grace = pod["terminationGracePeriodSeconds"].as_u64().expect("a number");
        let drain = &yaml(rendered.configuration())["drain"];
        let seconds = |key: &str| -> u64 {
            let text = drain[key].as_str().expect("a duration");
            text.strip_suffix('s').expect("seconds").parse().expect("a number")
        };
        assert!(grace >= seconds("lame_duck") + seconds("window") + 20, "{case}");
        assert_eq!(pod["containers"][0]["lifecycle"], Value::Null, "{case}");
        let spec = &rendered.object("Deployment", "").expect("a Deployment")["spec"];
        let least = spec["minReadySeconds"].as_u64().expect("a number");
        let deadline = spec["progressDeadlineSeconds"].as_u64().expect("a number");
        assert!(deadline >= 600 && deadline > least, "{case}");
        let scaled = rendered.of("ScaledObject").chain(rendered.of("HorizontalPodAutoscaler"));
        match scaled.last().map(|scaler| &scaler["spec"]) {
            Some(scaler) => {
                assert_eq!(spec["replicas"], Value::Null, "{case}: two owners of replicas");
                let most = scaler["maxReplicas"].as_u64().or(scaler["maxReplicaCount"].as_u64());
                assert!(deadline >= most.expect("a most") * (grace + least), "{case}");
            }
            None => assert!(spec["replicas"].is_u64(), "{case}"),
        }
    }
}

/// Clients reach the client port by one Service, and nobody reaches the other from outside.
#[test]
fn no_way_leads_to_the_management_port() {
    let Some(helm) = tool("helm") else { return };
    for case in cases() {
        let rendered = rendered(&helm, &case);
        let clients = rendered.object("Service", "").expect("a Service");
        let ports = clients["spec"]["ports"].as_array().expect("ports");
        assert!(ports.len() == 1 && ports[0]["targetPort"] == "client", "{case}");
        let management = rendered.object("Service", "-management").expect("a Service");
        assert_eq!(management["spec"]["clusterIP"], "None", "{case}");
        let labels = &rendered.pod()["metadata"]["labels"];
        for service in [clients, management] {
            for (key, value) in service["spec"]["selector"].as_object().expect("a selector") {
                assert_eq!(&labels[key], value, "{case}");
            }
        }
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let probe = &rendered.pod()["spec"]["containers"][0][probe];
            assert_eq!(probe["httpGet"]["port"], "management", "{case}");
        }
        for route in rendered.of("HTTPRoute") {
            let backends = &route["spec"]["rules"][0]["backendRefs"];
            assert_eq!(backends, &json!([{"name": "live-tidegate", "port": 8080}]), "{case}");
        }
        for ingress in rendered.of("Ingress") {
            for rule in ingress["spec"]["rules"].as_array().expect("rules") {
                let service = &rule["http"]["paths"][0]["backend"]["service"];
                assert_eq!(service["name"], "live-tidegate", "{case}");
                assert_eq!(service["port"]["name"], "client", "{case}");
            }
        }
        // The pod of `helm test` is no node: nobody may be sent to it.
        for test in rendered.of("Pod") {
            let name = &test["metadata"]["labels"]["app.kubernetes.io/name"];
            assert_ne!(name, &labels["app.kubernetes.io/name"], "{case}");
        }
    }
}

/// A key stands in a Secret and nowhere else, and of the API key that the chart makes a pod sees the
/// hash alone.
#[test]
fn secrets_are_files_that_a_pod_needs() {
    let Some(helm) = tool("helm") else { return };
    let rendered = rendered(&helm, "helm/tidegate/ci/default-values.yaml");
    let secret = &rendered.object("Secret", "-keys").expect("a Secret")["stringData"];
    let word = |key: &str| secret[key].as_str().expect("a text").to_owned();
    for key in ["hmac", "api-key"] {
        assert!(word(key).len() >= 48, "{key}");
        assert_eq!(rendered.yaml.matches(&word(key)).count(), 1, "{key} stands once");
    }
    let volumes = rendered.pod()["spec"]["volumes"].as_array().expect("volumes");
    let keys = volumes.iter().find(|volume| volume["name"] == "keys").expect("the keys");
    let items = keys["secret"]["items"].as_array().expect("items");
    let items: Vec<&str> = items.iter().filter_map(|item| item["key"].as_str()).collect();
    assert_eq!(items, ["hmac", "api-keys.yaml"]);
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, word("api-key").as_bytes());
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(word("api-keys.yaml").contains(&hex));
    // Another rendering has other keys, and the same checksum: keys are read again, not rolled out.
    let again = self::rendered(&helm, "helm/tidegate/ci/default-values.yaml");
    let checksum = |one: &Rendered| one.pod()["metadata"]["annotations"]["checksum/config"].clone();
    assert_ne!(again.object("Secret", "-keys"), rendered.object("Secret", "-keys"));
    assert_eq!(checksum(&again), checksum(&rendered));
    // Who brings a key gets no other.
    let own = self::rendered(&helm, "helm/tidegate/ci/secrets-values.yaml");
    assert_eq!(own.of("Secret").count(), 0);
}

/// The memory that a pod gets by default holds the connections that it may take by default.
#[test]
fn the_default_memory_is_enough() {
    let values = yaml(&text("helm/tidegate/values.yaml"));
    let connections = values["config"]["limits"]["max_connections"].as_u64().expect("a number");
    let limit = values["resources"]["limits"]["memory"].as_str().expect("a size");
    let limit: u64 = limit.strip_suffix("Mi").expect("Mi").parse().expect("a number");
    let rings = tidegate::config::unconfigured().limits.rings_bytes as u64 >> 20;
    // 8 KiB each, and for one of twenty what may wait: 256 KiB here and 256 KiB in the kernel.
    let sockets = (connections * 8 + connections / 20 * 512) * 3 / 2 / 1024;
    let needed = sockets + rings;
    assert_eq!(needed, 1240);
    assert!(needed + 128 <= limit, "{needed} MiB and the base do not fit into {limit}Mi");
}
