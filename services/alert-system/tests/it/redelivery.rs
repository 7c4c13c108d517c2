//! Repeated, late, removed, shared.

use testkit::topic_io;

use crate::world::{Interest, PATIENCE, Sent, World, bare};

/// Some lives, each with its crossings.
fn lives(interests: &[Interest]) -> Vec<Sent> {
    let values = [Some(5), Some(11), None, Some(12), Some(5), Some(5), Some(0), Some(99), Some(7), Some(8)];
    let rounds = (1..).zip(values);
    rounds.flat_map(|(seq, value)| interests.iter().map(move |interest| interest.reading(seq, value))).collect()
}

const TOLD: [&str; 5] = ["high", "recovered", "low", "high", "recovered"];

#[tokio::test]
async fn a_topic_that_comes_again_as_a_whole_tells_nothing() {
    let world = World::new().await;
    let interests: Vec<_> = (0..50).map(|_| Interest::new()).collect();
    world.send(&lives(&interests)).await;
    world.send(&[bare("ada@example.org", "LICC", 11), bare("ada@example.org", "LICC", 5)]).await;
    let worker = world.start().await;
    world.settled().await;
    worker.stop().await;
    let told = world.told().await.len();
    assert_eq!(told, 50 * TOLD.len() + 2);

    let (topic, group) = (world.topics.to_alert_system(), world.topics.alert_system_group());
    topic_io::rewind(&world.kafka.bootstrap, &topic, &group).await;
    let worker = world.start().await;
    world.settled().await;
    assert_eq!(world.told().await.len(), told);
    worker.stop().await;
}

#[tokio::test]
async fn a_page_that_is_sent_again_tells_nothing_before_and_after_a_restart() {
    let world = World::new().await;
    let interest = Interest::new();
    let worker = world.start().await;
    world.send(&lives(std::slice::from_ref(&interest))).await;
    world.send(&lives(std::slice::from_ref(&interest))).await;
    world.settled().await;
    worker.stop().await;
    let worker = world.start().await;
    world.send(&lives(std::slice::from_ref(&interest))).await;
    world.settled().await;
    worker.stop().await;
    assert_eq!(world.told().await.iter().map(|told| told.kind.as_str()).collect::<Vec<_>>(), TOLD);
}

#[tokio::test]
async fn a_late_message_is_stale_and_stays_so_over_a_restart() {
    let world = World::new().await;
    let interest = Interest::new();
    let worker = world.start().await;
    world.send(&[interest.reading(1, 5), interest.reading(3, 5), interest.reading(2, 99)]).await;
    world.settled().await;
    assert!(worker.metric("consumer_records_settled_total", "outcome=\"stale\"") == 1.0);
    worker.stop().await;
    let worker = world.start().await;
    world.send(&[interest.reading(2, 99), interest.reading(4, 5)]).await;
    world.settled().await;
    worker.stop().await;
    assert!(world.told().await.is_empty());
}

#[tokio::test]
async fn nothing_is_told_of_an_interest_after_its_removal() {
    let world = World::new().await;
    let worker = world.start().await;
    let (known, unknown) = (Interest::new(), Interest::new());
    world.send(&[known.reading(1, 5), known.removal(), known.reading(2, 99)]).await;
    world.send(&[unknown.removal(), unknown.reading(1, 99)]).await;
    world.settled().await;
    worker.stop().await;
    let worker = world.start().await;
    world.send(&[known.reading(3, 99), unknown.reading(2, 99), known.removal()]).await;
    world.settled().await;
    worker.stop().await;
    assert!(world.told().await.is_empty());
    let kept: (i64, i64) = sqlx::query_as("SELECT count(*), count(*) FILTER (WHERE level = 'unknown') FROM levels")
        .fetch_one(&world.database.pool)
        .await
        .expect("a count");
    assert_eq!(kept, (2, 2));
}

#[tokio::test]
async fn what_a_late_former_owner_writes_is_refused() {
    let world = World::new().await;
    let worker = world.start().await;
    let (interest, removed) = (Interest::new(), Interest::new());
    world.send(&[interest.reading(1, 5), removed.reading(1, 5), bare("ada@example.org", "LICC", 5)]).await;
    world.settled().await;
    // The new owner went on, and this worker does not know it yet.
    for went_on in [
        "UPDATE levels SET seq = 9",
        "UPDATE levels SET removed_at = now() WHERE interest_id = $1",
        "UPDATE bare_levels SET positions = '{\"0\": 99, \"1\": 99, \"2\": 99}'",
    ] {
        let query = sqlx::query(went_on);
        let query = if went_on.contains("$1") { query.bind(removed.id) } else { query };
        query.execute(&world.database.pool).await.expect("a change");
    }
    world.send(&[interest.reading(2, 11), removed.reading(2, 11), bare("ada@example.org", "LICC", 11)]).await;
    world.settled().await;
    worker.stop().await;
    let rows: Vec<(String, i64, bool)> =
        sqlx::query_as("SELECT level, seq, removed_at IS NOT NULL FROM levels ORDER BY 3")
            .fetch_all(&world.database.pool)
            .await
            .expect("rows");
    assert_eq!(rows, [("normal".to_owned(), 9, false), ("normal".to_owned(), 9, true)]);
    let bare: String =
        sqlx::query_scalar("SELECT level FROM bare_levels").fetch_one(&world.database.pool).await.expect("a row");
    assert_eq!(bare, "normal");
}

#[tokio::test]
async fn a_removed_interest_is_forgotten_when_no_message_can_be_about_it_any_more() {
    let world = World::new().await;
    // The limit is 22 days, since a dead letter may be replayed after 14 and read after 7 more: two rows lie beyond it and two before it, all of them by hours.
    let insert = "INSERT INTO levels (interest_id, level, no_data, version, removed_at)
                  SELECT gen_random_uuid(), 'unknown', false, hours, now() - make_interval(hours => hours)
                  FROM unnest(ARRAY[24, 527, 529, 700]) AS hours";
    sqlx::query(insert).execute(&world.database.pool).await.expect("rows");
    let worker = world.start().await;
    let left = async || -> Vec<i64> {
        let hours = sqlx::query_scalar("SELECT version FROM levels ORDER BY version");
        hours.fetch_all(&world.database.pool).await.expect("rows")
    };
    testkit::wait_for("old removals to be forgotten", PATIENCE, async || left().await.len() < 4).await;
    assert_eq!(left().await, [24, 527]);
    worker.stop().await;
}

#[tokio::test]
async fn two_replicas_share_the_work_and_a_rebalance_loses_and_repeats_nothing() {
    let world = World::new().await;
    let interests: Vec<_> = (0..60).map(|_| Interest::new()).collect();
    let lives = lives(&interests);
    let (before, after) = lives.split_at(lives.len() / 3);
    let (during, after) = after.split_at(after.len() / 2);
    let one = world.start().await;
    world.send(before).await;
    world.wait_until_told(1).await;
    world.send(during).await;
    let other = world.start().await;
    let shared = async || {
        world.send(&[Interest::new().reading(1, 5)]).await;
        other.metric("consumer_records_settled_total", "") > 0.0
    };
    testkit::wait_for("the second replica to work", PATIENCE, shared).await;
    one.stop().await;
    world.send(after).await;
    world.settled().await;
    other.stop().await;
    for interest in &interests {
        assert_eq!(interest.told_in(&world.ledger().await), TOLD);
    }
}
