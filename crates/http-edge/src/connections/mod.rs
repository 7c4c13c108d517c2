//! Connections: accepted, hurried along, and ended in order.
//!
//! A client that connects and says nothing, sends a byte a minute, or does not read what is answered, holds a socket
//! and some memory. So there is a bound to how many connections there are, and each step has its time: the handshake,
//! the first request's head, every later head, and each piece of an answer. Bodies have theirs further in.
//!
//! HTTP/1.1 has no way to say that a connection which rests is about to be closed: a request that is on its way just
//! then is lost. So a server that stops can first be a lame duck for a while: it answers as before, also on new
//! connections, and each answer asks its caller to use another connection for the next request (`Connection: close`),
//! which finds a server that stays. HTTP/2 can say it (GOAWAY), and does at once.
//!
//! A connection that is upgraded to another protocol, such as WebSocket, belongs to the handler from then on. It keeps
//! its place, and is still closed when its caller takes nothing or when we stop.

mod activity;
mod slots;

use std::{convert::Infallible, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    http::{HeaderValue, header},
    response::{IntoResponse, Response},
};
use hyper::{StatusCode, Version, body::Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rustix::process::{Resource, getrlimit};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout, timeout_at},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use self::{
    activity::{Activity, Watched},
    slots::{Slot, Slots},
};
use super::Problem;

pub(crate) use slots::caller;

/// What the callers of one listener may take.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Connections in all.
    pub connections: usize,
    /// Connections of one address (of IPv6: of one network). Behind a gateway every connection comes
    /// from the same one, so this belongs to the entry alone.
    pub connections_of_an_address: usize,
    /// The time for the TLS handshake, and for the first head after it; a connection that is kept may
    /// rest for as long between two requests (HTTP/1.1), or from the beginning of one to the next
    /// (HTTP/2, where what is under way then still ends). Longer than our own clients keep connections,
    /// so that none is used as it closes.
    pub head: Duration,
    /// The time for taking a piece of an answer. An answer that takes its time to come, such as a
    /// stream of events, is not meant: only what the caller lets lie.
    pub answer: Duration,
    /// How long, once we stop, connections of HTTP/1 that rest are left open and new ones are accepted, so
    /// that callers move to another server without a lost request. Each answer meanwhile ends its
    /// connection; the period ends as soon as no connection is left on which anything was asked. Zero where
    /// nobody takes over, and where nobody needs it: gRPC is HTTP/2, which announces its end, and the admin
    /// port lives as long as the process.
    pub lame_duck: Duration,
    /// The time for what is under way when we stop, after the lame duck. An upgraded connection has half of it.
    pub drain: Duration,
    /// HTTP/2 alone, on connections that may rest for ever: callers are other services of ours.
    pub is_grpc: bool,
}

impl ConnectionLimits {
    /// Of a service, whose callers are a gateway and machines of its own network.
    #[must_use]
    pub fn of_a_service() -> Self {
        Self {
            connections: within_files(2_048),
            connections_of_an_address: usize::MAX,
            head: Duration::from_secs(30),
            answer: Duration::from_secs(30),
            lame_duck: Duration::ZERO,
            drain: Duration::from_secs(10),
            is_grpc: false,
        }
    }

    /// Of the entry, whom all the world may call: a part of the connections for one address, with room
    /// for an office behind one.
    #[must_use]
    pub fn of_the_entry() -> Self {
        let connections = within_files(4_096);
        Self { connections, connections_of_an_address: connections / 8, ..Self::of_a_service() }
    }

    /// Of the admin port: probes, Prometheus, and a person.
    #[must_use]
    pub fn of_the_admin_port() -> Self {
        Self { connections: 128, ..Self::of_a_service() }
    }

    /// Of a gRPC server, each of whose callers keeps one connection for all its calls.
    #[must_use]
    pub fn of_grpc(drain: Duration) -> Self {
        Self { connections: within_files(1_024), drain, is_grpc: true, ..Self::of_a_service() }
    }
}

