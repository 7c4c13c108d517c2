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

fn backlog(partitions: &[i32]) -> Backlog {
    let mut backlog = Backlog::new(LIMITS);
    partitions.iter().for_each(|partition| backlog.assign(of(*partition)));
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
    backlog.settled(of(0), now);
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
    assert!(backlog.hold(of(0), Hold::Until(due), now));
    push(&mut backlog, 1, 0..2);
    assert_eq!(take(&mut backlog, now), [(1, 0), (1, 1)]);
    assert_eq!(take(&mut backlog, now), []);
    assert_eq!(backlog.next_wake(), Some(due));
    assert!(!backlog.hold(of(0), Hold::Until(due), due), "it was held before");
    assert_eq!(backlog.attempts(of(0)), 2);
    push(&mut backlog, 0, [2]);
    assert_eq!(take(&mut backlog, due), [(0, 0), (0, 1), (0, 2)]);
    assert_eq!(backlog.settled(of(0), due), Some(Duration::from_secs(1)));
    assert_eq!((backlog.attempts(of(0)), backlog.next_wake()), (0, None));
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
    backlog.settled(of(0), now);
    push(&mut backlog, 0, [1]);
    assert_eq!(take(&mut backlog, now), [(1, 0)]);
    backlog.settled(of(1), now);
    push(&mut backlog, 1, [1]);
    assert_eq!(take(&mut backlog, now), [(0, 1), (1, 1)], "together again");
}

#[test]
fn what_waits_for_acceptance_waits_for_nothing_else() {
    let mut backlog = backlog(&[0]);
    push(&mut backlog, 0, 0..2);
    let now = Instant::now();
    backlog.hold(of(0), Hold::UntilAccepted, now);
    assert_eq!(take(&mut backlog, now + Duration::from_secs(3600)), []);
    assert_eq!(backlog.next_wake(), None);
    backlog.accept(now);
    assert_eq!(take(&mut backlog, now), [(0, 0), (0, 1)]);
}

#[test]
fn a_revoked_partition_loses_its_records_and_starts_anew() {
    let mut backlog = backlog(&[0]);
    push(&mut backlog, 0, 5..7);
    backlog.hold(of(0), Hold::UntilAccepted, Instant::now());
    assert!(backlog.revoke(of(0)));
    assert!(!backlog.revoke(of(0)));
    push(&mut backlog, 0, 7..9);
    assert_eq!(take(&mut backlog, Instant::now()), []);
    backlog.assign(of(0));
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
    backlog.hold(of(0), Hold::UntilAccepted, Instant::now());
    assert!(backlog.has_room());
    backlog.push(Record::new(Partition(1), Offset(1)).with_value(vec![0; 95]));
    assert!(!backlog.has_room(), "a hundred bytes");
    assert_eq!(take(&mut backlog, Instant::now()), [(1, 0), (1, 1)]);
    assert!(backlog.has_room());
}

#[test]
fn a_held_partition_is_bounded_and_what_found_no_room_is_read_again_in_order() {
    let mut backlog = backlog(&[0]);
    push(&mut backlog, 0, 0..2);
    let now = Instant::now();
    backlog.hold(of(0), Hold::UntilAccepted, now);
    // The client goes on fetching, whatever it was told.
    push(&mut backlog, 0, 2..1000);
    assert_eq!(backlog.lanes[&of(0)].records.len(), LIMITS.partition_records);
    assert_eq!(backlog.gaps(now), [], "there is no room yet");
    backlog.accept(now);
    assert_eq!(take(&mut backlog, now), [(0, 0), (0, 1), (0, 2)]);
    backlog.settled(of(0), now);
    assert_eq!(backlog.gaps(now), [(of(0), Offset(6))]);
    // What is still on its way from before does not come in front of what is missing.
    push(&mut backlog, 0, 1000..1010);
    backlog.gap_closed(of(0));
    push(&mut backlog, 0, 6..8);
    assert_eq!(take(&mut backlog, now), [(0, 3), (0, 4), (0, 5)]);
    assert_eq!(take(&mut backlog, now), [(0, 6), (0, 7)]);
}

