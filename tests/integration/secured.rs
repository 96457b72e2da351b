//! The way to NATS: encrypted, with certificates on both sides, or with credentials.

use std::path::Path;

use crate::commands::{Ended, configured, tidegate};
use crate::harness::authority::Authority;
use crate::harness::operator::Operator;
use crate::harness::{Gateway, Nats, Settings, run};

/// The setting `nats` with these parts.
fn nats_line(url: &str, parts: &[String]) -> String {
    let parts: String = parts.iter().map(|part| format!(", {part}")).collect();
    format!("nats: {{url: {url:?}{parts}}}")
}

fn file(key: &str, path: &Path) -> String {
    format!("{key}: {:?}", path.display().to_string())
}

fn tls(files: &[String]) -> Vec<String> {
    vec![format!("tls: {{{}}}", files.join(", "))]
}

/// How `check` ends on this line.
async fn checked(line: &str) -> Ended {
    let (_folder, file) =
        configured(&format!("{line}\nauth: {{anonymous: {{subscribe: [open.>]}}}}\n"));
    tidegate(&["check", "--config", &file]).await
}

/// A gateway on this line delivers.
async fn delivers(line: &str) -> Gateway {
    let gateway = Gateway::start(Settings::open().line(line)).await;
    let mut browser = gateway.browser("").await;
    browser.subscribe("open.a").await;
    assert_eq!(gateway.publish("open.a", "1").await.status(), 200);
    assert_eq!(browser.message().await["data"], 1);
    gateway
}

/// A server that demands a certificate gets it, over TLS, whether the URL says so or only the files;
/// and a gateway trusts nobody but its own authority and talks to nobody in the open.
#[test]
fn both_sides_show_certificates() {
    run(async {
        let authority = Authority::new();
        authority.certify("server");
        authority.certify("client");
        let [ca, server, server_key, client, client_key] =
            ["ca.pem", "server.pem", "server.key", "client.pem", "client.key"]
                .map(|name| authority.file(name));
        let nats = Nats::configured(&format!(
            "tls {{ cert_file: {server:?}, key_file: {server_key:?}, ca_file: {ca:?}, verify: true }}\n"
        ))
        .await;
        let trust = file("ca_file", &ca);
        let own = [file("cert_file", &client), file("key_file", &client_key)];
        let all = tls(&[std::slice::from_ref(&trust), &own[..]].concat());
        for scheme in ["tls", "nats"] {
            let line = nats_line(&format!("{scheme}://{}", nats.client), &all);
            let _gateway = delivers(&line).await;
            let ours = nats.gateways().await;
            assert!(ours[0]["tls_version"].is_string(), "{ours:?}");
            let ended = checked(&line).await;
            assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
        }
        let stranger = Authority::new();
        let distrust = file("ca_file", &stranger.file("ca.pem"));
        let open = Nats::start().await;
        for (what, address, parts) in [
            ("no certificate", nats.client, tls(std::slice::from_ref(&trust))),
            ("another authority", nats.client, tls(&[&[distrust], &own[..]].concat())),
            ("the authorities of the system", nats.client, tls(&own)),
            ("a server without TLS", open.client, all),
        ] {
            let ended = checked(&nats_line(&format!("nats://{address}"), &parts)).await;
            assert_eq!(ended.code, Some(69), "{what}: {ended:?}");
            assert!(ended.stderr.contains(&address.to_string()), "{what}: {ended:?}");
        }
    });
}

/// Files that hold something else, or do not belong together, are faults, each at its key.
#[test]
fn files_that_cannot_serve_are_faults() {
    run(async {
        let authority = Authority::new();
        authority.certify("client");
        let [ca, ca_key, client, client_key] =
            ["ca.pem", "ca.key", "client.pem", "client.key"].map(|name| authority.file(name));
        for (parts, key, words) in [
            (tls(&[file("ca_file", &ca_key)]), "tls.ca_file", "holds no certificate"),
            (
                tls(&[file("cert_file", &client), file("key_file", &ca)]),
                "tls.key_file",
                "holds no private key",
            ),
            (
                tls(&[file("cert_file", &client), file("key_file", &ca_key)]),
                "tls.key_file",
                "does not fit",
            ),
            (vec![file("credentials_file", &client_key)], "credentials_file", "no credentials"),
        ] {
            let ended = checked(&nats_line("nats://127.0.0.1:1", &parts)).await;
            assert_eq!(ended.code, Some(64), "{ended:?}");
            let [line] = *ended.stderr.lines().collect::<Vec<_>>() else {
                panic!("not one line: {ended:?}");
            };
            assert!(line.contains(&format!("nats.{key}: ")) && line.contains(words), "{line}");
        }
    });
}

/// Credentials let a gateway in where nobody comes in without, and what their Token does not allow is
/// named.
#[test]
fn credentials_let_a_gateway_in() {
    run(async {
        let (operator, folder) = (Operator::new(), tempfile::tempdir().expect("a folder"));
        let nats = Nats::configured(&operator.lines()).await;
        let credentials = |name: &str, allowed: &[&str]| {
            let path = folder.path().join(name);
            std::fs::write(&path, operator.credentials(allowed)).expect("it is written");
            nats_line(&nats.url(), &[file("credentials_file", &path)])
        };
        let _gateway = delivers(&credentials("all.creds", &["tidegate.>", "_INBOX.>"])).await;
        let ended = checked(&credentials("some.creds", &["tidegate.node.>"])).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        for verb in ["publish to", "subscribe to"] {
            assert!(ended.stderr.contains(&format!("{verb} tidegate.in.>")), "{ended:?}");
        }
        let strange = folder.path().join("strange.creds");
        std::fs::write(&strange, Operator::new().credentials(&["tidegate.>"])).expect("written");
        for parts in [vec![], vec![file("credentials_file", &strange)]] {
            let ended = checked(&nats_line(&nats.url(), &parts)).await;
            assert_eq!(ended.code, Some(77), "{ended:?}");
        }
    });
}
