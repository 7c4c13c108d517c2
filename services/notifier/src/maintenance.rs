//! What every replica does now and then: receives news from the others, counts what waits, and
//! removes what is old.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use pg::Listener;
use runtime::periodic::{Periodic, remove_all};
use tokio::sync::Notify;

use crate::{
    core::clock_watch::{ClockWatch, Sample},
    metrics::Metrics,
    store::{NEWS, Store},
};

/// How long settled alerts are kept. Kafka keeps messages for 7 days, so none comes again after it
/// has been forgotten here.
const RETENTION: Duration = Duration::from_secs(30 * 24 * 3600);
const COUNT_INTERVAL: Duration = Duration::from_secs(15);
const COUNT_LIMIT: Duration = Duration::from_secs(15);
const CLEANING_INTERVAL: Duration = Duration::from_secs(3600);
/// How often it is looked whether it is time to clean.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);
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

/// Removes what is old. Nothing is removed before the database's clock has been watched for `clock_steady_time` without
/// a step: one that is years ahead would make everything old.
#[must_use]
pub fn clean_up(store: Store, clock_steady_time: Duration) -> Periodic {
    let state = Arc::<Mutex<(ClockWatch, Option<Instant>)>>::default();
    Periodic::new("clean-up of settled alerts", LOOK_INTERVAL, CLEANING_LIMIT, move || {
        let (store, state) = (store.clone(), state.clone());
        async move {
            let shown = store.clock().await?;
            if is_time_to_clean(&mut state.lock().unwrap_or_else(PoisonError::into_inner), shown, clock_steady_time) {
                clean(&store).await?;
            }
            Ok(())
        }
    })
}

/// Whether a clean-up is due and the clock, which shows this now, may be trusted.
fn is_time_to_clean(
    (clock, cleaned_at): &mut (ClockWatch, Option<Instant>),
    shown: Sample,
    clock_steady_time: Duration,
) -> bool {
    if clock.observe(shown).is_some() {
        tracing::debug!("the database's clock was set: nothing is removed for now");
    }
    let now = shown.answered;
    let is_due = cleaned_at.is_none_or(|at| now.saturating_duration_since(at) >= CLEANING_INTERVAL);
    if !is_due || clock.steady_for(now) < clock_steady_time {
        return false;
    }
    *cleaned_at = Some(now);
    true
}

async fn clean(store: &Store) -> anyhow::Result<()> {
    let removed = remove_all(|| store.clean(RETENTION, CLEANED_AT_ONCE)).await?;
    if removed > 0 {
        tracing::info!("removed {removed} alerts that were settled long ago");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_removed_before_the_clock_was_steady_for_its_time_and_then_once_an_hour() {
        let (mut state, begun, steady_time) = (Default::default(), Instant::now(), Duration::from_secs(600));
        let mut cleans = |shown: u32, after: u64| {
            let at = begun + Duration::from_secs(after);
            let shown = Sample { shown: f64::from(shown), asked: at, answered: at };
            is_time_to_clean(&mut state, shown, steady_time)
        };
        assert_eq!([cleans(1_000_000, 0), cleans(1_000_500, 500)], [false, false]);
        // Years ahead, and right again.
        assert_eq!([cleans(900_000_000, 590), cleans(1_000_610, 610)], [false, false]);
        assert_eq!([cleans(1_001_200, 1200), cleans(1_001_211, 1211)], [false, true]);
        assert_eq!([cleans(1_004_700, 4700), cleans(1_004_820, 4820)], [false, true]);
    }
}
