//! The fan-out's progress: one page after the other, in a transaction that is open while the page is
//! on its way.
//!
//! The lock on the row is the claim: it ends with the transaction, however that ends, and the server
//! ends a transaction whose owner is silent for 30 s. Beside it, a shared lock on the series keeps the
//! removal of an interest from being told before a page that still holds it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use events::Metric;
use runtime::trace::RequestContext;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::{
    Reading, Store,
    interests::{forget_contexts, thresholds},
    metric, optional_flight_count,
};
use crate::core::interest::Thresholds;

/// A page's worth of one reading's interests.
pub struct Page {
    /// The reading.
    pub reading: Reading,
    /// The interests, in the order of their ids.
    pub recipients: Vec<Recipient>,
}

/// What a message needs to know of an interest.
pub struct Recipient {
    /// The interest.
    pub interest_id: Uuid,
    /// Its version.
    pub version: i64,
    /// Whose it is.
    pub user_id: Uuid,
    /// Where that person is told.
    pub user_email: String,
    /// When to tell.
    pub thresholds: Thresholds,
    /// What made or changed the interest, as long as no number has been sent since.
    pub context: RequestContext,
}

/// What waits to be fanned out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// How many readings have not reached all their interests, a hundred thousand at most.
    pub count: i64,
    /// How long ago the oldest of them was stored; zero without one.
    pub oldest_age: Duration,
}

/// How many readings are counted, so that a count stays cheap after days without Kafka.
const COUNTED: i64 = 100_000;

/// Claims a reading that is to go out and reads its next page; none when nothing is to be done, or
/// others are at it. Of one series only the oldest reading is taken.
///
/// # Errors
/// When the database is away.
pub async fn claim_page(connection: &mut PgConnection, size: i64) -> sqlx::Result<Option<Page>> {
    let claimed = sqlx::query!(
        "SELECT f.after_interest, r.id, r.airport_code, r.metric, r.seq, r.value, r.window_begin, r.window_end,
                r.observed_at, r.source
         FROM fan_outs f JOIN readings r ON r.id = f.reading_id
         WHERE f.metric = ANY ($1) AND NOT EXISTS (
             SELECT 1 FROM fan_outs e
             WHERE e.airport_code = f.airport_code AND e.metric = f.metric AND e.seq < f.seq
         )
         ORDER BY f.pages, r.observed_at LIMIT 1 FOR UPDATE OF f SKIP LOCKED",
        // A metric of a newer version is for the replicas that know it.
        &Metric::ALL.map(Metric::as_str) as &[&str],
    )
    .fetch_optional(&mut *connection)
    .await?;
    let Some(claimed) = claimed else { return Ok(None) };
    sqlx::query!(
        "SELECT pg_advisory_xact_lock_shared(hashtextextended('series ' || $1::text || ' ' || $2::text, 2))",
        claimed.airport_code,
        claimed.metric,
    )
    .execute(&mut *connection)
    .await?;
    let rows = sqlx::query!(
        "SELECT id, version, user_id, user_email, high_value, low_value, request_id, traceparent FROM interests
         WHERE airport_code = $1 AND metric = $2 AND id > $3 AND (high_value IS NOT NULL OR low_value IS NOT NULL)
         ORDER BY id LIMIT $4",
        claimed.airport_code,
        claimed.metric,
        claimed.after_interest.unwrap_or(Uuid::nil()),
        size,
    )
    .fetch_all(connection)
    .await?;
    let recipients = rows.into_iter().map(|row| {
        Ok(Recipient {
            interest_id: row.id,
            version: row.version,
            user_id: row.user_id,
            user_email: row.user_email,
            thresholds: thresholds(row.high_value, row.low_value)?,
            context: RequestContext { request_id: row.request_id, traceparent: row.traceparent },
        })
    });
    let recipients = recipients.collect::<sqlx::Result<_>>()?;
    let reading = Reading {
        id: claimed.id,
        metric: metric(&claimed.metric)?,
        airport: claimed.airport_code,
        seq: claimed.seq,
        flight_count: optional_flight_count(claimed.value)?,
        window_begin: claimed.window_begin,
        window_end: claimed.window_end,
        observed_at: claimed.observed_at,
        source: claimed.source,
    };
    Ok(Some(Page { reading, recipients }))
}

