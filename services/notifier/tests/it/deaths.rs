//! The real process, ended by SIGTERM, by SIGKILL, and at every point between two effects.

use std::time::Duration;

use events::headers;
use rand::{Rng, SeedableRng, rngs::StdRng};
use runtime::fault::FAULT_POINT;
use testkit::last_words;

use crate::{
    processes::{Lone, NOTIFIER, start},
    test_env::{PATIENCE, Person, TestEnv, alert},
};

#[tokio::test]
async fn a_death_before_the_offset_is_stored_repeats_nothing() {
    let lone = Lone::new().await;
    let env = &lone.env;
    let person = env.person();
    for point in ["notifier.ledger-written", "kafka.settled-not-stored"] {
        let id = env.tell(&person, &[point]).await[0];
        start(env, &[(FAULT_POINT, point)]).killed().await;
        assert!(env.status(id).await.is_some(), "{point}");
    }
    let process = start(env, &[]);
    env.wait_for_count("sent", 2).await;
    let last = env.tell(&person, &["The last."]).await[0];
    env.wait_for_status(last, "sent").await;
    assert_eq!(env.telegram.read_in(person.chat).len(), 3);
    process.stop().await;
}

#[tokio::test]
async fn a_death_between_attempt_and_call_is_unclear_and_the_person_reads_it_once() {
    let lone = Lone::new().await;
    let env = &lone.env;
    let person = env.person();
    let id = env.tell(&person, &["one"]).await[0];
    start(env, &[(FAULT_POINT, "notifier.attempt-written")]).killed().await;
    assert_eq!(env.outcomes(id).await, [None]);
    let process = start(env, &[]);
    env.wait_for_status(id, "sent").await;
    assert_eq!(env.ended(id).await, ["unclear", "sent"]);
    assert_eq!(env.telegram.read_in(person.chat).len(), 1);
    process.stop().await;
}

#[tokio::test]
async fn a_death_between_call_and_record_is_unclear_and_repeats_one_message() {
    let lone = Lone::new().await;
    let env = &lone.env;
    let (person, other) = (env.person(), env.person());
    let id = env.tell(&person, &["one"]).await[0];
    start(env, &[(FAULT_POINT, "notifier.sent-not-recorded")]).killed().await;
    assert_eq!(env.telegram.read_in(person.chat).len(), 1);
    let process = start(env, &[]);
    let unaffected = env.tell(&other, &["two"]).await[0];
    env.wait_for_status(unaffected, "sent").await;
    env.wait_for_status(id, "sent").await;
    assert_eq!(env.ended(id).await, ["unclear", "sent"]);
    assert_eq!(env.telegram.read_in(person.chat).len(), 2);
    process.stop().await;
}

#[tokio::test]
async fn sigterm_in_the_middle_of_the_work_repeats_and_loses_nothing() {
    let lone = Lone::new().await;
    let env = &lone.env;
    env.telegram.takes(Duration::from_millis(200));
    let people: Vec<_> = (0..80).map(|_| env.person()).collect();
    for person in &people {
        env.tell(person, &["one"]).await;
    }
    for calls in [10, 40] {
        let process = start(env, &[]);
        testkit::wait_for("calls", PATIENCE, async || env.telegram.sent().len() >= calls).await;
        process.stop().await;
    }
    let process = start(env, &[]);
    env.wait_for_count("sent", 80).await;
    assert!(people.iter().all(|person| env.telegram.read_in(person.chat).len() == 1));
    process.stop().await;
}

/// Everybody has everything, and a person who read something twice has an unclear attempt to show for it.
async fn assert_the_promise_was_kept(env: &TestEnv, people: &[Person], each: usize) {
    for person in people {
        let read = env.telegram.read_in(person.chat);
        let unclear: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM attempts JOIN alerts USING (event_id) WHERE email = $1 AND outcome = 'unclear'",
        )
        .bind(&person.email)
        .fetch_one(&env.database.pool)
        .await
        .expect("a count");
        let mut distinct: Vec<_> = read.iter().map(|text| text.lines().nth(1)).collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert_eq!(distinct.len(), each, "{read:?}");
        assert!(read.len() <= each + usize::try_from(unclear).unwrap(), "{read:?} with {unclear} unclear");
    }
}

#[tokio::test]
async fn sigkill_at_any_moment_loses_nothing_and_repeats_only_what_was_unclear() {
    let lone = Lone::new().await;
    let env = &lone.env;
    env.telegram.takes(Duration::from_millis(30));
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let people: Vec<_> = (0..40).map(|_| env.person()).collect();
    for person in &people {
        env.tell(person, &["one", "two"]).await;
    }
    for _ in 0..3 {
        let process = start(env, &[]);
        let calls = env.telegram.sent().len() + random.random_range(1..15);
        testkit::wait_for("calls", PATIENCE, async || env.telegram.sent().len() >= calls).await;
        process.kill().await;
    }
    let process = start(env, &[]);
    env.wait_for_count("sent", 80).await;
    assert_the_promise_was_kept(env, &people, 2).await;
    process.stop().await;
}

#[tokio::test]
async fn a_second_process_takes_over_when_the_leader_is_killed() {
    let lone = Lone::new().await;
    let env = &lone.env;
    let person = env.person();
    let leader = start(env, &[]);
    let id = env.tell(&person, &["one"]).await[0];
    env.wait_for_status(id, "sent").await;
    let second = start(env, &[]);
    testkit::wait_for("the second to consume", PATIENCE, async || second.log().contains("consuming")).await;
    leader.kill().await;
    let id = env.tell(&person, &["two"]).await[0];
    env.wait_for_status(id, "sent").await;
    assert_eq!(env.telegram.read_in(person.chat).len(), 2);
    second.stop().await;
}

