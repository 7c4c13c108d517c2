//! The circuit breaker of the dead letters: after too many rejects in a row, an operator must look.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use runtime::readiness::{Criticality, HealthPart, Readiness};
use tokio::sync::Notify;

use crate::{
    config::KafkaConfig,
    core::rejects::{RecordEnd, RejectDecision, RejectRun},
    handler::Settled,
    metrics::ConsumerMetrics,
    names::Names,
};

/// Counts a consumer's rejects in a row. One too many opens the circuit: nothing more of the topic is
/// dead-lettered, the partition is paused with that record unsettled, and the service is not ready,
/// until [`DeadLetterBreaker::reset`]. The count lives in memory: a restart begins from zero.
#[derive(Clone)]
pub struct DeadLetterBreaker {
    shared: Arc<Shared>,
}

struct Shared {
    names: Names,
    run: Mutex<RejectRun>,
    part: HealthPart,
    metrics: ConsumerMetrics,
    was_reset: AtomicBool,
    changed: Notify,
}

impl DeadLetterBreaker {
    pub(crate) fn new(config: &KafkaConfig, names: &Names, readiness: &Readiness, metrics: ConsumerMetrics) -> Self {
        let part = readiness.part(format!("dead letters of {names}"), Criticality::Required, "starting");
        part.up();
        let run = Mutex::new(RejectRun::new(config.dead_letter_run_limit));
        let (names, was_reset, changed) = (names.clone(), AtomicBool::new(false), Notify::new());
        Self { shared: Arc::new(Shared { names, run, part, metrics, was_reset, changed }) }
    }

    /// Goes on, and counts from zero.
    pub fn reset(&self) {
        let was_open = self.shared.run.lock().unwrap_or_else(PoisonError::into_inner).reset();
        self.shared.metrics.consecutive_rejects.set(0);
        self.shared.metrics.breaker_open.set(0);
        self.shared.part.up();
        self.shared.was_reset.store(true, Ordering::Release);
        self.shared.changed.notify_one();
        if was_open {
            tracing::info!(
                "{}: reset: records are dead-lettered again, and rejects counted from zero",
                self.shared.names
            );
        }
    }

    /// Whether nothing is dead-lettered until a reset.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.shared.run.lock().unwrap_or_else(PoisonError::into_inner).is_open()
    }

    pub(crate) fn judge(&self, settled: &[Settled]) -> RejectDecision {
        let ends = settled.iter().map(|settled| match settled {
            Settled::Done(_) => RecordEnd::Done,
            Settled::Skipped => RecordEnd::Skipped,
            Settled::Rejected(_) => RecordEnd::Rejected,
        });
        self.shared.run.lock().unwrap_or_else(PoisonError::into_inner).judge(ends)
    }

    pub(crate) fn apply(&self, decision: &RejectDecision) {
        let mut run = self.shared.run.lock().unwrap_or_else(PoisonError::into_inner);
        let was_open = run.is_open();
        run.apply(decision);
        self.shared.metrics.consecutive_rejects.set(run.run().into());
        if run.is_open() && !was_open {
            let reason = format!(
                "{} records in a row were rejected, so the fault may be ours: look at them with `flightbell dlq list`, \
                 then go on with `flightbell dlq reset`",
                run.run()
            );
            tracing::error!("{}: {reason}", self.shared.names);
            self.shared.metrics.breaker_open.set(1);
            self.shared.part.down(reason);
        }
    }

    /// Whether there was a reset since this was last asked.
    pub(crate) fn take_reset(&self) -> bool {
        self.shared.was_reset.swap(false, Ordering::AcqRel)
    }

    /// Waits for a reset.
    pub(crate) async fn changed(&self) {
        self.shared.changed.notified().await;
    }
}
