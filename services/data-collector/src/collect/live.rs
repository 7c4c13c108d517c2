//! One cycle for live figures.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};
use contracts::Metric;
use shell::{fault, lease::Term};

use super::{Collector, TurnError, calls};
use crate::{
    core::{
        boxes::{self, BoxCall},
        live::{self, Sky},
        plan::Kind,
    },
    opensky::CallError,
    store::{
        collection::{self, Known},
        readings::{self, NewReading},
    },
};

/// How far back a live figure looks.
const WINDOW: TimeDelta = TimeDelta::seconds(60);

/// Airports stored in one transaction, so that it is short: it keeps the lease from being renewed.
const STORED_TOGETHER: usize = 50;

impl Collector {
    /// Asks for the boxes and stores a reading for every airport: the count, or that it is unknown.
    pub(super) async fn collect_live(
        &self,
        term: &Term,
        known: &Known,
        airports: &[usize],
        calls: &[BoxCall],
        regular: bool,
    ) -> Result<(), TurnError> {
        let begun_at = known.situation.now;
        let Seen { calls, skies, refused } = self.look(term, known, airports, calls).await?;
        fault::point("data-collector.asked-not-stored");
        let observed_at = self.shell.clock.now();
        let mut counted = Vec::with_capacity(airports.len());
        for (place, airport) in airports.iter().enumerate() {
            let need = &known.situation.live[*airport];
            let own = calls.iter().zip(&skies).filter(|(call, _)| call.airports.contains(&place));
            // Every box of the airport must have been seen.
            let own: Option<Vec<&Sky>> = own.map(|(_, sky)| sky.as_ref()).collect();
            let value = own.as_ref().map(|skies| live::count(need.position, skies));
            let end = own.and_then(|skies| skies.first().and_then(|sky| reply_time(sky))).unwrap_or(observed_at);
            counted.push((need.airport.as_str(), value, end, need.requested));
        }
        for (turn, chunk) in counted.chunks(STORED_TOGETHER).enumerate() {
            let mut transaction = self.store.begin().await?;
            term.hold(&mut transaction).await?;
            if regular && turn == 0 {
                collection::record_cycle(&mut transaction, Kind::Live, begun_at).await?;
            }
            for (airport, value, end, requested) in chunk {
                let metric = Metric::Live;
                let window = (*end - WINDOW, *end);
                let reading = NewReading { airport, metric, value: *value, window, observed_at, source: &self.source };
                readings::insert(&mut transaction, &reading).await?;
                // Whoever waits is served when the silence ends, as if nothing had been asked.
                let is_silent = refused && value.is_none();
                if !(is_silent && *requested) {
                    collection::record_attempt(&mut transaction, airport, Kind::Live, begun_at, 0).await?;
                }
                if !is_silent {
                    collection::forget_requests(&mut transaction, airport, &[metric]).await?;
                }
            }
            transaction.commit().await?;
        }
        fault::point("data-collector.reading-stored");
        for (airport, value, ..) in counted {
            if let Some(value) = value {
                self.metrics.flights_fetched(airport, value);
            }
            tracing::debug!(airport, value, "counted aircraft");
        }
        Ok(())
    }

    /// Asks for the boxes. One that several airports share and that the source refuses as wrong says
    /// nothing about most of them, so each of those is asked for alone, at once and until the day ends.
    async fn look(&self, term: &Term, known: &Known, airports: &[usize], calls: &[BoxCall]) -> Result<Seen, TurnError> {
        let mut seen = Seen::default();
        let mut queue: VecDeque<BoxCall> = calls.iter().cloned().collect();
        let mut left = known.situation.states.remaining;
        while let Some(call) = queue.pop_front() {
            // After "too many requests" the rest of the cycle is silent too.
            if seen.refused || call.cost() > left {
                seen.calls.push(call);
                seen.skies.push(None);
                continue;
            }
            let answer = self.ask_states(term, &call).await?;
            left -= call.cost();
            seen.refused = matches!(answer, Err(CallError::TooManyRequests { .. }));
            if let Err(error) = &answer {
                tracing::warn!(airports = call.airports.len(), "live figures are unknown: {}", calls::in_words(error));
            }
            if matches!(answer, Err(CallError::BadRequest)) && call.airports.len() > 1 {
                for place in call.airports {
                    let need = &known.situation.live[airports[place]];
                    self.keep_alone(&need.airport, known.situation.now);
                    let own = boxes::calls(&[need.position]).into_iter();
                    queue.extend(own.map(|own| BoxCall { airports: vec![place], ..own }));
                }
                continue;
            }
            seen.calls.push(call);
            seen.skies.push(answer.ok());
        }
        Ok(seen)
    }
}

/// What was asked, and what was seen.
#[derive(Default)]
struct Seen {
    calls: Vec<BoxCall>,
    /// One for each call; none where it has no usable answer.
    skies: Vec<Option<Sky>>,
    /// The source asked for silence.
    refused: bool,
}

#[expect(clippy::cast_possible_truncation, reason = "a time that is out of range is none")]
fn reply_time(sky: &Sky) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(sky.time as i64, 0)
}
