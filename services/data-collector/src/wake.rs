//! Tasks that wait for work: woken by PostgreSQL's notifications, from this replica and others, and by
//! a slow turn in case one is lost.

use std::{sync::Arc, time::Duration};

use pg::Listener;
use runtime::ServiceRuntime;
use tokio::sync::Notify;

use crate::store::{CHANNEL, wake};

/// How long to wait for a notification at most: the turn that finds what a lost one would have told.
const SLOW_TURN: Duration = Duration::from_secs(2);
/// How long to wait after something went wrong.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// How long one piece of work may take: longer than any does, so that a connection that died silently
/// does not stop a task for as long as TCP waits.
const WORK_LIMIT: Duration = Duration::from_secs(30);

/// Who waits for what.
#[derive(Clone, Default)]
pub struct Wake {
    /// Collection.
    pub collect: Arc<Notify>,
    /// Readings to fan out.
    pub readings: Arc<Notify>,
}

impl Wake {
    fn tell(&self, what: &str) {
        match what {
            wake::COLLECT => self.collect.notify_one(),
            wake::READINGS => self.readings.notify_one(),
            _ => {}
        }
    }

    fn tell_all(&self) {
        [wake::COLLECT, wake::READINGS].into_iter().for_each(|what| self.tell(what));
    }
}

/// A listener that hears of it.
#[must_use]
pub fn listener(wake: Wake) -> Listener {
    Listener::default().on(CHANNEL, move |what| match what {
        Some(what) => wake.tell(what),
        // What was told while the listener was away is found by looking.
        None => wake.tell_all(),
    })
}

/// Does `work` again and again until the service stops: at once while there is more (`true`), else when
/// `notify` wakes it. A failure is logged and tried again.
///
/// # Errors
/// Never.
pub async fn work<F, Fut>(
    runtime: ServiceRuntime,
    name: &'static str,
    notify: Arc<Notify>,
    mut work: F,
) -> anyhow::Result<()>
where
    F: FnMut() -> Fut + Send,
    Fut: Future<Output = anyhow::Result<bool>> + Send,
{
    let stopping = runtime.tasks.stopping().clone();
    let mut failures = 0u32;
    while !stopping.is_cancelled() {
        let worked = tokio::time::timeout(WORK_LIMIT, work()).await;
        match worked.unwrap_or_else(|_| Err(anyhow::anyhow!("not done within {} s", WORK_LIMIT.as_secs()))) {
            Ok(more) => {
                if failures > 0 {
                    tracing::info!("{name}: works again");
                }
                failures = 0;
                if !more {
                    tokio::select! {
                        () = stopping.cancelled() => {}
                        () = notify.notified() => {}
                        () = tokio::time::sleep(SLOW_TURN) => {}
                    }
                }
            }
            Err(error) => {
                // The first of a row, and then one a minute or so.
                if failures.is_multiple_of(100) {
                    tracing::warn!("{name}: {error:#}");
                }
                failures = failures.saturating_add(1);
                pause(&runtime, AFTER_FAILURE.mul_f64(rand::random_range(0.5..1.5))).await;
            }
        }
    }
    Ok(())
}

async fn pause(runtime: &ServiceRuntime, wait: Duration) {
    tokio::select! {
        () = runtime.tasks.stopping().cancelled() => {}
        () = tokio::time::sleep(wait) => {}
    }
}
