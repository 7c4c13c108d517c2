//! What additions, changes and removals of interests share: how a request is read, and the steps from
//! its key to its answer.

use std::convert::Infallible;

use axum::{
    Extension, RequestExt as _,
    body::Bytes,
    extract::{FromRequest, Request},
    http::{HeaderMap, Method},
    response::{IntoResponse, Response},
};
use events::{EmailAddress, FlightCount, Metric};
use http_edge::{
    Body, CurrentPrincipal, JsonFields, Mutation, Patch, Problem,
    idempotency::{Answer, Fingerprint, Key},
};
use runtime::{fault, principal::Principal, trace::RequestContext};

use super::{Api, airport, bad_request, not_found};
use crate::{core::interest::HIGHEST_THRESHOLD, store::interests::Named};

const MISSING: &str = "Missing email or airport_code";

/// A request that is to change a user's interests.
pub(super) struct InterestRequest {
    /// What it says.
    pub fields: JsonFields,
    /// The rest of it.
    pub call: MutationRequest,
}

/// What makes a request the same when it comes again.
pub(super) struct MutationRequest {
    /// What caused it.
    pub context: RequestContext,
    principal: Principal,
    method: Method,
    headers: HeaderMap,
    bytes: Bytes,
}

/// Whom and what a body means.
pub(super) struct Target {
    /// Whose interest.
    pub email: EmailAddress,
    airport: String,
    metric: Metric,
}

impl<S: Send + Sync> FromRequest<S> for InterestRequest {
    type Rejection = Problem;

    async fn from_request(mut request: Request, state: &S) -> Result<Self, Problem> {
        let context = request
            .extract_parts::<Extension<RequestContext>>()
            .await
            .map_or_else(|_| RequestContext::none(), |context| context.0);
        let CurrentPrincipal(principal) =
            request.extract_parts().await.unwrap_or_else(|never: Infallible| match never {});
        let (method, headers) = (request.method().clone(), request.headers().clone());
        let Body { bytes, fields } = Body::from_request(request, state).await?;
        Ok(Self { fields, call: MutationRequest { context, principal, method, headers, bytes } })
    }
}

impl Target {
    /// Reads whom and what a body means; what was noted as wrong before is told too.
    ///
    /// # Errors
    /// 400 when something is missing or there is no such airport, 422 with every field that is wrong.
    pub(super) fn read(mut fields: JsonFields) -> Result<Self, Problem> {
        if fields.is_missing("email") || fields.is_missing("airport_code") {
            return Err(bad_request(MISSING));
        }
        let email = fields.parsed::<EmailAddress>("email").value();
        let code = fields.text("airport_code", 100).value();
        let metric = fields.parsed::<Metric>("metric").value().unwrap_or_default();
        fields.finish()?;
        let (Some(email), Some(code)) = (email, code) else { return Err(bad_request(MISSING)) };
        Ok(Self { email, airport: airport(&code)?.icao.to_string(), metric })
    }
}

/// The thresholds `[high, low]`.
pub(super) fn thresholds(fields: &mut JsonFields) -> [Patch<FlightCount>; 2] {
    ["high_value", "low_value"].map(|name| match fields.integer(name, 0..=HIGHEST_THRESHOLD.get()) {
        Patch::Absent => Patch::Absent,
        Patch::Null => Patch::Null,
        Patch::Value(threshold) => FlightCount::try_from(threshold).map_or(Patch::Absent, Patch::Value),
    })
}

impl MutationRequest {
    /// Checks the user and has `effect` done once, in one transaction with its answer; `nobody` is said
    /// when there is no such user. A key that came with the request is looked up first, so that an
    /// answer can be replayed whatever happened since. No connection is held while user-manager is asked:
    /// of two equal requests at once both may ask, and the key's lock decides which one has the effect.
    pub(super) async fn answer<F>(
        &self,
        api: &Api,
        target: &Target,
        nobody: &'static str,
        effect: F,
    ) -> Result<Response, Problem>
    where
        F: AsyncFnOnce(&mut sqlx::PgConnection, Named<'_>) -> Result<Answer, Problem>,
    {
        let caller = target.email.as_str();
        let (principal, method) = (&self.principal, &self.method);
        let request = Fingerprint { principal, caller, method, path: "/interests", body: &self.bytes };
        let mutation = Mutation { key: Key::optional(&self.headers)?, request };
        let pool = api.store()?.pool();
        if let Some(answer) = mutation.replay(pool).await? {
            return Ok(answer);
        }
        let user_id = api.user(&target.email, &self.context).await?;
        if mutation.key.is_none() && user_id.is_none() {
            return Err(not_found(nobody));
        }
        let settling = mutation.settle(pool, async |connection| {
            let user_id = user_id.ok_or_else(|| not_found(nobody))?;
            effect(connection, Named { user_id, airport: &target.airport, metric: target.metric }).await
        });
        let settled = settling.await;
        fault::point("data-collector.interest-committed-not-answered");
        settled.map(IntoResponse::into_response)
    }
}
