//! The gate before the dead letters: after too many rejects in a row, somebody must look.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use shell::readiness::{Need, Part, Readiness};
use tokio::sync::Notify;

use crate::{
    config::KafkaConfig,
    core::rejects::{RejectRun, Verdict},
    handler::Settled,
    metrics::ConsumerMetrics,
};

/// Counts a consumer's rejects in a row. One too many closes the gate: nothing more of the topic is
/// dead-lettered, the partition is held with that record unsettled, and the service is not ready,
/// until [`DeadLetterGate::accept`]. The count lives in memory: a restart begins anew.
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

    /// Goes on, and counts anew. Answers what happened, for a person to read.
    #[must_use]
    pub fn accept(&self) -> String {
        let was_closed = self.shared.run.lock().unwrap_or_else(PoisonError::into_inner).accept();
        self.shared.metrics.run.set(0);
        self.shared.metrics.gate_closed.set(0);
        self.shared.part.up();
        self.shared.accepted.store(true, Ordering::Release);
        self.shared.changed.notify_one();
        let topic = &self.shared.topic;
        if was_closed {
            tracing::info!("dead letters of {topic} are accepted again");
            format!("{topic}: dead letters are accepted again, and counted anew")
        } else {
            format!("{topic}: nothing was held; rejects are counted anew")
        }
    }

    /// Whether dead letters wait for somebody's acceptance.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.shared.run.lock().unwrap_or_else(PoisonError::into_inner).is_closed()
    }

    pub(crate) fn judge(&self, settled: &[Settled]) -> Verdict {
        let rejected = settled.iter().map(|settled| matches!(settled, Settled::Rejected(_)));
        self.shared.run.lock().unwrap_or_else(PoisonError::into_inner).judge(rejected)
    }

    pub(crate) fn apply(&self, verdict: &Verdict) {
        let mut run = self.shared.run.lock().unwrap_or_else(PoisonError::into_inner);
        let was_closed = run.is_closed();
        run.apply(verdict);
        self.shared.metrics.run.set(run.run().into());
        if run.is_closed() && !was_closed {
            let reason = format!(
                "{} records in a row were rejected, so the fault may be ours: look at them with `flightbell dlq list`, \
                 then go on with `flightbell dlq accept`",
                run.run()
            );
            tracing::error!("{}: {reason}", self.shared.topic);
            self.shared.metrics.gate_closed.set(1);
            self.shared.part.down(reason);
        }
    }

    /// Whether somebody accepted since this was last asked.
    pub(crate) fn take_accepted(&self) -> bool {
        self.shared.accepted.swap(false, Ordering::AcqRel)
    }

    /// Waits for an acceptance.
    pub(crate) async fn changed(&self) {
        self.shared.changed.notified().await;
    }
}
