//! What changes of interests still have to cause. Rows are locked while they are worked on and gone
//! when they are done; one whose worker died is free again at once. An evaluation that fails by itself
//! is set aside for a while and then claimed alone.

use std::{collections::HashMap, time::Duration};

use chrono::{DateTime, Utc};
use events::Metric;
use runtime::trace::RequestContext;
use sqlx::PgConnection;
use uuid::Uuid;

use super::{
    Reading, fan_out,
    interests::{Interest, InterestRow},
    metric, notify, optional_flight_count, wake,
};

/// Removals that are told together at most.
const BATCH: i64 = 500;

/// A claimed row: an interest that was added or changed is to be judged by what is known.
pub struct Evaluation {
    /// The row.
    pub id: i64,
    /// The interest.
    pub interest_id: Uuid,
    /// How often it has failed by itself.
    pub failures: i32,
    /// What caused the change.
    pub context: RequestContext,
}

/// An interest as it is now, and the reading with a value that it is judged by, however old.
pub struct Judged {
    /// The interest.
    pub interest: Interest,
    /// The reading.
    pub reading: Option<Reading>,
}

/// Interests of one series whose removal is to be told.
pub struct Removals {
    /// Their series.
    pub airport: String,
    /// Their series.
    pub metric: String,
    /// The rows: id, interest, cause.
    pub rows: Vec<(i64, Uuid, RequestContext)>,
}

/// Claims at most `limit` evaluations, oldest first; those that have failed before wait for their time, and are
/// claimed one at a time when there are no others.
///
/// # Errors
/// When the database is away.
pub async fn claim_evaluations(connection: &mut PgConnection, limit: i64) -> sqlx::Result<Vec<Evaluation>> {
    let fresh = sqlx::query_as!(
        EvaluationRow,
        "SELECT id, interest_id, failures, request_id, traceparent FROM interest_outbox
         WHERE kind = 'evaluate' AND retry_at IS NULL ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED",
        limit,
    )
    .fetch_all(&mut *connection)
    .await?;
    if !fresh.is_empty() {
        return Ok(fresh.into_iter().map(Evaluation::from).collect());
    }
    let failed = sqlx::query_as!(
        EvaluationRow,
        "SELECT id, interest_id, failures, request_id, traceparent FROM interest_outbox
         WHERE kind = 'evaluate' AND retry_at <= now() ORDER BY retry_at LIMIT 1 FOR UPDATE SKIP LOCKED",
    )
    .fetch_optional(connection)
    .await?;
    Ok(failed.into_iter().map(Evaluation::from).collect())
}

struct EvaluationRow {
    id: i64,
    interest_id: Uuid,
    failures: i32,
    request_id: Option<String>,
    traceparent: Option<String>,
}

impl From<EvaluationRow> for Evaluation {
    fn from(row: EvaluationRow) -> Self {
        let context = fan_out::context(row.request_id.as_deref(), row.traceparent.as_deref());
        Self { id: row.id, interest_id: row.interest_id, failures: row.failures, context }
    }
}

