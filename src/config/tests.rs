//! What the configuration reads, and how it complains.

use super::*;

const OPEN: &str = "auth: {anonymous: {subscribe: [demo.**]}}\n";

fn read(file: &str, environment: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.yaml");
    std::fs::write(&path, file).unwrap();
    let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    let flags = Overrides { listen: Some("[::1]:1".parse().unwrap()), management: None };
    load(Some(&path), environment, &flags).map_err(|faults| {
        let folder = format!("{}/", folder.path().display());
        faults.to_string().replace(&folder, "").lines().map(str::to_owned).collect()
    })
}

/// Each file is wrong in its last lines: with the words that are told of it, in order.
#[test]
fn every_fault_is_told_with_its_place() {
    let table: &[(&str, &[&str])] = &[
        (
            "limits:\n  outbox_byte: 1MiB\n  fragments: many\n  head_timeout: 5\n\
             \x20 batch_items: 0\ngnats:\n  url: x\nlog: {level: loud, format: xml}\n",
            &[
                "t.yaml:3: limits.outbox_byte: unknown key",
                "t.yaml:4: limits.fragments: is string \"many\", must be an integer",
                "t.yaml:5: limits.head_timeout: \"5\" is no duration such as 10s or 500ms",
                "t.yaml:6: limits.batch_items: is 0, must be 1 to 10000",
                "t.yaml:7: gnats: unknown key",
                "t.yaml:9: log.format: \"xml\" is not json or pretty",
                "t.yaml:9: log.level: must be error, warn, info, debug or trace",
            ],
        ),
        (
            "namespaces:\n  dash:\n    history: {ages: 1m, messages: 0}\n    max_message_bytes: 1000000\n  a.b: {}\n",
            &[
                "limits.outbox_bytes: must be at least 4000000, 4 of the largest max_message_bytes",
                "t.yaml:4: namespaces.dash.history.ages: unknown key",
                "t.yaml:4: namespaces.dash.history.messages: must be 1 to 1000000 of each topic",
                "namespaces.a.b: is not a legal first segment of a topic",
            ],
        ),
        (
            "limits: {max_connections: 9999999, control_frames: 10.5, ping_after: 1ms, outbox_bytes: 64TiB}\nstrict:\n",
            &[
                "is no size such as 65536 or 64KiB",
                "limits.control_frames: is string \"10.5\"",
                "256 more files, but nofile is",
                "t.yaml:2: limits.ping_after: is 1ms, must be 1s to 1h",
                "t.yaml:3: strict: has no value",
            ],
        ),
        ("limits: {}\nlimits: {}\n", &["t.yaml:3: duplicate mapping key `limits` is not allowed"]),
        (
            "nats:\n  prefix: a.*\n  credentials_file: /nowhere\n  tls:\n    ca_file: /nowhere\n    key_file: /\n",
            &[
                "t.yaml:3: nats.prefix: must be 1 to 3 legal segments",
                "t.yaml:4: nats.credentials_file: /nowhere cannot be read: No such file",
                "t.yaml:5: nats.tls: cert_file and key_file go together",
                "t.yaml:6: nats.tls.ca_file: /nowhere cannot be read: No such file",
                "t.yaml:7: nats.tls.key_file: / cannot be read: it is no regular file",
            ],
        ),
        (
            "namespaces:\n  a: {source: orders.>}\n",
            &["t.yaml:3: namespaces.a.source: its subjects are on NATS, and nats.url is not set"],
        ),
        (
            "nats: {url: x}\nnamespaces:\n  a: {source: tidegate.in.>}\n  b: {source: a..b}\n  c: {source: \"*\"}\n",
            &[
                "t.yaml:4: namespaces.a.source: must have nothing in common with nats.prefix",
                "t.yaml:5: namespaces.b.source: \"a..b\" is no topic or pattern",
                "t.yaml:6: namespaces.c.source: cannot be a source: the first segment must be named",
            ],
        ),
        ("strict: [\n", &["t.yaml:"]),
        ("management: \"[::1]:1\"\n", &["t.yaml:2: management: must not be the address of listen"]),
        ("listen: nowhere\nnode: a b\n", &["t.yaml:3: node: must be 1 to 200"]),
    ];
    for (file, expected) in table {
        let faults = read(&format!("{OPEN}{file}"), &[]).unwrap_err();
        assert_eq!(faults.len(), expected.len(), "{faults:#?}");
        for words in *expected {
            assert!(faults.iter().any(|fault| fault.contains(words)), "{words}: {faults:#?}");
        }
    }
}

