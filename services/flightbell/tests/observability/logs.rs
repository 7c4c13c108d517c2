//! Log lines that programs read.

use serde_json::{Value, json};

use crate::{PATIENCE, demo::Demo};

/// A trace that a caller began, and does not record itself: its id is told all the same.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[tokio::test(flavor = "multi_thread")]
async fn every_line_is_json_and_those_of_a_request_carry_its_trace() {
    let demo = Demo::start(60, &[("LOG_FORMAT", "json"), ("RUST_LOG", "info,http_edge=debug")]).await;
    let url = format!("{}/user-manager/users", demo.base);
    let user =
        |name: &str| json!({"email": format!("{name}@example.org"), "first_name": name, "last_name": "Lovelace"});
    let create = |name: &str| {
        demo.client.post(&url).header("idempotency-key", name).header("x-request-id", name).json(&user(name))
    };
    let traced = create("ada").header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-00")).send().await;
    assert_eq!(traced.expect("answered").status(), 201);
    assert_eq!(create("ben").send().await.expect("answered").status(), 201);

    let lines = || -> Vec<Value> {
        let log = demo.process.log();
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    };
    let of_request =
        |id: &str| -> Vec<Value> { lines().into_iter().filter(|line| line["span"]["request_id"] == id).collect() };
    // The gateway tells of it, and the service behind.
    let told = |id: &str| of_request(id).iter().filter(|line| line["fields"]["status"] == 201).count() == 2;
    testkit::wait_for("the lines of both requests", PATIENCE, async || told("ada") && told("ben")).await;
    for line in of_request("ada") {
        assert_eq!(line["trace_id"], TRACE, "{line}");
    }
    for line in of_request("ben") {
        let trace = line["trace_id"].as_str().unwrap_or_else(|| panic!("no trace: {line}"));
        let is_id = trace.len() == 32 && trace.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(is_id && trace != TRACE && !trace.bytes().all(|byte| byte == b'0'), "{line}");
    }
    let lines = lines();
    assert!(lines.iter().any(|line| line.get("trace_id").is_none()), "what belongs to no trace names none");
    for line in lines {
        assert!(["timestamp", "level", "target"].iter().all(|key| line[key].is_string()), "{line}");
        assert!(line["fields"]["message"].is_string(), "{line}");
    }
    let log = demo.process.stop().await;
    assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{log}");
}
