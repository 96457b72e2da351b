//! The rules of `style.md` that a machine can keep: floors, homes, heads, names, waits, documents.
//!
//! Nobody keeps floors by good will, so this test reads every source and fails with file, line and
//! the rule in words. It judges pairs of path and text, so that `tidy/tests.rs` can show each rule
//! biting on a bad line. `tidy/source.rs` reads Rust; types and foreign macros stay unseen.
//!
//! LAW: no exceptions. Who needs one changes a table below, and says why.

#[path = "tidy/source.rs"]
mod source;
#[cfg(test)]
#[path = "tidy/tests.rs"]
mod tests;

use source::{Name, Source, collect, explained, words};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::{io, io::Write as _, path::Path};

/// Rule 1: a module imports only from lower floors (`architecture.md` 3).
const FLOORS: [(u8, &str); 6] = [
    (5, "main lib cli node config telemetry"), // assemble; may see everything, each other too
    (4, "http"),                               // what a request is, and only that
    (3, "shard"),                              // sockets and threads; no NATS, no JSON
    (2, "admission session feed publisher presence control"), // what a gateway does
    (1, "bus auth span"),                      // doors, which never see each other
    (0, "topic namespace publication protocol measure"), // plain values and functions
];
/// Rule 1: who sees whom on one floor.
const SIDEWAYS: [(&str, &str); 5] = [
    ("protocol", "topic"),       // Frames carry Topics
    ("protocol", "publication"), // an Envelope is a Publication with its encodings
    ("namespace", "topic"),      // a Namespace is the first segment of a Topic
    ("namespace", "measure"),    // retention is written in sizes and spans
    ("publication", "topic"),    // a Publication is on one Topic
];
/// Rule 2: external crates, and the only modules that name them; each can be replaced there.
const HOMES: [(&str, &str); 17] = [
    ("actix_web actix_ws utoipa::path utoipa_actix_web", "http"), // routes and handshakes
    ("actix_http", "http shard::socket"), // the socket that is taken over speaks its codec
    ("actix_server", "http node"),        // started and drained with the Node
    ("async_nats", "bus::nats"),          // everyone else speaks to a Bus
    ("jsonwebtoken arc_swap", "auth"),    // keys, and their exchange while they are read
    ("reqwest", "auth cli"),              // JWKS, and the client commands
    ("tokio_tungstenite", "cli"),         // a node is never a WebSocket client
    ("aws_lc_rs", "auth bus::nats publisher main"), // signatures, Epochs, ids, and the one backend
    ("governor", "admission session::limits publisher"), // where limits are counted
    ("prost", "protocol"),                // an encoding beside JSON
    ("tikv_jemallocator", "main"), // the program's allocator; who embeds rooms brings their own
    ("clap", "main cli"),          // arguments end where commands begin
    ("config", "config"),          // modules own their Config; layers meet once
    ("sysinfo", "cli::dev"),       // what the demo page charts
    ("opentelemetry_sdk opentelemetry_otlp opentelemetry_prometheus prometheus", "telemetry"),
    ("opentelemetry_appender_tracing", "telemetry"),
    ("tracing_subscriber", "telemetry"), // libraries write logs; one place reads them
];
/// Rule 2: external crates, and modules that never name them. A Shard hands on bytes encoded once.
/// The pure know no clock, no I/O and no log: who wants one there lacks an Input or an Output.
const BARRED: [(&str, &str); 2] = [
    ("serde_json", "shard"),
    (
        "tokio tokio_util tracing opentelemetry",
        "session topic namespace publication protocol measure",
    ),
];
/// Rule 4: endings of type names that say nothing, and names that everybody uses already.
const EMPTY: [&str; 5] = ["Manager", "Handler", "Helper", "Service", "Util"];
const TAKEN: [&str; 2] = ["Channel", "Message"];
/// Rule 4: what is in a Shard belongs to its thread. Its counts have one writer and many readers;
/// the only global holds a thread's own Shard.
const LOCKS: [&str; 6] = ["Mutex", "RwLock", "OnceLock", "LazyLock", "Condvar", "atomic"];
const UNSHARED: [&str; 2] = ["src/shard/", "src/session/"];
const COUNTS: &str = "src/shard/counts.rs";
const GLOBAL: &str = "src/shard/mod.rs";
/// Rule 5: the one function that waits for time, and its home in the integration tests.
const WAIT: (&str, &str) = ("until", "tests/integration/harness/");
/// Rule 6: what a stranger reads, the sources whose every word it explains, and the references that
/// promise every setting by this marker.
const SPEC: &str = "proto/README.md";
const CODES: [&str; 2] = ["src/protocol/error.rs", "src/protocol/close.rs"];
const FRAMES: (&str, [&str; 2]) = ("src/protocol/frame.rs", ["Reply", "Push"]);
const REFERENCES: [&str; 2] = ["README.md", "docs/configuration.md"];
const MARKER: &str = "<!-- settings -->";

