use std::time::{Duration, Instant};

use pg::{Database, Listener, Pool, Pools};
use runtime::{
    ServiceRuntime,
    clock::Clock,
    config::{ConfigError, Reader},
    principal::Principal,
};
use secrecy::SecretString;
use sqlx::{AssertSqlSafe, Connection, Executor as _, PgConnection, migrate::Migrator, postgres::PgConnectOptions};
use testkit::Proxy;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

fn runtime() -> ServiceRuntime {
    ServiceRuntime::new("test", CancellationToken::new(), Clock::system())
}

async fn pools(database: &Database) -> Pools {
    pg::connect(&runtime(), database, &Migrator::DEFAULT).await.expect("connected")
}

fn parse(url: impl Into<String>) -> Database {
    Database::parse(&SecretString::from(url.into())).expect("a URL")
}

/// A pool for requests of so many connections.
async fn requests(url: String, size: u32) -> Pool {
    let mut settings = parse(url);
    settings.pool_size = size;
    pools(&settings).await.requests
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
    let _held = pg::begin(&pools.background).await.expect("a transaction");
    let mut requests = Vec::new();
    for _ in 0..settings.pool_size {
        requests.push(pg::begin(&pools.requests).await.expect("a connection"));
    }
    assert!([&pools.requests, &pools.background].iter().all(|pool| pool.sqlx().try_acquire().is_none()));
    assert!(runtime.readiness.report().await.ready, "a busy database is no database that is away");
}

#[tokio::test]
async fn a_statement_is_ended_by_the_server_in_both_pools() {
    let database = testkit::empty_database().await;
    let pools = pools(&parse(database.url)).await;
    for pool in [&pools.requests, &pools.background] {
        let limit: String = sqlx::query_scalar("SHOW statement_timeout").fetch_one(pool).await.expect("a setting");
        assert_eq!(limit, "10s");
    }
}

#[tokio::test]
async fn a_request_looks_up_by_index_also_on_a_connection_that_looked_when_the_table_was_empty() {
    let database = testkit::empty_database().await;
    // PostgreSQL knows that the table is empty, as it does after a clean-up, and is not told of what comes.
    let table = "CREATE TABLE parcels (id int PRIMARY KEY, owner int) WITH (autovacuum_enabled = off);
                 CREATE INDEX ON parcels (owner);";
    sqlx::raw_sql(table).execute(&database.pool).await.expect("a table");
    sqlx::raw_sql("VACUUM ANALYZE parcels").execute(&database.pool).await.expect("numbers for the planner");
    let pool = requests(database.url, 1).await;
    let mut connection = pool.sqlx().acquire().await.expect("a connection");
    let statements = ["SELECT owner FROM parcels WHERE id = $1", "SELECT id FROM parcels WHERE owner = $1"];
    // After five times PostgreSQL keeps the plan of a prepared statement.
    for owner in 0..7 {
        for statement in statements {
            sqlx::query(statement).bind(owner).execute(&mut *connection).await.expect("nothing");
        }
    }
    let many = "INSERT INTO parcels SELECT n, n FROM generate_series(1, 20000) n";
    sqlx::query(many).execute(&database.pool).await.expect("many rows");
    sqlx::query("BEGIN").execute(&mut *connection).await.expect("begun");
    for statement in statements {
        sqlx::query(statement).bind(7).execute(&mut *connection).await.expect("one row");
    }
    let looked_at = "SELECT pg_stat_get_xact_tuples_returned(oid) + pg_stat_get_xact_tuples_fetched(oid)
                     FROM pg_class WHERE relname = 'parcels'";
    let looked_at: i64 = sqlx::query_scalar(looked_at).fetch_one(&mut *connection).await.expect("a number");
    assert!(looked_at < 10, "{looked_at} rows were looked at");
}

