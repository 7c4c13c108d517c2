use std::{borrow::Cow, collections::BTreeSet, time::Duration};

use super::{DEAD_LETTER_RETENTION, Group, TOPICS, Topic};

/// A topic on Kafka: one of a row, or one that follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// The service that creates it.
    pub owner: &'static str,
    /// The services that read it and do not create it.
    pub readers: Vec<&'static str>,
    /// How long its records are kept.
    pub retention: Duration,
    /// What it holds.
    pub kind: TopicKind,
    /// Of dead letters and retries: the topic that they are of.
    pub of: Option<String>,
}

/// What a topic holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicKind {
    /// Events on their way from one service to another.
    Events,
    /// What a consumer group could not process.
    DeadLetters,
    /// Dead letters on their way back to the group they belong to.
    Retries,
}

/// A topic and a consumer group that reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupTopic {
    /// The topic.
    pub topic: String,
    /// The group.
    pub group: String,
    /// Whether the group is given the topic's dead letters of older versions.
    pub takes_legacy: bool,
}

/// A table of topics under the names in use: the table's own, or, where several systems share one Kafka
/// (as tests do), the same behind a prefix. By default it is the shared table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    prefix: String,
    table: Cow<'static, [Topic]>,
}

impl Default for Namespace {
    fn default() -> Self {
        Self::of(TOPICS)
    }
}

impl Namespace {
    /// The topics of `table` under their own names.
    #[must_use]
    pub fn of(table: impl Into<Cow<'static, [Topic]>>) -> Self {
        Self { prefix: String::new(), table: table.into() }
    }

    /// The topics of the shared table, each behind `prefix`.
    #[must_use]
    pub fn prefixed(prefix: impl Into<String>) -> Self {
        Self::default().with_prefix(prefix)
    }

    /// The same topics, each behind `prefix`.
    #[must_use]
    pub fn with_prefix(self, prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into(), ..self }
    }

    /// The rows.
    #[must_use]
    pub fn rows(&self) -> &[Topic] {
        &self.table
    }

    /// The name of a topic here.
    #[must_use]
    pub fn topic(&self, topic: &Topic) -> String {
        format!("{}{}", self.prefix, topic.name)
    }

    /// The name of a group here.
    #[must_use]
    pub fn group(&self, group: &Group) -> String {
        format!("{}{}", self.prefix, group.name)
    }

    /// Each topic with each group that reads it, and so with dead letters of its own.
    #[must_use]
    pub fn group_topics(&self) -> Vec<GroupTopic> {
        let of_topic = |row: &Topic| {
            let topic = self.topic(row);
            let group_topic = |(place, group): (usize, &Group)| {
                let (topic, group) = (topic.clone(), self.group(group));
                GroupTopic { topic, group, takes_legacy: place == 0 }
            };
            row.groups.iter().enumerate().map(group_topic).collect::<Vec<_>>()
        };
        self.table.iter().flat_map(of_topic).collect()
    }

    /// Every topic that there must be: that of each row, and dead letters and retries of each of its groups.
    #[must_use]
    pub fn topics(&self) -> Vec<TopicSpec> {
        self.table.iter().flat_map(|row| self.topics_of(row)).collect()
    }

    fn topics_of(&self, row: &Topic) -> Vec<TopicSpec> {
        let topic = self.topic(row);
        let services: BTreeSet<_> = row.groups.iter().map(|group| group.service).collect();
        let readers = services.into_iter().filter(|service| *service != row.owner).collect();
        let of_group = |group: &Group| {
            let name = self.group(group);
            let of_service = |name, kind, retention| TopicSpec {
                name,
                owner: group.service,
                readers: Vec::new(),
                retention,
                kind,
                of: Some(topic.clone()),
            };
            [
                of_service(dead_letter_topic(&topic, &name), TopicKind::DeadLetters, DEAD_LETTER_RETENTION),
                of_service(retry_topic(&topic, &name), TopicKind::Retries, row.retention),
            ]
        };
        let of_groups: Vec<_> = row.groups.iter().flat_map(of_group).collect();
        let (name, retention) = (topic.clone(), row.retention);
        let events = TopicSpec { name, owner: row.owner, readers, retention, kind: TopicKind::Events, of: None };
        std::iter::once(events).chain(of_groups).collect()
    }
}

/// The topic that keeps what `group` could not process from `topic`.
#[must_use]
pub fn dead_letter_topic(topic: &str, group: &str) -> String {
    format!("{topic}.{group}.dlq")
}

/// The topic on which dead letters of `topic` come back to `group`, and to no other group.
#[must_use]
pub fn retry_topic(topic: &str, group: &str) -> String {
    format!("{topic}.{group}.retry")
}

/// The topic that kept the dead letters of `topic` before they belonged to a group. It is still read.
#[must_use]
pub fn legacy_dead_letter_topic(topic: &str) -> String {
    format!("{topic}.dlq")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topics::days;

    #[test]
    fn each_topic_is_created_by_its_producer_and_the_topics_of_a_group_by_the_group() {
        let topics = Namespace::default().topics();
        let owned: Vec<_> = topics.iter().map(|topic| (topic.name.as_str(), topic.owner, &topic.readers[..])).collect();
        assert_eq!(
            owned,
            [
                ("to-alert-system", "data-collector", &["alert-system"][..]),
                ("to-alert-system.alert-system.dlq", "alert-system", &[]),
                ("to-alert-system.alert-system.retry", "alert-system", &[]),
                ("to-notifier", "alert-system", &["notifier"]),
                ("to-notifier.notifier.dlq", "notifier", &[]),
                ("to-notifier.notifier.retry", "notifier", &[]),
            ]
        );
    }

    #[test]
    fn a_topic_may_have_several_groups_and_its_owner_may_read_it() {
        const SHARED: Topic = Topic {
            name: "greetings",
            owner: "greeter",
            key: "name",
            retention: days(1),
            event_types: &["greeting.v1"],
            groups: &[Group { name: "greeter", service: "greeter" }, Group { name: "counter", service: "archive" }],
        };
        let names = Namespace::of(&[SHARED][..]).with_prefix("t-");
        let topics = names.topics();
        let kept: Vec<_> =
            topics.iter().map(|topic| (topic.name.as_str(), topic.owner, topic.retention.as_secs())).collect();
        assert_eq!(
            kept,
            [
                ("t-greetings", "greeter", 86_400),
                ("t-greetings.t-greeter.dlq", "greeter", 1_209_600),
                ("t-greetings.t-greeter.retry", "greeter", 86_400),
                ("t-greetings.t-counter.dlq", "archive", 1_209_600),
                ("t-greetings.t-counter.retry", "archive", 86_400),
            ]
        );
        assert_eq!(topics[0].readers, ["archive"], "the owner waits for no one");
        let legacy: Vec<_> = names.group_topics().iter().map(|of| (of.group.clone(), of.takes_legacy)).collect();
        assert_eq!(legacy, [("t-greeter".to_owned(), true), ("t-counter".to_owned(), false)]);
    }
}
