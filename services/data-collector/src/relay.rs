//! Brings what changes of interests cause to Kafka, at once and until it is done.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Context;
use chrono::TimeDelta;
use kafka::{Producer, SendError};
use pg::jobs::{BatchHandler, Failure, Job, Settings};
use runtime::{backoff::Backoff, clock::Clock, fault};
use sqlx::PgConnection;

use crate::{
    core::{interest::Thresholds, reading::usable_since},
    message::{Messages, record, removal},
    store::{
        evaluations::{Judged, judged},
        fan_out::wait_for_pages,
        interests::forget_contexts,
        outbox::{Evaluation, REMOVAL, Removal, request_collections},
    },
};

/// Evaluations or removals that are worked on together at most.
const LARGEST_BATCH: usize = 500;
/// How long a batch may take: longer than Kafka may take to acknowledge.
const BATCH_LIMIT: Duration = Duration::from_secs(20);
/// How long to wait while the database is away. People wait for what follows, so not for long.
const PAUSES: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(2));

/// What the relay works with.
#[derive(Clone)]
pub struct Relay {
    /// Where messages go.
    pub producer: Producer,
    /// The topic.
    pub topic: String,
    /// The time.
    pub clock: Clock,
    /// The least time between two collections of an airport.
    pub interval: TimeDelta,
}

/// Judges new and changed interests by the reading that [`judged`] tells, or has their airports collected where
/// there is none.
pub struct Evaluations(pub Relay);

/// Tells the removal of interests.
pub struct Removals(pub Relay);

impl Evaluations {
    /// How evaluations are worked on: together, in the transaction that records what they caused. What goes wrong with
    /// Kafka may be the fault of one partition or one message, so it is not taken for Kafka being away.
    #[must_use]
    pub fn settings() -> Settings {
        Settings {
            batch: LARGEST_BATCH,
            limit: BATCH_LIMIT,
            pauses: PAUSES,
            wakes: const { &[REMOVAL.name()] },
            ..Settings::default()
        }
    }
}

impl Removals {
    /// How removals are worked on: the removal of an interest follows every evaluation of it.
    #[must_use]
    pub fn settings() -> Settings {
        Settings {
            batch: LARGEST_BATCH,
            limit: BATCH_LIMIT,
            pauses: PAUSES,
            waits_for_key: true,
            ..Settings::default()
        }
    }
}

impl BatchHandler for Evaluations {
    type Payload = Evaluation;

    async fn handle(
        &self,
        connection: &mut PgConnection,
        jobs: &[Job<Evaluation>],
    ) -> Result<Vec<(i64, Failure)>, Failure> {
        let relay = &self.0;
        let ids: Vec<_> = jobs.iter().map(|job| job.payload.interest_id).collect();
        let judged = judged(connection, &ids).await;
        let judged = judged.map_err(|error| Failure::from(error).context("read interests and readings"))?;
        let now = relay.clock.now();
        let mut batch = relay.producer.batch();
        let (mut value, mut settled, mut wanted, mut failed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for job in jobs {
            let Judged { interest, reading } = match judged.get(&job.payload.interest_id) {
                // It was removed since.
                None => continue,
                Some(Err(error)) => {
                    failed.push((job.id, Failure::Permanent(anyhow::anyhow!("read an interest: {error}"))));
                    continue;
                }
                Some(Ok(judged)) => judged,
            };
            let since = usable_since(interest.metric, now, relay.interval);
            if let Some(reading) = reading.as_ref().filter(|reading| reading.is_usable(since)) {
                let written = Messages::of(reading)?.write(&interest.into(), &mut value);
                written.context("write a message").map_err(Failure::Permanent)?;
                batch.send(&record(&relay.topic, &interest.id.to_string(), &value, &job.context)).await;
                settled.push((interest.id, interest.version));
            } else {
                // Without thresholds nothing is sent for it, whatever is collected.
                if interest.thresholds == Thresholds::default() {
                    settled.push((interest.id, interest.version));
                }
                wanted.push((interest.airport.as_str(), interest.metric));
            }
        }
        batch.acknowledged().await.map_err(|error| not_sent(error, "send evaluations"))?;
        fault::point("data-collector.evaluation-sent-not-recorded");
        if !wanted.is_empty() {
            let requested = request_collections(connection, &wanted, now).await;
            requested.map_err(|error| Failure::from(error).context("request collections"))?;
        }
        let forgotten = forget_contexts(connection, &settled).await;
        forgotten.map_err(|error| Failure::from(error).context("record evaluations"))?;
        Ok(failed)
    }
}

impl BatchHandler for Removals {
    type Payload = Removal;

    async fn handle(
        &self,
        connection: &mut PgConnection,
        jobs: &[Job<Removal>],
    ) -> Result<Vec<(i64, Failure)>, Failure> {
        let series: BTreeSet<_> = jobs.iter().map(|Job { payload, .. }| (&payload.airport, &payload.metric)).collect();
        for (airport, metric) in series {
            let waited = wait_for_pages(connection, airport, metric).await;
            waited.map_err(|error| Failure::from(error).context("wait for pages"))?;
        }
        let relay = &self.0;
        let mut batch = relay.producer.batch();
        for job in jobs {
            batch.send(&removal(&relay.topic, &job.payload.interest_id.to_string(), &job.context)).await;
        }
        batch.acknowledged().await.map_err(|error| not_sent(error, "send removals"))?;
        fault::point("data-collector.removal-sent-not-recorded");
        Ok(Vec::new())
    }
}

fn not_sent(error: SendError, doing: &'static str) -> Failure {
    // Only what Kafka could not be asked or did not answer may pass by itself.
    let is_permanent = error.is_permanent();
    let error = anyhow::Error::from(error).context(doing);
    if is_permanent { Failure::Permanent(error) } else { Failure::Transient(error) }
}
