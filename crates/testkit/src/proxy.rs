//! A wire between a client and a server that can be slowed, frozen and cut.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::JoinSet,
};

/// How much is passed on at once, in bytes.
const CHUNK: usize = 64 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    /// Everything passes, this much later.
    Whole(Duration),
    /// Nothing passes, and connections stay open: a black hole.
    Frozen,
    /// Connections break, and new ones are closed at once.
    Cut,
}

/// How the wire is, and which connections it has lost.
#[derive(Clone, Copy, Debug)]
struct State {
    wire: Wire,
    /// Connections with a lower number pass nothing any more.
    silent_below: u64,
}

/// Where the wire leads.
#[derive(Clone, Debug)]
enum Server {
    Port(SocketAddr),
    Socket(PathBuf),
}

/// The wire as one connection sees it.
#[derive(Clone)]
struct Seen {
    number: u64,
    state: watch::Receiver<State>,
}

/// A loopback port that leads to a server. Dropping it breaks every connection.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    server: watch::Sender<Option<Server>>,
    state: watch::Sender<State>,
    connections: Arc<AtomicU64>,
    _forwarder: JoinSet<()>,
}

impl Proxy {
    /// A wire to a port.
    pub async fn to(server: SocketAddr) -> Self {
        let proxy = Self::unconnected().await;
        proxy.lead_to(server);
        proxy
    }

    /// A wire to the shared PostgreSQL.
    pub async fn to_postgres() -> Self {
        Self::to(crate::servers().await.postgres).await
    }

    /// A wire to a Unix socket.
    pub async fn to_socket(socket: impl Into<PathBuf>) -> Self {
        let proxy = Self::unconnected().await;
        proxy.server.send_replace(Some(Server::Socket(socket.into())));
        proxy
    }

    /// A wire that leads nowhere yet: its clients wait. For a server that must be told the proxy's port.
    pub async fn unconnected() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (server, leads_to) = watch::channel(None);
        let (state, seen) = watch::channel(State { wire: Wire::Whole(Duration::ZERO), silent_below: 0 });
        let connections = Arc::new(AtomicU64::new(0));
        let mut forwarder = JoinSet::new();
        forwarder.spawn(forward(listener, leads_to, seen, Arc::clone(&connections)));
        Self { addr, server, state, connections, _forwarder: forwarder }
    }

    /// Leads to `server` from now on.
    pub fn lead_to(&self, server: SocketAddr) {
        self.server.send_replace(Some(Server::Port(server)));
    }

    /// The port that clients use.
    #[must_use]
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Breaks connections, and closes new ones at once.
    pub fn cut(&self) {
        self.set(Wire::Cut);
    }

    /// Lets nothing pass, and keeps connections open.
    pub fn freeze(&self) {
        self.set(Wire::Frozen);
    }

    /// Passes everything on so much later, each way.
    pub fn delay(&self, by: Duration) {
        self.set(Wire::Whole(by));
    }

    /// Lets everything pass again.
    pub fn heal(&self) {
        self.delay(Duration::ZERO);
    }

    /// Lets the connections of this moment stay open and never pass anything again, as when a host vanished; new
    /// ones work.
    pub fn lose_connections(&self) {
        let silent_below = self.connections.load(Ordering::SeqCst);
        self.state.send_modify(|state| state.silent_below = silent_below);
    }

    fn set(&self, wire: Wire) {
        self.state.send_modify(|state| state.wire = wire);
    }
}

async fn forward(
    listener: TcpListener,
    server: watch::Receiver<Option<Server>>,
    state: watch::Receiver<State>,
    numbers: Arc<AtomicU64>,
) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (mut server, wire) =
            (server.clone(), Seen { number: numbers.fetch_add(1, Ordering::SeqCst), state: state.clone() });
        connections.spawn(async move {
            if wire.state.borrow().wire == Wire::Cut {
                return;
            }
            let Ok(server) = server.wait_for(Option::is_some).await.map(|server| server.clone()) else { return };
            match server {
                Some(Server::Port(addr)) => {
                    if let Ok(server) = TcpStream::connect(addr).await {
                        // Each side's own choice of waiting for more does not count here.
                        (client.set_nodelay(true), server.set_nodelay(true)).0.unwrap_or_default();
                        join(client, server, wire).await;
                    }
                }
                Some(Server::Socket(path)) => {
                    if let Ok(server) = UnixStream::connect(path).await {
                        join(client, server, wire).await;
                    }
                }
                None => {}
            }
        });
    }
}

async fn join(client: TcpStream, server: impl AsyncRead + AsyncWrite, wire: Seen) {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_server, to_server) = tokio::io::split(server);
    tokio::select! {
        () = pump(from_client, to_server, wire.clone()) => {}
        () = pump(from_server, to_client, wire) => {}
    }
}

/// Passes bytes on until either end closes or the wire is cut.
async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, wire: Seen) {
    let Seen { number, mut state } = wire;
    let mut is_cut = state.clone();
    let pass = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            // What was read before the wire froze waits with the rest.
            let passes = |state: &State| state.wire != Wire::Frozen && number >= state.silent_below;
            let Ok(Wire::Whole(delay)) = state.wait_for(passes).await.map(|state| state.wire) else {
                return;
            };
            if delay > Duration::ZERO {
                tokio::time::sleep(delay).await;
            }
            if to.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = pass => {}
        _ = is_cut.wait_for(|state| state.wire == Wire::Cut) => {}
    }
}
