//! Kafka, started, killed, left over, found again.

use std::{collections::BTreeSet, path::Path, time::Duration};

use local_servers::{Discovery, Durability, Error, Kafka, KafkaCluster, KafkaOptions, Proxied, orphans};
use rdkafka::{
    ClientConfig, Message, TopicPartitionList,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
    consumer::{BaseConsumer, Consumer},
    producer::{FutureProducer, FutureRecord},
};
use rustix::process::Signal;
use testkit::wait_for;

use crate::bed::{Bed, discovery, leave_running, signal};

const SOON: Duration = Duration::from_secs(40);
const TOPIC: &str = "kept";

async fn start(data_dir: &Path) -> Kafka {
    start_as(data_dir, Durability::ForTests).await.expect("Kafka")
}

async fn start_as(data_dir: &Path, durability: Durability) -> Result<Kafka, Error> {
    Kafka::start(KafkaOptions::new(&discovery(), data_dir, durability)).await
}

fn client(bootstrap: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", bootstrap).set("reconnect.backoff.max.ms", "500");
    config.set("message.timeout.ms", "30000").set("acks", "all").set("group.id", "reader");
    config
}

pub async fn make_topic(bootstrap: &str, replicas: i32) {
    let admin: AdminClient<DefaultClientContext> = client(bootstrap).create().expect("a client");
    let topic = NewTopic::new(TOPIC, 1, TopicReplication::Fixed(replicas));
    let answers = admin.create_topics(&[topic], &AdminOptions::new()).await.expect("an answer");
    answers.into_iter().for_each(|answer| drop(answer.expect("a topic")));
}

async fn produce(bootstrap: &str, values: impl IntoIterator<Item = u32>) {
    let producer: FutureProducer = client(bootstrap).create().expect("a client");
    for value in values {
        let payload = value.to_string();
        producer.send(FutureRecord::<(), _>::to(TOPIC).payload(&payload), SOON).await.expect("acknowledged");
    }
}

/// Produces a number in a record of `length` bytes; whether it was acknowledged within a few seconds.
pub async fn try_produce(bootstrap: &str, value: u32, length: usize) -> bool {
    let producer: FutureProducer = client(bootstrap).set("message.timeout.ms", "4000").create().expect("a client");
    let payload = format!("{value}{}", " ".repeat(length));
    producer.send(FutureRecord::<(), _>::to(TOPIC).payload(&payload), SOON).await.is_ok()
}

