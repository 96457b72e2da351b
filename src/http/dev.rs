//! What only `tidegate dev` serves: the page, and ways to cut a Connection and to send it away.

use std::time::Duration;

use actix_web::http::header;
use actix_web::web::{self, Data, Json, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, Responder};
use serde::{Deserialize, Serialize};

use super::State;
use super::problem::{self, Problem};
use crate::protocol::error::Code;
use crate::shard::Order;

/// The page speaks to nobody but this gateway.
const POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; frame-ancestors 'none'; \
                      base-uri 'none'; form-action 'none'";

/// The time over which a rehearsed drain sends its one Connection away: in the middle of it.
const REHEARSAL: Duration = Duration::from_secs(4);

/// Small applications that show what the client library is for, by the names of their files.
const EXAMPLES: [(&str, &[u8]); 11] = [
    ("board.html", include_bytes!("../../sdk/examples/board.html")),
    ("board.js", include_bytes!("../../sdk/examples/board.js")),
    ("chat.html", include_bytes!("../../sdk/examples/chat.html")),
    ("chat.js", include_bytes!("../../sdk/examples/chat.js")),
    ("cursors.html", include_bytes!("../../sdk/examples/cursors.html")),
    ("cursors.js", include_bytes!("../../sdk/examples/cursors.js")),
    ("log.html", include_bytes!("../../sdk/examples/log.html")),
    ("log.js", include_bytes!("../../sdk/examples/log.js")),
    ("style.css", include_bytes!("../../sdk/examples/style.css")),
    ("ticker.html", include_bytes!("../../sdk/examples/ticker.html")),
    ("ticker.js", include_bytes!("../../sdk/examples/ticker.js")),
];

/// What the page is told.
#[derive(Debug, Clone, Serialize)]
pub struct Info {
    /// Of the program.
    pub version: &'static str,
    /// Good for every Topic, until the process ends.
    pub token: String,
    /// How this program was started, for lines to copy.
    pub command: String,
    /// Who can reach it, in words.
    pub reach: &'static str,
}

pub(super) fn routes(routes: &mut ServiceConfig) {
    routes
        .service(web::resource("/").route(web::get().to(page)))
        .service(web::resource("/page.css").route(web::get().to(style)))
        .service(web::resource("/page.js").route(web::get().to(script)))
        .service(web::resource("/icon.svg").route(web::get().to(icon)))
        .service(web::resource("/examples/{name}").route(web::get().to(example)))
        .service(web::resource("/favicon.ico").route(web::get().to(no_icon)))
        .service(web::resource("/dev/info").route(web::get().to(info)))
        .service(
            web::resource("/dev/cut")
                .route(web::post().to(cut))
                .default_service(web::to(async || problem::method_not_allowed("POST"))),
        )
        .service(
            web::resource("/dev/drain")
                .route(web::post().to(drain))
                .default_service(web::to(async || problem::method_not_allowed("POST"))),
        );
}

async fn page() -> impl Responder {
    file("text/html; charset=utf-8", include_bytes!("../../sdk/dist/example/index.html"))
}

async fn style() -> impl Responder {
    file("text/css; charset=utf-8", include_bytes!("../../sdk/dist/example/page.css"))
}

async fn script() -> impl Responder {
    file("text/javascript; charset=utf-8", include_bytes!("../../sdk/dist/example/page.js"))
}

async fn icon() -> impl Responder {
    file("image/svg+xml", include_bytes!("../../sdk/dist/example/icon.svg"))
}

/// One of [`EXAMPLES`].
async fn example(request: HttpRequest, name: Path<String>) -> Result<HttpResponse, Problem> {
    let Some((name, bytes)) = EXAMPLES.into_iter().find(|(one, _)| *one == *name) else {
        return Err(problem::not_found(request).await);
    };
    Ok(match name.rsplit_once('.') {
        Some((_, "html")) => file("text/html; charset=utf-8", bytes),
        Some((_, "css")) => file("text/css; charset=utf-8", bytes),
        _ => file("text/javascript; charset=utf-8", bytes),
    })
}

fn file(kind: &'static str, bytes: &'static [u8]) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(kind)
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .body(bytes)
}

async fn no_icon() -> HttpResponse {
    HttpResponse::NoContent().finish()
}

async fn info(state: Data<State>) -> HttpResponse {
    HttpResponse::Ok().insert_header((header::CACHE_CONTROL, "no-store")).json(&state.dev)
}

/// Which Connection is meant.
#[derive(Deserialize)]
struct Meant {
    connection: String,
}

/// Drops a Connection's socket without a goodbye, wherever it is.
async fn cut(meant: Json<Meant>, state: Data<State>) -> Result<HttpResponse, Problem> {
    tell(&state, &Order::Cut(meant.into_inner().connection))
}

/// Rehearses a drain: one Connection is told to go, and has its slot. The node stays.
async fn drain(meant: Json<Meant>, state: Data<State>) -> Result<HttpResponse, Problem> {
    let Meant { connection } = meant.into_inner();
    tell(&state, &Order::SendAway { connection, window: REHEARSAL })
}

/// Nobody knows here which Shard has it.
fn tell(state: &State, order: &Order) -> Result<HttpResponse, Problem> {
    for shard in &state.orders {
        if shard.try_send(order.clone()).is_err() {
            return Err(Problem::new(Code::Overloaded, "a Shard has too many orders waiting"));
        }
    }
    Ok(HttpResponse::Accepted().finish())
}
