//! A circuit breaker: five failures in a row open it for a minute.

use std::{future::Future, time::Duration};

use failsafe::{
    Config, Instrument, StateMachine,
    backoff::{self, Constant},
    failure_policy::{self, ConsecutiveFailures},
    futures::CircuitBreaker as _,
};
use prometheus::IntGauge;

use super::CallError;

/// How many failures in a row open it.
const FAILURES: u32 = 5;

/// One breaker. The time it stays open is real time: it protects a real service, whatever clock the
/// collection runs by.
pub(super) struct Breaker {
    machine: StateMachine<ConsecutiveFailures<Constant>, Watch>,
}

/// Shows the state: 0 closed, 1 half open, 2 open.
struct Watch {
    name: &'static str,
    gauge: IntGauge,
}

impl Breaker {
    pub(super) fn new(name: &'static str, gauge: IntGauge, open_for: Duration) -> Self {
        let policy = failure_policy::consecutive_failures(FAILURES, backoff::constant(open_for));
        Self { machine: Config::new().failure_policy(policy).instrument(Watch { name, gauge }).build() }
    }

    /// Runs `call` unless the breaker is open; `counts` says which of its errors are failures.
    pub(super) async fn call<T>(
        &self,
        counts: impl Fn(&CallError) -> bool,
        call: impl Future<Output = Result<T, CallError>>,
    ) -> Result<T, CallError> {
        // A call without end is recorded as nothing at all: the caller bounds the time inside.
        self.machine.call_with(counts, Box::pin(call)).await.map_err(|error| match error {
            failsafe::Error::Inner(error) => error,
            failsafe::Error::Rejected => CallError::BreakerOpen,
        })
    }
}

impl Instrument for Watch {
    fn on_call_rejected(&self) {}

    fn on_open(&self) {
        self.gauge.set(2);
        tracing::warn!("opensky {}: the last {FAILURES} calls failed, pausing", self.name);
    }

    fn on_half_open(&self) {
        self.gauge.set(1);
    }

    fn on_closed(&self) {
        if self.gauge.get() != 0 {
            tracing::info!("opensky {}: answers again", self.name);
        }
        self.gauge.set(0);
    }
}
