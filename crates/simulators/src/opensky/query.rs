//! What can be asked, and what answers may say.

use chrono::{DateTime, NaiveDate};

use super::rows::{Area, State};

/// Which flights of an airport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Those that landed there, by when they were last seen.
    Arrival,
    /// Those that left from there, by when they were first seen.
    Departure,
}

/// A question about an airport's flights.
pub(super) struct FlightsQuery {
    pub(super) airport: String,
    pub(super) direction: Direction,
    /// Unix seconds.
    pub(super) begin: i64,
    /// Unix seconds, included; touches at most one more UTC day than `begin`.
    pub(super) end: i64,
}

impl FlightsQuery {
    /// The UTC days that the window touches: one or two.
    pub(super) fn days(&self) -> impl Iterator<Item = NaiveDate> {
        let day = |seconds| DateTime::from_timestamp(seconds, 0).map(|time| time.date_naive());
        let (first, last) = (day(self.begin), day(self.end));
        first.into_iter().chain(last.filter(|last| first != Some(*last)))
    }
}

/// A query for state vectors.
pub(super) struct StatesQuery {
    pub(super) area: Option<Area>,
    /// Only these aircraft; empty for all.
    pub(super) icao24: Vec<String>,
}

/// A snapshot of state vectors.
pub(super) struct StateSnapshot {
    /// Unix seconds.
    pub(super) time: i64,
    pub(super) states: Vec<State>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unanswered {
    /// The recording does not hold what was asked for, so that any number would be invented.
    NotRecorded(&'static str),
    /// The recording has not begun, or has ended.
    NotRunning(&'static str),
}
