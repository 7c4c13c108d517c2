//! The golden files are the promise: what is written today is read by every version that follows.

#![cfg(test)]

use events::{AlertEvent, LegacyAlert, LegacyReading, ReadingEvent, alert_event_id, reading_event_id};
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
    use events::AlertKind::{High, Low, Recovered};
    assert_eq!(High.condition(10, Some(2)), "The number of flights (10) exceeded the high threshold of 2.");
    assert_eq!(Low.condition(0, Some(1)), "The number of flights (0) is below the low threshold of 1.");
    assert_eq!(Recovered.condition(2, None), "The number of flights (2) is back within the thresholds.");
}

#[test]
fn every_metric_is_read_from_its_own_name() {
    for metric in events::Metric::ALL {
        assert_eq!(metric.as_str().parse(), Ok(metric));
    }
    assert!("Flights".parse::<events::Metric>().is_err());
}
