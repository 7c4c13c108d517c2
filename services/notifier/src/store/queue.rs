//! Queues: of each address the oldest pending alert, and when it may be tried.

use std::time::{Duration, Instant};

use pg::lease::{FenceError, LeaseTerm};
use runtime::{clock_watch::Sample, trace::RequestContext};
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::{AttemptId, DueAlert, Store};
use crate::core::{
    ending::History,
    message::Alert,
    rate_limiter::ChatId,
    reach::{ChatLink, Reason, Refusal},
};

/// A queue that is due.
#[derive(Clone, Debug)]
pub struct Queue {
    /// The person's address.
    pub email: String,
    /// Its oldest pending alert; `None` when nothing is pending any more.
    pub head: Option<DueAlert>,
}

/// What is due, and what the database's clock showed.
#[derive(Clone, Debug)]
pub struct Round {
    /// The queues, longest due first.
    pub queues: Vec<Queue>,
    /// The clock; `None` when nothing is due.
    pub clock: Option<Sample>,
}

/// A queue that waits for a chat or for certainty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postponed {
    /// The person's address.
    pub email: String,
    /// How long until the next look.
    pub wait: Duration,
    /// Whether user-manager says that there is no such registration.
    pub is_gone: bool,
}

/// A due queue and its head as the columns have them.
struct DueRow {
    email: String,
    awaits_chat: bool,
    refused_chat: Option<i64>,
    refused_link: Option<i64>,
    refusals: i32,
    is_resting: bool,
    gone_for: Option<f64>,
    shown: f64,
    event_id: Option<Uuid>,
    user_id: Option<Uuid>,
    content: Option<Json<Alert>>,
    request_id: Option<String>,
    traceparent: Option<String>,
    failures: Option<i32>,
    detours: Option<i32>,
    plain_text: Option<bool>,
    unclear: Option<i32>,
    age: Option<f64>,
    missed: Option<Json<Alert>>,
}

impl From<DueRow> for Queue {
    fn from(row: DueRow) -> Self {
        let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or_default();
        let count = |count: Option<i32>| count.unwrap_or_default().unsigned_abs();
        let refusal = row.refused_chat.zip(row.refused_link).map(|(chat, version)| Refusal {
            link: ChatLink { chat: ChatId(chat), version },
            times: row.refusals.unsigned_abs(),
            is_resting: row.is_resting,
        });
        let email = row.email.clone();
        let head = row.event_id.zip(row.content).map(|(event_id, content)| DueAlert {
            event_id,
            email: row.email,
            user_id: row.user_id,
            alert: content.0,
            context: RequestContext { request_id: row.request_id, traceparent: row.traceparent },
            history: History {
                failures: count(row.failures),
                detours: count(row.detours),
                plain_text: row.plain_text.unwrap_or_default(),
                unclear: count(row.unclear),
                refusals: 0,
            },
            age: seconds(row.age.unwrap_or_default()),
            was_awaited: row.awaits_chat,
            refusal,
            gone_for: row.gone_for.map(seconds),
            missed: row.missed.map(|missed| missed.0),
        });
        Self { email, head }
    }
}

