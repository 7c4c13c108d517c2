//! The manners of our gRPC edges.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use anyhow::Context;
use axum::response::IntoResponse;
use tonic::{
    Request,
    body::Body,
    metadata::MetadataMap,
    server::NamedService,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_check_response, health_client::HealthClient},
    server::{HealthReporter, health_reporter},
};
use tower::Service;
use url::Url;

use crate::{Shell, config::Reader, listen::Listen, readiness::Need, trace::Cause};

/// How long a caller waits for an answer.
pub const DEADLINE: Duration = Duration::from_secs(3);
/// How long a caller waits for a connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// How often an idle connection is asked whether it still stands.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long calls that are under way may take once the shell stops: longer than [`DEADLINE`], and not
/// as long as somebody may watch our health.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// A gRPC server that answers.
pub struct Served {
    /// Where.
    pub addr: SocketAddr,
    health: HealthReporter,
    name: &'static str,
}

impl Served {
    /// From now on the health service says that calls can be carried out.
    pub async fn set_serving(&self) {
        report(&self.health, self.name, ServingStatus::Serving).await;
    }
}

async fn report(health: &HealthReporter, name: &str, status: ServingStatus) {
    // Without a name the whole server is meant.
    for service in ["", name] {
        health.set_service_status(service, status).await;
    }
}

/// Serves `service` beside the standard health service, which knows it by name, until the shell
/// stops. Health is `NOT_SERVING` until [`Served::set_serving`], and again once the shell stops.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve<S>(shell: &Shell, listen: Listen, service: S) -> anyhow::Result<Served>
where
    S: Service<http::Request<Body>, Error = Infallible, Response: IntoResponse, Future: Send>,
    S: NamedService + Clone + Send + Sync + 'static,
{
    let (listener, addr) = listen.bind("gRPC").await?;
    let (reporter, health) = health_reporter();
    report(&reporter, S::NAME, ServingStatus::NotServing).await;
    let served = Served { addr, health: reporter.clone(), name: S::NAME };
    let stopping = shell.tasks.stopping().clone();
    // An answer is several small frames. Without this the second waits for the caller's system to
    // acknowledge the first, which it puts off for up to 40 ms.
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    shell.tasks.spawn("grpc", async move {
        let serving = Server::builder()
            .timeout(DEADLINE)
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(CONNECT_LIMIT))
            .add_service(service)
            .add_service(health)
            .serve_with_incoming_shutdown(incoming, stopping.clone().cancelled_owned());
        let drained = async {
            stopping.cancelled().await;
            report(&reporter, S::NAME, ServingStatus::NotServing).await;
            tokio::time::sleep(DRAIN_LIMIT).await;
        };
        tokio::select! {
            served = serving => served.context("serve gRPC"),
            () = drained => Ok(()),
        }
    });
    Ok(served)
}

/// Where another of our services answers gRPC, from `key`. `example` shows how such an address looks.
pub fn endpoint(reader: &mut Reader<'_>, key: &str, service: &str, example: &str) -> Option<Endpoint> {
    let url: Url = reader.required(key, &format!("where {service} answers gRPC, such as {example}"))?;
    // Between the services TLS is the network's part, so an https address could never be reached.
    if url.scheme() != "http" || !url.has_host() {
        reader.problem(format!("{key}={:?} cannot be used: it must be a URL like {example}", url.as_str()));
        return None;
    }
    let endpoint = Endpoint::from_shared(url.to_string());
    endpoint.map_err(|error| reader.problem(format!("{key}={:?} cannot be used: {error}", url.as_str()))).ok()
}

/// One channel to another service: connects when first used, again when the connection broke, and
/// carries every call of the process.
#[must_use]
pub fn channel(endpoint: Endpoint) -> Channel {
    endpoint
        .connect_timeout(CONNECT_LIMIT)
        .timeout(DEADLINE)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(CONNECT_LIMIT)
        .connect_lazy()
}

/// Names another service in `/readyz`, by the health that it answers on `channel`. Whoever asks stays
/// ready when it is down.
pub fn name_in_readiness(shell: &Shell, name: &'static str, channel: Channel) {
    shell.readiness.check(name, Need::Optional, move || {
        let mut health = HealthClient::new(channel.clone());
        async move {
            match health.check(HealthCheckRequest::default()).await {
                Ok(answer) if answer.get_ref().status() == health_check_response::ServingStatus::Serving => Ok(()),
                Ok(_) => Err("answers that it cannot serve now; its own /readyz says why".to_owned()),
                Err(status) => Err(format!("does not answer: {}", status.code().description())),
            }
        }
    });
}

/// A request that carries on what caused it.
pub fn request<T>(message: T, cause: &Cause) -> Request<T> {
    let mut request = Request::new(message);
    let carried = [("x-request-id", &cause.request_id), ("traceparent", &cause.traceparent)];
    for (name, value) in carried {
        if let Some(value) = value.as_ref().and_then(|value| value.parse().ok()) {
            request.metadata_mut().insert(name, value);
        }
    }
    request
}

/// What caused a call that was received.
#[must_use]
pub fn cause(metadata: &MetadataMap) -> Cause {
    let text = |name| metadata.get(name).and_then(|value| value.to_str().ok());
    Cause::carried(text("x-request-id"), text("traceparent"))
}
