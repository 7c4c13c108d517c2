//! Names of the Kafka headers. They are few, since each costs time on the hot path.

/// What the value is: [`READING_V1`] or [`ALERT_V1`]. A message without it is judged by its body.
pub const TYPE: &str = "ce_type";
/// W3C trace context, present when the trace is sampled.
pub const TRACEPARENT: &str = "traceparent";
/// The id of the HTTP request that caused the message, where one did.
pub const REQUEST_ID: &str = "request_id";

/// [`TYPE`] of a [`ReadingEvent`](crate::ReadingEvent).
pub const READING_V1: &str = "flightbell.reading.v1";
/// [`TYPE`] of an [`AlertEvent`](crate::AlertEvent).
pub const ALERT_V1: &str = "flightbell.alert.v1";

/// On a dead letter: the topic it was taken from.
pub const DLQ_TOPIC: &str = "dlq_original_topic";
/// On a dead letter: the partition it was taken from.
pub const DLQ_PARTITION: &str = "dlq_original_partition";
/// On a dead letter: the offset it had there.
pub const DLQ_OFFSET: &str = "dlq_original_offset";
/// On a dead letter: why it could not be processed, for a person to read.
pub const DLQ_REASON: &str = "dlq_reason";
