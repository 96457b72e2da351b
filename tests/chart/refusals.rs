//! What the chart refuses to render, in words that say what to do instead.

use serde_json::{Value, json};

use crate::helm::{render_values, tool};

/// Each of these values would end in a pod that does not start, a drain that is cut off, or a secret
/// for everybody to read.
#[test]
fn what_cannot_work_is_refused() {
    let Some(helm) = tool("helm") else { return };
    let keda = json!({"enabled": true, "prometheus": {"serverAddress": "http://p"}});
    let mut upside_down = keda.clone();
    upside_down["minReplicas"] = json!(11);
    let cases: Vec<(Value, &str)> = vec![
        (json!({"terminationGracePeriodSeconds": 69}), "20 s more are 70"),
        (json!({"drain": {"windowSeconds": 51}}), "75 is too short"),
        (json!({"ports": {"management": 8080}}), "ports.management"),
        (json!({"bogus": 1}), "bogus is not allowed"),
        (json!({"nats": {"user": "u"}}), "user is not allowed"),
        (json!({"nats": {"url": "http://nats"}}), "nats.url"),
        // Secrets where everybody may read them.
        (json!({"nats": {"url": "nats://user:canary@nats:4222"}}), "nats.existingSecret"),
        (json!({"config": {"nats": {"url": "nats://canary@nats:4222"}}}), "nats.existingSecret"),
        (
            json!({"config": {"auth": {"issuers": [{"algorithm": "HS256", "key_file": "/k", "key": "canary"}]}}}),
            "key is not allowed",
        ),
        (json!({"auth": {"hmac": {"key": "canary"}}}), "key is not allowed"),
        // Nodes that would not hear each other, and gateways that nobody could use.
        (json!({"nats": {"url": ""}}), "replicaCount: 1"),
        (
            json!({"nats": {"url": ""}, "replicaCount": 1, "autoscaling": keda}),
            "without autoscaling",
        ),
        (json!({"auth": {"generate": false}}), "nobody could come in"),
        (json!({"auth": {"publicKeys": {"existingSecret": "pem"}}}), "nobody could come in"),
        (
            json!({"auth": {"apiKeys": {"existingSecret": "a"}, "publicKeys": {"existingSecret": "pem"}}}),
            "auth.publicKeys.keys",
        ),
        (
            json!({"auth": {"publicKeys": {"existingSecret": "pem", "keys": [{"key": "a", "algorithm": "HS256"}]}}}),
            "algorithm",
        ),
        (json!({"auth": {"origins": ["app.example.com"]}}), "origins"),
        // Objects that would do nothing.
        (json!({"httpRoute": {"enabled": true}}), "httpRoute.parentRefs"),
        (json!({"ingress": {"enabled": true}}), "ingress.hosts"),
        (json!({"autoscaling": {"enabled": true}}), "serverAddress"),
        (json!({"autoscaling": upside_down}), "minReplicas"),
        (json!({"minReadySeconds": 900, "progressDeadlineSeconds": 800}), "over minReadySeconds"),
        (json!({"image": {"digest": "latest"}}), "image.digest"),
    ];
    for (values, words) in cases {
        let why = match render_values(&helm, &values) {
            Ok(_) => panic!("{values} rendered"),
            Err(why) => why,
        };
        assert!(why.contains(words), "{values}: {why}");
        assert!(!why.contains("canary") || why.contains("not allowed"), "{values}: {why}");
    }
    // The edge of each that has one.
    for values in [
        json!({"terminationGracePeriodSeconds": 70}),
        json!({"nats": {"url": ""}, "replicaCount": 1}),
        json!({"auth": {"generate": false, "anonymous": {"subscribe": ["news.>"]}}}),
        json!({"auth": {"generate": false}, "config": {"auth": {"anonymous": {"subscribe": ["news.>"]}}}}),
    ] {
        render_values(&helm, &values).unwrap_or_else(|why| panic!("{values}: {why}"));
    }
}
