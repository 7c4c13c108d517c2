//! What each call needs.

use axum::http::Method;
use http_edge::{Access, RouteAccess};
use runtime::principal::Permission::{ManageUsers, ViewUsers};

/// The calls of this service. `POST /users` is public because people register themselves; a chat's number alone
/// proves nothing about who reads it, so naming one is for those who manage people.
pub(super) static ROUTES: [RouteAccess; 6] = [
    RouteAccess::new(Method::POST, "/users", Access::Public),
    RouteAccess::new(Method::GET, "/users", Access::Permission(ViewUsers)),
    RouteAccess::new(Method::GET, "/users/{email}", Access::Own(ViewUsers)),
    RouteAccess::new(Method::PATCH, "/users/{email}", Access::Own(ManageUsers)),
    RouteAccess::new(Method::DELETE, "/users/{email}", Access::Own(ManageUsers)),
    RouteAccess::new(Method::POST, "/users/telegram", Access::Permission(ManageUsers)),
];

#[cfg(test)]
mod tests {
    use http_edge::route_differences;
    use runtime::{ServiceRuntime, clock::Clock};
    use tokio_util::sync::CancellationToken;

    use crate::{DbHandle, http::routes, notifier::Notifier};

    #[tokio::test]
    async fn every_call_of_the_document_has_a_row_and_every_row_a_call() {
        let runtime = ServiceRuntime::new("user-manager", CancellationToken::new(), Clock::system());
        let routes = routes(DbHandle::default(), Notifier::new(&runtime, None));
        assert_eq!(route_differences(&routes.openapi, &super::ROUTES), [""; 0]);
    }
}
