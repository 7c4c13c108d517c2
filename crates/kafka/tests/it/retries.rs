use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex},
};

use kafka::{
    Failure, Offset, OutgoingRecord, Partition, Producer, Profile, Record, Settled, Source, Subscription,
    dlq::{DeadLetters, Dlq},
};

use crate::{
    dead_letters::even_only,
    support::{By, Harness, Seen, accepting, wait_for},
};

/// Rejects everything that is not retried; keeps what is.
fn only_retries(seen: &Seen, kept: &Arc<Mutex<Vec<Record>>>) -> impl kafka::Handler + use<> {
    let kept = kept.clone();
    let decide = move |batch: &[Record]| -> Result<Vec<Settled>, Failure> {
        let retried = batch.iter().filter(|record| record.source() == Source::Retry);
        kept.lock().expect("lock").extend(retried.cloned());
        Ok(batch
            .iter()
            .map(|record| match record.source() {
                Source::Topic => Settled::rejected("not yet"),
                Source::Retry => Settled::Done("handled"),
            })
            .collect())
    };
    By { seen: seen.clone(), decide }
}

fn theirs(record: &Record) -> Vec<(String, Option<Vec<u8>>)> {
    let headers = record.headers().filter(|(name, _)| !name.starts_with("dlq_"));
    headers.map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_replayed_is_the_record_it_was_to_the_last_byte() {
    let harness = Harness::new(3).await;
    let to = || OutgoingRecord::to(&harness.topic);
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let sent = [
        to().with_key(&b"k"[..]).with_value(&b"v"[..]).with_header("ce_type", "a").with_header("ce_type", "b"),
        to().with_key(&b"\xff\x00\xfe"[..]).with_value(&b"\x00\xff"[..]).with_header("traceparent", traceparent),
        to().with_value(&b"without key"[..]).with_header("request_id", "req-7").with_header("empty", ""),
        to().with_key(&b"removed"[..]),
        to().with_key(&b""[..]).with_value(&b""[..]),
        to(),
    ];
    harness.producer.send_all(sent).await.expect("kept");
    let (seen, kept) = (Seen::default(), Arc::new(Mutex::new(Vec::new())));
    let member = harness.start(only_retries(&seen, &kept));
    wait_for("six letters", || harness.count(&harness.dead_letter_topic()) == 6).await;
    let originals: Vec<_> = {
        let listing = harness.dlq().list(10).await.expect("a list");
        listing.letters.into_iter().map(|letter| (letter.origin.expect("an origin"), letter.record)).collect()
    };
    assert_eq!(harness.dlq().replay(DeadLetters::All).await.expect("replayed"), 6);
    wait_for("all of them again", || kept.lock().expect("lock").len() == 6).await;
    member.stop().await;
    let retried = kept.lock().expect("lock");
    for (origin, letter) in &originals {
        let is_it = |record: &&Record| record.original_place() == Some((origin.partition, origin.offset));
        let record = retried.iter().find(is_it).expect("it came again, with its place");
        assert_eq!((record.key(), record.value()), (letter.key(), letter.value()));
        assert_eq!(letter.header("dlq_key"), letter.key());
        assert_eq!(theirs(record), theirs(letter));
        assert_eq!(record.partition, origin.partition, "in the partition it was in");
    }
    let tombstone = retried.iter().find(|record| record.key() == Some(b"removed")).expect("the tombstone");
    assert_eq!(tombstone.value(), None);
    assert_eq!(harness.committed_of(&harness.retry_topic()).values().sum::<i64>(), 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_rejected_again_and_again_names_its_first_place_and_does_not_grow() {
    let harness = Harness::new(1).await;
    harness.produce([2, 9]).await;
    let seen = Seen::default();
    let member = harness.start(even_only(&seen));
    for round in 1..=4 {
        wait_for("the letter", || harness.count(&harness.dead_letter_topic()) == 2 * round - 1).await;
        let listing = harness.dlq().list(10).await.expect("a list");
        assert_eq!(listing.unsettled, 1, "round {round}");
        let letter = &listing.letters[0];
        let origin = letter.origin.as_ref().expect("an origin");
        assert_eq!((origin.topic.as_str(), origin.offset), (harness.topic.as_str(), Offset(1)), "round {round}");
        assert_eq!(origin.group.as_deref(), Some(harness.group.as_str()));
        assert_eq!(letter.record.headers().count(), 6, "round {round}");
        assert_eq!(harness.dlq().replay(DeadLetters::All).await.expect("replayed"), 1);
    }
    member.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_group_retries_no_other_group_reads() {
    let harness = Harness::new(1).await;
    let other = format!("{}-other", harness.group);
    for topic in
        [events::topics::dead_letter_topic(&harness.topic, &other), events::topics::retry_topic(&harness.topic, &other)]
    {
        harness.make_topic(&topic, 1).await;
    }
    harness.produce([2, 9]).await;
    let (rejecting, all) = (Seen::default(), Seen::default());
    let member = harness.start(even_only(&rejecting));
    let second = harness.start_with(
        |subscription| Subscription::new(subscription.topic, other.clone()),
        |consumer, runtime| consumer.spawn(accepting(&all), runtime),
    );
    wait_for("both groups", || rejecting.len() == 2 && all.len() == 2).await;
    wait_for("the letter", || harness.count(&harness.dead_letter_topic()) == 1).await;
    let others = Dlq::of(&harness.config, &harness.topic, &other).expect("dead letters");
    assert_eq!(others.list(10).await.expect("a list").unsettled, 0);
    harness.dlq().replay(DeadLetters::All).await.expect("replayed");
    wait_for("the retry", || rejecting.len() == 3).await;
    harness.produce([4]).await;
    wait_for("the next record", || rejecting.len() == 4 && all.len() == 3).await;
    assert_eq!(all.values(), [2, 4, 9]);
    member.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_of_a_partition_is_the_one_who_gets_its_retries() {
    let unlimited = |mut config: kafka::KafkaConfig| {
        config.dead_letter_run_limit = NonZeroU32::MAX;
        config.with("heartbeat.interval.ms", "300")
    };
    let harness = Harness::configured(4, unlimited).await;
    let kept = [(); 2].map(|()| Arc::new(Mutex::new(Vec::<Record>::new())));
    let seen = [Seen::default(), Seen::default()];
    let first = harness.start(only_retries(&seen[0], &kept[0]));
    wait_for("the first member", || first.metrics().contains("consumer_partitions_paused")).await;
    let second = harness.start(only_retries(&seen[1], &kept[1]));
    // Until both own partitions.
    testkit::wait_for("both to share", crate::support::DEADLINE, async || {
        harness.produce(0..40).await;
        let owned = |seen: &Seen| (0..4).filter(|partition| !seen.of_partition(*partition).is_empty()).count();
        owned(&seen[1]) >= 2
    })
    .await;
    let all_settled = || harness.total_committed() == harness.count(&harness.topic);
    wait_for("every record", all_settled).await;
    // What was read before the rebalance may be read again after it, so the owner is the one who reads what comes now.
    harness.produce(0..40).await;
    wait_for("the records after the rebalance", all_settled).await;
    let last: Vec<Vec<i64>> =
        seen.iter().map(|seen| (0..4).map(|p| seen.of_partition(p).last().copied().unwrap_or(-1)).collect()).collect();
    // Records that came again with the rebalance may be dead letters twice.
    let letters = harness.dlq().replay(DeadLetters::All).await.expect("replayed");
    assert!(letters >= usize::try_from(harness.count(&harness.topic)).expect("few"));
    let retried = || kept.iter().map(|kept| kept.lock().expect("lock").len()).sum::<usize>();
    wait_for("all of them again", || retried() >= letters).await;
    for (partition, (of_first, of_second)) in last[0].iter().zip(&last[1]).enumerate() {
        let owner = usize::from(of_second > of_first);
        let number = Partition(i32::try_from(partition).expect("few"));
        let others = kept[1 - owner].lock().expect("lock").iter().filter(|record| record.partition == number).count();
        assert_eq!(others, 0, "partition {partition} belongs to member {owner}");
    }
    first.stop().await;
    second.stop().await;
    // Nothing is left for the next one.
    let after = Seen::default();
    let third = harness.start(accepting(&after));
    let marker = Producer::unwatched(&harness.config, Profile::Latency).expect("a producer");
    let resolutions =
        (0..4).map(|number| OutgoingRecord::to(&harness.topic).with_key(vec![number]).with_value(&b"1"[..]));
    marker.send_all(resolutions).await.expect("kept");
    wait_for("the next records", || after.len() >= 4).await;
    third.stop().await;
    assert_eq!(after.len(), 4);
}
