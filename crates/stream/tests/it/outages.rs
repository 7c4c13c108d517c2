use std::time::{Duration, Instant};

use rdkafka::mocking::MockCluster;
use stream::KafkaConfig;

use crate::support::{Rig, Seen, accepting, names, wait_for};

fn mocked(cluster: &MockCluster<'_, rdkafka::producer::DefaultProducerContext>) -> Rig {
    let mut config = KafkaConfig::plain(cluster.bootstrap_servers());
    config.partitions = 1;
    let rig = Rig::on(config, &names());
    for topic in [rig.topic.clone(), rig.dead_letter_topic()] {
        cluster.create_topic(&topic, 1, 1).expect("a topic");
    }
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_away_for_seconds_costs_time_and_nothing_else() {
    let cluster = MockCluster::new(1).expect("a mock");
    let rig = mocked(&cluster);
    let seen = Seen::default();
    let member = rig.start(accepting(&seen));
    rig.produce(0..10).await;
    wait_for("the first ten", || seen.len() >= 10).await;

    cluster.broker_down(1).expect("down");
    let down = Instant::now();
    let waiting = rig.produce(10..20);
    let outage = async {
        wait_for("five seconds", || down.elapsed() > Duration::from_secs(5)).await;
        cluster.broker_up(1).expect("up");
        Instant::now()
    };
    let ((), up) = tokio::join!(waiting, outage);
    assert!(up.elapsed() < Duration::from_secs(3), "acknowledged {:?} after the return", up.elapsed());
    wait_for("the others", || seen.len() >= 20).await;
    assert_eq!(seen.values(), (0..20).collect::<Vec<_>>());
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_while_kafka_is_away_is_bounded() {
    let cluster = MockCluster::new(1).expect("a mock");
    let rig = mocked(&cluster);
    let seen = Seen::default();
    let member = rig.start(accepting(&seen));
    rig.produce(0..3).await;
    wait_for("the records", || seen.len() >= 3).await;
    cluster.broker_down(1).expect("down");
    let stopping = Instant::now();
    member.stop().await;
    assert!(stopping.elapsed() < Duration::from_secs(8), "{:?}", stopping.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_that_is_away_is_named_in_readiness() {
    let shell = shell::Shell::new("test", tokio_util::sync::CancellationToken::new(), shell::clock::Clock::system());
    let config = KafkaConfig::plain("127.0.0.1:9");
    let producer = stream::Producer::new(&config, stream::Profile::Latency, "t", &shell).expect("a producer");
    let report = shell.readiness.report().await;
    assert!(!report.ready);
    assert_eq!(report.parts[0].name, "kafka");
    drop(producer);

    let cluster = MockCluster::new(1).expect("a mock");
    cluster.create_topic("t", 1, 1).expect("a topic");
    let config = KafkaConfig::plain(cluster.bootstrap_servers());
    let producer = stream::Producer::new(&config, stream::Profile::Latency, "t", &shell).expect("a producer");
    assert!(shell.readiness.report().await.ready);
    shell.tasks.stopping().cancel();
    shell.tasks.join().await.expect("a clean stop");
    drop(producer);
}
