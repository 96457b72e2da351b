//! Shows each rule biting on a few bad lines, and letting the good ones beside them pass.

use super::{FLOORS, HOMES, Tidy};

/// The failures of some files, each with its `//!` head in line 1, so that code begins in line 2.
fn failures(files: &[(&str, &str)]) -> Vec<String> {
    let headed = |(path, text): &(&str, &str)| match path.ends_with(".rs") {
        true => (path.to_string(), format!("//! Head.\n{text}")),
        false => (path.to_string(), text.to_string()),
    };
    let tidy = Tidy::check(&files.iter().map(headed).collect());
    let line = |(path, line, rule)| format!("{path}:{line}: {rule}");
    tidy.failures.into_iter().map(line).collect()
}

/// One failure in that line, and one only, whose rule holds these words.
fn bites(path: &str, text: &str, line: usize, rule: &str) {
    let found = failures(&[(path, text)]);
    let place = format!("{path}:{line}: ");
    let right = found.len() == 1 && found[0].starts_with(&place) && found[0].contains(rule);
    assert!(right, "{path}: {text}\nexpected {place}{rule}\nfound {found:#?}");
}

fn passes(path: &str, text: &str) {
    let found = failures(&[(path, text)]);
    assert!(found.is_empty(), "{path}: {text}\nfound {found:#?}");
}

/// Rule 1, all pairs: an import passes exactly as the picture in `architecture.md` 3 says.
#[test]
fn floors_allow_what_the_architecture_allows() {
    let modules: Vec<_> = FLOORS
        .iter()
        .flat_map(|(floor, names)| names.split(' ').map(move |name| (*floor, name)))
        .filter(|(_, name)| *name != "lib" && *name != "main")
        .collect();
    assert_eq!(modules.len(), 20);
    for (floor, from) in &modules {
        for (below, to) in &modules {
            let sideways =
                ["protocol topic", "protocol publication", "namespace topic", "namespace measure"];
            let listed = sideways.contains(&format!("{from} {to}").as_str())
                || (*from, *to) == ("publication", "topic");
            let text = format!("use crate::{to}::Thing;");
            match *floor == 5 || floor > below || from == to || listed {
                true => passes(&format!("src/{from}.rs"), &text),
                false => bites(&format!("src/{from}/deep.rs"), &text, 2, "imports go down"),
            }
        }
    }
}

/// Rule 1, all spellings of a way up.
#[test]
fn no_spelling_hides_an_import() {
    for text in [
        "use crate::shard::Shard;",
        "use crate::shard;",
        "pub(crate) use crate::{shard as below};",
        "use crate::{topic::Topic, shard::{outbox::*}, protocol};",
        "use {crate::topic::Topic, crate::shard::Shard};",
        "use super::super::shard::Shard;",
        "use self::super::super::{shard::Shard};",
        "fn f() { let x = crate::shard::now(); }",
        "struct A(crate::shard::Shard);",
        "fn f() -> Option<crate::shard::Shard> { None }",
        "impl crate::shard::Inbox for A {}",
        "fn f() { log!(a, { crate::shard::now() }); }",
        "macro_rules! m { () => { $crate::shard::now() }; }",
        "#[derive(crate::shard::Derive)] struct A;",
        "pub(in crate::shard) struct A;",
        "fn f() { super::super::shard::now() }",
        "mod inner { use super::super::super::shard::Shard; }",
        "mod inner { fn f() { use super::super::super::shard::Shard; } }",
        "#[cfg(test)] mod tests { use crate::shard::Shard; }",
        "use crate::r#shard::Shard;",
    ] {
        bites("src/session/limits.rs", text, 2, "not from `session` to `crate::shard");
    }
    bites("src/feed/tests.rs", "\nuse crate::shard::Shard;", 3, "imports go down");
    bites("src/topic.rs", "use super::namespace::Namespace;", 2, "`topic` to `crate::namespace");
    bites("src/feed/mod.rs", "use super::session::Session;", 2, "`feed` to `crate::session");
    passes("src/main.rs", "use tidegate::cli;\nfn main() { tidegate::cli::run() }");
    bites("src/main.rs", "use tidegate::*;", 2, "whole crate");
}

