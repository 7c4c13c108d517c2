//! Collection, by the leader alone: plan, do the next step, plan again.

mod calls;
mod daily;
mod failures;
mod live;
mod outlook;
mod today;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use pg::lease::{HoldError, Term};
use runtime::{
    Shell,
    clock::{Look, Woken},
    readiness::{Need, Part, Readiness},
};
use tokio::{sync::Notify, time::timeout};

use crate::{
    core::{
        credits::{Bucket, Tier},
        geo::Position,
        plan::{self, Step},
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

/// How long to wait after the database could not answer; twice as long after every further failure.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// The longest such wait. What was asked for meanwhile has cost credits and could not be kept.
const LONGEST_AFTER_FAILURE: Duration = Duration::from_secs(60);

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
pub fn part(readiness: &Readiness) -> Part {
    let part = readiness.part("opensky credits", Need::Optional, "not planned yet");
    part.up_with(NOT_COLLECTING);
    part
}

/// What collection works with.
pub struct Collector {
    /// Clock and stop.
    pub shell: Shell,
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
    /// Told when somebody waits for an airport.
    pub wake: Arc<Notify>,
    /// Where the credits' outlook is shown.
    pub part: Part,
    /// What is remembered until the day ends.
    pub today: Mutex<Today>,
    /// What was logged of answers that cannot be used.
    pub failures: Failures,
}

/// Why a turn could not be finished.
#[derive(Debug, thiserror::Error)]
enum TurnError {
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
async fn within<T, E: Into<TurnError>>(
    limit: Duration,
    part: impl Future<Output = Result<T, E>>,
) -> Result<T, TurnError> {
    timeout(limit, part).await.map_or(Err(TurnError::Silent(limit)), |done| done.map_err(Into::into))
}

impl From<sqlx::Error> for TurnError {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<HoldError> for TurnError {
    fn from(error: HoldError) -> Self {
        match error {
            HoldError::Deposed => Self::Deposed,
            HoldError::Database(error) => Self::Database(error),
        }
    }
}

impl Collector {
    /// Collects until the shell stops or the term ends.
    ///
    /// # Errors
    /// Never: a database that is away is tried again.
    pub async fn lead(self: Arc<Self>, term: Term) -> anyhow::Result<()> {
        let stopping = self.shell.tasks.stopping().clone();
        let _leading = Leading::begin(&self.part);
        let mut told = outlook::Told::default();
        let mut wait = AFTER_FAILURE;
        while !stopping.is_cancelled() {
            let turn = self.turn(&term, &mut told).await;
            if turn.is_ok() {
                wait = AFTER_FAILURE;
            }
            match turn {
                Ok(None) => {}
                Ok(Some((wake_at, planned))) => self.wait_until(wake_at, planned).await,
                Err(TurnError::Stopping) => break,
                Err(TurnError::Deposed) => {
                    tracing::warn!("collection was taken over by another process");
                    break;
                }
                Err(error @ (TurnError::Database(_) | TurnError::Silent(_))) => {
                    tracing::warn!("collection waits for the database: {:#}", anyhow::Error::new(error));
                    tokio::select! {
                        () = stopping.cancelled() => {}
                        () = tokio::time::sleep(wait) => {}
                    }
                    wait = (wait * 2).min(LONGEST_AFTER_FAILURE);
                }
            }
        }
        Ok(())
    }

    /// Plans and does one step; answers until when there is nothing to do, when there is none.
    async fn turn(&self, term: &Term, told: &mut outlook::Told) -> Result<Option<(DateTime<Utc>, Look)>, TurnError> {
        let planned = self.shell.clock.look();
        let now = planned.time;
        let today = self.today(now);
        let known = self.store.known(now, self.interval, self.tier, locate, &today.alone);
        let mut known = within(DATABASE_LIMIT, known).await?;
        known.situation.probe_put_off_at = today.probe_put_off_at;
        for need in &mut known.situation.daily {
            need.probed = today.probed.get(&need.airport).copied().unwrap_or_default();
        }
        known.situation = known.situation.without_times_ahead();
        let plan = plan::plan(&known.situation);
        let recorded = async {
            let mut transaction = self.store.begin().await?;
            term.hold(&mut transaction).await?;
            collection::record_plan(&mut transaction, &plan.next_at).await?;
            transaction.commit().await?;
            Ok::<_, TurnError>(())
        };
        within(DATABASE_LIMIT, recorded).await?;
        self.show(&known, &plan, told);
        match plan.step {
            None => return Ok(Some((plan.wake_at, planned))),
            Some(Step::Live { airports, calls, regular }) => {
                self.collect_live(term, &known, &airports, &calls, regular).await?;
            }
            Some(Step::Daily { airport, directions, days }) => {
                self.collect_daily(term, &known, airport, &directions, days).await?;
            }
        }
        Ok(None)
    }

    fn show(&self, known: &Known, plan: &plan::Plan, told: &mut outlook::Told) {
        let watched: BTreeSet<&str> = known.watches.keys().map(String::as_str).collect();
        self.metrics.keep_airports(&watched);
        for outlook in &plan.outlook {
            self.metrics.credits(outlook.bucket, outlook.remaining, outlook.lasts_until);
        }
        let words = outlook::in_words(&plan.outlook, known.situation.now);
        if plan.outlook.iter().any(|outlook| outlook.paused_until.is_some() || outlook.remaining == 0) {
            self.part.down(words.clone());
        } else {
            self.part.up_with(words.clone());
        }
        if told.is_news(&plan.outlook) {
            tracing::info!("credits: {words}");
        }
    }

    async fn wait_until(&self, at: DateTime<Utc>, planned: Look) {
        tokio::select! {
            () = self.shell.tasks.stopping().cancelled() => {}
            () = self.wake.notified() => {}
            () = tokio::time::sleep(LONGEST_WAIT) => {}
            woken = self.shell.clock.sleep_until(at, planned) => if let Woken::ClockJumped(by) = woken {
                tracing::warn!("the clock jumped by {} s: planning anew", by.num_seconds());
            },
        }
    }

    async fn record_credits(
        &self,
        term: &Term,
        bucket: Bucket,
        change: impl FnOnce(crate::core::credits::Credits) -> crate::core::credits::Credits,
    ) -> Result<(), TurnError> {
        let now = self.shell.clock.now();
        let recorded = async {
            let credits = change(self.store.credits(bucket, self.tier, now).await?);
            let mut transaction = self.store.begin().await?;
            term.hold(&mut transaction).await?;
            collection::record_credits(&mut transaction, bucket, &credits).await?;
            transaction.commit().await?;
            Ok::<_, TurnError>(())
        };
        within(DATABASE_LIMIT, recorded).await
    }
}

/// Says on the part that this replica leads, until it is dropped: work is dropped when the lease is lost.
struct Leading<'a>(&'a Part);

impl<'a> Leading<'a> {
    fn begin(part: &'a Part) -> Self {
        part.down("not planned yet");
        Self(part)
    }
}

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        self.0.up_with(NOT_COLLECTING);
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
        assert!(matches!(silent, Err(TurnError::Silent(_))));
        assert_eq!(within(limit, async { Ok::<_, sqlx::Error>(7) }).await.ok(), Some(7));
    }
}
