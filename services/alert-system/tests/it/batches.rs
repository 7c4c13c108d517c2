//! What the consume loop hands over at once.

use alert_system::{handler::AlertHandler, metrics::Metrics, store::LevelStore};
use kafka::{Handler, Offset, Partition, Producer, Profile, Record, Settled};
use prometheus::Registry;

use crate::test_env::{Interest, Sent, TestEnv, legacy};

fn handler(env: &TestEnv) -> AlertHandler {
    let producer = Producer::unwatched(&env.kafka, Profile::Latency).expect("a producer");
    let metrics = Metrics::register(&Registry::new()).expect("metrics");
    AlertHandler::new(LevelStore::new(env.database.pool.clone()), producer, metrics, &env.topics)
}

/// A message as it is read from there.
fn at(partition: i32, offset: i64, sent: &Sent) -> Record {
    let mut record = Record::new(Partition(partition), Offset(offset));
    if let Some(key) = &sent.key {
        record = record.with_key(key.as_bytes());
    }
    if let Some(value) = &sent.value {
        record = record.with_value(value.clone());
    }
    sent.headers.iter().fold(record, |record, (name, value)| record.with_header(*name, value.as_bytes()))
}

async fn outcomes(handler: &mut AlertHandler, batch: &[Record]) -> Vec<&'static str> {
    let settled = handler.handle(batch).await.expect("settled");
    let outcome = |settled| match settled {
        Settled::Done(outcome) => outcome,
        Settled::Skipped => "skipped",
        Settled::Rejected(_) => "rejected",
    };
    settled.into_iter().map(outcome).collect()
}

#[tokio::test]
async fn interests_of_several_partitions_are_settled_together_and_remembered_by_partition() {
    let env = TestEnv::new().await;
    let mut handler = handler(&env);
    let (one, other) = (Interest::new(), Interest::new());
    let batch = [at(2, 0, &one.reading(1, 11)), at(2, 1, &one.reading(2, 5)), at(0, 0, &other.reading(1, 1))];
    assert_eq!(outcomes(&mut handler, &batch).await, ["alerted", "alerted", "alerted"]);
    assert_eq!(env.kinds_of(&one).await, ["high", "recovered"]);
    assert_eq!(env.kinds_of(&other).await, ["low"]);
    // Another owner goes on with what one partition is about, and gives it back.
    handler.partition_revoked(Partition(0));
    sqlx::query("UPDATE levels SET level = 'normal', seq = 5 WHERE interest_id = $1")
        .bind(other.id)
        .execute(&env.database.pool)
        .await
        .expect("a row");
    let later = [at(0, 1, &other.reading(6, 1)), at(2, 2, &one.reading(3, 11))];
    assert_eq!(outcomes(&mut handler, &later).await, ["alerted", "alerted"]);
    assert_eq!(outcomes(&mut handler, &later).await, ["stale", "stale"], "whatever comes again is known");
}

#[tokio::test]
async fn messages_of_the_legacy_format_are_heard_from_every_partition_of_a_batch() {
    let env = TestEnv::new().await;
    let mut handler = handler(&env);
    let message = |partition, offset, count| at(partition, offset, &legacy("ada@example.org", "LICC", count));
    let batch = [message(2, 7, 11), message(0, 3, 5), message(0, 4, 12), message(1, 0, 5)];
    assert_eq!(outcomes(&mut handler, &batch).await, ["alerted"; 4]);
    assert_eq!(outcomes(&mut handler, &batch).await, ["stale"; 4]);
    let kinds: Vec<_> = env.sent_alerts().await.into_iter().map(|sent_alerts| sent_alerts.kind).collect();
    assert_eq!(kinds, ["high", "recovered", "high", "recovered"]);
}
