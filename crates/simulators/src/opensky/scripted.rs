//! Answers that a test makes up.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, NaiveDate, Utc};

use super::{
    query::{Direction, FlightsQuery, StateSnapshot},
    rows::{Flight, State},
};

/// Traffic that a test sets up, and may change at any time. Nothing flies in it at first. Clones
/// share it.
#[derive(Clone, Default)]
pub struct Scripted {
    traffic: Arc<Mutex<Traffic>>,
}

#[derive(Default)]
struct Traffic {
    flights: HashMap<(String, Direction, NaiveDate), Vec<Flight>>,
    states: Vec<State>,
    /// Groups of aircraft that are heard at every moment: where, and how many.
    hovering: HashMap<String, Hovering>,
}

#[derive(Clone, Copy)]
struct Hovering {
    latitude: f64,
    longitude: f64,
    count: u32,
    category: u8,
}

impl Scripted {
    /// Traffic in which nothing flies.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The flights of an airport on a UTC day, in place of those set before. Without any the answer is
    /// 404, as it is for a day that is not published.
    pub fn set_flights(&self, airport: &str, direction: Direction, day: NaiveDate, flights: Vec<Flight>) {
        self.traffic().flights.insert((airport.to_uppercase(), direction, day), flights);
    }

    /// Sets so many different flights of an airport on a UTC day, spread over the day.
    pub fn set_flight_count(&self, airport: &str, direction: Direction, day: NaiveDate, count: u32) {
        let midnight = day.and_time(chrono::NaiveTime::MIN).and_utc().timestamp();
        let flights = (0..count).map(|number| {
            let at = midnight + i64::from(number) * 86_000 / i64::from(count.max(1));
            match direction {
                Direction::Arrival => Flight::new(format!("a{number:05x}"), at - 3600, at).to(airport),
                Direction::Departure => Flight::new(format!("d{number:05x}"), at, at + 3600).from(airport),
            }
        });
        self.set_flights(airport, direction, day, flights.collect());
    }

    /// The state vectors, in place of those set before.
    pub fn set_states(&self, states: Vec<State>) {
        self.traffic().states = states;
    }

    /// Puts `count` aircraft at a place, which are heard afresh at every moment, in place of those set
    /// before under this name.
    pub fn set_aircraft(&self, name: &str, latitude: f64, longitude: f64, count: u32) {
        self.set_aircraft_of_category(name, (latitude, longitude), count, 0);
    }

    /// The same as [`Scripted::set_aircraft`], all of one [`State::category`].
    pub fn set_aircraft_of_category(&self, name: &str, (latitude, longitude): (f64, f64), count: u32, category: u8) {
        self.traffic().hovering.insert(name.to_owned(), Hovering { latitude, longitude, count, category });
    }

    pub(super) fn flights(&self, query: &FlightsQuery) -> Vec<Flight> {
        let traffic = self.traffic();
        let key = |day| (query.airport.clone(), query.direction, day);
        query.days().filter_map(|day| traffic.flights.get(&key(day))).flatten().cloned().collect()
    }

    pub(super) fn snapshot(&self, now: DateTime<Utc>) -> StateSnapshot {
        let time = now.timestamp();
        let traffic = self.traffic();
        let mut states = traffic.states.clone();
        let mut number = 0;
        for &Hovering { latitude, longitude, count, category } in traffic.hovering.values() {
            for _ in 0..count {
                states.push(State::new(format!("{number:06x}"), latitude, longitude, time).category(category));
                number += 1;
            }
        }
        StateSnapshot { time, states }
    }

    fn traffic(&self) -> MutexGuard<'_, Traffic> {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
