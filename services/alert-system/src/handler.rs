//! A batch of records: read, look up, decide, publish, write.
//!
//! The order is the point. Alerts are acknowledged before the rows say that they were told, and the
//! rows are written before the offset moves. Whatever dies in between is done again with the same
//! result, and repeats of an alert carry the same id; see [`crate::core`] for the argument.

use std::{
    collections::{HashMap, HashSet},
    future::Future,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, anyhow};
use events::{
    headers,
    topics::{Namespace, TO_ALERT_SYSTEM, TO_NOTIFIER},
};
use kafka::{Failure, Handler, Offset, OutgoingRecord, Partition, Producer, Record, Settled, by_partition};
use pg::is_unavailable;
use runtime::{fault, trace::RequestContext};
use uuid::Uuid;

use crate::{
    core::{BatchPlan, CachedState, Message, Outcome, PendingAlert, Rejection, WireRecord, in_rounds, plan, read},
    memory::Memory,
    metrics::Metrics,
    store::{LevelStore, Rows},
};

/// How long a query may take before the database counts as away. The server's own limit does not
/// help when the server is frozen.
const QUERY_LIMIT: Duration = Duration::from_secs(5);

/// Works on records of `to-alert-system`.
pub struct AlertHandler {
    store: LevelStore,
    producer: Producer,
    metrics: Metrics,
    readings_topic: Arc<str>,
    alerts_topic: String,
    partitions: HashMap<Partition, Memory>,
}

impl AlertHandler {
    /// A handler that remembers nothing yet.
    #[must_use]
    pub fn new(store: LevelStore, producer: Producer, metrics: Metrics, topics: &Namespace) -> Self {
        let (readings_topic, alerts_topic) = (topics.topic(&TO_ALERT_SYSTEM).into(), topics.topic(&TO_NOTIFIER));
        Self { store, producer, metrics, readings_topic, alerts_topic, partitions: HashMap::new() }
    }

