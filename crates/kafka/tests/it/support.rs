use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use events::topics::{
    ALERT_SYSTEM_GROUP, Namespace, TO_ALERT_SYSTEM, dead_letter_topic, legacy_dead_letter_topic, retry_topic,
};
use kafka::{
    BatchLimits, Consumer, DeadLetterBreaker, Failure, Handler, KafkaConfig, OutgoingRecord, Partition, Producer,
    Profile, Record, Settled, Subscription, dlq::Dlq, topics,
};
use rdkafka::{
    ClientConfig, Offset as Position, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer as _},
};
use runtime::{ServiceRuntime, clock::Clock};
use tokio_util::sync::CancellationToken;

/// How long a condition may take to come true.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Topics and groups of one test.
pub struct Harness {
    pub config: KafkaConfig,
    pub topic: String,
    pub group: String,
    pub producer: Producer,
}

impl Harness {
    /// With a topic of so many partitions, and its dead letters.
    pub async fn new(partitions: u16) -> Self {
        Self::configured(partitions, |config| config).await
    }

    pub async fn configured(partitions: u16, configure: impl FnOnce(KafkaConfig) -> KafkaConfig) -> Self {
        let config = configure(KafkaConfig::plain(testkit::kafka().await));
        Self::with_topics(config, partitions).await
    }

    /// On a Kafka of the test's own choice.
    pub async fn with_topics(mut config: KafkaConfig, partitions: u16) -> Self {
        config.partitions = partitions;
        let names = testkit::topics();
        topics::create(&config, &names, &CancellationToken::new(), drop).await.expect("topics");
        Self::on(config, &names)
    }

    pub fn on(config: KafkaConfig, names: &Namespace) -> Self {
        let producer = Producer::unwatched(&config, Profile::Throughput).expect("a producer");
        let (topic, group) = (names.topic(&TO_ALERT_SYSTEM), names.group(&ALERT_SYSTEM_GROUP));
        Self { config, topic, group, producer }
    }

    pub async fn produce(&self, values: impl IntoIterator<Item = u32>) {
        let messages = values.into_iter().map(|value| {
            let value = value.to_string().into_bytes();
            OutgoingRecord::to(&self.topic).with_key(value.clone()).with_value(value)
        });
        self.producer.send_all(messages).await.expect("kept");
    }

    /// Starts a consumer of the topic.
    pub fn start(&self, handler: impl Handler + 'static) -> Member {
        self.start_with(|subscription| subscription, |consumer, runtime| consumer.spawn(handler, runtime))
    }

    /// Starts a consumer of the topic with a handler and a task for each partition.
    pub fn start_per_partition<H: Handler + 'static>(
        &self,
        batch: BatchLimits,
        make: impl Fn(Partition) -> H + Send + Sync + 'static,
    ) -> Member {
        let limited = |subscription: Subscription| subscription.with_batch(batch);
        self.start_with(limited, |consumer, runtime| consumer.spawn_per_partition(make, runtime))
    }

    pub fn start_with(
        &self,
        subscribe: impl FnOnce(Subscription) -> Subscription,
        spawn: impl FnOnce(Consumer, &ServiceRuntime),
    ) -> Member {
        let runtime = ServiceRuntime::new("test", CancellationToken::new(), Clock::system());
        let subscription = subscribe(Subscription::new(&self.topic, &self.group));
        let consumer = Consumer::new(&self.config, subscription, &self.producer, &runtime).expect("a consumer");
        let breaker = consumer.breaker().clone();
        spawn(consumer, &runtime);
        Member { runtime, breaker }
    }

    /// The offsets that are committed, by partition; partitions without one are left out.
    pub fn committed(&self) -> BTreeMap<i32, i64> {
        self.committed_of(&self.topic)
    }

    pub fn committed_of(&self, topic: &str) -> BTreeMap<i32, i64> {
        let client = raw_consumer(&self.config, &self.group);
        let mut list = TopicPartitionList::new();
        (0..i32::from(self.config.partitions)).for_each(|partition| {
            list.add_partition(topic, partition);
        });
        let committed = client.committed_offsets(list, Duration::from_secs(10)).expect("committed offsets");
        let offset = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match element.offset() {
            Position::Offset(offset) => Some((element.partition(), offset)),
            _ => None,
        };
        committed.elements().iter().filter_map(offset).collect()
    }

    pub fn total_committed(&self) -> i64 {
        self.committed().values().sum()
    }

    /// How many records a topic of this test holds. While a new topic has no leader yet: none.
    pub fn count(&self, topic: &str) -> i64 {
        let client = raw_consumer(&self.config, "watermarks");
        let watermarks = |partition| client.fetch_watermarks(topic, partition, Duration::from_secs(10));
        (0..i32::from(self.config.partitions))
            .map(|partition| watermarks(partition).map_or(0, |(begin, end)| end - begin))
            .sum()
    }

    /// The offset after the last record of a partition.
    pub fn end_of(&self, topic: &str, partition: i32) -> i64 {
        let client = raw_consumer(&self.config, "watermarks");
        client.fetch_watermarks(topic, partition, Duration::from_secs(10)).expect("watermarks").1
    }

    /// Makes one topic alone.
    pub async fn make_topic(&self, topic: &str, partitions: i32) {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.config.bootstrap);
        let admin: AdminClient<DefaultClientContext> = config.create().expect("a client");
        let new = NewTopic::new(topic, partitions, TopicReplication::Fixed(1));
        let made = admin.create_topics([&new], &AdminOptions::new()).await.expect("an answer");
        made[0].as_ref().expect("a topic");
    }

    pub fn dead_letter_topic(&self) -> String {
        dead_letter_topic(&self.topic, &self.group)
    }

    pub fn retry_topic(&self) -> String {
        retry_topic(&self.topic, &self.group)
    }

    pub fn legacy_dead_letter_topic(&self) -> String {
        legacy_dead_letter_topic(&self.topic)
    }

    pub fn dlq(&self) -> Dlq {
        Dlq::of(&self.config, &self.topic, &self.group).expect("dead letters")
    }
}

