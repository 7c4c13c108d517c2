//! Repeated, late, removed, shared.

use std::time::Duration;

use alert_system::store::LevelStore;
use events::topics::{ALERT_SYSTEM_GROUP, TO_ALERT_SYSTEM};
use pg::clock::SteadyClock;
use testkit::topic_io;

use crate::test_env::{Interest, PATIENCE, Sent, TestEnv, legacy};

/// Some lives, each with its crossings.
fn lives(interests: &[Interest]) -> Vec<Sent> {
    let flight_counts = [Some(5), Some(11), None, Some(12), Some(5), Some(5), Some(0), Some(99), Some(7), Some(8)];
    let rounds = (1..).zip(flight_counts);
    rounds.flat_map(|(seq, flights)| interests.iter().map(move |interest| interest.reading(seq, flights))).collect()
}

const TOLD: [&str; 5] = ["high", "recovered", "low", "high", "recovered"];

#[tokio::test]
async fn a_topic_that_comes_again_as_a_whole_tells_nothing() {
    let env = TestEnv::new().await;
    let interests: Vec<_> = (0..50).map(|_| Interest::new()).collect();
    env.send(&lives(&interests)).await;
    env.send(&[legacy("ada@example.org", "LICC", 11), legacy("ada@example.org", "LICC", 5)]).await;
    let worker = env.start().await;
    env.settled().await;
    worker.stop().await;
    let sent_alerts = env.sent_alerts().await.len();
    assert_eq!(sent_alerts, 50 * TOLD.len() + 2);

    let (topic, group) = (env.topics.topic(&TO_ALERT_SYSTEM), env.topics.group(&ALERT_SYSTEM_GROUP));
    topic_io::rewind(&env.kafka.bootstrap, &topic, &group).await;
    let worker = env.start().await;
    env.settled().await;
    assert_eq!(env.sent_alerts().await.len(), sent_alerts);
    worker.stop().await;
}

#[tokio::test]
async fn a_page_that_is_sent_again_tells_nothing_before_and_after_a_restart() {
    let env = TestEnv::new().await;
    let interest = Interest::new();
    let worker = env.start().await;
    env.send(&lives(std::slice::from_ref(&interest))).await;
    env.send(&lives(std::slice::from_ref(&interest))).await;
    env.settled().await;
    worker.stop().await;
    let worker = env.start().await;
    env.send(&lives(std::slice::from_ref(&interest))).await;
    env.settled().await;
    worker.stop().await;
    assert_eq!(env.sent_alerts().await.iter().map(|sent_alerts| sent_alerts.kind.as_str()).collect::<Vec<_>>(), TOLD);
}

#[tokio::test]
async fn a_late_message_is_stale_and_stays_so_over_a_restart() {
    let env = TestEnv::new().await;
    let interest = Interest::new();
    let worker = env.start().await;
    env.send(&[interest.reading(1, 5), interest.reading(3, 5), interest.reading(2, 99)]).await;
    env.settled().await;
    assert!(worker.metric("consumer_records_settled_total", "outcome=\"stale\"") == 1.0);
    worker.stop().await;
    let worker = env.start().await;
    env.send(&[interest.reading(2, 99), interest.reading(4, 5)]).await;
    env.settled().await;
    worker.stop().await;
    assert!(env.sent_alerts().await.is_empty());
}

#[tokio::test]
async fn nothing_is_told_of_an_interest_after_its_removal() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let (known, unknown) = (Interest::new(), Interest::new());
    env.send(&[known.reading(1, 5), known.removal(), known.reading(2, 99)]).await;
    env.send(&[unknown.removal(), unknown.reading(1, 99)]).await;
    env.settled().await;
    worker.stop().await;
    let worker = env.start().await;
    env.send(&[known.reading(3, 99), unknown.reading(2, 99), known.removal()]).await;
    env.settled().await;
    worker.stop().await;
    assert!(env.sent_alerts().await.is_empty());
    let kept: (i64, i64) = sqlx::query_as("SELECT count(*), count(*) FILTER (WHERE level = 'unknown') FROM levels")
        .fetch_one(&env.database.pool)
        .await
        .expect("a count");
    assert_eq!(kept, (2, 2));
}

