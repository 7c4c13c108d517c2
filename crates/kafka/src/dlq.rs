//! Dead letters for a person: listed, shown, sent again, or dropped.
//!
//! Dead letters belong to the consumer group that could not process them: they lie in
//! `<topic>.<group>.dlq`, and what is replayed goes to `<topic>.<group>.retry`, which that group alone
//! reads. Dead letters of older versions lie in `<topic>.dlq` and belong to the one group that each topic
//! had.
//!
//! A dead letter is never deleted before its time: Kafka deletes whole segments, and what was dropped by
//! mistake should still be there. A dead letter that was replayed or dropped is **resolved** by a record
//! in the same partition of the same topic, without key, whose header `dlq_settled` says what was done
//! and whose value lists the dead letters' offsets. A resolution is younger than its dead letters, so
//! retention never takes it first; committed offsets of a group would be forgotten after a week, and
//! could only tell how far a reader got, not which of ten dead letters are done.
//!
//! A dead letter is resolved after it was sent again, so a crash in between sends it twice at most.

mod reader;

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use anyhow::Context;
use events::topics::{dead_letter_topic, legacy_dead_letter_topic, retry_topic};

use self::reader::Reader;
use crate::{
    config::{KafkaConfig, Profile},
    core::resolutions,
    dead_letters::{self, Origin, RESOLUTION},
    producer::{OutgoingRecord, Producer},
    record::{Offset, Partition, Record},
    resets,
};

/// Dead letters that are sent again and resolved together.
const DEAD_LETTERS_PER_RESOLUTION: usize = 500;

/// The place of a dead letter in its dead letter topic, written `partition:offset`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeadLetterId {
    /// The partition of the dead letter topic.
    pub partition: Partition,
    /// The offset there.
    pub offset: Offset,
}

/// A text that is no [`DeadLetterId`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a dead letter is named by its partition and offset, such as 3:17")]
pub struct InvalidDeadLetterId;

impl fmt::Display for DeadLetterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

impl FromStr for DeadLetterId {
    type Err = InvalidDeadLetterId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (partition, offset) = text.split_once(':').ok_or(InvalidDeadLetterId)?;
        let partition = partition.parse().ok().filter(|partition| *partition >= 0).ok_or(InvalidDeadLetterId)?;
        let offset = offset.parse().ok().filter(|offset| *offset >= 0).ok_or(InvalidDeadLetterId)?;
        Ok(Self { partition: Partition(partition), offset: Offset(offset) })
    }
}

/// A dead letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its place in the dead letter topic, and with it its content.
    pub record: Record,
    /// Where it came from; `None` for a record that another program put there.
    pub origin: Option<Origin>,
}

impl DeadLetter {
    /// Its name.
    #[must_use]
    pub fn id(&self) -> DeadLetterId {
        DeadLetterId { partition: self.record.partition, offset: self.record.offset }
    }
}

/// What [`Dlq::list`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// The first dead letters that are not settled, by partition and offset.
    pub letters: Vec<DeadLetter>,
    /// How many dead letters are not settled, those in `letters` included.
    pub unsettled: usize,
}

/// Which dead letters are meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadLetters {
    /// Every one that is not settled.
    All,
    /// These. One that is settled already, or was never there, is left alone.
    These(Vec<DeadLetterId>),
}

/// The dead letters of one topic and group.
#[derive(Clone)]
pub struct Dlq {
    config: KafkaConfig,
    group: Arc<str>,
    retry_topic: Arc<str>,
    dead_letter_topic: Arc<str>,
    /// Whether the topic need not exist.
    is_legacy: bool,
    producer: Producer,
}

impl Dlq {
    /// What `group` could not process of `topic`.
    ///
    /// # Errors
    /// When the settings make no client.
    pub fn of(config: &KafkaConfig, topic: &str, group: &str) -> anyhow::Result<Self> {
        Self::open(config, topic, group, dead_letter_topic(topic, group), false)
    }

    /// What an older version of `group` could not process of `topic`. There is none of these where no
    /// older version ever ran.
    ///
    /// # Errors
    /// When the settings make no client.
    pub fn legacy(config: &KafkaConfig, topic: &str, group: &str) -> anyhow::Result<Self> {
        Self::open(config, topic, group, legacy_dead_letter_topic(topic), true)
    }

    fn open(
        config: &KafkaConfig,
        topic: &str,
        group: &str,
        dead_letter_topic: String,
        is_legacy: bool,
    ) -> anyhow::Result<Self> {
        let producer = Producer::unwatched(config, Profile::Throughput)?;
        let (retry_topic, dead_letter_topic) = (retry_topic(topic, group).into(), dead_letter_topic.into());
        Ok(Self { config: config.clone(), group: group.into(), retry_topic, dead_letter_topic, is_legacy, producer })
    }

