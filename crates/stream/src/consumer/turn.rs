use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use contracts::topics::dead_letters_of;
use futures::{FutureExt, StreamExt};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{Consumer as _, MessageStream, StreamConsumer},
    error::{KafkaError, KafkaResult},
    message::BorrowedMessage,
};
use tokio_util::sync::CancellationToken;

use super::context::{Context, Rebalanced};
use crate::{
    core::{
        backlog::{Backlog, Hold, Limits},
        backoff::Backoff,
        step::{Step, Trouble, next_step},
    },
    dead_letters,
    gate::DeadLetterGate,
    handler::{Failure, Handler, Settled},
    metrics::{ConsumerMetrics, DEAD_LETTERED},
    producer::Producer,
    record::{Partition, Record, by_partition},
};

/// How much is read ahead and handed over at once.
const LIMITS: Limits = Limits { waiting_records: 2000, waiting_bytes: 1024 * 1024, batch_records: 1000 };

/// How long a partition is held when nobody knows how long the trouble lasts.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));

/// How long Kafka may take to answer before it counts as away.
const PROBE_LIMIT: Duration = Duration::from_millis(1500);

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was asked to.
    Stopped,
    /// Kafka answers others, and the client does not get back into its group.
    Lost,
}

/// The loop's state between two turns.
pub(super) struct Loop<'c, H> {
    client: &'c StreamConsumer<Context>,
    messages: MessageStream<'c, Context>,
    topic: &'c str,
    dead_letter_topic: String,
    handler: &'c mut H,
    backlog: Backlog,
    dead_letters: &'c Producer,
    gate: &'c DeadLetterGate,
    metrics: &'c ConsumerMetrics,
}

impl<'c, H: Handler> Loop<'c, H> {
    pub(super) fn new(
        client: &'c StreamConsumer<Context>,
        topic: &'c str,
        handler: &'c mut H,
        dead_letters: &'c Producer,
        gate: &'c DeadLetterGate,
        metrics: &'c ConsumerMetrics,
    ) -> Self {
        let (messages, dead_letter_topic) = (client.stream(), dead_letters_of(topic));
        let backlog = Backlog::new(LIMITS);
        Self { client, messages, topic, dead_letter_topic, handler, backlog, dead_letters, gate, metrics }
    }

    /// Turns until `stopping`, or until the client has lost its way.
    pub(super) async fn run(mut self, stopping: &CancellationToken) -> anyhow::Result<End> {
        while !stopping.is_cancelled() {
            self.take_over_changes();
            if self.client.context().take_overdue() && self.dead_letters.probe(self.topic, PROBE_LIMIT).await.is_ok() {
                self.give_all_up();
                return Ok(End::Lost);
            }
            self.read_ahead()?;
            let batch = self.backlog.take(Instant::now());
            if batch.is_empty() {
                self.wait(stopping).await?;
            } else {
                self.work(batch).await?;
            }
        }
        Ok(End::Stopped)
    }

    /// Drops what is left of the partitions that the client had.
    fn give_all_up(&mut self) {
        for partition in self.backlog.give_all_up() {
            self.handler.partition_revoked(partition);
        }
        self.count_held();
    }

