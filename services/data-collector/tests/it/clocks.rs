//! Clocks that are set, stand still, or are years ahead.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use data_collector::{
    core::clock::ClockDoubt,
    retention::{Retention, Turn},
    store::{Store, retention::Removed},
};
use runtime::clock::{Clock, ClockControl};
use simulators::opensky::{Bucket, Caller, Direction, Endpoint, Failure};

use crate::support::{App, BEGINS_AT, PARIS, TestEnv, at, wait_for};

const ADA: &str = "ada@example.org";

/// An environment whose clock can be set, beside an OpenSky that goes right.
async fn env() -> (TestEnv, ClockControl) {
    let begins_at: DateTime<Utc> = at(BEGINS_AT);
    let (clock, control) = Clock::settable(begins_at, 1);
    let env = TestEnv::beside(clock, Clock::replay(begins_at, 1)).await;
    env.person(ADA);
    env.scripted.set_aircraft("a", PARIS.0, PARIS.1, 3);
    // So many credits that the interval alone decides when the next question is asked.
    env.opensky.set_credits(Bucket::States, Caller::SignedIn, 10_000_000);
    (env, control)
}

/// Waits for another question for live figures.
async fn asks_again(env: &TestEnv) {
    let asked = env.opensky.requests_to(Endpoint::States).len();
    wait_for("another question", async || (env.opensky.requests_to(Endpoint::States).len() > asked).then_some(()))
        .await;
}

