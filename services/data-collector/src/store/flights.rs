//! Flights, and which days of which airports are held.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use events::FlightCount;
use sqlx::{PgConnection, PgExecutor};

use super::{Store, flight_count};
use crate::{
    core::day::Direction,
    opensky::wire::{Flight, FlightDetails},
};

/// What is held of an airport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// UTC days of which at least one direction is held.
    pub days: i64,
    /// Different flights of each day, added up.
    pub flight_count: FlightCount,
}

/// A flight in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedFlight {
    /// When it arrived or left: the list's order.
    pub happened_at: DateTime<Utc>,
    /// The transponder's address.
    pub icao24: String,
    /// When it was first seen.
    pub first_seen: DateTime<Utc>,
    /// When it was last seen.
    pub last_seen: DateTime<Utc>,
    /// Its callsign, where it has one.
    pub callsign: Option<String>,
    /// The nearest airport at its start, where there was one.
    pub departure_airport: Option<String>,
    /// The nearest airport at its end, where there was one.
    pub arrival_airport: Option<String>,
    /// Metres from the departure airport.
    pub departure_airport_horiz_distance: Option<i32>,
    /// Metres above the departure airport.
    pub departure_airport_vert_distance: Option<i32>,
    /// Metres from the arrival airport.
    pub arrival_airport_horiz_distance: Option<i32>,
    /// Metres above the arrival airport.
    pub arrival_airport_vert_distance: Option<i32>,
    /// How many airports were near its start.
    pub departure_airport_candidates_count: Option<i32>,
    /// How many airports were near its end.
    pub arrival_airport_candidates_count: Option<i32>,
}

