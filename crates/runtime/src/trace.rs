//! What caused a piece of work, carried from an HTTP request through Kafka to the last effect.

use opentelemetry::{
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanContext, TraceContextExt},
};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use serde::{Deserialize, Serialize};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// The longest request id that is taken from a caller; a longer one is replaced.
const REQUEST_ID_LENGTH: usize = 128;

/// The request and the trace that a piece of work belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestContext {
    /// The id of the HTTP request that caused the work, where one did.
    pub request_id: Option<String>,
    /// W3C trace context, where the trace is sampled.
    pub traceparent: Option<String>,
}

impl RequestContext {
    /// Work that no request caused, such as a scheduled collection.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// What a message or a request carried; anything malformed counts as absent.
    #[must_use]
    pub fn carried(request_id: Option<&str>, traceparent: Option<&str>) -> Self {
        Self {
            request_id: request_id.filter(|id| is_request_id(id)).map(ToOwned::to_owned),
            traceparent: traceparent.and_then(sampled),
        }
    }

    /// Makes `span` a child of this cause, and answers what work inside the span carries on: the
    /// span's own context when traces are exported, this one when they are not.
    #[must_use]
    pub fn enter(&self, span: &Span) -> Self {
        if let Some(traceparent) = &self.traceparent {
            follow(span, traceparent);
        }
        let own = span.context();
        let own = own.span();
        let context = own.span_context();
        if !context.is_valid() {
            return self.clone();
        }
        Self { request_id: self.request_id.clone(), traceparent: written(context) }
    }
}

/// Makes `span` a child of what `traceparent` names, also when that is not sampled: the service that starts a trace
/// decides for every service after it.
pub fn follow(span: &Span, traceparent: &str) {
    let parent =
        opentelemetry::global::get_text_map_propagator(|propagator| propagator.extract(&Carrier { traceparent }));
    // Without an exporter there is nothing to attach to, which is no fault.
    drop(span.set_parent(parent));
}

/// Visible ASCII, not longer than [`REQUEST_ID_LENGTH`]: fit for headers and log lines.
fn is_request_id(id: &str) -> bool {
    (1..=REQUEST_ID_LENGTH).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The context of a `traceparent`, where it is well-formed and sampled. Written anew, so that what is carried on has
/// one form and one length, whatever a caller appended.
fn sampled(traceparent: &str) -> Option<String> {
    let context = TraceContextPropagator::new().extract(&Carrier { traceparent });
    let context = context.span();
    written(context.span_context())
}

/// A sampled context as a `traceparent` of version 00 (W3C Trace Context, section 3.2).
fn written(context: &SpanContext) -> Option<String> {
    let is_sampled = context.is_valid() && context.is_sampled();
    is_sampled.then(|| format!("00-{}-{}-01", context.trace_id(), context.span_id()))
}

/// A header as the propagator reads it.
struct Carrier<'a> {
    traceparent: &'a str,
}

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        (key == "traceparent").then_some(self.traceparent)
    }

    fn keys(&self) -> Vec<&str> {
        vec!["traceparent"]
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry_sdk::trace::Sampler::AlwaysOn;

    use super::*;

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_sampled_context_is_carried_on() {
        let context = RequestContext::carried(Some("req-7"), Some(SAMPLED));
        assert_eq!(context.traceparent.as_deref(), Some(SAMPLED));
        assert_eq!(context.enter(&Span::none()), context);
    }

    #[test]
    fn whoever_starts_a_trace_decides_whether_it_is_sampled() {
        use opentelemetry::trace::TracerProvider;
        use tracing_subscriber::layer::SubscriberExt;
        let sampler = opentelemetry_sdk::trace::Sampler::ParentBased(Box::new(AlwaysOn));
        let provider = opentelemetry_sdk::trace::SdkTracerProvider::builder().with_sampler(sampler).build();
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
        opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            let carried_on = |traceparent: &str| {
                let span = tracing::info_span!("request");
                follow(&span, traceparent);
                RequestContext::none().enter(&span).traceparent
            };
            let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
            assert!(carried_on(SAMPLED).is_some_and(|carried| carried.contains(trace) && carried != SAMPLED));
            assert_eq!(carried_on(&SAMPLED.replace("b7-01", "b7-00")), None);
            assert!(carried_on("garbage").is_some_and(|carried| !carried.contains(trace)));
        });
    }

    #[test]
    fn what_is_malformed_or_not_sampled_is_dropped() {
        for context in [
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "garbage",
            "",
        ] {
            assert_eq!(RequestContext::carried(None, Some(context)), RequestContext::none(), "{context}");
        }
        for id in ["", "two words", "new\nline", &"x".repeat(129)] {
            assert_eq!(RequestContext::carried(Some(id), None), RequestContext::none(), "{id}");
        }
    }
}
