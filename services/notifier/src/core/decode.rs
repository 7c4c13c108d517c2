//! A message on the topic, read into an alert or refused.

use std::borrow::Cow;

use events::{AlertEvent, AlertKind, EmailAddress, FlightCount, LegacyAlert, ReadingRef, headers};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use uuid::Uuid;

use super::message::{Alert, Reading};

/// What a message says, before it is known where it stood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// Its identity; the oldest kind of message has none of its own.
    pub event_id: Option<Uuid>,
    /// Whom to tell.
    pub email: EmailAddress,
    /// The registration that is meant.
    pub user_id: Option<Uuid>,
    /// What to tell.
    pub alert: Alert,
}

/// Reads a message of type `kind` (the header, where there is one).
///
/// # Errors
/// Why it can never be read, without repeating any of it.
pub fn decode(kind: Option<&str>, value: Option<&[u8]>) -> Result<Decoded, &'static str> {
    if kind.is_some_and(|kind| kind != headers::ALERT_V1) {
        return Err("the type in its header is not one this version knows");
    }
    let value = value.filter(|value| !value.is_empty()).ok_or("the message has no value")?;
    // Read in two steps, so that the shape is chosen by what is there and the reason can be told.
    let json: Value = serde_json::from_slice(value).map_err(|_| "the value is not JSON")?;
    let fields = json.as_object().ok_or("the value is not a JSON object")?;
    let decoded = if fields.contains_key("event_id") || fields.contains_key("kind") {
        full(str::from_utf8(value).map_err(|_| "the value is not UTF-8")?)?
    } else {
        let text = str::from_utf8(value).map_err(|_| "the value is not UTF-8")?;
        legacy(&serde_json::from_str(text).map_err(|_| "user_email, airport_code or condition is missing or no text")?)?
    };
    if decoded.alert.airport_code.trim().is_empty() || decoded.alert.condition.trim().is_empty() {
        return Err("the airport code or the condition is empty");
    }
    Ok(decoded)
}

/// What is told of an alert, whatever its kind: a kind that is yet to come may count nothing, cross
/// nothing and have no reading.
#[derive(Deserialize)]
struct WireAlert<'a> {
    event_id: Option<Uuid>,
    user_id: Option<Uuid>,
    #[serde(borrow)]
    user_email: Cow<'a, str>,
    #[serde(borrow)]
    airport_code: Cow<'a, str>,
    metric: Option<String>,
    #[serde(borrow)]
    kind: Cow<'a, str>,
    #[serde(default, deserialize_with = "usable")]
    flight_count: Option<FlightCount>,
    #[serde(default, deserialize_with = "usable")]
    threshold: Option<FlightCount>,
    #[serde(borrow)]
    condition: Cow<'a, str>,
    #[serde(borrow)]
    reading: Option<ReadingRef<'a>>,
}

/// A number of flights, if it is one: a kind that is yet to come may put something else there.
fn usable<'de, D: Deserializer<'de>>(field: D) -> Result<Option<FlightCount>, D::Error> {
    Value::deserialize(field).map(|value| FlightCount::deserialize(value).ok())
}

fn full(text: &str) -> Result<Decoded, &'static str> {
    const SPOILT: &str = "a field of the alert is missing or of the wrong type";
    let wire: WireAlert<'_> = serde_json::from_str(text).map_err(|_| SPOILT)?;
    if AlertKind::from_name(&wire.kind).is_some() {
        serde_json::from_str::<AlertEvent<'_>>(text).map_err(|_| SPOILT)?;
    }
    if !wire.reading.as_ref().is_none_or(ReadingRef::has_usable_times) {
        return Err("the times of the reading must be in the years 1 to 9999");
    }
    Ok(Decoded {
        event_id: wire.event_id,
        email: address(&wire.user_email)?,
        user_id: wire.user_id,
        alert: Alert {
            airport_code: storable(&wire.airport_code),
            condition: storable(&wire.condition),
            kind: Some(storable(&wire.kind)),
            flight_count: wire.flight_count,
            threshold: wire.threshold,
            metric: wire.metric.as_deref().map(storable),
            reading: wire.reading.map(|reading| Reading {
                window_begin: reading.window_begin,
                window_end: reading.window_end,
                observed_at: reading.observed_at,
                source: storable(&reading.source),
            }),
        },
    })
}

fn legacy(event: &LegacyAlert<'_>) -> Result<Decoded, &'static str> {
    Ok(Decoded {
        event_id: None,
        email: address(&event.user_email)?,
        user_id: None,
        alert: Alert {
            airport_code: storable(&event.airport_code),
            condition: storable(&event.condition),
            kind: None,
            flight_count: None,
            threshold: None,
            metric: None,
            reading: None,
        },
    })
}

fn address(text: &str) -> Result<EmailAddress, &'static str> {
    text.parse().map_err(|_| "user_email is no e-mail address")
}

