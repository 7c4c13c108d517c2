//! A message that was read from a topic.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use chrono::{DateTime, Utc};
use events::headers;
use rdkafka::{
    Message,
    message::{BorrowedMessage, Headers},
};
use runtime::trace::RequestContext;

/// A partition of a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub i32);

/// The place of a record in its partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A record as it stands in its topic. It owns its bytes, so it may be kept for as long as a
/// partition is paused without keeping the client's buffers alive.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    /// The partition it was read from.
    pub partition: Partition,
    /// Its place there.
    pub offset: Offset,
    timestamp_millis: Option<i64>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
    source: Source,
}

/// Which of a consumer's topics a record was read from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// The topic that it subscribes to.
    #[default]
    Topic,
    /// The topic on which its group's dead letters come back.
    Retry,
}

/// A partition of one of a consumer's topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TopicPartition {
    pub source: Source,
    pub partition: Partition,
}

impl Record {
    /// A record with neither key nor value, to be filled in by tests.
    #[must_use]
    pub fn new(partition: Partition, offset: Offset) -> Self {
        Self {
            partition,
            offset,
            timestamp_millis: None,
            key: None,
            value: None,
            headers: Vec::new(),
            source: Source::Topic,
        }
    }

    /// The record as one that was read from `source`.
    #[must_use]
    pub fn from_source(self, source: Source) -> Self {
        Self { source, ..self }
    }

    /// The record with this key.
    #[must_use]
    pub fn with_key(self, key: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// The record with this value.
    #[must_use]
    pub fn with_value(self, value: impl Into<Vec<u8>>) -> Self {
        Self { value: Some(value.into()), ..self }
    }

    /// The record with one header more.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    pub(crate) fn copied_from(message: &BorrowedMessage<'_>, source: Source) -> Self {
        Self {
            source,
            partition: Partition(message.partition()),
            offset: Offset(message.offset()),
            timestamp_millis: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: message.headers().map(copied_headers).unwrap_or_default(),
        }
    }

    /// The key, where there is one. An empty key is a key.
    #[must_use]
    pub fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// The value; `None` is a tombstone. An empty value is a value.
    #[must_use]
    pub fn value(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }

    /// The value of the first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|(known, _)| known == name).and_then(|(_, value)| value.as_deref())
    }

    /// The same, where it is text.
    #[must_use]
    pub fn header_text(&self, name: &str) -> Option<&str> {
        self.header(name).and_then(|value| str::from_utf8(value).ok())
    }

    /// Every header in order, names as often as they came.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()))
    }

    /// Which of its consumer's topics it was read from.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    pub(crate) fn topic_partition(&self) -> TopicPartition {
        TopicPartition { source: self.source, partition: self.partition }
    }

    /// Its place in the topic that the consumer subscribes to. A retried record keeps the place of its
    /// first delivery; `None` when it does not say which that is, or lies in another partition.
    #[must_use]
    pub fn original_place(&self) -> Option<(Partition, Offset)> {
        match self.source {
            Source::Topic => Some((self.partition, self.offset)),
            Source::Retry => {
                let number = |name| self.header_text(name)?.parse::<i64>().ok().filter(|number| *number >= 0);
                let is_here = number(headers::DLQ_PARTITION)? == i64::from(self.partition.0);
                is_here.then_some((self.partition, Offset(number(headers::DLQ_OFFSET)?)))
            }
        }
    }

    /// When its producer sent it, where the producer said so.
    #[must_use]
    pub fn sent_at(&self) -> Option<DateTime<Utc>> {
        self.timestamp_millis.and_then(DateTime::from_timestamp_millis)
    }

    /// The request and the trace it belongs to, from its headers.
    #[must_use]
    pub fn request_context(&self) -> RequestContext {
        RequestContext::carried(self.header_text(headers::REQUEST_ID), self.header_text(headers::TRACEPARENT))
    }

    /// How much memory its bytes take, roughly.
    pub(crate) fn size(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len)).sum();
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len) + headers
    }
}

