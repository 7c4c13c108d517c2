//! How credits are kept: for the rest of the day, and for others.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use simulators::opensky::{Direction, Endpoint, Failure};

use crate::support::{App, PARIS, TestEnv, at, wait_for};

/// One person after the other comes to watch an airport, each when the one before has been planned for.
async fn one_after_the_other(env: &TestEnv, app: &App, airport: &str, metric: &str) {
    for person in 0..5 {
        let email = format!("user{person}@example.org");
        env.person(&email);
        app.watch(&email, airport, metric, Some(3), None).await;
        app.wait_reading(airport, metric, |_| true).await;
        let waiting = "SELECT count(*) FROM jobs";
        wait_for("the outbox to be empty", async || (env.scalar(waiting).await == 0).then_some(())).await;
    }
}

async fn next_collection(app: &App, airport: &str, metric: &str) -> DateTime<Utc> {
    let interest: Value = app.interest("user4@example.org", airport, metric).await;
    at(interest["next_collection_at"].as_str().expect("a time"))
}

/// Waits until the airport is said to be collected an interval after it was tried, and no sooner.
async fn waits_for_the_interval(env: &TestEnv, app: &App, airport: &str, metric: &str) {
    let tried = wait_for("an attempt", async || {
        let attempt = "SELECT attempted_at FROM schedule WHERE attempted_at IS NOT NULL";
        sqlx::query_scalar::<_, DateTime<Utc>>(attempt).fetch_optional(&env.database.pool).await.expect("a time")
    })
    .await;
    let expected = tried + TimeDelta::seconds(300);
    wait_for("the plan", async || (next_collection(app, airport, metric).await == expected).then_some(())).await;
    // The request of the user who came still waits.
    assert_eq!(env.scalar("SELECT count(*) FROM collection_requests").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_come_for_an_airport_without_an_answer_it_is_tried_once_an_interval() {
    for failure in [Failure::Status(500), Failure::Html, Failure::Status(404)] {
        let env = TestEnv::new().await;
        env.opensky.fail_always(Endpoint::Arrivals, failure);
        let app = env.start().await;
        one_after_the_other(&env, &app, "LICC", "arrivals").await;
        waits_for_the_interval(&env, &app, "LICC", "arrivals").await;
        let asked = env.requests("LICC").await;
        let different: std::collections::BTreeSet<_> = asked.iter().map(|asked| asked.param("begin")).collect();
        assert_eq!(asked.len(), different.len(), "no question twice: {asked:?}");
        app.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn however_many_come_for_a_sky_that_is_not_answered_it_is_looked_at_once_an_interval() {
    let env = TestEnv::new().await;
    env.opensky.fail_always(Endpoint::States, Failure::Status(500));
    let app = env.start().await;
    one_after_the_other(&env, &app, "LFPG", "live").await;
    waits_for_the_interval(&env, &app, "LFPG", "live").await;
    assert_eq!(env.opensky.requests_to(Endpoint::States).len(), 1);
    // A restart does not forget it.
    app.stop().await;
    let app = env.start().await;
    waits_for_the_interval(&env, &app, "LFPG", "live").await;
    assert_eq!(env.opensky.requests_to(Endpoint::States).len(), 1);
    // Another airport is none of its business.
    env.opensky.recover(Endpoint::States);
    env.scripted.set_aircraft("a", 51.4706, -0.4619, 3);
    app.watch("user0@example.org", "EGLL", "live", Some(1), None).await;
    assert_eq!(app.wait_reading("EGLL", "live", |_| true).await["value"], 3);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_airport_without_flights_leaves_credits_for_the_day_and_for_others() {
    // Ten minutes pass in a second, so midnight is further away than any wait below; 400 credits are 13 questions.
    let env = TestEnv::at_speed(600).await;
    env.person("ada@example.org");
    let app = env.start_with(|config| config.open_sky.credentials = None).await;
    app.watch("ada@example.org", "LICC", "flights", None, Some(3)).await;
    assert!(app.wait_reading("LICC", "flights", |_| true).await["value"].is_null());
    // Yesterday and the day before in one direction, the day before in the other, and then again.
    let asked = wait_for("four questions", async || {
        let asked = env.requests("LICC").await;
        (asked.len() >= 4).then_some(asked)
    })
    .await;
    assert!((asked[3].at - asked[2].at).num_minutes() >= 60, "{asked:?}");
    // A user who comes now is served at once.
    let before = env.yesterday().pred_opt().expect("a day");
    env.scripted.set_flight_count("KSFO", Direction::Arrival, before, 9);
    app.watch("ada@example.org", "KSFO", "arrivals", Some(3), None).await;
    assert_eq!(app.wait_reading("KSFO", "arrivals", |_| true).await["value"], 9);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_for_a_new_day_behind_an_open_breaker_is_made_up_for_soon() {
    let env = TestEnv::at_speed(60).await;
    env.person("ada@example.org");
    let (yesterday, before) = (env.yesterday(), env.yesterday().pred_opt().expect("a day"));
    env.scripted.set_flight_count("KSFO", Direction::Arrival, before, 9);
    let change = |config: &mut data_collector::Config| {
        // With so few credits the next regular look comes in three hours: three minutes here.
        config.open_sky.credentials = None;
        config.collect_interval = Duration::from_secs(60);
        config.open_sky.open_for = Duration::from_secs(3);
    };
    let app = env.start_with(change).await;
    app.watch("ada@example.org", "KSFO", "arrivals", Some(3), None).await;
    assert_eq!(app.wait_reading("KSFO", "arrivals", |_| true).await["value"], 9);
    env.opensky.fail_times(Endpoint::Arrivals, Failure::HangUp, 5);
    for airport in ["LICC", "EGLL", "LFPG", "LFPO", "KJFK"] {
        app.watch("ada@example.org", airport, "arrivals", Some(3), None).await;
    }
    let open = "opensky_breaker_state{breaker=\"flights\"} 2";
    wait_for("the breaker to open", async || app.metrics().contains(open).then_some(())).await;
    env.scripted.set_flight_count("KSFO", Direction::Arrival, yesterday, 12);
    let looked = env.requests("KSFO").await.len();
    sqlx::query("UPDATE probes SET probed_at = probed_at - interval '4 hours'")
        .execute(&env.database.pool)
        .await
        .expect("a look that is due");
    app.delete(json!({"email": "ada@example.org", "airport_code": "KJFK", "metric": "arrivals"})).await;
    let newer = |reading: &Value| reading["value"] == 12;
    app.wait_reading("KSFO", "arrivals", newer).await;
    assert_eq!(env.requests("KSFO").await.len(), looked + 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_deposed_plans_nothing_any_more() {
    let env = TestEnv::new().await;
    env.person("ada@example.org");
    env.scripted.set_aircraft("a", PARIS.0, PARIS.1, 3);
    let app = env.start().await;
    app.watch("ada@example.org", "LFPG", "live", Some(1), None).await;
    app.wait_reading("LFPG", "live", |_| true).await;
    wait_for("the plan", async || {
        let planned = "SELECT count(*) FROM schedule WHERE next_at > attempted_at";
        (env.scalar(planned).await == 1).then_some(())
    })
    .await;
    // Another process leads from now on, and plans something else.
    sqlx::query("UPDATE leases SET epoch = epoch + 1, holder = gen_random_uuid(), expires_at = 'infinity'")
        .execute(&env.database.pool)
        .await
        .expect("another leader");
    sqlx::query("UPDATE schedule SET next_at = '2026-12-24'").execute(&env.database.pool).await.expect("a plan");
    let body = json!({"email": "ada@example.org", "airport_code": "KJFK", "metric": "live", "high_value": 1});
    assert_eq!(app.post(body).await.status, 201);
    wait_for("the leader to give up", async || {
        let part = app.part("opensky credits").await.expect("a part");
        part.1.contains("does not collect").then_some(())
    })
    .await;
    assert_eq!(env.scalar("SELECT count(*) FROM schedule WHERE next_at = '2026-12-24'").await, 1);
    assert_eq!(env.scalar("SELECT count(*) FROM schedule WHERE airport_code = 'KJFK'").await, 0);
    app.stop().await;
}
