//! The settings of a service's database, and the connections made with them.

use std::{str::FromStr, time::Duration};

use log::LevelFilter;
use runtime::{ServiceRuntime, config::Reader};
use secrecy::{ExposeSecret, SecretString};
use sqlx::{
    ConnectOptions, Connection, PgConnection, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;

use super::pool::{KEPT_IDLE, Pool};

const DATABASE_URL: &str = "DATABASE_URL";
const DATABASE_POOL_SIZE: &str = "DATABASE_POOL_SIZE";
const DATABASE_BACKGROUND_POOL_SIZE: &str = "DATABASE_BACKGROUND_POOL_SIZE";
const MIGRATE_AT_START: &str = "MIGRATE_AT_START";

/// Connections for requests, where the environment says nothing. Few: each costs the server a process.
pub const DEFAULT_POOL_SIZE: u32 = 8;
/// Connections for background work, where the environment says nothing: one for each task of the busiest service.
pub const DEFAULT_BACKGROUND_POOL_SIZE: u32 = 5;
/// The most connections that a pool may have.
pub const LARGEST_POOL_SIZE: u32 = 500;

/// How long a caller waits for a connection of a pool.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(3);
/// How long a connection without work is kept.
const IDLE_LIMIT: Duration = Duration::from_secs(300);
/// How long such a test, and the clearing of an interrupted statement, may take.
const TEST_LIMIT: Duration = Duration::from_secs(1);
/// A statement that takes longer is logged as slow.
const SLOW_STATEMENT: Duration = Duration::from_secs(1);

/// What is set on every connection. The server ends a statement after 10 s, so that a lost caller blocks no one;
/// notices, such as that a table exists already, would stand in the log at every start. These are statements and
/// not the start-up parameter `options`, which PgBouncer refuses.
const SESSION: &str = "SET statement_timeout = '10s'; SET idle_in_transaction_session_timeout = '30s'; \
                       SET client_min_messages = 'warning'";

/// What is set beside it on the connections of requests, whose statements all look up by an index. PostgreSQL keeps a
/// plan for as long as it believes its count of a table: one that was made when the table was empty, as after a
/// clean-up, would read all rows that have come since. Without sequential scans it never makes such a plan. (A scan that
/// cannot be avoided seems so costly then that PostgreSQL would compile it first; that is switched off as well.)
const OF_REQUESTS: &str = "SET enable_seqscan = off; SET jit = off";

/// What is set on the connection that migrates: a migration takes as long as it takes, but does not wait for a lock
/// for long, since every other statement on that table would wait behind it.
const MIGRATING_SESSION: &str = "SET statement_timeout = 0; SET lock_timeout = '10s'; \
                                 SET idle_in_transaction_session_timeout = 0; SET client_min_messages = 'warning'";

/// Settings of a service's database, without anything secret in their `Debug`.
#[derive(Clone)]
pub struct Database {
    /// Connections for requests at most.
    pub pool_size: u32,
    /// Connections for background work at most.
    pub background_pool_size: u32,
    /// Whether the service brings the database up to date when it starts, or waits until `flightbell migrate` has.
    pub migrate_at_start: bool,
    options: PgConnectOptions,
}

/// A service's connections. What people wait for never shares them with background work, which may hold a
/// connection while Kafka acknowledges.
#[derive(Clone, Debug)]
pub struct Pools {
    /// For requests, HTTP and gRPC.
    pub requests: Pool,
    /// For everything that no caller waits for.
    pub background: Pool,
}

impl Database {
    /// The database of `service`, from `DATABASE_URL` and the keys beside it. The URL holds a password, so it may
    /// come from a file.
    pub fn read(reader: &mut Reader<'_>, service: &str) -> Option<Self> {
        let pool_size = size(reader, DATABASE_POOL_SIZE, DEFAULT_POOL_SIZE);
        let background_pool_size = size(reader, DATABASE_BACKGROUND_POOL_SIZE, DEFAULT_BACKGROUND_POOL_SIZE);
        let migrate_at_start = reader.or(MIGRATE_AT_START, true);
        let url = reader
            .required_database_url(DATABASE_URL, &format!("{service}'s PostgreSQL database, a postgres:// URL"))?;
        match Self::parse(&url) {
            Ok(database) => Some(Self { pool_size, background_pool_size, migrate_at_start, ..database }),
            Err(problem) => {
                reader.problem(format!("{DATABASE_URL} cannot be used: {problem}"));
                None
            }
        }
    }

    /// Reads a `postgres://` URL; everything else is as by default.
    ///
    /// # Errors
    /// What is wrong with the URL; the URL itself, which may hold a password, is not repeated.
    pub fn parse(url: &SecretString) -> Result<Self, String> {
        let url = url.expose_secret();
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err("it must be a URL like postgres://user:password@host:5432/database".to_owned());
        }
        let options = PgConnectOptions::from_str(url).map_err(|error| error.to_string())?;
        Ok(Self {
            pool_size: DEFAULT_POOL_SIZE,
            background_pool_size: DEFAULT_BACKGROUND_POOL_SIZE,
            migrate_at_start: true,
            options,
        })
    }

    /// The options of a connection by the name of `service`. Whatever is slow is logged at debug level only: a slow
    /// database would flood the log with it.
    #[must_use]
    pub fn options(&self, service: &str) -> PgConnectOptions {
        // PgBouncer refuses the start-up parameter `extra_float_digits` too; PostgreSQL writes floats in full without.
        let options = self.options.clone().application_name(service).extra_float_digits(None);
        options.log_slow_statements(LevelFilter::Debug, SLOW_STATEMENT)
    }

    /// One connection outside the pools, by the name of `service`.
    ///
    /// # Errors
    /// When the database cannot be reached.
    pub async fn connect(&self, service: &str) -> sqlx::Result<PgConnection> {
        self.connect_with(service, SESSION).await
    }

    /// The connection on which migrations run.
    pub(super) async fn connect_to_migrate(&self, service: &str) -> sqlx::Result<PgConnection> {
        self.connect_with(service, MIGRATING_SESSION).await
    }

    async fn connect_with(&self, service: &str, session: &'static str) -> sqlx::Result<PgConnection> {
        let mut connection = PgConnection::connect_with(&self.options(service)).await?;
        sqlx::raw_sql(session).execute(&mut connection).await?;
        Ok(connection)
    }

    /// A pool of one connection that lives as long as it can, for a listener: one of the other pools' would be taken
    /// for ever.
    #[must_use]
    pub fn listener(&self, service: &str) -> PgPool {
        self.pool(service, 1, None, &[SESSION])
    }

    /// The pools of a service. Nothing is connected yet.
    pub(super) fn pools(&self, runtime: &ServiceRuntime) -> Pools {
        let requests = self.pool(runtime.service, self.pool_size, Some(IDLE_LIMIT), &[SESSION, OF_REQUESTS]);
        let background = self.pool(runtime.service, self.background_pool_size, Some(IDLE_LIMIT), &[SESSION]);
        let [requests, background] = [requests, background].map(|pool| Pool::alone_on(pool, &runtime.tasks));
        Pools { requests, background }
    }

    fn pool(&self, service: &str, size: u32, idle_limit: Option<Duration>, session: &'static [&'static str]) -> PgPool {
        let mut options = PgPoolOptions::new().max_connections(size).idle_timeout(idle_limit);
        if idle_limit.is_none() {
            options = options.max_lifetime(None);
        }
        options
            .acquire_timeout(ACQUIRE_LIMIT)
            .acquire_slow_level(LevelFilter::Debug)
            // Instead, the test below: not of a connection that was in use a moment ago, and not without a limit.
            .test_before_acquire(false)
            .before_acquire(|connection, used| {
                Box::pin(async move {
                    let tested = used.idle_for > KEPT_IDLE;
                    Ok(!tested || matches!(timeout(TEST_LIMIT, connection.ping()).await, Ok(Ok(()))))
                })
            })
            // A statement whose caller has gone is waited for here, and not for longer: a connection that died
            // silently would occupy its place in the pool until TCP gives up, which takes a quarter of an hour. (The
            // sockets are sqlx's own: neither keep-alive nor TCP_USER_TIMEOUT can be set. What dies in the instant of
            // sqlx's own test on return, which comes next and has no limit, does occupy its place.)
            .after_release(|connection, _| {
                Box::pin(async move { Ok(matches!(timeout(TEST_LIMIT, connection.ping()).await, Ok(Ok(())))) })
            })
            .after_connect(move |connection, _| {
                Box::pin(async move {
                    for settings in session {
                        sqlx::raw_sql(*settings).execute(&mut *connection).await?;
                    }
                    Ok(())
                })
            })
            .connect_lazy_with(self.options(service))
    }
}

fn size(reader: &mut Reader<'_>, key: &str, default: u32) -> u32 {
    let size = reader.number(key, default.into(), 1, LARGEST_POOL_SIZE.into());
    u32::try_from(size).unwrap_or(default)
}
