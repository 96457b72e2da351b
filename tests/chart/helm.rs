//! Helm and the other programs, and what a chart renders to.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

/// The place of the project.
pub(crate) const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// What every release of these tests is called, and where it is.
pub(crate) const RELEASE: &str = "live";
pub(crate) const NAMESPACE: &str = "web";

/// A file or folder of the project.
pub(crate) fn place(path: &str) -> PathBuf {
    Path::new(ROOT).join(path)
}

/// The text of a file of the project.
pub(crate) fn text(path: &str) -> String {
    fs::read_to_string(place(path)).unwrap_or_else(|why| panic!("{path}: {why}"))
}

/// A program that `make tools` brings, or one on the path. Without it the rest of a test is left out.
pub(crate) fn tool(name: &str) -> Option<PathBuf> {
    let found = find(name);
    if found.is_none() {
        skipped(&format!("{name} is not here"));
    }
    found
}

/// The same for one that few have: without it, it is only said.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let own = place("target/tools/python/bin").join(name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut all = std::env::split_paths(&path).map(|folder| folder.join(name));
    if own.exists() { Some(own) } else { all.find(|file| file.is_file()) }
}

/// Says what is left out; where `ALL_TESTS` is set that is a failure.
pub(crate) fn skipped(what: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED: {what} (make tools)");
    assert!(std::env::var_os("ALL_TESTS").is_none(), "{what}, and nothing may be left out");
}

/// Runs a program to its end, with this text to read.
pub(crate) fn run(program: &Path, words: &[&str], input: &str) -> Output {
    let mut command = Command::new(program);
    // Nothing of the machine reaches it: no cluster, no settings of ours.
    command.args(words).current_dir(ROOT).env_remove("KUBECONFIG").env("HELM_DEBUG", "false");
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), input).expect("the input is written");
    command.stdin(Stdio::from(file.reopen().expect("the input")));
    command.output().expect("it starts")
}

/// What a program said, both ways.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// The files of values in `ci`, by name.
pub(crate) fn cases() -> Vec<String> {
    let folder = fs::read_dir(place("helm/tidegate/ci")).expect("the folder");
    let names = folder.map(|entry| entry.expect("an entry").file_name().into_string());
    let mut names: Vec<String> = names.map(|name| name.expect("a name")).collect();
    names.sort();
    assert!(names.len() >= 8, "{names:?}");
    names.into_iter().map(|name| format!("helm/tidegate/ci/{name}")).collect()
}

/// What the chart renders to.
#[derive(Debug)]
pub(crate) struct Rendered {
    pub(crate) yaml: String,
    pub(crate) objects: Vec<Value>,
}

impl Rendered {
    /// The one object of this kind whose name ends so.
    pub(crate) fn object(&self, kind: &str, suffix: &str) -> Option<&Value> {
        let name = format!("{RELEASE}-tidegate{suffix}");
        let mut found = self.of(kind).filter(|object| object["metadata"]["name"] == name.as_str());
        let first = found.next();
        assert!(found.next().is_none(), "{kind} {name} comes twice");
        first
    }

    /// All of this kind.
    pub(crate) fn of(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    /// The pod of a node.
    pub(crate) fn pod(&self) -> &Value {
        &self.object("Deployment", "").expect("a Deployment")["spec"]["template"]
    }

    /// The configuration file of a node.
    pub(crate) fn configuration(&self) -> &str {
        let map = self.object("ConfigMap", "").expect("a ConfigMap");
        map["data"]["tidegate.yaml"].as_str().expect("a file")
    }
}

/// Reads YAML.
pub(crate) fn yaml(text: &str) -> Value {
    serde_saphyr::from_str(text).unwrap_or_else(|why| panic!("{why}\n{text}"))
}

/// Renders the chart with these words to Helm; or what Helm complains of.
pub(crate) fn render(helm: &Path, words: &[&str]) -> Result<Rendered, String> {
    let base = ["template", RELEASE, "helm/tidegate", "--namespace", NAMESPACE];
    let output = run(helm, &[&base[..], words].concat(), "");
    if !output.status.success() {
        return Err(said(&output));
    }
    let yaml = String::from_utf8(output.stdout).expect("text");
    let objects: Vec<Value> =
        serde_saphyr::from_multiple(&yaml).unwrap_or_else(|why| panic!("{why}\n{yaml}"));
    Ok(Rendered { yaml, objects })
}

/// The same with a file of values.
pub(crate) fn rendered(helm: &Path, case: &str) -> Rendered {
    render(helm, &["--values", case]).unwrap_or_else(|why| panic!("{case}: {why}"))
}

/// The same with these values.
pub(crate) fn render_values(helm: &Path, values: &Value) -> Result<Rendered, String> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), values.to_string()).expect("values are written");
    render(helm, &["--values", &file.path().display().to_string()])
}