#[test]
fn a_client_that_does_not_go_back_is_asked_again() {
    let mut backlog = backlog(&[0]);
    push(&mut backlog, 0, 0..7);
    let now = Instant::now();
    take(&mut backlog, now);
    assert_eq!(backlog.gaps(now), [(of(0), Offset(6))]);
    let due = now + Duration::from_secs(1);
    backlog.gap_stays(of(0), due);
    assert_eq!((backlog.gaps(now), backlog.next_wake()), (vec![], Some(due)));
    assert_eq!(backlog.gaps(due), [(of(0), Offset(6))]);
}

#[test]
fn what_is_held_is_paused_until_it_is_settled() {
    let mut backlog = backlog(&[0, 1]);
    push(&mut backlog, 0, 0..6);
    assert_eq!(backlog.flow_changes(), [], "reading as a whole stops when all is full");
    let now = Instant::now();
    backlog.hold(of(0), Hold::UntilAccepted, now);
    assert_eq!(backlog.flow_changes(), [(of(0), Flow::Pause)]);
    assert_eq!(backlog.flow_changes(), []);
    backlog.settled(of(0), now);
    take(&mut backlog, now);
    assert_eq!(backlog.flow_changes(), [(of(0), Flow::Resume)]);
}

#[test]
fn a_partition_with_its_own_room_is_paused_while_that_is_full() {
    let mut backlog = Backlog::new(Limits { waiting_records: usize::MAX, waiting_bytes: usize::MAX, ..LIMITS });
    backlog.assign(of(0));
    backlog.assign(of(1));
    let now = Instant::now();
    let idle = |_| false;
    push(&mut backlog, 0, 0..3);
    assert_eq!(backlog.take_one(now, idle).len(), 3);
    push(&mut backlog, 0, 3..9);
    assert_eq!(backlog.flow_changes(), [(of(0), Flow::Pause)]);
    assert!(backlog.has_room(), "the others are read");
    push(&mut backlog, 1, 0..1);
    let busy = |partition| partition == Partition(0);
    assert_eq!(backlog.take_one(now, busy).len(), 1);
    assert_eq!(backlog.take_one(now, busy).len(), 0);
    assert_eq!(backlog.flow_changes(), []);
    assert_eq!(backlog.take_one(now, idle).len(), 3);
    assert_eq!(backlog.flow_changes(), [(of(0), Flow::Resume)]);
}

#[test]
fn a_batch_is_bounded_in_bytes_but_for_a_single_record() {
    let mut backlog = Backlog::new(Limits { batch_bytes: 12, partition_bytes: 1000, ..LIMITS });
    backlog.assign(of(0));
    push(&mut backlog, 0, 0..3);
    backlog.push(Record::new(Partition(0), Offset(3)).with_value(vec![0; 50]));
    let now = Instant::now();
    assert_eq!(take(&mut backlog, now), [(0, 0), (0, 1)]);
    assert_eq!(take(&mut backlog, now), [(0, 2)]);
    assert_eq!(take(&mut backlog, now), [(0, 3)]);
}

#[test]
fn the_retries_of_a_partition_are_a_line_of_their_own() {
    let mut backlog = backlog(&[0]);
    let retries = TopicPartition { source: Source::Retry, partition: Partition(0) };
    backlog.assign(retries);
    push(&mut backlog, 0, [71, 72]);
    backlog.push(Record::new(Partition(0), Offset(0)).from_source(Source::Retry));
    let now = Instant::now();
    let batch = backlog.take(now);
    assert_eq!(batch.iter().map(Record::source).collect::<Vec<_>>(), [Source::Topic, Source::Topic, Source::Retry]);
    backlog.give_back(batch);
    backlog.hold(retries, Hold::UntilAccepted, now);
    assert_eq!(take(&mut backlog, now), [(0, 71), (0, 72)]);
    assert_eq!(backlog.give_all_up(), [Partition(0)]);
}

#[test]
fn an_assignment_differs_from_the_next_one_of_the_same_partition() {
    let mut backlog = backlog(&[0]);
    let before = backlog.assignment(of(0));
    backlog.revoke(of(0));
    assert_eq!(backlog.assignment(of(0)), None);
    backlog.assign(of(0));
    assert_ne!(backlog.assignment(of(0)), before);
}
