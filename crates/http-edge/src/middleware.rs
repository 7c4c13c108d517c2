//! The middleware of every HTTP edge of ours, whatever it serves.

use std::{any::Any, time::Duration};

use anyhow::Context;
use axum::{
    Router,
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use runtime::ServiceRuntime;
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;

use super::{
    Problem, RouteTable,
    access::authorize,
    observe::{Observer, observe},
    strict::refuse_ambiguous,
};
use crate::metrics::HttpMetrics;

/// `routes` with the layers of every edge, the outermost first. Limits of connections lie before all of them
/// ([`super::ConnectionLimits`]), those of requests in flight behind them, where probes are not meant
/// ([`super::bounded`]).
///
/// # Errors
/// When the runtime's registry counts another edge already.
pub fn with_middleware(
    runtime: &ServiceRuntime,
    routes: Router,
    answer_limit: Duration,
    access: RouteTable,
) -> anyhow::Result<Router> {
    let metrics = HttpMetrics::register(&runtime.registry).context("register the HTTP metrics")?;
    let observer = Observer { service: runtime.service, metrics, answer_limit };
    let layers = ServiceBuilder::new()
        // An id, a span and a trace; counts and durations; 503 after `answer_limit`.
        .layer(from_fn_with_state(observer, observe))
        // Every error is a `Problem`.
        .layer(from_fn(as_problem))
        // A panic is an error as well.
        .layer(CatchPanicLayer::custom(panicked))
        // 400 for what two servers could read differently.
        .layer(from_fn(refuse_ambiguous))
        // Who asks, and whether they may.
        .layer(from_fn_with_state(access, authorize));
    Ok(with_fallbacks(routes).layer(layers))
}

/// `routes` whose every error is a [`Problem`], without the other layers.
pub(crate) fn with_problems(routes: Router) -> Router {
    let layers = ServiceBuilder::new()
        .layer(from_fn(as_problem))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn(refuse_ambiguous));
    with_fallbacks(routes).layer(layers)
}

/// A path that no route matches, and a method that its route does not have, are answered in our form.
fn with_fallbacks(routes: Router) -> Router {
    routes
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "Not found"))
        .method_not_allowed_fallback(async || Problem::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"))
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
