//! Transactions that know who asks.

use runtime::principal::Principal;
use sqlx::{AssertSqlSafe, Postgres, SqlSafeStr as _, Transaction};

use super::{pool::Pool, retry::read};

/// Begins a transaction on a connection that is alive, in which `current_setting('flightbell.principal', true)` is
/// `principal`'s key. Row-level security may compare with it: outside of such a transaction the setting is null or
/// empty, also on a connection that served another principal before.
///
/// It is set in the message that begins the transaction, and costs no round trip.
///
/// # Errors
/// When the database is away.
pub async fn begin_as(pool: &Pool, principal: &Principal) -> sqlx::Result<Transaction<'static, Postgres>> {
    // The same as set_config(…, true), without a row to answer. A key has no character that would need quoting.
    let begin = format!("BEGIN; SET LOCAL flightbell.principal = '{}'", principal.key());
    read(pool, || pool.begin(Some(AssertSqlSafe(begin.clone()).into_sql_str()))).await
}
