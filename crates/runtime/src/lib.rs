#![doc = include_str!("../README.md")]

pub mod backoff;
pub mod clock;
pub mod clock_watch;
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
pub use telemetry::CLOSE_LIMIT;
