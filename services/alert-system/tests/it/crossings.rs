//! What is told, and what is not.

use events::{AlertEvent, FlightCount, headers};

use crate::test_env::{Interest, Sent, TestEnv, legacy};

#[tokio::test]
async fn a_crossing_is_told_once_and_the_return_once() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let interest = Interest::new();
    let flight_counts = [5, 11, 12, 99, 10, 5, 1, 0, 2, 99, 0, 5];
    let messages: Vec<_> = (1..).zip(flight_counts).map(|(seq, flights)| interest.reading(seq, flights)).collect();
    env.send(&messages).await;
    env.settled().await;
    let sent_alerts = env.sent_alerts().await;
    let said: Vec<_> =
        sent_alerts.iter().map(|sent_alert| (sent_alert.kind.as_str(), sent_alert.flight_count.get())).collect();
    assert_eq!(
        said,
        [("high", 11), ("recovered", 10), ("low", 1), ("recovered", 2), ("high", 99), ("low", 0), ("recovered", 5)]
    );
    assert!(worker.metric("alerts_total", "kind=\"high\"") == 2.0);
    assert!(worker.metric("consumer_records_settled_total", "outcome=\"quiet\"") == 5.0);
    worker.stop().await;
}

#[tokio::test]
async fn an_alert_says_whom_what_and_why_and_carries_its_cause_on() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let interest = Interest::new();
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut crossing = interest.reading(1, 11);
    crossing.headers.push((headers::REQUEST_ID, "req-7".to_owned()));
    crossing.headers.push((headers::TRACEPARENT, traceparent.to_owned()));
    env.send(&[crossing]).await;
    env.settled().await;
    let records = env.alert_records().await;
    assert_eq!(records.len(), 1);
    let alert: AlertEvent<'_> = serde_json::from_slice(records[0].value.as_deref().unwrap()).unwrap();
    let cause = interest.event(1, Some(11));
    assert_eq!(alert.event_id, events::alert_event_id(cause.event_id));
    assert_eq!((alert.interest_id, alert.user_id), (Some(interest.id), Some(cause.user_id)));
    assert_eq!(alert.condition, "The number of flights (11) exceeded the high threshold of 10.");
    let flight_count = FlightCount::new;
    assert_eq!((alert.flight_count, alert.threshold), (flight_count(11), Some(flight_count(10))));
    assert_eq!(alert.reading, Some(cause.reading));
    assert_eq!(records[0].key.as_deref(), Some(interest.email.as_bytes()));
    let header = |name: &str| records[0].header(name).map(|value| std::str::from_utf8(value).unwrap());
    assert_eq!(header(headers::TYPE), Some(headers::ALERT_V1));
    assert_eq!(header(headers::REQUEST_ID), Some("req-7"));
    assert_eq!(header(headers::TRACEPARENT), Some(traceparent));
    worker.stop().await;
}

#[tokio::test]
async fn an_unknown_value_is_silent_and_changes_no_level() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let (one, other) = (Interest::new(), Interest::new());
    env.send(&[one.reading(1, None), one.reading(2, 11), one.reading(3, None), one.reading(4, 12)]).await;
    env.send(&[other.reading(1, 11), other.reading(2, None), other.reading(3, 5)]).await;
    env.settled().await;
    assert_eq!(env.kinds_of(&one).await, ["high"]);
    assert_eq!(env.kinds_of(&other).await, ["high", "recovered"]);
    worker.stop().await;
}

#[tokio::test]
async fn thresholds_that_move_are_told_only_when_the_level_changes() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let mut interest = Interest::new();
    env.send(&[interest.reading(1, 15)]).await;
    interest = Interest { version: 2, high: Some(FlightCount::new(12)), ..interest };
    env.send(&[interest.reading(1, 15)]).await;
    interest = Interest { version: 3, high: Some(FlightCount::new(20)), ..interest };
    env.send(&[interest.reading(1, 15)]).await;
    interest = Interest { version: 4, high: None, low: Some(FlightCount::new(16)), ..interest };
    env.send(&[interest.reading(1, 15)]).await;
    env.settled().await;
    assert_eq!(env.kinds_of(&interest).await, ["high", "recovered", "low"]);
    worker.stop().await;
}

#[tokio::test]
async fn what_was_crossed_while_it_was_down_still_alerts_and_nothing_is_told_twice() {
    let env = TestEnv::new().await;
    let interest = Interest::new();
    for (seq, flight_counts, expected) in [
        (1, [5, 5], &[][..]),
        (3, [5, 11], &["high"][..]),
        (5, [12, 12], &["high"][..]),
        (7, [12, 5], &["high", "recovered"][..]),
    ] {
        env.send(&[interest.reading(seq, flight_counts[0]), interest.reading(seq + 1, flight_counts[1])]).await;
        let worker = env.start().await;
        env.settled().await;
        worker.stop().await;
        assert_eq!(env.kinds_of(&interest).await, expected, "after {seq}");
    }
    assert_eq!(env.sent_alerts().await.len(), 2);
}

#[tokio::test]
async fn the_legacy_format_has_one_level_for_each_person_and_airport() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let keyless = |sent: Sent| Sent { key: None, ..sent };
    let messages = [
        legacy("ada@example.org", "LICC", 5),
        legacy("ada@example.org", "LICC", 11),
        keyless(legacy("ada@example.org", "LFPG", 1)),
        legacy("ada@example.org", "LICC", None),
        legacy("Ada@Example.org", "licc", 12),
        legacy("bob@example.org", "LICC", 5),
        legacy("ada@example.org", "LICC", 5),
    ];
    for message in messages {
        env.send(&[message]).await;
        env.settled().await;
    }
    let records = env.alert_records().await;
    let mut said: Vec<_> = records
        .iter()
        .map(|record| {
            let alert: AlertEvent<'_> = serde_json::from_slice(record.value.as_deref().unwrap()).unwrap();
            assert_eq!((alert.interest_id, alert.user_id, alert.reading), (None, None, None));
            (
                String::from_utf8(record.key.clone().unwrap()).unwrap(),
                alert.airport_code.into_owned(),
                alert.kind.into_owned(),
            )
        })
        .collect();
    said.sort();
    let ada = |airport: &str, kind: &str| ("ada@example.org".to_owned(), airport.to_owned(), kind.to_owned());
    assert_eq!(said, [ada("LFPG", "low"), ada("LICC", "high"), ada("LICC", "recovered")]);
    worker.stop().await;
}
