//! Connections: accepted, hurried along, and ended in order.
//!
//! Whoever connects and says nothing, or says it a byte a minute, holds a socket and some memory. So
//! each step on the way to a request has its time: the handshake, the first request's head, every
//! later head. Bodies and answers have theirs further in.

use std::{pin::pin, sync::Arc, time::Duration};

use axum::{Router, body::Body, extract::Request};
use hyper::{Version, body::Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::watch,
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
    /// as long between two requests (HTTP/1.1), or from the beginning of one to the next (HTTP/2, where
    /// what is under way then still ends). Longer than our own clients keep connections, so that none
    /// is used as it closes.
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

/// How long we look, once we stop, for what had reached this machine before: a caller whose request
/// was taken by the kernel would otherwise see its connection break.
const LAST_CALL: Duration = Duration::from_millis(50);

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
    let mut last_call = pin!(last_call(&stopping));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = last_call.as_mut() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                // An answer in two pieces must not wait for the first to be acknowledged.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!("set a connection up: {error}");
                }
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

/// Ends a moment after `stopping`.
async fn last_call(stopping: &CancellationToken) {
    stopping.cancelled().await;
    sleep(LAST_CALL).await;
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
        biased;
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
    let (asks, asked) = watch::channel(None);
    let app = app.map_request(move |request: Request<Incoming>| {
        asks.send_replace(Some(Asked { version: request.version(), at: Instant::now() }));
        request.map(Body::new)
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(HEAD_SIZE);
    let (interval, answer) = KEEP_ALIVE;
    builder.http2().timer(TokioTimer::new()).keep_alive_interval(interval).keep_alive_timeout(answer);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(app)));
    let latest = latest_request(Instant::now(), asked.clone(), limits.head);
    let (mut last_call, mut latest) = (pin!(last_call(&stopping)), pin!(latest));
    let mut is_ending = false;
    loop {
        tokio::select! {
            // The connection comes first: a request that it can read now is not too late.
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!("a connection broke: {error}");
                }
                return;
            }
            () = last_call.as_mut(), if !is_ending => {}
            () = latest.as_mut(), if !is_ending => {}
        }
        // Nothing is under way where nobody asked; whoever sent half a head is not waited for.
        if asked.borrow().is_none() {
            return;
        }
        is_ending = true;
        connection.as_mut().graceful_shutdown();
    }
}

/// The last request of a connection.
#[derive(Clone, Copy)]
struct Asked {
    version: Version,
    at: Instant,
}

/// Ends when the next request is overdue: the first one after `begun`, whose version of HTTP is read
/// from bytes that have no other limit, and later ones of HTTP/2. HTTP/1.1 has its own limit for those.
async fn latest_request(begun: Instant, asked: watch::Receiver<Option<Asked>>, limit: Duration) {
    let mut latest = begun + limit;
    loop {
        sleep_until(latest).await;
        let last = *asked.borrow();
        match last {
            None => return,
            Some(Asked { version: Version::HTTP_2, at }) if at + limit <= Instant::now() => return,
            Some(Asked { version: Version::HTTP_2, at }) => latest = at + limit,
            Some(_) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Long enough for what must succeed on a busy machine.
    const HURRIED: Limits = Limits { head: Duration::from_secs(2), drain: Duration::from_secs(3) };
    /// Much longer than all of [`HURRIED`], and shorter than [`LIMITS`]' rest and drain together.
    const PATIENCE: Duration = Duration::from_secs(20);
    const PING: &str = "GET /ping HTTP/1.1\r\nHost: a\r\n\r\n";
    const LAST_PING: &str = "GET /ping HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

    struct Server {
        addr: SocketAddr,
        stopping: CancellationToken,
        serving: JoinSet<()>,
    }

    async fn server() -> Server {
        let stopping = CancellationToken::new();
        let stopped = stopping.clone();
        let app = Router::new()
            .route("/ping", get(async || "pong"))
            .route("/slow", get(async move || stopped.cancelled().await))
            .route("/endless", get(std::future::pending::<()>));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
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
        let pong = until_closed(server.sends(LAST_PING).await).await;
        assert!(pong.ends_with("pong"), "{pong}");
        for (stream, text) in streams.into_iter().zip(half) {
            assert!(!until_closed(stream).await.contains("pong"), "{text}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_rests_after_an_answer_is_closed_in_the_end() {
        let server = server().await;
        let answer = until_closed(server.sends(PING).await).await;
        assert!(answer.ends_with("pong"), "{answer}");
    }

    #[tokio::test]
    async fn at_a_stop_what_is_under_way_ends_and_what_never_began_is_dropped() {
        let server = server().await;
        let silent = server.sends("").await;
        let slow = server.sends("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await;
        let endless = server.sends("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await;
        // Its answer says that the others were accepted before it.
        until_closed(server.sends(LAST_PING).await).await;
        server.stopping.cancel();
        assert_eq!(until_closed(silent).await, "");
        assert!(until_closed(slow).await.starts_with("HTTP/1.1 200"));
        assert_eq!(until_closed(endless).await, "");
        server.ends().await;
    }

    #[tokio::test]
    async fn a_request_that_has_arrived_when_we_stop_is_answered() {
        for round in 0..20 {
            let server = server().await;
            let mut kept = server.sends(PING).await;
            let mut answer = [0; 4096];
            let read = timeout(PATIENCE, kept.read(&mut answer)).await.expect("in time").expect("an answer");
            assert!(answer[..read].ends_with(b"pong"));
            let waiting = server.sends("").await;
            // Nobody but us has run since these were sent: they lie with the kernel.
            for stream in [&kept, &waiting] {
                assert_eq!(stream.try_write(PING.as_bytes()).expect("sent"), PING.len());
            }
            server.stopping.cancel();
            for (stream, which) in [(kept, "kept"), (waiting, "new")] {
                let answer = until_closed(stream).await;
                assert!(answer.ends_with("pong"), "{which} in round {round}: {answer:?}");
            }
            server.ends().await;
        }
    }

    #[tokio::test]
    async fn an_http_2_connection_that_rests_is_closed_in_the_end() {
        let server = server().await;
        let stream = TokioIo::new(server.sends("").await);
        let (mut asking, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.expect("a connection");
        let mut open = JoinSet::new();
        open.spawn(connection);
        let ping = || Request::get(format!("http://{}/ping", server.addr)).body(Body::empty()).expect("a request");
        assert!(asking.send_request(ping()).await.expect("an answer").status().is_success());
        timeout(PATIENCE, open.join_next()).await.expect("closed in time");
        assert!(asking.send_request(ping()).await.is_err());
    }

    #[tokio::test]
    async fn a_head_that_is_too_large_is_refused() {
        let server = server().await;
        let head = format!("GET /ping HTTP/1.1\r\nHost: a\r\nX-Large: {}\r\n\r\n", "x".repeat(HEAD_SIZE));
        let answer = until_closed(server.sends(&head).await).await;
        assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    }
}
