//! `flightbell migrate`, and programs that are older than their databases.

use flightbell::{SERVICES, migrate::EXIT_OTHER_VERSION};
use sqlx::{
    AssertSqlSafe, Executor as _, SqlSafeStr as _,
    migrate::{Migration, MigrationType, Migrator},
};
use tokio::process::Command;

use crate::{commands::run, deployment::folder, program};

/// A database for each service, with the key under which it is found.
async fn databases() -> Vec<(&'static str, testkit::Database)> {
    let mut databases = Vec::new();
    for key in [
        "USER_MANAGER_DATABASE_URL",
        "DATA_COLLECTOR_DATABASE_URL",
        "ALERT_SYSTEM_DATABASE_URL",
        "NOTIFIER_DATABASE_URL",
    ] {
        databases.push((key, testkit::empty_database().await));
    }
    databases
}

fn environment(databases: &[(&'static str, testkit::Database)]) -> Vec<(&'static str, String)> {
    databases.iter().map(|(key, database)| (*key, database.url.clone())).collect()
}

/// Every migration of a service, and one that a later version will have.
fn of_a_newer_version(migrations: &Migrator) -> Migrator {
    let sql = AssertSqlSafe("CREATE TABLE of_the_future ()").into_sql_str();
    let future = Migration::new(9000, "future".into(), MigrationType::Simple, sql, false);
    Migrator::with_migrations(migrations.iter().cloned().chain([future]).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_brings_every_database_up_to_date_and_ends() {
    let databases = databases().await;
    let environment = environment(&databases);
    let (code, said) = run(&["migrate", "notifier"], &environment).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("notifier: applied migrations 1 to ") && !said.contains("user-manager"), "{said}");
    let (code, said) = run(&["migrate"], &environment).await;
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("notifier: up to date") && said.contains("user-manager: applied migrations 1 to "), "{said}");
    for ((_, database), spec) in databases.iter().zip(SERVICES) {
        let applied: i64 =
            sqlx::query_scalar("SELECT count(*) FROM _sqlx_migrations").fetch_one(&database.pool).await.expect("rows");
        assert_eq!(usize::try_from(applied).expect("small"), spec.migrations.expect("a database").iter().count());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_version_migrated_is_refused_at_once_by_every_service_and_command() {
    let databases = databases().await;
    for ((_, database), spec) in databases.iter().zip(SERVICES) {
        let newer = of_a_newer_version(spec.migrations.expect("a database"));
        newer.run(&database.pool).await.expect("migrated");
    }
    let mut of_all = environment(&databases);
    let words = "was migrated by a newer version (it has migration 9000";
    let (code, said) = run(&["migrate"], &of_all).await;
    assert_eq!(code, i32::from(EXIT_OTHER_VERSION), "{said}");
    assert_eq!(said.matches(words).count(), SERVICES.len(), "each is named: {said}");

    let shared = [
        ("KAFKA_BROKER_URL", testkit::kafka().await),
        ("TELEGRAM_BOT_TOKEN", "1:a".to_owned()),
        ("USER_MANAGER_GRPC_URL", "http://127.0.0.1:1".to_owned()),
        ("DATA_COLLECTOR_GRPC_URL", "http://127.0.0.1:1".to_owned()),
    ];
    let anywhere = ["HTTP_ADDR", "GRPC_ADDR", "ADMIN_ADDR"].map(|key| (key, "127.0.0.1:0".to_owned()));
    for ((_, database), spec) in databases.iter().zip(SERVICES) {
        let own = [("DATABASE_URL", database.url.clone())];
        let environment: Vec<_> = shared.iter().chain(&anywhere).chain(&own).cloned().collect();
        let mut service = program::start(spec.name, &[], &environment).await;
        assert_eq!(service.code().await, 1, "{}: {}", spec.name, service.log());
        let log = service.log();
        assert!(log.contains(words) && log.contains("use that version or a newer one"), "{}: {log}", spec.name);
    }

    let parent = folder();
    of_all.extend(shared);
    of_all.push(("XDG_CACHE_HOME", parent.path().display().to_string()));
    let data = parent.path().join("data").display().to_string();
    let (code, said) = run(&["up", "--data-dir", &data, "--listen", "127.0.0.1:0"], &of_all).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(words), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_arguments_and_databases_in_disorder_end_migrate_with_their_own_codes() {
    let (code, said) = run(&["migrate", "cook"], &[]).await;
    assert_eq!(code, 2, "{said}");
    assert!(said.contains("there is no service \"cook\" with a database: there are user-manager,"), "{said}");
    let elsewhere = ("NOTIFIER_DATABASE_URL", testkit::empty_database().await.url);
    let another = testkit::empty_database().await;
    let environment = [elsewhere, ("USER_MANAGER_DATABASE_URL", another.url.clone())];
    another.pool.execute("CREATE TABLE users ()").await.expect("a table in the way");
    let (code, said) = run(&["migrate", "user-manager", "notifier"], &environment).await;
    assert_eq!(code, 1, "{said}");
    // One that fails does not keep the others back.
    assert!(said.contains("migrate user-manager: ") && said.contains("already exists"), "{said}");
    assert!(said.contains("notifier: applied migrations"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_migration_that_was_applied_in_another_form_ends_migrate_as_a_newer_version_does() {
    let changed = testkit::empty_database().await;
    let fresh = testkit::empty_database().await;
    let environment =
        [("NOTIFIER_DATABASE_URL", changed.url.clone()), ("USER_MANAGER_DATABASE_URL", fresh.url.clone())];
    let (code, said) = run(&["migrate", "notifier"], &environment).await;
    assert_eq!(code, 0, "{said}");
    changed.pool.execute("UPDATE _sqlx_migrations SET checksum = '\\x00' WHERE version = 1").await.expect("changed");
    let (code, said) = run(&["migrate", "notifier", "user-manager"], &environment).await;
    assert_eq!(code, i32::from(EXIT_OTHER_VERSION), "{said}");
    assert!(said.contains("migration 1 was applied in another form"), "{said}");
    assert!(said.contains("user-manager: applied migrations"), "{said}");
}

/// This one takes the whole minute for which `migrate` waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_away_ends_migrate_with_the_code_of_what_is_worth_repeating() {
    let mut migrate = Command::new(program::binary("flightbell").await);
    migrate.args(["migrate", "notifier"]).env_clear().env("DATABASE_URL", "postgres://a@127.0.0.1:1/a");
    let ended = tokio::time::timeout(2 * program::PATIENCE, migrate.kill_on_drop(true).output()).await;
    let output = ended.expect("it ends").expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("migrate notifier: "), "{said}");
}
