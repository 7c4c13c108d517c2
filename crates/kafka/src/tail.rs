//! A reader from now on, without a group.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use chrono::{DateTime, Utc};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{Consumer as _, StreamConsumer},
    error::KafkaResult,
};

use crate::{
    client::{ClientLog, Plain},
    closing::{SelfClosing, self_closing},
    config::KafkaConfig,
    record::{Partition, Record, Source},
};

/// How long each of Kafka's answers may take before reading begins; a stop waits for it.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Reads a topic from a moment on, on behalf of no group: every tail sees every record, nothing is
/// committed, and nothing is settled. For what must not be missed there is a [`Consumer`](crate::Consumer).
/// While Kafka is away it keeps its place.
pub struct Tail {
    client: SelfClosing<StreamConsumer<Plain>>,
}

impl Tail {
    /// Reads every partition that `topic` has now from the first record of `since` or later. `group` is only
    /// named to Kafka, which may let this client use no other name: it is not joined.
    ///
    /// # Errors
    /// When there is no such topic, or Kafka does not say where its records of then are.
    pub async fn open(config: &KafkaConfig, topic: &str, group: &str, since: DateTime<Utc>) -> anyhow::Result<Self> {
        Self::at(config, topic, None, group, since).await
    }

    /// The same for one partition.
    ///
    /// # Errors
    /// As [`Tail::open`].
    pub(crate) async fn of_partition(
        config: &KafkaConfig,
        (topic, partition): (&str, Partition),
        group: &str,
        since: DateTime<Utc>,
    ) -> anyhow::Result<Self> {
        Self::at(config, topic, Some(partition), group, since).await
    }

    async fn at(
        config: &KafkaConfig,
        topic: &str,
        partition: Option<Partition>,
        group: &str,
        since: DateTime<Utc>,
    ) -> anyhow::Result<Self> {
        let client: StreamConsumer<Plain> =
            config.tail(group).create_with_context(Plain(ClientLog::of("tail"))).context("create the Kafka client")?;
        let client = self_closing(client);
        let name = topic.to_owned();
        let opening = tokio::task::spawn_blocking(move || {
            let partitions = match partition {
                Some(partition) => vec![partition.0],
                None => partitions(&client, &name)?,
            };
            let assignment = places(&client, &name, &partitions, since).context("ask where its records begin")?;
            client.assign(&assignment)?;
            Ok::<_, anyhow::Error>(client)
        });
        let opened = opening.await.context("open a tail")?;
        opened.map(|client| Self { client }).with_context(|| format!("read {topic}"))
    }

    /// The next record.
    pub async fn next(&self) -> Record {
        loop {
            match self.client.recv().await {
                Ok(message) => return Record::copied_from(&message, Source::Topic),
                // The client goes on by itself.
                Err(error) => self.client.context().0.report(&error.to_string()),
            }
        }
    }
}

fn partitions(client: &StreamConsumer<Plain>, topic: &str) -> anyhow::Result<Vec<i32>> {
    let metadata = client.fetch_metadata(Some(topic), ANSWER_LIMIT).context("ask for its partitions")?;
    let found = metadata.topics().iter().flat_map(|topic| topic.partitions()).map(|partition| partition.id());
    let partitions: Vec<_> = found.collect();
    ensure!(!partitions.is_empty(), "there is no such topic");
    Ok(partitions)
}

/// Where the records of `since` or later begin in each partition.
fn places(
    client: &StreamConsumer<Plain>,
    topic: &str,
    partitions: &[i32],
    since: DateTime<Utc>,
) -> KafkaResult<TopicPartitionList> {
    let mut wanted = TopicPartitionList::with_capacity(partitions.len());
    let mut ends = Vec::with_capacity(partitions.len());
    for partition in partitions {
        // The ends are asked for first: what is written between the two answers is read.
        ends.push((*partition, client.fetch_watermarks(topic, *partition, ANSWER_LIMIT)?.1));
        wanted.add_partition_offset(topic, *partition, Offset::Offset(since.timestamp_millis()))?;
    }
    let found = client.offsets_for_times(wanted, ANSWER_LIMIT)?;
    let mut places = TopicPartitionList::with_capacity(partitions.len());
    for (partition, end) in ends {
        let begin = match found.find_partition(topic, partition).map(|element| element.offset()) {
            Some(begin @ Offset::Offset(_)) => begin,
            _ => Offset::Offset(end),
        };
        places.add_partition_offset(topic, partition, begin)?;
    }
    Ok(places)
}
