//! OpenSky's bad days.

use std::time::Duration;

use serde_json::Value;
use simulators::opensky::{Endpoint, Failure};

use crate::OpenSkyClient;

const ALL: &str = "/states/all";

#[tokio::test]
async fn failures_come_in_order_and_then_the_truth_again() {
    let (api, _) = OpenSkyClient::scripted().await;
    api.opensky.fail(Endpoint::States, Failure::Status(401));
    api.opensky.fail_times(Endpoint::States, Failure::Status(503), 2);
    api.opensky.fail(Endpoint::States, Failure::Status(404));
    let mut told = Vec::new();
    for _ in 0..5 {
        told.push(api.get(ALL).await.status().as_u16());
    }
    assert_eq!(told, [401, 503, 503, 404, 200]);
    let remembered: Vec<_> = api.opensky.requests().iter().map(|request| request.status).collect();
    assert_eq!(remembered, told);
}

#[tokio::test]
async fn a_failure_may_last_until_it_is_taken_back() {
    let (api, _) = OpenSkyClient::scripted().await;
    api.opensky.fail_always(Endpoint::Token, Failure::Status(401));
    for _ in 0..3 {
        assert_eq!(api.sign_in("simulator").await.status(), 401);
    }
    assert_eq!(api.get(ALL).await.status(), 200, "other calls are not concerned");
    api.opensky.recover(Endpoint::Token);
    assert_eq!(api.sign_in("simulator").await.status(), 200);
}

#[tokio::test]
async fn ten_hours_are_told_in_a_header_and_nothing_in_json() {
    let (api, _) = OpenSkyClient::scripted().await;
    api.opensky.fail(Endpoint::States, Failure::ten_hours());
    let refused = api.get(ALL).await;
    assert_eq!(refused.status(), 429);
    assert_eq!(refused.headers()["x-rate-limit-retry-after-seconds"], "38715");
    assert!(serde_json::from_str::<Value>(&refused.text().await.expect("a text")).is_err());
    api.opensky.fail(Endpoint::States, Failure::TooManyRequests { retry_after_seconds: None });
    assert!(!api.get(ALL).await.headers().contains_key("x-rate-limit-retry-after-seconds"));
}

#[tokio::test]
async fn an_answer_may_be_html_or_any_body() {
    let (api, _) = OpenSkyClient::scripted().await;
    api.opensky.fail(Endpoint::States, Failure::Html);
    let html = api.get(ALL).await;
    assert_eq!(
        (html.status().as_u16(), &html.headers()["content-type"]),
        (200, &"text/html;charset=UTF-8".parse().expect("a value"))
    );
    api.opensky.fail(Endpoint::States, Failure::body(r#"{"Time":1}"#));
    assert_eq!(api.get(ALL).await.text().await.expect("a text"), r#"{"Time":1}"#);
    api.opensky.fail(Endpoint::States, Failure::Body { status: 500, body: r#"["sorry"]"#.to_owned() });
    let list = api.get(ALL).await;
    assert_eq!((list.status().as_u16(), list.text().await.expect("a text")), (500, r#"["sorry"]"#.to_owned()));
}

#[tokio::test]
async fn an_answer_may_break_off_or_never_come() {
    let (api, traffic) = OpenSkyClient::scripted().await;
    traffic.set_aircraft("Paris", 49.0, 2.5, 50);
    api.opensky.fail(Endpoint::States, Failure::HalfBody);
    let half = api.get(ALL).await;
    assert_eq!(half.status(), 200);
    let error = half.text().await.expect_err("half of it");
    assert!(error.is_body() || error.is_decode(), "{error:?}");
    api.opensky.fail(Endpoint::States, Failure::HangUp);
    let url = format!("{}{ALL}", api.opensky.api_url());
    let error = api.client.get(&url).send().await.expect_err("no answer");
    assert!(error.is_request() && !error.is_connect() && !error.is_timeout(), "{error:?}");
    assert_eq!(api.get(ALL).await.status(), 200);
}

#[tokio::test]
async fn an_answer_may_come_too_late_and_holds_up_nobody_else() {
    let (api, _) = OpenSkyClient::scripted().await;
    api.opensky.fail(Endpoint::States, Failure::Hang(Duration::from_secs(600)));
    let url = format!("{}{ALL}", api.opensky.api_url());
    let late = api.client.get(&url).timeout(Duration::from_millis(200)).send();
    let error = late.await.expect_err("nothing in time");
    assert!(error.is_timeout(), "{error:?}");
    assert_eq!(api.get(ALL).await.status(), 200);
    api.opensky.fail(Endpoint::States, Failure::Hang(Duration::from_millis(1)));
    assert_eq!(api.get(ALL).await.status(), 200, "late, but the truth");
}
