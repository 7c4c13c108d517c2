//! The one consume loop.
//!
//! One task owns everything: it reads what is there, hands it to the handler, and moves the offsets
//! when all of it is settled. Rebalances are heard only while it reads, so they never run beside the
//! handler. Each turn of the loop
//!
//! 1. takes over what changed (partitions that came or went, an operator's acceptance),
//! 2. reads ahead what the client has already, without waiting and within bounds,
//! 3. works on a batch of all partitions that are due, or waits until something happens.
//!
//! A batch is what is there: the loop never waits to fill one. One that fails is tried again in
//! parts, one a partition, so that the trouble of one is not that of the others. A partition that
//! fails by itself is held: it is paused in the client, and the loop goes on polling for the others,
//! which keeps the group for all of them, however long the hold lasts.

mod context;
mod turn;

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use rdkafka::consumer::{CommitMode, Consumer as _, StreamConsumer};
use shell::Shell;
use tokio_util::sync::CancellationToken;

use self::{
    context::Context,
    turn::{End, Loop},
};
use crate::{
    config::KafkaConfig, gate::DeadLetterGate, handler::Handler, metrics::ConsumerMetrics, producer::Producer,
};

/// For how many sessions a client may be outside its group while Kafka answers others. A member that
/// died holds a rebalance up for one session.
const SESSIONS_OF_PATIENCE: u32 = 3;
/// How long closing may take: the last commit, and leaving the group.
const CLOSE_LIMIT: Duration = Duration::from_secs(5);

/// What is read, and on whose behalf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The topic.
    pub topic: String,
    /// The consumer group, whose members share the topic's partitions.
    pub group: String,
}

/// A member of a consumer group, ready to run.
pub struct Consumer {
    config: KafkaConfig,
    subscription: Subscription,
    dead_letters: Producer,
    gate: DeadLetterGate,
    metrics: ConsumerMetrics,
}

impl Consumer {
    /// A consumer whose rejects go out through `dead_letters`. It registers its metrics, its part of
    /// `/readyz`, and the operator call `accept-dead-letters`.
    ///
    /// # Errors
    /// When the shell has a consumer already.
    pub fn new(
        config: &KafkaConfig,
        subscription: Subscription,
        dead_letters: &Producer,
        shell: &Shell,
    ) -> anyhow::Result<Self> {
        let topic = &subscription.topic;
        let metrics = ConsumerMetrics::register(&shell.registry, topic).context("register the consumer's metrics")?;
        let gate = DeadLetterGate::new(config, topic, &shell.readiness, metrics.clone());
        let accepting = gate.clone();
        shell.operator_call("accept-dead-letters", Arc::new(move || accepting.accept()));
        Ok(Self { config: config.clone(), subscription, dead_letters: dead_letters.clone(), gate, metrics })
    }

    /// The gate before the dead letters.
    #[must_use]
    pub fn gate(&self) -> &DeadLetterGate {
        &self.gate
    }

    /// Runs as a task of the shell until that stops.
    pub fn spawn<H: Handler + 'static>(self, handler: H, shell: &Shell) {
        let name = format!("consumer of {}", self.subscription.topic);
        let stopping = shell.tasks.stopping().clone();
        shell.tasks.spawn(name, self.run(handler, stopping));
    }

    /// Consumes until `stopping`: finishes the batch in flight, commits, leaves the group.
    ///
    /// # Errors
    /// When the handler is broken, or the client cannot go on. What was not settled is redelivered.
    pub async fn run<H: Handler>(self, mut handler: H, stopping: CancellationToken) -> anyhow::Result<()> {
        let Subscription { topic, group } = &self.subscription;
        loop {
            let client = self.join()?;
            tracing::info!("consuming {topic} as a member of {group}");
            let turns = Loop::new(&client, topic, &mut handler, &self.dead_letters, &self.gate, &self.metrics);
            let ended = turns.run(&stopping).await;
            close(client, topic).await;
            match ended.with_context(|| format!("consume {topic}"))? {
                End::Stopped => return Ok(()),
                // Seen after a broker was frozen for longer than a session: librdkafka 2.12 waits
                // for the broker's connection, and does not open it.
                End::Lost => {
                    tracing::warn!("the consumer of {topic} does not get back into its group: made anew");
                    self.metrics.made_anew.inc();
                }
            }
        }
    }

    fn join(&self) -> anyhow::Result<StreamConsumer<Context>> {
        let Subscription { topic, group } = &self.subscription;
        let context = Context::new(topic, self.metrics.lag.clone(), SESSIONS_OF_PATIENCE * self.config.session());
        let client: StreamConsumer<Context> =
            self.config.consumer(group).create_with_context(context).context("create the Kafka consumer")?;
        client.subscribe(&[topic]).with_context(|| format!("subscribe to {topic}"))?;
        Ok(client)
    }
}

/// Commits what is stored and leaves the group. Both block, so they happen on a thread of their own,
/// which is left behind when Kafka does not answer in time.
async fn close(client: StreamConsumer<Context>, topic: &str) {
    let (closed, closing) = tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("kafka-close".to_owned()).spawn(move || {
        if let Err(error) = client.commit_consumer_state(CommitMode::Sync) {
            // There may be nothing to commit; and what was not committed is redelivered.
            tracing::debug!("last commit: {error}");
        }
        drop(client);
        closed.send(()).ok();
    });
    if let Err(error) = thread {
        tracing::warn!("close the consumer of {topic}: {error}");
    } else if tokio::time::timeout(CLOSE_LIMIT, closing).await.is_err() {
        tracing::warn!(
            "the consumer of {topic} was not closed within {CLOSE_LIMIT:?}: its last records will come again"
        );
    }
}
