//! One turn of a worker: claim, do, settle.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use futures::FutureExt;
use serde::de::DeserializeOwned;
use sqlx::PgConnection;
use tokio::time::timeout;
use tracing::Instrument;
use uuid::Uuid;

use super::{
    BatchHandler, Failure, Handler, Job, Settings,
    core::pace::{Batch, Pace, Turn},
    metrics::{Metrics, Outcome},
    queue::{self, Row},
};
use crate::{Pool, Transaction};

/// How much longer than the handler's limit a claim lasts: what went well has to be recorded too.
const RECORD_LIMIT: Duration = Duration::from_secs(5);

/// What a worker works with.
pub(super) struct Worker<H> {
    pub(super) pool: Pool,
    pub(super) kind: &'static str,
    pub(super) settings: Settings,
    pub(super) metrics: Metrics,
    pub(super) handler: H,
}

/// What one turn of either way of working is.
pub(super) trait Turns: Send + Sync + 'static {
    /// Does one turn.
    fn turn(&self, pace: &Pace) -> impl Future<Output = anyhow::Result<Turn>> + Send;
}

impl<H> Worker<H> {
    /// How long a turn may take: longer than its parts, which have limits of their own.
    pub(super) fn turn_limit(&self) -> Duration {
        self.settings.limit + 2 * RECORD_LIMIT
    }

    fn claim_lasts(&self) -> Duration {
        self.settings.limit + RECORD_LIMIT
    }

    async fn idle(&self) -> sqlx::Result<Turn> {
        let Settings { pauses, retries, permanent_retries, .. } = &self.settings;
        let longest = [pauses.cap(), retries.cap(), permanent_retries.cap(), self.claim_lasts()];
        let longest = longest.into_iter().max().unwrap_or_default();
        Ok(Turn::Idle(queue::due_in(&self.pool, self.kind, longest).await?))
    }

    /// How long a job is left alone that failed so many times before.
    fn wait(&self, failure: &Failure, failures: u32) -> Duration {
        let waits = match failure {
            Failure::Permanent(_) => &self.settings.permanent_retries,
            Failure::Transient(_) => &self.settings.retries,
            Failure::Unavailable(_) => &self.settings.pauses,
        };
        waits.wait(failures, rand::random())
    }

    fn log_set_aside<P>(&self, job: &Job<P>, wait: Duration, failure: &Failure) {
        self.metrics.finished(self.kind, Outcome::SetAside, 1);
        tracing::warn!(
            job.kind = self.kind,
            job.id,
            job.key,
            failures = job.failures.saturating_add(1),
            "set a job aside for {:.1} s: {}",
            wait.as_secs_f64(),
            in_words(failure)
        );
    }

    async fn settle(&self, connection: &mut PgConnection, ids: &[i64], claim: Option<Uuid>) -> sqlx::Result<()> {
        queue::settle(connection, ids, claim, self.settings.kept_for.is_some(), self.settings.wakes).await
    }
}

/// Jobs one by one, each claimed for a while.
pub(super) struct Each<H>(pub(super) Worker<H>);

impl<H: Handler> Turns for Each<H> {
    async fn turn(&self, pace: &Pace) -> anyhow::Result<Turn> {
        let worker = &self.0;
        let claim = Uuid::new_v4();
        let limit = i64::try_from(pace.limit(Batch::Fresh))?;
        let until = (claim, worker.claim_lasts());
        let rows = queue::claim(&worker.pool, worker.kind, worker.settings.waits_for_key, limit, until).await;
        let rows = rows.context("claim jobs")?;
        if rows.is_empty() {
            return worker.idle().await.context("look when jobs are due");
        }
        let ended = futures::future::join_all(rows.into_iter().map(|row| self.one(row, claim))).await;
        let mut unavailable = None;
        for ended in ended {
            if let Some(error) = ended? {
                unavailable.get_or_insert(error);
            }
        }
        unavailable.map_or(Ok(Turn::Worked(Batch::Fresh)), Err)
    }
}

