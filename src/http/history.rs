//! Reading what is kept: a page of a Topic's history, and the newest values of many Topics.
//!
//! A page is made of the texts that were pushed, as they stand: nothing is encoded again.

use actix_web::http::header::{
    CACHE_CONTROL, ETAG, EntityTag, Header as _, HeaderValue, IfNoneMatch,
};
use actix_web::web::{Data, Path};
use actix_web::{HttpRequest, HttpResponse};

use super::problem::Problem;
use super::{State, credentials, query};
use crate::auth::{Claims, Verb};
use crate::feed::{Page, Wanted};
use crate::protocol::error::{Code, Error};
use crate::topic::{Pattern, Topic};

/// What a page is good for is known to its reader alone, and for no time at all.
pub(super) const FRESH: HeaderValue = HeaderValue::from_static("private, no-cache");

/// `GET /v1/topics/{topic}/messages`: a page of history, oldest first.
pub(super) async fn messages(
    request: HttpRequest,
    topic: Path<String>,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    let claims = credentials::claims(&request, &state)?;
    let topic = Topic::parse(&topic).map_err(|why| Error::invalid_topic(&topic, &why))?;
    let query::PageOf { from, limit } = query::page(&request)?;
    may_read(&Pattern::from(&topic), &claims, &state)?;
    let wanted = Wanted::History { topic: topic.clone(), from, limit: limit.into() };
    let page = state.feeds.read(wanted).await?;
    // A Topic needs no escapes.
    Ok(json(&format!(r#""topic":"{topic}","#), &page, ""))
}

/// `GET /v1/topics/{pattern}/state`: the newest value of each Topic, by rising Offset.
pub(super) async fn state(
    request: HttpRequest,
    pattern: Path<String>,
    state: Data<State>,
) -> Result<HttpResponse, Problem> {
    let claims = credentials::claims(&request, &state)?;
    let pattern = Pattern::parse_subscription(&pattern)
        .map_err(|why| Error::invalid_topic(&pattern, &why))?;
    let above = query::above(&request)?;
    may_read(&pattern, &claims, &state)?;
    let page = state.feeds.read(Wanted::Snapshot { pattern, above }).await?;
    let tag = tag(&page);
    let mut response = match is_known(&request, &tag) {
        true => HttpResponse::NotModified().insert_header((CACHE_CONTROL, FRESH)).finish(),
        false => json("", &page, &format!(r#","cursor":"{}""#, page.cursor)),
    };
    if let Ok(tag) = HeaderValue::from_str(&tag.to_string()) {
        response.headers_mut().insert(ETAG, tag);
    }
    Ok(response)
}

/// One object: what stands in front, the items, what stands behind, and where the next page begins.
fn json(before: &str, page: &Page, behind: &str) -> HttpResponse {
    let bytes: usize = page.envelopes.iter().map(|one| one.text().len() + 1).sum();
    let mut body = Vec::with_capacity(bytes + before.len() + behind.len() + 64);
    body.extend_from_slice(b"{");
    body.extend_from_slice(before.as_bytes());
    body.extend_from_slice(br#""items":["#);
    for (at, envelope) in page.envelopes.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        body.extend_from_slice(envelope.text());
    }
    body.push(b']');
    body.extend_from_slice(behind.as_bytes());
    if let Some(next) = page.next {
        body.extend_from_slice(format!(r#","next":"{next}""#).as_bytes());
    }
    body.push(b'}');
    HttpResponse::Ok()
        .content_type("application/json")
        .insert_header((CACHE_CONTROL, FRESH))
        .body(body)
}

/// The same items and no others have the same tag: whatever is new stands above the highest Offset,
/// and whatever has gone is missing in the number. A full page says whether more follows, as that may
/// change while its items do not.
fn tag(page: &Page) -> EntityTag {
    let highest = page.envelopes.last().and_then(|one| one.cursor()).map_or(0, |at| at.offset);
    let more = if page.next.is_some() { "+" } else { "" };
    let (epoch, count) = (page.cursor.epoch, page.envelopes.len());
    EntityTag::new_strong(format!("{epoch}-{highest:x}-{count}{more}"))
}

/// Whether who asks has what this tag stands for.
pub(super) fn is_known(request: &HttpRequest, tag: &EntityTag) -> bool {
    // A header that cannot be read names no tag of ours.
    match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => tags.iter().any(|one| one.weak_eq(tag)),
        Err(_) => false,
    }
}

/// Whether there can be such Topics, and these Claims may read them.
fn may_read(pattern: &Pattern, claims: &Claims, state: &State) -> Result<(), Problem> {
    let admitted = state.namespaces.admits(pattern);
    admitted.map_err(|why| Problem::new(Code::InvalidTopic, why.to_string()))?;
    Ok(claims.allows(Verb::History, pattern)?)
}
