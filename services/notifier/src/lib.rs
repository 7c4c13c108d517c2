#![doc = include_str!("../README.md")]

pub mod config;
pub mod consumer;
pub mod core;
pub mod delivery;
pub mod health;
pub mod metrics;
pub mod reports;
pub mod sender;
pub mod store;
pub mod telegram;
pub mod user_client;

mod grpc;
mod maintenance;

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use events::topics::{NOTIFIER_GROUP, TO_NOTIFIER, TOPICS};
use kafka::{Consumer, Producer, Profile, Subscription, topics};
use pg::{clock::SteadyClock, jobs::Runner, lease};
use runtime::{
    ServiceRuntime,
    config::{ConfigError, Vars},
    periodic,
    readiness::Criticality,
};
use service::{Bound, ClockKind, Configured, Launch, ServiceSpec};
use sqlx::migrate::Migrator;
use tokio::sync::Notify;

use crate::{
    consumer::AlertConsumer,
    delivery::{Deliveries, DeliveryDeps},
    health::Health,
    metrics::Metrics,
    reports::Reports,
    sender::Sender,
    store::{Store, UNDELIVERED_REPORT},
    telegram::Telegram,
    user_client::UserClient,
};

pub use config::Config;

/// The notifier's tables.
pub static MIGRATOR: Migrator = sqlx::migrate!("../../migrations/notifier");

/// What a process must know of this service.
pub static SERVICE: ServiceSpec = ServiceSpec {
    name: "notifier",
    migrations: Some(&MIGRATOR),
    http: false,
    grpc: true,
    topics: TOPICS,
    clock: ClockKind::Flights,
    configure,
};

fn configure(vars: &dyn Vars) -> Result<Configured, ConfigError> {
    let mut config = Config::from_vars(vars)?;
    Ok(Configured::new(config.runtime.clone(), config.settings.clone(), async move |launch: Launch| {
        config.grpc = launch.grpc.unwrap_or(config.grpc);
        let running = start(config, &launch.runtime).await?;
        Ok(Bound { http: None, grpc: Some(running.grpc) })
    }))
}

/// The lease of the replica that sends.
const SENDING: &str = "notifier-sending";

/// A notifier that runs.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    /// Where it serves gRPC.
    pub grpc: SocketAddr,
}

/// Waits for what it depends on, and starts.
///
/// # Errors
/// When an address cannot be bound, the database cannot be migrated, or the service stops first.
pub async fn start(config: Config, runtime: &ServiceRuntime) -> anyhow::Result<Running> {
    let metrics = Metrics::register(&runtime.registry).context("register the metrics")?;
    let telegram = Telegram::new(&config.telegram)?;
    let health = Health::new(runtime);
    let db = grpc::DbHandle::default();
    let grpc = grpc_edge::serve(runtime, config.grpc, grpc::service(db.clone())).await?;

    let (pools, ()) = tokio::try_join!(
        pg::connect(runtime, &config.database, &MIGRATOR),
        topics::ensure(&config.kafka, &config.topics, SERVICE.name, Criticality::Required, runtime),
    )?;
    db.set(Store::new(pools.requests));
    let store = Store::new(pools.background);
    grpc.set_serving().await;
    let topic = config.topics.topic(&TO_NOTIFIER);
    // The notifier produces nothing but dead letters.
    let dead_letters = Producer::new(&config.kafka, Profile::Latency, &topic, Criticality::Required, runtime)?;
    let subscription = Subscription::of(&config.topics, &TO_NOTIFIER, &NOTIFIER_GROUP)?;
    let consumer = Consumer::new(&config.kafka, subscription, &dead_letters, runtime)?;

    let news = Arc::new(Notify::new());
    let user_client = UserClient::new(runtime, config.user_manager);
    let deliveries = Deliveries::new(DeliveryDeps {
        store: store.clone(),
        user_client: user_client.clone(),
        metrics: metrics.clone(),
        sending: config.sending,
        tasks: runtime.tasks.clone(),
        telegram: telegram.clone(),
        call_limit: config.telegram.call_limit,
        clock: runtime.clock,
        health: health.clone(),
        news: news.clone(),
    });
    runtime.tasks.spawn_short("token check", health.check_token(telegram, runtime.clone()));
    consumer.spawn(AlertConsumer::new(store.clone(), topic, news.clone()), runtime);
    let runner = Runner::new(runtime, store.pool().clone()).context("register the metrics of jobs")?;
    runner.spawn_each(UNDELIVERED_REPORT, reports::settings(), Reports { store: store.clone(), user_client });
    let listener = runner.listen(maintenance::listener(news));
    runtime.tasks.spawn("notifications", listener.run(runtime.clone(), config.database.clone()));
    let clock = SteadyClock::new(config.sending.cleaning_steady_time);
    let kept = [maintenance::count(store.clone(), metrics), maintenance::clean_up(store, clock)];
    periodic::spawn(runtime, runner.upkeep().into_iter().chain(kept));
    let leading = lease::run_as_leader(runtime.clone(), config.database, SENDING, move |term| {
        Sender::new(deliveries.clone(), term).run()
    });
    runtime.tasks.spawn("sender", leading);
    Ok(Running { grpc: grpc.addr })
}
