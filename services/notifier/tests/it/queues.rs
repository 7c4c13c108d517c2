//! Queues: what was pending before they existed, how much they cost, and that none is ever lost.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use notifier::{
    MIGRATOR,
    core::{
        ending::{Ending, Next, Outcome, Unsent},
        message::Alert,
        rate_limiter::ChatId,
        reach::{ChatLink, Reason},
    },
    store::{DueAlert, NewAlert, Postponed, Store},
};
use pg::lease::LeaseTerm;
use rand::{Rng, SeedableRng, rngs::StdRng};
use runtime::trace::RequestContext;
use sqlx::{PgPool, migrate::Migrator};
use uuid::Uuid;

use crate::{replicas::begin_term, test_env::TestEnv};

fn alert(email: &str) -> NewAlert {
    let alert = Alert {
        airport_code: "LFPG".to_owned(),
        condition: "x".to_owned(),
        kind: None,
        flight_count: None,
        threshold: None,
        metric: None,
        reading: None,
    };
    NewAlert {
        event_id: Uuid::new_v4(),
        email: email.to_owned(),
        user_id: None,
        alert,
        context: RequestContext::default(),
    }
}

async fn count(pool: &PgPool, sql: &'static str) -> i64 {
    sqlx::query_scalar(sql).fetch_one(pool).await.expect("a count")
}

/// Attempts at each of these alerts, which end in every way, or not at all. Answers which were sent.
async fn try_at_random(
    store: &Store,
    term: &LeaseTerm,
    heads: &[DueAlert],
    random: &mut StdRng,
) -> Vec<(String, Uuid)> {
    let link = ChatLink { chat: ChatId(7), version: 1 };
    let short = Duration::from_millis(2);
    let ids: Vec<_> = heads.iter().map(|head| (head.event_id, link.chat)).collect();
    let begun = store.begin(term, &ids).await.expect("begun");
    assert_eq!(begun.len(), ids.len());
    let mut sent = Vec::new();
    for (event_id, attempt) in begun {
        let (outcome, next) = match random.random_range(0..10) {
            0 => (Outcome::ChannelFailure, Next::Unchanged),
            1 => (Outcome::Unclear, Next::Repeat(short)),
            2 => (Outcome::ChatGone, Next::Kept { reason: Reason::Blocked, wait: short }),
            3 => {
                // As if the process had died; the next leader declares it unclear.
                let declared = store.mark_unknown(term, &[], Duration::ZERO, &[Duration::ZERO]).await;
                declared.expect("declared");
                continue;
            }
            _ => (Outcome::Sent, Next::Delivered { message_id: None }),
        };
        let ended = store.end(attempt, link, &Ending { outcome, next }, short).await.expect("ended");
        if ended && outcome == Outcome::Sent {
            let head = heads.iter().find(|head| head.event_id == event_id).expect("it was asked for");
            sent.push((head.email.clone(), event_id));
        }
    }
    sent
}