    /// Lets every member of the group go on that stopped because too many records in a row were rejected.
    ///
    /// # Errors
    /// When Kafka did not take the reset.
    pub async fn reset(&self) -> anyhow::Result<()> {
        let sent = resets::send(&self.producer, &self.dead_letter_topic, &self.group).await;
        sent.with_context(|| format!("send a reset to {}", self.dead_letter_topic))
    }

    /// The first `limit` dead letters that are not settled, and the number of all of them.
    ///
    /// # Errors
    /// When Kafka cannot be read.
    pub async fn list(&self, limit: usize) -> anyhow::Result<Listing> {
        self.read(move |reader| {
            let (mut unsettled, mut first) = (0, BTreeMap::<_, Vec<_>>::new());
            let resolutions = reader.resolutions()?;
            reader.letters(&resolutions, |letter| {
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

    /// One dead letter, settled or not; `None` when there is none in that place.
    ///
    /// # Errors
    /// When Kafka cannot be read.
    pub async fn show(&self, id: DeadLetterId) -> anyhow::Result<Option<DeadLetter>> {
        self.read(move |reader| reader.one(id)).await
    }

    /// Sends dead letters to their group again, as they were, and records them as resolved. Answers how
    /// many.
    ///
    /// # Errors
    /// When Kafka cannot be read or written; what was replayed until then is resolved.
    pub async fn replay(&self, which: DeadLetters) -> anyhow::Result<usize> {
        self.settle(which, "replayed", true).await
    }

    /// Records dead letters as resolved without a retry. Answers how many.
    ///
    /// # Errors
    /// When Kafka cannot be read or written; what was dropped until then is resolved.
    pub async fn drop(&self, which: DeadLetters) -> anyhow::Result<usize> {
        self.settle(which, "dropped", false).await
    }

    async fn settle(&self, which: DeadLetters, how: &'static str, send: bool) -> anyhow::Result<usize> {
        let (letters, mut read) = tokio::sync::mpsc::channel(DEAD_LETTERS_PER_RESOLUTION);
        let reading = self.read(move |reader| {
            let resolutions = reader.resolutions()?;
            reader.letters(&resolutions, |letter| {
                let is_meant = match &which {
                    DeadLetters::All => true,
                    DeadLetters::These(ids) => ids.contains(&letter.id()),
                };
                if is_meant {
                    // Refused when the writing failed, which is told there.
                    letters.blocking_send(letter).ok();
                }
            })
        });
        let writing = async move {
            let (mut settled, mut together) = (0, Vec::new());
            while read.recv_many(&mut together, DEAD_LETTERS_PER_RESOLUTION).await > 0 {
                self.settle_together(&together, how, send).await?;
                settled += together.len();
                together.clear();
            }
            Ok(settled)
        };
        let ((), settled) = tokio::try_join!(reading, writing)?;
        Ok(settled)
    }

    async fn settle_together(&self, letters: &[DeadLetter], how: &str, send: bool) -> anyhow::Result<()> {
        if send {
            let retried = letters.iter().map(|DeadLetter { record, origin }| {
                dead_letters::retried(record, origin.as_ref(), &self.group, &self.retry_topic)
            });
            self.producer
                .send_all(retried)
                .await
                .with_context(|| format!("send to {}, which a running {} creates", self.retry_topic, self.group))?;
        }
        runtime::fault::point("dlq.replayed-not-marked");
        let mut by_partition = BTreeMap::<_, Vec<_>>::new();
        for DeadLetter { record, .. } in letters {
            by_partition.entry(record.partition).or_default().push(record.offset.0);
        }
        let resolutions = by_partition.into_iter().map(|(partition, offsets)| {
            OutgoingRecord::to(&self.dead_letter_topic)
                .into_partition(partition)
                .with_header(RESOLUTION, how)
                .with_value(resolutions::write(&offsets).into_bytes())
        });
        self.producer
            .send_all(resolutions)
            .await
            .with_context(|| format!("resolve letters in {}", self.dead_letter_topic))
    }

    /// Reads on a thread of its own, since the client blocks it.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Reader) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let (config, topic, may_lack) = (self.config.clone(), self.dead_letter_topic.clone(), self.is_legacy);
        let reading = tokio::task::spawn_blocking(move || read(&Reader::open(&config, topic, may_lack)?));
        let read = reading.await.context("read the dead letters")?;
        read.with_context(|| format!("read {}", self.dead_letter_topic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_letter_is_named_by_its_place() {
        let id: DeadLetterId = "3:17".parse().expect("an id");
        assert_eq!((id.partition, id.offset, id.to_string().as_str()), (Partition(3), Offset(17), "3:17"));
        for text in ["", "3", "3:", ":17", "-1:3", "3:-1", "3:17:1", "a:b"] {
            assert_eq!(text.parse::<DeadLetterId>(), Err(InvalidDeadLetterId), "{text}");
        }
    }
}
