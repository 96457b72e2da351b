//! A client as a browser is one: a WebSocket that speaks `tidegate.v1.json`.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue, Response};
use tokio_tungstenite::tungstenite::protocol::Message;
use tokio_tungstenite::tungstenite::{self, Error};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::{SOON, soon};

/// The end of a Connection, as its client sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed {
    /// The close status; none if the socket ended without a close frame.
    pub(crate) status: Option<u16>,
    /// The reason, as it came.
    pub(crate) reason: String,
}

impl Closed {
    /// The `code` in the reason.
    pub(crate) fn code(&self) -> String {
        let reason: Value = serde_json::from_str(&self.reason).unwrap_or_default();
        reason["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// An open socket.
pub(crate) struct Browser {
    socket: WebSocketStream<TcpStream>,
    /// The answer to the handshake.
    pub(crate) handshake: Response<Option<Vec<u8>>>,
    next_id: u64,
}

impl Browser {
    /// Connects to `/v1/connect`, with this query.
    pub(crate) async fn connect(address: SocketAddr, query: &str) -> Self {
        match Self::dial(address, query, &[]).await {
            Ok(browser) => browser,
            Err(fault) => panic!("no connection: {fault}"),
        }
    }

    /// The same with headers, as a result: a refused handshake is [`Error::Http`].
    pub(crate) async fn dial(
        address: SocketAddr,
        query: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, tungstenite::Error> {
        let separator = if query.is_empty() { "" } else { "?" };
        let url = format!("ws://{address}/v1/connect{separator}{query}");
        let mut request = url.into_client_request()?;
        for (name, value) in headers {
            let name: HeaderName = name.parse().expect("a header name");
            request.headers_mut().append(name, HeaderValue::from_str(value).expect("a value"));
        }
        let stream =
            soon("a TCP connection", TcpStream::connect(address)).await.map_err(Error::Io)?;
        stream.set_nodelay(true).map_err(Error::Io)?;
        let (socket, handshake) = soon("a handshake", client_async(request, stream)).await?;
        Ok(Self { socket, handshake, next_id: 0 })
    }

    /// Sends a Command as it stands.
    pub(crate) async fn send(&mut self, command: Value) {
        self.send_raw(Message::text(command.to_string())).await;
    }

    /// Sends any message.
    pub(crate) async fn send_raw(&mut self, message: Message) {
        soon("a send", self.socket.send(message)).await.expect("it is sent");
    }

    /// The next Frame. Protocol pings are answered and passed over.
    pub(crate) async fn next(&mut self) -> Value {
        match self.next_or_close(SOON).await {
            Ok(frame) => frame,
            Err(closed) => panic!("closed: {closed:?}"),
        }
    }

    /// The next Frame within `limit`, or how the Connection ended.
    pub(crate) async fn next_or_close(&mut self, limit: Duration) -> Result<Value, Closed> {
        let none = |status, reason: &str| Closed { status, reason: reason.to_owned() };
        loop {
            let next = timeout(limit, self.socket.next()).await;
            match next.unwrap_or_else(|_| panic!("no frame within {limit:?}")) {
                Some(Ok(Message::Text(text))) => {
                    return Ok(serde_json::from_str(&text).expect("a Frame is JSON"));
                }
                Some(Ok(Message::Close(Some(frame)))) => {
                    return Err(none(Some(frame.code.into()), &frame.reason));
                }
                Some(Ok(Message::Close(None))) => return Err(none(Some(1005), "")),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(none(None, "")),
            }
        }
    }

    /// Asserts that nothing comes for a while: a ping is asked, and only its answer comes.
    pub(crate) async fn is_quiet(&mut self) {
        let id = self.command(json!({"type": "ping"})).await;
        let frame = self.next().await;
        assert_eq!(frame, json!({"type": "pong", "id": id}));
    }

    /// How the Connection ends; Frames before that are passed over.
    pub(crate) async fn closed(&mut self, limit: Duration) -> Closed {
        loop {
            if let Err(closed) = self.next_or_close(limit).await {
                return closed;
            }
        }
    }

    /// Sends a Command with a fresh `id`, which it gives.
    pub(crate) async fn command(&mut self, mut command: Value) -> u64 {
        self.next_id += 1;
        command["id"] = json!(self.next_id);
        self.send(command).await;
        self.next_id
    }

    /// Asks, and gives the Reply: the next Frame with its `id`. Others are passed over.
    pub(crate) async fn ask(&mut self, command: Value) -> Value {
        let id = self.command(command).await;
        loop {
            let frame = self.next().await;
            if frame["id"] == json!(id) {
                return frame;
            }
        }
    }

    /// Subscribes, and waits until it is live.
    pub(crate) async fn subscribe(&mut self, topic: &str) {
        let reply = self.ask(json!({"type": "subscribe", "topic": topic})).await;
        assert_eq!(reply["type"], "subscribed", "{reply}");
    }

    /// Publishes, and waits until it is taken; gives its id.
    pub(crate) async fn publish(&mut self, topic: &str, data: Value) -> String {
        let reply = self.ask(json!({"type": "publish", "topic": topic, "data": data})).await;
        assert_eq!(reply["type"], "published", "{reply}");
        reply["message_id"].as_str().expect("an id").to_owned()
    }

    /// The next Frame that is a Publication. Others are passed over.
    pub(crate) async fn message(&mut self) -> Value {
        loop {
            let frame = self.next().await;
            if frame["type"] == "message" {
                return frame;
            }
        }
    }
}
