use std::borrow::Cow;

use events::headers;
use rdkafka::message::{Header, OwnedHeaders};
use runtime::trace::Cause;

use crate::record::Partition;

/// A header's name and value.
type RawHeader<'a> = (Cow<'a, str>, Option<Cow<'a, [u8]>>);

/// A message to be sent. It borrows what it can: the client copies it when it is handed over.
#[derive(Clone, PartialEq, Eq)]
pub struct Outgoing<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: Option<Partition>,
    pub(crate) key: Option<Cow<'a, [u8]>>,
    pub(crate) value: Option<Cow<'a, [u8]>>,
    pub(crate) headers: Vec<RawHeader<'a>>,
}

impl<'a> Outgoing<'a> {
    /// A message to `topic` with neither key nor value yet. Without a value it is a tombstone.
    #[must_use]
    pub fn to(topic: &'a str) -> Self {
        Self { topic, partition: None, key: None, value: None, headers: Vec::new() }
    }

    /// With this key: messages of one key stay in order.
    #[must_use]
    pub fn with_key(self, key: impl Into<Cow<'a, [u8]>>) -> Self {
        Self { key: Some(key.into()), ..self }
    }

    /// With this value.
    #[must_use]
    pub fn with_value(self, value: impl Into<Cow<'a, [u8]>>) -> Self {
        Self { value: Some(value.into()), ..self }
    }

    /// With one header more. Each costs half a microsecond on either side, so there are few.
    #[must_use]
    pub fn with_header(self, name: impl Into<Cow<'a, str>>, value: impl Into<Cow<'a, str>>) -> Self {
        let value = match value.into() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        self.with_raw_header(name, Some(value))
    }

    /// With the headers that carry on what caused it; without any for [`Cause::none`].
    #[must_use]
    pub fn caused_by(mut self, cause: &'a Cause) -> Self {
        let carried = [(headers::REQUEST_ID, &cause.request_id), (headers::TRACEPARENT, &cause.traceparent)];
        for (name, value) in carried {
            if let Some(value) = value {
                self = self.with_header(name, value);
            }
        }
        self
    }

    pub(crate) fn with_raw_header(mut self, name: impl Into<Cow<'a, str>>, value: Option<Cow<'a, [u8]>>) -> Self {
        self.headers.push((name.into(), value));
        self
    }

    /// Into this partition, whatever the key says.
    pub(crate) fn into_partition(self, partition: Partition) -> Self {
        Self { partition: Some(partition), ..self }
    }

    pub(crate) fn native_headers(&self) -> Option<OwnedHeaders> {
        if self.headers.is_empty() {
            return None;
        }
        let empty = OwnedHeaders::new_with_capacity(self.headers.len());
        let filled = self
            .headers
            .iter()
            .fold(empty, |headers, (key, value)| headers.insert(Header { key, value: value.as_deref() }));
        Some(filled)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_becomes_headers_only_where_there_is_one() {
        let none = Cause::none();
        assert!(Outgoing::to("t").caused_by(&none).native_headers().is_none());
        let cause = Cause::carried(Some("req-7"), None);
        let message = Outgoing::to("t").caused_by(&cause);
        assert_eq!(message.headers, [("request_id".into(), Some(b"req-7"[..].into()))]);
    }
}
