#![doc = include_str!("../README.md")]

mod asking;
mod identity;
mod metrics;

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use axum::{
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use http_edge::{ConnectionLimits, TOO_MANY, bounded_or, serve_connections_within};
use runtime::{
    ServiceRuntime,
    config::{Reader, without_password},
    listen::Listen,
    readiness::Criticality,
    trace::RequestContext,
};
use tonic::{
    Request, Status, body::Body, metadata::MetadataMap, server::NamedService, service::Routes,
    service::interceptor::InterceptedService, transport::Endpoint,
};
use tonic_health::{
    ServingStatus,
    pb::{HealthCheckRequest, health_check_response, health_client::HealthClient},
    server::{HealthReporter, health_reporter},
};
use tower::{Service, ServiceExt};
use tower_http::catch_panic::CatchPanicLayer;
use url::Url;

pub use self::asking::ask;
pub use self::identity::{IdentifiedChannel, ServiceIdentity, principal};

use self::{
    identity::identify,
    metrics::{GrpcMetrics, count, learn},
};

/// How long a caller waits for an answer.
pub const DEADLINE: Duration = Duration::from_secs(3);
/// How long a caller waits for a connection: a replica that has vanished does not answer at all, and another attempt
/// must still come in time.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);
/// How often an idle connection is asked whether it still stands.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// The largest message that a server of ours takes, in bytes: ours have a few hundred.
pub const MESSAGE_LIMIT: usize = 64 * 1024;
/// How many calls a server works on at once.
const IN_FLIGHT: usize = 256;
/// The name of the standard health service.
const HEALTH_SERVICE: &str = "grpc.health.v1.Health";
/// How often health is brought up to date with readiness.
const HEALTH_INTERVAL: Duration = Duration::from_secs(2);
/// The same while the service cannot serve: its neighbours wait for the news.
const RECOVERY_INTERVAL: Duration = Duration::from_millis(250);
/// How long calls that are under way may take once the service stops: longer than [`DEADLINE`], and not as long as a
/// client may watch our health.
const DRAIN_LIMIT: Duration = Duration::from_secs(5);

/// A gRPC server that answers.
pub struct Served {
    /// Where.
    pub addr: SocketAddr,
    health: Health,
}

impl Served {
    /// From now on the health service says that calls can be carried out, as long as every part is up
    /// without which the service is not ready.
    pub async fn set_serving(&self) {
        self.health.is_serving.store(true, Ordering::Relaxed);
        self.health.report(ServingStatus::Serving).await;
    }
}

/// What the standard health service says.
#[derive(Clone)]
struct Health {
    reporter: HealthReporter,
    name: &'static str,
    is_serving: Arc<AtomicBool>,
}

impl Health {
    async fn report(&self, status: ServingStatus) {
        // Without a name the whole server is meant.
        for service in ["", self.name] {
            self.reporter.set_service_status(service, status).await;
        }
    }

    /// Says how the service is until it stops, and then that it does.
    async fn follow(self, runtime: ServiceRuntime) {
        let stopping = runtime.tasks.stopping();
        let mut told = ServingStatus::Serving;
        loop {
            let interval = if told == ServingStatus::Serving { HEALTH_INTERVAL } else { RECOVERY_INTERVAL };
            tokio::select! {
                () = stopping.cancelled() => break,
                () = tokio::time::sleep(interval) => {}
            }
            if !self.is_serving.load(Ordering::Relaxed) {
                continue;
            }
            let is_ready = runtime.readiness.report().await.ready;
            let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
            if status != told && !stopping.is_cancelled() {
                self.report(status).await;
                told = status;
            }
        }
        self.report(ServingStatus::NotServing).await;
    }
}

/// Serves `service` beside the standard health service, which knows it by name, until the service
/// stops. Health is `NOT_SERVING` until [`Served::set_serving`], while a required part of `/readyz` is
/// down, and once the service stops. A call that takes longer than [`DEADLINE`], or than its caller
/// waits, is broken off; of more calls than can be worked on, the last are `UNAVAILABLE` at once.
/// Every call is counted, except those of the health service.
///
/// # Errors
/// When the address cannot be bound, or the runtime's registry counts another server already.
pub async fn serve<S>(runtime: &ServiceRuntime, listen: Listen, service: S) -> anyhow::Result<Served>
where
    S: Service<http::Request<Body>, Error = Infallible, Response: IntoResponse, Future: Send>,
    S: NamedService + Clone + Send + Sync + 'static,
{
    let metrics = GrpcMetrics::register(&runtime.registry, runtime.service).context("register the gRPC metrics")?;
    let (listener, addr) = listen.bind(runtime.service, "gRPC").await?;
    let (reporter, health_service) = health_reporter();
    let health = Health { reporter, name: S::NAME, is_serving: Arc::default() };
    health.report(ServingStatus::NotServing).await;
    let too_many = || Status::unavailable(TOO_MANY).into_http::<Body>().into_response();
    let routes = Routes::new(service).prepare().into_axum_router();
    let routes = routes.layer(middleware::from_fn_with_state(metrics.clone(), learn));
    let calls = bounded_or(too_many, routes, IN_FLIGHT, usize::MAX);
    // Health is answered however many calls there are.
    let health_service = health_service.map_request(|request: axum::extract::Request| request.map(Body::new));
    let app = calls
        .route_service(&format!("/{HEALTH_SERVICE}/{{method}}"), health_service)
        .layer(middleware::from_fn_with_state(S::NAME, identify))
        .layer(middleware::from_fn(within_deadline))
        .layer(CatchPanicLayer::custom(|_| Status::internal("Internal error").into_http::<Body>()))
        .layer(middleware::from_fn_with_state(metrics, count));
    let (following, stopping) = (health.clone().follow(runtime.clone()), runtime.tasks.stopping().clone());
    runtime.tasks.spawn("grpc", async move {
        let limits = ConnectionLimits::of_grpc(DRAIN_LIMIT);
        tokio::join!(serve_connections_within(limits, listener, None, app, stopping), following);
        Ok(())
    });
    Ok(Served { addr, health })
}

/// Breaks a call off that takes longer than [`DEADLINE`], or than its caller says that it waits.
async fn within_deadline(request: axum::extract::Request, next: Next) -> Response {
    let asked = request.headers().get("grpc-timeout").and_then(|value| value.to_str().ok()).and_then(parse_timeout);
    let limit = asked.map_or(DEADLINE, |asked| asked.min(DEADLINE));
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Status::deadline_exceeded("no answer in time").into_http::<Body>().into_response(),
    }
}

