//! Whether the node lives and wants traffic, on the management port. Never a question of load.

use actix_web::HttpResponse;
use actix_web::web::Data;
use serde::Serialize;

use super::State;

#[derive(Serialize)]
struct Health {
    ok: bool,
    why: Vec<&'static str>,
}

/// The process turns: it has answered.
pub(super) async fn live() -> HttpResponse {
    HttpResponse::Ok().json(Health {
        ok: true,
        why: Vec::new(),
    })
}

/// The node wants new Connections.
pub(super) async fn ready(state: Data<State>) -> HttpResponse {
    let why = if state.is_draining() {
        vec!["the node is draining"]
    } else {
        Vec::new()
    };
    let health = Health {
        ok: why.is_empty(),
        why,
    };
    if health.ok {
        HttpResponse::Ok().json(health)
    } else {
        HttpResponse::ServiceUnavailable().json(health)
    }
}

/// What the Shards count.
pub(super) async fn status(state: Data<State>) -> HttpResponse {
    HttpResponse::Ok().json(state.counted())
}
