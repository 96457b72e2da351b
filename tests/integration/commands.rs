//! The command line with the real program: what it prints, and the number that it ends with.
//!
//! Programs start with an empty environment, so that nothing of the machine reaches them.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::gateway::{SECRET, free_address};
use crate::harness::proxy::Weather;
use crate::harness::{Browser, Gateway, Grants, Proxy, SOON, Settings, run, until};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tidegate");

/// One run of a program; what it writes goes to files, and it ends with the test.
struct Program {
    process: Child,
    folder: TempDir,
}

/// How a program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Program {
    /// Starts it; `input` is what it can read.
    fn start(program: impl AsRef<Path>, words: &[&str], set: &[(&str, &str)], input: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name| folder.path().join(name);
        fs::write(at("in"), input).expect("the input is written");
        let process = Command::new(program.as_ref())
            .args(words)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(set.iter().copied())
            .stdin(File::open(at("in")).expect("the input"))
            .stdout(File::create(at("out")).expect("a file"))
            .stderr(File::create(at("err")).expect("a file"))
            .spawn()
            .expect("it starts");
        Self { process, folder }
    }

    fn written(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }

    fn stdout(&self) -> String {
        self.written("out")
    }

    /// Waits for its end.
    async fn ended(&mut self) -> Ended {
        let (mut status, id) = (None, self.process.id());
        until(&format!("program {id} ends"), 3 * SOON, || {
            status = self.process.try_wait().expect("a process");
            let ended = status.is_some();
            async move { ended }
        })
        .await;
        Ended {
            code: status.and_then(|status| status.code()),
            stdout: self.stdout(),
            stderr: self.written("err"),
        }
    }

    /// Asks it to end, and waits.
    async fn stop(&mut self) -> Ended {
        let id = self.process.id().to_string();
        let status = Command::new("kill").args(["-TERM", &id]).status();
        assert!(status.expect("kill runs").success());
        self.ended().await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nobody to end.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("{}\n{}", self.stdout(), self.written("err"));
        }
    }
}

/// Runs `tidegate` with these words to its end.
pub(crate) async fn tidegate(words: &[&str]) -> Ended {
    Program::start(PROGRAM, words, &[], "").ended().await
}

/// The same, for an end that is good; gives what it printed.
async fn printed(words: &[&str]) -> String {
    let ended = tidegate(words).await;
    assert_eq!(ended.code, Some(0), "{words:?}: {ended:?}");
    ended.stdout
}

/// A folder with `t.yaml` and the tests' `secret`; gives the path of the first.
pub(crate) fn configured(yaml: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("secret"), SECRET).expect("the secret is written");
    let file = folder.path().join("t.yaml");
    let secret = folder.path().join("secret").display().to_string();
    fs::write(&file, yaml.replace("$SECRET", &secret)).expect("it is written");
    let path = file.display().to_string();
    (folder, path)
}

const SIGNED: &str = "auth: {issuers: [{algorithm: HS256, key_file: \"$SECRET\"}]}\n";

async fn answers(address: SocketAddr, path: &str) -> Option<Value> {
    let answer = reqwest::get(format!("http://{address}{path}")).await;
    answer.ok()?.json().await.ok()
}

async fn until_ready(management: SocketAddr) {
    until("the node is ready", 2 * SOON, || async {
        answers(management, "/health/ready").await.is_some()
    })
    .await;
}

async fn until_subscribed(management: SocketAddr) {
    until("somebody has subscribed", 4 * SOON, || async {
        let status = answers(management, "/status").await.unwrap_or_default();
        status["subscriptions"] == 1
    })
    .await;
}