#[tokio::test]
async fn a_restart_of_the_server_is_not_seen_by_those_who_read_or_begin() {
    let database = testkit::empty_database().await;
    let settings = parse(database.url.clone());
    let pools = pools(&settings).await;
    let pool = &pools.requests;
    // Every connection of the pool has just been used, so none is tested before it is lent.
    let used = (0..settings.pool_size).map(|_| sqlx::query("SELECT pg_sleep(0.1)").execute(pool));
    futures::future::try_join_all(used).await.expect("all are used");
    assert_eq!(pool.sqlx().size(), settings.pool_size);
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

async fn are_back(pool: &Pool, connections: usize) {
    let are_back = async || pool.sqlx().num_idle() == connections;
    testkit::wait_for("the connections to be back", Duration::from_secs(10), are_back).await;
}

#[tokio::test]
async fn a_connection_goes_from_request_to_request_and_back_when_none_comes() {
    let database = testkit::empty_database().await;
    let pools = pools(&parse(database.url)).await;
    let pool = &pools.requests;
    let first = server(pool).await;
    let mut stayed = 0;
    for turn in 0..40 {
        if turn % 2 == 0 {
            assert_eq!(server(pool).await, first);
        } else {
            pg::begin(pool).await.expect("a transaction").commit().await.expect("committed");
        }
        stayed += usize::from(pool.sqlx().num_idle() == 0);
    }
    // On a machine that stands still for a second, some goes back.
    assert!(stayed > 20, "it went back in between: it stayed {stayed} times of 40");
    are_back(pool, 1).await;
    assert_eq!(server(pool).await, first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_who_wait_for_a_few_connections_are_all_served_though_some_give_up() {
    let database = testkit::empty_database().await;
    let pool = requests(database.url, 2).await;
    let mut callers = JoinSet::new();
    for caller in 0..20 {
        let pool = pool.clone();
        callers.spawn(async move {
            for turn in 0..50 {
                match caller {
                    0 => pg::begin(&pool).await.expect("a transaction").commit().await.expect("committed"),
                    1 => drop(pg::begin(&pool).await.expect("a transaction")),
                    // Whose caller goes away, sooner or later: before it has a connection, or in the middle.
                    2 | 3 => {
                        let statement = sqlx::query("SELECT pg_sleep(0.005)").execute(&pool);
                        let ended = tokio::time::timeout(Duration::from_micros(turn * 500), statement).await;
                        assert!(ended.is_err() || ended.is_ok_and(|answer| answer.is_ok()));
                    }
                    _ => assert!(server(&pool).await > 0),
                }
            }
        });
    }
    callers.join_all().await;
    assert!(pool.sqlx().size() <= 2);
    are_back(&pool, 2).await;
}

#[tokio::test]
async fn who_gets_no_connection_in_time_is_told_so_and_a_caller_that_gives_up_leaves_its_place() {
    let database = testkit::empty_database().await;
    let pool = requests(database.url, 1).await;
    let held = pg::begin(&pool).await.expect("the connection");
    let given_up = tokio::time::timeout(Duration::from_millis(50), server(&pool)).await;
    given_up.expect_err("there is no connection");
    let refused = sqlx::query("SELECT 1").execute(&pool).await.expect_err("there is no connection");
    assert!(pg::is_unavailable(&refused), "{refused}");
    held.rollback().await.expect("undone");
    server(&pool).await;
}

#[tokio::test]
async fn an_account_that_may_not_sign_in_while_it_is_changed_passes_for_a_server_that_is_away() {
    let database = testkit::empty_database().await;
    let options: PgConnectOptions = database.url.parse().expect("a URL");
    let mut owner = PgConnection::connect_with(&options).await.expect("a connection");
    let role = format!("test_{}", Uuid::now_v7().simple());
    owner.execute(AssertSqlSafe(format!("CREATE ROLE {role} NOLOGIN"))).await.expect("a role");
    let refused = PgConnection::connect_with(&options.username(&role)).await.expect_err("it may not sign in");
    owner.execute(AssertSqlSafe(format!("DROP ROLE {role}"))).await.expect("the role is gone");
    assert!(pg::is_unavailable(&refused), "{refused}");
}

#[tokio::test]
async fn a_connection_whose_statement_failed_or_was_abandoned_is_cleared_up_by_sqlx() {
    let database = testkit::empty_database().await;
    let pool = requests(database.url, 1).await;
    sqlx::query("SELECT 1 / 0").execute(&pool).await.expect_err("it fails");
    are_back(&pool, 1).await;
    let asked = sqlx::query("SELECT pg_sleep(0.3)").execute(&pool);
    tokio::time::timeout(Duration::from_millis(50), asked).await.expect_err("it was abandoned");
    are_back(&pool, 1).await;
    sqlx::query("CREATE TABLE things (id int)").execute(&pool).await.expect("a table");
    let mut transaction = pg::begin(&pool).await.expect("begun");
    sqlx::query("INSERT INTO things VALUES (1)").execute(&mut *transaction).await.expect("a row");
    drop(transaction);
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM things").fetch_one(&pool).await.expect("a count");
    assert_eq!(count, 0);
}

#[tokio::test]
async fn a_caller_who_goes_away_while_a_transaction_begins_leaves_nothing_of_it_to_the_next() {
    let database = testkit::empty_database().await;
    let wire = Proxy::to_postgres().await;
    let pool = requests(database.url_at(wire.addr()), 1).await;
    server(&pool).await;
    wire.freeze();
    let ada = Principal::User(Uuid::from_u128(7));
    tokio::time::timeout(Duration::from_millis(100), pg::begin_as(&pool, &ada)).await.expect_err("no answer");
    wire.heal();
    let setting = "SELECT coalesce(current_setting('flightbell.principal', true), '')";
    let setting: String = sqlx::query_scalar(setting).fetch_one(&pool).await.expect("a setting");
    assert_eq!(setting, "", "the next caller asks as nobody");
    let open = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'test' AND state LIKE 'idle in transaction%'";
    let none_is_open = async || {
        let open: i64 = sqlx::query_scalar(open).fetch_one(&database.pool).await.expect("a count");
        open == 0
    };
    testkit::wait_for("the transaction to end", Duration::from_secs(10), none_is_open).await;
}

#[tokio::test]
async fn a_transaction_whose_savepoint_was_cut_off_is_not_said_to_be_committed() {
    let database = testkit::empty_database().await;
    sqlx::query("CREATE TABLE things (id int)").execute(&database.pool).await.expect("a table");
    let wire = Proxy::to_postgres().await;
    let pool = requests(database.url_at(wire.addr()), 1).await;
    let insert = "INSERT INTO things VALUES (1)";
    for is_committed in [true, false] {
        let mut transaction = pg::begin(&pool).await.expect("begun");
        sqlx::query(insert).execute(&mut *transaction).await.expect("a row");
        wire.freeze();
        tokio::time::timeout(Duration::from_millis(100), transaction.begin()).await.expect_err("no answer");
        wire.heal();
        if is_committed {
            transaction.commit().await.expect_err("it was rolled back");
        } else {
            transaction.rollback().await.expect("it was rolled back");
        }
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM things").fetch_one(&pool).await.expect("a count");
        assert_eq!(count, 0);
    }
}

#[tokio::test]
async fn a_connection_that_dies_silently_while_it_is_kept_is_replaced_within_seconds() {
    let database = testkit::empty_database().await;
    let wire = Proxy::to_postgres().await;
    let pool = requests(database.url_at(wire.addr()), 1).await;
    server(&pool).await;
    wire.freeze();
    wire.lose_connections();
    wire.heal();
    let begun = Instant::now();
    let answers = async || sqlx::query("SELECT 1").execute(&pool).await.is_ok();
    // A caller of the first second asks the dead connection, and gives up as the edges do.
    let answers = async || tokio::time::timeout(Duration::from_secs(2), answers()).await.unwrap_or(false);
    testkit::wait_for("an answer", Duration::from_secs(10), answers).await;
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
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

#[tokio::test]
async fn the_metrics_show_who_holds_connections_and_who_waits_for_one() {
    let database = testkit::empty_database().await;
    let runtime = runtime();
    let mut settings = parse(&database.url);
    settings.pool_size = 2;
    let pools = pg::connect(&runtime, &settings, &Migrator::DEFAULT).await.expect("connected");
    let shown = |name: &str, labels: &str| {
        let text = runtime::metrics::render([&runtime.registry].into_iter()).expect("text");
        let line = format!("{name}{{{labels}}} ");
        text.lines().find_map(|shown| shown.strip_prefix(&line)?.parse::<i64>().ok())
    };
    let requests = |name: &str, more: &str| shown(name, &format!("pool=\"requests\",service=\"test\"{more}"));
    let connections = |state: &str| requests("database_connections", &format!(",state=\"{state}\""));
    assert_eq!((connections("in_use"), connections("idle")), (Some(0), Some(0)));
    assert_eq!(requests("database_connections_max", ""), Some(2));
    assert_eq!(shown("database_connections_max", "pool=\"background\",service=\"test\""), Some(5));

    let who = Principal::Anonymous;
    let first = pg::begin_as(&pools.requests, &who).await.expect("begun");
    let second = pg::begin_as(&pools.requests, &who).await.expect("begun");
    assert_eq!((connections("in_use"), connections("idle")), (Some(2), Some(0)));
    let mut third = JoinSet::new();
    let pool = pools.requests.clone();
    third.spawn(async move { pg::begin_as(&pool, &Principal::Anonymous).await.expect("begun").commit().await });
    let waits = async || requests("database_callers_waiting", "") == Some(1);
    testkit::wait_for("a caller who waits", Duration::from_secs(10), waits).await;
    first.commit().await.expect("committed");
    third.join_next().await.expect("a task").expect("joined").expect("committed");
    second.commit().await.expect("committed");
    let rest = (connections("in_use"), connections("idle"), requests("database_callers_waiting", ""));
    assert_eq!(rest, (Some(0), Some(2), Some(0)));
}
