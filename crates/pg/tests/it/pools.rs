use std::time::{Duration, Instant};

use pg::{Database, Listener, Pool, Pools};
use runtime::{
    ServiceRuntime,
    clock::Clock,
    config::{ConfigError, Reader},
};
use secrecy::SecretString;
use sqlx::migrate::Migrator;
use testkit::Proxy;
use tokio_util::sync::CancellationToken;

fn runtime() -> ServiceRuntime {
    ServiceRuntime::new("test", CancellationToken::new(), Clock::system())
}

async fn pools(database: &Database) -> Pools {
    pg::connect(&runtime(), database, &Migrator::DEFAULT).await.expect("connected")
}

fn parse(url: impl Into<String>) -> Database {
    Database::parse(&SecretString::from(url.into())).expect("a URL")
}

fn read(vars: &[(&str, &str)]) -> Result<Database, ConfigError> {
    let vars: std::collections::HashMap<_, _> =
        vars.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let mut reader = Reader::new(&vars);
    let database = Database::read(&mut reader, "test");
    reader.finish(|| database)
}

#[test]
fn the_pool_sizes_come_from_the_environment_and_are_checked() {
    const URL: (&str, &str) = ("DATABASE_URL", "postgres://a:hush@localhost/a");
    let by_default = read(&[URL]).expect("defaults");
    assert!(by_default.pool_size > 1 && by_default.background_pool_size > 1 && by_default.migrate_at_start);
    let given =
        [URL, ("DATABASE_POOL_SIZE", "20"), ("DATABASE_BACKGROUND_POOL_SIZE", "1"), ("MIGRATE_AT_START", "false")];
    let database = read(&given).expect("usable");
    assert_eq!((database.pool_size, database.background_pool_size, database.migrate_at_start), (20, 1, false));
    let wrong =
        [URL, ("DATABASE_POOL_SIZE", "0"), ("DATABASE_BACKGROUND_POOL_SIZE", "501"), ("MIGRATE_AT_START", "no")];
    let error = read(&wrong).err().expect("three problems");
    assert_eq!(error.problems().len(), 3, "{error}");
    assert!(error.to_string().contains("DATABASE_POOL_SIZE=0 cannot be used: it must be from 1 to 500"), "{error}");
    assert!(!error.to_string().contains("hush"), "{error}");
}

#[tokio::test]
async fn background_work_that_holds_every_connection_leaves_requests_and_readiness_alone() {
    let database = testkit::empty_database().await;
    let mut settings = parse(database.url);
    settings.background_pool_size = 1;
    let runtime = runtime();
    let pools = pg::connect(&runtime, &settings, &Migrator::DEFAULT).await.expect("connected");
    let _held = pools.background.begin().await.expect("a transaction");
    let mut requests = Vec::new();
    for _ in 0..settings.pool_size {
        requests.push(pg::begin(&pools.requests).await.expect("a connection"));
    }
    assert!(pools.requests.sqlx().try_acquire().is_none() && pools.background.try_acquire().is_none());
    assert!(runtime.readiness.report().await.ready, "a busy database is no database that is away");
}

#[tokio::test]
async fn a_statement_is_ended_by_the_server_in_both_pools() {
    let database = testkit::empty_database().await;
    let pools = pools(&parse(database.url)).await;
    for pool in [pools.requests.sqlx(), &pools.background] {
        let limit: String = sqlx::query_scalar("SHOW statement_timeout").fetch_one(pool).await.expect("a setting");
        assert_eq!(limit, "10s");
    }
}

#[tokio::test]
async fn a_restart_of_the_server_is_not_seen_by_those_who_read_or_begin() {
    let database = testkit::empty_database().await;
    let settings = parse(database.url.clone());
    let pools = pools(&settings).await;
    let pool = &pools.requests;
    // Every connection of the pool has just been used, so none is tested before it is lent.
    let mut held = Vec::new();
    for _ in 0..settings.pool_size {
        held.push(pool.sqlx().acquire().await.expect("a connection"));
    }
    drop(held);
    let all_are_idle = async || pool.sqlx().num_idle() == settings.pool_size as usize;
    testkit::wait_for("idle connections", Duration::from_secs(10), all_are_idle).await;
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE datname = current_database() AND application_name = 'test'";
    sqlx::query(ended).execute(&database.pool).await.expect("ended");
    let ask = || sqlx::query_scalar::<_, i32>("SELECT 1").fetch_one(pool);
    assert_eq!(pg::read(pool, ask).await.expect("an answer"), 1);
    pg::begin(pool).await.expect("a transaction");
}

