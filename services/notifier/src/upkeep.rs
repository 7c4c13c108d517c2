//! What every replica does now and then: hears of news from the others, counts what waits, and
//! removes what is old.

use std::{sync::Arc, time::Duration};

use shell::{
    Shell,
    periodic::every,
    postgres::{self, Database},
};
use tokio::sync::Notify;

use crate::{
    metrics::Metrics,
    store::{NEWS, Store},
};

/// How long settled alerts are kept. Kafka keeps messages for 7 days, so none comes again after it
/// has been forgotten here.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
const COUNT_INTERVAL: Duration = Duration::from_secs(15);
const COUNT_LIMIT: Duration = Duration::from_secs(15);
const CLEANING_INTERVAL: Duration = Duration::from_secs(3600);
const CLEANING_LIMIT: Duration = Duration::from_secs(300);
/// Removed in one statement at most, so that none takes long.
const CLEANED_AT_ONCE: i64 = 1000;

/// Wakes whoever waits for `news` whenever any replica wrote something into the ledger.
///
/// # Errors
/// Never; an outage is waited out.
pub async fn hear(shell: Shell, database: Database, news: Arc<Notify>) -> anyhow::Result<()> {
    postgres::listen(shell, database, NEWS, move |_| news.notify_one()).await
}

/// Counts what waits, until the shell stops.
///
/// # Errors
/// Never; an outage is waited out.
pub async fn count(shell: Shell, store: Store, metrics: Metrics) -> anyhow::Result<()> {
    let (store, metrics) = (&store, &metrics);
    every(shell, "count of alerts that wait", COUNT_INTERVAL, COUNT_LIMIT, || async move {
        metrics.pending(store.pending().await?);
        Ok(())
    })
    .await
}

/// Removes what is old, until the shell stops.
///
/// # Errors
/// Never; an outage is waited out.
pub async fn clean_up(shell: Shell, store: Store) -> anyhow::Result<()> {
    let store = &store;
    every(shell, "clean-up of settled alerts", CLEANING_INTERVAL, CLEANING_LIMIT, || async move {
        let mut removed = 0;
        loop {
            let now = store.clean(RETENTION, CLEANED_AT_ONCE).await?;
            removed += now;
            if now == 0 {
                break;
            }
        }
        if removed > 0 {
            tracing::info!("removed {removed} alerts that were settled long ago");
        }
        Ok(())
    })
    .await
}
