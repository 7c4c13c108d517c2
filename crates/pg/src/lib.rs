#![doc = include_str!("../README.md")]

pub mod clock;
pub mod jobs;
pub mod lease;

mod database;
mod listen;
mod metrics;
mod migration;
mod pool;
mod pooler;
mod retry;
mod transaction;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context;
use runtime::{ServiceRuntime, StoppedEarly, readiness::Criticality};
use sqlx::migrate::Migrator;

pub use self::{
    database::{DEFAULT_BACKGROUND_POOL_SIZE, DEFAULT_POOL_SIZE, Database, LARGEST_POOL_SIZE, Pools},
    listen::Listener,
    migration::{MigrationError, check, migrate},
    pool::Pool,
    retry::read,
    transaction::{Transaction, begin, begin_as},
};

/// How long to wait between attempts at start.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Log every so many failed attempts, so that a long wait does not fill the log.
const ATTEMPTS_PER_LINE: u32 = 20;

/// A database that has not been reached since the start of this process.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("it has not been reached yet")]
pub struct NotReached;

/// What stands on a database, from the moment that has been reached and migrated. Until then a
/// service's edges answer that it is unavailable, instead of not answering at all. Clones share it.
pub struct DbHandle<T>(Arc<OnceLock<T>>);

impl<T> Default for DbHandle<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for DbHandle<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> DbHandle<T> {
    /// It, once it is there.
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        self.0.get()
    }

    /// It, for a call.
    ///
    /// # Errors
    /// Before it is there.
    pub fn reached(&self) -> Result<&T, NotReached> {
        self.get().ok_or(NotReached)
    }

    /// The database has been reached. Of several calls the first one counts.
    pub fn set(&self, stored: T) -> &T {
        self.0.get_or_init(|| stored)
    }
}

/// Waits until the database is reached and up to date, and migrates it unless something else is to; from then on
/// `/readyz` asks it.
///
/// # Errors
/// When the service stops first, when a migration cannot be applied, or when the database is a newer version's. A
/// process that runs already is not affected when a newer one migrates.
pub async fn connect(runtime: &ServiceRuntime, database: &Database, migrations: &Migrator) -> anyhow::Result<Pools> {
    let starting = runtime.readiness.part("postgres", Criticality::Required, "not connected yet");
    let mut attempt = 0u32;
    loop {
        let reached = tokio::select! {
            reached = reach(runtime.service, database, migrations) => reached,
            () = runtime.tasks.stopping().cancelled() => return Err(StoppedEarly.into()),
        };
        let failure = match reached {
            Ok(()) => break,
            Err(failure) if failure.may_pass() => failure,
            Err(failure) => return Err(failure).context("migrate the database"),
        };
        if attempt.is_multiple_of(ATTEMPTS_PER_LINE) {
            tracing::warn!("waiting for PostgreSQL: {failure}");
        }
        starting.down(match failure {
            MigrationError::Behind(_) | MigrationError::Busy => failure.to_string(),
            _ => format!("cannot be reached: {failure}"),
        });
        attempt += 1;
        tokio::select! {
            () = runtime.tasks.stopping().cancelled() => return Err(StoppedEarly.into()),
            () = tokio::time::sleep(RETRY_INTERVAL) => {}
        }
    }
    drop(starting);
    // On a connection of its own: a pool whose connections are all in use does not mean that the database is away.
    let probe = Pool::from(database.listener(runtime.service));
    runtime.readiness.check("postgres", Criticality::Required, move || {
        let probe = probe.clone();
        async move {
            let answer = read(&probe, || sqlx::query("SELECT 1").execute(&probe)).await;
            answer.map(drop).map_err(|error| format!("does not answer: {error}"))
        }
    });
    let pools = database.pools(runtime);
    metrics::register(&runtime.registry, runtime.service, &pools).context("register the metrics of the pools")?;
    Ok(pools)
}

async fn reach(service: &str, database: &Database, migrations: &Migrator) -> Result<(), MigrationError> {
    if !database.migrate_at_start {
        return check(database, service, migrations).await;
    }
    let applied = migrate(database, service, migrations).await?;
    if let (Some(first), Some(last)) = (applied.first(), applied.last()) {
        tracing::info!("migrated the database: applied migrations {first} to {last}");
    }
    Ok(())
}

/// Whether the same statement may succeed later without anybody changing it: the server is away, full or overloaded, two
/// transactions got into each other's way, or it refuses our password, which an operator is changing just now.
#[must_use]
pub fn is_unavailable(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            // Classes of SQLSTATE (PostgreSQL manual, appendix A): 08 connection, 53 resources,
            // 57 operator intervention (a statement time-out is one), 58 system, 28 authorization; then
            // serialization failure, deadlock, lock not available, and a server that is read-only for now.
            ["08", "28", "53", "57", "58"].iter().any(|class| code.starts_with(class))
                || ["40001", "40P01", "55P03", "25006"].contains(&code.as_ref())
        }),
        _ => false,
    }
}
