use std::time::Duration;

use pg::{Database, MigrationError};
use runtime::{ServiceRuntime, StoppedEarly, clock::Clock};
use secrecy::SecretString;
use sqlx::{
    AssertSqlSafe, PgPool, SqlSafeStr as _,
    migrate::{Migration, MigrationType, Migrator},
};
use testkit::wait_for;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(30);

fn migrator(steps: &[&'static str]) -> Migrator {
    let steps = steps.iter().zip(1..).map(|(sql, version)| {
        let sql = AssertSqlSafe(*sql).into_sql_str();
        Migration::new(version, format!("step {version}").into(), MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(steps.collect())
}

const FIRST: &str = "CREATE TABLE things (id int)";
const SECOND: &str = "ALTER TABLE things ADD colour text";

async fn database() -> (Database, PgPool) {
    let testkit::Database { url, pool } = testkit::empty_database().await;
    (Database::parse(&SecretString::from(url)).expect("a URL"), pool)
}

fn runtime() -> ServiceRuntime {
    ServiceRuntime::new("test", CancellationToken::new(), Clock::system())
}

async fn says(runtime: &ServiceRuntime, words: &str) -> bool {
    let report = runtime.readiness.report().await;
    !report.ready && report.parts.iter().any(|part| part.detail.as_deref().is_some_and(|why| why.contains(words)))
}

#[tokio::test]
async fn a_migration_takes_as_long_as_it_takes_and_waits_for_locks_only_so_long() {
    let (database, pool) = database().await;
    let settings = "CREATE TABLE seen AS
                    SELECT current_setting('statement_timeout') AS statement, current_setting('lock_timeout') AS lock";
    pg::migrate(&database, "test", &migrator(&[settings])).await.expect("migrated");
    let seen: (String, String) = sqlx::query_as("SELECT * FROM seen").fetch_one(&pool).await.expect("a row");
    assert_eq!(seen, ("0".to_owned(), "10s".to_owned()));
}

#[tokio::test]
async fn a_migration_that_waits_for_a_lock_in_vain_is_undone_and_ends_the_start_by_name() {
    let (database, pool) = database().await;
    pg::migrate(&database, "test", &migrator(&[FIRST])).await.expect("migrated");
    let mut held = pool.begin().await.expect("a transaction");
    sqlx::query("SELECT * FROM things").fetch_all(&mut *held).await.expect("read");
    let error = pg::connect(&runtime(), &database, &migrator(&[FIRST, SECOND])).await.expect_err("a time-out");
    assert!(format!("{error:#}").contains("migration 2 waited 10 s for a lock"), "{error:#}");
    drop(held);
    assert_eq!(pg::migrate(&database, "test", &migrator(&[FIRST, SECOND])).await.expect("migrated"), [2]);
}

#[tokio::test]
async fn an_older_program_refuses_the_tables_of_a_newer_one_and_one_that_runs_goes_on() {
    let (database, _) = database().await;
    let old = migrator(&[FIRST]);
    let running = pg::connect(&runtime(), &database, &old).await.expect("connected");
    pg::migrate(&database, "test", &migrator(&[FIRST, SECOND])).await.expect("migrated");
    sqlx::query("INSERT INTO things (id) VALUES (1)").execute(&running.requests).await.expect("it goes on");

    for migrate_at_start in [true, false] {
        let mut database = database.clone();
        database.migrate_at_start = migrate_at_start;
        let error = pg::connect(&runtime(), &database, &old).await.expect_err("too old");
        let words = "migrated by a newer version (it has migration 2, this program knows migrations up to 1)";
        assert!(format!("{error:#}").contains(words), "{error:#}");
    }
    let error = pg::migrate(&database, "test", &old).await.expect_err("too old");
    assert!(matches!(error, MigrationError::Newer { found: 2, known: 1 }) && !error.may_pass(), "{error}");
}

#[tokio::test]
async fn a_service_that_does_not_migrate_waits_unready_until_it_has_been_done() {
    let (mut database, _) = database().await;
    database.migrate_at_start = false;
    let (runtime, steps) = (runtime(), migrator(&[FIRST, SECOND]));
    let (waiting, waits_for, settings) = (runtime.clone(), migrator(&[FIRST, SECOND]), database.clone());
    let mut connecting = JoinSet::new();
    connecting.spawn(async move { pg::connect(&waiting, &settings, &waits_for).await });
    wait_for("it says what it waits for", PATIENCE, async || says(&runtime, "lacks migration 1").await).await;
    pg::migrate(&database, "test", &migrator(&[FIRST])).await.expect("migrated");
    wait_for("it says what it waits for", PATIENCE, async || says(&runtime, "lacks migration 2").await).await;
    pg::migrate(&database, "test", &steps).await.expect("migrated");
    connecting.join_next().await.expect("a task").expect("no panic").expect("connected");
    assert!(runtime.readiness.report().await.ready);
}

#[tokio::test]
async fn of_many_that_migrate_at_once_each_finds_it_done_and_done_once() {
    let (database, pool) = database().await;
    let mut starting = JoinSet::new();
    for _ in 0..8 {
        let (database, steps) = (database.clone(), migrator(&[FIRST, SECOND]));
        starting.spawn(async move { pg::connect(&runtime(), &database, &steps).await.map(drop) });
    }
    while let Some(started) = starting.join_next().await {
        started.expect("no panic").expect("connected");
    }
    let applied: i64 =
        sqlx::query_scalar("SELECT count(*) FROM _sqlx_migrations").fetch_one(&pool).await.expect("rows");
    assert_eq!(applied, 2);
}

#[tokio::test]
async fn while_another_process_migrates_a_service_waits_and_says_so() {
    let (database, pool) = database().await;
    let mut blocking = pool.begin().await.expect("a transaction");
    sqlx::query("SELECT pg_advisory_xact_lock(7)").execute(&mut *blocking).await.expect("held");
    let mut at_it = JoinSet::new();
    // Its own lock time-out does not count: it waits in a migration that sets none.
    let first = database.clone();
    at_it.spawn(async move {
        let unlimited = migrator(&["SET lock_timeout = 0; SELECT pg_advisory_xact_lock(7)"]);
        pg::migrate(&first, "first", &unlimited).await
    });
    let is_at_it = async || {
        let asked = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                     AND application_name = 'first' AND wait_event = 'advisory')";
        sqlx::query_scalar::<_, bool>(asked).fetch_one(&pool).await.expect("an answer")
    };
    wait_for("a migration that takes long", PATIENCE, is_at_it).await;
    let (runtime, mut second) = (runtime(), JoinSet::new());
    let (starting, settings) = (runtime.clone(), database.clone());
    second.spawn(async move { pg::connect(&starting, &settings, &migrator(&[FIRST])).await });
    wait_for("it says so", PATIENCE, async || says(&runtime, "another process migrates").await).await;
    runtime.tasks.stopping().cancel();
    let error = second.join_next().await.expect("a task").expect("no panic").expect_err("stopped first");
    assert!(error.is::<StoppedEarly>(), "{error:#}");
    drop(blocking);
    at_it.join_next().await.expect("a task").expect("no panic").expect("migrated");
}

#[tokio::test]
async fn a_migration_that_was_changed_afterwards_is_told() {
    let (database, _) = database().await;
    pg::migrate(&database, "test", &migrator(&[FIRST])).await.expect("migrated");
    let changed = migrator(&["CREATE TABLE things (id bigint)"]);
    let error = pg::migrate(&database, "test", &changed).await.expect_err("changed");
    assert!(matches!(error, MigrationError::Changed(1)), "{error}");
}