    /// Waits until something happens: the end, a rebalance, an acceptance, the end of a hold, a record.
    async fn wait(&mut self, stopping: &CancellationToken) -> anyhow::Result<()> {
        let wake = self.backlog.next_wake();
        let hold_ends = async {
            match wake {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        let read = tokio::select! {
            biased;
            () = stopping.cancelled() => return Ok(()),
            () = self.client.context().rebalanced() => return Ok(()),
            () = self.gate.changed() => return Ok(()),
            () = hold_ends => return Ok(()),
            read = self.messages.next() => read,
        };
        self.take(read)
    }

    /// Takes what the client has already.
    fn read_ahead(&mut self) -> anyhow::Result<()> {
        while self.backlog.has_room() {
            let Some(read) = self.messages.next().now_or_never() else { break };
            self.take(read)?;
        }
        Ok(())
    }

    fn take(&mut self, read: Option<KafkaResult<BorrowedMessage<'_>>>) -> anyhow::Result<()> {
        // A record that follows a rebalance belongs to the assignment after it.
        self.take_over_changes();
        match read {
            Some(Ok(message)) => self.backlog.push(Record::copied_from(&message)),
            Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => return Err(error).context("read"),
            Some(Err(error)) => self.client.context().trouble(&error.to_string()),
            None => {}
        }
        Ok(())
    }

    fn take_over_changes(&mut self) {
        for change in self.client.context().take_rebalances() {
            match change {
                Rebalanced::Assigned(partitions) => {
                    tracing::info!("{}: {} partitions came", self.topic, partitions.len());
                    partitions.into_iter().for_each(|partition| self.backlog.assign(partition));
                }
                Rebalanced::Revoked(partitions) => {
                    tracing::info!("{}: {} partitions went", self.topic, partitions.len());
                    for partition in partitions {
                        if self.backlog.revoke(partition) {
                            self.handler.partition_revoked(partition);
                        }
                    }
                }
            }
            self.count_held();
        }
        if self.gate.take_accepted() {
            self.backlog.accept(Instant::now());
        }
    }

    /// Hands a batch to the handler and does what it says.
    async fn work(&mut self, batch: Vec<Record>) -> anyhow::Result<()> {
        let begun = Instant::now();
        let answer = self.handler.handle(&batch).await;
        self.metrics.handle_seconds.observe(begun.elapsed().as_secs_f64());
        match answer {
            Ok(settled) if settled.len() == batch.len() => self.settle(batch, &settled).await?,
            Ok(settled) => {
                let (records, answers) = (batch.len(), settled.len());
                return Err(anyhow!("the handler gave {answers} answers to {records} records"));
            }
            Err(failure) => self.fail(batch, failure)?,
        }
        // A handler that never waits must not keep other tasks from their turn.
        tokio::task::yield_now().await;
        Ok(())
    }

    /// Sends the dead letters, moves the offsets, counts.
    async fn settle(&mut self, mut batch: Vec<Record>, settled: &[Settled]) -> anyhow::Result<()> {
        let verdict = self.gate.judge(settled);
        let settled = &settled[..verdict.settled];
        if let Err(error) =
            self.dead_letters.send_all(letters(&batch, settled, self.topic, &self.dead_letter_topic)).await
        {
            let source = anyhow::Error::new(error).context(format!("send to {}", self.dead_letter_topic));
            return self.fail(batch, Failure::unavailable(source));
        }
        shell::fault::point("stream.settled-not-stored");
        let rest = batch.split_off(verdict.settled);
        store(self.client, self.topic, &batch);
        log_rejects(&batch, settled, self.topic);
        self.gate.apply(&verdict);
        self.count(settled);
        let now = Instant::now();
        let refused = rest.first().filter(|_| verdict.closes).map(|record| record.partition);
        self.backlog.give_back(rest);
        for (partition, _) in by_partition(&batch) {
            if let Some(held) = self.backlog.settled(partition, now) {
                self.metrics.hold_seconds.inc_by(held.as_secs_f64());
                tracing::info!("{} partition {partition} goes on after {:.1} s", self.topic, held.as_secs_f64());
                self.release(partition);
            }
        }
        if let Some(partition) = refused {
            self.hold(partition, Hold::UntilAccepted, now);
        }
        Ok(())
    }

    /// A batch of several partitions is tried again in parts. A partition that failed by itself is held.
    fn fail(&mut self, batch: Vec<Record>, failure: Failure) -> anyhow::Result<()> {
        let (trouble, source) = match failure {
            Failure::Unavailable { retry_after, source } => (Trouble::Unavailable { retry_after }, source),
            Failure::Broken(source) => (Trouble::Broken, source),
        };
        let Some(partition) = batch.first().map(|record| record.partition) else { return Ok(()) };
        let is_alone = batch.iter().all(|record| record.partition == partition);
        match next_step(trouble, self.backlog.attempts(partition), &BACKOFF, rand::random()) {
            Step::Stop => return Err(source),
            Step::Hold(_) if !is_alone => {
                tracing::debug!("{}: a batch is tried again, one partition after the other: {source:#}", self.topic);
                self.backlog.give_back_apart(batch);
            }
            Step::Hold(wait) => {
                self.backlog.give_back(batch);
                let now = Instant::now();
                if self.hold(partition, Hold::Until(now + wait), now) {
                    tracing::warn!("{} partition {partition} is held: {source:#}", self.topic);
                } else {
                    tracing::debug!("{} partition {partition} is still held: {source:#}", self.topic);
                }
            }
        }
        Ok(())
    }

    /// Answers whether the partition was not held before.
    fn hold(&mut self, partition: Partition, hold: Hold, now: Instant) -> bool {
        let is_new = self.backlog.hold(partition, hold, now);
        if is_new && let Err(error) = self.client.pause(&one(self.topic, partition)) {
            // What still arrives is appended, so a pause that fails costs memory, not order.
            tracing::debug!("pause partition {partition}: {error}");
        }
        self.count_held();
        is_new
    }

    fn release(&self, partition: Partition) {
        if let Err(error) = self.client.resume(&one(self.topic, partition)) {
            tracing::debug!("resume partition {partition}: {error}");
        }
        self.count_held();
    }

    fn count(&self, settled: &[Settled]) {
        // Looking a counter up costs as much as handling a quiet record, so equal neighbours share it.
        for alike in settled.chunk_by(|one, next| outcome(one) == outcome(next)) {
            let counter = self.metrics.settled.with_label_values(&[self.topic, outcome(&alike[0])]);
            counter.inc_by(u64::try_from(alike.len()).unwrap_or(u64::MAX));
        }
    }

    fn count_held(&self) {
        self.metrics.held.set(i64::try_from(self.backlog.held()).unwrap_or(i64::MAX));
    }
}

fn outcome(settled: &Settled) -> &'static str {
    match settled {
        Settled::Done(outcome) => outcome,
        Settled::Rejected(_) => DEAD_LETTERED,
    }
}

/// The one call that moves offsets: everything in `settled`, and what was before it, is settled.
fn store(client: &StreamConsumer<Context>, topic: &str, settled: &[Record]) {
    for (partition, part) in by_partition(settled) {
        let Some(last) = part.last() else { continue };
        let mut offsets = TopicPartitionList::with_capacity(1);
        // This call wants the offset of the next record, unlike `store_offset`, which adds one by itself.
        let next = Offset::Offset(last.offset.0 + 1);
        let stored =
            offsets.add_partition_offset(topic, partition.0, next).and_then(|()| client.store_offsets(&offsets));
        if let Err(error) = stored {
            // The partition is no longer ours; whoever has it settles these records again.
            tracing::debug!("store an offset of {topic} partition {partition}: {error}");
        }
    }
}

fn one(topic: &str, partition: Partition) -> TopicPartitionList {
    let mut list = TopicPartitionList::with_capacity(1);
    list.add_partition(topic, partition.0);
    list
}

fn rejects<'a>(
    batch: &'a [Record],
    settled: &'a [Settled],
) -> impl Iterator<Item = (&'a Record, &'a crate::handler::Reject)> {
    batch.iter().zip(settled).filter_map(|(record, settled)| match settled {
        Settled::Rejected(reject) => Some((record, reject)),
        Settled::Done(_) => None,
    })
}

fn letters<'a>(
    batch: &'a [Record],
    settled: &'a [Settled],
    topic: &'a str,
    dead_letter_topic: &'a str,
) -> impl Iterator<Item = crate::producer::Outgoing<'a>> {
    rejects(batch, settled).map(move |(record, reject)| dead_letters::letter(record, topic, dead_letter_topic, reject))
}

fn log_rejects(batch: &[Record], settled: &[Settled], topic: &str) {
    for (record, reject) in rejects(batch, settled) {
        let (partition, offset) = (record.partition, record.offset);
        tracing::debug!("{topic} partition {partition} offset {offset} is a dead letter: {}", reject.reason);
    }
    if let Some((record, reject)) = rejects(batch, settled).next() {
        let (count, partition, offset) = (rejects(batch, settled).count(), record.partition, record.offset);
        let reason = &reject.reason;
        tracing::warn!("{topic} partition {partition}: {count} dead letters, the first at offset {offset}: {reason}");
    }
}
