use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, ensure};
use rdkafka::{
    Offset as Position, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};

use super::{DeadLetter, DeadLetterId};
use crate::{
    client::{ClientLog, Plain, reason},
    closing::{SelfClosing, self_closing},
    config::KafkaConfig,
    core::resolutions::Resolutions,
    dead_letters::{Origin, RESOLUTION},
    record::{Record, Source},
    resets,
};

/// How long Kafka may take to say where a topic begins and ends.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long to wait before asking again.
const ASK_INTERVAL: Duration = Duration::from_millis(100);
/// How long to wait for the next record of a topic that has more.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// Reads a dead letter topic from its beginning to what was its end when it was opened.
pub(super) struct Reader {
    client: SelfClosing<BaseConsumer<Plain>>,
    topic: Arc<str>,
    spans: Vec<Span>,
}

/// A partition's offsets from `begin` to before `end`.
struct Span {
    partition: i32,
    begin: i64,
    end: i64,
}

impl Reader {
    pub(super) fn open(config: &KafkaConfig, topic: Arc<str>, may_lack: bool) -> anyhow::Result<Self> {
        let client: BaseConsumer<Plain> = config.reader().create_with_context(Plain(ClientLog::of("reader")))?;
        let client = self_closing(client);
        let metadata = client
            .fetch_metadata(Some(&topic), ANSWER_LIMIT)
            .map_err(|error| anyhow!(reason(&client, &error)).context(format!("ask Kafka at {}", config.bootstrap)))?;
        let known = metadata.topics().first().filter(|topic| topic.error().is_none());
        if known.is_none() && may_lack {
            return Ok(Self { client, topic, spans: Vec::new() });
        }
        let partitions: Vec<_> = known.context("there is no such topic")?.partitions().iter().map(|p| p.id()).collect();
        let mut spans = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let (begin, end) = watermarks(&client, &topic, partition)?;
            spans.push(Span { partition, begin, end });
        }
        Ok(Self { client, topic, spans })
    }

    /// Every resolution there is.
    pub(super) fn resolutions(&self) -> anyhow::Result<Resolutions> {
        let mut resolutions = Resolutions::default();
        self.scan(&self.spans, |record| {
            let text = record.header(RESOLUTION).and(record.value()).and_then(|value| str::from_utf8(value).ok());
            if let Some(Err(error)) = text.map(|text| resolutions.read(record.partition.0, text)) {
                tracing::warn!("{} {}:{} is no resolution: {error}", self.topic, record.partition, record.offset);
            }
        })?;
        Ok(resolutions)
    }

    /// Every dead letter that is not resolved, each partition in order.
    pub(super) fn letters(&self, resolutions: &Resolutions, mut letter: impl FnMut(DeadLetter)) -> anyhow::Result<()> {
        self.scan(&self.spans, |record| {
            if is_dead_letter(&record) && !resolutions.has(record.partition.0, record.offset.0) {
                let origin = Origin::of(&record);
                letter(DeadLetter { record, origin });
            }
        })
    }

    pub(super) fn one(&self, id: DeadLetterId) -> anyhow::Result<Option<DeadLetter>> {
        let span = self.spans.iter().find(|span| span.partition == id.partition.0);
        if !span.is_some_and(|span| (span.begin..span.end).contains(&id.offset.0)) {
            return Ok(None);
        }
        let place = Span { partition: id.partition.0, begin: id.offset.0, end: id.offset.0 + 1 };
        let mut found = None;
        self.scan(&[place], |record| {
            if record.offset == id.offset && is_dead_letter(&record) {
                let origin = Origin::of(&record);
                found = Some(DeadLetter { record, origin });
            }
        })?;
        Ok(found)
    }

    /// Every record of these spans, each partition in order.
    fn scan(&self, spans: &[Span], mut see: impl FnMut(Record)) -> anyhow::Result<()> {
        let mut assignment = TopicPartitionList::with_capacity(spans.len());
        let mut ends = BTreeMap::new();
        for span in spans.iter().filter(|span| span.begin < span.end) {
            assignment.add_partition_offset(&self.topic, span.partition, Position::Offset(span.begin))?;
            ends.insert(span.partition, span.end);
        }
        self.client.assign(&assignment)?;
        let mut last_read = Instant::now();
        while !ends.is_empty() {
            match self.client.poll(Duration::from_millis(100)) {
                Some(Ok(message)) => {
                    last_read = Instant::now();
                    let record = Record::copied_from(&message, Source::Topic);
                    let Some(end) = ends.get(&record.partition.0).copied() else { continue };
                    if record.offset.0 >= end - 1 {
                        ends.remove(&record.partition.0);
                    }
                    if record.offset.0 < end {
                        see(record);
                    }
                }
                // The end comes before the last offset where the topic holds more than records.
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    ends.remove(&partition);
                }
                Some(Err(error)) => tracing::debug!("read {}: {error}", self.topic),
                None => ensure!(last_read.elapsed() < READ_LIMIT, "no answer for {READ_LIMIT:?}"),
            }
        }
        Ok(())
    }
}

/// Whether a record of a dead letter topic is a dead letter, and not a resolution or a control
/// record for the group.
fn is_dead_letter(record: &Record) -> bool {
    [RESOLUTION, resets::CONTROL].iter().all(|ours| record.headers().all(|(name, _)| name != *ours))
}

/// Where a partition begins and ends; asked again while its leader is only just chosen.
fn watermarks(client: &BaseConsumer<Plain>, topic: &str, partition: i32) -> anyhow::Result<(i64, i64)> {
    let begun = Instant::now();
    loop {
        match client.fetch_watermarks(topic, partition, ANSWER_LIMIT) {
            Ok(watermarks) => return Ok(watermarks),
            Err(error) if begun.elapsed() < ANSWER_LIMIT => {
                tracing::debug!("ask where {topic} partition {partition} ends: {error}");
                std::thread::sleep(ASK_INTERVAL);
            }
            Err(error) => return Err(anyhow!(reason(client, &error)).context(format!("ask where {topic} ends"))),
        }
    }
}
