//! The alert worker: readings in, alerts out, silence in between.
//!
//! It keeps for each interest which side of its thresholds the last known value was on, and tells
//! when that changes: once on a crossing, once when the value is back. It never collects, never
//! sends to a person, never looks at a clock: what is decided follows from the messages alone.
//!
//! ```text
//! to-alert-system ──▶ read ──▶ look up ──▶ decide ──▶ tell ──▶ write down ──▶ offset
//!                      │     (memory, rows)           │            │
//!                   rejected                    to-notifier   PostgreSQL
//! ```
//!
//! Alerts are acknowledged before the rows are written, and the rows are written before the offset
//! moves, so a crash anywhere repeats work and loses none. A repeated alert carries the same
//! `event_id`. That nothing else is ever repeated, though a row may be behind what was decided, is
//! argued in `core/keep.rs` and played out in the test beside it.

pub mod core;
pub mod handler;
pub mod metrics;
pub mod store;

mod config;
mod memory;

use std::time::Duration;

use anyhow::Context;
use shell::{
    Shell,
    config::{ConfigError, Vars},
    periodic::{self, Periodic},
    postgres,
    readiness::Need,
    service::{Bound, ClockKind, Configured, Launch, ServiceSpec},
};
use stream::{Consumer, Producer, Profile, Subscription, topics};

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
    clock: ClockKind::System,
    configure,
};

fn configure(vars: &dyn Vars) -> Result<Configured, ConfigError> {
    let config = Config::from_vars(vars)?;
    Ok(Configured::new(config.shell.clone(), async move |launch: Launch| {
        start(config, &launch.shell).await?;
        Ok(Bound::default())
    }))
}

/// How often rows of interests that were removed long ago are looked for.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(3600);
/// How long looking for them may take.
const CLEANUP_LIMIT: Duration = Duration::from_secs(60);

/// The worker runs. It has no address of its own.
#[derive(Clone, Copy, Debug)]
pub struct Running;

/// Waits for PostgreSQL and Kafka, then works in the shell's tasks until it stops.
///
/// # Errors
/// When the shell stops first, or the database or the topics cannot be prepared.
pub async fn start(config: Config, shell: &Shell) -> anyhow::Result<Running> {
    let (pools, ()) = tokio::try_join!(
        postgres::connect(shell, &config.database, &MIGRATOR),
        topics::ensure(&config.kafka, &config.topics, SERVICE.name, Need::Required, shell),
    )?;
    let store = LevelStore::new(pools.background);
    let metrics = Metrics::register(&shell.registry).context("register the worker's metrics")?;
    let to_notifier = config.topics.to_notifier();
    let producer = Producer::new(&config.kafka, Profile::Latency, &to_notifier, Need::Required, shell)?;
    let subscription = Subscription::new(config.topics.to_alert_system(), config.topics.alert_system_group());
    let consumer = Consumer::new(&config.kafka, subscription, &producer, shell)?;
    periodic::spawn(shell, [clean_up(store.clone())]);
    consumer.spawn(AlertHandler::new(store, producer, metrics, &config.topics), shell);
    Ok(Running)
}

fn clean_up(store: LevelStore) -> Periodic {
    Periodic::new("clean-up of removed interests", CLEANUP_INTERVAL, CLEANUP_LIMIT, move || {
        let store = store.clone();
        async move {
            let count = store.forget_removed().await?;
            if count > 0 {
                tracing::info!("forgot {count} interests that were removed long ago");
            }
            Ok(())
        }
    })
}
