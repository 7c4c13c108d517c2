//! The HTTPS entry as a process of its own, in front of a service that tells what reached it.

mod retries;
mod websockets;

use std::net::SocketAddr;

use axum::{
    Json, Router,
    body::Bytes,
    http::{HeaderMap, Method, StatusCode, Uri},
    response::IntoResponse,
    routing::{any, get},
};
use http_edge::serve_connections;
use reqwest::{Client, Response, header};
use runtime::{ServiceRuntime, clock::Clock};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::CancellationToken;

use crate::{
    deployment::{client, folder},
    program::{self, PATIENCE},
};

struct Gateway {
    program: testkit::Process,
    base: String,
    plain: SocketAddr,
    admin: String,
    client: Client,
    folder: testkit::Folder,
}

impl Gateway {
    /// A gateway before a user-manager at `service`, and a data-collector that does not run.
    async fn before(service: SocketAddr) -> Self {
        Self::with(service, folder(), &[]).await
    }

    /// The same with the certificate in `folder`, and more options.
    async fn with(service: SocketAddr, folder: testkit::Folder, options: &[&str]) -> Self {
        Self::start(service, folder, options, &[]).await
    }

    async fn start(
        service: SocketAddr,
        folder: testkit::Folder,
        options: &[&str],
        environment: &[(&str, String)],
    ) -> Self {
        let certificates = folder.path().display().to_string();
        let (plain, admin) = (testkit::free_addr(), testkit::free_addr().to_string());
        let (at, service, away) = (plain.to_string(), service.to_string(), testkit::free_addr().to_string());
        let arguments = ["gateway", "--listen", "127.0.0.1:0", "--listen-http", &at, "--certificates"];
        let arguments =
            [&arguments[..], &[&certificates, "--user-manager", &service, "--data-collector", &away], options].concat();
        let environment = [environment, &[("ADMIN_ADDR", admin.clone())]].concat();
        let mut program = program::start("flightbell", &arguments, &environment).await;
        let base = program.says("ready ").await;
        let client = client(&folder.path().join("cert.pem")).await;
        Self { program, base, plain, admin, client, folder }
    }

    async fn get(&self, path: &str) -> Response {
        self.client.get(format!("{}{path}", self.base)).send().await.expect("an answer")
    }

    fn addr(&self) -> SocketAddr {
        self.base.strip_prefix("https://").and_then(|addr| addr.parse().ok()).expect("an address")
    }

    async fn admin(&self, path: &str) -> String {
        let answer = reqwest::get(format!("http://{}{path}", self.admin)).await.expect("an answer");
        answer.text().await.expect("text")
    }
}

/// What reached the service, told by the service.
async fn echo(method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Json<Value> {
    let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect();
    let body = String::from_utf8_lossy(&body);
    Json(json!({"method": method.as_str(), "uri": uri.to_string(), "headers": headers, "body": body}))
}

/// A user-manager that echoes, until the service stops.
async fn service(addr: SocketAddr) -> (SocketAddr, ServiceRuntime) {
    let runtime = ServiceRuntime::new("user-manager", CancellationToken::new(), Clock::system());
    let app = Router::new()
        .route("/livez", get(StatusCode::OK))
        .route("/user-manager/odd", get(async || (StatusCode::BAD_GATEWAY, "<html>").into_response()))
        .fallback(any(echo));
    let listener = TcpListener::bind(addr).await.expect("a port");
    let addr = listener.local_addr().expect("an address");
    let stopping = runtime.tasks.stopping().clone();
    runtime.tasks.spawn("echo", async move {
        serve_connections(listener, None, app, stopping).await;
        Ok(())
    });
    (addr, runtime)
}

fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn headers_of<'a>(told: &'a Value, name: &str) -> Vec<&'a str> {
    let headers = told["headers"].as_array().expect("headers").iter();
    headers.filter(|pair| pair[0] == name).map(|pair| pair[1].as_str().expect("text")).collect()
}

