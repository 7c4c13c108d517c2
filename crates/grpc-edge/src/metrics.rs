//! What a gRPC server counts: calls, how they end, and how long they take.
//!
//! tonic does not tell which methods a service has, and paths come from callers. A method is therefore known once the
//! service has worked on a call of it: what a server generated from a contract does not know it answers at once, and
//! with `UNIMPLEMENTED`. Every other path is counted as the method `unknown`.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    body::{Body, HttpBody},
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::HeaderMap;
use http_body_util::BodyExt;
use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry};
use runtime::metrics::LATENCY_BUCKETS;
use scopeguard::ScopeGuard;
use tonic::{Code, Status};

use super::{CONNECT_LIMIT, DEADLINE, HEALTH_SERVICE};

/// The label of every method that the service is not known to have.
const UNKNOWN: &str = "unknown";
/// How many methods a server tells apart, in case a service takes any path for one of its own: ours have three at most.
const MOST_METHODS: usize = 64;
/// Whoever waits this long for an answer gives up because of the deadline. A caller's time begins before ours, since it
/// may have to connect first.
const GIVEN_UP: Duration = DEADLINE.saturating_sub(CONNECT_LIMIT);

/// What the gRPC server of a service counts.
pub(super) struct GrpcMetrics {
    service: &'static str,
    requests: IntCounterVec,
    duration: HistogramVec,
    methods: Mutex<BTreeSet<String>>,
}

impl GrpcMetrics {
    /// Registers the two metrics.
    ///
    /// # Errors
    /// When the registry holds them already.
    pub(super) fn register(registry: &Registry, service: &'static str) -> prometheus::Result<Arc<Self>> {
        let requests = IntCounterVec::new(
            Opts::new("grpc_requests_total", "gRPC calls that have ended."),
            &["service", "method", "code"],
        )?;
        let duration = HistogramVec::new(
            HistogramOpts::new("grpc_request_duration_seconds", "Time from a gRPC call's head to its end.")
                .buckets(LATENCY_BUCKETS.to_vec()),
            &["service", "method"],
        )?;
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(duration.clone()))?;
        Ok(Arc::new(Self { service, requests, duration, methods: Mutex::default() }))
    }

    fn methods(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.methods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn learn(&self, method: String) {
        let mut methods = self.methods();
        if methods.len() < MOST_METHODS {
            methods.insert(method);
        }
    }
}

/// A call, which is counted when this is dropped.
struct Call {
    metrics: Arc<GrpcMetrics>,
    method: String,
    begun: Instant,
    /// How it ended; none when nobody has taken its answer to the end.
    code: Option<Code>,
}

impl Drop for Call {
    fn drop(&mut self) {
        let GrpcMetrics { service, requests, duration, .. } = &*self.metrics;
        let elapsed = self.begun.elapsed();
        let given_up = if elapsed < GIVEN_UP { Code::Cancelled } else { Code::DeadlineExceeded };
        let code = name_of(self.code.unwrap_or(given_up));
        let is_known = self.metrics.methods().contains(&self.method);
        let method = if is_known { self.method.as_str() } else { UNKNOWN };
        requests.with_label_values(&[*service, method, code]).inc();
        duration.with_label_values(&[*service, method]).observe(elapsed.as_secs_f64());
    }
}

/// The outermost layer: counts a call when its status is known or its caller has gone. Health is not counted: probes
/// would hide how the service answers, and who watches it does so for days.
pub(super) async fn count(State(metrics): State<Arc<GrpcMetrics>>, request: Request, next: Next) -> Response {
    let method = method_of(&request);
    if method.split('/').next() == Some(HEALTH_SERVICE) {
        return next.run(request).await;
    }
    let mut call = Call { metrics, method: method.to_owned(), begun: Instant::now(), code: None };
    let response = next.run(request).await;
    call.code = code_in(response.headers());
    if call.code.is_some() {
        return response;
    }
    if response.body().is_end_stream() {
        call.code = Some(Code::Unknown);
        return response;
    }
    // The status of a call that has an answer lies behind it, in the trailers.
    let mut call = Some(call);
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            if let Some(trailers) = frame.trailers_ref()
                && let Some(mut call) = call.take()
            {
                call.code = Some(code_in(trailers).unwrap_or(Code::Unknown));
            }
            frame
        }))
    })
}

/// The innermost layer, behind everything that refuses calls: learns which methods the service has.
pub(super) async fn learn(State(metrics): State<Arc<GrpcMetrics>>, request: Request, next: Next) -> Response {
    // A call that is broken off was being worked on, so that its method is there.
    let worked_on = scopeguard::guard(method_of(&request).to_owned(), |method| metrics.learn(method));
    let response = next.run(request).await;
    if code_in(response.headers()) == Some(Code::Unimplemented) {
        ScopeGuard::into_inner(worked_on);
    }
    response
}

/// `package.Service/Method`, as the caller says.
fn method_of(request: &Request) -> &str {
    let path = request.uri().path();
    path.strip_prefix('/').unwrap_or(path)
}

fn code_in(headers: &HeaderMap) -> Option<Code> {
    headers.get(Status::GRPC_STATUS).map(|code| Code::from_bytes(code.as_bytes()))
}

/// A code's name in gRPC's documentation.
const fn name_of(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
