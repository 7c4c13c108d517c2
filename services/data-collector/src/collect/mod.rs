//! Collection, by the leader alone: plan, do the next step, plan again.

mod budget_report;
mod calls;
mod daily;
mod failures;
mod live;
mod today;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use pg::lease::{FenceError, LeaseTerm};
use runtime::{
    ServiceRuntime,
    backoff::Backoff,
    clock::{ClockReading, Woken},
    readiness::{Criticality, HealthPart, Readiness},
};
use tokio::{sync::Notify, time::timeout};

use crate::{
    core::{
        credits::{Bucket, Tier},
        geo::Position,
        plan::{self, CollectionStep},
    },
    metrics::Metrics,
    opensky::OpenSky,
    store::{
        Store,
        collection::{self, Known},
    },
};

pub use failures::Failures;
use today::Doubted;
pub use today::Today;

/// How long to wait after the database could not answer. Nothing shortens it: what was asked for has cost credits and
/// could not be kept.
const AFTER_FAILURE: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));

/// How long the database may take for one part of a turn: longer than a statement may, so that only a
/// connection that died without a word comes to it. Calls to OpenSky have a limit of their own, each; a turn of
/// many slow ones is long, and must not lose what it has paid for.
const DATABASE_LIMIT: Duration = Duration::from_secs(30);

/// However far away the next step is, the plan is made again this often, in real time: what it was made of
/// may have been mended meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// What a replica that does not lead says of the credits. Whether another one leads it does not know.
const NOT_COLLECTING: &str = "this replica does not collect";

/// The part of `/readyz` that says how the credits fare.
pub fn part(readiness: &Readiness) -> HealthPart {
    let part = readiness.part("opensky credits", Criticality::Optional, "not planned yet");
    part.up_with(NOT_COLLECTING);
    part
}

/// What collection works with.
pub struct Collector {
    /// Clock and stop.
    pub runtime: ServiceRuntime,
    /// The database.
    pub store: Store,
    /// The source.
    pub opensky: OpenSky,
    /// What is counted.
    pub metrics: Metrics,
    /// The source, in words.
    pub source: String,
    /// The least time between two collections of an airport.
    pub interval: TimeDelta,
    /// What a full bucket holds until a header says otherwise.
    pub tier: Tier,
    /// Told when a user waits for an airport.
    pub wake: Arc<Notify>,
    /// Where the budget report is shown.
    pub part: HealthPart,
    /// What is remembered until the day ends.
    pub today: Mutex<Today>,
    /// What was logged of answers that cannot be used.
    pub failures: Failures,
    /// Metrics of a newer version that were logged.
    pub logged_metrics: Mutex<BTreeSet<String>>,
}

/// Why a turn could not be finished.
#[derive(Debug, thiserror::Error)]
enum CollectError {
    /// Another process leads now.
    #[error("another process leads now")]
    Deposed,
    /// The service stops.
    #[error("the service stops")]
    Stopping,
    /// The database could not answer.
    #[error("use the database")]
    Database(#[source] sqlx::Error),
    /// The database did not answer at all.
    #[error("the database did not answer within {} s", .0.as_secs())]
    Silent(Duration),
}

/// A part of a turn that only needs the database, within `limit`. A part that is given up is dropped, and its
/// transaction with it.
async fn within<T, E: Into<CollectError>>(
    limit: Duration,
    part: impl Future<Output = Result<T, E>>,
) -> Result<T, CollectError> {
    timeout(limit, part).await.map_or(Err(CollectError::Silent(limit)), |done| done.map_err(Into::into))
}

impl From<sqlx::Error> for CollectError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<FenceError> for CollectError {
    fn from(error: FenceError) -> Self {
        match error {
            FenceError::Deposed => Self::Deposed,
            FenceError::Database(error) => Self::Database(error),
        }
    }
}

impl Collector {
    /// Collects until the service stops or the term ends.
    ///
    /// # Errors
    /// Never: a database that is away is tried again.
    pub async fn run(self: Arc<Self>, term: LeaseTerm) -> anyhow::Result<()> {
        let stopping = self.runtime.tasks.stopping().clone();
        let _leading = Leading::begin(&self.part, &self.metrics);
        let mut last_logged = budget_report::LastLogged::default();
        let mut failures = 0;
        while !stopping.is_cancelled() {
            let turn = self.turn(&term, &mut last_logged).await;
            if turn.is_ok() {
                failures = 0;
            }
            match turn {
                Ok(None) => {}
                Ok(Some((wake_at, planned))) => self.wait_until(wake_at, planned).await,
                Err(CollectError::Stopping) => break,
                Err(CollectError::Deposed) => {
                    tracing::warn!("collection was taken over by another process");
                    break;
                }
                Err(error @ (CollectError::Database(_) | CollectError::Silent(_))) => {
                    tracing::warn!("collection waits for the database: {:#}", anyhow::Error::new(error));
                    tokio::select! {
                        () = stopping.cancelled() => {}
                        () = tokio::time::sleep(AFTER_FAILURE.whole(failures)) => {}
                    }
                    failures = failures.saturating_add(1);
                }
            }
        }
        Ok(())
    }

