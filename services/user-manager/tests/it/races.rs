//! Requests at the same moment.

use std::future::Future;

use serde_json::json;

use crate::test_env::{Answer, PATIENCE, Service, TestEnv, ada, fresh_key};

const AT_ONCE: usize = 24;

async fn all<F: Future<Output = Answer>>(calls: impl IntoIterator<Item = F>) -> Vec<Answer> {
    futures::future::join_all(calls).await
}

fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_registrations_of_one_address_one_succeeds() {
    let env = TestEnv::new().await;
    let other = Service::start(&env.database.url, env.collector.addr).await;
    let calls = (0..AT_ONCE).map(|number| {
        let service = if number % 2 == 0 { &env.service } else { &other };
        service.call("POST", "/users").key(&fresh_key()).json(&ada("ada@example.org")).send()
    });
    let answers = all(calls).await;
    assert_eq!(count(&answers, 201), 1);
    answers.iter().filter(|answer| answer.status != 201).for_each(|answer| answer.refuses(409, "User already exists"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_registrations_with_one_tax_code_one_succeeds() {
    let TestEnv { service, .. } = TestEnv::new().await;
    let answers = all((0..AT_ONCE).map(|number| {
        let mut user = ada(&format!("user{number}@example.org"));
        user["tax_code"] = json!("AB1");
        service.call("POST", "/users").key("k").json(&user).send()
    }))
    .await;
    assert_eq!(count(&answers, 201), 1);
    let refused = answers.iter().filter(|answer| answer.status != 201);
    refused.for_each(|answer| answer.refuses(409, "Tax code is already in use"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_one_request_sent_many_times_one_takes_effect() {
    let env = TestEnv::new().await;
    let answers =
        all((0..AT_ONCE).map(|_| env.service.call("POST", "/users").key("k").json(&ada("ada@example.org")).send()))
            .await;
    let fresh = answers.iter().filter(|answer| answer.status == 201 && !answer.is_replayed()).count();
    assert_eq!(fresh, 1);
    for answer in answers.iter().filter(|answer| answer.status != 201) {
        answer.refuses(409, "Request with this Idempotency-Key is already in progress");
        assert!(answer.headers.contains_key("retry-after"));
    }
    assert_eq!(env.count("SELECT count(*) FROM users").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_deletions_one_succeeds_and_one_is_relayed() {
    let env = TestEnv::new().await;
    env.service.register("ada@example.org").await;
    let answers = all((0..AT_ONCE).map(|_| env.service.delete("ada@example.org"))).await;
    assert_eq!((count(&answers, 200), count(&answers, 404)), (1, AT_ONCE - 1));
    env.settled().await;
    assert_eq!(env.collector.calls().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_people_who_want_one_chat_one_gets_it() {
    let TestEnv { service, .. } = TestEnv::new().await;
    for number in 0..8 {
        service.register(&format!("user{number}@example.org")).await;
    }
    let emails: Vec<_> = (0..8).map(|number| format!("user{number}@example.org")).collect();
    let answers = all(emails.iter().map(|email| service.link(email, 42))).await;
    assert_eq!((count(&answers, 200), count(&answers, 409)), (1, 7));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_people_who_swap_codes_and_chats_never_wait_for_each_other() {
    let env = TestEnv::new().await;
    let service = &env.service;
    for (email, code, chat) in [("ada@example.org", "A1", 1), ("bob@example.org", "B1", 2)] {
        let mut user = ada(email);
        user["tax_code"] = json!(code);
        service.call("POST", "/users").key("k").json(&user).send().await.expect(201);
        service.link(email, chat).await.expect(200);
    }
    let recode = |email: &str, code: &str| {
        service.call("PATCH", &format!("/users/{email}")).json(&json!({"tax_code": code})).send()
    };
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    for round in 0..30 {
        // Both are let go at the same moment.
        let mut held = env.database.pool.begin().await.expect("a transaction");
        sqlx::query("SELECT FROM users FOR UPDATE").execute(&mut *held).await.expect("locks");
        let release = async {
            testkit::wait_for("both to wait", PATIENCE, async || env.count(waiting).await == 2).await;
            held.rollback().await.expect("a rollback");
        };
        let answers = if round % 2 == 0 {
            futures::join!(all([recode("ada@example.org", "B1"), recode("bob@example.org", "A1")]), release).0
        } else {
            futures::join!(all([service.link("ada@example.org", 2), service.link("bob@example.org", 1)]), release).0
        };
        for answer in answers {
            assert_eq!(answer.status, 409, "{}", answer.body);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_storm_on_three_people_ends_without_a_fault_of_ours() {
    let env = TestEnv::new().await;
    let service = &env.service;
    let storm = (0..120usize).map(|number| async move {
        let email = format!("user{}@example.org", number % 3);
        match number % 5 {
            0 | 1 => {
                let mut user = ada(&email);
                user["tax_code"] = json!(format!("T{}", number % 2));
                service.call("POST", "/users").key(&fresh_key()).json(&user).send().await
            }
            2 => service.delete(&email).await,
            3 => service.link(&email, 1 + i64::try_from(number % 2).expect("small")).await,
            _ => {
                let change = json!({"tax_code": format!("T{}", number % 2), "first_name": "X"});
                service.call("PATCH", &format!("/users/{email}")).json(&change).send().await
            }
        }
    });
    for answer in all(storm).await {
        assert!([200, 201, 404, 409].contains(&answer.status), "{}", answer.body);
    }
    let deletions = env.count("SELECT count(*) FROM jobs").await;
    env.settled().await;
    assert_eq!(i64::try_from(env.collector.calls().len()).expect("few"), deletions);
}
