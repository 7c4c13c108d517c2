//! A wire that can be frozen and cut.

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinSet,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Whole,
    Frozen,
    Cut,
}

/// A loopback port whose connections are passed on to a server.
pub struct Network {
    pub addr: SocketAddr,
    wire: Arc<watch::Sender<Wire>>,
    _forwarder: JoinSet<()>,
}

impl Network {
    /// A port that leads to `server`, cut at first if so wished.
    pub async fn to(server: SocketAddr, is_cut: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (wire, state) = watch::channel(if is_cut { Wire::Cut } else { Wire::Whole });
        let mut forwarder = JoinSet::new();
        forwarder.spawn(forward(listener, server, state));
        Self { addr, wire: Arc::new(wire), _forwarder: forwarder }
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

async fn forward(listener: TcpListener, server: SocketAddr, state: watch::Receiver<Wire>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        let state = state.clone();
        connections.spawn(async move {
            if *state.borrow() == Wire::Cut {
                return;
            }
            let Ok(server) = TcpStream::connect(server).await else { return };
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            tokio::select! {
                () = pump(from_client, to_server, state.clone()) => {}
                () = pump(from_server, to_client, state) => {}
            }
        });
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<Wire>) {
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