/// What the claimed evaluations are about, by interest; those of interests that were removed since are not there.
/// One that cannot be read has its own error.
///
/// An interest is judged by the newest reading, but never ahead of one that was stored after the interest was
/// added or changed and still waits for the fan-out: that one would come late and count as stale, and nobody
/// would be told what it says. Only the oldest that waits may be the judge, since its page may be on its way
/// without the interest; both then send the same message.
///
/// # Errors
/// When the database is away.
pub async fn judged(
    connection: &mut PgConnection,
    evaluations: &[Evaluation],
) -> sqlx::Result<HashMap<Uuid, sqlx::Result<Judged>>> {
    let ids: Vec<Uuid> = evaluations.iter().map(|evaluation| evaluation.interest_id).collect();
    // A statement after the claim: the interest must be read after the row is locked.
    let rows = sqlx::query!(
        r#"SELECT i.id AS "id!", i.user_id AS "user_id!", i.user_email AS "user_email!",
                  i.airport_code AS "airport_code!", i.metric AS "metric!", i.high_value, i.low_value,
                  i.version AS "version!",
                  r.id AS "reading_id?", r.seq AS "seq?", r.value AS "value?", r.window_begin AS "window_begin?",
                  r.window_end AS "window_end?", r.observed_at AS "observed_at?", r.source AS "source?"
           FROM interests i
           LEFT JOIN series s ON s.airport_code = i.airport_code AND s.metric = i.metric
           LEFT JOIN LATERAL (
               SELECT greatest(min(f.seq), i.judged_from) AS seq
               FROM fan_outs f WHERE f.airport_code = i.airport_code AND f.metric = i.metric HAVING count(*) > 0
           ) last ON true
           LEFT JOIN LATERAL (
               SELECT * FROM readings
               WHERE readings.airport_code = i.airport_code AND readings.metric = i.metric AND readings.value IS NOT NULL
                 AND readings.seq <= least(s.newest_valued_seq, last.seq)
               ORDER BY readings.seq DESC LIMIT 1
           ) r ON true
           WHERE i.id = ANY ($1)"#,
        &ids,
    )
    .fetch_all(connection)
    .await?;
    let mut judged = HashMap::with_capacity(rows.len());
    for row in rows {
        let reading = row.reading_id.zip(row.seq).zip(row.window_begin).zip(row.window_end).zip(row.observed_at);
        let reading = reading.zip(row.source);
        let one = metric(&row.metric).and_then(|metric| {
            let flight_count = optional_flight_count(row.value)?;
            let reading = reading.map(|(((((id, seq), window_begin), window_end), observed_at), source)| Reading {
                id,
                airport: row.airport_code.clone(),
                metric,
                seq,
                flight_count,
                window_begin,
                window_end,
                observed_at,
                source,
            });
            let interest = InterestRow {
                id: row.id,
                user_id: row.user_id,
                user_email: row.user_email,
                airport_code: row.airport_code,
                metric: row.metric,
                high_value: row.high_value,
                low_value: row.low_value,
                version: row.version,
            };
            Ok(Judged { interest: interest.try_into()?, reading })
        });
        judged.insert(row.id, one);
    }
    Ok(judged)
}

/// Sets an evaluation that failed by itself aside for `wait` of real time.
///
/// # Errors
/// When the database is away.
pub async fn set_aside(connection: &mut PgConnection, id: i64, wait: Duration) -> sqlx::Result<()> {
    sqlx::query!(
        "UPDATE interest_outbox
         SET failures = failures + 1, retry_at = now() + make_interval(secs => $2::double precision)
         WHERE id = $1",
        id,
        wait.as_secs_f64(),
    )
    .execute(connection)
    .await?;
    Ok(())
}

/// Claims the removals of one series, and waits until no page that may hold these interests is on its
/// way. An interest that still has an evaluation to come is left for later.
///
/// # Errors
/// When the database is away.
pub async fn claim_removals(connection: &mut PgConnection) -> sqlx::Result<Option<Removals>> {
    let rows = sqlx::query!(
        "WITH oldest AS (
             SELECT airport_code, metric FROM interest_outbox r
             WHERE kind = 'removed' AND NOT EXISTS (
                 SELECT 1 FROM interest_outbox e WHERE e.interest_id = r.interest_id AND e.id < r.id
             )
             ORDER BY id LIMIT 1
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
        .map(|row| (row.id, row.interest_id, fan_out::context(row.request_id.as_deref(), row.traceparent.as_deref())));
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

/// Asks the leader to collect these airports and metrics. Asking twice is asking once.
///
/// # Errors
/// When the database is away.
pub async fn request_collections(
    connection: &mut PgConnection,
    wanted: &[(&str, Metric)],
    now: DateTime<Utc>,
) -> sqlx::Result<()> {
    let airports: Vec<&str> = wanted.iter().map(|(airport, _)| *airport).collect();
    let metrics: Vec<&str> = wanted.iter().map(|(_, metric)| metric.as_str()).collect();
    // In one order everywhere, so that two replicas cannot wait for each other.
    let requested = sqlx::query!(
        "INSERT INTO collection_requests (airport_code, metric, requested_at)
         SELECT DISTINCT wanted.*, $3::timestamptz FROM unnest($1::text[], $2::text[]) wanted ORDER BY 1, 2
         ON CONFLICT DO NOTHING",
        &airports as &[&str],
        &metrics as &[&str],
        now,
    )
    .execute(&mut *connection)
    .await?;
    if requested.rows_affected() == 0 {
        return Ok(());
    }
    notify(connection, wake::COLLECT).await
}
