//! A Frame, as far as a client looks at it. Fields that it does not know are passed over.

use serde::Deserialize;

/// Any Reply or Push.
#[derive(Debug, Deserialize)]
pub(super) struct Frame<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
    pub(super) topic: Option<&'a str>,
    pub(super) cursor: Option<&'a str>,
    pub(super) namespace: Option<&'a str>,
    pub(super) reason: Option<&'a str>,
    pub(super) code: Option<&'a str>,
    pub(super) recovered: Option<bool>,
    pub(super) more: Option<bool>,
    pub(super) retryable: Option<bool>,
    pub(super) connected: Option<bool>,
    pub(super) replayed: Option<u32>,
    pub(super) reconnect_in_ms: Option<u64>,
    pub(super) data: Option<Data>,
}

/// What publishers say.
#[derive(Debug, Deserialize)]
pub(super) struct Data {
    /// Its publisher's own counter.
    pub(super) n: u32,
    /// Who may read it.
    pub(super) g: char,
    /// Whether it is the last.
    pub(super) end: bool,
}
