//! What cannot be processed is kept with its reason, and the rest goes on.

use std::collections::BTreeMap;

use events::{headers, topics::TO_ALERT_SYSTEM};
use serde_json::{Value, json};

use crate::{
    processes::start,
    test_env::{Interest, PATIENCE, Sent, TestEnv, Worker, legacy},
};

fn changed(interest: &Interest, field: &str, value: &Value) -> Sent {
    let sent = interest.reading(2, 99);
    let mut message: Value = serde_json::from_slice(sent.value.as_deref().unwrap()).unwrap();
    message[field] = value.clone();
    Sent { value: Some(serde_json::to_vec(&message).unwrap()), ..sent }
}

fn raw(key: Option<&str>, value: Option<&[u8]>) -> Sent {
    Sent { key: key.map(str::to_owned), value: value.map(<[u8]>::to_vec), headers: Vec::new() }
}

#[tokio::test]
async fn every_kind_of_bad_message_is_kept_with_its_reason_and_the_rest_goes_on() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let interest = Interest::new();
    let id = interest.id.to_string();
    let bad = [
        (raw(None, None), "it has neither key nor value"),
        (raw(Some("ada"), None), "its key is no UUID"),
        (raw(Some(&id), Some(b"hello")), "it is not a JSON object"),
        (raw(Some(&id), Some(b"{\"user_email\":")), "it is not JSON"),
        (raw(Some(&id), Some(b"")), "it is not a JSON object"),
        (raw(Some(&id), Some(b"{}")), "missing field"),
        (raw(Some("other"), interest.reading(2, 99).value.as_deref()), "its key is not interest_id"),
        (changed(&interest, "flight_count", &json!(-1)), "flight_count must not be negative"),
        (changed(&interest, "flight_count", &json!(1e30)), "it is not a reading"),
        (changed(&interest, "low_value", &json!(10)), "high_value must be greater than low_value"),
        (changed(&interest, "reading", &json!(null)), "it is not a reading"),
        (changed(&interest, "user_email", &json!("ada")), "user_email must be an e-mail address"),
    ];
    let mut expected: BTreeMap<Option<Vec<u8>>, Vec<&str>> = BTreeMap::new();
    env.send(&[interest.reading(1, 5)]).await;
    for (sent, reason) in &bad {
        expected.entry(sent.value.clone()).or_default().push(reason);
        env.send(std::slice::from_ref(sent)).await;
    }
    env.send(&[interest.reading(3, 11)]).await;
    env.settled().await;
    assert_eq!(env.kinds_of(&interest).await, ["high"]);
    let letters = env.dead_letters().await;
    assert_eq!(letters.len(), bad.len());
    for letter in &letters {
        let named = letter.headers_as_text();
        let said = &named[headers::DLQ_REASON];
        let reasons = &expected[&letter.value];
        assert!(reasons.iter().any(|reason| said.contains(reason)), "{said} is none of {reasons:?}");
        assert_eq!(named[headers::DLQ_TOPIC], env.topics.topic(&TO_ALERT_SYSTEM));
        assert!(!said.contains(&interest.email), "{said}");
    }
    worker.stop().await;
}

#[tokio::test]
async fn too_many_bad_messages_in_a_row_wait_for_a_reset() {
    let lone = TestEnv::alone().await;
    let admin = testkit::free_addr();
    let process = start(&lone.env, &[("DEAD_LETTER_RUN_LIMIT", "3"), ("ADMIN_ADDR", &admin.to_string())]);
    let interest = Interest::new();
    let key = interest.id.to_string();
    testkit::wait_until_ready(admin).await;
    let before = lone.env.dead_letters().await.len();
    let bad: Vec<_> = (0..5).map(|_| raw(Some(&key), Some(b"not a reading"))).collect();
    lone.env.send(&bad).await;
    lone.env.send(&[interest.reading(1, 11)]).await;
    let paused = async || testkit::readyz(admin).await.contains("flightbell dlq reset");
    testkit::wait_for("the partition to be paused", PATIENCE, paused).await;
    // What came in the same batch behind the bad ones may be told already; it is told once all the same.
    lone.env.dlq().reset().await.expect("sent");
    lone.env.settled().await;
    assert_eq!(lone.env.kinds_of(&interest).await, ["high"]);
    assert_eq!(lone.env.dead_letters().await.len() - before, 5 + 1, "the letters and the reset");
    process.stop().await;
}

