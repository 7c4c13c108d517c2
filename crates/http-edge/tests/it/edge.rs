use std::net::SocketAddr;

use axum::{
    Json,
    extract::Path,
    http::Method,
    routing::{get, post},
};
use http_edge::{Access, Body, Problem, RouteAccess, Routes, serve};
use runtime::{
    ServiceRuntime,
    clock::Clock,
    config::{Reader, RuntimeConfig},
    listen::Listen,
    readiness::Criticality,
    trace::RequestContext,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

#[derive(OpenApi)]
struct Api;

async fn echo(axum::Extension(context): axum::Extension<RequestContext>, body: Body) -> Result<Json<Value>, Problem> {
    body.fields.finish()?;
    Ok(Json(json!({"request_id": context.request_id})))
}

async fn service() -> SocketAddr {
    let runtime = ServiceRuntime::new("echo", CancellationToken::new(), Clock::system());
    let (router, openapi) = OpenApiRouter::with_openapi(Api::openapi()).split_for_parts();
    let router =
        router.route("/things/{id}", post(echo)).route("/broken", post(broken)).route("/word/{word}", get(word));
    serve(&runtime, Listen::on_loopback().expect("a port"), Routes { router, openapi, access: &[] })
        .await
        .expect("served")
}

async fn word(Path(word): Path<String>) -> String {
    word
}

async fn broken() -> Json<Value> {
    let empty: Vec<u8> = Vec::new();
    Json(json!(empty[usize::from(std::hint::black_box(1u8))]))
}

async fn send(
    addr: SocketAddr,
    method: &str,
    path: &str,
    kind: &str,
    body: Vec<u8>,
) -> (u16, Value, reqwest::header::HeaderMap) {
    let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
    let request = testkit::http_client().request(method, format!("http://{addr}{path}"));
    let response =
        request.header("content-type", kind).header("x-request-id", "r-1").body(body).send().await.expect("answered");
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    (status, serde_json::from_slice(&response.bytes().await.expect("a body")).unwrap_or(Value::Null), headers)
}

/// A call of the document.
#[utoipa::path(get, path = "/things", responses((status = 200)))]
async fn things() {}

#[tokio::test]
async fn a_service_with_a_call_that_does_not_say_what_it_needs_does_not_start() {
    static LISTED: [RouteAccess; 1] = [RouteAccess::new(Method::GET, "/things", Access::Public)];
    let start = async |service: &'static str, access| {
        let runtime = ServiceRuntime::new(service, CancellationToken::new(), Clock::system());
        let (router, openapi) = OpenApiRouter::new().routes(routes!(things)).split_for_parts();
        serve(&runtime, Listen::on_loopback().expect("a port"), Routes { router, openapi, access }).await
    };
    let refused = start("careless", &[]).await.expect_err("no row").to_string();
    assert!(refused.contains("GET /things has no row"), "{refused}");
    start("careful", &LISTED).await.expect("a start");
}

#[tokio::test]
async fn every_error_is_problem_json_with_the_status_of_the_contract() {
    let addr = service().await;
    let json = "application/json";
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(65 * 1024)).into_bytes();
    let cases: [(&str, &str, &str, Vec<u8>, u16); 9] = [
        ("POST", "/things/1", json, b"{}".to_vec(), 200),
        ("POST", "/echo/things/1", json, b"{}".to_vec(), 200),
        ("POST", "/things/1", json, b"{".to_vec(), 400),
        ("POST", "/things/1", json, b"[]".to_vec(), 422),
        ("POST", "/things/1", "text/plain", b"{}".to_vec(), 415),
        ("POST", "/things/1", "application/json; charset=latin1", b"{}".to_vec(), 415),
        ("POST", "/things/1", json, large, 413),
        ("GET", "/things/1", json, Vec::new(), 405),
        ("GET", "/nothing", json, Vec::new(), 404),
    ];
    for (method, path, kind, body, expected) in cases {
        let (status, answer, headers) = send(addr, method, path, kind, body).await;
        assert_eq!(status, expected, "{method} {path} {kind}");
        assert_eq!(headers["x-request-id"], "r-1");
        if expected != 200 {
            assert_eq!(headers["content-type"], "application/problem+json", "{method} {path}");
            assert_eq!((&answer["status"], answer["error"].is_string()), (&json!(expected), true), "{answer}");
        }
    }
}

