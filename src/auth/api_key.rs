//! API keys: long-lived texts with which backends publish and read.
//!
//! A key is `tgk_<name>_<43 base64url>`. The gateway knows only the SHA-256 of the whole text, out
//! of a YAML list; with 256 random bits in each key, a plain hash is enough. Two entries of one
//! name are both good: that is how a key is replaced.

use std::fmt::Write;
use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use subtle::{ConditionallySelectable, ConstantTimeEq};

use super::Fault;
use super::claims::Claims;
use super::grant::{Grants, Verb};
use crate::topic::Pattern;

/// What every API key begins with, and no Token.
pub const API_KEY_PREFIX: &str = "tgk_";
/// Longest name of a key, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Most entries of the file: each is compared with each key that is shown.
const ENTRIES_MAX: usize = 1_024;
/// The random part: 32 bytes in base64url.
const RANDOM_BYTES: usize = 32;
const RANDOM_CHARS: usize = 43;

const HASH_BYTES: usize = 32;

/// The words for a system without random numbers.
pub(super) const NO_RANDOM: &str = "the system gives no random numbers";

/// The entries of the file.
#[derive(Debug, Default)]
pub(super) struct ApiKeys(Vec<Known>);

#[derive(Debug)]
struct Known {
    hash: [u8; HASH_BYTES],
    claims: Arc<Claims>,
}

/// One entry as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    sha256: String,
    #[serde(default)]
    subscribe: Vec<String>,
    #[serde(default)]
    publish: Vec<String>,
    #[serde(default)]
    history: Vec<String>,
    #[serde(default)]
    disconnect: bool,
}

impl ApiKeys {
    /// Reads the file's content; the faults are under the path of the setting that names it.
    pub(super) fn read(content: &[u8], path: &str) -> Result<Self, Vec<Fault>> {
        let fault = |what: String| vec![Fault::new(path, what)];
        if content.trim_ascii().is_empty() {
            // A file caught between truncation and writing must not take every key away.
            return Err(fault("is empty; a list without keys is written []".into()));
        }
        // Without a snippet: somebody may have pasted a key where its hash belongs.
        let entries: Vec<Entry> = serde_saphyr::from_slice(content)
            .map_err(|why| fault(format!("is no list of API keys: {}", place(&why))))?;
        if entries.len() > ENTRIES_MAX {
            return Err(fault(format!("has more than {ENTRIES_MAX} entries")));
        }
        let (mut known, mut faults) = (Vec::<Known>::new(), Vec::new());
        for (index, entry) in entries.iter().enumerate() {
            let path = format!("{path}[{index}]");
            match entry.read(&path) {
                Ok(one) if known.iter().any(|other| other.hash == one.hash) => {
                    faults.push(Fault::new(format!("{path}.sha256"), "stands twice in the file"));
                }
                Ok(one) => known.push(one),
                Err(these) => faults.extend(these),
            }
        }
        if faults.is_empty() { Ok(Self(known)) } else { Err(faults) }
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Looks for this key, in a time that does not tell which entry it is or resembles.
    pub(super) fn find(&self, key: &str) -> Option<Arc<Claims>> {
        if !is_api_key(key) {
            return None;
        }
        let hash = digest::digest(&digest::SHA256, key.as_bytes());
        let mut found = u64::MAX;
        for (index, known) in (0_u64..).zip(&self.0) {
            found.conditional_assign(&index, known.hash[..].ct_eq(hash.as_ref()));
        }
        let known = self.0.get(usize::try_from(found).ok()?)?;
        Some(Arc::clone(&known.claims))
    }
}

impl Entry {
    fn read(&self, path: &str) -> Result<Known, Vec<Fault>> {
        let mut faults = Vec::new();
        if !is_name(&self.name) {
            faults.push(Fault::new(format!("{path}.name"), NAME));
        }
        let hash = from_hex(&self.sha256);
        if hash.is_none() {
            let what = "is not 64 hex digits, the SHA-256 of the whole key";
            faults.push(Fault::new(format!("{path}.sha256"), what));
        }
        let mut grants = Grants::default();
        for verb in Verb::ALL {
            for (index, text) in self.texts(verb).iter().enumerate() {
                match Pattern::parse(text) {
                    Ok(pattern) => grants.of_mut(verb).push(pattern),
                    Err(why) => {
                        let what = format!("{text:?} is no pattern: {why}");
                        faults.push(Fault::new(format!("{path}.{verb}[{index}]"), what));
                    }
                }
            }
        }
        faults.extend(grants.faults(path));
        match hash {
            Some(hash) if faults.is_empty() => {
                let claims = Arc::new(Claims::of_key(&self.name, grants, self.disconnect));
                Ok(Known { hash, claims })
            }
            _ => Err(faults),
        }
    }

