use axum::{
    Extension, Json,
    extract::{Path, State},
    http::{HeaderMap, Method, StatusCode},
    response::Response,
};
use chrono::{DateTime, Utc};
use contracts::{EmailAddress, Metric};
use serde::Serialize;
use serde_json::{Value, json};
use shell::{
    fault,
    http::{
        Body, Fields, Given, Problem,
        idempotency::{self, Answer, Begun, Fingerprint, Key},
    },
    postgres,
    trace::Cause,
};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Api, airport, readings::not_found};
use crate::{
    core::interest::{Change, Crossed, HIGHEST_THRESHOLD, Thresholds, is_hardly_seen},
    store::interests::{self, Added, Changed, Named},
};

const CROSSED: &str = "high_value must be greater than low_value";
const MISSING: &str = "Missing email or airport_code";
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

/// Somebody's interests.
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
    #[schema(value_type = String)]
    metric: &'static str,
    high_value: Option<i32>,
    low_value: Option<i32>,
    /// When its airport will be collected next, as planned now.
    next_collection_at: DateTime<Utc>,
}

/// What all three mutations read from their body.
struct Target {
    email: EmailAddress,
    airport: String,
    metric: Metric,
}

/// The request as the idempotency key sees it.
struct Call<'a> {
    method: Method,
    headers: &'a HeaderMap,
    bytes: &'a [u8],
    cause: &'a Cause,
}