impl<H: Handler> Each<H> {
    /// Does one job and records how it went. Answers what is away, if that is why it was not done.
    async fn one(&self, row: Row, claim: Uuid) -> anyhow::Result<Option<anyhow::Error>> {
        let worker = &self.0;
        // This claim is counted already.
        let before = u32::try_from(row.attempts.saturating_sub(1)).unwrap_or_default();
        let (job, done) = match read(row, before) {
            Err((job, failure)) => (job, Err(failure)),
            Ok(job) => {
                let begun = Instant::now();
                let request_id = job.context.request_id.as_deref().unwrap_or_default();
                let span = tracing::info_span!("job", job.kind = worker.kind, job.key, %request_id);
                let context = job.context.enter(&span);
                let job = Job { context, ..job };
                let handling = worker.handler.handle(&job).instrument(span);
                let done = guarded(worker.settings.limit, Failure::Unavailable, handling).await;
                worker.metrics.took(worker.kind, begun.elapsed());
                (job.without_payload(), done)
            }
        };
        let mut connection = worker.pool.acquire().await.context("record a job")?;
        let Err(failure) = done else {
            worker.settle(&mut connection, &[job.id], Some(claim)).await.context("settle a job")?;
            connection.keep();
            worker.metrics.finished(worker.kind, Outcome::Done, 1);
            return Ok(None);
        };
        let wait = worker.wait(&failure, before);
        queue::postpone(&mut connection, job.id, claim, wait).await.context("postpone a job")?;
        connection.keep();
        if let Failure::Unavailable(error) = failure {
            worker.metrics.finished(worker.kind, Outcome::Unavailable, 1);
            return Ok(Some(error));
        }
        worker.log_set_aside(&job, wait, &failure);
        Ok(None)
    }
}

/// Jobs together, in the transaction that holds them.
pub(super) struct Batches<H>(pub(super) Worker<H>);

impl<H: BatchHandler> Turns for Batches<H> {
    async fn turn(&self, pace: &Pace) -> anyhow::Result<Turn> {
        let worker = &self.0;
        let mut transaction = crate::begin(&worker.pool).await.context("begin a batch of jobs")?;
        let mut batch = Batch::Fresh;
        let mut rows = self.lock(&mut transaction, batch, pace).await?;
        if rows.is_empty() {
            batch = Batch::Retried;
            rows = self.lock(&mut transaction, batch, pace).await?;
        }
        if rows.is_empty() {
            drop(transaction);
            return worker.idle().await.context("look when jobs are due");
        }
        let (mut jobs, mut failed) = (Vec::with_capacity(rows.len()), Vec::new());
        for row in rows {
            let failures = u32::try_from(row.attempts).unwrap_or_default();
            match read(row, failures) {
                Ok(job) => jobs.push(job),
                Err(unreadable) => failed.push(unreadable),
            }
        }
        match self.handle(&mut transaction, &jobs).await {
            Ok(failed_by_themselves) => {
                for (id, failure) in failed_by_themselves {
                    failed.extend(jobs.iter().find(|job| job.id == id).map(|job| (job.without_payload(), failure)));
                }
                self.settle(transaction, &jobs, &failed).await?;
                Ok(Turn::Worked(batch))
            }
            Err(Failure::Unavailable(error)) => {
                worker.metrics.finished(worker.kind, Outcome::Unavailable, jobs.len());
                Err(error)
            }
            Err(failure) => {
                // What the handler did in it is undone before anything else is recorded.
                transaction.rollback().await.context("undo a batch of jobs")?;
                self.split(&jobs, &failure).await?;
                Ok(Turn::Split(batch, jobs.len()))
            }
        }
    }
}

impl<H: BatchHandler> Batches<H> {
    async fn lock(&self, connection: &mut PgConnection, batch: Batch, pace: &Pace) -> anyhow::Result<Vec<Row>> {
        let limit = i64::try_from(pace.limit(batch))?;
        let locked = queue::lock(connection, self.0.kind, batch, self.0.settings.waits_for_key, limit).await;
        locked.context("claim jobs")
    }

