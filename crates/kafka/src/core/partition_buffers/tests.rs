use super::*;

const LIMITS: Limits = Limits {
    waiting_records: 6,
    waiting_bytes: 100,
    partition_records: 6,
    partition_bytes: 100,
    batch_records: 3,
    batch_bytes: 1000,
};

fn of(partition: i32) -> TopicPartition {
    TopicPartition { source: Source::Topic, partition: Partition(partition) }
}

fn buffers(partitions: &[i32]) -> PartitionBuffers {
    let mut buffers = PartitionBuffers::new(LIMITS);
    partitions.iter().for_each(|partition| buffers.assign(of(*partition)));
    buffers
}

fn push(buffers: &mut PartitionBuffers, partition: i32, offsets: impl IntoIterator<Item = i64>) {
    for offset in offsets {
        buffers.push(Record::new(Partition(partition), Offset(offset)).with_value("12345"));
    }
}

/// The batch that is taken, as partitions and offsets.
fn take(buffers: &mut PartitionBuffers, now: Instant) -> Vec<(i32, i64)> {
    buffers.take(now).iter().map(|record| (record.partition.0, record.offset.0)).collect()
}

#[test]
fn a_batch_is_what_is_there_in_order_up_to_its_limit() {
    let mut buffers = buffers(&[0]);
    push(&mut buffers, 0, 0..5);
    let now = Instant::now();
    let mut batch = buffers.take(now);
    assert_eq!(batch.iter().map(|record| record.offset.0).collect::<Vec<_>>(), [0, 1, 2]);
    buffers.settled(of(0), now);
    buffers.requeue(batch.split_off(2));
    assert_eq!(take(&mut buffers, now), [(0, 2), (0, 3), (0, 4)]);
    assert_eq!(take(&mut buffers, now), []);
}

#[test]
fn partitions_share_a_batch_and_take_turns_in_being_first() {
    let mut buffers = buffers(&[0, 1, 2]);
    push(&mut buffers, 0, 0..4);
    push(&mut buffers, 2, 0..4);
    let now = Instant::now();
    assert_eq!(take(&mut buffers, now), [(0, 0), (0, 1), (0, 2)]);
    assert_eq!(take(&mut buffers, now), [(2, 0), (2, 1), (2, 2)]);
    push(&mut buffers, 1, 0..1);
    assert_eq!(take(&mut buffers, now), [(0, 3), (1, 0), (2, 3)]);
}

#[test]
fn a_paused_partition_waits_and_the_others_go_on() {
    let mut buffers = buffers(&[0, 1]);
    push(&mut buffers, 0, 0..2);
    let now = Instant::now();
    let due = now + Duration::from_secs(1);
    let failed = buffers.take(now);
    buffers.requeue(failed);
    assert!(buffers.pause(of(0), Pause::Until(due), now));
    push(&mut buffers, 1, 0..2);
    assert_eq!(take(&mut buffers, now), [(1, 0), (1, 1)]);
    assert_eq!(take(&mut buffers, now), []);
    assert_eq!(buffers.next_wake(), Some(due));
    assert!(!buffers.pause(of(0), Pause::Until(due), due), "it was paused before");
    assert_eq!(buffers.attempts(of(0)), 2);
    push(&mut buffers, 0, [2]);
    assert_eq!(take(&mut buffers, due), [(0, 0), (0, 1), (0, 2)]);
    assert_eq!(buffers.settled(of(0), due), Some(Duration::from_secs(1)));
    assert_eq!((buffers.attempts(of(0)), buffers.next_wake()), (0, None));
}

#[test]
fn what_failed_together_is_tried_apart_until_it_is_settled() {
    let mut buffers = buffers(&[0, 1, 2]);
    (0..2).for_each(|partition| push(&mut buffers, partition, 0..1));
    let now = Instant::now();
    let failed = buffers.take(now);
    assert_eq!(failed.len(), 2);
    buffers.requeue_isolated(failed);
    push(&mut buffers, 2, 0..1);
    assert_eq!(take(&mut buffers, now), [(2, 0)], "its turn, and nobody joins it");
    assert_eq!(take(&mut buffers, now), [(0, 0)]);
    buffers.settled(of(0), now);
    push(&mut buffers, 0, [1]);
    assert_eq!(take(&mut buffers, now), [(1, 0)]);
    buffers.settled(of(1), now);
    push(&mut buffers, 1, [1]);
    assert_eq!(take(&mut buffers, now), [(0, 1), (1, 1)], "together again");
}

