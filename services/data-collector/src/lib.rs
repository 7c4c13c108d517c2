//! Keeps what people are interested in, collects flights for it from OpenSky, and brings every reading
//! to those who watch.
//!
//! ```text
//! HTTP ──▶ interests ──outbox──▶ relay ──────────────┐
//!              │                   │ no reading yet   ├──▶ to-alert-system
//!              ▼                   ▼                  │
//! OpenSky ──▶ collection (the leader) ──▶ readings ──fan-out
//! ```
//!
//! It decides when to ask and what an answer means, never whether anybody is alerted. A value it does
//! not know stays unknown: it is never taken for zero, and never made up.

pub mod config;
pub mod core;
pub mod fan_out;
pub mod http;
pub mod message;
pub mod metrics;
pub mod opensky;
pub mod relay;
pub mod store;

mod collect;
mod grpc;
mod retention;
mod users;
mod wake;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use anyhow::Context;
use chrono::TimeDelta;
use shell::{Shell, http::idempotency, lease, postgres, readiness::Need};
use stream::{Producer, Profile};

pub use config::Config;

use self::{
    collect::Collector, core::credits::Tier, fan_out::FanOut, http::Api, metrics::Metrics, opensky::OpenSky,
    relay::Relay, store::Store, users::Users, wake::Wake,
};

/// The name of the leader's lease.
const COLLECTION: &str = "data-collector-collection";

/// Where the service answers.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    /// HTTP.
    pub http: SocketAddr,
    /// gRPC.
    pub grpc: SocketAddr,
}

/// Starts the service: waits for what it depends on, then serves and works until the shell stops.
///
/// # Errors
/// When an address cannot be bound or a migration applied, or the shell stops first.
pub async fn start(config: Config, shell: &Shell) -> anyhow::Result<Running> {
    let metrics = Metrics::register(&shell.registry).context("register the metrics")?;
    let opensky = OpenSky::new(config.open_sky.clone(), metrics.clone()).context("create the OpenSky client")?;
    let users = Users::new(config.user_manager.clone());
    let store = Store::new(postgres::connect(shell, &config.database, &store::MIGRATOR).await?);
    stream::topics::ensure(&config.kafka, &config.topics, shell).await?;
    let topic = config.topics.to_alert_system();
    let fan_out = Producer::new(&config.kafka, Profile::Throughput, &topic, shell)?;
    let at_once = Producer::new(&config.kafka, Profile::Latency, &topic, shell)?;
    let interval = TimeDelta::from_std(config.collect_interval).context("read the interval")?;
    let wake = Wake::default();

    let fan_out = FanOut { store: store.clone(), producer: fan_out, topic: topic.clone() };
    let relay = Relay { store: store.clone(), producer: at_once, topic, clock: shell.clock, interval };
    let collector = Collector {
        shell: shell.clone(),
        store: store.clone(),
        opensky,
        metrics,
        source: config.source.clone(),
        interval,
        tier: if config.open_sky.credentials.is_some() { Tier::Standard } else { Tier::Anonymous },
        wake: wake.collect.clone(),
        part: shell.readiness.part("opensky credits", Need::Optional, "not planned yet"),
        alone: Mutex::default(),
    };
    spawn(&config, shell, &store, wake, fan_out, relay, collector);

    let api = Api { store: store.clone(), users, clock: shell.clock, interests_per_user: config.interests_per_user };
    let grpc = shell::grpc::serve(shell, config.grpc, grpc::service(store, shell.clock)).await?;
    let http = shell::http::serve(shell, config.http, http::routes(api)).await?;
    Ok(Running { http, grpc })
}

fn spawn(
    config: &Config,
    shell: &Shell,
    store: &Store,
    wake: Wake,
    fan_out: FanOut,
    relay: Relay,
    collector: Collector,
) {
    let tasks = &shell.tasks;
    tasks.spawn("notifications", wake::listen(shell.clone(), config.database.clone(), wake.clone()));
    tasks.spawn_droppable(
        "fan-out",
        wake::work(shell.clone(), "fan-out", wake.readings.clone(), move || {
            let fan_out = fan_out.clone();
            async move { fan_out.page().await }
        }),
    );
    let removing = relay.clone();
    tasks.spawn_droppable(
        "evaluations",
        wake::work(shell.clone(), "evaluations", wake.evaluations.clone(), move || {
            let relay = relay.clone();
            async move { relay.evaluate().await }
        }),
    );
    tasks.spawn_droppable(
        "removals",
        wake::work(shell.clone(), "removals", wake.removals.clone(), move || {
            let relay = removing.clone();
            async move { relay.remove().await }
        }),
    );
    let collector = Arc::new(collector);
    tasks.spawn(
        "collection",
        lease::lead(shell.clone(), config.database.clone(), COLLECTION, move |term| collector.clone().lead(term)),
    );
    tasks.spawn_droppable("retention", retention::run(shell.clone(), store.clone(), config.retention_days));
    tasks.spawn_droppable("idempotency keys", idempotency::clean_up(shell.clone(), store.pool().clone()));
}