#[tokio::test]
async fn what_the_framework_refuses_is_told_in_our_form() {
    let addr = service().await;
    let get = |path: &str| testkit::http_client().get(format!("http://{addr}{path}")).send();
    assert_eq!(get("/word/a%20b").await.expect("answered").text().await.expect("text"), "a b");
    for path in ["/word/%FF", "/echo/word/%C3"] {
        let response = get(path).await.expect("answered");
        assert_eq!(response.status(), 400, "{path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{path}");
        let answer: Value = response.json().await.expect("JSON");
        assert_eq!((&answer["status"], &answer["error"]), (&json!(400), &json!("Bad Request")));
    }
    let response = testkit::http_client().delete(format!("http://{addr}/things/1")).send().await.expect("answered");
    assert_eq!(response.status(), 405);
    assert_eq!(response.headers()["allow"], "POST");
}

#[tokio::test]
async fn whoever_sends_a_large_body_to_its_end_reads_why_it_is_refused() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let addr = service().await;
    let mut stream = tokio::net::TcpStream::connect(addr).await.expect("a connection");
    let size = 8 * 1024 * 1024;
    let head = format!(
        "POST /things/1 HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {size}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    stream.write_all(&vec![b'x'; size]).await.expect("sent, for nobody hangs up in between");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_not_waited_for() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let addr = service().await;
    let mut stream = tokio::net::TcpStream::connect(addr).await.expect("a connection");
    let head = "POST /things/1 HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = [0; 12];
    let read = tokio::time::timeout(std::time::Duration::from_secs(30), stream.read_exact(&mut answer)).await;
    read.expect("an answer in time").expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[tokio::test]
async fn the_admin_port_says_when_the_start_is_complete_and_why_a_part_is_down_and_refuses_in_our_form() {
    let mut process = runtime::Process::start(&config()).expect("started");
    let runtime = process.runtime("test", Clock::system());
    process.runtime("neighbour", Clock::system());
    let addr = http_edge::admin::serve(&process, SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("served");
    let send = |method: &str, path: &str| {
        let method = reqwest::Method::from_bytes(method.as_bytes()).expect("a method");
        testkit::http_client().request(method, format!("http://{addr}{path}")).send()
    };
    let ready = async || {
        let response = send("GET", "/readyz").await.expect("answered");
        (response.status().as_u16(), response.text().await.expect("text"))
    };
    // Beside what the services count, the page says of each of them what /readyz does, without the words.
    let says = async |lines: &[&str]| {
        let response = send("GET", "/metrics").await.expect("answered");
        assert_eq!(response.status().as_u16(), 200);
        let text = response.text().await.expect("text");
        let about = |line: &&str| line.starts_with("service_ready{") || line.starts_with("health_part_up{");
        assert_eq!(text.lines().filter(about).collect::<Vec<_>>(), lines, "{text}");
        assert!(text.matches("# TYPE service_ready gauge").count() == 1 && !text.contains("ada"), "{text}");
    };
    let (status, words) = ready().await;
    assert!(status == 503 && words.contains("start"), "{status} {words}");
    says(&[
        "health_part_up{part=\"start\",service=\"neighbour\"} 0",
        "health_part_up{part=\"start\",service=\"test\"} 0",
        "service_ready{service=\"neighbour\"} 0",
        "service_ready{service=\"test\"} 0",
    ])
    .await;
    process.started();
    assert_eq!(ready().await.0, 200);
    says(&["service_ready{service=\"neighbour\"} 1", "service_ready{service=\"test\"} 1"]).await;
    for (method, path, expected) in
        [("GET", "/", 404), ("POST", "/operator/accept-dead-letters", 404), ("POST", "/readyz", 405)]
    {
        let response = send(method, path).await.expect("answered");
        assert_eq!(response.status().as_u16(), expected, "{method} {path}");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{method} {path}");
    }
    assert_eq!(send("GET", "/livez").await.expect("answered").status(), 200);

    postgres_refuses(&runtime);
    // What was answered a moment ago is answered again for a second.
    testkit::wait_for("the part that is down", std::time::Duration::from_secs(10), async || ready().await.0 == 503)
        .await;
    let answer: Value = serde_json::from_str(&ready().await.1).expect("JSON");
    let parts = answer["services"][0]["parts"].as_array().expect("parts");
    assert!(parts.contains(&json!({"name": "postgres", "up": false, "detail": REFUSAL})), "{answer}");
    let down = "health_part_up{part=\"postgres\",service=\"test\"} 0";
    says(&[down, "service_ready{service=\"neighbour\"} 1", "service_ready{service=\"test\"} 0"]).await;
    process.stopping().cancel();
    says(&[down, "service_ready{service=\"neighbour\"} 0", "service_ready{service=\"test\"} 0"]).await;
    process.run().await.expect("a clean end");
}

const REFUSAL: &str = "password authentication failed for user \"ada\"";

/// Adds a required part that is down, for a reason that not everybody should read.
fn postgres_refuses(runtime: &ServiceRuntime) {
    runtime.readiness.check("postgres", Criticality::Required, || async { Err(REFUSAL.to_owned()) });
}

fn config() -> RuntimeConfig {
    let vars: [(&str, &str); 0] = [];
    RuntimeConfig::read(&mut Reader::new(&vars))
}

#[tokio::test]
async fn a_panic_is_answered_without_its_words() {
    let addr = service().await;
    let (status, answer, _) = send(addr, "POST", "/broken", "application/json", Vec::new()).await;
    assert_eq!((status, &answer["error"]), (500, &json!("Internal error")));
}

#[tokio::test]
async fn metrics_are_hidden_behind_the_prefix_and_name_patterns_only() {
    let addr = service().await;
    send(addr, "POST", "/things/secret@example.org", "application/json", b"{}".to_vec()).await;
    send(addr, "POST", "/echo/things/2", "application/json", b"{}".to_vec()).await;
    let get = |path: &str| testkit::http_client().get(format!("http://{addr}{path}")).send();
    assert_eq!(get("/echo/metrics").await.expect("answered").status(), 404);
    let text = get("/metrics").await.expect("answered").text().await.expect("text");
    let counted = "http_requests_total{endpoint=\"/things/{id}\",method=\"POST\",service=\"echo\",status=\"200\"} 2";
    assert!(text.contains(counted), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

#[tokio::test]
async fn a_check_that_hangs_does_not_keep_the_metrics_from_whoever_reads_them() {
    let runtime = ServiceRuntime::new("echo", CancellationToken::new(), Clock::system());
    runtime.readiness.check("kafka", Criticality::Optional, std::future::pending::<Result<(), String>>);
    let (router, openapi) = OpenApiRouter::with_openapi(Api::openapi()).split_for_parts();
    let routes = Routes { router, openapi, access: &[] };
    let addr = serve(&runtime, Listen::on_loopback().expect("a port"), routes).await.expect("served");
    let (client, begun) = (testkit::http_client(), std::time::Instant::now());
    let read = (0..5).map(|_| async {
        let response = client.get(format!("http://{addr}/metrics")).send().await.expect("answered");
        (response.status().as_u16(), response.text().await.expect("text"))
    });
    for (status, text) in futures::future::join_all(read).await {
        assert!(status == 200 && text.contains("health_part_up{part=\"kafka\",service=\"echo\"} 0\n"), "{text}");
        assert!(text.contains("service_ready{service=\"echo\"} 1\n"), "an optional part: {text}");
    }
    let took = begun.elapsed();
    assert!(took < std::time::Duration::from_secs(9), "Prometheus waits for 10 s, and this took {took:?}");
}

#[tokio::test]
async fn the_api_describes_itself_with_and_without_the_prefix() {
    let addr = service().await;
    for path in
        ["/ping", "/echo/ping", "/openapi.json", "/echo/openapi.json", "/docs", "/echo/docs/", "/livez", "/readyz"]
    {
        let response = testkit::http_client().get(format!("http://{addr}{path}")).send().await.expect("answered");
        assert_eq!(response.status(), 200, "{path}");
        let text = response.text().await.expect("text");
        assert!(!text.is_empty(), "{path}");
    }
}

#[tokio::test]
async fn the_public_port_names_what_is_down_and_not_why() {
    let runtime = ServiceRuntime::new("echo", CancellationToken::new(), Clock::system());
    postgres_refuses(&runtime);
    let (router, openapi) = OpenApiRouter::with_openapi(Api::openapi()).split_for_parts();
    let addr = serve(&runtime, Listen::on_loopback().expect("a port"), Routes { router, openapi, access: &[] })
        .await
        .expect("served");
    for path in ["/readyz", "/echo/readyz"] {
        let response = testkit::http_client().get(format!("http://{addr}{path}")).send().await.expect("answered");
        assert_eq!(response.status(), 503);
        let answer: Value = response.json().await.expect("JSON");
        assert_eq!(answer["services"][0]["parts"], json!([{"name": "postgres", "up": false}]), "{path}: {answer}");
    }
}

/// What comes back on a connection of its own until it is closed.
async fn raw(addr: SocketAddr, request: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(addr).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(std::time::Duration::from_secs(60), stream.read_to_end(&mut answer)).await;
    // A connection that is closed with unread bytes may end with an error.
    drop(read.expect("closed in time"));
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn a_request_that_two_servers_could_read_differently_is_refused() {
    let addr = service().await;
    let close = "Connection: close\r\n\r\n";
    for request in [
        format!("GET /ping HTTP/1.1\r\n{close}"),
        format!("GET /ping HTTP/1.1\r\nHost: a\r\nHost: b\r\n{close}"),
        format!("GET /ping HTTP/1.1\r\nHost: a\r\nHost: a\r\n{close}"),
        format!("GET /ping HTTP/1.1\r\nHost: a/metrics\r\n{close}"),
        format!("GET /ping HTTP/1.1\r\nHost: eve@a\r\n{close}"),
        format!("POST /things/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n{close}{{}}"),
        format!("POST /things/1 HTTP/1.1\r\nHost: a\r\nContent-Length: +2\r\n{close}{{}}"),
        format!("POST /things/1 HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\n{close}{{}}"),
        format!(
            "POST /things/1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n{close}2\r\n{{}}\r\n0\r\n\r\n"
        ),
        format!("POST /things/1 HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n{close}2\r\n{{}}\r\n0\r\n\r\n"),
        format!("GET /ping HTTP/1.1\r\nHost : a\r\n{close}"),
        format!("GET /ping HTTP/1.1\r\nHost: a\r\n folded: b\r\n{close}"),
    ] {
        let answer = raw(addr, &request).await;
        assert!(answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.0 400"), "{request}\n{answer}");
    }
    for method in ["CONNECT a:443", "CONNECT /ping", "TRACE /ping"] {
        let answer = raw(addr, &format!("{method} HTTP/1.1\r\nHost: a\r\n{close}")).await;
        assert!(answer.starts_with("HTTP/1.1 40"), "{method}\n{answer}");
    }
    let absolute = raw(addr, &format!("GET http://b/ping HTTP/1.1\r\nHost: a\r\n{close}")).await;
    assert!(absolute.starts_with("HTTP/1.1 200"), "{absolute}");
}

#[tokio::test]
async fn a_chunked_body_with_a_length_is_read_as_chunked_and_nothing_that_follows_it_is_believed() {
    let addr = service().await;
    let head = "POST /things/1 HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
    for framing in
        ["Content-Length: 4\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 4"]
    {
        let next = "GET /smuggled HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let answers = raw(addr, &format!("{head}{framing}\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n{next}")).await;
        let statuses: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
        assert_eq!(statuses, ["200"], "{framing}\n{answers}");
    }
}

#[tokio::test]
async fn no_spelling_of_a_path_behind_the_prefix_reaches_the_metrics() {
    let addr = service().await;
    for path in [
        "/echo/metrics",
        "/echo//metrics",
        "/echo/../metrics",
        "/echo/..%2fmetrics",
        "/echo/%2e%2e/metrics",
        "/echo/docs/..%2f..%2fmetrics",
        "/echo/docs/%2e%2e/%2e%2e/metrics",
        "/echo/metrics/",
        "/echo/%6detrics",
        "//metrics",
    ] {
        let answer = raw(addr, &format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 404"), "{path}\n{answer}");
    }
}
