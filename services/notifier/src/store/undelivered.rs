//! What ended unsent, for user-manager to show.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::Store;
use crate::core::reach::Reason;

/// How long a report is left alone while a call about it may be under way.
const CLAIM: Duration = Duration::from_secs(10);

/// A registration's alerts that ended unsent and are still in the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undelivered {
    /// The registration.
    pub user_id: Uuid,
    /// Rises with every change.
    pub version: i64,
    /// So many.
    pub count: i64,
    /// The last of them, and why that one.
    pub last: Option<(DateTime<Utc>, Reason)>,
    /// How often user-manager was called about it, this time included.
    pub calls: u32,
}

impl Store {
    /// At most `limit` registrations whose numbers changed since they were last reported, claimed for one
    /// call.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn claim_reports(&self, limit: i64) -> sqlx::Result<Vec<Undelivered>> {
        let rows = sqlx::query!(
            r#"WITH claimed AS (
                 UPDATE undelivered_reports SET calls = calls + 1, next_call_at = now() + make_interval(secs => $2)
                 WHERE user_id IN (
                   SELECT user_id FROM undelivered_reports
                   -- One that is further away than any wait is left over from a clock that was ahead.
                   WHERE next_call_at <= now() OR next_call_at > now() + interval '1 hour'
                   ORDER BY next_call_at LIMIT $1 FOR UPDATE SKIP LOCKED)
                 RETURNING user_id, version, calls)
               SELECT c.user_id, c.version, c.calls,
                      (SELECT count(*) FROM alerts a
                       WHERE a.user_id = c.user_id AND a.status IN ('given_up', 'undeliverable')) AS "count!",
                      last.settled_at AS "last_at?", last.reason
               FROM claimed c LEFT JOIN LATERAL (
                 SELECT a.settled_at, a.reason FROM alerts a
                 WHERE a.user_id = c.user_id AND a.status IN ('given_up', 'undeliverable')
                 ORDER BY a.settled_at DESC LIMIT 1) AS last ON true"#,
            limit,
            CLAIM.as_secs_f64(),
        )
        .fetch_all(&self.pool)
        .await?;
        let reports = rows.into_iter().map(|row| Undelivered {
            user_id: row.user_id,
            version: row.version,
            count: row.count,
            // Those of an earlier version have no reason; then nobody could read the chat.
            last: row
                .last_at
                .map(|at| (at, row.reason.as_deref().and_then(Reason::named).unwrap_or(Reason::Forbidden))),
            calls: row.calls.unsigned_abs(),
        });
        Ok(reports.collect())
    }

    /// user-manager knows this; what changed since stays to be reported.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn settle_report(&self, report: &Undelivered) -> sqlx::Result<()> {
        sqlx::query!(
            "DELETE FROM undelivered_reports WHERE user_id = $1 AND version = $2",
            report.user_id,
            report.version,
        )
        .execute(&self.pool)
        .await
        .map(drop)
    }

    /// user-manager could not be told; it is called again after `wait`.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn postpone_report(&self, report: &Undelivered, wait: Duration) -> sqlx::Result<()> {
        sqlx::query!(
            "UPDATE undelivered_reports SET next_call_at = now() + make_interval(secs => $3)
             WHERE user_id = $1 AND version = $2",
            report.user_id,
            report.version,
            wait.as_secs_f64(),
        )
        .execute(&self.pool)
        .await
        .map(drop)
    }
}
