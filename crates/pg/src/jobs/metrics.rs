use std::time::Duration;

use prometheus::{GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use runtime::metrics::LATENCY_BUCKETS;

/// What became of a job that was begun.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outcome {
    Done,
    /// It failed by itself and is tried again later.
    SetAside,
    /// What it depends on is away.
    Unavailable,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::SetAside => "set_aside",
            Self::Unavailable => "unavailable",
        }
    }
}

/// What the runner counts.
#[derive(Clone)]
pub(super) struct Metrics {
    waiting: IntGaugeVec,
    oldest: GaugeVec,
    finished: IntCounterVec,
    duration: HistogramVec,
}

impl Metrics {
    pub(super) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let duration = HistogramOpts::new("job_duration_seconds", "Time that one job, or a batch of jobs, took.");
        let metrics = Self {
            waiting: IntGaugeVec::new(Opts::new("jobs_waiting", "Jobs that are not settled."), &["kind"])?,
            oldest: GaugeVec::new(
                Opts::new("jobs_oldest_age_seconds", "Age of the oldest job that is not settled; 0 without one."),
                &["kind"],
            )?,
            finished: IntCounterVec::new(
                Opts::new("jobs_finished_total", "Attempts at jobs, by how they ended."),
                &["kind", "outcome"],
            )?,
            duration: HistogramVec::new(duration.buckets(LATENCY_BUCKETS.to_vec()), &["kind"])?,
        };
        registry.register(Box::new(metrics.waiting.clone()))?;
        registry.register(Box::new(metrics.oldest.clone()))?;
        registry.register(Box::new(metrics.finished.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        Ok(metrics)
    }

    pub(super) fn waiting(&self, kind: &str, count: i64, oldest_seconds: f64) {
        self.waiting.with_label_values(&[kind]).set(count);
        self.oldest.with_label_values(&[kind]).set(oldest_seconds);
    }

    pub(super) fn finished(&self, kind: &str, outcome: Outcome, count: usize) {
        if count > 0 {
            let count = u64::try_from(count).unwrap_or(u64::MAX);
            self.finished.with_label_values(&[kind, outcome.as_str()]).inc_by(count);
        }
    }

    pub(super) fn took(&self, kind: &str, duration: Duration) {
        self.duration.with_label_values(&[kind]).observe(duration.as_secs_f64());
    }
}