impl Store {
    /// Queues that are due, at most `limit` of them, but none of those in `except`.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn due(&self, except: &[String], limit: usize) -> sqlx::Result<Round> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let asked = Instant::now();
        let rows = sqlx::query_as!(
            DueRow,
            r#"SELECT q.email, q.awaits_chat, q.refused_chat, q.refused_link, q.refusals,
                      coalesce(q.chat_retry_at > now(), false) AS "is_resting!",
                      extract(epoch FROM now() - q.gone_since)::float8 AS gone_for,
                      extract(epoch FROM now())::float8 AS "shown!",
                      a.event_id AS "event_id?", a.user_id, a.content AS "content?: Json<Alert>",
                      a.request_id, a.traceparent, a.failures AS "failures?", a.detours AS "detours?",
                      a.plain_text AS "plain_text?", a.unclear AS "unclear?",
                      extract(epoch FROM now() - a.created_at)::float8 AS age, missed.content AS "missed?: Json<Alert>"
               FROM (SELECT * FROM queues WHERE next_at <= now() AND email <> ALL($1)
                     ORDER BY next_at, email LIMIT $2) AS q
               LEFT JOIN LATERAL (
                 SELECT * FROM alerts WHERE alerts.email = q.email AND alerts.status = 'pending'
                 ORDER BY position LIMIT 1) AS a ON true
               LEFT JOIN LATERAL (
                 SELECT CASE WHEN s.status IN ('given_up', 'undeliverable') THEN s.content END AS content
                 FROM alerts s
                 WHERE a.content->>'kind' = 'recovered' AND s.email = a.email AND s.status <> 'pending'
                   AND s.position < a.position AND s.user_id IS NOT DISTINCT FROM a.user_id
                   AND s.content->>'airport_code' = a.content->>'airport_code'
                   AND s.content->>'metric' IS NOT DISTINCT FROM a.content->>'metric'
                 ORDER BY s.position DESC LIMIT 1) AS missed ON true
               ORDER BY q.next_at, q.email"#,
            except,
            limit,
        )
        .fetch_all(&self.pool)
        .await?;
        let answered = Instant::now();
        let clock = rows.first().map(|row| Sample { shown: row.shown, asked, answered });
        Ok(Round { queues: rows.into_iter().map(Queue::from).collect(), clock })
    }

    /// What the clock shows, how long until something that is not due yet becomes due, and the position of
    /// the newest alert.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn next_due(&self) -> sqlx::Result<(Sample, Option<Duration>, i64)> {
        let asked = Instant::now();
        let row = sqlx::query!(
            r#"SELECT extract(epoch FROM now())::float8 AS "shown!",
                      extract(epoch FROM (SELECT min(next_at) FROM queues
                                          WHERE next_at > now() AND next_at < 'infinity') - now())::float8 AS wait,
                      (SELECT last_value FROM alerts_position_seq) AS "newest!""#
        )
        .fetch_one(&self.pool)
        .await?;
        let sample = Sample { shown: row.shown, asked, answered: Instant::now() };
        Ok((sample, row.wait.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok()), row.newest))
    }

    /// Writes down that an attempt at each of these alerts begins. One that is settled or under way
    /// already is left out of the answer.
    ///
    /// # Errors
    /// When a later leader has begun, or the database cannot answer; then nothing was written.
    pub async fn begin(
        &self,
        term: &LeaseTerm,
        alerts: &[(Uuid, ChatId)],
    ) -> Result<Vec<(Uuid, AttemptId)>, FenceError> {
        let (ids, chats): (Vec<_>, Vec<_>) = alerts.iter().map(|(id, chat)| (*id, chat.0)).unzip();
        let mut transaction = pg::begin(&self.pool).await?;
        term.fence(&mut transaction).await?;
        let emails = sqlx::query_scalar!("SELECT email FROM alerts WHERE event_id = ANY($1)", &ids)
            .fetch_all(&mut *transaction)
            .await?;
        lock(&mut transaction, &emails).await?;
        let begun = sqlx::query!(
            "INSERT INTO attempts (event_id, chat_id, epoch, started_at)
             SELECT a.event_id, given.chat_id, $3, now()
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
        // Also of an attempt that was under way already: its end makes the queue due again.
        sqlx::query!(
            "UPDATE queues q SET next_at = 'infinity', decided_at = now()
             FROM alerts a JOIN attempts t ON t.event_id = a.event_id AND t.outcome IS NULL
             WHERE a.event_id = ANY($1) AND q.email = a.email",
            &ids,
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(begun.into_iter().map(|row| (row.event_id, AttemptId(row.id))).collect())
    }

    /// Postpones queues whose people have no chat that can be reached, each by its own wait.
    ///
    /// # Errors
    /// When a later leader has begun, or the database cannot answer.
    pub async fn postpone(&self, term: &LeaseTerm, queues: &[Postponed]) -> Result<(), FenceError> {
        let emails: Vec<_> = queues.iter().map(|queue| queue.email.clone()).collect();
        let waits: Vec<_> = queues.iter().map(|queue| queue.wait.as_secs_f64()).collect();
        let gone: Vec<_> = queues.iter().map(|queue| queue.is_gone).collect();
        let mut transaction = pg::begin(&self.pool).await?;
        term.fence(&mut transaction).await?;
        lock(&mut transaction, &emails).await?;
        sqlx::query!(
            "UPDATE queues q SET next_at = now() + make_interval(secs => given.wait), decided_at = now(),
               awaits_chat = true,
               gone_since = CASE WHEN given.gone THEN coalesce(q.gone_since, now()) END
             FROM unnest($1::text[], $2::float8[], $3::bool[]) AS given(email, wait, gone)
             WHERE q.email = given.email AND q.next_at < 'infinity'",
            &emails,
            &waits,
            &gone,
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Removes those of these queues in which nothing is pending.
    ///
    /// # Errors
    /// When a later leader has begun, or the database cannot answer.
    pub async fn retire(&self, term: &LeaseTerm, emails: &[String]) -> Result<(), FenceError> {
        let mut transaction = pg::begin(&self.pool).await?;
        term.fence(&mut transaction).await?;
        // A transaction that adds an alert holds this lock until its commit. So the next statement, whose snapshot is
        // taken after the lock, sees that alert, or the alert's writer makes the row anew.
        lock(&mut transaction, emails).await?;
        sqlx::query!(
            "DELETE FROM queues q WHERE q.email = ANY($1)
               AND NOT EXISTS (SELECT FROM alerts a WHERE a.email = q.email AND a.status = 'pending')",
            emails,
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The person behind this address named a chat: what waits for one is looked at now. Answers whether
    /// anything did.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn chat_was_named(&self, email: &str) -> sqlx::Result<bool> {
        let woken = sqlx::query!(
            "WITH woken AS (
               UPDATE queues SET next_at = now(), decided_at = now()
               WHERE email = $1 AND awaits_chat AND next_at > now() AND next_at < 'infinity' RETURNING email)
             SELECT pg_notify($2, '')::text FROM woken",
            email,
            super::NEWS,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(!woken.is_empty())
    }

    /// Something was written in this chat, so it can be reached again: what waits for it is tried now.
    /// Answers how many queues that woke.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn chat_was_heard(&self, chat: ChatId) -> sqlx::Result<usize> {
        let woken = sqlx::query!(
            "WITH woken AS (
               UPDATE queues SET next_at = now(), decided_at = now(), chat_retry_at = now()
               WHERE refused_chat = $1 AND awaits_chat AND next_at < 'infinity' RETURNING email)
             SELECT pg_notify($2, '')::text FROM woken",
            chat.0,
            super::NEWS,
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(woken.len())
    }

    /// Why this queue's chat could not be reached the last time.
    pub(super) async fn reason(connection: &mut PgConnection, email: &str) -> sqlx::Result<Option<Reason>> {
        let reason =
            sqlx::query_scalar!("SELECT reason FROM queues WHERE email = $1", email).fetch_optional(connection).await?;
        Ok(reason.flatten().as_deref().and_then(Reason::named))
    }
}

/// Locks queues in one order, which is also the order of those who add alerts.
pub(super) async fn lock(connection: &mut PgConnection, emails: &[String]) -> sqlx::Result<()> {
    sqlx::query!("SELECT email FROM queues WHERE email = ANY($1) ORDER BY email FOR UPDATE", emails)
        .fetch_all(connection)
        .await
        .map(drop)
}
