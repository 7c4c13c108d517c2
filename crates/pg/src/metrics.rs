//! What Prometheus is told of a service's pools. The figures are read when they are asked for, so a request pays nothing.

use prometheus::{
    IntGaugeVec, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use crate::{Pool, database::Pools};

struct PoolMetrics {
    pools: [(&'static str, Pool); 2],
    connections: IntGaugeVec,
    max: IntGaugeVec,
    waiting: IntGaugeVec,
}

/// Registers the figures of both pools.
///
/// # Errors
/// When they are registered already.
pub(crate) fn register(registry: &Registry, service: &str, pools: &Pools) -> prometheus::Result<()> {
    let gauge = |name: &str, help: &str, labels: &[&str]| {
        IntGaugeVec::new(Opts::new(name, help).const_label("service", service), labels)
    };
    registry.register(Box::new(PoolMetrics {
        pools: [("requests", pools.requests.clone()), ("background", pools.background.clone())],
        connections: gauge("database_connections", "Connections to PostgreSQL.", &["pool", "state"])?,
        max: gauge("database_connections_max", "Connections that a pool may have.", &["pool"])?,
        waiting: gauge("database_callers_waiting", "Callers who wait for a connection of a pool.", &["pool"])?,
    }))
}

impl Collector for PoolMetrics {
    fn desc(&self) -> Vec<&Desc> {
        [&self.connections, &self.max, &self.waiting].into_iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        for (name, pool) in &self.pools {
            let usage = pool.usage();
            self.connections.with_label_values(&[*name, "in_use"]).set(usage.in_use.into());
            self.connections.with_label_values(&[*name, "idle"]).set(usage.idle.into());
            self.max.with_label_values(&[*name]).set(usage.max.into());
            self.waiting.with_label_values(&[*name]).set(usage.waiting.into());
        }
        [&self.connections, &self.max, &self.waiting].into_iter().flat_map(Collector::collect).collect()
    }
}
