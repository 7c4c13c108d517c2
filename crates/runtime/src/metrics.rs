//! Metrics that every process has, and the page that shows all of them.

use std::collections::BTreeMap;

use prometheus::{IntGauge, IntGaugeVec, Opts, Registry, TextEncoder, proto::MetricFamily};

use crate::readiness::Report;

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

/// What services answered to `/readyz`, as metrics. They are made anew for each page, so that a part that is gone leaves
/// no series behind.
///
/// # Errors
/// When a metric cannot be made.
pub fn health<'a>(reports: impl IntoIterator<Item = (&'a str, &'a Report)>) -> prometheus::Result<Registry> {
    let ready =
        IntGaugeVec::new(Opts::new("service_ready", "Whether the service is ready, as /readyz says."), &["service"])?;
    let up = IntGaugeVec::new(
        Opts::new("health_part_up", "Whether a part is up that /readyz names."),
        &["service", "part"],
    )?;
    for (service, report) in reports {
        ready.with_label_values(&[service]).set(report.ready.into());
        for part in &report.parts {
            up.with_label_values(&[service, &part.name]).set(part.up.into());
        }
    }
    let registry = Registry::new();
    registry.register(Box::new(ready))?;
    registry.register(Box::new(up))?;
    Ok(registry)
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
    use crate::readiness::{Criticality, Readiness};

    #[tokio::test]
    async fn services_and_their_parts_are_up_or_down_and_parts_that_are_gone_are_not_named() {
        let (one, two) = (Readiness::default(), Readiness::default());
        let _kafka = one.part("kafka", Criticality::Optional, "not connected yet");
        one.check("postgres", Criticality::Required, || async { Ok(()) });
        let start = two.part("start", Criticality::Required, "is not complete yet");
        let page = async || {
            let (one, two) = (one.report().await, two.report().await);
            let health = health([("one", &one), ("two", &two)]).expect("metrics");
            render([&health].into_iter()).expect("text")
        };
        let text = page().await;
        for line in [
            "service_ready{service=\"one\"} 1\n",
            "service_ready{service=\"two\"} 0\n",
            "health_part_up{part=\"kafka\",service=\"one\"} 0\n",
            "health_part_up{part=\"postgres\",service=\"one\"} 1\n",
            "health_part_up{part=\"start\",service=\"two\"} 0\n",
        ] {
            assert!(text.contains(line), "{line} is missing: {text}");
        }
        assert!(!text.contains("not connected"), "no word of a dependency: {text}");
        drop(start);
        let text = page().await;
        assert!(text.contains("service_ready{service=\"two\"} 1\n") && !text.contains("start"), "{text}");
    }

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
