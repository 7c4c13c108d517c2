//! WebSockets through the gateway. The handshake is made by hand, and what follows it are bytes that an echo returns:
//! the gateway knows nothing of frames.

use std::time::Instant;

use axum::extract::Request;
use http_edge::{Routes, serve};
use hyper_util::rt::TokioIo;
use reqwest::Upgraded;
use runtime::listen::Listen;
use tokio::{io, time::timeout};
use utoipa::openapi::OpenApiBuilder;

use super::*;

/// The example of RFC 6455, section 1.3.
const KEY: (&str, &str) = ("dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");

/// A user-manager that agrees to a WebSocket under `/user-manager/live`, and echoes what comes until the service stops.
async fn live_service() -> (SocketAddr, ServiceRuntime) {
    let runtime = ServiceRuntime::new("user-manager", CancellationToken::new(), Clock::system());
    let of_handler = runtime.clone();
    let live = async move |mut request: Request| {
        let headers = request.headers();
        let is_asked = headers[header::UPGRADE] == "websocket" && headers[header::CONNECTION] == "upgrade";
        if !is_asked || headers["sec-websocket-key"] != KEY.0 {
            return StatusCode::BAD_REQUEST.into_response();
        }
        let upgrade = hyper::upgrade::on(&mut request);
        let stopping = of_handler.tasks.stopping().clone();
        of_handler.tasks.spawn_short("echo", async move {
            let (mut reads, mut writes) = io::split(TokioIo::new(upgrade.await.expect("an upgrade")));
            let stopped = stopping.run_until_cancelled(io::copy(&mut reads, &mut writes)).await;
            if stopped.is_none() {
                writes.write_all(b"bye").await.expect("a goodbye");
            }
        });
        let headers =
            [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", KEY.1), ("x-room", "live")];
        (StatusCode::SWITCHING_PROTOCOLS, headers).into_response()
    };
    let router = Router::new()
        .route("/live", get(live))
        .route("/refused", get(async || (StatusCode::FORBIDDEN, Json(json!({"error": "not yours"})))));
    let routes = Routes { router, openapi: OpenApiBuilder::new().build(), access: &[] };
    let addr = serve(&runtime, Listen::on_loopback().expect("a port"), routes).await.expect("served");
    (addr, runtime)
}

/// Asks `gateway` for a WebSocket under `path`.
pub(super) async fn ask(gateway: &Gateway, path: &str, protocol: &str) -> Response {
    let pem = tokio::fs::read(gateway.folder.path().join("cert.pem")).await.expect("the certificate");
    let certificate = reqwest::Certificate::from_pem(&pem).expect("a certificate");
    let client = Client::builder().tls_certs_only([certificate]).no_proxy().http1_only().build().expect("a client");
    let asked = client.get(format!("{}{path}", gateway.base)).header("Connection", "keep-alive, Upgrade");
    let asked = asked.header("Upgrade", protocol).header("Sec-WebSocket-Version", "13");
    asked.header("Sec-WebSocket-Key", KEY.0).send().await.expect("an answer")
}

async fn connected(gateway: &Gateway) -> Upgraded {
    let response = ask(gateway, "/user-manager/live", "websocket").await;
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["sec-websocket-accept"], KEY.1);
    assert_eq!(response.headers()["x-room"], "live");
    assert!(response.headers().contains_key("x-request-id"));
    let mut connection = response.upgrade().await.expect("an upgrade");
    echoes(&mut connection, b"hello").await;
    connection
}

async fn echoes(connection: &mut Upgraded, words: &[u8]) {
    let mut answer = vec![0; words.len()];
    let (mut reads, mut writes) = io::split(connection);
    let (sent, read) = tokio::join!(writes.write_all(words), timeout(PATIENCE, reads.read_exact(&mut answer)));
    sent.expect("sent");
    read.expect("an echo in time").expect("an echo");
    assert!(answer == words);
}

/// What still comes until the connection ends, in whichever way.
async fn rest(mut connection: Upgraded) -> String {
    let mut rest = Vec::new();
    let ended = timeout(PATIENCE, connection.read_to_end(&mut rest)).await.expect("closed in time");
    drop(ended);
    String::from_utf8(rest).expect("text")
}

#[tokio::test]
async fn a_websocket_passes_through_and_ends_with_its_caller() {
    let (addr, runtime) = live_service().await;
    let gateway = Gateway::before(addr).await;
    let mut connection = connected(&gateway).await;
    echoes(&mut connection, &vec![b'x'; 1024 * 1024]).await;
    let metrics = gateway.admin("/metrics").await;
    assert!(metrics.contains("service=\"gateway\",status=\"101\"} 1"), "{metrics}");
    connection.shutdown().await.expect("ended");
    assert_eq!(rest(connection).await, "");
    runtime.tasks.stopping().cancel();
    // Nothing of it is left in the service.
    runtime.tasks.join().await.expect("a clean end");
    gateway.program.stop().await;
}

#[tokio::test]
async fn a_service_that_stops_says_goodbye_to_those_behind_the_gateway() {
    let (addr, runtime) = live_service().await;
    let gateway = Gateway::before(addr).await;
    let connection = connected(&gateway).await;
    runtime.tasks.stopping().cancel();
    assert_eq!(rest(connection).await, "bye");
    runtime.tasks.join().await.expect("a clean end");
    gateway.program.stop().await;
}

#[tokio::test]
async fn a_gateway_that_stops_closes_its_websockets_on_both_sides() {
    let (addr, runtime) = live_service().await;
    let gateway = Gateway::before(addr).await;
    let connection = connected(&gateway).await;
    let begun = Instant::now();
    let (_, said) = tokio::join!(gateway.program.stop(), rest(connection));
    assert_eq!(said, "");
    assert!(begun.elapsed() < PATIENCE / 3, "{:?}", begun.elapsed());
    // The service's side has ended too, without being told to stop: its handler has no socket left.
    runtime.tasks.stopping().cancel();
    runtime.tasks.join().await.expect("a clean end");
}

#[tokio::test]
async fn what_is_no_websocket_or_is_refused_is_an_answer_as_any_other() {
    let (addr, _runtime) = live_service().await;
    let gateway = Gateway::before(addr).await;
    let response = ask(&gateway, "/user-manager/refused", "websocket").await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
    assert_eq!(response.json::<Value>().await.expect("JSON"), json!({"error": "not yours"}));
    refused(ask(&gateway, "/user-manager/none", "websocket").await, 404).await;
    // Another protocol is not asked for at the service: it sees an ordinary request.
    let (echo, _runtime) = service(anywhere()).await;
    let other = Gateway::before(echo).await;
    let told: Value = ask(&other, "/user-manager/live", "h2c").await.json().await.expect("JSON");
    assert_eq!(headers_of(&told, "upgrade"), Vec::<&str>::new());
    assert_eq!(headers_of(&told, "connection"), Vec::<&str>::new());
    other.program.stop().await;
    gateway.program.stop().await;
}
