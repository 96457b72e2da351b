//! What describes the node to programs: its HTTP interface as OpenAPI, the Frames of its socket and
//! its streams as AsyncAPI.
//!
//! Both are made from the code's own types by a test, which fails while another one is committed. So a
//! node serves files, and nothing that makes them is in it.

use actix_web::{HttpRequest, HttpResponse};

use super::sdk;

const OPENAPI: &[u8] = include_bytes!("../../proto/openapi.json");
const ASYNCAPI: &[u8] = include_bytes!("../../proto/asyncapi.json");
const JSON: &str = "application/json";

/// `GET /openapi.json`
pub(super) async fn openapi(request: HttpRequest) -> HttpResponse {
    sdk::file(&request, JSON, OPENAPI, const { sdk::digest(OPENAPI) })
}

/// `GET /asyncapi.json`
pub(super) async fn asyncapi(request: HttpRequest) -> HttpResponse {
    sdk::file(&request, JSON, ASYNCAPI, const { sdk::digest(ASYNCAPI) })
}

/// Holds a document against what is committed; with `GOLDEN` set it is written instead.
#[cfg(test)]
pub(super) fn hold(path: &str, document: &serde_json::Value) {
    let place = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    let text = serde_json::to_string_pretty(document).expect("JSON") + "\n";
    if std::env::var_os("GOLDEN").is_some() {
        std::fs::write(&place, &text).expect("it is written");
    }
    let committed = std::fs::read_to_string(&place).expect("the document");
    // Thousands of lines say less than the command that mends it.
    assert!(committed == text, "{path} is old: GOLDEN=1 cargo test --lib documents");
}
