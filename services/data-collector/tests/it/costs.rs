//! What a question costs does not depend on how much is held. Counted in rows that PostgreSQL looks at, since times say
//! little on a busy machine.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use data_collector::{
    core::{credits::Tier, interest::Thresholds},
    store::{MIGRATOR, Store, flights::days_held, interests},
};
use events::{FlightCount, Metric};
use runtime::trace::RequestContext;
use sqlx::{AssertSqlSafe, PgConnection, postgres::PgPoolOptions};
use testkit::Database;
use uuid::Uuid;

use crate::{kept_counts::named, support::BEGINS_AT};

/// Rows of tables and entries of indices that were looked at on this connection and not reported yet. Nothing is reported
/// before the transaction ends.
const LOOKED_AT: &str =
    "SELECT sum(pg_stat_get_xact_tuples_returned(oid) + pg_stat_get_xact_tuples_fetched(oid))::bigint
                         FROM pg_class WHERE relnamespace = 'public'::regnamespace";

/// What each series watches: an airport and its metric.
const WATCHED: [(&str, Metric); 2] = [("EGLL", Metric::Flights), ("LFPG", Metric::Live)];

fn now() -> DateTime<Utc> {
    BEGINS_AT.parse().expect("a time")
}

/// How many rows `asking` has PostgreSQL look at.
async fn looked_at(database: &Database, asking: impl AsyncFnOnce(&Store)) -> i64 {
    // All of it in one transaction of one connection, whose numbers are its own.
    let options = PgPoolOptions::new().max_connections(1).after_connect(|connection, _| {
        Box::pin(async move { sqlx::raw_sql("BEGIN").execute(connection).await.map(drop) })
    });
    let store = Store::new(options.connect(&database.url).await.expect("a connection"));
    let count = async || sqlx::query_scalar::<_, i64>(LOOKED_AT).fetch_one(store.pool()).await.expect("a number");
    let before = count().await;
    asking(&store).await;
    let after = count().await;
    sqlx::raw_sql("ROLLBACK").execute(store.pool()).await.expect("undone");
    after - before
}

async fn run(database: &Database, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&database.pool).await.expect("rows");
    // Rows that an update left behind are looked at too, until they are gone.
    sqlx::raw_sql("VACUUM (ANALYZE)").execute(&database.pool).await.expect("numbers for the planner");
}

/// Ten days of Paris with `flights` flights each, as many daily readings, and ten times as many live ones since.
async fn hold(database: &Database, flights: u32) {
    run(
        database,
        format!(
            "INSERT INTO flights (icao24, first_seen, last_seen)
             SELECT to_hex(n), day + interval '8 hours', day + interval '9 hours'
             FROM generate_series(1, {flights}) n, generate_series(timestamptz '2026-11-01Z', '2026-11-10Z', '1 day') day
             ON CONFLICT DO NOTHING;
             INSERT INTO airport_flights (airport_code, direction, day, icao24, first_seen, happened_at)
             SELECT 'LFPG', direction, (first_seen AT TIME ZONE 'UTC')::date, icao24, first_seen, last_seen
             FROM flights, unnest(ARRAY['arrival', 'departure']) direction ON CONFLICT DO NOTHING;
             INSERT INTO collected_days (airport_code, direction, day, collected_at)
             SELECT DISTINCT airport_code, direction, day, now() FROM airport_flights
             ON CONFLICT (airport_code, direction, day) DO UPDATE SET collected_at = excluded.collected_at;
             INSERT INTO readings (id, airport_code, metric, seq, value, window_begin, window_end, observed_at, source)
             SELECT gen_random_uuid(), 'LFPG', metric, n, 1, now(), now(), now() - age, 'a test'
             FROM (VALUES ('live', 10, interval '0'), ('flights', 1, interval '1 day')) m (metric, factor, age),
                 generate_series(1, m.factor * {flights}) n
             ON CONFLICT DO NOTHING",
        ),
    )
    .await;
}