/// Both commands that read the configuration name each fault with its line, keys of later releases
/// among them, and end with 64.
#[test]
fn every_fault_is_told_at_once() {
    run(async {
        let (_folder, file) = configured(
            "auth: {anonymous: {subscribe: [open.>]}}\n\
             gnats: {url: \"nats://localhost:4222\"}\n\
             drain: {windows: 45s}\n\
             limits:\n  fragments: many\n  ping_after: 1ms\n\
             namespaces:\n  open: {historys: {age: 1m}}\n  dash: {max_message_bytes: 0}\n\
             log: {level: loud}\n",
        );
        for command in ["check", "serve"] {
            let ended = tidegate(&[command, "--config", &file]).await;
            assert_eq!((ended.code, ended.stdout.as_str()), (Some(64), ""));
            let expected = [
                "2: gnats: unknown key",
                "3: drain.windows: unknown key",
                "5: limits.fragments: ",
                "6: limits.ping_after: is 1ms, must be 1s to 1h",
                "8: namespaces.open.historys: unknown key",
                "9: namespaces.dash.max_message_bytes: ",
                "10: log.level: ",
            ];
            let lines: Vec<&str> = ended.stderr.lines().collect();
            assert_eq!(lines.len(), expected.len(), "{ended:?}");
            for (line, expected) in lines.iter().zip(expected) {
                assert!(line.starts_with(&format!("{file}:{expected}")), "{line}");
            }
        }
    });
}

/// A node that nobody could use does not start.
#[test]
fn a_node_without_key_and_anonymous_grant_is_refused() {
    run(async {
        for words in [&["serve"][..], &["check"], &["serve", "--config", "/nowhere"]] {
            let ended = tidegate(words).await;
            assert_eq!(ended.code, Some(64), "{ended:?}");
            let known = ["nobody could come in", "cannot be read"];
            assert!(known.iter().any(|it| ended.stderr.contains(it)), "{ended:?}");
        }
    });
}

/// The environment lies over the file, and a flag over both; `check` shows the outcome, and `serve`
/// listens there.
#[test]
fn the_environment_is_over_the_file_and_flags_over_both() {
    run(async {
        let addresses = [free_address(), free_address(), free_address()];
        let [file_says, set, flag] = addresses.map(|address| address.to_string());
        let (_folder, file) = configured(&format!(
            "listen: {file_says}\nmanagement: {file_says}\nnode: a\nlimits: {{fragments: 7}}\n\
             auth: {{anonymous: {{subscribe: [open.>]}}}}\n"
        ));
        let set = [
            ("TIDEGATE_CONFIG", file.as_str()),
            ("TIDEGATE_LISTEN", &set),
            ("TIDEGATE_NODE", "b"),
            ("TIDEGATE_LIMITS__OUTBOX_BYTES", "1MiB"),
        ];
        let ended = Program::start(PROGRAM, &["check"], &set, "").ended().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let shown: Value = serde_json::from_str(&ended.stdout).expect("JSON, into a pipe");
        assert_eq!((&shown["listen"], &shown["node"]), (&json!(set[1].1), &json!("b")));
        let limits = &shown["limits"];
        assert_eq!((&limits["fragments"], &limits["outbox_bytes"]), (&json!(7), &json!("1MiB")));

        let _node = Program::start(PROGRAM, &["serve", "--listen", &flag], &set, "");
        until_ready(addresses[0]).await;
        let browser = Browser::connect(addresses[2], "topic=open.a").await;
        drop(browser);
        let nobody = std::net::TcpStream::connect(addresses[1]);
        assert!(nobody.is_err(), "it listens where the environment says");
    });
}

/// `token` prints a Token that a node lets in, and `check --token` tells what it may do, or why it
/// is not good.
#[test]
fn a_token_is_made_told_and_good() {
    run(async {
        let gateway = Gateway::start(Settings::default()).await;
        let file = gateway.folder.path().join("tidegate.yaml");
        let file = file.display().to_string();
        let token = printed(&[
            "token",
            "--config",
            &file,
            "--sub",
            "ana",
            "--subscribe",
            "user.{sub}.>",
            "--publish",
            "chat.*",
            "--ttl",
            "5m",
        ])
        .await;
        let token = token.strip_suffix('\n').expect("one line");
        let mut browser = gateway.browser(&format!("topic=user.ana.**&token={token}")).await;
        assert!(browser.next().await["expires_at"].is_string());
        assert_eq!(browser.next().await["type"], "subscribed");
        let refused = browser.ask(json!({"type": "subscribe", "topic": "user.ben.x"})).await;
        assert_eq!(refused["code"], "forbidden");

        let told = printed(&["check", "--config", &file, "--token", token]).await;
        let told: Value = serde_json::from_str(&told).expect("JSON");
        assert_eq!(told["user"], "ana");
        assert_eq!(told["may"]["subscribe"], json!(["user.ana.>"]));
        assert_eq!(told["may"]["publish"], json!(["chat.*"]));
        assert_eq!(told["may"]["history"], json!([]));
        assert!(told["expires_at"].is_string());

        let (_folder, other) = configured(&SIGNED.replace("key_file", "audience: web, key_file"));
        let forged = format!("{token}x");
        for (file, token, why) in [
            (&file, forged.as_str(), "signature"),
            (&other, token, "aud"),
            (&file, "nonsense", ""),
            (&file, "tgk_nobody_0123456789012345678901234567890123456789012", "key"),
        ] {
            let ended = tidegate(&["check", "--config", file, "--token", token]).await;
            assert_eq!((ended.code, ended.stdout.as_str()), (Some(77), ""), "{ended:?}");
            assert!(ended.stderr.contains(why) && !ended.stderr.trim().is_empty(), "{ended:?}");
            assert!(!ended.stderr.contains(token), "it tells the Token: {ended:?}");
        }
    });
}

