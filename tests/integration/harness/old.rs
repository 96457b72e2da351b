//! A NATS server so old that it cannot be got any more, as far as it says its version and answers pings.
//! This is the only stand-in among the tests' servers.

use std::net::SocketAddr;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// It ends, with all its connections, when this is dropped.
pub(crate) struct OldNats(#[expect(dead_code, reason = "it holds the task")] JoinSet<()>);

impl OldNats {
    /// Listens here, under the name `old`.
    pub(crate) async fn start(address: SocketAddr, version: &'static str) -> Self {
        let listener = TcpListener::bind(address).await.expect("the address is free");
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(speak(stream, version));
            }
        });
        Self(tasks)
    }
}

async fn speak(mut stream: TcpStream, version: &str) {
    let (reader, mut writer) = stream.split();
    let info = format!(
        "INFO {{\"server_id\":\"OLD\",\"server_name\":\"old\",\"version\":\"{version}\",\
         \"proto\":1,\"max_payload\":1048576,\"headers\":true}}\r\n"
    );
    let mut lines = BufReader::new(reader).lines();
    let mut answer = info.as_str();
    // A client that has gone needs no answer.
    while writer.write_all(answer.as_bytes()).await.is_ok() {
        let Ok(Some(line)) = lines.next_line().await else { return };
        answer = if line.starts_with("PING") { "PONG\r\n" } else { "" };
    }
}
