//! The golden files are the promise: what is written today is read by every version that follows.

#![cfg(test)]

use events::{
    AlertEvent, AlertKind, Crossing, FlightCount, LegacyAlert, LegacyReading, ReadingEvent, alert_event_id,
    reading_event_id,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

fn golden(name: &str) -> String {
    let path = format!("{}/tests/golden/{name}.json", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("read {path}: {error}"))
}

fn written_as_read<'a, T>(text: &'a str)
where
    T: Serialize + Deserialize<'a>,
{
    let event: T = serde_json::from_str(text).expect("the golden file decodes");
    let written = serde_json::to_value(&event).expect("events encode");
    assert_eq!(written, serde_json::from_str::<Value>(text).expect("the golden file is JSON"));
}

fn with_an_unknown_field(text: &str) -> String {
    let mut value: Value = serde_json::from_str(text).expect("the golden file is JSON");
    value["field_of_the_future"] = Value::from(1);
    value.to_string()
}

#[test]
fn a_reading_is_written_as_it_was_read() {
    written_as_read::<ReadingEvent>(&golden("reading"));
}

#[test]
fn an_unknown_reading_is_written_as_it_was_read() {
    written_as_read::<ReadingEvent>(&golden("reading_unknown"));
}

#[test]
fn a_legacy_reading_is_written_as_it_was_read() {
    written_as_read::<LegacyReading>(&golden("legacy_reading"));
}

#[test]
fn an_alert_is_written_as_it_was_read() {
    written_as_read::<AlertEvent>(&golden("alert"));
}

#[test]
fn a_legacy_alert_is_written_as_it_was_read() {
    written_as_read::<LegacyAlert>(&golden("legacy_alert"));
}

#[test]
fn fields_of_the_future_are_ignored() {
    serde_json::from_str::<ReadingEvent>(&with_an_unknown_field(&golden("reading")))
        .expect("unknown fields are ignored");
    serde_json::from_str::<LegacyReading>(&with_an_unknown_field(&golden("legacy_reading")))
        .expect("unknown fields are ignored");
    serde_json::from_str::<AlertEvent>(&with_an_unknown_field(&golden("alert"))).expect("unknown fields are ignored");
    serde_json::from_str::<LegacyAlert>(&with_an_unknown_field(&golden("legacy_alert")))
        .expect("unknown fields are ignored");
}

#[test]
fn ids_follow_from_their_cause() {
    let text = golden("reading");
    let event: ReadingEvent = serde_json::from_str(&text).expect("the golden file decodes");
    assert_eq!(event.event_id, reading_event_id(event.interest_id, event.interest_version, event.reading.id));
    let text = golden("alert");
    let alert: AlertEvent = serde_json::from_str(&text).expect("the golden file decodes");
    assert_eq!(alert.event_id, alert_event_id(event.event_id));
    assert_ne!(event.event_id, reading_event_id(event.interest_id, event.interest_version + 1, event.reading.id));
}

#[test]
fn conditions_read_as_the_contract_says() {
    use events::Crossing::{High, Low, Recovered};
    let of = FlightCount::new;
    for (crossing, condition) in [
        (
            High { flight_count: of(10), threshold: of(2) },
            "The number of flights (10) exceeded the high threshold of 2.",
        ),
        (Low { flight_count: of(0), threshold: of(1) }, "The number of flights (0) is below the low threshold of 1."),
        (Recovered { flight_count: of(2) }, "The number of flights (2) is back within the thresholds."),
    ] {
        assert_eq!(crossing.to_string(), condition);
    }
}

#[test]
fn the_condition_of_an_alert_is_what_its_numbers_say() {
    let text = golden("alert");
    let alert: AlertEvent = serde_json::from_str(&text).expect("the golden file decodes");
    let kind = AlertKind::from_name(&alert.kind).expect("a kind that is known");
    let crossing = Crossing::new(kind, alert.flight_count, alert.threshold).expect("a crossing");
    assert_eq!(crossing.to_string(), alert.condition);
}

#[test]
fn negative_numbers_are_refused_wherever_they_stand() {
    for (name, field) in [
        ("reading", "flight_count"),
        ("reading", "high_value"),
        ("legacy_reading", "low_value"),
        ("alert", "flight_count"),
        ("alert", "threshold"),
    ] {
        let mut value: Value = serde_json::from_str(&golden(name)).expect("the golden file is JSON");
        value[field] = Value::from(-1);
        let text = value.to_string();
        let error = match name {
            "reading" => serde_json::from_str::<ReadingEvent>(&text).map(drop),
            "legacy_reading" => serde_json::from_str::<LegacyReading>(&text).map(drop),
            _ => serde_json::from_str::<AlertEvent>(&text).map(drop),
        };
        let said = error.expect_err(field).to_string();
        assert!(said.contains("a number of flights must not be negative"), "{name}.{field}: {said}");
    }
}

#[test]
fn every_metric_is_read_from_its_own_name() {
    for metric in events::Metric::ALL {
        assert_eq!(metric.as_str().parse(), Ok(metric));
    }
    assert!("Flights".parse::<events::Metric>().is_err());
}
