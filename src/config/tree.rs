//! Values on their way to the configuration, each with the place where it stands.
//!
//! The file, an environment variable and a flag each become a tree; trees are laid over each other,
//! and `config` reads a [`super::Config`] out of the last one. The tree knows no key: what nobody
//! reads is unknown, and what cannot be read as what is wanted is told and cut out.

use std::fmt;
use std::path::Path;

use config::{ConfigError, Map, Value, ValueKind};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Spanned, UserMessageFormatter};

use super::Fault;

/// Values under keys; each remembers its place: `tidegate.yaml:12`, a variable, a flag.
pub(super) struct Tree(Value);

impl Tree {
    /// Nothing at all.
    pub(super) fn empty() -> Self {
        Self(Value::new(None, Map::<String, Value>::new()))
    }

    /// What stands in this file.
    pub(super) fn read(path: &Path) -> Result<Self, Fault> {
        let name = path.display();
        let fault = |place: String, what: String| Fault { place, key: String::new(), what };
        let text = std::fs::read_to_string(path)
            .map_err(|why| fault(name.to_string(), format!("cannot be read: {why}")))?;
        // A name such as `no` or `007` stays what was written.
        let options = serde_saphyr::options! {
            strict_booleans: true,
            leading_zero_numbers_as_strings: true,
            with_snippet: false,
        };
        let place = |line: u64| format!("{name}:{line}");
        match serde_saphyr::from_str_with_options(&text, options) {
            Ok(node @ Node::Table(_)) => Ok(Self(node.value(&place(1), &place))),
            Ok(Node::Leaf(ValueKind::Nil)) => Ok(Self::empty()),
            Ok(_) => Err(fault(place(1), "must be a table of keys".to_owned())),
            Err(why) => {
                let line = why.location().map_or(1, |location| location.line());
                Err(fault(place(line), why.render_with_formatter(&UserMessageFormatter)))
            }
        }
    }

    /// Lays a value over what is under this path, such as `limits__outbox_bytes`. Its text counts
    /// as it is, but a list or a table may be written as YAML.
    pub(super) fn lay(&mut self, path: &str, text: &str, place: String) {
        let value = match serde_saphyr::from_str::<Node>(text) {
            Ok(node @ (Node::List(_) | Node::Table(_))) => node.value(&place, &|_| place.clone()),
            _ => Value::new(Some(&place), text),
        };
        let nest =
            |inner, part: &str| Value::new(Some(&place), Map::from([(part.to_owned(), inner)]));
        overlay(&mut self.0, path.rsplit("__").fold(value, nest));
    }

    /// A fault at the place of this key, or of the nearest value around it.
    pub(super) fn fault(&self, key: &str, what: String) -> Fault {
        let path = segments(key);
        let (mut at, mut place) = (&self.0, "");
        for part in &path {
            let child = match &at.kind {
                ValueKind::Table(table) => table.get(*part),
                ValueKind::Array(items) => index(part).and_then(|index| items.get(index)),
                _ => None,
            };
            let Some(child) = child else { break };
            at = child;
            place = child.origin().unwrap_or(place);
        }
        Fault { place: place.to_owned(), key: path.join("."), what }
    }

    /// Makes a configuration of all that can be read, and notes what cannot.
    pub(super) fn shape<T: DeserializeOwned + Default>(&self) -> (T, Vec<Fault>) {
        let (mut rest, mut faults) = (self.0.clone(), Vec::<Fault>::new());
        loop {
            let mut unknown = Vec::new();
            let note = |path: serde_ignored::Path<'_>| unknown.push(path.to_string());
            let (key, what) = match serde_ignored::deserialize(rest.clone(), note) {
                Ok(shape) => {
                    let unknown = unknown.iter().map(|key| self.fault(key, "unknown key".into()));
                    faults.extend(unknown);
                    return (shape, faults);
                }
                Err(error) => words(error),
            };
            let found = self.fault(&key, what);
            // What was cut out is missing afterwards, and that is not news.
            if !faults.iter().any(|known| known.key == found.key) {
                faults.push(found);
            }
            if !cut(&mut rest, &segments(&key)) {
                return (T::default(), faults);
            }
        }
    }
}

