use std::time::{Duration, Instant};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{Consumer as _, StreamConsumer},
};
use runtime::backoff::Backoff;

use super::{context::Context, poll_loop::PollLoop};
use crate::{
    core::{
        failure_action::{FailureAction, FailureKind, action_for},
        partition_buffers::Pause,
    },
    dead_letters,
    handler::{Failure, Handler, Reject, Settled},
    metrics::{DEAD_LETTERED, SKIPPED},
    names::Names,
    producer::OutgoingRecord,
    record::{Record, TopicPartition, by_topic_partition},
};

/// How long a partition is paused when nothing says how long the outage lasts.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));

impl<H: Handler + 'static> PollLoop<'_, H> {
    /// Sends the dead letters, moves the offsets, counts.
    pub(super) async fn settle(&mut self, mut batch: Vec<Record>, settled: &[Settled]) -> anyhow::Result<()> {
        let names = self.deps.names;
        let decision = self.deps.breaker.judge(settled);
        let settled = &settled[..decision.settled];
        if let Err(error) = self.deps.dead_letters.send_all(letters(&batch, settled, names)).await {
            let source = anyhow::Error::new(error).context(format!("send to {}", names.dead_letter_topic));
            return self.fail(batch, Failure::unavailable(source));
        }
        runtime::fault::point("kafka.settled-not-stored");
        let rest = batch.split_off(decision.settled);
        store(self.client, names, &batch);
        log_left_out(&batch, settled, names);
        self.deps.breaker.apply(&decision);
        self.count(&batch, settled);
        let now = Instant::now();
        let refused = rest.first().filter(|_| decision.opens).map(Record::topic_partition);
        self.buffers.requeue(rest);
        for (partition, _) in by_topic_partition(&batch) {
            if let Some(paused_for) = self.buffers.settled(partition, now) {
                self.deps.metrics.hold_seconds.inc_by(paused_for.as_secs_f64());
                tracing::info!("{} goes on after {:.1} s", named(names, partition), paused_for.as_secs_f64());
            }
        }
        if let Some(partition) = refused {
            self.buffers.pause(partition, Pause::UntilReset, now);
        }
        self.apply_flow();
        Ok(())
    }

    /// A batch of several partitions is tried again in parts. A partition that failed by itself is paused.
    pub(super) fn fail(&mut self, batch: Vec<Record>, failure: Failure) -> anyhow::Result<()> {
        let (kind, source) = match failure {
            Failure::Unavailable { retry_after, source } => (FailureKind::Unavailable { retry_after }, source),
            Failure::Broken(source) => (FailureKind::Broken, source),
        };
        let names = self.deps.names;
        let Some(partition) = batch.first().map(Record::topic_partition) else { return Ok(()) };
        let is_alone = batch.iter().all(|record| record.topic_partition() == partition);
        match action_for(kind, self.buffers.attempts(partition), &BACKOFF, rand::random()) {
            FailureAction::Stop => return Err(source),
            FailureAction::PauseFor(_) if !is_alone => {
                tracing::debug!("{}: retry a batch, one partition after the other: {source:#}", names.topic);
                self.buffers.requeue_isolated(batch);
            }
            FailureAction::PauseFor(wait) => {
                self.buffers.requeue(batch);
                let now = Instant::now();
                if self.buffers.pause(partition, Pause::Until(now + wait), now) {
                    tracing::warn!("{} is paused: {source:#}", named(names, partition));
                } else {
                    tracing::debug!("{} is still paused: {source:#}", named(names, partition));
                }
            }
        }
        self.apply_flow();
        Ok(())
    }

    fn count(&self, batch: &[Record], settled: &[Settled]) {
        let mut rest = settled;
        for (partition, part) in by_topic_partition(batch) {
            let (of_part, others) = rest.split_at(part.len().min(rest.len()));
            rest = others;
            let counters = self.deps.metrics.settled.of(partition.source);
            // Looking a counter up costs as much as handling a quiet record, so equal neighbours share it.
            for alike in of_part.chunk_by(|one, next| outcome(one) == outcome(next)) {
                let counter = counters.with_label_values(&[outcome(&alike[0])]);
                counter.inc_by(u64::try_from(alike.len()).unwrap_or(u64::MAX));
            }
        }
    }
}

fn outcome(settled: &Settled) -> &'static str {
    match settled {
        Settled::Done(outcome) => outcome,
        Settled::Skipped => SKIPPED,
        Settled::Rejected(_) => DEAD_LETTERED,
    }
}

fn named(names: &Names, partition: TopicPartition) -> String {
    format!("{} partition {}", names.topic(partition.source), partition.partition)
}

/// The one call that moves offsets: everything in `settled`, and what was before it, is settled.
fn store(client: &StreamConsumer<Context>, names: &Names, settled: &[Record]) {
    for (partition, part) in by_topic_partition(settled) {
        let Some(last) = part.last() else { continue };
        let mut offsets = TopicPartitionList::with_capacity(1);
        // This call wants the offset of the next record, unlike `store_offset`, which adds one by itself.
        let next = Offset::Offset(last.offset.0 + 1);
        let topic = names.topic(partition.source);
        let stored = offsets
            .add_partition_offset(topic, partition.partition.0, next)
            .and_then(|()| client.store_offsets(&offsets));
        if let Err(error) = stored {
            // The partition is no longer ours; its new owner settles these records again.
            tracing::debug!("store an offset of {}: {error}", named(names, partition));
        }
    }
}

fn rejects<'a>(batch: &'a [Record], settled: &'a [Settled]) -> impl Iterator<Item = (&'a Record, &'a Reject)> {
    batch.iter().zip(settled).filter_map(|(record, settled)| match settled {
        Settled::Rejected(reject) => Some((record, reject)),
        Settled::Done(_) | Settled::Skipped => None,
    })
}

fn letters<'a>(
    batch: &'a [Record],
    settled: &'a [Settled],
    names: &'a Names,
) -> impl Iterator<Item = OutgoingRecord<'a>> {
    rejects(batch, settled).map(move |(record, reject)| dead_letters::letter(record, names, reject))
}

/// Logs what was not processed.
fn log_left_out(batch: &[Record], settled: &[Settled], names: &Names) {
    for (record, reject) in rejects(batch, settled) {
        let (place, offset) = (named(names, record.topic_partition()), record.offset);
        tracing::debug!("{place} offset {offset} is a dead letter: {}", reject.reason);
    }
    if let Some((record, reject)) = rejects(batch, settled).next() {
        let (place, count, offset) =
            (named(names, record.topic_partition()), rejects(batch, settled).count(), record.offset);
        tracing::warn!("{place}: {count} dead letters, the first at offset {offset}: {}", reject.reason);
    }
    let skipped = settled.iter().filter(|settled| matches!(settled, Settled::Skipped)).count();
    if skipped > 0 {
        tracing::debug!("{}: skipped {skipped} records of types that this version does not know", names.topic);
    }
}
