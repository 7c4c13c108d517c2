//! What becomes of a record that cannot be processed: itself, in `<topic>.dlq`, with a word on where
//! it came from and why.

use std::borrow::Cow;

use contracts::headers::{DLQ_OFFSET, DLQ_PARTITION, DLQ_REASON, DLQ_TOPIC};

use crate::{
    handler::Reject,
    producer::Outgoing,
    record::{Offset, Partition, Record},
};

/// The longest reason that is kept, in bytes, so that a letter always fits its topic.
const LONGEST_REASON: usize = 1000;

/// Where a dead letter came from, and why it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The topic it was taken from.
    pub topic: String,
    /// The partition there.
    pub partition: Partition,
    /// Its offset there.
    pub offset: Offset,
    /// Why it could not be processed.
    pub reason: String,
}

impl Origin {
    /// What the headers of a dead letter say; `None` when they are not all there.
    #[must_use]
    pub fn of(letter: &Record) -> Option<Self> {
        Some(Self {
            topic: letter.header_text(DLQ_TOPIC)?.to_owned(),
            partition: Partition(letter.header_text(DLQ_PARTITION)?.parse().ok()?),
            offset: Offset(letter.header_text(DLQ_OFFSET)?.parse().ok()?),
            reason: letter.header(DLQ_REASON).map(String::from_utf8_lossy)?.into_owned(),
        })
    }
}

/// The dead letter of a record of `topic`, with its key, value and headers.
pub(crate) fn letter<'a>(
    record: &'a Record,
    topic: &'a str,
    dead_letter_topic: &'a str,
    reject: &'a Reject,
) -> Outgoing<'a> {
    let reason = &reject.reason[..reject.reason.floor_char_boundary(LONGEST_REASON)];
    copy(record, dead_letter_topic)
        .with_header(DLQ_TOPIC, topic)
        .with_header(DLQ_PARTITION, record.partition.to_string())
        .with_header(DLQ_OFFSET, record.offset.to_string())
        .with_header(DLQ_REASON, reason)
}

/// The record that a dead letter was, on its way to `topic` again.
pub(crate) fn restored<'a>(letter: &'a Record, topic: &'a str) -> Outgoing<'a> {
    copy(letter, topic)
}

/// A record with its key, value and headers, but for ours about dead letters: a record that was one
/// before says why it is one now.
fn copy<'a>(record: &'a Record, topic: &'a str) -> Outgoing<'a> {
    let ours = [DLQ_TOPIC, DLQ_PARTITION, DLQ_OFFSET, DLQ_REASON];
    let mut message = Outgoing::to(topic);
    message.key = record.key().map(Cow::Borrowed);
    message.value = record.value().map(Cow::Borrowed);
    let kept = record.headers().filter(|(name, _)| !ours.contains(name));
    kept.fold(message, |message, (name, value)| message.with_raw_header(name, value.map(Cow::Borrowed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What arrives when a message was sent.
    fn received(message: &Outgoing<'_>) -> Record {
        let mut record = Record::new(Partition(0), Offset(0));
        if let Some(key) = &message.key {
            record = record.with_key(&**key);
        }
        if let Some(value) = &message.value {
            record = record.with_value(&**value);
        }
        let mut headers = message.headers.iter();
        headers.by_ref().fold(record, |record, (name, value)| {
            record.with_header(name.clone(), value.as_deref().unwrap_or_default())
        })
    }

    #[test]
    fn a_letter_says_where_it_came_from_and_is_restored_as_it_was() {
        let record = Record::new(Partition(3), Offset(71))
            .with_key("k")
            .with_value("v")
            .with_header("ce_type", "a")
            .with_header("ce_type", "b");
        let reject = Reject::new("the value is not JSON");
        let letter = received(&letter(&record, "t", "t.dlq", &reject));
        let origin = Origin::of(&letter).expect("an origin");
        assert_eq!(
            origin,
            Origin { topic: "t".into(), partition: Partition(3), offset: Offset(71), reason: reject.reason.into() }
        );
        let restored = received(&restored(&letter, "t"));
        assert_eq!((restored.key(), restored.value()), (record.key(), record.value()));
        assert!(restored.headers().eq(record.headers()));
    }

    #[test]
    fn a_record_that_was_a_letter_before_says_why_it_is_one_now() {
        let record = Record::new(Partition(0), Offset(1)).with_header(DLQ_REASON, "old").with_header(DLQ_OFFSET, "99");
        let again = Reject::new("new");
        let origin = Origin::of(&received(&letter(&record, "t", "t.dlq", &again))).expect("an origin");
        assert_eq!((origin.offset, origin.reason.as_str()), (Offset(1), "new"));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let record = Record::new(Partition(0), Offset(1));
        let long = Reject::new("é".repeat(2000));
        let letter = received(&letter(&record, "t", "t.dlq", &long));
        let origin = Origin::of(&letter).expect("an origin");
        assert_eq!(origin.reason, "é".repeat(500));
    }

    #[test]
    fn what_is_no_letter_has_no_origin() {
        assert_eq!(Origin::of(&Record::new(Partition(0), Offset(1)).with_header(DLQ_TOPIC, "t")), None);
    }
}
