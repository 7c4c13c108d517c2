//! The records that were read and are not settled yet, by partition.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use crate::record::{Partition, Record};

/// How much is taken from the client before somebody works on it, and at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Records that wait while their partition is not held.
    pub waiting_records: usize,
    /// Bytes of these.
    pub waiting_bytes: usize,
    /// Records of one batch.
    pub batch_records: usize,
}

/// Why a partition waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// A dependency is away; the next attempt is due then.
    Until(Instant),
    /// Too many rejects in a row: until somebody accepts them.
    UntilAccepted,
}

#[derive(Debug, Default)]
struct Lane {
    records: VecDeque<Record>,
    bytes: usize,
    hold: Option<Hold>,
    /// How often the first records failed by themselves.
    attempts: u32,
    /// Whether the first records failed together with those of other partitions.
    is_apart: bool,
    held_since: Option<Instant>,
}

/// Records by partition: each partition in offset order, all of them in turn.
#[derive(Debug)]
pub struct Backlog {
    limits: Limits,
    lanes: BTreeMap<Partition, Lane>,
    last_served: Option<Partition>,
}

impl Backlog {
    pub fn new(limits: Limits) -> Self {
        Self { limits, lanes: BTreeMap::new(), last_served: None }
    }

    /// The partition is ours from now on, from its committed offset.
    pub fn assign(&mut self, partition: Partition) {
        self.lanes.insert(partition, Lane::default());
    }

    /// The partition is no longer ours; its records are dropped. Answers whether it was.
    pub fn revoke(&mut self, partition: Partition) -> bool {
        self.lanes.remove(&partition).is_some()
    }

    /// Appends a record. One of a partition that is not ours, or one that is here already, is
    /// dropped: whoever has the partition reads it.
    pub fn push(&mut self, record: Record) {
        let Some(lane) = self.lanes.get_mut(&record.partition) else { return };
        if lane.records.back().is_some_and(|last| last.offset >= record.offset) {
            return;
        }
        lane.bytes += record.size();
        lane.records.push_back(record);
    }

    /// Whether more may be read ahead. What is held does not count: it is bounded by what was
    /// waiting when its hold began, and must not keep the others from going on.
    pub fn has_room(&self) -> bool {
        let waiting = self.lanes.values().filter(|lane| lane.hold.is_none());
        let (records, bytes) =
            waiting.fold((0, 0), |(records, bytes), lane| (records + lane.records.len(), bytes + lane.bytes));
        records < self.limits.waiting_records && bytes < self.limits.waiting_bytes
    }

    /// Takes out what to work on at `now`: what is there of every partition that is not held, up to
    /// the limit of a batch, each partition's in offset order. Records that failed before are alone,
    /// so that their trouble is not that of others. Empty when nothing is due.
    pub fn take(&mut self, now: Instant) -> Vec<Record> {
        let mut batch = Vec::new();
        for partition in self.in_turn() {
            let Some(lane) = self.lanes.get_mut(&partition).filter(|lane| lane.is_due(now)) else { continue };
            let is_alone = lane.is_apart || lane.attempts > 0;
            if is_alone && !batch.is_empty() {
                break;
            }
            let room = self.limits.batch_records - batch.len();
            batch.extend(
                lane.records.drain(..room.min(lane.records.len())).inspect(|record| lane.bytes -= record.size()),
            );
            self.last_served = Some(partition);
            if is_alone || batch.len() == self.limits.batch_records {
                break;
            }
        }
        batch
    }

    /// All partitions, the one after that served last first.
    fn in_turn(&self) -> Vec<Partition> {
        let (served, later): (Vec<_>, Vec<_>) =
            self.lanes.keys().partition(|partition| Some(**partition) <= self.last_served);
        later.into_iter().chain(served).collect()
    }

    /// Gives back, to where they were taken from, records that are not settled.
    pub fn give_back(&mut self, records: Vec<Record>) {
        for record in records.into_iter().rev() {
            if let Some(lane) = self.lanes.get_mut(&record.partition) {
                lane.bytes += record.size();
                lane.records.push_front(record);
            }
        }
    }

    /// Gives back what failed together; each partition's records are then taken by themselves.
    pub fn give_back_apart(&mut self, records: Vec<Record>) {
        for record in &records {
            if let Some(lane) = self.lanes.get_mut(&record.partition) {
                lane.is_apart = true;
            }
        }
        self.give_back(records);
    }

