use std::time::{Duration, Instant};

use kafka::{KafkaConfig, OutgoingRecord, Producer, Profile};
use rdkafka::{
    mocking::MockCluster,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use runtime::{ServiceRuntime, clock::Clock, readiness::Criticality};
use tokio_util::sync::CancellationToken;

use crate::support::Harness;

#[tokio::test(flavor = "multi_thread")]
async fn a_message_too_large_is_reported_and_the_others_are_kept() {
    let harness = Harness::new(1).await;
    let noise: Vec<u8> = (0..100_000).flat_map(|_| uuid::Uuid::new_v4().into_bytes()).collect();
    let messages = [&b"1"[..], &noise[..], &b"2"[..]].map(|value| OutgoingRecord::to(&harness.topic).with_value(value));
    let error = harness.producer.send_all(messages).await.expect_err("one is too large");
    assert_eq!((error.sent, error.failed), (3, 1), "{error}");
    assert!(error.is_permanent(), "{:?}", error.first);
    assert_eq!(harness.count(&harness.topic), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_no_topic_fails_in_time() {
    let harness = Harness::configured(1, |config| config.with("message.timeout.ms", "1500")).await;
    let begun = Instant::now();
    let error = harness.producer.send(OutgoingRecord::to("no-such-topic")).await.expect_err("there is none");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(!error.is_permanent(), "the topic may come: {:?}", error.first);
    let error = harness.producer.send(OutgoingRecord::to("no\0topic")).await.expect_err("that is no name");
    assert_eq!(error.failed, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_messages_than_the_queue_holds_are_all_kept() {
    let harness = Harness::configured(1, |config| config.with("queue.buffering.max.messages", "10")).await;
    harness.produce(0..2000).await;
    assert_eq!(harness.count(&harness.topic), 2000);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_one_key_keep_their_order_and_land_where_javas_would() {
    let harness = Harness::new(12).await;
    let send = |key: &'static str| OutgoingRecord::to(&harness.topic).with_key(key.as_bytes()).with_value(&b"x"[..]);
    harness.producer.send_all([send("21"), send("foobar")]).await.expect("kept");
    // From Kafka's own UtilsTest: murmur2("21") = -973932308, murmur2("foobar") = -790332482.
    let partition = |hash: i32| (hash & 0x7fff_ffff) % 12;
    let client: rdkafka::consumer::BaseConsumer =
        rdkafka::ClientConfig::new().set("bootstrap.servers", &harness.config.bootstrap).create().expect("a client");
    for hash in [-973_932_308, -790_332_482] {
        use rdkafka::consumer::Consumer as _;
        let (_, end) =
            client.fetch_watermarks(&harness.topic, partition(hash), Duration::from_secs(10)).expect("an answer");
        assert_eq!(end, 1, "{hash}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_batch_is_acknowledged_at_once() {
    let config = KafkaConfig::plain("127.0.0.1:9");
    let producer = Producer::unwatched(&config, Profile::Latency).expect("a producer");
    producer.send_all([]).await.expect("nothing to send");
    producer.flush(Duration::from_secs(1)).await.expect("nothing to flush");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_passes_is_not_even_seen() {
    let cluster = MockCluster::new(1).expect("a mock");
    cluster.create_topic("t", 1, 1).expect("a topic");
    let producer =
        Producer::unwatched(&KafkaConfig::plain(cluster.bootstrap_servers()), Profile::Latency).expect("a producer");
    let errors = [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
    ];
    cluster.request_errors(RDKafkaApiKey::Produce, &errors);
    producer.send(OutgoingRecord::to("t").with_value(&b"x"[..])).await.expect("kept after all");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_fatal_error_the_next_call_works_on_a_fresh_client() {
    let cluster = MockCluster::new(1).expect("a mock");
    cluster.create_topic("t", 1, 1).expect("a topic");
    let producer =
        Producer::unwatched(&KafkaConfig::plain(cluster.bootstrap_servers()), Profile::Latency).expect("a producer");
    let message = || OutgoingRecord::to("t").with_value(&b"x"[..]);
    producer.send(message()).await.expect("kept");
    cluster.request_errors(RDKafkaApiKey::Produce, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_OUT_OF_ORDER_SEQUENCE_NUMBER]);
    producer.send(message()).await.expect_err("the client is lost");
    producer.send(message()).await.expect("kept by the next one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_about_kafka_does_not_outlive_the_service_that_asked() {
    let harness = Harness::new(1).await;
    let runtime = ServiceRuntime::new("a-service", CancellationToken::new(), Clock::system());
    let producer = Producer::new(&harness.config, Profile::Latency, &harness.topic, Criticality::Required, &runtime)
        .expect("a producer");
    let kafka = async || {
        let report = runtime.readiness.report().await;
        report.parts.into_iter().find(|part| part.name == "kafka").expect("it is named")
    };
    testkit::wait_for("Kafka to answer", Duration::from_secs(20), async || kafka().await.up).await;
    runtime.tasks.stopping().cancel();
    runtime.tasks.join().await.expect("a clean end");
    drop(producer);
    // Who asks within a second of others is told what they were told.
    let is_over = async || !kafka().await.up;
    testkit::wait_for("the question to end", Duration::from_secs(20), is_over).await;
    assert_eq!(kafka().await.detail.as_deref(), Some("the service has stopped"));
}