    /// Plans and does one step; answers until when there is nothing to do, when there is none.
    async fn turn(
        &self,
        term: &LeaseTerm,
        last_logged: &mut budget_report::LastLogged,
    ) -> Result<Option<(DateTime<Utc>, ClockReading)>, CollectError> {
        let planned = self.runtime.clock.reading();
        let now = planned.time;
        let today = self.today(now);
        let known = self.store.known(now, self.interval, self.tier, locate, &today.alone);
        let mut known = within(DATABASE_LIMIT, known).await?;
        self.log_unknown_metrics(&known.unknown_metrics);
        known.situation.probe_deferred_at = today.probe_deferred_at;
        for need in &mut known.situation.daily {
            need.probed = today.probed.get(&need.airport).copied().unwrap_or_default();
        }
        known.situation = known.situation.without_times_ahead();
        let plan = plan::plan(&known.situation);
        let recorded = async {
            let mut transaction = self.store.begin().await?;
            term.fence(&mut transaction).await?;
            collection::record_plan(&mut transaction, &plan.next_at).await?;
            transaction.commit().await?;
            Ok::<_, CollectError>(())
        };
        within(DATABASE_LIMIT, recorded).await?;
        self.show(&known, &plan, last_logged);
        match plan.step {
            None => return Ok(Some((plan.wake_at, planned))),
            Some(CollectionStep::Live { airports, calls, regular }) => {
                self.collect_live(term, &known, &airports, &calls, regular).await?;
            }
            Some(CollectionStep::Daily { airport, directions, days }) => {
                self.collect_daily(term, &known, airport, &directions, days).await?;
            }
        }
        Ok(None)
    }

    fn show(&self, known: &Known, plan: &plan::CollectionPlan, last_logged: &mut budget_report::LastLogged) {
        let watched: BTreeSet<&str> = known.watches.keys().map(String::as_str).collect();
        self.metrics.keep_airports(&watched);
        for budget_report in &plan.budget_report {
            self.metrics.credits(budget_report.bucket, budget_report.remaining, budget_report.lasts_until);
        }
        let words = budget_report::in_words(&plan.budget_report, known.situation.now);
        if plan
            .budget_report
            .iter()
            .any(|budget_report| budget_report.paused_until.is_some() || budget_report.remaining == 0)
        {
            self.part.down(words.clone());
        } else {
            self.part.up_with(words.clone());
        }
        if last_logged.is_news(&plan.budget_report) {
            tracing::info!("credits: {words}");
        }
    }

    /// A metric of a newer version is for the replicas that know it. It is logged once, in case that there are none.
    fn log_unknown_metrics(&self, metrics: &BTreeSet<String>) {
        let mut logged = self.logged_metrics.lock().unwrap_or_else(PoisonError::into_inner);
        for metric in metrics {
            if logged.insert(metric.clone()) {
                tracing::warn!("interests in {metric} are left to a newer version: this one does not know that metric");
            }
        }
    }

    async fn wait_until(&self, at: DateTime<Utc>, planned: ClockReading) {
        tokio::select! {
            () = self.runtime.tasks.stopping().cancelled() => {}
            () = self.wake.notified() => {}
            () = tokio::time::sleep(LONGEST_WAIT) => {}
            woken = self.runtime.clock.sleep_until(at, planned) => if let Woken::ClockJumped(by) = woken {
                tracing::warn!("the clock jumped by {} s: planning anew", by.num_seconds());
            },
        }
    }

    async fn record_credits(
        &self,
        term: &LeaseTerm,
        bucket: Bucket,
        change: impl FnOnce(crate::core::credits::Credits) -> crate::core::credits::Credits,
    ) -> Result<(), CollectError> {
        let now = self.runtime.clock.now();
        let recorded = async {
            let credits = change(self.store.credits(bucket, self.tier, now).await?);
            let mut transaction = self.store.begin().await?;
            term.fence(&mut transaction).await?;
            collection::record_credits(&mut transaction, bucket, &credits).await?;
            transaction.commit().await?;
            Ok::<_, CollectError>(())
        };
        within(DATABASE_LIMIT, recorded).await
    }
}

/// Says on the part and in the metrics that this replica leads, until it is dropped: work is dropped when the lease is
/// lost.
struct Leading<'a> {
    part: &'a HealthPart,
    metrics: &'a Metrics,
}

impl<'a> Leading<'a> {
    fn begin(part: &'a HealthPart, metrics: &'a Metrics) -> Self {
        part.down("not planned yet");
        metrics.leading(true);
        Self { part, metrics }
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        self.metrics.leading(false);
        self.part.up_with(NOT_COLLECTING);
    }
}

/// Where an airport is.
fn locate(airport: &str) -> Option<Position> {
    airports::lookup(airport).map(|found| Position { latitude: found.latitude, longitude: found.longitude })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_database_that_says_nothing_ends_the_turn() {
        let limit = Duration::from_millis(10);
        let silent = within(limit, std::future::pending::<Result<(), sqlx::Error>>()).await;
        assert!(matches!(silent, Err(CollectError::Silent(_))));
        assert_eq!(within(limit, async { Ok::<_, sqlx::Error>(7) }).await.ok(), Some(7));
    }
}
