//! Metrics that every process has, and the page that shows all of them.

use std::collections::BTreeMap;

use prometheus::{IntGauge, Opts, Registry, TextEncoder, proto::MetricFamily};

/// Seconds; from a cached answer to the longest call we make.
pub const LATENCY_BUCKETS: [f64; 12] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0];

/// Adds `build_info`, whose value is always 1 and whose labels say what is running.
///
/// # Errors
/// When the registry holds it already.
pub fn register_build_info(registry: &Registry, service: &'static str) -> prometheus::Result<()> {
    let opts = Opts::new("build_info", "What is running; the value is always 1.")
        .const_label("service", service)
        .const_label("version", env!("CARGO_PKG_VERSION"));
    let gauge = IntGauge::with_opts(opts)?;
    gauge.set(1);
    registry.register(Box::new(gauge))
}

/// The Prometheus text of all registries together.
///
/// Services that share a process each have a registry of their own; families of the same name are
/// written as one, as the text format demands.
///
/// # Errors
/// When a family cannot be written.
pub fn render<'a>(registries: impl Iterator<Item = &'a Registry>) -> prometheus::Result<String> {
    let mut families: BTreeMap<String, MetricFamily> = BTreeMap::new();
    for mut family in registries.flat_map(Registry::gather) {
        match families.get_mut(family.name()) {
            None => {
                families.insert(family.name().to_owned(), family);
            }
            Some(known) => {
                let mut metrics = known.take_metric();
                metrics.extend(family.take_metric());
                known.set_metric(metrics);
            }
        }
    }
    TextEncoder::new().encode_to_string(&families.into_values().collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_of_two_services_are_written_as_one() {
        let registries = [Registry::new(), Registry::new()];
        register_build_info(&registries[0], "one").expect("a fresh registry");
        register_build_info(&registries[1], "two").expect("a fresh registry");
        let text = render(registries.iter()).expect("text");
        assert_eq!(text.matches("# TYPE build_info gauge").count(), 1, "{text}");
        assert!(text.contains("service=\"one\"") && text.contains("service=\"two\""), "{text}");
    }
}
