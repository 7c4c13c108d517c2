//! Connections that are upgraded to another protocol: an upgrade by hand, and an echo of bytes after it.

use axum::http::header;
use runtime::tasks::Tasks;
use tokio::io::copy;

use super::*;

const UPGRADE: &str = "GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// Agrees to an upgrade, and echoes what comes until the caller has ended or the connection breaks.
pub(super) async fn upgrade(tasks: Tasks, mut request: Request) -> impl IntoResponse {
    let upgrade = hyper::upgrade::on(&mut request);
    tasks.spawn_short("echo", async move {
        let Ok(upgraded) = upgrade.await else { return };
        let (mut reads, mut writes) = tokio::io::split(TokioIo::new(upgraded));
        drop(copy(&mut reads, &mut writes).await);
    });
    (StatusCode::SWITCHING_PROTOCOLS, [(header::CONNECTION, "upgrade"), (header::UPGRADE, "websocket")])
}

/// A connection that has been upgraded.
pub(super) async fn upgraded(server: &Server) -> TcpStream {
    let mut stream = server.sends(UPGRADE).await;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(PATIENCE, stream.read_u8()).await.expect("an answer in time").expect("an answer");
        head.push(byte);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    assert!(head.starts_with("http/1.1 101") && head.contains("upgrade: websocket"), "{head}");
    stream
}

async fn echoes(stream: &mut TcpStream) {
    let mut answer = [0; 5];
    stream.write_all(b"hello").await.expect("sent");
    timeout(PATIENCE, stream.read_exact(&mut answer)).await.expect("an echo in time").expect("an echo");
    assert_eq!(&answer, b"hello");
}

#[tokio::test]
async fn an_upgraded_connection_outlives_every_limit_of_requests() {
    let server = server().await;
    let mut stream = upgraded(&server).await;
    let begun = Instant::now();
    let mut beats = interval(HURRIED.head / 4);
    while begun.elapsed() < (HURRIED.head + HURRIED.answer) * 2 {
        beats.tick().await;
        echoes(&mut stream).await;
    }
    // It ends when its caller has ended.
    stream.shutdown().await.expect("ended");
    assert_eq!(until_closed(stream).await, "");
}

#[tokio::test]
async fn at_a_stop_an_upgraded_connection_still_has_a_moment_and_is_broken_then() {
    let server = server().await;
    let mut stream = upgraded(&server).await;
    echoes(&mut stream).await;
    let begun = Instant::now();
    server.stopping.cancel();
    echoes(&mut stream).await;
    assert_eq!(until_closed(stream).await, "");
    assert!(begun.elapsed() >= HURRIED.drain / 2, "{:?}", begun.elapsed());
    server.ends().await;
    assert!(begun.elapsed() < HURRIED.drain, "nothing was left to be cut off: {:?}", begun.elapsed());
}

#[tokio::test]
async fn an_upgraded_connection_keeps_its_place_until_it_is_closed() {
    let server = server_within(ConnectionLimits { connections: 1, ..HURRIED }).await;
    let mut stream = upgraded(&server).await;
    let refused = until_closed(server.sends(LAST_PING).await).await;
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    echoes(&mut stream).await;
    drop(stream);
    testkit::wait_for("a free place", PATIENCE, async || {
        until_closed(server.sends(LAST_PING).await).await.ends_with("pong")
    })
    .await;
}

#[tokio::test]
async fn an_upgraded_connection_whose_caller_takes_nothing_is_broken() {
    let server = server().await;
    let mut stream = upgraded(&server).await;
    let piece = vec![b'x'; 64 * 1024];
    // What comes back is never read, so at some time nothing more is taken either.
    let is_broken = async { while stream.write_all(&piece).await.is_ok() {} };
    timeout(PATIENCE, is_broken).await.expect("broken in time");
}

#[tokio::test]
async fn a_caller_that_leaves_before_the_upgrade_leaves_nothing_behind() {
    let server = server_within(ConnectionLimits { connections: 1, ..HURRIED }).await;
    drop(server.sends(UPGRADE).await);
    testkit::wait_for("a free place", PATIENCE, async || {
        until_closed(server.sends(LAST_PING).await).await.ends_with("pong")
    })
    .await;
    server.stopping.cancel();
    server.ends().await;
}
