use std::fmt;

use events::topics::{dead_letter_topic, retry_topic};

use crate::record::Source;

/// The topics of a subscription. It shows as `TOPIC as GROUP`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    pub topic: String,
    pub group: String,
    pub retry_topic: String,
    pub dead_letter_topic: String,
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} as {}", self.topic, self.group)
    }
}

impl Names {
    pub(crate) fn of(topic: &str, group: &str) -> Self {
        Self {
            topic: topic.to_owned(),
            group: group.to_owned(),
            retry_topic: retry_topic(topic, group),
            dead_letter_topic: dead_letter_topic(topic, group),
        }
    }

    pub(crate) fn topic(&self, source: Source) -> &str {
        match source {
            Source::Topic => &self.topic,
            Source::Retry => &self.retry_topic,
        }
    }

    pub(crate) fn source(&self, topic: &str) -> Source {
        if topic == self.retry_topic { Source::Retry } else { Source::Topic }
    }
}
