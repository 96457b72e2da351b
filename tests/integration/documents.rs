//! The documents that a node serves of itself: that they are what their standards say, true of what it
//! takes and answers, and of one mind where both speak of the same.
//!
//! That they are those of the code's types is a test of the library, which makes them.

use std::fs;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use serde_json::{Map, Value, json};

use crate::harness::tool::{fed, place, said, skipped, tool};
use crate::harness::{Gateway, Grants, Settings, run, until};

const OPENAPI: &str = include_str!("../../proto/openapi.json");
const ASYNCAPI: &str = include_str!("../../proto/asyncapi.json");

/// What is held against every answer.
const CHECKS: &str = "no_fault_of_its_own,status_code_conformance,content_type_conformance,\
                      response_headers_conformance,response_schema_conformance";
/// What it takes on a quiet machine, many times.
const ASKING: Duration = Duration::from_secs(600);

/// Vectors that are refused though their schema takes them: no schema sees a field that comes twice, how
/// deep a text nests, how many bytes it has, or how a number is written; and to Python the end of a
/// text is in front of its last line end.
const UNSEEN: [&str; 13] = [
    "33 levels give the id back",
    "33 levels of objects",
    "a known field of another Command twice",
    "a line feed at the end",
    "a type twice",
    "an entry with topic twice",
    "an id of 66 bytes in 33 characters",
    "an id twice",
    "an id with a fraction",
    "an id with an exponent",
    "data twice",
    "deep data excuses no other field",
    "from twice",
];
/// Commands that are read, and then answered by an error.
const LATER: [&str; 3] =
    ["a wildcard is still a Command", "an illegal Topic is still a Command", "presence is known"];

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

/// The cases of a file of golden vectors.
fn vectors(name: &str) -> Vec<Value> {
    let text = fs::read_to_string(place("proto/vectors").join(name)).expect("the vectors");
    serde_json::from_str(&text).expect("cases")
}

/// What is wrong with each value, by the schema of this name; none where the judge is not here.
fn faults(document: &str, cases: &[(String, Value)]) -> Option<Vec<Option<String>>> {
    let mut judge = tool("python")?;
    judge.arg("tests/documents/validate.py");
    let output = fed(judge, &json!({"document": parsed(document), "cases": cases}).to_string());
    assert!(output.status.success(), "{}", said(&output));
    Some(serde_json::from_slice(&output.stdout).expect("answers"))
}

/// The name of a Frame's schema, by its kind: `GapPush`.
fn schema_of(frame: &Value, kind: &str) -> String {
    let word = frame["type"].as_str().expect("a type");
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    word.split('_').map(capital).collect::<String>() + kind
}

/// Any page may have them, of whatever Origin, and who has one already is told so.
#[test]
fn both_are_served_as_they_are_committed() {
    run(async {
        let gateway = Gateway::start(Settings::open()).await;
        for (path, text) in [("/openapi.json", OPENAPI), ("/asyncapi.json", ASYNCAPI)] {
            let ask = |method, tag: &str| {
                let request = gateway.request(method, path).header("if-none-match", tag);
                request.header("origin", "https://elsewhere.example").send()
            };
            let answer = ask(Method::GET, "").await.expect("an answer");
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(answer.headers()["content-type"], "application/json");
            assert_eq!(answer.headers()["access-control-allow-origin"], "*");
            assert_eq!(answer.headers()["cache-control"], "public, no-cache");
            let tag = answer.headers()["etag"].to_str().expect("text").to_owned();
            assert_eq!(answer.text().await.expect("a text"), text);
            let answer = ask(Method::GET, &tag).await.expect("an answer");
            assert_eq!(answer.status(), StatusCode::NOT_MODIFIED);
            let answer = ask(Method::HEAD, "").await.expect("an answer");
            assert_eq!(answer.headers()["content-length"], text.len().to_string());
            let answer = ask(Method::POST, "").await.expect("an answer");
            assert_eq!(answer.headers()["allow"], "GET, HEAD");
        }
    });
}

/// OpenAPI's own schema has nothing to say against the one; it would have against one that is spoiled.
#[test]
fn openapi_is_what_its_standard_says() {
    let check = |text: &str| {
        let file = tempfile::NamedTempFile::with_suffix(".json").expect("a file");
        fs::write(file.path(), text).expect("it is written");
        let mut check = tool("openapi-spec-validator")?;
        Some(check.args(["--schema", "3.1"]).arg(file.path()).output().expect("it starts"))
    };
    let Some(output) = check(OPENAPI) else { return };
    assert!(output.status.success(), "{}", said(&output));
    let spoiled = OPENAPI.replacen("\"in\": \"path\"", "\"in\": \"paths\"", 1);
    assert!(!check(&spoiled).expect("it is here").status.success());
}

