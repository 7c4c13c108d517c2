//! Which route needs what, and the one place that enforces it.
//!
//! Each service lists its routes as [`RouteAccess`] rows beside its handlers; [`super::serve`] refuses to start when
//! the rows and the OpenAPI document differ, so no route can be added without saying who may call it.

use std::{collections::BTreeSet, convert::Infallible};

use axum::{
    extract::{FromRequestParts, MatchedPath, Request},
    http::{HeaderValue, Method, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};
use runtime::principal::{Permission, Principal};
use tracing::Span;
use utoipa::openapi::{OpenApi, path::PathItem};

use super::{Problem, observe::endpoint_of, strict::Refusal};

/// Whether the tables are enforced. The one place that decides it for every service.
pub const POLICY: Policy = Policy::Open;

/// How strictly a table of routes is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Every request is let through: no user can sign in yet.
    Open,
    /// A request needs what its row says; one without a row is refused.
    Enforced,
}

/// What a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Nothing: every caller may call it, signed in or not.
    Public,
    /// This permission.
    Permission(Permission),
    /// The person whose data is asked for, which the handler checks, or this permission.
    Own(Permission),
}

/// One route of a service, and what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteAccess {
    /// The method. `GET` stands for `HEAD` as well.
    pub method: Method,
    /// The pattern of the path, as in the OpenAPI document, without the service's prefix.
    pub path: &'static str,
    /// What it needs.
    pub access: Access,
}

impl RouteAccess {
    /// A row.
    #[must_use]
    pub const fn new(method: Method, path: &'static str, access: Access) -> Self {
        Self { method, path, access }
    }
}

/// The routes that every service has beside its own. They stand in no OpenAPI document.
static EVERY_SERVICE: [RouteAccess; 8] = [
    RouteAccess::new(Method::GET, "/ping", Access::Public),
    RouteAccess::new(Method::GET, "/openapi.json", Access::Public),
    RouteAccess::new(Method::GET, "/docs", Access::Public),
    RouteAccess::new(Method::GET, "/docs/", Access::Public),
    RouteAccess::new(Method::GET, "/docs/{*file}", Access::Public),
    RouteAccess::new(Method::GET, "/livez", Access::Public),
    RouteAccess::new(Method::GET, "/readyz", Access::Public),
    RouteAccess::new(Method::GET, "/metrics", Access::Public),
];

/// The rows of one edge, and how strictly they are meant.
#[derive(Clone, Copy, Debug)]
pub struct RouteTable {
    service: &'static str,
    rows: &'static [RouteAccess],
    policy: Policy,
}

impl RouteTable {
    /// The table of `service`: its own `rows` and those of every service.
    #[must_use]
    pub const fn of_service(service: &'static str, rows: &'static [RouteAccess]) -> Self {
        Self { service, rows, policy: POLICY }
    }

    /// Of an edge that passes requests on to services, each of which has a table of its own.
    #[must_use]
    pub const fn of_a_proxy(service: &'static str) -> Self {
        Self { service, rows: &[], policy: Policy::Open }
    }

    fn rows_of<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a RouteAccess> {
        self.rows.iter().chain(&EVERY_SERVICE).filter(move |row| row.path == path)
    }

    /// What a request needs; nothing when it has no row.
    fn access(&self, method: &Method, path: &str) -> Option<Access> {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        self.rows_of(path).find(|row| row.method == *method).map(|row| row.access)
    }

