//! Removes what is older than the retention time, once an hour of the service's clock. One replica does, the
//! holder of a lease: the others would only wait for its locks.

use std::time::Duration;

use chrono::TimeDelta;
use pg::{Database, lease};
use runtime::{ServiceRuntime, periodic::every_on};

use crate::{clock_check::ClockCheck, core::day, store::Store};

const INTERVAL: Duration = Duration::from_secs(3600);
/// How long one turn may take. What is left over is removed an hour later.
const LIMIT: Duration = Duration::from_secs(600);

/// How long it is known when an airport was tried that nobody watches any more.
const TRIED_FOR: TimeDelta = TimeDelta::days(1);

/// The name of the lease.
const RETENTION: &str = "data-collector-retention";

/// Runs until the service stops.
///
/// # Errors
/// Never; a database that is away is tried again at the next turn.
pub async fn run(runtime: ServiceRuntime, database: Database, store: Store, days: u32) -> anyhow::Result<()> {
    lease::run_as_leader(runtime.clone(), database, RETENTION, move |_| {
        remove_hourly(runtime.clone(), store.clone(), days)
    })
    .await
}

async fn remove_hourly(runtime: ServiceRuntime, store: Store, days: u32) -> anyhow::Result<()> {
    let (clock, store) = (runtime.clock, &store);
    let check = &ClockCheck::begin(clock);
    every_on(clock, runtime, "retention", INTERVAL, LIMIT, || async move {
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
    })
    .await
}