    /// What was taken last of the partition is settled; a hold that was for it ends. Answers for how
    /// long the partition had been held.
    pub fn settled(&mut self, partition: Partition, now: Instant) -> Option<Duration> {
        let lane = self.lanes.get_mut(&partition)?;
        lane.attempts = 0;
        lane.is_apart = false;
        lane.hold = None;
        lane.held_since.take().map(|since| now.saturating_duration_since(since))
    }

    /// Holds the partition. Answers whether it was not held before.
    pub fn hold(&mut self, partition: Partition, hold: Hold, now: Instant) -> bool {
        let Some(lane) = self.lanes.get_mut(&partition) else { return false };
        lane.hold = Some(hold);
        lane.attempts = lane.attempts.saturating_add(1);
        let is_new = lane.held_since.is_none();
        lane.held_since.get_or_insert(now);
        is_new
    }

    /// How often the partition's first records failed already.
    pub fn attempts(&self, partition: Partition) -> u32 {
        self.lanes.get(&partition).map_or(0, |lane| lane.attempts)
    }

    /// Makes what waits for somebody's acceptance due at `now`.
    pub fn accept(&mut self, now: Instant) {
        for lane in self.lanes.values_mut().filter(|lane| lane.hold == Some(Hold::UntilAccepted)) {
            lane.hold = Some(Hold::Until(now));
        }
    }

    /// When the next hold ends by itself.
    pub fn next_wake(&self) -> Option<Instant> {
        let due = self.lanes.values().filter_map(|lane| match lane.hold {
            Some(Hold::Until(due)) => Some(due),
            Some(Hold::UntilAccepted) | None => None,
        });
        due.min()
    }

    /// How many partitions are held.
    pub fn held(&self) -> usize {
        self.lanes.values().filter(|lane| lane.hold.is_some()).count()
    }

