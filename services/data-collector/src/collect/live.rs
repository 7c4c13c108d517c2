//! One cycle for live figures.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};
use events::{FlightCount, Metric};
use pg::lease::LeaseTerm;
use runtime::fault;

use super::{CollectError, Collector, DATABASE_LIMIT, Doubted, within};
use crate::{
    core::{
        boxes::{self, BoundingBoxQuery},
        credits::Bucket,
        live::{self, StateSnapshot},
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

/// How old the last count may be to be held against an empty snapshot.
const RECENTLY: TimeDelta = TimeDelta::hours(1);

/// Airports stored in one transaction, so that it is short: it keeps the lease from being renewed.
const STORED_TOGETHER: usize = 50;

impl Collector {
    /// Asks for the boxes and stores a reading for every airport: the count, or that it is unknown.
    pub(super) async fn collect_live(
        &self,
        term: &LeaseTerm,
        known: &Known,
        airports: &[usize],
        calls: &[BoundingBoxQuery],
        regular: bool,
    ) -> Result<(), CollectError> {
        let begun_at = known.situation.now;
        let Seen { calls, snapshots, refused } = self.query_boxes(term, known, airports, calls).await?;
        fault::point("data-collector.asked-not-stored");
        let observed_at = self.runtime.clock.now();
        let mut counted = Vec::with_capacity(airports.len());
        for (place, airport) in airports.iter().enumerate() {
            let need = &known.situation.live[*airport];
            let own = calls.iter().zip(&snapshots).filter(|(call, _)| call.airports.contains(&place));
            // Every box of the airport must have been seen.
            let own: Option<Vec<&StateSnapshot>> = own.map(|(_, snapshot)| snapshot.as_ref()).collect();
            let flight_count = own.as_ref().map(|snapshots| live::count(need.position, snapshots));
            // What is unknown is unknown as of now: it tells nothing of the time of an answer that was not used.
            let end = own
                .and_then(|snapshots| snapshots.first().and_then(|snapshot| snapshot.taken_at()))
                .unwrap_or(observed_at);
            counted.push((need.airport.as_str(), flight_count, end));
        }
        for (turn, chunk) in counted.chunks(STORED_TOGETHER).enumerate() {
            let cycle_begun_at = (regular && turn == 0).then_some(begun_at);
            let stored = self.store_counts(term, chunk, cycle_begun_at, (begun_at, observed_at), refused);
            within(DATABASE_LIMIT, stored).await?;
        }
        fault::point("data-collector.reading-stored");
        for (airport, flight_count, ..) in counted {
            if let Some(flight_count) = flight_count {
                self.metrics.flights_fetched(airport, flight_count);
            }
            tracing::debug!(airport, flight_count = flight_count.map(FlightCount::get), "counted aircraft");
        }
        Ok(())
    }

    /// Stores what was counted in one transaction, as of when it was asked for and observed.
    async fn store_counts(
        &self,
        term: &LeaseTerm,
        counted: &[(&str, Option<FlightCount>, DateTime<Utc>)],
        cycle_begun_at: Option<DateTime<Utc>>,
        (begun_at, observed_at): (DateTime<Utc>, DateTime<Utc>),
        refused: bool,
    ) -> Result<(), CollectError> {
        let mut transaction = self.store.begin().await?;
        term.fence(&mut transaction).await?;
        if let Some(begun_at) = cycle_begun_at {
            collection::record_cycle(&mut transaction, Kind::Live, begun_at).await?;
        }
        for (airport, flight_count, end) in counted {
            let metric = Metric::Live;
            let window = (*end - WINDOW, *end);
            let (flight_count, source) = (*flight_count, self.source.as_str());
            let reading = NewReading { airport, metric, flight_count, window, observed_at, source };
            readings::insert(&mut transaction, &reading).await?;
            // A person who waits is served when the silence ends, as if nothing had been asked; also one whose
            // request comes later than the question that the interest itself caused.
            if !(refused && flight_count.is_none()) {
                collection::record_attempt(&mut transaction, airport, Kind::Live, begun_at, 0).await?;
                collection::forget_requests(&mut transaction, airport, &[metric]).await?;
            }
        }
        transaction.commit().await?;
        Ok(())
    }

    /// Asks for the boxes. One that several airports share and that the source refuses as wrong says
    /// nothing about most of them, so each of those is asked for alone, at once and until the day ends.
    async fn query_boxes(
        &self,
        term: &LeaseTerm,
        known: &Known,
        airports: &[usize],
        calls: &[BoundingBoxQuery],
    ) -> Result<Seen, CollectError> {
        let mut seen = Seen::default();
        let mut queue: VecDeque<BoundingBoxQuery> = calls.iter().cloned().collect();
        let mut left = known.situation.states.remaining;
        while let Some(call) = queue.pop_front() {
            // After "too many requests" the rest of the cycle is silent too.
            if seen.refused || call.cost() > left {
                seen.calls.push(call);
                seen.snapshots.push(None);
                continue;
            }
            let answer = self.ask_states(term, &call).await?;
            left -= call.cost();
            seen.refused = matches!(answer, Err(CallError::TooManyRequests { .. }));
            let around = || call.airports.iter().map(|place| known.situation.live[airports[*place]].airport.as_str());
            let answer = match answer {
                Ok(snapshot) => self.doubt_empty_snapshot(snapshot, around().collect()).await?,
                answer => answer,
            };
            match &answer {
                Ok(_) => self.failures.answered(Bucket::States),
                Err(error) => {
                    let airports = format!("{} of {} airports", call.airports.len(), airports.len());
                    self.failures.failed(Bucket::States, &airports, error);
                }
            }
            if matches!(answer, Err(CallError::BadRequest)) && call.airports.len() > 1 {
                for place in call.airports {
                    let need = &known.situation.live[airports[place]];
                    self.keep_alone(&need.airport, known.situation.now);
                    let own = boxes::calls(&[need.position]).into_iter();
                    queue.extend(own.map(|own| BoundingBoxQuery { airports: vec![place], ..own }));
                }
                continue;
            }
            seen.calls.push(call);
            seen.snapshots.push(answer.ok());
        }
        Ok(seen)
    }

    /// An answer without a single row tells "nothing flies" to everybody who watches one of its airports. Where
    /// many flew a moment ago it may as well be a fault of the source, so a second one must say the same.
    async fn doubt_empty_snapshot(
        &self,
        snapshot: StateSnapshot,
        airports: Vec<&str>,
    ) -> Result<Result<StateSnapshot, CallError>, CollectError> {
        let doubted: Vec<_> = airports.iter().map(|airport| Doubted::Snapshot((*airport).to_owned())).collect();
        if !snapshot.aircraft.is_empty() {
            self.forget_doubts(&doubted);
            return Ok(Ok(snapshot));
        }
        let since = self.runtime.clock.now() - RECENTLY;
        let before = within(DATABASE_LIMIT, self.store.last_counts(&airports, since)).await?;
        let is_doubted = live::is_doubtful(&snapshot, before) && self.is_first_doubt(&doubted);
        Ok(if is_doubted { Err(CallError::Doubtful) } else { Ok(snapshot) })
    }
}

/// What was asked, and what was seen.
#[derive(Default)]
struct Seen {
    calls: Vec<BoundingBoxQuery>,
    /// One for each call; none where it has no usable answer.
    snapshots: Vec<Option<StateSnapshot>>,
    /// The source asked for silence.
    refused: bool,
}