#[tokio::test]
async fn a_leader_that_was_frozen_sends_nothing_after_another_took_over() {
    let lone = Lone::new().await;
    let env = &lone.env;
    let person = env.person();
    let leader = start(env, &[]);
    let id = env.tell(&person, &["one"]).await[0];
    env.wait_for_status(id, "sent").await;
    leader.freeze(true);
    let second = start(env, &[]);
    testkit::wait_for("the second to lead", PATIENCE, async || second.log().contains("leading notifier-sending")).await;
    leader.freeze(false);
    for word in ["two", "three"] {
        let id = env.tell(&person, &[word]).await[0];
        env.wait_for_status(id, "sent").await;
    }
    testkit::wait_for("the first to notice", PATIENCE, async || leader.log().contains("no longer leading")).await;
    assert_eq!(env.telegram.read_in(person.chat).len(), 3);
    leader.stop().await;
    second.stop().await;
}

#[tokio::test]
async fn an_attempt_that_was_frozen_before_its_call_is_not_made_after_another_process_made_it() {
    let lone = Lone::new().await;
    let env = &lone.env;
    let person = env.person();
    let frozen = start(env, &[(FAULT_POINT, "freeze:notifier.attempt-written")]);
    let id = env.tell(&person, &["one"]).await[0];
    testkit::wait_for("the attempt", PATIENCE, async || env.outcomes(id).await == [None]).await;
    let second = start(env, &[]);
    env.wait_for_status(id, "sent").await;
    assert_eq!(env.ended(id).await, ["unclear", "sent"]);
    frozen.freeze(false);
    testkit::wait_for("the first to notice", PATIENCE, async || frozen.log().contains("the call was not made")).await;
    let last = env.tell(&person, &["two"]).await[0];
    env.wait_for_status(last, "sent").await;
    frozen.stop().await;
    second.stop().await;
    assert_eq!(env.telegram.read_in(person.chat).len(), 2);
}

#[tokio::test]
async fn an_attempt_that_was_frozen_before_its_call_for_a_moment_is_made_later_and_once() {
    let lone = Lone::new().await;
    let env = &lone.env;
    let person = env.person();
    let frozen = start(env, &[(FAULT_POINT, "freeze:notifier.attempt-written")]);
    let id = env.tell(&person, &["one"]).await[0];
    testkit::wait_for("the attempt", PATIENCE, async || env.outcomes(id).await == [None]).await;
    tokio::time::sleep(Duration::from_secs(3)).await; // The length of the freeze.
    frozen.freeze(false);
    env.wait_for_status(id, "sent").await;
    assert_eq!(env.ended(id).await, ["not_made", "sent"]);
    assert_eq!(env.telegram.read_in(person.chat).len(), 1);
    frozen.stop().await;
}

#[tokio::test]
async fn the_log_tells_the_request_and_the_alert_and_nothing_personal() {
    let lone = Lone::new().await;
    let env = &lone.env;
    let person = env.person();
    let process = start(env, &[("RUST_LOG", "debug"), ("LOG_FORMAT", "json")]);
    let event = alert(&person, "A secret sentence.", chrono::Utc::now());
    let value = serde_json::to_vec(&event).expect("JSON");
    let headers = [(headers::TYPE, headers::ALERT_V1), (headers::REQUEST_ID, "req-from-the-beginning")];
    env.send_raw(&[(Some(&person.email), Some(&value), &headers)]).await;
    env.wait_for_status(event.event_id, "sent").await;
    env.telegram.next(simulators::telegram::Failure::HangUp { delivered: false });
    let next = env.tell(&person, &["Another secret sentence."]).await[0];
    env.wait_for_status(next, "sent").await;
    let told = async || {
        let log = process.log();
        let id = event.event_id.to_string();
        log.lines().any(|line| {
            line.contains("sent the alert") && line.contains("req-from-the-beginning") && line.contains(&id)
        })
    };
    testkit::wait_for("the line in the log", PATIENCE, told).await;
    let log = process.log();
    for secret in [&person.email, &person.chat.to_string(), "secret sentence", crate::telegram::TOKEN] {
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} is in the log");
    }
    process.stop().await;
}

#[tokio::test]
async fn wrong_and_missing_settings_are_all_told_and_nothing_is_started() {
    let (code, words) = last_words(NOTIFIER, &[]).await;
    assert_eq!(code, Some(2), "{words}");
    for key in ["DATABASE_URL", "KAFKA_BROKER_URL", "USER_MANAGER_GRPC_URL", "TELEGRAM_BOT_TOKEN", "@BotFather"] {
        assert!(words.contains(key), "{words}");
    }
    let wrong = [
        ("DATABASE_URL", "postgres://localhost/notifier"),
        ("KAFKA_BROKER_URL", "http://localhost"),
        ("USER_MANAGER_GRPC_URL", "localhost"),
        ("TELEGRAM_BOT_TOKEN", "hush hush"),
        ("TELEGRAM_MESSAGES_PER_SECOND", "fast"),
        ("LOG_FORMAT", "prose"),
    ];
    let (code, words) = last_words(NOTIFIER, &wrong).await;
    assert!(code == Some(2) && words.starts_with("5 settings cannot be used"), "{code:?} {words}");
    assert!(!words.contains("hush"), "{words}");
}
