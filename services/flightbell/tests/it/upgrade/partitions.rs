//! A dump's records in more partitions: as if its topics had had so many from the beginning.

use std::collections::BTreeMap;

use testkit::{CommittedOffset, KafkaDump, RecordDump};

/// Topics whose records point at each other by partition and offset.
const DEAD_LETTERS: &str = ".dlq";

/// Gives each topic `count` partitions, and each record the one that the producer would have chosen by its key. What a
/// group has read stays before what it has not. Answers whether any record has another place now.
pub fn spread(dump: &mut KafkaDump, count: usize) -> bool {
    let mut has_moved = false;
    for topic in &mut dump.topics {
        let before = topic.partitions.len();
        assert_eq!(count % before, 0, "the keys of one partition would not stay together");
        if count == before {
            continue;
        }
        if topic.name.ends_with(DEAD_LETTERS) {
            topic.partitions.resize(count, Vec::new());
            continue;
        }
        has_moved = true;
        let (read, unread) = split(topic.partitions.drain(..).collect(), &topic.name, &dump.committed);
        topic.partitions = vec![Vec::new(); count];
        let put = |partitions: &mut Vec<Vec<RecordDump>>, records: Vec<(usize, RecordDump)>| {
            records.into_iter().for_each(|(old, record)| partitions[place(&record, old, before, count)].push(record));
        };
        put(&mut topic.partitions, read);
        let groups: BTreeMap<_, ()> = dump
            .committed
            .iter()
            .filter(|place| place.topic == topic.name)
            .map(|place| (place.group.clone(), ()))
            .collect();
        dump.committed.retain(|place| place.topic != topic.name);
        for (group, ()) in groups {
            let committed = topic.partitions.iter().enumerate().filter(|(_, read)| !read.is_empty());
            dump.committed.extend(committed.map(|(partition, read)| CommittedOffset {
                group: group.clone(),
                topic: topic.name.clone(),
                partition: i32::try_from(partition).expect("few"),
                offset: i64::try_from(read.len()).expect("few"),
            }));
        }
        put(&mut topic.partitions, unread);
    }
    has_moved
}

type Placed = Vec<(usize, RecordDump)>;

/// The records of a topic with their partitions: those that its one group has read, and the others.
fn split(partitions: Vec<Vec<RecordDump>>, topic: &str, committed: &[CommittedOffset]) -> (Placed, Placed) {
    let (mut read, mut unread) = (Vec::new(), Vec::new());
    for (partition, mut records) in partitions.into_iter().enumerate() {
        let is_here =
            |place: &&CommittedOffset| place.topic == topic && usize::try_from(place.partition) == Ok(partition);
        let offset = committed.iter().find(is_here).map_or(0, |place| usize::try_from(place.offset).expect("few"));
        unread.extend(records.split_off(offset).into_iter().map(|record| (partition, record)));
        read.extend(records.into_iter().map(|record| (partition, record)));
    }
    (read, unread)
}

/// The new partition of a record that was in `old` of `before`. What was put there by hand, past its key, stays.
fn place(record: &RecordDump, old: usize, before: usize, count: usize) -> usize {
    let hash = record.key.as_deref().map(|key| usize::try_from(murmur2(key.as_bytes())).expect("small"));
    hash.filter(|hash| hash % before == old).map_or(old, |hash| hash % count)
}

/// The hash by which Java's producer, and ours, chooses a partition.
fn murmur2(key: &[u8]) -> u32 {
    const FACTOR: u32 = 0x5bd1_e995;
    let length = u32::try_from(key.len()).expect("short");
    let (words, rest) = key.as_chunks::<4>();
    let mut hash = words.iter().fold(0x9747_b28c ^ length, |hash, word| {
        let word = u32::from_le_bytes(*word).wrapping_mul(FACTOR);
        hash.wrapping_mul(FACTOR) ^ (word ^ (word >> 24)).wrapping_mul(FACTOR)
    });
    if !rest.is_empty() {
        let rest = rest.iter().rev().fold(0, |rest, byte| (rest << 8) | u32::from(*byte));
        hash = (hash ^ rest).wrapping_mul(FACTOR);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(FACTOR);
    (hash ^ (hash >> 15)) & 0x7fff_ffff
}
