//! Every task has an owner and an end.

use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, anyhow};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long the tasks of a process may take to finish what is in flight: longer than a server's lame duck and drain
/// together.
pub const STOP_LIMIT: Duration = Duration::from_secs(19);

/// How long a task of [`Tasks::spawn_droppable`] may take to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// The long-running tasks of a process. The first that fails, or ends before it was asked to,
/// stops all of them. Clones share the tasks.
#[derive(Clone)]
pub struct Tasks {
    tracker: TaskTracker,
    stopping: CancellationToken,
    first_failure: Arc<Mutex<Option<anyhow::Error>>>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self::new(CancellationToken::new())
    }
}

impl Tasks {
    /// No tasks yet; all will be asked to stop through `stopping`.
    #[must_use]
    pub fn new(stopping: CancellationToken) -> Self {
        Self { tracker: TaskTracker::new(), stopping, first_failure: Arc::default() }
    }

    /// Cancelled when everything should finish what is in flight and end.
    #[must_use]
    pub fn stopping(&self) -> &CancellationToken {
        &self.stopping
    }

    /// Starts a task that lives until [`Tasks::stopping`]. Its failure, its panic and an early end
    /// stop the process, so that no part dies unseen.
    pub fn spawn<F>(&self, name: impl Into<String>, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let name = name.into();
        let this = self.clone();
        self.tracker.spawn(async move {
            // The inner task turns a panic into an error that names the part.
            let handle = this.tracker.spawn(task);
            let ended = handle.await;
            let failure = match ended {
                Ok(Ok(())) if this.stopping.is_cancelled() => return,
                Ok(Ok(())) => anyhow!("{name} ended though nobody asked it to"),
                Ok(Err(error)) => error.context(format!("run {name}")),
                Err(panic) => anyhow!(panic).context(format!("run {name}")),
            };
            this.fail(failure);
        });
    }

    /// Starts a task as [`Tasks::spawn`] does that may be dropped wherever it stands, a few seconds after
    /// [`Tasks::stopping`]: nothing holds up the end that the next start does again, such as a query that a
    /// frozen database does not answer.
    pub fn spawn_droppable<F>(&self, name: impl Into<String>, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.spawn_droppable_within(GRACE, name, task);
    }

    fn spawn_droppable_within<F>(&self, grace: Duration, name: impl Into<String>, task: F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let (name, stopping) = (name.into(), self.stopping.clone());
        self.spawn(name.clone(), async move {
            let waited = async {
                stopping.cancelled().await;
                tokio::time::sleep(grace).await;
            };
            tokio::select! {
                ended = task => ended,
                () = waited => {
                    tracing::info!("{name} is left as it is: the next start goes on with it");
                    Ok(())
                }
            }
        });
    }

    /// Starts a task that ends by itself. Its panic stops the process.
    pub fn spawn_short<F>(&self, name: impl Into<String>, task: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let name = name.into();
        let this = self.clone();
        self.tracker.spawn(async move {
            if let Err(panic) = this.tracker.spawn(task).await {
                this.fail(anyhow!(panic).context(format!("run {name}")));
            }
        });
    }

    /// Waits until [`Tasks::stopping`], then until every task has ended.
    ///
    /// # Errors
    /// The first failure, or the fact that tasks did not end within [`STOP_LIMIT`].
    pub async fn join(&self) -> anyhow::Result<()> {
        self.join_within(STOP_LIMIT).await
    }

    async fn join_within(&self, limit: Duration) -> anyhow::Result<()> {
        self.stopping.cancelled().await;
        self.tracker.close();
        let ended = tokio::time::timeout(limit, self.tracker.wait()).await;
        if let Some(failure) = self.first_failure.lock().unwrap_or_else(PoisonError::into_inner).take() {
            return Err(failure);
        }
        ended.with_context(|| format!("finish what was in flight within {limit:?}"))
    }

    fn fail(&self, failure: anyhow::Error) {
        tracing::error!("{failure:#}");
        self.first_failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(failure);
        self.stopping.cancel();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_failure_stops_the_others_and_is_told() {
        let tasks = Tasks::default();
        let stopping = tasks.stopping().clone();
        tasks.spawn("patient", async move {
            stopping.cancelled().await;
            Ok(())
        });
        tasks.spawn("broken", async { Err(anyhow!("no more paper")) });
        let error = tasks.join().await.expect_err("one task failed");
        assert_eq!(format!("{error:#}"), "run broken: no more paper");
    }

    #[tokio::test]
    async fn an_early_end_is_a_failure() {
        let tasks = Tasks::default();
        tasks.spawn("idle", async { Ok(()) });
        assert!(tasks.join().await.is_err());
    }

    #[tokio::test]
    async fn a_task_that_will_not_end_is_not_waited_for() {
        let tasks = Tasks::default();
        tasks.spawn("deaf", std::future::pending());
        tasks.stopping().cancel();
        assert!(tasks.join_within(Duration::from_millis(10)).await.is_err());
    }

    #[tokio::test]
    async fn a_task_that_may_be_dropped_does_not_hold_up_the_end() {
        let tasks = Tasks::default();
        tasks.spawn_droppable_within(Duration::from_millis(10), "stuck", std::future::pending());
        tasks.stopping().cancel();
        tasks.join().await.expect("a clean end");
    }

    #[tokio::test]
    async fn a_clean_stop_is_no_failure() {
        let tasks = Tasks::default();
        let stopping = tasks.stopping().clone();
        tasks.spawn("patient", async move {
            stopping.cancelled().await;
            Ok(())
        });
        tasks.stopping().cancel();
        tasks.join().await.expect("a clean stop");
    }
}
