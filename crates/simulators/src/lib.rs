#![doc = include_str!("../README.md")]

pub mod opensky;
pub mod telegram;

mod log;
mod reply;
mod script;
mod serve;

use std::sync::Arc;

use chrono::{DateTime, Utc};

/// Tells a simulator the time: the system's, a replay's, or a test's.
pub type ClockFn = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// The system's clock.
#[must_use]
pub fn system_clock() -> ClockFn {
    Arc::new(Utc::now)
}
