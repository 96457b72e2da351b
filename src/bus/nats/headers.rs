//! The headers that nodes write and read; no others cross.
//!
//! The server writes its own behind those that came with the message, so of each name the *last*
//! counts: whoever publishes can write the others.

use async_nats::{HeaderMap, HeaderValue};

use crate::publication::{Publication, Trace};

/// The Publication's id.
const ID: &str = "Nats-Msg-Id";
/// When it was taken, in milliseconds since 1970.
const TIME: &str = "Tidegate-Time";
/// The subject of the Token that published it.
const USER: &str = "Tidegate-User";

/// The trace that it belongs to.
const TRACE_PARENT: &str = "traceparent";
/// What else its tracers say.
const TRACE_STATE: &str = "tracestate";

/// Those that a Publication is sent with.
pub(super) fn of(publication: &Publication) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let time = publication.time.0.to_string();
    let trace = publication.trace.as_ref();
    for (name, text) in [
        (ID, Some(&*publication.id)),
        (TIME, Some(&*time)),
        (USER, publication.user.as_deref()),
        (TRACE_PARENT, trace.map(|trace| &*trace.parent)),
        (TRACE_STATE, trace.and_then(|trace| trace.state.as_deref())),
    ] {
        // What NATS cannot carry in a header is no id or name of ours.
        if let Some(Ok(value)) = text.map(str::parse::<HeaderValue>) {
            headers.insert(name, value);
        }
    }
    headers
}

/// What the headers of one message say; an empty one says nothing.
#[derive(Default)]
pub(super) struct Headers<'a> {
    pub(super) id: Option<&'a str>,
    pub(super) time: Option<&'a str>,
    pub(super) user: Option<&'a str>,
    trace_parent: Option<&'a str>,
    trace_state: Option<&'a str>,
    /// The stream that has it.
    pub(super) stream: Option<&'a str>,
    /// Its Offset.
    pub(super) sequence: Option<&'a str>,
    /// When it was stored.
    pub(super) stored_at: Option<&'a str>,
    /// Where it was sent.
    pub(super) subject: Option<&'a str>,
    /// It is the server's own, in place of what it took out.
    pub(super) marker: Option<&'a str>,
    /// In a page, the Offset of the message before it.
    pub(super) before: Option<&'a str>,
    /// At the end of a page, how far history has been looked at.
    pub(super) up_to: Option<&'a str>,
}

impl<'a> Headers<'a> {
    /// Reads all in one walk: a look-up of each name is a tenth of what a message costs a Feed.
    pub(super) fn read(map: Option<&'a HeaderMap>) -> Self {
        let mut this = Self::default();
        for (name, values) in map.into_iter().flat_map(HeaderMap::iter) {
            let place = match name.as_ref() {
                ID => &mut this.id,
                TIME => &mut this.time,
                USER => &mut this.user,
                TRACE_PARENT => &mut this.trace_parent,
                TRACE_STATE => &mut this.trace_state,
                "Nats-Stream" => &mut this.stream,
                "Nats-Sequence" => &mut this.sequence,
                "Nats-Time-Stamp" => &mut this.stored_at,
                "Nats-Subject" => &mut this.subject,
                "Nats-Marker-Reason" => &mut this.marker,
                "Nats-Last-Sequence" => &mut this.before,
                "Nats-UpTo-Sequence" => &mut this.up_to,
                _ => continue,
            };
            *place = values.last().map(HeaderValue::as_str).filter(|text| !text.is_empty());
        }
        this
    }

    /// The trace that it belongs to.
    pub(super) fn trace(&self) -> Option<Trace> {
        self.trace_parent.and_then(|parent| Trace::read(parent, self.trace_state))
    }
}
