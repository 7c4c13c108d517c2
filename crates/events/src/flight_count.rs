use std::{fmt, iter::Sum, num::TryFromIntError};

use serde::{Deserialize, Serialize};

/// A number of flights: what was counted at an airport, or the threshold that such a number is held against.
///
/// The unit is one flight; for [`Metric::Live`](crate::Metric::Live) one aircraft. It is never negative, and at most
/// [`FlightCount::MAX`], the greatest number that the topics have always taken. A number that is not known is no
/// `FlightCount`: it is `None`, which is not zero. In JSON it is a plain number, and one out of range is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "i64", try_from = "i64")]
pub struct FlightCount(i64);

/// A negative number, which is no [`FlightCount`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NegativeFlightCount;

impl FlightCount {
    /// No flight at all.
    pub const ZERO: Self = Self(0);
    /// The greatest.
    pub const MAX: Self = Self(i64::MAX);

    /// So many flights.
    #[must_use]
    pub const fn new(flights: u32) -> Self {
        // Lossless; `From` cannot be called in a constant.
        Self(flights as i64)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> i64 {
        self.0
    }
}

impl From<u32> for FlightCount {
    fn from(flights: u32) -> Self {
        Self::new(flights)
    }
}

impl From<FlightCount> for i64 {
    fn from(flight_count: FlightCount) -> Self {
        flight_count.0
    }
}

impl TryFrom<i64> for FlightCount {
    type Error = NegativeFlightCount;

    fn try_from(flights: i64) -> Result<Self, NegativeFlightCount> {
        if flights < 0 { Err(NegativeFlightCount) } else { Ok(Self(flights)) }
    }
}

impl TryFrom<usize> for FlightCount {
    type Error = TryFromIntError;

    fn try_from(flights: usize) -> Result<Self, TryFromIntError> {
        i64::try_from(flights).map(Self)
    }
}

impl Sum for FlightCount {
    /// What is beyond [`FlightCount::MAX`] is that.
    fn sum<I: Iterator<Item = Self>>(flight_counts: I) -> Self {
        flight_counts.fold(Self::ZERO, |sum, flight_count| Self(sum.0.saturating_add(flight_count.0)))
    }
}

impl fmt::Display for FlightCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for NegativeFlightCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of flights must not be negative")
    }
}

impl std::error::Error for NegativeFlightCount {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_plain_number_in_json() {
        for (text, flight_count) in
            [("0", FlightCount::ZERO), ("458", FlightCount::new(458)), ("9223372036854775807", FlightCount::MAX)]
        {
            assert_eq!(serde_json::from_str::<FlightCount>(text).expect("a number of flights"), flight_count);
            assert_eq!(serde_json::to_string(&flight_count).expect("JSON"), text);
        }
        assert_eq!(serde_json::from_str::<Option<FlightCount>>("null").expect("an unknown number"), None);
    }

    #[test]
    fn what_is_negative_or_out_of_range_or_no_whole_number_is_refused_with_a_reason() {
        for (text, reason) in [
            ("-1", "a number of flights must not be negative"),
            ("9223372036854775808", "expected i64"),
            ("1e30", "expected i64"),
            ("10.0", "expected i64"),
            ("\"10\"", "expected i64"),
        ] {
            let error = serde_json::from_str::<FlightCount>(text).expect_err(text).to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_sum_ends_at_the_greatest_number() {
        assert_eq!([3, 4].map(FlightCount::new).into_iter().sum::<FlightCount>(), FlightCount::new(7));
        assert_eq!([FlightCount::MAX, FlightCount::new(1)].into_iter().sum::<FlightCount>(), FlightCount::MAX);
    }
}