/// A Kafka whose only wire can be cut. The library's mock broker cannot go away like this: a server that another test
/// starts meanwhile inherits the mock's connections and keeps them open.
pub struct Cuttable {
    pub proxy: testkit::Proxy,
    pub harness: Harness,
    _kafka: testkit::Kafka,
}

impl Cuttable {
    /// With a topic of so many partitions.
    pub async fn start(partitions: u16, configure: impl FnOnce(KafkaConfig) -> KafkaConfig) -> Self {
        let proxy = testkit::Proxy::unconnected().await;
        let kafka = testkit::kafka_behind(proxy.addr().port()).await;
        proxy.lead_to(kafka.behind_proxy().expect("a second listener"));
        let config = configure(KafkaConfig::plain(proxy.addr().to_string()));
        let harness = Harness::with_topics(config, partitions).await;
        Self { proxy, harness, _kafka: kafka }
    }
}

fn raw_consumer(config: &KafkaConfig, group: &str) -> BaseConsumer {
    ClientConfig::new().set("bootstrap.servers", &config.bootstrap).set("group.id", group).create().expect("a client")
}

/// A running consumer.
pub struct Member {
    pub runtime: ServiceRuntime,
    pub breaker: DeadLetterBreaker,
}

impl Member {
    pub async fn stop(self) {
        self.runtime.tasks.stopping().cancel();
        self.runtime.tasks.join().await.expect("a clean stop");
    }

    /// Waits for the end that the handler caused.
    pub async fn failure(self) -> String {
        let ended = tokio::time::timeout(DEADLINE, self.runtime.tasks.join()).await.expect("it ends");
        format!("{:#}", ended.expect_err("it fails"))
    }

    /// The sum of a metric over the lines with all of these labels.
    pub fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let metrics = self.metrics();
        let lines = metrics.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        let lines = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
        lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    pub fn metrics(&self) -> String {
        runtime::metrics::render([&self.runtime.registry].into_iter()).expect("metrics")
    }
}

/// What handlers saw, in order: partition, offset, value.
#[derive(Clone, Default)]
pub struct Seen {
    records: Arc<Mutex<Vec<(i32, i64, String)>>>,
    revoked: Arc<Mutex<Vec<Partition>>>,
}

impl Seen {
    pub fn note(&self, batch: &[Record]) {
        let mut records = self.records.lock().expect("lock");
        records.extend(batch.iter().map(|record| (record.partition.0, record.offset.0, value(record))));
    }

    pub fn len(&self) -> usize {
        self.records.lock().expect("lock").len()
    }

    pub fn records(&self) -> Vec<(i32, i64, String)> {
        self.records.lock().expect("lock").clone()
    }

    pub fn values(&self) -> Vec<u32> {
        let mut values: Vec<u32> =
            self.records().iter().map(|(_, _, value)| value.parse().expect("a number")).collect();
        values.sort_unstable();
        values
    }

    pub fn of_partition(&self, wanted: i32) -> Vec<i64> {
        let of_it = |(partition, offset, _): (i32, i64, String)| (partition == wanted).then_some(offset);
        self.records().into_iter().filter_map(of_it).collect()
    }

    pub fn revoked(&self) -> Vec<Partition> {
        self.revoked.lock().expect("lock").clone()
    }
}

pub fn value(record: &Record) -> String {
    String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned()
}

/// Handles by a function, and remembers what was handled and revoked.
pub struct By<F> {
    pub seen: Seen,
    pub decide: F,
}

impl<F> Handler for By<F>
where
    F: FnMut(&[Record]) -> Result<Vec<Settled>, Failure> + Send,
{
    async fn handle(&mut self, batch: &[Record]) -> Result<Vec<Settled>, Failure> {
        let settled = (self.decide)(batch)?;
        self.seen.note(batch);
        Ok(settled)
    }

    fn partition_revoked(&mut self, partition: Partition) {
        self.seen.revoked.lock().expect("lock").push(partition);
    }
}

/// Handles everything.
pub fn accepting(seen: &Seen) -> impl Handler + use<> {
    By { seen: seen.clone(), decide: |batch: &[Record]| Ok(done(batch)) }
}

pub fn done(batch: &[Record]) -> Vec<Settled> {
    batch.iter().map(|_| Settled::Done("handled")).collect()
}

pub fn away() -> Failure {
    Failure::Unavailable {
        retry_after: Some(Duration::from_millis(50)),
        source: anyhow::anyhow!("the database is away"),
    }
}

/// Waits until the condition holds.
pub async fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    testkit::wait_for(what, DEADLINE, async || condition()).await;
}