#[test]
fn a_partition_that_is_paused_until_a_reset_waits_for_nothing_else() {
    let mut buffers = buffers(&[0]);
    push(&mut buffers, 0, 0..2);
    let now = Instant::now();
    buffers.pause(of(0), Pause::UntilReset, now);
    assert_eq!(take(&mut buffers, now + Duration::from_secs(3600)), []);
    assert_eq!(buffers.next_wake(), None);
    buffers.reset(now);
    assert_eq!(take(&mut buffers, now), [(0, 0), (0, 1)]);
}

#[test]
fn a_revoked_partition_loses_its_records_and_starts_anew() {
    let mut buffers = buffers(&[0]);
    push(&mut buffers, 0, 5..7);
    buffers.pause(of(0), Pause::UntilReset, Instant::now());
    assert!(buffers.revoke(of(0)));
    assert!(!buffers.revoke(of(0)));
    push(&mut buffers, 0, 7..9);
    assert_eq!(take(&mut buffers, Instant::now()), []);
    buffers.assign(of(0));
    push(&mut buffers, 0, 5..6);
    assert_eq!(take(&mut buffers, Instant::now()), [(0, 5)]);
}

#[test]
fn a_record_that_comes_twice_is_there_once() {
    let mut buffers = buffers(&[0]);
    push(&mut buffers, 0, [0, 1, 1, 0, 4]);
    assert_eq!(take(&mut buffers, Instant::now()), [(0, 0), (0, 1), (0, 4)]);
}

#[test]
fn room_is_bounded_in_records_and_bytes_and_pauses_do_not_count() {
    let mut buffers = buffers(&[0, 1]);
    push(&mut buffers, 0, 0..5);
    assert!(buffers.has_room());
    push(&mut buffers, 1, 0..1);
    assert!(!buffers.has_room(), "six records");
    buffers.pause(of(0), Pause::UntilReset, Instant::now());
    assert!(buffers.has_room());
    buffers.push(Record::new(Partition(1), Offset(1)).with_value(vec![0; 95]));
    assert!(!buffers.has_room(), "a hundred bytes");
    assert_eq!(take(&mut buffers, Instant::now()), [(1, 0), (1, 1)]);
    assert!(buffers.has_room());
}

#[test]
fn a_paused_partition_is_bounded_and_what_found_no_room_is_read_again_in_order() {
    let mut buffers = buffers(&[0]);
    push(&mut buffers, 0, 0..2);
    let now = Instant::now();
    buffers.pause(of(0), Pause::UntilReset, now);
    // The client goes on fetching, whatever it was told.
    push(&mut buffers, 0, 2..1000);
    assert_eq!(buffers.queues[&of(0)].records.len(), LIMITS.partition_records);
    assert_eq!(buffers.gaps(now), [], "there is no room yet");
    buffers.reset(now);
    assert_eq!(take(&mut buffers, now), [(0, 0), (0, 1), (0, 2)]);
    buffers.settled(of(0), now);
    assert_eq!(buffers.gaps(now), [(of(0), Offset(6))]);
    // What is still on its way from before does not come in front of what is missing.
    push(&mut buffers, 0, 1000..1010);
    buffers.gap_closed(of(0));
    push(&mut buffers, 0, 6..8);
    assert_eq!(take(&mut buffers, now), [(0, 3), (0, 4), (0, 5)]);
    assert_eq!(take(&mut buffers, now), [(0, 6), (0, 7)]);
}

