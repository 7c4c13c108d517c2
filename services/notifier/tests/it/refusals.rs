//! Failures of one message or one chat.

use std::time::{Duration, Instant};

use events::{Crossing, FlightCount};
use notifier::{
    core::{rate_limiter::ChatId, retry_schedule::Schedule},
    store::Store,
};
use proto::v1::UndeliveredReason;
use simulators::telegram::{Failure, Scope};

use crate::{
    telegram::{gap, refusal},
    test_env::{PATIENCE, TestEnv},
};

#[tokio::test]
async fn a_refused_message_is_tried_again_by_its_schedule_and_holds_nobody_else() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let (unlucky, other) = (env.person(), env.person());
    for _ in 0..2 {
        env.telegram.next_in(unlucky.chat, refusal(400, "Bad Request: message text is empty"));
    }
    let id = env.tell(&unlucky, &["Try."]).await[0];
    let fine = env.tell(&other, &["Fine."]).await[0];
    env.wait_for_status(fine, "sent").await;
    env.wait_for_status(id, "sent").await;
    assert_eq!(env.ended(id).await, ["refused", "refused", "sent"]);
    let calls: Vec<_> = env.telegram.sent().into_iter().filter(|call| call.chat_id == unlucky.chat).collect();
    assert!(gap(&calls[0], &calls[1]) >= Duration::from_millis(50));
    assert!(gap(&calls[1], &calls[2]) >= Duration::from_millis(300));
    worker.stop().await;
}

#[tokio::test]
async fn a_message_is_given_up_after_its_schedule_and_the_next_one_follows() {
    let env = TestEnv::new().await;
    let mut config = env.config();
    config.sending.schedule = Schedule::scaled(0.0001);
    let worker = env.start_with(config).await;
    let person = env.person();
    env.telegram.fail_times(Scope::Chat(person.chat), refusal(400, "Bad Request: something new"), 7);
    let ids = env.tell(&person, &["Hopeless.", "Fine."]).await;
    env.wait_for_status(ids[0], "given_up").await;
    env.wait_for_status(ids[1], "sent").await;
    assert_eq!(env.ended(ids[0]).await, ["refused"; 7]);
    assert!(worker.metric("notifications_sent_total", "outcome=\"given_up\"") > 0.9);
    worker.stop().await;
}

#[tokio::test]
async fn a_schedule_survives_a_restart() {
    let env = TestEnv::new().await;
    let mut config = env.config();
    config.sending.schedule = Schedule::default();
    let worker = env.start_with(config).await;
    let person = env.person();
    env.telegram.next_in(person.chat, refusal(400, "Bad Request: something new"));
    let id = env.tell(&person, &["Later."]).await[0];
    testkit::wait_for("a failure", PATIENCE, async || env.row(id).await.is_some_and(|(_, failures, _)| failures == 1))
        .await;
    worker.stop().await;
    let mut config = env.config();
    config.sending.schedule = Schedule::default();
    let worker = env.start_with(config).await;
    env.wait_for_status(id, "sent").await;
    let calls = env.telegram.sent();
    assert!(gap(&calls[0], &calls[1]) >= Duration::from_secs(5), "{:?}", gap(&calls[0], &calls[1]));
    assert_eq!(env.row(id).await.map(|(_, failures, _)| failures), Some(1));
    worker.stop().await;
}

/// Every way in which Telegram says that a chat cannot be reached.
fn unreachable() -> [(Failure, UndeliveredReason); 8] {
    let no_rights = refusal(400, "Bad Request: not enough rights to send text messages to the chat");
    [
        (Failure::blocked(), UndeliveredReason::Blocked),
        (Failure::deactivated(), UndeliveredReason::Deactivated),
        (Failure::kicked(), UndeliveredReason::NotInChat),
        (Failure::not_a_member(), UndeliveredReason::NotInChat),
        (Failure::chat_not_found(), UndeliveredReason::ChatNotFound),
        (refusal(400, "BAD REQUEST: CHAT NOT FOUND"), UndeliveredReason::ChatNotFound),
        (refusal(403, "Forbidden: something new"), UndeliveredReason::Forbidden),
        (no_rights, UndeliveredReason::NoRights),
    ]
}

