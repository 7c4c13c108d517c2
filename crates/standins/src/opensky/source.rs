//! Where answers come from, and what can be asked.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};

use super::{
    recording::Recording,
    rows::{Area, Flight, State},
    scripted::Scripted,
};

/// Which flights of an airport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Those that landed there, by when they were last seen.
    Arrival,
    /// Those that left from there, by when they were first seen.
    Departure,
}

/// Where a stand-in's answers come from.
#[derive(Clone)]
pub enum Source {
    /// The committed recordings, moved onto one calendar.
    Recording(Arc<Recording>),
    /// What a test says.
    Scripted(Scripted),
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

/// A question about the sky.
pub(super) struct StatesQuery {
    pub(super) area: Option<Area>,
    /// Only these aircraft; empty for all.
    pub(super) icao24: Vec<String>,
}

/// An answer about the sky.
pub(super) struct Sky {
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

impl Source {
    pub(super) fn flights(&self, query: &FlightsQuery, now: DateTime<Utc>) -> Result<Vec<Flight>, Unanswered> {
        match self {
            Self::Recording(recording) => recording.flights(query, now),
            Self::Scripted(scripted) => Ok(scripted.flights(query)),
        }
    }

    pub(super) fn states(&self, query: &StatesQuery, now: DateTime<Utc>) -> Result<Sky, Unanswered> {
        let mut sky = match self {
            Self::Recording(recording) => recording.states(query.area.as_ref(), now)?,
            Self::Scripted(scripted) => scripted.sky(now),
        };
        sky.states.retain(|state| {
            query.area.as_ref().is_none_or(|area| area.contains(state))
                && (query.icao24.is_empty() || query.icao24.contains(&state.icao24))
        });
        Ok(sky)
    }
}
