//! How attempts and alerts end.

use std::time::Duration;

use pg::lease::{FenceError, LeaseTerm};
use uuid::Uuid;

use super::{AttemptId, Store, queue::lock};
use crate::core::{
    ending::{Ending, Next, Unsent},
    reach::{ChatLink, Reason},
};

/// Settled in one statement at most, so that none takes long; the rest follows in the next round.
const SETTLED_AT_ONCE: i64 = 5000;

/// Attempts that were cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CutOff {
    /// So many are unclear now.
    pub unclear: u64,
    /// Others may still get their outcome until then.
    pub next_in: Option<Duration>,
}

/// Why an alert is kept although its chat cannot be reached, and in how many seconds the chat is tried again.
fn kept(next: &Next) -> (Option<&'static str>, Option<f64>) {
    match next {
        Next::Kept { reason, wait } => (Some(reason.as_str()), Some(wait.as_secs_f64())),
        _ => (None, None),
    }
}

impl Store {
    /// Writes down how an attempt in the chat of `link` ended, what becomes of its alert, and when its
    /// queue is due again, which is looked at after `look_wait` where a chat could not be reached. `false`
    /// when the attempt was marked unknown before, and nothing was written.
    ///
    /// # Errors
    /// When the database cannot answer.
    pub async fn end(
        &self,
        attempt: AttemptId,
        link: ChatLink,
        ending: &Ending,
        look_wait: Duration,
    ) -> sqlx::Result<bool> {
        if let Next::Moved { from, to } = ending.next {
            self.remember_migration(from, to).await?;
        }
        let change = Change::of(&ending.next, look_wait);
        let (reason, retry) = kept(&ending.next);
        let given_up = (ending.next == Next::GivenUp).then_some(Reason::Refused.as_str());
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
                   unclear = a.unclear + $8,
                   reason = $9
                 FROM attempt WHERE a.event_id = attempt.event_id AND a.status = 'pending'),
               queue AS (
                 UPDATE queues q SET
                   next_at = now() + make_interval(secs => $10), decided_at = now(),
                   awaits_chat = $11::text IS NOT NULL,
                   refused_chat = CASE WHEN $11 IS NOT NULL THEN $12 WHEN $3 <> 'sent' THEN q.refused_chat END,
                   refused_link = CASE WHEN $11 IS NOT NULL THEN $13 WHEN $3 <> 'sent' THEN q.refused_link END,
                   refusals = CASE WHEN $11 IS NOT NULL AND (q.refused_chat, q.refused_link) = ($12, $13)
                                   THEN q.refusals + 1
                                   WHEN $11 IS NOT NULL THEN 1
                                   WHEN $3 <> 'sent' THEN q.refusals ELSE 0 END,
                   chat_retry_at = CASE WHEN $11 IS NOT NULL THEN now() + make_interval(secs => $14)
                                        WHEN $3 <> 'sent' THEN q.chat_retry_at END,
                   reason = CASE WHEN $11 IS NOT NULL THEN $11 WHEN $3 <> 'sent' THEN q.reason END,
                   gone_since = NULL
                 FROM attempt JOIN alerts ON alerts.event_id = attempt.event_id
                 WHERE q.email = alerts.email)
               SELECT count(*) AS "ended!" FROM attempt"#,
            attempt.0,
            ending.outcome.as_str(),
            change.status,
            change.message_id,
            change.failures,
            change.detours,
            ending.next == Next::AsPlainText,
            change.unclear,
            given_up,
            change.wait.as_secs_f64(),
            reason,
            link.chat.0,
            link.version,
            retry,
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(ended > 0)
    }

    /// Settles, without sending, what waits for this registration and is at least `older_than` old, as
    /// far as one statement may. `reason` is used where the queue knows none. Answers how many.
    ///
    /// # Errors
    /// When a later leader has begun, or the database cannot answer.
    pub async fn settle_unsent(
        &self,
        term: &LeaseTerm,
        whose: (&str, Option<Uuid>),
        older_than: Duration,
        (end, reason): (Unsent, Option<Reason>),
    ) -> Result<u64, FenceError> {
        let (email, user_id) = whose;
        let mut transaction = pg::begin(&self.pool).await?;
        term.fence(&mut transaction).await?;
        lock(&mut transaction, &[email.to_owned()]).await?;
        let reason = match end {
            Unsent::Cancelled => None,
            Unsent::GivenUp | Unsent::Undeliverable => reason.or(Self::reason(&mut transaction, email).await?),
        };
        let settled = sqlx::query!(
            "UPDATE alerts SET status = $4, settled_at = now(), reason = $5
             WHERE event_id IN (
               SELECT event_id FROM alerts
               WHERE email = $1 AND user_id IS NOT DISTINCT FROM $2 AND status = 'pending'
                 AND created_at <= now() - make_interval(secs => $3)
                 AND NOT EXISTS (SELECT FROM attempts WHERE attempts.event_id = alerts.event_id AND outcome IS NULL)
               ORDER BY position LIMIT $6)",
            email,
            user_id,
            older_than.as_secs_f64(),
            end.as_str(),
            reason.map(Reason::as_str),
            SETTLED_AT_ONCE,
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "UPDATE queues SET next_at = now(), decided_at = now(),
               gone_since = CASE WHEN $2 THEN gone_since END
             WHERE email = $1 AND next_at < 'infinity'",
            email,
            settled.rows_affected() == SETTLED_AT_ONCE.unsigned_abs(),
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(settled.rows_affected())
    }

    /// Marks attempts unknown that began more than `grace` ago and have no outcome, except those in
    /// `in_flight`, whose outcome this process still holds. Their alerts may be tried again, after the wait
    /// in `repeats` that belongs to how often they may have arrived already.
    ///
    /// # Errors
    /// When a later leader has begun, or the database cannot answer.
    pub async fn mark_unknown(
        &self,
        term: &LeaseTerm,
        in_flight: &[i64],
        grace: Duration,
        repeats: &[Duration],
    ) -> Result<CutOff, FenceError> {
        let repeats: Vec<f64> = repeats.iter().map(Duration::as_secs_f64).collect();
        let mut transaction = pg::begin(&self.pool).await?;
        term.fence(&mut transaction).await?;
        let emails = sqlx::query_scalar!(
            "SELECT a.email FROM attempts t JOIN alerts a ON a.event_id = t.event_id
             WHERE t.outcome IS NULL AND t.id <> ALL($1) AND t.started_at <= now() - make_interval(secs => $2)",
            in_flight,
            grace.as_secs_f64(),
        )
        .fetch_all(&mut *transaction)
        .await?;
        lock(&mut transaction, &emails).await?;
        let unclear = sqlx::query_scalar!(
            r#"WITH cut AS (
                 UPDATE attempts SET outcome = 'unclear', ended_at = now()
                 WHERE outcome IS NULL AND id <> ALL($1) AND started_at <= now() - make_interval(secs => $2)
                 RETURNING event_id, started_at),
               mine AS (
                 UPDATE alerts a SET unclear = a.unclear + 1 FROM cut WHERE a.event_id = cut.event_id
                 RETURNING a.email, a.unclear, cut.started_at),
               queue AS (
                 UPDATE queues q SET
                   next_at = mine.started_at
                     + make_interval(secs => ($3::float8[])[least(mine.unclear, array_length($3::float8[], 1))]),
                   decided_at = now()
                 FROM mine WHERE q.email = mine.email)
               SELECT count(*) AS "unclear!" FROM cut"#,
            in_flight,
            grace.as_secs_f64(),
            &repeats,
        )
        .fetch_one(&mut *transaction)
        .await?;
        let next_in = sqlx::query_scalar!(
            "SELECT extract(epoch FROM min(started_at) - now())::float8 FROM attempts
             WHERE outcome IS NULL AND id <> ALL($1)",
            in_flight,
        )
        .fetch_one(&mut *transaction)
        .await?;
        transaction.commit().await?;
        let next_in =
            next_in.map(|seconds| Duration::try_from_secs_f64(seconds + grace.as_secs_f64()).unwrap_or_default());
        Ok(CutOff { unclear: unclear.unsigned_abs(), next_in })
    }
}

/// An alert's and a queue's columns after an attempt.
struct Change {
    status: &'static str,
    message_id: Option<i64>,
    failures: i32,
    detours: i32,
    unclear: i32,
    wait: Duration,
}

impl Change {
    fn of(next: &Next, look_wait: Duration) -> Self {
        let same =
            Self { status: "pending", message_id: None, failures: 0, detours: 0, unclear: 0, wait: Duration::ZERO };
        match next {
            Next::Delivered { message_id } => Self { status: "sent", message_id: *message_id, ..same },
            Next::Unchanged => same,
            Next::After(wait) => Self { wait: *wait, ..same },
            Next::Repeat(wait) => Self { unclear: 1, wait: *wait, ..same },
            Next::Kept { wait, .. } => Self { wait: look_wait.min(*wait), ..same },
            Next::Failed(wait) => Self { failures: 1, wait: *wait, ..same },
            Next::GivenUp => Self { status: Unsent::GivenUp.as_str(), failures: 1, ..same },
            Next::AsPlainText | Next::Moved { .. } => Self { detours: 1, ..same },
        }
    }
}
