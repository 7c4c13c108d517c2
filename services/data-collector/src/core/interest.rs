//! What an interest may look like, and what a change of it changes.

use events::FlightCount;

/// The highest threshold.
pub const HIGHEST_THRESHOLD: FlightCount = FlightCount::new(100_000);

/// Fewer flights a day than this, on average, is hardly anything: an airport in reach of receivers
/// that sees traffic at all shows more.
const HARDLY_ANY_A_DAY: f64 = 1.0;

/// Airports known to be out of the receivers' reach before anything was collected there: Catania showed
/// 0 to 11 departures a month.
const KNOWN_TO_BE_HARDLY_SEEN: [&str; 1] = ["LICC"];

/// How many live readings without a single aircraft make one suspect that no receiver listens there.
const EMPTY_LIVE_READINGS: i64 = 12;

/// When to tell: above `high`, below `low`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Thresholds {
    /// Tell when the number of flights is greater.
    pub high: Option<FlightCount>,
    /// Tell when the number of flights is smaller.
    pub low: Option<FlightCount>,
}

/// One threshold in a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// As it is.
    Keep,
    /// From now on there is none.
    Clear,
    /// From now on this.
    Set(FlightCount),
}

/// The high threshold is not greater than the low one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossed;

/// Why thresholds cannot be changed as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The high threshold would not be greater than the low one.
    Crossed,
    /// No threshold would be left.
    NoneLeft,
}

impl Thresholds {
    /// Thresholds that make sense together.
    ///
    /// # Errors
    /// When both are given and the high one is not greater.
    pub fn new(high: Option<FlightCount>, low: Option<FlightCount>) -> Result<Self, Crossed> {
        match (high, low) {
            (Some(high), Some(low)) if high <= low => Err(Crossed),
            _ => Ok(Self { high, low }),
        }
    }

    /// The thresholds after a change.
    ///
    /// # Errors
    /// When the result makes no sense, or has no threshold.
    pub fn changed(self, high: Change, low: Change) -> Result<Self, Refused> {
        match Self::new(high.of(self.high), low.of(self.low)) {
            Ok(Self { high: None, low: None }) => Err(Refused::NoneLeft),
            Ok(thresholds) => Ok(thresholds),
            Err(Crossed) => Err(Refused::Crossed),
        }
    }
}

impl Change {
    fn of(self, before: Option<FlightCount>) -> Option<FlightCount> {
        match self {
            Self::Keep => before,
            Self::Clear => None,
            Self::Set(threshold) => Some(threshold),
        }
    }
}

/// What our own data say about how well an airport is seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// How often something was observed: whole days that are held, or for `live` readings with a value.
    pub observations: i64,
    /// Flights on those days, or aircraft in those readings, added up.
    pub flight_count: FlightCount,
}

/// Whether so little is seen of the airport that "fewer than" would be about missing receivers. What we
/// saw ourselves counts; where that is too little to tell, what is known of the airport.
#[must_use]
pub fn is_hardly_seen(airport: &str, coverage: Coverage, live: bool) -> bool {
    let enough = if live { EMPTY_LIVE_READINGS } else { 1 };
    let nothing_seen = coverage.flight_count == FlightCount::ZERO;
    if coverage.observations < enough {
        return nothing_seen && KNOWN_TO_BE_HARDLY_SEEN.contains(&airport);
    }
    if live {
        return nothing_seen;
    }
    #[expect(clippy::cast_precision_loss, reason = "numbers of flights are far below 2^52")]
    let (days, flights) = (coverage.observations as f64, coverage.flight_count.get() as f64);
    flights / days < HARDLY_ANY_A_DAY
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thresholds(high: Option<u32>, low: Option<u32>) -> Thresholds {
        Thresholds { high: high.map(FlightCount::new), low: low.map(FlightCount::new) }
    }

    fn set(threshold: u32) -> Change {
        Change::Set(FlightCount::new(threshold))
    }

    #[test]
    fn thresholds_must_leave_room_between_them() {
        let judged = |high, low| {
            let Thresholds { high, low } = thresholds(high, low);
            Thresholds::new(high, low)
        };
        assert_eq!(judged(Some(2), Some(2)), Err(Crossed));
        assert_eq!(judged(Some(1), Some(2)), Err(Crossed));
        for (high, low) in [(Some(3), Some(2)), (Some(3), None), (None, Some(0)), (None, None)] {
            assert_eq!(judged(high, low), Ok(thresholds(high, low)));
        }
    }

    #[test]
    fn a_change_is_judged_by_its_result() {
        let before = thresholds(Some(10), Some(5));
        assert_eq!(before.changed(set(4), Change::Keep), Err(Refused::Crossed));
        assert_eq!(before.changed(Change::Clear, Change::Clear), Err(Refused::NoneLeft));
        assert_eq!(before.changed(set(4), Change::Clear), Ok(thresholds(Some(4), None)));
        assert_eq!(before.changed(Change::Keep, Change::Keep), Ok(before));
        assert_eq!(before.changed(Change::Clear, set(50)), Ok(thresholds(None, Some(50))));
    }

    fn coverage(observations: i64, flights: u32) -> Coverage {
        Coverage { observations, flight_count: FlightCount::new(flights) }
    }

    #[test]
    fn few_flights_over_the_days_held_are_hardly_any() {
        let seen = |days, flights| is_hardly_seen("LIRQ", coverage(days, flights), false);
        assert!(seen(30, 11) && seen(1, 0));
        assert!(!seen(0, 0) && !seen(1, 1) && !seen(30, 400));
    }

    #[test]
    fn an_empty_sky_must_be_seen_often_to_mean_something() {
        let seen = |readings, aircraft| is_hardly_seen("LIRQ", coverage(readings, aircraft), true);
        assert!(seen(12, 0));
        assert!(!seen(11, 0) && !seen(500, 1));
    }

    #[test]
    fn catania_is_known_to_be_hardly_seen_until_we_saw_otherwise() {
        let seen = |observations, flights, live| is_hardly_seen("LICC", coverage(observations, flights), live);
        assert!(seen(0, 0, false) && seen(0, 0, true) && seen(11, 0, true));
        assert!(!seen(1, 40, false) && !seen(3, 2, true) && !seen(500, 1, true));
    }
}
