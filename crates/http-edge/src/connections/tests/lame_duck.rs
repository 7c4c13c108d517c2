//! A server that stops while its callers keep connections and go on asking.

use runtime::{config::LONGEST_LAME_DUCK, tasks::STOP_LIMIT};

use super::*;

/// A lame duck that no test waits for whose callers are gone.
const LONG: ConnectionLimits = ConnectionLimits { lame_duck: PATIENCE, ..HURRIED };
/// One whose end is waited for.
const SHORT: ConnectionLimits = ConnectionLimits { lame_duck: Duration::from_secs(1), ..HURRIED };

/// Asks over a connection that is kept, and answers the head that came, in lower case.
async fn ask(stream: &mut TcpStream) -> std::io::Result<String> {
    stream.write_all(PING.as_bytes()).await?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"pong") {
        answer.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&answer).to_lowercase())
}

/// A connection on which something was answered.
async fn kept(server: &Server) -> TcpStream {
    let mut stream = server.sends("").await;
    let answer = timeout(PATIENCE, ask(&mut stream)).await.expect("in time").expect("an answer");
    assert!(!answer.contains("connection: close"), "{answer}");
    stream
}

fn says_goodbye(answer: &str) -> bool {
    answer.starts_with("http/1.1 200") && answer.contains("\r\nconnection: close\r\n")
}

#[tokio::test]
async fn kept_and_new_connections_are_answered_after_the_stop_and_told_to_close() {
    let server = server_within(LONG).await;
    let (mut last, mut resting) = (kept(&server).await, kept(&server).await);
    server.stopping.cancel();
    let begun = Instant::now();
    // For much longer than the last call takes.
    while begun.elapsed() < LAST_CALL * 10 {
        let answer = until_closed(server.sends(PING).await).await.to_lowercase();
        assert!(says_goodbye(&answer), "{answer}");
    }
    for stream in [&mut last, &mut resting] {
        let answer = timeout(PATIENCE, ask(stream)).await.expect("in time").expect("an answer");
        assert!(says_goodbye(&answer), "{answer}");
    }
    assert_eq!(until_closed(last).await + &until_closed(resting).await, "", "closed by the server");
    server.ends().await;
    assert!(begun.elapsed() < LONG.lame_duck, "nobody was left: {:?}", begun.elapsed());
}

#[tokio::test]
async fn a_connection_that_rests_is_closed_at_the_end_of_the_lame_duck() {
    let server = server_within(SHORT).await;
    let resting = kept(&server).await;
    let begun = Instant::now();
    server.stopping.cancel();
    assert_eq!(until_closed(resting).await, "");
    assert!(begun.elapsed() >= SHORT.lame_duck, "{:?}", begun.elapsed());
    server.ends().await;
}

#[tokio::test]
async fn a_request_under_way_at_the_end_of_the_lame_duck_has_the_whole_drain() {
    let server = server_within(SHORT).await;
    let endless = server.sends("GET /endless HTTP/1.1\r\nHost: a\r\n\r\n").await;
    until_closed(server.sends(LAST_PING).await).await;
    let begun = Instant::now();
    server.stopping.cancel();
    assert_eq!(until_closed(endless).await, "");
    assert!(begun.elapsed() >= SHORT.lame_duck + SHORT.drain, "{:?}", begun.elapsed());
    server.ends().await;
}

#[tokio::test]
async fn connections_on_which_nothing_was_asked_do_not_hold_up_the_end() {
    let server = server_within(LONG).await;
    let silent = [server.sends("").await, server.sends("GET /ping HTTP/1.1\r\nHost: a\r\nX-Slow: ").await];
    until_closed(server.sends(LAST_PING).await).await;
    let begun = Instant::now();
    server.stopping.cancel();
    server.ends().await;
    assert!(begun.elapsed() < LONG.lame_duck / 2, "{:?}", begun.elapsed());
    for stream in silent {
        assert_eq!(until_closed(stream).await, "");
    }
}

#[tokio::test]
async fn an_upgraded_connection_has_its_goodbye_as_without_a_lame_duck() {
    let server = server_within(LONG).await;
    let upgraded = upgrades::upgraded(&server).await;
    let begun = Instant::now();
    server.stopping.cancel();
    assert_eq!(until_closed(upgraded).await, "");
    assert!((LONG.drain / 2..LONG.lame_duck).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    server.ends().await;
}

#[tokio::test]
async fn an_http_2_connection_is_told_to_end_at_once_and_what_is_under_way_is_answered() {
    let server = server_within(LONG).await;
    let mut resting = kept(&server).await;
    let connect = async || {
        let stream = TokioIo::new(server.sends("").await);
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.expect("a connection")
    };
    let get =
        |path: &str| Request::get(format!("http://{}{path}", server.addr)).body(Body::empty()).expect("a request");
    let (mut asking, connection) = connect().await;
    let mut open = JoinSet::new();
    open.spawn(connection);
    let slow = asking.send_request(get("/slow"));
    let begun = async {
        testkit::wait_for("it to begin", PATIENCE, async || server.slow.load(Ordering::SeqCst) == 1).await;
        server.stopping.cancel();
    };
    let (answer, ()) = tokio::join!(slow, begun);
    assert!(answer.expect("an answer").status().is_success());
    timeout(PATIENCE / 2, open.join_next()).await.expect("closed in time");

    let (mut asking, connection) = connect().await;
    open.spawn(connection);
    assert!(asking.send_request(get("/ping")).await.expect("an answer").status().is_success());
    timeout(PATIENCE / 2, open.join_next()).await.expect("a new one closed in time");
    // All the while the lame duck was not over.
    assert!(says_goodbye(&ask(&mut resting).await.expect("an answer")));
    server.ends().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_that_keep_asking_move_to_another_server_without_a_failure() {
    const CALLERS: usize = 8;
    const REQUESTS: usize = 200;
    let (old, new) = (server_within(LONG).await, server_within(LONG).await);
    let asked = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (mut addr, next, asked) = (old.addr, new.addr, asked.clone());
        callers.spawn(async move {
            let mut stream = TcpStream::connect(addr).await.expect("a connection");
            for number in 0..REQUESTS {
                let answer = timeout(PATIENCE, ask(&mut stream)).await.expect("in time");
                let answer = answer.unwrap_or_else(|error| panic!("request {number} to {addr}: {error}"));
                if says_goodbye(&answer) {
                    addr = next;
                    stream = TcpStream::connect(addr).await.expect("a connection");
                }
                asked.fetch_add(1, Ordering::SeqCst);
            }
            addr
        });
    }
    testkit::wait_for("some requests", PATIENCE, async || asked.load(Ordering::SeqCst) >= CALLERS * REQUESTS / 8).await;
    old.stopping.cancel();
    let ended_at = callers.join_all().await;
    assert!(ended_at.contains(&new.addr), "somebody still asked when the server stopped");
    assert_eq!(asked.load(Ordering::SeqCst), CALLERS * REQUESTS);
    old.ends().await;
}

#[test]
fn the_longest_lame_duck_and_the_drain_fit_into_the_time_in_which_a_process_stops() {
    let longest = Duration::from_secs(LONGEST_LAME_DUCK);
    for limits in [ConnectionLimits::of_a_service(), ConnectionLimits::of_the_entry()] {
        assert!(longest + LAST_CALL + limits.drain < STOP_LIMIT);
    }
}
