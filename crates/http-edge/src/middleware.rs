//! The middleware of every HTTP edge of ours, whatever it serves.

use std::{any::Any, sync::Arc, time::Duration};

use anyhow::Context;
use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{Next, from_fn, from_fn_with_state},
    response::{IntoResponse, Response},
};
use runtime::ServiceRuntime;
use tower_http::catch_panic::CatchPanicLayer;

use super::{
    Problem, RouteTable,
    access::authorize,
    observe::{Observer, observe},
    strict::refuse_ambiguous,
};
use crate::metrics::HttpMetrics;

/// What every request passes.
struct Edge {
    observer: Observer,
    access: RouteTable,
}

/// `routes` with the middleware of every edge. Limits of connections lie before it ([`super::ConnectionLimits`]), those
/// of requests in flight behind it, where probes are not meant ([`super::bounded`]).
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
    let edge = Edge { observer: Observer::new(runtime.service, metrics, answer_limit), access };
    Ok(with_panics_caught(routes).layer(from_fn_with_state(Arc::new(edge), pass)))
}

/// The middleware, the outermost first. One layer, since each would copy all that lie behind it for every request.
async fn pass(State(edge): State<Arc<Edge>>, request: Request, next: Next) -> Response {
    let access = edge.access;
    // An id, a span and a trace; counts and durations; 503 after `answer_limit`.
    let answer = observe(&edge.observer, request, move |mut request: Request| async move {
        // 400 for what two servers could read differently; then who asks, and whether they may.
        let admitted = refuse_ambiguous(&request).and_then(|()| authorize(access, &mut request));
        // Every error is a `Problem`.
        as_problem(match admitted {
            Ok(()) => next.run(request).await,
            Err(refusal) => *refusal,
        })
    });
    answer.await
}

/// `routes` whose every error is a [`Problem`], without the rest of the middleware.
pub(crate) fn with_problems(routes: Router) -> Router {
    let pass = async |request: Request, next: Next| {
        as_problem(match refuse_ambiguous(&request) {
            Ok(()) => next.run(request).await,
            Err(refusal) => *refusal,
        })
    };
    with_panics_caught(routes).layer(from_fn(pass))
}

/// A panic is an error as well.
fn with_panics_caught(routes: Router) -> Router {
    with_fallbacks(routes).layer(CatchPanicLayer::custom(panicked))
}

/// A path that no route matches, and a method that its route does not have, are answered in our form.
fn with_fallbacks(routes: Router) -> Router {
    routes
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "Not found"))
        .method_not_allowed_fallback(async || Problem::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"))
}

/// What was refused before a call of ours was reached, in the framework's own words, takes the one
/// form that callers know.
fn as_problem(response: Response) -> Response {
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
