//! user-manager is there and does not answer, while people go on asking.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use testkit::Proxy;
use tokio::task::JoinSet;
use tonic::transport::Endpoint;
use uuid::Uuid;

use crate::support::{App, PARIS, TestEnv, wait_for};

/// An environment whose service reaches user-manager over a wire, and has very few connections.
async fn wired() -> (TestEnv, Proxy, Arc<App>) {
    let env = TestEnv::at_speed(60).await;
    env.scripted.set_aircraft("a", PARIS.0, PARIS.1, 3);
    env.person("ada@example.org");
    let wire = Proxy::to(env.people.addr).await;
    let at = Endpoint::from_shared(format!("http://{}", wire.addr())).expect("an address");
    let app = env
        .start_with(|config| {
            config.user_manager = at;
            config.database.pool_size = 2;
            config.database.background_pool_size = 2;
            config.collect_interval = Duration::from_secs(60);
        })
        .await;
    (env, wire, Arc::new(app))
}

fn interest(email: &str) -> Value {
    json!({"email": email, "airport_code": "EGLL", "metric": "live", "high_value": 1})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_manager_that_is_silent_slows_nothing_but_what_asks_it() {
    let (env, wire, app) = wired().await;
    app.watch("ada@example.org", "LFPG", "live", Some(1), None).await;
    app.wait_reading("LFPG", "live", |reading| reading["seq"].as_i64() >= Some(1)).await;
    wire.freeze();
    let (over, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let mut people = JoinSet::new();
    for person in 0..20 {
        let (app, over, answered) = (app.clone(), over.clone(), answered.clone());
        people.spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let key = Uuid::new_v4().to_string();
                let body = interest(&format!("person{person}@example.org"));
                let answer = app.call_with("POST", "/interests", Some(body), &[("Idempotency-Key", &key)]).await;
                assert_eq!((answer.status, answer.headers.contains_key("retry-after")), (503, true), "{}", answer.body);
                answered.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let before = env.scalar("SELECT last_seq FROM series WHERE airport_code = 'LFPG'").await;
    wait_for("people to be refused", async || {
        let begun = Instant::now();
        for path in ["/readings/LFPG", "/flights/LFPG"] {
            assert_eq!(app.get(path).await.status, 200, "{path}");
        }
        assert!(begun.elapsed() < Duration::from_secs(2), "reads took {:?}", begun.elapsed());
        assert!(app.is_ready().await);
        (answered.load(Ordering::Relaxed) >= 40).then_some(())
    })
    .await;
    let after = app.wait_reading("LFPG", "live", |reading| reading["seq"].as_i64() > Some(before)).await;
    assert!(after["seq"].as_i64() > Some(before));
    over.store(true, Ordering::Relaxed);
    while let Some(person) = people.join_next().await {
        person.expect("every answer is a 503 that says when to come again");
    }
    assert_eq!(env.scalar("SELECT count(*) FROM idempotency_keys").await, 0, "a key is not used up by a 503");
    wire.heal();
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_requests_that_wait_for_user_manager_together_have_one_effect() {
    let (env, wire, app) = wired().await;
    wire.freeze();
    let mut equal = JoinSet::new();
    for _ in 0..4 {
        let app = app.clone();
        equal.spawn(async move {
            let headers = [("Idempotency-Key", "the same")];
            app.call_with("POST", "/interests", Some(interest("ada@example.org")), &headers).await
        });
    }
    wire.heal();
    let mut answers = Vec::new();
    while let Some(answer) = equal.join_next().await {
        answers.push(answer.expect("an answer"));
    }
    let statuses: Vec<_> = answers.iter().map(|answer| answer.status).collect();
    let first =
        answers.iter().filter(|answer| answer.status == 201 && !answer.headers.contains_key("idempotent-replayed"));
    assert_eq!(first.count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [201, 409].contains(status)), "{statuses:?}");
    assert_eq!(env.scalar("SELECT count(*) FROM interests").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_replays_while_user_manager_is_silent() {
    let (env, wire, app) = wired().await;
    let headers = [("Idempotency-Key", "once")];
    let ask = async || app.call_with("POST", "/interests", Some(interest("ada@example.org")), &headers).await;
    assert_eq!(ask().await.status, 201);
    // And so does the refusal of a user who does not exist.
    let headers_of_eve = [("Idempotency-Key", "twice")];
    let eve = async || app.call_with("POST", "/interests", Some(interest("eve@example.org")), &headers_of_eve).await;
    assert_eq!(eve().await.status, 404);
    wire.freeze();
    let (again, refused) = (ask().await, eve().await);
    assert_eq!((again.status, refused.status), (201, 404));
    for answer in [again, refused] {
        assert_eq!(answer.headers["idempotent-replayed"], "true");
    }
    assert_eq!(env.scalar("SELECT count(*) FROM interests").await, 1);
    wire.heal();
}