#[tokio::test]
async fn a_chat_that_cannot_be_reached_gets_everything_when_it_is_named_again() {
    let env = TestEnv::new().await;
    let mut config = env.config();
    // Nothing but the name wakes it.
    config.sending.schedule = Schedule::default();
    config.sending.contact_timeout = Duration::from_secs(86_400);
    let worker = env.start_with(config).await;
    for (failure, _) in unreachable() {
        let person = env.person();
        env.telegram.always_in(person.chat, failure.clone());
        let ids = env.tell(&person, &["one", "two", "three"]).await;
        testkit::wait_for("a try", PATIENCE, async || env.outcomes(ids[0]).await == [Some("chat_gone".into())]).await;
        env.telegram.recover(Scope::Chat(person.chat));
        let looks = env.people.questions();
        testkit::wait_for("looks", PATIENCE, async || env.people.questions() >= looks + 3).await;
        assert_eq!(env.telegram.calls_in(person.chat), 1, "{failure:?}");
        env.people.register(&person.email, Some(person.chat));
        for id in &ids {
            env.wait_for_status(*id, "sent").await;
        }
        assert_eq!(env.ended(ids[0]).await, ["chat_gone", "sent"], "{failure:?}");
        let read: Vec<_> = env.telegram.read_in(person.chat);
        let order: Vec<_> = read.iter().map(|text| text.lines().nth(1).expect("a condition")).collect();
        assert_eq!(order, ["one", "two", "three"]);
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_chat_that_cannot_be_reached_is_tried_again_by_itself_and_when_it_is_heard_of() {
    let env = TestEnv::new().await;
    let mut config = env.config();
    config.sending.contact_timeout = Duration::from_secs(86_400);
    let worker = env.start_with(config).await;
    let (patient, heard) = (env.person(), env.person());
    for person in [&patient, &heard] {
        env.telegram.next_in(person.chat, Failure::blocked());
        let id = env.tell(person, &["one"]).await[0];
        let tried = async || env.outcomes(id).await.first() == Some(&Some("chat_gone".into()));
        testkit::wait_for("a try", PATIENCE, tried).await;
        if person.chat == heard.chat {
            let store = Store::new(env.database.pool.clone());
            store.chat_was_heard(ChatId(person.chat)).await.expect("woken");
        }
        env.wait_for_status(id, "sent").await;
        assert_eq!(env.ended(id).await, ["chat_gone", "sent"]);
    }
    worker.stop().await;
}

#[tokio::test]
async fn what_a_chat_could_not_be_told_for_its_time_is_given_up_and_reported_with_the_reason() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    for (failure, reason) in unreachable() {
        let person = env.person();
        env.telegram.always_in(person.chat, failure.clone());
        let ids = env.tell(&person, &["one", "two", "three"]).await;
        for id in &ids {
            env.wait_for_status(*id, "undeliverable").await;
        }
        assert!(env.telegram.calls_in(person.chat) <= 6, "{failure:?}");
        let reported = async || {
            let told = env.people.reports();
            let last = told.iter().rfind(|report| report.user_id == person.id.to_string());
            last.is_some_and(|report| report.count == 3 && report.reason() == reason && report.last_at_unix_ms > 0)
        };
        testkit::wait_for("a report", PATIENCE, reported).await;
    }
    testkit::wait_for("every end to be counted", PATIENCE, async || {
        worker.metric("notifications_sent_total", "outcome=\"undeliverable\"") > 23.9
    })
    .await;
    worker.stop().await;
}

#[tokio::test]
async fn a_report_that_user_manager_does_not_take_is_made_again() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let person = env.stranger();
    env.people.register(&person.email, None);
    let id = env.tell(&person, &["one"]).await[0];
    env.wait_for_status(id, "undeliverable").await;
    env.people.refuse(Some(tonic::Code::Unimplemented));
    let tried = async || {
        let calls = sqlx::query_scalar("SELECT coalesce(max(attempts), 0) FROM jobs");
        calls.fetch_one(&env.database.pool).await.is_ok_and(|calls: i32| calls >= 1)
    };
    let told = async || tried().await || !env.people.reports().is_empty();
    testkit::wait_for("a call", PATIENCE, told).await;
    env.people.refuse(None);
    testkit::wait_for("a report", PATIENCE, async || !env.people.reports().is_empty()).await;
    assert_eq!(env.people.reports()[0].reason(), UndeliveredReason::NoChat);
    worker.stop().await;
}

