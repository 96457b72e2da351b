//! What is left of a run: a line for people, and `artifact.json` with the command to repeat it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::Serialize;

use super::judge::Verdict;
use super::log::Fault;

/// Everything about a run that somebody may want to know later.
#[derive(Serialize)]
pub(crate) struct Artifact<'a> {
    pub(crate) scenario: &'a str,
    pub(crate) seed: u64,
    pub(crate) tidegate: &'static str,
    pub(crate) nats: String,
    pub(crate) clients: usize,
    pub(crate) command: String,
    pub(crate) faults: &'a [Fault],
    pub(crate) verdict: &'a Verdict,
}

impl Artifact<'_> {
    /// Writes it, with everybody's log where something was wrong, and gives the line.
    pub(crate) fn write(&self, logs: &BTreeMap<String, String>) -> String {
        let root = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let folder = root.join(format!("torture/{}-{}", self.scenario, self.seed));
        fs::create_dir_all(&folder).expect("a folder");
        let text = serde_json::to_string_pretty(self).expect("JSON");
        fs::write(folder.join("artifact.json"), text).expect("it is written");
        if !self.verdict.is_clean() {
            for (name, log) in logs {
                fs::write(folder.join(format!("{name}.log")), log).expect("it is written");
            }
        }
        self.line()
    }

    fn line(&self) -> String {
        let figures = &self.verdict.figures;
        let broken = &self.verdict.broken;
        let verdict = if broken.is_empty() { "clean".to_owned() } else { format!("{broken:?}") };
        format!(
            "{:16} seed {:3}: {verdict}; {} ok {} fail {} unknown, {} deliveries, {} replayed; \
             {} resumes, {} not recovered, {} false alarms {:?}; {} gaps, {} for nothing; stall {} ms, \
             answers {}/{} ms, caught up {} ms, works {} ms, moved {}: p50 {} p99 {} ms, told {} ms",
            self.scenario,
            self.seed,
            figures.ok,
            figures.fail,
            figures.unknown,
            figures.deliveries,
            figures.replayed,
            figures.resumes,
            figures.not_recovered,
            figures.false_alarms,
            figures.false_alarms_by_reason,
            figures.kept_gaps,
            figures.kept_gaps_for_nothing,
            figures.stall_ms,
            figures.answer_kept_ms,
            figures.answer_ms,
            figures.caught_up_ms,
            figures.works_again_ms,
            figures.moved,
            figures.moved_p50_ms,
            figures.moved_p99_ms,
            figures.told_max_ms,
        )
    }
}
