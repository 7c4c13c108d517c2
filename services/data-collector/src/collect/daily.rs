//! One airport's finished days.

use chrono::{DateTime, NaiveDate, Utc};
use events::{FlightCount, Metric};
use pg::lease::LeaseTerm;
use runtime::fault;
use sqlx::PgConnection;

use super::{CollectError, Collector, DATABASE_LIMIT, Doubted, within};
use crate::{
    core::{
        credits::Bucket,
        day::{self, Asked, Direction, Listed, Meaning},
        plan::{DailyNeed, DaySelection, Kind},
        reading::directions,
    },
    opensky::{CallError, wire::Flight},
    store::{
        collection::{self, Known, Watch},
        flights,
        readings::{self, NewReading},
    },
};

/// What a step found out about an airport.
#[derive(Default)]
struct Found {
    /// Whole days, also those without any flight.
    days: Vec<(Direction, NaiveDate, Vec<Flight>)>,
    /// Days that turned out to be published.
    published: Vec<NaiveDate>,
    /// Yesterday was found unpublished.
    unpublished: bool,
    /// A direction could not be collected, for want of an answer or of a published day.
    incomplete: bool,
    /// There was no answer.
    failed: bool,
    /// Nothing was asked, or the source asked for silence: no failure of this airport.
    unasked: bool,
    /// The source asked for silence.
    refused: bool,
}

impl Found {
    /// How many attempts in a row have failed with this one.
    fn failures(&self, need: &DailyNeed) -> u32 {
        match (self.failed, self.unasked) {
            // Nothing there is an answer, if only that the day is unknown.
            (false, _) => 0,
            (true, false) => need.failures.saturating_add(1),
            (true, true) => need.failures.max(1),
        }
    }
}

impl Collector {
    /// Asks for what is needed and stores it, with a reading for each metric that is watched there.
    pub(super) async fn collect_daily(
        &self,
        term: &LeaseTerm,
        known: &Known,
        place: usize,
        asked: &[Direction],
        days: DaySelection,
    ) -> Result<(), CollectError> {
        let need = &known.situation.daily[place];
        let nobody = Watch::default();
        let watch = known.watches.get(&need.airport).unwrap_or(&nobody);
        let found = self.find(term, known, need, asked, days).await?;
        fault::point("data-collector.asked-not-stored");
        if days == DaySelection::Probe && found.unasked {
            self.defer_probe(known.situation.now);
        }
        if found.unpublished {
            self.probed_unpublished(&need.airport, known.situation.now);
        }
        within(DATABASE_LIMIT, self.store_found(term, known, need, watch, (asked, days), &found)).await?;
        fault::point("data-collector.reading-stored");
        if !found.days.is_empty() {
            let flights: usize = found.days.iter().map(|(.., listed)| listed.len()).sum();
            let fetched = FlightCount::try_from(flights).unwrap_or(FlightCount::MAX);
            self.metrics.flights_fetched(&need.airport, fetched);
            tracing::debug!(airport = need.airport, flights, "collected flights");
        }
        Ok(())
    }

    /// Stores what a step found out, in one transaction.
    async fn store_found(
        &self,
        term: &LeaseTerm,
        known: &Known,
        need: &DailyNeed,
        watch: &Watch,
        (asked, days): (&[Direction], DaySelection),
        found: &Found,
    ) -> Result<(), CollectError> {
        let now = self.runtime.clock.now();
        let yesterday = day::yesterday(known.situation.now);
        let mut transaction = self.store.begin().await?;
        term.fence(&mut transaction).await?;
        for day in &found.published {
            collection::record_day(&mut transaction, *day, true, known.situation.now).await?;
        }
        // Asked for a user who waits, an airport whose traffic is not known proves nothing for others: they are to be
        // asked for yesterday no later for that.
        if found.unpublished && (days != DaySelection::NewestForWaiting || need.traffic > FlightCount::ZERO) {
            collection::record_day(&mut transaction, yesterday, false, known.situation.now).await?;
        }
        for (direction, day, listed) in &found.days {
            flights::store_day(&mut transaction, &need.airport, *direction, *day, listed, now).await?;
        }
        let mut stored = Vec::new();
        let only_probed = days == DaySelection::Probe && found.days.is_empty();
        if !only_probed {
            let metrics = if asked.is_empty() { &watch.requested } else { &watch.metrics };
            let metrics: Vec<_> = metrics.iter().copied().filter(|of| Kind::of(*of) == Kind::Daily).collect();
            stored = self.store_readings(&mut transaction, known, need, &metrics, found, now).await?;
            // The users who wait are served when the silence ends, as if nothing had been asked.
            if !found.refused {
                collection::forget_requests(&mut transaction, &need.airport, &metrics).await?;
            }
            if !(asked.is_empty() || (found.refused && need.requested)) {
                let (at, failures) = (known.situation.now, found.failures(need));
                collection::record_attempt(&mut transaction, &need.airport, Kind::Daily, at, failures).await?;
            }
        }
        transaction.commit().await?;
        for (metric, flight_count) in stored {
            self.metrics.reading_stored(metric, flight_count);
        }
        Ok(())
    }

