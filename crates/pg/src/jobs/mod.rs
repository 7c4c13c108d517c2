//! The outbox, and what works on it: jobs that a transaction promises and that are done after it.
//!
//! A job is a row of the table `jobs`, enqueued in the transaction that causes it ([`Kind::enqueue`]): both are
//! committed or neither is. A [`Runner`] in every replica claims jobs, has a handler do them, and settles them. It is
//! woken by a notification of the same transaction and looks now and then in case one is lost.
//!
//! There are two ways to do jobs, and a kind has one of them:
//!
//! * [`Runner::spawn_each`], where the effect is a call to somewhere else: a job is claimed for a while in a statement
//!   of its own, so no transaction is open during the call. A replica that dies leaves a claim that runs out.
//! * [`Runner::spawn_batches`], where jobs are done together, with reads and effects in this database: the row locks of
//!   one transaction are the claim, the handler works in that transaction, and settling is part of it. A replica that
//!   dies frees its jobs at once.
//!
//! Either way a job is done at least once. What a failure means is the handler's to say ([`Failure`]).
//!
//! Jobs of a kind begin in the order of their ids. A kind that [waits for its key](Settings::waits_for_key) leaves a
//! job alone while an earlier one of the same key, whatever its kind, is not settled. All times are the database's, and
//! a job that never failed does not depend on them.
//!
//! Every service that uses this has the table `jobs`, as `table.sql` beside this file makes it, in its migrations.

pub mod core;

mod metrics;
mod queue;
mod runner;
mod worker;

use std::{marker::PhantomData, time::Duration};

use runtime::{backoff::Backoff, trace::RequestContext};
use serde::{Serialize, de::DeserializeOwned};
use sqlx::PgConnection;

pub use self::{queue::forget_settled, runner::Runner};

/// The channel on which the table tells of new jobs; the payload is the kind.
pub const CHANNEL: &str = "jobs";

/// A kind of job: its name in the table, and what a job of it carries.
#[derive(Debug)]
pub struct Kind<P> {
    name: &'static str,
    deduplicated: bool,
    payload: PhantomData<fn() -> P>,
}

impl<P> Clone for Kind<P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Kind<P> {}

impl<P> Kind<P> {
    /// The kind of this name.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self { name, deduplicated: false, payload: PhantomData }
    }

    /// The same kind, with one unsettled job of a key at most. Another one replaces its payload and makes it new again,
    /// also while it is being done: then it is done once more.
    #[must_use]
    pub const fn deduplicated(self) -> Self {
        Self { deduplicated: true, ..self }
    }

    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<P: Serialize> Kind<P> {
    /// Promises jobs in the transaction of `connection`.
    ///
    /// # Errors
    /// When a payload cannot be written, or the database is away.
    pub async fn enqueue(
        &self,
        connection: &mut PgConnection,
        jobs: &[NewJob<P>],
        context: &RequestContext,
    ) -> sqlx::Result<()> {
        queue::enqueue(connection, *self, jobs, context).await
    }
}

/// A job to be enqueued.
#[derive(Clone, Debug)]
pub struct NewJob<P> {
    /// What the job is about: an id, never an address, since it stands in logs.
    pub key: String,
    /// What it carries.
    pub payload: P,
    /// Of one kind, jobs of a higher priority begin first.
    pub priority: i16,
}

impl<P> NewJob<P> {
    /// A job of ordinary priority.
    pub fn new(key: impl Into<String>, payload: P) -> Self {
        Self { key: key.into(), payload, priority: 0 }
    }
}

/// A claimed job.
#[derive(Clone, Debug)]
pub struct Job<P> {
    /// Its row.
    pub id: i64,
    /// What it is about.
    pub key: String,
    /// What it carries.
    pub payload: P,
    /// What caused it.
    pub context: RequestContext,
    /// How often it was begun before and not settled: by calls, or by failures where jobs are done together.
    pub failures: u32,
}

/// Why jobs were not done. The worker logs it.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// What they depend on is away. The kind pauses, and then one job at a time asks whether it is back.
    #[error(transparent)]
    Unavailable(anyhow::Error),
    /// At least one of the jobs cannot be done now: it is set aside, for longer and longer, while the others go on.
    #[error(transparent)]
    Transient(anyhow::Error),
    /// The same, where a repetition would most likely fail alike. Another version may know what to do with the job.
    #[error(transparent)]
    Permanent(anyhow::Error),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        if crate::is_unavailable(&error) { Self::Unavailable(error.into()) } else { Self::Permanent(error.into()) }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        Self::Permanent(error.into())
    }
}

impl Failure {
    /// The same failure, with what was being done.
    #[must_use]
    pub fn context(self, doing: &'static str) -> Self {
        match self {
            Self::Unavailable(error) => Self::Unavailable(error.context(doing)),
            Self::Transient(error) => Self::Transient(error.context(doing)),
            Self::Permanent(error) => Self::Permanent(error.context(doing)),
        }
    }
}

/// Does one job at a time, without a transaction.
pub trait Handler: Send + Sync + 'static {
    /// What a job carries.
    type Payload: DeserializeOwned + Send + Sync + 'static;

    /// Does the job. It may be done again, also after it went well.
    ///
    /// # Errors
    /// When it was not done, perhaps.
    fn handle(&self, job: &Job<Self::Payload>) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Does jobs together, in the transaction that holds them.
pub trait BatchHandler: Send + Sync + 'static {
    /// What a job carries.
    type Payload: DeserializeOwned + Send + Sync + 'static;

    /// Does the jobs, with effects in the transaction of `connection`, which is committed afterwards. Answers which of
    /// them failed by themselves, by their ids; they are set aside in the same transaction.
    ///
    /// # Errors
    /// When the batch as a whole failed: the transaction is undone.
    fn handle(
        &self,
        connection: &mut PgConnection,
        jobs: &[Job<Self::Payload>],
    ) -> impl Future<Output = Result<Vec<(i64, Failure)>, Failure>> + Send;
}

/// How jobs of a kind are worked on.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How many are done together, or at once, at most.
    pub batch: usize,
    /// How long the handler may take, for one job or for a batch of them. A claim lasts a little longer.
    pub limit: Duration,
    /// How long the kind pauses while what it depends on is away.
    pub pauses: Backoff,
    /// How long a job waits that could not be done now.
    pub retries: Backoff,
    /// How long a job waits whose failure would repeat itself.
    pub permanent_retries: Backoff,
    /// Whether a job waits until earlier ones of the same key, of whatever kind, are settled.
    pub waits_for_key: bool,
    /// Kinds whose jobs may have waited for one of this kind.
    pub wakes: &'static [&'static str],
    /// How long settled jobs are kept, without their payloads; by default they are removed at once.
    pub kept_for: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            batch: 16,
            limit: Duration::from_secs(10),
            pauses: Backoff::new(Duration::from_millis(500), Duration::from_secs(15)),
            retries: Backoff::new(Duration::from_millis(500), Duration::from_secs(5)),
            permanent_retries: Backoff::new(Duration::from_millis(500), Duration::from_secs(60)),
            waits_for_key: false,
            wakes: &[],
            kept_for: None,
        }
    }
}
