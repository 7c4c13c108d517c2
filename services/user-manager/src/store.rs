//! Registrations and the outbox of their deletions, in PostgreSQL.
//!
//! Mutations run on the connection of the caller's transaction, in which their idempotency key and
//! their answer are written as well. All times are the database's, so that replicas whose clocks
//! differ agree on what is due.

use std::time::Duration;

use chrono::{DateTime, Utc};
use events::EmailAddress;
use runtime::trace::RequestContext;
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use crate::core::{
    iban::Iban,
    tax_code::TaxCode,
    undelivered::{Reason, Report, Undelivered},
    user::{Changes, ChatId, NewUser, User, UserId},
};

/// The constraint that keeps e-mail addresses apart.
pub const EMAIL_TAKEN: &str = "users_email_key";
/// The constraint that keeps tax codes apart.
pub const TAX_CODE_TAKEN: &str = "users_tax_code_key";
/// The constraint that keeps chats apart.
pub const CHAT_TAKEN: &str = "users_telegram_chat_id_key";

/// How long a claimed deletion is left to the replica that claimed it: longer than a call can take.
const CLAIM: Duration = Duration::from_secs(10);

/// A deletion that data-collector has not confirmed yet, claimed for one call.
pub struct Deletion {
    /// The registration that was deleted.
    pub user_id: UserId,
    /// The address it had.
    pub email: String,
    /// The request that deleted it.
    pub context: RequestContext,
    /// Calls so far, this one included.
    pub calls: u32,
}

/// Where somebody can be reached.
#[derive(Clone, Copy)]
pub struct Contact {
    /// The registration.
    pub user_id: UserId,
    /// The chat, if one was told.
    pub telegram_chat_id: Option<i64>,
    /// Rises whenever a chat is told.
    pub chat_link: i64,
}

/// A user as the columns have it.
struct UserRow {
    id: Uuid,
    email: String,
    first_name: String,
    last_name: String,
    tax_code: Option<String>,
    iban: Option<String>,
    telegram_chat_id: Option<i64>,
    undelivered_count: i64,
    undelivered_last_at: Option<DateTime<Utc>>,
    undelivered_reason: Option<String>,
}

impl From<UserRow> for User {
    fn from(row: UserRow) -> Self {
        let last = row.undelivered_last_at.zip(row.undelivered_reason).filter(|_| row.undelivered_count > 0);
        let count = row.undelivered_count;
        Self {
            id: UserId(row.id),
            email: row.email,
            first_name: row.first_name,
            last_name: row.last_name,
            tax_code: row.tax_code,
            iban: row.iban,
            telegram_chat_id: row.telegram_chat_id,
            undelivered: last.map(|(last_at, reason)| Undelivered { count, last_at, reason }),
        }
    }
}

/// Everything that is kept.
#[derive(Clone)]
pub struct Store {
    pool: PgPool,
}

/// Adds a registration under an id that no registration had before.
///
/// # Errors
/// When the address or the tax code is taken ([`EMAIL_TAKEN`], [`TAX_CODE_TAKEN`]), or the database
/// fails.
pub async fn register(connection: &mut PgConnection, user: &NewUser) -> sqlx::Result<()> {
    sqlx::query!(
        "INSERT INTO users (id, email, first_name, last_name, tax_code, iban) VALUES ($1, $2, $3, $4, $5, $6)",
        Uuid::now_v7(),
        user.email.as_str(),
        user.first_name,
        user.last_name,
        user.tax_code.as_ref().map(TaxCode::as_str),
        user.iban.as_ref().map(Iban::as_str),
    )
    .execute(connection)
    .await
    .map(drop)
}

