#![doc = include_str!("../README.md")]

pub mod config;
pub mod core;
pub mod fan_out;
pub mod http;
pub mod message;
pub mod metrics;
pub mod opensky;
pub mod relay;
pub mod store;

mod clock_check;
mod collect;
mod grpc;
mod retention;
mod users;
mod wake;

#[cfg(test)]
mod readme_tests;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use anyhow::Context;
use chrono::TimeDelta;
use contracts::topics::Namespace;
use shell::{
    Shell, StoppedEarly,
    config::{ConfigError, Vars},
    http::idempotency,
    lease, periodic,
    postgres::{self, Database, jobs::Runner},
    readiness::Need,
    service::{Bound, ClockKind, Configured, Launch, ServiceSpec},
};
use stream::{KafkaConfig, Producer, Profile};

pub use config::Config;

use self::{
    collect::Collector,
    core::credits::Tier,
    fan_out::FanOut,
    http::Api,
    metrics::Metrics,
    opensky::OpenSky,
    relay::{Evaluations, Relay, Removals},
    store::{
        Store,
        outbox::{EVALUATION, REMOVAL},
    },
    users::Users,
    wake::Wake,
};

/// What a process must know of this service.
pub static SERVICE: ServiceSpec = ServiceSpec {
    name: "data-collector",
    migrations: Some(&store::MIGRATOR),
    http: true,
    grpc: true,
    clock: ClockKind::Flights,
    configure,
};

fn configure(vars: &dyn Vars) -> Result<Configured, ConfigError> {
    let mut config = Config::from_vars(vars)?;
    Ok(Configured::new(config.shell.clone(), async move |launch: Launch| {
        config.http = launch.http.unwrap_or(config.http);
        config.grpc = launch.grpc.unwrap_or(config.grpc);
        config.source = launch.data_source.unwrap_or(config.source);
        let running = start(config, &launch.shell).await?;
        Ok(Bound { http: Some(running.http), grpc: Some(running.grpc) })
    }))
}

/// The name of the leader's lease.
const COLLECTION: &str = "data-collector-collection";

/// The store, once there is one.
pub type Stored = postgres::Stored<Store>;

/// Where the service answers.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    /// HTTP.
    pub http: SocketAddr,
    /// gRPC.
    pub grpc: SocketAddr,
}

/// Begins to answer, waits for what it depends on, then works until the shell stops.
///
/// # Errors
/// When an address cannot be bound or a migration applied, or the shell stops first.
pub async fn start(config: Config, shell: &Shell) -> anyhow::Result<Running> {
    let Config { database, kafka, topics, http, grpc, retention_days, .. } = config;
    let metrics = Metrics::register(&shell.registry).context("register the metrics")?;
    let tier = if config.open_sky.credentials.is_some() { Tier::Standard } else { Tier::Anonymous };
    let opensky = OpenSky::new(config.open_sky, metrics.clone()).context("create the OpenSky client")?;
    let stored = Stored::default();
    let users = Users::new(shell, config.user_manager);
    let api = Api { stored: stored.clone(), users, clock: shell.clock, interests_per_user: config.interests_per_user };
    let http = shell::http::serve(shell, http, http::routes(api)).await?;
    let grpc = shell::grpc::serve(shell, grpc, grpc::service(stored.clone(), shell.clock)).await?;

    // What only needs PostgreSQL is answered while Kafka is still away.
    shell.tasks.spawn("kafka topics", create_topics(kafka.clone(), topics.clone(), shell.clone()));
    let pools = postgres::connect(shell, &database, &store::MIGRATOR).await?;
    stored.set(Store::new(pools.requests));
    grpc.set_serving().await;
    // From here on everything is background work.
    let store = Store::new(pools.background);
    let topic = topics.to_alert_system();
    let fan_out = Producer::new(&kafka, Profile::Throughput, &topic, Need::Optional, shell)?;
    let at_once = Producer::new(&kafka, Profile::Latency, &topic, Need::Optional, shell)?;
    let interval = TimeDelta::from_std(config.collect_interval).context("read the interval")?;
    let wake = Wake::default();

    let fan_out = FanOut { store: store.clone(), producer: fan_out, topic: topic.clone() };
    let relay = Relay { producer: at_once, topic, clock: shell.clock, interval };
    let collector = Collector {
        shell: shell.clone(),
        store: store.clone(),
        opensky,
        metrics,
        source: config.source,
        interval,
        tier,
        wake: wake.collect.clone(),
        part: collect::part(&shell.readiness),
        today: Mutex::default(),
        failures: collect::Failures::default(),
    };
    let runner = Runner::new(shell, store.pool().clone()).context("register the metrics of jobs")?;
    runner.spawn_batches(EVALUATION, Evaluations::settings(), Evaluations(relay.clone()));
    runner.spawn_batches(REMOVAL, Removals::settings(), Removals(relay));
    let kept = [
        retention::clean_up(shell.clock, &database, store.clone(), retention_days),
        idempotency::clean_up(store.pool().clone()),
    ];
    periodic::spawn(shell, runner.upkeep().into_iter().chain(kept));
    let listener = runner.listen(wake::listener(wake.clone()));
    shell.tasks.spawn("notifications", listener.run(shell.clone(), database.clone()));
    spawn(database, shell, wake, fan_out, collector);
    Ok(Running { http, grpc: grpc.addr })
}

/// Creates what the readings are written to, as long as Kafka is away.
async fn create_topics(kafka: KafkaConfig, topics: Namespace, shell: Shell) -> anyhow::Result<()> {
    match stream::topics::ensure(&kafka, &topics, SERVICE.name, Need::Optional, &shell).await {
        Err(error) if error.is::<StoppedEarly>() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            shell.tasks.stopping().cancelled().await;
            Ok(())
        }
    }
}

fn spawn(database: Database, shell: &Shell, wake: Wake, fan_out: FanOut, collector: Collector) {
    let fanning_out = wake::work(shell.clone(), "fan-out", wake.readings, move || {
        let fan_out = fan_out.clone();
        async move { fan_out.page().await }
    });
    shell.tasks.spawn_droppable("fan-out", fanning_out);
    let collector = Arc::new(collector);
    let collecting = lease::lead(shell.clone(), database, COLLECTION, move |term| collector.clone().lead(term));
    shell.tasks.spawn("collection", collecting);
}
