//! `tidegate check` and the NATS that is configured: what it tells of a server, and of a user's rights.

use serde_json::{Value, json};

use crate::commands::{Ended, configured, tidegate};
use crate::harness::gateway::free_address;
use crate::harness::{Nats, run};

const PASSWORD: &str = "nobody-prints-this";
const IN: &str = "tidegate.in.>";
const NODE: &str = "tidegate.node.>";
const CTL: &str = "tidegate.ctl.>";
const INBOX: &str = "_INBOX.tidegate.>";
const ALL: [&str; 4] = [IN, NODE, CTL, INBOX];

/// A server whose user `gateway` may do this, and no more.
async fn server(publish: &[&str], subscribe: &[&str]) -> Nats {
    Nats::configured(&format!(
        "server_name: testing\nmax_payload: 300KB\n\
         authorization {{ users: [{{user: gateway, password: {PASSWORD:?}, \
         permissions: {{publish: {publish:?}, subscribe: {subscribe:?}}}}}] }}\n"
    ))
    .await
}

/// What `check` says of a node on NATS at this address.
async fn checked(url: &str) -> Ended {
    let (_folder, file) = configured(&format!(
        "nats: {{url: {url:?}}}\nauth: {{anonymous: {{subscribe: [open.>]}}}}\n"
    ));
    tidegate(&["check", "--config", &file]).await
}

fn shown(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("JSON: {ended:?}"))
}

/// With all rights: the server with its version and `max_payload`, beside all that is in force, and
/// nothing is missing.
#[test]
fn a_server_is_told_with_its_bounds() {
    run(async {
        let nats = server(&ALL, &ALL).await;
        let ended = checked(&nats.url_as("gateway", PASSWORD)).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
        let shown = shown(&ended);
        let version = nats.varz().await["version"].clone();
        let expected = json!({
            "name": "testing", "version": version, "max_payload": 300 * 1_024,
            "may_not_publish": [], "may_not_subscribe": [], "publish_untried": [],
        });
        assert_eq!(shown["nats_server"], expected);
        assert_eq!(shown["limits"]["outbox_bytes"], "256KiB");
    });
}

/// Each right that is missing is named, alone or with others, and the command has failed.
#[test]
fn each_missing_right_is_named() {
    run(async {
        let but = |missing: &[&str]| -> Vec<&str> {
            ALL.into_iter().filter(|right| !missing.contains(right)).collect()
        };
        for (publish, subscribe) in [
            (&[IN][..], &[][..]),
            (&[NODE], &[]),
            (&[], &[IN]),
            (&[], &[NODE]),
            (&[CTL], &[]),
            (&[], &[INBOX]),
            (&ALL, &ALL),
        ] {
            let mut may_publish = but(publish);
            // A list without entries would allow all.
            may_publish.push("other");
            let nats = server(&may_publish, &[&but(subscribe)[..], &["other"]].concat()).await;
            let ended = checked(&nats.url_as("gateway", PASSWORD)).await;
            assert_eq!(ended.code, Some(1), "{publish:?} {subscribe:?}: {ended:?}");
            let shown = shown(&ended);
            assert_eq!(shown["nats_server"]["may_not_publish"], json!(publish));
            assert_eq!(shown["nats_server"]["may_not_subscribe"], json!(subscribe));
            let mut words = String::new();
            for (verb, subjects) in [("publish to", publish), ("subscribe to", subscribe)] {
                for subject in subjects {
                    words += &format!("NATS does not let this node {verb} {subject}\n");
                }
            }
            assert_eq!(ended.stderr, words);
        }
    });
}

/// Nobody there, or nobody who knows us: each has its number and its words, and what is in force is
/// shown all the same. No words hold the password.
#[test]
fn a_server_that_cannot_be_used_is_told_with_its_address() {
    run(async {
        let nats = server(&ALL, &ALL).await;
        let nobody = free_address();
        let (silent, refusing) = (nobody.to_string(), nats.client.to_string());
        for (address, exit) in [(&silent, 69), (&refusing, 77)] {
            let ended = checked(&format!("nats://gateway:wrong-{PASSWORD}@{address}")).await;
            assert_eq!(ended.code, Some(exit), "{ended:?}");
            assert!(ended.stderr.contains(address.as_str()), "{ended:?}");
            let (shown, all) = (shown(&ended), format!("{ended:?}"));
            assert!(!all.contains(PASSWORD), "{ended:?}");
            assert_eq!(shown["nats"]["url"], format!("nats://***@{address}"));
            assert_eq!(shown["limits"]["outbox_bytes"], "256KiB");
            assert_eq!(shown["nats_server"], Value::Null);
        }
    });
}

