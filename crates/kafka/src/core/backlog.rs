//! The records that were read and are not settled yet, by partition.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use crate::record::{Offset, Partition, Record, Source, TopicPartition};

/// How much is taken from the client before a handler works on it, and at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Records that wait in all partitions that are not held.
    pub waiting_records: usize,
    /// Bytes of these.
    pub waiting_bytes: usize,
    /// Records that wait in one partition, held or not.
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
pub enum Hold {
    /// A dependency is away; the next attempt is due then.
    Until(Instant),
    /// Too many rejects in a row: until a reset.
    UntilAccepted,
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
struct Lane {
    assignment: Assignment,
    records: VecDeque<Record>,
    bytes: usize,
    hold: Option<Hold>,
    /// How often the first records failed by themselves.
    attempts: u32,
    /// Whether the first records failed together with those of other partitions.
    is_apart: bool,
    held_since: Option<Instant>,
    /// Whether the client was told to fetch nothing.
    is_paused: bool,
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
pub struct Backlog {
    limits: Limits,
    lanes: BTreeMap<TopicPartition, Lane>,
    assignments: u64,
    last_served: Option<TopicPartition>,
}

impl Backlog {
    pub fn new(limits: Limits) -> Self {
        Self { limits, lanes: BTreeMap::new(), assignments: 0, last_served: None }
    }

    /// The partition is ours from now on, from its committed offset.
    pub fn assign(&mut self, partition: TopicPartition) {
        self.assignments += 1;
        self.lanes.insert(partition, Lane { assignment: Assignment(self.assignments), ..Lane::default() });
    }

    /// The partition is no longer ours; its records are dropped. Answers whether it was.
    pub fn revoke(&mut self, partition: TopicPartition) -> bool {
        self.lanes.remove(&partition).is_some()
    }

    /// Whether the client was told to pause the partition.
    pub fn is_paused(&self, partition: TopicPartition) -> bool {
        self.lanes.get(&partition).is_some_and(|lane| lane.is_paused)
    }

    /// Under which assignment the partition is ours.
    pub fn assignment(&self, partition: TopicPartition) -> Option<Assignment> {
        self.lanes.get(&partition).map(|lane| lane.assignment)
    }

    /// Appends a record. One of a partition that is not ours, or one that is here already, is
    /// dropped: the partition's owner reads it. So is one for which there is no room, with all that
    /// follow, until [`Backlog::gaps`] are closed: the client was told to pause, but need not obey.
    ///
    /// Answers whether the partition has no more room, so that the client is to be told.
    pub fn push(&mut self, record: Record) -> bool {
        let limits = self.limits;
        let Some(lane) = self.lanes.get_mut(&record.topic_partition()) else { return false };
        if lane.gap.is_some() || lane.records.back().is_some_and(|last| last.offset >= record.offset) {
            return false;
        }
        if lane.is_full(&limits) {
            lane.gap = Some(Gap { from: record.offset, due: None });
            return false;
        }
        lane.bytes += record.size();
        lane.records.push_back(record);
        lane.is_full(&limits)
    }

    /// Whether more may be read ahead. What is held does not count: it has its own bound, and must not
    /// keep the others from going on.
    pub fn has_room(&self) -> bool {
        let waiting = self.lanes.values().filter(|lane| lane.hold.is_none());
        let (records, bytes) =
            waiting.fold((0, 0), |(records, bytes), lane| (records + lane.records.len(), bytes + lane.bytes));
        records < self.limits.waiting_records && bytes < self.limits.waiting_bytes
    }

