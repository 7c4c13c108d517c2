use std::time::Duration;

use anyhow::ensure;
use events::topics::{Group, Namespace, Topic};

use crate::core::partition_buffers::Limits;

/// What is read, on whose behalf, and how much of it at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The topic.
    pub topic: String,
    /// The consumer group, whose members share the topic's partitions.
    pub group: String,
    /// The limits of a batch.
    pub batch: BatchLimits,
}

/// How much a handler is given at once, and for how long it may work on it. A batch is what is there:
/// the loop never waits to fill one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Records; at least one.
    pub records: usize,
    /// Bytes of keys, values and headers. A record larger than this is a batch of its own.
    pub bytes: usize,
    /// After this a handler counts as unavailable, and the batch is tried again. It must be shorter than
    /// Kafka's `max.poll.interval.ms` (5 minutes), after which the group takes the partitions away.
    pub time: Duration,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { records: 1000, bytes: 1024 * 1024, time: Duration::from_secs(240) }
    }
}

impl Subscription {
    /// A topic of the table on behalf of one of its groups, with the default limits.
    ///
    /// # Errors
    /// When the row does not name the group, since then its dead letters have no topic.
    pub fn of(names: &Namespace, topic: &Topic, group: &Group) -> anyhow::Result<Self> {
        let is_named = topic.groups.contains(group);
        ensure!(is_named, "group {} does not read {}: name it in the topic's row", group.name, topic.name);
        Ok(Self::new(names.topic(topic), names.group(group)))
    }

    /// `topic` on behalf of `group`, with the default limits.
    #[must_use]
    pub fn new(topic: impl Into<String>, group: impl Into<String>) -> Self {
        Self { topic: topic.into(), group: group.into(), batch: BatchLimits::default() }
    }

    /// The same with other limits of a batch.
    #[must_use]
    pub fn with_batch(self, batch: BatchLimits) -> Self {
        Self { batch, ..self }
    }
}

impl BatchLimits {
    /// What is buffered while one handler works on all partitions: another batch, and one more.
    pub(super) fn shared(self) -> Limits {
        let (records, bytes) = (self.records.max(1), self.bytes);
        let (waiting_records, waiting_bytes) = (2 * records, bytes);
        Limits {
            waiting_records,
            waiting_bytes,
            partition_records: waiting_records,
            partition_bytes: waiting_bytes,
            batch_records: records,
            batch_bytes: bytes,
        }
    }

    /// What is buffered while each partition has a task of its own. Partitions do not share the room, so
    /// that a slow one takes none from the others.
    pub(super) fn per_partition(self) -> Limits {
        Limits { waiting_records: usize::MAX, waiting_bytes: usize::MAX, ..self.shared() }
    }
}