#[tokio::test]
async fn a_clock_that_is_years_ahead_for_a_minute_revives_no_removed_interest() {
    let mut env = TestEnv::new().await;
    let set = env.database.with_clock().await;
    let (store, clock) = (LevelStore::new(env.database.pool.clone()), SteadyClock::new(Duration::from_millis(200)));
    let worker = env.start().await;
    let (removed, long_ago) = (Interest::new(), Interest::new());
    env.send(&[removed.reading(1, 5), removed.removal(), long_ago.removal()]).await;
    env.settled().await;
    worker.stop().await;
    // What was removed long ago is forgotten, once the clock is trusted.
    let aged = "UPDATE levels SET removed_at = now() - interval '23 days' WHERE interest_id = $1";
    sqlx::query(aged).bind(long_ago.id).execute(&env.database.pool).await.expect("aged");
    let forgets = async || store.forget_removed(&clock).await.expect("a look");
    testkit::wait_for("the clock to be trusted", PATIENCE, async || forgets().await == 1).await;
    for shift in ["30 days", "0", "5 years", "0"] {
        set.set(shift).await;
        assert_eq!(forgets().await, 0, "{shift}");
    }
    // A late page, or a dead letter that is replayed.
    let worker = env.start().await;
    env.send(&[removed.reading(2, 99)]).await;
    env.settled().await;
    worker.stop().await;
    assert!(env.sent_alerts().await.is_empty());
}

#[tokio::test]
async fn what_a_late_former_owner_writes_is_refused() {
    let env = TestEnv::new().await;
    let worker = env.start().await;
    let (interest, removed) = (Interest::new(), Interest::new());
    env.send(&[interest.reading(1, 5), removed.reading(1, 5), legacy("ada@example.org", "LICC", 5)]).await;
    env.settled().await;
    // The new owner went on, and this worker does not know it yet.
    for went_on in [
        "UPDATE levels SET seq = 9",
        "UPDATE levels SET removed_at = now() WHERE interest_id = $1",
        "UPDATE bare_levels SET positions = '{\"0\": 99, \"1\": 99, \"2\": 99}'",
    ] {
        let query = sqlx::query(went_on);
        let query = if went_on.contains("$1") { query.bind(removed.id) } else { query };
        query.execute(&env.database.pool).await.expect("a change");
    }
    env.send(&[interest.reading(2, 11), removed.reading(2, 11), legacy("ada@example.org", "LICC", 11)]).await;
    env.settled().await;
    worker.stop().await;
    let rows: Vec<(String, i64, bool)> =
        sqlx::query_as("SELECT level, seq, removed_at IS NOT NULL FROM levels ORDER BY 3")
            .fetch_all(&env.database.pool)
            .await
            .expect("rows");
    assert_eq!(rows, [("normal".to_owned(), 9, false), ("normal".to_owned(), 9, true)]);
    let legacy: String =
        sqlx::query_scalar("SELECT level FROM bare_levels").fetch_one(&env.database.pool).await.expect("a row");
    assert_eq!(legacy, "normal");
}

#[tokio::test]
async fn a_removed_interest_is_forgotten_when_no_message_can_be_about_it_any_more() {
    let env = TestEnv::new().await;
    // The limit is 22 days, since a dead letter may be replayed after 14 and read after 7 more: two rows lie beyond it
    // and two before it, all of them by hours.
    let insert = "INSERT INTO levels (interest_id, level, no_data, version, removed_at)
                  SELECT gen_random_uuid(), 'unknown', false, hours, now() - make_interval(hours => hours)
                  FROM unnest(ARRAY[24, 527, 529, 700]) AS hours";
    sqlx::query(insert).execute(&env.database.pool).await.expect("rows");
    let store = LevelStore::new(env.database.pool.clone());
    assert_eq!(store.forget_removed(&SteadyClock::default()).await.expect("a look"), 0, "the clock was seen once");
    assert_eq!(store.forget_removed(&SteadyClock::new(Duration::ZERO)).await.expect("a look"), 2);
    let left = sqlx::query_scalar("SELECT version FROM levels ORDER BY version");
    let left: Vec<i64> = left.fetch_all(&env.database.pool).await.expect("rows");
    assert_eq!(left, [24, 527]);
}

#[tokio::test]
async fn two_replicas_share_the_work_and_a_rebalance_loses_and_repeats_nothing() {
    let env = TestEnv::new().await;
    let interests: Vec<_> = (0..60).map(|_| Interest::new()).collect();
    let lives = lives(&interests);
    let (before, after) = lives.split_at(lives.len() / 3);
    let (during, after) = after.split_at(after.len() / 2);
    let one = env.start().await;
    env.send(before).await;
    env.wait_until_sent(1).await;
    env.send(during).await;
    let other = env.start().await;
    let shared = async || {
        env.send(&[Interest::new().reading(1, 5)]).await;
        other.metric("consumer_records_settled_total", "") > 0.0
    };
    testkit::wait_for("the second replica to work", PATIENCE, shared).await;
    one.stop().await;
    env.send(after).await;
    env.settled().await;
    other.stop().await;
    for interest in &interests {
        assert_eq!(interest.kinds_in(&env.ledger().await), TOLD);
    }
}
