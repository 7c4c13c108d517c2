//! The rows that OpenSky answers with.

use serde::Serialize;
use serde_json::{Value, json};

/// A row of `/flights/arrival` and `/flights/departure`, with OpenSky's own names on the wire. An
/// airport's distances are null exactly when the airport is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Flight {
    /// The transponder's address, lower-case hex.
    pub icao24: String,
    /// Unix seconds; departures are found by it.
    pub first_seen: i64,
    /// The nearest airport to the first position.
    pub est_departure_airport: Option<String>,
    /// Unix seconds; arrivals are found by it.
    pub last_seen: i64,
    /// The nearest airport to the last position.
    pub est_arrival_airport: Option<String>,
    /// Mostly padded to eight with spaces.
    pub callsign: Option<String>,
    /// Metres.
    pub est_departure_airport_horiz_distance: Option<i64>,
    /// Metres.
    pub est_departure_airport_vert_distance: Option<i64>,
    /// Metres.
    pub est_arrival_airport_horiz_distance: Option<i64>,
    /// Metres.
    pub est_arrival_airport_vert_distance: Option<i64>,
    /// How many airports were near.
    pub departure_airport_candidates_count: i64,
    /// How many airports were near.
    pub arrival_airport_candidates_count: i64,
}

impl Flight {
    /// A flight between unknown airports, without a callsign.
    #[must_use]
    pub fn new(icao24: impl Into<String>, first_seen: i64, last_seen: i64) -> Self {
        Self {
            icao24: icao24.into(),
            first_seen,
            est_departure_airport: None,
            last_seen,
            est_arrival_airport: None,
            callsign: None,
            est_departure_airport_horiz_distance: None,
            est_departure_airport_vert_distance: None,
            est_arrival_airport_horiz_distance: None,
            est_arrival_airport_vert_distance: None,
            departure_airport_candidates_count: 0,
            arrival_airport_candidates_count: 0,
        }
    }

    /// The same flight from `airport`.
    #[must_use]
    pub fn from(mut self, airport: impl Into<String>) -> Self {
        self.est_departure_airport = Some(airport.into());
        self.est_departure_airport_horiz_distance = Some(0);
        self.est_departure_airport_vert_distance = Some(0);
        self.departure_airport_candidates_count = 1;
        self
    }

    /// The same flight to `airport`.
    #[must_use]
    pub fn to(mut self, airport: impl Into<String>) -> Self {
        self.est_arrival_airport = Some(airport.into());
        self.est_arrival_airport_horiz_distance = Some(0);
        self.est_arrival_airport_vert_distance = Some(0);
        self.arrival_airport_candidates_count = 1;
        self
    }

    /// The same flight under `callsign`, padded as OpenSky does.
    #[must_use]
    pub fn callsign(mut self, callsign: &str) -> Self {
        self.callsign = Some(format!("{callsign:<8}"));
        self
    }
}

/// A state vector: one aircraft as it was last heard. On the wire it is an array.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// The transponder's address, lower-case hex.
    pub icao24: String,
    /// Mostly padded to eight with spaces.
    pub callsign: Option<String>,
    /// A country's English name.
    pub origin_country: String,
    /// When the position was reported, unix seconds.
    pub time_position: Option<i64>,
    /// When anything was heard, unix seconds.
    pub last_contact: i64,
    /// Degrees east.
    pub longitude: Option<f64>,
    /// Degrees north.
    pub latitude: Option<f64>,
    /// Metres.
    pub baro_altitude: Option<f64>,
    /// Whether it stands or rolls.
    pub on_ground: bool,
    /// Over ground, metres a second.
    pub velocity: Option<f64>,
    /// Degrees, clockwise from north.
    pub true_track: Option<f64>,
    /// Metres a second, positive upwards.
    pub vertical_rate: Option<f64>,
    /// Four octal digits.
    pub squawk: Option<String>,
    /// What kind of thing it is: 0 no information, 2 to 15 aircraft, 16 and 17 surface vehicles, 18 to 20
    /// obstacles. Sent with `extended=1` only.
    pub category: u8,
}

