//! Brings a database up to date, or finds out that this program is too old for it.
//!
//! Migrations run on a connection of their own, on which a statement may take as long as it takes. Of several
//! processes that migrate at once one does and the others wait: sqlx takes a session's advisory lock. A pooler that
//! lends connections by the transaction breaks such locks, so migrate past it.

use std::collections::HashMap;

use sqlx::{
    AssertSqlSafe, Connection, PgConnection,
    migrate::{Migrate as _, MigrateError, Migrator},
};

use super::{Database, is_unavailable, pooler::keeps_its_session};

/// Why a database is not as this program needs it.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// A newer version of the program has migrated the database.
    #[error(
        "the database was migrated by a newer version (it has migration {found}, this program knows migrations up to \
         {known}): use that version or a newer one"
    )]
    Newer {
        /// The newest migration that the database has.
        found: i64,
        /// The newest that this program has.
        known: i64,
    },
    /// The database has a migration that is older than others of this program, but not one of them.
    #[error(
        "the database has migration {0}, which this program does not know: is this the database of another service?"
    )]
    Unknown(i64),
    /// A migration was changed after it had been applied.
    #[error("migration {0} was applied in another form than this program has it: use the version that applied it")]
    Changed(i64),
    /// A migration waited for a lock for too long. Nothing of it was applied.
    #[error(
        "migration {0} waited 10 s for a lock that another transaction holds, and was undone: end that transaction \
         (see pg_stat_activity), or migrate when less is going on"
    )]
    LockTimeout(i64),
    /// Migrations are missing, and something else is to apply them.
    #[error("the database lacks migration {0}: run `flightbell migrate`")]
    Behind(i64),
    /// Another process migrates, and has not ended within the time that a lock is waited for.
    #[error("another process migrates the database")]
    Busy,
    /// Sessions are not ours alone.
    #[error(
        "PostgreSQL is behind a pooler that lends connections by the transaction, which cannot work: set PgBouncer's \
         pool_mode to session, or connect past it"
    )]
    TransactionPooling,
    /// The database cannot be reached or asked.
    #[error("{0}")]
    Database(#[from] sqlx::Error),
    /// A migration failed.
    #[error("{0}")]
    Failed(MigrateError),
}

impl MigrationError {
    /// Whether it may be otherwise later, without a change to the program or the database's content.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Behind(_) | Self::Busy => true,
            Self::Database(error) | Self::Failed(MigrateError::ExecuteMigration(error, _)) => {
                // A database that does not exist yet may appear while we wait.
                let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
                is_unavailable(error) || code.as_deref() == Some("3D000")
            }
            _ => false,
        }
    }

    /// Whether it stays so until another version of the program comes, so that repeating cannot help.
    #[must_use]
    pub const fn needs_other_version(&self) -> bool {
        matches!(self, Self::Newer { .. } | Self::Unknown(_) | Self::Changed(_))
    }

    fn of(error: MigrateError, migrations: &Migrator) -> Self {
        match error {
            MigrateError::VersionMissing(version) => unknown(version, migrations),
            MigrateError::VersionMismatch(version) => Self::Changed(version),
            MigrateError::Execute(error) if is_lock_timeout(&error) => Self::Busy,
            MigrateError::Execute(error) => Self::Database(error),
            MigrateError::ExecuteMigration(error, version) if is_lock_timeout(&error) => Self::LockTimeout(version),
            other => Self::Failed(other),
        }
    }
}

/// Applies the migrations that the database of `service` lacks. Answers their versions.
///
/// # Errors
/// When the database cannot be reached, belongs to a newer version, or refuses a migration.
pub async fn migrate(database: &Database, service: &str, migrations: &Migrator) -> Result<Vec<i64>, MigrationError> {
    let mut connection = database.connect_to_migrate(service).await?;
    require_session(&mut connection, database, service).await?;
    let mut applied = Vec::new();
    // Where nothing is missing, nothing is locked either, and no right to create tables is needed.
    if !missing(&mut connection, migrations).await?.is_empty() {
        let failed = |error| MigrationError::of(error, migrations);
        // A session may take its lock more than once. With the lock it is certain who applies what.
        connection.lock().await.map_err(failed)?;
        applied = missing(&mut connection, migrations).await?;
        // `run` is the same, but a future of it cannot move between threads.
        migrations.run_direct(None, &mut connection, false).await.map_err(failed)?;
    }
    // The lock goes with the session.
    close(connection).await;
    Ok(applied)
}

/// Whether the database of `service` has every migration.
///
/// # Errors
/// [`MigrationError::Behind`] when it lacks one; otherwise as [`migrate`].
pub async fn check(database: &Database, service: &str, migrations: &Migrator) -> Result<(), MigrationError> {
    let mut connection = database.connect(service).await?;
    require_session(&mut connection, database, service).await?;
    let missing = missing(&mut connection, migrations).await?;
    close(connection).await;
    missing.first().map_or(Ok(()), |version| Err(MigrationError::Behind(*version)))
}

async fn require_session(
    connection: &mut PgConnection,
    database: &Database,
    service: &str,
) -> Result<(), MigrationError> {
    let kept = keeps_its_session(connection, database, service).await?;
    if kept { Ok(()) } else { Err(MigrationError::TransactionPooling) }
}

/// The migrations that the database lacks, in their order.
async fn missing(connection: &mut PgConnection, migrations: &Migrator) -> Result<Vec<i64>, MigrationError> {
    let applied = applied(connection, &migrations.table_name).await?;
    if let Some(newest) = applied.keys().filter(|version| !migrations.version_exists(**version)).max() {
        return Err(unknown(*newest, migrations));
    }
    let mut missing = Vec::new();
    for migration in migrations.iter().filter(|migration| !migration.migration_type.is_down_migration()) {
        match applied.get(&migration.version) {
            Some(checksum) if *checksum != *migration.checksum => {
                return Err(MigrationError::Changed(migration.version));
            }
            Some(_) => {}
            None => missing.push(migration.version),
        }
    }
    Ok(missing)
}

/// What was applied: version and checksum. Nothing, where no table says so yet.
async fn applied(connection: &mut PgConnection, table: &str) -> sqlx::Result<HashMap<i64, Vec<u8>>> {
    let is_there: bool =
        sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(table).fetch_one(&mut *connection).await?;
    if !is_there {
        return Ok(HashMap::new());
    }
    let reading = format!("SELECT version, checksum FROM {table}");
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as(AssertSqlSafe(reading)).fetch_all(connection).await?;
    Ok(rows.into_iter().collect())
}

fn unknown(version: i64, migrations: &Migrator) -> MigrationError {
    let known = migrations.iter().map(|migration| migration.version).max().unwrap_or_default();
    if version > known { MigrationError::Newer { found: version, known } } else { MigrationError::Unknown(version) }
}

fn is_lock_timeout(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).as_deref() == Some("55P03")
}

async fn close(connection: PgConnection) {
    if let Err(error) = connection.close().await {
        tracing::debug!("close a connection to PostgreSQL: {error}");
    }
}
