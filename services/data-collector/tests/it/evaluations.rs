//! One evaluation that cannot be carried out does not hold up the others.

use uuid::Uuid;

use crate::support::{App, World, wait_for};

/// A reading that new interests are judged by, and one interest that was judged.
async fn begin(world: &World) -> App {
    world.person("ada@example.org");
    world.scripted.set_aircraft("a", 49.0, 2.5, 7);
    let app = world.start().await;
    let first = app.watch("ada@example.org", "LFPG", "live", Some(5), None).await;
    world.wait_sent(first, |sent| !sent.is_empty()).await;
    app
}

/// Puts interests with these addresses and metrics into the outbox, in one transaction.
async fn put(world: &World, interests: &[(String, &str)]) -> Vec<Uuid> {
    let ids: Vec<Uuid> = interests.iter().map(|_| Uuid::now_v7()).collect();
    let (emails, metrics): (Vec<_>, Vec<_>) = interests.iter().cloned().unzip();
    sqlx::query(
        "WITH added AS (
             INSERT INTO interests (id, user_id, user_email, airport_code, metric, high_value, version, created_at, updated_at)
             SELECT id, gen_random_uuid(), email, 'LFPG', metric, 5, 1, now(), now()
             FROM unnest($1::uuid[], $2::text[], $3::text[]) new (id, email, metric) RETURNING id, metric
         )
         INSERT INTO jobs (kind, key, payload) SELECT 'evaluation', id, jsonb_build_object('interest_id', id) FROM added ORDER BY id",
    )
    .bind(&ids)
    .bind(&emails)
    .bind(&metrics)
    .execute(&world.database.pool)
    .await
    .expect("interests");
    ids
}

async fn failures(world: &World, interest: Uuid) -> i32 {
    let failures = sqlx::query_scalar("SELECT attempts FROM jobs WHERE key = $1").bind(interest.to_string());
    failures.fetch_optional(&world.database.pool).await.expect("the outbox").unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interest_that_cannot_be_read_is_set_aside_and_the_others_are_judged() {
    let world = World::new().await;
    let app = begin(&world).await;
    sqlx::raw_sql("ALTER TABLE interests DROP CONSTRAINT interests_metric_check")
        .execute(&world.database.pool)
        .await
        .expect("a newer version's table");
    let email = |number: usize| format!("user{number}@example.org");
    let interests: Vec<_> = (0..20).map(|n| (email(n), if n == 3 { "helicopters" } else { "live" })).collect();
    let ids = put(&world, &interests).await;
    for (number, id) in ids.iter().enumerate().filter(|(number, _)| *number != 3) {
        let sent = world.wait_sent(*id, |sent| !sent.is_empty()).await;
        assert_eq!(sent[0]["flight_count"], 7, "{number}");
    }
    wait_for("it to be tried again", async || (failures(&world, ids[3]).await >= 2).then_some(())).await;
    assert_eq!(world.scalar("SELECT count(*) FROM jobs").await, 1);
    assert!(
        app.metrics().contains("jobs_finished_total{kind=\"evaluation\",outcome=\"set_aside\"}"),
        "{}",
        app.metrics()
    );
    // Neither collection nor what people see stops at it: it is a metric of a newer version.
    world.person("bob@example.org");
    let bob = app.watch("bob@example.org", "EGLL", "live", Some(5), None).await;
    world.wait_sent(bob, |sent| !sent.is_empty()).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_of_the_version_before_writes_into_its_outbox_is_done_and_leaves_nothing_there() {
    let world = World::new().await;
    let app = begin(&world).await;
    let ada = world.scalar("SELECT count(*) FROM interests").await;
    let evaluated = "INSERT INTO interest_outbox (kind, interest_id, airport_code, metric)
                     SELECT 'evaluate', id, airport_code, metric FROM interests RETURNING interest_id";
    let rows = sqlx::query_scalar::<_, Uuid>(evaluated).fetch_all(&world.database.pool).await.expect("written");
    assert_eq!((i64::try_from(rows.len()).expect("few"), ada), (1, 1), "its statement counts its row");
    world.wait_sent(rows[0], |sent| sent.len() >= 2).await;
    let removed = "WITH removed AS (DELETE FROM interests RETURNING id, airport_code, metric)
                   INSERT INTO interest_outbox (kind, interest_id, airport_code, metric)
                   SELECT 'removed', id, airport_code, metric FROM removed";
    sqlx::query(removed).execute(&world.database.pool).await.expect("removed");
    wait_for("the removal", async || {
        let records = world.records().await;
        records.iter().any(|record| record.key == rows[0] && record.value.is_none()).then_some(())
    })
    .await;
    assert_eq!(world.scalar("SELECT count(*) FROM interest_outbox").await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_waits_for_an_evaluation_of_its_interest_that_is_set_aside() {
    let world = World::new().await;
    let app = begin(&world).await;
    let ids = put(&world, &[("bob@example.org".to_owned(), "live")]).await;
    world.wait_sent(ids[0], |sent| !sent.is_empty()).await;
    let held = "INSERT INTO jobs (kind, key, payload, attempts, due_at) VALUES
                ('evaluation', $1, jsonb_build_object('interest_id', $1), 1, now() + interval '3 s')";
    sqlx::query(held).bind(ids[0].to_string()).execute(&world.database.pool).await.expect("set aside");
    let removal = "INSERT INTO jobs (kind, key, payload)
                   SELECT 'removal', id, jsonb_build_object('interest_id', id, 'airport', 'LFPG', 'metric', 'live')
                   FROM interests";
    sqlx::query(removal).execute(&world.database.pool).await.expect("removals");
    let kinds = async |interest: Uuid| {
        let records = world.records().await.into_iter().filter(|record| record.key == interest);
        records.map(|record| record.value.is_some()).collect::<Vec<_>>()
    };
    // The removal of the other interest does not wait.
    let others = async || kinds(world.records().await[0].key).await;
    wait_for("a removal", async || others().await.contains(&false).then_some(())).await;
    wait_for("the removal", async || (kinds(ids[0]).await.len() >= 3).then_some(())).await;
    assert_eq!(kinds(ids[0]).await, [true, true, false]);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_kafka_refuses_is_set_aside_and_goes_with_its_interest() {
    let world = World::new().await;
    let app = begin(&world).await;
    // Larger than any message may be.
    let huge = format!("{}@example.org", "x".repeat(3_000_000));
    let mut interests: Vec<_> = (0..20).map(|number| (format!("user{number}@example.org"), "live")).collect();
    interests[7].0 = huge;
    // Unique addresses are not indexed at that size.
    sqlx::raw_sql("DROP INDEX interests_by_email").execute(&world.database.pool).await.expect("no index");
    let ids = put(&world, &interests).await;
    for id in ids.iter().filter(|id| **id != ids[7]) {
        world.wait_sent(*id, |sent| !sent.is_empty()).await;
    }
    wait_for("it to be tried again", async || (failures(&world, ids[7]).await >= 2).then_some(())).await;
    assert_eq!(world.scalar("SELECT count(*) FROM jobs").await, 1);
    // Others who come now are judged at once, and without being told twice.
    let later = put(&world, &[("later@example.org".to_owned(), "live")]).await[0];
    let sent = world.wait_sent(later, |sent| !sent.is_empty()).await;
    assert_eq!(sent.len(), 1, "{sent:?}");
    sqlx::query("DELETE FROM interests WHERE id = $1").bind(ids[7]).execute(&world.database.pool).await.expect("gone");
    wait_for("nothing to be left", async || (world.scalar("SELECT count(*) FROM jobs").await == 0).then_some(())).await;
    app.stop().await;
}
