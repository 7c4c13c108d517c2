//! Keeps who is registered, and where each of them reads Telegram.
//!
//! ```text
//! HTTP ──▶ users ──┐ one transaction                       ┌──▶ data-collector, until it says yes
//!                  ├──▶ idempotency key and answer         │
//!                  └──▶ jobs (outbox) ───────▶ relay ──────┘
//! gRPC ──▶ users
//! ```
//! A mutation, its idempotency key and its answer are written in one transaction, so a crash leaves
//! all of them or none. So is a deletion with the job that makes the relay tell
//! data-collector: no interest outlives its user, also when data-collector is down at that moment.
//! A registration has an id of its own, and the relay speaks of that id: a call that comes late
//! cannot touch somebody who registered again under the same e-mail address.
//!
//! What this service never does: put e-mail addresses, names, tax codes, bank accounts or chats
//! into logs or metrics, or ask data-collector anything before it answers.

pub mod config;
pub mod core;
pub mod grpc;
pub mod http;
pub mod notifier;
pub mod relay;
pub mod store;

use std::net::SocketAddr;

use anyhow::Context;
use proto::v1::user_service_server::UserServiceServer;
use shell::{
    Shell,
    config::{ConfigError, Vars},
    http::idempotency,
    periodic,
    postgres::{self, Listener, jobs::Runner},
    service::{Bound, ClockKind, Configured, Launch, ServiceSpec},
};
use sqlx::migrate::Migrator;

use crate::{
    notifier::Notifier,
    relay::Relay,
    store::{DELETION, Store},
};

pub use config::Config;

/// user-manager's tables.
pub static MIGRATOR: Migrator = sqlx::migrate!("../../migrations/user-manager");

/// What a process must know of this service.
pub static SERVICE: ServiceSpec = ServiceSpec {
    name: "user-manager",
    migrations: Some(&MIGRATOR),
    http: true,
    grpc: true,
    clock: ClockKind::System,
    configure,
};

fn configure(vars: &dyn Vars) -> Result<Configured, ConfigError> {
    let mut config = Config::from_vars(vars)?;
    Ok(Configured::new(config.shell.clone(), async move |launch: Launch| {
        config.http_addr = launch.http.unwrap_or(config.http_addr);
        config.grpc_addr = launch.grpc.unwrap_or(config.grpc_addr);
        let running = start(config, &launch.shell).await?;
        Ok(Bound { http: Some(running.http), grpc: Some(running.grpc) })
    }))
}

/// A user-manager that runs.
#[derive(Clone, Copy, Debug)]
pub struct Running {
    /// Where it serves HTTP.
    pub http: SocketAddr,
    /// Where it serves gRPC.
    pub grpc: SocketAddr,
}

/// The store, once there is one.
pub type Stored = postgres::Stored<Store>;

/// Begins to answer, waits for the database, and starts to relay deletions.
///
/// # Errors
/// When an address cannot be bound, the database cannot be migrated, or the shell stops first.
pub async fn start(config: Config, shell: &Shell) -> anyhow::Result<Running> {
    let stored = Stored::default();
    let notifier = Notifier::new(shell, config.notifier);
    let routes = http::routes(stored.clone(), notifier);
    let http = shell::http::serve(shell, config.http_addr, routes).await?;
    let edge =
        UserServiceServer::new(grpc::Edge::new(stored.clone())).max_decoding_message_size(shell::grpc::MESSAGE_LIMIT);
    let grpc = shell::grpc::serve(shell, config.grpc_addr, edge).await?;

    let pools = postgres::connect(shell, &config.database, &MIGRATOR).await?;
    stored.set(Store::new(pools.requests));
    grpc.set_serving().await;
    let runner = Runner::new(shell, pools.background.clone()).context("register the metrics of jobs")?;
    runner.spawn_each(DELETION, relay::settings(), Relay::new(shell, config.data_collector));
    let listener = runner.listen(Listener::default());
    shell.tasks.spawn("notifications", listener.run(shell.clone(), config.database));
    periodic::spawn(shell, runner.upkeep().into_iter().chain([idempotency::clean_up(pools.background)]));
    Ok(Running { http, grpc: grpc.addr })
}
