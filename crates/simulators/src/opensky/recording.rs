//! The committed recordings, decoded once into a few flat lists. `data/README.md` says what they hold.

use std::{io::Read, ops::Range, str::FromStr};

use anyhow::{Context, anyhow, bail};
use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc};
use flate2::read::GzDecoder;

use super::{
    query::{Direction, FlightsQuery, StateSnapshot, Unanswered},
    replay::{self, ReplayState},
    rows::{Area, Flight, State},
};

const PARIS: &[u8] = include_bytes!("../../data/paris_2021-10-07.txt.gz");
const SAN_FRANCISCO: &[u8] = include_bytes!("../../data/sfo_2020-03-19_23.csv.gz");

/// 7 October 2021, 12:00 UTC: the rows count seconds from here.
const NOON: i64 = 1_633_608_000;
/// The recording holds what was known at every tenth second.
const STEP: i64 = 10;
/// OpenSky lists an aircraft for so many seconds after it was last heard.
const LISTED: i64 = 300;
/// The middle of the recorded area, degrees north and east.
const CENTRE: (f64, f64) = (48.86, 2.42);
/// How far the recorded area reaches around its middle, nautical miles.
const RADIUS: f64 = 60.0;

/// The only airport whose flights were recorded.
const FLIGHTS_OF: &str = "KSFO";
/// How fast an aircraft is reckoned to cover the distance to the other airport, in knots, after half
/// an hour for everything else.
const RECKONED_SPEED: f64 = 450.0;

const NOT_THE_AREA: &str = "the replay holds traffic within 60 nautical miles of Paris only";
const NOT_THE_AIRPORT: &str = "the replay holds flights of KSFO on 3 to 6 October 2021 only";
const NOT_BEGUN: &str = "the replay has not begun";
const ENDED: &str = "the replay has ended";

/// Both recordings on one calendar: the sky around Paris on 7 October 2021 as it was recorded, and San
/// Francisco's flights of 19 to 22 March 2020 as those of 3 to 6 October 2021.
pub struct Recording {
    /// Sorted by address.
    aircraft: Vec<Aircraft>,
    /// Sorted by aircraft, then time.
    positions: Vec<Position>,
    callsigns: Vec<Box<str>>,
    /// Sorted by time.
    movements: Vec<Movement>,
}

struct Aircraft {
    icao24: Box<str>,
    positions: Range<usize>,
}

struct Position {
    /// Seconds after noon.
    at: u16,
    callsign: u16,
    /// 0.00001 degrees.
    latitude: i32,
    /// 0.00001 degrees.
    longitude: i32,
    /// 25 feet.
    altitude: Option<i16>,
    /// Knots.
    speed: Option<u16>,
    /// 0.1 degrees.
    track: Option<u16>,
    /// Feet a minute.
    climb: Option<i16>,
    /// The four octal digits read as a decimal number.
    squawk: Option<u16>,
    on_ground: bool,
}

struct Movement {
    direction: Direction,
    /// Unix seconds on the replay's calendar.
    at: i64,
    icao24: Box<str>,
    callsign: Box<str>,
    other: airports::IcaoCode,
}

impl Recording {
    /// Decodes both recordings, once and for all servers that share them: about 1 MB is kept. It takes a
    /// third of a second without optimisation.
    ///
    /// # Errors
    /// When the data that was built in is damaged.
    pub fn load() -> anyhow::Result<Self> {
        let mut recording =
            Self { aircraft: Vec::new(), positions: Vec::new(), callsigns: Vec::new(), movements: Vec::new() };
        for line in inflate(PARIS).context("unpack the recording of Paris")?.lines() {
            recording.read_paris(line).with_context(|| format!("read {line:?} of the recording of Paris"))?;
        }
        recording.positions.shrink_to_fit();
        for line in inflate(SAN_FRANCISCO).context("unpack the recording of San Francisco")?.lines() {
            let movement = Movement::read(line).with_context(|| format!("read flight {line:?}"))?;
            recording.movements.push(movement);
        }
        recording.movements.shrink_to_fit();
        Ok(recording)
    }

