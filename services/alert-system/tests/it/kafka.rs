//! What a test wants to know of Kafka.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    consumer::{BaseConsumer, CommitMode, Consumer},
    message::{Headers, Message, OwnedMessage},
};

const CALL_LIMIT: Duration = Duration::from_secs(20);

/// A record with what it carries as text.
#[derive(Clone, Debug)]
pub struct Found {
    pub key: Option<String>,
    pub value: Option<Vec<u8>>,
    pub headers: HashMap<String, String>,
}

fn client(bootstrap: &str, group: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("auto.offset.reset", "earliest")
        .create()
        .expect("a Kafka client")
}

fn partitions(client: &BaseConsumer, topic: &str) -> Vec<i32> {
    let metadata = client.fetch_metadata(Some(topic), CALL_LIMIT).expect("metadata");
    metadata.topics()[0].partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect()
}

fn ends(client: &BaseConsumer, topic: &str) -> Vec<(i32, i64)> {
    partitions(client, topic).into_iter().map(|partition| (partition, end(client, topic, partition))).collect()
}

/// A broker under load may not know at once that it leads a new partition.
fn end(client: &BaseConsumer, topic: &str, partition: i32) -> i64 {
    let begun = Instant::now();
    loop {
        match client.fetch_watermarks(topic, partition, CALL_LIMIT) {
            Ok((_, end)) => return end,
            Err(error) => assert!(begun.elapsed() < CALL_LIMIT, "read the end of {topic}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Everything that is in a topic now.
pub async fn everything(bootstrap: &str, topic: &str) -> Vec<Found> {
    let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
    tokio::task::spawn_blocking(move || read(&bootstrap, &topic)).await.expect("a reader")
}

fn read(bootstrap: &str, topic: &str) -> Vec<Found> {
    let client = client(bootstrap, "reader of a test");
    let ends: Vec<_> = ends(&client, topic).into_iter().filter(|(_, end)| *end > 0).collect();
    let mut from = TopicPartitionList::new();
    for (partition, _) in &ends {
        from.add_partition_offset(topic, *partition, Offset::Beginning).expect("a partition");
    }
    client.assign(&from).expect("an assignment");
    let expected: i64 = ends.iter().map(|(_, end)| end).sum();
    let mut found = Vec::new();
    let begun = Instant::now();
    while found.len() < usize::try_from(expected).unwrap() {
        assert!(begun.elapsed() < 3 * CALL_LIMIT, "read {topic}: {} of {expected} records in time", found.len());
        // An error is what the client copes with by itself.
        if let Some(Ok(message)) = client.poll(Duration::from_millis(100)) {
            found.push(as_text(&message.detach()));
        }
    }
    found
}

fn as_text(message: &OwnedMessage) -> Found {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers = message.headers().map(|headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.map(text).unwrap_or_default())).collect()
    });
    Found {
        key: message.key().map(text),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
    }
}

/// How many records of `topic` the group has not committed yet.
pub async fn behind(bootstrap: &str, topic: &str, group: &str) -> i64 {
    let (bootstrap, topic, group) = (bootstrap.to_owned(), topic.to_owned(), group.to_owned());
    let asked = tokio::task::spawn_blocking(move || {
        let client = client(&bootstrap, &group);
        let ends = ends(&client, &topic);
        let mut wanted = TopicPartitionList::new();
        for (partition, _) in &ends {
            wanted.add_partition(&topic, *partition);
        }
        let committed = client.committed_offsets(wanted, CALL_LIMIT).expect("committed offsets");
        let of = |partition: i32| match committed.find_partition(&topic, partition).map(|found| found.offset()) {
            Some(Offset::Offset(offset)) => offset,
            _ => 0,
        };
        ends.into_iter().map(|(partition, end)| end - of(partition)).sum()
    });
    asked.await.expect("an answer")
}

/// Sets the group, which must have no members, back to the beginning of `topic`.
pub async fn rewind(bootstrap: &str, topic: &str, group: &str) {
    let (bootstrap, topic, group) = (bootstrap.to_owned(), topic.to_owned(), group.to_owned());
    let done = tokio::task::spawn_blocking(move || {
        let client = client(&bootstrap, &group);
        let mut beginning = TopicPartitionList::new();
        for partition in partitions(&client, &topic) {
            beginning.add_partition_offset(&topic, partition, Offset::Offset(0)).expect("a partition");
        }
        client.commit(&beginning, CommitMode::Sync).expect("a commit");
    });
    done.await.expect("a commit");
}
