//! One test's own database and topics, and the verbs of its story.

use std::{collections::HashMap, time::Duration};

use alert_system::{Config, MIGRATOR, SERVICE, start};
use events::{
    AlertEvent, FlightCount, LegacyReading, ReadingEvent, ReadingRef, headers, reading_event_id,
    topics::{self, ALERT_SYSTEM_GROUP, Namespace, TO_ALERT_SYSTEM, TO_NOTIFIER},
};
use kafka::{
    KafkaConfig, OutgoingRecord, Producer, Profile,
    dlq::{DeadLetters, Dlq},
};
pub use testkit::Worker;
use testkit::topic_io;
use tokio::sync::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct TestEnv {
    pub kafka: KafkaConfig,
    pub topics: Namespace,
    pub database: testkit::Database,
    producer: Producer,
}

/// An environment whose topics have the contract's own names, as the real binary wants them. There
/// is one at a time.
pub struct LoneTestEnv {
    pub env: TestEnv,
    pub kafka: testkit::Kafka,
    _alone: MutexGuard<'static, ()>,
}

/// What was told, as far as tests look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SentAlert {
    pub event_id: Uuid,
    pub interest: Option<Uuid>,
    pub kind: String,
    pub flight_count: FlightCount,
}

/// A user's interest, and how its messages are made.
#[derive(Clone, Debug)]
pub struct Interest {
    pub id: Uuid,
    pub email: String,
    pub version: i64,
    pub high: Option<FlightCount>,
    pub low: Option<FlightCount>,
}

/// A message to be sent, and its key.
#[derive(Clone, Debug)]
pub struct Sent {
    pub key: Option<String>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(&'static str, String)>,
}

impl TestEnv {
    /// On the shared servers, with a database and topics of its own.
    pub async fn new() -> Self {
        Self::on(testkit::kafka().await, testkit::topics()).await
    }

    /// On a broker that no other test uses at the same time.
    pub async fn alone() -> LoneTestEnv {
        static ALONE: Mutex<()> = Mutex::const_new(());
        let alone = ALONE.lock().await;
        let kafka = testkit::lone_kafka().await;
        LoneTestEnv { env: Self::on(kafka.bootstrap.clone(), Namespace::default()).await, kafka, _alone: alone }
    }

    pub async fn on(bootstrap: String, topics: Namespace) -> Self {
        let mut kafka = KafkaConfig::plain(bootstrap).with("auto.commit.interval.ms", "100");
        kafka.partitions = 3;
        let database = testkit::database(&MIGRATOR).await;
        kafka::topics::create(&kafka, &topics, &CancellationToken::new(), |_| {}).await.expect("topics");
        let producer = Producer::unwatched(&kafka, Profile::Throughput).expect("a producer");
        Self { kafka, topics, database, producer }
    }

    pub fn config(&self) -> Config {
        self.config_with(&self.database.url, &self.kafka.bootstrap)
    }

    /// The same with other addresses.
    pub fn config_with(&self, database_url: &str, bootstrap: &str) -> Config {
        let vars = HashMap::from([
            ("DATABASE_URL".to_owned(), database_url.to_owned()),
            ("KAFKA_BROKER_URL".to_owned(), bootstrap.to_owned()),
        ]);
        let config = Config::from_vars(&vars).expect("settings");
        let mut kafka = self.kafka.clone();
        bootstrap.clone_into(&mut kafka.bootstrap);
        Config { kafka, topics: self.topics.clone(), ..config }
    }

    /// One replica more.
    pub async fn start(&self) -> Worker {
        self.start_with(self.config()).await
    }

    /// One replica more, with other settings.
    pub async fn start_with(&self, config: Config) -> Worker {
        Worker::start(SERVICE.name, async |runtime| start(config, runtime).await).await
    }

    pub async fn send(&self, messages: &[Sent]) {
        self.try_to_send(messages).await.expect("messages sent");
    }

    /// Sends until Kafka has kept everything; some of it may then be there more than once.
    pub async fn insist(&self, messages: &[Sent]) {
        testkit::wait_for("Kafka to keep them", PATIENCE, async || self.try_to_send(messages).await.is_ok()).await;
    }

    async fn try_to_send(&self, messages: &[Sent]) -> Result<(), kafka::SendError> {
        self.send_to(&self.topics.topic(&TO_ALERT_SYSTEM), messages).await
    }

    async fn send_to(&self, topic: &str, messages: &[Sent]) -> Result<(), kafka::SendError> {
        let outgoing = messages.iter().map(|message| {
            let mut outgoing = OutgoingRecord::to(topic);
            if let Some(key) = &message.key {
                outgoing = outgoing.with_key(key.as_bytes());
            }
            if let Some(value) = &message.value {
                outgoing = outgoing.with_value(value.as_slice());
            }
            message.headers.iter().fold(outgoing, |outgoing, (name, value)| outgoing.with_header(*name, value))
        });
        self.producer.send_all(outgoing).await
    }

    pub fn dlq(&self) -> Dlq {
        let (topic, group) = (self.topics.topic(&TO_ALERT_SYSTEM), self.topics.group(&ALERT_SYSTEM_GROUP));
        Dlq::of(&self.kafka, &topic, &group).expect("dead letters")
    }

