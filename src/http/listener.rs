//! The listeners, and how a socket leaves HTTP.
//!
//! Plain requests go to the application as usual. An upgrade request is given to a second instance of
//! the same application, so that routes, middleware and extractors all work; if that answers 101, the
//! bare socket goes to this thread's Shard and everything that HTTP held for it is freed. Any other
//! answer to an upgrade nobody would write for us, so it is written here, and the socket ends.
//!
//! LAW: nothing of the request is kept. A header's value is a slice of the read buffer and would pin
//! all of it for the life of the Connection.

use std::future::ready;
use std::io;
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::rc::Rc;
use std::time::Duration;

use actix_codec::{Encoder as _, Framed, FramedParts};
use actix_http::body::{BodySize, BoxBody};
use actix_http::h1::{self, Message};
use actix_http::{ConnectionType, HttpService, Protocol, Request};
use actix_server::{Server, ServerHandle};
use actix_service::{
    Service, ServiceFactory as _, ServiceFactoryExt as _, fn_factory, fn_service, map_config,
};
use actix_web::body;
use actix_web::dev::{AppConfig, ServiceResponse};
use actix_web::http::{Method, StatusCode, Version};
use actix_web::rt::net::TcpStream;
use actix_web::web::Data;
use actix_web::{Error, HttpMessage as _, HttpResponse, ResponseError as _};
use bytes::{Bytes, BytesMut};
use opentelemetry::Context;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::AsyncWriteExt as _;
use tokio::time::timeout;

use super::patience::Patient;
use super::problem::Problem;
use super::{State, app, management};
use crate::admission::Pass;
use crate::protocol::error::Code;
use crate::session::Handshake;
use crate::shard::{self, Seat, Takeover};

/// What may wait in the kernel for a peer that does not read.
const SEND_BUFFER_BYTES: usize = 64 * 1_024;
/// A peer that acknowledges nothing for this long is gone.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections that the kernel may hold for us to accept.
const BACKLOG: i32 = 4_096;
/// Time to write a refusal, and for its reader to go.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Time for what a request asks for, once it is there: the longest wait for the Bus, and some.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Largest body of a refusal.
const REFUSAL_BYTES_MAX: usize = 16 * 1_024;
/// What HTTP takes of a body before it writes.
const WRITE_BUFFER_BYTES: usize = 8 * 1_024;
/// Plain HTTP requests and streams a worker works on at once, if no more may be connected; sockets taken
/// over are counted by their Shard.
const REQUESTS_PER_WORKER: usize = 25_600;

/// Stands in a request that may become a WebSocket. A handler that answers 101 without it would have
/// its answer written as if it were a body.
pub(super) struct Upgrading;

/// Binds one address, so that every fault is told before anything starts.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket =
        Socket::new(Domain::for_address(address), Type::STREAM, Some(socket2::Protocol::TCP))?;
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Serves both ports with as many workers as there are Shards. `seat` gives each worker thread its
/// Shard's parts.
pub fn serve(
    client: TcpListener,
    operator: TcpListener,
    workers: usize,
    state: Data<State>,
    seat: impl Fn() -> Option<Seat> + Clone + Send + 'static,
) -> io::Result<(Server, ServerHandle)> {
    let for_operators = state.clone();
    let server = Server::build()
        .workers(workers)
        .disable_signals()
        .shutdown_timeout(1)
        .max_concurrent_connections(REQUESTS_PER_WORKER + state.admission.connections_max())
        .listen("client", client, move || {
            shard::start(&seat);
            let (plain, upgrading) = (state.clone(), state.clone());
            let patience = state.config.head_timeout + state.config.body_timeout + ANSWER_TIMEOUT;
            let http = HttpService::build()
                .client_request_timeout(state.config.head_timeout)
                .client_disconnect_timeout(Duration::from_secs(1))
                .h1_write_buffer_size(WRITE_BUFFER_BYTES)
                .on_connect_ext(|socket: &Patient, data| {
                    data.insert(socket.hung_up());
                })
                .upgrade(fn_factory(move || {
                    let app = app(&upgrading);
                    async move {
                        let app =
                            map_config(app, |()| AppConfig::default()).new_service(()).await?;
                        let app = Rc::new(app);
                        Ok::<_, ()>(fn_service(move |(request, framed)| {
                            upgrade(Rc::clone(&app), request, framed)
                        }))
                    }
                }))
                .finish(map_config(app(&plain), |()| AppConfig::default()));
            fn_service(move |socket: TcpStream| {
                set_options(&socket);
                let peer = socket.peer_addr().ok();
                ready(Ok((Patient::new(socket, patience), Protocol::Http1, peer)))
            })
            .and_then(http)
        })?
        .listen("management", operator, move || {
            HttpService::build()
                .client_request_timeout(for_operators.config.head_timeout)
                .finish(map_config(management(&for_operators), |()| AppConfig::default()))
                .tcp()
        })?
        .run();
    let handle = server.handle();
    Ok((server, handle))
}

