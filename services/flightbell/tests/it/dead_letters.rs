//! Dead letters on a real Kafka, and the commands by which a person decides about them.

use events::{
    headers,
    topics::{self, Namespace},
};
use testkit::{Process, topic_io};

use crate::program;

const TOPIC: &str = "to-alert-system";
const GROUP: &str = "alert-system";

/// Runs `flightbell dlq` to its end: its exit code and everything it said.
async fn dlq(bootstrap: &str, arguments: &[&str], more: &[(&str, String)]) -> (i32, String) {
    let mut process = started(bootstrap, arguments, more).await;
    let code = process.code().await;
    (code, format!("{}\n{}", process.out(), process.log()))
}

async fn started(bootstrap: &str, arguments: &[&str], more: &[(&str, String)]) -> Process {
    let arguments: Vec<_> = std::iter::once("dlq").chain(arguments.iter().copied()).collect();
    let environment: Vec<_> =
        [("KAFKA_BROKER_URL", bootstrap.to_owned())].into_iter().chain(more.iter().cloned()).collect();
    program::start("flightbell", &arguments, &environment).await
}

/// A dead letter as the loop writes it.
async fn letter(bootstrap: &str, number: u32) {
    let (offset, value) = (number.to_string(), format!("bad message {number}"));
    let headers: [(&str, &[u8]); 4] = [
        (headers::DLQ_TOPIC, TOPIC.as_bytes()),
        (headers::DLQ_PARTITION, b"0"),
        (headers::DLQ_OFFSET, offset.as_bytes()),
        (headers::DLQ_REASON, b"it is not JSON"),
    ];
    let topic = topics::dead_letter_topic(TOPIC, GROUP);
    topic_io::produce(bootstrap, &topic, Some(b"key"), Some(value.as_bytes()), &headers).await;
}

async fn replayed(bootstrap: &str) -> usize {
    assert_eq!(topic_io::consume_all(bootstrap, TOPIC).await.len(), 0, "other groups do not see it");
    topic_io::consume_all(bootstrap, &topics::retry_topic(TOPIC, GROUP)).await.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_shown_dropped_and_replayed_by_commands() {
    let broker = testkit::lone_kafka().await;
    let bootstrap = broker.bootstrap.as_str();
    testkit::make_topics(bootstrap, &Namespace::default(), 1).await;
    for number in 0..4 {
        letter(bootstrap, number).await;
    }
    let (code, listed) = dlq(bootstrap, &["list"], &[]).await;
    assert_eq!(code, 0, "{listed}");
    assert!(
        listed.contains("to-alert-system/alert-system: 4 dead letters") && listed.contains("it is not JSON"),
        "{listed}"
    );
    assert!(listed.contains("to-notifier/notifier: 0 dead letters"), "{listed}");

    let (code, shown) = dlq(bootstrap, &["show", "to-alert-system/alert-system/0:2"], &[]).await;
    assert_eq!(code, 0, "{shown}");
    assert!(shown.contains("bad message 2") && shown.contains("partition 0 offset 2"), "{shown}");

    let (code, dropped) = dlq(bootstrap, &["drop", "to-alert-system/alert-system/0:0"], &[]).await;
    assert!(code == 0 && dropped.contains("1 dead letters were dropped"), "{code}: {dropped}");
    let (code, sent) = dlq(bootstrap, &["replay", "to-alert-system/alert-system/0:1"], &[]).await;
    assert!(code == 0 && sent.contains("1 dead letters were put back"), "{code}: {sent}");
    assert_eq!(replayed(bootstrap).await, 1);
    let (_, listed) = dlq(bootstrap, &["list"], &[]).await;
    assert!(listed.contains("to-alert-system/alert-system: 2 dead letters"), "{listed}");

    for wrong in
        [&["show", "0:1"][..], &["show", "elsewhere/0:1"], &["list", "--topic", "nonsense"], &["reset", "--group", "x"]]
    {
        let (code, words) = dlq(bootstrap, wrong, &[]).await;
        assert_eq!(code, 1, "{wrong:?}: {words}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_death_between_replay_and_resolution_loses_no_dead_letter() {
    let broker = testkit::lone_kafka().await;
    let bootstrap = broker.bootstrap.as_str();
    testkit::make_topics(bootstrap, &Namespace::default(), 1).await;
    letter(bootstrap, 0).await;
    let point = [(runtime::fault::FAULT_POINT, "dlq.replayed-not-marked".to_owned())];
    started(bootstrap, &["replay", "all"], &point).await.killed().await;
    assert_eq!(replayed(bootstrap).await, 1);

    let (_, listed) = dlq(bootstrap, &["list"], &[]).await;
    assert!(listed.contains("to-alert-system/alert-system: 1 dead letters"), "{listed}");
    let (code, sent) = dlq(bootstrap, &["replay", "all"], &[]).await;
    assert_eq!(code, 0, "{sent}");
    assert_eq!(replayed(bootstrap).await, 2, "twice at most");
    let (_, listed) = dlq(bootstrap, &["list"], &[]).await;
    assert!(listed.contains("to-alert-system/alert-system: 0 dead letters"), "{listed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_of_an_older_version_are_found_and_a_reset_is_sent_to_each_group() {
    let broker = testkit::lone_kafka().await;
    let bootstrap = broker.bootstrap.as_str();
    testkit::make_topics(bootstrap, &Namespace::default(), 1).await;
    let legacy = topics::legacy_dead_letter_topic(TOPIC);
    let (_, listed) = dlq(bootstrap, &["list"], &[]).await;
    assert!(!listed.contains("older version"), "{listed}");
    topic_io::create_topic(bootstrap, &legacy, 1).await;
    let [topic, partition, offset] = headers::LEGACY_DLQ_PLACE;
    let old: [(&str, &[u8]); 5] = [
        ("ce_type", b"flightbell.reading.v1"),
        (topic, TOPIC.as_bytes()),
        (partition, b"0"),
        (offset, b"7"),
        (headers::DLQ_REASON, b"it is not JSON"),
    ];
    topic_io::produce(bootstrap, &legacy, Some(b"key"), None, &old).await;
    let (_, listed) = dlq(bootstrap, &["list", "--group", GROUP], &[]).await;
    assert!(listed.contains("to-alert-system: 1 dead letters of an older version"), "{listed}");
    assert!(!listed.contains("to-notifier"), "{listed}");
    let (code, shown) = dlq(bootstrap, &["show", "to-alert-system/0:0"], &[]).await;
    assert!(code == 0 && shown.contains("partition 0 offset 7"), "{code}: {shown}");
    let (code, said) = dlq(bootstrap, &["replay", "to-alert-system/0:0"], &[]).await;
    assert!(code == 0 && said.contains("1 dead letters were put back"), "{code}: {said}");
    let retried = topic_io::consume_all(bootstrap, &topics::retry_topic(TOPIC, GROUP)).await.remove(0);
    assert_eq!((retried.key.as_deref(), retried.value.as_deref()), (Some(&b"key"[..]), None));
    assert_eq!(retried.header("ce_type"), Some(&b"flightbell.reading.v1"[..]));

    let (code, said) = dlq(bootstrap, &["reset"], &[]).await;
    assert!(code == 0 && said.contains("every replica of notifier"), "{code}: {said}");
    let (_, listed) = dlq(bootstrap, &["list"], &[]).await;
    assert!(listed.contains("to-notifier/notifier: 0 dead letters"), "a reset is no letter: {listed}");
}
