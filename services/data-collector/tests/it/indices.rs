//! Statements find their rows in a large database by an index: their own texts, as the checks of SQL keep them, by the
//! plan that PostgreSQL keeps after it has planned a few times with the values.

use std::path::Path;

use data_collector::store::MIGRATOR;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// Rows of the tables that grow, filled past the triggers, which count and copy one by one.
const MANY: &str = "
    SET session_replication_role = replica;
    INSERT INTO flights (icao24, first_seen, last_seen)
    SELECT to_hex(n), timestamptz '2026-10-01Z' + n * interval '1 minute', timestamptz '2026-10-01Z' + n * interval '1 minute'
    FROM generate_series(1, 20000) n;
    INSERT INTO airport_flights (airport_code, direction, day, icao24, first_seen, happened_at, last_seen)
    SELECT 'X' || hashtext(icao24) % 100, direction, (first_seen AT TIME ZONE 'UTC')::date, icao24, first_seen, last_seen, last_seen
    FROM flights, unnest(ARRAY['arrival', 'departure']) direction;
    INSERT INTO collected_days (airport_code, direction, day, collected_at)
    SELECT 'X' || n, direction, day, now() FROM generate_series(0, 99) n, unnest(ARRAY['arrival', 'departure']) direction,
        generate_series(timestamp '2026-01-01', '2026-10-31', '1 day') day;
    INSERT INTO airport_days SELECT airport_code, day, 200 FROM collected_days WHERE direction = 'arrival';
    INSERT INTO readings (id, airport_code, metric, seq, value, window_begin, window_end, observed_at, source)
    SELECT gen_random_uuid(), 'X' || n % 100, CASE WHEN n % 500 < 100 THEN 'flights' ELSE 'live' END, n, n % 50, at, at, at, 'a test'
    FROM generate_series(1, 20000) n, LATERAL (SELECT timestamptz '2026-10-01Z' + n * interval '1 minute' AS at) t;
    INSERT INTO series (airport_code, metric, last_seq, newest_valued_seq)
    SELECT airport_code, metric, max(seq), max(seq) FROM readings GROUP BY 1, 2;
    INSERT INTO interests (id, user_id, user_email, airport_code, metric, high_value, version, created_at, updated_at)
    SELECT md5(n::text)::uuid, md5(n::text)::uuid, n || '@example.org', 'X' || n % 100, 'live', 5, 1, now(), now()
    FROM generate_series(1, 20000) n;
    INSERT INTO idempotency_keys (caller, key, request, status, body)
    SELECT n, 'key', '', 200, '' FROM generate_series(1, 20000) n;
    SET session_replication_role = origin;
    ANALYZE";

/// Statements by a part of theirs, with the values that they are asked with.
const STATEMENTS: [(&str, &str); 14] = [
    // Retention with nothing to remove.
    ("DELETE FROM flights WHERE ctid", "'2025-01-01', 2000"),
    ("DELETE FROM airport_flights WHERE ctid", "'2025-01-01', 2000"),
    ("DELETE FROM collected_days WHERE ctid", "'2025-01-01', 2000"),
    ("DELETE FROM readings WHERE id = ANY", "'2025-01-01', 2000"),
    // Everything of a person.
    ("SELECT DISTINCT user_id FROM interests WHERE user_email = $1", "'7@example.org'"),
    ("FROM interests i LEFT JOIN schedule s", "md5('7')::uuid"),
    ("DELETE FROM interests WHERE user_id = ANY($1)", "ARRAY[md5('7')::uuid]"),
    // A page of the fan-out, and an evaluation.
    ("FROM interests WHERE airport_code = $1 AND metric = $2 AND id > $3", "'X7', 'live', md5('7')::uuid, 100"),
    ("FROM interests i LEFT JOIN series s", "ARRAY[md5('7')::uuid, md5('8')::uuid]"),
    // Lists.
    ("FROM readings WHERE airport_code = $1 AND (observed_at, id)", "'X7', '2026-10-10', md5('7')::uuid, 20"),
    ("FROM readings WHERE airport_code = $1 AND metric = $5", "'X7', '2026-10-10', md5('7')::uuid, 20, 'flights'"),
    ("AND newest AND (happened_at", "'X7', '2026-10-10', 'a', '2026-10-10', 20"),
    ("AND newest_of_direction", "'X7', '2026-10-10', 'a', '2026-10-10', 20, 'arrival'"),
    ("FROM airport_days", "'X7'"),
];

/// How often PostgreSQL plans anew for the values before it considers one plan for all.
const PLANNED_FOR_VALUES: usize = 5;

/// The service's statement with this part, when it stands on one line.
fn statement(part: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".sqlx");
    let files = std::fs::read_dir(folder).expect("the service's statements");
    let statements = files.map(|file| {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("a statement");
        let kept: Value = serde_json::from_str(&text).expect("JSON");
        let query: Vec<_> = kept["query"].as_str().expect("a query").split_whitespace().collect();
        query.join(" ")
    });
    let found: Vec<_> = statements.filter(|query| query.contains(part)).collect();
    assert_eq!(found.len(), 1, "statements with {part:?}: {found:#?}");
    found.into_iter().next().expect("one")
}

/// The tables that the plan reads from one end to the other.
fn scanned(plan: &Value) -> Vec<String> {
    let mut scanned = Vec::new();
    match plan {
        Value::Array(parts) => scanned.extend(parts.iter().flat_map(self::scanned)),
        Value::Object(node) => {
            if node.get("Node Type").is_some_and(|kind| kind == "Seq Scan") {
                scanned.push(node["Relation Name"].as_str().expect("a table").to_owned());
            }
            // An index that is read from one end to the other is no better.
            let is_index_scan =
                node.get("Node Type").and_then(Value::as_str).is_some_and(|kind| kind.starts_with("Index"));
            if is_index_scan && node.get("Index Cond").is_none() {
                scanned.push(node["Index Name"].as_str().expect("an index").to_owned());
            }
            scanned.extend(node.values().flat_map(self::scanned));
        }
        _ => {}
    }
    scanned
}

async fn explained(connection: &mut PgConnection, values: &str) -> Value {
    // A prepared EXPLAIN would have its own plan in mind.
    let explain = AssertSqlSafe(format!("EXPLAIN (FORMAT JSON) EXECUTE asked({values})"));
    let row = sqlx::raw_sql(explain).fetch_one(connection).await.expect("a plan");
    sqlx::Row::try_get(&row, 0).expect("JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn each_statement_about_a_large_table_finds_its_rows_by_an_index() {
    let database = testkit::database(&MIGRATOR).await;
    let mut connection = PgConnection::connect(&database.url).await.expect("connected");
    sqlx::raw_sql(MANY).execute(&mut connection).await.expect("many rows");
    let large = ["flights", "airport_flights", "collected_days", "airport_days", "readings", "interests"];
    let mut scans = Vec::new();
    for (part, values) in STATEMENTS {
        let preparing = format!("PREPARE asked AS {}", statement(part));
        sqlx::raw_sql(AssertSqlSafe(preparing)).execute(&mut connection).await.expect("prepared");
        for time in 1..=PLANNED_FOR_VALUES + 1 {
            let plan = explained(&mut connection, values).await;
            let scanned = scanned(&plan).into_iter().filter(|name| large.iter().any(|table| name.starts_with(table)));
            scans.extend(scanned.map(|name| format!("{name}, the {time}. time, by {part}")));
        }
        sqlx::raw_sql("DEALLOCATE asked").execute(&mut connection).await.expect("forgotten");
    }
    assert!(scans.is_empty(), "read from end to end: {scans:#?}");
    connection.close().await.expect("closed");
}
