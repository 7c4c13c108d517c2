//! What the next leader has to know of earlier calls.

use std::time::Duration;

use super::Store;
use crate::core::rate_limiter::ChatId;

/// More calls than the limits let through in a minute.
const LATEST_CALLS: i64 = 5000;

impl Store {
    /// Every group that is known to have moved.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn migrations(&self) -> sqlx::Result<Vec<(ChatId, ChatId)>> {
        let rows = sqlx::query!("SELECT old_chat_id, new_chat_id FROM chat_migrations").fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(|row| (ChatId(row.old_chat_id), ChatId(row.new_chat_id))).collect())
    }

    pub(super) async fn remember_migration(&self, from: ChatId, to: ChatId) -> sqlx::Result<()> {
        sqlx::query!(
            "INSERT INTO chat_migrations (old_chat_id, new_chat_id) VALUES ($1, $2)
             ON CONFLICT (old_chat_id) DO UPDATE SET new_chat_id = excluded.new_chat_id, migrated_at = now()",
            from.0,
            to.0,
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// A group's move turned out to lead nowhere.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn forget_migration(&self, from: ChatId) -> sqlx::Result<()> {
        sqlx::query!("DELETE FROM chat_migrations WHERE old_chat_id = $1", from.0).execute(&self.pool).await.map(drop)
    }

    /// The latest calls that began or ended within `span`: where each went, and how long ago it ended.
    /// One whose end is not known counts as ending now. Longest ended first, and at most so many as
    /// matter to the limits.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn latest_calls(&self, span: Duration) -> sqlx::Result<Vec<(ChatId, Duration)>> {
        let rows = sqlx::query!(
            r#"SELECT chat_id AS "chat_id!", age AS "age!"
               FROM (SELECT chat_id, extract(epoch FROM now() - coalesce(ended_at, now()))::float8 AS age
                     FROM attempts ORDER BY id DESC LIMIT $2) AS latest
               WHERE chat_id IS NOT NULL AND age < $1
               ORDER BY age DESC"#,
            span.as_secs_f64(),
            LATEST_CALLS,
        )
        .fetch_all(&self.pool)
        .await?;
        let calls = rows.into_iter().map(|row| {
            let age = Duration::try_from_secs_f64(row.age).unwrap_or_default();
            (ChatId(row.chat_id), age)
        });
        Ok(calls.collect())
    }

    /// Remembers that Telegram asked the whole bot to be silent for `wait` from now on.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn remember_silence(&self, wait: Duration) -> sqlx::Result<()> {
        sqlx::query!(
            "INSERT INTO silence (is_asked, until, asked_at) VALUES (true, now() + make_interval(secs => $1), now())
             ON CONFLICT (is_asked) DO UPDATE
             SET until = greatest(silence.until, excluded.until), asked_at = excluded.asked_at",
            wait.as_secs_f64(),
        )
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// How long Telegram still wants the whole bot to be silent, if it does.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn silence(&self) -> sqlx::Result<Option<Duration>> {
        let left = sqlx::query_scalar!(
            r#"SELECT extract(epoch FROM until - now())::float8 AS "left!" FROM silence WHERE until > now()"#
        )
        .fetch_optional(&self.pool)
        .await?;
        Ok(left.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()))
    }
}
