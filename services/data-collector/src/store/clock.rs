//! Other clocks than ours.

use chrono::{DateTime, TimeDelta, Utc};

use super::Store;

impl Store {
    /// The database's clock, and when the newest reading with a value was observed, of those that are not from
    /// later than a day after `now`.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn clock_witnesses(&self, now: DateTime<Utc>) -> sqlx::Result<(DateTime<Utc>, Option<DateTime<Utc>>)> {
        let row = sqlx::query!(
            r#"SELECT now() AS "database!", (
                   SELECT observed_at FROM readings WHERE value IS NOT NULL AND observed_at <= $1
                   ORDER BY observed_at DESC LIMIT 1
               ) AS newest_value"#,
            now + TimeDelta::days(1),
        )
        .fetch_one(self.pool())
        .await?;
        Ok((row.database, row.newest_value))
    }
}
