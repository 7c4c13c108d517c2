//! Trying again where a pooled connection turns out to be dead.
//!
//! A connection that was in use a moment ago is lent without a test, since testing costs as much as asking. After
//! PostgreSQL restarted, each such connection fails once, and at once. Where nothing can have happened yet, the
//! caller's request goes on with the next connection, until the pool has none of the old ones left.

use super::pool::Pool;

/// Asks by `ask`, which only reads, and asks again while the connection that it got was dead.
///
/// # Errors
/// `ask`'s own.
pub async fn read<T, Fut>(pool: &Pool, ask: impl Fn() -> Fut) -> sqlx::Result<T>
where
    Fut: Future<Output = sqlx::Result<T>>,
{
    let mut connections = pool.sqlx().options().get_max_connections();
    loop {
        match ask().await {
            Err(error) if is_dead_connection(&error) && connections > 0 => {
                tracing::debug!("ask again on another connection: {error}");
                connections -= 1;
            }
            answer => return answer,
        }
    }
}

/// Whether the error says that this one connection has ended.
fn is_dead_connection(error: &sqlx::Error) -> bool {
    use std::io::ErrorKind;
    match error {
        sqlx::Error::Io(error) => matches!(
            error.kind(),
            ErrorKind::UnexpectedEof
                | ErrorKind::BrokenPipe
                | ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::NotConnected
        ),
        // The server's last words: shut down by an administrator, after a crash, or for being idle.
        sqlx::Error::Database(error) => matches!(error.code().as_deref(), Some("57P01" | "57P02" | "57P05")),
        _ => false,
    }
}
