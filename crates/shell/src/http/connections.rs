//! Connections: accepted, hurried along, and ended in order.
//!
//! Whoever connects and says nothing, or says it a byte a minute, holds a socket and some memory. So
//! each step on the way to a request has its time: the handshake, the first request's head, every
//! later head. Bodies and answers have theirs further in.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// The time that callers have.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// For the TLS handshake, and for the first head after it; a connection that is kept may rest for
    /// as long between two requests. Longer than our own clients keep connections, so that none is
    /// used as it closes.
    head: Duration,
    /// For what is under way when we stop.
    drain: Duration,
}

const LIMITS: Limits = Limits { head: Duration::from_secs(30), drain: Duration::from_secs(10) };

/// The longest head of a request, in bytes.
const HEAD_SIZE: usize = 64 * 1024;

/// How often an HTTP/2 connection is asked whether somebody is still there, and how long the answer
/// may take.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// How long to wait when no connection can be accepted, because files have run out for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves `app` to everybody who connects, over TLS where `tls` says how, until `stopping`. Then
/// requests that are under way may take ten more seconds.
pub async fn serve_connections(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    app: Router,
    stopping: CancellationToken,
) {
    serve_within(LIMITS, listener, tls, app, stopping).await;
}

async fn serve_within(
    limits: Limits,
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    app: Router,
    stopping: CancellationToken,
) {
    let tls = tls.map(TlsAcceptor::from);
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = stopping.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                connections.spawn(welcome(stream, tls.clone(), app.clone(), stopping.clone(), limits));
            }
            Err(error) => {
                tracing::warn!("accept a connection: {error}");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = timeout(limits.drain, async { while connections.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::warn!("cut off {} connections that did not end in time", connections.len());
    }
}

async fn welcome(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    app: Router,
    stopping: CancellationToken,
    limits: Limits,
) {
    let Some(tls) = tls else { return converse(stream, app, stopping, limits).await };
    let shaken = tokio::select! {
        shaken = timeout(limits.head, tls.accept(stream)) => shaken,
        () = stopping.cancelled() => return,
    };
    match shaken {
        Ok(Ok(stream)) => converse(stream, app, stopping, limits).await,
        Ok(Err(error)) => tracing::debug!("shake hands with a caller: {error}"),
        Err(_) => tracing::debug!("a caller did not shake hands in time"),
    }
}

/// Answers the requests of one connection, whichever version of HTTP it speaks.
async fn converse<S>(stream: S, app: Router, stopping: CancellationToken, limits: Limits)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let asked = CancellationToken::new();
    let asks = asked.clone();
    let app = app.map_request(move |request: Request<Incoming>| {
        asks.cancel();
        request.map(Body::new)
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(HEAD_SIZE);
    let (interval, answer) = KEEP_ALIVE;
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(interval).keep_alive_timeout(answer);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app)));
    let latest = Instant::now() + limits.head;
    let mut is_ending = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!("a connection broke: {error}");
                }
                return;
            }
            () = stopping.cancelled(), if !is_ending => {
                is_ending = true;
                connection.as_mut().graceful_shutdown();
            }
            // The version of HTTP is read from the first bytes, which have no other limit.
            () = sleep_until(latest), if !asked.is_cancelled() => {
                if !asked.is_cancelled() {
                    return;
                }
            }
        }
        if is_ending && !asked.is_cancelled() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const HURRIED: Limits = Limits { head: Duration::from_millis(300), drain: Duration::from_millis(300) };
    /// Longer than all of [`HURRIED`], and shorter than [`LIMITS`].
    const PATIENCE: Duration = Duration::from_secs(10);

    struct Server {
        addr: SocketAddr,
        stopping: CancellationToken,
        serving: JoinSet<()>,
    }

    async fn server() -> Server {
        let app = Router::new()
            .route("/ping", get(async || "pong"))
            .route("/slow", get(async || sleep(HURRIED.drain / 2).await))
            .route("/endless", get(std::future::pending::<()>));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let (addr, stopping) = (listener.local_addr().expect("an address"), CancellationToken::new());
        let mut serving = JoinSet::new();
        serving.spawn(serve_within(HURRIED, listener, None, app, stopping.clone()));
        Server { addr, stopping, serving }
    }

    impl Server {
        async fn sends(&self, text: &str) -> TcpStream {
            let mut stream = TcpStream::connect(self.addr).await.expect("a connection");
            stream.write_all(text.as_bytes()).await.expect("sent");
            stream
        }

        async fn ends(mut self) {
            timeout(PATIENCE, self.serving.join_next()).await.expect("an end in time");
        }
    }

    /// Everything that comes until the connection is closed from the other side.
    async fn until_closed(mut stream: TcpStream) -> String {
        let mut answer = Vec::new();
        let read = timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("closed in time");
        // A connection that is dropped with unread bytes ends with an error, which is an end as well.
        drop(read);
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn whoever_sends_no_whole_head_is_not_waited_for() {
        let server = server().await;
        let half = ["", "G", "GET /ping HTTP/1.1\r\nHost: a\r\nX-Slow: ", "PRI * HTTP/2.0\r\n", "PRI"];
        let mut streams = Vec::new();
        for text in half {
            streams.push(server.sends(text).await);
        }
        let pong = until_closed(server.sends("GET /ping HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await).await;
        assert!(pong.ends_with("pong"), "{pong}");
        for (stream, text) in streams.into_iter().zip(half) {
            assert!(!until_closed(stream).await.contains("pong"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_rests_after_an_answer_is_closed_in_the_end() {
        let server = server().await;
        let answer = until_closed(server.sends("GET /ping HTTP/1.1\r\nHost: a\r\n\r\n").await).await;
        assert!(answer.ends_with("pong"), "{answer}");
    }

    #[tokio::test]
    async fn at_a_stop_what_is_under_way_ends_and_what_never_began_is_dropped() {
        let server = server().await;
        let silent = server.sends("").await;
        let slow = server.sends("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let endless = server.sends("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await;
        // Its answer says that the others were accepted before it.
        until_closed(server.sends("GET /ping HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await).await;
        server.stopping.cancel();
        assert_eq!(until_closed(silent).await, "");
        assert!(until_closed(slow).await.starts_with("HTTP/1.1 200"));
        assert_eq!(until_closed(endless).await, "");
        server.ends().await;
    }

    #[tokio::test]
    async fn a_head_that_is_too_large_is_refused() {
        let server = server().await;
        let head = format!("GET /ping HTTP/1.1\r\nHost: a\r\nX-Large: {}\r\n\r\n", "x".repeat(HEAD_SIZE));
        let answer = until_closed(server.sends(&head).await).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}