/// Makes `changes` to somebody; `None` when nobody has this address.
///
/// # Errors
/// When the tax code is taken ([`TAX_CODE_TAKEN`]), or the database fails.
pub async fn change(
    connection: &mut PgConnection,
    email: &EmailAddress,
    changes: &Changes,
) -> sqlx::Result<Option<User>> {
    if changes.tax_code.is_asked() {
        lock_exchanges(connection).await?;
    }
    sqlx::query_as!(
        UserRow,
        r#"UPDATE users SET
             first_name = coalesce($2, first_name),
             last_name = coalesce($3, last_name),
             tax_code = CASE WHEN $4 THEN $5 ELSE tax_code END,
             iban = CASE WHEN $6 THEN $7 ELSE iban END
           WHERE email = $1
           RETURNING id, email, first_name, last_name, tax_code, iban, telegram_chat_id,
             undelivered_count, undelivered_last_at, undelivered_reason"#,
        email.as_str(),
        changes.first_name.as_deref(),
        changes.last_name.as_deref(),
        changes.tax_code.is_asked(),
        changes.tax_code.value().map(TaxCode::as_str),
        changes.iban.is_asked(),
        changes.iban.value().map(Iban::as_str),
    )
    .fetch_optional(connection)
    .await
    .map(|row| row.map(User::from))
}

/// Notes where somebody reads Telegram; false when nobody has this address.
///
/// # Errors
/// When somebody else reads that chat ([`CHAT_TAKEN`]), or the database fails.
pub async fn link_chat(connection: &mut PgConnection, email: &EmailAddress, chat: ChatId) -> sqlx::Result<bool> {
    lock_exchanges(connection).await?;
    let linked = sqlx::query!(
        "UPDATE users SET telegram_chat_id = $2, chat_link = chat_link + 1 WHERE email = $1",
        email.as_str(),
        chat.get(),
    )
    .execute(connection)
    .await?;
    Ok(linked.rows_affected() == 1)
}

/// Two people who take each other's tax code or chat at the same moment would wait for each other's
/// row for ever. Whoever changes a value that must stay unique therefore goes alone, for the few
/// milliseconds of the transaction.
async fn lock_exchanges(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("SELECT pg_advisory_xact_lock(hashtextextended('user-manager exchanges', 0))")
        .execute(connection)
        .await
        .map(drop)
}

/// Removes somebody, and has data-collector told so; false when nobody has this address.
///
/// # Errors
/// When the database fails.
pub async fn delete(
    connection: &mut PgConnection,
    email: &EmailAddress,
    context: &RequestContext,
) -> sqlx::Result<bool> {
    let deleted = sqlx::query!(
        "WITH gone AS (DELETE FROM users WHERE email = $1 RETURNING id, email)
         INSERT INTO deletions (user_id, email, request_id, traceparent) SELECT id, email, $2, $3 FROM gone",
        email.as_str(),
        context.request_id,
        context.traceparent,
    )
    .execute(connection)
    .await?;
    Ok(deleted.rows_affected() == 1)
}

impl Store {
    /// The store behind `pool`.
    #[must_use]
    pub const fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Where transactions begin.
    #[must_use]
    pub const fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Who has this address.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn find(&self, email: &EmailAddress) -> sqlx::Result<Option<User>> {
        sqlx::query_as!(
            UserRow,
            r#"SELECT id, email, first_name, last_name, tax_code, iban, telegram_chat_id,
                 undelivered_count, undelivered_last_at, undelivered_reason
               FROM users WHERE email = $1"#,
            email.as_str(),
        )
        .fetch_optional(&self.pool)
        .await
        .map(|row| row.map(User::from))
    }

