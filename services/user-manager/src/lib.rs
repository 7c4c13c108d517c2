#![doc = include_str!("../README.md")]

pub mod config;
pub mod core;
pub mod grpc;
pub mod http;
pub mod notifier;
pub mod relay;
pub mod store;

use std::net::SocketAddr;

use anyhow::Context;
use http_edge::idempotency;
use pg::{Listener, clock::SteadyClock, jobs::Runner};
use proto::v1::user_service_server::UserServiceServer;
use runtime::{
    ServiceRuntime,
    config::{ConfigError, Vars},
    periodic,
};
use service::{Bound, ClockKind, Configured, Launch, ServiceSpec};
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
    topics: &[],
    clock: ClockKind::System,
    configure,
};

fn configure(vars: &dyn Vars) -> Result<Configured, ConfigError> {
    let mut config = Config::from_vars(vars)?;
    Ok(Configured::new(config.runtime.clone(), config.settings.clone(), async move |launch: Launch| {
        config.http_addr = launch.http.unwrap_or(config.http_addr);
        config.grpc_addr = launch.grpc.unwrap_or(config.grpc_addr);
        let running = start(config, &launch.runtime).await?;
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
pub type DbHandle = pg::DbHandle<Store>;

/// Begins to answer, waits for the database, and starts to relay deletions.
///
/// # Errors
/// When an address cannot be bound, the database cannot be migrated, or the service stops first.
pub async fn start(config: Config, runtime: &ServiceRuntime) -> anyhow::Result<Running> {
    let db = DbHandle::default();
    let notifier = Notifier::new(runtime, config.notifier);
    let routes = http::routes(db.clone(), notifier);
    let http = http_edge::serve(runtime, config.http_addr, routes).await?;
    let edge =
        UserServiceServer::new(grpc::UserGrpc::new(db.clone())).max_decoding_message_size(grpc_edge::MESSAGE_LIMIT);
    let grpc = grpc_edge::serve(runtime, config.grpc_addr, edge).await?;

    let pools = pg::connect(runtime, &config.database, &MIGRATOR).await?;
    db.set(Store::new(pools.requests));
    grpc.set_serving().await;
    let runner = Runner::new(runtime, pools.background.clone()).context("register the metrics of jobs")?;
    runner.spawn_each(DELETION, relay::settings(), Relay::new(runtime, config.data_collector));
    let listener = runner.listen(Listener::default());
    runtime.tasks.spawn("notifications", listener.run(runtime.clone(), config.database));
    let cleaning = idempotency::clean_up(pools.background, SteadyClock::new(idempotency::STEADY_TIME));
    periodic::spawn(runtime, runner.upkeep().into_iter().chain([cleaning]));
    Ok(Running { http, grpc: grpc.addr })
}