/// Rule 1: who imports the root, or stands on no floor, could see everything.
#[test]
fn nobody_stands_outside_the_floors() {
    let whole = "whole crate";
    for text in ["use crate::*;", "use crate as all;", "use crate::{self as all};"] {
        bites("src/feed/mod.rs", text, 2, whole);
    }
    bites("src/feed/ring.rs", "use super::super::*;", 2, whole);
    bites("src/topic.rs", "use super::*;", 2, whole);
    bites("src/helpers/mod.rs", "", 1, "a floor lists");
    bites("src/bin/other.rs", "", 1, "a floor lists");
    bites("src/feed/mod.rs", "use crate::helpers::Thing;", 2, "`feed` to `crate::helpers");
}

/// Rule 1: what stays inside a module, or merely looks like a path, passes.
#[test]
fn neighbours_inside_a_module_are_free() {
    passes("src/feed/ring.rs", "use super::{attach::Attach, *};\nuse crate::feed::repair;");
    passes("src/feed/mod.rs", "mod tests { use super::*; fn f() { self::a(); super::b() } }");
    passes("src/topic/tests.rs", "use super::*;\npub(crate) fn f(self) {}\npub(super) struct A;");
    passes(
        "src/topic.rs",
        "/// See [crate::shard::Shard].\n// crate::shard\nconst A: &str = \"\";",
    );
    passes("src/feed/mod.rs", "fn f<'a>() -> impl Sized + use<'a> { clap; crate::bus::f() }");
}

/// Rule 2, each crate of the table: alone at home, wherever else it is named.
#[test]
fn each_crate_has_its_home() {
    for (crates, homes) in HOMES {
        for name in crates.split(' ') {
            let text = format!("use {name}::Thing;");
            bites("src/presence/mod.rs", &text, 2, "is only named in");
            bites("src/presence/mod.rs", &format!("fn f() {{ {name}::thing() }}"), 2, homes);
            bites("src/presence/mod.rs", &format!("#[{name}::test] fn f() {{}}"), 2, homes);
            passes("src/presence/tests.rs", &text);
            passes("src/presence/mod.rs", &format!("#[cfg(test)] mod tests {{ {text} }}"));
            passes("src/presence/mod.rs", &format!("#[cfg(all(test, unix))] {text}"));
            for home in homes.split(' ') {
                passes(&format!("src/{}.rs", home.replace("::", "/")), &text);
            }
        }
    }
    for text in [
        "use async_nats as n;",
        "use {async_nats::Client};",
        "use ::async_nats::Client;",
        "extern crate async_nats as nats;",
        "fn f() { select!(x = async_nats::connect() => {}) }",
        "#[cfg(test)] use async_nats::Client;\nuse async_nats::Other;",
        "#[cfg(any(test, unix))] mod tests { use async_nats::Client; }",
        "#[cfg(not(test))] mod tests { use async_nats::Client; }",
    ] {
        let line = 2 + text.matches('\n').count();
        bites("src/bus/memory.rs", text, line, "`async_nats` is only named in: bus::nats");
    }
    bites("src/feed/mod.rs", "use utoipa::{path, ToSchema};", 2, "`utoipa` is only named in");
}

/// Rule 2: `config` is a crate and a module of ours; only the crate has a home.
#[test]
fn a_module_is_not_taken_for_a_crate() {
    passes("src/node.rs", "use crate::config;\nfn f() { config::Config::read() }");
    passes("src/node.rs", "use crate::{config::{self, Config}};\nfn f(config: config::Config) {}");
    passes("src/http/mod.rs", "mod config;\nuse config::Config;");
    passes("src/node.rs", "fn f() { self.config::<u8>(); config.open(); config(1) }");
    bites("src/node.rs", "use config::{self};", 2, "`config` is only named in: config");
    bites("src/node.rs", "fn f() { config::File::new() }", 2, "`config` is only named in: config");
    let renamed = "use std::collections as config;\nfn f() { config::HashMap::new() }";
    passes("src/node.rs", renamed);
}

