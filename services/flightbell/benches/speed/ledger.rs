//! What the notifier's sender reads at each round, when very much waits.

use std::time::Instant;

use local_servers::Durability;
use notifier::{delivery::CONCURRENCY, store::Store};
use sqlx::PgPool;

use crate::{
    deployment::Deployment,
    process::start,
    rows,
    table::{Table, Target},
};

/// Alerts of one person, and people who have no chat yet, with an alert each.
const ALERTS: u32 = 50_000;
/// How often a round is made; the median counts.
const ROUNDS: usize = 21;

/// The rows are read as the sender does before it decides; what it then sends depends on Telegram, not on what waits.
pub async fn measure(table: &mut Table) {
    println!("a ledger with {ALERTS} alerts of one person, and {ALERTS} people waiting");
    let mut deployment = Deployment::empty(Durability::Durable, &[]).await;
    start(&mut deployment, "notifier", &[]).await;
    deployment.kill("notifier").await;
    let url = deployment.postgres.url("notifier");
    let mut ledger = rows::connect(&url).await;
    for email in ["'ada@example.org'", "'person' || n || '@example.org'"] {
        let alerts = format!(
            r#"INSERT INTO alerts (event_id, email, user_id, content, observed_at)
               SELECT gen_random_uuid(), {email}, md5({email})::uuid,
                   '{{"airport_code": "EGLL", "metric": "live", "kind": "recovered", "condition": "It is as it was."}}',
                   now()
               FROM generate_series(1, {ALERTS}) n"#
        );
        rows::run(&mut ledger, &alerts).await;
    }
    let store = Store::new(PgPool::connect(&url).await.expect("the ledger"));
    rows::settle(&mut ledger).await;
    let all_due = median(&store).await;
    let wait =
        "UPDATE queues SET next_at = now() + random() * interval '1 minute' + interval '1 minute', awaits_chat = true
                WHERE email LIKE 'person%'";
    rows::run(&mut ledger, wait).await;
    let waiting = median(&store).await;
    let detail = format!("median of {ROUNDS}; {all_due:.1} ms while all of them are due");
    table.add("a round of the notifier over a long ledger", Target::Under(50.0), all_due.max(waiting), "ms", detail);
    deployment.close().await;
}

/// The median time of a round, in milliseconds.
async fn median(store: &Store) -> f64 {
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        store.next_due().await.expect("what is next");
        let found = store.due(&[], CONCURRENCY).await.expect("what is due");
        times.push(begun.elapsed());
        assert!(!found.queues.is_empty(), "somebody is due");
    }
    times.sort_unstable();
    times[ROUNDS / 2].as_secs_f64() * 1000.0
}
