//! One reading, many interests.

use std::time::{Duration, Instant};

use chrono::Utc;
use data_collector::store::readings::{self, NewReading};
use events::{FlightCount, Metric};
use local_servers::Durability;
use sqlx::{Connection, PgConnection};

use crate::{
    deployment::Deployment,
    process::{memory, peak_memory, start},
    program::PATIENCE,
    rows,
    table::{Table, Target},
};

const INTERESTS: u32 = 100_000;
/// What the memory of a large fan-out is compared with.
const FEW: u32 = 10_000;
/// Each airport has as many interests; the slowest counts.
const AIRPORTS: [&str; 3] = ["EGLL", "EDDF", "LFPG"];
/// How often the end is looked for.
const LOOK: Duration = Duration::from_millis(5);

/// From the commit of a reading to the end of its last page, each of which is acknowledged by Kafka
/// and recorded. Only data-collector, PostgreSQL and Kafka run meanwhile.
pub async fn measure(table: &mut Table) {
    println!("one reading to {INTERESTS} interests, {} times", AIRPORTS.len());
    let mut deployment = Deployment::empty(Durability::Durable, &[]).await;
    start(&mut deployment, "data-collector", &[]).await;
    let mut database = PgConnection::connect(&deployment.postgres.url("data_collector")).await.expect("the database");
    rows::keep_the_leader_from_asking(&mut database).await;
    populate(&mut database, "EHAM", FEW).await;
    for airport in AIRPORTS {
        populate(&mut database, airport, INTERESTS).await;
    }
    let collector = deployment.program("data-collector").pid();
    let before = memory(collector);
    fan_out(&mut database, "EHAM").await;
    let few = peak_memory(collector);
    let mut rates = Vec::new();
    for airport in AIRPORTS {
        let took = fan_out(&mut database, airport).await;
        rates.push(f64::from(INTERESTS) / took.as_secs_f64());
    }
    let many = peak_memory(collector);
    let decided = decide(&mut deployment).await;
    let all: Vec<_> = rates.iter().map(|rate| format!("{rate:.0}")).collect();
    let slowest = rates.iter().copied().fold(f64::INFINITY, f64::min);
    let detail = format!("slowest of {}; alert-system then decides {decided:.0}/s", all.join(", "));
    table.add("fan-out to 100,000 interests", Target::Over(50_000.0), slowest, "messages/s", detail);
    let detail = format!("data-collector: {before:.0} MiB idle, peak {few:.0} for {FEW} and {many:.0} for {INTERESTS}");
    table.add("memory that ten times as many interests add", Target::Under(5.0), many - few, "MiB", detail);
    deployment.close().await;
}

/// Gives an airport so many interests, each of another person; none of them is crossed.
async fn populate(database: &mut PgConnection, airport: &str, interests: u32) {
    let statement = "INSERT INTO interests
         SELECT gen_random_uuid(), gen_random_uuid(), 'person' || n || '@example.org', $1, 'arrivals', 50 + n % 50,
             null, 1, now(), now()
         FROM generate_series(1, $2) n";
    let count = i32::try_from(interests).expect("a number");
    sqlx::query(statement).bind(airport).bind(count).execute(database).await.expect("interests");
}

/// Stores a reading as the leader does, and waits until it has gone to everybody.
async fn fan_out(database: &mut PgConnection, airport: &str) -> Duration {
    let now = Utc::now();
    let day = data_collector::core::day::yesterday(now);
    let reading = NewReading {
        airport,
        metric: Metric::Arrivals,
        flight_count: Some(FlightCount::new(40)),
        window: data_collector::core::day::window(day),
        observed_at: now,
        source: "the benchmark",
    };
    let mut transaction = database.begin().await.expect("a transaction");
    readings::insert(&mut transaction, &reading).await.expect("a reading");
    transaction.commit().await.expect("committed");
    let begun = Instant::now();
    while count(database, "SELECT count(*) FROM fan_outs").await > 0 {
        assert!(begun.elapsed() < PATIENCE, "the fan-out does not end");
        tokio::time::sleep(LOOK).await;
    }
    begun.elapsed()
}

/// Lets alert-system decide about all of it, which shows that every interest was told; how many a
/// second, with its start.
async fn decide(deployment: &mut Deployment) -> f64 {
    let total = FEW + INTERESTS * u32::try_from(AIRPORTS.len()).expect("a number");
    let mut database = PgConnection::connect(&deployment.postgres.url("alert_system")).await.expect("the database");
    let begun = Instant::now();
    start(deployment, "alert-system", &[]).await;
    while count(&mut database, "SELECT count(*) FROM levels").await < i64::from(total) {
        assert!(begun.elapsed() < 2 * PATIENCE, "not every interest was told");
        tokio::time::sleep(20 * LOOK).await;
    }
    f64::from(total) / begun.elapsed().as_secs_f64()
}

async fn count(database: &mut PgConnection, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(database).await.expect("a count")
}
