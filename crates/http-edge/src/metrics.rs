//! What the HTTP edge counts.

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, IntGaugeVec, Opts, Registry};
use runtime::metrics::LATENCY_BUCKETS;

/// What the HTTP edge of a service counts.
#[derive(Clone)]
pub struct HttpMetrics {
    pub(crate) requests: IntCounterVec,
    pub(crate) duration: HistogramVec,
    pub(crate) in_progress: IntGaugeVec,
}

impl HttpMetrics {
    /// Registers the three metrics.
    ///
    /// # Errors
    /// When the registry holds them already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let metrics = Self {
            requests: IntCounterVec::new(
                Opts::new("http_requests_total", "Answered HTTP requests."),
                &["service", "method", "endpoint", "status"],
            )?,
            duration: HistogramVec::new(
                HistogramOpts::new("http_request_duration_seconds", "Time from a request's head to its answer.")
                    .buckets(LATENCY_BUCKETS.to_vec()),
                &["service", "method", "endpoint"],
            )?,
            in_progress: IntGaugeVec::new(
                Opts::new("http_requests_in_progress", "HTTP requests that are being answered."),
                &["service"],
            )?,
        };
        registry.register(Box::new(metrics.requests.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.in_progress.clone()))?;
        Ok(metrics)
    }
}
