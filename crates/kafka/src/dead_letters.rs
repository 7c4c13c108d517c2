//! What becomes of a record that cannot be processed: itself, in the dead letter topic of the group that
//! could not, with a word on where it came from and why.

use std::borrow::Cow;

use events::headers::{DLQ_GROUP, DLQ_KEY, DLQ_OFFSET, DLQ_PARTITION, DLQ_REASON, DLQ_TOPIC, LEGACY_DLQ_PLACE};

use crate::{
    handler::Reject,
    names::Names,
    producer::OutgoingRecord,
    record::{Offset, Partition, Record, Source},
    resets::CONTROL,
};

/// The header of a resolution: `replayed` or `dropped`.
pub(crate) const RESOLUTION: &str = "dlq_settled";

/// The longest reason that is kept, in bytes, so that a dead letter always fits its topic.
const LONGEST_REASON: usize = 1000;
/// The longest key that is repeated in a header, in bytes. The dead letter's own key is never cut.
const LONGEST_KEY: usize = 4096;

/// Where a dead letter came from, and why it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The topic it was taken from.
    pub topic: String,
    /// The partition there.
    pub partition: Partition,
    /// Its offset there.
    pub offset: Offset,
    /// The group that could not process it; `None` in dead letters of older versions.
    pub group: Option<String>,
    /// Why it could not be processed.
    pub reason: String,
}

impl Origin {
    /// What the headers of a dead letter say; `None` when they are not all there.
    #[must_use]
    pub fn of(letter: &Record) -> Option<Self> {
        let [legacy_topic, legacy_partition, legacy_offset] = LEGACY_DLQ_PLACE;
        let either = |name, legacy| letter.header_text(name).or_else(|| letter.header_text(legacy));
        Some(Self {
            topic: either(DLQ_TOPIC, legacy_topic)?.to_owned(),
            partition: Partition(either(DLQ_PARTITION, legacy_partition)?.parse().ok().filter(|number| *number >= 0)?),
            offset: Offset(either(DLQ_OFFSET, legacy_offset)?.parse().ok()?),
            group: letter.header_text(DLQ_GROUP).map(ToOwned::to_owned),
            reason: letter.header(DLQ_REASON).map(String::from_utf8_lossy)?.into_owned(),
        })
    }
}

/// The dead letter of a record, with its key, value and headers. One that was retried names the place
/// of its first delivery, however often it was retried.
pub(crate) fn letter<'a>(record: &'a Record, names: &'a Names, reject: &'a Reject) -> OutgoingRecord<'a> {
    let (topic, (partition, offset)) = match (record.source(), record.original_place()) {
        (Source::Topic, _) => (&names.topic, (record.partition, record.offset)),
        (Source::Retry, Some(place)) => (&names.topic, place),
        (Source::Retry, None) => (&names.retry_topic, (record.partition, record.offset)),
    };
    let reason = &reject.reason[..reject.reason.floor_char_boundary(LONGEST_REASON)];
    let mut letter = copy(record, &names.dead_letter_topic)
        .with_header(DLQ_TOPIC, topic)
        .with_header(DLQ_PARTITION, partition.to_string())
        .with_header(DLQ_OFFSET, offset.to_string());
    if let Some(key) = record.key().filter(|key| key.len() <= LONGEST_KEY) {
        letter = letter.with_raw_header(DLQ_KEY, Some(Cow::Borrowed(key)));
    }
    letter.with_header(DLQ_GROUP, &names.group).with_header(DLQ_REASON, reason)
}

/// The record that a dead letter was, on its way to its group again through `retry_topic`. It goes to
/// the partition it was in, since the member that owns that one reads it, and it keeps its first place,
/// by which messages without an order of their own are ordered.
pub(crate) fn retried<'a>(
    letter: &'a Record,
    origin: Option<&'a Origin>,
    group: &'a str,
    retry_topic: &'a str,
) -> OutgoingRecord<'a> {
    let restored = copy(letter, retry_topic);
    let Some(origin) = origin else { return restored };
    restored
        .into_partition(origin.partition)
        .with_header(DLQ_TOPIC, &origin.topic)
        .with_header(DLQ_PARTITION, origin.partition.to_string())
        .with_header(DLQ_OFFSET, origin.offset.to_string())
        .with_header(DLQ_GROUP, group)
}

