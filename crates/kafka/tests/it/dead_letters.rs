use std::num::NonZeroU32;

use events::topics::{Namespace, TO_NOTIFIER};
use kafka::{Failure, KafkaConfig, Offset, OutgoingRecord, Partition, Record, Settled, topics};
use tokio_util::sync::CancellationToken;

use crate::support::{By, Cuttable, Harness, Seen, value, wait_for};

/// Rejects odd numbers and what is no number.
pub fn even_only(seen: &Seen) -> impl kafka::Handler + use<> {
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
    let harness = Harness::new(1).await;
    let odd = OutgoingRecord::to(&harness.topic).with_key(&b"k"[..]).with_value(&b"7"[..]);
    harness.produce([2]).await;
    harness.producer.send(odd.with_header("ce_type", "number").with_header("empty", "")).await.expect("kept");
    harness.produce([4]).await;
    harness.producer.send(OutgoingRecord::to(&harness.topic)).await.expect("kept");
    let seen = Seen::default();
    let member = harness.start(even_only(&seen));
    wait_for("all four", || seen.len() >= 4).await;
    wait_for("both letters", || harness.count(&harness.dead_letter_topic()) == 2).await;
    let counted = || member.metric("consumer_records_settled_total", &["outcome=\"dead_lettered\""]);
    wait_for("the count", || counted() > 1.5).await;
    member.stop().await;
    assert_eq!(harness.total_committed(), 4);

    let listing = harness.dlq().list(10).await.expect("a list");
    assert_eq!(listing.unsettled, 2);
    let letter = &listing.letters[0];
    let origin = letter.origin.as_ref().expect("an origin");
    assert_eq!(
        (origin.topic.as_str(), origin.partition, origin.offset),
        (harness.topic.as_str(), Partition(0), Offset(1))
    );
    assert_eq!(origin.reason, "the number is odd");
    assert_eq!((letter.record.key(), letter.record.value()), (Some(&b"k"[..]), Some(&b"7"[..])));
    assert_eq!(letter.record.header_text("ce_type"), Some("number"));
    assert_eq!(letter.record.header("empty"), Some(&b""[..]));
    let empty = &listing.letters[1];
    assert_eq!((empty.record.key(), empty.record.value()), (None, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_dead_letters_are_away_the_partition_is_paused_and_nothing_is_lost() {
    let mut config = KafkaConfig::plain(testkit::kafka().await).with("message.timeout.ms", "1000");
    config.partitions = 1;
    let names = testkit::topics();
    let harness = Harness::on(config, &names);
    harness.make_topic(&harness.topic, 1).await;
    harness.produce([2, 3, 4]).await;
    let seen = Seen::default();
    let member = harness.start(even_only(&seen));
    wait_for("a second attempt", || seen.len() >= 6).await;
    assert_eq!(harness.total_committed(), 0);
    topics::create(&harness.config, &names, &CancellationToken::new(), drop).await.expect("topics");
    wait_for("the letter", || harness.count(&harness.dead_letter_topic()) >= 1).await;
    wait_for("the commit", || harness.total_committed() == 3).await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_rejects_in_a_row_wait_for_a_reset() {
    let limited = |mut config: KafkaConfig| {
        config.dead_letter_run_limit = NonZeroU32::new(5).expect("a limit");
        config
    };
    let harness = Harness::configured(1, limited).await;
    harness.produce([2, 1, 3, 4]).await;
    harness.produce((0..8).map(|number| 2 * number + 1)).await;
    let seen = Seen::default();
    let member = harness.start(even_only(&seen));
    wait_for("the breaker", || member.breaker.is_open()).await;
    assert_eq!(harness.count(&harness.dead_letter_topic()), 2 + 5);
    let report = member.runtime.readiness.report().await;
    assert!(!report.ready);
    let detail = report.parts.iter().find_map(|part| part.detail.clone()).expect("a reason");
    assert!(detail.contains("5 records in a row were rejected"), "{detail}");
    wait_for("the commit", || harness.total_committed() == 4 + 5).await;
    assert!(member.metric("consumer_dead_letter_breaker_open", &[&harness.topic]) > 0.5);
    assert!(member.metric("consumer_consecutive_rejects", &[&harness.topic]) > 4.5);

    harness.dlq().reset().await.expect("sent");
    wait_for("the others and the reset", || harness.count(&harness.dead_letter_topic()) == 2 + 8 + 1).await;
    assert!(member.runtime.readiness.report().await.ready);
    harness.produce([6]).await;
    wait_for("the last", || harness.total_committed() == 13).await;
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_reaches_every_replica_of_the_group_and_one_that_was_cut_off() {
    let limited = |mut config: KafkaConfig| {
        config.dead_letter_run_limit = NonZeroU32::new(1).expect("a limit");
        config
    };
    let Cuttable { proxy, harness, .. } = &Cuttable::start(2, limited).await;
    let members = [harness.start(even_only(&Seen::default())), harness.start(even_only(&Seen::default()))];
    let breakers = |open: bool| members.iter().all(|member| member.breaker.is_open() == open);
    // Until each member has been given a partition and more rejects than it takes.
    testkit::wait_for("both breakers", crate::support::DEADLINE, async || {
        harness.produce([1, 3, 5, 7, 9, 11]).await;
        breakers(true)
    })
    .await;
    harness.dlq().reset().await.expect("sent");
    let resets =
        |member: &crate::support::Member| member.metric("consumer_consecutive_rejects", &[&harness.topic]) < 1.5;
    wait_for("the resets", || members.iter().all(resets)).await;
    wait_for("the next rejects", || breakers(true)).await;

    proxy.cut();
    let since = std::time::Instant::now();
    wait_for("the cut to be felt", || since.elapsed() > std::time::Duration::from_secs(2)).await;
    proxy.heal();
    let before = harness.count(&harness.dead_letter_topic());
    harness.dlq().reset().await.expect("sent");
    wait_for("more letters of both", || harness.count(&harness.dead_letter_topic()) >= before + 3).await;
    for member in members {
        member.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_that_is_not_known_is_skipped_counted_and_no_reject() {
    let limited = |mut config: KafkaConfig| {
        config.dead_letter_run_limit = NonZeroU32::new(2).expect("a limit");
        config
    };
    let harness = Harness::configured(1, limited).await;
    harness.produce(0..50).await;
    let skipping = By { seen: Seen::default(), decide: |batch: &[Record]| Ok(vec![Settled::Skipped; batch.len()]) };
    let member = harness.start(skipping);
    let skipped = || member.metric("consumer_records_settled_total", &["outcome=\"skipped\""]);
    wait_for("all of them", || skipped() > 49.5).await;
    assert!(!member.breaker.is_open());
    member.stop().await;
    assert_eq!((harness.total_committed(), harness.count(&harness.dead_letter_topic())), (50, 0));
}

#[test]
fn the_contracts_names_are_what_no_prefix_gives() {
    assert_eq!(Namespace::default().topic(&TO_NOTIFIER), "to-notifier");
}