async fn start(env: &TestEnv) -> App {
    env.start_with(|config| config.collect_interval = Duration::from_secs(2)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_steps_back_and_forth_by_hours_stops_nothing() {
    let (env, control) = env().await;
    env.scripted.set_flight_count("KSFO", Direction::Arrival, env.yesterday(), 5);
    let app = start(&env).await;
    app.watch(ADA, "LFPG", "live", Some(1), None).await;
    app.watch(ADA, "KSFO", "arrivals", Some(1), None).await;
    app.wait_reading("LFPG", "live", |reading| reading["value"] == 3).await;
    app.wait_reading("KSFO", "arrivals", |reading| reading["value"] == 5).await;
    for hours in [6, -6, -6, 6, 48, -48] {
        control.step(TimeDelta::hours(hours));
        asks_again(&env).await;
        asks_again(&env).await;
    }
    // What was planned by the wrong clock is forgotten.
    wait_for("the plan", async || {
        let next = app.interest(ADA, "LFPG", "live").await;
        let next = at(next["next_collection_at"].as_str().expect("a time"));
        (next < env.clock.now() + TimeDelta::minutes(1)).then_some(())
    })
    .await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_was_suspended_plans_anew_when_it_wakes() {
    let (env, control) = env().await;
    let app = env.start().await;
    app.watch(ADA, "LFPG", "live", Some(1), None).await;
    app.wait_reading("LFPG", "live", |_| true).await;
    wait_for("the plan", async || {
        (env.scalar("SELECT count(*) FROM schedule WHERE next_at > attempted_at").await == 1).then_some(())
    })
    .await;
    // The next question is five minutes away, and the clock stands still.
    control.stop();
    let asked = env.opensky.requests_to(Endpoint::States).len();
    control.step(TimeDelta::hours(8));
    control.go();
    wait_for("a question", async || (env.opensky.requests_to(Endpoint::States).len() > asked).then_some(())).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_clock_that_was_ahead_has_stored_keeps_nothing_from_being_asked() {
    let (env, _) = env().await;
    sqlx::raw_sql(
        "INSERT INTO schedule (airport_code, kind, attempted_at, next_at) SELECT airport, kind, ahead, ahead
         FROM unnest(ARRAY['LFPG', 'KSFO']) airport, unnest(ARRAY['live', 'daily']) kind,
              (VALUES (timestamptz '2026-11-20T16:00:00Z')) clock (ahead);
         INSERT INTO cycles (kind, begun_at) VALUES ('live', '2026-11-20T16:00:00Z');
         INSERT INTO probes (day, probed_at) VALUES ('2026-11-19', '2026-11-20T16:00:00Z');
         INSERT INTO collection_requests (airport_code, metric, requested_at) VALUES ('LFPG', 'live', '2031-11-20');
         INSERT INTO credits (bucket, day, remaining, from_header, paused_until, paused_at) VALUES
             ('states', '2031-11-20', 0, true, '2031-11-21', '2031-11-20'),
             ('flights', '2026-11-20', 4000, true, '2026-11-20T23:00:00Z', '2026-11-20T16:00:00Z')",
    )
    .execute(&env.database.pool)
    .await
    .expect("a clock that was ahead");
    env.scripted.set_flight_count("KSFO", Direction::Arrival, env.yesterday(), 5);
    let app = env.start().await;
    app.watch(ADA, "LFPG", "live", Some(1), None).await;
    app.watch(ADA, "KSFO", "arrivals", Some(1), None).await;
    assert_eq!(app.wait_reading("LFPG", "live", |_| true).await["value"], 3);
    assert_eq!(app.wait_reading("KSFO", "arrivals", |_| true).await["value"], 5);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_times_that_are_mended_are_seen_by_a_collector_that_waits() {
    let (env, _) = env().await;
    // Silence until midnight, in fourteen hours.
    env.opensky.fail(Endpoint::States, Failure::TooManyRequests { retry_after_seconds: Some(7 * 24 * 3600) });
    let app = env.start().await;
    app.watch(ADA, "LFPG", "live", Some(1), None).await;
    let until_midnight = "SELECT count(*) FROM schedule WHERE next_at = '2026-11-21T00:00:00Z'";
    wait_for("the plan", async || (env.scalar(until_midnight).await == 1).then_some(())).await;
    assert_eq!(env.opensky.requests_to(Endpoint::States).len(), 1);
    let mending = "UPDATE credits SET paused_until = NULL, paused_at = NULL, refusals = 0 WHERE bucket = 'states'";
    sqlx::query(mending).execute(&env.database.pool).await.expect("mended");
    // Nothing wakes the collector; it looks for itself every half a minute.
    let asks = async || env.opensky.requests_to(Endpoint::States).len() > 1;
    testkit::wait_for("a question", Duration::from_secs(45), asks).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_years_ahead_for_a_minute_takes_nothing_away_and_publishes_nothing() {
    let (env, control) = env().await;
    env.scripted.set_flight_count("KSFO", Direction::Arrival, env.yesterday(), 5);
    let app = start(&env).await;
    app.watch(ADA, "LFPG", "live", Some(1), None).await;
    app.watch(ADA, "KSFO", "arrivals", Some(1), None).await;
    app.wait_reading("LFPG", "live", |reading| reading["value"] == 3).await;
    app.wait_reading("KSFO", "arrivals", |reading| reading["value"] == 5).await;
    app.stop().await;
    let held = "SELECT count(*) FROM readings WHERE value IS NOT NULL AND observed_at < '2027-01-01'";
    let kept = env.scalar(held).await;
    control.step(TimeDelta::days(5 * 365));
    // The machine boots with that clock.
    let app = start(&env).await;
    // Its first turn begins when it holds the lease.
    let leads = "SELECT count(*) FROM leases WHERE name = 'data-collector-retention' AND expires_at > now()";
    wait_for("the lease", async || (env.scalar(leads).await == 1).then_some(())).await;
    asks_again(&env).await;
    asks_again(&env).await;
    let turn = retention(&env, 90).turn().await.expect("a turn");
    assert_eq!(turn, Turn::Doubted(ClockDoubt::Readings));
    assert_eq!(env.scalar(held).await, kept);
    assert_eq!(env.scalar("SELECT count(*) FROM airport_flights").await, 5);
    assert_eq!(env.scalar("SELECT count(*) FROM flights").await, 5);
    assert_eq!(env.scalar("SELECT count(*) FROM published_days WHERE day > '2026-11-20'").await, 0);
    // Nothing of that is believed: there is no answer for that time.
    let readings = app.readings("LFPG", "live").await;
    assert!(
        readings.iter().filter(|read| read["observed_at"].as_str() > Some("2027")).all(|read| read["value"].is_null())
    );
    control.step(TimeDelta::days(-5 * 365));
    asks_again(&env).await;
    asks_again(&env).await;
    // By the right clock the same turn removes what is old, and that alone.
    store_old_reading(&env).await;
    let turn = retention(&env, 90).turn().await.expect("a turn");
    assert_eq!(turn, Turn::Removed(Removed { readings: 1, flights: 0 }));
    app.stop().await;
}

/// What the service runs once an hour.
fn retention(env: &TestEnv, days: u32) -> Retention {
    Retention::begin(env.clock, Store::new(env.database.pool.clone()), days)
}

async fn store_old_reading(env: &TestEnv) {
    sqlx::query(
        "INSERT INTO readings (id, airport_code, metric, seq, value, window_begin, window_end, observed_at, source)
         VALUES (gen_random_uuid(), 'LICC', 'live', 1, 1, '2026-01-01', '2026-01-01', '2026-01-01', 'a test')",
    )
    .execute(&env.database.pool)
    .await
    .expect("a reading");
}

/// An environment that has collected for a live and a daily figure, and is at rest.
async fn collected() -> (TestEnv, ClockControl) {
    let (env, control) = env().await;
    env.scripted.set_flight_count("KSFO", Direction::Arrival, env.yesterday(), 5);
    let app = env.start().await;
    app.watch(ADA, "LFPG", "live", Some(1), None).await;
    app.watch(ADA, "KSFO", "arrivals", Some(1), None).await;
    app.wait_reading("LFPG", "live", |reading| reading["value"] == 3).await;
    app.wait_reading("KSFO", "arrivals", |reading| reading["value"] == 5).await;
    wait_for("the fan-out", async || (env.scalar("SELECT count(*) FROM fan_outs").await == 0).then_some(())).await;
    app.stop().await;
    (env, control)
}

/// What is held of today and yesterday.
async fn held(env: &TestEnv) -> [i64; 4] {
    [
        env.scalar("SELECT count(*) FROM readings WHERE airport_code <> 'LICC'").await,
        env.scalar("SELECT count(*) FROM flights").await,
        env.scalar("SELECT count(*) FROM airport_flights").await,
        env.scalar("SELECT count(*) FROM collected_days").await,
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_by_a_clock_that_steps_by_hours_takes_what_is_old_and_nothing_that_is_needed() {
    let (env, control) = collected().await;
    let before = held(&env).await;
    // A day is the shortest time that can be set.
    let retention = retention(&env, 1);
    for hours in [6, -12, 6, 20, -40, 20] {
        control.step(TimeDelta::hours(hours));
        store_old_reading(&env).await;
        let turn = retention.turn().await.expect("a turn");
        assert_eq!(turn, Turn::Removed(Removed { readings: 1, flights: 0 }), "{hours} hours");
        assert_eq!(held(&env).await, before, "{hours} hours");
    }
    // More than a day ahead its own readings contradict it, and behind it makes nothing old.
    let nothing = Turn::Removed(Removed::default());
    for (hours, expected) in [(30, Turn::Doubted(ClockDoubt::Readings)), (-60, nothing), (30, nothing)] {
        control.step(TimeDelta::hours(hours));
        assert_eq!(retention.turn().await.expect("a turn"), expected, "{hours} hours");
        assert_eq!(held(&env).await, before, "{hours} hours");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_by_a_clock_that_stands_still_takes_what_is_old_and_nothing_else() {
    let (env, control) = collected().await;
    let before = held(&env).await;
    control.stop();
    let retention = retention(&env, 1);
    for _ in 0..3 {
        store_old_reading(&env).await;
        let turn = retention.turn().await.expect("a turn");
        assert_eq!(turn, Turn::Removed(Removed { readings: 1, flights: 0 }));
        assert_eq!(held(&env).await, before);
    }
    // It was behind by two days when it is set right: what it had stored is not the newest any more.
    control.go();
    control.step(TimeDelta::hours(48));
    assert_eq!(retention.turn().await.expect("a turn"), Turn::Doubted(ClockDoubt::Readings));
    assert_eq!(held(&env).await, before);
}
