//! The circuit breaker of the dead letters: after too many rejects in a row, an operator must look.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use runtime::readiness::{Need, Part, Readiness};
use tokio::sync::Notify;

use crate::{
    config::KafkaConfig,
    core::rejects::{RecordEnd, RejectRun, Verdict},
    handler::Settled,
    metrics::ConsumerMetrics,
};

/// Counts a consumer's rejects in a row. One too many opens the circuit: nothing more of the topic is
/// dead-lettered, the partition is paused with that record unsettled, and the service is not ready,
/// until [`DeadLetterGate::reset`]. The count lives in memory: a restart begins anew.
#[derive(Clone)]
pub struct DeadLetterGate {
    shared: Arc<Shared>,
}

struct Shared {
    topic: String,
    run: Mutex<RejectRun>,
    part: Part,
    metrics: ConsumerMetrics,
    accepted: AtomicBool,
    changed: Notify,
}

impl DeadLetterGate {
    pub(crate) fn new(config: &KafkaConfig, topic: &str, readiness: &Readiness, metrics: ConsumerMetrics) -> Self {
        let part = readiness.part(format!("dead letters of {topic}"), Need::Required, "starting");
        part.up();
        let run = Mutex::new(RejectRun::new(config.dead_letter_run_limit));
        let (topic, accepted, changed) = (topic.to_owned(), AtomicBool::new(false), Notify::new());
        Self { shared: Arc::new(Shared { topic, run, part, metrics, accepted, changed }) }
    }

    /// Goes on, and counts anew.
    pub fn reset(&self) {
        let was_closed = self.shared.run.lock().unwrap_or_else(PoisonError::into_inner).accept();
        self.shared.metrics.consecutive_rejects.set(0);
        self.shared.metrics.breaker_open.set(0);
        self.shared.part.up();
        self.shared.accepted.store(true, Ordering::Release);
        self.shared.changed.notify_one();
        if was_closed {
            tracing::info!("{}: reset: records are dead-lettered again, and rejects counted anew", self.shared.topic);
        }
    }

    /// Whether nothing is dead-lettered until a reset.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.run.lock().unwrap_or_else(PoisonError::into_inner).is_closed()
    }

    pub(crate) fn judge(&self, settled: &[Settled]) -> Verdict {
        let ends = settled.iter().map(|settled| match settled {
            Settled::Done(_) => RecordEnd::Done,
            Settled::Skipped => RecordEnd::Skipped,
            Settled::Rejected(_) => RecordEnd::Rejected,
        });
        self.shared.run.lock().unwrap_or_else(PoisonError::into_inner).judge(ends)
    }

    pub(crate) fn apply(&self, verdict: &Verdict) {
        let mut run = self.shared.run.lock().unwrap_or_else(PoisonError::into_inner);
        let was_closed = run.is_closed();
        run.apply(verdict);
        self.shared.metrics.consecutive_rejects.set(run.run().into());
        if run.is_closed() && !was_closed {
            let reason = format!(
                "{} records in a row were rejected, so the fault may be ours: look at them with `flightbell dlq list`, \
                 then go on with `flightbell dlq reset`",
                run.run()
            );
            tracing::error!("{}: {reason}", self.shared.topic);
            self.shared.metrics.breaker_open.set(1);
            self.shared.part.down(reason);
        }
    }

    /// Whether there was a reset since this was last asked.
    pub(crate) fn take_accepted(&self) -> bool {
        self.shared.accepted.swap(false, Ordering::AcqRel)
    }

    /// Waits for a reset.
    pub(crate) async fn changed(&self) {
        self.shared.changed.notified().await;
    }
}
