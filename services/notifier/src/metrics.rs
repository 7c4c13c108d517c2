//! What the notifier counts.

use std::time::Duration;

use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, Opts, Registry};
use runtime::metrics::LATENCY_BUCKETS;

use crate::core::{
    ending::{Outcome, Unsent},
    telegram_breaker::BreakerState,
};

/// The notifier's metrics.
#[derive(Clone)]
pub struct Metrics {
    sent: IntCounterVec,
    latency: Histogram,
    breaker_state: IntGauge,
    pending: IntGauge,
    leading: IntGauge,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// When the registry holds them already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            sent: IntCounterVec::new(
                Opts::new("notifications_sent_total", "Attempts to send an alert, and alerts that ended unsent."),
                &["outcome"],
            )?,
            latency: Histogram::with_opts(
                HistogramOpts::new(
                    "notification_latency_seconds",
                    "Time from the reading's observation to Telegram's acceptance.",
                )
                .buckets([&LATENCY_BUCKETS[..], &[60.0, 600.0, 3600.0, 21_600.0]].concat()),
            )?,
            breaker_state: IntGauge::new(
                "telegram_breaker_state",
                "Telegram's circuit breaker: 0 closed, 1 half open (a probe is under way), 2 open.",
            )?,
            pending: IntGauge::new("notifications_pending", "Alerts in the ledger that are not settled.")?,
            leading: IntGauge::new("notifications_leader", "Whether this replica is the one that sends.")?,
        };
        let names = Outcome::ALL.map(Outcome::as_str).into_iter().chain(Unsent::ALL.map(Unsent::as_str));
        for name in names {
            // A series that starts at zero can be alerted on before the first event.
            metrics.sent.with_label_values(&[name]).reset();
        }
        registry.register(Box::new(metrics.sent.clone()))?;
        registry.register(Box::new(metrics.latency.clone()))?;
        registry.register(Box::new(metrics.breaker_state.clone()))?;
        registry.register(Box::new(metrics.pending.clone()))?;
        registry.register(Box::new(metrics.leading.clone()))?;
        Ok(metrics)
    }

    /// So many attempts ended this way.
    pub fn attempted(&self, outcome: Outcome, count: u64) {
        self.sent.with_label_values(&[outcome.as_str()]).inc_by(count);
    }

    /// So many alerts ended unsent.
    pub fn ended_unsent(&self, end: Unsent, count: u64) {
        self.sent.with_label_values(&[end.as_str()]).inc_by(count);
    }

    /// Telegram accepted an alert this long after its reading.
    pub fn delivered_after(&self, latency: Duration) {
        self.latency.observe(latency.as_secs_f64());
    }

    /// The state of Telegram's breaker.
    pub fn breaker(&self, state: BreakerState) {
        self.breaker_state.set(match state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        });
    }

    /// How many alerts are not settled.
    pub fn pending(&self, count: i64) {
        self.pending.set(count);
    }

    /// Whether this replica sends.
    pub fn leading(&self, leads: bool) {
        self.leading.set(leads.into());
    }
}
