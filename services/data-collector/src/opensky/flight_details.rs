//! What OpenSky tells of its guesses of a flight's airports.
//!
//! Nothing is counted by it, so it is read leniently: a value that cannot be is unknown, and never costs the
//! flights around it.

use serde::Deserialize;
use serde_json::Value;

/// How good the guesses of a flight's airports are; none where OpenSky does not say, or says what cannot be.
/// Distances are in metres.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlightDetails {
    /// From the first position to the departure airport.
    pub departure_airport_horiz_distance: Option<i32>,
    /// Height of the first position above the departure airport.
    pub departure_airport_vert_distance: Option<i32>,
    /// From the last position to the arrival airport.
    pub arrival_airport_horiz_distance: Option<i32>,
    /// Height of the last position above the arrival airport.
    pub arrival_airport_vert_distance: Option<i32>,
    /// Airports that were near the first position.
    pub departure_airport_candidates_count: Option<i32>,
    /// Airports that were near the last position.
    pub arrival_airport_candidates_count: Option<i32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct WireDetails {
    est_departure_airport_horiz_distance: Value,
    est_departure_airport_vert_distance: Value,
    est_arrival_airport_horiz_distance: Value,
    est_arrival_airport_vert_distance: Value,
    departure_airport_candidates_count: Value,
    arrival_airport_candidates_count: Value,
}

/// The details of each flight of a list, in its order; empty when they cannot be read at all.
#[must_use]
pub fn read(body: &[u8]) -> Vec<FlightDetails> {
    let rows: Vec<WireDetails> = serde_json::from_slice(body).unwrap_or_default();
    rows.iter().map(FlightDetails::from).collect()
}

impl From<&WireDetails> for FlightDetails {
    fn from(row: &WireDetails) -> Self {
        let not_negative = |value: &Value| integer(value).filter(|number| *number >= 0);
        Self {
            departure_airport_horiz_distance: not_negative(&row.est_departure_airport_horiz_distance),
            departure_airport_vert_distance: integer(&row.est_departure_airport_vert_distance),
            arrival_airport_horiz_distance: not_negative(&row.est_arrival_airport_horiz_distance),
            arrival_airport_vert_distance: integer(&row.est_arrival_airport_vert_distance),
            departure_airport_candidates_count: not_negative(&row.departure_airport_candidates_count),
            arrival_airport_candidates_count: not_negative(&row.arrival_airport_candidates_count),
        }
    }
}

/// A whole number, rounded where it has a fraction; none when it is no number or has no room.
fn integer(value: &Value) -> Option<i32> {
    let number = value.as_f64()?.round();
    let fits = (f64::from(i32::MIN)..=f64::from(i32::MAX)).contains(&number);
    #[expect(clippy::cast_possible_truncation, reason = "it fits")]
    fits.then_some(number as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn horizontal(value: &str) -> Option<i32> {
        let body = format!(r#"[{{"estDepartureAirportHorizDistance":{value}}}]"#);
        read(body.as_bytes()).first().and_then(|details| details.departure_airport_horiz_distance)
    }

    #[test]
    fn what_is_told_is_read() {
        let body =
            br#"[{"icao24":"391cd9","estDepartureAirportHorizDistance":7934,"estDepartureAirportVertDistance":-12,
            "estArrivalAirportHorizDistance":0,"estArrivalAirportVertDistance":2147483647,
            "departureAirportCandidatesCount":3,"arrivalAirportCandidatesCount":0},{}]"#;
        let expected = FlightDetails {
            departure_airport_horiz_distance: Some(7934),
            departure_airport_vert_distance: Some(-12),
            arrival_airport_horiz_distance: Some(0),
            arrival_airport_vert_distance: Some(i32::MAX),
            departure_airport_candidates_count: Some(3),
            arrival_airport_candidates_count: Some(0),
        };
        assert_eq!(read(body), [expected, FlightDetails::default()]);
    }

    #[test]
    fn what_cannot_be_is_unknown() {
        assert_eq!(horizontal("7934.4"), Some(7934));
        for value in ["null", "-1", "2147483648", "1e300", "1e999", "\"7\"", "true", "[7]", "{}"] {
            assert_eq!(horizontal(value), None, "{value}");
        }
        assert_eq!(read(b"<html>"), []);
    }
}
