//! The message that tells somebody of a crossing.

use std::borrow::Cow;

use events::{AlertEvent, Metric, alert_event_id};

use super::{decide::Crossing, message::Reading};

/// The alert that `reading` led to. The same reading always leads to an alert of the same id.
#[must_use]
pub fn compose<'a>(reading: &'a Reading<'_>, crossing: &Crossing) -> AlertEvent<'a> {
    let Crossing { kind, value, threshold } = *crossing;
    let kind_name = Cow::Borrowed(kind.as_str());
    let condition = Cow::Owned(kind.condition(value, threshold));
    match reading {
        Reading::Full(event) => AlertEvent {
            event_id: alert_event_id(event.event_id),
            interest_id: Some(event.interest_id),
            user_id: Some(event.user_id),
            user_email: Cow::Borrowed(&event.user_email),
            airport_code: Cow::Borrowed(&event.airport_code),
            metric: Cow::Borrowed(&event.metric),
            kind: kind_name,
            flight_count: value,
            threshold,
            condition,
            reading: Some(event.reading.clone()),
        },
        Reading::Legacy { cause, fields, .. } => AlertEvent {
            event_id: alert_event_id(*cause),
            interest_id: None,
            user_id: None,
            user_email: Cow::Borrowed(&fields.user_email),
            airport_code: Cow::Borrowed(&fields.airport_code),
            metric: Cow::Borrowed(Metric::default().as_str()),
            kind: kind_name,
            flight_count: value,
            threshold,
            condition,
            reading: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use events::AlertKind;

    use super::*;
    use crate::core::{Message, WireRecord, read};

    const READING: &str = include_str!("../../../../crates/events/tests/golden/reading.json");
    const ALERT: &str = include_str!("../../../../crates/events/tests/golden/alert.json");
    const LEGACY_READING: &str = include_str!("../../../../crates/events/tests/golden/legacy_reading.json");

    fn reading(value: &'static str) -> Reading<'static> {
        let key: Option<&[u8]> = Some(b"0193a5e2-7b1c-7c3e-8f00-000000000001");
        let value = Some(value.as_bytes());
        let record = WireRecord { topic: "to-alert-system", partition: 3, offset: 120, key, value, ce_type: None };
        let Message::Reading(reading) = read(&record).unwrap() else { panic!("a reading") };
        reading
    }

    #[test]
    fn the_golden_reading_leads_to_the_golden_alert() {
        let crossing = Crossing { kind: AlertKind::High, value: 10, threshold: Some(2) };
        let reading = reading(READING);
        let alert = serde_json::to_value(compose(&reading, &crossing)).unwrap();
        assert_eq!(alert, serde_json::from_str::<serde_json::Value>(ALERT).unwrap());
    }

    #[test]
    fn the_conditions_read_as_the_contract_says() {
        let reading = reading(READING);
        for (kind, value, threshold, condition) in [
            (AlertKind::High, 10, Some(2), "The number of flights (10) exceeded the high threshold of 2."),
            (AlertKind::Low, 0, Some(1), "The number of flights (0) is below the low threshold of 1."),
            (AlertKind::Recovered, 2, None, "The number of flights (2) is back within the thresholds."),
        ] {
            let alert = compose(&reading, &Crossing { kind, value, threshold });
            assert_eq!((alert.condition.as_ref(), alert.kind.as_ref()), (condition, kind.as_str()));
        }
    }

    #[test]
    fn an_alert_of_the_legacy_format_has_a_lasting_id() {
        let crossing = Crossing { kind: AlertKind::High, value: 10, threshold: Some(2) };
        let reading = reading(LEGACY_READING);
        let alert = compose(&reading, &crossing);
        assert_eq!(alert.event_id.to_string(), "587dda6d-37ea-5808-92dc-8570f695f529");
        assert_eq!((alert.interest_id, alert.user_id, alert.metric.as_ref()), (None, None, "flights"));
    }
}
