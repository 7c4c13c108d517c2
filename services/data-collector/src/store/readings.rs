//! Readings.

use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use events::{FlightCount, Metric};
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Store, integer, notify, optional_flight_count, wake};

/// A reading that has no number yet.
#[derive(Clone, Debug)]
pub struct NewReading<'a> {
    /// ICAO code.
    pub airport: &'a str,
    /// What was counted.
    pub metric: Metric,
    /// The number of flights; none when it is unknown.
    pub flight_count: Option<FlightCount>,
    /// The time it covers.
    pub window: (DateTime<Utc>, DateTime<Utc>),
    /// When the source was asked.
    pub observed_at: DateTime<Utc>,
    /// The source, in words.
    pub source: &'a str,
}

/// Where a list of readings goes on: below this.
#[derive(Clone, Copy, Debug)]
pub struct After {
    /// When the last one was observed.
    pub observed_at: DateTime<Utc>,
    /// Its id.
    pub id: Uuid,
}

/// Stores a reading under the next number of its series, and what fans it out.
///
/// # Errors
/// When the database is away.
pub async fn insert(connection: &mut PgConnection, reading: &NewReading<'_>) -> sqlx::Result<Uuid> {
    let seq = sqlx::query_scalar!(
        "INSERT INTO series (airport_code, metric, last_seq) VALUES ($1, $2, 1)
         ON CONFLICT (airport_code, metric) DO UPDATE SET last_seq = series.last_seq + 1
         RETURNING last_seq",
        reading.airport,
        reading.metric.as_str(),
    )
    .fetch_one(&mut *connection)
    .await?;
    let id = Uuid::now_v7();
    sqlx::query!(
        "WITH stored AS (
             INSERT INTO readings (id, airport_code, metric, seq, value, window_begin, window_end, observed_at, source)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         )
         INSERT INTO fan_outs (reading_id, airport_code, metric, seq) VALUES ($1, $2, $3, $4)",
        id,
        reading.airport,
        reading.metric.as_str(),
        seq,
        reading.flight_count.map(integer),
        reading.window.0,
        reading.window.1,
        reading.observed_at,
        reading.source,
    )
    .execute(&mut *connection)
    .await?;
    notify(connection, wake::READINGS).await?;
    Ok(id)
}

/// A reading in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedReading {
    /// Its id.
    pub id: Uuid,
    /// What was counted, as it was stored: it may be a metric of a newer version.
    pub metric: String,
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

/// A reading in a list, as it is stored.
struct ListedRow {
    id: Uuid,
    metric: String,
    seq: i64,
    value: Option<i32>,
    window_begin: DateTime<Utc>,
    window_end: DateTime<Utc>,
    observed_at: DateTime<Utc>,
    source: String,
}

impl TryFrom<ListedRow> for ListedReading {
    type Error = sqlx::Error;

    fn try_from(row: ListedRow) -> sqlx::Result<Self> {
        Ok(Self {
            id: row.id,
            metric: row.metric,
            seq: row.seq,
            flight_count: optional_flight_count(row.value)?,
            window_begin: row.window_begin,
            window_end: row.window_end,
            observed_at: row.observed_at,
            source: row.source,
        })
    }
}

impl After {
    /// Before the first reading: later than any can be.
    fn nothing() -> Self {
        let end = NaiveDate::from_ymd_opt(10_000, 1, 1).unwrap_or(NaiveDate::MAX).and_time(NaiveTime::MIN).and_utc();
        Self { observed_at: end, id: Uuid::nil() }
    }
}

impl Store {
    /// Readings of an airport, newest first.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn readings(
        &self,
        airport: &str,
        of: Option<Metric>,
        after: Option<After>,
        limit: i64,
    ) -> sqlx::Result<Vec<ListedReading>> {
        let After { observed_at, id } = after.unwrap_or_else(After::nothing);
        // Each list has its own index. PostgreSQL would plan anew for each LIMIT that is a parameter; one that it
        // computes may share a plan.
        let Some(metric) = of else {
            let rows = sqlx::query_as!(
                ListedRow,
                "SELECT id, metric, seq, value, window_begin, window_end, observed_at, source FROM readings
                 WHERE airport_code = $1 AND (observed_at, id) < ($2, $3)
                 ORDER BY observed_at DESC, id DESC LIMIT (SELECT $4::bigint)",
                airport,
                observed_at,
                id,
                limit,
            )
            .fetch_all(self.pool())
            .await?;
            return rows.into_iter().map(ListedReading::try_from).collect();
        };
        let rows = sqlx::query_as!(
            ListedRow,
            "SELECT id, metric, seq, value, window_begin, window_end, observed_at, source FROM readings
             WHERE airport_code = $1 AND metric = $5 AND (observed_at, id) < ($2, $3)
             ORDER BY observed_at DESC, id DESC LIMIT (SELECT $4::bigint)",
            airport,
            observed_at,
            id,
            limit,
            metric.as_str(),
        )
        .fetch_all(self.pool())
        .await?;
        rows.into_iter().map(ListedReading::try_from).collect()
    }
}
