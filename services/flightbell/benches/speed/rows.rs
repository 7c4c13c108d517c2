//! Rows by the hundred thousand, written where the services would have written them.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// The registration with that number, the same in every database.
const PERSON: &str = "md5('person' || n)::uuid";

/// A connection to one of a town's databases.
pub async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("the database")
}

/// Runs what takes as long as it takes.
pub async fn run(database: &mut PgConnection, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements))
        .execute(database)
        .await
        .unwrap_or_else(|error| panic!("{error}: {statements}"));
}

/// No replica asks OpenSky: for the leader there are no credits. What the benchmark writes stays as it is.
pub async fn keep_the_leader_from_asking(database: &mut PgConnection) {
    run(
        database,
        "INSERT INTO credits (bucket, day, remaining, from_header, told_at, paused_at, paused_until)
         SELECT bucket, current_date, 4000, false, now(), now(), now() + interval '1 day'
         FROM unnest(ARRAY['flights', 'states']) bucket
         ON CONFLICT (bucket) DO UPDATE SET paused_at = now(), paused_until = excluded.paused_until",
    )
    .await;
}

/// Registers so many people.
pub async fn people(database: &mut PgConnection, count: u32) {
    run(
        database,
        &format!(
            "INSERT INTO users (id, email, first_name, last_name, telegram_chat_id)
             SELECT {PERSON}, 'person' || n || '@example.org', 'Ada', 'Lovelace', n FROM generate_series(1, {count}) n"
        ),
    )
    .await;
}

/// Gives each of `people` so many interests, evenly spread over these airports and all metrics.
pub async fn interests(database: &mut PgConnection, people: u32, of_each: std::ops::Range<u32>, airports: &[&str]) {
    let metrics = ["flights", "arrivals", "departures", "live"];
    let (airports_count, of_each) = (airports.len(), (of_each.start, of_each.end - 1));
    run(
        database,
        &format!(
            "INSERT INTO interests (id, user_id, user_email, airport_code, metric, high_value, version, created_at,
                                    updated_at)
             SELECT gen_random_uuid(), {PERSON}, 'person' || n || '@example.org',
                 (ARRAY['{}'])[1 + (n + k / 4) % {airports_count}], (ARRAY['{}'])[1 + k % 4], 5000, 1, now(), now()
             FROM generate_series(1, {people}) n, generate_series({}, {}) k",
            airports.join("','"),
            metrics.join("','"),
            of_each.0,
            of_each.1,
        ),
    )
    .await;
}

/// So many flights on each of so many days, half of which arrive at the airport and half leave it. The aircraft have the
/// numbers from `first` on.
pub async fn flights(database: &mut PgConnection, airport: &str, first: u32, days: u32, of_each: u32) {
    run(
        database,
        &format!(
            "CREATE TEMPORARY TABLE listed AS
             SELECT current_date - 1 - (n / {of_each}) AS day, n % 2 = 0 AS arrives,
                    lpad(to_hex(n + {first}), 6, '0') AS icao24,
                    (current_date - 1 - (n / {of_each}))::timestamptz
                        + interval '1 second' * (n % {of_each}) * (75600.0 / {of_each}) AS first_seen, n
             FROM generate_series(0, {days} * {of_each} - 1) n;
             INSERT INTO flights (icao24, first_seen, last_seen, callsign, departure_airport, arrival_airport,
                 departure_airport_horiz_distance, departure_airport_vert_distance, arrival_airport_horiz_distance,
                 arrival_airport_vert_distance, departure_airport_candidates_count, arrival_airport_candidates_count)
             SELECT icao24, first_seen, first_seen + interval '2 hours', 'BAW' || n % 9000,
                 CASE WHEN arrives THEN 'KJFK' ELSE '{airport}' END, CASE WHEN arrives THEN '{airport}' ELSE 'KJFK' END,
                 1234, 56, 2345, 67, 3, 4
             FROM listed;
             INSERT INTO airport_flights (airport_code, direction, day, icao24, first_seen, happened_at)
             SELECT '{airport}', CASE WHEN arrives THEN 'arrival' ELSE 'departure' END, day, icao24, first_seen,
                 CASE WHEN arrives THEN first_seen + interval '2 hours' ELSE first_seen END
             FROM listed;
             INSERT INTO collected_days (airport_code, direction, day, collected_at)
             SELECT DISTINCT '{airport}', CASE WHEN arrives THEN 'arrival' ELSE 'departure' END, day, now() FROM listed;
             DROP TABLE listed"
        ),
    )
    .await;
}

/// So many readings of an airport, one a minute.
pub async fn readings(database: &mut PgConnection, airport: &str, count: u32) {
    run(
        database,
        &format!(
            "INSERT INTO readings (id, airport_code, metric, seq, value, window_begin, window_end, observed_at, source)
             SELECT gen_random_uuid(), '{airport}', 'live', n, n % 40, at, at, at, 'OpenSky states'
             FROM (SELECT n, now() - interval '1 minute' * n AS at FROM generate_series(1, {count}) n) taken"
        ),
    )
    .await;
}

/// Has the planner know what is there; after the statement above nothing else would for a minute.
pub async fn settle(database: &mut PgConnection) {
    run(database, "VACUUM (ANALYZE)").await;
    run(database, "CHECKPOINT").await;
}
