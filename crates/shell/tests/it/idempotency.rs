use std::time::Duration;

use axum::{
    http::{HeaderMap, HeaderValue, Method, StatusCode},
    response::Response,
};
use http_body_util::BodyExt;
use serde_json::json;
use shell::{
    Shell,
    clock::Clock,
    http::{
        Problem,
        idempotency::{Answer, Attempt, Begun, Fingerprint, Key, begin, clean_up, replay},
    },
    periodic,
};
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

const TABLES: &str = "CREATE TABLE idempotency_keys (caller text NOT NULL, key text NOT NULL, request bytea NOT NULL, \
                      status smallint NOT NULL, body text NOT NULL, created_at timestamptz NOT NULL DEFAULT now(), \
                      PRIMARY KEY (caller, key))";

async fn pool() -> PgPool {
    let database = testkit::empty_database().await;
    sqlx::query(TABLES).execute(&database.pool).await.expect("the keys");
    sqlx::query("CREATE TABLE effects (id int)").execute(&database.pool).await.expect("the effects");
    database.pool.clone()
}

fn key(value: &str) -> Option<Key> {
    let headers = HeaderMap::from_iter([(
        "idempotency-key".parse().expect("a name"),
        HeaderValue::try_from(value).expect("a value"),
    )]);
    Key::optional(&headers).expect("a key")
}

fn request(body: &[u8]) -> Fingerprint<'_> {
    Fingerprint { caller: "ada@example.org", method: &Method::POST, path: "/users", body }
}

async fn fresh(pool: &PgPool, body: &[u8]) -> Attempt {
    match begin(pool, key("k"), request(body)).await.expect("begun") {
        Begun::Fresh(attempt) => attempt,
        Begun::Replayed(_) => panic!("nothing was answered yet"),
    }
}

async fn effect(attempt: &mut Attempt) {
    sqlx::query("INSERT INTO effects VALUES (1)").execute(attempt.connection()).await.expect("the effect");
}

async fn effects(pool: &PgPool) -> i64 {
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
    assert_eq!(effects(&pool).await, 0);
    assert!(matches!(begin(&pool, key("k"), request(b"{}")).await, Ok(Begun::Fresh(_))));
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
async fn a_key_older_than_a_day_is_new_again() {
    let pool = pool().await;
    fresh(&pool, b"{}").await.finish(Ok(created())).await.expect("answered");
    let aged = "UPDATE idempotency_keys SET created_at = now() - interval '25 hours'";
    sqlx::query(aged).execute(&pool).await.expect("aged");
    fresh(&pool, b"{\"a\":1}").await.finish(Ok(created())).await.expect("answered");
}

#[tokio::test]
async fn a_key_from_the_future_of_a_clock_that_stepped_back_still_replays_and_is_kept_a_day_from_now() {
    let pool = pool().await;
    fresh(&pool, b"{}").await.finish(Ok(created())).await.expect("answered");
    let ahead = "UPDATE idempotency_keys SET created_at = now() + interval '3 years'";
    sqlx::query(ahead).execute(&pool).await.expect("ahead");
    let shell = Shell::new("test", CancellationToken::new(), Clock::system());
    periodic::spawn(&shell, [clean_up(pool.clone())]);
    let begins_now = async || {
        let asked = "SELECT created_at <= now() FROM idempotency_keys";
        sqlx::query_scalar::<_, bool>(asked).fetch_one(&pool).await.expect("a key")
    };
    testkit::wait_for("its day to begin", Duration::from_secs(10), begins_now).await;
    assert!(matches!(begin(&pool, key("k"), request(b"{}")).await, Ok(Begun::Replayed(_))));
    shell.tasks.stopping().cancel();
    shell.tasks.join().await.expect("a clean stop");
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
