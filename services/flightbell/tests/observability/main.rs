//! What operators see of a real run: a real Prometheus answers what dashboards and rules ask, and log lines are JSON
//! with trace ids.

#![cfg(test)]

mod committed;
mod demo;
mod logs;
mod panels;
mod prometheus;
mod promql;

use std::time::Duration;

/// How long anything may take that takes a moment, on a machine with much else to do.
const PATIENCE: Duration = Duration::from_secs(120);
