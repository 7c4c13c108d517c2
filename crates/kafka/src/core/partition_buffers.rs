//! The records that were read and are not settled yet, by partition.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use crate::record::{Offset, Partition, Record, Source, TopicPartition};

/// How much is taken from the client before a handler works on it, and at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Records that wait in all partitions that are not paused.
    pub waiting_records: usize,
    /// Bytes of these.
    pub waiting_bytes: usize,
    /// Records that wait in one partition, paused or not.
    pub partition_records: usize,
    /// Bytes of these.
    pub partition_bytes: usize,
    /// Records of one batch.
    pub batch_records: usize,
    /// Bytes of these; a larger record is a batch of its own.
    pub batch_bytes: usize,
}

/// Why a partition waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// A dependency is away; the next attempt is due then.
    Until(Instant),
    /// Too many rejects in a row: until a reset.
    UntilReset,
}

/// What the client has to do about a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Stop fetching.
    Pause,
    /// Fetch again.
    Resume,
}

/// Tells one assignment of a partition from the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Assignment(u64);

#[derive(Debug, Default)]
struct PartitionQueue {
    assignment: Assignment,
    records: VecDeque<Record>,
    bytes: usize,
    pause: Option<Pause>,
    /// How often the first records failed by themselves.
    attempts: u32,
    /// Whether the first records failed together with those of other partitions.
    is_isolated: bool,
    paused_since: Option<Instant>,
    /// Whether the client was told to fetch nothing.
    is_client_paused: bool,
    /// The first record that found no room: it and what follows must be read again.
    gap: Option<Gap>,
}

#[derive(Clone, Copy, Debug)]
struct Gap {
    from: Offset,
    /// When the client is asked to go back, should it have refused before.
    due: Option<Instant>,
}

/// Records by partition: each partition in offset order, all of them in turn.
#[derive(Debug)]
pub struct PartitionBuffers {
    limits: Limits,
    queues: BTreeMap<TopicPartition, PartitionQueue>,
    assignments: u64,
    last_served: Option<TopicPartition>,
}

impl PartitionBuffers {
    pub fn new(limits: Limits) -> Self {
        Self { limits, queues: BTreeMap::new(), assignments: 0, last_served: None }
    }

    /// The partition is ours from now on, from its committed offset.
    pub fn assign(&mut self, partition: TopicPartition) {
        self.assignments += 1;
        self.queues.insert(
            partition,
            PartitionQueue { assignment: Assignment(self.assignments), ..PartitionQueue::default() },
        );
    }

    /// The partition is no longer ours; its records are dropped. Answers whether it was.
    pub fn revoke(&mut self, partition: TopicPartition) -> bool {
        self.queues.remove(&partition).is_some()
    }

    /// Whether the client was told to pause the partition.
    pub fn is_client_paused(&self, partition: TopicPartition) -> bool {
        self.queues.get(&partition).is_some_and(|queue| queue.is_client_paused)
    }

    /// Under which assignment the partition is ours.
    pub fn assignment(&self, partition: TopicPartition) -> Option<Assignment> {
        self.queues.get(&partition).map(|queue| queue.assignment)
    }

    /// Appends a record. One of a partition that is not ours, or one that is here already, is dropped:
    /// the partition's owner reads it. So is one for which there is no room, with all that follow,
    /// until [`PartitionBuffers::gaps`] are closed: the client was told to pause, but need not obey.
    ///
    /// Answers whether the partition has no more room, so that the client is to be told.
    pub fn push(&mut self, record: Record) -> bool {
        let limits = self.limits;
        let Some(queue) = self.queues.get_mut(&record.topic_partition()) else { return false };
        if queue.gap.is_some() || queue.records.back().is_some_and(|last| last.offset >= record.offset) {
            return false;
        }
        if queue.is_full(&limits) {
            queue.gap = Some(Gap { from: record.offset, due: None });
            return false;
        }
        queue.bytes += record.size();
        queue.records.push_back(record);
        queue.is_full(&limits)
    }

