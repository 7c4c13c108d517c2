//! The workers of one replica.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::anyhow;
use runtime::{
    ServiceRuntime,
    log_limit::LogLimit,
    periodic::{Periodic, remove_all},
};
use tokio::{sync::Notify, time::timeout};

use super::{
    BatchHandler, CHANNEL, Handler, Kind, Settings,
    core::pace::{Next, Pace, Turn},
    forget_settled,
    metrics::Metrics,
    queue,
    worker::{Batches, Each, Turns, Worker},
};
use crate::{Listener, Pool};

/// How long a worker waits for a notification at most: the look that finds what a lost one would have told, and what a
/// replica that died had claimed.
const POLL_INTERVAL: Duration = Duration::from_secs(2);

const COUNT_INTERVAL: Duration = Duration::from_secs(15);
const COUNT_LIMIT: Duration = Duration::from_secs(15);
const CLEANING_INTERVAL: Duration = Duration::from_secs(3600);
const CLEANING_LIMIT: Duration = Duration::from_secs(60);
/// Removed in one statement at most, so that none takes long.
const CLEANED_AT_ONCE: i64 = 1000;

/// Works on the jobs of one database, each kind in a task of its own. Clones share the workers.
#[derive(Clone)]
pub struct Runner {
    runtime: ServiceRuntime,
    pool: Pool,
    metrics: Metrics,
    kinds: Arc<Mutex<BTreeMap<&'static str, Known>>>,
}

/// A kind that this replica works on.
#[derive(Clone)]
struct Known {
    enqueued: Arc<Notify>,
    kept_for: Option<Duration>,
}

impl Runner {
    /// A runner without kinds yet, on connections for background work: one is in use for each kind.
    ///
    /// # Errors
    /// When the service's registry holds the metrics already.
    pub fn new(runtime: &ServiceRuntime, pool: Pool) -> prometheus::Result<Self> {
        let metrics = Metrics::register(&runtime.registry)?;
        Ok(Self { runtime: runtime.clone(), pool, metrics, kinds: Arc::default() })
    }

    /// Works on jobs of this kind one by one until the service stops, several at once, without a transaction.
    pub fn spawn_each<H: Handler>(&self, kind: Kind<H::Payload>, settings: Settings, handler: H) {
        let worker = self.worker(kind.name(), settings, handler);
        self.spawn(worker.kind, worker.settings.clone(), worker.turn_limit(), Each(worker));
    }

    /// Works on jobs of this kind in batches until the service stops, in the transaction that holds them.
    pub fn spawn_batches<H: BatchHandler>(&self, kind: Kind<H::Payload>, settings: Settings, handler: H) {
        let worker = self.worker(kind.name(), settings, handler);
        self.spawn(worker.kind, worker.settings.clone(), worker.turn_limit(), Batches(worker));
    }

    /// Jobs of this kind were enqueued, or of any (`None`).
    pub fn wake(&self, kind: Option<&str>) {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        match kind {
            Some(kind) => kinds.get(kind).into_iter().for_each(|known| known.enqueued.notify_one()),
            None => kinds.values().for_each(|known| known.enqueued.notify_one()),
        }
    }

    /// A listener that also hears of new jobs.
    #[must_use]
    pub fn listen(&self, listener: Listener) -> Listener {
        let runner = self.clone();
        listener.on(CHANNEL, move |kind| runner.wake(kind))
    }

    /// What is done now and then beside the work: counting what waits, and removing what was kept for long enough.
    #[must_use]
    pub fn upkeep(&self) -> [Periodic; 2] {
        let (counted, cleaned) = (self.clone(), self.clone());
        [
            Periodic::new("count of jobs that wait", COUNT_INTERVAL, COUNT_LIMIT, move || {
                let runner = counted.clone();
                async move { runner.count().await }
            }),
            Periodic::new("clean-up of settled jobs", CLEANING_INTERVAL, CLEANING_LIMIT, move || {
                let runner = cleaned.clone();
                async move { runner.clean_up().await }
            }),
        ]
    }

    fn worker<H>(&self, kind: &'static str, settings: Settings, handler: H) -> Worker<H> {
        Worker { pool: self.pool.clone(), kind, settings, metrics: self.metrics.clone(), handler }
    }

    fn spawn<T: Turns>(&self, kind: &'static str, settings: Settings, turn_limit: Duration, worker: T) {
        let known = Known { enqueued: Arc::default(), kept_for: settings.kept_for };
        let enqueued = known.enqueued.clone();
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, known);
        let runtime = self.runtime.clone();
        self.runtime.tasks.spawn_droppable(format!("{kind} jobs"), async move {
            work(&runtime, kind, &settings, turn_limit, &worker, &enqueued).await;
            Ok(())
        });
    }

    async fn count(&self) -> anyhow::Result<()> {
        let mut waiting: BTreeMap<_, _> =
            queue::waiting(&self.pool).await?.into_iter().map(|(kind, count, age)| (kind, (count, age))).collect();
        // Kinds of another version have no label.
        for kind in self.kinds.lock().unwrap_or_else(PoisonError::into_inner).keys() {
            let (count, age) = waiting.remove(*kind).unwrap_or_default();
            self.metrics.waiting(kind, count, age);
        }
        Ok(())
    }

    async fn clean_up(&self) -> anyhow::Result<()> {
        let kinds: Vec<_> = {
            let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
            kinds.iter().filter_map(|(kind, known)| known.kept_for.map(|age| (*kind, age))).collect()
        };
        for (kind, age) in kinds {
            let removed = remove_all(|| forget_settled(&self.pool, kind, age, CLEANED_AT_ONCE)).await?;
            if removed > 0 {
                tracing::info!(job.kind = kind, "removed {removed} jobs that were settled long ago");
            }
        }
        Ok(())
    }
}

/// Takes one turn after the other until the service stops.
async fn work<T: Turns>(
    runtime: &ServiceRuntime,
    kind: &'static str,
    settings: &Settings,
    turn_limit: Duration,
    worker: &T,
    enqueued: &Notify,
) {
    let stopping = runtime.tasks.stopping();
    let mut pace = Pace::new(settings.batch, POLL_INTERVAL);
    let outage = LogLimit::default();
    while !stopping.is_cancelled() {
        let turn = timeout(turn_limit, worker.turn(&pace)).await;
        let turn = turn.unwrap_or_else(|_| Err(anyhow!("not done within {} s", turn_limit.as_secs_f64())));
        let turn = turn.unwrap_or_else(|error| {
            if let Some(more) = outage.line(()) {
                tracing::warn!(job.kind = kind, more, "{kind} jobs wait: {error:#}");
            }
            Turn::Unavailable
        });
        if matches!(turn, Turn::Worked(_))
            && let Some(failures) = outage.over()
        {
            tracing::info!(job.kind = kind, "{kind} jobs go on after {failures} failures");
        }
        tokio::select! {
            () = stopping.cancelled() => {}
            () = wait(pace.after(turn, &settings.pauses, rand::random()), enqueued) => {}
        }
    }
}

async fn wait(next: Next, enqueued: &Notify) {
    match next {
        Next::AtOnce => {}
        // A notification meanwhile says nothing about what is away.
        Next::Pause(pause) => tokio::time::sleep(pause).await,
        Next::Wait(longest) => {
            tokio::select! {
                () = enqueued.notified() => {}
                () = tokio::time::sleep(longest) => {}
            }
        }
    }
}
