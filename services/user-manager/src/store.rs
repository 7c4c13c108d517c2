//! Registrations, in PostgreSQL.
//!
//! Mutations run on the connection of the caller's transaction, in which their idempotency key, their answer and the
//! jobs that they cause are written as well.

use chrono::{DateTime, Utc};
use events::EmailAddress;
use pg::{
    Pool,
    jobs::{Kind, NewJob},
};
use runtime::trace::RequestContext;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;
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

/// Deletions that data-collector is to be told of; their key is the registration's id.
pub const DELETION: Kind<Deletion> = Kind::new("deletion");

/// What is needed to tell of a deletion, and forgotten once it was told.
#[derive(Serialize, Deserialize)]
pub struct Deletion {
    /// The address that the registration had.
    pub email: String,
}

/// Where a user can be reached.
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
    pool: Pool,
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

/// Makes `changes` to a user; `None` when no user has this address.
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

/// Notes where a user reads Telegram; false when no user has this address.
///
/// # Errors
/// When another user reads that chat ([`CHAT_TAKEN`]), or the database fails.
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

/// Two people who take each other's tax code or chat at the same moment would wait for each other's row for ever. A
/// transaction that changes a value which must stay unique therefore goes alone, for its few milliseconds.
async fn lock_exchanges(connection: &mut PgConnection) -> sqlx::Result<()> {
    sqlx::query!("SELECT pg_advisory_xact_lock(hashtextextended('user-manager exchanges', 0))")
        .execute(connection)
        .await
        .map(drop)
}

/// Removes a user, and has data-collector told so; false when no user has this address.
///
/// # Errors
/// When the database fails.
pub async fn delete(
    connection: &mut PgConnection,
    email: &EmailAddress,
    context: &RequestContext,
) -> sqlx::Result<bool> {
    let deleted = sqlx::query!("DELETE FROM users WHERE email = $1 RETURNING id, email", email.as_str());
    let Some(deleted) = deleted.fetch_optional(&mut *connection).await? else { return Ok(false) };
    let job = NewJob::new(deleted.id, Deletion { email: deleted.email });
    DELETION.enqueue(connection, &[job], context).await?;
    Ok(true)
}

impl Store {
    /// The store behind `pool`.
    #[must_use]
    pub fn new(pool: impl Into<Pool>) -> Self {
        Self { pool: pool.into() }
    }

    /// Where transactions begin.
    #[must_use]
    pub const fn pool(&self) -> &Pool {
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

    /// How to reach the user who has this address, and this very registration where one is meant.
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
}

impl From<Uuid> for UserId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}
