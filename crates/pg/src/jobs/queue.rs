//! The table `jobs`: every statement about it.

use std::time::Duration;

use runtime::trace::RequestContext;
use serde::Serialize;
use sqlx::{FromRow, PgConnection, types::Json};
use uuid::Uuid;

use super::{Kind, NewJob, core::pace::Batch};
use crate::Pool;

/// A job as the columns have it.
#[derive(Debug, FromRow)]
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) key: String,
    pub(super) payload: Option<String>,
    request_id: Option<String>,
    traceparent: Option<String>,
    pub(super) attempts: i32,
}

impl Row {
    pub(super) fn context(&self) -> RequestContext {
        RequestContext::carried(self.request_id.as_deref(), self.traceparent.as_deref())
    }
}

/// A condition of jobs `j` that waits for earlier ones of the same key.
macro_rules! is_first_of_key {
    () => {
        "AND NOT EXISTS (SELECT FROM jobs e WHERE e.key = j.key AND e.id < j.id AND e.settled_at IS NULL)"
    };
}

/// Locks jobs of the kind `$1`, `$2` of them at most.
macro_rules! locking {
    ($which:literal, $order:literal, $more:expr) => {
        concat!(
            "SELECT j.id, j.key, j.payload::text, j.request_id, j.traceparent, j.attempts FROM jobs j
             WHERE j.kind = $1 AND j.settled_at IS NULL AND ",
            $which,
            " ",
            $more,
            " ORDER BY ",
            $order,
            " LIMIT $2 FOR UPDATE OF j SKIP LOCKED"
        )
    };
}

/// Claims jobs of the kind `$1`, `$2` of them at most, as `$3`, for `$4` seconds.
macro_rules! claiming {
    ($more:expr) => {
        concat!(
            "WITH fresh AS (
                 SELECT j.id FROM jobs j WHERE j.kind = $1 AND j.settled_at IS NULL AND j.attempts = 0 ",
            $more,
            "    ORDER BY j.priority DESC, j.id LIMIT $2 FOR UPDATE OF j SKIP LOCKED
             ), retried AS (
                 SELECT j.id FROM jobs j
                 WHERE j.kind = $1 AND j.settled_at IS NULL AND j.attempts > 0 AND j.due_at <= now() ",
            $more,
            "    ORDER BY j.due_at LIMIT $2 - (SELECT count(*) FROM fresh) FOR UPDATE OF j SKIP LOCKED
             )
             UPDATE jobs j SET attempts = attempts + 1, claimed_by = $3, due_at = now() + make_interval(secs => $4)
             FROM (SELECT id FROM fresh UNION ALL SELECT id FROM retried) AS claimed
             WHERE j.id = claimed.id
             RETURNING j.id, j.key, j.payload::text, j.request_id, j.traceparent, j.attempts"
        )
    };
}

/// Settles the jobs `$1`, claimed as `$2`, and wakes the kinds `$3`.
macro_rules! settling {
    ($how:literal) => {
        concat!(
            "WITH settled AS (",
            $how,
            " WHERE id = ANY ($1) AND settled_at IS NULL
                  AND (NOT deduplicated OR claimed_by IS NOT DISTINCT FROM $2))
             SELECT pg_notify('jobs', waiting) FROM unnest($3::text[]) AS waiting"
        )
    };
}

pub(super) async fn enqueue<P: Serialize>(
    connection: &mut PgConnection,
    kind: Kind<P>,
    jobs: &[NewJob<P>],
    context: &RequestContext,
) -> sqlx::Result<()> {
    let keys: Vec<&str> = jobs.iter().map(|job| job.key.as_str()).collect();
    let payloads: Vec<Json<&P>> = jobs.iter().map(|job| Json(&job.payload)).collect();
    let priorities: Vec<i16> = jobs.iter().map(|job| job.priority).collect();
    let query = if kind.deduplicated {
        sqlx::query(
            "INSERT INTO jobs (kind, key, payload, priority, request_id, traceparent, deduplicated)
             SELECT DISTINCT ON (key) $1, key, payload, priority, $5, $6, true
             FROM unnest($2::text[], $3::jsonb[], $4::smallint[])
                 WITH ORDINALITY AS new (key, payload, priority, place)
             ORDER BY key, place DESC
             ON CONFLICT (kind, key) WHERE deduplicated AND settled_at IS NULL DO UPDATE
             SET payload = excluded.payload, priority = excluded.priority, request_id = excluded.request_id,
                 traceparent = excluded.traceparent, attempts = 0, due_at = now(), claimed_by = NULL",
        )
    } else {
        sqlx::query(
            "INSERT INTO jobs (kind, key, payload, priority, request_id, traceparent)
             SELECT $1, key, payload, priority, $5, $6
             FROM unnest($2::text[], $3::jsonb[], $4::smallint[])
                 WITH ORDINALITY AS new (key, payload, priority, place)
             ORDER BY place",
        )
    };
    query
        .bind(kind.name)
        .bind(keys)
        .bind(payloads)
        .bind(priorities)
        .bind(&context.request_id)
        .bind(&context.traceparent)
        .execute(connection)
        .await
        .map(drop)
}

/// Locks at most `limit` jobs until the transaction of `connection` ends.
pub(super) async fn lock(
    connection: &mut PgConnection,
    kind: &str,
    batch: Batch,
    waits_for_key: bool,
    limit: i64,
) -> sqlx::Result<Vec<Row>> {
    let locking = match (batch, waits_for_key) {
        (Batch::Fresh, false) => locking!("j.attempts = 0", "j.priority DESC, j.id", ""),
        (Batch::Fresh, true) => locking!("j.attempts = 0", "j.priority DESC, j.id", is_first_of_key!()),
        (Batch::Retried, false) => locking!("j.attempts > 0 AND j.due_at <= now()", "j.due_at", ""),
        (Batch::Retried, true) => locking!("j.attempts > 0 AND j.due_at <= now()", "j.due_at", is_first_of_key!()),
    };
    sqlx::query_as(locking).bind(kind).bind(limit).fetch_all(connection).await
}

