//! The configuration that the chart writes, read by the gateway; and that its schema knows each of the
//! gateway's settings, and no other key.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

use crate::helm::{Rendered, cases, render_values, rendered, said, text, tool, yaml};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidegate");
/// A public key for ES256, of nobody.
const PEM: &str = "-----BEGIN PUBLIC KEY-----\n\
    MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt\n\
    6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==\n\
    -----END PUBLIC KEY-----\n";

/// Credentials for NATS, of nobody.
const CREDENTIALS: &str = "-----BEGIN NATS USER JWT-----\n\
    eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ.e30.bm9ib2R5\n\
    ------END NATS USER JWT------\n\n\
    -----BEGIN USER NKEY SEED-----\n\
    SUAFXFXBQSS7XZKFOIJXXY5G3Q2LS4T6NGWGZWEMCU6USNYOQIIXWQRMMY\n\
    ------END USER NKEY SEED------\n";

/// Every case's configuration is one that the gateway starts with, its key files included, and what
/// the chart generates lets in who shows it.
#[test]
fn the_gateway_takes_what_the_chart_writes() {
    let Some(helm) = tool("helm") else { return };
    for case in cases() {
        let rendered = rendered(&helm, &case);
        let folder = tempfile::tempdir().expect("a folder");
        mount(&rendered, folder.path());
        let keys = rendered.object("Secret", "-keys").map(|keys| &keys["stringData"]);
        let key = keys.map_or("nobody", |keys| keys["api-key"].as_str().expect("a key"));
        let output = Command::new(PROGRAM)
            .args(["check", "--token", key, "--config"])
            .arg(folder.path().join("config/tidegate.yaml"))
            .env_clear()
            // As many as the machine of these tests lets a process open.
            .env("TIDEGATE_LIMITS__MAX_CONNECTIONS", "64")
            .output()
            .expect("it starts");
        // 64 is for a configuration with faults; 77 says that it has none, and knows no such key.
        let wanted = if keys.is_some() { 0 } else { 77 };
        assert_eq!(output.status.code(), Some(wanted), "{case}: {}", said(&output));
    }
}

/// Lays out the files that a pod would find, in a folder instead of `/etc/tidegate`.
fn mount(rendered: &Rendered, folder: &Path) {
    let put = |name: &str, content: &str| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, content).expect("a file");
    };
    let pair = pair(folder);
    let root = folder.display().to_string();
    let own = rendered.configuration().replace("/etc/tidegate", &root);
    put("config/tidegate.yaml", &own);
    let mounts = rendered.pod()["spec"]["containers"][0]["volumeMounts"].as_array();
    let mounted = |path: &str| {
        let folders = mounts.expect("mounts").iter().filter_map(|one| one["mountPath"].as_str());
        folders.filter_map(|folder| path.strip_prefix(folder)).any(|rest| rest.starts_with('/'))
    };
    // Only what is mounted is there, and each file is found by the path that the configuration names.
    for path in rendered.configuration().split_whitespace().filter(|word| word.starts_with('/')) {
        assert!(mounted(path), "{path} is not mounted");
        let name = path.strip_prefix("/etc/tidegate/").expect("a file of ours");
        let content = match name.split_once('/').expect("a folder and a file") {
            ("keys", entry) => {
                let keys = rendered.object("Secret", "-keys").expect("a Secret");
                keys["stringData"][entry].as_str().expect("an entry").to_owned()
            }
            ("api-keys", _) => "[]".to_owned(),
            ("hmac", entry) => {
                format!("{entry}: a secret that somebody else made, long enough for all")
            }
            ("public-keys", _) => PEM.to_owned(),
            ("nats", _) => CREDENTIALS.to_owned(),
            ("nats-ca", _) | ("nats-client", "tls.crt") => pair.0.clone(),
            ("nats-client", _) => pair.1.clone(),
            other => panic!("{other:?} is no folder of the chart"),
        };
        put(name, &content);
    }
}

