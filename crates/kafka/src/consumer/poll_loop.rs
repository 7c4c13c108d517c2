use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use futures::{FutureExt, StreamExt};
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{Consumer as _, MessageStream, StreamConsumer},
    error::{KafkaError, KafkaResult},
    message::BorrowedMessage,
};
use tokio_util::sync::CancellationToken;

use super::{
    BatchLimits,
    context::{Context, Rebalanced},
    membership::kafka_answers,
    workers::{Finished, Workers, handle},
};
use crate::{
    core::partition_buffers::{Flow, PartitionBuffers},
    dead_letter_breaker::DeadLetterBreaker,
    handler::{Failure, Handler, Settled},
    metrics::ConsumerMetrics,
    names::Names,
    producer::Producer,
    record::{Record, Source, TopicPartition},
};

/// How long the client may take to go back in a partition. It asks no broker.
const SEEK_LIMIT: Duration = Duration::from_millis(500);
/// When it is asked again.
const SEEK_INTERVAL: Duration = Duration::from_secs(1);

/// Why the loop ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was asked to.
    Stopped,
    /// Kafka answers others, and the client does not get back into its group.
    Lost,
}

/// What a loop works with, beside its client and its handlers.
#[derive(Clone, Copy)]
pub(super) struct LoopDeps<'c> {
    pub names: &'c Names,
    pub limits: BatchLimits,
    pub dead_letters: &'c Producer,
    pub breaker: &'c DeadLetterBreaker,
    pub metrics: &'c ConsumerMetrics,
}

/// The loop's state between two turns.
pub(super) struct PollLoop<'c, H> {
    pub(super) client: &'c StreamConsumer<Context>,
    messages: MessageStream<'c, Context>,
    pub(super) deps: LoopDeps<'c>,
    workers: Workers<'c, H>,
    pub(super) buffers: PartitionBuffers,
}

