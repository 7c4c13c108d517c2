use std::sync::{Arc, Mutex, PoisonError};

use prometheus::Registry;
use tokio_util::sync::CancellationToken;

use crate::{clock::Clock, readiness::Readiness, tasks::Tasks};

/// What an operator can ask of a running service; answers what happened, for a person to read.
pub type OperatorCall = Arc<dyn Fn() -> String + Send + Sync>;

/// What a service is handed at its start. Clones share everything.
#[derive(Clone)]
pub struct Shell {
    /// The service's name, as it stands in metrics and logs.
    pub service: &'static str,
    /// Where the service registers its metrics.
    pub registry: Registry,
    /// Where the service says what it depends on.
    pub readiness: Readiness,
    /// Where the service's tasks live.
    pub tasks: Tasks,
    /// The time.
    pub clock: Clock,
    operator_calls: Arc<Mutex<Vec<(&'static str, OperatorCall)>>>,
}

impl Shell {
    /// A shell that stops with `stopping`.
    #[must_use]
    pub fn new(service: &'static str, stopping: CancellationToken, clock: Clock) -> Self {
        Self {
            service,
            registry: Registry::new(),
            readiness: Readiness::default(),
            tasks: Tasks::new(stopping),
            clock,
            operator_calls: Arc::default(),
        }
    }

    /// Lets an operator call `call` by a POST to `/operator/<name>` on the admin port.
    pub fn operator_call(&self, name: &'static str, call: OperatorCall) {
        self.operator_calls.lock().unwrap_or_else(PoisonError::into_inner).push((name, call));
    }

    /// Makes every call named `name`; `None` when there is none.
    #[must_use]
    pub fn call_operator(&self, name: &str) -> Option<String> {
        let calls: Vec<_> = {
            let calls = self.operator_calls.lock().unwrap_or_else(PoisonError::into_inner);
            calls.iter().filter(|(known, _)| *known == name).map(|(_, call)| call.clone()).collect()
        };
        (!calls.is_empty()).then(|| calls.iter().map(|call| call()).collect::<Vec<_>>().join("\n"))
    }
}
