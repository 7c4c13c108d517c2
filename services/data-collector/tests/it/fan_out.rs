//! One reading, many interests.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant, SystemTime},
};

use data_collector::store::{Store, fan_out::Waiting};
use uuid::{NoContext, Timestamp, Uuid};

use crate::support::{TestEnv, wait_for};

/// Gives an airport so many interests, of people whom no test asks about.
async fn populate(env: &TestEnv, airport: &str, interests: i32) {
    sqlx::query(
        "INSERT INTO interests
         SELECT gen_random_uuid(), gen_random_uuid(), 'user' || n || '@example.org', $1, 'arrivals', n % 50, null, 1, now(), now()
         FROM generate_series(1, $2) n",
    )
    .bind(airport)
    .bind(interests)
    .execute(&env.database.pool)
    .await
    .expect("interests");
}

/// Stores readings as the leader does.
pub(crate) async fn read(env: &TestEnv, airport: &str, flight_counts: impl IntoIterator<Item = u32>) {
    let mut transaction = env.database.pool.begin().await.expect("a transaction");
    let day = data_collector::core::day::yesterday(env.clock.now());
    for flights in flight_counts {
        let reading = data_collector::store::readings::NewReading {
            airport,
            metric: events::Metric::Arrivals,
            flight_count: Some(events::FlightCount::new(flights)),
            window: data_collector::core::day::window(day),
            observed_at: env.clock.now(),
            source: "a test",
        };
        data_collector::store::readings::insert(&mut transaction, &reading).await.expect("a reading");
    }
    transaction.commit().await.expect("committed");
}

async fn all_out(env: &TestEnv) {
    wait_for("the fan-out", async || (env.scalar("SELECT count(*) FROM fan_outs").await == 0).then_some(())).await;
}

/// Keeps the leader from asking: the airport seems to have been tried in the future.
pub(crate) async fn without_collection(env: &TestEnv) {
    env.opensky.fail_always(simulators::opensky::Endpoint::Arrivals, simulators::opensky::Failure::ten_hours());
    let paused = "INSERT INTO credits (bucket, day, remaining, from_header, paused_until)
                  VALUES ('flights', '2026-11-20', 4000, false, '2026-12-20')";
    sqlx::query(paused).execute(&env.database.pool).await.expect("a pause");
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_of_one_series_reach_everybody_in_order_and_none_is_skipped() {
    let env = TestEnv::new().await;
    without_collection(&env).await;
    populate(&env, "LFPG", 7_000).await;
    populate(&env, "EGLL", 10).await;
    read(&env, "LFPG", [1, 2, 3]).await;
    read(&env, "EGLL", [9]).await;
    // Two replicas share the work.
    let (first, second) = (env.start().await, env.start().await);
    all_out(&env).await;
    let mut seen: BTreeMap<Uuid, Vec<i64>> = BTreeMap::new();
    for record in env.records().await {
        let value = record.value.expect("a value");
        seen.entry(record.key).or_default().push(value["reading"]["seq"].as_i64().expect("a number"));
    }
    assert_eq!(seen.len(), 7_010);
    assert_eq!(seen.values().filter(|seqs| **seqs == [1, 2, 3]).count(), 7_000);
    assert_eq!(seen.values().filter(|seqs| **seqs == [1]).count(), 10);
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interest_without_a_threshold_hears_nothing() {
    let env = TestEnv::new().await;
    without_collection(&env).await;
    populate(&env, "LFPG", 10).await;
    sqlx::query("UPDATE interests SET high_value = null WHERE high_value < 4")
        .execute(&env.database.pool)
        .await
        .expect("fewer");
    read(&env, "LFPG", [1]).await;
    let app = env.start().await;
    all_out(&env).await;
    assert_eq!(env.records().await.len(), 7);
    app.stop().await;
}

/// Resident memory of this process in MiB, the highest so far.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("status");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("a peak");
    line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("a number") / 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reading_reaches_a_hundred_thousand_interests_in_constant_memory() {
    let env = TestEnv::new().await;
    without_collection(&env).await;
    populate(&env, "LFPG", 100_000).await;
    let app = env.start().await;
    read(&env, "EGLL", [1]).await;
    all_out(&env).await;
    let before = peak_memory();
    let begun = Instant::now();
    read(&env, "LFPG", [40]).await;
    wait_for("the fan-out", async || (env.scalar("SELECT count(*) FROM fan_outs").await == 0).then_some(())).await;
    let took = begun.elapsed();
    println!(
        "100,000 interests in {took:?}: {:.0} messages/s, peak memory {before} -> {} MiB",
        100_000.0 / took.as_secs_f64(),
        peak_memory()
    );
    assert!(took < Duration::from_secs(25), "{took:?} is slow even for a debug build on a busy machine");
    let records = env.records().await;
    let different: BTreeSet<_> = records.iter().map(|record| record.key).collect();
    assert_eq!((records.len(), different.len()), (100_000, 100_000));
    app.stop().await;
}

/// Stores a reading that was made so long ago and waits: its metric is one of a newer version.
async fn leave(env: &TestEnv, seq: i64, age: Duration) {
    let made_at = SystemTime::UNIX_EPOCH.elapsed().expect("a time") - age;
    let id = Uuid::new_v7(Timestamp::from_unix(NoContext, made_at.as_secs(), made_at.subsec_nanos()));
    sqlx::query(
        "WITH stored AS (
             INSERT INTO readings (id, airport_code, metric, seq, window_begin, window_end, observed_at, source)
             VALUES ($1, 'LFPG', 'helicopters', $2, $3, $3, $3, 'a test')
         )
         INSERT INTO fan_outs (reading_id, airport_code, metric, seq) VALUES ($1, 'LFPG', 'helicopters', $2)",
    )
    .bind(id)
    .bind(seq)
    .bind(env.clock.now())
    .execute(&env.database.pool)
    .await
    .expect("a reading");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_tells_how_many_readings_wait_and_the_age_of_the_oldest_in_real_time() {
    let env = TestEnv::new().await;
    without_collection(&env).await;
    let store = Store::new(env.database.pool.clone());
    let waiting = async || store.waiting_fan_outs().await.expect("a count");
    let nothing = Waiting { count: 0, oldest_age: Duration::ZERO };
    assert_eq!(waiting().await, nothing);
    // The clock of the tests is days away from the system's.
    leave(&env, 2, Duration::from_secs(10)).await;
    leave(&env, 1, Duration::from_secs(3600)).await;
    let (first, second) = (env.start().await, env.start().await);
    for app in [&first, &second] {
        wait_for("a count", async || app.metrics().contains("\nfan_outs_waiting 2\n").then_some(())).await;
        let text = app.metrics();
        let age = text.lines().find_map(|line| line.strip_prefix("fan_outs_oldest_age_seconds ")).expect("an age");
        let age: f64 = age.parse().expect("a number");
        assert!((3590.0..3900.0).contains(&age), "{age}");
    }
    sqlx::query("DELETE FROM fan_outs").execute(&env.database.pool).await.expect("removed");
    leave(&env, 3, Duration::ZERO).await;
    assert!(waiting().await.oldest_age < Duration::from_secs(60));
    sqlx::query("DELETE FROM fan_outs").execute(&env.database.pool).await.expect("removed");
    assert_eq!(waiting().await, nothing);
    first.stop().await;
    second.stop().await;
}