    /// Writes this message as a dead letter, and has it replayed.
    pub async fn retry(&self, message: &Sent) {
        let (topic, group) = (self.topics.topic(&TO_ALERT_SYSTEM), self.topics.group(&ALERT_SYSTEM_GROUP));
        self.send_to(&topics::dead_letter_topic(&topic, &group), std::slice::from_ref(message))
            .await
            .expect("a letter");
        let letters = self.dlq().list(100).await.expect("a list").letters;
        let letter = letters.iter().find(|letter| letter.record.value() == message.value.as_deref()).expect("it");
        self.dlq().replay(DeadLetters::These(vec![letter.id()])).await.expect("replayed");
    }

    /// Waits until every message so far is settled and committed.
    pub async fn settled(&self) {
        let (topic, group) = (self.topics.topic(&TO_ALERT_SYSTEM), self.topics.group(&ALERT_SYSTEM_GROUP));
        let done = async || topic_io::behind(&self.kafka.bootstrap, &topic, &group).await == 0;
        testkit::wait_for("every message to be settled", PATIENCE, done).await;
    }

    /// Every record on `to-notifier`, repeats included.
    pub async fn alert_records(&self) -> Vec<topic_io::Record> {
        topic_io::consume_all(&self.kafka.bootstrap, &self.topics.topic(&TO_NOTIFIER)).await
    }

    /// Every alert, repeats included, those of one person in their order.
    pub async fn sent_alerts(&self) -> Vec<SentAlert> {
        self.alert_records().await.iter().map(SentAlert::from_record).collect()
    }

    /// Every alert once, as the notifier's ledger keeps them.
    pub async fn ledger(&self) -> Vec<SentAlert> {
        let mut known: HashMap<Uuid, SentAlert> = HashMap::new();
        let mut ledger = Vec::new();
        for sent_alerts in self.sent_alerts().await {
            match known.insert(sent_alerts.event_id, sent_alerts.clone()) {
                Some(first) => assert_eq!(first, sent_alerts, "a repeated alert says the same"),
                None => ledger.push(sent_alerts),
            }
        }
        ledger
    }

    /// The kinds told of one interest, in order, each alert once.
    pub async fn kinds_of(&self, interest: &Interest) -> Vec<String> {
        interest.kinds_in(&self.ledger().await)
    }

    pub async fn dead_letters(&self) -> Vec<topic_io::Record> {
        let topic =
            topics::dead_letter_topic(&self.topics.topic(&TO_ALERT_SYSTEM), &self.topics.group(&ALERT_SYSTEM_GROUP));
        topic_io::consume_all(&self.kafka.bootstrap, &topic).await
    }

    pub async fn wait_until_sent(&self, count: usize) {
        let sent_alerts = async || self.ledger().await.len() >= count;
        testkit::wait_for("alerts", PATIENCE, sent_alerts).await;
    }
}

impl SentAlert {
    fn from_record(record: &topic_io::Record) -> Self {
        let event: AlertEvent<'_> =
            serde_json::from_slice(record.value.as_deref().expect("a value")).expect("an alert");
        Self {
            event_id: event.event_id,
            interest: event.interest_id,
            kind: event.kind.into_owned(),
            flight_count: event.flight_count,
        }
    }
}

impl Interest {
    /// Alerts above 10 and below 2.
    pub fn new() -> Self {
        let id = Uuid::now_v7();
        let (high, low) = (Some(FlightCount::new(10)), Some(FlightCount::new(2)));
        Self { id, email: format!("{}@example.org", id.simple()), version: 1, high, low }
    }

    /// The reading of this number.
    pub fn reading(&self, seq: i64, flights: impl Into<Option<u32>>) -> Sent {
        let value = serde_json::to_vec(&self.event(seq, flights.into())).expect("JSON");
        let headers = vec![(headers::TYPE, headers::READING_V1.to_owned())];
        Sent { key: Some(self.id.to_string()), value: Some(value), headers }
    }

    pub fn event(&self, seq: i64, flights: Option<u32>) -> ReadingEvent<'_> {
        let reading_id = Uuid::from_u64_pair(7, u64::try_from(seq).expect("a number"));
        let begun = "2026-11-20T00:00:00Z".parse().expect("a time");
        ReadingEvent {
            event_id: reading_event_id(self.id, self.version, reading_id),
            interest_id: self.id,
            interest_version: self.version,
            user_id: Uuid::from_u64_pair(8, 1),
            user_email: self.email.as_str().into(),
            airport_code: "LFPG".into(),
            metric: "flights".into(),
            flight_count: flights.map(FlightCount::new),
            high_value: self.high,
            low_value: self.low,
            reading: ReadingRef {
                id: reading_id,
                seq,
                window_begin: begun,
                window_end: begun,
                observed_at: begun,
                source: "OpenSky Network".into(),
            },
        }
    }

    /// The kinds told of it, in order.
    pub fn kinds_in(&self, ledger: &[SentAlert]) -> Vec<String> {
        ledger
            .iter()
            .filter(|sent_alerts| sent_alerts.interest == Some(self.id))
            .map(|sent_alerts| sent_alerts.kind.clone())
            .collect()
    }

    /// Its removal.
    pub fn removal(&self) -> Sent {
        Sent { key: Some(self.id.to_string()), value: None, headers: Vec::new() }
    }
}

/// a message in the legacy format.
pub fn legacy(email: &str, airport: &str, flights: impl Into<Option<u32>>) -> Sent {
    let fields = LegacyReading {
        user_email: email.into(),
        airport_code: airport.into(),
        flight_count: flights.into().map(FlightCount::new),
        high_value: Some(FlightCount::new(10)),
        low_value: Some(FlightCount::new(2)),
    };
    Sent { key: Some(email.to_owned()), value: Some(serde_json::to_vec(&fields).expect("JSON")), headers: Vec::new() }
}
