//! A server that may also hang up without an answer, which axum's own cannot.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use anyhow::Context;
use axum::{Router, response::Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tower::ServiceExt;

use crate::reply::HangUp;

/// A listening server. Dropping it, or cancelling the token it was given, closes its port and every
/// connection at once.
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    tasks: TaskTracker,
    stopping: DropGuard,
}

impl Server {
    pub(crate) async fn start(addr: SocketAddr, router: Router, stopping: &CancellationToken) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(addr).await.with_context(|| format!("listen on {addr}"))?;
        let addr = listener.local_addr().context("read the address that was bound")?;
        let stopping = stopping.child_token();
        let tasks = TaskTracker::new();
        tasks.spawn(accept(listener, router, stopping.clone()));
        tasks.close();
        Ok(Self { addr, tasks, stopping: stopping.drop_guard() })
    }

    /// Closes the port and every connection, and waits until that is done.
    pub(crate) async fn stop(self) {
        drop(self.stopping);
        self.tasks.wait().await;
    }
}

async fn accept(listener: TcpListener, router: Router, stopping: CancellationToken) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stopping.cancelled() => return,
            Some(_ended) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(answer(stream, router.clone()))),
                Err(error) => {
                    tracing::debug!("accept a connection: {error}");
                    // Out of file descriptors, most likely: trying again at once would only spin.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            },
        }
    }
}

async fn answer(stream: TcpStream, router: Router) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!("set a connection's options: {error}");
    }
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let answered = router.clone().oneshot(request);
        async move {
            let response: Result<Response, Infallible> = answered.await;
            match response {
                Ok(response) if response.extensions().get::<HangUp>().is_none() => Ok(response),
                // An error of the service makes hyper close the connection without a byte.
                _ => Err(std::io::Error::other("hung up on purpose")),
            }
        }
    });
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!("answer on a connection: {error}");
    }
}
