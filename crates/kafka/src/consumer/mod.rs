//! The one consume loop.
//!
//! One task owns everything: it reads what is there, hands it to the handler, and moves the offsets
//! when all of it is settled. Rebalances are heard only while it reads, so they never run beside the
//! handler. Each turn of the loop
//!
//! 1. takes over what changed (partitions that came or went, an operator's reset),
//! 2. reads ahead what the client has already, without waiting and within bounds,
//! 3. works on a batch of all partitions that are due, or waits until something happens.
//!
//! A batch is what is there: the loop never waits to fill one. One that fails is tried again in parts, one
//! a partition, so that the failure of one does not stop the others. A partition that fails by itself is
//! paused in the client, and the loop goes on polling for the others, which keeps the group for all of
//! them, however long the pause lasts.
//!
//! For handlers that take long over each record there is a second mode ([`Consumer::spawn_per_partition`]):
//! each partition has a task and a handler of its own, the loop goes on polling while they work, and a
//! partition whose buffer is full is paused until half of it is free.
//!
//! Dead letters that are replayed come on the group's retry topic. Whichever member owns a partition of
//! the topic reads the same partition of the retry topic.

mod context;
mod membership;
mod poll_loop;
mod settle;
mod subscription;
mod workers;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use runtime::ServiceRuntime;
use tokio_util::sync::CancellationToken;

pub use self::subscription::{BatchLimits, Subscription};
use self::{
    context::Context,
    membership::{MembershipReport, SharedMembership},
    poll_loop::{End, LoopDeps, PollLoop},
    workers::{MakeHandler, PartitionTasks, Workers},
};
use crate::{
    closing::{SelfClosing, leave_group, self_closing},
    config::KafkaConfig,
    core::membership::Membership,
    dead_letter_breaker::DeadLetterBreaker,
    handler::Handler,
    metrics::ConsumerMetrics,
    names::Names,
    producer::Producer,
    record::Partition,
    resets,
};

/// For how many sessions a client may be outside its group from the moment that Kafka answers others. A member that
/// died delays a rebalance for one session, and so do all that a broker knew before it started anew.
const REJOIN_SESSIONS: u32 = 3;
/// For how many sessions a consumer may be outside its group and still count as ready.
const SESSIONS_OF_GRACE: u32 = 2;

/// A member of a consumer group, ready to run.
pub struct Consumer {
    config: KafkaConfig,
    names: Names,
    batch: BatchLimits,
    dead_letters: Producer,
    breaker: DeadLetterBreaker,
    metrics: ConsumerMetrics,
    membership: SharedMembership,
    report: MembershipReport,
    made_at: DateTime<Utc>,
}

/// Where the handlers come from.
enum Handlers<H> {
    Shared(H),
    PerPartition(Box<MakeHandler<H>>),
}

impl Consumer {
    /// A consumer whose rejects go out through `dead_letters`. It registers its metrics and its parts of
    /// `/readyz`: whether it is a member of its group, and whether too many records were rejected. All bear
    /// topic and group, so a runtime may have several consumers.
    ///
    /// # Errors
    /// When the runtime has a consumer of this topic and group already.
    pub fn new(
        config: &KafkaConfig,
        subscription: Subscription,
        dead_letters: &Producer,
        runtime: &ServiceRuntime,
    ) -> anyhow::Result<Self> {
        let Subscription { topic, group, batch } = subscription;
        let names = Names::of(&topic, &group);
        let metrics = ConsumerMetrics::register(&runtime.registry, &names)
            .with_context(|| format!("register the metrics of the consumer of {names}"))?;
        let breaker = DeadLetterBreaker::new(config, &names, &runtime.readiness, metrics.clone());
        let (rejoin_timeout, grace) = (REJOIN_SESSIONS * config.session(), SESSIONS_OF_GRACE * config.session());
        let membership = Arc::new(Mutex::new(Membership::new(rejoin_timeout, grace, Instant::now())));
        let report = MembershipReport::new(membership.clone(), &names, dead_letters, &runtime.readiness);
        let (config, dead_letters, made_at) = (config.clone(), dead_letters.clone(), Utc::now());
        Ok(Self { config, names, batch, dead_letters, breaker, metrics, membership, report, made_at })
    }

