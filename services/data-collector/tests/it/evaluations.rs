//! One evaluation that cannot be carried out does not hold up the others.

use uuid::Uuid;

use crate::support::{App, TestEnv, wait_for};

/// A reading that new interests are judged by, and one interest that was judged.
async fn begin(env: &TestEnv) -> App {
    env.person("ada@example.org");
    env.scripted.set_aircraft("a", 49.0, 2.5, 7);
    let app = env.start().await;
    let first = app.watch("ada@example.org", "LFPG", "live", Some(5), None).await;
    env.wait_sent(first, |sent| !sent.is_empty()).await;
    app
}

/// Puts interests with these addresses and metrics into the outbox, in one transaction.
async fn put(env: &TestEnv, interests: &[(String, &str)]) -> Vec<Uuid> {
    let ids: Vec<Uuid> = interests.iter().map(|_| Uuid::now_v7()).collect();
    let (emails, metrics): (Vec<_>, Vec<_>) = interests.iter().cloned().unzip();
    sqlx::query(
        "WITH added AS (
             INSERT INTO interests (id, user_id, user_email, airport_code, metric, high_value, version, created_at, updated_at)
             SELECT id, gen_random_uuid(), email, 'LFPG', metric, 5, 1, now(), now()
             FROM unnest($1::uuid[], $2::text[], $3::text[]) new (id, email, metric) RETURNING id, metric
         )
         INSERT INTO interest_outbox (kind, interest_id, airport_code, metric) SELECT 'evaluate', id, 'LFPG', metric FROM added ORDER BY id",
    )
    .bind(&ids)
    .bind(&emails)
    .bind(&metrics)
    .execute(&env.database.pool)
    .await
    .expect("interests");
    sqlx::query("SELECT pg_notify('data_collector', 'outbox')").execute(&env.database.pool).await.expect("told");
    ids
}

async fn failures(env: &TestEnv, interest: Uuid) -> i32 {
    let failures = sqlx::query_scalar("SELECT failures FROM interest_outbox WHERE interest_id = $1").bind(interest);
    failures.fetch_optional(&env.database.pool).await.expect("the outbox").unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interest_that_cannot_be_read_is_set_aside_and_the_others_are_judged() {
    let env = TestEnv::new().await;
    let app = begin(&env).await;
    sqlx::raw_sql("ALTER TABLE interests DROP CONSTRAINT interests_metric_check")
        .execute(&env.database.pool)
        .await
        .expect("a newer version's table");
    let email = |number: usize| format!("user{number}@example.org");
    let interests: Vec<_> = (0..20).map(|n| (email(n), if n == 3 { "helicopters" } else { "live" })).collect();
    let ids = put(&env, &interests).await;
    for (number, id) in ids.iter().enumerate().filter(|(number, _)| *number != 3) {
        let sent = env.wait_sent(*id, |sent| !sent.is_empty()).await;
        assert_eq!(sent[0]["flight_count"], 7, "{number}");
    }
    wait_for("it to be tried again", async || (failures(&env, ids[3]).await >= 2).then_some(())).await;
    assert_eq!(env.scalar("SELECT count(*) FROM interest_outbox").await, 1);
    assert!(app.metrics().contains("interest_evaluations_failed_total"), "{}", app.metrics());
    // Neither collection nor what people see stops at it: it is a metric of a newer version.
    env.person("bob@example.org");
    let bob = app.watch("bob@example.org", "EGLL", "live", Some(5), None).await;
    env.wait_sent(bob, |sent| !sent.is_empty()).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_kafka_refuses_is_set_aside_and_goes_with_its_interest() {
    let env = TestEnv::new().await;
    let app = begin(&env).await;
    // Larger than any message may be.
    let huge = format!("{}@example.org", "x".repeat(3_000_000));
    let mut interests: Vec<_> = (0..20).map(|number| (format!("user{number}@example.org"), "live")).collect();
    interests[7].0 = huge;
    // Unique addresses are not indexed at that size.
    sqlx::raw_sql("DROP INDEX interests_by_email").execute(&env.database.pool).await.expect("no index");
    let ids = put(&env, &interests).await;
    for id in ids.iter().filter(|id| **id != ids[7]) {
        env.wait_sent(*id, |sent| !sent.is_empty()).await;
    }
    wait_for("it to be tried again", async || (failures(&env, ids[7]).await >= 2).then_some(())).await;
    assert_eq!(env.scalar("SELECT count(*) FROM interest_outbox").await, 1);
    // Others who come now are judged at once, and without being told twice.
    let later = put(&env, &[("later@example.org".to_owned(), "live")]).await[0];
    let sent = env.wait_sent(later, |sent| !sent.is_empty()).await;
    assert_eq!(sent.len(), 1, "{sent:?}");
    sqlx::query("DELETE FROM interests WHERE id = $1").bind(ids[7]).execute(&env.database.pool).await.expect("gone");
    wait_for("nothing to be left", async || {
        (env.scalar("SELECT count(*) FROM interest_outbox").await == 0).then_some(())
    })
    .await;
    app.stop().await;
}
