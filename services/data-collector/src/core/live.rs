//! How many aircraft are around an airport now.

use std::{
    collections::{BTreeSet, HashSet},
    ops::RangeInclusive,
};

use chrono::{DateTime, TimeDelta, Utc};
use events::FlightCount;

use super::geo::{LIVE_RADIUS_METRES, Position};

/// An aircraft not heard for this many seconds is no longer counted.
const FRESH_SECONDS: f64 = 60.0;

/// The furthest that a snapshot's own time may lie from ours, either way, to be of now.
const FURTHEST_FROM_NOW: TimeDelta = TimeDelta::minutes(2);

/// So many aircraft do not vanish from one cycle to the next: an answer with next to none needs a second one.
const MANY_AIRCRAFT: FlightCount = FlightCount::new(5);

/// One of so many is next to nothing.
const NEXT_TO_NOTHING: i64 = 10;

/// The categories that are no aircraft: surface vehicles (16, 17) and obstacles (18 to 20).
const NO_AIRCRAFT: RangeInclusive<i64> = 16..=20;

/// One row of a reply: an aircraft, a vehicle or an obstacle that has a transponder.
#[derive(Clone, Debug, PartialEq)]
pub struct Aircraft {
    /// The transponder's address.
    pub icao24: String,
    /// When it was last heard, unix seconds.
    pub last_contact: f64,
    /// Where it was, when it said so.
    pub position: Option<Position>,
    /// The kind of thing that it is, where the reply says so. 0 and 1 mean "no information".
    pub category: Option<i64>,
}

impl Aircraft {
    /// Whether it counts as an aircraft: unless it says that it is something else.
    #[must_use]
    pub fn is_aircraft(&self) -> bool {
        !self.category.is_some_and(|category| NO_AIRCRAFT.contains(&category))
    }
}

/// One reply: aircraft, and the time that their states belong to in unix seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct StateSnapshot {
    /// The reply's time.
    pub time: f64,
    /// What was seen.
    pub aircraft: Vec<Aircraft>,
}

impl StateSnapshot {
    /// The reply's time; none where the time is invalid.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "a time that is out of range is invalid")]
    pub fn taken_at(&self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp(self.time as i64, 0)
    }
}

/// Counts the aircraft within 25 nautical miles of `airport`, at any height or on the ground, last
/// heard under 60 s before the reply's time. `snapshots` together cover the surroundings; one seen in
/// two of them counts once.
#[must_use]
pub fn count(airport: Position, snapshots: &[&StateSnapshot]) -> FlightCount {
    let mut seen = HashSet::new();
    for snapshot in snapshots {
        let near = snapshot.aircraft.iter().filter(|aircraft| {
            // What was heard long after the reply was made is as wrong as what was not heard for long.
            (snapshot.time - aircraft.last_contact).abs() < FRESH_SECONDS
                && aircraft.is_aircraft()
                && aircraft.position.is_some_and(|position| position.metres_to(airport) <= LIVE_RADIUS_METRES)
        });
        seen.extend(near.map(|aircraft| aircraft.icao24.as_str()));
    }
    FlightCount::try_from(seen.len()).unwrap_or(FlightCount::MAX)
}

/// Whether a snapshot of `time` is of now: it was asked for at `asked_at` and arrived at `arrived_at`.
#[must_use]
pub fn is_of_now(time: DateTime<Utc>, asked_at: DateTime<Utc>, arrived_at: DateTime<Utc>) -> bool {
    let (first, last) = (asked_at.min(arrived_at), asked_at.max(arrived_at));
    (first - FURTHEST_FROM_NOW..=last + FURTHEST_FROM_NOW).contains(&time)
}

/// What was counted around an airport, now and the last time; zero where nothing was counted lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// In the answers that are looked at.
    pub now: FlightCount,
    /// The last time.
    pub before: FlightCount,
}

/// Whether the source may be at fault where next to nothing is left of what was counted before.
#[must_use]
pub fn is_doubtful(counts: Counts) -> bool {
    counts.before >= MANY_AIRCRAFT && counts.now.get().saturating_mul(NEXT_TO_NOTHING) <= counts.before.get()
}

