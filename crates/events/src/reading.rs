use std::borrow::Cow;

use chrono::{DateTime, Datelike, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::FlightCount;

/// One reading, addressed to one interest: the value of a message on
/// [`TO_ALERT_SYSTEM`](crate::topics::TO_ALERT_SYSTEM). Its key is the interest id; a key without
/// a value says that the interest was removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadingEvent<'a> {
    /// [`reading_event_id`](crate::reading_event_id) of the three ids below.
    pub event_id: Uuid,
    /// The interest this is for.
    pub interest_id: Uuid,
    /// Rises whenever the interest's thresholds change.
    pub interest_version: i64,
    /// The person who registered the interest.
    pub user_id: Uuid,
    /// That person's e-mail address.
    #[serde(borrow)]
    pub user_email: Cow<'a, str>,
    /// ICAO code.
    #[serde(borrow)]
    pub airport_code: Cow<'a, str>,
    /// A [`Metric`](crate::Metric) by name; kept as text, since newer versions may know more.
    #[serde(borrow)]
    pub metric: Cow<'a, str>,
    /// The number of flights, or `None` when it is unknown. Unknown is not zero.
    pub flight_count: Option<FlightCount>,
    /// Alert above this number.
    pub high_value: Option<FlightCount>,
    /// Alert below this number.
    pub low_value: Option<FlightCount>,
    /// The reading itself.
    #[serde(borrow)]
    pub reading: ReadingRef<'a>,
}

/// Which reading it was, what it covers and where it came from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadingRef<'a> {
    /// The reading's own id.
    pub id: Uuid,
    /// Rises with every reading of one airport and metric.
    pub seq: i64,
    /// Start of the time the number covers.
    pub window_begin: DateTime<Utc>,
    /// End of the time the number covers.
    pub window_end: DateTime<Utc>,
    /// When the source was asked.
    pub observed_at: DateTime<Utc>,
    /// The source, in words a person understands.
    #[serde(borrow)]
    pub source: Cow<'a, str>,
}

impl ReadingRef<'_> {
    /// Whether every time lies in a year from 1 to 9999. RFC 3339 knows no others, though some
    /// decoders take them, and a database need not be able to hold them.
    #[must_use]
    pub fn has_usable_times(&self) -> bool {
        [self.window_begin, self.window_end, self.observed_at].iter().all(|time| (1..=9999).contains(&time.year()))
    }
}

/// The oldest shape on [`TO_ALERT_SYSTEM`](crate::topics::TO_ALERT_SYSTEM), still valid: five
/// fields. Its identity is (e-mail, airport), its order is (partition, offset).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LegacyReading<'a> {
    /// Whom an alert goes to.
    #[serde(borrow)]
    pub user_email: Cow<'a, str>,
    /// ICAO code.
    #[serde(borrow)]
    pub airport_code: Cow<'a, str>,
    /// The number of flights, or `None` when it is unknown.
    pub flight_count: Option<FlightCount>,
    /// Alert above this number.
    pub high_value: Option<FlightCount>,
    /// Alert below this number.
    pub low_value: Option<FlightCount>,
}
