//! Messages out, acknowledged.
//!
//! A [`Producer`] is made at start and shared: an idempotent producer's first acknowledgement takes half a second,
//! later ones 2 ms. A sender learns about all of its messages at once, when the brokers have kept them; the client
//! counts, so memory does not grow with what is sent.

mod batch;
mod outgoing_record;
mod producer_client;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use rdkafka::error::RDKafkaErrorCode;
use runtime::{ServiceRuntime, readiness::Criticality};

pub use batch::Batch;
pub use outgoing_record::OutgoingRecord;

use self::producer_client::ProducerClient;
use crate::config::{KafkaConfig, Profile};

/// How long Kafka may take to answer before it counts as away.
pub(crate) const PROBE_LIMIT: Duration = Duration::from_millis(1500);
/// How long one attempt to learn a topic's leaders takes at most; a stop waits for it.
const WARM_UP_LIMIT: Duration = Duration::from_secs(2);
/// How long to wait between such attempts.
const WARM_UP_INTERVAL: Duration = Duration::from_millis(500);

/// Sends messages. Clones share one client.
#[derive(Clone)]
pub struct Producer {
    shared: Arc<Shared>,
}

struct Shared {
    config: KafkaConfig,
    profile: Profile,
    client: Mutex<Arc<ProducerClient>>,
}

/// Some messages were not acknowledged. The others were, and those that failed may have been kept all the same: a
/// sender that repeats them may send a message twice.
#[derive(Debug, thiserror::Error)]
#[error("{failed} of {sent} messages were not acknowledged")]
pub struct SendError {
    /// How many were to be sent.
    pub sent: usize,
    /// How many of them failed.
    pub failed: usize,
    /// Why the first of them failed.
    #[source]
    pub first: RDKafkaErrorCode,
}

impl SendError {
    /// Whether the same message would be refused again, however often it is sent: it is too large,
    /// or malformed.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        use RDKafkaErrorCode as Code;
        matches!(
            self.first,
            Code::MessageSizeTooLarge | Code::InvalidMessage | Code::InvalidMessageSize | Code::InvalidRecord
        )
    }
}

impl Producer {
    /// A producer that says in `/readyz` whether Kafka answers, and that gets ready to send to `topic`
    /// while the service is still starting. `criticality` says whether the service is ready without Kafka.
    ///
    /// # Errors
    /// When the settings make no client.
    pub fn new(
        config: &KafkaConfig,
        profile: Profile,
        topic: &str,
        criticality: Criticality,
        runtime: &ServiceRuntime,
    ) -> anyhow::Result<Self> {
        let producer = Self::unwatched(config, profile)?;
        // The question may outlive the service, the client must not: its broker may go with it.
        let (asked, known) = (Arc::downgrade(&producer.shared), Arc::<str>::from(topic));
        runtime.readiness.check("kafka", criticality, move || {
            let (shared, topic) = (asked.upgrade(), known.clone());
            async move {
                let shared = shared.ok_or_else(|| "the service has stopped".to_owned())?;
                Self { shared }.probe(&topic, PROBE_LIMIT).await
            }
        });
        let (warming, topic, stopping) = (producer.clone(), topic.to_owned(), runtime.tasks.stopping().clone());
        runtime.tasks.spawn_short("producer warm-up", async move {
            tokio::select! {
                () = stopping.cancelled() => {}
                () = warming.warm_up(&topic) => {}
            }
        });
        Ok(producer)
    }

    /// A producer outside a service.
    ///
    /// # Errors
    /// When the settings make no client.
    pub fn unwatched(config: &KafkaConfig, profile: Profile) -> anyhow::Result<Self> {
        let client = ProducerClient::open(config, profile).context("create the Kafka producer")?;
        let client = Mutex::new(Arc::new(client));
        Ok(Self { shared: Arc::new(Shared { config: config.clone(), profile, client }) })
    }

    /// Learns where `topic` is, and with it the producer's id, so that the first message need not
    /// wait for either. Returns when Kafka has answered.
    pub async fn warm_up(&self, topic: &str) {
        while let Err(reason) = self.probe(topic, WARM_UP_LIMIT).await {
            tracing::debug!("kafka producer: {reason}");
            tokio::time::sleep(WARM_UP_INTERVAL).await;
        }
    }

    /// Sends all messages and waits until the brokers have kept every one of them, or until the
    /// last has failed (after 8 s at the latest). Messages of the same key keep their order. Give an
    /// iterator that makes them as it goes, and memory stays constant.
    ///
    /// # Errors
    /// When at least one was not acknowledged.
    pub async fn send_all<'a, I>(&self, messages: I) -> Result<(), SendError>
    where
        I: IntoIterator<Item = OutgoingRecord<'a>>,
    {
        let mut batch = self.batch();
        for message in messages {
            batch.send(&message).await;
        }
        batch.acknowledged().await
    }

    /// Sends one message and waits until it is kept.
    ///
    /// # Errors
    /// When it was not acknowledged.
    pub async fn send(&self, message: OutgoingRecord<'_>) -> Result<(), SendError> {
        self.send_all([message]).await
    }

    /// Messages that are handed over one by one and acknowledged together.
    #[must_use]
    pub fn batch(&self) -> Batch {
        Batch::new(self.client())
    }

    /// Waits until everything that was handed over is acknowledged or has failed, for `limit` at
    /// most. Only what a cancelled call left behind can still be on its way.
    ///
    /// # Errors
    /// When messages are still on their way after `limit`.
    pub async fn flush(&self, limit: Duration) -> anyhow::Result<()> {
        let client = self.client();
        tokio::task::spawn_blocking(move || client.flush(limit)).await.context("wait for the flush")??;
        Ok(())
    }

    /// Asks Kafka for `topic`'s leaders; the error says why there was no answer.
    pub(crate) async fn probe(&self, topic: &str, limit: Duration) -> Result<(), String> {
        let (client, topic) = (self.client(), topic.to_owned());
        let asked = tokio::task::spawn_blocking(move || client.probe(&topic, limit)).await;
        asked.unwrap_or_else(|_| Err("could not be asked".to_owned()))
    }

    /// The client in use; a fresh one after a fatal error, which ends an idempotent client for good.
    fn client(&self) -> Arc<ProducerClient> {
        let mut client = self.shared.client.lock().unwrap_or_else(PoisonError::into_inner);
        if client.is_dead() {
            match ProducerClient::open(&self.shared.config, self.shared.profile) {
                Ok(fresh) => {
                    tracing::warn!("kafka producer: recreated after a fatal error");
                    *client = Arc::new(fresh);
                }
                Err(error) => tracing::error!("recreate the Kafka producer: {error}"),
            }
        }
        client.clone()
    }
}
