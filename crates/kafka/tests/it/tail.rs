use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use kafka::Tail;

use crate::support::{DEADLINE, Harness, Seen, accepting, value, wait_for};

async fn open(harness: &Harness, since: DateTime<Utc>) -> Tail {
    Tail::open(&harness.config, &harness.topic, &harness.group, since).await.expect("a tail")
}

/// The next values, in no order: each partition has its own.
async fn next(tail: &Tail, count: usize) -> BTreeSet<u32> {
    let reading = async {
        let mut values = BTreeSet::new();
        for _ in 0..count {
            values.insert(value(&tail.next().await).parse().expect("a number"));
        }
        values
    };
    tokio::time::timeout(DEADLINE, reading).await.expect("the records come")
}

#[tokio::test(flavor = "multi_thread")]
async fn every_tail_reads_all_partitions_from_its_moment_on_and_takes_nothing_from_the_group() {
    let harness = Harness::new(2).await;
    let begun = Utc::now();
    harness.produce(0..20).await;
    let written = Utc::now();
    // Kafka tells times apart by milliseconds.
    wait_for("the next millisecond", || Utc::now().timestamp_millis() > written.timestamp_millis() + 1).await;
    let (one, other, earlier) =
        (open(&harness, Utc::now()).await, open(&harness, Utc::now()).await, open(&harness, begun).await);
    harness.produce(20..40).await;
    assert_eq!(next(&one, 20).await, (20..40).collect());
    assert_eq!(next(&other, 20).await, (20..40).collect());
    assert_eq!(next(&earlier, 40).await, (0..40).collect());
    assert!(harness.committed().is_empty(), "a tail commits nothing");

    let seen = Seen::default();
    let member = harness.start(accepting(&seen));
    wait_for("the group's records", || seen.len() >= 40).await;
    member.stop().await;
    assert_eq!(seen.values(), (0..40).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_of_a_topic_that_is_not_there_is_an_error_that_names_it() {
    let harness = Harness::new(1).await;
    let topic = format!("{}-elsewhere", harness.topic);
    let error = Tail::open(&harness.config, &topic, &harness.group, Utc::now()).await.err().expect("no such topic");
    assert_eq!(format!("{error:#}"), format!("read {topic}: there is no such topic"));
}
