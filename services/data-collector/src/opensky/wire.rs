//! OpenSky's replies, read strictly: a reply with anything missing or out of shape is none at all,
//! since a count that leaves something out would be wrong.

use std::time::Duration;

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

pub use super::flight_details::FlightDetails;

use super::flight_details;
use crate::core::{
    geo::Position,
    live::{Aircraft, StateSnapshot},
};

/// A body that is not what it should be.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is not JSON of the right shape.
    #[error("not the JSON it should be")]
    Json(#[from] serde_json::Error),
    /// Something in it cannot be.
    #[error("{0}")]
    Content(&'static str),
    /// It is larger than any answer.
    #[error("larger than any answer")]
    TooLarge,
    /// It broke off.
    #[error("broke off")]
    Broken(#[source] reqwest::Error),
}

/// A token for the interface.
pub struct Token {
    /// The token.
    pub access_token: SecretString,
    /// How long it says that it lasts; none where it says nothing of use. Whether it still holds, the next call
    /// shows.
    pub lifetime: Option<Duration>,
}

/// One flight as OpenSky lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flight {
    /// The transponder's address, six hexadecimal digits in lower case.
    pub icao24: String,
    /// When it was first seen.
    pub first_seen: DateTime<Utc>,
    /// When it was last seen.
    pub last_seen: DateTime<Utc>,
    /// Its callsign without padding, where it has one.
    pub callsign: Option<String>,
    /// The nearest airport at its start, where there was one.
    pub departure_airport: Option<String>,
    /// The nearest airport at its end, where there was one.
    pub arrival_airport: Option<String>,
    /// How good these guesses are.
    pub details: FlightDetails,
}

#[derive(Deserialize)]
struct WireToken {
    access_token: String,
    #[serde(default)]
    expires_in: Option<f64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireFlight {
    icao24: String,
    first_seen: i64,
    last_seen: i64,
    // Null is an answer, a missing field is not: serde alone would take both for null.
    #[serde(deserialize_with = "present")]
    callsign: Option<String>,
    #[serde(deserialize_with = "present")]
    est_departure_airport: Option<String>,
    #[serde(deserialize_with = "present")]
    est_arrival_airport: Option<String>,
}

#[derive(Deserialize)]
struct WireSnapshot {
    time: f64,
    #[serde(deserialize_with = "present")]
    states: Option<Vec<Vec<Value>>>,
}

fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

/// Reads the reply to a sign-in.
///
/// # Errors
/// When it is no token.
pub fn token(body: &[u8]) -> Result<Token, Unreadable> {
    let token: WireToken = serde_json::from_slice(body)?;
    if token.access_token.is_empty() || !token.access_token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Unreadable::Content("invalid token"));
    }
    let lifetime = token.expires_in.filter(|seconds| *seconds > 0.0);
    let lifetime = lifetime.map(|seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX));
    Ok(Token { access_token: token.access_token.into(), lifetime })
}

/// Reads the reply to a question for flights. A flight that is listed twice is one.
///
/// # Errors
/// When anything in it is missing or cannot be.
pub fn flights(body: &[u8]) -> Result<Vec<Flight>, Unreadable> {
    let rows: Vec<WireFlight> = serde_json::from_slice(body)?;
    let mut flights = rows.into_iter().map(flight).collect::<Result<Vec<_>, _>>()?;
    for (flight, details) in flights.iter_mut().zip(flight_details::read(body)) {
        flight.details = details;
    }
    flights.sort_by(|one, other| (&one.icao24, one.first_seen).cmp(&(&other.icao24, other.first_seen)));
    flights.dedup_by(|one, other| one.icao24 == other.icao24 && one.first_seen == other.first_seen);
    Ok(flights)
}

/// The end of the year 2199 in unix seconds: whatever says to be later is no time, and no database
/// need be asked whether it could keep it.
const LATEST: i64 = 7_258_118_399;

fn flight(row: WireFlight) -> Result<Flight, Unreadable> {
    let (first_seen, last_seen) = (time(row.first_seen)?, time(row.last_seen)?);
    if last_seen < first_seen {
        return Err(Unreadable::Content("a flight ends before it begins"));
    }
    Ok(Flight {
        icao24: icao24(&row.icao24)?,
        first_seen,
        last_seen,
        callsign: callsign(row.callsign)?,
        departure_airport: airport(row.est_departure_airport)?,
        arrival_airport: airport(row.est_arrival_airport)?,
        details: FlightDetails::default(),
    })
}

fn time(seconds: i64) -> Result<DateTime<Utc>, Unreadable> {
    let time = DateTime::from_timestamp(seconds, 0).filter(|_| (1..=LATEST).contains(&seconds));
    time.ok_or(Unreadable::Content("invalid time"))
}

