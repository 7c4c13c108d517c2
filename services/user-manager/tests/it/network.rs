//! A wire to the database that can be frozen and cut.

use std::{net::SocketAddr, path::PathBuf};

use sqlx::postgres::PgConnectOptions;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::JoinSet,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Whole,
    Frozen,
    Cut,
}

/// Where a PostgreSQL server listens.
#[derive(Clone)]
enum Server {
    Port(String, u16),
    Socket(PathBuf),
}

/// A loopback port that leads to a database.
pub struct Network {
    pub addr: SocketAddr,
    /// The database, by way of the wire.
    pub url: String,
    wire: watch::Sender<Wire>,
    _forwarder: JoinSet<()>,
}

impl Network {
    /// A wire to the database at `url`, cut at first if so wished.
    pub async fn to(url: &str, is_cut: bool) -> Self {
        let options: PgConnectOptions = url.parse().expect("a URL");
        let (user, database) = (options.get_username(), options.get_database().expect("a database"));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let url = format!("postgres://{user}@{addr}/{database}");
        let server = match options.get_socket() {
            Some(folder) => Server::Socket(folder.join(format!(".s.PGSQL.{}", options.get_port()))),
            None => Server::Port(options.get_host().to_owned(), options.get_port()),
        };
        let (wire, state) = watch::channel(if is_cut { Wire::Cut } else { Wire::Whole });
        let mut forwarder = JoinSet::new();
        forwarder.spawn(forward(listener, server, state));
        Self { addr, url, wire, _forwarder: forwarder }
    }

    /// Nothing passes; connections stay open.
    pub fn freeze(&self) {
        self.wire.send_replace(Wire::Frozen);
    }

    /// Connections break, and new ones are closed at once.
    pub fn cut(&self) {
        self.wire.send_replace(Wire::Cut);
    }

    /// Everything passes again.
    pub fn mend(&self) {
        self.wire.send_replace(Wire::Whole);
    }
}

async fn forward(listener: TcpListener, server: Server, state: watch::Receiver<Wire>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let (server, state) = (server.clone(), state.clone());
        connections.spawn(async move {
            if *state.borrow() == Wire::Cut {
                return;
            }
            match server {
                Server::Port(host, port) => {
                    let Ok(server) = TcpStream::connect((host, port)).await else { return };
                    join(client, server, state).await;
                }
                Server::Socket(path) => {
                    let Ok(server) = UnixStream::connect(path).await else { return };
                    join(client, server, state).await;
                }
            }
        });
    }
}

async fn join<S: AsyncRead + AsyncWrite>(client: TcpStream, server: S, state: watch::Receiver<Wire>) {
    let ((from_client, to_client), (from_server, to_server)) = (split(client), split(server));
    tokio::select! {
        () = pump(from_client, to_server, state.clone()) => {}
        () = pump(from_server, to_client, state) => {}
    }
}

async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut state: watch::Receiver<Wire>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            _ = state.wait_for(|wire| *wire == Wire::Cut) => return,
            read = from.read(&mut buffer) => read,
        };
        let Ok(length @ 1..) = read else { return };
        let passable = state.wait_for(|wire| *wire != Wire::Frozen).await.map(|wire| *wire);
        if passable.unwrap_or(Wire::Cut) == Wire::Cut || to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
