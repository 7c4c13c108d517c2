//! A million interests: what the leader's next step and one more interest cost.

use std::{
    collections::BTreeSet,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};

use chrono::{TimeDelta, Utc};
use data_collector::{
    core::{credits::Tier, geo::Position, plan},
    store::{Store, collection},
};
use local_servers::Durability;
use sqlx::PgPool;

use crate::{
    deployment::Deployment,
    load::{Requests, Server, Until},
    process::start,
    rows,
    table::{Table, Target},
};

const AIRPORTS: usize = 1_000;
const PEOPLE: u32 = 20_000;
/// How many interests each person has, first and then.
const INTERESTS: [u32; 2] = [5, 50];
/// People who have none, and add one.
const NEWCOMERS: u64 = 300;
/// How often a step is planned; the median counts.
const STEPS: usize = 21;

/// On the rows of a data-collector that runs, and with it.
pub async fn measure(table: &mut Table) {
    println!("planning with {} interests on {AIRPORTS} airports", PEOPLE * INTERESTS[1]);
    let mut deployment = Deployment::empty(Durability::Durable, &[]).await;
    for service in ["user-manager", "data-collector"] {
        start(&mut deployment, service, &[]).await;
    }
    let mut users = rows::connect(&deployment.postgres.url("user_manager")).await;
    rows::people(&mut users, PEOPLE + u32::try_from(NEWCOMERS).expect("a number")).await;
    rows::settle(&mut users).await;
    let url = deployment.postgres.url("data_collector");
    let mut data = rows::connect(&url).await;
    rows::keep_the_leader_from_asking(&mut data).await;
    let store = Store::new(PgPool::connect(&url).await.expect("the database"));
    let codes: Vec<_> = airports::all().take(AIRPORTS).map(|airport| airport.icao.to_string()).collect();
    let codes: Vec<_> = codes.iter().map(String::as_str).collect();
    let mut medians = Vec::new();
    let mut had = 0;
    for each in INTERESTS {
        rows::interests(&mut data, PEOPLE, had..each, &codes).await;
        had = each;
        rows::settle(&mut data).await;
        medians.push(median(&store).await);
    }
    let [few, many] = medians[..] else { panic!("two sizes") };
    let detail =
        format!("median of {STEPS}: what is known read, planned and recorded; {few:.1} ms with a tenth of them");
    table.add("a planning step with 1,000,000 interests", Target::Under(20.0), many, "ms", detail);
    let detail = "of the time with a tenth of them".to_owned();
    table.add(
        "a planning step with ten times as many interests",
        Target::Under(130.0),
        100.0 * many / few,
        "%",
        detail,
    );
    add_interests(table, &deployment).await;
    deployment.close().await;
}

/// The median time of a step, in milliseconds.
async fn median(store: &Store) -> f64 {
    let mut times = Vec::new();
    for _ in 0..STEPS {
        let begun = Instant::now();
        step(store).await;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    times[STEPS / 2].as_secs_f64() * 1000.0
}

/// What the leader does at each turn, but for its lease.
async fn step(store: &Store) {
    let locate = |airport: &str| {
        airports::lookup(airport).map(|found| Position { latitude: found.latitude, longitude: found.longitude })
    };
    let (now, interval) = (Utc::now(), TimeDelta::minutes(15));
    let known = store.known(now, interval, Tier::Standard, locate, &BTreeSet::new()).await.expect("what is known");
    let plan = plan::plan(&known.situation.without_times_ahead());
    let mut transaction = store.begin().await.expect("a transaction");
    collection::record_plan(&mut transaction, &plan.next_at).await.expect("recorded");
    transaction.commit().await.expect("committed");
}

/// One after the other: each has the leader plan anew.
async fn add_interests(table: &mut Table, deployment: &Deployment) {
    let server = Server::plain(deployment, "data-collector");
    let requests: Requests = Arc::new(|n| {
        let person = u64::from(PEOPLE) + 1 + n;
        let body =
            format!(r#"{{"email":"person{person}@example.org","airport_code":"EGLL","metric":"live","high_value":5}}"#);
        format!(
            "POST /interests HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
    });
    let answers = server.ask(1, &requests, &Arc::new(AtomicU64::new(0)), Until::Asked(NEWCOMERS)).await;
    assert_eq!(answers.other_than(&[201]), 0, "{:?}", answers.statuses);
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    let detail =
        format!("the median of {NEWCOMERS}, one after the other; 99 % within {:.1} ms", millis(answers.percentile(99)));
    table.add("POST /interests with 1,000,000", Target::Under(10.0), millis(answers.percentile(50)), "ms", detail);
}
