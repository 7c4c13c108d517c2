#![doc = include_str!("../README.md")]

use std::{future::Future, net::SocketAddr, pin::Pin, process::ExitCode};

use anyhow::Context;
use events::topics::Topic;
use runtime::{
    Process, ServiceRuntime,
    clock::Clock,
    config::{ConfigError, ProcessEnv, RuntimeConfig, Settings, Vars},
    exit_code,
    listen::Listen,
};
use sqlx::migrate::Migrator;

/// What a process must know of a service before it starts it.
pub struct ServiceSpec {
    /// The name in paths, metrics, logs and file names, such as `user-manager`.
    pub name: &'static str,
    /// The tables of the service's own database; none when it has no database.
    pub migrations: Option<&'static Migrator>,
    /// Whether it serves HTTP, and so has paths behind the gateway.
    pub http: bool,
    /// Whether it serves gRPC, and so has an address that others are told.
    pub grpc: bool,
    /// The table of the topics that it works with: the shared one (`events::topics::TOPICS`), or one of its
    /// own for topics that no other service names. What the service owns and reads follows from the rows by its
    /// name, so that a row is the one place to edit; rows of others in the table do no harm. Empty when it has
    /// nothing to do with Kafka.
    pub topics: &'static [Topic],
    /// The clock that it is given in a replay.
    pub clock: ClockKind,
    /// Reads its settings.
    pub configure: fn(&dyn Vars) -> Result<Configured, ConfigError>,
}

/// Which clock a service follows when recorded traffic is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockKind {
    /// The system's, always.
    System,
    /// That of the flights: the replay's.
    Flights,
}

/// What a process hands to a service that it starts.
pub struct Launch {
    /// The service's runtime.
    pub runtime: ServiceRuntime,
    /// Takes the place of `HTTP_ADDR`.
    pub http: Option<Listen>,
    /// Takes the place of `GRPC_ADDR`.
    pub grpc: Option<Listen>,
    /// The source of the flights in words, when it is not OpenSky itself.
    pub data_source: Option<String>,
}

/// Where a started service answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// HTTP.
    pub http: Option<SocketAddr>,
    /// gRPC.
    pub grpc: Option<SocketAddr>,
}

type Starting = Pin<Box<dyn Future<Output = anyhow::Result<Bound>> + Send>>;

/// A service whose settings have been read, and which can be started once.
pub struct Configured {
    process: RuntimeConfig,
    settings: Settings,
    start: Box<dyn FnOnce(Launch) -> Starting + Send>,
}

impl ServiceSpec {
    /// The key of its database where several services share one environment: `USER_MANAGER_DATABASE_URL`.
    #[must_use]
    pub fn database_key(&self) -> Option<String> {
        self.migrations.map(|_| format!("{}_DATABASE_URL", self.key_prefix()))
    }

    /// The name of its database in a private PostgreSQL: `user_manager`.
    #[must_use]
    pub fn database_name(&self) -> Option<String> {
        self.migrations.map(|_| self.name.replace('-', "_"))
    }

    /// The key under which callers are told its gRPC address: `USER_MANAGER_GRPC_URL`.
    #[must_use]
    pub fn grpc_key(&self) -> Option<String> {
        self.grpc.then(|| format!("{}_GRPC_URL", self.key_prefix()))
    }

    fn key_prefix(&self) -> String {
        self.name.replace('-', "_").to_uppercase()
    }
}

impl Launch {
    /// A service that is alone in its process and listens where its settings say.
    #[must_use]
    pub fn alone(runtime: ServiceRuntime) -> Self {
        Self { runtime, http: None, grpc: None, data_source: None }
    }
}

impl Configured {
    /// A service that `start` starts, in a process that is configured by `process`. `settings` are all that was read
    /// for it, as they may be shown.
    pub fn new<F, Fut>(process: RuntimeConfig, settings: Settings, start: F) -> Self
    where
        F: FnOnce(Launch) -> Fut + Send + 'static,
        Fut: Future<Output = anyhow::Result<Bound>> + Send + 'static,
    {
        Self { process, settings, start: Box::new(move |launch| Box::pin(start(launch))) }
    }

    /// The settings that were read for it, as they may be shown.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Starts the service, and waits until it has what it depends on.
    ///
    /// # Errors
    /// What the service's own start answers, with the service named.
    pub async fn start(self, launch: Launch) -> anyhow::Result<Bound> {
        let service = launch.runtime.service;
        let bound = (self.start)(launch).await.with_context(|| format!("start {service}"))?;
        tracing::info!(service, "{service} has started");
        Ok(bound)
    }
}

/// Runs `spec` as a process of its own until a signal or its first part that dies.
pub async fn run(spec: &'static ServiceSpec) -> ExitCode {
    exit_code(run_alone(spec, &ProcessEnv).await)
}

async fn run_alone(spec: &'static ServiceSpec, vars: &dyn Vars) -> anyhow::Result<()> {
    let configured = (spec.configure)(vars)?;
    let mut process = Process::start(&configured.process)?;
    configured.settings.log(spec.name, vars);
    let runtime = process.runtime(spec.name, Clock::system());
    http_edge::admin::serve(&process, configured.process.admin_addr).await?;
    configured.start(Launch::alone(runtime)).await?;
    process.run().await
}

#[cfg(test)]
mod tests {
    use super::*;

    static MIGRATOR: Migrator = Migrator::DEFAULT;

    fn spec(migrations: Option<&'static Migrator>, grpc: bool) -> ServiceSpec {
        let configure = |_: &dyn Vars| Err(ConfigError::of("never asked"));
        let (name, topics) = ("user-manager", &[]);
        ServiceSpec { name, migrations, http: true, grpc, topics, clock: ClockKind::System, configure }
    }

    #[test]
    fn a_service_is_found_under_keys_made_of_its_name() {
        let whole = spec(Some(&MIGRATOR), true);
        assert_eq!(whole.database_key().as_deref(), Some("USER_MANAGER_DATABASE_URL"));
        assert_eq!(whole.database_name().as_deref(), Some("user_manager"));
        assert_eq!(whole.grpc_key().as_deref(), Some("USER_MANAGER_GRPC_URL"));
    }

    #[test]
    fn what_a_service_lacks_has_no_key() {
        let bare = spec(None, false);
        assert_eq!((bare.database_key(), bare.database_name(), bare.grpc_key()), (None, None, None));
    }
}