#[tokio::test]
async fn a_report_that_the_version_before_noted_is_made_and_leaves_nothing_in_its_table() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let person = env.stranger();
    env.people.register(&person.email, None);
    let id = env.tell(&person, &["one"]).await[0];
    env.wait_for_status(id, "undeliverable").await;
    testkit::wait_for("a report", PATIENCE, async || !env.people.reports().is_empty()).await;
    let before = env.people.reports();
    let noted = "INSERT INTO undelivered_reports (user_id) VALUES ($1)
                 ON CONFLICT (user_id) DO UPDATE SET version = nextval('undelivered_versions')";
    sqlx::query(noted).bind(person.id).execute(&env.database.pool).await.expect("noted");
    testkit::wait_for("another", PATIENCE, async || env.people.reports().len() > before.len()).await;
    let (reports, last) = (env.people.reports(), before.len() - 1);
    assert!(reports[last + 1].version > reports[last].version && reports[last + 1].count == 1, "{reports:?}");
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM undelivered_reports")
        .fetch_one(&env.database.pool)
        .await
        .expect("a count");
    assert_eq!(left, 0);
    worker.stop().await;
}

#[tokio::test]
async fn whoever_is_told_that_it_is_over_is_told_what_was_missed() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let person = env.stranger();
    env.people.register(&person.email, None);
    let flight_count = FlightCount::new;
    let too_many = Crossing::High { flight_count: flight_count(10), threshold: flight_count(2) };
    let missed = env.tell_crossings(&person, &[too_many]).await[0];
    env.wait_for_status(missed, "undeliverable").await;
    env.people.register(&person.email, Some(person.chat));
    let is_over = Crossing::Recovered { flight_count: flight_count(2) };
    let too_few = Crossing::Low { flight_count: flight_count(0), threshold: flight_count(1) };
    for id in env.tell_crossings(&person, &[is_over, too_few, is_over]).await {
        env.wait_for_status(id, "sent").await;
    }
    let read = env.telegram.read_in(person.chat);
    let told = "\nThe number of flights (2) is back within the thresholds.\n\
                Not delivered before: The number of flights (10) exceeded the high threshold of 2.\n";
    assert!(read[0].contains(told), "{}", read[0]);
    assert!(read[1].contains("\nThe number of flights (0) is below the low threshold of 1.\n"), "{}", read[1]);
    assert!(read[1..].iter().all(|text| !text.contains("Not delivered before")), "{read:?}");
    worker.stop().await;
}

#[tokio::test]
async fn a_move_that_leads_nowhere_is_forgotten() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let group = env.group();
    let nowhere = -1_009_999_999_999;
    env.telegram.next_in(group.chat, Failure::migrated_to(nowhere));
    env.telegram.always_in(nowhere, Failure::chat_not_found());
    let id = env.tell(&group, &["Where?"]).await[0];
    env.wait_for_status(id, "sent").await;
    assert_eq!(env.ended(id).await, ["migrated", "chat_gone", "sent"]);
    assert_eq!(env.telegram.read_in(group.chat).len(), 1);
    worker.stop().await;
}

#[tokio::test]
async fn a_group_that_moved_is_followed_at_once_and_after_a_restart() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let group = env.group();
    let new_id = -1_001_234_567_890;
    env.telegram.always_in(group.chat, Failure::migrated_to(new_id));
    let id = env.tell(&group, &["Where?"]).await[0];
    env.wait_for_status(id, "sent").await;
    assert_eq!(env.ended(id).await, ["migrated", "sent"]);
    worker.stop().await;
    let worker = env.start().await;
    let id = env.tell(&group, &["There."]).await[0];
    env.wait_for_status(id, "sent").await;
    assert_eq!(env.ended(id).await, ["sent"]);
    assert_eq!((env.telegram.calls_in(group.chat), env.telegram.read_in(new_id).len()), (1, 2));
    worker.stop().await;
}