/// Every value of the topic, in order.
pub async fn values(bootstrap: &str) -> Vec<u32> {
    let bootstrap = bootstrap.to_owned();
    let reading = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = client(&bootstrap).create().expect("a client");
        let (first, end) = consumer.fetch_watermarks(TOPIC, 0, SOON).expect("watermarks");
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(TOPIC, 0, rdkafka::Offset::Offset(first)).expect("a place");
        consumer.assign(&from).expect("assigned");
        let mut found = Vec::new();
        while i64::try_from(found.len()).expect("few") < end - first {
            let record = consumer.poll(SOON).expect("a record in time").expect("a record");
            let text = std::str::from_utf8(record.payload().expect("a value")).expect("text");
            found.push(text.trim_end().parse().expect("a number"));
        }
        found
    });
    reading.await.expect("read")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_outlives_a_clean_stop_a_kill_and_a_start_in_between() {
    let bed = Bed::new();
    let server = start_as(bed.path(), Durability::Durable).await.expect("Kafka");
    let bootstrap = server.bootstrap();
    make_topic(&bootstrap, 1).await;
    produce(&bootstrap, 0..10).await;
    server.stop().await;

    let server = start_as(bed.path(), Durability::Durable).await.expect("after a clean stop");
    assert_eq!(server.bootstrap(), bootstrap, "the port follows from the folder while it is free");
    produce(&bootstrap, 10..20).await;
    server.kill().await;

    let server = start_as(bed.path(), Durability::Durable).await.expect("after a kill");
    assert_eq!(values(&server.bootstrap()).await, (0..20).collect::<Vec<_>>());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_comes_back_on_the_same_port_with_what_it_acknowledged() {
    let bed = Bed::new();
    let server = start(bed.path()).await;
    let bootstrap = server.bootstrap();
    make_topic(&bootstrap, 1).await;
    produce(&bootstrap, 0..5).await;
    let (watch, pid) = (server.watch(), server.pid().expect("running"));
    signal(pid, Signal::KILL);
    // Produced while it is away: acknowledged once it is back.
    produce(&bootstrap, 5..10).await;
    assert!(watch.pid().is_some_and(|now| now != pid));
    assert_eq!(values(&bootstrap).await, (0..10).collect::<Vec<_>>());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_left_over_by_an_earlier_run_is_found_and_stopped_first() {
    let bed = Bed::new();
    let server = start(bed.path()).await;
    make_topic(&server.bootstrap(), 1).await;
    produce(&server.bootstrap(), 0..3).await;
    server.stop().await;
    leave_running("kafka", bed.path());
    let found = orphans::running(bed.path()).await.expect("a list");
    assert!(matches!(found.as_slice(), [orphans::Orphan { server: "Kafka", .. }]), "{found:?}");

    let next = start(bed.path()).await;
    assert!(next.pid().is_some_and(|now| now != found[0].pid));
    assert_eq!(values(&next.bootstrap()).await, [0, 1, 2]);
    next.stop().await;
    assert_eq!(orphans::running(bed.path()).await.expect("a list"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn three_deaths_within_a_minute_end_it_with_the_end_of_its_log() {
    let bed = Bed::new();
    let server = start(bed.path()).await;
    let watch = server.watch();
    let mut pid = server.pid().expect("running");
    for _ in 0..2 {
        signal(pid, Signal::KILL);
        pid = tokio::time::timeout(SOON, watch.restarted_from(pid)).await.expect("in time").expect("again");
    }
    signal(pid, Signal::KILL);
    let error = tokio::time::timeout(SOON, watch.failed()).await.expect("in time").to_string();
    assert!(error.contains("Kafka died 3 times within a minute") && error.contains("Kafka Server started"), "{error}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_data_directories_run_side_by_side() {
    let beds = [Bed::new(), Bed::new()];
    let (one, other) = tokio::join!(start(beds[0].path()), start(beds[1].path()));
    assert_ne!(one.bootstrap(), other.bootstrap());
    make_topic(&one.bootstrap(), 1).await;
    make_topic(&other.bootstrap(), 1).await;
    tokio::join!(one.stop(), other.stop());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_class_archive_that_make_deps_makes_is_found_and_fits() {
    let bed = Bed::new();
    let (jars, java) = (discovery().kafka().expect("jars"), discovery().java().await.expect("a Java"));
    // Copied, so that the user that runs the broker reaches them.
    let home = bed.path().join("kafka");
    std::fs::create_dir_all(home.join("libs")).expect("a folder");
    for jar in std::fs::read_dir(jars.home.join("libs")).expect("jars").map(|jar| jar.expect("a jar")) {
        std::fs::copy(jar.path(), home.join("libs").join(jar.file_name())).expect("a copy");
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/kafka/archive.sh");
    let made = std::process::Command::new(script).arg(&home).arg(&java.program).arg(&java.version).output();
    let made = made.expect("run");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));

    let discovery = Discovery { kafka_home: Some(home.clone()), ..discovery() };
    let server = Kafka::start(KafkaOptions::new(&discovery, bed.path(), Durability::ForTests)).await.expect("Kafka");
    // Elsewhere no file tells what a process has mapped.
    if cfg!(target_os = "linux") {
        let maps = format!("/proc/{}/maps", server.pid().expect("running"));
        let mapped = std::fs::read_to_string(maps).expect("what it has mapped");
        // Java maps an archive that fits, and passes over one that does not.
        let archive = format!("{}/broker-", home.display());
        assert!(mapped.lines().any(|line| line.contains(&archive) && line.ends_with(".jsa")), "{mapped}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_with_letters_of_every_kind_and_relative_places_serve() {
    let bed = Bed::new();
    let home = discovery().kafka().expect("jars").home;
    let below = |path: &Path| {
        let up = std::env::current_dir().expect("a folder").components().skip(1).map(|_| "..").collect::<Vec<_>>();
        Path::new(&up.join("/")).join(path.strip_prefix("/").expect("absolute"))
    };
    let discovery = Discovery { kafka_home: Some(below(&home)), ..discovery() };
    let data = bed.path().join("dätä of 飛行, it's \"here\"");
    std::fs::create_dir(&data).expect("a folder");
    let options = KafkaOptions::new(&discovery, &data, Durability::ForTests);
    let server = Kafka::start(options).await.unwrap_or_else(|error| panic!("{error}"));
    let found = orphans::running(&data).await.expect("a list");
    assert_eq!(found.len(), 1, "{found:?}");
    server.stop().await;
    assert_eq!(orphans::running(&data).await.expect("a list"), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_of_the_second_listener_are_told_the_port_of_the_proxy() {
    let bed = Bed::new();
    // No proxy listens there: the client is told to go there all the same.
    let proxied = Proxied { advertised: 9 };
    let options = KafkaOptions::new(&discovery(), bed.path(), Durability::ForTests).proxied(proxied);
    let server = Kafka::start(options).await.expect("Kafka");
    let behind = server.behind_proxy().expect("a second listener");
    let asked = tokio::task::spawn_blocking(move || {
        let consumer: BaseConsumer = client(&behind).create().expect("a client");
        let metadata = consumer.fetch_metadata(None, SOON).expect("metadata");
        metadata.brokers().iter().map(|broker| broker.port()).collect::<Vec<_>>()
    });
    assert_eq!(asked.await.expect("asked"), [9]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_brokers_go_on_without_one_and_lose_nothing() {
    let bed = Bed::new();
    let mut cluster = KafkaCluster::start(&discovery(), bed.path(), 3).await.expect("three brokers");
    let bootstrap = cluster.bootstrap();
    make_topic(&bootstrap, 3).await;
    produce(&bootstrap, 0..5).await;
    let pids: BTreeSet<_> = (0..3).filter_map(|index| cluster.pid(index)).collect();
    assert_eq!(pids.len(), 3);
    cluster.kill(1).await;
    assert_eq!(cluster.pid(1), None);
    produce(&bootstrap, 5..10).await;
    cluster.restart(1).await.expect("back again");
    wait_for("all three run", SOON, async || cluster.pid(1).is_some()).await;
    assert_eq!(values(&bootstrap).await, (0..10).collect::<Vec<_>>());
    cluster.stop().await;
}
