use std::{sync::Mutex, time::Duration};

use events::topics::{Group, NOTIFIER_GROUP, TO_NOTIFIER, Topic, days, dead_letter_topic, retry_topic};
use kafka::{
    KafkaConfig,
    topics::{TopicsError, absent, create, ensure},
};
use rdkafka::{
    admin::{AdminClient, AdminOptions, ResourceSpecifier},
    client::DefaultClientContext,
};
use runtime::{ServiceRuntime, StoppedEarly, clock::Clock, readiness::Criticality};
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
    assert_eq!(settings(&config, &names.topic(&TO_NOTIFIER)).await, delete("604800000"));
    let group = names.group(&NOTIFIER_GROUP);
    let (letters, retries) =
        (dead_letter_topic(&names.topic(&TO_NOTIFIER), &group), retry_topic(&names.topic(&TO_NOTIFIER), &group));
    assert_eq!(settings(&config, &letters).await, delete("1209600000"));
    assert_eq!(settings(&config, &retries).await, delete("604800000"));

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

#[tokio::test(flavor = "multi_thread")]
async fn a_service_creates_the_topics_it_owns_and_waits_for_those_it_reads() {
    let mut config = KafkaConfig::plain(testkit::kafka().await);
    config.partitions = 2;
    let names = testkit::topics();
    let runtime = ServiceRuntime::new("notifier", CancellationToken::new(), Clock::system());
    let waits = async || {
        let parts = runtime.readiness.report().await.parts;
        let waits = |detail: &str| detail.contains("waiting for alert-system to create topic");
        parts.iter().any(|part| !part.up && part.detail.as_deref().is_some_and(waits))
    };
    let owner = async {
        testkit::wait_for("the reader to wait", crate::support::DEADLINE, waits).await;
        let missing = absent(&config, &names).await.expect("an answer");
        assert!(missing.contains(&names.topic(&TO_NOTIFIER)) && missing.len() == 5, "{missing:?}");
        let mut owners = config.clone();
        owners.partitions = 5;
        let alerts = ServiceRuntime::new("alert-system", CancellationToken::new(), Clock::system());
        ensure(&owners, &names, "alert-system", Criticality::Required, &alerts).await.expect("topics");
    };
    let (reader, ()) = tokio::join!(ensure(&config, &names, "notifier", Criticality::Required, &runtime), owner);
    reader.expect("topics");
    // The owner's number counts, and the retries have as many.
    assert_eq!(partitions(&config, &names.topic(&TO_NOTIFIER)), 5);
    assert_eq!(partitions(&config, &retry_topic(&names.topic(&TO_NOTIFIER), &names.group(&NOTIFIER_GROUP))), 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_creates_what_no_owner_creates_and_retries_keep_up_with_their_topic() {
    let mut config = KafkaConfig::plain(testkit::kafka().await);
    config.partitions = 1;
    let names = testkit::topics();
    let runtime = ServiceRuntime::new("notifier", CancellationToken::new(), Clock::system());
    ensure(&config, &names, "notifier", Criticality::Required, &runtime).await.expect("topics");
    let (topic, retries) =
        (names.topic(&TO_NOTIFIER), retry_topic(&names.topic(&TO_NOTIFIER), &names.group(&NOTIFIER_GROUP)));
    assert_eq!((partitions(&config, &topic), partitions(&config, &retries)), (1, 1));
    let grown = rdkafka::admin::NewPartitions::new(&topic, 3);
    let mut client = rdkafka::ClientConfig::new();
    client.set("bootstrap.servers", &config.bootstrap);
    let admin: AdminClient<DefaultClientContext> = client.create().expect("a client");
    admin.create_partitions([&grown], &AdminOptions::new()).await.expect("an answer")[0].as_ref().expect("grown");
    wait_for("the new partitions", || partitions(&config, &topic) == 3).await;
    ensure(&config, &names, "notifier", Criticality::Required, &runtime).await.expect("topics");
    wait_for("as many retries", || partitions(&config, &retries) == 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_with_two_groups_is_created_with_its_retention_and_dead_letters_for_each_by_its_service() {
    const OWNERS: Group = Group { name: "greeter", service: "greeter" };
    const ARCHIVES: Group = Group { name: "archive", service: "archive" };
    static TABLE: &[Topic] = &[Topic {
        name: "greetings",
        owner: "greeter",
        key: "name",
        retention: days(2),
        event_types: &[],
        groups: &[OWNERS, ARCHIVES],
    }];
    let mut config = KafkaConfig::plain(testkit::kafka().await);
    config.partitions = 1;
    let names = testkit::topics_of(TABLE);
    let topic = names.topic(&TABLE[0]);
    let of_group = |group| {
        let group = names.group(group);
        [dead_letter_topic(&topic, &group), retry_topic(&topic, &group)]
    };
    let starts = async |service: &'static str| {
        let runtime = ServiceRuntime::new(service, CancellationToken::new(), Clock::system());
        ensure(&config, &names, service, Criticality::Required, &runtime).await.expect("topics");
        absent(&config, &names).await.expect("an answer")
    };
    assert_eq!(starts("greeter").await, of_group(&ARCHIVES), "a group's own topics are left to its service");
    let delete = |retention: &str| ("delete".to_owned(), retention.to_owned());
    assert_eq!(settings(&config, &topic).await, delete("172800000"));
    let [letters, retries] = of_group(&OWNERS);
    assert_eq!(settings(&config, &letters).await, delete("1209600000"));
    assert_eq!(settings(&config, &retries).await, delete("172800000"));
    assert!(starts("archive").await.is_empty());
}

fn partitions(config: &KafkaConfig, topic: &str) -> usize {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    let client: BaseConsumer =
        rdkafka::ClientConfig::new().set("bootstrap.servers", &config.bootstrap).create().expect("a client");
    let metadata = client.fetch_metadata(Some(topic), Duration::from_secs(10)).expect("an answer");
    metadata.topics()[0].partitions().len()
}
