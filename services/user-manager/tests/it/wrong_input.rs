//! Bodies of every wrong kind.

use serde_json::{Value, json};

use crate::test_env::{TestEnv, ada, fresh_key};

const JSON: &str = "application/json";

#[tokio::test]
async fn a_body_that_is_no_json_in_utf8_is_refused_by_every_mutation() {
    let TestEnv { service, .. } = TestEnv::new().await;
    let large = json!({"first_name": "x".repeat(65 * 1024)}).to_string().into_bytes();
    let deep = [vec![b'['; 10_000], vec![b']'; 10_000]].concat();
    let cases: [(&str, Vec<u8>, u16); 13] = [
        (JSON, b"".to_vec(), 400),
        (JSON, b"{".to_vec(), 400),
        (JSON, b"{\"email\":\"a@b.cd\",}".to_vec(), 400),
        (JSON, b"{\"first_name\":\"\xe9\"}".to_vec(), 400),
        (JSON, b"{\"first_name\":\"\\ud800\"}".to_vec(), 400),
        (JSON, b"{} {}".to_vec(), 400),
        (JSON, deep, 400),
        (JSON, b"[]".to_vec(), 422),
        (JSON, b"null".to_vec(), 422),
        (JSON, large, 413),
        ("text/plain", b"{}".to_vec(), 415),
        ("application/x-www-form-urlencoded", b"email=a@b.cd".to_vec(), 415),
        ("application/json; charset=iso-8859-1", b"{}".to_vec(), 415),
    ];
    for (method, path) in [("POST", "/users"), ("PATCH", "/users/ada@example.org"), ("POST", "/users/telegram")] {
        for (kind, body, status) in cases.clone() {
            let answer = service.call(method, path).key(&fresh_key()).bytes(kind, body).send().await;
            assert_eq!(answer.status, status, "{method} {path} {kind}: {}", answer.body);
            assert_eq!(answer.headers["content-type"], "application/problem+json");
        }
    }
    let unlabelled = service.call("POST", "/users").key("k").header("x", "y").send().await;
    assert_eq!(unlabelled.status, 415);
}

#[tokio::test]
async fn every_wrong_field_is_told_at_once() {
    let TestEnv { service, .. } = TestEnv::new().await;
    let user = json!({"email": 7, "first_name": ["A"], "last_name": "x".repeat(101), "tax_code": "A_B", "iban": {}});
    let answer = service.call("POST", "/users").key("k").json(&user).send().await;
    answer.refuses(422, "Validation failed");
    let fields: Vec<_> =
        answer.body["errors"].as_array().expect("a list").iter().map(|error| &error["field"]).collect();
    assert_eq!(fields, ["email", "first_name", "last_name", "tax_code", "iban"]);
}

#[tokio::test]
async fn a_wrong_field_is_refused_wherever_it_stands() {
    let TestEnv { service, .. } = TestEnv::new().await;
    service.register("ada@example.org").await;
    let wrong: [(&str, Vec<Value>); 4] = [
        (
            "email",
            vec![json!("ada"), json!("a@b"), json!("a b@c.de"), json!("a\u{0}@c.de"), json!(true), json!("è@c.de")],
        ),
        ("first_name", vec![json!("A\u{0}"), json!("A\nB"), json!(7), json!("é".repeat(101))]),
        ("tax_code", vec![json!("A\u{0}B"), json!("1".repeat(33)), json!(7), json!("")]),
        ("iban", vec![json!("IT60X0542811101000000123457"), json!("IT60"), json!(60), json!("IT60\u{0}")]),
    ];
    for (field, values) in wrong {
        for value in values {
            let mut user = ada("eve@example.org");
            user[field] = value.clone();
            let answer = service.call("POST", "/users").key(&fresh_key()).json(&user).send().await;
            answer.refuses(422, "Validation failed");
            assert_eq!(answer.body["errors"][0]["field"], field, "{value}");
            let change = json!({ field: value });
            let answer = service.call("PATCH", "/users/ada@example.org").json(&change).send().await;
            answer.refuses(422, "Validation failed");
        }
    }
    service.show("eve@example.org").await.expect(404);
    // Characters are counted, not bytes.
    let change = json!({"first_name": "é".repeat(100), "last_name": "O’Neill-Łukasz 李"});
    service.call("PATCH", "/users/ada@example.org").json(&change).send().await.expect(200);
}

#[tokio::test]
async fn of_a_repeated_field_the_last_counts() {
    let TestEnv { service, .. } = TestEnv::new().await;
    let body =
        r#"{"email":"bob@example.org","email":"ada@example.org","first_name":null,"first_name":"Ada","last_name":"L"}"#;
    service.call("POST", "/users").key("k").bytes(JSON, body).send().await.expect(201);
    service.show("ada@example.org").await.expect(200);
    service.show("bob@example.org").await.expect(404);
}

#[tokio::test]
async fn a_key_that_cannot_be_one_is_refused() {
    let TestEnv { service, .. } = TestEnv::new().await;
    let long = "k".repeat(256);
    for key in ["é", long.as_str()] {
        let answer = service.call("POST", "/users").key(key).json(&ada("ada@example.org")).send().await;
        assert_eq!(
            (answer.status, answer.headers["content-type"].to_str().ok()),
            (400, Some("application/problem+json"))
        );
        let answer = service.call("PATCH", "/users/ada@example.org").key(key).json(&json!({})).send().await;
        assert_eq!(answer.status, 400);
    }
}

#[tokio::test]
async fn a_validation_failure_leaves_the_key_free() {
    let TestEnv { service, .. } = TestEnv::new().await;
    let mut user = ada("ada@example.org");
    user["iban"] = json!("wrong");
    service.call("POST", "/users").key("k").json(&user).send().await.expect(422);
    service.call("POST", "/users").key("k").json(&ada("ada@example.org")).send().await.expect(201);
}
