//! Several consumers in one process.

use events::topics::{Group, Topic, days};
use kafka::{Consumer, KafkaConfig, OutgoingRecord, Producer, Profile, Settled, Subscription, topics};
use runtime::{ServiceRuntime, clock::Clock};
use tokio_util::sync::CancellationToken;

use crate::support::{By, Member, Seen, accepting, wait_for};

const READER: Group = Group { name: "reader", service: "test" };
const OTHER: Group = Group { name: "other", service: "test" };
const LEFT: Topic = Topic {
    name: "left",
    owner: "test",
    key: "a number",
    retention: days(1),
    event_types: &[],
    groups: &[READER, OTHER],
};
const RIGHT: Topic = Topic { name: "right", groups: &[READER], ..LEFT };
static TABLE: &[Topic] = &[LEFT, RIGHT];

#[tokio::test(flavor = "multi_thread")]
async fn consumers_of_one_process_share_a_topic_or_a_group_and_have_metrics_and_readiness_of_their_own() {
    let mut config = KafkaConfig::plain(testkit::kafka().await);
    config.partitions = 1;
    let names = testkit::topics_of(TABLE);
    topics::create(&config, &names, &CancellationToken::new(), drop).await.expect("topics");
    let producer = Producer::unwatched(&config, Profile::Throughput).expect("a producer");
    let runtime = ServiceRuntime::new("test", CancellationToken::new(), Clock::system());
    let consumer = |topic: &Topic, group: &Group| {
        let subscription = Subscription::of(&names, topic, group).expect("a row names it");
        Consumer::new(&config, subscription, &producer, &runtime)
    };
    let all = [(LEFT, READER), (LEFT, OTHER), (RIGHT, READER)];
    let consumers = all.map(|(topic, group)| consumer(&topic, &group).expect("a consumer of its own"));
    let again = consumer(&LEFT, &READER).err().expect("there is one already");
    assert!(again.to_string().contains(&names.topic(&LEFT)), "{again}");

    let seen = [Seen::default(), Seen::default(), Seen::default()];
    let breaker = consumers[1].breaker().clone();
    let [first, rejecting, third] = consumers;
    first.spawn(accepting(&seen[0]), &runtime);
    let reject = |batch: &[kafka::Record]| Ok(batch.iter().map(|_| Settled::rejected("too late")).collect());
    rejecting.spawn(By { seen: seen[1].clone(), decide: reject }, &runtime);
    third.spawn(accepting(&seen[2]), &runtime);
    let (left, right) = (names.topic(&LEFT), names.topic(&RIGHT));
    let to = |topic, count: usize| (0..count).map(move |_| OutgoingRecord::to(topic).with_value(&b"1"[..]));
    producer.send_all(to(&left, 10).chain(to(&right, 5))).await.expect("kept");
    wait_for("all records", || seen.iter().map(Seen::len).eq([10, 10, 5])).await;

    let member = Member { runtime, breaker };
    let settled = |topic: &Topic, group: &Group, outcome: &str| {
        let labels = [("topic", names.topic(topic)), ("group", names.group(group)), ("outcome", outcome.to_owned())];
        let labels = labels.map(|(name, value)| format!("{name}=\"{value}\""));
        member.metric("consumer_records_settled_total", &labels.each_ref().map(String::as_str)).round()
    };
    wait_for("the counts", || {
        let counts = [settled(&LEFT, &READER, "handled"), settled(&RIGHT, &READER, "handled")];
        counts == [10.0, 5.0] && settled(&LEFT, &OTHER, "dead_lettered") > 9.5
    })
    .await;
    assert!(settled(&LEFT, &READER, "dead_lettered") < 0.5, "the rejects are the other group's");
    let member_since = async || {
        let report = member.runtime.readiness.report().await;
        let is_up = |name: String| {
            let part = report.parts.iter().find(|part| part.name == name);
            part.is_some_and(|part| part.up && part.detail.as_deref().is_some_and(|it| it.starts_with("member since")))
        };
        all.iter().all(|(topic, group)| is_up(format!("consumer of {} as {}", names.topic(topic), names.group(group))))
    };
    testkit::wait_for("a part of each in /readyz", crate::support::DEADLINE, member_since).await;
    member.stop().await;
}

#[test]
fn a_group_that_the_row_does_not_name_cannot_subscribe() {
    let error = Subscription::of(&testkit::topics_of(TABLE), &RIGHT, &OTHER).expect_err("not in the row");
    assert_eq!(error.to_string(), "group other does not read right: name it in the topic's row");
}
