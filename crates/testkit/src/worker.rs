//! A service in the process of its test.

use runtime::{ServiceRuntime, clock::Clock};
use tokio_util::sync::CancellationToken;

/// One replica of a service in this process.
pub struct Worker {
    /// Its runtime.
    pub runtime: ServiceRuntime,
}

impl Worker {
    /// One that `start` starts, by the system's clock.
    pub async fn start<T>(
        service: &'static str,
        start: impl AsyncFnOnce(&ServiceRuntime) -> anyhow::Result<T>,
    ) -> Self {
        let runtime = ServiceRuntime::new(service, CancellationToken::new(), Clock::system());
        start(&runtime).await.expect("the worker to start");
        Self { runtime }
    }

    /// Stops it as SIGTERM does.
    pub async fn stop(self) {
        self.runtime.tasks.stopping().cancel();
        self.runtime.tasks.join().await.expect("a clean stop");
    }

    /// The sum of a metric over its labels, of those series whose line contains `label`.
    #[must_use]
    pub fn metric(&self, name: &str, label: &str) -> f64 {
        let text = runtime::metrics::render([&self.runtime.registry].into_iter()).expect("metrics");
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum()
    }

    /// Whether it is ready, and whether `part` of it is up and what it says.
    pub async fn readiness(&self, part: &str) -> (bool, Option<(bool, String)>) {
        let report = self.runtime.readiness.report().await;
        let found = report.parts.into_iter().find(|known| known.name == part);
        (report.ready, found.map(|part| (part.up, part.detail.unwrap_or_default())))
    }
}
