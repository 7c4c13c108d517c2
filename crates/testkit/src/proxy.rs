//! A wire between a client and a server that can be slowed, frozen and cut.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

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

/// Where the wire leads.
#[derive(Clone, Debug)]
enum Server {
    Port(SocketAddr),
    Socket(PathBuf),
}

/// A loopback port that leads to a server. Dropping it breaks every connection.
#[derive(Debug)]
pub struct Proxy {
    addr: SocketAddr,
    server: watch::Sender<Option<Server>>,
    wire: watch::Sender<Wire>,
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
        let (wire, state) = watch::channel(Wire::Whole(Duration::ZERO));
        let mut forwarder = JoinSet::new();
        forwarder.spawn(forward(listener, leads_to, state));
        Self { addr, server, wire, _forwarder: forwarder }
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
        self.wire.send_replace(Wire::Cut);
    }

    /// Lets nothing pass, and keeps connections open.
    pub fn freeze(&self) {
        self.wire.send_replace(Wire::Frozen);
    }

    /// Passes everything on so much later, each way.
    pub fn delay(&self, by: Duration) {
        self.wire.send_replace(Wire::Whole(by));
    }

    /// Lets everything pass again.
    pub fn heal(&self) {
        self.delay(Duration::ZERO);
    }
}

async fn forward(listener: TcpListener, server: watch::Receiver<Option<Server>>, wire: watch::Receiver<Wire>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (mut server, wire) = (server.clone(), wire.clone());
        connections.spawn(async move {
            if *wire.borrow() == Wire::Cut {
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

async fn join(client: TcpStream, server: impl AsyncRead + AsyncWrite, wire: watch::Receiver<Wire>) {
    let (from_client, to_client) = tokio::io::split(client);
    let (from_server, to_server) = tokio::io::split(server);
    tokio::select! {
        () = pump(from_client, to_server, wire.clone()) => {}
        () = pump(from_server, to_client, wire) => {}
    }
}

/// Passes bytes on until either end closes or the wire is cut.
async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, wire: watch::Receiver<Wire>) {
    let mut is_cut = wire.clone();
    let mut state = wire;
    let pass = async {
        let mut buffer = vec![0; CHUNK];
        while let Ok(read @ 1..) = from.read(&mut buffer).await {
            // What was read before the wire froze waits with the rest.
            let Ok(Wire::Whole(delay)) = state.wait_for(|wire| *wire != Wire::Frozen).await.map(|wire| *wire) else {
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
        _ = is_cut.wait_for(|wire| *wire == Wire::Cut) => {}
    }
}
