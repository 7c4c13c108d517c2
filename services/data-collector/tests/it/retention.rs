use serde_json::json;
use simulators::opensky::{Direction, Flight};

use crate::support::{TestEnv, wait_for};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_goes_and_what_another_airport_lists_stays() {
    let env = TestEnv::new().await;
    env.person("ada@example.org");
    let day = env.yesterday();
    let noon = day.and_hms_opt(12, 0, 0).expect("noon").and_utc().timestamp();
    let flight = Flight::new("391cda", noon, noon + 3600).from("LFPG").to("EGLL");
    env.scripted.set_flights("LFPG", Direction::Departure, day, vec![flight.clone()]);
    env.scripted.set_flights("EGLL", Direction::Arrival, day, vec![flight]);
    let app = env.start().await;
    app.watch("ada@example.org", "LFPG", "departures", Some(1), None).await;
    app.watch("ada@example.org", "EGLL", "arrivals", Some(1), None).await;
    app.wait_reading("LFPG", "departures", |_| true).await;
    app.wait_reading("EGLL", "arrivals", |_| true).await;
    wait_for("the fan-out", async || (env.scalar("SELECT count(*) FROM fan_outs").await == 0).then_some(())).await;
    let store = data_collector::store::Store::new(env.database.pool.clone());
    let later = |days| env.clock.now() + chrono::TimeDelta::days(days);
    // Nothing is old yet.
    assert_eq!(store.remove_before(later(-2), later(-2)).await.expect("removed"), Default::default());
    // Paris was listed long ago, London was not: the flight stays for London.
    sqlx::query("UPDATE airport_flights SET day = '2026-01-01' WHERE airport_code = 'LFPG'")
        .execute(&env.database.pool)
        .await
        .expect("older");
    sqlx::query("UPDATE readings SET observed_at = '2026-01-01' WHERE airport_code = 'LFPG'")
        .execute(&env.database.pool)
        .await
        .expect("older");
    let removed = store.remove_before(later(-2), later(-2)).await.expect("removed");
    assert_eq!((removed.readings, removed.flights), (1, 0));
    assert_eq!(app.get("/flights/EGLL").await.body.as_array().expect("a list").len(), 1);
    assert_eq!(app.get("/flights/LFPG").await.body, json!([]));
    // Then London's goes, and the flight with it.
    let removed = store.remove_before(later(2), later(-2)).await.expect("removed");
    assert_eq!((removed.readings, removed.flights), (1, 1));
    // Numbers of readings go on where they were.
    assert_eq!(env.scalar("SELECT last_seq FROM series WHERE airport_code = 'LFPG'").await, 1);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_that_is_still_on_its_way_is_not_removed() {
    let env = TestEnv::new().await;
    sqlx::query(
        "WITH r AS (
            INSERT INTO readings (id, airport_code, metric, seq, value, window_begin, window_end, observed_at, source)
            VALUES (gen_random_uuid(), 'LFPG', 'live', 1, 1, '2026-01-01', '2026-01-01', '2026-01-01', 'a test') RETURNING id
         ) INSERT INTO fan_outs (reading_id, airport_code, metric, seq) SELECT id, 'LFPG', 'live', 1 FROM r",
    )
    .execute(&env.database.pool)
    .await
    .expect("a reading");
    let store = data_collector::store::Store::new(env.database.pool.clone());
    store.remove_before(env.clock.now(), env.clock.now()).await.expect("removed");
    assert_eq!(env.scalar("SELECT count(*) FROM readings").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_airport_that_nobody_watches_any_more_leaves_no_plan_behind() {
    let env = TestEnv::new().await;
    env.person("ada@example.org");
    let app = env.start().await;
    for airport in ["LFPG", "EGLL"] {
        app.watch("ada@example.org", airport, "live", Some(1), None).await;
        app.wait_reading(airport, "live", |_| true).await;
    }
    app.delete(json!({"email": "ada@example.org", "airport_code": "EGLL", "metric": "live"})).await;
    let planned = "SELECT count(*) FROM schedule WHERE next_at IS NOT NULL";
    wait_for("the plan", async || (env.scalar(planned).await == 1).then_some(())).await;
    let store = data_collector::store::Store::new(env.database.pool.clone());
    let (now, hour) = (env.clock.now(), chrono::TimeDelta::hours(1));
    // A user who begins again at once must not have it asked twice.
    store.remove_before(now - hour, now - hour).await.expect("removed");
    assert_eq!(env.scalar("SELECT count(*) FROM schedule").await, 2);
    store.remove_before(now - hour, now + hour).await.expect("removed");
    assert_eq!(env.scalar("SELECT count(*) FROM schedule WHERE airport_code = 'LFPG'").await, 1);
    assert_eq!(env.scalar("SELECT count(*) FROM schedule").await, 1);
    app.stop().await;
}