impl State {
    /// An aircraft in the air at a place, heard at `last_contact`; all else unknown.
    #[must_use]
    pub fn new(icao24: impl Into<String>, latitude: f64, longitude: f64, last_contact: i64) -> Self {
        Self {
            icao24: icao24.into(),
            callsign: None,
            origin_country: String::new(),
            time_position: Some(last_contact),
            last_contact,
            longitude: Some(longitude),
            latitude: Some(latitude),
            baro_altitude: None,
            on_ground: false,
            velocity: None,
            true_track: None,
            vertical_rate: None,
            squawk: None,
            category: 0,
        }
    }

    /// The same of another category.
    #[must_use]
    pub fn category(mut self, category: u8) -> Self {
        self.category = category;
        self
    }

    /// The array of 17 elements, or of 18 with the category.
    pub(super) fn to_row(&self, columns: usize) -> Value {
        let mut row = vec![
            json!(self.icao24),
            json!(self.callsign),
            json!(self.origin_country),
            json!(self.time_position),
            json!(self.last_contact),
            json!(self.longitude),
            json!(self.latitude),
            json!(self.baro_altitude),
            json!(self.on_ground),
            json!(self.velocity),
            json!(self.true_track),
            json!(self.vertical_rate),
            // The receivers' numbers, which only their owners see.
            Value::Null,
            // The height above the ellipsoid.
            Value::Null,
            json!(self.squawk),
            // No special identification; the position came by ADS-B.
            json!(false),
            json!(0),
        ];
        row.resize(columns, json!(self.category));
        Value::Array(row)
    }
}

/// A box of latitude and longitude, in degrees.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Area {
    /// `lamin`.
    pub south: f64,
    /// `lomin`.
    pub west: f64,
    /// `lamax`.
    pub north: f64,
    /// `lomax`.
    pub east: f64,
}

impl Area {
    /// Square degrees, which decide what it costs.
    #[must_use]
    pub fn square_degrees(&self) -> f64 {
        (self.north - self.south) * (self.east - self.west)
    }

    /// Whether the state has a position, and it lies inside.
    pub(super) fn contains(&self, state: &State) -> bool {
        let (Some(latitude), Some(longitude)) = (state.latitude, state.longitude) else { return false };
        (self.south..=self.north).contains(&latitude) && (self.west..=self.east).contains(&longitude)
    }

    pub(super) fn corners(&self) -> [(f64, f64); 4] {
        [(self.south, self.west), (self.south, self.east), (self.north, self.west), (self.north, self.east)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flight_has_opensky_names_and_nulls_go_together() {
        let flight = Flight::new("3c6668", 1, 2).to("LFPG").callsign("DLH9");
        let row = serde_json::to_value(&flight).expect("JSON");
        assert_eq!(row["callsign"], "DLH9    ");
        assert_eq!(row["estArrivalAirport"], "LFPG");
        assert_eq!(row["estArrivalAirportHorizDistance"], 0);
        assert_eq!(row["arrivalAirportCandidatesCount"], 1);
        for name in ["estDepartureAirport", "estDepartureAirportHorizDistance", "estDepartureAirportVertDistance"] {
            assert!(row.as_object().expect("an object").contains_key(name) && row[name].is_null(), "{name}");
        }
        assert_eq!(row.as_object().map(serde_json::Map::len), Some(12));
    }

    #[test]
    fn a_state_is_an_array_of_17_or_18() {
        let state = State::new("3c6668", 49.0, 2.5, 7);
        let row = state.to_row(17);
        assert_eq!(row.as_array().map(Vec::len), Some(17));
        assert_eq!((&row[0], &row[4], &row[5], &row[6]), (&json!("3c6668"), &json!(7), &json!(2.5), &json!(49.0)));
        let row = state.category(16).to_row(18);
        assert_eq!((row.as_array().map(Vec::len), &row[17]), (Some(18), &json!(16)));
    }
}
