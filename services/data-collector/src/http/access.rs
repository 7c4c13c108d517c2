//! What each call needs.

use axum::http::Method;
use http_edge::{Access, RouteAccess};
use runtime::principal::Permission::{ManageInterests, ViewFlights, ViewInterests};

/// The calls of this service.
pub(super) static ROUTES: [RouteAccess; 8] = [
    RouteAccess::new(Method::POST, "/interests", Access::Own(ManageInterests)),
    RouteAccess::new(Method::PUT, "/interests", Access::Own(ManageInterests)),
    RouteAccess::new(Method::DELETE, "/interests", Access::Own(ManageInterests)),
    RouteAccess::new(Method::GET, "/interests/{email}", Access::Own(ViewInterests)),
    RouteAccess::new(Method::GET, "/flights/{airport_code}", Access::Permission(ViewFlights)),
    RouteAccess::new(Method::GET, "/flights/average/{icao}", Access::Permission(ViewFlights)),
    RouteAccess::new(Method::GET, "/flights/last/{icao}", Access::Permission(ViewFlights)),
    RouteAccess::new(Method::GET, "/readings/{airport_code}", Access::Permission(ViewFlights)),
];

#[cfg(test)]
mod tests {
    use http_edge::route_differences;
    use runtime::{ServiceRuntime, clock::Clock};
    use tokio_util::sync::CancellationToken;
    use tonic::transport::Endpoint;

    use crate::{
        DbHandle,
        http::{Api, routes},
        users::Users,
    };

    #[tokio::test]
    async fn every_call_of_the_document_has_a_row_and_every_row_a_call() {
        let runtime = ServiceRuntime::new("data-collector", CancellationToken::new(), Clock::system());
        let users = Users::new(&runtime, Endpoint::from_static("http://127.0.0.1:1"));
        let api = Api { db: DbHandle::default(), users, clock: Clock::system(), interests_per_user: 50 };
        assert_eq!(route_differences(&routes(api).openapi, &super::ROUTES), [""; 0]);
    }
}
