use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use kafka::Record;

use crate::support::{By, Harness, Seen, accepting, away, done, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_goes_in_the_middle_of_a_pause_is_read_by_whoever_gets_it() {
    // A member learns of another with its next heartbeat.
    let harness = Harness::configured(2, |config| config.with("heartbeat.interval.ms", "300")).await;
    harness.produce(0..100).await;
    let (held, back, tried) = (Seen::default(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (is_back, trying) = (back.clone(), tried.clone());
    let holding = By {
        seen: held.clone(),
        decide: move |batch: &[Record]| {
            trying.store(true, Ordering::SeqCst);
            if is_back.load(Ordering::SeqCst) { Ok(done(batch)) } else { Err(away()) }
        },
    };
    let first = harness.start(holding);
    wait_for("the pause", || tried.load(Ordering::SeqCst)).await;
    let other = Seen::default();
    let second = harness.start(accepting(&other));
    wait_for("the handover", || held.revoked().len() == 1).await;
    wait_for("the other's records", || other.len() > 0).await;
    let gone = held.revoked()[0].0;
    wait_for("all of the partition", || {
        let offsets = other.of_partition(gone);
        offsets.len() >= usize::try_from(harness.count(&harness.topic)).expect("few") / 4
    })
    .await;
    assert_eq!(held.len(), 0, "nothing was handled while it was paused");
    back.store(true, Ordering::SeqCst);
    wait_for("everything", || held.len() + other.len() >= 100).await;
    assert!(held.of_partition(gone).is_empty(), "what went is dropped");
    let mut all = held.values();
    all.extend(other.values());
    all.sort_unstable();
    assert_eq!(all, (0..100).collect::<Vec<_>>());
    first.stop().await;
    second.stop().await;
    assert_eq!(harness.total_committed(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_come_and_go_lose_and_repeat_nothing_that_was_settled() {
    let harness = Harness::new(4).await;
    let seen = Seen::default();
    let first = harness.start(accepting(&seen));
    harness.produce(0..500).await;
    wait_for("the first part", || seen.len() >= 500).await;
    let second = harness.start(accepting(&seen));
    harness.produce(500..1000).await;
    wait_for("the second part", || seen.len() >= 1000).await;
    first.stop().await;
    harness.produce(1000..1500).await;
    wait_for("the third part", || seen.len() >= 1500).await;
    second.stop().await;
    assert_eq!(seen.values(), (0..1500).collect::<Vec<_>>());
    assert_eq!(harness.total_committed(), 1500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_was_paused_when_it_went_is_read_when_it_comes_back() {
    let harness = Harness::configured(2, |config| config.with("heartbeat.interval.ms", "300")).await;
    harness.produce(0..100).await;
    let (seen, back) = (Seen::default(), Arc::new(AtomicBool::new(false)));
    let is_back = back.clone();
    let holding = By {
        seen: seen.clone(),
        decide: move |batch: &[Record]| if is_back.load(Ordering::SeqCst) { Ok(done(batch)) } else { Err(away()) },
    };
    let first = harness.start(holding);
    wait_for("both to be paused", || first.metric("consumer_partitions_paused", &[]) > 1.5).await;
    let second = harness.start(accepting(&Seen::default()));
    wait_for("one to go", || seen.revoked().len() == 1).await;
    back.store(true, Ordering::SeqCst);
    wait_for("what stayed", || seen.len() > 0).await;
    let gone = seen.revoked()[0].0;
    second.stop().await;
    harness.produce(100..200).await;
    wait_for("what came back", || seen.of_partition(gone).last() == Some(&(end(&harness, gone) - 1))).await;
    first.stop().await;
    assert_eq!(harness.total_committed(), 200);
}

/// The offset after the last record of a partition.
fn end(harness: &Harness, partition: i32) -> i64 {
    harness.end_of(&harness.topic, partition)
}
