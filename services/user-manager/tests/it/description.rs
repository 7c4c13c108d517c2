//! What the service says about itself.

use std::collections::BTreeSet;

use crate::test_env::{TestEnv, ada};

#[tokio::test]
async fn the_document_lists_every_call_and_its_refusals() {
    let TestEnv { service, .. } = TestEnv::new().await;
    let document = service.call("GET", "/user-manager/openapi.json").send().await.expect(200).body;
    let paths = document["paths"].as_object().expect("paths");
    let described: BTreeSet<_> = paths
        .iter()
        .flat_map(|(path, calls)| {
            calls.as_object().expect("calls").keys().map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let expected = [
        "POST /users",
        "GET /users",
        "GET /users/{email}",
        "PATCH /users/{email}",
        "DELETE /users/{email}",
        "POST /users/telegram",
    ];
    assert_eq!(described, expected.map(ToOwned::to_owned).into());
    for (path, method, statuses) in [
        ("/users", "post", &["201", "400", "409", "422"][..]),
        ("/users/{email}", "patch", &["200", "404", "409", "422"]),
        ("/users/{email}", "delete", &["200", "400", "404", "409", "422"]),
        ("/users/telegram", "post", &["200", "400", "404", "409", "422"]),
    ] {
        let responses = document["paths"][path][method]["responses"].as_object().expect("responses");
        assert_eq!(responses.keys().collect::<Vec<_>>(), statuses, "{method} {path}");
    }
    assert!(document["components"]["schemas"]["User"]["properties"].get("id").is_none());
}

#[tokio::test]
async fn metrics_count_calls_by_pattern_and_name_nobody() {
    let TestEnv { service, .. } = TestEnv::new().await;
    service.call("POST", "/user-manager/users").key("k").json(&ada("ada@example.org")).send().await.expect(201);
    service.show("ada@example.org").await.expect(200);
    service.show("nobody@example.org").await.expect(404);
    let text = testkit::http_client().get(format!("http://{}/metrics", service.http)).send().await.expect("an answer");
    let text = text.text().await.expect("text");
    let counted = |endpoint: &str, method: &str, status: u16| {
        format!(
            "http_requests_total{{endpoint=\"{endpoint}\",method=\"{method}\",service=\"user-manager\",status=\"{status}\"}} 1"
        )
    };
    for line in [
        counted("/users", "POST", 201),
        counted("/users/{email}", "GET", 200),
        counted("/users/{email}", "GET", 404),
        "http_request_duration_seconds_bucket".to_owned(),
        "http_requests_in_progress".to_owned(),
        "build_info".to_owned(),
    ] {
        assert!(text.contains(&line), "{line} is missing: {text}");
    }
    assert!(!text.contains("example.org"), "{text}");
}

#[tokio::test]
async fn a_request_keeps_the_id_it_came_with() {
    let TestEnv { service, .. } = TestEnv::new().await;
    let answer = service.call("GET", "/users").header("x-request-id", "req-9").send().await;
    assert_eq!(answer.headers["x-request-id"], "req-9");
    assert!(!service.call("GET", "/users").send().await.headers["x-request-id"].is_empty());
}