/// An error in the form of the contract.
async fn refused(response: Response, status: u16) -> Value {
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
    assert!(response.headers().contains_key("x-request-id"));
    let problem: Value = response.json().await.expect("JSON");
    assert_eq!(problem["status"], json!(status));
    problem
}

#[tokio::test]
async fn a_request_reaches_the_service_as_it_was_sent_and_with_an_id() {
    let (addr, _runtime) = service(anywhere()).await;
    let gateway = Gateway::before(addr).await;
    for path in [
        "/user-manager/users?limit=2&cursor=a%20b",
        "/user-manager/users/ada%2Blovelace%2Fx@example.org",
        "/user-manager//users",
        "/user-manager",
    ] {
        let told: Value = gateway.get(path).await.json().await.expect("JSON");
        assert_eq!(told["uri"], path);
        assert_eq!(headers_of(&told, "x-forwarded-proto"), ["https"]);
        assert_eq!(headers_of(&told, "x-request-id").len(), 1);
    }
    for version in [reqwest::Version::HTTP_11, reqwest::Version::HTTP_2] {
        let call = gateway.client.post(format!("{}/user-manager/users", gateway.base)).version(version);
        let call = call.header("Idempotency-Key", "k").header("X-Request-Id", "req-7").header("TE", "trailers");
        let response = call.header("Content-Type", "application/json").body("{\"é\": 1}").send().await;
        let response = response.expect("an answer");
        assert_eq!(response.headers()["x-request-id"], "req-7");
        let told: Value = response.json().await.expect("JSON");
        assert_eq!((&told["method"], &told["body"]), (&json!("POST"), &json!("{\"é\": 1}")));
        for (name, value) in [("idempotency-key", "k"), ("x-request-id", "req-7"), ("content-type", "application/json")]
        {
            assert_eq!(headers_of(&told, name), [value]);
        }
        assert_eq!(headers_of(&told, "te"), Vec::<&str>::new());
        assert_eq!(headers_of(&told, "host"), [addr.to_string()]);
    }
    gateway.program.stop().await;
}

