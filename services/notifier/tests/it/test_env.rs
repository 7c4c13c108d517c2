//! One test's own database, topics, Telegram and people, and the verbs of its story.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicI64, Ordering},
    time::Duration,
};

use chrono::{DateTime, Utc};
use events::{
    AlertEvent, Crossing, FlightCount, ReadingRef, headers,
    topics::{Namespace, TO_NOTIFIER},
};
use kafka::{KafkaConfig, OutgoingRecord, Producer, Profile};
use notifier::{Config, MIGRATOR, SERVICE, config::Sending, core::retry_schedule::Schedule, start};
use simulators::telegram::Limits;
use testkit::Database;
pub use testkit::Worker;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{people::People, telegram::TOKEN, telegram::Telegram};

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct TestEnv {
    pub kafka: KafkaConfig,
    pub topics: Namespace,
    pub database: Database,
    pub telegram: Telegram,
    pub people: People,
    producer: Producer,
    next_chat: AtomicI64,
}

/// A user who wants to be told.
#[derive(Clone, Debug)]
pub struct Person {
    pub email: String,
    pub id: Uuid,
    pub chat: i64,
}

/// A record as it is sent: key, value, headers.
pub type Raw<'a> = (Option<&'a str>, Option<&'a [u8]>, &'a [(&'a str, &'a str)]);

impl TestEnv {
    /// On the shared servers, with a database and topics of its own.
    pub async fn new() -> Self {
        Self::on(testkit::kafka().await, testkit::topics()).await
    }

    /// With a Telegram that keeps its limits.
    pub async fn with_limits() -> Self {
        let env = Self::new().await;
        Self { telegram: Telegram::start(Some(Limits::default())).await, ..env }
    }

    pub async fn on(bootstrap: String, topics: Namespace) -> Self {
        runtime::choose_tls();
        let database = testkit::database(&MIGRATOR).await;
        let mut kafka = KafkaConfig::plain(bootstrap).with("auto.commit.interval.ms", "100");
        kafka.partitions = 3;
        kafka::topics::create(&kafka, &topics, &CancellationToken::new(), |_| {}).await.expect("topics");
        let producer = Producer::unwatched(&kafka, Profile::Latency).expect("a producer");
        Self {
            kafka,
            topics,
            database,
            telegram: Telegram::start(None).await,
            people: People::start().await,
            producer,
            next_chat: AtomicI64::new(7_415_926_535),
        }
    }

    /// The settings, with every wait a hundredth of what it is.
    pub fn config(&self) -> Config {
        self.config_on(&self.database.url, &self.kafka.bootstrap)
    }

    pub fn config_on(&self, database_url: &str, bootstrap: &str) -> Config {
        let vars: HashMap<String, String> = self.environment(database_url, bootstrap).into_iter().collect();
        let mut config = Config::from_vars(&vars).expect("settings");
        config.kafka = config.kafka.with("auto.commit.interval.ms", "100");
        config.telegram.call_limit = Duration::from_secs(1);
        config.sending = Sending {
            schedule: Schedule::scaled(0.01),
            probe_interval: Duration::from_millis(100),
            contact_interval: Duration::from_millis(100),
            contact_timeout: Duration::from_secs(3),
            gone_timeout: Duration::from_millis(300),
            clock_steady_time: Duration::ZERO,
            cleaning_steady_time: Duration::ZERO,
            ..config.sending
        };
        Config { topics: self.topics.clone(), ..config }
    }