/// What the questions about Paris cost, each by what it asks for.
async fn costs_of_questions(database: &Database) -> BTreeMap<&'static str, i64> {
    let average = async |store: &Store| {
        days_held(store.pool(), "LFPG").await.expect("what is held");
    };
    let coverage = async |store: &Store| {
        let mut connection = store.pool().sqlx().acquire().await.expect("a connection");
        for metric in Metric::ALL {
            interests::coverage(&mut connection, "LFPG", metric).await.expect("coverage");
        }
    };
    let of_one_metric = async |store: &Store| {
        let readings = store.readings("LFPG", Some(Metric::Flights), None, 20).await.expect("readings");
        assert_eq!(readings.len(), 20);
    };
    BTreeMap::from([
        ("an average", looked_at(database, average).await),
        ("what a threshold is judged by", looked_at(database, coverage).await),
        ("readings of one metric", looked_at(database, of_one_metric).await),
    ])
}

/// Fails when one of them has become twice as dear, or was not counted.
fn assert_no_dearer(few: &BTreeMap<&'static str, i64>, many: &BTreeMap<&'static str, i64>) {
    for (what, cost) in few {
        assert!(*cost > 0, "nothing was counted of {what}");
        assert!(many[what] <= 2 * cost, "{what}: {cost} rows became {}", many[what]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_about_an_airport_costs_no_more_with_ten_times_the_flights_and_readings() {
    let database = testkit::database(&MIGRATOR).await;
    hold(&database, 100).await;
    let few = costs_of_questions(&database).await;
    hold(&database, 1000).await;
    let held = days_held(&database.pool, "LFPG").await.expect("what is held");
    assert_eq!((held.days, held.flight_count), (10, FlightCount::new(10_000)));
    assert_no_dearer(&few, &costs_of_questions(&database).await);
}

/// Has so many people watch the same series.
async fn watch(database: &Database, people: u32) {
    for (airport, metric) in WATCHED {
        run(
            database,
            format!(
                "INSERT INTO interests (id, user_id, user_email, airport_code, metric, high_value, version, created_at,
                                        updated_at)
                 SELECT gen_random_uuid(), md5(n::text)::uuid, n || '@example.org', '{airport}', '{}', 5, 1, now(), now()
                 FROM generate_series(1, {people}) n ON CONFLICT DO NOTHING",
                metric.as_str(),
            ),
        )
        .await;
    }
}

async fn plan(store: &Store) {
    let (interval, alone) = (TimeDelta::minutes(5), BTreeSet::new());
    let known = store.known(now(), interval, Tier::Standard, |_| None, &alone).await.expect("a situation");
    assert_eq!(known.watches.len(), WATCHED.len());
}

async fn add(connection: &mut PgConnection, airport: &str, metric: Metric) {
    let (user_id, email) = (Uuid::now_v7(), "ada@example.org".parse().expect("an address"));
    let thresholds = Thresholds { high: Some(FlightCount::new(5)), low: None };
    let context = RequestContext::none();
    let named = named(user_id, airport, metric);
    interests::add(connection, named, &email, thresholds, 100, now(), &context).await.expect("added");
    interests::remove(connection, named, &context).await.expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_and_a_change_of_an_interest_cost_no_more_with_ten_times_the_interests() {
    let database = testkit::database(&MIGRATOR).await;
    let change = async |store: &Store| {
        let mut connection = store.pool().sqlx().acquire().await.expect("a connection");
        for (airport, metric) in WATCHED {
            add(&mut connection, airport, metric).await;
        }
    };
    let costs = async || {
        let planning = ("a plan", looked_at(&database, plan).await);
        BTreeMap::from([planning, ("an addition and a removal", looked_at(&database, change).await)])
    };
    watch(&database, 200).await;
    let few = costs().await;
    watch(&database, 2000).await;
    assert_no_dearer(&few, &costs().await);
}
