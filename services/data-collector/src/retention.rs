//! Removes what is older than the retention time, once an hour of the service's clock. One replica does, the
//! holder of a lease: the others would only wait for its locks.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use pg::{Database, lease};
use runtime::{ServiceRuntime, clock::Clock, periodic::Periodic};

use crate::{clock_check::ClockCheck, core::day, store::Store};

const INTERVAL: Duration = Duration::from_secs(3600);
/// How long one turn may take. What is left over is removed an hour later.
const LIMIT: Duration = Duration::from_secs(600);

/// How long it is known when an airport was tried that no interest names any more.
const TRIED_FOR: TimeDelta = TimeDelta::days(1);

/// The name of the lease.
const RETENTION: &str = "data-collector-retention";

/// Starts the removal of what is older than `days`.
pub fn spawn(runtime: &ServiceRuntime, database: &Database, store: Store, days: u32) {
    let clock = runtime.clock;
    let check = Arc::new(ClockCheck::begin(clock));
    let job = move || {
        let (store, check) = (store.clone(), check.clone());
        async move { remove(clock, &check, &store, days).await }
    };
    lease::spawn_periodic(runtime, database, RETENTION, Periodic::new("retention", INTERVAL, LIMIT, job).on(clock));
}

async fn remove(clock: Clock, check: &ClockCheck, store: &Store, days: u32) -> anyhow::Result<()> {
    let now = clock.now();
    // On the word of the local clock alone, one that is years ahead for a minute would take everything.
    if !check.confirms(now, store).await? {
        return Ok(());
    }
    let removed = store.remove_before(day::kept_since(now, days), now - TRIED_FOR).await?;
    if removed.readings + removed.flights > 0 {
        tracing::info!(
            readings = removed.readings,
            flights = removed.flights,
            "removed what is older than {days} days"
        );
    }
    Ok(())
}