impl<'c, H: Handler + 'static> PollLoop<'c, H> {
    pub(super) fn new(client: &'c StreamConsumer<Context>, workers: Workers<'c, H>, deps: LoopDeps<'c>) -> Self {
        let limits = match workers {
            Workers::Shared(_) => deps.limits.shared(),
            Workers::PerPartition(_) => deps.limits.per_partition(),
        };
        Self { client, messages: client.stream(), deps, workers, buffers: PartitionBuffers::new(limits) }
    }

    /// Turns until `stopping`, or until the client has lost its way.
    pub(super) async fn run(mut self, stopping: &CancellationToken) -> anyhow::Result<End> {
        while !stopping.is_cancelled() {
            self.take_over_changes();
            if self.client.context().take_overdue() && kafka_answers(self.deps.dead_letters, self.deps.names).await {
                self.release_all();
                return Ok(End::Lost);
            }
            self.read_ahead()?;
            self.close_gaps();
            if !self.work().await? {
                self.wait(stopping).await?;
            }
        }
        while self.finish_one().await? {}
        Ok(End::Stopped)
    }

    /// Drops what is left of the partitions that the client had.
    fn release_all(&mut self) {
        for partition in self.buffers.release_all() {
            self.workers.revoke(partition);
        }
        self.apply_flow();
    }

    /// Works on what is due. Answers whether there was anything that is settled, or failed, now.
    async fn work(&mut self) -> anyhow::Result<bool> {
        match &mut self.workers {
            Workers::Shared(handler) => {
                let batch = self.buffers.take(Instant::now());
                if batch.is_empty() {
                    return Ok(false);
                }
                let begun = Instant::now();
                let answer = handle(*handler, &batch, self.deps.limits.time).await;
                self.conclude(batch, answer, begun.elapsed()).await?;
                Ok(true)
            }
            Workers::PerPartition(tasks) => {
                tasks.start(&mut self.buffers, self.deps.limits);
                let finished = tasks.finished(&self.buffers).now_or_never().transpose()?.flatten();
                self.apply_flow();
                let Some(finished) = finished else { return Ok(false) };
                self.conclude_task(finished).await?;
                Ok(true)
            }
        }
    }

    /// Waits for a batch that a partition's task works on, and concludes it. `false`: there is none.
    async fn finish_one(&mut self) -> anyhow::Result<bool> {
        let Workers::PerPartition(tasks) = &mut self.workers else { return Ok(false) };
        let Some(finished) = tasks.finished(&self.buffers).await? else { return Ok(false) };
        self.conclude_task(finished).await?;
        Ok(true)
    }

    async fn conclude_task(&mut self, finished: Finished<H>) -> anyhow::Result<()> {
        let Workers::PerPartition(tasks) = &mut self.workers else { return Ok(()) };
        let took = finished.took;
        let (batch, answer) = tasks.release(finished);
        self.conclude(batch, answer, took).await
    }

    /// Does what the handler says.
    async fn conclude(
        &mut self,
        batch: Vec<Record>,
        answer: Result<Vec<Settled>, Failure>,
        took: Duration,
    ) -> anyhow::Result<()> {
        self.deps.metrics.handle_seconds.observe(took.as_secs_f64());
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

    /// Waits until something happens: the end, a rebalance, a reset, the end of a pause, a finished
    /// task, a record.
    async fn wait(&mut self, stopping: &CancellationToken) -> anyhow::Result<()> {
        let wake = self.buffers.next_wake();
        let pause_ends = async {
            match wake {
                Some(due) => tokio::time::sleep_until(due.into()).await,
                None => std::future::pending().await,
            }
        };
        let (workers, buffers) = (&mut self.workers, &self.buffers);
        let task_ends = async {
            if let Workers::PerPartition(tasks) = workers
                && let Some(finished) = tasks.finished(buffers).await.transpose()
            {
                return finished;
            }
            std::future::pending().await
        };
        let read = tokio::select! {
            biased;
            () = stopping.cancelled() => return Ok(()),
            () = self.client.context().rebalanced() => return Ok(()),
            () = self.deps.breaker.changed() => return Ok(()),
            () = pause_ends => return Ok(()),
            finished = task_ends => return self.conclude_task(finished?).await,
            read = self.messages.next() => read,
        };
        self.take(read)
    }

    /// Takes what the client has already.
    fn read_ahead(&mut self) -> anyhow::Result<()> {
        while self.buffers.has_room() {
            let Some(read) = self.messages.next().now_or_never() else { break };
            self.take(read)?;
        }
        self.apply_flow();
        Ok(())
    }

    fn take(&mut self, read: Option<KafkaResult<BorrowedMessage<'_>>>) -> anyhow::Result<()> {
        // A record that follows a rebalance belongs to the assignment after it.
        self.take_over_changes();
        match read {
            Some(Ok(message)) => {
                let source = self.deps.names.source(message.topic());
                if self.buffers.push(Record::copied_from(&message, source)) {
                    self.apply_flow();
                }
            }
            Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => return Err(error).context("read"),
            Some(Err(error)) => self.client.context().report(&error.to_string()),
            None => {}
        }
        Ok(())
    }

    fn take_over_changes(&mut self) {
        let topic = &self.deps.names.topic;
        for change in self.client.context().take_rebalances() {
            match change {
                Rebalanced::Assigned(partitions) => {
                    tracing::info!("{topic}: {} partitions came", partitions.len());
                    both_sources(&partitions).for_each(|partition| self.buffers.assign(partition));
                }
                Rebalanced::Revoked(partitions) => {
                    tracing::info!("{topic}: {} partitions went", partitions.len());
                    for partition in both_sources(&partitions) {
                        if self.buffers.is_client_paused(partition) {
                            // The client would remember it, should the partition come back.
                            self.tell(partition, Flow::Resume);
                        }
                        if self.buffers.revoke(partition) && partition.source == Source::Topic {
                            self.workers.revoke(partition.partition);
                        }
                    }
                }
            }
            self.apply_flow();
        }
        if self.deps.breaker.take_reset() {
            self.buffers.reset(Instant::now());
        }
    }

    /// Tells the client which partitions to pause and which to resume, and counts.
    pub(super) fn apply_flow(&mut self) {
        for (partition, flow) in self.buffers.flow_changes() {
            self.tell(partition, flow);
        }
        self.deps.metrics.paused.set(i64::try_from(self.buffers.paused_count()).unwrap_or(i64::MAX));
    }

    fn tell(&self, partition: TopicPartition, flow: Flow) {
        let mut list = TopicPartitionList::with_capacity(1);
        list.add_partition(self.deps.names.topic(partition.source), partition.partition.0);
        let told = match flow {
            Flow::Pause => self.client.pause(&list),
            Flow::Resume => self.client.resume(&list),
        };
        if let Err(error) = told {
            // What arrives during a pause that failed is bounded, and read again where it found no room.
            tracing::debug!("{flow:?} of partition {}: {error}", partition.partition);
        }
    }

    /// Has the client go back to what found no room.
    fn close_gaps(&mut self) {
        let now = Instant::now();
        for (of, offset) in self.buffers.gaps(now) {
            let (topic, partition) = (self.deps.names.topic(of.source), of.partition);
            match self.client.seek(topic, partition.0, Offset::Offset(offset.0), SEEK_LIMIT) {
                Ok(()) => self.buffers.gap_closed(of),
                Err(error) => {
                    tracing::debug!("go back to {offset} in {topic} partition {partition}: {error}");
                    self.buffers.gap_stays(of, now + SEEK_INTERVAL);
                }
            }
        }
    }
}

/// Partitions of the topic, and those of the retries that come with them.
fn both_sources(partitions: &[crate::record::Partition]) -> impl Iterator<Item = TopicPartition> {
    let of = |source| move |partition: &crate::record::Partition| TopicPartition { source, partition: *partition };
    partitions.iter().map(of(Source::Topic)).chain(partitions.iter().map(of(Source::Retry)))
}
