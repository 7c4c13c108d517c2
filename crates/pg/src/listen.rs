//! Hearing PostgreSQL's notifications.

use std::time::Duration;

use runtime::ServiceRuntime;
use sqlx::{PgPool, postgres::PgListener};
use tokio::time::timeout;

use super::Database;

/// How long to wait before the next attempt to connect.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);
/// After so much silence the connection is tested: whoever only reads never learns that the other end is gone.
const TESTED_AFTER: Duration = Duration::from_secs(10);
/// How long the test may take.
const TEST_LIMIT: Duration = Duration::from_secs(2);

/// Listens on `channel` on a connection of its own until the service stops. `on_notification` is told each
/// notification's payload, and `None` whenever some may have been missed: at the start and after every interruption.
///
/// # Errors
/// Never; a database that is away is tried again.
pub async fn listen<F>(
    runtime: ServiceRuntime,
    database: Database,
    channel: &'static str,
    on_notification: F,
) -> anyhow::Result<()>
where
    F: Fn(Option<&str>) + Send,
{
    let listening = async {
        loop {
            // One of the other pools' connections would be taken for ever. And sqlx bids a dead connection farewell
            // in the background, for as long as TCP waits; the next attempt must not wait for its place.
            let pool = database.listener(runtime.service);
            if let Err(error) = listen_until_cut_off(&pool, channel, &on_notification).await {
                tracing::debug!("listen on {channel}: {error}");
            }
            tokio::time::sleep(RECONNECT_INTERVAL).await;
        }
    };
    tokio::select! {
        () = runtime.tasks.stopping().cancelled() => Ok(()),
        () = listening => Ok(()),
    }
}

async fn listen_until_cut_off(
    pool: &PgPool,
    channel: &str,
    on_notification: &impl Fn(Option<&str>),
) -> sqlx::Result<()> {
    let mut listener = timeout(TESTED_AFTER, PgListener::connect_with(pool)).await.map_err(timed_out)??;
    timeout(TESTED_AFTER, listener.listen(channel)).await.map_err(timed_out)??;
    loop {
        on_notification(None);
        loop {
            match timeout(TESTED_AFTER, listener.try_recv()).await {
                Ok(Ok(Some(notification))) => on_notification(Some(notification.payload())),
                Ok(Ok(None)) => break,
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    let test = sqlx::query("SELECT 1").execute(&mut listener);
                    timeout(TEST_LIMIT, test).await.map_err(timed_out)??;
                }
            }
        }
    }
}

fn timed_out(_: tokio::time::error::Elapsed) -> sqlx::Error {
    sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())
}
