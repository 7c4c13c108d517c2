//! The middleware of every HTTP edge of ours, whatever it serves.

use std::{any::Any, time::Duration};

use anyhow::Context;
use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use runtime::ServiceRuntime;
use tower_http::catch_panic::CatchPanicLayer;

use super::{
    Problem,
    observe::{Observer, observe},
    strict::refuse_ambiguous,
};
use crate::metrics::HttpMetrics;

/// `routes` behind the middleware that all our edges share: every request has an id and a span, is
/// counted, and is answered within `answer_limit`; every error is a [`Problem`], also one for a path
/// or a method that nobody serves.
///
/// # Errors
/// When the runtime's registry counts another edge already.
pub fn with_middleware(runtime: &ServiceRuntime, routes: Router, answer_limit: Duration) -> anyhow::Result<Router> {
    let metrics = HttpMetrics::register(&runtime.registry).context("register the HTTP metrics")?;
    let observer = Observer { service: runtime.service, metrics, answer_limit };
    Ok(with_problems(routes).layer(middleware::from_fn_with_state(observer, observe)))
}

/// `routes` whose every error is a [`Problem`].
pub(crate) fn with_problems(routes: Router) -> Router {
    routes
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "Not found"))
        .method_not_allowed_fallback(async || Problem::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"))
        .layer(middleware::from_fn(refuse_ambiguous))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::from_fn(as_problem))
}

/// What was refused before a call of ours was reached, in the framework's own words, takes the one
/// form that callers know.
async fn as_problem(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) || is_json(response.headers()) {
        return response;
    }
    let problem = Problem::new(status, status.canonical_reason().unwrap_or("Error")).into_response();
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.extend(problem.headers().clone());
    Response::from_parts(parts, problem.into_body())
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.starts_with("application/json") || kind.starts_with("application/problem+json")
}

fn panicked(panic: Box<dyn Any + Send>) -> Response {
    let words = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    Problem::internal("answer a request", &words.unwrap_or("panicked")).into_response()
}
