//! What every process takes from the environment.

use std::{fmt, net::SocketAddr, str::FromStr, time::Duration};

use url::Url;

use super::{Reader, without_password};

/// The longest lame duck in seconds: with what a server then drains it fits into the time in which a process stops
/// ([`crate::tasks::STOP_LIMIT`]).
pub const LONGEST_LAME_DUCK: u64 = 8;

/// What every process takes from the environment.
#[derive(Clone, Debug)]
pub struct RuntimeConfig {
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub admin_addr: SocketAddr,
    /// How long, once the process stops, HTTP is still answered so that callers move to another replica. Zero
    /// where nobody takes over.
    pub lame_duck: Duration,
    /// How log lines look.
    pub log_format: LogFormat,
    /// Which log lines appear, in the syntax of `tracing_subscriber::EnvFilter`.
    pub log_filter: String,
    /// Where traces go; nothing is exported without it.
    pub traces_endpoint: Option<String>,
    /// The share of traces that start here and are sampled, from 0 to 1.
    pub traces_share: f64,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For a person at a terminal.
    #[default]
    Text,
    /// One JSON object a line, for a log store.
    Json,
}

impl FromStr for LogFormat {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err("it must be text or json"),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

impl RuntimeConfig {
    /// Reads the keys that every process shares.
    pub fn read(reader: &mut Reader<'_>) -> Self {
        let traces_share = reader.or("OTEL_TRACES_SAMPLER_ARG", 1.0);
        if !(0.0..=1.0).contains(&traces_share) {
            reader.problem(format!("OTEL_TRACES_SAMPLER_ARG={traces_share} cannot be used: it must be from 0 to 1"));
        }
        let log_filter = reader.or("RUST_LOG", "info".to_owned());
        if let Err(error) = log_filter.parse::<tracing_subscriber::EnvFilter>() {
            reader.problem(format!("RUST_LOG={log_filter:?} cannot be used: {error}"));
        }
        Self {
            admin_addr: reader.or("ADMIN_ADDR", SocketAddr::from(([0, 0, 0, 0], 9090))),
            lame_duck: Duration::from_secs(reader.number("LAME_DUCK_SECONDS", 0, 0, LONGEST_LAME_DUCK)),
            log_format: reader.or("LOG_FORMAT", LogFormat::default()),
            log_filter,
            traces_endpoint: traces_endpoint(reader),
            traces_share,
        }
    }
}

/// The exporter sends no user and password, so an address with them would not do what it says.
fn traces_endpoint(reader: &mut Reader<'_>) -> Option<String> {
    const KEY: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
    let url: Url = reader.optional(KEY)?;
    if !url.username().is_empty() || url.password().is_some() {
        let shown = without_password(url.as_str());
        reader.problem(format!("{KEY}={shown:?} cannot be used: it must not hold a user or a password"));
        return None;
    }
    Some(url.into())
}
