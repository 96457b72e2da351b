//! Whether the node lives and wants traffic, on the management port. Never a question of load.

use std::sync::atomic::Ordering;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::web::{self, Data};
use serde::Serialize;

use super::State;
use crate::control::nodes::Beat;
use crate::shard::counts::Snapshot;

/// NATS may be away for this long before the node wants no more clients: most outages are shorter.
const LINK_DOWN: Duration = Duration::from_secs(10);
/// As Prometheus names its text.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Serialize)]
struct Health {
    ok: bool,
    why: Vec<String>,
}

/// The process turns: it has answered.
pub(super) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(Health { ok: true, why: Vec::new() })
}

/// The node wants new Connections.
pub(super) async fn ready(state: Data<State>) -> HttpResponse {
    let mut why = Vec::new();
    if state.leaving.load(Ordering::Relaxed) {
        why.push("the node is draining".to_owned());
    }
    let link = state.link.borrow().clone();
    let down = link.since.elapsed();
    if let Some(unfit) = link.unfit {
        why.push(unfit.to_string());
    } else if !link.connected && (down >= LINK_DOWN || link.suspicions == 0) {
        why.push(format!("NATS has not been reached for {} s", down.as_secs()));
    }
    if !state.control.is_read() {
        why.push("what was revoked has not been read yet".to_owned());
    }
    let health = Health { ok: why.is_empty(), why };
    if health.ok {
        HttpResponse::Ok().json(health)
    } else {
        HttpResponse::ServiceUnavailable().json(health)
    }
}

/// `POST /drain`: the node goes away, as if it had been told by a signal; told twice, at once.
pub(super) async fn drain(state: Data<State>) -> HttpResponse {
    state.drain_asked.notify_one();
    HttpResponse::Accepted().finish()
}

/// All that is measured. Reading it takes longer than a Shard's thread should be kept.
pub(super) async fn metrics(state: Data<State>) -> HttpResponse {
    match web::block(move || (state.metrics)()).await {
        Ok(text) => HttpResponse::Ok().content_type(METRICS).body(text),
        Err(_) => HttpResponse::ServiceUnavailable().finish(),
    }
}

/// What the Shards count, and who else is there.
pub(super) async fn status(state: Data<State>) -> HttpResponse {
    #[derive(Serialize)]
    struct Status {
        #[serde(flatten)]
        counted: Snapshot,
        nodes: Vec<Beat>,
    }
    let (counted, nodes) = (state.counted(), state.control.nodes().beats());
    HttpResponse::Ok().json(Status { counted, nodes })
}
