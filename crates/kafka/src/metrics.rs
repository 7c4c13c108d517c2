use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector};
use runtime::metrics::LATENCY_BUCKETS;

/// The outcome of a record that became a dead letter.
pub(crate) const DEAD_LETTERED: &str = "dead_lettered";

/// The outcome of a record that was left alone.
pub(crate) const SKIPPED: &str = "skipped";

/// What a consumer counts.
#[derive(Clone)]
pub(crate) struct ConsumerMetrics {
    pub settled: IntCounterVec,
    pub lag: IntGaugeVec,
    pub handle_seconds: Histogram,
    pub hold_seconds: prometheus::Counter,
    pub paused: IntGauge,
    pub consecutive_rejects: IntGauge,
    pub breaker_open: IntGauge,
    pub recreated: prometheus::IntCounter,
}

impl ConsumerMetrics {
    pub fn register(registry: &Registry, topic: &str, group: &str) -> prometheus::Result<Self> {
        let of_group = |name: &str, help: &str| Opts::new(name, help).const_label("group", group);
        let of_topic = |name: &str, help: &str| of_group(name, help).const_label("topic", topic);
        let gauge = |name, help| IntGauge::with_opts(of_topic(name, help));
        let settled = of_group("consumer_records_settled_total", "Records that are done with, by how they ended.");
        let lag = of_group("consumer_lag", "Records of a partition of ours that are not settled yet.");
        let handle = HistogramOpts::new("consumer_handle_seconds", "Time the handler took for a batch.")
            .const_label("topic", topic)
            .const_label("group", group)
            .buckets(LATENCY_BUCKETS.to_vec());
        let metrics = Self {
            settled: IntCounterVec::new(settled, &["topic", "outcome"])?,
            lag: IntGaugeVec::new(lag, &["topic", "partition"])?,
            handle_seconds: Histogram::with_opts(handle)?,
            hold_seconds: prometheus::Counter::with_opts(of_topic(
                "consumer_hold_seconds_total",
                "Time that partitions were paused because something we depend on was away; counted when a pause ends.",
            ))?,
            paused: gauge("consumer_partitions_paused", "Partitions that wait until they are tried again.")?,
            consecutive_rejects: gauge("consumer_consecutive_rejects", "Records that were rejected in a row.")?,
            breaker_open: gauge(
                "consumer_dead_letter_breaker_open",
                "1 while nothing is dead-lettered, after too many rejects in a row, until a reset.",
            )?,
            recreated: prometheus::IntCounter::with_opts(of_topic(
                "consumer_recreated_total",
                "Clients that were replaced because they did not get back into their group.",
            ))?,
        };
        metrics.collectors().into_iter().try_for_each(|collector| registry.register(collector))?;
        Ok(metrics)
    }

    fn collectors(&self) -> [Box<dyn Collector>; 8] {
        [
            Box::new(self.settled.clone()),
            Box::new(self.lag.clone()),
            Box::new(self.handle_seconds.clone()),
            Box::new(self.hold_seconds.clone()),
            Box::new(self.paused.clone()),
            Box::new(self.consecutive_rejects.clone()),
            Box::new(self.breaker_open.clone()),
            Box::new(self.recreated.clone()),
        ]
    }
}
