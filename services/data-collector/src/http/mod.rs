//! The HTTP edge.

mod flights;
mod interests;
mod readings;

use airports::Airport;
use axum::http::StatusCode;
use shell::{
    clock::Clock,
    http::{Problem, Routes},
};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{store::Store, users::Users};

/// What the calls work with.
#[derive(Clone)]
pub struct Api {
    /// The database.
    pub store: Store,
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
        description = "Registers the airports that people watch, and shows the flights and readings collected for them."
    ),
    components(schemas(shell::http::ProblemBody, shell::http::FieldError))
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
        .with_state(api)
        .split_for_parts();
    Routes { router, openapi }
}

/// The airport that somebody means.
fn airport(code: &str) -> Result<Airport, Problem> {
    airports::lookup(code).ok_or_else(|| Problem::new(StatusCode::BAD_REQUEST, "Unknown airport code"))
}
