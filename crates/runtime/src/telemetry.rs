//! Log lines and traces of a process.

use std::{fmt, io::IsTerminal, time::Duration};

use anyhow::Context;
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{Sampler, SdkTracerProvider},
};
use tracing::{Event, Subscriber, dispatcher};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::Targets,
    fmt::{
        FmtContext, FormatEvent, FormatFields,
        format::{Format, Json, Writer},
    },
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::config::{LogFormat, RuntimeConfig};

/// How long the last traces may take at the end: Kubernetes' grace is to cover that as well.
pub const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Keeps traces flowing until it is closed.
pub(crate) struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

impl Telemetry {
    /// Starts logging to standard error, and exporting traces where an endpoint is configured.
    /// Must run inside the runtime that exports.
    pub(crate) fn start(config: &RuntimeConfig) -> anyhow::Result<Self> {
        let filter = filter(&config.log_filter)?;
        let lines = match config.log_format {
            LogFormat::Text => {
                let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
                // Colours are for eyes; a file is also read by programs.
                if std::io::stderr().is_terminal() { lines.boxed() } else { lines.with_ansi(false).boxed() }
            }
            LogFormat::Json => {
                let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).json();
                lines.map_event_format(WithTraceId).boxed()
            }
        };
        let provider = match (config.traces_endpoint.as_deref(), config.log_format) {
            (Some(at), _) => Some(provider(at, config.traces_share)?),
            (None, LogFormat::Json) => Some(provider_of_ids()),
            (None, LogFormat::Text) => None,
        };
        let traces = provider.as_ref().map(|provider| {
            opentelemetry::global::set_text_map_propagator(TraceContextPropagator::new());
            tracing_opentelemetry::layer().with_tracer(provider.tracer("flightbell"))
        });
        tracing_subscriber::registry().with(filter).with(lines).with(traces).try_init().context("start logging")?;
        Ok(Self { provider })
    }

    /// Sends what is left of the traces.
    pub(crate) fn close(self) {
        if let Some(Err(error)) = self.provider.map(|provider| provider.shutdown_with_timeout(CLOSE_LIMIT)) {
            tracing::warn!("send the last traces: {error}");
        }
    }
}

/// Which lines and spans there are. Directives that name spans or their fields are looked at whenever a span is entered,
/// several times a request; those that name levels and targets, which is usual, are not.
fn filter<S>(directives: &str) -> anyhow::Result<Box<dyn Layer<S> + Send + Sync>>
where
    S: Subscriber + for<'s> LookupSpan<'s>,
{
    // What `Targets` would read, but not as it is meant: spans, and parts that are empty or cut short.
    let is_plain =
        |part: &str| !part.trim().is_empty() && !part.contains(['[', '{']) && !part.trim_end().ends_with('=');
    if directives.split(',').all(is_plain)
        && let Ok(targets) = directives.parse::<Targets>()
    {
        return Ok(targets.boxed());
    }
    let filter: EnvFilter = directives.parse().context("read the log filter")?;
    Ok(filter.boxed())
}

fn provider(endpoint: &str, share: f64) -> anyhow::Result<SdkTracerProvider> {
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .context("prepare the export of traces")?;
    // The service that starts a trace decides whether it is sampled; the services after it follow.
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(share)));
    Ok(SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_sampler(sampler)
        .with_resource(Resource::builder().with_service_name("flightbell").build())
        .build())
}

/// Gives lines their trace ids where nothing is exported. A trace that begins here is not sampled, so it is not carried
/// on; that of a caller is.
fn provider_of_ids() -> SdkTracerProvider {
    SdkTracerProvider::builder().with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOff))).build()
}

/// Lines of JSON, each with the id of its span's trace at the top, where programs look that lead from a line to a
/// trace. Has no effect on lines outside of spans.
struct WithTraceId(Format<Json>);

impl<S, N> FormatEvent<S, N> for WithTraceId
where
    S: Subscriber + for<'s> LookupSpan<'s>,
    N: for<'w> FormatFields<'w> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let trace = context.parent_span().and_then(|span| {
            let of_span = |dispatch: &_| tracing_opentelemetry::get_otel_context(&span.id(), dispatch);
            let trace = dispatcher::get_default(of_span)?.span().span_context().clone();
            trace.is_valid().then(|| trace.trace_id())
        });
        let Some(trace) = trace else { return self.0.format_event(context, writer, event) };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        let fields = line.strip_prefix('{').ok_or(fmt::Error)?;
        write!(writer, "{{\"trace_id\":\"{trace}\",{fields}")
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;
    use tracing_subscriber::Registry;

    use super::*;

    /// Whether a line of `level` in a span `request` is written.
    fn writes(directives: &str, level: Level) -> bool {
        let subscriber = tracing_subscriber::registry().with(filter::<Registry>(directives).expect("directives"));
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("request");
            let _entered = span.enter();
            match level {
                Level::DEBUG => tracing::enabled!(Level::DEBUG),
                _ => tracing::enabled!(Level::INFO),
            }
        })
    }

    #[test]
    fn levels_and_targets_spans_and_parts_that_are_empty_mean_what_they_do_elsewhere() {
        for (directives, info, debug) in [
            ("info", true, false),
            ("debug", true, true),
            ("off", false, false),
            ("warn,runtime=debug", true, true),
            ("debug,runtime=warn", false, false),
            ("info,", true, false),
            ("warn,[request]=debug", true, true),
            ("warn,[request]=info", true, false),
            ("warn,[other]=debug", false, false),
        ] {
            assert_eq!(
                (writes(directives, Level::INFO), writes(directives, Level::DEBUG)),
                (info, debug),
                "{directives}"
            );
        }
    }
}
