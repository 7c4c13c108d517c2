use prometheus::{Histogram, HistogramOpts, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, core::Collector};
use runtime::metrics::LATENCY_BUCKETS;

use crate::{names::Names, record::Source};

/// The outcome of a record that became a dead letter.
pub(crate) const DEAD_LETTERED: &str = "dead_lettered";

/// The outcome of a record that was left alone.
pub(crate) const SKIPPED: &str = "skipped";

/// What a consumer counts. Topic and group are constant labels, so a process may have several consumers,
/// also of one group.
#[derive(Clone)]
pub(crate) struct ConsumerMetrics {
    /// By outcome.
    pub settled: BySource<IntCounterVec>,
    /// By partition.
    pub lag: BySource<IntGaugeVec>,
    pub handle_seconds: Histogram,
    pub hold_seconds: prometheus::Counter,
    pub paused: IntGauge,
    pub consecutive_rejects: IntGauge,
    pub breaker_open: IntGauge,
    pub recreated: prometheus::IntCounter,
}

/// One of each of a consumer's topics.
#[derive(Clone)]
pub(crate) struct BySource<T> {
    topic: T,
    retry: T,
}

impl<T> BySource<T> {
    fn new(make: impl Fn(Source) -> prometheus::Result<T>) -> prometheus::Result<Self> {
        Ok(Self { topic: make(Source::Topic)?, retry: make(Source::Retry)? })
    }

    pub fn of(&self, source: Source) -> &T {
        match source {
            Source::Topic => &self.topic,
            Source::Retry => &self.retry,
        }
    }
}

impl ConsumerMetrics {
    pub fn register(registry: &Registry, names: &Names) -> prometheus::Result<Self> {
        let Names { topic, group, .. } = names;
        let of_group = |name: &str, help: &str| Opts::new(name, help).const_label("group", group);
        let of_topic = |name: &str, help: &str| of_group(name, help).const_label("topic", topic);
        let gauge = |name, help| IntGauge::with_opts(of_topic(name, help));
        let settled = of_group("consumer_records_settled_total", "Records that are done with, by how they ended.");
        let lag = of_group("consumer_lag", "Records of a partition of ours that are not settled yet.");
        let of_source = |opts: &Opts, source| opts.clone().const_label("topic", names.topic(source));
        let handle = HistogramOpts::new("consumer_handle_seconds", "Time the handler took for a batch.")
            .const_label("topic", topic)
            .const_label("group", group)
            .buckets(LATENCY_BUCKETS.to_vec());
        let metrics = Self {
            settled: BySource::new(|source| IntCounterVec::new(of_source(&settled, source), &["outcome"]))?,
            lag: BySource::new(|source| IntGaugeVec::new(of_source(&lag, source), &["partition"]))?,
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

    fn collectors(&self) -> [Box<dyn Collector>; 10] {
        [
            Box::new(self.settled.topic.clone()),
            Box::new(self.settled.retry.clone()),
            Box::new(self.lag.topic.clone()),
            Box::new(self.lag.retry.clone()),
            Box::new(self.handle_seconds.clone()),
            Box::new(self.hold_seconds.clone()),
            Box::new(self.paused.clone()),
            Box::new(self.consecutive_rejects.clone()),
            Box::new(self.breaker_open.clone()),
            Box::new(self.recreated.clone()),
        ]
    }
}
