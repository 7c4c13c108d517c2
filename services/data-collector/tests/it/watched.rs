//! Which series are watched, kept with the interests.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use chrono::Utc;
use data_collector::{
    core::interest::Thresholds,
    store::{CHANNEL, MIGRATOR, Store, interests},
};
use events::{EmailAddress, FlightCount, Metric};
use rand::{Rng, SeedableRng, rngs::StdRng};
use runtime::{principal::Principal, trace::RequestContext};
use sqlx::{PgPool, postgres::PgListener};
use testkit::{CapturedLog, Database};
use uuid::Uuid;

use crate::{
    kept_counts::{named, watched},
    support::{PARIS, TestEnv},
};

const AIRPORTS: [&str; 3] = ["EGLL", "KSFO", "LFPG"];

async fn add(pool: &PgPool, user_id: Uuid, email: &EmailAddress, airport: &str, metric: Metric) {
    let mut transaction = pool.begin().await.expect("a transaction");
    let (named, thresholds) =
        (named(user_id, airport, metric), Thresholds { high: Some(FlightCount::new(5)), low: None });
    interests::add(&mut transaction, named, email, thresholds, 100, Utc::now(), &RequestContext::none())
        .await
        .expect("added");
    transaction.commit().await.expect("committed");
}

async fn remove(pool: &PgPool, user_id: Uuid, airport: &str, metric: Metric) {
    let mut transaction = pool.begin().await.expect("a transaction");
    interests::remove(&mut transaction, named(user_id, airport, metric), &RequestContext::none())
        .await
        .expect("removed");
    transaction.commit().await.expect("committed");
}

fn email(number: usize) -> EmailAddress {
    format!("user{number}@example.org").parse().expect("an address")
}

#[tokio::test(flavor = "multi_thread")]
async fn after_many_changes_at_once_the_watched_series_are_those_of_the_interests() {
    let database = testkit::database(&MIGRATOR).await;
    let pool = sqlx::postgres::PgPoolOptions::new().max_connections(16).connect(&database.url).await.expect("a pool");
    // Few people and few series, so that changes meet.
    let users: Vec<Uuid> = (0..6).map(|_| Uuid::now_v7()).collect();
    for round in 0..4 {
        let mut workers = tokio::task::JoinSet::new();
        for worker in 0..12 {
            let (pool, users) = (pool.clone(), users.clone());
            workers.spawn(async move {
                let mut random = StdRng::seed_from_u64(round * 100 + worker);
                for _ in 0..25 {
                    let place = random.random_range(0..users.len());
                    let airport = AIRPORTS[random.random_range(0..AIRPORTS.len())];
                    let metric = Metric::ALL[random.random_range(0..2)];
                    match random.random_range(0..100) {
                        0..45 => add(&pool, users[place], &email(place), airport, metric).await,
                        45..90 => remove(&pool, users[place], airport, metric).await,
                        _ => {
                            let store = Store::new(pool.clone());
                            store
                                .remove_under(&Principal::Anonymous, &email(place), &RequestContext::none())
                                .await
                                .expect("removed");
                        }
                    }
                }
            });
        }
        workers.join_all().await;
        assert_eq!(watched(&pool).await, of_interests(&pool).await, "round {round}");
    }
    for user in &users {
        Store::new(pool.clone())
            .delete_user(&Principal::Anonymous, *user, Utc::now(), &RequestContext::none())
            .await
            .expect("deleted");
    }
    assert_eq!(watched(&pool).await, BTreeSet::new());
}

async fn of_interests(pool: &PgPool) -> BTreeSet<(String, String)> {
    let rows = sqlx::query_as("SELECT DISTINCT airport_code, metric FROM interests").fetch_all(pool).await;
    rows.expect("the interests").into_iter().collect()
}

/// How often each thing was told on the service's channel.
async fn told(database: &Database, listener: &mut PgListener) -> HashMap<String, u32> {
    sqlx::query("SELECT pg_notify($1, 'end')").bind(CHANNEL).execute(&database.pool).await.expect("told");
    let mut told = HashMap::new();
    loop {
        let next = tokio::time::timeout(Duration::from_secs(30), listener.recv()).await.expect("in time");
        let what = next.expect("a notification").payload().to_owned();
        if what == "end" {
            return told;
        }
        *told.entry(what).or_default() += 1;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_planner_is_woken_only_when_a_series_begins_or_ceases_to_be_watched() {
    let database = testkit::database(&MIGRATOR).await;
    let mut listener = PgListener::connect(&database.url).await.expect("a listener");
    listener.listen(CHANNEL).await.expect("listening");
    let (ada, bob) = (Uuid::now_v7(), Uuid::now_v7());
    let mut collects = async || told(&database, &mut listener).await.get("collect").copied().unwrap_or_default();
    add(&database.pool, ada, &email(0), "LFPG", Metric::Live).await;
    assert_eq!(collects().await, 1, "the first who watches it");
    add(&database.pool, bob, &email(1), "LFPG", Metric::Live).await;
    remove(&database.pool, ada, "LFPG", Metric::Live).await;
    remove(&database.pool, ada, "LFPG", Metric::Live).await;
    assert_eq!(collects().await, 0, "it is watched as before");
    remove(&database.pool, bob, "LFPG", Metric::Live).await;
    assert_eq!(collects().await, 1, "the last who watched it");
}

#[tokio::test]
async fn a_metric_of_a_newer_version_is_logged_once_and_the_other_airports_go_on() {
    let log = CapturedLog::begin();
    let env = TestEnv::at_speed(300).await;
    env.person("ada@example.org");
    env.scripted.set_aircraft("a", PARIS.0, PARIS.1, 3);
    sqlx::raw_sql(
        "ALTER TABLE interests DROP CONSTRAINT interests_metric_check;
         INSERT INTO interests (id, user_id, user_email, airport_code, metric, high_value, version, created_at, updated_at)
         SELECT gen_random_uuid(), gen_random_uuid(), 'bob@example.org', airport, 'helicopters', 1, 1, now(), now()
         FROM unnest(ARRAY['EGLL', 'LFPG']) airport",
    )
    .execute(&env.database.pool)
    .await
    .expect("a newer version's interests");
    let app = env.start_with(|config| config.collect_interval = Duration::from_secs(600)).await;
    app.watch("ada@example.org", "LFPG", "live", Some(1), None).await;
    app.wait_reading("LFPG", "live", |reading| reading["seq"] == 3 && reading["value"] == 3).await;
    assert_eq!(log.lines(&["WARN", "helicopters"]).len(), 1, "{:?}", log.lines(&[]));
    app.stop().await;
}
