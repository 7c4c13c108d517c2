//! The ledger: every alert once, and every attempt to send it before it is made.
//!
//! All times are the database's, so that replicas whose clocks differ agree on what is due.
//!
//! Whoever decides what is sent holds the term ([`Term::hold`]), and a later leader's database
//! refuses it. The outcome of an attempt is no decision but a fact, and is fenced by the attempt
//! itself: it is accepted from whoever made the attempt, a leader that was deposed meanwhile too,
//! for as long as the attempt has no outcome. Refusing it would repeat a message that is known to
//! have been delivered.

mod handover;

use std::time::Duration;

use shell::{
    lease::{HoldError, Term},
    trace::Cause,
};
use sqlx::{PgPool, types::Json};
use uuid::Uuid;

use crate::core::{
    ending::{Ending, History, Next, Unsent},
    message::Alert,
    pacing::ChatId,
};

/// The channel on which the database tells every replica that the ledger has something new.
pub const NEWS: &str = "notifier_alerts";

/// Only the oldest alert of a person can be due. While that one has to wait, those behind it are
/// parked for this long, so that the search for what is due need not pass them again and again; they
/// are released when it is settled. The length matters only to what comes between: it is looked at
/// once an hour and parked again.
const PARKED: Duration = Duration::from_secs(3600);

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
    pub cause: Cause,
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
    pub cause: Cause,
    /// What was tried before.
    pub history: History,
    /// How long it has been in the ledger.
    pub age: Duration,
}

/// An attempt that is written and about to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AttemptId(pub i64);

/// Attempts that were cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutOff {
    /// So many are unclear now.
    pub unclear: u64,
    /// Others may still get their outcome until then.
    pub next_in: Option<Duration>,
}

/// The ledger in PostgreSQL.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
}

impl Store {
    /// The ledger behind `pool`.
    #[must_use]
    pub const fn new(pool: PgPool) -> Self {
        Self { pool }
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
        let requests: Vec<_> = alerts.iter().map(|alert| alert.cause.request_id.clone()).collect();
        let traces: Vec<_> = alerts.iter().map(|alert| alert.cause.traceparent.clone()).collect();
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

    /// The alerts that may be sent now, longest due first, at most `limit`, none of the people in
    /// `except`.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn due(&self, except: &[String], limit: usize) -> sqlx::Result<Vec<DueAlert>> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = sqlx::query!(
            r#"SELECT a.event_id, a.email, a.user_id, a.content AS "content: Json<Alert>", a.request_id, a.traceparent,
                      a.failures, a.detours, a.plain_text,
                      extract(epoch FROM now() - a.created_at)::float8 AS "age!"
               FROM alerts a
               WHERE a.status = 'pending' AND a.next_attempt_at <= now() AND a.email <> ALL($1)
                 AND NOT EXISTS (SELECT FROM alerts older
                                 WHERE older.status = 'pending' AND older.email = a.email
                                   AND older.position < a.position)
                 AND NOT EXISTS (SELECT FROM attempts WHERE attempts.event_id = a.event_id AND outcome IS NULL)
               ORDER BY a.next_attempt_at, a.position
               LIMIT $2"#,
            except,
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        let due = rows.into_iter().map(|row| DueAlert {
            event_id: row.event_id,
            email: row.email,
            user_id: row.user_id,
            alert: row.content.0,
            cause: Cause { request_id: row.request_id, traceparent: row.traceparent },
            history: History {
                failures: row.failures.unsigned_abs(),
                detours: row.detours.unsigned_abs(),
                plain_text: row.plain_text,
            },
            age: Duration::try_from_secs_f64(row.age).unwrap_or_default(),
        });
        Ok(due.collect())
    }

