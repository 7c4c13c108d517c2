//! A service's own PostgreSQL database: connected, migrated, watched.

use std::{
    str::FromStr,
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context;
use axum::http::StatusCode;
use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use crate::{Shell, config::Reader, http::Problem, process::StoppedEarly, readiness::Need};

/// Connections a service keeps at most. Few: each costs the server a process.
const POOL_SIZE: u32 = 6;
/// How long a caller waits for a connection.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(3);
/// The server ends a statement after this, in its own notation, so that a lost caller blocks nobody.
const STATEMENT_LIMIT: &str = "10s";
/// How long to wait between attempts at start.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);
/// Log every so many failed attempts, so that a long wait does not fill the log.
const ATTEMPTS_PER_LINE: u32 = 20;

/// What stands on a database, from the moment that has been reached and migrated. Until then a
/// service's edges answer that it is unavailable, instead of not answering at all. Clones share it.
pub struct Stored<T>(Arc<OnceLock<T>>);

impl<T> Default for Stored<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Stored<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Stored<T> {
    /// It, once it is there.
    #[must_use]
    pub fn get(&self) -> Option<&T> {
        self.0.get()
    }

    /// It, for an HTTP call.
    ///
    /// # Errors
    /// 503 before it is there.
    pub fn reached(&self) -> Result<&T, Problem> {
        self.get().ok_or_else(|| Problem::unavailable("The database", &"it has not been reached yet"))
    }

    /// The database has been reached. Of several calls the first one counts.
    pub fn set(&self, stored: T) -> &T {
        self.0.get_or_init(|| stored)
    }
}

/// Settings of a connection, without anything secret in their `Debug`.
#[derive(Clone)]
pub struct Database {
    options: PgConnectOptions,
}

impl Database {
    /// The database of `service`, from `DATABASE_URL`. It holds a password, so it may come from a file.
    pub fn read(reader: &mut Reader<'_>, service: &str) -> Option<Self> {
        const KEY: &str = "DATABASE_URL";
        let url = reader.required_secret(KEY, &format!("{service}'s PostgreSQL database, a postgres:// URL"))?;
        Self::parse(&url).map_err(|problem| reader.problem(format!("{KEY} cannot be used: {problem}"))).ok()
    }

    /// Reads a `postgres://` URL.
    ///
    /// # Errors
    /// What is wrong with the URL; the URL itself, which may hold a password, is not repeated.
    pub fn parse(url: &SecretString) -> Result<Self, String> {
        let url = url.expose_secret();
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err("it must be a URL like postgres://user:password@host:5432/database".to_owned());
        }
        let options = PgConnectOptions::from_str(url).map_err(|error| error.to_string())?;
        Ok(Self { options })
    }

    /// The options of a connection by the name of `service`.
    #[must_use]
    pub fn options(&self, service: &str) -> PgConnectOptions {
        self.options.clone().application_name(service).options([
            ("statement_timeout", STATEMENT_LIMIT),
            ("idle_in_transaction_session_timeout", "30s"),
            // Notices, such as that a table exists already, would stand in the log at every start.
            ("client_min_messages", "warning"),
        ])
    }
}

/// Connects and migrates, waiting as long as the database is away; from then on `/readyz` asks it.
///
/// # Errors
/// When the shell stops first, or a migration cannot be applied.
pub async fn connect(shell: &Shell, database: &Database, migrations: &Migrator) -> anyhow::Result<PgPool> {
    let starting = shell.readiness.part("postgres", Need::Required, "not connected yet");
    let options = PgPoolOptions::new()
        .max_connections(POOL_SIZE)
        .acquire_timeout(ACQUIRE_LIMIT)
        .idle_timeout(Duration::from_secs(300));
    let pool = options.connect_lazy_with(database.options(shell.service));
    let mut attempt = 0u32;
    loop {
        let failure = match migrations.run(&pool).await {
            Ok(()) => break,
            Err(error) => error,
        };
        if !migration_may_succeed_later(&failure) {
            return Err(failure).context("migrate the database");
        }
        if attempt.is_multiple_of(ATTEMPTS_PER_LINE) {
            tracing::warn!("waiting for PostgreSQL: {failure}");
        }
        starting.down(format!("cannot be reached: {failure}"));
        attempt += 1;
        tokio::select! {
            () = shell.tasks.stopping().cancelled() => return Err(StoppedEarly.into()),
            () = tokio::time::sleep(RETRY_INTERVAL) => {}
        }
    }
    drop(starting);
    let asked = pool.clone();
    shell.readiness.check("postgres", Need::Required, move || {
        let pool = asked.clone();
        async move {
            let answer = sqlx::query("SELECT 1").execute(&pool).await;
            answer.map(drop).map_err(|error| format!("does not answer: {error}"))
        }
    });
    Ok(pool)
}

fn migration_may_succeed_later(error: &sqlx::migrate::MigrateError) -> bool {
    use sqlx::migrate::MigrateError;
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => {
            // A database that does not exist yet, or a password not set yet, may appear while we wait.
            let code = error.as_database_error().and_then(|error| error.code());
            is_unavailable(error) || matches!(code.as_deref(), Some("3D000" | "28P01" | "28000"))
        }
        _ => false,
    }
}

/// Whether the same statement may succeed later without anybody changing it: the server is away,
/// full or overloaded, or two transactions got into each other's way.
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
            // 57 operator intervention (a statement time-out is one), 58 system; then serialization
            // failure, deadlock, lock not available, and a server that is read-only for now.
            ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class))
                || ["40001", "40P01", "55P03", "25006"].contains(&code.as_ref())
        }),
        _ => false,
    }
}

/// The answer to a caller whose request met this error: 503 when it may pass, else 500.
#[must_use]
pub fn problem(error: &sqlx::Error) -> Problem {
    if is_unavailable(error) {
        return Problem::unavailable("The database", error);
    }
    Problem::internal("use the database", error)
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        problem(&error)
    }
}

/// The answer to a caller whose request broke a constraint, where the constraint has one.
#[must_use]
pub fn problem_on_constraint(error: &sqlx::Error, known: &[(&str, StatusCode, &'static str)]) -> Problem {
    let broken = error.as_database_error().and_then(sqlx::error::DatabaseError::constraint);
    let answer = known.iter().find(|(constraint, ..)| Some(*constraint) == broken);
    answer.map_or_else(|| problem(error), |(_, status, words)| Problem::new(*status, *words))
}