/// Rule 2: the pure know no runtime and no log, and a Shard no JSON.
#[test]
fn the_pure_name_no_runtime() {
    for room in
        ["session/mod", "session/limits", "topic", "namespace", "publication", "protocol/json"]
    {
        for name in ["tokio::time", "tokio_util::sync", "tracing::info", "opentelemetry::trace"] {
            let path = format!("src/{room}.rs");
            bites(&path, &format!("use {name}::X;"), 2, "is never named in: session topic");
            bites(&path, &format!("fn f() {{ {name}!(\"x\") }}"), 2, "is never named in");
            passes(&path, &format!("#[cfg(test)] mod tests {{ use {name}::X; }}"));
        }
    }
    bites("src/shard/outbox.rs", "use serde_json::Value;", 2, "`serde_json` is never named in");
    passes("src/protocol/json.rs", "use serde_json::Value;");
    passes("src/feed/mod.rs", "use tokio::time;\nuse tracing::info;");
}

/// Rule 2: a file that only tests include is test code; its floor holds all the same.
#[test]
fn a_file_of_tests_is_test_code() {
    let suite = ("src/bus/suite.rs", "use async_nats::Client;");
    let deep = ("src/bus/suite/deep.rs", "use async_nats::Client;");
    assert!(failures(&[("src/bus/mod.rs", "#[cfg(test)]\nmod suite;"), suite, deep]).is_empty());
    assert_eq!(failures(&[("src/bus/mod.rs", "mod suite;"), suite, deep]).len(), 2);
    let upward = ("src/bus/suite.rs", "use crate::feed::Feed;");
    assert_eq!(failures(&[("src/bus/mod.rs", "#[cfg(test)]\nmod suite;"), upward]).len(), 1);
}

/// Rule 3: heads everywhere, and a map that is only a map.
#[test]
fn files_start_with_their_head() {
    for path in ["src/topic.rs", "tests/vectors.rs", "benches/micro/main.rs"] {
        let text = "/// No head.\nfn f() {}\n//! Late.".to_owned();
        let found = Tidy::check(&[(path.to_owned(), text)].into()).failures;
        assert!(found.iter().any(|failure| failure.2.contains("`//!` head")), "{path}: {found:?}");
    }
    let lib = "src/lib.rs";
    passes(lib, "//! More.\n\npub mod topic;\n/// Words.\npub(crate) mod feed;\nmod shard;");
    passes(lib, "");
    for text in
        ["pub mod a;\npub use topic::Topic;", "mod a;\nmod b { mod c; }", "mod a;\nfn f() {}"]
    {
        bites(lib, text, 3, "documents and `mod` lines only");
    }
    bites(lib, "#![allow(unused)]\nmod a;", 2, "documents and `mod` lines only");
    bites("src/topic.rs", "fn f( {}", 2, "does not parse");
    bites("src/topic.rs", "fn f() {}\nlet x = 1;", 3, "does not parse");
}

/// Rule 4: names.
#[test]
fn types_are_nouns_of_ours() {
    for name in
        ["FeedManager", "Handler", "TopicHelper", "BusService", "Util", "Channel", "Message"]
    {
        for text in [
            format!("struct {name};"),
            format!("mod inner {{ pub enum {name}<T> {{ A(T) }} }}"),
            format!("trait {name} {{}}"),
            format!("type {name} = u8;"),
            format!("macro_rules! m {{ () => {{ struct {name}; }} }}"),
        ] {
            bites("src/feed/mod.rs", &text, 2, &format!("`{name}` is no noun of ours"));
            bites("tests/vectors.rs", &text, 2, "is no noun of ours");
        }
    }
    passes("src/feed/mod.rs", "enum Push { Message }\nimpl Actor for A { type Service = B; }");
    passes("src/feed/mod.rs", "struct Messages;\nstruct Serviced;\nuse prost_types::Message;");
}

