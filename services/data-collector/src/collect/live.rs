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
        live::{self, Counts, StateSnapshot},
        plan::{Kind, LiveNeed},
    },
    opensky::CallError,
    store::{
        collection::{self, Known},
        readings::{self, NewReading},
    },
};

/// How far back a live figure looks.
const WINDOW: TimeDelta = TimeDelta::seconds(60);

/// How old the last count may be to be held against one that is next to nothing.
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
        let seen = self.query_boxes(term, known, airports, calls).await?;
        fault::point("data-collector.asked-not-stored");
        let observed_at = self.runtime.clock.now();
        let needs: Vec<&LiveNeed> = airports.iter().map(|airport| &known.situation.live[*airport]).collect();
        let mut counted: Vec<_> =
            needs.iter().enumerate().map(|(place, need)| seen.count(place, need, observed_at)).collect();
        for place in self.sudden_falls(&seen, &counted).await? {
            (counted[place].flight_count, counted[place].end) = (None, observed_at);
        }
        for (turn, chunk) in counted.chunks(STORED_TOGETHER).enumerate() {
            let cycle_begun_at = (regular && turn == 0).then_some(begun_at);
            let stored = self.store_counts(term, chunk, cycle_begun_at, (begun_at, observed_at), seen.refused);
            within(DATABASE_LIMIT, stored).await?;
        }
        fault::point("data-collector.reading-stored");
        for Counted { airport, flight_count, .. } in counted {
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
        counted: &[Counted<'_>],
        cycle_begun_at: Option<DateTime<Utc>>,
        (begun_at, observed_at): (DateTime<Utc>, DateTime<Utc>),
        refused: bool,
    ) -> Result<(), CollectError> {
        let mut transaction = self.store.begin().await?;
        term.fence(&mut transaction).await?;
        if let Some(begun_at) = cycle_begun_at {
            collection::record_cycle(&mut transaction, Kind::Live, begun_at).await?;
        }
        for Counted { airport, flight_count, end } in counted.iter().copied() {
            let (metric, window) = (Metric::Live, (end - WINDOW, end));
            let source = self.source.as_str();
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
        for counted in counted {
            self.metrics.reading_stored(Metric::Live, counted.flight_count);
        }
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

    /// The places of airports that are not told next to nothing yet. An answer with next to no rows tells "nothing
    /// flies" to everybody who watches one of its airports. Where many flew a moment ago it may as well be a fault of
    /// the source, so a second answer must say the same.
    async fn sudden_falls(&self, seen: &Seen, counted: &[Counted<'_>]) -> Result<Vec<usize>, CollectError> {
        let airports: Vec<&str> = counted.iter().map(|counted| counted.airport).collect();
        let since = self.runtime.clock.now() - RECENTLY;
        let before = within(DATABASE_LIMIT, self.store.last_counts(&airports, since)).await?;
        let counts: Vec<_> = counted
            .iter()
            .map(|counted| {
                let before = before.get(counted.airport).copied().unwrap_or_default();
                counted.flight_count.map(|now| Counts { now, before })
            })
            .collect();
        let mut doubtful = live::doubtful(&counts, seen.calls.iter().map(|call| call.airports.as_slice()));
        let doubted = |place: usize| Doubted::Count(counted[place].airport.to_owned());
        for place in (0..counted.len()).filter(|place| counts[*place].is_some() && !doubtful.contains(place)) {
            self.forget_doubt(&doubted(place));
        }
        doubtful.retain(|place| self.is_first_doubt(&doubted(*place)));
        if !doubtful.is_empty() {
            let what = format!("{} of {} airports", doubtful.len(), counted.len());
            self.failures.failed(Bucket::States, &what, &CallError::Doubtful);
        }
        Ok(doubtful.into_iter().collect())
    }
}

/// What was counted around an airport.
#[derive(Clone, Copy)]
struct Counted<'a> {
    airport: &'a str,
    /// None where it is unknown.
    flight_count: Option<FlightCount>,
    /// When the window ends that was counted in.
    end: DateTime<Utc>,
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

impl Seen {
    /// Counts around the airport at this place of the cycle. What is unknown is unknown as of `now`: it tells nothing
    /// of the time of an answer that was not used.
    fn count<'a>(&self, place: usize, need: &'a LiveNeed, now: DateTime<Utc>) -> Counted<'a> {
        let own = self.calls.iter().zip(&self.snapshots).filter(|(call, _)| call.airports.contains(&place));
        // Every box of the airport must have been seen.
        let own: Option<Vec<&StateSnapshot>> = own.map(|(_, snapshot)| snapshot.as_ref()).collect();
        let flight_count = own.as_ref().map(|snapshots| live::count(need.position, snapshots));
        let taken_at = own.and_then(|snapshots| snapshots.first().and_then(|snapshot| snapshot.taken_at()));
        Counted { airport: &need.airport, flight_count, end: taken_at.unwrap_or(now) }
    }
}
