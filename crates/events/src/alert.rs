use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{FlightCount, ReadingRef};

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
    /// The number of flights that was read.
    pub flight_count: FlightCount,
    /// The threshold that was crossed; `None` for `recovered`.
    pub threshold: Option<FlightCount>,
    /// What happened, as a sentence: the [`Crossing`] in words. It is for readers that do not know the kind.
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

/// What happened at a threshold, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AlertKind {
    /// The number of flights rose above the high threshold.
    High,
    /// The number of flights fell below the low threshold.
    Low,
    /// The number of flights is back within the thresholds.
    Recovered,
}

impl AlertKind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::High, Self::Low, Self::Recovered];

    /// The name used in JSON and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Low => "low",
            Self::Recovered => "recovered",
        }
    }

    /// The kind of that name; `None` for one that this version does not know.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// What happened at a threshold, in numbers. Its `Display` is the one place that makes the sentence people read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crossing {
    /// The number of flights rose above the high threshold.
    High {
        /// What was read.
        flight_count: FlightCount,
        /// What it exceeded.
        threshold: FlightCount,
    },
    /// The number of flights fell below the low threshold.
    Low {
        /// What was read.
        flight_count: FlightCount,
        /// What it is below.
        threshold: FlightCount,
    },
    /// The number of flights is back within the thresholds.
    Recovered {
        /// What was read.
        flight_count: FlightCount,
    },
}

impl Crossing {
    /// What an alert of this kind tells; `None` when it lacks the threshold that was crossed.
    #[must_use]
    pub fn new(kind: AlertKind, flight_count: FlightCount, threshold: Option<FlightCount>) -> Option<Self> {
        Some(match kind {
            AlertKind::High => Self::High { flight_count, threshold: threshold? },
            AlertKind::Low => Self::Low { flight_count, threshold: threshold? },
            AlertKind::Recovered => Self::Recovered { flight_count },
        })
    }

    /// What happened, by name.
    #[must_use]
    pub const fn kind(self) -> AlertKind {
        match self {
            Self::High { .. } => AlertKind::High,
            Self::Low { .. } => AlertKind::Low,
            Self::Recovered { .. } => AlertKind::Recovered,
        }
    }

    /// The number of flights that was read.
    #[must_use]
    pub const fn flight_count(self) -> FlightCount {
        match self {
            Self::High { flight_count, .. } | Self::Low { flight_count, .. } | Self::Recovered { flight_count } => {
                flight_count
            }
        }
    }

    /// The threshold that was crossed; `None` on the way back.
    #[must_use]
    pub const fn threshold(self) -> Option<FlightCount> {
        match self {
            Self::High { threshold, .. } | Self::Low { threshold, .. } => Some(threshold),
            Self::Recovered { .. } => None,
        }
    }
}

impl fmt::Display for Crossing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::High { flight_count, threshold } => {
                write!(f, "The number of flights ({flight_count}) exceeded the high threshold of {threshold}.")
            }
            Self::Low { flight_count, threshold } => {
                write!(f, "The number of flights ({flight_count}) is below the low threshold of {threshold}.")
            }
            Self::Recovered { flight_count } => {
                write!(f, "The number of flights ({flight_count}) is back within the thresholds.")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crossing_is_made_again_of_what_it_says() {
        let threshold = Some(FlightCount::new(2));
        for (kind, threshold) in
            [(AlertKind::High, threshold), (AlertKind::Low, threshold), (AlertKind::Recovered, None)]
        {
            let crossing = Crossing::new(kind, FlightCount::new(10), threshold).expect("a crossing");
            assert_eq!(
                (crossing.kind(), crossing.flight_count(), crossing.threshold()),
                (kind, FlightCount::new(10), threshold)
            );
            assert_eq!(AlertKind::from_name(kind.as_str()), Some(kind));
        }
        assert_eq!(AlertKind::from_name("digest"), None);
    }

    #[test]
    fn without_its_threshold_a_crossing_cannot_be_told() {
        assert_eq!(Crossing::new(AlertKind::High, FlightCount::ZERO, None), None);
        assert_eq!(Crossing::new(AlertKind::Low, FlightCount::ZERO, None), None);
        let recovered = Crossing::Recovered { flight_count: FlightCount::ZERO };
        assert_eq!(Crossing::new(AlertKind::Recovered, FlightCount::ZERO, Some(FlightCount::ZERO)), Some(recovered));
    }
}
