//! The ledger: every alert once, and every attempt to send it before it is made.
//!
//! All times are the database's, so that replicas whose clocks differ agree on what is due.
//!
//! Every decision about what is sent is fenced by the term ([`pg::lease::LeaseTerm::fence`]), and a later leader's
//! database refuses it. The outcome of an attempt is no decision but a fact, and is fenced by the attempt itself: it is
//! accepted from the replica that made the attempt, also when that one was deposed meanwhile, for as long as the
//! attempt has no outcome. Refusing it would repeat a message that is known to have been delivered.

mod clock;
mod handover;
mod outcome;
mod queue;
mod undelivered;

use std::time::Duration;

use pg::{Pool, clock::SteadyClock};
use runtime::trace::RequestContext;
use sqlx::types::Json;
use uuid::Uuid;

use crate::core::{ending::History, message::Alert, reach::Refusal};

pub use outcome::CutOff;
pub use queue::{Postponed, Queue, Round};
pub use undelivered::{UNDELIVERED_REPORT, Undelivered, UndeliveredReport};

/// The channel on which the database tells every replica that the ledger has something new.
pub const NEWS: &str = "notifier_alerts";

/// An alert as it was read from Kafka.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewAlert {
    /// Its identity: the same alert is kept once.
    pub event_id: Uuid,
    /// The person's address, which names the queue.
    pub email: String,
    /// The registration that is meant, where the message says so.
    pub user_id: Option<Uuid>,
    /// What is told.
    pub alert: Alert,
    /// What caused it.
    pub context: RequestContext,
}

/// An alert that may be sent now: the oldest of its person, due, and not under way.
#[derive(Clone, Debug)]
pub struct DueAlert {
    /// Its identity.
    pub event_id: Uuid,
    /// The person's address.
    pub email: String,
    /// The registration that is meant.
    pub user_id: Option<Uuid>,
    /// What is told.
    pub alert: Alert,
    /// What caused it.
    pub context: RequestContext,
    /// What was tried before.
    pub history: History,
    /// How long it has been in the ledger.
    pub age: Duration,
    /// Whether a chat has been waited for already.
    pub was_awaited: bool,
    /// The chat that could not be reached the last time.
    pub refusal: Option<Refusal>,
    /// How long user-manager has been saying that there is no such registration.
    pub gone_for: Option<Duration>,
    /// The earlier alert about the same, if that one ended unsent.
    pub missed: Option<Alert>,
}

/// An attempt that is written and about to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptId(pub i64);

/// The ledger in PostgreSQL.
#[derive(Clone)]
pub struct Store {
    pool: Pool,
}

impl Store {
    /// The ledger behind `pool`.
    #[must_use]
    pub fn new(pool: impl Into<Pool>) -> Self {
        Self { pool: pool.into() }
    }

    /// The connections.
    #[must_use]
    pub const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Writes alerts in their order and tells every replica; what is known already is left as it is.
    /// Answers how many were new.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn keep(&self, alerts: &[NewAlert]) -> sqlx::Result<u64> {
        let ids: Vec<Uuid> = alerts.iter().map(|alert| alert.event_id).collect();
        let emails: Vec<String> = alerts.iter().map(|alert| alert.email.clone()).collect();
        let users: Vec<Option<Uuid>> = alerts.iter().map(|alert| alert.user_id).collect();
        let contents: Vec<Json<&Alert>> = alerts.iter().map(|alert| Json(&alert.alert)).collect();
        let observed: Vec<_> =
            alerts.iter().map(|alert| alert.alert.reading.as_ref().map(|reading| reading.observed_at)).collect();
        let requests: Vec<_> = alerts.iter().map(|alert| alert.context.request_id.clone()).collect();
        let traces: Vec<_> = alerts.iter().map(|alert| alert.context.traceparent.clone()).collect();
        let row = sqlx::query!(
            r#"WITH fresh AS (
                 INSERT INTO alerts (event_id, email, user_id, content, observed_at, request_id, traceparent)
                 SELECT event_id, email, user_id, content, observed_at, request_id, traceparent
                 FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::jsonb[], $5::timestamptz[], $6::text[], $7::text[])
                   WITH ORDINALITY
                   AS given(event_id, email, user_id, content, observed_at, request_id, traceparent, place)
                 ORDER BY place
                 ON CONFLICT (event_id) DO NOTHING
                 RETURNING event_id)
               SELECT count(*) AS "fresh!", CASE WHEN count(*) > 0 THEN pg_notify($8, '')::text END AS told
               FROM fresh"#,
            &ids,
            &emails,
            &users as &[Option<Uuid>],
            &contents as &[Json<&Alert>],
            &observed as &[Option<chrono::DateTime<chrono::Utc>>],
            &requests as &[Option<String>],
            &traces as &[Option<String>],
            NEWS,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(row.fresh.unsigned_abs())
    }

    /// How many alerts are not settled.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn pending(&self) -> sqlx::Result<i64> {
        sqlx::query_scalar!(r#"SELECT count(*) AS "count!" FROM alerts WHERE status = 'pending'"#)
            .fetch_one(&self.pool)
            .await
    }

    /// Removes at most `limit` alerts that were settled longer ago than `retention` by a `clock` that may be trusted,
    /// and their attempts. Answers how many.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn clean(&self, clock: &SteadyClock, retention: Duration, limit: i64) -> sqlx::Result<u64> {
        let Some(mut transaction) = clock.begin(&self.pool).await? else { return Ok(0) };
        let removed = sqlx::query!(
            "DELETE FROM alerts WHERE event_id IN (
               SELECT event_id FROM alerts
               WHERE status <> 'pending' AND settled_at < now() - make_interval(secs => $1) LIMIT $2)",
            retention.as_secs_f64(),
            limit,
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(removed.rows_affected())
    }
}