/// The places of the airports whose counts may be the source's fault: an airport of which next to nothing is left, and
/// every airport of a box of which next to nothing is left. `counted` has none where the count is unknown.
#[must_use]
pub fn doubtful<'a>(counted: &[Option<Counts>], boxes: impl IntoIterator<Item = &'a [usize]>) -> BTreeSet<usize> {
    let known = |place: &usize| counted.get(*place).copied().flatten();
    let mut doubtful: BTreeSet<usize> =
        (0..counted.len()).filter(|place| known(place).is_some_and(is_doubtful)).collect();
    for airports in boxes {
        let counts = || airports.iter().filter_map(known);
        let all =
            Counts { now: counts().map(|counts| counts.now).sum(), before: counts().map(|counts| counts.before).sum() };
        if is_doubtful(all) {
            doubtful.extend(airports.iter().filter(|place| known(place).is_some()));
        }
    }
    doubtful
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARIS: Position = Position { latitude: 49.0097, longitude: 2.5479 };

    fn aircraft(icao24: &str, age: f64, position: Option<(f64, f64)>) -> Aircraft {
        let position = position.map(|(latitude, longitude)| Position { latitude, longitude });
        Aircraft { icao24: icao24.to_owned(), last_contact: 1_000.0 - age, position, category: None }
    }

    #[test]
    fn only_fresh_aircraft_with_a_position_nearby_count() {
        let snapshot = StateSnapshot {
            time: 1_000.0,
            aircraft: vec![
                aircraft("3c6668", 0.0, Some((49.0, 2.5))),
                aircraft("3c6669", 59.0, Some((49.42, 2.55))),
                aircraft("3c666a", 60.0, Some((49.0, 2.5))),
                aircraft("3c666b", 0.0, Some((49.43, 2.55))),
                aircraft("3c666c", 0.0, None),
                aircraft("3c666d", -59.0, Some((49.0, 2.5))),
                aircraft("3c666e", -3_600.0, Some((49.0, 2.5))),
            ],
        };
        assert_eq!(count(PARIS, &[&snapshot]), FlightCount::new(3));
    }

    #[test]
    fn vehicles_and_obstacles_are_no_aircraft_and_what_says_nothing_is_one() {
        let counted = |category| {
            let aircraft = Aircraft { category, ..aircraft("3c6668", 0.0, Some((49.0, 2.5))) };
            count(PARIS, &[&StateSnapshot { time: 1_000.0, aircraft: vec![aircraft] }]).get()
        };
        let counts: Vec<i64> = (-1..=22).map(|category| counted(Some(category))).collect();
        assert_eq!(counts[17..=21], [0; 5], "16 to 20");
        assert_eq!(counts.iter().sum::<i64>(), 24 - 5, "all others");
        assert_eq!(counted(None), 1);
    }

    #[test]
    fn a_snapshot_is_of_now_within_two_minutes_either_side_of_the_question() {
        let at = |text: &str| format!("2026-11-21T{text}Z").parse::<DateTime<Utc>>().expect("a time");
        let (asked, arrived) = (at("10:00:00"), at("10:00:15"));
        for (time, expected) in [
            ("09:57:59", false),
            ("09:58:00", true),
            ("10:00:10", true),
            ("10:02:15", true),
            ("10:02:16", false),
            ("13:00:00", false),
        ] {
            assert_eq!(is_of_now(at(time), asked, arrived), expected, "{time}");
        }
        assert!(is_of_now(at("10:00:10"), arrived, asked), "the clock was set back meanwhile");
    }

    fn counts(now: u32, before: u32) -> Counts {
        Counts { now: FlightCount::new(now), before: FlightCount::new(before) }
    }

    #[test]
    fn next_to_nothing_is_doubted_where_many_flew_a_moment_ago() {
        let fall = |before, now| is_doubtful(counts(now, before));
        assert_eq!([fall(4, 0), fall(5, 0), fall(9, 0), fall(500, 0)], [false, true, true, true]);
        assert_eq!([fall(5, 1), fall(9, 1), fall(10, 1), fall(500, 50)], [false, false, true, true]);
        // What empties in the course of a few cycles is told as it goes.
        assert_eq!([fall(30, 12), fall(12, 5), fall(5, 1), fall(1, 0)], [false; 4]);
    }

    #[test]
    fn an_airport_is_doubted_alone_and_a_box_as_a_whole() {
        let check = |counted: &[Option<Counts>], boxes: &[&[usize]], expected: &[usize]| {
            let found: Vec<_> = doubtful(counted, boxes.iter().copied()).into_iter().collect();
            assert_eq!(found, expected, "{counted:?} {boxes:?}");
        };
        let (fell, stays, small) = (Some(counts(0, 30)), Some(counts(29, 30)), Some(counts(0, 2)));
        check(&[fell, stays, small], &[&[0, 1, 2]], &[0]);
        check(&[fell, fell, small], &[&[0, 1, 2]], &[0, 1, 2]);
        check(&[fell, stays, small], &[&[0, 2], &[1]], &[0, 2]);
        // Few everywhere, and many together.
        check(&[small, small, small], &[&[0, 1, 2]], &[0, 1, 2]);
        check(&[small, small, None], &[&[0, 1, 2]], &[]);
        check(&[fell, None], &[&[0, 1]], &[0]);
        // An airport at the antimeridian is in two boxes, and one of them may well be empty.
        check(&[stays], &[&[0], &[0]], &[]);
    }

    #[test]
    fn an_aircraft_in_two_replies_counts_once() {
        let snapshot = StateSnapshot { time: 1_000.0, aircraft: vec![aircraft("3c6668", 0.0, Some((49.0, 2.5)))] };
        assert_eq!(count(PARIS, &[&snapshot, &snapshot]), FlightCount::new(1));
    }

    #[test]
    fn an_empty_sky_is_zero() {
        assert_eq!(count(PARIS, &[&StateSnapshot { time: 1_000.0, aircraft: Vec::new() }]), FlightCount::ZERO);
    }
}