    /// Takes out what to work on at `now`: what is there of every partition that is not held, up to
    /// the limits of a batch, each partition's in offset order. Records that failed before are alone,
    /// so that their trouble is not that of others. Empty when nothing is due.
    pub fn take(&mut self, now: Instant) -> Vec<Record> {
        let mut batch = Vec::new();
        let mut bytes = 0;
        for partition in self.in_turn() {
            let Some(lane) = self.lanes.get_mut(&partition).filter(|lane| lane.is_due(now)) else { continue };
            let is_alone = lane.is_apart || lane.attempts > 0;
            if is_alone && !batch.is_empty() {
                break;
            }
            let took_all = lane.take(&self.limits, &mut batch, &mut bytes);
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
        let due = |lane: &Lane| lane.is_due(now);
        let next = self
            .in_turn()
            .into_iter()
            .find(|partition| !busy(partition.partition) && self.lanes.get(partition).is_some_and(due));
        if let Some((partition, lane)) = next.and_then(|next| Some((next, self.lanes.get_mut(&next)?))) {
            lane.take(&self.limits, &mut batch, &mut 0);
            self.last_served = Some(partition);
        }
        batch
    }

    /// All partitions, the one after that served last first.
    fn in_turn(&self) -> Vec<TopicPartition> {
        let (served, later): (Vec<_>, Vec<_>) =
            self.lanes.keys().partition(|partition| Some(**partition) <= self.last_served);
        later.into_iter().chain(served).collect()
    }

    /// Gives back, to where they were taken from, records that are not settled.
    pub fn give_back(&mut self, records: Vec<Record>) {
        for record in records.into_iter().rev() {
            if let Some(lane) = self.lanes.get_mut(&record.topic_partition()) {
                lane.bytes += record.size();
                lane.records.push_front(record);
            }
        }
    }

    /// Gives back what failed together; each partition's records are then taken by themselves.
    pub fn give_back_apart(&mut self, records: Vec<Record>) {
        for record in &records {
            if let Some(lane) = self.lanes.get_mut(&record.topic_partition()) {
                lane.is_apart = true;
            }
        }
        self.give_back(records);
    }

    /// What was taken last of the partition is settled; a hold that was for it ends. Answers for how
    /// long the partition had been held.
    pub fn settled(&mut self, partition: TopicPartition, now: Instant) -> Option<Duration> {
        let lane = self.lanes.get_mut(&partition)?;
        lane.attempts = 0;
        lane.is_apart = false;
        lane.hold = None;
        lane.held_since.take().map(|since| now.saturating_duration_since(since))
    }

    /// Holds the partition. Answers whether it was not held before.
    pub fn hold(&mut self, partition: TopicPartition, hold: Hold, now: Instant) -> bool {
        let Some(lane) = self.lanes.get_mut(&partition) else { return false };
        lane.hold = Some(hold);
        lane.attempts = lane.attempts.saturating_add(1);
        let is_new = lane.held_since.is_none();
        lane.held_since.get_or_insert(now);
        is_new
    }

    /// How often the partition's first records failed already.
    pub fn attempts(&self, partition: TopicPartition) -> u32 {
        self.lanes.get(&partition).map_or(0, |lane| lane.attempts)
    }

    /// Makes what waits for a reset due at `now`.
    pub fn accept(&mut self, now: Instant) {
        for lane in self.lanes.values_mut().filter(|lane| lane.hold == Some(Hold::UntilAccepted)) {
            lane.hold = Some(Hold::Until(now));
        }
    }

    /// What the client has to be told, since it was told last: a partition that is held is paused, and
    /// so is one that is full while each has its own room, until half of it is free.
    pub fn flow_changes(&mut self) -> Vec<(TopicPartition, Flow)> {
        let (limits, has_own_room) = (self.limits, self.limits.waiting_records == usize::MAX);
        let mut changes = Vec::new();
        for (partition, lane) in &mut self.lanes {
            let is_full = if lane.is_paused { !lane.is_half_empty(&limits) } else { lane.is_full(&limits) };
            let pause = lane.hold.is_some() || (has_own_room && is_full);
            if pause != lane.is_paused {
                lane.is_paused = pause;
                changes.push((*partition, if pause { Flow::Pause } else { Flow::Resume }));
            }
        }
        changes
    }

    /// Where the client has to go back to at `now`, since records found no room and now there is some.
    pub fn gaps(&self, now: Instant) -> Vec<(TopicPartition, Offset)> {
        let open = self.lanes.iter().filter(|(_, lane)| lane.hold.is_none() && lane.is_half_empty(&self.limits));
        let due = |gap: &Gap| gap.due.is_none_or(|due| due <= now);
        open.filter_map(|(partition, lane)| Some((*partition, lane.gap.filter(due)?.from))).collect()
    }

    /// The client went back to the gap of the partition.
    pub fn gap_closed(&mut self, partition: TopicPartition) {
        if let Some(lane) = self.lanes.get_mut(&partition) {
            lane.gap = None;
        }
    }

    /// The client did not go back; it is asked again at `due`.
    pub fn gap_stays(&mut self, partition: TopicPartition, due: Instant) {
        if let Some(gap) = self.lanes.get_mut(&partition).and_then(|lane| lane.gap.as_mut()) {
            gap.due = Some(due);
        }
    }

    /// When the next hold ends by itself, or a gap is due.
    pub fn next_wake(&self) -> Option<Instant> {
        let due = self.lanes.values().flat_map(|lane| {
            let hold = match lane.hold {
                Some(Hold::Until(due)) => Some(due),
                Some(Hold::UntilAccepted) | None => None,
            };
            [hold, lane.gap.and_then(|gap| gap.due).filter(|_| lane.hold.is_none())]
        });
        due.flatten().min()
    }

    /// How many partitions are held.
    pub fn held(&self) -> usize {
        self.lanes.values().filter(|lane| lane.hold.is_some()).count()
    }

    /// Nothing is ours any more. Answers what was, each partition once.
    pub fn give_all_up(&mut self) -> Vec<Partition> {
        let lanes = std::mem::take(&mut self.lanes).into_keys();
        lanes.filter(|partition| partition.source == Source::Topic).map(|partition| partition.partition).collect()
    }
}

impl Lane {
    fn is_due(&self, now: Instant) -> bool {
        let is_held = match self.hold {
            None => false,
            Some(Hold::Until(due)) => due > now,
            Some(Hold::UntilAccepted) => true,
        };
        !(is_held || self.records.is_empty())
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