#[test]
fn a_client_that_does_not_go_back_is_asked_again() {
    let mut buffers = buffers(&[0]);
    push(&mut buffers, 0, 0..7);
    let now = Instant::now();
    take(&mut buffers, now);
    assert_eq!(buffers.gaps(now), [(of(0), Offset(6))]);
    let due = now + Duration::from_secs(1);
    buffers.gap_stays(of(0), due);
    assert_eq!((buffers.gaps(now), buffers.next_wake()), (vec![], Some(due)));
    assert_eq!(buffers.gaps(due), [(of(0), Offset(6))]);
}

#[test]
fn what_is_paused_is_paused_until_it_is_settled() {
    let mut buffers = buffers(&[0, 1]);
    push(&mut buffers, 0, 0..6);
    assert_eq!(buffers.flow_changes(), [], "reading as a whole stops when all is full");
    let now = Instant::now();
    buffers.pause(of(0), Pause::UntilReset, now);
    assert_eq!(buffers.flow_changes(), [(of(0), Flow::Pause)]);
    assert_eq!(buffers.flow_changes(), []);
    buffers.settled(of(0), now);
    take(&mut buffers, now);
    assert_eq!(buffers.flow_changes(), [(of(0), Flow::Resume)]);
}

#[test]
fn a_partition_with_its_own_room_is_paused_while_that_is_full() {
    let mut buffers =
        PartitionBuffers::new(Limits { waiting_records: usize::MAX, waiting_bytes: usize::MAX, ..LIMITS });
    buffers.assign(of(0));
    buffers.assign(of(1));
    let now = Instant::now();
    let idle = |_| false;
    push(&mut buffers, 0, 0..3);
    assert_eq!(buffers.take_one(now, idle).len(), 3);
    push(&mut buffers, 0, 3..9);
    assert_eq!(buffers.flow_changes(), [(of(0), Flow::Pause)]);
    assert!(buffers.has_room(), "the others are read");
    push(&mut buffers, 1, 0..1);
    let busy = |partition| partition == Partition(0);
    assert_eq!(buffers.take_one(now, busy).len(), 1);
    assert_eq!(buffers.take_one(now, busy).len(), 0);
    assert_eq!(buffers.flow_changes(), []);
    assert_eq!(buffers.take_one(now, idle).len(), 3);
    assert_eq!(buffers.flow_changes(), [(of(0), Flow::Resume)]);
}

#[test]
fn a_batch_is_bounded_in_bytes_but_for_a_single_record() {
    let mut buffers = PartitionBuffers::new(Limits { batch_bytes: 12, partition_bytes: 1000, ..LIMITS });
    buffers.assign(of(0));
    push(&mut buffers, 0, 0..3);
    buffers.push(Record::new(Partition(0), Offset(3)).with_value(vec![0; 50]));
    let now = Instant::now();
    assert_eq!(take(&mut buffers, now), [(0, 0), (0, 1)]);
    assert_eq!(take(&mut buffers, now), [(0, 2)]);
    assert_eq!(take(&mut buffers, now), [(0, 3)]);
}

#[test]
fn the_retries_of_a_partition_are_a_line_of_their_own() {
    let mut buffers = buffers(&[0]);
    let retries = TopicPartition { source: Source::Retry, partition: Partition(0) };
    buffers.assign(retries);
    push(&mut buffers, 0, [71, 72]);
    buffers.push(Record::new(Partition(0), Offset(0)).from_source(Source::Retry));
    let now = Instant::now();
    let batch = buffers.take(now);
    assert_eq!(batch.iter().map(Record::source).collect::<Vec<_>>(), [Source::Topic, Source::Topic, Source::Retry]);
    buffers.requeue(batch);
    buffers.pause(retries, Pause::UntilReset, now);
    assert_eq!(take(&mut buffers, now), [(0, 71), (0, 72)]);
    assert_eq!(buffers.release_all(), [Partition(0)]);
}

#[test]
fn an_assignment_differs_from_the_next_one_of_the_same_partition() {
    let mut buffers = buffers(&[0]);
    let before = buffers.assignment(of(0));
    buffers.revoke(of(0));
    assert_eq!(buffers.assignment(of(0)), None);
    buffers.assign(of(0));
    assert_ne!(buffers.assignment(of(0)), before);
}
