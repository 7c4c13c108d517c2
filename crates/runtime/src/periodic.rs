//! Periodic tasks, such as clean-ups, each with a time limit of its own.

use std::{sync::Arc, time::Duration};

use anyhow::anyhow;
use futures::{FutureExt, future::BoxFuture};

use crate::{ServiceRuntime, clock::Clock};

/// By which share the wait between two turns varies, so that replicas do not stay in step.
const JITTER: f64 = 0.1;

/// Work that is done at once and then every so often.
///
/// A turn that takes longer than its limit is dropped where it stands and counts as failed. The first failure of a row
/// and the recovery are logged; what fails is tried again at the next turn.
#[derive(Clone)]
pub struct Periodic {
    name: &'static str,
    interval: Duration,
    limit: Duration,
    clock: Clock,
    work: Work,
}

type Work = Arc<dyn Fn() -> BoxFuture<'static, anyhow::Result<()>> + Send + Sync>;

impl Periodic {
    /// Does `work` every `interval` (give or take a tenth), each time for `limit` at most.
    #[must_use]
    pub fn new<F, Fut>(name: &'static str, interval: Duration, limit: Duration, work: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let work: Work = Arc::new(move || work().boxed());
        Self { name, interval, limit, clock: Clock::system(), work }
    }

    /// The same, with an interval of `clock`'s time. The limit is of real time.
    #[must_use]
    pub fn on(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// What it is called in the log.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Does the work until the service stops.
    pub async fn run(&self, runtime: &ServiceRuntime) {
        let Self { name, interval, limit, clock, work } = self;
        let stopping = runtime.tasks.stopping();
        let mut failures = 0u32;
        while !stopping.is_cancelled() {
            let done = tokio::time::timeout(*limit, work()).await;
            match done.unwrap_or_else(|_| Err(anyhow!("not done within {} s", limit.as_secs_f64()))) {
                Ok(()) if failures > 0 => {
                    tracing::info!("{name}: works again after {failures} failed attempts");
                    failures = 0;
                }
                Ok(()) => {}
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures == 1 {
                        tracing::warn!("{name}, next attempt in {} s: {error:#}", interval.as_secs_f64());
                    } else {
                        tracing::debug!("{name}, failed {failures} times in a row: {error:#}");
                    }
                }
            }
            tokio::select! {
                () = stopping.cancelled() => {}
                () = clock.sleep(interval.mul_f64(rand::random_range(1.0 - JITTER..1.0 + JITTER))) => {}
            }
        }
    }
}

/// Does all of `periodic` until the service stops, each in a task of its own. While the service stops, a turn that is
/// under way may end for a moment and is then dropped.
pub fn spawn(runtime: &ServiceRuntime, periodic: impl IntoIterator<Item = Periodic>) {
    for one in periodic {
        let running = runtime.clone();
        runtime.tasks.spawn_droppable(one.name, async move {
            one.run(&running).await;
            Ok(())
        });
    }
}

/// Removes one bounded batch after the other until one finds nothing, and answers how many were removed.
///
/// # Errors
/// The first of `remove`.
pub async fn remove_all<E, Fut>(mut remove: impl FnMut() -> Fut) -> Result<u64, E>
where
    Fut: Future<Output = Result<u64, E>>,
{
    let mut removed = 0;
    loop {
        match remove().await? {
            0 => return Ok(removed),
            batch => removed += batch,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio_util::sync::CancellationToken;

    use super::*;

    const MOMENT: Duration = Duration::from_millis(5);

    fn runtime() -> ServiceRuntime {
        ServiceRuntime::new("test", CancellationToken::new(), Clock::system())
    }

    #[tokio::test]
    async fn a_turn_that_fails_or_hangs_is_followed_by_another() {
        let (runtime, turns) = (runtime(), Arc::new(AtomicU32::new(0)));
        let (counted, stopping) = (turns.clone(), runtime.tasks.stopping().clone());
        let work = move || {
            let (turn, stopping) = (counted.fetch_add(1, Ordering::SeqCst), stopping.clone());
            async move {
                match turn {
                    0 => Err(anyhow!("the first one fails")),
                    1 => std::future::pending().await,
                    2 => Ok(()),
                    _ => {
                        stopping.cancel();
                        Ok(())
                    }
                }
            }
        };
        Periodic::new("a task", MOMENT, MOMENT, work).run(&runtime).await;
        assert_eq!(turns.load(Ordering::SeqCst), 4);
    }

    #[tokio::test]
    async fn the_wait_ends_with_the_service() {
        let runtime = runtime();
        let stopping = runtime.tasks.stopping().clone();
        let work = move || {
            stopping.cancel();
            async { Ok(()) }
        };
        let hour = Duration::from_secs(3600);
        let periodic = Periodic::new("a task", hour, hour, work);
        let ended = tokio::time::timeout(Duration::from_secs(10), periodic.run(&runtime)).await;
        ended.expect("it does not wait an hour");
    }
}
