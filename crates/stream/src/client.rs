//! What every client does with the library's own words.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use rdkafka::{ClientContext, config::RDKafkaLogLevel, error::KafkaError};

use crate::core::throttle::Throttle;

/// In an outage the library reports several errors a second; one line in this time is enough.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Writes the library's lines to our log, errors of one client at most once per [`LINE_INTERVAL`].
pub(crate) struct Words {
    client: &'static str,
    troubles: Mutex<Throttle>,
    last: Mutex<Option<String>>,
}

impl Words {
    /// Words of a client that is called `client` in the log.
    pub(crate) fn of(client: &'static str) -> Self {
        Self { client, troubles: Mutex::new(Throttle::new(LINE_INTERVAL)), last: Mutex::default() }
    }

    /// Notes a trouble that the library copes with by itself.
    pub(crate) fn trouble(&self, what: &str) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(what.to_owned());
        let admitted = self.troubles.lock().unwrap_or_else(PoisonError::into_inner).admit(Instant::now());
        match admitted {
            Some(0) => tracing::warn!("kafka {}: {what}", self.client),
            Some(more) => tracing::warn!("kafka {}: {what} (and {more} more lines like it)", self.client),
            None => tracing::debug!("kafka {}: {what}", self.client),
        }
    }

    /// The last trouble, which says more about an outage than a time-out does.
    pub(crate) fn last_trouble(&self) -> Option<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn line(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error
            | RDKafkaLogLevel::Warning => self.trouble(&format!("{facility}: {line}")),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!("kafka {}: {facility}: {line}", self.client);
            }
        }
    }
}

/// The context of a client that has nothing else to say.
pub(crate) struct Plain(pub(crate) Words);

impl ClientContext for Plain {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        self.0.line(level, facility, line);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.trouble(&format!("{error}: {reason}"));
    }
}

impl rdkafka::consumer::ConsumerContext for Plain {}
