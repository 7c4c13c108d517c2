use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector};
use shell::metrics::LATENCY_BUCKETS;

/// The outcome of a record that became a dead letter.
pub(crate) const DEAD_LETTERED: &str = "dead_lettered";

/// What a consumer counts.
#[derive(Clone)]
pub(crate) struct ConsumerMetrics {
    pub settled: IntCounterVec,
    pub lag: IntGaugeVec,
    pub handle_seconds: Histogram,
    pub hold_seconds: prometheus::Counter,
    pub held: IntGauge,
    pub run: IntGauge,
    pub gate_closed: IntGauge,
    pub made_anew: prometheus::IntCounter,
}

impl ConsumerMetrics {
    pub fn register(registry: &Registry, topic: &str) -> prometheus::Result<Self> {
        let of_topic = |name: &str, help: &str| Opts::new(name, help).const_label("topic", topic);
        let gauge = |name, help| IntGauge::with_opts(of_topic(name, help));
        let settled = Opts::new("consumer_records_settled_total", "Records that are done with, by how they ended.");
        let lag = Opts::new("consumer_lag", "Records of a partition of ours that are not settled yet.");
        let handle = HistogramOpts::new("consumer_handle_seconds", "Time the handler took for a batch.")
            .const_label("topic", topic)
            .buckets(LATENCY_BUCKETS.to_vec());
        let metrics = Self {
            settled: IntCounterVec::new(settled, &["topic", "outcome"])?,
            lag: IntGaugeVec::new(lag, &["topic", "partition"])?,
            handle_seconds: Histogram::with_opts(handle)?,
            hold_seconds: prometheus::Counter::with_opts(of_topic(
                "consumer_hold_seconds_total",
                "Time that partitions were held because something we depend on was away; counted when a hold ends.",
            ))?,
            held: gauge("consumer_partitions_held", "Partitions that are held now.")?,
            run: gauge("consumer_dead_letter_run", "Records that were rejected in a row.")?,
            gate_closed: gauge(
                "consumer_dead_letters_closed",
                "1 while too many rejects in a row hold partitions until somebody accepts them.",
            )?,
            made_anew: prometheus::IntCounter::with_opts(of_topic(
                "consumer_made_anew_total",
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
            Box::new(self.held.clone()),
            Box::new(self.run.clone()),
            Box::new(self.gate_closed.clone()),
            Box::new(self.made_anew.clone()),
        ]
    }
}