#[test]
fn an_issuer_is_cut_out_once_and_no_consequence_is_told() {
    let file = "auth:\n  issuers:\n    - {algorithm: none, key_file: k}\n    - key_file: k\n      kid: 1\n";
    let faults = read(file, &[]).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert!(faults[0].starts_with("t.yaml:3: auth.issuers.0.algorithm: "), "{faults:#?}");
    let file = "auth: {issuers: [\n{algorithm: HS256, key_file: /nowhere}]}\n";
    let faults = read(file, &[]).unwrap_err();
    assert!(faults[0].starts_with("t.yaml:2: auth.issuers.0.key_file: "), "{faults:#?}");
    assert!(read("", &[]).unwrap_err()[0].contains("nobody could come in"));
    assert!(read("auth: {issuers: [{}]}", &[]).unwrap_err()[0].ends_with("is missing"));
}

#[test]
fn the_environment_lies_over_the_file_and_under_the_flags() {
    let file = "listen: 1.1.1.1:1\nnode: a\nlimits: {outbox_bytes: 1MiB, fragments: 7}\n";
    let environment = [
        ("TIDEGATE_LISTEN", "2.2.2.2:2"),
        ("TIDEGATE_NODE", "007"),
        ("TIDEGATE_STRICT", "true"),
        ("TIDEGATE_SHARDS", "3"),
        ("TIDEGATE_CONFIG", "not a key"),
        ("TIDEGATE_MANAGEMENT", ""),
        ("TIDEGATE_LIMITS__OUTBOX_BYTES", "512KiB"),
        ("TIDEGATE_AUTH__ANONYMOUS__SUBSCRIBE", "[demo.>, \"x.*\"]"),
        ("PATH", "/bin"),
    ];
    let config = read(file, &environment).unwrap();
    assert_eq!(config.listen.to_string(), "[::1]:1");
    assert_eq!((config.node.as_str(), config.shards, config.strict), ("007", 3, true));
    assert_eq!((config.limits.outbox_bytes, config.limits.fragments), (512 << 10, 7));
    assert_eq!(config.auth.anonymous.subscribe.len(), 2);
    assert_eq!(config.management.port(), 9090);

    let environment = [
        ("TIDEGATE_PORT", "tcp://1"),
        ("TIDEGATE_LIMITS__FRAGMENTS", "x"),
        ("TIDEGATE_NODE", "a b"),
    ];
    let faults = read(OPEN, &environment).unwrap_err();
    assert_eq!(faults.len(), 3);
    assert_eq!(
        faults[0],
        "TIDEGATE_LIMITS__FRAGMENTS: limits.fragments: is string \"x\", must be an integer"
    );
    assert!(faults[1].starts_with("TIDEGATE_NODE: node: must be"), "{faults:#?}");
    assert_eq!(faults[2], "TIDEGATE_PORT: port: unknown key");
}

#[test]
fn what_is_left_open_is_settled() {
    let config =
        read(&format!("{OPEN}namespaces: {{dash: {{max_message_bytes: 100}}}}\nstrict: true"), &[]);
    let config = config.unwrap();
    assert_eq!(config.limits.frame_bytes, 100 + FRAME_HEAD_BYTES);
    assert!(config.limits.max_connections > 0 && config.shards > 0 && !config.node.is_empty());
    assert_eq!(unconfigured().limits.frame_bytes, 68 << 10);
    assert_eq!((connections(1024), connections(20_000)), (512, 19_000));
}

#[test]
fn a_missing_file_is_a_fault() {
    let faults = load(Some(Path::new("/nowhere.yaml")), std::iter::empty(), &Overrides::default());
    assert!(faults.unwrap_err().to_string().starts_with("/nowhere.yaml: cannot be read"));
}
