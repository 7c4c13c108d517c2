//! What cannot be processed is kept with its reason, and the rest goes on.

use std::collections::BTreeMap;

use contracts::headers;
use serde_json::{Value, json};

use crate::{
    processes::start,
    world::{Interest, PATIENCE, Sent, World},
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
    let world = World::new().await;
    let worker = world.start().await;
    let interest = Interest::new();
    let id = interest.id.to_string();
    let future = Sent { headers: vec![(headers::TYPE, "flightbell.reading.v2".to_owned())], ..interest.reading(2, 99) };
    let bad = [
        (raw(None, None), "it has neither key nor value"),
        (raw(Some("ada"), None), "its key is no UUID"),
        (raw(Some(&id), Some(b"hello")), "it is not a JSON object"),
        (raw(Some(&id), Some(b"{\"user_email\":")), "it is not JSON"),
        (raw(Some(&id), Some(b"")), "it is not a JSON object"),
        (raw(Some(&id), Some(b"{}")), "missing field"),
        (raw(Some("other"), interest.reading(2, 99).value.as_deref()), "its key is not interest_id"),
        (future, "its ce_type is flightbell.reading.v2, which this version does not know"),
        (changed(&interest, "flight_count", &json!(-1)), "flight_count must not be negative"),
        (changed(&interest, "flight_count", &json!(1e30)), "it is not a reading"),
        (changed(&interest, "low_value", &json!(10)), "high_value must be greater than low_value"),
        (changed(&interest, "reading", &json!(null)), "it is not a reading"),
        (changed(&interest, "user_email", &json!("ada")), "user_email must be an e-mail address"),
    ];
    let mut expected: BTreeMap<Option<Vec<u8>>, Vec<&str>> = BTreeMap::new();
    world.send(&[interest.reading(1, 5)]).await;
    for (sent, reason) in &bad {
        expected.entry(sent.value.clone()).or_default().push(reason);
        world.send(std::slice::from_ref(sent)).await;
    }
    world.send(&[interest.reading(3, 11)]).await;
    world.settled().await;
    assert_eq!(world.told_of(&interest).await, ["high"]);
    let letters = world.dead_letters().await;
    assert_eq!(letters.len(), bad.len());
    for letter in &letters {
        let named = letter.headers_as_text();
        let said = &named[headers::DLQ_REASON];
        let reasons = &expected[&letter.value];
        assert!(reasons.iter().any(|reason| said.contains(reason)), "{said} is none of {reasons:?}");
        assert_eq!(named[headers::DLQ_TOPIC], world.topics.to_alert_system());
        assert!(!said.contains(&interest.email), "{said}");
    }
    worker.stop().await;
}

#[tokio::test]
async fn too_many_bad_messages_in_a_row_are_held_until_somebody_accepts_them() {
    let lone = World::alone().await;
    let admin = testkit::free_addr();
    let process = start(&lone.world, &[("DEAD_LETTER_RUN_LIMIT", "3"), ("ADMIN_ADDR", &admin.to_string())]);
    let interest = Interest::new();
    let key = interest.id.to_string();
    testkit::wait_until_ready(admin).await;
    let before = lone.world.dead_letters().await.len();
    let bad: Vec<_> = (0..5).map(|_| raw(Some(&key), Some(b"not a reading"))).collect();
    lone.world.send(&bad).await;
    lone.world.send(&[interest.reading(1, 11)]).await;
    let held = async || testkit::readyz(admin).await.contains("flightbell dlq accept");
    testkit::wait_for("the partition to be held", PATIENCE, held).await;
    // What came in the same batch behind the bad ones may be told already; it is told once all the same.
    let accept = format!("http://{admin}/operator/accept-dead-letters");
    let answer = testkit::http_client().post(accept).send().await.expect("an answer").text().await.expect("text");
    assert!(answer.contains("accepted again"), "{answer}");
    lone.world.settled().await;
    assert_eq!(lone.world.told_of(&interest).await, ["high"]);
    assert_eq!(lone.world.dead_letters().await.len() - before, 5);
    process.stop().await;
}
