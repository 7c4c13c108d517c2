//! A network between the service and a server, which a test can cut and freeze.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Bytes pass.
    Open,
    /// Connections stay, and nothing passes.
    Frozen,
    /// Connections break, and new ones break at once.
    Cut,
}

pub struct Link {
    pub addr: SocketAddr,
    state: watch::Sender<State>,
}

impl Link {
    #[expect(clippy::disallowed_methods, reason = "it lives as long as the test's runtime")]
    pub async fn to(server: String, state: State) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let (sender, receiver) = watch::channel(state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connect(client, server.clone(), receiver.clone()));
            }
        });
        Self { addr, state: sender }
    }

    pub fn set(&self, state: State) {
        self.state.send_replace(state);
    }
}

async fn connect(client: TcpStream, server: String, state: watch::Receiver<State>) {
    if *state.borrow() == State::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pass(from_client, to_server, state.clone()) => {}
        () = pass(from_server, to_client, state) => {}
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<State>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            _ = state.wait_for(|state| *state == State::Cut) => return,
            read = from.read(&mut buffer) => read,
        };
        let Ok(length @ 1..) = read else { return };
        if state.wait_for(|state| *state != State::Frozen).await.is_err() || *state.borrow() == State::Cut {
            return;
        }
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