/// Claims at most `limit` jobs for `lasts`, those that never failed first.
pub(super) async fn claim(
    pool: &Pool,
    kind: &str,
    waits_for_key: bool,
    limit: i64,
    (claim, lasts): (Uuid, Duration),
) -> sqlx::Result<Vec<Row>> {
    let claiming = if waits_for_key { claiming!(is_first_of_key!()) } else { claiming!("") };
    let mut rows: Vec<Row> =
        sqlx::query_as(claiming).bind(kind).bind(limit).bind(claim).bind(lasts.as_secs_f64()).fetch_all(pool).await?;
    rows.sort_unstable_by_key(|row| row.id);
    Ok(rows)
}

/// Settles jobs and wakes the kinds that may have waited for them. That a job is done is a fact, also when its claim
/// has run out; but what was renewed meanwhile under the same key is to be done again.
pub(super) async fn settle(
    connection: &mut PgConnection,
    ids: &[i64],
    claim: Option<Uuid>,
    kept: bool,
    wakes: &[&str],
) -> sqlx::Result<()> {
    let settling = if kept {
        settling!("UPDATE jobs SET settled_at = now(), payload = NULL, claimed_by = NULL")
    } else {
        settling!("DELETE FROM jobs")
    };
    sqlx::query(settling).bind(ids).bind(claim).bind(wakes).execute(connection).await.map(drop)
}

/// Gives a claimed job back, for `wait`, unless it belongs to another claim by now.
pub(super) async fn postpone(connection: &mut PgConnection, id: i64, claim: Uuid, wait: Duration) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE jobs SET due_at = now() + make_interval(secs => $3), claimed_by = NULL
         WHERE id = $1 AND claimed_by = $2 AND settled_at IS NULL",
    )
    .bind(id)
    .bind(claim)
    .bind(wait.as_secs_f64())
    .execute(connection)
    .await
    .map(drop)
}

/// Sets a locked job aside for `wait`.
pub(super) async fn set_aside(connection: &mut PgConnection, id: i64, wait: Duration) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE jobs SET attempts = attempts + 1, due_at = now() + make_interval(secs => $2)
         WHERE id = $1 AND settled_at IS NULL",
    )
    .bind(id)
    .bind(wait.as_secs_f64())
    .execute(connection)
    .await
    .map(drop)
}

/// How long until a job that was attempted is due; none when there is none. One that would be due later than in
/// `longest` was written before the database's clock stepped back, and is due now.
pub(super) async fn due_in(pool: &Pool, kind: &str, longest: Duration) -> sqlx::Result<Option<Duration>> {
    let (first, last): (Option<f64>, Option<f64>) = sqlx::query_as(
        "SELECT extract(epoch FROM (
                    SELECT due_at FROM jobs WHERE kind = $1 AND attempts > 0 AND settled_at IS NULL AND due_at > now()
                    ORDER BY due_at LIMIT 1
                ) - now())::float8,
                extract(epoch FROM (
                    SELECT due_at FROM jobs WHERE kind = $1 AND attempts > 0 AND settled_at IS NULL
                    ORDER BY due_at DESC LIMIT 1
                ) - now())::float8",
    )
    .bind(kind)
    .fetch_one(pool)
    .await?;
    if last.is_some_and(|last| last > longest.as_secs_f64()) {
        let dating = "UPDATE jobs SET due_at = now() WHERE kind = $1 AND attempts > 0 AND settled_at IS NULL
                      AND due_at > now() + make_interval(secs => $2)";
        sqlx::query(dating).bind(kind).bind(longest.as_secs_f64()).execute(pool).await?;
        return Ok(Some(Duration::ZERO));
    }
    // What is due and was not claimed is another replica's, or waits for an earlier job.
    Ok(first.map(|first| Duration::try_from_secs_f64(first).unwrap_or_default()))
}

/// How many jobs of each kind are not settled, and for how many seconds the oldest has been waiting.
pub(super) async fn waiting(pool: &Pool) -> sqlx::Result<Vec<(String, i64, f64)>> {
    sqlx::query_as(
        "SELECT kind, count(*), greatest(extract(epoch FROM now() - min(created_at)), 0)::float8
         FROM jobs WHERE settled_at IS NULL GROUP BY kind",
    )
    .fetch_all(pool)
    .await
}

/// Removes at most `limit` jobs of a kind that were settled longer than `age` ago. Answers how many. One that was
/// settled in the future of a clock that stepped back is kept for `age` from now on.
///
/// A clock that is years ahead removes them all. That is harmless: settled jobs are kept for people to read, and
/// nothing is decided by them.
///
/// # Errors
/// When the database is away.
pub async fn forget_settled(pool: &Pool, kind: &str, age: Duration, limit: i64) -> sqlx::Result<u64> {
    let dating = "UPDATE jobs SET settled_at = now() WHERE kind = $1 AND settled_at > now() + interval '1 minute'";
    sqlx::query(dating).bind(kind).execute(pool).await?;
    let removing = "DELETE FROM jobs WHERE id = ANY (ARRAY(
                        SELECT id FROM jobs WHERE kind = $1 AND settled_at < now() - make_interval(secs => $2) LIMIT $3
                    ))";
    let removed = sqlx::query(removing).bind(kind).bind(age.as_secs_f64()).bind(limit).execute(pool).await?;
    Ok(removed.rows_affected())
}
