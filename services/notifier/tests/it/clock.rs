//! A database whose clock is set back and forth, is years ahead, or stands still.

use std::time::Duration;

use notifier::core::retry_schedule::Schedule;
use simulators::telegram::Failure;
use testkit::DatabaseClock;

use crate::{
    telegram::refusal,
    test_env::{PATIENCE, TestEnv},
};

/// An environment whose database has a clock that can be set.
async fn with_a_clock() -> (TestEnv, DatabaseClock) {
    let mut env = TestEnv::new().await;
    let clock = env.database.with_clock().await;
    for sql in [
        "ALTER TABLE queues ALTER next_at SET DEFAULT public.now(), ALTER decided_at SET DEFAULT public.now()",
        "ALTER TABLE alerts ALTER created_at SET DEFAULT public.now()",
        "ALTER TABLE attempts ALTER started_at SET DEFAULT public.now()",
    ] {
        env.execute(sql).await;
    }
    (env, clock)
}

#[tokio::test]
async fn a_clock_that_is_set_back_silences_nobody_and_one_that_is_set_forth_hurries_nothing() {
    let (env, clock) = with_a_clock().await;
    let mut config = env.config();
    config.sending.schedule = Schedule::default();
    let worker = env.start_with(config).await;
    env.wait_until_leading(&worker).await;
    // Back and forth by hours; each time a user's message waits for 5 s.
    for shift in ["-7 hours", "5 hours", "10 years", "0"] {
        let person = env.person();
        env.telegram.next_in(person.chat, refusal(400, "Bad Request: something new"));
        let id = env.tell(&person, &["Wait."]).await[0];
        testkit::wait_for("a refusal", PATIENCE, async || env.outcomes(id).await == [Some("refused".into())]).await;
        clock.set(shift).await;
        // It is looked at when something comes.
        let fine = env.tell(&env.person(), &["Fine."]).await[0];
        env.wait_for_status(fine, "sent").await;
        env.wait_for_status(id, "sent").await;
        assert_eq!(env.ended(id).await, ["refused", "sent"], "{shift}");
        let calls: Vec<_> = env.telegram.sent().into_iter().filter(|call| call.chat_id == person.chat).collect();
        let gap = crate::telegram::gap(&calls[0], &calls[1]);
        assert!((Duration::from_secs(5)..Duration::from_secs(20)).contains(&gap), "{shift} {gap:?}");
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_clock_that_was_ahead_when_a_leader_died_silences_nobody_under_the_next() {
    let (env, clock) = with_a_clock().await;
    let mut config = env.config();
    config.sending.schedule = Schedule::default();
    clock.set("10 years").await;
    let worker = env.start_with(config).await;
    let person = env.person();
    env.telegram.next_in(person.chat, refusal(400, "Bad Request: something new"));
    let id = env.tell(&person, &["Wait."]).await[0];
    testkit::wait_for("a refusal", PATIENCE, async || env.outcomes(id).await == [Some("refused".into())]).await;
    worker.stop().await;
    clock.set("0").await;
    let worker = env.start().await;
    env.wait_for_status(id, "sent").await;
    worker.stop().await;
}

#[tokio::test]
async fn a_clock_that_is_years_ahead_for_a_moment_gives_nothing_up() {
    let (env, clock) = with_a_clock().await;
    let mut config = env.config();
    config.sending.contact_timeout = Duration::from_secs(86_400);
    config.sending.clock_steady_time = Duration::from_secs(600);
    config.sending.gone_timeout = Duration::from_secs(3600);
    let (chatless, blocked, unknown) = (env.stranger(), env.person(), env.stranger());
    env.people.register(&chatless.email, None);
    env.telegram.always_in(blocked.chat, Failure::blocked());
    let worker = env.start_with(config).await;
    for person in [&chatless, &blocked, &unknown] {
        env.tell(person, &["one", "two"]).await;
    }
    testkit::wait_for("looks", PATIENCE, async || env.people.questions() >= 10).await;
    clock.set("10 years").await;
    let looks = env.people.questions();
    testkit::wait_for("looks while it is ahead", PATIENCE, async || env.people.questions() >= looks + 10).await;
    assert_eq!(env.count("pending").await, 6);
    worker.stop().await;
    // Also when the service starts meanwhile, and when it is right again.
    let mut config = env.config();
    config.sending.contact_timeout = Duration::from_secs(86_400);
    config.sending.gone_timeout = Duration::from_secs(3600);
    config.sending.clock_steady_time = Duration::from_secs(600);
    let worker = env.start_with(config).await;
    let looks = env.people.questions();
    testkit::wait_for("looks after a start", PATIENCE, async || env.people.questions() >= looks + 10).await;
    assert_eq!(env.count("pending").await, 6);
    clock.set("0").await;
    env.telegram.recover(simulators::telegram::Scope::Chat(blocked.chat));
    for person in [&chatless, &blocked, &unknown] {
        env.people.register(&person.email, Some(person.chat));
    }
    env.wait_for_count("sent", 6).await;
    worker.stop().await;
}

#[tokio::test]
async fn a_clock_that_stands_still_stops_nothing() {
    let (env, clock) = with_a_clock().await;
    let mut config = env.config();
    config.sending.schedule = Schedule::default();
    let worker = env.start_with(config).await;
    env.wait_until_leading(&worker).await;
    let person = env.person();
    env.telegram.next_in(person.chat, refusal(400, "Bad Request: something new"));
    let id = env.tell(&person, &["Wait."]).await[0];
    testkit::wait_for("a refusal", PATIENCE, async || env.outcomes(id).await == [Some("refused".into())]).await;
    clock.stop().await;
    env.wait_for_status(id, "sent").await;
    worker.stop().await;
}
