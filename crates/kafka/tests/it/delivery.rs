use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use anyhow::anyhow;
use kafka::{Failure, OutgoingRecord, Record};
use runtime::trace::RequestContext;

use crate::support::{By, Harness, Seen, accepting, done, value, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn records_come_in_order_and_once_and_their_offsets_are_committed_at_the_stop() {
    let harness = Harness::new(3).await;
    harness.produce(0..3000).await;
    let seen = Seen::default();
    let member = harness.start(accepting(&seen));
    wait_for("all records", || seen.len() >= 3000).await;
    let labels =
        [&format!("group=\"{}\"", harness.group), &format!("topic=\"{}\"", harness.topic), "outcome=\"handled\""];
    wait_for("the count", || member.metric("consumer_records_settled_total", &labels) > 2999.5).await;
    member.stop().await;
    assert_eq!(seen.values(), (0..3000).collect::<Vec<_>>());
    for partition in 0..3 {
        let offsets = seen.of_partition(partition);
        assert!(offsets.iter().copied().eq(0..i64::try_from(offsets.len()).expect("few")), "partition {partition}");
    }
    assert_eq!(harness.total_committed(), 3000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_settled_comes_again_and_what_was_settled_does_not() {
    let harness = Harness::new(1).await;
    harness.produce(0..10).await;
    let seen = Seen::default();
    let broken = By {
        seen: seen.clone(),
        decide: |batch: &[Record]| {
            if batch.iter().any(|record| value(record) == "12") {
                return Err(Failure::broken(anyhow!("no more paper")));
            }
            Ok(done(batch))
        },
    };
    let member = harness.start(broken);
    wait_for("the first ten", || seen.len() == 10).await;
    harness.produce(10..15).await;
    assert!(member.failure().await.contains("no more paper"));

    let after = Seen::default();
    let member = harness.start(accepting(&after));
    wait_for("the others", || !after.values().is_empty() && after.values().last() == Some(&14)).await;
    member.stop().await;
    let mut all = seen.values();
    all.extend(after.values());
    assert_eq!(all, (0..15).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_handler_never_came_back_is_redelivered_as_a_whole() {
    let harness = Harness::new(1).await;
    harness.produce(0..5).await;
    let begun = Arc::new(AtomicBool::new(false));
    let runtime = runtime::ServiceRuntime::new(
        "test",
        tokio_util::sync::CancellationToken::new(),
        runtime::clock::Clock::system(),
    );
    let subscription = kafka::Subscription::new(&harness.topic, &harness.group);
    let consumer =
        kafka::Consumer::new(&harness.config, subscription, &harness.producer, &runtime).expect("a consumer");
    let mut crashing = tokio::task::JoinSet::new();
    crashing.spawn(consumer.run(Stuck(begun.clone()), tokio_util::sync::CancellationToken::new()));
    wait_for("the batch", || begun.load(Ordering::SeqCst)).await;
    crashing.shutdown().await;

    let seen = Seen::default();
    let member = harness.start(accepting(&seen));
    wait_for("all of it", || seen.len() >= 5).await;
    member.stop().await;
    assert_eq!(seen.of_partition(0), [0, 1, 2, 3, 4]);
}

/// Dies in the middle of its first batch.
struct Stuck(Arc<AtomicBool>);

impl kafka::Handler for Stuck {
    async fn handle(&mut self, _: &[Record]) -> Result<Vec<kafka::Settled>, Failure> {
        self.0.store(true, Ordering::SeqCst);
        std::future::pending().await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_wrong_number_of_answers_stops_the_consumer_with_the_offset_unstored() {
    let harness = Harness::new(1).await;
    harness.produce(0..2).await;
    let member = harness.start(By { seen: Seen::default(), decide: |_: &[Record]| Ok(Vec::new()) });
    assert!(member.failure().await.contains("the handler gave 0 answers"));
    assert_eq!(harness.total_committed(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn tombstones_empty_records_and_headers_arrive_as_they_were_sent() {
    let harness = Harness::new(1).await;
    let context =
        RequestContext::carried(Some("req-7"), Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
    let to = || OutgoingRecord::to(&harness.topic);
    let sent = [
        to(),
        to().with_key(&b""[..]).with_value(&b""[..]),
        to().with_key(&b"gone"[..]),
        to().with_value(&b"\xff\x00"[..]),
        to().with_header("ce_type", "a")
            .with_header("ce_type", "b")
            .with_header("empty", "")
            .with_request_context(&context),
    ];
    // One after the other: messages without a key keep no order among each other.
    for message in sent {
        harness.producer.send(message).await.expect("kept");
    }
    let (records, seen) = (Arc::new(std::sync::Mutex::new(Vec::new())), Seen::default());
    let kept = records.clone();
    let keeping = By {
        seen: seen.clone(),
        decide: move |batch: &[Record]| {
            kept.lock().expect("lock").extend_from_slice(batch);
            Ok(done(batch))
        },
    };
    let member = harness.start(keeping);
    wait_for("all of them", || seen.len() >= 5).await;
    member.stop().await;
    let records = records.lock().expect("lock");
    let parts: Vec<_> = records.iter().map(|record| (record.key(), record.value())).collect();
    assert_eq!(
        parts,
        [
            (None, None),
            (Some(&b""[..]), Some(&b""[..])),
            (Some(&b"gone"[..]), None),
            (None, Some(&b"\xff\x00"[..])),
            (None, None)
        ]
    );
    assert_eq!(records[4].header_text("ce_type"), Some("a"));
    assert_eq!(records[4].headers().count(), 5);
    assert_eq!(records[4].header("empty"), Some(&b""[..]));
    assert_eq!(records[4].request_context(), context);
    assert!(records[0].sent_at().is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_is_told_while_records_wait() {
    let harness = Harness::configured(1, |config| config.with("statistics.interval.ms", "200")).await;
    harness.produce(0..7).await;
    let held = By { seen: Seen::default(), decide: |_: &[Record]| Err(crate::support::away()) };
    let member = harness.start(held);
    let labels = [&format!("group=\"{}\"", harness.group), &format!("topic=\"{}\"", harness.topic), "partition=\"0\""];
    wait_for("the lag", || (member.metric("consumer_lag", &labels) - 7.0).abs() < 0.1).await;
    member.stop().await;
}
