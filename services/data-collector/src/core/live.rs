//! How many aircraft are around an airport now.

use std::collections::HashSet;

use super::geo::{LIVE_RADIUS_METRES, Position};

/// An aircraft not heard for this many seconds is no longer counted.
const FRESH_SECONDS: f64 = 60.0;

/// One aircraft of a reply.
#[derive(Clone, Debug, PartialEq)]
pub struct Aircraft {
    /// The transponder's address.
    pub icao24: String,
    /// When it was last heard, unix seconds.
    pub last_contact: f64,
    /// Where it was, when it said so.
    pub position: Option<Position>,
}

/// One reply: aircraft, and the time that their states belong to in unix seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Sky {
    /// The reply's time.
    pub time: f64,
    /// What was seen.
    pub aircraft: Vec<Aircraft>,
}

/// Counts the aircraft within 25 nautical miles of `airport`, at any height or on the ground, last
/// heard under 60 s before the reply's time. `skies` together cover the surroundings; one seen in two
/// of them counts once.
#[must_use]
pub fn count(airport: Position, skies: &[&Sky]) -> u32 {
    let mut seen = HashSet::new();
    for sky in skies {
        let near = sky.aircraft.iter().filter(|aircraft| {
            sky.time - aircraft.last_contact < FRESH_SECONDS
                && aircraft.position.is_some_and(|position| position.metres_to(airport) <= LIVE_RADIUS_METRES)
        });
        seen.extend(near.map(|aircraft| aircraft.icao24.as_str()));
    }
    u32::try_from(seen.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARIS: Position = Position { latitude: 49.0097, longitude: 2.5479 };

    fn aircraft(icao24: &str, age: f64, position: Option<(f64, f64)>) -> Aircraft {
        let position = position.map(|(latitude, longitude)| Position { latitude, longitude });
        Aircraft { icao24: icao24.to_owned(), last_contact: 1_000.0 - age, position }
    }

    #[test]
    fn only_fresh_aircraft_with_a_position_nearby_count() {
        let sky = Sky {
            time: 1_000.0,
            aircraft: vec![
                aircraft("3c6668", 0.0, Some((49.0, 2.5))),
                aircraft("3c6669", 59.0, Some((49.42, 2.55))),
                aircraft("3c666a", 60.0, Some((49.0, 2.5))),
                aircraft("3c666b", 0.0, Some((49.43, 2.55))),
                aircraft("3c666c", 0.0, None),
            ],
        };
        assert_eq!(count(PARIS, &[&sky]), 2);
    }

    #[test]
    fn an_aircraft_in_two_replies_counts_once() {
        let sky = Sky { time: 1_000.0, aircraft: vec![aircraft("3c6668", 0.0, Some((49.0, 2.5)))] };
        assert_eq!(count(PARIS, &[&sky, &sky]), 1);
    }

    #[test]
    fn an_empty_sky_is_zero() {
        assert_eq!(count(PARIS, &[&Sky { time: 1_000.0, aircraft: Vec::new() }]), 0);
    }
}