#[tokio::test]
async fn messages_of_a_type_that_is_not_known_are_skipped_and_those_without_one_are_judged_by_their_shape() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let interest = Interest::new();
    let typed = |ce_type: &str, sent: Sent| Sent { headers: vec![(headers::TYPE, ce_type.to_owned())], ..sent };
    let id = interest.id.to_string();
    env.send(&[interest.reading(1, 5)]).await;
    env.send(&[
        typed("flightbell.reading.v2", interest.reading(2, 99)),
        typed("flightbell.other.v1", raw(Some(&id), Some(b"not JSON"))),
        typed("flightbell.removal.v1", raw(Some(&id), None)),
        Sent { headers: Vec::new(), ..interest.reading(3, 11) },
        changed(&interest, "metric", &json!("cargo")),
    ])
    .await;
    env.settled().await;
    assert_eq!(env.kinds_of(&interest).await, ["high"]);
    assert!(worker.metric("consumer_records_settled_total", "outcome=\"skipped\"") == 3.0);
    assert!(env.dead_letters().await.is_empty());
    worker.stop().await;
}

/// The value with which the worker rejected the only dead letter, mended, as its group retries it.
async fn retry_mended(env: &TestEnv, worker: &Worker, mended: Sent) {
    let rejected = async || worker.metric("consumer_records_settled_total", "outcome=\"dead_lettered\"") > 0.5;
    testkit::wait_for("the reject", PATIENCE, rejected).await;
    let letter = env.dead_letters().await.remove(0);
    let headers = letter.headers_as_text();
    let place = [headers::DLQ_TOPIC, headers::DLQ_PARTITION, headers::DLQ_OFFSET, headers::DLQ_REASON];
    let place = place.map(|name| (name, headers[name].clone()));
    let mended = Sent { headers: mended.headers.into_iter().chain(place).collect(), ..mended };
    env.retry(&mended).await;
}

#[tokio::test]
async fn a_replayed_message_of_the_legacy_format_does_not_win_over_a_newer_one() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let email = Interest::new().email;
    let broken = format!(
        r#"{{"user_email":"{email}","airport_code":"LFPG","flight_count":"99","high_value":10,"low_value":2}}"#
    );
    env.send(&[legacy(&email, "LFPG", 5), raw(Some(&email), Some(broken.as_bytes())), legacy(&email, "LFPG", 6)]).await;
    env.settled().await;
    retry_mended(&env, &worker, legacy(&email, "LFPG", 99)).await;
    let stale = async || worker.metric("consumer_records_settled_total", "outcome=\"stale\"") > 0.5;
    testkit::wait_for("the retry to be stale", PATIENCE, stale).await;
    assert!(env.ledger().await.is_empty());
    // Without its place it has no order.
    env.retry(&legacy(&email, "LFPG", 98)).await;
    let rejected = async || worker.metric("consumer_records_settled_total", "outcome=\"dead_lettered\"") > 1.5;
    testkit::wait_for("the other to be rejected", PATIENCE, rejected).await;
    env.send(&[legacy(&email, "LFPG", 11)]).await;
    env.settled().await;
    assert_eq!(env.ledger().await.len(), 1);
    worker.stop().await;
}

#[tokio::test]
async fn a_replayed_reading_meets_what_its_partitions_owner_remembers() {
    let env = TestEnv::new().await;
    let (first, second) = (env.start().await, env.start().await);
    let interest = Interest::new();
    env.send(&[interest.reading(1, 5)]).await;
    env.send(&[changed(&interest, "flight_count", &json!(-1))]).await;
    // Quiet, so that no row shows it: only the owner's memory does.
    env.send(&[interest.reading(3, 6)]).await;
    env.settled().await;
    let count = |outcome| [&first, &second].map(|worker| worker.metric("consumer_records_settled_total", outcome));
    let owner = if count("outcome=\"dead_lettered\"")[0] > 0.5 { &first } else { &second };
    retry_mended(&env, owner, interest.reading(2, 99)).await;
    let stale = async || owner.metric("consumer_records_settled_total", "outcome=\"stale\"") > 0.5;
    testkit::wait_for("the retry to be stale with the owner", PATIENCE, stale).await;
    assert!(env.kinds_of(&interest).await.is_empty());
    first.stop().await;
    second.stop().await;
}
