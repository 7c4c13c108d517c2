//! A reader of one partition from now on, without a group.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use chrono::{DateTime, Utc};
use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{Consumer as _, StreamConsumer},
    error::KafkaError,
};

use crate::{
    client::{ClientLog, Plain},
    config::KafkaConfig,
    record::{Record, Source},
};

/// How long Kafka may take to say where a partition ends; a stop waits for it.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// Reads one partition from a moment on. While Kafka is away it keeps its place, and nothing is committed.
pub(crate) struct Tail {
    client: Option<StreamConsumer<Plain>>,
}

impl Tail {
    /// Reads `partition` of `topic` from the first record of `since` or later. `group` is only named to
    /// Kafka, which may let this client use no other name.
    ///
    /// # Errors
    /// When Kafka does not say where that is.
    pub(crate) async fn open(
        config: &KafkaConfig,
        (topic, partition): (&str, i32),
        group: &str,
        since: DateTime<Utc>,
    ) -> anyhow::Result<Self> {
        let client: StreamConsumer<Plain> =
            config.tail(group).create_with_context(Plain(ClientLog::of("tail"))).context("create the Kafka client")?;
        let topic = topic.to_owned();
        let opening = tokio::task::spawn_blocking(move || {
            // In this order: what is written between the two answers is read.
            let (_, end) = client.fetch_watermarks(&topic, partition, ANSWER_LIMIT)?;
            let mut wanted = TopicPartitionList::with_capacity(1);
            wanted.add_partition_offset(&topic, partition, Offset::Offset(since.timestamp_millis()))?;
            let found = client.offsets_for_times(wanted, ANSWER_LIMIT)?;
            let begin = match found.find_partition(&topic, partition).map(|element| element.offset()) {
                Some(begin @ Offset::Offset(_)) => begin,
                _ => Offset::Offset(end),
            };
            let mut assignment = TopicPartitionList::with_capacity(1);
            assignment.add_partition_offset(&topic, partition, begin)?;
            client.assign(&assignment)?;
            Ok::<_, KafkaError>(client)
        });
        let opened = opening.await.context("ask where the partition ends")?;
        opened
            .map(|client| Self { client: Some(client) })
            .map_err(|error| anyhow!(error).context("ask where the partition ends"))
    }

    /// The next record.
    pub(crate) async fn next(&self) -> Record {
        let Some(client) = &self.client else { return std::future::pending().await };
        loop {
            match client.recv().await {
                Ok(message) => return Record::copied_from(&message, Source::Topic),
                // The client goes on by itself.
                Err(error) => client.context().0.report(&error.to_string()),
            }
        }
    }
}

impl Drop for Tail {
    /// Closing waits for the client's threads, so it happens on a thread of its own.
    fn drop(&mut self) {
        let client = self.client.take();
        let closing = std::thread::Builder::new().name("kafka-close".to_owned()).spawn(move || drop(client));
        if let Err(error) = closing {
            tracing::debug!("close a tail: {error}");
        }
    }
}