/// Transponders send eight characters; this leaves room for a source that adds something.
const LONGEST_CALLSIGN: usize = 32;

fn icao24(text: &str) -> Result<String, Unreadable> {
    let is_address = text.len() == 6 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_address { Ok(text.to_ascii_lowercase()) } else { Err(Unreadable::Content("an address is none")) }
}

fn callsign(text: Option<String>) -> Result<Option<String>, Unreadable> {
    let text = text.map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    match text {
        Some(text) if text.len() > LONGEST_CALLSIGN || text.chars().any(char::is_control) => {
            Err(Unreadable::Content("a callsign is none"))
        }
        text => Ok(text),
    }
}

fn airport(code: Option<String>) -> Result<Option<String>, Unreadable> {
    let Some(code) = code.map(|code| code.trim().to_ascii_uppercase()).filter(|code| !code.is_empty()) else {
        return Ok(None);
    };
    let is_code = code.len() <= 8 && code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_code { Ok(Some(code)) } else { Err(Unreadable::Content("an airport code is none")) }
}

/// Reads the reply to a question for states, with 17 columns or 18. `"states": null` is an empty snapshot.
///
/// # Errors
/// When anything in it that counts is missing or cannot be.
pub fn snapshot(body: &[u8]) -> Result<StateSnapshot, Unreadable> {
    let snapshot: WireSnapshot = serde_json::from_slice(body)?;
    #[expect(clippy::cast_precision_loss, reason = "it is far below 2^52")]
    if !(1.0..=LATEST as f64).contains(&snapshot.time) {
        return Err(Unreadable::Content("invalid time"));
    }
    let aircraft = snapshot.states.unwrap_or_default().iter().map(|row| aircraft(row)).collect::<Result<_, _>>()?;
    Ok(StateSnapshot { time: snapshot.time, aircraft })
}

/// The fewest columns a state has.
const STATE_COLUMNS: usize = 17;

fn aircraft(row: &[Value]) -> Result<Aircraft, Unreadable> {
    if row.len() < STATE_COLUMNS {
        return Err(Unreadable::Content("a state lacks columns"));
    }
    let address = row[0].as_str().ok_or(Unreadable::Content("a state has no address"))?;
    let last_contact = row[4].as_f64().ok_or(Unreadable::Content("a state has no last contact"))?;
    let (longitude, latitude) = (coordinate(&row[5], 180.0)?, coordinate(&row[6], 90.0)?);
    let position = latitude.zip(longitude).map(|(latitude, longitude)| Position { latitude, longitude });
    Ok(Aircraft { icao24: icao24(address)?, last_contact, position, category: category(row.get(STATE_COLUMNS))? })
}

/// The category of a state; none in a row of 17 elements, which has none.
#[expect(clippy::cast_possible_truncation, reason = "a category that is out of range is none that is known")]
fn category(value: Option<&Value>) -> Result<Option<i64>, Unreadable> {
    let Some(value) = value.filter(|value| !value.is_null()) else { return Ok(None) };
    let category = value.as_f64().ok_or(Unreadable::Content("a category is not a number"))?;
    Ok(Some(category as i64))
}

