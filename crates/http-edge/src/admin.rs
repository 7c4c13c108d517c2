//! The admin port: what probes and Prometheus read. Nothing is changed through it.

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use runtime::{Process, ServiceRuntime, listen::Listen, metrics, readiness::Report};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use crate::{ConnectionLimits, Problem, serve_connections_within, with_problems};

/// Serves the admin port for the runtimes that `process` has made so far, until the process ends, so that probes see a
/// stop as well. Answers its address.
///
/// # Errors
/// When the address cannot be bound.
#[expect(clippy::disallowed_methods, reason = "this task outlives every other on purpose")]
pub async fn serve(process: &Process, addr: SocketAddr) -> anyhow::Result<SocketAddr> {
    let runtimes = process.runtimes().to_vec();
    let process = match runtimes.as_slice() {
        [alone] => alone.service,
        _ => "flightbell",
    };
    let (listener, addr) = Listen::At(addr).bind(process, "probes and metrics").await.context("bind ADMIN_ADDR")?;
    let router = probes(runtimes.clone(), Audience::Operators).merge(metrics_of(runtimes));
    let limits = ConnectionLimits::of_the_admin_port();
    tokio::spawn(serve_connections_within(limits, listener, None, with_problems(router), CancellationToken::new()));
    Ok(addr)
}

/// Who reads an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Audience {
    /// Those who reach the admin port: they read what dependencies say.
    Operators,
    /// Those who reach a service, perhaps all the world.
    Public,
}

/// `/livez` and `/readyz` of `runtimes`. Only operators read why a part is down: the words of databases
/// and brokers tell addresses and names of users.
pub(crate) fn probes(runtimes: Vec<ServiceRuntime>, audience: Audience) -> Router {
    let runtimes: Arc<[ServiceRuntime]> = runtimes.into();
    Router::new().route("/livez", get(livez)).route("/readyz", get(move || readyz(runtimes.clone(), audience)))
}

/// `/metrics` of `runtimes`.
pub(crate) fn metrics_of(runtimes: Vec<ServiceRuntime>) -> Router {
    Router::new().route("/metrics", get(metrics_page)).with_state(Arc::new(runtimes))
}

async fn livez() -> Json<serde_json::Value> {
    Json(serde_json::json!({"status": "alive"}))
}

#[derive(Serialize)]
struct ReadyAnswer {
    status: &'static str,
    services: Vec<ServiceReport>,
}

#[derive(Serialize)]
struct ServiceReport {
    service: &'static str,
    #[serde(flatten)]
    report: Report,
}

async fn readyz(runtimes: Arc<[ServiceRuntime]>, audience: Audience) -> Response {
    let services = runtimes.iter().map(|runtime| async {
        let mut report = runtime.report().await;
        if audience == Audience::Public {
            report = report.without_details();
        }
        ServiceReport { service: runtime.service, report }
    });
    let services = futures::future::join_all(services).await;
    let stopping = runtimes.iter().any(|runtime| runtime.tasks.stopping().is_cancelled());
    let ready = services.iter().all(|service| service.report.ready);
    let status = if stopping {
        "stopping"
    } else if ready {
        "ready"
    } else {
        "not ready"
    };
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, Json(ReadyAnswer { status, services })).into_response()
}

async fn metrics_page(State(runtimes): State<Arc<Vec<ServiceRuntime>>>) -> Response {
    let reports = runtimes.iter().map(|runtime| async { (runtime.service, runtime.report().await) });
    // A check that hangs is given up and counts as down, so that the page is there before Prometheus gives up.
    let reports = futures::future::join_all(reports).await;
    match page(&runtimes, &reports) {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response(),
        Err(error) => Problem::internal("render the metrics", &error).into_response(),
    }
}

fn page(runtimes: &[ServiceRuntime], reports: &[(&str, Report)]) -> prometheus::Result<String> {
    let health = metrics::health(reports.iter().map(|(service, report)| (*service, report)))?;
    metrics::render(runtimes.iter().map(|runtime| &runtime.registry).chain([&health]))
}
