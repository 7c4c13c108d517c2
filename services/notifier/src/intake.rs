//! Reads alerts from Kafka into the ledger: a batch in one statement, and only then are its offsets
//! stored. Whatever was written before is left alone, so a batch may come twice.

use std::{sync::Arc, time::Duration};

use anyhow::anyhow;
use contracts::headers;
use shell::{fault, postgres::is_unavailable};
use stream::{Failure, Handler, Partition, Record, Settled};
use tokio::{sync::Notify, time::timeout};

use crate::{
    core::decode::{decode, identity},
    store::{NewAlert, Store},
};

/// How long the ledger may take for one batch before the partition is held.
const WRITE_LIMIT: Duration = Duration::from_secs(8);

/// The work on the topic's records.
pub struct Intake {
    store: Store,
    topic: String,
    news: Arc<Notify>,
}

impl Intake {
    /// Writes what comes from `topic` into `store` and then wakes whoever waits for `news`.
    #[must_use]
    pub const fn new(store: Store, topic: String, news: Arc<Notify>) -> Self {
        Self { store, topic, news }
    }

    fn read(&self, record: &Record) -> Result<NewAlert, &'static str> {
        let decoded = decode(record.header_text(headers::TYPE), record.value())?;
        let event_id = decoded.event_id.unwrap_or_else(|| identity(&self.topic, record.partition.0, record.offset.0));
        Ok(NewAlert {
            event_id,
            email: decoded.email.as_str().to_owned(),
            user_id: decoded.user_id,
            alert: decoded.alert,
            cause: record.cause(),
        })
    }
}

impl Handler for Intake {
    async fn handle(&mut self, partition: Partition, batch: &[Record]) -> Result<Vec<Settled>, Failure> {
        let mut alerts = Vec::with_capacity(batch.len());
        let mut settled = Vec::with_capacity(batch.len());
        for record in batch {
            settled.push(match self.read(record) {
                Ok(alert) => {
                    alerts.push(alert);
                    Settled::Done("handled")
                }
                Err(reason) => Settled::rejected(reason),
            });
        }
        if !alerts.is_empty() {
            let fresh = match timeout(WRITE_LIMIT, self.store.keep(&alerts)).await {
                Ok(Ok(fresh)) => fresh,
                Ok(Err(error)) if is_unavailable(&error) => return Err(Failure::unavailable(error)),
                Ok(Err(error)) => return Err(Failure::broken(anyhow!(error).context("write alerts into the ledger"))),
                Err(_) => return Err(Failure::unavailable(anyhow!("the ledger does not answer"))),
            };
            tracing::debug!(%partition, read = batch.len(), fresh, "wrote alerts into the ledger");
            self.news.notify_one();
        }
        fault::point("notifier.ledger-written");
        Ok(settled)
    }
}
