//! An operator lets a group go on that stopped because too many records in a row were rejected.
//!
//! The reset goes through Kafka, so that it reaches every member wherever it runs: a record without
//! value in the first partition of the group's dead letter topic, with the header [`CONTROL`]. Each
//! member reads that partition from its own start on, and takes up where it was when Kafka was away. A
//! member that starts later needs no reset: it counts from zero.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use runtime::backoff::Backoff;

use crate::{
    config::KafkaConfig,
    core::log_throttle::LogThrottle,
    dead_letter_breaker::DeadLetterBreaker,
    names::Names,
    producer::{OutgoingRecord, Producer, SendError},
    record::{Partition, Record},
    tail::Tail,
};

/// The header of a record that controls the group's members and is no dead letter.
pub(crate) const CONTROL: &str = "dlq_control";
const RESET: &str = "reset";
/// The partition of all control records.
const PARTITION: Partition = Partition(0);

/// How far before its start a member looks for resets, since clocks differ. One that it need not have
/// heard does no harm.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(60);
/// How long to wait until Kafka is asked again where the partition ends.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(10));
/// Log at most one failed attempt in this time.
const LINE_INTERVAL: Duration = Duration::from_secs(60);

/// Sends a reset to every member of the group.
pub(crate) async fn send(producer: &Producer, dead_letter_topic: &str, group: &str) -> Result<(), SendError> {
    let word = OutgoingRecord::to(dead_letter_topic).into_partition(PARTITION);
    producer.send(word.with_key(group.as_bytes()).with_header(CONTROL, RESET)).await
}

/// Takes over every reset of the group that is sent after `since`, and never ends.
pub(crate) async fn follow(
    config: &KafkaConfig,
    names: &Names,
    breaker: &DeadLetterBreaker,
    since: DateTime<Utc>,
) -> Infallible {
    let tail = open(config, names, since - CLOCK_TOLERANCE).await;
    loop {
        if is_reset(&tail.next().await, &names.group) {
            breaker.reset();
        }
    }
}

fn is_reset(record: &Record, group: &str) -> bool {
    record.header(CONTROL) == Some(RESET.as_bytes()) && record.key() == Some(group.as_bytes())
}

async fn open(config: &KafkaConfig, names: &Names, since: DateTime<Utc>) -> Tail {
    let place = (names.dead_letter_topic.as_str(), PARTITION);
    let mut lines = LogThrottle::new(LINE_INTERVAL);
    let mut attempt = 0;
    loop {
        match Tail::of_partition(config, place, &names.group, since).await {
            Ok(tail) => return tail,
            Err(error) if lines.admit(Instant::now()).is_some() => {
                tracing::warn!("{} is not read yet, so a reset is not heard: {error:#}", names.dead_letter_topic);
            }
            Err(error) => tracing::debug!("read {}: {error:#}", names.dead_letter_topic),
        }
        tokio::time::sleep(BACKOFF.wait(attempt, rand::random())).await;
        attempt = attempt.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Offset;

    #[test]
    fn only_a_word_to_the_own_group_is_one() {
        let record = |key: &str| Record::new(Partition(0), Offset(0)).with_key(key);
        assert!(is_reset(&record("g").with_header(CONTROL, RESET), "g"));
        assert!(!is_reset(&record("h").with_header(CONTROL, RESET), "g"));
        assert!(!is_reset(&record("g").with_header(CONTROL, "other"), "g"));
        assert!(!is_reset(&record("g"), "g"), "a dead letter whose key is the group");
    }
}