    fn read_paris(&mut self, line: &str) -> anyhow::Result<()> {
        let Some(head) = line.strip_prefix('>') else {
            let callsign = self.callsigns.len().checked_sub(1).context("find the aircraft above")?;
            self.positions.push(Position::read(line, u16::try_from(callsign)?)?);
            if let Some(aircraft) = self.aircraft.last_mut() {
                aircraft.positions.end = self.positions.len();
            }
            return Ok(());
        };
        let (icao24, callsign) = head.split_once(',').context("find the callsign")?;
        self.callsigns.push(callsign.into());
        // One aircraft under two callsigns, on two flights, is one aircraft.
        if self.aircraft.last().is_none_or(|last| &*last.icao24 != icao24) {
            let start = self.positions.len();
            self.aircraft.push(Aircraft { icao24: icao24.into(), positions: start..start });
        }
        Ok(())
    }

    /// What OpenSky would have answered at `now`. A box that leaves the recorded area, or none, has no
    /// answer: what flew outside is not known, and it was not nothing.
    pub(super) fn states(&self, area: Option<&Area>, now: DateTime<Utc>) -> Result<StateSnapshot, Unanswered> {
        match ReplayState::at(now) {
            ReplayState::NotBegun => return Err(Unanswered::NotRunning(NOT_BEGUN)),
            ReplayState::Ended => return Err(Unanswered::NotRunning(ENDED)),
            ReplayState::Running => {}
        }
        if !area.is_some_and(is_recorded) {
            return Err(Unanswered::NotRecorded(NOT_THE_AREA));
        }
        Ok(self.snapshot(now.timestamp()))
    }

    /// Everything that was known at the last tenth second.
    fn snapshot(&self, now: i64) -> StateSnapshot {
        let time = now - now.rem_euclid(STEP);
        let heard = |aircraft: &Aircraft| {
            let positions = &self.positions[aircraft.positions.clone()];
            let known = positions.partition_point(|position| NOON + i64::from(position.at) <= time);
            let position = positions[..known].last()?;
            let callsign = self.callsigns.get(usize::from(position.callsign))?;
            Some(position.to_state(&aircraft.icao24, callsign)).filter(|state| time - state.last_contact <= LISTED)
        };
        StateSnapshot { time, states: self.aircraft.iter().filter_map(heard).collect() }
    }

    /// The flights of an airport. Days that are not published yet hold none, for any airport; published
    /// ones that were not recorded have no answer, since none would be a false zero.
    pub(super) fn flights(&self, query: &FlightsQuery, now: DateTime<Utc>) -> Result<Vec<Flight>, Unanswered> {
        let published: Vec<_> = query.days().filter(|day| is_published(*day, now)).collect();
        if published.iter().any(|day| query.airport != FLIGHTS_OF || !is_recorded_day(*day)) {
            return Err(Unanswered::NotRecorded(NOT_THE_AIRPORT));
        }
        let asked = |movement: &&Movement| {
            let day = DateTime::from_timestamp(movement.at, 0).map(|time| time.date_naive());
            movement.direction == query.direction
                && (query.begin..=query.end).contains(&movement.at)
                && day.is_some_and(|day| published.contains(&day))
        };
        Ok(self.movements.iter().filter(asked).map(Movement::to_flight).collect())
    }
}

/// Whether every corner of the box, and with it the whole box, lies in the recorded area.
fn is_recorded(area: &Area) -> bool {
    area.corners().iter().all(|corner| nautical_miles(CENTRE, *corner) <= RADIUS)
}

fn is_recorded_day(day: NaiveDate) -> bool {
    (day.year(), day.month()) == (2021, 10) && (3..=6).contains(&day.day())
}

/// The night's batch brings the day before; the newest day comes late in this replay.
fn is_published(day: NaiveDate, now: DateTime<Utc>) -> bool {
    let newest = (replay::published_at() - TimeDelta::days(1)).date_naive();
    day < newest || (day == newest && now >= replay::published_at())
}

/// The great-circle distance between two places in degrees north and east.
fn nautical_miles((north, east): (f64, f64), (other_north, other_east): (f64, f64)) -> f64 {
    let (here, there) = (north.to_radians(), other_north.to_radians());
    let half = ((there - here) / 2.0).sin().powi(2)
        + here.cos() * there.cos() * ((other_east - east).to_radians() / 2.0).sin().powi(2);
    2.0 * 6_371.008_8 * half.sqrt().min(1.0).asin() / 1.852
}

fn inflate(packed: &[u8]) -> std::io::Result<String> {
    let mut text = String::new();
    GzDecoder::new(packed).read_to_string(&mut text)?;
    Ok(text)
}

/// A value that may be missing: an empty text.
fn optional<T: FromStr<Err: std::error::Error + Send + Sync + 'static>>(text: &str) -> anyhow::Result<Option<T>> {
    if text.is_empty() { Ok(None) } else { Ok(Some(text.parse()?)) }
}