    /// The answer to a request that has no row: as if there were no such route.
    fn no_such_route(&self, path: &str) -> Response {
        let methods: Vec<_> = self.rows_of(path).map(|row| row.method.as_str()).collect();
        if methods.is_empty() {
            return Problem::new(StatusCode::NOT_FOUND, "Not found").into_response();
        }
        let problem = Problem::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed");
        let allow = HeaderValue::from_str(&methods.join(",")).map(|methods| [(header::ALLOW, methods)]);
        (allow.ok(), problem).into_response()
    }
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Denied {
    /// It has no row.
    NoRow,
    /// Its caller has not signed in.
    SignInRequired,
    /// Its caller lacks the permission.
    Forbidden,
}

/// Whether `principal`, who has `permissions`, may call what needs `access`.
fn decide(
    policy: Policy,
    access: Option<Access>,
    principal: &Principal,
    permissions: &[Permission],
) -> Result<(), Denied> {
    if policy == Policy::Open {
        return Ok(());
    }
    match (access.ok_or(Denied::NoRow)?, principal) {
        (Access::Public, _) | (Access::Own(_), Principal::User(_)) => Ok(()),
        (_, Principal::Anonymous) => Err(Denied::SignInRequired),
        (Access::Permission(needed) | Access::Own(needed), _) if permissions.contains(&needed) => Ok(()),
        (Access::Permission(_) | Access::Own(_), _) => Err(Denied::Forbidden),
    }
}

/// Who asks, and what they may. No header is believed: nothing in a request proves who sent it yet.
fn identify(_: &Request) -> (Principal, &'static [Permission]) {
    (Principal::Anonymous, &[])
}

/// Tells the span and the handlers who asks, and refuses what the table does not allow.
pub(super) fn authorize(table: RouteTable, request: &mut Request) -> Result<(), Refusal> {
    let (principal, permissions) = identify(request);
    Span::current().record("principal", principal.kind());
    // What no route matches is answered 404 further in.
    if request.extensions().get::<MatchedPath>().is_some() {
        let path = endpoint_of(request, table.service);
        let access = table.access(request.method(), &path);
        decide(table.policy, access, &principal, permissions).map_err(|denied| match denied {
            Denied::NoRow => table.no_such_route(&path),
            Denied::SignInRequired => {
                let problem = Problem::new(StatusCode::UNAUTHORIZED, "Sign in first");
                ([(header::WWW_AUTHENTICATE, "Bearer")], problem).into_response()
            }
            Denied::Forbidden => Problem::new(StatusCode::FORBIDDEN, "Not permitted").into_response(),
        })?;
    }
    request.extensions_mut().insert(principal);
    Ok(())
}

/// Who asks, for a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CurrentPrincipal(pub Principal);

impl<S: Send + Sync> FromRequestParts<S> for CurrentPrincipal {
    type Rejection = Infallible;

    /// Without the edge's layer the caller is anonymous, who may do the least.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(parts.extensions.get().cloned().unwrap_or_default()))
    }
}

/// How `document` and `rows` differ: a call without a row, a row without a call, a row given twice.
#[must_use]
pub fn differences(document: &OpenApi, rows: &[RouteAccess]) -> Vec<String> {
    let paths = document.paths.paths.iter();
    let described: BTreeSet<_> = paths
        .flat_map(|(path, item)| methods(item).into_iter().map(move |method| format!("{method} {path}")))
        .collect();
    let mut listed = BTreeSet::new();
    let mut differences = Vec::new();
    for row in rows {
        let call = format!("{} {}", row.method, row.path);
        if !described.contains(&call) {
            differences.push(format!("{call} has a row, and is not in the OpenAPI document"));
        }
        if !listed.insert(call.clone()) {
            differences.push(format!("{call} has two rows"));
        }
    }
    let missing = described.difference(&listed);
    differences.extend(missing.map(|call| format!("{call} has no row that says who may call it")));
    differences
}

fn methods(item: &PathItem) -> Vec<Method> {
    let calls = [
        (Method::GET, &item.get),
        (Method::PUT, &item.put),
        (Method::POST, &item.post),
        (Method::DELETE, &item.delete),
        (Method::OPTIONS, &item.options),
        (Method::HEAD, &item.head),
        (Method::PATCH, &item.patch),
        (Method::TRACE, &item.trace),
    ];
    calls.into_iter().filter(|(_, call)| call.is_some()).map(|(method, _)| method).collect()
}

#[cfg(test)]
mod tests;