/// Records that the page is out: `size` is what was asked for, so a shorter page was the last. Where it
/// told a number, the causes that it carried are told.
///
/// # Errors
/// When the database is away.
pub async fn record_page(connection: &mut PgConnection, page: &Page, size: i64) -> sqlx::Result<()> {
    if page.reading.flight_count.is_some() {
        let caused = page.recipients.iter().filter(|recipient| recipient.context != RequestContext::none());
        let told: Vec<_> = caused.map(|recipient| (recipient.interest_id, recipient.version)).collect();
        forget_contexts(connection, &told).await?;
    }
    let last = page.recipients.last().map(|recipient| recipient.interest_id);
    let full = i64::try_from(page.recipients.len()).is_ok_and(|length| length >= size);
    match last.filter(|_| full) {
        Some(last) => {
            sqlx::query!(
                "UPDATE fan_outs SET after_interest = $2, pages = pages + 1 WHERE reading_id = $1",
                page.reading.id,
                last,
            )
            .execute(connection)
            .await?;
        }
        None => {
            sqlx::query!("DELETE FROM fan_outs WHERE reading_id = $1", page.reading.id).execute(connection).await?;
        }
    }
    Ok(())
}

/// Waits until no page of the series is on its way that began before this, in the transaction of `connection`. Pages
/// that begin later read what was committed before, so they are not kept back.
///
/// # Errors
/// When the database is away.
pub async fn wait_for_pages(connection: &mut PgConnection, airport: &str, metric: &str) -> sqlx::Result<()> {
    // Going back to a savepoint gives the lock back.
    let mut savepoint = connection.begin().await?;
    sqlx::query!(
        "SELECT pg_advisory_xact_lock(hashtextextended('series ' || $1::text || ' ' || $2::text, 2))",
        airport,
        metric,
    )
    .execute(&mut *savepoint)
    .await?;
    savepoint.rollback().await
}

impl Store {
    /// What waits to be fanned out, by the database's clock.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn waiting_fan_outs(&self) -> sqlx::Result<Waiting> {
        let row = sqlx::query!(
            r#"SELECT now() AS "now!",
                      (SELECT count(*) FROM (SELECT 1 FROM fan_outs LIMIT (SELECT $1::bigint)) counted) AS "count!",
                      (SELECT reading_id FROM fan_outs ORDER BY reading_id LIMIT 1) AS oldest"#,
            COUNTED,
        )
        .fetch_one(self.pool())
        .await?;
        Ok(Waiting { count: row.count, oldest_age: row.oldest.map(|oldest| age(oldest, row.now)).unwrap_or_default() })
    }
}

/// How long ago this id of a reading was made. The id tells real time, which `observed_at` does not in a replay. Zero
/// where that is ahead of `now`, and for an id that tells no time.
fn age(reading_id: Uuid, now: DateTime<Utc>) -> Duration {
    let made_at = reading_id.get_timestamp().and_then(|made_at| {
        let (seconds, nanoseconds) = made_at.to_unix();
        DateTime::from_timestamp(i64::try_from(seconds).ok()?, nanoseconds)
    });
    made_at.and_then(|made_at| (now - made_at).to_std().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use uuid::{NoContext, Timestamp};

    use super::*;

    #[test]
    fn an_id_tells_how_old_a_reading_is_and_no_age_is_negative() {
        let made_at = 1_795_000_000;
        let id = Uuid::new_v7(Timestamp::from_unix(NoContext, made_at, 250_000_000));
        let at = |milliseconds| DateTime::from_timestamp_millis(milliseconds).expect("a time");
        assert_eq!(age(id, at(1_795_000_090_750)), Duration::from_millis(90_500));
        assert_eq!(age(id, at(1_795_000_000_250)), Duration::ZERO);
        assert_eq!(age(id, at(1_794_999_999_000)), Duration::ZERO, "a clock that was ahead");
        assert_eq!(age(Uuid::from_u128(u128::MAX), at(0)), Duration::ZERO);
        assert_eq!(age(Uuid::nil(), at(1_795_000_000_000)), Duration::ZERO);
    }
}
