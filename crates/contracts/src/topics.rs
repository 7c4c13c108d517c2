//! Topic and consumer group names.

/// Readings, one message per interest: from data-collector to alert-system, keyed by interest id.
pub const TO_ALERT_SYSTEM: &str = "to-alert-system";

/// Alerts: from alert-system to notifier, keyed by the user's e-mail address.
pub const TO_NOTIFIER: &str = "to-notifier";

/// The consumer group that reads [`TO_ALERT_SYSTEM`].
pub const ALERT_SYSTEM_GROUP: &str = "alert-system";

/// The consumer group that reads [`TO_NOTIFIER`].
pub const NOTIFIER_GROUP: &str = "notifier";

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

    /// Both working topics. Each has a dead letter topic beside it.
    #[must_use]
    pub fn working_topics(&self) -> [String; 2] {
        [self.to_alert_system(), self.to_notifier()]
    }

    fn named(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }
}

/// The topic that keeps what could not be processed from `topic`.
#[must_use]
pub fn dead_letters_of(topic: &str) -> String {
    format!("{topic}.dlq")
}