/// Where several servers are named, one that answers is enough.
#[test]
fn one_server_of_several_is_enough() {
    run(async {
        let nats = Nats::start().await;
        let ended = checked(&format!("nats://{},{}", free_address(), nats.url())).await;
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
    });
}

const API: &str = "$JS.API.STREAM";
const OUT: &str = "tidegate.out.>";
const ELECTED: &str = "$JS.EVENT.ADVISORY.STREAM.LEADER_ELECTED";

/// What `check` says of a node that keeps `open`.
async fn checked_kept(url: &str, history: &str) -> Ended {
    let (_folder, file) = configured(&format!(
        "nats: {{url: {url:?}}}\nauth: {{anonymous: {{subscribe: [open.>]}}}}\n\
         namespaces: {{open: {{history: {history}}}}}\n"
    ));
    tidegate(&["check", "--config", &file]).await
}

/// Each right that history needs is named when it is missing.
#[test]
fn each_missing_right_of_history_is_named() {
    run(async {
        let publish: Vec<String> = ["INFO", "MSG.GET", "CREATE", "UPDATE"]
            .into_iter()
            .flat_map(|verb| ["open", "_revoked"].map(|of| format!("{API}.{verb}.TIDEGATE_{of}")))
            .chain(["open", "_revoked"].map(|of| format!("$JS.API.DIRECT.GET.TIDEGATE_{of}")))
            .chain(ALL.map(str::to_owned))
            .collect();
        let elected = ["open", "_revoked"].map(|of| format!("{ELECTED}.TIDEGATE_{of}"));
        let subscribe = [&[IN, NODE, CTL, INBOX, OUT].map(str::to_owned)[..], &elected].concat();
        let all = publish.len() + subscribe.len();
        // The last is without nothing.
        for missing in 0..=all {
            let but = |rights: &[String], first: usize| -> String {
                let kept = rights.iter().enumerate().filter(|(at, _)| first + at != missing);
                format!("{:?}", kept.map(|(_, right)| right).collect::<Vec<_>>())
            };
            let nats = Nats::configured(&format!(
                "jetstream {{ store_dir: \"STORE\", max_file: 2GiB }}\n\
                 authorization {{ users: [{{user: gateway, password: {PASSWORD:?}, \
                 permissions: {{publish: {}, subscribe: {}}}}}] }}\n",
                but(&publish, 0),
                but(&subscribe, publish.len()),
            ))
            .await;
            let ended = checked_kept(&nats.url_as("gateway", PASSWORD), "{}").await;
            let Some(right) = publish.iter().chain(&subscribe).nth(missing) else {
                assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
                continue;
            };
            assert_eq!(ended.code, Some(1), "{right}: {ended:?}");
            let named = |line: &str| line.ends_with(right.as_str());
            assert!(ended.stderr.lines().any(named), "{right}: {ended:?}");
        }
    });
}

/// The stream of each kept Namespace is told as it is, or as it will be made, and what all may need
/// of an account that has not so much; one that is missing and nobody makes is a fault.
#[test]
fn streams_are_told_as_they_are() {
    run(async {
        let nats = Nats::configured(
            "jetstream { store_dir: \"STORE\", max_file: 4GiB }\n\
             accounts: { A: { jetstream: {max_file: 1GiB, max_mem: 1MiB}, users: [{user: a, password: p}] } }\n",
        )
        .await;
        let url = nats.url_as("a", "p");
        let ended = checked_kept(&url, "{max_bytes: 2GiB, messages: 7}").await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.contains("2147483648 bytes on disk"), "{ended:?}");
        let told = shown(&ended)["nats_server"].clone();
        let expected = json!([{
            "namespace": "open", "stream": "TIDEGATE_open", "exists": false, "storage": "file",
            "replicas": 1, "max_bytes": 2_147_483_648_u64, "messages": 7,
        }, {
            "namespace": "_revoked", "stream": "TIDEGATE__revoked", "exists": false, "storage": "file",
            "replicas": 1, "max_bytes": null, "messages": 1,
        }]);
        assert_eq!(told["streams"], expected);
        assert_eq!(told["account"]["max_storage"], 1 << 30);
        let ended = checked_kept(&url, "{manage: false}").await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.stderr.contains("nats stream add TIDEGATE_open"), "{ended:?}");
    });
}