/// The parser of AsyncAPI reads the other without a warning; and not one that is spoiled.
#[test]
fn asyncapi_is_read_by_its_parser() {
    let parse = |text: &str| {
        if !place("tests/documents/node_modules").exists() {
            return skipped("the parser in tests/documents/node_modules is not here");
        }
        let mut node = tool("node")?;
        node.arg("tests/documents/parse.mjs");
        Some(fed(node, text))
    };
    let Some(output) = parse(ASYNCAPI) else { return };
    assert!(output.status.success(), "{}", said(&output));
    let spoiled = ASYNCAPI.replacen("\"action\": \"send\"", "\"action\": \"shout\"", 1);
    assert!(!parse(&spoiled).expect("it is here").status.success());
}

/// Where both speak of the same, they say the same: every schema that both have is equal in both.
#[test]
fn both_documents_have_the_same_schemas() {
    let schemas =
        |text| parsed(text)["components"]["schemas"].as_object().expect("schemas").clone();
    let (open, async_): (Map<_, _>, Map<_, _>) = (schemas(OPENAPI), schemas(ASYNCAPI));
    let shared: Vec<_> = open.keys().filter(|name| async_.contains_key(*name)).collect();
    for name in &shared {
        assert_eq!(open[*name], async_[*name], "{name}");
    }
    for name in ["Message", "Topic", "Pattern", "Cursor", "Time", "Code", "GapPush", "CloseReason"]
    {
        assert!(shared.iter().any(|one| *one == name), "{name} is in both: {shared:?}");
    }
}

/// Golden Frames are what the schemas say, with no field that these do not know, and are not without
/// their `type`; what is no Topic, Pattern or Command by the vectors is none by its schema.
#[test]
fn golden_frames_are_what_the_schemas_say() {
    let document = parsed(ASYNCAPI);
    let mut cases: Vec<(String, Value)> = Vec::new();
    for (file, kind) in [("replies.json", "Reply"), ("pushes.json", "Push"), ("messages.json", "")]
    {
        for case in vectors(file) {
            let mut frame = parsed(case["expect"].as_str().expect("a text"));
            if let Some(items) = frame.get_mut("items") {
                // These are any texts there; Messages are judged below.
                *items = json!([]);
            }
            let schema = schema_of(&frame, kind);
            let fields = &document["components"]["schemas"][&schema]["properties"];
            for field in frame.as_object().expect("an object").keys() {
                assert!(fields.get(field).is_some(), "{schema} knows no {field}");
            }
            cases.push((schema, frame));
        }
    }
    for case in vectors("closes.json") {
        let reason = case["expect"]["reason"].as_str().unwrap_or_default();
        if !reason.is_empty() {
            cases.push(("CloseReason".to_owned(), parsed(reason)));
        }
    }
    let sound = cases.len();
    let mut names: Vec<String> = cases.iter().map(|(_, frame)| frame.to_string()).collect();
    // What follows may be judged either way.
    let mut wanted = vec![true; sound];
    for at in 0..sound {
        let (schema, mut frame) = cases[at].clone();
        let fields = frame.as_object_mut().expect("an object");
        if fields.remove("type").is_some() {
            names.push(format!("{schema} without a type"));
            cases.push((schema, frame));
            wanted.push(false);
        }
    }
    for case in vectors("commands.json") {
        let text = case["text"].as_str().expect("a text");
        let Ok(command) = serde_json::from_str::<Value>(text) else { continue };
        let asked = &case["expect"]["command"];
        // A bad `from` is judged by `subscribe` alone, for each pattern.
        let begins = asked["topics"].as_array().into_iter().flatten().chain([asked]);
        let is_sound =
            asked.is_object() && begins.into_iter().all(|one| one["from"].get("error").is_none());
        let name = case["name"].as_str().expect("a name");
        names.push(name.to_owned());
        cases.push(("Command".to_owned(), command));
        wanted.push(is_sound && !LATER.contains(&name) || UNSEEN.contains(&name));
    }
    for case in vectors("topics.json") {
        let name = case["name"].as_str().expect("a name");
        names.push(name.to_owned());
        cases.push(("Topic".to_owned(), case["text"].clone()));
        wanted.push(case["expect"] == "legal" || UNSEEN.contains(&name));
    }
    for case in vectors("patterns.json").iter().filter(|case| case["check"] == "parse") {
        names.push(case["name"].to_string());
        cases.push(("Pattern".to_owned(), case["pattern"].clone()));
        wanted.push(case["expect"].is_object());
    }
    let Some(faults) = faults(ASYNCAPI, &cases) else { return };
    let mut wrong = Vec::new();
    for (at, fault) in faults.iter().enumerate() {
        match (wanted[at], fault) {
            (true, Some(fault)) => wrong.push(format!("{}: {fault}", names[at])),
            (false, None) => wrong.push(format!("{} is taken by {}", names[at], cases[at].0)),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), faults.len(), wrong.join("\n"));
}

