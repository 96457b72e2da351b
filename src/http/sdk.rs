//! The client library for browsers, as one file that each node serves to any page.
//!
//! It is built in `sdk/` and committed, so that building a node takes no Node.js.

use actix_web::http::header::{self, ETag, EntityTag};
use actix_web::{HttpRequest, HttpResponse};

use super::history;

const SCRIPT: &[u8] = include_bytes!("../../sdk/dist/tidegate.js");
/// Another build may have another file at the same address, so a browser asks whether its copy is
/// still the one.
const FRESH: &str = "public, no-cache";

/// The route.
pub(super) async fn script(request: HttpRequest) -> HttpResponse {
    file(&request, "text/javascript; charset=utf-8", SCRIPT, const { digest(SCRIPT) })
}

/// A file that is part of the program. Anybody may have it, whatever the Origin: it can do nothing
/// that its page cannot.
pub(super) fn file(
    request: &HttpRequest,
    kind: &'static str,
    bytes: &'static [u8],
    digest: u64,
) -> HttpResponse {
    let tag = EntityTag::new_strong(format!("{digest:016x}"));
    let known = history::is_known(request, &tag);
    let mut answer = if known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    answer
        .insert_header(ETag(tag))
        .insert_header((header::CACHE_CONTROL, FRESH))
        .insert_header((header::ACCESS_CONTROL_ALLOW_ORIGIN, "*"));
    if known {
        return answer.finish();
    }
    answer.content_type(kind).body(bytes)
}

/// Tells two builds apart (FNV-1a); nobody is kept from making another text with the same.
pub(super) const fn digest(bytes: &[u8]) -> u64 {
    let (mut hash, mut at) = (0xcbf2_9ce4_8422_2325_u64, 0);
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0100_0000_01b3);
        at += 1;
    }
    hash
}
