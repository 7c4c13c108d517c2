//! Delivers alerts to people on Telegram.
//!
//! ```text
//! to-notifier ──▶ intake ──▶ ledger ──▶ sender (one replica) ──▶ attempt ──▶ Telegram
//!                              ▲                                    │
//!                              └──────────── its outcome ───────────┘
//! ```
//! Every replica writes alerts into the ledger, once each, and only then stores the offset. One
//! replica, the leader, sends. Of one person only the oldest unsettled alert is tried; many people
//! are served at once. An attempt is in the ledger before the call is made, and its outcome after.
//! Telegram takes no idempotency key, so an attempt that was cut off in between, or whose answer says
//! nothing, may have been delivered: it is recorded as `unclear` and repeated, less and less often. In no
//! other case does a person read the same alert twice. An alert ends unsent when Telegram refused it seven
//! times, when for a day no chat could be reached, or when its person is deleted; user-manager is told of
//! the first two, so that the person can see it.
//!
//! Three kinds of failure are kept apart. When the *channel* is out of order (no answer, 5xx, an
//! answer that cannot be read, a limit of the whole bot, a wrong token), sending stops but for one
//! probe now and then, and no message pays for it. When one *message* is refused, it follows a schedule
//! of its own. When a *chat* cannot be reached, everything for it is kept and tried slowly, and at once
//! when the chat is named again. All of it is in the ledger and so survives a restart.
//!
//! What decides is under [`core`]: pure, without clock, dice or network. What this service never
//! does: remember where people can be reached (user-manager knows), decide whether something is
//! worth telling (alert-system did), or put addresses, chats or texts into logs.

pub mod attempt;
pub mod config;
pub mod core;
pub mod directory;
pub mod health;
pub mod intake;
pub mod metrics;
pub mod reports;
pub mod sender;
pub mod store;
pub mod telegram;

mod grpc;
mod upkeep;

use std::{net::SocketAddr, sync::Arc};

use anyhow::Context;
use shell::{
    Shell,
    config::{ConfigError, Vars},
    lease, periodic,
    postgres::{self, jobs::Runner},
    readiness::Need,
    service::{Bound, ClockKind, Configured, Launch, ServiceSpec},
};
use sqlx::migrate::Migrator;
use stream::{Consumer, Producer, Profile, Subscription, topics};
use tokio::sync::Notify;

use crate::{
    attempt::{Attempts, Tools},
    directory::Directory,
    health::Health,
    intake::Intake,
    metrics::Metrics,
    reports::Reports,
    sender::Sender,
    store::{Store, UNDELIVERED_REPORT},
    telegram::Telegram,
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
    clock: ClockKind::Flights,
    configure,
};

fn configure(vars: &dyn Vars) -> Result<Configured, ConfigError> {
    let mut config = Config::from_vars(vars)?;
    Ok(Configured::new(config.shell.clone(), async move |launch: Launch| {
        config.grpc = launch.grpc.unwrap_or(config.grpc);
        let running = start(config, &launch.shell).await?;
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
/// When an address cannot be bound, the database cannot be migrated, or the shell stops first.
pub async fn start(config: Config, shell: &Shell) -> anyhow::Result<Running> {
    let metrics = Metrics::register(&shell.registry).context("register the metrics")?;
    let telegram = Telegram::new(&config.telegram)?;
    let health = Health::new(shell);
    let stored = grpc::Stored::default();
    let grpc = shell::grpc::serve(shell, config.grpc, grpc::service(stored.clone())).await?;

    let (pools, ()) = tokio::try_join!(
        postgres::connect(shell, &config.database, &MIGRATOR),
        topics::ensure(&config.kafka, &config.topics, SERVICE.name, Need::Required, shell),
    )?;
    stored.set(Store::new(pools.requests));
    let store = Store::new(pools.background);
    grpc.set_serving().await;
    let topic = config.topics.to_notifier();
    // The notifier produces nothing but dead letters.
    let dead_letters = Producer::new(&config.kafka, Profile::Latency, &topic, Need::Required, shell)?;
    let subscription = Subscription::new(topic.clone(), config.topics.notifier_group());
    let consumer = Consumer::new(&config.kafka, subscription, &dead_letters, shell)?;

    let news = Arc::new(Notify::new());
    let directory = Directory::new(shell, config.user_manager);
    let attempts = Attempts::new(Tools {
        store: store.clone(),
        directory: directory.clone(),
        metrics: metrics.clone(),
        sending: config.sending,
        tasks: shell.tasks.clone(),
        telegram: telegram.clone(),
        call_limit: config.telegram.call_limit,
        clock: shell.clock,
        health: health.clone(),
        news: news.clone(),
    });
    shell.tasks.spawn_short("token check", health.check_token(telegram, shell.clone()));
    consumer.spawn(Intake::new(store.clone(), topic, news.clone()), shell);
    let runner = Runner::new(shell, store.pool().clone()).context("register the metrics of jobs")?;
    runner.spawn_each(UNDELIVERED_REPORT, reports::settings(), Reports { store: store.clone(), directory });
    let listener = runner.listen(upkeep::listener(news));
    shell.tasks.spawn("notifications", listener.run(shell.clone(), config.database.clone()));
    let kept = [upkeep::count(store.clone(), metrics), upkeep::clean_up(store, config.sending.clock_patience)];
    periodic::spawn(shell, runner.upkeep().into_iter().chain(kept));
    let leading =
        lease::lead(shell.clone(), config.database, SENDING, move |term| Sender::new(attempts.clone(), term).run());
    shell.tasks.spawn("sender", leading);
    Ok(Running { grpc: grpc.addr })
}
