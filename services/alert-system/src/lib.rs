#![doc = include_str!("../README.md")]

pub mod core;
pub mod handler;
pub mod metrics;
pub mod store;

mod config;
mod memory;

use std::time::Duration;

use anyhow::Context;
use events::topics::{ALERT_SYSTEM_GROUP, TO_ALERT_SYSTEM, TO_NOTIFIER, TOPICS};
use kafka::{Consumer, Producer, Profile, Subscription, topics};
use pg::clock::SteadyClock;
use runtime::{
    ServiceRuntime,
    config::{ConfigError, Vars},
    periodic::{self, Periodic},
    readiness::Criticality,
};
use service::{Bound, ClockKind, Configured, Launch, ServiceSpec};

pub use config::Config;

use handler::AlertHandler;
use metrics::Metrics;
use store::LevelStore;

/// The worker's database.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!("../../migrations/alert-system");

/// What a process must know of this service.
pub static SERVICE: ServiceSpec = ServiceSpec {
    name: "alert-system",
    migrations: Some(&MIGRATOR),
    http: false,
    grpc: false,
    topics: TOPICS,
    clock: ClockKind::System,
    configure,
};

fn configure(vars: &dyn Vars) -> Result<Configured, ConfigError> {
    let config = Config::from_vars(vars)?;
    Ok(Configured::new(config.runtime.clone(), config.settings.clone(), async move |launch: Launch| {
        start(config, &launch.runtime).await?;
        Ok(Bound::default())
    }))
}

/// How often rows of interests that were removed long ago are looked for, and the clock is looked at.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(60);
/// How long looking for them may take.
const CLEANUP_LIMIT: Duration = Duration::from_secs(60);

/// The worker runs. It has no address of its own.
#[derive(Clone, Copy, Debug)]
pub struct Running;

/// Waits for PostgreSQL and Kafka, then works in the runtime's tasks until it stops.
///
/// # Errors
/// When the service stops first, or the database or the topics cannot be prepared.
pub async fn start(config: Config, runtime: &ServiceRuntime) -> anyhow::Result<Running> {
    let (pools, ()) = tokio::try_join!(
        pg::connect(runtime, &config.database, &MIGRATOR),
        topics::ensure(&config.kafka, &config.topics, SERVICE.name, Criticality::Required, runtime),
    )?;
    let store = LevelStore::new(pools.background);
    let metrics = Metrics::register(&runtime.registry).context("register the worker's metrics")?;
    let to_notifier = config.topics.topic(&TO_NOTIFIER);
    let producer = Producer::new(&config.kafka, Profile::Latency, &to_notifier, Criticality::Required, runtime)?;
    let subscription = Subscription::of(&config.topics, &TO_ALERT_SYSTEM, &ALERT_SYSTEM_GROUP)?;
    let consumer = Consumer::new(&config.kafka, subscription, &producer, runtime)?;
    periodic::spawn(runtime, [clean_up(store.clone(), SteadyClock::default())]);
    consumer.spawn(AlertHandler::new(store, producer, metrics, &config.topics), runtime);
    Ok(Running)
}

fn clean_up(store: LevelStore, clock: SteadyClock) -> Periodic {
    Periodic::new("clean-up of removed interests", CLEANUP_INTERVAL, CLEANUP_LIMIT, move || {
        let (store, clock) = (store.clone(), clock.clone());
        async move {
            let count = store.forget_removed(&clock).await?;
            if count > 0 {
                tracing::info!("forgot {count} interests that were removed long ago");
            }
            Ok(())
        }
    })
}