    async fn handle(
        &self,
        connection: &mut PgConnection,
        jobs: &[Job<H::Payload>],
    ) -> Result<Vec<(i64, Failure)>, Failure> {
        if jobs.is_empty() {
            return Ok(Vec::new());
        }
        let (worker, begun) = (&self.0, Instant::now());
        let handling = worker.handler.handle(connection, jobs);
        let done = guarded(worker.settings.limit, Failure::Transient, handling).await;
        worker.metrics.took(worker.kind, begun.elapsed());
        done
    }

    /// Records what became of each job, together with what the handler did.
    async fn settle(
        &self,
        mut transaction: Transaction,
        jobs: &[Job<H::Payload>],
        failed: &[(Job<()>, Failure)],
    ) -> anyhow::Result<()> {
        let worker = &self.0;
        for (job, failure) in failed {
            self.set_aside(&mut transaction, job, failure).await?;
        }
        let is_done = |job: &&Job<H::Payload>| failed.iter().all(|(failed, _)| failed.id != job.id);
        let done: Vec<i64> = jobs.iter().filter(is_done).map(|job| job.id).collect();
        worker.settle(&mut transaction, &done, None).await.context("settle jobs")?;
        transaction.commit().await.context("settle jobs")?;
        worker.metrics.finished(worker.kind, Outcome::Done, done.len());
        Ok(())
    }

    /// Sets the one at fault aside once it is alone.
    async fn split(&self, jobs: &[Job<H::Payload>], failure: &Failure) -> anyhow::Result<()> {
        let [alone] = jobs else {
            tracing::debug!("{} jobs of the kind {} failed together: {}", jobs.len(), self.0.kind, in_words(failure));
            return Ok(());
        };
        let mut connection = self.0.pool.acquire().await.context("set a job aside")?;
        self.set_aside(&mut connection, &alone.without_payload(), failure).await
    }

    async fn set_aside(&self, connection: &mut PgConnection, job: &Job<()>, failure: &Failure) -> anyhow::Result<()> {
        let wait = self.0.wait(failure, job.failures);
        queue::set_aside(connection, job.id, wait).await.context("set a job aside")?;
        self.0.log_set_aside(job, wait, failure);
        Ok(())
    }
}

/// A job, or why what it carries cannot be read.
fn read<P: DeserializeOwned>(row: Row, failures: u32) -> Result<Job<P>, (Job<()>, Failure)> {
    let context = row.context();
    let Row { id, key, payload, .. } = row;
    match serde_json::from_str(payload.as_deref().unwrap_or("null")).context("read what a job carries") {
        Ok(payload) => Ok(Job { id, key, payload, context, failures }),
        Err(error) => Err((Job { id, key, payload: (), context, failures }, Failure::Permanent(error))),
    }
}

impl<P> Job<P> {
    fn without_payload(&self) -> Job<()> {
        Job { id: self.id, key: self.key.clone(), payload: (), context: self.context.clone(), failures: self.failures }
    }
}

/// Bounds what a handler may do to its worker: it takes at most `limit`, and a panic is the fault of its jobs alone.
async fn guarded<T>(
    limit: Duration,
    late: impl FnOnce(anyhow::Error) -> Failure,
    handling: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match timeout(limit, AssertUnwindSafe(handling).catch_unwind()).await {
        Ok(Ok(done)) => done,
        Ok(Err(_)) => Err(Failure::Permanent(anyhow!("the handler panicked"))),
        Err(_) => Err(late(anyhow!("not done within {} s", limit.as_secs_f64()))),
    }
}

fn in_words(failure: &Failure) -> String {
    let (Failure::Unavailable(error) | Failure::Transient(error) | Failure::Permanent(error)) = failure;
    format!("{error:#}")
}
