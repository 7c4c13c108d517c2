//! What cannot be read, and what comes again.

use std::sync::Arc;

use events::{headers, topics::TO_NOTIFIER};
use kafka::{Handler, Offset, Partition, Record, Settled, Source};
use notifier::{consumer::AlertConsumer, store::Store};
use tokio::sync::Notify;

use crate::test_env::{PATIENCE, Raw, TestEnv, alert};

#[tokio::test]
async fn what_cannot_be_read_becomes_a_dead_letter_and_stops_nobody() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let person = env.person();
    let incomplete = br#"{"user_email":"ada@example.org","airport_code":"LFPG"}"#;
    let nobody = br#"{"user_email":"nobody","airport_code":"LFPG","condition":"x"}"#;
    let key = Some(person.email.as_str());
    let bad: [Raw<'_>; 6] = [
        (None, None, &[]),
        (None, Some(b""), &[]),
        (key, None, &[]),
        (key, Some(b"not JSON \xff"), &[]),
        (key, Some(incomplete), &[]),
        (key, Some(nobody), &[]),
    ];
    env.send_raw(&bad).await;
    let good = env.tell(&person, &["Good."]).await[0];
    env.wait_for_status(good, "sent").await;
    let rejected = async || worker.metric("consumer_records_settled_total", "outcome=\"dead_lettered\"") > 5.9;
    testkit::wait_for("six dead letters", PATIENCE, rejected).await;
    assert_eq!(env.telegram.sent().len(), 1);
    worker.stop().await;
}

#[tokio::test]
async fn a_batch_that_comes_twice_is_written_once_without_an_id_of_its_own_too() {
    let env = TestEnv::new().await;
    let store = Store::new(env.database.pool.clone());
    let mut consumer = AlertConsumer::new(store, env.topics.topic(&TO_NOTIFIER), Arc::new(Notify::new()));
    let person = env.person();
    let full = serde_json::to_vec(&alert(&person, "Full.", chrono::Utc::now())).expect("JSON");
    let legacy = format!(r#"{{"user_email":"{}","airport_code":"LFPG","condition":"Bare."}}"#, person.email);
    let record = |offset, value: &[u8]| Record::new(Partition(1), Offset(offset)).with_value(value);
    let batch = [
        record(1, &full),
        record(2, legacy.as_bytes()),
        record(3, b"nonsense"),
        record(4, &full),
        record(5, legacy.as_bytes()),
    ];
    for _ in 0..2 {
        let settled = consumer.handle(&batch).await.expect("settled");
        assert_eq!(settled.len(), 5);
        assert!(matches!(settled[2], Settled::Rejected(_)));
        assert_eq!(env.count("pending").await, 3);
    }
}

#[tokio::test]
async fn a_batch_is_written_in_its_order() {
    let env = TestEnv::new().await;
    let mut consumer =
        AlertConsumer::new(Store::new(env.database.pool.clone()), "t".to_owned(), Arc::new(Notify::new()));
    let person = env.person();
    let batch: Vec<_> = (0..500)
        .map(|number| {
            let value = serde_json::to_vec(&alert(&person, &number.to_string(), chrono::Utc::now())).expect("JSON");
            Record::new(Partition(0), Offset(number)).with_value(value)
        })
        .collect();
    consumer.handle(&batch).await.expect("settled");
    let written: Vec<String> = sqlx::query_scalar("SELECT content->>'condition' FROM alerts ORDER BY position")
        .fetch_all(&env.database.pool)
        .await
        .expect("rows");
    assert_eq!(written, (0..500).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_the_ledger_cannot_hold_becomes_a_dead_letter_and_stops_nobody() {
    let env = TestEnv::new().await;
    // A rule of the database that no reader of messages knows.
    sqlx::query(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                   IF NEW.content->>'condition' = 'Bad.' THEN RAISE SQLSTATE '22008'; END IF; RETURN NEW; END $$",
    )
    .execute(&env.database.pool)
    .await
    .expect("a function");
    sqlx::query("CREATE TRIGGER refuse BEFORE INSERT ON alerts FOR EACH ROW EXECUTE FUNCTION refuse()")
        .execute(&env.database.pool)
        .await
        .expect("a trigger");
    let mut consumer =
        AlertConsumer::new(Store::new(env.database.pool.clone()), "t".to_owned(), Arc::new(Notify::new()));
    let person = env.person();
    let batch: Vec<_> = ["Good.", "Bad.", "Better."]
        .iter()
        .zip(0..)
        .map(|(condition, offset)| {
            let value = serde_json::to_vec(&alert(&person, condition, chrono::Utc::now())).expect("JSON");
            Record::new(Partition(0), Offset(offset)).with_value(value)
        })
        .collect();
    let settled = consumer.handle(&batch).await.expect("settled");
    let rejected: Vec<_> = settled.iter().map(|settled| matches!(settled, Settled::Rejected(_))).collect();
    assert_eq!(rejected, [false, true, false]);
    assert_eq!(env.count("pending").await, 2);
    let alone = consumer.handle(&batch[1..2]).await.expect("settled");
    assert!(matches!(alone[..], [Settled::Rejected(_)]));
}

#[tokio::test]
async fn a_type_that_is_not_known_is_skipped_and_a_metric_that_is_not_known_is_told() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let person = env.person();
    let full = |condition| serde_json::to_value(alert(&person, condition, chrono::Utc::now())).expect("JSON");
    let (future, other) = ([("ce_type", "flightbell.alert.v9")], [("ce_type", "flightbell.reading.v1")]);
    let mut cargo = full("The number of flights (3) exceeded the high threshold of 2.");
    (cargo["metric"], cargo["kind"]) = ("cargo".into(), "surge".into());
    let (fine, cargo) = (full("Fine.").to_string(), cargo.to_string());
    let key = Some(person.email.as_str());
    let records: [Raw<'_>; 4] = [
        (key, Some(fine.as_bytes()), &future),
        (key, Some(b"not JSON"), &other),
        (None, None, &future),
        (key, Some(cargo.as_bytes()), &[]),
    ];
    env.send_raw(&records).await;
    testkit::wait_for("the message", PATIENCE, async || env.telegram.sent().len() == 1).await;
    let counted = async || worker.metric("consumer_records_settled_total", "outcome=\"skipped\"") > 2.9;
    testkit::wait_for("three skipped", PATIENCE, counted).await;
    assert!(worker.metric("consumer_records_settled_total", "outcome=\"dead_lettered\"") < 0.1);
    worker.stop().await;
}

#[tokio::test]
async fn a_retried_message_without_an_id_of_its_own_has_that_of_its_first_place() {
    let env = TestEnv::new().await;
    let store = Store::new(env.database.pool.clone());
    let mut consumer = AlertConsumer::new(store, env.topics.topic(&TO_NOTIFIER), Arc::new(Notify::new()));
    let person = env.person();
    let legacy = format!(r#"{{"user_email":"{}","airport_code":"LFPG","condition":"Bare."}}"#, person.email);
    let first = Record::new(Partition(1), Offset(70)).with_value(legacy.as_bytes());
    let retried = Record::new(Partition(1), Offset(3))
        .from_source(Source::Retry)
        .with_value(legacy.as_bytes())
        .with_header(headers::DLQ_PARTITION, "1")
        .with_header(headers::DLQ_OFFSET, "70");
    for record in [first, retried] {
        consumer.handle(&[record]).await.expect("settled");
        assert_eq!(env.count("pending").await, 1);
    }
}
