//! Times in the ledger, set right after the database's clock was not.

use std::time::Duration;

use pg::lease::{FenceError, LeaseTerm};

use super::Store;
use crate::core::send_result::LONGEST_WAIT;

impl Store {
    /// The clock was set by so many seconds: everything that waits is moved along with it, so that waits
    /// and ages stay what they were. Alerts after `known`, the newest before the clock was set, may have
    /// come before or after that; they count as new.
    ///
    /// # Errors
    /// When a later leader has begun, or the database cannot answer.
    pub async fn move_times(&self, term: &LeaseTerm, seconds: f64, known: i64) -> Result<(), FenceError> {
        let mut transaction = pg::begin(&self.pool).await?;
        term.fence(&mut transaction).await?;
        // Rows in any order: no other transaction may lock some of them meanwhile.
        sqlx::query!("LOCK TABLE queues IN EXCLUSIVE MODE").execute(&mut *transaction).await?;
        // A row that was written after the clock was set is moved too. No wait is longer than it was meant to be.
        sqlx::query!(
            "UPDATE queues SET
               next_at = CASE WHEN isfinite(next_at)
                 THEN least(next_at + make_interval(secs => $1), now() + (next_at - decided_at)) ELSE next_at END,
               chat_retry_at = least(chat_retry_at + make_interval(secs => $1), now() + (chat_retry_at - decided_at)),
               gone_since = least(gone_since + make_interval(secs => $1), now()),
               decided_at = least(decided_at + make_interval(secs => $1), now())",
            seconds,
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "UPDATE attempts SET started_at = least(started_at + make_interval(secs => $1), now())
             WHERE outcome IS NULL",
            seconds,
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "UPDATE alerts SET created_at =
               CASE WHEN position <= $2 THEN least(created_at + make_interval(secs => $1), now()) ELSE now() END
             WHERE status = 'pending'",
            seconds,
            known,
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "UPDATE silence SET until = least(until + make_interval(secs => $1), now() + (until - asked_at)),
               asked_at = least(asked_at + make_interval(secs => $1), now())",
            seconds,
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Makes a new leader's beginning: times that lie in the future because the clock was set back while no replica
    /// led, queues that are missing, and queues that wait for an attempt which is not under way.
    ///
    /// # Errors
    /// When a later leader has begun, or the database cannot answer.
    pub async fn mend(&self, term: &LeaseTerm) -> Result<(), FenceError> {
        const TOLERANCE: Duration = Duration::from_secs(5);
        let tolerance = TOLERANCE.as_secs_f64();
        let mut transaction = pg::begin(&self.pool).await?;
        term.fence(&mut transaction).await?;
        sqlx::query!("LOCK TABLE queues IN EXCLUSIVE MODE").execute(&mut *transaction).await?;
        sqlx::query!(
            "UPDATE queues SET
               next_at = CASE WHEN isfinite(next_at) THEN now() + (next_at - decided_at) ELSE next_at END,
               chat_retry_at = now() + (chat_retry_at - decided_at), gone_since = least(gone_since, now()),
               decided_at = now()
             WHERE decided_at > now() + make_interval(secs => $1)",
            tolerance,
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "UPDATE attempts SET started_at = now()
             WHERE outcome IS NULL AND started_at > now() + make_interval(secs => $1)",
            tolerance,
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "UPDATE alerts SET created_at = now()
             WHERE status = 'pending' AND created_at > now() + make_interval(secs => $1)",
            tolerance,
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "UPDATE silence SET until = now() + least(until - asked_at, make_interval(secs => $2)), asked_at = now()
             WHERE asked_at > now() + make_interval(secs => $1) OR until > now() + make_interval(secs => $2)",
            tolerance,
            LONGEST_WAIT.as_secs_f64(),
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "INSERT INTO queues (email)
             SELECT DISTINCT a.email FROM alerts a
             WHERE a.status = 'pending' AND NOT EXISTS (SELECT FROM queues q WHERE q.email = a.email)",
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "UPDATE queues q SET next_at = now(), decided_at = now()
             WHERE q.next_at = 'infinity' AND NOT EXISTS (
               SELECT FROM alerts a JOIN attempts t ON t.event_id = a.event_id AND t.outcome IS NULL
               WHERE a.email = q.email AND a.status = 'pending')",
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }
}
