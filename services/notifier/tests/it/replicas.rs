//! Several replicas: all fill the ledger, one sends.

use std::time::Duration;

use notifier::core::rate_limiter::ChatId;
use notifier::{
    core::ending::Unsent,
    store::{Postponed, Store},
};
use pg::{
    Database,
    lease::{FenceError, LeaseTerm, run_as_leader},
};
use runtime::{ServiceRuntime, clock::Clock};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use crate::test_env::{PATIENCE, TestEnv};

/// A term of leading that has just begun.
pub async fn begin_term(env: &TestEnv) -> LeaseTerm {
    let runtime = ServiceRuntime::new("notifier", CancellationToken::new(), Clock::system());
    let database = Database::parse(&SecretString::from(env.database.url.clone())).expect("a database");
    let (begun, mut terms) = tokio::sync::mpsc::channel(1);
    let leading = run_as_leader(runtime, database, "notifier-sending", move |term| {
        let begun = begun.clone();
        async move {
            begun.send(term).await.expect("somebody waits");
            std::future::pending().await
        }
    });
    tokio::select! {
        ended = leading => panic!("leading ended: {ended:?}"),
        term = terms.recv() => term.expect("a term"),
    }
}

#[tokio::test]
async fn a_leader_that_was_deposed_decides_nothing_any_more() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    env.telegram.fail_always(simulators::telegram::Scope::All, simulators::telegram::Failure::internal_error());
    let person = env.person();
    let id = env.tell(&person, &["one"]).await[0];
    env.wait_for_count("pending", 1).await;
    worker.stop().await;
    let term = begin_term(&env).await;
    sqlx::query("UPDATE leases SET epoch = epoch + 1").execute(&env.database.pool).await.expect("another leader");
    let store = Store::new(env.database.pool.clone());
    assert!(matches!(store.begin(&term, &[(id, ChatId(7))]).await, Err(FenceError::Deposed)));
    let later = Postponed { email: person.email.clone(), wait: Duration::ZERO, is_gone: false };
    assert!(matches!(store.postpone(&term, &[later]).await, Err(FenceError::Deposed)));
    assert!(matches!(store.retire(&term, std::slice::from_ref(&person.email)).await, Err(FenceError::Deposed)));
    assert!(matches!(store.move_times(&term, 1.0, 0).await, Err(FenceError::Deposed)));
    assert!(matches!(store.mend(&term).await, Err(FenceError::Deposed)));
    let whose = (person.email.as_str(), Some(person.id));
    let settled = store.settle_unsent(&term, whose, Duration::ZERO, (Unsent::Cancelled, None)).await;
    assert!(matches!(settled, Err(FenceError::Deposed)));
    assert!(matches!(store.mark_unknown(&term, &[], Duration::ZERO, &[PATIENCE]).await, Err(FenceError::Deposed)));
    assert_eq!(env.count("pending").await, 1);
}

#[tokio::test]
async fn what_was_settled_long_ago_is_removed_and_nothing_else() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let person = env.person();
    let ids = env.tell(&person, &["one", "two"]).await;
    env.wait_for_count("sent", 2).await;
    worker.stop().await;
    sqlx::query("UPDATE alerts SET settled_at = now() - interval '31 days' WHERE event_id = $1")
        .bind(ids[0])
        .execute(&env.database.pool)
        .await
        .expect("an old alert");
    let waiting = env.tell(&person, &["three"]).await[0];
    // The first thing that maintenance does is to clean.
    let worker = env.start().await;
    testkit::wait_for("the old one to be removed", PATIENCE, async || env.status(ids[0]).await.is_none()).await;
    env.wait_for_status(waiting, "sent").await;
    assert!(env.status(ids[1]).await.is_some());
    worker.stop().await;
}

#[tokio::test]
async fn the_standard_health_service_answers() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    let env = TestEnv::new().await;
    let runtime = ServiceRuntime::new("notifier", CancellationToken::new(), Clock::system());
    let running = notifier::start(env.config(), &runtime).await.expect("the worker to start");
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", running.grpc)).expect("an endpoint");
    let mut client = HealthClient::new(endpoint.connect().await.expect("a connection"));
    for service in ["", "flightbell.v1.NotifierService"] {
        let answer = client.check(HealthCheckRequest { service: service.to_owned() }).await.expect("an answer");
        assert_eq!(answer.into_inner().status, 1, "{service}");
    }
    runtime.tasks.stopping().cancel();
}

#[tokio::test]
async fn of_two_replicas_one_sends_and_the_other_takes_over() {
    let env = TestEnv::new().await;
    let first = env.start().await;
    env.wait_until_leading(&first).await;
    let second = env.start().await;
    let people: Vec<_> = (0..20).map(|_| env.person()).collect();
    for person in &people {
        env.tell(person, &["one"]).await;
    }
    env.wait_for_count("sent", 20).await;
    assert!(second.metric("notifications_leader", "") < 0.1);
    assert!((first.metric("notifications_sent_total", "outcome=\"sent\"") - 20.0).abs() < 0.1);
    first.stop().await;
    for person in &people {
        env.tell(person, &["two"]).await;
    }
    env.wait_for_count("sent", 40).await;
    assert!((second.metric("notifications_sent_total", "outcome=\"sent\"") - 20.0).abs() < 0.1);
    assert!(people.iter().all(|person| env.telegram.calls_in(person.chat) == 2));
    second.stop().await;
}

#[tokio::test]
async fn a_stop_finishes_what_is_under_way_and_hands_over_the_rest() {
    let env = TestEnv::new().await;
    env.telegram.takes(Duration::from_millis(250));
    let first = env.start().await;
    env.wait_until_leading(&first).await;
    let people: Vec<_> = (0..60).map(|_| env.person()).collect();
    for person in &people {
        env.tell(person, &["one"]).await;
    }
    testkit::wait_for("calls", PATIENCE, async || env.telegram.sent().len() >= 10).await;
    first.stop().await;
    let unfinished: i64 = sqlx::query_scalar("SELECT count(*) FROM attempts WHERE outcome IS NULL")
        .fetch_one(&env.database.pool)
        .await
        .expect("a count");
    assert_eq!(unfinished, 0);
    let second = env.start().await;
    env.wait_for_count("sent", 60).await;
    assert!(people.iter().all(|person| env.telegram.calls_in(person.chat) == 1));
    second.stop().await;
}
