//! What every replica does now and then: hears of news from the others, counts what waits, and
//! removes what is old.

use std::{sync::Arc, time::Duration};

use shell::{Shell, postgres::Database};
use sqlx::postgres::{PgListener, PgPoolOptions};
use tokio::sync::Notify;

use crate::{
    metrics::Metrics,
    store::{NEWS, Store},
};

/// How long settled alerts are kept. Kafka keeps messages for 7 days, so none comes again after it
/// has been forgotten here.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
const COUNT_INTERVAL: Duration = Duration::from_secs(15);
const CLEANING_INTERVAL: Duration = Duration::from_secs(3600);
/// Removed in one statement at most, so that none takes long.
const CLEANED_AT_ONCE: i64 = 1000;
const RECONNECT_INTERVAL: Duration = Duration::from_secs(1);

/// Wakes whoever waits for `news` whenever any replica wrote something into the ledger.
///
/// # Errors
/// Never; an outage is waited out.
pub async fn hear(shell: Shell, database: Database, news: Arc<Notify>) -> anyhow::Result<()> {
    let stopping = shell.tasks.stopping().clone();
    // A connection of its own: waiting for news would keep one of the pool's for ever.
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_lazy_with(database.options(shell.service));
    let hearing = async {
        loop {
            if let Err(error) = hear_until_cut_off(&pool, &news).await {
                tracing::debug!("hear of news in the ledger: {error}");
            }
            tokio::time::sleep(RECONNECT_INTERVAL).await;
        }
    };
    tokio::select! {
        () = stopping.cancelled() => Ok(()),
        () = hearing => Ok(()),
    }
}

async fn hear_until_cut_off(pool: &sqlx::PgPool, news: &Notify) -> sqlx::Result<()> {
    let mut listener = PgListener::connect_with(pool).await?;
    listener.listen(NEWS).await?;
    loop {
        // Before the first word and after every interruption something may have been missed.
        news.notify_one();
        while listener.try_recv().await?.is_some() {
            news.notify_one();
        }
    }
}

/// Counts what waits and removes what is old, until the shell stops.
///
/// # Errors
/// Never; an outage is waited out.
pub async fn tidy(shell: Shell, store: Store, metrics: Metrics) -> anyhow::Result<()> {
    let stopping = shell.tasks.stopping().clone();
    let mut counting = tokio::time::interval(COUNT_INTERVAL);
    let mut cleaning = tokio::time::interval(CLEANING_INTERVAL);
    loop {
        tokio::select! {
            () = stopping.cancelled() => return Ok(()),
            _ = counting.tick() => match store.pending().await {
                Ok(count) => metrics.pending(count),
                Err(error) => tracing::debug!("count what waits: {error}"),
            },
            _ = cleaning.tick() => match clean(&store).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!("removed {removed} alerts that were settled long ago"),
                Err(error) => tracing::warn!("remove old alerts: {error}"),
            },
        }
    }
}

async fn clean(store: &Store) -> sqlx::Result<u64> {
    let mut removed = 0;
    loop {
        let now = store.clean(RETENTION, CLEANED_AT_ONCE).await?;
        removed += now;
        if now == 0 {
            return Ok(removed);
        }
    }
}
