use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// What is counted at an airport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Metric {
    /// Arrivals and departures of the newest published UTC day.
    #[default]
    Flights,
    /// Arrivals of the newest published UTC day.
    Arrivals,
    /// Departures of the newest published UTC day.
    Departures,
    /// Aircraft within 25 nautical miles now.
    Live,
}

impl Metric {
    /// Every metric, in the order in which they are listed to people.
    pub const ALL: [Self; 4] = [Self::Flights, Self::Arrivals, Self::Departures, Self::Live];

    /// The name used in JSON, SQL and labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flights => "flights",
            Self::Arrivals => "arrivals",
            Self::Departures => "departures",
            Self::Live => "live",
        }
    }
}

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A metric name that is none of [`Metric::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownMetric;

impl fmt::Display for UnknownMetric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be one of flights, arrivals, departures, live")
    }
}

impl std::error::Error for UnknownMetric {}

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(name: &str) -> Result<Self, UnknownMetric> {
        Self::ALL.into_iter().find(|metric| metric.as_str() == name).ok_or(UnknownMetric)
    }
}
