//! Records written and read past the code under test.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    message::{BorrowedMessage, Header, Headers, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};

/// How long one call to the broker may take.
const CALL_LIMIT: Duration = Duration::from_secs(20);
/// How long a poll waits, so that a deadline is seen in time.
const POLL: Duration = Duration::from_millis(50);

/// A record as it lies on its topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The partition it lies on.
    pub partition: i32,
    /// Its place there.
    pub offset: i64,
    /// The key.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers, in their order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// When it was produced, in Unix milliseconds; 0 when the record does not say it.
    pub timestamp: i64,
}

/// Whether a broker that has just come back may answer otherwise in a moment.
fn may_pass(error: &KafkaError) -> bool {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    let code = error.rdkafka_error_code();
    matches!(code, Some(NotCoordinator | CoordinatorNotAvailable | CoordinatorLoadInProgress))
}

impl Record {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }

    /// The headers as text, where each is there once.
    #[must_use]
    pub fn headers_as_text(&self) -> HashMap<String, String> {
        let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
        self.headers.iter().map(|(name, value)| (name.clone(), text(value))).collect()
    }

    fn of(message: &BorrowedMessage<'_>) -> Self {
        let headers = message.headers().into_iter().flat_map(Headers::iter);
        let headers = headers.map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec()));
        Self {
            partition: message.partition(),
            offset: message.offset(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: headers.collect(),
            timestamp: message.timestamp().to_millis().unwrap_or_default(),
        }
    }
}

/// Writes one record and waits for its acknowledgement.
pub async fn produce(
    bootstrap: &str,
    topic: &str,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
    headers: &[(&str, &[u8])],
) {
    let producer: FutureProducer = client(bootstrap).set("acks", "all").create().expect("a producer");
    let headers = headers
        .iter()
        .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(*value) }));
    let mut record = FutureRecord::<[u8], [u8]>::to(topic).headers(headers);
    record.key = key;
    record.payload = value;
    producer.send(record, CALL_LIMIT).await.map_err(|(error, _)| error).expect("an acknowledgement");
}

/// Creates one topic alone.
pub async fn create_topic(bootstrap: &str, topic: &str, partitions: i32) {
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create().expect("a client");
    let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
    let made = admin.create_topics([&new], &AdminOptions::new()).await.expect("an answer");
    made[0].as_ref().expect("a topic");
}

/// Every record that a topic holds now, partition by partition.
pub async fn consume_all(bootstrap: &str, topic: &str) -> Vec<Record> {
    let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
    let reading = tokio::task::spawn_blocking(move || {
        let reader = Reader::of(&bootstrap, &topic);
        let mut ends: HashMap<i32, i64> = reader.ends().into_iter().filter(|(_, end)| *end > 0).collect();
        let (mut records, mut last) = (Vec::new(), Instant::now());
        while !ends.is_empty() {
            assert!(last.elapsed() < CALL_LIMIT, "{} records of {topic}, and no more in {CALL_LIMIT:?}", records.len());
            if let Some(record) = reader.next() {
                last = Instant::now();
                if ends.get(&record.partition).is_some_and(|end| record.offset + 1 >= *end) {
                    ends.remove(&record.partition);
                }
                records.push(record);
            }
        }
        records
    });
    let mut records = reading.await.expect("read");
    records.sort_by_key(|record| (record.partition, record.offset));
    records
}

/// How many records of `topic` the group has not committed yet.
pub async fn behind(bootstrap: &str, topic: &str, group: &str) -> i64 {
    let (bootstrap, topic, group) = (bootstrap.to_owned(), topic.to_owned(), group.to_owned());
    let asked = tokio::task::spawn_blocking(move || {
        let reader = Reader::in_group(&bootstrap, &topic, &group);
        let committed = reader.committed();
        let of = |partition| committed.get(&partition).copied().unwrap_or_default();
        reader.ends().into_iter().map(|(partition, end)| end - of(partition)).sum()
    });
    asked.await.expect("an answer")
}

/// The offsets that the group has committed, of the partitions in which it has any.
pub async fn committed(bootstrap: &str, topic: &str, group: &str) -> BTreeMap<i32, i64> {
    let (bootstrap, topic, group) = (bootstrap.to_owned(), topic.to_owned(), group.to_owned());
    let asked = tokio::task::spawn_blocking(move || Reader::in_group(&bootstrap, &topic, &group).committed());
    asked.await.expect("an answer")
}

/// How many partitions a topic has.
pub async fn partition_count(bootstrap: &str, topic: &str) -> usize {
    let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
    let asked = tokio::task::spawn_blocking(move || Reader::of(&bootstrap, &topic).partitions.len());
    asked.await.expect("an answer")
}

