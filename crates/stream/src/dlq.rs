//! Dead letters for a person: listed, shown, sent again, or dropped.
//!
//! A letter is never deleted before its time: Kafka deletes whole segments, and what somebody
//! dropped by mistake should still be there. A letter that was replayed or dropped is **marked**: a
//! record in the same partition of the same topic, without key, whose header [`MARK`] says what was
//! done and whose value lists the letters' offsets. A mark is younger than its letters, so retention
//! never takes it first; committed offsets of a group would be forgotten after a week, and could
//! only tell how far somebody got, not which of ten letters are done.
//!
//! A letter is marked after it was sent again, so a crash in between sends it twice at most.

use std::{
    collections::BTreeMap,
    fmt,
    str::FromStr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow, ensure};
use contracts::topics::dead_letters_of;
use rdkafka::{
    Offset as Position, TopicPartitionList,
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
};

use crate::{
    client::{Plain, Words, reason},
    config::{KafkaConfig, Profile},
    core::marks::{self, Marks},
    dead_letters::{self, Origin},
    producer::{Outgoing, Producer},
    record::{Offset, Partition, Record},
};

/// The header of a mark: `replayed` or `dropped`.
pub const MARK: &str = "dlq_settled";

/// How long Kafka may take to say where a topic begins and ends.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// How long to wait before asking again.
const ASK_INTERVAL: Duration = Duration::from_millis(100);
/// How long to wait for the next record of a topic that has more.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// Letters that are sent again and marked together.
const LETTERS_PER_MARK: usize = 500;

/// The place of a letter in its dead letter topic, written `partition:offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LetterId {
    /// The partition of the dead letter topic.
    pub partition: Partition,
    /// The offset there.
    pub offset: Offset,
}

/// A text that is no [`LetterId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a letter is named by its partition and offset, such as 3:17")]
pub struct WrongLetterId;

impl fmt::Display for LetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

impl FromStr for LetterId {
    type Err = WrongLetterId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (partition, offset) = text.split_once(':').ok_or(WrongLetterId)?;
        let partition = partition.parse().ok().filter(|partition| *partition >= 0).ok_or(WrongLetterId)?;
        let offset = offset.parse().ok().filter(|offset| *offset >= 0).ok_or(WrongLetterId)?;
        Ok(Self { partition: Partition(partition), offset: Offset(offset) })
    }
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Letter {
    /// Its place in the dead letter topic, and with it its content.
    pub record: Record,
    /// Where it came from; `None` for a record that somebody else put there.
    pub origin: Option<Origin>,
}

impl Letter {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> LetterId {
        LetterId { partition: self.record.partition, offset: self.record.offset }
    }
}

/// What [`Dlq::list`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The first letters that are not settled, by partition and offset.
    pub letters: Vec<Letter>,
    /// How many letters are not settled, those in `letters` included.
    pub unsettled: usize,
}

/// Which letters are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Letters {
    /// Every one that is not settled.
    All,
    /// These. One that is settled already, or was never there, is left alone.
    These(Vec<LetterId>),
}

/// The dead letters of one working topic.
#[derive(Clone)]
pub struct Dlq {
    config: KafkaConfig,
    topic: Arc<str>,
    dead_letter_topic: Arc<str>,
    producer: Producer,
}

impl Dlq {
    /// The dead letters of the working topic `topic`.
    ///
    /// # Errors
    /// When the settings make no client.
    pub fn of(config: &KafkaConfig, topic: &str) -> anyhow::Result<Self> {
        let producer = Producer::unwatched(config, Profile::Throughput)?;
        let dead_letter_topic = dead_letters_of(topic).into();
        Ok(Self { config: config.clone(), topic: topic.into(), dead_letter_topic, producer })
    }

    /// The first `limit` letters that nobody has settled, and the number of all of them.
    ///
    /// # Errors
    /// When Kafka cannot be read.
    pub async fn list(&self, limit: usize) -> anyhow::Result<Listing> {
        self.read(move |reader| {
            let (mut unsettled, mut first) = (0, BTreeMap::<_, Vec<_>>::new());
            let marks = reader.marks()?;
            reader.letters(&marks, |letter| {
                unsettled += 1;
                let of_partition = first.entry(letter.record.partition).or_default();
                if of_partition.len() < limit {
                    of_partition.push(letter);
                }
            })?;
            let letters = first.into_values().flatten().take(limit).collect();
            Ok(Listing { letters, unsettled })
        })
        .await
    }

    /// One letter, settled or not; `None` when there is none in that place.
    ///
    /// # Errors
    /// When Kafka cannot be read.
    pub async fn show(&self, id: LetterId) -> anyhow::Result<Option<Letter>> {
        self.read(move |reader| reader.one(id)).await
    }

    /// Sends letters to their working topic again, as they were, and marks them. Answers how many.
    ///
    /// # Errors
    /// When Kafka cannot be read or written; what was replayed until then is marked.
    pub async fn replay(&self, which: Letters) -> anyhow::Result<usize> {
        self.settle(which, "replayed", true).await
    }

    /// Marks letters as nothing to be done about. Answers how many.
    ///
    /// # Errors
    /// When Kafka cannot be read or written; what was dropped until then is marked.
    pub async fn drop(&self, which: Letters) -> anyhow::Result<usize> {
        self.settle(which, "dropped", false).await
    }

