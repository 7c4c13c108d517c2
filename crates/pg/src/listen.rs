//! Hearing PostgreSQL's notifications.

use std::{collections::BTreeMap, time::Duration};

use runtime::ServiceRuntime;
use sqlx::{PgPool, postgres::PgListener};
use tokio::time::timeout;

use super::Database;

/// How long to wait before the next attempt to connect.
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);
/// After so much silence the connection is tested: a reader alone never learns that the other end is gone.
const TESTED_AFTER: Duration = Duration::from_secs(10);
/// How long the test may take.
const TEST_LIMIT: Duration = Duration::from_secs(2);

/// Listens on channels, all of them on one connection of its own.
#[derive(Default)]
pub struct Listener {
    channels: BTreeMap<&'static str, OnNotification>,
}

type OnNotification = Box<dyn Fn(Option<&str>) + Send + Sync>;

impl Listener {
    /// Hears `channel` too. `on_notification` is told each notification's payload, and `None` whenever some may have
    /// been missed: at the start and after every interruption.
    #[must_use]
    pub fn on<F>(mut self, channel: &'static str, on_notification: F) -> Self
    where
        F: Fn(Option<&str>) + Send + Sync + 'static,
    {
        self.channels.insert(channel, Box::new(on_notification));
        self
    }

    /// Listens until the service stops.
    ///
    /// # Errors
    /// Never; a database that is away is tried again.
    pub async fn run(self, runtime: ServiceRuntime, database: Database) -> anyhow::Result<()> {
        let listening = async {
            loop {
                // One of the other pools' connections would be taken for ever. And sqlx bids a dead connection farewell
                // in the background, for as long as TCP waits; the next attempt must not wait for its place.
                let pool = database.listener(runtime.service);
                if let Err(error) = self.listen_until_cut_off(&pool).await {
                    tracing::debug!("listen for notifications: {error}");
                }
                tokio::time::sleep(RECONNECT_INTERVAL).await;
            }
        };
        tokio::select! {
            () = runtime.tasks.stopping().cancelled() => Ok(()),
            () = listening => Ok(()),
        }
    }

    async fn listen_until_cut_off(&self, pool: &PgPool) -> sqlx::Result<()> {
        let mut listener = timeout(TESTED_AFTER, PgListener::connect_with(pool)).await.map_err(timed_out)??;
        let channels = self.channels.keys().copied();
        timeout(TESTED_AFTER, listener.listen_all(channels)).await.map_err(timed_out)??;
        loop {
            self.channels.values().for_each(|on_notification| on_notification(None));
            loop {
                match timeout(TESTED_AFTER, listener.try_recv()).await {
                    Ok(Ok(Some(notification))) => {
                        if let Some(on_notification) = self.channels.get(notification.channel()) {
                            on_notification(Some(notification.payload()));
                        }
                    }
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
}

fn timed_out(_: tokio::time::error::Elapsed) -> sqlx::Error {
    sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())
}
