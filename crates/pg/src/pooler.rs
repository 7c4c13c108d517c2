//! Finding out whether a pooler stands before PostgreSQL that lends connections by the transaction.
//!
//! Behind one, every statement of ours may run in another session: prepared statements are missing or exist twice,
//! notifications are not heard, time limits are another client's, and the lock of a migration protects nothing. Half of
//! that fails only under load, so it is looked for at the start.

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row as _};
use uuid::Uuid;

use super::Database;

/// Whether `connection` keeps its session while another connection of ours has a transaction open. A pooler by the
/// transaction lends that one the session that was used last, which is `connection`'s.
///
/// # Errors
/// When the database cannot be asked.
pub(super) async fn keeps_its_session(
    connection: &mut PgConnection,
    database: &Database,
    service: &str,
) -> sqlx::Result<bool> {
    let mark = Uuid::new_v4();
    // Statements are not prepared here: that is one of the things that would fail.
    let marking = format!("SET flightbell.session = '{mark}'");
    sqlx::raw_sql(AssertSqlSafe(marking)).execute(&mut *connection).await?;
    let mut other = database.connect(service).await?;
    sqlx::raw_sql("BEGIN; SELECT 1").execute(&mut other).await?;
    let asking = format!("SELECT current_setting('flightbell.session', true) IS NOT DISTINCT FROM '{mark}' AS kept");
    let row = sqlx::raw_sql(AssertSqlSafe(asking)).fetch_one(&mut *connection).await?;
    // Also the end of its transaction.
    other.close().await?;
    row.try_get("kept")
}