/// `token --api-key` prints a key and, in a second line, the entry with which a node knows it.
#[test]
fn an_api_key_is_made_and_good() {
    run(async {
        let made = tidegate(&["token", "--api-key", "orders", "--publish", "orders.>"]).await;
        assert_eq!(made.code, Some(0), "{made:?}");
        let [key, entry] = *made.stdout.lines().collect::<Vec<_>>() else {
            panic!("not two lines: {made:?}");
        };
        assert!(key.starts_with("tgk_orders_") && !entry.contains(key), "{made:?}");
        let folder = tempfile::tempdir().expect("a folder");
        let keys = folder.path().join("keys.yaml");
        fs::write(&keys, format!("{entry}\n")).expect("it is written");
        let settings = Settings {
            auth: Some(vec![format!("api_keys_file: {:?}", keys.display().to_string())]),
            ..Settings::default()
        };
        let gateway = Gateway::start(settings).await;
        let url = format!("http://{}", gateway.client);
        let known = ["--url", &url, "--token", key];
        printed(&[&["publish", "orders.new", "1"], &known[..]].concat()).await;
        let ended = tidegate(&[&["publish", "dash.eu", "1"], &known[..]].concat()).await;
        assert_eq!(ended.code, Some(77), "{ended:?}");
        assert!(ended.stderr.starts_with("forbidden: "), "{ended:?}");
    });
}

