//! Failures of Telegram as a whole: nothing is sent but a probe now and then, and no message pays for it.

use std::time::Duration;

use notifier::core::retry_schedule::Schedule;
use simulators::telegram::{Failure, Scope};

use crate::{
    telegram::{gap, refusal},
    test_env::{PATIENCE, Person, TestEnv},
};

/// Each of these, once, and then all is well again.
async fn one_failure_then_delivered(failure: Failure, outcome: &str, delivered: usize) {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let person = env.person();
    env.telegram.next(failure.clone());
    let id = env.tell(&person, &["Hear me."]).await[0];
    env.wait_for_status(id, "sent").await;
    assert_eq!(env.ended(id).await, [outcome, "sent"], "{failure:?}");
    assert_eq!(env.row(id).await.map(|(_, failures, _)| failures), Some(0), "{failure:?}");
    assert_eq!(env.telegram.read_in(person.chat).len(), delivered, "{failure:?}");
    worker.stop().await;
}

#[tokio::test]
async fn out_of_order_and_html_instead_of_an_answer_are_the_channels_failures() {
    one_failure_then_delivered(Failure::internal_error(), "channel_failure", 1).await;
    for status in [502, 403] {
        one_failure_then_delivered(Failure::Garbage { status, delivered: false }, "channel_failure", 1).await;
    }
}

#[tokio::test]
async fn what_may_have_been_delivered_is_unclear_before_it_is_repeated() {
    for (delivered, read) in [(false, 1), (true, 2)] {
        let delay = Duration::from_secs(15);
        one_failure_then_delivered(Failure::Hang { delay, delivered }, "unclear", read).await;
        one_failure_then_delivered(Failure::HangUp { delivered }, "unclear", read).await;
        one_failure_then_delivered(Failure::Garbage { status: 200, delivered }, "unclear", read).await;
    }
    one_failure_then_delivered(Failure::HalfAnswer, "unclear", 2).await;
}

#[tokio::test]
async fn while_the_channel_is_down_one_message_probes_and_no_schedule_moves() {
    let env = TestEnv::new().await;
    env.telegram.fail_always(Scope::All, Failure::internal_error());
    let worker = env.start().await;
    let people: Vec<Person> = (0..10).map(|_| env.person()).collect();
    let mut ids = Vec::new();
    for person in &people {
        ids.extend(env.tell(person, &["one", "two"]).await);
    }
    env.wait_for_count("pending", 20).await;
    testkit::wait_for("probes", PATIENCE, async || env.telegram.sent().len() >= 35).await;
    // The first ones may have been under way together; in the end it is one call at a time, an interval apart.
    let calls = env.telegram.sent();
    for pair in calls[25..].windows(2) {
        assert!(gap(&pair[0], &pair[1]) >= Duration::from_millis(95), "{:?}", gap(&pair[0], &pair[1]));
    }
    for id in &ids {
        let (status, failures, due_in) = env.row(*id).await.expect("a row");
        assert!(status == "pending" && failures == 0 && due_in <= 0.0, "{status} {failures} {due_in}");
    }
    let (ready, telegram) = worker.readiness("telegram").await;
    assert!(ready && telegram.is_some_and(|(up, why)| !up && why.contains("out of order")));
    assert!(worker.metric("telegram_breaker_state", "") > 0.9);
    env.telegram.recover(Scope::All);
    env.wait_for_count("sent", 20).await;
    assert_eq!(env.telegram.delivered().len(), 20);
    assert!(worker.metric("telegram_breaker_state", "") < 0.1);
    worker.stop().await;
}

#[tokio::test]
async fn a_telegram_that_is_not_there_is_waited_for() {
    let env = TestEnv::new().await;
    let mut config = env.config();
    config.telegram.api_url = "http://127.0.0.1:9/".parse().expect("a URL");
    let worker = env.start_with(config).await;
    let id = env.tell(&env.person(), &["Anybody?"]).await[0];
    testkit::wait_for("tries", PATIENCE, async || env.outcomes(id).await.len() > 2).await;
    worker.stop().await;
    assert!(env.ended(id).await.iter().all(|outcome| outcome == "channel_failure"));
    let worker = env.start().await;
    env.wait_for_status(id, "sent").await;
    worker.stop().await;
}