impl Position {
    fn read(line: &str, callsign: u16) -> anyhow::Result<Self> {
        let values: Vec<_> = line.split(',').collect();
        let [at, latitude, longitude, altitude, speed, track, climb, squawk, on_ground] = values[..] else {
            bail!("{} values", values.len());
        };
        Ok(Self {
            at: at.parse()?,
            callsign,
            latitude: latitude.parse()?,
            longitude: longitude.parse()?,
            altitude: optional(altitude)?,
            speed: optional(speed)?,
            track: optional(track)?,
            climb: optional(climb)?,
            squawk: optional(squawk)?,
            on_ground: on_ground == "1",
        })
    }

    /// In OpenSky's units: metres and metres a second.
    fn to_state(&self, icao24: &str, callsign: &str) -> State {
        let metric = |value: f64, unit: f64| (value * unit * 100.0).round() / 100.0;
        let heard = NOON + i64::from(self.at);
        let degrees = |value: i32| f64::from(value) / 100_000.0;
        State {
            callsign: Some(format!("{callsign:<8}")),
            baro_altitude: self.altitude.map(|altitude| metric(f64::from(altitude), 25.0 * 0.3048)),
            on_ground: self.on_ground,
            velocity: self.speed.map(|speed| metric(f64::from(speed), 1852.0 / 3600.0)),
            true_track: self.track.map(|track| f64::from(track) / 10.0),
            vertical_rate: self.climb.map(|climb| metric(f64::from(climb), 0.3048 / 60.0)),
            squawk: self.squawk.map(|squawk| format!("{squawk:04}")),
            ..State::new(icao24, degrees(self.latitude), degrees(self.longitude), heard)
        }
    }
}

impl Movement {
    fn read(line: &str) -> anyhow::Result<Self> {
        let values: Vec<_> = line.split(',').collect();
        let [direction, at, icao24, callsign, other] = values[..] else { bail!("{} values", values.len()) };
        Ok(Self {
            direction: match direction {
                "A" => Direction::Arrival,
                "D" => Direction::Departure,
                other => return Err(anyhow!("{other:?} is no direction")),
            },
            at: at.parse::<i64>()? + replay::SAN_FRANCISCO_SHIFT,
            icao24: icao24.into(),
            callsign: callsign.into(),
            other: other.parse()?,
        })
    }

    fn to_flight(&self) -> Flight {
        let reckoned = self.reckoned_seconds();
        let flight = match self.direction {
            Direction::Arrival => {
                Flight::new(&*self.icao24, self.at - reckoned, self.at).from(self.other.as_str()).to(FLIGHTS_OF)
            }
            Direction::Departure => {
                Flight::new(&*self.icao24, self.at, self.at + reckoned).from(FLIGHTS_OF).to(self.other.as_str())
            }
        };
        // The recording does not tell how near the first and the last position were.
        Flight {
            est_departure_airport_horiz_distance: None,
            est_departure_airport_vert_distance: None,
            est_arrival_airport_horiz_distance: None,
            est_arrival_airport_vert_distance: None,
            ..flight.callsign(&self.callsign)
        }
    }

