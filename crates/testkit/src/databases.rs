//! A database of each test's own. All go with the server at the end of the run.

use std::net::SocketAddr;

use sqlx::{
    AssertSqlSafe, Connection, PgConnection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use uuid::Uuid;

use crate::servers;

/// Connections of a test's own pool, beside those of the code under test.
const POOL_SIZE: u32 = 5;

/// What is named without a schema is looked for in `public` first.
const CLOCK: &str = "
    CREATE TABLE public.clock (shift interval NOT NULL, stands_at timestamptz);
    INSERT INTO public.clock VALUES ('0', NULL);
    CREATE FUNCTION public.now() RETURNS timestamptz LANGUAGE sql STABLE AS
        $$ SELECT coalesce(stands_at, pg_catalog.now() + shift) FROM public.clock $$;
    CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS
        $$ SELECT coalesce(stands_at, pg_catalog.clock_timestamp() + shift) FROM public.clock $$;
    DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$";

/// A database that no other test uses.
#[derive(Clone, Debug)]
pub struct Database {
    /// Where it is, for the code under test.
    pub url: String,
    /// A few connections for the test itself.
    pub pool: PgPool,
}

impl Database {
    /// The same database by way of another address, a [`crate::Proxy`]'s for instance.
    #[must_use]
    pub fn url_at(&self, addr: SocketAddr) -> String {
        let mut url: url::Url = self.url.parse().expect("a URL");
        url.set_ip_host(addr.ip()).expect("a host");
        url.set_port(Some(addr.port())).expect("a port");
        url.into()
    }

    /// Puts a clock before the database's own that a test can set: `now()` and `clock_timestamp()` of every connection
    /// that is made from now on, those of [`Database::pool`] too. Defaults of tables that exist keep the right time.
    pub async fn with_clock(&mut self) -> DatabaseClock {
        sqlx::raw_sql(CLOCK).execute(&self.pool).await.expect("a clock");
        self.pool.close().await;
        self.pool = pool(&self.url);
        DatabaseClock { pool: self.pool.clone() }
    }
}

/// A new database with these migrations.
pub async fn database(migrations: &Migrator) -> Database {
    let database = empty_database().await;
    migrations.run(&database.pool).await.expect("migrations");
    database
}

/// A new database with nothing in it.
pub async fn empty_database() -> Database {
    let servers = servers().await;
    let name = format!("t{}", Uuid::new_v4().simple());
    let mut admin = PgConnection::connect(&servers.database_url("postgres")).await.expect("PostgreSQL");
    // The name is ours: letters and digits.
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut admin).await.expect("a database");
    admin.close().await.expect("closed");
    let url = servers.database_url(&name);
    Database { pool: pool(&url), url }
}

fn pool(url: &str) -> PgPool {
    let options: PgConnectOptions = url.parse().expect("a URL");
    PgPoolOptions::new().max_connections(POOL_SIZE).connect_lazy_with(options)
}

/// The clock of one database, which a test sets as a person, a time server or a suspended machine would.
#[derive(Clone, Debug)]
pub struct DatabaseClock {
    pool: PgPool,
}

impl DatabaseClock {
    /// Lets the clock run so far from the right time, an interval in PostgreSQL's words.
    pub async fn set(&self, shift: &str) {
        let setting = "UPDATE public.clock SET shift = $1::text::interval, stands_at = NULL";
        sqlx::query(setting).bind(shift).execute(&self.pool).await.expect("set");
    }

    /// Lets the clock stand where it is.
    pub async fn stop(&self) {
        let stopping = "UPDATE public.clock SET stands_at = pg_catalog.now() + shift";
        sqlx::query(stopping).execute(&self.pool).await.expect("stopped");
    }
}
