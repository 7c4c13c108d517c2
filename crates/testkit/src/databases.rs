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
    let options: PgConnectOptions = url.parse().expect("a URL");
    let pool = PgPoolOptions::new().max_connections(POOL_SIZE).connect_lazy_with(options);
    Database { url, pool }
}