/// For every socket: a stalled peer pins neither memory nor a descriptor.
fn set_options(socket: &TcpStream) {
    let socket = SockRef::from(socket);
    // A socket that takes no option is as good as gone, and its first read or write says so.
    let _ = socket.set_tcp_nodelay(true);
    let _ = socket.set_send_buffer_size(SEND_BUFFER_BYTES);
    #[cfg(target_os = "linux")]
    let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
}

/// An upgrade request: to the application if it can be a WebSocket's, else refused.
async fn upgrade<A, B>(
    app: Rc<A>,
    request: Request,
    framed: Framed<Patient, h1::Codec>,
) -> Result<(), Error>
where
    A: Service<Request, Response = ServiceResponse<B>, Error = Error>,
    B: body::MessageBody + 'static,
{
    let may = request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && request.path() == "/v1/connect";
    let response = if may {
        request.extensions_mut().insert(Upgrading);
        match app.call(request).await {
            Ok(response) => response.into_parts().1.map_into_boxed_body(),
            Err(error) => error.error_response(),
        }
    } else {
        let words = "only GET /v1/connect over HTTP/1.1 can be upgraded";
        Problem::new(Code::BadMessage, words).error_response()
    };
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        take_over(response, framed)
    } else {
        refuse(response, framed).await
    }
}

/// The socket leaves HTTP.
fn take_over(mut response: HttpResponse, framed: Framed<Patient, h1::Codec>) -> Result<(), Error> {
    let handshake = response.extensions_mut().remove::<Handshake>().unwrap_or_default();
    let span = response.extensions_mut().remove::<Context>();
    let Some(pass) = response.extensions_mut().remove::<Pass>() else {
        // Only the route answers 101, and it leaves a pass.
        return Ok(());
    };
    // What came behind the request is in the read buffer; earlier answers may wait in the other.
    let FramedParts { io, mut codec, read_buf, mut write_buf, .. } = framed.into_parts();
    let head = response.drop_body().into();
    codec.encode(Message::Item((head, BodySize::Stream)), &mut write_buf)?;
    let _span = span.map(Context::attach);
    shard::adopt(Takeover {
        socket: io.into_socket(),
        head: Bytes::copy_from_slice(&write_buf),
        read: BytesMut::from(&read_buf[..]),
        handshake,
        pass,
    });
    Ok(())
}

/// Writes an answer that is no upgrade, and ends the socket.
async fn refuse(
    mut response: HttpResponse<BoxBody>,
    framed: Framed<Patient, h1::Codec>,
) -> Result<(), Error> {
    let FramedParts { io, mut codec, mut write_buf, .. } = framed.into_parts();
    let mut io = io.into_socket();
    response.head_mut().set_connection_type(ConnectionType::Close);
    let (response, content) = response.into_parts();
    let content = body::to_bytes_limited(content, REFUSAL_BYTES_MAX).await;
    let content = content.ok().and_then(Result::ok).unwrap_or_default();
    let size = BodySize::Sized(content.len() as u64);
    codec.encode(Message::Item((response.into(), size)), &mut write_buf)?;
    write_buf.extend_from_slice(&content);
    let goodbye = async {
        io.write_all(&write_buf).await?;
        SockRef::from(&io).shutdown(Shutdown::Write)?;
        let mut thrown_away = [0; 1_024];
        loop {
            io.readable().await?;
            match io.try_read(&mut thrown_away) {
                Ok(0) => return Ok::<_, io::Error>(()),
                Err(fault) if fault.kind() != io::ErrorKind::WouldBlock => return Err(fault),
                Ok(_) | Err(_) => {}
            }
        }
    };
    // Whether the refused one hears it is its own affair.
    let _ = timeout(REFUSAL_TIMEOUT, goodbye).await;
    Ok(())
}