/// Sets the group, which must have no members, back to the beginning of `topic`.
pub async fn rewind(bootstrap: &str, topic: &str, group: &str) {
    let (bootstrap, topic, group) = (bootstrap.to_owned(), topic.to_owned(), group.to_owned());
    let done = tokio::task::spawn_blocking(move || {
        let reader = Reader::in_group(&bootstrap, &topic, &group);
        let beginning = reader.every_partition_at(Offset::Offset(0));
        reader.consumer.commit(&beginning, CommitMode::Sync).expect("a commit");
    });
    done.await.expect("a commit");
}

/// Reads a topic from its beginning until `is_enough` of what was read, and fails the test when that
/// is not so within `limit`. In the order of each partition.
pub async fn consume_until(
    bootstrap: &str,
    topic: &str,
    limit: Duration,
    is_enough: impl Fn(&[Record]) -> bool + Send + 'static,
) -> Vec<Record> {
    let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
    let reading = tokio::task::spawn_blocking(move || Reader::of(&bootstrap, &topic).read(limit, is_enough));
    reading.await.expect("enough records")
}

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("reconnect.backoff.max.ms", "500");
    config
}

/// A consumer that belongs to no group.
struct Reader {
    consumer: BaseConsumer,
    topic: String,
    partitions: Vec<i32>,
}

/// The topic's partitions, once it is there: the service that makes it may still be about to.
fn partitions_of(consumer: &BaseConsumer, topic: &str) -> Vec<i32> {
    let begun = Instant::now();
    loop {
        let metadata = consumer.fetch_metadata(Some(topic), CALL_LIMIT).expect("metadata");
        let partitions: Vec<i32> = metadata.topics()[0].partitions().iter().map(|partition| partition.id()).collect();
        if !partitions.is_empty() {
            return partitions;
        }
        assert!(begun.elapsed() < CALL_LIMIT, "there is no topic {topic} after {CALL_LIMIT:?}");
        std::thread::sleep(POLL);
    }
}

impl Reader {
    /// A consumer that begins at the beginning.
    fn of(bootstrap: &str, topic: &str) -> Self {
        let reader = Self::in_group(bootstrap, topic, "testkit");
        reader.consumer.assign(&reader.every_partition_at(Offset::Beginning)).expect("assigned");
        reader
    }

    /// A client that knows of the group, and takes no part in it.
    fn in_group(bootstrap: &str, topic: &str, group: &str) -> Self {
        let config = client(bootstrap).set("group.id", group).set("enable.auto.commit", "false").to_owned();
        let consumer: BaseConsumer = config.create().expect("a consumer");
        let partitions = partitions_of(&consumer, topic);
        Self { consumer, topic: topic.to_owned(), partitions }
    }

    fn every_partition_at(&self, offset: Offset) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for partition in &self.partitions {
            list.add_partition_offset(&self.topic, *partition, offset).expect("a place");
        }
        list
    }

    /// What the group has committed, of the partitions in which it has committed anything.
    fn committed(&self) -> BTreeMap<i32, i64> {
        let mut wanted = TopicPartitionList::new();
        for partition in &self.partitions {
            wanted.add_partition(&self.topic, *partition);
        }
        // A broker that was frozen or has just started is not the group's coordinator for a moment.
        let deadline = Instant::now() + CALL_LIMIT;
        let committed = loop {
            match self.consumer.committed_offsets(wanted.clone(), CALL_LIMIT) {
                Err(error) if may_pass(&error) && Instant::now() < deadline => std::thread::sleep(POLL),
                answer => break answer.expect("committed offsets"),
            }
        };
        let of = |partition: i32| match committed.find_partition(&self.topic, partition).map(|found| found.offset()) {
            Some(Offset::Offset(offset)) => Some((partition, offset)),
            _ => None,
        };
        self.partitions.iter().filter_map(|partition| of(*partition)).collect()
    }

    /// Where each partition ends now.
    fn ends(&self) -> Vec<(i32, i64)> {
        self.partitions.iter().map(|partition| (*partition, self.end(*partition))).collect()
    }

    fn end(&self, partition: i32) -> i64 {
        let begun = Instant::now();
        loop {
            match self.consumer.fetch_watermarks(&self.topic, partition, CALL_LIMIT) {
                Ok((_, end)) => return end,
                // A broker under load may not know at once that it leads a new partition.
                Err(error) => assert!(begun.elapsed() < CALL_LIMIT, "read the end of {}: {error}", self.topic),
            }
            std::thread::sleep(POLL);
        }
    }

    /// The next record, if one comes soon.
    fn next(&self) -> Option<Record> {
        // The broker may be away in the middle of a test; the callers' deadlines end this.
        self.consumer.poll(POLL)?.ok().map(|message| Record::of(&message))
    }

    fn read(&self, limit: Duration, is_enough: impl Fn(&[Record]) -> bool) -> Vec<Record> {
        let (begun, mut records) = (Instant::now(), Vec::new());
        while !is_enough(&records) {
            assert!(begun.elapsed() < limit, "read {} records of {} in {limit:?}", records.len(), self.topic);
            records.extend(self.next());
        }
        records
    }
}