/// Whether a list of the tables holds this module or crate, or what it lies in.
fn listed(list: &str, path: &[String]) -> bool {
    let path = path.join("::");
    let holds = |rest: &str| rest.is_empty() || rest.starts_with("::");
    list.split(' ').any(|entry| path.strip_prefix(entry).is_some_and(holds))
}

fn floor(module: &[String]) -> Option<u8> {
    let on = |(floor, modules)| listed(modules, module).then_some(floor);
    FLOORS.into_iter().find_map(on)
}

/// What the sources fail on, and the lengths of files and functions, which are only printed.
#[derive(Default)]
struct Tidy {
    failures: BTreeSet<(String, usize, String)>,
    lengths: [Vec<(usize, String)>; 2],
}

impl Tidy {
    /// Judges texts by their paths.
    fn check(files: &BTreeMap<String, String>) -> Self {
        let mut tidy = Self::default();
        let mut sources = vec![];
        for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".rs")) {
            tidy.text(path, text);
            match Source::read(path, text) {
                Ok(source) => sources.push(source),
                Err((fault, line)) => tidy.fail(path, line, format!("it does not parse: {fault}")),
            }
        }
        let tests = Vec::from_iter(sources.iter().flat_map(|source| &source.test_modules));
        let spec = explained(files.get(SPEC).map_or("", String::as_str));
        let promise =
            |(path, text): &(_, &String)| REFERENCES.contains(path) && text.contains(MARKER);
        let complete = files.iter().map(|(path, text)| (path.as_str(), text)).filter(promise);
        let known = complete.flat_map(|(_, text)| words(text)).collect();
        for source in &sources {
            tidy.declarations(source);
            tidy.documents(source, &spec, &known);
            let test = tests.iter().any(|test| source.module.starts_with(test));
            for name in &source.names {
                if source.path.starts_with("src/") {
                    tidy.import(source, name);
                    tidy.external(source, name, test || name.scope.test);
                }
                tidy.word(source, name);
            }
        }
        tidy
    }

    fn fail(&mut self, path: &str, line: usize, rule: impl Into<String>) {
        self.failures.insert((path.into(), line, rule.into()));
    }

    /// Rules 3 and 5, as far as any text could break them.
    fn text(&mut self, path: &str, text: &str) {
        self.lengths[0].push((text.lines().count(), path.into()));
        if !text.starts_with("//!") {
            self.fail(path, 1, "a file starts with its `//!` head");
        }
        let numbered = |rest: &str| {
            let number = rest.strip_prefix("(#").unwrap_or_default().split(')').next();
            number.is_some_and(|number| number.parse::<u32>().is_ok())
        };
        for (at, line) in text.lines().enumerate() {
            if !line.split(concat!("TO", "DO")).skip(1).all(numbered) {
                self.fail(path, at + 1, "what is open names its issue, as in `(#12)`");
            }
        }
    }

    /// Rule 1 for files, rule 3 for `lib.rs`, rule 4 for types.
    fn declarations(&mut self, source: &Source) {
        let path = source.path.as_str();
        if path.starts_with("src/") && floor(&source.module).is_none() {
            self.fail(path, 1, "a file in `src/` is of a module that a floor lists");
        }
        if let (Some(line), "src/lib.rs") = (source.code_from, path) {
            self.fail(path, line, "`lib.rs` holds documents and `mod` lines only");
        }
        for (name, line) in &source.types {
            let taken = TAKEN.contains(&name.as_str());
            if taken || EMPTY.iter().any(|ending| name.ends_with(ending)) {
                self.fail(path, *line, format!("`{name}` is no noun of ours"));
            }
        }
        let place = |(name, line, length): &_| (*length, format!("{path}:{line} {name}"));
        self.lengths[1].extend(source.functions.iter().map(place));
    }

    /// Rule 1.
    fn import(&mut self, source: &Source, name: &Name) {
        let Some(target) = name.own_path() else {
            return;
        };
        let own = &source.module[0];
        let rule = match (target.first(), floor(&source.module), floor(&target)) {
            (None, ..) if name.imported => "who imports the whole crate hides its floors".into(),
            (None, ..) | (_, Some(5), _) => return,
            (Some(to), ..) if own == to || SIDEWAYS.contains(&(own, to)) => return,
            (_, from, to) if from > to && to.is_some() => return,
            _ => format!("imports go down, or sideways where listed: not from `{own}` to"),
        };
        let rule = format!("{rule} `crate::{}`", target.join("::"));
        self.fail(&source.path, name.line, rule);
    }

    /// Rule 2; test code may name any crate.
    fn external(&mut self, source: &Source, name: &Name, test: bool) {
        if test || name.path.len() < 2 && !name.imported {
            return;
        }
        let outer = source.outer_path(name);
        let homes = HOMES.map(|(crates, homes)| (crates, homes, true, "only"));
        let barred = BARRED.map(|(crates, rooms)| (crates, rooms, false, "never"));
        for (crates, rooms, inside, when) in homes.into_iter().chain(barred) {
            if listed(crates, &outer) && listed(rooms, &source.module) != inside {
                let rule = format!("`{}` is {when} named in: {rooms}", outer[0]);
                self.fail(&source.path, name.line, rule);
            }
        }
    }

    /// Rules 4 and 5 for single words.
    fn word(&mut self, source: &Source, name: &Name) {
        let path = source.path.as_str();
        let last = name.path.last().map_or("", String::as_str);
        let is_lock = |word: &&str| word.starts_with("Atomic") || LOCKS.contains(word);
        let is_channel = || listed("std::sync::mpsc", &source.outer_path(name));
        let lock = name.path.iter().map(String::as_str).find(is_lock);
        if UNSHARED.iter().any(|room| path.starts_with(room) && path != COUNTS)
            && let Some(lock) = lock.or_else(|| is_channel().then_some("std::sync::mpsc"))
        {
            let rule = "what is in a Shard or Session belongs to its thread, without";
            self.fail(path, name.line, format!("{rule} `{lock}`"));
        }
        if last == "thread_local" && path != GLOBAL {
            self.fail(path, name.line, "the only `thread_local` is the Shard's");
        }
        let at_home = !path.starts_with("tests/integration/") || path.starts_with(WAIT.1);
        let sleeps = name.called && (last == "sleep" || last == "sleep_until");
        if sleeps && path.starts_with("tests/") && !(at_home && name.scope.is_in(WAIT.0)) {
            let rule = "a test waits for a condition: it sleeps only in the harness's `until`";
            self.fail(path, name.line, rule);
        }
    }

    /// Rule 6; no setting is `known` while no reference promises any.
    fn documents(&mut self, source: &Source, spec: &HashSet<&str>, known: &HashSet<&str>) {
        let path = source.path.as_str();
        let codes = source.codes.iter().filter(|_| CODES.contains(&path));
        let frames = source.variants.iter().filter(|(of, by_serde, _)| {
            let is_code = CODES.contains(&path) && *by_serde;
            is_code || path == FRAMES.0 && FRAMES.1.contains(&of.as_str())
        });
        for (word, line) in codes.chain(frames.map(|(.., word)| word)) {
            if !spec.contains(word.as_str()) {
                self.fail(path, *line, format!("{SPEC} explains `{word}`"));
            }
        }
        for (key, line) in source.settings.iter().filter(|_| path.starts_with("src/")) {
            if !known.is_empty() && !known.contains(key.as_str()) {
                let rule = format!("the references hold the setting `{key}`");
                self.fail(path, *line, rule);
            }
        }
    }
}

/// The sources keep the rules: reads them all, and names each line that does not.
#[test]
fn the_house_is_tidy() -> io::Result<()> {
    let documents = [&[SPEC], &REFERENCES[..]].concat();
    let files = collect(Path::new(env!("CARGO_MANIFEST_DIR")), &documents)?;
    assert!(files.contains_key("src/lib.rs"), "the sources are elsewhere");
    let mut tidy = Tidy::check(&files);
    // Not by `print`, which a passing test swallows: a number is a question to the author.
    let mut out = io::stdout().lock();
    for (what, lengths) in ["files", "functions"].iter().zip(&mut tidy.lengths) {
        lengths.sort_by(|one, other| other.cmp(one));
        writeln!(out, "\nlongest {what}:")?;
        for (lines, place) in lengths.iter().take(10) {
            writeln!(out, "{lines:6} {place}")?;
        }
    }
    let lines = tidy.failures.iter();
    let lines = Vec::from_iter(lines.map(|(path, line, rule)| format!("{path}:{line}: {rule}")));
    assert!(lines.is_empty(), "\n{}", lines.join("\n"));
    Ok(())
}
