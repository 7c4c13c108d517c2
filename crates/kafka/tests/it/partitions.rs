use std::{
    sync::{Arc, atomic::AtomicBool, atomic::Ordering},
    time::Duration,
};

use kafka::{BatchLimits, Failure, Handler, KafkaConfig, Partition, Record, Settled};

use crate::support::{Harness, Seen, away, done, wait_for};

const SMALL: BatchLimits = BatchLimits { records: 10, bytes: 100_000, time: Duration::from_secs(60) };

/// A handler of one partition, which may be slow.
struct OnePartition {
    seen: Seen,
    is_slow: Arc<AtomicBool>,
    slow: Partition,
}

impl Handler for OnePartition {
    async fn handle(&mut self, batch: &[Record]) -> Result<Vec<Settled>, Failure> {
        assert!(batch.len() <= SMALL.records && batch.iter().all(|record| record.partition == batch[0].partition));
        while batch[0].partition == self.slow && self.is_slow.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.seen.note(batch);
        Ok(done(batch))
    }
}

fn impatient(config: KafkaConfig) -> KafkaConfig {
    let config = config.with("session.timeout.ms", "2000").with("heartbeat.interval.ms", "300");
    config.with("max.poll.interval.ms", "2000")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_partition_delays_neither_the_others_nor_the_polling() {
    let harness = Harness::configured(2, impatient).await;
    let (seen, is_slow) = (Seen::default(), Arc::new(AtomicBool::new(true)));
    let (noted, slowness) = (seen.clone(), is_slow.clone());
    let member = harness.start_per_partition(SMALL, move |_| OnePartition {
        seen: noted.clone(),
        is_slow: slowness.clone(),
        slow: Partition(0),
    });
    harness.produce(0..1000).await;
    let others = |harness: &Harness| harness.committed().get(&1).copied().unwrap_or_default();
    wait_for("the other partition", || seen.of_partition(1).len() > 300).await;
    let since = std::time::Instant::now();
    // Longer than Kafka lets a member go without polling.
    wait_for("longer than a poll may take", || since.elapsed() > Duration::from_secs(4)).await;
    harness.produce(1000..1100).await;
    wait_for("more of the other partition", || others(&harness) > 350).await;
    assert!(seen.of_partition(0).is_empty() && !harness.committed().contains_key(&0), "not settled, so not committed");
    is_slow.store(false, Ordering::SeqCst);
    wait_for("everything", || seen.len() >= 1100).await;
    for partition in 0..2 {
        let offsets = seen.of_partition(partition);
        assert!(offsets.iter().copied().eq(0..i64::try_from(offsets.len()).expect("few")), "each once and in order");
    }
    member.stop().await;
    assert_eq!(harness.total_committed(), 1100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_whose_partition_went_meanwhile_is_left_to_its_new_owner() {
    let harness = Harness::configured(2, |config| config.with("heartbeat.interval.ms", "300")).await;
    let (seen, is_slow) = (Seen::default(), Arc::new(AtomicBool::new(true)));
    let start = |seen: &Seen, slow: &Arc<AtomicBool>, which| {
        let (seen, is_slow) = (seen.clone(), slow.clone());
        harness.start_per_partition(SMALL, move |partition| OnePartition {
            seen: seen.clone(),
            is_slow: is_slow.clone(),
            slow: if which { partition } else { Partition(-1) },
        })
    };
    harness.produce(0..100).await;
    let first = start(&seen, &is_slow, true);
    let other = Seen::default();
    let second = start(&other, &is_slow, false);
    wait_for("the other member", || other.len() > 30).await;
    is_slow.store(false, Ordering::SeqCst);
    let both = || {
        let mut values = seen.values();
        values.extend(other.values());
        values.sort_unstable();
        values.dedup();
        values.len()
    };
    wait_for("everything", || both() == 100).await;
    first.stop().await;
    second.stop().await;
    assert_eq!(harness.total_committed(), 100);
}

/// Fails at first.
struct Failing(Seen, u32);

impl Handler for Failing {
    async fn handle(&mut self, batch: &[Record]) -> Result<Vec<Settled>, Failure> {
        self.1 += 1;
        if !self.1.is_multiple_of(3) {
            return Err(away());
        }
        self.0.note(batch);
        Ok(done(batch))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_partition_is_tried_again_by_itself_and_a_stop_waits_for_what_is_in_flight() {
    let harness = Harness::new(3).await;
    harness.produce(0..200).await;
    let seen = Seen::default();
    let noted = seen.clone();
    let member = harness.start_per_partition(SMALL, move |_| Failing(noted.clone(), 0));
    wait_for("everything", || seen.len() >= 200).await;
    member.stop().await;
    assert_eq!(seen.values(), (0..200).collect::<Vec<_>>());
    assert_eq!(harness.total_committed(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_never_ends_is_given_up_and_tried_again() {
    let harness = Harness::new(1).await;
    harness.produce(0..5).await;
    let (seen, is_slow) = (Seen::default(), Arc::new(AtomicBool::new(true)));
    let (noted, slowness) = (seen.clone(), is_slow.clone());
    let member = harness.start_with(
        |subscription| subscription.with_batch(BatchLimits { time: Duration::from_millis(300), ..SMALL }),
        |consumer, runtime| {
            consumer.spawn(OnePartition { seen: noted, is_slow: slowness, slow: Partition(0) }, runtime);
        },
    );
    wait_for("the pause", || member.metric("consumer_partitions_paused", &[]) > 0.5).await;
    is_slow.store(false, Ordering::SeqCst);
    wait_for("everything", || seen.len() >= 5).await;
    member.stop().await;
    assert_eq!(harness.total_committed(), 5);
}
