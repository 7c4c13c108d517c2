//! Messages on `to-alert-system`: read once, checked once, trusted from then on.

use std::{borrow::Cow, fmt};

use events::{EmailAddress, FlightCount, LegacyReading, NegativeFlightCount, ReadingEvent, topics::TO_ALERT_SYSTEM};
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::decide::{InterestEvent, Observation, Sequence, Thresholds};

/// The namespace of identities and causes of the legacy format (a random UUID, never to change).
const LEGACY_NAMESPACE: Uuid = Uuid::from_u128(0x6f0c_4a52_93de_4b1b_a1f7_2d58_0e9b_77c4);

/// The longest airport code that is taken; ICAO codes have four characters.
const LONGEST_AIRPORT_CODE: usize = 8;
/// The longest name of a metric or a source that is taken, in bytes: both are repeated in the alert,
/// which must always find room in Kafka.
const LONGEST_NAME: usize = 1024;

/// A record as Kafka gave it.
#[derive(Clone, Copy, Debug)]
pub struct WireRecord<'a> {
    /// The topic it was taken from.
    pub topic: &'a str,
    /// The partition it was taken from.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` for a removal.
    pub value: Option<&'a [u8]>,
    /// Its header [`TYPE`](events::headers::TYPE).
    pub ce_type: Option<&'a [u8]>,
}

/// A message that makes sense.
#[expect(clippy::large_enum_variant, reason = "removals are rare, and a box would cost each reading an allocation")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// An interest was removed.
    Removed(Uuid),
    /// A reading for a user.
    Reading(Reading<'a>),
}

/// A reading for a user, of either kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading<'a> {
    /// Addressed to an interest.
    Full(ReadingEvent<'a>),
    /// In the legacy format.
    Legacy {
        /// The version 5 UUID of e-mail address and airport.
        identity: Uuid,
        /// The version 5 UUID of topic, partition and offset.
        cause: Uuid,
        /// Partition and offset.
        sequence: Sequence,
        /// The five fields.
        fields: LegacyReading<'a>,
    },
}

/// Why a record is not processed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// It is of a type that this version does not know. Another version may send it beside ours, and it
    /// is not for us.
    UnknownType,
    /// It never can be, for a reason that a person reads.
    Invalid(String),
}

impl Rejection {
    fn new(reason: impl Into<String>) -> Self {
        Self::Invalid(reason.into())
    }

    /// a message in the legacy format has no order but its place, and this one's is not known.
    #[must_use]
    pub fn without_place() -> Self {
        Self::new("a retried legacy message must say in dlq_partition and dlq_offset where it was first")
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownType => f.write_str("this version does not know its type"),
            Self::Invalid(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for Rejection {}

/// Reads a record.
///
/// # Errors
/// When it is of an unknown type or can never be processed. A key that is not the interest id is one of the reasons:
/// the key chooses the partition, and only within one partition does an interest have an order.
pub fn read<'a>(record: &WireRecord<'a>) -> Result<Message<'a>, Rejection> {
    // Without a type it is judged by its shape.
    if !TO_ALERT_SYSTEM.knows(record.ce_type) {
        return Err(Rejection::UnknownType);
    }
    let Some(value) = record.value else { return removal(record.key).map(Message::Removed) };
    // The decoder would take an array for the fields in their order.
    if value.trim_ascii_start().first() != Some(&b'{') {
        return Err(Rejection::new("it is not a JSON object"));
    }
    match serde_json::from_slice::<ReadingEvent<'a>>(value) {
        Ok(event) => full(event, record.key, value),
        Err(error) if error.is_data() && !names_an_identity(value) => legacy(record, value),
        Err(error) => Err(unreadable(&error, value)),
    }
    .map(Message::Reading)
}

impl Message<'_> {
    /// What the level belongs to.
    #[must_use]
    pub const fn id(&self) -> Uuid {
        match self {
            Self::Removed(id) => *id,
            Self::Reading(reading) => reading.id(),
        }
    }

    /// Whether it is of the legacy format, whose level belongs to an identity and not an interest.
    #[must_use]
    pub const fn is_legacy(&self) -> bool {
        matches!(self, Self::Reading(Reading::Legacy { .. }))
    }
}

