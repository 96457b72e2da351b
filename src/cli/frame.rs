//! The frames of the protocol, as far as commands look into them.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::output::{Output, Tone};

/// One of them, of whatever type.
#[derive(Debug, Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(super) struct Frame<'a> {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) topic: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) cursor: Option<String>,
    pub(super) recovered: Option<bool>,
    #[serde(default)]
    pub(super) replayed: u64,
    #[serde(default)]
    pub(super) more: bool,
    pub(super) missed: Option<u64>,
    pub(super) time: Option<String>,
    #[serde(borrow)]
    pub(super) data: Option<&'a RawValue>,
    pub(super) data_base64: Option<String>,
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) connected: Option<bool>,
    #[serde(default)]
    pub(super) retryable: bool,
    pub(super) retry_after_ms: Option<u64>,
}

impl Frame<'_> {
    /// A Publication, as people read it.
    pub(super) fn message(&self, out: &Output) -> String {
        let topic = self.topic.as_deref().unwrap_or_default();
        let time = self.time.as_deref().unwrap_or_default();
        // 2026-11-22T12:00:00.123Z
        let time = time.split_once('T').map_or(time, |(_, clock)| clock.trim_end_matches('Z'));
        let data = match (self.data, &self.data_base64) {
            (Some(data), _) => data.get().to_owned(),
            (None, Some(text)) => format!("base64 {text}"),
            (None, None) => out.tone(Tone::Warning, "deleted"),
        };
        let (time, topic) = (out.tone(Tone::Faint, time), out.tone(Tone::Name, topic));
        format!("{time} {topic} {data}")
    }
}