    /// How long the flight is reckoned to have taken: the recording has only the time at San Francisco.
    fn reckoned_seconds(&self) -> i64 {
        let place = |airport: airports::Airport| (airport.latitude, airport.longitude);
        let ends = airports::lookup(FLIGHTS_OF).zip(airports::by_icao(self.other));
        let distance = ends.map_or(0.0, |(here, there)| nautical_miles(place(here), place(there)));
        1800 + (distance / RECKONED_SPEED * 3600.0).round() as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LFPG: (f64, f64) = (49.0128, 2.55);

    fn minute(hour: i64, minute: i64) -> i64 {
        NOON + (hour - 12) * 3600 + minute * 60
    }

    /// Aircraft within 25 nautical miles, last heard under 60 s ago.
    fn live(recording: &Recording, now: i64) -> usize {
        let snapshot = recording.snapshot(now);
        let near = snapshot.states.iter().filter(|state| {
            let place = (state.latitude.expect("a latitude"), state.longitude.expect("a longitude"));
            snapshot.time - state.last_contact < 60 && nautical_miles(LFPG, place) <= 25.0
        });
        near.count()
    }

    #[test]
    fn live_around_paris_crosses_both_thresholds_when_it_did() {
        let recording = Recording::load().expect("the recording");
        let mut counts = std::collections::BTreeMap::new();
        for now in (minute(12, 10)..=minute(14, 55)).step_by(60) {
            counts.insert(now, live(&recording, now));
        }
        let during = |from: i64, to: i64| counts.range(from..=to).map(|(_, count)| *count).collect::<Vec<_>>();
        assert_eq!(during(minute(13, 17), minute(13, 22)), [9, 9, 9, 6, 6, 8]);
        assert_eq!(during(minute(13, 30), minute(13, 35)), [24, 24, 25, 26, 25, 24]);
        for (now, count) in &counts {
            let low = (minute(13, 17)..=minute(13, 22)).contains(now);
            let high = (minute(13, 30)..=minute(13, 35)).contains(now);
            assert!(low || high || (10..=23).contains(count), "{count} at {now}");
        }
    }

    #[test]
    fn between_the_minutes_the_count_goes_one_further() {
        let recording = Recording::load().expect("the recording");
        let counts = || (minute(12, 10)..minute(14, 55)).step_by(10).map(|now| live(&recording, now));
        assert_eq!((counts().min(), counts().max()), (Some(5), Some(27)));
    }

    #[test]
    fn flights_of_san_francisco_are_those_of_each_utc_day() {
        let recording = Recording::load().expect("the recording");
        let now = replay::ends_at();
        let count = |direction, day: i64| {
            let begin = 1_633_219_200 + day * 86_400;
            let query = FlightsQuery { airport: "KSFO".to_owned(), direction, begin, end: begin + 86_399 };
            recording.flights(&query, now).expect("flights").len()
        };
        assert_eq!([0, 1, 2, 3].map(|day| count(Direction::Arrival, day)), [521, 488, 458, 353]);
        assert_eq!([0, 1, 2, 3].map(|day| count(Direction::Departure, day)), [530, 520, 459, 355]);
        // The replayed day itself is never published while it is replayed.
        assert_eq!(count(Direction::Arrival, 4), 0);
        let day_of = |movement: &&Movement| movement.at.div_euclid(86_400) == 1_633_219_200 / 86_400 + 4;
        let last: Vec<_> = recording.movements.iter().filter(day_of).collect();
        let arrivals = last.iter().filter(|movement| movement.direction == Direction::Arrival).count();
        assert_eq!((arrivals, last.len() - arrivals), (356, 361));
    }

    #[test]
    fn a_flight_is_one_row_by_address_and_first_seen() {
        let recording = Recording::load().expect("the recording");
        let flights: Vec<_> = recording.movements.iter().map(Movement::to_flight).collect();
        assert!(
            flights.iter().all(|flight| flight.est_arrival_airport_horiz_distance.is_none()),
            "a distance that was not recorded is not made up"
        );
        let keys: std::collections::HashSet<_> =
            flights.iter().map(|flight| (flight.icao24.clone(), flight.first_seen)).collect();
        assert_eq!((flights.len(), keys.len()), (4401, 4401));
        for flight in flights {
            assert!(flight.icao24.as_str() >= "f80000" && flight.icao24.len() == 6, "{flight:?}");
            assert!((1800..20 * 3600).contains(&(flight.last_seen - flight.first_seen)), "{flight:?}");
        }
    }

    #[test]
    fn units_are_those_of_opensky() {
        let position = Position::read("780,4848889,381768,542,321,3113,-896,661,0", 0).expect("a position");
        let state = position.to_state("0101de", "MSR799");
        assert_eq!(state.callsign.as_deref(), Some("MSR799  "));
        assert_eq!((state.latitude, state.longitude), (Some(48.48889), Some(3.81768)));
        assert_eq!((state.baro_altitude, state.velocity), (Some(4130.04), Some(165.14)));
        assert_eq!((state.true_track, state.vertical_rate), (Some(311.3), Some(-4.55)));
        assert_eq!((state.squawk.as_deref(), state.last_contact), (Some("0661"), 1_633_608_780));
    }

    #[test]
    fn a_box_around_each_airport_of_paris_is_recorded_and_one_farther_off_is_not() {
        let around = |code: &str| {
            let airport = airports::lookup(code).expect("an airport");
            let (high, wide) = (25.0 / 60.0, 25.0 / 60.0 / airport.latitude.to_radians().cos());
            is_recorded(&Area {
                south: airport.latitude - high,
                north: airport.latitude + high,
                west: airport.longitude - wide,
                east: airport.longitude + wide,
            })
        };
        assert_eq!(
            ["LFPG", "LFPO", "LFPB", "LFOB", "EGLL", "KSFO"].map(around),
            [true, true, true, false, false, false]
        );
    }
}
