//! What the worker counts, beside what the consume loop counts.

use events::AlertKind;
use prometheus::{IntCounterVec, Opts, Registry};

/// The worker's own metrics.
#[derive(Clone)]
pub struct Metrics {
    alerts: IntCounterVec,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// When the registry holds them already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let alerts = IntCounterVec::new(Opts::new("alerts_total", "Alerts that Kafka has acknowledged."), &["kind"])?;
        // Each kind is there from the start, so that a rate over the first alert is not lost.
        for kind in AlertKind::ALL {
            alerts.with_label_values(&[kind.as_str()]).inc_by(0);
        }
        registry.register(Box::new(alerts.clone()))?;
        Ok(Self { alerts })
    }

    /// One alert is acknowledged.
    pub fn alerted(&self, kind: AlertKind) {
        self.alerts.with_label_values(&[kind.as_str()]).inc();
    }
}
