//! Tells user-manager what a person was not told, so that the person can see it.
//!
//! The ledger notes each change in its own transaction. A note is claimed for one call and then removed
//! or postponed: a replica that dies in between leaves a claim that runs out, and the call is repeated,
//! which changes nothing. user-manager keeps the newest version, so replicas may call in any order.

use std::time::Duration;

use runtime::ServiceRuntime;

use crate::{
    core::schedule::Schedule,
    store::{Store, Undelivered},
    user_client::UserClient,
};

/// How often the notes are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// How long one look and its calls may take.
const LOOK_LIMIT: Duration = Duration::from_secs(8);
/// How many calls are made at once.
const AT_ONCE: i64 = 16;

/// Reports until the service stops.
///
/// # Errors
/// Never; every failure is waited out.
pub async fn report(
    runtime: ServiceRuntime,
    store: Store,
    user_client: UserClient,
    schedule: Schedule,
) -> anyhow::Result<()> {
    loop {
        tokio::select! {
            () = runtime.tasks.stopping().cancelled() => return Ok(()),
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
        match tokio::time::timeout(LOOK_LIMIT, turn(&store, &user_client, schedule)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!("look for undelivered alerts to report: {error}"),
            Err(_) => tracing::debug!("look for undelivered alerts to report: it takes too long"),
        }
    }
}

async fn turn(store: &Store, user_client: &UserClient, schedule: Schedule) -> sqlx::Result<()> {
    let reports = store.claim_reports(AT_ONCE).await?;
    let told = reports.iter().map(|report| tell(store, user_client, schedule, report));
    futures::future::join_all(told).await.into_iter().collect()
}

async fn tell(store: &Store, user_client: &UserClient, schedule: Schedule, report: &Undelivered) -> sqlx::Result<()> {
    match user_client.report_undelivered(report).await {
        Ok(()) => store.settle_report(report).await,
        Err(error) => {
            tracing::debug!("report undelivered alerts: {error}");
            store.postpone_report(report, schedule.repeat_wait(report.calls, rand::random())).await
        }
    }
}
