//! Removing what is older than the retention time.

use chrono::{DateTime, NaiveDate, Utc};
use runtime::periodic::remove_all;

use super::{Store, flights::lock_lists};

/// Rows that one statement removes at most, so that each ends well before the server's statement time-out and
/// holds its locks briefly.
const BATCH: i64 = 2_000;

/// How much was removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Readings.
    pub readings: u64,
    /// Flights.
    pub flights: u64,
}

impl Store {
    /// Removes readings and flights from before `cutoff`: of watched airports too, and a flight only when no airport's
    /// day lists it any more. Of airports that no interest names it also removes when they were last tried, where that
    /// was before `tried_before`.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn remove_before(&self, cutoff: DateTime<Utc>, tried_before: DateTime<Utc>) -> sqlx::Result<Removed> {
        let day = cutoff.date_naive();
        // Days go first and whole, so that averages are right at every moment in between.
        self.remove_days(day).await?;
        self.remove_listed(day).await?;
        let readings = self.remove_readings(cutoff).await?;
        let flights = self.remove_flights(cutoff).await?;
        self.forget_unwatched(tried_before).await?;
        Ok(Removed { readings, flights })
    }

    async fn remove_days(&self, day: NaiveDate) -> sqlx::Result<()> {
        sqlx::query!("DELETE FROM published_days WHERE day < $1", day).execute(self.pool()).await?;
        sqlx::query!("DELETE FROM probes WHERE day < $1", day).execute(self.pool()).await?;
        let removing = || async {
            let removing = sqlx::query!(
                "DELETE FROM collected_days WHERE ctid = ANY (ARRAY(
                     SELECT ctid FROM collected_days WHERE day < $1 LIMIT $2
                 ))",
                day,
                BATCH,
            );
            removing.execute(self.pool()).await.map(|done| done.rows_affected())
        };
        remove_all(removing).await.map(drop)
    }

    async fn remove_listed(&self, day: NaiveDate) -> sqlx::Result<()> {
        let removing = || async {
            let mut transaction = self.begin().await?;
            lock_lists(&mut transaction).await?;
            let removing = sqlx::query!(
                "DELETE FROM airport_flights WHERE ctid = ANY (ARRAY(
                     SELECT ctid FROM airport_flights WHERE day < $1 LIMIT $2 FOR UPDATE SKIP LOCKED
                 ))",
                day,
                BATCH,
            );
            let removed = removing.execute(&mut *transaction).await?.rows_affected();
            transaction.commit().await?;
            Ok(removed)
        };
        remove_all(removing).await.map(drop)
    }

    async fn remove_readings(&self, cutoff: DateTime<Utc>) -> sqlx::Result<u64> {
        let removing = || async {
            let removing = sqlx::query!(
                "DELETE FROM readings WHERE id = ANY (ARRAY(
                     SELECT id FROM readings r WHERE observed_at < $1
                         AND NOT EXISTS (SELECT 1 FROM fan_outs WHERE reading_id = r.id)
                     LIMIT $2
                 ))",
                cutoff,
                BATCH,
            );
            removing.execute(self.pool()).await.map(|done| done.rows_affected())
        };
        remove_all(removing).await
    }

    async fn remove_flights(&self, cutoff: DateTime<Utc>) -> sqlx::Result<u64> {
        let removing = || async {
            // One that a collection lists at this very moment is kept by the foreign key's lock.
            let removing = sqlx::query!(
                "DELETE FROM flights WHERE ctid = ANY (ARRAY(
                     SELECT ctid FROM flights f WHERE first_seen < $1 AND NOT EXISTS (
                         SELECT 1 FROM airport_flights a WHERE a.icao24 = f.icao24 AND a.first_seen = f.first_seen
                     ) LIMIT $2 FOR UPDATE SKIP LOCKED
                 ))",
                cutoff,
                BATCH,
            );
            removing.execute(self.pool()).await.map(|done| done.rows_affected())
        };
        remove_all(removing).await
    }

    /// Forgets who waited, and when airports were tried, where no interest is left.
    async fn forget_unwatched(&self, tried_before: DateTime<Utc>) -> sqlx::Result<()> {
        sqlx::query!(
            "DELETE FROM collection_requests c WHERE NOT EXISTS (
                 SELECT 1 FROM watched_series w WHERE w.airport_code = c.airport_code AND w.metric = c.metric
             )"
        )
        .execute(self.pool())
        .await?;
        // When they were tried last is kept for a while, so that a user who stops watching and begins again has nothing
        // asked twice.
        sqlx::query!(
            "DELETE FROM schedule s WHERE next_at IS NULL AND coalesce(attempted_at, '-infinity') < $1
                 AND NOT EXISTS (SELECT 1 FROM watched_series w WHERE w.airport_code = s.airport_code)",
            tried_before,
        )
        .execute(self.pool())
        .await?;
        Ok(())
    }
}