/// The process that serves the connection which answers.
async fn server(pool: &Pool) -> i32 {
    sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(pool).await.expect("an answer")
}

async fn is_back(pool: &Pool, connections: usize) {
    let is_back = async || pool.sqlx().num_idle() == connections;
    testkit::wait_for("the connections to be back", Duration::from_secs(10), is_back).await;
}

#[tokio::test]
async fn a_connection_goes_from_request_to_request_and_back_when_none_comes() {
    let database = testkit::empty_database().await;
    let pools = pools(&parse(database.url.clone())).await;
    let pool = &pools.requests;
    let first = server(pool).await;
    for _ in 0..20 {
        assert_eq!(server(pool).await, first);
        assert_eq!(pool.sqlx().num_idle(), 0, "it did not go back in between");
    }
    let transaction = pg::begin(pool).await.expect("a transaction");
    drop(transaction);
    is_back(pool, 1).await;
    server(pool).await;
    is_back(pool, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_and_transactions_that_wait_for_one_connection_are_all_served() {
    let database = testkit::empty_database().await;
    let mut settings = parse(database.url.clone());
    settings.pool_size = 1;
    let pool = pools(&settings).await.requests;
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..40 {
        let pool = pool.clone();
        callers.spawn(async move {
            for _ in 0..20 {
                if caller % 2 == 0 {
                    server(&pool).await;
                } else {
                    pg::begin(&pool).await.expect("a transaction").commit().await.expect("committed");
                }
            }
        });
    }
    callers.join_all().await;
    is_back(&pool, 1).await;
}

#[tokio::test]
async fn a_connection_whose_statement_failed_or_was_abandoned_is_not_passed_on() {
    let database = testkit::empty_database().await;
    let pools = pools(&parse(database.url.clone())).await;
    let pool = &pools.requests;
    sqlx::query("SELECT 1 / 0").execute(pool).await.expect_err("it fails");
    is_back(pool, 1).await;
    let asked =
        tokio::time::timeout(Duration::from_millis(50), sqlx::query("SELECT pg_sleep(0.3)").execute(pool)).await;
    asked.expect_err("it was abandoned");
    is_back(pool, 1).await;
    server(pool).await;
}

#[tokio::test]
async fn connections_that_died_silently_are_replaced_within_seconds() {
    let database = testkit::empty_database().await;
    let wire = Proxy::to_postgres().await;
    let mut settings = parse(database.url_at(wire.addr()));
    settings.pool_size = 1;
    let pools = pools(&settings).await;
    let pool = &pools.requests;
    sqlx::query("SELECT 1").execute(pool).await.expect("an answer");
    testkit::wait_for("it is idle", Duration::from_secs(10), async || pool.sqlx().num_idle() == 1).await;
    // Its caller gives up while the only connection waits for an answer that never comes.
    wire.freeze();
    let asked = tokio::time::timeout(Duration::from_millis(100), sqlx::query("SELECT 1").execute(pool)).await;
    asked.expect_err("no answer");
    wire.lose_connections();
    wire.heal();
    let begun = Instant::now();
    let answers = async || sqlx::query("SELECT 1").execute(pool).await.is_ok();
    testkit::wait_for("an answer", Duration::from_secs(10), answers).await;
    assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn a_listener_whose_connection_died_silently_hears_again() {
    let database = testkit::empty_database().await;
    let wire = Proxy::to_postgres().await;
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let runtime = runtime();
    let settings = parse(database.url_at(wire.addr()));
    let hears = move |payload: Option<&str>| told.send(payload.map(str::to_owned)).unwrap_or_default();
    let listener = Listener::default().on("news", hears).on("other news", |_| {});
    runtime.tasks.spawn("listener", listener.run(runtime.clone(), settings));
    assert_eq!(heard.recv().await, Some(None), "what came before may have been missed");
    sqlx::query("NOTIFY news, 'one'").execute(&database.pool).await.expect("told");
    assert_eq!(heard.recv().await, Some(Some("one".to_owned())));
    wire.lose_connections();
    sqlx::query("NOTIFY news, 'two'").execute(&database.pool).await.expect("told");
    // It cannot hear that one, and says so as soon as it has noticed.
    let said = tokio::time::timeout(Duration::from_secs(30), heard.recv()).await.expect("it notices");
    assert_eq!(said, Some(None));
    sqlx::query("NOTIFY news, 'three'").execute(&database.pool).await.expect("told");
    assert_eq!(heard.recv().await, Some(Some("three".to_owned())));
    runtime.tasks.stopping().cancel();
    runtime.tasks.join().await.expect("a clean stop");
}
