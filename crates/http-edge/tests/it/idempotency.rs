use std::time::Duration;

use axum::{
    http::{HeaderMap, HeaderValue, Method, StatusCode},
    response::{IntoResponse, Response},
};
use http_body_util::BodyExt;
use http_edge::{
    Mutation, Problem,
    idempotency::{Answer, Begun, Fingerprint, IdempotentTransaction, Key, begin, clean_up, remove_old, replay},
};
use pg::{Pool, clock::SteadyClock};
use runtime::{ServiceRuntime, clock::Clock, periodic, principal::Principal};
use serde_json::json;
use sqlx::migrate::Migrator;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

const TABLES: &str = "CREATE TABLE idempotency_keys (caller text NOT NULL, key text NOT NULL, request bytea NOT NULL, \
                      status smallint NOT NULL, body text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), \
                      principal text NOT NULL DEFAULT 'anonymous', PRIMARY KEY (caller, key))";

async fn pool() -> Pool {
    prepared(&testkit::empty_database().await).await
}

async fn prepared(database: &testkit::Database) -> Pool {
    sqlx::query(TABLES).execute(&database.pool).await.expect("the keys");
    sqlx::query("CREATE TABLE effects (id int)").execute(&database.pool).await.expect("the effects");
    database.pool.clone().into()
}

fn key(value: &str) -> Option<Key> {
    let headers = HeaderMap::from_iter([(
        "idempotency-key".parse().expect("a name"),
        HeaderValue::try_from(value).expect("a value"),
    )]);
    Key::optional(&headers).expect("a key")
}

fn request(body: &[u8]) -> Fingerprint<'_> {
    Fingerprint {
        principal: &Principal::Anonymous,
        caller: "ada@example.org",
        method: &Method::POST,
        path: "/users",
        body,
    }
}

async fn fresh(pool: &Pool, body: &[u8]) -> IdempotentTransaction {
    match begin(pool, key("k"), request(body)).await.expect("begun") {
        Begun::Fresh(attempt) => attempt,
        Begun::Replayed(_) => panic!("nothing was answered yet"),
    }
}

async fn effect(attempt: &mut IdempotentTransaction) {
    sqlx::query("INSERT INTO effects VALUES (1)").execute(attempt.connection()).await.expect("the effect");
}

async fn effects(pool: &Pool) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM effects").fetch_one(pool).await.expect("a count")
}

async fn text(response: Response) -> String {
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8(body.to_vec()).expect("text")
}

fn created() -> Answer {
    Answer { status: StatusCode::CREATED, body: json!({"message": "made"}) }
}

#[tokio::test]
async fn a_repeated_request_is_answered_as_before_and_happens_once() {
    let pool = pool().await;
    let mut attempt = fresh(&pool, b"{}").await;
    effect(&mut attempt).await;
    let first = attempt.finish(Ok(created())).await.expect("answered");
    let Begun::Replayed(second) = begin(&pool, key("k"), request(b"{}")).await.expect("begun") else {
        panic!("the request was answered before")
    };
    assert_eq!(first.status(), second.status());
    assert_eq!(second.headers()["idempotent-replayed"], "true");
    assert_eq!(text(first).await, text(second).await);
    assert_eq!(effects(&pool).await, 1);
}