impl Reading<'_> {
    /// What the level belongs to: the interest's id, or the identity of the legacy format.
    #[must_use]
    pub const fn id(&self) -> Uuid {
        match self {
            Self::Full(event) => event.interest_id,
            Self::Legacy { identity, .. } => *identity,
        }
    }

    /// The reading, as far as the decision needs it.
    #[must_use]
    pub const fn observation(&self) -> Observation {
        match self {
            Self::Full(event) => Observation {
                sequence: Sequence { major: event.interest_version, minor: event.reading.seq },
                flight_count: event.flight_count,
                thresholds: Thresholds { high: event.high_value, low: event.low_value },
            },
            Self::Legacy { sequence, fields, .. } => Observation {
                sequence: *sequence,
                flight_count: fields.flight_count,
                thresholds: Thresholds { high: fields.high_value, low: fields.low_value },
            },
        }
    }

    /// The same, as an event.
    #[must_use]
    pub const fn event(&self) -> InterestEvent {
        InterestEvent::Observed(self.observation())
    }
}

fn removal(key: Option<&[u8]>) -> Result<Uuid, Rejection> {
    let key = key.ok_or_else(|| Rejection::new("it has neither key nor value"))?;
    Uuid::try_parse_ascii(key)
        .map_err(|_| Rejection::new("it has no value, which says that an interest was removed, but its key is no UUID"))
}

fn full<'a>(mut event: ReadingEvent<'a>, key: Option<&[u8]>, value: &[u8]) -> Result<Reading<'a>, Rejection> {
    let key = key.ok_or_else(|| Rejection::new("it has no key; the key must be interest_id"))?;
    if Uuid::try_parse_ascii(key) != Ok(event.interest_id) {
        return Err(Rejection::new("its key is not interest_id"));
    }
    if event.interest_version < 0 || event.reading.seq < 0 {
        return Err(Rejection::new("interest_version and reading.seq must not be negative"));
    }
    if event.metric.len().max(event.reading.source.len()) > LONGEST_NAME {
        return Err(Rejection::new("metric and reading.source must not be longer than 1024 bytes"));
    }
    if !event.reading.has_usable_times() {
        return Err(Rejection::new("the times of a reading must be in the years 1 to 9999"));
    }
    check_flight_count(event.flight_count, value)?;
    check_thresholds(event.high_value, event.low_value)?;
    event.user_email = email(event.user_email)?;
    event.airport_code = airport(event.airport_code)?;
    Ok(Reading::Full(event))
}

fn legacy<'a>(record: &WireRecord<'a>, value: &'a [u8]) -> Result<Reading<'a>, Rejection> {
    let mut fields: LegacyReading<'a> = serde_json::from_slice(value).map_err(|error| unreadable(&error, value))?;
    check_flight_count(fields.flight_count, value)?;
    check_thresholds(fields.high_value, fields.low_value)?;
    fields.user_email = email(fields.user_email)?;
    fields.airport_code = airport(fields.airport_code)?;
    let identity =
        Uuid::new_v5(&LEGACY_NAMESPACE, format!("{}\0{}", fields.user_email, fields.airport_code).as_bytes());
    let cause = format!("{}\0{}\0{}", record.topic, record.partition, record.offset);
    let cause = Uuid::new_v5(&LEGACY_NAMESPACE, cause.as_bytes());
    let sequence = Sequence { major: i64::from(record.partition), minor: record.offset };
    Ok(Reading::Legacy { identity, cause, sequence, fields })
}

/// The complaint of the decoder about `value`, without what it quotes of it.
fn unreadable(error: &serde_json::Error, value: &[u8]) -> Rejection {
    if !error.is_data() {
        return Rejection::new(format!("it is not JSON: {error}"));
    }
    let said = error.to_string();
    if said.starts_with(&NegativeFlightCount.to_string())
        && let Some(field) = negative_field(value)
    {
        return Rejection::new(format!("{field} must not be negative"));
    }
    let place = format!("line {} column {}", error.line(), error.column());
    if said.starts_with("missing field") || said.starts_with("duplicate field") {
        return Rejection::new(format!("it is not a reading: {said}"));
    }
    match said.rsplit_once(", expected ") {
        Some((_, expected)) => Rejection::new(format!("it is not a reading: expected {expected}")),
        None => Rejection::new(format!("it is not a reading: a wrong value at {place}")),
    }
}