/// A certificate and its private key.
fn pair(folder: &Path) -> (String, String) {
    let words = "req -x509 -days 2 -subj /CN=nobody -newkey ec -pkeyopt \
                 ec_paramgen_curve:P-256 -nodes -keyout made.key -out made.crt";
    let mut openssl = Command::new("openssl");
    let output = openssl
        .args(words.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("openssl is installed");
    assert!(output.status.success(), "{}", said(&output));
    let read = |name| fs::read_to_string(folder.join(name)).expect("it was made");
    (read("made.crt"), read("made.key"))
}

/// Keys of the documented settings, each with a value that it may have.
fn settings() -> Vec<(String, Value)> {
    let readme = text("README.md");
    let (_, table) = readme.split_once("<!-- settings -->").expect("the settings");
    let rows = table.lines().filter_map(|line| {
        let line = line.replace("\\|", "/");
        let mut cells = line.split('|').map(str::trim).skip(1);
        let key = cells.next()?.strip_prefix('`')?.strip_suffix('`')?.to_owned();
        let unit = cells.next()?.to_owned();
        let legal = |c: char| c.is_ascii_alphabetic() || "._[]".contains(c);
        (cells.count() == 4 && key.chars().all(legal)).then_some((key, unit))
    });
    rows.map(|(key, unit)| (key.clone(), value(&key, &unit))).collect()
}

/// A value of this unit.
fn value(key: &str, unit: &str) -> Value {
    match (key, unit) {
        ("auth.issuers", _) => json!([]),
        ("nats.url", _) => json!("nats://nats:4222"),
        (_, "patterns") => json!(["a.>"]),
        ("auth.origins", _) => json!(["https://a.example"]),
        ("log.format" | "log.level", _) => json!(if key == "log.level" { "warn" } else { "json" }),
        _ if key.ends_with("algorithm") => json!("ES256"),
        _ if key.ends_with("storage") => json!("memory"),
        (_, "boolean" | "yes or no") => json!(true),
        (_, "size") => json!("8MiB"),
        (_, "duration") => json!("7s"),
        (_, "threads") => json!(2),
        (_, unit) if unit.starts_with("count") || unit.starts_with("bytes") => json!(1_000_001),
        _ => json!("text"),
    }
}

/// Puts a value under a path such as `auth.issuers[].algorithm`.
fn set(tree: &mut Value, path: &str, value: Value) {
    let (first, rest) = path.split_once('.').unwrap_or((path, ""));
    let name = first.trim_end_matches("[]");
    if !tree.is_object() {
        *tree = Value::Object(Map::new());
    }
    let mut at = &mut tree[name];
    if first.ends_with("[]") {
        if at.as_array().is_none_or(Vec::is_empty) {
            *at = json!([{}]);
        }
        at = &mut at[0];
    }
    if rest.is_empty() { *at = value } else { set(at, rest, value) }
}

/// Each documented setting can be set under `config`, and arrives as it was written; but those that
/// the chart writes itself, and there the error names the value that stands for them. Where a key is
/// not known, nothing is rendered.
#[test]
fn the_schema_knows_the_settings_and_no_other_key() {
    let Some(helm) = tool("helm") else { return };
    let settings = settings();
    assert!(settings.len() > 60, "{settings:?}");
    let (owned, free): (Vec<_>, Vec<_>) = settings.into_iter().partition(|(key, _)| {
        let section = key.split('.').next().unwrap_or_default();
        ["listen", "management", "drain"].contains(&section)
    });

    let mut all = json!({});
    for (key, value) in &free {
        set(&mut all, key, value.clone());
    }
    let rendered = render_values(&helm, &json!({"config": all})).expect("it renders");
    let written = yaml(rendered.configuration());
    for (key, value) in &free {
        let pointer = format!("/{}", key.replace("[]", ".0").replace('.', "/"));
        let found = written.pointer(&pointer);
        if key != "auth.issuers" {
            assert_eq!(found, Some(value), "{key}: {}", rendered.configuration());
        }
    }

    for (key, value) in &owned {
        let mut config = json!({});
        set(&mut config, key, value.clone());
        let why = render_values(&helm, &json!({"config": config})).expect_err(key);
        assert!(why.contains(": set "), "{key}: {why}");
    }

    for section in [
        "",
        "nats.",
        "nats.tls.",
        "auth.",
        "auth.anonymous.",
        "auth.issuers[].",
        "limits.",
        "log.",
        "namespaces.dash.",
        "namespaces.dash.history.",
    ] {
        let mut config = all.clone();
        set(&mut config, &format!("{section}bogus"), json!(1));
        let why = render_values(&helm, &json!({"config": config})).expect_err(section);
        assert!(why.contains("bogus is not allowed"), "{section}: {why}");
    }
}