/// As many connections, or a quarter of the files that this process may have open.
fn within_files(most: usize) -> usize {
    let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok());
    files.map_or(most, |files| most.min(files / 4)).max(16)
}

/// The longest head of a request, in bytes; over HTTP/2 all headers together.
const HEAD_SIZE: usize = 64 * 1024;
const HEADERS_SIZE: u32 = 16 * 1024;

/// How many requests an HTTP/2 connection may have under way.
const STREAMS: u32 = 100;

/// How many of its requests an HTTP/2 connection may reset before we have looked at them, and how many
/// we may have to reset, until it is closed.
const RESETS: (usize, usize) = (20, 100);

/// How often an HTTP/2 connection is asked whether its caller is still there, and how long the answer may take.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// How long we look, once we stop, for what had reached this machine before: a caller whose request
/// was taken by the kernel would otherwise see its connection break.
const LAST_CALL: Duration = Duration::from_millis(50);

/// How long to wait when no connection can be accepted, because files have run out for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How many callers are told at once that there are too many, and how long telling one may take.
const REFUSALS: (usize, Duration) = (64, Duration::from_secs(1));

/// How soon a caller who was one too many may come again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How often the log says that callers are refused.
const REFUSALS_LOGGED: Duration = Duration::from_secs(60);

/// Serves `app` within the limits of a service, over TLS where `tls` says how, until `stopping`, without a lame
/// duck. Then requests that are under way may take ten more seconds.
pub async fn serve_connections(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    app: Router,
    stopping: CancellationToken,
) {
    serve_connections_within(ConnectionLimits::of_a_service(), listener, tls, app, stopping).await;
}

/// Serves `app` within `limits`, over TLS where `tls` says how, until `stopping` and the lame duck after it. A caller for
/// whom there is no place reads 503 with `Retry-After`; over TLS its connection is closed.
pub async fn serve_connections_within(
    limits: ConnectionLimits,
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    app: Router,
    stopping: CancellationToken,
) {
    let tls = tls.map(TlsAcceptor::from);
    let slots = Slots::new(limits.connections, limits.connections_of_an_address);
    let mut refusals = Refusals::new();
    let mut connections = JoinSet::new();
    let no_more = CancellationToken::new();
    let mut lame_duck = pin!(lame_duck(&stopping, limits, &slots));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = lame_duck.as_mut() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                // An answer in two pieces must not wait for the first to be acknowledged.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!("set a connection up: {error}");
                }
                let Some(slot) = slots.take(peer.ip()) else {
                    refusals.refuse(stream, tls.is_none() && !limits.is_grpc, &mut connections);
                    continue;
                };
                let caller = Caller { peer, slot, stopping: stopping.clone(), no_more: no_more.clone(), limits };
                connections.spawn(accept_connection(stream, tls.clone(), app.clone(), caller));
            }
            Err(error) => {
                tracing::warn!("accept a connection: {error}");
                slots.make_room();
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    no_more.cancel();
    let drained = timeout(limits.drain, async { while connections.join_next().await.is_some() {} });
    if drained.await.is_err() {
        tracing::warn!("cut off {} connections that did not end in time", connections.len());
    }
}

/// Callers for whom there was no place.
struct Refusals {
    answering: Arc<Semaphore>,
    count: u64,
    logged_at: Option<Instant>,
}

impl Refusals {
    fn new() -> Self {
        Self { answering: Arc::new(Semaphore::new(REFUSALS.0)), count: 0, logged_at: None }
    }

    /// Tells the caller to come again, where it would understand that; closes the connection otherwise.
    fn refuse(&mut self, stream: TcpStream, in_words: bool, connections: &mut JoinSet<()>) {
        self.count += 1;
        if self.logged_at.is_none_or(|at| at.elapsed() >= REFUSALS_LOGGED) {
            tracing::warn!("refused {} connections: every place is taken by others that are busy", self.count);
            (self.count, self.logged_at) = (0, Some(Instant::now()));
        }
        let permit = self.answering.clone().try_acquire_owned();
        if let (true, Ok(permit)) = (in_words, permit) {
            connections.spawn(async move {
                // A caller that does not listen is not waited for.
                drop(timeout(REFUSALS.1, answer_unavailable(stream)).await);
                drop(permit);
            });
        }
    }
}

