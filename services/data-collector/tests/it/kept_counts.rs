//! The numbers that are kept beside what they count.

use std::{borrow::Cow, collections::BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use data_collector::{
    core::day::{self, Direction},
    opensky::wire::{Flight, FlightDetails},
    store::{
        MIGRATOR, Store, flights,
        interests::{Named, coverage},
        readings::{self, NewReading},
    },
};
use events::{FlightCount, Metric};
use sqlx::{PgPool, migrate::Migrator};
use testkit::Database;
use uuid::Uuid;

const NOON: &str = "2026-11-19T12:00:00Z";

fn flight(icao24: &str, first_seen: DateTime<Utc>, hours: i64) -> Flight {
    Flight {
        icao24: icao24.to_owned(),
        first_seen,
        last_seen: first_seen + TimeDelta::hours(hours),
        callsign: None,
        departure_airport: None,
        arrival_airport: None,
        details: FlightDetails::default(),
    }
}

async fn store_day(database: &Database, airport: &str, direction: Direction, day: i64, listed: &[Flight]) {
    let now: DateTime<Utc> = NOON.parse().expect("a time");
    let mut transaction = database.pool.begin().await.expect("a transaction");
    let day = (now + TimeDelta::days(day)).date_naive();
    flights::store_day(&mut transaction, airport, direction, day, listed, now).await.expect("a day");
    transaction.commit().await.expect("committed");
}

async fn read(database: &Database, airport: &str, metric: Metric, flights: Option<u32>, observed_at: DateTime<Utc>) {
    let mut transaction = database.pool.begin().await.expect("a transaction");
    let window = day::window(observed_at.date_naive());
    let flight_count = flights.map(FlightCount::new);
    let reading = NewReading { airport, metric, flight_count, window, observed_at, source: "a test" };
    readings::insert(&mut transaction, &reading).await.expect("a reading");
    sqlx::query("DELETE FROM fan_outs").execute(&mut *transaction).await.expect("sent");
    transaction.commit().await.expect("committed");
}

async fn held(database: &Database, airport: &str) -> (i64, i64) {
    let held = flights::days_held(&database.pool, airport).await.expect("what is held");
    (held.days, held.flight_count.get())
}

async fn listed(database: &Database, airport: &str, direction: Option<Direction>) -> Vec<String> {
    let store = Store::new(database.pool.clone());
    let flights = store.flights(airport, direction, None, 100).await.expect("a list");
    flights.into_iter().map(|flight| flight.icao24).collect()
}

/// What every number must be, counted anew.
async fn assert_numbers_are_right(pool: &PgPool) {
    let wrong: Vec<String> = sqlx::query_scalar(
        "SELECT concat_ws(' ', 'day', d.airport_code, d.day, d.flights) FROM airport_days d
         WHERE d.flights <> (SELECT count(DISTINCT (icao24, first_seen)) FROM airport_flights a
                             WHERE a.airport_code = d.airport_code AND a.day = d.day)
         UNION ALL SELECT concat_ws(' ', 'direction', airport_code, direction, day, flights) FROM collected_days c
         WHERE flights <> (SELECT count(*) FROM airport_flights a WHERE a.airport_code = c.airport_code
                           AND a.direction = c.direction AND a.day = c.day)
         UNION ALL SELECT concat_ws(' ', 'days', count(*)) FROM (
             (SELECT airport_code, day FROM collected_days EXCEPT SELECT airport_code, day FROM airport_days)
             UNION ALL (SELECT airport_code, day FROM airport_days EXCEPT SELECT airport_code, day FROM collected_days)
         ) x HAVING count(*) > 0
         UNION ALL SELECT concat_ws(' ', 'newest days', count(*)) FROM (
             SELECT * FROM (SELECT DISTINCT ON (airport_code, direction) airport_code, direction, day, flights
                            FROM collected_days ORDER BY airport_code, direction, day DESC) c
             FULL JOIN newest_days n USING (airport_code, direction, day, flights)
             WHERE n.airport_code IS NULL OR c.airport_code IS NULL
         ) x HAVING count(*) > 0
         UNION ALL SELECT concat_ws(' ', 'series', s.airport_code, s.metric, s.looked, s.seen, s.newest_valued_seq)
         FROM series s, LATERAL (SELECT count(value) looked, coalesce(sum(value), 0) seen, max(seq) FILTER (WHERE value IS NOT NULL) seq
             FROM readings r WHERE r.airport_code = s.airport_code AND r.metric = s.metric) r
         WHERE (s.looked, s.seen) <> (r.looked, r.seen) OR (r.seq IS NOT NULL AND s.newest_valued_seq <> r.seq)
         UNION ALL SELECT concat_ws(' ', 'mark', a.airport_code, a.icao24, a.direction, a.day) FROM airport_flights a
         WHERE a.newest = EXISTS (SELECT 1 FROM airport_flights o WHERE (o.airport_code, o.icao24, o.first_seen) =
             (a.airport_code, a.icao24, a.first_seen) AND (o.happened_at, o.direction, o.day) > (a.happened_at, a.direction, a.day))
         UNION ALL SELECT concat_ws(' ', 'copy', a.airport_code, a.icao24) FROM airport_flights a
         JOIN flights f USING (icao24, first_seen)
         WHERE (a.last_seen, a.callsign, a.arrival_airport, a.arrival_airport_horiz_distance)
             IS DISTINCT FROM (f.last_seen, f.callsign, f.arrival_airport, f.arrival_airport_horiz_distance)",
    )
    .fetch_all(pool)
    .await
    .expect("the numbers");
    assert_eq!(wrong, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_average_counts_a_round_trip_once_a_day_and_follows_every_change_of_a_day() {
    let database = testkit::database(&MIGRATOR).await;
    let noon: DateTime<Utc> = NOON.parse().expect("a time");
    let (round, away) = (flight("391cd9", noon, 1), flight("391cda", noon, 2));
    assert_eq!(held(&database, "LFPG").await, (0, 0));
    store_day(&database, "LFPG", Direction::Departure, 0, &[round.clone(), away.clone()]).await;
    store_day(&database, "LFPG", Direction::Arrival, 0, std::slice::from_ref(&round)).await;
    assert_eq!(held(&database, "LFPG").await, (1, 2));
    // A day without any flight is a day all the same, and another airport's flights are its own.
    store_day(&database, "LFPG", Direction::Arrival, 1, &[]).await;
    store_day(&database, "EGLL", Direction::Arrival, 0, std::slice::from_ref(&away)).await;
    assert_eq!((held(&database, "LFPG").await, held(&database, "EGLL").await), ((2, 2), (1, 1)));
    // The source takes one back.
    store_day(&database, "LFPG", Direction::Departure, 0, std::slice::from_ref(&round)).await;
    assert_eq!(held(&database, "LFPG").await, (2, 1));
    assert_numbers_are_right(&database.pool).await;
    let store = Store::new(database.pool.clone());
    store.remove_before(noon + TimeDelta::days(1), noon).await.expect("removed");
    assert_eq!((held(&database, "LFPG").await, held(&database, "EGLL").await), ((1, 0), (0, 0)));
    assert_numbers_are_right(&database.pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flight_is_listed_once_by_its_newest_entry_and_as_it_is_known_now() {
    let database = testkit::database(&MIGRATOR).await;
    let noon: DateTime<Utc> = NOON.parse().expect("a time");
    let (mut round, early) = (flight("391cd9", noon, 3), flight("391cda", noon + TimeDelta::hours(1), 1));
    store_day(&database, "LFPG", Direction::Departure, 0, &[round.clone(), early.clone()]).await;
    assert_eq!(listed(&database, "LFPG", None).await, ["391cda", "391cd9"]);
    store_day(&database, "LFPG", Direction::Arrival, 0, std::slice::from_ref(&round)).await;
    assert_eq!(listed(&database, "LFPG", None).await, ["391cd9", "391cda"], "it arrived last");
    assert_eq!(listed(&database, "LFPG", Some(Direction::Departure)).await, ["391cda", "391cd9"]);
    assert_eq!(listed(&database, "LFPG", Some(Direction::Arrival)).await, ["391cd9"]);
    let newest = Store::new(database.pool.clone()).newest_flight("LFPG").await.expect("a flight").expect("a flight");
    assert_eq!(newest.icao24, "391cd9");
    // What another airport's list tells of it is told here too.
    round.callsign = Some("FGSAT".to_owned());
    round.details.arrival_airport_horiz_distance = Some(12);
    store_day(&database, "LFPO", Direction::Arrival, 0, std::slice::from_ref(&round)).await;
    let newest = Store::new(database.pool.clone()).newest_flight("LFPG").await.expect("a flight").expect("a flight");
    assert_eq!((newest.callsign.as_deref(), newest.arrival_airport_horiz_distance), (Some("FGSAT"), Some(12)));
    assert_numbers_are_right(&database.pool).await;
    // The arrival is taken back: the departure is listed again.
    store_day(&database, "LFPG", Direction::Arrival, 0, &[]).await;
    assert_eq!(listed(&database, "LFPG", None).await, ["391cda", "391cd9"]);
    // The same direction on two days.
    round.last_seen = noon + TimeDelta::hours(14);
    store_day(&database, "LFPG", Direction::Arrival, 1, std::slice::from_ref(&round)).await;
    round.last_seen = noon + TimeDelta::hours(11);
    store_day(&database, "LFPG", Direction::Arrival, 0, std::slice::from_ref(&round)).await;
    assert_eq!(listed(&database, "LFPG", Some(Direction::Arrival)).await, ["391cd9"]);
    assert_numbers_are_right(&database.pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_coverage_of_live_is_what_the_readings_that_are_held_add_up_to() {
    let database = testkit::database(&MIGRATOR).await;
    let noon: DateTime<Utc> = NOON.parse().expect("a time");
    let covered = async || {
        let mut connection = database.pool.acquire().await.expect("a connection");
        let covered = coverage(&mut connection, "LFPG", Metric::Live).await.expect("the coverage");
        (covered.observations, covered.flight_count.get())
    };
    assert_eq!(covered().await, (0, 0));
    for (hour, value) in [(0, Some(7)), (1, None), (2, Some(0)), (3, Some(5))] {
        read(&database, "LFPG", Metric::Live, value, noon + TimeDelta::hours(hour)).await;
    }
    read(&database, "LFPG", Metric::Flights, Some(100), noon).await;
    assert_eq!(covered().await, (3, 12));
    let store = Store::new(database.pool.clone());
    store.remove_before(noon + TimeDelta::minutes(150), noon).await.expect("removed");
    assert_eq!(covered().await, (1, 5));
    assert_numbers_are_right(&database.pool).await;
    store.remove_before(noon + TimeDelta::days(1), noon).await.expect("removed");
    assert_eq!(covered().await, (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn collecting_and_cleaning_up_at_once_leave_the_numbers_right() {
    let database = testkit::database(&MIGRATOR).await;
    let noon: DateTime<Utc> = NOON.parse().expect("a time");
    let store = Store::new(database.pool.clone());
    // One leader collects, and one replica cleans up.
    let collect = async || {
        for turn in 0..40 {
            let airport = ["LFPG", "EGLL"][usize::from(turn % 3 == 0)];
            let listed: Vec<_> =
                (0..turn % 7).map(|n| flight(&format!("391{n:03}"), noon + TimeDelta::days(turn % 3), 1 + n)).collect();
            store_day(&database, airport, Direction::ALL[usize::from(turn % 2 == 0)], turn % 3, &listed).await;
            let at = noon + TimeDelta::hours(turn);
            let value = (turn % 4 > 0).then_some(u32::try_from(turn).expect("few"));
            read(&database, airport, Metric::Live, value, at).await;
        }
    };
    let clean = async || {
        for hour in 0..40 {
            store.remove_before(noon + TimeDelta::hours(hour), noon).await.expect("removed");
        }
    };
    tokio::join!(collect(), clean());
    assert_numbers_are_right(&database.pool).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_numbers_of_what_an_older_version_stored_are_filled_at_the_upgrade() {
    let database = testkit::empty_database().await;
    let older = MIGRATOR.migrations.iter().filter(|migration| migration.version <= 4).cloned().collect();
    let older = Migrator { migrations: Cow::Owned(older), ..Migrator::DEFAULT };
    older.run(&database.pool).await.expect("the older migrations");
    sqlx::raw_sql(
        "INSERT INTO flights SELECT 'a0000' || n, '2026-11-01T10:00Z', '2026-11-01T12:00Z', 'AFR' || n, 'LFPG', 'LFPG'
         FROM generate_series(1, 6) n;
         INSERT INTO airport_flights SELECT 'LFPG', 'departure', '2026-11-01', icao24, first_seen, first_seen FROM flights;
         INSERT INTO airport_flights SELECT 'LFPG', 'arrival', '2026-11-01', icao24, first_seen, last_seen FROM flights
         WHERE icao24 < 'a00003';
         INSERT INTO collected_days VALUES ('LFPG', 'arrival', '2026-11-01', now()), ('LFPG', 'departure', '2026-11-01', now()),
             ('LFPG', 'arrival', '2026-11-02', now());
         INSERT INTO series VALUES ('LFPG', 'live', 5), ('LFPG', 'flights', 0);
         INSERT INTO readings SELECT gen_random_uuid(), 'LFPG', 'live', n, nullif(n, 5), now(), now(), now(), 'a test'
         FROM generate_series(1, 5) n;
         INSERT INTO interests VALUES
             (gen_random_uuid(), gen_random_uuid(), 'a@example.org', 'LFPG', 'live', 1, null, 1, now(), now()),
             (gen_random_uuid(), gen_random_uuid(), 'b@example.org', 'LFPG', 'live', 1, null, 1, now(), now())",
    )
    .execute(&database.pool)
    .await
    .expect("what an older version stored");
    MIGRATOR.run(&database.pool).await.expect("the upgrade");
    assert_eq!(held(&database, "LFPG").await, (2, 6));
    let series: (i64, i64, i64) =
        sqlx::query_as("SELECT newest_valued_seq, looked, seen FROM series WHERE metric = 'live'")
            .fetch_one(&database.pool)
            .await
            .expect("the series");
    assert_eq!(series, (4, 4, 10));
    assert_numbers_are_right(&database.pool).await;
    assert_eq!(watched(&database.pool).await, BTreeSet::from([("LFPG".to_owned(), "live".to_owned())]));
    // A replica of the older version that still runs stores a day and an interest in its own words.
    sqlx::raw_sql(
        "BEGIN;
         INSERT INTO flights (icao24, first_seen, last_seen) VALUES ('b00001', '2026-11-02T10:00Z', '2026-11-02T12:00Z');
         INSERT INTO airport_flights (airport_code, direction, day, icao24, first_seen, happened_at)
         VALUES ('LFPG', 'arrival', '2026-11-02', 'b00001', '2026-11-02T10:00Z', '2026-11-02T12:00Z');
         INSERT INTO collected_days (airport_code, direction, day, collected_at) VALUES ('LFPG', 'arrival', '2026-11-02', now())
         ON CONFLICT (airport_code, direction, day) DO UPDATE SET collected_at = excluded.collected_at;
         INSERT INTO interests (id, user_id, user_email, airport_code, metric, version, created_at, updated_at)
         VALUES (gen_random_uuid(), gen_random_uuid(), 'c@example.org', 'EGLL', 'flights', 1, now(), now());
         COMMIT",
    )
    .execute(&database.pool)
    .await
    .expect("an older replica's writes");
    assert_eq!(held(&database, "LFPG").await, (2, 7));
    assert_numbers_are_right(&database.pool).await;
    assert_eq!(watched(&database.pool).await.len(), 2);
}

/// The series that the planner reads.
pub async fn watched(pool: &PgPool) -> BTreeSet<(String, String)> {
    let rows = sqlx::query_as("SELECT airport_code, metric FROM watched_series").fetch_all(pool).await;
    rows.expect("the watched series").into_iter().collect()
}

/// One interest by its name.
pub fn named(user_id: Uuid, airport: &str, metric: Metric) -> Named<'_> {
    Named { user_id, airport, metric }
}
