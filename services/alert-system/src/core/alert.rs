//! The message that tells a user of a crossing.

use std::borrow::Cow;

use events::{AlertEvent, Crossing, Metric, alert_event_id};

use super::message::Reading;

/// The alert that `reading` led to. The same reading always leads to an alert of the same id.
#[must_use]
pub fn compose<'a>(reading: &'a Reading<'_>, crossing: Crossing) -> AlertEvent<'a> {
    let (flight_count, threshold) = (crossing.flight_count(), crossing.threshold());
    let kind = Cow::Borrowed(crossing.kind().as_str());
    // For readers that do not know the kind, and for versions that do not make the sentence themselves.
    let condition = Cow::Owned(crossing.to_string());
    match reading {
        Reading::Full(event) => AlertEvent {
            event_id: alert_event_id(event.event_id),
            interest_id: Some(event.interest_id),
            user_id: Some(event.user_id),
            user_email: Cow::Borrowed(&event.user_email),
            airport_code: Cow::Borrowed(&event.airport_code),
            metric: Cow::Borrowed(&event.metric),
            kind,
            flight_count,
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
            kind,
            flight_count,
            threshold,
            condition,
            reading: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use events::FlightCount;

    use super::*;
    use crate::core::{Message, WireRecord, read};

    const READING: &str = include_str!("../../../../crates/events/tests/golden/reading.json");
    const ALERT: &str = include_str!("../../../../crates/events/tests/golden/alert.json");
    const LEGACY_READING: &str = include_str!("../../../../crates/events/tests/golden/legacy_reading.json");

    fn high(flights: u32, threshold: u32) -> Crossing {
        Crossing::High { flight_count: FlightCount::new(flights), threshold: FlightCount::new(threshold) }
    }

    fn reading(value: &'static str) -> Reading<'static> {
        let key: Option<&[u8]> = Some(b"0193a5e2-7b1c-7c3e-8f00-000000000001");
        let value = Some(value.as_bytes());
        let record = WireRecord { topic: "to-alert-system", partition: 3, offset: 120, key, value, ce_type: None };
        let Message::Reading(reading) = read(&record).unwrap() else { panic!("a reading") };
        reading
    }

    #[test]
    fn the_golden_reading_leads_to_the_golden_alert() {
        let reading = reading(READING);
        let alert = serde_json::to_value(compose(&reading, high(10, 2))).unwrap();
        assert_eq!(alert, serde_json::from_str::<serde_json::Value>(ALERT).unwrap());
    }

    #[test]
    fn the_conditions_read_as_the_contract_says() {
        let reading = reading(READING);
        let low = Crossing::Low { flight_count: FlightCount::ZERO, threshold: FlightCount::new(1) };
        let recovered = Crossing::Recovered { flight_count: FlightCount::new(2) };
        for (crossing, kind, condition) in [
            (high(10, 2), "high", "The number of flights (10) exceeded the high threshold of 2."),
            (low, "low", "The number of flights (0) is below the low threshold of 1."),
            (recovered, "recovered", "The number of flights (2) is back within the thresholds."),
        ] {
            let alert = compose(&reading, crossing);
            assert_eq!((alert.kind.as_ref(), alert.condition.as_ref()), (kind, condition));
            assert_eq!((alert.flight_count, alert.threshold), (crossing.flight_count(), crossing.threshold()));
        }
    }

    #[test]
    fn an_alert_of_the_legacy_format_has_a_lasting_id() {
        let reading = reading(LEGACY_READING);
        let alert = compose(&reading, high(10, 2));
        assert_eq!(alert.event_id.to_string(), "587dda6d-37ea-5808-92dc-8570f695f529");
        assert_eq!((alert.interest_id, alert.user_id, alert.metric.as_ref()), (None, None, "flights"));
    }
}