/// The first field whose number of flights is negative, which the decoder does not name.
fn negative_field(value: &[u8]) -> Option<&'static str> {
    let fields: Map<String, Value> = serde_json::from_slice(value).ok()?;
    let is_negative = |field: &&str| fields.get(*field).and_then(Value::as_i64).is_some_and(i64::is_negative);
    ["flight_count", "high_value", "low_value"].into_iter().find(is_negative)
}

/// Whether the message claims more than the legacy format has, so that it is a spoilt full one and must
/// not be taken for one in the legacy format.
fn names_an_identity(value: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Claims {
        event_id: Option<IgnoredAny>,
        interest_id: Option<IgnoredAny>,
        interest_version: Option<IgnoredAny>,
        user_id: Option<IgnoredAny>,
        reading: Option<IgnoredAny>,
    }
    serde_json::from_slice(value).is_ok_and(|claims: Claims| {
        [claims.event_id, claims.interest_id, claims.interest_version, claims.user_id, claims.reading]
            .iter()
            .any(Option::is_some)
    })
}

/// An absent `flight_count` is no unknown number but a mistake, and decodes alike: the difference is
/// looked up in the rare case.
fn check_flight_count(flight_count: Option<FlightCount>, value: &[u8]) -> Result<(), Rejection> {
    #[derive(Deserialize)]
    struct Named {
        #[serde(rename = "flight_count", deserialize_with = "Option::deserialize")]
        _flight_count: Option<IgnoredAny>,
    }
    match flight_count {
        Some(_) => Ok(()),
        None => serde_json::from_slice(value).map(|_: Named| ()).map_err(|error| unreadable(&error, value)),
    }
}

fn check_thresholds(high: Option<FlightCount>, low: Option<FlightCount>) -> Result<(), Rejection> {
    match (high, low) {
        (Some(high), Some(low)) if high <= low => Err(Rejection::new("high_value must be greater than low_value")),
        _ => Ok(()),
    }
}

