//! Everything in PostgreSQL: interests, readings, flights, credits, and what is still to be sent.
//!
//! Functions that take a connection are parts of a caller's transaction; methods of [`Store`] stand
//! alone. All times come from the caller's clock.

pub mod clock;
pub mod collection;
pub mod evaluations;
pub mod fan_out;
pub mod flights;
pub mod interests;
pub mod outbox;
pub mod readings;
pub mod retention;

use chrono::{DateTime, Utc};
use events::{FlightCount, Metric};
use pg::{Pool, Transaction};
use sqlx::PgConnection;
use uuid::Uuid;

/// The database's shape.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/data-collector");

/// The channel on which replicas wake each other; the payload is one of [`wake`].
pub const CHANNEL: &str = "data_collector";

/// What replicas wake each other for.
pub mod wake {
    /// A user waits for an airport, or watches another one.
    pub const COLLECT: &str = "collect";
    /// A reading is to be fanned out.
    pub const READINGS: &str = "readings";
}

/// The service's own database.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
}

/// One reading of an airport and metric.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Its id.
    pub id: Uuid,
    /// ICAO code.
    pub airport: String,
    /// What was counted.
    pub metric: Metric,
    /// Rises with every reading of the airport and metric.
    pub seq: i64,
    /// The number of flights; none when it is unknown.
    pub flight_count: Option<FlightCount>,
    /// Start of the time it covers.
    pub window_begin: DateTime<Utc>,
    /// End of the time it covers.
    pub window_end: DateTime<Utc>,
    /// When the source was asked.
    pub observed_at: DateTime<Utc>,
    /// The source, in words.
    pub source: String,
}

impl Reading {
    /// Whether a new interest may be judged by it: its number is known, and is from `since` or later.
    #[must_use]
    pub fn is_usable(&self, since: DateTime<Utc>) -> bool {
        let of = if self.metric == Metric::Live { self.observed_at } else { self.window_end };
        self.flight_count.is_some() && of >= since
    }
}

impl Store {
    /// Over connections to a migrated database.
    #[must_use]
    pub fn new(pool: impl Into<Pool>) -> Self {
        Self { pool: pool.into() }
    }

    /// The connections.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn begin(&self) -> sqlx::Result<Transaction> {
        pg::begin(&self.pool).await
    }
}

/// Wakes all replicas for `what` once the transaction is committed.
pub(crate) async fn notify(connection: &mut PgConnection, what: &str) -> sqlx::Result<()> {
    sqlx::query!("SELECT pg_notify($1, $2)", CHANNEL, what).execute(connection).await?;
    Ok(())
}

/// A number of flights as it is stored: an integer of PostgreSQL's, which ends earlier than ours. What is beyond it
/// is stored as the greatest.
pub(crate) fn integer(flight_count: FlightCount) -> i32 {
    i32::try_from(flight_count.get()).unwrap_or(i32::MAX)
}

/// A number of flights as it was stored.
pub(crate) fn flight_count(stored: impl Into<i64>) -> sqlx::Result<FlightCount> {
    FlightCount::try_from(stored.into()).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

/// A number of flights as it was stored, or that there is none.
pub(crate) fn optional_flight_count(stored: Option<i32>) -> sqlx::Result<Option<FlightCount>> {
    stored.map(flight_count).transpose()
}

/// A metric as it was stored.
pub(crate) fn metric(name: &str) -> sqlx::Result<Metric> {
    name.parse().map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_flights_is_stored_and_read_again() {
        for flights in [0, 1, 100_000, 2_147_483_647] {
            let stored = integer(FlightCount::new(flights));
            assert_eq!(flight_count(stored).expect("a number of flights"), FlightCount::new(flights));
        }
        assert_eq!(optional_flight_count(None).expect("nothing"), None);
    }

    #[test]
    fn what_the_column_cannot_hold_is_stored_as_its_greatest_and_a_negative_number_is_not_read() {
        assert_eq!((integer(FlightCount::new(u32::MAX)), integer(FlightCount::MAX)), (i32::MAX, i32::MAX));
        assert!(matches!(flight_count(-1), Err(sqlx::Error::Decode(_))));
    }
}
