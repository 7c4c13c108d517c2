use std::sync::Arc;

use axum::{Extension, Json, extract::State, http::StatusCode, response::Response};
use chrono::{DateTime, Utc};
use events::{EmailAddress, FlightCount, Metric};
use http_edge::{Patch, PathParam, Problem, idempotency::Answer, timestamp};
use pg::read;
use runtime::trace::RequestContext;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    Api, bad_request,
    mutation::{InterestRequest, Target, thresholds},
    not_found,
};
use crate::{
    core::interest::{Change, Coverage, Crossed, Refused, Thresholds, is_hardly_seen},
    store::interests::{self, Added, Changed, Named},
};

const CROSSED: &str = "high_value must be greater than low_value";
const NO_THRESHOLD: &str = "At least one of high_value or low_value is required";
const NO_USER: &str = "User does not exist";
const NO_INTEREST: &str = "Interest not found";

/// An interest to be added.
#[derive(ToSchema)]
#[schema(as = NewInterest)]
#[expect(dead_code, reason = "for the API's description; bodies are read field by field")]
pub(super) struct NewInterest {
    email: String,
    /// ICAO or IATA code.
    airport_code: String,
    /// flights (default), arrivals, departures or live.
    metric: Option<String>,
    /// Tell when the value is greater; 0 to 100000.
    high_value: Option<i32>,
    /// Tell when the value is smaller; 0 to 100000.
    low_value: Option<i32>,
}

/// Names an interest.
#[derive(ToSchema)]
#[schema(as = InterestName)]
#[expect(dead_code, reason = "for the API's description; bodies are read field by field")]
pub(super) struct InterestName {
    email: String,
    /// ICAO or IATA code.
    airport_code: String,
    /// flights (default), arrivals, departures or live.
    metric: Option<String>,
}

/// What was done.
#[derive(ToSchema)]
#[schema(as = Done)]
#[expect(dead_code, reason = "for the API's description")]
pub(super) struct Done {
    message: String,
    /// Why an alert may not mean what it says.
    warning: Option<String>,
}

/// A user's interests.
#[derive(Serialize, ToSchema)]
#[schema(as = Interests)]
pub(super) struct InterestsBody {
    email: String,
    interests: Vec<InterestBody>,
}

/// One interest.
#[derive(Serialize, ToSchema)]
#[schema(as = Interest)]
struct InterestBody {
    id: Uuid,
    airport_code: String,
    metric: String,
    #[schema(value_type = Option<i32>)]
    high_value: Option<FlightCount>,
    #[schema(value_type = Option<i32>)]
    low_value: Option<FlightCount>,
    /// When its airport will be collected next, as planned now.
    #[serde(serialize_with = "timestamp")]
    next_collection_at: DateTime<Utc>,
}

/// Registers an airport for a user, and has it collected at once.
#[utoipa::path(
    post,
    path = "/interests",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes the call safe to repeat")),
    request_body = inline(NewInterest),
    responses(
        (status = 201, description = "Added", body = Done),
        (status = 200, description = "It was there already; nothing changed", body = Done),
        (status = 400, description = "Something is missing, unknown, or contradicts itself", body = http_edge::ProblemBody),
        (status = 404, description = "User does not exist", body = http_edge::ProblemBody),
        (status = 422, description = "Wrong fields, or too many interests", body = http_edge::ProblemBody),
        (status = 503, description = "The user cannot be checked now", body = http_edge::ProblemBody),
    )
)]
pub(super) async fn add(
    State(api): State<Arc<Api>>,
    InterestRequest { mut fields, call }: InterestRequest,
) -> Result<Response, Problem> {
    let given = thresholds(&mut fields);
    let target = Target::read(fields)?;
    let [high, low] = given.map(Patch::value);
    let thresholds = Thresholds::new(high, low).map_err(|Crossed| bad_request(CROSSED))?;
    call.answer(&api, &target, NO_USER, async |connection, named| {
        let limit = i64::from(api.interests_per_user);
        let now = api.clock.now();
        match interests::add(connection, named, &target.email, thresholds, limit, now, &call.context).await? {
            Added::Created => {
                let warning = warning(connection, named, low).await?;
                Ok(done(StatusCode::CREATED, "Interest added and data fetch initiated", warning))
            }
            Added::Exists => Ok(done(StatusCode::OK, "Interest already exists", None)),
            Added::UserDeleted => Err(not_found(NO_USER)),
            Added::TooMany => {
                let words = format!("A user can have at most {limit} interests");
                Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, words))
            }
        }
    })
    .await
}