fn email(text: Cow<'_, str>) -> Result<Cow<'_, str>, Rejection> {
    let address: EmailAddress =
        text.parse().map_err(|wrong: events::WrongEmailAddress| Rejection::new(format!("user_email {wrong}")))?;
    Ok(if address.as_str() == text { text } else { Cow::Owned(address.as_str().to_owned()) })
}

fn airport(text: Cow<'_, str>) -> Result<Cow<'_, str>, Rejection> {
    let code = text.trim();
    if !(1..=LONGEST_AIRPORT_CODE).contains(&code.len()) || !code.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(Rejection::new("airport_code must be an airport code like LFPG"));
    }
    let as_it_is = code.len() == text.len() && !code.bytes().any(|byte| byte.is_ascii_lowercase());
    Ok(if as_it_is { text } else { Cow::Owned(code.to_ascii_uppercase()) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const INTEREST: &str = "0193a5e2-7b1c-7c3e-8f00-000000000001";
    const GOLDEN: &str = include_str!("../../../../crates/events/tests/golden/reading.json");
    const GOLDEN_UNKNOWN: &str = include_str!("../../../../crates/events/tests/golden/reading_unknown.json");
    const GOLDEN_LEGACY: &str = include_str!("../../../../crates/events/tests/golden/legacy_reading.json");

    fn record<'a>(key: Option<&'a str>, value: Option<&'a [u8]>) -> WireRecord<'a> {
        let key = key.map(str::as_bytes);
        WireRecord { topic: "to-alert-system", partition: 3, offset: 120, key, value, ce_type: None }
    }

    fn reason(key: Option<&str>, value: Option<&[u8]>) -> String {
        read(&record(key, value)).expect_err("a rejection").to_string()
    }

    fn with(golden: &str, changes: &[(&str, Option<Value>)]) -> Vec<u8> {
        let mut value: Value = serde_json::from_str(golden).unwrap();
        for (field, change) in changes {
            let (object, field) = match field.strip_prefix("reading.") {
                Some(inner) => (value["reading"].as_object_mut().unwrap(), inner),
                None => (value.as_object_mut().unwrap(), *field),
            };
            match change {
                Some(change) => object.insert(field.to_owned(), change.clone()),
                None => object.remove(field),
            };
        }
        serde_json::to_vec(&value).unwrap()
    }

    #[test]
    fn the_golden_messages_are_read() {
        let Message::Reading(full) = read(&record(Some(INTEREST), Some(GOLDEN.as_bytes()))).unwrap() else { panic!() };
        assert_eq!(full.id().to_string(), INTEREST);
        assert_eq!(full.observation().sequence, Sequence { major: 3, minor: 17 });
        let Message::Reading(unknown) = read(&record(Some(INTEREST), Some(GOLDEN_UNKNOWN.as_bytes()))).unwrap() else {
            panic!()
        };
        assert_eq!(unknown.observation().flight_count, None);
        let Message::Reading(legacy) = read(&record(None, Some(GOLDEN_LEGACY.as_bytes()))).unwrap() else { panic!() };
        assert_eq!(legacy.observation().sequence, Sequence { major: 3, minor: 120 });
    }

    #[test]
    fn a_full_message_that_is_read_copies_nothing() {
        let Message::Reading(Reading::Full(event)) = read(&record(Some(INTEREST), Some(GOLDEN.as_bytes()))).unwrap()
        else {
            panic!()
        };
        let borrowed = [&event.user_email, &event.airport_code, &event.metric, &event.reading.source];
        assert!(borrowed.iter().all(|text| matches!(text, Cow::Borrowed(_))));
    }

    #[test]
    fn unknown_fields_and_absent_thresholds_are_taken() {
        let value = with(GOLDEN, &[("weather", Some(json!({"wind": 7}))), ("high_value", None), ("low_value", None)]);
        let Message::Reading(reading) = read(&record(Some(INTEREST), Some(&value))).unwrap() else { panic!() };
        assert_eq!(reading.observation().thresholds, Thresholds::default());
    }

    #[test]
    fn a_key_without_a_value_is_a_removal() {
        let removed = read(&record(Some(INTEREST), None)).unwrap();
        assert_eq!(removed, Message::Removed(INTEREST.parse().unwrap()));
        assert_eq!(reason(None, None), "it has neither key nor value");
        assert!(reason(Some("ada"), None).contains("its key is no UUID"));
    }

    #[test]
    fn what_is_not_json_is_rejected() {
        for value in ["", "hello", "\u{0}", "[]x", "[]", "7", "null", "\"x\""] {
            assert_eq!(reason(Some(INTEREST), Some(value.as_bytes())), "it is not a JSON object", "{value:?}");
        }
        for value in [&b"{\"user_email\":"[..], b"{'", b"{\"user_email\": \"\xff\xfe\"}"] {
            assert!(reason(Some(INTEREST), Some(value)).starts_with("it is not JSON: "), "{value:?}");
        }
        assert!(reason(Some(INTEREST), Some(b"{}")).starts_with("it is not a reading: missing field"));
    }

    #[test]
    fn a_spoilt_full_message_is_not_taken_for_one_of_the_legacy_format() {
        for field in ["event_id", "interest_id", "interest_version", "user_id", "reading", "metric", "reading.seq"] {
            let said = reason(Some(INTEREST), Some(&with(GOLDEN, &[(field, None)])));
            assert!(said.contains("missing field"), "{field}: {said}");
        }
    }

    #[test]
    fn an_absent_value_is_not_an_unknown_one() {
        for golden in [GOLDEN, GOLDEN_LEGACY] {
            let said = reason(Some(INTEREST), Some(&with(golden, &[("flight_count", None)])));
            assert!(said.contains("missing field `flight_count`"), "{said}");
        }
    }

    #[test]
    fn wrong_values_are_rejected_with_a_reason() {
        for (field, value, expected) in [
            ("flight_count", json!(-1), "flight_count must not be negative"),
            ("flight_count", json!(1e30), "it is not a reading"),
            ("flight_count", json!("7"), "it is not a reading"),
            ("high_value", json!(-1), "high_value must not be negative"),
            ("low_value", json!(i64::MIN), "low_value must not be negative"),
            ("low_value", json!(2), "high_value must be greater than low_value"),
            ("user_email", json!("ada"), "user_email must be an e-mail address"),
            ("airport_code", json!(""), "airport_code must be"),
            ("airport_code", json!("LF PG"), "airport_code must be"),
        ] {
            for golden in [GOLDEN, GOLDEN_LEGACY] {
                let said = reason(Some(INTEREST), Some(&with(golden, &[(field, Some(value.clone()))])));
                assert!(said.contains(expected), "{field}={value}: {said}");
            }
        }
        for (field, value) in [("interest_version", -1), ("reading.seq", -1)] {
            let said = reason(Some(INTEREST), Some(&with(GOLDEN, &[(field, Some(json!(value)))])));
            assert!(said.contains("must not be negative"), "{said}");
        }
        for field in ["metric", "reading.source"] {
            let said = reason(Some(INTEREST), Some(&with(GOLDEN, &[(field, Some(json!("x".repeat(1025))))])));
            assert!(said.contains("must not be longer"), "{said}");
        }
    }

    #[test]
    fn times_that_no_database_need_hold_are_rejected() {
        for time in ["-9999-01-01T00:00:00Z", "0000-12-31T23:59:59Z", "+12026-11-20T00:00:00Z"] {
            for field in ["reading.window_begin", "reading.window_end", "reading.observed_at"] {
                let said = reason(Some(INTEREST), Some(&with(GOLDEN, &[(field, Some(json!(time)))])));
                assert!(said.contains("in the years 1 to 9999"), "{field} {time}: {said}");
            }
        }
    }

    #[test]
    fn a_reason_never_repeats_what_the_record_says() {
        for field in ["flight_count", "interest_id", "user_email", "reading.observed_at", "reading"] {
            let said = reason(Some(INTEREST), Some(&with(GOLDEN, &[(field, Some(json!("eve at evil.org")))])));
            assert!(!said.contains("eve"), "{field}: {said}");
        }
    }

    #[test]
    fn a_key_that_is_not_the_interest_is_rejected() {
        assert_eq!(reason(None, Some(GOLDEN.as_bytes())), "it has no key; the key must be interest_id");
        for key in ["ada@example.org", "0193a5e2-7b1c-7c3e-8f00-000000000009"] {
            assert_eq!(reason(Some(key), Some(GOLDEN.as_bytes())), "its key is not interest_id");
        }
    }

    #[test]
    fn a_type_that_is_not_known_is_none_of_our_business_whatever_it_holds() {
        for ce_type in [&b"flightbell.reading.v2"[..], b"flightbell.alert.v1", b"ada@example.org", b"", b"\xff"] {
            for value in [Some(GOLDEN.as_bytes()), Some(&b"not JSON"[..]), None] {
                let typed = WireRecord { ce_type: Some(ce_type), ..record(Some(INTEREST), value) };
                assert_eq!(read(&typed), Err(Rejection::UnknownType), "{ce_type:?}");
            }
        }
        let known = |value| WireRecord { ce_type: Some(b"flightbell.reading.v1"), ..record(Some(INTEREST), value) };
        assert!(read(&known(Some(GOLDEN.as_bytes()))).is_ok());
        assert!(matches!(read(&known(Some(b"not JSON"))), Err(Rejection::Invalid(_))));
    }

    #[test]
    fn a_metric_of_a_newer_version_is_compared_as_any_number_is() {
        let value = with(GOLDEN, &[("metric", Some(json!("cargo")))]);
        assert!(matches!(read(&record(Some(INTEREST), Some(&value))), Ok(Message::Reading(_))));
    }

    #[test]
    fn two_spellings_of_one_person_and_airport_are_one_identity() {
        let id = |changes: &[(&str, Option<Value>)]| {
            let value = with(GOLDEN_LEGACY, changes);
            let Message::Reading(reading) = read(&record(None, Some(&value))).unwrap() else { panic!() };
            reading.id()
        };
        let one = id(&[]);
        assert_eq!(one, id(&[("user_email", Some(json!(" Ada@Example.org"))), ("airport_code", Some(json!("lfpg")))]));
        assert_ne!(one, id(&[("airport_code", Some(json!("LICC")))]));
    }
}
