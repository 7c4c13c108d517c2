//! One evaluation that cannot be carried out does not hold up the others, and none overtakes a reading.

use data_collector::store::evaluations::judged;
use uuid::Uuid;

use crate::{
    fan_out::{read, without_collection},
    support::{App, TestEnv, wait_for},
};

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
         INSERT INTO jobs (kind, key, payload)
         SELECT 'evaluation', id, jsonb_build_object('interest_id', id) FROM added ORDER BY id",
    )
    .bind(&ids)
    .bind(&emails)
    .bind(&metrics)
    .execute(&env.database.pool)
    .await
    .expect("interests");
    ids
}

async fn failures(env: &TestEnv, interest: Uuid) -> i32 {
    let failures = sqlx::query_scalar("SELECT attempts FROM jobs WHERE key = $1").bind(interest.to_string());
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
    assert_eq!(env.scalar("SELECT count(*) FROM jobs").await, 1);
    let set_aside = "jobs_finished_total{kind=\"evaluation\",outcome=\"set_aside\"}";
    assert!(app.metrics().contains(set_aside), "{}", app.metrics());
    // Neither collection nor what people see stops at it: it is a metric of a newer version.
    env.person("bob@example.org");
    let bob = app.watch("bob@example.org", "EGLL", "live", Some(5), None).await;
    env.wait_sent(bob, |sent| !sent.is_empty()).await;
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_of_the_version_before_writes_into_its_outbox_is_done_and_leaves_nothing_there() {
    let env = TestEnv::new().await;
    let app = begin(&env).await;
    let ada = env.scalar("SELECT count(*) FROM interests").await;
    let evaluated = "INSERT INTO interest_outbox (kind, interest_id, airport_code, metric)
                     SELECT 'evaluate', id, airport_code, metric FROM interests RETURNING interest_id";
    let rows = sqlx::query_scalar::<_, Uuid>(evaluated).fetch_all(&env.database.pool).await.expect("written");
    assert_eq!((i64::try_from(rows.len()).expect("few"), ada), (1, 1), "its statement counts its row");
    env.wait_sent(rows[0], |sent| sent.len() >= 2).await;
    let removed = "WITH removed AS (DELETE FROM interests RETURNING id, airport_code, metric)
                   INSERT INTO interest_outbox (kind, interest_id, airport_code, metric)
                   SELECT 'removed', id, airport_code, metric FROM removed";
    sqlx::query(removed).execute(&env.database.pool).await.expect("removed");
    wait_for("the removal", async || {
        let records = env.records().await;
        records.iter().any(|record| record.key == rows[0] && record.value.is_none()).then_some(())
    })
    .await;
    assert_eq!(env.scalar("SELECT count(*) FROM interest_outbox").await, 0);
    app.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removal_waits_for_an_evaluation_of_its_interest_that_is_set_aside() {
    let env = TestEnv::new().await;
    let app = begin(&env).await;
    let ids = put(&env, &[("bob@example.org".to_owned(), "live")]).await;
    env.wait_sent(ids[0], |sent| !sent.is_empty()).await;
    let held = "INSERT INTO jobs (kind, key, payload, attempts, due_at) VALUES
                ('evaluation', $1, jsonb_build_object('interest_id', $1), 1, now() + interval '3 s')";
    sqlx::query(held).bind(ids[0].to_string()).execute(&env.database.pool).await.expect("set aside");
    let removal = "INSERT INTO jobs (kind, key, payload)
                   SELECT 'removal', id, jsonb_build_object('interest_id', id, 'airport', 'LFPG', 'metric', 'live')
                   FROM interests";
    sqlx::query(removal).execute(&env.database.pool).await.expect("removals");
    let kinds = async |interest: Uuid| {
        let records = env.records().await.into_iter().filter(|record| record.key == interest);
        records.map(|record| record.value.is_some()).collect::<Vec<_>>()
    };
    // The removal of the other interest does not wait.
    let others = async || kinds(env.records().await[0].key).await;
    wait_for("a removal", async || others().await.contains(&false).then_some(())).await;
    wait_for("the removal", async || (kinds(ids[0]).await.len() >= 3).then_some(())).await;
    assert_eq!(kinds(ids[0]).await, [true, true, false]);
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
    assert_eq!(env.scalar("SELECT count(*) FROM jobs").await, 1);
    // Others who come now are judged at once, and without being told twice.
    let later = put(&env, &[("later@example.org".to_owned(), "live")]).await[0];
    let sent = env.wait_sent(later, |sent| !sent.is_empty()).await;
    assert_eq!(sent.len(), 1, "{sent:?}");
    sqlx::query("DELETE FROM interests WHERE id = $1").bind(ids[7]).execute(&env.database.pool).await.expect("gone");
    wait_for("nothing to be left", async || (env.scalar("SELECT count(*) FROM jobs").await == 0).then_some(())).await;
    app.stop().await;
}

/// By which reading of arrivals each of these interests would be judged now.
async fn judging_readings(env: &TestEnv, ids: &[Uuid]) -> Vec<Option<i64>> {
    let mut transaction = env.database.pool.begin().await.expect("a transaction");
    let judged = judged(&mut transaction, ids).await.expect("readings");
    let of = |id| judged.get(id).and_then(|judged| judged.as_ref().ok()).expect("an interest").reading.as_ref();
    ids.iter().map(|id| of(id).map(|reading| reading.seq)).collect()
}

async fn sent_up_to(env: &TestEnv, seq: i64) {
    let sent = sqlx::query("DELETE FROM fan_outs WHERE seq <= $1").bind(seq);
    sent.execute(&env.database.pool).await.expect("sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interest_is_judged_by_what_was_there_before_it_and_not_ahead_of_what_waits_for_the_fan_out() {
    let env = TestEnv::new().await;
    let first = put(&env, &[("ada@example.org".to_owned(), "arrivals")]).await[0];
    assert_eq!(judging_readings(&env, &[first]).await, [None]);
    read(&env, "LFPG", [1, 2, 3]).await;
    let second = put(&env, &[("bob@example.org".to_owned(), "arrivals")]).await[0];
    read(&env, "LFPG", [4, 5]).await;
    let both = [first, second];
    assert_eq!(judging_readings(&env, &both).await, [Some(1), Some(3)], "all of them wait");
    sent_up_to(&env, 1).await;
    assert_eq!(judging_readings(&env, &both).await, [Some(2), Some(3)]);
    sent_up_to(&env, 3).await;
    assert_eq!(judging_readings(&env, &both).await, [Some(4), Some(4)], "the oldest may be on its way without them");
    sent_up_to(&env, 5).await;
    assert_eq!(judging_readings(&env, &both).await, [Some(5), Some(5)], "nothing waits");
    // A change counts as an addition.
    read(&env, "LFPG", [6, 7]).await;
    let changed = "UPDATE interests SET high_value = 6, version = 2 WHERE id = $1";
    sqlx::query(changed).bind(first).execute(&env.database.pool).await.expect("a change");
    read(&env, "LFPG", [8]).await;
    assert_eq!(judging_readings(&env, &both).await, [Some(7), Some(6)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn readings_that_waited_for_kafka_reach_an_interest_of_that_time_in_their_order() {
    let env = TestEnv::new().await;
    without_collection(&env).await;
    let interests: Vec<_> = (0..20).map(|number| (format!("user{number}@example.org"), "arrivals")).collect();
    let ids = put(&env, &interests).await;
    read(&env, "LFPG", 1..=40).await;
    let app = env.start().await;
    for id in ids {
        let seq = |value: &serde_json::Value| value["reading"]["seq"].as_i64().expect("a number");
        let sent = env.wait_sent(id, |sent| sent.iter().any(|value| seq(value) == 40)).await;
        // What was sent already may come once more.
        let mut seqs: Vec<_> = Vec::new();
        for seq in sent.iter().map(seq) {
            if !seqs.contains(&seq) {
                seqs.push(seq);
            }
        }
        assert_eq!(seqs, (1..=40).collect::<Vec<_>>());
    }
    app.stop().await;
}
