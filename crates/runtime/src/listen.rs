//! Where a server listens.

use std::net::SocketAddr;

use anyhow::Context;
use tokio::net::TcpListener;

/// An address to bind, or a listener that is bound already: a program that starts several services which must know each
/// other's addresses binds first and passes the listeners on.
#[derive(Debug)]
pub enum Listen {
    /// Bind this address.
    At(SocketAddr),
    /// Take over this listener.
    On(std::net::TcpListener),
}

impl Listen {
    /// A free port on the loopback interface, bound.
    ///
    /// # Errors
    /// When no port is free.
    pub fn on_loopback() -> std::io::Result<Self> {
        std::net::TcpListener::bind(("127.0.0.1", 0)).map(Self::On)
    }

    /// The address; of [`Listen::At`] as it was asked for.
    ///
    /// # Errors
    /// When the listener's address cannot be read.
    pub fn addr(&self) -> std::io::Result<SocketAddr> {
        match self {
            Self::At(addr) => Ok(*addr),
            Self::On(listener) => listener.local_addr(),
        }
    }

    /// Binds the address, or takes the listener over, and logs it.
    /// The listener, bound, and its address. `what` names the protocol in errors.
    ///
    /// # Errors
    /// When the address cannot be bound or the listener cannot be taken over.
    pub async fn bind(self, service: &str, protocol: &str) -> anyhow::Result<(TcpListener, SocketAddr)> {
        let listener = match self {
            Self::At(addr) => {
                TcpListener::bind(addr).await.with_context(|| format!("listen for {protocol} on {addr}"))?
            }
            Self::On(listener) => {
                listener.set_nonblocking(true).with_context(|| format!("take over the listener for {protocol}"))?;
                TcpListener::from_std(listener).with_context(|| format!("take over the listener for {protocol}"))?
            }
        };
        let addr = listener.local_addr().with_context(|| format!("read the address for {protocol}"))?;
        log_bound(service, protocol, addr);
        Ok((listener, addr))
    }
}

/// Logs that `service` listens on `addr`: one line for each address that a process binds.
pub fn log_bound(service: &str, protocol: &str, addr: SocketAddr) {
    tracing::info!(service, protocol, "listening on {addr}");
}

impl From<SocketAddr> for Listen {
    fn from(addr: SocketAddr) -> Self {
        Self::At(addr)
    }
}
