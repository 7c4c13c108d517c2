//! Removes what is older than the retention time, once an hour of the service's clock. One replica does, the
//! holder of a lease: the others would only wait for its locks.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use pg::{Database, lease};
use runtime::{ServiceRuntime, clock::Clock, periodic::Periodic};

use crate::{
    clock_check::ClockCheck,
    core::{clock::ClockDoubt, day},
    store::{Store, retention::Removed},
};

const INTERVAL: Duration = Duration::from_secs(3600);
/// How long one turn may take. What is left over is removed an hour later.
const LIMIT: Duration = Duration::from_secs(600);

/// How long it is known when an airport was tried that no interest names any more.
const TRIED_FOR: TimeDelta = TimeDelta::days(1);

/// The name of the lease.
const RETENTION: &str = "data-collector-retention";

/// Removes what is older than the retention time, as far as the clock is believed.
pub struct Retention {
    clock: Clock,
    check: ClockCheck,
    store: Store,
    days: u32,
}

/// What a turn did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It removed what is old.
    Removed(Removed),
    /// It removed nothing: the clock is not believed.
    Doubted(ClockDoubt),
}

/// Starts the removal of what is older than `days`.
pub fn spawn(runtime: &ServiceRuntime, database: &Database, store: Store, days: u32) {
    let retention = Arc::new(Retention::begin(runtime.clock, store, days));
    let job = move || {
        let retention = retention.clone();
        async move { Ok(retention.turn().await.map(drop)?) }
    };
    let job = Periodic::new("retention", INTERVAL, LIMIT, job).on(runtime.clock);
    lease::spawn_periodic(runtime, database, RETENTION, job);
}

impl Retention {
    /// Keeps `days`, by a clock that is watched from now on.
    #[must_use]
    pub fn begin(clock: Clock, store: Store, days: u32) -> Self {
        Self { clock, check: ClockCheck::begin(clock), store, days }
    }

    /// Removes what is old now. On the word of the local clock alone, one that is years ahead for a minute would take
    /// everything.
    ///
    /// # Errors
    /// When the database is away.
    pub async fn turn(&self) -> sqlx::Result<Turn> {
        let now = self.clock.now();
        if let Some(doubt) = self.check.doubt(now, &self.store).await? {
            return Ok(Turn::Doubted(doubt));
        }
        let days = self.days;
        let removed = self.store.remove_before(day::kept_since(now, days), now - TRIED_FOR).await?;
        if removed.readings + removed.flights > 0 {
            tracing::info!(
                readings = removed.readings,
                flights = removed.flights,
                "removed what is older than {days} days"
            );
        }
        Ok(Turn::Removed(removed))
    }
}