/// Each way to name a payload arrives as it was meant, and a failure ends with its number.
#[test]
fn publish_sends_what_it_is_told() {
    run(async {
        let gateway = Gateway::start(Settings::open()).await;
        let url = format!("http://{}", gateway.client);
        let mut browser = gateway.browser("topic=open.**").await;
        for kind in ["connected", "subscribed"] {
            assert_eq!(browser.next().await["type"], kind);
        }
        let (token, mut ids) = (user(), Vec::new());
        for (words, input, field, expected) in [
            (&[r#"{"v": 42}"#][..], "", "data", json!({"v": 42})),
            (&["-7"], "", "data", json!(-7)),
            (&["two words"], "", "data", json!("two words")),
            (&["-"], "[1,\n2]", "data", json!([1, 2])),
            (&["--base64", "//4="], "", "data_base64", json!("//4=")),
            (&["--base64", "-"], "//4=\n", "data_base64", json!("//4=")),
            (&["--delete"], "", "deleted", json!(true)),
            (&["1", "--key", "k-17", "--token", &token], "", "data", json!(1)),
            (&["1", "--key", "k-17", "--token", &token], "", "data", json!(1)),
        ] {
            let words = [&["publish", "open.a", "--url", &url], words].concat();
            let ended = Program::start(PROGRAM, &words, &[], input).ended().await;
            assert_eq!(ended.code, Some(0), "{words:?}: {ended:?}");
            let answer: Value = serde_json::from_str(&ended.stdout).expect("JSON, into a pipe");
            let message = browser.message().await;
            assert_eq!((&message[field], &message["id"]), (&expected, &answer["id"]));
            ids.push(answer["id"].clone());
        }
        assert_eq!(ids[7], ids[8], "the same key is the same Publication");

        let nobody = format!("http://{}", free_address());
        for (words, code, told) in [
            (&["shut.a", "1", "--url", &url][..], 77, "unauthenticated: "),
            (&["shut.a", "1", "--url", &url, "--token", &token], 77, "forbidden: "),
            (&["open.a", "1", "--url", &url, "--token", "bad"], 77, "unauthenticated: "),
            (&["open.a", "1", "--url", &nobody], 69, "cannot be reached"),
            (&["open.*", "1", "--url", &url], 64, "open.*"),
            (&["open.a", "", "--url", &url], 64, "--delete"),
            (&["open.a", "?", "--base64", "--url", &url], 64, "base64"),
        ] {
            let ended = tidegate(&[&["publish"], words].concat()).await;
            assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{ended:?}");
            assert!(ended.stderr.contains(told), "{words:?}: {ended:?}");
        }
        browser.is_quiet().await;
    });
}

/// The Token of somebody who may do the same as everybody.
fn user() -> String {
    Gateway::token("ana", &Grants::all(&["open.>"]))
}

/// `subscribe` prints a JSON object a line, goes on at a node that was started again on the same
/// port, says so beside its output, and ends after `--count`.
#[test]
fn subscribe_survives_a_restart() {
    run(async {
        let (client, management) = (free_address(), free_address());
        let (_folder, file) = configured(
            "auth: {anonymous: {subscribe: [open.>], publish: [open.>]}}\nshards: 1\ndrain: {lame_duck: 0s, window: 0s}\n",
        );
        let (listen, health) = (client.to_string(), management.to_string());
        let words = ["serve", "--config", &file, "--listen", &listen, "--management", &health];
        let url = format!("http://{client}");
        let mut node = Program::start(PROGRAM, &words, &[], "");
        until_ready(management).await;
        let watch = ["subscribe", "open.**", "--count", "2", "--url", &url];
        let mut subscriber = Program::start(PROGRAM, &watch, &[], "");
        until_subscribed(management).await;
        printed(&["publish", "open.a", "1", "--url", &url]).await;
        until("the first line", SOON, || async { subscriber.stdout().ends_with('\n') }).await;
        assert_eq!(node.stop().await.code, Some(0));

        let _node = Program::start(PROGRAM, &words, &[], "");
        until_ready(management).await;
        until_subscribed(management).await;
        printed(&["publish", "open.b", r#"{"v": 2}"#, "--url", &url]).await;
        let ended = subscriber.ended().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        assert!(ended.stderr.contains("connecting again in"), "{ended:?}");
        let lines: Vec<Value> =
            ended.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len(), 2, "{ended:?}");
        assert_eq!((&lines[0]["topic"], &lines[0]["data"]), (&json!("open.a"), &json!(1)));
        assert_eq!((&lines[1]["topic"], &lines[1]["data"]), (&json!("open.b"), &json!({"v": 2})));
    });
}

/// `subscribe` begins where it is told, and where history is kept a lost connection costs nothing:
/// each of its Subscriptions goes on from its own place. What is gone is said.
#[test]
fn subscribe_goes_on_where_it_was() {
    run(async {
        let settings = Settings::open().line("namespaces: {open: {history: {messages: 3}}}");
        let gateway = Gateway::start(settings).await;
        let mut first = Value::Null;
        for n in 0..3 {
            for topic in ["open.a", "open.b.x", "open.b.y"] {
                let answer = gateway.publish(topic, n.to_string()).await;
                let answer: Value = answer.json().await.expect("JSON");
                first = if first.is_null() { answer["cursor"].clone() } else { first };
            }
        }
        let proxy = Proxy::start(gateway.client).await;
        let url = format!("http://{}", proxy.address);
        // What another Pattern covers comes once.
        let watch =
            ["subscribe", "open.b.x", "open.a", "open.b.*", "--from", "last", "--count", "11"];
        let mut subscriber =
            Program::start(PROGRAM, &[&watch[..], &["--url", &url]].concat(), &[], "");
        let lines = |count: usize| {
            let shown = subscriber.stdout();
            async move { shown.lines().count() == count }
        };
        until("the newest values", SOON, || lines(3)).await;
        gateway.publish("open.a", "3").await;
        until("a live one", SOON, || lines(4)).await;
        proxy.set(Weather::Cut);
        for n in 4..6 {
            gateway.publish("open.a", n.to_string()).await;
            gateway.publish("open.b.x", n.to_string()).await;
            gateway.publish("open.b.y", n.to_string()).await;
        }
        proxy.set(Weather::Pass);
        until("what was missed", 3 * SOON, || lines(10)).await;
        gateway.publish("open.b.z", "6").await;
        let ended = subscriber.ended().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
        let mut came: Vec<(String, u64)> = ended
            .stdout
            .lines()
            .map(|line| {
                let message: Value = serde_json::from_str(line).expect("JSON");
                let topic = message["topic"].as_str().expect("a Topic").to_owned();
                (topic, message["data"].as_u64().expect("a number"))
            })
            .collect();
        came.sort();
        let of = |topic: &str, numbers: &[u64]| {
            numbers.iter().map(|n| (topic.to_owned(), *n)).collect::<Vec<_>>()
        };
        let expected = [
            of("open.a", &[2, 3, 4, 5]),
            of("open.b.x", &[2, 4, 5]),
            of("open.b.y", &[2, 4, 5]),
            of("open.b.z", &[6]),
        ];
        assert_eq!(came, expected.concat());

        let first = first.as_str().expect("a Cursor");
        let url = format!("http://{}", gateway.client);
        let words = ["subscribe", "open.a", "--from", first, "--count", "4", "--url", &url];
        let shown = printed(&words).await;
        let told: Value =
            serde_json::from_str(shown.lines().next().expect("a line")).expect("JSON");
        assert_eq!(
            (&told["type"], &told["reason"]),
            (&json!("subscribed"), &json!("history_trimmed"))
        );
        assert_eq!(shown.lines().count(), 5, "{shown}");
    });
}

/// `history` prints what is kept, from where it is told, page by page up to its limit, and says from
/// where to go on.
#[test]
fn history_is_printed() {
    run(async {
        let settings = Settings::open()
            .line("namespaces: {open: {history: {messages: 50}}}")
            .limit("replay_part_items: 10");
        let gateway = Gateway::start(settings).await;
        let url = format!("http://{}", gateway.client);
        for n in 0..30 {
            assert_eq!(gateway.publish("open.a", n.to_string()).await.status(), 200);
        }
        let numbers = |shown: &str| -> Vec<u64> {
            let number = |line: &str| {
                serde_json::from_str::<Value>(line).expect("JSON")["data"].as_u64().expect("one")
            };
            shown.lines().map(number).collect()
        };
        let ask = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let url = url.clone();
            async move {
                let mut all = vec!["history", "open.a", "--url", &url];
                all.extend(words.iter().map(String::as_str));
                tidegate(&all).await
            }
        };
        let all = ask(&[]).await;
        assert_eq!((all.code, all.stderr.as_str()), (Some(0), ""));
        assert_eq!(numbers(&all.stdout), (0..30).collect::<Vec<_>>());
        assert_eq!(numbers(&ask(&["--from", "3"]).await.stdout), [27, 28, 29]);
        let some = ask(&["--limit", "25"]).await;
        assert_eq!((some.code, numbers(&some.stdout)), (Some(0), (0..25).collect()));
        let next = some.stderr.trim().strip_prefix("there is more: --from ").expect("where");
        assert_eq!(numbers(&ask(&["--from", next]).await.stdout), (25..30).collect::<Vec<_>>());
        let line: Value =
            serde_json::from_str(some.stdout.lines().nth(7).expect("it")).expect("JSON");
        let time = line["time"].as_str().expect("a time");
        let since = numbers(&ask(&["--from", time]).await.stdout);
        assert!(since.contains(&7) && since.ends_with(&[28, 29]), "{since:?}");
        let nothing = tidegate(&["history", "open.none", "--url", &url]).await;
        assert_eq!((nothing.code, nothing.stdout.as_str()), (Some(0), ""));

        let nobody = format!("http://{}", free_address());
        for (words, code, told) in [
            (&["shut.a", "--url", &url][..], 77, "unauthenticated: "),
            (&["open.a", "--from", "aaaaaa-1", "--url", &url], 1, "invalid_cursor: "),
            (&["open.a", "--from", "tomorrow", "--url", &url], 64, "tomorrow"),
            (&["open.*", "--url", &url], 64, "open.*"),
            (&["open.a", "--url", &nobody], 69, "cannot be reached"),
        ] {
            let ended = tidegate(&[&["history"], words].concat()).await;
            assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{ended:?}");
            assert!(ended.stderr.contains(told), "{words:?}: {ended:?}");
        }
    });
}

/// Who may not, and who finds nobody, hears it at once.
#[test]
fn subscribe_ends_where_no_try_can_mend() {
    run(async {
        let gateway = Gateway::start(Settings::open()).await;
        let url = format!("http://{}", gateway.client);
        let nobody = format!("http://{}", free_address());
        let token = user();
        for (words, code, told) in [
            (&["shut.>", "--url", &url][..], 77, "unauthenticated: "),
            (&["shut.>", "--url", &url, "--token", &token], 77, "forbidden: "),
            (&["open.>", "--url", &url, "--token", "bad"], 77, "unauthenticated"),
            (&["open.>", "--url", &nobody], 69, "cannot be reached"),
            (&["*.a", "--url", &url], 64, "*.a"),
        ] {
            let ended = tidegate(&[&["subscribe"], words].concat()).await;
            assert_eq!((ended.code, ended.stdout.as_str()), (Some(code), ""), "{ended:?}");
            assert!(ended.stderr.contains(told), "{words:?}: {ended:?}");
        }
    });
}

/// The rest of the printed line that begins with this word.
fn line(shown: &str, word: &str) -> String {
    let rest = shown.lines().find_map(|line| {
        let rest = line.trim_start().strip_prefix(word)?;
        rest.starts_with(' ').then(|| rest.trim().to_owned())
    });
    rest.unwrap_or_else(|| panic!("no line {word}: {shown}"))
}

/// Runs a line as it would be typed.
async fn typed(line: &str) -> String {
    let ended = Program::start("/bin/sh", &["-c", line], &[], "").ended().await;
    assert_eq!(ended.code, Some(0), "{line}: {ended:?}");
    ended.stdout
}

/// `dev`, started by a path that a shell would cut in two, on a free port; and what it printed.
async fn dev(words: &[&str], set: &[(&str, &str)]) -> (Program, SocketAddr, String, TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("it's here");
    std::os::unix::fs::symlink(PROGRAM, &program).expect("a link");
    let address = free_address();
    let listen = address.to_string();
    let words = [&["dev", "--listen", &listen], words].concat();
    let dev = Program::start(&program, &words, set, "");
    until("dev has printed its lines", 2 * SOON, || async { dev.stdout().contains("in memory") })
        .await;
    let shown = dev.stdout();
    (dev, address, shown, folder)
}

/// Every line that `dev` prints does what it says, typed as it stands; and where the management
/// port is taken, a free one is printed.
#[test]
fn the_lines_that_dev_prints_work() {
    run(async {
        // Somebody has it: we, or whoever was faster.
        let _taken = TcpListener::bind("127.0.0.1:9090");
        let (mut dev, address, shown, _folder) = dev(&[], &[]).await;
        assert!(shown.contains("DEVELOPMENT MODE") && shown.contains("this machine only"));
        let health = line(&shown, "health");
        assert!(!health.contains(":9090/"), "{health}");
        assert_eq!(typed(&health).await, r#"{"ok":true,"why":[]}"#);

        let watch = line(&shown, "watch");
        let seen = typed(&format!("{watch} --count 3")).await;
        assert_eq!(seen.lines().count(), 3, "{seen}");
        for line in seen.lines() {
            let message: Value = serde_json::from_str(line).expect("JSON");
            assert!(message["topic"].as_str().is_some_and(|topic| topic.starts_with("demo.")));
        }

        let history = line(&shown, "history");
        until("the counter has come to five", SOON, || async {
            typed(&history).await.lines().count() == 5
        })
        .await;
        let history = typed(&history).await;
        let counted =
            |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["data"]["n"].as_u64();
        let counts: Vec<u64> = history.lines().filter_map(counted).collect();
        let last = counts.last().expect("five");
        assert_eq!(counts, (last - 4..=*last).collect::<Vec<_>>());
        let values = typed(&line(&shown, "values")).await;
        let values: Value = serde_json::from_str(&values).expect("JSON");
        assert!(values["items"].as_array().is_some_and(|items| items.len() >= 5), "{values}");

        let browser = line(&shown, "browser");
        let url = browser.split('"').nth(1).expect("an address");
        let port = address.port();
        let (host, query) = url.split_once("/v1/connect?").expect("a query");
        assert_eq!(host, format!("ws://localhost:{port}"));
        let mut browser = Browser::connect(address, query).await;
        assert_eq!(browser.next().await["type"], "connected");
        let answer = typed(&line(&shown, "publish")).await;
        let answer: Value = serde_json::from_str(&answer).expect("JSON");
        let message = loop {
            let message = browser.message().await;
            if message["topic"] == "demo.hello" {
                break message;
            }
        };
        assert_eq!((&message["id"], &message["data"]), (&answer["id"], &json!({"v": 42})));

        let page = typed(&format!("curl -s {}", line(&shown, "page"))).await;
        assert!(page.starts_with("<!doctype html>"), "{page}");
        let info = answers(address, "/dev/info").await.expect("JSON");
        assert!(watch.starts_with(info["command"].as_str().expect("a text")));
        let (token, url) = (line(&shown, "token"), format!("http://{address}"));
        assert_eq!(info["token"], token);
        let orders = ["publish", "orders.new", "1", "--url", &url];
        assert_eq!(tidegate(&orders).await.code, Some(77));
        printed(&[&orders[..], &["--token", &token]].concat()).await;
        assert_eq!(dev.stop().await.code, Some(0));
    });
}

/// The shell blocks of the README do what it says, typed as they stand, but for what they build and
/// for the ports.
#[test]
fn the_lines_of_the_readme_work() {
    run(async {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        let readme = fs::read_to_string(readme).expect("a README");
        let blocks = readme.split("```sh\n").skip(1);
        let blocks: Vec<&str> = blocks.filter_map(|rest| rest.split("```").next()).collect();
        let block = |word: &str| -> &str {
            let found = blocks.iter().find(|block| block.contains(word));
            found.unwrap_or_else(|| panic!("no block with {word}"))
        };

        let (_dev, demo, _, folder) = dev(&[], &[]).await;
        let folder = folder.path();
        let curl = block("curl -X DELETE").replace("localhost:8080", &demo.to_string());
        assert_eq!(typed(&curl).await.matches(r#""topic":"demo.hello""#).count(), 2);
        let curl = block("demo.counter/messages").replace("localhost:8080", &demo.to_string());
        let read = typed(&curl).await;
        assert!(
            read.starts_with(r#"{"topic":"demo.counter","items":[{"type":"message","#),
            "{read}"
        );
        assert!(read.contains(r#"}{"items":[{"type":"message","#), "{read}");

        fs::create_dir_all(folder.join("target/release")).expect("folders");
        std::os::unix::fs::symlink(PROGRAM, folder.join("target/release/tidegate"))
            .expect("a link");
        let (client, management) = (free_address(), free_address());
        let here = |lines: &str| {
            let mut lines = lines.replace("cargo build --release\n", "");
            for (port, address) in [(8090, client), (9091, management)] {
                for host in ["127.0.0.1", "localhost"] {
                    lines = lines.replace(&format!("{host}:{port}"), &address.to_string());
                }
            }
            format!("cd '{}'\n{lines}", folder.display())
        };
        let lines = block("tidegate serve").trim_end();
        let (before, serve) = lines.rsplit_once('\n').expect("several lines");
        assert!(serve.starts_with("target/release/tidegate serve "), "{serve}");
        let shown = typed(&here(before)).await;
        assert!(shown.contains(r#""subscribe":["news.>"]"#), "{shown}");
        let serve = here(&format!("exec {serve}"));
        let _node = Program::start("/bin/sh", &["-c", &serve], &[], "");
        until_ready(management).await;
        let shown = typed(&here(block("TIDEGATE_URL"))).await;
        assert!(shown.contains(r#""data":{"id":1}"#), "{shown}");
        assert!(shown.contains(r#"{"ok":true,"why":[]}"#), "{shown}");
    });
}

/// A taken port for clients is told in words that name the flag.
#[test]
fn dev_says_that_its_port_is_taken() {
    run(async {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = taken.local_addr().expect("an address").to_string();
        let ended = tidegate(&["dev", "--listen", &address]).await;
        assert_eq!(ended.code, Some(64), "{ended:?}");
        assert!(ended.stderr.contains(&address) && ended.stderr.contains("--listen"), "{ended:?}");
    });
}

/// A throwaway key does not belong into a cluster, unless somebody insists.
#[test]
fn dev_does_not_start_in_kubernetes_unless_forced() {
    run(async {
        let set = [("KUBERNETES_SERVICE_HOST", "10.0.0.1")];
        let ended = Program::start(PROGRAM, &["dev"], &set, "").ended().await;
        assert_eq!(ended.code, Some(64), "{ended:?}");
        assert!(ended.stderr.contains("--force"), "{ended:?}");
        let (_dev, address, _, _folder) = dev(&["--force"], &set).await;
        let answer = answers(address, "/dev/info").await.expect("it runs");
        assert_eq!(answer["version"], env!("CARGO_PKG_VERSION"));
    });
}

/// `check --live` takes one Publication through a gateway that runs, and ends with another number
/// where it is refused and where nobody is.
#[test]
fn a_running_gateway_can_be_checked() {
    run(async {
        let gateway = Gateway::start(Settings::open()).await;
        let url = format!("http://{}", gateway.client);
        let check =
            async |more: &[&str]| tidegate(&[&["check", "--live", &url], more].concat()).await;

        let passed = check(&["--topic", "open.check"]).await;
        assert_eq!(passed.code, Some(0), "{passed:?}");
        let steps = passed.stdout.lines().map(|line| {
            let line: Value = serde_json::from_str(line).expect("JSON");
            assert!(line["ms"].is_number(), "{line}");
            line["step"].as_str().expect("a step").to_owned()
        });
        let expected = ["answer", "connect", "subscribe", "publish", "receive"];
        assert_eq!(steps.collect::<Vec<_>>(), expected);

        // Nobody but a Token's holder may here; this one may listen, and not publish.
        let refused = check(&[]).await;
        assert_eq!(refused.code, Some(77), "{refused:?}");
        let grants = Grants { subscribe: vec!["demo.>".to_owned()], ..Grants::default() };
        let half = check(&["--token", &Gateway::token("ana", &grants)]).await;
        assert_eq!(half.code, Some(77), "{half:?}");
        assert!(half.stderr.contains("forbidden"), "{half:?}");
        assert_eq!(half.stdout.lines().count(), 3, "{half:?}");
        let bad = check(&["--token", "none"]).await;
        assert_eq!(bad.code, Some(77), "{bad:?}");

        // A Token may stand in a file, or be made for this once; and the door may be tried without.
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name).display().to_string();
        let grants = Grants { publish: vec!["demo.>".to_owned()], ..grants };
        fs::write(at("token"), Gateway::token("ana", &grants) + "\n").expect("a file");
        fs::write(at("secret"), SECRET).expect("a file");
        let issuer = format!("{{algorithm: HS256, key_file: {:?}}}", at("secret"));
        fs::write(at("config"), format!("auth: {{issuers: [{issuer}]}}")).expect("a file");
        let sign = ["--sign", "--config", &at("config")];
        for more in [&["--token-file", &at("token")][..], &sign] {
            let passed = check(more).await;
            assert_eq!(passed.code, Some(0), "{passed:?}");
        }
        let closed = check(&["--closed"]).await;
        assert_eq!(closed.code, Some(0), "{closed:?}");
        assert!(closed.stdout.contains("refused"), "{closed:?}");
        let open = check(&["--closed", "--topic", "open.check"]).await;
        assert_eq!(open.code, Some(1), "{open:?}");

        let nobody = format!("http://{}", free_address());
        let alone = tidegate(&["check", "--live", &nobody]).await;
        assert_eq!(alone.code, Some(69), "{alone:?}");
        // The management port is none for clients.
        let other = format!("http://{}", gateway.management);
        let wrong = tidegate(&["check", "--live", &other]).await;
        assert_eq!(wrong.code, Some(1), "{wrong:?}");
    });
}
