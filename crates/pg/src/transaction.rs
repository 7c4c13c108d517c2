//! Transactions, and who asks in them.

use std::ops::{Deref, DerefMut};

use runtime::principal::Principal;
use scopeguard::ScopeGuard;
use sqlx::{AssertSqlSafe, PgConnection, SqlSafeStr as _, SqlStr, postgres::PgTransactionManager};
use sqlx_core::transaction::TransactionManager;

use super::{
    pool::{Lent, Pool},
    retry::read,
};

/// A transaction on a connection of its own, as [`sqlx::Transaction`] is. Unless it is committed it is rolled back, when
/// it is dropped at the latest. (One of sqlx's own would give its connection back to sqlx's pool.)
#[derive(Debug)]
pub struct Transaction {
    open: ScopeGuard<Lent, fn(Lent)>,
}

/// Begins a transaction on a connection that is alive.
///
/// # Errors
/// When the database is away.
pub async fn begin(pool: &Pool) -> sqlx::Result<Transaction> {
    begin_by(pool, "BEGIN".into_sql_str()).await
}

/// Begins a transaction on a connection that is alive, in which `current_setting('flightbell.principal', true)` is
/// `principal`'s key. Row-level security may compare with it: outside of such a transaction the setting is null or
/// empty, also on a connection that served another principal before.
///
/// It is set in the message that begins the transaction, and costs no round trip.
///
/// # Errors
/// When the database is away.
pub async fn begin_as(pool: &Pool, principal: &Principal) -> sqlx::Result<Transaction> {
    // The same as set_config(…, true), without a row to answer. A key has no character that would need quoting.
    let begin = format!("BEGIN; SET LOCAL flightbell.principal = '{}'", principal.key());
    begin_by(pool, AssertSqlSafe(begin).into_sql_str()).await
}

async fn begin_by(pool: &Pool, statement: SqlStr) -> sqlx::Result<Transaction> {
    let begun = read(pool, async || {
        // A caller who goes away while PostgreSQL begins would leave a transaction that sqlx does not know of.
        let mut lent = scopeguard::guard(pool.acquire().await?, Lent::close);
        PgTransactionManager::begin(&mut lent, Some(statement.clone())).await?;
        let lent = ScopeGuard::into_inner(lent);
        // The rollback is written before whatever the connection does next, which is sqlx's test.
        let roll_back: fn(Lent) = |mut lent| PgTransactionManager::start_rollback(&mut lent);
        Ok(Transaction { open: scopeguard::guard(lent, roll_back) })
    });
    begun.await
}

impl Transaction {
    /// Commits.
    ///
    /// # Errors
    /// When the database refuses, or went away: then it may have committed or not. When a savepoint of sqlx's was cut
    /// off as it was made, which undoes everything.
    pub async fn commit(mut self) -> sqlx::Result<()> {
        if !self.is_whole() {
            return Err(sqlx::Error::Protocol(
                "a savepoint was cut off, so the transaction was rolled back".to_owned(),
            ));
        }
        PgTransactionManager::commit(&mut self.open).await?;
        ScopeGuard::into_inner(self.open).keep();
        Ok(())
    }

    /// Undoes everything at once, and not when the connection is used next.
    ///
    /// # Errors
    /// When the database went away, which undoes everything as well.
    pub async fn rollback(mut self) -> sqlx::Result<()> {
        if !self.is_whole() {
            return Ok(());
        }
        PgTransactionManager::rollback(&mut self.open).await?;
        ScopeGuard::into_inner(self.open).keep();
        Ok(())
    }

    /// Whether sqlx has not begun to roll it back by itself.
    fn is_whole(&self) -> bool {
        PgTransactionManager::get_transaction_depth(&self.open) == 1
    }
}

impl Deref for Transaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.open
    }
}

impl DerefMut for Transaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.open
    }
}