/// Tables join, all else is replaced.
fn overlay(below: &mut Value, above: Value) {
    let place = above.origin().map(str::to_owned);
    match (&mut below.kind, above.kind) {
        (ValueKind::Table(known), ValueKind::Table(new)) => {
            for (key, value) in new {
                match known.get_mut(&key) {
                    Some(old) => overlay(old, value),
                    None => drop(known.insert(key, value)),
                }
            }
        }
        (_, kind) => *below = Value::new(place.as_ref(), kind),
    }
}

/// Takes out what this path leads to, or comes nearest to; whether there was anything. Items of a
/// list leave together, so that the numbers of the others keep their meaning.
fn cut(value: &mut Value, path: &[&str]) -> bool {
    let Some((part, rest)) = path.split_first() else {
        return false;
    };
    match &mut value.kind {
        ValueKind::Table(table) => match table.get_mut(*part) {
            Some(child) => cut(child, rest) || table.remove(*part).is_some(),
            None => false,
        },
        ValueKind::Array(items) => {
            let child = index(part).and_then(|index| items.get_mut(index));
            child.is_some_and(|child| cut(child, rest))
        }
        _ => false,
    }
}

/// The key of an error, and what it says without it.
fn words(error: ConfigError) -> (String, String) {
    match error {
        ConfigError::Type { key, unexpected, expected, .. } => {
            let what = match unexpected.to_string().as_str() {
                "unit value" => "has no value".to_owned(),
                unexpected => format!("is {unexpected}, must be {expected}"),
            };
            (key.unwrap_or_default(), what)
        }
        ConfigError::At { error, key, .. } => (key.unwrap_or_default(), error.to_string()),
        ConfigError::NotFound(key) => (key, "is missing".to_owned()),
        other => (String::new(), other.to_string()),
    }
}

/// The parts of a key as `config` (`issuers[0].algorithm`) or `serde_ignored` (`issuers.0.?`)
/// writes it.
fn segments(key: &str) -> Vec<&str> {
    key.split(['.', '[', ']']).filter(|part| !matches!(*part, "" | "?")).collect()
}

fn index(part: &str) -> Option<usize> {
    part.parse().ok()
}

/// YAML as it was read, with the line of each key and item.
enum Node {
    Leaf(ValueKind),
    List(Vec<Spanned<Node>>),
    Table(Vec<(Spanned<String>, Node)>),
}

impl Node {
    fn value(self, at: &String, place: &impl Fn(u64) -> String) -> Value {
        match self {
            Self::Leaf(kind) => Value::new(Some(at), kind),
            Self::List(items) => {
                let value =
                    |item: Spanned<Self>| item.value.value(&place(item.referenced.line()), place);
                Value::new(Some(at), items.into_iter().map(value).collect::<Vec<_>>())
            }
            Self::Table(entries) => {
                let entry = |(key, node): (Spanned<String>, Self)| {
                    (key.value, node.value(&place(key.referenced.line()), place))
                };
                Value::new(Some(at), entries.into_iter().map(entry).collect::<Map<_, _>>())
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Node;
            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("a value, a list or a table")
            }
            fn visit_unit<E>(self) -> Result<Node, E> {
                Ok(Node::Leaf(ValueKind::Nil))
            }
            fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
                Ok(Node::Leaf(value.into()))
            }
            fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
                Ok(Node::Leaf(value.into()))
            }
            fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
                Ok(Node::Leaf(value.into()))
            }
            fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
                // As text: `config` would round it where a whole number is wanted.
                Ok(Node::Leaf(value.to_string().into()))
            }
            fn visit_str<E>(self, value: &str) -> Result<Node, E> {
                Ok(Node::Leaf(value.into()))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Node, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = from.next_element()? {
                    items.push(item);
                }
                Ok(Node::List(items))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Node, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = from.next_entry()? {
                    entries.push(entry);
                }
                Ok(Node::Table(entries))
            }
        }
        from.deserialize_any(Reader)
    }
}
