//! The greeter's topic: its row, and the consumer that reads it.

use events::{
    headers,
    topics::{Group, Namespace, Topic, days},
};
use kafka::{Consumer, Failure, Handler, KafkaConfig, Producer, Profile, Record, Settled, Subscription, topics};
use pg::Pool;
use runtime::{ServiceRuntime, readiness::Criticality};
use serde::Deserialize;
use uuid::Uuid;

/// The table that the service's specification hands on.
pub static TOPICS: &[Topic] = &[GREETINGS];

const GREETINGS: Topic = Topic {
    name: "greetings",
    owner: "greeter",
    key: "name",
    retention: days(1),
    event_types: &["flightbell.example.greeting.v1"],
    groups: &[GREETER_GROUP],
};

const GREETER_GROUP: Group = Group { name: "greeter", service: "greeter" };

/// Waits for the topic, then reads it until the service stops.
pub async fn consume(config: &KafkaConfig, pool: Pool, runtime: &ServiceRuntime) -> anyhow::Result<()> {
    let names = Namespace::of(TOPICS);
    topics::ensure(config, &names, "greeter", Criticality::Required, runtime).await?;
    let dead_letters =
        Producer::new(config, Profile::Latency, &names.topic(&GREETINGS), Criticality::Required, runtime)?;
    let subscription = Subscription::of(&names, &GREETINGS, &GREETER_GROUP)?;
    Consumer::new(config, subscription, &dead_letters, runtime)?.spawn(Greetings { pool }, runtime);
    Ok(())
}

#[derive(Deserialize)]
struct GreetingEvent {
    event_id: Uuid,
    name: String,
}

struct Greetings {
    pool: Pool,
}

impl Greetings {
    /// Keeps a greeting, however often it comes.
    async fn keep(&self, record: &Record) -> Result<Settled, Failure> {
        if !GREETINGS.knows(record.header(headers::TYPE)) {
            return Ok(Settled::Skipped);
        }
        let Ok(event) = serde_json::from_slice::<GreetingEvent>(record.value().unwrap_or_default()) else {
            return Ok(Settled::rejected("it is not a greeting"));
        };
        let insert = "INSERT INTO greetings (name, event_id) VALUES ($1, $2) ON CONFLICT (event_id) DO NOTHING";
        let insert = sqlx::query(insert).bind(event.name).bind(event.event_id);
        insert.execute(&self.pool).await.map_err(Failure::unavailable)?;
        Ok(Settled::Done("handled"))
    }
}

impl Handler for Greetings {
    async fn handle(&mut self, batch: &[Record]) -> Result<Vec<Settled>, Failure> {
        let mut settled = Vec::with_capacity(batch.len());
        for record in batch {
            settled.push(self.keep(record).await?);
        }
        Ok(settled)
    }
}
