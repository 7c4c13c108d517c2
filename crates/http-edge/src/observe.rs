use std::time::{Duration, Instant};

use axum::{
    extract::{MatchedPath, Request},
    http::{HeaderName, HeaderValue, Method},
    response::{IntoResponse, Response},
};
use runtime::{
    log_limit::LogLimit,
    trace::{RequestContext, follow},
};
use tracing::{Instrument, Span, field};
use uuid::Uuid;

use super::Problem;
use crate::{metrics::HttpMetrics, problem::Unavailable};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What [`observe`] needs.
pub(super) struct Observer {
    service: &'static str,
    metrics: HttpMetrics,
    /// How long an answer may take before the caller is told to try again.
    answer_limit: Duration,
    /// Lines about what is away, by its name.
    outages: LogLimit<String>,
}

impl Observer {
    pub(super) fn new(service: &'static str, metrics: HttpMetrics, answer_limit: Duration) -> Self {
        Self { service, metrics, answer_limit, outages: LogLimit::default() }
    }

    /// A database that is slow or away refuses every caller: a line for each would fill the log.
    fn log_outage(&self, span: &Span, response: &mut Response) {
        let Some(Unavailable { what, reason }) = response.extensions_mut().remove() else { return };
        match self.outages.line(what.clone()) {
            Some(more) => tracing::warn!(parent: span, more, "{what} is unavailable: {reason}"),
            None => tracing::debug!(parent: span, "{what} is unavailable: {reason}"),
        }
    }
}

/// Gives a request an id and a span, counts it, and bounds the time that `answer` takes.
pub(super) async fn observe<Fut>(
    observer: &Observer,
    mut request: Request,
    answer: impl FnOnce(Request) -> Fut,
) -> Response
where
    Fut: Future<Output = Response>,
{
    let begun = Instant::now();
    let method = method_label(request.method());
    let endpoint = endpoint_of(&request, observer.service);
    let context = request_context_of(&request);
    let id = context.request_id.clone().unwrap_or_default();
    let span = tracing::info_span!(
        "request",
        otel.kind = "server",
        %method,
        %endpoint,
        request_id = %id,
        principal = field::Empty
    );
    if let Some(traceparent) = text(&request, &TRACEPARENT) {
        follow(&span, traceparent);
    }
    request.extensions_mut().insert(context.enter(&span));
    let in_progress = observer.metrics.in_progress.with_label_values(&[observer.service]);
    in_progress.inc();
    // A caller who hangs up drops this future; the guard keeps the gauge right.
    let guard = scopeguard::guard(in_progress, |in_progress| in_progress.dec());

    // The work begins inside the span.
    let answer = async { tokio::time::timeout(observer.answer_limit, answer(request)).await };
    let answer = answer.instrument(span.clone()).await;
    let mut response =
        answer.unwrap_or_else(|_| Problem::unavailable("The service", &"no answer in time").into_response());

    observer.log_outage(&span, &mut response);
    drop(guard);
    let status = response.status();
    let labels = [observer.service, method, endpoint.as_str()];
    observer.metrics.duration.with_label_values(&labels).observe(begun.elapsed().as_secs_f64());
    observer.metrics.requests.with_label_values(&[labels[0], labels[1], labels[2], status.as_str()]).inc();
    tracing::debug!(parent: &span, status = status.as_u16(), "answered {method} {endpoint} with {status}");
    if let Ok(id) = HeaderValue::try_from(id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    response
}

/// The id and trace the caller sent, or an id of our own.
fn request_context_of(request: &Request) -> RequestContext {
    let mut context = RequestContext::carried(text(request, &REQUEST_ID), text(request, &TRACEPARENT));
    context.request_id.get_or_insert_with(|| Uuid::now_v7().to_string());
    context
}

fn text<'a>(request: &'a Request, name: &HeaderName) -> Option<&'a str> {
    request.headers().get(name).and_then(|value| value.to_str().ok())
}

/// The route's pattern without the service's own prefix: never the raw path, whose values are
/// unbounded and personal.
pub(super) fn endpoint_of(request: &Request, service: &str) -> String {
    let Some(path) = request.extensions().get::<MatchedPath>() else { return "unmatched".to_owned() };
    let path = path.as_str();
    let own = path.strip_prefix('/').and_then(|path| path.strip_prefix(service));
    own.filter(|rest| rest.starts_with('/')).unwrap_or(path).to_owned()
}

/// Methods come from callers, labels from a closed set.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}