    /// How long until something that is not due yet becomes due.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn next_due(&self) -> sqlx::Result<Option<Duration>> {
        let seconds = sqlx::query_scalar!(
            r#"SELECT extract(epoch FROM min(next_attempt_at) - now())::float8
               FROM alerts WHERE status = 'pending' AND next_attempt_at > now()"#
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()))
    }

    /// Writes down that an attempt at each of these alerts begins. One that is settled or under way
    /// already is left out of the answer.
    ///
    /// # Errors
    /// When a later leader has begun, or the database cannot answer; then nothing was written.
    pub async fn begin(&self, term: &Term, alerts: &[(Uuid, ChatId)]) -> Result<Vec<(Uuid, AttemptId)>, HoldError> {
        let (ids, chats): (Vec<_>, Vec<_>) = alerts.iter().map(|(id, chat)| (*id, chat.0)).unzip();
        let mut transaction = self.pool.begin().await?;
        term.hold(&mut transaction).await?;
        let begun = sqlx::query!(
            "INSERT INTO attempts (event_id, chat_id, epoch)
             SELECT a.event_id, given.chat_id, $3
             FROM unnest($1::uuid[], $2::bigint[]) AS given(event_id, chat_id)
             JOIN alerts a ON a.event_id = given.event_id AND a.status = 'pending'
             ON CONFLICT (event_id) WHERE outcome IS NULL DO NOTHING
             RETURNING event_id, id",
            &ids,
            &chats,
            term.epoch,
        )
        .fetch_all(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(begun.into_iter().map(|row| (row.event_id, AttemptId(row.id))).collect())
    }

    /// Writes down how an attempt ended and what becomes of its alert. `false` when it was declared
    /// unclear before, and nothing was written.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn end(&self, attempt: AttemptId, ending: &Ending) -> sqlx::Result<bool> {
        if let Next::Moved { from, to } = ending.next {
            self.remember_migration(from, to).await?;
        }
        let change = Change::of(&ending.next);
        let ended = sqlx::query_scalar!(
            r#"WITH attempt AS (
                 UPDATE attempts SET outcome = $2, ended_at = now()
                 WHERE id = $1 AND outcome IS NULL
                 RETURNING event_id),
               mine AS (
                 UPDATE alerts a SET
                   status = $3,
                   settled_at = CASE WHEN $3 <> 'pending' THEN now() END,
                   message_id = $4,
                   failures = a.failures + $5,
                   detours = a.detours + $6,
                   plain_text = a.plain_text OR $7,
                   next_attempt_at = CASE WHEN $8::float8 IS NULL THEN a.next_attempt_at
                                          ELSE now() + make_interval(secs => $8) END
                 FROM attempt WHERE a.event_id = attempt.event_id AND a.status = 'pending'
                 RETURNING a.event_id, a.email),
               followers AS (
                 UPDATE alerts f SET
                   next_attempt_at = CASE WHEN $3 = 'pending' THEN now() + make_interval(secs => $9) ELSE now() END
                 FROM mine
                 WHERE f.email = mine.email AND f.event_id <> mine.event_id AND f.status = 'pending'
                   AND CASE WHEN $3 = 'pending' THEN $8::float8 IS NOT NULL AND f.next_attempt_at <= now()
                            ELSE f.next_attempt_at > now() END)
               SELECT count(*) AS "ended!" FROM attempt"#,
            attempt.0,
            ending.outcome.as_str(),
            change.status,
            change.message_id,
            change.failures,
            change.detours,
            ending.next == Next::AsPlainText,
            change.wait.map(|wait| wait.as_secs_f64()),
            PARKED.as_secs_f64(),
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(ended > 0)
    }

    /// Postpones alerts whose people have no chat yet, each by its own wait.
    ///
    /// # Errors
    /// When a later leader has begun, or the database cannot answer.
    pub async fn postpone(&self, term: &Term, alerts: &[(Uuid, Duration)]) -> Result<(), HoldError> {
        let (ids, waits): (Vec<_>, Vec<_>) = alerts.iter().map(|(id, wait)| (*id, wait.as_secs_f64())).unzip();
        let mut transaction = self.pool.begin().await?;
        term.hold(&mut transaction).await?;
        sqlx::query!(
            "WITH heads AS (
               UPDATE alerts a SET next_attempt_at = now() + make_interval(secs => given.wait)
               FROM unnest($1::uuid[], $2::float8[]) AS given(event_id, wait)
               WHERE a.event_id = given.event_id AND a.status = 'pending'
               RETURNING a.email)
             UPDATE alerts f SET next_attempt_at = now() + make_interval(secs => $3)
             FROM heads
             WHERE f.email = heads.email AND f.event_id <> ALL($1) AND f.status = 'pending'
               AND f.next_attempt_at <= now()",
            &ids,
            &waits,
            PARKED.as_secs_f64(),
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Settles, without sending, whatever waits for this registration and is at least `older_than`
    /// old. Answers how many.
    ///
    /// # Errors
    /// When a later leader has begun, or the database cannot answer.
    pub async fn settle_unsent(
        &self,
        term: &Term,
        whose: (&str, Option<Uuid>),
        older_than: Duration,
        end: Unsent,
    ) -> Result<u64, HoldError> {
        let mut transaction = self.pool.begin().await?;
        term.hold(&mut transaction).await?;
        let settled = sqlx::query!(
            "UPDATE alerts SET status = $4, settled_at = now()
             WHERE email = $1 AND user_id IS NOT DISTINCT FROM $2 AND status = 'pending'
               AND created_at <= now() - make_interval(secs => $3)
               AND NOT EXISTS (SELECT FROM attempts WHERE attempts.event_id = alerts.event_id AND outcome IS NULL)",
            whose.0,
            whose.1,
            older_than.as_secs_f64(),
            end.as_str(),
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "UPDATE alerts SET next_attempt_at = now()
             WHERE email = $1 AND status = 'pending' AND next_attempt_at > now()",
            whose.0,
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(settled.rows_affected())
    }

    /// Declares attempts unclear that began more than `grace` ago and have no outcome, except those
    /// in `alive`, whose outcome this process still holds. Their alerts may be tried again.
    ///
    /// # Errors
    /// When a later leader has begun, or the database cannot answer.
    pub async fn declare_unclear(&self, term: &Term, alive: &[i64], grace: Duration) -> Result<CutOff, HoldError> {
        let mut transaction = self.pool.begin().await?;
        term.hold(&mut transaction).await?;
        let declared = sqlx::query!(
            "UPDATE attempts SET outcome = 'unclear', ended_at = now()
             WHERE outcome IS NULL AND id <> ALL($1) AND started_at <= now() - make_interval(secs => $2)",
            alive,
            grace.as_secs_f64(),
        )
        .execute(&mut *transaction)
        .await?;
        let next_in = sqlx::query_scalar!(
            "SELECT extract(epoch FROM min(started_at) - now())::float8 FROM attempts
             WHERE outcome IS NULL AND id <> ALL($1)",
            alive,
        )
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        let next_in =
            next_in.map(|seconds| Duration::try_from_secs_f64(seconds + grace.as_secs_f64()).unwrap_or_default());
        Ok(CutOff { unclear: declared.rows_affected(), next_in })
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

    /// Removes at most `limit` alerts that were settled longer ago than `retention`, and their
    /// attempts. Answers how many.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn clean(&self, retention: Duration, limit: i64) -> sqlx::Result<u64> {
        let removed = sqlx::query!(
            "DELETE FROM alerts WHERE event_id IN (
               SELECT event_id FROM alerts
               WHERE status <> 'pending' AND settled_at < now() - make_interval(secs => $1) LIMIT $2)",
            retention.as_secs_f64(),
            limit,
        )
        .execute(&self.pool)
        .await?;
        Ok(removed.rows_affected())
    }
}

/// An alert's columns after an attempt.
struct Change {
    status: &'static str,
    message_id: Option<i64>,
    failures: i32,
    detours: i32,
    wait: Option<Duration>,
}

impl Change {
    fn of(next: &Next) -> Self {
        let same = Self { status: "pending", message_id: None, failures: 0, detours: 0, wait: None };
        match next {
            Next::Delivered { message_id } => Self { status: "sent", message_id: *message_id, ..same },
            Next::Unchanged => same,
            Next::After(wait) => Self { wait: Some(*wait), ..same },
            Next::Failed(wait) => Self { failures: 1, wait: Some(*wait), ..same },
            Next::GivenUp => Self { status: Unsent::GivenUp.as_str(), failures: 1, ..same },
            Next::Undeliverable => Self { status: Unsent::Undeliverable.as_str(), ..same },
            Next::AsPlainText | Next::Moved { .. } => Self { detours: 1, ..same },
        }
    }
}