/// Rule 4: nothing in a Shard or Session is shared, except the counts.
#[test]
fn shards_share_nothing() {
    for text in [
        "use std::sync::Mutex;",
        "use std::sync::{Arc, RwLock as Lock};",
        "static A: std::sync::OnceLock<u8> = std::sync::OnceLock::new();",
        "use std::sync::atomic::AtomicU64;",
        "struct A(AtomicBool);",
        "fn f() { make!(Mutex) }",
        "use std::sync::mpsc;",
        "use std::sync::{mpsc::{Sender}};",
        "fn f() { std::sync::mpsc::channel() }",
        "#[cfg(test)] mod tests { use std::sync::Mutex; }",
    ] {
        bites("src/shard/wheel.rs", text, 2, "belongs to its thread");
        bites("src/session/mod.rs", text, 2, "belongs to its thread");
        passes("src/shard/counts.rs", text);
        passes("src/feed/mod.rs", text);
    }
    bites("src/shard/mod.rs", "use std::sync;\nfn f() { sync::mpsc::channel() }", 3, "thread");
    passes("src/shard/mod.rs", "use tokio::sync::mpsc;\nfn f() { mpsc::channel(8) }");
}

/// Rule 4: one global.
#[test]
fn only_the_shard_is_thread_local() {
    let text = "thread_local! { static A: u8 = 1 }";
    passes("src/shard/mod.rs", text);
    for path in
        ["src/shard/table.rs", "src/feed/mod.rs", "tests/vectors.rs", "benches/load/main.rs"]
    {
        bites(path, text, 2, "the only `thread_local` is the Shard's");
        bites(path, &text.replace("thread", "std::thread"), 2, "the only `thread_local`");
    }
}

/// Rule 5: what is open has a number.
#[test]
fn open_work_has_an_issue() {
    let open = concat!("// TO", "DO");
    for path in ["src/feed/mod.rs", "tests/vectors.rs", "benches/load/main.rs"] {
        for rest in [" later", ": later", "(ana): later", "(#): later", "(#12) and TO", "(#x)"] {
            let text = format!("fn f() {{}}\n{open}{}", rest.replace("TO", concat!("TO", "DO")));
            bites(path, &text, 3, "names its issue");
        }
        passes(path, &format!("{open}(#12): later"));
    }
}

/// Rule 5: a test waits in the harness's `until`, or does not wait.
#[test]
fn tests_do_not_sleep() {
    let call = "tokio::time::sleep(step).await";
    let until = format!("async fn until() {{ loop {{ if a() {{ }} {call} }} }}");
    let harness = "tests/integration/harness/mod.rs";
    passes(harness, &until);
    passes("tests/vectors.rs", &until);
    passes("src/feed/mod.rs", &format!("async fn f() {{ {call} }}"));
    passes(harness, "use tokio::time::sleep;\nfn f() { a.sleep; sleeper() }");
    bites("tests/integration/main.rs", &until, 2, "a test waits for a condition");
    for text in [
        format!("async fn f() {{ {call} }}"),
        "fn f() { std::thread::sleep(step) }".into(),
        "fn f() { sleep(step) }".into(),
        "fn f() { select! { _ = time::sleep_until(then) => {} } }".into(),
        "fn f() { clock.sleep(step) }".into(),
        format!("async fn until() {{}}\nasync fn f() {{ {call} }}").replace('\n', " "),
        format!("fn f() {{ fn until() {{}} {call} }}"),
    ] {
        bites(harness, &text, 2, "a test waits for a condition");
        bites("tests/integration/outage.rs", &text, 2, "a test waits for a condition");
    }
}