/// Registers an airport for somebody, and has it collected at once.
#[utoipa::path(
    post,
    path = "/interests",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes the call safe to repeat")),
    request_body = inline(NewInterest),
    responses(
        (status = 201, description = "Added", body = Done),
        (status = 200, description = "It was there already; nothing changed", body = Done),
        (status = 400, description = "Something is missing, unknown, or contradicts itself", body = shell::http::ProblemBody),
        (status = 404, description = "User does not exist", body = shell::http::ProblemBody),
        (status = 422, description = "Wrong fields, or too many interests", body = shell::http::ProblemBody),
        (status = 503, description = "The user cannot be checked now", body = shell::http::ProblemBody),
    )
)]
pub(super) async fn add(
    State(api): State<Api>,
    Extension(cause): Extension<Cause>,
    headers: HeaderMap,
    mut body: Body,
) -> Result<Response, Problem> {
    let thresholds = [threshold(&mut body.fields, "high_value"), threshold(&mut body.fields, "low_value")];
    let target = target(body.fields)?;
    let [high, low] = thresholds.map(Given::value);
    let thresholds = Thresholds::new(high, low).map_err(|Crossed| bad_request(CROSSED))?;
    let call = Call { method: Method::POST, headers: &headers, bytes: &body.bytes, cause: &cause };
    api.answer(call, &target, NO_USER, async |api, connection, user_id| {
        let named = Named { user_id, airport: &target.airport, metric: target.metric };
        let limit = i64::from(api.interests_per_user);
        let added = interests::add(connection, named, &target.email, thresholds, limit, api.clock.now(), &cause);
        match added.await.map_err(|error| postgres::problem(&error))? {
            Added::Created => {
                let message = "Interest added and data fetch initiated";
                Ok(Answer { status: StatusCode::CREATED, body: api.with_warning(&target, message, low).await? })
            }
            Added::Exists => Ok(Answer { status: StatusCode::OK, body: json!({"message": "Interest already exists"}) }),
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
        (status = 400, description = "Something is missing, unknown, or contradicts itself", body = shell::http::ProblemBody),
        (status = 404, description = "Interest not found", body = shell::http::ProblemBody),
        (status = 422, description = "Wrong fields", body = shell::http::ProblemBody),
        (status = 503, description = "The user cannot be checked now", body = shell::http::ProblemBody),
    )
)]
pub(super) async fn change(
    State(api): State<Api>,
    Extension(cause): Extension<Cause>,
    headers: HeaderMap,
    mut body: Body,
) -> Result<Response, Problem> {
    let named_one = body.fields.has("high_value") || body.fields.has("low_value");
    let given = [threshold(&mut body.fields, "high_value"), threshold(&mut body.fields, "low_value")];
    let target = target(body.fields)?;
    if !named_one {
        return Err(bad_request("At least one of high_value or low_value is required"));
    }
    let changes = given.clone().map(|given| match given {
        Given::Absent => Change::Keep,
        Given::Null => Change::Clear,
        Given::Value(value) => Change::Set(value),
    });
    let [_, low] = given.map(Given::value);
    let call = Call { method: Method::PUT, headers: &headers, bytes: &body.bytes, cause: &cause };
    api.answer(call, &target, NO_INTEREST, async |api, connection, user_id| {
        let named = Named { user_id, airport: &target.airport, metric: target.metric };
        let changed = interests::change(connection, named, changes, api.clock.now(), &cause);
        match changed.await.map_err(|error| postgres::problem(&error))? {
            Changed::Done => {
                let message = "Interest updated successfully";
                Ok(Answer { status: StatusCode::OK, body: api.with_warning(&target, message, low).await? })
            }
            Changed::NotFound => Err(not_found(NO_INTEREST)),
            Changed::Crossed => Err(bad_request(CROSSED)),
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
        (status = 400, description = "Something is missing or unknown", body = shell::http::ProblemBody),
        (status = 404, description = "Interest not found", body = shell::http::ProblemBody),
        (status = 422, description = "Wrong fields", body = shell::http::ProblemBody),
        (status = 503, description = "The user cannot be checked now", body = shell::http::ProblemBody),
    )
)]
pub(super) async fn remove(
    State(api): State<Api>,
    Extension(cause): Extension<Cause>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let target = target(body.fields)?;
    let call = Call { method: Method::DELETE, headers: &headers, bytes: &body.bytes, cause: &cause };
    api.answer(call, &target, NO_INTEREST, async |_, connection, user_id| {
        let named = Named { user_id, airport: &target.airport, metric: target.metric };
        let removed = interests::remove(connection, named, &cause).await;
        if removed.map_err(|error| postgres::problem(&error))? {
            Ok(Answer { status: StatusCode::OK, body: json!({"message": "Interest removed and cleanup initiated"}) })
        } else {
            Err(not_found(NO_INTEREST))
        }
    })
    .await
}

/// What somebody is interested in, and when it will be collected next.
#[utoipa::path(
    get,
    path = "/interests/{email}",
    params(("email" = String, Path, description = "E-mail address")),
    responses(
        (status = 200, description = "The interests", body = InterestsBody),
        (status = 404, description = "User does not exist", body = shell::http::ProblemBody),
        (status = 503, description = "The user cannot be checked now", body = shell::http::ProblemBody),
    )
)]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(cause): Extension<Cause>,
    Path(email): Path<String>,
) -> Result<Json<InterestsBody>, Problem> {
    // What is no address is nobody's.
    let email: EmailAddress = email.parse().map_err(|_| not_found(NO_USER))?;
    let user_id = api.user(&email, &cause).await?.ok_or_else(|| not_found(NO_USER))?;
    let interests = api.store.interests_of(user_id).await.map_err(|error| postgres::problem(&error))?;
    let now = api.clock.now();
    let interests = interests.into_iter().map(|(interest, next_at)| InterestBody {
        id: interest.id,
        airport_code: interest.airport,
        metric: interest.metric.as_str(),
        high_value: interest.thresholds.high,
        low_value: interest.thresholds.low,
        // An airport that has no plan yet is about to be collected.
        next_collection_at: next_at.unwrap_or(now),
    });
    Ok(Json(InterestsBody { email: email.to_string(), interests: interests.collect() }))
}

