//! The rules that Topics with the same first segment share.
//!
//! Operators name Namespaces in the configuration; `"*"` holds the rules for those not named. With
//! `strict` there are no others.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::topic::is_segment;

/// The key that stands for every Namespace not named.
pub const OTHERS: &str = "*";

/// The rules of one Namespace, as configured.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct Config {
    /// Largest payload of a Publication, in bytes.
    pub max_message_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_message_bytes: 65_536 }
    }
}

/// All Namespaces that this node knows.
#[derive(Debug, Clone, Default)]
pub struct Namespaces {
    named: BTreeMap<String, Config>,
    others: Option<Config>,
}

impl Namespaces {
    /// Takes the configured rules. Not `strict`: whoever is not named follows `"*"`, or the defaults.
    #[must_use]
    pub fn new(mut configured: BTreeMap<String, Config>, strict: bool) -> Self {
        let others = configured.remove(OTHERS);
        let others = if strict { None } else { Some(others.unwrap_or_default()) };
        Self { named: configured, others }
    }

    /// The rules for this first segment; none if the configuration does not know it.
    #[must_use]
    pub fn rules(&self, namespace: &str) -> Option<&Config> {
        self.named.get(namespace).or(self.others.as_ref())
    }

    /// The name under which metrics may count it: clients invent first segments.
    #[must_use]
    pub fn label(&self, namespace: &str) -> &str {
        self.named.get_key_value(namespace).map_or(OTHERS, |(name, _)| name)
    }

    /// The largest payload that any Namespace takes.
    #[must_use]
    pub fn message_bytes_max(&self) -> usize {
        self.named
            .values()
            .chain(&self.others)
            .map(|rules| rules.max_message_bytes)
            .max()
            .unwrap_or(0)
    }
}

/// What is wrong with configured Namespaces, each with its key; all of it at once.
#[must_use]
pub fn faults(configured: &BTreeMap<String, Config>) -> Vec<(String, String)> {
    let mut faults = Vec::new();
    for (name, rules) in configured {
        if name != OTHERS && (!is_segment(name) || name.starts_with('_')) {
            faults.push((name.clone(), "is not a legal first segment of a topic".to_owned()));
        }
        if !(1..=8 << 20).contains(&rules.max_message_bytes) {
            faults.push((
                format!("{name}.max_message_bytes"),
                "must be between 1 byte and 8 MiB".to_owned(),
            ));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named() -> BTreeMap<String, Config> {
        [("dash".to_owned(), Config { max_message_bytes: 10 })].into()
    }

    #[test]
    fn strict_knows_only_what_is_named() {
        assert!(Namespaces::new(named(), true).rules("chat").is_none());
        assert!(Namespaces::new(named(), false).rules("chat").is_some());
        assert_eq!(Namespaces::new(named(), true).rules("dash").unwrap().max_message_bytes, 10);
    }

    #[test]
    fn a_label_is_never_what_a_client_made_up() {
        let namespaces = Namespaces::new(named(), false);
        assert_eq!(namespaces.label("dash"), "dash");
        assert_eq!(namespaces.label("invented"), "*");
    }
}
