//! Telegram's limits, kept without being told.

use std::time::Duration;

use crate::{telegram::gap, test_env::TestEnv};

#[tokio::test]
async fn the_limits_are_kept_and_telegram_never_has_to_say_so() {
    let env = TestEnv::with_limits().await;
    env.telegram.takes(Duration::from_millis(20));
    let worker = env.start().await;
    env.wait_until_leading(&worker).await;
    let group = env.group();
    env.tell(&group, &["one", "two", "three", "four", "five"]).await;
    for _ in 0..100 {
        env.tell(&env.person(), &["one"]).await;
    }
    env.wait_for_count("sent", 105).await;
    assert_eq!(env.telegram.told_off(), 0);
    let calls = env.telegram.sent();
    let took = gap(&calls[0], &calls[calls.len() - 1]);
    assert!(took < Duration::from_secs(20), "{took:?}");
    worker.stop().await;
}

#[tokio::test]
async fn a_group_that_has_had_its_share_waits_and_holds_nobody_else() {
    let env = TestEnv::new().await;
    let mut config = env.config();
    config.sending.group_per_minute = 2;
    let worker = env.start_with(config).await;
    let group = env.group();
    env.tell(&group, &["one", "two", "three"]).await;
    env.wait_for_count("sent", 2).await;
    for round in 3..=6 {
        env.tell(&env.person(), &["one"]).await;
        env.wait_for_count("sent", round).await;
    }
    assert_eq!(env.telegram.calls_in(group.chat), 2);
    assert_eq!(env.count("pending").await, 1);
    worker.stop().await;
}

#[tokio::test]
async fn what_a_group_has_had_still_counts_after_a_restart() {
    let env = TestEnv::new().await;
    let group = env.group();
    for (round, conditions) in [(1, ["one", "two"]), (2, ["three", "four"])] {
        let mut config = env.config();
        config.sending.group_per_minute = 2;
        let worker = env.start_with(config).await;
        env.tell(&group, &conditions).await;
        env.tell(&env.person(), &["one"]).await;
        // Two to the group in the first round, none in the second, and one to another user in each.
        env.wait_for_count("sent", 2 + round).await;
        worker.stop().await;
        assert_eq!(env.telegram.calls_in(group.chat), 2, "round {round}");
    }
    assert_eq!(env.count("pending").await, 2);
}

#[tokio::test]
async fn lifted_limits_let_everything_through_at_once() {
    let env = TestEnv::new().await;
    let mut config = env.config();
    (config.sending.per_second, config.sending.group_per_minute) = (0, 0);
    let worker = env.start_with(config).await;
    env.wait_until_leading(&worker).await;
    for _ in 0..200 {
        env.tell(&env.person(), &["one"]).await;
    }
    env.wait_for_count("sent", 200).await;
    assert_eq!(env.telegram.delivered().len(), 200);
    worker.stop().await;
}