fn coordinate(value: &Value, limit: f64) -> Result<Option<f64>, Unreadable> {
    if value.is_null() {
        return Ok(None);
    }
    let degrees = value.as_f64().filter(|degrees| degrees.abs() <= limit);
    degrees.map(Some).ok_or(Unreadable::Content("a position is none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLIGHT: &str = r#"{"icao24":"391CD9","firstSeen":1685264616,"estDepartureAirport":"EBNM","lastSeen":1685265426,
        "estArrivalAirport":null,"callsign":"FGSAT   ","estDepartureAirportHorizDistance":7934,"new":{"a":1}}"#;

    #[test]
    fn a_flight_is_read_and_its_padding_goes() {
        let read = flights(format!("[{FLIGHT},{FLIGHT}]").as_bytes()).expect("flights");
        assert_eq!(read.len(), 1, "the same flight twice is one");
        assert_eq!((read[0].icao24.as_str(), read[0].callsign.as_deref()), ("391cd9", Some("FGSAT")));
        assert_eq!((read[0].departure_airport.as_deref(), read[0].arrival_airport.as_deref()), (Some("EBNM"), None));
        let blank = FLIGHT.replace("FGSAT   ", "        ");
        assert_eq!(flights(format!("[{blank}]").as_bytes()).expect("flights")[0].callsign, None);
    }

    #[test]
    fn one_malformed_flight_makes_the_reply_unreadable() {
        for (from, to) in [
            ("\"estArrivalAirport\":null,", ""),
            ("estArrivalAirport", "EstArrivalAirport"),
            ("\"callsign\":\"FGSAT   \",", ""),
            ("firstSeen\":1685264616", "firstSeen\":\"1685264616\""),
            ("firstSeen\":1685264616", "firstSeen\":null"),
            ("firstSeen\":1685264616", "firstSeen\":1685265427"),
            ("lastSeen\":1685265426", "lastSeen\":1685265426000"),
            ("FGSAT   ", "FGS\\u0000AT"),
            ("391CD9", "391CDX"),
            ("391CD9", "391CD"),
            ("\"EBNM\"", "\"<b>\""),
            ("\"EBNM\"", "7"),
        ] {
            let malformed = FLIGHT.replace(from, to);
            assert_ne!(malformed, FLIGHT, "{from}");
            assert!(flights(format!("[{FLIGHT},{malformed}]").as_bytes()).is_err(), "{malformed}");
        }
    }

    #[test]
    fn what_is_no_list_of_flights_is_refused() {
        for body in ["", "<html></html>", "{}", "null", "[\"Internal error\"]", "[{\"icao24\":\"391cd9\"", "[]x"] {
            assert!(flights(body.as_bytes()).is_err(), "{body}");
        }
        assert_eq!(flights(b"[]").expect("an empty list").len(), 0);
    }

    fn state(columns: usize) -> String {
        let mut row: Vec<_> = [
            "\"3c6668\"",
            "\"DLH9YE  \"",
            "\"Germany\"",
            "1685262494",
            "1685262490",
            "2",
            "49.5",
            "null",
            "false",
            "208.9",
            "195.13",
            "0",
            "null",
            "7033.26",
            "null",
            "false",
            "0",
            "1",
        ]
        .to_vec();
        row.truncate(columns);
        format!("[{}]", row.join(","))
    }

    #[test]
    fn states_of_17_and_18_columns_are_read() {
        let body = format!("{{\"time\":1685262494,\"states\":[{},{}]}}", state(17), state(18));
        let read = snapshot(body.as_bytes()).expect("a snapshot");
        let expected = Position { latitude: 49.5, longitude: 2.0 };
        assert_eq!(read.aircraft.len(), 2);
        assert!(read.aircraft.iter().all(|aircraft| aircraft.position == Some(expected)));
    }

    #[test]
    fn the_eighteenth_element_is_a_category() {
        let read = |category: &str| {
            let row = format!("{},{category}]", state(17).trim_end_matches(']'));
            let body = format!("{{\"time\":1685262494,\"states\":[{row}]}}");
            snapshot(body.as_bytes()).map(|snapshot| snapshot.aircraft[0].category)
        };
        for (category, expected) in [("16", Some(16)), ("17.0", Some(17)), ("-1", Some(-1)), ("null", None)] {
            assert_eq!(read(category).expect("a snapshot"), expected, "{category}");
        }
        assert!(read("\"16\"").is_err());
    }

    #[test]
    fn no_states_are_an_empty_sky_and_missing_ones_are_none() {
        assert_eq!(snapshot(b"{\"time\":1,\"states\":null}").expect("a snapshot").aircraft.len(), 0);
        for body in [
            "{\"time\":1}",
            "{\"states\":null}",
            "{\"time\":1,\"States\":null}",
            "{\"time\":1e18,\"states\":[]}",
            "[]",
            "<html>",
            "null",
        ] {
            assert!(snapshot(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn a_state_without_a_position_is_read_and_a_malformed_one_is_not() {
        let body = |row: &str| format!("{{\"time\":1685262494,\"states\":[{row}]}}");
        let nowhere = body(&state(17).replace("49.5", "null"));
        assert_eq!(snapshot(nowhere.as_bytes()).expect("a snapshot").aircraft[0].position, None);
        for row in [state(16), state(17).replace("1685262490", "null"), state(17).replace("49.5", "91"), "{}".into()] {
            assert!(snapshot(body(&row).as_bytes()).is_err(), "{row}");
        }
    }

    #[test]
    fn a_token_must_be_one() {
        let lifetime = |seconds: &str| {
            let body = format!("{{\"access_token\":\"abc\"{seconds}}}");
            token(body.as_bytes()).expect("a token").lifetime
        };
        assert_eq!(lifetime(",\"expires_in\":1800"), Some(Duration::from_secs(1800)));
        assert_eq!(lifetime(",\"expires_in\":1e300"), Some(Duration::MAX));
        for useless in [",\"expires_in\":0", ",\"expires_in\":-1800", ",\"expires_in\":null", ""] {
            assert_eq!(lifetime(useless), None, "{useless}");
        }
        for body in ["{\"access_token\":\"\",\"expires_in\":1800}", "{\"access_token\":\"a b\",\"expires_in\":1}", "{}"]
        {
            assert!(token(body.as_bytes()).is_err(), "{body}");
        }
    }
}