    /// At most `limit` people who registered after the registration `after`, in that order.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list(&self, after: Option<UserId>, limit: i64) -> sqlx::Result<Vec<User>> {
        sqlx::query_as!(
            UserRow,
            r#"SELECT id, email, first_name, last_name, tax_code, iban, telegram_chat_id,
                 undelivered_count, undelivered_last_at, undelivered_reason
               FROM users WHERE id > $1 ORDER BY id LIMIT $2"#,
            after.map_or(Uuid::nil(), |id| id.0),
            limit,
        )
        .fetch_all(&self.pool)
        .await
        .map(|rows| rows.into_iter().map(User::from).collect())
    }

    /// How to reach whoever has this address, and this very registration where one is meant.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn contact(&self, email: &EmailAddress, meant: Option<UserId>) -> sqlx::Result<Option<Contact>> {
        sqlx::query_as!(
            Contact,
            r#"SELECT id AS user_id, telegram_chat_id, chat_link
               FROM users WHERE email = $1 AND ($2::uuid IS NULL OR id = $2)"#,
            email.as_str(),
            meant.map(|id| id.0),
        )
        .fetch_optional(&self.pool)
        .await
    }

    /// Keeps what the notifier reports about a registration, unless something newer is known or the
    /// registration is gone.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_undelivered(&self, user_id: UserId, report: &Report) -> sqlx::Result<()> {
        sqlx::query!(
            "UPDATE users SET undelivered_version = $2, undelivered_count = $3, undelivered_last_at = $4,
               undelivered_reason = $5
             WHERE id = $1 AND undelivered_version < $2",
            user_id.0,
            report.version,
            report.count,
            report.last.map(|(at, _)| at),
            report.last.map(|(_, reason)| Reason::as_str(reason)),
        )
        .execute(&self.pool)
        .await
        .map(drop)
    }

    /// At most `limit` deletions whose call is due, the longest due first, claimed for one call.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claim_deletions(&self, limit: i64) -> sqlx::Result<Vec<Deletion>> {
        let rows = sqlx::query!(
            r#"UPDATE deletions SET calls = calls + 1, next_call_at = now() + make_interval(secs => $2)
               WHERE user_id IN (
                 SELECT user_id FROM deletions WHERE settled_at IS NULL AND next_call_at <= now()
                 ORDER BY next_call_at LIMIT $1 FOR UPDATE SKIP LOCKED)
               RETURNING user_id, email AS "email!", request_id, traceparent, calls"#,
            limit,
            CLAIM.as_secs_f64(),
        )
        .fetch_all(&self.pool)
        .await?;
        Ok(rows
            .into_iter()
            .map(|row| Deletion {
                user_id: UserId(row.user_id),
                email: row.email,
                context: RequestContext { request_id: row.request_id, traceparent: row.traceparent },
                calls: row.calls.unsigned_abs(),
            })
            .collect())
    }

    /// How long until the next call is due; `None` when all deletions are settled.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next_call_in(&self) -> sqlx::Result<Option<Duration>> {
        let seconds = sqlx::query_scalar!(
            "SELECT extract(epoch FROM min(next_call_at) - now())::float8 FROM deletions WHERE settled_at IS NULL"
        )
        .fetch_one(&self.pool)
        .await?;
        Ok(seconds.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or_default()))
    }

    /// data-collector knows of the deletion: the address is forgotten.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn settle_deletion(&self, user_id: UserId) -> sqlx::Result<()> {
        sqlx::query!(
            "UPDATE deletions SET settled_at = now(), email = NULL WHERE user_id = $1 AND settled_at IS NULL",
            user_id.0,
        )
        .execute(&self.pool)
        .await
        .map(drop)
    }

    /// The call failed and is made again after `wait`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn postpone_deletion(&self, user_id: UserId, wait: Duration) -> sqlx::Result<()> {
        sqlx::query!(
            "UPDATE deletions SET next_call_at = now() + make_interval(secs => $2)
             WHERE user_id = $1 AND settled_at IS NULL",
            user_id.0,
            wait.as_secs_f64(),
        )
        .execute(&self.pool)
        .await
        .map(drop)
    }

    /// Removes deletions that were settled longer ago than `age`. Answers how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_deletions(&self, age: Duration) -> sqlx::Result<u64> {
        let removed = sqlx::query!(
            "DELETE FROM deletions WHERE settled_at < now() - make_interval(secs => $1)",
            age.as_secs_f64(),
        )
        .execute(&self.pool)
        .await?;
        Ok(removed.rows_affected())
    }
}

impl From<Uuid> for UserId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}