#[tokio::test]
async fn a_key_reused_for_another_request_is_refused() {
    let pool = pool().await;
    fresh(&pool, b"{}").await.finish(Ok(created())).await.expect("answered");
    let problem = begin(&pool, key("k"), request(b"{\"a\":1}")).await.err().expect("refused");
    assert_eq!(problem.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn another_caller_may_use_the_same_key() {
    let pool = pool().await;
    fresh(&pool, b"{}").await.finish(Ok(created())).await.expect("answered");
    let other = Fingerprint { caller: "bob@example.org", ..request(b"{}") };
    assert!(matches!(begin(&pool, key("k"), other).await, Ok(Begun::Fresh(_))));
}

#[tokio::test]
async fn principals_with_the_same_key_do_not_meet() {
    let pool = pool().await;
    let (ada, bob) = (Principal::User(Uuid::from_u128(1)), Principal::User(Uuid::from_u128(2)));
    let notifier = Principal::Service("notifier".parse().expect("a name"));
    let principals = [&ada, &bob, &notifier, &Principal::Anonymous];
    // The same request under the same key, about the same person.
    let asked = |principal| Fingerprint { principal, ..request(b"{}") };
    let mut running = Vec::new();
    for principal in principals {
        let Begun::Fresh(mut attempt) = begin(&pool, key("k"), asked(principal)).await.expect("begun") else {
            panic!("{principal:?} was answered with another's answer")
        };
        effect(&mut attempt).await;
        running.push(attempt);
    }
    for (attempt, number) in running.into_iter().zip(0..) {
        let answer = Answer { status: StatusCode::CREATED, body: json!({"number": number}) };
        attempt.finish(Ok(answer)).await.expect("answered");
    }
    assert_eq!(effects(&pool).await, 4);
    for (principal, number) in principals.into_iter().zip(0..) {
        let again = replay(&pool, &key("k").expect("a key"), asked(principal)).await.expect("found");
        assert_eq!(text(again.expect("an answer")).await, json!({"number": number}).to_string());
    }
    // A principal's key is one key, whomever the request is about.
    let about_another = Fingerprint { caller: "bob@example.org", ..asked(&ada) };
    assert!(matches!(begin(&pool, key("k"), about_another).await, Ok(Begun::Replayed(_))));
}

#[tokio::test]
async fn a_key_from_before_there_were_principals_is_an_anonymous_callers() {
    let pool = pool().await;
    fresh(&pool, b"{}").await.finish(Ok(created())).await.expect("answered");
    // As an older replica writes it.
    let copied = "INSERT INTO idempotency_keys (caller, key, request, status, body)
                  SELECT caller, 'old', request, status, body FROM idempotency_keys";
    sqlx::query(copied).execute(&pool).await.expect("a row");
    assert!(matches!(begin(&pool, key("old"), request(b"{}")).await, Ok(Begun::Replayed(_))));
    let ada = Principal::User(Uuid::from_u128(1));
    let asked = Fingerprint { principal: &ada, ..request(b"{}") };
    assert!(matches!(begin(&pool, key("old"), asked).await, Ok(Begun::Fresh(_))));
}

#[tokio::test]
async fn the_effect_is_had_in_the_name_of_whoever_asks() {
    let pool = pool().await;
    let ada = Principal::User(Uuid::from_u128(1));
    for keyed in [None, key("k")] {
        let mutation = Mutation { key: keyed, request: Fingerprint { principal: &ada, ..request(b"{}") } };
        let settled = mutation.settle(&pool, async |connection| {
            let name: String =
                sqlx::query_scalar("SELECT current_setting('flightbell.principal')").fetch_one(connection).await?;
            Ok(Answer { status: StatusCode::OK, body: json!(name) })
        });
        let settled = settled.await.expect("settled");
        assert!(settled.is_done());
        assert_eq!(text(settled.into_response()).await, json!(ada.key()).to_string());
    }
}

#[tokio::test]
async fn a_key_does_not_keep_its_callers_address() {
    let pool = pool().await;
    fresh(&pool, b"{}").await.finish(Ok(created())).await.expect("answered");
    let row: String =
        sqlx::query_scalar("SELECT keys::text FROM idempotency_keys keys").fetch_one(&pool).await.expect("a row");
    assert!(!row.contains("ada"), "{row}");
    // The same digest as the migrations make of the callers that were stored before.
    let known = "SELECT caller = encode(sha256(convert_to('ada@example.org', 'UTF8')), 'hex') FROM idempotency_keys";
    assert!(sqlx::query_scalar::<_, bool>(known).fetch_one(&pool).await.expect("a row"));
}

#[tokio::test]
async fn while_the_first_runs_others_are_answered_at_once() {
    let pool = pool().await;
    let running = fresh(&pool, b"{}").await;
    let problem = begin(&pool, key("k"), request(b"{}")).await.err().expect("refused");
    assert_eq!(problem.status(), StatusCode::CONFLICT);
    assert!(problem.body().contains("already in progress"), "{}", problem.body());
    running.finish(Ok(created())).await.expect("answered");
}

#[tokio::test]
async fn a_crash_between_effect_and_answer_leaves_nothing() {
    let pool = pool().await;
    let mut attempt = fresh(&pool, b"{}").await;
    effect(&mut attempt).await;
    drop(attempt);
    // The transaction is rolled back as its connection comes back to the pool; until then the first attempt is under way.
    let is_fresh = async || matches!(begin(&pool, key("k"), request(b"{}")).await, Ok(Begun::Fresh(_)));
    testkit::wait_for("the key", Duration::from_secs(10), is_fresh).await;
    assert_eq!(effects(&pool).await, 0);
}

#[tokio::test]
async fn a_client_error_undoes_the_effect_and_is_replayed() {
    let pool = pool().await;
    let mut attempt = fresh(&pool, b"{}").await;
    effect(&mut attempt).await;
    let taken = Problem::new(StatusCode::CONFLICT, "User already exists");
    attempt.finish(Err(taken)).await.expect_err("a conflict");
    assert_eq!(effects(&pool).await, 0);
    let Begun::Replayed(again) = begin(&pool, key("k"), request(b"{}")).await.expect("begun") else {
        panic!("the conflict was stored")
    };
    assert_eq!(again.status(), StatusCode::CONFLICT);
    assert_eq!(again.headers()["content-type"], "application/problem+json");
    assert!(text(again).await.contains("User already exists"));
}

#[tokio::test]
async fn a_fault_of_ours_is_not_stored() {
    let pool = pool().await;
    let mut attempt = fresh(&pool, b"{}").await;
    effect(&mut attempt).await;
    attempt.finish(Err(Problem::internal("test", &"boom"))).await.expect_err("a fault");
    assert_eq!(effects(&pool).await, 0);
    assert!(matches!(begin(&pool, key("k"), request(b"{}")).await, Ok(Begun::Fresh(_))));
}

#[tokio::test]
async fn a_key_is_new_again_once_it_was_removed_after_a_day() {
    let pool = pool().await;
    fresh(&pool, b"{}").await.finish(Ok(created())).await.expect("answered");
    let clock = SteadyClock::new(Duration::ZERO);
    remove_old(&pool, &clock).await.expect("nothing is old");
    assert!(matches!(begin(&pool, key("k"), request(b"{}")).await, Ok(Begun::Replayed(_))));
    let aged = "UPDATE idempotency_keys SET created_at = now() - interval '25 hours'";
    sqlx::query(aged).execute(&pool).await.expect("aged");
    assert!(matches!(begin(&pool, key("k"), request(b"{}")).await, Ok(Begun::Replayed(_))), "it is still stored");
    remove_old(&pool, &clock).await.expect("removed");
    fresh(&pool, b"{\"a\":1}").await.finish(Ok(created())).await.expect("answered");
}

#[tokio::test]
async fn a_key_from_the_future_of_a_clock_that_stepped_back_still_replays_and_is_kept_a_day_from_now() {
    let pool = pool().await;
    fresh(&pool, b"{}").await.finish(Ok(created())).await.expect("answered");
    let ahead = "UPDATE idempotency_keys SET created_at = now() + interval '3 years'";
    sqlx::query(ahead).execute(&pool).await.expect("ahead");
    let runtime = ServiceRuntime::new("test", CancellationToken::new(), Clock::system());
    periodic::spawn(&runtime, [clean_up(pool.clone(), SteadyClock::new(Duration::ZERO))]);
    let begins_now = async || {
        let asked = "SELECT created_at <= now() FROM idempotency_keys";
        sqlx::query_scalar::<_, bool>(asked).fetch_one(&pool).await.expect("a key")
    };
    testkit::wait_for("its day to begin", Duration::from_secs(10), begins_now).await;
    assert!(matches!(begin(&pool, key("k"), request(b"{}")).await, Ok(Begun::Replayed(_))));
    runtime.tasks.stopping().cancel();
    runtime.tasks.join().await.expect("a clean stop");
}

/// Stores a key that was used so long ago and has another body than [`request`]'s.
async fn store_older_key(pool: &Pool, age: &str) {
    let copied = "INSERT INTO idempotency_keys (caller, key, request, status, body, created_at)
                  SELECT caller, 'older', '', status, body, now() - $1::text::interval FROM idempotency_keys";
    sqlx::query(copied).bind(age).execute(pool).await.expect("a row");
}

/// Removes what is old, again and again, until the clock is trusted and so a key of 25 hours ago is gone.
async fn wait_until_trusted(pool: &Pool, clock: &SteadyClock) {
    store_older_key(pool, "25 hours").await;
    let is_gone = async || {
        remove_old(pool, clock).await.expect("a look");
        let asked = "SELECT count(*) FROM idempotency_keys WHERE key = 'older'";
        sqlx::query_scalar::<_, i64>(asked).fetch_one(pool).await.expect("a count") == 0
    };
    testkit::wait_for("the clock to be trusted", Duration::from_secs(20), is_gone).await;
}

#[tokio::test]
async fn a_clock_that_is_set_by_hours_or_years_repeats_no_effect() {
    let mut database = testkit::empty_database().await;
    let set = database.with_clock().await;
    let pool = prepared(&database).await;
    let mut attempt = fresh(&pool, b"{}").await;
    effect(&mut attempt).await;
    attempt.finish(Ok(created())).await.expect("answered");
    let is_replayed = async || matches!(begin(&pool, key("k"), request(b"{}")).await, Ok(Begun::Replayed(_)));
    let clock = SteadyClock::new(Duration::from_millis(200));
    for shift in ["25 hours", "10 years", "-10 years", "-25 hours"] {
        wait_until_trusted(&pool, &clock).await;
        set.set(shift).await;
        assert!(is_replayed().await, "before a clean-up, {shift}");
        remove_old(&pool, &clock).await.expect("a look");
        assert!(is_replayed().await, "after a clean-up, {shift}");
        let known = replay(&pool, &key("k").expect("a key"), request(b"{}")).await.expect("found");
        assert!(known.is_some(), "by a look alone, {shift}");
        // And when it is set right again.
        set.set("0").await;
        remove_old(&pool, &clock).await.expect("a look");
        assert!(is_replayed().await, "set right after {shift}");
    }
    assert_eq!(effects(&pool).await, 1);
}

#[tokio::test]
async fn a_clock_that_stood_still_for_hours_and_is_set_right_repeats_no_effect() {
    let mut database = testkit::empty_database().await;
    let set = database.with_clock().await;
    let pool = prepared(&database).await;
    let clock = SteadyClock::new(Duration::from_millis(200));
    // A key that was used when the clock stood.
    set.stop().await;
    fresh(&pool, b"{}").await.finish(Ok(created())).await.expect("answered");
    wait_until_trusted(&pool, &clock).await;
    assert!(matches!(begin(&pool, key("k"), request(b"{}")).await, Ok(Begun::Replayed(_))));
    set.set("25 hours").await;
    remove_old(&pool, &clock).await.expect("a look");
    assert!(matches!(begin(&pool, key("k"), request(b"{}")).await, Ok(Begun::Replayed(_))));
}

#[tokio::test]
async fn a_look_at_a_key_neither_waits_nor_keeps_a_connection() {
    let pool = pool().await;
    let key = key("k").expect("a key");
    assert!(replay(&pool, &key, request(b"{}")).await.expect("nothing yet").is_none());
    let running = fresh(&pool, b"{}").await;
    assert!(replay(&pool, &key, request(b"{}")).await.expect("nothing yet").is_none());
    running.finish(Ok(created())).await.expect("answered");
    let again = replay(&pool, &key, request(b"{}")).await.expect("found").expect("an answer");
    assert_eq!(
        (again.status(), &again.headers()["idempotent-replayed"]),
        (StatusCode::CREATED, &"true".parse().expect("a value"))
    );
    let problem = replay(&pool, &key, request(b"{\"a\":1}")).await.expect_err("another request");
    assert_eq!(problem.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

#[test]
fn a_key_that_cannot_be_one_is_refused() {
    let with = |value: &[u8]| {
        HeaderMap::from_iter([(
            "idempotency-key".parse().expect("a name"),
            HeaderValue::from_bytes(value).expect("a value"),
        )])
    };
    assert!(Key::required(&HeaderMap::new()).expect_err("refused").body().contains("is required"));
    assert!(Key::required(&with(b" ")).expect_err("refused").body().contains("is required"));
    assert!(Key::optional(&with("é".as_bytes())).is_err());
    assert!(Key::optional(&with(&[b'x'; 256])).is_err());
    assert!(Key::required(&with(b"k-1")).is_ok());
}

#[tokio::test]
async fn a_key_is_found_by_its_index_also_by_a_connection_that_looked_when_there_were_none() {
    let database = testkit::empty_database().await;
    sqlx::query(TABLES).execute(&database.pool).await.expect("the keys");
    // PostgreSQL knows that the table is empty, as it does after a clean-up.
    sqlx::query("VACUUM ANALYZE idempotency_keys").execute(&database.pool).await.expect("numbers for the planner");
    let mut settings = pg::Database::parse(&database.url.into()).expect("a URL");
    settings.pool_size = 1;
    let runtime = ServiceRuntime::new("test", CancellationToken::new(), Clock::system());
    let one = pg::connect(&runtime, &settings, &Migrator::DEFAULT).await;
    let one = one.expect("a connection").requests;
    // After five times PostgreSQL keeps the plan of a prepared statement.
    for name in ["1", "2", "3", "4", "5", "6", "7"] {
        begin(&one, key(name), request(b"{}")).await.expect("begun");
    }
    let many = "INSERT INTO idempotency_keys (caller, key, request, status, body)
                SELECT 'another', n::text, '', 201, '{}' FROM generate_series(1, 20000) n";
    sqlx::query(many).execute(&database.pool).await.expect("many keys");
    let Begun::Fresh(mut attempt) = begin(&one, key("new"), request(b"{}")).await.expect("begun") else {
        panic!("nothing was answered yet");
    };
    let looked_at = "SELECT pg_stat_get_xact_tuples_returned(oid) + pg_stat_get_xact_tuples_fetched(oid)
                     FROM pg_class WHERE relname = 'idempotency_keys'";
    let looked_at: i64 = sqlx::query_scalar(looked_at).fetch_one(attempt.connection()).await.expect("a number");
    assert!(looked_at < 10, "{looked_at} keys were looked at");
}
