//! What a gateway measures, as Prometheus reads it, but stricter: what a linter would complain about
//! fails the test.

use std::collections::{BTreeMap, BTreeSet};

/// Labels that metrics of ours may have; what else there is, a scraper or a client owns.
const LABELS: [&str; 18] = [
    "call",
    "close",
    "codec",
    "entry",
    "le",
    "limit",
    "outcome",
    "quantile",
    "reason",
    "revision",
    "shard",
    "state",
    "step",
    "topic_namespace",
    "transport",
    "type",
    "version",
    "",
];

/// One reading of `/metrics`.
#[derive(Debug, Clone, Default)]
pub(crate) struct Metrics {
    /// The kind of each, by its name.
    pub(crate) kinds: BTreeMap<String, String>,
    /// By name and labels, as they stand there.
    series: BTreeMap<(String, BTreeMap<String, String>), f64>,
}

impl Metrics {
    /// Reads a text, and refuses what is not as it should be.
    pub(crate) fn read(text: &str) -> Self {
        let mut metrics = Self::default();
        let mut helped = BTreeSet::new();
        assert!(text.ends_with('\n'), "the last line ends");
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').expect("help in words");
                assert!(helped.insert(name.to_owned()) && !help.is_empty(), "{line}");
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a kind");
                let before = metrics.kinds.insert(name.to_owned(), kind.to_owned());
                assert_eq!(before, None, "{name} stands in one place");
                assert!(helped.contains(name), "{name} is explained");
            } else {
                let (name, labels, value) = sample(line);
                assert!(metrics.kind_of(&name).is_some(), "{line}: its kind stands before it");
                let before = metrics.series.insert((name, labels), value);
                assert_eq!(before, None, "{line}: it stands there once");
            }
        }
        metrics.lint();
        metrics
    }

    /// The name that a sample's kind stands under.
    fn kind_of(&self, name: &str) -> Option<(&str, &str)> {
        let parts = ["_bucket", "_sum", "_count"];
        let of = parts.iter().filter_map(|part| name.strip_suffix(part));
        let histogram = |name: &&str| self.kinds.get(*name).is_some_and(|kind| kind == "histogram");
        let whole = self.kinds.contains_key(name).then_some(name);
        let family = whole.or_else(|| of.into_iter().find(histogram))?;
        let (name, kind) = self.kinds.get_key_value(family)?;
        Some((name, kind))
    }

    fn lint(&self) {
        for (name, kind) in &self.kinds {
            let letters = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            assert!(name.bytes().all(letters), "{name}");
            assert!(name.starts_with("tidegate_") || name.starts_with("process_"), "{name}");
            assert!(matches!(kind.as_str(), "counter" | "gauge" | "histogram"), "{name}: {kind}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            for unit in ["_ms", "_milliseconds", "_us", "_kib", "_mb", "_minutes", "_percent"] {
                assert!(!name.contains(unit), "{name}: base units alone");
            }
            assert!(!name.contains(kind.as_str()), "{name}: no kind in a name");
        }
        for ((name, labels), value) in &self.series {
            let (_, kind) = self.kind_of(name).expect("it has been found before");
            assert!(value.is_finite() && (*value >= 0.0), "{name}: {value}");
            assert!(kind == "gauge" || value.fract() == 0.0 || !name.ends_with("_count"));
            for label in labels.keys() {
                assert!(LABELS.contains(&label.as_str()), "{name}: the label {label:?}");
            }
            if let Some(count) = name.strip_suffix("_bucket").filter(|_| labels["le"] == "+Inf") {
                let mut labels = labels.clone();
                labels.remove("le");
                let all = self.series[&(format!("{count}_count"), labels.clone())];
                assert_eq!(*value, all, "{name}: the last bucket holds all");
                assert!(self.rises(name, &labels), "{name}: buckets add up");
            }
        }
    }

    fn rises(&self, name: &str, without_le: &BTreeMap<String, String>) -> bool {
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for ((_, labels), value) in self.series.iter().filter(|((other, _), _)| other == name) {
            let mut rest = labels.clone();
            let le = rest.remove("le").expect("a bound").parse().expect("a number");
            if rest == *without_le {
                buckets.push((le, *value));
            }
        }
        buckets.sort_by(|(one, _), (other, _)| one.total_cmp(other));
        buckets.windows(2).all(|two| two[0].1 <= two[1].1)
    }

    /// The sum of all series of a name that have these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let fits = |known: &BTreeMap<String, String>| {
            labels.iter().all(|(label, value)| known.get(*label).is_some_and(|one| one == value))
        };
        let found = self.series.iter().filter(|((other, known), _)| other == name && fits(known));
        let values: Vec<f64> = found.map(|(_, value)| *value).collect();
        assert!(!values.is_empty(), "there is no {name} {labels:?}");
        values.iter().sum()
    }

    /// How many series a name has.
    pub(crate) fn series(&self, name: &str) -> usize {
        self.series.keys().filter(|(other, _)| other == name).count()
    }

    /// All series that are not 0.
    pub(crate) fn moved(&self) -> BTreeSet<&str> {
        let moved = self.series.iter().filter(|(_, value)| **value != 0.0);
        moved.map(|((name, _), _)| name.as_str()).collect()
    }
}

/// Takes one line apart: name, labels and value.
fn sample(line: &str) -> (String, BTreeMap<String, String>, f64) {
    let (head, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line:?}"));
    let value = value.parse().unwrap_or_else(|_| panic!("{line:?}"));
    let Some((name, labels)) = head.split_once('{') else {
        return (head.to_owned(), BTreeMap::new(), value);
    };
    let labels = labels.strip_suffix('}').unwrap_or_else(|| panic!("{line:?}"));
    let pairs = labels.split(',').filter(|pair| !pair.is_empty()).map(|pair| {
        // No label of ours holds a comma or a quotation mark.
        let (label, text) = pair.split_once('=').unwrap_or_else(|| panic!("{line:?}"));
        let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        (label.to_owned(), text.unwrap_or_else(|| panic!("{line:?}")).to_owned())
    });
    (name.to_owned(), pairs.collect(), value)
}