/// Changes the thresholds of an interest; null clears one.
#[utoipa::path(
    put,
    path = "/interests",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes the call safe to repeat")),
    request_body = inline(NewInterest),
    responses(
        (status = 200, description = "Updated", body = Done),
        (status = 400, description = "Something is missing, unknown, or contradicts itself", body = http_edge::ProblemBody),
        (status = 404, description = "Interest not found", body = http_edge::ProblemBody),
        (status = 422, description = "Wrong fields", body = http_edge::ProblemBody),
        (status = 503, description = "The user cannot be checked now", body = http_edge::ProblemBody),
    )
)]
pub(super) async fn change(
    State(api): State<Arc<Api>>,
    InterestRequest { mut fields, call }: InterestRequest,
) -> Result<Response, Problem> {
    let given = thresholds(&mut fields);
    let target = Target::read(fields)?;
    if given.iter().all(|given| *given == Patch::Absent) {
        return Err(bad_request(NO_THRESHOLD));
    }
    let changes = given.clone().map(|given| match given {
        Patch::Absent => Change::Keep,
        Patch::Null => Change::Clear,
        Patch::Value(threshold) => Change::Set(threshold),
    });
    let [_, low] = given.map(Patch::value);
    call.answer(&api, &target, NO_INTEREST, async |connection, named| {
        match interests::change(connection, named, changes, api.clock.now(), &call.context).await? {
            Changed::Done => {
                let warning = warning(connection, named, low).await?;
                Ok(done(StatusCode::OK, "Interest updated successfully", warning))
            }
            Changed::NotFound => Err(not_found(NO_INTEREST)),
            Changed::Refused(Refused::Crossed) => Err(bad_request(CROSSED)),
            Changed::Refused(Refused::NoneLeft) => Err(bad_request(NO_THRESHOLD)),
        }
    })
    .await
}

/// Removes an interest.
#[utoipa::path(
    delete,
    path = "/interests",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes the call safe to repeat")),
    request_body = inline(InterestName),
    responses(
        (status = 200, description = "Removed", body = Done),
        (status = 400, description = "Something is missing or unknown", body = http_edge::ProblemBody),
        (status = 404, description = "Interest not found", body = http_edge::ProblemBody),
        (status = 422, description = "Wrong fields", body = http_edge::ProblemBody),
        (status = 503, description = "The user cannot be checked now", body = http_edge::ProblemBody),
    )
)]
pub(super) async fn remove(
    State(api): State<Arc<Api>>,
    InterestRequest { fields, call }: InterestRequest,
) -> Result<Response, Problem> {
    let target = Target::read(fields)?;
    call.answer(&api, &target, NO_INTEREST, async |connection, named| {
        if interests::remove(connection, named, &call.context).await? {
            Ok(done(StatusCode::OK, "Interest removed and cleanup initiated", None))
        } else {
            Err(not_found(NO_INTEREST))
        }
    })
    .await
}

/// What a user is interested in, and when it will be collected next.
#[utoipa::path(
    get,
    path = "/interests/{email}",
    params(("email" = String, Path, description = "E-mail address")),
    responses(
        (status = 200, description = "The interests", body = InterestsBody),
        (status = 404, description = "User does not exist", body = http_edge::ProblemBody),
        (status = 503, description = "The user cannot be checked now", body = http_edge::ProblemBody),
    )
)]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Extension(context): Extension<RequestContext>,
    PathParam(email): PathParam,
) -> Result<Json<InterestsBody>, Problem> {
    // What is no address is no user's.
    let email: EmailAddress = email.parse().map_err(|_| not_found(NO_USER))?;
    let user_id = api.user(&email, &context).await?.ok_or_else(|| not_found(NO_USER))?;
    let store = api.store()?;
    let interests = read(store.pool(), || store.interests_of(user_id)).await?;
    let now = api.clock.now();
    let interests = interests.into_iter().map(|interest| InterestBody {
        id: interest.id,
        airport_code: interest.airport_code,
        metric: interest.metric,
        high_value: interest.thresholds.high,
        low_value: interest.thresholds.low,
        // An airport that has no plan yet is about to be collected.
        next_collection_at: interest.next_at.unwrap_or(now),
    });
    Ok(Json(InterestsBody { email: email.to_string(), interests: interests.collect() }))
}

/// An answer that says what was done.
fn done(status: StatusCode, message: &str, warning: Option<String>) -> Answer {
    let mut body = json!({"message": message});
    if let Some(warning) = warning {
        body["warning"] = warning.into();
    }
    Answer { status, body }
}

/// What to say to a user who set `low` where hardly anything is ever seen.
async fn warning(
    connection: &mut sqlx::PgConnection,
    named: Named<'_>,
    low: Option<FlightCount>,
) -> sqlx::Result<Option<String>> {
    if low.is_none_or(|low| low == FlightCount::ZERO) {
        return Ok(None);
    }
    let (airport, live) = (named.airport, named.metric == Metric::Live);
    let coverage = interests::coverage(connection, airport, named.metric).await?;
    if !is_hardly_seen(airport, coverage, live) {
        return Ok(None);
    }
    let Coverage { observations, flight_count } = coverage;
    let seen = match (observations, live) {
        (0, _) => "few of its receivers are near".to_owned(),
        (readings, true) => format!("{flight_count} aircraft in {readings} readings"),
        (days, false) => format!("{flight_count} flights in {days} days"),
    };
    Ok(Some(format!(
        "OpenSky sees hardly anything at {airport}: {seen}. An alert below a threshold there speaks of missing \
         receivers rather than of missing flights."
    )))
}
