//! A query that was understood, and its true answer.

use chrono::{DateTime, Utc};
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    credits,
    query::{Direction, FlightsQuery, StatesQuery, Unanswered},
    request::Endpoint,
    rows::Area,
    source::Source,
};
use crate::reply::Reply;

/// What is asked.
pub(super) enum Query {
    States { query: StatesQuery, extended: bool },
    Flights(FlightsQuery),
}

impl Query {
    /// # Errors
    /// A sentence for the asker.
    pub(super) fn read(endpoint: Endpoint, query: &[(String, String)]) -> Result<Self, String> {
        match endpoint {
            Endpoint::Arrivals => flights(Direction::Arrival, query),
            Endpoint::Departures => flights(Direction::Departure, query),
            Endpoint::States | Endpoint::Token => states(query),
        }
    }

    pub(super) fn cost(&self, now: DateTime<Utc>) -> u32 {
        match self {
            Self::States { query, .. } => credits::states_cost(query.area.as_ref()),
            Self::Flights(query) => {
                let begin = DateTime::from_timestamp(query.begin, 0).unwrap_or_default();
                credits::flights_cost(begin.date_naive(), now.date_naive())
            }
        }
    }
}

/// The true answer. `columns` other than 0 are those of the state vectors, whatever was asked for.
pub(super) fn answer(source: &Source, query: &Query, columns: usize, now: DateTime<Utc>) -> Reply {
    match query {
        Query::Flights(query) => match source.flights(query, now) {
            Ok(flights) if flights.is_empty() => Reply::empty(StatusCode::NOT_FOUND),
            Ok(flights) => Reply::json(StatusCode::OK, &flights),
            Err(unanswered) => refuse(unanswered),
        },
        Query::States { query, extended } => match source.states(query, now) {
            Ok(snapshot) => {
                let asked = if *extended { 18 } else { 17 };
                let columns = if columns == 0 { asked } else { columns };
                let rows: Vec<_> = snapshot.states.iter().map(|state| state.to_row(columns)).collect();
                let states = if rows.is_empty() { Value::Null } else { Value::Array(rows) };
                Reply::json(StatusCode::OK, &json!({ "time": snapshot.time, "states": states }))
            }
            Err(unanswered) => refuse(unanswered),
        },
    }
}

fn refuse(unanswered: Unanswered) -> Reply {
    match unanswered {
        Unanswered::NotRecorded(why) => Reply::text(StatusCode::BAD_REQUEST, why),
        Unanswered::NotRunning(why) => Reply::text(StatusCode::SERVICE_UNAVAILABLE, why),
    }
}

fn value<'a>(query: &'a [(String, String)], name: &str) -> Option<&'a str> {
    query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn flights(direction: Direction, query: &[(String, String)]) -> Result<Query, String> {
    let seconds = |name: &str| {
        let text = value(query, name).ok_or_else(|| format!("{name} is missing"))?;
        // Times that chrono cannot tell the day of would have no days at all.
        let seconds = text.parse().ok().filter(|seconds| (0..=253_402_300_799).contains(seconds));
        seconds.ok_or_else(|| format!("{name} is not a time"))
    };
    let airport = value(query, "airport").ok_or("airport is missing")?;
    if airport.len() != 4 || !airport.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit()) {
        return Err("airport is not an ICAO code in upper case".to_owned());
    }
    let (begin, end): (i64, i64) = (seconds("begin")?, seconds("end")?);
    if begin > end {
        return Err("begin is after end".to_owned());
    }
    if end.div_euclid(86_400) - begin.div_euclid(86_400) > 1 {
        return Err("the window touches more than two days".to_owned());
    }
    Ok(Query::Flights(FlightsQuery { airport: airport.to_owned(), direction, begin, end }))
}

fn states(query: &[(String, String)]) -> Result<Query, String> {
    let mut sides = [0.0; 4];
    let mut given = 0;
    for (side, (name, limit)) in
        sides.iter_mut().zip([("lamin", 90.0), ("lomin", 180.0), ("lamax", 90.0), ("lomax", 180.0)])
    {
        let Some(text) = value(query, name) else { continue };
        let degrees: Option<f64> = text.parse().ok().filter(|degrees: &f64| degrees.abs() <= limit);
        *side = degrees.ok_or_else(|| format!("{name} is not in degrees"))?;
        given += 1;
    }
    let [south, west, north, east] = sides;
    let area = match given {
        0 => None,
        4 if south <= north && west <= east => Some(Area { south, west, north, east }),
        4 => return Err("the box has no inside".to_owned()),
        _ => return Err("a box needs lamin, lomin, lamax and lomax".to_owned()),
    };
    let icao24 = query.iter().filter(|(key, _)| key == "icao24").map(|(_, value)| value.to_lowercase()).collect();
    let extended = value(query, "extended").is_some_and(|value| ["1", "true"].contains(&value));
    Ok(Query::States { query: StatesQuery { area, icao24 }, extended })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(endpoint: Endpoint, query: &str) -> Option<String> {
        let query: Vec<_> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Query::read(endpoint, &query).err()
    }

    #[test]
    fn questions_about_flights_name_an_airport_and_at_most_two_days() {
        let check = |query: &str, expected: Option<&str>| {
            assert_eq!(refused(Endpoint::Arrivals, query).as_deref(), expected, "{query}");
        };
        check("airport=KSFO&begin=1633478400&end=1633564799", None);
        check("airport=KSFO&begin=1633478400&end=1633564800", None);
        check("airport=KSFO&begin=1633478400&end=1633651200", Some("the window touches more than two days"));
        check("airport=KSFO&begin=1633478400&end=1633478399", Some("begin is after end"));
        check("airport=ksfo&begin=1&end=2", Some("airport is not an ICAO code in upper case"));
        check("begin=1&end=2", Some("airport is missing"));
        check("airport=KSFO&end=2", Some("begin is missing"));
        check("airport=KSFO&begin=1&end=soon", Some("end is not a time"));
        check("airport=KSFO&begin=1&end=9223372036854775807", Some("end is not a time"));
    }

    #[test]
    fn questions_about_the_sky_have_a_whole_box_or_none() {
        let check = |query: &str, expected: Option<&str>| {
            assert_eq!(refused(Endpoint::States, query).as_deref(), expected, "{query}");
        };
        check("", None);
        check("lamin=48&lomin=2&lamax=49&lomax=3&extended=1&icao24=abcdef", None);
        check("lamin=48&lomin=2&lamax=49", Some("a box needs lamin, lomin, lamax and lomax"));
        check("lamin=49&lomin=2&lamax=48&lomax=3", Some("the box has no inside"));
        check("lamin=NaN&lomin=2&lamax=48&lomax=3", Some("lamin is not in degrees"));
        check("lamin=48&lomin=-181&lamax=49&lomax=3", Some("lomin is not in degrees"));
    }
}