impl Api {
    /// Who is registered under `email`.
    async fn user(&self, email: &EmailAddress, cause: &Cause) -> Result<Option<Uuid>, Problem> {
        self.users.find(email, cause).await.map_err(|error| {
            tracing::warn!("the user cannot be checked: {error}");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Cannot check the user, try again later")
                .retry_after(std::time::Duration::from_secs(5))
        })
    }

    /// Checks the user and has `effect` done once, in one transaction with its answer. A key that came
    /// with the request is looked at first, so that an answer can be replayed whatever happened since.
    async fn answer<F>(
        &self,
        call: Call<'_>,
        target: &Target,
        nobody: &'static str,
        effect: F,
    ) -> Result<Response, Problem>
    where
        F: AsyncFnOnce(&Self, &mut sqlx::PgConnection, Uuid) -> Result<Answer, Problem>,
    {
        let key = Key::optional(call.headers)?;
        let caller = target.email.as_str();
        let fingerprint = Fingerprint { caller, method: &call.method, path: "/interests", body: call.bytes };
        let user_id = match &key {
            // No transaction is open while user-manager is asked, unless a key makes one necessary.
            None => Some(self.user(&target.email, call.cause).await?.ok_or_else(|| not_found(nobody))?),
            Some(_) => None,
        };
        let mut attempt = match idempotency::begin(self.store.pool(), key, fingerprint).await? {
            Begun::Replayed(answer) => return Ok(answer),
            Begun::Fresh(attempt) => attempt,
        };
        let user_id = match user_id {
            Some(user_id) => Ok(user_id),
            None => self.user(&target.email, call.cause).await.and_then(|found| found.ok_or_else(|| not_found(nobody))),
        };
        let outcome = match user_id {
            Ok(user_id) => effect(self, attempt.connection(), user_id).await,
            Err(problem) => Err(problem),
        };
        let answer = attempt.finish(outcome).await;
        fault::point("data-collector.interest-committed-not-answered");
        answer
    }

    /// The answer to a change that set `low`, with a warning where hardly anything is ever seen.
    async fn with_warning(&self, target: &Target, message: &str, low: Option<i32>) -> Result<Value, Problem> {
        let mut body = json!({"message": message});
        if low.is_none_or(|low| low == 0) {
            return Ok(body);
        }
        let coverage = self.store.coverage(&target.airport, target.metric).await;
        let coverage = coverage.map_err(|error| postgres::problem(&error))?;
        let live = target.metric == Metric::Live;
        if is_hardly_seen(coverage, live) {
            let counted = if live { "aircraft in as many readings as" } else { "flights in as many days as" };
            body["warning"] = format!(
                "OpenSky sees hardly anything at {}: {} {counted} {}. An alert below a threshold there speaks of \
                 missing receivers rather than of missing flights.",
                target.airport, coverage.seen, coverage.looked
            )
            .into();
        }
        Ok(body)
    }
}

fn bad_request(words: &'static str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, words)
}

fn threshold(fields: &mut Fields, name: &str) -> Given<i32> {
    match fields.integer(name, 0..=HIGHEST_THRESHOLD) {
        Given::Absent => Given::Absent,
        Given::Null => Given::Null,
        Given::Value(value) => i32::try_from(value).map_or(Given::Absent, Given::Value),
    }
}

/// Reads whom and what a body means; what was noted as wrong before is told too.
fn target(mut fields: Fields) -> Result<Target, Problem> {
    if fields.is_missing("email") || fields.is_missing("airport_code") {
        return Err(bad_request(MISSING));
    }
    let email = fields.parsed::<EmailAddress>("email").value();
    let code = fields.text("airport_code", 100).value();
    let metric = fields.parsed::<Metric>("metric").value().unwrap_or_default();
    fields.finish()?;
    let (Some(email), Some(code)) = (email, code) else { return Err(bad_request(MISSING)) };
    Ok(Target { email, airport: airport(&code)?.icao.to_string(), metric })
}
