use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ReadingRef;

/// Something a person asked to be told: the value of a message on
/// [`TO_NOTIFIER`](crate::topics::TO_NOTIFIER). Its key is the user's e-mail address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlertEvent<'a> {
    /// [`alert_event_id`](crate::alert_event_id) of the message that led here.
    pub event_id: Uuid,
    /// The interest it belongs to; `None` when the cause was a
    /// [`LegacyReading`](crate::LegacyReading).
    pub interest_id: Option<Uuid>,
    /// The person to tell; `None` when the cause was a [`LegacyReading`](crate::LegacyReading).
    pub user_id: Option<Uuid>,
    /// That person's e-mail address.
    #[serde(borrow)]
    pub user_email: Cow<'a, str>,
    /// ICAO code.
    #[serde(borrow)]
    pub airport_code: Cow<'a, str>,
    /// A [`Metric`](crate::Metric) by name.
    #[serde(borrow)]
    pub metric: Cow<'a, str>,
    /// An [`AlertKind`] by name; a kind this version does not know is sent as its `condition`.
    #[serde(borrow)]
    pub kind: Cow<'a, str>,
    /// The value that was read.
    pub flight_count: i64,
    /// The threshold that was crossed; `None` for `recovered`.
    pub threshold: Option<i64>,
    /// What happened, as a sentence: [`AlertKind::condition`].
    #[serde(borrow)]
    pub condition: Cow<'a, str>,
    /// The reading that crossed it; `None` when the cause was a
    /// [`LegacyReading`](crate::LegacyReading).
    #[serde(borrow)]
    pub reading: Option<ReadingRef<'a>>,
}

/// The oldest shape on [`TO_NOTIFIER`](crate::topics::TO_NOTIFIER), still valid: three fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacyAlert<'a> {
    /// Whom to tell.
    #[serde(borrow)]
    pub user_email: Cow<'a, str>,
    /// ICAO code.
    #[serde(borrow)]
    pub airport_code: Cow<'a, str>,
    /// What happened, as a sentence.
    #[serde(borrow)]
    pub condition: Cow<'a, str>,
}

/// What happened at a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlertKind {
    /// The value rose above the high threshold.
    High,
    /// The value fell below the low threshold.
    Low,
    /// The value is back within the thresholds.
    Recovered,
}

impl AlertKind {
    /// The name used in JSON and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Low => "low",
            Self::Recovered => "recovered",
        }
    }

    /// The sentence people read. `threshold` is the one that was crossed and is not named by
    /// [`AlertKind::Recovered`].
    #[must_use]
    pub fn condition(self, flight_count: i64, threshold: Option<i64>) -> String {
        let threshold = threshold.unwrap_or_default();
        match self {
            Self::High => format!("The number of flights ({flight_count}) exceeded the high threshold of {threshold}."),
            Self::Low => format!("The number of flights ({flight_count}) is below the low threshold of {threshold}."),
            Self::Recovered => format!("The number of flights ({flight_count}) is back within the thresholds."),
        }
    }
}