    /// Whether more may be read ahead. What is paused does not count: it has its own bound, and must
    /// not keep the others from going on.
    pub fn has_room(&self) -> bool {
        let waiting = self.queues.values().filter(|queue| queue.pause.is_none());
        let (records, bytes) =
            waiting.fold((0, 0), |(records, bytes), queue| (records + queue.records.len(), bytes + queue.bytes));
        records < self.limits.waiting_records && bytes < self.limits.waiting_bytes
    }

    /// Takes out what to work on at `now`: what is there of every partition that is not paused, up to
    /// the limits of a batch, each partition's in offset order. Records that failed before are alone,
    /// so that their failure does not stop others. Empty when nothing is due.
    pub fn take(&mut self, now: Instant) -> Vec<Record> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        for partition in self.in_turn() {
            let Some(queue) = self.queues.get_mut(&partition).filter(|queue| queue.is_due(now)) else { continue };
            let is_alone = queue.is_isolated || queue.attempts > 0;
            if is_alone && !batch.is_empty() {
                break;
            }
            let took_all = queue.take(&self.limits, &mut batch, &mut bytes);
            self.last_served = Some(partition);
            if is_alone || !took_all {
                break;
            }
        }
        batch
    }

    /// Takes out a batch of one partition that is due at `now` and whose number is not `busy`.
    pub fn take_one(&mut self, now: Instant, busy: impl Fn(Partition) -> bool) -> Vec<Record> {
        let mut batch = Vec::new();
        let due = |queue: &PartitionQueue| queue.is_due(now);
        let next = self
            .in_turn()
            .into_iter()
            .find(|partition| !busy(partition.partition) && self.queues.get(partition).is_some_and(due));
        if let Some((partition, queue)) = next.and_then(|next| Some((next, self.queues.get_mut(&next)?))) {
            queue.take(&self.limits, &mut batch, &mut 0);
            self.last_served = Some(partition);
        }
        batch
    }

    /// All partitions, the one after that served last first.
    fn in_turn(&self) -> Vec<TopicPartition> {
        let (served, later): (Vec<_>, Vec<_>) =
            self.queues.keys().partition(|partition| Some(**partition) <= self.last_served);
        later.into_iter().chain(served).collect()
    }

    /// Gives back, to where they were taken from, records that are not settled.
    pub fn requeue(&mut self, records: Vec<Record>) {
        for record in records.into_iter().rev() {
            if let Some(queue) = self.queues.get_mut(&record.topic_partition()) {
                queue.bytes += record.size();
                queue.records.push_front(record);
            }
        }
    }

    /// Gives back what failed together; each partition's records are then taken by themselves.
    pub fn requeue_isolated(&mut self, records: Vec<Record>) {
        for record in &records {
            if let Some(queue) = self.queues.get_mut(&record.topic_partition()) {
                queue.is_isolated = true;
            }
        }
        self.requeue(records);
    }

    /// What was taken last of the partition is settled; a pause that was for it ends. Answers for how
    /// long the partition had been paused.
    pub fn settled(&mut self, partition: TopicPartition, now: Instant) -> Option<Duration> {
        let queue = self.queues.get_mut(&partition)?;
        queue.attempts = 0;
        queue.is_isolated = false;
        queue.pause = None;
        queue.paused_since.take().map(|since| now.saturating_duration_since(since))
    }

    /// Pauses the partition. Answers whether it was not paused before.
    pub fn pause(&mut self, partition: TopicPartition, pause: Pause, now: Instant) -> bool {
        let Some(queue) = self.queues.get_mut(&partition) else { return false };
        queue.pause = Some(pause);
        queue.attempts = queue.attempts.saturating_add(1);
        let is_new = queue.paused_since.is_none();
        queue.paused_since.get_or_insert(now);
        is_new
    }

    /// How often the partition's first records failed already.
    pub fn attempts(&self, partition: TopicPartition) -> u32 {
        self.queues.get(&partition).map_or(0, |queue| queue.attempts)
    }

    /// Makes what waits for a reset due at `now`.
    pub fn reset(&mut self, now: Instant) {
        for queue in self.queues.values_mut().filter(|queue| queue.pause == Some(Pause::UntilReset)) {
            queue.pause = Some(Pause::Until(now));
        }
    }

    /// What changed since the client was told last: it pauses a partition whose records wait, and also
    /// one that is full while each has its own room, until half of it is free.
    pub fn flow_changes(&mut self) -> Vec<(TopicPartition, Flow)> {
        let (limits, has_own_room) = (self.limits, self.limits.waiting_records == usize::MAX);
        let mut changes = Vec::new();
        for (partition, queue) in &mut self.queues {
            let is_full = if queue.is_client_paused { !queue.is_half_empty(&limits) } else { queue.is_full(&limits) };
            let pause = queue.pause.is_some() || (has_own_room && is_full);
            if pause != queue.is_client_paused {
                queue.is_client_paused = pause;
                changes.push((*partition, if pause { Flow::Pause } else { Flow::Resume }));
            }
        }
        changes
    }

    /// Where the client has to go back to at `now`, since records found no room and now there is some.
    pub fn gaps(&self, now: Instant) -> Vec<(TopicPartition, Offset)> {
        let open = self.queues.iter().filter(|(_, queue)| queue.pause.is_none() && queue.is_half_empty(&self.limits));
        let due = |gap: &Gap| gap.due.is_none_or(|due| due <= now);
        open.filter_map(|(partition, queue)| Some((*partition, queue.gap.filter(due)?.from))).collect()
    }

    /// The client went back to the gap of the partition.
    pub fn gap_closed(&mut self, partition: TopicPartition) {
        if let Some(queue) = self.queues.get_mut(&partition) {
            queue.gap = None;
        }
    }

    /// The client did not go back; it is asked again at `due`.
    pub fn gap_stays(&mut self, partition: TopicPartition, due: Instant) {
        if let Some(gap) = self.queues.get_mut(&partition).and_then(|queue| queue.gap.as_mut()) {
            gap.due = Some(due);
        }
    }

    /// When the next pause ends by itself, or a gap is due.
    pub fn next_wake(&self) -> Option<Instant> {
        let due = self.queues.values().flat_map(|queue| {
            let pause = match queue.pause {
                Some(Pause::Until(due)) => Some(due),
                Some(Pause::UntilReset) | None => None,
            };
            [pause, queue.gap.and_then(|gap| gap.due).filter(|_| queue.pause.is_none())]
        });
        due.flatten().min()
    }

    /// How many partitions are paused.
    pub fn paused_count(&self) -> usize {
        self.queues.values().filter(|queue| queue.pause.is_some()).count()
    }

    /// Nothing is ours any more. Answers what was, each partition once.
    pub fn release_all(&mut self) -> Vec<Partition> {
        let queues = std::mem::take(&mut self.queues).into_keys();
        queues.filter(|partition| partition.source == Source::Topic).map(|partition| partition.partition).collect()
    }
}

impl PartitionQueue {
    fn is_due(&self, now: Instant) -> bool {
        let is_paused = match self.pause {
            None => false,
            Some(Pause::Until(due)) => due > now,
            Some(Pause::UntilReset) => true,
        };
        !(is_paused || self.records.is_empty())
    }

    fn is_full(&self, limits: &Limits) -> bool {
        self.records.len() >= limits.partition_records || self.bytes >= limits.partition_bytes
    }

    fn is_half_empty(&self, limits: &Limits) -> bool {
        self.records.len() <= limits.partition_records / 2 && self.bytes <= limits.partition_bytes / 2
    }

    /// Moves records into `batch` as long as it has room. Answers whether all of them are there.
    fn take(&mut self, limits: &Limits, batch: &mut Vec<Record>, bytes: &mut usize) -> bool {
        while let Some(size) = self.records.front().map(Record::size) {
            let has_room = batch.len() < limits.batch_records && *bytes + size <= limits.batch_bytes;
            if !(has_room || batch.is_empty()) {
                return false;
            }
            *bytes += size;
            self.bytes -= size;
            batch.extend(self.records.pop_front());
        }
        true
    }
}

#[cfg(test)]
mod tests;
