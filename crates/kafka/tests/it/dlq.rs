use kafka::{
    OutgoingRecord, Partition,
    dlq::{DeadLetterId, DeadLetters, Dlq},
};

use crate::support::{Harness, Seen, wait_for};

/// Puts dead letters where they belong, as the loop would.
async fn fill(harness: &Harness, letters: u32) {
    fill_topic(harness, &harness.dead_letter_topic(), letters).await;
}

async fn fill_topic(harness: &Harness, topic: &str, letters: u32) {
    let messages = (0..letters).map(|number| {
        OutgoingRecord::to(topic)
            .with_key(format!("key-{number}").into_bytes())
            .with_value(number.to_string().into_bytes())
            .with_header("dlq_original_topic", harness.topic.as_str())
            .with_header("dlq_original_partition", "0")
            .with_header("dlq_original_offset", number.to_string())
            .with_header("dlq_reason", "odd")
    });
    harness.producer.send_all(messages).await.expect("kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_shown_dropped_and_replayed_until_none_is_left() {
    let harness = Harness::new(3).await;
    fill(&harness, 20).await;
    let dlq = harness.dlq();
    let listing = dlq.list(5).await.expect("a list");
    assert_eq!((listing.letters.len(), listing.unsettled), (5, 20));

    let id = listing.letters[3].id();
    let shown = dlq.show(id).await.expect("read").expect("a letter");
    assert_eq!(shown, listing.letters[3]);

    assert_eq!(dlq.drop(DeadLetters::These(vec![id])).await.expect("dropped"), 1);
    assert_eq!(dlq.drop(DeadLetters::These(vec![id])).await.expect("dropped"), 0, "it is settled already");
    assert_eq!(dlq.list(100).await.expect("a list").unsettled, 19);
    assert!(dlq.show(id).await.expect("read").is_some(), "it can still be looked at");

    assert_eq!(dlq.replay(DeadLetters::All).await.expect("replayed"), 19);
    assert_eq!((harness.count(&harness.retry_topic()), harness.count(&harness.topic)), (19, 0));
    assert_eq!(dlq.list(100).await.expect("a list").unsettled, 0);
    assert_eq!(dlq.replay(DeadLetters::All).await.expect("replayed"), 0);
    assert_eq!(harness.count(&harness.retry_topic()), 19);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_shown() {
    let harness = Harness::new(1).await;
    let dlq = harness.dlq();
    assert_eq!(dlq.list(10).await.expect("a list").unsettled, 0);
    for id in ["0:0", "0:99", "7:0"] {
        assert_eq!(dlq.show(id.parse().expect("an id")).await.expect("read"), None, "{id}");
    }
    fill(&harness, 1).await;
    dlq.drop(DeadLetters::All).await.expect("dropped");
    let mark = DeadLetterId { partition: Partition(0), offset: kafka::Offset(1) };
    assert_eq!(dlq.show(mark).await.expect("read"), None, "a resolution is no dead letter");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_is_named() {
    let harness = Harness::new(1).await;
    let dlq = Dlq::of(&harness.config, "no-such-topic", "some").expect("dead letters");
    let error = dlq.list(10).await.expect_err("there is none");
    assert_eq!(format!("{error:#}"), "read no-such-topic.some.dlq: there is no such topic");
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_dead_letters_are_settled_in_one_go() {
    let harness = Harness::new(2).await;
    fill(&harness, 3000).await;
    let dlq = harness.dlq();
    assert_eq!(dlq.replay(DeadLetters::All).await.expect("replayed"), 3000);
    assert_eq!(dlq.list(1).await.expect("a list").unsettled, 0);
    assert_eq!(harness.count(&harness.retry_topic()), 3000);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_of_an_older_version_are_still_listed_and_replayed_to_the_group() {
    let harness = Harness::new(2).await;
    let legacy = || Dlq::legacy(&harness.config, &harness.topic, &harness.group).expect("dead letters");
    assert_eq!(legacy().list(10).await.expect("a list").unsettled, 0, "there need not be any");
    harness.make_topic(&harness.legacy_dead_letter_topic(), 2).await;
    fill_topic(&harness, &harness.legacy_dead_letter_topic(), 3).await;
    let listing = legacy().list(10).await.expect("a list");
    assert_eq!(listing.unsettled, 3);
    let origin = listing.letters[0].origin.as_ref().expect("an origin");
    assert_eq!((origin.topic.as_str(), origin.reason.as_str()), (harness.topic.as_str(), "odd"));
    assert_eq!(legacy().drop(DeadLetters::These(vec![listing.letters[0].id()])).await.expect("dropped"), 1);
    assert_eq!(legacy().replay(DeadLetters::All).await.expect("replayed"), 2);
    assert_eq!(legacy().list(10).await.expect("a list").unsettled, 0);

    let seen = Seen::default();
    let member = harness.start(crate::support::accepting(&seen));
    wait_for("both", || seen.len() == 2).await;
    member.stop().await;
    assert!(seen.records().iter().all(|(partition, _, _)| *partition == 0), "the partition that they were in");
}
