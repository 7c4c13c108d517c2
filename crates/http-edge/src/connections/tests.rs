mod lame_duck;
mod upgrades;

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
};

use axum::routing::get;
use runtime::tasks::Tasks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Long enough for what must succeed on a busy machine.
const HURRIED: ConnectionLimits = ConnectionLimits {
    connections: 100,
    connections_of_an_address: 100,
    head: Duration::from_secs(2),
    answer: Duration::from_secs(2),
    lame_duck: Duration::ZERO,
    drain: Duration::from_secs(3),
    is_grpc: false,
};
/// Much longer than all of [`HURRIED`], and shorter than the rest and drain of real limits together.
const PATIENCE: Duration = Duration::from_secs(20);
const PING: &str = "GET /ping HTTP/1.1\r\nHost: a\r\n\r\n";
const LAST_PING: &str = "GET /ping HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// More than the systems and both ends of a connection hold between them.
const LARGE: usize = 32 * 1024 * 1024;

/// What comes piece by piece for longer than any limit, as a stream of events does.
fn events() -> Body {
    let event = |number: u32| async move {
        if number == 10 {
            return None;
        }
        sleep(HURRIED.head / 4).await;
        Some((Ok::<_, std::io::Error>(format!("event {number}\n")), number + 1))
    };
    Body::from_stream(futures::stream::unfold(0, event))
}

struct Server {
    addr: SocketAddr,
    stopping: CancellationToken,
    /// How many slow requests have begun.
    slow: Arc<AtomicUsize>,
    serving: JoinSet<()>,
}

async fn server() -> Server {
    server_within(HURRIED).await
}

