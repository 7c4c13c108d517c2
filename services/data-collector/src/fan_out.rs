//! Brings each reading to the interests that watch it, a page at a time, in constant memory.

use std::time::Duration;

use anyhow::Context;
use kafka::Producer;
use runtime::{fault, periodic::Periodic};

use crate::{
    message::{Messages, record},
    metrics::Metrics,
    store::{Store, fan_out},
};

/// Interests in a page. A crash repeats at most one.
pub const PAGE: i64 = 5_000;

/// How often what waits is counted, and how long that may take.
const COUNT_INTERVAL: Duration = Duration::from_secs(15);
const COUNT_LIMIT: Duration = Duration::from_secs(15);

/// Counts what waits, in every replica: it is to be seen as well when nobody fans out.
pub fn count(store: Store, metrics: Metrics) -> Periodic {
    Periodic::new("count of readings that wait", COUNT_INTERVAL, COUNT_LIMIT, move || {
        let (store, metrics) = (store.clone(), metrics.clone());
        async move {
            metrics.fan_outs(&store.waiting_fan_outs().await.context("count readings that wait")?);
            Ok(())
        }
    })
}

/// What the fan-out works with.
#[derive(Clone)]
pub struct FanOut {
    /// Where progress is kept.
    pub store: Store,
    /// Where messages go.
    pub producer: Producer,
    /// The topic.
    pub topic: String,
}

impl FanOut {
    /// Sends one page of one reading. Answers whether there was one.
    ///
    /// # Errors
    /// When the database or Kafka is away: the page is sent again, with the same event ids.
    pub async fn page(&self) -> anyhow::Result<bool> {
        let mut transaction = self.store.begin().await.context("begin a page")?;
        let page = fan_out::claim_page(&mut transaction, PAGE).await.context("claim a page")?;
        let Some(page) = page else { return Ok(false) };
        let messages = Messages::of(&page.reading).context("write a reading")?;
        let mut batch = self.producer.batch();
        let mut value = Vec::with_capacity(1024);
        for recipient in &page.recipients {
            messages.write(recipient, &mut value).context("write a message")?;
            let mut key = uuid::Uuid::encode_buffer();
            let key = recipient.interest_id.hyphenated().encode_lower(&mut key);
            batch.send(&record(&self.topic, key, &value, &recipient.context)).await;
        }
        batch.acknowledged().await.context("send a page")?;
        fault::point("data-collector.page-sent-not-recorded");
        fan_out::record_page(&mut transaction, &page, PAGE).await.context("record a page")?;
        transaction.commit().await.context("record a page")?;
        tracing::debug!(
            airport = page.reading.airport,
            metric = %page.reading.metric,
            seq = page.reading.seq,
            "sent a reading to {} interests",
            page.recipients.len()
        );
        Ok(true)
    }
}
