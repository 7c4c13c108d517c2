//! Brings what changes of interests cause to Kafka, at once and until it is done.
//!
//! Evaluations are worked on in batches. One that cannot be read is set aside in the batch's own
//! transaction; a batch that fails as a whole is tried again in halves, and what fails alone is set aside
//! too. Then it is tried again alone, less and less often, while the others go on.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use anyhow::Context;
use chrono::TimeDelta;
use kafka::{Producer, SendError};
use runtime::{clock::Clock, fault};
use sqlx::{Postgres, Transaction};

use crate::{
    core::{
        interest::Thresholds,
        isolation::{self, LARGEST_BATCH},
        reading::usable_since,
    },
    message::{Messages, record, removal},
    metrics::Metrics,
    store::{
        Store,
        interests::forget_contexts,
        outbox::{self, Evaluation, Judged},
    },
};

/// What the relay works with.
#[derive(Clone)]
pub struct Relay {
    /// Where the outbox is.
    pub store: Store,
    /// Where messages go.
    pub producer: Producer,
    /// The topic.
    pub topic: String,
    /// The time.
    pub clock: Clock,
    /// The least time between two collections of an airport.
    pub interval: TimeDelta,
    /// What is counted.
    pub metrics: Metrics,
    /// How many evaluations the next batch has at most.
    pub batch: BatchLimit,
}

/// How many evaluations are worked on together: fewer after a failure, more after a success.
#[derive(Clone, Debug)]
pub struct BatchLimit(Arc<AtomicUsize>);

impl Default for BatchLimit {
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(LARGEST_BATCH)))
    }
}

impl Relay {
    /// Judges new and changed interests by the reading that [`outbox::judged`] tells, or has their airports
    /// collected where there is none. Answers whether there were any.
    ///
    /// # Errors
    /// When the database or Kafka is away: done again, with the same event ids.
    pub async fn evaluate(&self) -> anyhow::Result<bool> {
        let limit = self.batch.0.load(Ordering::Relaxed);
        let mut transaction = self.store.begin().await.context("begin an evaluation")?;
        let evaluations = outbox::claim_evaluations(&mut transaction, i64::try_from(limit)?).await;
        let evaluations = evaluations.context("claim evaluations")?;
        if evaluations.is_empty() {
            return Ok(false);
        }
        match self.carry_out(transaction, &evaluations).await {
            Ok(()) => {
                self.batch.0.store(isolation::larger_batch(limit), Ordering::Relaxed);
                Ok(true)
            }
            // This says nothing about any of them.
            Err(error) if is_database_away(&error) => Err(error),
            Err(error) => match evaluations.as_slice() {
                [alone] => {
                    let mut connection = self.store.pool().acquire().await.context("set an evaluation aside")?;
                    self.set_aside(&mut connection, alone, &error).await?;
                    Ok(true)
                }
                batch => {
                    self.batch.0.store(isolation::smaller_batch(batch.len()), Ordering::Relaxed);
                    Err(error)
                }
            },
        }
    }

    async fn carry_out(
        &self,
        mut transaction: Transaction<'static, Postgres>,
        evaluations: &[Evaluation],
    ) -> anyhow::Result<()> {
        let judged = outbox::judged(&mut transaction, evaluations).await.context("read interests and readings")?;
        let now = self.clock.now();
        let mut batch = self.producer.batch();
        let (mut value, mut settled) = (Vec::new(), Vec::new());
        let (mut done, mut wanted) = (Vec::with_capacity(evaluations.len()), Vec::new());
        let mut failed = Vec::new();
        for evaluation in evaluations {
            let Judged { interest, reading } = match judged.get(&evaluation.interest_id) {
                // It was removed since.
                None => {
                    done.push(evaluation.id);
                    continue;
                }
                Some(Err(error)) => {
                    failed.push((evaluation, anyhow::anyhow!("read an interest: {error}")));
                    continue;
                }
                Some(Ok(judged)) => judged,
            };
            let since = usable_since(interest.metric, now, self.interval);
            if let Some(reading) = reading.as_ref().filter(|reading| reading.is_usable(since)) {
                let messages = Messages::of(reading).context("write a reading")?;
                messages.write(&interest.into(), &mut value).context("write a message")?;
                let key = interest.id.to_string();
                batch.send(&record(&self.topic, &key, &value, &evaluation.context)).await;
                settled.push((interest.id, interest.version));
            } else {
                // Without thresholds nothing is sent for it, whatever is collected.
                if interest.thresholds == Thresholds::default() {
                    settled.push((interest.id, interest.version));
                }
                wanted.push((interest.airport.as_str(), interest.metric));
            }
            done.push(evaluation.id);
        }
        batch.acknowledged().await.context("send evaluations")?;
        fault::point("data-collector.evaluation-sent-not-recorded");
        if !wanted.is_empty() {
            outbox::request_collections(&mut transaction, &wanted, now).await.context("request collections")?;
        }
        for (evaluation, error) in failed {
            self.set_aside(&mut transaction, evaluation, &error).await?;
        }
        forget_contexts(&mut transaction, &settled).await.context("record evaluations")?;
        outbox::settle(&mut transaction, &done).await.context("record evaluations")?;
        transaction.commit().await.context("record evaluations")?;
        Ok(())
    }

    async fn set_aside(
        &self,
        connection: &mut sqlx::PgConnection,
        evaluation: &Evaluation,
        error: &anyhow::Error,
    ) -> anyhow::Result<()> {
        // Only what Kafka could not be asked or did not answer may pass by itself.
        let is_permanent = error.downcast_ref::<SendError>().is_none_or(SendError::is_permanent);
        let failures = u32::try_from(evaluation.failures).unwrap_or_default();
        let wait = isolation::wait(failures, is_permanent);
        outbox::set_aside(connection, evaluation.id, wait).await.context("set an evaluation aside")?;
        self.metrics.evaluation_failed();
        tracing::warn!(
            interest.id = %evaluation.interest_id,
            failures = failures.saturating_add(1),
            "set an evaluation aside for {} s: {error:#}",
            wait.as_secs_f64()
        );
        Ok(())
    }

    /// Tells the removal of interests. Answers whether there were any.
    ///
    /// # Errors
    /// When the database or Kafka is away: told again.
    pub async fn remove(&self) -> anyhow::Result<bool> {
        let mut transaction = self.store.begin().await.context("begin a removal")?;
        let removals = outbox::claim_removals(&mut transaction).await.context("claim removals")?;
        let Some(removals) = removals else { return Ok(false) };
        let mut batch = self.producer.batch();
        for (_, interest, cause) in &removals.rows {
            batch.send(&removal(&self.topic, &interest.to_string(), cause)).await;
        }
        batch.acknowledged().await.context("send removals")?;
        fault::point("data-collector.removal-sent-not-recorded");
        let ids: Vec<i64> = removals.rows.iter().map(|(id, ..)| *id).collect();
        outbox::settle(&mut transaction, &ids).await.context("record removals")?;
        transaction.commit().await.context("record removals")?;
        Ok(true)
    }
}

fn is_database_away(error: &anyhow::Error) -> bool {
    error.chain().filter_map(|cause| cause.downcast_ref::<sqlx::Error>()).any(pg::is_unavailable)
}
