//! What every replica does now and then: receives news from the others, counts what waits, and
//! removes what is old.

use std::{sync::Arc, time::Duration};

use pg::{Listener, clock::SteadyClock};
use runtime::periodic::{Periodic, remove_all};
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
/// How often it is cleaned, and the clock is looked at: a step between two looks that are far apart could be missed.
const CLEANING_INTERVAL: Duration = Duration::from_secs(60);
const CLEANING_LIMIT: Duration = Duration::from_secs(300);
/// Removed in one statement at most, so that none takes long.
const CLEANED_AT_ONCE: i64 = 1000;

/// A listener that notifies `news` whenever any replica wrote something into the ledger.
#[must_use]
pub fn listener(news: Arc<Notify>) -> Listener {
    Listener::default().on(NEWS, move |_| news.notify_one())
}

/// Counts what waits.
#[must_use]
pub fn count(store: Store, metrics: Metrics) -> Periodic {
    Periodic::new("count of alerts that wait", COUNT_INTERVAL, COUNT_LIMIT, move || {
        let (store, metrics) = (store.clone(), metrics.clone());
        async move {
            metrics.pending(store.pending().await?);
            Ok(())
        }
    })
}

/// Removes what is old, by a clock of the database that may be trusted: one that is years ahead would make everything
/// old, and a message that comes again would be sent again.
#[must_use]
pub fn clean_up(store: Store, clock: SteadyClock) -> Periodic {
    Periodic::new("clean-up of settled alerts", CLEANING_INTERVAL, CLEANING_LIMIT, move || {
        let (store, clock) = (store.clone(), clock.clone());
        async move { clean(&store, &clock).await }
    })
}

async fn clean(store: &Store, clock: &SteadyClock) -> anyhow::Result<()> {
    let removed = remove_all(|| store.clean(clock, RETENTION, CLEANED_AT_ONCE)).await?;
    if removed > 0 {
        tracing::info!("removed {removed} alerts that were settled long ago");
    }
    Ok(())
}
