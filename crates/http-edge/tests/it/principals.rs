//! Transactions by principal, on a real PostgreSQL.

use pg::{Database, Pool, begin, begin_as};
use runtime::{ServiceRuntime, clock::Clock, principal::Principal};
use sqlx::{AssertSqlSafe, PgExecutor, migrate::Migrator};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const SETTING: &str = "SELECT current_setting('flightbell.principal', true)";

/// A pool of one connection, which each transaction gets after the one before.
async fn pool() -> Pool {
    let database = testkit::empty_database().await;
    let mut settings = Database::parse(&database.url.into()).expect("a URL");
    settings.pool_size = 1;
    let runtime = ServiceRuntime::new("test", CancellationToken::new(), Clock::system());
    pg::connect(&runtime, &settings, &Migrator::DEFAULT).await.expect("a connection").requests
}

/// Who asks, as a policy reads it: outside of a transaction that says so, no principal.
async fn principal(connection: impl PgExecutor<'_>) -> Option<String> {
    let setting: Option<String> = sqlx::query_scalar(SETTING).fetch_one(connection).await.expect("a setting");
    setting.filter(|name| !name.is_empty())
}

#[tokio::test]
async fn a_principal_holds_for_its_transaction_and_is_never_left_on_the_connection() {
    let pool = pool().await;
    let ada = Principal::User(Uuid::from_u128(7));
    let notifier = Principal::Service("notifier".parse().expect("a name"));
    assert_eq!(principal(&pool).await, None);
    for who in [ada, notifier, Principal::Anonymous] {
        let mut transaction = begin_as(&pool, &who).await.expect("begun");
        assert_eq!(principal(&mut *transaction).await.as_deref(), Some(&*who.key()));
        transaction.commit().await.expect("committed");
        assert_eq!(principal(&pool).await, None, "after a commit");

        let mut transaction = begin_as(&pool, &who).await.expect("begun");
        sqlx::query("SELECT 1 / 0").execute(&mut *transaction).await.expect_err("a broken transaction");
        drop(transaction);
        let mut other = begin(&pool).await.expect("begun");
        assert_eq!(principal(&mut *other).await, None, "after a transaction that was dropped");
    }
}

#[tokio::test]
async fn what_is_changed_by_a_principal_is_undone_with_its_transaction() {
    let pool = pool().await;
    sqlx::query("CREATE TABLE things (id int)").execute(&pool).await.expect("a table");
    let mut transaction = begin_as(&pool, &Principal::Anonymous).await.expect("begun");
    sqlx::query("INSERT INTO things VALUES (1)").execute(&mut *transaction).await.expect("a row");
    transaction.rollback().await.expect("undone");
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM things").fetch_one(&pool).await.expect("a count");
    assert_eq!(count, 0);
}

#[tokio::test]
async fn a_row_policy_can_compare_with_the_principal() {
    let pool = pool().await;
    let ada = Principal::User(Uuid::from_u128(7));
    let role = format!("api_{}", Uuid::new_v4().simple());
    let tables = "CREATE TABLE notes (owner text NOT NULL, words text NOT NULL);
                  INSERT INTO notes VALUES ('user:00000000-0000-0000-0000-000000000007', 'ada'), ('anonymous', 'none'), ('', '');
                  ALTER TABLE notes ENABLE ROW LEVEL SECURITY;
                  CREATE POLICY own ON notes USING (owner = nullif(current_setting('flightbell.principal', true), ''));
                  CREATE ROLE api; GRANT SELECT ON notes TO api";
    // Roles belong to the server, which other tests use as well.
    let tables = tables.replace(" api", &format!(" {role}"));
    sqlx::raw_sql(AssertSqlSafe(tables)).execute(&pool).await.expect("the tables");
    let seen = async |principal: Option<&Principal>| {
        let mut transaction = match principal {
            Some(principal) => begin_as(&pool, principal).await.expect("begun"),
            None => begin(&pool).await.expect("begun"),
        };
        sqlx::raw_sql(AssertSqlSafe(format!("SET LOCAL ROLE {role}")))
            .execute(&mut *transaction)
            .await
            .expect("a role");
        let words = sqlx::query_scalar::<_, String>("SELECT words FROM notes").fetch_all(&mut *transaction).await;
        words.expect("rows")
    };
    assert_eq!(seen(None).await, Vec::<String>::new());
    assert_eq!(seen(Some(&ada)).await, ["ada"]);
    assert_eq!(seen(Some(&Principal::User(Uuid::from_u128(8)))).await, Vec::<String>::new());
    assert_eq!(seen(Some(&Principal::Anonymous)).await, ["none"]);
    assert_eq!(seen(None).await, Vec::<String>::new(), "the connection that served others");
}