async fn answer_unavailable(mut stream: TcpStream) -> std::io::Result<()> {
    let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, TOO_MANY).retry_after(RETRY_AFTER);
    let body = problem.body();
    let response = problem.into_response();
    let mut text = format!("HTTP/1.1 {}\r\nconnection: close\r\ncontent-length: {}\r\n", response.status(), body.len());
    for (name, value) in response.headers().iter().filter(|(name, _)| *name != http::header::CONTENT_LENGTH) {
        text.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap_or_default()));
    }
    text.push_str("\r\n");
    text.push_str(&body);
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await?;
    // A connection that is closed with unread bytes is reset, and the answer is lost with it.
    let mut unread = [0; 4096];
    while stream.read(&mut unread).await? > 0 {}
    Ok(())
}

/// What a caller is told for whom there is no room.
pub const TOO_MANY: &str = "Too many requests are under way, try again later";

/// Ends a moment after `stopping`.
async fn last_call(stopping: &CancellationToken) {
    stopping.cancelled().await;
    sleep(LAST_CALL).await;
}

/// Ends with the lame duck that `stopping` begins: not before the last call, and afterwards as soon as nobody uses a
/// connection any more.
async fn lame_duck(stopping: &CancellationToken, limits: ConnectionLimits, slots: &Slots) {
    stopping.cancelled().await;
    let end = Instant::now() + limits.lame_duck;
    sleep(LAST_CALL).await;
    let unused = async {
        // A look costs little, and there are few.
        while slots.are_used() {
            sleep(LAST_CALL).await;
        }
    };
    // Whether time or callers have run out is all the same.
    drop(timeout_at(end, unused).await);
}

/// What belongs to one connection.
struct Caller {
    peer: SocketAddr,
    slot: Slot,
    stopping: CancellationToken,
    /// Cancelled when the lame duck is over.
    no_more: CancellationToken,
    limits: ConnectionLimits,
}

async fn accept_connection(stream: TcpStream, tls: Option<TlsAcceptor>, app: Router, caller: Caller) {
    let stream = Watched::new(stream, caller.slot.activity.clone());
    let Some(tls) = tls else { return serve_connection(stream, app, caller).await };
    let shaken = tokio::select! {
        biased;
        shaken = timeout(caller.limits.head, tls.accept(stream)) => shaken,
        () = caller.no_more.cancelled() => return,
        () = caller.slot.gives_way.cancelled() => return,
    };
    match shaken {
        Ok(Ok(stream)) => serve_connection(stream, app, caller).await,
        Ok(Err(error)) => tracing::debug!("shake hands with a caller: {error}"),
        Err(_) => tracing::debug!("a caller did not shake hands in time"),
    }
}