    /// Nothing is ours any more. Answers what was.
    pub fn give_all_up(&mut self) -> Vec<Partition> {
        std::mem::take(&mut self.lanes).into_keys().collect()
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Offset;

    const LIMITS: Limits = Limits { waiting_records: 6, waiting_bytes: 100, batch_records: 3 };

    fn backlog(partitions: &[i32]) -> Backlog {
        let mut backlog = Backlog::new(LIMITS);
        partitions.iter().for_each(|partition| backlog.assign(Partition(*partition)));
        backlog
    }

    fn push(backlog: &mut Backlog, partition: i32, offsets: impl IntoIterator<Item = i64>) {
        for offset in offsets {
            backlog.push(Record::new(Partition(partition), Offset(offset)).with_value("12345"));
        }
    }

    /// The batch that is taken, as partitions and offsets.
    fn take(backlog: &mut Backlog, now: Instant) -> Vec<(i32, i64)> {
        backlog.take(now).iter().map(|record| (record.partition.0, record.offset.0)).collect()
    }

    #[test]
    fn a_batch_is_what_is_there_in_order_up_to_its_limit() {
        let mut backlog = backlog(&[0]);
        push(&mut backlog, 0, 0..5);
        let now = Instant::now();
        let mut batch = backlog.take(now);
        assert_eq!(batch.iter().map(|record| record.offset.0).collect::<Vec<_>>(), [0, 1, 2]);
        backlog.settled(Partition(0), now);
        backlog.give_back(batch.split_off(2));
        assert_eq!(take(&mut backlog, now), [(0, 2), (0, 3), (0, 4)]);
        assert_eq!(take(&mut backlog, now), []);
    }

    #[test]
    fn partitions_share_a_batch_and_take_turns_in_being_first() {
        let mut backlog = backlog(&[0, 1, 2]);
        push(&mut backlog, 0, 0..4);
        push(&mut backlog, 2, 0..4);
        let now = Instant::now();
        assert_eq!(take(&mut backlog, now), [(0, 0), (0, 1), (0, 2)]);
        assert_eq!(take(&mut backlog, now), [(2, 0), (2, 1), (2, 2)]);
        push(&mut backlog, 1, 0..1);
        assert_eq!(take(&mut backlog, now), [(0, 3), (1, 0), (2, 3)]);
    }

    #[test]
    fn a_held_partition_waits_and_the_others_go_on() {
        let mut backlog = backlog(&[0, 1]);
        push(&mut backlog, 0, 0..2);
        let now = Instant::now();
        let due = now + Duration::from_secs(1);
        let failed = backlog.take(now);
        backlog.give_back(failed);
        assert!(backlog.hold(Partition(0), Hold::Until(due), now));
        push(&mut backlog, 1, 0..2);
        assert_eq!(take(&mut backlog, now), [(1, 0), (1, 1)]);
        assert_eq!(take(&mut backlog, now), []);
        assert_eq!(backlog.next_wake(), Some(due));
        assert!(!backlog.hold(Partition(0), Hold::Until(due), due), "it was held before");
        assert_eq!(backlog.attempts(Partition(0)), 2);
        push(&mut backlog, 0, [2]);
        assert_eq!(take(&mut backlog, due), [(0, 0), (0, 1), (0, 2)]);
        assert_eq!(backlog.settled(Partition(0), due), Some(Duration::from_secs(1)));
        assert_eq!((backlog.attempts(Partition(0)), backlog.next_wake()), (0, None));
    }

    #[test]
    fn what_failed_together_is_tried_apart_until_it_is_settled() {
        let mut backlog = backlog(&[0, 1, 2]);
        (0..2).for_each(|partition| push(&mut backlog, partition, 0..1));
        let now = Instant::now();
        let failed = backlog.take(now);
        assert_eq!(failed.len(), 2);
        backlog.give_back_apart(failed);
        push(&mut backlog, 2, 0..1);
        assert_eq!(take(&mut backlog, now), [(2, 0)], "its turn, and nobody joins it");
        assert_eq!(take(&mut backlog, now), [(0, 0)]);
        backlog.settled(Partition(0), now);
        push(&mut backlog, 0, [1]);
        assert_eq!(take(&mut backlog, now), [(1, 0)]);
        backlog.settled(Partition(1), now);
        push(&mut backlog, 1, [1]);
        assert_eq!(take(&mut backlog, now), [(0, 1), (1, 1)], "together again");
    }

    #[test]
    fn what_waits_for_acceptance_waits_for_nothing_else() {
        let mut backlog = backlog(&[0]);
        push(&mut backlog, 0, 0..2);
        let now = Instant::now();
        backlog.hold(Partition(0), Hold::UntilAccepted, now);
        assert_eq!(take(&mut backlog, now + Duration::from_secs(3600)), []);
        assert_eq!(backlog.next_wake(), None);
        backlog.accept(now);
        assert_eq!(take(&mut backlog, now), [(0, 0), (0, 1)]);
    }

    #[test]
    fn a_revoked_partition_loses_its_records_and_starts_anew() {
        let mut backlog = backlog(&[0]);
        push(&mut backlog, 0, 5..7);
        backlog.hold(Partition(0), Hold::UntilAccepted, Instant::now());
        assert!(backlog.revoke(Partition(0)));
        assert!(!backlog.revoke(Partition(0)));
        push(&mut backlog, 0, 7..9);
        assert_eq!(take(&mut backlog, Instant::now()), []);
        backlog.assign(Partition(0));
        push(&mut backlog, 0, 5..6);
        assert_eq!(take(&mut backlog, Instant::now()), [(0, 5)]);
    }

    #[test]
    fn a_record_that_comes_twice_is_there_once() {
        let mut backlog = backlog(&[0]);
        push(&mut backlog, 0, [0, 1, 1, 0, 4]);
        assert_eq!(take(&mut backlog, Instant::now()), [(0, 0), (0, 1), (0, 4)]);
    }

    #[test]
    fn room_is_bounded_in_records_and_bytes_and_holds_do_not_count() {
        let mut backlog = backlog(&[0, 1]);
        push(&mut backlog, 0, 0..5);
        assert!(backlog.has_room());
        push(&mut backlog, 1, 0..1);
        assert!(!backlog.has_room(), "six records");
        backlog.hold(Partition(0), Hold::UntilAccepted, Instant::now());
        assert!(backlog.has_room());
        backlog.push(Record::new(Partition(1), Offset(1)).with_value(vec![0; 95]));
        assert!(!backlog.has_room(), "a hundred bytes");
        assert_eq!(take(&mut backlog, Instant::now()), [(1, 0), (1, 1)]);
        assert!(backlog.has_room());
    }
}