    /// Asks direction by direction, the newest day first.
    async fn find(
        &self,
        term: &LeaseTerm,
        known: &Known,
        need: &DailyNeed,
        asked: &[Direction],
        days: DaySelection,
    ) -> Result<Found, CollectError> {
        let mut found = Found::default();
        let yesterday = day::yesterday(known.situation.now);
        let before = day::before(yesterday);
        if known.situation.yesterday_published_at.is_some() {
            found.published.push(yesterday);
        }
        if known.situation.before_published_at.is_some() {
            found.published.push(before);
        }
        let mut queue: Vec<Direction> = asked.to_vec();
        let mut turn = 0;
        while let Some(direction) = queue.get(turn).copied() {
            turn += 1;
            let skip_yesterday = days == DaySelection::DayBefore || found.unpublished;
            let tried: &[NaiveDate] = match days {
                DaySelection::Probe => &[yesterday],
                _ if skip_yesterday => &[before],
                _ => &[yesterday, before],
            };
            if let Err(error) = self.find_direction(term, known, need, direction, tried, &mut found).await? {
                let what = format!("{}s of {}", direction.as_str(), need.airport);
                self.failures.failed(Bucket::Flights, &what, &error);
                found.refused = matches!(error, CallError::TooManyRequests { .. });
                found.unasked = found.refused || error.is_unasked();
                (found.incomplete, found.failed) = (true, true);
                // A day that could not be looked for is not looked for again at once.
                found.unpublished |= days == DaySelection::Probe && !found.unasked;
                break;
            }
            self.failures.answered(Bucket::Flights);
            if days == DaySelection::Probe && !found.days.is_empty() && queue.len() == 1 {
                // The day is there: now the rest of it.
                queue.extend(need.directions.iter().map(|(other, _)| *other).filter(|other| *other != direction));
            }
        }
        Ok(found)
    }

    async fn find_direction(
        &self,
        term: &LeaseTerm,
        known: &Known,
        need: &DailyNeed,
        direction: Direction,
        tried: &[NaiveDate],
        found: &mut Found,
    ) -> Result<Result<(), CallError>, CollectError> {
        let cost = known.situation.flights.flights_cost();
        for day in tried {
            let listed = match self.ask_flights(term, &need.airport, direction, *day, cost).await? {
                Ok(listed) => listed,
                Err(error) => return Ok(Err(error)),
            };
            // Nothing there, or an empty list: the same.
            let listed = listed.unwrap_or_default();
            let published = found.published.contains(day);
            let asked = Asked { airport: &need.airport, direction, day: *day, published, traffic: need.traffic };
            let rows: Vec<Listed<'_>> = listed.iter().map(Listed::from).collect();
            let doubted = Doubted::Day(need.airport.clone(), direction, *day);
            match day::meaning(&rows, &asked) {
                Meaning::AnotherQuestion => return Ok(Err(CallError::AnotherQuestion)),
                meaning @ (Meaning::Flights | Meaning::None | Meaning::Doubtful) => {
                    // A flight of the day shows that it is published, however many are missing yet.
                    if !published {
                        tracing::info!("flights of {day} are published");
                        found.published.push(*day);
                    }
                    if meaning == Meaning::Doubtful && self.is_first_doubt(&doubted) {
                        return Ok(Err(CallError::Doubtful));
                    }
                    if !listed.is_empty() {
                        self.forget_doubt(&doubted);
                    }
                    found.days.push((direction, *day, listed));
                    return Ok(Ok(()));
                }
                Meaning::Unknown => {
                    found.unpublished |= *day == day::yesterday(known.situation.now);
                    let held =
                        need.directions.iter().find(|(known, _)| *known == direction).and_then(|(_, held)| *held);
                    if held.is_some_and(|held| held >= day::before(*day)) && tried.len() > 1 {
                        // The day before is held already.
                        return Ok(Ok(()));
                    }
                }
            }
        }
        found.incomplete = true;
        Ok(Ok(()))
    }

    /// A reading for each of `metrics`, which are about finished days: the count where all its
    /// directions are held for one day, else that it is unknown. Answers what was stored.
    async fn store_readings(
        &self,
        connection: &mut PgConnection,
        known: &Known,
        need: &DailyNeed,
        metrics: &[Metric],
        found: &Found,
        now: DateTime<Utc>,
    ) -> Result<Vec<(Metric, Option<FlightCount>)>, CollectError> {
        let yesterday = day::yesterday(known.situation.now);
        let newest = if found.published.contains(&yesterday) { yesterday } else { day::before(yesterday) };
        let held_on = |direction: Direction| {
            let now = found.days.iter().filter(|(found, ..)| *found == direction).map(|(_, day, _)| *day);
            let before = need.directions.iter().filter(|(known, _)| *known == direction).filter_map(|(_, held)| *held);
            now.chain(before).max()
        };
        let mut stored = Vec::with_capacity(metrics.len());
        for metric in metrics.iter().copied() {
            let needed = directions(metric);
            let whole = needed.iter().all(|direction| held_on(*direction) == Some(newest));
            let answered = !found.incomplete
                || needed.iter().all(|needed| found.days.iter().any(|(direction, ..)| direction == needed));
            let flight_count = if whole && answered {
                Some(flights::count(connection, &need.airport, needed, newest).await?)
            } else {
                None
            };
            let window = day::window(newest);
            let airport = need.airport.as_str();
            let source = self.source.as_str();
            let reading = NewReading { airport, metric, flight_count, window, observed_at: now, source };
            readings::insert(connection, &reading).await?;
            stored.push((metric, flight_count));
        }
        Ok(stored)
    }
}

impl<'a> From<&'a Flight> for Listed<'a> {
    fn from(flight: &'a Flight) -> Self {
        Self {
            departure_airport: flight.departure_airport.as_deref(),
            arrival_airport: flight.arrival_airport.as_deref(),
            first_seen: flight.first_seen,
            last_seen: flight.last_seen,
        }
    }
}
