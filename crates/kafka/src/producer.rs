//! Messages out, acknowledged.
//!
//! A [`Producer`] is made at start and shared: an idempotent producer's first acknowledgement takes
//! half a second, later ones 2 ms. Whoever sends learns about all of their messages at once, when
//! the brokers have kept them; the client counts, so memory does not grow with what is sent.

mod batch;
mod link;
mod outgoing;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context;
use rdkafka::error::RDKafkaErrorCode;
use runtime::{Shell, readiness::Need};

pub use batch::Batch;
pub use outgoing::Outgoing;

use self::link::Link;
use crate::config::{KafkaConfig, Profile};

/// How long `/readyz` waits for Kafka's answer.
const PROBE_LIMIT: Duration = Duration::from_millis(1500);
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
    link: Mutex<Arc<Link>>,
}

/// Some messages were not acknowledged. The others were, and those that failed may have been kept
/// all the same: whoever sends again sends something that may come twice.
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
    /// A producer that says in `/readyz` whether Kafka answers, and that gets ready to send to
    /// `topic` while the service is still starting. `need` says whether the service is ready without Kafka.
    ///
    /// # Errors
    /// When the settings make no client.
    pub fn new(config: &KafkaConfig, profile: Profile, topic: &str, need: Need, shell: &Shell) -> anyhow::Result<Self> {
        let producer = Self::unwatched(config, profile)?;
        // The question may outlive the service, the client must not: its broker may go with it.
        let (asked, known) = (Arc::downgrade(&producer.shared), Arc::<str>::from(topic));
        shell.readiness.check("kafka", need, move || {
            let (shared, topic) = (asked.upgrade(), known.clone());
            async move {
                let shared = shared.ok_or_else(|| "the service has stopped".to_owned())?;
                Self { shared }.probe(&topic, PROBE_LIMIT).await
            }
        });
        let (warming, topic, stopping) = (producer.clone(), topic.to_owned(), shell.tasks.stopping().clone());
        shell.tasks.spawn_short("producer warm-up", async move {
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
        let link = Link::open(config, profile).context("create the Kafka producer")?;
        let link = Mutex::new(Arc::new(link));
        Ok(Self { shared: Arc::new(Shared { config: config.clone(), profile, link }) })
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
        I: IntoIterator<Item = Outgoing<'a>>,
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
    pub async fn send(&self, message: Outgoing<'_>) -> Result<(), SendError> {
        self.send_all([message]).await
    }

    /// Messages that are handed over one by one and acknowledged together.
    #[must_use]
    pub fn batch(&self) -> Batch {
        Batch::new(self.link())
    }

    /// Waits until everything that was handed over is acknowledged or has failed, for `limit` at
    /// most. Only what a cancelled call left behind can still be on its way.
    ///
    /// # Errors
    /// When messages are still on their way after `limit`.
    pub async fn flush(&self, limit: Duration) -> anyhow::Result<()> {
        let link = self.link();
        tokio::task::spawn_blocking(move || link.flush(limit)).await.context("wait for the flush")??;
        Ok(())
    }

    /// Asks Kafka for `topic`'s leaders; the error says why there was no answer.
    pub(crate) async fn probe(&self, topic: &str, limit: Duration) -> Result<(), String> {
        let (link, topic) = (self.link(), topic.to_owned());
        let asked = tokio::task::spawn_blocking(move || link.probe(&topic, limit)).await;
        asked.unwrap_or_else(|_| Err("could not be asked".to_owned()))
    }

    /// The client in use; a fresh one after a fatal error, which ends an idempotent client for good.
    fn link(&self) -> Arc<Link> {
        let mut link = self.shared.link.lock().unwrap_or_else(PoisonError::into_inner);
        if link.is_dead() {
            match Link::open(&self.shared.config, self.shared.profile) {
                Ok(fresh) => {
                    tracing::warn!("kafka producer: made anew after a fatal error");
                    *link = Arc::new(fresh);
                }
                Err(error) => tracing::error!("make the Kafka producer anew: {error}"),
            }
        }
        link.clone()
    }
}
