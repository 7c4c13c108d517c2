//! What every Flightbell process needs before it does its own work: settings, logs and traces,
//! metrics, the admin port, an orderly stop, PostgreSQL pools, a leader's lease, and the manners of
//! our HTTP and gRPC edges.
//!
//! Nothing here knows flights, alerts or people, and nothing here is global: a [`Shell`] is made for
//! each service and passed, so that all of them can run in one process and tests in parallel.

pub mod backoff;
pub mod clock;
pub mod config;
pub mod error;
pub mod fault;
pub mod grpc;
pub mod http;
pub mod lease;
pub mod listen;
pub mod log_limit;
pub mod metrics;
pub mod outside;
pub mod periodic;
pub mod postgres;
pub mod readiness;
pub mod service;
pub mod tasks;
pub mod trace;

mod admin;
mod process;
mod telemetry;

pub use process::{EXIT_IMPATIENT, EXIT_USAGE, Process, Shell, StoppedEarly, choose_tls, exit_code};
