//! HTTP: the routes, and the listeners behind them.
//!
//! A route is parse, call, answer. What a client asks for is decided elsewhere; here it is read from a
//! request and written as a response. This is the only room that knows actix-web and actix-ws. A
//! WebSocket leaves it with its handshake: from then on its Shard has the bare socket. A stream stays:
//! its Shard has a queue, and the body of its answer takes from that.

#[cfg(test)]
mod asyncapi;
mod body;
mod control;
mod cors;
mod credentials;
pub mod dev;
mod documents;
mod events;
mod health;
mod history;
pub mod listener;
mod meters;
#[cfg(test)]
mod openapi;
mod patience;
mod problem;
mod publish;
mod query;
mod sdk;
mod trace;
mod websocket;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::{DefaultHeaders, from_fn};
pub use actix_web::web::Data;
use actix_web::web::{self, ServiceConfig};
use actix_web::{App, Error};
use tokio::sync::{Notify, mpsc, watch};

use crate::admission::Admission;
use crate::auth::Auth;
use crate::bus::{self, Link};
use crate::control::Control;
use crate::feed::Feeds;
use crate::namespace::Namespaces;
use crate::publication::Timestamp;
use crate::publisher::Publisher;
use crate::shard::Order;
use crate::shard::counts::{Counts, Snapshot};
use crate::span::Spans;
pub use meters::Meters;

/// What HTTP takes.
#[derive(Debug, Clone)]
pub struct Config {
    /// Most Publications of one batch.
    pub batch_items: usize,
    /// Largest batch, in bytes.
    pub batch_bytes: usize,
    /// Longest URL, in bytes.
    pub url_bytes: usize,
    /// Time for a request's head.
    pub head_timeout: Duration,
    /// Time for its body.
    pub body_timeout: Duration,
}

/// What all routes work with.
pub struct State {
    /// What HTTP takes.
    pub config: Config,
    /// Who may do what.
    pub auth: Arc<Auth>,
    /// Where Publications go in.
    pub publisher: Arc<Publisher>,
    /// Where pages of what is kept are read.
    pub feeds: Feeds,
    /// What all nodes do together.
    pub control: Arc<Control<bus::Door>>,
    /// The rules of Topics.
    pub namespaces: Arc<Namespaces>,
    /// Most Subscriptions of one Connection.
    pub subscriptions_max: usize,
    /// Of each Shard.
    pub counts: Vec<Arc<Counts>>,
    /// To each Shard.
    pub orders: Vec<mpsc::Sender<Order>>,
    /// Who may come in.
    pub admission: Arc<Admission>,
    /// The node's link to the others.
    pub link: watch::Receiver<Link>,
    /// Whether the node is about to go away: it is not ready, and does all else as before.
    pub leaving: AtomicBool,
    /// Whether it is going: nobody new comes in.
    pub draining: AtomicBool,
    /// Told when an operator wants it to go.
    pub drain_asked: Notify,
    /// The wall clock.
    pub wall: fn() -> Timestamp,
    /// What is measured here.
    pub meters: Meters,
    /// Reads all that is measured, as Prometheus takes it.
    pub metrics: Box<dyn Fn() -> String + Send + Sync>,
    /// None while traces are off.
    pub spans: Option<Arc<Spans>>,
    /// What only `dev` has.
    pub dev: Option<dev::Info>,
}

impl State {
    /// The counters of all Shards together.
    #[must_use]
    pub fn counted(&self) -> Snapshot {
        Snapshot::sum(self.counts.iter().map(|counts| &**counts))
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }
}

/// The client port's application.
fn app(
    state: &Data<State>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody + use<>>,
        Error = Error,
        InitError = (),
    > + use<>,
> {
    App::new()
        .app_data(state.clone())
        .configure(|routes| client_routes(routes, state))
        .wrap(from_fn(cors::guard))
        .wrap(from_fn(trace::guard))
        .wrap(
            DefaultHeaders::new()
                .add(("Referrer-Policy", "no-referrer"))
                .add(("X-Content-Type-Options", "nosniff")),
        )
}

fn client_routes(routes: &mut ServiceConfig, state: &State) {
    routes
        .service(
            web::resource("/v1/connect")
                .route(web::get().to(websocket::connect))
                .default_service(web::to(async || problem::method_not_allowed("GET"))),
        )
        .service(
            web::resource("/v1/events")
                .route(web::get().to(events::events))
                .default_service(web::to(async || problem::method_not_allowed("GET"))),
        )
        .service(
            web::resource("/v1/topics")
                .route(web::get().to(control::topics))
                .default_service(web::to(async || problem::method_not_allowed("GET"))),
        )
        .service(
            web::resource("/v1/disconnect")
                .route(web::post().to(control::disconnect))
                .default_service(web::to(async || problem::method_not_allowed("POST"))),
        )
        .service(
            web::resource("/v1/topics/{topic}/messages")
                .route(web::get().to(history::messages))
                .route(web::post().to(publish::one))
                .default_service(web::to(async || problem::method_not_allowed("GET, POST"))),
        )
        .service(
            web::resource("/v1/topics/{pattern}/state")
                .route(web::get().to(history::state))
                .default_service(web::to(async || problem::method_not_allowed("GET"))),
        )
        .service(
            web::resource("/v1/topics/{topic}")
                .route(web::delete().to(publish::tombstone))
                .default_service(web::to(async || problem::method_not_allowed("DELETE"))),
        )
        .service(
            web::resource("/v1/publish")
                .route(web::post().to(publish::batch))
                .default_service(web::to(async || problem::method_not_allowed("POST"))),
        )
        .service(
            web::resource("/tidegate.js")
                .route(web::get().to(sdk::script))
                .route(web::head().to(sdk::script))
                .default_service(web::to(async || problem::method_not_allowed("GET, HEAD"))),
        )
        .service(
            web::resource("/openapi.json")
                .route(web::get().to(documents::openapi))
                .route(web::head().to(documents::openapi))
                .default_service(web::to(async || problem::method_not_allowed("GET, HEAD"))),
        )
        .service(
            web::resource("/asyncapi.json")
                .route(web::get().to(documents::asyncapi))
                .route(web::head().to(documents::asyncapi))
                .default_service(web::to(async || problem::method_not_allowed("GET, HEAD"))),
        )
        .default_service(web::to(problem::not_found));
    if state.dev.is_some() {
        routes.configure(dev::routes);
    }
}

/// The management port's application. No route from outside leads there.
fn management(
    state: &Data<State>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<impl MessageBody + use<>>,
        Error = Error,
        InitError = (),
    > + use<>,
> {
    App::new()
        .app_data(state.clone())
        .service(web::resource("/health/live").route(web::get().to(health::live)))
        .service(web::resource("/health/ready").route(web::get().to(health::ready)))
        .service(web::resource("/drain").route(web::post().to(health::drain)))
        .service(web::resource("/status").route(web::get().to(health::status)))
        .service(web::resource("/metrics").route(web::get().to(health::metrics)))
        .default_service(web::to(problem::not_found))
}