/// Stores one direction of an airport's day as the source lists it now: flights are added or
/// corrected, and those no longer listed are no longer counted for that day.
///
/// # Errors
/// When the database is away.
pub async fn store_day(
    connection: &mut PgConnection,
    airport: &str,
    direction: Direction,
    day: NaiveDate,
    flights: &[Flight],
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    lock_lists(connection).await?;
    let icao24: Vec<&str> = flights.iter().map(|flight| flight.icao24.as_str()).collect();
    let first_seen: Vec<_> = flights.iter().map(|flight| flight.first_seen).collect();
    store_flights(connection, flights, &icao24, &first_seen).await?;
    let happened_at: Vec<_> = match direction {
        Direction::Arrival => flights.iter().map(|flight| flight.last_seen).collect(),
        Direction::Departure => first_seen.clone(),
    };
    sqlx::query!(
        "DELETE FROM airport_flights WHERE airport_code = $1 AND direction = $2 AND day = $3
             AND (icao24, first_seen) NOT IN (SELECT * FROM unnest($4::text[], $5::timestamptz[]))",
        airport,
        direction.as_str(),
        day,
        &icao24 as &[&str],
        &first_seen,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "INSERT INTO airport_flights (airport_code, direction, day, icao24, first_seen, happened_at)
         SELECT $1, $2, $3, listed.* FROM unnest($4::text[], $5::timestamptz[], $6::timestamptz[]) listed
         ON CONFLICT (airport_code, direction, day, icao24, first_seen)
         DO UPDATE SET happened_at = excluded.happened_at",
        airport,
        direction.as_str(),
        day,
        &icao24 as &[&str],
        &first_seen,
        &happened_at,
    )
    .execute(&mut *connection)
    .await?;
    sqlx::query!(
        "INSERT INTO collected_days (airport_code, direction, day, collected_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (airport_code, direction, day) DO UPDATE SET collected_at = excluded.collected_at",
        airport,
        direction.as_str(),
        day,
        now,
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Until the transaction ends, no other that calls this changes an entry of any list. The triggers mark which entries of
/// a flight are its newest, so a change of one entry locks others, in an order that no writer chooses.
pub(super) async fn lock_lists(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('lists of flights', 3))").execute(connection).await?;
    Ok(())
}

/// Adds flights, and corrects those that are known otherwise.
async fn store_flights(
    connection: &mut PgConnection,
    flights: &[Flight],
    icao24: &[&str],
    first_seen: &[DateTime<Utc>],
) -> sqlx::Result<()> {
    let last_seen: Vec<_> = flights.iter().map(|flight| flight.last_seen).collect();
    let callsign: Vec<_> = flights.iter().map(|flight| flight.callsign.as_deref()).collect();
    let departure: Vec<_> = flights.iter().map(|flight| flight.departure_airport.as_deref()).collect();
    let arrival: Vec<_> = flights.iter().map(|flight| flight.arrival_airport.as_deref()).collect();
    let detail = |of: fn(&FlightDetails) -> Option<i32>| flights.iter().map(|one| of(&one.details)).collect::<Vec<_>>();
    sqlx::query!(
        "INSERT INTO flights AS known (icao24, first_seen, last_seen, callsign, departure_airport, arrival_airport,
             departure_airport_horiz_distance, departure_airport_vert_distance, arrival_airport_horiz_distance,
             arrival_airport_vert_distance, departure_airport_candidates_count, arrival_airport_candidates_count)
         SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::text[], $5::text[], $6::text[],
             $7::integer[], $8::integer[], $9::integer[], $10::integer[], $11::integer[], $12::integer[])
         ON CONFLICT (icao24, first_seen) DO UPDATE
         SET last_seen = excluded.last_seen, callsign = excluded.callsign,
             departure_airport = excluded.departure_airport, arrival_airport = excluded.arrival_airport,
             departure_airport_horiz_distance = excluded.departure_airport_horiz_distance,
             departure_airport_vert_distance = excluded.departure_airport_vert_distance,
             arrival_airport_horiz_distance = excluded.arrival_airport_horiz_distance,
             arrival_airport_vert_distance = excluded.arrival_airport_vert_distance,
             departure_airport_candidates_count = excluded.departure_airport_candidates_count,
             arrival_airport_candidates_count = excluded.arrival_airport_candidates_count
         WHERE known.* IS DISTINCT FROM excluded.*",
        icao24 as &[&str],
        first_seen,
        &last_seen,
        &callsign as &[Option<&str>],
        &departure as &[Option<&str>],
        &arrival as &[Option<&str>],
        &detail(|details| details.departure_airport_horiz_distance) as &[Option<i32>],
        &detail(|details| details.departure_airport_vert_distance) as &[Option<i32>],
        &detail(|details| details.arrival_airport_horiz_distance) as &[Option<i32>],
        &detail(|details| details.arrival_airport_vert_distance) as &[Option<i32>],
        &detail(|details| details.departure_airport_candidates_count) as &[Option<i32>],
        &detail(|details| details.arrival_airport_candidates_count) as &[Option<i32>],
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// How many different flights an airport's day lists in `directions`: one that left from and arrived
/// at the same airport counts once.
///
/// # Errors
/// When the database is away.
pub async fn count(
    connection: &mut PgConnection,
    airport: &str,
    directions: &[Direction],
    day: NaiveDate,
) -> sqlx::Result<FlightCount> {
    let directions: Vec<&str> = directions.iter().map(|direction| direction.as_str()).collect();
    let count = sqlx::query_scalar!(
        r#"SELECT count(DISTINCT (icao24, first_seen)) AS "count!" FROM airport_flights
           WHERE airport_code = $1 AND direction = ANY ($2) AND day = $3"#,
        airport,
        &directions as &[&str],
        day,
    )
    .fetch_one(connection)
    .await?;
    flight_count(count)
}

/// Where a list of flights goes on: below this.
#[derive(Clone, Debug)]
pub struct After {
    /// When the last one arrived or left.
    pub happened_at: DateTime<Utc>,
    /// Its aircraft.
    pub icao24: String,
    /// When it was first seen.
    pub first_seen: DateTime<Utc>,
}

impl After {
    /// Before the first flight: later than any can be.
    fn nothing() -> Self {
        let end = NaiveDate::from_ymd_opt(10_000, 1, 1).unwrap_or(NaiveDate::MAX).and_time(NaiveTime::MIN).and_utc();
        Self { happened_at: end, icao24: String::new(), first_seen: end }
    }
}

impl Store {
    /// Flights of an airport, newest first, each once.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn flights(
        &self,
        airport: &str,
        direction: Option<Direction>,
        after: Option<After>,
        limit: i64,
    ) -> sqlx::Result<Vec<ListedFlight>> {
        let After { happened_at, icao24, first_seen } = after.unwrap_or_else(After::nothing);
        // Each list has its own index, which the page is read from in order. PostgreSQL would plan anew for
        // each LIMIT that is a parameter; one that it computes may share a plan.
        let Some(direction) = direction else {
            return sqlx::query_as!(
                ListedFlight,
                "SELECT happened_at, icao24, first_seen, last_seen, callsign, departure_airport, arrival_airport,
                        departure_airport_horiz_distance, departure_airport_vert_distance,
                        arrival_airport_horiz_distance, arrival_airport_vert_distance,
                        departure_airport_candidates_count, arrival_airport_candidates_count
                 FROM airport_flights
                 WHERE airport_code = $1 AND newest AND (happened_at, icao24, first_seen) < ($2, $3, $4)
                 ORDER BY happened_at DESC, icao24 DESC, first_seen DESC LIMIT (SELECT $5::bigint)",
                airport,
                happened_at,
                icao24,
                first_seen,
                limit,
            )
            .fetch_all(self.pool())
            .await;
        };
        sqlx::query_as!(
            ListedFlight,
            "SELECT happened_at, icao24, first_seen, last_seen, callsign, departure_airport, arrival_airport,
                    departure_airport_horiz_distance, departure_airport_vert_distance,
                    arrival_airport_horiz_distance, arrival_airport_vert_distance,
                    departure_airport_candidates_count, arrival_airport_candidates_count
             FROM airport_flights
             WHERE airport_code = $1 AND direction = $6 AND newest_of_direction
                 AND (happened_at, icao24, first_seen) < ($2, $3, $4)
             ORDER BY happened_at DESC, icao24 DESC, first_seen DESC LIMIT (SELECT $5::bigint)",
            airport,
            happened_at,
            icao24,
            first_seen,
            limit,
            direction.as_str(),
        )
        .fetch_all(self.pool())
        .await
    }

    /// The newest flight of an airport.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn newest_flight(&self, airport: &str) -> sqlx::Result<Option<ListedFlight>> {
        sqlx::query_as!(
            ListedFlight,
            "SELECT happened_at, icao24, first_seen, last_seen, callsign, departure_airport, arrival_airport,
                    departure_airport_horiz_distance, departure_airport_vert_distance,
                    arrival_airport_horiz_distance, arrival_airport_vert_distance,
                    departure_airport_candidates_count, arrival_airport_candidates_count
             FROM airport_flights WHERE airport_code = $1 AND newest
             ORDER BY happened_at DESC, icao24 DESC, first_seen DESC LIMIT 1",
            airport,
        )
        .fetch_optional(self.pool())
        .await
    }
}

/// How much is held of an airport. The numbers are kept with the days, so it takes as long for a large
/// airport as for a small one.
///
/// # Errors
/// When the database is away.
pub async fn days_held(connection: impl PgExecutor<'_>, airport: &str) -> sqlx::Result<Held> {
    let held = sqlx::query!(
        r#"SELECT count(*) AS "days!", coalesce(sum(flights), 0) AS "flights!" FROM airport_days
           WHERE airport_code = $1"#,
        airport,
    )
    .fetch_one(connection)
    .await?;
    Ok(Held { days: held.days, flight_count: flight_count(held.flights)? })
}
