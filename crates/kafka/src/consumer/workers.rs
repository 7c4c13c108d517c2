//! Who works on batches: one handler on all partitions, or one on each.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use anyhow::{Context as _, anyhow};
use tokio::task::JoinSet;

use super::BatchLimits;
use crate::{
    core::partition_buffers::{Assignment, PartitionBuffers},
    handler::{Failure, Handler, Settled},
    record::{Partition, Record, TopicPartition},
};

/// Makes the handler of a partition.
pub(super) type MakeHandler<H> = dyn Fn(Partition) -> H + Send + Sync;

/// Who works on batches.
pub(super) enum Workers<'h, H> {
    /// One handler on batches of all partitions, one after the other.
    Shared(&'h mut H),
    /// A handler and a task for each partition.
    PerPartition(PartitionTasks<'h, H>),
}

/// A task for each partition that has work.
pub(super) struct PartitionTasks<'h, H> {
    make: &'h MakeHandler<H>,
    /// Handlers of partitions that have no work just now.
    idle: HashMap<Partition, H>,
    /// Under which assignment the others work.
    busy: HashMap<Partition, (TopicPartition, Option<Assignment>)>,
    running: JoinSet<Finished<H>>,
}

/// A batch that a task has worked on.
pub(super) struct Finished<H> {
    partition: Partition,
    handler: H,
    pub batch: Vec<Record>,
    pub answer: Result<Vec<Settled>, Failure>,
    pub took: Duration,
}

/// Has a handler work on a batch, for no longer than `limit`.
pub(super) async fn handle<H: Handler>(
    handler: &mut H,
    batch: &[Record],
    limit: Duration,
) -> Result<Vec<Settled>, Failure> {
    match tokio::time::timeout(limit, handler.handle(batch)).await {
        Ok(answer) => answer,
        Err(_) => Err(Failure::unavailable(anyhow!("the handler did not finish a batch within {limit:?}"))),
    }
}

impl<H: Handler> Workers<'_, H> {
    /// The partition went to another member.
    pub(super) fn revoke(&mut self, partition: Partition) {
        match self {
            Self::Shared(handler) => handler.partition_revoked(partition),
            // The handler of a partition that has work just now is told when that has ended.
            Self::PerPartition(tasks) => {
                if let Some(mut handler) = tasks.idle.remove(&partition) {
                    handler.partition_revoked(partition);
                }
            }
        }
    }
}

impl<'h, H: Handler + 'static> PartitionTasks<'h, H> {
    pub(super) fn new(make: &'h MakeHandler<H>) -> Self {
        Self { make, idle: HashMap::new(), busy: HashMap::new(), running: JoinSet::new() }
    }

    /// Starts a task for every partition that is due and has none.
    pub(super) fn start(&mut self, buffers: &mut PartitionBuffers, limits: BatchLimits) {
        loop {
            let busy = &self.busy;
            let batch = buffers.take_one(Instant::now(), |partition| busy.contains_key(&partition));
            let Some(of) = batch.first().map(Record::topic_partition) else { return };
            let partition = of.partition;
            self.busy.insert(partition, (of, buffers.assignment(of)));
            let mut handler = self.idle.remove(&partition).unwrap_or_else(|| (self.make)(partition));
            self.running.spawn(async move {
                let begun = Instant::now();
                let answer = handle(&mut handler, &batch, limits.time).await;
                Finished { partition, handler, batch, answer, took: begun.elapsed() }
            });
        }
    }

    /// The next batch that is finished. One whose partition went meanwhile is forgotten: its new owner
    /// reads it again. `None` when nothing is being worked on.
    ///
    /// # Errors
    /// When a handler panicked.
    pub(super) async fn finished(&mut self, buffers: &PartitionBuffers) -> anyhow::Result<Option<Finished<H>>> {
        while let Some(finished) = self.running.join_next().await {
            if let Some(finished) = self.take_back(finished.context("run a handler")?, buffers) {
                return Ok(Some(finished));
            }
        }
        Ok(None)
    }

    fn take_back(&mut self, finished: Finished<H>, buffers: &PartitionBuffers) -> Option<Finished<H>> {
        let partition = finished.partition;
        let (of, assignment) = self.busy.remove(&partition)?;
        if assignment.is_none() || buffers.assignment(of) != assignment {
            let Finished { mut handler, .. } = finished;
            handler.partition_revoked(partition);
            return None;
        }
        Some(finished)
    }

    /// The handler is free for the next batch.
    pub(super) fn release(&mut self, finished: Finished<H>) -> (Vec<Record>, Result<Vec<Settled>, Failure>) {
        self.idle.insert(finished.partition, finished.handler);
        (finished.batch, finished.answer)
    }
}
