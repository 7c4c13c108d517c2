//! The topics: their names, who owns, reads and retries them.
//!
//! A topic is created by the service that owns it: the one that writes to it or, of a consumer group's
//! dead letters and retries, the service whose group it is. Readers wait for it.

/// Readings, one message per interest: from data-collector to alert-system, keyed by interest id.
pub const TO_ALERT_SYSTEM: &str = "to-alert-system";

/// Alerts: from alert-system to notifier, keyed by the user's e-mail address.
pub const TO_NOTIFIER: &str = "to-notifier";

/// The consumer group that reads [`TO_ALERT_SYSTEM`].
pub const ALERT_SYSTEM_GROUP: &str = "alert-system";

/// The consumer group that reads [`TO_NOTIFIER`].
pub const NOTIFIER_GROUP: &str = "notifier";

const DATA_COLLECTOR: &str = "data-collector";
const ALERT_SYSTEM: &str = "alert-system";
const NOTIFIER: &str = "notifier";

/// What is fixed about a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// The service that creates it.
    pub owner: &'static str,
    /// The service that reads it, when that is another.
    pub reader: Option<&'static str>,
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
}

/// The names in use: the contract's own, or, where several systems share one Kafka (as tests do),
/// the same behind a prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Namespace {
    prefix: String,
}

impl Namespace {
    /// The contract's names, each behind `prefix`.
    #[must_use]
    pub fn prefixed(prefix: impl Into<String>) -> Self {
        Self { prefix: prefix.into() }
    }

    /// [`TO_ALERT_SYSTEM`] here.
    #[must_use]
    pub fn to_alert_system(&self) -> String {
        self.named(TO_ALERT_SYSTEM)
    }

    /// [`TO_NOTIFIER`] here.
    #[must_use]
    pub fn to_notifier(&self) -> String {
        self.named(TO_NOTIFIER)
    }

    /// [`ALERT_SYSTEM_GROUP`] here.
    #[must_use]
    pub fn alert_system_group(&self) -> String {
        self.named(ALERT_SYSTEM_GROUP)
    }

    /// [`NOTIFIER_GROUP`] here.
    #[must_use]
    pub fn notifier_group(&self) -> String {
        self.named(NOTIFIER_GROUP)
    }

    /// Each topic with each group that reads it, and so with dead letters of its own.
    #[must_use]
    pub fn group_topics(&self) -> [GroupTopic; 2] {
        [
            GroupTopic { topic: self.to_alert_system(), group: self.alert_system_group() },
            GroupTopic { topic: self.to_notifier(), group: self.notifier_group() },
        ]
    }

    /// Every topic there is.
    #[must_use]
    pub fn topics(&self) -> Vec<TopicSpec> {
        let producers_and_readers = [(DATA_COLLECTOR, ALERT_SYSTEM), (ALERT_SYSTEM, NOTIFIER)];
        let of_group = |group_topic: GroupTopic, (producer, reader)| {
            let GroupTopic { topic, group } = group_topic;
            let of_reader = |name, kind| TopicSpec { name, owner: reader, reader: None, kind, of: Some(topic.clone()) };
            let dead_letters = of_reader(dead_letter_topic(&topic, &group), TopicKind::DeadLetters);
            let retries = of_reader(retry_topic(&topic, &group), TopicKind::Retries);
            let kind = TopicKind::Events;
            let events = TopicSpec { name: topic.clone(), owner: producer, reader: Some(reader), kind, of: None };
            [events, dead_letters, retries]
        };
        self.group_topics()
            .into_iter()
            .zip(producers_and_readers)
            .flat_map(|(topic, ends)| of_group(topic, ends))
            .collect()
    }

    fn named(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
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

    #[test]
    fn each_topic_is_created_by_its_producer_and_the_topics_of_a_group_by_the_group() {
        let topics = Namespace::default().topics();
        let owned: Vec<_> = topics.iter().map(|topic| (topic.name.as_str(), topic.owner, topic.reader)).collect();
        assert_eq!(
            owned,
            [
                ("to-alert-system", "data-collector", Some("alert-system")),
                ("to-alert-system.alert-system.dlq", "alert-system", None),
                ("to-alert-system.alert-system.retry", "alert-system", None),
                ("to-notifier", "alert-system", Some("notifier")),
                ("to-notifier.notifier.dlq", "notifier", None),
                ("to-notifier.notifier.retry", "notifier", None),
            ]
        );
    }
}
