//! OpenSky's REST interface: signed in, bounded in time, behind circuit breakers, and believed only
//! when a reply is whole.
//!
//! There is one breaker each for sign-in, states and flights. The time-out is inside the breaker, so
//! that a call that hangs counts as a failure.

mod breaker;
mod client;
mod error;
mod sign_in;
pub mod wire;

pub use client::{OpenSky, OpenSkyConfig};
pub use error::CallError;
pub use sign_in::Credentials;

use crate::core::{day::Direction, geo::GeoBox, live::Sky};

/// A reply that could be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Reply<T> {
    /// What it holds; none when there is nothing (404).
    pub content: Option<T>,
    /// The credits left, where the reply says so.
    pub remaining: Option<u32>,
}

/// What can be asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Question<'a> {
    /// Everything in a box now.
    States(&'a GeoBox),
    /// The flights of an airport on a day.
    Flights {
        /// Its ICAO code.
        airport: &'a str,
        /// Which of its flights.
        direction: Direction,
        /// The UTC day.
        day: chrono::NaiveDate,
    },
}

impl OpenSky {
    /// Everything in `area` now.
    ///
    /// # Errors
    /// When there was no answer, or none that can be used.
    pub async fn states(&self, area: &GeoBox) -> Result<Reply<Sky>, CallError> {
        self.ask(&Question::States(area), wire::sky).await
    }

    /// The flights of `airport` on `day`.
    ///
    /// # Errors
    /// When there was no answer, or none that can be used.
    pub async fn flights(
        &self,
        airport: &str,
        direction: Direction,
        day: chrono::NaiveDate,
    ) -> Result<Reply<Vec<wire::Flight>>, CallError> {
        self.ask(&Question::Flights { airport, direction, day }, wire::flights).await
    }
}
