//! What every process needs before it does its own work: settings, logs and traces, metrics, readiness, tasks, the
//! time, an orderly stop.
//!
//! Nothing here knows HTTP servers, gRPC, PostgreSQL or Kafka, and nothing here knows flights, alerts or people. Nothing
//! is global either: a [`ServiceRuntime`] is made for each service and passed, so that all of them can run in one
//! process and tests in parallel.

pub mod clock;
pub mod config;
pub mod fault;
pub mod http_client;
pub mod listen;
pub mod log_limit;
pub mod metrics;
pub mod periodic;
pub mod readiness;
pub mod tasks;
pub mod trace;

pub mod error;
pub mod principal;
mod process;
mod telemetry;

pub use process::{EXIT_FORCED, EXIT_USAGE, Process, ServiceRuntime, StoppedEarly, choose_tls, exit_code};
