//! Each service as a process of its own.

use std::time::Duration;

use local_servers::Durability;

use crate::{
    deployment::{Deployment, SERVICES},
    latency,
    process::watch,
    table::{Table, Target},
    up::WATCHED,
};

/// What a start leaves behind is over by then.
const SETTLING: Duration = Duration::from_secs(10);

/// First with nothing to do, then with messages through all of them.
pub async fn idle_and_latency(table: &mut Table) {
    println!("each service on its own with nothing watched, {} s", (SETTLING + WATCHED).as_secs());
    let mut deployment = Deployment::empty(Durability::Durable, &latency::settings()).await;
    for service in SERVICES {
        deployment.start(service).await;
    }
    tokio::time::sleep(SETTLING).await;
    let pids = SERVICES.map(|service| deployment.program(service).pid());
    let usages = watch(pids, WATCHED).await;
    for (service, usage) in SERVICES.into_iter().zip(usages) {
        let detail = format!("nothing watched, the most in {} s; {:.1} % of a core", WATCHED.as_secs(), usage.cpu);
        table.add(service, Target::Under(30.0), usage.memory, "MiB", detail);
    }
    println!("messages through separate processes");
    let ledger = deployment.postgres.url("notifier");
    let what = "reading to Telegram through four processes, 99 %";
    latency::measure(what, table, &deployment.env, (&deployment.client, &deployment.base), &ledger).await;
    deployment.close().await;
}