#[tokio::test]
async fn a_wrong_token_makes_the_service_unready_before_the_first_alert_and_loses_none() {
    let env = TestEnv::new().await;
    let mut config = env.config();
    config.telegram.token = "123456:another".into();
    let worker = env.start_with(config).await;
    let refused = async || worker.readiness("telegram token").await.1.is_some_and(|(up, _)| !up);
    testkit::wait_for("readiness to name the token", PATIENCE, refused).await;
    let id = env.tell(&env.person(), &["Patience."]).await[0];
    testkit::wait_for("tries", PATIENCE, async || env.outcomes(id).await.len() > 2).await;
    let (ready, token) = worker.readiness("telegram token").await;
    let why = token.expect("the part").1;
    assert!(!ready && why.contains("@BotFather") && !why.contains("another"), "{why}");
    worker.stop().await;
    let worker = env.start().await;
    env.wait_for_status(id, "sent").await;
    assert!(worker.readiness("telegram token").await.0);
    worker.stop().await;
}

#[tokio::test]
async fn one_message_that_telegram_always_fails_on_does_not_stop_the_others() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let poison = env.person();
    env.telegram.always_in(poison.chat, Failure::internal_error());
    let id = env.tell(&poison, &["Poison."]).await[0];
    testkit::wait_for("the breaker to open", PATIENCE, async || env.telegram.calls_in(poison.chat) > 0).await;
    // Proven wrong twice by others, the poison waits longer and longer; its schedule is not touched.
    let mut others = 0;
    while env.row(id).await.is_some_and(|(.., due_in)| due_in < 1.0) {
        env.tell(&env.person(), &["Fine."]).await;
        others += 1;
        env.wait_for_count("sent", others).await;
        assert!(others < 5000, "the poison is never blamed");
    }
    let (status, failures, _) = env.row(id).await.expect("a row");
    assert_eq!((status.as_str(), failures), ("pending", 0));
    worker.stop().await;
}

#[tokio::test]
async fn a_message_whose_answers_are_all_lost_is_repeated_less_and_less_often() {
    let env = TestEnv::new().await;
    let mut config = env.config();
    config.sending.schedule = Schedule::scaled(0.02);
    let worker = env.start_with(config).await;
    let person = env.person();
    env.telegram.always_in(person.chat, Failure::HangUp { delivered: true });
    let id = env.tell(&person, &["Again?"]).await[0];
    testkit::wait_for("five copies", PATIENCE, async || env.telegram.read_in(person.chat).len() >= 5).await;
    let began = env.began(id).await;
    let gaps: Vec<_> = began.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // 15 s, 30 s, 1 min and 2 min, a fiftieth of each.
    for (gap, least) in gaps.iter().zip([0.3, 0.6, 1.2, 2.4]) {
        assert!(*gap >= least, "{gaps:?}");
    }
    worker.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_neither_yes_nor_no_is_unclear() {
    let strange = Failure::Refused { code: 200, description: String::new(), parameters: None };
    one_failure_then_delivered(strange, "unclear", 1).await;
}

#[tokio::test]
async fn one_answer_that_the_token_is_wrong_does_not_make_the_service_unready() {
    let env = TestEnv::new().await;
    let mut config = env.config();
    config.sending.probe_interval = Duration::from_secs(2);
    let worker = env.start_with(config).await;
    let person = env.person();
    for code in [401, 404] {
        env.telegram.next_in(person.chat, refusal(code, "Unauthorized"));
        let id = env.tell(&person, &["Once."]).await[0];
        let opened = async || worker.metric("telegram_breaker_state", "") > 0.9;
        testkit::wait_for("the breaker to open", PATIENCE, opened).await;
        assert!(worker.readiness("telegram token").await.0, "{code}");
        env.wait_for_status(id, "sent").await;
    }
    worker.stop().await;
}