#[tokio::test]
async fn what_a_caller_says_about_itself_never_reaches_the_service() {
    let (addr, _runtime) = service(anywhere()).await;
    let gateway = Gateway::before(addr).await;
    for version in [reqwest::Version::HTTP_11, reqwest::Version::HTTP_2] {
        let call = gateway.client.get(format!("{}/user-manager/users", gateway.base)).version(version);
        let lies = [
            ("x-forwarded-for", "203.0.113.9"),
            ("x_forwarded_for", "203.0.113.9"),
            ("x-forwarded-host", "evil.test"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-port", "1"),
            ("x-forwarded-prefix", "/evil"),
            ("forwarded", "for=203.0.113.9;host=evil.test;proto=http"),
            ("x-real-ip", "203.0.113.9"),
            ("x-original-url", "/metrics"),
            ("proxy-connection", "keep-alive"),
        ];
        let call = lies.into_iter().fold(call, |call, (name, value)| call.header(name, value));
        let told: Value = call.send().await.expect("an answer").json().await.expect("JSON");
        let seen = told["headers"].to_string();
        assert!(!seen.contains("203.0.113.9") && !seen.contains("evil") && !seen.contains("metrics"), "{seen}");
        for (name, value) in [
            ("x-forwarded-for", "127.0.0.1"),
            ("x-real-ip", "127.0.0.1"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-host", &gateway.addr().to_string()),
            ("x-forwarded-port", &gateway.addr().port().to_string()),
        ] {
            assert_eq!(headers_of(&told, name), [value], "{name} over {version:?}");
        }
    }
    gateway.program.stop().await;
}

#[tokio::test]
async fn a_path_that_some_would_read_as_another_reaches_no_service() {
    let (addr, _runtime) = service(anywhere()).await;
    let gateway = Gateway::before(addr).await;
    for path in ["..%2fmetrics", "..%5cmetrics", "%252e%252e/metrics", "..;/metrics", "users/..%2f..%2fmetrics", "%00"]
    {
        let problem = refused(gateway.get(&format!("/user-manager/{path}")).await, 400).await;
        assert_eq!(problem["error"], "Malformed path", "{path}");
    }
    gateway.program.stop().await;
}

#[tokio::test]
async fn what_no_service_answers_is_refused_in_the_one_form() {
    let (addr, _runtime) = service(anywhere()).await;
    let gateway = Gateway::before(addr).await;
    for path in ["/", "/metrics", "/livez", "/users", "//user-manager/users", "/user%2Dmanager/users", "/notifier/x"] {
        refused(gateway.get(path).await, 404).await;
    }
    refused(gateway.get("/user-manager/odd").await, 502).await;
    let large = gateway.client.post(format!("{}/user-manager/users", gateway.base)).body(vec![b'x'; 1024 * 1024]);
    refused(large.send().await.expect("an answer"), 413).await;
    assert_eq!(gateway.get("/ping").await.json::<Value>().await.expect("JSON"), json!({"message": "pong"}));
    let metrics = gateway.admin("/metrics").await;
    let counted = "http_requests_total{endpoint=\"unmatched\",method=\"GET\",service=\"gateway\",status=\"404\"} 7";
    assert!(metrics.contains(counted), "{metrics}");
    gateway.program.stop().await;
}

#[tokio::test]
async fn a_service_that_is_away_is_named_and_answered_for_until_it_is_back() {
    let addr = testkit::free_addr();
    let gateway = Gateway::before(addr).await;
    let response = gateway.get("/user-manager/users").await;
    assert!(response.headers().contains_key(header::RETRY_AFTER));
    let problem = refused(response, 503).await;
    assert!(!problem.to_string().contains(&addr.port().to_string()), "{problem}");
    let ready: Value = serde_json::from_str(&gateway.admin("/readyz").await).expect("JSON");
    let parts = ready["services"][0]["parts"].as_array().expect("parts");
    assert_eq!(parts.iter().map(|part| &part["up"]).collect::<Vec<_>>(), [&json!(false), &json!(false)]);
    // One after the other on the same port: connections to the first are not used for the second.
    for _ in 0..2 {
        let (_, runtime) = service(addr).await;
        assert_eq!(gateway.get("/user-manager/users").await.status(), 200);
        testkit::wait_for("the service to be seen", PATIENCE, async || {
            let ready: Value = serde_json::from_str(&gateway.admin("/readyz").await).expect("JSON");
            ready["services"][0]["parts"][0]["up"] == true
        })
        .await;
        runtime.tasks.stopping().cancel();
        runtime.tasks.join().await.expect("a clean end");
    }
    gateway.program.stop().await;
}

#[tokio::test]
async fn plain_http_is_redirected_with_method_and_path() {
    let (addr, _runtime) = service(anywhere()).await;
    let gateway = Gateway::before(addr).await;
    let send = async |head: &str| {
        let mut stream = TcpStream::connect(gateway.plain).await.expect("a connection");
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("an answer");
        answer.to_lowercase()
    };
    let port = gateway.addr().port();
    for (request, location) in [
        ("POST /user-manager/users?a=b HTTP/1.1\r\nHost: air.test:80", "https://air.test:PORT/user-manager/users?a=b"),
        ("GET http://other.test/x HTTP/1.1\r\nHost: air.test", "https://air.test:PORT/x"),
        ("OPTIONS * HTTP/1.1\r\nHost: air.test", "https://air.test:PORT/"),
        ("GET //evil.test HTTP/1.1\r\nHost: air.test", "https://air.test:PORT//evil.test"),
    ] {
        let answer = send(&format!("{request}\r\nConnection: close\r\n\r\n")).await;
        assert!(answer.starts_with("http/1.1 308"), "{answer}");
        let expected = format!("location: {}\r\n", location.replace("PORT", &port.to_string()));
        assert!(answer.contains(&expected), "{answer}");
    }
    assert!(send("GET / HTTP/1.0\r\n\r\n").await.starts_with("http/1.0 400"));
    gateway.program.stop().await;
}

#[tokio::test]
async fn a_redirect_names_the_port_that_callers_reach_where_it_is_another_than_ours() {
    let (addr, _runtime) = service(anywhere()).await;
    let gateway = Gateway::with(addr, folder(), &["--https-port", "443"]).await;
    let mut stream = TcpStream::connect(gateway.plain).await.expect("a connection");
    stream.write_all(b"GET /a HTTP/1.1\r\nHost: air.test\r\nConnection: close\r\n\r\n").await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    assert!(answer.to_lowercase().contains("location: https://air.test/a\r\n"), "{answer}");
    gateway.program.stop().await;
}

/// Runs `flightbell certs` for this machine and `more`, and answers what it said.
async fn certs(folder: &testkit::Folder, more: &[&str]) -> String {
    let folder = folder.path().display().to_string();
    let names = ["localhost", "127.0.0.1"].iter().chain(more).flat_map(|name| ["--name", name]);
    let arguments: Vec<_> = ["certs", "--dir", &folder].into_iter().chain(names).collect();
    let (code, said) = crate::commands::run(&arguments, &[]).await;
    assert_eq!(code, 0, "{said}");
    said
}

#[tokio::test]
async fn a_certificate_that_is_renewed_while_the_gateway_runs_is_presented_without_a_failed_request() {
    let folder = folder();
    assert!(certs(&folder, &[]).await.contains("ca.pem: made"));
    let authority = folder.path().join("ca.pem");
    let (addr, _runtime) = service(anywhere()).await;
    let gateway = Gateway::with(addr, folder, &[]).await;
    // Who trusts the authority needs nothing new when the certificate is.
    let trusting = async || client(&authority).await;
    let port = gateway.addr().port();
    let ask = async |client: Client, host: &str| client.get(format!("https://{host}:{port}/ping")).send().await;
    assert!(ask(trusting().await, "localhost").await.expect("trusted").status().is_success());
    let another = async || {
        let trusted = reqwest::Certificate::from_pem(&std::fs::read(&authority).expect("the authority"));
        let client = Client::builder().tls_certs_only([trusted.expect("PEM")]).resolve("air.test", gateway.addr());
        ask(client.build().expect("a client"), "air.test").await
    };
    assert!(another().await.is_err(), "the certificate does not name air.test yet");

    let said = certs(&gateway.folder, &["air.test"]).await;
    assert!(said.contains("its names have changed") && !said.contains("ca.pem"), "{said}");
    let renewed = async || {
        assert!(ask(trusting().await, "localhost").await.is_ok(), "no request fails meanwhile");
        another().await.is_ok()
    };
    testkit::wait_for("the renewed certificate", PATIENCE, renewed).await;
    let metrics = gateway.admin("/metrics").await;
    assert!(metrics.contains("tls_certificate_expiry_timestamp_seconds "), "{metrics}");
    assert!(certs(&gateway.folder, &["air.test"]).await.contains("unchanged"));
    gateway.program.stop().await;
}

#[tokio::test]
async fn half_requests_hold_up_neither_others_nor_the_end() {
    let (addr, _runtime) = service(anywhere()).await;
    let gateway = Gateway::before(addr).await;
    let mut halves = Vec::new();
    for number in 0..300 {
        let mut stream = TcpStream::connect(gateway.addr()).await.expect("a connection");
        // Silence, half a handshake, and what is no handshake at all.
        let said = [&b""[..], b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/1.1\r\nHost: x\r\n"][number % 3];
        stream.write_all(said).await.expect("sent");
        halves.push(stream);
    }
    let answer = tokio::time::timeout(PATIENCE, gateway.get("/user-manager/users")).await.expect("in time");
    assert_eq!(answer.status(), 200);
    gateway.program.stop().await;
}
