//! Outside answers that are well formed and wrong: what they may change, and what they may not.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use simulators::opensky::{Direction, Endpoint, Failure};

use crate::support::{App, PARIS, TestEnv, at, wait_for};

const ADA: &str = "ada@example.org";

async fn world_at(speed: u32) -> TestEnv {
    let env = TestEnv::at_speed(speed).await;
    env.person(ADA);
    env
}

fn time(reading: &Value, name: &str) -> DateTime<Utc> {
    at(reading[name].as_str().expect("a time"))
}

fn is_unknown(reading: &Value) -> bool {
    reading["value"].is_null()
}

/// The day before yesterday on the environment's clock.
fn before(env: &TestEnv) -> chrono::NaiveDate {
    env.yesterday().pred_opt().expect("a day")
}

#[tokio::test(flavor = "multi_thread")]
async fn vehicles_and_obstacles_are_not_counted_and_what_has_no_category_is() {
    for (columns, expected) in [(None, 5), (Some(17), 5 + 4 + 3)] {
        let env = world_at(1).await;
        env.opensky.set_columns(columns);
        env.scripted.set_aircraft_of_category("unknown", PARIS, 2, 0);
        env.scripted.set_aircraft_of_category("airliners", PARIS, 3, 4);
        env.scripted.set_aircraft_of_category("fire engines", PARIS, 4, 16);
        env.scripted.set_aircraft_of_category("masts", PARIS, 3, 19);
        let app = env.start().await;
        app.watch(ADA, "LFPG", "live", Some(10), None).await;
        assert_eq!(app.wait_reading("LFPG", "live", |_| true).await["value"], expected);
        assert_eq!(env.opensky.requests_to(Endpoint::States)[0].param("extended"), Some("1"));
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_another_time_is_unknown_and_its_message_does_not_contradict_itself() {
    for hours in [-3, 3] {
        let env = world_at(1).await;
        let then = (env.clock.now() + TimeDelta::hours(hours)).timestamp();
        let row = json!([
            "3c6668", null, "", then, then, PARIS.1, PARIS.0, null, false, null, null, null, null, null, null, false,
            0, 4
        ]);
        let body = json!({"time": then, "states": [row]});
        env.opensky.fail(Endpoint::States, Failure::body(body.to_string()));
        let app = env.start().await;
        let interest = app.watch(ADA, "LFPG", "live", Some(0), None).await;
        let reading = app.wait_reading("LFPG", "live", |_| true).await;
        assert!(is_unknown(&reading), "{hours} hours: {reading}");
        let (begin, end) = (time(&reading, "window_begin"), time(&reading, "window_end"));
        assert_eq!((time(&reading, "observed_at"), end - begin), (end, TimeDelta::seconds(60)), "{reading}");
        let sent = env.wait_sent(interest, |sent| !sent.is_empty()).await;
        assert!(sent[0]["flight_count"].is_null(), "{}", sent[0]);
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sky_that_empties_at_once_is_unknown_until_a_second_answer_says_the_same() {
    // A cycle of ten minutes passes in two seconds.
    let env = world_at(300).await;
    env.scripted.set_aircraft("a", PARIS.0, PARIS.1, 5);
    let app = env.start_with(|config| config.collect_interval = Duration::from_secs(600)).await;
    app.watch(ADA, "LFPG", "live", None, Some(3)).await;
    app.wait_reading("LFPG", "live", |reading| reading["value"] == 5).await;
    env.scripted.set_aircraft("a", PARIS.0, PARIS.1, 0);
    let unknown = app.wait_reading("LFPG", "live", is_unknown).await;
    env.scripted.set_aircraft("a", PARIS.0, PARIS.1, 6);
    app.wait_reading("LFPG", "live", |reading| reading["value"] == 6).await;
    assert!(app.readings("LFPG", "live").await.iter().all(|reading| reading["value"] != 0));
    // And when it stays so, it is so.
    env.scripted.set_aircraft("a", PARIS.0, PARIS.1, 0);
    let zero = app.wait_reading("LFPG", "live", |reading| reading["value"] == 0).await;
    let first = |reading: &Value| is_unknown(reading) && reading["seq"].as_i64() > unknown["seq"].as_i64();
    let doubted = app.wait_reading("LFPG", "live", first).await;
    assert_eq!(doubted["seq"].as_i64().map(|seq| seq + 1), zero["seq"].as_i64());
    app.stop().await;
}

/// In the box around Paris, and more than 25 nautical miles away.
const FAR_FROM_PARIS: (f64, f64) = (PARIS.0 + 0.4, PARIS.1 + 0.6);

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_holds_next_to_nothing_is_unknown_until_a_second_one_says_the_same() {
    // One fire engine, one aircraft that is far away, and one of the twenty.
    for (position, category, left) in [(PARIS, 16, 0), (FAR_FROM_PARIS, 4, 0), (PARIS, 4, 1)] {
        // A cycle of ten minutes passes in two seconds.
        let env = world_at(300).await;
        env.scripted.set_aircraft("a", PARIS.0, PARIS.1, 20);
        let app = env.start_with(|config| config.collect_interval = Duration::from_secs(600)).await;
        app.watch(ADA, "LFPG", "live", None, Some(3)).await;
        app.wait_reading("LFPG", "live", |reading| reading["value"] == 20).await;
        env.scripted.set_aircraft("a", PARIS.0, PARIS.1, 0);
        env.scripted.set_aircraft_of_category("b", position, 1, category);
        let told = app.wait_reading("LFPG", "live", |reading| reading["value"] == left).await;
        let unknown = app.wait_reading("LFPG", "live", is_unknown).await;
        assert_eq!(unknown["seq"].as_i64().map(|seq| seq + 1), told["seq"].as_i64(), "{position:?} {category}");
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_airport_that_falls_silent_in_a_full_answer_is_doubted_alone() {
    let env = world_at(300).await;
    // Beauvais is in the same box, and its aircraft are far from Paris.
    env.scripted.set_aircraft("a", PARIS.0, PARIS.1, 10);
    env.scripted.set_aircraft("b", 49.75, 1.95, 6);
    let app = env.start_with(|config| config.collect_interval = Duration::from_secs(600)).await;
    app.watch(ADA, "LFPG", "live", None, Some(3)).await;
    app.watch(ADA, "LFOB", "live", None, Some(3)).await;
    app.wait_reading("LFPG", "live", |reading| reading["value"] == 10).await;
    app.wait_reading("LFOB", "live", |reading| reading["value"] == 6).await;
    env.scripted.set_aircraft("a", PARIS.0, PARIS.1, 0);
    let told = app.wait_reading("LFPG", "live", |reading| reading["value"] == 0).await;
    let unknown = app.wait_reading("LFPG", "live", is_unknown).await;
    assert_eq!(unknown["seq"].as_i64().map(|seq| seq + 1), told["seq"].as_i64());
    assert!(app.readings("LFOB", "live").await.iter().all(|reading| reading["value"] == 6));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_list_publishes_no_day() {
    let env = world_at(1).await;
    // An upstream in trouble answers 200 with nothing in it.
    env.opensky.fail_always(Endpoint::Arrivals, Failure::body("[]"));
    let app = env.start().await;
    app.watch(ADA, "LICC", "arrivals", None, Some(3)).await;
    assert!(is_unknown(&app.wait_reading("LICC", "arrivals", |_| true).await));
    env.opensky.recover(Endpoint::Arrivals);
    app.watch(ADA, "KSFO", "arrivals", None, Some(300)).await;
    assert!(is_unknown(&app.wait_reading("KSFO", "arrivals", |_| true).await), "nothing there is no zero");
    assert_eq!(env.scalar("SELECT count(*) FROM published_days").await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_answers_another_question_is_unknown_and_publishes_nothing() {
    let row = |airport: &str, begin: &str, end: &str| {
        json!([{"icao24": "391cd9", "firstSeen": at(begin).timestamp(), "lastSeen": at(end).timestamp(), "callsign": null,
                "estDepartureAirport": null, "estArrivalAirport": airport}])
    };
    for wrong in [
        row("KJFK", "2026-11-19T08:00:00Z", "2026-11-19T09:00:00Z"),
        row("KSFO", "2026-11-17T08:00:00Z", "2026-11-17T09:00:00Z"),
        row("KSFO", "2099-11-19T08:00:00Z", "2099-11-19T09:00:00Z"),
    ] {
        let env = world_at(1).await;
        env.opensky.fail_always(Endpoint::Arrivals, Failure::body(wrong.to_string()));
        let app = env.start().await;
        app.watch(ADA, "KSFO", "arrivals", None, Some(3)).await;
        assert!(is_unknown(&app.wait_reading("KSFO", "arrivals", |_| true).await), "{wrong}");
        assert_eq!(env.scalar("SELECT count(*) FROM published_days").await, 0, "{wrong}");
        assert_eq!(env.scalar("SELECT count(*) FROM flights").await, 0, "{wrong}");
        assert!(app.metrics().contains("opensky_breaker_state{breaker=\"flights\"} 0"));
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_large_airport_is_served_whatever_a_small_field_says() {
    let env = world_at(1).await;
    env.scripted.set_flight_count("KSFO", Direction::Arrival, env.yesterday(), 12);
    let app = env.start().await;
    app.watch(ADA, "LICC", "arrivals", None, Some(3)).await;
    assert!(is_unknown(&app.wait_reading("LICC", "arrivals", |_| true).await));
    app.watch(ADA, "KSFO", "arrivals", Some(3), None).await;
    let reading = app.wait_reading("KSFO", "arrivals", |_| true).await;
    assert_eq!((&reading["value"], &reading["window_begin"]), (&json!(12), &json!("2026-11-19T00:00:00Z")));
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_airport_s_day_without_flights_is_unknown_until_a_second_answer_says_the_same() {
    let env = world_at(60).await;
    env.scripted.set_flight_count("KSFO", Direction::Arrival, before(&env), 30);
    let app = env.start_with(|config| config.collect_interval = Duration::from_secs(60)).await;
    app.watch(ADA, "KSFO", "arrivals", None, Some(20)).await;
    assert_eq!(app.wait_reading("KSFO", "arrivals", |_| true).await["value"], 30);
    // Yesterday turns out to be published, and no flight seems to have landed at San Francisco.
    env.scripted.set_flight_count("EGLL", Direction::Arrival, env.yesterday(), 8);
    app.watch(ADA, "EGLL", "arrivals", Some(3), None).await;
    assert_eq!(app.wait_reading("EGLL", "arrivals", |reading| !is_unknown(reading)).await["value"], 8);
    let zero = app.wait_reading("KSFO", "arrivals", |reading| reading["value"] == 0).await;
    let unknown = app.wait_reading("KSFO", "arrivals", is_unknown).await;
    assert!(unknown["seq"].as_i64() < zero["seq"].as_i64(), "{unknown} before {zero}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_busy_airport_s_day_of_one_flight_is_unknown_until_a_second_answer_says_the_same() {
    let env = world_at(60).await;
    env.scripted.set_flight_count("KSFO", Direction::Arrival, before(&env), 30);
    env.scripted.set_flight_count("EGLL", Direction::Arrival, before(&env), 8);
    let app = env.start_with(|config| config.collect_interval = Duration::from_secs(60)).await;
    app.watch(ADA, "KSFO", "arrivals", None, Some(20)).await;
    assert_eq!(app.wait_reading("KSFO", "arrivals", |_| true).await["value"], 30);
    // The source has begun to publish yesterday, or has lost most of it.
    env.scripted.set_flight_count("KSFO", Direction::Arrival, env.yesterday(), 1);
    let one = app.wait_reading("KSFO", "arrivals", |reading| reading["value"] == 1).await;
    let asked: Vec<_> = env.requests("KSFO").await;
    let of_yesterday = env.yesterday().and_time(chrono::NaiveTime::MIN).and_utc().timestamp().to_string();
    let asked = asked.iter().filter(|request| request.param("begin") == Some(&of_yesterday));
    assert!(asked.count() >= 3, "unpublished, doubted and believed");
    assert_eq!(one["window_begin"], "2026-11-19T00:00:00Z");
    app.stop().await;
}

async fn waits_until_midnight(app: &App) {
    wait_for("the plan", async || {
        let interest = app.interest(ADA, "LFPG", "live").await;
        (interest["next_collection_at"] == "2026-11-21T00:00:00Z").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_week_of_silence_ends_with_the_day() {
    let env = world_at(1).await;
    let week = Failure::TooManyRequests { retry_after_seconds: Some(7 * 24 * 3600) };
    env.opensky.fail(Endpoint::States, week);
    let app = env.start().await;
    app.watch(ADA, "LFPG", "live", Some(1), None).await;
    waits_until_midnight(&app).await;
    app.stop().await;
    // So does one that an earlier version stored.
    let older = "UPDATE credits SET paused_until = paused_until + interval '5 days', paused_at = NULL";
    sqlx::query(older).execute(&env.database.pool).await.expect("an older version's pause");
    let app = env.start().await;
    waits_until_midnight(&app).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_for_no_time_is_longer_each_time() {
    let env = world_at(1).await;
    env.opensky.fail_always(Endpoint::States, Failure::TooManyRequests { retry_after_seconds: Some(0) });
    let app = env.start().await;
    app.watch(ADA, "LFPG", "live", Some(1), None).await;
    let asked = wait_for("four questions", async || {
        let asked = env.opensky.requests_to(Endpoint::States);
        (asked.len() >= 4).then_some(asked)
    })
    .await;
    let waits: Vec<i64> = asked.windows(2).map(|pair| (pair[1].at - pair[0].at).num_milliseconds()).collect();
    assert!(waits[0] >= 1_000 && waits[1] >= 2_000 && waits[2] >= 4_000, "{waits:?}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn credits_that_are_said_to_be_gone_are_asked_for_again_within_the_day() {
    // An hour passes in a second.
    let env = world_at(3600).await;
    env.scripted.set_aircraft("a", PARIS.0, PARIS.1, 3);
    env.opensky.fail_always(Endpoint::States, Failure::Remaining(0));
    let app = env.start_with(|config| config.collect_interval = Duration::from_secs(600)).await;
    app.watch(ADA, "LFPG", "live", Some(1), None).await;
    wait_for("a second reading", async || (app.readings("LFPG", "live").await.len() >= 2).then_some(())).await;
    let asked = env.opensky.requests_to(Endpoint::States);
    let wait = asked[1].at - asked[0].at;
    assert!(wait >= TimeDelta::minutes(60) && wait < TimeDelta::hours(6), "{wait}");
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_says_it_has_ended_is_tried_all_the_same() {
    let env = world_at(1).await;
    env.scripted.set_aircraft("a", PARIS.0, PARIS.1, 3);
    let ended = r#"{"access_token":"made-up","expires_in":-1}"#;
    env.opensky.fail(Endpoint::Token, Failure::body(ended));
    let app = env.start().await;
    app.watch(ADA, "LFPG", "live", Some(1), None).await;
    // The token is refused, and the next one holds.
    assert_eq!(app.wait_reading("LFPG", "live", |_| true).await["value"], 3);
    assert_eq!(env.opensky.requests_to(Endpoint::Token).len(), 2);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_end_is_cut_off_and_unreadable() {
    let env = world_at(1).await;
    env.opensky.fail(Endpoint::States, Failure::body(" ".repeat(100 << 20)));
    let app = env.start().await;
    app.watch(ADA, "LFPG", "live", Some(1), None).await;
    assert!(is_unknown(&app.wait_reading("LFPG", "live", |_| true).await));
    assert!(app.metrics().contains("opensky_api_calls_total{status=\"unreadable\"} 1"));
    app.stop().await;
}
