//! Where answers come from.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{
    query::{FlightsQuery, StateSnapshot, StatesQuery, Unanswered},
    recording::Recording,
    rows::Flight,
    scripted::Scripted,
};

/// Where a simulator's answers come from.
#[derive(Clone)]
pub enum Source {
    /// The committed recordings, moved onto one calendar.
    Recording(Arc<Recording>),
    /// What a test says.
    Scripted(Scripted),
}

impl Source {
    pub(super) fn flights(&self, query: &FlightsQuery, now: DateTime<Utc>) -> Result<Vec<Flight>, Unanswered> {
        match self {
            Self::Recording(recording) => recording.flights(query, now),
            Self::Scripted(scripted) => Ok(scripted.flights(query)),
        }
    }

    pub(super) fn states(&self, query: &StatesQuery, now: DateTime<Utc>) -> Result<StateSnapshot, Unanswered> {
        let mut snapshot = match self {
            Self::Recording(recording) => recording.states(query.area.as_ref(), now)?,
            Self::Scripted(scripted) => scripted.snapshot(now),
        };
        snapshot.states.retain(|state| {
            query.area.as_ref().is_none_or(|area| area.contains(state))
                && (query.icao24.is_empty() || query.icao24.contains(&state.icao24))
        });
        Ok(snapshot)
    }
}
