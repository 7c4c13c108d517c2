use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use kafka::{Partition, Record};

use crate::support::{By, Harness, Seen, away, done, wait_for};

/// Sessions and polls short enough for a test.
fn impatient(config: kafka::KafkaConfig) -> kafka::KafkaConfig {
    config.with("session.timeout.ms", "2000").with("heartbeat.interval.ms", "500").with("max.poll.interval.ms", "2000")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_longer_than_the_longest_poll_keeps_the_group_and_the_order() {
    let harness = Harness::configured(1, impatient).await;
    harness.produce(0..5).await;
    let (seen, attempts) = (Seen::default(), Arc::new(AtomicU32::new(0)));
    let (counted, begun) = (attempts.clone(), Instant::now());
    let holding = By {
        seen: seen.clone(),
        decide: move |batch: &[Record]| {
            counted.fetch_add(1, Ordering::SeqCst);
            if begun.elapsed() < Duration::from_secs(7) { Err(away()) } else { Ok(done(batch)) }
        },
    };
    let member = harness.start(holding);
    wait_for("the first attempt", || attempts.load(Ordering::SeqCst) > 0).await;
    assert!(member.metrics().contains("consumer_partitions_paused{"));
    harness.produce(5..9).await;
    wait_for("everything", || seen.len() >= 9).await;
    assert_eq!(seen.revoked(), [], "the group was kept");
    assert!(attempts.load(Ordering::SeqCst) > 10, "it was tried again and again");
    assert_eq!(seen.of_partition(0), (0..9).collect::<Vec<_>>());
    member.stop().await;
    assert_eq!(harness.total_committed(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_other_partitions_go_on_while_one_is_paused() {
    let harness = Harness::new(2).await;
    harness.produce(0..100).await;
    let (seen, back) = (Seen::default(), Arc::new(AtomicBool::new(false)));
    let is_back = back.clone();
    let holding = By {
        seen: seen.clone(),
        decide: move |batch: &[Record]| {
            let is_first = batch.iter().any(|record| record.partition == Partition(0));
            if is_first && !is_back.load(Ordering::SeqCst) { Err(away()) } else { Ok(done(batch)) }
        },
    };
    let member = harness.start(holding);
    let others = usize::try_from(harness.count(&harness.topic)).expect("few");
    assert_eq!(others, 100);
    wait_for("the other partition", || !seen.of_partition(1).is_empty()).await;
    harness.produce(100..200).await;
    wait_for("more of the other partition", || seen.of_partition(1).last().is_some_and(|last| *last > 70)).await;
    assert!(seen.of_partition(0).is_empty(), "nothing of the paused one");
    back.store(true, Ordering::SeqCst);
    wait_for("everything", || seen.len() >= 200).await;
    assert_eq!(seen.values(), (0..200).collect::<Vec<_>>());
    member.stop().await;
    assert_eq!(harness.total_committed(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_the_middle_of_a_pause_is_prompt_and_loses_nothing() {
    let harness = Harness::new(1).await;
    harness.produce(0..3).await;
    let (seen, tried) = (Seen::default(), Arc::new(AtomicBool::new(false)));
    let trying = tried.clone();
    let holding = By {
        seen: seen.clone(),
        decide: move |_: &[Record]| {
            trying.store(true, Ordering::SeqCst);
            let source = anyhow::anyhow!("away for long");
            Err(kafka::Failure::Unavailable { retry_after: Some(Duration::from_secs(60)), source })
        },
    };
    let member = harness.start(holding);
    wait_for("the pause", || tried.load(Ordering::SeqCst)).await;
    let stopping = Instant::now();
    member.stop().await;
    assert!(stopping.elapsed() < Duration::from_secs(5), "{:?}", stopping.elapsed());
    assert_eq!(harness.total_committed(), 0);
    let member = harness.start(crate::support::accepting(&seen));
    wait_for("all of it", || seen.len() >= 3).await;
    member.stop().await;
}
