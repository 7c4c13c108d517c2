use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, ensure};
use axum::{
    Json, Router,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use runtime::{ServiceRuntime, listen::Listen};
use utoipa::openapi::OpenApi;

use super::{
    ConnectionLimits, PathParam, Problem, RouteAccess, RouteTable, bounded, route_differences,
    serve_connections_within, with_middleware,
};
use crate::admin;

/// How long an answer may take before the caller is told to try again.
const ANSWER_LIMIT: Duration = Duration::from_secs(15);

/// How many requests a service works on at once. Many more than it has connections to its database, so
/// that a burst waits for its turn; few enough that what they hold in memory is small.
const IN_FLIGHT: usize = 256;

/// A service's own calls, and the document that describes them.
pub struct Routes {
    /// The calls, without the service's prefix.
    pub router: Router,
    /// Their description.
    pub openapi: OpenApi,
    /// What each of them needs.
    pub access: &'static [RouteAccess],
}

/// Serves `routes` with and without the service's prefix, beside `/ping`, the API's description and
/// the admin routes, until the service stops and its lame duck is over. Answers the address.
///
/// # Errors
/// When a call does not say what it needs, or the address cannot be bound.
pub async fn serve(runtime: &ServiceRuntime, listen: Listen, routes: Routes) -> anyhow::Result<SocketAddr> {
    let app = app(runtime, routes)?;
    let (listener, addr) = listen.bind(runtime.service, "HTTP").await?;
    let stopping = runtime.tasks.stopping().clone();
    let limits = ConnectionLimits { lame_duck: runtime.lame_duck, ..ConnectionLimits::of_a_service() };
    runtime.tasks.spawn("http", async move {
        serve_connections_within(limits, listener, None, app, stopping).await;
        Ok(())
    });
    Ok(addr)
}

fn app(runtime: &ServiceRuntime, routes: Routes) -> anyhow::Result<Router> {
    let differences = route_differences(&routes.openapi, routes.access);
    ensure!(differences.is_empty(), "the table of routes is incomplete: {}", differences.join("; "));
    let document = serde_json::to_string(&routes.openapi).context("write the OpenAPI document")?;
    // Probes, metrics and the description are answered however busy the service is.
    let own = bounded(routes.router, IN_FLIGHT, usize::MAX);
    let own = own.merge(described(document)).route("/ping", get(ping));
    let own = own.merge(admin::probes(vec![runtime.clone()], admin::Audience::Public));
    // Behind the prefix, where a gateway passes requests on, there are no metrics.
    let all = Router::new()
        .nest(&format!("/{}", runtime.service), own.clone())
        .merge(own)
        .merge(admin::metrics_of(vec![runtime.clone()]));
    with_middleware(runtime, all, ANSWER_LIMIT, RouteTable::of_service(runtime.service, routes.access))
}

/// `/openapi.json`, and `/docs` to browse it.
fn described(document: String) -> Router {
    let document = bytes::Bytes::from(document);
    let json = move || async move { ([(header::CONTENT_TYPE, "application/json")], document.clone()) };
    Router::new()
        .route("/openapi.json", get(json))
        .route("/docs", get(|| async { redirect("docs/") }))
        .route("/docs/", get(|| docs(PathParam("index.html".to_owned()))))
        .route("/docs/{*file}", get(docs))
}

/// Redirects relative to the request, so that it is right behind a prefix as well.
fn redirect(to: &'static str) -> Response {
    let mut response = StatusCode::TEMPORARY_REDIRECT.into_response();
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static(to));
    response
}

async fn docs(PathParam(file): PathParam) -> Response {
    let config = std::sync::Arc::new(utoipa_swagger_ui::Config::from("../openapi.json"));
    match utoipa_swagger_ui::serve(&file, config) {
        Ok(Some(file)) => ([(header::CONTENT_TYPE, file.content_type)], file.bytes.into_owned()).into_response(),
        Ok(None) => Problem::new(StatusCode::NOT_FOUND, "Not found").into_response(),
        Err(error) => Problem::internal("serve the API's pages", &error).into_response(),
    }
}

async fn ping() -> Json<serde_json::Value> {
    Json(serde_json::json!({"message": "pong"}))
}