    /// The circuit breaker of the dead letters.
    #[must_use]
    pub fn breaker(&self) -> &DeadLetterBreaker {
        &self.breaker
    }

    /// Runs as a task of the runtime until that stops. One handler works on batches of all partitions, one
    /// after the other.
    pub fn spawn<H: Handler + 'static>(self, handler: H, runtime: &ServiceRuntime) {
        self.spawn_with(Handlers::Shared(handler), runtime);
    }

    /// The same for a handler that takes long over each record: each partition has a task of its own,
    /// with a handler that `make` makes, so that a slow one delays neither the others nor the polling.
    pub fn spawn_per_partition<H: Handler + 'static>(
        self,
        make: impl Fn(Partition) -> H + Send + Sync + 'static,
        runtime: &ServiceRuntime,
    ) {
        self.spawn_with(Handlers::PerPartition(Box::new(make)), runtime);
    }

    fn spawn_with<H: Handler + 'static>(self, handlers: Handlers<H>, runtime: &ServiceRuntime) {
        let name = format!("consumer of {}", self.names);
        let stopping = runtime.tasks.stopping().clone();
        runtime.tasks.spawn(name, self.run_with(handlers, stopping));
    }

    /// Consumes until `stopping`: finishes the batch in flight, commits, leaves the group.
    ///
    /// # Errors
    /// When the handler is broken, or the client cannot go on. What was not settled is redelivered.
    pub async fn run<H: Handler + 'static>(self, handler: H, stopping: CancellationToken) -> anyhow::Result<()> {
        self.run_with(Handlers::Shared(handler), stopping).await
    }

    async fn run_with<H: Handler + 'static>(
        self,
        handlers: Handlers<H>,
        stopping: CancellationToken,
    ) -> anyhow::Result<()> {
        tokio::select! {
            ended = self.consume(handlers, stopping) => ended,
            never = resets::follow(&self.config, &self.names, &self.breaker, self.made_at) => match never {},
            never = self.report.run() => match never {},
        }
    }

    async fn consume<H: Handler + 'static>(
        &self,
        mut handlers: Handlers<H>,
        stopping: CancellationToken,
    ) -> anyhow::Result<()> {
        let Names { topic, group, .. } = &self.names;
        let deps = LoopDeps {
            names: &self.names,
            limits: self.batch,
            dead_letters: &self.dead_letters,
            breaker: &self.breaker,
            metrics: &self.metrics,
        };
        loop {
            let client = self.join()?;
            tracing::info!("consuming {topic} as a member of {group}");
            let workers = match &mut handlers {
                Handlers::Shared(handler) => Workers::Shared(handler),
                Handlers::PerPartition(make) => Workers::PerPartition(PartitionTasks::new(&**make)),
            };
            let ended = PollLoop::new(&client, workers, deps).run(&stopping).await;
            leave_group(client, topic).await;
            match ended.with_context(|| format!("consume {topic}"))? {
                End::Stopped => return Ok(()),
                // Seen after a broker was frozen for longer than a session: librdkafka 2.12 waits
                // for the broker's connection, and does not open it.
                End::Lost => {
                    tracing::warn!("the consumer of {topic} does not get back into its group: recreated");
                    self.metrics.recreated.inc();
                    self.membership.lock().unwrap_or_else(PoisonError::into_inner).replaced(Instant::now());
                }
            }
        }
    }

    fn join(&self) -> anyhow::Result<SelfClosing<StreamConsumer<Context>>> {
        let Names { topic, group, .. } = &self.names;
        let context = Context::new(self.names.clone(), self.metrics.lag.clone(), self.membership.clone());
        let client: StreamConsumer<Context> =
            self.config.consumer(group).create_with_context(context).context("create the Kafka consumer")?;
        let client = self_closing(client);
        client.subscribe(&[topic]).with_context(|| format!("subscribe to {topic}"))?;
        Ok(client)
    }
}
