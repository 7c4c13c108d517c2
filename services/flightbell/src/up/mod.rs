//! `flightbell up`: every service in this process, and the servers they need beside it.
//!
//! The order is the point. Settings are checked before anything is touched, the data directory is
//! ours before anything is started, the servers run before the services, and on the way down the
//! services finish before Kafka stops, and Kafka before PostgreSQL.

mod servers;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use local_servers::{Addresses, DataDir, Discovery, free_bytes};
use runtime::{
    Process, ServiceRuntime, StoppedEarly,
    clock::Clock,
    config::{ConfigError, Overlay, Reader, RuntimeConfig, Vars},
    readiness::Criticality,
};
use secrecy::ExposeSecret;

use self::servers::Servers;
use crate::{
    bind_guard, cli,
    effective::Effective,
    gateway, paths,
    services::{Clocks, Listeners, Runtimes, ServiceList},
    settings::{self, ExternalServers},
};

/// Below this much free disk the process is not ready: PostgreSQL and Kafka need room to go on.
pub(crate) const LEAST_FREE: u64 = 1024 * 1024 * 1024;

/// How often the free disk is looked at, for the log.
const DISK_INTERVAL: Duration = Duration::from_secs(5);

/// What `up` runs on. `demo` makes one of its own.
pub struct Setup<'a> {
    /// What runs.
    pub services: ServiceList,
    /// The environment.
    pub vars: &'a dyn Vars,
    /// The data directory.
    pub folder: PathBuf,
    /// Where HTTPS is served.
    pub listen: SocketAddr,
    /// The clocks of the services.
    pub clocks: Clocks,
    /// The source of flights in words, when it is not OpenSky itself.
    pub source: Option<String>,
}

/// Runs everything until a signal.
///
/// # Errors
/// Settings that cannot be used, a data directory in use, servers that cannot be run, or the first
/// part that died.
pub async fn run(args: cli::Up, services: ServiceList, vars: &dyn Vars) -> anyhow::Result<()> {
    let folder = what_was_asked(&args, services, vars)?;
    let clocks = Clocks { flights: Clock::system() };
    let setup = Setup { services, vars, folder, listen: args.listen, clocks, source: None };
    run_with(setup, async |_| Ok(())).await
}

/// The data directory; or everything that is wrong with arguments and settings, at once.
fn what_was_asked(args: &cli::Up, services: ServiceList, vars: &dyn Vars) -> Result<PathBuf, ConfigError> {
    let (folder, nowhere) = match paths::data_dir(args.data_dir.clone(), vars) {
        Ok(folder) => (folder, None),
        Err(error) => (PathBuf::new(), Some(error)),
    };
    let refused = bind_guard::refuse("--listen", args.listen, args.insecure_open).err();
    let wrong = settings::check(services, vars).and_then(|(_, external)| discovery(vars, &external)).err();
    ConfigError::joined([refused, nowhere, wrong].into_iter().flatten()).map_or(Ok(folder), Err)
}

/// Runs everything until a signal; `then` is called once requests are answered, with the address.
///
/// # Errors
/// As [`run`].
pub async fn run_with(
    setup: Setup<'_>,
    then: impl AsyncFnOnce(SocketAddr) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (config, external) = settings::check(setup.services, setup.vars)?;
    let discovery = discovery(setup.vars, &external)?;
    let data = DataDir::open(&setup.folder)?;
    // Bound at the very end, when requests can be answered; that it is taken is told before the wait.
    drop(gateway::bind(setup.listen, "HTTPS", "--listen").await?);
    let mut process = Process::start(&config)?;
    Effective::of(setup.services, setup.vars, &external).log();
    let runtimes = Runtimes::of(&mut process, setup.services, setup.clocks);
    let host = process.runtime("flightbell", Clock::system());

    let starting = Servers::start(setup.services, &external, &discovery, &data);
    let servers = tokio::select! {
        started = starting => started?,
        () = process.stopping().cancelled() => return Err(StoppedEarly.into()),
    };
    process.on_forced_exit(servers.ender());
    let started = start(&setup, &config, &external, &data, &servers, (&process, &runtimes, &host)).await;
    let ready = match started {
        Ok(addr) => then(addr).await,
        Err(error) => Err(error),
    };
    if ready.is_err() {
        process.stopping().cancel();
    }
    let ended = process.run().await;
    servers.stop().await;
    data.remove_addresses()?;
    // Why it could not start says more than what its parts said when they were stopped.
    ready.and(ended)
}

