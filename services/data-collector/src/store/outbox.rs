//! What changes of interests still have to cause. Rows are locked while they are worked on and gone
//! when they are done; one whose worker died is free again at once.

use chrono::{DateTime, Utc};
use contracts::Metric;
use shell::trace::Cause;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    fan_out,
    interests::{Interest, InterestRow},
    notify, wake,
};

/// Rows that are worked on together at most.
const BATCH: i64 = 500;

/// A new or changed interest that is to be judged by the newest reading.
pub struct Evaluation {
    /// The row.
    pub id: i64,
    /// The interest as it is now; none when it was removed since.
    pub interest: Option<Interest>,
    /// What caused the change.
    pub cause: Cause,
}

/// Interests of one series whose removal is to be told.
pub struct Removals {
    /// Their series.
    pub airport: String,
    /// Their series.
    pub metric: String,
    /// The rows: id, interest, cause.
    pub rows: Vec<(i64, Uuid, Cause)>,
}

/// Claims evaluations, oldest first.
///
/// # Errors
/// When the database is away.
pub async fn claim_evaluations(connection: &mut PgConnection) -> sqlx::Result<Vec<Evaluation>> {
    // Locked first and joined second: the interest must be read after the lock is there.
    let rows = sqlx::query!(
        "SELECT id, interest_id, request_id, traceparent FROM interest_outbox
         WHERE kind = 'evaluate' ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED",
        BATCH,
    )
    .fetch_all(&mut *connection)
    .await?;
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<Uuid> = rows.iter().map(|row| row.interest_id).collect();
    let mut found = std::collections::HashMap::new();
    let interests = sqlx::query_as!(
        InterestRow,
        "SELECT id, user_id, user_email, airport_code, metric, high_value, low_value, version
         FROM interests WHERE id = ANY ($1)",
        &ids,
    )
    .fetch_all(connection)
    .await?;
    for row in interests {
        found.insert(row.id, Interest::try_from(row)?);
    }
    let evaluations = rows.into_iter().map(|row| Evaluation {
        id: row.id,
        interest: found.get(&row.interest_id).cloned(),
        cause: fan_out::cause(row.request_id.as_deref(), row.traceparent.as_deref()),
    });
    Ok(evaluations.collect())
}

/// Claims the removals of one series, and waits until no page that may hold these interests is on its
/// way. An interest that still has an evaluation to come is left for later.
///
/// # Errors
/// When the database is away.
pub async fn claim_removals(connection: &mut PgConnection) -> sqlx::Result<Option<Removals>> {
    let rows = sqlx::query!(
        "WITH oldest AS (
             SELECT airport_code, metric FROM interest_outbox WHERE kind = 'removed' ORDER BY id LIMIT 1
         )
         SELECT o.id, o.interest_id, o.airport_code, o.metric, o.request_id, o.traceparent
         FROM interest_outbox o JOIN oldest USING (airport_code, metric)
         WHERE o.kind = 'removed' AND NOT EXISTS (
             SELECT 1 FROM interest_outbox e
             WHERE e.interest_id = o.interest_id AND e.id < o.id
         )
         ORDER BY o.id LIMIT $1 FOR UPDATE OF o SKIP LOCKED",
        BATCH,
    )
    .fetch_all(&mut *connection)
    .await?;
    let Some(first) = rows.first() else { return Ok(None) };
    let (airport, metric) = (first.airport_code.clone(), first.metric.clone());
    fan_out::hold_series(connection, &airport, &metric).await?;
    let rows = rows
        .into_iter()
        .map(|row| (row.id, row.interest_id, fan_out::cause(row.request_id.as_deref(), row.traceparent.as_deref())));
    Ok(Some(Removals { airport, metric, rows: rows.collect() }))
}

/// Removes rows that are done.
///
/// # Errors
/// When the database is away.
pub async fn settle(connection: &mut PgConnection, ids: &[i64]) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM interest_outbox WHERE id = ANY ($1)", ids).execute(&mut *connection).await?;
    // A removal may have waited for an evaluation of the same interest.
    notify(connection, wake::OUTBOX).await
}

/// Asks the leader to collect an airport. Asking twice is asking once.
///
/// # Errors
/// When the database is away.
pub async fn request_collection(
    connection: &mut PgConnection,
    airport: &str,
    metric: Metric,
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO collection_requests (airport_code, metric, requested_at) VALUES ($1, $2, $3)
         ON CONFLICT DO NOTHING",
        airport,
        metric.as_str(),
        now,
    )
    .execute(&mut *connection)
    .await?;
    notify(connection, wake::COLLECT).await
}