/// The lines of a real stream, to its last one, are what both documents say.
#[test]
fn the_lines_of_a_stream_are_what_the_schemas_say() {
    run(async {
        let anonymous = Grants::all(&["kept.>", "open.>"]);
        let settings = Settings { anonymous, ..Settings::default() }
            .line("namespaces: {kept: {history: {messages: 100}}, open: {}}");
        let gateway = Gateway::start(settings).await;
        gateway.publish("kept.a", "1").await;
        let request =
            gateway.request(Method::GET, "/v1/events?topic=kept.**&topic=open.a&from=last");
        let request = request.header("accept", "application/x-ndjson");
        let mut answer = request.send().await.expect("an answer");
        assert_eq!(answer.status(), StatusCode::OK);
        for payload in ["{\"a\":1}", "plain", ""] {
            gateway.publish("open.a", payload).await;
        }
        let mut text = String::new();
        gateway.signal("TERM");
        while let Ok(Some(bytes)) = answer.chunk().await {
            text += std::str::from_utf8(&bytes).expect("text");
        }
        let lines: Vec<Value> = text.lines().map(parsed).collect();
        let kinds: Vec<_> =
            lines.iter().map(|line| line["type"].as_str().expect("a type")).collect();
        for kind in ["message", "position", "close"] {
            assert!(kinds.contains(&kind), "{kinds:?}");
        }
        let cases: Vec<_> = lines.into_iter().map(|line| ("StreamLine".to_owned(), line)).collect();
        let Some(faults) = faults(OPENAPI, &cases) else { return };
        assert!(faults.iter().all(Option::is_none), "{faults:?}");
    });
}

/// Asked at random, and at the edges of what the document says, a node answers as it says: with no
/// status, header or body that is not there, and never by a fault of its own. What it does with
/// streams, which do not end by themselves, other tests show.
#[test]
fn what_is_asked_at_random_is_answered_as_documented() {
    let Some(mut asker) = tool("schemathesis") else { return };
    run(async {
        let settings = Settings::default()
            .line("namespaces: {kept: {history: {messages: 10}}}")
            .limit("commands_per_second: 100000")
            .limit("commands_burst: 100000");
        let gateway = Gateway::start(settings).await;
        let token = Gateway::token("ana", &Grants::all(&[">"]));
        let folder = tempfile::tempdir().expect("a folder");
        asker
            // It leaves files where it is.
            .current_dir(folder.path())
            .env("SCHEMATHESIS_HOOKS", "hooks")
            .env("PYTHONPATH", place("tests/documents"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .args(["--no-color", "run"])
            .arg(place("proto/openapi.json"))
            .args(["--url", &format!("http://{}", gateway.client)])
            .args(["--header", &format!("Authorization: Bearer {token}")])
            .args(["--exclude-path", "/v1/events", "--phases", "examples,coverage,fuzzing"])
            .args(["--checks", CHECKS, "--seed", "7", "--max-examples", "12", "--workers", "1"])
            .args([
                "--request-timeout",
                "30",
                "--warnings",
                "off",
                "--suppress-health-check",
                "all",
            ]);
        let words = folder.path().join("words");
        let file = fs::File::create(&words).expect("a file");
        let mut asker = asker.stdout(file).spawn().expect("it starts");
        let mut status = None;
        until("everything is asked", ASKING, || {
            status = asker.try_wait().expect("a process");
            let ended = status.is_some();
            async move { ended }
        })
        .await;
        let words = fs::read_to_string(words).expect("its words");
        assert!(status.is_some_and(|status| status.success()), "{words}");
    });
}
