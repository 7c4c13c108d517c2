use std::net::SocketAddr;

use axum::{Json, routing::post};
use serde_json::{Value, json};
use shell::{
    Shell,
    clock::Clock,
    http::{Body, Problem, Routes, serve},
    listen::Listen,
    trace::Cause,
};
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

#[derive(OpenApi)]
struct Api;

async fn echo(axum::Extension(cause): axum::Extension<Cause>, body: Body) -> Result<Json<Value>, Problem> {
    body.fields.finish()?;
    Ok(Json(json!({"request_id": cause.request_id})))
}

async fn service() -> SocketAddr {
    let shell = Shell::new("echo", CancellationToken::new(), Clock::system());
    let (router, openapi) = OpenApiRouter::with_openapi(Api::openapi()).split_for_parts();
    let router = router.route("/things/{id}", post(echo)).route("/broken", post(broken));
    serve(&shell, Listen::on_loopback().expect("a port"), Routes { router, openapi }).await.expect("served")
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