/// How long a caller waits, as gRPC writes it: at most eight digits and a unit.
fn parse_timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3_600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

/// Where another of our services answers gRPC, from `key`. `example` shows how such an address looks.
pub fn endpoint(reader: &mut Reader<'_>, key: &str, service: &str, example: &str) -> Option<Endpoint> {
    let url: Url = reader.required(key, &format!("where {service} answers gRPC, such as {example}"))?;
    // Between the services TLS is the network's part, so an https address could never be reached.
    let shown = without_password(url.as_str());
    if url.scheme() != "http" || !url.has_host() || shown != url.as_str() {
        reader.problem(format!("{key}={shown:?} cannot be used: it must be a URL like {example}"));
        return None;
    }
    let endpoint = Endpoint::from_shared(url.to_string());
    endpoint.map_err(|error| reader.problem(format!("{key}={shown:?} cannot be used: {error}"))).ok()
}

/// One channel of the service `caller` to another one: connects when first used, again when the connection broke,
/// and carries every call of the process, each with the caller's name.
#[must_use]
pub fn channel(caller: &str, endpoint: Endpoint) -> IdentifiedChannel {
    let channel = endpoint
        .connect_timeout(CONNECT_LIMIT)
        .timeout(DEADLINE)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(CONNECT_LIMIT)
        .connect_lazy();
    InterceptedService::new(channel, ServiceIdentity::of(caller))
}

/// Names another service in `/readyz`, by the health that it answers on `channel`. The asking service stays ready when
/// it is down.
pub fn name_in_readiness(runtime: &ServiceRuntime, name: &'static str, channel: IdentifiedChannel) {
    runtime.readiness.check(name, Criticality::Optional, move || {
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
pub fn request<T>(message: T, context: &RequestContext) -> Request<T> {
    let mut request = Request::new(message);
    let carried = [("x-request-id", &context.request_id), ("traceparent", &context.traceparent)];
    for (name, value) in carried {
        if let Some(value) = value.as_ref().and_then(|value| value.parse().ok()) {
            request.metadata_mut().insert(name, value);
        }
    }
    request
}

/// What caused a call that was received.
#[must_use]
pub fn request_context(metadata: &MetadataMap) -> RequestContext {
    let text = |name| metadata.get(name).and_then(|value| value.to_str().ok());
    RequestContext::carried(text("x-request-id"), text("traceparent"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_of_a_caller_is_read_as_grpc_writes_it() {
        for (text, expected) in [
            ("3S", Some(Duration::from_secs(3))),
            ("250m", Some(Duration::from_millis(250))),
            ("99999999H", Some(Duration::from_secs(99_999_999 * 3_600))),
            ("7n", Some(Duration::from_nanos(7))),
            ("", None),
            ("S", None),
            ("123456789S", None),
            ("-1S", None),
            ("1s", None),
            ("1é", None),
        ] {
            assert_eq!(parse_timeout(text), expected, "{text:?}");
        }
    }
}
