//! Where people can be reached, and what happens to alerts of those who cannot.

use std::time::{Duration, Instant};

use proto::v1::{UserRequest, notifier_service_client::NotifierServiceClient};
use runtime::{ServiceRuntime, clock::Clock};
use tokio_util::sync::CancellationToken;
use tonic::Code;

use crate::test_env::{PATIENCE, TestEnv, Worker};

#[tokio::test]
async fn whoever_names_a_chat_later_gets_what_was_kept() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let person = env.stranger();
    env.people.register(&person.email, None);
    env.tell(&person, &["one", "two"]).await;
    testkit::wait_for("a few looks", PATIENCE, async || env.people.questions() >= 3).await;
    assert_eq!(env.count("pending").await, 2);
    env.people.register(&person.email, Some(person.chat));
    env.wait_for_count("sent", 2).await;
    assert_eq!(env.telegram.calls_in(person.chat), 2);
    worker.stop().await;
}

#[tokio::test]
async fn without_a_chat_an_alert_is_kept_for_its_time_and_then_undeliverable() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let person = env.stranger();
    env.people.register(&person.email, None);
    let begun = Instant::now();
    let ids = env.tell(&person, &["one", "two"]).await;
    for id in ids {
        env.wait_for_status(id, "undeliverable").await;
    }
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    // Looked up now and then, not all the time.
    assert!(env.people.questions() <= 40, "{}", env.people.questions());
    assert!(env.telegram.sent().is_empty());
    worker.stop().await;
}

#[tokio::test]
async fn alerts_for_somebody_who_is_gone_are_cancelled() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let person = env.stranger();
    env.people.register(&person.email, None);
    let ids = env.tell(&person, &["one", "two"]).await;
    testkit::wait_for("a look", PATIENCE, async || env.people.questions() >= 1).await;
    env.people.delete(&person.email);
    for id in ids {
        env.wait_for_status(id, "cancelled").await;
    }
    assert!(worker.metric("notifications_sent_total", "outcome=\"cancelled\"") > 1.9);
    worker.stop().await;
}

#[tokio::test]
async fn while_user_manager_is_away_nothing_is_sent_and_no_schedule_moves() {
    let env = TestEnv::new().await;
    env.people.go_away(true);
    let worker = env.start().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.extend(env.tell(&env.person(), &["one"]).await);
    }
    env.wait_for_count("pending", 5).await;
    testkit::wait_for("questions", PATIENCE, async || env.people.questions() >= 10).await;
    for id in ids {
        let (status, failures, due_in) = env.row(id).await.expect("a row");
        assert!(status == "pending" && failures == 0 && due_in <= 0.0, "{status} {failures} {due_in}");
    }
    let (ready, part) = worker.readiness("user-manager").await;
    assert!(ready && part.is_some_and(|(up, _)| !up));
    env.people.go_away(false);
    env.wait_for_count("sent", 5).await;
    assert!(worker.readiness("user-manager").await.1.is_some_and(|(up, _)| up));
    worker.stop().await;
}

#[tokio::test]
async fn one_person_whom_user_manager_stumbles_over_does_not_hold_the_others() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let trouble = env.stranger();
    env.people.make_trouble_about(&trouble.email);
    let id = env.tell(&trouble, &["Wait."]).await[0];
    testkit::wait_for("a question", PATIENCE, async || env.people.questions() >= 1).await;
    for round in 1..=5 {
        env.tell(&env.person(), &["Fine."]).await;
        env.wait_for_count("sent", round).await;
    }
    assert_eq!(env.status(id).await.as_deref(), Some("pending"));
    env.people.register(&trouble.email, Some(trouble.chat));
    env.wait_for_status(id, "sent").await;
    worker.stop().await;
}

/// Whatever a proxy, or a user-manager of another version, may answer in place of an answer.
#[tokio::test]
async fn a_status_that_is_no_answer_of_user_managers_cancels_nothing() {
    for code in [
        Code::NotFound,
        Code::PermissionDenied,
        Code::Unauthenticated,
        Code::Unimplemented,
        Code::InvalidArgument,
        Code::FailedPrecondition,
        Code::Unknown,
    ] {
        let env = TestEnv::new().await;
        let worker = env.start().await;
        let person = env.person();
        env.people.refuse(Some(code));
        let id = env.tell(&person, &["Wait."]).await[0];
        testkit::wait_for("questions", PATIENCE, async || env.people.questions() >= 2).await;
        assert_eq!(env.status(id).await.as_deref(), Some("pending"), "{code}");
        env.people.refuse(None);
        env.wait_for_status(id, "sent").await;
        worker.stop().await;
    }
}

#[tokio::test]
async fn a_user_manager_that_knows_nobody_for_a_while_cancels_nothing() {
    let env = TestEnv::new().await;
    let mut config = env.config();
    config.sending.gone_timeout = Duration::from_secs(3600);
    let worker = env.start_with(config).await;
    let people: Vec<_> = (0..5).map(|_| env.stranger()).collect();
    for person in &people {
        env.tell(person, &["one"]).await;
    }
    testkit::wait_for("a few looks", PATIENCE, async || env.people.questions() >= 15).await;
    assert_eq!(env.count("pending").await, 5);
    for person in &people {
        env.people.register(&person.email, Some(person.chat));
    }
    env.wait_for_count("sent", 5).await;
    worker.stop().await;
}

#[tokio::test]
async fn whoever_registered_again_does_not_wait_for_alerts_of_the_registration_before() {
    let env = TestEnv::new().await;
    let mut config = env.config();
    config.sending.gone_timeout = Duration::from_secs(3600);
    let worker = env.start_with(config).await;
    let before = env.stranger();
    let now = crate::test_env::Person { id: uuid::Uuid::now_v7(), ..before.clone() };
    env.people.register_as(now.id, &now.email, Some(now.chat));
    let old = env.tell(&before, &["Before."]).await[0];
    let new = env.tell(&now, &["Now."]).await[0];
    env.wait_for_status(new, "sent").await;
    assert_eq!(env.status(old).await.as_deref(), Some("cancelled"));
    worker.stop().await;
}

#[tokio::test]
async fn word_of_a_chat_sends_what_waits_at_once() {
    let env = TestEnv::new().await;
    let mut config = env.config();
    config.sending.contact_interval = Duration::from_secs(600);
    config.sending.contact_timeout = Duration::from_secs(86_400);
    let runtime = ServiceRuntime::new("notifier", CancellationToken::new(), Clock::system());
    let running = notifier::start(config, &runtime).await.expect("the worker to start");
    let worker = Worker { runtime };
    let person = env.stranger();
    env.people.register(&person.email, None);
    let id = env.tell(&person, &["one"]).await[0];
    testkit::wait_for("a look", PATIENCE, async || env.row(id).await.is_some_and(|(.., due_in)| due_in > 60.0)).await;
    env.people.register(&person.email, Some(person.chat));
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{}", running.grpc)).expect("an address");
    let request = || UserRequest { email: person.email.to_uppercase(), user_id: None };
    let mut client = NotifierServiceClient::new(endpoint.connect_lazy());
    let answer = client.chat_linked(request()).await.expect("an answer");
    assert!(answer.into_inner().woken);
    env.wait_for_status(id, "sent").await;
    worker.stop().await;
}
