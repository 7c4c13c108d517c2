//! Where the servers are, until the test kit runs them: `DATABASE_URL` names a PostgreSQL on TCP with
//! the right to create databases, `KAFKA_BROKER_URL` a broker for all tests, and `LONE_KAFKA` the pid
//! and the address of a second one.

use std::{net::SocketAddr, time::Duration};

use contracts::topics::Namespace;
use rustix::process::{Pid, Signal, kill_process};
use shell::config::{ProcessEnv, Vars};
use sqlx::{AssertSqlSafe, PgPool, migrate::Migrator};
use uuid::Uuid;

pub struct Database {
    pub url: String,
    pub pool: PgPool,
}

fn setting(key: &str) -> String {
    ProcessEnv.get(key).unwrap_or_else(|| panic!("{key} is not set"))
}

pub async fn database(migrator: &Migrator) -> Database {
    let name = format!("t{}", Uuid::new_v4().simple());
    let server = setting("DATABASE_URL");
    let (server, _) = server.rsplit_once('/').expect("a URL with a database");
    let admin = PgPool::connect(&format!("{server}/postgres")).await.expect("the server");
    sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&admin).await.expect("a database");
    admin.close().await;
    let url = format!("{server}/{name}");
    let pool = PgPool::connect(&url).await.expect("the database");
    migrator.run(&pool).await.expect("migrations");
    Database { url, pool }
}

pub fn postgres_addr() -> SocketAddr {
    let url: url::Url = setting("DATABASE_URL").parse().expect("a URL");
    format!("{}:{}", url.host_str().expect("a host"), url.port().expect("a port")).parse().expect("an address")
}

pub async fn kafka() -> String {
    setting("KAFKA_BROKER_URL")
}

/// A broker of one's own.
pub struct Kafka {
    pub bootstrap: String,
    pid: Pid,
}

/// A frozen broker, until it is dropped.
pub struct Frozen(Pid);

pub async fn lone_kafka() -> Kafka {
    let setting = setting("LONE_KAFKA");
    let (pid, bootstrap) = setting.trim().split_once(' ').expect("a pid and an address");
    let pid = pid.parse().ok().and_then(Pid::from_raw).expect("a pid");
    Kafka { bootstrap: bootstrap.to_owned(), pid }
}

impl Kafka {
    pub fn freeze(&self) -> Frozen {
        kill_process(self.pid, Signal::STOP).expect("a signal");
        Frozen(self.pid)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        kill_process(self.0, Signal::CONT).expect("a signal");
    }
}

pub fn topics() -> Namespace {
    Namespace::prefixed(format!("t{}.", Uuid::new_v4().simple()))
}

pub async fn wait_for(what: &str, limit: Duration, mut done: impl AsyncFnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !done().await {
        assert!(begun.elapsed() < limit, "waited {limit:?} for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn http_client() -> reqwest::Client {
    drop(rustls::crypto::ring::default_provider().install_default());
    reqwest::Client::new()
}