    fn texts(&self, verb: Verb) -> &[String] {
        match verb {
            Verb::Subscribe => &self.subscribe,
            Verb::Publish => &self.publish,
            Verb::History => &self.history,
        }
    }
}

/// What the YAML reader complains of, with the line, and nothing of what stands there.
fn place(why: &serde_saphyr::Error) -> String {
    let text = match why.location() {
        Some(at) => format!("line {}, column {}", at.line(), at.column()),
        None => "it cannot be read".to_owned(),
    };
    format!("{text}; an entry is {{name, sha256, publish, history, subscribe, disconnect}}")
}

const NAME: &str = "is not 1-64 of a-z 0-9 -";

fn is_name(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.bytes().all(legal)
}

/// Whether a text has the form of a key; only such are hashed.
fn is_api_key(text: &str) -> bool {
    let random = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    text.strip_prefix(API_KEY_PREFIX).and_then(|rest| rest.split_once('_')).is_some_and(
        |(name, tail)| is_name(name) && tail.len() == RANDOM_CHARS && tail.bytes().all(random),
    )
}

fn from_hex(text: &str) -> Option<[u8; HASH_BYTES]> {
    if text.len() != 2 * HASH_BYTES {
        return None;
    }
    let mut bytes = [0; HASH_BYTES];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        for &digit in pair {
            let value = u8::try_from(char::from(digit).to_digit(16)?).ok()?;
            *byte = *byte << 4 | value;
        }
    }
    Some(bytes)
}

