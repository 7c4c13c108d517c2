//! What ended unsent, for user-manager to show.

use chrono::{DateTime, Utc};
use pg::jobs::Kind;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Store;
use crate::core::reach::Reason;

/// Registrations whose undelivered alerts changed; their key is the registration's id. A trigger enqueues them, so that
/// an alert cannot end unsent, or be forgotten, unreported.
pub const UNDELIVERED_REPORT: Kind<UndeliveredReport> = Kind::new("undelivered_report").deduplicated();

/// What a report carries beside its key: the numbers are read when it is made.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct UndeliveredReport {
    /// Rises with every change.
    pub version: i64,
}

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
}

impl Store {
    /// A registration's numbers, to be reported as `version`.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn undelivered(&self, user_id: Uuid, version: i64) -> sqlx::Result<Undelivered> {
        let row = sqlx::query!(
            r#"SELECT (SELECT count(*) FROM alerts
                       WHERE user_id = $1 AND status IN ('given_up', 'undeliverable')) AS "count!",
                      last.settled_at AS "last_at?", last.reason
               FROM (SELECT) AS one LEFT JOIN LATERAL (
                 SELECT settled_at, reason FROM alerts WHERE user_id = $1 AND status IN ('given_up', 'undeliverable')
                 ORDER BY settled_at DESC LIMIT 1) AS last ON true"#,
            user_id,
        )
        .fetch_one(&self.pool)
        .await?;
        // Those of an earlier version have no reason; then the user could not read the chat.
        let reason = row.reason.as_deref().and_then(Reason::named).unwrap_or(Reason::Forbidden);
        Ok(Undelivered { user_id, version, count: row.count, last: row.last_at.map(|at| (at, reason)) })
    }
}