/// A record with its key, value and headers, but for ours about dead letters, so that they do not pile
/// up on a record that is retried again and again.
fn copy<'a>(record: &'a Record, topic: &'a str) -> OutgoingRecord<'a> {
    // A resolution or a control record is only what we write, never what a record claims to be.
    let ours = [DLQ_TOPIC, DLQ_PARTITION, DLQ_OFFSET, DLQ_KEY, DLQ_GROUP, DLQ_REASON, RESOLUTION, CONTROL];
    let mut message = OutgoingRecord::to(topic);
    message.key = record.key().map(Cow::Borrowed);
    message.value = record.value().map(Cow::Borrowed);
    let kept = record.headers().filter(|(name, _)| !ours.contains(name) && !LEGACY_DLQ_PLACE.contains(name));
    kept.fold(message, |message, (name, value)| message.with_raw_header(name, value.map(Cow::Borrowed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names::of("t", "g")
    }

    /// What arrives when a message was sent.
    fn received(message: &OutgoingRecord<'_>) -> Record {
        let partition = message.partition.unwrap_or(Partition(0));
        let mut record = Record::new(partition, Offset(0));
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

    /// The record as the group reads it when its dead letter is replayed.
    fn replayed(letter: &Record) -> Record {
        let origin = Origin::of(letter).expect("an origin");
        received(&retried(letter, Some(&origin), "g", "t.g.retry")).from_source(Source::Retry)
    }

    fn ours(record: &Record) -> Vec<&str> {
        record.headers().map(|(name, _)| name).filter(|name| name.starts_with("dlq_")).collect()
    }

    fn theirs(record: &Record) -> Vec<(&str, Option<&[u8]>)> {
        record.headers().filter(|(name, _)| !name.starts_with("dlq_")).collect()
    }

    #[test]
    fn a_dead_letter_says_where_it_came_from_and_is_retried_as_it_was() {
        let with_headers = |record: Record| {
            record.with_header("ce_type", "a").with_header("ce_type", "b").with_header("request_id", "req-7")
        };
        let place = || Record::new(Partition(3), Offset(71));
        let reject = Reject::new("the value is not JSON");
        let names = names();
        for record in [
            with_headers(place().with_key("k").with_value("v")),
            with_headers(place().with_key(b"\xff\x00".to_vec()).with_value("v")),
            with_headers(place().with_value("v")),
            with_headers(place().with_key("removed")),
            with_headers(place().with_key("").with_value("")),
            place(),
        ] {
            let letter = received(&letter(&record, &names, &reject));
            let origin = Origin::of(&letter).expect("an origin");
            assert_eq!((origin.topic.as_str(), origin.partition, origin.offset), ("t", Partition(3), Offset(71)));
            assert_eq!((origin.group.as_deref(), origin.reason.as_str()), (Some("g"), &*reject.reason));
            assert_eq!(letter.header(DLQ_KEY), record.key());
            let retried = replayed(&letter);
            assert_eq!((retried.key(), retried.value()), (record.key(), record.value()));
            assert_eq!(theirs(&retried), theirs(&record));
            assert_eq!(retried.original_place(), Some((Partition(3), Offset(71))));
        }
    }

    #[test]
    fn however_often_a_record_is_retried_it_names_its_first_place_and_its_headers_do_not_grow() {
        let names = names();
        let mut record = Record::new(Partition(3), Offset(71)).with_key("k").with_header("ce_type", "a");
        for round in 0..5 {
            let reject = Reject::new(format!("reason {round}"));
            let letter = received(&letter(&record, &names, &reject));
            let origin = Origin::of(&letter).expect("an origin");
            assert_eq!((origin.topic.as_str(), origin.partition, origin.offset), ("t", Partition(3), Offset(71)));
            assert_eq!(origin.reason, reject.reason);
            assert_eq!(ours(&letter), [DLQ_TOPIC, DLQ_PARTITION, DLQ_OFFSET, DLQ_KEY, DLQ_GROUP, DLQ_REASON]);
            record = replayed(&letter);
            assert_eq!(ours(&record), [DLQ_TOPIC, DLQ_PARTITION, DLQ_OFFSET, DLQ_GROUP]);
        }
    }

    #[test]
    fn a_dead_letter_of_an_older_version_says_where_it_came_from_and_is_retried_without_its_headers() {
        let [topic, partition, offset] = LEGACY_DLQ_PLACE;
        let letter = Record::new(Partition(0), Offset(5))
            .with_key("k")
            .with_header("ce_type", "a")
            .with_header(topic, "t")
            .with_header(partition, "2")
            .with_header(offset, "9")
            .with_header(DLQ_REASON, "old");
        let origin = Origin::of(&letter).expect("an origin");
        assert_eq!((origin.partition, origin.offset, &origin.group), (Partition(2), Offset(9), &None));
        let retried = replayed(&letter);
        assert_eq!(retried.original_place(), Some((Partition(2), Offset(9))));
        assert_eq!(theirs(&retried), [("ce_type", Some(&b"a"[..]))]);
        assert_eq!(ours(&retried).len(), 4);
    }

    #[test]
    fn a_record_that_claims_to_have_been_a_dead_letter_names_its_own_place() {
        let record = Record::new(Partition(0), Offset(1)).with_header(DLQ_REASON, "old").with_header(DLQ_OFFSET, "99");
        let again = Reject::new("new");
        let origin = Origin::of(&received(&letter(&record, &names(), &again))).expect("an origin");
        assert_eq!((origin.offset, origin.reason.as_str()), (Offset(1), "new"));
    }

    #[test]
    fn a_record_cannot_pass_its_dead_letter_off_as_a_resolution_or_a_reset() {
        let record = Record::new(Partition(0), Offset(1))
            .with_key("g")
            .with_header(CONTROL, "reset")
            .with_header(RESOLUTION, "dropped");
        let letter = received(&letter(&record, &names(), &Reject::new("no")));
        assert_eq!((letter.header(CONTROL), letter.header(RESOLUTION)), (None, None));
    }

    #[test]
    fn a_long_reason_is_cut_between_characters_and_a_long_key_is_not_repeated() {
        let record = Record::new(Partition(0), Offset(1)).with_key(vec![b'k'; LONGEST_KEY + 1]);
        let long = Reject::new("é".repeat(2000));
        let letter = received(&letter(&record, &names(), &long));
        let origin = Origin::of(&letter).expect("an origin");
        assert_eq!(origin.reason, "é".repeat(500));
        assert_eq!((letter.header(DLQ_KEY), letter.key()), (None, record.key()));
    }

    #[test]
    fn what_is_no_dead_letter_has_no_origin() {
        assert_eq!(Origin::of(&Record::new(Partition(0), Offset(1)).with_header(DLQ_TOPIC, "t")), None);
    }
}
