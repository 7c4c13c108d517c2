use std::sync::Arc;

use axum::{Json, extract::State, http::StatusCode};
use chrono::{DateTime, Datelike, Utc};
use events::FlightCount;
use http_edge::{Page, PageQuery, PathParam, Problem, timestamp};
use pg::read;
use serde::Serialize;
use utoipa::ToSchema;

use super::{Api, airport, not_found};
use crate::{
    core::day::Direction,
    store::flights::{After, ListedFlight, days_held},
};

/// One flight, as OpenSky saw it: the airports are its guess of the nearest ones.
#[derive(Serialize, ToSchema)]
#[schema(as = Flight)]
pub(super) struct FlightBody {
    /// The transponder's address.
    icao24: String,
    callsign: Option<String>,
    departure_airport: Option<String>,
    arrival_airport: Option<String>,
    /// Metres on the ground between the first position and the departure airport.
    departure_airport_horiz_distance: Option<i32>,
    /// Metres of height between the first position and the departure airport.
    departure_airport_vert_distance: Option<i32>,
    /// Metres on the ground between the last position and the arrival airport.
    arrival_airport_horiz_distance: Option<i32>,
    /// Metres of height between the last position and the arrival airport.
    arrival_airport_vert_distance: Option<i32>,
    /// Airports that were near the first position.
    departure_airport_candidates_count: Option<i32>,
    /// Airports that were near the last position.
    arrival_airport_candidates_count: Option<i32>,
    #[serde(serialize_with = "timestamp")]
    first_seen: DateTime<Utc>,
    #[serde(serialize_with = "timestamp")]
    last_seen: DateTime<Utc>,
    #[serde(skip)]
    happened_at: DateTime<Utc>,
}

/// What a day brings on average.
#[derive(Serialize, ToSchema)]
#[schema(as = Average)]
pub(super) struct AverageBody {
    airport: String,
    average_flights_per_day: f64,
    /// UTC days held.
    days: i64,
    /// Different flights of each day, added up. One that left from and arrived at the airport counts once a day.
    #[schema(value_type = i64)]
    flights: FlightCount,
}

/// The flights of an airport, newest first.
#[utoipa::path(
    get,
    path = "/flights/{airport_code}",
    params(
        ("airport_code" = String, Path, description = "ICAO or IATA code"),
        ("type" = Option<String>, Query, description = "arrivals or departures; both without it"),
        ("limit" = Option<u16>, Query, description = "Items a page, 1 to 1000; 100 without it"),
        ("cursor" = Option<String>, Query, description = "Taken from the Link header of the page before"),
    ),
    responses(
        (status = 200, description = "A page; the next one is in the Link header", body = [FlightBody]),
        (status = 400, description = "Unknown airport code or type", body = http_edge::ProblemBody),
        (status = 422, description = "Wrong limit or cursor", body = http_edge::ProblemBody),
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    PathParam(code): PathParam,
    page: PageQuery,
) -> Result<Page<FlightBody>, Problem> {
    let airport = airport(&code)?;
    let direction = match page.query_param("type") {
        Ok(None) => None,
        Ok(Some("arrivals")) => Some(Direction::Arrival),
        Ok(Some("departures")) => Some(Direction::Departure),
        _ => return Err(Problem::new(StatusCode::BAD_REQUEST, "type must be arrivals or departures")),
    };
    let after = page.cursor.as_deref().map(|cursor| after(cursor).ok_or_else(PageQuery::wrong_cursor)).transpose()?;
    let (store, limit) = (api.store()?, i64::from(page.limit) + 1);
    let flights = read(store.pool(), || store.flights(airport.icao.as_str(), direction, after.clone(), limit)).await;
    let flights = flights?;
    let bodies = flights.into_iter().map(FlightBody::from).collect();
    Ok(page.page(bodies, |last: &FlightBody| {
        format!("{}_{}_{}", last.happened_at.timestamp(), last.icao24, last.first_seen.timestamp())
    }))
}

fn after(cursor: &str) -> Option<After> {
    let mut parts = cursor.split('_');
    let happened_at = seconds(parts.next()?)?;
    let icao24 = parts.next().filter(|address| address.bytes().all(|byte| byte.is_ascii_hexdigit()))?.to_owned();
    let first_seen = seconds(parts.next()?)?;
    parts.next().is_none().then_some(After { happened_at, icao24, first_seen })
}

/// A time as cursors name it. PostgreSQL knows fewer years than chrono, and flights need fewer still.
fn seconds(text: &str) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp(text.parse().ok()?, 0).filter(|time| (1900..10_000).contains(&time.year()))
}

/// How many flights an airport has a day, on average over the UTC days held.
#[utoipa::path(
    get,
    path = "/flights/average/{icao}",
    params(("icao" = String, Path, description = "ICAO or IATA code")),
    responses(
        (status = 200, description = "The average", body = AverageBody),
        (status = 400, description = "Unknown airport code", body = http_edge::ProblemBody),
        (status = 404, description = "No days are held", body = http_edge::ProblemBody),
    )
)]
pub(super) async fn average(
    State(api): State<Arc<Api>>,
    PathParam(code): PathParam,
) -> Result<Json<AverageBody>, Problem> {
    let airport = airport(&code)?;
    let pool = api.store()?.pool();
    let held = read(pool, || days_held(pool, airport.icao.as_str())).await?;
    if held.days == 0 {
        return Err(not_found("No flights are held for this airport"));
    }
    #[expect(clippy::cast_precision_loss, reason = "numbers of flights are far below 2^52")]
    let average = held.flight_count.get() as f64 / held.days as f64;
    Ok(Json(AverageBody {
        airport: airport.icao.to_string(),
        average_flights_per_day: (average * 100.0).round() / 100.0,
        days: held.days,
        flights: held.flight_count,
    }))
}

/// The newest flight of an airport.
#[utoipa::path(
    get,
    path = "/flights/last/{icao}",
    params(("icao" = String, Path, description = "ICAO or IATA code")),
    responses(
        (status = 200, description = "The flight", body = FlightBody),
        (status = 400, description = "Unknown airport code", body = http_edge::ProblemBody),
        (status = 404, description = "No flights are held", body = http_edge::ProblemBody),
    )
)]
pub(super) async fn last(State(api): State<Arc<Api>>, PathParam(code): PathParam) -> Result<Json<FlightBody>, Problem> {
    let airport = airport(&code)?;
    let store = api.store()?;
    let newest = read(store.pool(), || store.newest_flight(airport.icao.as_str())).await?;
    newest.map(|flight| Json(flight.into())).ok_or_else(|| not_found("No flights are held for this airport"))
}

impl From<ListedFlight> for FlightBody {
    fn from(flight: ListedFlight) -> Self {
        Self {
            icao24: flight.icao24,
            callsign: flight.callsign,
            departure_airport: flight.departure_airport,
            arrival_airport: flight.arrival_airport,
            departure_airport_horiz_distance: flight.departure_airport_horiz_distance,
            departure_airport_vert_distance: flight.departure_airport_vert_distance,
            arrival_airport_horiz_distance: flight.arrival_airport_horiz_distance,
            arrival_airport_vert_distance: flight.arrival_airport_vert_distance,
            departure_airport_candidates_count: flight.departure_airport_candidates_count,
            arrival_airport_candidates_count: flight.arrival_airport_candidates_count,
            first_seen: flight.first_seen,
            last_seen: flight.last_seen,
            happened_at: flight.happened_at,
        }
    }
}
