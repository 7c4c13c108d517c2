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

/// On a dead letter, and on a record that is retried: the topic it was first read from.
pub const DLQ_TOPIC: &str = "dlq_topic";
/// On a dead letter, and on a record that is retried: the partition there.
pub const DLQ_PARTITION: &str = "dlq_partition";
/// On a dead letter, and on a record that is retried: the offset there.
pub const DLQ_OFFSET: &str = "dlq_offset";
/// On a dead letter: the record's key, where it had one that is not overlong.
pub const DLQ_KEY: &str = "dlq_key";
/// On a dead letter, and on a record that is retried: the consumer group that could not process it.
pub const DLQ_GROUP: &str = "dlq_group";
/// On a dead letter: why it could not be processed, for a person to read.
pub const DLQ_REASON: &str = "dlq_reason";

/// The names under which [`DLQ_TOPIC`], [`DLQ_PARTITION`] and [`DLQ_OFFSET`] stand on the dead letters of older versions.
pub const LEGACY_DLQ_PLACE: [&str; 3] = ["dlq_original_topic", "dlq_original_partition", "dlq_original_offset"];