/// Rule 6: every code, Reply and Push stands between backticks in the specification.
#[test]
fn the_specification_explains_every_word() {
    let error = "fn code() { match a { A => \"too_big\", _ => \"forbidden\" } }";
    let tests = "#[cfg(test)] mod tests { const A: &str = \"of_a_test\"; }";
    let words = "#[error(\"of_serde\")] const A: &[&str] = &[\"Two words\", \"\", \"Upper\"];";
    let frame = "enum Reply { Subscribed { topic: Topic }, #[serde(rename = \"pong\")] Other }\n\
        enum Push { #[serde(skip)] GoingAway(u8) } enum Inner { NotSpoken }";
    let sources = [
        ("src/protocol/error.rs", [error, tests, words].join("\n")),
        ("src/protocol/close.rs", "const TABLE: [(u16, &str); 1] = [(1012, \"draining\")];".into()),
        ("src/protocol/frame.rs", frame.into()),
        ("src/protocol/json.rs", "const A: &str = \"not_asked\";\nenum Push { NotAsked }".into()),
    ];
    let check = |spec: &str| {
        let mut files: Vec<_> = sources.iter().map(|(path, text)| (*path, text.as_str())).collect();
        files.push(("proto/README.md", spec));
        failures(&files)
    };
    let whole = "`too_big` `forbidden` and `draining`\n| `subscribed pong` | `{going_away, x}` |";
    assert!(check(whole).is_empty(), "{:?}", check(whole));
    for word in ["too_big", "forbidden", "draining", "subscribed", "pong", "going_away"] {
        for other in [whole.replace(word, "x"), whole.replace(word, &format!("x` {word} `y"))] {
            let found = check(&format!("{other}\n```text\n`{word}`\n```\n`{word}s`"));
            assert!(found.len() == 1 && found[0].contains(&format!("`{word}`")), "{found:?}");
        }
    }
    assert_eq!(check("").len(), 6);
    let by_serde =
        "#[serde(rename_all = \"snake_case\")] enum Code { TooBig }\nenum Kind { Other }";
    bites("src/protocol/error.rs", by_serde, 2, "explains `too_big`");
}

/// Rule 6: a reference that promises every setting keeps its word.
#[test]
fn the_references_hold_every_setting() {
    let config = "/// Words.\n#[derive(Debug, Deserialize)]\npub struct FeedConfig { pub linger: Duration, pub(crate) ring_bytes: u64, \
        own: u8, #[serde(rename = \"max\")] pub most: u8, #[serde(flatten)] pub more: More }";
    let other = "pub struct Config { pub nothing: u8 }\n#[derive(Deserialize)] pub struct Other { pub a: u8 }\n\
        #[cfg(test)] mod a { #[derive(Deserialize)] struct Config { pub b: u8 } }";
    let check = |readme: &str, reference: &str| {
        let documents = [("README.md", readme), ("docs/configuration.md", reference)];
        let sources = [("src/feed/mod.rs", config), ("src/shard/mod.rs", other)];
        failures(&[&sources[..], &documents].concat())
    };
    let marker = "<!-- settings -->";
    assert!(check("nothing is promised", "here neither: linger").is_empty());
    let keys = format!("{marker}\n```yaml\nlinger: 5s\nring_bytes: 1\nmax: 2\n```");
    assert!(check(&keys, "").is_empty() && check("", &keys).is_empty());
    for key in ["linger", "ring_bytes", "max"] {
        let found = check("", &keys.replace(key, "x"));
        assert!(
            found.len() == 1 && found[0].contains(&format!("the setting `{key}`")),
            "{found:?}"
        );
        assert!(found[0].starts_with("src/feed/mod.rs:4: "), "{found:?}");
    }
    assert_eq!(check(marker, "").len(), 3);
}

/// The lengths are counted, and fail nothing.
#[test]
fn lengths_are_only_told() {
    let text = format!("//! Head.\nfn long() {{\n{}}}\nfn short() {{}}\n", "a();\n".repeat(2000));
    let tidy = Tidy::check(&[("src/topic.rs".to_owned(), text)].into());
    assert!(tidy.failures.is_empty());
    assert_eq!(tidy.lengths[0], [(2004, "src/topic.rs".to_owned())]);
    let functions = [(2002, "src/topic.rs:2 long".into()), (1, "src/topic.rs:2004 short".into())];
    assert_eq!(tidy.lengths[1], functions);
}
