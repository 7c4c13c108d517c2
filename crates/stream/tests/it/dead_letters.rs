use std::num::NonZeroU32;

use contracts::topics::Namespace;
use stream::{
    Failure, KafkaConfig, Offset, Outgoing, Partition, Record, Settled,
    dlq::{Dlq, Letters},
    topics,
};
use tokio_util::sync::CancellationToken;

use crate::support::{By, Rig, Seen, value, wait_for};

/// Rejects odd numbers and what is no number.
fn even_only(seen: &Seen) -> impl stream::Handler + use<> {
    let decide = |batch: &[Record]| -> Result<Vec<Settled>, Failure> {
        let settle = |record: &Record| match value(record).parse::<u32>() {
            Ok(number) if number.is_multiple_of(2) => Settled::Done("handled"),
            Ok(_) => Settled::rejected("the number is odd"),
            Err(error) => Settled::rejected(error.to_string()),
        };
        Ok(batch.iter().map(settle).collect())
    };
    By { seen: seen.clone(), decide }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reject_becomes_a_dead_letter_and_the_rest_goes_on() {
    let rig = Rig::new(1).await;
    let odd = Outgoing::to(&rig.topic).with_key(&b"k"[..]).with_value(&b"7"[..]);
    rig.produce([2]).await;
    rig.producer.send(odd.with_header("ce_type", "number").with_header("empty", "")).await.expect("kept");
    rig.produce([4]).await;
    rig.producer.send(Outgoing::to(&rig.topic)).await.expect("kept");
    let seen = Seen::default();
    let member = rig.start(even_only(&seen));
    wait_for("all four", || seen.len() >= 4).await;
    wait_for("both letters", || rig.count(&rig.dead_letter_topic()) == 2).await;
    let dead_lettered =
        format!("consumer_records_settled_total{{outcome=\"dead_lettered\",topic=\"{}\"}} 2", rig.topic);
    wait_for("the count", || member.metrics().contains(&dead_lettered)).await;
    member.stop().await;
    assert_eq!(rig.total_committed(), 4);

    let listing = Dlq::of(&rig.config, &rig.topic).expect("dead letters").list(10).await.expect("a list");
    assert_eq!(listing.unsettled, 2);
    let letter = &listing.letters[0];
    let origin = letter.origin.as_ref().expect("an origin");
    assert_eq!((origin.topic.as_str(), origin.partition, origin.offset), (rig.topic.as_str(), Partition(0), Offset(1)));
    assert_eq!(origin.reason, "the number is odd");
    assert_eq!((letter.record.key(), letter.record.value()), (Some(&b"k"[..]), Some(&b"7"[..])));
    assert_eq!(letter.record.header_text("ce_type"), Some("number"));
    assert_eq!(letter.record.header("empty"), Some(&b""[..]));
    let empty = &listing.letters[1];
    assert_eq!((empty.record.key(), empty.record.value()), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_dead_letters_are_away_the_partition_is_held_and_nothing_is_lost() {
    let mut config = KafkaConfig::plain(testkit::kafka().await).with("message.timeout.ms", "1000");
    config.partitions = 1;
    let names = testkit::topics();
    let rig = Rig::on(config, &names);
    make_topic(&rig, &rig.topic).await;
    rig.produce([2, 3, 4]).await;
    let seen = Seen::default();
    let member = rig.start(even_only(&seen));
    wait_for("a second attempt", || seen.len() >= 6).await;
    assert_eq!(rig.total_committed(), 0);
    topics::create(&rig.config, &names, &CancellationToken::new(), drop).await.expect("topics");
    wait_for("the letter", || rig.count(&rig.dead_letter_topic()) >= 1).await;
    wait_for("the commit", || rig.total_committed() == 3).await;
    member.stop().await;
}

/// Makes one topic alone.
async fn make_topic(rig: &Rig, topic: &str) {
    use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
    let mut config = rdkafka::ClientConfig::new();
    config.set("bootstrap.servers", &rig.config.bootstrap);
    let admin: AdminClient<rdkafka::client::DefaultClientContext> = config.create().expect("a client");
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(1));
    let made = admin.create_topics([&new], &AdminOptions::new()).await.expect("an answer");
    made[0].as_ref().expect("a topic");
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_rejects_in_a_row_wait_for_somebody_who_accepts_them() {
    let limited = |mut config: KafkaConfig| {
        config.dead_letter_run_limit = NonZeroU32::new(5).expect("a limit");
        config
    };
    let rig = Rig::configured(1, limited).await;
    rig.produce([2, 1, 3, 4]).await;
    rig.produce((0..8).map(|number| 2 * number + 1)).await;
    let seen = Seen::default();
    let member = rig.start(even_only(&seen));
    wait_for("the gate", || member.gate.is_closed()).await;
    assert_eq!(rig.count(&rig.dead_letter_topic()), 2 + 5);
    let report = member.shell.readiness.report().await;
    assert!(!report.ready);
    let detail = report.parts.iter().find_map(|part| part.detail.clone()).expect("a reason");
    assert!(detail.contains("5 records in a row were rejected"), "{detail}");
    wait_for("the commit", || rig.total_committed() == 4 + 5).await;
    assert!(member.metrics().contains(&format!("consumer_dead_letters_closed{{topic=\"{}\"}} 1", rig.topic)));

    let answer = member.shell.call_operator("accept-dead-letters").expect("a call");
    assert!(answer.contains("accepted again"), "{answer}");
    wait_for("the others", || rig.count(&rig.dead_letter_topic()) == 2 + 8).await;
    assert!(member.shell.readiness.report().await.ready);
    rig.produce([6]).await;
    wait_for("the last", || rig.total_committed() == 13).await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_letter_is_the_record_it_was() {
    let rig = Rig::new(1).await;
    let sent = Outgoing::to(&rig.topic).with_key(&b"k"[..]).with_value(&b"9"[..]).with_header("ce_type", "number");
    rig.producer.send(sent).await.expect("kept");
    let seen = Seen::default();
    let member = rig.start(even_only(&seen));
    wait_for("the letter", || rig.count(&rig.dead_letter_topic()) == 1).await;
    let dlq = Dlq::of(&rig.config, &rig.topic).expect("dead letters");
    assert_eq!(dlq.replay(Letters::All).await.expect("replayed"), 1);
    // Still odd: it comes back, and says where it was this time.
    wait_for("the second letter", || seen.len() == 2).await;
    wait_for("its mark and itself", || rig.count(&rig.dead_letter_topic()) == 3).await;
    member.stop().await;
    let listing = dlq.list(10).await.expect("a list");
    assert_eq!(listing.unsettled, 1);
    let letter = &listing.letters[0];
    assert_eq!(letter.origin.as_ref().map(|origin| origin.offset), Some(Offset(1)));
    assert_eq!((letter.record.key(), letter.record.value()), (Some(&b"k"[..]), Some(&b"9"[..])));
    assert_eq!(letter.record.headers().count(), 5, "the original one, and one set of ours");
}

#[test]
fn the_contracts_names_are_what_no_prefix_gives() {
    assert_eq!(Namespace::default().to_notifier(), "to-notifier");
}