impl fmt::Debug for Record {
    /// Where it stands and how large it is; never what it says, which may name people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({}/{}, {} bytes)", self.partition, self.offset, self.size())
    }
}

fn copied_headers(headers: &impl Headers) -> Vec<(String, Option<Vec<u8>>)> {
    let mut copied = Vec::with_capacity(headers.count());
    for index in 0..headers.count() {
        // The client library panics on a name that is not UTF-8. Such a header, which anybody can
        // produce, must not end the process again and again: it is left out.
        let header = catch_unwind(AssertUnwindSafe(|| headers.try_get(index))).ok().flatten();
        if let Some(header) = header {
            copied.push((header.key.to_owned(), header.value.map(<[u8]>::to_vec)));
        }
    }
    copied
}

/// A batch in the parts that are of one partition of one topic each.
pub fn by_partition(batch: &[Record]) -> impl Iterator<Item = (Partition, &[Record])> {
    by_topic_partition(batch).map(|(of, part)| (of.partition, part))
}

pub(crate) fn by_topic_partition(batch: &[Record]) -> impl Iterator<Item = (TopicPartition, &[Record])> {
    let parts = batch.chunk_by(|one, next| one.topic_partition() == next.topic_partition());
    parts.filter_map(|part| Some((part.first()?.topic_partition(), part)))
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Header;

    use super::*;

    #[test]
    fn a_record_tells_empty_from_absent() {
        let record = Record::new(Partition(0), Offset(7)).with_key("").with_header("a", "");
        assert_eq!(record.key(), Some(&b""[..]));
        assert_eq!(record.value(), None);
        assert_eq!(record.header("a"), Some(&b""[..]));
        assert_eq!(record.header("b"), None);
    }

    #[test]
    fn the_cause_comes_from_the_headers() {
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let record = Record::new(Partition(0), Offset(0))
            .with_header(headers::REQUEST_ID, "req-7")
            .with_header(headers::TRACEPARENT, traceparent);
        assert_eq!(record.request_context(), RequestContext::carried(Some("req-7"), Some(traceparent)));
        assert_eq!(Record::new(Partition(0), Offset(0)).request_context(), RequestContext::none());
    }

    #[test]
    fn a_retried_record_keeps_the_place_of_its_first_delivery() {
        let retried = |partition: &str, offset: &str| {
            Record::new(Partition(3), Offset(1))
                .from_source(Source::Retry)
                .with_header(headers::DLQ_PARTITION, partition)
                .with_header(headers::DLQ_OFFSET, offset)
        };
        assert_eq!(retried("3", "71").original_place(), Some((Partition(3), Offset(71))));
        for (partition, offset) in [("4", "71"), ("3", "-1"), ("3", "seventy"), ("-3", "71")] {
            assert_eq!(retried(partition, offset).original_place(), None, "{partition}/{offset}");
        }
        // On the topic itself anybody can write these headers, and they say nothing.
        let forged = retried("3", "71").from_source(Source::Topic);
        assert_eq!(forged.original_place(), Some((Partition(3), Offset(1))));
    }

    /// Headers whose second name is not UTF-8, as the client library treats them.
    struct Poisoned;

    impl Headers for Poisoned {
        fn count(&self) -> usize {
            3
        }

        fn try_get(&self, index: usize) -> Option<Header<'_, &[u8]>> {
            assert_ne!(index, 1, "not UTF-8");
            Some(Header { key: "name", value: Some(b"value") })
        }
    }

    #[test]
    fn a_header_that_the_library_cannot_read_is_left_out() {
        assert_eq!(copied_headers(&Poisoned).len(), 2);
    }

    #[test]
    fn what_a_record_says_is_not_in_its_debug() {
        let record = Record::new(Partition(1), Offset(2)).with_key("ada@example.org").with_value("secret");
        assert_eq!(format!("{record:?}"), "Record(1/2, 21 bytes)");
    }
}