/// Answers the requests of one connection, whichever version of HTTP it speaks.
async fn serve_connection<S>(stream: S, app: Router, caller: Caller)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let Caller { peer, slot, stopping, no_more, limits } = caller;
    let activity = &slot.activity;
    let answering = {
        let (activity, stopping) = (activity.clone(), stopping.clone());
        tower::service_fn(move |request: Request<Incoming>| {
            let version = request.version();
            let running = activity.begin(version);
            let stopping = stopping.clone();
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(ConnectInfo(peer));
            let answer = app.clone().oneshot(request);
            async move {
                let mut response: Response = answer.await?;
                if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                    running.upgraded();
                } else if version != Version::HTTP_2 && stopping.is_cancelled() {
                    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response.map(|body| running.answered(body)))
            }
        })
    };
    let builder = builder(limits);
    let answering = TowerToHyperService::new(answering);
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), answering));
    let (mut told, mut overdue) = (pin!(told_to_end(activity, &stopping, &no_more)), pin!(overdue(activity, limits)));
    let mut looks = interval(limits.head.min(limits.answer) / 8);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ending: Option<Instant> = None;
    loop {
        tokio::select! {
            // The connection comes first: a request that it can read now is not too late.
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!("a connection broke: {error}");
                } else if activity.is_upgraded() {
                    until_closed(activity, &stopping, limits).await;
                }
                return;
            }
            () = slot.gives_way.cancelled() => return,
            () = told.as_mut(), if ending.is_none() => {}
            () = overdue.as_mut(), if ending.is_none() => {}
            _ = looks.tick() => {
                // What is left of a connection that ends may be an answer that the caller does not take.
                let is_over = ending.is_some_and(|since| since.elapsed() > limits.head) && activity.is_idle();
                if is_over || activity.is_stalled(limits.answer) || activity.is_flooded() {
                    tracing::debug!("closed a connection whose caller takes no answers");
                    return;
                }
                continue;
            }
        }
        // Nothing is under way before the first request; a caller who sent half a head is not waited for.
        if activity.latest().is_none() {
            return;
        }
        ending = Some(Instant::now());
        connection.as_mut().graceful_shutdown();
    }
}

/// Ends when a connection is to end because we stop: of HTTP/2 after the last call, since its caller is told in time,
/// and otherwise with the lame duck. One that was accepted just before has a moment for its first request.
async fn told_to_end(activity: &Activity, stopping: &CancellationToken, no_more: &CancellationToken) {
    let begun = Instant::now();
    let announced = async {
        last_call(stopping).await;
        activity.asked_over_http_2().await;
    };
    tokio::select! {
        () = announced => {}
        () = no_more.cancelled() => sleep_until(begun + LAST_CALL).await,
    }
}

/// Watches a connection that was upgraded, until its handler closes it. It breaks when its caller takes no more bytes
/// for as long as of an answer, and half of the drain's time after `stopping`, so that handlers can say goodbye.
async fn until_closed(activity: &Activity, stopping: &CancellationToken, limits: ConnectionLimits) {
    let guard = activity.break_guard();
    let mut looks = interval(limits.answer / 8);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut goodbyes = pin!(async {
        stopping.cancelled().await;
        sleep(limits.drain / 2).await;
    });
    loop {
        tokio::select! {
            biased;
            () = activity.closed() => return,
            () = goodbyes.as_mut() => break,
            _ = looks.tick() => if activity.is_stalled(limits.answer) { break },
        }
    }
    tracing::debug!("break an upgraded connection");
    drop(guard);
    activity.closed().await;
}

fn builder(limits: ConnectionLimits) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    if limits.is_grpc {
        builder = builder.http2_only();
    }
    builder.http1().timer(TokioTimer::new()).header_read_timeout(limits.head).max_buf_size(HEAD_SIZE);
    let ((interval, answer), (pending, local)) = (KEEP_ALIVE, RESETS);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(interval)
        .keep_alive_timeout(answer)
        .max_concurrent_streams(STREAMS)
        .max_pending_accept_reset_streams(pending)
        .max_local_error_reset_streams(local)
        .max_header_list_size(HEADERS_SIZE);
    builder
}

/// Ends when the next request is overdue: the first one, whose version of HTTP is read from bytes that
/// have no other limit, and later ones of HTTP/2. HTTP/1.1 has its own limit for those.
async fn overdue(activity: &Activity, limits: ConnectionLimits) {
    let mut latest = Instant::now() + limits.head;
    loop {
        sleep_until(latest).await;
        match activity.latest() {
            None => return,
            Some(asked) if asked.version != Version::HTTP_2 || limits.is_grpc => std::future::pending().await,
            Some(asked) if asked.at + limits.head <= Instant::now() => return,
            Some(asked) => latest = asked.at + limits.head,
        }
    }
}

#[cfg(test)]
mod tests;
