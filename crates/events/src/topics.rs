//! The table of topics: one row a topic, and everything that is fixed about it.
//!
//! What names a topic, a group, an owner, a retention or a reader takes it from a row: the owner that
//! creates, the readers that wait, dead letters and retries, `flightbell dlq` and `doctor`, tests, and the
//! table in ARCHITECTURE.md. A row is the one place to edit.
//!
//! [`TOPICS`] holds the topics that several services share, which depend on this crate and not on each
//! other. A service says in its specification which rows it works with: this table or, of a topic that no
//! other service needs, a table of its own. What it owns and reads follows from the rows by its name.

mod namespace;
mod problems;

use std::time::Duration;

pub use self::{
    namespace::{
        GroupTopic, Namespace, TopicKind, TopicSpec, dead_letter_topic, legacy_dead_letter_topic, retry_topic,
    },
    problems::{WrongTable, merged},
};
use crate::headers;

/// Readings and removals, one message per interest.
pub const TO_ALERT_SYSTEM: Topic = Topic {
    name: "to-alert-system",
    owner: "data-collector",
    key: "interest id",
    retention: days(7),
    event_types: &[headers::READING_V1],
    groups: &[ALERT_SYSTEM_GROUP],
};

/// Alerts on their way to people.
pub const TO_NOTIFIER: Topic = Topic {
    name: "to-notifier",
    owner: "alert-system",
    key: "user's e-mail address",
    retention: days(7),
    event_types: &[headers::ALERT_V1],
    groups: &[NOTIFIER_GROUP],
};

/// The table of the topics that several services share.
pub const TOPICS: &[Topic] = &[TO_ALERT_SYSTEM, TO_NOTIFIER];

/// The consumer group that reads [`TO_ALERT_SYSTEM`].
pub const ALERT_SYSTEM_GROUP: Group = Group { name: "alert-system", service: "alert-system" };

/// The consumer group that reads [`TO_NOTIFIER`].
pub const NOTIFIER_GROUP: Group = Group { name: "notifier", service: "notifier" };

/// How long dead letters are kept: they wait for a person.
pub const DEAD_LETTER_RETENTION: Duration = days(14);

/// A row: what is fixed about a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: &'static str,
    /// The service that writes to it, and therefore creates it.
    pub owner: &'static str,
    /// What the key of a record is, for people: records of one key keep their order.
    pub key: &'static str,
    /// How long a record is kept, and one that is retried: a worker may be away over a long weekend. No
    /// longer than needed, since records carry e-mail addresses.
    pub retention: Duration,
    /// The values of the header [`headers::TYPE`] that its readers know.
    pub event_types: &'static [&'static str],
    /// The consumer groups that read it, each with dead letters and retries of its own. The first is given
    /// what older versions dead-lettered, when dead letters belonged to a topic and not to a group.
    pub groups: &'static [Group],
}

/// A consumer group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: &'static str,
    /// The service whose replicas are its members, and which creates its dead letter and retry topics.
    pub service: &'static str,
}

impl Topic {
    /// Whether readers know a record with this value of the header [`headers::TYPE`]. Another version may
    /// send other types beside ours; a reader skips them. A record without a type is judged by its body.
    #[must_use]
    pub fn knows(&self, event_type: Option<&[u8]>) -> bool {
        event_type.is_none_or(|sent| self.event_types.iter().any(|known| known.as_bytes() == sent))
    }
}

/// So many days.
#[must_use]
pub const fn days(count: u64) -> Duration {
    Duration::from_secs(count * 24 * 3600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shared_table_has_no_problem() {
        assert_eq!(merged([TOPICS]).map(|rows| rows.len()), Ok(TOPICS.len()));
    }

    #[test]
    fn a_reader_knows_the_types_of_the_row_and_what_has_no_type() {
        assert!(TO_NOTIFIER.knows(Some(b"flightbell.alert.v1")) && TO_NOTIFIER.knows(None));
        for other in [&b"flightbell.alert.v2"[..], b"flightbell.reading.v1", b"", b"\xff"] {
            assert!(!TO_NOTIFIER.knows(Some(other)), "{other:?}");
        }
    }
}
