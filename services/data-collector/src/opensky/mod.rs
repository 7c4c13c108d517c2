//! OpenSky's REST interface: signed in, bounded in time, behind circuit breakers, and believed only
//! when a reply is whole.
//!
//! There is one breaker each for sign-in, states and flights. The time-out is inside the breaker, so
//! that a call that hangs counts as a failure.

mod breaker;
mod client;
mod error;
mod flight_details;
mod oauth;
pub mod wire;

pub use client::{OpenSky, OpenSkyConfig};
pub use error::CallError;
pub use oauth::Credentials;

use crate::core::{day::Direction, geo::GeoBox, live::StateSnapshot};

/// What became of a question.
#[derive(Debug)]
pub struct ApiResponse<T> {
    /// What the reply holds; none when there is nothing (404). An error when there was no reply, or
    /// none that can be used.
    pub content: Result<Option<T>, CallError>,
    /// The credits left, where a reply says so, be it a failure.
    pub remaining: Option<u32>,
}

/// What can be asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum ApiRequest<'a> {
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
    pub async fn states(&self, area: &GeoBox) -> ApiResponse<StateSnapshot> {
        self.ask(&ApiRequest::States(area), wire::snapshot).await
    }

    /// The flights of `airport` on `day`.
    pub async fn flights(
        &self,
        airport: &str,
        direction: Direction,
        day: chrono::NaiveDate,
    ) -> ApiResponse<Vec<wire::Flight>> {
        self.ask(&ApiRequest::Flights { airport, direction, day }, wire::flights).await
    }
}
