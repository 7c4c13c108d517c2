use std::borrow::Cow;

use events::headers;
use rdkafka::message::{Header, OwnedHeaders};
use runtime::trace::RequestContext;

use crate::record::Partition;

/// A header's name and value.
type RawHeader<'a> = (Cow<'a, str>, Option<Cow<'a, [u8]>>);

/// A message to be sent. It borrows what it can: the client copies it when it is handed over.
#[derive(Clone, PartialEq, Eq)]
pub struct OutgoingRecord<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: Option<Partition>,
    pub(crate) key: Option<Cow<'a, [u8]>>,
    pub(crate) value: Option<Cow<'a, [u8]>>,
    pub(crate) headers: Vec<RawHeader<'a>>,
}

impl<'a> OutgoingRecord<'a> {
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

    /// With the headers that carry on what caused it; without any for [`RequestContext::none`].
    #[must_use]
    pub fn with_request_context(mut self, context: &'a RequestContext) -> Self {
        let carried = [(headers::REQUEST_ID, &context.request_id), (headers::TRACEPARENT, &context.traceparent)];
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
        let none = RequestContext::none();
        assert!(OutgoingRecord::to("t").with_request_context(&none).native_headers().is_none());
        let context = RequestContext::carried(Some("req-7"), None);
        let message = OutgoingRecord::to("t").with_request_context(&context);
        assert_eq!(message.headers, [("request_id".into(), Some(b"req-7"[..].into()))]);
    }
}
