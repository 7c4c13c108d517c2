//! OpenSky and Telegram on this machine: two real HTTP servers that speak the outside services' own
//! interfaces, so that the demo and the tests use the same clients as a real installation.
//!
//! [`opensky::OpenSky`] answers from committed recordings of real traffic or from what a test says;
//! [`telegram::Telegram`] takes messages, remembers them and shows them on a page. Both fail on
//! purpose in every way the real ones were seen to fail.
//!
//! Nothing here reaches the internet, and no other part of Flightbell knows that it talks to a
//! simulator.

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
