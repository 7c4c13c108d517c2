use std::{sync::Mutex, time::Duration};

use rdkafka::{
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    client::DefaultClientContext,
};
use shell::StoppedEarly;
use stream::{
    KafkaConfig,
    topics::{TopicsError, create},
};
use tokio_util::sync::CancellationToken;

use crate::support::wait_for;

async fn settings(config: &KafkaConfig, topic: &str) -> (String, String) {
    let mut client = rdkafka::ClientConfig::new();
    client.set("bootstrap.servers", &config.bootstrap);
    let admin: AdminClient<DefaultClientContext> = client.create().expect("a client");
    let asked = [ResourceSpecifier::Topic(topic)];
    let answers = admin.describe_configs(&asked, &AdminOptions::new()).await.expect("an answer");
    let resource = answers[0].as_ref().expect("a topic");
    let value = |name| resource.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default();
    (value("cleanup.policy"), value("retention.ms"))
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_made_as_the_contract_says_and_existing_ones_are_left_alone() {
    let config = KafkaConfig::plain(testkit::kafka().await);
    let (names, stopping) = (testkit::topics(), CancellationToken::new());
    create(&config, &names, &stopping, drop).await.expect("topics");
    let delete = |retention: &str| ("delete".to_owned(), retention.to_owned());
    assert_eq!(settings(&config, &names.to_notifier()).await, delete("604800000"));
    assert_eq!(settings(&config, &format!("{}.dlq", names.to_notifier())).await, delete("1209600000"));

    let mut other = config.clone();
    (other.partitions, other.replication) = (3, 7);
    create(&other, &names, &stopping, drop).await.expect("nothing to do");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_replicas_than_brokers_is_told_within_seconds() {
    let mut config = KafkaConfig::plain(testkit::kafka().await);
    config.replication = 3;
    let error = create(&config, &testkit::topics(), &CancellationToken::new(), drop).await.expect_err("one broker");
    let error = error.downcast::<TopicsError>().expect("our error");
    assert!(matches!(error, TopicsError::TooFewBrokers { replication: 3, .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_kafka_is_away_it_waits_says_so_and_can_be_stopped() {
    let config = KafkaConfig::plain("127.0.0.1:9");
    let (stopping, said) = (CancellationToken::new(), Mutex::new(Vec::new()));
    let names = testkit::topics();
    let waiting = create(&config, &names, &stopping, |reason| said.lock().expect("lock").push(reason));
    let stop = async {
        wait_for("a word", || !said.lock().expect("lock").is_empty()).await;
        stopping.cancel();
    };
    let both = async { tokio::join!(waiting, stop) };
    let (ended, ()) = tokio::time::timeout(Duration::from_secs(15), both).await.expect("it ends");
    assert!(ended.expect_err("it was stopped").is::<StoppedEarly>());
    let said = said.lock().expect("lock");
    assert!(said[0].contains("Connection refused"), "{said:?}");
}
