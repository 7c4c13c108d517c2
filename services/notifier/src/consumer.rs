//! Reads alerts from Kafka into the ledger: a batch in one statement, and only then are its offsets
//! stored. Whatever was written before is left alone, so a batch may come twice.

use std::{sync::Arc, time::Duration};

use anyhow::anyhow;
use events::{headers, topics::TO_NOTIFIER};
use kafka::{Failure, Handler, Record, Settled};
use pg::is_unavailable;
use runtime::fault;
use tokio::{sync::Notify, time::timeout};
use uuid::Uuid;

use crate::{
    core::decode::{decode, identity},
    store::{NewAlert, Store},
};

/// How long the ledger may take for one batch before the partition is paused.
const WRITE_LIMIT: Duration = Duration::from_secs(8);

/// The work on the topic's records.
pub struct AlertConsumer {
    store: Store,
    topic: String,
    news: Arc<Notify>,
}

impl AlertConsumer {
    /// Writes what comes from `topic` into `store` and then wakes the task that waits for `news`.
    #[must_use]
    pub const fn new(store: Store, topic: String, news: Arc<Notify>) -> Self {
        Self { store, topic, news }
    }

    fn read(&self, record: &Record) -> Result<NewAlert, &'static str> {
        let decoded = decode(record.header_text(headers::TYPE), record.value())?;
        let event_id = decoded.event_id.unwrap_or_else(|| self.identity_of(record));
        Ok(NewAlert {
            event_id,
            email: decoded.email.as_str().to_owned(),
            user_id: decoded.user_id,
            alert: decoded.alert,
            context: record.request_context(),
        })
    }

    /// The identity of a message that has none of its own: its first place, though it may be retried.
    fn identity_of(&self, record: &Record) -> Uuid {
        match record.original_place() {
            Some((partition, offset)) => identity(&self.topic, partition.0, offset.0),
            None => identity(&format!("{} retried", self.topic), record.partition.0, record.offset.0),
        }
    }

    /// Writes alerts in one statement. Should the database be unable to hold one of them, each is
    /// written by itself, and that one is named by its place.
    async fn write(&self, alerts: &[NewAlert]) -> Result<Vec<usize>, Failure> {
        match self.write_together(alerts).await? {
            Written::All => return Ok(Vec::new()),
            Written::None if alerts.len() == 1 => return Ok(vec![0]),
            Written::None => {}
        }
        let mut refused = Vec::new();
        for (place, alert) in alerts.iter().enumerate() {
            if self.write_together(std::slice::from_ref(alert)).await? == Written::None {
                refused.push(place);
            }
        }
        Ok(refused)
    }

    async fn write_together(&self, alerts: &[NewAlert]) -> Result<Written, Failure> {
        match timeout(WRITE_LIMIT, self.store.keep(alerts)).await {
            Ok(Ok(fresh)) => {
                tracing::debug!(given = alerts.len(), fresh, "wrote alerts into the ledger");
                Ok(Written::All)
            }
            Ok(Err(error)) if is_unavailable(&error) => Err(Failure::unavailable(error)),
            Ok(Err(error)) if is_about_the_data(&error) => Ok(Written::None),
            Ok(Err(error)) => Err(Failure::broken(anyhow!(error).context("write alerts into the ledger"))),
            Err(_) => Err(Failure::unavailable(anyhow!("the ledger does not answer"))),
        }
    }
}

/// What became of alerts that were written together.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    All,
    /// The database cannot hold one of them.
    None,
}

/// Whether the values are to blame: class 22 of SQLSTATE (PostgreSQL manual, appendix A).
fn is_about_the_data(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(|error| error.code()).is_some_and(|code| code.starts_with("22"))
}

impl Handler for AlertConsumer {
    async fn handle(&mut self, batch: &[Record]) -> Result<Vec<Settled>, Failure> {
        let (mut alerts, mut places) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        let mut settled = Vec::with_capacity(batch.len());
        for (place, record) in batch.iter().enumerate() {
            // Another version may send types beside ours, which are not for us.
            if !TO_NOTIFIER.knows(record.header(headers::TYPE)) {
                settled.push(Settled::Skipped);
                continue;
            }
            settled.push(match self.read(record) {
                Ok(alert) => {
                    alerts.push(alert);
                    places.push(place);
                    Settled::Done("handled")
                }
                Err(reason) => Settled::rejected(reason),
            });
        }
        if !alerts.is_empty() {
            for refused in self.write(&alerts).await? {
                settled[places[refused]] = Settled::rejected("the ledger cannot hold one of its values");
            }
            self.news.notify_one();
        }
        fault::point("notifier.ledger-written");
        Ok(settled)
    }
}
