//! Readings.

use chrono::{DateTime, Utc};
use contracts::Metric;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{Reading, Store, metric, notify, wake};

/// A reading that has no number yet.
#[derive(Clone, Debug)]
pub struct NewReading<'a> {
    /// ICAO code.
    pub airport: &'a str,
    /// What was counted.
    pub metric: Metric,
    /// The value; none when it is unknown.
    pub value: Option<u32>,
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
        reading.value.map(|value| i32::try_from(value).unwrap_or(i32::MAX)),
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

/// The newest reading that has a value and is recent enough to judge by.
///
/// # Errors
/// When the database is away.
pub async fn newest_usable(
    connection: &mut PgConnection,
    airport: &str,
    of: Metric,
    since: DateTime<Utc>,
) -> sqlx::Result<Option<Reading>> {
    let row = sqlx::query!(
        "SELECT id, seq, value, window_begin, window_end, observed_at, source FROM readings
         WHERE airport_code = $1 AND metric = $2 AND value IS NOT NULL
             AND (CASE WHEN metric = 'live' THEN observed_at ELSE window_end END) >= $3
         ORDER BY seq DESC LIMIT 1",
        airport,
        of.as_str(),
        since,
    )
    .fetch_optional(connection)
    .await?;
    Ok(row.map(|row| Reading {
        id: row.id,
        airport: airport.to_owned(),
        metric: of,
        seq: row.seq,
        value: row.value,
        window_begin: row.window_begin,
        window_end: row.window_end,
        observed_at: row.observed_at,
        source: row.source,
    }))
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
    ) -> sqlx::Result<Vec<Reading>> {
        let rows = sqlx::query!(
            "SELECT id, metric, seq, value, window_begin, window_end, observed_at, source FROM readings
             WHERE airport_code = $1 AND ($2::text IS NULL OR metric = $2)
                 AND ($3::timestamptz IS NULL OR (observed_at, id) < ($3, $4))
             ORDER BY observed_at DESC, id DESC LIMIT $5",
            airport,
            of.map(Metric::as_str),
            after.map(|after| after.observed_at),
            after.map(|after| after.id),
            limit,
        )
        .fetch_all(self.pool())
        .await?;
        let read = rows.into_iter().map(|row| {
            Ok(Reading {
                id: row.id,
                airport: airport.to_owned(),
                metric: metric(&row.metric)?,
                seq: row.seq,
                value: row.value,
                window_begin: row.window_begin,
                window_end: row.window_end,
                observed_at: row.observed_at,
                source: row.source,
            })
        });
        read.collect()
    }
}
