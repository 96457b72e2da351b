//! A TCP proxy that fails on demand: what lies between a client and its gateway.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What happens to bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weather {
    /// They pass.
    Pass,
    /// Connections stay open, and nothing passes.
    BlackHole,
    /// What the client sends arrives, and no answer comes back.
    Half,
    /// What the server sends arrives, and nothing of what the client says.
    Unheard,
    /// Connections end, also new ones.
    Cut,
}

/// A proxy on an address of its own.
pub(crate) struct Proxy {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    weather: Arc<watch::Sender<Weather>>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Listens, and passes on to `target`.
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let weather = Arc::new(watch::Sender::new(Weather::Pass));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target, Arc::clone(&weather)));
        Self { address, weather, _tasks: tasks }
    }

    /// Changes what happens to bytes, on every connection.
    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, weather: Arc<watch::Sender<Weather>>) {
    let mut pumps = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let Ok(server) = TcpStream::connect(target).await else {
            continue;
        };
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        pumps.spawn(pump(
            from_client,
            to_server,
            weather.subscribe(),
            &[Weather::Pass, Weather::Half],
        ));
        pumps.spawn(pump(
            from_server,
            to_client,
            weather.subscribe(),
            &[Weather::Pass, Weather::Unheard],
        ));
        while pumps.try_join_next().is_some() {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    passes_in: &'static [Weather],
) {
    let mut bytes = vec![0; 16 * 1_024];
    loop {
        let mut cut = weather.clone();
        let read = tokio::select! {
            _ = cut.wait_for(|weather| *weather == Weather::Cut) => return,
            read = from.read(&mut bytes) => read.unwrap_or(0),
        };
        // In a black hole not even the end of a connection arrives.
        let changed = weather
            .wait_for(|weather| passes_in.contains(weather) || *weather == Weather::Cut)
            .await;
        let passes = changed.is_ok_and(|weather| *weather != Weather::Cut);
        if read == 0 || !passes || to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}
