//! Flights, and which days of which airports are held.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::{PgConnection, PgExecutor};

use super::Store;
use crate::{core::day::Direction, opensky::wire::Flight};

/// What is held of an airport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// UTC days of which at least one direction is held.
    pub days: i64,
    /// Different flights on them.
    pub flights: i64,
}

/// A flight in a list, and where the list goes on.
#[derive(Clone, Debug)]
pub struct ListedFlight {
    /// The flight.
    pub flight: Flight,
    /// When it arrived or left: the list's order.
    pub happened_at: DateTime<Utc>,
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
    sqlx::query!(
        "INSERT INTO flights AS known (icao24, first_seen, last_seen, callsign, departure_airport, arrival_airport)
         SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::timestamptz[], $4::text[], $5::text[], $6::text[])
         ON CONFLICT (icao24, first_seen) DO UPDATE
         SET last_seen = excluded.last_seen, callsign = excluded.callsign,
             departure_airport = excluded.departure_airport, arrival_airport = excluded.arrival_airport
         WHERE (known.last_seen, known.callsign, known.departure_airport, known.arrival_airport)
             IS DISTINCT FROM (excluded.last_seen, excluded.callsign, excluded.departure_airport, excluded.arrival_airport)",
        icao24 as &[&str],
        first_seen,
        &last_seen,
        &callsign as &[Option<&str>],
        &departure as &[Option<&str>],
        &arrival as &[Option<&str>],
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
) -> sqlx::Result<u32> {
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
    Ok(u32::try_from(count).unwrap_or(u32::MAX))
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
        let direction = direction.map(Direction::as_str);
        let rows = sqlx::query!(
            "SELECT a.happened_at, f.* FROM airport_flights a JOIN flights f USING (icao24, first_seen)
             WHERE a.airport_code = $1 AND ($2::text IS NULL OR a.direction = $2)
                 AND ($3::timestamptz IS NULL OR (a.happened_at, a.icao24, a.first_seen) < ($3, $4, $5))
                 AND NOT EXISTS (
                     SELECT 1 FROM airport_flights o
                     WHERE o.icao24 = a.icao24 AND o.first_seen = a.first_seen AND o.airport_code = a.airport_code
                         AND ($2::text IS NULL OR o.direction = $2)
                         AND (o.happened_at, o.direction, o.day) > (a.happened_at, a.direction, a.day)
                 )
             ORDER BY a.happened_at DESC, a.icao24 DESC, a.first_seen DESC LIMIT $6",
            airport,
            direction,
            after.as_ref().map(|after| after.happened_at),
            after.as_ref().map(|after| after.icao24.as_str()),
            after.as_ref().map(|after| after.first_seen),
            limit,
        )
        .fetch_all(self.pool())
        .await?;
        let flights = rows.into_iter().map(|row| ListedFlight {
            happened_at: row.happened_at,
            flight: Flight {
                icao24: row.icao24,
                first_seen: row.first_seen,
                last_seen: row.last_seen,
                callsign: row.callsign,
                departure_airport: row.departure_airport,
                arrival_airport: row.arrival_airport,
            },
        });
        Ok(flights.collect())
    }
}

/// How much is held of an airport.
///
/// # Errors
/// When the database is away.
pub async fn days_held(connection: impl PgExecutor<'_>, airport: &str) -> sqlx::Result<Held> {
    sqlx::query_as!(
        Held,
        r#"SELECT (SELECT count(DISTINCT day) FROM collected_days WHERE airport_code = $1) AS "days!",
                  (SELECT count(DISTINCT (icao24, first_seen)) FROM airport_flights WHERE airport_code = $1)
                      AS "flights!""#,
        airport,
    )
    .fetch_one(connection)
    .await
}
