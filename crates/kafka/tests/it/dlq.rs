use kafka::{
    Outgoing, Partition,
    dlq::{Dlq, LetterId, Letters},
};

use crate::support::{Rig, Seen, wait_for};

/// Puts letters where they belong, as the loop would.
async fn fill(rig: &Rig, letters: u32) {
    fill_topic(rig, &rig.dead_letter_topic(), letters).await;
}

async fn fill_topic(rig: &Rig, topic: &str, letters: u32) {
    let messages = (0..letters).map(|number| {
        Outgoing::to(topic)
            .with_key(format!("key-{number}").into_bytes())
            .with_value(number.to_string().into_bytes())
            .with_header("dlq_original_topic", rig.topic.as_str())
            .with_header("dlq_original_partition", "0")
            .with_header("dlq_original_offset", number.to_string())
            .with_header("dlq_reason", "odd")
    });
    rig.producer.send_all(messages).await.expect("kept");
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_are_listed_shown_dropped_and_replayed_until_none_is_left() {
    let rig = Rig::new(3).await;
    fill(&rig, 20).await;
    let dlq = rig.dlq();
    let listing = dlq.list(5).await.expect("a list");
    assert_eq!((listing.letters.len(), listing.unsettled), (5, 20));

    let id = listing.letters[3].id();
    let shown = dlq.show(id).await.expect("read").expect("a letter");
    assert_eq!(shown, listing.letters[3]);

    assert_eq!(dlq.drop(Letters::These(vec![id])).await.expect("dropped"), 1);
    assert_eq!(dlq.drop(Letters::These(vec![id])).await.expect("dropped"), 0, "it is settled already");
    assert_eq!(dlq.list(100).await.expect("a list").unsettled, 19);
    assert!(dlq.show(id).await.expect("read").is_some(), "it can still be looked at");

    assert_eq!(dlq.replay(Letters::All).await.expect("replayed"), 19);
    assert_eq!((rig.count(&rig.retry_topic()), rig.count(&rig.topic)), (19, 0));
    assert_eq!(dlq.list(100).await.expect("a list").unsettled, 0);
    assert_eq!(dlq.replay(Letters::All).await.expect("replayed"), 0);
    assert_eq!(rig.count(&rig.retry_topic()), 19);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_not_shown() {
    let rig = Rig::new(1).await;
    let dlq = rig.dlq();
    assert_eq!(dlq.list(10).await.expect("a list").unsettled, 0);
    for id in ["0:0", "0:99", "7:0"] {
        assert_eq!(dlq.show(id.parse().expect("an id")).await.expect("read"), None, "{id}");
    }
    fill(&rig, 1).await;
    dlq.drop(Letters::All).await.expect("dropped");
    let mark = LetterId { partition: Partition(0), offset: kafka::Offset(1) };
    assert_eq!(dlq.show(mark).await.expect("read"), None, "a mark is no letter");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_is_named() {
    let rig = Rig::new(1).await;
    let dlq = Dlq::of(&rig.config, "no-such-topic", "some").expect("dead letters");
    let error = dlq.list(10).await.expect_err("there is none");
    assert_eq!(format!("{error:#}"), "read no-such-topic.some.dlq: there is no such topic");
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_of_letters_are_settled_in_one_go() {
    let rig = Rig::new(2).await;
    fill(&rig, 3000).await;
    let dlq = rig.dlq();
    assert_eq!(dlq.replay(Letters::All).await.expect("replayed"), 3000);
    assert_eq!(dlq.list(1).await.expect("a list").unsettled, 0);
    assert_eq!(rig.count(&rig.retry_topic()), 3000);
}

#[tokio::test(flavor = "multi_thread")]
async fn letters_of_an_older_version_are_still_listed_and_replayed_to_the_group() {
    let rig = Rig::new(2).await;
    let legacy = || Dlq::legacy(&rig.config, &rig.topic, &rig.group).expect("dead letters");
    assert_eq!(legacy().list(10).await.expect("a list").unsettled, 0, "there need not be any");
    rig.make_topic(&rig.legacy_dead_letter_topic(), 2).await;
    fill_topic(&rig, &rig.legacy_dead_letter_topic(), 3).await;
    let listing = legacy().list(10).await.expect("a list");
    assert_eq!(listing.unsettled, 3);
    let origin = listing.letters[0].origin.as_ref().expect("an origin");
    assert_eq!((origin.topic.as_str(), origin.reason.as_str()), (rig.topic.as_str(), "odd"));
    assert_eq!(legacy().drop(Letters::These(vec![listing.letters[0].id()])).await.expect("dropped"), 1);
    assert_eq!(legacy().replay(Letters::All).await.expect("replayed"), 2);
    assert_eq!(legacy().list(10).await.expect("a list").unsettled, 0);

    let seen = Seen::default();
    let member = rig.start(crate::support::accepting(&seen));
    wait_for("both", || seen.len() == 2).await;
    member.stop().await;
    assert!(seen.records().iter().all(|(partition, _, _)| *partition == 0), "the partition that they were in");
}
