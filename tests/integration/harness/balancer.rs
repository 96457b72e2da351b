//! A TCP balancer: whoever connects is passed on to the next of several gateways, in turn.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// A balancer on an address of its own.
pub(crate) struct Balancer {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    targets: Arc<Mutex<Targets>>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Targets {
    addresses: Vec<SocketAddr>,
    turn: usize,
}

impl Targets {
    fn next(&mut self) -> Option<SocketAddr> {
        self.turn += 1;
        let at = self.turn.checked_rem(self.addresses.len())?;
        self.addresses.get(at).copied()
    }
}

impl Balancer {
    /// Listens, and passes on to these.
    pub(crate) async fn start(addresses: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let targets = Arc::new(Mutex::new(Targets { addresses, turn: 0 }));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, Arc::clone(&targets)));
        Self { address, targets, _tasks: tasks }
    }

    /// Passes nobody new on to this one; who is connected stays.
    pub(crate) fn remove(&self, address: SocketAddr) {
        self.edit(|targets| targets.retain(|other| *other != address));
    }

    /// Passes on to this one, too.
    pub(crate) fn add(&self, address: SocketAddr) {
        self.edit(|targets| targets.push(address));
    }

    fn edit(&self, edit: impl FnOnce(&mut Vec<SocketAddr>)) {
        let mut targets = self.targets.lock().unwrap_or_else(PoisonError::into_inner);
        edit(&mut targets.addresses);
    }
}

async fn accept(listener: TcpListener, targets: Arc<Mutex<Targets>>) {
    let mut pumps = JoinSet::new();
    while let Ok((mut client, _)) = listener.accept().await {
        let target = targets.lock().unwrap_or_else(PoisonError::into_inner).next();
        while pumps.try_join_next().is_some() {}
        let Some(target) = target else { continue };
        pumps.spawn(async move {
            if let Ok(mut server) = TcpStream::connect(target).await {
                // Either side may end as it likes; the other sees it.
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}