    /// What the process of its own is told.
    pub fn environment(&self, database_url: &str, bootstrap: &str) -> Vec<(String, String)> {
        let pairs = [
            ("DATABASE_URL", database_url.to_owned()),
            ("KAFKA_BROKER_URL", bootstrap.to_owned()),
            ("KAFKA_PARTITIONS", self.kafka.partitions.to_string()),
            ("USER_MANAGER_GRPC_URL", self.people.url()),
            ("TELEGRAM_API_URL", self.telegram.url()),
            ("TELEGRAM_BOT_TOKEN", TOKEN.to_owned()),
            ("GRPC_ADDR", "127.0.0.1:0".to_owned()),
        ];
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// One replica more.
    pub async fn start(&self) -> Worker {
        self.start_with(self.config()).await
    }

    /// One replica more, with other settings.
    pub async fn start_with(&self, config: Config) -> Worker {
        Worker::start(SERVICE.name, async |runtime| start(config, runtime).await).await
    }

    pub async fn wait_until_leading(&self, worker: &Worker) {
        testkit::wait_for("a leader", PATIENCE, async || worker.metric("notifications_leader", "") > 0.0).await;
    }

    /// A user who is registered and has a chat.
    pub fn person(&self) -> Person {
        let person = self.stranger();
        self.people.register(&person.email, Some(person.chat));
        person
    }

    /// A group that a user registered.
    pub fn group(&self) -> Person {
        let mut person = self.stranger();
        person.chat = -person.chat;
        self.people.register(&person.email, Some(person.chat));
        person
    }

    /// A user whom user-manager does not know (yet).
    pub fn stranger(&self) -> Person {
        let id = Uuid::now_v7();
        let chat = self.next_chat.fetch_add(1, Ordering::Relaxed);
        Person { email: format!("{}@example.org", id.simple()), id, chat }
    }

    /// Sends records as they are: key, value, headers.
    pub async fn send_raw(&self, records: &[Raw<'_>]) {
        let topic = self.topics.topic(&TO_NOTIFIER);
        let outgoing = records.iter().map(|(key, value, headers)| {
            let mut outgoing = OutgoingRecord::to(&topic);
            if let Some(key) = key {
                outgoing = outgoing.with_key(key.as_bytes());
            }
            if let Some(value) = value {
                outgoing = outgoing.with_value(*value);
            }
            headers.iter().fold(outgoing, |outgoing, (name, value)| outgoing.with_header(*name, *value))
        });
        self.producer.send_all(outgoing).await.expect("messages sent");
    }

    /// Tells `person` each of these sentences, which are shown as they are. Answers the alerts' ids.
    pub async fn tell(&self, person: &Person, conditions: &[&str]) -> Vec<Uuid> {
        let events: Vec<_> = conditions.iter().map(|condition| alert(person, condition, Utc::now())).collect();
        self.tell_events(person, &events).await
    }

    /// Tells `person` of these crossings, whose sentences are made of their numbers. Answers the alerts' ids.
    pub async fn tell_crossings(&self, person: &Person, crossings: &[Crossing]) -> Vec<Uuid> {
        let events: Vec<_> = crossings
            .iter()
            .map(|crossing| AlertEvent {
                kind: crossing.kind().as_str().into(),
                flight_count: crossing.flight_count(),
                threshold: crossing.threshold(),
                ..alert(person, "Not shown.", Utc::now())
            })
            .collect();
        self.tell_events(person, &events).await
    }

    async fn tell_events(&self, person: &Person, events: &[AlertEvent<'_>]) -> Vec<Uuid> {
        let values: Vec<_> = events.iter().map(|event| serde_json::to_vec(event).expect("JSON")).collect();
        let kind = [(headers::TYPE, headers::ALERT_V1)];
        let records: Vec<_> =
            values.iter().map(|value| (Some(person.email.as_str()), Some(value.as_slice()), &kind[..])).collect();
        self.send_raw(&records).await;
        events.iter().map(|event| event.event_id).collect()
    }

    /// An alert's row: status, failures, and how many seconds until its queue is due.
    pub async fn row(&self, id: Uuid) -> Option<(String, i32, f64)> {
        sqlx::query_as(
            "SELECT status, failures,
               coalesce((SELECT extract(epoch FROM least(next_at, now() + interval '1 day') - now())::float8
                         FROM queues WHERE queues.email = alerts.email), 0)
             FROM alerts WHERE event_id = $1",
        )
        .bind(id)
        .fetch_optional(&self.database.pool)
        .await
        .expect("a row")
    }

    /// How often and when an attempt at an alert began, in seconds since the first.
    pub async fn began(&self, id: Uuid) -> Vec<f64> {
        sqlx::query_scalar(
            "SELECT extract(epoch FROM started_at - min(started_at) OVER ())::float8 FROM attempts
             WHERE event_id = $1 ORDER BY id",
        )
        .bind(id)
        .fetch_all(&self.database.pool)
        .await
        .expect("attempts")
    }

    pub async fn execute(&self, sql: &'static str) {
        sqlx::query(sql).execute(&self.database.pool).await.expect("a statement");
    }

    pub async fn status(&self, id: Uuid) -> Option<String> {
        self.row(id).await.map(|(status, ..)| status)
    }

    pub async fn wait_for_status(&self, id: Uuid, status: &str) {
        let what = format!("{id} to be {status}");
        testkit::wait_for(&what, PATIENCE, async || self.status(id).await.as_deref() == Some(status)).await;
    }

    /// How the attempts at an alert ended, in order.
    pub async fn outcomes(&self, id: Uuid) -> Vec<Option<String>> {
        sqlx::query_scalar("SELECT outcome FROM attempts WHERE event_id = $1 ORDER BY id")
            .bind(id)
            .fetch_all(&self.database.pool)
            .await
            .expect("attempts")
    }

    /// How the attempts at an alert ended, all of which have.
    pub async fn ended(&self, id: Uuid) -> Vec<String> {
        self.outcomes(id).await.into_iter().map(|outcome| outcome.expect("an outcome")).collect()
    }

    pub async fn count(&self, status: &str) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM alerts WHERE status = $1")
            .bind(status)
            .fetch_one(&self.database.pool)
            .await
            .expect("a count")
    }

    pub async fn wait_for_count(&self, status: &str, count: i64) {
        let what = format!("{count} alerts to be {status}");
        testkit::wait_for(&what, PATIENCE, async || self.count(status).await == count).await;
    }
}

/// An alert for `person`, with a reading of this time, and of a kind that is not known: it is told as its condition.
pub fn alert<'a>(person: &'a Person, condition: &'a str, observed_at: DateTime<Utc>) -> AlertEvent<'a> {
    AlertEvent {
        event_id: Uuid::new_v4(),
        interest_id: Some(Uuid::now_v7()),
        user_id: Some(person.id),
        user_email: person.email.as_str().into(),
        airport_code: "LFPG".into(),
        metric: "live".into(),
        kind: "notice".into(),
        flight_count: FlightCount::new(10),
        threshold: Some(FlightCount::new(2)),
        condition: condition.into(),
        reading: Some(ReadingRef {
            id: Uuid::now_v7(),
            seq: 1,
            window_begin: observed_at,
            window_end: observed_at,
            observed_at,
            source: "OpenSky Network".into(),
        }),
    }
}
