//! Records written and read past the code under test.

use std::time::{Duration, Instant};

use rdkafka::{
    ClientConfig, Message, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
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
}

impl Record {
    /// The value of a header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
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

/// Every record that a topic holds now, partition by partition.
pub async fn consume_all(bootstrap: &str, topic: &str) -> Vec<Record> {
    let (bootstrap, topic) = (bootstrap.to_owned(), topic.to_owned());
    let reading = tokio::task::spawn_blocking(move || {
        let reader = Reader::of(&bootstrap, &topic);
        let ends: Vec<i64> = reader.partitions.iter().map(|partition| reader.end(*partition)).collect();
        let count = |records: &[Record]| {
            let left = ends.iter().zip(&reader.partitions).filter(|(end, partition)| {
                let last =
                    records.iter().filter(|record| record.partition == **partition).map(|record| record.offset).max();
                last.map_or(**end > reader.begin(**partition), |last| last + 1 < **end)
            });
            left.count()
        };
        reader.read(CALL_LIMIT, |records| count(records) == 0)
    });
    let mut records = reading.await.expect("read");
    records.sort_by_key(|record| (record.partition, record.offset));
    records
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

impl Reader {
    fn of(bootstrap: &str, topic: &str) -> Self {
        let consumer: BaseConsumer = client(bootstrap).set("group.id", "testkit").create().expect("a consumer");
        let metadata = consumer.fetch_metadata(Some(topic), CALL_LIMIT).expect("metadata");
        let partitions: Vec<i32> = metadata.topics()[0].partitions().iter().map(|partition| partition.id()).collect();
        assert!(!partitions.is_empty(), "there is no topic {topic}");
        let mut from = TopicPartitionList::new();
        for partition in &partitions {
            from.add_partition_offset(topic, *partition, Offset::Beginning).expect("a place");
        }
        consumer.assign(&from).expect("assigned");
        Self { consumer, topic: topic.to_owned(), partitions }
    }

    fn begin(&self, partition: i32) -> i64 {
        self.consumer.fetch_watermarks(&self.topic, partition, CALL_LIMIT).expect("watermarks").0
    }

    fn end(&self, partition: i32) -> i64 {
        self.consumer.fetch_watermarks(&self.topic, partition, CALL_LIMIT).expect("watermarks").1
    }

    fn read(&self, limit: Duration, is_enough: impl Fn(&[Record]) -> bool) -> Vec<Record> {
        let (begun, mut records) = (Instant::now(), Vec::new());
        while !is_enough(&records) {
            assert!(begun.elapsed() < limit, "read {} records of {} in {limit:?}", records.len(), self.topic);
            // The broker may be away in the middle of a test; the deadline ends this.
            if let Some(Ok(message)) = self.consumer.poll(POLL) {
                records.push(Record::of(&message));
            }
        }
        records
    }
}