/// Replicas add alerts, in batches of random people, while a leader sends, postpones, settles and retires
/// at random, and is killed between its steps. Afterwards everybody was served in order and once.
#[tokio::test]
async fn random_intake_beside_random_sending_loses_and_repeats_nothing_and_keeps_the_order() {
    const PEOPLE: u32 = 6;
    let env = TestEnv::new().await;
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let store = Store::new(env.database.pool.clone());
    let term = begin_term(&env).await;
    let is_over = AtomicBool::new(false);
    let consumer = |number: u64| {
        let (store, mut random) = (store.clone(), StdRng::seed_from_u64(seed ^ number));
        async move {
            for _ in 0..120 {
                // A replica owns its people: the alerts of one person come from one partition.
                let batch: Vec<_> = (0..random.random_range(1..6))
                    .map(|_| alert(&format!("{number}.{}@example.org", random.random_range(0..PEOPLE))))
                    .collect();
                let told = store.keep(&batch).await.expect("kept");
                assert_eq!(told, batch.len() as u64);
                tokio::time::sleep(Duration::from_millis(random.random_range(0..8))).await;
            }
        }
    };
    let sending = async {
        let (mut random, mut sent) = (StdRng::seed_from_u64(seed), HashMap::<String, Vec<Uuid>>::new());
        loop {
            let last = is_over.load(Ordering::SeqCst);
            let round = store.due(&[], 5).await.expect("due");
            let (mut heads, mut empty) = (Vec::new(), Vec::new());
            for queue in round.queues {
                match queue.head {
                    Some(head) => heads.push(head),
                    None => empty.push(queue.email),
                }
            }
            store.retire(&term, &empty).await.expect("retired");
            if heads.is_empty() {
                if last && empty.is_empty() && count(&env.database.pool, "SELECT count(*) FROM queues").await == 0 {
                    return sent;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
                continue;
            }
            if random.random_bool(0.2) {
                let later = |email: String| Postponed { email, wait: Duration::from_millis(3), is_gone: false };
                store.postpone(&term, &[later(heads.remove(0).email)]).await.expect("postponed");
            }
            for (email, event_id) in try_at_random(&store, &term, &heads, &mut random).await {
                sent.entry(email).or_default().push(event_id);
            }
        }
    };
    let taking = async {
        tokio::join!(consumer(1), consumer(2), consumer(3));
        is_over.store(true, Ordering::SeqCst);
    };
    let both = async { tokio::join!(taking, sending) };
    let ((), sent) = tokio::time::timeout(Duration::from_secs(180), both).await.expect("everything is sent");
    assert_eq!(sent, in_order(&env.database.pool).await);
}

/// Every alert of the ledger, by person and in the ledger's order.
async fn in_order(pool: &PgPool) -> HashMap<String, Vec<Uuid>> {
    let asked = sqlx::query_as::<_, (String, Uuid)>("SELECT email, event_id FROM alerts ORDER BY position");
    let mut alerts = HashMap::<String, Vec<Uuid>>::new();
    for (email, id) in asked.fetch_all(pool).await.expect("alerts") {
        alerts.entry(email).or_default().push(id);
    }
    alerts
}

#[tokio::test]
async fn what_was_pending_before_there_were_queues_is_queued_once() {
    let database = testkit::empty_database().await;
    let (before, after) = MIGRATOR.migrations.iter().cloned().partition(|migration| migration.version < 3);
    let part =
        |migrations: Vec<_>| Migrator { migrations: Cow::Owned(migrations), ignore_missing: true, ..Migrator::DEFAULT };
    part(before).run(&database.pool).await.expect("the tables of before");
    for sql in [
        "INSERT INTO alerts (event_id, email, content, status, settled_at, next_attempt_at) VALUES
           (gen_random_uuid(), 'a@x', '{}', 'sent', now(), now()),
           (gen_random_uuid(), 'a@x', '{}', 'pending', NULL, now() + interval '5 minutes'),
           (gen_random_uuid(), 'a@x', '{}', 'pending', NULL, now()),
           (gen_random_uuid(), 'b@x', '{}', 'pending', NULL, now()),
           (gen_random_uuid(), 'c@x', '{}', 'sent', now(), now())",
        "INSERT INTO attempts (event_id, epoch) SELECT event_id, 1 FROM alerts WHERE email = 'b@x'",
    ] {
        sqlx::query(sql).execute(&database.pool).await.expect("a row");
    }
    part(after).run(&database.pool).await.expect("the tables of now");
    let queues: Vec<(String, bool, bool)> = sqlx::query_as(
        "SELECT email, next_at BETWEEN now() + interval '4 minutes' AND now() + interval '5 minutes',
           next_at = 'infinity' FROM queues ORDER BY email",
    )
    .fetch_all(&database.pool)
    .await
    .expect("queues");
    assert_eq!(queues, [("a@x".to_owned(), true, false), ("b@x".to_owned(), false, true)]);
    // A replica of the version before goes on writing as it did.
    sqlx::query("INSERT INTO alerts (event_id, email, content) VALUES (gen_random_uuid(), 'd@x', '{}')")
        .execute(&database.pool)
        .await
        .expect("a row");
    assert_eq!(count(&database.pool, "SELECT count(*) FROM queues WHERE email = 'd@x' AND next_at <= now()").await, 1);
}

#[tokio::test]
async fn a_new_leader_finds_queues_that_are_missing_or_wait_for_no_attempt() {
    let env = TestEnv::new().await;
    let store = Store::new(env.database.pool.clone());
    store.keep(&[alert("a@example.org"), alert("b@example.org")]).await.expect("kept");
    env.execute("DELETE FROM queues WHERE email = 'a@example.org'").await;
    env.execute("UPDATE queues SET next_at = 'infinity'").await;
    let term = begin_term(&env).await;
    assert!(store.due(&[], 10).await.expect("due").queues.is_empty());
    store.mend(&term).await.expect("mended");
    assert_eq!(store.due(&[], 10).await.expect("due").queues.len(), 2);
}

#[tokio::test]
async fn settling_a_long_queue_takes_several_steps_and_leaves_nothing() {
    let env = TestEnv::new().await;
    let store = Store::new(env.database.pool.clone());
    let batch: Vec<_> = (0..6000).map(|_| alert("a@example.org")).collect();
    store.keep(&batch).await.expect("kept");
    let term = begin_term(&env).await;
    let whose = ("a@example.org", None);
    for settled in [5000, 1000, 0] {
        let end = (Unsent::Undeliverable, Some(Reason::NoChat));
        assert_eq!(store.settle_unsent(&term, whose, Duration::ZERO, end).await.expect("settled"), settled);
    }
    assert_eq!(env.count("pending").await, 0);
}

#[tokio::test]
async fn a_round_costs_no_more_when_one_person_has_fifty_thousand_alerts_and_as_many_people_wait() {
    let env = TestEnv::new().await;
    let store = Store::new(env.database.pool.clone());
    for sql in [
        "INSERT INTO alerts (event_id, email, content)
         SELECT gen_random_uuid(), 'one@example.org', '{\"airport_code\":\"LFPG\",\"condition\":\"x\"}'
         FROM generate_series(1, 50000)",
        "INSERT INTO alerts (event_id, email, content)
         SELECT gen_random_uuid(), n || '@example.org', '{\"airport_code\":\"LFPG\",\"condition\":\"x\"}'
         FROM generate_series(1, 50000) n",
        "UPDATE queues SET next_at = now() + interval '1 hour' WHERE email <> 'one@example.org'",
        "ANALYZE",
    ] {
        env.execute(sql).await;
    }
    let mut took = Vec::new();
    for _ in 0..30 {
        let begun = Instant::now();
        let (_, next, _) = store.next_due().await.expect("next");
        let round = store.due(&[], 32).await.expect("due");
        took.push(begun.elapsed());
        assert!(next.is_some() && round.queues.len() == 1 && round.queues[0].head.is_some());
    }
    // And with all of them due.
    env.execute("UPDATE queues SET next_at = now() - interval '1 hour'").await;
    for _ in 0..30 {
        let begun = Instant::now();
        let round = store.due(&[], 32).await.expect("due");
        took.push(begun.elapsed());
        assert_eq!(round.queues.len(), 32);
    }
    took.sort_unstable();
    println!("a round: median {:?}, worst {:?}", took[30], took[59]);
    assert!(took[30] < Duration::from_millis(50), "{took:?}");
}
