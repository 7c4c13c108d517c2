//! Topics and committed offsets as a value: read from a broker, written into another one.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    ClientConfig, Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions, ConfigSource, NewTopic, ResourceSpecifier, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer},
    message::{Header, OwnedHeaders},
    producer::{FutureProducer, FutureRecord},
};
use serde::{Deserialize, Serialize};

use crate::topic_io;

/// How long one call to the broker may take.
const CALL_LIMIT: Duration = Duration::from_secs(20);

/// What a Kafka holds for its clients. Keys, values and headers are text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KafkaDump {
    /// The topics.
    pub topics: Vec<TopicDump>,
    /// The offsets that consumer groups have committed.
    pub committed: Vec<CommittedOffset>,
}

/// A topic with its records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicDump {
    /// Its name.
    pub name: String,
    /// What was set when it was created.
    pub settings: BTreeMap<String, String>,
    /// The records of each partition; the first one has offset 0.
    pub partitions: Vec<Vec<RecordDump>>,
}

/// A record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordDump {
    /// Its key.
    pub key: Option<String>,
    /// Its value; `None` is a tombstone.
    pub value: Option<String>,
    /// Its headers, in their order.
    pub headers: Vec<(String, String)>,
    /// When it was produced, in Unix milliseconds.
    pub timestamp: i64,
}

/// Where a consumer group goes on in a partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CommittedOffset {
    /// The group.
    pub group: String,
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next offset to be read.
    pub offset: i64,
}

impl KafkaDump {
    /// Reads `topics`, and what `groups` have committed in them.
    pub async fn take(bootstrap: &str, topics: &[&str], groups: &[&str]) -> Self {
        let mut dump = Self { topics: Vec::new(), committed: Vec::new() };
        for name in topics {
            let mut partitions: Vec<Vec<RecordDump>> =
                vec![Vec::new(); topic_io::partition_count(bootstrap, name).await];
            for record in topic_io::consume_all(bootstrap, name).await {
                let of_partition = &mut partitions[usize::try_from(record.partition).expect("a partition")];
                let offset = usize::try_from(record.offset).expect("an offset");
                assert_eq!(offset, of_partition.len(), "{name} has lost records of partition {}", record.partition);
                of_partition.push(RecordDump::of(record));
            }
            dump.topics.push(TopicDump {
                name: (*name).to_owned(),
                settings: settings(bootstrap, name).await,
                partitions,
            });
            for group in groups {
                for (partition, offset) in topic_io::committed(bootstrap, name, group).await {
                    let (group, topic) = ((*group).to_owned(), (*name).to_owned());
                    dump.committed.push(CommittedOffset { group, topic, partition, offset });
                }
            }
        }
        dump.committed.sort();
        dump
    }

    /// Creates the topics and writes everything into a broker that has none of them. Records get the
    /// partitions and offsets that they had.
    pub async fn restore(&self, bootstrap: &str) {
        let admin: AdminClient<DefaultClientContext> = client(bootstrap).create().expect("an admin client");
        let producer: FutureProducer =
            client(bootstrap).set("enable.idempotence", "true").set("linger.ms", "0").create().expect("a producer");
        for topic in &self.topics {
            topic.create(&admin).await;
            topic.fill(&producer).await;
        }
        let (committed, bootstrap) = (self.committed.clone(), bootstrap.to_owned());
        let committing = tokio::task::spawn_blocking(move || {
            for CommittedOffset { group, topic, partition, offset } in committed {
                let consumer: BaseConsumer = client(&bootstrap).set("group.id", &group).create().expect("a consumer");
                let mut place = TopicPartitionList::new();
                place.add_partition_offset(&topic, partition, Offset::Offset(offset)).expect("a place");
                consumer.commit(&place, CommitMode::Sync).expect("a commit");
            }
        });
        committing.await.expect("committed");
    }
}

impl TopicDump {
    async fn create(&self, admin: &AdminClient<DefaultClientContext>) {
        let partitions = i32::try_from(self.partitions.len()).expect("few partitions");
        let new = NewTopic::new(&self.name, partitions, TopicReplication::Fixed(1));
        let new = self.settings.iter().fold(new, |new, (key, value)| new.set(key, value));
        let created = admin.create_topics([&new], &AdminOptions::new().operation_timeout(Some(CALL_LIMIT))).await;
        for result in created.expect("topics are created") {
            result.unwrap_or_else(|(topic, error)| panic!("create {topic}: {error}"));
        }
    }

    async fn fill(&self, producer: &FutureProducer) {
        for (partition, records) in self.partitions.iter().enumerate() {
            for (place, record) in records.iter().enumerate() {
                let written = record.produce(producer, &self.name, i32::try_from(partition).expect("few")).await;
                assert_eq!(written, i64::try_from(place).expect("few"), "the offset in {} {partition}", self.name);
            }
        }
    }
}

impl RecordDump {
    fn of(record: topic_io::Record) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Self {
            key: record.key.map(text),
            value: record.value.map(text),
            headers: record.headers.into_iter().map(|(name, value)| (name, text(value))).collect(),
            timestamp: record.timestamp,
        }
    }

    /// Writes it; its offset.
    async fn produce(&self, producer: &FutureProducer, topic: &str, partition: i32) -> i64 {
        let headers = self.headers.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
            headers.insert(Header { key, value: Some(value.as_str()) })
        });
        let mut record = FutureRecord::<str, str>::to(topic).partition(partition).timestamp(self.timestamp);
        record.key = self.key.as_deref();
        record.payload = self.value.as_deref();
        let sent = producer.send(record.headers(headers), CALL_LIMIT).await;
        sent.map_err(|(error, _)| error).expect("an acknowledgement").offset
    }
}

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap);
    config
}

/// What was set for a topic when it was created, without the broker's own defaults.
async fn settings(bootstrap: &str, topic: &str) -> BTreeMap<String, String> {
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create().expect("an admin client");
    let asked = [ResourceSpecifier::Topic(topic)];
    let answers = admin.describe_configs(&asked, &AdminOptions::new().request_timeout(Some(CALL_LIMIT))).await;
    let answer = answers.expect("an answer").pop().expect("one topic").expect("its settings");
    let own = answer.entries.into_iter().filter(|entry| entry.source == ConfigSource::DynamicTopic);
    own.filter_map(|entry| Some((entry.name, entry.value?))).collect()
}