async fn start(
    setup: &Setup<'_>,
    config: &RuntimeConfig,
    external: &ExternalServers,
    data: &DataDir,
    servers: &Servers,
    (process, runtimes, host): (&Process, &Runtimes, &ServiceRuntime),
) -> anyhow::Result<SocketAddr> {
    host.tasks.spawn("the private servers", servers.watch(process.stopping().clone()));
    watch_disk(host, data);
    let listeners = Listeners::bind(setup.services)?;
    let private = servers.addresses(setup.services, listeners.grpc()?);
    // What the operator named may hold passwords, and stays in the operator's environment.
    let urls = private.databases.iter().map(|(name, url)| ((*name).to_owned(), url.expose_secret().to_owned()));
    let databases = urls.collect();
    let addresses = external.filled(private);
    // Nothing else could migrate a private database.
    let vars = match external.databases {
        Some(_) => Overlay::on(setup.vars),
        None => Overlay::on(setup.vars).by(settings::UP).with("MIGRATE_AT_START", "true"),
    };
    let services = settings::configure(setup.services, &vars, &addresses)?;
    let upstreams = gateway::Upstreams::on_this_machine(listeners.http()?)?;
    let admin = http_edge::admin::serve(process, config.admin_addr).await?;
    data.write_addresses(&Addresses { admin: admin.to_string(), kafka: addresses.kafka, databases })?;
    runtimes.start(services, listeners, setup.source.as_deref()).await?;
    let certificates = data.path().join("tls");
    let addr = gateway::serve(host, setup.listen, &certificates, upstreams, setup.source.as_deref()).await?;
    process.started();
    gateway::announce(addr);
    Ok(addr)
}

/// Where the programs are, as the environment says.
///
/// # Errors
/// When there is no home to look in.
pub(crate) fn discovery(vars: &dyn Vars, external: &ExternalServers) -> Result<Discovery, ConfigError> {
    let mut reader = Reader::new(vars);
    let path = reader.raw("PATH").unwrap_or_default();
    reader.finish(|| Some(()))?;
    // Nothing is looked for in a home where Kafka's jars are named, or Kafka runs elsewhere.
    let is_elsewhere = external.kafka.is_some() || external.kafka_home.is_some();
    let cache = paths::cache_home(vars).or_else(|error| if is_elsewhere { Ok(PathBuf::new()) } else { Err(error) })?;
    Ok(Discovery::new(path.into(), external.java_home.clone(), external.kafka_home.clone(), cache))
}

fn watch_disk(host: &ServiceRuntime, data: &DataDir) {
    let (path, stopping) = (data.path().to_owned(), host.tasks.stopping().clone());
    let watched = path.clone();
    host.readiness.check("disk", Criticality::Required, move || {
        let path = watched.clone();
        async move { enough_room(&path).map_err(|error| format!("{error:#}")) }
    });
    host.tasks.spawn("watch the disk", async move {
        let mut was_short = false;
        loop {
            let room = enough_room(&path);
            match &room {
                Err(error) if !was_short => tracing::warn!("not ready: {error:#}"),
                Ok(()) if was_short => tracing::info!("there is enough room at {} again", path.display()),
                _ => {}
            }
            was_short = room.is_err();
            tokio::select! {
                () = stopping.cancelled() => return Ok(()),
                () = tokio::time::sleep(DISK_INTERVAL) => {}
            }
        }
    });
}

fn enough_room(path: &std::path::Path) -> anyhow::Result<()> {
    let free = free_bytes(path).context("look at the free disk")?;
    if free < LEAST_FREE {
        bail!("{} MiB are free at {}, and 1024 are needed: make room", free / 1024 / 1024, path.display());
    }
    Ok(())
}
