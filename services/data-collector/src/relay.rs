//! Brings what changes of interests cause to Kafka, at once and until it is done.

use anyhow::Context;
use chrono::TimeDelta;
use shell::{clock::Clock, fault};
use stream::Producer;

use crate::{
    core::{interest::Thresholds, reading::usable_since},
    message::{Messages, record, removal},
    store::{Store, interests::forget_causes, outbox, readings},
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
}

impl Relay {
    /// Judges new and changed interests by the newest reading, or has their airports collected where
    /// there is none. Answers whether there were any.
    ///
    /// # Errors
    /// When the database or Kafka is away: done again, with the same event ids.
    pub async fn evaluate(&self) -> anyhow::Result<bool> {
        let mut transaction = self.store.begin().await.context("begin an evaluation")?;
        let evaluations = outbox::claim_evaluations(&mut transaction).await.context("claim evaluations")?;
        if evaluations.is_empty() {
            return Ok(false);
        }
        let now = self.clock.now();
        let mut batch = self.producer.batch();
        let (mut value, mut settled) = (Vec::new(), Vec::new());
        for evaluation in &evaluations {
            let Some(interest) = &evaluation.interest else { continue };
            let since = usable_since(interest.metric, now, self.interval);
            let usable = readings::newest_usable(&mut transaction, &interest.airport, interest.metric, since).await;
            match usable.context("find a reading")? {
                Some(reading) => {
                    let messages = Messages::of(&reading).context("write a reading")?;
                    messages.write(&interest.into(), &mut value).context("write a message")?;
                    let key = interest.id.to_string();
                    batch.send(&record(&self.topic, &key, &value, &evaluation.cause)).await;
                    settled.push((interest.id, interest.version));
                }
                None => {
                    outbox::request_collection(&mut transaction, &interest.airport, interest.metric, now)
                        .await
                        .context("request a collection")?;
                    // Without thresholds nothing is sent for it, whatever is collected.
                    if interest.thresholds == Thresholds::default() {
                        settled.push((interest.id, interest.version));
                    }
                }
            }
        }
        batch.acknowledged().await.context("send evaluations")?;
        fault::point("data-collector.evaluation-sent-not-recorded");
        let ids: Vec<i64> = evaluations.iter().map(|evaluation| evaluation.id).collect();
        forget_causes(&mut transaction, &settled).await.context("record evaluations")?;
        outbox::settle(&mut transaction, &ids).await.context("record evaluations")?;
        transaction.commit().await.context("record evaluations")?;
        Ok(true)
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
