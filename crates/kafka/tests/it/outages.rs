use std::time::{Duration, Instant};

use kafka::{Consumer, KafkaConfig, Subscription};
use rdkafka::{
    mocking::MockCluster,
    producer::DefaultProducerContext,
    types::{RDKafkaApiKey, RDKafkaRespErr},
};
use runtime::readiness::Criticality;
use tokio_util::sync::CancellationToken;

use crate::support::{Cuttable, DEADLINE, Harness, Member, Seen, accepting, wait_for};

fn mocked(
    cluster: &MockCluster<'_, DefaultProducerContext>,
    configure: impl FnOnce(KafkaConfig) -> KafkaConfig,
) -> Harness {
    let mut config = configure(KafkaConfig::plain(cluster.bootstrap_servers()));
    config.partitions = 1;
    let harness = Harness::on(config, &testkit::topics());
    for topic in [harness.topic.clone(), harness.dead_letter_topic()] {
        cluster.create_topic(&topic, 1, 1).expect("a topic");
    }
    harness
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_for_seconds_costs_time_and_nothing_else() {
    let Cuttable { proxy, harness, .. } = &Cuttable::start(3, |config| config).await;
    let seen = Seen::default();
    let member = harness.start(accepting(&seen));
    harness.produce(0..100).await;
    wait_for("the first records", || seen.len() >= 100).await;
    proxy.cut();
    let cut = Instant::now();
    let outage = async {
        wait_for("five seconds", || cut.elapsed() > Duration::from_secs(5)).await;
        proxy.heal();
        Instant::now()
    };
    let ((), healed) = tokio::join!(harness.produce(100..130), outage);
    assert!(healed.elapsed() < Duration::from_secs(3), "acknowledged {:?} after the return", healed.elapsed());
    wait_for("the others", || seen.len() >= 130).await;
    member.stop().await;
    assert_eq!(seen.values(), (0..130).collect::<Vec<_>>());
    assert_eq!(harness.total_committed(), 130);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_kafka_is_away_is_bounded() {
    let Cuttable { proxy, harness, .. } = &Cuttable::start(3, |config| config).await;
    let seen = Seen::default();
    let member = harness.start(accepting(&seen));
    harness.produce(0..3).await;
    wait_for("the records", || seen.len() >= 3).await;
    proxy.cut();
    let stopping = Instant::now();
    member.stop().await;
    assert!(stopping.elapsed() < Duration::from_secs(8), "{:?}", stopping.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_is_dropped_while_kafka_is_away_holds_up_no_task() {
    let Cuttable { proxy, harness, .. } = &Cuttable::start(3, |config| config).await;
    let runtime = runtime::ServiceRuntime::new("test", CancellationToken::new(), runtime::clock::Clock::system());
    let subscription = Subscription::new(&harness.topic, &harness.group);
    let consumer = Consumer::new(&harness.config, subscription, &harness.producer, &runtime).expect("a consumer");
    let seen = Seen::default();
    let mut running = tokio::task::JoinSet::new();
    running.spawn(consumer.run(accepting(&seen), CancellationToken::new()));
    harness.produce(0..3).await;
    wait_for("the records", || seen.len() >= 3).await;
    proxy.cut();
    running.abort_all();
    let ended = tokio::time::timeout(Duration::from_secs(2), running.join_next()).await;
    let ended = ended.expect("within two seconds").expect("a task");
    assert!(ended.expect_err("it was aborted").is_cancelled());
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_that_is_away_is_named_in_readiness() {
    let runtime = runtime::ServiceRuntime::new("test", CancellationToken::new(), runtime::clock::Clock::system());
    let config = KafkaConfig::plain("127.0.0.1:9");
    let producer = kafka::Producer::new(&config, kafka::Profile::Latency, "t", Criticality::Required, &runtime)
        .expect("a producer");
    let report = runtime.readiness.report().await;
    assert!(!report.ready);
    assert_eq!(report.parts[0].name, "kafka");
    drop(producer);

    let cluster = MockCluster::new(1).expect("a mock");
    cluster.create_topic("t", 1, 1).expect("a topic");
    let config = KafkaConfig::plain(cluster.bootstrap_servers());
    let producer = kafka::Producer::new(&config, kafka::Profile::Latency, "t", Criticality::Required, &runtime)
        .expect("a producer");
    assert!(runtime.readiness.report().await.ready);
    runtime.tasks.stopping().cancel();
    runtime.tasks.join().await.expect("a clean stop");
    drop(producer);
}

/// Sessions short enough for a test.
fn short_sessions(config: KafkaConfig) -> KafkaConfig {
    config.with("session.timeout.ms", "2000").with("heartbeat.interval.ms", "500").with("statistics.interval.ms", "500")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_frozen_for_longer_than_a_session_loses_nothing() {
    let kafka = testkit::lone_kafka().await;
    let harness = Harness::with_topics(short_sessions(KafkaConfig::plain(&kafka.bootstrap)), 3).await;
    let seen = Seen::default();
    let member = harness.start(accepting(&seen));
    harness.produce(0..100).await;
    wait_for("the first records", || seen.len() >= 100).await;
    // At once, so that what was settled is not committed yet.
    let frozen = kafka.freeze();
    let since = Instant::now();
    wait_for("the freeze", || since.elapsed() > Duration::from_secs(6)).await;
    drop(frozen);
    harness.produce(100..130).await;
    wait_for("the others", || (0..130).all(|value| seen.values().contains(&value))).await;
    member.stop().await;
    assert_eq!(harness.total_committed(), 130);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_get_back_into_its_group_is_recreated() {
    let cluster = MockCluster::new(1).expect("a mock");
    // The mock's first rebalance takes 3 s, which must fit into a session.
    let sessions = |config: KafkaConfig| short_sessions(config).with("session.timeout.ms", "4000");
    let harness = mocked(&cluster, sessions);
    let seen = Seen::default();
    let member = harness.start(accepting(&seen));
    harness.produce(0..10).await;
    wait_for("the first records", || seen.len() >= 10).await;
    // Out of the group, and refused whenever it asks for it again; a new client asks anew.
    let refusals = vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS; 1000];
    cluster.request_errors(RDKafkaApiKey::JoinGroup, &refusals);
    cluster.request_errors(RDKafkaApiKey::Heartbeat, &[RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_MEMBER_ID]);
    wait_for("the loss", || !seen.revoked().is_empty()).await;
    harness.produce(10..20).await;
    wait_for("a second client", || member.metric("consumer_recreated_total", &[&harness.topic]) > 0.5).await;
    cluster.clear_request_errors(RDKafkaApiKey::JoinGroup);
    wait_for("the others", || (0..20).all(|value| seen.values().contains(&value))).await;
    member.stop().await;
}

/// What `/readyz` says about the consumer, when it says that it is up or down.
async fn consumer_part(member: &Member, up: bool) -> Option<String> {
    let report = member.runtime.readiness.report().await;
    let part = report.parts.into_iter().find(|part| part.name.starts_with("consumer of "))?;
    part.detail.filter(|_| part.up == up && (up || !report.ready))
}

async fn says(member: &Member, up: bool, words: &str) {
    let said = async || consumer_part(member, up).await.is_some_and(|said| said.contains(words));
    testkit::wait_for(words, DEADLINE, said).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_may_not_join_its_group_is_not_ready() {
    let cluster = MockCluster::new(1).expect("a mock");
    let harness = mocked(&cluster, short_sessions);
    let refusals = vec![RDKafkaRespErr::RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED; 1000];
    cluster.request_errors(RDKafkaApiKey::JoinGroup, &refusals);
    let member = harness.start(accepting(&Seen::default()));
    says(&member, true, "joining its group").await;
    says(&member, false, "not a member of its group for").await;
    cluster.clear_request_errors(RDKafkaApiKey::JoinGroup);
    says(&member, true, "member since 20").await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_broker_stands_still_is_not_ready_until_it_is_a_member_again() {
    let kafka = testkit::lone_kafka().await;
    let harness = Harness::with_topics(short_sessions(KafkaConfig::plain(&kafka.bootstrap)), 1).await;
    let member = harness.start(accepting(&Seen::default()));
    says(&member, true, "member since 20").await;
    let frozen = kafka.freeze();
    says(&member, false, "not a member of its group for").await;
    drop(frozen);
    says(&member, true, "member since 20").await;
    member.stop().await;
}