    async fn settle(&self, which: Letters, how: &'static str, send: bool) -> anyhow::Result<usize> {
        let (letters, mut read) = tokio::sync::mpsc::channel(LETTERS_PER_MARK);
        let reading = self.read(move |reader| {
            let marks = reader.marks()?;
            reader.letters(&marks, |letter| {
                let is_meant = match &which {
                    Letters::All => true,
                    Letters::These(ids) => ids.contains(&letter.id()),
                };
                if is_meant {
                    // Refused when the writing failed, which is told there.
                    letters.blocking_send(letter).ok();
                }
            })
        });
        let writing = async move {
            let (mut settled, mut together) = (0, Vec::new());
            while read.recv_many(&mut together, LETTERS_PER_MARK).await > 0 {
                self.settle_together(&together, how, send).await?;
                settled += together.len();
                together.clear();
            }
            Ok(settled)
        };
        let ((), settled) = tokio::try_join!(reading, writing)?;
        Ok(settled)
    }

    async fn settle_together(&self, letters: &[Letter], how: &str, send: bool) -> anyhow::Result<()> {
        if send {
            let restored = letters.iter().map(|letter| dead_letters::restored(&letter.record, &self.topic));
            self.producer.send_all(restored).await.with_context(|| format!("send to {}", self.topic))?;
        }
        shell::fault::point("dlq.replayed-not-marked");
        let mut by_partition = BTreeMap::<_, Vec<_>>::new();
        for Letter { record, .. } in letters {
            by_partition.entry(record.partition).or_default().push(record.offset.0);
        }
        let marks = by_partition.into_iter().map(|(partition, offsets)| {
            Outgoing::to(&self.dead_letter_topic)
                .into_partition(partition)
                .with_header(MARK, how)
                .with_value(marks::write(&offsets).into_bytes())
        });
        self.producer.send_all(marks).await.with_context(|| format!("mark letters in {}", self.dead_letter_topic))
    }

    /// Reads on a thread of its own, since the client blocks it.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let (config, topic) = (self.config.clone(), self.dead_letter_topic.clone());
        let reading = tokio::task::spawn_blocking(move || read(&Reader::open(&config, topic)?));
        let read = reading.await.context("read the dead letters")?;
        read.with_context(|| format!("read {}", self.dead_letter_topic))
    }
}

/// Reads a dead letter topic from its beginning to what was its end when it was opened.
struct Reader {
    client: BaseConsumer<Plain>,
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
    fn open(config: &KafkaConfig, topic: Arc<str>) -> anyhow::Result<Self> {
        let client: BaseConsumer<Plain> = config.reader().create_with_context(Plain(Words::of("reader")))?;
        let metadata = client
            .fetch_metadata(Some(&topic), ANSWER_LIMIT)
            .map_err(|error| anyhow!(reason(&client, &error)).context(format!("ask Kafka at {}", config.bootstrap)))?;
        let known = metadata.topics().first().filter(|topic| topic.error().is_none());
        let partitions: Vec<_> = known.context("there is no such topic")?.partitions().iter().map(|p| p.id()).collect();
        let mut spans = Vec::with_capacity(partitions.len());
        for partition in partitions {
            let (begin, end) = watermarks(&client, &topic, partition)?;
            spans.push(Span { partition, begin, end });
        }
        Ok(Self { client, topic, spans })
    }

    /// Every mark there is.
    fn marks(&self) -> anyhow::Result<Marks> {
        let mut marks = Marks::default();
        self.scan(&self.spans, |record| {
            let text = record.header(MARK).and(record.value()).and_then(|value| str::from_utf8(value).ok());
            if let Some(Err(error)) = text.map(|text| marks.read(record.partition.0, text)) {
                tracing::warn!("{} {}:{} is no mark: {error}", self.topic, record.partition, record.offset);
            }
        })?;
        Ok(marks)
    }

    /// Every letter that is not marked, each partition in order.
    fn letters(&self, marks: &Marks, mut letter: impl FnMut(Letter)) -> anyhow::Result<()> {
        self.scan(&self.spans, |record| {
            if record.header(MARK).is_none() && !marks.has(record.partition.0, record.offset.0) {
                let origin = Origin::of(&record);
                letter(Letter { record, origin });
            }
        })
    }

    fn one(&self, id: LetterId) -> anyhow::Result<Option<Letter>> {
        let span = self.spans.iter().find(|span| span.partition == id.partition.0);
        if !span.is_some_and(|span| (span.begin..span.end).contains(&id.offset.0)) {
            return Ok(None);
        }
        let place = Span { partition: id.partition.0, begin: id.offset.0, end: id.offset.0 + 1 };
        let mut found = None;
        self.scan(&[place], |record| {
            if record.offset == id.offset && record.header(MARK).is_none() {
                let origin = Origin::of(&record);
                found = Some(Letter { record, origin });
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
                    let record = Record::copied_from(&message);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_named_by_its_place() {
        let id: LetterId = "3:17".parse().expect("an id");
        assert_eq!((id.partition, id.offset, id.to_string().as_str()), (Partition(3), Offset(17), "3:17"));
        for text in ["", "3", "3:", ":17", "-1:3", "3:-1", "3:17:1", "a:b"] {
            assert_eq!(text.parse::<LetterId>(), Err(WrongLetterId), "{text}");
        }
    }
}