#[tokio::test]
async fn markup_that_telegram_does_not_understand_goes_as_plain_text() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let person = env.person();
    env.telegram.next_in(person.chat, Failure::cannot_parse());
    let id = env.tell(&person, &["a < b"]).await[0];
    env.wait_for_status(id, "sent").await;
    assert_eq!(env.ended(id).await, ["plain_text", "sent"]);
    let calls = env.telegram.sent();
    assert_eq!((calls[0].parse_mode.as_deref(), calls[1].parse_mode.as_deref()), (Some("HTML"), None));
    assert!(calls[1].text.contains("\na < b\n"), "{}", calls[1].text);
    assert!(worker.metric("notifications_sent_total", "outcome=\"plain_text\"") > 0.9);
    worker.stop().await;
}

#[tokio::test]
async fn a_busy_chat_waits_as_long_as_it_is_told_and_nobody_else_does() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let (busy, other) = (env.person(), env.person());
    env.telegram.next_in(busy.chat, Failure::TooManyRequests { retry_after: 2 });
    let begun = Instant::now();
    let id = env.tell(&busy, &["Later."]).await[0];
    testkit::wait_for("a refusal", PATIENCE, async || env.telegram.calls_in(busy.chat) == 1).await;
    let fine = env.tell(&other, &["Now."]).await[0];
    env.wait_for_status(fine, "sent").await;
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    env.wait_for_status(id, "sent").await;
    assert!(begun.elapsed() >= Duration::from_secs(2));
    assert_eq!(env.ended(id).await, ["too_many", "sent"]);
    assert_eq!(env.row(id).await.map(|(_, failures, _)| failures), Some(0));
    worker.stop().await;
}

#[tokio::test]
async fn a_limit_of_the_whole_bot_silences_everybody_for_as_long_as_it_says() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let people: Vec<_> = (0..6).map(|_| env.person()).collect();
    env.telegram.fail_always(Scope::All, Failure::TooManyRequests { retry_after: 2 });
    let mut ids = Vec::new();
    for person in &people {
        ids.extend(env.tell(person, &["Soon."]).await);
    }
    testkit::wait_for("the breaker to open", PATIENCE, async || worker.metric("telegram_breaker_state", "") > 0.9)
        .await;
    env.telegram.recover(Scope::All);
    let silent_from = env.telegram.sent().len();
    env.wait_for_count("sent", 6).await;
    let calls = env.telegram.sent();
    let silence = gap(&calls[silent_from - 1], &calls[silent_from]);
    assert!(silence >= Duration::from_millis(1900), "{silence:?}");
    for id in ids {
        assert_eq!(env.row(id).await.map(|(_, failures, _)| failures), Some(0));
    }
    worker.stop().await;
}

#[tokio::test]
async fn a_silence_of_the_whole_bot_outlasts_a_restart() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let told_off = Failure::TooManyRequests { retry_after: 6 };
    let people = [env.person(), env.person(), env.person()];
    for person in &people[..2] {
        env.telegram.next_in(person.chat, told_off.clone());
        env.tell(person, &["Soon."]).await;
        testkit::wait_for("a refusal", PATIENCE, async || env.telegram.calls_in(person.chat) == 1).await;
    }
    testkit::wait_for("the breaker to open", PATIENCE, async || worker.metric("telegram_breaker_state", "") > 0.9)
        .await;
    let kept = async || {
        let row = sqlx::query_scalar("SELECT count(*) FROM silence").fetch_one(&env.database.pool).await;
        row.is_ok_and(|count: i64| count == 1)
    };
    testkit::wait_for("the ledger to keep it", PATIENCE, kept).await;
    worker.stop().await;
    let worker = env.start().await;
    env.tell(&people[2], &["Soon."]).await;
    env.wait_until_leading(&worker).await;
    testkit::wait_for("the breaker to be open", PATIENCE, async || worker.metric("telegram_breaker_state", "") > 0.9)
        .await;
    env.wait_for_count("sent", 3).await;
    let calls = env.telegram.sent();
    let silence = gap(&calls[1], &calls[2]);
    assert!(silence >= Duration::from_millis(5900), "{silence:?}");
    worker.stop().await;
}
