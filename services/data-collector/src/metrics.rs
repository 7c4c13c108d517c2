//! What the collector counts.

use std::{collections::BTreeSet, sync::Arc, sync::Mutex, sync::PoisonError, time::Duration};

use chrono::{DateTime, Utc};
use events::FlightCount;
use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use runtime::metrics::LATENCY_BUCKETS;

use crate::core::credits::Bucket;

/// The collector's metrics. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    calls: IntCounterVec,
    duration: Histogram,
    credits: IntGaugeVec,
    lasts_until: IntGaugeVec,
    breakers: IntGaugeVec,
    flights: IntGaugeVec,
    /// The airports that have a label now, so that those no interest names any more can lose theirs.
    labelled: Arc<Mutex<BTreeSet<String>>>,
}

impl Metrics {
    /// Registers them.
    ///
    /// # Errors
    /// When the registry holds them already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        let duration = HistogramOpts::new("opensky_api_duration_seconds", "Time a question to OpenSky took.");
        let metrics = Self {
            calls: IntCounterVec::new(
                Opts::new("opensky_api_calls_total", "Questions to OpenSky, by how they were answered."),
                &["status"],
            )?,
            duration: Histogram::with_opts(duration.buckets(LATENCY_BUCKETS.to_vec()))?,
            credits: IntGaugeVec::new(
                Opts::new("opensky_credits_remaining", "Credits left of the day's, as far as is known."),
                &["bucket"],
            )?,
            lasts_until: IntGaugeVec::new(
                Opts::new(
                    "opensky_credits_last_until_timestamp_seconds",
                    "Until when credits last at the present pace; at most until they are filled again.",
                ),
                &["bucket"],
            )?,
            breakers: IntGaugeVec::new(
                Opts::new("opensky_breaker_state", "Circuit breakers: 0 closed, 1 half open, 2 open."),
                &["breaker"],
            )?,
            flights: IntGaugeVec::new(
                Opts::new("flights_fetched_last_collection", "Flights or aircraft in an airport's last collection."),
                &["airport_code"],
            )?,
            labelled: Arc::default(),
        };
        registry.register(Box::new(metrics.calls.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.credits.clone()))?;
        registry.register(Box::new(metrics.lasts_until.clone()))?;
        registry.register(Box::new(metrics.breakers.clone()))?;
        registry.register(Box::new(metrics.flights.clone()))?;
        Ok(metrics)
    }

    /// A question was answered, or not.
    pub fn opensky_call(&self, status: &'static str, took: Duration) {
        self.calls.with_label_values(&[status]).inc();
        self.duration.observe(took.as_secs_f64());
    }

    /// The gauge of one breaker.
    #[must_use]
    pub fn breaker_state(&self, breaker: &'static str) -> IntGauge {
        self.breakers.with_label_values(&[breaker])
    }

    /// What is left in a bucket, and until when.
    pub fn credits(&self, bucket: Bucket, remaining: u32, lasts_until: DateTime<Utc>) {
        self.credits.with_label_values(&[bucket.as_str()]).set(i64::from(remaining));
        self.lasts_until.with_label_values(&[bucket.as_str()]).set(lasts_until.timestamp());
    }

    /// What the last collection of an airport brought.
    pub fn flights_fetched(&self, airport: &str, flight_count: FlightCount) {
        self.labelled.lock().unwrap_or_else(PoisonError::into_inner).insert(airport.to_owned());
        self.flights.with_label_values(&[airport]).set(flight_count.get());
    }

    /// Forgets the airports that no interest names any more, so that labels do not pile up.
    pub fn keep_airports(&self, watched: &BTreeSet<&str>) {
        let mut labelled = self.labelled.lock().unwrap_or_else(PoisonError::into_inner);
        labelled.retain(|airport| {
            let keep = watched.contains(airport.as_str());
            // Removing one that is not there is no fault.
            keep || self.flights.remove_label_values(&[airport]).is_err()
        });
    }
}