async fn server_within(limits: ConnectionLimits) -> Server {
    let stopping = CancellationToken::new();
    let stopped = stopping.clone();
    let slow = Arc::new(AtomicUsize::new(0));
    let counted = slow.clone();
    let app = Router::new()
        .route("/ping", get(async || "pong"))
        .route("/large", get(async || vec![b'x'; LARGE]))
        .route("/events", get(async || events()))
        .route("/upgrade", get(async |request: Request| upgrades::upgrade(Tasks::default(), request).await))
        .route(
            "/slow",
            get(async move || {
                counted.fetch_add(1, Ordering::SeqCst);
                stopped.cancelled().await;
            }),
        )
        .route("/endless", get(std::future::pending::<()>));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let mut serving = JoinSet::new();
    serving.spawn(serve_connections_within(limits, listener, None, app, stopping.clone()));
    Server { addr, stopping, slow, serving }
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
        // No task but ours has run since these were sent: they lie with the kernel.
        for stream in [&kept, &waiting] {
            assert_eq!(stream.try_write(PING.as_bytes()).expect("sent"), PING.len());
        }
        server.stopping.cancel();
        for (stream, which) in [(kept, "kept"), (waiting, "new")] {
            let answer = until_closed(stream).await;
            assert!(answer.ends_with("pong"), "{which} in round {round}: {answer:?}");
            assert!(answer.contains("connection: close\r\n"), "{which} in round {round}: {answer:?}");
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

/// Reads `stream` only when it has been closed, which is when what follows what was sent is refused.
async fn closed_unread(stream: &TcpStream) {
    let is_closed = async {
        // Whatever is sent to a socket that is closed is refused.
        while stream.try_write(b" ").is_ok() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, is_closed).await.expect("closed in time");
}

#[tokio::test]
async fn a_caller_that_never_reads_its_answer_is_not_waited_for() {
    let server = server().await;
    let begun = Instant::now();
    let unread = server.sends("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await;
    closed_unread(&unread).await;
    assert!(begun.elapsed() >= HURRIED.answer, "it had its time: {:?}", begun.elapsed());
    let read = until_closed(server.sends("GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await).await;
    assert!(read.contains(&format!("content-length: {LARGE}\r\n")), "an answer keeps its length");
    assert!(read.len() > LARGE, "whoever reads gets all of it");
}

#[tokio::test]
async fn an_http_2_caller_that_takes_no_piece_of_its_answers_is_not_waited_for() {
    let server = server().await;
    let stream = TokioIo::new(server.sends("").await);
    let handshake = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(1_000)
        .handshake(stream);
    let (mut asking, connection) = handshake.await.expect("a connection");
    let mut open = JoinSet::new();
    open.spawn(connection);
    let mut answers = Vec::new();
    for _ in 0..5 {
        let request = Request::get(format!("http://{}/large", server.addr)).body(Body::empty()).expect("a request");
        // The answer's beginning is read, and nothing of its body.
        answers.push(asking.send_request(request).await.expect("an answer"));
    }
    timeout(PATIENCE, open.join_next()).await.expect("closed in time");
}

#[tokio::test]
async fn an_answer_that_takes_its_time_to_come_is_not_cut_off() {
    let server = server().await;
    let begun = Instant::now();
    let events = until_closed(server.sends("GET /events HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await).await;
    assert!(begun.elapsed() > HURRIED.head + HURRIED.answer, "{:?}", begun.elapsed());
    assert!(events.contains("event 9\n"), "{events}");
}

#[tokio::test]
async fn one_connection_too_many_is_told_to_come_again_while_all_are_busy() {
    let server = server_within(ConnectionLimits { connections: 3, ..HURRIED }).await;
    let mut busy = Vec::new();
    for _ in 0..3 {
        busy.push(server.sends("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await);
    }
    testkit::wait_for("all to be busy", PATIENCE, async || server.slow.load(Ordering::SeqCst) == 3).await;
    let refused = until_closed(server.sends(LAST_PING).await).await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    let lower = refused.to_lowercase();
    assert!(lower.contains("retry-after: 1\r\n") && lower.contains("application/problem+json"), "{refused}");
    assert!(refused.ends_with('}') && refused.contains("\"status\":503"), "{refused}");
    drop(busy);
    testkit::wait_for("a free place", PATIENCE, async || {
        until_closed(server.sends(LAST_PING).await).await.ends_with("pong")
    })
    .await;
}

#[tokio::test]
async fn silent_connections_give_way_to_a_caller_that_asks() {
    let server = server_within(ConnectionLimits { connections: 20, connections_of_an_address: 10, ..HURRIED }).await;
    let mut silent = Vec::new();
    for number in 0..200 {
        silent.push(server.sends(["", "GET /p"][number % 2]).await);
    }
    let pong = until_closed(server.sends(LAST_PING).await).await;
    assert!(pong.ends_with("pong"), "{pong}");
}

#[tokio::test]
async fn a_flood_of_resets_ends_its_connection_and_hurts_no_other() {
    let server = server().await;
    let stream = TokioIo::new(server.sends("").await);
    let (asking, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.expect("a connection");
    let mut open = JoinSet::new();
    open.spawn(connection);
    let flood = async {
        while open.try_join_next().is_none() {
            let mut asking = asking.clone();
            let request =
                Request::get(format!("http://{}/endless", server.addr)).body(Body::empty()).expect("a request");
            // A request that is dropped is reset.
            drop(timeout(Duration::from_millis(2), asking.send_request(request)).await);
        }
    };
    timeout(PATIENCE, flood).await.expect("closed in time");
    let pong = until_closed(server.sends(LAST_PING).await).await;
    assert!(pong.ends_with("pong"), "{pong}");
}

#[tokio::test]
async fn the_handler_learns_who_called() {
    let app = Router::new().route("/who", get(async |ConnectInfo(peer): ConnectInfo<SocketAddr>| peer.to_string()));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let mut serving = JoinSet::new();
    serving.spawn(serve_connections(listener, None, app, CancellationToken::new()));
    let mut stream = TcpStream::connect(addr).await.expect("a connection");
    stream.write_all(b"GET /who HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.expect("sent");
    let own = stream.local_addr().expect("an address").to_string();
    assert!(until_closed(stream).await.ends_with(&own));
}