/// Makes a key, and the entry that lets it in once Patterns are written into it.
///
/// # Errors
/// The name is not one, or the system gives no random numbers.
pub fn make_api_key(name: &str) -> Result<(String, String), Fault> {
    if !is_name(name) {
        return Err(Fault::new("name", NAME));
    }
    let mut random = [0; RANDOM_BYTES];
    aws_lc_rs::rand::fill(&mut random).map_err(|_| Fault::new("key", NO_RANDOM))?;
    let key = format!("{API_KEY_PREFIX}{name}_{}", URL_SAFE_NO_PAD.encode(random));
    let mut hex = String::new();
    for byte in digest::digest(&digest::SHA256, key.as_bytes()).as_ref() {
        // Writing into a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    let entry =
        format!("- {{name: {name}, sha256: {hex}, publish: [], history: [], disconnect: false}}");
    Ok((key, entry))
}

#[cfg(test)]
mod tests {
    use super::super::claims::Who;
    use super::*;

    const PATH: &str = "auth.api_keys_file";

    #[test]
    fn a_made_key_is_let_in_by_its_entry_alone() {
        let (key, entry) = make_api_key("orders-2").unwrap();
        let (other, _) = make_api_key("orders-2").unwrap();
        assert!(key.starts_with("tgk_orders-2_") && key.len() == "tgk_orders-2_".len() + 43);
        let entry = entry.replace("publish: []", r#"publish: ["orders.**"]"#);
        let entry = entry.replace("disconnect: false", "disconnect: true");
        let keys = ApiKeys::read(entry.as_bytes(), PATH).unwrap();
        let claims = keys.find(&key).unwrap();
        assert_eq!(claims.who, Who::Key("orders-2".into()));
        assert!(claims.allows(Verb::Publish, &Pattern::parse("orders.eu").unwrap()).is_ok());
        assert!(claims.allows(Verb::History, &Pattern::parse("orders.eu").unwrap()).is_err());
        assert!(claims.disconnect && claims.expires_at.is_none());
        let mut close = key.clone();
        close.pop();
        let long = format!("{key}A");
        let big = key.repeat(10_000);
        for wrong in [&other, &close, &long, &key.to_uppercase(), "", "tgk_", "tgk__", &big] {
            assert!(keys.find(wrong).is_none(), "{wrong}");
        }
        assert!(make_api_key("").is_err() && make_api_key("Orders").is_err());
        assert!(make_api_key("a_b").is_err() && make_api_key(&"a".repeat(65)).is_err());
    }

    #[test]
    fn two_entries_of_one_name_are_both_good_each_with_its_grants() {
        let made: Vec<_> = (0..3).map(|_| make_api_key("orders").unwrap()).collect();
        let entries: Vec<_> = made
            .iter()
            .enumerate()
            .map(|(i, (_, entry))| entry.replace("history: []", &format!("history: [h{i}.*]")))
            .collect();
        let keys = ApiKeys::read(entries.join("\n").as_bytes(), PATH).unwrap();
        for (i, (key, _)) in made.iter().enumerate() {
            let claims = keys.find(key).unwrap();
            for j in 0..3 {
                let pattern = Pattern::parse(&format!("h{j}.x")).unwrap();
                assert_eq!(claims.allows(Verb::History, &pattern).is_ok(), i == j);
            }
        }
    }

    #[test]
    fn all_faults_of_the_file_are_told_and_none_quotes_a_key() {
        let hash = "a".repeat(64);
        let file = format!(
            "- {{name: Orders, sha256: {hash}, publish: ['a..b', ok, 'a.>.b']}}\n\
             - {{name: no, sha256: tgk_orders_canary, history: [a]}}\n\
             - {{name: one, sha256: {hash}0}}\n\
             - {{name: two, sha256: {}+a}}\n\
             - {{name: 7, sha256: '{}'}}\n\
             - {{name: again, sha256: '{}'}}\n",
            "a".repeat(62),
            "1".repeat(64),
            "1".repeat(64),
        );
        let faults = ApiKeys::read(file.as_bytes(), PATH).unwrap_err();
        let told: Vec<_> = faults.iter().map(ToString::to_string).collect();
        let hex = "is not 64 hex digits, the SHA-256 of the whole key";
        let wanted = [
            "[0].name: is not 1-64 of a-z 0-9 -".to_owned(),
            "[0].publish[0]: \"a..b\" is no pattern: segment 2 is empty".to_owned(),
            "[0].publish[2]: \"a.>.b\" is no pattern: '>' (or '**') must be the last segment"
                .to_owned(),
            format!("[1].sha256: {hex}"),
            format!("[2].sha256: {hex}"),
            format!("[3].sha256: {hex}"),
            "[5].sha256: stands twice in the file".to_owned(),
        ];
        assert_eq!(told, wanted.map(|one| format!("{PATH}{one}")));
    }

    #[test]
    fn a_file_that_is_no_list_of_entries_is_one_fault_with_its_line() {
        let hash = "a".repeat(64);
        let entry = format!("- {{name: one, sha256: {hash}}}\n");
        for (file, line) in [
            (format!("{entry}- {{name: two}}\n"), "line 2"),
            (format!("{entry}- {{name: two, sha256: {hash}, publsh: []}}\n"), "line 2"),
            (format!("{entry}- {{name: two, name: two, sha256: {hash}}}\n"), "line 2"),
            (format!("{entry}- {{name: null, sha256: {hash}}}\n"), "line 2"),
            (format!("{entry}- tgk_orders_canary\n"), "line 2"),
            (format!("{entry}- {{name: two, sha256: {hash}, publish: a}}\n"), "line 2"),
            (format!("{entry}- {{name: two, sha256: {hash}, disconnect: canary}}\n"), "line 2"),
            ("name: canary\n".to_owned(), "line 1"),
            ("canary: [".to_owned(), "line 1"),
            (" \n".to_owned(), "is empty"),
            ("\u{0}".to_owned(), "is no list"),
            (entry.repeat(ENTRIES_MAX + 1), "more than 1024 entries"),
        ] {
            let faults = ApiKeys::read(file.as_bytes(), PATH).unwrap_err();
            let told = faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            assert!(faults.len() == 1 && told.contains(line), "{told}");
            assert!(!told.contains("canary"), "{told}");
        }
        assert!(ApiKeys::read(b"\xff\xfe\x00", PATH).is_err());
        let many = format!("publish: [{}]", vec!["a"; 129].join(","));
        let file = format!("- {{name: one, sha256: {hash}, {many}}}");
        let faults = ApiKeys::read(file.as_bytes(), PATH).unwrap_err();
        assert_eq!(
            faults,
            [Fault::new(format!("{PATH}[0].publish"), "has more than 128 patterns")]
        );
    }
}
