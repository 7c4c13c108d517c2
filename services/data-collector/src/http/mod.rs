//! The HTTP edge.

mod access;
mod flights;
mod interests;
mod mutation;
mod readings;

use std::{sync::Arc, time::Duration};

use airports::Airport;
use axum::http::StatusCode;
use events::EmailAddress;
use http_edge::{Problem, Routes};
use runtime::{clock::Clock, trace::RequestContext};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{DbHandle, store::Store, users::Users};

/// What the calls work with.
pub struct Api {
    /// The database, once it has been reached.
    pub db: DbHandle,
    /// Who knows people.
    pub users: Users,
    /// The time.
    pub clock: Clock,
    /// How many interests a person may have.
    pub interests_per_user: u32,
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Flightbell data-collector",
        description = "Registers the airports that people watch, and shows the flights and readings collected for them.\n\n\
            Metrics: `flights`, `arrivals` and `departures` of the newest UTC day that OpenSky has published; `live`, the \
            aircraft within 25 nautical miles now, at any height or on the ground, last heard less than 60 s ago. `live` \
            counts aircraft only: what says that it is a surface vehicle or an obstacle (categories 16 to 20) does not \
            count, what says nothing of its kind (categories 0 and 1, or none) does. A value that is not known is null, \
            which is not zero."
    ),
    components(schemas(http_edge::ProblemBody, http_edge::FieldError))
)]
struct Document;

/// The service's calls, and their description.
#[must_use]
pub fn routes(api: Api) -> Routes {
    let (router, openapi) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(interests::add, interests::change, interests::remove))
        .routes(routes!(interests::list))
        .routes(routes!(flights::list))
        .routes(routes!(flights::average))
        .routes(routes!(flights::last))
        .routes(routes!(readings::list))
        .with_state(Arc::new(api))
        .split_for_parts();
    Routes { router, openapi, access: &access::ROUTES }
}

impl Api {
    fn store(&self) -> Result<&Store, Problem> {
        Ok(self.db.reached()?)
    }

    /// Who is registered under `email`.
    async fn user(&self, email: &EmailAddress, context: &RequestContext) -> Result<Option<Uuid>, Problem> {
        self.users.find(email, context).await.map_err(|error| {
            tracing::warn!("the user cannot be checked: {error}");
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "Cannot check the user, try again later")
                .retry_after(Duration::from_secs(5))
        })
    }
}

/// The airport that the caller means.
fn airport(code: &str) -> Result<Airport, Problem> {
    airports::lookup(code).ok_or_else(|| bad_request("Unknown airport code"))
}

/// 400 with the contract's words.
fn bad_request(words: &'static str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, words)
}

/// 404 with the contract's words.
fn not_found(words: &'static str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, words)
}
