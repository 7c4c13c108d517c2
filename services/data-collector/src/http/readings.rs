use std::sync::Arc;

use airports::Airport;
use axum::extract::State;
use chrono::{DateTime, Datelike, Utc};
use events::{FlightCount, Metric};
use http_edge::{FieldError, Page, PageQuery, PathParam, Problem, timestamp};
use pg::read;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Api, airport};
use crate::store::readings::{After, ListedReading};

/// One reading.
#[derive(Serialize, ToSchema)]
#[schema(as = Reading)]
pub(super) struct ReadingBody {
    id: Uuid,
    airport_code: String,
    metric: String,
    /// Rises with every reading of one airport and metric.
    seq: i64,
    /// The value; null when it is unknown, which is not zero.
    #[schema(value_type = Option<i32>)]
    value: Option<FlightCount>,
    #[serde(serialize_with = "timestamp")]
    window_begin: DateTime<Utc>,
    #[serde(serialize_with = "timestamp")]
    window_end: DateTime<Utc>,
    #[serde(serialize_with = "timestamp")]
    observed_at: DateTime<Utc>,
    source: String,
}

/// The readings of an airport, newest first.
#[utoipa::path(
    get,
    path = "/readings/{airport_code}",
    params(
        ("airport_code" = String, Path, description = "ICAO or IATA code"),
        ("metric" = Option<String>, Query, description = "One of flights, arrivals, departures, live; all of them without it"),
        ("limit" = Option<u16>, Query, description = "Items a page, 1 to 1000; 100 without it"),
        ("cursor" = Option<String>, Query, description = "Taken from the Link header of the page before"),
    ),
    responses(
        (status = 200, description = "A page; the next one is in the Link header", body = [ReadingBody]),
        (status = 400, description = "Unknown airport code", body = http_edge::ProblemBody),
        (status = 422, description = "Unknown metric, or wrong limit or cursor", body = http_edge::ProblemBody),
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    PathParam(code): PathParam,
    page: PageQuery,
) -> Result<Page<ReadingBody>, Problem> {
    let airport = airport(&code)?;
    let metric = page.query_param("metric")?.map(str::parse::<Metric>).transpose().map_err(|error| {
        Problem::invalid(vec![FieldError { field: "metric".to_owned(), message: error.to_string() }])
    })?;
    let after = page.cursor.as_deref().map(|cursor| after(cursor).ok_or_else(PageQuery::wrong_cursor)).transpose()?;
    let limit = i64::from(page.limit) + 1;
    let store = api.store()?;
    let readings = read(store.pool(), || store.readings(airport.icao.as_str(), metric, after, limit)).await;
    let readings = readings?;
    let bodies = readings.into_iter().map(|reading| ReadingBody::new(&airport, reading)).collect();
    Ok(page.page(bodies, |last: &ReadingBody| format!("{}_{}", last.observed_at.timestamp_micros(), last.id)))
}

fn after(cursor: &str) -> Option<After> {
    let (micros, id) = cursor.split_once('_')?;
    let observed_at = DateTime::from_timestamp_micros(micros.parse().ok()?)?;
    // PostgreSQL knows fewer years than chrono.
    (1900..10_000).contains(&observed_at.year()).then_some(After { observed_at, id: id.parse().ok()? })
}

impl ReadingBody {
    fn new(airport: &Airport, reading: ListedReading) -> Self {
        Self {
            id: reading.id,
            airport_code: airport.icao.to_string(),
            metric: reading.metric,
            seq: reading.seq,
            value: reading.flight_count,
            window_begin: reading.window_begin,
            window_end: reading.window_end,
            observed_at: reading.observed_at,
            source: reading.source,
        }
    }
}
