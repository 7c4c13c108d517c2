//! What the collector counts.

use std::{collections::BTreeSet, sync::Arc, sync::Mutex, sync::PoisonError, time::Duration};

use chrono::{DateTime, Utc};
use events::{FlightCount, Metric};
use prometheus::{Gauge, Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry};
use runtime::metrics::LATENCY_BUCKETS;

use crate::{core::credits::Bucket, store::fan_out::Waiting};

/// The label of a reading whose number is known, and of one whose number is not.
const KNOWN: &str = "known";
const UNKNOWN: &str = "unknown";

/// The collector's metrics. Clones share them.
#[derive(Clone)]
pub struct Metrics {
    calls: IntCounterVec,
    duration: Histogram,
    credits: IntGaugeVec,
    lasts_until: IntGaugeVec,
    breakers: IntGaugeVec,
    flights: IntGaugeVec,
    leading: IntGauge,
    readings: IntCounterVec,
    fan_outs_waiting: IntGauge,
    fan_outs_oldest: Gauge,
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
            leading: IntGauge::new("collection_leader", "Whether this replica is the one that collects.")?,
            readings: IntCounterVec::new(
                Opts::new("readings_total", "Readings that were stored, by whether their number is known."),
                &["metric", "value"],
            )?,
            fan_outs_waiting: IntGauge::new(
                "fan_outs_waiting",
                "Readings that have not reached all their interests; beyond 100,000 they are not counted.",
            )?,
            fan_outs_oldest: Gauge::new(
                "fan_outs_oldest_age_seconds",
                "Age of the oldest reading that has not reached all its interests; 0 without one.",
            )?,
            labelled: Arc::default(),
        };
        for metric in Metric::ALL {
            for value in [KNOWN, UNKNOWN] {
                // A series that starts at zero can be alerted on before the first event.
                metrics.readings.with_label_values(&[metric.as_str(), value]).reset();
            }
        }
        registry.register(Box::new(metrics.calls.clone()))?;
        registry.register(Box::new(metrics.duration.clone()))?;
        registry.register(Box::new(metrics.credits.clone()))?;
        registry.register(Box::new(metrics.lasts_until.clone()))?;
        registry.register(Box::new(metrics.breakers.clone()))?;
        registry.register(Box::new(metrics.flights.clone()))?;
        registry.register(Box::new(metrics.leading.clone()))?;
        registry.register(Box::new(metrics.readings.clone()))?;
        registry.register(Box::new(metrics.fan_outs_waiting.clone()))?;
        registry.register(Box::new(metrics.fan_outs_oldest.clone()))?;
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

    /// Whether this replica collects.
    pub fn leading(&self, leads: bool) {
        self.leading.set(leads.into());
    }

    /// A reading was stored: its transaction is committed.
    pub fn reading_stored(&self, metric: Metric, flight_count: Option<FlightCount>) {
        let value = if flight_count.is_some() { KNOWN } else { UNKNOWN };
        self.readings.with_label_values(&[metric.as_str(), value]).inc();
    }

    /// What waits to be fanned out.
    pub fn fan_outs(&self, waiting: &Waiting) {
        self.fan_outs_waiting.set(waiting.count);
        self.fan_outs_oldest.set(waiting.oldest_age.as_secs_f64());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_reading_and_the_leader_start_at_zero() {
        let registry = Registry::new();
        let metrics = Metrics::register(&registry).expect("a fresh registry");
        let text = || runtime::metrics::render([&registry].into_iter()).expect("text");
        assert!(text().contains("\ncollection_leader 0\n"), "{}", text());
        for metric in Metric::ALL {
            for value in [KNOWN, UNKNOWN] {
                let line = format!("readings_total{{metric=\"{metric}\",value=\"{value}\"}} 0\n");
                assert!(text().contains(&line), "{line} is missing: {}", text());
            }
        }
        metrics.reading_stored(Metric::Live, Some(FlightCount::ZERO));
        metrics.reading_stored(Metric::Live, None);
        metrics.reading_stored(Metric::Live, None);
        assert!(text().contains("readings_total{metric=\"live\",value=\"known\"} 1\n"), "zero is known: {}", text());
        assert!(text().contains("readings_total{metric=\"live\",value=\"unknown\"} 2\n"), "{}", text());
    }
}
