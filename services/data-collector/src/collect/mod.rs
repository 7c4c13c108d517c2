//! Collection, by the leader alone: plan, do the next step, plan again.

mod calls;
mod daily;
mod live;
mod outlook;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use shell::{
    Shell,
    lease::{HoldError, Term},
    readiness::{Need, Part, Readiness},
};
use tokio::sync::Notify;

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

/// How long to wait after the database could not answer; twice as long after every further failure.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// The longest such wait. What was asked for meanwhile has cost credits and could not be kept.
const LONGEST_AFTER_FAILURE: Duration = Duration::from_secs(60);

/// How long a turn may take: several calls to OpenSky, and their storing. One that waits for a connection that died
/// silently ends here at the latest; mostly the lease, on another connection to the same server, has noticed before.
const TURN_LIMIT: Duration = Duration::from_secs(90);

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
}

/// What is remembered until the day ends, and may be forgotten by a restart.
#[derive(Clone, Default)]
pub struct Today {
    day: NaiveDate,
    /// Airports that share no box, since the source refused one that they shared.
    alone: BTreeSet<String>,
    /// When a look for yesterday's flights was last due, and nothing was asked.
    probe_put_off_at: Option<DateTime<Utc>>,
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
            let turn = tokio::time::timeout(TURN_LIMIT, self.turn(&term, &mut told)).await;
            let turn = turn.unwrap_or(Err(TurnError::Database(sqlx::Error::PoolTimedOut)));
            if turn.is_ok() {
                wait = AFTER_FAILURE;
            }
            match turn {
                Ok(None) => {}
                Ok(Some(wake_at)) => self.wait_until(wake_at).await,
                Err(TurnError::Stopping) => break,
                Err(TurnError::Deposed) => {
                    tracing::warn!("collection was taken over by another process");
                    break;
                }
                Err(TurnError::Database(error)) => {
                    tracing::warn!("collection waits for the database: {error}");
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
    async fn turn(&self, term: &Term, told: &mut outlook::Told) -> Result<Option<DateTime<Utc>>, TurnError> {
        let now = self.shell.clock.now();
        let today = self.today(now);
        let mut known = self.store.known(now, self.interval, self.tier, locate, &today.alone).await?;
        known.situation.probe_put_off_at = today.probe_put_off_at;
        let plan = plan::plan(&known.situation);
        let mut transaction = self.store.begin().await?;
        term.hold(&mut transaction).await?;
        collection::record_plan(&mut transaction, &plan.next_at).await?;
        transaction.commit().await?;
        self.show(&known, &plan, told);
        match plan.step {
            None => return Ok(Some(plan.wake_at)),
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

    async fn wait_until(&self, at: DateTime<Utc>) {
        // A millisecond more, since the two clocks involved count differently below that.
        let wait = (at - self.shell.clock.now()).to_std().unwrap_or_default() + Duration::from_millis(1);
        tokio::select! {
            () = self.shell.tasks.stopping().cancelled() => {}
            () = self.wake.notified() => {}
            () = self.shell.clock.sleep(wait) => {}
        }
    }

    /// What is remembered on `now`'s day.
    fn today(&self, now: DateTime<Utc>) -> Today {
        let mut today = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        if today.day != now.date_naive() {
            *today = Today { day: now.date_naive(), ..Today::default() };
        }
        today.clone()
    }

    fn keep_alone(&self, airport: &str, now: DateTime<Utc>) {
        let mut today = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        if today.day == now.date_naive() {
            today.alone.insert(airport.to_owned());
        }
    }

    fn put_off_probe(&self, now: DateTime<Utc>) {
        let mut today = self.today.lock().unwrap_or_else(PoisonError::into_inner);
        if today.day == now.date_naive() {
            today.probe_put_off_at = Some(now);
        }
    }

    async fn record_credits(
        &self,
        term: &Term,
        bucket: Bucket,
        change: impl FnOnce(crate::core::credits::Credits) -> crate::core::credits::Credits,
    ) -> Result<(), TurnError> {
        let now = self.shell.clock.now();
        let credits = change(self.store.credits(bucket, self.tier, now).await?);
        let mut transaction = self.store.begin().await?;
        term.hold(&mut transaction).await?;
        collection::record_credits(&mut transaction, bucket, &credits).await?;
        transaction.commit().await?;
        Ok(())
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
