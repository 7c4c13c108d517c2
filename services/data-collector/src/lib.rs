#![doc = include_str!("../README.md")]

pub mod config;
pub mod core;
pub mod fan_out;
pub mod http;
pub mod message;
pub mod metrics;
pub mod opensky;
pub mod relay;
pub mod retention;
pub mod store;

mod clock_check;
mod collect;
mod grpc;
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
use events::topics::{Namespace, TO_ALERT_SYSTEM, TOPICS};
use http_edge::idempotency;
use kafka::{KafkaConfig, Producer, Profile};
use pg::{Database, clock::SteadyClock, jobs::Runner, lease};
use runtime::{
    ServiceRuntime, StoppedEarly,
    config::{ConfigError, Vars},
    periodic,
    readiness::Criticality,
};
use service::{Bound, ClockKind, Configured, Launch, ServiceSpec};

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
    topics: TOPICS,
    clock: ClockKind::Flights,
    configure,
};

fn configure(vars: &dyn Vars) -> Result<Configured, ConfigError> {
    let mut config = Config::from_vars(vars)?;
    Ok(Configured::new(config.runtime.clone(), config.settings.clone(), async move |launch: Launch| {
        config.http = launch.http.unwrap_or(config.http);
        config.grpc = launch.grpc.unwrap_or(config.grpc);
        config.source = launch.data_source.unwrap_or(config.source);
        let running = start(config, &launch.runtime).await?;
        Ok(Bound { http: Some(running.http), grpc: Some(running.grpc) })
    }))
}

/// The name of the leader's lease.
const COLLECTION: &str = "data-collector-collection";

/// The store, once there is one.
pub type DbHandle = pg::DbHandle<Store>;

/// Where the service answers.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    /// HTTP.
    pub http: SocketAddr,
    /// gRPC.
    pub grpc: SocketAddr,
}

/// Begins to answer, waits for what it depends on, then works until the service stops.
///
/// # Errors
/// When an address cannot be bound or a migration applied, or the service stops first.
pub async fn start(config: Config, runtime: &ServiceRuntime) -> anyhow::Result<Running> {
    let Config { database, kafka, topics, http, grpc, retention_days, .. } = config;
    let metrics = Metrics::register(&runtime.registry).context("register the metrics")?;
    let tier = if config.open_sky.credentials.is_some() { Tier::Standard } else { Tier::Anonymous };
    let opensky = OpenSky::new(config.open_sky, metrics.clone()).context("create the OpenSky client")?;
    let db = DbHandle::default();
    let users = Users::new(runtime, config.user_manager);
    let api = Api { db: db.clone(), users, clock: runtime.clock, interests_per_user: config.interests_per_user };
    let http = http_edge::serve(runtime, http, http::routes(api)).await?;
    let grpc = grpc_edge::serve(runtime, grpc, grpc::service(db.clone(), runtime.clock)).await?;

    // What only needs PostgreSQL is answered while Kafka is still away.
    runtime.tasks.spawn("kafka topics", create_topics(kafka.clone(), topics.clone(), runtime.clone()));
    let pools = pg::connect(runtime, &database, &store::MIGRATOR).await?;
    db.set(Store::new(pools.requests));
    grpc.set_serving().await;
    // From here on everything is background work.
    let store = Store::new(pools.background);
    let topic = topics.topic(&TO_ALERT_SYSTEM);
    let fan_out = Producer::new(&kafka, Profile::Throughput, &topic, Criticality::Optional, runtime)?;
    let at_once = Producer::new(&kafka, Profile::Latency, &topic, Criticality::Optional, runtime)?;
    let interval = TimeDelta::from_std(config.collect_interval).context("read the interval")?;
    let wake = Wake::default();

    let counting = fan_out::count(store.clone(), metrics.clone());
    let fan_out = FanOut { store: store.clone(), producer: fan_out, topic: topic.clone() };
    let relay = Relay { producer: at_once, topic, clock: runtime.clock, interval };
    let collector = Collector {
        runtime: runtime.clone(),
        store: store.clone(),
        opensky,
        metrics,
        source: config.source,
        interval,
        tier,
        wake: wake.collect.clone(),
        part: collect::part(&runtime.readiness),
        today: Mutex::default(),
        failures: collect::Failures::default(),
        logged_metrics: Mutex::default(),
    };
    let runner = Runner::new(runtime, store.pool().clone()).context("register the metrics of jobs")?;
    runner.spawn_batches(EVALUATION, Evaluations::settings(), Evaluations(relay.clone()));
    runner.spawn_batches(REMOVAL, Removals::settings(), Removals(relay));
    let cleaning = idempotency::clean_up(store.pool().clone(), SteadyClock::new(idempotency::STEADY_TIME));
    periodic::spawn(runtime, runner.upkeep().into_iter().chain([cleaning, counting]));
    retention::spawn(runtime, &database, store, retention_days);
    let listener = runner.listen(wake::listener(wake.clone()));
    runtime.tasks.spawn("notifications", listener.run(runtime.clone(), database.clone()));
    spawn(database, runtime, wake, fan_out, collector);
    Ok(Running { http, grpc: grpc.addr })
}

/// Creates what the readings are written to, as long as Kafka is away.
async fn create_topics(kafka: KafkaConfig, topics: Namespace, runtime: ServiceRuntime) -> anyhow::Result<()> {
    match kafka::topics::ensure(&kafka, &topics, SERVICE.name, Criticality::Optional, &runtime).await {
        Err(error) if error.is::<StoppedEarly>() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            runtime.tasks.stopping().cancelled().await;
            Ok(())
        }
    }
}

fn spawn(database: Database, runtime: &ServiceRuntime, wake: Wake, fan_out: FanOut, collector: Collector) {
    let fanning_out = wake::work(runtime.clone(), "fan-out", wake.readings, move || {
        let fan_out = fan_out.clone();
        async move { fan_out.page().await }
    });
    runtime.tasks.spawn_droppable("fan-out", fanning_out);
    let collector = Arc::new(collector);
    let collecting =
        lease::run_as_leader(runtime.clone(), database, COLLECTION, move |term| collector.clone().run(term));
    runtime.tasks.spawn("collection", collecting);
}