    async fn settle_together(
        &mut self,
        batch: &[Record],
        messages: &[Result<Message<'_>, Rejection>],
    ) -> Result<Vec<Settled>, Failure> {
        let known = self.look_up(batch, messages).await?;
        let mut plan = plan(messages, &known);
        self.publish(&plan, batch).await?;
        self.write_rows(&plan).await?;
        self.update_memory(&mut plan, batch, messages);
        Ok(plan.outcomes.into_iter().map(label).collect())
    }

    /// Where those stand that the batch is about: from memory, and the rest in one query for each
    /// kind.
    async fn look_up(
        &self,
        batch: &[Record],
        messages: &[Result<Message<'_>, Rejection>],
    ) -> Result<HashMap<Uuid, CachedState>, Failure> {
        let mut known = HashMap::with_capacity(messages.len());
        let (mut interests, mut identities) = (HashSet::new(), HashSet::new());
        for (record, message) in batch.iter().zip(messages) {
            let Ok(message) = message else { continue };
            let (id, memory) = (message.id(), self.partitions.get(&record.partition));
            if message.is_legacy() {
                identities.insert(id);
            } else if let Some(cached) = memory.and_then(|memory| memory.cached(&id)) {
                known.insert(id, *cached);
            } else {
                interests.insert(id);
            }
        }
        let mut found = HashMap::new();
        if !interests.is_empty() {
            let ids: Vec<_> = interests.into_iter().collect();
            found.extend(asked("read levels", self.store.of_interests(&ids)).await?);
        }
        if let (false, Some(record)) = (identities.is_empty(), batch.first()) {
            let ids: Vec<_> = identities.into_iter().collect();
            found.extend(asked("read levels", self.store.of_identities(record.partition.0, &ids)).await?);
        }
        known.extend(found.into_iter().map(|(id, state)| (id, CachedState { state, dirty: false })));
        Ok(known)
    }

    async fn publish(&mut self, plan: &BatchPlan<'_>, batch: &[Record]) -> Result<(), Failure> {
        let is_published = |alert: &PendingAlert<'_>| {
            let memory = batch.get(alert.index).and_then(|record| self.partitions.get(&record.partition));
            memory.is_some_and(|memory| memory.is_acknowledged(&alert.event.event_id))
        };
        let unpublished: Vec<_> = plan.alerts.iter().filter(|alert| !is_published(alert)).collect();
        if unpublished.is_empty() {
            return Ok(());
        }
        fault::point("alert-system.decided-not-told");
        // An interest's next alert leaves when its last one is acknowledged. Together, one could fail
        // while the other is kept; sent again they would come the wrong way round, and a person
        // would read last what is no longer so.
        for together in in_rounds(unpublished) {
            self.publish_batch(&together, batch).await?;
            for alert in together {
                self.metrics.alerted(alert.kind);
                if let Some(record) = batch.get(alert.index) {
                    self.partitions.entry(record.partition).or_default().acknowledged(alert.event.event_id);
                }
            }
        }
        fault::point("alert-system.told-not-written");
        Ok(())
    }

    async fn publish_batch(&self, alerts: &[&PendingAlert<'_>], batch: &[Record]) -> Result<(), Failure> {
        let mut sending = self.producer.batch();
        for alert in alerts {
            let context = batch.get(alert.index).map(Record::request_context).unwrap_or_default();
            self.hand_over(&mut sending, alert, &context).await?;
        }
        sending.acknowledged().await.map_err(|error| match error.is_permanent() {
            true => Failure::broken(anyhow!(error).context("send alerts")),
            false => Failure::unavailable(anyhow!(error).context("send alerts")),
        })
    }

    async fn hand_over(
        &self,
        sending: &mut kafka::Batch,
        alert: &PendingAlert<'_>,
        context: &RequestContext,
    ) -> Result<(), Failure> {
        let id = alert.event.event_id;
        let span = tracing::info_span!("raise alert", alert.id = %id, alert.kind = alert.kind.as_str());
        let context = context.enter(&span);
        span.in_scope(|| tracing::debug!(alert.id = %id, "raising alert {id}: {}", alert.kind.as_str()));
        let value = serde_json::to_vec(&alert.event).context("write an alert as JSON").map_err(Failure::broken)?;
        let message = OutgoingRecord::to(&self.alerts_topic)
            .with_key(alert.event.user_email.as_bytes())
            .with_value(value)
            .with_header(headers::TYPE, headers::ALERT_V1)
            .with_request_context(&context);
        sending.send(&message).await;
        Ok(())
    }

    fn update_memory(
        &mut self,
        plan: &mut BatchPlan<'_>,
        batch: &[Record],
        messages: &[Result<Message<'_>, Rejection>],
    ) {
        let mut messages = messages.iter();
        for (partition, part) in by_partition(batch) {
            let ids = messages.by_ref().take(part.len()).flatten().map(Message::id);
            let touched = ids.filter_map(|id| plan.touched.remove_entry(&id));
            self.partitions.entry(partition).or_default().settled(touched);
        }
    }

    async fn write_rows(&self, plan: &BatchPlan<'_>) -> Result<(), Failure> {
        let rows = Rows { interests: plan.rows(false), legacy: plan.rows(true) };
        asked("write levels", self.store.store(&rows)).await?;
        if !(rows.interests.is_empty() && rows.legacy.is_empty()) {
            fault::point("alert-system.written-not-stored");
        }
        Ok(())
    }
}

impl Handler for AlertHandler {
    /// Identities of the legacy format may come from several partitions, whose offsets say nothing
    /// about each other: a batch with any is settled one partition after the other.
    async fn handle(&mut self, batch: &[Record]) -> Result<Vec<Settled>, Failure> {
        let topic = self.readings_topic.clone();
        let messages: Vec<_> = batch.iter().map(|record| read_one(&topic, record)).collect();
        if !messages.iter().flatten().any(Message::is_legacy) {
            return self.settle_together(batch, &messages).await;
        }
        let mut settled = Vec::with_capacity(batch.len());
        for (_, part) in by_partition(batch) {
            let of_part = settled.len()..settled.len() + part.len();
            settled.extend(self.settle_together(part, &messages[of_part]).await?);
        }
        Ok(settled)
    }

    fn partition_revoked(&mut self, partition: Partition) {
        self.partitions.remove(&partition);
    }
}

/// Asks the database, not for longer than [`QUERY_LIMIT`].
async fn asked<T>(what: &'static str, query: impl Future<Output = sqlx::Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(QUERY_LIMIT, query).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) if is_unavailable(&error) => Err(Failure::unavailable(anyhow!(error).context(what))),
        Ok(Err(error)) => Err(Failure::broken(anyhow!(error).context(what))),
        Err(_) => Err(Failure::unavailable(anyhow!("PostgreSQL did not answer within {QUERY_LIMIT:?}").context(what))),
    }
}

/// Reads a record. One in the legacy format is ordered by its place, which one that is retried brings
/// with it: what is newer wins, though it was settled before.
fn read_one<'a>(topic: &'a str, record: &'a Record) -> Result<Message<'a>, Rejection> {
    let place = record.original_place();
    let message = read(&wire(topic, place.unwrap_or((record.partition, record.offset)), record))?;
    if message.is_legacy() && place.is_none() {
        return Err(Rejection::without_place());
    }
    Ok(message)
}

fn wire<'a>(topic: &'a str, (partition, offset): (Partition, Offset), record: &'a Record) -> WireRecord<'a> {
    WireRecord {
        topic,
        partition: partition.0,
        offset: offset.0,
        key: record.key(),
        value: record.value(),
        ce_type: record.header(headers::TYPE),
    }
}

fn label(outcome: Result<Outcome, Rejection>) -> Settled {
    match outcome {
        Ok(Outcome::Alerted) => Settled::Done("alerted"),
        Ok(Outcome::Quiet) => Settled::Done("quiet"),
        Ok(Outcome::Stale) => Settled::Done("stale"),
        Ok(Outcome::Removed) => Settled::Done("removed"),
        Err(Rejection::UnknownType) => Settled::Skipped,
        Err(rejection) => Settled::rejected(rejection.to_string()),
    }
}