/// PostgreSQL stores every character but this one.
fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The identity of a message that has none of its own: where it stood.
#[must_use]
pub fn identity(topic: &str, partition: i32, offset: i64) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("kafka:{topic}/{partition}/{offset}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = include_str!("../../../../crates/events/tests/golden/alert.json");
    const LEGACY: &str = include_str!("../../../../crates/events/tests/golden/legacy_alert.json");

    fn without(json: &str, field: &str) -> String {
        let mut value: Value = serde_json::from_str(json).expect("JSON");
        value.as_object_mut().expect("an object").remove(field);
        value.to_string()
    }

    fn with(json: &str, field: &str, value: Value) -> String {
        let mut whole: Value = serde_json::from_str(json).expect("JSON");
        whole[field] = value;
        whole.to_string()
    }

    fn read(json: &str) -> Result<Decoded, &'static str> {
        decode(Some(headers::ALERT_V1), Some(json.as_bytes()))
    }

    #[test]
    fn an_alert_is_read_with_or_without_its_header() {
        let decoded = read(FULL).expect("the golden file");
        assert_eq!(decoded, decode(None, Some(FULL.as_bytes())).expect("the same"));
        assert_eq!(decoded.email.as_str(), "ada@example.org");
        assert_eq!(decoded.alert.kind.as_deref(), Some("high"));
        assert_eq!(decoded.alert.flight_count, Some(FlightCount::new(10)));
        assert_eq!(decoded.alert.threshold, Some(FlightCount::new(2)));
        assert!(decoded.event_id.is_some() && decoded.user_id.is_some() && decoded.alert.reading.is_some());
    }

    #[test]
    fn three_fields_are_enough() {
        let decoded = read(LEGACY).expect("the golden file");
        assert_eq!((decoded.event_id, decoded.user_id, &decoded.alert.reading), (None, None, &None));
        assert_eq!(decoded.alert.condition, "The number of flights (10) exceeded the high threshold of 2.");
        assert_eq!((decoded.alert.kind, decoded.alert.flight_count, decoded.alert.threshold), (None, None, None));
    }

    #[test]
    fn a_kind_and_fields_of_a_newer_version_are_taken() {
        let newer = with(&with(FULL, "kind", "digest".into()), "colour", "blue".into());
        assert_eq!(read(&newer).expect("a newer kind").alert.kind.as_deref(), Some("digest"));
    }

    #[test]
    fn of_a_newer_kind_only_what_is_told_must_be_there() {
        let newer = r#"{"user_email":"ada@example.org","airport_code":"LFPG","kind":"no-data","condition":"No data.",
                        "flight_count":null,"threshold":"none"}"#;
        let decoded = read(newer).expect("a newer kind");
        assert_eq!((decoded.event_id, decoded.alert.metric, decoded.alert.reading), (None, None, None));
        assert_eq!((decoded.alert.flight_count, decoded.alert.threshold), (None, None));
        for kind in ["high", "low", "recovered"] {
            assert!(read(&with(newer, "kind", kind.into())).is_err(), "{kind}");
        }
        for field in ["condition", "user_email", "airport_code", "kind"] {
            assert!(read(&with(newer, field, Value::Null)).is_err(), "{field}");
        }
    }

    #[test]
    fn times_that_no_database_need_hold_are_refused() {
        for time in ["-9999-01-01T00:00:00Z", "0000-12-31T23:59:59Z", "+12026-11-20T00:00:00Z"] {
            for field in ["window_begin", "window_end", "observed_at"] {
                let mut value: Value = serde_json::from_str(FULL).expect("JSON");
                value["reading"][field] = time.into();
                let said = read(&value.to_string());
                assert_eq!(said, Err("the times of the reading must be in the years 1 to 9999"), "{field} {time}");
            }
        }
    }

    #[test]
    fn what_can_never_be_read_is_refused_with_a_reason_that_repeats_nothing() {
        for (value, reason) in [
            (String::new(), "the message has no value"),
            ("ada@example.org".to_owned(), "the value is not JSON"),
            ("[1]".to_owned(), "the value is not a JSON object"),
            ("{}".to_owned(), "user_email, airport_code or condition is missing or no text"),
            (without(FULL, "condition"), "a field of the alert is missing or of the wrong type"),
            (with(FULL, "flight_count", "ten".into()), "a field of the alert is missing or of the wrong type"),
            (with(FULL, "flight_count", (-1).into()), "a field of the alert is missing or of the wrong type"),
            (with(FULL, "threshold", (-1).into()), "a field of the alert is missing or of the wrong type"),
            (with(FULL, "event_id", "7".into()), "a field of the alert is missing or of the wrong type"),
            (without(LEGACY, "user_email"), "user_email, airport_code or condition is missing or no text"),
            (with(LEGACY, "user_email", "ada".into()), "user_email is no e-mail address"),
            (with(LEGACY, "condition", " ".into()), "the airport code or the condition is empty"),
        ] {
            assert_eq!(read(&value), Err(reason), "{value}");
        }
        assert_eq!(decode(None, None), Err("the message has no value"));
        assert_eq!(decode(None, Some(b"\xff")), Err("the value is not JSON"));
        let future = decode(Some("flightbell.alert.v2"), Some(FULL.as_bytes()));
        assert_eq!(future, Err("the type in its header is not one this version knows"));
    }

    #[test]
    fn a_character_that_cannot_be_stored_is_replaced() {
        let hostile = with(LEGACY, "condition", "a\u{0}b".into());
        assert_eq!(read(&hostile).expect("read").alert.condition, "a\u{fffd}b");
    }

    #[test]
    fn a_place_is_an_identity() {
        assert_eq!(identity("to-notifier", 3, 7), identity("to-notifier", 3, 7));
        assert_ne!(identity("to-notifier", 3, 7), identity("to-notifier", 37, 7));
        assert_ne!(identity("to-notifier", 3, 7), identity("to-notifier", 3, 8));
    }
}
