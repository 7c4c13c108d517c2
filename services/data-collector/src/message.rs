//! What is sent for a reading: one message for each interest.
//!
//! A fan-out writes many messages that differ in a few fields, so what they share is written once:
//! the rest of a message is filled in between. It is the same JSON that [`events::ReadingEvent`]
//! makes, and a test compares them.

use std::io::Write as _;

use events::{FlightCount, headers, reading_event_id};
use kafka::OutgoingRecord;
use runtime::trace::RequestContext;
use serde::Serialize;
use uuid::Uuid;

use crate::store::{Reading, fan_out::Recipient, interests::Interest};

/// One reading's messages.
pub struct Messages {
    reading_id: Uuid,
    /// From the airport to the place of the high threshold.
    middle: Vec<u8>,
    /// The reading, to the end.
    tail: Vec<u8>,
}

#[derive(Serialize)]
struct Middle<'a> {
    airport_code: &'a str,
    metric: &'static str,
    flight_count: Option<FlightCount>,
}

#[derive(Serialize)]
struct Tail<'a> {
    reading: events::ReadingRef<'a>,
}

impl Messages {
    /// The messages of `reading`.
    ///
    /// # Errors
    /// Never, as far as text and numbers can be written.
    pub fn of(reading: &Reading) -> serde_json::Result<Self> {
        let middle = Middle {
            airport_code: &reading.airport,
            metric: reading.metric.as_str(),
            flight_count: reading.flight_count,
        };
        let tail = Tail {
            reading: events::ReadingRef {
                id: reading.id,
                seq: reading.seq,
                window_begin: reading.window_begin,
                window_end: reading.window_end,
                observed_at: reading.observed_at,
                source: reading.source.as_str().into(),
            },
        };
        let inner = |object: Vec<u8>| object[1..object.len().saturating_sub(1)].to_vec();
        Ok(Self {
            reading_id: reading.id,
            middle: inner(serde_json::to_vec(&middle)?),
            tail: inner(serde_json::to_vec(&tail)?),
        })
    }

    /// Writes the message to one interest into `buffer`, in place of what it held.
    ///
    /// # Errors
    /// Never, as far as memory can be written.
    pub fn write(&self, to: &Recipient, buffer: &mut Vec<u8>) -> std::io::Result<()> {
        buffer.clear();
        let event_id = reading_event_id(to.interest_id, to.version, self.reading_id);
        write!(
            buffer,
            r#"{{"event_id":"{event_id}","interest_id":"{}","interest_version":{},"user_id":"{}","user_email":"#,
            to.interest_id, to.version, to.user_id,
        )?;
        serde_json::to_writer(&mut *buffer, &to.user_email)?;
        buffer.push(b',');
        buffer.extend_from_slice(&self.middle);
        buffer.extend_from_slice(br#","high_value":"#);
        threshold(to.thresholds.high, buffer)?;
        buffer.extend_from_slice(br#","low_value":"#);
        threshold(to.thresholds.low, buffer)?;
        buffer.push(b',');
        buffer.extend_from_slice(&self.tail);
        buffer.push(b'}');
        Ok(())
    }
}

fn threshold(threshold: Option<FlightCount>, buffer: &mut Vec<u8>) -> std::io::Result<()> {
    match threshold {
        Some(threshold) => write!(buffer, "{threshold}"),
        None => buffer.write_all(b"null"),
    }
}

impl From<&Interest> for Recipient {
    fn from(interest: &Interest) -> Self {
        Self {
            interest_id: interest.id,
            version: interest.version,
            user_id: interest.user_id,
            user_email: interest.user_email.clone(),
            thresholds: interest.thresholds,
            // What caused an evaluation stands in the outbox.
            context: RequestContext::none(),
        }
    }
}

/// A reading for one interest, as a record.
#[must_use]
pub fn record<'a>(topic: &'a str, key: &'a str, value: &'a [u8], context: &'a RequestContext) -> OutgoingRecord<'a> {
    let record = OutgoingRecord::to(topic).with_key(key.as_bytes()).with_value(value);
    record.with_header(headers::TYPE, headers::READING_V1).with_request_context(context)
}

/// The removal of an interest, as a record.
#[must_use]
pub fn removal<'a>(topic: &'a str, key: &'a str, context: &'a RequestContext) -> OutgoingRecord<'a> {
    OutgoingRecord::to(topic).with_key(key.as_bytes()).with_request_context(context)
}

#[cfg(test)]
mod tests {
    use events::{Metric, ReadingEvent};

    use super::*;
    use crate::core::interest::Thresholds;

    fn reading(flight_count: Option<FlightCount>) -> Reading {
        Reading {
            id: Uuid::from_u128(7),
            airport: "LFPG".to_owned(),
            metric: Metric::Live,
            seq: 17,
            flight_count,
            window_begin: "2026-11-20T09:59:00Z".parse().expect("a time"),
            window_end: "2026-11-20T10:00:00Z".parse().expect("a time"),
            observed_at: "2026-11-20T10:00:00.123456Z".parse().expect("a time"),
            source: "OpenSky \"Network\"".to_owned(),
        }
    }

    #[test]
    fn the_filled_in_message_is_the_contract_s() {
        for numbers in [[Some(10), Some(2), None], [None, None, Some(0)], [Some(0), Some(100_000), Some(3)]] {
            let [flight_count, high, low] = numbers.map(|number| number.map(FlightCount::new));
            let reading = reading(flight_count);
            let to = Recipient {
                interest_id: Uuid::from_u128(1),
                version: 3,
                user_id: Uuid::from_u128(2),
                user_email: "o'brien+\"x\"@example.org".to_owned(),
                thresholds: Thresholds { high, low },
                context: RequestContext::none(),
            };
            let mut written = b"left over".to_vec();
            Messages::of(&reading).expect("messages").write(&to, &mut written).expect("a message");
            let event = ReadingEvent {
                event_id: reading_event_id(to.interest_id, to.version, reading.id),
                interest_id: to.interest_id,
                interest_version: to.version,
                user_id: to.user_id,
                user_email: to.user_email.as_str().into(),
                airport_code: reading.airport.as_str().into(),
                metric: "live".into(),
                flight_count,
                high_value: high,
                low_value: low,
                reading: events::ReadingRef {
                    id: reading.id,
                    seq: reading.seq,
                    window_begin: reading.window_begin,
                    window_end: reading.window_end,
                    observed_at: reading.observed_at,
                    source: reading.source.as_str().into(),
                },
            };
            assert_eq!(String::from_utf8(written).expect("text"), serde_json::to_string(&event).expect("JSON"));
        }
    }
}
